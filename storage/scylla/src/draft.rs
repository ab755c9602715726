//! One change in the making: the rows that the rules look up, and the rows that they write, kept until the change is
//! complete.
//!
//! A change is carried out in three steps. First, lightweight transactions claim what must be unique or must not be
//! overbooked; each is decided before the next begins. Then everything else is written, all of it or nothing
//! (`intents.rs`). Then the names that are no longer used are released. If a crash in between leaves a name without its
//! owner, because the owner was never created, the name counts as free.

mod rows;

use std::cell::{Cell, RefCell};
use std::collections::{HashMap, HashSet};
use std::future::Future;
use std::hash::Hash;
use std::sync::Arc;
use std::time::{Duration, Instant};

use engine::id::{GroupId, NotificationId, Timestamp, UserId};
use engine::social::group::Role;
use scylla::value::{CqlValue, Row};
use storage::account::{Account, Revocation};
use storage::friend::{Edge, FriendCounts};
use storage::group::{Group, Membership};
use storage::inbox::Inbox;
use storage::object::ObjectCounts;
use storage::repeats::SentRequest;
use storage::rows::Rows;
use storage::{Failure, NAME_BYTES_MAX};
use tokio::task::JoinSet;
use uuid::Uuid;

use crate::change_scheduler::{Footprint, Subject};
use crate::channel::{CachedChannel, Known};
use crate::cluster_store::ClusterStore;
use crate::database::{DatabaseSession, WRITE_PATIENCE, by};
use crate::intents::{self, Whole};
use crate::linked_rows;
use crate::lists::List;
use crate::tables::group_seats::{self, Seats};
use crate::tables::leftovers::{self, Leftover};
use crate::tables::{Mutation, Query, big, group_counts, group_names, id, int, revocations, shards_of};

/// Most groups of one user that are read, to count them once or to leave them all: more than a user may have, including
/// some whose rows are still being removed.
const GROUPS_OF_USER_MAX: usize = 10_000;

/// Concurrent look-ups.
const LOOKS_AT_ONCE: usize = 32;

/// How often a release is retried, and the pause between attempts.
const RELEASES_MAX: usize = 1000;
const RELEASE_PAUSE: Duration = Duration::from_secs(5);

/// How a change ended.
pub enum Ending {
    Done,
    /// Another change has taken a name or a seat that it needs: decide it again.
    Conflict,
    /// Nothing was done.
    Failed(Failure),
    /// It failed, and is still to be undone.
    Unsettled(Failure, Whole),
}

/// A unique or scarce thing that is claimed before the rest is written.
struct Claim {
    mutation: Mutation,
    /// Reads the row.
    look: Query<Row>,
    /// The first columns of the row once the claim is applied.
    expected: Vec<CqlValue>,
    /// Releases the claim.
    release: Option<Mutation>,
}

/// A thing that is released after the rest is written.
struct Release {
    mutation: Mutation,
    /// Reads the row.
    look: Query<Row>,
    /// The owner until then.
    bearer: Option<CqlValue>,
}

/// In how many groups a user has a role other than banned.
#[derive(Clone, Copy, PartialEq, Eq)]
struct GroupCount {
    /// `None` if no count is stored.
    stored: Option<u32>,
    count: u32,
}

/// A cache of rows, as this change has read and written them.
type Seen<K, V> = RefCell<HashMap<K, Option<V>>>;

/// See the file's head.
pub struct Draft<'k> {
    store: &'k Arc<ClusterStore>,
    channel: Option<Arc<CachedChannel>>,
    footprint: Footprint,
    alone: bool,
    deadline: Instant,
    about_more: Cell<bool>,
    accounts: Seen<UserId, Account>,
    usernames: Seen<UserId, String>,
    groups: Seen<GroupId, Group>,
    members: Seen<(GroupId, UserId), Membership>,
    edges: Seen<(UserId, UserId), Edge>,
    friend_counts: Seen<UserId, FriendCounts>,
    group_counts: RefCell<HashMap<UserId, GroupCount>>,
    inboxes: Seen<UserId, Inbox>,
    object_counts: Seen<UserId, ObjectCounts>,
    notifications_removed: HashSet<NotificationId>,
    /// Names and credentials whose owner was never created.
    orphans: RefCell<HashMap<Subject, Uuid>>,
    known: Option<Known>,
    claims: Vec<Claim>,
    /// The mutations of the change, each with its undo.
    changes: Vec<(Mutation, Mutation)>,
    releases: Vec<Release>,
    /// What this change deletes, so that rows of it are left.
    leftovers: Vec<Leftover>,
    /// The requests that this change sends, and when.
    sent: Vec<(SentRequest, Timestamp)>,
    /// The lists from which this change removes an entry, once for each.
    removals: Vec<List>,
}

