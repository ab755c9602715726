//! A shard as the home of its connections: it puts their requests to the owners of channels, in order, and sends them
//! what the owners announce.
//!
//! It makes two promises. Answers are given in the order of the requests. And an answer follows every frame that was
//! announced before it: a sender gets its own message before the acknowledgement, and a joining member gets the answer
//! before the first event.

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::num::NonZeroU32;

use crate::budget::Work;
use crate::command::{Command, RateLimit, Rejection, RejectionContext, Reply};
use crate::counters::{HomeCounters, MALFORMED, SessionEnd, refusal_of};
use crate::fair_queue::{FairQueue, Turns};
use crate::fanout::frames::{self, ListedFrame};
use crate::fanout::log::Position;
use crate::fanout::subscribers::{AudienceKey, PassReport, Subscribers};
use crate::gate::Guest;
use crate::id::{ChannelId, ChannelKind, ConnectionId, Monotonic, UserId};
use crate::limits::{ClientLimits, DEPARTURES_TURN_MAX, ENDS_TURN_MAX, NOTICES_WAITING_MAX, Rules, SUBSCRIPTIONS_MAX};
use crate::outbox::{Outbox, SocketEffect};
use crate::parcel::{ChannelAction, ChannelRequest};
use crate::persist::{StoreFailure, StoreReceipt};
use crate::process_rates::ProcessRate;
use crate::session::admission::{Admitted, OpeningRefusal, Session, admit};
use crate::session::connection::{Connection, FrameBytes, JoinTerms, OpenRequest, Private, RequestKind, Subscription};
use crate::session::connections::Connections;
use crate::session::costs::{LISTED_ELSEWHERE, OPENING, PING, REFUSAL, listed};
use crate::session::held_bytes::HeldBytes;
use crate::session::home::catching_up::{CatchUps, depart};
use crate::session::home::draining::Drain;
use crate::session::home::news::Push;
use crate::session::sessions_by_user::SessionsByUser;
use crate::session::shared_budgets::{Payer, Purse, SharedBudgets};
use crate::session::status::Statuses;
use crate::session::untold::Untold;
use crate::social::notification::Notification;

mod catching_up;
mod draining;
mod inspecting;
mod moving;
mod news;
mod receiving;
mod spending;
mod writing;

/// When a connection is closed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum CloseMode {
    /// After all its requests are answered.
    AfterAnswers,
    /// Now.
    AtOnce,
}

/// Whether a session is visible to the followers of its user from the start.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Visibility {
    Online,
    Unseen,
}

/// A request to follow that waits for the store.
struct Lookup {
    /// The request's number among its connection's.
    number: u32,
    /// Users who have blocked the follower since the store was asked. The store's answer may not know of these blocks.
    blocked_by: Vec<UserId>,
}

/// Notifications that wait, each with its user. Users take turns.
type NoticeQueue = FairQueue<Turns<UserId, VecDeque<(UserId, Vec<Notification>)>>>;

