//! The state that all parts of the store share, and the entry for writes: into a channel's lane, or into the change
//! scheduler.

use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Instant;

use engine::id::{ChannelId, Epoch, UserId};
use engine::persist::StoreRequest;
use storage::{Answer, Failure, Write};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};

use crate::change_scheduler::{ChangeScheduler, footprint};
use crate::channel::{Channel, Channels};
use crate::intents::Intents;
use crate::lease::Lease;
use crate::link::{Link, WRITE_PATIENCE};
use crate::queue::Job;
use crate::sharing::Sharing;

/// Writes in flight.
const WRITES_MAX: usize = 16 * 1024;
/// Writes that wait until others are answered: as many as three more shards may have in flight. Further writes are
/// refused.
const WAITING_MAX: usize = 3 * WRITES_MAX;

/// Cached notes of which user has written in which channel: 64 bytes each, and the channel's name.
const AUTHORS_MAX: usize = 128 * 1024;

/// See the file's head.
pub struct ClusterStore {
    pub link: Arc<Link>,
    pub channels: Channels,
    pub change_scheduler: ChangeScheduler,
    pub authors: Authors,
    pub sharing: Sharing,
    pub lease: Lease,
    pub intents: Intents,
    epoch: AtomicU64,
    room: Arc<Semaphore>,
    waiting_room: Arc<Semaphore>,
    door: mpsc::Sender<Waiting>,
    /// Held by the running sweep, so that there is only one at a time.
    pub sweeping: tokio::sync::Mutex<()>,
}

/// A write for which there is no room yet, and its permit to wait.
struct Waiting {
    write: Write,
    answer: Answer,
    deadline: Instant,
    place: OwnedSemaphorePermit,
}

impl ClusterStore {
    pub fn begin(link: Arc<Link>) -> Arc<Self> {
        let (door, waiting) = mpsc::channel(WAITING_MAX);
        let runtime = link.runtime().clone();
        let store = Arc::new(Self {
            channels: Channels::default(),
            change_scheduler: ChangeScheduler::default(),
            authors: Authors::default(),
            sharing: Sharing::default(),
            lease: Lease::default(),
            intents: Intents::new(link.clone()),
            epoch: AtomicU64::new(0),
            room: Arc::new(Semaphore::new(WRITES_MAX)),
            waiting_room: Arc::new(Semaphore::new(WAITING_MAX)),
            door,
            sweeping: tokio::sync::Mutex::new(()),
            link,
        });
        runtime.spawn(let_in(Arc::downgrade(&store), waiting));
        store
    }

    pub fn epoch(&self) -> Epoch {
        Epoch(self.epoch.load(Ordering::Acquire))
    }

    pub fn set_epoch(&self, epoch: Epoch) {
        self.epoch.store(epoch.0, Ordering::Release);
    }

    /// Whether this server may write at all.
    pub fn check(&self) -> Result<(), Failure> {
        self.link.check_open()?;
        self.lease.check()
    }

    /// Takes writes and shards' queries, and starts them. Their deadline counts from now, even if they must wait for
    /// room. Lanes begin only after all of these writes have been queued, so that writes that arrived together are sent
    /// together.
    pub fn take(self: &Arc<Self>, writes: Vec<(Write, Answer)>) {
        self.take_by(Instant::now() + WRITE_PATIENCE, writes);
    }

    fn take_by(self: &Arc<Self>, deadline: Instant, writes: Vec<(Write, Answer)>) {
        let mut idle = Vec::new();
        for (write, answer) in writes {
            // Only one thread at a time calls this, so no other write can enter in between.
            let nobody_waits = self.waiting_room.available_permits() == WAITING_MAX;
            match self.room.clone().try_acquire_owned() {
                Ok(room) if nobody_waits => self.admit(write, answer, deadline, room, &mut idle),
                _ => self.let_wait(write, answer, deadline),
            }
        }
        self.begin_lanes(&mut idle);
    }

    fn let_wait(&self, write: Write, answer: Answer, deadline: Instant) {
        let refused = match self.waiting_room.clone().try_acquire_owned() {
            Err(_) => answer,
            Ok(place) => match self.door.try_send(Waiting { write, answer, deadline, place }) {
                Ok(()) => return,
                Err(refused) => refused.into_inner().answer,
            },
        };
        refused(Err(Failure::Passing("too many writes wait for the database".into())));
    }

    fn admit(
        self: &Arc<Self>,
        write: Write,
        answer: Answer,
        deadline: Instant,
        room: OwnedSemaphorePermit,
        idle: &mut Vec<Arc<Channel>>,
    ) {
        let answer: Answer = Box::new(move |done| {
            answer(done);
            drop(room);
        });
        match lane_of(&write) {
            Some(channel) => {
                let changes = matches!(write, Write::Request(StoreRequest::ChangeGroup { .. }));
                let turn = changes.then(|| self.change_scheduler.turn(footprint(&write)));
                idle.extend(self.enter_lane(&channel, Job { write, answer, deadline, turn }));
            }
            None => {
                let turn = self.change_scheduler.turn(footprint(&write));
                self.enter_society(write, answer, deadline, turn);
            }
        }
    }

    /// Waits until everything that was taken is answered.
    pub fn drain(&self) {
        self.link.runtime().block_on(async {
            // A write that has left the waiting room is in flight or answered.
            drop(self.waiting_room.acquire_many(WAITING_MAX as u32).await);
            drop(self.room.acquire_many(WRITES_MAX as u32).await);
        });
    }
}

