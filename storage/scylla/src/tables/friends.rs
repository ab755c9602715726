//! The table `friends`: the users to whom a user stands in some state, in the order of state and time.

use engine::id::{Timestamp, UserId};
use scylla::DeserializeRow;
use storage::Failure;
use storage::friend::{Edge, Friend, FriendPlace};
use uuid::Uuid;

use super::edges::state;
use super::{Mutation, Query, Statement, big, id, int, limit_of, text};

/// The definition.
pub const TABLE: &str = "CREATE TABLE IF NOT EXISTS friends (
  user_id uuid, state int, since_ns bigint, other_id uuid, PRIMARY KEY ((user_id), state, since_ns, other_id))";
/// The column that version 6 of the schema adds. It is missing in rows that were written before.
pub const METADATA: &str = "ALTER TABLE friends ADD metadata text";

pub(super) const BETWEEN: &str = "SELECT state, since_ns, other_id, metadata FROM friends WHERE user_id = ? AND (state, since_ns, other_id) >= (?, ?, ?) AND (state, since_ns, other_id) <= (?, ?, ?) LIMIT ?";
pub(super) const PUT: &str =
    "INSERT INTO friends (user_id, state, since_ns, other_id, metadata) VALUES (?, ?, ?, ?, ?) USING TIMESTAMP ?";
/// As programs wrote before version 6. It is in their intents.
pub(super) const PUT_WITHOUT_METADATA: &str =
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
    metadata: Option<String>,
}

impl Row {
    /// The entry and its place. Fails with [`Failure::Corrupt`] if there is no such state.
    pub fn friend(self) -> Result<(Friend, FriendPlace), Failure> {
        let (since, user) = (Timestamp(self.since_ns), UserId(self.other_id));
        let place = FriendPlace { state: state(self.state)?, since, user };
        Ok((place.friend(self.metadata.unwrap_or_default().into()), place))
    }

    /// Writes the entry unchanged.
    pub fn put_again(self, user: UserId) -> Mutation {
        let metadata = text(self.metadata.as_deref().unwrap_or_default());
        let values = [id(user.0), int(self.state), big(self.since_ns), id(self.other_id), metadata];
        Mutation::new(Statement::PutFriendNoted, values)
    }
}

/// Writes the entry of another user.
pub fn put(user: UserId, other: UserId, edge: &Edge) -> Mutation {
    let values = key(user, other, edge).into_iter().chain([text(&edge.metadata)]);
    Mutation::new(Statement::PutFriendNoted, values)
}

/// Deletes what [`put`] wrote for the same edge.
pub fn delete(user: UserId, other: UserId, edge: &Edge) -> Mutation {
    Mutation::new(Statement::DeleteFriend, key(user, other, edge))
}

fn key(user: UserId, other: UserId, edge: &Edge) -> [scylla::value::CqlValue; 4] {
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
    use crate::tables::tests::{check_delete, read_back, with_column};

    #[test]
    fn an_entry_comes_back() {
        let (user, other) = (UserId(Uuid::nil()), UserId(Uuid::max()));
        let table = with_column(TABLE, METADATA);
        for number in 0..4 {
            for metadata in ["", "{\"noted\":true}"] {
                let since = Timestamp(i64::MAX);
                let edge = Edge { state: state(number).unwrap(), since, metadata: metadata.into() };
                let row = put(user, other, &edge);
                let query = between(user, FriendPlace::span(None), 1);
                assert_eq!(query.values.len(), 8);
                let place = edge.place(other);
                let friend = place.friend(metadata.into());
                assert_eq!(read_back(table, &row, query.clone()).friend(), Ok((friend, place)));
                assert_eq!(read_back(table, &row, query).put_again(user), row);
                check_delete(&row, &delete(user, other, &edge));
                check_delete(&row, &delete_all(user));
            }
        }
        // A row from before version 6.
        let row = Mutation::new(Statement::PutFriend, [id(user.0), int(0), big(1), id(other.0)]);
        let query = between(user, FriendPlace::span(None), 1);
        assert_eq!(&*read_back(table, &row, query).friend().unwrap().0.metadata, "");
    }
}
