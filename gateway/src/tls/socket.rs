//! A TLS connection over a socket that does not wait.

use std::os::fd::OwnedFd;

use rustix::io::Errno;
use rustix::net::{self, RecvFlags};

use super::connection::{Received, TlsConnection, TlsFault};
use crate::sending::send;

/// Why reading or writing failed.
#[derive(Debug, thiserror::Error)]
pub enum SocketFault {
    #[error("{0}")]
    Socket(#[from] Errno),
    #[error("{0}")]
    Tls(#[from] TlsFault),
}

impl TlsConnection {
    /// Reads once from the socket, and appends what was decrypted to `content`. Fails with `Errno::AGAIN` if nothing has
    /// come. Sends what the connection has to say of its own, as far as the socket takes it.
    pub fn receive_from(&mut self, socket: &OwnedFd, content: &mut Vec<u8>) -> Result<Received, SocketFault> {
        let read = |buffer: &mut [u8]| net::recv(socket, buffer, RecvFlags::DONTWAIT).map(|(_, read)| read);
        let received = self.receive(content, read)?;
        // A socket that cannot be written to is found dead when it is read next.
        let _ = self.flush_to(socket);
        Ok(received?)
    }

    /// Writes the pieces, some records at a time, as far as the socket takes them. Returns how many of their bytes were
    /// encrypted. The last records may be among the unsent bytes.
    pub fn send_to(&mut self, socket: &OwnedFd, pieces: &[&[u8]]) -> Result<usize, SocketFault> {
        if !self.flush_to(socket)? {
            return Ok(0);
        }
        let offered: usize = pieces.iter().map(|piece| piece.len()).sum();
        let (mut rest, mut taken) = (pieces.to_vec(), 0);
        while taken < offered && !self.has_unsent() {
            let encrypted = self.send(&rest, |records| send(socket, &[records]))??;
            skip(&mut rest, encrypted);
            taken += encrypted;
        }
        Ok(taken)
    }

    /// Writes unsent bytes. Returns whether none is left.
    pub fn flush_to(&mut self, socket: &OwnedFd) -> Result<bool, Errno> {
        while self.has_unsent() {
            match send(socket, &[self.unsent()])? {
                0 => return Ok(false),
                bytes => self.sent(bytes),
            }
        }
        Ok(true)
    }
}

/// Removes bytes from the front of the pieces.
fn skip(pieces: &mut Vec<&[u8]>, mut bytes: usize) {
    pieces.retain_mut(|piece| {
        let skipped = bytes.min(piece.len());
        bytes -= skipped;
        *piece = &piece[skipped..];
        !piece.is_empty()
    });
}
