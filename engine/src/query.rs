//! What visitors ask of the owners of channels, and what they are answered. A visitor is a requester without a session,
//! such as an HTTP handler.
//!
//! A query and its answer may travel between shards, so each of them is one enum. A visitor asks a [`Question`], whose
//! type says what its answer is. One question is not about a channel, and the visitor's own shard answers it:
//! [`OnlineQuery`].

use std::sync::Arc;

use crate::id::{ChannelId, Epoch, MessageId, NetworkKey, SessionId, ShardId, UserId};
use crate::message::{Message, Presence};
use crate::persist::{Lasting, StoreFailure};
use crate::social::group::{GroupChange, GroupRefusal};

/// What operators ask a shard about itself alone.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Inspection {
    Channels(ChannelsQuery),
    Sessions(SessionsQuery),
    Disconnect(Disconnect),
}

/// The order of channels for operators, the greatest first.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ChannelOrder {
    Members,
    /// The messages of the newest window that is over (`limits::RATE_WINDOW`).
    Rate,
}

/// Asks for the channels that this shard owns and that come behind a place in their order; at most
/// `limits::CHANNELS_PAGE_MAX`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ChannelsQuery {
    pub by: ChannelOrder,
    pub below: Option<(u32, ChannelId)>,
    pub limit: usize,
}

/// A channel, as operators see it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ChannelSeen {
    pub channel: ChannelId,
    /// The number by which it is ordered, for the next page.
    pub rank: u32,
    pub members: usize,
    /// Messages shown in the newest window that is over.
    pub messages: u32,
}

/// Asks for the sessions of a user on this shard.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SessionsQuery {
    pub user: UserId,
}

/// The sessions of a user on one shard: some of them, and how many there are.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct SessionsSeen {
    pub listed: Vec<SessionSeen>,
    pub sessions: usize,
    pub memberships: usize,
}

/// A session, as operators see it: some of the channels that it is in, and how many they are.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SessionSeen {
    pub session: SessionId,
    pub network: Option<NetworkKey>,
    pub channels: Vec<ChannelId>,
    pub memberships: usize,
}

/// Closes sessions of this shard. The frame is the last that each client receives.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Disconnect {
    pub whom: Whom,
    /// Where to go on looking for a session.
    pub from_slot: u32,
    pub frame: Vec<u8>,
}

/// Whose sessions are closed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Whom {
    User(UserId),
    Session(SessionId),
}

/// How many sessions were closed, and where to go on.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Disconnected {
    pub closed: usize,
    /// `None`: there are no others.
    pub next_slot: Option<u32>,
}

/// A visitor's shard, and the number that the visitor gave to its query.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Visitor {
    pub shard: ShardId,
    pub number: u64,
}

/// A query to a channel's owner. It needs no membership of the channel.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum ChannelQuery {
    Presence(PresenceQuery),
    Newest(NewestQuery),
    Change(ChannelChange),
}

/// Asks for visible members whose sessions come after `after`, in the order of sessions; at most
/// `limits::PRESENCE_PAGE_MAX`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct PresenceQuery {
    pub after: Option<SessionId>,
    pub limit: usize,
}

/// Asks for the newest messages.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct NewestQuery {
    pub limit: usize,
}

/// Asks which of these users have a session that is visible to followers.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct OnlineQuery {
    pub users: Vec<UserId>,
}

/// A change of a channel that needs its place among the requests of the members.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum ChannelChange {
    /// Change the members of the group whose channel this is.
    Group(GroupChange),
    /// One of the two users of this direct channel blocks the other.
    Block(Block),
    Purge(Purge),
}

impl ChannelQuery {
    /// The answer if no owner hears the query.
    pub fn undone(&self, undone: Undone) -> QueryAnswer {
        match self {
            Self::Presence(_) => QueryAnswer::Presence(PresencePage::default()),
            Self::Newest(_) => QueryAnswer::Newest(None),
            Self::Change(change) => change.undone(undone),
        }
    }
}

impl ChannelChange {
    /// The answer if the change is not carried out.
    pub fn undone(&self, undone: Undone) -> QueryAnswer {
        match self {
            Self::Group(_) => QueryAnswer::GroupChanged(Err(undone)),
            Self::Block(_) => QueryAnswer::Blocked(Err(undone)),
            Self::Purge(_) => QueryAnswer::Purged(Err(undone)),
        }
    }
}

