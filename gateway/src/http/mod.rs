//! REST over HTTP/1.1, and gRPC over HTTP/2 (`grpc`): a router, and one file for each resource. This module has the rules of the wire. The store has
//! the data that they change, and `engine` makes the decisions about chat.
//!
//! `serve` drives a connection. `respond` does everything that does not concern sockets.

mod account;
mod account_deletions;
pub(crate) mod answer;
mod authenticate;
mod authorization;
mod bodies;
mod body;
mod body_terms;
mod chunks;
mod connections;
mod costs;
pub mod cursor;
mod custom_id;
mod deadline;
mod erasing;
pub(crate) mod error;
mod forgetting;
pub mod framing;
mod friends;
mod group_body;
mod groups;
pub mod grpc;
mod history;
mod identity_opening;
mod inspecting;
mod links;
mod listing;
mod marking;
mod members;
mod new_names;
mod notifications;
mod objects;
mod open_calls;
mod pages;
mod paging;
mod presence;
mod proofs;
mod query;
mod receiving;
mod request_turns;
mod resource_request;
mod returns;
mod route;
mod router;
mod secured_stream;
mod serve;
mod services;
mod session;
mod session_body;
mod sign_in_refusals;
mod stream;
mod told;
mod unread_answers;
mod users;

#[cfg(test)]
mod tests;

use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;

use crate::peer::Peer;

pub use account_deletions::run as run_account_deletions;
pub use bodies::BODIES_BYTES_MAX;
pub use erasing::{Erasure, UserFault, run as run_erasing};
pub use forgetting::run as run_forgetting;
pub use grpc::serve as serve_grpc;
pub use identity_opening::{IdentityOpening, admit};
pub use inspecting::{Asked, AskedWhom, Inspect, Told, run as run_inspecting};
pub use marking::run as run_marking;
pub use returns::Returned;
pub use router::respond;
pub use secured_stream::SecuredStream;
pub use serve::serve;
pub use services::Services;

/// What serves a connection: given its stream, the bytes that were read of it, and its other end.
pub type Serve = fn(SecuredStream, Vec<u8>, Peer, Rc<Services>) -> Pin<Box<dyn Future<Output = ()>>>;
