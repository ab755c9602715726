//! The servers to compare with: sockets, `send`, and nothing else. No protocol, no users, no rooms.
//!
//! The plain loop sends each message to each member separately. The batching loop collects messages in one contiguous
//! log. Once per tick it sends every member all bytes after the member's cursor. These are the fewest and largest
//! writes possible, and so the limit that a chat server can hope to approach.
//!
//! Under TLS the batching loop is the same, with the library's ordinary connection for each member.
//!
//! All deliver every byte. The plain loop waits for a slow member. The batching loop reads nothing from its publishers
//! while its log is full. All end when their standard input ends, so that none outlives the bench that started it.

use std::collections::HashMap;
use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustix::event::epoll;
use rustix::io::Errno;
use rustix::net::{RecvFlags, SendFlags, recv, send};
use rustls::{ServerConfig, ServerConnection};

use crate::dialect::{BARE_MEMBER, BARE_PUBLISHER, BARE_WELCOME};
use crate::failure::Failure;
use crate::frames::{self, Header};
use crate::sockets::ready;

/// Bytes kept until the slowest member has taken them. When the log is full, publishers have to wait.
const LOG_BYTES_MAX: usize = 64 << 20;
/// The log is cut at the slowest cursor once this many bytes can be removed, so that cutting costs little per message.
const TRIM_BYTES: usize = 1 << 20;
const READ_BYTES: usize = 64 << 10;
const EVENTS_MAX: usize = 1024;
/// How long a turn waits when nothing has to be sent.
const IDLE: Duration = Duration::from_secs(1);
/// The time between two sends of the batching loop.
const TICK: Duration = Duration::from_millis(20);

const LISTENER: u64 = 0;
const STANDARD_INPUT: u64 = 1;
const SECURED_LISTENER: u64 = 2;
const FIRST_PEER: u64 = 3;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Sending {
    Each,
    PerTick,
}

/// Serves until standard input ends. With TLS, members connect to a listener of their own.
pub fn serve(sending: Sending, tls: Option<Arc<ServerConfig>>) -> Result<(), Failure> {
    let listener = listen()?;
    let secured = tls.map(|config| Ok::<_, io::Error>((listen()?, config))).transpose()?;
    let mut output = io::stdout();
    write!(output, "listening on {}", listener.local_addr()?)?;
    if let Some((listener, _)) = &secured {
        write!(output, ", {} (TLS)", listener.local_addr()?)?;
    }
    writeln!(output)?;
    output.flush()?;
    Ok(BareLoop::new(listener, secured, sending)?.run()?)
}

fn listen() -> io::Result<TcpListener> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    // The standard library's backlog of 128 is too short for a crowd that connects at once. A second `listen` only
    // changes the backlog.
    rustix::net::listen(&listener, 4096)?;
    listener.set_nonblocking(true)?;
    Ok(listener)
}

struct BareLoop {
    epoll: rustix::fd::OwnedFd,
    listener: TcpListener,
    /// Where members connect within TLS.
    secured: Option<(TcpListener, Arc<ServerConfig>)>,
    sending: Sending,
    /// All peers that are read from: publishers, and connections that have not yet said what they are.
    peers: HashMap<u64, Peer>,
    peer_next: u64,
    members: Vec<Member>,
    log: Log,
    inbox: Vec<u8>,
}

struct Peer {
    socket: TcpStream,
    /// The bytes of an incomplete publication. `None` while the peer has not said what it is.
    begun: Option<Vec<u8>>,
}

struct Member {
    socket: TcpStream,
    tls: Option<Box<ServerConnection>>,
    cursor: u64,
}

/// Frames end to end. `base` is the position of the first byte. `base <= every cursor <= end`.
#[derive(Default)]
struct Log {
    base: u64,
    bytes: Vec<u8>,
}

#[derive(PartialEq, Eq)]
enum Turn {
    Goes,
    Over,
}

impl BareLoop {
    fn new(
        listener: TcpListener,
        secured: Option<(TcpListener, Arc<ServerConfig>)>,
        sending: Sending,
    ) -> io::Result<BareLoop> {
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
        let readable = epoll::EventFlags::IN;
        epoll::add(&epoll, &listener, epoll::EventData::new_u64(LISTENER), readable)?;
        epoll::add(&epoll, io::stdin(), epoll::EventData::new_u64(STANDARD_INPUT), readable)?;
        if let Some((listener, _)) = &secured {
            epoll::add(&epoll, listener, epoll::EventData::new_u64(SECURED_LISTENER), readable)?;
        }
        Ok(BareLoop {
            epoll,
            listener,
            secured,
            sending,
            peers: HashMap::new(),
            peer_next: FIRST_PEER,
            members: Vec::new(),
            log: Log::default(),
            inbox: vec![0; READ_BYTES],
        })
    }

