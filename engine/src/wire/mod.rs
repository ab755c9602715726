//! Encodes and decodes envelopes, and the frames around them; nothing else.
//!
//! Everything here is a pure function of its arguments. Other modules decide what an envelope means and what to do
//! about a malformed one; this module only says what is wrong with it.

pub mod json;
pub mod protobuf;
pub mod request;
pub mod websocket;

#[cfg(test)]
mod tests;

/// An envelope before and behind a list that is encoded elsewhere.
pub struct Around {
    pub front: Vec<u8>,
    pub back: Vec<u8>,
}

impl Around {
    /// Appends the whole envelope, with this list.
    fn write(&self, list: &[u8], out: &mut Vec<u8>) {
        [&self.front, list, &self.back].into_iter().for_each(|part| out.extend_from_slice(part));
    }
}
