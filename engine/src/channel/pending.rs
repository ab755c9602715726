//! The queue of accepted work: what a channel's owner has numbered and put to the store, released strictly in order.
//!
//! A message that needs no store takes its place in the same queue. So acceptance, acknowledgements, deliveries and
//! history all have the same order.

use std::collections::VecDeque;

use crate::limits::{CHANNEL_PENDING_BYTES_MAX, CHANNEL_PENDING_MAX};

/// The right to decide one entry, which deciding uses up. The number counts all entries since the queue was made, so it
/// does not change when others are released.
#[derive(PartialEq, Eq, Debug)]
#[must_use = "an entry that is never decided stops the queue"]
pub struct PendingPlace(u64);

/// Entries of work `W`, each waiting for a decision `D`.
pub struct Pending<W, D> {
    entries: VecDeque<Entry<W, D>>,
    /// The place of `entries[0]`.
    first: u64,
    bytes: usize,
}

struct Entry<W, D> {
    work: W,
    bytes: usize,
    decision: Option<D>,
}

impl<W, D> Default for Pending<W, D> {
    fn default() -> Self {
        Self { entries: VecDeque::new(), first: 0, bytes: 0 }
    }
}

impl<W, D> Pending<W, D> {
    /// Whether work with `bytes` bytes of content still fits.
    pub fn has_room(&self, bytes: usize) -> bool {
        self.entries.len() < CHANNEL_PENDING_MAX && self.bytes + bytes <= CHANNEL_PENDING_BYTES_MAX
    }

    /// Accepts work that will be decided later.
    pub fn push(&mut self, work: W, bytes: usize) -> PendingPlace {
        self.entries.push_back(Entry { work, bytes, decision: None });
        self.bytes += bytes;
        PendingPlace(self.first + self.entries.len() as u64 - 1)
    }

    /// Stores the decision on an entry.
    pub fn decide(&mut self, place: PendingPlace, decision: D) {
        let PendingPlace(place) = place;
        self.entries[(place - self.first) as usize].decision = Some(decision);
    }

    /// Removes and returns the oldest entry, if it is decided.
    pub fn release(&mut self) -> Option<(W, D)> {
        let decision = self.entries.front_mut()?.decision.take()?;
        let entry = self.entries.pop_front()?;
        self.first += 1;
        self.bytes -= entry.bytes;
        Some((entry.work, decision))
    }

    /// Asserts what the type promises. Looks at every entry.
    pub fn invariants(&self) {
        assert!(
            self.entries.len() <= CHANNEL_PENDING_MAX && self.bytes <= CHANNEL_PENDING_BYTES_MAX,
            "the queue is bounded"
        );
        assert_eq!(self.bytes, self.entries.iter().map(|entry| entry.bytes).sum::<usize>(), "bytes");
    }

    /// All entries' work, in order.
    pub fn works(&self) -> impl Iterator<Item = &W> + '_ {
        self.entries.iter().map(|entry| &entry.work)
    }

    /// All entries' work, in order, to be changed.
    pub fn works_mut(&mut self) -> impl Iterator<Item = &mut W> + '_ {
        self.entries.iter_mut().map(|entry| &mut entry.work)
    }

    /// Whether all accepted work has been released.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lets_go_in_order_whatever_the_order_of_decisions() {
        let mut pending = Pending::default();
        let [first, second, third, fourth] = [0, 1, 2, 3].map(|work| pending.push(work, 1));
        pending.decide(third, 'c');
        pending.decide(second, 'b');
        assert_eq!(pending.release(), None);
        pending.decide(first, 'a');
        assert_eq!(std::iter::from_fn(|| pending.release()).collect::<Vec<_>>(), [(0, 'a'), (1, 'b'), (2, 'c')]);
        let later = pending.push(4, 1);
        pending.decide(later, 'e');
        assert_eq!(pending.release(), None);
        pending.decide(fourth, 'd');
        assert_eq!(std::iter::from_fn(|| pending.release()).collect::<Vec<_>>(), [(3, 'd'), (4, 'e')]);
        assert!(pending.is_empty());
    }

    #[test]
    fn has_room_up_to_its_bounds() {
        let mut pending: Pending<(), ()> = Pending::default();
        assert!(pending.has_room(CHANNEL_PENDING_BYTES_MAX));
        assert!(!pending.has_room(CHANNEL_PENDING_BYTES_MAX + 1));
        for _ in 0..CHANNEL_PENDING_MAX {
            assert!(pending.has_room(0));
            let _ = pending.push((), 0);
        }
        assert!(!pending.has_room(0));
    }
}
