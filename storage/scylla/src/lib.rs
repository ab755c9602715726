//! The store for large installations: a cluster of ScyllaDB or Cassandra nodes, over CQL.
//!
//! Messages are kept in partitions of a channel and a bucket (`channel.rs`), which are bounded in rows, bytes and age.
//! Each channel has a lane (`lane.rs`), which writes its messages in order, in batches of one partition. Changes of
//! accounts, groups and friends run concurrently if they are about different ones (`change_scheduler.rs`, `changes.rs`, `draft.rs`);
//! the same rules as in every store decide them. So this store takes writes one by one (`Lanes`) and answers each when
//! it is decided. When `commit` gets a group of writes, each write is a group of its own, and may fail alone.
//!
//! All reads and writes are at the quorum of the nearest data centre. Every cell has a timestamp that this store sets,
//! so that a repeated write is the same write. The session is made in the background. A request fails with
//! `Failure::Passing`, at once or within seconds, while there is no session or the database is away.
//!
//! Only one server may use a keyspace at a time (`lease.rs`). The store runs on tokio, on its own threads.

mod change_scheduler;
mod changes;
mod channel;
mod clock;
mod cluster_store;
mod database;
mod draft;
mod entry;
mod export;
mod history_span;
mod intents;
mod lane;
mod lease;
mod linked_rows;
mod lists;
mod objects;

pub mod options;
mod outcome;
mod pages;
mod queue;
mod rewrites;
pub mod schema;
mod sharing;
mod statements;
mod sweep;
mod tables;
mod to_sweep;
mod transfer;
mod written;

use std::future::Future;
use std::sync::Arc;
use std::time::{Duration, Instant};

use engine::id::{ChannelId, Epoch, GroupId, MessageId, NotificationId, Timestamp, UserId};
use engine::message::Message;
use engine::persist::ChannelHead;
use engine::social::friend::{FriendState, Sides};
use engine::social::group::Role;
use engine::social::notification::Notification;
use storage::account::{Account, Credential, CredentialOwner, Expiry, Profile, Revocation, RevocationPlace};
use storage::friend::{Friend, FriendPlace};
use storage::group::{Group, GroupFilter, GroupPage, GroupPlace, RosterPlace};
use storage::object::{Object, ObjectCounts, ObjectId, ObjectListing, ObjectPlace, is_object_name};
use storage::{
    Answer, Failure, Lanes, PLACEMENT_KEY_BYTES, PageStart, Part, Store, Submission, Write, Written, WrittenPlace, span,
};
use tokio::runtime::Runtime;

use cluster_store::ClusterStore;
use database::{DatabaseSession, READ_PATIENCE};
use draft::is_name;
use options::ScyllaOptions;
use pages::successor;
use tables::revocations::{self, TokenRow};
use tables::{
    Query, account_deletions, authored, credentials, edges, friends, group_members, shards_of, usernames, users,
};

/// The driver's threads: they mostly wait.
const WORKER_THREADS: usize = 2;
/// Threads that decide changes. Each of them waits for rows most of the time.
const DECIDING_THREADS: usize = 64;
/// Threads of the bridge that may wait for reads.
const READERS: usize = 16;
/// Writes of one `commit` call that are in flight.
const COMMIT_WINDOW: usize = 128;
/// How long dropping the store waits for the work in flight to end.
const SHUTDOWN_PATIENCE: Duration = Duration::from_secs(1);

/// A store in a cluster.
pub struct Scylla {
    store: Arc<ClusterStore>,
    /// `None` if this is only a view for queries.
    runtime: Option<Runtime>,
    /// Queries that are not answered by then fail.
    until: Option<Instant>,
}

impl Scylla {
    /// Begins to connect, without waiting for the database: if it cannot be reached, later requests fail. `wall` is the
    /// clock that gives the writes their time.
    pub fn open(options: ScyllaOptions, wall: fn() -> Timestamp) -> Result<Self, Failure> {
        let runtime = runtime()?;
        let database = DatabaseSession::begin(options, wall, runtime.handle().clone());
        Ok(Self { store: ClusterStore::begin(database), runtime: Some(runtime), until: None })
    }

