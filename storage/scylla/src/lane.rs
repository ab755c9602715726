//! A channel's lane: writes the channel's changes in order, and gathers new messages into batches of one partition.
//!
//! A message in a quiet channel is sent at once. While a batch is in flight the next one gathers. It is sent when the
//! first is answered, or sooner if it is full: as the load grows the batches grow, so the number of requests to the
//! database grows more slowly. When the database is slow the lane waits a little, so that clients just acknowledged can
//! join the next batch.
//!
//! If the outcome of a write is unknown, the lane repeats the write, with the same ids and timestamps. When there is no
//! more time for that, the lane reads what is stored. If the write is not there, or if that cannot be read either, the
//! lane takes the write back and the caller gets a failure. Until the database has confirmed this, nothing is read or
//! written in the channel.

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use engine::id::{ChannelId, MessageId, UserId};
use engine::message::Message;
use engine::persist::{StoreReceipt, StoreWrite, UpdateMessage};
use scylla::statement::batch::BatchType;
use storage::{Answer, Failure, QuestionAnswer, Write, Written};
use tokio::task::JoinSet;

use crate::change_scheduler::Turn;
use crate::channel::{BucketChoice, CachedChannel, Known, bounds_of, bytes_of, message_row, milliseconds, place_of};
use crate::cluster_store::ClusterStore;
use crate::database::{LOOK_PATIENCE, UNDO_PATIENCE, by, in_time};
use crate::outcome::FailedAttempt;
use crate::queue::{Job, LaneRequest};
use crate::tables::Mutation;
use crate::tables::messages::{self, StoredMessage};

/// Messages of one batch: a mutation well below half a segment of any server's commit log.
const BATCH_ROWS_MAX: usize = 128;
/// Bytes at which a batch takes no more messages. So a batch may have more bytes, by less than its last message.
const BATCH_BYTES_MAX: usize = 256 << 10;
/// Batches of one channel in flight, all but the first of them full.
const BATCHES_MAX: usize = 2;
/// The next batch lingers for the previous batch's duration divided by `LINGER_PART`. It does not linger for less than
/// `LINGER_MIN`, because the clock's tick is a millisecond.
const LINGER_PART: u32 = 8;
const LINGER_MIN: Duration = Duration::from_millis(1);
/// Concurrent look-ups of a purge.
const PURGE_LOOKUPS: usize = 32;

/// The lane's next step.
enum Next {
    Messages(Vec<(Message, Answer, Instant)>),
    Request(LaneRequest, QuestionAnswer, Instant),
    Change(StoreWrite, Turn, Answer, Instant),
    /// Wait until a batch is answered, or the next one is full.
    Wait,
    Nothing,
}

impl ClusterStore {
    /// Puts a job into a channel's lane. Returns the channel if no task drives its lane: the caller must then start
    /// one.
    #[must_use]
    pub fn enter_lane(&self, channel: &ChannelId, job: Job) -> Option<Arc<CachedChannel>> {
        let channel = self.channels.get(channel);
        let mut queue = channel.queue.lock();
        queue.jobs.push_back(job);
        if queue.jobs.len() == BATCH_ROWS_MAX {
            channel.full.notify_one();
        }
        let idle = !std::mem::replace(&mut queue.running, true);
        drop(queue);
        idle.then_some(channel)
    }

    /// Starts a task for each lane that [`Self::enter_lane`] returned, and empties the list.
    pub fn begin_lanes(self: &Arc<Self>, idle: &mut Vec<Arc<CachedChannel>>) {
        for channel in idle.drain(..) {
            let store = self.clone();
            self.database.runtime().spawn(async move { store.drive(channel).await });
        }
    }

    async fn drive(self: Arc<Self>, channel: Arc<CachedChannel>) {
        let mut under_way = JoinSet::new();
        let mut left = Instant::now();
        loop {
            match next(&channel, under_way.len()) {
                Next::Messages(messages) => {
                    left = Instant::now();
                    self.insert(&channel, messages, &mut under_way).await;
                }
                Next::Request(request, answer, deadline) => {
                    while under_way.join_next().await.is_some() {}
                    self.do_request(&channel, request, answer, deadline).await;
                }
                Next::Change(change, turn, answer, deadline) => {
                    while under_way.join_next().await.is_some() {}
                    self.change_in_lane(&channel, Write::Request(change), answer, deadline, turn).await;
                }
                Next::Wait => tokio::select! {
                    _ = under_way.join_next() => linger(&channel, left.elapsed() / LINGER_PART).await,
                    () = channel.full.notified() => {}
                },
                Next::Nothing => return,
            }
        }
    }

