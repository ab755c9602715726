//! Friends and blocks: how an act changes the two sides of a pair (docs/protocol.md, section 7). These are pure rules;
//! the stores keep the sides.

/// A user's relation to another user, from the user's own side.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
#[repr(u8)]
pub enum FriendState {
    Friend = 0,
    /// The user has invited the other.
    InviteSent = 1,
    /// The other has invited the user.
    InviteReceived = 2,
    /// The user has blocked the other.
    Blocked = 3,
}

impl FriendState {
    /// The state with this number on the wire, if there is one.
    pub fn from_number(number: i32) -> Option<Self> {
        use FriendState::*;
        [Friend, InviteSent, InviteReceived, Blocked].into_iter().find(|&state| state as i32 == number)
    }
}

/// An act of a user towards another user.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum FriendAct {
    /// Invites the other, or accepts the other's invitation.
    Add,
    /// Ends the relation: a friendship, an invitation of either side, or the user's own block.
    Delete,
    Block,
}

/// What a user is notified of when another user acts.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum FriendNews {
    /// The other asks to be a friend.
    Requested,
    /// The other has accepted the user's request.
    Accepted,
    /// The other has ended the relation.
    Removed,
}

/// The two sides of a pair.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Sides {
    pub own: Option<FriendState>,
    pub others: Option<FriendState>,
}

impl Sides {
    /// The sides after an act of the user whose side is `own`, and what the other user is notified of, if anything.
    pub fn after(self, act: FriendAct) -> (Self, Option<FriendNews>) {
        use FriendState::*;
        let unchanged = (self, None);
        match (act, self.own, self.others) {
            (FriendAct::Add, None, None) => {
                (Self { own: Some(InviteSent), others: Some(InviteReceived) }, Some(FriendNews::Requested))
            }
            (FriendAct::Add, Some(InviteReceived), others) if others != Some(Blocked) => {
                (Self { own: Some(Friend), others: Some(Friend) }, Some(FriendNews::Accepted))
            }
            (FriendAct::Add, ..) => unchanged,
            (FriendAct::Delete, None, _) => unchanged,
            (FriendAct::Delete, Some(_), Some(Blocked)) => (Self { own: None, others: Some(Blocked) }, None),
            (FriendAct::Delete, Some(_), None) => (Self { own: None, others: None }, None),
            (FriendAct::Delete, Some(_), Some(_)) => (Self { own: None, others: None }, Some(FriendNews::Removed)),
            (FriendAct::Block, _, others) => {
                (Self { own: Some(Blocked), others: others.filter(|&others| others == Blocked) }, None)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::FriendNews::*;
    use super::FriendState::*;
    use super::*;

    /// The two sides of a pair, each from its own point of view.
    const PAIRS: [(Option<FriendState>, Option<FriendState>); 7] = [
        (None, None),
        (Some(Friend), Some(Friend)),
        (Some(InviteSent), Some(InviteReceived)),
        (Some(InviteReceived), Some(InviteSent)),
        (Some(Blocked), None),
        (None, Some(Blocked)),
        (Some(Blocked), Some(Blocked)),
    ];

    fn check(act: FriendAct, expected: [(Option<FriendState>, Option<FriendState>, Option<FriendNews>); 7]) {
        for ((own, others), (own_after, others_after, told)) in PAIRS.into_iter().zip(expected) {
            let after = Sides { own: own_after, others: others_after };
            assert_eq!(Sides { own, others }.after(act), (after, told), "{act:?} at {own:?}, {others:?}");
        }
    }

    #[test]
    fn adding_asks_or_accepts_and_overcomes_no_block() {
        check(
            FriendAct::Add,
            [
                (Some(InviteSent), Some(InviteReceived), Some(Requested)),
                (Some(Friend), Some(Friend), None),
                (Some(InviteSent), Some(InviteReceived), None),
                (Some(Friend), Some(Friend), Some(Accepted)),
                (Some(Blocked), None, None),
                (None, Some(Blocked), None),
                (Some(Blocked), Some(Blocked), None),
            ],
        );
    }

    #[test]
    fn deleting_ends_everything_but_the_others_block() {
        check(
            FriendAct::Delete,
            [
                (None, None, None),
                (None, None, Some(Removed)),
                (None, None, Some(Removed)),
                (None, None, Some(Removed)),
                (None, None, None),
                (None, Some(Blocked), None),
                (None, Some(Blocked), None),
            ],
        );
    }

    #[test]
    fn blocking_takes_the_others_side_unless_that_blocks_too() {
        check(
            FriendAct::Block,
            [
                (Some(Blocked), None, None),
                (Some(Blocked), None, None),
                (Some(Blocked), None, None),
                (Some(Blocked), None, None),
                (Some(Blocked), None, None),
                (Some(Blocked), Some(Blocked), None),
                (Some(Blocked), Some(Blocked), None),
            ],
        );
    }

    #[test]
    fn no_act_leads_out_of_the_pairs_there_are() {
        for (own, others) in PAIRS {
            for act in [FriendAct::Add, FriendAct::Delete, FriendAct::Block] {
                let (after, _) = Sides { own, others }.after(act);
                assert!(PAIRS.contains(&(after.own, after.others)), "{act:?} at {own:?}, {others:?}: {after:?}");
            }
        }
    }
}
