//! A channel at its owner: its members, who may write, and which message comes next.
//!
//! The owner judges all requests of a channel in one order. A change that must be stored is shown only after the store
//! has confirmed it. Contents are opaque. The channel produces `Announcements`, which the shard sends at the end of the
//! turn, and beside them answers and notices.
//!
//! Any user may join a room. A join to a group's or a direct channel needs the store's decision. The store also decides
//! the changes that remove members (a kick, a block). Such a change stands in the same queue as messages and joins, and
//! no request after it is looked at before it is decided: no user sends or joins after a kick that was asked for
//! earlier.

use std::collections::VecDeque;

use crate::channel::announcements::Announcements;
use crate::channel::catching_up::Behind;
use crate::channel::departures::Departures;
use crate::channel::members::{Address, Member, Members};
use crate::channel::pending::{Pending, PendingPlace};
use crate::channel::presence::{PresenceChanges, PresenceList, PresenceNews, Return};
use crate::channel::recent::Recent;
use crate::command::{Event, Rejection, Reply};
use crate::id::{ChannelId, ChannelKind, Epoch, Monotonic, Now, Sequence, SessionId, ShardId, Timestamp};
use crate::limits::{CHANNEL_PENDING_MAX, RECENT_MAX};
use crate::message::{Message, Presence};
use crate::message_id::{MessageIds, latest_time};
use crate::outbox::{Asker, Outbox, Purpose};
use crate::parcel::{
    Batch, BatchNumber, Block, ChannelAction, ChannelAnswer, ChannelQuery, ChannelRequest, Version, Visitor,
};
use crate::persist::{StoreFailure, StoreReceipt, StoreRequest};

mod announcements;
mod catching_up;
mod departures;
pub(crate) mod members;
mod membership;
mod messages;
pub mod owner;
pub(crate) mod pending;
mod presence;
mod recent;

/// The clock's readings and random bits that a channel is given for one step.
pub struct StepContext {
    pub now: Now,
    pub random: u64,
}

/// What the store has decided about an entry of the queue.
pub type Decision = Result<StoreReceipt, StoreFailure>;

/// A channel.
pub struct Channel {
    id: ChannelId,
    members: Members,
    /// The number of members when the owner last called `count_members`.
    members_counted: usize,
    presence_changes: PresenceChanges,
    departures: Departures,
    recent: Recent,
    /// With more visible members than this, the channel is a crowd.
    room_max: usize,
    place: Place,
    pending: Pending<Work, Decision>,
    /// Requests that came while the place was unknown, or while a change that may remove members was undecided; in
    /// order.
    waiting: VecDeque<Waiting>,
    /// Undecided changes in the queue that may remove members.
    undecided_changes: usize,
    /// Shards whose passes are behind what this channel announces. While there are any, messages wait.
    held_by: Vec<ShardId>,
    /// Homes that have missed a batch and are not answered yet: each of them once.
    behind: Vec<Behind>,
    pub announcements: Announcements,
    /// What is told after the turn's announcements: answers to visitors, notices, blocks.
    pub afterwards: Outbox,
}

/// Whether the channel knows where its history ends. It cannot give out message ids before it does.
enum Place {
    Unknown,
    /// The store has been asked.
    Asked,
    Known {
        ids: MessageIds,
        next: Sequence,
        /// The newest time that a message was given. Times never go back, so that their order is the order of ids. If a
        /// server whose clock was ahead wrote the history, the channel's time stands still until the clock has reached
        /// it.
        newest: Timestamp,
    },
}

/// A request or a query that waits to be looked at.
enum Waiting {
    ChannelRequest(ShardId, ChannelRequest),
    ChannelQuery(Requester, ChannelQuery),
}

/// The requester, who is told the result of the work.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Requester {
    /// A connection, and the number of its request.
    Connection(Address, u32),
    /// A requester without a session: its shard, and the number of its query.
    Visitor(Visitor),
}

/// Accepted work, in the order in which it will be shown.
struct Work {
    requester: Requester,
    act: Act,
}

enum Act {
    Send(Message),
    /// A change to a stored message.
    Change,
    /// An update or a removal by a presence that is not persistent. If no message is stored under its id, this message
    /// is announced.
    Live(Message),
    /// A user joins if the store admits the user.
    Join(Member),
    /// A change of a group's members. `removes`: it may remove members, so requests after it wait.
    ChangeMembers {
        removes: bool,
    },
    /// A block between the two users of a direct channel. Requests after it wait.
    Block(Block),
    Purge(Vec<crate::id::MessageId>),
}