/// The connections of a shard, and the audiences they form.
pub struct Home {
    rules: Rules,
    connections: Connections,
    /// How many connections there are.
    open: usize,
    /// The drain, once one has begun.
    drain: Option<Drain>,
    sessions_by_user: SessionsByUser,
    statuses: Statuses,
    /// Changes of statuses that the sessions here have not been told.
    untold: Untold,
    pub subscribers: Subscribers,
    dirty: Vec<u32>,
    report: PassReport,
    /// Requests to follow that wait for the store: one a connection at most.
    lookups: HashMap<ConnectionId, Lookup>,
    /// What the store has answered to them in this turn.
    found: Vec<(ConnectionId, Result<StoreReceipt, StoreFailure>)>,
    /// Channels of which a batch is missing.
    catch_ups: CatchUps,
    /// Owners that were asked to say when everything for this home has left them, so far.
    flushes: u64,
    /// Whether channels may get other owners, so that it must be known what readers were told of each other.
    keeps_told: bool,
    /// Memberships of connections that are gone or close: their channels' owners are not told yet.
    departures: VecDeque<(ConnectionId, ChannelId)>,
    /// Connections that are to be closed, each once: their readers are too slow, their accounts are gone, or more have
    /// ended in a turn than may. They are not read any more. The close frame of each waits as its farewell.
    ending: VecDeque<ConnectionId>,
    /// Connections that are owed more than one turn writes, in the order in which they are written to.
    deferred: VecDeque<ConnectionId>,
    /// The bytes of answers and news that wait for full sockets, by user.
    held_bytes: HeldBytes,
    /// Slots of connections that left a channel while their sockets were full. They may still be owed bytes of that
    /// channel's log, a *tail*, which keeps this part of the log in memory.
    with_tails: BTreeSet<u32>,
    /// The slot of `with_tails` that `judge_tail` looked at last. The next turn looks at the next one.
    judged_tail: Option<u32>,
    /// Connections and memberships that have ended in this turn: at once, and of those that had to wait.
    ended: usize,
    ended_later: usize,
    /// Notifications that wait to be pushed, each with its user. Users take turns.
    notices: NoticeQueue,
    /// Notifications that some of their user's sessions have been told of.
    notice_push: Option<Push>,
    /// An event about statuses that some of the connections have been told of.
    status_push: Option<Push>,
    /// Connections with a held request that waits for a turn, because the last turns had worked enough.
    held_back: VecDeque<ConnectionId>,
    /// The work that the requests of this turn were charged with.
    worked: Work,
    pub shared_budgets: SharedBudgets,
    /// Connections that are read later because of their budgets, and until when. The first ends its rest first, because
    /// all rests are equally long. There is one for each connection that is open, or was within that time.
    resting: VecDeque<(Monotonic, ConnectionId)>,
    pub counters: HomeCounters,
    /// The monotonic clock's reading of this turn.
    pub monotonic: Monotonic,
}

impl Home {
    /// A home without connections.
    pub fn new(rules: Rules) -> Self {
        Self {
            rules,
            connections: Connections::default(),
            open: 0,
            drain: None,
            sessions_by_user: SessionsByUser::default(),
            statuses: Statuses::default(),
            untold: Untold::default(),
            subscribers: Subscribers::default(),
            dirty: Vec::new(),
            report: PassReport::default(),
            lookups: HashMap::new(),
            found: Vec::new(),
            catch_ups: CatchUps::default(),
            flushes: 0,
            keeps_told: false,
            departures: VecDeque::new(),
            ending: VecDeque::new(),
            deferred: VecDeque::new(),
            with_tails: BTreeSet::new(),
            held_bytes: HeldBytes::new(rules.outboxes_bytes_max()),
            judged_tail: None,
            ended: 0,
            ended_later: 0,
            notices: FairQueue::new(NOTICES_WAITING_MAX),
            notice_push: None,
            status_push: None,
            held_back: VecDeque::new(),
            worked: Work::default(),
            shared_budgets: SharedBudgets::new(&rules),
            resting: VecDeque::new(),
            counters: HomeCounters::default(),
            monotonic: Monotonic::default(),
        }
    }

    /// Puts these limits in force. What clients were let in to have before stays theirs.
    pub fn set_limits(&mut self, limits: ClientLimits) {
        self.rules = self.rules.with(limits);
        self.shared_budgets.set_work(limits.work_per_user, limits.work_per_address);
    }

    /// Channels may get other owners from here on.
    pub fn keep_told(&mut self) {
        self.keeps_told = true;
    }

    /// Whether the user may open one more session here. The opening is charged to the user, and so is its refusal. The
    /// network pays before the gateway reads the opening.
    pub fn admits(&self, user: UserId) -> Result<(), OpeningRefusal> {
        let payer = Payer { user: Some(user), network: None };
        let open = self.sessions_by_user.count(user);
        if self.rules.sessions_per_user_max.is_some_and(|most| open >= most.get()) {
            self.shared_budgets.charge(payer, Purse::Requests, OPENING);
            return Err(OpeningRefusal::TooManySessions);
        }
        let afforded = self.shared_budgets.afford(payer, Purse::Requests, OPENING, OPENING);
        afforded.map_err(|(_, retry_after)| OpeningRefusal::OverBudget { retry_after })
    }

