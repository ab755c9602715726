//! The caller's stored notifications: `GET` and `DELETE /v2/notification` (docs/protocol.md, section 9).

use engine::id::{NotificationId, UserId, parse_uuid};
use engine::social::notification::Notification;
use engine::wire::json::notification;
use serde::{Serialize, Serializer};
use storage::Part;
use uuid::Uuid;

use super::answer::{self, Answer};
use super::costs::{ROW, of_limit, of_part};
use super::error::Refusal;
use super::query::Query;
use super::resource_request::ResourceRequest;
use super::services::Services;

const LIMIT_DEFAULT: i32 = 1;
const LIMIT_MAX: i32 = 100;

/// Lists them, oldest first. Every answer has the cursor, because a client uses it to ask for newer ones later.
/// Refused if the limit or the cursor is malformed.
pub async fn list(services: &Services, request: &ResourceRequest) -> Result<Answer, Refusal> {
    let caller = request.user(services)?;
    let query = Query::parse(request.uri().query())?;
    let limit = query.limit(LIMIT_DEFAULT, LIMIT_MAX)?;
    let after = match query.text("cacheable_cursor")? {
        None | Some("") => None,
        Some(text) => place(services, caller, text)
            .ok_or_else(|| Refusal::invalid("this cursor is not of the caller's notifications"))?,
    };
    let reserved = request.reserve(services, of_limit(limit, ROW));
    let read = services.store_for(caller).notifications(caller, after, limit).await?;
    services.settle(reserved, of_part(&read, ROW));
    let Part { items: notifications, stopped } = read;
    let seen = stopped.or(notifications.last().map(|last| last.id)).or(after);
    let cursor = services.cursors.encode_place(&listing(caller), seen.as_ref().map_or(&[], |id| id.0.as_bytes()));
    Ok(answer::json(&List { notifications: &notifications, cacheable_cursor: cursor }))
}

/// Deletes the notifications with these ids, if they belong to the caller. Refused if an id is malformed.
pub async fn delete(services: &Services, request: &ResourceRequest) -> Result<Answer, Refusal> {
    let caller = request.user(services)?;
    let query = Query::parse(request.uri().query())?;
    let id = |text| parse_uuid(text).map(NotificationId).ok_or_else(|| Refusal::invalid("ids has what is no UUID"));
    let ids = query.list("ids").map(id).collect::<Result<Vec<_>, _>>()?;
    if !ids.is_empty() {
        request.charge(services, ROW.times(ids.len()));
        services.store_for(caller).delete_notifications(caller, ids).await?;
    }
    Ok(answer::done())
}

fn listing(user: UserId) -> String {
    format!("notification/{user}")
}

/// The place in a cursor. The inner `None` is the place before the first notification.
fn place(services: &Services, caller: UserId, cursor: &str) -> Option<Option<NotificationId>> {
    match services.cursors.decode_place(&listing(caller), cursor)?.as_slice() {
        [] => Some(None),
        id => Some(Some(NotificationId(Uuid::from_slice(id).ok()?))),
    }
}

#[derive(Serialize)]
struct List<'a> {
    #[serde(skip_serializing_if = "<[_]>::is_empty", serialize_with = "items")]
    notifications: &'a [Notification],
    cacheable_cursor: String,
}

fn items<S: Serializer>(notifications: &[Notification], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_seq(notifications.iter().map(notification))
}
