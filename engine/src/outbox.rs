//! What a channel, a channel's owner and a home want done elsewhere, in the order in which they wanted it. Each output
//! says where it goes, and can hold only what may go there.
//!
//! Nothing that follows from work is done on the spot. It is put here, and the shard carries it out later, in order. Only
//! `routing` turns a destination into a shard.

use std::collections::VecDeque;
use std::sync::Arc;

use crate::channel::members::Address;
use crate::channel::pending::PendingPlace;
use crate::command::RateLimit;
use crate::id::{ChannelId, ConnectionId, Epoch, ShardId, UserId};
use crate::parcel::{Backlog, Batch, Broadcast, CaughtUp, ChannelRequest, Enter, Reached};
use crate::persist::StoreRequest;
use crate::query::{Block, ChannelQuery, QueryAnswer, Version, Visitor};

/// Something to be done elsewhere.
#[derive(Debug)]
pub enum Output {
    /// To the shard that owns this channel.
    Owner(ChannelId, ToOwner),
    /// To the home of some connections.
    Home(ShardId, ToHome),
    /// To the homes of all connections, on every shard.
    EveryHome(ToEveryHome),
    /// To the gateway's part of a connection of this shard.
    Socket(SocketEffect),
    /// To a visitor, on any shard.
    Answer(Visitor, QueryAnswer),
    /// To the store. The asker hears the outcome.
    Store(Asker, StoreRequest),
}

/// What a channel's owner may be told.
#[derive(Debug)]
pub enum ToOwner {
    Request(ChannelRequest),
    Query(Visitor, ChannelQuery),
    Backlog(Backlog),
    /// A batch is missing at this shard, which has come so far.
    CatchUp(Option<Reached>),
    /// Members of this shard, which the owner may not know.
    Enter(Enter),
}

/// What one home may be told.
#[derive(Debug)]
pub enum ToHome {
    Batch(Batch),
    CaughtUp(Box<CaughtUp>),
    /// Shard `from`, which was taken for the channel's owner, does not order it.
    NotOrdered {
        from: ShardId,
        channel: ChannelId,
        requests: Vec<ChannelRequest>,
    },
    /// Shard `from` wants to hear `Flushed` with this number behind everything that this shard, as an owner, has for it.
    Flush {
        from: ShardId,
        number: u64,
    },
    Flushed(u64),
    /// The store has confirmed a block. The home of shard `from` hears under this number that this home has acted on it.
    Blocked {
        from: ShardId,
        number: u64,
        block: Block,
    },
    /// A home has acted on the block with this number.
    BlockHeard {
        number: u64,
    },
}

/// What all homes may be told.
#[derive(Debug)]
pub enum ToEveryHome {
    Broadcast(Arc<Broadcast>),
    /// The store has confirmed a block. The visitor is answered when all homes have acted on it.
    Blocked(Visitor, Block),
}

/// What the gateway must do about a connection.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum SocketEffect {
    /// Read from it again: `accepts` said no before, and the next request may be read now.
    Resume(ConnectionId),
    /// Its close frame is on the way: give the client a bounded time to take it.
    Closing(ConnectionId),
    /// Its close frame is written: nothing more will be written.
    Finish(ConnectionId),
    /// A request of it was refused because it came too fast for this limit: operators should know.
    TooFast(ConnectionId, RateLimit),
}

impl SocketEffect {
    /// The connection that the effect is about.
    pub fn connection(self) -> ConnectionId {
        match self {
            Self::Resume(connection)
            | Self::Closing(connection)
            | Self::Finish(connection)
            | Self::TooFast(connection, _) => connection,
        }
    }
}

/// Which part of a shard waits for the store.
#[derive(PartialEq, Eq, Debug)]
pub enum Asker {
    /// A channel, the epoch under which it is ordered, and what it wants to know.
    Channel(ChannelId, Epoch, Purpose),
    /// A connection that wants to follow users.
    Follower(ConnectionId),
}

/// What a channel's request to the store is for.
#[derive(PartialEq, Eq, Debug)]
pub enum Purpose {
    /// The end of its history.
    Head,
    /// Its newest messages, which will be this version.
    Newest(Version),
    /// Whether a member of another home may enter again.
    Entry(Address),
    /// The decision on an entry of its queue, and the user who asked for what stands there. The server did for the deletion of
    /// an account's messages.
    Decision(PendingPlace, Option<UserId>),
}

/// Outputs, first in, first out. One step adds a bounded number of them, and the shard empties it after each step.
#[derive(Default, Debug)]
pub struct Outbox {
    outputs: VecDeque<Output>,
}

