//! Upgrades a store of an earlier format. Its tables stay as they are. The tables that it lacked have just been
//! created, empty. Three of them must be filled from the old ones: the notes of which user has written where, so that
//! an account can be deleted with all its messages; the revocations in the order of time, so that they can be
//! forgotten; and the counts of each user's groups. Heads need nothing: each channel's head is stored already. There were no objects before format 5.
//!
//! The new format is recorded only when everything is synced. So an upgrade that was interrupted starts again at the
//! next start.

use std::iter::Peekable;
use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use engine::id::{Epoch, UserId};
use engine::social::group::Role;
use fjall::{PersistMode, Slice};
use uuid::Uuid;

use super::commit_cache::CommitCache;
use super::draft::Draft;
use super::failures::{parsed, unopenable, unreadable};
use super::tables::{FORMAT, Tables};
use crate::Failure;
use crate::keys::{self, Listed, Table};
use crate::record::{self, StoreMeta};

/// Messages that are read between two commits.
const MESSAGES_A_COMMIT: usize = 100_000;
const REVOCATIONS_A_COMMIT: usize = 100_000;
/// How long after an upgrade the first message may be written that is certain to be in a passage.
const PASSAGES_BEGIN_IN: Duration = Duration::from_secs(24 * 60 * 60);
/// Users whose groups are counted between two commits.
const USERS_A_COMMIT: usize = 100_000;

/// Brings the store at this path to the present format. If it is stopped half-way, the next start does it again.
pub fn upgrade(tables: &Tables, path: &Path) -> Result<(), Failure> {
    let meta = tables.meta(path)?;
    tracing::info!("{} is of format {}; it is being brought up to date", path.display(), meta.format);
    if meta.format < 2 {
        note_authors(tables, path)?;
    }
    if meta.format < 3 {
        order_revocations(tables, path)?;
    }
    if meta.format < 4 {
        count_groups(tables, path)?;
        begin_passages(tables, path)?;
    }
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

/// Counts the groups of each user anew. An older program may have worked with this store since an upgrade was cut
/// short, so the counts that exist are worth nothing.
fn count_groups(tables: &Tables, path: &Path) -> Result<(), Failure> {
    tables.keyspace(Table::GroupCounts).clear().map_err(|error| unopenable(path, &error))?;
    let mut cache = CommitCache::default();
    let view = tables.view();
    let mut listed = view.keys(Table::UserGroups, keys::beginning_with(&[], None)).peekable();
    while listed.peek().is_some() {
        let mut draft = Draft::new(tables, &mut cache);
        for _ in 0..USERS_A_COMMIT {
            let Some((user, count)) = next_count(&mut listed)? else { break };
            if count > 0 {
                draft.put(Table::GroupCounts, keys::user(user), record::encode_group_count(count));
            }
        }
        draft.commit().map_err(|error| unopenable(path, &error))?;
    }
    Ok(())
}

/// Notes from which message on there are passages: the messages so far have none. The clock may have been ahead when
/// they were written, so the place is a day from now.
fn begin_passages(tables: &Tables, path: &Path) -> Result<(), Failure> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default() + PASSAGES_BEGIN_IN;
    let first = Uuid::from_u128(now.as_millis() << 80);
    let mut cache = CommitCache::default();
    let mut draft = Draft::new(tables, &mut cache);
    draft.put(Table::Meta, keys::PASSAGES.into(), first.as_bytes().to_vec());
    draft.commit().map_err(|error| unopenable(path, &error))
}

/// The next user of this table, and in how many groups the user has a role other than banned.
fn next_count(
    listed: &mut Peekable<impl Iterator<Item = Result<Slice, Failure>>>,
) -> Result<Option<(UserId, u32)>, Failure> {
    let Some(key) = listed.next() else { return Ok(None) };
    let first = parsed(Table::UserGroups, Listed::of(&key?))?;
    let counts = |listed: &Listed| u32::from(listed.rank != Role::Banned as u8);
    let mut count = counts(&first);
    let of_user = |key: &Result<Slice, Failure>| key.as_ref().is_ok_and(|key| key.starts_with(first.owner.as_bytes()));
    while let Some(key) = listed.next_if(of_user) {
        count += counts(&parsed(Table::UserGroups, Listed::of(&key?))?);
    }
    Ok(Some((UserId(first.owner), count)))
}
