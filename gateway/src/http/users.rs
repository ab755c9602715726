//! Users as others see them: `GET /v2/user` (docs/protocol.md, section 8.3).

use engine::id::{Timestamp, UserId, parse_uuid};
use engine::wire::json::{TimestampText, timestamp};
use hyper::Request;
use hyper::body::Bytes;
use serde::Serialize;
use storage::account::Account;

use super::account::USERNAME_BYTES_MAX;
use super::answer::{self, Answer};
use super::authorization::bearer;
use super::error::Refusal;
use super::query::Query;
use super::services::Services;

/// The users with these ids and names; unknown ones are left out. How many may be asked for is bounded by the
/// request head.
pub async fn list(services: &Services, request: &Request<Bytes>) -> Result<Answer, Refusal> {
    #[derive(Serialize)]
    struct Users<'a> {
        #[serde(skip_serializing_if = "Vec::is_empty")]
        users: Vec<UserBody<'a>>,
    }
    bearer(services, request.headers())?;
    let query = Query::parse(request.uri().query())?;
    let mut ids = query.list("ids").map(user_id).collect::<Result<Vec<_>, _>>()?;
    // Longer ones are nobody's, and the store need not hear of them.
    for username in query.list("usernames").filter(|name| name.len() <= USERNAME_BYTES_MAX) {
        ids.extend(services.store.user_by_username(username).await?);
    }
    ids.sort_unstable();
    ids.dedup();
    let accounts = if ids.is_empty() { Vec::new() } else { services.store.accounts(&ids).await? };
    Ok(answer::json(&Users { users: accounts.iter().map(UserBody::from).collect() }))
}

fn user_id(text: &str) -> Result<UserId, Refusal> {
    parse_uuid(text).map(UserId).ok_or_else(|| Refusal::invalid("a user id is not a UUID"))
}

/// A user on the wire, members in the order of their protobuf numbers.
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
    create_time: TimestampText,
    update_time: TimestampText,
}

impl<'a> From<&'a Account> for UserBody<'a> {
    fn from(account: &'a Account) -> Self {
        Self {
            id: account.id,
            username: &account.username,
            display_name: &account.display_name,
            avatar_url: &account.avatar_url,
            lang_tag: &account.lang_tag,
            location: &account.location,
            timezone: &account.timezone,
            metadata: &account.metadata,
            create_time: whole_seconds(account.create_time),
            update_time: whole_seconds(account.update_time),
        }
    }
}

/// Times of accounts are told in whole seconds, as clients know them.
pub fn whole_seconds(time: Timestamp) -> TimestampText {
    timestamp(time.whole_seconds())
}
