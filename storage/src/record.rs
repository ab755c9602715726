//! Records: the byte format of everything that is stored. A header of 16 bytes, then the body as rkyv lays it out:
//!
//! ```text
//! magic 2 | version 1 | kind 1 | body length 4 | xxh3 of the body 8 | body
//! ```
//!
//! A body is used only after its length and checksum have been verified: rkyv's own check proves memory safety, not
//! integrity, and accepts some bodies that were cut short. Layouts never change: a new layout is a new struct with a
//! new version. No input bytes can cause a panic here.

mod friends;
mod groups;
mod inbox;
mod intents;
mod leftovers;
mod objects;
mod transfer;

use std::sync::Arc;

use engine::id::{ChannelId, Epoch, MessageId, Sequence, Timestamp, UserId};
use engine::message::{Message, MessageCode};
use engine::persist::ChannelHead;
use rkyv::api::high::{HighSerializer, HighValidator};
use rkyv::bytecheck::CheckBytes;
use rkyv::ser::allocator::ArenaHandle;
use rkyv::with::InlineAsBox;
use rkyv::{Archive, Deserialize, Portable, Serialize, rancor};
use uuid::Uuid;
use xxhash_rust::xxh3::xxh3_64;

use crate::account::{Account, CredentialOwner, Profile, Revocation};

use friends::EDGE_VERSION;
pub(crate) use friends::{decode_edge, decode_friend_counts, encode_edge, encode_friend_counts};
pub(crate) use groups::{
    decode_group, decode_group_count, decode_group_name, decode_membership, encode_group, encode_group_count,
    encode_group_name, encode_membership,
};
pub(crate) use inbox::{decode_inbox, decode_notification, encode_inbox, encode_notification};
pub use intents::{IntentPart, Value, decode_intent, encode_intent};
pub(crate) use leftovers::{Leftover, decode_leftover, encode_leftover};
pub(crate) use objects::{decode_object, decode_object_counts, encode_object, encode_object_counts};
pub(crate) use transfer::{decode_block, encode_block};
pub use transfer::{decode_note, encode_note};

const MAGIC: [u8; 2] = *b"St";
/// The version of the first layout of each kind.
const VERSION: u8 = 1;
pub(crate) const HEADER_BYTES: usize = 16;

/// The kind of a record; the fourth byte of its header.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub enum Kind {
    Message = 1,
    ChannelHead = 2,
    Account = 3,
    Credential = 4,
    Username = 5,
    Revocation = 6,
    StoreMeta = 7,
    Group = 8,
    GroupName = 9,
    Membership = 10,
    Edge = 11,
    FriendCounts = 12,
    Notification = 13,
    Inbox = 14,
    Leftover = 15,
    Note = 16,
    Block = 17,
    Intent = 18,
    GroupCount = 19,
    Object = 20,
    ObjectCounts = 21,
}

/// Why bytes are not the expected record.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum Damage {
    #[error("{0} bytes are too few for a record")]
    TooShort(usize),
    #[error("this is not a record of ours")]
    Foreign,
    #[error("record version {0} is unknown to this program; a newer one may have written it")]
    Version(u8),
    #[error("a record of kind {found} where kind {} belongs", *expected as u8)]
    Kind { expected: Kind, found: u8 },
    #[error("the record's body has {found} bytes and should have {expected}")]
    Length { expected: usize, found: usize },
    #[error("the record's checksum is wrong")]
    Checksum,
    #[error("the record's body is malformed: {0}")]
    Body(String),
    #[error("message code {0} does not exist")]
    Code(i32),
    #[error("{what} {number} does not exist")]
    Number { what: &'static str, number: i32 },
}

/// The store's record about itself.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct StoreMeta {
    /// The version of the key space and of all records.
    pub format: u32,
    /// The latest epoch that was given out.
    pub epoch: Epoch,
}

/// A message without the parts that its key contains: channel and id. Only persistent messages are stored.
#[derive(Archive, Serialize)]
struct MessageV1<'a> {
    sequence: u64,
    sender: [u8; 16],
    create_time: i64,
    update_time: i64,
    code: i32,
    #[rkyv(with = InlineAsBox)]
    username: &'a str,
    #[rkyv(with = InlineAsBox)]
    content: &'a str,
}

