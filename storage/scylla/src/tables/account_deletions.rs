//! The table `departures`: users whose accounts were deleted and whose messages are still to be deleted.

use engine::id::UserId;
use uuid::Uuid;

use super::{Mutation, Query, Statement, id, int, limit_of};

/// The definition. All rows are in one partition: there are few at a time.
pub const TABLE: &str =
    "CREATE TABLE IF NOT EXISTS departures (shard int, user_id uuid, PRIMARY KEY ((shard), user_id))";

pub(super) const FIRST: &str = "SELECT user_id FROM departures WHERE shard = 0 LIMIT ?";
pub(super) const PAGE: &str = "SELECT user_id FROM departures WHERE shard = 0 AND user_id > ? LIMIT ?";
pub(super) const PUT: &str = "INSERT INTO departures (shard, user_id) VALUES (0, ?) USING TIMESTAMP ?";
pub(super) const DELETE: &str = "DELETE FROM departures USING TIMESTAMP ? WHERE shard = 0 AND user_id = ?";
pub(super) const COUNT: &str = "SELECT user_id FROM departures";

/// Notes that the user's messages are still to be deleted.
pub fn put(user: UserId) -> Mutation {
    Mutation::new(Statement::PutDeparture, [id(user.0)])
}

/// Deletes the note of a user.
pub fn delete(user: UserId) -> Mutation {
    Mutation::new(Statement::DeleteDeparture, [id(user.0)])
}

/// The first users, in the order of their ids.
pub fn first(limit: usize) -> Query<(Uuid,)> {
    Query::new(Statement::AccountDeletions, [int(limit_of(limit))])
}

/// Users in the order of their ids, after an id.
pub fn page(after: Uuid, limit: usize) -> Query<(Uuid,)> {
    Query::new(Statement::AccountDeletionsFrom, [id(after), int(limit_of(limit))])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tables::tests::{check_delete, read_back};

    #[test]
    fn a_user_comes_back() {
        let user = UserId(Uuid::max());
        for query in [first(1), page(Uuid::nil(), 1)] {
            assert_eq!(read_back(TABLE, &put(user), query), (user.0,));
        }
        check_delete(&put(user), &delete(user));
    }
}
