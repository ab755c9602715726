//! Rows of several tables that are written together: a membership, and one side of a pair of users, each with its entries
//! in the lists.

use engine::id::{GroupId, UserId};
use engine::social::friend::FriendState;
use storage::friend::Edge;
use storage::group::Membership;

use crate::tables::{Mutation, blocked_by, edges, friends, group_members, group_rosters, user_groups};

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

/// Writes one side of a pair, and its entry in the user's list. For a block, also notes at the other user who has
/// blocked that user.
pub fn put_edge(user: UserId, other: UserId, edge: &Edge) -> Vec<Mutation> {
    let mut rows = vec![edges::put(user, other, edge), friends::put(user, other, edge)];
    rows.extend((edge.state == FriendState::Blocked).then(|| blocked_by::put(other, user)));
    rows
}

/// Deletes what [`put_edge`] wrote for the same edge, in the same order.
pub fn delete_edge(user: UserId, other: UserId, edge: &Edge) -> Vec<Mutation> {
    let mut rows = vec![edges::delete(user, other)];
    rows.extend(delete_edge_places(user, other, edge));
    rows
}

/// Deletes what [`put_edge`] wrote for the same edge, in the same order, except the row of the pair.
pub fn delete_edge_places(user: UserId, other: UserId, edge: &Edge) -> Vec<Mutation> {
    let mut rows = vec![friends::delete(user, other, edge)];
    rows.extend((edge.state == FriendState::Blocked).then(|| blocked_by::delete(other, user)));
    rows
}