#[derive(Archive, Serialize, Deserialize)]
struct ChannelHeadV1 {
    id: [u8; 16],
    sequence: u64,
}

#[derive(Archive, Serialize, Deserialize)]
struct AccountV1 {
    id: [u8; 16],
    create_time: i64,
    update_time: i64,
    disable_time: Option<i64>,
    username: String,
    display_name: String,
    avatar_url: String,
    lang_tag: String,
    location: String,
    timezone: String,
    metadata: String,
    email: String,
    custom_id: String,
    devices: Vec<String>,
}

#[derive(Archive, Serialize, Deserialize)]
struct CredentialV1 {
    user: [u8; 16],
    secret: String,
}

#[derive(Archive, Serialize, Deserialize)]
struct UsernameV1 {
    user: [u8; 16],
}

#[derive(Archive, Serialize, Deserialize)]
enum RevocationV1 {
    Token { id: [u8; 16], expires: i64 },
    User { id: [u8; 16], issued_before: i64 },
}

#[derive(Archive, Serialize, Deserialize)]
struct StoreMetaV1 {
    format: u32,
    epoch: u64,
}

pub(crate) fn encode_message(message: &Message) -> Vec<u8> {
    debug_assert!(message.persistent, "only persistent messages are stored");
    encode(
        Kind::Message,
        &MessageV1 {
            sequence: message.sequence.0,
            sender: message.sender.0.into_bytes(),
            create_time: message.create_time.0,
            update_time: message.update_time.0,
            code: message.code as i32,
            username: &message.username,
            content: &message.content,
        },
    )
}

/// The message under the key of `channel` and `id`.
pub(crate) fn decode_message(channel: &ChannelId, id: MessageId, bytes: &[u8]) -> Result<Message, Damage> {
    let record = access::<ArchivedMessageV1>(Kind::Message, bytes)?;
    let code = record.code.to_native();
    Ok(Message {
        channel: channel.clone(),
        id,
        sequence: Sequence(record.sequence.to_native()),
        code: MessageCode::from_number(code).ok_or(Damage::Code(code))?,
        sender: UserId(Uuid::from_bytes(record.sender)),
        username: Arc::from(&*record.username),
        content: Arc::from(&*record.content),
        create_time: Timestamp(record.create_time.to_native()),
        update_time: Timestamp(record.update_time.to_native()),
        persistent: true,
    })
}

/// The sender in a message's record.
pub(crate) fn decode_sender(bytes: &[u8]) -> Result<UserId, Damage> {
    Ok(UserId(Uuid::from_bytes(access::<ArchivedMessageV1>(Kind::Message, bytes)?.sender)))
}

pub(crate) fn encode_head(head: &ChannelHead) -> Vec<u8> {
    encode(Kind::ChannelHead, &ChannelHeadV1 { id: head.id.0.into_bytes(), sequence: head.sequence.0 })
}

pub(crate) fn decode_head(bytes: &[u8]) -> Result<ChannelHead, Damage> {
    let record = access::<ArchivedChannelHeadV1>(Kind::ChannelHead, bytes)?;
    Ok(ChannelHead { id: MessageId(Uuid::from_bytes(record.id)), sequence: Sequence(record.sequence.to_native()) })
}

pub(crate) fn encode_account(account: &Account) -> Vec<u8> {
    let account = account.clone();
    encode(
        Kind::Account,
        &AccountV1 {
            id: account.id.0.into_bytes(),
            create_time: account.create_time.0,
            update_time: account.update_time.0,
            disable_time: account.disable_time.map(|time| time.0),
            username: account.username,
            display_name: account.display_name,
            avatar_url: account.avatar_url,
            lang_tag: account.lang_tag,
            location: account.location,
            timezone: account.timezone,
            metadata: account.metadata,
            email: account.email,
            custom_id: account.custom_id,
            devices: account.devices,
        },
    )
}

pub(crate) fn decode_account(bytes: &[u8]) -> Result<Account, Damage> {
    let record = access::<ArchivedAccountV1>(Kind::Account, bytes)?;
    let record: AccountV1 = rkyv::deserialize(record).map_err(malformed)?;
    Ok(Account {
        id: UserId(Uuid::from_bytes(record.id)),
        username: record.username,
        display_name: record.display_name,
        avatar_url: record.avatar_url,
        lang_tag: record.lang_tag,
        location: record.location,
        timezone: record.timezone,
        metadata: record.metadata,
        email: record.email,
        custom_id: record.custom_id,
        devices: record.devices,
        create_time: Timestamp(record.create_time),
        update_time: Timestamp(record.update_time),
        disable_time: record.disable_time.map(Timestamp),
    })
}