    /// Takes in a connection that has signed in. If it is visible, its own status is the first frame that it receives.
    pub fn open(&mut self, id: ConnectionId, session: Session, visibility: Visibility, outbox: &mut Outbox) {
        debug_assert!(self.drain.is_none(), "no session opens during a drain");
        self.counters.sessions_opened += 1;
        self.open += 1;
        self.sessions_by_user.enter(session.user, id.slot);
        self.connections.insert(id.slot, Connection::of(id.generation, session));
        if visibility == Visibility::Online {
            self.show_opening(id, outbox);
        }
    }

    /// Takes in a request of a connection.
    pub fn request(&mut self, id: ConnectionId, cid: String, command: Command, outbox: &mut Outbox) {
        let Some(connection) = self.connections.get_mut(id) else { return };
        if connection.closing {
            return;
        }
        if let Err(rejection) = self.afford(id, &command) {
            return self.answer_refused(id, cid, rejection, outbox);
        }
        let Some(connection) = self.connections.get_mut(id) else { return };
        // A leave waits until all earlier requests are answered, so that the client gets the acknowledgements of its
        // messages first. A join or a follow waits for the same, because its answer must not wait behind other answers:
        // events would overtake it. While the store decides an exclusive request, every later request waits.
        let traffic = connection.traffic();
        let first = matches!(command, Command::Join(_) | Command::Leave { .. } | Command::StatusFollow { .. });
        let waits = traffic.exclusive || first;
        if waits && traffic.is_unanswered() {
            traffic.held = Some((cid, command));
            return;
        }
        self.consider(id, cid, command, outbox);
    }

    /// Checks a command. Puts an admitted request to the channel's owner, or answers it here.
    fn consider(&mut self, id: ConnectionId, cid: String, command: Command, outbox: &mut Outbox) {
        let (most, now) = (self.rules.sends_per_second, self.monotonic);
        let Some(connection) = self.connections.get_mut(id) else { return };
        let judged = admit(command, &connection.session).and_then(|admitted| match &admitted {
            Admitted::ChannelRequest(channel, ChannelAction::Join { .. }) => {
                let audience = self.subscribers.audience(channel, connection.session.format);
                let is_member = audience.is_some_and(|key| connection.subscription(key).is_some());
                if is_member {
                    return Ok(admitted);
                }
                let memberships = self.sessions_by_user.memberships(connection.session.user);
                let may_join = self.rules.memberships_per_user_max.is_none_or(|most| memberships < most.get());
                has_room(connection, may_join)?;
                let let_in = self.shared_budgets.let_in(ProcessRate::Joins, Guest::User(connection.session.user));
                let_in.map_err(|(limit, retry_after)| Rejection::too_fast(limit, retry_after))?;
                Ok(admitted)
            }
            _ => Ok(admitted),
        });
        let admitted = match judged.and_then(|admitted| pace(connection, admitted, most, now)) {
            Ok(Admitted::Nothing) => return,
            admitted => admitted,
        };
        let traffic = connection.traffic();
        let number = traffic.ask(cid);
        match admitted {
            Ok(Admitted::ChannelRequest(channel, action)) => {
                let is_room = matches!(channel.kind(), ChannelKind::Room(_));
                traffic.exclusive |= matches!(action, ChannelAction::Join { .. }) && !is_room;
                let kind = RequestKind::of(&action);
                let terms = JoinTerms::of(&action);
                traffic.wait_for_owner(OpenRequest { channel: channel.clone(), kind, terms });
                if kind == RequestKind::Join {
                    let listed = listed(self.subscribers.count(&channel), self.rules.room_members_max);
                    self.charge(id, listed);
                    self.count_work(listed.times(LISTED_ELSEWHERE));
                }
                self.send_request(channel, ChannelRequest { connection: id, number, action }, outbox);
            }
            Ok(Admitted::Follow { ids, usernames }) => self.follow(id, number, ids, usernames, outbox),
            Ok(Admitted::Unfollow(users)) => {
                self.unfollow(id, &users);
                self.answer(id, number, &Reply::Done, None, outbox);
            }
            Ok(Admitted::Show(status)) => {
                self.show(id, status, Some(number), outbox);
            }
            Ok(Admitted::Pong | Admitted::Nothing) => self.answer(id, number, &Reply::Pong, None, outbox),
            Err(rejection) => self.answer(id, number, &Reply::Refused(rejection), None, outbox),
        }
    }

