//! A shard as the home of connections: what each has asked, which answers it still waits for and in which order, and what concerns
//! a user on all connections that the user has here.

pub mod admission;
mod connection;
pub mod home;
mod sessions_by_user;
mod status;
