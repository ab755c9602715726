//! Lets glommio wait for an epoll set.
//!
//! The sockets of a shard are in an epoll set of their own, for two reasons. A pass must look at them hundreds of times
//! a second without a turn of glommio's reactor. And a socket in the set costs a tenth of the memory of a socket held
//! by glommio.
//!
//! A shard that has nothing to do must still sleep in glommio. The descriptor of an epoll set is readable when the set
//! has an event, and glommio can poll any descriptor for that, if the descriptor is wrapped as a stream.
#![allow(unsafe_code)]

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, IntoRawFd, OwnedFd};
use std::pin::Pin;
use std::task::{Context, Poll};

use futures_io::AsyncRead;
use glommio::net::TcpStream;

/// A wait for one epoll set, pending or not started yet.
#[derive(Default)]
pub struct Readiness {
    waiting: Option<TcpStream>,
}

impl Readiness {
    /// Ready when the set has an event, also one that came before this call.
    pub fn poll(&mut self, set: impl AsFd, context: &mut Context<'_>) -> Poll<()> {
        let waiting = match &mut self.waiting {
            Some(waiting) => waiting,
            none => match set.as_fd().try_clone_to_owned() {
                Ok(descriptor) => none.insert(adopt(descriptor)),
                // Out of descriptors: the shard's tick wakes it, and by then a descriptor may be free.
                Err(_) => return Poll::Pending,
            },
        };
        // The stream begins with a poll, and reads when the poll is done. The read fails, because this is not a socket,
        // and the failure tells that the set is readable.
        let outcome: Poll<io::Result<usize>> = Pin::new(waiting).poll_read(context, &mut [0]);
        outcome.map(|_| self.waiting = None)
    }
}

/// Hands a descriptor to glommio.
pub fn adopt(descriptor: OwnedFd) -> TcpStream {
    // SAFETY: `into_raw_fd` gives up the only owner, so the stream is the descriptor's sole owner from here on.
    unsafe { TcpStream::from_raw_fd(descriptor.into_raw_fd()) }
}

/// Takes a socket back from glommio. glommio gives no descriptor away, so the result is a duplicate descriptor of the
/// same socket. Fails if no descriptor is free.
pub fn give_up(stream: TcpStream) -> io::Result<OwnedFd> {
    // SAFETY: the stream owns its descriptor, and lives until this has returned.
    let descriptor = unsafe { BorrowedFd::borrow_raw(stream.as_raw_fd()) };
    descriptor.try_clone_to_owned()
}
