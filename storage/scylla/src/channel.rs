//! The cached knowledge about a channel's partitions: which buckets exist, how full the newest is, where history ends.
//!
//! A bucket's number is the millisecond at which it begins. A message is in the latest bucket that begins no later than
//! its id's millisecond. So the id alone says where a message is, once the channel's buckets are known. The buckets are
//! few, are only ever added to, and are cached here.

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Instant;

use engine::id::{ChannelId, ChannelKind, Epoch, MessageId};
use engine::message::Message;
use engine::persist::ChannelHead;
use parking_lot::Mutex;
use storage::Failure;
use storage::generations::Generations;

use crate::database::{DatabaseSession, by};
use crate::options::BucketBounds;
use crate::outcome::FailedAttempt;
use crate::queue::Queue;
use crate::tables::Mutation;
use crate::tables::channels::{self, Newest};
use crate::tables::messages::{self, HeadRow};

/// Channels whose buckets are cached: some hundred bytes each, and eight more per bucket.
const CHANNELS_MAX: usize = 32 * 1024;

/// One channel's cached knowledge, and its lane.
pub struct CachedChannel {
    pub id: ChannelId,
    /// Loaded when it is first needed. The lock is held during the load, so that it is loaded once.
    known: tokio::sync::Mutex<Option<Known>>,
    /// Rises with each answer to a write. A read is shared only by callers that asked for it at the same version.
    pub version: AtomicU64,
    /// Failed writes that may have left rows. The rows must be put right before any read or write in this
    /// channel.
    pub unsettled: AtomicUsize,
    pub queue: Mutex<Queue>,
    /// Wakes the lane when a full batch of jobs waits.
    pub full: tokio::sync::Notify,
}

/// What is cached about the partitions of a channel.
#[derive(Clone, Debug)]
pub struct Known {
    /// When each bucket begins, rising.
    pub starts: Arc<Vec<i64>>,
    pub head: Option<ChannelHead>,
    pub fill: Fill,
    /// Shared by all that know the same.
    pub emptied: Arc<Emptied>,
}

/// The buckets that reads have found empty, although the index has them: all of their messages were removed or have
/// expired. Reads pass them. They are at most as many as the channel has buckets.
///
/// A removal that is taken back brings a message back into its bucket. Then everything that is known of the channel is
/// forgotten, this too.
#[derive(Default, Debug)]
pub struct Emptied(Mutex<EmptiedBuckets>);

#[derive(Default, Debug)]
struct EmptiedBuckets {
    empty: HashSet<i64>,
    /// Buckets that got a message when they were not the newest any more. They are never passed.
    late: HashSet<i64>,
}

impl Emptied {
    /// Notes that a read of a whole bucket that is not the newest has found nothing.
    pub fn note(&self, bucket: i64) {
        let EmptiedBuckets { empty, late } = &mut *self.0.lock();
        if !late.contains(&bucket) {
            empty.insert(bucket);
        }
    }

    /// Removes the empty buckets from a list.
    pub fn leave_out(&self, buckets: &mut Vec<i64>) {
        let EmptiedBuckets { empty, .. } = &*self.0.lock();
        if !empty.is_empty() {
            buckets.retain(|bucket| !empty.contains(bucket));
        }
    }

    /// Takes note of a message that is about to be written into a bucket that is not the newest.
    fn fill(&self, bucket: i64) {
        let EmptiedBuckets { empty, late } = &mut *self.0.lock();
        empty.remove(&bucket);
        late.insert(bucket);
    }
}

/// What the newest bucket holds, removed messages included.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Fill {
    pub rows: u32,
    pub bytes: u64,
}

/// The bucket of a new message.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum BucketChoice {
    /// An existing bucket.
    In(i64),
    /// A bucket that must be begun first.
    New(i64),
}

impl Known {
    /// The bucket of messages of this millisecond, if there is one.
    pub fn bucket_of(&self, ms: i64) -> Option<i64> {
        bucket_of(&self.starts, ms)
    }

    /// The bucket of a new message.
    pub fn choose_bucket(&self, id: MessageId, bounds: &BucketBounds) -> BucketChoice {
        let ms = milliseconds(id);
        match (self.starts.last(), self.bucket_of(ms)) {
            (_, None) => BucketChoice::New(ms),
            (Some(&newest), Some(bucket)) if bucket == newest => {
                // All messages of one millisecond stay together.
                let splits = self.head.is_none_or(|head| milliseconds(head.id) < ms) && newest < ms;
                if splits && self.is_full(ms - newest, bounds) {
                    BucketChoice::New(ms)
                } else {
                    BucketChoice::In(newest)
                }
            }
            (_, Some(bucket)) => BucketChoice::In(bucket),
        }
    }

