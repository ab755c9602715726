//! Writes a list anew, so that the marks of its removed entries (tombstones) go. The database keeps such a mark for ten
//! days, each read of the list passes it, and Cassandra refuses a read that passes 100,000. Others can add an entry to a
//! user's list and remove it, again and again.
//!
//! After each removal a random number decides whether the list is written anew: this happens after one removal in some
//! thousands. So nothing is counted or stored, and a restart loses nothing. The list's partition is deleted and its entries are written again in one
//! mutation, of which a reader sees all or nothing. It changes no entry: only their timestamps are newer.

use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;
use std::time::Instant;

use scylla::statement::batch::BatchType;
use storage::Failure;

use crate::change_scheduler::Footprint;
use crate::cluster_store::ClusterStore;
use crate::database::{WRITE_PATIENCE, by};
use crate::intents::size_of_mutation;
use crate::lists::{ENTRIES_BYTES_MAX, ENTRIES_MAX, List};

/// Lists that wait to be written anew. Beyond it a list waits for its next draw.
const WAITING_MAX: usize = 1_024;
/// How often it waits for the end of a sweep.
const ATTEMPTS_MAX: usize = 100;

impl ClusterStore {
    /// Draws for each of these removals whether its list is written anew, and does it in the background.
    pub fn rewrite_some(self: &Arc<Self>, removals: Vec<List>) {
        let one_in = u64::from(self.database.options().removals_per_rewrite.max(1));
        // Each state has random keys of its own.
        for list in removals.into_iter().filter(|_| RandomState::new().hash_one(()).is_multiple_of(one_in)) {
            let mut waiting = self.rewrites.lock();
            if waiting.len() < WAITING_MAX && waiting.insert(list) {
                let store = self.clone();
                self.database.runtime().spawn(async move {
                    if let Err(failure) = store.rewrite(list).await {
                        tracing::warn!(%failure, "the marks of removed entries stay in a list until a later removal");
                    }
                });
            }
        }
    }

    async fn rewrite(self: &Arc<Self>, list: List) -> Result<(), Failure> {
        for _ in 0..ATTEMPTS_MAX {
            let turn = self.change_scheduler.turn(Footprint::These(vec![list.subject()]));
            turn.come().await;
            let held = self.change_scheduler.carrying_out.read().await;
            // Sweeps remove entries outside of changes. A sweep that runs may wait for this turn.
            if let Ok(_no_sweep) = self.sweeping.try_lock() {
                self.rewrites.lock().remove(&list);
                return self.rewrite_now(list).await;
            }
            drop((held, turn));
            drop(self.sweeping.lock().await);
        }
        self.rewrites.lock().remove(&list);
        Err(Failure::Passing("one sweep followed another".into()))
    }

    /// Called while nothing else changes the list.
    async fn rewrite_now(&self, list: List) -> Result<(), Failure> {
        self.check()?;
        let deadline = Instant::now() + WRITE_PATIENCE;
        let entries = by(deadline, list.entries(&self.database)).await?;
        let bytes: usize = entries.iter().map(size_of_mutation).sum();
        if entries.len() > ENTRIES_MAX || bytes > ENTRIES_BYTES_MAX {
            return Ok(());
        }
        // Timestamps rise, so the deletion covers what was there before, and no entry that is written behind it. If this
        // write arrives late, all later changes have later timestamps.
        let all: Vec<_> = std::iter::once(list.deletion()).chain(entries).collect();
        let written = self.database.write(&all, BatchType::Unlogged, deadline).await;
        written.map_err(|failed| failed.failure())
    }
}
