//! What all clients do with sockets: connect, send a first request, open a WebSocket, and wait for bytes.

use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::time::Duration;

use rustix::buffer::spare_capacity;
use rustix::event::{Timespec, epoll};
use rustix::fd::OwnedFd;
use rustix::io::Errno;
use rustix::net::{self, AddressFamily, SendFlags, SocketFlags, SocketType, send};

use crate::dialect::Dialect;
use crate::failure::{Failure, world};

/// Connections that are being opened at the same time: far fewer than any listener's backlog.
pub const OPENING_MAX: usize = 128;
/// Far fewer than half of the 28,000 ports that the kernel gives out by default.
pub const PORTS_PER_ADDRESS: usize = 5000;
const HEAD_BYTES_MAX: usize = 8 << 10;

/// Connects from a different local address for each few thousand connections. A connection needs a local port. Once
/// half of one address's ports are taken, the kernel searches through thousands of them for the next one, and late
/// members would seem slow to join.
pub fn connect(server: SocketAddr, index: usize) -> io::Result<TcpStream> {
    let number = u8::try_from(index / PORTS_PER_ADDRESS).map_err(io::Error::other)?;
    if number == 0 || !server.ip().is_loopback() || server.is_ipv6() {
        return TcpStream::connect(server);
    }
    let socket = net::socket_with(AddressFamily::INET, SocketType::STREAM, SocketFlags::CLOEXEC, None)?;
    net::bind(&socket, &SocketAddr::from((Ipv4Addr::new(127, 0, number, 1), 0)))?;
    net::connect(&socket, &server)?;
    Ok(socket.into())
}

/// Sends a few bytes on a connection that has sent almost nothing. If they do not fit, something is wrong.
pub fn say(socket: &TcpStream, bytes: &[u8]) -> Result<(), Failure> {
    match send(socket, bytes, SendFlags::DONTWAIT | SendFlags::NOSIGNAL) {
        Ok(sent) if sent == bytes.len() => Ok(()),
        Ok(_) => Err(world("send")(io::Error::other("a request did not fit into an empty socket"))),
        Err(error) => Err(world("send")(error.into())),
    }
}

/// The opening of a WebSocket whose request has been sent.
pub struct Opening {
    /// The received part of the head of the answer.
    head: Vec<u8>,
    next: Vec<u8>,
}

impl Opening {
    /// `next` is the request that follows once the opening is answered.
    pub fn new(next: Vec<u8>) -> Opening {
        Opening { head: Vec::new(), next }
    }

    /// Takes in bytes of the answer. When it is complete, sends the next request and returns `true`. No bytes may
    /// follow the head, because the client has sent no request before.
    pub fn take_in(&mut self, socket: &TcpStream, bytes: &[u8]) -> Result<bool, Failure> {
        self.head.extend_from_slice(bytes);
        if !self.head.ends_with(b"\r\n\r\n") && self.head.len() < HEAD_BYTES_MAX {
            return Ok(false);
        }
        let text = String::from_utf8_lossy(&self.head);
        if !Dialect::is_upgrade(&text) {
            return Err(Failure::Refused(text.into_owned()));
        }
        say(socket, &self.next)?;
        Ok(true)
    }
}

/// The events of an epoll set, at most `events_max` of them. Empty if none came within `patience`, or if a signal came.
pub fn ready(epoll: &OwnedFd, events_max: usize, patience: Duration) -> io::Result<Vec<epoll::Event>> {
    let patience = Timespec { tv_sec: patience.as_secs() as i64, tv_nsec: i64::from(patience.subsec_nanos()) };
    let mut events = Vec::with_capacity(events_max);
    match epoll::wait(epoll, spare_capacity(&mut events), Some(&patience)) {
        Ok(_) | Err(Errno::INTR) => Ok(events),
        Err(error) => Err(error.into()),
    }
}
