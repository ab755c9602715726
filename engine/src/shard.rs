//! One shard's whole state: the home of some connections and the owner of some channels. An input goes in, effects come
//! out, and a pass then writes to an outlet.
//!
//! A turn is: `begin_turn`, `step` for each input, `finish_turn`, carrying out the effects, `flush`, one slice of
//! `pass`, `passed`. Nothing here waits, reads a clock or touches a socket.

use std::collections::{BTreeMap, HashMap};
use std::num::NonZeroU32;

use crate::channel::owner::Owner;
use crate::command::{Command, Rejection};
use crate::counters::{Levels, Report, SocketCounters, TurnCounters, kind_of};
use crate::fanout::subscribers::Outlet;
use crate::id::{ChannelId, ConnectionId, Epoch, Monotonic, Now, ShardId, Timestamp, UserId};
use crate::limits::{PASS_VISITS_MAX, ROOM_MEMBERS_MAX, SENDS_PER_SECOND_MAX, SUBSCRIBER_LAG_BYTES_MAX};
use crate::parcel::{Block, Broadcast, ChannelAnswer, ChannelQuery, ChannelRequest, Parcel};
use crate::persist::{StoreFailure, StoreReceipt, StoreRequest, Ticket};
use crate::session::admission::Session;
use crate::session::home::{CloseMode, Home, SocketEffect, Visibility};

/// Everything that can happen to a shard.
#[derive(Debug)]
pub enum Input {
    /// A connection has signed in. Its slot is free on this shard.
    Opened { connection: ConnectionId, session: Session, visibility: Visibility },
    /// A connection sends a request.
    Request { connection: ConnectionId, cid: String, command: Command },
    /// A connection sent a request that is no valid command.
    Refuse { connection: ConnectionId, cid: String, rejection: Rejection },
    /// A control frame for a connection, such as a ping.
    Tell { connection: ConnectionId, frame: Vec<u8> },
    /// The server closes a connection; the frame is the last that the client receives.
    Close { connection: ConnectionId, frame: Vec<u8>, close_mode: CloseMode },
    /// A connection is gone. Its slot may be used again.
    Closed { connection: ConnectionId },
    /// A parcel from another shard has arrived.
    Parcel(Parcel),
    /// A visitor (a requester without a session) asks about a channel. The answer appears in `Effects::answers` under
    /// this number.
    ChannelQuery { number: u64, channel: ChannelId, query: ChannelQuery },
    /// Something for the sessions of users on any shard.
    Broadcast(Broadcast),
    /// A visitor asks which of these users are visible. The answer appears as for `ChannelQuery`.
    Online { number: u64, users: Vec<UserId> },
    /// The store has answered.
    Receipt { ticket: Ticket, outcome: Result<StoreReceipt, StoreFailure> },
}

/// What the runtime must carry out after a turn.
#[derive(Default)]
pub struct Effects {
    pub parcels: Vec<(ShardId, Parcel)>,
    pub store: Vec<(Ticket, StoreRequest)>,
    pub sockets: Vec<SocketEffect>,
    pub answers: Vec<(u64, ChannelAnswer)>,
}

/// The limits of channels and sessions that an operator or a test may set.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Rules {
    /// The visible members of a room. With more, the channel is a crowd, whose presence is counted and sampled.
    pub room_members_max: usize,
    /// Messages, updates and removals that one session may send in a second; `None`: any number.
    pub sends_per_second: Option<NonZeroU32>,
    /// Bytes that a subscriber may be behind in one channel.
    pub lag_bytes_max: u64,
    /// Visits in one slice of a pass.
    pub pass_visits_max: usize,
}

impl Default for Rules {
    fn default() -> Self {
        Self {
            room_members_max: ROOM_MEMBERS_MAX,
            sends_per_second: SENDS_PER_SECOND_MAX,
            lag_bytes_max: SUBSCRIBER_LAG_BYTES_MAX,
            pass_visits_max: PASS_VISITS_MAX,
        }
    }
}

/// A shard.
pub struct Shard {
    id: ShardId,
    shards: u16,
    home: Home,
    owner: Owner,
    now: Now,
    /// Requests for channels that other shards own. Each entry becomes one parcel.
    outgoing: BTreeMap<(ShardId, ChannelId), Vec<ChannelRequest>>,
    /// Parcels other than `Requests` and `Batch`.
    parcels: Vec<(ShardId, Parcel)>,
    answers: Vec<(u64, ChannelAnswer)>,
    /// Blocks that the other shards were told of and have not all confirmed, by number. There are at most as many as
    /// queries that ask for them.
    blocks: HashMap<u64, Unheard>,
    block_numbers: u64,
}

/// A block that some shards have not confirmed yet.
struct Unheard {
    shards: u16,
    /// The shard that asked for the block, and its number of the query. It is answered when all shards have confirmed.
    from: ShardId,
    number: u64,
}

