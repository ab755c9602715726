//! What a channel, a channel's owner and a home want done elsewhere: addressed, and in the order in which they wanted it.
//!
//! Nothing that follows from work is done on the spot. It is put here, and the shard carries it out later, in order. Only
//! `routing` turns an address into a shard.

use std::collections::VecDeque;
use std::sync::Arc;

use crate::channel::pending::PendingPlace;
use crate::command::Reply;
use crate::id::{ChannelId, ConnectionId, ShardId};
use crate::parcel::{Backlog, Batch, Broadcast, CaughtUp, ChannelRequest, Reached};
use crate::persist::StoreRequest;
use crate::query::{Block, ChannelQuery, QueryAnswer, Version, Visitor};

/// Where an output goes.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Address {
    /// The shard that owns this channel.
    Owner(ChannelId),
    /// The home of some connections that are in a channel.
    Home(ShardId),
    /// The homes of all connections, on every shard.
    EveryHome,
    /// A connection of this shard.
    Connection(ConnectionId),
    /// The requester of a query, on any shard.
    Visitor(Visitor),
    /// The store.
    Store,
}

/// What goes there.
#[derive(Debug)]
pub enum Output {
    /// To an owner.
    Request(ChannelRequest),
    Query(Visitor, ChannelQuery),
    Backlog(Backlog),
    /// A batch is missing at this shard, which has come so far.
    CatchUp(Option<Reached>),
    /// To a home.
    Batch(Batch),
    CaughtUp(Box<CaughtUp>),
    /// To every home.
    Broadcast(Arc<Broadcast>),
    /// To every home: the store has confirmed a block. The visitor is answered when all homes have acted on it.
    Blocked(Visitor, Block),
    /// To a connection: the answer to its request with this number.
    Reply(u32, Reply),
    /// To the gateway's part of a connection.
    Socket(SocketEffect),
    /// To a visitor.
    Answer(QueryAnswer),
    /// To the store. The asker hears the outcome.
    Store(Asker, StoreRequest),
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
}

impl SocketEffect {
    /// The connection that the effect is about.
    pub fn connection(self) -> ConnectionId {
        match self {
            Self::Resume(connection) | Self::Closing(connection) | Self::Finish(connection) => connection,
        }
    }
}

/// Which part of a shard waits for the store.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Asker {
    /// A channel, and what it wants to know.
    Channel(ChannelId, Purpose),
    /// A connection that wants to follow users.
    Follower(ConnectionId),
}

/// What a channel's request to the store is for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Purpose {
    /// The end of its history.
    Head,
    /// Its newest messages, which will be this version.
    Newest(Version),
    /// The decision on an entry of its queue.
    Decision(PendingPlace),
}

/// Outputs, first in, first out. One step adds a bounded number of them, and the shard empties it after each step.
#[derive(Default, Debug)]
pub struct Outbox {
    outputs: VecDeque<(Address, Output)>,
}

impl Outbox {
    /// Puts a request for the owner of the channel, on whichever shard it is.
    pub fn request(&mut self, channel: ChannelId, request: ChannelRequest) {
        self.put(Address::Owner(channel), Output::Request(request));
    }

    /// Puts a query for the owner of the channel. The visitor gets one [`QueryAnswer`].
    pub fn query(&mut self, channel: ChannelId, visitor: Visitor, query: ChannelQuery) {
        self.put(Address::Owner(channel), Output::Query(visitor, query));
    }

    /// Tells the owner of the channel how a home's backlog stands.
    pub fn backlog(&mut self, channel: ChannelId, state: Backlog) {
        self.put(Address::Owner(channel), Output::Backlog(state));
    }

    /// Puts a batch of a channel's announcements for the members whose home is this shard.
    pub fn batch(&mut self, home: ShardId, batch: Batch) {
        self.put(Address::Home(home), Output::Batch(batch));
    }

    /// Asks the owner of the channel for what this shard has missed since `reached`.
    pub fn catch_up(&mut self, channel: ChannelId, reached: Option<Reached>) {
        self.put(Address::Owner(channel), Output::CatchUp(reached));
    }

    /// Answers a home that has missed a batch.
    pub fn caught_up(&mut self, home: ShardId, answer: CaughtUp) {
        self.put(Address::Home(home), Output::CaughtUp(Box::new(answer)));
    }

    /// Puts one announcement for the homes of all shards, which share it.
    pub fn broadcast(&mut self, broadcast: Broadcast) {
        self.put(Address::EveryHome, Output::Broadcast(Arc::new(broadcast)));
    }

    /// Tells every home that the store has confirmed a block. The visitor is answered when all homes have acted on it.
    pub fn blocked(&mut self, visitor: Visitor, block: Block) {
        self.put(Address::EveryHome, Output::Blocked(visitor, block));
    }

    /// Puts the answer to the request with this number, for a connection of this shard.
    pub fn reply(&mut self, connection: ConnectionId, number: u32, reply: Reply) {
        self.put(Address::Connection(connection), Output::Reply(number, reply));
    }

    /// Tells the gateway what to do about a connection of this shard.
    pub fn socket(&mut self, effect: SocketEffect) {
        self.put(Address::Connection(effect.connection()), Output::Socket(effect));
    }

    /// Puts the answer to a visitor's query, for the shard on which the visitor is.
    pub fn answer(&mut self, visitor: Visitor, answer: QueryAnswer) {
        self.put(Address::Visitor(visitor), Output::Answer(answer));
    }

    /// Puts a request to the store. The asker hears the outcome.
    pub fn store(&mut self, asker: Asker, request: StoreRequest) {
        self.put(Address::Store, Output::Store(asker, request));
    }

    /// Everything in another outbox, after everything in this one.
    pub fn append(&mut self, other: &mut Self) {
        self.outputs.append(&mut other.outputs);
    }

    /// The oldest output.
    pub fn take(&mut self) -> Option<(Address, Output)> {
        self.outputs.pop_front()
    }

    /// Whether everything that was put has been taken out.
    pub fn is_empty(&self) -> bool {
        self.outputs.is_empty()
    }

    fn put(&mut self, address: Address, output: Output) {
        self.outputs.push_back((address, output));
    }
}
