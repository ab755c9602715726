//! The default keeper: fjall, in a directory of its own, in this process.
//!
//! One group is one fjall batch, written to the journal and synced before it becomes visible and before `commit`
//! returns. fjall poisons itself when a write or sync fails; so does this keeper, with `Failure::Final`. A disk that is
//! merely getting full is noticed earlier, and refused with `Failure::Passing` while there is still room for what fjall
//! does in the background.
//!
//! Its calls block, sometimes for tens of milliseconds when fjall rotates its journal or holds writers back.

mod directory;
mod draft;
mod journal;

use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};

use engine::friend::{FriendState, Sides};
use engine::group::Role;
use engine::id::{ChannelId, Epoch, GroupId, MessageId, NotificationId, UserId};
use engine::message::Message;
use engine::notification::Notification;
use engine::persist::ChannelHead;
use fjall::config::{BlockSizePolicy, CompressionPolicy};
use fjall::{CompressionType, Database, Keyspace, KeyspaceCreateOptions, PersistMode, Slice};

use crate::account::{Account, Credential, CredentialOwner, Revocation};
use crate::friend::{Friend, FriendPlace};
use crate::group::{Group, GroupFilter, GroupPlace, RosterPlace};
use crate::keys::{self, Table};
use crate::record::{self, Damage, StoreMeta};
use crate::{Failure, Place, Store, Write, Written};
use directory::Directory;
use draft::Draft;

/// Which tables and records a store has. Rises when an older program could no longer read what this one writes.
const FORMAT: u32 = 1;

/// fjall's background threads: one may compact while the other flushes.
const WORKER_THREADS: usize = 2;
/// How much journal may pile up before fjall flushes what holds its oldest file. Four files of 64 MiB.
const JOURNAL_BYTES_MAX: u64 = 256 << 20;
/// Messages are nearly all that is written.
const MESSAGES_MEMTABLE_BYTES: u64 = 32 << 20;
const OTHER_MEMTABLE_BYTES: u64 = 4 << 20;
/// A page of 100 messages of 300 bytes is two or three blocks.
const MESSAGES_BLOCK_BYTES: u32 = 16 << 10;
const OTHER_BLOCK_BYTES: u32 = 4 << 10;
/// Descriptors that fjall keeps open; the rest belong to sockets.
const CACHED_FILES_MAX: usize = 256;

/// What an operator may wish to set.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct EmbeddedOptions {
    /// Blocks of history kept in memory.
    pub cache_bytes: u64,
    /// Writes are refused when the disk has less room than this. The default covers what can already be under way:
    /// a journal file (64 MiB), every memtable (56 MiB), and a compaction of as much again.
    pub free_bytes_min: u64,
}

impl Default for EmbeddedOptions {
    fn default() -> Self {
        Self { cache_bytes: 64 << 20, free_bytes_min: 256 << 20 }
    }
}

/// A store in a directory on this machine.
pub struct Embedded {
    /// `None` only while it is dropped.
    tables: Option<Tables>,
    directory: Directory,
    free_bytes_min: u64,
    failed: OnceLock<String>,
    closed: AtomicBool,
}

impl Embedded {
    /// Opens the store in a directory that is its alone, or begins one there if it is empty or absent.
    pub fn open(directory: &Path, options: &EmbeddedOptions) -> Result<Self, Failure> {
        let directory = Directory::claim(directory)?;
        if !directory.has_database() {
            directory.create_database(|path| create_tables(path, options))?;
        }
        directory.check_database()?;
        let tables = Tables::open(&directory.database(), options)?;
        let store = Self {
            tables: Some(tables),
            directory,
            free_bytes_min: options.free_bytes_min,
            failed: OnceLock::new(),
            closed: AtomicBool::new(false),
        };
        store.meta()?;
        Ok(store)
    }

    /// What the store says about itself, if this program may work with it.
    fn meta(&self) -> Result<StoreMeta, Failure> {
        let path = self.directory.path().display();
        let Some(bytes) = self.tables()?.get(Table::Meta, keys::META)? else {
            return Err(Failure::Corrupt(format!("{path} holds a database that is not a Stentor store")));
        };
        let meta = decoded(Table::Meta, record::decode_meta(&bytes))?;
        if meta.format > FORMAT {
            return Err(Failure::Corrupt(format!(
                "{path} has format {}, and this program knows {FORMAT} at most: start the program that wrote it",
                meta.format
            )));
        }
        Ok(meta)
    }

