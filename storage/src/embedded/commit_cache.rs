//! What the committing thread caches between groups of writes, to save reads.

use std::collections::HashSet;
use std::hash::{BuildHasher, RandomState};

use engine::id::{ChannelId, UserId};

use crate::generations::Generations;
use crate::repeats::SentRequests;

/// Pairs of user and channel in each of two generations. A full generation takes 9 MiB: a hash table of a million slots
/// of 9 bytes holds this many entries before it grows.
const AUTHORS_OF_GENERATION_MAX: usize = (1 << 20) / 8 * 7;

/// Users who are not cached any more, because their notes were removed. Beyond it everything is forgotten.
const GONE_MAX: usize = 10_000;

/// What the committing thread keeps from one group of writes to the next.
#[derive(Default)]
pub struct CommitCache {
    pub authors: Authors,
    /// Requests that were sent a moment ago.
    pub sent: SentRequests,
    /// Whether there may be rows to sweep.
    pub sweeping: bool,
}

/// Caches which users are already noted as writers of which channels.
///
/// A user who goes on writing in a channel is noted at most once per generation. A pair is stored as its hash. If two
/// pairs have the same hash (once in ten million million notes), a message stays when its sender's account is deleted.
/// The hash has a different key in each process, so that a client cannot choose names that collide.
pub struct Authors {
    pairs: Generations<u64, ()>,
    hash: RandomState,
    gone: HashSet<UserId>,
}

impl Default for Authors {
    fn default() -> Self {
        let any_may_be_dropped = |_: &()| false;
        let pairs = Generations::new(AUTHORS_OF_GENERATION_MAX, any_may_be_dropped);
        Self { pairs, hash: RandomState::default(), gone: HashSet::new() }
    }
}

impl Authors {
    /// Returns whether the pair was cached; it is from now on.
    pub fn note(&mut self, user: UserId, channel: &ChannelId) -> bool {
        self.note_in(user, channel, 0)
    }

    /// Like [`Self::note`], for a part of the channel.
    pub fn note_in(&mut self, user: UserId, channel: &ChannelId, part: u64) -> bool {
        if self.gone.contains(&user) {
            return false;
        }
        let pair = self.hash.hash_one((user.0.as_u128(), channel.as_str(), part));
        let was_cached = self.pairs.get(&pair).is_some();
        if !was_cached {
            self.pairs.insert(pair, ());
        }
        was_cached
    }

    /// Forgets all pairs: each is noted again when it is next needed.
    pub fn forget(&mut self) {
        self.pairs.clear();
        self.gone.clear();
    }

    /// Caches nothing of this user from now on, so that each further message is noted. Other users stay cached: the
    /// deletion of an account must not make the store note the next message of every user again.
    pub fn forget_user(&mut self, user: UserId) {
        if self.gone.len() >= GONE_MAX {
            self.forget();
        }
        self.gone.insert(user);
    }
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;

    #[test]
    fn authors_are_known_for_a_generation_and_bounded() {
        let lobby = ChannelId::room("lobby").unwrap();
        let user = |number: usize| UserId(Uuid::from_u128(number as u128));
        let mut authors = Authors::default();
        assert!(!authors.note(user(0), &lobby));
        assert!(authors.note(user(0), &lobby));
        assert!(!authors.note(user(0), &ChannelId::room("stage").unwrap()));
        for number in 1..3 * AUTHORS_OF_GENERATION_MAX {
            assert!(!authors.note(user(number), &lobby));
            let is_time = number % AUTHORS_OF_GENERATION_MAX == 0;
            assert!(!is_time || authors.note(user(0), &lobby), "who goes on writing stays known");
            assert!(authors.pairs.len() <= 2 * AUTHORS_OF_GENERATION_MAX);
        }
        assert!(!authors.note(user(1), &lobby), "who has stopped is forgotten");
        assert!(authors.note(user(0), &lobby));
        authors.forget_user(user(0));
        assert!(!authors.note(user(0), &lobby) && !authors.note(user(0), &lobby), "each is noted");
        assert!(authors.note(user(3 * AUTHORS_OF_GENERATION_MAX - 1), &lobby), "others stay known");
        (2..2 * GONE_MAX).for_each(|number| authors.forget_user(user(number)));
        assert!(authors.gone.len() <= GONE_MAX);
        authors.forget();
        assert!(!authors.note(user(0), &lobby));
    }
}
