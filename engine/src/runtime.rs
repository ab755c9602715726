//! Turns the shards on real cores: the only place in this crate that knows glommio, threads and the clock.

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
