//! One shard's whole state: the home of some connections and the owner of some channels. An input goes in, effects come
//! out, and a pass then writes to an outlet.
//!
//! A turn is: `begin_turn`, `step` for each input, `finish_turn`, carrying out the effects, `flush`, one slice of
//! `pass`, `passed`. Nothing here waits, reads a clock or touches a socket.

use std::collections::{BTreeMap, HashMap};
use std::mem;
use std::num::NonZeroU16;
use std::sync::Arc;
use std::time::Duration;

use crate::budget::Work;
use crate::channel::owner::{Given, LeftSlot, Owner};
use crate::chart::{Chart, Slot};
use crate::command::{Command, Rejection};
use crate::counters::{Levels, Report, SessionEnd, SocketCounters, TurnCounters, kind_of};
use crate::fanout::subscribers::Outlet;
use crate::id::{ChannelId, ConnectionId, Life, Monotonic, Now, ShardId, Timestamp, UserId};
use crate::limits::{ClientLimits, Rules};
use crate::outbox::{Asker, Outbox, Output, ToEveryHome, ToHome, ToOwner};
use crate::parcel::{Broadcast, ChannelRequest, Parcel};
use crate::persist::{StoreFailure, StoreReceipt, StoreRequest, Ticket};
use crate::query::{Block, ChannelQuery, Inspection, OnlineQuery, QueryAnswer, Undone, Visitor};
use crate::routing::{Route, Routing};
use crate::session::admission::{OpeningRefusal, Session};
use crate::session::home::{CloseMode, Home, Visibility};
use crate::session::shared_budgets::{Payer, SharedBudgets};
use crate::store_requests::StoreRequests;

pub use crate::outbox::SocketEffect;

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
    /// The frame answers a ping of WebSocket.
    Pong { connection: ConnectionId, frame: Vec<u8> },
    /// The server closes a connection; the frame is the last that the client receives.
    Close { connection: ConnectionId, frame: Vec<u8>, close_mode: CloseMode, end: SessionEnd },
    /// Close all sessions, evenly over this time. Each client receives one of the frames as its last, in turn. No session may
    /// open afterwards.
    Drain { time: Duration, frames: Vec<Vec<u8>> },
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
    Online { number: u64, query: OnlineQuery },
    /// An operator asks about this shard, or closes sessions of it. The answer appears as for `ChannelQuery`.
    Inspect { number: u64, query: Inspection },
    /// Compare with the owners whether a batch is missing. The newest batch may be lost too, and no later one shows it.
    /// In one process no batch is lost, and nothing gives this input. What carries parcels between processes gives it
    /// from time to time, and when a connection to another process is back.
    CompareWithOwners,
    /// A newer chart: channels may have other owners, and nodes may be up that were not, or the other way round.
    Chart(Arc<Chart>),
    /// Parcels to the node of this life arrive from here on, and parcels from it come.
    LinkOpened(Life),
    /// Parcels to the node of this life, and from it, may have been lost. None goes to it until its link is open.
    LinkReset(Life),
    /// Give these slots up in order. `Effects::left` says when nothing is under way in their channels.
    Leave(Vec<Slot>),
    /// What other shards have left behind of slots that this one takes. The chart that says so comes after it.
    Inherit(Vec<(ChannelId, Given)>),
    /// The store has answered.
    Receipt { ticket: Ticket, outcome: Result<StoreReceipt, StoreFailure> },
}

/// What the runtime must carry out after a turn.
#[derive(Default)]
pub struct Effects {
    pub parcels: Vec<(ShardId, Parcel)>,
    pub store: Vec<(Ticket, StoreRequest)>,
    pub sockets: Vec<SocketEffect>,
    pub answers: Vec<(u64, QueryAnswer)>,
    /// Slots that this shard has given up: another one may take them.
    pub left: Vec<LeftSlot>,
}

impl Effects {
    fn is_empty(&self) -> bool {
        let has_no_work = self.parcels.is_empty() && self.store.is_empty() && self.sockets.is_empty();
        has_no_work && self.answers.is_empty() && self.left.is_empty()
    }
}

