//! The rows of the database, and their conversion to domain types. A row has its fields in the order of its statement.

use engine::id::{GroupId, NotificationId, Timestamp, UserId};
use engine::social::friend::FriendState;
use engine::social::group::Role;
use engine::social::notification::{Notification, NotificationCode};
use scylla::DeserializeRow;
use storage::Failure;
use storage::friend::Edge;
use storage::group::{Group, Membership};
use uuid::Uuid;

/// A group's columns.
#[derive(DeserializeRow)]
#[scylla(flavor = "enforce_order")]
pub struct GroupRow {
    creator_id: Uuid,
    name: String,
    description: String,
    lang_tag: String,
    metadata: String,
    avatar_url: String,
    open: bool,
    edge_count: i32,
    max_count: i32,
    create_ns: i64,
    update_ns: i64,
}

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

/// A row of `groups`, whose key is the id.
pub fn group(id: GroupId, row: GroupRow) -> Group {
    Group {
        id,
        creator: UserId(row.creator_id),
        name: row.name,
        description: row.description,
        lang_tag: row.lang_tag,
        metadata: row.metadata,
        avatar_url: row.avatar_url,
        open: row.open,
        edge_count: row.edge_count as u32,
        max_count: row.max_count as u32,
        create_time: Timestamp(row.create_ns),
        update_time: Timestamp(row.update_ns),
    }
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

/// A role by number, and since when in nanoseconds. Fails with [`Failure::Corrupt`] if there is no such role.
pub fn membership(role_number: i32, since: i64) -> Result<Membership, Failure> {
    Ok(Membership { role: role(role_number)?, since: Timestamp(since) })
}

/// The role with this number. Fails with [`Failure::Corrupt`] if there is none.
pub fn role(number: i32) -> Result<Role, Failure> {
    known("a role", number, Role::from_number(number))
}

/// A friend's state by number, and since when in nanoseconds. Fails with [`Failure::Corrupt`] if there is no such
/// state.
pub fn edge(state: i32, since: i64) -> Result<Edge, Failure> {
    Ok(Edge { state: known("a friend's state", state, FriendState::from_number(state))?, since: Timestamp(since) })
}

fn known<T>(what: &str, number: i32, found: Option<T>) -> Result<T, Failure> {
    found.ok_or_else(|| Failure::Corrupt(format!("{what} in the database is {number}, which is none")))
}
