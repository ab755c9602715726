//! How a drain spread its closes over time, beside the even spread that was asked for.

use serde::{Deserialize, Serialize};

use crate::base::clock::SECOND_NS;
use crate::costs::closes::PARTS;
use crate::costs::series::Second;

/// The parts of the drain's time whose closes are told.
const TENTHS: usize = 10;
/// The times of closes are known to a tenth of a second.
const PART_NS: u64 = SECOND_NS / PARTS as u64;

/// The closes with 1012 of a run that expected a drain.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Spread {
    /// When the first one came, on the axis of the charts.
    pub from_secs: f64,
    /// The time over which the server was to spread them; 0 for a server that closes all at once.
    pub asked_secs: f64,
    /// The time from the first close to the last.
    pub took_secs: f64,
    pub closes: u64,
    /// How many came in each tenth of the time that was asked. Those that came later are in the last one.
    pub by_tenth: [u64; TENTHS],
}

impl Spread {
    /// The spread in these seconds of a run, whose axis has its zero at `zero_ns`. `None` if nothing was closed with
    /// 1012.
    pub fn of(seconds: &[Second], asked_secs: f64, zero_ns: u64) -> Option<Self> {
        let parts = || {
            let of_second = |second: &Second| {
                let parts = (second.at * PARTS as u64..).zip(second.closes.restart_by_tenth);
                parts.filter(|(_, closes)| *closes > 0).collect::<Vec<_>>()
            };
            seconds.iter().flat_map(of_second)
        };
        let (first, last) = (parts().next()?.0, parts().last()?.0);
        let secs = |part: u64| (part * PART_NS) as f64 / SECOND_NS as f64;
        let mut by_tenth = [0; TENTHS];
        for (part, closes) in parts() {
            // Closes that were to come at once are all in the first tenth.
            let after = (part - first) as f64 * TENTHS as f64;
            let tenth = if asked_secs > 0.0 { after / (asked_secs * PARTS as f64) } else { 0.0 };
            by_tenth[(tenth as usize).min(TENTHS - 1)] += closes;
        }
        Some(Self {
            from_secs: secs(first) - zero_ns as f64 / SECOND_NS as f64,
            asked_secs,
            took_secs: secs(last - first),
            closes: by_tenth.iter().sum(),
            by_tenth,
        })
    }

    /// How many closes a second an even spread has; `None` if all were to come at once.
    pub fn even_per_second(&self) -> Option<f64> {
        (self.asked_secs > 0.0).then(|| self.closes as f64 / self.asked_secs)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::costs::closes::RESTART;

    /// The spread of closes at these times, in tenths of a second, asked for over this time.
    fn spread(tenths: &[u64], asked_secs: f64) -> Option<Spread> {
        let mut seconds: Vec<Second> = (0..10).map(Second::new).collect();
        tenths.iter().for_each(|at| seconds[(at / 10) as usize].closes.count(RESTART, (at % 10) as usize));
        Spread::of(&seconds, asked_secs, 3 * SECOND_NS)
    }

    #[test]
    fn a_spread_begins_with_its_first_close_and_has_tenths_of_the_time_that_was_asked() {
        let even: Vec<u64> = (25..45).collect();
        let found = spread(&even, 2.0).expect("closes");
        assert_eq!((found.closes, found.by_tenth), (20, [2; 10]));
        assert!((found.from_secs + 0.5).abs() < 1e-9 && (found.took_secs - 1.9).abs() < 1e-9, "{found:?}");
        assert_eq!(found.even_per_second(), Some(10.0));
        let late = spread(&[25, 26, 99], 2.0).expect("closes");
        assert_eq!(late.by_tenth, [2, 0, 0, 0, 0, 0, 0, 0, 0, 1], "the last one was late");
    }

    #[test]
    fn closes_that_come_at_once_have_no_even_spread() {
        let found = spread(&[25, 25, 31], 0.0).expect("closes");
        assert_eq!((found.by_tenth[0], found.closes, found.even_per_second()), (3, 3, None));
        assert_eq!(spread(&[], 5.0), None);
    }
}
