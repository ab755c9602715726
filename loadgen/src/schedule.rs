//! Which publisher sends which message when: fixed before the first one is sent.
//!
//! An open loop: the next message never waits for the answer to the last, so a server that stalls is charged for
//! everything that was due meanwhile. Pure: times are offsets from a start that the caller chooses.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::clock::SECOND_NS;

/// More messages than any run needs; each thread keeps about 24 bytes for each of them.
pub const MESSAGES_MAX: u64 = 20_000_000;

/// Rates are kept in messages per 1,000 seconds, so that 0.5 a second is exact.
const RATE_UNIT: f64 = 1_000.0;

#[derive(Debug, Error, PartialEq)]
pub enum ScheduleError {
    #[error("the rate must be at least 0.001 messages a second")]
    RateTooLow,
    #[error("a run needs at least one publisher")]
    NoPublisher,
    #[error("nothing would be sent: raise --secs")]
    Nothing,
    #[error("{0} messages are more than the {MESSAGES_MAX} one run may have: lower --rate or --secs")]
    TooMany(u64),
}

/// One publisher's one message: the publisher's number and the message's number with that publisher, both from 0.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Slot {
    pub publisher: u32,
    pub number: u32,
}

/// Messages evenly spaced at one rate over warm-up and measured time, dealt to the publishers in turn.
///
/// Message `index` is due at `index / rate`, and `index = number * publishers + publisher`.
#[derive(Clone, Copy, PartialEq, Debug, Serialize, Deserialize)]
pub struct Schedule {
    publishers: u32,
    rate_milli: u64,
    warmup_ns: u64,
    end_ns: u64,
    messages: u32,
}

impl Schedule {
    pub fn new(rate: f64, publishers: u32, warmup: Duration, measured: Duration) -> Result<Self, ScheduleError> {
        let rate_milli = (rate * RATE_UNIT).round() as u64;
        if rate_milli == 0 {
            return Err(ScheduleError::RateTooLow);
        }
        if publishers == 0 {
            return Err(ScheduleError::NoPublisher);
        }
        let (warmup_ns, end_ns) = (nanoseconds(warmup), nanoseconds(warmup + measured));
        let due_before_end = (u128::from(end_ns) * u128::from(rate_milli)).div_ceil(nanoseconds_a_message(1));
        let messages = u64::try_from(due_before_end).unwrap_or(u64::MAX);
        if messages == 0 {
            return Err(ScheduleError::Nothing);
        }
        if messages > MESSAGES_MAX {
            return Err(ScheduleError::TooMany(messages));
        }
        Ok(Self { publishers, rate_milli, warmup_ns, end_ns, messages: messages as u32 })
    }

    pub fn messages(&self) -> u32 {
        self.messages
    }

    pub fn publishers(&self) -> u32 {
        self.publishers
    }

    /// Where the measured time begins, and where all sending ends, as offsets from the start.
    pub fn measured_ns(&self) -> std::ops::Range<u64> {
        self.warmup_ns..self.end_ns
    }

    /// How many messages one publisher sends.
    pub fn planned(&self, publisher: u32) -> u32 {
        (self.messages + self.publishers - 1 - publisher) / self.publishers
    }

    /// When a message is due, as an offset from the start.
    pub fn due_ns(&self, index: u32) -> u64 {
        (nanoseconds_a_message(u64::from(index)) / u128::from(self.rate_milli)) as u64
    }

    /// Whether a message counts in the latencies, or only warms up.
    pub fn is_measured(&self, index: u32) -> bool {
        self.due_ns(index) >= self.warmup_ns
    }

    pub fn slot(&self, index: u32) -> Slot {
        Slot { publisher: index % self.publishers, number: index / self.publishers }
    }

    /// The message's place in the schedule, or nothing when the schedule has no such message.
    pub fn index(&self, slot: Slot) -> Option<u32> {
        if slot.publisher >= self.publishers {
            return None;
        }
        let index = u64::from(slot.number) * u64::from(self.publishers) + u64::from(slot.publisher);
        (index < u64::from(self.messages)).then_some(index as u32)
    }
}

/// `messages` at one message per 1,000 seconds; to be divided by the rate.
fn nanoseconds_a_message(messages: u64) -> u128 {
    u128::from(messages) * u128::from(SECOND_NS) * RATE_UNIT as u128
}

fn nanoseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn schedule(rate: f64, publishers: u32, warmup_secs: f64, secs: f64) -> Schedule {
        Schedule::new(rate, publishers, Duration::from_secs_f64(warmup_secs), Duration::from_secs_f64(secs))
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
    fn slots_outside_have_no_place() {
        let schedule = schedule(10.0, 3, 0.0, 1.0);
        for (publisher, number, expected) in [(0, 3, Some(9)), (1, 3, None), (3, 0, None), (0, u32::MAX, None)] {
            assert_eq!(schedule.index(Slot { publisher, number }), expected, "{publisher}/{number}");
        }
    }

    #[test]
    fn refuses_what_cannot_be() {
        let second = Duration::from_secs(1);
        let check = |rate, publishers, expected| {
            assert_eq!(Schedule::new(rate, publishers, Duration::ZERO, second).err(), Some(expected));
        };
        check(0.0, 1, ScheduleError::RateTooLow);
        check(-4.0, 1, ScheduleError::RateTooLow);
        check(f64::NAN, 1, ScheduleError::RateTooLow);
        check(1.0, 0, ScheduleError::NoPublisher);
        check(1e9, 1, ScheduleError::TooMany(1_000_000_000));
    }
}