    /// How many requests were sent to the database so far.
    pub fn requests(&self) -> u64 {
        self.store.database.requests()
    }

    /// Removes the remaining rows of deleted things, and waits until that is done.
    pub fn sweep_now(&self) -> Result<(), Failure> {
        self.store.read_notes_again();
        self.wait(self.store.sweep_all(false))
    }

    fn wait<T>(&self, asked: impl Future<Output = Result<T, Failure>>) -> Result<T, Failure> {
        self.store.database.runtime().block_on(asked)
    }

    /// Begins a new life: takes the keyspace, if no other server has it, undoes changes that the last life left
    /// unfinished, and returns the next epoch.
    async fn begin_life(&self) -> Result<Epoch, Failure> {
        self.store.check_moved().await?;
        let epoch = self.store.lease.take().await?;
        self.store.intents.end_all().await?;
        self.store.set_epoch(epoch);
        Ok(epoch)
    }

    /// Runs a query of a shard or a handler, which must not wait long.
    fn ask<T>(&self, asked: impl Future<Output = Result<T, Failure>>) -> Result<T, Failure> {
        let patience = Instant::now() + READ_PATIENCE;
        let deadline = self.until.map_or(patience, |until| until.min(patience));
        database::in_time(deadline)?;
        self.wait(database::by(deadline, asked))
    }

    /// Reads the single row of a look-up.
    fn one<R>(&self, query: Query<R>) -> Result<Option<R>, Failure>
    where
        R: for<'f, 'm> scylla::deserialize::row::DeserializeRow<'f, 'm>,
    {
        self.ask(self.store.database.one(query))
    }

    fn state_of(&self, user: UserId, other: UserId) -> Result<Option<FriendState>, Failure> {
        let row = self.one(edges::one(user, other))?;
        Ok(row.map(edges::Row::edge).transpose()?.map(|edge| edge.state))
    }
}

/// Brings a database to this program's schema version and records the time. Returns the version that it had before.
pub fn apply_schema(options: &ScyllaOptions, now: Timestamp) -> Result<i32, Failure> {
    let runtime = runtime()?;
    runtime.block_on(async {
        let session = database::session(options).await?;
        schema::apply(&session, options, now).await
    })
}

fn runtime() -> Result<Runtime, Failure> {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(WORKER_THREADS)
        .max_blocking_threads(DECIDING_THREADS)
        .thread_name("store-cql")
        .enable_all()
        .build()
        .map_err(|error| Failure::Final(format!("starting the database's threads failed: {error}")))
}

impl Drop for Scylla {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            let _ = self.store.database.close();
            // Work in flight fails now, and its threads end before the clock that they wait by.
            self.store.drain();
            runtime.block_on(async { drop(self.store.sweeping.lock().await) });
            runtime.shutdown_timeout(SHUTDOWN_PATIENCE);
        }
    }
}

impl ClusterStore {
    /// A view of the whole store that answers queries until the given time.
    fn view(self: &Arc<Self>, until: Instant) -> Scylla {
        Scylla { store: self.clone(), runtime: None, until: Some(until) }
    }
}

impl Lanes for Scylla {
    fn take(&self, submissions: Vec<Submission>) {
        self.store.take(submissions);
    }

    fn drain(&self) {
        self.store.drain();
    }
}

impl Store for Scylla {
    fn next_epoch(&self) -> Result<Epoch, Failure> {
        let epoch = self.wait(self.begin_life())?;
        self.store.sweep();
        Ok(epoch)
    }

    fn placement_key(&self, candidate: [u8; PLACEMENT_KEY_BYTES]) -> Result<[u8; PLACEMENT_KEY_BYTES], Failure> {
        self.wait(self.store.database.placement_key(candidate))
    }

