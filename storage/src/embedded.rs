//! The default store: fjall, in a directory of its own, in this process.
//!
//! One group of writes is one fjall batch. It is written to the journal and synced before it becomes visible and before
//! `commit` returns. fjall poisons itself when a write or sync fails, and so does this store: the group that failed
//! gets `Failure::Broken`, because it is unknown how much of it is on the disk, and all later groups get
//! `Failure::Final`. A disk that is only getting full is noticed earlier: writes are then refused with `Failure::Full`,
//! while there is still room for fjall's background work.
//!
//! The calls block, sometimes for tens of milliseconds, when fjall rotates its journal or holds writers back.

mod backup;
mod commit_cache;
mod compaction;
mod copying;
mod damaged;
mod dead;
mod directory;
mod draft;
mod expiry;
mod failures;
mod halted;
mod hollows;
mod journal;
mod kept_options;
mod manifest;
mod objects;
mod opening;
mod pages;
mod reading;
mod room;
mod sound_rows;
mod table_files;
mod tables;
mod tiers;
mod transfer;
mod upgrade;
mod verify;
mod walk;
mod written;

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use engine::id::{ChannelId, Epoch, GroupId, MessageId, NotificationId, UserId};
use engine::message::Message;
use engine::persist::ChannelHead;
use engine::social::friend::{FriendState, Sides};
use engine::social::group::Role;
use engine::social::notification::Notification;
use fjall::{AbstractTree, PersistMode};
use parking_lot::Mutex;

use crate::account::{Account, Credential, CredentialOwner, Expiry, Profile, Revocation, RevocationPlace};
use crate::backup::BackedUp;
use crate::friend::{Friend, FriendPlace};
use crate::group::{Group, GroupFilter, GroupPage, GroupPlace, RosterPlace};
use crate::keys::{self, Table};
use crate::object::{Object, ObjectCounts, ObjectId, ObjectListing, ObjectPlace};
use crate::record::{self, StoreMeta};
use crate::retention::Retention;
use crate::{DiskRoom, Failure, PageStart, Part, Store, Write, Written, WrittenPlace};
use commit_cache::CommitCache;
use compaction::{Compactor, Work};
use directory::Directory;
use draft::Draft;
pub use expiry::{Clock, wall_clock};
use failures::{decoded, describe, describe_table, for_readers, parsed};
use halted::Halted;
use reading::ReadingCopy;
use room::Room;
use sound_rows::SoundRows;
use table_files::{filter_damages, index_damages, path_of};
use tables::{FORMAT, Tables};
pub use verify::{LINES_MAX, Verified, verify};
use walk::Direction;
pub use walk::ROWS_EXAMINED_MAX;

/// How long a start on a full disk waits until files left over by the last life of the server are deleted.
const GIVING_BACK_MAX: Duration = Duration::from_secs(10);
const GIVING_BACK_INTERVAL: Duration = Duration::from_millis(50);

/// The settings for operators.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct EmbeddedOptions {
    /// Bytes of history blocks that are cached in memory.
    pub cache_bytes: u64,
    /// Writes are refused when the disk has less room than this. The default covers what can already be in progress:
    /// a journal file (64 MiB), every memtable (86 MiB), and a compaction of as much again.
    pub free_bytes_min: u64,
    /// How long messages are kept.
    pub retention: Retention,
}

impl Default for EmbeddedOptions {
    fn default() -> Self {
        Self { cache_bytes: 64 << 20, free_bytes_min: 256 << 20, retention: Retention::default() }
    }
}

/// A store in a directory on this machine.
pub struct Embedded {
    /// `None` only during the drop.
    compactor: Option<Compactor>,
    /// `None` only during the drop.
    tables: Option<Arc<Tables>>,
    directory: Directory,
    room: Arc<Room>,
    cache: Arc<Mutex<CommitCache>>,
    failed: Arc<OnceLock<String>>,
    closed: AtomicBool,
    /// What `tables` are the tables of, if the store is only read.
    reading: Option<ReadingCopy>,
    /// How many journals there were when it was last noted which is the newest.
    journals: AtomicUsize,
}

impl Embedded {
    /// Opens the store in a directory that no other process uses, or creates one there if the directory is empty or
    /// absent. Fails if another process has it, if it holds foreign or damaged files, or if the disk fails.
    pub fn open(directory: &Path, options: &EmbeddedOptions) -> Result<Self, Failure> {
        Self::open_by(directory, options, &wall_clock())
    }

