//! The measuring client: all members of a room in one thread, because a client made with a library is slower than the
//! server.
//!
//! It polls epoll without sleeping, reads into one large buffer, finds frames by their headers, and checks the counter
//! of every message at every member (`checker`). Latency is recorded for a sample of the members, always from the time
//! at which a message was to be sent. The time of the very last delivery is exact.
//!
//! It reports every message that is lost, repeated or out of order, and never corrects such an error.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustix::event::epoll;
use rustls::ClientConfig;

use crate::checker::{self, Checker};
use crate::dialect::{BARE_PUBLISHER, Dialect};
use crate::failure::{Failure, OPENING_TIME_MAX, world};
use crate::publisher::{Publisher, Schedule};
use crate::received::{Rare, Received};
use crate::sockets::{Connection, OPENING_MAX, ready};

/// Latencies are recorded at every k-th member, so that about this many members are sampled.
pub const SAMPLED_MEMBERS: usize = 200;
const BUFFER_BYTES: usize = 256 << 10;
/// Most events handled in one turn, unless the room is told otherwise.
pub const EVENTS_MAX: usize = 512;
/// The schedule is checked after this many reads: every 100 µs or so at worst.
const READS_PER_PUBLISH: usize = 8;

pub struct Shape {
    pub members: usize,
    pub content_bytes: usize,
}

/// A room full of members, and its publisher.
pub struct Room {
    address: SocketAddr,
    /// Where members connect within TLS, if they do.
    secured: Option<(SocketAddr, Arc<ClientConfig>)>,
    dialect: Dialect,
    shape: Shape,
    clock: Instant,
    epoll: rustix::fd::OwnedFd,
    connections: Vec<Connection>,
    joined: usize,
    publisher: Option<Publisher>,
    counter: u32,
    buffer: Box<[u8]>,
    /// Most events handled in one turn.
    events_max: usize,
    /// How long the client has turned without any event, and since when the present or the last such period lasts.
    idle_ns: u64,
    idle_since_ns: Option<u64>,
    pub received: Received,
}

impl Room {
    pub fn new(address: SocketAddr, dialect: Dialect, shape: Shape) -> Result<Room, Failure> {
        let padding = checker::padding(shape.content_bytes);
        let received = Received::new(Checker::new(padding));
        Ok(Room {
            address,
            secured: None,
            dialect,
            shape,
            clock: Instant::now(),
            epoll: epoll::create(epoll::CreateFlags::CLOEXEC)?,
            connections: Vec::new(),
            joined: 0,
            publisher: None,
            counter: 0,
            buffer: vec![0; BUFFER_BYTES].into_boxed_slice(),
            events_max: EVENTS_MAX,
            idle_ns: 0,
            idle_since_ns: None,
            received,
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

    /// Sets how many events a turn handles at most: fewer where the client also serves another room.
    pub fn take_in_at_once(&mut self, events: usize) {
        self.events_max = events;
    }

    /// Has all members connect to this address, within TLS. The publisher does not.
    pub fn secure(&mut self, address: SocketAddr, config: Arc<ClientConfig>) {
        self.secured = Some((address, config));
    }

    /// The connection of the publisher. Where publishers have to be members, the first member publishes.
    fn publishing(&self) -> usize {
        if self.dialect.publishers_are_members() { 0 } else { self.shape.members }
    }

    /// Lets members join until the room has `members`.
    pub fn admit(&mut self, members: usize) -> Result<(), Failure> {
        self.open_until(members)
    }

    /// Lets all members join, and connects the publisher.
    pub fn fill(&mut self) -> Result<(), Failure> {
        self.open_until(self.shape.members)?;
        self.appoint_publisher()
    }

    /// Connects the publisher, when all members have joined.
    pub fn appoint_publisher(&mut self) -> Result<(), Failure> {
        let connection = self.publishing();
        self.open_until(self.connections.len().max(connection + 1))?;
        self.publisher = Some(Publisher::new(connection, self.dialect.publication(self.shape.content_bytes)));
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
        let member = index < self.shape.members;
        let (first, next) = match self.dialect.upgrade_request(index) {
            Some(head) => (head, Some(self.dialect.member_request())),
            None if member => (self.dialect.member_request(), None),
            None => (vec![BARE_PUBLISHER], None),
        };
        let connection = match &self.secured {
            Some((address, config)) if index != self.publishing() => {
                Connection::open_within(Some(config.clone()), *address, index, &first, next)?
            }
            _ => Connection::open(self.address, index, &first, next)?,
        };
        connection.watch(&self.epoll, index, epoll::EventFlags::IN | epoll::EventFlags::ET)?;
        if member {
            self.received.checker.add_member(self.counter);
        }
        self.connections.push(connection);
        Ok(())
    }

    /// Reads what has arrived, and publishes what is due.
    pub fn turn(&mut self, mut schedule: Option<&mut Schedule>) -> Result<(), Failure> {
        let events = ready(&self.epoll, self.events_max, Duration::ZERO)?;
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
        let Some(publisher) = &mut self.publisher else { return Ok(()) };
        if let Some(schedule) = schedule {
            let now_ns = self.clock.elapsed().as_nanos() as u64;
            while let Some(intended_ns) = schedule.due(now_ns).filter(|_| publisher.has_room()) {
                publisher.put_message(self.counter, intended_ns);
                schedule.sent(intended_ns, now_ns);
                self.counter += 1;
            }
        }
        publisher.flush(&self.connections[publisher.connection].socket).map_err(world("publish"))
    }

    fn read(&mut self, index: usize) -> Result<(), Failure> {
        let sampled = index.is_multiple_of(self.shape.members.div_ceil(SAMPLED_MEMBERS));
        loop {
            let connection = &mut self.connections[index];
            let read = connection.receive(&mut self.buffer, BUFFER_BYTES);
            let closed = |error: io::Error| Failure::Closed { connection: index, reason: error.to_string() };
            let Some(length) = read.map_err(closed)? else { return Ok(()) };
            let now_ns = self.clock.elapsed().as_nanos() as u64;
            let received = &mut self.received;
            connection.take_in(&self.buffer[..length], |frame| received.hear(index, sampled, now_ns, frame))?;
            if !self.received.rare.is_empty() {
                self.see_to_rare(index)?;
            }
            if length < self.buffer.len() && !self.connections[index].reads_in_parts() {
                return Ok(());
            }
        }
    }

    fn see_to_rare(&mut self, index: usize) -> Result<(), Failure> {
        for rare in std::mem::take(&mut self.received.rare) {
            match rare {
                Rare::Joined => self.joined += 1,
                Rare::Ping(payload) => self.answer_ping(index, &payload)?,
                Rare::Closed(code, reason) => {
                    return Err(Failure::Closed { connection: index, reason: format!("code {code} {reason}") });
                }
                Rare::Refused(text) => return Err(Failure::Refused(text)),
            }
        }
        Ok(())
    }

    fn answer_ping(&mut self, index: usize, payload: &[u8]) -> Result<(), Failure> {
        match self.publisher.as_mut().filter(|publisher| publisher.connection == index) {
            Some(publisher) => {
                publisher.put_pong(payload);
                Ok(())
            }
            None => self.connections[index].pong(payload),
        }
    }
}

#[cfg(test)]
mod tests;
