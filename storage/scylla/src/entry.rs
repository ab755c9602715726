//! The entry for writes: into a channel's lane, or to the other changes. Writes for which there is no room wait.

use std::sync::{Arc, Weak};
use std::time::Instant;

use engine::id::ChannelId;
use engine::persist::{StoreQuestion, StoreWrite};
use storage::{Answer, Failure, QuestionAnswer, Submission, Write, Written};
use tokio::sync::{OwnedSemaphorePermit, mpsc};

use crate::change_scheduler::{footprint, of_group_change, of_question};
use crate::channel::CachedChannel;
use crate::cluster_store::{ClusterStore, WAITING_MAX, WRITES_MAX, Waiting};
use crate::database::{DatabaseSession, WRITE_PATIENCE};
use crate::queue::{Job, LaneRequest};

impl ClusterStore {
    /// A store that takes writes.
    pub fn begin(database: Arc<DatabaseSession>) -> Arc<Self> {
        let runtime = database.runtime().clone();
        let (store, waits) = Self::new(database);
        let store = Arc::new(store);
        runtime.spawn(let_in(Arc::downgrade(&store), waits));
        store
    }

    /// Takes writes and shards' questions, and starts them. Their deadline counts from now, even if they must wait for
    /// room. Lanes begin only after all of these have been queued, so that writes that arrived together are sent
    /// together.
    pub fn take(self: &Arc<Self>, submissions: Vec<Submission>) {
        self.take_by(Instant::now() + WRITE_PATIENCE, submissions);
    }

    fn take_by(self: &Arc<Self>, deadline: Instant, submissions: Vec<Submission>) {
        let mut idle = Vec::new();
        for submission in submissions {
            // Only one thread at a time calls this, so no other submission can enter in between.
            let nobody_waits = self.waiting_room.available_permits() == WAITING_MAX;
            match self.room.clone().try_acquire_owned() {
                Ok(room) if nobody_waits => self.admit(submission, deadline, room, &mut idle),
                _ => self.let_wait(submission, deadline),
            }
        }
        self.begin_lanes(&mut idle);
    }

    fn let_wait(&self, submission: Submission, deadline: Instant) {
        let refused = match self.waiting_room.clone().try_acquire_owned() {
            Err(_) => submission,
            Ok(place) => match self.waiting.try_send(Waiting { submission, deadline, place }) {
                Ok(()) => return,
                Err(refused) => refused.into_inner().submission,
            },
        };
        refused.fail(Failure::Passing("too many writes wait for the database".into()));
    }

    fn admit(
        self: &Arc<Self>,
        submission: Submission,
        deadline: Instant,
        room: OwnedSemaphorePermit,
        idle: &mut Vec<Arc<CachedChannel>>,
    ) {
        match submission {
            Submission::Write(write, answer) => {
                let answer: Answer = Box::new(move |done| {
                    answer(done);
                    drop(room);
                });
                match write {
                    Write::Request(write) => self.admit_write(write, answer, deadline, idle),
                    write => self.admit_change(write, answer, deadline),
                }
            }
            Submission::Question(question, answer) => {
                let answer = Box::new(move |found| {
                    answer(found);
                    drop(room);
                });
                self.admit_question(question, answer, deadline, idle);
            }
        }
    }

