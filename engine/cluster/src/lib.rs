//! Carries parcels between the nodes of a cluster, as `engine/runtime/src/rings.rs` carries them between the shards of
//! one process: in order, bounded, without waiting. The bus below may lose what it is given; a link does not.
//!
//! `life.rs` says who the nodes are. `packet.rs` has the bytes that cross the bus, and `pieces.rs` how parcels lie in them.
//! `link.rs` decides about the link to one other life,
//! and `links.rs` about all links of a node.
//! `codec.rs` has the bytes of parcels. `limits.rs` has every bound.

pub mod codec;
pub mod life;
pub mod limits;
pub mod link;
pub mod links;
pub mod packet;
pub mod pieces;
