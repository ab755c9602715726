//! Records of groups and of their members.

use engine::id::{GroupId, Timestamp, UserId};
use engine::social::group::Role;
use rkyv::{Archive, Deserialize, Serialize};
use uuid::Uuid;

use super::{Damage, Kind, access, encode, malformed};
use crate::group::{Group, Membership};

/// A group without its id, which its key contains.
#[derive(Archive, Serialize, Deserialize)]
struct GroupV1 {
    creator: [u8; 16],
    create_time: i64,
    update_time: i64,
    edge_count: u32,
    max_count: u32,
    open: bool,
    name: String,
    description: String,
    lang_tag: String,
    metadata: String,
    avatar_url: String,
}

#[derive(Archive, Serialize, Deserialize)]
struct GroupNameV1 {
    group: [u8; 16],
}

#[derive(Archive, Serialize, Deserialize)]
struct MembershipV1 {
    since: i64,
    role: u8,
}

#[derive(Archive, Serialize, Deserialize)]
struct GroupCountV1 {
    groups: u32,
}

pub(crate) fn encode_group(group: &Group) -> Vec<u8> {
    let group = group.clone();
    encode(
        Kind::Group,
        &GroupV1 {
            creator: group.creator.0.into_bytes(),
            create_time: group.create_time.0,
            update_time: group.update_time.0,
            edge_count: group.edge_count,
            max_count: group.max_count,
            open: group.open,
            name: group.name,
            description: group.description,
            lang_tag: group.lang_tag,
            metadata: group.metadata,
            avatar_url: group.avatar_url,
        },
    )
}

/// The group under the key of `id`.
pub(crate) fn decode_group(id: GroupId, bytes: &[u8]) -> Result<Group, Damage> {
    let record = access::<ArchivedGroupV1>(Kind::Group, bytes)?;
    let record: GroupV1 = rkyv::deserialize(record).map_err(malformed)?;
    Ok(Group {
        id,
        creator: UserId(Uuid::from_bytes(record.creator)),
        name: record.name,
        description: record.description,
        lang_tag: record.lang_tag,
        metadata: record.metadata,
        avatar_url: record.avatar_url,
        open: record.open,
        edge_count: record.edge_count,
        max_count: record.max_count,
        create_time: Timestamp(record.create_time),
        update_time: Timestamp(record.update_time),
    })
}

pub(crate) fn encode_group_name(group: GroupId) -> Vec<u8> {
    encode(Kind::GroupName, &GroupNameV1 { group: group.0.into_bytes() })
}

pub(crate) fn decode_group_name(bytes: &[u8]) -> Result<GroupId, Damage> {
    let record = access::<ArchivedGroupNameV1>(Kind::GroupName, bytes)?;
    Ok(GroupId(Uuid::from_bytes(record.group)))
}

pub(crate) fn encode_membership(membership: Membership) -> Vec<u8> {
    encode(Kind::Membership, &MembershipV1 { since: membership.since.0, role: membership.role as u8 })
}

pub(crate) fn decode_membership(bytes: &[u8]) -> Result<Membership, Damage> {
    let record = access::<ArchivedMembershipV1>(Kind::Membership, bytes)?;
    let number = i32::from(record.role);
    let role = Role::from_number(number).ok_or(Damage::Number { what: "role", number })?;
    Ok(Membership { role, since: Timestamp(record.since.to_native()) })
}

pub(crate) fn encode_group_count(groups: u32) -> Vec<u8> {
    encode(Kind::GroupCount, &GroupCountV1 { groups })
}

pub(crate) fn decode_group_count(bytes: &[u8]) -> Result<u32, Damage> {
    Ok(access::<ArchivedGroupCountV1>(Kind::GroupCount, bytes)?.groups.to_native())
}