    fn commit(&self, writes: &[Write]) -> Result<Vec<Result<Written, Failure>>, Failure> {
        self.store.database.check_open()?;
        let (answers, answered) = flume::bounded(writes.len());
        let mut written = Vec::with_capacity(writes.len());
        for (place, write) in writes.iter().enumerate() {
            // Bounds the writes in flight, so that the last of them is reached before its deadline.
            while place - written.len() >= COMMIT_WINDOW {
                written.extend(answered.recv().ok());
            }
            let answers = answers.clone();
            let answer: Answer = Box::new(move |done| {
                let _ = answers.send((place, done));
            });
            self.store.take(vec![Submission::Write(write.clone(), answer)]);
        }
        drop(answers);
        written.extend(answered);
        written.sort_unstable_by_key(|(place, _)| *place);
        debug_assert!(written.iter().map(|(place, _)| *place).eq(0..writes.len()), "each write is answered once");
        Ok(written.into_iter().map(|(_, done)| done).collect())
    }

    fn lanes(&self) -> Option<&dyn Lanes> {
        Some(self)
    }

    fn readers(&self) -> usize {
        READERS
    }

    fn until(&self, deadline: Instant) -> Option<Box<dyn Store>> {
        Some(Box::new(self.store.view(deadline)))
    }

    /// The rows that the database has returned. It does not say how many removed ones it has passed.
    fn rows_read(&self) -> u64 {
        self.store.database.rows()
    }

    fn unready(&self) -> Option<String> {
        if !self.store.database.is_ready() {
            return Some("the database does not answer".into());
        }
        self.store.check().err().map(|failure| failure.to_string())
    }

    fn head(&self, channel: &ChannelId) -> Result<Option<ChannelHead>, Failure> {
        let channel = self.store.channels.get(channel);
        channel.check_settled()?;
        Ok(self.ask(channel.known(&self.store.database))?.head)
    }

    fn message(&self, channel: &ChannelId, message: MessageId) -> Result<Option<Message>, Failure> {
        let channel = self.store.channels.get(channel);
        channel.check_settled()?;
        Ok(self.ask(self.store.stored(&channel, message))?.map(|found| found.message))
    }

    fn messages_part(
        &self,
        channel: &ChannelId,
        from: PageStart,
        limit: usize,
    ) -> Result<Part<Message, MessageId>, Failure> {
        self.store.database.check_open()?;
        self.ask(self.store.shared_page(channel, from, limit))
    }

    fn credential(&self, credential: &Credential) -> Result<Option<CredentialOwner>, Failure> {
        if !is_name(&credential.ident) {
            return Ok(None);
        }
        let Some(row) = self.one(credentials::owner(credential))? else { return Ok(None) };
        let owner = row.owner();
        // The credential belongs to no user if it was claimed for an account that was never created, or released by an
        // account that no longer has it.
        let account = self.account(owner.user)?;
        let is_borne = account.is_some_and(|account| account.bears(credential));
        Ok(is_borne.then_some(owner))
    }

    fn account(&self, user: UserId) -> Result<Option<Account>, Failure> {
        self.ask(self.store.account_row(user))
    }

    fn profile(&self, user: UserId) -> Result<Option<Profile>, Failure> {
        Ok(self.one(users::profile(user))?.map(|row| row.profile(user)))
    }

    fn has_account(&self, user: UserId) -> Result<bool, Failure> {
        Ok(self.one(users::username_of(user))?.is_some())
    }

    fn user_by_username(&self, username: &str) -> Result<Option<UserId>, Failure> {
        if !is_name(username) {
            return Ok(None);
        }
        let Some((user,)) = self.one(usernames::owner(username))? else { return Ok(None) };
        let name = self.one(users::username_of(UserId(user)))?;
        Ok(name.filter(|(name,)| name == username).map(|_| UserId(user)))
    }

