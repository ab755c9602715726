//! Envelopes as protobuf (docs/protocol.md, section 12).
//!
//! The codec is `prost`'s, generated from `engine/proto`. This module only translates between its types and the
//! engine's. Reading is as lenient as protobuf always is: unknown fields are ignored, and if a field occurs twice, the
//! last one counts. Writing leaves out fields with their default value, and orders the others by their numbers.

mod read;
mod schema;
mod write;

pub use read::decode;
pub use write::{around_list, encode_event, encode_gap, encode_news, encode_reply, list_bytes};

#[cfg(test)]
mod tests;
