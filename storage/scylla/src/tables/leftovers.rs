//! The table `leftovers`: deleted groups and users of which rows are still to be removed. Kind 0: a group, with its
//! shards. Kind 1: a user.

use engine::id::{GroupId, UserId};
use scylla::DeserializeRow;
use uuid::Uuid;

use super::{Mutation, Query, Statement, id, int, limit_of};

/// The definition.
pub const TABLE: &str =
    "CREATE TABLE IF NOT EXISTS leftovers (kind int, id uuid, shards int, PRIMARY KEY ((kind), id))";

pub(super) const OF_KIND: &str = "SELECT id, shards FROM leftovers WHERE kind = ? AND id > ? LIMIT ?";
pub(super) const PUT: &str = "INSERT INTO leftovers (kind, id, shards) VALUES (?, ?, ?) USING TIMESTAMP ?";
pub(super) const DELETE: &str = "DELETE FROM leftovers USING TIMESTAMP ? WHERE kind = ? AND id = ?";

const GROUP: i32 = 0;
const USER: i32 = 1;

/// A deleted thing of which rows are still to be removed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Leftover {
    Group {
        group: GroupId,
        /// How many partitions its members are in.
        shards: i32,
    },
    User(UserId),
}

/// A leftover's columns, without its kind.
#[derive(DeserializeRow)]
#[scylla(flavor = "enforce_order")]
pub struct Row {
    id: Uuid,
    shards: Option<i32>,
}

impl Leftover {
    /// The id of what was deleted, by which its kind is ordered.
    pub fn id(self) -> Uuid {
        key(self).1
    }
}

impl Row {
    /// The leftover, if the row was read by [`groups`].
    pub fn group(self) -> Leftover {
        Leftover::Group { group: GroupId(self.id), shards: self.shards.unwrap_or(1).max(1) }
    }

    /// The leftover, if the row was read by [`users`].
    pub fn user(self) -> Leftover {
        Leftover::User(UserId(self.id))
    }
}

fn key(leftover: Leftover) -> (i32, Uuid) {
    match leftover {
        Leftover::Group { group, .. } => (GROUP, group.0),
        Leftover::User(user) => (USER, user.0),
    }
}

/// Notes a leftover.
pub fn put(leftover: Leftover) -> Mutation {
    let (kind, of) = key(leftover);
    let shards = match leftover {
        Leftover::Group { shards, .. } => shards,
        Leftover::User(_) => 0,
    };
    Mutation::new(Statement::PutLeftover, [int(kind), id(of), int(shards)])
}

/// Deletes the note of a leftover.
pub fn delete(leftover: Leftover) -> Mutation {
    let (kind, of) = key(leftover);
    Mutation::new(Statement::DeleteLeftover, [int(kind), id(of)])
}

/// Groups of which there are leftovers, after an id.
pub fn groups(after: Uuid, limit: usize) -> Query<Row> {
    Query::new(Statement::Leftovers, [int(GROUP), id(after), int(limit_of(limit))])
}

/// Users of whom there are leftovers, after an id.
pub fn users(after: Uuid, limit: usize) -> Query<Row> {
    Query::new(Statement::Leftovers, [int(USER), id(after), int(limit_of(limit))])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tables::tests::{check_delete, read_back};

    #[test]
    fn a_leftover_comes_back() {
        let group = Leftover::Group { group: GroupId(Uuid::max()), shards: 128 };
        assert_eq!(read_back(TABLE, &put(group), groups(Uuid::nil(), 1)).group(), group);
        let user = Leftover::User(UserId(Uuid::max()));
        assert_eq!(read_back(TABLE, &put(user), users(Uuid::nil(), 1)).user(), user);
        for leftover in [group, user] {
            check_delete(&put(leftover), &delete(leftover));
        }
    }
}
