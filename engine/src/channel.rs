//! A channel at its owner: its members, who may write, and which message comes next.
//!
//! The owner judges all requests of a channel in one order. A change that must be stored is shown only after the store
//! has confirmed it. Contents are opaque. The channel produces `Announcements`, which the shard sends at the end of the
//! turn, and beside them answers and notices.
//!
//! Any user may join a room. A join to a group's or a direct channel needs the store's decision. The store also decides
//! the changes that remove members (a kick, a block). Such a change stands in the same queue as messages and joins, and
//! no request is looked at between its place there and its decision: no user sends or joins after a kick that the channel
//! has accepted. What comes meanwhile waits, and so do further changes, behind it (`waiting.rs`).

use crate::channel::announcements::Announcements;
use crate::channel::catching_up::Behind;
use crate::channel::departures::Departures;
use crate::channel::ending::Ending;
use crate::channel::entering::Entering;
use crate::channel::members::{Address, Member, Members};
use crate::channel::numbering::Numbering;
use crate::channel::owner::Given;
use crate::channel::pending::{Pending, PendingPlace};
use crate::channel::presence::{PresenceChanges, PresenceList, PresenceNews, Return, Telling};
use crate::channel::rankings::Shown;
use crate::channel::recent::Recent;
use crate::channel::requests_to_chat::{DirectRequest, RequestsToChat};
use crate::channel::waiting::Waiting;
use crate::command::{Event, Rejection, RejectionCode, Reply};
use crate::id::{
    ChannelId, ChannelKind, Epoch, GroupId, MessageId, Monotonic, Now, Sequence, SessionId, ShardId, UserId,
};
use crate::limits::RECENT_MAX;
use crate::message::{Message, Presence};
use crate::outbox::{Asker, Outbox, Purpose};
use crate::parcel::{Batch, BatchNumber, ChannelAction, ChannelRequest, MessageAction};
use crate::persist::{ChannelHead, StoreFailure, StoreQuestion, StoreReceipt, StoreRequest};
use crate::query::{Block, ChannelChange, NewestMessages, PresencePage, QueryAnswer, Undone, Version, Visitor};

mod announcements;
mod catching_up;
mod departures;
mod ending;
mod entering;
pub(crate) mod members;
mod membership;
mod messages;
mod numbering;
pub mod owner;
pub(crate) mod pending;
mod presence;
pub mod rankings;
mod recent;
mod requests_to_chat;
mod waiting;

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
    /// Under which epoch its owner orders it.
    epoch: Epoch,
    members: Members,
    /// Whether its owner knows that it may have something to announce.
    touched: bool,
    /// The number of members when the owner last called `count_members`.
    members_counted: usize,
    recent_counted: usize,
    /// What it has shown, as operators are told.
    pub shown: Shown,
    presence_changes: PresenceChanges,
    requests_to_chat: RequestsToChat,
    departures: Departures,
    recent: Recent,
    /// With more visible members than this, the channel is a crowd.
    room_max: usize,
    history: History,
    /// The last place that the owner before this one has given out, if it has left that behind.
    given: Option<ChannelHead>,
    pending: Pending<Work, Decision>,
    /// Work that came while the end of the history was unknown, or while a change that may remove members was undecided.
    waiting: Waiting,
    /// Undecided changes in the queue that may remove members.
    undecided_changes: usize,
    /// Members whose presences end because of a change that is shown already. While there are any, requests and decided
    /// work wait.
    ending: Ending,
    /// Shards whose passes are behind what this channel announces. While there are any, messages wait.
    held_by: Vec<ShardId>,
    /// Homes that have missed a batch and are not answered yet: each of them once.
    behind: Vec<Behind>,
    /// Members whose homes hand them over, because the owner before was another one.
    entering: Entering,
    pub announcements: Announcements,
    /// What is told after the turn's announcements: answers to visitors, notices, blocks.
    pub afterwards: Outbox,
}

/// Whether the channel knows where its history ends. It cannot give out message ids before it does.
enum History {
    Unknown,
    /// The store has been asked.
    Asked,
    Known(Numbering),
}

impl History {
    /// The numbers of new messages; `None` while the end of the history is not known.
    fn numbering(&mut self) -> Option<&mut Numbering> {
        match self {
            Self::Known(numbering) => Some(numbering),
            Self::Unknown | Self::Asked => None,
        }
    }
}

