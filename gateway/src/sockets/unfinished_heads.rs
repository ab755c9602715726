//! The request heads of a shard that have begun and are not whole, within one bound in bytes.
//!
//! A connection waits in the table until its head is whole, and holds nothing but the bytes that have come. `http/`
//! would take 18 KiB more for it. When all heads together would hold more than the bound, the one that began first gives
//! way, in the network that holds most (`byte_shares.rs`): its client is told to try again.

use std::collections::HashMap;

use engine::id::ConnectionId;
use httparse::{Request, Status};

use crate::byte_shares::{ByteShares, Holder};
use crate::client_network::ClientNetwork;
use crate::heads::HEADERS_MAX;
use crate::upgrade::HEAD_BYTES_MAX;

/// All unfinished heads of the process. Each shard has an equal part.
pub const HEADS_BYTES_MAX: usize = 32 << 20;

/// Which connection holds how much.
pub(super) struct UnfinishedHeads {
    shares: ByteShares,
    held: HashMap<ConnectionId, (Holder, usize)>,
    connections: HashMap<Holder, ConnectionId>,
}

impl UnfinishedHeads {
    /// Room for so many bytes.
    pub fn new(bytes_max: usize) -> Self {
        Self { shares: ByteShares::new(bytes_max), held: HashMap::new(), connections: HashMap::new() }
    }

    /// A connection holds so many bytes now. Returns the connections that give way.
    pub fn hold(&mut self, id: ConnectionId, bytes: usize, from: ClientNetwork) -> Vec<ConnectionId> {
        debug_assert!(bytes <= HEAD_BYTES_MAX, "{bytes} bytes of an unfinished head");
        let (holder, held) = self.held.entry(id).or_insert_with(|| (self.shares.enter(from, None), 0));
        self.connections.insert(*holder, id);
        let given_way = self.shares.grow(*holder, bytes.saturating_sub(*held));
        *held = bytes.max(*held);
        let mut connections = Vec::new();
        for id in given_way.iter().filter_map(|holder| self.connections.remove(holder)) {
            let held = self.held.remove(&id);
            assert!(held.is_some(), "a connection that gives way holds something");
            connections.push(id);
        }
        connections
    }

    /// Asserts that what the connections hold is what is counted. Looks at every connection.
    pub fn invariants(&self) {
        self.shares.invariants();
        let held: usize = self.held.values().map(|(_, held)| held).sum();
        assert_eq!(held, self.shares.bytes(), "bytes of unfinished heads");
        assert_eq!(self.held.len(), self.connections.len(), "each connection with a head has one holder");
    }

    /// A connection holds nothing any more.
    pub fn leave(&mut self, id: ConnectionId) {
        if let Some((holder, _)) = self.held.remove(&id) {
            self.shares.leave(holder);
            self.connections.remove(&holder);
        }
    }
}

/// Whether more bytes of this head must come before it can be answered.
pub(super) fn is_unfinished(head: &[u8]) -> bool {
    let mut headers = [httparse::EMPTY_HEADER; HEADERS_MAX];
    head.len() < HEAD_BYTES_MAX && matches!(Request::new(&mut headers).parse(head), Ok(Status::Partial))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn heads_are_whole_or_not() {
        for (head, expected) in [
            ("G", true),
            ("GET / HTTP/1.1\r\n", true),
            ("\r\nGET / HTTP/1.1\r\nHost: a\r\n", true),
            ("GET / HTTP/1.1\r\nHost: a\r\n\r\n", false),
            ("POST / HTTP/1.1\r\nContent-Length: 9\r\n\r\nhalf", false),
            ("\u{16}\u{3}\u{1}", false),
            ("GET /\r\n", false),
        ] {
            assert_eq!(is_unfinished(head.as_bytes()), expected, "{head:?}");
        }
        let long = |bytes: usize| format!("GET /{}", "x".repeat(bytes - 5));
        assert!(is_unfinished(long(HEAD_BYTES_MAX - 1).as_bytes()));
        assert!(!is_unfinished(long(HEAD_BYTES_MAX).as_bytes()), "it is refused as too large");
    }

    #[test]
    fn the_head_that_began_first_gives_way() {
        let id = |slot| ConnectionId { slot, generation: 0 };
        let from = ClientNetwork::V6;
        let mut heads = UnfinishedHeads::new(100);
        assert_eq!(heads.hold(id(1), 30, from(1)), []);
        assert_eq!(heads.hold(id(2), 30, from(1)), []);
        assert_eq!(heads.hold(id(3), 30, from(2)), []);
        assert_eq!(heads.hold(id(2), 40, from(1)), [], "ten bytes more");
        assert_eq!(heads.hold(id(3), 31, from(2)), [id(1)]);
        heads.leave(id(2));
        assert_eq!(heads.hold(id(3), 100, from(2)), []);
        assert_eq!(heads.hold(id(4), 1, from(3)), [id(3)]);
        heads.leave(id(4));
        assert!(heads.held.is_empty() && heads.connections.is_empty() && heads.shares.bytes() == 0);
    }
}
