//! Adds and deletes notifications.

use engine::id::{NotificationId, Timestamp, UserId};
use engine::social::notification::{Notice, Notification, Wording};

use crate::Failure;
use crate::inbox::{Inbox, NOTIFICATIONS_MAX};
use crate::rows::Rows;

/// Stores a notification for a user. If the user has the maximum, the oldest is removed.
pub fn notify(
    rows: &mut impl Rows,
    user: UserId,
    sender: UserId,
    wording: &Wording,
    time: Timestamp,
) -> Result<Notice, Failure> {
    let mut inbox = rows.inbox(user)?;
    let time = inbox.time(time);
    let notification = Notification {
        id: inbox.next_id(user, time)?,
        subject: wording.subject.as_str().into(),
        content: wording.content.as_str().into(),
        code: wording.code,
        sender,
        create_time: time,
    };
    if inbox.count >= NOTIFICATIONS_MAX
        && let Some(oldest) = rows.oldest_notification(user, inbox.floor)?
    {
        rows.remove_notification(user, oldest);
        inbox = Inbox { count: inbox.count - 1, floor: Some(oldest), ..inbox };
    }
    rows.put_notification(user, &notification);
    rows.set_inbox(user, Inbox { count: inbox.count + 1, last: Some(notification.id), ..inbox });
    Ok(Notice { user, notification })
}

/// Deletes those of these notifications that the user has.
pub fn delete(rows: &mut impl Rows, user: UserId, ids: &[NotificationId]) -> Result<(), Failure> {
    let mut inbox = rows.inbox(user)?;
    let count = inbox.count;
    for &id in ids {
        if rows.has_notification(user, id)? {
            rows.remove_notification(user, id);
            inbox.count = inbox.count.saturating_sub(1);
        }
    }
    if inbox.count != count {
        rows.set_inbox(user, inbox);
    }
    Ok(())
}
