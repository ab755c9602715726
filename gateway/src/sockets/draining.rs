//! A drain, as the sockets see it: no connection is accepted any more, no session opens, and the engine closes the sessions
//! one after another. Connections of HTTP go on, and each closes after its next answer.

use std::ops::RangeInclusive;
use std::time::Duration;

use engine::id::Timestamp;
use engine::shard::{Input, Shard};
use engine::wire::websocket::{self, CloseCode};

use super::SocketTable;
use super::accept::BACKLOG_ACCEPTS_MAX;
use crate::http::answer::retry_after_seconds;
use crate::upgrade::UpgradeRefusal;

/// What a client reads in its close frame.
const REASON: &str = "the server restarts: connect again";

/// When a client may try again whose opening comes during a drain. The times are spread, so that clients do not come back
/// together.
const RETRY_SECONDS: RangeInclusive<u64> = 1..=5;

impl SocketTable {
    pub(super) fn begin_drain(&mut self, shard: &mut Shard, now: Timestamp, time: Duration) {
        // The kernel has accepted these clients already. If the listener closed now, their connections would be reset.
        for _ in 0..BACKLOG_ACCEPTS_MAX {
            (0..self.listeners.len()).for_each(|number| self.accept(number));
        }
        self.close_listener();
        self.draining = true;
        let mut frame = Vec::new();
        websocket::close_frame(&mut frame, Some(CloseCode::SERVICE_RESTART), REASON);
        shard.step(Input::Drain { time, frame }, now);
        self.tell_health();
        self.services.tell_of_drain();
    }

    pub(super) fn close_listener(&mut self) {
        self.pause_accepting();
        self.listeners = Vec::new();
    }

    /// Why no session may open now, or `Ok` if one may.
    pub(super) fn let_sessions_in(&self) -> Result<(), UpgradeRefusal> {
        if self.draining {
            return Err(UpgradeRefusal::Draining { retry_after_seconds: retry_after_seconds(RETRY_SECONDS) });
        }
        Ok(())
    }

    /// Takes in how many connections and sessions there are.
    pub(super) fn tell_health(&self) {
        let sessions = self.counters.sessions() as usize;
        self.services.tell_connections(self.open + self.http.len(), sessions);
    }
}