    fn run(mut self) -> io::Result<()> {
        let start = Instant::now();
        let mut tick_next = start;
        loop {
            let wait = match self.sending {
                Sending::PerTick if !self.log.bytes.is_empty() => tick_next.saturating_duration_since(Instant::now()),
                _ => IDLE,
            };
            let was_empty = self.log.bytes.is_empty();
            if self.turn(wait)? == Turn::Over {
                return Ok(());
            }
            if self.sending == Sending::Each {
                continue;
            }
            let now = Instant::now();
            if was_empty && tick_next < now {
                tick_next = tick_after(start, now);
            }
            if !self.log.bytes.is_empty() && now >= tick_next {
                self.send_what_is_owed();
                tick_next = now + TICK;
            }
        }
    }

    fn turn(&mut self, wait: Duration) -> io::Result<Turn> {
        for event in ready(&self.epoll, EVENTS_MAX, wait)? {
            match event.data.u64() {
                LISTENER => self.accept()?,
                SECURED_LISTENER => self.accept_secured()?,
                STANDARD_INPUT => return Ok(Turn::Over),
                peer => self.hear(peer)?,
            }
        }
        Ok(Turn::Goes)
    }

    fn accept(&mut self) -> io::Result<()> {
        while let Some(socket) = accepted(&self.listener)? {
            socket.set_nodelay(true)?;
            let key = epoll::EventData::new_u64(self.peer_next);
            epoll::add(&self.epoll, &socket, key, epoll::EventFlags::IN)?;
            self.peers.insert(self.peer_next, Peer { socket, begun: None });
            self.peer_next += 1;
        }
        Ok(())
    }

    /// Welcomes the members that connect within TLS. Waits for each: the client greets one after another.
    fn accept_secured(&mut self) -> io::Result<()> {
        let Some((listener, config)) = &self.secured else { return Ok(()) };
        while let Some(mut socket) = accepted(listener)? {
            socket.set_nodelay(true)?;
            let mut tls = Box::new(ServerConnection::new(config.clone()).map_err(io::Error::other)?);
            let mut stream = rustls::Stream::new(&mut *tls, &mut socket);
            let mut first = [0];
            stream.read_exact(&mut first)?;
            if first != [BARE_MEMBER] {
                return Err(io::Error::other("a connection within TLS is no member"));
            }
            stream.write_all(&welcome())?;
            stream.flush()?;
            socket.set_nonblocking(true)?;
            self.members.push(Member { socket, tls: Some(tls), cursor: self.log.end() });
        }
        Ok(())
    }

    fn hear(&mut self, key: u64) -> io::Result<()> {
        if self.log.bytes.len() >= LOG_BYTES_MAX {
            return Ok(());
        }
        let Some(peer) = self.peers.get_mut(&key) else { return Ok(()) };
        let got = match recv(&peer.socket, &mut self.inbox[..], RecvFlags::DONTWAIT) {
            Err(Errno::AGAIN | Errno::INTR) => return Ok(()),
            Err(_) | Ok((0, _)) => {
                self.peers.remove(&key);
                return Ok(());
            }
            Ok((got, _)) => got,
        };
        match &mut peer.begun {
            Some(begun) => {
                begun.extend_from_slice(&self.inbox[..got]);
                self.publish(key)
            }
            None => self.introduce(key),
        }
    }

    /// Reads the first byte of a connection, which says what it is.
    fn introduce(&mut self, key: u64) -> io::Result<()> {
        let Some(mut peer) = self.peers.remove(&key) else { return Ok(()) };
        match self.inbox[0] {
            BARE_PUBLISHER => {
                peer.begun = Some(Vec::new());
                send_whole(&peer.socket, &welcome())?;
                self.peers.insert(key, peer);
            }
            BARE_MEMBER => {
                // A member sends nothing more. If it has gone, a send fails.
                epoll::delete(&self.epoll, &peer.socket)?;
                send_whole(&peer.socket, &welcome())?;
                self.members.push(Member { socket: peer.socket, tls: None, cursor: self.log.end() });
            }
            _ => {}
        }
        Ok(())
    }