    fn is_full(&self, age_ms: i64, bounds: &BucketBounds) -> bool {
        let Fill { rows, bytes } = self.fill;
        let beyond = |factor: u32| {
            rows >= bounds.rows.saturating_mul(factor) || bytes >= bounds.bytes.saturating_mul(u64::from(factor))
        };
        age_ms >= bounds.age_ms || beyond(bounds.hard_factor) || (age_ms >= bounds.young_ms && beyond(1))
    }

    /// Counts a message that is about to be written.
    pub fn count(&mut self, bucket: i64, head: ChannelHead, bytes: usize) {
        debug_assert!(self.starts.binary_search(&bucket).is_ok(), "bucket {bucket} has begun");
        debug_assert!(milliseconds(head.id) >= bucket, "a message is not before its bucket {bucket}");
        if self.starts.last() == Some(&bucket) {
            self.fill.rows = self.fill.rows.saturating_add(1);
            self.fill.bytes += bytes as u64;
            self.head = Some(self.head.filter(|kept| kept.id >= head.id).unwrap_or(head));
        } else {
            self.emptied.fill(bucket);
        }
    }

    /// Buckets are only ever added, and the head never moves back.
    fn comes_after(&self, earlier: &Self) -> bool {
        let keeps_buckets = earlier.starts.iter().all(|start| self.starts.binary_search(start).is_ok());
        keeps_buckets && self.head.map(|head| head.id) >= earlier.head.map(|head| head.id)
    }

    fn begin(&mut self, bucket: i64) {
        let starts = Arc::make_mut(&mut self.starts);
        let place = starts.partition_point(|&start| start < bucket);
        debug_assert_ne!(starts.get(place), Some(&bucket), "a bucket begins once");
        starts.insert(place, bucket);
        debug_assert!(rise(starts), "the starts of buckets rise: {starts:?}");
        if place + 1 == starts.len() {
            self.fill = Fill::default();
        }
    }

    /// The row that says where history ends and how full the newest bucket is; it is written with that bucket's
    /// messages.
    pub fn head_row(&self, channel: &ChannelId, bucket: i64) -> Option<Mutation> {
        let head = self.head.filter(|_| self.starts.last() == Some(&bucket))?;
        Some(messages::set_head(channel, bucket, head, self.fill.rows, self.fill.bytes))
    }
}

fn rise(starts: &[i64]) -> bool {
    starts.is_sorted_by(|one, next| one < next)
}

/// The latest of the rising starts that is no later than `ms`.
pub fn bucket_of(starts: &[i64], ms: i64) -> Option<i64> {
    debug_assert!(rise(starts), "the starts of buckets rise: {starts:?}");
    let later = starts.partition_point(|&start| start <= ms);
    later.checked_sub(1).map(|place| starts[place])
}

/// The time in an id of UUID version 7, in milliseconds since 1970.
pub fn milliseconds(id: MessageId) -> i64 {
    (id.0.as_u128() >> 80) as i64
}

impl CachedChannel {
    fn new(id: ChannelId) -> Self {
        Self {
            id,
            known: tokio::sync::Mutex::new(None),
            version: AtomicU64::new(0),
            unsettled: AtomicUsize::new(0),
            queue: Mutex::default(),
            full: tokio::sync::Notify::new(),
        }
    }

    /// What is known; loads it if needed.
    pub async fn known(&self, database: &DatabaseSession) -> Result<Known, Failure> {
        let mut known = self.known.lock().await;
        if let Some(known) = &*known {
            return Ok(known.clone());
        }
        Ok(known.insert(self.load(database).await?).clone())
    }

    /// Replaces what is known. Only the channel's lane calls this.
    pub async fn learn(&self, new: Known) {
        let mut known = self.known.lock().await;
        debug_assert!(known.as_ref().is_none_or(|known| new.comes_after(known)), "{known:?}, then {new:?}");
        *known = Some(new);
    }

    /// Drops what is known: it must be loaded again.
    pub async fn forget(&self) {
        *self.known.lock().await = None;
    }

