//! The store's tables as fjall keyspaces: creates, opens and reads them.

use std::ops::Bound;
use std::panic::AssertUnwindSafe;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use engine::id::{ChannelId, MessageId};
use fjall::compaction::filter::Factory;
use fjall::config::{BlockSizePolicy, CompressionPolicy};
use fjall::{AbstractTree, CompressionType, Database, Keyspace, KeyspaceCreateOptions, Readable, Slice, Snapshot};

use super::EmbeddedOptions;
use super::damaged::DamagedBlocks;
use super::dead::{MergeFilter, is_mark, leaves_marks};
use super::expiry::{Clock, Expiry, wall_clock};
use super::failures::{DAMAGED, decoded, unopenable, unreadable};
use super::hollows::{Hollows, Reading};
use super::kept_options::{inert, memtable_bytes};
use super::walk::{Direction, Notes, Walk};
use crate::account::Revocation;
use crate::keys::{self, Span, Table};
use crate::record::{self, Damage, StoreMeta};
use crate::{Failure, PageStart};

/// The version of the tables and records. Rises when an older program could no longer read what this program writes.
///
/// Format 1 had messages, accounts and logouts. Format 2 added groups, friends and notifications, and the notes of
/// which user has written where. Format 3 has the logouts also in the order of time, and stores a channel's head only
/// when a message is removed. Format 4 counts each user's groups, and has marks in place of removed rows (`dead.rs`),
/// and notes in which passages of channels users have written. Format 5 added objects.
pub const FORMAT: u32 = 5;

/// fjall's background threads. One is enough, as it flushes and does not merge. With two, the first puts every request
/// to merge back into the queue, and uses a whole core for that while the second merges.
const WORKER_THREADS: usize = 1;
/// How much journal may accumulate before fjall flushes the memtables that need the oldest file. Two files of 64 MiB: a
/// start reads them.
const JOURNAL_BYTES_MAX: u64 = 128 << 20;
/// A page of 100 messages of 300 bytes is two or three blocks.
const MESSAGES_BLOCK_BYTES: u32 = 16 << 10;
const OTHER_BLOCK_BYTES: u32 = 4 << 10;
/// fjall makes a table's writers wait when its first level has this many runs, or when this many memtables wait to be
/// written.
const RUNS_OF_HALT: usize = 30;
const MEMTABLES_OF_HALT: usize = 4;
/// File descriptors that fjall keeps open; the rest are for sockets.
const CACHED_FILES_MAX: usize = 256;

/// fjall's keyspaces, by table.
pub struct Tables {
    pub database: Database,
    keyspaces: [Keyspace; Table::COUNT],
    /// Set to stop running merges.
    pub stopping: Arc<AtomicBool>,
    /// Which messages have expired.
    pub expiry: Arc<Expiry>,
    /// Where there are only marks of removed rows.
    pub hollows: Hollows,
    /// Blocks that could not be read.
    pub damaged: DamagedBlocks,
    /// How many rows have been looked at, marks included.
    rows_read: AtomicU64,
}

impl Tables {
    /// Opens a database, which must be a Stentor store. Returns its format too: tables that an older format does not
    /// have are created, and empty.
    pub fn open(path: &Path, options: &EmbeddedOptions, clock: &Clock) -> Result<(Self, u32), Failure> {
        Self::open_with(path, options, clock, WORKER_THREADS)
    }

    /// Opens a copy that is only read: nothing flushes its memory.
    pub fn open_to_read(path: &Path, options: &EmbeddedOptions, clock: &Clock) -> Result<(Self, u32), Failure> {
        Self::open_with(path, options, clock, 0)
    }

    fn open_with(
        path: &Path,
        options: &EmbeddedOptions,
        clock: &Clock,
        threads: usize,
    ) -> Result<(Self, u32), Failure> {
        let stopping = Arc::default();
        let expiry = Arc::new(Expiry::new(options.retention, clock.clone()));
        let database = open_database(path, options, (&stopping, &expiry), threads)?;
        check_table(&database, path, Table::Meta)?;
        let meta = database.keyspace(Table::Meta.name(), || keyspace_options(Table::Meta));
        let meta = meta.map_err(|error| unopenable(path, &error))?.get(keys::META);
        let format = checked_meta(path, meta)?.format;
        let tables = match format {
            1 => Table::COUNT_OF_FORMAT_1,
            2 => Table::COUNT_OF_FORMAT_2,
            3 => Table::COUNT_OF_FORMAT_3,
            4 => Table::COUNT_OF_FORMAT_4,
            _ => Table::COUNT,
        };
        for table in &Table::ALL[..tables] {
            check_table(&database, path, *table)?;
        }
        Ok((Self::of(path, database, stopping, expiry)?, format))
    }