impl<'k> Draft<'k> {
    /// A draft without changes. The change must be decided by the deadline.
    pub fn new(
        store: &'k Arc<ClusterStore>,
        channel: Option<Arc<CachedChannel>>,
        footprint: Footprint,
        alone: bool,
        deadline: Instant,
    ) -> Self {
        Self {
            store,
            channel,
            footprint,
            alone,
            deadline,
            about_more: Cell::new(false),
            accounts: Seen::default(),
            usernames: Seen::default(),
            groups: Seen::default(),
            members: Seen::default(),
            edges: Seen::default(),
            friend_counts: Seen::default(),
            group_counts: RefCell::default(),
            inboxes: Seen::default(),
            object_counts: Seen::default(),
            notifications_removed: HashSet::new(),
            orphans: RefCell::default(),
            known: None,
            claims: Vec::new(),
            changes: Vec::new(),
            releases: Vec::new(),
            leftovers: Vec::new(),
            sent: Vec::new(),
            removals: Vec::new(),
        }
    }

    /// Whether the change failed because it touches a subject that it did not declare.
    pub fn is_about_more(&self) -> bool {
        self.about_more.get()
    }

    fn claim_group_name(&mut self, group: &Group) {
        let orphan = self.orphans.borrow().get(&Subject::GroupName(group.name.clone())).copied();
        let mutation = match orphan {
            None => group_names::claim(&group.name, group.id),
            Some(orphan) => group_names::take(&group.name, group.id, orphan),
        };
        self.claims.push(Claim {
            mutation,
            look: group_names::owner(&group.name).untyped(),
            expected: vec![id(group.id.0)],
            release: Some(group_names::release(&group.name, group.id)),
        });
    }

    fn release_group_name(&mut self, group: &Group) {
        self.releases.push(Release {
            mutation: group_names::release(&group.name, group.id),
            look: group_names::owner(&group.name).untyped(),
            bearer: Some(id(group.id.0)),
        });
    }

    /// Claims the new count of seats. The claim fails if another change has moved the version since it was read here.
    fn claim_seats(&mut self, group: &Group) -> Result<(), Failure> {
        let look = group_seats::one(group.id);
        let found = self.block(self.store.database.decided(look.clone()))?;
        let version = found.map_or(group_seats::FIRST_VERSION, |found| found.version + 1);
        let seats = Seats { edge_count: group.edge_count as i32, version };
        let mutation = match found {
            None => group_seats::claim(group.id, seats),
            Some(found) => group_seats::move_seats(group.id, found.version, seats),
        };
        let (look, expected) = (look.untyped(), vec![int(seats.edge_count), big(seats.version)]);
        self.claims.push(Claim { mutation, look, expected, release: None });
        Ok(())
    }

    /// In how many groups the user is: as the database has counted, or, for a user who was not counted yet, as many as
    /// are in the user's list. Then the count is stored with this change.
    fn group_count(&self, user: UserId) -> Result<GroupCount, Failure> {
        if let Some(known) = self.group_counts.borrow().get(&user) {
            return Ok(*known);
        }
        let stored = self.look(group_counts::one(user))?.map(|(count,)| count.max(0) as u32);
        let count = match stored {
            Some(count) => count,
            None => u32::try_from(Rows::groups_of(self, user)?.len()).unwrap_or(u32::MAX),
        };
        let known = GroupCount { stored, count };
        self.group_counts.borrow_mut().insert(user, known);
        Ok(known)
    }

    /// Counts a group more or less of a user.
    fn count_group(&mut self, user: UserId, change: i32) -> Result<(), Failure> {
        let GroupCount { stored, count } = self.group_count(user)?;
        let count = count.saturating_add_signed(change);
        self.group_counts.get_mut().insert(user, GroupCount { stored, count });
        Ok(())
    }

    /// Writes the counts of groups that have changed, and those that were not stored yet.
    fn write_group_counts(&mut self) {
        for (user, GroupCount { stored, count }) in std::mem::take(self.group_counts.get_mut()) {
            if stored != Some(count) {
                let undo = stored.map_or_else(|| group_counts::delete(user), |stored| group_counts::put(user, stored));
                self.write(group_counts::put(user, count), undo);
            }
        }
    }

