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

/// What a client reads in its close frame, behind the time after which it may connect again.
const REASON: &str = "the server restarts: connect again";

/// The number of different times that clients are told.
const HINTS: u64 = 16;
/// The longest of them, if the closes are spread already, and the longest if they are not.
const HINT_MILLIS_MAX: u64 = 1000;
const HINT_MILLIS_MAX_AT_ONCE: u64 = 5000;

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
        shard.step(Input::Drain { time, frames: last_frames(time) }, now);
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

/// The close frames of a drain over this time. Each has another hint, so that clients whose connections end together do
/// not come back together.
fn last_frames(time: Duration) -> Vec<Vec<u8>> {
    let most = if time.is_zero() { HINT_MILLIS_MAX_AT_ONCE } else { HINT_MILLIS_MAX };
    let frame = |number: u64| {
        let mut frame = Vec::new();
        let reason = format!("retry_after_ms={}; {REASON}", most * number / HINTS);
        websocket::close_frame(&mut frame, Some(CloseCode::SERVICE_RESTART), &reason);
        frame
    };
    (1..=HINTS).map(frame).collect()
}

#[cfg(test)]
mod tests {
    use engine::wire::websocket::CONTROL_BYTES_MAX;

    use super::*;

    #[test]
    fn each_hint_is_another_and_fits_into_a_close_frame() {
        for (time, most) in [(Duration::ZERO, "5000"), (Duration::from_secs(9), "1000")] {
            let frames = last_frames(time);
            let header = 2;
            assert!(frames.iter().all(|frame| frame.len() <= header + CONTROL_BYTES_MAX));
            let texts: Vec<_> = frames.iter().map(|frame| String::from_utf8_lossy(&frame[4..]).into_owned()).collect();
            assert_eq!(texts.last().unwrap(), &format!("retry_after_ms={most}; {REASON}"));
            assert_eq!(texts.iter().collect::<std::collections::BTreeSet<_>>().len(), HINTS as usize);
        }
    }
}