    /// Like [`Self::open`], with a clock by which messages expire.
    pub fn open_by(directory: &Path, options: &EmbeddedOptions, clock: &Clock) -> Result<Self, Failure> {
        let directory = Directory::claim(directory)?;
        if !directory.has_database() {
            directory.create_database(|path| opening::create(path, options))?;
        }
        directory.check_database()?;
        let database = directory.database();
        table_files::check_ends(&database)?;
        let tables = opening::open(&database, options, clock);
        let tables = Arc::new(tables.map_err(|failure| table_files::with_file(&database, failure))?);
        let merged = Arc::downgrade(&tables);
        tables.expiry.look_up_by(Box::new(move |channel| merged.upgrade()?.last_message_key(channel)));
        let room = Arc::new(Room::new(directory.path().into(), options.free_bytes_min));
        // The last life may have left rows to be removed.
        let cache = Arc::new(Mutex::new(CommitCache { sweeping: true, ..CommitCache::default() }));
        let failed = Arc::new(OnceLock::new());
        let work = Work {
            tables: tables.clone(),
            room: room.clone(),
            writer: cache.clone(),
            failed: failed.clone(),
            halted: Halted::default(),
        };
        Ok(Self {
            compactor: Some(Compactor::start(work)?),
            tables: Some(tables),
            directory,
            room,
            cache,
            failed,
            closed: AtomicBool::new(false),
            reading: None,
            journals: AtomicUsize::new(0),
        })
    }

    /// Opens a store that is only read: every write fails with [`Failure::ReadOnly`], and nothing in the directory
    /// changes, so its disk may be full or broken. Other processes may read it too. Files of tables that cannot be opened
    /// are left out, and the log tells of them. Fails if a process writes there, if there is no store of this version, or
    /// if the disk for temporary files has no room for a copy of the journals.
    pub fn open_to_read(directory: &Path, options: &EmbeddedOptions) -> Result<Self, Failure> {
        Self::open_copy(Directory::claim_to_read(directory)?, options).map_err(for_readers)
    }

    fn open_copy(directory: Directory, options: &EmbeddedOptions) -> Result<Self, Failure> {
        let copy = ReadingCopy::of(&directory)?;
        copy.damages.iter().for_each(|damage| tracing::error!("{damage}"));
        let tables = opening::open_to_read(&copy.database(), options, &wall_clock(), directory.path());
        let tables = Arc::new(tables.map_err(|failure| copy.told(failure, directory.path()))?);
        let room = Arc::new(Room::new(directory.path().into(), options.free_bytes_min));
        Ok(Self {
            compactor: None,
            tables: Some(tables),
            directory,
            room,
            cache: Arc::default(),
            failed: Arc::default(),
            closed: AtomicBool::new(false),
            reading: Some(copy),
            journals: AtomicUsize::new(0),
        })
    }

    /// Whether the store is only read.
    pub fn is_only_read(&self) -> bool {
        self.reading.is_some()
    }

    /// What cannot be read of its journals, which tables are left out, and which are read without their index, for
    /// operators. Reads the indexes of all tables.
    fn damages(&self) -> Result<Vec<String>, Failure> {
        let mut damages = self.reading.as_ref().map_or_else(Vec::new, |copy| copy.damages.clone());
        for table in Table::ALL {
            for file in self.files_of(table)? {
                for error in index_damages(&file) {
                    let (path, reason) = (path_of(&file), describe_table(&error));
                    damages.push(format!("{}: its index cannot be read: {reason}", path.display()));
                }
            }
        }
        Ok(damages)
    }

    /// The filters of a table that cannot be read, for operators.
    fn damaged_filters(&self, table: Table) -> Result<Vec<String>, Failure> {
        let damages = self.files_of(table)?.into_iter().flat_map(|file| {
            let path = path_of(&file);
            let line =
                move |error| format!("{}: its filter cannot be read: {}", path.display(), describe_table(&error));
            filter_damages(&file).into_iter().map(line)
        });
        Ok(damages.collect())
    }

    fn files_of(&self, table: Table) -> Result<Vec<lsm_tree::Table>, Failure> {
        Ok(self.tables()?.keyspace(table).tree.current_version().iter_tables().cloned().collect())
    }