/// What others see of an account. Makes nothing of its credentials.
pub(crate) fn decode_profile(bytes: &[u8]) -> Result<Profile, Damage> {
    let record = access::<ArchivedAccountV1>(Kind::Account, bytes)?;
    Ok(Profile {
        id: UserId(Uuid::from_bytes(record.id)),
        username: record.username.as_str().into(),
        display_name: record.display_name.as_str().into(),
        avatar_url: record.avatar_url.as_str().into(),
        lang_tag: record.lang_tag.as_str().into(),
        location: record.location.as_str().into(),
        timezone: record.timezone.as_str().into(),
        metadata: record.metadata.as_str().into(),
        create_time: Timestamp(record.create_time.to_native()),
        update_time: Timestamp(record.update_time.to_native()),
    })
}

/// The username of an account. Makes nothing of the rest.
pub(crate) fn decode_username_of_account(bytes: &[u8]) -> Result<String, Damage> {
    Ok(access::<ArchivedAccountV1>(Kind::Account, bytes)?.username.as_str().into())
}

pub(crate) fn encode_credential(owner: &CredentialOwner) -> Vec<u8> {
    encode(Kind::Credential, &CredentialV1 { user: owner.user.0.into_bytes(), secret: owner.secret.clone() })
}

pub(crate) fn decode_credential(bytes: &[u8]) -> Result<CredentialOwner, Damage> {
    let record = access::<ArchivedCredentialV1>(Kind::Credential, bytes)?;
    Ok(CredentialOwner { user: UserId(Uuid::from_bytes(record.user)), secret: record.secret.as_str().to_owned() })
}

pub(crate) fn encode_username(user: UserId) -> Vec<u8> {
    encode(Kind::Username, &UsernameV1 { user: user.0.into_bytes() })
}

pub(crate) fn decode_username(bytes: &[u8]) -> Result<UserId, Damage> {
    let record = access::<ArchivedUsernameV1>(Kind::Username, bytes)?;
    Ok(UserId(Uuid::from_bytes(record.user)))
}

pub(crate) fn encode_revocation(revocation: &Revocation) -> Vec<u8> {
    let record = match revocation {
        Revocation::Token { id, expires } => RevocationV1::Token { id: id.into_bytes(), expires: expires.0 },
        Revocation::User { id, issued_before } => {
            RevocationV1::User { id: id.0.into_bytes(), issued_before: issued_before.0 }
        }
    };
    encode(Kind::Revocation, &record)
}

pub(crate) fn decode_revocation(bytes: &[u8]) -> Result<Revocation, Damage> {
    Ok(match access::<ArchivedRevocationV1>(Kind::Revocation, bytes)? {
        ArchivedRevocationV1::Token { id, expires } => {
            Revocation::Token { id: Uuid::from_bytes(*id), expires: Timestamp(expires.to_native()) }
        }
        ArchivedRevocationV1::User { id, issued_before } => {
            Revocation::User { id: UserId(Uuid::from_bytes(*id)), issued_before: Timestamp(issued_before.to_native()) }
        }
    })
}

pub(crate) fn encode_meta(meta: &StoreMeta) -> Vec<u8> {
    encode(Kind::StoreMeta, &StoreMetaV1 { format: meta.format, epoch: meta.epoch.0 })
}

pub(crate) fn decode_meta(bytes: &[u8]) -> Result<StoreMeta, Damage> {
    let record = access::<ArchivedStoreMetaV1>(Kind::StoreMeta, bytes)?;
    Ok(StoreMeta { format: record.format.to_native(), epoch: Epoch(record.epoch.to_native()) })
}

/// The body is written after space for the header, so nothing is copied.
fn encode<T>(kind: Kind, record: &T) -> Vec<u8>
where
    T: for<'a> Serialize<HighSerializer<Vec<u8>, ArenaHandle<'a>, rancor::Error>>,
{
    encode_version(kind, VERSION, record)
}

