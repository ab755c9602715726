//! A channel at its owner: who is in it, who may write, and what comes next.
//!
//! Everything is judged here at once and in one order; what must be kept is shown only when the store has it. Contents are
//! opaque. The channel speaks by `Announcements`, which the shard sends on at the end of the turn, and by answers and
//! notices beside them.
//!
//! Rooms let everybody in. Into a group's or a direct channel people come by the store's word, and what takes their place
//! away again (a kick, a block) is decided by the store, too. Such a change stands in the same queue as messages and
//! joins, and nothing that is asked behind it is looked at before it is decided: nobody sends or joins past a kick.

use std::collections::VecDeque;

use crate::channel::announcements::Announcements;
use crate::channel::members::{Address, Member, Members};
use crate::channel::pending::{Pending, PendingPlace};
use crate::channel::presence::{PresenceChanges, PresenceList, PresenceNews, Return};
use crate::channel::recent::Recent;
use crate::command::{Event, Rejection, Reply};
use crate::id::{ChannelId, ChannelKind, Epoch, Monotonic, Now, Sequence, SessionId, ShardId, Timestamp};
use crate::limits::CHANNEL_PENDING_MAX;
use crate::message::{Message, Presence};
use crate::message_id::{MessageIds, latest_time};
use crate::parcel::{Batch, Block, ChannelAction, ChannelAnswer, ChannelQuery, ChannelRequest, Version};
use crate::persist::{StoreFailure, StoreReceipt, StoreRequest};
use crate::social::notification::Notice;

mod announcements;
mod members;
mod membership;
mod messages;
pub mod owner;
mod pending;
mod presence;
mod recent;

/// What the world lends a channel for one step.
pub struct StepContext {
    pub now: Now,
    pub random: u32,
}

/// What a channel wants of the store.
pub enum Wanted {
    /// Its own newest place.
    Head,
    /// Its newest messages, for this version.
    Newest(Version),
    /// A decision on an entry of its queue.
    Decision(PendingPlace, StoreRequest),
}

/// What a channel does to the world in one step.
pub type Wants = Vec<Wanted>;

/// What the store has decided about an entry of the queue.
pub type Decision = Result<StoreReceipt, StoreFailure>;

/// A channel.
pub struct Channel {
    id: ChannelId,
    members: Members,
    /// Memberships that the owner has counted.
    members_counted: usize,
    presence_changes: PresenceChanges,
    recent: Recent,
    /// Visible members beyond which this is a crowd.
    room_max: usize,
    place: Place,
    pending: Pending<Work, Decision>,
    /// What was asked while the place was unknown, or while a change of members was undecided; in order.
    waiting: VecDeque<Waiting>,
    /// Changes in the queue that may take somebody's place away.
    undecided_changes: usize,
    /// Shards that cannot bring round as fast as we announce: while there are any, messages wait.
    held_by: Vec<ShardId>,
    pub announcements: Announcements,
    /// Answers to those without a session, by shard and number.
    pub answers: Vec<(ShardId, u64, ChannelAnswer)>,
    /// To be pushed to the sessions of their users.
    pub notices: Vec<Notice>,
    /// Blocks that the store has decided, with who asked for them: a shard and a number.
    pub blocks: Vec<(ShardId, u64, Block)>,
}

/// Whether the channel knows where its history ends; without that it cannot give out ids.
enum Place {
    Unknown,
    /// The store has been asked.
    Asked,
    Known {
        ids: MessageIds,
        next: Sequence,
        /// The newest time that was given. Times never fall, so that their order is the order of ids: where the history was
        /// written by a server whose clock was ahead, the channel's time stands still until the clock is there.
        newest: Timestamp,
    },
}

/// Something that waits to be looked at.
enum Waiting {
    ChannelRequest(ShardId, ChannelRequest),
    ChannelQuery(Requester, ChannelQuery),
}

/// Who hears what became of a piece of work.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Requester {
    /// A connection, and the number of its request.
    Connection(Address, u32),
    /// Somebody without a session, on a shard, under a number.
    Visitor(ShardId, u64),
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
    /// A change by a presence that is not persistent, as it will be announced if no message is stored under its id.
    Live(Message),
    /// Somebody comes in, if the store lets them.
    Join(Member),
    /// A change of a group's members. `removes`: what is asked behind it waits.
    ChangeMembers {
        removes: bool,
    },
    /// A block between the two of a direct channel; what is asked behind it waits.
    Block(Block),
    Purge(Vec<crate::id::MessageId>),
}

