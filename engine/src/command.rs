//! What clients ask (`Command`), what the requester hears (`Reply`), what subscribers hear (`Event`), and what a client
//! may be refused (`Rejection`). Formats are `wire/`'s business; here are only the meanings.

use std::borrow::Cow;
use std::sync::Arc;

use crate::id::ChannelId;
use crate::message::{Message, MessageCode, Presence, StatusPresence};
use crate::social::notification::Notification;

/// A request as a client sent it: well formed, not yet judged.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Command {
    Join(Join),
    Leave {
        channel_id: String,
    },
    Send {
        channel_id: String,
        content: String,
    },
    Update {
        channel_id: String,
        message_id: String,
        content: String,
    },
    Remove {
        channel_id: String,
        message_id: String,
    },
    /// To hear when these users come, go, and say something else about themselves.
    StatusFollow {
        user_ids: Vec<String>,
        usernames: Vec<String>,
    },
    StatusUnfollow {
        user_ids: Vec<String>,
    },
    /// What to tell followers; nothing: not to be seen by them any more.
    StatusUpdate {
        status: Option<String>,
    },
    Ping,
    /// An answer to a ping; nothing is to be done or said.
    Pong,
    /// A server function, of which we have none.
    Rpc,
    /// A payload of a feature this server does not have, by its name on the wire.
    Unsupported(&'static str),
}

/// `channel_join` (docs/protocol.md, section 2.1), with its defaults applied.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Join {
    pub target: String,
    /// 1 room, 2 direct, 3 group; 0 means room. Other numbers are refused later.
    pub kind: i32,
    pub persistence: bool,
    pub hidden: bool,
}

/// The answer to one request.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Reply {
    /// Done, and nothing to report.
    Done,
    Pong,
    /// `count` says how many are there where the presences do not: in a crowd.
    Joined {
        channel: ChannelId,
        presences: Arc<[Presence]>,
        count: Option<u32>,
        me: Presence,
    },
    /// The message as it is now; `code` says what was done to it.
    Acknowledged {
        message: Message,
        code: MessageCode,
    },
    /// Those of the users followed that can be seen now.
    Statuses(Vec<StatusPresence>),
    Refused(Rejection),
}

/// What the subscribers of a channel hear.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Event {
    Message(Message),
    /// `count` as in `Reply::Joined`.
    Presence {
        channel: ChannelId,
        joins: Vec<Presence>,
        leaves: Vec<Presence>,
        count: Option<u32>,
    },
}

/// What sessions hear that concerns no channel.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum News {
    Notifications(Vec<Notification>),
    Status { joins: Vec<StatusPresence>, leaves: Vec<StatusPresence> },
}

/// Codes of realtime errors (docs/protocol.md, section 1.8).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(i32)]
pub enum RejectionCode {
    RuntimeException = 0,
    UnrecognizedPayload = 1,
    MissingPayload = 2,
    BadInput = 3,
    RuntimeFunctionNotFound = 6,
}

/// A refused request: the session stays open. Nothing has changed, unless the outcome is unknown.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Rejection {
    pub code: RejectionCode,
    /// Whether the request may have been carried out all the same. A client that repeats it may then do it twice.
    pub outcome_unknown: bool,
    /// For people; says what to do about it where something can be done.
    pub message: Cow<'static, str>,
}

impl Rejection {
    /// Nothing has changed.
    pub fn new(code: RejectionCode, message: impl Into<Cow<'static, str>>) -> Self {
        Self { code, outcome_unknown: false, message: message.into() }
    }

    pub fn bad_input(message: impl Into<Cow<'static, str>>) -> Self {
        Self::new(RejectionCode::BadInput, message)
    }

    /// The store failed or is too busy: the client may try again.
    pub fn unavailable(message: impl Into<Cow<'static, str>>) -> Self {
        Self::new(RejectionCode::RuntimeException, message)
    }

    /// The store failed while it carried the request out.
    pub fn outcome_unknown(message: impl Into<Cow<'static, str>>) -> Self {
        Self { outcome_unknown: true, ..Self::unavailable(message) }
    }
}
