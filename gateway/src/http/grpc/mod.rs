//! The API in gRPC: the same operations as REST, over HTTP/2 (docs/protocol.md, section 1.10).
//!
//! An operation has one implementation, behind REST. A call becomes the REST request that it stands for (`methods.rs`,
//! `transcoding.rs`), the router answers it, and its answer becomes the answer of the call. So checks, budgets, bounds
//! and errors are the same for both.
//!
//! `serve` drives a connection on the shard that has accepted it, `calling.rs` answers one call.

mod answer_body;
mod calling;
mod frames;
pub mod message;
mod methods;
mod pace;
mod schema;
mod serve;
mod status;
mod stream;
mod transcoding;

#[cfg(test)]
mod tests;

pub use serve::serve;
