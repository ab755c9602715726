//! Parcels on their way between shards. Each ring keeps its order, and takes a random time. A lossy carriage loses,
//! doubles and delays batches, and keeps the order of all other parcels.

use std::collections::{BTreeMap, VecDeque};

use engine::id::Timestamp;
use engine::parcel::Parcel;
use engine::shard::{Input, Shard};

use crate::world::{Random, Wires};

/// What happens to batches on their way.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Carriage {
    #[default]
    Reliable,
    Lossy,
}

/// The most turns that a late batch is late.
const LATE_TURNS_MAX: usize = 8;

#[derive(Default)]
pub struct Rings {
    queues: BTreeMap<(usize, usize), VecDeque<Parcel>>,
    carriage: Carriage,
    /// Batches that other parcels overtake: the turns that are left, and the shard that they are for.
    late: Vec<(usize, usize, Parcel)>,
    /// The number of batches that were lost, doubled and delayed.
    pub faults: [u64; 3],
}

impl Rings {
    pub fn set_carriage(&mut self, carriage: Carriage) {
        self.carriage = carriage;
    }

    /// Takes parcels of a shard, each with the shard that it is for.
    pub fn send(&mut self, from: usize, parcels: impl IntoIterator<Item = (usize, Parcel)>) {
        for (to, parcel) in parcels {
            self.queues.entry((from, to)).or_default().push_back(parcel);
        }
    }

    /// The shard has died: what was on its way from it and to it is gone.
    pub fn clear(&mut self, shard: usize) {
        self.queues.retain(|(from, to), _| *from != shard && *to != shard);
        self.late.retain(|(_, to, _)| *to != shard);
    }

    /// Delivers some parcels. `now` holds each shard's own time. `takes`: whether parcels from one shard go to another one.
    pub fn deliver(
        &mut self,
        shards: &mut [Shard],
        now: &[Timestamp],
        takes: impl Fn(usize, usize) -> bool,
        random: &mut Random,
    ) {
        let keys: Vec<(usize, usize)> = self.queues.keys().copied().collect();
        for (from, to) in keys.into_iter().filter(|&(from, to)| takes(from, to)) {
            for _ in 0..random.below(4) {
                let parcel = self.queues.get_mut(&(from, to)).and_then(VecDeque::pop_front);
                if let Some(parcel) = parcel.and_then(|parcel| self.carry(to, parcel, random)) {
                    shards[to].step(Input::Parcel(parcel), now[to]);
                }
            }
        }
        self.late.iter_mut().for_each(|(turns, ..)| *turns -= 1);
        while let Some(place) = self.late.iter().position(|(turns, ..)| *turns == 0) {
            let (_, to, parcel) = self.late.swap_remove(place);
            shards[to].step(Input::Parcel(parcel), now[to]);
        }
    }

    /// Returns the parcel, unless it is a batch that is lost or late.
    fn carry(&mut self, to: usize, parcel: Parcel, random: &mut Random) -> Option<Parcel> {
        if self.carriage == Carriage::Reliable || !matches!(parcel, Parcel::Batch(_)) {
            return Some(parcel);
        }
        let fault = random.below(40);
        let turns = 1 + random.below(LATE_TURNS_MAX);
        match fault {
            0..=1 => {
                self.faults[0] += 1;
                None
            }
            2..=5 => {
                self.faults[1] += 1;
                self.late.push((turns, to, parcel.clone()));
                Some(parcel)
            }
            6..=9 => {
                self.faults[2] += 1;
                self.late.push((turns, to, parcel));
                None
            }
            _ => Some(parcel),
        }
    }

    /// Whether nothing is under way: no parcel in a ring, no work left in a shard, no byte that a client has not read.
    pub fn are_quiet(&self, shards: &[Shard], wires: &[Wires]) -> bool {
        let passed = shards.iter().all(|shard| !shard.is_busy() && shard.next_due().is_none());
        let read = wires.iter().flat_map(|wires| wires.slots.values()).all(|wire| wire.bytes.is_empty());
        passed && read && self.late.is_empty() && self.queues.values().all(VecDeque::is_empty)
    }
}
