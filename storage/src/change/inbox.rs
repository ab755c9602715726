//! Adds and deletes notifications.

use engine::id::{NotificationId, Timestamp, UserId};
use engine::social::friend::FriendState;
use engine::social::notification::{Notice, Notification, Wording};

use crate::Failure;
use crate::inbox::{Inbox, NOTIFICATIONS_MAX};
use crate::repeats::SentRequest;
use crate::rows::Rows;

/// Stores a notification for a user. If the user has the maximum, the oldest is removed. A sender who is no friend of the
/// user removes one in `FULL_INTERVAL_NS` for each kind of notification; others are not stored, and the result is `None`.
pub fn notify(
    rows: &mut impl Rows,
    user: UserId,
    sender: UserId,
    wording: &Wording,
    time: Timestamp,
) -> Result<Option<Notice>, Failure> {
    let mut inbox = rows.inbox(user)?;
    if inbox.count >= NOTIFICATIONS_MAX && !may_remove_oldest(rows, user, sender, wording, time)? {
        return Ok(None);
    }
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
    Ok(Some(Notice { user, notification }))
}

/// Whether a notification may take the place of the user's oldest.
fn may_remove_oldest(
    rows: &mut impl Rows,
    user: UserId,
    sender: UserId,
    wording: &Wording,
    time: Timestamp,
) -> Result<bool, Failure> {
    if rows.edge(user, sender)?.is_some_and(|edge| edge.state == FriendState::Friend) {
        return Ok(true);
    }
    let request = SentRequest::IntoFull { sender, user, code: wording.code as i32 };
    let is_new = !rows.is_repeated(request, time);
    if is_new {
        rows.note_sent(request, time);
    }
    Ok(is_new)
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
