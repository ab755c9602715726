//! Which publisher sends which message and when: fixed before the first message is sent.
//!
//! An open loop: a message never waits for the answer to the one before it. So when a server stalls, the delay of
//! everything that was due meanwhile counts against the server. Pure: times are offsets from a start that the caller
//! chooses.

use std::ops::Range;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::base::clock::SECOND_NS;
use crate::base::content::ScheduleSlot;

/// More messages than any room needs. Each thread keeps about 40 bytes for each message.
pub const MESSAGES_MAX: u64 = 20_000_000;
/// Rates are kept in messages per 1,000 seconds, so that 0.5 a second is exact.
const RATE_UNIT: f64 = 1_000.0;
/// The gap between two messages has this many parts; a stagger is counted in these parts.
const STAGGER_UNIT: f64 = 1_000.0;

#[derive(Debug, Error, PartialEq)]
pub enum ScheduleError {
    #[error("the rate must be at least 0.001 messages a second")]
    RateTooLow,
    #[error("a run needs at least one publisher")]
    NoPublisher,
    #[error("nothing would be sent: raise --secs")]
    Nothing,
    #[error("{0} messages are more than the {MESSAGES_MAX} one room may have: lower --rate or --secs")]
    TooMany(u64),
    #[error("{0} phases are more than the {max} one run may have: let bursts come less often", max = Schedule::PHASES_MAX)]
    TooManyPhases(usize),
}

/// A time with one rate, as requested.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Stretch {
    pub length: Duration,
    pub rate: f64,
}

/// Messages evenly spaced over phases of one rate each, assigned to the publishers in turn:
/// `index = number * publishers + publisher`. No message is due before one with a lower index.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Schedule {
    publishers: u32,
    phases: Vec<Phase>,
    /// Where the measured time begins.
    warmup_ns: u64,
    end_ns: u64,
    messages: u32,
    /// At which part of the gap between two messages the first message of a phase is due. So rooms that begin together
    /// need not send at the same times.
    stagger_milli: u64,
}

/// Message `first + k` is due `(k + stagger) / rate` after the beginning.
#[derive(Clone, Copy, PartialEq, Debug, Serialize, Deserialize)]
struct Phase {
    begin_ns: u64,
    rate_milli: u64,
    first: u32,
}

impl Schedule {
    /// A day with a burst a minute has fewer phases. A message's phase is looked up each time the message is received.
    pub const PHASES_MAX: usize = 4_096;

    /// One rate from beginning to end.
    pub fn steady(rate: f64, publishers: u32, warmup: Duration, measured: Duration) -> Result<Self, ScheduleError> {
        let stretches = [Stretch { length: warmup + measured, rate }];
        Self::new(publishers, warmup, &stretches)
    }

    /// Stretches one after the other. Messages due in the warm-up are checked but not measured.
    pub fn new(publishers: u32, warmup: Duration, stretches: &[Stretch]) -> Result<Self, ScheduleError> {
        Self::staggered(publishers, warmup, stretches, 0.0)
    }

    /// The same, with all messages later by this part of the gap between two messages.
    pub fn staggered(
        publishers: u32,
        warmup: Duration,
        stretches: &[Stretch],
        stagger: f64,
    ) -> Result<Self, ScheduleError> {
        if publishers == 0 {
            return Err(ScheduleError::NoPublisher);
        }
        if stretches.len() > Self::PHASES_MAX {
            return Err(ScheduleError::TooManyPhases(stretches.len()));
        }
        let stagger_milli = (stagger.clamp(0.0, 0.999) * STAGGER_UNIT) as u64;
        let (mut phases, mut begin_ns, mut messages) = (Vec::new(), 0_u64, 0_u64);
        for stretch in stretches {
            let rate_milli = (stretch.rate * RATE_UNIT).round() as u64;
            if rate_milli == 0 {
                return Err(ScheduleError::RateTooLow);
            }
            phases.push(Phase { begin_ns, rate_milli, first: messages as u32 });
            let length_ns = nanoseconds(stretch.length);
            messages = messages.saturating_add(due_within(length_ns, rate_milli, stagger_milli));
            if messages > MESSAGES_MAX {
                return Err(ScheduleError::TooMany(messages));
            }
            begin_ns = begin_ns.saturating_add(length_ns);
        }
        if messages == 0 {
            return Err(ScheduleError::Nothing);
        }
        debug_assert!(phases.is_sorted_by_key(|phase| (phase.begin_ns, phase.first)), "phases follow each other");
        let (warmup_ns, messages) = (nanoseconds(warmup), messages as u32);
        let schedule = Self { publishers, phases, warmup_ns, end_ns: begin_ns, messages, stagger_milli };
        assert!(schedule.due_ns(messages - 1) < schedule.end_ns, "the last message is due before the end");
        Ok(schedule)
    }

