//! The measuring client: all members of a room in one thread, because a client made with a library is slower than the
//! server.
//!
//! It polls epoll without sleeping, reads into one large buffer, finds frames by their headers, and checks the counter
//! of every message at every member (`checker`). Latency is recorded for a sample of the members, always from the time
//! at which a message was to be sent. The time of the very last delivery is exact.
//!
//! It reports every message that is lost, repeated or out of order, and never corrects such an error.

use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use engine::fanout::frames::Format;
use rustix::buffer::spare_capacity;
use rustix::event::{Timespec, epoll};
use rustix::io::Errno;
use rustix::net::{self, AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, recv, send};
use thiserror::Error;

use crate::checker::{self, Checker};
use crate::dialect::{BARE_PUBLISHER, Dialect};
use crate::ear::{Ear, Rare};
use crate::frames::{self, IllegalFrame, Remainder};
use crate::publisher::{Publisher, Schedule};

/// Latencies are recorded at every k-th member, so that about this many members are sampled.
pub const SAMPLED_MEMBERS: usize = 200;
/// Connections that are being opened at the same time: far fewer than any listener's backlog.
const OPENING_MAX: usize = 128;
const OPENING_TIME_MAX: Duration = Duration::from_secs(120);
/// Far fewer than half of the 28,000 ports that the kernel gives out by default.
pub const PORTS_PER_ADDRESS: usize = 5000;
const HEAD_BYTES_MAX: usize = 8 << 10;
const BUFFER_BYTES: usize = 256 << 10;
const EVENTS_MAX: usize = 512;
/// The schedule is checked after this many reads: every 100 µs or so at worst.
const READS_PER_PUBLISH: usize = 8;

#[derive(Debug, Error)]
pub enum Failure {
    #[error("{tried}: {source}")]
    World { tried: &'static str, source: io::Error },
    #[error("the server closed connection {connection}: {reason}")]
    Closed { connection: usize, reason: String },
    #[error("the server refused: {0}")]
    Refused(String),
    #[error("connection {connection}: {source}")]
    Illegal { connection: usize, source: IllegalFrame },
    #[error("only {joined} of {asked} connections had joined after {OPENING_TIME_MAX:?}")]
    OpeningTooSlow { joined: usize, asked: usize },
}

fn world(tried: &'static str) -> impl Fn(io::Error) -> Failure {
    move |source| Failure::World { tried, source }
}

pub struct Shape {
    pub members: usize,
    pub publishers: usize,
    pub content_bytes: usize,
}

/// The formats of a room's members. Publishers use JSON, and the first member may be a publisher.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Formats {
    Json,
    /// Every second member uses protobuf, the others JSON.
    Both,
}

impl Formats {
    fn of(self, member: usize) -> Format {
        if self == Self::Both && member % 2 == 1 { Format::Protobuf } else { Format::Json }
    }
}

/// A room full of members, and its publishers.
pub struct Room {
    address: SocketAddr,
    dialect: Dialect,
    shape: Shape,
    clock: Instant,
    epoll: rustix::fd::OwnedFd,
    connections: Vec<Connection>,
    joined: usize,
    publishers: Vec<Publisher>,
    counter: u32,
    buffer: Box<[u8]>,
    /// Most events handled in one turn.
    events_max: usize,
    formats: Formats,
    /// How long the client has turned without any event, and since when the present or the last such period lasts.
    idle_ns: u64,
    idle_since_ns: Option<u64>,
    pub ear: Ear,
}

struct Connection {
    socket: TcpStream,
    stage: Stage,
    remainder: Remainder,
}

enum Stage {
    /// The received part of the response head that answers the upgrade.
    Upgrading(Vec<u8>),
    Framed,
}

impl Room {
    pub fn new(address: SocketAddr, dialect: Dialect, shape: Shape) -> Result<Room, Failure> {
        let padding = checker::padding(shape.content_bytes);
        let ear = Ear::new(Checker::new(shape.publishers as u32, padding));
        Ok(Room {
            address,
            dialect,
            shape,
            clock: Instant::now(),
            epoll: epoll::create(epoll::CreateFlags::CLOEXEC).map_err(|error| world("epoll")(error.into()))?,
            connections: Vec::new(),
            joined: 0,
            publishers: Vec::new(),
            counter: 0,
            buffer: vec![0; BUFFER_BYTES].into_boxed_slice(),
            events_max: EVENTS_MAX,
            formats: Formats::Json,
            idle_ns: 0,
            idle_since_ns: None,
            ear,
        })
    }

