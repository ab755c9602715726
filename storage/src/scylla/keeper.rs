//! What all parts of the keeper share, and how work comes in: into a channel's lane, or among the changes.

use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use engine::id::{ChannelId, Epoch, UserId};
use engine::persist::StoreRequest;
use tokio::sync::Semaphore;

use super::channel::Channels;
use super::intents::Intents;
use super::lane::Job;
use super::lease::Lease;
use super::link::{Link, WRITE_PATIENCE};
use super::pages::Sharing;
use super::society::{Society, footprint};
use crate::{Answer, Failure, Write};

/// Writes under way: taken, and not yet answered. Whoever brings more waits, and refuses what it then has no room for.
pub const WRITES_MAX: usize = 16 * 1024;

/// Notes of who has written where that are remembered: 64 bytes each, and the channel's name.
const AUTHORS_MAX: usize = 128 * 1024;

/// See the file's head.
pub struct Keeper {
    pub link: Arc<Link>,
    pub channels: Channels,
    pub society: Society,
    pub authors: Authors,
    pub sharing: Sharing,
    pub lease: Lease,
    pub intents: Intents,
    epoch: AtomicU64,
    room: Arc<Semaphore>,
    /// One sweep at a time.
    pub sweeping: tokio::sync::Mutex<()>,
}

impl Keeper {
    pub fn new(link: Arc<Link>) -> Self {
        Self {
            link,
            channels: Channels::default(),
            society: Society::default(),
            authors: Authors::default(),
            sharing: Sharing::default(),
            lease: Lease::default(),
            intents: Intents::default(),
            epoch: AtomicU64::new(0),
            room: Arc::new(Semaphore::new(WRITES_MAX)),
            sweeping: tokio::sync::Mutex::new(()),
        }
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

    /// Takes a write, or a shard's question, on its way; waits when too many are.
    pub fn take(self: &Arc<Self>, write: Write, answer: Answer) {
        let room = self.link.runtime().block_on(self.room.clone().acquire_owned());
        let answer: Answer = Box::new(move |done| {
            answer(done);
            drop(room);
        });
        let deadline = Instant::now() + WRITE_PATIENCE;
        match lane_of(&write) {
            Some(channel) => {
                let changes = matches!(write, Write::Request(StoreRequest::ChangeGroup { .. }));
                let turn = changes.then(|| self.society.turn(footprint(&write)));
                self.enter_lane(&channel, Job { write, answer, deadline, turn });
            }
            None => {
                let turn = self.society.turn(footprint(&write));
                self.enter_society(write, answer, deadline, turn);
            }
        }
    }

    /// Waits until all that was taken is answered.
    pub fn drain(&self) {
        let all = self.room.acquire_many(WRITES_MAX as u32);
        drop(self.link.runtime().block_on(all));
    }
}

/// The channel in whose order a write has its place.
fn lane_of(write: &Write) -> Option<ChannelId> {
    let Write::Request(request) = write else { return None };
    match request {
        StoreRequest::Insert(message) => Some(message.channel.clone()),
        StoreRequest::Update(update) => Some(update.channel.clone()),
        StoreRequest::Remove { channel, .. }
        | StoreRequest::Purge { channel, .. }
        | StoreRequest::Head { channel }
        | StoreRequest::Sender { channel, .. }
        | StoreRequest::Newest { channel, .. } => Some(channel.clone()),
        StoreRequest::ChangeGroup { change, .. } => Some(ChannelId::group(change.group)),
        StoreRequest::Admit(_) | StoreRequest::Block { .. } | StoreRequest::Users { .. } => None,
    }
}

/// Remembers of whom it is noted that they have written in a channel; the longest unused are forgotten first, and then
/// noted again.
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
    use super::*;
    use uuid::Uuid;

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
