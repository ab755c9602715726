//! Envelopes to bytes and back, and frames around them; nothing else.
//!
//! Everything here is a pure function of its arguments. What an envelope means is decided elsewhere, and so is what to do
//! about one that is malformed: this room only says what is wrong with it.

pub mod json;
pub mod protobuf;
pub mod request;
pub mod websocket;

#[cfg(test)]
mod tests;
