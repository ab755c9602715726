//! The key space, as one table:
//!
//! | table | key | record |
//! | --- | --- | --- |
//! | `messages` | length of the channel id 1, channel id, message id 16 | message |
//! | `heads` | channel id | channel head: the latest of the channel's messages that were removed |
//! | `accounts` | user id 16 | account |
//! | `credentials` | kind 1, ident | credential |
//! | `usernames` | username | username |
//! | `revocations` | 0 and token id 16, or 1 and user id 16 | revocation |
//! | `meta` | `store` | store meta |
//! | `meta` | `move` | note of a move into this store |
//! | `groups` | group id 16 | group |
//! | `group_names` | name | group name |
//! | `browsing` | name folded to lower case, its first 256 bytes; 0; group id 16 | |
//! | `members` | group id 16, user id 16 | membership |
//! | `rosters` | group id 16, role 1, since 8, user id 16 | |
//! | `user_groups` | user id 16, role 1, since 8, group id 16 | |
//! | `edges` | user id 16, other's id 16 | edge |
//! | `friends` | user id 16, state 1, since 8, other's id 16 | |
//! | `friend_counts` | user id 16 | friend counts |
//! | `notifications` | user id 16, notification id 16 | notification |
//! | `inboxes` | user id 16 | inbox |
//! | `authored` | user id 16, channel id | |
//! | `account_deletions` | user id 16 | |
//! | `leftovers` | what it was 1, its id 16 | leftover |
//! | `expiries` | 0, time 8 and token id 16, or 1, time 8 and user id 16 | |
//! | `group_counts` | user id 16 | group count |
//! | `passages` | user id 16, channel id, 0, message id 16 | |
//! | `objects` | user id 16, collection, 0, who may read it 1, key | object |
//! | `public_objects` | collection, 0, key, 0, user id 16 | |
//! | `object_counts` | user id 16 | object counts |
//! | `meta` | `passages` | message id 16: from here on there are passages |
//!
//! The order of bytes is the order of history: a channel's messages are adjacent, by rising id. Because of the length
//! in front, no channel's keys begin with another channel's. The order of bytes is also the order of every list:
//! numbers have their highest byte first, and times, which are signed, have their sign bit inverted.
//!
//! `expiries` has the same revocations once more, in the order of their times.
//!
//! In tables that are read in ranges, a removed row leaves a mark of one byte (`embedded/dead.rs`).
//!
//! A passage is a message from which on a user has written in a channel, up to 16,384 messages further at most. So a
//! user's messages are found without a look at the rest of the channel.
//!
//! Where no record is named, the key says everything. In `friends`, state 4 notes that the *other* user has blocked
//! this one. The deletion of a user needs this row to find the block; the row is in no list.

mod objects;

use std::ops::Bound;

use engine::id::{ChannelId, GroupId, MessageId, NotificationId, Timestamp, UserId};
use engine::social::friend::FriendState;
use uuid::Uuid;

use crate::PageStart;
use crate::account::{Credential, CredentialKind, Expiry, Revocation};
use crate::friend::FriendPlace;
use crate::group::RosterPlace;

pub use objects::{entry_of, object, object_id, object_place, objects, public_object, public_object_id};

macro_rules! tables {
    ($($table:ident $name:literal)*) => {
        /// A table, which holds records of one kind.
        #[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
        pub enum Table { $($table),* }

        impl Table {
            /// How many tables there are: the length of arrays that are indexed by `table as usize`.
            pub(crate) const COUNT: usize = [$($name),*].len();
            /// In the order of their discriminants, so that `table as usize` is the index.
            pub const ALL: [Self; Self::COUNT] = [$(Self::$table),*];

            /// The table's name on disk and in error messages.
            pub fn name(self) -> &'static str {
                [$($name),*][self as usize]
            }
        }
    };
}