/// The same for a layout of a later version.
fn encode_version<T>(kind: Kind, version: u8, record: &T) -> Vec<u8>
where
    T: for<'a> Serialize<HighSerializer<Vec<u8>, ArenaHandle<'a>, rancor::Error>>,
{
    let room = vec![0; HEADER_BYTES];
    #[allow(clippy::expect_used)]
    let mut bytes = rkyv::api::high::to_bytes_in(record, room).expect("writing to memory does not fail");
    let (header, body) = bytes.split_at_mut(HEADER_BYTES);
    #[allow(clippy::expect_used)]
    let length = u32::try_from(body.len()).expect("a record is far smaller than 4 GiB");
    header[..2].copy_from_slice(&MAGIC);
    header[2] = version;
    header[3] = kind as u8;
    header[4..8].copy_from_slice(&length.to_le_bytes());
    header[8..].copy_from_slice(&xxh3_64(body).to_le_bytes());
    debug_assert!(self::body(kind, version, &bytes).is_ok(), "a record that is written can be read");
    bytes
}

fn access<T>(kind: Kind, bytes: &[u8]) -> Result<&T, Damage>
where
    T: Portable + for<'a> CheckBytes<HighValidator<'a, rancor::Error>>,
{
    access_version(kind, VERSION, bytes)
}

/// The same for a layout of another version.
fn access_version<T>(kind: Kind, version: u8, bytes: &[u8]) -> Result<&T, Damage>
where
    T: Portable + for<'a> CheckBytes<HighValidator<'a, rancor::Error>>,
{
    rkyv::access::<T, rancor::Error>(body(kind, version, bytes)?).map_err(malformed)
}

/// The version that a record's header names.
fn version_of(bytes: &[u8]) -> Option<u8> {
    bytes.get(2).copied()
}

/// The newest version of the layouts of a kind, by its number.
fn newest_version(kind: u8) -> u8 {
    if kind == Kind::Edge as u8 { EDGE_VERSION } else { VERSION }
}

/// The body of a record of this kind and version, after header, length and checksum have been verified.
fn body(expected: Kind, expected_version: u8, bytes: &[u8]) -> Result<&[u8], Damage> {
    let Some((header, body)) = bytes.split_first_chunk::<HEADER_BYTES>() else {
        return Err(Damage::TooShort(bytes.len()));
    };
    let (kind, length) = read_header(header)?;
    if kind != expected as u8 {
        return Err(Damage::Kind { expected, found: kind });
    }
    if header[2] != expected_version {
        return Err(Damage::Version(header[2]));
    }
    if length != body.len() {
        return Err(Damage::Length { expected: length, found: body.len() });
    }
    let [.., c0, c1, c2, c3, c4, c5, c6, c7] = *header;
    if xxh3_64(body) != u64::from_le_bytes([c0, c1, c2, c3, c4, c5, c6, c7]) {
        return Err(Damage::Checksum);
    }
    Ok(body)
}

/// A record's kind, and the length of its body in bytes.
pub(crate) fn read_header(header: &[u8; HEADER_BYTES]) -> Result<(u8, usize), Damage> {
    let [m0, m1, version, kind, l0, l1, l2, l3, ..] = *header;
    if [m0, m1] != MAGIC {
        return Err(Damage::Foreign);
    }
    if !(VERSION..=newest_version(kind)).contains(&version) {
        return Err(Damage::Version(version));
    }
    Ok((kind, u32::from_le_bytes([l0, l1, l2, l3]) as usize))
}

fn malformed(error: rancor::Error) -> Damage {
    Damage::Body(error.to_string())
}

#[cfg(test)]
mod tests {
    use engine::id::{GroupId, NotificationId};
    use engine::social::friend::FriendState;
    use engine::social::group::Role;
    use engine::social::notification::{Notification, NotificationCode};
    use proptest::prelude::*;

    use super::*;
    use crate::friend::{Edge, FriendCounts};
    use crate::group::{Group, Membership};
    use crate::inbox::Inbox;
    use crate::object::{ObjectId, ReadPermission};

    fn uuids() -> impl Strategy<Value = Uuid> {
        any::<[u8; 16]>().prop_map(Uuid::from_bytes)
    }

