//! What shards send each other about a channel: the requests of its members to the owner, and the owner's
//! announcements.
//!
//! Nothing here assumes that the two shards are in one process. A batch names its channel, the owner's epoch, its own
//! number and the number of the batch before it, so a receiver can tell a lost batch from silence.

use std::sync::Arc;

use crate::command::{Event, Reply};
use crate::fanout::frames::{Format, Frames};
use crate::id::{ChannelId, ConnectionId, Epoch, MessageId, Sequence, ShardId, UserId};
use crate::message::{Presence, StatusPresence};
use crate::presence_list::SharedPresences;
use crate::query::{Block, ChannelQuery, QueryAnswer};
use crate::social::notification::Notice;

/// A parcel. A turn's requests for one channel are gathered into one parcel, and so are a turn's announcements of one
/// channel to one shard.
#[derive(Clone, Debug)]
pub enum Parcel {
    Requests {
        from: ShardId,
        channel: ChannelId,
        requests: Vec<ChannelRequest>,
    },
    Batch(Batch),
    /// A batch of this channel is missing at a shard, which has come as far as `reached`; `None` if it has no
    /// subscribers there.
    CatchUp {
        from: ShardId,
        channel: ChannelId,
        reached: Option<Reached>,
    },
    CaughtUp(Box<CaughtUp>),
    /// The members of a shard, for an owner that does not know them, because another one ordered the channel before.
    Enter(Enter),
    /// The shard does not order this channel: nothing of these requests was done. Without requests, it is the answer to
    /// `CatchUp` or to `Enter`.
    NotOrdered {
        from: ShardId,
        channel: ChannelId,
        requests: Vec<ChannelRequest>,
    },
    /// Asks for `Flushed` with this number, behind everything that the receiver has to tell shard `from` now.
    Flush {
        from: ShardId,
        number: u64,
    },
    Flushed {
        number: u64,
    },
    /// A visitor (a requester without a session) asks about a channel. `number` identifies the query, so that the
    /// answer reaches the visitor.
    ChannelQuery {
        from: ShardId,
        number: u64,
        channel: ChannelId,
        query: ChannelQuery,
    },
    QueryAnswer {
        number: u64,
        answer: QueryAnswer,
    },
    /// For the sessions of users on any shard. Every shard receives it.
    Broadcast(Arc<Broadcast>),
    /// The store has confirmed a block: the sessions of the blocked user must stop following the user who blocks.
    /// `number` is for the confirmation.
    Blocked {
        from: ShardId,
        number: u64,
        block: Block,
    },
    /// The shard has done what the `Blocked` with this number says.
    BlockHeard {
        number: u64,
    },
    /// The backlog of a subscribers' shard in this channel has become too high, or low again.
    Backlog {
        from: ShardId,
        channel: ChannelId,
        state: Backlog,
    },
}

impl Parcel {
    /// How many requests it has, about: what else a parcel brings counts as one, and takes a turn's time like one.
    pub fn requests(&self) -> usize {
        match self {
            Self::Requests { requests, .. } => requests.len(),
            Self::Batch(batch) => batch.items.len(),
            _ => 1,
        }
    }
}

/// News for every shard, because any shard may have sessions that it concerns.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Broadcast {
    /// Notices to push to all sessions of their users.
    Notices(Vec<Notice>),
    /// The status that a session shows to its user's followers has changed from `before` to `after`.
    Status { before: Option<StatusPresence>, after: Option<StatusPresence> },
    /// The user's account is gone: all its sessions end.
    Expelled(UserId),
}

/// Whether a channel's messages must wait for a shard's pass.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Backlog {
    High,
    Low,
}

/// A request on its way to the channel's owner.
#[derive(Clone, Debug)]
pub struct ChannelRequest {
    pub connection: ConnectionId,
    /// The request's number at its connection, so that answers are given in the order of requests.
    pub number: u32,
    pub action: ChannelAction,
}

/// What a connection asks of a channel's owner.
#[derive(Clone, Debug)]
pub enum ChannelAction {
    Join {
        presence: Presence,
        hidden: bool,
        format: Format,
    },
    Leave,
    /// Like `Leave`, but without an answer, because the connection is gone.
    Depart,
    Message(MessageAction),
}

/// A message, or a change of a message. All members receive it.
#[derive(Clone, Debug)]
pub enum MessageAction {
    Send { content: Arc<str> },
    Update { id: MessageId, content: Arc<str> },
    Remove { id: MessageId },
}

