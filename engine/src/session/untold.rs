//! Changes of statuses that the sessions of this shard have not been told yet.
//!
//! A session may change its status many times before the others are told, and one user may have many sessions. So the
//! changes of a turn are gathered: of each session only the newest counts, and all sessions of a user that changed are
//! told of in one event. The cost of a turn is then bounded by events and their receivers, not by changes times
//! receivers.

use std::collections::{HashMap, VecDeque};

use crate::id::{ConnectionId, SessionId, UserId};
use crate::limits::STATUS_PRESENCE_BYTES;
use crate::message::StatusPresence;

/// The gathered changes: at most one for each session that has changed since the others were last told. Users take
/// turns, and a user's sessions do too, so no change waits for changes that came later.
#[derive(Default)]
pub struct Untold {
    /// Users with changes. The first is told of next.
    users: VecDeque<UserId>,
    changes: HashMap<UserId, UserChanges>,
}

#[derive(Default)]
struct UserChanges {
    /// Sessions with changes, in the order of their first change.
    sessions: VecDeque<SessionId>,
    changes: HashMap<SessionId, Change>,
}

/// What a session shows now.
#[derive(Default)]
pub struct Change {
    /// `None`: the session is not visible any more.
    pub after: Option<StatusPresence>,
    /// The session has opened since, and this is what it showed then. It knows that much already, and it alone does.
    pub opened: Option<Opened>,
    /// Requests of the session that are answered when the change is told, in order.
    pub waiting: Vec<Waiting>,
}

/// A session that opened visibly.
pub struct Opened {
    pub connection: ConnectionId,
    pub shown: StatusPresence,
}

/// A request of a connection that is answered when a change is told.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Waiting {
    pub connection: ConnectionId,
    pub number: u32,
}

impl Untold {
    /// Notes what a session shows now. Returns the change, so that a request can wait until it is told.
    pub fn note(&mut self, user: UserId, session: SessionId, after: Option<StatusPresence>) -> &mut Change {
        let change = self.change(user, session);
        change.after = after;
        change
    }

    /// Notes a session that has opened visibly, and was told what it shows.
    pub fn open(&mut self, opened: Opened) {
        let StatusPresence { user, session, .. } = opened.shown;
        let shown = opened.shown.clone();
        self.note(user, session, Some(shown)).opened = Some(opened);
    }

    fn change(&mut self, user: UserId, session: SessionId) -> &mut Change {
        let UserChanges { sessions, changes } = self.changes.entry(user).or_insert_with(|| {
            self.users.push_back(user);
            UserChanges::default()
        });
        changes.entry(session).or_insert_with(|| {
            sessions.push_back(session);
            Change::default()
        })
    }

    /// What a session shows, if it has changed; `Some(None)` if it shows nothing any more.
    pub fn newest(&self, user: UserId, session: SessionId) -> Option<Option<&StatusPresence>> {
        Some(self.changes.get(&user)?.changes.get(&session)?.after.as_ref())
    }

    /// Takes changes of the user whose turn it is: as many as make an event of about `bytes_max` bytes, and at least one.
    /// Further changes of the user wait until all other users have had a turn.
    pub fn take(&mut self, bytes_max: usize) -> Option<(UserId, Vec<(SessionId, Change)>)> {
        let user = self.users.pop_front()?;
        let UserChanges { sessions, changes } = self.changes.get_mut(&user)?;
        let (mut taken, mut bytes) = (Vec::new(), 0);
        while bytes < bytes_max
            && let Some((session, change)) = sessions.pop_front().and_then(|session| changes.remove_entry(&session))
        {
            bytes += STATUS_PRESENCE_BYTES + change.after.as_ref().map_or(0, |presence| presence.status.len());
            taken.push((session, change));
        }
        debug_assert_eq!(sessions.len(), changes.len(), "each change has its place in the order");
        if changes.is_empty() {
            self.changes.remove(&user);
        } else {
            self.users.push_back(user);
        }
        Some((user, taken))
    }

    /// Whether everything has been told.
    pub fn is_empty(&self) -> bool {
        self.users.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;

    fn presence(user: UserId, session: SessionId, status: &str) -> StatusPresence {
        StatusPresence { user, session, username: "ada".into(), status: status.into() }
    }

    #[test]
    fn the_newest_of_each_session_counts_and_users_take_turns() {
        let mut untold = Untold::default();
        let [ada, bob] = [1, 2].map(|number| UserId(Uuid::from_u128(number)));
        let [first, second] = [10, 11].map(|number| SessionId(Uuid::from_u128(number)));
        untold.note(ada, first, Some(presence(ada, first, "old")));
        untold.note(bob, first, Some(presence(bob, first, "here")));
        untold.note(ada, second, None);
        untold.note(ada, first, Some(presence(ada, first, "new")));
        assert_eq!(untold.newest(ada, second), Some(None));
        assert_eq!(untold.newest(bob, second), None);
        let (user, changes) = untold.take(usize::MAX).unwrap();
        let shown: Vec<_> =
            changes.iter().map(|(_, change)| change.after.as_ref().map(|after| &*after.status)).collect();
        assert_eq!((user, shown), (ada, vec![Some("new"), None]));
        assert_eq!(untold.take(usize::MAX).unwrap().0, bob);
        assert!(untold.take(usize::MAX).is_none() && untold.is_empty() && untold.changes.is_empty());
    }

    #[test]
    fn a_user_that_changes_all_the_time_delays_no_other_and_none_of_its_own_sessions() {
        let mut untold = Untold::default();
        let [ada, bob] = [1, 2].map(|number| UserId(Uuid::from_u128(number)));
        let session = |number| SessionId(Uuid::from_u128(number));
        let mut seen = Vec::new();
        for round in 0..40 {
            // The first ten sessions change before each telling, and one event has room for four.
            for number in 0..10 {
                untold.note(ada, session(number), Some(presence(ada, session(number), "busy")));
            }
            if round == 0 {
                untold.note(ada, session(99), None);
                untold.note(bob, session(1), None);
            }
            let (user, changes) = untold.take(4 * (STATUS_PRESENCE_BYTES + 4)).unwrap();
            seen.extend(changes.into_iter().map(|(session, _)| (user, session)));
        }
        let place = |sought| seen.iter().position(|seen| *seen == sought);
        assert!(place((bob, session(1))).is_some_and(|place| place <= 4), "{:?}", place((bob, session(1))));
        assert!(place((ada, session(99))).is_some_and(|place| place <= 12), "{:?}", place((ada, session(99))));
    }

    #[test]
    fn an_event_is_bounded_and_no_change_is_left_out() {
        let mut untold = Untold::default();
        let ada = UserId(Uuid::from_u128(1));
        for number in 0..100 {
            let session = SessionId(Uuid::from_u128(number));
            untold.note(ada, session, Some(presence(ada, session, &"x".repeat(1000))));
        }
        let mut seen = Vec::new();
        while let Some((_, changes)) = untold.take(10_000) {
            assert!(changes.len() <= 8, "{}", changes.len());
            seen.extend(changes.into_iter().map(|(session, _)| session.0.as_u128()));
        }
        assert_eq!(seen, (0..100).collect::<Vec<_>>());
    }
}
