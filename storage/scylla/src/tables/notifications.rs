//! The table `notifications`: a user's notifications in the order of their ids.

use engine::id::{NotificationId, Timestamp, UserId};
use engine::social::notification::{Notification, NotificationCode};
use scylla::DeserializeRow;
use storage::Failure;
use uuid::Uuid;

use super::{Mutation, Query, Statement, big, id, int, known, limit_of, text};

/// The definition.
pub const TABLE: &str = "CREATE TABLE IF NOT EXISTS notifications (
  user_id uuid, notification_id uuid, subject text, content text, code int, sender_id uuid, create_ns bigint,
  PRIMARY KEY ((user_id), notification_id))";

pub(super) const PAGE: &str = "SELECT notification_id, subject, content, code, sender_id, create_ns FROM notifications WHERE user_id = ? AND notification_id > ? LIMIT ?";
pub(super) const ONE: &str = "SELECT notification_id, subject, content, code, sender_id, create_ns FROM notifications WHERE user_id = ? AND notification_id = ?";
pub(super) const PUT: &str = "INSERT INTO notifications (user_id, notification_id, subject, content, code, sender_id, create_ns) VALUES (?, ?, ?, ?, ?, ?, ?) USING TIMESTAMP ?";
pub(super) const DELETE: &str = "DELETE FROM notifications USING TIMESTAMP ? WHERE user_id = ? AND notification_id = ?";
pub(super) const DELETE_ALL: &str = "DELETE FROM notifications USING TIMESTAMP ? WHERE user_id = ?";
pub(super) const COUNT: &str = "SELECT notification_id FROM notifications";

/// A notification's columns.
#[derive(DeserializeRow)]
#[scylla(flavor = "enforce_order")]
pub struct Row {
    notification_id: Uuid,
    subject: String,
    content: String,
    code: i32,
    sender_id: Uuid,
    create_ns: i64,
}

impl Row {
    /// The notification. Fails with [`Failure::Corrupt`] if the code is unknown.
    pub fn notification(self) -> Result<Notification, Failure> {
        Ok(Notification {
            id: NotificationId(self.notification_id),
            subject: self.subject.into(),
            content: self.content.into(),
            code: known("a notification's code", self.code, NotificationCode::from_number(self.code))?,
            sender: UserId(self.sender_id),
            create_time: Timestamp(self.create_ns),
        })
    }
}

/// Writes one notification of a user.
pub fn put(user: UserId, notification: &Notification) -> Mutation {
    Mutation::new(
        Statement::PutNotification,
        [
            id(user.0),
            id(notification.id.0),
            text(&notification.subject),
            text(&notification.content),
            int(notification.code as i32),
            id(notification.sender.0),
            big(notification.create_time.0),
        ],
    )
}

/// Deletes one notification of a user. The inbox's count is a row of its own.
pub fn delete(user: UserId, notification: NotificationId) -> Mutation {
    Mutation::new(Statement::DeleteNotification, [id(user.0), id(notification.0)])
}

/// Deletes all notifications of a user.
pub fn delete_all(user: UserId) -> Mutation {
    Mutation::new(Statement::DeleteNotifications, [id(user.0)])
}

/// One notification of a user.
pub fn one(user: UserId, notification: NotificationId) -> Query<Row> {
    Query::new(Statement::Notification, [id(user.0), id(notification.0)])
}

/// Notifications of a user after an id, in the order of the database, which compares the versions of ids first.
pub fn page(user: UserId, after: Uuid, limit: usize) -> Query<Row> {
    Query::new(Statement::Notifications, [id(user.0), id(after), int(limit_of(limit))])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tables::tests::{check_delete, read_back};

    #[test]
    fn a_notification_comes_back() {
        let user = UserId(Uuid::nil());
        let expected = Notification {
            id: NotificationId(Uuid::max()),
            subject: "a subject".into(),
            content: "{}".into(),
            code: NotificationCode::FriendRemoved,
            sender: UserId(Uuid::from_u128(7)),
            create_time: Timestamp(-1),
        };
        let mut row = put(user, &expected);
        for query in [one(user, expected.id), page(user, Uuid::nil(), 1)] {
            assert_eq!(read_back(TABLE, &row, query).notification().as_ref(), Ok(&expected));
        }
        check_delete(&row, &delete(user, expected.id));
        check_delete(&row, &delete_all(user));
        row.values[4] = int(7);
        let found = read_back(TABLE, &row, one(user, expected.id)).notification();
        assert!(matches!(found, Err(Failure::Corrupt(_))), "{found:?}");
    }
}