/// Work that a member or a visitor has submitted. It is accepted or refused in the order in which it came.
enum Submitted {
    Message(Requester, MessageAction),
    Join { gate: Gate, member: Member, number: u32 },
    Change(Visitor, ChannelChange),
}

impl Submitted {
    /// The connection that submitted this; `None` if a visitor did.
    fn requester(&self) -> Option<Requester> {
        match self {
            Self::Message(requester, _) => Some(*requester),
            Self::Join { member, number, .. } => Some(Requester { address: member.address, number: *number }),
            Self::Change(..) => None,
        }
    }
}

/// A connection, and the number of its request.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Requester {
    address: Address,
    number: u32,
}

/// A channel that a user may join only if the store admits the user.
#[derive(Clone, Copy)]
enum Gate {
    Group(GroupId),
    Direct(UserId, UserId),
}

/// Accepted work, in the order in which it will be shown.
enum Work {
    Message(Requester, MessageWork),
    /// A user joins if the store admits the user.
    Join {
        member: Member,
        number: u32,
        request: DirectRequest,
    },
    /// A join of this user, whose connection has departed since.
    AbandonedJoin(UserId, DirectRequest),
    /// A change of a group's members. `removes`: it may remove members, so requests after it wait.
    ChangeGroup {
        visitor: Visitor,
        actor: UserId,
        removes: bool,
    },
    /// A block between the two users of a direct channel. Requests after it wait.
    Block(Visitor, Block),
    Purge(Visitor, Vec<MessageId>),
}

impl Work {
    /// Whether requests after this wait until it is decided.
    fn may_remove_members(&self) -> bool {
        matches!(self, Self::ChangeGroup { removes: true, .. } | Self::Block(..))
    }

    /// The connection that asked for this; `None` if a visitor did.
    fn requester(&self) -> Option<Requester> {
        match self {
            Self::Message(requester, _) => Some(*requester),
            Self::Join { member, number, .. } => Some(Requester { address: member.address, number: *number }),
            Self::AbandonedJoin(..) | Self::ChangeGroup { .. } | Self::Block(..) | Self::Purge(..) => None,
        }
    }
}

enum MessageWork {
    Send(Message),
    /// A change of a stored message.
    Change,
    /// An update or a removal by a presence that is not persistent. If no message is stored under its id, this message
    /// is announced.
    Live(Message),
}

impl Channel {
    /// A channel without members, whose last message is not known yet: its first request makes it ask the store. A room
    /// with more than `room_max` members becomes a crowd (docs/protocol.md, section 2.11). `requests_to_chat` are those that
    /// a direct channel knew when it was dropped.
    /// `keeps_events`: members may have their homes on other nodes.
    pub fn new(
        id: ChannelId,
        epoch: Epoch,
        room_max: usize,
        keeps_events: bool,
        requests_to_chat: RequestsToChat,
    ) -> Self {
        Self {
            id,
            epoch,
            members: Members::default(),
            touched: false,
            members_counted: 0,
            recent_counted: 0,
            shown: Shown::default(),
            presence_changes: PresenceChanges::default(),
            requests_to_chat,
            departures: Departures::default(),
            recent: Recent::default(),
            room_max,
            history: History::Unknown,
            given: None,
            pending: Pending::default(),
            waiting: Waiting::default(),
            undecided_changes: 0,
            ending: Ending::default(),
            held_by: Vec::new(),
            behind: Vec::new(),
            entering: Entering::default(),
            announcements: Announcements::new(keeps_events),
            afterwards: Outbox::default(),
        }
    }

    /// Whether this channel can be dropped without losing anything.
    pub fn is_idle(&self) -> bool {
        let at_rest = self.pending.is_empty() && self.waiting.is_empty() && !matches!(self.history, History::Asked);
        self.members.is_empty() && at_rest && self.behind.is_empty() && self.entering.is_over()
    }

    /// Returns the number of members at the last call, and the number now.
    pub fn count_members(&mut self) -> (usize, usize) {
        let members = self.members.len();
        (std::mem::replace(&mut self.members_counted, members), members)
    }

    /// The number of members when the owner last called `count_members`.
    pub fn members_counted(&self) -> usize {
        self.members_counted
    }

    /// Returns the bytes of newest messages in memory at the last call, and the bytes now.
    pub fn count_recent(&mut self) -> (usize, usize) {
        let bytes = self.recent.bytes();
        (std::mem::replace(&mut self.recent_counted, bytes), bytes)
    }

