//! The queue of accepted work: what a channel's owner has numbered and put to the store, released strictly in order.
//!
//! A message that needs no store takes its place in the same queue. So acceptance, acknowledgements, deliveries and
//! history all have the same order.
//!
//! Users share the queue: a user's messages take at most as much of it as is free beside them. So a single user fills a
//! half, two users fill two thirds, and there is always room for one more.

use std::collections::{HashMap, VecDeque};

use crate::id::UserId;
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
    /// What users have in the queue.
    shares: HashMap<UserId, Share>,
}

/// The entries of one user.
#[derive(Clone, Copy, Default)]
struct Share {
    entries: usize,
    bytes: usize,
}

struct Entry<W, D> {
    work: W,
    bytes: usize,
    /// The user in whose share it is.
    user: Option<UserId>,
    decision: Option<D>,
}

impl<W, D> Default for Pending<W, D> {
    fn default() -> Self {
        Self { entries: VecDeque::new(), first: 0, bytes: 0, shares: HashMap::new() }
    }
}

impl<W, D> Pending<W, D> {
    /// Whether work with `bytes` bytes of content still fits.
    pub fn has_room(&self, bytes: usize) -> bool {
        self.entries.len() < CHANNEL_PENDING_MAX && self.bytes + bytes <= CHANNEL_PENDING_BYTES_MAX
    }

    /// Whether a user's message with `bytes` bytes of content still fits into the user's share.
    pub fn has_room_for(&self, user: UserId, bytes: usize) -> bool {
        let own = self.shares.get(&user).copied().unwrap_or_default();
        let (entries, free) = (self.entries.len() + own.entries, self.bytes + own.bytes + bytes);
        self.has_room(bytes) && entries < CHANNEL_PENDING_MAX && free <= CHANNEL_PENDING_BYTES_MAX
    }

    /// Accepts work that will be decided later, in a user's share if it is a user's message.
    pub fn push(&mut self, work: W, bytes: usize, user: Option<UserId>) -> PendingPlace {
        self.entries.push_back(Entry { work, bytes, user, decision: None });
        self.bytes += bytes;
        if let Some(user) = user {
            let share = self.shares.entry(user).or_default();
            (share.entries, share.bytes) = (share.entries + 1, share.bytes + bytes);
        }
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
        if let Some(user) = entry.user
            && let Some(share) = self.shares.get_mut(&user)
        {
            (share.entries, share.bytes) = (share.entries - 1, share.bytes - entry.bytes);
            if share.entries == 0 {
                self.shares.remove(&user);
            }
        }
        if self.entries.is_empty() {
            // A channel at rest keeps no table.
            self.shares = HashMap::new();
        }
        Some((entry.work, decision))
    }

    /// Takes out all entries, decided or not, in order.
    pub fn take_all(&mut self) -> Vec<W> {
        self.first += self.entries.len() as u64;
        (self.bytes, self.shares) = (0, HashMap::new());
        std::mem::take(&mut self.entries).into_iter().map(|entry| entry.work).collect()
    }

    /// Asserts what the type promises. Looks at every entry.
    pub fn invariants(&self) {
        assert!(
            self.entries.len() <= CHANNEL_PENDING_MAX && self.bytes <= CHANNEL_PENDING_BYTES_MAX,
            "the queue is bounded"
        );
        assert_eq!(self.bytes, self.entries.iter().map(|entry| entry.bytes).sum::<usize>(), "bytes");
        let shared: usize = self.shares.values().map(|share| share.entries).sum();
        assert_eq!(shared, self.entries.iter().filter(|entry| entry.user.is_some()).count(), "entries of users");
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
        let [first, second, third, fourth] = [0, 1, 2, 3].map(|work| pending.push(work, 1, None));
        pending.decide(third, 'c');
        pending.decide(second, 'b');
        assert_eq!(pending.release(), None);
        pending.decide(first, 'a');
        assert_eq!(std::iter::from_fn(|| pending.release()).collect::<Vec<_>>(), [(0, 'a'), (1, 'b'), (2, 'c')]);
        let later = pending.push(4, 1, None);
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
            let _ = pending.push((), 0, None);
        }
        assert!(!pending.has_room(0));
    }

    #[test]
    fn a_user_takes_no_more_than_is_free_beside_its_messages() {
        let [one, other] = [1, 2].map(|number| UserId(uuid::Uuid::from_u128(number)));
        let mut pending: Pending<(), ()> = Pending::default();
        let mut fill = |user: UserId, bytes: usize| {
            let mut places = Vec::new();
            while pending.has_room_for(user, bytes) {
                places.push(pending.push((), bytes, Some(user)));
            }
            pending.invariants();
            places
        };
        let ones = fill(one, 0);
        assert_eq!(ones.len(), CHANNEL_PENDING_MAX / 2, "a single user fills a half");
        assert_eq!(fill(other, 0).len(), CHANNEL_PENDING_MAX / 4, "there is room for one more");
        let mut pending: Pending<(), ()> = Pending::default();
        let half = CHANNEL_PENDING_BYTES_MAX / 2;
        assert!(pending.has_room_for(one, half) && !pending.has_room_for(other, CHANNEL_PENDING_BYTES_MAX + 1));
        let place = pending.push((), half, Some(one));
        assert!(!pending.has_room_for(one, 1) && pending.has_room_for(other, half));
        pending.decide(place, ());
        assert!(pending.release().is_some());
        assert!(pending.has_room_for(one, half), "what is released is free again");
        assert!(pending.shares.is_empty());
    }
}
