//! What the answers and news of a shard hold while they wait for sockets that are full.
//!
//! Each connection has a bound of its own, and a user may have thousands of connections. So there is a bound for all of
//! them together. When it is reached, the user whose connections hold most gives way. Parts of logs are not counted here,
//! but with the logs.

use std::collections::{BTreeSet, HashMap};

use crate::id::UserId;
use crate::table::give_back;

/// Counts bytes by user. Every operation takes time in the logarithm of the number of users that hold some.
pub struct HeldBytes {
    most: u64,
    bytes: u64,
    users: HashMap<UserId, u64>,
    ranking: BTreeSet<(u64, UserId)>,
}

impl HeldBytes {
    /// At most so many bytes for all users together.
    pub fn new(most: u64) -> Self {
        Self { most, bytes: 0, users: HashMap::new(), ranking: BTreeSet::new() }
    }

    /// The bytes that are held now.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// A connection of the user held `before` bytes, and holds `now`.
    pub fn change(&mut self, user: UserId, before: usize, now: usize) {
        let held = self.users.get(&user).copied().unwrap_or(0);
        assert!(held >= before as u64, "{held} bytes are held by all connections, and {before} by one of them");
        let after = held - before as u64 + now as u64;
        self.bytes = self.bytes - held + after;
        self.ranking.remove(&(held, user));
        if after > 0 {
            self.users.insert(user, after);
            self.ranking.insert((after, user));
        } else if held > 0 {
            self.users.remove(&user);
            give_back(&mut self.users);
        }
    }

    /// The user that holds most, if more is held than may be.
    pub fn gives_way(&self) -> Option<UserId> {
        (self.bytes > self.most).then(|| self.ranking.last().map(|&(_, user)| user)).flatten()
    }

    /// Asserts that the sums agree. Looks at every user.
    pub fn invariants(&self) {
        assert_eq!(self.users.values().sum::<u64>(), self.bytes, "bytes of all users");
        assert!(self.bytes <= self.most, "{} bytes are held, of {}", self.bytes, self.most);
        assert_eq!(self.ranking.len(), self.users.len(), "each user has one rank");
        for &(bytes, user) in &self.ranking {
            assert_eq!(self.users.get(&user), Some(&bytes), "a rank is of the user's bytes");
        }
    }
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;

    fn user(number: u128) -> UserId {
        UserId(Uuid::from_u128(number))
    }

    #[test]
    fn the_user_that_holds_most_gives_way() {
        let mut held = HeldBytes::new(1000);
        held.change(user(1), 0, 300);
        held.change(user(1), 0, 300);
        held.change(user(2), 0, 400);
        assert_eq!((held.bytes(), held.gives_way()), (1000, None));
        held.invariants();
        held.change(user(3), 0, 1);
        assert_eq!(held.gives_way(), Some(user(1)));
        held.change(user(1), 300, 0);
        assert_eq!((held.bytes(), held.gives_way()), (701, None));
        held.change(user(2), 400, 950);
        assert_eq!(held.gives_way(), Some(user(2)));
        for (number, bytes) in [(1, 300), (2, 950), (3, 1)] {
            held.change(user(number), bytes, 0);
        }
        assert_eq!((held.bytes(), held.gives_way()), (0, None));
        held.invariants();
        assert!(held.users.is_empty() && held.ranking.is_empty());
    }
}
