//! Writes a server's envelopes as protobuf bytes.
//!
//! The fields `code` and `persistent` of messages and `status` of status presences are wrapper fields, and are written
//! whatever their value. The generated types own their strings, so an event is copied once before it is encoded. That
//! happens once per channel, not once per subscriber.

use prost::Message as _;
use prost::encoding::{WireType, encode_key, encode_varint};
use prost_types::Timestamp as Time;

use super::schema::{
    self, Channel, ChannelGap, ChannelMessage, ChannelMessageAck, ChannelPresenceEvent, Envelope, Error, Notifications,
    Payload, Pong, Status, StatusPresenceEvent, UserPresence,
};
use crate::command::{Event, News, Rejection, RejectionContext, Reply};
use crate::id::{ChannelId, ChannelKind, Timestamp};
use crate::message::{Message, MessageCode, Missed, Presence, StatusPresence};
use crate::presence_list::SharedPresences;
use crate::social::notification::Notification;
use crate::wire::Around;

/// Appends the answer to the request with this `cid`. An empty `cid` is left out.
pub fn encode_reply(cid: &str, reply: &Reply, out: &mut Vec<u8>) {
    let payload = match reply {
        Reply::Done => None,
        Reply::Pong => Some(Payload::Pong(Pong {})),
        Reply::Joined { channel, presences, count, me } => {
            return around_list(cid, channel, presences, *count, me).write(list_bytes(presences), out);
        }
        Reply::Acknowledged { message, code } => Some(Payload::ChannelMessageAck(acknowledged(message, *code))),
        Reply::Statuses(presences) => Some(Payload::Status(Status { presences: list(presences) })),
        Reply::Refused(rejection) => Some(Payload::Error(refused(rejection))),
    };
    envelope(cid, payload, out);
}

/// Appends an event for subscribers. It never has a `cid`, because clients would take it for an answer.
pub fn encode_event(event: &Event, out: &mut Vec<u8>) {
    let payload = match event {
        Event::Message(message) => Payload::ChannelMessage(said(message)),
        Event::Presence { channel, joins, leaves, count } => {
            let KindFields { room_name, group_id, user_id_one, user_id_two } = channel.into();
            Payload::ChannelPresenceEvent(ChannelPresenceEvent {
                channel_id: channel.to_string(),
                joins: list(joins),
                leaves: list(leaves),
                room_name,
                group_id,
                user_id_one,
                user_id_two,
                presence_count: *count,
            })
        }
    };
    envelope("", Some(payload), out);
}

/// Appends the notice to a subscriber that it missed a part of a channel.
pub fn encode_gap(channel: &ChannelId, missed: Missed, out: &mut Vec<u8>) {
    let KindFields { room_name, group_id, user_id_one, user_id_two } = channel.into();
    let gap = ChannelGap {
        channel_id: channel.to_string(),
        after_message_id: missed.after.map(|id| id.to_string()).unwrap_or_default(),
        before_message_id: missed.before.map(|id| id.to_string()).unwrap_or_default(),
        room_name,
        group_id,
        user_id_one,
        user_id_two,
    };
    envelope("", Some(Payload::ChannelGap(gap)), out);
}

/// Appends news that belong to no channel. They never have a `cid`, because clients would take them for an answer.
pub fn encode_news(news: &News, out: &mut Vec<u8>) {
    let payload = match news {
        News::Notifications(notifications) => {
            Payload::Notifications(Notifications { notifications: list(notifications) })
        }
        News::Status { joins, leaves } => {
            Payload::StatusPresenceEvent(StatusPresenceEvent { joins: list(joins), leaves: list(leaves) })
        }
    };
    envelope("", Some(payload), out);
}

fn envelope(cid: &str, payload: Option<Payload>, out: &mut Vec<u8>) {
    let envelope = Envelope { cid: cid.to_owned(), message: payload };
    envelope.encode(out).expect("memory takes every write");
}

/// The number of the field `channel` of an envelope.
const CHANNEL: u32 = 2;

