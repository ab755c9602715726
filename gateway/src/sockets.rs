//! The connections of a shard: accepted, read into the loop's one buffer, written to in slices. The engine's outlet.
//!
//! A connection owns a descriptor and a place in the table. A buffer of its own it has only while a frame, or the request
//! head, is unfinished. What is no WebSocket opening goes to `http/` with its descriptor and is forgotten here
//! (`sockets/opening.rs`).

mod accept;
mod opening;

pub use accept::SPARES;

use std::io::{self, IoSlice};
use std::os::fd::OwnedFd;
use std::rc::Rc;
use std::task::{Context, Poll};

use engine::counters::{STAGES, SocketCounters};
use engine::fanout::frames::Format;
use engine::fanout::subscribers::{Gone, Outlet};
use engine::id::{ConnectionId, Timestamp};
use engine::parcel::ChannelAnswer;
use engine::session::home::{CloseMode, SocketEffect};
use engine::shard::{Input, Shard};
use engine::wire::websocket::{self, Assembly, CloseCode};
use runtime::{Reading, Sockets};
use rustix::buffer::spare_capacity;
use rustix::event::epoll::{self, EventData, EventFlags};
use rustix::io::Errno;
use rustix::net::{self, RecvFlags, SendFlags, Shutdown};

use crate::http::{self, Services};
use crate::http_tasks::HttpTasks;
use crate::memory::{self, HighWater};
use crate::readiness::Readiness;
use crate::session::{self, Progress};
use crate::upgrade;

/// Bytes read from one connection at a time. What a client that is not read may leave with us is no more than this.
const READ_BYTES_MAX: usize = 16 * 1024;

/// Events taken from the epoll set at a time, and connections accepted at a time.
const EVENTS_MAX: usize = 256;

/// What the kernel may hold for a reader, before its bookkeeping. Enough for a burst and for a pass under full load;
/// without a bound it would take megabytes for every reader that has stopped.
const SEND_BUFFER_BYTES: usize = 128 * 1024;

/// Ticks a second (`runtime::turn::TICK`).
const TICKS_PER_SECOND: u32 = 10;

/// Every connection is looked after once in so many ticks.
const TICKS_PER_ROUND: u32 = 10;
/// Ticks between two looks at how many channels and members there are.
const TICKS_PER_LOOK: u32 = 10;

/// Time for a request head to arrive (docs/protocol.md, section 10).
const OPENING_TICKS_MAX: u32 = 10 * TICKS_PER_SECOND;

/// Silence after which a session is pinged, and after which it is closed.
const PING_TICKS: u32 = 15 * TICKS_PER_SECOND;
const SILENCE_TICKS_MAX: u32 = 25 * TICKS_PER_SECOND;

/// Time for a close frame to be taken, and for the client to hang up.
const CLOSING_TICKS_MAX: u32 = 5 * TICKS_PER_SECOND;
const HANGING_UP_TICKS_MAX: u32 = 2 * TICKS_PER_SECOND;

/// Time for a client that is refused to say what it wants, and for it to hang up. Few are heard at a time.
const REFUSING_TICKS_MAX: u32 = TICKS_PER_SECOND;

/// What the epoll set reports the listener under; connections are their ids.
const LISTENER: u64 = u64::MAX;

/// The connections of one shard.
pub struct SocketTable {
    epoll: OwnedFd,
    readiness: Readiness,
    listener: Option<OwnedFd>,
    /// Whether the listener is in the epoll set.
    accepting: bool,
    entries: Vec<Entry>,
    free: Vec<u32>,
    open: usize,
    /// Most connections at a time, those of `http/` included; more are refused.
    capacity: usize,
    /// Descriptors kept back for those who are refused.
    spares: Vec<OwnedFd>,
    events: Vec<epoll::Event>,
    buffer: Vec<u8>,
    /// Connections found dead while they were written to.
    gone: Vec<ConnectionId>,
    ticks: u32,
    services: Rc<Services>,
    http: HttpTasks,
    /// What works on accounts that are being deleted. It is no connection, and ends when the server stops.
    departing: HttpTasks,
    /// The task that lets the store forget expired logouts; it ends with the table.
    logouts: HttpTasks,
    counters: SocketCounters,
    high_water: Option<HighWater>,
}

struct Entry {
    generation: u32,
    socket: Option<Socket>,
}

