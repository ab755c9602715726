//! Simulations of people in groups and direct channels, who are admitted, removed and blocked while they write.
//!
//! The rules are those of the real in-memory store; only the store's slowness is simulated. The store keeps a trace of
//! each channel: its messages, and who belonged to it from which place on. Once the world is quiet, the simulation
//! asserts: no user received a message that the user might not see at that place of the channel; no user missed a
//! message that the user should have seen; no user wrote in a channel without belonging to it; every query was answered
//! once; notifications and statuses reached exactly the users that they are for; and what a user shows after the answer
//! to a block never reached the blocked user.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use engine::chart::Chart;
use engine::command::{Command, Join};
use engine::id::{
    ChannelId, ConnectionId, Epoch, GroupId, MessageId, Monotonic, SessionId, ShardId, Timestamp, UserId,
};
use engine::limits::Rules;
use engine::parcel::Broadcast;
use engine::query::{Block, ChannelQuery, PresenceQuery, QueryAnswer};
use engine::session::admission::{OnLag, Session};
use engine::session::home::Visibility;
use engine::shard::{Effects, Input, Shard};
use engine::social::friend::FriendAct;
use engine::social::group::{GroupAct, GroupChange};

use crate::inbox;
use crate::member::{Ended, Member, Stay};
use crate::registry::{Entry, Registry};
use crate::rings::{Carriage, Rings};
use crate::world::{COMPARE_ONE_TURN_IN, Random, Wire, Wires};

#[derive(Clone, Copy, Debug)]
pub struct Plan {
    pub shards: u16,
    pub users: usize,
    pub sessions: usize,
    pub groups: usize,
    pub turns: usize,
    pub store_fails: bool,
    pub carriage: Carriage,
}

pub struct People {
    plan: Plan,
    random: Random,
    now: Timestamp,
    monotonic: Monotonic,
    shards: Vec<Shard>,
    rings: Rings,
    wires: Vec<Wires>,
    registry: Registry,
    users: Vec<UserId>,
    groups: Vec<GroupId>,
    members: Vec<Member>,
    generation: u32,
    /// Stays of sessions that have ended, with their users.
    past: Vec<(UserId, String, Stay)>,
    /// Channel queries without an answer, by number; and the last number that was used.
    open: HashMap<u64, ChannelId>,
    numbers: u64,
    /// Channel queries that ask for a block, by number: the user, and the user to be blocked.
    blocking: HashMap<u64, (UserId, UserId)>,
    /// Blocks that were confirmed, and not lifted since.
    blocked: BTreeSet<(UserId, UserId)>,
    /// The number of statuses that sessions have asked to show.
    statuses: usize,
    /// The latest answer to a presence query, for each channel.
    present: HashMap<ChannelId, BTreeSet<SessionId>>,
    outcome: Outcome,
}

/// What happened in a simulation.
#[derive(Clone, Copy, Default, Debug)]
pub struct Outcome {
    /// How many changes were made, were refused and failed.
    pub changes: [usize; 3],
    /// Batches that were lost, doubled and delayed.
    pub faults: [u64; 3],
    /// Requests whose outcome was unknown because an answer was lost.
    pub unknown: usize,
}

impl Outcome {
    /// Adds another simulation's outcome.
    pub fn add(&mut self, other: Self) {
        self.changes.iter_mut().zip(other.changes).for_each(|(sum, count)| *sum += count);
        self.faults.iter_mut().zip(other.faults).for_each(|(sum, count)| *sum += count);
        self.unknown += other.unknown;
    }
}

/// Runs a simulation of people.
pub fn run(seed: u64, plan: Plan) -> Outcome {
    let outcome = std::panic::catch_unwind(|| {
        let mut people = People::new(seed, plan);
        for _ in 0..plan.turns {
            people.turn();
        }
        people.quieten();
        people.check_quiet();
        people.outcome()
    });
    outcome.unwrap_or_else(|panic| {
        eprintln!("simulation failed: SEED={seed} repeats it, with {plan:?}");
        std::panic::resume_unwind(panic)
    })
}

