//! The protocols of the servers: a dialect writes what a client sends, and reads every frame into what was [`Heard`].
//!
//! Reading a message borrows and allocates nothing, because thousands of clients share a core. No code outside this
//! folder knows a format.

mod asked;
pub mod frames;
pub mod history_page;
mod json;
mod plain;
mod protobuf;
mod served;

use std::borrow::Cow;
use std::net::SocketAddr;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio_tungstenite::tungstenite::{Bytes, Message, Utf8Bytes};

pub use asked::Asked;
pub use plain::{Plain, Speaker};

/// The names of a client's join and leave requests. A publish is named by its decimal number.
const JOIN_CID: &str = "join";
const LEAVE_CID: &str = "leave";

/// The limits that a server may name when a request came too fast: sends a second, or the work of a session or a user.
const SENDS_LIMIT: &str = "sends_per_second";
const WORK_LIMITS: &str = "work_per_";

/// A protocol that servers use.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Dialect {
    /// Nakama's realtime protocol, in JSON.
    Json,
    /// The same protocol in protobuf.
    Protobuf,
    /// Frames that contain our contents, and nothing else that we know.
    Plain(Plain),
}

/// One whole WebSocket message.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Frame {
    Text(Utf8Bytes),
    Binary(Bytes),
}

/// The meaning of a frame, as far as a load client needs it.
#[derive(PartialEq, Eq, Debug)]
pub enum Heard<'a> {
    /// Some user, perhaps this one, sent something in the room.
    Message { id: &'a str, kind: Kind, content: &'a str },
    /// What this user published was accepted, under this id.
    Accepted { request: Option<Request>, id: &'a str },
    /// A request was refused. `retry_after` is set if it came too fast: after this time the server takes it.
    Refused { request: Option<Request>, code: i32, reason: &'a str, retry_after: Option<Duration> },
    /// The room was entered, with an id of its own where it has one. `presences` is how many members were listed, and
    /// `present` how many there are, where the server counts them.
    Joined { request: Option<Request>, channel_id: Option<&'a str>, presences: u64, present: Option<u32> },
    /// A request was carried out, without further information: a leave.
    Done { request: Option<Request> },
    /// Members came and left; `present` is how many there are now, where the server counts them.
    Presences { joins: u64, leaves: u64, present: Option<u32> },
    /// The reader was too slow: the messages between these two, themselves not included, will not come. Without
    /// `after`, no message is missed. Without `before`, the next message ends the gap.
    Gap { after: Option<&'a str>, before: Option<&'a str> },
    /// Anything else; it is ignored.
    Other,
}

/// The kind of a message, for the members that receive it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    New,
    Update,
    Removal,
    /// A message of the server itself: members of a group who come and go.
    Event,
}

/// The request that an answer belongs to, by the name that we gave it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Request {
    Join,
    Leave,
    /// A publisher's message, update or removal of this number.
    Publish(u32),
}

/// A frame that cannot be read in this dialect.
#[derive(PartialEq, Eq, Debug)]
pub struct Unreadable;

/// Buffers for reading, reused from frame to frame.
#[derive(Default)]
pub struct Scratch {
    unescaped: String,
}

/// How a member enters the room.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Entrance {
    pub room: String,
    pub hidden: bool,
    pub persistence: bool,
}

