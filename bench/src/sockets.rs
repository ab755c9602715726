//! What all clients do with sockets: connect, open a WebSocket, wait for bytes, and read frames.

use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::Duration;

use rustix::buffer::spare_capacity;
use rustix::event::{Timespec, epoll};
use rustix::fd::OwnedFd;
use rustix::io::Errno;
use rustix::net::{self, AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, recv, send};
use rustls::ClientConfig;

use crate::dialect::Dialect;
use crate::failure::{Failure, world};
use crate::frames::{self, Frame, Remainder};
use crate::tls::{CARRIED_BYTES_MAX, Tls};

/// Connections that are being opened at the same time: far fewer than any listener's backlog.
pub const OPENING_MAX: usize = 128;
/// Far fewer than half of the 28,000 ports that the kernel gives out by default.
pub const PORTS_PER_ADDRESS: usize = 5000;
const HEAD_BYTES_MAX: usize = 8 << 10;

/// Connects from a different local address for each few thousand connections. A connection needs a local port. Once
/// half of one address's ports are taken, the kernel searches through thousands of them for the next one, and late
/// members would seem slow to join.
fn connect(server: SocketAddr, index: usize) -> io::Result<TcpStream> {
    let number = u8::try_from(index / PORTS_PER_ADDRESS).map_err(io::Error::other)?;
    if number == 0 || !server.ip().is_loopback() || server.is_ipv6() {
        return TcpStream::connect(server);
    }
    let socket = net::socket_with(AddressFamily::INET, SocketType::STREAM, SocketFlags::CLOEXEC, None)?;
    net::bind(&socket, &local_address(number))?;
    net::connect(&socket, &server)?;
    Ok(socket.into())
}

/// Begins to connect from the local address of this number. Never waits: the socket can be written to when the
/// connection is there.
pub fn begin_to_connect(server: SocketAddr, number: u8) -> io::Result<TcpStream> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = net::socket_with(AddressFamily::INET, SocketType::STREAM, flags, None)?;
    net::bind(&socket, &local_address(number))?;
    match net::connect(&socket, &server) {
        Ok(()) | Err(Errno::INPROGRESS) => {}
        Err(error) => return Err(error.into()),
    }
    let socket = TcpStream::from(socket);
    socket.set_nodelay(true)?;
    Ok(socket)
}

/// The local address of this number, with any port.
pub fn local_address(number: u8) -> SocketAddr {
    SocketAddr::from((Ipv4Addr::new(127, 0, number, 1), 0))
}

/// Cuts a connection with a reset, as a client's machine does that knows nothing of it any more.
pub fn reset(socket: TcpStream) -> io::Result<()> {
    // A socket that does not linger is reset when it is closed, which is here.
    Ok(net::sockopt::set_socket_linger(&socket, Some(Duration::ZERO))?)
}

/// The bytes that wait until the kernel takes them for one socket.
#[derive(Default)]
pub struct Outgoing {
    bytes: Vec<u8>,
    /// How much of `bytes` the kernel has taken.
    taken: usize,
}

impl Outgoing {
    pub fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// The bytes that are kept: those that wait, and those before them that the kernel has taken since it last took all.
    pub fn len(&self) -> usize {
        self.bytes.len()
    }

    /// Where bytes are appended that are to be sent.
    pub fn bytes(&mut self) -> &mut Vec<u8> {
        &mut self.bytes
    }