struct Socket {
    descriptor: OwnedFd,
    stage: Stage,
    /// Of a session's envelopes; its opening says which.
    format: Format,
    /// What the epoll set reports of it.
    reads: bool,
    writes: bool,
    /// The tick of a session's last sign of life, or of entering another stage.
    heard: u32,
    pinged: u32,
    /// The beginning of a request head or a frame, or what the shard does not take yet.
    unfinished: Vec<u8>,
    assembly: Assembly,
}

const _: () = assert!(size_of::<Entry>() <= 64);

// All that a joined idle connection owns in this process, with its place in our table, which grows by doubling, and in the
// list of free ones.
const _: () = assert!(2 * size_of::<Entry>() + 2 * size_of::<u32>() + engine::footprint::CONNECTION_BYTES <= 1024);

/// In the order of `STAGES`, whose last is what `http/` has.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Stage {
    /// Its request head is being read.
    Opening,
    Session,
    /// A session whose close frame is on the way.
    Closing,
    /// Everything is said; the client may hang up.
    HangingUp,
    /// Beyond the room: its question is heard, and then it is refused.
    Refusing,
    /// That is done.
    Refused,
}

impl Stage {
    /// Its place among `STAGES`.
    fn counted(self) -> usize {
        match self {
            Self::Refused => Self::Refusing as usize,
            stage => stage as usize,
        }
    }
}

const _: () = assert!(Stage::Refusing as usize + 2 == STAGES.len());

impl SocketTable {
    /// The table of a shard that accepts on `listener`.
    pub fn new(listener: OwnedFd, capacity: usize, services: Rc<Services>) -> io::Result<Self> {
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
        epoll::add(&epoll, &listener, EventData::new_u64(LISTENER), EventFlags::IN)?;
        let mut table = Self {
            epoll,
            readiness: Readiness::default(),
            listener: Some(listener),
            accepting: true,
            entries: Vec::new(),
            free: Vec::new(),
            open: 0,
            capacity,
            spares: Vec::with_capacity(accept::SPARES),
            events: Vec::with_capacity(EVENTS_MAX),
            buffer: Vec::with_capacity(upgrade::HEAD_BYTES_MAX + 2 * READ_BYTES_MAX),
            gone: Vec::new(),
            ticks: 0,
            services,
            http: HttpTasks::default(),
            departing: HttpTasks::default(),
            logouts: HttpTasks::default(),
            counters: SocketCounters { capacity: capacity as u64, ..SocketCounters::default() },
            high_water: None,
        };
        table.keep_spares();
        Ok(table)
    }

    /// Lets accounts be deleted on this shard. To be called in its executor.
    pub fn delete_accounts(&mut self) {
        self.departing.spawn(http::run_account_deletions(self.services.clone()));
    }

    /// From now on, memory is given back to the system when a crowd of this shard has gone.
    pub fn give_memory_back(&mut self, bell: memory::Bell) {
        self.high_water = Some(HighWater::new(bell));
    }

    /// Lets the store forget expired logouts, and know when the newest tokens were issued. For one shard of all, in its executor.
    pub fn keep_logouts(&mut self) {
        self.logouts.spawn(http::run_forgetting(self.services.clone()));
        self.logouts.spawn(http::run_marking(self.services.clone()));
    }

    /// Gives a connection a place in the table, where what it asks will be looked at.
    fn seat(&mut self, descriptor: OwnedFd, stage: Stage) -> Option<ConnectionId> {
        let slot = self.free.pop().unwrap_or_else(|| {
            self.entries.push(Entry { generation: 0, socket: None });
            (self.entries.len() - 1) as u32
        });
        let generation = self.entries[slot as usize].generation;
        let id = ConnectionId { slot, generation };
        if epoll::add(&self.epoll, &descriptor, data_of(id), EventFlags::IN).is_err() {
            self.free.push(slot);
            return None;
        }
        self.open += 1;
        self.counters.stages[stage.counted()] += 1;
        self.entries[slot as usize].socket = Some(Socket {
            descriptor,
            stage,
            format: Format::Json,
            reads: true,
            writes: false,
            heard: self.ticks,
            pinged: self.ticks,
            unfinished: Vec::new(),
            assembly: Assembly::default(),
        });
        Some(id)
    }

