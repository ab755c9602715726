//! The table `group_list`: all groups in the order of their names, for browsing. The shard is a hash of the group's id.

use scylla::DeserializeRow;
use storage::group::{Group, GroupPlace};
use uuid::Uuid;

use super::{Mutation, Query, Statement, bytes, id, int, limit_of, shard_of};

/// The definition. The place is the folded name and the id.
pub const TABLE: &str = "CREATE TABLE IF NOT EXISTS group_list (
  shard int, place blob, group_id uuid, PRIMARY KEY ((shard), place))";

pub(super) const PAGE: &str = "SELECT place, group_id FROM group_list WHERE shard = ? AND place > ? LIMIT ?";
pub(super) const PUT: &str = "INSERT INTO group_list (shard, place, group_id) VALUES (?, ?, ?) USING TIMESTAMP ?";
pub(super) const DELETE: &str = "DELETE FROM group_list USING TIMESTAMP ? WHERE shard = ? AND place = ?";

/// Shards of the list.
pub const SHARDS: i32 = 16;

/// An entry.
#[derive(Clone, PartialEq, Eq, Debug, DeserializeRow)]
#[scylla(flavor = "enforce_order")]
pub struct Entry {
    pub place: Vec<u8>,
    pub group_id: Uuid,
}

/// Writes a group's entry.
pub fn put(group: &Group) -> Mutation {
    let place = GroupPlace::of(group);
    let shard = shard_of(group.id.0, SHARDS);
    Mutation::new(Statement::PutGroupList, [int(shard), bytes(place.as_bytes()), id(group.id.0)])
}

/// Deletes a group's entry. The group must be as it was when the entry was written.
pub fn delete(group: &Group) -> Mutation {
    let place = GroupPlace::of(group);
    Mutation::new(Statement::DeleteGroupList, [int(shard_of(group.id.0, SHARDS)), bytes(place.as_bytes())])
}

/// Entries of one shard after a place.
pub fn page(shard: i32, after: &[u8], limit: usize) -> Query<Entry> {
    debug_assert!((0..SHARDS).contains(&shard), "there is no shard {shard}");
    Query::new(Statement::GroupList, [int(shard), bytes(after), int(limit_of(limit))])
}

#[cfg(test)]
mod tests {
    use engine::id::{GroupId, Timestamp, UserId};

    use super::*;
    use crate::tables::tests::{check_delete, read_back};

    #[test]
    fn an_entry_comes_back() {
        let group = Group {
            id: GroupId(Uuid::from_u128(7)),
            creator: UserId(Uuid::nil()),
            name: "Ä name".into(),
            description: String::new(),
            lang_tag: String::new(),
            metadata: String::new(),
            avatar_url: String::new(),
            open: true,
            edge_count: 1,
            max_count: 1,
            create_time: Timestamp(0),
            update_time: Timestamp(0),
        };
        let row = put(&group);
        let found = read_back(TABLE, &row, page(shard_of(group.id.0, SHARDS), b"", 1));
        assert_eq!((GroupPlace::from(found.place), found.group_id), (GroupPlace::of(&group), group.id.0));
        check_delete(&row, &delete(&group));
    }
}
