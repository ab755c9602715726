//! A disk that does not answer: bounds how long a writer waits for a commit.
//!
//! A commit that is not over within the bridge's patience *stalls*. The writers of its group are then told that the outcome
//! is unknown, because the disk may yet take the group, as a whole. Everything that waits behind it is refused, and so is
//! everything that comes until the commit ends: of this nothing will ever be done. When the commit ends, everything goes
//! on. What a shard asks in the queue of its writes is refused too, because the answer may depend on a write whose outcome
//! is unknown.

use std::mem;
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use engine::persist::StoreRequest;
use parking_lot::{Condvar, Mutex};

use super::Line;
use super::askers::{Asker, GroupAskers, ShardAsker};
use super::ends::StoreQueueServer;
use super::writes::WriteQueue;
use crate::Failure;

/// A commit that takes longer than this is not just waiting for its disk: the store counts as unready until the commit
/// ends.
const COMMIT_DURATION_MAX: Duration = Duration::from_secs(2);
/// How often a commit is looked at, and the queues are emptied while one stalls.
const LOOK_INTERVAL: Duration = Duration::from_millis(100);

/// The commit that is under way, if there is one.
#[derive(Default)]
pub struct CommitUnderWay(Mutex<Commit>);

#[derive(Default)]
enum Commit {
    #[default]
    None,
    Running {
        began: Instant,
        askers: GroupAskers,
    },
    /// Its askers are answered.
    Stalled {
        began: Instant,
    },
}

impl CommitUnderWay {
    /// Runs a commit. Returns its result with the askers who wait for it, or `None` in their place if they were answered
    /// because it took too long.
    pub fn run<T>(&self, askers: GroupAskers, commit: impl FnOnce() -> T) -> (T, Option<GroupAskers>) {
        *self.0.lock() = Commit::Running { began: Instant::now(), askers };
        let done = commit();
        match mem::take(&mut *self.0.lock()) {
            Commit::Running { askers, .. } => (done, Some(askers)),
            Commit::Stalled { began } => {
                let seconds = began.elapsed().as_secs();
                tracing::info!("the disk has answered: a commit has ended after {seconds} s. Writes are taken again");
                (done, None)
            }
            Commit::None => unreachable!("one thread commits"),
        }
    }

    /// Why a write that is sent now will not be answered soon, or `None`.
    pub fn unready(&self) -> Option<String> {
        let (began, refused) = match &*self.0.lock() {
            Commit::None => return None,
            Commit::Running { began, .. } => (*began, ""),
            Commit::Stalled { began } => (*began, ": the disk does not answer, and writes are refused"),
        };
        let duration = began.elapsed();
        let late = duration > COMMIT_DURATION_MAX || !refused.is_empty();
        late.then(|| format!("a commit has been under way for {} s{refused}", duration.as_secs()))
    }

    /// Whether a commit has taken longer than the patience.
    pub fn has_stalled(&self) -> bool {
        matches!(*self.0.lock(), Commit::Stalled { .. })
    }

    /// The askers of a commit that has just become too long. The caller answers them.
    fn take_overdue(&self, patience: Duration) -> Option<GroupAskers> {
        let mut commit = self.0.lock();
        match &mut *commit {
            Commit::Running { began, askers } if began.elapsed() >= patience => {
                let (began, askers) = (*began, mem::take(askers));
                *commit = Commit::Stalled { began };
                Some(askers)
            }
            _ => None,
        }
    }
}

/// Watches the commits of a bridge, on a thread of its own.
pub struct StallWatch {
    pub line: Arc<Line>,
    /// The shards' queues. They end with the committer, not with this.
    pub shards: Weak<Vec<StoreQueueServer>>,
    pub writes: WriteQueue,
    pub patience: Duration,
}

impl StallWatch {
    /// Watches until `end` is called.
    pub fn run(self, ending: &StallWatchEnd) {
        let mut ended = ending.ended.lock();
        while !*ended {
            ending.changed.wait_for(&mut ended, LOOK_INTERVAL);
            self.look();
        }
    }

    fn look(&self) {
        if let Some(askers) = self.line.commit.take_overdue(self.patience) {
            let patience = self.patience;
            tracing::error!(
                requests = askers.writers.len(),
                "the disk does not answer: a commit is not over after {patience:?}. It is unknown whether its writes will be \
                 done; further writes are refused until it ends"
            );
            for asker in askers.writers {
                let reason = format!("the disk has not answered within {patience:?}");
                asker.answer(&self.line, Err(Failure::Unknown(reason)));
            }
            askers.questions.into_iter().for_each(|(asker, _)| asker.answer(Err(refusal())));
        }
        if self.line.commit.has_stalled() {
            self.refuse_what_waits();
        }
    }

    /// The committer is in its commit. If that ends meanwhile, both take requests out of the queues, each another one.
    fn refuse_what_waits(&self) {
        let Some(shards) = self.shards.upgrade() else { return };
        for shard in &*shards {
            // As many as there are now: the shard may send more.
            for (ticket, request) in shard.requests.try_iter().take(shard.requests.len()) {
                let asker = ShardAsker { receipts: shard.receipts.clone(), ticket };
                match request {
                    StoreRequest::Write(_) => Asker::Shard(asker).answer(&self.line, Err(refusal())),
                    StoreRequest::Question(_) => asker.answer(Err(refusal())),
                }
            }
        }
        self.writes.refuse_all(&refusal());
    }
}

fn refusal() -> Failure {
    Failure::Passing("the disk does not answer".into())
}

/// Ends a watch.
#[derive(Default)]
pub struct StallWatchEnd {
    ended: Mutex<bool>,
    changed: Condvar,
}

impl StallWatchEnd {
    /// The watch looks once more and ends.
    pub fn end(&self) {
        *self.ended.lock() = true;
        self.changed.notify_all();
    }
}