    fn socket(&mut self, id: ConnectionId) -> Option<&mut Socket> {
        let entry = self.entries.get_mut(id.slot as usize)?;
        entry.socket.as_mut().filter(|_| entry.generation == id.generation)
    }

    /// Takes a connection out of the table.
    fn remove(&mut self, id: ConnectionId) -> Option<Socket> {
        self.socket(id)?;
        let entry = &mut self.entries[id.slot as usize];
        entry.generation = entry.generation.wrapping_add(1);
        self.free.push(id.slot);
        self.open -= 1;
        let socket = entry.socket.take()?;
        self.counters.stages[socket.stage.counted()] -= 1;
        Some(socket)
    }

    /// The connection is dead, or has had its time.
    fn drop_connection(&mut self, id: ConnectionId, shard: &mut Shard, now: Timestamp) {
        if let Some(socket) = self.remove(id)
            && matches!(socket.stage, Stage::Session | Stage::Closing | Stage::HangingUp)
        {
            shard.step(Input::Closed { connection: id }, now);
        }
    }

    fn readable(&mut self, id: ConnectionId, shard: &mut Shard, now: Timestamp) {
        let mut buffer = std::mem::take(&mut self.buffer);
        buffer.clear();
        let ticks = self.ticks;
        if let Some(socket) = self.socket(id) {
            buffer.append(&mut socket.unfinished);
            // What was kept has its own bound, so there is always room for some more.
            buffer.reserve(READ_BYTES_MAX);
            match net::recv(&socket.descriptor, spare_capacity(&mut buffer), RecvFlags::DONTWAIT) {
                Ok((_, 0)) => self.drop_connection(id, shard, now),
                Ok((_, read)) => {
                    // Only a session lives by talking; the other stages have their time and no more.
                    if socket.stage == Stage::Session {
                        socket.heard = ticks;
                    }
                    self.counters.reads += 1;
                    self.counters.read_bytes += read as u64;
                    self.take_in(id, &mut buffer, shard, now);
                }
                Err(Errno::AGAIN | Errno::INTR) => socket.unfinished = buffer.clone(),
                Err(_) => self.drop_connection(id, shard, now),
            }
        }
        self.buffer = buffer;
    }

    /// Makes what can be made of the bytes that a connection has sent, and keeps the rest.
    fn take_in(&mut self, id: ConnectionId, bytes: &mut [u8], shard: &mut Shard, now: Timestamp) {
        match self.socket(id).map(|socket| socket.stage) {
            Some(Stage::Opening) => self.judge(id, bytes, shard, now),
            Some(Stage::Session) => self.hear(id, bytes, shard, now),
            // What is said after the end is not looked at.
            Some(Stage::Closing | Stage::HangingUp | Stage::Refused) | None => {}
            Some(Stage::Refusing) => self.refuse_newcomer(id, bytes),
        }
    }

    fn hear(&mut self, id: ConnectionId, bytes: &mut [u8], shard: &mut Shard, now: Timestamp) {
        let Some(socket) = self.socket(id) else { return };
        let (mut assembly, format) = (std::mem::take(&mut socket.assembly), socket.format);
        let (taken, progress) = session::take_in(bytes, &mut assembly, id, format, shard, now);
        let Some(socket) = self.socket(id) else { return };
        socket.assembly = assembly;
        match progress {
            Progress::Hungry => socket.unfinished = bytes[taken..].to_vec(),
            Progress::Full => {
                socket.unfinished = bytes[taken..].to_vec();
                self.watch(id, Interest { reads: Some(false), writes: None });
            }
            Progress::Over => {}
        }
    }

    fn writable(&mut self, id: ConnectionId, shard: &mut Shard) {
        if self.socket(id).is_some() {
            self.watch(id, Interest { reads: None, writes: Some(false) });
            shard.writable(id, self);
        }
    }

    /// Changes what the epoll set reports of a connection.
    fn watch(&mut self, id: ConnectionId, interest: Interest) {
        let Some(socket) = self.socket(id) else { return };
        let (reads, writes) = (interest.reads.unwrap_or(socket.reads), interest.writes.unwrap_or(socket.writes));
        if (reads, writes) == (socket.reads, socket.writes) {
            return;
        }
        (socket.reads, socket.writes) = (reads, writes);
        let mut flags = EventFlags::empty();
        flags.set(EventFlags::IN, reads);
        flags.set(EventFlags::OUT, writes);
        let entry = &self.entries[id.slot as usize];
        if let Some(socket) = &entry.socket {
            let _ = epoll::modify(&self.epoll, &socket.descriptor, data_of(id), flags);
        }
    }

