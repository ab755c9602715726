//! What the bridge counts for its clients, the HTTP handlers: shards count what they ask themselves.
//!
//! Answers are given on several threads, so these are atomics. Each is added to once for an answer, beside work that takes
//! a thousand times longer.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use engine::counters::{BUCKETS, Histogram};

use crate::{Failure, Written};

/// The numbers of all clients of a bridge.
#[derive(Default)]
pub struct ClientCounts {
    writes: [AtomicU64; BUCKETS],
    micros: AtomicU64,
    failures: AtomicU64,
}

impl ClientCounts {
    /// Counts an answer to a read.
    pub fn count_read<T>(&self, answer: &Result<T, Failure>) {
        self.failures.fetch_add(u64::from(answer.is_err()), Ordering::Relaxed);
    }

    fn count_write<T>(&self, took: Duration, answer: &Result<T, Failure>) {
        let micros = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        self.writes[Histogram::bucket(micros)].fetch_add(1, Ordering::Relaxed);
        self.micros.fetch_add(micros, Ordering::Relaxed);
        self.failures.fetch_add(u64::from(answer.is_err()), Ordering::Relaxed);
    }

    /// How long the writes took until they were answered.
    pub fn writes(&self) -> Histogram {
        let buckets = self.writes.each_ref().map(|count| count.load(Ordering::Relaxed));
        Histogram { buckets, sum: self.micros.load(Ordering::Relaxed) }
    }

    /// How many reads and writes have failed.
    pub fn failures(&self) -> u64 {
        self.failures.load(Ordering::Relaxed)
    }
}

/// The way back to the handler that has asked for a write.
pub struct ClientAnswer {
    answer: flume::Sender<Result<Written, Failure>>,
    asked: Instant,
    counts: Arc<ClientCounts>,
}

impl ClientAnswer {
    /// A way back for a write that is asked for now, and the end where its answer comes.
    pub fn new(counts: Arc<ClientCounts>) -> (Self, flume::Receiver<Result<Written, Failure>>) {
        let (answer, answered) = flume::bounded(1);
        (Self { answer, asked: Instant::now(), counts }, answered)
    }

    /// Answers the handler. A handler that has gone away needs no answer. Never blocks.
    pub fn give(self, written: Result<Written, Failure>) {
        self.counts.count_write(self.asked.elapsed(), &written);
        let _ = self.answer.try_send(written);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_answer_is_counted_once_also_if_its_handler_is_gone() {
        let counts = Arc::new(ClientCounts::default());
        let (done, answered) = ClientAnswer::new(counts.clone());
        done.give(Ok(Written::AccountDeleted(true)));
        assert!(matches!(answered.try_recv(), Ok(Ok(Written::AccountDeleted(true)))));
        let (failed, _) = ClientAnswer::new(counts.clone());
        failed.give(Err(Failure::Passing("full".into())));
        counts.count_read::<()>(&Err(Failure::Passing("late".into())));
        counts.count_read(&Ok(()));
        assert_eq!((counts.writes().count(), counts.failures()), (2, 2));
    }
}
