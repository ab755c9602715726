//! The rows of the database, and their conversion to domain types. A row has its fields in the order of its statement.

use engine::id::{NotificationId, Timestamp, UserId};
use engine::social::friend::FriendState;
use engine::social::notification::{Notification, NotificationCode};
use scylla::DeserializeRow;
use storage::Failure;
use storage::friend::Edge;
use uuid::Uuid;

/// A notification's columns.
#[derive(DeserializeRow)]
#[scylla(flavor = "enforce_order")]
pub struct NotificationRow {
    notification_id: Uuid,
    subject: String,
    content: String,
    code: i32,
    sender_id: Uuid,
    create_ns: i64,
}

/// A row of `notifications`. Fails with [`Failure::Corrupt`] if the code is unknown.
pub fn notification(row: NotificationRow) -> Result<Notification, Failure> {
    Ok(Notification {
        id: NotificationId(row.notification_id),
        subject: row.subject.into(),
        content: row.content.into(),
        code: known("a notification's code", row.code, NotificationCode::from_number(row.code))?,
        sender: UserId(row.sender_id),
        create_time: Timestamp(row.create_ns),
    })
}

/// A friend's state by number, and since when in nanoseconds. Fails with [`Failure::Corrupt`] if there is no such
/// state.
pub fn edge(state: i32, since: i64) -> Result<Edge, Failure> {
    Ok(Edge { state: known("a friend's state", state, FriendState::from_number(state))?, since: Timestamp(since) })
}

fn known<T>(what: &str, number: i32, found: Option<T>) -> Result<T, Failure> {
    found.ok_or_else(|| Failure::Corrupt(format!("{what} in the database is {number}, which is none")))
}
