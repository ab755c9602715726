//! One thread of the bare server: an epoll set, its connections, and the rooms whose order this thread decides.
//!
//! A message goes from its publisher's thread to the thread that owns the room. From there it goes in batches to all
//! threads, and each thread writes it to its members: one `send` for each member and batch, and nothing else.

use std::collections::HashMap;
use std::io::{self, ErrorKind, Read, Write};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender};
use std::time::{Duration, Instant};

use mio::net::TcpStream;
use mio::{Events, Interest, Poll, Token, Waker};
use tokio_tungstenite::tungstenite::protocol::frame::coding::{Data, OpCode};

use super::batch::Batch;
use super::conversation::{Conversation, Event};
use crate::wire::frames::Whole;
use crate::wire::{Asked, Dialect};

/// How many parcels may wait for a thread. A thread that is further behind cannot keep up, and the process ends with an
/// error.
pub const PARCELS_MAX: usize = 1 << 16;
/// How much may be owed to a member; with more, its connection ends.
const ARREARS_BYTES_MAX: usize = 16 << 20;
/// A partly filled batch is sent after this long without a message of its room, so that the last messages of a run
/// arrive, and those of a quiet room beside busy ones.
const BATCH_WAIT: Duration = Duration::from_millis(50);
const READ_BYTES: usize = 64 * 1024;
const EVENTS_MAX: usize = 1024;
const DOORBELL: Token = Token(usize::MAX);

/// What threads send to each other.
pub enum Parcel {
    Accepted(std::net::TcpStream),
    /// To the thread that owns the room.
    Publish {
        room: Arc<str>,
        frame: Vec<u8>,
    },
    /// From that thread to all others, for their members.
    Batch {
        room: Arc<str>,
        bytes: Arc<[u8]>,
    },
}

/// How to send to one thread.
pub struct Door {
    pub parcels: SyncSender<Parcel>,
    pub doorbell: Waker,
}

/// The properties of the real run.
#[derive(Clone, Debug)]
pub struct BareSettings {
    pub dialect: Dialect,
    pub batch_factor: f64,
    /// Bytes of a message's payload, including the envelope.
    pub message_bytes: usize,
}

pub struct Shard {
    number: usize,
    settings: BareSettings,
    poll: Poll,
    doors: Arc<[Door]>,
    inbox: Receiver<Parcel>,
    connections: Vec<Option<Connection>>,
    free: Vec<usize>,
    members: HashMap<Arc<str>, Vec<usize>>,
    /// For the rooms that this thread owns.
    batches: HashMap<Arc<str>, Batch>,
    /// When to look for batches that have waited; `None` while none waits. Looking is rare, because there may be many
    /// thousands of rooms.
    look_at: Option<Instant>,
    published: u64,
}

struct Connection {
    stream: TcpStream,
    conversation: Conversation,
    /// Bytes that the socket did not accept yet.
    arrears: Vec<u8>,
    room: Option<Arc<str>>,
}

impl Door {
    pub fn put(&self, parcel: Parcel) -> io::Result<()> {
        self.parcels.try_send(parcel).map_err(|_| io::Error::other("the bare loop cannot keep up"))?;
        self.doorbell.wake()
    }
}

/// An epoll set, and the waker for the thread that waits in it.
pub fn poll() -> io::Result<(Poll, Waker)> {
    let poll = Poll::new()?;
    let doorbell = Waker::new(poll.registry(), DOORBELL)?;
    Ok((poll, doorbell))
}

impl Shard {
    pub fn new(number: usize, settings: BareSettings, poll: Poll, doors: Arc<[Door]>, inbox: Receiver<Parcel>) -> Self {
        let (members, batches) = (HashMap::new(), HashMap::new());
        Self {
            number,
            settings,
            poll,
            doors,
            inbox,
            connections: Vec::new(),
            free: Vec::new(),
            members,
            batches,
            look_at: None,
            published: 0,
        }
    }

