//! A database as the source of a move. Most tables have a row, or a list of rows, for each user, group or channel. The
//! export visits these *owners* in the order in which the database stores them, several at a time and concurrently. So
//! it does not meet rows that can no longer be reached.

use std::collections::VecDeque;
use std::sync::Arc;

use engine::id::{ChannelId, GroupId, MessageId, NotificationId, Timestamp, UserId};
use engine::social::group::Role;
use storage::account::{Credential, CredentialOwner, Revocation};
use storage::group::{Membership, RosterPlace};
use storage::transfer::{Item, Origin, Page, Source};
use storage::{Failure, PageStart, Store};
use tokio::task::JoinSet;
use uuid::Uuid;

use crate::Scylla;
use crate::cluster_store::ClusterStore;
use crate::pages::successor;
use crate::tables::objects::{self, Name};
use crate::tables::{
    account_deletions, author_buckets, authored, channels, credentials, edges, group_members, groups, revocations,
    shards_of, users,
};

/// Owners that are read concurrently.
const OWNERS_AT_ONCE: usize = 32;
/// Rows of one owner that are read at a time.
const ROWS_AT_ONCE: usize = 256;
/// Objects of one owner that are read at a time: they may be large.
const OBJECTS_AT_ONCE: usize = 16;

macro_rules! passes {
    ($($pass:ident)*) => {
        /// The passes of the export, in order.
        #[derive(Clone, Copy, PartialEq, Eq, Debug)]
        enum Pass { $($pass),* }

        const PASSES: &[Pass] = &[$(Pass::$pass),*];
    };
}

// A group comes before its members, and messages before heads.
passes! {
    Accounts
    Credentials
    Revocations
    Groups
    Members
    Edges
    FriendCounts
    Notifications
    Inboxes
    Authored
    AccountDeletions
    Messages
    Heads
    Objects
    ObjectCounts
}

/// Where a pass continues: after which owner, and after which row of the next one. As bytes: the pass, the token, the
/// row's key.
#[derive(Clone, PartialEq, Eq, Debug)]
struct Reached {
    pass: usize,
    /// The token of the last owner that has been read completely.
    token: i64,
    key: Vec<u8>,
}

impl Reached {
    const BEGINNING: Self = Self { pass: 0, token: i64::MIN, key: Vec::new() };

    fn of(bytes: &[u8]) -> Option<Self> {
        let Some((&pass, rest)) = bytes.split_first() else { return Some(Self::BEGINNING) };
        let (token, key) = rest.split_first_chunk()?;
        Some(Self { pass: pass.into(), token: i64::from_be_bytes(*token), key: key.into() })
    }

    fn bytes(&self) -> Vec<u8> {
        [&[self.pass as u8], &self.token.to_be_bytes()[..], &self.key].concat()
    }
}

/// Rows of one owner, and the key of the last row if there may be more after it.
type Rows = (Vec<Item>, Option<Vec<u8>>);

/// An owner, and which of its rows are read.
#[derive(Clone)]
enum RowsOf {
    Account(UserId),
    Edges(UserId),
    FriendCounts(UserId),
    Notifications(UserId),
    Inbox(UserId),
    Authored(UserId),
    Objects(UserId),
    ObjectCounts(UserId),
    Group(GroupId),
    Members(GroupId),
    Messages(ChannelId),
    Head(ChannelId),
    Credential(Credential, CredentialOwner),
    Revocation(Revocation),
    /// A table that is read as a whole.
    AccountDeletions,
}

impl Source for &Scylla {
    /// Takes the keyspace as a server does, and sweeps first, so that no leftovers remain.
    fn begin(&self) -> Result<Origin, Failure> {
        let epoch = self.next_epoch()?.0;
        self.sweep_now()?;
        Ok(Origin { source: format!("keyspace {}", self.store.database.options().keyspace), epoch, last: epoch - 1 })
    }

    /// `None`: a database would have to read everything to know its size.
    fn size(&self) -> Result<Option<u64>, Failure> {
        Ok(None)
    }

    fn rows(&self, after: &[u8]) -> Result<Option<Page>, Failure> {
        let reached = Reached::of(after).ok_or_else(|| Failure::Corrupt("a place in a move is none".into()))?;
        self.store.check()?;
        self.wait(self.store.rows_from(reached))
    }
}

