//! The part of the server that decides: who is in a channel, in which order things happen there, and what each
//! subscriber is still owed.
//!
//! It is pure and synchronous: time and random bits are arguments, sockets and disks are traits and effects. The crate
//! `runtime` runs it, on one executor per core.

pub mod budget;
pub mod channel;
pub mod chart;
pub mod command;
pub mod counters;
pub mod fair_queue;
pub mod fanout;
pub mod footprint;
pub mod gate;
pub mod id;
pub mod limits;
pub mod message;
pub mod message_id;
mod outbox;
pub mod parcel;
pub mod persist;
pub mod presence_list;
pub mod process_rates;
pub mod query;
mod rate;
pub mod routing;
pub mod session;
pub mod shard;
pub mod social;
mod store_requests;
mod table;
pub mod wire;
