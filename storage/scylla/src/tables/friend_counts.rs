//! The table `circles`: how many friends and edges a user has.

use engine::id::UserId;
use scylla::DeserializeRow;
use storage::friend::FriendCounts;

use super::{Mutation, Query, Statement, id, int};

/// The definition.
pub const TABLE: &str = "CREATE TABLE IF NOT EXISTS circles (user_id uuid PRIMARY KEY, friends int, edges int)";

pub(super) const ONE: &str = "SELECT friends, edges FROM circles WHERE user_id = ?";
pub(super) const PUT: &str = "INSERT INTO circles (user_id, friends, edges) VALUES (?, ?, ?) USING TIMESTAMP ?";
pub(super) const DELETE: &str = "DELETE FROM circles USING TIMESTAMP ? WHERE user_id = ?";
pub(super) const COUNT: &str = "SELECT user_id FROM circles";

/// A user's counts.
#[derive(DeserializeRow)]
#[scylla(flavor = "enforce_order")]
pub struct Row {
    friends: i32,
    edges: i32,
}

impl Row {
    /// The counts.
    pub fn counts(self) -> FriendCounts {
        FriendCounts { friends: self.friends as u32, edges: self.edges as u32 }
    }
}

/// Writes how many friends and edges a user has.
pub fn put(user: UserId, counts: FriendCounts) -> Mutation {
    debug_assert!(counts.friends <= counts.edges, "each friend is an edge: {counts:?}");
    Mutation::new(Statement::PutCircle, [id(user.0), int(counts.friends as i32), int(counts.edges as i32)])
}

/// Deletes the counts of a user.
pub fn delete(user: UserId) -> Mutation {
    Mutation::new(Statement::DeleteCircle, [id(user.0)])
}

/// The counts of a user.
pub fn one(user: UserId) -> Query<Row> {
    Query::new(Statement::FriendCounts, [id(user.0)])
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;
    use crate::tables::tests::{check_delete, read_back};

    #[test]
    fn counts_come_back() {
        let user = UserId(Uuid::max());
        for counts in [FriendCounts::default(), FriendCounts { friends: 7, edges: u32::MAX }] {
            let row = put(user, counts);
            assert_eq!(read_back(TABLE, &row, one(user)).counts(), counts);
            check_delete(&row, &delete(user));
        }
    }
}