impl Channel {
    /// A channel without members, whose last message is not known yet: its first request makes it ask the store. A room
    /// with more than `room_max` members becomes a crowd (docs/protocol.md, section 2.11).
    pub fn new(id: ChannelId, room_max: usize) -> Self {
        Self {
            id,
            members: Members::default(),
            members_counted: 0,
            presence_changes: PresenceChanges::default(),
            departures: Departures::default(),
            recent: Recent::default(),
            room_max,
            place: Place::Unknown,
            pending: Pending::default(),
            waiting: VecDeque::new(),
            undecided_changes: 0,
            held_by: Vec::new(),
            behind: Vec::new(),
            announcements: Announcements::default(),
            afterwards: Outbox::default(),
        }
    }

    /// Whether this channel can be dropped without losing anything.
    pub fn is_idle(&self) -> bool {
        let at_rest = self.pending.is_empty() && self.waiting.is_empty() && !matches!(self.place, Place::Asked);
        self.members.is_empty() && at_rest && self.behind.is_empty()
    }

    /// Returns the number of members at the last call, and the number now.
    pub fn count_members(&mut self) -> (usize, usize) {
        let members = self.members.len();
        (std::mem::replace(&mut self.members_counted, members), members)
    }

    /// Carries out a connection's request at once, or accepts it to be carried out in order.
    pub fn request(&mut self, home: ShardId, request: ChannelRequest, context: &StepContext, outbox: &mut Outbox) {
        self.look_at(home, request, context, outbox);
        self.go_on(context, outbox);
    }

    /// Accepts a visitor's change (a requester without a session), in the same order as the requests of connections.
    pub fn change(&mut self, visitor: Visitor, query: ChannelQuery, context: &StepContext, outbox: &mut Outbox) {
        let requester = Requester::Visitor(visitor);
        if self.must_wait(outbox) {
            return self.wait(requester, Waiting::ChannelQuery(requester, query));
        }
        self.accept_query(requester, query, context, outbox);
        self.go_on(context, outbox);
    }

    fn look_at(&mut self, home: ShardId, request: ChannelRequest, context: &StepContext, outbox: &mut Outbox) {
        let address = Address { home, connection: request.connection };
        let requester = Requester::Connection(address, request.number);
        match request.action {
            ChannelAction::Leave => self.leave(address, Some(request.number), context),
            ChannelAction::Depart => self.leave(address, None, context),
            ChannelAction::Join { presence, hidden, format } => {
                let member = Member { address, presence, hidden, format, known: false };
                let free = matches!(self.id.kind(), ChannelKind::Room(_)) || self.members.get(address).is_some();
                if free {
                    self.want_head(outbox);
                    self.join(member, request.number, context.now.monotonic);
                } else if self.must_wait(outbox) {
                    let Member { presence, hidden, format, .. } = member;
                    let action = ChannelAction::Join { presence, hidden, format };
                    self.wait(requester, Waiting::ChannelRequest(home, ChannelRequest { action, ..request }));
                } else {
                    self.accept_join(requester, member, context, outbox);
                }
            }
            action => {
                if self.members.get(address).is_none() {
                    self.refuse(requester, not_a_member());
                } else if self.must_wait(outbox) {
                    self.wait(requester, Waiting::ChannelRequest(home, ChannelRequest { action, ..request }));
                } else {
                    self.accept_message(requester, address, action, context, outbox);
                }
            }
        }
    }

    /// Whether a new request has to wait. Asks the store for the end of the history if that is not known.
    fn must_wait(&mut self, outbox: &mut Outbox) -> bool {
        self.want_head(outbox);
        !self.is_open() || !self.waiting.is_empty()
    }

    /// Whether the channel accepts work now.
    fn is_open(&self) -> bool {
        matches!(self.place, Place::Known { .. }) && self.undecided_changes == 0
    }

    fn wait(&mut self, requester: Requester, waiting: Waiting) {
        if self.waiting.len() < CHANNEL_PENDING_MAX {
            self.waiting.push_back(waiting);
        } else {
            self.refuse(requester, busy());
        }
    }

    /// Takes up waiting requests, in order, until the channel is not open any more.
    fn go_on(&mut self, context: &StepContext, outbox: &mut Outbox) {
        while self.is_open()
            && let Some(waiting) = self.waiting.pop_front()
        {
            // This request is the first in the queue, so it does not wait for the requests behind it (no `must_wait`
            // here).
            match waiting {
                Waiting::ChannelQuery(requester, query) => self.accept_query(requester, query, context, outbox),
                Waiting::ChannelRequest(home, ChannelRequest { connection, number, action }) => {
                    let address = Address { home, connection };
                    let requester = Requester::Connection(address, number);
                    match action {
                        ChannelAction::Join { presence, hidden, format } => {
                            let member = Member { address, presence, hidden, format, known: false };
                            self.accept_join(requester, member, context, outbox);
                        }
                        action => self.accept_message(requester, address, action, context, outbox),
                    }
                }
            }
        }
    }