    async fn load(&self, database: &DatabaseSession) -> Result<Known, Failure> {
        let mut starts: Vec<i64> = Vec::new();
        for (epoch,) in database.all(channels::epochs(&self.id)).await? {
            starts.extend(database.all(channels::buckets(&self.id, epoch)).await?.into_iter().map(|(bucket,)| bucket));
        }
        starts.sort_unstable();
        let mut known = Known { starts: Arc::new(starts), head: None, fill: Fill::default(), emptied: Arc::default() };
        // A bucket that was begun and never written to has no head: look in the one before it.
        for (place, &bucket) in known.starts.clone().iter().rev().enumerate() {
            let row = database.one(messages::head(&self.id, bucket)).await?;
            if let Some(stored) = row.and_then(HeadRow::stored) {
                database.clock.pass(stored.written_us);
                known.head = Some(stored.head);
                if place == 0 {
                    known.fill = Fill { rows: stored.rows, bytes: stored.bytes };
                }
                break;
            }
        }
        Ok(known)
    }

    /// The bucket of a new message; begins it if needed.
    pub async fn bucket_for(
        &self,
        database: &DatabaseSession,
        known: &mut Known,
        message: &Message,
        epoch: Epoch,
        deadline: Instant,
    ) -> Result<i64, Failure> {
        if message.id.0.get_version_num() != 7 {
            return Err(Failure::Unfit(format!("{} is no id of a message", message.id)));
        }
        debug_assert_eq!(message.channel, self.id, "a message is written in its own channel");
        match known.choose_bucket(message.id, &bounds_of(database, &self.id)) {
            BucketChoice::In(bucket) => Ok(bucket),
            BucketChoice::New(bucket) => {
                by(deadline, self.begin_bucket(database, known, bucket, epoch, deadline)).await?;
                Ok(bucket)
            }
        }
    }

    /// Begins a bucket: adds it to the index first, then makes it the channel's newest. A crash in between leaves an
    /// empty bucket.
    pub async fn begin_bucket(
        &self,
        database: &DatabaseSession,
        known: &mut Known,
        bucket: i64,
        epoch: Epoch,
        deadline: Instant,
    ) -> Result<(), Failure> {
        for row in channels::put_bucket(&self.id, bucket, index_ttl(database, &self.id)) {
            let together = scylla::statement::batch::BatchType::Unlogged;
            let written = database.write(&[row], together, deadline).await;
            written.map_err(|failed: FailedAttempt| failed.failure())?;
        }
        if known.starts.last().is_none_or(|&newest| newest < bucket) {
            self.move_head(database, bucket, epoch, deadline).await?;
        }
        known.begin(bucket);
        self.learn(known.clone()).await;
        Ok(())
    }

    /// Makes a bucket the newest, unless a server with a later epoch has taken the channel.
    async fn move_head(
        &self,
        database: &DatabaseSession,
        bucket: i64,
        epoch: Epoch,
        deadline: Instant,
    ) -> Result<(), Failure> {
        let ours = i64::try_from(epoch.0).unwrap_or(i64::MAX);
        let to = Newest { owner_epoch: ours, head_bucket: bucket };
        let look = || database.decided(channels::newest(&self.id));
        let mutation = match look().await? {
            Some(found) if found.owner_epoch > ours => return Err(overtaken(&self.id, found.owner_epoch)),
            Some(found) if found.head_bucket >= bucket => return Ok(()),
            Some(found) => channels::move_newest(&self.id, found, to),
            None => channels::claim(&self.id, to),
        };
        let moved = || async { Ok(look().await? == Some(to)) };
        match database.decide(&mutation, deadline, moved).await {
            Ok(true) => Ok(()),
            Ok(false) => Err(overtaken(&self.id, i64::MAX)),
            Err(failed) => Err(failed.failure()),
        }
    }

    /// Runs `settled`, which makes the database agree with the answer; until it ends, the channel waits. The future's
    /// result is dropped last.
    pub fn settle_later<T: Send>(
        self: &Arc<Self>,
        database: &DatabaseSession,
        settled: impl Future<Output = T> + Send + 'static,
    ) {
        self.unsettled.fetch_add(1, Ordering::AcqRel);
        let channel = self.clone();
        database.runtime().spawn(async move {
            let _until_the_end = settled.await;
            channel.forget().await;
            channel.unsettled.fetch_sub(1, Ordering::AcqRel);
        });
    }