    /// Stands in for a reading of the newest messages.
    #[cfg(test)]
    fn keep_recent(&mut self, version: Version, newest: Vec<Message>) {
        assert!(self.recent.begin(version));
        self.recent.loaded(version, Some(newest));
    }

    /// Whether newest messages are in memory.
    pub fn keeps_recent(&self) -> bool {
        self.recent.bytes() > 0
    }

    /// Forgets the newest messages, unless a reader has asked for them since the last call. Returns whether it forgets.
    pub fn forget_recent(&mut self) -> bool {
        let forgets = !self.recent.take_asked();
        if forgets {
            self.recent.doubt();
        }
        forgets
    }

    /// Notes that the channel may have something to announce. Returns whether that was not noted yet.
    pub fn touch(&mut self) -> bool {
        !std::mem::replace(&mut self.touched, true)
    }

    /// Notes that the channel announces what it has.
    pub fn untouch(&mut self) {
        self.touched = false;
    }

    /// Carries out a connection's request at once, or accepts it to be carried out in order.
    pub fn request(&mut self, home: ShardId, request: ChannelRequest, context: &StepContext, outbox: &mut Outbox) {
        let ChannelRequest { connection, number, action } = request;
        let requester = Requester { address: Address { home, connection }, number };
        self.look_at(requester, action, context, outbox);
        self.go_on(context, outbox);
    }

    /// Accepts a visitor's change, in the same order as the requests of connections.
    pub fn change(&mut self, visitor: Visitor, change: ChannelChange, context: &StepContext, outbox: &mut Outbox) {
        if self.has_too_many_changes_like(&change) {
            return self.afterwards.answer(visitor, change.undone(Undone::NothingDone));
        }
        self.submit(Submitted::Change(visitor, change), context, outbox);
        self.go_on(context, outbox);
    }

    fn look_at(&mut self, requester: Requester, action: ChannelAction, context: &StepContext, outbox: &mut Outbox) {
        let Requester { address, number } = requester;
        match action {
            ChannelAction::Leave => self.leave(address, Some(number), context),
            ChannelAction::Depart => {
                self.abandon_joins(address);
                self.end_entry(address);
                self.leave(address, None, context);
            }
            ChannelAction::Join { presence, hidden, format } => {
                let member = Member { address, presence, hidden, format, known: false };
                match self.gate() {
                    Some(gate) if self.members.get(address).is_none() || !self.ending.is_empty() => {
                        self.submit(Submitted::Join { gate, member, number }, context, outbox);
                    }
                    _ => {
                        self.want_head(outbox);
                        self.join(member, number, context.now.monotonic);
                    }
                }
            }
            ChannelAction::Message(_) if self.members.get(address).is_none() => {
                self.refuse(requester, not_a_member());
            }
            ChannelAction::Message(action) => self.submit(Submitted::Message(requester, action), context, outbox),
        }
    }

    /// The gate of this channel; `None`: any user may join.
    fn gate(&self) -> Option<Gate> {
        match self.id.kind() {
            ChannelKind::Room(_) => None,
            ChannelKind::Group(group) => Some(Gate::Group(group)),
            ChannelKind::Direct(one, other) => Some(Gate::Direct(one, other)),
        }
    }

    /// Accepts work, or lets it wait. Asks the store for the end of the history if that is not known.
    fn submit(&mut self, submitted: Submitted, context: &StepContext, outbox: &mut Outbox) {
        self.want_head(outbox);
        if self.is_open() && self.waiting.is_empty() {
            return self.accept(submitted, context, outbox);
        }
        let user = match &submitted {
            Submitted::Message(requester, _) => self.members.get(requester.address).map(|member| member.presence.user),
            Submitted::Join { member, .. } => Some(member.presence.user),
            Submitted::Change(..) => None,
        };
        let put = match user {
            Some(user) => self.waiting.put(user, submitted),
            None => self.waiting.put_change(submitted),
        };
        if let Err(submitted) = put {
            self.turn_away(submitted, busy());
        }
    }

    /// Whether the channel accepts work now.
    fn is_open(&self) -> bool {
        let may_go_on = self.undecided_changes == 0 && self.ending.is_empty() && self.has_its_homes();
        matches!(self.history, History::Known(_)) && may_go_on
    }

    /// Takes up waiting work until the channel is not open any more.
    fn go_on(&mut self, context: &StepContext, outbox: &mut Outbox) {
        while self.is_open()
            && let Some(submitted) = self.waiting.take()
        {
            self.accept(submitted, context, outbox);
        }
    }