    /// Writes what is in memory to tables, which `sound_rows` reads. Only for a store that is only read.
    fn write_memory_out(&self) -> Result<(), Failure> {
        assert!(self.is_only_read(), "fjall's own thread writes the memory of other stores");
        self.tables()?.write_memory_out(self.directory.path())
    }

    /// The rows of a table, also behind damaged blocks. Those in memory are left out.
    fn sound_rows(&self, table: Table, after: Option<&[u8]>) -> Result<SoundRows, Failure> {
        Ok(SoundRows::of(self.tables()?.keyspace(table), after))
    }

    /// Refuses what would change a store that is only read.
    fn check_writable(&self) -> Result<(), Failure> {
        if !self.is_only_read() {
            return Ok(());
        }
        Err(Failure::ReadOnly(format!(
            "{} is only read, because the server was started so",
            self.directory.path().display()
        )))
    }

    /// The number of runs in the first level, for the table that has most there. fjall blocks writers when there are
    /// 30.
    pub fn first_level_runs(&self) -> usize {
        self.tables.as_deref().map_or(0, Tables::first_level_runs)
    }

    fn tables(&self) -> Result<&Tables, Failure> {
        if self.closed.load(Ordering::Acquire) {
            return Err(Failure::Final("the store is closed".into()));
        }
        self.tables.as_deref().ok_or_else(|| Failure::Final("the store is closed".into()))
    }

    /// Whether there is enough room to begin a life of the server. Files left over by the last life (journals to be
    /// flushed, tables that were merged) are deleted within some seconds.
    fn check_room_to_begin(&self) -> Result<(), Failure> {
        let deadline = Instant::now() + GIVING_BACK_MAX;
        loop {
            match self.room.check_disk() {
                Err(Failure::Full(_)) if Instant::now() < deadline => std::thread::sleep(GIVING_BACK_INTERVAL),
                Err(Failure::Full(text)) => {
                    return Err(Failure::Full(format!("{text}: make room on it, then start the server again")));
                }
                checked => {
                    self.room.log_from_now_on();
                    return checked;
                }
            }
        }
    }

    /// If the last write has begun another journal, notes that this is the newest. Says nothing of the write: a store that is
    /// being closed meanwhile has made it nevertheless.
    fn note_new_journal(&self) {
        let Some(journals) = self.tables.as_deref().map(|tables| tables.database.journal_count()) else { return };
        if self.journals.swap(journals, Ordering::Relaxed) != journals {
            self.directory.note_newest_journal(false);
        }
    }

    /// Makes the draft durable and visible. A failure is final, because after a failed write or sync it is unknown
    /// whether the disk has the draft.
    fn write(&self, draft: Draft<'_>) -> Result<(), Failure> {
        if let Some(reason) = self.failed.get() {
            return Err(Failure::Final(reason.clone()));
        }
        let committed = draft.commit();
        self.note_new_journal();
        committed.map_err(|error| {
            let path = self.directory.path().display();
            let reason = format!("writing to {path} failed: {}", describe(&error));
            let reason = self.failed.get_or_init(|| reason).clone();
            match error {
                // fjall had failed before, in the background, and did not begin to write this draft.
                fjall::Error::Poisoned => Failure::Final(reason),
                _ => Failure::Broken(reason),
            }
        })
    }
}

impl Store for Embedded {
    fn next_epoch(&self) -> Result<Epoch, Failure> {
        self.check_moved()?;
        let tables = self.tables()?;
        let epoch = Epoch(tables.meta(self.directory.path())?.epoch.0 + 1);
        if self.is_only_read() {
            return Ok(epoch);
        }
        self.check_room_to_begin()?;
        let mut cache = CommitCache::default();
        let mut draft = Draft::new(tables, &mut cache);
        draft.put(Table::Meta, keys::META.into(), record::encode_meta(&StoreMeta { format: FORMAT, epoch }));
        self.write(draft)?;
        Ok(epoch)
    }

    fn commit(&self, writes: &[Write]) -> Result<Vec<Result<Written, Failure>>, Failure> {
        let tables = self.tables()?;
        self.check_writable()?;
        self.room.check()?;
        let mut cache = self.cache.lock();
        let mut draft = Draft::new(tables, &mut cache);
        let written = writes.iter().map(|write| draft.apply(write)).collect();
        draft.sweep();
        self.write(draft)?;
        Ok(written)
    }

