//! The types of friends and blocks, as the stores keep them. `engine::social::friend` decides how an act changes a
//! pair.

use engine::id::{Timestamp, UserId};
use engine::social::friend::FriendState;
use engine::social::notification::Notice;
use uuid::Uuid;

/// Most friends and open invitations that a user may have at a time. Blocks are not counted, so that a user can always
/// block another.
pub const FRIENDS_MAX: u32 = 10_000;

/// Friends and open invitations of a user beyond which others cannot invite the user. The user can still invite others,
/// so no other user can use up the user's places.
pub const INVITABLE_MAX: u32 = FRIENDS_MAX / 2;

/// Bytes of the metadata of one friend: some names and marks. A page of a thousand friends that is read has 1 MB of it
/// at most.
pub const FRIEND_METADATA_BYTES_MAX: usize = 1024;

/// Bytes of metadata that one act may write, once for each of the named users. A database writes each four times, with
/// what undoes the change, so that is an eighth of what one change may have there. More users are named in several acts.
pub const ACT_METADATA_BYTES_MAX: usize = 256 << 10;

/// One entry of a user's list.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Friend {
    /// The other user.
    pub user: UserId,
    pub state: FriendState,
    /// When the state began.
    pub update_time: Timestamp,
    /// What the user has noted of the other; see [`Edge::metadata`].
    pub metadata: Box<str>,
}

/// The place from which a list of friends continues.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct FriendPlace {
    pub state: FriendState,
    pub since: Timestamp,
    pub user: UserId,
}

impl FriendPlace {
    /// The first and the last possible place, of one state or of all.
    pub fn span(state: Option<FriendState>) -> [Self; 2] {
        let [first, last] = state.map_or([FriendState::Friend, FriendState::Blocked], |state| [state, state]);
        [
            Self { state: first, since: Timestamp(i64::MIN), user: UserId(Uuid::nil()) },
            Self { state: last, since: Timestamp(i64::MAX), user: UserId(Uuid::max()) },
        ]
    }

    /// The entry of the list at this place, with its metadata.
    pub fn friend(self, metadata: Box<str>) -> Friend {
        Friend { user: self.user, state: self.state, update_time: self.since, metadata }
    }
}

/// The result of an act on other users.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Related {
    pub notices: Vec<Notice>,
    /// At least one user was skipped, because one of the two has the maximum of friends and invitations.
    pub full: bool,
}

/// One side of a pair.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Edge {
    pub state: FriendState,
    pub since: Timestamp,
    /// A JSON object as text, which the user has given with the request or its acceptance. Empty if the user has given
    /// none. At most [`FRIEND_METADATA_BYTES_MAX`] bytes. Only this user reads it.
    pub metadata: Box<str>,
}

impl Edge {
    /// The place of this side in the list of friends; `user` is the other user.
    pub fn place(&self, user: UserId) -> FriendPlace {
        FriendPlace { state: self.state, since: self.since, user }
    }
}

/// How many friends a user has.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct FriendCounts {
    pub friends: u32,
    /// Friends, and invitations in either direction.
    pub edges: u32,
}

impl FriendCounts {
    /// The counts after one of the user's sides changes from one state to another.
    pub fn moved(self, before: Option<FriendState>, after: Option<FriendState>) -> Self {
        let is_friend = |state: Option<FriendState>| i32::from(state == Some(FriendState::Friend));
        let is_counted = |state: Option<FriendState>| i32::from(state.is_some_and(|s| s != FriendState::Blocked));
        Self {
            friends: self.friends.saturating_add_signed(is_friend(after) - is_friend(before)),
            edges: self.edges.saturating_add_signed(is_counted(after) - is_counted(before)),
        }
    }

    /// Whether the user may invite one more user.
    pub(crate) fn may_invite(self) -> bool {
        self.edges < FRIENDS_MAX
    }

    /// Whether others may invite the user.
    pub(crate) fn is_invitable(self) -> bool {
        self.edges < INVITABLE_MAX
    }
}