/// A shard.
pub struct Shard {
    routing: Routing,
    home: Home,
    owner: Owner,
    now: Now,
    outbox: Outbox,
    /// What leaves this shard at the end of the turn.
    effects: Effects,
    /// Which parcel of this turn has the requests for a channel of another shard, as an index into `effects.parcels`.
    /// So all of them travel in one parcel.
    request_parcels: BTreeMap<(ShardId, ChannelId), usize>,
    asked: StoreRequests,
    /// Blocks that the shards were told of and have not all confirmed, by number. There are at most as many as
    /// queries that ask for them.
    blocks: HashMap<u64, Unheard>,
    block_numbers: u64,
}

/// A block that some shards have not confirmed yet.
struct Unheard {
    shards: usize,
    /// Who asked for the block. The visitor is answered when all shards have confirmed.
    visitor: Visitor,
}

impl Shard {
    /// Makes a shard. The chart says which channels it orders, and where the others are; `seed` is the seed of the random bits
    /// in message ids.
    pub fn new(id: ShardId, chart: Arc<Chart>, rules: Rules, seed: u64) -> Self {
        let mut home = Home::new(rules);
        let cores = chart.cores(id.life).and_then(NonZeroU16::new).unwrap_or(NonZeroU16::MIN);
        home.shared_budgets.set_rates(&rules.process_rates, cores);
        let routing = Routing::new(id, chart, rules.placement_key);
        if routing.is_of_cluster() {
            home.keep_told();
        }
        Self {
            routing: routing.clone(),
            home,
            owner: Owner::new(routing, &rules, seed),
            now: Now::default(),
            outbox: Outbox::default(),
            effects: Effects::default(),
            request_parcels: BTreeMap::new(),
            asked: StoreRequests::default(),
            blocks: HashMap::new(),
            block_numbers: 0,
        }
    }

    /// Begins a turn. This reading of the monotonic clock paces limits and events until the next turn begins. The wall
    /// clock's time, which other calls are given, paces nothing.
    pub fn begin_turn(&mut self, now: Monotonic) {
        self.now.monotonic = now;
        self.owner.begin_turn(self.now, &mut self.outbox);
        self.home.begin_turn(now, &mut self.outbox);
    }

    /// The budgets that the sessions of this shard share with the gateway's HTTP handlers.
    pub fn shared_budgets(&self) -> SharedBudgets {
        self.home.shared_budgets.clone()
    }

    /// Puts these limits in force.
    pub fn set_limits(&mut self, limits: ClientLimits) {
        self.home.set_limits(limits);
    }

    /// To whose budgets the work of a connection is charged. Empty if it has no session.
    pub fn payer(&self, id: ConnectionId) -> Payer {
        self.home.payer(id)
    }

    /// Whether the connection is being closed because its client reads too slowly.
    pub fn is_too_slow(&self, id: ConnectionId) -> bool {
        self.home.is_too_slow(id)
    }

    /// The user and the network of a connection's session. Empty if it has no session.
    pub fn client(&self, id: ConnectionId) -> Payer {
        self.home.client(id)
    }

    /// The work of the requests that were read in this turn, and of late writes.
    pub fn worked(&self) -> Work {
        self.home.worked()
    }

    /// Takes in one input, at the time `now`.
    pub fn step(&mut self, input: Input, now: Timestamp) {
        self.begin(now);
        let (home, outbox) = (&mut self.home, &mut self.outbox);
        match input {
            Input::Opened { connection, session, visibility } => home.open(connection, session, visibility, outbox),
            Input::Request { connection, cid, command } => {
                home.counters.requests[kind_of(&command)] += 1;
                home.request(connection, cid, command, outbox);
            }
            Input::Refuse { connection, cid, rejection } => home.refuse(connection, cid, rejection, outbox),
            Input::Tell { connection, frame } => home.tell(connection, frame),
            Input::Pong { connection, frame } => home.pong(connection, frame),
            Input::Close { connection, frame, close_mode, end } => {
                home.close(connection, frame, close_mode, end, outbox)
            }
            Input::Drain { time, frames } => home.drain(time, frames),
            Input::Closed { connection } => home.closed(connection, outbox),
            Input::Parcel(parcel) => self.open_parcel(parcel),
            Input::ChannelQuery { number, channel, query } => {
                outbox.query(channel, Visitor { shard: self.routing.own(), number }, query);
            }
            Input::Broadcast(broadcast) => outbox.broadcast(broadcast),
            Input::Online { number, query } => {
                let online = QueryAnswer::Online(home.online(&query.users));
                outbox.answer(Visitor { shard: self.routing.own(), number }, online);
            }
            Input::Inspect { number, query } => {
                let answer = match query {
                    Inspection::Channels(query) => QueryAnswer::Channels(self.owner.listed(&query, self.now.monotonic)),
                    Inspection::Sessions(query) => QueryAnswer::Sessions(home.sessions(query.user)),
                    Inspection::Disconnect(query) => QueryAnswer::Disconnected(home.disconnect(&query, outbox)),
                };
                outbox.answer(Visitor { shard: self.routing.own(), number }, answer);
            }
            Input::CompareWithOwners => home.compare_with_owners(outbox),
            Input::Chart(chart) => self.follow_chart(chart),
            Input::LinkOpened(life) => {
                self.routing.set_linked(life, true);
                home.link_is_open(life, &self.routing, outbox);
            }
            Input::LinkReset(life) => {
                self.routing.set_linked(life, false);
                home.link_is_reset(life, &self.routing, outbox);
            }
            Input::Leave(slots) => self.owner.leave(&slots),
            Input::Inherit(given) => self.owner.inherit(given),
            Input::Receipt { ticket, outcome } => self.receipt(ticket, outcome),
        }
        self.carry_out();
    }

