//! The members of groups: `POST /v2/group/{id}/{act}`, `GET /v2/group/{id}/user` and `GET /v2/user/{id}/group`
//! (docs/protocol.md, section 5).
//!
//! Every change goes through the owner of the group's channel. The owner gives it a place in the order of the channel's
//! messages.

use engine::id::{ChannelId, GroupId, UserId, parse_uuid};
use engine::social::group::{GroupAct, GroupChange, Role};
use serde::Serialize;
use storage::Part;
use storage::group::RosterPlace;

use super::answer::{self, Answer};
use super::costs::{ENTRY, SHOWN, of_limit, of_part};
use super::error::{Refusal, group_refused};
use super::group_body::{GroupBody, group_id};
use super::listing::Stretch;
use super::query::Query;
use super::resource_request::ResourceRequest;
use super::services::Services;
use super::users::{UserBody, with_people};

const LIMIT_DEFAULT: i32 = 100;
const LIMIT_MAX: i32 = 100;

/// What members do to a group and to each other, named by the last segment of the path.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum MemberAct {
    Join,
    Leave,
    Add,
    Kick,
    Ban,
    Promote,
    Demote,
}

impl MemberAct {
    /// The act with this name in a path, or `None` if there is none.
    pub fn named(name: &str) -> Option<Self> {
        Some(match name {
            "join" => Self::Join,
            "leave" => Self::Leave,
            "add" => Self::Add,
            "kick" => Self::Kick,
            "ban" => Self::Ban,
            "promote" => Self::Promote,
            "demote" => Self::Demote,
            _ => return None,
        })
    }
}

/// Carries out the act. The query names the users concerned; the body is ignored. Refused by the rules of groups.
pub async fn act(services: &Services, request: &ResourceRequest, id: &str, act: MemberAct) -> Result<Answer, Refusal> {
    let caller = request.user(services)?;
    let group = group_id(id)?;
    let act = match act {
        MemberAct::Join => GroupAct::Join,
        MemberAct::Leave => GroupAct::Leave,
        act => {
            let query = Query::parse(request.uri().query())?;
            let users = query.changed_user_ids("user_ids")?;
            request.charge(services, SHOWN.times(users.len()));
            match (act, users) {
                (MemberAct::Demote, users) if users.is_empty() => return Err(Refusal::invalid("user_ids are missing")),
                (_, users) if users.is_empty() => return Ok(answer::done()),
                (MemberAct::Add, users) => GroupAct::Add(users),
                (MemberAct::Kick, users) => GroupAct::Kick(users),
                (MemberAct::Ban, users) => GroupAct::Ban(users),
                (MemberAct::Promote, users) => GroupAct::Promote(users),
                (_, users) => GroupAct::Demote(users),
            }
        }
    };
    change(services, group, caller, act).await?;
    Ok(answer::done())
}

/// Asks the owner of the group's channel to make a change. The members' messages wait for some changes, so a caller
/// whose role permits nothing is answered before. Refused by the rules of groups, or if the owner cannot make the
/// change now.
pub async fn change(services: &Services, group: GroupId, actor: UserId, act: GroupAct) -> Result<(), Refusal> {
    if act.may_be_decided_by_role()
        && let Some(decided) = act.decided_by(services.store_for(actor).group_role(group, actor).await?)
    {
        return decided.map_err(|refusal| group_refused(&act, refusal));
    }
    let change = GroupChange { group, actor, act: act.clone() };
    let changed = services.channel_queries().ask(ChannelId::group(group), change).await?;
    changed.map_err(|refusal| group_refused(&act, refusal))
}

/// The members of a group, ordered by role and then by time. Banned users are listed only on request. Refused if the
/// id or the query is malformed.
pub async fn of_group(services: &Services, request: &ResourceRequest, id: &str) -> Result<Answer, Refusal> {
    #[derive(Serialize)]
    struct Members<'a> {
        #[serde(skip_serializing_if = "Vec::is_empty")]
        group_users: Vec<Member<'a>>,
        #[serde(skip_serializing_if = "Option::is_none")]
        cursor: Option<String>,
    }
    #[derive(Serialize)]
    struct Member<'a> {
        user: UserBody<'a>,
        state: u8,
    }
    let caller = request.user(services)?;
    let group = group_id(id)?;
    let (asked, role) = asked(services, request, &format!("group/{group}/user"))?;
    let reserved = request.reserve(services, of_limit(asked.limit, ENTRY));
    let read = services.store_for(caller).group_members(group, role, asked.after, asked.read_limit()).await?;
    services.settle(reserved, of_part(&read, ENTRY));
    let (members, cursor) = asked.page(services, with_roles(read));
    let members = with_people(services, caller, members).await?;
    let members = members.iter().map(|(person, role)| Member { user: UserBody::from(person), state: *role as u8 });
    Ok(answer::json(&Members { group_users: members.collect(), cursor }))
}

/// The groups of a user, ordered by the user's role in them and then by time. Refused if the id or the query is
/// malformed.
pub async fn of_user(services: &Services, request: &ResourceRequest, id: &str) -> Result<Answer, Refusal> {
    #[derive(Serialize)]
    struct Memberships<'a> {
        #[serde(skip_serializing_if = "Vec::is_empty")]
        user_groups: Vec<Membership<'a>>,
        #[serde(skip_serializing_if = "Option::is_none")]
        cursor: Option<String>,
    }
    #[derive(Serialize)]
    struct Membership<'a> {
        group: GroupBody<'a>,
        state: u8,
    }
    let caller = request.user(services)?;
    let user = UserId(parse_uuid(id).ok_or_else(|| Refusal::invalid("the user's id is not a UUID"))?);
    let (asked, role) = asked(services, request, &format!("user/{user}/group"))?;
    // From which groups a user is banned is told to that user alone: the groups themselves list whom they have banned.
    if role == Some(Role::Banned) && user != caller {
        return Ok(answer::done());
    }
    let reserved = request.reserve(services, of_limit(asked.limit, ENTRY));
    let read = services.store_for(caller).user_groups(user, role, asked.after, asked.read_limit()).await?;
    services.settle(reserved, of_part(&read, ENTRY));
    let (groups, cursor) = asked.page(services, with_roles(read));
    let groups = groups.iter().map(|(group, role)| Membership { group: GroupBody::from(group), state: *role as u8 });
    Ok(answer::json(&Memberships { user_groups: groups.collect(), cursor }))
}

/// The items of a roster with the roles that their places say.
fn with_roles<T>(read: Part<(T, RosterPlace), RosterPlace>) -> Part<((T, Role), RosterPlace), RosterPlace> {
    let items = read.items.into_iter().map(|(item, place)| ((item, place.role), place)).collect();
    Part { items, stopped: read.stopped }
}

/// Reads from the query which part of a roster the client wants, and which single role, if any.
fn asked(
    services: &Services,
    request: &ResourceRequest,
    roster: &str,
) -> Result<(Stretch<RosterPlace>, Option<Role>), Refusal> {
    let query = Query::parse(request.uri().query())?;
    let limit = query.limit(LIMIT_DEFAULT, LIMIT_MAX)?;
    let role = query.state(Role::from_number)?;
    let asked = Stretch::asked(services, &query, format!("{roster}?state={role:?}"), limit)?;
    Ok((asked, role))
}
