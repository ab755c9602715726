//! Parcels on their way between shards. Each ring keeps its order, and takes a random time.

use std::collections::{BTreeMap, VecDeque};

use engine::id::{ShardId, Timestamp};
use engine::parcel::Parcel;
use engine::shard::{Input, Shard};

use crate::world::{Random, Wires};

#[derive(Default)]
pub struct Rings(BTreeMap<(usize, usize), VecDeque<Parcel>>);

impl Rings {
    pub fn send(&mut self, from: usize, parcels: impl IntoIterator<Item = (ShardId, Parcel)>) {
        for (to, parcel) in parcels {
            self.0.entry((from, to.0.into())).or_default().push_back(parcel);
        }
    }

    /// Delivers some parcels. `now` holds each shard's own time.
    pub fn deliver(&mut self, shards: &mut [Shard], now: &[Timestamp], random: &mut Random) {
        for (&(_, to), ring) in &mut self.0 {
            for _ in 0..random.below(4) {
                if let Some(parcel) = ring.pop_front() {
                    shards[to].step(Input::Parcel(parcel), now[to]);
                }
            }
        }
    }

    /// Whether nothing is under way: no parcel in a ring, no work left in a shard, no byte that a client has not read.
    pub fn are_quiet(&self, shards: &[Shard], wires: &[Wires]) -> bool {
        let passed = shards.iter().all(|shard| !shard.is_busy() && shard.next_due().is_none());
        let read = wires.iter().flat_map(|wires| wires.slots.values()).all(|wire| wire.bytes.is_empty());
        passed && read && self.0.values().all(VecDeque::is_empty)
    }
}
