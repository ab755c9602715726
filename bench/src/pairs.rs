//! Ratios of figures that were measured in turns: their median, and an interval for it that assumes nothing of how they are
//! distributed.

use serde::Serialize;

use crate::goals::shown;
use crate::report::median;

/// How sure the interval is: it misses the true median in no more than one of twenty comparisons.
const MISSED_MAX: f64 = 0.05;

/// The median of some ratios, and what it lies between.
#[derive(Clone, Copy, PartialEq, Debug, Serialize)]
pub struct Ratio {
    pub median: f64,
    pub low: f64,
    pub high: f64,
}

impl Ratio {
    /// The ratio of the first to the second figure of each pair. `None` if there are too few pairs for an interval, which
    /// takes six, or if a figure is not above zero.
    pub fn of(pairs: &[(f64, f64)]) -> Option<Ratio> {
        if pairs.iter().any(|(one, other)| !(*one > 0.0 && *other > 0.0)) {
            return None;
        }
        let mut ratios: Vec<f64> = pairs.iter().map(|(one, other)| one / other).collect();
        ratios.sort_by(f64::total_cmp);
        let left_out = left_out(ratios.len())?;
        let (low, high) = (*ratios.get(left_out)?, *ratios.iter().rev().nth(left_out)?);
        Some(Ratio { median: median(ratios)?, low, high })
    }
}

impl std::fmt::Display for Ratio {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let [median, low, high] = [self.median, self.low, self.high].map(|figure| shown(Some(figure)));
        write!(formatter, "{median} ({low} to {high})")
    }
}

/// How many of the lowest and of the highest figures an interval for the median may leave out (the sign test): each figure lies
/// above the median with the chance of a coin.
fn left_out(figures: usize) -> Option<usize> {
    let (mut chance, mut below) = (0.5_f64.powi(i32::try_from(figures).ok()?), 0.0);
    let mut left_out = None;
    for count in 0..figures / 2 {
        below += chance;
        if 2.0 * below > MISSED_MAX {
            break;
        }
        left_out = Some(count);
        chance *= (figures - count) as f64 / (count + 1) as f64;
    }
    left_out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_interval_is_that_of_the_sign_test() {
        // From tables of the sign test: the interval has the figures from this rank on.
        for (figures, rank) in
            [(1, None), (5, None), (6, Some(1)), (9, Some(2)), (20, Some(6)), (25, Some(8)), (30, Some(10))]
        {
            assert_eq!(left_out(figures).map(|left_out| left_out + 1), rank, "{figures} figures");
        }
    }

    #[test]
    fn a_ratio_has_its_interval() {
        let pairs: Vec<_> = (1..=20).map(|number| (f64::from(number), 10.0)).collect();
        assert_eq!(Ratio::of(&pairs), Some(Ratio { median: 1.05, low: 0.6, high: 1.5 }));
        assert_eq!(Ratio::of(&pairs[..5]), None);
        assert_eq!(Ratio::of(&[(1.0, 0.0); 20]), None);
        assert_eq!(Ratio::of(&pairs).unwrap().to_string(), "1.05 (0.600 to 1.50)");
    }
}