// Exports contain these numbers: add new tables at the end.
tables! {
    Messages "messages"
    Heads "heads"
    Accounts "accounts"
    Credentials "credentials"
    Usernames "usernames"
    Revocations "revocations"
    Meta "meta"
    Groups "groups"
    GroupNames "group_names"
    Browsing "browsing"
    Members "members"
    Rosters "rosters"
    UserGroups "user_groups"
    Edges "edges"
    Friends "friends"
    FriendCounts "circles"
    Notifications "notifications"
    Inboxes "inboxes"
    Authored "authored"
    AccountDeletions "departures"
    Leftovers "leftovers"
    Expiries "expiries"
    GroupCounts "group_counts"
    Passages "passages"
    Objects "objects"
    PublicObjects "public_objects"
    ObjectCounts "object_counts"
}

impl Table {
    /// How many tables a store of format 1 has: the first ones.
    pub(crate) const COUNT_OF_FORMAT_1: usize = 7;

    /// How many tables a store of format 2 has.
    pub(crate) const COUNT_OF_FORMAT_2: usize = 21;

    /// How many tables a store of format 3 has.
    pub(crate) const COUNT_OF_FORMAT_3: usize = 22;

    /// How many tables a store of format 4 has.
    pub(crate) const COUNT_OF_FORMAT_4: usize = 24;
}

const _: () = {
    assert!(Table::COUNT_OF_FORMAT_1 < Table::COUNT_OF_FORMAT_2 && Table::COUNT_OF_FORMAT_2 < Table::COUNT);
    assert!(Table::COUNT <= 1 << u8::BITS, "an export has a table's number in one byte");
};

/// The keys of the meta table.
pub const META: &[u8] = b"store";
/// The key of the note of a move into this store.
pub const MOVE: &[u8] = b"move";

/// The key of the first message that is certain to be in a passage, in a store that was upgraded.
pub const PASSAGES: &[u8] = b"passages";

const ID_BYTES: usize = 16;

/// The key in `messages`. A channel's messages are in the order of their ids.
pub fn message(channel: &ChannelId, id: MessageId) -> Vec<u8> {
    let mut key = channel_prefix(channel);
    key.extend(id.0.as_bytes());
    debug_assert_eq!((message_channel(&key).as_ref(), message_id(&key)), (Some(channel), Some(id)));
    key
}

/// The id at the end of a message's key.
pub fn message_id(key: &[u8]) -> Option<MessageId> {
    last_id(key).map(MessageId)
}

/// All of the channel's keys on the requested side of the place. The caller chooses the direction of reading.
pub fn message_range(channel: &ChannelId, from: PageStart) -> Span {
    let first = || Bound::Included(message(channel, MessageId(Uuid::nil())));
    let last = || Bound::Included(message(channel, MessageId(Uuid::max())));
    forwards(match from {
        PageStart::Oldest | PageStart::Newest => (first(), last()),
        // No key comes after the last possible id. This is a special case so that the range's start is not after its
        // end.
        PageStart::After(id) if id.0 == Uuid::max() => (last(), Bound::Excluded(message(channel, id))),
        PageStart::After(id) => (Bound::Excluded(message(channel, id)), last()),
        PageStart::Before(id) => (first(), Bound::Excluded(message(channel, id))),
    })
}

/// The channel in a message's key.
pub fn message_channel(key: &[u8]) -> Option<ChannelId> {
    let (&length, rest) = key.split_first()?;
    let text = rest.get(..usize::from(length))?;
    ChannelId::parse(std::str::from_utf8(text).ok()?).ok()
}

/// The common prefix of all keys of a channel's messages.
pub fn channel_prefix(channel: &ChannelId) -> Vec<u8> {
    let text = channel.as_str();
    let mut key = Vec::with_capacity(1 + text.len() + ID_BYTES);
    #[allow(clippy::expect_used)]
    key.push(u8::try_from(text.len()).expect("a channel id has at most 76 bytes"));
    key.extend(text.as_bytes());
    key
}

/// The key in `heads`.
pub fn head(channel: &ChannelId) -> Vec<u8> {
    channel.as_str().into()
}

/// The key in `accounts`.
pub fn account(id: UserId) -> Vec<u8> {
    user(id)
}

/// The key in `credentials`. The same ident may occur once with each kind.
pub fn credential(credential: &Credential) -> Vec<u8> {
    let kind = match credential.kind {
        CredentialKind::Device => 0,
        CredentialKind::Custom => 1,
        CredentialKind::Email => 2,
    };
    [&[kind], credential.ident.as_bytes()].concat()
}