    /// Runs for ever, or until an error that concerns the whole server.
    pub fn run(mut self) -> io::Result<()> {
        let mut events = Events::with_capacity(EVENTS_MAX);
        let mut buffer = vec![0; READ_BYTES];
        loop {
            let timeout = self.look_at.map(|at| at.saturating_duration_since(Instant::now()));
            match self.poll.poll(&mut events, timeout) {
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                other => other?,
            }
            for event in &events {
                if event.token() == DOORBELL {
                    self.take_parcels()?;
                    continue;
                }
                let at = event.token().0;
                if event.is_writable() {
                    self.write(at, &[]);
                }
                if event.is_readable() {
                    self.read(at, &mut buffer)?;
                }
            }
            // A busy thread always has events, so this must not wait for a poll without any.
            self.send_what_has_waited(Instant::now())?;
        }
    }

    fn take_parcels(&mut self) -> io::Result<()> {
        while let Ok(parcel) = self.inbox.try_recv() {
            match parcel {
                Parcel::Accepted(stream) => self.accept(stream)?,
                Parcel::Publish { room, frame } => self.publish(&room, &frame)?,
                Parcel::Batch { room, bytes } => self.fan_out(&room, &bytes),
            }
        }
        Ok(())
    }

    fn accept(&mut self, stream: std::net::TcpStream) -> io::Result<()> {
        stream.set_nonblocking(true)?;
        stream.set_nodelay(true)?;
        let mut stream = TcpStream::from_std(stream);
        let at = self.free.pop().unwrap_or(self.connections.len());
        self.poll.registry().register(&mut stream, Token(at), Interest::READABLE | Interest::WRITABLE)?;
        let connection = Connection { stream, conversation: Conversation::new(), arrears: Vec::new(), room: None };
        match self.connections.get_mut(at) {
            Some(place) => *place = Some(connection),
            None => self.connections.push(Some(connection)),
        }
        Ok(())
    }

    /// Reads until there is nothing more, because readiness is reported only once.
    fn read(&mut self, at: usize, buffer: &mut [u8]) -> io::Result<()> {
        while let Some(Some(connection)) = self.connections.get_mut(at) {
            match connection.read(buffer) {
                Ok(events) => events.into_iter().try_for_each(|event| self.carry_out(at, event))?,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(_) => self.close(at),
            }
        }
        Ok(())
    }

    fn carry_out(&mut self, at: usize, event: Event) -> io::Result<()> {
        match event {
            Event::Answer(bytes) => self.write(at, &bytes),
            Event::Opened if self.settings.dialect.joins_by_connecting() => self.join(at, "", ""),
            Event::Opened => {}
            Event::Closed => self.close(at),
            Event::Said(frame) => match self.settings.dialect.asked(&frame) {
                Asked::Join { cid, room } => self.join(at, &cid, &room),
                Asked::Send { cid, room, content } => self.say(at, &cid, &room, &content)?,
                Asked::Other => {}
            },
        }
        Ok(())
    }

    fn join(&mut self, at: usize, cid: &str, room: &str) {
        let room: Arc<str> = room.into();
        let Some(Some(connection)) = self.connections.get_mut(at) else { return };
        connection.room = Some(room.clone());
        let answer = self.settings.dialect.joined(cid, &room);
        self.members.entry(room).or_default().push(at);
        self.answer(at, answer);
    }

    /// Acknowledges a message and sends it to the thread that owns the room.
    fn say(&mut self, at: usize, cid: &str, room: &str, content: &str) -> io::Result<()> {
        self.published += 1;
        let id = format!("{}-{}", self.number, self.published);
        let answer = self.settings.dialect.accepted(cid, &id);
        self.answer(at, answer);
        let payload = self.settings.dialect.pushed(&id, content, self.settings.message_bytes);
        let frame = self.whole(payload);
        let owner = crc32fast::hash(room.as_bytes()) as usize % self.doors.len();
        if owner == self.number {
            self.publish(room, &frame)
        } else {
            self.doors[owner].put(Parcel::Publish { room: room.into(), frame })
        }
    }

    fn answer(&mut self, at: usize, payload: Option<Vec<u8>>) {
        if let Some(payload) = payload {
            let frame = self.whole(payload);
            self.write(at, &frame);
        }
    }

    fn whole(&self, payload: Vec<u8>) -> Vec<u8> {
        let kind = if self.settings.dialect.speaks_text() { Data::Text } else { Data::Binary };
        Whole { opcode: OpCode::Data(kind), payload }.written()
    }

