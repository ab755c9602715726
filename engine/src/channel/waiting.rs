//! Work that waits until its channel accepts work again.
//!
//! It waits in two lines: what sessions ask for, and changes by visitors, such as requests to join a group. A change may
//! keep the channel closed until the store has decided it, and users who are no members can ask for many. So sessions go
//! first: each time the channel opens it accepts all that they have asked for, and then one change. A member's message
//! waits for one change, however many wait.

use std::collections::VecDeque;

use super::Submitted;
use crate::limits::CHANNEL_PENDING_MAX;

/// What waits, each line in its order. Each has at most `CHANNEL_PENDING_MAX` places.
#[derive(Default)]
pub(super) struct Waiting {
    of_sessions: VecDeque<Submitted>,
    changes: VecDeque<Submitted>,
}

impl Waiting {
    /// Puts work at the end of its line. Gives it back if the line is full.
    pub(super) fn put(&mut self, submitted: Submitted) -> Result<(), Submitted> {
        let line = match submitted {
            Submitted::Message(..) | Submitted::Join { .. } => &mut self.of_sessions,
            Submitted::Change(..) => &mut self.changes,
        };
        if line.len() >= CHANNEL_PENDING_MAX {
            return Err(submitted);
        }
        line.push_back(submitted);
        Ok(())
    }

    /// Takes what is to be accepted next.
    pub(super) fn take(&mut self) -> Option<Submitted> {
        self.of_sessions.pop_front().or_else(|| self.changes.pop_front())
    }

    /// Everything that waits.
    pub(super) fn iter(&self) -> impl Iterator<Item = &Submitted> {
        self.of_sessions.iter().chain(&self.changes)
    }

    /// Takes out the joins that `is_over` names.
    pub(super) fn end_joins(&mut self, is_over: impl Fn(&Submitted) -> bool) {
        self.of_sessions.retain(|submitted| !is_over(submitted));
    }

    pub(super) fn is_empty(&self) -> bool {
        self.of_sessions.is_empty() && self.changes.is_empty()
    }

    pub(super) fn invariants(&self) {
        let longest = self.of_sessions.len().max(self.changes.len());
        assert!(longest <= CHANNEL_PENDING_MAX, "the work that waits is bounded");
    }
}
