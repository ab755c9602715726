//! Listings that only lead forward, page by page: groups, members, friends (docs/protocol.md, sections 5 and 7).
//!
//! The store reads one item more than the page holds, to tell whether there are more. A cursor is the place of a page's
//! last item, or the place up to which the store has looked. It is valid for this listing only: the listing of another
//! user or group, or with another filter, is a different one.

use engine::id::{Timestamp, UserId};
use engine::social::friend::FriendState;
use engine::social::group::Role;
use storage::Part;
use storage::friend::FriendPlace;
use storage::group::{GroupPlace, RosterPlace};
use uuid::Uuid;

use super::error::Refusal;
use super::query::Query;
use super::services::Services;

/// The part of a listing that a client asks for.
pub struct Stretch<P> {
    /// The listing's name, for its cursors.
    listing: String,
    pub limit: usize,
    pub after: Option<P>,
}

/// Where a listing continues, as the bytes in a cursor.
pub trait ResumePoint: Sized {
    /// The point as bytes that [`ResumePoint::from_bytes`] reads.
    fn to_bytes(&self) -> Vec<u8>;
    /// The point that [`ResumePoint::to_bytes`] wrote, or `None` if these bytes are no such point.
    fn from_bytes(bytes: &[u8]) -> Option<Self>;
}

impl<P: ResumePoint> Stretch<P> {
    /// Reads from the query which part of the listing the client wants. `listing` is a name that no channel has.
    /// Refused if the cursor is not of this listing.
    pub fn asked(services: &Services, query: &Query, listing: String, limit: usize) -> Result<Self, Refusal> {
        let after = match query.text("cursor")? {
            None | Some("") => None,
            Some(text) => {
                let place = services.cursors.decode_place(&listing, text).and_then(|place| P::from_bytes(&place));
                Some(place.ok_or_else(|| Refusal::invalid("this cursor is not of this listing"))?)
            }
        };
        Ok(Self { listing, limit, after })
    }

    /// How many items the store is to read.
    pub fn read_limit(&self) -> usize {
        self.limit + 1
    }

    /// Makes the page from the items that were read, and the cursor to the next page if there are more.
    pub fn page<T>(&self, services: &Services, read: Part<(T, P), P>) -> (Vec<T>, Option<String>) {
        let Part { mut items, stopped } = read;
        debug_assert!(items.len() <= self.read_limit(), "{} items were read", items.len());
        let more = items.len() > self.limit;
        items.truncate(self.limit);
        let last = items.last().filter(|_| more).map(|(_, place)| place);
        let cursor = last.or(stopped.as_ref()).map(|place| self.cursor(services, place));
        (items.into_iter().map(|(item, _)| item).collect(), cursor)
    }

    /// The cursor for this place.
    pub fn cursor(&self, services: &Services, place: &P) -> String {
        let bytes = place.to_bytes();
        debug_assert!(P::from_bytes(&bytes).is_some_and(|read| read.to_bytes() == bytes), "a place can be read back");
        services.cursors.encode_place(&self.listing, &bytes)
    }
}

impl ResumePoint for GroupPlace {
    fn to_bytes(&self) -> Vec<u8> {
        self.clone().into()
    }

    fn from_bytes(bytes: &[u8]) -> Option<Self> {
        Some(bytes.to_vec().into())
    }
}

impl ResumePoint for RosterPlace {
    fn to_bytes(&self) -> Vec<u8> {
        ranked(self.role as u8, self.since, self.id)
    }

    fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let (role, since, id) = read_ranked(bytes)?;
        Some(Self { role: Role::from_number(role.into())?, since, id })
    }
}

impl ResumePoint for FriendPlace {
    fn to_bytes(&self) -> Vec<u8> {
        ranked(self.state as u8, self.since, self.user.0)
    }

    fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let (state, since, user) = read_ranked(bytes)?;
        Some(Self { state: FriendState::from_number(state.into())?, since, user: UserId(user) })
    }
}

/// The bytes of a place in a listing that is ordered by rank, then time, then id.
fn ranked(rank: u8, since: Timestamp, id: Uuid) -> Vec<u8> {
    [&[rank][..], &since.0.to_be_bytes(), id.as_bytes()].concat()
}

fn read_ranked(bytes: &[u8]) -> Option<(u8, Timestamp, Uuid)> {
    let (rank, rest) = bytes.split_first()?;
    let (since, id) = rest.split_first_chunk()?;
    Some((*rank, Timestamp(i64::from_be_bytes(*since)), Uuid::from_slice(id).ok()?))
}
