//! Which shard an address is on. Nothing else turns an address into a shard.

use crate::id::{ChannelId, ShardId};
use crate::outbox::Address;

/// The shards of the process, seen from one of them.
#[derive(Clone, Copy, Debug)]
pub struct Routing {
    own: ShardId,
    shards: u16,
}

/// Where an address is, seen from this shard.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Route {
    /// On this shard.
    Here,
    /// On another shard, which a parcel reaches.
    Shard(ShardId),
    /// On this shard and on all others.
    Everywhere,
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

    /// Where to take what has this address. An address of the shard itself gives [`Route::Here`].
    pub fn route(&self, address: &Address) -> Route {
        match address {
            Address::Owner(channel) => self.to(self.owner(channel)),
            Address::Home(shard) => self.to(*shard),
            Address::Visitor(visitor) => self.to(visitor.shard),
            Address::EveryHome => Route::Everywhere,
            Address::Connection(_) | Address::Store => Route::Here,
        }
    }

    /// All shards but this one.
    pub fn others(&self) -> impl Iterator<Item = ShardId> + use<> {
        let own = self.own;
        (0..self.shards).map(ShardId).filter(move |&shard| shard != own)
    }

    fn owner(&self, channel: &ChannelId) -> ShardId {
        channel.owner(self.shards)
    }

    fn to(&self, shard: ShardId) -> Route {
        if shard == self.own { Route::Here } else { Route::Shard(shard) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::query::Visitor;

    #[test]
    fn addresses_are_here_elsewhere_or_everywhere() {
        let lobby = ChannelId::room("lobby").unwrap();
        let owner = lobby.owner(4);
        let routing = Routing::new(ShardId(1), 4);
        let check = |address: Address, expected: Route| assert_eq!(routing.route(&address), expected, "{address:?}");
        let visitor = |shard| Address::Visitor(Visitor { shard: ShardId(shard), number: 7 });
        check(Address::Owner(lobby.clone()), if owner == ShardId(1) { Route::Here } else { Route::Shard(owner) });
        check(Address::Home(ShardId(1)), Route::Here);
        check(Address::Home(ShardId(3)), Route::Shard(ShardId(3)));
        check(visitor(1), Route::Here);
        check(visitor(0), Route::Shard(ShardId(0)));
        check(Address::EveryHome, Route::Everywhere);
        check(Address::Store, Route::Here);
        assert!(routing.others().eq([ShardId(0), ShardId(2), ShardId(3)]));
        assert_eq!(Routing::new(owner, 4).route(&Address::Owner(lobby)), Route::Here);
    }
}
