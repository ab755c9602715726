//! What earlier turns have left for this one: connections that may be read again, and dead ones.

use engine::id::Timestamp;
use engine::shard::Shard;

use super::{Interest, SocketTable};

impl SocketTable {
    /// Reads connections again that have waited: first what they had sent before. They take half of a turn's work.
    pub(super) fn read_again(&mut self, shard: &mut Shard, now: Timestamp) {
        while !shard.has_worked_half()
            && let Some(id) = self.resumed.take()
        {
            let Some(socket) = self.socket(id) else { continue };
            let mut kept = std::mem::take(&mut socket.unfinished);
            self.watch(id, Interest { reads: Some(true), writes: None });
            self.take_in(id, &mut kept, 0, shard, now);
        }
    }

    /// Drops dead connections, as many as may end in this turn.
    pub(super) fn drop_the_gone(&mut self, shard: &mut Shard, now: Timestamp) {
        while !shard.has_ended_enough()
            && let Some(id) = self.gone.take()
        {
            self.drop_connection(id, shard, now);
        }
    }
}
