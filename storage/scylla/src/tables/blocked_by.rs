//! The table `blocked_by`: the users who have blocked a user. They are in no list, but are needed when the user is
//! deleted.

use engine::id::UserId;
use uuid::Uuid;

use super::{Mutation, Query, Statement, id, int, limit_of};

/// The definition.
pub const TABLE: &str = "CREATE TABLE IF NOT EXISTS blocked_by (
  user_id uuid, other_id uuid, PRIMARY KEY ((user_id), other_id))";

pub(super) const PAGE: &str = "SELECT other_id FROM blocked_by WHERE user_id = ? AND other_id > ? LIMIT ?";
pub(super) const PUT: &str = "INSERT INTO blocked_by (user_id, other_id) VALUES (?, ?) USING TIMESTAMP ?";
pub(super) const DELETE: &str = "DELETE FROM blocked_by USING TIMESTAMP ? WHERE user_id = ? AND other_id = ?";

/// Notes that `by` has blocked the user.
pub fn put(user: UserId, by: UserId) -> Mutation {
    Mutation::new(Statement::PutBlockedBy, [id(user.0), id(by.0)])
}

/// Deletes the note that `by` has blocked the user.
pub fn delete(user: UserId, by: UserId) -> Mutation {
    Mutation::new(Statement::DeleteBlockedBy, [id(user.0), id(by.0)])
}

/// The users who have blocked a user, in the order of their ids, after an id.
pub fn page(user: UserId, after: Uuid, limit: usize) -> Query<(Uuid,)> {
    Query::new(Statement::BlockedBy, [id(user.0), id(after), int(limit_of(limit))])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tables::tests::{check_delete, read_back};

    #[test]
    fn a_note_comes_back() {
        let (user, by) = (UserId(Uuid::nil()), UserId(Uuid::max()));
        let row = put(user, by);
        assert_eq!(read_back(TABLE, &row, page(user, Uuid::nil(), 1)), (by.0,));
        check_delete(&row, &delete(user, by));
    }
}