impl ClusterStore {
    async fn rows_from(self: &Arc<Self>, mut reached: Reached) -> Result<Option<Page>, Failure> {
        while let Some(&pass) = PASSES.get(reached.pass) {
            let owners = self.owners(pass, reached.token).await?;
            if owners.is_empty() {
                reached = Reached { pass: reached.pass + 1, ..Reached::BEGINNING };
                continue;
            }
            let tokens = || std::iter::once(reached.token).chain(owners.iter().map(|(token, _)| *token));
            debug_assert!(tokens().is_sorted(), "owners come in the order of their tokens");
            let items = self.rows_of_owners(owners, &mut reached).await?;
            if !items.is_empty() {
                return Ok(Some(Page { items, left: 0, place: reached.bytes(), unreadable: Vec::new() }));
            }
        }
        Ok(None)
    }

    /// Rows of these owners, up to the first owner that has more rows than one read returns.
    async fn rows_of_owners(
        self: &Arc<Self>,
        owners: Vec<(i64, RowsOf)>,
        reached: &mut Reached,
    ) -> Result<Vec<Item>, Failure> {
        let mut reading = VecDeque::new();
        let mut tasks = JoinSet::new();
        for (number, (_, owner)) in owners.iter().enumerate() {
            let (store, owner) = (self.clone(), owner.clone());
            let after = if number == 0 { std::mem::take(&mut reached.key) } else { Vec::new() };
            reading.push_back(None);
            tasks.spawn(async move { (number, store.rows_of_owner(owner, after).await) });
        }
        while let Some(read) = tasks.join_next().await {
            let (number, rows) = read.map_err(|error| Failure::Passing(error.to_string()))?;
            reading[number] = Some(rows?);
        }
        let mut items = Vec::new();
        for ((token, _), (some, next)) in owners.into_iter().zip(reading.into_iter().flatten()) {
            items.extend(some);
            if let Some(key) = next {
                reached.key = key;
                break;
            }
            reached.token = token;
        }
        Ok(items)
    }

    /// The next owners of a pass.
    async fn owners(&self, pass: Pass, after: i64) -> Result<Vec<(i64, RowsOf)>, Failure> {
        Ok(match pass {
            Pass::Accounts => self.users_after(after, RowsOf::Account).await?,
            Pass::Edges => self.users_after(after, RowsOf::Edges).await?,
            Pass::FriendCounts => self.users_after(after, RowsOf::FriendCounts).await?,
            Pass::Notifications => self.users_after(after, RowsOf::Notifications).await?,
            Pass::Inboxes => self.users_after(after, RowsOf::Inbox).await?,
            Pass::Objects => self.users_after(after, RowsOf::Objects).await?,
            Pass::ObjectCounts => self.users_after(after, RowsOf::ObjectCounts).await?,
            Pass::Groups => self.groups_after(after, RowsOf::Group).await?,
            Pass::Members => self.groups_after(after, RowsOf::Members).await?,
            Pass::Messages => self.channels_after(after, RowsOf::Messages).await?,
            Pass::Heads => self.channels_after(after, RowsOf::Head).await?,
            Pass::Authored => {
                let mut rows = self.database.all(author_buckets::users_after(after, OWNERS_AT_ONCE)).await?;
                rows.extend(self.database.all(authored::users_after(after, OWNERS_AT_ONCE)).await?);
                rows.sort_unstable();
                rows.dedup();
                rows.truncate(OWNERS_AT_ONCE);
                rows.into_iter().map(|(at, user)| (at, RowsOf::Authored(UserId(user)))).collect()
            }
            Pass::Credentials => {
                let rows = self.database.all(credentials::after(after, OWNERS_AT_ONCE)).await?;
                let credential = |row: credentials::WholeRow| {
                    let at = row.token;
                    let (credential, owner) = row.credential()?;
                    Ok((at, RowsOf::Credential(credential, owner)))
                };
                rows.into_iter().map(credential).collect::<Result<_, Failure>>()?
            }
            Pass::Revocations => {
                let rows = self.database.all(revocations::after(after, OWNERS_AT_ONCE)).await?;
                let revocation = |row: revocations::TokenRow| Ok((row.token, RowsOf::Revocation(row.revocation()?)));
                rows.into_iter().map(revocation).collect::<Result<_, Failure>>()?
            }
            Pass::AccountDeletions if after == i64::MIN => vec![(i64::MAX, RowsOf::AccountDeletions)],
            Pass::AccountDeletions => Vec::new(),
        })
    }