    fn tables(&self) -> Result<&Tables, Failure> {
        if self.closed.load(Ordering::Acquire) {
            return Err(Failure::Final("the store is closed".into()));
        }
        self.tables.as_ref().ok_or_else(|| Failure::Final("the store is closed".into()))
    }

    fn check_free_space(&self) -> Result<(), Failure> {
        let free = self.directory.free_bytes()?;
        if free >= self.free_bytes_min {
            return Ok(());
        }
        Err(Failure::Passing(format!(
            "the disk of {} has {} MiB left, and {} MiB must stay free: make room",
            self.directory.path().display(),
            free >> 20,
            self.free_bytes_min >> 20
        )))
    }

    /// Makes the draft durable and visible, or fails for good: after a failed sync nobody knows what the disk holds.
    fn write(&self, draft: Draft<'_>) -> Result<(), Failure> {
        if let Some(reason) = self.failed.get() {
            return Err(Failure::Final(reason.clone()));
        }
        draft.commit().map_err(|error| {
            let path = self.directory.path().display();
            let reason = format!("writing to {path} failed: {}", describe(&error));
            Failure::Final(self.failed.get_or_init(|| reason).clone())
        })
    }
}

impl Store for Embedded {
    fn next_epoch(&self) -> Result<Epoch, Failure> {
        let meta = self.meta()?;
        let epoch = Epoch(meta.epoch.0 + 1);
        let mut draft = Draft::new(self.tables()?);
        draft.put(Table::Meta, keys::META.into(), record::encode_meta(&StoreMeta { format: FORMAT, epoch }));
        self.write(draft)?;
        Ok(epoch)
    }

    fn commit(&self, writes: &[Write]) -> Result<Vec<Result<Written, Failure>>, Failure> {
        let mut draft = Draft::new(self.tables()?);
        self.check_free_space()?;
        let written = writes.iter().map(|write| draft.apply(write)).collect();
        self.write(draft)?;
        Ok(written)
    }

    fn head(&self, channel: &ChannelId) -> Result<Option<ChannelHead>, Failure> {
        self.tables()?.read(Table::Heads, &keys::head(channel), record::decode_head)
    }

    fn message(&self, channel: &ChannelId, id: MessageId) -> Result<Option<Message>, Failure> {
        let decode = |bytes: &[u8]| record::decode_message(channel, id, bytes);
        self.tables()?.read(Table::Messages, &keys::message(channel, id), decode)
    }

    fn messages(&self, channel: &ChannelId, from: Place, limit: usize) -> Result<Vec<Message>, Failure> {
        let range = self.tables()?.keyspace(Table::Messages).range(keys::message_range(channel, from));
        let message = |entry: fjall::Guard| {
            let (key, value) = entry.into_inner().map_err(|error| unreadable(Table::Messages, &error))?;
            let id = keys::message_id(&key).ok_or_else(|| Failure::Corrupt("a message's key is too short".into()))?;
            decoded(Table::Messages, record::decode_message(channel, id, &value))
        };
        match from {
            Place::Oldest | Place::After(_) => range.take(limit).map(message).collect(),
            Place::Newest | Place::Before(_) => range.rev().take(limit).map(message).collect(),
        }
    }

    fn credential(&self, credential: &Credential) -> Result<Option<CredentialOwner>, Failure> {
        self.tables()?.read(Table::Credentials, &keys::credential(credential), record::decode_credential)
    }

    fn account(&self, id: UserId) -> Result<Option<Account>, Failure> {
        self.tables()?.read(Table::Accounts, &keys::account(id), record::decode_account)
    }

    fn user_by_username(&self, username: &str) -> Result<Option<UserId>, Failure> {
        self.tables()?.read(Table::Usernames, &keys::username(username), record::decode_username)
    }

    fn group(&self, _: GroupId) -> Result<Option<Group>, Failure> {
        Err(Failure::Passing("the embedded keeper does not keep this yet".into()))
    }

    fn groups(
        &self,
        _: &GroupFilter,
        _: Option<&GroupPlace>,
        _: usize,
    ) -> Result<(Vec<Group>, Option<GroupPlace>), Failure> {
        Err(Failure::Passing("the embedded keeper does not keep this yet".into()))
    }

    fn group_role(&self, _: GroupId, _: UserId) -> Result<Option<Role>, Failure> {
        Err(Failure::Passing("the embedded keeper does not keep this yet".into()))
    }

