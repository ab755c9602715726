//! The table `friends`: the users to whom a user stands in some state, in the order of state and time.

use engine::id::{Timestamp, UserId};
use scylla::DeserializeRow;
use storage::Failure;
use storage::friend::{Edge, FriendPlace};
use uuid::Uuid;

use super::edges::state;
use super::{Mutation, Query, Statement, big, id, int, limit_of};

/// The definition.
pub const TABLE: &str = "CREATE TABLE IF NOT EXISTS friends (
  user_id uuid, state int, since_ns bigint, other_id uuid, PRIMARY KEY ((user_id), state, since_ns, other_id))";

pub(super) const BETWEEN: &str = "SELECT state, since_ns, other_id FROM friends WHERE user_id = ? AND (state, since_ns, other_id) >= (?, ?, ?) AND (state, since_ns, other_id) <= (?, ?, ?) LIMIT ?";
pub(super) const PUT: &str =
    "INSERT INTO friends (user_id, state, since_ns, other_id) VALUES (?, ?, ?, ?) USING TIMESTAMP ?";
pub(super) const DELETE: &str =
    "DELETE FROM friends USING TIMESTAMP ? WHERE user_id = ? AND state = ? AND since_ns = ? AND other_id = ?";
pub(super) const DELETE_ALL: &str = "DELETE FROM friends USING TIMESTAMP ? WHERE user_id = ?";

/// An entry of the list.
#[derive(DeserializeRow)]
#[scylla(flavor = "enforce_order")]
pub struct Row {
    state: i32,
    since_ns: i64,
    other_id: Uuid,
}

impl Row {
    /// Fails with [`Failure::Corrupt`] if there is no such state.
    pub fn place(self) -> Result<FriendPlace, Failure> {
        Ok(FriendPlace { state: state(self.state)?, since: Timestamp(self.since_ns), user: UserId(self.other_id) })
    }

    /// Writes the entry unchanged.
    pub fn put_again(self, user: UserId) -> Mutation {
        let key = [id(user.0), int(self.state), big(self.since_ns), id(self.other_id)];
        Mutation::new(Statement::PutFriend, key)
    }
}

/// Writes the entry of another user.
pub fn put(user: UserId, other: UserId, edge: Edge) -> Mutation {
    Mutation::new(Statement::PutFriend, key(user, other, edge))
}

/// Deletes what [`put`] wrote for the same edge.
pub fn delete(user: UserId, other: UserId, edge: Edge) -> Mutation {
    Mutation::new(Statement::DeleteFriend, key(user, other, edge))
}

fn key(user: UserId, other: UserId, edge: Edge) -> [scylla::value::CqlValue; 4] {
    [id(user.0), int(edge.state as i32), big(edge.since.0), id(other.0)]
}

/// Deletes all entries of a user.
pub fn delete_all(user: UserId) -> Mutation {
    Mutation::new(Statement::DeleteFriends, [id(user.0)])
}

/// The first entries between two places, both included.
pub fn between(user: UserId, [first, last]: [FriendPlace; 2], limit: usize) -> Query<Row> {
    let bound = |place: FriendPlace| [int(place.state as i32), big(place.since.0), id(place.user.0)];
    let places = [first, last].into_iter().flat_map(bound);
    let values: Vec<_> = [id(user.0)].into_iter().chain(places).chain([int(limit_of(limit))]).collect();
    Query::new(Statement::Friends, values)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tables::tests::{check_delete, read_back};

    #[test]
    fn an_entry_comes_back() {
        let (user, other) = (UserId(Uuid::nil()), UserId(Uuid::max()));
        for number in 0..4 {
            let edge = Edge { state: state(number).unwrap(), since: Timestamp(i64::MAX) };
            let row = put(user, other, edge);
            let query = between(user, FriendPlace::span(None), 1);
            assert_eq!(query.values.len(), 8);
            assert_eq!(read_back(TABLE, &row, query.clone()).place(), Ok(edge.place(other)));
            assert_eq!(read_back(TABLE, &row, query).put_again(user), row);
            check_delete(&row, &delete(user, other, edge));
            check_delete(&row, &delete_all(user));
        }
    }
}