    fn enter(&mut self, id: ConnectionId, stage: Stage) {
        let ticks = self.ticks;
        if let Some(socket) = self.socket(id) {
            let left = std::mem::replace(&mut socket.stage, stage);
            socket.heard = ticks;
            socket.unfinished = Vec::new();
            socket.assembly = Assembly::default();
            self.counters.stages[left.counted()] -= 1;
            self.counters.stages[stage.counted()] += 1;
        }
        self.watch(id, Interest { reads: Some(true), writes: None });
    }

    /// Looks after one connection's deadlines.
    fn look_after(&mut self, id: ConnectionId, shard: &mut Shard, now: Timestamp) {
        let ticks = self.ticks;
        let Some(socket) = self.socket(id) else { return };
        if !socket.reads {
            // It is we who do not listen.
            socket.heard = ticks;
        }
        let silence = ticks.wrapping_sub(socket.heard);
        let allowed = match socket.stage {
            Stage::Opening => OPENING_TICKS_MAX,
            Stage::Session => SILENCE_TICKS_MAX,
            Stage::Closing => CLOSING_TICKS_MAX,
            Stage::HangingUp => HANGING_UP_TICKS_MAX,
            Stage::Refusing | Stage::Refused => REFUSING_TICKS_MAX,
        };
        if silence >= allowed {
            if socket.stage == Stage::Session {
                let reason = "i/o timeout: no sign of life for 25 s";
                shard.step(session::close(id, CloseCode::NORMAL, reason, CloseMode::AtOnce), now);
            } else {
                self.drop_connection(id, shard, now);
            }
        } else if socket.stage == Stage::Session && ticks.wrapping_sub(socket.pinged) >= PING_TICKS {
            socket.pinged = ticks;
            let mut frame = Vec::new();
            websocket::ping_frame(&mut frame, b"");
            shard.step(Input::Tell { connection: id, frame }, now);
        }
    }

    fn drop_the_gone(&mut self, shard: &mut Shard, now: Timestamp) {
        for id in std::mem::take(&mut self.gone) {
            self.drop_connection(id, shard, now);
        }
    }

    fn ids(&self, every: usize, from: usize) -> Vec<ConnectionId> {
        let entries = self.entries.iter().enumerate().skip(from).step_by(every);
        entries
            .filter(|(_, entry)| entry.socket.is_some())
            .map(|(slot, entry)| ConnectionId { slot: slot as u32, generation: entry.generation })
            .collect()
    }
}

/// What to change about a connection's place in the epoll set.
#[derive(Clone, Copy)]
struct Interest {
    reads: Option<bool>,
    writes: Option<bool>,
}

fn data_of(id: ConnectionId) -> EventData {
    EventData::new_u64(u64::from(id.generation) << 32 | u64::from(id.slot))
}

fn id_of(data: u64) -> ConnectionId {
    ConnectionId { slot: data as u32, generation: (data >> 32) as u32 }
}

fn send_flags() -> SendFlags {
    SendFlags::DONTWAIT | SendFlags::NOSIGNAL
}

impl Outlet for SocketTable {
    fn write(&mut self, slot: u32, pieces: &[&[u8]]) -> Result<usize, Gone> {
        let entry = &self.entries[slot as usize];
        let Some(socket) = &entry.socket else { return Err(Gone) };
        let offered: usize = pieces.iter().map(|piece| piece.len()).sum();
        let outcome = match pieces {
            [piece] => net::send(&socket.descriptor, piece, send_flags()),
            pieces => {
                let slices: Vec<IoSlice<'_>> = pieces.iter().map(|piece| IoSlice::new(piece)).collect();
                net::sendmsg(&socket.descriptor, &slices, &mut net::SendAncillaryBuffer::default(), send_flags())
            }
        };
        let id = ConnectionId { slot, generation: entry.generation };
        let written = match outcome {
            Ok(written) => written,
            Err(Errno::AGAIN | Errno::INTR) => 0,
            Err(_) => {
                self.gone.push(id);
                return Err(Gone);
            }
        };
        if written < offered {
            self.watch(id, Interest { reads: None, writes: Some(true) });
        }
        Ok(written)
    }
}