impl Shard {
    /// Makes shard `id` of `shards` shards. `epoch` numbers this run of the server; `seed` is the seed of the random
    /// bits in message ids.
    pub fn new(id: ShardId, shards: u16, epoch: Epoch, rules: Rules, seed: u64) -> Self {
        Self {
            id,
            shards,
            home: Home::new(rules),
            owner: Owner::new(epoch, rules.room_members_max, seed),
            now: Now::default(),
            outgoing: BTreeMap::new(),
            parcels: Vec::new(),
            answers: Vec::new(),
            blocks: HashMap::new(),
            block_numbers: 0,
        }
    }

    /// Begins a turn. This reading of the monotonic clock paces limits and events until the next turn begins. The wall
    /// clock's time, which other calls are given, paces nothing.
    pub fn begin_turn(&mut self, now: Monotonic) {
        self.now.monotonic = now;
        self.home.monotonic = now;
    }

    /// Takes in one input, at the time `now`.
    pub fn step(&mut self, input: Input, now: Timestamp) {
        self.begin(now);
        let now = self.now;
        match input {
            Input::Opened { connection, session, visibility } => self.home.open(connection, session, visibility),
            Input::Request { connection, cid, command } => {
                self.home.counters.requests[kind_of(&command)] += 1;
                self.home.request(connection, cid, command);
            }
            Input::Refuse { connection, cid, rejection } => self.home.refuse(connection, cid, rejection),
            Input::Tell { connection, frame } => self.home.tell(connection, frame),
            Input::Close { connection, frame, close_mode } => self.home.close(connection, frame, close_mode),
            Input::Closed { connection } => self.home.closed(connection),
            Input::Parcel(Parcel::Requests { from, channel, requests }) => {
                for request in requests {
                    self.owner.request(from, channel.clone(), request, now);
                }
            }
            Input::Parcel(Parcel::Batch(batch)) => self.home.receive(batch),
            Input::Parcel(Parcel::Backlog { from, channel, state }) => self.owner.backlog(from, &channel, state, now),
            Input::ChannelQuery { number, channel, query } => {
                let owner = channel.owner(self.shards);
                if owner == self.id {
                    self.owner.query(self.id, number, &channel, query, now);
                } else {
                    self.parcels.push((owner, Parcel::ChannelQuery { from: self.id, number, channel, query }));
                }
            }
            Input::Parcel(Parcel::ChannelQuery { from, number, channel, query }) => {
                self.owner.query(from, number, &channel, query, now);
            }
            Input::Parcel(Parcel::ChannelAnswer { number, answer }) => self.answers.push((number, answer)),
            Input::Parcel(Parcel::Blocked { from, number, block }) => {
                self.home.end_following(block);
                self.parcels.push((from, Parcel::BlockHeard { number }));
            }
            Input::Parcel(Parcel::BlockHeard { number }) => self.block_heard(number),
            Input::Broadcast(broadcast) => self.home.circulate(broadcast),
            Input::Parcel(Parcel::Broadcast(broadcast)) => self.home.hear(&broadcast),
            Input::Online { number, users } => {
                self.answers.push((number, ChannelAnswer::Online(self.home.online(&users))));
            }
            Input::Receipt { ticket, outcome } if ticket.is_of_home() => self.home.receipt(ticket, outcome),
            Input::Receipt { ticket, outcome } => self.owner.receipt(ticket, outcome, now),
        }
        self.put_channel_requests();
    }

    fn begin(&mut self, now: Timestamp) {
        self.now.wall = now;
        self.home.subscribers.now = now;
    }

    /// Whether the connection's next request may be read; if not, `SocketEffect::Resume` will say when.
    pub fn accepts(&mut self, connection: ConnectionId) -> bool {
        self.home.accepts(connection)
    }

    /// Puts the requests of this shard's connections to the owners of their channels.
    fn put_channel_requests(&mut self) {
        for (channel, request) in std::mem::take(&mut self.home.channel_requests) {
            let owner = channel.owner(self.shards);
            if owner == self.id {
                self.owner.request(self.id, channel, request, self.now);
            } else {
                self.outgoing.entry((owner, channel)).or_default().push(request);
            }
        }
    }

    /// Ends the turn: hands what the channels announced to the subscribers here and to other shards.
    pub fn finish_turn(&mut self, now: Timestamp, effects: &mut Effects) {
        self.begin(now);
        // An announcement may release a request that waited for it, and that request may lead to another announcement.
        // The loop ends, because nothing is read from sockets meanwhile.
        loop {
            let batches = self.owner.batches(self.now.monotonic);
            if batches.is_empty() {
                break;
            }
            for (to, batch) in batches {
                if to == self.id {
                    self.home.receive(batch);
                } else {
                    effects.parcels.push((to, Parcel::Batch(batch)));
                }
            }
            self.put_channel_requests();
        }
        self.hand_out();
        for ((to, channel), requests) in std::mem::take(&mut self.outgoing) {
            effects.parcels.push((to, Parcel::Requests { from: self.id, channel, requests }));
        }
        effects.parcels.append(&mut self.parcels);
        effects.answers.append(&mut self.answers);
        effects.store.append(&mut self.owner.requests);
        effects.store.append(&mut self.home.store_requests);
        effects.sockets.append(&mut self.home.effects);
    }

