//! The table `group_counts`: in how many groups a user has a role other than banned. A user without a row has not been
//! counted yet: the table came with version 3 of the schema.

use engine::id::UserId;

use super::{Mutation, Query, Statement, id, int};

/// The definition.
pub const TABLE: &str = "CREATE TABLE IF NOT EXISTS group_counts (user_id uuid PRIMARY KEY, group_count int)";

pub(super) const ONE: &str = "SELECT group_count FROM group_counts WHERE user_id = ?";
pub(super) const PUT: &str = "INSERT INTO group_counts (user_id, group_count) VALUES (?, ?) USING TIMESTAMP ?";
pub(super) const DELETE: &str = "DELETE FROM group_counts USING TIMESTAMP ? WHERE user_id = ?";

/// Writes in how many groups a user is.
pub fn put(user: UserId, count: u32) -> Mutation {
    Mutation::new(Statement::PutGroupCount, [id(user.0), int(count as i32)])
}

/// Deletes the count of a user.
pub fn delete(user: UserId) -> Mutation {
    Mutation::new(Statement::DeleteGroupCount, [id(user.0)])
}

/// The count of a user.
pub fn one(user: UserId) -> Query<(i32,)> {
    Query::new(Statement::GroupCount, [id(user.0)])
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;
    use crate::tables::tests::{check_delete, read_back};

    #[test]
    fn a_count_comes_back() {
        let user = UserId(Uuid::max());
        for count in [0, 1000] {
            let row = put(user, count);
            assert_eq!(read_back(TABLE, &row, one(user)), (count as i32,));
            check_delete(&row, &delete(user));
        }
    }
}