    pub fn members(&self) -> usize {
        self.shape.members
    }

    /// Whether the server acknowledges each publication.
    pub fn acknowledges(&self) -> bool {
        matches!(self.dialect, Dialect::Stentor { .. })
    }

    pub fn now_ns(&self) -> u64 {
        self.clock.elapsed().as_nanos() as u64
    }

    /// Messages published so far.
    pub fn published(&self) -> u32 {
        self.counter
    }

    /// How long the client has turned without finding any event. It never sleeps, so its CPU time does not tell.
    pub fn idle(&self) -> Duration {
        Duration::from_nanos(self.idle_ns)
    }

    /// Shortens the turns, for a client that also serves other rooms.
    pub fn take_in_at_once(&mut self, events: usize) {
        self.events_max = events;
    }

    /// Sets the formats of members that join from now on.
    pub fn speak(&mut self, formats: Formats) {
        self.formats = formats;
    }

    /// Lets members join until the room has `members`.
    pub fn admit(&mut self, members: usize) -> Result<(), Failure> {
        self.open_until(members)
    }

    /// Connects the publishers. Where publishers have to be members, makes the first members publishers.
    pub fn appoint_publishers(&mut self) -> Result<(), Failure> {
        let first = if self.dialect.publishers_are_members() { 0 } else { self.connections.len() };
        self.open_until(self.connections.len().max(first + self.shape.publishers))?;
        let publication = self.dialect.publication(self.shape.content_bytes);
        let appoint = |lane| Publisher::new(first + lane, publication.clone());
        self.publishers = (0..self.shape.publishers).map(appoint).collect();
        Ok(())
    }

    fn open_until(&mut self, connections: usize) -> Result<(), Failure> {
        let start = Instant::now();
        while self.joined < connections {
            while self.connections.len() < connections && self.connections.len() - self.joined < OPENING_MAX {
                self.open()?;
            }
            self.turn(None)?;
            if start.elapsed() > OPENING_TIME_MAX {
                return Err(Failure::OpeningTooSlow { joined: self.joined, asked: connections });
            }
        }
        Ok(())
    }

    fn open(&mut self) -> Result<(), Failure> {
        let index = self.connections.len();
        let socket = connect(self.address, index).map_err(world("connect"))?;
        socket.set_nodelay(true).map_err(world("connect"))?;
        let readable = epoll::EventFlags::IN | epoll::EventFlags::ET;
        epoll::add(&self.epoll, &socket, epoll::EventData::new_u64(index as u64), readable)
            .map_err(|error| world("epoll")(error.into()))?;
        let head = match self.formats.of(index) {
            Format::Json => self.dialect.upgrade_request(),
            Format::Protobuf => self.dialect.upgrade_request_in_protobuf(),
        };
        let stage = match head {
            Some(head) => {
                say(&socket, &head)?;
                Stage::Upgrading(Vec::new())
            }
            None => {
                let publisher = index >= self.shape.members;
                say(&socket, &if publisher { vec![BARE_PUBLISHER] } else { self.dialect.member_request() })?;
                Stage::Framed
            }
        };
        if index < self.shape.members {
            self.ear.checker.add_member(self.counter);
        }
        self.connections.push(Connection { socket, stage, remainder: Remainder::default() });
        Ok(())
    }

