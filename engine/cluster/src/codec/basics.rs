//! The nouns that parcels are made of: ids, messages, presences, and enums as numbers.

use std::sync::Arc;

use engine::command::{RateLimit, RejectionCode};
use engine::fanout::frames::Format;
use engine::id::{
    ChannelId, ConnectionId, Epoch, MessageId, NotificationId, Sequence, SessionId, ShardId, Timestamp, UserId,
};
use engine::message::{Message, MessageCode, Presence, StatusPresence};
use engine::parcel::Backlog;
use engine::persist::Lasting;
use engine::process_rates::ProcessRate;
use engine::social::group::GroupRefusal;
use engine::social::notification::{Notice, Notification, NotificationCode};
use rkyv::with::InlineAsBox;
use rkyv::{Archive, Serialize};
use uuid::Uuid;

use super::Damage;

#[derive(Archive, Serialize)]
pub(super) struct MessageV1<'a> {
    #[rkyv(with = InlineAsBox)]
    channel: &'a str,
    id: [u8; 16],
    sequence: u64,
    code: i32,
    sender: [u8; 16],
    #[rkyv(with = InlineAsBox)]
    username: &'a str,
    #[rkyv(with = InlineAsBox)]
    content: &'a str,
    create_time: i64,
    update_time: i64,
    persistent: bool,
}

#[derive(Archive, Serialize)]
pub(super) struct PresenceV1<'a> {
    user: [u8; 16],
    session: [u8; 16],
    #[rkyv(with = InlineAsBox)]
    username: &'a str,
    persistence: bool,
}

#[derive(Archive, Serialize)]
pub(super) struct StatusPresenceV1<'a> {
    user: [u8; 16],
    session: [u8; 16],
    #[rkyv(with = InlineAsBox)]
    username: &'a str,
    #[rkyv(with = InlineAsBox)]
    status: &'a str,
}

#[derive(Archive, Serialize)]
pub(super) struct NoticeV1<'a> {
    user: [u8; 16],
    id: [u8; 16],
    #[rkyv(with = InlineAsBox)]
    subject: &'a str,
    #[rkyv(with = InlineAsBox)]
    content: &'a str,
    code: i32,
    sender: [u8; 16],
    create_time: i64,
}

#[derive(Archive, Serialize)]
pub(super) struct ConnectionV1 {
    slot: u32,
    generation: u32,
}

/// A number that stands for a value of an enum. Numbers never change their meaning.
pub(super) trait Numbered: Sized + Copy {
    /// The number of this value.
    fn number(self) -> i32;

    /// The value with this number. Fails if there is none.
    fn from_number(number: i32) -> Result<Self, Damage>;
}

macro_rules! numbered {
    ($type:ty, $what:literal, [$($variant:path => $number:literal,)*]) => {
        impl Numbered for $type {
            fn number(self) -> i32 {
                match self {
                    $($variant => $number,)*
                }
            }

            fn from_number(number: i32) -> Result<Self, Damage> {
                match number {
                    $($number => Ok($variant),)*
                    number => Err(Damage::Number { what: $what, number }),
                }
            }
        }
    };
}

numbered!(Format, "format", [
    Format::Json => 0,
    Format::Protobuf => 1,
    Format::JsonWithoutCounts => 2,
    Format::ProtobufWithoutCounts => 3,
]);
numbered!(Backlog, "backlog", [Backlog::High => 0, Backlog::Low => 1,]);
numbered!(Lasting, "failure", [Lasting::ReadOnly => 0, Lasting::Damaged => 1,]);
numbered!(GroupRefusal, "refusal", [
    GroupRefusal::NotFound => 0,
    GroupRefusal::Full => 1,
    GroupRefusal::LastSuperadmin => 2,
    GroupRefusal::NotSuperadmin => 3,
    GroupRefusal::UnknownUser => 4,
    GroupRefusal::TooManyGroups => 5,
]);
numbered!(RejectionCode, "error code", [
    RejectionCode::RuntimeException => 0,
    RejectionCode::UnrecognizedPayload => 1,
    RejectionCode::MissingPayload => 2,
    RejectionCode::BadInput => 3,
    RejectionCode::RuntimeFunctionNotFound => 6,
]);
numbered!(ProcessRate, "rate", [
    ProcessRate::Openings => 4,
    ProcessRate::SignIns => 5,
    ProcessRate::Accounts => 6,
    ProcessRate::Joins => 7,
]);

impl Numbered for RateLimit {
    fn number(self) -> i32 {
        match self {
            Self::SendsPerSecond => 0,
            Self::WorkPerSession => 1,
            Self::WorkPerUser => 2,
            Self::WorkPerAddress => 3,
            Self::Process(rate) => rate.number(),
        }
    }

    fn from_number(number: i32) -> Result<Self, Damage> {
        Ok(match number {
            0 => Self::SendsPerSecond,
            1 => Self::WorkPerSession,
            2 => Self::WorkPerUser,
            3 => Self::WorkPerAddress,
            number => Self::Process(ProcessRate::from_number(number)?),
        })
    }
}

impl Numbered for MessageCode {
    fn number(self) -> i32 {
        self as i32
    }

    fn from_number(number: i32) -> Result<Self, Damage> {
        Self::from_number(number).ok_or(Damage::Number { what: "message code", number })
    }
}