    /// Fails with [`Failure::Passing`] while a failed write of the channel may have left rows that have not been put
    /// right.
    pub fn check_settled(&self) -> Result<(), Failure> {
        if self.unsettled.load(Ordering::Acquire) == 0 {
            return Ok(());
        }
        Err(Failure::Passing("the channel waits until it is known what the database has of a failed write".into()))
    }
}

fn overtaken(channel: &ChannelId, owner: i64) -> Failure {
    Failure::Final(format!("another server has taken over {channel}: its epoch is {owner}"))
}

/// For how many seconds messages of a channel are kept; 0: for ever.
pub fn retention_seconds(database: &DatabaseSession, channel: &ChannelId) -> i64 {
    let retention = database.options().retention;
    let kept = match channel.kind() {
        ChannelKind::Room(_) => retention.room,
        ChannelKind::Group(_) => retention.group,
        ChannelKind::Direct(..) => retention.direct,
    };
    kept.map_or(0, |kept| i64::try_from(kept.as_secs()).unwrap_or(i64::MAX).max(1))
}

/// Seconds until a message of this time expires; 0: never.
fn remaining_seconds(database: &DatabaseSession, channel: &ChannelId, create_ns: i64) -> i32 {
    let kept = retention_seconds(database, channel);
    if kept == 0 {
        return 0;
    }
    // A message's time may be ahead of the clock. That does not make it live longer.
    let age = (database.clock.now_us() - create_ns / 1_000).max(0) / 1_000_000;
    i32::try_from((kept - age).clamp(1, TTL_MAX)).unwrap_or(i32::MAX)
}

/// The row of a message, which expires as its channel's messages do.
pub fn message_row(database: &DatabaseSession, message: &Message, bucket: i64) -> Mutation {
    messages::put(message, bucket, remaining_seconds(database, &message.channel, message.create_time.0))
}

/// Where history ends, if this is the newest message.
pub fn place_of(message: &Message) -> ChannelHead {
    ChannelHead { id: message.id, sequence: message.sequence }
}

/// Roughly the bytes that a message adds to its partition.
pub fn bytes_of(message: &Message) -> usize {
    const REST: usize = 100;
    REST + message.content.len() + message.username.len()
}

/// The longest time to live that both servers (Cassandra and ScyllaDB) accept: twenty years.
const TTL_MAX: i64 = 20 * 365 * 24 * 3600;

/// Time to live of the rows that lead to a bucket, in seconds; 0: for ever. It exceeds that of the last message that may
/// be written into the bucket.
pub fn index_ttl(database: &DatabaseSession, channel: &ChannelId) -> i32 {
    match retention_seconds(database, channel) {
        0 => 0,
        kept => {
            let more = bucket_age_ms(database, channel) / 1_000 + 24 * 3600;
            i32::try_from((kept + more).min(TTL_MAX)).unwrap_or(i32::MAX)
        }
    }
}

/// The age at which a bucket is closed: if messages expire, at most a tenth of the retention, so that whole partitions
/// expire.
fn bucket_age_ms(database: &DatabaseSession, channel: &ChannelId) -> i64 {
    let age = database.options().buckets.age_ms;
    match retention_seconds(database, channel) {
        0 => age,
        kept => age.min((kept.saturating_mul(100)).max(1)),
    }
}

/// The bounds of a channel's buckets.
pub fn bounds_of(database: &DatabaseSession, channel: &ChannelId) -> BucketBounds {
    BucketBounds { age_ms: bucket_age_ms(database, channel), ..database.options().buckets }
}

/// The cached channels: those used lately, and all that are in use. A channel must have only one lane, so a channel in
/// use keeps its object.
pub struct Channels(Mutex<Generations<ChannelId, Arc<CachedChannel>>>);

impl Default for Channels {
    fn default() -> Self {
        Self(Mutex::new(Generations::new(CHANNELS_MAX / 2, in_use)))
    }
}

impl Channels {
    /// The channel's object. It is made if it is not cached, and stays the same as long as it is in use.
    pub fn get(&self, id: &ChannelId) -> Arc<CachedChannel> {
        let mut channels = self.0.lock();
        if let Some(channel) = channels.get(id) {
            return channel.clone();
        }
        let channel = Arc::new(CachedChannel::new(id.clone()));
        channels.insert(id.clone(), channel.clone());
        channel
    }
}

fn in_use(channel: &Arc<CachedChannel>) -> bool {
    Arc::strong_count(channel) > 1 || channel.unsettled.load(Ordering::Acquire) > 0 || channel.queue.lock().running
}

