//! The store's tables as fjall keyspaces: creates, opens and reads them.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use fjall::compaction::filter::Factory;
use fjall::config::{BlockSizePolicy, CompressionPolicy};
use fjall::{AbstractTree, CompressionType, Database, Keyspace, KeyspaceCreateOptions, Readable, Slice, Snapshot};

use super::EmbeddedOptions;
use super::failures::{decoded, unopenable, unreadable};
use super::interruption::Interruption;
use super::kept_options::{inert, memtable_bytes};
use crate::Failure;
use crate::account::Revocation;
use crate::keys::{self, Span, Table};
use crate::record::{self, Damage, StoreMeta};

/// The version of the tables and records. Rises when an older program could no longer read what this program writes.
///
/// Format 1 had messages, accounts and logouts. Format 2 added groups, friends and notifications, and the notes of
/// which user has written where. Format 3 has the logouts also in the order of time, and stores a channel's head only
/// when a message is removed. Format 4 counts each user's groups.
pub const FORMAT: u32 = 4;

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
}

impl Tables {
    /// Opens a database, which must be a Stentor store. Returns its format too: tables that an older format does not
    /// have are created, and empty.
    pub fn open(path: &Path, options: &EmbeddedOptions) -> Result<(Self, u32), Failure> {
        let stopping = Arc::default();
        let database = open_database(path, options, &stopping)?;
        check_table(&database, path, Table::Meta)?;
        let meta = database.keyspace(Table::Meta.name(), || keyspace_options(Table::Meta));
        let meta = meta.map_err(|error| unopenable(path, &error))?.get(keys::META);
        let format = checked_meta(path, meta)?.format;
        let tables = match format {
            1 => Table::COUNT_OF_FORMAT_1,
            2 => Table::COUNT_OF_FORMAT_2,
            3 => Table::COUNT_OF_FORMAT_3,
            _ => Table::COUNT,
        };
        for table in &Table::ALL[..tables] {
            check_table(&database, path, *table)?;
        }
        Ok((Self::of(path, database, stopping)?, format))
    }

    /// Creates a database with every table, all empty.
    pub fn create(path: &Path, options: &EmbeddedOptions) -> Result<Self, Failure> {
        let stopping = Arc::default();
        Self::of(path, open_database(path, options, &stopping)?, stopping)
    }

    /// The tables of a database; creates those that do not exist.
    fn of(path: &Path, database: Database, stopping: Arc<AtomicBool>) -> Result<Self, Failure> {
        let mut keyspaces = Vec::with_capacity(Table::COUNT);
        for table in Table::ALL {
            let keyspace = database.keyspace(table.name(), || keyspace_options(table));
            keyspaces.push(keyspace.map_err(|error| unopenable(path, &error))?);
        }
        #[allow(clippy::expect_used)]
        let keyspaces = keyspaces.try_into().ok().expect("one keyspace a table");
        Ok(Self { database, keyspaces, stopping })
    }

    /// The store's own record, if this program can work with the store.
    pub fn meta(&self, path: &Path) -> Result<StoreMeta, Failure> {
        checked_meta(path, self.keyspace(Table::Meta).get(keys::META))
    }

    /// The keyspace that holds a table.
    pub fn keyspace(&self, table: Table) -> &Keyspace {
        &self.keyspaces[table as usize]
    }

    /// The record under a key, or `None`. A key that fjall cannot take has none.
    pub fn get(&self, table: Table, key: &[u8]) -> Result<Option<Slice>, Failure> {
        if !is_key(key) {
            return Ok(None);
        }
        self.keyspace(table).get(key).map_err(|error| unreadable(table, &error))
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

    /// Whether fjall makes writers wait until runs have been merged or memtables written.
    pub fn stops_writers(&self) -> bool {
        let stops = |keyspace: &Keyspace| {
            keyspace.tree.l0_run_count() >= RUNS_OF_HALT || keyspace.tree.sealed_memtable_count() >= MEMTABLES_OF_HALT
        };
        self.keyspaces.iter().any(stops)
    }

    /// A snapshot of all tables.
    pub fn view(&self) -> View<'_> {
        View { tables: self, snapshot: self.database.snapshot() }
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
    snapshot: Snapshot,
}

impl View<'_> {
    /// Whether there is a record under this key.
    pub fn contains(&self, table: Table, key: &[u8]) -> Result<bool, Failure> {
        let found = self.snapshot.contains_key(self.tables.keyspace(table), key);
        found.map_err(|error| unreadable(table, &error))
    }

    /// The decoded record under a key, or `None`. Fails with [`Failure::Corrupt`] if it cannot be decoded.
    pub fn read<T>(
        &self,
        table: Table,
        key: &[u8],
        decode: impl FnOnce(&[u8]) -> Result<T, Damage>,
    ) -> Result<Option<T>, Failure> {
        let found = self.snapshot.get(self.tables.keyspace(table), key);
        let found = found.map_err(|error| unreadable(table, &error))?;
        found.map(|bytes| decoded(table, decode(&bytes))).transpose()
    }

    /// The keys of a span with their records, in the order of their bytes.
    pub fn rows(&self, table: Table, span: Span) -> impl Iterator<Item = Result<(Slice, Slice), Failure>> {
        let rows = self.snapshot.range(self.tables.keyspace(table), span);
        rows.map(move |row| row.into_inner().map_err(|error| unreadable(table, &error)))
    }

    /// The keys of a span, in the order of their bytes.
    pub fn keys(&self, table: Table, span: Span) -> impl Iterator<Item = Result<Slice, Failure>> {
        let rows = self.snapshot.range(self.tables.keyspace(table), span);
        rows.map(move |row| row.key().map_err(|error| unreadable(table, &error)))
    }
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
        return Err(Failure::Corrupt(format!("{path} holds a database that is not a Stentor store")));
    };
    let meta = decoded(Table::Meta, record::decode_meta(&bytes))?;
    if !(1..=FORMAT).contains(&meta.format) {
        return Err(Failure::Corrupt(format!(
            "{path} has format {}, and this program knows {FORMAT} at most: start the program that wrote it",
            meta.format
        )));
    }
    Ok(meta)
}

fn open_database(path: &Path, options: &EmbeddedOptions, stopping: &Arc<AtomicBool>) -> Result<Database, Failure> {
    let open = || {
        let stopping = stopping.clone();
        let interruption = move |_: &str| Some(Arc::new(Interruption(stopping.clone())) as Arc<dyn Factory>);
        Database::builder(path)
            .cache_size(options.cache_bytes)
            .worker_threads(WORKER_THREADS)
            .max_journaling_size(JOURNAL_BYTES_MAX)
            .max_cached_files(Some(CACHED_FILES_MAX))
            .with_compaction_filter_factories(Arc::new(interruption))
            .open()
    };
    // fjall asserts some of what it reads from the journal, in builds with assertions: a panic here means damaged data,
    // not a bug of ours.
    match std::panic::catch_unwind(open) {
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
