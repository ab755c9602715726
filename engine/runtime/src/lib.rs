//! Runs the engine's shards on real cores: executors, the loop of a turn, the rings between shards, the queues to the
//! store, and the clock. What a shard decides is the business of `engine`, which has no threads and reads no clock.

pub mod bell;
pub mod clock;
mod persistence;
mod reports;
pub mod rings;
pub mod shards;
pub mod turn;

pub use reports::Observer;
pub use shards::{Running, start};
pub use turn::{Reading, Sockets};
