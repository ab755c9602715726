//! The table `user_groups`: a user's groups in the order of role and time.

use engine::id::{GroupId, Timestamp, UserId};
use scylla::DeserializeRow;
use storage::Failure;
use storage::group::{Membership, RosterPlace};
use uuid::Uuid;

use super::group_members::role;
use super::{Mutation, Query, Statement, big, id, int, limit_of, roster_places};

/// The definition.
pub const TABLE: &str = "CREATE TABLE IF NOT EXISTS user_groups (
  user_id uuid, role int, since_ns bigint, group_id uuid, PRIMARY KEY ((user_id), role, since_ns, group_id))";

pub(super) const BETWEEN: &str = "SELECT role, since_ns, group_id FROM user_groups WHERE user_id = ? AND (role, since_ns, group_id) >= (?, ?, ?) AND (role, since_ns, group_id) <= (?, ?, ?) LIMIT ?";
pub(super) const PUT: &str =
    "INSERT INTO user_groups (user_id, role, since_ns, group_id) VALUES (?, ?, ?, ?) USING TIMESTAMP ?";
pub(super) const DELETE: &str =
    "DELETE FROM user_groups USING TIMESTAMP ? WHERE user_id = ? AND role = ? AND since_ns = ? AND group_id = ?";
pub(super) const DELETE_ALL: &str = "DELETE FROM user_groups USING TIMESTAMP ? WHERE user_id = ?";

/// An entry of the list.
#[derive(DeserializeRow)]
#[scylla(flavor = "enforce_order")]
pub struct Row {
    role: i32,
    since_ns: i64,
    group_id: Uuid,
}

impl Row {
    /// Fails with [`Failure::Corrupt`] if there is no such role.
    pub fn place(self) -> Result<RosterPlace, Failure> {
        Ok(RosterPlace { role: role(self.role)?, since: Timestamp(self.since_ns), id: self.group_id })
    }

    /// Writes the entry unchanged.
    pub fn put_again(self, user: UserId) -> Mutation {
        let key = [id(user.0), int(self.role), big(self.since_ns), id(self.group_id)];
        Mutation::new(Statement::PutUserGroup, key)
    }
}

/// Writes the entry of a group.
pub fn put(user: UserId, group: GroupId, membership: Membership) -> Mutation {
    Mutation::new(Statement::PutUserGroup, key(user, group, membership))
}

/// Deletes what [`put`] wrote for the same membership.
pub fn delete(user: UserId, group: GroupId, membership: Membership) -> Mutation {
    Mutation::new(Statement::DeleteUserGroup, key(user, group, membership))
}

fn key(user: UserId, group: GroupId, membership: Membership) -> [scylla::value::CqlValue; 4] {
    [id(user.0), int(membership.role as i32), big(membership.since.0), id(group.0)]
}

/// Deletes all entries of a user.
pub fn delete_all(user: UserId) -> Mutation {
    Mutation::new(Statement::DeleteUserGroups, [id(user.0)])
}

/// The first entries between two places, both included.
pub fn between(user: UserId, places: [RosterPlace; 2], limit: usize) -> Query<Row> {
    let values: Vec<_> = [id(user.0)].into_iter().chain(roster_places(places)).chain([int(limit_of(limit))]).collect();
    Query::new(Statement::UserGroups, values)
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
            let membership = Membership { role, since: Timestamp(i64::MAX) };
            let row = put(user, group, membership);
            let query = between(user, RosterPlace::span(None), 1);
            assert_eq!(query.values.len(), 8);
            assert_eq!(read_back(TABLE, &row, query.clone()).place(), Ok(membership.place(group.0)));
            assert_eq!(read_back(TABLE, &row, query).put_again(user), row);
            check_delete(&row, &delete(user, group, membership));
            check_delete(&row, &delete_all(user));
        }
    }
}
