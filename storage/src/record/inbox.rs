//! Records of notifications.

use std::sync::Arc;

use engine::id::{NotificationId, Timestamp, UserId};
use engine::social::notification::{Notification, NotificationCode};
use rkyv::with::InlineAsBox;
use rkyv::{Archive, Deserialize, Serialize};
use uuid::Uuid;

use super::{Damage, Kind, access, encode};
use crate::inbox::Inbox;

/// A notification without the parts that its key contains: its user and its id.
#[derive(Archive, Serialize)]
struct NotificationV1<'a> {
    sender: [u8; 16],
    create_time: i64,
    code: i32,
    #[rkyv(with = InlineAsBox)]
    subject: &'a str,
    #[rkyv(with = InlineAsBox)]
    content: &'a str,
}

/// Absent ids are nil.
#[derive(Archive, Serialize, Deserialize)]
struct InboxV1 {
    count: u32,
    last: [u8; 16],
    floor: [u8; 16],
}

pub(crate) fn encode_notification(notification: &Notification) -> Vec<u8> {
    encode(
        Kind::Notification,
        &NotificationV1 {
            sender: notification.sender.0.into_bytes(),
            create_time: notification.create_time.0,
            code: notification.code as i32,
            subject: &notification.subject,
            content: &notification.content,
        },
    )
}

/// The notification under the key of `id`.
pub(crate) fn decode_notification(id: NotificationId, bytes: &[u8]) -> Result<Notification, Damage> {
    let record = access::<ArchivedNotificationV1>(Kind::Notification, bytes)?;
    let number = record.code.to_native();
    Ok(Notification {
        id,
        subject: Arc::from(&*record.subject),
        content: Arc::from(&*record.content),
        code: NotificationCode::from_number(number).ok_or(Damage::Number { what: "notification code", number })?,
        sender: UserId(Uuid::from_bytes(record.sender)),
        create_time: Timestamp(record.create_time.to_native()),
    })
}

pub(crate) fn encode_inbox(inbox: Inbox) -> Vec<u8> {
    let bytes = |id: Option<NotificationId>| id.map_or(Uuid::nil(), |id| id.0).into_bytes();
    let ids = [inbox.last, inbox.floor];
    debug_assert!(ids.iter().flatten().all(|id| !id.0.is_nil()), "a nil id would be read as none: {inbox:?}");
    encode(Kind::Inbox, &InboxV1 { count: inbox.count, last: bytes(inbox.last), floor: bytes(inbox.floor) })
}

pub(crate) fn decode_inbox(bytes: &[u8]) -> Result<Inbox, Damage> {
    let record = access::<ArchivedInboxV1>(Kind::Inbox, bytes)?;
    let id = |bytes: [u8; 16]| Some(Uuid::from_bytes(bytes)).filter(|id| !id.is_nil()).map(NotificationId);
    Ok(Inbox { count: record.count.to_native(), last: id(record.last), floor: id(record.floor) })
}