    fn codes() -> impl Strategy<Value = MessageCode> {
        (0..=9).prop_filter_map("a code", MessageCode::from_number)
    }

    prop_compose! {
        fn messages()(
            (room, id, sequence, code, sender) in ("[a-z]{1,64}", uuids(), any::<u64>(), codes(), uuids()),
            (username, content, create, update) in (".{0,40}", ".{0,300}", any::<i64>(), any::<i64>()),
        ) -> Message {
            Message {
                channel: ChannelId::room(&room).unwrap(),
                id: MessageId(id),
                sequence: Sequence(sequence),
                code,
                sender: UserId(sender),
                username: username.into(),
                content: content.into(),
                create_time: Timestamp(create),
                update_time: Timestamp(update),
                persistent: true,
            }
        }
    }

    prop_compose! {
        fn accounts()(
            id in uuids(),
            texts in prop::array::uniform9(".{0,30}"),
            devices in prop::collection::vec(".{0,30}", 0..4),
            (create, update, disable) in (any::<i64>(), any::<i64>(), any::<Option<i64>>()),
        ) -> Account {
            let [username, display_name, avatar_url, lang_tag, location, timezone, metadata, email, custom_id] = texts;
            Account {
                id: UserId(id),
                username,
                display_name,
                avatar_url,
                lang_tag,
                location,
                timezone,
                metadata,
                email,
                custom_id,
                devices,
                create_time: Timestamp(create),
                update_time: Timestamp(update),
                disable_time: disable.map(Timestamp),
            }
        }
    }

    fn no_object() -> ObjectId {
        ObjectId { owner: UserId(Uuid::nil()), collection: "any".into(), key: "any".into() }
    }

    /// Decodes the bytes as every kind of record. The test is that this returns.
    fn decode_as_everything(bytes: &[u8]) -> usize {
        let channel = ChannelId::room("any").unwrap();
        [
            decode_message(&channel, MessageId(Uuid::nil()), bytes).is_ok(),
            decode_head(bytes).is_ok(),
            decode_account(bytes).is_ok(),
            decode_credential(bytes).is_ok(),
            decode_username(bytes).is_ok(),
            decode_revocation(bytes).is_ok(),
            decode_meta(bytes).is_ok(),
            decode_group(GroupId(Uuid::nil()), bytes).is_ok(),
            decode_group_name(bytes).is_ok(),
            decode_membership(bytes).is_ok(),
            decode_edge(bytes).is_ok(),
            decode_friend_counts(bytes).is_ok(),
            decode_notification(NotificationId(Uuid::nil()), bytes).is_ok(),
            decode_inbox(bytes).is_ok(),
            decode_leftover(bytes).is_ok(),
            decode_note(bytes).is_ok(),
            decode_block(bytes).is_ok(),
            decode_intent(bytes).is_ok(),
            decode_object((no_object(), ReadPermission::Owner), bytes).is_ok(),
            decode_object_counts(bytes).is_ok(),
        ]
        .into_iter()
        .filter(|&ok| ok)
        .count()
    }

    /// The same body under a header with a valid checksum: what a bug of ours could write, or an attacker with access
    /// to the disk.
    fn vouch_for(kind: u8, body: &[u8]) -> Vec<u8> {
        let mut bytes = vec![MAGIC[0], MAGIC[1], VERSION, kind];
        bytes.extend((body.len() as u32).to_le_bytes());
        bytes.extend(xxh3_64(body).to_le_bytes());
        bytes.extend(body);
        bytes
    }

