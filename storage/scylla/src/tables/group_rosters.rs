//! The table `group_rosters`: a group's members in the order of role and time. The shards are those of `group_members`.

use engine::id::{GroupId, Timestamp, UserId};
use scylla::DeserializeRow;
use storage::Failure;
use storage::group::{Membership, RosterPlace};
use uuid::Uuid;

use super::group_members::role;
use super::{Mutation, Query, Statement, big, id, int, limit_of, roster_places, shard_of};

/// The definition.
pub const TABLE: &str = "CREATE TABLE IF NOT EXISTS group_rosters (
  group_id uuid, shard int, role int, since_ns bigint, user_id uuid,
  PRIMARY KEY ((group_id, shard), role, since_ns, user_id))";

pub(super) const BETWEEN: &str = "SELECT role, since_ns, user_id FROM group_rosters WHERE group_id = ? AND shard = ? AND (role, since_ns, user_id) >= (?, ?, ?) AND (role, since_ns, user_id) <= (?, ?, ?) LIMIT ?";
pub(super) const PUT: &str =
    "INSERT INTO group_rosters (group_id, shard, role, since_ns, user_id) VALUES (?, ?, ?, ?, ?) USING TIMESTAMP ?";
pub(super) const DELETE: &str = "DELETE FROM group_rosters USING TIMESTAMP ? WHERE group_id = ? AND shard = ? AND role = ? AND since_ns = ? AND user_id = ?";
pub(super) const DELETE_ALL: &str = "DELETE FROM group_rosters USING TIMESTAMP ? WHERE group_id = ? AND shard = ?";

/// An entry of the list.
#[derive(DeserializeRow)]
#[scylla(flavor = "enforce_order")]
pub struct Row {
    role: i32,
    since_ns: i64,
    user_id: Uuid,
}

impl Row {
    /// Fails with [`Failure::Corrupt`] if there is no such role.
    pub fn place(self) -> Result<RosterPlace, Failure> {
        Ok(RosterPlace { role: role(self.role)?, since: Timestamp(self.since_ns), id: self.user_id })
    }

    /// Writes the entry unchanged.
    pub fn put_again(self, group: GroupId, shard: i32) -> Mutation {
        let key = [id(group.0), int(shard), int(self.role), big(self.since_ns), id(self.user_id)];
        Mutation::new(Statement::PutRoster, key)
    }
}

/// Writes the entry of a user in a group of so many shards.
pub fn put(group: GroupId, shards: i32, user: UserId, membership: Membership) -> Mutation {
    Mutation::new(Statement::PutRoster, key(group, shards, user, membership))
}

/// Deletes what [`put`] wrote for the same membership.
pub fn delete(group: GroupId, shards: i32, user: UserId, membership: Membership) -> Mutation {
    Mutation::new(Statement::DeleteRoster, key(group, shards, user, membership))
}

fn key(group: GroupId, shards: i32, user: UserId, membership: Membership) -> [scylla::value::CqlValue; 5] {
    let (shard, role, since) = (shard_of(user.0, shards), membership.role as i32, membership.since.0);
    [id(group.0), int(shard), int(role), big(since), id(user.0)]
}

/// Deletes all entries of one shard of a group.
pub fn delete_shard(group: GroupId, shard: i32) -> Mutation {
    Mutation::new(Statement::DeleteRosters, [id(group.0), int(shard)])
}

/// The first entries of one shard between two places, both included.
pub fn between(group: GroupId, shard: i32, places: [RosterPlace; 2], limit: usize) -> Query<Row> {
    let values: Vec<_> =
        [id(group.0), int(shard)].into_iter().chain(roster_places(places)).chain([int(limit_of(limit))]).collect();
    Query::new(Statement::Roster, values)
}

#[cfg(test)]
mod tests {
    use engine::social::group::Role;

    use super::*;
    use crate::tables::tests::{check_delete, read_back};

    #[test]
    fn an_entry_comes_back() {
        let (group, user) = (GroupId(Uuid::nil()), UserId(Uuid::max()));
        for role in [Role::Superadmin, Role::Admin, Role::Member, Role::JoinRequest, Role::Banned] {
            let membership = Membership { role, since: Timestamp(i64::MIN) };
            let row = put(group, 9, user, membership);
            let query = between(group, shard_of(user.0, 9), RosterPlace::span(None), 1);
            assert_eq!(query.values.len(), 9);
            assert_eq!(read_back(TABLE, &row, query.clone()).place(), Ok(membership.place(user.0)));
            assert_eq!(read_back(TABLE, &row, query).put_again(group, shard_of(user.0, 9)), row);
            check_delete(&row, &delete(group, 9, user, membership));
            check_delete(&row, &delete_shard(group, shard_of(user.0, 9)));
        }
    }
}
