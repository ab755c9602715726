//! The key space, as one table:
//!
//! | table | key | record |
//! | --- | --- | --- |
//! | `messages` | length of the channel id 1, channel id, message id 16 | message |
//! | `heads` | channel id | channel head |
//! | `accounts` | user id 16 | account |
//! | `credentials` | kind 1, ident | credential |
//! | `usernames` | username | username |
//! | `revocations` | 0 and token id 16, or 1 and user id 16 | revocation |
//! | `meta` | `store` | store meta |
//!
//! The order of bytes is the order of history: a channel's messages lie together, by rising id. The length in front
//! keeps a channel's keys from ever beginning with another channel's.

use std::ops::Bound;

use engine::id::{ChannelId, MessageId, UserId};
use uuid::Uuid;

use crate::Place;
use crate::account::{Credential, CredentialKind, Revocation};

/// Where records of one kind live.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Table {
    Messages,
    Heads,
    Accounts,
    Credentials,
    Usernames,
    Revocations,
    Meta,
}

impl Table {
    pub const COUNT: usize = 7;
    /// In the order of their discriminants, so that `table as usize` finds its place.
    pub const ALL: [Self; Self::COUNT] = {
        use Table::*;
        [Messages, Heads, Accounts, Credentials, Usernames, Revocations, Meta]
    };

    pub fn name(self) -> &'static str {
        match self {
            Self::Messages => "messages",
            Self::Heads => "heads",
            Self::Accounts => "accounts",
            Self::Credentials => "credentials",
            Self::Usernames => "usernames",
            Self::Revocations => "revocations",
            Self::Meta => "meta",
        }
    }
}

/// The only key of the meta table.
pub const META: &[u8] = b"store";

const ID_BYTES: usize = 16;

pub fn message(channel: &ChannelId, id: MessageId) -> Vec<u8> {
    let mut key = channel_prefix(channel);
    key.extend(id.0.as_bytes());
    key
}

/// The id at the end of a message's key.
pub fn message_id(key: &[u8]) -> Option<MessageId> {
    key.last_chunk::<ID_BYTES>().map(|id| MessageId(Uuid::from_bytes(*id)))
}

/// All of the channel's keys that are on the asked side of the place. The direction of reading is the reader's.
pub fn message_range(channel: &ChannelId, from: Place) -> (Bound<Vec<u8>>, Bound<Vec<u8>>) {
    let first = || Bound::Included(message(channel, MessageId(Uuid::nil())));
    let last = || Bound::Included(message(channel, MessageId(Uuid::max())));
    match from {
        Place::Oldest | Place::Newest => (first(), last()),
        // Behind the last possible id there is nothing; said so that no range begins behind its end.
        Place::After(id) if id.0 == Uuid::max() => (last(), Bound::Excluded(message(channel, id))),
        Place::After(id) => (Bound::Excluded(message(channel, id)), last()),
        Place::Before(id) => (first(), Bound::Excluded(message(channel, id))),
    }
}

fn channel_prefix(channel: &ChannelId) -> Vec<u8> {
    let text = channel.as_str();
    let mut key = Vec::with_capacity(1 + text.len() + ID_BYTES);
    #[allow(clippy::expect_used)]
    key.push(u8::try_from(text.len()).expect("a channel id has at most 76 bytes"));
    key.extend(text.as_bytes());
    key
}

pub fn head(channel: &ChannelId) -> Vec<u8> {
    channel.as_str().into()
}

pub fn account(id: UserId) -> Vec<u8> {
    id.0.as_bytes().into()
}

pub fn credential(credential: &Credential) -> Vec<u8> {
    let kind = match credential.kind {
        CredentialKind::Device => 0,
        CredentialKind::Custom => 1,
        CredentialKind::Email => 2,
    };
    [&[kind], credential.ident.as_bytes()].concat()
}

pub fn username(username: &str) -> Vec<u8> {
    username.into()
}

pub fn revocation(revocation: &Revocation) -> Vec<u8> {
    let (kind, id) = match revocation {
        Revocation::Token { id, .. } => (0, id),
        Revocation::User { id, .. } => (1, &id.0),
    };
    [&[kind], id.as_bytes().as_slice()].concat()
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

    proptest! {
        #[test]
        fn byte_order_is_history_order(channel in channels(), one in ids(), other in ids()) {
            prop_assert_eq!(message(&channel, one).cmp(&message(&channel, other)), one.cmp(&other));
            prop_assert_eq!(message_id(&message(&channel, one)), Some(one));
        }

        #[test]
        fn a_range_holds_its_own_channel_and_side_only(
            channel in channels(), other in channels(), place in ids(), id in ids(),
        ) {
            for (from, expected) in [
                (Place::Oldest, true),
                (Place::Newest, true),
                (Place::After(place), id > place),
                (Place::Before(place), id < place),
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
    }
}