/// The key in `usernames`.
pub fn username(username: &str) -> Vec<u8> {
    username.into()
}

/// The key in `revocations`. It does not contain the time, so a later revocation replaces an earlier one.
pub fn revocation(revocation: &Revocation) -> Vec<u8> {
    let (kind, id) = match revocation {
        Revocation::Token { id, .. } => (0, id),
        Revocation::User { id, .. } => (1, &id.0),
    };
    [&[kind], id.as_bytes().as_slice()].concat()
}

/// The key of a revocation in `expiries`.
pub fn expiry(revocation: &Revocation) -> Vec<u8> {
    let (kind, id) = match revocation {
        Revocation::Token { id, .. } => (0, *id),
        Revocation::User { id, .. } => (1, id.0),
    };
    let key = Expiring { kind, time: revocation.time(), id }.key();
    debug_assert_eq!(expiring(&key).as_ref(), Some(revocation), "an expiry says which revocation it is of");
    key
}

/// The revocation that a key of `expiries` describes.
pub fn expiring(key: &[u8]) -> Option<Revocation> {
    let (&kind, rest) = key.split_first()?;
    let (time, id) = rest.split_first_chunk::<8>()?;
    let (time, id) = (time_of(*time), Uuid::from_bytes(id.try_into().ok()?));
    match kind {
        0 => Some(Revocation::Token { id, expires: time }),
        1 => Some(Revocation::User { id: UserId(id), issued_before: time }),
        _ => None,
    }
}

/// The ranges of the keys of expired revocations, first of tokens, then of users; only those after `after`, if it is
/// given.
pub fn expired(expiry: Expiry, after: Option<&[u8]>) -> impl Iterator<Item = Span> {
    [(0, expiry.tokens), (1, expiry.users)].into_iter().filter_map(move |(kind, last)| {
        let last = Expiring { kind, time: last, id: Uuid::max() }.key();
        match after {
            Some(after) if after >= last.as_slice() => None,
            Some(after) if after >= [kind].as_slice() => {
                Some(forwards((Bound::Excluded(after.to_vec()), Bound::Included(last))))
            }
            _ => Some(forwards((Bound::Included(vec![kind]), Bound::Included(last)))),
        }
    })
}

struct Expiring {
    kind: u8,
    time: Timestamp,
    id: Uuid,
}

impl Expiring {
    fn key(self) -> Vec<u8> {
        [&[self.kind], time_bytes(self.time).as_slice(), self.id.as_bytes()].concat()
    }
}

/// The key in tables that have one record for each user. The keys of a user's lists begin with it.
pub fn user(id: UserId) -> Vec<u8> {
    let key: Vec<u8> = id.0.as_bytes().into();
    debug_assert_eq!(user_of(&key), Some(id), "a user's key says which user it is of");
    key
}

/// The key in `groups`. The keys of a group's lists begin with it.
pub fn group(id: GroupId) -> Vec<u8> {
    id.0.as_bytes().into()
}

/// The key in `group_names`. Names that differ in case are different names.
pub fn group_name(name: &str) -> Vec<u8> {
    name.into()
}

/// The group at the end of a key of `browsing`.
pub fn browsed_group(key: &[u8]) -> Option<GroupId> {
    last_id(key).map(GroupId)
}

/// The key in `members`.
pub fn member(group: GroupId, user: UserId) -> Vec<u8> {
    pair(group.0, user.0)
}

/// The key in `rosters`: a group's members in the order of rank and time.
pub fn roster(group: GroupId, place: RosterPlace) -> Vec<u8> {
    Listed { owner: group.0, rank: place.role as u8, since: place.since, id: place.id }.key()
}

/// The key in `user_groups`: a user's groups in the order of rank and time.
pub fn user_group(user: UserId, place: RosterPlace) -> Vec<u8> {
    Listed { owner: user.0, rank: place.role as u8, since: place.since, id: place.id }.key()
}

/// The key in `edges`: how `user` stands to `other`.
pub fn edge(user: UserId, other: UserId) -> Vec<u8> {
    pair(user.0, other.0)
}

