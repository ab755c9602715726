//! The running totals of one thread, and the seconds that it has completed. Only that thread writes them; the worker
//! reads them.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use parking_lot::Mutex;

use crate::costs::progress::Progress;
use crate::costs::series::Second;

/// How many completed seconds wait for the worker, which takes them several times a second. Beyond that, one entry
/// stands for several seconds.
const CLOSED_MAX: usize = 600;

/// The running totals of one thread. Only that thread writes them; the code that reports progress reads them.
#[derive(Default)]
pub struct Gauges {
    pub signed_in: Gauge,
    pub joined: Gauge,
    pub sent: Gauge,
    pub accepted: Gauge,
    pub refused: Gauge,
    pub delivered: Gauge,
    pub faults: Gauge,
    pub disconnected: Gauge,
    /// Stays that have ended, in any way.
    pub left: Gauge,
    pub presence_frames: Gauge,
    /// The seconds that this thread has completed.
    pub closed: Closed,
}

/// A counter with one writer: it needs a load and a store, not a locked addition.
#[derive(Default)]
pub struct Gauge(AtomicU64);

impl Gauge {
    pub fn bump(&self) {
        self.add(1);
    }

    pub fn add(&self, count: u64) {
        self.0.store(self.read() + count, Relaxed);
    }

    fn read(&self) -> u64 {
        self.0.load(Relaxed)
    }
}

impl Gauges {
    pub fn progress(&self) -> Progress {
        Progress {
            signed_in: self.signed_in.read(),
            joined: self.joined.read(),
            sent: self.sent.read(),
            accepted: self.accepted.read(),
            refused: self.refused.read(),
            delivered: self.delivered.read(),
            faults: self.faults.read(),
            disconnected: self.disconnected.read(),
            left: self.left.read(),
            presence_frames: self.presence_frames.read(),
        }
    }
}

/// The seconds that a thread has closed, until the worker takes them. The thread locks it once a second, never for a
/// delivery.
#[derive(Default)]
pub struct Closed(Mutex<Vec<Second>>);

impl Closed {
    pub fn put(&self, second: Second) {
        let mut seconds = self.0.lock();
        let full = seconds.len() >= CLOSED_MAX;
        match seconds.last_mut() {
            Some(last) if full => last.add(&second),
            _ => seconds.push(second),
        }
        debug_assert!(seconds.len() <= CLOSED_MAX, "{} seconds wait", seconds.len());
    }

    pub fn take(&self) -> Vec<Second> {
        std::mem::take(&mut self.0.lock())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_gauge_is_in_the_progress() {
        let gauges = Gauges::default();
        let all = [
            &gauges.signed_in,
            &gauges.joined,
            &gauges.sent,
            &gauges.accepted,
            &gauges.refused,
            &gauges.delivered,
            &gauges.faults,
            &gauges.disconnected,
            &gauges.left,
            &gauges.presence_frames,
        ];
        (1..).zip(all).for_each(|(count, gauge)| gauge.add(count));
        gauges.signed_in.bump();
        let expected = Progress {
            signed_in: 2,
            joined: 2,
            sent: 3,
            accepted: 4,
            refused: 5,
            delivered: 6,
            faults: 7,
            disconnected: 8,
            left: 9,
            presence_frames: 10,
        };
        assert_eq!(gauges.progress(), expected);
    }

    #[test]
    fn seconds_that_are_not_taken_are_added_up_and_none_is_lost() {
        let closed = Closed::default();
        let second = |at: u64| {
            let mut second = Second::new(at);
            second.progress.delivered = 1;
            second
        };
        let beyond = 7;
        (0..CLOSED_MAX as u64 + beyond).for_each(|at| closed.put(second(at)));
        let seconds = closed.take();
        assert_eq!(seconds.len(), CLOSED_MAX);
        let delivered: u64 = seconds.iter().map(|second| second.progress.delivered).sum();
        assert_eq!(delivered, CLOSED_MAX as u64 + beyond);
        assert!(closed.take().is_empty());
        closed.put(second(9));
        assert_eq!(closed.take().len(), 1, "there is room again");
    }
}
