//! How many messages go out in one write. Pure: the caller says what time it is.

use std::time::{Duration, Instant};

/// Collects messages until there are as many as the real server put into one write on average.
#[derive(Debug)]
pub struct Batch {
    factor: f64,
    /// How many messages the earlier batches lacked, compared with the average; negative if they had more.
    carry: f64,
    messages: u32,
    bytes: Vec<u8>,
    /// When the last of the messages came; `None` while there are none.
    last: Option<Instant>,
}

impl Batch {
    pub fn new(factor: f64) -> Self {
        Self { factor: factor.max(1.0), carry: 0.0, messages: 0, bytes: Vec::new(), last: None }
    }

    /// When the messages will have waited for `wait` without another message; `None` if there are none.
    pub fn quiet_at(&self, wait: Duration) -> Option<Instant> {
        self.last.map(|last| last + wait)
    }

    /// Adds a message that came at this time, and returns the batch when it is full.
    pub fn add(&mut self, message: &[u8], now: Instant) -> Option<Vec<u8>> {
        self.bytes.extend_from_slice(message);
        self.messages += 1;
        self.last = Some(now);
        let full = (self.factor + self.carry).floor().max(1.0);
        (f64::from(self.messages) >= full).then(|| {
            self.carry += self.factor - full;
            self.take()
        })
    }

    /// Returns the messages so far. Used when no more messages have come for a while.
    pub fn take(&mut self) -> Vec<u8> {
        self.messages = 0;
        self.last = None;
        std::mem::take(&mut self.bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_batch_is_quiet_when_its_last_message_has_waited() {
        let (start, wait) = (Instant::now(), Duration::from_millis(50));
        let mut batch = Batch::new(4.0);
        assert_eq!(batch.quiet_at(wait), None);
        for ms in [0, 30, 60] {
            let now = start + Duration::from_millis(ms);
            assert!(batch.add(b"x", now).is_none());
            assert_eq!(batch.quiet_at(wait), Some(now + wait), "after {ms} ms");
        }
        assert!(batch.add(b"x", start).is_some());
        assert_eq!(batch.quiet_at(wait), None);
    }

    #[test]
    fn batches_are_as_large_as_asked_for_on_average_and_keep_order() {
        let now = Instant::now();
        for (factor, expected) in [
            (0.0, vec![1; 10]),
            (1.0, vec![1; 10]),
            (1.5, vec![1, 2, 1, 2, 1, 2]),
            (2.0, vec![2; 5]),
            (3.25, vec![3, 3, 3]),
        ] {
            let mut batch = Batch::new(factor);
            let batches: Vec<Vec<u8>> = (0..10).filter_map(|message| batch.add(&[message], now)).collect();
            let sizes: Vec<usize> = batches.iter().map(Vec::len).collect();
            assert_eq!(sizes[..expected.len().min(sizes.len())], expected[..], "{factor}");
            let all: Vec<u8> = batches.into_iter().flatten().chain(batch.take()).collect();
            assert_eq!(all, (0..10).collect::<Vec<u8>>(), "{factor}");
            assert_eq!(batch.quiet_at(Duration::ZERO), None);
        }
        let mut batch = Batch::new(2.7);
        let full = (0..100_000).filter(|_| batch.add(b"x", now).is_some()).count();
        assert!((100_000.0 / full as f64 - 2.7).abs() < 0.01, "{full}");
    }
}
