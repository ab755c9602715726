//! Changes of statuses that the sessions of this shard have not been told yet.
//!
//! A session may change its status many times before the others are told, and one user may have many sessions. So the
//! changes of a turn are gathered: of each session only the newest counts, and all sessions of a user that changed are
//! told of in one event. The cost of a turn is then bounded by events and their receivers, not by changes times
//! receivers.

use std::collections::{BTreeMap, HashMap, VecDeque};

use crate::id::{ConnectionId, SessionId, UserId};
use crate::message::StatusPresence;

/// The gathered changes. There is at most one for each session that is visible, or that was visible when the others
/// were last told.
#[derive(Default)]
pub struct Untold {
    /// Users with changes, in the order of their first change.
    users: VecDeque<UserId>,
    changes: HashMap<UserId, BTreeMap<SessionId, Change>>,
}

/// What a session shows now.
#[derive(Default)]
pub struct Change {
    /// `None`: the session is not visible any more.
    pub after: Option<StatusPresence>,
    /// Requests of the session that are answered when the change is told, in order.
    pub waiting: Vec<Waiting>,
}

/// A request that is answered when a change is told.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Waiting {
    pub connection: ConnectionId,
    pub number: u32,
    pub kind: WaitingKind,
}

/// What the answer is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum WaitingKind {
    /// The session has opened: the event itself is the first frame that it receives.
    Opening,
    /// The session has changed its status: the answer follows the event.
    Update,
}

/// Bytes of an event beside the status, for each session that it tells of.
const PRESENCE_BYTES: usize = 256;

impl Untold {
    /// Notes what a session shows now.
    pub fn note(&mut self, user: UserId, session: SessionId, after: Option<StatusPresence>) {
        self.change(user, session).after = after;
    }

    /// Lets a request wait until the session's change is told. The change must have been noted.
    pub fn wait(&mut self, user: UserId, session: SessionId, waiting: Waiting) {
        self.change(user, session).waiting.push(waiting);
    }

    fn change(&mut self, user: UserId, session: SessionId) -> &mut Change {
        let changes = self.changes.entry(user).or_insert_with(|| {
            self.users.push_back(user);
            BTreeMap::new()
        });
        changes.entry(session).or_default()
    }

    /// What a session shows, if it has changed; `Some(None)` if it shows nothing any more.
    pub fn newest(&self, user: UserId, session: SessionId) -> Option<Option<&StatusPresence>> {
        Some(self.changes.get(&user)?.get(&session)?.after.as_ref())
    }

    /// Takes changes of the user whose changes wait longest: as many as make an event of about `bytes_max` bytes, and at
    /// least one. Further changes of the user stay first.
    pub fn take(&mut self, bytes_max: usize) -> Option<(UserId, Vec<(SessionId, Change)>)> {
        let user = *self.users.front()?;
        let changes = self.changes.get_mut(&user)?;
        let (mut taken, mut bytes) = (Vec::new(), 0);
        while bytes < bytes_max
            && let Some((session, change)) = changes.pop_first()
        {
            bytes += PRESENCE_BYTES + change.after.as_ref().map_or(0, |presence| presence.status.len());
            taken.push((session, change));
        }
        if changes.is_empty() {
            self.changes.remove(&user);
            self.users.pop_front();
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
