//! The bridge: runs a store's blocking calls on their own threads, behind bounded queues.
//!
//! One committer takes all waiting writes from every shard and from the HTTP handlers, and commits them as one group.
//! While it syncs, the next group gathers, so groups grow under load, and a single write does not wait. A few readers
//! answer pages and look-ups meanwhile. No caller waits for room in a queue: a full queue refuses at once. No caller
//! waits for a reader longer than `ANSWER_DURATION_MAX`. The users that ask share the queues (`reads.rs`, `writes.rs`).
//!
//! A store that fails for good is never called again: every request is answered with its failure, and `Bridge::fatal`
//! tells the process, which should stop.

mod client;
mod committer;
mod ends;
mod reads;
mod waiting;
mod writes;

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use engine::limits::STORE_REQUESTS_MAX;
use parking_lot::{Mutex, RwLock};

pub use client::Client;
pub use committer::look_up;
pub use ends::{NotTaken, StoreQueue, StoreQueueServer, store_queue};

use crate::{ANSWER_DURATION_MAX, Failure, Store};
use committer::Committer;
use reads::ReadQueue;
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
    readers: Vec<JoinHandle<()>>,
    watcher: Option<JoinHandle<()>>,
}

impl Bridge {
    /// Starts the threads, and returns one queue for each of `shards` shards.
    pub fn start(store: Arc<dyn Store>, shards: usize) -> Result<(Self, Vec<StoreQueue>), Failure> {
        Self::start_with(store, shards, ANSWER_DURATION_MAX)
    }

    /// Like `start`, with `patience` as the longest time that a query may wait for its answer.
    pub fn start_with(
        store: Arc<dyn Store>,
        shards: usize,
        patience: Duration,
    ) -> Result<(Self, Vec<StoreQueue>), Failure> {
        let (bell, bell_heard) = flume::bounded(1);
        let (writes, writes_out) = write_queue(CLIENT_WRITES_MAX);
        let reads = Arc::new(ReadQueue::new(shards * IN_FLIGHT_PER_SHARD_MAX));
        let (fatal_in, fatal) = flume::bounded(1);
        let line = Arc::new(Line::new(fatal_in));
        let (near, far) = (0..shards).map(|_| store_queue(IN_FLIGHT_PER_SHARD_MAX, bell.clone())).unzip();

        let waiting = Arc::new(Waiting::default());
        let queries = QuerySender::new(line.clone(), reads.clone(), waiting.clone(), patience);
        let (committer, readers, watcher) = (None, Vec::new(), None);
        let mut bridge =
            Self { store, line, bell, writes, reads, queries, waiting, fatal, committer, readers, watcher };
        let (line, waiting) = (bridge.line.clone(), bridge.waiting.clone());
        bridge.watcher = Some(spawn("store-watch", move || {
            let _watch = Watch(line);
            waiting.watch();
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
        bridge.committer = Some(spawn("store-commit", move || committer.run())?);
        Ok((bridge, near))
    }

    /// A client for HTTP handlers, usable on any thread.
    pub fn client(&self) -> Client {
        let store = Arc::downgrade(&self.store);
        Client::new(self.line.clone(), self.bell.clone(), self.writes.clone(), self.queries.clone(), store)
    }

    /// Receives one failure, if the store ever fails for good: the process should then stop.
    pub fn fatal(&self) -> flume::Receiver<Failure> {
        self.fatal.clone()
    }

    /// Takes nothing new from clients, answers everything that was taken, and closes the store.
    ///
    /// The shards should have ended before. A shard that has not gets `NotTaken::Gone`.
    pub fn stop(mut self) -> Result<(), Failure> {
        self.end_threads();
        self.line.check()?;
        self.store.close()
    }

    fn end_threads(&mut self) {
        self.line.close();
        // The bell may already be full. In either case the committer wakes once more and sees the closed line.
        let _ = self.bell.try_send(());
        if let Some(committer) = self.committer.take() {
            let _ = committer.join();
        }
        // The readers answer what waits before they end, including what the committer passed on.
        self.reads.end();
        for reader in self.readers.drain(..) {
            let _ = reader.join();
        }
        self.reads.clear();
        self.waiting.end();
        if let Some(watcher) = self.watcher.take() {
            let _ = watcher.join();
        }
    }
}

impl Drop for Bridge {
    fn drop(&mut self) {
        self.end_threads();
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

/// A commit that takes longer than this is not just waiting for its disk: the store counts as unready until the commit
/// ends.
const COMMIT_DURATION_MAX: Duration = Duration::from_secs(2);

/// Whether the bridge takes requests and whether the store works.
struct Line {
    open: RwLock<bool>,
    closing: AtomicBool,
    failed: OnceLock<Failure>,
    fatal: flume::Sender<Failure>,
    /// When the current commit began, if one is running.
    commit_began: Mutex<Option<Instant>>,
}

impl Line {
    fn new(fatal: flume::Sender<Failure>) -> Self {
        let (open, closing, failed) = (RwLock::new(true), AtomicBool::new(false), OnceLock::new());
        Self { open, closing, failed, fatal, commit_began: Mutex::new(None) }
    }

    /// Runs a commit and remembers when it began, so that `unready` knows how long it takes.
    fn while_committing<T>(&self, commit: impl FnOnce() -> T) -> T {
        let began = |moment| *self.commit_began.lock() = moment;
        began(Some(Instant::now()));
        let done = commit();
        began(None);
        done
    }

    /// Why a write that is sent now will not be answered soon; `None` if it will be.
    fn unready(&self) -> Option<String> {
        if let Err(failure) = self.check() {
            return Some(failure.to_string());
        }
        let began = *self.commit_began.lock();
        let duration = began?.elapsed();
        (duration > COMMIT_DURATION_MAX).then(|| format!("a commit has been under way for {} s", duration.as_secs()))
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