    async fn users_after(&self, after: i64, rows_of: fn(UserId) -> RowsOf) -> Result<Vec<(i64, RowsOf)>, Failure> {
        let rows = self.database.all(users::after(after, OWNERS_AT_ONCE)).await?;
        Ok(rows.into_iter().map(|(at, user): (i64, Uuid)| (at, rows_of(UserId(user)))).collect())
    }

    async fn groups_after(&self, after: i64, rows_of: fn(GroupId) -> RowsOf) -> Result<Vec<(i64, RowsOf)>, Failure> {
        let rows = self.database.all(groups::after(after, OWNERS_AT_ONCE)).await?;
        Ok(rows.into_iter().map(|(at, group): (i64, Uuid)| (at, rows_of(GroupId(group)))).collect())
    }

    async fn channels_after(
        &self,
        after: i64,
        rows_of: fn(ChannelId) -> RowsOf,
    ) -> Result<Vec<(i64, RowsOf)>, Failure> {
        let rows = self.database.all(channels::after(after, OWNERS_AT_ONCE)).await?;
        rows.into_iter().map(|(at, name): (i64, String)| Ok((at, rows_of(authored::channel(&name)?)))).collect()
    }

    async fn rows_of_owner(self: &Arc<Self>, owner: RowsOf, after: Vec<u8>) -> Result<Rows, Failure> {
        let one = |item: Option<Item>| Ok((item.into_iter().collect(), None));
        let after_id = Uuid::from_slice(&after).ok();
        match owner {
            RowsOf::Account(user) => one(self.account_row(user).await?.map(Item::Account)),
            // A credential that no account has was claimed for an account that was never created, or is being released.
            RowsOf::Credential(credential, owner) => {
                let account = self.account_row(owner.user).await?;
                let is_borne = account.is_some_and(|account| account.bears(&credential));
                one(is_borne.then_some(Item::Credential(credential, owner)))
            }
            RowsOf::Revocation(revocation) => one(Some(Item::Revocation(revocation))),
            RowsOf::Group(group) => one(self.group_row(group).await?.map(Item::Group)),
            RowsOf::FriendCounts(user) => {
                one(self.friend_counts(user).await?.map(|friend_counts| Item::FriendCounts(user, friend_counts)))
            }
            RowsOf::Inbox(user) => one(self.inbox(user).await?.map(|inbox| Item::Inbox(user, inbox))),
            RowsOf::Objects(user) => self.objects_after(user, &after).await,
            RowsOf::ObjectCounts(user) => {
                one(self.object_counts(user).await?.map(|counts| Item::ObjectCounts(user, counts)))
            }
            RowsOf::Members(group) => self.members(group, after).await,
            RowsOf::Edges(user) => {
                let rows = self.database.all(edges::page(user, after_id.unwrap_or_default(), ROWS_AT_ONCE)).await?;
                let last = rows.last().map(|row| row.other_id.as_bytes().to_vec());
                let edge = |row: edges::OtherRow| Ok(Item::Edge(user, UserId(row.other_id), row.edge()?));
                Ok(some_of(rows.into_iter().map(edge).collect::<Result<_, Failure>>()?, last))
            }
            RowsOf::Notifications(user) => {
                let rows = self.notifications_after(user, after_id.map(NotificationId), ROWS_AT_ONCE).await?;
                let last = rows.last().map(|notification| notification.id.0.as_bytes().to_vec());
                Ok(some_of(rows.into_iter().map(|row| Item::Notification(user, row)).collect(), last))
            }
            RowsOf::Authored(user) => {
                let after = String::from_utf8(after).unwrap_or_default();
                let names = self.channels_written(user, &after, ROWS_AT_ONCE).await?;
                let last = names.last().map(|name| name.clone().into_bytes());
                let authored = |name: &String| Ok(Item::Authored(user, authored::channel(name)?));
                Ok(some_of(names.iter().map(authored).collect::<Result<_, Failure>>()?, last))
            }
            RowsOf::AccountDeletions => {
                let after = after_id.unwrap_or_default();
                let rows = self.database.all(account_deletions::page(after, ROWS_AT_ONCE)).await?;
                let last = rows.last().map(|(user,)| user.as_bytes().to_vec());
                Ok(some_of(rows.into_iter().map(|(user,)| Item::AccountDeletion(UserId(user))).collect(), last))
            }
            RowsOf::Messages(channel) => {
                let place = after_id.map_or(PageStart::Oldest, |after| PageStart::After(MessageId(after)));
                let part = self.page(&self.channels.get(&channel), place, ROWS_AT_ONCE).await?;
                let last = part.items.last().map(|message| message.id);
                let next = part.stopped.or(last.filter(|_| part.items.len() >= ROWS_AT_ONCE));
                let items = part.items.into_iter().map(Item::Message).collect();
                Ok((items, next.map(|id| id.0.as_bytes().to_vec())))
            }
            RowsOf::Head(channel) => {
                let known = self.channels.get(&channel).known(&self.database).await?;
                one(known.head.map(|head| Item::Head(channel, head)))
            }
        }
    }