impl Numbered for NotificationCode {
    fn number(self) -> i32 {
        self as i32
    }

    fn from_number(number: i32) -> Result<Self, Damage> {
        Self::from_number(number).ok_or(Damage::Number { what: "notification code", number })
    }
}

impl<'a> From<&'a Message> for MessageV1<'a> {
    fn from(message: &'a Message) -> Self {
        Self {
            channel: message.channel.as_str(),
            id: message.id.0.into_bytes(),
            sequence: message.sequence.0,
            code: message.code.number(),
            sender: message.sender.0.into_bytes(),
            username: &message.username,
            content: &message.content,
            create_time: message.create_time.0,
            update_time: message.update_time.0,
            persistent: message.persistent,
        }
    }
}

impl TryFrom<&ArchivedMessageV1<'_>> for Message {
    type Error = Damage;

    fn try_from(message: &ArchivedMessageV1) -> Result<Self, Damage> {
        Ok(Self {
            channel: channel(&message.channel)?,
            id: message_id(message.id),
            sequence: Sequence(message.sequence.to_native()),
            code: Numbered::from_number(message.code.to_native())?,
            sender: user(message.sender),
            username: Arc::from(&*message.username),
            content: Arc::from(&*message.content),
            create_time: Timestamp(message.create_time.to_native()),
            update_time: Timestamp(message.update_time.to_native()),
            persistent: message.persistent,
        })
    }
}

impl<'a> From<&'a Presence> for PresenceV1<'a> {
    fn from(presence: &'a Presence) -> Self {
        Self {
            user: presence.user.0.into_bytes(),
            session: presence.session.0.into_bytes(),
            username: &presence.username,
            persistence: presence.persistence,
        }
    }
}

impl From<&ArchivedPresenceV1<'_>> for Presence {
    fn from(presence: &ArchivedPresenceV1) -> Self {
        Self {
            user: user(presence.user),
            session: session(presence.session),
            username: Arc::from(&*presence.username),
            persistence: presence.persistence,
        }
    }
}

impl<'a> From<&'a StatusPresence> for StatusPresenceV1<'a> {
    fn from(presence: &'a StatusPresence) -> Self {
        Self {
            user: presence.user.0.into_bytes(),
            session: presence.session.0.into_bytes(),
            username: &presence.username,
            status: &presence.status,
        }
    }
}

impl From<&ArchivedStatusPresenceV1<'_>> for StatusPresence {
    fn from(presence: &ArchivedStatusPresenceV1) -> Self {
        Self {
            user: user(presence.user),
            session: session(presence.session),
            username: Arc::from(&*presence.username),
            status: Arc::from(&*presence.status),
        }
    }
}

impl<'a> From<&'a Notice> for NoticeV1<'a> {
    fn from(Notice { user, notification }: &'a Notice) -> Self {
        Self {
            user: user.0.into_bytes(),
            id: notification.id.0.into_bytes(),
            subject: &notification.subject,
            content: &notification.content,
            code: notification.code.number(),
            sender: notification.sender.0.into_bytes(),
            create_time: notification.create_time.0,
        }
    }
}

impl TryFrom<&ArchivedNoticeV1<'_>> for Notice {
    type Error = Damage;

    fn try_from(notice: &ArchivedNoticeV1) -> Result<Self, Damage> {
        let notification = Notification {
            id: NotificationId(Uuid::from_bytes(notice.id)),
            subject: Arc::from(&*notice.subject),
            content: Arc::from(&*notice.content),
            code: Numbered::from_number(notice.code.to_native())?,
            sender: user(notice.sender),
            create_time: Timestamp(notice.create_time.to_native()),
        };
        Ok(Self { user: user(notice.user), notification })
    }
}

impl From<ConnectionId> for ConnectionV1 {
    fn from(ConnectionId { slot, generation }: ConnectionId) -> Self {
        Self { slot, generation }
    }
}

impl From<&ArchivedConnectionV1> for ConnectionId {
    fn from(connection: &ArchivedConnectionV1) -> Self {
        Self { slot: connection.slot.to_native(), generation: connection.generation.to_native() }
    }
}

/// The channel with this id. Fails if the text is no channel id in its normal form.
pub(super) fn channel(text: &str) -> Result<ChannelId, Damage> {
    ChannelId::parse(text).ok().filter(|channel| channel.as_str() == text).ok_or(Damage::Channel)
}

/// The user with this id.
pub(super) fn user(bytes: [u8; 16]) -> UserId {
    UserId(Uuid::from_bytes(bytes))
}

/// The session with this id.
pub(super) fn session(bytes: [u8; 16]) -> SessionId {
    SessionId(Uuid::from_bytes(bytes))
}

/// The message with this id.
pub(super) fn message_id(bytes: [u8; 16]) -> MessageId {
    MessageId(Uuid::from_bytes(bytes))
}

/// The epoch with this number.
pub(super) fn epoch(number: u64) -> Epoch {
    Epoch(number)
}

/// The shard with this number.
pub(super) fn shard(number: u32) -> ShardId {
    ShardId::from_bits(number)
}

/// A length or a count of this machine. Fails if this machine has no such number.
pub(super) fn count(number: u64) -> Result<usize, Damage> {
    usize::try_from(number).map_err(|_| Damage::Number { what: "count", number: -1 })
}
