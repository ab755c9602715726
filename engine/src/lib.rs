//! Decides: who is in a channel, in which order things happen there, and what each subscriber is still owed.
//!
//! Two floors. Everything that decides is pure and synchronous: time and chance are arguments, sockets and disks are
//! traits and effects. One folder, `runtime/`, turns it on one glommio executor a core.

pub mod command;
pub mod id;
pub mod message;
pub mod message_id;
pub mod persist;
pub mod wire;
