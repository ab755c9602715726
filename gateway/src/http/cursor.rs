//! Cursors of listings: opaque text for clients, checked on return (docs/protocol.md, sections 2.10 and 6).
//!
//! A cursor of history is base64url of: version, direction, step, message id (16 bytes), hash of the channel (8), keyed
//! check (4). One of presence is laid out in the same way, with its own mark and a session's id.
//! What was not made here, or for another channel, or for the other direction, is refused.

use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use engine::id::{ChannelId, MessageId, SessionId};
use hmac::{Hmac, KeyInit, Mac};
use sha2::{Digest, Sha256};
use uuid::Uuid;

use crate::keys::SigningKeys;

const VERSION: u8 = 1;
/// What cursors of presence have in place of direction and step, which no history has.
const PRESENCE: [u8; 2] = [0xff, 0];
const ID_BYTES: usize = 16;
const CHANNEL_BYTES: usize = 8;
/// A forger is given away by one try in four thousand million; all that could be won is a place in readable history.
const CHECK_BYTES: usize = 4;
const SIGNED_BYTES: usize = 3 + ID_BYTES + CHANNEL_BYTES;
const CURSOR_BYTES: usize = SIGNED_BYTES + CHECK_BYTES;

/// A place in a channel's history, and which way it leads.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Cursor {
    /// The listing it belongs to.
    pub direction: Direction,
    pub step: Step,
    /// The message beyond which the page begins.
    pub id: MessageId,
}

/// The order of a listing.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Direction {
    OldestFirst,
    NewestFirst,
}

/// Whether a cursor leads on in its listing's order, or back.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Step {
    Next,
    Previous,
}

/// What cursors are checked with.
pub struct CursorKey(Hmac<Sha256>);

impl CursorKey {
    /// A key of its own, derived from the key that signs sessions: it lasts as long as that one.
    pub fn new(keys: &SigningKeys) -> Self {
        let keyed = |key: &[u8]| Hmac::<Sha256>::new_from_slice(key).expect("HMAC takes keys of any length");
        let derived = keyed(keys.session.bytes()).chain_update(b"history cursors").finalize().into_bytes();
        Self(keyed(&derived))
    }

    pub fn encode(&self, channel: &ChannelId, cursor: Cursor) -> String {
        self.write(channel, [cursor.direction as u8, cursor.step as u8], cursor.id.0)
    }

    /// The cursor in this text, if this server gave it out for this channel and direction.
    pub fn decode(&self, channel: &ChannelId, direction: Direction, text: &str) -> Option<Cursor> {
        let (mark, id) = self.read(channel, text)?;
        let step = [Step::Next, Step::Previous].into_iter().find(|step| *step as u8 == mark[1])?;
        (mark[0] == direction as u8).then_some(Cursor { direction, step, id: MessageId(id) })
    }

    /// A place in the list of a channel's members: behind this session.
    pub fn encode_presence(&self, channel: &ChannelId, after: SessionId) -> String {
        self.write(channel, PRESENCE, after.0)
    }

    /// The session in this text, if this server gave it out for this channel's members.
    pub fn decode_presence(&self, channel: &ChannelId, text: &str) -> Option<SessionId> {
        let (mark, id) = self.read(channel, text)?;
        (mark == PRESENCE).then_some(SessionId(id))
    }

    fn write(&self, channel: &ChannelId, mark: [u8; 2], id: Uuid) -> String {
        let mut bytes = Vec::with_capacity(CURSOR_BYTES);
        bytes.push(VERSION);
        bytes.extend(mark);
        bytes.extend(id.as_bytes());
        bytes.extend(channel_hash(channel));
        bytes.extend(self.check(&bytes));
        BASE64_URL_SAFE_NO_PAD.encode(bytes)
    }

    /// The mark and the id of a cursor that this server gave out for this channel.
    fn read(&self, channel: &ChannelId, text: &str) -> Option<([u8; 2], Uuid)> {
        let bytes: [u8; CURSOR_BYTES] = BASE64_URL_SAFE_NO_PAD.decode(text).ok()?.try_into().ok()?;
        let (signed, check) = bytes.split_at(SIGNED_BYTES);
        let (head, rest) = signed.split_at(3);
        let (id, hash) = rest.split_at(ID_BYTES);
        let good = head[0] == VERSION && hash == channel_hash(channel) && check == self.check(signed);
        good.then(|| Some(([head[1], head[2]], Uuid::from_slice(id).ok()?)))?
    }

    fn check(&self, signed: &[u8]) -> [u8; CHECK_BYTES] {
        first(&self.0.clone().chain_update(signed).finalize().into_bytes())
    }
}

fn channel_hash(channel: &ChannelId) -> [u8; CHANNEL_BYTES] {
    first(&Sha256::digest(channel.as_str()))
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
    use crate::options::Secret;
    use crate::token::tests::keys;

    fn lobby() -> ChannelId {
        ChannelId::room("lobby").unwrap()
    }

    fn cursor(direction: Direction, step: Step, id: u128) -> Cursor {
        Cursor { direction, step, id: MessageId(Uuid::from_u128(id)) }
    }

    #[test]
    fn refuses_what_it_did_not_give_for_this() {
        let key = CursorKey::new(&keys());
        let text = key.encode(&lobby(), cursor(Direction::OldestFirst, Step::Next, 7));
        let decode = |channel: &ChannelId, direction, text: &str| key.decode(channel, direction, text);
        assert!(decode(&lobby(), Direction::OldestFirst, &text).is_some());
        assert_eq!(decode(&lobby(), Direction::NewestFirst, &text), None);
        assert_eq!(decode(&ChannelId::room("other").unwrap(), Direction::OldestFirst, &text), None);
        for text in ["", "AQ", "nonsense!", &format!("{text}A"), &format!("{text}="), &text[1..]] {
            assert_eq!(decode(&lobby(), Direction::OldestFirst, text), None, "{text}");
        }
        let mut others = keys();
        others.session = Secret::new(*b"the-key-of-another-server");
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
            for step in [Step::Next, Step::Previous] {
                let history = key.encode(&lobby(), cursor(direction, step, 7));
                assert_eq!(key.decode_presence(&lobby(), &history), None);
            }
        }
    }

    proptest! {
        #[test]
        fn comes_back_as_it_was_given(newest: bool, previous: bool, id: u128) {
            let key = CursorKey::new(&keys());
            let direction = if newest { Direction::NewestFirst } else { Direction::OldestFirst };
            let step = if previous { Step::Previous } else { Step::Next };
            let cursor = cursor(direction, step, id);
            prop_assert_eq!(key.decode(&lobby(), direction, &key.encode(&lobby(), cursor)), Some(cursor));
        }

        #[test]
        fn a_changed_bit_is_noticed(id: u128, place: prop::sample::Index, bit in 0..8u8) {
            let key = CursorKey::new(&keys());
            let text = key.encode(&lobby(), cursor(Direction::OldestFirst, Step::Next, id));
            let mut bytes = BASE64_URL_SAFE_NO_PAD.decode(&text).unwrap();
            bytes[place.index(CURSOR_BYTES)] ^= 1 << bit;
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
