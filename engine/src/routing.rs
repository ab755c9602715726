//! Which shard a channel's owner is on, whether a shard is this one, and whether parcels reach it. Nothing else turns a
//! destination into a shard.

use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;

use siphasher::sip::SipHasher13;

use crate::chart::{Chart, Place, Slot};
use crate::id::{ChannelId, Epoch, Life, ShardId};

/// The secret by which channels are placed on shards. Without it a client could name many rooms that one shard owns.
#[derive(Clone, Copy, PartialEq, Eq, Default)]
pub struct PlacementKey(pub [u8; 16]);

impl PlacementKey {
    /// Where the channel is.
    pub fn place(&self, channel: &ChannelId) -> Place {
        Place::of_hash(SipHasher13::new_with_key(&self.0).hash(channel.as_str().as_bytes()))
    }

    /// The shard that orders the channel in a server alone, of so many shards.
    pub fn owner(&self, channel: &ChannelId, shards: u16) -> ShardId {
        ShardId::alone(self.place(channel).core(shards))
    }
}

impl fmt::Debug for PlacementKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PlacementKey(secret)")
    }
}

/// The shards of all nodes, seen from one of them.
#[derive(Clone, Debug)]
pub struct Routing {
    own: ShardId,
    key: PlacementKey,
    chart: Arc<Chart>,
    /// Other lives to which parcels go. There are none in a server alone.
    linked: Arc<BTreeSet<Life>>,
}

/// Where a shard is, seen from this one.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Route {
    /// It is this shard.
    Here,
    /// It is another shard, which a parcel reaches.
    Shard(ShardId),
    /// It is on a node to which no parcel goes now.
    Cut,
}

impl Routing {
    /// The routes as shard `own` sees them by a chart. All nodes have this key.
    pub fn new(own: ShardId, chart: Arc<Chart>, key: PlacementKey) -> Self {
        Self { own, key, chart, linked: Arc::default() }
    }

    /// The routes by a newer chart.
    pub fn set_chart(&mut self, chart: Arc<Chart>) {
        self.chart = chart;
    }

    /// Parcels go to another life from here on, or do not.
    pub fn set_linked(&mut self, life: Life, linked: bool) {
        let lives = Arc::make_mut(&mut self.linked);
        if linked {
            lives.insert(life)
        } else {
            lives.remove(&life)
        };
    }

    /// Whether other nodes may belong to the cluster of this one.
    pub fn is_of_cluster(&self) -> bool {
        self.own.life != Life::ALONE
    }

    /// Whether the node of this life is up.
    pub fn is_up(&self, life: Life) -> bool {
        self.chart.cores(life).is_some()
    }

    /// The shard whose routes these are.
    pub fn own(&self) -> ShardId {
        self.own
    }

    /// Where the owner of a channel is; `None` if the channel's slot has no owner now, or none that parcels reach.
    pub fn owner_of(&self, channel: &ChannelId) -> Option<Route> {
        let (shard, _) = self.ordering(channel)?;
        Some(self.shard(shard)).filter(|route| *route != Route::Cut)
    }

    /// Which shard orders the channel, and under which epoch; `None` if the channel's slot has no owner now.
    pub fn ordering(&self, channel: &ChannelId) -> Option<(ShardId, Epoch)> {
        self.chart.shard(self.key.place(channel))
    }

    /// The slot of a channel.
    pub fn slot(&self, channel: &ChannelId) -> Slot {
        self.key.place(channel).slot
    }

    /// The epoch under which this node has the slot; `None` if it does not have it.
    pub fn epoch_of_slot(&self, slot: Slot) -> Option<Epoch> {
        let owner = self.chart.owner(slot).filter(|owner| owner.life == self.own.life);
        owner.map(|owner| owner.epoch)
    }

    /// The epoch under which this shard orders the channel; `None` if it does not.
    pub fn epoch_of(&self, channel: &ChannelId) -> Option<Epoch> {
        let (shard, epoch) = self.ordering(channel)?;
        (shard == self.own).then_some(epoch)
    }

    /// Where a shard is.
    pub fn shard(&self, shard: ShardId) -> Route {
        if shard == self.own {
            Route::Here
        } else if self.reaches(shard.life) {
            Route::Shard(shard)
        } else {
            Route::Cut
        }
    }