    fn group(&self, group: GroupId) -> Result<Option<Group>, Failure> {
        self.ask(self.store.group_row(group))
    }

    fn group_page(&self, filter: &GroupFilter, after: Option<&GroupPlace>, limit: usize) -> Result<GroupPage, Failure> {
        self.ask(self.store.browse(filter, after, limit))
    }

    /// A deleted group has no roles, even if its member rows are not removed yet.
    fn group_role(&self, group: GroupId, user: UserId) -> Result<Option<Role>, Failure> {
        let Some(kept) = self.group(group)? else { return Ok(None) };
        let row = self.one(group_members::one(group, shards_of(&kept), user))?;
        Ok(row.map(group_members::Row::membership).transpose()?.map(|membership| membership.role))
    }

    fn group_members_part(
        &self,
        group: GroupId,
        role: Option<Role>,
        after: Option<RosterPlace>,
        limit: usize,
    ) -> Result<Part<(UserId, RosterPlace), RosterPlace>, Failure> {
        let Some([first, last]) = roster_bounds(role, after).filter(|_| limit > 0) else {
            return Ok(Part::whole(Vec::new()));
        };
        self.ask(self.store.group_members(group, first, last, limit)).map(Part::whole)
    }

    fn user_groups_part(
        &self,
        user: UserId,
        role: Option<Role>,
        after: Option<RosterPlace>,
        limit: usize,
    ) -> Result<Part<(Group, RosterPlace), RosterPlace>, Failure> {
        let Some([first, last]) = roster_bounds(role, after).filter(|_| limit > 0) else {
            return Ok(Part::whole(Vec::new()));
        };
        self.ask(self.store.user_groups(user, first, last, limit))
    }

    fn sides(&self, user: UserId, other: UserId) -> Result<Sides, Failure> {
        Ok(Sides { own: self.state_of(user, other)?, others: self.state_of(other, user)? })
    }

    fn friends_part(
        &self,
        user: UserId,
        state: Option<FriendState>,
        after: Option<FriendPlace>,
        limit: usize,
    ) -> Result<Part<(Friend, FriendPlace), FriendPlace>, Failure> {
        let Some((from, to)) = span(FriendPlace::span(state), after).filter(|_| limit > 0) else {
            return Ok(Part::whole(Vec::new()));
        };
        let first = match from {
            std::ops::Bound::Excluded(place) => match successor(place.user.0) {
                Some(next) => FriendPlace { user: UserId(next), ..place },
                None => return Ok(Part::whole(Vec::new())),
            },
            std::ops::Bound::Included(place) => place,
            std::ops::Bound::Unbounded => FriendPlace::span(state)[0],
        };
        let (std::ops::Bound::Included(last) | std::ops::Bound::Excluded(last)) = to else {
            return Ok(Part::whole(Vec::new()));
        };
        let rows = self.ask(self.store.database.all(friends::between(user, [first, last], limit)))?;
        let friends = rows.into_iter().map(friends::Row::friend);
        Ok(Part::whole(friends.collect::<Result<_, Failure>>()?))
    }

    fn edge_count(&self, user: UserId) -> Result<u32, Failure> {
        Ok(self.ask(self.store.friend_counts(user))?.map_or(0, |friend_counts| friend_counts.friends))
    }

    fn notifications_part(
        &self,
        user: UserId,
        after: Option<NotificationId>,
        limit: usize,
    ) -> Result<Part<Notification, NotificationId>, Failure> {
        if limit == 0 {
            return Ok(Part::whole(Vec::new()));
        }
        // Start behind the newest notification that was removed to make room: before it there are only tombstones.
        let floor = self.ask(self.store.inbox(user))?.and_then(|inbox| inbox.floor);
        self.ask(self.store.notifications_after(user, after.max(floor), limit)).map(Part::whole)
    }

    fn objects(&self, ids: &[ObjectId]) -> Result<Vec<Object>, Failure> {
        self.ask(self.store.objects_named(ids))
    }