    async fn do_request(
        self: &Arc<Self>,
        channel: &Arc<CachedChannel>,
        request: LaneRequest,
        answer: QuestionAnswer,
        deadline: Instant,
    ) {
        let ready = in_time(deadline).and_then(|()| self.check()).and_then(|()| channel.check_settled());
        let done = match ready {
            Ok(()) => self.carry_out(channel, request, deadline).await,
            Err(failure) => Err(failure),
        };
        channel.version.fetch_add(1, Ordering::AcqRel);
        answer(done);
    }

    async fn carry_out(
        self: &Arc<Self>,
        channel: &Arc<CachedChannel>,
        request: LaneRequest,
        deadline: Instant,
    ) -> Result<StoreReceipt, Failure> {
        match request {
            LaneRequest::Update(update) => match self.own_message(channel, update.id, update.sender, deadline).await? {
                Ok(before) => self.update(channel, before, update, deadline).await,
                Err(refusal) => Ok(refusal),
            },
            LaneRequest::Remove { id, sender } => match self.own_message(channel, id, sender, deadline).await? {
                Ok(before) => self.remove(channel, before, deadline).await,
                Err(refusal) => Ok(refusal),
            },
            LaneRequest::Purge { sender, ids } => self.purge(channel, sender, ids, deadline).await,
            LaneRequest::Head => Ok(StoreReceipt::Head(by(deadline, channel.known(&self.database)).await?.head)),
            LaneRequest::Newest { limit } => Ok(StoreReceipt::Newest(by(deadline, self.newest(channel, limit)).await?)),
        }
    }

    /// Assigns messages to their buckets, and sends a batch for each run of messages in one bucket.
    async fn insert(
        self: &Arc<Self>,
        channel: &Arc<CachedChannel>,
        messages: Vec<(Message, Answer, Instant)>,
        under_way: &mut JoinSet<()>,
    ) {
        let (messages, late): (Vec<_>, Vec<_>) =
            messages.into_iter().partition(|(_, _, deadline)| in_time(*deadline).is_ok());
        late.into_iter().for_each(|(_, answer, _)| answer(Err(FailedAttempt::silence().failure())));
        // The whole batch has the earliest deadline of its messages.
        let Some(deadline) = messages.iter().map(|(_, _, deadline)| *deadline).min() else { return };
        let ready = self.check().and_then(|()| channel.check_settled());
        let known = match ready {
            Ok(()) => by(deadline, channel.known(&self.database)).await,
            Err(failure) => Err(failure),
        };
        let mut known = match known {
            Ok(known) => known,
            Err(failure) => return messages.into_iter().for_each(|(_, answer, _)| answer(Err(failure.clone()))),
        };
        let mut messages = messages.into_iter().peekable();
        while let Some((message, answer, _)) = messages.next() {
            let bucket = match channel.bucket_for(&self.database, &mut known, &message, self.epoch(), deadline).await {
                Ok(bucket) => bucket,
                Err(failure) => {
                    answer(Err(failure));
                    continue;
                }
            };
            known.count(bucket, place_of(&message), bytes_of(&message));
            let mut batch = vec![(message, answer)];
            let bounds = bounds_of(&self.database, &channel.id);
            while let Some((message, answer, _)) =
                messages.next_if(|(message, ..)| known.choose_bucket(message.id, &bounds) == BucketChoice::In(bucket))
            {
                known.count(bucket, place_of(&message), bytes_of(&message));
                batch.push((message, answer));
            }
            let is_of_bucket = |(message, _): &(Message, Answer)| is_in(&known, message, bucket);
            debug_assert!(batch.iter().all(is_of_bucket), "a batch is of one partition");
            channel.learn(known.clone()).await;
            let head_row = known.head_row(&channel.id, bucket);
            let (store, channel) = (self.clone(), channel.clone());
            let timestamp = self.database.clock.reserve(batch.len() + 1);
            // These timestamps decide, not the order of arrival at the database, so that the last head stays.
            under_way.spawn(async move {
                store.write_batch(&channel, bucket, batch, head_row, timestamp, deadline).await;
            });
            while under_way.len() >= BATCHES_MAX {
                under_way.join_next().await;
            }
        }
    }

