//! Goals, and whether they were met: a figure, a bound, and a verdict.

use std::fmt;

use serde::Serialize;

use crate::failure::Failure;

/// One goal and the figure measured for it.
#[derive(Debug, Serialize)]
pub struct Goal {
    pub question: String,
    pub figure: Option<f64>,
    pub bound: Bound,
    pub verdict: &'static str,
}

#[derive(Clone, Copy, Debug, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Bound {
    AtLeast(f64),
    AtMost(f64),
}

impl Goal {
    pub fn new(question: impl Into<String>, figure: Option<f64>, bound: Bound) -> Goal {
        Goal { question: question.into(), figure, bound, verdict: verdict(figure, bound) }
    }

    /// Whether it was measured and not met.
    pub fn is_missed(&self) -> bool {
        self.verdict == MISSED
    }
}

const MISSED: &str = "NOT met";

fn verdict(figure: Option<f64>, bound: Bound) -> &'static str {
    let holds = figure.map(|figure| match bound {
        Bound::AtLeast(least) => figure >= least,
        Bound::AtMost(most) => figure <= most,
    });
    match holds {
        None => "not measured",
        Some(true) => "met",
        Some(false) => MISSED,
    }
}

impl fmt::Display for Bound {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Bound::AtLeast(least) => write!(formatter, "at least {least}"),
            Bound::AtMost(most) => write!(formatter, "at most {most}"),
        }
    }
}

impl fmt::Display for Goal {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let figure = shown(self.figure);
        write!(formatter, "{:<12} {:>7}, {:<16} {}", self.verdict, figure, self.bound.to_string(), self.question)
    }
}

/// Fails if a goal was missed.
pub fn judge(goals: &[Goal]) -> Result<(), Failure> {
    if goals.iter().any(Goal::is_missed) { Err(Failure::Goals) } else { Ok(()) }
}

/// Prints the goals and their verdicts.
pub fn print(goals: &[Goal]) {
    println!("\nGoals:");
    goals.iter().for_each(|goal| println!("  {goal}"));
}

/// The quotient of two figures, if both exist.
pub fn ratio(figure: Option<f64>, to: Option<f64>) -> Option<f64> {
    Some(figure? / to.filter(|&to| to > 0.0)?)
}

/// Three significant digits, for figures of any size.
pub fn shown(figure: Option<f64>) -> String {
    match figure {
        None => "–".into(),
        Some(figure) if figure >= 100.0 => format!("{figure:.0}"),
        Some(figure) if figure >= 10.0 => format!("{figure:.1}"),
        Some(figure) if figure >= 1.0 || figure == 0.0 => format!("{figure:.2}"),
        Some(figure) => format!("{figure:.3}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_goal_is_met_at_its_bound_and_not_beyond() {
        let check = |figure, bound, expected| assert_eq!(Goal::new("", figure, bound).verdict, expected);
        check(Some(0.9), Bound::AtLeast(0.9), "met");
        check(Some(0.89), Bound::AtLeast(0.9), "NOT met");
        check(Some(1.2), Bound::AtMost(1.2), "met");
        check(Some(1.21), Bound::AtMost(1.2), "NOT met");
        check(None, Bound::AtMost(1.2), "not measured");
        check(Some(f64::NAN), Bound::AtLeast(0.0), "NOT met");
    }

    #[test]
    fn a_ratio_needs_both() {
        assert_eq!(ratio(Some(3.0), Some(2.0)), Some(1.5));
        assert_eq!(ratio(Some(3.0), Some(0.0)), None);
        assert_eq!(ratio(None, Some(1.0)), None);
    }

    #[test]
    fn figures_show_three_digits() {
        let check = |figure, expected: &str| assert_eq!(shown(figure), expected);
        check(None, "–");
        check(Some(31_000.4), "31000");
        check(Some(10.54), "10.5");
        check(Some(1.0849), "1.08");
        check(Some(0.0712), "0.071");
        check(Some(0.0), "0.00");
    }
}