impl MessageAction {
    /// The text that the action brings into the channel.
    pub fn content(&self) -> &str {
        match self {
            Self::Send { content } | Self::Update { content, .. } => content,
            Self::Remove { .. } => "",
        }
    }
}

/// The announcements of one channel to one shard in one turn, in order.
#[derive(Clone, Debug)]
pub struct Batch {
    pub channel: ChannelId,
    /// The batch before this one, of the same channel to the same shard; `None` if the shard was the home of no member
    /// when that batch was sent, or if there was none.
    pub previous: Option<BatchNumber>,
    /// How far the channel is at the end of this batch.
    pub reached: Reached,
    pub items: Vec<Item>,
}

/// A batch's number. It rises from batch to batch through one life of an owner, over all its channels. So a channel
/// that is dropped and made again never uses a number twice.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Default)]
pub struct BatchNumber(pub u64);

impl BatchNumber {
    /// The number of the batch after this one.
    pub fn next(self) -> Self {
        Self(self.0 + 1)
    }
}

/// How far a channel's owner has come with its announcements to one shard, or how far that shard has taken them in.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Reached {
    pub epoch: Epoch,
    pub batch: BatchNumber,
    /// The newest message announced.
    pub last: Sequence,
    /// Messages, updates and removals announced since the owner made the channel.
    pub told: u64,
    /// The newest stored message announced. A later owner finds the messages behind it in the store.
    pub stored: Option<MessageId>,
}

impl Reached {
    /// The place among all batches of the channel's owners.
    pub fn place(self) -> (Epoch, BatchNumber) {
        (self.epoch, self.batch)
    }
}

/// Members that a shard hands to a new owner of their channel, instead of all that the owner knew of that shard.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Enter {
    pub from: ShardId,
    pub channel: ChannelId,
    /// How far the shard has come with the owner before.
    pub reached: Option<Reached>,
    /// At most `ENTRANTS_MAX`.
    pub members: Vec<Entrant>,
    pub part: EnterPart,
}

/// Which part of a shard's members a parcel has. They go in several parcels if they are many.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct EnterPart {
    pub is_first: bool,
    pub is_last: bool,
}

/// A member of a channel, as its home knows it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Entrant {
    pub connection: ConnectionId,
    pub presence: Presence,
    pub hidden: bool,
    /// The other members were told of this one.
    pub known: bool,
    pub format: Format,
}

/// The owner's answer to `Parcel::CatchUp` and to `Parcel::Enter`: where the channel stands, and what the shard has missed.
#[derive(Clone, Debug)]
pub struct CaughtUp {
    pub channel: ChannelId,
    /// How far the shard had come when it asked.
    pub from: Option<Reached>,
    /// The last batch sent to the shard. The answer holds for the state at its end.
    pub reached: Reached,
    pub recovered: Recovered,
    /// The shard's connections that are members.
    pub members: Vec<ConnectionId>,
    /// Requests of the shard's connections that are not answered yet: the answers come in later batches.
    pub unanswered: Vec<(ConnectionId, u32)>,
    /// It answers `Parcel::Enter`.
    pub entered: bool,
}

/// What can be told of the announcements between `CaughtUp::from` and `CaughtUp::reached`.
#[derive(Clone, Debug)]
pub enum Recovered {
    /// The stored messages, in order, and all presences. Nothing, if nothing was missed.
    Frames(Arc<Frames>),
    /// More is missing than the owner keeps, or the store could not be read.
    TooMuch,
}

/// One announcement.
#[derive(Clone, Debug)]
pub enum Item {
    /// For every subscriber.
    Frames(Arc<Frames>),
    /// For one connection: the answer to its request. It comes after all frames before this item.
    Answer { connection: ConnectionId, number: u32, reply: Reply },
    /// The connection is a subscriber from here on: it gets the frames after this item, not those before it.
    Joined { connection: ConnectionId, number: u32, reply: Reply },
    /// For one subscriber: an event that the others are told of later, or not at all.
    Event { connection: ConnectionId, event: Event },
    /// The connection is not a subscriber from here on.
    Left { connection: ConnectionId, number: u32 },
    /// Like `Left`, but the connection did not ask to leave.
    Evicted { connection: ConnectionId },
    /// All members that the others were told of, once the members of all nodes have entered again. Each home tells its
    /// readers how this differs from what they were told; in a crowd, with the count.
    Presences { presences: SharedPresences, count: Option<u32> },
}