/// The key in `friends`: a user's friends and others, in the order of state and time.
pub fn friend(user: UserId, place: FriendPlace) -> Vec<u8> {
    Listed { owner: user.0, rank: place.state as u8, since: place.since, id: place.user.0 }.key()
}

/// The key that notes that `other` has blocked `user`.
pub fn blocked_by(user: UserId, since: Timestamp, other: UserId) -> Vec<u8> {
    const BLOCKED_BY: u8 = 4;
    const { assert!((FriendState::Blocked as u8) < BLOCKED_BY, "these notes come after all states of friends") };
    Listed { owner: user.0, rank: BLOCKED_BY, since, id: other.0 }.key()
}

/// The key in `notifications`. A user's notifications are in the order of their ids.
pub fn notification(user: UserId, id: NotificationId) -> Vec<u8> {
    pair(user.0, id.0)
}

/// The id at the end of a notification's key.
pub fn notification_id(key: &[u8]) -> Option<NotificationId> {
    last_id(key).map(NotificationId)
}

/// The key in `authored`.
pub fn authored(user: UserId, channel: &ChannelId) -> Vec<u8> {
    let key = [user.0.as_bytes(), channel.as_str().as_bytes()].concat();
    debug_assert_eq!(authored_channel(&key).as_ref(), Some(channel), "a note says which channel it is of");
    key
}

/// The channel at the end of a key of `authored`.
pub fn authored_channel(key: &[u8]) -> Option<ChannelId> {
    ChannelId::parse(std::str::from_utf8(key.get(ID_BYTES..)?).ok()?).ok()
}

/// The key in `passages` of the passage that begins with this message.
pub fn passage(user: UserId, channel: &ChannelId, first: MessageId) -> Vec<u8> {
    let mut key = authored(user, channel);
    key.push(0);
    key.extend(first.0.as_bytes());
    debug_assert_eq!(message_id(&key), Some(first));
    key
}

/// The user whose id is the whole key.
pub fn user_of(key: &[u8]) -> Option<UserId> {
    Some(UserId(Uuid::from_bytes(key.try_into().ok()?)))
}

/// A row of a list, as its key describes it: the list's owner, the part of the list, the time since when, and the
/// listed id.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Listed {
    pub owner: Uuid,
    pub rank: u8,
    pub since: Timestamp,
    pub id: Uuid,
}

impl Listed {
    /// Reads a key of `rosters`, `user_groups` or `friends`. `None` if it has another length.
    pub fn of(key: &[u8]) -> Option<Self> {
        let (owner, rest) = key.split_first_chunk::<ID_BYTES>()?;
        let (&rank, rest) = rest.split_first()?;
        let (since, id) = rest.split_first_chunk::<8>()?;
        Some(Self {
            owner: Uuid::from_bytes(*owner),
            rank,
            since: time_of(*since),
            id: Uuid::from_bytes(id.try_into().ok()?),
        })
    }

    fn key(self) -> Vec<u8> {
        let since = time_bytes(self.since);
        let key = [self.owner.as_bytes().as_slice(), &[self.rank], &since, self.id.as_bytes()].concat();
        debug_assert_eq!(Self::of(&key), Some(self), "an entry of a list says all of its place");
        key
    }
}

const SIGN: u64 = 1 << 63;

/// A time as keys contain it.
fn time_bytes(time: Timestamp) -> [u8; 8] {
    (time.0 as u64 ^ SIGN).to_be_bytes()
}

fn time_of(bytes: [u8; 8]) -> Timestamp {
    Timestamp((u64::from_be_bytes(bytes) ^ SIGN) as i64)
}

/// A range of keys, from one bound to another.
pub type Span = (Bound<Vec<u8>>, Bound<Vec<u8>>);

/// All keys with this prefix; only those after `after`, if it is given.
pub fn beginning_with(prefix: &[u8], after: Option<&[u8]>) -> Span {
    let from = match after {
        Some(after) if after >= prefix => Bound::Excluded(after.to_vec()),
        _ => Bound::Included(prefix.to_vec()),
    };
    // The least key after all keys with this prefix: increment the last byte that can be incremented, and drop the
    // bytes after it.
    let end = prefix.iter().rposition(|&byte| byte < u8::MAX).map(|place| {
        let mut end = prefix[..=place].to_vec();
        end[place] += 1;
        debug_assert!(end.as_slice() > prefix && !end.starts_with(prefix), "no key with the prefix is left out");
        end
    });
    forwards(match (from, end) {
        // `after` is behind all keys with this prefix. This is a special case so that the range's start is not after
        // its end.
        (Bound::Excluded(after), Some(end)) if after >= end => (Bound::Included(end.clone()), Bound::Excluded(end)),
        (from, end) => (from, end.map_or(Bound::Unbounded, Bound::Excluded)),
    })
}

