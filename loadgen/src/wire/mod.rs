//! How a server is spoken to: its dialect writes what a client says, and reads every frame into what was [`Heard`].
//!
//! Reading borrows and allocates nothing on the way of a message: thousands of clients share a core. Nothing outside this
//! folder knows a format.

mod json;
mod plain;
mod protobuf;
mod served;

use std::borrow::Cow;
use std::net::SocketAddr;

use serde::{Deserialize, Serialize};
use tokio_tungstenite::tungstenite::{Bytes, Message, Utf8Bytes};

pub use plain::{Plain, Speaker};
pub use served::Asked;

/// The names that the join and the leave of a client go by; what it publishes is named by its decimal number.
const JOIN_CID: &str = "join";
const LEAVE_CID: &str = "leave";

/// A language that servers speak.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Dialect {
    /// Nakama's realtime protocol, in JSON.
    Json,
    /// The same in protobuf.
    Protobuf,
    /// Nothing but frames with our contents in them.
    Plain(Plain),
}

/// One whole message of the WebSocket.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Frame {
    Text(Utf8Bytes),
    Binary(Bytes),
}

/// What a frame says, as far as a load client cares.
#[derive(PartialEq, Eq, Debug)]
pub enum Heard<'a> {
    /// Somebody, perhaps oneself, said something in the room.
    Message { id: &'a str, kind: Kind, content: &'a str },
    /// What was published is accepted, under this id.
    Accepted { request: Option<Request>, id: &'a str },
    /// A request is refused.
    Refused { request: Option<Request>, code: i32, reason: &'a str },
    /// The room is entered, under an id of its own where it has one; `presences` were listed, of `present` members where
    /// the server counts them.
    Joined { request: Option<Request>, channel_id: Option<&'a str>, presences: u64, present: Option<u32> },
    /// A request is carried out, and there is nothing to tell of it: a leave.
    Done { request: Option<Request> },
    /// Members came and went; `present` are there now where the server counts them.
    Presences { joins: u64, leaves: u64, present: Option<u32> },
    /// The reader was too slow: what was said between the two messages, neither of them included, will not come. Without
    /// the first no message is missed, without the second whatever comes next ends the gap.
    Gap { after: Option<&'a str>, before: Option<&'a str> },
    /// Something else, which is nobody's concern here.
    Other,
}

/// What a message is to those who hear it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    New,
    Update,
    Removal,
    /// What the server says of itself: members of a group who come and go.
    Event,
}

/// What an answer is the answer to, by the name we gave it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Request {
    Join,
    Leave,
    /// A publisher's message, update or removal of this number.
    Publish(u32),
}

/// A frame that is nothing in this dialect.
#[derive(PartialEq, Eq, Debug)]
pub struct Unreadable;

/// Buffers that reading needs, kept from frame to frame.
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
    /// Reads a frame and hands over what it says, one thing after the other.
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

    /// Whether the server answers what it is asked; where it does not, what was sent is as good as accepted.
    pub fn has_answers(&self) -> bool {
        match self {
            Self::Json | Self::Protobuf => true,
            Self::Plain(_) => false,
        }
    }

    /// Whether the server says when a user is in the room.
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

    /// Where a user's WebSocket is.
    pub fn url(&self, server: SocketAddr, token: &str, speaker: Speaker<'_>) -> String {
        match self {
            Self::Json => format!("ws://{server}/ws?token={token}&lang=en&status=false"),
            Self::Protobuf => format!("ws://{server}/ws?token={token}&lang=en&status=false&format=protobuf"),
            Self::Plain(plain) => plain.url(speaker),
        }
    }

    /// What enters the room, if anything has to be said for it.
    pub fn join(&self, entrance: &Entrance, user: u32) -> Option<Message> {
        match self {
            Self::Json => Some(Message::text(json::join(entrance))),
            Self::Protobuf => Some(Message::binary(protobuf::join(entrance))),
            Self::Plain(plain) => plain.greeting(Speaker { user, room: &entrance.room }).map(Message::text),
        }
    }

    /// What leaves the room; nothing where users only hang up.
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

    /// What changes a message; nothing where that cannot be done.
    pub fn update(&self, number: u32, channel_id: &str, message_id: &str, content: &str) -> Option<Message> {
        match self {
            Self::Json => Some(Message::text(json::update(number, channel_id, message_id, content))),
            Self::Protobuf => Some(Message::binary(protobuf::update(number, channel_id, message_id, content))),
            Self::Plain(_) => None,
        }
    }

    /// What removes a message; nothing where that cannot be done.
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

    /// What it weighs with the head of a frame that a server sends.
    pub fn wire_bytes(&self) -> u64 {
        let payload = self.bytes().len() as u64;
        payload
            + match payload {
                0..=125 => 2,
                126..=65_535 => 4,
                _ => 10,
            }
    }

    /// What to show of it when it is at fault.
    pub fn shown(&self) -> Cow<'_, str> {
        match self {
            Self::Text(text) => Cow::Borrowed(text.as_str()),
            Self::Binary(bytes) => String::from_utf8_lossy(bytes),
        }
    }
}

impl Kind {
    /// The code of this kind; of those that one kind has in common, the first.
    pub fn code(self) -> u8 {
        match self {
            Self::New => 0,
            Self::Update => 1,
            Self::Removal => 2,
            Self::Event => 3,
        }
    }

    /// By the code that Nakama gives a message; a code that is none is no kind.
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
        match self {
            Self::Join => Cow::Borrowed(JOIN_CID),
            Self::Leave => Cow::Borrowed(LEAVE_CID),
            Self::Publish(number) => Cow::Owned(number.to_string()),
        }
    }

    /// The request of this name, or nothing when we have asked nothing under it.
    fn of_cid(cid: &str) -> Option<Self> {
        match cid {
            JOIN_CID => Some(Self::Join),
            LEAVE_CID => Some(Self::Leave),
            number => number.parse().ok().map(Self::Publish),
        }
    }
}