    fn group_members(
        &self,
        _: GroupId,
        _: Option<Role>,
        _: Option<RosterPlace>,
        _: usize,
    ) -> Result<Vec<(UserId, RosterPlace)>, Failure> {
        Err(Failure::Passing("the embedded keeper does not keep this yet".into()))
    }

    fn user_groups(
        &self,
        _: UserId,
        _: Option<Role>,
        _: Option<RosterPlace>,
        _: usize,
    ) -> Result<Vec<(Group, RosterPlace)>, Failure> {
        Err(Failure::Passing("the embedded keeper does not keep this yet".into()))
    }

    fn sides(&self, _: UserId, _: UserId) -> Result<Sides, Failure> {
        Err(Failure::Passing("the embedded keeper does not keep this yet".into()))
    }

    fn friends(
        &self,
        _: UserId,
        _: Option<FriendState>,
        _: Option<FriendPlace>,
        _: usize,
    ) -> Result<Vec<(Friend, FriendPlace)>, Failure> {
        Err(Failure::Passing("the embedded keeper does not keep this yet".into()))
    }

    fn edge_count(&self, _: UserId) -> Result<u32, Failure> {
        Err(Failure::Passing("the embedded keeper does not keep this yet".into()))
    }

    fn notifications(&self, _: UserId, _: Option<NotificationId>, _: usize) -> Result<Vec<Notification>, Failure> {
        Err(Failure::Passing("the embedded keeper does not keep this yet".into()))
    }

    fn channels_written(&self, _: UserId, _: Option<&ChannelId>, _: usize) -> Result<Vec<ChannelId>, Failure> {
        Err(Failure::Passing("the embedded keeper does not keep this yet".into()))
    }

    fn departures(&self, _: usize) -> Result<Vec<UserId>, Failure> {
        Err(Failure::Passing("the embedded keeper does not keep this yet".into()))
    }

    fn revocations(&self) -> Result<Vec<Revocation>, Failure> {
        self.tables()?.revocations().map(|entry| entry.map(|(_, revocation)| revocation)).collect()
    }

    fn close(&self) -> Result<(), Failure> {
        let synced = self.tables()?.database.persist(PersistMode::SyncAll);
        self.closed.store(true, Ordering::Release);
        synced.map_err(|error| Failure::Final(format!("the last sync failed: {}", describe(&error))))
    }
}

impl Drop for Embedded {
    fn drop(&mut self) {
        if self.failed.get().is_some() {
            // fjall's journal writer flushes its buffer when it is dropped. After a failure that could complete a group
            // whose writers were told that it failed. The process is about to end anyway.
            std::mem::forget(self.tables.take());
        }
    }
}

/// fjall's keyspaces, by table.
struct Tables {
    database: Database,
    keyspaces: [Keyspace; Table::COUNT],
}

impl Tables {
    fn open(path: &Path, options: &EmbeddedOptions) -> Result<Self, Failure> {
        let database = open_database(path, options)?;
        for table in Table::ALL {
            if !database.keyspace_exists(table.name()) {
                let (path, name) = (path.display(), table.name());
                return Err(Failure::Corrupt(format!(
                    "{path} has no table {name}: it is damaged or not a Stentor store"
                )));
            }
        }
        Self::of(path, database)
    }

    /// The tables of a database; those that do not exist are made.
    fn of(path: &Path, database: Database) -> Result<Self, Failure> {
        let mut keyspaces = Vec::with_capacity(Table::COUNT);
        for table in Table::ALL {
            let keyspace = database.keyspace(table.name(), || keyspace_options(table));
            keyspaces.push(keyspace.map_err(|error| unopenable(path, &error))?);
        }
        #[allow(clippy::expect_used)]
        let keyspaces = keyspaces.try_into().ok().expect("one keyspace a table");
        Ok(Self { database, keyspaces })
    }

    fn keyspace(&self, table: Table) -> &Keyspace {
        &self.keyspaces[table as usize]
    }

    fn get(&self, table: Table, key: &[u8]) -> Result<Option<Slice>, Failure> {
        // fjall has no empty keys, and none longer than its length field can say.
        if key.is_empty() || key.len() > usize::from(u16::MAX) {
            return Ok(None);
        }
        self.keyspace(table).get(key).map_err(|error| unreadable(table, &error))
    }

    fn read<T>(
        &self,
        table: Table,
        key: &[u8],
        decode: impl FnOnce(&[u8]) -> Result<T, Damage>,
    ) -> Result<Option<T>, Failure> {
        self.get(table, key)?.map(|bytes| decoded(table, decode(&bytes))).transpose()
    }

