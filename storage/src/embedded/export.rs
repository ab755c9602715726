//! Reads a whole store, table by table, for the day it moves to another keeper.

use engine::id::{ChannelId, GroupId, NotificationId, UserId};
use engine::message::Message;
use engine::notification::Notification;
use engine::persist::ChannelHead;
use uuid::Uuid;

use super::Embedded;
use super::tables::{decoded, parsed};
use crate::account::{Account, Credential, CredentialKind, CredentialOwner, Revocation};
use crate::friend::{Circle, Edge};
use crate::group::{Group, Membership};
use crate::inbox::Inbox;
use crate::keys::{self, Table};
use crate::{Failure, record};

/// One row of a store. What can be made from others, such as the orders of lists, is none.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Item {
    Account(Account),
    Credential(Credential, CredentialOwner),
    Revocation(Revocation),
    Group(Group),
    Member(GroupId, UserId, Membership),
    Edge(UserId, UserId, Edge),
    Circle(UserId, Circle),
    Notification(UserId, Notification),
    Inbox(UserId, Inbox),
    Authored(UserId, ChannelId),
    Departure(UserId),
    Message(Message),
    Head(ChannelId, ChannelHead),
    /// Left over from something deleted; it stays behind.
    Orphan,
}

/// The tables of a move, in its order: a channel's history before the note of where it ends.
pub(crate) const MOVED: [Table; 13] = [
    Table::Accounts,
    Table::Credentials,
    Table::Revocations,
    Table::Groups,
    Table::Members,
    Table::Edges,
    Table::Circles,
    Table::Notifications,
    Table::Inboxes,
    Table::Authored,
    Table::Departures,
    Table::Messages,
    Table::Heads,
];

/// A row with its key, by which a move that was interrupted goes on.
pub(crate) type Keyed = (Vec<u8>, Item);

impl Embedded {
    /// How many rows a move has.
    pub(crate) fn rows_of(&self, table: Table) -> Result<u64, Failure> {
        let mut rows = 0;
        for key in self.tables()?.view().keys(table, keys::beginning_with(&[], None)) {
            key?;
            rows += 1;
        }
        Ok(rows)
    }

    /// The rows of a table behind a key, at most so many.
    pub(crate) fn export(&self, table: Table, after: Option<&[u8]>, limit: usize) -> Result<Vec<Keyed>, Failure> {
        let view = self.tables()?.view();
        let rows = view.rows(table, keys::beginning_with(&[], after)).take(limit);
        rows.map(|row| {
            let (key, value) = row?;
            let item = item(table, &key, &value)?;
            let gone = match &item {
                Item::Member(group, ..) => !view.contains(Table::Groups, &keys::group(*group))?,
                Item::Edge(user, other, _) => {
                    !view.contains(Table::Accounts, &keys::account(*user))?
                        || !view.contains(Table::Accounts, &keys::account(*other))?
                }
                Item::Notification(user, _) | Item::Inbox(user, _) | Item::Circle(user, _) => {
                    !view.contains(Table::Accounts, &keys::account(*user))?
                }
                _ => false,
            };
            Ok((key.to_vec(), if gone { Item::Orphan } else { item }))
        })
        .collect()
    }
}

fn item(table: Table, key: &[u8], value: &[u8]) -> Result<Item, Failure> {
    let pair = || {
        let (one, other) = key.split_at_checked(16)?;
        Some((Uuid::from_slice(one).ok()?, Uuid::from_slice(other).ok()?))
    };
    let one = || Uuid::from_slice(key.get(..16)?).ok();
    let user = || parsed(table, one().map(UserId));
    Ok(match table {
        Table::Accounts => Item::Account(decoded(table, record::decode_account(value))?),
        Table::Credentials => {
            let credential = parsed(table, credential(key))?;
            Item::Credential(credential, decoded(table, record::decode_credential(value))?)
        }
        Table::Revocations => Item::Revocation(decoded(table, record::decode_revocation(value))?),
        Table::Groups => {
            let group = GroupId(parsed(table, one())?);
            Item::Group(decoded(table, record::decode_group(group, value))?)
        }
        Table::Members => {
            let (group, user) = parsed(table, pair())?;
            Item::Member(GroupId(group), UserId(user), decoded(table, record::decode_membership(value))?)
        }
        Table::Edges => {
            let (user, other) = parsed(table, pair())?;
            Item::Edge(UserId(user), UserId(other), decoded(table, record::decode_edge(value))?)
        }
        Table::Circles => Item::Circle(user()?, decoded(table, record::decode_circle(value))?),
        Table::Notifications => {
            let id: NotificationId = parsed(table, keys::notification_id(key))?;
            Item::Notification(user()?, decoded(table, record::decode_notification(id, value))?)
        }
        Table::Inboxes => Item::Inbox(user()?, decoded(table, record::decode_inbox(value))?),
        Table::Authored => Item::Authored(user()?, parsed(table, keys::authored_channel(key))?),
        Table::Departures => Item::Departure(user()?),
        Table::Messages => {
            let channel = parsed(table, keys::message_channel(key))?;
            let id = parsed(table, keys::message_id(key))?;
            Item::Message(decoded(table, record::decode_message(&channel, id, value))?)
        }
        Table::Heads => {
            let channel = std::str::from_utf8(key).ok().and_then(|text| ChannelId::parse(text).ok());
            Item::Head(parsed(table, channel)?, decoded(table, record::decode_head(value))?)
        }
        _ => Item::Orphan,
    })
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