    fn head(&self, channel: &ChannelId) -> Result<Option<ChannelHead>, Failure> {
        self.tables()?.view().head(channel)
    }

    fn message(&self, channel: &ChannelId, id: MessageId) -> Result<Option<Message>, Failure> {
        let (tables, decode) = (self.tables()?, |bytes: &[u8]| record::decode_message(channel, id, bytes));
        if tables.expiry.is_over(channel, id) {
            return Ok(None);
        }
        tables.read(Table::Messages, &keys::message(channel, id), decode)
    }

    fn messages_part(
        &self,
        channel: &ChannelId,
        from: PageStart,
        limit: usize,
    ) -> Result<Part<Message, MessageId>, Failure> {
        self.tables()?.view().messages(channel, from, limit)
    }

    fn credential(&self, credential: &Credential) -> Result<Option<CredentialOwner>, Failure> {
        self.tables()?.read(Table::Credentials, &keys::credential(credential), record::decode_credential)
    }

    fn account(&self, id: UserId) -> Result<Option<Account>, Failure> {
        self.tables()?.read(Table::Accounts, &keys::account(id), record::decode_account)
    }

    fn profile(&self, id: UserId) -> Result<Option<Profile>, Failure> {
        self.tables()?.read(Table::Accounts, &keys::account(id), record::decode_profile)
    }

    fn has_account(&self, id: UserId) -> Result<bool, Failure> {
        self.tables()?.view().contains(Table::Accounts, &keys::account(id))
    }

    fn user_by_username(&self, username: &str) -> Result<Option<UserId>, Failure> {
        self.tables()?.read(Table::Usernames, &keys::username(username), record::decode_username)
    }

    fn group(&self, id: GroupId) -> Result<Option<Group>, Failure> {
        self.tables()?.read(Table::Groups, &keys::group(id), |bytes| record::decode_group(id, bytes))
    }

    fn group_page(&self, filter: &GroupFilter, after: Option<&GroupPlace>, limit: usize) -> Result<GroupPage, Failure> {
        self.tables()?.view().groups(filter, after, limit)
    }

    fn group_role(&self, group: GroupId, user: UserId) -> Result<Option<Role>, Failure> {
        self.tables()?.view().group_role(group, user)
    }

    fn group_members_part(
        &self,
        group: GroupId,
        role: Option<Role>,
        after: Option<RosterPlace>,
        limit: usize,
    ) -> Result<Part<(UserId, RosterPlace), RosterPlace>, Failure> {
        self.tables()?.view().group_members(group, role, after, limit)
    }

    fn user_groups_part(
        &self,
        user: UserId,
        role: Option<Role>,
        after: Option<RosterPlace>,
        limit: usize,
    ) -> Result<Part<(Group, RosterPlace), RosterPlace>, Failure> {
        self.tables()?.view().user_groups(user, role, after, limit)
    }

    fn sides(&self, user: UserId, other: UserId) -> Result<Sides, Failure> {
        let view = self.tables()?.view();
        Ok(Sides { own: view.friend_state(user, other)?, others: view.friend_state(other, user)? })
    }

    fn friends_part(
        &self,
        user: UserId,
        state: Option<FriendState>,
        after: Option<FriendPlace>,
        limit: usize,
    ) -> Result<Part<(Friend, FriendPlace), FriendPlace>, Failure> {
        self.tables()?.view().friends(user, state, after, limit)
    }

    fn edge_count(&self, user: UserId) -> Result<u32, Failure> {
        let friend_counts =
            self.tables()?.read(Table::FriendCounts, &keys::user(user), record::decode_friend_counts)?;
        Ok(friend_counts.unwrap_or_default().friends)
    }

    fn notifications_part(
        &self,
        user: UserId,
        after: Option<NotificationId>,
        limit: usize,
    ) -> Result<Part<Notification, NotificationId>, Failure> {
        self.tables()?.view().notifications(user, after, limit)
    }

    fn objects(&self, ids: &[ObjectId]) -> Result<Vec<Object>, Failure> {
        self.tables()?.view().objects(ids)
    }

    fn objects_part(
        &self,
        listing: &ObjectListing,
        after: Option<&ObjectPlace>,
        limit: usize,
    ) -> Result<Part<Object, ObjectPlace>, Failure> {
        self.tables()?.view().objects_part(listing, after, limit)
    }

