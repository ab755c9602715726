//! Which sessions are visible to followers, and who follows whom (docs/protocol.md, section 2.13).
//!
//! Every shard knows every visible status. Only the session's home shard tells the others of a change, so all of them
//! get the changes of a session in one order. That is why a shard can answer a follow request at once, and later
//! changes continue exactly from that answer. The cost is one record per visible session and shard. Sessions that show
//! no status, which are most, cost nothing.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use crate::id::{SessionId, UserId};
use crate::message::StatusPresence;

/// The statuses that a shard knows, and which of its connections follow them.
#[derive(Default)]
pub struct Statuses {
    /// By user, and then by session.
    shown: HashMap<UserId, BTreeMap<SessionId, StatusPresence>>,
    /// Slots of connections on this shard, by the user they follow.
    followers: HashMap<UserId, HashSet<u32>>,
    /// The users that each connection follows, by its slot.
    followed: HashMap<u32, BTreeSet<UserId>>,
}

impl Statuses {
    /// Replaces a session's status `before` by `after`.
    pub fn change(&mut self, before: Option<&StatusPresence>, after: Option<&StatusPresence>) {
        let Some(either) = after.or(before) else { return };
        let shown = self.shown.entry(either.user).or_default();
        match after {
            Some(after) => drop(shown.insert(either.session, after.clone())),
            None => drop(shown.remove(&either.session)),
        }
        if shown.is_empty() {
            self.shown.remove(&either.user);
        }
    }

    /// What a session shows.
    pub fn of_session(&self, user: UserId, session: SessionId) -> Option<&StatusPresence> {
        self.shown.get(&user)?.get(&session)
    }

    /// What a user's sessions show, in the order of the sessions.
    pub fn of(&self, user: UserId) -> impl Iterator<Item = &StatusPresence> {
        self.shown.get(&user).into_iter().flat_map(BTreeMap::values)
    }

    /// Whether a session of the user shows a status.
    pub fn shows(&self, user: UserId) -> bool {
        self.shown.contains_key(&user)
    }

    /// The connection in this slot follows the user from now on.
    pub fn follow(&mut self, slot: u32, user: UserId) {
        self.followers.entry(user).or_default().insert(slot);
        self.followed.entry(slot).or_default().insert(user);
    }

    /// Stops following a user, for the connection in this slot. Does nothing if it does not follow that user.
    pub fn unfollow(&mut self, slot: u32, user: UserId) {
        if let Some(followed) = self.followed.get_mut(&slot)
            && followed.remove(&user)
        {
            if followed.is_empty() {
                self.followed.remove(&slot);
            }
            self.forget(slot, user);
        }
    }

    /// Ends all following of the connection in this slot.
    pub fn unfollow_all(&mut self, slot: u32) {
        for user in self.followed.remove(&slot).unwrap_or_default() {
            self.forget(slot, user);
        }
    }

    fn forget(&mut self, slot: u32, user: UserId) {
        if let Some(followers) = self.followers.get_mut(&user) {
            followers.remove(&slot);
            if followers.is_empty() {
                self.followers.remove(&user);
            }
        }
    }

    /// The users that the connection in this slot follows.
    pub fn followed(&self, slot: u32) -> impl Iterator<Item = UserId> + '_ {
        self.followed.get(&slot).into_iter().flatten().copied()
    }

    /// How many users the connection in this slot follows.
    pub fn followed_count(&self, slot: u32) -> usize {
        self.followed.get(&slot).map_or(0, BTreeSet::len)
    }

    /// The slots of the connections that follow the user, in ascending order.
    pub fn followers(&self, user: UserId) -> Vec<u32> {
        let mut slots: Vec<u32> = self.followers.get(&user).into_iter().flatten().copied().collect();
        // The set's own order is not stable: sort, so that results do not depend on it.
        slots.sort_unstable();
        slots
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn presence(user: u128, session: u128, status: &str) -> StatusPresence {
        StatusPresence {
            user: UserId(uuid::Uuid::from_u128(user)),
            session: SessionId(uuid::Uuid::from_u128(session)),
            username: "ada".into(),
            status: status.into(),
        }
    }

    #[test]
    fn the_last_word_of_each_session_is_shown() {
        let mut statuses = Statuses::default();
        let (first, second) = (presence(1, 1, ""), presence(1, 2, "away"));
        statuses.change(None, Some(&first));
        statuses.change(None, Some(&second));
        assert!(statuses.of(first.user).eq([&first, &second]));
        let third = presence(1, 1, "back");
        statuses.change(Some(&first), Some(&third));
        assert_eq!(statuses.of_session(first.user, first.session), Some(&third));
        statuses.change(Some(&third), None);
        statuses.change(Some(&second), None);
        assert!(!statuses.shows(first.user) && statuses.of(first.user).count() == 0);
    }

    #[test]
    fn a_follower_that_leaves_is_forgotten_without_a_trace() {
        let mut statuses = Statuses::default();
        let users: Vec<UserId> = (0..3).map(|number| UserId(uuid::Uuid::from_u128(number))).collect();
        for &user in &users {
            statuses.follow(7, user);
            statuses.follow(3, user);
        }
        assert_eq!(statuses.followers(users[0]), [3, 7]);
        assert_eq!(statuses.followed(7).count(), 3);
        statuses.unfollow(7, users[0]);
        statuses.unfollow(7, users[0]);
        assert_eq!(statuses.followers(users[0]), [3]);
        statuses.unfollow_all(7);
        statuses.unfollow_all(3);
        assert!(statuses.followers.is_empty() && statuses.followed.is_empty());
    }
}