    pub fn messages(&self) -> u32 {
        self.messages
    }

    pub fn publishers(&self) -> u32 {
        self.publishers
    }

    /// The times at which the rate rises, as offsets from the start.
    pub fn rises_ns(&self) -> impl Iterator<Item = u64> {
        let pairs = self.phases.iter().zip(self.phases.iter().skip(1));
        pairs.filter(|(before, after)| after.rate_milli > before.rate_milli).map(|(_, after)| after.begin_ns)
    }

    /// The beginning of the measured time and the end of all sending, as offsets from the start.
    pub fn measured_ns(&self) -> Range<u64> {
        self.warmup_ns..self.end_ns
    }

    /// How many messages one publisher sends.
    pub fn planned(&self, publisher: u32) -> u32 {
        self.number_from(publisher, self.messages)
    }

    /// The publisher's first number whose index is not below this index.
    pub fn number_from(&self, publisher: u32, index: u32) -> u32 {
        index.saturating_sub(publisher).div_ceil(self.publishers)
    }

    /// When a message is due, as an offset from the start.
    pub fn due_ns(&self, index: u32) -> u64 {
        let at = self.phases.partition_point(|phase| phase.first <= index);
        // A phase without messages begins with the same index as the next phase, and is skipped.
        let Some(phase) = at.checked_sub(1).and_then(|at| self.phases.get(at)) else { return 0 };
        let thousandths = u128::from(index - phase.first) * STAGGER_UNIT as u128 + u128::from(self.stagger_milli);
        phase.begin_ns + (thousandths * u128::from(SECOND_NS) / u128::from(phase.rate_milli)) as u64
    }

    /// The index of the first message that is due at this offset or later; the number of messages if there is none.
    pub fn first_due_at(&self, offset_ns: u64) -> u32 {
        let (mut low, mut high) = (0, self.messages);
        while low < high {
            let middle = low + (high - low) / 2;
            if self.due_ns(middle) < offset_ns { low = middle + 1 } else { high = middle }
        }
        debug_assert!(low == self.messages || self.due_ns(low) >= offset_ns, "message {low} is not due before");
        low
    }

    /// Whether a message is measured, or belongs to the warm-up.
    pub fn is_measured(&self, index: u32) -> bool {
        self.due_ns(index) >= self.warmup_ns
    }

    pub fn slot(&self, index: u32) -> ScheduleSlot {
        debug_assert!(index < self.messages, "message {index} of {}", self.messages);
        ScheduleSlot { publisher: index % self.publishers, number: index / self.publishers }
    }

    /// The message's index in the schedule, or `None` when the schedule has no such message.
    pub fn index(&self, slot: ScheduleSlot) -> Option<u32> {
        if slot.publisher >= self.publishers {
            return None;
        }
        let index = u64::from(slot.number) * u64::from(self.publishers) + u64::from(slot.publisher);
        let index = (index < u64::from(self.messages)).then_some(index as u32)?;
        debug_assert_eq!(self.slot(index), slot, "a slot has one index");
        Some(index)
    }
}

/// How many messages are due before the end: how many k have `(k + stagger) / rate < length`.
fn due_within(length_ns: u64, rate_milli: u64, stagger_milli: u64) -> u64 {
    let second = u128::from(SECOND_NS);
    let thousandths = (u128::from(length_ns) * u128::from(rate_milli)).div_ceil(second);
    let due = thousandths.saturating_sub(u128::from(stagger_milli)).div_ceil(STAGGER_UNIT as u128);
    u64::try_from(due).unwrap_or(u64::MAX)
}