    /// Answers a request that could not be read as a command.
    pub fn refuse(&mut self, id: ConnectionId, cid: String, rejection: Rejection, outbox: &mut Outbox) {
        self.counters.requests[MALFORMED] += 1;
        self.charge_request(id, REFUSAL);
        self.answer_refused(id, cid, rejection, outbox);
    }

    fn answer_refused(&mut self, id: ConnectionId, cid: String, rejection: Rejection, outbox: &mut Outbox) {
        let Some(connection) = self.connections.get_mut(id) else { return };
        let number = connection.traffic().ask(cid);
        self.answer(id, number, &Reply::Refused(rejection), None, outbox);
    }

    /// Sends a frame to one connection that is not part of the order of answers, such as a ping.
    pub fn tell(&mut self, id: ConnectionId, frame: Vec<u8>) {
        let Some(connection) = self.connections.get_mut(id) else { return };
        if !connection.closing {
            connection.traffic().say(Private::of(frame));
            self.mark(id.slot);
        }
    }

    /// Answers a ping of WebSocket with this frame. If many of a connection's pongs are not written, only its newest ping
    /// is answered.
    pub fn pong(&mut self, id: ConnectionId, frame: Vec<u8>) {
        self.charge_request(id, PING);
        let Some(connection) = self.connections.get_mut(id) else { return };
        if !connection.closing {
            connection.traffic().say_pong(frame);
            self.mark(id.slot);
        }
    }

    /// Closes a connection from the server's side: the frame is the last that the client receives.
    pub fn close(
        &mut self,
        id: ConnectionId,
        frame: Vec<u8>,
        close_mode: CloseMode,
        end: SessionEnd,
        outbox: &mut Outbox,
    ) {
        let Some(connection) = self.connections.get_mut(id) else { return };
        if connection.closing {
            return;
        }
        connection.end_because(end);
        let traffic = connection.traffic();
        let waits = close_mode == CloseMode::AfterAnswers && (traffic.is_unanswered() || traffic.held.is_some());
        if !waits && !self.has_ended_enough() {
            return self.end(id, frame, outbox);
        }
        let Some(connection) = self.connections.get_mut(id) else { return };
        connection.traffic().farewell.get_or_insert(frame);
        if !waits {
            self.end_later(id);
        }
    }

    /// Ends a connection whose close frame waits as its farewell, when its turn comes.
    fn end_later(&mut self, id: ConnectionId) {
        let Some(connection) = self.connections.get_mut(id) else { return };
        if !std::mem::replace(&mut connection.ending, true) {
            self.ending.push_back(id);
        }
    }

    /// Ends a connection: the frame is the last that the client receives.
    fn end(&mut self, id: ConnectionId, frame: Vec<u8>, outbox: &mut Outbox) {
        let Some(connection) = self.connections.get_mut(id) else { return };
        connection.closing = true;
        self.leave_all(id, outbox);
        let Some(connection) = self.connections.get_mut(id) else { return };
        let traffic = connection.traffic();
        traffic.forget_requests();
        traffic.say(Private::of(frame));
        outbox.socket(SocketEffect::Closing(id));
        self.mark(id.slot);
    }

