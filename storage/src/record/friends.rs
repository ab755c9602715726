//! Records of friends and blocks.

use engine::id::Timestamp;
use engine::social::friend::FriendState;
use rkyv::{Archive, Deserialize, Serialize};

use super::{Damage, Kind, access, encode};
use crate::friend::{Edge, FriendCounts};

#[derive(Archive, Serialize, Deserialize)]
struct EdgeV1 {
    since: i64,
    state: u8,
}

#[derive(Archive, Serialize, Deserialize)]
struct FriendCountsV1 {
    friends: u32,
    edges: u32,
}

pub(crate) fn encode_edge(edge: Edge) -> Vec<u8> {
    encode(Kind::Edge, &EdgeV1 { since: edge.since.0, state: edge.state as u8 })
}

pub(crate) fn decode_edge(bytes: &[u8]) -> Result<Edge, Damage> {
    let record = access::<ArchivedEdgeV1>(Kind::Edge, bytes)?;
    let number = i32::from(record.state);
    let state = FriendState::from_number(number).ok_or(Damage::Number { what: "friend state", number })?;
    Ok(Edge { state, since: Timestamp(record.since.to_native()) })
}

pub(crate) fn encode_friend_counts(friend_counts: FriendCounts) -> Vec<u8> {
    encode(Kind::FriendCounts, &FriendCountsV1 { friends: friend_counts.friends, edges: friend_counts.edges })
}

pub(crate) fn decode_friend_counts(bytes: &[u8]) -> Result<FriendCounts, Damage> {
    let record = access::<ArchivedFriendCountsV1>(Kind::FriendCounts, bytes)?;
    Ok(FriendCounts { friends: record.friends.to_native(), edges: record.edges.to_native() })
}