impl People {
    fn new(seed: u64, plan: Plan) -> Self {
        let mut random = Random(seed);
        let now = Timestamp(1_700_000_000_000_000_000);
        let users: Vec<UserId> = (0..plan.users).map(|_| UserId(random.uuid())).collect();
        let groups: Vec<GroupId> = (0..plan.groups).map(|_| GroupId(random.uuid())).collect();
        let mut registry = Registry::new(plan.shards.into(), plan.store_fails);
        for (number, &user) in users.iter().enumerate() {
            registry.register(user, &format!("user-{number}"), now);
        }
        for (number, &group) in groups.iter().enumerate() {
            registry.create_group(group, users[0], &format!("group-{number}"), now);
        }
        let shards = (0..plan.shards)
            .map(|id| {
                Shard::new(
                    ShardId::alone(id),
                    Chart::alone(plan.shards, Epoch(1)),
                    Rules::default(),
                    seed ^ (u64::from(id) << 32),
                )
            })
            .collect();
        let mut people = Self {
            plan,
            random,
            now,
            monotonic: Monotonic(0),
            shards,
            rings: Rings::default(),
            wires: (0..plan.shards).map(|_| Wires::default()).collect(),
            registry,
            users,
            groups,
            members: Vec::new(),
            generation: 0,
            past: Vec::new(),
            open: HashMap::new(),
            numbers: 0,
            blocking: HashMap::new(),
            blocked: BTreeSet::new(),
            statuses: 0,
            present: HashMap::new(),
            outcome: Outcome::default(),
        };
        for number in 0..plan.sessions {
            // The first session of each user never ends, and is visible to followers.
            let user = number % plan.users;
            let member = people.connect(user, number < plan.users);
            people.members.push(member);
        }
        people.rings.set_carriage(plan.carriage);
        people
    }

    fn outcome(&self) -> Outcome {
        let unknown = self.members.iter().map(|member| member.unknown).sum::<usize>();
        Outcome { faults: self.rings.faults, unknown: self.outcome.unknown + unknown, ..self.outcome }
    }

    fn connect(&mut self, user: usize, lasting: bool) -> Member {
        self.generation += 1;
        let shard = self.random.below(self.shards.len());
        let connection = ConnectionId { slot: self.generation, generation: self.generation };
        let id = SessionId(self.random.uuid());
        let format = inbox::format_of(self.generation as usize);
        let session = Session {
            user: self.users[user],
            session: id,
            username: format!("user-{user}").into(),
            format,
            on_lag: OnLag::Close,
            network: None,
        };
        self.wires[shard].slots.insert(connection.slot, Wire { room: 64, ..Wire::default() });
        let visibility = if lasting || self.random.one_in(2) { Visibility::Online } else { Visibility::Unseen };
        self.shards[shard].step(Input::Opened { connection, session, visibility }, self.now);
        let mut member = Member::new(shard, connection, self.users[user], id, lasting, format, visibility);
        member.carriage = self.plan.carriage;
        member
    }

    fn turn(&mut self) {
        let step = [0, 50_000, 3_000_000, -2_000_000][self.random.below(4)];
        self.now.0 += step;
        self.begin_turn(step.max(0));
        if self.plan.carriage == Carriage::Lossy && self.random.one_in(COMPARE_ONE_TURN_IN) {
            self.compare();
        }
        for member in 0..self.members.len() {
            if self.random.one_in(3) {
                self.act(member);
            }
        }
        if self.random.one_in(3) {
            self.change();
        }
        self.settle();
    }

    /// Advances the monotonic clock, and begins a turn of each shard.
    fn begin_turn(&mut self, step: i64) {
        self.monotonic.0 += step;
        self.shards.iter_mut().for_each(|shard| shard.begin_turn(self.monotonic));
    }

    fn settle(&mut self) {
        let now = vec![self.now; self.shards.len()];
        self.rings.deliver(&mut self.shards, &now, |_, _| true, &mut self.random);
        for (shard, ticket, outcome) in self.registry.turn(&mut self.random) {
            self.shards[shard].step(Input::Receipt { ticket, outcome }, self.now);
        }
        for shard in 0..self.shards.len() {
            self.turn_shard(shard);
        }
        for member in 0..self.members.len() {
            if self.random.one_in(2) {
                self.read(member);
            }
        }
    }

