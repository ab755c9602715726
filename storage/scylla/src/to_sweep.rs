//! What is still to be swept, as far as this life of the server knows (`sweep.rs` removes it).

use std::collections::VecDeque;

use crate::tables::leftovers::Leftover;

/// Deleted things that are remembered until they are swept. Beyond it, their notes are read from the database.
const REMEMBERED_MAX: usize = 10_000;

/// See the file's head.
pub struct ToSweep {
    remembered: VecDeque<Leftover>,
    /// Whether the database may have notes of more.
    unread: bool,
}

impl Default for ToSweep {
    fn default() -> Self {
        Self { remembered: VecDeque::new(), unread: true }
    }
}

impl ToSweep {
    /// Remembers something that was deleted.
    pub fn remember(&mut self, leftover: Leftover) {
        if self.remembered.len() < REMEMBERED_MAX {
            self.remembered.push_back(leftover);
        } else {
            self.unread = true;
        }
    }

    /// What was deleted first.
    pub fn first(&self) -> Option<Leftover> {
        self.remembered.front().copied()
    }

    /// Forgets what was deleted first: it is swept.
    pub fn forget_first(&mut self) {
        self.remembered.pop_front();
    }

    /// Puts what was deleted first behind the rest: it cannot be swept now.
    pub fn postpone_first(&mut self) {
        let first = self.remembered.pop_front();
        self.remembered.extend(first);
    }

    /// Whether the notes in the database are to be read; the caller reads them now.
    pub fn takes_notes(&mut self) -> bool {
        std::mem::take(&mut self.unread)
    }

    /// Has the next sweep read the notes.
    pub fn read_notes_again(&mut self) {
        self.unread = true;
    }
}

#[cfg(test)]
mod tests {
    use engine::id::UserId;
    use uuid::Uuid;

    use super::*;

    #[test]
    fn what_is_beyond_the_bound_is_read_from_the_notes() {
        let mut to_sweep = ToSweep::default();
        assert!(to_sweep.takes_notes() && !to_sweep.takes_notes(), "once at the beginning");
        let user = |number: usize| Leftover::User(UserId(Uuid::from_u128(number as u128)));
        (0..REMEMBERED_MAX).for_each(|number| to_sweep.remember(user(number)));
        assert!(!to_sweep.takes_notes());
        to_sweep.remember(user(REMEMBERED_MAX));
        assert!(to_sweep.takes_notes());
        assert_eq!((to_sweep.first(), to_sweep.remembered.len()), (Some(user(0)), REMEMBERED_MAX));
        to_sweep.forget_first();
        assert_eq!(to_sweep.first(), Some(user(1)));
        to_sweep.postpone_first();
        assert_eq!((to_sweep.first(), to_sweep.remembered.back()), (Some(user(2)), Some(&user(1))));
    }
}
