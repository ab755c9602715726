//! A user's notifications, as the stores keep them: numbered so that a cursor never skips one, and bounded.

use engine::id::{MessageId, NotificationId, Timestamp, UserId};
use engine::message_id::{MessageIds, latest_time};
use xxhash_rust::xxh3::xxh3_64;

use crate::Failure;

/// Notifications kept for a user; the oldest makes room for one more.
pub const NOTIFICATIONS_MAX: u32 = 10_000;

/// What is kept of a user's notifications as a whole.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) struct Inbox {
    pub count: u32,
    /// The newest id that was given, deleted ones included.
    pub last: Option<NotificationId>,
    /// The newest that made room: all there are lie behind it, so that nobody looks for the oldest among removed ones.
    pub floor: Option<NotificationId>,
}

impl Inbox {
    /// The time of a notification that comes now: not before the last one's, although that may have been written by a server whose
    /// clock was ahead.
    pub fn time(&self, now: Timestamp) -> Timestamp {
        let last = self.last.and_then(|last| latest_time(MessageId(last.0)));
        // Within one millisecond the clock is exacter than the id.
        last.filter(|last| last.milliseconds() > now.milliseconds()).unwrap_or(now)
    }

    /// The next id: greater than every one given to this user, whatever the clock does, and the same on every keeper.
    pub fn next_id(&self, user: UserId, time: Timestamp) -> Result<NotificationId, Failure> {
        let mut ids = MessageIds::after(self.last.map(|last| MessageId(last.0)));
        // Users of one moment have different ids; nobody can do anything with another's.
        let random = xxh3_64(user.0.as_bytes()) as u32;
        match ids.next(time, random) {
            Ok(id) => Ok(NotificationId(id.0)),
            Err(_) => Err(Failure::Corrupt(format!("the last notification of {user} has an id beyond all time"))),
        }
    }
}