impl Channel {
    pub fn new(id: ChannelId, room_max: usize) -> Self {
        Self {
            id,
            members: Members::default(),
            members_counted: 0,
            presence_changes: PresenceChanges::default(),
            recent: Recent::default(),
            room_max,
            place: Place::Unknown,
            pending: Pending::default(),
            waiting: VecDeque::new(),
            undecided_changes: 0,
            held_by: Vec::new(),
            announcements: Announcements::default(),
            answers: Vec::new(),
            notices: Vec::new(),
            blocks: Vec::new(),
        }
    }

    /// Whether nothing would be lost by forgetting this channel.
    pub fn is_idle(&self) -> bool {
        let at_rest = self.pending.is_empty() && self.waiting.is_empty() && !matches!(self.place, Place::Asked);
        self.members.is_empty() && at_rest
    }

    /// How many memberships there were when this was last asked, and how many there are.
    pub fn count_members(&mut self) -> (usize, usize) {
        let members = self.members.len();
        (std::mem::replace(&mut self.members_counted, members), members)
    }

    /// Does what a connection asks, or accepts it to be done in order.
    pub fn request(&mut self, home: ShardId, request: ChannelRequest, context: &StepContext, wants: &mut Wants) {
        self.look_at(home, request, context, wants);
        self.go_on(context, wants);
    }

    /// Does what somebody without a session asks to be changed, in the same order.
    pub fn change(
        &mut self,
        from: ShardId,
        number: u64,
        query: ChannelQuery,
        context: &StepContext,
        wants: &mut Wants,
    ) {
        let requester = Requester::Visitor(from, number);
        if self.must_wait(wants) {
            return self.wait(requester, Waiting::ChannelQuery(requester, query));
        }
        self.accept_query(requester, query, context, wants);
        self.go_on(context, wants);
    }

    fn look_at(&mut self, home: ShardId, request: ChannelRequest, context: &StepContext, wants: &mut Wants) {
        let address = Address { home, connection: request.connection };
        let requester = Requester::Connection(address, request.number);
        match request.action {
            ChannelAction::Leave => self.leave(address, Some(request.number), context),
            ChannelAction::Depart => self.leave(address, None, context),
            ChannelAction::Join { presence, hidden, format } => {
                let member = Member { address, presence, hidden, format, known: false };
                let free = matches!(self.id.kind(), ChannelKind::Room(_)) || self.members.get(address).is_some();
                if free {
                    self.want_head(wants);
                    self.join(member, request.number, context.now.monotonic);
                } else if self.must_wait(wants) {
                    let Member { presence, hidden, format, .. } = member;
                    let action = ChannelAction::Join { presence, hidden, format };
                    self.wait(requester, Waiting::ChannelRequest(home, ChannelRequest { action, ..request }));
                } else {
                    self.accept_join(requester, member, context, wants);
                }
            }
            action => {
                if self.members.get(address).is_none() {
                    self.refuse(requester, not_a_member());
                } else if self.must_wait(wants) {
                    self.wait(requester, Waiting::ChannelRequest(home, ChannelRequest { action, ..request }));
                } else {
                    self.accept_message(requester, address, action, context, wants);
                }
            }
        }
    }

    /// Whether what is asked now has to wait; if it is for the end of the history, that is asked for.
    fn must_wait(&mut self, wants: &mut Wants) -> bool {
        self.want_head(wants);
        !self.is_open() || !self.waiting.is_empty()
    }

    /// Whether work is accepted.
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

    /// Looks at what has waited, as far as it need not wait any more.
    fn go_on(&mut self, context: &StepContext, wants: &mut Wants) {
        while self.is_open()
            && let Some(waiting) = self.waiting.pop_front()
        {
            // It is the first in line, and the line behind it does not count.
            match waiting {
                Waiting::ChannelQuery(requester, query) => self.accept_query(requester, query, context, wants),
                Waiting::ChannelRequest(home, ChannelRequest { connection, number, action }) => {
                    let address = Address { home, connection };
                    let requester = Requester::Connection(address, number);
                    match action {
                        ChannelAction::Join { presence, hidden, format } => {
                            let member = Member { address, presence, hidden, format, known: false };
                            self.accept_join(requester, member, context, wants);
                        }
                        action => self.accept_message(requester, address, action, context, wants),
                    }
                }
            }
        }
    }