    /// Whether parcels go to the node of this life.
    pub fn reaches(&self, life: Life) -> bool {
        life == self.own.life || self.linked.contains(&life)
    }

    /// All shards that parcels reach, and this one.
    pub fn all(&self) -> impl Iterator<Item = ShardId> + '_ {
        self.chart.shards().filter(|shard| self.reaches(shard.life))
    }

    /// All shards but this one.
    pub fn others(&self) -> impl Iterator<Item = ShardId> + '_ {
        self.all().filter(|&shard| shard != self.own)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn destinations_are_here_or_elsewhere() {
        let lobby = ChannelId::room("lobby").unwrap();
        let key = PlacementKey(*b"0123456789abcdef");
        let owner = key.owner(&lobby, 4);
        let chart = Chart::alone(4, Epoch(3));
        let routing = Routing::new(ShardId::alone(1), chart.clone(), key);
        assert_eq!(routing.owner_of(&lobby), Some(routing.shard(owner)));
        assert_eq!(routing.shard(ShardId::alone(1)), Route::Here);
        assert_eq!(routing.shard(ShardId::alone(3)), Route::Shard(ShardId::alone(3)));
        assert!(routing.all().eq((0..4).map(ShardId::alone)));
        assert!(routing.others().eq([0, 2, 3].map(ShardId::alone)));
        assert_eq!(Routing::new(owner, chart.clone(), key).owner_of(&lobby), Some(Route::Here));
        assert_eq!(Routing::new(owner, chart.clone(), key).epoch_of(&lobby), Some(Epoch(3)));
        let elsewhere = ShardId::alone((owner.core + 1) % 4);
        assert_eq!(Routing::new(elsewhere, chart, key).epoch_of(&lobby), None);
        let empty = Arc::new(Chart::new(Vec::new(), |_| None));
        assert_eq!(Routing::new(owner, empty, key).owner_of(&lobby), None);
    }

    #[test]
    fn a_shard_of_another_node_is_reached_only_over_an_open_link() {
        let (near, far) = (ShardId { life: Life(2), core: 0 }, ShardId { life: Life(3), core: 1 });
        let owner = crate::chart::SlotOwner { life: far.life, epoch: Epoch(5) };
        let node = |life, cores| crate::chart::Node { life, cores };
        let chart = Arc::new(Chart::new(vec![node(near.life, 1), node(far.life, 2)], |_| Some(owner)));
        let mut routing = Routing::new(near, chart, PlacementKey::default());
        let lobby = ChannelId::room("lobby").unwrap();
        let ordering = routing.ordering(&lobby);
        assert!(ordering.is_some_and(|(shard, epoch)| shard.life == far.life && epoch == owner.epoch));
        assert_eq!((routing.shard(far), routing.owner_of(&lobby)), (Route::Cut, None));
        assert!(routing.all().eq([near]) && routing.is_of_cluster() && routing.is_up(far.life));
        routing.set_linked(far.life, true);
        assert_eq!(routing.owner_of(&lobby), ordering.map(|(shard, _)| Route::Shard(shard)));
        assert!(routing.others().eq([ShardId { life: far.life, core: 0 }, far]));
        routing.set_linked(far.life, false);
        assert_eq!(routing.owner_of(&lobby), None);
        routing.set_chart(Chart::alone(1, Epoch(6)));
        assert!(!routing.is_up(far.life));
    }

    #[test]
    fn every_shard_owns_something_and_another_key_places_otherwise() {
        let rooms: Vec<_> = (0..1000).map(|i| ChannelId::room(&format!("room-{i}")).unwrap()).collect();
        let owners = |key: PlacementKey| rooms.iter().map(|room| key.owner(room, 4)).collect::<Vec<_>>();
        let (one, other) = (owners(PlacementKey([1; 16])), owners(PlacementKey([2; 16])));
        for shard in (0..4).map(ShardId::alone) {
            let owned = one.iter().filter(|owner| **owner == shard).count();
            assert!(owned > 150, "{shard:?} owns {owned}");
        }
        let same = one.iter().zip(&other).filter(|(one, other)| one == other).count();
        assert!((150..350).contains(&same), "{same} of 1000 channels have the same owner, and 250 by chance");
    }
}