    fn accept(&mut self, submitted: Submitted, context: &StepContext, outbox: &mut Outbox) {
        match submitted {
            Submitted::Message(requester, action) => self.accept_message(requester, action, context, outbox),
            Submitted::Join { gate, member, number } => self.accept_join(gate, member, number, context, outbox),
            Submitted::Change(visitor, change) => self.accept_change(visitor, change, context, outbox),
        }
    }

    /// Refuses work before it has a place in the queue.
    fn turn_away(&mut self, submitted: Submitted, rejection: Rejection) {
        match submitted {
            Submitted::Message(requester, _) => self.refuse(requester, rejection),
            Submitted::Join { member, number, .. } => {
                self.refuse(Requester { address: member.address, number }, rejection);
            }
            Submitted::Change(visitor, change) => {
                self.afterwards.answer(visitor, change.undone(Undone::NothingDone));
            }
        }
    }

    /// Puts work without content at the end of the queue, and asks the store for the decision on it. `user` has asked for it,
    /// unless the server has.
    fn put(&mut self, work: Work, user: Option<UserId>, request: impl Into<StoreRequest>, outbox: &mut Outbox) {
        let place = self.pending.push(work, 0, None);
        self.ask_store(Purpose::Decision(place, user), request, outbox);
    }

    fn ask_store(&self, purpose: Purpose, request: impl Into<StoreRequest>, outbox: &mut Outbox) {
        outbox.store(Asker::Channel(self.id.clone(), self.epoch, purpose), request);
    }

    fn join(&mut self, mut member: Member, number: u32, now: Monotonic) {
        let requester = member.address;
        let (channel, me) = (self.id.clone(), member.presence.clone());
        if let Some(known) = self.members.get(requester) {
            let own = (!known.hidden).then(|| known.presence.clone());
            let PresenceList { mut presences, count } = self.presence_changes.list(&self.members);
            // Most often the list has the member as it is.
            if own.as_ref().is_none_or(|own| !presences.contains(own)) {
                let others = presences.iter().filter(|presence| presence.session != me.session).cloned();
                presences = others.chain(own).collect();
            }
            let reply = Reply::Joined { channel, presences, count, me };
            return self.announcements.answer_here(&self.members, requester, number, reply);
        }
        let returns = self.presence_changes.returns(&member, now);
        if returns == Return::TellFirst {
            self.announce_presence(Telling::Now, now);
        }
        let PresenceList { mut presences, count } = self.presence_changes.list(&self.members);
        if presences.iter().any(|presence| presence.session == me.session) {
            presences = presences.iter().filter(|presence| presence.session != me.session).cloned().collect();
        }
        self.announcements.joined(&self.members, requester, number, Reply::Joined { channel, presences, count, me });
        if returns == Return::NeverLeft {
            member.known = true;
            self.presence_changes.has_returned();
            if count.is_none() {
                // No event tells the others of this join.
                self.tell_own_join(requester, member.presence.clone());
            }
        } else if !member.hidden {
            self.presence_changes.arrive(requester);
        }
        self.members.insert(member);
    }

    /// Tells a member of a room of its own join, before the others are told or because they never will be.
    fn tell_own_join(&mut self, address: Address, presence: Presence) {
        let event =
            Event::Presence { channel: self.id.clone(), joins: vec![presence], leaves: Vec::new(), count: None };
        self.announcements.tell(address, event);
    }

    fn leave(&mut self, requester: Address, number: Option<u32>, context: &StepContext) {
        if let Some(member) = self.take_out(requester) {
            self.presence_changes.depart(member);
        }
        if let Some(number) = number {
            self.announcements.left(requester, number);
        }
        // This may have been the last member on a shard that held the channel's messages back.
        self.let_go(context);
    }

    /// Removes a member from the table, if it is there. First ends the run, so that the member still gets all that was
    /// announced before.
    fn take_out(&mut self, address: Address) -> Option<Member> {
        self.members.get(address)?;
        self.announcements.seal(&self.members);
        let member = self.members.remove(address)?;
        if !self.members.homes().any(|home| home == address.home) {
            self.held_by.retain(|held| *held != address.home);
        }
        Some(member)
    }

    fn announce_presence(&mut self, telling: Telling, now: Monotonic) {
        if let Some(PresenceNews { joins, leaves, count }) =
            self.presence_changes.tell(&mut self.members, self.room_max, telling, now)
        {
            self.departures.note(&leaves);
            let event = Event::Presence { channel: self.id.clone(), joins, leaves, count };
            self.announcements.announce(&event, &self.members);
        }
    }