/// Admits waiting writes, in order, when there is room. All have the same time to wait, so the first to come is the
/// first to time out.
async fn let_in(store: Weak<ClusterStore>, mut waiting: mpsc::Receiver<Waiting>) {
    while let Some(Waiting { write, answer, deadline, place }) = waiting.recv().await {
        let Some(store) = store.upgrade() else { return };
        match tokio::time::timeout_at(deadline.into(), store.room.clone().acquire_owned()).await {
            Ok(Ok(room)) => {
                let mut idle = Vec::new();
                store.admit(write, answer, deadline, room, &mut idle);
                store.begin_lanes(&mut idle);
            }
            _ => answer(Err(Failure::Passing("the database has had too much to do for too long".into()))),
        }
        drop(place);
    }
}

/// The channel whose lane a write belongs to; `None` if it goes to the change scheduler.
fn lane_of(write: &Write) -> Option<ChannelId> {
    let Write::Request(request) = write else { return None };
    match request {
        StoreRequest::Insert(message) => Some(message.channel.clone()),
        StoreRequest::Update(update) => Some(update.channel.clone()),
        StoreRequest::Remove { channel, .. }
        | StoreRequest::Purge { channel, .. }
        | StoreRequest::Head { channel }
        | StoreRequest::Newest { channel, .. } => Some(channel.clone()),
        StoreRequest::ChangeGroup { change, .. } => Some(ChannelId::group(change.group)),
        StoreRequest::Admit(_) | StoreRequest::Block { .. } | StoreRequest::Users { .. } => None,
    }
}

/// Caches which users are already noted as writers of which channels. The entries unused for longest are dropped first,
/// and then noted again.
#[derive(Default)]
pub struct Authors {
    generations: Mutex<[HashMap<UserId, HashSet<ChannelId>>; 2]>,
    count: Mutex<usize>,
}

impl Authors {
    pub fn has(&self, user: UserId, channel: &ChannelId) -> bool {
        let generations = self.generations.lock().unwrap_or_else(PoisonError::into_inner);
        generations.iter().any(|authors| authors.get(&user).is_some_and(|channels| channels.contains(channel)))
    }

    pub fn note(&self, user: UserId, channel: &ChannelId) {
        let mut generations = self.generations.lock().unwrap_or_else(PoisonError::into_inner);
        let mut count = self.count.lock().unwrap_or_else(PoisonError::into_inner);
        if *count >= AUTHORS_MAX / 2 {
            let [young, old] = &mut *generations;
            *old = std::mem::take(young);
            *count = 0;
        }
        *count += usize::from(generations[0].entry(user).or_default().insert(channel.clone()));
    }

    pub fn forget(&self, user: UserId) {
        let mut generations = self.generations.lock().unwrap_or_else(PoisonError::into_inner);
        for authors in &mut *generations {
            authors.remove(&user);
        }
    }
}

#[cfg(test)]
mod tests {
    use engine::id::Timestamp;

    use super::*;
    use uuid::Uuid;

    /// A database that is not reached yet fails each write at once, so each write is answered as soon as there is room
    /// for it.
    #[test]
    fn whoever_finds_no_room_waits_in_order_and_not_too_long() {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let address = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let options = crate::options::ScyllaOptions::at(vec![address.to_string()]);
        let store = ClusterStore::begin(Link::begin(options, || Timestamp(0), runtime.handle().clone()));
        let (answers, answered) = flume::unbounded();
        let take = |number: usize, deadline| {
            let answers = answers.clone();
            let channel = ChannelId::room("lobby").unwrap();
            let write = Write::Request(StoreRequest::Head { channel });
            let answer: Answer = Box::new(move |done| answers.send((number, done)).unwrap());
            store.take_by(deadline, vec![(write, answer)]);
        };
        let (now, later) = (Instant::now(), Instant::now() + WRITE_PATIENCE * 100);
        let failure = |(number, done): (usize, Result<_, _>)| match done {
            Err(Failure::Passing(reason)) => (number, reason),
            other => panic!("{other:?}"),
        };
        let others = runtime.block_on(store.room.clone().acquire_many_owned(WRITES_MAX as u32)).unwrap();
        take(0, now);
        let (number, reason) = failure(answered.recv().unwrap());
        assert!(number == 0 && reason.contains("for too long"), "{number} {reason}");
        // The first write has been taken from the queue but has no room yet; it keeps its waiting permit.
        for number in 1..=WAITING_MAX + 1 {
            take(number, later);
        }
        let (number, reason) = failure(answered.recv().unwrap());
        assert!(number == WAITING_MAX + 1 && reason.contains("too many"), "{number} {reason}");
        assert!(answered.is_empty());
        drop(others);
        for expected in 1..=WAITING_MAX {
            let (number, reason) = failure(answered.recv().unwrap());
            assert!(number == expected && reason.contains("not reached yet"), "{number} {expected} {reason}");
        }
        store.drain();
        assert_eq!(store.room.available_permits(), WRITES_MAX);
    }

    #[test]
    fn authors_are_remembered_up_to_a_bound() {
        let authors = Authors::default();
        let lobby = ChannelId::room("lobby").unwrap();
        let user = |number: usize| UserId(Uuid::from_u128(number as u128));
        for number in 0..2 * AUTHORS_MAX {
            authors.note(user(number), &lobby);
        }
        assert!(authors.has(user(2 * AUTHORS_MAX - 1), &lobby));
        assert!(!authors.has(user(0), &lobby));
        let generations = authors.generations.lock().unwrap();
        assert!(generations[0].len() + generations[1].len() <= AUTHORS_MAX);
        drop(generations);
        authors.forget(user(2 * AUTHORS_MAX - 1));
        assert!(!authors.has(user(2 * AUTHORS_MAX - 1), &lobby));
    }
}
