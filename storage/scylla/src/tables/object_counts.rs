//! The table `object_counts`: how many objects a user has, and their bytes.

use engine::id::UserId;
use scylla::DeserializeRow;
use storage::object::ObjectCounts;

use super::{Mutation, Query, Statement, big, id, int};

/// The definition.
pub const TABLE: &str =
    "CREATE TABLE IF NOT EXISTS object_counts (user_id uuid PRIMARY KEY, objects int, object_bytes bigint)";

pub(super) const ONE: &str = "SELECT objects, object_bytes FROM object_counts WHERE user_id = ?";
pub(super) const PUT: &str =
    "INSERT INTO object_counts (user_id, objects, object_bytes) VALUES (?, ?, ?) USING TIMESTAMP ?";
pub(super) const DELETE: &str = "DELETE FROM object_counts USING TIMESTAMP ? WHERE user_id = ?";
pub(super) const COUNT: &str = "SELECT user_id FROM object_counts";

/// A user's counts.
#[derive(DeserializeRow)]
#[scylla(flavor = "enforce_order")]
pub struct Row {
    objects: i32,
    object_bytes: i64,
}

impl Row {
    /// The counts.
    pub fn counts(self) -> ObjectCounts {
        ObjectCounts { objects: self.objects as u32, bytes: self.object_bytes as u64 }
    }
}

/// Writes how many objects a user has.
pub fn put(owner: UserId, counts: ObjectCounts) -> Mutation {
    Mutation::new(Statement::PutObjectCounts, [id(owner.0), int(counts.objects as i32), big(counts.bytes as i64)])
}

/// Deletes the counts of a user.
pub fn delete(owner: UserId) -> Mutation {
    Mutation::new(Statement::DeleteObjectCounts, [id(owner.0)])
}

/// The counts of a user.
pub fn one(owner: UserId) -> Query<Row> {
    Query::new(Statement::ObjectCounts, [id(owner.0)])
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;
    use crate::tables::tests::{check_delete, read_back};

    #[test]
    fn counts_come_back() {
        let owner = UserId(Uuid::max());
        for counts in [ObjectCounts::default(), ObjectCounts { objects: 1000, bytes: 1 << 40 }] {
            let row = put(owner, counts);
            assert_eq!(read_back(TABLE, &row, one(owner)).counts(), counts);
            check_delete(&row, &delete(owner));
        }
    }
}
