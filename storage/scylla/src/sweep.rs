//! Removes, in the background, the remaining rows of deleted groups and users. These rows can no longer be reached. The
//! database notes what is still to be removed, so that a later start continues. This life of the server remembers what
//! it has deleted itself, so it reads these notes only when it begins, or after a failure: the notes that are removed
//! stay in the way of such a read for days.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use engine::id::{ChannelId, GroupId, UserId};
use scylla::statement::batch::BatchType;
use storage::Failure;
use storage::group::{Membership, RosterPlace};
use storage::object::{ObjectId, ReadPermission};
use storage::rows::Rows;
use uuid::Uuid;

use crate::change_scheduler::{Footprint, Subject};
use crate::cluster_store::ClusterStore;
use crate::database::{WRITE_PATIENCE, by, in_time};
use crate::draft::{Draft, Ending};
use crate::linked_rows::delete_membership;
use crate::pages::successor;
use crate::tables::leftovers::{self, Leftover};
use crate::tables::{
    Mutation, Query, blocked_by, channels, edges, friend_counts, friends, group_counts, group_members, group_rosters,
    inboxes, messages, notifications, object_counts, objects, public_objects, shards_of, user_groups,
};

/// Rows of a list that are removed at a time.
const ROWS_AT_ONCE: usize = 100;
/// How long a deletion may remove rows before it is answered, and how many. No other change runs meanwhile.
const AT_ONCE: Duration = Duration::from_secs(2);
const WRITES_AT_ONCE_MAX: usize = 100;
/// The same for the background: in effect no limit.
const FOREVER: Duration = Duration::from_secs(24 * 3600);
/// Pause before a failed sweep is retried.
const PAUSE: Duration = Duration::from_secs(10);

impl ClusterStore {
    /// Sweeps in the background, after a sweep that is already running. Retries until it succeeds, or until this server
    /// may not write any more.
    pub fn sweep(self: &Arc<Self>) {
        let store = Arc::downgrade(self);
        self.database.runtime().spawn(async move {
            while let Some(store) = store.upgrade() {
                let _one_at_a_time = store.sweeping.lock().await;
                match store.sweep_all(false).await {
                    Ok(()) => return,
                    Err(_) if store.check().is_err() => return,
                    Err(failure) => tracing::warn!(%failure, "rows that nothing leads to are not removed yet"),
                }
                drop(_one_at_a_time);
                drop(store);
                tokio::time::sleep(PAUSE).await;
            }
        });
    }

    /// Removes the rows that a deletion has just left, for as long as its caller may wait; the rest is removed in the
    /// background. Called from inside a change that may be about anything, so no other change runs meanwhile.
    pub async fn sweep_at_once(self: &Arc<Self>) {
        if let Ok(_one_at_a_time) = self.sweeping.try_lock()
            && self.sweep_all(true).await.is_ok()
        {
            return;
        }
        self.sweep();
    }

    /// Removes the rows of what is remembered, and of what the database has notes of if they were not read yet. With
    /// `alone` no other change is running: the sweep takes no turns in the change scheduler, reads no notes, and its time
    /// and its writes are bounded.
    pub async fn sweep_all(self: &Arc<Self>, alone: bool) -> Result<(), Failure> {
        let (time, writes) = if alone { (AT_ONCE, WRITES_AT_ONCE_MAX) } else { (FOREVER, usize::MAX) };
        let (until, writes_left) = (Instant::now() + time, AtomicUsize::new(writes));
        Sweep { store: self.clone(), alone, until, writes_left }.all().await
    }

    /// Has the next sweep read the database's notes again.
    pub fn read_notes_again(&self) {
        self.to_sweep.lock().read_notes_again();
    }
}

/// One sweep.
struct Sweep {
    store: Arc<ClusterStore>,
    alone: bool,
    until: Instant,
    /// How many writes it may still make.
    writes_left: AtomicUsize,
}

impl Sweep {
    async fn all(&self) -> Result<(), Failure> {
        // What fails keeps nothing else from being swept.
        let mut failed: Option<(Leftover, Failure)> = None;
        loop {
            let next = self.store.to_sweep.lock().first();
            let Some(leftover) = next.filter(|next| failed.as_ref().is_none_or(|(first, _)| first != next)) else {
                break;
            };
            let swept = self.sweep_leftover(leftover).await;
            // Only the running sweep forgets, and there is one at a time.
            match swept {
                Ok(()) => self.store.to_sweep.lock().forget_first(),
                Err(failure) if self.is_over() => return Err(failure),
                Err(failure) => {
                    self.store.to_sweep.lock().postpone_first();
                    failed.get_or_insert((leftover, failure));
                }
            }
        }
        let failed = failed.map_or(Ok(()), |(_, failure)| Err(failure));
        if self.alone || !self.store.to_sweep.lock().takes_notes() {
            return failed;
        }
        let swept = self.noted().await;
        if swept.is_err() {
            self.store.read_notes_again();
        }
        swept.and(failed)
    }

