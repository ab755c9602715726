//! The time, and the timestamps of cells: one clock of ours for all that this process writes, which never goes back.

use std::sync::atomic::{AtomicI64, Ordering};

use engine::id::Timestamp;

/// Gives timestamps that rise strictly.
#[derive(Debug)]
pub struct CellClock {
    /// The wall clock of this life of the server.
    wall: fn() -> Timestamp,
    last: AtomicI64,
}

impl CellClock {
    pub fn new(wall: fn() -> Timestamp) -> Self {
        Self { wall, last: AtomicI64::new(0) }
    }

    /// Microseconds since the Unix epoch.
    pub fn now_us(&self) -> i64 {
        (self.wall)().0.div_euclid(1_000)
    }

    /// The first of so many in a row, all later than every one before, and than everything that `pass` was told of.
    pub fn reserve(&self, count: usize) -> i64 {
        let now = self.now_us();
        let more = i64::try_from(count).unwrap_or(i64::MAX).max(1) - 1;
        let step = |last: i64| Some(now.max(last + 1) + more);
        // The closure never refuses.
        let last = self.last.fetch_update(Ordering::AcqRel, Ordering::Acquire, step).unwrap_or(now);
        now.max(last + 1)
    }

    /// A timestamp that was found in the database: what is written from now on comes after it.
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
