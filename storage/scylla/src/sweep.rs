//! Removes, in the background, the remaining rows of deleted groups and users. These rows can no longer be reached. The
//! database notes what is still to be removed, so that a later start continues.

use std::sync::Arc;
use std::time::{Duration, Instant};

use engine::id::{ChannelId, GroupId, UserId};
use scylla::statement::batch::BatchType;
use storage::Failure;
use storage::group::RosterPlace;
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
    Mutation, blocked_by, channels, edges, friend_counts, friends, group_members, group_rosters, inboxes, messages,
    notifications, shards_of, user_groups,
};

/// Rows of a list that are removed at a time.
const ROWS_AT_ONCE: usize = 100;
/// How long a deletion may remove rows before it is answered.
const AT_ONCE: Duration = Duration::from_secs(2);
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

    /// Removes all rows that are noted as leftovers. With `alone` no other change is running: the sweep takes no turns
    /// in the change scheduler, and its time is short.
    pub async fn sweep_all(self: &Arc<Self>, alone: bool) -> Result<(), Failure> {
        let until = Instant::now() + if alone { AT_ONCE } else { FOREVER };
        Sweep { store: self.clone(), alone, until }.all().await
    }
}

/// One sweep.
struct Sweep {
    store: Arc<ClusterStore>,
    alone: bool,
    until: Instant,
}

impl Sweep {
    async fn all(&self) -> Result<(), Failure> {
        let groups = by(self.until, self.store.database.all(leftovers::groups())).await?;
        for leftover in groups.into_iter().map(leftovers::Row::group) {
            self.sweep_leftover(leftover).await?;
        }
        let users = by(self.until, self.store.database.all(leftovers::users())).await?;
        for leftover in users.into_iter().map(leftovers::Row::user) {
            self.sweep_leftover(leftover).await?;
        }
        Ok(())
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
        in_time(self.until)?;
        for mutation in mutations {
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
                let membership = storage::group::Membership { role: place.role, since: place.since };
                self.sweep_rows(&delete_membership(group, shards, UserId(place.id), membership)).await?;
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

    /// Removes a user's bans, friends and blocks (both sides), and notifications.
    async fn sweep_user(&self, user: UserId) -> Result<(), Failure> {
        let [first, _] = RosterPlace::span(None);
        let [_, last] = RosterPlace::span(Some(engine::social::group::Role::Banned));
        loop {
            let places = self.store.places_of_user(user, first, last, ROWS_AT_ONCE);
            let places = by(self.until, places).await?;
            for place in &places {
                let group = GroupId(place.id);
                let shards = self.store.group_row(group).await?.map_or(1, |group| shards_of(&group));
                let membership = storage::group::Membership { role: place.role, since: place.since };
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
        let rows = [
            user_groups::delete_all(user),
            edges::delete_all(user),
            friends::delete_all(user),
            friend_counts::delete(user),
            inboxes::delete(user),
            notifications::delete_all(user),
        ];
        self.sweep_rows(&rows).await
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

    /// Removes both sides of a pair of which one user is deleted, and corrects the other user's friend counts. Takes a
    /// turn in the change scheduler, unless `alone`.
    async fn sweep_pair(&self, gone: UserId, other: UserId) -> Result<(), Failure> {
        in_time(self.until)?;
        let footprint = Footprint::These(vec![Subject::User(gone), Subject::User(other)]);
        let turn = (!self.alone).then(|| self.store.change_scheduler.turn(footprint.clone()));
        if let Some(turn) = &turn {
            turn.come().await;
        }
        let (store, deadline) = (self.store.clone(), self.deadline());
        let swept = tokio::task::spawn_blocking(move || {
            let mut draft = Draft::new(&store, None, footprint, true, deadline);
            let own = draft.edge(gone, other)?;
            draft.set_edge(gone, other, own, None);
            if let Some(others) = draft.edge(other, gone)? {
                let friend_counts = draft.friend_counts(other)?;
                draft.set_edge(other, gone, Some(others), None);
                draft.set_friend_counts(other, friend_counts.moved(Some(others.state), None));
            }
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
