//! Friends and blocks: what an act makes of the two sides of a pair (docs/protocol.md, section 7). Pure rules; the stores
//! keep the sides.

/// How a user stands to another, from the user's own side.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
#[repr(u8)]
pub enum FriendState {
    Friend = 0,
    /// The user has asked the other.
    InviteSent = 1,
    /// The other has asked the user.
    InviteReceived = 2,
    /// The user has blocked the other.
    Blocked = 3,
}

impl FriendState {
    /// The state with this number on the wire.
    pub fn from_number(number: i32) -> Option<Self> {
        use FriendState::*;
        [Friend, InviteSent, InviteReceived, Blocked].into_iter().find(|&state| state as i32 == number)
    }
}

/// What a user does about another.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum FriendAct {
    /// Asks, or accepts.
    Add,
    /// Ends it: friendship, invitation of either side, or the user's own block.
    Delete,
    Block,
}

/// The two sides of a pair.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Sides {
    pub own: Option<FriendState>,
    pub others: Option<FriendState>,
}
