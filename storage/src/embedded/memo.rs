//! What the one who commits keeps in mind between groups of writes, so that it need not look.

use std::collections::HashSet;

use engine::id::{ChannelId, UserId};
use xxhash_rust::xxh3::xxh3_128;

/// Pairs of user and channel in each of two generations: room for all who write within some minutes, in some MiB.
const AUTHORS_MAX: usize = 64 * 1024;

#[derive(Default)]
pub struct Memo {
    pub authors: Authors,
    /// There may be something to sweep.
    pub sweeping: bool,
}

/// Who is known to be noted as having written where.
///
/// When a generation is full it becomes the old one and the one before is forgotten, so those who go on writing are looked
/// up no more than once a generation. A pair is kept as its hash: a user who brings about that two of its own are
/// taken for one has only hidden a message from its own later deletion.
#[derive(Default)]
pub struct Authors {
    young: HashSet<u128>,
    old: HashSet<u128>,
}

impl Authors {
    /// Whether the pair is known; it is from now on.
    pub fn note(&mut self, user: UserId, channel: &ChannelId) -> bool {
        let pair = xxh3_128(channel.as_str().as_bytes()) ^ user.0.as_u128();
        if self.young.contains(&pair) {
            return true;
        }
        if self.young.len() >= AUTHORS_MAX {
            self.old = std::mem::take(&mut self.young);
        }
        self.young.insert(pair);
        self.old.contains(&pair)
    }

    pub fn forget(&mut self) {
        *self = Self::default();
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
        for number in 1..3 * AUTHORS_MAX {
            assert!(!authors.note(user(number), &lobby));
            assert!(number % AUTHORS_MAX != 0 || authors.note(user(0), &lobby), "who goes on writing stays known");
            assert!(authors.young.len() <= AUTHORS_MAX && authors.old.len() <= AUTHORS_MAX);
        }
        assert!(!authors.note(user(1), &lobby), "who has stopped is forgotten");
        authors.forget();
        assert!(!authors.note(user(0), &lobby));
    }
}