    /// Notes that there is something to sweep.
    fn leave_over(&mut self, leftover: Leftover) {
        self.write(leftovers::put(leftover), leftovers::delete(leftover));
        self.leftovers.push(leftover);
    }

    /// Removes a membership in a group that is deleted, with its entries in the lists, and counts it no more.
    pub fn sweep_membership(
        &mut self,
        group: GroupId,
        shards: i32,
        user: UserId,
        gone: Membership,
    ) -> Result<(), Failure> {
        let puts = linked_rows::put_membership(group, shards, user, gone);
        self.write_all(linked_rows::delete_membership(group, shards, user, gone), puts);
        let stored = self.look(group_counts::one(user))?.map(|(count,)| count.max(0) as u32);
        if let Some(stored) = stored.filter(|_| gone.role != Role::Banned) {
            let count = GroupCount { stored: Some(stored), count: stored.saturating_sub(1) };
            self.group_counts.get_mut().insert(user, count);
        }
        Ok(())
    }

    fn write(&mut self, mutation: Mutation, undo: Mutation) {
        debug_assert!(!mutation.statement.is_conditional(), "{:?} is a claim", mutation.statement);
        debug_assert!(!undo.statement.is_conditional(), "{:?} is a release", undo.statement);
        self.changes.push((mutation, undo));
    }

    /// Each mutation has the undo in the same place.
    fn write_all(&mut self, mutations: impl IntoIterator<Item = Mutation>, undo: impl IntoIterator<Item = Mutation>) {
        let (mutations, undo) = (Vec::from_iter(mutations), Vec::from_iter(undo));
        assert_eq!(mutations.len(), undo.len(), "a mutation without an undo would stay after a crash: {mutations:?}");
        for (mutation, undo) in mutations.into_iter().zip(undo) {
            self.write(mutation, undo);
        }
    }

    /// Blocks this thread, which is one that may block.
    fn block<T>(&self, asked: impl Future<Output = Result<T, Failure>>) -> Result<T, Failure> {
        self.store.database.runtime().block_on(by(self.deadline, asked))
    }

    fn look<R>(&self, query: Query<R>) -> Result<Option<R>, Failure>
    where
        R: for<'f, 'm> scylla::deserialize::row::DeserializeRow<'f, 'm>,
    {
        self.block(self.store.database.one(query))
    }

    fn seen<K: Eq + Hash, V: Clone>(
        seen: &Seen<K, V>,
        key: K,
        find: impl FnOnce() -> Result<Option<V>, Failure>,
    ) -> Result<Option<V>, Failure> {
        if let Some(kept) = seen.borrow().get(&key) {
            return Ok(kept.clone());
        }
        let found = find()?;
        seen.borrow_mut().insert(key, found.clone());
        Ok(found)
    }

    /// Notes that this change is to be decided again, alone, if it did not declare the subject.
    fn announce(&self, subject: &Subject) -> Result<(), Failure> {
        let announced = match &self.footprint {
            Footprint::These(subjects) => subjects.contains(subject),
            Footprint::Anything => true,
            Footprint::Question(_) => false,
        };
        if announced || self.alone {
            return Ok(());
        }
        self.about_more.set(true);
        Err(Failure::Passing("to be done alone".into()))
    }

    /// The shards of a group whose members this change moves. The rules read a group before they decide on its members,
    /// so it is among the rows that this change has seen.
    fn shards(&self, group: GroupId) -> i32 {
        let groups = self.groups.borrow();
        let group = groups.get(&group).and_then(Option::as_ref);
        shards_of(group.expect("a group is read before its members are changed"))
    }

    /// Carries out the change.
    pub fn commit(mut self) -> Ending {
        self.write_group_counts();
        if self.claims.is_empty() && self.changes.is_empty() && self.releases.is_empty() {
            return Ending::Done;
        }
        let runtime = self.store.database.runtime().clone();
        runtime.block_on(self.carry_out())
    }

