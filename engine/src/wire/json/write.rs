//! Writes a server's envelopes as JSON text: no blanks, members in the order of their field numbers, default values
//! left out.
//!
//! The fields `code` and `persistent` of messages are wrapper fields, and are written whatever their value. Nothing is
//! written as null.

use serde::Serialize;

use super::timestamp::{TimestampText, timestamp};
use crate::command::{Event, News, Rejection, Reply};
use crate::id::{ChannelId, ChannelKind, GroupId, MessageId, NotificationId, SessionId, UserId};
use crate::message::{Message, MessageCode, Missed, Presence, StatusPresence};
use crate::presence_list::SharedPresences;
use crate::social::notification::Notification;
use crate::wire::Around;

/// Appends the answer to the request with this `cid`. An empty `cid` is left out.
pub fn encode_reply(cid: &str, reply: &Reply, out: &mut Vec<u8>) {
    match reply {
        Reply::Done => bare_envelope(cid, out),
        Reply::Pong => envelope(cid, "pong", &EmptyBody {}, out),
        Reply::Joined { channel, presences, count, me } => {
            around_list(cid, channel, presences, *count, me).write(list_bytes(presences), out)
        }
        Reply::Acknowledged { message, code } => {
            envelope(cid, "channel_message_ack", &AckBody::new(message, *code), out);
        }
        Reply::Statuses(presences) => envelope(cid, "status", &StatusBody { presences }, out),
        Reply::Refused(rejection) => encode_error(cid, rejection, out),
    }
}

/// Appends an event for subscribers. It never has a `cid`, because clients would take it for an answer.
pub fn encode_event(event: &Event, out: &mut Vec<u8>) {
    match event {
        Event::Message(message) => envelope("", "channel_message", &MessageBody::new(message), out),
        Event::Presence { channel, joins, leaves, count } => {
            envelope("", "channel_presence_event", &PresenceEventBody::new(channel, joins, leaves, *count), out);
        }
    }
}

/// Appends the notice to a subscriber that it missed a part of a channel.
pub fn encode_gap(channel: &ChannelId, missed: Missed, out: &mut Vec<u8>) {
    let Missed { after, before } = missed;
    let body =
        GapBody { channel_id: channel, after_message_id: after, before_message_id: before, kind: channel.into() };
    envelope("", "channel_gap", &body, out);
}

/// Appends news that belong to no channel. They never have a `cid`, because clients would take them for an answer.
pub fn encode_news(news: &News, out: &mut Vec<u8>) {
    match news {
        News::Notifications(notifications) => {
            envelope("", "notifications", &NotificationsBody { notifications }, out);
        }
        News::Status { joins, leaves } => {
            envelope("", "status_presence_event", &StatusEventBody { joins, leaves }, out);
        }
    }
}

/// A notification as an item of a list: the same object as in a push.
pub fn notification(notification: &Notification) -> impl Serialize + '_ {
    NotificationBody::from(notification)
}

/// A JSON object with these members, whose values are all text.
pub fn text_members(members: &[(&str, &str)]) -> String {
    let mut out = Vec::new();
    for (index, (name, text)) in members.iter().enumerate() {
        out.push(if index == 0 { b'{' } else { b',' });
        value(*name, &mut out);
        out.push(b':');
        value(*text, &mut out);
    }
    out.push(b'}');
    String::from_utf8(out).expect("JSON is UTF-8")
}

/// Appends the refusal of the request with this `cid`.
pub fn encode_error(cid: &str, rejection: &Rejection, out: &mut Vec<u8>) {
    let context = rejection.context.map(|context| ErrorContext(context.entries()));
    let body = ErrorBody { code: rejection.code as i32, message: &rejection.message, context };
    envelope(cid, "error", &body, out);
}

/// A message as an item of history: the same object as in a push.
pub fn channel_message(message: &Message) -> impl Serialize + '_ {
    MessageBody::new(message)
}

/// A presence as an item of a page: the same object as in answers and events.
pub fn channel_presence(presence: &Presence) -> impl Serialize + '_ {
    PresenceBody::from(presence)
}

fn envelope(cid: &str, name: &str, body: &impl Serialize, out: &mut Vec<u8>) {
    begin_envelope(cid, name, out);
    value(body, out);
    out.push(b'}');
}

/// Appends an envelope up to the value of its payload.
fn begin_envelope(cid: &str, name: &str, out: &mut Vec<u8>) {
    out.push(b'{');
    if !cid.is_empty() {
        out.extend_from_slice(b"\"cid\":");
        value(cid, out);
        out.push(b',');
    }
    out.push(b'"');
    out.extend_from_slice(name.as_bytes());
    out.extend_from_slice(b"\":");
}

