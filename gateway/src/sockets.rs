//! The connections of a shard: it accepts them, reads them into one buffer of the loop, and writes to them in slices.
//! This is the engine's `Outlet`.
//!
//! A connection owns a descriptor and an entry in the table. It owns a buffer only while a frame or the request head is
//! unfinished. A connection whose request is not a WebSocket opening goes to `http/` with its descriptor, and leaves
//! this table (`sockets/opening.rs`).

mod accept;
mod carried_over;
mod dismissing;
mod draining;
mod expiry;
mod fair_order;
mod introductions;
mod limits;
mod opening;
mod told;
mod transport;
mod unfinished_heads;
mod waiting_line;

pub use accept::{Listener, SPARES};
pub(crate) use opening::beyond_rate;
pub use unfinished_heads::HEADS_BYTES_MAX;

use std::collections::HashMap;
use std::io;
use std::net::IpAddr;
use std::os::fd::OwnedFd;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use engine::counters::{STAGES, SessionEnd, SocketCounters, Written};
use engine::fanout::frames::Format;
use engine::fanout::subscribers::{Gone, Outlet};
use engine::id::{ConnectionId, ShardId, Timestamp};
use engine::limits::ClientLimits;
use engine::query::QueryAnswer;
use engine::session::home::CloseMode;
use engine::shard::SocketEffect;
use engine::shard::{Input, Shard};
use engine::wire::websocket::{self, Assembly, CloseCode, UNFINISHED_BYTES_MAX};
use runtime::{Reading, Sockets};
use rustix::buffer::spare_capacity;
use rustix::event::epoll::{self, EventData, EventFlags};
use rustix::io::Errno;

use self::accept::{LISTENER_EVENTS, listener_data};
use self::fair_order::FairOrder;
use self::unfinished_heads::UnfinishedHeads;
use self::waiting_line::WaitingLine;
use crate::http::{self, Services};
use crate::http_tasks::HttpTasks;
use crate::listen_address::Protocol;
use crate::live::Live;
use crate::memory::{self, AnswerBytes, HighWater};
use crate::readiness::Readiness;
use crate::session::{self, Progress};
use crate::tls::{KernelTls, Received, SocketFault, TlsConnection};
use crate::trusted_proxies::TrustedProxies;
use crate::upgrade;

/// Bytes read from one connection at a time. While reading is paused, the table keeps no more than this of what the
/// client has sent.
const READ_BYTES_MAX: usize = 16 * 1024;

/// Events taken from the epoll set at a time, and connections accepted at a time.
const EVENTS_MAX: usize = 256;
/// The same while more sockets are ready than a turn has time for: so many are arranged, and those that a turn does not
/// get to are arranged again in the next one.
const CROWD_EVENTS_MAX: usize = 4096;

/// Bytes that the kernel may queue for a reader, without its bookkeeping. This is enough for a burst and for a pass
/// under full load. Without this bound the kernel would use megabytes for every reader that has stopped reading.
const SEND_BUFFER_BYTES: usize = 128 * 1024;

/// Ticks a second (`runtime::turn::TICK`).
const TICKS_PER_SECOND: u32 = 10;

/// The deadlines of every connection are checked once in so many ticks.
const TICKS_PER_ROUND: u32 = 10;
/// Ticks between two looks at the number of channels and members.
const TICKS_PER_LOOK: u32 = 10;

/// Time for a request head to arrive (docs/protocol.md, section 10).
const OPENING_TICKS_MAX: u32 = 10 * TICKS_PER_SECOND;

/// Silence after which a session gets a ping, and silence after which it is closed.
const PING_TICKS: u32 = 15 * TICKS_PER_SECOND;
const SILENCE_TICKS_MAX: u32 = 25 * TICKS_PER_SECOND;

/// Time for the client to read the close frame, and time for it to hang up.
const CLOSING_TICKS_MAX: u32 = 5 * TICKS_PER_SECOND;
const HANGING_UP_TICKS_MAX: u32 = 2 * TICKS_PER_SECOND;

/// Time for a refused client to send its request, and time for it to hang up. Only a few such clients are read at a
/// time.
const REFUSING_TICKS_MAX: u32 = TICKS_PER_SECOND;

