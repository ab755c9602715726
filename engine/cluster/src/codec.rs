//! Parcels as bytes. A header of 20 bytes, then the body as rkyv lays it out:
//!
//! ```text
//! magic 2 | version 1 | reserved 1 | from core 2 | to core 2 | body length 4 | xxh3 of all but these 8 | body
//! ```
//!
//! A body is used only after its length and checksum have been verified, as in stored records. Layouts never change: a new
//! layout is a new struct with a new version. No input bytes can cause a panic here.
//!
//! Frames cross as the events that they are made of, once, however many members read them. The receiving home encodes
//! them in the formats that are read there. Replies that share a list of presences share it here too.

mod basics;
mod exchange;
mod parcels;
mod queries;

use engine::parcel::Parcel;
use rkyv::rancor;
use xxhash_rust::xxh3::Xxh3;

use parcels::{ArchivedRecordV1, RecordV1};

const MAGIC: [u8; 2] = *b"Sp";
const VERSION: u8 = 1;
const CHECKSUM_AT: usize = 12;
const HEADER_BYTES: usize = 20;

/// A parcel, and the cores of the two nodes between which it goes.
#[derive(Clone, Debug)]
pub struct Sent {
    pub from: u16,
    pub to: u16,
    pub parcel: Parcel,
}

/// Frames hold bytes of events that were not kept, so they cannot cross.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("frames for another node must keep their events")]
pub struct NotKept;

/// Why bytes are no parcel.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum Damage {
    #[error("{0} bytes are too few for a parcel")]
    TooShort(usize),
    #[error("this is not a parcel of ours")]
    Foreign,
    #[error("parcel version {0} is unknown to this program; a newer one may have sent it")]
    Version(u8),
    #[error("the parcel's body has {found} bytes and should have {expected}")]
    Length { expected: usize, found: usize },
    #[error("the parcel's checksum is wrong")]
    Checksum,
    #[error("the parcel's body is malformed: {0}")]
    Body(String),
    #[error("{what} {number} does not exist")]
    Number { what: &'static str, number: i32 },
    #[error("a channel's id is malformed")]
    Channel,
    #[error("a reply names a list that the parcel does not have")]
    List,
}

/// The bytes of a parcel from one core to another node's. Fails if it has frames whose events were not kept.
pub fn encode(from: u16, to: u16, parcel: &Parcel) -> Result<Vec<u8>, NotKept> {
    let record = RecordV1::try_from(parcel)?;
    // The body is written after space for the header, so nothing is copied.
    #[allow(clippy::expect_used)]
    let mut bytes = rkyv::api::high::to_bytes_in::<_, rancor::Error>(&record, vec![0; HEADER_BYTES])
        .expect("writing to memory does not fail");
    let (header, body) = bytes.split_at_mut(HEADER_BYTES);
    // The link refuses a parcel far shorter than what this cannot say.
    let length = u32::try_from(body.len()).unwrap_or(u32::MAX);
    header[..2].copy_from_slice(&MAGIC);
    header[2] = VERSION;
    header[4..6].copy_from_slice(&from.to_le_bytes());
    header[6..8].copy_from_slice(&to.to_le_bytes());
    header[8..CHECKSUM_AT].copy_from_slice(&length.to_le_bytes());
    let checksum = checksum(&header[..CHECKSUM_AT], body);
    header[CHECKSUM_AT..].copy_from_slice(&checksum.to_le_bytes());
    Ok(bytes)
}

/// The parcel in these bytes.
pub fn decode(bytes: &[u8]) -> Result<Sent, Damage> {
    let Some((header, body)) = bytes.split_first_chunk::<HEADER_BYTES>() else {
        return Err(Damage::TooShort(bytes.len()));
    };
    let [m0, m1, version, reserved, f0, f1, t0, t1, l0, l1, l2, l3, sum @ ..] = *header;
    if [m0, m1] != MAGIC {
        return Err(Damage::Foreign);
    }
    if (version, reserved) != (VERSION, 0) {
        return Err(Damage::Version(version));
    }
    let expected = u32::from_le_bytes([l0, l1, l2, l3]) as usize;
    if expected != body.len() {
        return Err(Damage::Length { expected, found: body.len() });
    }
    if u64::from_le_bytes(sum) != checksum(&header[..CHECKSUM_AT], body) {
        return Err(Damage::Checksum);
    }
    let record = rkyv::access::<ArchivedRecordV1, rancor::Error>(body);
    let parcel = record.map_err(|error| Damage::Body(error.to_string()))?.try_into()?;
    let (from, to) = (u16::from_le_bytes([f0, f1]), u16::from_le_bytes([t0, t1]));
    Ok(Sent { from, to, parcel })
}

fn checksum(header: &[u8], body: &[u8]) -> u64 {
    let mut hasher = Xxh3::new();
    hasher.update(header);
    hasher.update(body);
    hasher.digest()
}

#[cfg(test)]
mod tests;
