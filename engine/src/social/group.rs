//! Groups: who may do what to whom (docs/protocol.md, section 5). These are pure rules over roles; the stores keep the
//! members.

use std::collections::{HashMap, HashSet};

use crate::id::{GroupId, UserId};
use crate::message::{Message, MessageCode};
use crate::social::notification::Notice;

/// A user's role in a group.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
#[repr(u8)]
pub enum Role {
    Superadmin = 0,
    Admin = 1,
    Member = 2,
    /// The user has asked to join.
    JoinRequest = 3,
    Banned = 4,
}

impl Role {
    /// The role with this number on the wire, if there is one.
    pub fn from_number(number: i32) -> Option<Self> {
        use Role::*;
        [Superadmin, Admin, Member, JoinRequest, Banned].into_iter().find(|&role| role as i32 == number)
    }

    /// Whether a user with this role takes a seat, and may join the channel, send and read.
    pub fn is_member(self) -> bool {
        self <= Self::Member
    }

    /// Whether a user with this role may change the group and its members: an admin or a superadmin.
    pub fn is_admin(self) -> bool {
        self <= Self::Admin
    }
}

/// A change that the group's channel must know of. Each goes through the channel's owner, one after the other.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum GroupAct {
    Delete,
    /// The actor joins, or asks to join.
    Join,
    /// The actor leaves, or withdraws its request. When the last member leaves, the group is deleted.
    Leave,
    Add(Vec<UserId>),
    Kick(Vec<UserId>),
    Ban(Vec<UserId>),
    Promote(Vec<UserId>),
    Demote(Vec<UserId>),
    /// The actor's account is being deleted: the actor leaves, whatever its role is. If it is the last superadmin, the
    /// member who is next in rank and time becomes superadmin.
    Depart,
}

impl GroupAct {
    /// The most event messages that the act may produce.
    pub fn messages_max(&self) -> usize {
        match self {
            Self::Delete => 0,
            Self::Join | Self::Leave => 1,
            Self::Depart => 2,
            Self::Add(_) | Self::Kick(_) | Self::Ban(_) | Self::Promote(_) | Self::Demote(_) => self.named().len(),
        }
    }

    /// The users that the act names, besides the actor.
    pub fn named(&self) -> &[UserId] {
        match self {
            Self::Delete | Self::Join | Self::Leave | Self::Depart => &[],
            Self::Add(users) | Self::Kick(users) | Self::Ban(users) | Self::Promote(users) | Self::Demote(users) => {
                users
            }
        }
    }

    /// The decision, if the actor's own role is enough for it. Then nothing changes, whatever the answer is: so the change
    /// need not wait for its place in the order of the group's channel.
    pub fn decided_by(&self, own: Option<Role>) -> Option<Result<(), GroupRefusal>> {
        match self {
            Self::Delete => (own != Some(Role::Superadmin)).then_some(Err(GroupRefusal::NotSuperadmin)),
            Self::Leave => own.is_none_or(|own| own == Role::Banned).then_some(Ok(())),
            Self::Add(_) | Self::Kick(_) | Self::Ban(_) | Self::Promote(_) | Self::Demote(_) => {
                (!own.is_some_and(Role::is_admin)).then_some(Err(GroupRefusal::NotFound))
            }
            Self::Join | Self::Depart => None,
        }
    }

    /// Whether the actor's own role alone can decide: see [`Self::decided_by`].
    pub fn may_be_decided_by_role(&self) -> bool {
        !matches!(self, Self::Join | Self::Depart)
    }

    /// Whether the act may remove a member from the channel.
    pub fn may_remove(&self) -> bool {
        matches!(self, Self::Delete | Self::Leave | Self::Depart | Self::Kick(_) | Self::Ban(_))
    }
}

/// An act of a user on a group.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct GroupChange {
    pub group: GroupId,
    pub actor: UserId,
    pub act: GroupAct,
}

/// The result of a change. All of it is stored.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct GroupOutcome {
    /// Event messages, in order.
    pub messages: Vec<Message>,
    /// The users whose presences in the channel end.
    pub removed: Vec<UserId>,
    /// The group is deleted: all presences in the channel end.
    pub deleted: bool,
    pub notices: Vec<Notice>,
}

/// Why a change was refused. Nothing has changed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum GroupRefusal {
    /// There is no such group, or the actor is not an admin of it and may not do this.
    NotFound,
    /// All seats are taken.
    Full,
    /// A superadmin with no other superadmin cannot leave while the group has other members.
    LastSuperadmin,
    /// Only a superadmin may do this.
    NotSuperadmin,
    /// One of the named users does not exist.
    UnknownUser,
    /// The user who would become a member is already in the maximum number of groups.
    TooManyGroups,
}