    fn object_counts(&self, owner: UserId) -> Result<ObjectCounts, Failure> {
        let counts = self.tables()?.read(Table::ObjectCounts, &keys::user(owner), record::decode_object_counts)?;
        Ok(counts.unwrap_or_default())
    }

    fn channels_written(
        &self,
        user: UserId,
        after: Option<&ChannelId>,
        limit: usize,
    ) -> Result<Vec<ChannelId>, Failure> {
        self.tables()?.view().channels_written(user, after, limit)
    }

    fn written_part(
        &self,
        user: UserId,
        floor: Option<MessageId>,
        from: Option<WrittenPlace>,
        limit: usize,
    ) -> Result<Part<(ChannelId, MessageId), WrittenPlace>, Failure> {
        self.tables()?.view().written(user, floor, from, limit)
    }

    fn account_deletions(&self, limit: usize) -> Result<Vec<UserId>, Failure> {
        self.tables()?.view().account_deletions(limit)
    }

    fn revocations(&self) -> Result<Vec<Revocation>, Failure> {
        self.tables()?.revocations().collect()
    }

    fn expired_revocations(
        &self,
        expiry: Expiry,
        after: Option<&RevocationPlace>,
        limit: usize,
    ) -> Result<(Vec<Revocation>, Option<RevocationPlace>), Failure> {
        let view = self.tables()?.view();
        let (mut found, mut place) = (Vec::new(), None);
        for span in keys::expired(expiry, after.map(|place| place.0.as_slice())) {
            let mut walk = view.walk(Table::Expiries, span, Direction::Rising);
            for row in walk.by_ref().take(limit - found.len()) {
                let (key, _) = row?;
                found.push(parsed(Table::Expiries, keys::expiring(&key))?);
                place = Some(RevocationPlace(key.to_vec()));
            }
            if let Some(stopped) = walk.stopped() {
                return Ok((found, Some(RevocationPlace(stopped.to_vec()))));
            }
        }
        let is_full = found.len() == limit;
        Ok((found, place.filter(|_| is_full)))
    }

    fn rows_read(&self) -> u64 {
        self.tables.as_deref().map_or(0, Tables::rows_read)
    }

    fn damaged_blocks(&self) -> usize {
        self.tables.as_deref().map_or(0, |tables| tables.damaged.count())
    }

    fn unready(&self) -> Option<String> {
        if let Some(reason) = self.failed.get() {
            return Some(reason.clone());
        }
        if self.is_only_read() {
            return None;
        }
        if self.tables.as_deref().is_some_and(Tables::stops_writers) {
            return Some("tables are being merged, and writes wait for it".into());
        }
        self.room.check().err().map(|failure| failure.to_string())
    }

    fn disk_room(&self) -> Option<DiskRoom> {
        let room = self.room.free_and_reserve().ok()?;
        let tables = self.tables.as_deref().map_or(0, Tables::bytes);
        Some(DiskRoom { used: tables + directory::bytes_of_journals(&self.directory.database()), ..room })
    }

    fn back_up(&self, target: &Path) -> Result<BackedUp, Failure> {
        self.check_writable()?;
        self.copy_to(target)
    }

    fn close(&self) -> Result<(), Failure> {
        if self.is_only_read() {
            self.closed.store(true, Ordering::Release);
            return Ok(());
        }
        let synced = self.tables()?.database.persist(PersistMode::SyncAll);
        self.closed.store(true, Ordering::Release);
        // After a failed write the journal may end in a part of a group, which the next start cuts off.
        if synced.is_ok() && self.failed.get().is_none() {
            self.directory.note_newest_journal(true);
        }
        synced.map_err(|error| Failure::Final(format!("the last sync failed: {}", describe(&error))))
    }
}

impl Drop for Embedded {
    fn drop(&mut self) {
        drop(self.compactor.take());
        if self.failed.get().is_some() {
            // fjall's journal writer flushes its buffer when it is dropped. After a failure that could complete a group
            // whose writers were told that it failed. The process is about to end anyway.
            std::mem::forget(self.tables.take());
        }
    }
}

/// A failed operation on the store's files.
fn failed(what: &str, path: &Path, error: &std::io::Error) -> Failure {
    Failure::Final(format!("{what} {} failed: {error}", PathBuf::from(path).display()))
}

#[cfg(test)]
mod tests;
