//! How far another machine's clock is from ours: questions and answers with time stamps, as in NTP.
//!
//! The answer with the shortest round trip was delayed least, so it is the most exact: it is wrong by at most half of
//! its round trip. A comparison at the end of a run also shows how far the clocks drifted since the one at the start.

use serde::{Deserialize, Serialize};

/// The answering machine's stamps of one exchange.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Stamps {
    pub received_ns: u64,
    pub answered_ns: u64,
}

/// The number to add to the other clock to get ours, and how wrong it may be.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Comparison {
    pub offset_ns: i64,
    pub uncertainty_ns: u64,
    /// When the comparison was made, on our clock.
    pub at_ns: u64,
}

impl Comparison {
    /// The result of one exchange. It was asked and its answer was received at these times of our clock. `None` when
    /// time seems to have gone backwards; then the exchange shows nothing.
    pub fn of(asked_ns: u64, stamps: Stamps, heard_ns: u64) -> Option<Self> {
        let there_ns = stamps.answered_ns.checked_sub(stamps.received_ns)?;
        let travelling_ns = heard_ns.checked_sub(asked_ns)?.checked_sub(there_ns)?;
        let arrived_ns = asked_ns + travelling_ns / 2;
        debug_assert!((asked_ns..=heard_ns).contains(&arrived_ns), "the question arrived in between");
        let offset_ns = i64::try_from(i128::from(arrived_ns) - i128::from(stamps.received_ns)).ok()?;
        Some(Self { offset_ns, uncertainty_ns: travelling_ns.div_ceil(2), at_ns: heard_ns })
    }

    /// The most exact of several comparisons.
    pub fn best(comparisons: impl Iterator<Item = Self>) -> Option<Self> {
        comparisons.min_by_key(|comparison| comparison.uncertainty_ns)
    }
}

/// What is known about another clock after a run.
#[derive(Clone, Copy, PartialEq, Debug, Serialize)]
pub struct Bearing {
    /// The number that was added to its times throughout the run.
    pub offset_ns: i64,
    /// How wrong any of its times may be, drift included.
    pub uncertainty_ns: u64,
    /// How much slower it runs than our clock, in millionths; zero if the comparisons are not exact enough to show a
    /// drift.
    pub drift_ppm: f64,
}

impl Bearing {
    pub fn new(start: Comparison, end: Comparison) -> Self {
        assert!(end.at_ns >= start.at_ns, "the last comparison is made after the first");
        let drifted_ns = end.offset_ns.saturating_sub(start.offset_ns);
        let blurred_ns = start.uncertainty_ns + end.uncertainty_ns;
        let between_ns = end.at_ns.saturating_sub(start.at_ns);
        let told_apart = drifted_ns.unsigned_abs() > blurred_ns && between_ns > 0;
        let drift_ppm = if told_apart { drifted_ns as f64 * 1e6 / between_ns as f64 } else { 0.0 };
        let at_the_end_ns = drifted_ns.unsigned_abs() + end.uncertainty_ns;
        Self { offset_ns: start.offset_ns, uncertainty_ns: start.uncertainty_ns.max(at_the_end_ns), drift_ppm }
    }
}

