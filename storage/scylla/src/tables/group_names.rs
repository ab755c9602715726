//! The table `group_names`: which group has a name. Written by lightweight transactions only, so that each name has one
//! owner.

use engine::id::GroupId;
use uuid::Uuid;

use super::{Mutation, Query, Statement, id, text};

/// The definition. Conditional.
pub const TABLE: &str = "CREATE TABLE IF NOT EXISTS group_names (name text PRIMARY KEY, group_id uuid)";

pub(super) const OWNER: &str = "SELECT group_id FROM group_names WHERE name = ?";
pub(super) const CLAIM: &str = "INSERT INTO group_names (name, group_id) VALUES (?, ?) IF NOT EXISTS";
pub(super) const TAKE: &str = "UPDATE group_names SET group_id = ? WHERE name = ? IF group_id = ?";
pub(super) const RELEASE: &str = "DELETE FROM group_names WHERE name = ? IF group_id = ?";
pub(super) const COUNT: &str = "SELECT group_id FROM group_names";

/// The group that has claimed the name. The name is free if the group has another one, or does not exist.
pub fn owner(name: &str) -> Query<(Uuid,)> {
    Query::new(Statement::GroupName, [text(name)])
}

/// A lightweight transaction that writes the name if no group has it.
pub fn claim(name: &str, group: GroupId) -> Mutation {
    Mutation::new(Statement::ClaimGroupName, [text(name), id(group.0)])
}

/// A lightweight transaction that gives the name to a group if it is still `orphan`'s, which does not use it.
pub fn take(name: &str, group: GroupId, orphan: Uuid) -> Mutation {
    Mutation::new(Statement::TakeGroupName, [id(group.0), text(name), id(orphan)])
}

/// A lightweight transaction that frees the name if it is this group's.
pub fn release(name: &str, group: GroupId) -> Mutation {
    Mutation::new(Statement::ReleaseGroupName, [text(name), id(group.0)])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tables::tests::{check_delete, read_back};

    #[test]
    fn an_owner_comes_back() {
        let [one, other] = [1, 2].map(|number| GroupId(Uuid::from_u128(number)));
        for (row, group) in [(claim("ä", one), one), (take("ä", other, one.0), other)] {
            assert_eq!(read_back(TABLE, &row, owner("ä")), (group.0,));
            check_delete(&row, &release("ä", group));
        }
    }
}
