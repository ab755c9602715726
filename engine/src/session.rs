//! A shard as the home of connections: what each connection has asked, which answers it waits for and in which order,
//! and what reaches a user on all of the user's connections at this shard.

pub mod admission;
pub(crate) mod connection;
mod connections;
pub mod costs;
pub mod held_bytes;
pub mod home;
pub(crate) mod sessions_by_user;
pub mod shared_budgets;
mod status;
mod untold;
