//! The time, and the timestamps of cells: one clock of ours for all that this process writes, which never goes back.

use std::sync::atomic::{AtomicI64, Ordering};

use engine::runtime::clock;

/// Microseconds since the Unix epoch, by the wall clock of this life of the server.
pub fn now_us() -> i64 {
    clock::wall().0.div_euclid(1_000)
}

/// Gives timestamps that rise strictly.
#[derive(Debug, Default)]
pub struct CellClock {
    last: AtomicI64,
}

impl CellClock {
    /// The first of so many in a row, all later than every one before, and than everything that `pass` was told of.
    pub fn reserve(&self, count: usize) -> i64 {
        let now = now_us();
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
        let clock = CellClock::default();
        let first = clock.reserve(10);
        assert!(clock.reserve(1) >= first + 10);
        let future = now_us() + 1_000_000_000;
        clock.pass(future);
        assert_eq!(clock.reserve(1), future + 1);
        clock.pass(first);
        assert_eq!(clock.reserve(1), future + 2);
    }
}
