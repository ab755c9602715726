//! Groups: `POST` and `GET /v2/group`, `PUT` and `DELETE /v2/group/{id}` (docs/protocol.md, section 5). `members.rs`
//! has the members of groups.
//!
//! Creating and changing a group affects no channel, so it goes straight to the store. Deleting a group affects its
//! channel.

use engine::budget::Work;
use engine::id::{GroupId, UserId};
use engine::social::group::{GroupAct, Role};
use engine::wire::json::Int32;
use serde::{Deserialize, Serialize};
use storage::group::{GROUP_NAME_BYTES_MAX, Group, GroupCreated, GroupEdit, GroupEdited, GroupFilter, GroupPage};
use uuid::Uuid;

use super::account::{AVATAR_URL_BYTES_MAX, LANG_TAG_BYTES_MAX, check_texts};
use super::answer::{self, Answer};
use super::costs::{ENTRY, of_limit};
use super::error::Refusal;
use super::group_body::{GroupBody, group_id};
use super::listing::Stretch;
use super::members::change;
use super::query::Query;
use super::resource_request::ResourceRequest;
use super::services::Services;

/// Longest description of a group, in bytes of UTF-8.
pub const DESCRIPTION_BYTES_MAX: usize = 255;

const SEATS_DEFAULT: u32 = 100;
const LANG_TAG_DEFAULT: &str = "en";

/// A row of the list of groups, or a group, that the store looks at to find those which match a filter.
const EXAMINED: Work = Work::micros(1);

const LIMIT_DEFAULT: i32 = 1;
const LIMIT_MAX: i32 = 100;

/// Creates a group. The caller becomes its superadmin. Refused if a field is malformed, the name is taken, or the
/// caller is in too many groups.
pub async fn create(services: &Services, request: &ResourceRequest) -> Result<Answer, Refusal> {
    let creator = request.user(services)?;
    let body: Body = request.read()?;
    let group = new_group(services, creator, body)?;
    match services.store_for(creator).create_group(group.clone()).await? {
        GroupCreated::Created => Ok(answer::json(&GroupBody::from(&group))),
        GroupCreated::NameTaken => Err(Refusal::already_exists("a group has this name already")),
        GroupCreated::UnknownUser => Err(Refusal::not_found("account not found")),
        GroupCreated::TooManyGroups => Err(Refusal::invalid("the caller is in as many groups as a user may be in")),
    }
}

/// Answers `PUT`: changes the fields that the body has. Refuses callers that are no admin of the group, and a name that
/// another group has. What such a caller writes is not judged.
pub async fn edit(services: &Services, request: &ResourceRequest, id: &str) -> Result<Answer, Refusal> {
    let caller = request.user(services)?;
    let group = group_id(id)?;
    let given = request.read().and_then(checked).and_then(|edit| match edit == GroupEdit::default() {
        true => Err(Refusal::invalid("no field to change is given")),
        false => Ok(edit),
    });
    let edit = match given {
        Ok(edit) => edit,
        Err(refusal) => {
            let role = services.store_for(caller).group_role(group, caller).await?;
            let may_edit = role.is_some_and(Role::is_admin);
            return Err(if may_edit { refusal } else { no_admin() });
        }
    };
    match services.store_for(caller).update_group(group, caller, edit, services.now()).await? {
        GroupEdited::Done => Ok(answer::done()),
        GroupEdited::NotFound => Err(no_admin()),
        GroupEdited::NameTaken => Err(Refusal::invalid("a group has this name already")),
    }
}

fn no_admin() -> Refusal {
    Refusal::not_found("no such group, or not an admin of it")
}

/// Answers `DELETE`. The store decides whether the caller may do it, when the owner of the group's channel asks.
pub async fn delete(services: &Services, request: &ResourceRequest, id: &str) -> Result<Answer, Refusal> {
    let caller = request.user(services)?;
    change(services, group_id(id)?, caller, GroupAct::Delete).await?;
    Ok(answer::done())
}

