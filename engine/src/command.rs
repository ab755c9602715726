//! What clients ask for (`Command`), what the requester is answered (`Reply`), what subscribers are told (`Event`),
//! what sessions are told outside of channels (`News`), and why a request is refused (`Rejection`). `wire/` handles
//! formats; this file holds only the meanings.

use std::borrow::Cow;
use std::time::Duration;

use crate::id::ChannelId;
use crate::message::{Message, MessageCode, Presence, StatusPresence};
use crate::presence_list::SharedPresences;
use crate::process_rates::ProcessRate;
use crate::social::notification::Notification;

/// A request as a client sent it: well formed, but not checked yet.
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
    /// Follow these users: be told when their sessions become visible or invisible, or change their status.
    StatusFollow {
        user_ids: Vec<String>,
        usernames: Vec<String>,
    },
    StatusUnfollow {
        user_ids: Vec<String>,
    },
    /// The status to show to followers; `None`: be visible to them no more.
    StatusUpdate {
        status: Option<String>,
    },
    Ping,
    /// An answer to a ping. The server does nothing and answers nothing.
    Pong,
    /// A call of a server function. This server has none.
    Rpc,
    /// A payload of a feature that this server does not have, by its name on the wire.
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
    /// The request is done, and there is nothing to report.
    Done,
    Pong,
    /// In a crowd, where the presences are only a sample, `count` is the number of visible members.
    Joined {
        channel: ChannelId,
        presences: SharedPresences,
        count: Option<u32>,
        me: Presence,
    },
    /// The message as it is now. `code` says what the request did to it.
    Acknowledged {
        message: Message,
        code: MessageCode,
    },
    /// The statuses of the followed users that are visible now.
    Statuses(Vec<StatusPresence>),
    Refused(Rejection),
}

/// What the subscribers of a channel are told.
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

/// What sessions are told that belongs to no channel.
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

/// What a program needs to know of a refusal beside its code.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum RejectionContext {
    /// The request may have been carried out despite the error. A client that repeats it may then do it twice.
    OutcomeUnknown,
    /// The request may be repeated after this time.
    TooFast { limit: RateLimit, retry_after: Duration },
}

impl RejectionContext {
    /// The context as pairs of a name and a value, in the order of the names. Times are in whole milliseconds, rounded up.
    pub fn entries(self) -> Vec<(&'static str, String)> {
        match self {
            Self::OutcomeUnknown => vec![("outcome", "unknown".to_owned())],
            Self::TooFast { limit, retry_after } => vec![
                ("reason", limit.name().to_owned()),
                ("retry_after_ms", retry_after.as_micros().div_ceil(1000).to_string()),
            ],
        }
    }
}

/// What bounds requests in time.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum RateLimit {
    /// Messages, updates and removals of one session.
    SendsPerSecond,
    /// The work of one session.
    WorkPerSession,
    /// The work of all sessions and HTTP requests of one user.
    WorkPerUser,
    /// The work of all sessions and HTTP requests from one address.
    WorkPerAddress,
    /// What all clients of the process ask for.
    Process(ProcessRate),
}

impl RateLimit {
    /// The place among `counters::RATE_LIMITS`.
    pub fn place(self) -> usize {
        match self {
            Self::SendsPerSecond => 0,
            Self::WorkPerSession => 1,
            Self::WorkPerUser => 2,
            Self::WorkPerAddress => 3,
            // Sessions ask for nothing else that a rate of the process counts.
            Self::Process(_) => 4,
        }
    }

    /// The name on the wire.
    pub const fn name(self) -> &'static str {
        match self {
            Self::SendsPerSecond => "sends_per_second",
            Self::WorkPerSession => "work_per_session",
            Self::WorkPerUser => "work_per_user",
            Self::WorkPerAddress => "work_per_address",
            Self::Process(rate) => rate.name(),
        }
    }

    /// The text of a refusal, for people.
    pub const fn text(self) -> &'static str {
        match self {
            Self::SendsPerSecond => "too fast: one session may not send so many messages a second",
            Self::WorkPerSession => "too fast: this session asks for more than one session may, try again later",
            Self::WorkPerUser => "too fast: this user asks for more than one user may, try again later",
            Self::WorkPerAddress => "too fast: this address asks for more than one address may, try again later",
            Self::Process(rate) => rate.text(),
        }
    }
}

/// A refused request: the session stays open. Nothing has changed, unless the outcome is unknown.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Rejection {
    pub code: RejectionCode,
    /// What a program needs to know beside the code.
    pub context: Option<RejectionContext>,
    /// A text for people. If the client can do something about the error, it says what.
    pub message: Cow<'static, str>,
}

impl Rejection {
    /// A refusal of a request that has changed nothing.
    pub fn new(code: RejectionCode, message: impl Into<Cow<'static, str>>) -> Self {
        Self { code, context: None, message: message.into() }
    }

    /// A rejection with the code [`RejectionCode::BadInput`]: the request is wrong, or not permitted.
    pub fn bad_input(message: impl Into<Cow<'static, str>>) -> Self {
        Self::new(RejectionCode::BadInput, message)
    }

    /// The store failed or is too busy: the client may try again, unless the text gives a reason that stays.
    pub fn unavailable(message: impl Into<Cow<'static, str>>) -> Self {
        Self::new(RejectionCode::RuntimeException, message)
    }

    /// The store failed while it carried out the request.
    pub fn outcome_unknown(message: impl Into<Cow<'static, str>>) -> Self {
        Self { context: Some(RejectionContext::OutcomeUnknown), ..Self::unavailable(message) }
    }

    /// The request is more than the requester may ask for now. It is let in again after this time, if nothing is added.
    pub fn too_fast(limit: RateLimit, retry_after: Duration) -> Self {
        let context = Some(RejectionContext::TooFast { limit, retry_after });
        Self { context, ..Self::bad_input(limit.text()) }
    }
}