    fn want_head(&mut self, outbox: &mut Outbox) {
        if matches!(self.history, History::Unknown) {
            self.history = History::Asked;
            let question = StoreQuestion::Head { channel: self.id.clone() };
            self.ask_store(Purpose::Head, question, outbox);
        }
    }

    /// Takes in the store's answer where the history ends.
    pub fn head(&mut self, receipt: Decision, context: &StepContext, outbox: &mut Outbox) {
        let failure = match receipt {
            Ok(StoreReceipt::Head(head)) => {
                self.announcements.last = head.map_or(Sequence::default(), |head| head.sequence);
                self.announcements.stored = head.map(|head| head.id);
                self.history = History::Known(Numbering::after(head, self.given));
                return self.go_on(context, outbox);
            }
            Ok(_) => StoreFailure::nothing_done("the channel's head could not be read"),
            // A read leaves nothing in doubt.
            Err(failure) => StoreFailure { outcome_unknown: false, ..failure },
        };
        self.history = History::Unknown;
        self.history_is_unknown(context.now.monotonic);
        let mut waiting = std::mem::take(&mut self.waiting);
        while let Some(submitted) = waiting.take() {
            self.turn_away(submitted, not_stored(&failure));
        }
    }

    /// Returns the newest messages if they are in memory. If not, asks the store for them, to keep them as version
    /// `unused`.
    pub fn newest(&mut self, limit: usize, unused: Version, outbox: &mut Outbox) -> Option<NewestMessages> {
        let newest = self.recent.newest(limit).map(|(messages, version)| NewestMessages { messages, version });
        if newest.is_none() && self.recent.begin(unused) {
            let question = StoreQuestion::Newest { channel: self.id.clone(), limit: RECENT_MAX };
            self.ask_store(Purpose::Newest(unused), question, outbox);
        }
        newest
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
            && self.ending.is_empty()
            && let Some((work, decision)) = self.pending.release()
        {
            self.release(work, decision, context);
        }
    }

    /// Refuses everything that is under way, because another shard orders the channel from here on.
    pub fn give_up(&mut self) {
        for work in self.pending.take_all() {
            match work {
                Work::Message(requester, _) => self.refuse(requester, moved_away()),
                Work::Join { member, number, .. } => {
                    self.refuse(Requester { address: member.address, number }, moving());
                }
                Work::AbandonedJoin(..) => {}
                Work::ChangeGroup { visitor, .. } => {
                    self.afterwards.answer(visitor, QueryAnswer::GroupChanged(Err(Undone::OutcomeUnknown)));
                }
                Work::Block(visitor, _) => {
                    self.afterwards.answer(visitor, QueryAnswer::Blocked(Err(Undone::OutcomeUnknown)));
                }
                Work::Purge(visitor, _) => {
                    self.afterwards.answer(visitor, QueryAnswer::Purged(Err(Undone::OutcomeUnknown)));
                }
            }
        }
        let mut waiting = std::mem::take(&mut self.waiting);
        while let Some(submitted) = waiting.take() {
            self.turn_away(submitted, moving());
        }
    }

    /// Takes over what the owner before this one has left behind. Messages wait for the homes of its members until then.
    pub fn inherit(&mut self, given: Given, until: Monotonic) {
        self.given = given.last;
        self.wait_for_homes(given.homes, until);
    }

    /// What the next owner must know, if this one gives the channel up.
    pub fn given(&self) -> Given {
        let last = match &self.history {
            History::Known(numbering) => numbering.last().filter(|last| Some(last.id) != self.announcements.stored),
            History::Unknown | History::Asked => self.given,
        };
        Given { last, homes: self.members.homes().chain(self.awaited_homes()).collect() }
    }

    /// Whether anything is under way that must end before another shard orders the channel.
    pub fn is_at_work(&self) -> bool {
        let rests = self.pending.is_empty() && self.waiting.is_empty() && self.ending.is_empty();
        !rests || !self.announcements.are_sent()
    }

    /// Whether presences end, some in each turn.
    pub fn is_ending_presences(&self) -> bool {
        !self.ending.is_empty()
    }

