//! Converts rows to domain types.

use engine::id::{ChannelId, GroupId, MessageId, NotificationId, Sequence, Timestamp, UserId};
use engine::message::{Message, MessageCode};
use engine::social::friend::FriendState;
use engine::social::group::Role;
use engine::social::notification::{Notification, NotificationCode};
use storage::Failure;
use storage::account::{Account, CredentialKind, Revocation};
use storage::friend::Edge;
use storage::group::{Group, Membership};
use uuid::Uuid;

use crate::link::Mutation;
use crate::mutations::put_message;

/// A message's columns, as pages read them.
pub type PageRow = (Uuid, i64, i32, Uuid, String, String, i64, i64);
/// The same, with the remaining time to live, and the time of the last write.
pub type MessageRow = (Uuid, i64, i32, Uuid, String, String, i64, i64, Option<i32>, Option<i64>);
pub type UserRow =
    (String, String, String, String, String, String, String, String, String, Option<Vec<String>>, i64, i64, i64);
pub type GroupRow = (Uuid, String, String, String, String, String, bool, i32, i32, i64, i64);
pub type NotificationRow = (Uuid, String, String, i32, Uuid, i64);

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
    pub fn of(channel: &ChannelId, bucket: i64, row: MessageRow) -> Result<Self, Failure> {
        let (id, sequence, code, sender, username, content, created, updated, ttl, written) = row;
        let message = message(channel, (id, sequence, code, sender, username, content, created, updated))?;
        Ok(Self { message, bucket, ttl: ttl.unwrap_or(0), written_us: written.unwrap_or(0) })
    }

    /// A mutation that writes the message unchanged.
    pub fn row(&self) -> Mutation {
        put_message(&self.message, self.bucket, self.ttl)
    }
}

pub fn message(channel: &ChannelId, row: PageRow) -> Result<Message, Failure> {
    let (id, sequence, code, sender, username, content, created, updated) = row;
    Ok(Message {
        channel: channel.clone(),
        id: MessageId(id),
        sequence: Sequence(sequence as u64),
        code: known("a message's code", code, MessageCode::from_number(code))?,
        sender: UserId(sender),
        username: username.into(),
        content: content.into(),
        create_time: Timestamp(created),
        update_time: Timestamp(updated),
        persistent: true,
    })
}

pub fn account(id: UserId, row: UserRow) -> Account {
    let (username, display_name, avatar_url, lang_tag, location, timezone, metadata, email, custom_id, devices, ..) =
        row;
    let (created, updated, disabled) = (row.10, row.11, row.12);
    Account {
        id,
        username,
        display_name,
        avatar_url,
        lang_tag,
        location,
        timezone,
        metadata,
        email,
        custom_id,
        devices: devices.unwrap_or_default(),
        create_time: Timestamp(created),
        update_time: Timestamp(updated),
        disable_time: (disabled != i64::MIN).then_some(Timestamp(disabled)),
    }
}

pub fn group(id: GroupId, row: GroupRow) -> Group {
    let (creator, name, description, lang_tag, metadata, avatar_url, open, edge_count, max_count, created, updated) =
        row;
    Group {
        id,
        creator: UserId(creator),
        name,
        description,
        lang_tag,
        metadata,
        avatar_url,
        open,
        edge_count: edge_count as u32,
        max_count: max_count as u32,
        create_time: Timestamp(created),
        update_time: Timestamp(updated),
    }
}

pub fn notification(row: NotificationRow) -> Result<Notification, Failure> {
    let (id, subject, content, code, sender, created) = row;
    Ok(Notification {
        id: NotificationId(id),
        subject: subject.into(),
        content: content.into(),
        code: known("a notification's code", code, NotificationCode::from_number(code))?,
        sender: UserId(sender),
        create_time: Timestamp(created),
    })
}

pub fn membership(role_number: i32, since: i64) -> Result<Membership, Failure> {
    Ok(Membership { role: role(role_number)?, since: Timestamp(since) })
}

pub fn role(number: i32) -> Result<Role, Failure> {
    known("a role", number, Role::from_number(number))
}

pub fn edge(state: i32, since: i64) -> Result<Edge, Failure> {
    Ok(Edge { state: known("a friend's state", state, FriendState::from_number(state))?, since: Timestamp(since) })
}

pub fn channel(text: &str) -> Result<ChannelId, Failure> {
    ChannelId::parse(text).map_err(|_| Failure::Corrupt(format!("{text:?} is no channel")))
}

pub fn revocation((kind, of, time): (i32, Uuid, i64)) -> Revocation {
    match kind {
        0 => Revocation::Token { id: of, expires: Timestamp(time) },
        _ => Revocation::User { id: UserId(of), issued_before: Timestamp(time) },
    }
}

pub fn credential_kind(number: i32) -> Result<CredentialKind, Failure> {
    let kinds = [CredentialKind::Device, CredentialKind::Custom, CredentialKind::Email];
    let found = usize::try_from(number).ok().and_then(|number| kinds.get(number).copied());
    known("a credential's kind", number, found)
}

fn known<T>(what: &str, number: i32, found: Option<T>) -> Result<T, Failure> {
    found.ok_or_else(|| Failure::Corrupt(format!("{what} in the database is {number}, which is none")))
}