    /// Puts a shard's write into its channel's lane, or to the other changes.
    fn admit_write(
        self: &Arc<Self>,
        write: StoreWrite,
        answer: Answer,
        deadline: Instant,
        idle: &mut Vec<Arc<CachedChannel>>,
    ) {
        let (channel, request) = match write {
            StoreWrite::Insert(message) => {
                let channel = message.channel.clone();
                return idle.extend(self.enter_lane(&channel, Job::Insert(message, answer, deadline)));
            }
            StoreWrite::ChangeGroup { ref change, .. } => {
                let (channel, turn) =
                    (ChannelId::group(change.group), self.change_scheduler.turn(of_group_change(change)));
                return idle.extend(self.enter_lane(&channel, Job::Change(write, turn, answer, deadline)));
            }
            StoreWrite::RequestChat { .. } | StoreWrite::Block { .. } => {
                return self.admit_change(Write::Request(write), answer, deadline);
            }
            StoreWrite::Update(update) => (update.channel.clone(), LaneRequest::Update(update)),
            StoreWrite::Remove { channel, id, sender } => (channel, LaneRequest::Remove { id, sender }),
            StoreWrite::Purge { channel, sender, ids } => (channel, LaneRequest::Purge { sender, ids }),
        };
        let answer: QuestionAnswer = Box::new(move |done| answer(done.map(Written::Receipt)));
        idle.extend(self.enter_lane(&channel, Job::Request(request, answer, deadline)));
    }

    /// Puts a question into its channel's lane, or behind the changes of what it is about.
    fn admit_question(
        self: &Arc<Self>,
        question: StoreQuestion,
        answer: QuestionAnswer,
        deadline: Instant,
        idle: &mut Vec<Arc<CachedChannel>>,
    ) {
        let (channel, request) = match question {
            StoreQuestion::Head { channel } => (channel, LaneRequest::Head),
            StoreQuestion::Newest { channel, limit } => (channel, LaneRequest::Newest { limit }),
            StoreQuestion::MayJoinGroup { .. } | StoreQuestion::MayJoinDirect { .. } | StoreQuestion::Users { .. } => {
                let turn = self.change_scheduler.turn(of_question(&question));
                return self.begin_question(question, answer, deadline, turn);
            }
        };
        idle.extend(self.enter_lane(&channel, Job::Request(request, answer, deadline)));
    }

    fn admit_change(self: &Arc<Self>, write: Write, answer: Answer, deadline: Instant) {
        let turn = self.change_scheduler.turn(footprint(&write));
        self.begin_change(write, answer, deadline, turn);
    }

    /// Waits until everything that was taken is answered.
    pub fn drain(&self) {
        self.database.runtime().block_on(async {
            // A write that has left the waiting room is in flight or answered.
            drop(self.waiting_room.acquire_many(WAITING_MAX as u32).await);
            drop(self.room.acquire_many(WRITES_MAX as u32).await);
        });
    }
}

/// Admits waiting writes, in order, when there is room. All have the same time to wait, so the first to come is the
/// first to time out.
async fn let_in(store: Weak<ClusterStore>, mut waiting: mpsc::Receiver<Waiting>) {
    while let Some(Waiting { submission, deadline, place }) = waiting.recv().await {
        let Some(store) = store.upgrade() else { return };
        match tokio::time::timeout_at(deadline.into(), store.room.clone().acquire_owned()).await {
            Ok(Ok(room)) => {
                let mut idle = Vec::new();
                store.admit(submission, deadline, room, &mut idle);
                store.begin_lanes(&mut idle);
            }
            _ => submission.fail(Failure::Passing("the database has had too much to do for too long".into())),
        }
        drop(place);
    }
}

#[cfg(test)]
mod tests {
    use engine::id::Timestamp;

    use super::*;

    /// A database that is not reached yet fails each write at once, so each write is answered as soon as there is room
    /// for it.
    #[test]
    fn a_change_that_finds_no_room_waits_in_order_and_not_too_long() {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let address = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let options = crate::options::ScyllaOptions::at(vec![address.to_string()]);
        let store = ClusterStore::begin(DatabaseSession::begin(options, || Timestamp(0), runtime.handle().clone()));
        let (answers, answered) = flume::unbounded();
        let take = |number: usize, deadline| {
            let answers = answers.clone();
            let channel = ChannelId::room("lobby").unwrap();
            let answer: QuestionAnswer = Box::new(move |done| answers.send((number, done)).unwrap());
            store.take_by(deadline, vec![Submission::Question(StoreQuestion::Head { channel }, answer)]);
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
}
