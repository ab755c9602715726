//! Converts domain types to rows: the mutations that write them and those that delete them.

use engine::id::{GroupId, NotificationId, UserId};
use engine::social::friend::FriendState;
use engine::social::notification::Notification;
use storage::friend::{Edge, FriendCounts};
use storage::group::{Group, GroupPlace, Membership};
use storage::inbox::Inbox;
use uuid::Uuid;
use xxhash_rust::xxh3::xxh3_64;

use crate::tables::{Mutation, Statement, big, bytes, flag, id, int, text};

/// A group has one more shard of members per this many seats.
const SEATS_PER_SHARD: u32 = 10_000;
/// Most shards of a group: a page of its members reads all of them.
const MEMBER_SHARDS_MAX: u32 = 128;
/// Shards of the list of all groups.
pub const LIST_SHARDS: i32 = 16;

/// Stands for a missing id.
const NO_ID: Uuid = Uuid::nil();

/// How many partitions a group's members are in.
pub fn shards_of(group: &Group) -> i32 {
    let shards = group.max_count.div_ceil(SEATS_PER_SHARD).clamp(1, MEMBER_SHARDS_MAX);
    i32::try_from(shards).unwrap_or(1)
}

/// The shard of an id, among `shards` shards.
pub fn shard_of(value: Uuid, shards: i32) -> i32 {
    let shards = u64::try_from(shards).unwrap_or(1).max(1);
    i32::try_from(xxh3_64(value.as_bytes()) % shards).unwrap_or(0)
}

/// Writes the row of a group, with all columns.
pub fn put_group(group: &Group) -> Mutation {
    Mutation::new(
        Statement::PutGroup,
        [
            id(group.id.0),
            id(group.creator.0),
            text(&group.name),
            text(&group.description),
            text(&group.lang_tag),
            text(&group.metadata),
            text(&group.avatar_url),
            flag(group.open),
            int(group.edge_count as i32),
            int(group.max_count as i32),
            big(group.create_time.0),
            big(group.update_time.0),
        ],
    )
}

/// Deletes the row of a group. Its name, its listing and its members have rows of their own.
pub fn delete_group(group: GroupId) -> Mutation {
    Mutation::new(Statement::DeleteGroup, [id(group.0)])
}

/// Writes a group's entry in the list of all groups.
pub fn put_listing(group: &Group) -> Mutation {
    let place = GroupPlace::of(group);
    let shard = shard_of(group.id.0, LIST_SHARDS);
    Mutation::new(Statement::PutGroupList, [int(shard), bytes(place.as_bytes()), id(group.id.0)])
}

/// Deletes a group's entry in the list of all groups. The group must be as it was when the entry was written.
pub fn delete_listing(group: &Group) -> Mutation {
    let place = GroupPlace::of(group);
    Mutation::new(Statement::DeleteGroupList, [int(shard_of(group.id.0, LIST_SHARDS)), bytes(place.as_bytes())])
}

/// A membership's three rows.
pub fn put_membership(group: GroupId, shards: i32, user: UserId, membership: Membership) -> [Mutation; 3] {
    let shard = int(shard_of(user.0, shards));
    let (role, since) = (int(membership.role as i32), big(membership.since.0));
    let (group, user) = (id(group.0), id(user.0));
    [
        Mutation::new(Statement::PutMember, [group.clone(), shard.clone(), user.clone(), role.clone(), since.clone()]),
        Mutation::new(Statement::PutRoster, [group.clone(), shard, role.clone(), since.clone(), user.clone()]),
        Mutation::new(Statement::PutUserGroup, [user, role, since, group]),
    ]
}

/// Deletes the three rows that [`put_membership`] wrote for the same membership.
pub fn delete_membership(group: GroupId, shards: i32, user: UserId, membership: Membership) -> [Mutation; 3] {
    let [lists @ .., user_group] = delete_places(group, shards, user, membership);
    let [roster] = lists;
    let member = [id(group.0), int(shard_of(user.0, shards)), id(user.0)];
    [Mutation::new(Statement::DeleteMember, member), roster, user_group]
}

