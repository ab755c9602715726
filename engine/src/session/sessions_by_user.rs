//! A shard's connections by user, so that a push to a user reaches all of the user's connections.
//!
//! The connections of one user form a linked list, with the links in a table beside the table of connections. So a
//! connection is added or removed in constant time, even if its user has ten thousand sessions, as a load generator's
//! may.

use std::collections::HashMap;

use crate::id::UserId;

/// No connection.
const END: u32 = u32::MAX;

/// The connections of a shard, by user.
#[derive(Default)]
pub struct SessionsByUser {
    chains: HashMap<UserId, Chain>,
    links: Vec<Link>,
}

/// The list of a user's connections, which are `count`, and their memberships.
#[derive(Clone, Copy)]
struct Chain {
    first: u32,
    count: u32,
    memberships: u32,
}

/// A connection's neighbours in its user's list.
#[derive(Clone, Copy)]
pub(crate) struct Link {
    previous: u32,
    next: u32,
}

impl SessionsByUser {
    /// Adds the connection in this slot to the user's.
    pub fn enter(&mut self, user: UserId, slot: u32) {
        let index = slot as usize;
        if self.links.len() <= index {
            self.links.resize(index + 1, Link { previous: END, next: END });
        }
        let chain = self.chains.entry(user).or_insert(Chain { first: END, count: 0, memberships: 0 });
        let next = std::mem::replace(&mut chain.first, slot);
        chain.count += 1;
        self.links[index] = Link { previous: END, next };
        if next != END {
            self.links[next as usize].previous = slot;
        }
    }

    /// Removes the connection in this slot from the user's. Its memberships have ended before.
    pub fn leave(&mut self, user: UserId, slot: u32) {
        let Link { previous, next } = self.links[slot as usize];
        if next != END {
            self.links[next as usize].previous = previous;
        }
        if previous != END {
            self.links[previous as usize].next = next;
        }
        let Some(chain) = self.chains.get_mut(&user) else { return };
        chain.count -= 1;
        if previous == END {
            chain.first = next;
        }
        if chain.count == 0 {
            debug_assert_eq!(chain.memberships, 0, "memberships end with their connection");
            self.chains.remove(&user);
        }
    }

    /// The number of the user's connections.
    pub fn count(&self, user: UserId) -> u32 {
        self.chains.get(&user).map_or(0, |chain| chain.count)
    }

    /// One of the user's connections has joined a channel.
    pub fn join(&mut self, user: UserId) {
        if let Some(chain) = self.chains.get_mut(&user) {
            chain.memberships += 1;
        }
    }

    /// So many memberships of one of the user's connections have ended.
    pub fn end_memberships(&mut self, user: UserId, ended: usize) {
        if let Some(chain) = self.chains.get_mut(&user) {
            debug_assert!(chain.memberships as usize >= ended, "{} memberships, {ended} ended", chain.memberships);
            chain.memberships -= ended as u32;
        }
    }

    /// The memberships of all connections of the user.
    pub fn memberships(&self, user: UserId) -> u32 {
        self.chains.get(&user).map_or(0, |chain| chain.memberships)
    }

    /// The slots of the user's connections.
    pub fn of(&self, user: UserId) -> impl Iterator<Item = u32> + '_ {
        let first = self.chains.get(&user).map(|chain| chain.first);
        let link = |slot: &u32| Some(self.links[*slot as usize].next).filter(|&next| next != END);
        std::iter::successors(first, link)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use proptest::prelude::*;

    use super::*;

    fn user(number: u8) -> UserId {
        UserId(uuid::Uuid::from_u128(number.into()))
    }

    proptest! {
        #[test]
        fn exactly_the_open_sessions_of_a_user_are_found(steps in proptest::collection::vec((0..4u8, 0..12u32), 0..60)) {
            let mut sessions_by_user = SessionsByUser::default();
            let mut model: BTreeMap<u32, u8> = BTreeMap::new();
            for (number, slot) in steps {
                match model.remove(&slot) {
                    Some(tenant) => sessions_by_user.leave(user(tenant), slot),
                    None => {
                        sessions_by_user.enter(user(number), slot);
                        model.insert(slot, number);
                    }
                }
                for number in 0..4 {
                    let found: Vec<u32> = sessions_by_user.of(user(number)).collect();
                    let expected: BTreeSet<u32> =
                        model.iter().filter(|(_, tenant)| **tenant == number).map(|(slot, _)| *slot).collect();
                    prop_assert_eq!(found.len(), expected.len());
                    prop_assert_eq!(sessions_by_user.count(user(number)) as usize, expected.len());
                    prop_assert_eq!(found.into_iter().collect::<BTreeSet<_>>(), expected);
                }
            }
            prop_assert!(sessions_by_user.chains.len() <= model.len());
        }
    }
}
