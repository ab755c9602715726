//! A list of presences that many answers carry.
//!
//! All who join a room between two presence events are told of the same members, and in a room of a thousand each answer
//! lists a thousand. So the list is encoded once for each format, when the first answer needs it, and the answers of
//! all shards copy these bytes.

use std::ops::Deref;
use std::sync::{Arc, OnceLock};

use crate::message::Presence;

/// Presences, with what they are on the wire. Copies share both.
#[derive(Clone, Debug)]
pub struct SharedPresences(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    presences: Box<[Presence]>,
    /// A JSON array.
    json: OnceLock<Box<[u8]>>,
    /// Fields of a protobuf message, one after another.
    protobuf: OnceLock<Box<[u8]>>,
}

impl SharedPresences {
    /// The list as a JSON array. The first call for a list makes it, with `encode`.
    pub fn json(&self, encode: impl FnOnce(&[Presence]) -> Vec<u8>) -> &[u8] {
        self.0.json.get_or_init(|| encode(self).into_boxed_slice())
    }

    /// The list as protobuf fields. The first call for a list makes them, with `encode`.
    pub fn protobuf(&self, encode: impl FnOnce(&[Presence]) -> Vec<u8>) -> &[u8] {
        self.0.protobuf.get_or_init(|| encode(self).into_boxed_slice())
    }
}

impl Deref for SharedPresences {
    type Target = [Presence];

    fn deref(&self) -> &[Presence] {
        &self.0.presences
    }
}

impl From<Vec<Presence>> for SharedPresences {
    fn from(presences: Vec<Presence>) -> Self {
        let presences = presences.into_boxed_slice();
        Self(Arc::new(Shared { presences, json: OnceLock::new(), protobuf: OnceLock::new() }))
    }
}

impl FromIterator<Presence> for SharedPresences {
    fn from_iter<I: IntoIterator<Item = Presence>>(presences: I) -> Self {
        presences.into_iter().collect::<Vec<_>>().into()
    }
}

/// Lists are equal if their presences are: what is encoded follows from these.
impl PartialEq for SharedPresences {
    fn eq(&self, other: &Self) -> bool {
        self[..] == other[..]
    }
}

impl Eq for SharedPresences {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn copies_share_what_is_encoded() {
        let list = SharedPresences::from(Vec::new());
        let copy = list.clone();
        let made = list.json(|_| b"[]".to_vec());
        assert_eq!(copy.json(|_| unreachable!("it is encoded already")).as_ptr(), made.as_ptr());
        let made = copy.protobuf(|_| vec![7]);
        assert_eq!(list.protobuf(|_| unreachable!("it is encoded already")).as_ptr(), made.as_ptr());
    }
}