impl Outbox {
    /// Puts a request for the owner of the channel, on whichever shard it is.
    pub fn request(&mut self, channel: ChannelId, request: ChannelRequest) {
        self.put(Output::Owner(channel, ToOwner::Request(request)));
    }

    /// Puts a query for the owner of the channel. The visitor gets one [`QueryAnswer`].
    pub fn query(&mut self, channel: ChannelId, visitor: Visitor, query: ChannelQuery) {
        self.put(Output::Owner(channel, ToOwner::Query(visitor, query)));
    }

    /// Tells the owner of the channel how a home's backlog stands.
    pub fn backlog(&mut self, channel: ChannelId, state: Backlog) {
        self.put(Output::Owner(channel, ToOwner::Backlog(state)));
    }

    /// Puts a batch of a channel's announcements for the members whose home is this shard.
    pub fn batch(&mut self, home: ShardId, batch: Batch) {
        self.put(Output::Home(home, ToHome::Batch(batch)));
    }

    /// Asks the owner of the channel for what this shard has missed since `reached`.
    pub fn catch_up(&mut self, channel: ChannelId, reached: Option<Reached>) {
        self.put(Output::Owner(channel, ToOwner::CatchUp(reached)));
    }

    /// Hands members of this shard to the owner of their channel.
    pub fn enter(&mut self, enter: Enter) {
        self.put(Output::Owner(enter.channel.clone(), ToOwner::Enter(enter)));
    }

    /// Tells a home that shard `from` does not order the channel, and gives back what the home has asked.
    pub fn not_ordered(&mut self, home: ShardId, from: ShardId, channel: ChannelId, requests: Vec<ChannelRequest>) {
        self.put(Output::Home(home, ToHome::NotOrdered { from, channel, requests }));
    }

    /// Asks a shard for `Flushed` with this number, behind everything that it has for the home `from`.
    pub fn flush(&mut self, shard: ShardId, from: ShardId, number: u64) {
        self.put(Output::Home(shard, ToHome::Flush { from, number }));
    }

    /// Tells a home that everything which was for it has left.
    pub fn flushed(&mut self, home: ShardId, number: u64) {
        self.put(Output::Home(home, ToHome::Flushed(number)));
    }

    /// Answers a home that has missed a batch.
    pub fn caught_up(&mut self, home: ShardId, answer: CaughtUp) {
        self.put(Output::Home(home, ToHome::CaughtUp(Box::new(answer))));
    }

    /// Puts one announcement for the homes of all shards, which share it.
    pub fn broadcast(&mut self, broadcast: Broadcast) {
        self.put(Output::EveryHome(ToEveryHome::Broadcast(Arc::new(broadcast))));
    }

    /// Tells every home that the store has confirmed a block. The visitor is answered when all homes have acted on it.
    pub fn blocked(&mut self, visitor: Visitor, block: Block) {
        self.put(Output::EveryHome(ToEveryHome::Blocked(visitor, block)));
    }

    /// Tells one home of a block. It answers shard `from` with [`Outbox::block_heard`].
    pub fn home_blocked(&mut self, home: ShardId, from: ShardId, number: u64, block: Block) {
        self.put(Output::Home(home, ToHome::Blocked { from, number, block }));
    }

    /// Tells the shard that counts the answers that this home has acted on the block with this number.
    pub fn block_heard(&mut self, home: ShardId, number: u64) {
        self.put(Output::Home(home, ToHome::BlockHeard { number }));
    }

    /// Tells the gateway what to do about a connection of this shard.
    pub fn socket(&mut self, effect: SocketEffect) {
        self.put(Output::Socket(effect));
    }

    /// Puts the answer to a visitor's query, for the shard on which the visitor is.
    pub fn answer(&mut self, visitor: Visitor, answer: QueryAnswer) {
        self.put(Output::Answer(visitor, answer));
    }

    /// Puts a request to the store. The asker hears the outcome.
    pub fn store(&mut self, asker: Asker, request: impl Into<StoreRequest>) {
        self.put(Output::Store(asker, request.into()));
    }

    /// Everything in another outbox, after everything in this one.
    pub fn append(&mut self, other: &mut Self) {
        self.outputs.append(&mut other.outputs);
    }

    /// The oldest output.
    pub fn take(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }

    /// Whether everything that was put has been taken out.
    pub fn is_empty(&self) -> bool {
        self.outputs.is_empty()
    }

    fn put(&mut self, output: Output) {
        self.outputs.push_back(output);
    }
}