    fn publish(&mut self, key: u64) -> io::Result<()> {
        let Some(begun) = self.peers.get_mut(&key).and_then(|peer| peer.begun.as_mut()) else { return Ok(()) };
        let bytes = std::mem::take(begun);
        let mut at = 0;
        while let Some(header) = Header::read(&bytes[at..]).map_err(io::Error::other)? {
            let Some(frame) = bytes.get(at..at + header.wire_bytes()) else { break };
            match self.sending {
                Sending::Each => self.members.retain(|member| send_whole(&member.socket, frame).is_ok()),
                Sending::PerTick => self.log.bytes.extend_from_slice(frame),
            }
            at += frame.len();
        }
        if let Some(peer) = self.peers.get_mut(&key) {
            peer.begun = Some(bytes[at..].to_vec());
        }
        Ok(())
    }

    fn send_what_is_owed(&mut self) {
        let log = &self.log;
        self.members.retain_mut(|member| {
            let owed = &log.bytes[(member.cursor - log.base) as usize..];
            if owed.is_empty() {
                return true;
            }
            let sent = match &mut member.tls {
                Some(tls) => send_secured(&member.socket, tls, owed),
                None => send(&member.socket, owed, SendFlags::DONTWAIT | SendFlags::NOSIGNAL).map_err(io::Error::from),
            };
            match sent {
                Ok(sent) => member.cursor += sent as u64,
                Err(error) if is_for_now(&error) => {}
                Err(_) => return false,
            }
            true
        });
        let slowest = self.members.iter().map(|member| member.cursor).min().unwrap_or(log.end());
        self.log.trim(slowest);
    }
}

impl Log {
    fn end(&self) -> u64 {
        self.base + self.bytes.len() as u64
    }

    fn trim(&mut self, slowest: u64) {
        assert!(self.base <= slowest && slowest <= self.end(), "a cursor is within the log");
        let done = (slowest - self.base) as usize;
        if done == self.bytes.len() {
            self.bytes.clear();
        } else if done >= TRIM_BYTES {
            self.bytes.drain(..done);
        } else {
            return;
        }
        self.base = slowest;
    }
}

/// Encrypts and sends as much as the kernel takes, and what the library keeps of it. Returns how much was encrypted.
fn send_secured(mut socket: &TcpStream, tls: &mut ServerConnection, owed: &[u8]) -> io::Result<usize> {
    let mut taken = 0;
    loop {
        while tls.wants_write() {
            match tls.write_tls(&mut socket) {
                Ok(_) => {}
                Err(error) if is_for_now(&error) => return Ok(taken),
                Err(error) => return Err(error),
            }
        }
        if taken == owed.len() {
            return Ok(taken);
        }
        taken += tls.writer().write(&owed[taken..])?;
    }
}

/// Whether the same call may succeed later.
fn is_for_now(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted)
}

/// The next connection that waits to be accepted, if there is one.
fn accepted(listener: &TcpListener) -> io::Result<Option<TcpStream>> {
    match listener.accept() {
        Ok((socket, _)) => Ok(Some(socket)),
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(None),
        Err(error) => Err(error),
    }
}

/// The frame that says that a join is done.
fn welcome() -> Vec<u8> {
    let mut welcome = Vec::new();
    frames::put_server_text(BARE_WELCOME, &mut welcome);
    welcome
}

/// Sends all bytes. The sockets block: the plain loop waits for a slow member.
fn send_whole(socket: &TcpStream, mut bytes: &[u8]) -> io::Result<()> {
    while !bytes.is_empty() {
        match send(socket, bytes, SendFlags::NOSIGNAL) {
            Ok(sent) => bytes = &bytes[sent..],
            Err(Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

/// The first tick after `now`, of the clock that began at `start`.
fn tick_after(start: Instant, now: Instant) -> Instant {
    let ticks = now.duration_since(start).as_nanos() / TICK.as_nanos() + 1;
    start + Duration::from_nanos((ticks * TICK.as_nanos()) as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_log_is_cut_behind_the_slowest() {
        let check = |length: usize, slowest: u64, left: usize| {
            let mut log = Log { base: 10, bytes: vec![0; length] };
            log.trim(slowest);
            assert_eq!((log.bytes.len(), log.end()), (left, 10 + length as u64), "{length} bytes, slowest {slowest}");
        };
        check(100, 110, 0);
        check(100, 60, 100);
        check(0, 10, 0);
        check(2 * TRIM_BYTES, 10 + TRIM_BYTES as u64, TRIM_BYTES);
    }

    #[test]
    fn ticks_keep_to_their_clock() {
        let start = Instant::now();
        let check = |now_ms, expected_ms| {
            let found = tick_after(start, start + Duration::from_millis(now_ms));
            assert_eq!(found, start + Duration::from_millis(expected_ms));
        };
        check(0, 20);
        check(19, 20);
        check(20, 40);
        check(1_234, 1_240);
    }
}
