//! The server is killed at any time while users act in groups and on each other. Afterwards its state is what it has
//! acknowledged, complete and no more: members, roles, seats, names, messages about members, friends, blocks and
//! notifications all agree.
//!
//! Several worlds run at once. Each has a thread that sends one request after another, and that knows from a model of
//! the protocol what the result must be. When the server is killed, each thread has at most one request without an
//! answer. After the restart, the server must be in the state before this request or in the state after it.

mod accounts;
mod observed;
mod step;
mod world;

use std::collections::BTreeMap;
use std::sync::{Barrier, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use engine::limits::REQUEST_TO_CHAT_INTERVAL;
use observed::{Ids, Observed};
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{RngCore, SeedableRng};
use step::{Asker, Managing, Relating, Step};
use tests::harness::{Launch, Person, Server, data_dir};
use world::{User, World};

const WORLDS: usize = 4;
const PEOPLE: usize = 5;
/// The most groups of one world at a time.
const GROUPS_MAX: usize = 4;

/// A world, the users in it, and what the test knows about it.
struct Life {
    number: usize,
    names: Vec<String>,
    people: Vec<Person>,
    world: World,
    ids: Ids,
    /// Names that were given up, the latest ones only.
    old_names: Vec<String>,
    groups_made: usize,
    /// When a user has last asked another to chat. The model does not know time, so a user asks again only when the
    /// server sends the request again.
    asked_to_chat: BTreeMap<(User, User), Instant>,
    random: Random,
    /// The request that was sent and never answered.
    unanswered: Option<Step>,
    steps: usize,
}

impl Life {
    fn begin(server: &Server, number: usize, seed: u64) -> Self {
        let names: Vec<String> = (0..PEOPLE).map(|person| format!("person-{number}-{person}")).collect();
        let people = names.iter().map(|name| server.person(name)).collect();
        Self {
            number,
            names,
            people,
            world: World::default(),
            ids: BTreeMap::new(),
            old_names: Vec::new(),
            groups_made: 0,
            asked_to_chat: BTreeMap::new(),
            random: Random::from_seed(seed ^ (number as u64) << 32),
            unanswered: None,
            steps: 0,
        }
    }

    /// Does steps until the server is gone, or for so many steps. Begins when all worlds are connected.
    fn live(&mut self, steps: usize, connected: &Barrier, started: &mpsc::Sender<()>) {
        let people = std::mem::take(&mut self.people);
        let mut asker = Asker::new(&people);
        connected.wait();
        let end = self.steps + steps;
        let mut next = None;
        while self.steps < end && self.unanswered.is_none() {
            let step = next.take().unwrap_or_else(|| self.choose());
            let expected = self.world.clone().apply(&step);
            let id = |group: usize| self.ids.get(&group).cloned().unwrap_or_else(|| self.never_was());
            let Ok((status, made)) = asker.ask(&step, &id) else {
                self.unanswered = Some(step);
                break;
            };
            assert_eq!(status, expected, "world {}: {step:?} in {:#?}", self.number, self.world);
            self.done(&step, made);
            if status == 200
                && let Step::ComeToChat { user, other } = step
            {
                // A user who has joined sends a message and leaves.
                next = Some(Step::SayInChat { user, other, content: self.content() });
            }
            // Only the first signal has a receiver.
            let _ = started.send(());
        }
        self.people = people;
    }

    /// Records that a step has happened.
    fn done(&mut self, step: &Step, made: Option<String>) {
        let before = self.world.clone();
        self.world.apply(step);
        self.steps += 1;
        if let (Step::Create { group, .. }, Some(id)) = (step, made) {
            self.ids.insert(*group, id);
        }
        self.note_request(step, &before);
        for (number, group) in &before.groups {
            if self.world.groups.get(number).is_none_or(|now| now.name != group.name) {
                self.old_names.push(group.name.clone());
            }
        }
    }

    /// Notes a request to chat that was sent, and that a block between two users lets them ask again.
    fn note_request(&mut self, step: &Step, before: &World) {
        match *step {
            Step::ComeToChat { user, other } if before.inboxes.get(&other) != self.world.inboxes.get(&other) => {
                self.asked_to_chat.insert((user, other), Instant::now());
            }
            Step::Relate { actor, act: Relating::Block, other } => {
                self.asked_to_chat.remove(&(actor, other));
                self.asked_to_chat.remove(&(other, actor));
            }
            _ => {}
        }
    }

    fn never_was(&self) -> String {
        format!("65aea872-a336-4029-90c9-6f507b7528{:02x}", self.number)
    }

    /// After a restart: the server has forgotten who has asked whom to chat a moment ago.
    fn forget_requests(&mut self) {
        self.asked_to_chat.clear();
    }

    /// After the restart, if there was one: finds out whether the unanswered request was done, and checks that everything else is
    /// unchanged.
    fn awake(&mut self, server: &Server) {
        self.people = self.names.iter().zip(&self.people).map(|(_, person)| person.at(server)).collect();
        let unanswered = self.unanswered.take();
        let after = unanswered.as_ref().map(|step| {
            let mut after = self.world.clone();
            after.apply(step);
            after
        });
        // A group whose creation was not answered has an id too, and the test looks it up.
        let mut ids = self.ids.clone();
        let mut made = None;
        if let Some(Step::Create { group, name, founder, .. }) = &unanswered
            && let Some(found) = self.people[*founder].groups_called(name).first()
            && !ids.values().any(|id| found["id"] == *id)
        {
            made = found["id"].as_str().map(str::to_string);
            ids.extend(made.clone().map(|id| (*group, id)));
        }
        let mut chats: Vec<(User, User)> = self.world.chats.keys().copied().collect();
        if let Some(after) = &after {
            chats = after.chats.keys().copied().collect();
        }
        let seen = Observed::read(&self.people, &ids, &chats);
        let before = Observed::expected(&self.world, &self.people, &ids);
        if let (Some(step), Some(after)) = (&unanswered, &after)
            && seen != before
        {
            let known = after.groups.keys().all(|number| ids.contains_key(number));
            assert!(known, "world {}: {step:?}: neither done nor not done\n{}", self.number, seen.difference(&before));
            let expected = Observed::expected(after, &self.people, &ids);
            assert!(
                seen == expected,
                "world {}: {step:?} was not answered. If it was not done:\n{}\nIf it was:\n{}",
                self.number,
                seen.difference(&before),
                seen.difference(&expected)
            );
            let step = step.clone();
            self.done(&step, made);
        } else {
            assert!(seen == before, "world {}:\n{}", self.number, seen.difference(&before));
        }
        self.names_agree();
    }

    /// Each group is found by its name. Names that were given up are free, or belong to another group.
    fn names_agree(&mut self) {
        let reader = &self.people[0];
        for (number, group) in &self.world.groups {
            let found = reader.groups_called(&group.name);
            assert_eq!(found.len(), 1, "{}", group.name);
            assert_eq!(found[0]["id"], self.ids[number]);
        }
        for name in self.old_names.drain(..) {
            let known = self.world.groups.values().any(|group| group.name == name);
            assert_eq!(reader.groups_called(&name).len(), usize::from(known), "{name}");
        }
    }

    fn content(&self) -> String {
        format!("{{\"step\":{}}}", self.steps)
    }

    /// The next step. It may well be refused.
    fn choose(&mut self) -> Step {
        loop {
            let step = self.draw();
            let asked = match step {
                Step::ComeToChat { user, other } => self.asked_to_chat.get(&(user, other)),
                _ => None,
            };
            if asked.is_none_or(|asked| asked.elapsed() > REQUEST_TO_CHAT_INTERVAL) {
                return step;
            }
        }
    }

    fn draw(&mut self) -> Step {
        let (actor, other) = (self.random.below(PEOPLE), self.random.below(PEOPLE));
        let groups: Vec<usize> = self.world.groups.keys().copied().collect();
        // Sometimes a group that is gone, or that never existed.
        let group = match self.random.below(12) {
            0 => self.random.below(self.groups_made + 1),
            _ if groups.is_empty() => self.groups_made,
            _ => groups[self.random.below(groups.len())],
        };
        match self.random.below(20) {
            0..2 if groups.len() < GROUPS_MAX => {
                self.groups_made += 1;
                let (open, seats) = (self.random.below(3) > 0, 2 + self.random.below(4));
                Step::Create { group: self.groups_made - 1, founder: actor, name: self.name(), open, seats }
            }
            0 => Step::Delete { group, actor },
            1 => Step::Edit { group, actor, name: self.name(), open: self.random.below(2) == 0 },
            2..5 => Step::Join { group, actor },
            5 => Step::Leave { group, actor },
            6..11 => {
                let act = Managing::ALL[self.random.below(5)];
                let count = 1 + self.random.below(3);
                let users = (0..count).map(|_| self.random.below(PEOPLE)).collect();
                Step::Manage { group, actor: self.leader(group, actor), act, users }
            }
            11..13 => Step::SayInGroup { group, user: actor, content: self.content() },
            13..17 if actor != other => Step::Relate { actor, act: Relating::ALL[self.random.below(7) % 3], other },
            17 => Step::Forget { user: actor },
            _ => Step::ComeToChat { user: actor, other },
        }
    }

    /// Usually a user who leads the group.
    fn leader(&mut self, group: usize, otherwise: User) -> User {
        let Some(group) = self.world.groups.get(&group) else { return otherwise };
        let leaders: Vec<User> =
            group.people.iter().filter(|(_, (role, _))| *role <= 1).map(|(user, _)| *user).collect();
        if self.random.below(5) == 0 { otherwise } else { leaders[self.random.below(leaders.len())] }
    }

    /// A name that may be taken now, or may have been.
    fn name(&mut self) -> String {
        format!("world-{}-group-{}", self.number, self.random.below(GROUPS_MAX + 2))
    }
}

/// A generator that gives the same numbers for the same seed.
struct Random(ChaCha8Rng);

impl Random {
    fn from_seed(seed: u64) -> Self {
        Self(ChaCha8Rng::seed_from_u64(seed))
    }

    fn below(&mut self, bound: usize) -> usize {
        (self.0.next_u64() % bound as u64) as usize
    }
}

/// Runs all worlds at once: until the server is killed, if `kill_after` is given, or else for so many steps each.
fn live(lives: &mut [Life], server: Server, steps: usize, kill_after: Option<Duration>) -> Option<Server> {
    let (started, first_step) = mpsc::channel();
    let connected = Barrier::new(lives.len());
    thread::scope(|scope| {
        let threads: Vec<_> = lives
            .iter_mut()
            .map(|life| {
                let (connected, started) = (&connected, started.clone());
                scope.spawn(move || life.live(steps, connected, &started))
            })
            .collect();
        let server = match kill_after {
            None => Some(server),
            Some(moment) => {
                first_step.recv().expect("a world is answered");
                thread::sleep(moment);
                server.kill();
                None
            }
        };
        for thread in threads {
            thread.join().expect("all is as the model says");
        }
        server
    })
}

#[test]
fn acknowledged_changes_are_there_after_a_kill_and_agree() {
    for (shards, rounds) in [(1, 12), (4, 8)] {
        let data = data_dir();
        let launch = || Launch::on(data.path()).shards(shards).flag("--session-ttl", 3600);
        let mut server = launch().start();
        let address = server.address();
        let mut lives: Vec<Life> =
            (0..WORLDS).map(|number| Life::begin(&server, number, 0xfeed ^ u64::from(shards))).collect();
        let mut moments = Random::from_seed(77 + u64::from(shards));
        let mut cut = 0;
        for _ in 0..rounds {
            let part = moments.below(1000) as f64 / 1000.0;
            live(&mut lives, server, usize::MAX / 2, Some(Duration::from_secs_f64(0.4 * part * part)));
            cut += lives.iter().filter(|life| life.unanswered.is_some()).count();
            server = launch().listen(address).start();
            for life in &mut lives {
                life.forget_requests();
                life.awake(&server);
                // The unanswered request was still judged by what the last server knew.
                life.world.told.clear();
                life.world.told_about_groups.clear();
            }
        }
        let steps: usize = lives.iter().map(|life| life.steps).sum();
        println!("{shards} shards, {rounds} kills: {steps} steps, {cut} of them without an answer");
        assert!(steps > rounds * WORLDS, "too few steps to mean anything: {steps}");
        assert!(cut > rounds, "too few were cut off to mean anything: {cut}");
    }
}

#[test]
fn people_and_groups_are_what_the_protocol_says() {
    for shards in [1, 4] {
        let data = data_dir();
        let mut server = Launch::on(data.path()).shards(shards).flag("--session-ttl", 3600).start();
        let mut lives: Vec<Life> =
            (0..WORLDS).map(|number| Life::begin(&server, number, 0xb00c ^ u64::from(shards))).collect();
        for _ in 0..4 {
            server = live(&mut lives, server, 150, None).expect("the server was not killed");
            for life in &mut lives {
                life.awake(&server);
            }
        }
    }
}
