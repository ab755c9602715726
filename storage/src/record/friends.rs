//! Records of friends and blocks.

use engine::id::Timestamp;
use engine::social::friend::FriendState;
use rkyv::with::InlineAsBox;
use rkyv::{Archive, Deserialize, Serialize};

use super::{Damage, Kind, VERSION, access, access_version, encode, encode_version, version_of};
use crate::friend::{Edge, FriendCounts};

#[derive(Archive, Serialize, Deserialize)]
struct EdgeV1 {
    since: i64,
    state: u8,
}

/// A side with metadata. One without is still written as version 1, so an earlier program reads it.
#[derive(Archive, Serialize)]
struct EdgeV2<'a> {
    since: i64,
    state: u8,
    #[rkyv(with = InlineAsBox)]
    metadata: &'a str,
}

/// The version of [`EdgeV2`].
pub(super) const EDGE_VERSION: u8 = 2;

#[derive(Archive, Serialize, Deserialize)]
struct FriendCountsV1 {
    friends: u32,
    edges: u32,
}

pub(crate) fn encode_edge(edge: &Edge) -> Vec<u8> {
    let (since, state) = (edge.since.0, edge.state as u8);
    match &*edge.metadata {
        "" => encode(Kind::Edge, &EdgeV1 { since, state }),
        metadata => encode_version(Kind::Edge, EDGE_VERSION, &EdgeV2 { since, state, metadata }),
    }
}

pub(crate) fn decode_edge(bytes: &[u8]) -> Result<Edge, Damage> {
    if version_of(bytes) == Some(EDGE_VERSION) {
        let record = access_version::<ArchivedEdgeV2>(Kind::Edge, EDGE_VERSION, bytes)?;
        return edge(record.state, record.since.to_native(), &record.metadata);
    }
    let record = access_version::<ArchivedEdgeV1>(Kind::Edge, VERSION, bytes)?;
    edge(record.state, record.since.to_native(), "")
}

fn edge(state: u8, since: i64, metadata: &str) -> Result<Edge, Damage> {
    let number = i32::from(state);
    let state = FriendState::from_number(number).ok_or(Damage::Number { what: "friend state", number })?;
    Ok(Edge { state, since: Timestamp(since), metadata: metadata.into() })
}

pub(crate) fn encode_friend_counts(friend_counts: FriendCounts) -> Vec<u8> {
    encode(Kind::FriendCounts, &FriendCountsV1 { friends: friend_counts.friends, edges: friend_counts.edges })
}

pub(crate) fn decode_friend_counts(bytes: &[u8]) -> Result<FriendCounts, Damage> {
    let record = access::<ArchivedFriendCountsV1>(Kind::FriendCounts, bytes)?;
    Ok(FriendCounts { friends: record.friends.to_native(), edges: record.edges.to_native() })
}
