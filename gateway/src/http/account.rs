//! The caller's own account: `GET`, `PUT` and `DELETE /v2/account` (docs/protocol.md, section 8.3).

use engine::limits::USERNAME_BYTES_MAX;
use engine::social::text::is_plain_text;
use engine::wire::json::TimestampText;
use serde::{Deserialize, Serialize};
use storage::account::{Account, AccountChange, Changed};

use super::answer::{self, Answer};
use super::error::Refusal;
use super::resource_request::ResourceRequest;
use super::services::Services;
use super::users::{Person, UserBody, whole_seconds};

const DISPLAY_NAME_BYTES_MAX: usize = 255;
/// Longest avatar URL of a user or a group, in bytes of UTF-8.
pub const AVATAR_URL_BYTES_MAX: usize = 512;
/// Longest language tag of a user or a group, in bytes of UTF-8.
pub const LANG_TAG_BYTES_MAX: usize = 18;
const LOCATION_BYTES_MAX: usize = 255;
const TIMEZONE_BYTES_MAX: usize = 255;
/// All texts of a profile together.
pub const PROFILE_BYTES_MAX: usize =
    DISPLAY_NAME_BYTES_MAX + AVATAR_URL_BYTES_MAX + LANG_TAG_BYTES_MAX + LOCATION_BYTES_MAX + TIMEZONE_BYTES_MAX;

/// Answers `GET` with all that the caller may see of its account. Refuses a bad token, and a user without an account.
pub async fn show(services: &Services, request: &ResourceRequest) -> Result<Answer, Refusal> {
    let user = request.user(services)?;
    let own = services.store_for(user).own_account(user).await?;
    let (account, edge_count) = own.ok_or_else(|| Refusal::not_found("account not found"))?;
    let online = services.channel_queries().online(&[user]).await.contains(&true);
    let person = Person { profile: account.clone().into(), online, edge_count };
    Ok(answer::json(&AccountBody::of(&person, &account)))
}

/// Answers `PUT`: changes the fields that the body has. Refuses a username that another account has.
pub async fn change(services: &Services, request: &ResourceRequest) -> Result<Answer, Refusal> {
    let user = request.user(services)?;
    let change = checked(request.read()?)?;
    match services.store_for(user).change_account(user, change, services.now()).await? {
        Changed::Done => Ok(answer::done()),
        Changed::UsernameTaken => Err(Refusal::invalid("username is taken")),
        Changed::NotFound => Err(Refusal::not_found("account not found")),
    }
}

/// Deletes the account, with everything that the server keeps of its user. Refused if the user's deletion is under way
/// already, or if too many others are.
pub async fn delete(services: &Services, request: &ResourceRequest) -> Result<Answer, Refusal> {
    let user = request.user(services)?;
    services.account_deletions().depart(user, request.from()).await.map(|()| answer::done())
}

/// Whether this is a valid username.
pub fn is_username(name: &str) -> bool {
    (1..=USERNAME_BYTES_MAX).contains(&name.len()) && !name.chars().any(|character| character.is_ascii_control())
}

fn checked(asked: ChangeBody) -> Result<AccountChange, Refusal> {
    let change = AccountChange {
        username: asked.username,
        display_name: asked.display_name,
        avatar_url: asked.avatar_url,
        lang_tag: asked.lang_tag,
        location: asked.location,
        timezone: asked.timezone,
    };
    if change == AccountChange::default() {
        return Err(Refusal::invalid("no field to change is given"));
    }
    if change.username.as_deref().is_some_and(|name| !is_username(name)) {
        return Err(Refusal::invalid("username must be 1 to 128 bytes without control characters"));
    }
    check_texts([
        ("display_name", &change.display_name, DISPLAY_NAME_BYTES_MAX),
        ("avatar_url", &change.avatar_url, AVATAR_URL_BYTES_MAX),
        ("lang_tag", &change.lang_tag, LANG_TAG_BYTES_MAX),
        ("location", &change.location, LOCATION_BYTES_MAX),
        ("timezone", &change.timezone, TIMEZONE_BYTES_MAX),
    ])?;
    Ok(change)
}

/// Refuses texts that are longer than their fields allow, and texts that are not plain: as JSON they would be six times
/// as long in each answer that shows them. The error names the field.
pub fn check_texts<const N: usize>(fields: [(&str, &Option<String>, usize); N]) -> Result<(), Refusal> {
    for (name, value, bytes_max) in fields {
        let Some(value) = value else { continue };
        if value.len() > bytes_max {
            return Err(Refusal::invalid(format!("{name} is longer than {bytes_max} bytes")));
        }
        if !is_plain_text(value) {
            let reason = "has control characters other than tab, line feed and carriage return";
            return Err(Refusal::invalid(format!("{name} {reason}")));
        }
    }
    Ok(())
}

#[derive(Deserialize)]
struct ChangeBody {
    username: Option<String>,
    #[serde(alias = "displayName")]
    display_name: Option<String>,
    #[serde(alias = "avatarUrl")]
    avatar_url: Option<String>,
    #[serde(alias = "langTag")]
    lang_tag: Option<String>,
    location: Option<String>,
    timezone: Option<String>,
}

#[derive(Serialize)]
struct AccountBody<'a> {
    user: UserBody<'a>,
    wallet: &'static str,
    #[serde(skip_serializing_if = "str::is_empty")]
    email: &'a str,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    devices: Vec<Device<'a>>,
    #[serde(skip_serializing_if = "str::is_empty")]
    custom_id: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    disable_time: Option<TimestampText>,
}

#[derive(Serialize)]
struct Device<'a> {
    id: &'a str,
}

impl<'a> AccountBody<'a> {
    fn of(person: &'a Person, account: &'a Account) -> Self {
        Self {
            user: person.into(),
            wallet: "{}",
            email: &account.email,
            devices: account.devices.iter().map(|id| Device { id }).collect(),
            custom_id: &account.custom_id,
            disable_time: account.disable_time.map(whole_seconds),
        }
    }
}
