//! Which shard of which node orders which channel: a chart.
//!
//! A channel belongs to a slot, by the keyed hash of its name. A chart says which run of a node has each slot, and under
//! which epoch. Within that node the rest of the hash says which core it is. A chart is a value: a shard is given a new one
//! when slots have changed hands. A server alone has one chart for its whole life, in which all slots are its own.

use std::sync::Arc;

use crate::id::{Epoch, Life, ShardId};

/// Slots of channels. A cluster shares them out over its nodes: with 55 nodes, each has 18 or 19.
pub const SLOTS: u16 = 1024;

/// A slot: a number below `SLOTS`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Slot(pub u16);

/// The run of a node that has a slot, and the number under which it took the slot. Each taker's epoch is higher than those
/// of all takers before it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct SlotOwner {
    pub life: Life,
    pub epoch: Epoch,
}

/// A node of the cluster that is up.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Node {
    pub life: Life,
    /// How many shards it has.
    pub cores: u16,
}

/// Where a channel is: its slot, and what chooses the core within the slot's node.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Place {
    pub slot: Slot,
    rest: u64,
}

impl Place {
    /// The place that belongs to a hash.
    pub fn of_hash(hash: u64) -> Self {
        let slots = u64::from(SLOTS);
        Self { slot: Slot((hash % slots) as u16), rest: hash / slots }
    }

    /// The core, of so many, on which the channel is.
    pub fn core(self, cores: u16) -> u16 {
        (self.rest % u64::from(cores.max(1))) as u16
    }
}

/// The nodes that are up, and who has each slot.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Chart {
    /// In the order of their lives.
    nodes: Vec<Node>,
    /// By slot. `None`: no node has the slot, and its channels wait for a node that takes it.
    owners: Vec<Option<SlotOwner>>,
}

impl Chart {
    /// The chart of a server that has all slots, with so many shards.
    pub fn alone(cores: u16, epoch: Epoch) -> Arc<Self> {
        let node = Node { life: Life::ALONE, cores };
        let owner = SlotOwner { life: Life::ALONE, epoch };
        Arc::new(Self { nodes: vec![node], owners: vec![Some(owner); usize::from(SLOTS)] })
    }

    /// A chart of these nodes. A slot whose owner is none of them has no owner.
    pub fn new(mut nodes: Vec<Node>, owner: impl Fn(Slot) -> Option<SlotOwner>) -> Self {
        nodes.sort_by_key(|node| node.life);
        nodes.dedup_by_key(|node| node.life);
        let mut chart = Self { nodes, owners: Vec::with_capacity(usize::from(SLOTS)) };
        for slot in (0..SLOTS).map(Slot) {
            let owner = owner(slot).filter(|owner| chart.cores(owner.life).is_some());
            chart.owners.push(owner);
        }
        chart
    }

    /// Who has the slot.
    pub fn owner(&self, slot: Slot) -> Option<SlotOwner> {
        self.owners.get(usize::from(slot.0)).copied().flatten()
    }

    /// The shard that orders a channel, and the epoch under which it does.
    pub fn shard(&self, place: Place) -> Option<(ShardId, Epoch)> {
        let SlotOwner { life, epoch } = self.owner(place.slot)?;
        let core = place.core(self.cores(life)?);
        Some((ShardId { life, core }, epoch))
    }

    /// How many shards the node has; `None` if it is not up.
    pub fn cores(&self, life: Life) -> Option<u16> {
        let found = self.nodes.binary_search_by_key(&life, |node| node.life).ok()?;
        self.nodes.get(found).map(|node| node.cores)
    }

    /// All shards of all nodes.
    pub fn shards(&self) -> impl Iterator<Item = ShardId> + '_ {
        self.nodes.iter().flat_map(|&Node { life, cores }| (0..cores).map(move |core| ShardId { life, core }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(life: u16, cores: u16) -> Node {
        Node { life: Life(life), cores }
    }

    fn owner(life: u16, epoch: u64) -> Option<SlotOwner> {
        Some(SlotOwner { life: Life(life), epoch: Epoch(epoch) })
    }

    #[test]
    fn a_server_alone_has_every_slot_and_every_core_has_some() {
        let chart = Chart::alone(4, Epoch(7));
        let mut owned = [0; 4];
        for hash in 0..u64::from(SLOTS) * 8 {
            let (shard, epoch) = chart.shard(Place::of_hash(hash)).expect("it has every slot");
            assert_eq!((shard.life, epoch), (Life::ALONE, Epoch(7)));
            owned[usize::from(shard.core)] += 1;
        }
        assert_eq!(owned, [usize::from(SLOTS) * 2; 4]);
    }

    #[test]
    fn a_slot_of_a_node_that_is_not_up_has_no_owner() {
        let chart = Chart::new(vec![node(9, 2), node(3, 1), node(3, 5)], |Slot(slot)| match slot {
            0 => owner(3, 10),
            1 => owner(9, 11),
            2 => owner(4, 12),
            _ => None,
        });
        assert_eq!(chart.owner(Slot(0)), owner(3, 10));
        assert_eq!(chart.owner(Slot(1)), owner(9, 11));
        assert_eq!((chart.owner(Slot(2)), chart.owner(Slot(3)), chart.owner(Slot(SLOTS))), (None, None, None));
        assert_eq!((chart.cores(Life(3)), chart.cores(Life(4))), (Some(1), None));
        let shards: Vec<_> = chart.shards().map(|ShardId { life, core }| (life.0, core)).collect();
        assert_eq!(shards, [(3, 0), (9, 0), (9, 1)]);
        assert_eq!(chart.shard(Place::of_hash(2)), None);
        let (shard, epoch) = chart.shard(Place::of_hash(1 + u64::from(SLOTS))).expect("slot 1 has an owner");
        assert_eq!((shard, epoch), (ShardId { life: Life(9), core: 1 }, Epoch(11)));
    }
}