    fn turn_shard(&mut self, shard: usize) {
        let mut effects = Effects::default();
        self.shards[shard].finish_turn(self.now, &mut effects);
        self.rings.send(shard, effects.parcels.into_iter().map(|(to, parcel)| (to.core.into(), parcel)));
        for (ticket, request) in effects.store {
            self.registry.ask(shard, ticket, request);
        }
        for (number, answer) in effects.answers {
            self.found(number, answer);
        }
        self.shards[shard].flush(&mut self.wires[shard]);
        self.shards[shard].pass(self.monotonic, &mut self.wires[shard]);
        self.shards[shard].invariants();
    }

    fn found(&mut self, number: u64, answer: QueryAnswer) {
        let channel = self.open.remove(&number).expect("each question is answered once");
        if let Some((user, other)) = self.blocking.remove(&number)
            && answer == QueryAnswer::Blocked(Ok(()))
            // The block may have been lifted before it was answered, and another query for it may be under way.
            && self.registry.blocks(user, other)
            && !self.blocking.values().any(|&further| further == (user, other))
        {
            self.blocked.insert((user, other));
        }
        match answer {
            QueryAnswer::GroupChanged(Ok(Ok(()))) | QueryAnswer::Blocked(Ok(())) => self.outcome.changes[0] += 1,
            QueryAnswer::GroupChanged(Ok(Err(_))) => self.outcome.changes[1] += 1,
            QueryAnswer::GroupChanged(Err(_)) | QueryAnswer::Blocked(Err(_)) => self.outcome.changes[2] += 1,
            QueryAnswer::Presence(page) => {
                let sessions = page.presences.iter().map(|presence| presence.session).collect();
                self.present.insert(channel, sessions);
            }
            other => panic!("{other:?} answers no such question"),
        }
    }

    fn query(&mut self, channel: ChannelId, query: impl Into<ChannelQuery>) {
        let query = query.into();
        self.numbers += 1;
        self.open.insert(self.numbers, channel.clone());
        let shard = self.random.below(self.shards.len());
        self.shards[shard].step(Input::ChannelQuery { number: self.numbers, channel, query }, self.now);
    }

    fn read(&mut self, number: usize) {
        let member = &mut self.members[number];
        let Some(wire) = self.wires[member.shard].slots.get_mut(&member.connection.slot) else { return };
        let bytes = std::mem::take(&mut wire.bytes);
        member.read(&bytes, &self.registry);
        wire.room = if self.random.one_in(4) { 1 + self.random.below(100) } else { 10_000 };
        if std::mem::take(&mut wire.full) {
            self.shards[member.shard].writable(member.connection, &mut self.wires[member.shard]);
        }
        if self.members[number].closed {
            self.replace(number);
        }
    }

    fn act(&mut self, number: usize) {
        let group = self.groups[self.random.below(self.groups.len())];
        let peer = self.users[self.random.below(self.users.len())];
        let user = self.members[number].user;
        let in_group = self.random.one_in(2);
        let channel = if in_group { ChannelId::group(group) } else { ChannelId::direct(user, peer) };
        match self.random.below(16) {
            0..=4 => {
                let (kind, target) = if in_group { (3, group.to_string()) } else { (2, peer.to_string()) };
                let join = Join { target, kind, persistence: true, hidden: false };
                self.request(number, "join", &channel, Command::Join(join));
            }
            5 => self.request(number, "leave", &channel, Command::Leave { channel_id: channel.to_string() }),
            6 if !self.members[number].lasting => self.replace(number),
            7 => self.request(
                number,
                "follow",
                &channel,
                Command::StatusFollow { user_ids: vec![peer.to_string()], usernames: Vec::new() },
            ),
            8 => {
                let user_ids = vec![peer.to_string()];
                self.request(number, "unfollow", &channel, Command::StatusUnfollow { user_ids });
            }
            9 => {
                self.statuses += 1;
                let count = self.statuses;
                let status = (!self.random.one_in(3)).then(|| format!("status {} {count}", self.random.below(100)));
                if let Some(status) = &status {
                    let blocked = self.blocked.iter().filter(|(by, _)| *by == user).map(|(_, blocked)| *blocked);
                    self.registry.hide(user, status, blocked.collect());
                }
                self.request(number, "status", &channel, Command::StatusUpdate { status });
            }
            _ => {
                let content = format!("{{\"n\":{}}}", self.random.below(1_000_000));
                let channel_id = channel.to_string();
                self.request(number, "send", &channel, Command::Send { channel_id, content });
            }
        }
    }