/// Deletes a membership's entries in the lists of the group and of the user.
pub fn delete_places(group: GroupId, shards: i32, user: UserId, membership: Membership) -> [Mutation; 2] {
    let shard = int(shard_of(user.0, shards));
    let (role, since) = (int(membership.role as i32), big(membership.since.0));
    let (group, user) = (id(group.0), id(user.0));
    [
        Mutation::new(Statement::DeleteRoster, [group.clone(), shard, role.clone(), since.clone(), user.clone()]),
        Mutation::new(Statement::DeleteUserGroup, [user, role, since, group]),
    ]
}

/// Writes one side of a pair, and its entry in the list. For a block, also the blocked user's `blocked_by` row.
pub fn put_edge(user: UserId, other: UserId, edge: Edge) -> Vec<Mutation> {
    let (state, since) = (int(edge.state as i32), big(edge.since.0));
    let (user, other) = (id(user.0), id(other.0));
    let mut rows = vec![
        Mutation::new(Statement::PutEdge, [user.clone(), other.clone(), state.clone(), since.clone()]),
        Mutation::new(Statement::PutFriend, [user.clone(), state, since, other.clone()]),
    ];
    if edge.state == FriendState::Blocked {
        rows.push(Mutation::new(Statement::PutBlockedBy, [other, user]));
    }
    rows
}

/// Deletes what [`put_edge`] wrote for the same edge: the row of the pair, the entry in the user's list, and for a block
/// the entry in the list of the users who have blocked the other user.
pub fn delete_edge(user: UserId, other: UserId, edge: Edge) -> Vec<Mutation> {
    let mut rows = delete_edge_places(user, other, edge);
    rows.push(Mutation::new(Statement::DeleteEdge, [id(user.0), id(other.0)]));
    rows
}

/// Deletes the entries of an edge in the two lists. The row of the pair stays.
pub fn delete_edge_places(user: UserId, other: UserId, edge: Edge) -> Vec<Mutation> {
    let (state, since) = (int(edge.state as i32), big(edge.since.0));
    let (user, other) = (id(user.0), id(other.0));
    let mut rows = vec![Mutation::new(Statement::DeleteFriend, [user.clone(), state, since, other.clone()])];
    if edge.state == FriendState::Blocked {
        rows.push(Mutation::new(Statement::DeleteBlockedBy, [other, user]));
    }
    rows
}

/// Writes how many friends and edges a user has.
pub fn put_friend_counts(user: UserId, friend_counts: FriendCounts) -> Mutation {
    let values = [id(user.0), int(friend_counts.friends as i32), int(friend_counts.edges as i32)];
    Mutation::new(Statement::PutCircle, values)
}

/// Deletes the row that [`put_friend_counts`] writes.
pub fn delete_friend_counts(user: UserId) -> Mutation {
    Mutation::new(Statement::DeleteCircle, [id(user.0)])
}

/// Writes the facts about a user's notifications as a whole. A missing id is the nil UUID.
pub fn put_inbox(user: UserId, inbox: Inbox) -> Mutation {
    let of = |notification: Option<NotificationId>| id(notification.map_or(NO_ID, |notification| notification.0));
    Mutation::new(Statement::PutInbox, [id(user.0), int(inbox.count as i32), of(inbox.last), of(inbox.floor)])
}

/// Deletes the row that [`put_inbox`] writes. The notifications have rows of their own.
pub fn delete_inbox(user: UserId) -> Mutation {
    Mutation::new(Statement::DeleteInbox, [id(user.0)])
}

/// Writes one notification of a user.
pub fn put_notification(user: UserId, notification: &Notification) -> Mutation {
    Mutation::new(
        Statement::PutNotification,
        [
            id(user.0),
            id(notification.id.0),
            text(&notification.subject),
            text(&notification.content),
            int(notification.code as i32),
            id(notification.sender.0),
            big(notification.create_time.0),
        ],
    )
}

/// Deletes one notification of a user. The inbox's count is a row of its own.
pub fn delete_notification(user: UserId, notification: NotificationId) -> Mutation {
    Mutation::new(Statement::DeleteNotification, [id(user.0), id(notification.0)])
}

/// A lightweight transaction that writes the name if no group has it.
pub fn claim_group_name(name: &str, group: GroupId) -> Mutation {
    Mutation::new(Statement::ClaimGroupName, [text(name), id(group.0)])
}