    /// Whether a connection waits for answers, or has private frames that are not written.
    pub fn owes(&self, id: ConnectionId) -> bool {
        let connection = self.connections.get(id).filter(|connection| !connection.closing);
        let traffic = connection.and_then(|connection| connection.traffic.as_ref());
        traffic.is_some_and(|traffic| traffic.is_unanswered() || traffic.held.is_some() || !traffic.outbox.is_empty())
    }

    /// Takes in that the connection is gone.
    pub fn closed(&mut self, id: ConnectionId, outbox: &mut Outbox) {
        self.leave_all(id, outbox);
        if let Some(connection) = self.connections.get_mut(id)
            && let Some(traffic) = &mut connection.traffic
        {
            let before = std::mem::take(&mut traffic.accounted);
            self.held_bytes.change(connection.session.user, before, 0);
        }
        if let Some(connection) = self.connections.remove(id) {
            self.open -= 1;
            self.counters.ended[connection.end as usize] += 1;
            if let Some(drain) = &mut self.drain {
                drain.ended(id.slot);
            }
            self.sessions_by_user.leave(connection.session.user, id.slot);
        }
    }

    /// Ends all memberships of a connection, its visible status and whom it follows. Of the logs it was still owed,
    /// only the rest of a half-written frame is kept. The owners are told in this turn and the next ones.
    fn leave_all(&mut self, id: ConnectionId, outbox: &mut Outbox) {
        self.show(id, None, None, outbox);
        let Some(connection) = self.connections.get_mut(id) else { return };
        self.statuses.unfollow_all(id.slot);
        let interrupted = connection.traffic.as_mut().and_then(|traffic| traffic.interrupted.take());
        let subscriptions = std::mem::take(&mut connection.subscriptions);
        self.ended += 1 + subscriptions.len();
        self.sessions_by_user.end_memberships(connection.session.user, subscriptions.len());
        // The answer to a join may be lost, and then nothing else would tell the owner.
        for (_, request) in connection.traffic.iter().flat_map(|traffic| traffic.open_requests()) {
            if request.kind == RequestKind::Join {
                self.departures.push_back((id, request.channel.clone()));
            }
        }
        for Subscription { key, index, .. } in &subscriptions {
            if interrupted == Some(*key) {
                let cursor = self.subscribers.cursor(*key, *index);
                let rest = self.subscribers.bytes(*key, cursor, self.subscribers.border(*key, cursor)).to_vec();
                connection.traffic().say_first(Private::of(rest));
            }
        }
        if let Some(traffic) = &mut connection.traffic {
            traffic.outbox.iter_mut().for_each(|private| private.after = None);
        }
        for subscription in subscriptions {
            let channel = self.subscribers.channel_of(subscription.key).clone();
            self.departures.push_back((id, channel));
            // Removing this connection from other audiences cannot have moved its index in this one: each connection
            // stands once in an audience, and a removal changes indexes only in its own audience.
            self.take_out(subscription);
        }
    }

    fn take_out(&mut self, Subscription { key, index, .. }: Subscription) {
        for (slot, index) in self.subscribers.unsubscribe(key, index).into_iter().flatten() {
            let moved = self.connections.in_slot(slot).expect("a member has a connection");
            for subscription in moved.subscriptions.iter_mut().filter(|subscription| subscription.key == key) {
                subscription.index = index;
            }
        }
    }

