//! Records of the leftovers of deleted things.

use rkyv::{Archive, Deserialize, Serialize};

use super::{Damage, Kind, access, encode, malformed};

#[derive(Archive, Serialize, Deserialize)]
struct LeftoverV1 {
    step: u8,
    from: Vec<u8>,
}

/// How far the removal of a deleted thing's rows has come.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(crate) struct Leftover {
    /// The index of the table whose rows are being removed.
    pub step: u8,
    /// The last key that was removed there, so that the next step does not scan removed rows again; empty at first.
    pub from: Vec<u8>,
}

pub(crate) fn encode_leftover(leftover: &Leftover) -> Vec<u8> {
    encode(Kind::Leftover, &LeftoverV1 { step: leftover.step, from: leftover.from.clone() })
}

pub(crate) fn decode_leftover(bytes: &[u8]) -> Result<Leftover, Damage> {
    let record = access::<ArchivedLeftoverV1>(Kind::Leftover, bytes)?;
    let record: LeftoverV1 = rkyv::deserialize(record).map_err(malformed)?;
    Ok(Leftover { step: record.step, from: record.from })
}