    /// Ends up to `max` of the presences that end, and goes on if none is left. Returns how many it has looked at.
    pub fn go_on_ending(&mut self, max: usize, context: &StepContext, outbox: &mut Outbox) -> usize {
        self.stop_waiting_for_homes(context.now.monotonic);
        self.ask_again(context.now.monotonic, outbox);
        let ended = self.end_presences(max);
        self.let_go(context);
        self.go_on(context, outbox);
        ended
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
        if decision.as_ref().is_err_and(|failure| failure.outcome_unknown) {
            self.recent.doubt();
        }
        let now = context.now.monotonic;
        match work {
            Work::Message(requester, work) => self.release_message(requester, work, decision, now),
            Work::Join { member, number, request } => {
                self.note_request(member.presence.user, request, &decision, now);
                self.release_join(member, number, decision, now);
            }
            Work::AbandonedJoin(user, request) => {
                self.note_request(user, request, &decision, now);
                self.release_abandoned_join(decision);
            }
            Work::ChangeGroup { visitor, removes, .. } => {
                self.undecided_changes -= usize::from(removes);
                self.release_group_change(visitor, decision);
            }
            Work::Block(visitor, block) => {
                self.undecided_changes -= 1;
                self.release_block(visitor, block, decision);
            }
            Work::Purge(visitor, ids) => self.release_purge(visitor, &ids, decision),
        }
    }

    /// Refuses a request because the shard has too many channels to begin another one.
    pub fn refuse_to_begin(&mut self, home: ShardId, request: &ChannelRequest) {
        const REASON: &str = "the server has as many channels as it can hold, try again later";
        let requester = Requester { address: Address { home, connection: request.connection }, number: request.number };
        self.refuse(requester, Rejection::new(RejectionCode::RuntimeException, REASON));
    }

    fn refuse(&mut self, Requester { address, number }: Requester, rejection: Rejection) {
        self.announcements.answer(address, number, Reply::Refused(rejection));
    }

    /// Asserts what the type promises. Looks at every member and at every entry of the queue.
    pub fn invariants(&self) {
        self.members.invariants();
        self.pending.invariants();
        self.waiting.invariants();
        assert!(self.waiting.is_empty() || !self.is_open(), "a request waits only for a reason");
        let undecided = self.pending.works().filter(|work| work.may_remove_members()).count();
        assert_eq!(self.undecided_changes, undecided, "undecided changes");
        let has_members = |shard: &ShardId| self.members.homes().any(|home| home == *shard);
        assert!(self.held_by.iter().all(has_members), "a shard without members holds nothing back");
    }

    /// Under which epoch the owner orders the channel.
    pub fn epoch(&self) -> Epoch {
        self.epoch
    }

    /// Takes the requests to chat that were sent, because the channel is dropped.
    pub fn take_requests_to_chat(&mut self) -> RequestsToChat {
        std::mem::take(&mut self.requests_to_chat)
    }

    /// When this channel will have a presence event to announce, even if nothing else happens until then.
    pub fn due(&self) -> Option<Monotonic> {
        self.entering.due().or_else(|| self.presence_changes.due(&self.members))
    }

    /// Ends the turn: returns its announcements as one batch for each shard that has something to receive.
    /// `number` is the last batch number that the owner gave out.
    pub fn batches(&mut self, now: Monotonic, number: &mut BatchNumber) -> Vec<(ShardId, Batch)> {
        self.settle(now);
        // What members were told of each other stays true until it is known who is left.
        if !self.entering.is_unsettled() {
            self.announce_presence(Telling::InTurn, now);
        }
        for address in self.presence_changes.take_unaware() {
            if let Some(member) = self.members.get(address).filter(|member| !member.known) {
                self.tell_own_join(address, member.presence.clone());
            }
        }
        self.departures.end_turn(*number);
        self.announcements.batches(&self.id, self.epoch, &self.members, number)
    }

    /// Up to `limit` visible members with sessions after `after`, in order of their sessions.
    pub fn presence_page(&self, after: Option<SessionId>, limit: usize) -> PresencePage {
        if self.ending.is_of_all() {
            return PresencePage::default();
        }
        let presences = self.members.visible_after(after).take(limit).map(|member| member.presence.clone()).collect();
        PresencePage { presences, count: self.members.visible_count() }
    }
}

/// Why a channel that moves to another server refuses what it has not taken up.
pub(crate) fn moving() -> Rejection {
    Rejection::unavailable("this channel moves to another server: nothing was done, try again")
}

/// Why a channel that has moved to another server refuses what it had under way.
fn moved_away() -> Rejection {
    Rejection::outcome_unknown(
        "the outcome is unknown: the channel has moved to another server, and history may show this request as done",
    )
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
    Rejection::unavailable(format!("the message could not be stored: {}", failure.advice()))
}
