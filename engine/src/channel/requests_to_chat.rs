//! Who has asked whom to chat a moment ago, so that equal requests are not stored and told one after the other.
//!
//! A direct channel remembers the requests of its two users. When it is dropped, its owner keeps what it remembers.

use std::collections::{BTreeSet, HashMap};

use crate::id::{ChannelId, Monotonic, UserId};
use crate::limits::{REQUEST_TO_CHAT_INTERVAL, REQUESTS_TO_CHAT_KEPT_MAX};

/// Whether a join sends the other user of a direct channel a request to chat.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum DirectRequest {
    Send,
    /// The other is a visible member of the channel, or the user has asked a moment ago.
    NotNeeded,
}

/// The requests of a direct channel: at most one of each of its two users.
#[derive(Default)]
pub struct RequestsToChat(Vec<(UserId, State)>);

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum State {
    /// The store has not decided on the join that sends it.
    Undecided,
    Sent(Monotonic),
}

impl State {
    /// Whether the request is so new that an equal one is not sent.
    fn is_new(self, now: Monotonic) -> bool {
        match self {
            Self::Undecided => true,
            Self::Sent(at) => at.plus(REQUEST_TO_CHAT_INTERVAL) > now,
        }
    }
}

impl RequestsToChat {
    /// Whether a join of the user sends a request, which is undecided then.
    ///
    /// A join beside an undecided one sends none. If the store then fails the other, its client joins again, and that
    /// join sends the request.
    pub fn ask(&mut self, user: UserId, now: Monotonic) -> DirectRequest {
        self.0.retain(|(_, state)| state.is_new(now));
        if self.0.iter().any(|(asker, _)| *asker == user) {
            return DirectRequest::NotNeeded;
        }
        self.0.push((user, State::Undecided));
        DirectRequest::Send
    }

    /// The store has sent the user's request.
    pub fn sent(&mut self, user: UserId, now: Monotonic) {
        self.not_sent(user);
        self.0.push((user, State::Sent(now)));
    }

    /// The store has not sent the user's request, so the user's next join sends it.
    pub fn not_sent(&mut self, user: UserId) {
        self.0.retain(|(asker, _)| *asker != user);
    }

    /// Forgets all requests: one of the users has blocked the other, so what was asked before is over.
    pub fn forget(&mut self) {
        self.0.clear();
    }

    /// Until when equal requests are not sent; `None` if no request was sent.
    fn until(&self) -> Option<Monotonic> {
        let sent = self.0.iter().filter_map(|(_, state)| match state {
            State::Sent(at) => Some(at.plus(REQUEST_TO_CHAT_INTERVAL)),
            State::Undecided => None,
        });
        sent.max()
    }
}

/// The requests of direct channels that were dropped: of at most `REQUESTS_TO_CHAT_KEPT_MAX` channels.
#[derive(Default)]
pub struct KeptRequests {
    channels: HashMap<ChannelId, RequestsToChat>,
    /// The same channels, each with the time until which it is kept. The first is forgotten first.
    order: BTreeSet<(Monotonic, ChannelId)>,
}

impl KeptRequests {
    /// Keeps the requests of a channel that is dropped. If too many are kept, the oldest are forgotten.
    pub fn keep(&mut self, channel: ChannelId, requests: RequestsToChat, now: Monotonic) {
        let Some(until) = requests.until().filter(|until| *until > now) else { return };
        if self.order.len() >= REQUESTS_TO_CHAT_KEPT_MAX {
            self.forget_first();
        }
        self.order.insert((until, channel.clone()));
        self.channels.insert(channel, requests);
        debug_assert_eq!(self.order.len(), self.channels.len(), "a channel is dropped once");
    }

    /// Takes the requests of a channel that is made again.
    pub fn take(&mut self, channel: &ChannelId) -> RequestsToChat {
        let requests = self.channels.remove(channel).unwrap_or_default();
        if let Some(until) = requests.until() {
            self.order.remove(&(until, channel.clone()));
        }
        requests
    }

    /// Forgets the requests that are old. Must be called once a turn.
    pub fn forget_old(&mut self, now: Monotonic) {
        while self.order.first().is_some_and(|(until, _)| *until <= now) {
            self.forget_first();
        }
    }

    fn forget_first(&mut self) {
        if let Some((_, channel)) = self.order.pop_first() {
            self.channels.remove(&channel);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn user(number: u128) -> UserId {
        UserId(uuid::Uuid::from_u128(number))
    }

    fn sent_at(now: Monotonic) -> RequestsToChat {
        let mut requests = RequestsToChat::default();
        assert_eq!(requests.ask(user(1), now), DirectRequest::Send);
        requests.sent(user(1), now);
        requests
    }

    #[test]
    fn an_equal_request_waits_for_the_interval_and_the_other_user_for_nothing() {
        let (now, mut requests) = (Monotonic(5), RequestsToChat::default());
        assert_eq!(requests.ask(user(1), now), DirectRequest::Send);
        assert_eq!(requests.ask(user(1), now), DirectRequest::NotNeeded, "one is undecided");
        assert_eq!(requests.ask(user(2), now), DirectRequest::Send);
        requests.not_sent(user(1));
        assert_eq!(requests.ask(user(1), now), DirectRequest::Send);
        requests.sent(user(1), Monotonic(7));
        let later = Monotonic(7).plus(REQUEST_TO_CHAT_INTERVAL);
        assert_eq!(requests.ask(user(1), Monotonic(later.0 - 1)), DirectRequest::NotNeeded);
        assert_eq!(requests.ask(user(1), later), DirectRequest::Send);
        requests.forget();
        assert_eq!(requests.ask(user(1), later), DirectRequest::Send);
    }

    #[test]
    fn a_channel_that_is_made_again_knows_its_requests_for_the_interval() {
        let channel = |number| ChannelId::direct(user(1), user(number));
        let (now, mut kept) = (Monotonic(5), KeptRequests::default());
        kept.keep(channel(2), RequestsToChat::default(), now);
        assert!(kept.order.is_empty(), "there is nothing to keep");
        kept.keep(channel(2), sent_at(now), now);
        let mut requests = kept.take(&channel(2));
        assert!(kept.order.is_empty(), "what was taken takes no place");
        assert_eq!(requests.ask(user(1), now.plus(Duration::from_secs(1))), DirectRequest::NotNeeded);
        // The channel is dropped again with a newer request.
        let second = now.plus(Duration::from_secs(1));
        requests.sent(user(1), second);
        kept.keep(channel(2), requests, second);
        kept.forget_old(now.plus(REQUEST_TO_CHAT_INTERVAL));
        assert_eq!(kept.channels.len(), 1);
        kept.forget_old(second.plus(REQUEST_TO_CHAT_INTERVAL));
        assert!(kept.channels.is_empty() && kept.order.is_empty());
        for number in 0..REQUESTS_TO_CHAT_KEPT_MAX as u128 + 3 {
            kept.keep(channel(number + 2), sent_at(now), now);
        }
        assert_eq!((kept.channels.len(), kept.order.len()), (REQUESTS_TO_CHAT_KEPT_MAX, REQUESTS_TO_CHAT_KEPT_MAX));
    }
}
