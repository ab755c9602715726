//! Cursors of listings: opaque text for clients, checked on return (docs/protocol.md, sections 2.10, 5, 6, 7 and 9).
//!
//! A cursor is base64url of: version, place, hash of the listing's name (8 bytes), keyed check (4 bytes). The listings
//! of a channel have the channel's id as their name. In history, a place is direction, step and message id. In the list
//! of members, a place is the mark `PRESENCE` and a session's id. A cursor is refused if this server did not make it,
//! or if it is for another listing or the other direction.

use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use engine::id::{ChannelId, MessageId, SessionId};
use hmac::{Hmac, KeyInit, Mac};
use sha2::{Digest, Sha256};
use uuid::Uuid;

use crate::keys::SigningKeys;
use crate::options::Secret;

const VERSION: u8 = 1;
/// Cursors of presence have this in place of direction and step. No history cursor has these values.
const PRESENCE: [u8; 2] = [0xff, 0];
const LISTING_BYTES: usize = 8;
/// A guess is right once in four thousand million tries, and it would only give a place in a listing that the client
/// can read anyway.
const CHECK_BYTES: usize = 4;

/// A place in a channel's history, and the direction in which it leads.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Cursor {
    /// The direction of the listing that the cursor belongs to.
    pub direction: Direction,
    pub step: PageStep,
    /// The message beyond which the page begins.
    pub id: MessageId,
}

/// The order of a listing.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Direction {
    OldestFirst,
    NewestFirst,
}

/// Whether a cursor leads forward in its listing's order, or back.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum PageStep {
    Next,
    Previous,
}

/// The keys that cursors are checked with. The first of them makes cursors.
pub struct CursorKey(Vec<Hmac<Sha256>>);

impl CursorKey {
    /// Derives separate keys from the key that signs sessions and from the one before it. A cursor is valid as long as the
    /// server is started with the key that it was made with as one of the two.
    pub fn new(keys: &SigningKeys) -> Self {
        let keyed = |key: &[u8]| Hmac::<Sha256>::new_from_slice(key).expect("HMAC takes keys of any length");
        let derived =
            |key: &Secret| keyed(&keyed(key.bytes()).chain_update(b"history cursors").finalize().into_bytes());
        let previous = keys.session.previous.iter().flat_map(|previous| &previous.forms);
        Self([&keys.session.present].into_iter().chain(previous).map(derived).collect())
    }

    /// The text of a cursor in the history of the channel. It is valid for this channel alone.
    pub fn encode(&self, channel: &ChannelId, cursor: Cursor) -> String {
        self.encode_marked(channel, [cursor.direction as u8, cursor.step as u8], cursor.id.0)
    }

    /// The cursor in this text, if this server gave it out for this channel and direction.
    pub fn decode(&self, channel: &ChannelId, direction: Direction, text: &str) -> Option<Cursor> {
        let (mark, id) = self.decode_marked(channel, text)?;
        let step = [PageStep::Next, PageStep::Previous].into_iter().find(|step| *step as u8 == mark[1])?;
        (mark[0] == direction as u8).then_some(Cursor { direction, step, id: MessageId(id) })
    }

    /// A cursor in the list of a channel's members: the page begins after this session.
    pub fn encode_presence(&self, channel: &ChannelId, after: SessionId) -> String {
        self.encode_marked(channel, PRESENCE, after.0)
    }

    /// The session in this text, if this server gave it out for this channel's members.
    pub fn decode_presence(&self, channel: &ChannelId, text: &str) -> Option<SessionId> {
        let (mark, id) = self.decode_marked(channel, text)?;
        (mark == PRESENCE).then_some(SessionId(id))
    }

    /// A cursor of the listing with this name. The name must say whose listing it is and what it lists.
    pub fn encode_place(&self, listing: &str, place: &[u8]) -> String {
        let mut bytes = [&[VERSION], place, &listing_hash(listing)].concat();
        let check = self.checks(&bytes).next().expect("there is a present key");
        bytes.extend(check);
        let text = BASE64_URL_SAFE_NO_PAD.encode(bytes);
        debug_assert_eq!(self.decode_place(listing, &text).as_deref(), Some(place), "a cursor can be read back");
        text
    }

    /// The place in this text, if this server gave it out for this listing.
    pub fn decode_place(&self, listing: &str, text: &str) -> Option<Vec<u8>> {
        let bytes = BASE64_URL_SAFE_NO_PAD.decode(text).ok()?;
        let (signed, check) = bytes.split_last_chunk::<CHECK_BYTES>()?;
        let (head, hash) = signed.split_last_chunk::<LISTING_BYTES>()?;
        let (version, place) = head.split_first()?;
        let good =
            *version == VERSION && *hash == listing_hash(listing) && self.checks(signed).any(|one| one == *check);
        good.then(|| place.to_vec())
    }

    fn encode_marked(&self, channel: &ChannelId, mark: [u8; 2], id: Uuid) -> String {
        self.encode_place(channel.as_str(), &[&mark[..], id.as_bytes()].concat())
    }

    fn decode_marked(&self, channel: &ChannelId, text: &str) -> Option<([u8; 2], Uuid)> {
        let place = self.decode_place(channel.as_str(), text)?;
        let (mark, id) = place.split_first_chunk()?;
        Some((*mark, Uuid::from_slice(id).ok()?))
    }

