//! When the users of a direct channel were last asked to chat, so that equal requests are not sent one after the other.

use crate::id::{Monotonic, UserId};
use crate::limits::REQUEST_TO_CHAT_INTERVAL;

/// The requests of the last `REQUEST_TO_CHAT_INTERVAL`, of two users at most.
#[derive(Default)]
pub struct RequestsToChat(Vec<(UserId, Monotonic)>);

impl RequestsToChat {
    /// Whether the user has sent no request within the interval. If so, the user is taken to send one now.
    pub fn may_send(&mut self, user: UserId, now: Monotonic) -> bool {
        self.forget_old(now);
        let may_send = self.0.iter().all(|(sender, _)| *sender != user);
        if may_send {
            self.0.push((user, now));
        }
        may_send
    }

    /// The user's request was not sent, so the next one is.
    pub fn not_sent(&mut self, user: UserId) {
        self.0.retain(|(sender, _)| *sender != user);
    }

    /// Forgets requests from before the interval.
    pub fn forget_old(&mut self, now: Monotonic) {
        self.0.retain(|(_, sent)| sent.plus(REQUEST_TO_CHAT_INTERVAL) > now);
    }

    /// When the next request is to be forgotten; `None` if there is none.
    pub fn due(&self) -> Option<Monotonic> {
        self.0.iter().map(|(_, sent)| sent.plus(REQUEST_TO_CHAT_INTERVAL)).min()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_request_waits_for_the_interval_and_the_other_user_for_nothing() {
        let mut requests = RequestsToChat::default();
        let [ada, bob] = [1, 2].map(|number| UserId(uuid::Uuid::from_u128(number)));
        let later = Monotonic(5).plus(REQUEST_TO_CHAT_INTERVAL);
        assert!(requests.may_send(ada, Monotonic(5)));
        assert!(!requests.may_send(ada, Monotonic(later.0 - 1)));
        assert!(requests.may_send(bob, Monotonic(6)));
        assert_eq!(requests.due(), Some(later));
        assert!(requests.may_send(ada, later), "the interval counts from the request that was sent");
        requests.not_sent(ada);
        assert!(requests.may_send(ada, later));
        requests.forget_old(later.plus(REQUEST_TO_CHAT_INTERVAL));
        assert_eq!(requests.due(), None);
    }
}
