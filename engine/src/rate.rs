//! A rate with a window: what one window allows may come at once, and then as much as the rate gives back.

use std::num::NonZeroU32;
use std::time::Duration;

use crate::id::Monotonic;

/// The window of every rate.
pub const WINDOW: Duration = Duration::from_secs(1);

/// The time until which the uses so far use up a rate. If this time is in the past, a whole window is left.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Used(Monotonic);

impl Used {
    /// After so many further uses, at a rate of `per_second`.
    pub fn with(self, uses: u32, per_second: NonZeroU32, now: Monotonic) -> Self {
        self.spending((WINDOW / per_second.get()).saturating_mul(uses), now)
    }

    /// After further uses that the rate gives back in `time`.
    pub fn spending(self, time: Duration, now: Monotonic) -> Self {
        Self(self.0.max(now).plus(time))
    }

    /// After uses that did not happen are taken back.
    pub fn without(self, time: Duration) -> Self {
        Self(self.0.minus(time))
    }

    /// The same, but so that it is within the rate again after at most `recovery` without uses, however many there were.
    pub fn recovering_in(self, recovery: Duration, now: Monotonic) -> Self {
        self.given_back_in(WINDOW + recovery, now)
    }

    /// The same, but so that everything is given back after at most `time` without uses.
    pub fn given_back_in(self, time: Duration, now: Monotonic) -> Self {
        Self(self.0.min(now.plus(time)))
    }

    /// Whether the uses are within the rate.
    pub fn is_within(self, now: Monotonic) -> bool {
        self.beyond(WINDOW, now).is_zero()
    }

    /// The time until the uses fit into a window of this length again, if none are added; zero if they do.
    pub fn beyond(self, window: Duration, now: Monotonic) -> Duration {
        self.0.since(now).saturating_sub(window)
    }

    /// Whether everything is given back.
    pub fn is_nothing(self, now: Monotonic) -> bool {
        self.0 <= now
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_window_comes_at_once_and_the_rest_at_the_rate() {
        let four = NonZeroU32::new(4).expect("it is not zero");
        let now = Monotonic(7);
        let full = Used::default().with(4, four, now);
        assert!(full.is_within(now) && !full.with(1, four, now).is_within(now));
        let quarter = now.plus(WINDOW / 4);
        assert!(full.with(1, four, quarter).is_within(quarter));
        let flooded = full.with(u32::MAX, four, now).recovering_in(WINDOW, now);
        assert!(!flooded.is_within(now.plus(WINDOW / 2)) && flooded.is_within(now.plus(WINDOW)));
    }
}
