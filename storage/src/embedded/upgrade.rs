//! Upgrades a store of an earlier format. Its tables stay as they are. The tables that it lacked have just been
//! created, empty. Two of them must be filled from the old ones: the notes of which user has written where, so that an
//! account can be deleted with all its messages; and the revocations in the order of time, so that they can be
//! forgotten. Heads need nothing: each channel's head is stored already.
//!
//! The new format is recorded only when everything is synced. So an upgrade that was interrupted starts again at the
//! next start.

use std::path::Path;

use engine::id::Epoch;
use fjall::PersistMode;

use super::commit_cache::CommitCache;
use super::draft::Draft;
use super::failures::{unopenable, unreadable};
use super::tables::{FORMAT, Tables};
use crate::Failure;
use crate::keys::{self, Table};
use crate::record::{self, StoreMeta};

/// Messages that are read between two commits.
const MESSAGES_A_COMMIT: usize = 100_000;
const REVOCATIONS_A_COMMIT: usize = 100_000;

/// Brings the store at this path to the present format. If it is stopped half-way, the next start does it again.
pub fn upgrade(tables: &Tables, path: &Path) -> Result<(), Failure> {
    let meta = tables.meta(path)?;
    tracing::info!("{} is of format {}; it is being brought up to date", path.display(), meta.format);
    if meta.format < 2 {
        note_authors(tables, path)?;
    }
    order_revocations(tables, path)?;
    put_meta(tables, path, meta.epoch)
}

/// Records that the store has the current format from now on, after everything in it is synced.
pub fn put_meta(tables: &Tables, path: &Path, epoch: Epoch) -> Result<(), Failure> {
    let mut cache = CommitCache::default();
    let mut draft = Draft::new(tables, &mut cache);
    draft.put(Table::Meta, keys::META.into(), record::encode_meta(&StoreMeta { format: FORMAT, epoch }));
    let synced = draft.commit().and_then(|()| tables.database.persist(PersistMode::SyncAll));
    synced.map_err(|error| unopenable(path, &error))
}

fn note_authors(tables: &Tables, path: &Path) -> Result<(), Failure> {
    let mut cache = CommitCache::default();
    let mut rows = tables.keyspace(Table::Messages).iter();
    loop {
        let mut draft = Draft::new(tables, &mut cache);
        let mut looked_at = 0;
        for row in rows.by_ref().take(MESSAGES_A_COMMIT) {
            looked_at += 1;
            let (key, value) = row.into_inner().map_err(|error| unreadable(Table::Messages, &error))?;
            match (keys::message_channel(&key), record::decode_sender(&value)) {
                (Some(channel), Ok(sender)) => draft.note_author(sender, &channel),
                // A client that reads this message gets the failure. It must not stop the upgrade of all others.
                _ => tracing::warn!("a damaged message was passed over"),
            }
        }
        draft.commit().map_err(|error| unopenable(path, &error))?;
        if looked_at < MESSAGES_A_COMMIT {
            return Ok(());
        }
    }
}

fn order_revocations(tables: &Tables, path: &Path) -> Result<(), Failure> {
    let mut cache = CommitCache::default();
    let mut revocations = tables.revocations();
    loop {
        let mut draft = Draft::new(tables, &mut cache);
        let mut looked_at = 0;
        for revocation in revocations.by_ref().take(REVOCATIONS_A_COMMIT) {
            looked_at += 1;
            draft.put(Table::Expiries, keys::expiry(&revocation?), Vec::new());
        }
        draft.commit().map_err(|error| unopenable(path, &error))?;
        if looked_at < REVOCATIONS_A_COMMIT {
            return Ok(());
        }
    }
}