    /// Creates a database with every table, all empty.
    pub fn create(path: &Path, options: &EmbeddedOptions) -> Result<Self, Failure> {
        let stopping = Arc::default();
        let expiry = Arc::new(Expiry::new(options.retention, wall_clock()));
        let database = open_database(path, options, (&stopping, &expiry), WORKER_THREADS)?;
        Self::of(path, database, stopping, expiry)
    }

    /// The tables of a database; creates those that do not exist.
    fn of(path: &Path, database: Database, stopping: Arc<AtomicBool>, expiry: Arc<Expiry>) -> Result<Self, Failure> {
        let mut keyspaces = Vec::with_capacity(Table::COUNT);
        for table in Table::ALL {
            let keyspace = database.keyspace(table.name(), || keyspace_options(table));
            keyspaces.push(keyspace.map_err(|error| unopenable(path, &error))?);
        }
        #[allow(clippy::expect_used)]
        let keyspaces: [Keyspace; Table::COUNT] = keyspaces.try_into().ok().expect("one keyspace a table");
        let (damaged, hollows, rows_read) =
            (DamagedBlocks::new(keyspaces.clone()), Hollows::default(), AtomicU64::new(0));
        Ok(Self { database, keyspaces, stopping, expiry, hollows, damaged, rows_read })
    }

    /// The store's own record, if this program can work with the store.
    pub fn meta(&self, path: &Path) -> Result<StoreMeta, Failure> {
        checked_meta(path, self.keyspace(Table::Meta).get(keys::META))
    }

    /// The keyspace that holds a table.
    pub fn keyspace(&self, table: Table) -> &Keyspace {
        &self.keyspaces[table as usize]
    }

    /// The record under a key, or `None`. A key that fjall cannot take has none. Fails if the disk cannot be read or
    /// the block is damaged.
    pub fn get(&self, table: Table, key: &[u8]) -> Result<Option<Slice>, Failure> {
        if !is_key(key) {
            return Ok(None);
        }
        self.count_rows(1);
        let found = self.keyspace(table).get(key);
        let found = found.map_err(|error| self.damaged.failure(table, only(key), &error))?;
        Ok(found.filter(|value| !is_mark(value)))
    }

    /// The bytes of all tables.
    pub fn bytes(&self) -> u64 {
        self.keyspaces.iter().map(|keyspace| keyspace.tree.disk_space()).sum()
    }

    /// The key of a channel's last row in `messages`; `None` if there is none, or it cannot be read.
    pub fn last_message_key(&self, channel: &ChannelId) -> Option<Vec<u8>> {
        let span = keys::message_range(channel, PageStart::Newest);
        let last = self.keyspace(Table::Messages).range(span).next_back()?;
        last.key().ok().map(|key| key.to_vec())
    }

    /// How many rows have been looked at since the start, marks of removed rows included.
    pub fn rows_read(&self) -> u64 {
        self.rows_read.load(Ordering::Relaxed)
    }

