//! The unit of a move: one row of a store. It is encoded as the embedded store keeps it.

use engine::id::{ChannelId, GroupId, NotificationId, UserId};
use engine::message::Message;
use engine::persist::ChannelHead;
use engine::social::notification::Notification;
use uuid::Uuid;

use super::Row;
use crate::Failure;
use crate::account::{Account, Credential, CredentialKind, CredentialOwner, Revocation};
use crate::friend::{Edge, FriendCounts};
use crate::group::{Group, Membership};
use crate::inbox::Inbox;
use crate::keys::{self, Table};
use crate::object::{Object, ObjectCounts};
use crate::record::{self, Damage};

/// One row of a store. Rows that can be derived from others, such as the orders of lists, are not items.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Item {
    Account(Account),
    Credential(Credential, CredentialOwner),
    Revocation(Revocation),
    Group(Group),
    Member(GroupId, UserId, Membership),
    Edge(UserId, UserId, Edge),
    FriendCounts(UserId, FriendCounts),
    Notification(UserId, Notification),
    Inbox(UserId, Inbox),
    Authored(UserId, ChannelId),
    AccountDeletion(UserId),
    Message(Message),
    Head(ChannelId, ChannelHead),
    Object(Object),
    ObjectCounts(UserId, ObjectCounts),
}

impl Item {
    pub(crate) fn table(&self) -> Table {
        match self {
            Self::Account(_) => Table::Accounts,
            Self::Credential(..) => Table::Credentials,
            Self::Revocation(_) => Table::Revocations,
            Self::Group(_) => Table::Groups,
            Self::Member(..) => Table::Members,
            Self::Edge(..) => Table::Edges,
            Self::FriendCounts(..) => Table::FriendCounts,
            Self::Notification(..) => Table::Notifications,
            Self::Inbox(..) => Table::Inboxes,
            Self::Authored(..) => Table::Authored,
            Self::AccountDeletion(_) => Table::AccountDeletions,
            Self::Message(_) => Table::Messages,
            Self::Head(..) => Table::Heads,
            Self::Object(_) => Table::Objects,
            Self::ObjectCounts(..) => Table::ObjectCounts,
        }
    }

    pub(crate) fn row(&self) -> Row {
        let (key, record) = match self {
            Self::Account(account) => (keys::account(account.id), record::encode_account(account)),
            Self::Credential(credential, owner) => (keys::credential(credential), record::encode_credential(owner)),
            Self::Revocation(revocation) => (keys::revocation(revocation), record::encode_revocation(revocation)),
            Self::Group(group) => (keys::group(group.id), record::encode_group(group)),
            Self::Member(group, user, membership) => {
                (keys::member(*group, *user), record::encode_membership(*membership))
            }
            Self::Edge(user, other, edge) => (keys::edge(*user, *other), record::encode_edge(edge)),
            Self::FriendCounts(user, friend_counts) => {
                (keys::user(*user), record::encode_friend_counts(*friend_counts))
            }
            Self::Notification(user, notification) => {
                (keys::notification(*user, notification.id), record::encode_notification(notification))
            }
            Self::Inbox(user, inbox) => (keys::user(*user), record::encode_inbox(*inbox)),
            Self::Authored(user, channel) => (keys::authored(*user, channel), Vec::new()),
            Self::AccountDeletion(user) => (keys::user(*user), Vec::new()),
            Self::Message(message) => (keys::message(&message.channel, message.id), record::encode_message(message)),
            Self::Head(channel, head) => (keys::head(channel), record::encode_head(head)),
            Self::Object(object) => (keys::object(&object.id, object.read), record::encode_object(object)),
            Self::ObjectCounts(user, counts) => (keys::user(*user), record::encode_object_counts(*counts)),
        };
        (self.table(), key, record)
    }

    /// The item that a row encodes.
    pub(crate) fn of(table: Table, key: &[u8], value: &[u8]) -> Result<Self, Failure> {
        let one = || uuid(key).map(UserId);
        let pair = || {
            let (one, other) = key.split_at_checked(16)?;
            Some((uuid(one)?, uuid(other)?))
        };
        Ok(match table {
            Table::Accounts => Self::Account(decoded(table, record::decode_account(value))?),
            Table::Credentials => {
                Self::Credential(parsed(table, credential(key))?, decoded(table, record::decode_credential(value))?)
            }
            Table::Revocations => Self::Revocation(decoded(table, record::decode_revocation(value))?),
            Table::Groups => {
                let group = GroupId(parsed(table, uuid(key))?);
                Self::Group(decoded(table, record::decode_group(group, value))?)
            }
            Table::Members => {
                let (group, user) = parsed(table, pair())?;
                Self::Member(GroupId(group), UserId(user), decoded(table, record::decode_membership(value))?)
            }
            Table::Edges => {
                let (user, other) = parsed(table, pair())?;
                Self::Edge(UserId(user), UserId(other), decoded(table, record::decode_edge(value))?)
            }
            Table::FriendCounts => {
                Self::FriendCounts(parsed(table, one())?, decoded(table, record::decode_friend_counts(value))?)
            }
            Table::Notifications => {
                let (user, id) = parsed(table, pair())?;
                let notification = record::decode_notification(NotificationId(id), value);
                Self::Notification(UserId(user), decoded(table, notification)?)
            }
            Table::Inboxes => Self::Inbox(parsed(table, one())?, decoded(table, record::decode_inbox(value))?),
            Table::Authored => {
                let user = parsed(table, key.get(..16).and_then(uuid))?;
                Self::Authored(UserId(user), parsed(table, keys::authored_channel(key))?)
            }
            Table::AccountDeletions => Self::AccountDeletion(parsed(table, one())?),
            Table::Messages => {
                let channel = parsed(table, keys::message_channel(key))?;
                let id = parsed(table, keys::message_id(key))?;
                Self::Message(decoded(table, record::decode_message(&channel, id, value))?)
            }
            Table::Heads => {
                let channel = std::str::from_utf8(key).ok().and_then(|text| ChannelId::parse(text).ok());
                Self::Head(parsed(table, channel)?, decoded(table, record::decode_head(value))?)
            }
            Table::Objects => {
                let named = parsed(table, keys::object_id(key))?;
                Self::Object(decoded(table, record::decode_object(named, value))?)
            }
            Table::ObjectCounts => {
                Self::ObjectCounts(parsed(table, one())?, decoded(table, record::decode_object_counts(value))?)
            }
            other => return parsed(other, None),
        })
    }
}

fn uuid(bytes: &[u8]) -> Option<Uuid> {
    Uuid::from_slice(bytes).ok()
}

fn credential(key: &[u8]) -> Option<Credential> {
    let (kind, ident) = key.split_first()?;
    let kind = match kind {
        0 => CredentialKind::Device,
        1 => CredentialKind::Custom,
        2 => CredentialKind::Email,
        _ => return None,
    };
    Some(Credential { kind, ident: std::str::from_utf8(ident).ok()?.to_owned() })
}

fn decoded<T>(table: Table, record: Result<T, Damage>) -> Result<T, Failure> {
    record.map_err(|damage| Failure::Corrupt(format!("a row of {}: {damage}", table.name())))
}

/// The parsed key, or a failure if the key does not belong in a table that is moved.
fn parsed<T>(table: Table, key: Option<T>) -> Result<T, Failure> {
    key.ok_or_else(|| Failure::Corrupt(format!("a row of {} has a key that is not as it should be", table.name())))
}
