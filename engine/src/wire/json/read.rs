//! Reads a client's envelope from JSON text, strictly. Unknown members, duplicates in either spelling, wrong types, a
//! second payload and lone surrogates are all refused, as Nakama refuses them: a client that the server misunderstands
//! should be told.

use std::fmt;
use std::marker::PhantomData;

use serde::Deserialize;
use serde::de::value::MapAccessDeserializer;
use serde::de::{Deserializer, Error, IgnoredAny, MapAccess, Unexpected, Visitor};

use super::payloads::{self, Name, Payload};
use crate::command::{Command, Join};
use crate::wire::request::{Malformed, Request};

/// Reads one envelope, which must be the whole of `text`. Fails if it is no JSON object, if it has no payload, or if
/// only servers send its payload.
pub fn decode(text: &str) -> Result<Request, Malformed> {
    let envelope: Envelope = serde_json::from_str(text).map_err(|error| Malformed::Syntax(error.to_string()))?;
    let Envelope { cid, content } = envelope;
    match content {
        Content::Command(command) => Ok(Request { cid, command }),
        Content::Nothing => Err(Malformed::MissingPayload { cid }),
        Content::Server(name) => Err(Malformed::ServerPayload { cid, name }),
    }
}

/// Whether this may be a message's content: valid JSON whose first non-blank character is `{`.
///
/// Nesting needs a little heap and no stack, so any depth is allowed.
pub fn is_json_object(content: &str) -> bool {
    content.trim_start_matches([' ', '\t', '\n', '\r']).starts_with('{')
        && serde_json::from_str::<IgnoredAny>(content).is_ok()
}

struct Envelope {
    cid: String,
    content: Content,
}

enum Content {
    Nothing,
    Command(Command),
    Server(&'static str),
}

impl<'de> Deserialize<'de> for Envelope {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(EnvelopeVisitor)
    }
}

struct EnvelopeVisitor;

impl<'de> Visitor<'de> for EnvelopeVisitor {
    type Value = Envelope;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an envelope")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Envelope, A::Error> {
        let mut cid: Option<Option<String>> = None;
        // One bit for each row of the payload table. A member that is null counts when duplicates are looked for, but
        // is no payload.
        let mut seen = 0_u64;
        let mut content = Content::Nothing;
        while let Some(member) = members.next_key()? {
            match member {
                Member::Cid if cid.is_some() => return Err(A::Error::duplicate_field("cid")),
                Member::Cid => cid = Some(members.next_value()?),
                Member::Payload(place, name) => {
                    if seen & (1 << place) != 0 {
                        return Err(A::Error::duplicate_field(name.snake));
                    }
                    seen |= 1 << place;
                    if let Some(read) = payload(&mut members, name)? {
                        if !matches!(content, Content::Nothing) {
                            return Err(A::Error::custom("more than one payload"));
                        }
                        content = read;
                    }
                }
            }
        }
        Ok(Envelope { cid: cid.flatten().unwrap_or_default(), content })
    }
}

const _: () = assert!(payloads::NAMES.len() <= u64::BITS as usize, "one bit a payload");

/// A member's name in an envelope.
enum Member {
    Cid,
    Payload(usize, &'static Name),
}

impl<'de> Deserialize<'de> for Member {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_identifier(MemberVisitor)
    }
}

struct MemberVisitor;

impl Visitor<'_> for MemberVisitor {
    type Value = Member;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("cid or the name of a payload")
    }

    fn visit_str<E: Error>(self, name: &str) -> Result<Member, E> {
        if name == "cid" {
            return Ok(Member::Cid);
        }
        match payloads::find(name) {
            Some((place, name)) => Ok(Member::Payload(place, name)),
            None => Err(E::custom(format_args!("unknown member {name:?}"))),
        }
    }
}

/// The value of the payload called `name`, unless it is null.
fn payload<'de, A: MapAccess<'de>>(members: &mut A, name: &'static Name) -> Result<Option<Content>, A::Error> {
    let command = match name.payload {
        Payload::Join => value::<A, JoinBody>(members)?.map(Command::from),
        Payload::Leave => value::<A, LeaveBody>(members)?.map(Command::from),
        Payload::Send => value::<A, SendBody>(members)?.map(Command::from),
        Payload::Update => value::<A, UpdateBody>(members)?.map(Command::from),
        Payload::Remove => value::<A, RemoveBody>(members)?.map(Command::from),
        Payload::StatusFollow => value::<A, StatusFollowBody>(members)?.map(Command::from),
        Payload::StatusUnfollow => value::<A, StatusUnfollowBody>(members)?.map(Command::from),
        Payload::StatusUpdate => value::<A, StatusUpdateBody>(members)?.map(Command::from),
        Payload::Ping => value::<A, EmptyBody>(members)?.map(|_| Command::Ping),
        Payload::Pong => value::<A, EmptyBody>(members)?.map(|_| Command::Pong),
        Payload::Rpc => value::<A, AnyBody>(members)?.map(|_| Command::Rpc),
        Payload::Unsupported => value::<A, AnyBody>(members)?.map(|_| Command::Unsupported(name.snake)),
        Payload::Server => return Ok(value::<A, AnyBody>(members)?.map(|_| Content::Server(name.snake))),
    };
    Ok(command.map(Content::Command))
}

fn value<'de, A: MapAccess<'de>, T: Deserialize<'de>>(members: &mut A) -> Result<Option<T>, A::Error> {
    Ok(members.next_value::<Option<Object<T>>>()?.map(|object| object.0))
}