    /// Gives work its place in the queue, and asks the store what it needs to decide.
    fn put(&mut self, requester: Requester, act: Act, bytes: usize, request: StoreRequest, wants: &mut Wants) {
        let place = self.pending.push(Work { requester, act }, bytes);
        wants.push(Wanted::Decision(place, request));
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
        // It may have been the last on a shard that held us back.
        self.let_go(context);
    }

    /// Takes a member out of the table. The caller has sealed what it was still to hear.
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
            let event = Event::Presence { channel: self.id.clone(), joins, leaves, count };
            self.announcements.announce(&event, &self.members);
        }
    }

    fn want_head(&mut self, wants: &mut Wants) {
        if matches!(self.place, Place::Unknown) {
            self.place = Place::Asked;
            wants.push(Wanted::Head);
        }
    }

    /// The store has said where the history ends.
    pub fn head(&mut self, receipt: Decision, context: &StepContext, wants: &mut Wants) {
        self.place = Place::Unknown;
        match receipt {
            Ok(StoreReceipt::Head(head)) => {
                self.place = Place::Known {
                    ids: MessageIds::after(head.map(|head| head.id)),
                    next: Sequence(head.map_or(0, |head| head.sequence.0) + 1),
                    newest: head.and_then(|head| latest_time(head.id)).unwrap_or_default(),
                };
                self.go_on(context, wants);
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

    /// The newest messages, if they are in memory; if not, they will be soon, as `unused`.
    pub fn newest(&mut self, limit: usize, unused: Version, wants: &mut Wants) -> ChannelAnswer {
        match self.recent.newest(limit) {
            Some((messages, version)) => ChannelAnswer::Newest { messages, version },
            None => {
                if self.recent.begin(unused) {
                    wants.push(Wanted::Newest(unused));
                }
                ChannelAnswer::AskTheStore
            }
        }
    }

    /// The store has read the newest messages.
    pub fn read(&mut self, version: Version, receipt: Decision) {
        let newest = match receipt {
            Ok(StoreReceipt::Newest(messages)) => Some(messages),
            _ => None,
        };
        self.recent.loaded(version, newest);
    }

    /// The store has decided an entry: let go all whose turn has come.
    pub fn decided(&mut self, place: PendingPlace, decision: Decision, context: &StepContext, wants: &mut Wants) {
        self.pending.decide(place, decision);
        self.let_go(context);
        self.go_on(context, wants);
    }

    fn let_go(&mut self, context: &StepContext) {
        while self.held_by.is_empty()
            && let Some((work, decision)) = self.pending.release()
        {
            self.release(work, decision, context);
        }
    }

    /// A shard has more of this channel's log to bring round than it should: publishers wait from here on.
    pub fn hold(&mut self, shard: ShardId) {
        if !self.held_by.contains(&shard) && self.members.homes().any(|home| home == shard) {
            self.held_by.push(shard);
        }
    }

    /// The shard has caught up.
    pub fn release_hold(&mut self, shard: ShardId, context: &StepContext, wants: &mut Wants) {
        self.held_by.retain(|held| *held != shard);
        self.let_go(context);
        self.go_on(context, wants);
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
            Requester::Visitor(from, number) => self.answers.push((from, number, ChannelAnswer::Failed)),
        }
    }

    /// When this channel will have something to tell although nothing happens.
    pub fn due(&self) -> Option<Monotonic> {
        self.presence_changes.due(&self.members)
    }

    /// What the turn's announcements come to, for each shard that is concerned.
    pub fn batches(&mut self, epoch: Epoch, now: Monotonic) -> Vec<(ShardId, Batch)> {
        self.announce_presence(now);
        self.announcements.batches(&self.id, epoch, &self.members)
    }

    /// The visible members behind a session, in order of their sessions, and how many there are in all.
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