    /// Ends one membership. The member is still owed the log up to now, and takes it with it. A member that is too far
    /// behind for that is moved on, or closed when its turn comes.
    fn unsubscribe(&mut self, id: ConnectionId, channel: &ChannelId) {
        let Some(connection) = self.connections.get_mut(id) else { return };
        let Some(key) = self.subscribers.audience(channel, connection.session.format) else { return };
        let Some(subscription) = connection.subscription(key) else { return };
        let end = self.subscribers.end(key);
        let allowed = self.subscribers.lag_allowed(&self.rules);
        if connection.parked && end.0 - self.subscribers.cursor(key, subscription.index).0 > allowed {
            self.report.lagging.push((id.slot, key));
            self.let_laggards_go();
        }
        let Some(connection) = self.connections.get_mut(id) else { return };
        let mut cursor = self.subscribers.cursor(key, subscription.index);
        let traffic = connection.traffic();
        if traffic.interrupted.take_if(|of| *of == key).is_some() {
            let border = self.subscribers.border(key, cursor);
            traffic.say_first(Private::of(self.subscribers.bytes(key, cursor, border).to_vec()));
            cursor = border;
        }
        if !connection.is_mute() {
            self.subscribers.hand_over(key, cursor);
            let traffic = connection.traffic();
            traffic.detach(key, &mut cursor, |from, to| self.subscribers.tail(key, from, to));
            traffic.say_tail(self.subscribers.tail(key, cursor, end));
            if connection.parked && cursor < end {
                self.with_tails.insert(id.slot);
            }
        }
        connection.subscriptions.retain(|subscription| subscription.key != key);
        self.sessions_by_user.end_memberships(connection.session.user, 1);
        self.take_out(subscription);
        self.mark(id.slot);
    }

    /// The place of a connection's next answer about a channel: after the whole log of its audience as of now.
    fn place(&mut self, id: ConnectionId, channel: &ChannelId) -> Option<(AudienceKey, Position)> {
        let format = self.connections.get_mut(id)?.session.format;
        let key = self.subscribers.audience(channel, format)?;
        self.connections.get_mut(id)?.subscription(key)?;
        Some((key, self.subscribers.end(key)))
    }

    /// Answers a request of a connection.
    fn answer(
        &mut self,
        id: ConnectionId,
        number: u32,
        reply: &Reply,
        after: Option<(AudienceKey, Position)>,
        outbox: &mut Outbox,
    ) {
        if let Reply::Refused(rejection) = reply {
            self.counters.refused[refusal_of(rejection)] += 1;
            if let Some(RejectionContext::TooFast { limit, .. }) = rejection.context {
                self.counters.too_fast[limit.place()] += 1;
                outbox.socket(SocketEffect::TooFast(id, limit));
            }
        }
        let Some(connection) = self.connections.get_mut(id) else { return };
        let format = connection.session.format;
        let traffic = connection.traffic();
        let Some(cid) = traffic.cid(number) else { return };
        let bytes = match ListedFrame::of(format, cid, reply) {
            Some(listed) => FrameBytes::from(listed),
            None => frames::reply(format, cid, reply).into(),
        };
        self.charge_answer(id, bytes.len());
        self.answer_with(id, number, Private { after, ..Private::of(bytes) }, outbox);
    }

    /// Answers a request with a frame that is encoded already.
    fn answer_with(&mut self, id: ConnectionId, number: u32, frame: Private, outbox: &mut Outbox) {
        let Some(connection) = self.connections.get_mut(id) else { return };
        connection.traffic().answer(number, frame);
        self.mark(id.slot);
        self.go_on(id, outbox);
    }

    /// If all requests of a connection are answered, does what waited for that: the held request, or the close. One commit
    /// of the store can answer very many connections. If the turn has worked enough, the held request waits for the next.
    fn go_on(&mut self, id: ConnectionId, outbox: &mut Outbox) {
        let has_worked_enough = self.has_worked_enough();
        let Some(connection) = self.connections.get_mut(id) else { return };
        let traffic = connection.traffic();
        if traffic.is_unanswered() {
            return;
        }
        traffic.exclusive = false;
        if traffic.held.is_some() && has_worked_enough {
            self.held_back.push_back(id);
        } else if let Some((cid, command)) = traffic.held.take() {
            self.consider(id, cid, command, outbox);
        } else if traffic.farewell.is_some() {
            self.end_later(id);
        }
    }

