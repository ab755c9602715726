//! The table `inboxes`: the facts about a user's notifications as a whole. A missing id is the nil UUID.

use engine::id::{NotificationId, UserId};
use scylla::DeserializeRow;
use storage::inbox::Inbox;
use uuid::Uuid;

use super::{Mutation, Query, Statement, id, int};

/// The definition.
pub const TABLE: &str =
    "CREATE TABLE IF NOT EXISTS inboxes (user_id uuid PRIMARY KEY, count int, last_id uuid, floor_id uuid)";

pub(super) const ONE: &str = "SELECT count, last_id, floor_id FROM inboxes WHERE user_id = ?";
pub(super) const PUT: &str =
    "INSERT INTO inboxes (user_id, count, last_id, floor_id) VALUES (?, ?, ?, ?) USING TIMESTAMP ?";
pub(super) const DELETE: &str = "DELETE FROM inboxes USING TIMESTAMP ? WHERE user_id = ?";
pub(super) const COUNT: &str = "SELECT user_id FROM inboxes";

/// A user's facts.
#[derive(DeserializeRow)]
#[scylla(flavor = "enforce_order")]
pub struct Row {
    count: i32,
    last_id: Uuid,
    floor_id: Uuid,
}

impl Row {
    /// The facts.
    pub fn inbox(self) -> Inbox {
        let some = |id: Uuid| (!id.is_nil()).then_some(NotificationId(id));
        Inbox { count: self.count as u32, last: some(self.last_id), floor: some(self.floor_id) }
    }
}

/// Writes the facts about a user's notifications as a whole.
pub fn put(user: UserId, inbox: Inbox) -> Mutation {
    debug_assert!(inbox.floor <= inbox.last, "the newest id comes after every other: {inbox:?}");
    let of = |notification: Option<NotificationId>| id(notification.map_or(Uuid::nil(), |notification| notification.0));
    Mutation::new(Statement::PutInbox, [id(user.0), int(inbox.count as i32), of(inbox.last), of(inbox.floor)])
}

/// Deletes the facts of a user. The notifications have rows of their own.
pub fn delete(user: UserId) -> Mutation {
    Mutation::new(Statement::DeleteInbox, [id(user.0)])
}

/// The facts of a user.
pub fn one(user: UserId) -> Query<Row> {
    Query::new(Statement::Inbox, [id(user.0)])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tables::tests::{check_delete, read_back};

    #[test]
    fn facts_come_back() {
        let user = UserId(Uuid::max());
        let [one_id, next] = [1, 2].map(|number| Some(NotificationId(Uuid::from_u128(number))));
        for (count, last, floor) in [(0, None, None), (1, one_id, None), (u32::MAX, next, one_id)] {
            let inbox = Inbox { count, last, floor };
            let row = put(user, inbox);
            assert_eq!(read_back(TABLE, &row, one(user)).inbox(), inbox);
            check_delete(&row, &delete(user));
        }
    }
}
