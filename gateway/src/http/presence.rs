//! The members of a channel, page by page: `GET /v2/channel/{channel_id}/presence` (docs/protocol.md, section 2.10).
//!
//! The channel's owner answers, and the caller need not be a member. The store is only asked whether the caller may
//! read a group's channel.

use engine::limits::PRESENCE_PAGE_MAX;
use engine::message::Presence;
use engine::query::{PresencePage, PresenceQuery};
use engine::wire::json::channel_presence;
use serde::{Serialize, Serializer};

use super::answer::{self, Answer};
use super::costs::ROW;
use super::error::Refusal;
use super::history::readable_channel;
use super::query::Query;
use super::resource_request::ResourceRequest;
use super::services::Services;

const LIMIT_DEFAULT: i32 = 100;
const LIMIT_MAX: i32 = PRESENCE_PAGE_MAX as i32;

/// Lists visible members of a channel, in the order of their sessions. `channel` is the decoded id. Refused if the
/// caller may not read the channel, or the query is malformed.
pub async fn list(services: &Services, request: &ResourceRequest, channel: &str) -> Result<Answer, Refusal> {
    let caller = request.user(services)?;
    let query = Query::parse(request.uri().query())?;
    let channel = readable_channel(services, channel, caller).await?;
    let limit = query.limit(LIMIT_DEFAULT, LIMIT_MAX)?;
    let after = match query.text("cursor")? {
        None | Some("") => None,
        Some(text) => {
            let session = services.cursors.decode_presence(&channel, text);
            Some(session.ok_or_else(|| Refusal::invalid("this cursor is not of this channel's presence"))?)
        }
    };
    let question = PresenceQuery { after, limit };
    let reserved = request.reserve(services, ROW.times(limit));
    let PresencePage { presences, count } = services.channel_queries().ask(channel.clone(), question).await;
    services.settle(reserved, ROW.times(presences.len()));
    let last = presences.last().filter(|_| presences.len() == limit);
    let cursor = last.map(|last| services.cursors.encode_presence(&channel, last.session));
    Ok(answer::json(&List { presences: &presences, presence_count: count, cursor }))
}

#[derive(Serialize)]
struct List<'a> {
    #[serde(skip_serializing_if = "<[_]>::is_empty", serialize_with = "items")]
    presences: &'a [Presence],
    #[serde(skip_serializing_if = "is_zero")]
    presence_count: usize,
    #[serde(skip_serializing_if = "Option::is_none")]
    cursor: Option<String>,
}

fn items<S: Serializer>(presences: &[Presence], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_seq(presences.iter().map(channel_presence))
}

fn is_zero(number: &usize) -> bool {
    *number == 0
}