    /// Takes up held requests that had to wait for this turn: worth half of what it may work, so that sockets are read as
    /// well.
    fn take_up_held_back(&mut self, outbox: &mut Outbox) {
        while !self.has_worked_half()
            && let Some(id) = self.held_back.pop_front()
        {
            self.go_on(id, outbox);
        }
    }

    fn mark(&mut self, slot: u32) {
        let Some(connection) = self.connections.in_slot(slot) else { return };
        if connection.is_mute() && !connection.closing {
            connection.traffic().forget_unsaid();
            return;
        }
        if !connection.dirty && !connection.parked {
            connection.dirty = true;
            self.dirty.push(slot);
        }
    }

    /// Whether a pass is under way, or frames wait to be written.
    pub fn is_busy(&self) -> bool {
        let waits = !self.departures.is_empty() || !self.ending.is_empty() || self.has_rested() || self.has_news();
        self.subscribers.is_busy()
            || !self.dirty.is_empty()
            || !self.deferred.is_empty()
            || !self.held_back.is_empty()
            || self.drain_is_behind()
            || waits
    }

    /// The memory that answers and news hold while they wait for full sockets.
    pub fn unread_bytes(&self) -> u64 {
        self.held_bytes.bytes()
    }

    /// Whether as many connections and memberships have ended in this turn as may. Those that end for a reason that can
    /// wait must wait for the next turn.
    pub fn has_ended_enough(&self) -> bool {
        self.ended >= ENDS_TURN_MAX
    }

    /// Ends connections that wait for it: as many as may end in a turn, beside those whose clients have ended them.
    pub fn end_waiting(&mut self, outbox: &mut Outbox) {
        while self.ended_later < ENDS_TURN_MAX
            && let Some(id) = self.ending.pop_front()
        {
            let traffic = self.connections.get_mut(id).and_then(|connection| connection.traffic.as_mut());
            if let Some(frame) = traffic.and_then(|traffic| traffic.farewell.take()) {
                let before = self.ended;
                self.end(id, frame, outbox);
                self.ended_later += std::mem::replace(&mut self.ended, before) - before;
            }
        }
    }

    /// Tells the owners of channels that members have departed: as many as one turn may cost. Must be called once a turn.
    pub fn tell_departures(&mut self, outbox: &mut Outbox) {
        for (channel, state) in self.subscribers.take_turned_backlogs() {
            outbox.backlog(channel, state);
        }
        let turn = self.departures.len().min(DEPARTURES_TURN_MAX);
        for (connection, channel) in self.departures.drain(..turn) {
            depart(connection, &channel, outbox);
        }
        if self.departures.is_empty() {
            self.departures = VecDeque::new();
        }
    }

    /// Asserts what the tables of connections and of subscribers promise. Looks at every member.
    pub fn invariants(&self) {
        self.subscribers.invariants();
        self.held_bytes.invariants();
        self.shared_budgets.invariants();
        for (id, connection) in self.connections.iter() {
            connection.invariants(id.slot, &self.subscribers);
        }
    }
}

/// Whether a connection may join one more channel, and its user may.
fn has_room(connection: &Connection, may_join: bool) -> Result<(), Rejection> {
    if connection.subscriptions.len() >= SUBSCRIPTIONS_MAX {
        return Err(Rejection::bad_input(format!("leave a channel first: {SUBSCRIPTIONS_MAX} are the most")));
    }
    if !may_join {
        return Err(Rejection::bad_input("leave a channel first: the sessions of one user may not be in more"));
    }
    Ok(())
}

/// Counts a send, and refuses it beyond `most` sends a second.
fn pace(
    connection: &mut Connection,
    admitted: Admitted,
    most: Option<NonZeroU32>,
    now: Monotonic,
) -> Result<Admitted, Rejection> {
    if let (Admitted::ChannelRequest(_, ChannelAction::Message(_)), Some(most)) = (&admitted, most) {
        let refused = |retry_after| Rejection::too_fast(RateLimit::SendsPerSecond, retry_after);
        connection.send(most, now).map_err(refused)?;
    }
    Ok(admitted)
}
