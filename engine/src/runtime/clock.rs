//! The only place that reads the time.

use std::cell::Cell;
use std::time::{SystemTime, UNIX_EPOCH};

use crate::id::Timestamp;

/// A shard's clock: the system's, but never going back.
#[derive(Default)]
pub struct Clock {
    newest: Cell<Timestamp>,
}

impl Clock {
    pub fn now(&self) -> Timestamp {
        let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let now = Timestamp(i64::try_from(since_epoch.as_nanos()).unwrap_or(i64::MAX)).max(self.newest.get());
        self.newest.set(now);
        now
    }
}
