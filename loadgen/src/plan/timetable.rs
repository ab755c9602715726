//! When pages of a history are read, fixed before the first read. Pure.

use serde::{Deserialize, Serialize};

use crate::base::clock::SECOND_NS;

/// When reads are due: at even intervals, the warm-up first.
#[derive(Clone, Copy, PartialEq, Debug, Serialize, Deserialize)]
pub struct Timetable {
    pub rate_milli: u64,
    pub warmup_ns: u64,
    pub end_ns: u64,
}

impl Timetable {
    /// When a read is due, as an offset from the start.
    pub fn due_ns(&self, read: u64) -> u64 {
        debug_assert!(read < self.reads(), "read {read} of {}", self.reads());
        (u128::from(read) * u128::from(SECOND_NS) * 1_000 / u128::from(self.rate_milli.max(1))) as u64
    }

    pub fn reads(&self) -> u64 {
        let end = u128::from(self.end_ns) * u128::from(self.rate_milli);
        end.div_ceil(u128::from(SECOND_NS) * 1_000) as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_are_even_and_end_with_the_measured_time() {
        let check = |rate_milli, end_ns, reads, last_due_ns| {
            let timetable = Timetable { rate_milli, warmup_ns: 0, end_ns };
            assert_eq!((timetable.reads(), timetable.due_ns(reads - 1)), (reads, last_due_ns), "{timetable:?}");
        };
        check(1_000, SECOND_NS, 1, 0);
        check(500, 10 * SECOND_NS, 5, 8 * SECOND_NS);
        check(3_000, SECOND_NS, 3, 666_666_666);
        check(100_000, 2 * SECOND_NS, 200, 1_990_000_000);
    }
}