    fn request(&mut self, number: usize, what: &'static str, channel: &ChannelId, command: Command) {
        let member = &mut self.members[number];
        let shard = &mut self.shards[member.shard];
        if !shard.accepts(member.connection) {
            return;
        }
        let cid = member.ask(what, channel, &command);
        shard.step(Input::Request { connection: member.connection, cid, command }, self.now);
    }

    /// A user changes a group's members or a relation to another user.
    fn change(&mut self) {
        let (one, other) = (self.random.below(self.users.len()), self.random.below(self.users.len()));
        let (user, other) = (self.users[one], self.users[other]);
        if self.random.one_in(4) {
            return self.change_relation(user, other);
        }
        let group = self.groups[self.random.below(self.groups.len())];
        let others = || vec![other];
        let act = match self.random.below(40) {
            0..=9 => GroupAct::Add(others()),
            10..=15 => GroupAct::Kick(others()),
            16..=18 => GroupAct::Ban(others()),
            19..=21 => GroupAct::Promote(others()),
            22..=24 => GroupAct::Demote(others()),
            25..=32 => GroupAct::Join,
            33..=37 => GroupAct::Leave,
            38 => GroupAct::Depart,
            _ => GroupAct::Delete,
        };
        // Mostly the actor is a user who may do this.
        let actor = match act {
            GroupAct::Join | GroupAct::Leave | GroupAct::Depart => user,
            _ if self.random.one_in(4) => user,
            _ => self.users[0],
        };
        // The first user, the superadmin, always stays: otherwise no later act would be allowed.
        if matches!(act, GroupAct::Leave | GroupAct::Depart) && actor == self.users[0] {
            return;
        }
        let change = GroupChange { group, actor, act };
        self.query(ChannelId::group(group), change);
    }

    fn change_relation(&mut self, user: UserId, other: UserId) {
        if user == other {
            return;
        }
        if self.random.one_in(2) {
            self.query(ChannelId::direct(user, other), Block { user, other });
            self.blocking.insert(self.numbers, (user, other));
            return;
        }
        let act = if self.random.one_in(2) { FriendAct::Add } else { FriendAct::Delete };
        let notices = self.registry.relate(act, user, other, self.now);
        if act == FriendAct::Delete {
            self.blocked.remove(&(user, other));
            self.registry.show(user, other);
        }
        if !notices.is_empty() {
            let shard = self.random.below(self.shards.len());
            self.shards[shard].step(Input::Broadcast(Broadcast::Notices(notices)), self.now);
        }
    }

    /// A session ends, and another one of the same user begins, on any shard.
    fn replace(&mut self, number: usize) {
        let user = self.users.iter().position(|&user| user == self.members[number].user).expect("one of ours");
        let fresh = self.connect(user, false);
        let mut gone = std::mem::replace(&mut self.members[number], fresh);
        self.wires[gone.shard].slots.remove(&gone.connection.slot);
        self.shards[gone.shard].step(Input::Closed { connection: gone.connection }, self.now);
        let user = gone.user;
        self.outcome.unknown += gone.unknown;
        self.past.extend(gone.end().into_iter().map(|(channel, stay)| (user, channel, stay)));
    }

    /// The shards compare with the owners, as a bus between processes makes them do.
    fn compare(&mut self) {
        for shard in &mut self.shards {
            shard.step(Input::CompareWithOwners, self.now);
        }
    }

    fn quieten(&mut self) {
        if self.plan.carriage == Carriage::Lossy {
            self.rings.set_carriage(Carriage::Reliable);
            self.compare();
        }
        self.come_to_rest();
        let channels: Vec<ChannelId> = self.registry.traces.keys().cloned().collect();
        for channel in channels {
            self.query(channel, PresenceQuery { after: None, limit: 1000 });
        }
        self.come_to_rest();
    }