/// How far times from any two of the machines may disagree: each is wrong by at most its own uncertainty, so the two
/// largest are added. With one machine there is only one clock, and the margin is zero.
pub fn margin_ns(mut uncertainties_ns: Vec<u64>) -> u64 {
    uncertainties_ns.sort_unstable_by(|one, other| other.cmp(one));
    match uncertainties_ns[..] {
        [first, second, ..] => first.saturating_add(second),
        _ => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_exchange_gives_the_offset_within_half_of_its_travel() {
        let check = |asked_ns, received_ns, answered_ns, heard_ns, expected: Option<(i64, u64)>| {
            let found = Comparison::of(asked_ns, Stamps { received_ns, answered_ns }, heard_ns);
            assert_eq!(
                found.map(|found| (found.offset_ns, found.uncertainty_ns)),
                expected,
                "{asked_ns} {received_ns}"
            );
        };
        check(1_000, 50, 60, 1_030, Some((960, 10)));
        check(1_000, 5_000, 5_000, 1_000, Some((-4_000, 0)));
        check(1_000, 1_005, 1_005, 1_011, Some((0, 6)));
        // Whatever the two ways took, the true offset lies within the uncertainty.
        for (there_ns, back_ns) in [(0, 100), (100, 0), (37, 63), (1, 2)] {
            let stamps = Stamps { received_ns: 777 + there_ns, answered_ns: 787 + there_ns };
            let found = Comparison::of(10_777, stamps, 10_787 + there_ns + back_ns).expect("time goes on");
            assert!(found.offset_ns.abs_diff(10_000) <= found.uncertainty_ns, "{there_ns} and {back_ns}: {found:?}");
        }
        for (asked_ns, received_ns, answered_ns, heard_ns) in [(10, 9, 8, 20), (10, 0, 0, 9), (10, 0, 11, 20)] {
            check(asked_ns, received_ns, answered_ns, heard_ns, None);
        }
        check(u64::MAX, 0, 0, u64::MAX, None);
    }

    proptest::proptest! {
        /// Whatever the two ways and the answer take, the true offset lies within what the comparison claims.
        #[test]
        fn the_true_offset_is_within_the_uncertainty(
            asked_ns in 0_u64..1 << 50,
            offset in -(1_i64 << 40)..1 << 40,
            ways in (0_u64..1 << 32, 0_u64..1 << 20, 0_u64..1 << 32),
        ) {
            let (there_ns, answering_ns, back_ns) = ways;
            let arrived_ns = asked_ns + there_ns;
            let Some(received_ns) = arrived_ns.checked_add_signed(-offset) else { return Ok(()) };
            let stamps = Stamps { received_ns, answered_ns: received_ns + answering_ns };
            let found = Comparison::of(asked_ns, stamps, arrived_ns + answering_ns + back_ns).expect("time goes on");
            assert!(found.offset_ns.abs_diff(offset) <= found.uncertainty_ns, "{offset}: {found:?}");
            let line = serde_json::to_string(&stamps).expect("text");
            assert_eq!(serde_json::from_str::<Stamps>(&line).expect("what was written"), stamps);
        }
    }

    #[test]
    fn the_shortest_travel_wins() {
        let comparison = |uncertainty_ns| Comparison { offset_ns: uncertainty_ns as i64, uncertainty_ns, at_ns: 0 };
        assert_eq!(Comparison::best([7, 3, 9].into_iter().map(comparison)), Some(comparison(3)));
        assert_eq!(Comparison::best(std::iter::empty()), None);
    }

    #[test]
    fn the_margin_is_that_of_the_two_that_are_known_worst() {
        for (uncertainties_ns, expected) in
            [(&[][..], 0), (&[9], 0), (&[9, 4], 13), (&[1, 4, 3], 7), (&[u64::MAX, 1], u64::MAX)]
        {
            assert_eq!(margin_ns(uncertainties_ns.to_vec()), expected, "{uncertainties_ns:?}");
        }
    }

    #[test]
    fn drift_is_told_from_blur_and_counts_as_uncertainty() {
        let check = |start: (i64, u64), end: (i64, u64), uncertainty_ns, drift_ppm| {
            let [start, end] = [(start, 0), (end, 1_000_000_000)]
                .map(|((offset_ns, uncertainty_ns), at_ns)| Comparison { offset_ns, uncertainty_ns, at_ns });
            let found = Bearing::new(start, end);
            assert_eq!((found.uncertainty_ns, found.drift_ppm), (uncertainty_ns, drift_ppm), "{start:?} {end:?}");
            assert_eq!(found.offset_ns, start.offset_ns);
        };
        check((5, 40), (5, 30), 40, 0.0);
        check((5, 40), (25, 30), 50, 0.0);
        check((0, 1_000), (20_000, 1_000), 21_000, 20.0);
        check((0, 1_000), (-20_000, 1_000), 21_000, -20.0);
    }
}
