//! The users: how they sign in, connect, join, publish and listen, as tasks of one thread.

pub mod client;
pub mod client_error;
pub mod connect_window;
pub mod crowd;
pub mod head;
pub mod idlers;
pub mod ledger;
pub mod page_readers;
pub mod pages;
pub mod publisher;
pub mod sign_in;
pub mod socket;
pub mod stages;
pub mod thread_users;
pub mod timekeeper;

#[cfg(test)]
pub mod tests;
