//! What shards hand each other about a channel: what its members ask of the owner, and what the owner announces.
//!
//! Nothing here assumes that the two are in one process: a parcel names its channel, the owner's epoch, and the chain of
//! sequences, so that a receiver can tell a gap from silence.

use std::sync::Arc;

use crate::command::Reply;
use crate::fanout::frames::{Format, Frames};
use crate::id::{ChannelId, ConnectionId, Epoch, MessageId, Sequence, SessionId, ShardId, UserId};
use crate::message::{Message, Presence, StatusPresence};
use crate::social::group::{GroupChange, GroupRefusal};
use crate::social::notification::Notice;

/// A parcel: at most one a channel, receiving shard and turn in each direction.
#[derive(Clone, Debug)]
pub enum Parcel {
    Requests {
        from: ShardId,
        channel: ChannelId,
        requests: Vec<ChannelRequest>,
    },
    Batch(Batch),
    /// Somebody without a session asks about a channel; `number` finds the way back.
    ChannelQuery {
        from: ShardId,
        number: u64,
        channel: ChannelId,
        query: ChannelQuery,
    },
    ChannelAnswer {
        number: u64,
        answer: ChannelAnswer,
    },
    /// For the sessions of users, wherever they are: every shard gets it.
    Broadcast(Arc<Broadcast>),
    /// The store has decided a block: the sessions of the one who is blocked follow the other no more. `number` is for the
    /// answer.
    Blocked {
        from: ShardId,
        number: u64,
        block: Block,
    },
    /// The shard has done what `Blocked` says.
    BlockHeard {
        number: u64,
    },
    /// A subscriber's shard cannot bring round what the owner announces as fast as it comes; or can again.
    Backlog {
        from: ShardId,
        channel: ChannelId,
        state: Backlog,
    },
}

/// What every shard is told, because anybody concerned may live there.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Broadcast {
    /// Push these to all sessions of their users.
    Notices(Vec<Notice>),
    /// What a session shows to the followers of its user: it was `before`, and is now `after`.
    Status { before: Option<StatusPresence>, after: Option<StatusPresence> },
    /// The user's account is gone: all its sessions end.
    Expelled(UserId),
}

/// What may be asked of a channel's owner without being in the channel.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum ChannelQuery {
    /// Visible members behind a session, in the order of sessions; at most `limits::PRESENCE_PAGE_MAX`.
    Presence { after: Option<SessionId>, limit: usize },
    /// The newest messages, newest first.
    Newest { limit: usize },
    /// Change the members of the group whose channel this is.
    ChangeGroup(GroupChange),
    /// One of the two users of this direct channel blocks the other.
    Block(Block),
    /// The sender's account is going: these of its messages are to be deleted.
    Purge { sender: UserId, ids: Vec<MessageId> },
}

/// `user` blocks `other`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Block {
    pub user: UserId,
    pub other: UserId,
}

/// What an owner knows.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum ChannelAnswer {
    /// `count` is of all visible members.
    Presence {
        presences: Vec<Presence>,
        count: usize,
    },
    /// Under one version, the answer to the same query is the same.
    Newest {
        messages: Arc<[Message]>,
        version: Version,
    },
    /// The owner does not have it in memory: ask the store.
    AskTheStore,
    GroupChanged(Result<(), GroupRefusal>),
    /// What was to be done is done.
    Done,
    /// It could not be done, nothing has changed, and may be tried again.
    Failed,
    /// The store failed while it wrote: it may have been done.
    OutcomeUnknown,
    /// For each user asked about, whether any session shows itself.
    Online(Vec<bool>),
}

/// Which state of a channel's newest messages an answer shows. No two states of a channel have the same, be it forgotten in
/// between or the server started anew.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Version {
    pub epoch: Epoch,
    /// Which of the owner's readings of the store it goes back to, and the changes since.
    pub reading: u64,
    pub changes: u64,
}

/// Whether publishers should wait for a shard's pass.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Backlog {
    High,
    Low,
}

/// A request on its way to the channel's owner.
#[derive(Clone, Debug)]
pub struct ChannelRequest {
    pub connection: ConnectionId,
    /// The request's place among its connection's, so that answers are given in the order of the questions.
    pub number: u32,
    pub action: ChannelAction,
}

/// What is asked of a channel's owner.
#[derive(Clone, Debug)]
pub enum ChannelAction {
    Join {
        presence: Presence,
        hidden: bool,
        format: Format,
    },
    Leave,
    /// The connection is gone: as leave, but there is nobody to answer.
    Depart,
    Send {
        content: Arc<str>,
    },
    Update {
        id: MessageId,
        content: Arc<str>,
    },
    Remove {
        id: MessageId,
    },
}

impl ChannelAction {
    /// Whether all members are to hear of it.
    pub fn is_send(&self) -> bool {
        matches!(self, Self::Send { .. } | Self::Update { .. } | Self::Remove { .. })
    }
}

/// What the owner announces to one shard about one channel in one turn, in order.
#[derive(Clone, Debug)]
pub struct Batch {
    pub channel: ChannelId,
    pub epoch: Epoch,
    /// The newest message announced before this batch, and after it: each batch begins where the last one ended.
    pub previous: Sequence,
    pub last: Sequence,
    pub items: Vec<Item>,
}

/// One announcement.
#[derive(Clone, Debug)]
pub enum Item {
    /// For every subscriber.
    Frames(Arc<Frames>),
    /// For one connection: what its request came to. It has been sent all frames before this when it hears it.
    Answer { connection: ConnectionId, number: u32, reply: Reply },
    /// The connection is a subscriber from here on: frames before this are not for it, those after are.
    Joined { connection: ConnectionId, number: u32, reply: Reply },
    /// The connection is no subscriber from here on.
    Left { connection: ConnectionId, number: u32 },
    /// The same, without having asked for it.
    Evicted { connection: ConnectionId },
}