    async fn write_batch(
        self: &Arc<Self>,
        channel: &Arc<CachedChannel>,
        bucket: i64,
        messages: Vec<(Message, Answer)>,
        head_row: Option<Mutation>,
        timestamp: i64,
        deadline: Instant,
    ) {
        debug_assert!(is_bounded(messages.iter().map(|(message, _)| message)), "{} messages", messages.len());
        let mut mutations: Vec<_> =
            messages.iter().map(|(message, _)| message_row(&self.database, message, bucket)).collect();
        mutations.extend(head_row);
        let senders: HashSet<_> = messages.iter().map(|(message, _)| message.sender).collect();
        let done = match self.note_authors(&channel.id, bucket, senders, deadline).await {
            Ok(()) => self.database.write_at(timestamp, mutations, BatchType::Unlogged, deadline).await,
            Err(failed) => Err(FailedAttempt { nothing_done: true, ..failed }),
        };
        let done = match done {
            Err(failed) if !failed.nothing_done => {
                let ids: HashSet<_> = messages.iter().map(|(message, _)| message.id).collect();
                let undo = ids.iter().map(|&id| messages::delete(&channel.id, bucket, id)).collect();
                self.resolve(channel, failed, undo, || self.has_all(channel, bucket, &ids)).await
            }
            done => done.map_err(|failed| failed.failure()),
        };
        channel.version.fetch_add(1, Ordering::AcqRel);
        for (_, answer) in messages {
            answer(done.clone().map(|()| Written::Receipt(StoreReceipt::Inserted)));
        }
    }