    /// Sends as much as the kernel takes now.
    pub fn flush(&mut self, socket: &TcpStream) -> io::Result<()> {
        while self.taken < self.bytes.len() {
            match send(socket, &self.bytes[self.taken..], SendFlags::DONTWAIT | SendFlags::NOSIGNAL) {
                Ok(taken) => self.taken += taken,
                // Not connected yet, or full.
                Err(Errno::AGAIN | Errno::NOTCONN) => return Ok(()),
                Err(Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
        self.bytes.clear();
        self.taken = 0;
        Ok(())
    }
}

/// Sends a few bytes on a connection that has sent almost nothing. If they do not fit, something is wrong.
fn say(socket: &TcpStream, bytes: &[u8]) -> Result<(), Failure> {
    match send(socket, bytes, SendFlags::DONTWAIT | SendFlags::NOSIGNAL) {
        Ok(sent) if sent == bytes.len() => Ok(()),
        Ok(_) => Err(world("send")(io::Error::other("a request did not fit into an empty socket"))),
        Err(error) => Err(world("send")(error.into())),
    }
}

/// Answers a ping, or tells an idle server that the client is there.
pub fn pong(socket: &TcpStream, payload: &[u8]) -> Result<(), Failure> {
    let mut frame = Vec::new();
    frames::put_client_frame(frames::PONG, payload, &mut frame);
    say(socket, &frame)
}

/// One connection of a client, and what is unfinished of what it has read.
pub struct Connection {
    pub socket: TcpStream,
    /// Boxed, because it is large and most runs have none.
    tls: Option<Box<Tls>>,
    /// Until the WebSocket is open.
    opening: Option<Opening>,
    remainder: Remainder,
}

/// The opening of a WebSocket whose request has been sent.
struct Opening {
    /// The received part of the head of the answer.
    head: Vec<u8>,
    /// The request that follows.
    next: Vec<u8>,
}

impl Connection {
    /// Connects, and sends the first bytes. If they open a WebSocket, `next` is sent when it is open.
    pub fn open(server: SocketAddr, index: usize, first: &[u8], next: Option<Vec<u8>>) -> Result<Connection, Failure> {
        Connection::open_within(None, server, index, first, next)
    }

    /// The same, within TLS if there is a configuration of it.
    pub fn open_within(
        tls: Option<Arc<ClientConfig>>,
        server: SocketAddr,
        index: usize,
        first: &[u8],
        next: Option<Vec<u8>>,
    ) -> Result<Connection, Failure> {
        let socket = connect(server, index).map_err(world("connect"))?;
        socket.set_nodelay(true)?;
        let tls =
            tls.map(|config| Tls::begin(config, &socket).map(Box::new)).transpose().map_err(world("handshake"))?;
        let opening = next.map(|next| Opening { head: Vec::new(), next });
        let mut connection = Connection { socket, tls, opening, remainder: Remainder::default() };
        connection.say(first)?;
        Ok(connection)
    }

    fn say(&mut self, bytes: &[u8]) -> Result<(), Failure> {
        match &mut self.tls {
            Some(tls) => tls.say(bytes, &self.socket).map_err(world("send")),
            None => say(&self.socket, bytes),
        }
    }

    /// Answers a ping.
    pub fn pong(&mut self, payload: &[u8]) -> Result<(), Failure> {
        let mut frame = Vec::new();
        frames::put_client_frame(frames::PONG, payload, &mut frame);
        self.say(&frame)
    }

    /// Whether a read that does not fill the buffer may leave bytes in the socket.
    pub fn reads_in_parts(&self) -> bool {
        self.tls.is_some()
    }

    /// Adds the socket to an epoll set, with its index.
    pub fn watch(&self, epoll: &OwnedFd, index: usize, flags: epoll::EventFlags) -> Result<(), Failure> {
        Ok(epoll::add(epoll, &self.socket, epoll::EventData::new_u64(index as u64), flags)?)
    }

    /// Reads at most `most` bytes that have arrived. Returns the length of what is in the buffer, which begins with what
    /// was kept. `None` if nothing has arrived. The end of the stream is an error.
    #[inline]
    pub fn receive(&mut self, buffer: &mut [u8], most: usize) -> io::Result<Option<usize>> {
        let kept = self.remainder.restore(buffer);
        let until = buffer.len().min(kept.saturating_add(most));
        let buffer = &mut buffer[kept..until];
        let got = match &mut self.tls {
            None => receive(&self.socket, buffer)?,
            Some(tls) => {
                // The content goes to the first half, and what it is decrypted from to the second.
                let half = (buffer.len() + CARRIED_BYTES_MAX).div_ceil(2).min(buffer.len());
                let (content, encrypted) = buffer.split_at_mut(half);
                let came = receive(&self.socket, encrypted)?;
                came.map(|came| tls.decrypt(&encrypted[..came], content)).transpose()?
            }
        };
        Ok(got.map(|got| kept + got))
    }

    /// Shows every frame that these received bytes complete.
    #[inline]
    pub fn take_in(&mut self, bytes: &[u8], show: impl FnMut(Frame<'_>)) -> Result<(), Failure> {
        if self.opening.is_some() {
            return self.go_on_opening(bytes);
        }
        Ok(self.remainder.walk(bytes, show)?)
    }

    /// Takes in bytes of the answer to the opening. When it is complete, sends the next request. No bytes may follow the
    /// head, because the client has sent no request before.
    #[cold]
    fn go_on_opening(&mut self, bytes: &[u8]) -> Result<(), Failure> {
        let Some(opening) = &mut self.opening else { return Ok(()) };
        opening.head.extend_from_slice(bytes);
        if !opening.head.ends_with(b"\r\n\r\n") && opening.head.len() < HEAD_BYTES_MAX {
            return Ok(());
        }
        let text = String::from_utf8_lossy(&opening.head);
        if !Dialect::is_upgrade(&text) {
            return Err(Failure::Refused(text.into_owned()));
        }
        let next = std::mem::take(&mut opening.next);
        self.opening = None;
        self.say(&next)?;
        Ok(())
    }
}

/// Reads what has arrived. `None` if nothing has. The end of the stream is an error.
#[inline]
fn receive(socket: &TcpStream, buffer: &mut [u8]) -> io::Result<Option<usize>> {
    loop {
        return match recv(socket, &mut *buffer, RecvFlags::DONTWAIT) {
            Ok((0, _)) => Err(io::Error::new(io::ErrorKind::UnexpectedEof, "end of stream")),
            Ok((got, _)) => Ok(Some(got)),
            Err(Errno::AGAIN) => Ok(None),
            Err(Errno::INTR) => continue,
            Err(error) => Err(error.into()),
        };
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
