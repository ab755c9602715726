//! The table `group_seats`: how many seats of a group are taken. Written by lightweight transactions only, each of which
//! raises the version, so that no seat is given twice.

use engine::id::GroupId;
use scylla::DeserializeRow;

use super::{Mutation, Query, Statement, big, id, int};

/// The definition. Conditional. Every change of the seats taken raises the version.
pub const TABLE: &str =
    "CREATE TABLE IF NOT EXISTS group_seats (group_id uuid PRIMARY KEY, edge_count int, version bigint)";

pub(super) const ONE: &str = "SELECT edge_count, version FROM group_seats WHERE group_id = ?";
pub(super) const CLAIM: &str = "INSERT INTO group_seats (group_id, edge_count, version) VALUES (?, ?, ?) IF NOT EXISTS";
pub(super) const MOVE: &str = "UPDATE group_seats SET edge_count = ?, version = ? WHERE group_id = ? IF version = ?";
pub(super) const RELEASE: &str = "DELETE FROM group_seats WHERE group_id = ? IF EXISTS";

/// The version of a group's first count of seats.
pub const FIRST_VERSION: i64 = 1;

/// The seats taken, and the version.
#[derive(Clone, Copy, PartialEq, Eq, Debug, DeserializeRow)]
#[scylla(flavor = "enforce_order")]
pub struct Seats {
    pub edge_count: i32,
    pub version: i64,
}

/// The seats of a group.
pub fn one(group: GroupId) -> Query<Seats> {
    Query::new(Statement::Seats, [id(group.0)])
}

/// A lightweight transaction that writes the seats of a group that has none noted.
pub fn claim(group: GroupId, seats: Seats) -> Mutation {
    Mutation::new(Statement::ClaimSeats, [id(group.0), int(seats.edge_count), big(seats.version)])
}

/// A lightweight transaction that replaces the seats if they are still of the version `before`.
pub fn move_seats(group: GroupId, before: i64, seats: Seats) -> Mutation {
    debug_assert!(before < seats.version, "a version rises");
    Mutation::new(Statement::MoveSeats, [int(seats.edge_count), big(seats.version), id(group.0), big(before)])
}

/// A lightweight transaction that forgets the seats of a group.
pub fn release(group: GroupId) -> Mutation {
    Mutation::new(Statement::ReleaseSeats, [id(group.0)])
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;
    use crate::tables::tests::{check_delete, read_back};

    #[test]
    fn seats_come_back() {
        let group = GroupId(Uuid::max());
        let [first, next] =
            [(1, FIRST_VERSION), (i32::MAX, 2)].map(|(edge_count, version)| Seats { edge_count, version });
        for (row, seats) in [(claim(group, first), first), (move_seats(group, FIRST_VERSION, next), next)] {
            assert_eq!(read_back(TABLE, &row, one(group)), seats);
            check_delete(&row, &release(group));
        }
    }
}
