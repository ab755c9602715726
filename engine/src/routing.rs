//! Which shard a channel's owner is on, and whether a shard is this one. Nothing else turns a destination into a shard.

use std::fmt;

use siphasher::sip::SipHasher13;

use crate::id::{ChannelId, ShardId};

/// The secret by which channels are placed on shards. Without it a client could name many rooms that one shard owns.
#[derive(Clone, Copy, PartialEq, Eq, Default)]
pub struct PlacementKey(pub [u8; 16]);

impl PlacementKey {
    /// The shard, of `shards`, that alone orders the channel.
    pub fn owner(&self, channel: &ChannelId, shards: u16) -> ShardId {
        let hash = SipHasher13::new_with_key(&self.0).hash(channel.as_str().as_bytes());
        ShardId((hash % u64::from(shards)) as u16)
    }
}

impl fmt::Debug for PlacementKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PlacementKey(secret)")
    }
}

/// The shards of the process, seen from one of them.
#[derive(Clone, Copy, Debug)]
pub struct Routing {
    own: ShardId,
    shards: u16,
    key: PlacementKey,
}

/// Where a destination is, seen from this shard.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Route {
    /// On this shard.
    Here,
    /// On another shard, which a parcel reaches.
    Shard(ShardId),
}

impl Routing {
    /// The routes as shard `own` sees them, in a server of `shards` shards that all have this key.
    pub fn new(own: ShardId, shards: u16, key: PlacementKey) -> Self {
        Self { own, shards, key }
    }

    /// The shard whose routes these are.
    pub fn own(&self) -> ShardId {
        self.own
    }

    /// Where the owner of a channel is.
    pub fn owner_of(&self, channel: &ChannelId) -> Route {
        self.shard(self.key.owner(channel, self.shards))
    }

    /// Where a shard is.
    pub fn shard(&self, shard: ShardId) -> Route {
        if shard == self.own { Route::Here } else { Route::Shard(shard) }
    }

    /// All shards, this one too.
    pub fn all(&self) -> impl Iterator<Item = ShardId> + use<> {
        (0..self.shards).map(ShardId)
    }

    /// All shards but this one.
    pub fn others(&self) -> impl Iterator<Item = ShardId> + use<> {
        let own = self.own;
        self.all().filter(move |&shard| shard != own)
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
        let routing = Routing::new(ShardId(1), 4, key);
        assert_eq!(routing.owner_of(&lobby), routing.shard(owner));
        assert_eq!(routing.shard(ShardId(1)), Route::Here);
        assert_eq!(routing.shard(ShardId(3)), Route::Shard(ShardId(3)));
        assert!(routing.all().eq((0..4).map(ShardId)));
        assert!(routing.others().eq([ShardId(0), ShardId(2), ShardId(3)]));
        assert_eq!(Routing::new(owner, 4, key).owner_of(&lobby), Route::Here);
    }

    #[test]
    fn every_shard_owns_something_and_another_key_places_otherwise() {
        let rooms: Vec<_> = (0..1000).map(|i| ChannelId::room(&format!("room-{i}")).unwrap()).collect();
        let owners = |key: PlacementKey| rooms.iter().map(|room| key.owner(room, 4)).collect::<Vec<_>>();
        let (one, other) = (owners(PlacementKey([1; 16])), owners(PlacementKey([2; 16])));
        for shard in (0..4).map(ShardId) {
            let owned = one.iter().filter(|owner| **owner == shard).count();
            assert!(owned > 150, "{shard:?} owns {owned}");
        }
        let same = one.iter().zip(&other).filter(|(one, other)| one == other).count();
        assert!((150..350).contains(&same), "{same} of 1000 channels have the same owner, and 250 by chance");
    }
}
