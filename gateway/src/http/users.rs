//! Users as other users see them: `GET /v2/user` (docs/protocol.md, section 8.3).

use engine::id::{Timestamp, UserId};
use engine::limits::USERNAME_BYTES_MAX;
use engine::wire::json::{TimestampText, timestamp};
use serde::Serialize;
use storage::account::Profile;

use super::answer::{self, Answer};
use super::costs::{ENTRY, NAMED};
use super::error::Refusal;
use super::query::Query;
use super::resource_request::ResourceRequest;
use super::services::Services;

/// Bytes of the texts of users in one answer, before they are escaped for JSON. A thousand users with ordinary profiles
/// are below it, and the head of a request cannot name so many.
pub const TEXT_BYTES_MAX: usize = 512 << 10;

/// Users that are read at a time, so that an answer that becomes too long is never in memory.
const PEOPLE_AT_ONCE: usize = 100;

/// The users with these ids and names; unknown ones are left out. The request head bounds how many a client can ask
/// for. The answer has no cursor, so it is refused if it would be too long.
pub async fn list(services: &Services, request: &ResourceRequest) -> Result<Answer, Refusal> {
    #[derive(Serialize)]
    struct Users<'a> {
        #[serde(skip_serializing_if = "Vec::is_empty")]
        users: Vec<UserBody<'a>>,
    }
    let caller = request.user(services)?;
    let query = Query::parse(request.uri().query())?;
    let mut ids = query.user_ids("ids")?;
    let names = query.list("usernames").count();
    request.charge(services, NAMED.times(names) + ENTRY.times(ids.len() + names));
    // No user has a longer name, so the store is not asked.
    for username in query.list("usernames").filter(|name| name.len() <= USERNAME_BYTES_MAX) {
        ids.extend(services.store_for(caller).user_by_username(username).await?);
    }
    ids.sort_unstable();
    ids.dedup();
    let mut people: Vec<Person> = Vec::new();
    let mut text_bytes = 0;
    for part in ids.chunks(PEOPLE_AT_ONCE) {
        let found = self::people(services, caller, part).await?;
        text_bytes += found.iter().map(Person::text_bytes).sum::<usize>();
        if text_bytes > TEXT_BYTES_MAX {
            let reason = format!("these users have more than {TEXT_BYTES_MAX} bytes of texts: ask for fewer at once");
            return Err(Refusal::invalid(reason));
        }
        people.extend(found);
    }
    Ok(answer::json(&Users { users: people.iter().map(UserBody::from).collect() }))
}

/// What others see of a user, with facts that are not in the account.
pub struct Person {
    pub profile: Profile,
    pub online: bool,
    /// How many friends the user has.
    pub edge_count: u32,
}

impl Person {
    /// Bytes of the texts by which the user is shown to others.
    pub fn text_bytes(&self) -> usize {
        let Profile { username, display_name, avatar_url, lang_tag, location, timezone, metadata, .. } = &self.profile;
        [username, display_name, avatar_url, lang_tag, location, timezone, metadata].iter().map(|text| text.len()).sum()
    }
}

/// The users that exist among these, in the given order, as `caller` asks for them. Fails as the store does.
pub async fn people(services: &Services, caller: UserId, ids: &[UserId]) -> Result<Vec<Person>, Refusal> {
    if ids.is_empty() {
        return Ok(Vec::new());
    }
    let found = services.store_for(caller).people(ids).await?;
    debug_assert!(found.len() <= ids.len(), "{} users were found of {}", found.len(), ids.len());
    let ids: Vec<UserId> = found.iter().map(|(profile, _)| profile.id).collect();
    let online = services.channel_queries().online(&ids).await;
    let people = found.into_iter().zip(online);
    Ok(people.map(|((profile, edge_count), online)| Person { profile, online, edge_count }).collect())
}

/// The people of a listing, each with its listed item. Users that were deleted meanwhile are left out.
pub async fn with_people<T>(
    services: &Services,
    caller: UserId,
    listed: Vec<(UserId, T)>,
) -> Result<Vec<(Person, T)>, Refusal> {
    let ids: Vec<UserId> = listed.iter().map(|(id, _)| *id).collect();
    let mut people = people(services, caller, &ids).await?.into_iter().peekable();
    let with_person = |(id, of): (UserId, T)| Some((people.next_if(|person| person.profile.id == id)?, of));
    let found = listed.into_iter().filter_map(with_person).collect();
    debug_assert!(people.next().is_none(), "the store returns users in the order in which it is asked for them");
    Ok(found)
}

/// A user on the wire, with its members in the order of their protobuf numbers.
#[derive(Serialize)]
pub struct UserBody<'a> {
    id: UserId,
    #[serde(skip_serializing_if = "str::is_empty")]
    username: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    display_name: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    avatar_url: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    lang_tag: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    location: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    timezone: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    metadata: &'a str,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    online: bool,
    #[serde(skip_serializing_if = "is_zero")]
    edge_count: u32,
    create_time: TimestampText,
    update_time: TimestampText,
}

impl<'a> From<&'a Person> for UserBody<'a> {
    fn from(person: &'a Person) -> Self {
        let Person { profile, online, edge_count } = person;
        Self {
            id: profile.id,
            username: &profile.username,
            display_name: &profile.display_name,
            avatar_url: &profile.avatar_url,
            lang_tag: &profile.lang_tag,
            location: &profile.location,
            timezone: &profile.timezone,
            metadata: &profile.metadata,
            online: *online,
            edge_count: *edge_count,
            create_time: whole_seconds(profile.create_time),
            update_time: whole_seconds(profile.update_time),
        }
    }
}

fn is_zero(number: &u32) -> bool {
    *number == 0
}

/// Clients know the times of accounts in whole seconds.
pub fn whole_seconds(time: Timestamp) -> TimestampText {
    timestamp(time.whole_seconds())
}
