//! Friends and blocks: `GET`, `POST` and `DELETE /v2/friend`, `POST /v2/friend/block` (docs/protocol.md, section 7).
//!
//! Adding and deleting go straight to the store. Blocking goes through the owner of the two users' direct channel,
//! because the owner removes both users from it.

use engine::id::{ChannelId, UserId};
use engine::limits::USERNAME_BYTES_MAX;
use engine::parcel::Broadcast;
use engine::query::Block;
use engine::social::friend::{FriendAct, FriendState};
use engine::wire::json::{TimestampText, is_json_object};
use serde::Serialize;
use storage::Part;
use storage::friend::{ACT_METADATA_BYTES_MAX, FRIEND_METADATA_BYTES_MAX};

use super::account::check_texts;
use super::answer::{self, Answer};
use super::costs::{CHANGE, ENTRY, NAMED, of_limit, of_part};
use super::error::Refusal;
use super::listing::Stretch;
use super::query::Query;
use super::resource_request::ResourceRequest;
use super::services::Services;
use super::users::{TEXT_BYTES_MAX, UserBody, whole_seconds, with_people};

const LIMIT_MAX: i32 = 1000;

/// What a user has noted of another if nothing was given.
const NO_METADATA: &str = "{}";

/// The caller's friends, invitations and blocks, ordered by state and then by time. Refused if the query has a wrong
/// state, limit or cursor.
pub async fn list(services: &Services, request: &ResourceRequest) -> Result<Answer, Refusal> {
    #[derive(Serialize)]
    struct Friends<'a> {
        #[serde(skip_serializing_if = "Vec::is_empty")]
        friends: Vec<FriendBody<'a>>,
        #[serde(skip_serializing_if = "Option::is_none")]
        cursor: Option<String>,
    }
    #[derive(Serialize)]
    struct FriendBody<'a> {
        user: UserBody<'a>,
        state: u8,
        update_time: TimestampText,
        metadata: &'a str,
    }
    let caller = request.user(services)?;
    let query = Query::parse(request.uri().query())?;
    let limit = query.limit(LIMIT_MAX, LIMIT_MAX)?;
    let state = query.state(FriendState::from_number)?;
    let asked = Stretch::asked(services, &query, format!("friend/{caller}?state={state:?}"), limit)?;
    let reserved = request.reserve(services, of_limit(asked.limit, ENTRY));
    let read = services.store_for(caller).friends(caller, state, asked.after, asked.read_limit()).await?;
    services.settle(reserved, of_part(&read, ENTRY));
    let items = read.items.into_iter().map(|(friend, place)| ((friend, place), place)).collect();
    let (friends, mut cursor) = asked.page(services, Part { items, stopped: read.stopped });
    let friends = friends.into_iter().map(|listed| (listed.0.user, listed)).collect();
    let mut friends = with_people(services, caller, friends).await?;
    let fitting = fitting(friends.iter().map(|(person, (friend, _))| person.text_bytes() + friend.metadata.len()));
    if fitting < friends.len() {
        friends.truncate(fitting);
        cursor = friends.last().map(|(_, (_, place))| asked.cursor(services, place));
    }
    let friends = friends.iter().map(|(person, (friend, _))| FriendBody {
        user: UserBody::from(person),
        state: friend.state as u8,
        update_time: whole_seconds(friend.update_time),
        metadata: if friend.metadata.is_empty() { NO_METADATA } else { &friend.metadata },
    });
    Ok(answer::json(&Friends { friends: friends.collect(), cursor }))
}

/// How many texts of these lengths fit into a page: at least one. A page that has no room for more has fewer friends and
/// a cursor.
fn fitting(lengths: impl Iterator<Item = usize>) -> usize {
    let mut bytes = 0;
    let fits = |length: &usize| {
        bytes += length;
        bytes <= TEXT_BYTES_MAX
    };
    lengths.take_while(fits).count().max(1)
}

