//! What all members of a room received together. Deliveries are checked and counted, a sample of them is timed, and
//! rare frames are kept for `client` to handle.

use hdrhistogram::Histogram;

use crate::checker::Checker;
use crate::dialect::{ACK_PREFIX, JOINED_PREFIX};
use crate::frames::{self, Frame};

const LATENCY_US_MAX: u64 = 600_000_000;

/// What all members received together.
pub struct Received {
    pub checker: Checker,
    pub latency_us: Histogram<u64>,
    /// The longest latency of the sample.
    pub latency_max_us: u64,
    pub last_delivery_ns: u64,
    pub acks: u64,
    pub rare: Vec<Rare>,
}

/// Frames that are not deliveries. They are handled after the read that brought them.
pub enum Rare {
    Joined,
    Ping(Vec<u8>),
    /// The connection ends, with this code and reason.
    Closed(u16, String),
    Refused(String),
}

impl Rare {
    /// What a frame means. `None` for what a server sends by itself.
    pub fn of(frame: Frame<'_>) -> Option<Rare> {
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        match (frame.opcode, frame.payload) {
            (frames::TEXT, payload) if payload.starts_with(JOINED_PREFIX) => Some(Rare::Joined),
            (frames::TEXT, payload) if payload.starts_with(b"{\"cid\":") => Some(Rare::Refused(text(payload))),
            (frames::PING, payload) => Some(Rare::Ping(payload.to_vec())),
            (frames::CLOSE, [high, low, reason @ ..]) => {
                Some(Rare::Closed(u16::from_be_bytes([*high, *low]), text(reason)))
            }
            (frames::CLOSE, _) => Some(Rare::Closed(NO_CODE, String::new())),
            _ => None,
        }
    }
}

/// What stands for the code of a close frame without one.
const NO_CODE: u16 = 1005;

impl Received {
    pub fn new(checker: Checker) -> Received {
        let latency_us = empty_histogram();
        Received { checker, latency_us, latency_max_us: 0, last_delivery_ns: 0, acks: 0, rare: Vec::new() }
    }

    #[inline]
    pub fn hear(&mut self, member: usize, sampled: bool, now_ns: u64, frame: Frame<'_>) {
        if frame.opcode == frames::TEXT
            && let Some(counter) = self.checker.counter(frame.payload)
        {
            self.checker.deliver(member, counter, frame.wire_bytes);
            self.last_delivery_ns = now_ns;
            if sampled {
                self.sample(now_ns, frame.payload);
            }
        } else {
            self.hear_rare(frame);
        }
    }

    fn sample(&mut self, now_ns: u64, payload: &[u8]) {
        self.checker.check_padding(payload);
        let Some(stamp_ns) = self.checker.stamp_ns(payload) else { return };
        let latency_us = now_ns.saturating_sub(stamp_ns) / 1_000;
        self.latency_max_us = self.latency_max_us.max(latency_us);
        self.latency_us.saturating_record(latency_us);
    }

    #[cold]
    fn hear_rare(&mut self, frame: Frame<'_>) {
        if frame.opcode == frames::TEXT && frame.payload.starts_with(ACK_PREFIX) {
            self.acks += 1;
        } else {
            self.rare.extend(Rare::of(frame));
        }
    }

    /// Resets the counts and the latencies.
    pub fn forget(&mut self) {
        self.latency_us.reset();
        self.latency_max_us = 0;
        self.acks = 0;
        self.checker.forget_counts();
    }
}

pub fn empty_histogram() -> Histogram<u64> {
    Histogram::new_with_bounds(1, LATENCY_US_MAX, 3).expect("the bounds are constants that a histogram can have")
}