    /// Takes in a chart. Channels that this shard does not order any more end first, so that their last batches come before the
    /// members that enter elsewhere.
    fn follow_chart(&mut self, chart: Arc<Chart>) {
        let before = self.routing.clone();
        self.routing.set_chart(chart);
        self.owner.follow(&self.routing, self.now, &mut self.outbox);
        self.carry_out();
        self.home.follow_chart(&before, &self.routing, &mut self.outbox);
    }

    /// Takes in what another shard has sent.
    fn open_parcel(&mut self, parcel: Parcel) {
        match parcel {
            Parcel::Requests { from, channel, requests } => {
                for request in requests {
                    self.tell_owner(from, channel.clone(), ToOwner::Request(request));
                }
            }
            Parcel::CatchUp { from, channel, reached } => self.tell_owner(from, channel, ToOwner::CatchUp(reached)),
            Parcel::Enter(enter) => self.tell_owner(enter.from, enter.channel.clone(), ToOwner::Enter(enter)),
            Parcel::NotOrdered { from, channel, requests } => {
                self.tell_home(ToHome::NotOrdered { from, channel, requests });
            }
            Parcel::Flush { from, number } => self.tell_home(ToHome::Flush { from, number }),
            Parcel::Flushed { number } => self.tell_home(ToHome::Flushed(number)),
            Parcel::Backlog { from, channel, state } => self.tell_owner(from, channel, ToOwner::Backlog(state)),
            Parcel::ChannelQuery { from, number, channel, query } => {
                self.tell_owner(from, channel, ToOwner::Query(Visitor { shard: from, number }, query));
            }
            Parcel::Batch(batch) => self.tell_home(ToHome::Batch(batch)),
            Parcel::CaughtUp(answer) => self.tell_home(ToHome::CaughtUp(answer)),
            Parcel::QueryAnswer { number, answer } => {
                self.outbox.answer(Visitor { shard: self.routing.own(), number }, answer);
            }
            Parcel::Broadcast(broadcast) => self.home.hear(&broadcast),
            Parcel::Blocked { from, number, block } => self.tell_home(ToHome::Blocked { from, number, block }),
            Parcel::BlockHeard { number } => self.tell_home(ToHome::BlockHeard { number }),
        }
    }

    fn receipt(&mut self, ticket: Ticket, outcome: Result<StoreReceipt, StoreFailure>) {
        let (asker, asked) = self.asked.answered(ticket);
        self.owner.counters.store.record_between(asked, self.now.wall);
        self.owner.counters.store_failures += u64::from(outcome.is_err());
        match asker {
            Asker::Channel(channel, epoch, purpose) => {
                self.owner.receipt(channel, epoch, purpose, outcome, self.now, &mut self.outbox);
            }
            Asker::Follower(connection) => self.home.receipt(connection, outcome),
        }
    }

    /// Whether the requests that were read in this turn are as much work as a turn may be.
    pub fn has_worked_enough(&self) -> bool {
        self.home.has_worked_enough()
    }

    /// Whether half of that work was done. Connections that are read again take no more of it.
    pub fn has_worked_half(&self) -> bool {
        self.home.has_worked_half()
    }

    /// Whether as many connections and memberships have ended in this turn as may. The caller lets further connections
    /// end in the next turn.
    pub fn has_ended_enough(&self) -> bool {
        self.home.has_ended_enough()
    }

