//! Which requests were sent a moment ago. A user who asks another user, takes it back and asks again, over and over,
//! notifies the other once in `REPEAT_INTERVAL_NS`. When the other accepts, the next request is a new one. So it is with
//! all that a user can do again and again to fill another user's inbox.
//!
//! This is kept in memory alone, so a restart forgets it. When too many requests are kept, those that were sent first are
//! forgotten, and their repetitions notify again.

use engine::id::{GroupId, Timestamp, UserId};

use crate::generations::Generations;

/// How long a repeated request notifies no user.
pub const REPEAT_INTERVAL_NS: i64 = 60 * 1_000_000_000;

/// How many notifications about groups a user causes another to get within `REPEAT_INTERVAL_NS`. A group that was just
/// made is always a new one, so a bound for each group would be none.
pub const GROUP_NOTICES_MAX: u8 = 4;

/// How long a user whose inbox is full is told nothing more of one kind by the same user who is no friend: a day. What is
/// told removes the oldest notification.
pub const FULL_INTERVAL_NS: i64 = 24 * 3600 * 1_000_000_000;

/// Requests that are kept, at some hundred bytes each.
pub const SENT_REQUESTS_MAX: usize = 64 * 1024;

/// What was asked, or done, and of whom.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum SentRequest {
    /// A user asks another to be friends.
    Friend { user: UserId, other: UserId },
    /// A user takes such a request back, refuses one, or ends a friendship, and the other is notified.
    Removed { user: UserId, other: UserId },
    /// A user asks to join a group, and the group's admins are notified.
    Join { user: UserId, group: GroupId },
    /// A user is added to a group, and is notified.
    Added { user: UserId, group: GroupId },
    /// The notification with this number, from 0, that a user causes another to get about any group.
    AboutGroups { actor: UserId, user: UserId, number: u8 },
    /// A user causes a notification with this code of another user who is no friend and whose inbox is full.
    IntoFull { sender: UserId, user: UserId, code: i32 },
}

impl SentRequest {
    fn interval_ns(&self) -> i64 {
        match self {
            Self::IntoFull { .. } => FULL_INTERVAL_NS,
            _ => REPEAT_INTERVAL_NS,
        }
    }
}

/// When each request was sent last.
pub struct SentRequests(Generations<SentRequest, Timestamp>);

impl Default for SentRequests {
    fn default() -> Self {
        let any_may_be_dropped = |_: &Timestamp| false;
        Self(Generations::new(SENT_REQUESTS_MAX / 2, any_may_be_dropped))
    }
}

impl SentRequests {
    /// Whether the same request was sent within the interval before this time. If the clock was set back since then, it
    /// counts as new.
    pub fn is_repeated(&mut self, request: SentRequest, time: Timestamp) -> bool {
        let interval = 0..request.interval_ns();
        self.0.get(&request).is_some_and(|sent| interval.contains(&time.0.saturating_sub(sent.0)))
    }

    /// Keeps that the request was sent at this time.
    pub fn note(&mut self, request: SentRequest, time: Timestamp) {
        self.0.insert(request, time);
    }

    /// Forgets a request: it was not sent after all, or it was answered, and the next one is a new one.
    pub fn forget(&mut self, request: SentRequest) {
        self.0.remove(&request);
    }
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;

    fn request(number: u128) -> SentRequest {
        let user = |number| UserId(Uuid::from_u128(number));
        SentRequest::Friend { user: user(number), other: user(0) }
    }

    #[test]
    fn a_request_is_repeated_within_the_interval_after_it_was_sent() {
        let mut sent = SentRequests::default();
        let first = Timestamp(7);
        assert!(!sent.is_repeated(request(1), first));
        sent.note(request(1), first);
        let after = |ns| Timestamp(first.0 + ns);
        for (time, expected) in [
            (first, true),
            (after(REPEAT_INTERVAL_NS - 1), true),
            (after(REPEAT_INTERVAL_NS), false),
            (after(-1), false),
            (Timestamp(i64::MAX), false),
            (Timestamp(i64::MIN), false),
        ] {
            assert_eq!(sent.is_repeated(request(1), time), expected, "{time:?}");
        }
        assert!(!sent.is_repeated(request(2), first));
        sent.forget(request(1));
        assert!(!sent.is_repeated(request(1), first));
    }

    #[test]
    fn so_many_are_kept() {
        let mut sent = SentRequests::default();
        for number in 0..2 * SENT_REQUESTS_MAX as u128 {
            sent.note(request(number), Timestamp(0));
        }
        assert!(sent.0.len() <= SENT_REQUESTS_MAX);
        assert!(!sent.is_repeated(request(0), Timestamp(0)));
        assert!(sent.is_repeated(request(2 * SENT_REQUESTS_MAX as u128 - 1), Timestamp(0)));
    }
}
