//! Work that waits until its channel accepts work again.
//!
//! It waits in two lines: what sessions ask for, and changes by visitors, such as requests to join a group. A change may
//! keep the channel closed until the store has decided it, and users who are no members can ask for many. So sessions go
//! first: each time the channel opens it accepts all that they have asked for, and then one change. A member's message
//! waits for one change, however many wait.
//!
//! Users share the line of sessions as they share the queue behind it (`pending.rs`): what a user has asked for takes at most
//! as much of it as is free beside it.

use std::collections::{HashMap, VecDeque};

use super::Submitted;
use crate::id::UserId;
use crate::limits::CHANNEL_PENDING_MAX;

/// What waits, each line in its order. Each has at most `CHANNEL_PENDING_MAX` places.
#[derive(Default)]
pub(super) struct Waiting {
    of_sessions: VecDeque<(UserId, Submitted)>,
    /// How much of it users have asked for.
    shares: HashMap<UserId, usize>,
    changes: VecDeque<Submitted>,
}

impl Waiting {
    /// Puts what a session of this user has asked for at the end of its line. Gives it back if the user's share is full.
    pub(super) fn put(&mut self, user: UserId, submitted: Submitted) -> Result<(), Submitted> {
        let own = self.shares.get(&user).copied().unwrap_or(0);
        if self.of_sessions.len() + own >= CHANNEL_PENDING_MAX {
            return Err(submitted);
        }
        self.shares.insert(user, own + 1);
        self.of_sessions.push_back((user, submitted));
        Ok(())
    }

    /// Puts a visitor's change at the end of its line. Gives it back if the line is full.
    pub(super) fn put_change(&mut self, submitted: Submitted) -> Result<(), Submitted> {
        if self.changes.len() >= CHANNEL_PENDING_MAX {
            return Err(submitted);
        }
        self.changes.push_back(submitted);
        Ok(())
    }

    /// Takes what is to be accepted next.
    pub(super) fn take(&mut self) -> Option<Submitted> {
        let Some((user, submitted)) = self.of_sessions.pop_front() else { return self.changes.pop_front() };
        self.give_back(user);
        Some(submitted)
    }

    /// Everything that waits.
    pub(super) fn iter(&self) -> impl Iterator<Item = &Submitted> {
        self.of_sessions.iter().map(|(_, submitted)| submitted).chain(&self.changes)
    }

    /// Takes out the joins that `is_over` names.
    pub(super) fn end_joins(&mut self, is_over: impl Fn(&Submitted) -> bool) {
        let mut users = Vec::new();
        self.of_sessions.retain(|(user, submitted)| {
            let ends = is_over(submitted);
            users.extend(ends.then_some(*user));
            !ends
        });
        users.into_iter().for_each(|user| self.give_back(user));
    }

    /// One place less is taken by this user. A channel at rest keeps no table.
    fn give_back(&mut self, user: UserId) {
        if let Some(share) = self.shares.get_mut(&user) {
            *share -= 1;
            if *share == 0 {
                self.shares.remove(&user);
            }
        }
        if self.of_sessions.is_empty() {
            self.shares = HashMap::new();
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.of_sessions.is_empty() && self.changes.is_empty()
    }

    pub(super) fn invariants(&self) {
        let longest = self.of_sessions.len().max(self.changes.len());
        assert!(longest <= CHANNEL_PENDING_MAX, "the work that waits is bounded");
        assert_eq!(self.shares.values().sum::<usize>(), self.of_sessions.len(), "each place is in a user's share");
    }
}
