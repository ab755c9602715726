//! The bridge: runs a store's blocking calls on their own threads, behind bounded queues.
//!
//! One committer takes all waiting writes from every shard and from the HTTP handlers, and commits them as one group.
//! While it syncs, the next group gathers, so groups grow under load, and a single write does not wait. A few readers
//! answer pages and look-ups meanwhile. No caller waits for room in a queue: a full queue refuses at once. No caller
//! waits for a reader longer than `ANSWER_DURATION_MAX`, or for one commit. The users that ask share the queues (`reads.rs`, `writes.rs`).
//!
//! A disk that does not answer is bounded in time too: see `stall.rs`.
//!
//! A store that fails for good is never called again: every request is answered with its failure, and `Bridge::fatal`
//! tells the process, which should stop.

mod askers;
mod client;
mod client_counts;
mod committer;
mod ends;
mod reads;
mod stall;
mod waiting;
mod write_bytes;
mod writes;

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use engine::limits::STORE_REQUESTS_MAX;
use parking_lot::RwLock;

pub use client::Client;
pub use committer::look_up;
pub use ends::{NotTaken, StoreQueue, StoreQueueServer, store_queue};
pub use reads::RequestedBy;

use crate::{ANSWER_DURATION_MAX, Failure, Store};
use client_counts::ClientCounts;
use committer::Committer;
use reads::{ReadQueue, UNTAKEN_MAX};
use stall::{CommitUnderWay, StallWatch, StallWatchEnd};
use waiting::{QuerySender, Waiting};
use writes::{WriteQueue, write_queue};

/// Writes in one group, so that no write waits more than a few milliseconds for the others.
const GROUP_WRITES_MAX: usize = 1024;
/// Bytes in one group, for the same reason; one more write may exceed it.
const GROUP_BYTES_MAX: usize = 1 << 20;
/// Requests of one shard in flight: as many as a shard ever sends, so that the shard refuses by its own rules and never
/// because of this bound.
const IN_FLIGHT_PER_SHARD_MAX: usize = STORE_REQUESTS_MAX;
/// Writes of HTTP handlers that may wait: one group.
const CLIENT_WRITES_MAX: usize = GROUP_WRITES_MAX;

/// How often a stop looks whether the committer has ended.
const END_LOOK_INTERVAL: Duration = Duration::from_millis(50);

/// A query to the store; it sends its own answer.
type Read = Box<dyn FnOnce(&dyn Store) + Send>;

/// The storage threads of a process.
pub struct Bridge {
    store: Arc<dyn Store>,
    line: Arc<Line>,
    bell: flume::Sender<()>,
    writes: WriteQueue,
    reads: Arc<ReadQueue>,
    queries: QuerySender,
    waiting: Arc<Waiting>,
    fatal: flume::Receiver<Failure>,
    committer: Option<JoinHandle<()>>,
    /// Disconnected when the committer has ended.
    committer_ended: flume::Receiver<()>,
    readers: Vec<JoinHandle<()>>,
    watchers: Vec<JoinHandle<()>>,
    stall_watch_end: Arc<StallWatchEnd>,
    client_counts: Arc<ClientCounts>,
}

impl Bridge {
    /// Starts the threads, and returns one queue for each of `shards` shards.
    pub fn start(store: Arc<dyn Store>, shards: usize) -> Result<(Self, Vec<StoreQueue>), Failure> {
        Self::start_with(store, shards, ANSWER_DURATION_MAX)
    }

    /// Like `start`, with `patience` as the longest time that a query may wait for its answer, and a write for the commit of
    /// its group.
    pub fn start_with(
        store: Arc<dyn Store>,
        shards: usize,
        patience: Duration,
    ) -> Result<(Self, Vec<StoreQueue>), Failure> {
        let (bell, bell_heard) = flume::bounded(1);
        let (writes, writes_out) = write_queue(CLIENT_WRITES_MAX);
        let reads = Arc::new(ReadQueue::new(shards * IN_FLIGHT_PER_SHARD_MAX, shards.max(1) * UNTAKEN_MAX));
        let (fatal_in, fatal) = flume::bounded(1);
        let line = Arc::new(Line::new(fatal_in));
        let (near, far): (_, Vec<_>) = (0..shards).map(|_| store_queue(IN_FLIGHT_PER_SHARD_MAX, bell.clone())).unzip();
        let far = Arc::new(far);

        let waiting = Arc::new(Waiting::default());
        let queries = QuerySender::new(line.clone(), reads.clone(), waiting.clone(), patience);
        let (ended, committer_ended) = flume::bounded(0);
        let mut bridge = Self {
            store,
            line,
            bell,
            writes,
            reads,
            queries,
            waiting,
            fatal,
            committer: None,
            committer_ended,
            readers: Vec::new(),
            watchers: Vec::new(),
            stall_watch_end: Arc::default(),
            client_counts: Arc::default(),
        };
        let (line, waiting) = (bridge.line.clone(), bridge.waiting.clone());
        bridge.watchers.push(spawn("store-watch", move || {
            let _watch = Watch(line);
            waiting.watch();
        })?);
        let shards = Arc::downgrade(&far);
        let stalls = StallWatch { line: bridge.line.clone(), shards, writes: bridge.writes.clone(), patience };
        let (line, end) = (bridge.line.clone(), bridge.stall_watch_end.clone());
        bridge.watchers.push(spawn("store-stall", move || {
            let _watch = Watch(line);
            stalls.run(&end);
        })?);
        for number in 0..bridge.store.readers() {
            let (store, line, reads) = (bridge.store.clone(), bridge.line.clone(), bridge.reads.clone());
            let reader = spawn(&format!("store-read-{number}"), move || answer_reads(&*store, &line, &reads))?;
            bridge.readers.push(reader);
        }
        let committer = Committer::new(
            bridge.store.clone(),
            bridge.line.clone(),
            bell_heard,
            far,
            writes_out,
            bridge.queries.clone(),
        );
        bridge.committer = Some(spawn("store-commit", move || {
            let _ended = ended;
            committer.run();
        })?);
        Ok((bridge, near))
    }

