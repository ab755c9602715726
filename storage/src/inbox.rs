//! A user's notifications, as the stores keep them: numbered so that a cursor never skips one, and bounded in number.

use engine::id::{MessageId, NotificationId, Timestamp, UserId};
use engine::message_id::{MessageIds, latest_time};
use xxhash_rust::xxh3::xxh3_64;

use crate::Failure;

/// Most notifications kept for a user; the oldest is removed to make room for a new one.
pub const NOTIFICATIONS_MAX: u32 = 10_000;

/// The facts that are stored about a user's notifications as a whole.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Inbox {
    pub count: u32,
    /// The newest id that was given out, even if that notification was deleted.
    pub last: Option<NotificationId>,
    /// The newest notification that was removed to make room. All existing ones come after it, so the search for the
    /// oldest skips the removed ones.
    pub floor: Option<NotificationId>,
}

impl Inbox {
    /// The time of a notification that is made now. It is not before the last one's, even if a server whose clock was
    /// ahead has written that one.
    pub(crate) fn time(&self, now: Timestamp) -> Timestamp {
        let last = self.last.and_then(|last| latest_time(MessageId(last.0)));
        // Within one millisecond the clock is more exact than the id.
        let time = last.filter(|last| last.milliseconds() > now.milliseconds()).unwrap_or(now);
        debug_assert!(time >= now, "no notification is from before it was made");
        time
    }

    /// The next id: greater than every id given to this user, whatever the clock does, and the same in every store.
    pub(crate) fn next_id(&self, user: UserId, time: Timestamp) -> Result<NotificationId, Failure> {
        let mut ids = MessageIds::after(self.last.map(|last| MessageId(last.0)));
        // This makes ids of different users differ even at the same time. It need not be secret: a user can do nothing
        // with another user's id.
        let random = xxh3_64(user.0.as_bytes());
        match ids.next(time, random) {
            Ok(id) => {
                debug_assert!(self.last.is_none_or(|last| last.0 < id.0), "ids of {user} rise");
                Ok(NotificationId(id.0))
            }
            Err(_) => Err(Failure::Corrupt(format!("the last notification of {user} has an id beyond all time"))),
        }
    }
}