    /// Whether the user may open one more session on this shard. The opening is charged, or its refusal.
    pub fn admits(&self, user: UserId) -> Result<(), OpeningRefusal> {
        self.home.admits(user)
    }

    /// Charges bytes that a connection has sent, and frames of it that are no request.
    pub fn charge_received(&mut self, connection: ConnectionId, bytes: usize, silent_frames: usize) {
        self.home.charge_received(connection, bytes, silent_frames);
    }

    /// Whether the connection waits for answers, or has frames of its own that are not written.
    pub fn owes(&self, connection: ConnectionId) -> bool {
        self.home.owes(connection)
    }

    fn begin(&mut self, now: Timestamp) {
        self.now.wall = now;
        self.home.subscribers.now = now;
    }

    /// Whether the connection's next request may be read; if not, `SocketEffect::Resume` will say when.
    pub fn accepts(&mut self, connection: ConnectionId) -> bool {
        self.home.accepts(connection)
    }

    /// Carries out what is in the outbox, and what follows from that, until the outbox is empty. It ends, because nothing
    /// is read from sockets meanwhile.
    fn carry_out(&mut self) {
        let own = self.routing.own();
        while let Some(output) = self.outbox.take() {
            match output {
                Output::Owner(channel, to_owner) => match self.routing.owner_of(&channel) {
                    Some(Route::Here) => self.tell_owner(own, channel, to_owner),
                    Some(Route::Shard(shard)) => self.send_to_owner(shard, channel, to_owner),
                    Some(Route::Cut) | None => self.refuse_without_owner(&channel, to_owner),
                },
                Output::Home(shard, to_home) => match self.routing.shard(shard) {
                    Route::Here => self.tell_home(to_home),
                    Route::Shard(shard) => self.send_to_home(shard, to_home),
                    // It asks what it has missed when parcels go there again.
                    Route::Cut => self.home.counters.unreached += 1,
                },
                Output::EveryHome(to_every_home) => self.tell_every_home(to_every_home),
                Output::Socket(effect) => self.effects.sockets.push(effect),
                Output::Answer(Visitor { shard, number }, answer) => match self.routing.shard(shard) {
                    Route::Here => self.effects.answers.push((number, answer)),
                    Route::Shard(shard) => self.effects.parcels.push((shard, Parcel::QueryAnswer { number, answer })),
                    Route::Cut => self.home.counters.unreached += 1,
                },
                Output::Store(asker, request) => self.ask_store(asker, request),
            }
        }
    }

    /// Tells the owner of a channel, which is on this shard, what shard `from` wants.
    fn tell_owner(&mut self, from: ShardId, channel: ChannelId, to_owner: ToOwner) {
        let (now, owner, outbox) = (self.now, &mut self.owner, &mut self.outbox);
        let is_of_home = matches!(to_owner, ToOwner::CatchUp(_) | ToOwner::Enter(_));
        if !(if is_of_home { owner.takes_in_homes(&channel) } else { owner.takes_up(&channel) }) {
            return self.give_back(from, channel, to_owner);
        }
        match to_owner {
            ToOwner::Request(request) => owner.request(from, channel, request, now, outbox),
            ToOwner::Query(visitor, query) => owner.query(visitor, channel, query, now, outbox),
            ToOwner::Backlog(state) => owner.backlog(from, channel, state, now, outbox),
            ToOwner::CatchUp(reached) => owner.catch_up(from, channel, reached, outbox),
            ToOwner::Enter(enter) => owner.enter(enter, now, outbox),
        }
    }

    /// Gives back what shard `from` wants of a channel that this shard does not order, or gives up.
    fn give_back(&mut self, from: ShardId, channel: ChannelId, to_owner: ToOwner) {
        let own = self.routing.own();
        match to_owner {
            ToOwner::Request(request) => self.outbox.not_ordered(from, own, channel, vec![request]),
            ToOwner::Query(visitor, query) => self.outbox.answer(visitor, query.undone(Undone::NothingDone)),
            ToOwner::CatchUp(_) | ToOwner::Enter(_) => self.outbox.not_ordered(from, own, channel, Vec::new()),
            // The next owner hears of it.
            ToOwner::Backlog(_) => {}
        }
    }

