//! When the members of a crowd try again, and when they give a try up: the earliest first.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

/// A timer that has run out.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Due {
    pub at_ns: u64,
    pub index: usize,
    /// Which of the member's tries it is for. A timer of an earlier try means nothing.
    pub tries: u32,
}

/// Each try of a member has two timers at most, which stay until they run out.
#[derive(Default)]
pub struct Timers(BinaryHeap<Reverse<Due>>);

impl Timers {
    pub fn set(&mut self, at_ns: u64, index: usize, tries: u32) {
        self.0.push(Reverse(Due { at_ns, index, tries }));
    }

    /// The earliest timer that has run out by now, which is removed.
    pub fn due(&mut self, now_ns: u64) -> Option<Due> {
        self.0.peek().filter(|Reverse(due)| due.at_ns <= now_ns)?;
        self.0.pop().map(|Reverse(due)| due)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn timers_run_out_in_their_order() {
        let mut timers = Timers::default();
        for (at_ns, index) in [(30, 0), (10, 1), (20, 2), (20, 1)] {
            timers.set(at_ns, index, 0);
        }
        assert_eq!(timers.due(9), None);
        let found: Vec<usize> = std::iter::from_fn(|| timers.due(20)).map(|due| due.index).collect();
        assert_eq!(found, [1, 1, 2]);
        assert_eq!(timers.due(40).map(|due| due.at_ns), Some(30));
        assert_eq!(timers.due(u64::MAX), None);
    }
}
