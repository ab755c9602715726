//! The table `group_members`: which role a user has in a group, and since when. The shard is a hash of the user's id; the
//! number of shards depends on the group's seats.

use engine::id::{GroupId, Timestamp, UserId};
use engine::social::group::Role;
use scylla::DeserializeRow;
use storage::Failure;
use storage::group::Membership;

use super::{Mutation, Query, Statement, big, id, int, known, shard_of};

/// The definition.
pub const TABLE: &str = "CREATE TABLE IF NOT EXISTS group_members (
  group_id uuid, shard int, user_id uuid, role int, since_ns bigint, PRIMARY KEY ((group_id, shard), user_id))";

pub(super) const ONE: &str =
    "SELECT role, since_ns FROM group_members WHERE group_id = ? AND shard = ? AND user_id = ?";
pub(super) const PUT: &str =
    "INSERT INTO group_members (group_id, shard, user_id, role, since_ns) VALUES (?, ?, ?, ?, ?) USING TIMESTAMP ?";
pub(super) const DELETE: &str =
    "DELETE FROM group_members USING TIMESTAMP ? WHERE group_id = ? AND shard = ? AND user_id = ?";
pub(super) const DELETE_ALL: &str = "DELETE FROM group_members USING TIMESTAMP ? WHERE group_id = ? AND shard = ?";
pub(super) const COUNT: &str = "SELECT user_id FROM group_members";

/// A role by number, and since when.
#[derive(DeserializeRow)]
#[scylla(flavor = "enforce_order")]
pub struct Row {
    role: i32,
    since_ns: i64,
}

impl Row {
    /// Fails with [`Failure::Corrupt`] if there is no such role.
    pub fn membership(self) -> Result<Membership, Failure> {
        Ok(Membership { role: role(self.role)?, since: Timestamp(self.since_ns) })
    }
}

/// The role with this number. Fails with [`Failure::Corrupt`] if there is none.
pub fn role(number: i32) -> Result<Role, Failure> {
    known("a role", number, Role::from_number(number))
}

/// Writes the role of a user in a group of so many shards.
pub fn put(group: GroupId, shards: i32, user: UserId, membership: Membership) -> Mutation {
    let (shard, role, since) = (shard_of(user.0, shards), membership.role as i32, membership.since.0);
    Mutation::new(Statement::PutMember, [id(group.0), int(shard), id(user.0), int(role), big(since)])
}

/// Deletes the row of a user in a group.
pub fn delete(group: GroupId, shards: i32, user: UserId) -> Mutation {
    Mutation::new(Statement::DeleteMember, [id(group.0), int(shard_of(user.0, shards)), id(user.0)])
}

/// Deletes all rows of one shard of a group.
pub fn delete_shard(group: GroupId, shard: i32) -> Mutation {
    Mutation::new(Statement::DeleteMembers, [id(group.0), int(shard)])
}

/// The role of a user in a group of so many shards.
pub fn one(group: GroupId, shards: i32, user: UserId) -> Query<Row> {
    Query::new(Statement::Member, [id(group.0), int(shard_of(user.0, shards)), id(user.0)])
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;
    use crate::tables::tests::{check_delete, read_back};

    #[test]
    fn a_role_comes_back() {
        let (group, user) = (GroupId(Uuid::nil()), UserId(Uuid::max()));
        for role in [Role::Superadmin, Role::Admin, Role::Member, Role::JoinRequest, Role::Banned] {
            let expected = Membership { role, since: Timestamp(-7) };
            let row = put(group, 5, user, expected);
            assert_eq!(read_back(TABLE, &row, one(group, 5, user)).membership(), Ok(expected));
            check_delete(&row, &delete(group, 5, user));
            check_delete(&row, &delete_shard(group, shard_of(user.0, 5)));
        }
        assert!(matches!(role(5), Err(Failure::Corrupt(_))));
    }
}
