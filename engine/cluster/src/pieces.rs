//! Parcels as the payload of frames: one after another, and in pieces where a parcel is longer than the room in a frame.
//!
//! ```text
//! piece: length 4 (the highest bit: the parcel goes on in the next frame) | bytes
//! ```
//!
//! A payload that was checked holds whole pieces, and only its last piece may go on.

use bytes::{Buf, Bytes};

/// The bytes before each piece.
pub const PIECE_HEAD_BYTES: usize = 4;

const GOES_ON: u32 = 1 << 31;

/// Why bytes are no payload.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("the payload's pieces do not fill it")]
pub struct BadPieces;

/// A part of a parcel, or a whole one.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Piece {
    pub bytes: Bytes,
    /// Whether the parcel goes on in the next frame.
    pub goes_on: bool,
}

/// The payload of a frame: whole pieces, at least one when it is made.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Payload(Bytes);

impl Payload {
    /// Checks the lengths of all pieces. Fails if they do not fill the bytes, or if a piece that goes on is empty or is not
    /// the last.
    pub fn checked(bytes: Bytes) -> Result<Self, BadPieces> {
        let mut rest = &bytes[..];
        let mut goes_on = false;
        if rest.is_empty() {
            return Err(BadPieces);
        }
        while let Some((head, behind)) = rest.split_first_chunk::<PIECE_HEAD_BYTES>() {
            let head = u32::from_le_bytes(*head);
            let length = (head & !GOES_ON) as usize;
            if goes_on || length > behind.len() {
                return Err(BadPieces);
            }
            goes_on = head & GOES_ON != 0;
            if goes_on && length == 0 {
                return Err(BadPieces);
            }
            rest = &behind[length..];
        }
        if rest.is_empty() { Ok(Self(bytes)) } else { Err(BadPieces) }
    }

    /// The bytes, heads included.
    pub fn bytes(&self) -> &Bytes {
        &self.0
    }

    /// Takes the first piece out.
    pub fn take(&mut self) -> Option<Piece> {
        if self.0.is_empty() {
            return None;
        }
        let head = self.0.get_u32_le();
        let bytes = self.0.split_to((head & !GOES_ON) as usize);
        Some(Piece { bytes, goes_on: head & GOES_ON != 0 })
    }

    /// Whether all pieces have been taken.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// Makes payloads of parcels.
#[derive(Debug, Default)]
pub struct Filling(Vec<u8>);

impl Filling {
    /// Adds what has room of the rest of a parcel, in a payload of at most `bytes_max`. Returns how many bytes of it;
    /// `None` if there is no room, which an empty payload always has.
    pub fn add(&mut self, rest: &[u8], bytes_max: usize) -> Option<usize> {
        let room = bytes_max.saturating_sub(self.0.len() + PIECE_HEAD_BYTES);
        if bytes_max < self.0.len() + PIECE_HEAD_BYTES + rest.len().min(1) {
            return None;
        }
        let length = rest.len().min(room);
        let goes_on = if length < rest.len() { GOES_ON } else { 0 };
        self.0.extend_from_slice(&(length as u32 | goes_on).to_le_bytes());
        self.0.extend_from_slice(&rest[..length]);
        Some(length)
    }

    /// The bytes so far, heads included.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether nothing was added.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The payload. The next parcel begins another.
    pub fn finish(&mut self) -> Payload {
        let mut bytes = std::mem::take(&mut self.0);
        bytes.shrink_to_fit();
        Payload(bytes.into())
    }
}

/// A parcel is longer than any parcel may be.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct TooLong;

/// Makes parcels of pieces.
#[derive(Debug, Default)]
pub struct Joining(Vec<u8>);

impl Joining {
    /// The parcel, if this is its last piece. Fails if the parcel is longer than `bytes_max`.
    pub fn add(&mut self, piece: Piece, bytes_max: usize) -> Result<Option<Bytes>, TooLong> {
        if self.0.len() + piece.bytes.len() > bytes_max {
            return Err(TooLong);
        }
        if self.0.is_empty() && !piece.goes_on {
            return Ok(Some(piece.bytes));
        }
        self.0.extend_from_slice(&piece.bytes);
        Ok((!piece.goes_on).then(|| std::mem::take(&mut self.0).into()))
    }

    /// The bytes of a parcel of which pieces are missing.
    pub fn unfinished(&self) -> usize {
        self.0.len()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const BYTES_MAX: usize = 64;

    fn cut(parcels: &[Vec<u8>]) -> Vec<Payload> {
        let (mut filling, mut payloads) = (Filling::default(), Vec::new());
        for parcel in parcels {
            let mut rest = &parcel[..];
            loop {
                match filling.add(rest, BYTES_MAX) {
                    Some(length) if length == rest.len() => break,
                    Some(length) => rest = &rest[length..],
                    None => payloads.push(filling.finish()),
                }
            }
        }
        if !filling.is_empty() {
            payloads.push(filling.finish());
        }
        payloads
    }

    proptest! {
        #[test]
        fn parcels_come_out_as_they_went_in(
            parcels in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..300), 0..20),
        ) {
            let (mut joining, mut joined) = (Joining::default(), Vec::new());
            for payload in cut(&parcels) {
                prop_assert!(payload.bytes().len() <= BYTES_MAX);
                let mut payload = Payload::checked(payload.bytes().clone()).unwrap();
                while let Some(piece) = payload.take() {
                    joined.extend(joining.add(piece, 300).unwrap());
                }
            }
            prop_assert_eq!(joining.unfinished(), 0);
            prop_assert!(joined.iter().map(|parcel| parcel.to_vec()).eq(parcels));
        }

        #[test]
        fn what_is_checked_can_be_taken(bytes in prop::collection::vec(prop_oneof![Just(0_u8), 1..9_u8, any::<u8>()], 0..40)) {
            if let Ok(mut payload) = Payload::checked(bytes.clone().into()) {
                let mut taken = 0;
                while let Some(piece) = payload.take() {
                    taken += PIECE_HEAD_BYTES + piece.bytes.len();
                    prop_assert!(!piece.goes_on || payload.is_empty());
                }
                prop_assert_eq!(taken, bytes.len());
            }
        }
    }

    #[test]
    fn pieces_must_fill_their_payload() {
        let check = |bytes: &[u8], good: bool| {
            assert_eq!(Payload::checked(Bytes::copy_from_slice(bytes)).is_ok(), good, "{bytes:?}");
        };
        check(&[], false);
        check(&[0, 0, 0, 0], true);
        check(&[1, 0, 0, 0, 7], true);
        check(&[1, 0, 0, 0], false);
        check(&[1, 0, 0, 0, 7, 0], false);
        check(&[1, 0, 0, 0x80, 7], true);
        check(&[0, 0, 0, 0x80], false);
        check(&[1, 0, 0, 0x80, 7, 0, 0, 0, 0], false);
        check(&[0xff, 0xff, 0xff, 0x7f, 7], false);
    }

    #[test]
    fn a_parcel_has_a_longest_length() {
        let piece = |length, goes_on| Piece { bytes: vec![0; length].into(), goes_on };
        let mut joining = Joining::default();
        assert_eq!(joining.add(piece(6, true), 10), Ok(None));
        assert_eq!(joining.add(piece(5, false), 10), Err(TooLong));
        assert_eq!(Joining::default().add(piece(11, false), 10), Err(TooLong));
    }
}
