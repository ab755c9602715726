//! Groups: who may do what to whom (docs/protocol.md, section 5). Pure rules over roles; the stores keep the members.

use crate::id::{GroupId, UserId};
use crate::message::Message;
use crate::notification::Notice;

/// How a user stands to a group.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
#[repr(u8)]
pub enum Role {
    Superadmin = 0,
    Admin = 1,
    Member = 2,
    /// Has asked to be let in.
    JoinRequest = 3,
    Banned = 4,
}

impl Role {
    /// The role with this number on the wire.
    pub fn from_number(number: i32) -> Option<Self> {
        use Role::*;
        [Superadmin, Admin, Member, JoinRequest, Banned].into_iter().find(|&role| role as i32 == number)
    }

    /// Whether its bearer has a seat, and may join the channel, send and read.
    pub fn is_member(self) -> bool {
        self <= Self::Member
    }

    pub fn is_admin(self) -> bool {
        self <= Self::Admin
    }
}

/// A change that the group's channel must know of: each goes through the channel's owner, one at a time.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum GroupAct {
    Delete,
    /// The actor joins, or asks to be let in.
    Join,
    /// The actor leaves, or takes back its request. The last member's leave deletes the group.
    Leave,
    Add(Vec<UserId>),
    Kick(Vec<UserId>),
    Ban(Vec<UserId>),
    Promote(Vec<UserId>),
    Demote(Vec<UserId>),
    /// The actor's account is being deleted: it leaves, whatever it is. A last superadmin hands over to the member who
    /// comes next in rank and time.
    Depart,
}

impl GroupAct {
    /// How many event messages it may come to.
    pub fn messages_max(&self) -> usize {
        match self {
            Self::Delete => 0,
            Self::Join | Self::Leave => 1,
            Self::Depart => 2,
            Self::Add(users) | Self::Kick(users) | Self::Ban(users) | Self::Promote(users) | Self::Demote(users) => {
                users.len()
            }
        }
    }

    /// Whether somebody may lose their place in the channel by it.
    pub fn may_remove(&self) -> bool {
        matches!(self, Self::Delete | Self::Leave | Self::Depart | Self::Kick(_) | Self::Ban(_))
    }
}

/// Who does what to which group.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct GroupChange {
    pub group: GroupId,
    pub actor: UserId,
    pub act: GroupAct,
}

/// What a change came to. All of it is stored.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct GroupOutcome {
    /// Event messages, in order.
    pub messages: Vec<Message>,
    /// Whose presences in the channel end.
    pub removed: Vec<UserId>,
    /// The group is gone, and all presences with it.
    pub deleted: bool,
    pub notices: Vec<Notice>,
}

/// Why a change was refused; nothing has changed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum GroupRefusal {
    /// No such group, or nothing to the actor, who may not do this.
    NotFound,
    /// All seats are taken.
    Full,
    /// The last superadmin cannot leave while others are members.
    LastSuperadmin,
    /// Only a superadmin may do this.
    NotSuperadmin,
    /// Somebody named does not exist.
    UnknownUser,
}