    /// Refuses what this shard wants of a channel that has no owner now. Nothing was done.
    fn refuse_without_owner(&mut self, channel: &ChannelId, to_owner: ToOwner) {
        match to_owner {
            ToOwner::Request(request) => self.home.refuse_without_owner(channel, &request, &mut self.outbox),
            ToOwner::Query(visitor, query) => self.outbox.answer(visitor, query.undone(Undone::NothingDone)),
            // The next owner knows nothing of this shard's place, nor of its backlog, until it hears of the shard's members.
            ToOwner::Backlog(_) => {}
            ToOwner::CatchUp(_) | ToOwner::Enter(_) => self.home.wait_for_chart(channel),
        }
    }

    fn tell_home(&mut self, to_home: ToHome) {
        match to_home {
            ToHome::Batch(batch) => self.home.receive(batch, &mut self.outbox),
            ToHome::CaughtUp(answer) => self.home.caught_up(*answer, &mut self.outbox),
            ToHome::NotOrdered { from, channel, requests } => {
                self.home.not_ordered(from, channel, requests, &self.routing, &mut self.outbox);
            }
            ToHome::Flush { from, number } => self.owner.flush(from, number),
            ToHome::Flushed(number) => self.home.flushed(&self.routing, number, &mut self.outbox),
            ToHome::Blocked { from, number, block } => {
                self.home.end_following(block);
                self.outbox.block_heard(from, number);
            }
            ToHome::BlockHeard { number } => self.block_heard(number),
        }
    }

    fn send_to_owner(&mut self, to: ShardId, channel: ChannelId, to_owner: ToOwner) {
        let from = self.routing.own();
        let parcel = match to_owner {
            ToOwner::Request(request) => return self.send_request(to, channel, request),
            ToOwner::Query(Visitor { number, .. }, query) => Parcel::ChannelQuery { from, number, channel, query },
            ToOwner::Backlog(state) => Parcel::Backlog { from, channel, state },
            ToOwner::CatchUp(reached) => Parcel::CatchUp { from, channel, reached },
            ToOwner::Enter(enter) => Parcel::Enter(enter),
        };
        self.effects.parcels.push((to, parcel));
    }

    fn send_to_home(&mut self, to: ShardId, to_home: ToHome) {
        let parcel = match to_home {
            ToHome::Batch(batch) => Parcel::Batch(batch),
            ToHome::CaughtUp(answer) => Parcel::CaughtUp(answer),
            ToHome::NotOrdered { from, channel, requests } => Parcel::NotOrdered { from, channel, requests },
            ToHome::Flush { from, number } => Parcel::Flush { from, number },
            ToHome::Flushed(number) => Parcel::Flushed { number },
            ToHome::Blocked { from, number, block } => Parcel::Blocked { from, number, block },
            ToHome::BlockHeard { number } => Parcel::BlockHeard { number },
        };
        self.effects.parcels.push((to, parcel));
    }

    /// Puts a request to its channel's other requests of this turn.
    fn send_request(&mut self, to: ShardId, channel: ChannelId, request: ChannelRequest) {
        let parcels = &mut self.effects.parcels;
        match self.request_parcels.get(&(to, channel.clone())).and_then(|&index| parcels.get_mut(index)) {
            Some((_, Parcel::Requests { requests, .. })) => requests.push(request),
            _ => {
                self.request_parcels.insert((to, channel.clone()), parcels.len());
                let from = self.routing.own();
                parcels.push((to, Parcel::Requests { from, channel, requests: vec![request] }));
            }
        }
    }

    fn tell_every_home(&mut self, to_every_home: ToEveryHome) {
        match to_every_home {
            ToEveryHome::Broadcast(broadcast) => {
                for shard in self.routing.others() {
                    self.effects.parcels.push((shard, Parcel::Broadcast(broadcast.clone())));
                }
                self.home.hear(&broadcast);
            }
            ToEveryHome::Blocked(visitor, block) => self.tell_of_block(visitor, block),
        }
    }

    /// Sends a request to the store, or fails it at once if the store has too much to do.
    fn ask_store(&mut self, asker: Asker, request: StoreRequest) {
        match asker {
            Asker::Channel(channel, epoch, purpose) if !self.asked.has_room_for(&purpose) => {
                let failure = Err(StoreFailure::nothing_done("the store has too much to do"));
                self.owner.receipt(channel, epoch, purpose, failure, self.now, &mut self.outbox);
            }
            asker => self.effects.store.push((self.asked.ask(asker, self.now.wall), request)),
        }
    }