    /// Puts work at the end of the queue, and asks the store for the decision on it.
    fn put(&mut self, requester: Requester, act: Act, bytes: usize, request: StoreRequest, outbox: &mut Outbox) {
        let place = self.pending.push(Work { requester, act }, bytes);
        self.ask_store(Purpose::Decision(place), request, outbox);
    }

    fn ask_store(&self, purpose: Purpose, request: StoreRequest, outbox: &mut Outbox) {
        outbox.store(Asker::Channel(self.id.clone(), purpose), request);
    }

    fn join(&mut self, mut member: Member, number: u32, now: Monotonic) {
        let requester = member.address;
        let (channel, me) = (self.id.clone(), member.presence.clone());
        if let Some(known) = self.members.get(requester) {
            let own = (!known.hidden).then(|| known.presence.clone());
            let PresenceList { presences, count } = self.presence_changes.list(&self.members);
            let others = presences.iter().filter(|presence| presence.session != me.session).cloned();
            let reply = Reply::Joined { channel, presences: others.chain(own).collect(), count, me };
            return self.announcements.answer_here(&self.members, requester, number, reply);
        }
        let returns = self.presence_changes.returns(&member);
        if returns == Return::TellFirst {
            self.announce_presence(now);
        }
        let PresenceList { mut presences, count } = self.presence_changes.list(&self.members);
        if presences.iter().any(|presence| presence.session == me.session) {
            presences = presences.iter().filter(|presence| presence.session != me.session).cloned().collect();
        }
        self.announcements.joined(&self.members, requester, number, Reply::Joined { channel, presences, count, me });
        if returns == Return::NeverLeft {
            member.known = true;
        } else if !member.hidden {
            self.presence_changes.arrive(requester);
        }
        self.members.insert(member);
    }

    fn leave(&mut self, requester: Address, number: Option<u32>, context: &StepContext) {
        if self.members.get(requester).is_some() {
            self.announcements.seal(&self.members);
            if let Some(member) = self.take_out(requester) {
                self.presence_changes.depart(member);
            }
        }
        if let Some(number) = number {
            self.announcements.left(requester, number);
        }
        // This may have been the last member on a shard that held the channel's messages back.
        self.let_go(context);
    }

    /// Removes a member from the table. The caller has called `seal`, so the member still gets all that was announced
    /// before.
    fn take_out(&mut self, address: Address) -> Option<Member> {
        let member = self.members.remove(address)?;
        if !self.members.homes().any(|home| home == address.home) {
            self.held_by.retain(|held| *held != address.home);
        }
        Some(member)
    }

    fn announce_presence(&mut self, now: Monotonic) {
        if let Some(PresenceNews { joins, leaves, count }) =
            self.presence_changes.tell(&mut self.members, self.room_max, now)
        {
            self.departures.note(&leaves);
            let event = Event::Presence { channel: self.id.clone(), joins, leaves, count };
            self.announcements.announce(&event, &self.members);
        }
    }

    fn want_head(&mut self, outbox: &mut Outbox) {
        if matches!(self.place, Place::Unknown) {
            self.place = Place::Asked;
            let request = StoreRequest::Head { channel: self.id.clone() };
            self.ask_store(Purpose::Head, request, outbox);
        }
    }

    /// Takes in the store's answer where the history ends.
    pub fn head(&mut self, receipt: Decision, context: &StepContext, outbox: &mut Outbox) {
        self.place = Place::Unknown;
        match receipt {
            Ok(StoreReceipt::Head(head)) => {
                self.announcements.last = head.map_or(Sequence::default(), |head| head.sequence);
                self.place = Place::Known {
                    ids: MessageIds::after(head.map(|head| head.id)),
                    next: Sequence(head.map_or(0, |head| head.sequence.0) + 1),
                    newest: head.and_then(|head| latest_time(head.id)).unwrap_or_default(),
                };
                self.go_on(context, outbox);
            }
            _ => {
                let failure = StoreFailure::nothing_done("the channel's head could not be read");
                for waiting in std::mem::take(&mut self.waiting) {
                    let requester = match waiting {
                        Waiting::ChannelRequest(home, ChannelRequest { connection, number, .. }) => {
                            Requester::Connection(Address { home, connection }, number)
                        }
                        Waiting::ChannelQuery(requester, _) => requester,
                    };
                    self.refuse(requester, not_stored(&failure));
                }
            }
        }
    }

