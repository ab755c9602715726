//! The clock for cell timestamps: all writes of this process use it, and its timestamps never go back.

use std::sync::atomic::{AtomicI64, Ordering};

use engine::id::Timestamp;

/// Gives strictly rising timestamps.
#[derive(Debug)]
pub struct CellClock {
    /// The wall clock that this life of the server uses.
    wall: fn() -> Timestamp,
    last: AtomicI64,
}

impl CellClock {
    /// A clock that never returns the same timestamp twice. `wall` says the time in nanoseconds since 1970.
    pub fn new(wall: fn() -> Timestamp) -> Self {
        Self { wall, last: AtomicI64::new(0) }
    }

    /// Microseconds since the Unix epoch.
    pub fn now_us(&self) -> i64 {
        (self.wall)().0.div_euclid(1_000)
    }

    /// Reserves `count` consecutive timestamps and returns the first. All are later than every one given before, and
    /// than every timestamp passed to `pass`.
    pub fn reserve(&self, count: usize) -> i64 {
        let now = self.now_us();
        let more = i64::try_from(count).unwrap_or(i64::MAX).max(1) - 1;
        let step = |last: i64| Some(now.max(last + 1) + more);
        // The closure always returns `Some`.
        let last = self.last.fetch_update(Ordering::AcqRel, Ordering::Acquire, step).unwrap_or(now);
        now.max(last + 1)
    }

    /// Takes a timestamp that was found in the database: timestamps given from now on are later.
    pub fn pass(&self, found: i64) {
        self.last.fetch_max(found, Ordering::AcqRel);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rises_past_what_it_has_seen() {
        let clock = CellClock::new(|| Timestamp(1_700_000_000_000_000_999));
        let first = clock.reserve(10);
        assert!(clock.reserve(1) >= first + 10);
        let future = clock.now_us() + 1_000_000_000;
        clock.pass(future);
        assert_eq!(clock.reserve(1), future + 1);
        clock.pass(first);
        assert_eq!(clock.reserve(1), future + 2);
    }
}