impl Sockets for SocketTable {
    fn gather(&mut self, shard: &mut Shard, now: Timestamp, reading: Reading) -> bool {
        self.drop_the_gone(shard, now);
        self.http.reap();
        self.departing.reap();
        self.take_returns(shard, now);
        while let Some(channel_query) = self.services.channel_queries().take() {
            shard.step(channel_query, now);
        }
        let mut events = std::mem::take(&mut self.events);
        events.clear();
        // Fails only when interrupted, which is as good as nothing.
        let _ = epoll::wait(&self.epoll, spare_capacity(&mut events), Some(&rustix::fs::Timespec::default()));
        for event in &events {
            let (data, flags) = (event.data.u64(), event.flags);
            if data == LISTENER {
                self.accept();
                continue;
            }
            let id = id_of(data);
            if flags.contains(EventFlags::OUT) {
                self.writable(id, shard);
            }
            let Some(socket) = self.socket(id) else { continue };
            if flags.contains(EventFlags::IN) && socket.reads {
                if reading == Reading::On || socket.stage != Stage::Session {
                    self.readable(id, shard, now);
                }
            } else if flags.intersects(EventFlags::HUP | EventFlags::ERR) {
                self.drop_connection(id, shard, now);
            }
        }
        let more = events.len() == EVENTS_MAX;
        self.events = events;
        more
    }

    fn carry_out(&mut self, effect: SocketEffect, shard: &mut Shard, now: Timestamp) {
        match effect {
            SocketEffect::Resume(id) => {
                let Some(socket) = self.socket(id) else { return };
                let mut kept = std::mem::take(&mut socket.unfinished);
                self.watch(id, Interest { reads: Some(true), writes: None });
                self.take_in(id, &mut kept, shard, now);
            }
            SocketEffect::Closing(id) => self.enter(id, Stage::Closing),
            SocketEffect::Finish(id) => {
                self.enter(id, Stage::HangingUp);
                if let Some(socket) = self.socket(id) {
                    let _ = net::shutdown(&socket.descriptor, Shutdown::Write);
                }
            }
        }
    }

    fn found(&mut self, number: u64, channel_answer: ChannelAnswer) {
        self.services.channel_queries().found(number, channel_answer);
    }

    fn tick(&mut self, shard: &mut Shard, now: Timestamp) {
        self.ticks = self.ticks.wrapping_add(1);
        let round = TICKS_PER_ROUND as usize;
        for id in self.ids(round, self.ticks as usize % round) {
            self.look_after(id, shard, now);
        }
        self.keep_spares();
        self.services.be_crowded(self.open + self.http.len() > self.capacity / 10 * 9);
        self.resume_accepting();
        if let Some(high_water) = &mut self.high_water
            && self.ticks.is_multiple_of(TICKS_PER_LOOK)
        {
            high_water.take_in(&shard.report().levels);
        }
    }

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<()> {
        let (channel_queries, returns) = (self.services.channel_queries(), self.services.returns());
        if !self.gone.is_empty()
            || channel_queries.poll_asked(context).is_ready()
            || returns.poll_put(context).is_ready()
        {
            return Poll::Ready(());
        }
        self.readiness.poll(&self.epoll, context)
    }

    fn stop(&mut self, shard: &mut Shard, now: Timestamp) {
        self.pause_accepting();
        self.listener = None;
        self.services.close_connections();
        for id in self.ids(1, 0) {
            match self.socket(id).map(|socket| socket.stage) {
                Some(Stage::Session) => {
                    let reason = "the server is stopping";
                    shard.step(session::close(id, CloseCode::GOING_AWAY, reason, CloseMode::AfterAnswers), now);
                }
                Some(Stage::Opening | Stage::Refusing) => self.drop_connection(id, shard, now),
                _ => {}
            }
        }
    }

    fn is_empty(&self) -> bool {
        self.open == 0 && self.http.len() == 0 && self.departing.len() == 0 && self.services.returns().is_empty()
    }

    fn counters(&self) -> SocketCounters {
        let mut counters = self.counters.clone();
        counters.stages[STAGES.len() - 1] = self.http.len() as u64;
        self.services.answered().add_to(&mut counters);
        counters
    }
}