/// A group as the rules see it: its state, and the roles of the users whom a change concerns.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Roster {
    /// Whether users join without an admin's acceptance.
    pub open: bool,
    pub seats_taken: u32,
    pub seats_max: u32,
    /// The actor, and all users that the act names.
    pub people: HashMap<UserId, Person>,
    /// The first of the other members in rank and time.
    pub next: Option<(UserId, Role)>,
}

/// A user, as far as a group's rules need it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Person {
    pub role: Option<Role>,
    /// Whether the user exists.
    pub exists: bool,
    /// Whether the user may be in one more group.
    pub has_room: bool,
    /// Whether the user has blocked the actor. Only looked up for users whom the actor adds.
    pub blocks_actor: bool,
}

/// The decision about a change to a group.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum GroupDecision {
    /// Delete the group, with all that belongs to it.
    Delete,
    /// Change roles, in this order. No user moves twice.
    Move(Vec<Move>),
}

/// A user's change from one role to another.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Move {
    pub user: UserId,
    pub before: Option<Role>,
    pub after: Option<Role>,
    /// The event message for the channel; `None` for requests that are rejected or withdrawn, and for lifted bans.
    pub message: Option<MessageCode>,
}

impl Move {
    /// Whether the user's presences in the channel end.
    pub fn removes(&self) -> bool {
        is_seated(self.before) && !is_seated(self.after)
    }

    /// How many more seats are taken after the move: 1, 0 or -1.
    pub fn seats(&self) -> i32 {
        i32::from(is_seated(self.after)) - i32::from(is_seated(self.before))
    }
}

fn is_seated(role: Option<Role>) -> bool {
    role.is_some_and(Role::is_member)
}

impl GroupChange {
    /// Decides about the change. `roster` is `None` if there is no such group. Refused for the first rule that the
    /// change breaks.
    pub fn decide(&self, roster: Option<&Roster>) -> Result<GroupDecision, GroupRefusal> {
        let Some(roster) = roster else {
            return match self.act {
                // If there is no group, the actor is not in it, so there is nothing left to do.
                GroupAct::Leave | GroupAct::Depart => Ok(GroupDecision::Move(Vec::new())),
                _ => Err(GroupRefusal::NotFound),
            };
        };
        let own = roster.role(self.actor);
        if let Some(decided) = self.act.decided_by(own) {
            return decided.map(|()| GroupDecision::Move(Vec::new()));
        }
        match &self.act {
            GroupAct::Delete => Ok(GroupDecision::Delete),
            GroupAct::Join => roster.join(self.actor),
            GroupAct::Leave => roster.leave(self.actor),
            GroupAct::Depart => Ok(roster.depart(self.actor)),
            GroupAct::Add(_) | GroupAct::Kick(_) | GroupAct::Ban(_) | GroupAct::Promote(_) | GroupAct::Demote(_) => {
                let rank = own.filter(|own| own.is_admin()).ok_or(GroupRefusal::NotFound)?;
                self.decide_each(rank, roster)
            }
        }
    }

    /// Decides about an admin's act on each of the named users, once for each. `rank` is the admin's role. The actor is
    /// skipped.
    fn decide_each(&self, rank: Role, roster: &Roster) -> Result<GroupDecision, GroupRefusal> {
        let mut seen = HashSet::from([self.actor]);
        let mut seats_taken = roster.seats_taken;
        let mut moves = Vec::new();
        for &user in self.act.named().iter().filter(|&&user| seen.insert(user)) {
            let next = match self.act {
                GroupAct::Add(_) => roster.add(user, seats_taken)?,
                GroupAct::Kick(_) => roster.role(user).and_then(|role| kick(rank, role)),
                GroupAct::Ban(_) => roster.role(user).and_then(|role| ban(rank, role)),
                GroupAct::Promote(_) => roster.role(user).and_then(|role| promote(rank, role)),
                _ => roster.role(user).and_then(|role| demote(rank, role)),
            };
            if let Some((after, message)) = next {
                let made = Move { user, before: roster.role(user), after, message };
                seats_taken = seats_taken.saturating_add_signed(made.seats());
                moves.push(made);
            }
        }
        Ok(GroupDecision::Move(moves))
    }
}

/// A user's new role and the event message for the channel; `None` if the act does not change this user.
type Next = Option<(Option<Role>, Option<MessageCode>)>;

impl Roster {
    fn role(&self, user: UserId) -> Option<Role> {
        self.people.get(&user)?.role
    }