    async fn carry_out(mut self) -> Ending {
        if let Err(failure) = intents::check_size(&self.changes) {
            return Ending::Failed(failure);
        }
        let mut claimed = Vec::new();
        for claim in std::mem::take(&mut self.claims) {
            match self.claim(&claim).await {
                Ok(true) => claimed.push(claim),
                Ok(false) => {
                    self.give_back(claimed);
                    return Ending::Conflict;
                }
                Err(failure) => {
                    claimed.push(claim);
                    self.give_back(claimed);
                    return Ending::Failed(failure);
                }
            }
        }
        if let (Some(channel), Some(known)) = (&self.channel, &self.known) {
            let bucket = known.starts.last().copied().unwrap_or_default();
            let head = known.head_row(&channel.id, bucket);
            // Writing the head again as its own undo is harmless.
            self.changes.extend(head.map(|head| (head.clone(), head)));
        }
        let whole = Whole::of(std::mem::take(&mut self.changes), &self.store.database);
        if let Err((failure, left)) = self.store.intents.write(whole, self.deadline).await {
            self.give_back(claimed);
            return match left {
                None => Ending::Failed(failure),
                Some(left) => Ending::Unsettled(failure, left),
            };
        }
        if let (Some(channel), Some(known)) = (&self.channel, &self.known) {
            channel.learn(known.clone()).await;
        }
        for release in std::mem::take(&mut self.releases) {
            self.release(release).await;
        }
        let mut to_sweep = self.store.to_sweep.lock();
        self.leftovers.drain(..).for_each(|leftover| to_sweep.remember(leftover));
        drop(to_sweep);
        self.store.rewrite_some(std::mem::take(&mut self.removals));
        let mut sent = self.store.sent.lock();
        self.sent.drain(..).for_each(|(request, time)| sent.note(request, time));
        Ending::Done
    }

    async fn claim(&self, claim: &Claim) -> Result<bool, Failure> {
        let is_ours = || async {
            let found = self.store.database.decided(claim.look.clone()).await?;
            let columns = found.as_ref().map_or(usize::MAX, |row: &Row| row.columns.len());
            debug_assert!(claim.expected.len() <= columns, "a claim expects columns that its look reads");
            let begins = |found: Row| {
                found.columns.into_iter().zip(&claim.expected).all(|(one, other)| one.as_ref() == Some(other))
            };
            Ok(found.is_some_and(begins))
        };
        match self.store.database.decide(&claim.mutation, self.deadline, is_ours).await {
            Ok(applied) => Ok(applied),
            Err(failed) => Err(failed.failure()),
        }
    }

    /// Releases claims of a change that failed. If the database is away they stay, and later count as free, because no
    /// owner uses them.
    fn give_back(&self, claimed: Vec<Claim>) {
        for release in claimed.into_iter().filter_map(|claim| claim.release) {
            let database = self.store.database.clone();
            self.store.database.runtime().spawn(async move {
                let deadline = Instant::now() + WRITE_PATIENCE;
                let _ = database.decide(&release, deadline, || async { Ok(false) }).await;
            });
        }
    }

    /// Releases a name or credential. If that does not succeed in time it counts as free anyway: the account no longer
    /// has it.
    async fn release(&self, release: Release) {
        let database = self.store.database.clone();
        if release.try_on(&database, self.deadline).await {
            return;
        }
        self.store.database.runtime().spawn(async move {
            for _ in 0..RELEASES_MAX {
                if release.try_on(&database, Instant::now() + WRITE_PATIENCE).await {
                    return;
                }
                tokio::time::sleep(RELEASE_PAUSE).await;
            }
        });
    }
}

impl Release {
    async fn try_on(&self, database: &DatabaseSession, deadline: Instant) -> bool {
        let is_free = || async {
            let found = database.decided(self.look.clone()).await?;
            let found = found.and_then(|row| row.columns.into_iter().next().flatten());
            Ok(found.is_none() || (self.bearer.is_some() && found != self.bearer))
        };
        database.decide(&self.mutation, deadline, is_free).await.is_ok()
    }
}

/// Whether a text may be a key of the tables of names: 1 to `NAME_BYTES_MAX` bytes.
pub fn is_name(name: &str) -> bool {
    (1..=NAME_BYTES_MAX).contains(&name.len())
}

/// For each of these, the stored revocation of the same token or user.
async fn stored_revocations(
    store: &Arc<ClusterStore>,
    revocations: &[Revocation],
) -> Result<Vec<Option<Revocation>>, Failure> {
    let mut stored = vec![None; revocations.len()];
    for (some, stored) in revocations.chunks(LOOKS_AT_ONCE).zip(stored.chunks_mut(LOOKS_AT_ONCE)) {
        let mut looks = JoinSet::new();
        for (place, &revocation) in some.iter().enumerate() {
            let store = store.clone();
            looks.spawn(async move {
                let found = store.database.one(revocations::time_of(&revocation)).await?;
                Ok((place, found.map(|(time,)| revocation.at(Timestamp(time)))))
            });
        }
        while let Some(looked) = looks.join_next().await {
            let (place, found) = looked.map_err(|error| Failure::Passing(error.to_string()))??;
            stored[place] = found;
        }
    }
    Ok(stored)
}