/// The epoll data of the first listener; those of the others are below it. The epoll data of a connection is its id, and no
/// slot is so high.
const LISTENER: u64 = u64::MAX;

/// Sockets whose TLS handshake is not over and that are read in one turn. A step with a signature takes some 300 µs with an
/// ECDSA key, and a millisecond with an RSA key.
const HANDSHAKES_PER_TURN_MAX: usize = 16;

/// The connections of one shard.
pub struct SocketTable {
    epoll: OwnedFd,
    readiness: Readiness,
    /// Empty when the shard accepts no more.
    listeners: Vec<Listener>,
    /// Whether the listeners are in the epoll set.
    accepting: bool,
    /// Whether the shard is to stop, but still serves the clients that it has.
    draining: bool,
    /// Whether sessions end with their tokens.
    closes_on_expiry: bool,
    entries: Vec<Entry>,
    free: Vec<u32>,
    open: usize,
    /// Most connections at a time, including those of `http/`. The shard refuses more.
    capacity: usize,
    /// Descriptors kept back for connections that will be refused.
    spares: Vec<OwnedFd>,
    events: Vec<epoll::Event>,
    fair_order: FairOrder,
    buffer: Vec<u8>,
    heads: UnfinishedHeads,
    /// The proxies that are trusted now, as the newest connection found them.
    proxies: Arc<TrustedProxies>,
    trusted: Live<TrustedProxies>,
    limits: Option<Live<ClientLimits>>,
    /// The addresses of connections whose request is being read, as far as they were needed or a proxy has told them.
    addresses: HashMap<ConnectionId, IpAddr>,
    /// Connections that turned out to be dead when they were written to.
    gone: WaitingLine,
    /// Connections whose next requests may be read again.
    resumed: WaitingLine,
    /// Connections whose deadlines are to be checked now.
    unchecked: WaitingLine,
    ticks: u32,
    services: Rc<Services>,
    http: HttpTasks,
    /// The task that works on account deletions. It is not a connection, and it ends when the server stops.
    departing: HttpTasks,
    /// The tasks that let the store forget expired logouts and that record the time of the newest tokens. They end with
    /// the table.
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
    protocol: Protocol,
    /// The format of a session's envelopes, as its opening chose it.
    format: Format,
    /// What the epoll set reports about this socket: readable, writable.
    reads: bool,
    writes: bool,
    /// The tick of the session's last sign of life, or the tick at which the socket entered its stage. While the shard
    /// does not read the session, to take bytes that wait for it is the sign of life.
    heard: u32,
    pinged: u32,
    /// The second since the Unix epoch in which a session ends that ends with its token.
    expires: u32,
    /// The beginning of a request head or of a frame, or bytes that the shard does not take yet.
    unfinished: Vec<u8>,
    assembly: Assembly,
    /// What secures the connection, if it came to a listener with TLS.
    tls: Option<Box<TlsConnection>>,
    /// Whether the kernel secures it instead.
    kernel_tls: KernelTls,
}

const _: () = assert!(size_of::<Entry>() <= 72);

// All memory that an idle connection that has joined a channel owns in this process. This includes its entry in the
// table, which grows by doubling, and its place in the list of free entries.
const _: () = assert!(2 * size_of::<Entry>() + 2 * size_of::<u32>() + engine::footprint::CONNECTION_BYTES <= 1024);

/// In the order of `STAGES`. The last of `STAGES` counts the connections of `http/`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Stage {
    /// The request head is being read.
    Opening,
    Session,
    /// A session whose close frame is being sent.
    Closing,
    /// Everything has been sent; the client may hang up.
    HangingUp,
    /// Beyond the capacity: the shard reads the client's request, and then refuses it.
    Refusing,
    /// The refusal has been sent.
    Refused,
    /// A trusted proxy is to say whose connection this is.
    Introducing,
    /// The opening was accepted only to tell a page why there is no session. The client may hang up.
    Dismissed,
}

impl Stage {
    /// The index in `STAGES` under which this stage is counted.
    fn counted(self) -> usize {
        match self {
            Self::Refused => Self::Refusing as usize,
            Self::Introducing => Self::Opening as usize,
            Self::Dismissed => Self::HangingUp as usize,
            stage => stage as usize,
        }
    }
}

