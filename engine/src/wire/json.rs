//! Envelopes as JSON text (docs/protocol.md, sections 1.5 to 1.8).
//!
//! Reading is strict, as clients of this protocol expect: what the server does not understand is an error, and is never
//! ignored. Writing leaves out members with their default value, names members in snake_case, and orders them by their
//! protobuf numbers.

mod payloads;
mod read;
mod timestamp;
mod write;

pub use read::{Int32, decode, is_json_object};
pub use timestamp::{TimestampText, timestamp};
pub use write::{
    around_list, channel_message, channel_presence, encode_error, encode_event, encode_gap, encode_news, encode_reply,
    list_bytes, notification, text_members,
};

/// The number of kinds of payloads.
#[cfg(test)]
pub(super) const PAYLOADS: usize = payloads::NAMES.len();

#[cfg(test)]
mod tests;
