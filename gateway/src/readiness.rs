//! Lets glommio wait for an epoll set.
//!
//! The sockets of a shard are in an epoll set of their own, because a pass must look at them hundreds of times a second
//! without a turn of glommio's reactor, and because a socket there costs a tenth of the memory of one in glommio's hands.
//! When a shard has nothing to do it must sleep in glommio all the same. An epoll set's descriptor is readable when the set
//! has something, and glommio can poll any descriptor for that, if it is dressed up as a stream.
#![allow(unsafe_code)]

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, IntoRawFd, OwnedFd};
use std::pin::Pin;
use std::task::{Context, Poll};

use futures_io::AsyncRead;
use glommio::net::TcpStream;

/// A pending or future wait for one epoll set.
#[derive(Default)]
pub struct Readiness {
    waiting: Option<TcpStream>,
}

impl Readiness {
    /// Ready when the set has something, or had while nobody asked.
    pub fn poll(&mut self, set: impl AsFd, context: &mut Context<'_>) -> Poll<()> {
        let waiting = match &mut self.waiting {
            Some(waiting) => waiting,
            none => match set.as_fd().try_clone_to_owned() {
                Ok(descriptor) => none.insert(adopt(descriptor)),
                // Out of descriptors: the ticker wakes the shard, and by then there may be some again.
                Err(_) => return Poll::Pending,
            },
        };
        // The stream begins with a poll, and reads when that is done; the read fails, because this is no socket, and
        // that is the news.
        let outcome: Poll<io::Result<usize>> = Pin::new(waiting).poll_read(context, &mut [0]);
        outcome.map(|_| self.waiting = None)
    }
}

/// Hands a descriptor to glommio.
pub fn adopt(descriptor: OwnedFd) -> TcpStream {
    // SAFETY: `into_raw_fd` gives up the only owner, so the stream is the descriptor's sole owner from here on.
    unsafe { TcpStream::from_raw_fd(descriptor.into_raw_fd()) }
}

/// Takes a socket back from glommio, which parts with none: the descriptor is another one of the same socket.
pub fn give_up(stream: TcpStream) -> io::Result<OwnedFd> {
    // SAFETY: the stream owns its descriptor, and lives until this has returned.
    let descriptor = unsafe { BorrowedFd::borrow_raw(stream.as_raw_fd()) };
    descriptor.try_clone_to_owned()
}
