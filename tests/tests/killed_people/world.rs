//! The relations of users and groups according to the protocol: sections 4, 5 and 7, written down again as a model. The
//! server must show these relations after every kill.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use tests::harness::person::{
    ADMIN, BANNED, GROUP_ADD, GROUP_BAN, GROUP_DEMOTE, GROUP_JOIN, GROUP_KICK, GROUP_LEAVE, GROUP_PROMOTE,
    JOIN_REQUEST, MEMBER, SUPERADMIN,
};

use crate::step::{Managing, Relating, Step};

/// States of friends, by their numbers in the protocol.
const FRIEND: u64 = 0;
const INVITE_SENT: u64 = 1;
const INVITE_RECEIVED: u64 = 2;
const BLOCKED: u64 = 3;

/// How often a user notifies another about groups within a minute.
const GROUP_NOTICES_MAX: usize = 4;

/// A user, by index.
pub type User = usize;

/// A message: code, sender, content.
pub type Said = (u64, User, String);

#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Group {
    pub name: String,
    pub open: bool,
    pub seats: usize,
    /// The role, and the step in which the user got it.
    pub people: BTreeMap<User, (u64, u64)>,
    pub history: Vec<Said>,
}

impl Group {
    fn role(&self, user: User) -> Option<u64> {
        self.people.get(&user).map(|(role, _)| *role)
    }

    pub fn members(&self) -> usize {
        self.people.values().filter(|(role, _)| *role <= MEMBER).count()
    }

    fn set(&mut self, user: User, role: Option<u64>, now: u64) {
        match role {
            Some(role) => self.people.insert(user, (role, now)),
            None => self.people.remove(&user),
        };
    }

    fn tell(&mut self, code: u64, user: User) {
        self.history.push((code, user, "{}".into()));
    }
}

/// A notification: code, sender, and the further content, if it has more than the sender's name.
pub type Notice = (i64, User, Option<usize>);

#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct World {
    now: u64,
    /// By number, in the order of creation.
    pub groups: BTreeMap<usize, Group>,
    /// The state from the first user's side to the second user.
    pub edges: BTreeMap<(User, User), u64>,
    pub inboxes: BTreeMap<User, Vec<Notice>>,
    /// When what was told last, by code, by whom, and to which user or about which group. A restart forgets it.
    pub told: BTreeMap<(i64, User, usize), Instant>,
    /// When a user has notified another about groups within the last minute. A restart forgets it.
    pub told_about_groups: BTreeMap<(User, User), Vec<Instant>>,
    /// By the smaller and the larger index.
    pub chats: BTreeMap<(User, User), Vec<Said>>,
}

/// The answer to a step: an HTTP status, and for sockets 200 or 400.
pub type Status = u16;

impl World {
    /// Does a step, or refuses it and stays unchanged.
    pub fn apply(&mut self, step: &Step) -> Status {
        let before = self.clone();
        self.now += 1;
        match self.decide(step) {
            Ok(()) => 200,
            Err(status) => {
                *self = before;
                status
            }
        }
    }

