//! Message history: `GET /v2/channel/{channel_id}`, and `GET /v2/channel?channel_id=` for older clients
//! (docs/protocol.md, section 6).

use engine::id::{ChannelId, ChannelKind, MessageId, UserId, parse_uuid};
use engine::message::Message;
use engine::query::{NewestMessages, NewestQuery};
use engine::social::group::Role;
use engine::wire::json::channel_message;
use hyper::body::Bytes;
use serde::{Serialize, Serializer};
use storage::Part;

use super::answer::{self, Answer};
use super::costs::{ROW, of_limit, of_part};
use super::cursor::Direction;
use super::error::Refusal;
use super::paging::{Listing, Page};
use super::query::Query;
use super::resource_request::ResourceRequest;
use super::services::Services;

const LIMIT_DEFAULT: i32 = 1;
const LIMIT_MAX: i32 = 100;

/// Lists messages of the channel that the path names, already decoded, or else of the channel that the query names.
/// Refused if the caller may not read the channel, or the query is malformed.
pub async fn list(services: &Services, request: &ResourceRequest, in_path: Option<String>) -> Result<Answer, Refusal> {
    let caller = request.user(services)?;
    let query = Query::parse(request.uri().query())?;
    let channel = match &in_path {
        Some(id) => readable_channel(services, id, caller).await?,
        None => readable_channel(services, query.text("channel_id")?.unwrap_or_default(), caller).await?,
    };
    let listing = listing(services, &channel, &query)?;
    if listing.direction == Direction::NewestFirst
        && listing.cursor.is_none()
        && let Some(page) = newest_in_memory(services, &channel, &listing).await
    {
        return Ok(answer::json_bytes(page));
    }
    let reserved = request.reserve(services, of_limit(listing.limit, ROW));
    let found = services.store_for(caller).messages(channel.clone(), listing.place(), listing.read_limit()).await?;
    services.settle(reserved, of_part(&found, ROW));
    Ok(answer::json_bytes(written(services, &channel, &listing.page(found))))
}

/// The newest page of a channel that its owner keeps in memory. It is written once for all clients that ask for it.
async fn newest_in_memory(services: &Services, channel: &ChannelId, listing: &Listing) -> Option<Bytes> {
    let question = NewestQuery { limit: listing.read_limit() };
    let NewestMessages { messages, version } = services.channel_queries().ask(channel.clone(), question).await?;
    // The owner does not know what has expired. The store does, and every page must say the same.
    if messages.last().is_some_and(|oldest| services.has_expired(oldest)) {
        return None;
    }
    if let Some(page) = services.newest_pages.get(channel, listing.limit, version) {
        return Some(page);
    }
    let page = written(services, channel, &listing.page(Part::whole(messages.to_vec())));
    services.newest_pages.keep(channel, listing.limit, version, page.clone());
    Some(page)
}

fn written(services: &Services, channel: &ChannelId, page: &Page) -> Bytes {
    let text = |cursor| services.cursors.encode(channel, cursor);
    answer::written_as_json(&List {
        messages: &page.messages,
        next_cursor: page.next.map(text),
        prev_cursor: page.previous.map(text),
        cacheable_cursor: page.cacheable.map(text),
    })
}

/// The channel, if its id is well formed and the caller may read it. Refused otherwise.
pub async fn readable_channel(services: &Services, id: &str, caller: UserId) -> Result<ChannelId, Refusal> {
    let channel = ChannelId::parse(id).map_err(|_| Refusal::invalid("invalid channel id"))?;
    match channel.kind() {
        ChannelKind::Room(_) => {}
        ChannelKind::Direct(one, other) if caller == one || caller == other => {}
        ChannelKind::Direct(..) => return Err(Refusal::invalid("not one of the two users of this channel")),
        ChannelKind::Group(group) => {
            let role = services.store_for(caller).group_role(group, caller).await?;
            if !role.is_some_and(Role::is_member) {
                return Err(Refusal::invalid("no such group, or not a member of it"));
            }
        }
    }
    Ok(channel)
}

fn listing(services: &Services, channel: &ChannelId, query: &Query) -> Result<Listing, Refusal> {
    let limit = query.limit(LIMIT_DEFAULT, LIMIT_MAX)?;
    let direction = match query.boolean("forward")? {
        None | Some(true) => Direction::OldestFirst,
        Some(false) => Direction::NewestFirst,
    };
    let cursor = match query.text("cursor")? {
        None | Some("") => None,
        Some(text) => {
            let cursor = services.cursors.decode(channel, direction, text);
            Some(cursor.ok_or_else(|| Refusal::invalid("this cursor is not of this listing"))?)
        }
    };
    let (after, before) = (bound(query, "after_message_id")?, bound(query, "before_message_id")?);
    Ok(Listing { direction, limit, cursor, after, before })
}

fn bound(query: &Query, name: &str) -> Result<Option<MessageId>, Refusal> {
    match query.text(name)? {
        None | Some("") => Ok(None),
        Some(text) => match parse_uuid(text) {
            Some(id) => Ok(Some(MessageId(id))),
            None => Err(Refusal::invalid(format!("{name} is not a message id"))),
        },
    }
}

#[derive(Serialize)]
struct List<'a> {
    #[serde(skip_serializing_if = "<[_]>::is_empty", serialize_with = "items")]
    messages: &'a [Message],
    #[serde(skip_serializing_if = "Option::is_none")]
    next_cursor: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    prev_cursor: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    cacheable_cursor: Option<String>,
}

fn items<S: Serializer>(messages: &[Message], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_seq(messages.iter().map(channel_message))
}