/// The part of a range from this key on; `None` if nothing is left of it.
pub fn from_on((from, to): Span, key: Vec<u8>) -> Option<Span> {
    let from = match &from {
        Bound::Included(first) | Bound::Excluded(first) if *first >= key => from,
        _ => Bound::Included(key),
    };
    let is_empty = match (&from, &to) {
        (Bound::Included(from), Bound::Included(to)) => from > to,
        (Bound::Included(from) | Bound::Excluded(from), Bound::Included(to) | Bound::Excluded(to)) => from >= to,
        _ => false,
    };
    (!is_empty).then_some((from, to))
}

/// The same range. Maps and fjall panic at a range whose start is after its end.
fn forwards(span: Span) -> Span {
    use Bound::{Excluded, Included, Unbounded};
    debug_assert!(
        match &span {
            (Excluded(from), Excluded(to)) => from < to,
            (Included(from) | Excluded(from), Included(to) | Excluded(to)) => from <= to,
            (Unbounded, _) | (_, Unbounded) => true,
        },
        "{span:?} runs backwards"
    );
    span
}

fn pair(one: Uuid, other: Uuid) -> Vec<u8> {
    let key = [one.into_bytes(), other.into_bytes()].concat();
    debug_assert_eq!(last_id(&key), Some(other), "the second id can be read from the key");
    key
}

fn last_id(key: &[u8]) -> Option<Uuid> {
    key.last_chunk::<ID_BYTES>().map(|id| Uuid::from_bytes(*id))
}

#[cfg(test)]
mod tests {
    use std::ops::RangeBounds;

    use proptest::prelude::*;

    use super::*;
    use engine::id::GroupId;

    fn channels() -> impl Strategy<Value = ChannelId> {
        let rooms = "[ab.]{1,64}".prop_map(|name| ChannelId::room(&name).unwrap());
        let groups = any::<[u8; 16]>().prop_map(|id| ChannelId::group(GroupId(Uuid::from_bytes(id))));
        let directs = any::<[[u8; 16]; 2]>()
            .prop_map(|[a, b]| ChannelId::direct(UserId(Uuid::from_bytes(a)), UserId(Uuid::from_bytes(b))));
        prop_oneof![rooms, groups, directs]
    }

    fn ids() -> impl Strategy<Value = MessageId> {
        let edge = prop_oneof![Just(Uuid::nil()), Just(Uuid::max())];
        prop_oneof![1 => edge, 4 => any::<[u8; 16]>().prop_map(Uuid::from_bytes)].prop_map(MessageId)
    }

    prop_compose! {
        fn listed()(
            owner in prop_oneof![Just(Uuid::nil()), any::<u128>().prop_map(Uuid::from_u128)],
            rank in 0u8..3,
            since in prop_oneof![-2i64..2, any::<i64>()],
            id in any::<u128>(),
        ) -> Listed {
            Listed { owner, rank, since: Timestamp(since), id: Uuid::from_u128(id) }
        }
    }