#[cfg(test)]
mod tests {
    use engine::id::Sequence;
    use uuid::Uuid;

    use super::*;

    fn id(ms: i64) -> MessageId {
        MessageId(Uuid::from_u128((ms as u128) << 80 | 7 << 76 | 0b10 << 62))
    }

    fn known(starts: &[i64], head: i64, rows: u32) -> Known {
        let head = ChannelHead { id: id(head), sequence: Sequence(1) };
        let fill = Fill { rows, bytes: 0 };
        Known { starts: Arc::new(starts.to_vec()), head: Some(head), fill, emptied: Arc::default() }
    }

    #[test]
    fn a_message_lies_in_the_latest_bucket_that_has_begun() {
        for (ms, expected) in [(9, None), (10, Some(10)), (19, Some(10)), (20, Some(20)), (99, Some(20))] {
            assert_eq!(bucket_of(&[10, 20], ms), expected, "{ms}");
        }
        assert_eq!(bucket_of(&[], 5), None);
    }

    #[test]
    fn buckets_are_closed_by_size_and_age() {
        let bounds = BucketBounds { rows: 10, bytes: 1000, young_ms: 100, hard_factor: 4, age_ms: 1000 };
        let check = |known: &Known, ms, expected| assert_eq!(known.choose_bucket(id(ms), &bounds), expected, "{ms}");
        check(&known(&[10, 20], 30, 9), 150, BucketChoice::In(20));
        check(&known(&[10, 20], 30, 10), 119, BucketChoice::In(20));
        check(&known(&[10, 20], 30, 10), 120, BucketChoice::New(120));
        check(&known(&[10, 20], 30, 40), 31, BucketChoice::New(31));
        check(&known(&[10, 20], 30, 40), 30, BucketChoice::In(20));
        check(&known(&[10, 20], 30, 40), 15, BucketChoice::In(10));
        check(&known(&[10, 20], 30, 1), 1020, BucketChoice::New(1020));
        check(&known(&[10, 20], 30, 1), 5, BucketChoice::New(5));
        let mut bytes = known(&[20], 30, 1);
        bytes.fill.bytes = 1000;
        check(&bytes, 120, BucketChoice::New(120));
        check(
            &Known { starts: Arc::default(), head: None, fill: Fill::default(), emptied: Arc::default() },
            7,
            BucketChoice::New(7),
        );
    }

    #[test]
    fn a_bucket_begun_before_the_others_is_not_the_newest() {
        let mut kept = known(&[20], 30, 5);
        kept.begin(10);
        assert_eq!((&**kept.starts, kept.fill.rows), (&[10, 20][..], 5));
        kept.begin(40);
        assert_eq!((&**kept.starts, kept.fill.rows), (&[10, 20, 40][..], 0));
        kept.count(40, ChannelHead { id: id(41), sequence: Sequence(9) }, 7);
        kept.count(10, ChannelHead { id: id(11), sequence: Sequence(3) }, 7);
        assert_eq!(kept.head.map(|head| head.sequence), Some(Sequence(9)));
        assert_eq!(kept.fill, Fill { rows: 1, bytes: 7 });
        assert!(kept.head_row(&ChannelId::room("a").unwrap(), 10).is_none());
    }

    #[test]
    fn emptied_buckets_are_passed_until_a_message_comes_late() {
        let mut kept = known(&[10, 20, 40], 45, 1);
        let left = |kept: &Known| {
            let mut buckets = kept.starts.to_vec();
            kept.emptied.leave_out(&mut buckets);
            buckets
        };
        kept.emptied.note(10);
        kept.clone().emptied.note(20);
        assert_eq!(left(&kept), [40]);
        kept.count(20, ChannelHead { id: id(21), sequence: Sequence(3) }, 7);
        kept.emptied.note(20);
        assert_eq!(left(&kept), [20, 40], "a read that began before the message came finds nothing");
    }

    #[test]
    fn channels_in_use_stay_the_same() {
        let channels = Channels::default();
        let lobby = ChannelId::room("lobby").unwrap();
        let kept = channels.get(&lobby);
        for number in 0..2 * CHANNELS_MAX {
            channels.get(&ChannelId::room(&number.to_string()).unwrap());
        }
        assert!(Arc::ptr_eq(&kept, &channels.get(&lobby)));
        assert!(channels.0.lock().len() <= CHANNELS_MAX + 2);
    }
}
