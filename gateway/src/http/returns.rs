//! Connections that hyper gives back, because their next request opens a WebSocket. The shard's table takes them in its
//! next turn and judges the opening like a first one.
//!
//! So do connections whose opening names a user that had to be looked up (`identity_opening.rs`).
//!
//! Bounded by the number of HTTP connections of a shard, each of which comes back at most once.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::os::fd::OwnedFd;
use std::task::{Context, Poll};

use runtime::bell::Bell;

use crate::peer::Peer;
use crate::tls::TlsConnection;
use crate::upgrade::{Admitted, UpgradeRefusal};

/// A connection whose earlier requests are answered.
pub struct Returned {
    pub descriptor: OwnedFd,
    /// What secures the connection.
    pub tls: Option<Box<TlsConnection>>,
    /// The other end.
    pub peer: Peer,
    /// The bytes that were read and not answered: the opening, and what came after it.
    pub bytes: Vec<u8>,
    /// Whose opening it is, or why it is refused, if that is known already.
    pub admitted: Option<Result<Admitted, UpgradeRefusal>>,
}

/// The connections that the shard has not taken yet.
#[derive(Default)]
pub struct Returns {
    bell: Bell,
    waiting: RefCell<VecDeque<Returned>>,
}

impl Returns {
    pub(super) fn put(&self, returned: Returned) {
        self.waiting.borrow_mut().push_back(returned);
        self.bell.ring();
    }

    /// The next connection, for the shard.
    pub fn take(&self) -> Option<Returned> {
        self.waiting.borrow_mut().pop_front()
    }

    /// Whether no connection waits for the shard's table.
    pub fn is_empty(&self) -> bool {
        self.waiting.borrow().is_empty()
    }

    /// Ready when `take` has a connection.
    pub fn poll_put(&self, context: &mut Context<'_>) -> Poll<()> {
        self.bell.poll(context)
    }
}
