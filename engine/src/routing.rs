//! Which shard a channel's owner is on, and whether a shard is this one. Nothing else turns a destination into a shard.

use std::fmt;
use std::sync::Arc;

use siphasher::sip::SipHasher13;

use crate::chart::{Chart, Place};
use crate::id::{ChannelId, Epoch, ShardId};

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
}

/// Where a shard is, seen from this one.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Route {
    /// It is this shard.
    Here,
    /// It is another shard, which a parcel reaches.
    Shard(ShardId),
}

impl Routing {
    /// The routes as shard `own` sees them by a chart. All nodes have this key.
    pub fn new(own: ShardId, chart: Arc<Chart>, key: PlacementKey) -> Self {
        Self { own, key, chart }
    }

    /// The shard whose routes these are.
    pub fn own(&self) -> ShardId {
        self.own
    }

    /// Where the owner of a channel is; `None` if the channel's slot has no owner now.
    pub fn owner_of(&self, channel: &ChannelId) -> Option<Route> {
        self.chart.shard(self.key.place(channel)).map(|(shard, _)| self.shard(shard))
    }

    /// The epoch under which this shard orders the channel; `None` if it does not.
    pub fn epoch_of(&self, channel: &ChannelId) -> Option<Epoch> {
        let (shard, epoch) = self.chart.shard(self.key.place(channel))?;
        (shard == self.own).then_some(epoch)
    }

    /// Where a shard is.
    pub fn shard(&self, shard: ShardId) -> Route {
        if shard == self.own { Route::Here } else { Route::Shard(shard) }
    }

    /// All shards, this one too.
    pub fn all(&self) -> impl Iterator<Item = ShardId> + '_ {
        self.chart.shards()
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
