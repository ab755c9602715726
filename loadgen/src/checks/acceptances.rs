//! When the server accepted each message and under which id, as the message's publisher saw it. Stays are judged by
//! these acceptances.
//!
//! Only runs whose members come and go need them. One acceptance takes 29 bytes, in base64 between processes.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::wire::Kind;

const ACCEPTANCE_BYTES: usize = 29;

/// A message id as a number. UUIDs keep their order; where ids rise with the channel's order, that is the channel's
/// order too. Of any other id two halves of a hash are kept; these have no order.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct MessageId(pub u128);

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Acceptance {
    pub index: u32,
    /// Whether a new message was accepted, or an update or removal of an earlier message.
    pub kind: Kind,
    /// When the publisher received the acknowledgement.
    pub at_ns: u64,
    /// The message's own id; for an update or a removal, the id of the message that it changes.
    pub id: MessageId,
}

#[derive(Clone, Default, PartialEq, Eq, Debug)]
pub struct Acceptances(pub Vec<Acceptance>);

impl MessageId {
    pub fn read(text: &str) -> Self {
        Self::of_uuid(text).unwrap_or_else(|| {
            let half = |salt: &[u8]| {
                let mut hasher = std::hash::DefaultHasher::new();
                std::hash::Hasher::write(&mut hasher, salt);
                std::hash::Hasher::write(&mut hasher, text.as_bytes());
                u128::from(std::hash::Hasher::finish(&hasher))
            };
            Self(half(b"high") << 64 | half(b"low"))
        })
    }

    /// 32 hexadecimal digits in groups of 8, 4, 4, 4 and 12.
    fn of_uuid(text: &str) -> Option<Self> {
        let bytes = text.as_bytes();
        if bytes.len() != 36 {
            return None;
        }
        let mut number = 0;
        for (at, byte) in bytes.iter().enumerate() {
            if matches!(at, 8 | 13 | 18 | 23) {
                (*byte == b'-').then_some(())?;
                continue;
            }
            number = number << 4 | u128::from((*byte as char).to_digit(16)?);
        }
        Some(Self(number))
    }
}

impl Acceptances {
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl Serialize for Acceptances {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut bytes = Vec::with_capacity(self.0.len() * ACCEPTANCE_BYTES);
        for Acceptance { index, kind, at_ns, id } in &self.0 {
            bytes.extend(index.to_le_bytes());
            bytes.extend(at_ns.to_le_bytes());
            bytes.extend(id.0.to_le_bytes());
            bytes.push(kind.code());
        }
        debug_assert_eq!(bytes.len(), self.0.len() * ACCEPTANCE_BYTES, "all acceptances have one size");
        serializer.serialize_str(&STANDARD.encode(bytes))
    }
}

impl<'de> Deserialize<'de> for Acceptances {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let bytes = STANDARD.decode(text).map_err(serde::de::Error::custom)?;
        let (entries, rest) = bytes.as_chunks::<ACCEPTANCE_BYTES>();
        if !rest.is_empty() {
            return Err(serde::de::Error::custom("acceptances are 29 bytes each"));
        }
        let entry = |[a, b, c, d, e, f, g, h, i, j, k, l, id @ .., code]: &[u8; ACCEPTANCE_BYTES]| {
            let kind =
                Kind::of_code((*code).into()).ok_or_else(|| serde::de::Error::custom("no kind has this code"))?;
            Ok(Acceptance {
                index: u32::from_le_bytes([*a, *b, *c, *d]),
                kind,
                at_ns: u64::from_le_bytes([*e, *f, *g, *h, *i, *j, *k, *l]),
                id: MessageId(u128::from_le_bytes(*id)),
            })
        };
        entries.iter().map(entry).collect::<Result<_, _>>().map(Self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn uuids_keep_their_order_and_other_ids_are_told_apart() {
        let [one, other] =
            ["0193a000-0000-7000-8000-00000000000f", "0193a000-0000-7000-8000-000000000010"].map(MessageId::read);
        assert_eq!((one.0 & 0xff, other.0 & 0xff), (0x0f, 0x10));
        assert!(one < other);
        assert_eq!(MessageId::read("id-7"), MessageId::read("id-7"));
        assert_ne!(MessageId::read("id-7"), MessageId::read("id-8"));
        for no_uuid in ["", "0193a000-0000-7000-8000-00000000001", "0193a000x0000-7000-8000-000000000010"] {
            assert_eq!(MessageId::of_uuid(no_uuid), None, "{no_uuid}");
        }
    }

    #[test]
    fn acceptances_travel_unchanged() {
        let acceptances = Acceptances(vec![
            Acceptance { index: 3, kind: Kind::Removal, at_ns: 1 << 50, id: MessageId(1 << 100) },
            Acceptance { index: u32::MAX, kind: Kind::New, at_ns: u64::MAX, id: MessageId(u128::MAX) },
        ]);
        let line = serde_json::to_string(&acceptances).expect("text");
        assert_eq!(serde_json::from_str::<Acceptances>(&line).expect("what was written"), acceptances);
        assert!(serde_json::from_str::<Acceptances>("\"AAAA\"").is_err());
    }
}