    fn objects_part(
        &self,
        listing: &ObjectListing,
        after: Option<&ObjectPlace>,
        limit: usize,
    ) -> Result<Part<Object, ObjectPlace>, Failure> {
        if limit == 0 || !is_object_name(listing.collection()) {
            return Ok(Part::whole(Vec::new()));
        }
        match listing.owner() {
            Some(owner) => self.ask(self.store.objects_of(owner, listing, after, limit)),
            None => self.ask(self.store.public_objects(listing.collection(), after, limit)),
        }
    }

    fn object_counts(&self, owner: UserId) -> Result<ObjectCounts, Failure> {
        Ok(self.ask(self.store.object_counts(owner))?.unwrap_or_default())
    }

    fn channels_written(
        &self,
        user: UserId,
        after: Option<&ChannelId>,
        limit: usize,
    ) -> Result<Vec<ChannelId>, Failure> {
        if limit == 0 {
            return Ok(Vec::new());
        }
        let after = after.map_or("", ChannelId::as_str);
        let names = self.ask(self.store.channels_written(user, after, limit))?;
        names.iter().map(|name| authored::channel(name)).collect()
    }

    fn written_part(
        &self,
        user: UserId,
        floor: Option<MessageId>,
        from: Option<WrittenPlace>,
        limit: usize,
    ) -> Result<Part<(ChannelId, MessageId), WrittenPlace>, Failure> {
        self.store.database.check_open()?;
        self.ask(self.store.written_part(user, floor, from, limit))
    }

    fn account_deletions(&self, limit: usize) -> Result<Vec<UserId>, Failure> {
        let rows = self.ask(self.store.database.all(account_deletions::first(limit)))?;
        Ok(rows.into_iter().take(limit).map(|(user,)| UserId(user)).collect())
    }

    fn revocations(&self) -> Result<Vec<Revocation>, Failure> {
        let mut rows = self.ask(self.store.database.scan(revocations::all()))?;
        rows.sort_unstable();
        rows.into_iter().map(revocations::Row::revocation).collect()
    }

    /// Rows are stored in the order of their hashes (tokens), and are examined in that order.
    fn expired_revocations(
        &self,
        expiry: Expiry,
        after: Option<&RevocationPlace>,
        limit: usize,
    ) -> Result<(Vec<Revocation>, Option<RevocationPlace>), Failure> {
        if limit == 0 {
            return Ok((Vec::new(), None));
        }
        let first = after.and_then(|place| place.0.as_slice().try_into().ok()).map_or(i64::MIN, i64::from_be_bytes);
        let rows = self.ask(self.store.database.all(revocations::after(first, limit)))?;
        let last = rows.last().filter(|_| rows.len() == limit);
        let next = last.map(|row| RevocationPlace(row.token.to_be_bytes().into()));
        let mut found = rows.into_iter().map(TokenRow::revocation).collect::<Result<Vec<_>, _>>()?;
        found.retain(|revocation| expiry.covers(revocation));
        Ok((found, next))
    }

    fn close(&self) -> Result<(), Failure> {
        self.store.database.check_open()?;
        self.store.drain();
        let left: Result<(), Failure> = self.wait(async {
            self.store.lease.leave().await;
            Ok(())
        });
        left.and(self.store.database.close())
    }
}

/// The first and the last place of the requested part of a list.
fn roster_bounds(role: Option<Role>, after: Option<RosterPlace>) -> Option<[RosterPlace; 2]> {
    use std::ops::Bound::{Excluded, Included, Unbounded};
    let (from, to) = span(RosterPlace::span(role), after)?;
    let first = match from {
        Excluded(place) => RosterPlace { id: successor(place.id)?, ..place },
        Included(place) => place,
        Unbounded => RosterPlace::span(role)[0],
    };
    match to {
        Included(last) | Excluded(last) => Some([first, last]),
        Unbounded => None,
    }
}