    proptest! {
        #[test]
        fn messages_come_back(message in messages()) {
            let bytes = encode_message(&message);
            prop_assert_eq!(decode_message(&message.channel, message.id, &bytes), Ok(message));
            prop_assert_eq!(decode_as_everything(&bytes), 1);
        }

        #[test]
        fn accounts_come_back(account in accounts()) {
            let bytes = encode_account(&account);
            prop_assert_eq!(decode_account(&bytes), Ok(account.clone()));
            prop_assert_eq!(decode_username_of_account(&bytes), Ok(account.username.clone()));
            prop_assert_eq!(decode_profile(&bytes), Ok(Profile::from(account)));
            prop_assert_eq!(decode_as_everything(&bytes), 1);
        }

        #[test]
        fn small_records_come_back(id in uuids(), number in any::<u64>(), time in any::<i64>(), text in ".{0,99}") {
            let head = ChannelHead { id: MessageId(id), sequence: Sequence(number) };
            prop_assert_eq!(decode_head(&encode_head(&head)), Ok(head));
            let owner = CredentialOwner { user: UserId(id), secret: text };
            prop_assert_eq!(decode_credential(&encode_credential(&owner)), Ok(owner));
            prop_assert_eq!(decode_username(&encode_username(UserId(id))), Ok(UserId(id)));
            for revocation in [
                Revocation::Token { id, expires: Timestamp(time) },
                Revocation::User { id: UserId(id), issued_before: Timestamp(time) },
            ] {
                prop_assert_eq!(decode_revocation(&encode_revocation(&revocation)), Ok(revocation));
            }
            let meta = StoreMeta { format: number as u32, epoch: Epoch(number) };
            prop_assert_eq!(decode_meta(&encode_meta(&meta)), Ok(meta));
        }

        #[test]
        fn groups_and_memberships_come_back(
            (id, creator) in (uuids(), uuids()),
            texts in prop::array::uniform5(".{0,30}"),
            open: bool,
            (edge_count, max_count, create, update) in any::<(u32, u32, i64, i64)>(),
            role in (0..5).prop_filter_map("a role", Role::from_number),
        ) {
            let [name, description, lang_tag, metadata, avatar_url] = texts;
            let (create_time, update_time) = (Timestamp(create), Timestamp(update));
            let (id, creator) = (GroupId(id), UserId(creator));
            let group = Group {
                id, creator, name, description, lang_tag, metadata, avatar_url, open, edge_count, max_count,
                create_time, update_time,
            };
            let bytes = encode_group(&group);
            prop_assert_eq!(decode_group(id, &bytes), Ok(group));
            prop_assert_eq!(decode_as_everything(&bytes), 1);
            prop_assert_eq!(decode_group_name(&encode_group_name(id)), Ok(id));
            let membership = Membership { role, since: create_time };
            prop_assert_eq!(decode_membership(&encode_membership(membership)), Ok(membership));
        }

        #[test]
        fn friends_and_notifications_come_back(
            (one, other) in (uuids(), uuids()),
            numbers in any::<(u32, u32, i64)>(),
            texts in (".{0,99}", ".{0,99}"),
            state in (0..4).prop_filter_map("a state", FriendState::from_number),
            code in (-9..0).prop_filter_map("a code", NotificationCode::from_number),
            ids in any::<[bool; 2]>(),
        ) {
            for metadata in ["", &texts.0] {
                let edge = Edge { state, since: Timestamp(numbers.2), metadata: metadata.into() };
                let bytes = encode_edge(&edge);
                prop_assert_eq!(decode_edge(&bytes), Ok(edge));
                prop_assert_eq!(decode_as_everything(&bytes), 1);
            }
            let friend_counts = FriendCounts { friends: numbers.0, edges: numbers.1 };
            prop_assert_eq!(decode_friend_counts(&encode_friend_counts(friend_counts)), Ok(friend_counts));
            let notification = Notification {
                id: NotificationId(one),
                subject: texts.0.into(),
                content: texts.1.into(),
                code,
                sender: UserId(other),
                create_time: Timestamp(numbers.2),
            };
            let bytes = encode_notification(&notification);
            prop_assert_eq!(decode_notification(notification.id, &bytes), Ok(notification.clone()));
            prop_assert_eq!(decode_as_everything(&bytes), 1);
            let [last, floor] = ids.map(|there| there.then_some(NotificationId(one)));
            let inbox = Inbox { count: numbers.0, last, floor };
            prop_assert_eq!(decode_inbox(&encode_inbox(inbox)), Ok(inbox));
            let values = vec![
                Value::Text(notification.subject.to_string()),
                Value::Texts(vec![notification.content.to_string(), String::new()]),
                Value::Bytes(other.as_bytes().to_vec()),
                Value::Id(one),
                Value::Int(numbers.1 as i32),
                Value::Big(numbers.2),
                Value::Flag(ids[0]),
            ];
            let rows = vec![("PutEdge".to_owned(), values), ("DeleteEdge".to_owned(), Vec::new())];
            let part = IntentPart { intent: one, part: numbers.0, parts: numbers.1, first: numbers.2, rows };
            let bytes = encode_intent(part.clone());
            prop_assert_eq!(decode_intent(&bytes), Ok(part));
            prop_assert_eq!(decode_as_everything(&bytes), 1);
            let leftover = Leftover { step: 3, from: one.as_bytes().to_vec() };
            prop_assert_eq!(decode_leftover(&encode_leftover(&leftover)), Ok(leftover));
        }

        #[test]
        fn arbitrary_bytes_are_refused(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            prop_assert_eq!(decode_as_everything(&bytes), 0);
        }

        #[test]
        fn arbitrary_bodies_with_a_true_checksum_do_not_panic(
            kind in 0u8..22,
            body in prop::collection::vec(any::<u8>(), 0..300),
        ) {
            decode_as_everything(&vouch_for(kind, &body));
        }

        #[test]
        fn a_changed_record_is_refused(message in messages(), place in any::<prop::sample::Index>(), flip in 1u8..) {
            let mut bytes = encode_message(&message);
            let place = place.index(bytes.len());
            bytes[place] ^= flip;
            prop_assert!(decode_message(&message.channel, message.id, &bytes).is_err(), "byte {}", place);
        }

        #[test]
        fn a_changed_body_with_a_true_checksum_does_not_panic(
            account in accounts(),
            flips in prop::collection::vec((any::<prop::sample::Index>(), 1u8..), 1..8),
            cut in any::<prop::sample::Index>(),
        ) {
            let bytes = encode_account(&account);
            let (kind, mut body) = (bytes[3], bytes[HEADER_BYTES..].to_vec());
            decode_as_everything(&vouch_for(kind, &body[..cut.index(body.len())]));
            for (place, flip) in flips {
                let place = place.index(body.len());
                body[place] ^= flip;
                decode_as_everything(&vouch_for(kind, &body));
            }
        }

        #[test]
        fn a_record_cut_short_is_refused(message in messages()) {
            let bytes = encode_message(&message);
            for length in 0..bytes.len() {
                prop_assert!(decode_message(&message.channel, message.id, &bytes[..length]).is_err());
            }
        }
    }

