//! The bytes that cross the bus. A header of 48 bytes, then the payload of a frame:
//!
//! ```text
//! magic 2 | version 1 | kind 1 | from life 2 | to life 2 | link number 4 | payload length 4 |
//! number 8 | acknowledged 8 | received 8 | xxh3 of all but these 8 | payload
//! ```
//!
//! Numbers are little-endian. No input bytes can cause a panic here, and nothing of a packet is used before its length,
//! its checksum and the lengths of its pieces have been verified.

use bytes::Bytes;
use engine::id::Life;
use xxhash_rust::xxh3::Xxh3;

use crate::limits::FRAME_BYTES_MAX;
use crate::pieces::{BadPieces, Payload};

const MAGIC: [u8; 2] = *b"SL";
const VERSION: u8 = 1;
const CHECKSUM_AT: usize = 40;

/// The bytes before the payload.
pub const HEADER_BYTES: usize = 48;

/// The longest packet. A server of the bus must take it.
pub const PACKET_BYTES_MAX: usize = HEADER_BYTES + FRAME_BYTES_MAX;

/// Tells the states of a link between the same two lives apart: it rises whenever either of them resets the link.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct LinkNumber(pub u32);

/// A frame's number in its direction under one link number. The first is 1; 0 stands for none.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct FrameNumber(pub u64);

impl FrameNumber {
    /// The number of the frame after this one.
    pub fn next(self) -> Self {
        Self(self.0 + 1)
    }
}

/// What one life tells another over their link.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Packet {
    pub from: Life,
    pub to: Life,
    pub link: LinkNumber,
    /// All frames up to this one were taken by the shards. They need not be held any more.
    pub acknowledged: FrameNumber,
    /// All frames up to this one have arrived. They need not be sent again.
    pub received: FrameNumber,
    pub content: Content,
}

/// What a packet is for, beside its acknowledgement.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Content {
    Frame {
        number: FrameNumber,
        payload: Payload,
    },
    Acknowledgement,
    /// Asks for an answer at once. The number tells probes apart.
    Probe {
        number: u64,
    },
    Answer {
        probe: u64,
    },
    /// A frame behind `received` has not arrived, but one behind it has.
    Missing,
}

/// Why bytes are no packet.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum Damage {
    #[error("{0} bytes are too few for a packet")]
    TooShort(usize),
    #[error("{0} bytes are too many for a packet")]
    TooLong(usize),
    #[error("this is not a packet of ours")]
    Foreign,
    #[error("packet version {0} is unknown to this program; a newer one may have sent it")]
    Version(u8),
    #[error("the packet's payload has {found} bytes and should have {expected}")]
    Length { expected: usize, found: usize },
    #[error("the packet's checksum is wrong")]
    Checksum,
    #[error("packet kind {0} does not exist")]
    Kind(u8),
    #[error("the packet's fields contradict its kind")]
    Fields,
    #[error(transparent)]
    Pieces(#[from] BadPieces),
}

impl Packet {
    /// The packet as bytes: at most `PACKET_BYTES_MAX`, as long as the payload keeps to `FRAME_BYTES_MAX`.
    pub fn encode(&self) -> Bytes {
        let (kind, number, payload): (u8, u64, &[u8]) = match &self.content {
            Content::Frame { number, payload } => (1, number.0, payload.bytes()),
            Content::Acknowledgement => (2, 0, &[]),
            Content::Probe { number } => (3, *number, &[]),
            Content::Answer { probe } => (4, *probe, &[]),
            Content::Missing => (5, 0, &[]),
        };
        let mut bytes = Vec::with_capacity(HEADER_BYTES + payload.len());
        bytes.extend_from_slice(&MAGIC);
        bytes.extend_from_slice(&[VERSION, kind]);
        bytes.extend_from_slice(&self.from.0.to_le_bytes());
        bytes.extend_from_slice(&self.to.0.to_le_bytes());
        bytes.extend_from_slice(&self.link.0.to_le_bytes());
        bytes.extend_from_slice(&(payload.len() as u32).to_le_bytes());
        for number in [number, self.acknowledged.0, self.received.0] {
            bytes.extend_from_slice(&number.to_le_bytes());
        }
        let checksum = checksum(&bytes, payload);
        bytes.extend_from_slice(&checksum.to_le_bytes());
        bytes.extend_from_slice(payload);
        debug_assert!(Self::decode(bytes.clone().into()).as_ref() == Ok(self), "a packet that is written can be read");
        bytes.into()
    }

