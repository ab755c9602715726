//! How many messages are between two places of a log: this turns a range of bytes into a number of deliveries.
//!
//! A pass asks for the same range many times, because the log grows only between its slices. So the last answer is
//! cached, and a visit costs one comparison. Runs are forgotten together with the log's bytes, so there are never more
//! runs than frames in the log.

use std::collections::VecDeque;

use crate::counters::FanoutCounters;
use crate::fanout::log::Position;

/// The messages of a log, counted by the runs in which they were appended. A run's messages count from the run's end
/// on.
#[derive(Default)]
pub struct Tally {
    /// The end of each run, and the number of messages up to there since the log began.
    runs: VecDeque<(Position, u64)>,
    /// The number of messages in runs that are forgotten.
    forgotten: u64,
    /// The last range (`from`, `to`) that was asked for, and its number of messages.
    asked: (Position, Position, u64),
}

impl Tally {
    /// Adds a run of `messages` messages, which ends at `end`, after all other runs.
    pub fn append(&mut self, end: Position, messages: u64) {
        debug_assert!(self.runs.back().is_none_or(|(last, _)| *last < end), "runs end in ascending order");
        if messages > 0 {
            let before = self.runs.back().map_or(self.forgotten, |(_, total)| *total);
            self.runs.push_back((end, before + messages));
        }
    }

    /// Counts the delivery of this range to one member.
    pub fn count(&mut self, from: Position, to: Position, counters: &mut FanoutCounters) {
        counters.deliveries += self.between(from, to);
        counters.delivery_bytes += to.0 - from.0;
    }

    /// The messages of runs that end after `from` and not after `to`. Neither place may be before the trimmed start.
    pub fn between(&mut self, from: Position, to: Position) -> u64 {
        debug_assert!(from <= to, "{} to {} is no range", from.0, to.0);
        if (self.asked.0, self.asked.1) != (from, to) {
            self.asked = (from, to, self.before(to) - self.before(from));
        }
        self.asked.2
    }

    fn before(&self, position: Position) -> u64 {
        match self.runs.partition_point(|(end, _)| *end <= position) {
            0 => self.forgotten,
            runs => self.runs[runs - 1].1,
        }
    }

    /// Forgets the runs that end at or before `start`. No later call may ask about a place before `start`.
    pub fn trim(&mut self, start: Position) {
        while let Some((end, total)) = self.runs.front()
            && *end <= start
        {
            self.forgotten = *total;
            self.runs.pop_front();
        }
        if self.runs.is_empty() {
            self.runs = VecDeque::new();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_add_up_however_a_range_is_cut() {
        let mut tally = Tally::default();
        for (end, messages) in [(10, 1), (15, 0), (30, 3), (31, 1)] {
            tally.append(Position(end), messages);
        }
        let check = |tally: &mut Tally, from: u64, to: u64, expected: u64| {
            assert_eq!(tally.between(Position(from), Position(to)), expected, "{from}..{to}");
            assert_eq!(tally.between(Position(from), Position(to)), expected, "{from}..{to}, asked again");
        };
        for (from, to, expected) in [(0, 31, 5), (0, 9, 0), (9, 10, 1), (10, 15, 0), (10, 29, 0), (29, 30, 3)] {
            check(&mut tally, from, to, expected);
        }
        for cut in 0..=31 {
            let parts = tally.between(Position(0), Position(cut)) + tally.between(Position(cut), Position(31));
            assert_eq!(parts, 5, "{cut}");
        }
        tally.trim(Position(12));
        check(&mut tally, 12, 31, 4);
        tally.trim(Position(31));
        check(&mut tally, 31, 31, 0);
        assert_eq!(tally.runs.capacity(), 0, "at rest it owns nothing");
        tally.append(Position(40), 2);
        check(&mut tally, 31, 40, 2);
    }
}