/// The parts of an envelope with a channel before and behind its list of presences.
pub fn around_list(
    cid: &str,
    channel: &ChannelId,
    presences: &SharedPresences,
    count: Option<u32>,
    me: &Presence,
) -> Around {
    let KindFields { room_name, group_id, user_id_one, user_id_two } = channel.into();
    let before = Channel { id: channel.to_string(), ..Channel::default() };
    let behind = Channel {
        self_: Some(me.into()),
        room_name,
        group_id,
        user_id_one,
        user_id_two,
        presence_count: count,
        ..Channel::default()
    };
    let mut front = Vec::new();
    envelope(cid, None, &mut front);
    encode_key(CHANNEL, WireType::LengthDelimited, &mut front);
    let bytes = before.encoded_len() + list_bytes(presences).len() + behind.encoded_len();
    encode_varint(bytes as u64, &mut front);
    before.encode(&mut front).expect("memory takes every write");
    Around { front, back: behind.encode_to_vec() }
}

/// The list as it stands in an envelope.
pub fn list_bytes(presences: &SharedPresences) -> &[u8] {
    presences.protobuf(|all| Channel { presences: list(all), ..Channel::default() }.encode_to_vec())
}

fn acknowledged(message: &Message, code: MessageCode) -> ChannelMessageAck {
    let KindFields { room_name, group_id, user_id_one, user_id_two } = (&message.channel).into();
    ChannelMessageAck {
        channel_id: message.channel.to_string(),
        message_id: message.id.to_string(),
        code: Some(code as i32),
        username: message.username.to_string(),
        create_time: Some(time(message.create_time)),
        update_time: Some(time(message.update_time)),
        persistent: Some(message.persistent),
        room_name,
        group_id,
        user_id_one,
        user_id_two,
    }
}

fn said(message: &Message) -> ChannelMessage {
    let KindFields { room_name, group_id, user_id_one, user_id_two } = (&message.channel).into();
    ChannelMessage {
        channel_id: message.channel.to_string(),
        message_id: message.id.to_string(),
        code: Some(message.code as i32),
        sender_id: message.sender.to_string(),
        username: message.username.to_string(),
        content: message.content.to_string(),
        create_time: Some(time(message.create_time)),
        update_time: Some(time(message.update_time)),
        persistent: Some(message.persistent),
        room_name,
        group_id,
        user_id_one,
        user_id_two,
    }
}

fn refused(rejection: &Rejection) -> Error {
    let context = rejection.context.into_iter().flat_map(RejectionContext::entries);
    Error {
        code: rejection.code as i32,
        message: rejection.message.to_string(),
        context: context.map(|(name, value)| (name.to_owned(), value)).collect(),
    }
}

fn time(timestamp: Timestamp) -> Time {
    const NANOSECONDS: i64 = 1_000_000_000;
    Time { seconds: timestamp.0.div_euclid(NANOSECONDS), nanos: timestamp.0.rem_euclid(NANOSECONDS) as i32 }
}

fn list<'a, Noun, Written: From<&'a Noun>>(nouns: &'a [Noun]) -> Vec<Written> {
    nouns.iter().map(Written::from).collect()
}

impl From<&Presence> for UserPresence {
    fn from(presence: &Presence) -> Self {
        Self {
            user_id: presence.user.to_string(),
            session_id: presence.session.to_string(),
            username: presence.username.to_string(),
            persistence: presence.persistence,
            status: None,
        }
    }
}

impl From<&StatusPresence> for UserPresence {
    fn from(presence: &StatusPresence) -> Self {
        Self {
            user_id: presence.user.to_string(),
            session_id: presence.session.to_string(),
            username: presence.username.to_string(),
            persistence: false,
            status: Some(presence.status.to_string()),
        }
    }
}

impl From<&Notification> for schema::Notification {
    fn from(notification: &Notification) -> Self {
        Self {
            id: notification.id.to_string(),
            subject: notification.subject.to_string(),
            content: notification.content.to_string(),
            code: notification.code as i32,
            sender_id: notification.sender.to_string(),
            create_time: Some(time(notification.create_time.whole_seconds())),
            persistent: true,
        }
    }
}

/// The fields that repeat what a channel's id says.
#[derive(Default)]
struct KindFields {
    room_name: String,
    group_id: String,
    user_id_one: String,
    user_id_two: String,
}

impl From<&ChannelId> for KindFields {
    fn from(channel: &ChannelId) -> Self {
        match channel.kind() {
            ChannelKind::Room(name) => Self { room_name: name.to_owned(), ..Self::default() },
            ChannelKind::Group(group) => Self { group_id: group.to_string(), ..Self::default() },
            ChannelKind::Direct(one, two) => {
                Self { user_id_one: one.to_string(), user_id_two: two.to_string(), ..Self::default() }
            }
        }
    }
}