    #[test]
    fn damage_says_what_is_wrong() {
        let good = encode_username(UserId(Uuid::nil()));
        let check = |place: usize, byte: u8, expected: Damage| {
            let mut bytes = good.clone();
            bytes[place] = byte;
            assert_eq!(decode_username(&bytes), Err(expected));
        };
        check(0, b'X', Damage::Foreign);
        check(2, 2, Damage::Version(2));
        check(3, Kind::Account as u8, Damage::Kind { expected: Kind::Username, found: Kind::Account as u8 });
        check(4, 17, Damage::Length { expected: 17, found: 16 });
        check(HEADER_BYTES, 1, Damage::Checksum);
        assert_eq!(decode_username(&good[..15]), Err(Damage::TooShort(15)));
    }

    /// The bytes of version 1, as existing stores have them. If this fails, the format has changed: make a version 2.
    #[test]
    fn version_one_stays_as_it_is() {
        let meta = StoreMeta { format: 1, epoch: Epoch(7) };
        let body = [1, 0, 0, 0, 7, 0, 0, 0, 0, 0, 0, 0];
        assert_eq!(encode_meta(&meta), vouch_for(7, &body));
        let membership = Membership { role: Role::Member, since: Timestamp(7) };
        assert_eq!(encode_membership(membership), vouch_for(10, &[7, 0, 0, 0, 0, 0, 0, 0, 2]));
        let edge = Edge { state: FriendState::Blocked, since: Timestamp(7), metadata: "".into() };
        assert_eq!(encode_edge(&edge), vouch_for(11, &[7, 0, 0, 0, 0, 0, 0, 0, 3]));
    }

    #[test]
    fn unknown_numbers_are_damage() {
        let damage = |what, number| Err(Damage::Number { what, number });
        assert_eq!(decode_membership(&vouch_for(10, &[0, 0, 0, 0, 0, 0, 0, 0, 5])), damage("role", 5));
        let edge = decode_edge(&vouch_for(11, &[0, 0, 0, 0, 0, 0, 0, 0, 4]));
        assert_eq!(edge, Err(Damage::Number { what: "friend state", number: 4 }));
    }
}