    /// Ends the turn: what channels have announced is told to the homes on this shard and on others. The caller lends
    /// `effects`, which must be empty, and gets them back with everything that the turn wants.
    pub fn finish_turn(&mut self, now: Timestamp, effects: &mut Effects) {
        self.begin(now);
        self.home.judge_parked();
        self.home.close_due(&mut self.outbox);
        self.home.end_waiting(&mut self.outbox);
        self.home.tell_departures(&mut self.outbox);
        self.home.tell_statuses(&mut self.outbox);
        self.home.answer_follows(&mut self.outbox);
        // An announcement may release a request that waited for it, and that may be announced as well. It ends, because
        // nothing is read from sockets meanwhile.
        loop {
            self.owner.announce(self.now.monotonic, &mut self.outbox);
            self.home.end_waiting(&mut self.outbox);
            if self.outbox.is_empty() {
                break;
            }
            self.carry_out();
        }
        self.home.tell_notices();
        self.home.look_for_owners(&self.routing, &mut self.outbox);
        self.carry_out();
        self.effects.left.extend(self.owner.take_left());
        self.request_parcels.clear();
        debug_assert!(effects.is_empty(), "the last turn's effects are carried out");
        mem::swap(effects, &mut self.effects);
    }

    /// Tells every home, this shard's own too, that the blocked user's sessions must stop following the other user. The
    /// visitor is answered when all have done so: after the answer, no status of the user who blocks reaches the blocked
    /// user, on any shard.
    fn tell_of_block(&mut self, visitor: Visitor, block: Block) {
        self.block_numbers += 1;
        let (from, number) = (self.routing.own(), self.block_numbers);
        let mut shards = 0;
        for shard in self.routing.all() {
            self.outbox.home_blocked(shard, from, number, block);
            shards += 1;
        }
        self.blocks.insert(number, Unheard { shards, visitor });
    }

    fn block_heard(&mut self, number: u64) {
        let unheard = self.blocks.get_mut(&number).expect("each shard answers once what it was told");
        unheard.shards -= 1;
        if unheard.shards == 0 {
            let Unheard { visitor, .. } = self.blocks.remove(&number).expect("it was just there");
            self.outbox.answer(visitor, QueryAnswer::Blocked(Ok(())));
        }
    }

    /// Writes what a connection is owed, because its socket has room again.
    pub fn writable(&mut self, connection: ConnectionId, outlet: &mut impl Outlet) {
        self.home.writable(connection, outlet, &mut self.outbox);
    }

    /// Writes all private frames that are due. Must be called before the pass: a joining member gets the answer before
    /// the first event.
    pub fn flush(&mut self, outlet: &mut impl Outlet) {
        self.home.flush(outlet, &mut self.outbox);
    }

    /// Runs one slice of the passes under way.
    pub fn pass(&mut self, now: Monotonic, outlet: &mut impl Outlet) {
        self.home.pass(now, outlet, &mut self.outbox);
        self.carry_out();
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
        let levels = subscribers.levels();
        Report {
            shard: self.routing.own(),
            home: self.home.counters.clone(),
            fanout: subscribers.counters.clone(),
            owner: self.owner.counters.clone(),
            levels: Levels {
                channels: channels as u64,
                members: members as u64,
                resting: self.home.resting() as u64,
                subscriptions: levels.subscriptions as u64,
                parked: levels.parked as u64,
                lag_bytes: levels.lag_bytes,
                log_bytes: levels.log_bytes,
                unread_bytes: self.home.unread_bytes(),
                store_requests: self.store_requests() as u64,
                ..Levels::default()
            },
            turn: TurnCounters::default(),
            sockets: SocketCounters::default(),
            beyond_rates: self.home.shared_budgets.refused_by_rates(),
        }
    }

    /// Whether the shard must not wait: a pass is under way, or the last turn left something for the next one.
    pub fn is_busy(&self) -> bool {
        self.home.is_busy() || self.owner.is_busy() || !self.outbox.is_empty() || !self.effects.is_empty()
    }

    /// When a pass that waits may go on, on the clock that `pass` is given.
    pub fn next_due(&self) -> Option<Monotonic> {
        self.home.subscribers.next_due()
    }

    /// Asserts what the tables of the home and of the owner promise. For tests: it looks at every member.
    pub fn invariants(&self) {
        self.home.invariants();
        self.owner.invariants();
        self.asked.invariants();
    }

    /// Requests that the store has not answered.
    pub fn store_requests(&self) -> usize {
        self.asked.len()
    }
}
