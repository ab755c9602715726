//! How bytes come from a socket and go to it: as they are, or through TLS.

use engine::id::{ConnectionId, Timestamp};
use engine::shard::Shard;
use rustix::buffer::spare_capacity;
use rustix::io::Errno;
use rustix::net::{self, RecvFlags, Shutdown};

use super::{READ_BYTES_MAX, Socket, SocketTable, Stage};
use crate::client_network::ClientNetwork;
use crate::log_limit;
use crate::sending::send;
use crate::tls::{HandedOver, Received, SocketFault, TlsFault};

/// A record without content costs as much as such a frame.
const EMPTY_RECORD_BYTES: usize = 64;

impl Socket {
    /// Reads once, and appends what has come to `buffer`.
    pub(super) fn receive(&mut self, buffer: &mut Vec<u8>) -> Result<Received, SocketFault> {
        match &mut self.tls {
            // The header of a proxy comes before the handshake.
            Some(tls) if self.stage != Stage::Introducing => tls.receive_from(&self.descriptor, buffer),
            _ => {
                // What was kept has its own bound, so the buffer always has room for more.
                buffer.reserve(READ_BYTES_MAX);
                match net::recv(&self.descriptor, spare_capacity(buffer), RecvFlags::DONTWAIT) {
                    Ok((_, 0)) => Ok(Received::Last(0)),
                    Ok((_, read)) => Ok(Received::Bytes(read)),
                    // A record that is not content: an alert, as at the end, or an update of keys, which ends it here.
                    Err(Errno::IO) if self.kernel_tls.is_in_force() => Ok(Received::Last(0)),
                    Err(error) => Err(error.into()),
                }
            }
        }
    }

    /// Writes the pieces, as far as the socket takes them. Returns how many of their bytes it took: 0 if it is full. Fails
    /// if the connection is dead.
    pub(super) fn send(&mut self, pieces: &[&[u8]]) -> Result<usize, SocketFault> {
        match &mut self.tls {
            Some(tls) => tls.send_to(&self.descriptor, pieces),
            None => {
                let sent = send(&self.descriptor, pieces)?;
                if self.kernel_tls.is_in_force() {
                    self.kernel_tls.count_sent(sent)?;
                }
                Ok(sent)
            }
        }
    }

    /// Writes something short, such as an answer to an opening. Returns whether the socket took all of it: the send buffer
    /// is nearly empty then, so a short write means that the socket is dead.
    pub(super) fn send_whole(&mut self, bytes: &[u8]) -> bool {
        self.send(&[bytes]).is_ok_and(|sent| sent == bytes.len()) && !self.has_unsent()
    }

    /// Whether the socket has not taken all that was encrypted.
    pub(super) fn has_unsent(&self) -> bool {
        self.tls.as_ref().is_some_and(|tls| tls.has_unsent())
    }

    /// Writes what was encrypted. Returns whether the socket has taken all of it. Fails if the connection is dead.
    pub(super) fn flush(&mut self) -> Result<bool, Errno> {
        self.tls.as_mut().map_or(Ok(true), |tls| tls.flush_to(&self.descriptor))
    }

    /// Whether a TLS handshake begins or goes on with what comes next. It may come together with the header of a proxy.
    pub(super) fn has_handshake_ahead(&self) -> bool {
        self.tls.as_ref().is_some_and(|tls| tls.is_handshaking())
    }

    /// Whether the socket waits for a TLS handshake to end.
    pub(super) fn is_handshaking(&self) -> bool {
        self.has_handshake_ahead() && self.stage != Stage::Introducing
    }

    /// Lets the kernel encrypt from now on, if it is to and can. Fails if the connection is dead.
    pub(super) fn hand_tls_over(&mut self) -> Result<(), TlsFault> {
        match self.tls.take().map(|tls| tls.hand_over(&self.descriptor)).transpose()? {
            Some(HandedOver::Kernel(kernel)) => self.kernel_tls = kernel,
            Some(HandedOver::Kept(tls)) => self.tls = Some(tls),
            None => {}
        }
        Ok(())
    }

    /// Tells the client that nothing more comes. Returns false if the socket is too full for that now: then `flush` and
    /// `shut_down` come later.
    pub(super) fn hang_up(&mut self) -> bool {
        if let Some(tls) = &mut self.tls {
            tls.close();
        }
        if self.kernel_tls.is_in_force() {
            self.kernel_tls.close(&self.descriptor);
        }
        let is_sent = self.flush().unwrap_or(true);
        if is_sent {
            self.shut_down();
        }
        is_sent
    }

    /// Ends the server's half of the connection. It fails on a socket that is dead, which the next read reports.
    pub(super) fn shut_down(&self) {
        let _ = net::shutdown(&self.descriptor, Shutdown::Write);
    }
}

impl SocketTable {
    /// Bytes have come, and no content: a step of a handshake, the beginning of a record, or records without content.
    pub(super) fn heard_no_content(&mut self, id: ConnectionId, shard: &mut Shard) {
        let Some(socket) = self.socket(id) else { return };
        let (stage, kept) = (socket.stage, socket.tls.as_ref().map_or(0, |tls| tls.kept_bytes()));
        let kept = kept + socket.unfinished.len();
        match stage {
            Stage::Session => shard.charge_received(id, 0, READ_BYTES_MAX / EMPTY_RECORD_BYTES),
            Stage::Opening if kept > 0 => {
                let from = self.address(id).map_or(ClientNetwork::UNKNOWN, ClientNetwork::of);
                self.count_head(id, kept, from);
            }
            _ => {}
        }
    }

    /// Charges the client's network for the handshake that begins with what has come. Returns false if the network is beyond
    /// its budget. A trusted proxy that names no client is not charged: it speaks for many.
    pub(super) fn affords_handshake(&mut self, id: ConnectionId) -> bool {
        let has_begun = self.socket(id).and_then(|socket| socket.tls.as_ref()).is_none_or(|tls| tls.has_begun());
        if has_begun {
            return true;
        }
        let Some(address) = self.address(id).filter(|address| !self.proxies.trust(*address)) else { return true };
        self.services.affords_handshake(ClientNetwork::of(address).key())
    }

    /// Hangs up on a client whose network is beyond its budget. Without a handshake the client cannot be told why.
    pub(super) fn refuse_handshake(&mut self, id: ConnectionId, shard: &mut Shard, now: Timestamp) {
        self.counters.tls_refused += 1;
        let peer = self.address(id);
        log_limit::warn!(?peer, "a TLS handshake was refused: too many requests come from this network");
        self.drop_connection(id, shard, now);
    }

    /// Ends a connection whose bytes are no TLS. The alert that says so has been sent, as far as the socket took it.
    pub(super) fn broke_tls(&mut self, id: ConnectionId, fault: &TlsFault, shard: &mut Shard, now: Timestamp) {
        let Some(socket) = self.socket(id) else { return };
        if socket.is_handshaking() {
            self.counters.tls_refused += 1;
            let peer = self.address(id);
            log_limit::warn!(?peer, %fault, "a TLS handshake failed");
        }
        self.drop_connection(id, shard, now);
    }
}
