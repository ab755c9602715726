//! A shard's end of the bus: queues, without the bus's runtime.

use engine::id::{Life, ShardId};
use engine::parcel::Parcel;

use crate::link::Reason;
use crate::packet::LinkNumber;

/// What a shard sends to a shard of another node.
#[derive(Debug)]
pub struct Outgoing {
    pub from: ShardId,
    pub to: ShardId,
    /// The number under which the shard was told that the link to this life is open. Under another number the parcel is
    /// dropped: the shard hears of the reset.
    pub link: LinkNumber,
    pub parcel: Parcel,
}

/// What a shard receives, in the order of each peer's link.
#[derive(Debug)]
pub enum Incoming {
    Parcel {
        from: ShardId,
        parcel: Parcel,
    },
    /// Parcels go to this life and come from it from here on. All shards are told.
    Opened {
        life: Life,
        link: LinkNumber,
    },
    /// What was sent to this life and not answered may be lost. All shards are told, once.
    Reset {
        life: Life,
        link: LinkNumber,
        reason: Reason,
    },
}

/// One shard's end of the bus.
pub struct BusEnd {
    /// Takes parcels with `try_send`; when it is full, parcels wait as they do for a ring.
    pub to_bus: flume::Sender<Outgoing>,
    pub from_bus: flume::Receiver<Incoming>,
}