    fn decide(&mut self, step: &Step) -> Result<(), Status> {
        let now = self.now;
        match step {
            Step::Create { group, founder, name, open, seats } => {
                if self.groups.values().any(|other| other.name == *name) {
                    return Err(409);
                }
                let people = BTreeMap::from([(*founder, (SUPERADMIN, now))]);
                let made = Group { name: name.clone(), open: *open, seats: *seats, people, history: Vec::new() };
                self.groups.insert(*group, made);
            }
            Step::Edit { group, actor, name, open } => {
                let taken = self.groups.iter().any(|(number, other)| number != group && other.name == *name);
                let known = self.groups.get_mut(group).filter(|group| group.role(*actor).is_some_and(|r| r <= ADMIN));
                let known = known.ok_or(404_u16)?;
                if taken {
                    return Err(400);
                }
                (known.name, known.open) = (name.clone(), *open);
            }
            Step::Delete { group, actor } => {
                if self.groups.get(group).and_then(|group| group.role(*actor)) != Some(SUPERADMIN) {
                    return Err(400);
                }
                self.groups.remove(group);
            }
            Step::Join { group, actor } => self.join(*group, *actor)?,
            Step::Leave { group, actor } => self.leave(*group, *actor)?,
            Step::Manage { group, actor, act, users } => self.manage(*group, *actor, *act, users)?,
            Step::Relate { actor, act, other } => self.relate(*actor, *act, *other),
            Step::Forget { user } => {
                let inbox = self.inboxes.entry(*user).or_default();
                if !inbox.is_empty() {
                    inbox.remove(0);
                }
            }
            Step::SayInGroup { group, user, content } => {
                let group = self.groups.get_mut(group).filter(|group| group.role(*user).is_some_and(|r| r <= MEMBER));
                group.ok_or(400_u16)?.history.push((0, *user, content.clone()));
            }
            Step::ComeToChat { user, other } => {
                if self.edges.get(&(*other, *user)) == Some(&BLOCKED) {
                    return Err(400);
                }
                if user != other && self.edges.get(&(*user, *other)) != Some(&BLOCKED) {
                    self.notify(*other, -1, *user, None);
                }
            }
            Step::SayInChat { user, other, content } => {
                let pair = (*user.min(other), *user.max(other));
                self.chats.entry(pair).or_default().push((0, *user, content.clone()));
            }
        }
        Ok(())
    }

    /// Notifies a user, unless the user was notified of the same a moment ago.
    fn notify_once(&mut self, user: User, code: i64, sender: User, group: Option<usize>) {
        if self.is_new(code, (sender, user)) {
            self.notify(user, code, sender, group);
        }
    }

    /// Whether this was not told within the last minute; from now on it was. The second is a user or a group.
    fn is_new(&mut self, code: i64, (who, whom): (User, usize)) -> bool {
        let is_old = |told: &Instant| told.elapsed() < Duration::from_secs(60);
        let is_new = !self.told.get(&(code, who, whom)).is_some_and(is_old);
        if is_new {
            self.told.insert((code, who, whom), Instant::now());
        }
        is_new
    }

    /// Notifies a user about a group, unless the sender has done so four times within the last minute.
    fn notify_about_group(&mut self, user: User, code: i64, sender: User, group: usize) {
        let told = self.told_about_groups.entry((sender, user)).or_default();
        told.retain(|told| told.elapsed() < Duration::from_secs(60));
        if told.len() < GROUP_NOTICES_MAX {
            told.push(Instant::now());
            self.notify(user, code, sender, Some(group));
        }
    }

    fn notify(&mut self, user: User, code: i64, sender: User, group: Option<usize>) {
        self.inboxes.entry(user).or_default().push((code, sender, group));
    }

    fn join(&mut self, number: usize, actor: User) -> Result<(), Status> {
        let now = self.now;
        let group = self.groups.get_mut(&number).ok_or(404_u16)?;
        if group.members() >= group.seats {
            return Err(400);
        }
        if group.role(actor).is_some() {
            return Ok(());
        }
        if group.open {
            group.set(actor, Some(MEMBER), now);
            group.tell(GROUP_JOIN, actor);
            return Ok(());
        }
        group.set(actor, Some(JOIN_REQUEST), now);
        let admins: Vec<User> =
            group.people.iter().filter(|(_, (role, _))| *role <= ADMIN).map(|(user, _)| *user).collect();
        if self.is_new(-5, (actor, number)) {
            for admin in admins {
                self.notify_about_group(admin, -5, actor, number);
            }
        }
        Ok(())
    }

    fn leave(&mut self, number: usize, actor: User) -> Result<(), Status> {
        let now = self.now;
        let Some(group) = self.groups.get_mut(&number) else { return Ok(()) };
        match group.role(actor) {
            None | Some(BANNED) => {}
            Some(JOIN_REQUEST) => group.set(actor, None, now),
            Some(_) if group.members() == 1 => {
                self.groups.remove(&number);
            }
            Some(role) => {
                let superadmins = group.people.values().filter(|(role, _)| *role == SUPERADMIN).count();
                if role == SUPERADMIN && superadmins == 1 {
                    return Err(400);
                }
                group.set(actor, None, now);
                group.tell(GROUP_LEAVE, actor);
            }
        }
        Ok(())
    }

