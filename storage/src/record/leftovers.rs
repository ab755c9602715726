//! Records of what is left of things deleted.

use rkyv::{Archive, Deserialize, Serialize};

use super::{Damage, Kind, access, encode, malformed};

#[derive(Archive, Serialize, Deserialize)]
struct LeftoverV1 {
    step: u8,
    from: Vec<u8>,
}

/// How far the sweeping of something deleted has come.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Leftover {
    /// Which of its tables is being swept.
    pub step: u8,
    /// The last key there that was swept, so that nobody walks over removed rows again; empty at first.
    pub from: Vec<u8>,
}

pub fn encode_leftover(leftover: &Leftover) -> Vec<u8> {
    encode(Kind::Leftover, &LeftoverV1 { step: leftover.step, from: leftover.from.clone() })
}

pub fn decode_leftover(bytes: &[u8]) -> Result<Leftover, Damage> {
    let record = access::<ArchivedLeftoverV1>(Kind::Leftover, bytes)?;
    let record: LeftoverV1 = rkyv::deserialize(record).map_err(malformed)?;
    Ok(Leftover { step: record.step, from: record.from })
}
