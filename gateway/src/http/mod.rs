//! REST over HTTP/1.1: a router, and a file a resource. Rules of the wire live here; what they change lives in the
//! store, what they decide about chat lives in `engine`.
//!
//! `serve` drives a connection; `respond` is all of it that has nothing to do with sockets.

mod account;
mod account_deletions;
mod answer;
mod authenticate;
mod authorization;
mod body;
mod connections;
pub mod cursor;
mod error;
mod forgetting;
pub mod framing;
mod friends;
mod groups;
mod history;
mod links;
mod listing;
mod marking;
mod members;
mod notifications;
mod pages;
mod paging;
mod presence;
mod query;
mod returns;
mod router;
mod serve;
mod services;
mod session;
mod stream;
mod users;

#[cfg(test)]
mod tests;

pub use account_deletions::run as run_account_deletions;
pub use forgetting::run as run_forgetting;
pub use marking::run as run_marking;
pub use returns::Returned;
pub use router::respond;
pub use serve::serve;
pub use services::Services;