impl Dialect {
    /// Reads a frame and passes its meanings to `hear`, one after the other.
    pub fn read(&self, frame: &Frame, scratch: &mut Scratch, hear: impl FnMut(Heard<'_>)) -> Result<(), Unreadable> {
        match (self, frame) {
            (Self::Json, Frame::Text(text)) => json::read(text, scratch, hear),
            (Self::Protobuf, Frame::Binary(bytes)) => protobuf::read(bytes, hear),
            (Self::Plain(plain), frame) => {
                plain.read(frame.bytes(), &mut scratch.unescaped, hear);
                Ok(())
            }
            (Self::Json, Frame::Binary(_)) | (Self::Protobuf, Frame::Text(_)) => Err(Unreadable),
        }
    }

    /// Whether the server answers requests. If it does not, everything sent is taken as accepted.
    pub fn has_answers(&self) -> bool {
        match self {
            Self::Json | Self::Protobuf => true,
            Self::Plain(_) => false,
        }
    }

    /// Whether the server confirms that a user is in the room.
    pub fn confirms_joins(&self) -> bool {
        match self {
            Self::Json | Self::Protobuf => true,
            Self::Plain(plain) => plain.welcome.is_some(),
        }
    }

    /// Whether users need a session before they can open a WebSocket.
    pub fn has_sessions(&self) -> bool {
        matches!(self, Self::Json | Self::Protobuf)
    }

    /// The URL of a user's WebSocket.
    pub fn url(&self, server: SocketAddr, token: &str, speaker: Speaker<'_>) -> String {
        match self {
            Self::Json => format!("ws://{server}/ws?token={token}&lang=en&status=false"),
            Self::Protobuf => format!("ws://{server}/ws?token={token}&lang=en&status=false&format=protobuf"),
            Self::Plain(plain) => plain.url(speaker),
        }
    }

    /// The request that enters the room, if one is needed.
    pub fn join(&self, entrance: &Entrance, user: u32) -> Option<Message> {
        match self {
            Self::Json => Some(Message::text(json::join(entrance))),
            Self::Protobuf => Some(Message::binary(protobuf::join(entrance))),
            Self::Plain(plain) => plain.greeting(Speaker { user, room: &entrance.room }).map(Message::text),
        }
    }

    /// The request that leaves the room; `None` where users only disconnect.
    pub fn leave(&self, channel_id: &str) -> Option<Message> {
        match self {
            Self::Json => Some(Message::text(json::leave(channel_id))),
            Self::Protobuf => Some(Message::binary(protobuf::leave(channel_id))),
            Self::Plain(_) => None,
        }
    }

    pub fn send(&self, user: u32, number: u32, channel_id: &str, content: &str) -> Message {
        match self {
            Self::Json => Message::text(json::send(number, channel_id, content)),
            Self::Protobuf => Message::binary(protobuf::send(number, channel_id, content)),
            Self::Plain(plain) => Message::text(plain.send(Speaker { user, room: channel_id }, content)),
        }
    }

    /// The request that updates a message; `None` where updates are not possible.
    pub fn update(&self, number: u32, channel_id: &str, message_id: &str, content: &str) -> Option<Message> {
        match self {
            Self::Json => Some(Message::text(json::update(number, channel_id, message_id, content))),
            Self::Protobuf => Some(Message::binary(protobuf::update(number, channel_id, message_id, content))),
            Self::Plain(_) => None,
        }
    }

    /// The request that removes a message; `None` where removals are not possible.
    pub fn remove(&self, number: u32, channel_id: &str, message_id: &str) -> Option<Message> {
        match self {
            Self::Json => Some(Message::text(json::remove(number, channel_id, message_id))),
            Self::Protobuf => Some(Message::binary(protobuf::remove(number, channel_id, message_id))),
            Self::Plain(_) => None,
        }
    }
}

impl Frame {
    pub fn bytes(&self) -> &[u8] {
        match self {
            Self::Text(text) => text.as_str().as_bytes(),
            Self::Binary(bytes) => bytes,
        }
    }

    /// The size with the header of a server's frame.
    pub fn wire_bytes(&self) -> u64 {
        let payload = self.bytes().len() as u64;
        payload
            + match payload {
                0..=125 => 2,
                126..=65_535 => 4,
                _ => 10,
            }
    }

    /// The text to show when this frame is faulty.
    pub fn shown(&self) -> Cow<'_, str> {
        match self {
            Self::Text(text) => Cow::Borrowed(text.as_str()),
            Self::Binary(bytes) => String::from_utf8_lossy(bytes),
        }
    }
}

impl Kind {
    /// The code of this kind. If several codes have one kind, this is the first of them.
    pub fn code(self) -> u8 {
        match self {
            Self::New => 0,
            Self::Update => 1,
            Self::Removal => 2,
            Self::Event => 3,
        }
    }

    /// The kind of a message with this Nakama code; `None` for an unknown code.
    pub fn of_code(code: i32) -> Option<Self> {
        match code {
            0 => Some(Self::New),
            1 => Some(Self::Update),
            2 => Some(Self::Removal),
            3..=9 => Some(Self::Event),
            _ => None,
        }
    }
}

impl Request {
    fn cid(self) -> Cow<'static, str> {
        let cid = match self {
            Self::Join => Cow::Borrowed(JOIN_CID),
            Self::Leave => Cow::Borrowed(LEAVE_CID),
            Self::Publish(number) => Cow::Owned(number.to_string()),
        };
        debug_assert_eq!(Self::of_cid(&cid), Some(self), "the answer finds its request");
        cid
    }

    /// The request with this name, or `None` if this client sends no request with that name.
    fn of_cid(cid: &str) -> Option<Self> {
        match cid {
            JOIN_CID => Some(Self::Join),
            LEAVE_CID => Some(Self::Leave),
            number => {
                // Only the form that `cid` writes: `+7` and `07` are names that this client gives to no request.
                let is_plain = number == "0" || number.starts_with(|first| matches!(first, '1'..='9'));
                number.parse().ok().filter(|_| is_plain).map(Self::Publish)
            }
        }
    }
}

/// How long to wait after a refusal with this context: the limit that it names, and the milliseconds. `None` if the
/// request was refused for another reason than its time.
fn retry_after(limit: &str, milliseconds: &str) -> Option<Duration> {
    let too_fast = limit == SENDS_LIMIT || limit.starts_with(WORK_LIMITS);
    milliseconds.parse().ok().filter(|_| too_fast).map(Duration::from_millis)
}

#[cfg(test)]
mod tests;