fn nanoseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn schedule(rate: f64, publishers: u32, warmup_secs: f64, secs: f64) -> Schedule {
        Schedule::steady(rate, publishers, Duration::from_secs_f64(warmup_secs), Duration::from_secs_f64(secs))
            .expect("a valid schedule")
    }

    #[test]
    fn counts_and_times() {
        let check = |rate, publishers, secs, messages, last_due_ns| {
            let schedule = schedule(rate, publishers, 0.0, secs);
            assert_eq!(schedule.messages(), messages, "messages at {rate}/s over {secs} s");
            assert_eq!(schedule.due_ns(messages - 1), last_due_ns, "last of {rate}/s over {secs} s");
        };
        check(100.0, 10, 10.0, 1000, 9_990_000_000);
        check(1.0, 1, 1.0, 1, 0);
        check(0.5, 1, 10.0, 5, 8_000_000_000);
        check(3.0, 2, 1.0, 3, 666_666_666);
        check(1.0, 1, 0.5, 1, 0);
        check(20_000.0, 7, 2.0, 40_000, 1_999_950_000);
    }

    #[test]
    fn every_message_has_one_publisher_and_its_time_never_falls() {
        for publishers in [1, 2, 3, 7, 40] {
            let schedule = schedule(33.3, publishers, 0.5, 2.0);
            let mut numbers = vec![0; publishers as usize];
            for index in 0..schedule.messages() {
                let slot = schedule.slot(index);
                assert_eq!(schedule.index(slot), Some(index));
                let number = &mut numbers[slot.publisher as usize];
                assert_eq!(slot.number, *number, "numbers are consecutive for each publisher");
                *number += 1;
                assert!(index == 0 || schedule.due_ns(index - 1) < schedule.due_ns(index));
                assert!(schedule.due_ns(index) < schedule.measured_ns().end);
            }
            for (publisher, sent) in numbers.iter().enumerate() {
                assert_eq!(schedule.planned(publisher as u32), *sent);
            }
        }
    }

    #[test]
    fn warm_up_comes_first_and_is_not_measured() {
        let schedule = schedule(10.0, 3, 1.0, 2.0);
        let measured: Vec<bool> = (0..schedule.messages()).map(|index| schedule.is_measured(index)).collect();
        assert_eq!(measured.iter().filter(|is| **is).count(), 20);
        assert_eq!(measured.iter().position(|is| *is), Some(10));
        assert_eq!(schedule.measured_ns(), SECOND_NS..3 * SECOND_NS);
    }

    #[test]
    fn phases_follow_each_other_at_their_own_rates() {
        let stretch = |secs, rate| Stretch { length: Duration::from_secs_f64(secs), rate };
        let check = |stagger, expected_ms: &[u64]| {
            let stretches = [stretch(1.0, 2.0), stretch(0.1, 1.0), stretch(0.5, 20.0), stretch(1.0, 1.0)];
            let schedule = Schedule::staggered(2, Duration::from_secs(1), &stretches, stagger).expect("valid");
            let due_ms: Vec<u64> = (0..schedule.messages()).map(|index| schedule.due_ns(index) / 1_000_000).collect();
            assert_eq!(due_ms, expected_ms, "stagger {stagger}");
            assert_eq!(schedule.measured_ns(), SECOND_NS..2_600_000_000);
            assert_eq!(schedule.rises_ns().collect::<Vec<_>>(), [1_100_000_000]);
            for (index, due) in (0..).zip(&due_ms) {
                assert_eq!(schedule.first_due_at(schedule.due_ns(index)), index, "due {due}");
                assert_eq!(schedule.first_due_at(schedule.due_ns(index) + 1), index + 1, "due {due}");
            }
        };
        check(0.0, &[0, 500, 1000, 1100, 1150, 1200, 1250, 1300, 1350, 1400, 1450, 1500, 1550, 1600]);
        // The second phase ends before its first message would be due.
        check(0.5, &[250, 750, 1125, 1175, 1225, 1275, 1325, 1375, 1425, 1475, 1525, 1575, 2100]);
    }

    #[test]
    fn numbers_begin_where_an_index_says() {
        let schedule = schedule(10.0, 3, 0.0, 1.0);
        for (publisher, index, expected) in
            [(0, 0, 0), (0, 1, 1), (1, 1, 0), (2, 4, 1), (2, 5, 1), (2, 6, 2), (0, 10, 4)]
        {
            assert_eq!(schedule.number_from(publisher, index), expected, "publisher {publisher} from {index}");
        }
    }

    #[test]
    fn slots_outside_have_no_place() {
        let schedule = schedule(10.0, 3, 0.0, 1.0);
        for (publisher, number, expected) in [(0, 3, Some(9)), (1, 3, None), (3, 0, None), (0, u32::MAX, None)] {
            assert_eq!(schedule.index(ScheduleSlot { publisher, number }), expected, "{publisher}/{number}");
        }
    }

    #[test]
    fn refuses_what_cannot_be() {
        let second = Duration::from_secs(1);
        let check = |rate, publishers, expected| {
            assert_eq!(Schedule::steady(rate, publishers, Duration::ZERO, second).err(), Some(expected));
        };
        check(0.0, 1, ScheduleError::RateTooLow);
        check(-4.0, 1, ScheduleError::RateTooLow);
        check(f64::NAN, 1, ScheduleError::RateTooLow);
        check(1.0, 0, ScheduleError::NoPublisher);
        check(1e9, 1, ScheduleError::TooMany(1_000_000_000));
    }
}