    /// Returns the newest messages if they are in memory. If not, asks the store for them, to keep them as version
    /// `unused`.
    pub fn newest(&mut self, limit: usize, unused: Version, outbox: &mut Outbox) -> ChannelAnswer {
        match self.recent.newest(limit) {
            Some((messages, version)) => ChannelAnswer::Newest { messages, version },
            None => {
                if self.recent.begin(unused) {
                    let request = StoreRequest::Newest { channel: self.id.clone(), limit: RECENT_MAX };
                    self.ask_store(Purpose::Newest(unused), request, outbox);
                }
                ChannelAnswer::AskTheStore
            }
        }
    }

    /// Takes in the newest messages that the store has read.
    pub fn read(&mut self, version: Version, receipt: Decision) {
        let newest = match receipt {
            Ok(StoreReceipt::Newest(messages)) => Some(messages),
            _ => None,
        };
        self.recent.loaded(version, newest);
    }

    /// Takes in the store's decision on an entry, and releases all entries at the head of the queue that are decided.
    pub fn decided(&mut self, place: PendingPlace, decision: Decision, context: &StepContext, outbox: &mut Outbox) {
        self.pending.decide(place, decision);
        self.let_go(context);
        self.go_on(context, outbox);
    }

    fn let_go(&mut self, context: &StepContext) {
        while self.held_by.is_empty()
            && let Some((work, decision)) = self.pending.release()
        {
            self.release(work, decision, context);
        }
    }

    /// A shard's backlog of this channel's log is too large: messages wait from here on.
    pub fn hold(&mut self, shard: ShardId) {
        if !self.held_by.contains(&shard) && self.members.homes().any(|home| home == shard) {
            self.held_by.push(shard);
        }
    }

    /// The shard's backlog is low again: messages no longer wait for it.
    pub fn release_hold(&mut self, shard: ShardId, context: &StepContext, outbox: &mut Outbox) {
        self.held_by.retain(|held| *held != shard);
        self.let_go(context);
        self.go_on(context, outbox);
    }

    fn release(&mut self, work: Work, decision: Decision, context: &StepContext) {
        let Work { requester, act } = work;
        if decision.as_ref().is_err_and(|failure| failure.outcome_unknown) {
            self.recent.doubt();
        }
        match act {
            Act::Send(_) | Act::Change | Act::Live(_) => {
                self.release_message(requester, act, decision, context.now.monotonic);
            }
            Act::Join(member) => self.release_join(requester, member, decision, context.now.monotonic),
            Act::ChangeMembers { removes } => {
                self.undecided_changes -= usize::from(removes);
                self.release_change(requester, decision);
            }
            Act::Block(block) => {
                self.undecided_changes -= 1;
                self.release_block(requester, block, &decision);
            }
            Act::Purge(ids) => self.release_purge(requester, &ids, decision),
        }
    }

    fn refuse(&mut self, requester: Requester, rejection: Rejection) {
        match requester {
            Requester::Connection(address, number) => {
                self.announcements.answer(address, number, Reply::Refused(rejection));
            }
            Requester::Visitor(visitor) => self.afterwards.answer(visitor, ChannelAnswer::Failed),
        }
    }

    /// When this channel will have a presence event to announce, even if nothing else happens until then.
    pub fn due(&self) -> Option<Monotonic> {
        self.presence_changes.due(&self.members)
    }

    /// Ends the turn: returns its announcements as one batch for each shard that has something to receive.
    /// `number` is the last batch number that the owner gave out.
    pub fn batches(&mut self, epoch: Epoch, now: Monotonic, number: &mut BatchNumber) -> Vec<(ShardId, Batch)> {
        self.announce_presence(now);
        self.departures.end_turn(*number);
        self.announcements.batches(&self.id, epoch, &self.members, number)
    }

    /// Returns up to `limit` visible members with sessions after `after`, in order of their sessions, and the total
    /// number of visible members.
    pub fn presence_page(&self, after: Option<SessionId>, limit: usize) -> (Vec<Presence>, usize) {
        let members = self.members.visible_after(after).take(limit);
        (members.map(|member| member.presence.clone()).collect(), self.members.visible_count())
    }
}

fn not_a_member() -> Rejection {
    Rejection::bad_input("not a member of this channel: join it first")
}

fn busy() -> Rejection {
    Rejection::unavailable("this channel has too much under way: nothing was done, try again")
}

fn not_stored(failure: &StoreFailure) -> Rejection {
    if failure.outcome_unknown {
        return Rejection::outcome_unknown(
            "the outcome is unknown: the store failed while it wrote, and history may show this request as done",
        );
    }
    Rejection::unavailable("the message could not be stored: try again")
}
