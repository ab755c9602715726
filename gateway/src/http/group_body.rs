//! A group in paths and in answers.

use engine::id::{GroupId, UserId, parse_uuid};
use engine::wire::json::TimestampText;
use serde::Serialize;
use storage::group::Group;

use super::error::Refusal;
use super::users::whole_seconds;

/// The group's id in a path. Refused if it is no UUID.
pub fn group_id(text: &str) -> Result<GroupId, Refusal> {
    parse_uuid(text).map(GroupId).ok_or_else(|| Refusal::invalid("the group's id is not a UUID"))
}

/// A group on the wire, with its members in the order of their protobuf numbers.
#[derive(Serialize)]
pub struct GroupBody<'a> {
    id: GroupId,
    creator_id: UserId,
    name: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    description: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    lang_tag: &'a str,
    metadata: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    avatar_url: &'a str,
    open: bool,
    #[serde(skip_serializing_if = "is_zero")]
    edge_count: u32,
    max_count: u32,
    create_time: TimestampText,
    update_time: TimestampText,
}

fn is_zero(number: &u32) -> bool {
    *number == 0
}

impl<'a> From<&'a Group> for GroupBody<'a> {
    fn from(group: &'a Group) -> Self {
        Self {
            id: group.id,
            creator_id: group.creator,
            name: &group.name,
            description: &group.description,
            lang_tag: &group.lang_tag,
            metadata: &group.metadata,
            avatar_url: &group.avatar_url,
            open: group.open,
            edge_count: group.edge_count,
            max_count: group.max_count,
            create_time: whole_seconds(group.create_time),
            update_time: whole_seconds(group.update_time),
        }
    }
}