    /// What walks need to know and to count.
    pub fn for_walks(&self) -> Notes<'_> {
        Notes { hollows: &self.hollows, rows_read: &self.rows_read, damaged: &self.damaged }
    }

    /// Counts rows that were looked at.
    pub fn count_rows(&self, rows: usize) {
        self.rows_read.fetch_add(rows as u64, Ordering::Relaxed);
    }

    /// The decoded record under a key, or `None`. Fails with [`Failure::Corrupt`] if it cannot be decoded.
    pub fn read<T>(
        &self,
        table: Table,
        key: &[u8],
        decode: impl FnOnce(&[u8]) -> Result<T, Damage>,
    ) -> Result<Option<T>, Failure> {
        self.get(table, key)?.map(|bytes| decoded(table, decode(&bytes))).transpose()
    }

    /// The number of runs in the first level, for the table that has most there.
    pub fn first_level_runs(&self) -> usize {
        self.keyspaces.iter().map(|keyspace| keyspace.tree.l0_run_count()).max().unwrap_or(0)
    }

    /// Writes everything that is in memory to tables. For a copy that is only read: no other thread may do the same.
    pub fn write_memory_out(&self, path: &Path) -> Result<(), Failure> {
        for keyspace in &self.keyspaces {
            keyspace.tree.flush_active_memtable(0).map_err(|error| unopenable(path, &error.into()))?;
        }
        Ok(())
    }

    /// Whether fjall makes writers wait until runs have been merged or memtables written.
    pub fn stops_writers(&self) -> bool {
        let stops = |keyspace: &Keyspace| {
            keyspace.tree.l0_run_count() >= RUNS_OF_HALT || keyspace.tree.sealed_memtable_count() >= MEMTABLES_OF_HALT
        };
        self.keyspaces.iter().any(stops)
    }

    /// A snapshot of all tables.
    pub fn view(&self) -> View<'_> {
        // The order matters: a reading is watched from before its snapshot on.
        let reading = self.hollows.begin();
        View { tables: self, reading, snapshot: self.database.snapshot() }
    }

    /// All revocations, in the order of their keys.
    pub fn revocations(&self) -> impl Iterator<Item = Result<Revocation, Failure>> {
        self.keyspace(Table::Revocations).iter().map(|row| {
            let value = row.value().map_err(|error| unreadable(Table::Revocations, &error))?;
            decoded(Table::Revocations, record::decode_revocation(&value))
        })
    }
}

/// A snapshot of the tables, for reads of more than one row.
pub struct View<'a> {
    tables: &'a Tables,
    reading: Reading,
    snapshot: Snapshot,
}

impl Drop for View<'_> {
    fn drop(&mut self) {
        self.tables.hollows.end(self.reading);
    }
}

impl View<'_> {
    /// The first id of the channel that has not expired; `None` if nothing expires.
    pub fn floor(&self, channel: &ChannelId) -> Option<MessageId> {
        self.tables.expiry.floor(channel)
    }

    /// Whether there is a record under this key.
    pub fn contains(&self, table: Table, key: &[u8]) -> Result<bool, Failure> {
        Ok(self.get(table, key)?.is_some())
    }

    fn get(&self, table: Table, key: &[u8]) -> Result<Option<Slice>, Failure> {
        self.tables.count_rows(1);
        let found = self.snapshot.get(self.tables.keyspace(table), key);
        let found = found.map_err(|error| self.tables.damaged.failure(table, only(key), &error))?;
        Ok(found.filter(|value| !is_mark(value)))
    }

    /// The decoded record under a key, or `None`. Fails with [`Failure::Corrupt`] if it cannot be decoded.
    pub fn read<T>(
        &self,
        table: Table,
        key: &[u8],
        decode: impl FnOnce(&[u8]) -> Result<T, Damage>,
    ) -> Result<Option<T>, Failure> {
        self.get(table, key)?.map(|bytes| decoded(table, decode(&bytes))).transpose()
    }

    /// A bounded walk over a span: for requests.
    pub fn walk(&self, table: Table, span: Span, direction: Direction) -> Walk<'_> {
        let keyspace = self.tables.keyspace(table);
        let read = move |span| self.snapshot.range(keyspace, span);
        Walk::new(self.tables.for_walks(), table, (span, direction), Some(self.reading), read)
    }

    /// The last row of a span, if there is one and it was not removed.
    pub fn last_row(&self, table: Table, span: Span) -> Result<Option<(Slice, Slice)>, Failure> {
        self.tables.count_rows(1);
        let last = self.snapshot.range(self.tables.keyspace(table), span.clone()).next_back();
        let last = last.map(fjall::Guard::into_inner).transpose();
        let last = last.map_err(|error| self.tables.damaged.failure(table, span, &error))?;
        Ok(last.filter(|(_, value)| !is_mark(value)))
    }

    /// The keys of a span with their records, in the order of their bytes. Examines as many rows as there are, so it is
    /// not for requests.
    pub fn rows(&self, table: Table, span: Span) -> impl Iterator<Item = Result<(Slice, Slice), Failure>> {
        let rows = self.snapshot.range(self.tables.keyspace(table), span.clone());
        let rows = rows.inspect(|_| self.tables.count_rows(1));
        let failure = move |error| self.tables.damaged.failure(table, span.clone(), &error);
        let rows = rows.map(move |row| row.into_inner().map_err(&failure));
        rows.filter(|row| row.as_ref().map_or(true, |(_, value)| !is_mark(value)))
    }

    /// The keys of a span, like [`Self::rows`].
    pub fn keys(&self, table: Table, span: Span) -> impl Iterator<Item = Result<Slice, Failure>> {
        self.rows(table, span).map(|row| row.map(|(key, _)| key))
    }
}

