//! `--fail-if 'p99>250ms'`: conditions that fail a run besides faults.
//!
//! A condition is a figure, a comparison and a limit. The names of figures are those of the report. An unknown name is
//! refused when the command line is read, not an hour later. A figure that this run does not have, or that is
//! generator-bound, also fails the run: it cannot be shown that the limit was kept.

use std::fmt;
use std::str::FromStr;

use thiserror::Error;

use super::Report;
use super::section::Value;
use crate::base::words;
use crate::checks::latency::Latency;
use crate::checks::latency_name::LatencyName;

/// Figures of the report's sections: the name in a condition, and the section and row in the report.
const ROWS: [(&str, &str, &str); 17] = [
    ("deliveries/s", "deliveries", "per second"),
    ("missing", "deliveries", "missing"),
    ("duplicates", "deliveries", "duplicates"),
    ("out of order", "deliveries", "out of order"),
    ("corrupt", "deliveries", "corrupt"),
    ("foreign", "deliveries", "foreign"),
    ("last after end", "deliveries", "last after end"),
    ("skipped as announced", "deliveries", "skipped as announced"),
    ("owed to closed readers", "deliveries", "owed to closed readers"),
    ("refused", "messages", "refused"),
    ("unanswered", "messages", "unanswered"),
    ("accepted", "messages", "accepted"),
    ("disconnected", "connections", "disconnected"),
    ("cores", "server", "cores busy"),
    ("CPU per delivery", "server", "CPU per delivery"),
    ("resident per connection", "server", "resident per connection"),
    ("busiest thread", "generator", "busiest thread"),
];

#[derive(Clone, Debug, PartialEq)]
pub struct Condition {
    text: String,
    figure: Figure,
    comparison: Comparison,
    /// In the smallest unit of its kind: microseconds, bytes, or no unit.
    limit: f64,
}

#[derive(Clone, Debug, PartialEq)]
enum Figure {
    Latency { source: LatencySource, quantile: f64 },
    Row { section: &'static str, row: &'static str },
}

/// What was measured: the server, or the generator's own delays.
#[derive(Clone, Copy, Debug, PartialEq)]
enum LatencySource {
    Server(LatencyName),
    Lateness,
    Lag,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Comparison {
    Above,
    AtLeast,
    Below,
    AtMost,
}

#[derive(Debug, Error, PartialEq)]
pub enum ConditionError {
    #[error("{0:?} has no comparison: write a figure, one of > >= < <=, and a limit, as in 'p99>250ms' or 'missing>0'")]
    WithoutComparison(String),
    #[error("there is no figure {name:?}: {}", allowed())]
    UnknownFigure { name: String },
    #[error(
        "{0:?} is not a limit for this figure: write a number, followed by ns, us, ms or s for a time, by B, KiB, MiB or GiB for a size, by % for a part"
    )]
    BadLimit(String),
}

fn allowed() -> String {
    format!(
        "allowed are p50, p90, p99, p99.9 (any percentile) and max, also of one of {} (as in 'ack p99'), and {}",
        LatencySource::all().map(LatencySource::name).collect::<Vec<_>>().join(", "),
        ROWS.map(|(name, ..)| name).join(", "),
    )
}

impl FromStr for Condition {
    type Err = ConditionError;

    fn from_str(text: &str) -> Result<Self, ConditionError> {
        let at = text.find(['<', '>']).ok_or_else(|| ConditionError::WithoutComparison(text.to_owned()))?;
        let (figure, rest) = text.split_at(at);
        let (comparison, limit) = Comparison::read(rest);
        let figure =
            Figure::read(figure).ok_or_else(|| ConditionError::UnknownFigure { name: figure.trim().to_owned() })?;
        let limit = read_limit(limit).filter(|(_, kind)| figure.takes(*kind));
        let (limit, _) =
            limit.ok_or_else(|| ConditionError::BadLimit(rest.trim_matches(['<', '>', '=', ' ']).to_owned()))?;
        Ok(Self { text: text.to_owned(), figure, comparison, limit })
    }
}

impl fmt::Display for Condition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl Comparison {
    /// The comparison at the beginning of a text, and the rest of the text.
    fn read(text: &str) -> (Self, &str) {
        let all = [("<=", Self::AtMost), (">=", Self::AtLeast), ("<", Self::Below), (">", Self::Above)];
        let found = all.into_iter().find_map(|(sign, comparison)| Some((comparison, text.strip_prefix(sign)?)));
        found.unwrap_or((Self::Above, text))
    }

    fn holds(self, value: f64, limit: f64) -> bool {
        match self {
            Self::Above => value > limit,
            Self::AtLeast => value >= limit,
            Self::Below => value < limit,
            Self::AtMost => value <= limit,
        }
    }
}

