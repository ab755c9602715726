//! Writing to sockets that do not wait.

use std::io::IoSlice;
use std::os::fd::OwnedFd;

use rustix::io::Errno;
use rustix::net::{self, SendFlags};

/// A full socket takes nothing, and a client that has gone sends no signal.
const FLAGS: SendFlags = SendFlags::DONTWAIT.union(SendFlags::NOSIGNAL);

/// Writes the pieces one after the other, as far as the socket takes them now. Returns how many bytes it took: 0 if it is
/// full. Fails if the connection is dead.
pub(crate) fn send(socket: &OwnedFd, pieces: &[&[u8]]) -> Result<usize, Errno> {
    let outcome = match pieces {
        [piece] => net::send(socket, piece, FLAGS),
        pieces => {
            let slices: Vec<IoSlice<'_>> = pieces.iter().map(|piece| IoSlice::new(piece)).collect();
            net::sendmsg(socket, &slices, &mut net::SendAncillaryBuffer::default(), FLAGS)
        }
    };
    match outcome {
        Err(Errno::AGAIN | Errno::INTR) => Ok(0),
        outcome => outcome,
    }
}
