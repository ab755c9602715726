//! Presences that end because their users are no members any more.
//!
//! A change of a group may end the presences of thousands of sessions, and the home of each has some work with it. So a
//! step ends some of them, and each turn after it ends some more. The channel shows nothing meanwhile and accepts
//! nothing, so no session notices that its presence ends later than another.

use std::collections::VecDeque;

use super::Channel;
use crate::channel::members::Address;
use crate::channel::presence::PresenceChanges;
use crate::id::UserId;
use crate::limits::ENDINGS_STEP_MAX;

/// The presences that end.
#[derive(Default)]
pub struct Ending {
    addresses: VecDeque<Address>,
    /// All presences end, and no member is told of it. Otherwise the members who stay are told.
    all: bool,
}

impl Ending {
    /// Whether none is left.
    pub fn is_empty(&self) -> bool {
        self.addresses.is_empty()
    }

    /// Whether every presence ends.
    pub fn is_of_all(&self) -> bool {
        self.all && !self.is_empty()
    }
}

impl Channel {
    /// Begins to end all presences of these users; the other members are told. Looks at every member, which is
    /// acceptable because it is rare.
    pub(super) fn end_presences_of(&mut self, users: &[UserId]) {
        let of_user = |user: &UserId| self.members.of_user(*user).collect::<Vec<_>>();
        let addresses = users.iter().flat_map(of_user).collect();
        self.begin_ending(Ending { addresses, all: false });
    }

    /// Begins to end all presences, without a presence event.
    pub(super) fn end_all(&mut self) {
        let addresses = self.members.addresses().collect();
        self.begin_ending(Ending { addresses, all: true });
    }

    /// Ends these presences too; the other members are told.
    pub(super) fn end_also(&mut self, addresses: Vec<Address>) {
        if !self.ending.is_of_all() {
            self.ending.addresses.extend(addresses);
            self.end_presences(ENDINGS_STEP_MAX);
        }
    }

    fn begin_ending(&mut self, ending: Ending) {
        debug_assert!(self.ending.is_empty(), "nothing is released while presences end");
        self.ending = ending;
        self.end_presences(ENDINGS_STEP_MAX);
    }

    /// Ends up to `max` of the presences that end. Returns how many it has looked at.
    pub(super) fn end_presences(&mut self, max: usize) -> usize {
        let count = max.min(self.ending.addresses.len());
        for _ in 0..count {
            let Some(address) = self.ending.addresses.pop_front() else { break };
            // It may have left meanwhile.
            let Some(member) = self.take_out(address) else { continue };
            if !self.ending.all {
                self.presence_changes.depart(member);
            }
            self.announcements.evicted(address);
        }
        if self.ending.all {
            self.presence_changes = PresenceChanges::default();
        }
        if self.ending.is_empty() {
            self.ending = Ending::default();
        }
        count
    }
}