    fn come_to_rest(&mut self) {
        let mut quiet = 0;
        for _ in 0..10_000 {
            self.now.0 += 100_000_000;
            self.begin_turn(100_000_000);
            self.settle();
            let answered = self.members.iter().all(|member| member.asked.is_empty()) && self.open.is_empty();
            let passed = self.rings.are_quiet(&self.shards, &self.wires);
            quiet = if answered && passed && self.registry.is_quiet() { quiet + 1 } else { 0 };
            if quiet == 5 {
                return;
            }
        }
        panic!("users, shards and store do not come to rest");
    }

    fn check_quiet(&mut self) {
        for channel in self.registry.traces.keys() {
            self.registry.check_history(channel);
        }
        self.check_present();
        let mut stays = std::mem::take(&mut self.past);
        for member in &mut self.members {
            let (present, session) = (&self.present, member.session);
            member.end_stays(|channel| present.get(channel).is_some_and(|sessions| sessions.contains(&session)));
            let user = member.user;
            stays.extend(member.past.drain(..).map(|(channel, stay)| (user, channel, stay)));
        }
        assert!(stays.len() > 20, "{} stays are too few to prove anything", stays.len());
        for (user, channel, stay) in &stays {
            self.check_stay(*user, channel, stay);
        }
        self.check_news();
    }

    /// The owner's list of a channel has no session that is gone or does not know that it is a member.
    fn check_present(&self) {
        for (channel, sessions) in &self.present {
            for session in sessions {
                let member = self.members.iter().find(|member| member.session == *session);
                assert!(member.is_some_and(|member| member.is_in(channel)), "{session} is a ghost in {channel}");
            }
        }
    }

    fn check_stay(&self, user: UserId, channel: &str, stay: &Stay) {
        let channel = ChannelId::parse(channel).expect("channels have ids");
        let Some(trace) = self.registry.traces.get(&channel) else {
            assert!(stay.shown.is_empty(), "{channel} has no trace, and was heard of");
            return;
        };
        let place = |id: &MessageId| {
            let found = trace.iter().position(|entry| matches!(entry, Entry::Message(message) if message.id == *id));
            found.unwrap_or_else(|| panic!("{id} of {channel} is in no trace"))
        };
        let places: Vec<usize> = stay.shown.iter().map(place).collect();
        let (Some(&first), Some(&last)) = (places.first(), places.last()) else { return };
        let between = &trace[first..=last];
        let said: Vec<MessageId> = between.iter().filter_map(Entry::message).map(|message| message.id).collect();
        assert_eq!(said, stay.shown, "{user} missed something in {channel}, or saw it in another order");
        for &place in &places {
            assert!(Entry::belongs(&trace[..place], user), "{user} saw {place} of {channel} without belonging to it");
        }
        let rest = &trace[last + 1..];
        let next = rest.iter().position(|entry| entry.message().is_some());
        let removed = rest.iter().position(|entry| entry.ends_stay_of(user));
        match stay.ended {
            Ended::Present => assert_eq!((next, removed), (None, None), "{user} is in {channel} and missed something"),
            Ended::Removed => assert!(
                removed.is_some_and(|removed| next.is_none_or(|next| removed < next)),
                "{user} missed something of {channel} before it was removed: {stay:?}"
            ),
            Ended::Left => {}
        }
        assert!(between.iter().all(|entry| !entry.ends_stay_of(user)), "{user} stayed in {channel} past its removal");
    }

    fn check_news(&self) {
        let shown: BTreeMap<SessionId, (UserId, String)> = self
            .members
            .iter()
            .filter_map(|member| Some((member.session, (member.user, member.shows.clone()?))))
            .collect();
        for member in &self.members {
            let known = self.registry.notifications(member.user);
            assert!(member.notified.iter().all(|id| known.contains(id)), "it heard what is not its own");
            if member.lasting {
                assert_eq!(member.notified, known, "{} was not told everything", member.user);
            }
            // A session whose user was ever blocked by this user cannot know whether it still follows that user.
            let hears_of = |user: UserId| member.hears_of(user) && !self.registry.has_blocked(user, member.user);
            for (session, shows) in shown.iter().filter(|(_, (user, _))| hears_of(*user)) {
                assert_eq!(member.statuses.get(session), Some(shows), "{session} shows something else");
            }
            for (session, _) in member.statuses.iter().filter(|(_, (user, _))| hears_of(*user)) {
                assert!(shown.contains_key(session), "{session} shows nothing any more");
            }
        }
    }
}