/// The parts of an envelope with a channel before and behind its list of presences. An empty list is left out.
pub fn around_list(
    cid: &str,
    channel: &ChannelId,
    presences: &SharedPresences,
    count: Option<u32>,
    me: &Presence,
) -> Around {
    let (mut front, mut back) = (Vec::new(), Vec::new());
    begin_envelope(cid, "channel", &mut front);
    front.extend_from_slice(b"{\"id\":");
    value(channel, &mut front);
    if !presences.is_empty() {
        front.extend_from_slice(b",\"presences\":");
    }
    value(&ChannelBody { me: me.into(), kind: channel.into(), presence_count: count }, &mut back);
    // The body's members go on with the object that is open.
    debug_assert_eq!(back[0], b'{', "a body is an object");
    back[0] = b',';
    back.push(b'}');
    Around { front, back }
}

/// The list as it stands in an envelope.
pub fn list_bytes(presences: &SharedPresences) -> &[u8] {
    if presences.is_empty() { &[] } else { presences.json(presence_array) }
}

fn bare_envelope(cid: &str, out: &mut Vec<u8>) {
    #[derive(Serialize)]
    struct Bare<'a> {
        #[serde(skip_serializing_if = "str::is_empty")]
        cid: &'a str,
    }
    value(&Bare { cid }, out);
}

fn value(value: &(impl Serialize + ?Sized), out: &mut Vec<u8>) {
    // A write to memory cannot fail, and these types hold nothing that JSON cannot express.
    serde_json::to_writer(out, value).expect("our own types can be written");
}

#[derive(Serialize)]
struct EmptyBody {}

#[derive(Serialize)]
struct ErrorBody<'a> {
    #[serde(skip_serializing_if = "is_zero")]
    code: i32,
    #[serde(skip_serializing_if = "str::is_empty")]
    message: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    context: Option<ErrorContext>,
}

/// Details of an error: an object whose values are all text.
struct ErrorContext(Vec<(&'static str, String)>);

impl Serialize for ErrorContext {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.0.iter().map(|(name, value)| (name, value)))
    }
}

#[derive(Serialize)]
struct ChannelBody<'a> {
    #[serde(rename = "self")]
    me: PresenceBody<'a>,
    #[serde(flatten)]
    kind: KindBody<'a>,
    #[serde(skip_serializing_if = "Option::is_none")]
    presence_count: Option<u32>,
}

#[derive(Serialize)]
struct AckBody<'a> {
    channel_id: &'a ChannelId,
    message_id: MessageId,
    code: i32,
    #[serde(skip_serializing_if = "str::is_empty")]
    username: &'a str,
    create_time: TimestampText,
    update_time: TimestampText,
    persistent: bool,
    #[serde(flatten)]
    kind: KindBody<'a>,
}

impl<'a> AckBody<'a> {
    fn new(message: &'a Message, code: MessageCode) -> Self {
        Self {
            channel_id: &message.channel,
            message_id: message.id,
            code: code as i32,
            username: &message.username,
            create_time: timestamp(message.create_time),
            update_time: timestamp(message.update_time),
            persistent: message.persistent,
            kind: (&message.channel).into(),
        }
    }
}

#[derive(Serialize)]
struct MessageBody<'a> {
    channel_id: &'a ChannelId,
    message_id: MessageId,
    code: i32,
    sender_id: UserId,
    #[serde(skip_serializing_if = "str::is_empty")]
    username: &'a str,
    content: &'a str,
    create_time: TimestampText,
    update_time: TimestampText,
    persistent: bool,
    #[serde(flatten)]
    kind: KindBody<'a>,
}

impl<'a> MessageBody<'a> {
    fn new(message: &'a Message) -> Self {
        Self {
            channel_id: &message.channel,
            message_id: message.id,
            code: message.code as i32,
            sender_id: message.sender,
            username: &message.username,
            content: &message.content,
            create_time: timestamp(message.create_time),
            update_time: timestamp(message.update_time),
            persistent: message.persistent,
            kind: (&message.channel).into(),
        }
    }
}

#[derive(Serialize)]
struct PresenceEventBody<'a> {
    channel_id: &'a ChannelId,
    #[serde(skip_serializing_if = "<[_]>::is_empty", serialize_with = "presences")]
    joins: &'a [Presence],
    #[serde(skip_serializing_if = "<[_]>::is_empty", serialize_with = "presences")]
    leaves: &'a [Presence],
    #[serde(flatten)]
    kind: KindBody<'a>,
    #[serde(skip_serializing_if = "Option::is_none")]
    presence_count: Option<u32>,
}