impl Figure {
    fn read(text: &str) -> Option<Self> {
        let text = text.trim().to_lowercase().replace('_', " ");
        if let Some((_, section, row)) = ROWS.into_iter().find(|(name, ..)| name.to_lowercase() == text) {
            return Some(Self::Row { section, row });
        }
        let (name, percentile) = text.rsplit_once(' ').unwrap_or((LatencyName::Delivery.name(), &text));
        let source = LatencySource::all().find(|known| known.name() == name.trim())?;
        let quantile = match percentile {
            "max" => 1.0,
            // Rounded to the millionth of a percent, so that 99.9 becomes exactly 0.999.
            _ => (percentile.strip_prefix('p')?.parse::<f64>().ok()? * 1e6).round() / 1e8,
        };
        (quantile > 0.0 && quantile <= 1.0).then_some(Self::Latency { source, quantile })
    }

    /// Whether a limit of this kind can be compared with the figure.
    fn takes(&self, kind: Kind) -> bool {
        match self {
            Self::Latency { .. } | Self::Row { row: "last after end" | "CPU per delivery", .. } => kind == Kind::Time,
            Self::Row { row: "resident per connection", .. } => kind == Kind::Size,
            Self::Row { row: "busiest thread", .. } => kind == Kind::Part,
            Self::Row { .. } => kind == Kind::Number,
        }
    }
}

impl LatencySource {
    fn all() -> impl Iterator<Item = Self> {
        LatencyName::all().iter().copied().map(Self::Server).chain([Self::Lateness, Self::Lag])
    }

    fn name(self) -> &'static str {
        match self {
            Self::Server(latency) => latency.name(),
            Self::Lateness => "lateness",
            Self::Lag => "lag",
        }
    }

    /// The latency in this run, or why there is none.
    fn of(self, report: &Report) -> Result<&Latency, String> {
        let name = match self {
            Self::Server(name) => name,
            Self::Lateness => return Ok(&report.results.generator.lateness),
            Self::Lag => return Ok(&report.results.generator.lag),
        };
        let timing = report.timings.iter().find(|timing| timing.name == name);
        let timing = timing.ok_or_else(|| format!("this run has no {name} latency"))?;
        match &timing.generator_bound {
            Some(why) => Err(format!("the {name} latency is generator-bound: {why}")),
            None => Ok(&timing.latency),
        }
    }
}

#[derive(Clone, Copy, PartialEq)]
enum Kind {
    Number,
    /// In microseconds.
    Time,
    /// In bytes.
    Size,
    /// A part of 1.
    Part,
}

const UNITS: [(&str, f64, Kind); 11] = [
    ("ns", 1e-3, Kind::Time),
    ("us", 1.0, Kind::Time),
    ("µs", 1.0, Kind::Time),
    ("ms", 1e3, Kind::Time),
    ("s", 1e6, Kind::Time),
    ("KiB", 1024.0, Kind::Size),
    ("MiB", 1_048_576.0, Kind::Size),
    ("GiB", 1_073_741_824.0, Kind::Size),
    ("B", 1.0, Kind::Size),
    ("%", 0.01, Kind::Part),
    ("", 1.0, Kind::Number),
];

fn read_limit(text: &str) -> Option<(f64, Kind)> {
    let text = text.trim();
    let (unit, scale, kind) = UNITS.into_iter().find(|(unit, ..)| text.ends_with(unit))?;
    let number: f64 = text.strip_suffix(unit)?.trim().replace(',', "").parse().ok()?;
    number.is_finite().then_some((number * scale, kind))
}

impl Condition {
    /// What is wrong, if the condition fails the run.
    pub fn broken_by(&self, report: &Report) -> Option<String> {
        match self.figure.of(report) {
            Err(why) => Some(format!("--fail-if '{self}' cannot be decided, as {why}")),
            Ok((value, shown)) => {
                self.comparison.holds(value, self.limit).then(|| format!("--fail-if '{self}': it is {shown}"))
            }
        }
    }
}

impl Figure {
    /// The figure in this run as a number and in words, or why there is none.
    fn of(&self, report: &Report) -> Result<(f64, String), String> {
        match self {
            Self::Latency { source, quantile } => {
                let latency = source.of(report)?;
                if latency.percentiles().count == 0 {
                    return Err(format!("this run measured no {} latency", source.name()));
                }
                let us = latency.at_quantile_us(*quantile) as f64;
                Ok((us, words::duration(us)))
            }
            Self::Row { section, row } => {
                let none = || format!("this run has no figure {row:?} under {section:?}");
                let section = report.sections.iter().find(|found| found.title == *section).ok_or_else(none)?;
                let row = section.rows.iter().find(|found| found.name == *row).ok_or_else(none)?;
                let number = row.value.number().ok_or_else(none)?;
                let number = match row.value {
                    Value::Milliseconds(ms) => ms * 1e3,
                    Value::Seconds(secs) => secs * 1e6,
                    _ => number,
                };
                Ok((number, row.value.text()))
            }
        }
    }
}