    /// Whether all of these messages are stored.
    async fn has_all(&self, channel: &CachedChannel, bucket: i64, ids: &HashSet<MessageId>) -> Result<bool, Failure> {
        for &id in ids {
            if self.stored_in(channel, bucket, id).await?.is_none() {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Finds out whether a write of unknown outcome was done. If it was not done completely, or if that cannot be found
    /// out, takes it back; until that has succeeded, the channel waits.
    async fn resolve<F>(
        self: &Arc<Self>,
        channel: &Arc<CachedChannel>,
        failed: FailedAttempt,
        undo: Vec<Mutation>,
        is_done: impl Fn() -> F + Sync,
    ) -> Result<(), Failure>
    where
        F: Future<Output = Result<bool, Failure>> + Send,
    {
        if let Ok(true) = by(Instant::now() + LOOK_PATIENCE, is_done()).await {
            return Ok(());
        }
        let patience = Instant::now() + UNDO_PATIENCE;
        let undone = self.database.write(&undo, BatchType::Unlogged, patience).await;
        if undone.is_err() {
            let database = self.database.clone();
            channel.settle_later(&self.database, async move { database.settle(&undo).await });
            // If this server dies before the undo is written, the failed write stays.
            return Err(Failure::Unknown(failed.reason));
        }
        Err(Failure::Passing(failed.reason))
    }

    /// The stored message, if this sender may change it; otherwise the receipt that says why not.
    async fn own_message(
        &self,
        channel: &CachedChannel,
        id: MessageId,
        sender: UserId,
        deadline: Instant,
    ) -> Result<Result<StoredMessage, StoreReceipt>, Failure> {
        let stored = by(deadline, self.stored(channel, id)).await?;
        let refusal = StoreReceipt::refuse_change(stored.as_ref().map(|stored| &stored.message), sender);
        Ok(refusal.map_or_else(|| Ok(stored.expect("what is not stored was refused")), Err))
    }

    /// Replaces the text of a message with the update's.
    async fn update(
        self: &Arc<Self>,
        channel: &Arc<CachedChannel>,
        before: StoredMessage,
        update: UpdateMessage,
        deadline: Instant,
    ) -> Result<StoreReceipt, Failure> {
        let mut after = before.message.clone();
        update.apply_to(&mut after);
        self.database.clock.pass(before.written_us);
        let edit = before.edit(&after);
        let written = self.database.write(&[edit], BatchType::Unlogged, deadline).await;
        self.decided(channel, written, before.put_again(), || async {
            Ok(self.stored_in(channel, before.bucket, after.id).await?.is_some_and(|found| found.message == after))
        })
        .await?;
        Ok(StoreReceipt::Updated(after))
    }

    /// Deletes a message.
    async fn remove(
        self: &Arc<Self>,
        channel: &Arc<CachedChannel>,
        before: StoredMessage,
        deadline: Instant,
    ) -> Result<StoreReceipt, Failure> {
        let id = before.message.id;
        self.database.clock.pass(before.written_us);
        let delete = messages::delete(&channel.id, before.bucket, id);
        let written = self.database.write(&[delete], BatchType::Unlogged, deadline).await;
        self.decided(channel, written, before.put_again(), || async {
            Ok(self.stored_in(channel, before.bucket, id).await?.is_none())
        })
        .await?;
        Ok(StoreReceipt::Removed(before.message))
    }

    /// The result of a write to one row. If the outcome is unknown and the row does not show the write, the row is
    /// restored to `before`.
    async fn decided<F>(
        self: &Arc<Self>,
        channel: &Arc<CachedChannel>,
        written: Result<(), FailedAttempt>,
        before: Mutation,
        is_done: impl Fn() -> F + Sync,
    ) -> Result<(), Failure>
    where
        F: Future<Output = Result<bool, Failure>> + Send,
    {
        match written {
            Err(failed) if !failed.nothing_done => self.resolve(channel, failed, vec![before], is_done).await,
            written => written.map_err(|failed| failed.failure()),
        }
    }

    async fn purge(
        self: &Arc<Self>,
        channel: &Arc<CachedChannel>,
        sender: UserId,
        ids: Vec<MessageId>,
        deadline: Instant,
    ) -> Result<StoreReceipt, Failure> {
        let mut theirs = Vec::new();
        for some in ids.chunks(PURGE_LOOKUPS) {
            let mut looking = JoinSet::new();
            for &id in some {
                let (store, channel) = (self.clone(), channel.clone());
                looking.spawn(async move { by(deadline, store.stored(&channel, id)).await });
            }
            while let Some(found) = looking.join_next().await {
                let found = found.map_err(|error| Failure::Passing(error.to_string()))??;
                theirs.extend(found.filter(|found| found.message.sender == sender));
            }
        }
        theirs.sort_by_key(|found| found.bucket);
        for bucket in theirs.chunk_by(|one, other| one.bucket == other.bucket) {
            let rows: Vec<_> =
                bucket.iter().map(|found| messages::delete(&channel.id, found.bucket, found.message.id)).collect();
            let written = self.database.write(&rows, BatchType::Unlogged, deadline).await;
            // Repeating a purge is harmless, and the caller repeats it until it is done.
            written.map_err(|failed| failed.failure())?;
        }
        Ok(StoreReceipt::Purged)
    }
}

/// Waits a little for more messages to join the next batch, if any job waits already.
async fn linger(channel: &CachedChannel, duration: Duration) {
    let waits = || !channel.queue.lock().jobs.is_empty();
    if duration >= LINGER_MIN && waits() {
        let _ = tokio::time::timeout(duration, channel.full.notified()).await;
    }
}

/// Takes as many messages as fit one batch, or one job of another kind. Marks the lane as not running when there is
/// nothing left and nothing in flight.
fn next(channel: &CachedChannel, under_way: usize) -> Next {
    let mut queue = channel.queue.lock();
    let is_message = |job: &Job| matches!(job, Job::Insert(..));
    let may_leave = under_way == 0 || (under_way < BATCHES_MAX && queue.jobs.len() >= BATCH_ROWS_MAX);
    if !may_leave && queue.jobs.front().is_none_or(is_message) {
        return Next::Wait;
    }
    let mut messages = Vec::new();
    let mut bytes = 0;
    while messages.len() < BATCH_ROWS_MAX && bytes < BATCH_BYTES_MAX {
        match queue.jobs.pop_front() {
            Some(Job::Insert(message, answer, deadline)) => {
                bytes += bytes_of(&message);
                messages.push((message, answer, deadline));
            }
            Some(job) if !messages.is_empty() => {
                queue.jobs.push_front(job);
                break;
            }
            Some(Job::Request(request, answer, deadline)) => return Next::Request(request, answer, deadline),
            Some(Job::Change(change, turn, answer, deadline)) => return Next::Change(change, turn, answer, deadline),
            None if messages.is_empty() => {
                queue.running = false;
                return Next::Nothing;
            }
            None => break,
        }
    }
    debug_assert!(is_bounded(messages.iter().map(|(message, ..)| message)), "{bytes} bytes");
    Next::Messages(messages)
}

/// Whether a batch has at most `BATCH_ROWS_MAX` messages, and fewer than `BATCH_BYTES_MAX` bytes before its last one.
fn is_bounded<'a>(messages: impl Iterator<Item = &'a Message>) -> bool {
    let sizes: Vec<_> = messages.map(bytes_of).collect();
    let before_last = sizes.len().saturating_sub(1);
    sizes.len() <= BATCH_ROWS_MAX && sizes[..before_last].iter().sum::<usize>() < BATCH_BYTES_MAX
}

fn is_in(known: &Known, message: &Message, bucket: i64) -> bool {
    known.bucket_of(milliseconds(message.id)) == Some(bucket)
}