fn only(key: &[u8]) -> Span {
    (Bound::Included(key.to_vec()), Bound::Included(key.to_vec()))
}

/// fjall has no empty keys, and no keys longer than its length field allows.
fn is_key(key: &[u8]) -> bool {
    !key.is_empty() && key.len() <= usize::from(u16::MAX)
}

fn check_table(database: &Database, path: &Path, table: Table) -> Result<(), Failure> {
    if database.keyspace_exists(table.name()) {
        return Ok(());
    }
    let (path, name) = (path.display(), table.name());
    Err(Failure::Corrupt(format!("{path} has no table {name}: it is damaged or not a Stentor store")))
}

fn checked_meta(path: &Path, bytes: fjall::Result<Option<Slice>>) -> Result<StoreMeta, Failure> {
    let path = path.display();
    let Some(bytes) = bytes.map_err(|error| unreadable(Table::Meta, &error))? else {
        return Err(Failure::Corrupt(format!(
            "{path} has no record of its format: the journal or the table with that record is damaged or lost. {DAMAGED}"
        )));
    };
    let meta = decoded(Table::Meta, record::decode_meta(&bytes))?;
    if !(1..=FORMAT).contains(&meta.format) {
        return Err(Failure::Corrupt(format!(
            "{path} has format {}, and this program knows {FORMAT} at most: start the version that wrote it. Leave the \
             files as they are",
            meta.format
        )));
    }
    Ok(meta)
}

fn open_database(
    path: &Path,
    options: &EmbeddedOptions,
    (stopping, expiry): (&Arc<AtomicBool>, &Arc<Expiry>),
    threads: usize,
) -> Result<Database, Failure> {
    let open = || {
        let (stopping, expiry) = (stopping.clone(), expiry.clone());
        let filter = move |name: &str| {
            let expiry = (name == Table::Messages.name()).then(|| AssertUnwindSafe(expiry.clone()));
            let drops_marks = Table::ALL.into_iter().any(|table| table.name() == name && leaves_marks(table));
            Some(Arc::new(MergeFilter { stopping: stopping.clone(), drops_marks, expiry }) as Arc<dyn Factory>)
        };
        Database::builder(path)
            .cache_size(options.cache_bytes)
            .worker_threads_unchecked(threads)
            .max_journaling_size(JOURNAL_BYTES_MAX)
            .max_cached_files(Some(CACHED_FILES_MAX))
            .with_compaction_filter_factories(Arc::new(filter))
            .open()
    };
    // fjall asserts some of what it reads from the journal, in builds with assertions: a panic here means damaged data,
    // not a bug of ours.
    match std::panic::catch_unwind(AssertUnwindSafe(open)) {
        Ok(database) => database.map_err(|error| unopenable(path, &error)),
        Err(_) => Err(Failure::Corrupt(format!("{} is damaged: fjall could not make sense of it", path.display()))),
    }
}

/// fjall stores these options when it creates a keyspace; `kept_options` updates those that have changed since.
fn keyspace_options(table: Table) -> KeyspaceCreateOptions {
    let block = if table == Table::Messages { MESSAGES_BLOCK_BYTES } else { OTHER_BLOCK_BYTES };
    KeyspaceCreateOptions::default()
        .compaction_strategy(Arc::new(inert()))
        .max_memtable_size(memtable_bytes(table))
        .data_block_size_policy(BlockSizePolicy::all(block))
        .data_block_compression_policy(CompressionPolicy::all(CompressionType::Lz4))
}