    proptest! {
        #[test]
        fn byte_order_is_history_order(channel in channels(), one in ids(), other in ids()) {
            prop_assert_eq!(message(&channel, one).cmp(&message(&channel, other)), one.cmp(&other));
            prop_assert_eq!(message_id(&message(&channel, one)), Some(one));
            prop_assert_eq!(message_channel(&message(&channel, one)), Some(channel.clone()));
            let author = UserId(other.0);
            prop_assert_eq!(authored_channel(&authored(author, &channel)), Some(channel));
        }

        #[test]
        fn byte_order_is_the_order_of_lists(one in listed(), other in listed()) {
            let of = |row: Listed| (row.owner, row.rank, row.since, row.id);
            prop_assert_eq!(one.key().cmp(&other.key()), of(one).cmp(&of(other)));
            prop_assert_eq!(Listed::of(&one.key()), Some(one));
        }

        #[test]
        fn a_beginning_is_all_that_begins_so(
            prefix in prop::collection::vec(prop_oneof![Just(0), Just(255), any::<u8>()], 0..4),
            after in prop::option::of(prop::collection::vec(any::<u8>(), 0..6)),
            key in prop::collection::vec(any::<u8>(), 0..6),
            rest in prop::collection::vec(any::<u8>(), 0..4),
        ) {
            let range = beginning_with(&prefix, after.as_deref());
            for key in [key, [prefix.clone(), rest].concat()] {
                let behind = after.as_ref().is_none_or(|after| key > *after);
                prop_assert_eq!(range.contains(&key), key.starts_with(&prefix) && behind);
            }
        }

        #[test]
        fn arbitrary_keys_do_not_panic(key in prop::collection::vec(any::<u8>(), 0..60)) {
            let (_, _, _) = (Listed::of(&key), message_channel(&key), authored_channel(&key));
            let (_, _, _) = (notification_id(&key), user_of(&key), expiring(&key));
        }

        #[test]
        fn expired_revocations_are_found_by_their_time(
            of_user in any::<bool>(), id in any::<u128>(),
            time in -3i64..3, tokens in -3i64..3, users in -3i64..3,
            after in prop::option::of((any::<bool>(), -3i64..3, any::<u128>())),
        ) {
            let revocation = |of_user, time, id| match (of_user, Timestamp(time), Uuid::from_u128(id)) {
                (true, issued_before, id) => Revocation::User { id: UserId(id), issued_before },
                (false, expires, id) => Revocation::Token { id, expires },
            };
            let one = revocation(of_user, time, id);
            let after = after.map(|(of_user, time, id)| expiry(&revocation(of_user, time, id)));
            prop_assert_eq!(expiring(&expiry(&one)), Some(one));
            let limits = Expiry { tokens: Timestamp(tokens), users: Timestamp(users) };
            let found = expired(limits, after.as_deref()).filter(|span| span.contains(&expiry(&one))).count();
            let behind = after.is_none_or(|after| expiry(&one) > after);
            prop_assert_eq!(found, usize::from(limits.covers(&one) && behind));
        }

        #[test]
        fn a_range_holds_its_own_channel_and_side_only(
            channel in channels(), other in channels(), place in ids(), id in ids(),
        ) {
            for (from, expected) in [
                (PageStart::Oldest, true),
                (PageStart::Newest, true),
                (PageStart::After(place), id > place),
                (PageStart::Before(place), id < place),
            ] {
                let range = message_range(&channel, from);
                prop_assert_eq!(range.contains(&message(&channel, id)), expected);
                if other != channel {
                    prop_assert!(!range.contains(&message(&other, id)));
                }
            }
        }

        #[test]
        fn no_key_begins_with_another(one in channels(), other in channels(), a in ids(), b in ids()) {
            let (one, other) = (message(&one, a), message(&other, b));
            prop_assert!(one == other || !one.starts_with(&other));
        }
    }

    #[test]
    fn the_longest_channel_id_has_room() {
        let id = UserId(Uuid::max());
        assert!(channel_prefix(&ChannelId::direct(id, id)).len() < 256);
        assert!(channel_prefix(&ChannelId::room(&"x".repeat(64)).unwrap()).len() < 256);
    }

    #[test]
    fn tables_are_in_their_places() {
        for (place, table) in Table::ALL.into_iter().enumerate() {
            assert_eq!(table as usize, place);
        }
        // Exports contain these numbers.
        assert_eq!((Table::Messages as u8, Table::Members as u8, Table::AccountDeletions as u8), (0, 10, 19));
        assert_eq!(
            (Table::COUNT_OF_FORMAT_1, Table::COUNT_OF_FORMAT_2, Table::COUNT_OF_FORMAT_3),
            (Table::Groups as usize, Table::Expiries as usize, Table::GroupCounts as usize)
        );
        assert_eq!(Table::COUNT_OF_FORMAT_4, Table::Objects as usize);
    }
}