/// Invites these users to be friends, or accepts their invitations. The caller may note something of them.
pub async fn add(services: &Services, request: &ResourceRequest) -> Result<Answer, Refusal> {
    let caller = request.user(services)?;
    let metadata = metadata(&Query::parse(request.uri().query())?)?;
    let others = named(services, request, caller).await?.or_refused()?;
    if metadata.len() * others.len() > ACT_METADATA_BYTES_MAX {
        let reason = format!("metadata of more than {ACT_METADATA_BYTES_MAX} bytes together: name fewer users at once");
        return Err(Refusal::invalid(reason));
    }
    relate(services, FriendAct::Add, caller, others, metadata).await
}

/// What the caller notes of the users, empty if it is nothing. Refused if it is no JSON object, or too long.
fn metadata(query: &Query) -> Result<Box<str>, Refusal> {
    let metadata = query.text("metadata")?.unwrap_or_default();
    if matches!(metadata.trim_matches([' ', '\t', '\n', '\r']), "" | NO_METADATA) {
        return Ok("".into());
    }
    check_texts([("metadata", &Some(metadata.to_owned()), FRIEND_METADATA_BYTES_MAX)])?;
    if !is_json_object(metadata) {
        return Err(Refusal::invalid("metadata must be a JSON object"));
    }
    Ok(metadata.into())
}

/// Ends every relation of the caller to these users, including the caller's own blocks.
pub async fn delete(services: &Services, request: &ResourceRequest) -> Result<Answer, Refusal> {
    let caller = request.user(services)?;
    let named = named(services, request, caller).await?;
    relate(services, FriendAct::Delete, caller, named.users, "".into()).await
}

/// Answers `POST /v2/friend/block`. The users are blocked one after the other. If one fails, those before it stay
/// blocked.
pub async fn block(services: &Services, request: &ResourceRequest) -> Result<Answer, Refusal> {
    let caller = request.user(services)?;
    let others = named(services, request, caller).await?.or_refused()?;
    // Each block is a change of its own: the head has paid for the first.
    request.charge(services, CHANGE.times(others.len().saturating_sub(1)));
    // A user that does not exist has no channel.
    for other in services.store_for(caller).existing(&others).await? {
        let block = Block { user: caller, other };
        services.channel_queries().ask(ChannelId::direct(caller, other), block).await?;
    }
    Ok(answer::done())
}

async fn relate(
    services: &Services,
    act: FriendAct,
    user: UserId,
    others: Vec<UserId>,
    metadata: Box<str>,
) -> Result<Answer, Refusal> {
    if others.is_empty() {
        return Ok(answer::done());
    }
    let related = services.store_for(user).relate(act, user, others, metadata, services.now()).await?;
    if !related.notices.is_empty() {
        services.channel_queries().tell(Broadcast::Notices(related.notices));
    }
    if related.full {
        return Err(Refusal::invalid(
            "one of the two has too many friends, invitations and blocks; the others are done",
        ));
    }
    Ok(answer::done())
}

/// The users named in a request.
struct Named {
    users: Vec<UserId>,
    /// The request has names but no ids, and no user has any of the names.
    nobody: bool,
}

impl Named {
    fn or_refused(self) -> Result<Vec<UserId>, Refusal> {
        if self.nobody { Err(Refusal::invalid("nobody has these usernames")) } else { Ok(self.users) }
    }
}

async fn named(services: &Services, request: &ResourceRequest, caller: UserId) -> Result<Named, Refusal> {
    let query = Query::parse(request.uri().query())?;
    let mut users = query.changed_user_ids("ids")?;
    let names: Vec<&str> = query.list("usernames").collect();
    if names.iter().any(|name| name.is_empty()) {
        return Err(Refusal::invalid("a username is empty"));
    }
    request.charge(services, NAMED.times(users.len() + names.len()));
    // No user has a longer name, so the store is not asked.
    for name in names.iter().filter(|name| name.len() <= USERNAME_BYTES_MAX) {
        users.extend(services.store_for(caller).user_by_username(name).await?.filter(|user| !users.contains(user)));
    }
    if users.contains(&caller) {
        return Err(Refusal::invalid("one cannot be one's own friend"));
    }
    Ok(Named { nobody: users.is_empty() && !names.is_empty(), users })
}