    fn manage(&mut self, number: usize, actor: User, act: Managing, users: &[User]) -> Result<(), Status> {
        if users.is_empty() {
            return if act == Managing::Demote { Err(400) } else { Ok(()) };
        }
        let now = self.now;
        let group = self.groups.get_mut(&number).ok_or(404_u16)?;
        let rank = group.role(actor).filter(|role| *role <= ADMIN).ok_or(404_u16)?;
        let mut seen = BTreeSet::from([actor]);
        let mut added = Vec::new();
        for &user in users {
            if !seen.insert(user) {
                continue;
            }
            let role = group.role(user);
            // Superadmins can act on all members, admins only on those below them.
            let reached = role.filter(|role| rank == SUPERADMIN || *role >= MEMBER);
            match act {
                // A user who has blocked the actor stays out, unless the user has asked to join.
                Managing::Add if role.is_none() && self.edges.get(&(user, actor)) == Some(&BLOCKED) => {}
                Managing::Add if matches!(role, None | Some(JOIN_REQUEST)) => {
                    if group.members() >= group.seats {
                        return Err(400);
                    }
                    group.set(user, Some(MEMBER), now);
                    group.tell(GROUP_ADD, user);
                    added.push(user);
                }
                Managing::Kick => {
                    if let Some(role) = reached {
                        group.set(user, None, now);
                        if role <= MEMBER {
                            group.tell(GROUP_KICK, user);
                        }
                    }
                }
                Managing::Ban => {
                    if let Some(role) = reached.filter(|role| *role != BANNED) {
                        group.set(user, Some(BANNED), now);
                        if role <= MEMBER {
                            group.tell(GROUP_BAN, user);
                        }
                    }
                }
                Managing::Promote => {
                    if let Some(role @ (ADMIN | MEMBER)) = role.filter(|role| *role > rank) {
                        group.set(user, Some(role - 1), now);
                        group.tell(GROUP_PROMOTE, user);
                    }
                }
                Managing::Demote => {
                    if let Some(role @ (SUPERADMIN | ADMIN)) = role.filter(|role| *role >= rank) {
                        group.set(user, Some(role + 1), now);
                        group.tell(GROUP_DEMOTE, user);
                    }
                }
                Managing::Add => {}
            }
        }
        for user in added {
            // A request to join is answered.
            self.told.remove(&(-5, user, number));
            if self.is_new(-4, (user, number)) {
                self.notify_about_group(user, -4, actor, number);
            }
        }
        Ok(())
    }

    fn relate(&mut self, actor: User, act: Relating, other: User) {
        let (own, others) = (self.edges.get(&(actor, other)).copied(), self.edges.get(&(other, actor)).copied());
        let mut set = |one: User, two: User, state: Option<u64>| {
            match state {
                Some(state) => self.edges.insert((one, two), state),
                None => self.edges.remove(&(one, two)),
            };
        };
        let told = match (act, own, others) {
            (Relating::Add, None, None) => {
                set(actor, other, Some(INVITE_SENT));
                set(other, actor, Some(INVITE_RECEIVED));
                Some(-2)
            }
            (Relating::Add, Some(INVITE_RECEIVED), _) => {
                set(actor, other, Some(FRIEND));
                set(other, actor, Some(FRIEND));
                Some(-3)
            }
            (Relating::Add, ..) | (Relating::Delete, None, _) => None,
            (Relating::Delete, Some(_), Some(BLOCKED)) => {
                set(actor, other, None);
                None
            }
            (Relating::Delete, Some(_), others) => {
                set(actor, other, None);
                set(other, actor, None);
                others.map(|_| -9)
            }
            (Relating::Block, _, others) => {
                set(actor, other, Some(BLOCKED));
                if others != Some(BLOCKED) {
                    set(other, actor, None);
                }
                None
            }
        };
        match told {
            Some(-3) => {
                // Both have agreed, so what they ask next is new.
                for told in [(-2, other, actor), (-2, actor, other), (-9, other, actor), (-9, actor, other)] {
                    self.told.remove(&told);
                }
                self.notify(other, -3, actor, None);
            }
            Some(code) => self.notify_once(other, code, actor, None),
            None => {}
        }
    }
}
