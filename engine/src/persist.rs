//! The requests of shards to the store, and its answers.
//!
//! Shards number their requests with tickets and may have many under way. Receipts may come in any order. `storage`
//! carries the requests out; it does not know members or subscribers.

use std::sync::Arc;

use crate::id::{ChannelId, GroupId, MessageId, Sequence, Timestamp, UserId};
use crate::message::{Message, MessageCode};
use crate::social::group::{GroupChange, GroupOutcome, GroupRefusal};
use crate::social::notification::Notice;

/// The number of a shard's request, which its receipt carries.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Ticket(pub u64);

/// One request of a shard, as the owner of channels or as the home of sessions.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum StoreRequest {
    Question(StoreQuestion),
    Write(StoreWrite),
}

impl From<StoreQuestion> for StoreRequest {
    fn from(question: StoreQuestion) -> Self {
        Self::Question(question)
    }
}

impl From<StoreWrite> for StoreRequest {
    fn from(write: StoreWrite) -> Self {
        Self::Write(write)
    }
}

/// A question of a shard. It changes nothing.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum StoreQuestion {
    /// Where does the channel's history end? An owner asks this once, before its first write to the channel.
    Head { channel: ChannelId },
    /// Which are the newest messages of the channel?
    Newest { channel: ChannelId, limit: usize },
    /// May the user join the group's channel? Members of the group may.
    MayJoinGroup { group: GroupId, user: UserId },
    /// May the user join the direct channel with the other? The user may if the other exists and has not blocked the
    /// user.
    MayJoinDirect { user: UserId, other: UserId },
    /// Which of these users exist and may be followed by `follower`? A user who blocks the follower is left out, as if
    /// the user did not exist.
    Users { follower: UserId, ids: Vec<UserId>, usernames: Vec<String> },
}

/// A write of a shard. It belongs in a group of writes.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum StoreWrite {
    /// Store a new message. No stored message has its id.
    Insert(Message),
    /// Change the content of a stored message, if it is in this channel and this sender may change it.
    Update(UpdateMessage),
    /// Delete a stored message, if it is in this channel and this sender may change it.
    Remove { channel: ChannelId, id: MessageId, sender: UserId },
    /// Decide whether the user may join the direct channel, as [`StoreQuestion::MayJoinDirect`] does. If the user may,
    /// send the other a request to chat, unless one of them has blocked the other or they are the same user.
    RequestChat { user: UserId, username: Arc<str>, other: UserId, time: Timestamp },
    /// Change a group's members, with everything that belongs to the change: all of it or nothing.
    ChangeGroup {
        change: GroupChange,
        time: Timestamp,
        /// Places for the event messages, in ascending order, as many as `GroupAct::messages_max` says. Places that are
        /// not needed stay empty.
        places: Vec<ChannelHead>,
    },
    /// The user blocks the other. Afterwards neither is in their direct channel.
    Block { user: UserId, other: UserId, time: Timestamp },
    /// Delete these messages of a user whose account is being deleted.
    Purge { channel: ChannelId, sender: UserId, ids: Vec<MessageId> },
}

/// New content for a stored message.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct UpdateMessage {
    pub channel: ChannelId,
    pub id: MessageId,
    pub sender: UserId,
    pub username: Arc<str>,
    pub content: Arc<str>,
    pub update_time: Timestamp,
}

impl UpdateMessage {
    /// Changes the stored message. Its update time never goes back, even if the server that wrote it had a clock that
    /// was ahead.
    pub fn apply_to(&self, message: &mut Message) {
        message.content = self.content.clone();
        message.username = self.username.clone();
        message.update_time = self.update_time.max(message.update_time);
    }
}

/// The result of a request. When a write's receipt is given, the write is on disk and synced.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum StoreReceipt {
    Head(Option<ChannelHead>),
    Inserted,
    /// The message as it is now in history.
    Updated(Message),
    /// The message as it was last in history.
    Removed(Message),
    /// No message with this id is stored in this channel.
    NotFound,
    /// The stored message with this id belongs to another user or to the server. Nothing was changed.
    NotOwn,
    /// Newest first.
    Newest(Vec<Message>),
    /// The user may join; with the request to chat, if one was sent.
    Admitted(Option<Notice>),
    NotAdmitted,
    GroupChanged(Result<GroupOutcome, GroupRefusal>),
    Blocked,
    Purged,
    /// In the order of the request, ids before usernames, each user once.
    Users(Vec<UserId>),
}

impl StoreReceipt {
    /// The reason why this sender may not change what is stored under an id; `None` if the sender may. The server's
    /// messages about a user carry that user as their sender, but the user may not change them.
    pub fn refuse_change(stored: Option<&Message>, sender: UserId) -> Option<Self> {
        match stored {
            None => Some(Self::NotFound),
            Some(message) if message.sender == sender && message.code == MessageCode::Chat => None,
            Some(_) => Some(Self::NotOwn),
        }
    }
}

/// Where a channel's history ends. Stored apart from the messages, so that removing the newest message does not move it
/// back.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ChannelHead {
    pub id: MessageId,
    pub sequence: Sequence,
}

/// The store could not carry out a request. Nothing of the request is in history or ever will be, unless the outcome is
/// unknown.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct StoreFailure {
    pub message: String,
    /// The store failed while it wrote: the whole request may turn out to be carried out, now or after the next start.
    pub outcome_unknown: bool,
    /// Why the same request would fail again; `None` if it may succeed later.
    pub lasting: Option<Lasting>,
}

/// Why the store does not carry out a request, however often it is asked.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Lasting {
    /// The server was started only to read.
    ReadOnly,
    /// Something that the request needs is damaged.
    Damaged,
}

impl StoreFailure {
    /// A failure before anything was done. The same request may succeed later.
    pub fn nothing_done(message: impl Into<String>) -> Self {
        Self { message: message.into(), outcome_unknown: false, lasting: None }
    }

    /// What a client is told after what failed.
    pub fn advice(&self) -> &'static str {
        match self.lasting {
            None => "try again",
            Some(Lasting::ReadOnly) => "the server is read-only",
            Some(Lasting::Damaged) => "the server's store is damaged",
        }
    }
}

/// The answer to the request with this ticket.
pub type Receipt = (Ticket, Result<StoreReceipt, StoreFailure>);