    /// Runs on the thread that owns the room: the order of the calls is the room's order.
    fn publish(&mut self, room: &str, frame: &[u8]) -> io::Result<()> {
        let factor = self.settings.batch_factor;
        let batch = match self.batches.get_mut(room) {
            Some(batch) => batch,
            None => self.batches.entry(room.into()).or_insert_with(|| Batch::new(factor)),
        };
        let now = Instant::now();
        match batch.add(frame, now) {
            Some(bytes) => self.send_out(room.into(), bytes),
            None => {
                self.look_at.get_or_insert(now + BATCH_WAIT);
                Ok(())
            }
        }
    }

    /// Sends the batches of the rooms that have been quiet for `BATCH_WAIT`.
    fn send_what_has_waited(&mut self, now: Instant) -> io::Result<()> {
        if self.look_at.is_none_or(|at| now < at) {
            return Ok(());
        }
        let is_quiet = |batch: &Batch| batch.quiet_at(BATCH_WAIT).is_some_and(|at| at <= now);
        let quiet = self.batches.iter_mut().filter(|(_, batch)| is_quiet(batch));
        let quiet: Vec<_> = quiet.map(|(room, batch)| (room.clone(), batch.take())).collect();
        self.look_at = self.batches.values().filter_map(|batch| batch.quiet_at(BATCH_WAIT)).min();
        quiet.into_iter().try_for_each(|(room, bytes)| self.send_out(room, bytes))
    }

    fn send_out(&mut self, room: Arc<str>, bytes: Vec<u8>) -> io::Result<()> {
        let bytes: Arc<[u8]> = bytes.into();
        for (number, door) in self.doors.iter().enumerate() {
            if number != self.number {
                door.put(Parcel::Batch { room: room.clone(), bytes: bytes.clone() })?;
            }
        }
        self.fan_out(&room, &bytes);
        Ok(())
    }

    fn fan_out(&mut self, room: &str, bytes: &[u8]) {
        let Some(members) = self.members.get_mut(room) else { return };
        // The list is taken out during the writes, because a member whose connection is lost is removed from the list
        // in `members`.
        let mut members = std::mem::take(members);
        members.iter().for_each(|at| self.write(*at, bytes));
        members.retain(|at| self.connections[*at].as_ref().is_some_and(|connection| connection.room.is_some()));
        if let Some(place) = self.members.get_mut(room) {
            *place = members;
        }
    }

    /// Writes the bytes that are owed, and then these bytes. Bytes that the socket does not accept are owed.
    fn write(&mut self, at: usize, bytes: &[u8]) {
        let Some(Some(connection)) = self.connections.get_mut(at) else { return };
        if connection.write(bytes).is_err() {
            self.close(at);
        }
    }

    fn close(&mut self, at: usize) {
        let Some(connection) = self.connections.get_mut(at).and_then(Option::take) else { return };
        self.free.push(at);
        if let Some(members) = connection.room.and_then(|room| self.members.get_mut(&room)) {
            members.retain(|member| *member != at);
        }
    }
}

impl Connection {
    /// Reads what has come. A client that sends something our clients never send gets an error.
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<Vec<Event>> {
        match self.stream.read(buffer)? {
            0 => Err(ErrorKind::UnexpectedEof.into()),
            read => self.conversation.take_in(&buffer[..read]).map_err(io::Error::other),
        }
    }

    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        if !self.arrears.is_empty() {
            let mut arrears = std::mem::take(&mut self.arrears);
            arrears.drain(..self.take(&arrears)?);
            self.arrears = arrears;
        }
        let taken = if self.arrears.is_empty() { self.take(bytes)? } else { 0 };
        self.arrears.extend_from_slice(&bytes[taken..]);
        if self.arrears.len() > ARREARS_BYTES_MAX {
            return Err(io::Error::other("a member reads too slowly"));
        }
        Ok(())
    }

    /// Writes as many of the bytes as the socket accepts, and returns how many.
    fn take(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let mut taken = 0;
        while taken < bytes.len() {
            match self.stream.write(&bytes[taken..]) {
                Ok(written) => taken += written,
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(taken)
    }
}

#[cfg(test)]
mod tests;
