//! Decides: who is in a channel, in which order things happen there, and what each subscriber is still owed.
//!
//! It is pure and synchronous: time and chance are arguments, sockets and disks are traits and effects. The crate `runtime` turns
//! it, on one executor a core.

pub mod admission;
mod announcements;
mod channel;
pub mod command;
mod connection;
pub mod counters;
pub mod fanout;
pub mod footprint;
pub mod frames;
pub mod friend;
pub mod group;
pub mod home;
pub mod id;
pub mod limits;
mod members;
pub mod message;
pub mod message_id;
pub mod notification;
mod owner;
pub mod parcel;
mod pending;
pub mod persist;
mod presence;
mod recent;
mod residents;
pub mod shard;
mod status;
pub mod subscribers;
mod tally;
pub mod wire;
