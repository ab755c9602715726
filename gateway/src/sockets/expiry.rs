//! Sessions that end with their tokens, if the operator wants it.
//!
//! Users who came together have tokens that end together. So their sessions end evenly over some seconds behind that, by
//! their places in the table, and no turn ends more sessions than it may (`SocketTable::check_deadlines`).

use engine::counters::SessionEnd;
use engine::id::{ConnectionId, Timestamp};
use engine::session::home::CloseMode;
use engine::shard::Shard;
use engine::wire::websocket::CloseCode;

use super::{SocketTable, TICKS_PER_ROUND};
use crate::session;

/// The seconds behind the end of a token within which its session is closed.
const SPREAD_SECONDS: u32 = 10;

/// The end of a session that outlives its token.
pub(super) const NEVER: u32 = u32::MAX;

/// What the client reads in its close frame.
const REASON: &str = "the token of this session has expired: sign in and connect again";

/// The second since the Unix epoch in which a session ends whose token ends in the second `expires`.
pub(super) fn deadline(expires: i64, id: ConnectionId) -> u32 {
    // Within a second, the places of one round are looked at in different ticks.
    let behind = id.slot / TICKS_PER_ROUND % SPREAD_SECONDS;
    u32::try_from(expires.saturating_add(i64::from(behind))).unwrap_or(NEVER)
}

impl SocketTable {
    /// From now on a session ends with the token that opens it. Call it before the first turn.
    pub fn close_on_expiry(&mut self) {
        self.closes_on_expiry = true;
    }

    /// Closes a session if its time has come. Returns whether it has.
    pub(super) fn close_expired(&mut self, id: ConnectionId, expires: u32, shard: &mut Shard, now: Timestamp) -> bool {
        let is_over = expires != NEVER && now.0.div_euclid(1_000_000_000) >= i64::from(expires);
        if is_over {
            let end = SessionEnd::Expired;
            shard.step(session::close(id, CloseCode::NORMAL, REASON, CloseMode::AfterAnswers, end), now);
        }
        is_over
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sessions_that_expire_together_end_evenly() {
        let mut ended = [0; SPREAD_SECONDS as usize];
        for slot in 0..1_000 {
            let deadline = deadline(5_000, ConnectionId { slot, generation: 0 });
            ended[usize::try_from(deadline - 5_000).unwrap()] += 1;
        }
        assert_eq!(ended, [100; SPREAD_SECONDS as usize]);
        assert_eq!(deadline(i64::MAX, ConnectionId { slot: 0, generation: 0 }), NEVER);
        assert_eq!(deadline(-1_000, ConnectionId { slot: 0, generation: 0 }), NEVER);
    }
}