    /// A client for HTTP handlers, usable on any thread.
    pub fn client(&self) -> Client {
        let (store, counts) = (Arc::downgrade(&self.store), self.client_counts.clone());
        Client::new(self.line.clone(), self.bell.clone(), self.writes.clone(), self.queries.clone(), store, counts)
    }

    /// Receives one failure, if the store ever fails for good: the process should then stop.
    pub fn fatal(&self) -> flume::Receiver<Failure> {
        self.fatal.clone()
    }

    /// Takes nothing new from clients, answers everything that was taken, and closes the store. Fails if the disk does not
    /// answer: then a thread is left that waits for it, and the process should end.
    ///
    /// The shards should have ended before. A shard that has not gets `NotTaken::Gone`.
    pub fn stop(mut self) -> Result<(), Failure> {
        self.end_threads()?;
        self.line.check()?;
        self.close_in_time()
    }

    /// Closes the store, on a thread of its own: its last sync may meet a disk that does not answer.
    fn close_in_time(&self) -> Result<(), Failure> {
        let (store, (told, heard)) = (self.store.clone(), flume::bounded(1));
        let closing = spawn("store-close", move || drop(told.send(store.close())))?;
        match heard.recv_timeout(ANSWER_DURATION_MAX) {
            Ok(closed) => {
                let _ = closing.join();
                closed
            }
            Err(_) => Err(Failure::Final(
                "the disk does not answer to the last sync; everything acknowledged is on it".into(),
            )),
        }
    }

    fn end_threads(&mut self) -> Result<(), Failure> {
        self.line.close();
        // The bell may already be full. In either case the committer wakes once more and sees the closed line.
        let _ = self.bell.try_send(());
        let stalled = self.committer.take().is_some_and(|committer| !self.has_joined(committer));
        // The readers answer what waits before they end, including what the committer passed on.
        self.reads.end();
        for reader in self.readers.drain(..).filter(|_| !stalled) {
            let _ = reader.join();
        }
        self.reads.clear();
        self.waiting.end();
        self.stall_watch_end.end();
        for watcher in self.watchers.drain(..) {
            let _ = watcher.join();
        }
        if !stalled {
            return Ok(());
        }
        Err(Failure::Broken("the disk does not answer: the writes of the last commit may be stored or not".into()))
    }

    /// Waits for the committer's end, but not for a disk that does not answer.
    fn has_joined(&self, committer: JoinHandle<()>) -> bool {
        while let Err(flume::RecvTimeoutError::Timeout) = self.committer_ended.recv_timeout(END_LOOK_INTERVAL) {
            if self.line.commit.has_stalled() {
                return false;
            }
        }
        let _ = committer.join();
        true
    }
}

impl Drop for Bridge {
    fn drop(&mut self) {
        let _ = self.end_threads();
    }
}

fn answer_reads(store: &dyn Store, line: &Arc<Line>, reads: &ReadQueue) {
    let _watch = Watch(line.clone());
    while let Some(read) = reads.take() {
        read(store);
    }
}

fn spawn(name: &str, body: impl FnOnce() + Send + 'static) -> Result<JoinHandle<()>, Failure> {
    let thread = thread::Builder::new().name(name.into()).spawn(body);
    thread.map_err(|error| Failure::Final(format!("starting a storage thread failed: {error}")))
}

/// Whether the bridge takes requests and whether the store works.
struct Line {
    open: RwLock<bool>,
    closing: AtomicBool,
    failed: OnceLock<Failure>,
    fatal: flume::Sender<Failure>,
    commit: CommitUnderWay,
}

impl Line {
    fn new(fatal: flume::Sender<Failure>) -> Self {
        let (open, closing, failed) = (RwLock::new(true), AtomicBool::new(false), OnceLock::new());
        Self { open, closing, failed, fatal, commit: CommitUnderWay::default() }
    }

    /// Why a write that is sent now will not be answered soon; `None` if it will be.
    fn unready(&self) -> Option<String> {
        if let Err(failure) = self.check() {
            return Some(failure.to_string());
        }
        self.commit.unready()
    }

    /// Runs `send` only while the bridge takes requests. Once `close` has returned, no `send` is running, so a thread
    /// that then finds the queues empty has seen every request.
    fn while_open<T>(&self, send: impl FnOnce() -> Result<T, Failure>) -> Result<T, Failure> {
        self.check()?;
        let open = self.open.read();
        if *open { send() } else { Err(Failure::Passing("the server is stopping".into())) }
    }

    fn close(&self) {
        *self.open.write() = false;
        self.closing.store(true, Ordering::Release);
    }

    fn is_closing(&self) -> bool {
        self.closing.load(Ordering::Acquire)
    }

    /// Returns the failure that ended the store, if there is one.
    fn check(&self) -> Result<(), Failure> {
        self.failed.get().map_or(Ok(()), |failure| Err(failure.clone()))
    }

    /// Remembers the first failure that ends the store, and reports it to the process.
    fn note(&self, failure: &Failure) {
        if let Some(last_word) = failure.last_word()
            && self.failed.set(last_word).is_ok()
        {
            let _ = self.fatal.try_send(failure.clone());
        }
    }
}

/// Notes a final failure when its storage thread panics.
struct Watch(Arc<Line>);

impl Drop for Watch {
    fn drop(&mut self) {
        if thread::panicking() {
            self.0.note(&Failure::Final("a storage thread panicked".into()));
        }
    }
}
