//! How long each message of a room took to reach its last member.

use serde::{Deserialize, Serialize};

use crate::checks::latency::Latency;
use crate::plan::schedule::Schedule;

/// Runs with more messages do not record this, because every thread keeps a number for each message.
pub const MESSAGES_MAX: u64 = 200_000;

/// By message index: microseconds until the last of some members received the message; 0 while none has.
#[derive(Clone, Default, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Reach(Vec<u32>);

impl Reach {
    /// For one room. `messages_of_run` is the number of messages in all rooms of the run.
    pub fn new(schedule: &Schedule, messages_of_run: u64) -> Self {
        let messages = if messages_of_run <= MESSAGES_MAX { schedule.messages() } else { 0 };
        Self(vec![0; messages as usize])
    }

    /// Records that a member received the message this long after its intended time.
    pub fn note(&mut self, index: u32, latency_ns: u64) {
        if let Some(last_us) = self.0.get_mut(index as usize) {
            *last_us = (*last_us).max(u32::try_from(latency_ns.div_ceil(1_000)).unwrap_or(u32::MAX).max(1));
        }
    }

    /// Adds what other members of the same room received.
    pub fn add(&mut self, other: &Reach) {
        self.0.resize(self.0.len().max(other.0.len()), 0);
        for (last_us, other_us) in self.0.iter_mut().zip(&other.0) {
            *last_us = (*last_us).max(*other_us);
        }
    }

    /// How many messages were received by any member.
    #[cfg(test)]
    pub fn count(&self) -> usize {
        self.0.iter().filter(|last_us| **last_us > 0).count()
    }

    /// Records the measured messages that any member received.
    pub fn measure(&self, schedule: &Schedule, latency: &mut Latency) {
        assert!(self.0.len() <= schedule.messages() as usize, "a message is of the schedule");
        let measured = (0..).zip(&self.0).filter(|(index, last_us)| **last_us > 0 && schedule.is_measured(*index));
        measured.for_each(|(_, last_us)| latency.record_ns(u64::from(*last_us) * 1_000));
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn the_last_member_of_all_counts_and_warm_up_does_not() {
        let second = Duration::from_secs(1);
        let schedule = Schedule::steady(2.0, 1, second, second).expect("valid");
        let mut reach = Reach::new(&schedule, 4);
        let mut others = reach.clone();
        for (index, latency_ns) in [(0, 900_000_000), (2, 5_000_000), (2, 7_000_000), (2, 6_000_000), (9, 1)] {
            reach.note(index, latency_ns);
        }
        others.note(2, 8_000_000);
        reach.add(&others);
        let mut latency = Latency::default();
        reach.measure(&schedule, &mut latency);
        let found = latency.percentiles();
        assert_eq!((found.count, found.max_us.abs_diff(8_000) < 16), (1, true), "message 3 has reached nobody");
    }

    #[test]
    fn a_run_with_too_many_messages_does_without() {
        let schedule = Schedule::steady(2.0, 1, Duration::ZERO, Duration::from_secs(1)).expect("valid");
        let mut reach = Reach::new(&schedule, MESSAGES_MAX + 1);
        reach.note(0, 5_000_000);
        let mut latency = Latency::default();
        reach.measure(&schedule, &mut latency);
        assert_eq!(latency.percentiles().count, 0);
    }
}