    /// A full group is checked first: even a member gets this error.
    fn join(&self, user: UserId) -> Result<GroupDecision, GroupRefusal> {
        if self.seats_taken >= self.seats_max {
            return Err(GroupRefusal::Full);
        }
        let moves = match self.comer(user)? {
            None => vec![],
            Some(_) if self.open => {
                vec![Move { user, before: None, after: Some(Role::Member), message: Some(MessageCode::GroupJoin) }]
            }
            Some(_) => vec![Move { user, before: None, after: Some(Role::JoinRequest), message: None }],
        };
        Ok(GroupDecision::Move(moves))
    }

    fn leave(&self, user: UserId) -> Result<GroupDecision, GroupRefusal> {
        let role = self.role(user);
        match (role, self.next) {
            (None | Some(Role::Banned), _) => Ok(GroupDecision::Move(vec![])),
            (Some(Role::JoinRequest), _) => Ok(GroupDecision::Move(vec![removal(user, Role::JoinRequest)])),
            (Some(_), None) => Ok(GroupDecision::Delete),
            (Some(Role::Superadmin), Some((_, Role::Admin | Role::Member))) => Err(GroupRefusal::LastSuperadmin),
            (Some(role), Some(_)) => Ok(GroupDecision::Move(vec![removal(user, role)])),
        }
    }

    /// Decides about `GroupAct::Depart`. It is like `leave`, but nothing prevents it, and a ban is removed.
    pub fn depart(&self, user: UserId) -> GroupDecision {
        let Some(role) = self.role(user) else {
            return GroupDecision::Move(vec![]);
        };
        match (role, self.next) {
            (role, None) if role.is_member() => GroupDecision::Delete,
            (Role::Superadmin, Some((heir, rank @ (Role::Admin | Role::Member)))) => GroupDecision::Move(vec![
                Move {
                    user: heir,
                    before: Some(rank),
                    after: Some(Role::Superadmin),
                    message: Some(MessageCode::GroupPromote),
                },
                removal(user, role),
            ]),
            _ => GroupDecision::Move(vec![removal(user, role)]),
        }
    }

    /// Adds a user. Does nothing if the user is a member or banned, or has blocked the actor and not asked to join.
    fn add(&self, user: UserId, seats_taken: u32) -> Result<Next, GroupRefusal> {
        if self.people.get(&user).is_some_and(|person| person.blocks_actor && person.role.is_none()) {
            return Ok(None);
        }
        let comes = self.role(user) == Some(Role::JoinRequest) || self.comer(user)?.is_some();
        if comes && seats_taken >= self.seats_max {
            return Err(GroupRefusal::Full);
        }
        Ok(comes.then_some((Some(Role::Member), Some(MessageCode::GroupAdd))))
    }

    /// Returns a user without a role, if the user can get one; `None` if the user has a role.
    fn comer(&self, user: UserId) -> Result<Option<Person>, GroupRefusal> {
        match self.people.get(&user).copied() {
            Some(Person { role: Some(_), .. }) => Ok(None),
            Some(person @ Person { exists: true, has_room: true, .. }) => Ok(Some(person)),
            Some(Person { exists: true, has_room: false, .. }) => Err(GroupRefusal::TooManyGroups),
            Some(Person { exists: false, .. }) | None => Err(GroupRefusal::UnknownUser),
        }
    }
}

fn removal(user: UserId, role: Role) -> Move {
    Move { user, before: Some(role), after: None, message: role.is_member().then_some(MessageCode::GroupLeave) }
}

/// Whether an admin of this rank may act on a user with this role. Admins may act on members, requests and bans;
/// superadmins on all users. The actor is never among these users, so a superadmin always stays.
fn reaches(rank: Role, role: Role) -> bool {
    rank == Role::Superadmin || role >= Role::Member
}

/// Removes a member. Also rejects a request and lifts a ban, both without a message.
fn kick(rank: Role, role: Role) -> Next {
    reaches(rank, role).then(|| (None, role.is_member().then_some(MessageCode::GroupKick)))
}

fn ban(rank: Role, role: Role) -> Next {
    let may = reaches(rank, role) && role != Role::Banned;
    may.then(|| (Some(Role::Banned), role.is_member().then_some(MessageCode::GroupBan)))
}

/// One rank up, but never above the actor's.
fn promote(rank: Role, role: Role) -> Next {
    let after = match role {
        Role::Member => Role::Admin,
        Role::Admin => Role::Superadmin,
        _ => return None,
    };
    (after >= rank).then_some((Some(after), Some(MessageCode::GroupPromote)))
}

/// One rank down, for users at the actor's rank or below.
fn demote(rank: Role, role: Role) -> Next {
    let after = match role {
        Role::Superadmin => Role::Admin,
        Role::Admin => Role::Member,
        _ => return None,
    };
    (role >= rank).then_some((Some(after), Some(MessageCode::GroupDemote)))
}

#[cfg(test)]
mod tests;