    /// Objects of a user after a place, which has the collection's length, the collection, the permission and the key.
    async fn objects_after(&self, owner: UserId, after: &[u8]) -> Result<Rows, Failure> {
        let after = object_name(after).unwrap_or(Name::FIRST);
        let rows = self.database.all(objects::page(owner, &after, OBJECTS_AT_ONCE)).await?;
        let found = rows.into_iter().map(|row| row.object(owner)).collect::<Result<Vec<_>, _>>()?;
        let last = found.last().filter(|_| found.len() >= OBJECTS_AT_ONCE).map(|last| object_key(&Name::of(last)));
        Ok((found.into_iter().map(Item::Object).collect(), last))
    }

    async fn members(self: &Arc<Self>, group: GroupId, after: Vec<u8>) -> Result<Rows, Failure> {
        let Some(kept) = self.group_row(group).await? else { return Ok((Vec::new(), None)) };
        let [mut first, _] = RosterPlace::span(None);
        let [_, last] = RosterPlace::span(Some(Role::Banned));
        if let Some((role, rest)) = after.split_first()
            && let Some((since, of)) = rest.split_first_chunk()
        {
            let since = Timestamp(i64::from_be_bytes(*since));
            let of = Uuid::from_slice(of).unwrap_or_default();
            let Some(next) = successor(of) else { return Ok((Vec::new(), None)) };
            first = RosterPlace { role: group_members::role((*role).into())?, since, id: next };
        }
        let places = self.roster(group, shards_of(&kept), first, last, ROWS_AT_ONCE).await?;
        let key =
            |place: &RosterPlace| [&[place.role as u8], &place.since.0.to_be_bytes()[..], place.id.as_bytes()].concat();
        let last = places.last().map(key);
        let member = |place: RosterPlace| {
            Item::Member(group, UserId(place.id), Membership { role: place.role, since: place.since })
        };
        Ok(some_of(places.into_iter().map(member).collect(), last))
    }
}

/// The place of an object as the key of a row.
fn object_key(name: &Name) -> Vec<u8> {
    let Name { collection, read, key } = name;
    [&(collection.len() as u32).to_be_bytes(), collection.as_bytes(), &read.to_be_bytes(), key.as_bytes()].concat()
}

fn object_name(key: &[u8]) -> Option<Name> {
    let (length, rest) = key.split_first_chunk()?;
    let (collection, rest) = rest.split_at_checked(u32::from_be_bytes(*length) as usize)?;
    let (read, key) = rest.split_first_chunk()?;
    let text = |bytes: &[u8]| std::str::from_utf8(bytes).ok().map(str::to_owned);
    Some(Name { collection: text(collection)?, read: i32::from_be_bytes(*read), key: text(key)? })
}

/// A full page may have more rows after it.
fn some_of(items: Vec<Item>, last: Option<Vec<u8>>) -> Rows {
    let last = last.filter(|_| items.len() >= ROWS_AT_ONCE);
    (items, last)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_come_back() {
        for reached in [
            Reached::BEGINNING,
            Reached { pass: 12, token: -7, key: vec![1, 2, 3] },
            Reached { pass: 3, token: i64::MAX, key: Vec::new() },
        ] {
            assert_eq!(Reached::of(&reached.bytes()), Some(reached));
        }
        assert_eq!(Reached::of(&[]), Some(Reached::BEGINNING));
        assert_eq!(Reached::of(&[1, 2, 3]), None);
    }

    #[test]
    fn names_of_objects_come_back() {
        let name = Name { collection: "a collection".into(), read: 2, key: "kéy".into() };
        let found = object_name(&object_key(&name)).unwrap();
        assert_eq!((found.collection, found.read, found.key), (name.collection, name.read, name.key));
        for key in [&b""[..], b"\0\0\0\x09c", b"\0\0\0\x01c\0\0"] {
            assert!(object_name(key).is_none());
        }
    }
}