/// `user` blocks `other`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Block {
    pub user: UserId,
    pub other: UserId,
}

/// Delete these messages of a sender whose account is being deleted.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Purge {
    pub sender: UserId,
    pub ids: Vec<MessageId>,
}

/// The answer to a [`ChannelQuery`], to an [`OnlineQuery`] or to an [`Inspection`].
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum QueryAnswer {
    Presence(PresencePage),
    /// `None`: the owner does not have the messages in memory, so the store must be asked.
    Newest(Option<NewestMessages>),
    GroupChanged(Changed<Result<(), GroupRefusal>>),
    Blocked(Changed<()>),
    Purged(Changed<()>),
    /// For each user asked about, whether any of the user's sessions is visible.
    Online(Vec<bool>),
    Channels(Vec<ChannelSeen>),
    Sessions(SessionsSeen),
    Disconnected(Disconnected),
}

/// Some of a channel's visible members.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct PresencePage {
    pub presences: Vec<Presence>,
    /// The number of all visible members, not only of these.
    pub count: usize,
}

/// The newest messages, newest first. The same query with the same version has the same answer.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct NewestMessages {
    pub messages: Arc<[Message]>,
    pub version: Version,
}

/// Identifies a state of a channel's newest messages. No two states of a channel have the same version, even if the
/// channel is dropped in between or the server restarts.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Version {
    pub epoch: Epoch,
    /// The owner's reading of the store that the state is based on, and the number of changes since.
    pub reading: u64,
    pub changes: u64,
}

/// The outcome of a change.
pub type Changed<T> = Result<T, Undone>;

/// Why a change is not reported as done.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Undone {
    /// Nothing has changed, and the visitor may try again.
    NothingDone,
    /// Nothing has changed, and the same change would fail again.
    Never(Lasting),
    /// The store failed while it wrote: the change may have been done.
    OutcomeUnknown,
}

impl From<StoreFailure> for Undone {
    fn from(failure: StoreFailure) -> Self {
        match failure.lasting {
            _ if failure.outcome_unknown => Self::OutcomeUnknown,
            Some(lasting) => Self::Never(lasting),
            None => Self::NothingDone,
        }
    }
}

/// A query with the type of its answer.
pub trait Question {
    /// What the visitor is answered.
    type Answer;

    /// The answer to this question; `None` if `answer` answers a question of another type.
    fn answer_in(answer: QueryAnswer) -> Option<Self::Answer>;
}

/// Makes a type a question to a shard about itself.
macro_rules! inspection {
    ($question:ty, $inspection:ident, $variant:ident($answer:ty)) => {
        impl From<$question> for Inspection {
            fn from(question: $question) -> Self {
                Self::$inspection(question)
            }
        }

        question!($question, $variant($answer));
    };
}

/// Makes a type a question: which answer it gets, and, if it is about a channel, how it becomes a query.
macro_rules! question {
    ($question:ty, |$value:ident| $query:expr, $variant:ident($answer:ty)) => {
        impl From<$question> for ChannelQuery {
            fn from($value: $question) -> Self {
                $query
            }
        }

        question!($question, $variant($answer));
    };
    ($question:ty, $variant:ident($answer:ty)) => {
        impl Question for $question {
            type Answer = $answer;

            fn answer_in(answer: QueryAnswer) -> Option<$answer> {
                match answer {
                    QueryAnswer::$variant(answer) => Some(answer),
                    _ => None,
                }
            }
        }
    };
}

question!(PresenceQuery, |query| Self::Presence(query), Presence(PresencePage));
question!(NewestQuery, |query| Self::Newest(query), Newest(Option<NewestMessages>));
question!(
    GroupChange,
    |change| Self::Change(ChannelChange::Group(change)),
    GroupChanged(Changed<Result<(), GroupRefusal>>)
);
question!(Block, |block| Self::Change(ChannelChange::Block(block)), Blocked(Changed<()>));
question!(Purge, |purge| Self::Change(ChannelChange::Purge(purge)), Purged(Changed<()>));
question!(OnlineQuery, Online(Vec<bool>));
inspection!(ChannelsQuery, Channels, Channels(Vec<ChannelSeen>));
inspection!(SessionsQuery, Sessions, Sessions(SessionsSeen));
inspection!(Disconnect, Disconnect, Disconnected(Disconnected));