    /// The check that each key makes of these bytes.
    fn checks(&self, signed: &[u8]) -> impl Iterator<Item = [u8; CHECK_BYTES]> {
        self.0.iter().map(move |key| first(&key.clone().chain_update(signed).finalize().into_bytes()))
    }
}

fn listing_hash(listing: &str) -> [u8; LISTING_BYTES] {
    first(&Sha256::digest(listing))
}

fn first<const N: usize>(digest: &[u8]) -> [u8; N] {
    let mut bytes = [0; N];
    bytes.copy_from_slice(&digest[..N]);
    bytes
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::token::tests::keys;

    fn lobby() -> ChannelId {
        ChannelId::room("lobby").unwrap()
    }

    fn cursor(direction: Direction, step: PageStep, id: u128) -> Cursor {
        Cursor { direction, step, id: MessageId(Uuid::from_u128(id)) }
    }

    #[test]
    fn refuses_what_it_did_not_give_for_this() {
        let key = CursorKey::new(&keys());
        let text = key.encode(&lobby(), cursor(Direction::OldestFirst, PageStep::Next, 7));
        let decode = |channel: &ChannelId, direction, text: &str| key.decode(channel, direction, text);
        assert!(decode(&lobby(), Direction::OldestFirst, &text).is_some());
        assert_eq!(decode(&lobby(), Direction::NewestFirst, &text), None);
        assert_eq!(decode(&ChannelId::room("other").unwrap(), Direction::OldestFirst, &text), None);
        for text in ["", "AQ", "nonsense!", &format!("{text}A"), &format!("{text}="), &text[1..]] {
            assert_eq!(decode(&lobby(), Direction::OldestFirst, text), None, "{text}");
        }
        let mut others = keys();
        others.session.present = Secret::new(*b"the-key-of-another-server");
        assert_eq!(CursorKey::new(&others).decode(&lobby(), Direction::OldestFirst, &text), None);
    }

    #[test]
    fn places_among_members_and_in_history_are_two_things() {
        let key = CursorKey::new(&keys());
        let session = SessionId(Uuid::from_u128(7));
        let text = key.encode_presence(&lobby(), session);
        assert_eq!(key.decode_presence(&lobby(), &text), Some(session));
        assert_eq!(key.decode_presence(&ChannelId::room("other").unwrap(), &text), None);
        assert_eq!(key.decode_presence(&lobby(), &text[1..]), None);
        for direction in [Direction::OldestFirst, Direction::NewestFirst] {
            assert_eq!(key.decode(&lobby(), direction, &text), None);
            for step in [PageStep::Next, PageStep::Previous] {
                let history = key.encode(&lobby(), cursor(direction, step, 7));
                assert_eq!(key.decode_presence(&lobby(), &history), None);
            }
        }
    }

    #[test]
    fn places_of_any_length_belong_to_their_listing() {
        let key = CursorKey::new(&keys());
        for place in [&b""[..], b"x", &[7; 300]] {
            let text = key.encode_place("friend/a?state=", place);
            assert_eq!(key.decode_place("friend/a?state=", &text).as_deref(), Some(place));
            assert_eq!(key.decode_place("friend/b?state=", &text), None);
            assert_eq!(key.decode_place("friend/a?state=", &text[1..]), None);
            assert_eq!(key.decode(&lobby(), Direction::OldestFirst, &text), None);
        }
        let short = key.encode_place(lobby().as_str(), &[0]);
        assert_eq!(key.decode(&lobby(), Direction::OldestFirst, &short), None);
    }

    #[test]
    fn what_clients_have_kept_stays_good() {
        let place = cursor(Direction::OldestFirst, PageStep::Next, 7);
        let kept = "AQAAAAAAAAAAAAAAAAAAAAAAB751DqWPBEw8V5_TCA";
        assert_eq!(CursorKey::new(&keys()).encode(&lobby(), place), kept);
    }

    proptest! {
        #[test]
        fn comes_back_as_it_was_given(newest: bool, previous: bool, id: u128) {
            let key = CursorKey::new(&keys());
            let direction = if newest { Direction::NewestFirst } else { Direction::OldestFirst };
            let step = if previous { PageStep::Previous } else { PageStep::Next };
            let cursor = cursor(direction, step, id);
            prop_assert_eq!(key.decode(&lobby(), direction, &key.encode(&lobby(), cursor)), Some(cursor));
        }

        #[test]
        fn a_changed_bit_is_noticed(id: u128, place: prop::sample::Index, bit in 0..8u8) {
            let key = CursorKey::new(&keys());
            let text = key.encode(&lobby(), cursor(Direction::OldestFirst, PageStep::Next, id));
            let mut bytes = BASE64_URL_SAFE_NO_PAD.decode(&text).unwrap();
            let index = place.index(bytes.len());
            bytes[index] ^= 1 << bit;
            let changed = BASE64_URL_SAFE_NO_PAD.encode(bytes);
            prop_assert_eq!(key.decode(&lobby(), Direction::OldestFirst, &changed), None);
        }

        #[test]
        fn no_text_panics(text in ".*") {
            let key = CursorKey::new(&keys());
            prop_assert_eq!(key.decode(&lobby(), Direction::OldestFirst, &text), None);
        }
    }
}
