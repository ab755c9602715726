//! The table `groups`.

use engine::id::{GroupId, Timestamp, UserId};
use scylla::DeserializeRow;
use storage::group::Group;
use uuid::Uuid;

use super::{Mutation, Query, Statement, big, flag, id, int, limit_of, text};

/// The definition.
pub const TABLE: &str = "CREATE TABLE IF NOT EXISTS groups (
  group_id uuid PRIMARY KEY, creator_id uuid, name text, description text, lang_tag text, metadata text,
  avatar_url text, open boolean, edge_count int, max_count int, create_ns bigint, update_ns bigint)";

pub(super) const ONE: &str = "SELECT creator_id, name, description, lang_tag, metadata, avatar_url, open, edge_count, max_count, create_ns, update_ns FROM groups WHERE group_id = ?";
pub(super) const PUT: &str = "INSERT INTO groups (group_id, creator_id, name, description, lang_tag, metadata, avatar_url, open, edge_count, max_count, create_ns, update_ns) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?) USING TIMESTAMP ?";
pub(super) const DELETE: &str = "DELETE FROM groups USING TIMESTAMP ? WHERE group_id = ?";
pub(super) const COUNT: &str = "SELECT group_id FROM groups";
pub(super) const IDS_FROM: &str = "SELECT TOKEN(group_id), group_id FROM groups WHERE TOKEN(group_id) > ? LIMIT ?";

/// A group's columns.
#[derive(DeserializeRow)]
#[scylla(flavor = "enforce_order")]
pub struct Row {
    creator_id: Uuid,
    name: String,
    description: String,
    lang_tag: String,
    metadata: String,
    avatar_url: String,
    open: bool,
    edge_count: i32,
    max_count: i32,
    create_ns: i64,
    update_ns: i64,
}

impl Row {
    /// The group, whose id is the row's key.
    pub fn group(self, id: GroupId) -> Group {
        Group {
            id,
            creator: UserId(self.creator_id),
            name: self.name,
            description: self.description,
            lang_tag: self.lang_tag,
            metadata: self.metadata,
            avatar_url: self.avatar_url,
            open: self.open,
            edge_count: self.edge_count as u32,
            max_count: self.max_count as u32,
            create_time: Timestamp(self.create_ns),
            update_time: Timestamp(self.update_ns),
        }
    }
}

/// Writes the row of a group, with all columns.
pub fn put(group: &Group) -> Mutation {
    Mutation::new(
        Statement::PutGroup,
        [
            id(group.id.0),
            id(group.creator.0),
            text(&group.name),
            text(&group.description),
            text(&group.lang_tag),
            text(&group.metadata),
            text(&group.avatar_url),
            flag(group.open),
            int(group.edge_count as i32),
            int(group.max_count as i32),
            big(group.create_time.0),
            big(group.update_time.0),
        ],
    )
}

/// Deletes the row of a group. Its name, its listing and its members have rows of their own.
pub fn delete(group: GroupId) -> Mutation {
    Mutation::new(Statement::DeleteGroup, [id(group.0)])
}

/// One group.
pub fn one(group: GroupId) -> Query<Row> {
    Query::new(Statement::Group, [id(group.0)])
}

/// Groups, each with the token, in the order of tokens, after a token.
pub fn after(token: i64, limit: usize) -> Query<(i64, Uuid)> {
    Query::new(Statement::GroupIdsFrom, [big(token), int(limit_of(limit))])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tables::tests::{check_delete, read_back};

    #[test]
    fn a_group_comes_back() {
        for (open, edge_count, max_count) in [(true, 1, 100), (false, 0, u32::MAX)] {
            let group = Group {
                id: GroupId(Uuid::from_u128(7)),
                creator: UserId(Uuid::max()),
                name: "a name".into(),
                description: "a description".into(),
                lang_tag: "de".into(),
                metadata: "{}".into(),
                avatar_url: "an address".into(),
                open,
                edge_count,
                max_count,
                create_time: Timestamp(i64::MIN),
                update_time: Timestamp(5),
            };
            let row = put(&group);
            assert_eq!(read_back(TABLE, &row, one(group.id)).group(group.id), group);
            assert_eq!(read_back(TABLE, &row, after(0, 1)), (8, group.id.0));
            check_delete(&row, &delete(group.id));
        }
    }
}