    fn revocations(&self) -> impl Iterator<Item = Result<(Slice, Revocation), Failure>> {
        self.keyspace(Table::Revocations).iter().map(|entry| {
            let (key, value) = entry.into_inner().map_err(|error| unreadable(Table::Revocations, &error))?;
            Ok((key, decoded(Table::Revocations, record::decode_revocation(&value))?))
        })
    }
}

/// Makes a database with every table and the record that says it is ours, all synced.
fn create_tables(path: &Path, options: &EmbeddedOptions) -> Result<(), Failure> {
    let tables = Tables::of(path, open_database(path, options)?)?;
    let mut draft = Draft::new(&tables);
    let meta = StoreMeta { format: FORMAT, epoch: Epoch(0) };
    draft.put(Table::Meta, keys::META.into(), record::encode_meta(&meta));
    draft.commit().map_err(|error| unopenable(path, &error))?;
    tables.database.persist(PersistMode::SyncAll).map_err(|error| unopenable(path, &error))
}

fn open_database(path: &Path, options: &EmbeddedOptions) -> Result<Database, Failure> {
    let open = || {
        Database::builder(path)
            .cache_size(options.cache_bytes)
            .worker_threads(WORKER_THREADS)
            .max_journaling_size(JOURNAL_BYTES_MAX)
            .max_cached_files(Some(CACHED_FILES_MAX))
            .open()
    };
    // fjall asserts some of what it reads from the journal, in builds that have assertions: damage, not a bug of ours.
    match std::panic::catch_unwind(open) {
        Ok(database) => database.map_err(|error| unopenable(path, &error)),
        Err(_) => Err(Failure::Corrupt(format!("{} is damaged: fjall could not make sense of it", path.display()))),
    }
}

fn keyspace_options(table: Table) -> KeyspaceCreateOptions {
    let (memtable, block) = match table {
        Table::Messages => (MESSAGES_MEMTABLE_BYTES, MESSAGES_BLOCK_BYTES),
        _ => (OTHER_MEMTABLE_BYTES, OTHER_BLOCK_BYTES),
    };
    KeyspaceCreateOptions::default()
        .max_memtable_size(memtable)
        .data_block_size_policy(BlockSizePolicy::all(block))
        .data_block_compression_policy(CompressionPolicy::all(CompressionType::Lz4))
}

fn decoded<T>(table: Table, record: Result<T, Damage>) -> Result<T, Failure> {
    record.map_err(|damage| Failure::Corrupt(format!("in table {}: {damage}", table.name())))
}

/// A failed read: the disk's fault may pass, a wrong checksum will not.
fn unreadable(table: Table, error: &fjall::Error) -> Failure {
    let text = format!("reading table {} failed: {}", table.name(), describe(error));
    match io_error(error) {
        Some(_) => Failure::Passing(text),
        None => Failure::Corrupt(text),
    }
}

/// A database that does not open.
fn unopenable(path: &Path, error: &fjall::Error) -> Failure {
    use std::io::ErrorKind::{AlreadyExists, InvalidData, NotFound, UnexpectedEof};
    let (path, reason) = (path.display(), describe(error));
    if matches!(error, fjall::Error::Locked) {
        return Failure::InUse(format!("another process uses {path}"));
    }
    match io_error(error).map(std::io::Error::kind) {
        None | Some(AlreadyExists | InvalidData | NotFound | UnexpectedEof) => Failure::Corrupt(format!(
            "{path} cannot be read: {reason}. Bring it back from a backup, or move it away to begin anew"
        )),
        Some(_) => Failure::Final(format!("{path} cannot be opened: {reason}")),
    }
}

fn io_error(error: &fjall::Error) -> Option<&std::io::Error> {
    match error {
        fjall::Error::Io(error) | fjall::Error::Storage(fjall::LsmError::Io(error)) => Some(error),
        _ => None,
    }
}

/// fjall's errors in its own words, but an operating system's error in that system's.
fn describe(error: &fjall::Error) -> String {
    match io_error(error) {
        Some(error) => error.to_string(),
        None => format!("{error:?}"),
    }
}

/// A failed step on the way to the store's files.
fn failed(what: &str, path: &Path, error: &std::io::Error) -> Failure {
    Failure::Final(format!("{what} {} failed: {error}", PathBuf::from(path).display()))
}
