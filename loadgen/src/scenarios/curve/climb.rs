//! Searches for the highest rate that a room sustains: doubles or halves the rate, and then tries a rate in between.

/// The highest rate that is tried.
const RATE_MAX: f64 = 10_000.0;
/// The search ends when the sustained and the unsustained rate differ by at most this factor.
const CLOSE_ENOUGH: f64 = 1.5;
/// At most this many rates are tried, however the server behaves.
const TRIES_MAX: u32 = 16;

/// The results so far.
#[derive(Clone, Debug)]
pub struct Climb {
    /// The lowest rate that is tried.
    least: f64,
    first: f64,
    sustained: Option<f64>,
    broken: Option<f64>,
    tries: u32,
}

impl Climb {
    /// Tries no rate below `least`, and begins at `first`.
    pub fn new(least: f64, first: f64) -> Self {
        Self { least, first: first.min(RATE_MAX).max(least), sustained: None, broken: None, tries: 0 }
    }

    /// The rate to try next; `None` when the search has ended.
    pub fn next(&self) -> Option<f64> {
        if self.tries >= TRIES_MAX {
            return None;
        }
        match (self.sustained, self.broken) {
            (None, None) => Some(self.first),
            (Some(sustained), None) => (sustained < RATE_MAX).then(|| (sustained * 2.0).min(RATE_MAX)),
            (None, Some(broken)) => (broken > self.least).then(|| (broken / 2.0).max(self.least)),
            (Some(sustained), Some(broken)) => (broken > sustained * CLOSE_ENOUGH).then(|| (sustained * broken).sqrt()),
        }
    }

    /// Records whether a rate was sustained.
    pub fn tell(&mut self, rate: f64, sustained: bool) {
        assert!(
            self.tries < TRIES_MAX && (self.least..=RATE_MAX.max(self.least)).contains(&rate),
            "{rate} was to be tried"
        );
        self.tries += 1;
        match sustained {
            true => self.sustained = Some(self.sustained.map_or(rate, |best| best.max(rate))),
            false => self.broken = Some(self.broken.map_or(rate, |least| least.min(rate))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The best rate found on a server that sustains this much, and how many rates were tried.
    fn climb(first: f64, capacity: f64) -> (Option<f64>, u32) {
        let mut climb = Climb::new(0.5, first);
        while let Some(rate) = climb.next() {
            climb.tell(rate, rate <= capacity);
        }
        (climb.sustained, climb.tries)
    }

    #[test]
    fn the_best_rate_is_found_within_half() {
        for first in [1.0, 20.0, 1_000.0] {
            for capacity in [0.7, 3.0, 50.0, 999.0, 4_321.0] {
                let (best, tries) = climb(first, capacity);
                let best = best.expect("something is sustained");
                assert!(best <= capacity && capacity <= best * CLOSE_ENOUGH, "{best} of {capacity} from {first}");
                assert!(tries <= TRIES_MAX);
            }
        }
    }

    proptest::proptest! {
        /// However a server behaves: no rate is tried twice, none beyond the bounds, and the search ends.
        #[test]
        fn the_search_ends_within_its_bounds(
            least in 0.01_f64..100.0,
            first in 0.0_f64..100_000.0,
            behaviour in proptest::collection::vec(proptest::prelude::any::<bool>(), 16),
        ) {
            let mut climb = Climb::new(least, first);
            let mut tried = Vec::new();
            while let Some(rate) = climb.next() {
                assert!((least..=RATE_MAX).contains(&rate), "{rate} from {first}, at least {least}");
                assert!(!tried.contains(&rate), "{rate} is tried twice: {tried:?}");
                climb.tell(rate, behaviour[tried.len()]);
                tried.push(rate);
            }
            assert!(!tried.is_empty() && tried.len() <= TRIES_MAX as usize);
        }
    }

    #[test]
    fn a_server_that_sustains_nothing_or_everything_ends_the_search() {
        assert_eq!(climb(10.0, 0.0).0, None);
        assert_eq!(climb(10.0, f64::INFINITY).0, Some(RATE_MAX));
    }
}
