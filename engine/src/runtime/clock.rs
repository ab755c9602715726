//! The only place that reads the time.

use std::cell::Cell;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use crate::id::Timestamp;

/// A shard's clock: the system's, but never going back.
pub struct Clock {
    newest: Cell<Timestamp>,
    started: Instant,
}

impl Default for Clock {
    fn default() -> Self {
        Self { newest: Cell::default(), started: Instant::now() }
    }
}

impl Clock {
    pub fn now(&self) -> Timestamp {
        let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let now = Timestamp(i64::try_from(since_epoch.as_nanos()).unwrap_or(i64::MAX)).max(self.newest.get());
        self.newest.set(now);
        now
    }

    /// The time since this clock was made. Nobody sets it, so what is paced by it neither stops nor jumps.
    pub fn steady(&self) -> Timestamp {
        Timestamp(i64::try_from(self.started.elapsed().as_nanos()).unwrap_or(i64::MAX))
    }
}

/// Tells how long each part of a loop took; knows nothing of the day.
pub struct Laps {
    newest: Instant,
}

impl Laps {
    pub fn begin() -> Self {
        Self { newest: Instant::now() }
    }

    /// The time since the last lap ended, which ends here.
    pub fn end(&mut self) -> Duration {
        let now = Instant::now();
        now.saturating_duration_since(std::mem::replace(&mut self.newest, now))
    }
}