/// A struct that can be read only from an object. By default, serde also reads it from an array of its members' values.
struct Object<T>(T);

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Object<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(ObjectVisitor(PhantomData))
    }
}

struct ObjectVisitor<T>(PhantomData<T>);

impl<'de, T: Deserialize<'de>> Visitor<'de> for ObjectVisitor<T> {
    type Value = Object<T>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, members: A) -> Result<Object<T>, A::Error> {
        T::deserialize(MapAccessDeserializer::new(members)).map(Object)
    }
}

// The payloads. Every member may be absent or null; both mean its default value.

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct JoinBody {
    target: Option<String>,
    r#type: Option<Int32>,
    persistence: Option<bool>,
    hidden: Option<bool>,
}

impl From<JoinBody> for Command {
    fn from(body: JoinBody) -> Self {
        Command::Join(Join {
            target: body.target.unwrap_or_default(),
            kind: body.r#type.map_or(0, |number| number.0),
            persistence: body.persistence.unwrap_or(true),
            hidden: body.hidden.unwrap_or(false),
        })
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct LeaveBody {
    #[serde(alias = "channelId")]
    channel_id: Option<String>,
}

impl From<LeaveBody> for Command {
    fn from(body: LeaveBody) -> Self {
        Command::Leave { channel_id: body.channel_id.unwrap_or_default() }
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct SendBody {
    #[serde(alias = "channelId")]
    channel_id: Option<String>,
    content: Option<String>,
}

impl From<SendBody> for Command {
    fn from(body: SendBody) -> Self {
        Command::Send { channel_id: body.channel_id.unwrap_or_default(), content: body.content.unwrap_or_default() }
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct UpdateBody {
    #[serde(alias = "channelId")]
    channel_id: Option<String>,
    #[serde(alias = "messageId")]
    message_id: Option<String>,
    content: Option<String>,
}

impl From<UpdateBody> for Command {
    fn from(body: UpdateBody) -> Self {
        Command::Update {
            channel_id: body.channel_id.unwrap_or_default(),
            message_id: body.message_id.unwrap_or_default(),
            content: body.content.unwrap_or_default(),
        }
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RemoveBody {
    #[serde(alias = "channelId")]
    channel_id: Option<String>,
    #[serde(alias = "messageId")]
    message_id: Option<String>,
}

impl From<RemoveBody> for Command {
    fn from(body: RemoveBody) -> Self {
        Command::Remove {
            channel_id: body.channel_id.unwrap_or_default(),
            message_id: body.message_id.unwrap_or_default(),
        }
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct StatusFollowBody {
    #[serde(alias = "userIds")]
    user_ids: Option<Vec<String>>,
    usernames: Option<Vec<String>>,
}

impl From<StatusFollowBody> for Command {
    fn from(body: StatusFollowBody) -> Self {
        Command::StatusFollow {
            user_ids: body.user_ids.unwrap_or_default(),
            usernames: body.usernames.unwrap_or_default(),
        }
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct StatusUnfollowBody {
    #[serde(alias = "userIds")]
    user_ids: Option<Vec<String>>,
}

impl From<StatusUnfollowBody> for Command {
    fn from(body: StatusUnfollowBody) -> Self {
        Command::StatusUnfollow { user_ids: body.user_ids.unwrap_or_default() }
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct StatusUpdateBody {
    status: Option<String>,
}

impl From<StatusUpdateBody> for Command {
    fn from(body: StatusUpdateBody) -> Self {
        Command::StatusUpdate { status: body.status }
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct EmptyBody {}

/// An object whose syntax alone is checked.
struct AnyBody;

impl<'de> Deserialize<'de> for AnyBody {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        IgnoredAny::deserialize(deserializer).map(|_| AnyBody)
    }
}

/// An int32 as protobuf's JSON allows it: a number with an integral value, or the same in quotes.
pub struct Int32(pub i32);

impl<'de> Deserialize<'de> for Int32 {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Int32Visitor)
    }
}

struct Int32Visitor;

impl Visitor<'_> for Int32Visitor {
    type Value = Int32;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a 32-bit integer")
    }

    fn visit_i64<E: Error>(self, number: i64) -> Result<Int32, E> {
        i32::try_from(number).map(Int32).map_err(|_| E::invalid_value(Unexpected::Signed(number), &self))
    }

    fn visit_u64<E: Error>(self, number: u64) -> Result<Int32, E> {
        i32::try_from(number).map(Int32).map_err(|_| E::invalid_value(Unexpected::Unsigned(number), &self))
    }

    fn visit_f64<E: Error>(self, number: f64) -> Result<Int32, E> {
        let in_range = number >= f64::from(i32::MIN) && number <= f64::from(i32::MAX);
        if in_range && number.fract() == 0.0 {
            // The conversion is exact: the number is integral and within the type's range.
            Ok(Int32(number as i32))
        } else {
            Err(E::invalid_value(Unexpected::Float(number), &self))
        }
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Int32, E> {
        // The JSON reader would skip blanks around the number, which are not allowed here.
        let numeric = text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'-' | b'+' | b'.' | b'e' | b'E'));
        let number = if numeric { serde_json::from_str::<Int32>(text).ok() } else { None };
        number.ok_or_else(|| E::invalid_value(Unexpected::Str(text), &self))
    }
}