    /// The packet in these bytes. Its payload shares them.
    pub fn decode(mut bytes: Bytes) -> Result<Self, Damage> {
        if bytes.len() > PACKET_BYTES_MAX {
            return Err(Damage::TooLong(bytes.len()));
        }
        let Some(header) = bytes.first_chunk::<HEADER_BYTES>().copied() else {
            return Err(Damage::TooShort(bytes.len()));
        };
        let payload = bytes.split_off(HEADER_BYTES);
        let short = |at: usize| u16::from_le_bytes([header[at], header[at + 1]]);
        let word = |at: usize| u32::from(short(at)) | u32::from(short(at + 2)) << 16;
        let long = |at: usize| u64::from(word(at)) | u64::from(word(at + 4)) << 32;
        if header[..2] != MAGIC {
            return Err(Damage::Foreign);
        }
        if header[2] != VERSION {
            return Err(Damage::Version(header[2]));
        }
        let expected = word(12) as usize;
        if expected != payload.len() {
            return Err(Damage::Length { expected, found: payload.len() });
        }
        if long(CHECKSUM_AT) != checksum(&header[..CHECKSUM_AT], &payload) {
            return Err(Damage::Checksum);
        }
        let number = long(16);
        let content = match (header[3], number) {
            (1, 1..) => Content::Frame { number: FrameNumber(number), payload: Payload::checked(payload)? },
            (1..=5, _) if header[3] != 1 && !payload.is_empty() => return Err(Damage::Fields),
            (2, 0) => Content::Acknowledgement,
            (3, _) => Content::Probe { number },
            (4, _) => Content::Answer { probe: number },
            (5, 0) => Content::Missing,
            (1..=5, _) => return Err(Damage::Fields),
            (kind, _) => return Err(Damage::Kind(kind)),
        };
        let (acknowledged, received) = (FrameNumber(long(24)), FrameNumber(long(32)));
        if acknowledged > received {
            return Err(Damage::Fields);
        }
        let (from, to) = (Life(short(4)), Life(short(6)));
        Ok(Self { from, to, link: LinkNumber(word(8)), acknowledged, received, content })
    }
}

fn checksum(header: &[u8], payload: &[u8]) -> u64 {
    let mut hasher = Xxh3::new();
    hasher.update(header);
    hasher.update(payload);
    hasher.digest()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::pieces::Filling;

    fn contents() -> impl Strategy<Value = Content> {
        let frame = (1_u64.., prop::collection::vec(prop::collection::vec(any::<u8>(), 0..100), 1..5));
        let frame = frame.prop_map(|(number, parcels)| {
            let mut filling = Filling::default();
            for parcel in parcels {
                filling.add(&parcel, FRAME_BYTES_MAX);
            }
            Content::Frame { number: FrameNumber(number), payload: filling.finish() }
        });
        prop_oneof![
            frame,
            Just(Content::Acknowledgement),
            any::<u64>().prop_map(|number| Content::Probe { number }),
            any::<u64>().prop_map(|probe| Content::Answer { probe }),
            Just(Content::Missing),
        ]
    }

    prop_compose! {
        fn packets()(from: u16, to: u16, link: u32, one: u64, other: u64, content in contents()) -> Packet {
            let (acknowledged, received) = (FrameNumber(one.min(other)), FrameNumber(one.max(other)));
            Packet { from: Life(from), to: Life(to), link: LinkNumber(link), acknowledged, received, content }
        }
    }

    proptest! {
        #[test]
        fn packets_come_out_as_they_went_in(packet in packets()) {
            prop_assert_eq!(Packet::decode(packet.encode()), Ok(packet));
        }

        #[test]
        fn a_changed_bit_is_noticed(packet in packets(), at: prop::sample::Index, bit in 0..8) {
            let mut bytes = packet.encode().to_vec();
            let at = at.index(bytes.len());
            bytes[at] ^= 1_u8 << bit;
            prop_assert!(Packet::decode(bytes.into()).is_err());
        }

        #[test]
        fn a_packet_that_was_cut_is_noticed(packet in packets(), at: prop::sample::Index) {
            let bytes = packet.encode();
            prop_assert!(Packet::decode(bytes.slice(..at.index(bytes.len()))).is_err());
        }

        #[test]
        fn any_bytes_may_arrive(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = Packet::decode(bytes.into());
        }
    }

    fn acknowledgement() -> Packet {
        let (from, to) = (Life(1), Life(2));
        let (acknowledged, received) = (FrameNumber(3), FrameNumber(4));
        Packet { from, to, link: LinkNumber(5), acknowledged, received, content: Content::Acknowledgement }
    }

    /// The packet with these bytes in it, under a checksum that is right.
    fn with(at: usize, change: &[u8], payload: &[u8]) -> Result<Packet, Damage> {
        let mut bytes = acknowledgement().encode().to_vec();
        bytes[12] = payload.len() as u8;
        bytes[at..at + change.len()].copy_from_slice(change);
        let checksum = checksum(&bytes[..CHECKSUM_AT], payload);
        bytes[CHECKSUM_AT..].copy_from_slice(&checksum.to_le_bytes());
        bytes.extend_from_slice(payload);
        Packet::decode(bytes.into())
    }

    #[test]
    fn each_field_is_judged() {
        assert_eq!(with(0, b"SL", &[]), Ok(acknowledgement()));
        assert_eq!(with(0, b"St", &[]), Err(Damage::Foreign));
        assert_eq!(with(2, &[2], &[]), Err(Damage::Version(2)));
        assert_eq!(with(3, &[0], &[]), Err(Damage::Kind(0)));
        assert_eq!(with(3, &[6], &[]), Err(Damage::Kind(6)));
        assert_eq!(with(3, &[2], &[0, 0, 0, 0]), Err(Damage::Fields), "only frames have a payload");
        assert_eq!(with(3, &[1], &[0, 0, 0, 0]), Err(Damage::Fields), "frames are numbered from 1");
        assert_eq!(with(16, &[1], &[]), Err(Damage::Fields), "an acknowledgement has no number");
        assert_eq!(with(24, &[9], &[]), Err(Damage::Fields), "what was taken has arrived");
        assert_eq!(with(12, &[1], &[]), Err(Damage::Length { expected: 1, found: 0 }));
        let long = Bytes::from(vec![0; PACKET_BYTES_MAX + 1]);
        assert_eq!(Packet::decode(long), Err(Damage::TooLong(PACKET_BYTES_MAX + 1)));
    }
}
