//! The state that all parts of the store share. Each part adds what it does with it, in a file of its own.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use engine::id::{ChannelId, Epoch, UserId};
use parking_lot::Mutex;
use storage::generations::Generations;
use storage::repeats::SentRequests;
use storage::{Failure, Submission};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};

use crate::change_scheduler::ChangeScheduler;
use crate::channel::Channels;
use crate::database::DatabaseSession;
use crate::intents::Intents;
use crate::lease::Lease;
use crate::lists::Rewrites;
use crate::sharing::Sharing;
use crate::to_sweep::ToSweep;

/// Cached notes of the bucket in which a user has written last in a channel: some 50 bytes each, and the channel's name.
const AUTHORS_MAX: usize = 128 * 1024;

/// Writes in flight.
pub const WRITES_MAX: usize = 16 * 1024;
/// Writes that wait until others are answered: as many as three more shards may have in flight. Further writes are
/// refused.
pub const WAITING_MAX: usize = 3 * WRITES_MAX;

/// See the file's head.
pub struct ClusterStore {
    pub database: Arc<DatabaseSession>,
    pub channels: Channels,
    pub change_scheduler: ChangeScheduler,
    pub authors: Authors,
    /// Requests that were sent a moment ago.
    pub sent: Mutex<SentRequests>,
    pub sharing: Sharing,
    pub lease: Arc<Lease>,
    pub intents: Intents,
    epoch: AtomicU64,
    /// Room for writes in flight.
    pub room: Arc<Semaphore>,
    /// Room for writes that wait for the other room.
    pub waiting_room: Arc<Semaphore>,
    pub waiting: mpsc::Sender<Waiting>,
    /// Held by the running sweep, so that there is only one at a time.
    pub sweeping: tokio::sync::Mutex<()>,
    pub to_sweep: Mutex<ToSweep>,
    pub rewrites: Rewrites,
}

/// A submission for which there is no room yet, and its permit to wait.
pub struct Waiting {
    pub submission: Submission,
    pub deadline: Instant,
    pub place: OwnedSemaphorePermit,
}

impl ClusterStore {
    /// A store, and the writes that will wait for room in it.
    pub fn new(database: Arc<DatabaseSession>) -> (Self, mpsc::Receiver<Waiting>) {
        let (waiting, waits) = mpsc::channel(WAITING_MAX);
        let store = Self {
            channels: Channels::default(),
            change_scheduler: ChangeScheduler::default(),
            authors: Authors::default(),
            sent: Mutex::default(),
            sharing: Sharing::default(),
            lease: Arc::new(Lease::new(database.clone())),
            intents: Intents::new(database.clone()),
            epoch: AtomicU64::new(0),
            room: Arc::new(Semaphore::new(WRITES_MAX)),
            waiting_room: Arc::new(Semaphore::new(WAITING_MAX)),
            waiting,
            sweeping: tokio::sync::Mutex::new(()),
            to_sweep: Mutex::default(),
            rewrites: Rewrites::default(),
            database,
        };
        (store, waits)
    }

    /// The epoch of this life of the server; 0 until it has begun.
    pub fn epoch(&self) -> Epoch {
        Epoch(self.epoch.load(Ordering::Acquire))
    }

    /// Sets the epoch, once it is in the database.
    pub fn set_epoch(&self, epoch: Epoch) {
        let before = self.epoch.swap(epoch.0, Ordering::AcqRel);
        debug_assert!(before < epoch.0, "epoch {} comes after {before}", epoch.0);
    }

    /// Whether this server may write at all.
    pub fn check(&self) -> Result<(), Failure> {
        self.database.check_open()?;
        self.lease.check()
    }
}

/// Caches which users are already noted as writers in which channels: of each pair the bucket that was noted last. The
/// entries unused for longest are dropped first, and then noted again.
pub struct Authors(Mutex<Generations<(UserId, ChannelId), i64>>);

impl Default for Authors {
    fn default() -> Self {
        let any_may_be_dropped = |_: &i64| false;
        Self(Mutex::new(Generations::new(AUTHORS_MAX / 2, any_may_be_dropped)))
    }
}

impl Authors {
    /// Whether the note is cached. If it is not, it may yet be in the database.
    pub fn has(&self, user: UserId, channel: &ChannelId, bucket: i64) -> bool {
        self.0.lock().get(&(user, channel.clone())) == Some(&bucket)
    }

    /// Caches the note of a row that this server has written.
    pub fn note(&self, user: UserId, channel: &ChannelId, bucket: i64) {
        self.0.lock().insert((user, channel.clone()), bucket);
    }

    /// Drops all notes of the user: each is noted again when it is next needed. Looks at all notes, about a millisecond:
    /// only the deletion of an account asks for it.
    pub fn forget(&self, user: UserId) {
        self.0.lock().retain(|(author, _)| *author != user);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use uuid::Uuid;

    #[test]
    fn authors_are_remembered_up_to_a_bound() {
        let authors = Authors::default();
        let lobby = ChannelId::room("lobby").unwrap();
        let user = |number: usize| UserId(Uuid::from_u128(number as u128));
        for number in 0..2 * AUTHORS_MAX {
            authors.note(user(number), &lobby, 1);
        }
        assert!(authors.has(user(2 * AUTHORS_MAX - 1), &lobby, 1));
        assert!(!authors.has(user(2 * AUTHORS_MAX - 1), &lobby, 2));
        assert!(!authors.has(user(0), &lobby, 1));
        assert!(authors.0.lock().len() <= AUTHORS_MAX);
        authors.forget(user(2 * AUTHORS_MAX - 1));
        assert!(!authors.has(user(2 * AUTHORS_MAX - 1), &lobby, 1));
        assert!(authors.has(user(2 * AUTHORS_MAX - 2), &lobby, 1));
        authors.note(user(2 * AUTHORS_MAX - 2), &lobby, 2);
        assert!(authors.has(user(2 * AUTHORS_MAX - 2), &lobby, 2));
    }
}
