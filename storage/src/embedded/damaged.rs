//! Blocks of tables that cannot be read: each is told once in the log, with its file.
//!
//! A request that needs such a block fails, and all others go on. fjall's error has no file; the file is looked for where
//! the failed read was. Its filters are looked at too: a request for a single row reads them.

use std::collections::HashMap;
use std::ops::{Bound, RangeBounds};
use std::path::PathBuf;

use fjall::{AbstractTree, Keyspace, Slice};
use lsm_tree::{InternalValue, Table as TableFile};
use parking_lot::Mutex;

use super::failures::{DAMAGED, describe, is_damage, unreadable};
use super::table_files::{filter_damages, index_damages, path_of};
use crate::Failure;
use crate::keys::{Span, Table};

/// Blocks that are remembered and told of. Of further ones the log says nothing.
const BLOCKS_MAX: usize = 256;
/// Rows of a file that are looked at for the block at which a request has failed, from each end of what was asked for: more
/// than a request examines.
const ROWS_MAX: usize = 4096;

/// The damaged blocks that have been found since the store was opened.
pub struct DamagedBlocks {
    keyspaces: [Keyspace; Table::COUNT],
    /// By fjall's error, which has the checksums of the block, and so is another one for each block; with the file, if it
    /// was found.
    known: Mutex<HashMap<(Table, String), Option<PathBuf>>>,
}

impl DamagedBlocks {
    /// No block is known yet.
    pub fn new(keyspaces: [Keyspace; Table::COUNT]) -> Self {
        Self { keyspaces, known: Mutex::default() }
    }

    /// How many damaged blocks have been found, `BLOCKS_MAX` at most.
    pub fn count(&self) -> usize {
        self.known.lock().len()
    }

    /// The file of a block of this table that has been found.
    pub fn file_of(&self, table: Table) -> Option<PathBuf> {
        let known = self.known.lock();
        let mut files = known.iter().filter(|((of, _), _)| *of == table).filter_map(|(_, file)| file.clone());
        files.next()
    }

    /// The failure of a read of this span. If a block is damaged, the failure names its file, and the log tells of it.
    pub fn failure(&self, table: Table, span: Span, error: &fjall::Error) -> Failure {
        if !is_damage(error) {
            return unreadable(table, error);
        }
        match self.note(table, error, |error| {
            self.find(table, |file| fails_in(file, &span, error))
                .or_else(|| self.find(table, |file| fails_beside_rows(file, &span, error)))
        }) {
            Some(file) => Failure::Corrupt(format!("{}: a block cannot be read: {}", file.display(), describe(error))),
            None => unreadable(table, error),
        }
    }

    /// Takes in that a merge of this table has failed at a damaged block. Reads all of the table for it, unless it is known.
    pub fn note_merge(&self, table: Table, error: &fjall::Error) {
        if is_damage(error) {
            self.note(table, error, |error| self.find(table, |file| fails_in_whole(file, error)));
        }
    }

    fn note(&self, table: Table, error: &fjall::Error, find: impl FnOnce(&str) -> Option<PathBuf>) -> Option<PathBuf> {
        let reason = describe(error);
        {
            let known = self.known.lock();
            match known.get(&(table, reason.clone())) {
                Some(file) => return file.clone(),
                None if known.len() >= BLOCKS_MAX => return None,
                None => {}
            }
        }
        let file = find(&reason);
        let mut known = self.known.lock();
        // Another thread may have found it meanwhile.
        if known.len() < BLOCKS_MAX && known.insert((table, reason.clone()), file.clone()).is_none() {
            let name = table.name();
            let place = file.as_ref().map_or_else(|| format!("table {name}"), |file| file.display().to_string());
            tracing::error!(
                table = name,
                "{place}: a block cannot be read: {reason}. Requests that need it fail, all others go on. {DAMAGED}"
            );
        }
        file
    }

    fn find(&self, table: Table, is_damaged: impl Fn(&TableFile) -> bool) -> Option<PathBuf> {
        let version = self.keyspaces[table as usize].tree.current_version();
        let mut files = version.iter_levels().flat_map(|level| level.iter()).flat_map(|run| run.iter());
        let found = files.find(|file| is_damaged(file))?;
        Some(path_of(found))
    }
}

/// Whether a read of this span of the file meets this error. A failed block does not end the iterator.
fn fails_in(file: &TableFile, span: &Span, reason: &str) -> bool {
    let key = |bound: Bound<&Vec<u8>>| bound.map(|key| Slice::from(key.as_slice()));
    let rows = || file.range((key(span.start_bound()), key(span.end_bound())));
    let fails = |row: lsm_tree::Result<InternalValue>| row.is_err_and(|error| describe(&error.into()) == reason);
    rows().take(ROWS_MAX).any(fails) || rows().rev().take(ROWS_MAX).any(fails)
}

/// Whether the filter or the index of a file that may have rows of this span has this error.
fn fails_beside_rows(file: &TableFile, span: &Span, reason: &str) -> bool {
    let range = &file.metadata.key_range;
    let begins_after = match span.end_bound() {
        Bound::Included(end) | Bound::Excluded(end) => end.as_slice() < &**range.min(),
        Bound::Unbounded => false,
    };
    let ends_before = match span.start_bound() {
        Bound::Included(start) | Bound::Excluded(start) => &**range.max() < start.as_slice(),
        Bound::Unbounded => false,
    };
    let damages = || filter_damages(file).into_iter().chain(index_damages(file));
    !begins_after && !ends_before && damages().any(|error| describe(&error.into()) == reason)
}

/// Whether a read of the whole file, past the cache, ends with this error.
fn fails_in_whole(file: &TableFile, reason: &str) -> bool {
    let ended = file.scan().map_or_else(Some, |mut rows| rows.find_map(Result::err));
    ended.is_some_and(|error| describe(&error.into()) == reason)
}
