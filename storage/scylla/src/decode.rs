//! The rows of the database, and their conversion to domain types. A row has its fields in the order of its statement.

use engine::id::{ChannelId, GroupId, MessageId, NotificationId, Sequence, Timestamp, UserId};
use engine::message::{Message, MessageCode};
use engine::social::friend::FriendState;
use engine::social::group::Role;
use engine::social::notification::{Notification, NotificationCode};
use scylla::DeserializeRow;
use storage::Failure;
use storage::account::{Account, CredentialKind, Revocation};
use storage::friend::Edge;
use storage::group::{Group, Membership};
use uuid::Uuid;

use crate::mutations::put_message;
use crate::tables::Mutation;

/// A message's columns, as pages read them.
#[derive(DeserializeRow)]
#[scylla(flavor = "enforce_order")]
pub struct PageRow {
    message_id: Uuid,
    seq: i64,
    code: i32,
    sender_id: Uuid,
    username: String,
    content: String,
    create_ns: i64,
    update_ns: i64,
}

/// The same, with the remaining time to live, and the time of the last write. Servers name these two columns themselves.
#[derive(DeserializeRow)]
#[scylla(flavor = "enforce_order", skip_name_checks)]
pub struct MessageRow {
    message_id: Uuid,
    seq: i64,
    code: i32,
    sender_id: Uuid,
    username: String,
    content: String,
    create_ns: i64,
    update_ns: i64,
    ttl: Option<i32>,
    written_us: Option<i64>,
}

/// An account's columns.
#[derive(DeserializeRow)]
#[scylla(flavor = "enforce_order")]
pub struct UserRow {
    username: String,
    display_name: String,
    avatar_url: String,
    lang_tag: String,
    location: String,
    timezone: String,
    metadata: String,
    email: String,
    custom_id: String,
    devices: Option<Vec<String>>,
    create_ns: i64,
    update_ns: i64,
    disable_ns: i64,
}

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

/// A stored message, with the facts that only its row has.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct StoredMessage {
    pub message: Message,
    pub bucket: i64,
    /// Seconds until it expires; 0: never.
    pub ttl: i32,
    pub written_us: i64,
}

impl StoredMessage {
    /// A message with what the database knows of its row. Fails with [`Failure::Corrupt`] if the code is unknown.
    pub fn of(channel: &ChannelId, bucket: i64, row: MessageRow) -> Result<Self, Failure> {
        let MessageRow { message_id, seq, code, sender_id, username, content, create_ns, update_ns, ttl, written_us } =
            row;
        let row = PageRow { message_id, seq, code, sender_id, username, content, create_ns, update_ns };
        let message = message(channel, row)?;
        Ok(Self { message, bucket, ttl: ttl.unwrap_or(0), written_us: written_us.unwrap_or(0) })
    }

    /// A mutation that writes the message unchanged.
    pub fn row(&self) -> Mutation {
        put_message(&self.message, self.bucket, self.ttl)
    }
}

/// A row of a page as a message of the channel. Fails with [`Failure::Corrupt`] if the code is unknown.
pub fn message(channel: &ChannelId, row: PageRow) -> Result<Message, Failure> {
    Ok(Message {
        channel: channel.clone(),
        id: MessageId(row.message_id),
        sequence: Sequence(row.seq as u64),
        code: known("a message's code", row.code, MessageCode::from_number(row.code))?,
        sender: UserId(row.sender_id),
        username: row.username.into(),
        content: row.content.into(),
        create_time: Timestamp(row.create_ns),
        update_time: Timestamp(row.update_ns),
        persistent: true,
    })
}

/// A row of `users`, whose key is the id.
pub fn account(id: UserId, row: UserRow) -> Account {
    Account {
        id,
        username: row.username,
        display_name: row.display_name,
        avatar_url: row.avatar_url,
        lang_tag: row.lang_tag,
        location: row.location,
        timezone: row.timezone,
        metadata: row.metadata,
        email: row.email,
        custom_id: row.custom_id,
        devices: row.devices.unwrap_or_default(),
        create_time: Timestamp(row.create_ns),
        update_time: Timestamp(row.update_ns),
        disable_time: (row.disable_ns != i64::MIN).then_some(Timestamp(row.disable_ns)),
    }
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

/// A channel from its text. Fails with [`Failure::Corrupt`] if the text is no channel id.
pub fn channel(text: &str) -> Result<ChannelId, Failure> {
    ChannelId::parse(text).map_err(|_| Failure::Corrupt(format!("{text:?} is no channel")))
}

/// A row of `revocations`: its kind (0 for a token, 1 for a user), the id, and a time in nanoseconds.
pub fn revocation((kind, of, time): (i32, Uuid, i64)) -> Revocation {
    match kind {
        0 => Revocation::Token { id: of, expires: Timestamp(time) },
        _ => Revocation::User { id: UserId(of), issued_before: Timestamp(time) },
    }
}

/// The kind with this number. Fails with [`Failure::Corrupt`] if there is none.
pub fn credential_kind(number: i32) -> Result<CredentialKind, Failure> {
    let kinds = [CredentialKind::Device, CredentialKind::Custom, CredentialKind::Email];
    let found = usize::try_from(number).ok().and_then(|number| kinds.get(number).copied());
    known("a credential's kind", number, found)
}

fn known<T>(what: &str, number: i32, found: Option<T>) -> Result<T, Failure> {
    found.ok_or_else(|| Failure::Corrupt(format!("{what} in the database is {number}, which is none")))
}