    /// Reads what has arrived, and publishes what is due.
    pub fn turn(&mut self, mut schedule: Option<&mut Schedule>) -> Result<(), Failure> {
        const AT_ONCE: Timespec = Timespec { tv_sec: 0, tv_nsec: 0 };
        let mut events = Vec::<epoll::Event>::with_capacity(self.events_max);
        match epoll::wait(&self.epoll, spare_capacity(&mut events), Some(&AT_ONCE)) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(error) => return Err(world("epoll")(error.into())),
        }
        self.count_idle(events.is_empty());
        self.publish_due(schedule.as_deref_mut())?;
        for some in events.chunks(READS_PER_PUBLISH) {
            for event in some {
                self.read(event.data.u64() as usize)?;
            }
            self.publish_due(schedule.as_deref_mut())?;
        }
        Ok(())
    }

    fn count_idle(&mut self, nothing_came: bool) {
        let now_ns = self.now_ns();
        self.idle_ns += self.idle_since_ns.map_or(0, |since_ns| now_ns - since_ns);
        self.idle_since_ns = nothing_came.then_some(now_ns);
    }

    fn publish_due(&mut self, schedule: Option<&mut Schedule>) -> Result<(), Failure> {
        if let Some(schedule) = schedule {
            let now_ns = self.now_ns();
            while let Some(intended_ns) = schedule.due(now_ns) {
                let lane = self.counter as usize % self.publishers.len();
                if !self.publishers[lane].has_room() {
                    break;
                }
                self.publishers[lane].put_message(self.counter, intended_ns);
                schedule.sent(intended_ns, now_ns);
                self.counter += 1;
            }
        }
        for publisher in &mut self.publishers {
            publisher.flush(&self.connections[publisher.connection].socket).map_err(world("publish"))?;
        }
        Ok(())
    }

    fn read(&mut self, index: usize) -> Result<(), Failure> {
        let sampled = index.is_multiple_of(self.shape.members.div_ceil(SAMPLED_MEMBERS));
        loop {
            let connection = &mut self.connections[index];
            let kept = connection.remainder.restore(&mut self.buffer);
            let got = match recv(&connection.socket, &mut self.buffer[kept..], RecvFlags::DONTWAIT) {
                Ok((0, _)) => return Err(Failure::Closed { connection: index, reason: "end of stream".into() }),
                Ok((got, _)) => got,
                Err(Errno::AGAIN) => return Ok(()),
                Err(Errno::INTR) => continue,
                Err(error) => return Err(world("read")(error.into())),
            };
            let now_ns = self.clock.elapsed().as_nanos() as u64;
            let bytes = &self.buffer[..kept + got];
            if let Stage::Framed = connection.stage {
                let ear = &mut self.ear;
                connection
                    .remainder
                    .walk(bytes, |frame| ear.hear(index, sampled, now_ns, frame))
                    .map_err(|source| Failure::Illegal { connection: index, source })?;
                if !self.ear.rare.is_empty() {
                    self.see_to_rare(index)?;
                }
            } else {
                self.read_head(index, got)?;
            }
            if kept + got < self.buffer.len() {
                return Ok(());
            }
        }
    }

    fn see_to_rare(&mut self, index: usize) -> Result<(), Failure> {
        for rare in std::mem::take(&mut self.ear.rare) {
            match rare {
                Rare::Joined => self.joined += 1,
                Rare::Ping(payload) => self.answer_ping(index, &payload)?,
                Rare::Closed(reason) => return Err(Failure::Closed { connection: index, reason }),
                Rare::Refused(text) => return Err(Failure::Refused(text)),
            }
        }
        Ok(())
    }

    fn answer_ping(&mut self, index: usize, payload: &[u8]) -> Result<(), Failure> {
        let mut pong = Vec::new();
        frames::put_client_frame(frames::PONG, payload, &mut pong);
        match self.publishers.iter_mut().find(|publisher| publisher.connection == index) {
            Some(publisher) => {
                publisher.put_frame(&pong);
                Ok(())
            }
            None => say(&self.connections[index].socket, &pong),
        }
    }

    /// Reads the head of the answer to an upgrade. No bytes may follow it, because the client has not sent a request
    /// yet.
    fn read_head(&mut self, index: usize, got: usize) -> Result<(), Failure> {
        let connection = &mut self.connections[index];
        let Stage::Upgrading(head) = &mut connection.stage else { return Ok(()) };
        head.extend_from_slice(&self.buffer[..got]);
        if !head.ends_with(b"\r\n\r\n") && head.len() < HEAD_BYTES_MAX {
            return Ok(());
        }
        let text = String::from_utf8_lossy(head);
        if !Dialect::is_upgrade(&text) {
            return Err(Failure::Refused(text.into_owned()));
        }
        connection.stage = Stage::Framed;
        let join = match self.formats.of(index) {
            Format::Json => self.dialect.member_request(),
            Format::Protobuf => self.dialect.member_request_in_protobuf(),
        };
        say(&connection.socket, &join)
    }
}

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

#[cfg(test)]
mod tests;