    /// Sends the owner's answers, blocks and notices, and the home's broadcasts, to where they belong.
    fn hand_out(&mut self) {
        for (from, number, answer) in std::mem::take(&mut self.owner.answers) {
            self.answer(from, number, answer);
        }
        for (from, number, block) in std::mem::take(&mut self.owner.blocks) {
            self.tell_of_block(from, number, block);
        }
        let notices = std::mem::take(&mut self.owner.notices);
        if !notices.is_empty() {
            self.home.circulate(Broadcast::Notices(notices));
        }
        for broadcast in std::mem::take(&mut self.home.broadcasts) {
            for shard in (0..self.shards).map(ShardId).filter(|&shard| shard != self.id) {
                self.parcels.push((shard, Parcel::Broadcast(broadcast.clone())));
            }
        }
    }

    /// Answers a query that came from a shard.
    fn answer(&mut self, from: ShardId, number: u64, answer: ChannelAnswer) {
        if from == self.id {
            self.answers.push((number, answer));
        } else {
            self.parcels.push((from, Parcel::ChannelAnswer { number, answer }));
        }
    }

    /// Makes the blocked user's sessions stop following the other user, on every shard. The query of the user who
    /// blocks is answered when all shards have done so: a status that is shown after the answer does not reach a
    /// blocked follower, whichever shards the two are on.
    fn tell_of_block(&mut self, from: ShardId, number: u64, block: Block) {
        self.home.end_following(block);
        let others = self.shards - 1;
        if others == 0 {
            return self.answer(from, number, ChannelAnswer::Done);
        }
        self.block_numbers += 1;
        self.blocks.insert(self.block_numbers, Unheard { shards: others, from, number });
        for shard in (0..self.shards).map(ShardId).filter(|&shard| shard != self.id) {
            self.parcels.push((shard, Parcel::Blocked { from: self.id, number: self.block_numbers, block }));
        }
    }

    fn block_heard(&mut self, number: u64) {
        let unheard = self.blocks.get_mut(&number).expect("each shard answers once what it was told");
        unheard.shards -= 1;
        if unheard.shards == 0 {
            let Unheard { from, number, .. } = self.blocks.remove(&number).expect("it was just there");
            self.answer(from, number, ChannelAnswer::Done);
        }
    }

    /// Writes what a connection is owed, because its socket has room again.
    pub fn writable(&mut self, connection: ConnectionId, outlet: &mut impl Outlet) {
        self.home.writable(connection, outlet);
    }

    /// Writes all private frames that are due. Must be called before the pass: a joining member gets the answer before
    /// the first event.
    pub fn flush(&mut self, outlet: &mut impl Outlet) {
        self.home.flush(outlet);
    }

    /// Runs one slice of the passes under way.
    pub fn pass(&mut self, now: Monotonic, outlet: &mut impl Outlet) {
        self.home.pass(now, outlet);
        for (channel, state) in std::mem::take(&mut self.home.backlogs) {
            let owner = channel.owner(self.shards);
            if owner == self.id {
                self.owner.backlog(self.id, &channel, state, self.now);
            } else {
                // It goes with the next turn's parcels, after the requests that were made before it.
                self.parcels.push((owner, Parcel::Backlog { from: self.id, channel, state }));
            }
        }
        self.put_channel_requests();
    }

    /// Records that the slice is written: passes that ended in it ended at `now`.
    pub fn passed(&mut self, now: Timestamp) {
        self.home.subscribers.passed(now);
    }

    /// What this shard has counted, and its current levels. The cost does not grow with channels or members. The caller
    /// fills in the counters of turns and sockets.
    pub fn report(&self) -> Report {
        let (channels, members) = self.owner.size();
        let subscribers = &self.home.subscribers;
        let standing = subscribers.standing();
        Report {
            shard: self.id,
            home: self.home.counters.clone(),
            fanout: subscribers.counters.clone(),
            owner: self.owner.counters.clone(),
            levels: Levels {
                channels: channels as u64,
                members: members as u64,
                subscriptions: standing.subscriptions as u64,
                parked: standing.parked as u64,
                lag_bytes: standing.lag_bytes,
                store_requests: self.store_requests() as u64,
                ..Levels::default()
            },
            turn: TurnCounters::default(),
            sockets: SocketCounters::default(),
        }
    }

    /// Whether the shard must not wait: a pass is under way, or the last turn left something for the next one.
    pub fn is_busy(&self) -> bool {
        self.home.is_busy()
            || self.owner.is_busy()
            || !self.outgoing.is_empty()
            || !self.parcels.is_empty()
            || !self.answers.is_empty()
    }

    /// When a pass that waits may go on, on the clock that `pass` is given.
    pub fn next_due(&self) -> Option<Monotonic> {
        self.home.subscribers.next_due()
    }

    /// Requests that the store has not answered.
    pub fn store_requests(&self) -> usize {
        self.owner.waiting() + self.home.waiting()
    }
}
