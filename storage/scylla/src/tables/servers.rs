//! The table `servers`: one row, the server that has this keyspace, and its heartbeat. Written by lightweight
//! transactions only.

use scylla::DeserializeRow;
use uuid::Uuid;

use super::{Mutation, Query, Statement, big, id};

/// The definition. Conditional, one row.
pub const TABLE: &str =
    "CREATE TABLE IF NOT EXISTS servers (id int PRIMARY KEY, epoch bigint, holder uuid, beat bigint)";

pub(super) const ONE: &str = "SELECT epoch, holder, beat FROM servers WHERE id = 0";
pub(super) const WRITTEN: &str = "SELECT WRITETIME(beat) FROM servers WHERE id = 0";
pub(super) const CLAIM: &str = "INSERT INTO servers (id, epoch, holder, beat) VALUES (0, ?, ?, 0) IF NOT EXISTS";
pub(super) const TAKE: &str =
    "UPDATE servers SET epoch = ?, holder = ?, beat = 0 WHERE id = 0 IF epoch = ? AND holder = ? AND beat = ?";
pub(super) const BEAT: &str = "UPDATE servers SET beat = ? WHERE id = 0 IF holder = ?";
pub(super) const LEAVE: &str = "UPDATE servers SET holder = ? WHERE id = 0 IF holder = ?";

/// A server's life, and its last heartbeat. The holder is the nil UUID after the server has left.
#[derive(Clone, Copy, PartialEq, Eq, Debug, DeserializeRow)]
#[scylla(flavor = "enforce_order")]
pub struct Server {
    pub epoch: i64,
    pub holder: Uuid,
    pub beat: i64,
}

/// The server that has the keyspace, or had it last.
pub fn one() -> Query<Server> {
    Query::new(Statement::Server, [])
}

/// When the last heartbeat was written, in microseconds.
pub fn written() -> Query<(Option<i64>,)> {
    Query::new(Statement::ServerWritten, [])
}

/// A lightweight transaction that takes a keyspace that no server has had.
pub fn claim(epoch: i64, holder: Uuid) -> Mutation {
    Mutation::new(Statement::ClaimServer, [big(epoch), id(holder)])
}

/// A lightweight transaction that takes the keyspace if its server is still as it was `found`.
pub fn take(epoch: i64, holder: Uuid, found: Server) -> Mutation {
    debug_assert!(found.epoch < epoch, "each life has a greater epoch than the one before");
    let values = [big(epoch), id(holder), big(found.epoch), id(found.holder), big(found.beat)];
    Mutation::new(Statement::TakeServer, values)
}

/// A lightweight transaction that writes a heartbeat if the holder still has the keyspace.
pub fn beat(beat: i64, holder: Uuid) -> Mutation {
    Mutation::new(Statement::BeatServer, [big(beat), id(holder)])
}

/// A lightweight transaction by which the holder gives the keyspace up.
pub fn leave(holder: Uuid) -> Mutation {
    Mutation::new(Statement::LeaveServer, [id(Uuid::nil()), id(holder)])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tables::tests::read_back;

    #[test]
    fn a_server_comes_back() {
        let holder = Uuid::from_u128(7);
        let first = Server { epoch: 1, holder, beat: 0 };
        assert_eq!(read_back(TABLE, &claim(1, holder), one()), first);
        let next = Server { epoch: 2, holder: Uuid::max(), beat: 0 };
        assert_eq!(read_back(TABLE, &take(2, Uuid::max(), first), one()), next);
        assert_eq!(read_back(TABLE, &beat(9, holder), written()), (Some(8),));
        assert_eq!(beat(9, holder).values, [big(9), id(holder)]);
        assert_eq!(leave(holder).values, [id(Uuid::nil()), id(holder)]);
    }
}
