//! The engine's basic data: messages and presences.

use std::sync::Arc;

use crate::id::{ChannelId, MessageId, Sequence, SessionId, Timestamp, UserId};

/// The kind of a message (docs/protocol.md, section 2.8). Stored messages never have `Update` or `Remove`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(i32)]
pub enum MessageCode {
    Chat = 0,
    Update = 1,
    Remove = 2,
    GroupJoin = 3,
    GroupAdd = 4,
    GroupLeave = 5,
    GroupKick = 6,
    GroupPromote = 7,
    GroupBan = 8,
    GroupDemote = 9,
}

impl MessageCode {
    /// The code with this number on the wire, if there is one.
    pub fn from_number(number: i32) -> Option<Self> {
        use MessageCode::*;
        [Chat, Update, Remove, GroupJoin, GroupAdd, GroupLeave, GroupKick, GroupPromote, GroupBan, GroupDemote]
            .into_iter()
            .find(|&code| code as i32 == number)
    }
}

/// A chat message, as its channel's owner made it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Message {
    pub channel: ChannelId,
    pub id: MessageId,
    pub sequence: Sequence,
    pub code: MessageCode,
    pub sender: UserId,
    /// The sender's username when the message was sent or last updated.
    pub username: Arc<str>,
    /// A JSON object, byte for byte as the sender wrote it.
    pub content: Arc<str>,
    pub create_time: Timestamp,
    pub update_time: Timestamp,
    pub persistent: bool,
}

/// One session's membership of one channel, as others see it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Presence {
    pub user: UserId,
    pub session: SessionId,
    pub username: Arc<str>,
    /// Whether what this presence sends is kept in history.
    pub persistence: bool,
}

/// A session that is visible to its user's followers, with its status text (docs/protocol.md, section 2.13).
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct StatusPresence {
    pub user: UserId,
    pub session: SessionId,
    pub username: Arc<str>,
    pub status: Arc<str>,
}

/// The part of a channel that a subscriber missed: the messages between two others, if there are any.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Missed {
    /// The last message before the gap; `None` if only events that are no messages were missed.
    pub after: Option<MessageId>,
    /// The next message that the subscriber sees; `None` if that message is not announced yet.
    pub before: Option<MessageId>,
}