impl<'a> PresenceEventBody<'a> {
    fn new(channel: &'a ChannelId, joins: &'a [Presence], leaves: &'a [Presence], count: Option<u32>) -> Self {
        Self { channel_id: channel, joins, leaves, kind: channel.into(), presence_count: count }
    }
}

#[derive(Serialize)]
struct GapBody<'a> {
    channel_id: &'a ChannelId,
    #[serde(skip_serializing_if = "Option::is_none")]
    after_message_id: Option<MessageId>,
    #[serde(skip_serializing_if = "Option::is_none")]
    before_message_id: Option<MessageId>,
    #[serde(flatten)]
    kind: KindBody<'a>,
}

#[derive(Serialize)]
struct StatusBody<'a> {
    #[serde(skip_serializing_if = "<[_]>::is_empty", serialize_with = "statuses")]
    presences: &'a [StatusPresence],
}

#[derive(Serialize)]
struct StatusEventBody<'a> {
    #[serde(skip_serializing_if = "<[_]>::is_empty", serialize_with = "statuses")]
    joins: &'a [StatusPresence],
    #[serde(skip_serializing_if = "<[_]>::is_empty", serialize_with = "statuses")]
    leaves: &'a [StatusPresence],
}

/// `status` is a wrapper field, so it is written even if it is empty.
#[derive(Serialize)]
struct StatusPresenceBody<'a> {
    user_id: UserId,
    session_id: SessionId,
    #[serde(skip_serializing_if = "str::is_empty")]
    username: &'a str,
    status: &'a str,
}

fn statuses<S: serde::Serializer>(list: &[StatusPresence], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_seq(list.iter().map(|presence| StatusPresenceBody {
        user_id: presence.user,
        session_id: presence.session,
        username: &presence.username,
        status: &presence.status,
    }))
}

#[derive(Serialize)]
struct NotificationsBody<'a> {
    #[serde(skip_serializing_if = "<[_]>::is_empty", serialize_with = "notifications")]
    notifications: &'a [Notification],
}

#[derive(Serialize)]
struct NotificationBody<'a> {
    id: NotificationId,
    subject: &'a str,
    content: &'a str,
    code: i32,
    sender_id: UserId,
    create_time: TimestampText,
    persistent: bool,
}

impl<'a> From<&'a Notification> for NotificationBody<'a> {
    fn from(notification: &'a Notification) -> Self {
        Self {
            id: notification.id,
            subject: &notification.subject,
            content: &notification.content,
            code: notification.code as i32,
            sender_id: notification.sender,
            create_time: timestamp(notification.create_time.whole_seconds()),
            persistent: true,
        }
    }
}

fn notifications<S: serde::Serializer>(list: &[Notification], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_seq(list.iter().map(NotificationBody::from))
}

#[derive(Serialize)]
struct PresenceBody<'a> {
    user_id: UserId,
    session_id: SessionId,
    #[serde(skip_serializing_if = "str::is_empty")]
    username: &'a str,
    #[serde(skip_serializing_if = "is_false")]
    persistence: bool,
}

impl<'a> From<&'a Presence> for PresenceBody<'a> {
    fn from(presence: &'a Presence) -> Self {
        Self {
            user_id: presence.user,
            session_id: presence.session,
            username: &presence.username,
            persistence: presence.persistence,
        }
    }
}

/// The members that repeat what a channel's id says.
#[derive(Serialize)]
#[serde(untagged)]
enum KindBody<'a> {
    Room { room_name: &'a str },
    Group { group_id: GroupId },
    Direct { user_id_one: UserId, user_id_two: UserId },
}

impl<'a> From<&'a ChannelId> for KindBody<'a> {
    fn from(channel: &'a ChannelId) -> Self {
        match channel.kind() {
            ChannelKind::Room(room_name) => Self::Room { room_name },
            ChannelKind::Group(group_id) => Self::Group { group_id },
            ChannelKind::Direct(user_id_one, user_id_two) => Self::Direct { user_id_one, user_id_two },
        }
    }
}

fn presences<S: serde::Serializer>(list: &[Presence], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_seq(list.iter().map(PresenceBody::from))
}

fn presence_array(list: &[Presence]) -> Vec<u8> {
    let (mut out, bodies): (_, Vec<_>) = (Vec::new(), list.iter().map(PresenceBody::from).collect());
    value(&bodies, &mut out);
    out
}

fn is_zero(number: &i32) -> bool {
    *number == 0
}

fn is_false(flag: &bool) -> bool {
    !flag
}
