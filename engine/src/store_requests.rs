//! The requests of a shard that the store has not answered.
//!
//! Users share them, as they share the queue of a channel: requests that a user has asked for take at most as much of
//! `STORE_REQUESTS_MAX` as is free beside them. So a single user fills a half, two users fill two thirds, and there is
//! always room for one more.

use std::collections::HashMap;

use crate::id::{Timestamp, UserId};
use crate::limits::STORE_REQUESTS_MAX;
use crate::outbox::{Asker, Purpose};
use crate::persist::Ticket;

/// Requests under way at the store.
#[derive(Default)]
pub struct StoreRequests {
    /// With the askers, and since when.
    asked: HashMap<Ticket, (Asker, Timestamp)>,
    tickets: u64,
    /// How many of them users have asked for.
    shares: HashMap<UserId, usize>,
}

impl StoreRequests {
    /// Whether a channel may ask for this. Requests for its head, its newest messages and members that enter again are bounded
    /// by the number of channels.
    pub fn has_room_for(&self, purpose: &Purpose) -> bool {
        let Purpose::Decision(_, user) = purpose else { return true };
        let own = user.and_then(|user| self.shares.get(&user).copied()).unwrap_or(0);
        self.asked.len() + own < STORE_REQUESTS_MAX
    }

    /// Notes a request, which the store gets with this ticket. Requests of followers are bounded by the number of
    /// connections.
    pub fn ask(&mut self, asker: Asker, now: Timestamp) -> Ticket {
        if let Some(user) = user(&asker) {
            *self.shares.entry(user).or_default() += 1;
        }
        self.tickets += 1;
        let ticket = Ticket(self.tickets);
        self.asked.insert(ticket, (asker, now));
        ticket
    }

    /// The store has answered: returns who has asked, and when.
    pub fn answered(&mut self, ticket: Ticket) -> (Asker, Timestamp) {
        let (asker, asked) = self.asked.remove(&ticket).expect("the store answers what it was asked, once");
        if let Some(user) = user(&asker)
            && let Some(share) = self.shares.get_mut(&user)
        {
            *share -= 1;
            if *share == 0 {
                self.shares.remove(&user);
            }
        }
        (asker, asked)
    }

    /// How many requests the store has not answered.
    pub fn len(&self) -> usize {
        self.asked.len()
    }

    /// Asserts what the type promises. Looks at every request.
    pub fn invariants(&self) {
        let of_users = self.asked.values().filter(|(asker, _)| user(asker).is_some()).count();
        assert_eq!(self.shares.values().sum::<usize>(), of_users, "requests of users");
    }
}

/// The user that has asked for it, if a user fills a share.
fn user(asker: &Asker) -> Option<UserId> {
    match asker {
        Asker::Channel(_, _, Purpose::Decision(_, user)) => *user,
        Asker::Channel(_, _, Purpose::Head | Purpose::Newest(_) | Purpose::Entry(_)) | Asker::Follower(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;
    use crate::channel::pending::{Pending, PendingPlace};
    use crate::id::{ChannelId, Epoch};

    /// Lets the user ask until there is no room for it. Returns the tickets.
    fn fill(requests: &mut StoreRequests, pending: &mut Pending<(), ()>, user: Option<UserId>) -> Vec<Ticket> {
        let mut tickets = Vec::new();
        loop {
            let place: PendingPlace = pending.push((), 0, None);
            let purpose = Purpose::Decision(place, user);
            if !requests.has_room_for(&purpose) {
                return tickets;
            }
            let channel = ChannelId::room("hall").expect("a name");
            tickets.push(requests.ask(Asker::Channel(channel, Epoch(1), purpose), Timestamp::default()));
        }
    }

    #[test]
    fn a_user_fills_a_half_and_leaves_room_for_others() {
        let (mut requests, mut pending) = (StoreRequests::default(), Pending::default());
        let [first, second] = [1, 2].map(|number| Some(UserId(Uuid::from_u128(number))));
        let of_first = fill(&mut requests, &mut pending, first);
        assert_eq!(of_first.len(), STORE_REQUESTS_MAX / 2);
        assert_eq!(fill(&mut requests, &mut pending, second).len(), STORE_REQUESTS_MAX / 4);
        requests.invariants();

        // What is answered makes room for the same user again.
        for ticket in of_first {
            requests.answered(ticket);
        }
        requests.invariants();
        assert_eq!(fill(&mut requests, &mut pending, first).len(), 3 * STORE_REQUESTS_MAX / 8);
        // The server itself may take all the rest.
        fill(&mut requests, &mut pending, None);
        assert_eq!(requests.len(), STORE_REQUESTS_MAX);
    }
}
