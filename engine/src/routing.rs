//! Which shard a channel's owner is on, and whether a shard is this one. Nothing else turns a destination into a shard.

use crate::id::{ChannelId, ShardId};

/// The shards of the process, seen from one of them.
#[derive(Clone, Copy, Debug)]
pub struct Routing {
    own: ShardId,
    shards: u16,
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
    /// The routes as shard `own` sees them, in a server of `shards` shards.
    pub fn new(own: ShardId, shards: u16) -> Self {
        Self { own, shards }
    }

    /// The shard whose routes these are.
    pub fn own(&self) -> ShardId {
        self.own
    }

    /// Where the owner of a channel is.
    pub fn owner_of(&self, channel: &ChannelId) -> Route {
        self.shard(channel.owner(self.shards))
    }

    /// Where a shard is.
    pub fn shard(&self, shard: ShardId) -> Route {
        if shard == self.own { Route::Here } else { Route::Shard(shard) }
    }

    /// All shards but this one.
    pub fn others(&self) -> impl Iterator<Item = ShardId> + use<> {
        let own = self.own;
        (0..self.shards).map(ShardId).filter(move |&shard| shard != own)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn destinations_are_here_or_elsewhere() {
        let lobby = ChannelId::room("lobby").unwrap();
        let owner = lobby.owner(4);
        let routing = Routing::new(ShardId(1), 4);
        assert_eq!(routing.owner_of(&lobby), routing.shard(owner));
        assert_eq!(routing.shard(ShardId(1)), Route::Here);
        assert_eq!(routing.shard(ShardId(3)), Route::Shard(ShardId(3)));
        assert!(routing.others().eq([ShardId(0), ShardId(2), ShardId(3)]));
        assert_eq!(Routing::new(owner, 4).owner_of(&lobby), Route::Here);
    }
}