/// The groups that match the filters, ordered by name. Refused if the query has a wrong filter or cursor.
pub async fn list(services: &Services, request: &ResourceRequest) -> Result<Answer, Refusal> {
    #[derive(Serialize)]
    struct Groups<'a> {
        #[serde(skip_serializing_if = "Vec::is_empty")]
        groups: Vec<GroupBody<'a>>,
        #[serde(skip_serializing_if = "Option::is_none")]
        cursor: Option<String>,
    }
    let caller = request.user(services)?;
    let query = Query::parse(request.uri().query())?;
    let filter = filter(&query)?;
    let limit = query.limit(LIMIT_DEFAULT, LIMIT_MAX)?;
    let asked = Stretch::asked(services, &query, format!("group?{filter:?}"), limit)?;
    let reserved = request.reserve(services, of_limit(limit, ENTRY));
    let GroupPage { groups, next, examined } =
        services.store_for(caller).groups(filter, asked.after.clone(), limit).await?;
    services.settle(reserved, ENTRY.times(groups.len()) + EXAMINED.times(examined));
    let cursor = next.map(|place| asked.cursor(services, &place));
    Ok(answer::json(&Groups { groups: groups.iter().map(GroupBody::from).collect(), cursor }))
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Body {
    name: Option<String>,
    description: Option<String>,
    #[serde(alias = "langTag")]
    lang_tag: Option<String>,
    #[serde(alias = "avatarUrl")]
    avatar_url: Option<String>,
    open: Option<bool>,
    #[serde(alias = "maxCount")]
    max_count: Option<Int32>,
}

fn new_group(services: &Services, creator: UserId, mut body: Body) -> Result<Group, Refusal> {
    let max_count = match body.max_count.take().map_or(0, |number| number.0) {
        0 => SEATS_DEFAULT,
        number => u32::try_from(number).map_err(|_| Refusal::invalid("max_count must be at least 1"))?,
    };
    // In a new group, unlike in a change, an empty text means that the field is left out.
    body.lang_tag = body.lang_tag.filter(|tag| !tag.is_empty());
    let edit = checked(body)?;
    let now = services.now();
    Ok(Group {
        id: GroupId(Uuid::new_v4()),
        creator,
        name: edit.name.ok_or_else(|| Refusal::invalid("name is missing"))?,
        description: edit.description.unwrap_or_default(),
        lang_tag: edit.lang_tag.unwrap_or_else(|| LANG_TAG_DEFAULT.to_owned()),
        metadata: "{}".into(),
        avatar_url: edit.avatar_url.unwrap_or_default(),
        open: edit.open.unwrap_or(false),
        edge_count: 1,
        max_count,
        create_time: now,
        update_time: now,
    })
}

fn checked(body: Body) -> Result<GroupEdit, Refusal> {
    let Body { name, description, lang_tag, avatar_url, open, max_count: _ } = body;
    if name.as_deref().is_some_and(|name| !is_group_name(name)) {
        let form = format!("name must be 1 to {GROUP_NAME_BYTES_MAX} bytes without control characters");
        return Err(Refusal::invalid(form));
    }
    if lang_tag.as_deref() == Some("") {
        return Err(Refusal::invalid("lang_tag must not be empty"));
    }
    check_texts([
        ("description", &description, DESCRIPTION_BYTES_MAX),
        ("lang_tag", &lang_tag, LANG_TAG_BYTES_MAX),
        ("avatar_url", &avatar_url, AVATAR_URL_BYTES_MAX),
    ])?;
    Ok(GroupEdit { name, description, lang_tag, avatar_url, open })
}

/// The same rules as for usernames.
fn is_group_name(name: &str) -> bool {
    (1..=GROUP_NAME_BYTES_MAX).contains(&name.len()) && !name.chars().any(|character| character.is_ascii_control())
}

fn filter(query: &Query) -> Result<GroupFilter, Refusal> {
    let given = |name| query.text(name).map(|text| text.filter(|text| !text.is_empty()).map(str::to_owned));
    let name = given("name")?;
    let members = query.number("members")?;
    let members_max = members.map(u32::try_from).transpose();
    let members_max = members_max.map_err(|_| Refusal::invalid("members must not be negative"))?;
    let others = GroupFilter { name: None, lang_tag: given("lang_tag")?, open: query.boolean("open")?, members_max };
    let Some(name) = name else { return Ok(others) };
    if others != GroupFilter::default() {
        return Err(Refusal::invalid("name cannot be combined with another filter"));
    }
    // A pattern that begins with a wildcard would make the store read all groups.
    let pattern = name.trim_start_matches(|character: char| character == '%' || character.is_ascii_whitespace());
    Ok(GroupFilter { name: Some(pattern.to_owned()).filter(|pattern| !pattern.is_empty()), ..others })
}
