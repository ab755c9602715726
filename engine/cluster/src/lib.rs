//! Carries parcels between the nodes of a cluster, as `engine/runtime/src/rings.rs` carries them between the shards of
//! one process: in order, bounded, without waiting. The bus below may lose what it is given; a link does not.
//!
//! `link.rs` decides about the link to one other life, and `links.rs` about all links of
//! a node; both are pure. `codec.rs` has the bytes of parcels, `packet.rs` the bytes that cross the bus, and `pieces.rs`
//! how the first lie in the second. `bus.rs` is the thread that talks to the bus, and `ends.rs` what a shard has of it.
//! `limits.rs` has every bound.

#[cfg(feature = "bus")]
pub mod bus;
pub mod codec;
pub mod ends;
pub mod limits;
pub mod link;
pub mod links;
pub mod packet;
pub mod pieces;
