//! Idle users: one worker's part, and its results.

use std::ops::Range;

use serde::{Deserialize, Serialize};

use crate::checks::figures::ThreadFigures;
use crate::checks::latency::Latency;
use crate::checks::samples::Samples;
use crate::plan::sources::Sources;
use crate::plan::target::Target;
use crate::wire::Entrance;

/// One worker's part of a run with idle users.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Holding {
    pub target: Target,
    /// The room that the users join, if they join one.
    pub entrance: Option<Entrance>,
    pub users: Range<u32>,
    pub threads: Option<u32>,
    /// How many users may sign in or connect at once.
    pub in_flight: u32,
    pub sources: Option<Sources>,
    /// Whether the server may close connections with 1012, because it drains.
    pub expects_drain: bool,
}

/// The results of the users of one thread, or of several.
#[derive(Clone, Default, Debug, Serialize, Deserialize)]
pub struct Held {
    pub connected: u64,
    /// Users that never connected. Of these, `not_tried` were not even tried, because too many before them had failed.
    pub shut_out: u64,
    pub not_tried: u64,
    /// Attempts that failed and were repeated.
    pub retries: u64,
    /// Connections that ended before the client closed them.
    pub disconnected: u64,
    /// Connections that a drain which was expected has closed.
    pub drained: u64,
    pub pings: u64,
    /// Other frames received.
    pub frames: u64,
    /// From the first packet to the open WebSocket, and from the join request to its answer.
    pub connect: Latency,
    pub join: Latency,
    /// The largest number of connects that were allowed at once, and how many the server was last found to take.
    pub window_most: u64,
    pub window_last: u64,
    pub lag: Latency,
    pub threads: Vec<ThreadFigures>,
    /// The memory of the worker's process before any user had signed in, and when all were connected. Each thread
    /// reports the same.
    pub resident: Vec<Resident>,
    pub samples: Samples,
}

/// The memory of one process.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Resident {
    /// The first user of the worker. Process ids do not tell workers apart: two machines may use the same ones.
    pub first_user: u32,
    pub before_bytes: u64,
    pub held_bytes: u64,
}

impl Held {
    pub fn add(&mut self, other: Held) {
        self.connected += other.connected;
        self.shut_out += other.shut_out;
        self.not_tried += other.not_tried;
        self.retries += other.retries;
        self.disconnected += other.disconnected;
        self.drained += other.drained;
        self.pings += other.pings;
        self.frames += other.frames;
        self.connect.add(&other.connect);
        self.join.add(&other.join);
        self.window_most += other.window_most;
        self.window_last += other.window_last;
        self.lag.add(&other.lag);
        self.threads.extend(other.threads);
        for resident in other.resident {
            match self.resident.iter_mut().find(|own| own.first_user == resident.first_user) {
                None => self.resident.push(resident),
                Some(own) => {
                    own.before_bytes = own.before_bytes.min(resident.before_bytes);
                    own.held_bytes = own.held_bytes.max(resident.held_bytes);
                }
            }
        }
        self.samples.add(other.samples);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn threads_add_up_and_a_process_has_one_memory() {
        let resident = |first_user, before_bytes, held_bytes| Resident { first_user, before_bytes, held_bytes };
        let held = |connected, resident: Resident| Held { connected, resident: vec![resident], ..Held::default() };
        let mut sum = held(3, resident(7, 100, 900));
        sum.add(held(4, resident(7, 90, 950)));
        sum.add(held(5, resident(8, 50, 60)));
        assert_eq!((sum.connected, sum.resident), (12, vec![resident(7, 90, 950), resident(8, 50, 60)]));
    }
}