/// The names of all figures that are no latency.
#[cfg(test)]
pub fn names() -> impl Iterator<Item = &'static str> {
    ROWS.into_iter().map(|(name, ..)| name)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::tests::results;

    #[test]
    fn conditions_are_read_or_say_what_is_allowed() {
        let check = |text: &str, expected: Result<(Figure, Comparison, f64), &str>| {
            let found = text.parse::<Condition>();
            match (found, expected) {
                (Ok(found), Ok(expected)) => {
                    assert_eq!((found.figure, found.comparison), (expected.0, expected.1), "{text}");
                    assert!((found.limit - expected.2).abs() < 1e-9, "{text}: {}", found.limit);
                }
                (Err(error), Err(said)) => assert!(error.to_string().contains(said), "{text}: {error}"),
                (found, _) => panic!("{text}: {found:?}"),
            }
        };
        let latency = |name: &str, quantile| {
            let source = LatencySource::all().find(|known| known.name() == name).expect("a known latency");
            Figure::Latency { source, quantile }
        };
        let row = |section, row| Figure::Row { section, row };
        check("p99>250ms", Ok((latency("delivery", 0.99), Comparison::Above, 250_000.0)));
        check("ack p99.9 >= 1.5s", Ok((latency("ack", 0.999), Comparison::AtLeast, 1_500_000.0)));
        check("max > 800us", Ok((latency("delivery", 1.0), Comparison::Above, 800.0)));
        check("lag p99>5ms", Ok((latency("lag", 0.99), Comparison::Above, 5_000.0)));
        check("last member p99>1s", Ok((latency("last member", 0.99), Comparison::Above, 1_000_000.0)));
        check("newest_page p50>1s", Ok((latency("newest page", 0.5), Comparison::Above, 1_000_000.0)));
        check("deep oldest first max>1s", Ok((latency("deep oldest first", 1.0), Comparison::Above, 1_000_000.0)));
        check("missing>0", Ok((row("deliveries", "missing"), Comparison::Above, 0.0)));
        check("out_of_order>0", Ok((row("deliveries", "out of order"), Comparison::Above, 0.0)));
        check("deliveries/s<10,000", Ok((row("deliveries", "per second"), Comparison::Below, 10_000.0)));
        check("cpu per delivery>7us", Ok((row("server", "CPU per delivery"), Comparison::Above, 7.0)));
        check(
            "resident per connection>1KiB",
            Ok((row("server", "resident per connection"), Comparison::Above, 1024.0)),
        );
        check("busiest thread>90%", Ok((row("generator", "busiest thread"), Comparison::Above, 0.9)));
        for (text, said) in [
            ("p99", "has no comparison"),
            ("", "has no comparison"),
            ("p99=5ms", "has no comparison"),
            ("p0>5ms", "allowed are p50"),
            ("p101>5ms", "allowed are p50"),
            ("speed>5", "missing, duplicates"),
            ("nap p99>5ms", "delivery, ack, last member, history, connect, join, newest page, deep oldest first"),
            ("page p99>5ms", "there is no figure"),
            ("p99>250", "is not a limit"),
            ("p99>fast", "is not a limit"),
            ("missing>5ms", "is not a limit"),
            ("p99>ms", "is not a limit"),
            ("p99><5ms", "is not a limit"),
        ] {
            check(text, Err(said));
        }
    }

    #[test]
    fn a_condition_is_broken_by_the_figure_it_names() {
        let report = Report::new(results(), &[]);
        let check = |text: &str, expected: Option<&str>| {
            let condition: Condition = text.parse().expect("a valid condition");
            let found = condition.broken_by(&report);
            assert_eq!(found.is_some(), expected.is_some(), "{text}: {found:?}");
            assert!(found.unwrap_or_default().contains(expected.unwrap_or_default()), "{text}");
        };
        check("p99>9ms", Some("it is 10.0 ms"));
        check("p99>11ms", None);
        check("p50<11ms", Some("it is 10.0 ms"));
        check("missing>0", None);
        check("missing>=0", Some("it is 0"));
        check("deliveries/s<1000", Some("it is 500"));
        check("last member p99>1s", Some("has no last member latency"));
        check("skipped as announced>0", Some("has no figure"));
        check("cores>1", Some("has no figure"));
    }
}