    /// Sweeps what the database has notes of.
    async fn noted(&self) -> Result<(), Failure> {
        type Page = (fn(Uuid, usize) -> Query<leftovers::Row>, fn(leftovers::Row) -> Leftover);
        let mut failed = Ok(());
        let kinds: [Page; 2] = [(leftovers::groups, leftovers::Row::group), (leftovers::users, leftovers::Row::user)];
        for (page, leftover) in kinds {
            let mut after = Uuid::nil();
            loop {
                let rows = by(self.until, self.store.database.all(page(after, ROWS_AT_ONCE))).await?;
                let is_last = rows.len() < ROWS_AT_ONCE;
                for leftover in rows.into_iter().map(leftover) {
                    if let Err(failure) = self.sweep_leftover(leftover).await {
                        failed = Err(failure);
                        if self.is_over() {
                            return failed;
                        }
                    }
                    after = leftover.id();
                }
                if is_last {
                    break;
                }
            }
        }
        failed
    }

    /// Whether it has no time left, or no writes.
    fn is_over(&self) -> bool {
        in_time(self.until).is_err() || self.writes_left.load(Ordering::Relaxed) == 0
    }

    /// Counts a write against the bound.
    fn spend(&self) -> Result<(), Failure> {
        in_time(self.until)?;
        let spent = self.writes_left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1));
        spent.map(|_| ()).map_err(|_| Failure::Passing("the rest is removed later".into()))
    }

    async fn sweep_leftover(&self, leftover: Leftover) -> Result<(), Failure> {
        match leftover {
            Leftover::Group { group, shards } => self.sweep_group(group, shards).await?,
            Leftover::User(user) => self.sweep_user(user).await?,
        }
        self.sweep_rows(&[leftovers::delete(leftover)]).await
    }

    /// The deadline of one write.
    fn deadline(&self) -> Instant {
        self.until.min(Instant::now() + WRITE_PATIENCE)
    }

    async fn sweep_rows(&self, mutations: &[Mutation]) -> Result<(), Failure> {
        for mutation in mutations {
            self.spend()?;
            let one = std::slice::from_ref(mutation);
            let written = self.store.database.write(one, BatchType::Unlogged, self.deadline()).await;
            written.map_err(|failed| failed.failure())?;
        }
        Ok(())
    }

    /// Removes a group's members and its channel's history.
    async fn sweep_group(&self, group: GroupId, shards: i32) -> Result<(), Failure> {
        let [mut first, _] = RosterPlace::span(None);
        let [_, last] = RosterPlace::span(Some(engine::social::group::Role::Banned));
        loop {
            let places = by(self.until, self.store.roster(group, shards, first, last, ROWS_AT_ONCE)).await?;
            for place in &places {
                self.sweep_membership(group, shards, *place).await?;
            }
            let next = places.last().filter(|_| places.len() == ROWS_AT_ONCE);
            match next.and_then(|next| Some(RosterPlace { id: successor(next.id)?, ..*next })) {
                Some(next) => first = next,
                None => break,
            }
        }
        for shard in 0..shards {
            self.sweep_rows(&[group_members::delete_shard(group, shard), group_rosters::delete_shard(group, shard)])
                .await?;
        }
        self.sweep_history(&ChannelId::group(group)).await
    }

    async fn sweep_history(&self, channel: &ChannelId) -> Result<(), Failure> {
        let channel = self.store.channels.get(channel);
        let known = by(self.until, channel.known(&self.store.database)).await?;
        for &bucket in known.starts.iter() {
            self.sweep_rows(&[messages::delete_bucket(&channel.id, bucket)]).await?;
        }
        let epochs = by(self.until, self.store.database.all(channels::epochs(&channel.id))).await?;
        for (epoch,) in epochs {
            self.sweep_rows(&[channels::delete_buckets(&channel.id, epoch)]).await?;
        }
        self.sweep_rows(&[channels::delete_epochs(&channel.id)]).await?;
        let release = channels::release(&channel.id);
        let is_gone = || async { Ok(self.store.database.decided(channels::newest(&channel.id)).await?.is_none()) };
        let gone = self.store.database.decide(&release, self.deadline(), is_gone).await;
        gone.map_err(|failed| failed.failure())?;
        channel.forget().await;
        Ok(())
    }

    /// Removes a user's bans, friends and blocks (both sides), notifications and objects.
    async fn sweep_user(&self, user: UserId) -> Result<(), Failure> {
        let [first, _] = RosterPlace::span(None);
        let [_, last] = RosterPlace::span(Some(engine::social::group::Role::Banned));
        loop {
            let places = self.store.places_of_user(user, first, last, ROWS_AT_ONCE);
            let places = by(self.until, places).await?;
            for place in &places {
                let group = GroupId(place.id);
                let shards = self.store.group_row(group).await?.map_or(1, |group| shards_of(&group));
                let membership = Membership { role: place.role, since: place.since };
                self.sweep_rows(&delete_membership(group, shards, user, membership)).await?;
            }
            if places.len() < ROWS_AT_ONCE {
                break;
            }
        }
        self.sweep_pairs(user, |after| {
            let page = self.store.database.all(edges::page(user, after, ROWS_AT_ONCE));
            async { Ok(page.await?.into_iter().map(|row| row.other_id).collect()) }
        })
        .await?;
        self.sweep_pairs(user, |after| {
            let page = self.store.database.all(blocked_by::page(user, after, ROWS_AT_ONCE));
            async { Ok(page.await?.into_iter().map(|(other,)| other).collect()) }
        })
        .await?;
        self.sweep_public_objects(user).await?;
        let rows = [
            objects::delete_all(user),
            object_counts::delete(user),
            user_groups::delete_all(user),
            group_counts::delete(user),
            edges::delete_all(user),
            friends::delete_all(user),
            friend_counts::delete(user),
            inboxes::delete(user),
            notifications::delete_all(user),
        ];
        self.sweep_rows(&rows).await
    }

    /// Removes the entries of a deleted user's public objects.
    async fn sweep_public_objects(&self, owner: UserId) -> Result<(), Failure> {
        let mut after = objects::Name::FIRST;
        loop {
            let rows = by(self.until, self.store.database.all(objects::names(owner, &after, ROWS_AT_ONCE))).await?;
            let is_last = rows.len() < ROWS_AT_ONCE;
            for row in rows {
                let read = row.read()?;
                after = row.name();
                if read == ReadPermission::Public {
                    let (collection, key) = (after.collection.clone(), after.key.clone());
                    self.sweep_rows(&[public_objects::delete(&ObjectId { owner, collection, key })]).await?;
                }
            }
            if is_last {
                return Ok(());
            }
        }
    }

    /// Removes the pairs of a deleted user with the others in a list, which `page` reads after an id.
    async fn sweep_pairs<F>(&self, gone: UserId, page: impl Fn(Uuid) -> F + Sync) -> Result<(), Failure>
    where
        F: Future<Output = Result<Vec<Uuid>, Failure>> + Send,
    {
        let mut after = Uuid::nil();
        loop {
            let others = page(after).await?;
            for &other in &others {
                self.sweep_pair(gone, UserId(other)).await?;
            }
            match others.last().filter(|_| others.len() == ROWS_AT_ONCE) {
                Some(&last) => after = last,
                None => return Ok(()),
            }
        }
    }

    /// Removes a membership in a deleted group, and corrects the member's count of groups.
    async fn sweep_membership(&self, group: GroupId, shards: i32, place: RosterPlace) -> Result<(), Failure> {
        let (user, gone) = (UserId(place.id), Membership { role: place.role, since: place.since });
        self.sweep_with(vec![Subject::User(user)], move |draft| draft.sweep_membership(group, shards, user, gone)).await
    }

    /// Removes both sides of a pair of which one user is deleted, and corrects the other user's friend counts.
    async fn sweep_pair(&self, gone: UserId, other: UserId) -> Result<(), Failure> {
        let sweep = move |draft: &mut Draft<'_>| {
            let own = draft.edge(gone, other)?;
            draft.set_edge(gone, other, own, None);
            if let Some(others) = draft.edge(other, gone)? {
                let friend_counts = draft.friend_counts(other)?;
                let state = others.state;
                draft.set_edge(other, gone, Some(others), None);
                draft.set_friend_counts(other, friend_counts.moved(Some(state), None));
            }
            Ok(())
        };
        self.sweep_with(vec![Subject::User(gone), Subject::User(other)], sweep).await
    }

    /// Carries out a change that removes rows about these subjects. Takes a turn in the change scheduler, unless
    /// `alone`.
    async fn sweep_with(
        &self,
        subjects: Vec<Subject>,
        sweep: impl FnOnce(&mut Draft<'_>) -> Result<(), Failure> + Send + 'static,
    ) -> Result<(), Failure> {
        self.spend()?;
        let footprint = Footprint::These(subjects);
        let turn = (!self.alone).then(|| self.store.change_scheduler.turn(footprint.clone()));
        if let Some(turn) = &turn {
            turn.come().await;
        }
        let (store, deadline) = (self.store.clone(), self.deadline());
        let swept = tokio::task::spawn_blocking(move || {
            let mut draft = Draft::new(&store, None, footprint, true, deadline);
            sweep(&mut draft)?;
            match draft.commit() {
                Ending::Done => Ok(()),
                Ending::Conflict => Err(Failure::Passing("others change the same".into())),
                // The next attempt removes what this one left.
                Ending::Failed(failure) | Ending::Unsettled(failure, _) => Err(failure),
            }
        });
        swept.await.map_err(|error| Failure::Passing(error.to_string()))?
    }
}
