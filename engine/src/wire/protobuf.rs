//! Envelopes as protobuf (docs/protocol.md, section 12).
//!
//! The codec is `prost`'s, generated from `engine/proto`; here is only what its types mean. Reading is as lenient as
//! protobuf is everywhere: fields that are not known are ignored, and of what comes twice the last counts. Writing leaves
//! out fields with their default value and puts the others in the order of their numbers.

mod read;
mod schema;
mod write;

pub use read::decode;
pub use write::{encode_event, encode_gap, encode_news, encode_reply};

#[cfg(test)]
mod tests;
