//! The table `edges`: how a user stands to another, since when, and what the user has noted of the other.

use engine::id::{Timestamp, UserId};
use engine::social::friend::FriendState;
use scylla::DeserializeRow;
use storage::Failure;
use storage::friend::Edge;
use uuid::Uuid;

use super::{Mutation, Query, Statement, big, id, int, known, limit_of, text};

/// The definition.
pub const TABLE: &str = "CREATE TABLE IF NOT EXISTS edges (
  user_id uuid, other_id uuid, state int, since_ns bigint, PRIMARY KEY ((user_id), other_id))";
/// The column that version 6 of the schema adds. It is missing in rows that were written before.
pub const METADATA: &str = "ALTER TABLE edges ADD metadata text";

pub(super) const ONE: &str = "SELECT state, since_ns, metadata FROM edges WHERE user_id = ? AND other_id = ?";
pub(super) const PAGE: &str =
    "SELECT other_id, state, since_ns, metadata FROM edges WHERE user_id = ? AND other_id > ? LIMIT ?";
pub(super) const PUT: &str =
    "INSERT INTO edges (user_id, other_id, state, since_ns, metadata) VALUES (?, ?, ?, ?, ?) USING TIMESTAMP ?";
/// As programs wrote before version 6. It is in their intents.
pub(super) const PUT_WITHOUT_METADATA: &str =
    "INSERT INTO edges (user_id, other_id, state, since_ns) VALUES (?, ?, ?, ?) USING TIMESTAMP ?";
pub(super) const DELETE: &str = "DELETE FROM edges USING TIMESTAMP ? WHERE user_id = ? AND other_id = ?";
pub(super) const DELETE_ALL: &str = "DELETE FROM edges USING TIMESTAMP ? WHERE user_id = ?";
pub(super) const COUNT: &str = "SELECT user_id FROM edges";

/// A state by number, and since when.
#[derive(DeserializeRow)]
#[scylla(flavor = "enforce_order")]
pub struct Row {
    state: i32,
    since_ns: i64,
    metadata: Option<String>,
}

/// The same with the other user.
#[derive(DeserializeRow)]
#[scylla(flavor = "enforce_order")]
pub struct OtherRow {
    pub other_id: Uuid,
    state: i32,
    since_ns: i64,
    metadata: Option<String>,
}

impl Row {
    /// Fails with [`Failure::Corrupt`] if there is no such state.
    pub fn edge(self) -> Result<Edge, Failure> {
        let metadata = self.metadata.unwrap_or_default().into();
        Ok(Edge { state: state(self.state)?, since: Timestamp(self.since_ns), metadata })
    }
}

impl OtherRow {
    /// Fails with [`Failure::Corrupt`] if there is no such state.
    pub fn edge(self) -> Result<Edge, Failure> {
        Row { state: self.state, since_ns: self.since_ns, metadata: self.metadata }.edge()
    }
}

/// The state with this number. Fails with [`Failure::Corrupt`] if there is none.
pub fn state(number: i32) -> Result<FriendState, Failure> {
    known("a friend's state", number, FriendState::from_number(number))
}

/// Writes how a user stands to another.
pub fn put(user: UserId, other: UserId, edge: &Edge) -> Mutation {
    let (state, since) = (int(edge.state as i32), big(edge.since.0));
    // An empty text replaces what was there; a value that is not set would not.
    Mutation::new(Statement::PutEdgeNoted, [id(user.0), id(other.0), state, since, text(&edge.metadata)])
}

/// Deletes how a user stands to another.
pub fn delete(user: UserId, other: UserId) -> Mutation {
    Mutation::new(Statement::DeleteEdge, [id(user.0), id(other.0)])
}

/// Deletes how a user stands to all others.
pub fn delete_all(user: UserId) -> Mutation {
    Mutation::new(Statement::DeleteEdges, [id(user.0)])
}

/// How a user stands to another.
pub fn one(user: UserId, other: UserId) -> Query<Row> {
    Query::new(Statement::Edge, [id(user.0), id(other.0)])
}

/// How a user stands to others, in the order of their ids, after an id.
pub fn page(user: UserId, after: Uuid, limit: usize) -> Query<OtherRow> {
    Query::new(Statement::Edges, [id(user.0), id(after), int(limit_of(limit))])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tables::tests::{check_delete, read_back, with_column};

    #[test]
    fn an_edge_comes_back() {
        let (user, other) = (UserId(Uuid::nil()), UserId(Uuid::max()));
        let table = with_column(TABLE, METADATA);
        for number in 0..4 {
            for metadata in ["", "{\"noted\":true}"] {
                let edge = Edge { state: state(number).unwrap(), since: Timestamp(-1), metadata: metadata.into() };
                let row = put(user, other, &edge);
                assert_eq!(read_back(table, &row, one(user, other)).edge(), Ok(edge.clone()));
                let found = read_back(table, &row, page(user, Uuid::nil(), 1));
                assert_eq!((found.other_id, found.edge()), (other.0, Ok(edge)));
                check_delete(&row, &delete(user, other));
                check_delete(&row, &delete_all(user));
            }
        }
        // A row from before version 6.
        let values = [id(user.0), id(other.0), int(0), big(1)];
        let row = Mutation::new(Statement::PutEdge, values);
        assert_eq!(&*read_back(table, &row, one(user, other)).edge().unwrap().metadata, "");
        assert!(matches!(state(4), Err(Failure::Corrupt(_))));
    }
}
