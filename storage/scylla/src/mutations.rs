//! Converts domain types to rows: the mutations that write them and those that delete them.

use engine::id::{GroupId, NotificationId, UserId};
use engine::social::friend::FriendState;
use engine::social::notification::Notification;
use storage::friend::{Edge, FriendCounts};
use storage::group::Membership;
use storage::inbox::Inbox;
use uuid::Uuid;

use crate::tables::{Mutation, Statement, big, group_members, group_rosters, id, int, text, user_groups};

/// Stands for a missing id.
const NO_ID: Uuid = Uuid::nil();

/// A membership's three rows: its own, and its entries in the lists of the group and of the user.
pub fn put_membership(group: GroupId, shards: i32, user: UserId, membership: Membership) -> [Mutation; 3] {
    [
        group_members::put(group, shards, user, membership),
        group_rosters::put(group, shards, user, membership),
        user_groups::put(user, group, membership),
    ]
}

/// Deletes the three rows that [`put_membership`] wrote for the same membership, in the same order.
pub fn delete_membership(group: GroupId, shards: i32, user: UserId, membership: Membership) -> [Mutation; 3] {
    let [roster, user_group] = delete_places(group, shards, user, membership);
    [group_members::delete(group, shards, user), roster, user_group]
}

/// Deletes a membership's entries in the lists of the group and of the user.
pub fn delete_places(group: GroupId, shards: i32, user: UserId, membership: Membership) -> [Mutation; 2] {
    [group_rosters::delete(group, shards, user, membership), user_groups::delete(user, group, membership)]
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