const _: () = assert!(Stage::Refusing as usize + 2 == STAGES.len());

impl SocketTable {
    /// The table of a shard that accepts on these listeners. Fails if the kernel gives no epoll set.
    pub fn new(listeners: Vec<Listener>, capacity: usize, services: Rc<Services>) -> io::Result<Self> {
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
        for (number, listener) in listeners.iter().enumerate() {
            epoll::add(&epoll, &listener.socket, listener_data(number), LISTENER_EVENTS)?;
        }
        let mut table = Self {
            epoll,
            readiness: Readiness::default(),
            listeners,
            accepting: true,
            draining: false,
            closes_on_expiry: false,
            entries: Vec::new(),
            free: Vec::new(),
            open: 0,
            capacity,
            spares: Vec::with_capacity(accept::SPARES),
            events: Vec::with_capacity(EVENTS_MAX),
            fair_order: FairOrder::default(),
            buffer: Vec::with_capacity(upgrade::HEAD_BYTES_MAX + 2 * READ_BYTES_MAX),
            heads: UnfinishedHeads::new(HEADS_BYTES_MAX),
            proxies: Arc::default(),
            trusted: Live::default(),
            limits: None,
            addresses: HashMap::new(),
            gone: WaitingLine::default(),
            resumed: WaitingLine::default(),
            unchecked: WaitingLine::default(),
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

    /// Starts the task that works on account deletions on this shard. Call it in the shard's executor.
    pub fn delete_accounts(&mut self) {
        self.departing.spawn(http::run_account_deletions(self.services.clone()));
    }

    /// From now on, memory is given back to the system when most of this shard's channels and members are gone.
    pub fn give_memory_back(&mut self, signal: memory::ReturnSignal) {
        self.high_water = Some(HighWater::new(signal));
    }

    /// Starts the tasks that let the store forget expired logouts and that tell the store when the newest tokens were
    /// issued. Call it for one shard only, in that shard's executor.
    pub fn keep_logouts(&mut self) {
        self.logouts.spawn(http::run_forgetting(self.services.clone()));
        self.logouts.spawn(http::run_marking(self.services.clone()));
    }

    /// Starts the task that erases users for operators. Call it for one shard only, in that shard's executor.
    pub fn erase_users(&mut self, asked: flume::Receiver<http::Erasure>) {
        self.logouts.spawn(http::run_erasing(self.services.clone(), asked));
    }

    /// Starts the task that answers operators about this shard.
    pub fn inspect(&mut self, shard: ShardId, questions: flume::Receiver<http::Inspect>) {
        self.logouts.spawn(http::run_inspecting(self.services.clone(), shard, questions));
    }

    /// Gives a connection an entry in the table and adds it to the epoll set.
    fn seat(
        &mut self,
        descriptor: OwnedFd,
        tls: Option<Box<TlsConnection>>,
        stage: Stage,
        protocol: Protocol,
    ) -> Option<ConnectionId> {
        let slot = self.free.pop().unwrap_or_else(|| {
            self.entries.push(Entry { generation: 0, socket: None });
            (self.entries.len() - 1) as u32
        });
        let Entry { generation, socket } = &self.entries[slot as usize];
        assert!(socket.is_none(), "entry {slot} is free");
        let id = ConnectionId { slot, generation: *generation };
        if epoll::add(&self.epoll, &descriptor, data_of(id), EventFlags::IN).is_err() {
            self.free.push(slot);
            return None;
        }
        self.open += 1;
        debug_assert_eq!(self.open, self.entries.len() - self.free.len(), "an entry is free or has a connection");
        self.counters.stages[stage.counted()] += 1;
        self.entries[slot as usize].socket = Some(Socket {
            descriptor,
            stage,
            protocol,
            format: Format::Json,
            reads: true,
            writes: false,
            heard: self.ticks,
            pinged: self.ticks,
            expires: expiry::NEVER,
            unfinished: Vec::new(),
            assembly: Assembly::default(),
            tls,
            kernel_tls: KernelTls::default(),
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
        self.heads.leave(id);
        self.addresses.remove(&id);
        let entry = &mut self.entries[id.slot as usize];
        entry.generation = entry.generation.wrapping_add(1);
        self.free.push(id.slot);
        self.open -= 1;
        let socket = entry.socket.take()?;
        self.counters.stages[socket.stage.counted()] -= 1;
        debug_assert_eq!(self.open, self.entries.len() - self.free.len(), "an entry is free or has a connection");
        Some(socket)
    }

    /// Drops a connection that is dead or has passed its deadline, in one of the next turns if as many have ended in this
    /// one as may.
    fn drop_connection(&mut self, id: ConnectionId, shard: &mut Shard, now: Timestamp) {
        if shard.has_ended_enough()
            && let Some(entry) = self.entries.get_mut(id.slot as usize)
            && let Some(socket) = entry.socket.as_mut().filter(|_| entry.generation == id.generation)
        {
            // Its end would be reported again and again.
            socket.reads = false;
            let _ = epoll::delete(&self.epoll, &socket.descriptor);
            return self.gone.put(id);
        }
        if let Some(socket) = self.remove(id)
            && matches!(socket.stage, Stage::Session | Stage::Closing | Stage::HangingUp)
        {
            shard.step(Input::Closed { connection: id }, now);
        }
    }

    /// The client sends nothing more. If it is owed answers it gets them, and then a close frame.
    fn half_closed(&mut self, id: ConnectionId, shard: &mut Shard, now: Timestamp) {
        let in_session = self.socket(id).is_some_and(|socket| socket.stage == Stage::Session);
        if !in_session || !shard.owes(id) {
            return self.drop_connection(id, shard, now);
        }
        // The end would be reported again and again.
        self.watch(id, Interest { reads: Some(false), writes: None });
        let reason = "the client has closed its half of the connection";
        let end = SessionEnd::Gone;
        shard.step(session::close(id, CloseCode::NORMAL, reason, CloseMode::AfterAnswers, end), now);
    }

    fn readable(&mut self, id: ConnectionId, shard: &mut Shard, now: Timestamp) {
        let mut buffer = std::mem::take(&mut self.buffer);
        buffer.clear();
        let ticks = self.ticks;
        if let Some(socket) = self.socket(id) {
            let kept = socket.unfinished.len();
            buffer.append(&mut socket.unfinished);
            let received = socket.receive(&mut buffer);
            let has_unsent = socket.has_unsent();
            match received {
                Ok(Received::Last(0)) => self.half_closed(id, shard, now),
                Ok(Received::Bytes(0)) => {
                    socket.unfinished = buffer.clone();
                    self.heard_no_content(id, shard);
                }
                Ok(received @ (Received::Bytes(read) | Received::Last(read))) => {
                    // Only in a session do new bytes extend the deadline. Each other stage has a fixed time.
                    if socket.stage == Stage::Session {
                        socket.heard = ticks;
                    }
                    self.counters.reads += 1;
                    self.counters.read_bytes += read as u64;
                    self.take_in(id, &mut buffer, kept, shard, now);
                    if matches!(received, Received::Last(_)) {
                        self.half_closed(id, shard, now);
                    }
                }
                Err(SocketFault::Socket(Errno::AGAIN | Errno::INTR)) => socket.unfinished = buffer.clone(),
                Err(SocketFault::Socket(_)) => self.drop_connection(id, shard, now),
                Err(SocketFault::Tls(fault)) => self.broke_tls(id, &fault, shard, now),
            }
            if has_unsent {
                self.watch(id, Interest { reads: None, writes: Some(true) });
            }
        }
        self.buffer = buffer;
    }

    /// Processes the bytes that a connection has sent as far as possible, and keeps the rest. The first `kept` of them
    /// were looked at before.
    fn take_in(&mut self, id: ConnectionId, bytes: &mut [u8], kept: usize, shard: &mut Shard, now: Timestamp) {
        match self.socket(id).map(|socket| socket.stage) {
            Some(Stage::Introducing) => self.be_introduced(id, bytes, shard, now),
            Some(Stage::Opening) => self.judge(id, bytes, kept, shard, now),
            Some(Stage::Session) => self.hear(id, bytes, shard, now),
            // Bytes after the close frame or after the refusal are ignored.
            Some(Stage::Closing | Stage::HangingUp | Stage::Refused | Stage::Dismissed) | None => {}
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
            Progress::Hungry => {
                let rest = &bytes[taken..];
                debug_assert!(rest.len() <= UNFINISHED_BYTES_MAX, "{} bytes of a frame are unfinished", rest.len());
                socket.unfinished = rest.to_vec();
            }
            Progress::Full => {
                socket.unfinished = bytes[taken..].to_vec();
                self.watch(id, Interest { reads: Some(false), writes: None });
            }
            Progress::Over => {}
        }
    }

    fn writable(&mut self, id: ConnectionId, shard: &mut Shard) {
        let Some(socket) = self.socket(id) else { return };
        match socket.flush() {
            // The next read finds the socket dead.
            Ok(true) | Err(_) => {}
            Ok(false) => return,
        }
        if socket.stage == Stage::HangingUp {
            socket.shut_down();
        }
        self.watch(id, Interest { reads: None, writes: Some(false) });
        shard.writable(id, self);
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
            debug_assert!(stage != Stage::Closing || left == Stage::Session, "{left:?} becomes {stage:?}");
            debug_assert!(stage != Stage::Refused || left == Stage::Refusing, "{left:?} becomes {stage:?}");
            socket.heard = ticks;
            socket.unfinished = Vec::new();
            socket.assembly = Assembly::default();
            self.counters.stages[left.counted()] -= 1;
            self.counters.stages[stage.counted()] += 1;
        }
        self.watch(id, Interest { reads: Some(true), writes: None });
    }

    /// Checks the deadlines of one connection.
    fn look_after(&mut self, id: ConnectionId, shard: &mut Shard, now: Timestamp) {
        let ticks = self.ticks;
        let Some(socket) = self.socket(id) else { return };
        let must_take_bytes = socket.stage == Stage::Session && socket.writes;
        if !socket.reads && !must_take_bytes {
            // The shard has paused reading, so the client's silence does not count.
            socket.heard = ticks;
        }
        let silence = ticks.wrapping_sub(socket.heard);
        let allowed = match socket.stage {
            Stage::Introducing | Stage::Opening => OPENING_TICKS_MAX,
            Stage::Session => SILENCE_TICKS_MAX,
            Stage::Closing => CLOSING_TICKS_MAX,
            Stage::HangingUp | Stage::Dismissed => HANGING_UP_TICKS_MAX,
            Stage::Refusing | Stage::Refused => REFUSING_TICKS_MAX,
        };
        if silence >= allowed {
            if socket.stage == Stage::Session {
                let reason = if socket.reads {
                    "i/o timeout: no sign of life for 25 s"
                } else {
                    "i/o timeout: nothing read for 25 s"
                };
                let end = SessionEnd::Silent;
                shard.step(session::close(id, CloseCode::NORMAL, reason, CloseMode::AtOnce, end), now);
            } else {
                self.drop_connection(id, shard, now);
            }
        } else if socket.stage == Stage::Session {
            let (expires, pinged) = (socket.expires, socket.pinged);
            if self.close_expired(id, expires, shard, now) || ticks.wrapping_sub(pinged) < PING_TICKS {
                return;
            }
            let Some(socket) = self.socket(id) else { return };
            socket.pinged = ticks;
            let mut frame = Vec::new();
            websocket::ping_frame(&mut frame, b"");
            shard.step(Input::Tell { connection: id, frame }, now);
        }
    }

    /// Checks deadlines, until as many connections have ended as may in this turn.
    fn check_deadlines(&mut self, shard: &mut Shard, now: Timestamp) {
        while !shard.has_ended_enough()
            && let Some(id) = self.unchecked.take()
        {
            self.look_after(id, shard, now);
        }
    }

    /// Asserts that the counts agree with the table. Looks at every entry.
    fn invariants(&self) {
        let open = self.entries.iter().filter(|entry| entry.socket.is_some()).count();
        assert_eq!((self.open, self.entries.len() - self.free.len()), (open, open), "connections in the table");
        let staged: u64 = self.counters.stages.iter().sum();
        assert_eq!(staged, open as u64, "each connection is in one stage");
        assert!(self.spares.len() + self.refusals() <= SPARES, "descriptors that are kept back");
        self.heads.invariants();
    }

    fn ids(&self, every: usize, from: usize) -> Vec<ConnectionId> {
        let entries = self.entries.iter().enumerate().skip(from).step_by(every);
        entries
            .filter(|(_, entry)| entry.socket.is_some())
            .map(|(slot, entry)| ConnectionId { slot: slot as u32, generation: entry.generation })
            .collect()
    }
}

/// What to change in a connection's epoll registration. `None` changes nothing.
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

impl Outlet for SocketTable {
    fn write(&mut self, slot: u32, pieces: &[&[u8]]) -> Result<usize, Gone> {
        let entry = &mut self.entries[slot as usize];
        let Some(socket) = &mut entry.socket else { return Err(Gone) };
        debug_assert!(matches!(socket.stage, Stage::Session | Stage::Closing), "written to in {:?}", socket.stage);
        let offered: usize = pieces.iter().map(|piece| piece.len()).sum();
        let id = ConnectionId { slot, generation: entry.generation };
        let Ok(written) = socket.send(pieces) else {
            self.gone.put(id);
            return Err(Gone);
        };
        debug_assert!(written <= offered, "the socket took {written} of {offered} bytes");
        self.counters.written.add(written);
        if written > 0 && !socket.reads {
            socket.heard = self.ticks;
        }
        if written < offered || socket.has_unsent() {
            self.watch(id, Interest { reads: None, writes: Some(true) });
        }
        Ok(written)
    }

    fn wait(&mut self, slot: u32) {
        let id = ConnectionId { slot, generation: self.entries[slot as usize].generation };
        self.watch(id, Interest { reads: None, writes: Some(true) });
    }
}

impl Sockets for SocketTable {
    fn gather(&mut self, shard: &mut Shard, now: Timestamp, reading: Reading) -> bool {
        let requests_wait = self.services.request_turns().begin_turn();
        self.http.time().begin_turn();
        self.drop_the_gone(shard, now);
        self.check_deadlines(shard, now);
        self.http.reap();
        self.departing.reap();
        self.take_returns(shard, now);
        if reading == Reading::On {
            self.read_again(shard, now);
        }
        while let Some(channel_query) = self.services.channel_queries().take() {
            shard.step(channel_query, now);
        }
        let is_crowded = self.fair_order.is_crowded();
        let mut events =
            if is_crowded { Vec::with_capacity(CROWD_EVENTS_MAX) } else { std::mem::take(&mut self.events) };
        events.clear();
        // This fails only when a signal interrupts it, and then there are no events.
        let _ = epoll::wait(&self.epoll, spare_capacity(&mut events), Some(&rustix::fs::Timespec::default()));
        if is_crowded {
            self.fair_order.arrange(&mut events, |event| shard.payer(id_of(event.data.u64())));
        }
        let (mut looked_at, mut handshakes) = (0, 0);
        for event in &events {
            // What the other sockets have is reported again in the next turn.
            if shard.has_worked_enough() {
                break;
            }
            looked_at += 1;
            let (data, flags) = (event.data.u64(), event.flags);
            if let Some(number) = self.listener_of(data) {
                self.accept(number);
                continue;
            }
            let id = id_of(data);
            let before = is_crowded.then(|| (shard.payer(id), shard.worked()));
            if flags.contains(EventFlags::OUT) {
                self.writable(id, shard);
            }
            if self.socket(id).is_some_and(|socket| socket.has_handshake_ahead()) {
                handshakes += 1;
                if handshakes > HANDSHAKES_PER_TURN_MAX {
                    self.counters.tls_put_off += 1;
                    continue;
                }
                if !self.affords_handshake(id) {
                    self.refuse_handshake(id, shard, now);
                    continue;
                }
            }
            let Some(socket) = self.socket(id) else { continue };
            if flags.contains(EventFlags::IN) && socket.reads {
                if reading == Reading::On || socket.stage != Stage::Session {
                    self.readable(id, shard, now);
                }
            } else if flags.intersects(EventFlags::HUP | EventFlags::ERR) {
                self.drop_connection(id, shard, now);
            }
            if let Some((payer, worked)) = before {
                self.fair_order.count(payer, shard.worked().without(worked));
            }
        }
        // A full list is the beginning of a crowd. Those at its end would be seen many turns later.
        self.fair_order.end_turn(looked_at < events.len() || events.len() >= EVENTS_MAX);
        let waits = !self.gone.is_empty() || !self.resumed.is_empty();
        let more = requests_wait || events.len() >= EVENTS_MAX || looked_at < events.len() || waits;
        if !is_crowded {
            self.events = events;
        }
        more
    }

    fn carry_out(&mut self, effect: SocketEffect, shard: &mut Shard) {
        match effect {
            SocketEffect::Resume(id) => self.resumed.put(id),
            SocketEffect::Closing(id) => {
                if shard.is_too_slow(id) {
                    Self::tell_of_slow_reader(id, shard);
                }
                self.enter(id, Stage::Closing);
            }
            SocketEffect::TooFast(id, limit) => Self::tell_of_limit(id, limit, shard),
            SocketEffect::Finish(id) => {
                self.enter(id, Stage::HangingUp);
                if let Some(socket) = self.socket(id)
                    && !socket.hang_up()
                {
                    self.watch(id, Interest { reads: None, writes: Some(true) });
                }
            }
        }
    }

    fn found(&mut self, number: u64, answer: QueryAnswer) {
        self.services.channel_queries().found(number, answer);
    }

    fn tick(&mut self, shard: &mut Shard, now: Timestamp) {
        self.ticks = self.ticks.wrapping_add(1);
        let round = TICKS_PER_ROUND as usize;
        for id in self.ids(round, self.ticks as usize % round) {
            self.unchecked.put(id);
        }
        self.check_deadlines(shard, now);
        self.keep_spares();
        self.take_up_limits(shard);
        if cfg!(debug_assertions) {
            self.invariants();
        }
        let connections = self.open + self.http.len();
        self.tell_health();
        self.services.be_crowded(connections > self.capacity / 10 * 9);
        self.resume_accepting();
        if let Some(high_water) = &mut self.high_water
            && self.ticks.is_multiple_of(TICKS_PER_LOOK)
        {
            let writes = self.services.own_store().waiting_write_bytes();
            let [most, now] = [self.services.take_most_answer_bytes(), self.services.answer_bytes()];
            let [most, now] = [most + writes, now + writes];
            high_water.take_in(&shard.report().levels, AnswerBytes { most, now }, self.http.len());
        }
    }

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<()> {
        let (channel_queries, returns) = (self.services.channel_queries(), self.services.returns());
        let request_turns = self.services.request_turns();
        if !self.gone.is_empty()
            || channel_queries.poll_asked(context).is_ready()
            || returns.poll_put(context).is_ready()
            || request_turns.poll_waiting(context).is_ready()
            || self.http.time().poll_waiting(context).is_ready()
        {
            return Poll::Ready(());
        }
        self.readiness.poll(&self.epoll, context)
    }

    fn drain(&mut self, shard: &mut Shard, now: Timestamp, time: Duration) {
        self.begin_drain(shard, now, time);
    }

    fn stop(&mut self, shard: &mut Shard, now: Timestamp) {
        self.close_listener();
        self.draining = false;
        self.services.close_connections();
        for id in self.ids(1, 0) {
            match self.socket(id).map(|socket| socket.stage) {
                Some(Stage::Session) => {
                    let reason = "the server is stopping";
                    let (mode, end) = (CloseMode::AfterAnswers, SessionEnd::Stopped);
                    shard.step(session::close(id, CloseCode::GOING_AWAY, reason, mode, end), now);
                }
                Some(Stage::Introducing | Stage::Opening | Stage::Refusing) => self.drop_connection(id, shard, now),
                _ => {}
            }
        }
    }

    fn is_empty(&self) -> bool {
        self.open == 0 && self.http.len() == 0 && self.departing.len() == 0 && self.services.returns().is_empty()
    }

    fn written(&self) -> Written {
        self.counters.written
    }

    fn counters(&self) -> SocketCounters {
        let mut counters = self.counters.clone();
        counters.stages[STAGES.len() - 1] = self.http.len() as u64;
        self.services.add_to(&mut counters);
        counters
    }
}
