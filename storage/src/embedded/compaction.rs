//! Compaction: threads that merge the runs of tables if the disk has room for the result, and that release tables which
//! have been merged.
//!
//! fjall keeps a strategy with each of its keyspaces and would begin a merge without checking the disk. So these
//! threads call fjall's trees themselves, one step at a time. fjall removes an old table only when no reader can use it
//! any more, and looks for such tables only when a memtable is full. On a server that refuses writes that never
//! happens. So the first thread also makes fjall look for them.
//!
//! A merge that fails at a damaged block is not tried again before the next start, and the server goes on. If the block is
//! near the top, the runs there are moved down unmerged, so that later runs can be merged above them. If it is further down,
//! runs gather above it: reads become slower, and writers never wait. Several runs near the top with none below them cannot
//! be moved in order. When there are many, writes are refused, because fjall would hold the writer back for ever.
//!
//! The second thread takes the steps that may be long. So the first thread is always free for the steps that writers
//! would have to wait for.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use fjall::AbstractTree;
use fjall::compaction::Leveled;
use lsm_tree::compaction::{CompactionStrategy, MoveDown, PullDown};
use parking_lot::Mutex;

use super::commit_cache::CommitCache;
use super::expiry::Rewrite;
use super::failures::{describe, describe_table, io_error};
use super::halted::Halted;
use super::room::Room;
use super::tables::Tables;
use super::tiers::{LEVELS, Level, Part, Tiers, is_tiered, levels_of};
use crate::Failure;
use crate::keys::Table;

/// How often the threads look at the tables while there is nothing to do.
const INTERVAL: Duration = Duration::from_millis(250);
/// The shortest interval between two searches for old tables. A search costs some milliseconds.
const RELEASE_INTERVAL: Duration = Duration::from_secs(1);
/// After this many snapshots have been closed, fjall computes again which tables no reader can use any more.
const SNAPSHOTS_PER_COLLECTION: usize = 10_000;
/// fjall slows writers down at 20 runs in the first level, and stops them at 30 until some have been merged.
const RUNS_MAX: usize = 16;
/// `Leveled` merges the first level when it has this many tables.
const LEVELED_TABLES: usize = 4;
/// Below the first level, `Leveled` takes the smallest step possible: a table of 64 MiB with those that it overlaps in
/// the next level, which is ten times as large, and a few at the borders.
const DEEP_MERGE_BYTES_MAX: u64 = 16 * (64 << 20);

type Strategy = Arc<dyn CompactionStrategy + Send + Sync>;

/// The threads; dropping this stops them.
pub struct Compactor {
    stop: Option<flume::Sender<()>>,
    stopping: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
}

impl Compactor {
    /// Starts the threads. Fails if the system gives none.
    pub fn start(work: Work) -> Result<Self, Failure> {
        let (stop, stopped) = flume::bounded(0);
        let (stopping, work) = (work.tables.stopping.clone(), Arc::new(work));
        let mut compactor = Self { stop: Some(stop), stopping, threads: Vec::new() };
        for (name, part) in [("store-merge", Part::Shallow), ("store-merge-2", Part::Deep)] {
            let (work, stopped) = (work.clone(), stopped.clone());
            let thread = thread::Builder::new().name(name.into()).spawn(move || work.run(part, &stopped));
            let thread =
                thread.map_err(|error| Failure::Final(format!("starting a storage thread failed: {error}")))?;
            compactor.threads.push(thread);
        }
        Ok(compactor)
    }
}

impl Drop for Compactor {
    fn drop(&mut self) {
        self.stopping.store(true, Ordering::Release);
        // The threads wait for the sender to be dropped.
        drop(self.stop.take());
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}

/// The data that the threads work on.
pub struct Work {
    pub tables: Arc<Tables>,
    pub room: Arc<Room>,
    /// A thread that holds this lock may write.
    pub writer: Arc<Mutex<CommitCache>>,
    /// The reason, once the store has failed.
    pub failed: Arc<OnceLock<String>>,
    /// The parts of trees that are not merged because a block there is damaged.
    pub halted: Halted,
}

/// The result of one step for a table.
enum Outcome {
    Done,
    Nothing,
    /// There is no room for the step.
    LeftOut,
}

impl Work {
    fn run(&self, part: Part, stopped: &flume::Receiver<()>) {
        let mut released = Instant::now();
        while matches!(stopped.recv_timeout(INTERVAL), Err(flume::RecvTimeoutError::Timeout)) {
            let mut done = true;
            while done && !self.tables.stopping.load(Ordering::Acquire) && self.failed.get().is_none() {
                done = self.merge_all(part);
                let due = done || released.elapsed() >= RELEASE_INTERVAL;
                if part == Part::Shallow && due && self.has_old_versions() {
                    self.release();
                    released = Instant::now();
                }
            }
            // This check only serves the log: it reports that there is room again even if no write comes.
            if part == Part::Shallow {
                let _ = self.room.check();
            }
        }
    }

    /// Takes one step in each table; returns whether any step was taken.
    fn merge_all(&self, part: Part) -> bool {
        let (mut done, mut crowded, mut stuck) = (false, false, None);
        for table in Table::ALL {
            if self.tables.stopping.load(Ordering::Acquire) {
                return false;
            }
            match self.merge(table, part) {
                Ok(Outcome::Done) => done = true,
                Ok(Outcome::Nothing) => stuck = stuck.or_else(|| self.stuck(table, part)),
                Ok(Outcome::LeftOut) => crowded |= levels_of(self.tables.keyspace(table))[0].runs >= RUNS_MAX,
                Err(error) => {
                    let what = || format!("merging table {} failed: {}", table.name(), describe(&error));
                    match io_error(&error).map(std::io::Error::kind) {
                        // Another program has filled the disk meanwhile.
                        Some(std::io::ErrorKind::StorageFull) => tracing::warn!("{}", what()),
                        _ if self.tables.stopping.load(Ordering::Acquire) => {}
                        _ => self.halt(table, part, &error),
                    }
                }
            }
        }
        if part == Part::Shallow {
            self.room.set_crowded(crowded);
            self.room.set_stuck(stuck);
        }
        done
    }

    /// Why no step can be taken for a table that has too many runs, if it has.
    fn stuck(&self, table: Table, part: Part) -> Option<String> {
        if part != Part::Shallow || !self.halted.parts(table).shallow {
            return None;
        }
        let runs = levels_of(self.tables.keyspace(table))[0].runs;
        let name = table.name();
        let file = self.tables.damaged.file_of(table);
        let file = file.map_or_else(|| "one of its files".to_owned(), |file| file.display().to_string());
        (runs >= RUNS_MAX).then(|| {
            format!(
                "table {name} cannot be merged, because a block of {file} cannot be read, and {runs} runs have gathered"
            )
        })
    }

    /// Nothing is lost when a merge fails: the tables that it has read stay. It would fail again, so it is not tried again.
    fn halt(&self, table: Table, part: Part, error: &fjall::Error) {
        self.tables.damaged.note_merge(table, error);
        self.halted.halt(table, part);
        let (name, reason) = (table.name(), describe(error));
        tracing::error!(
            table = name,
            "merging table {name} failed: {reason}. The server goes on without such merges until its next start: expired and \
             removed rows of this table keep their room, and reads become slower"
        );
    }

    fn merge(&self, table: Table, part: Part) -> fjall::Result<Outcome> {
        let keyspace = self.tables.keyspace(table);
        let levels = levels_of(keyspace);
        let halted = self.halted.parts(table);
        let rewrites = table == Table::Messages && !halted.any();
        let rewrite = if rewrites { self.next_rewrite(part, &levels) } else { None };
        if rewrite == Some(Rewrite::WriteOut) {
            return keyspace.rotate_memtable().map(|rotated| if rotated { Outcome::Done } else { Outcome::Nothing });
        }
        let step = rewrite.map(|step| rewriting(step, &levels));
        let Some((strategy, input_max)) = step.or_else(|| self.next_step(table, part, &levels)) else {
            return Ok(Outcome::Nothing);
        };
        let Some(_claim) = self.room.claim(input_max) else {
            if rewrite.is_some() {
                self.tables.expiry.leave_out();
                return Ok(Outcome::Nothing);
            }
            return Ok(Outcome::LeftOut);
        };
        let tree = &keyspace.tree;
        let before = tree.current_version().id();
        let readable_from = self.tables.database.supervisor.snapshot_tracker.get_seqno_safe_to_gc();
        tree.compact(strategy, readable_from)?;
        Ok(if tree.current_version().id() == before { Outcome::Nothing } else { Outcome::Done })
    }

    /// The strategy for the next step, and the most bytes that the step reads, and therefore writes.
    ///
    /// Messages and the notes of which user has written where, and in which passages, are almost all of the data, and are
    /// seldom removed. The other tables are small, and some of their rows are added and removed often; `Leveled` drops
    /// removed rows sooner. A table whose runs were moved down past damage has more than one run in a level, which only
    /// `Tiers` knows.
    fn next_step(&self, table: Table, part: Part, levels: &[Level; LEVELS]) -> Option<(Strategy, u64)> {
        let tiers = Tiers::default();
        let halted = self.halted.parts(table);
        let is_large = matches!(table, Table::Messages | Table::Authored | Table::Passages);
        let step = match part {
            Part::Shallow if halted.shallow => {
                let step = tiers.next_set_aside(levels);
                if step.is_none() && levels[0].tables + levels[1].tables == 0 {
                    self.halted.set_aside(table);
                }
                step?
            }
            Part::Deep if halted.deep => return None,
            _ if is_large || halted.any() || is_tiered(levels) => match part {
                Part::Shallow => tiers.next_shallow(levels)?,
                Part::Deep => tiers.next_deep(levels)?,
            },
            Part::Shallow => return Some((Arc::new(Leveled::default()), input_max(levels))),
            Part::Deep => return None,
        };
        let input_max = tiers.input_max(step, levels);
        debug_assert!(input_max <= levels.iter().map(|level| level.bytes).sum(), "a step reads no more than there is");
        Some((tiers.strategy(step, levels), input_max))
    }

    /// The next step of a merge of all messages, by which those that have expired are dropped.
    fn next_rewrite(&self, part: Part, levels: &[Level; LEVELS]) -> Option<Rewrite> {
        let tree = &self.tables.keyspace(Table::Messages).tree;
        match part {
            Part::Shallow => self.tables.expiry.next_shallow(levels, tree.sealed_memtable_count() > 0),
            Part::Deep => self.tables.expiry.next_deep(levels),
        }
    }

    fn has_old_versions(&self) -> bool {
        let old = |table: Table| self.tables.keyspace(table).tree.version_free_list_len() > 0;
        Table::ALL.into_iter().any(old)
    }

    /// Releases the tables that no reader can use any more; fjall removes their files. Does nothing while a group is
    /// being written: fjall may hold that writer back until runs are merged, so this thread must not wait for it.
    fn release(&self) {
        let supervisor = &self.tables.database.supervisor;
        {
            // A version can be released when a later version is older than every possible reader. So the newest
            // version, after which there may be no write, needs a sequence number after it. The lock is needed because
            // otherwise readers could see a part of a group that is being written.
            let Some(_writer) = self.writer.try_lock() else { return };
            for _ in 0..2 {
                supervisor.snapshot_tracker.publish(supervisor.seqno.next());
            }
        }
        for _ in 0..SNAPSHOTS_PER_COLLECTION {
            drop(supervisor.snapshot_tracker.open());
        }
        let readable_from = supervisor.snapshot_tracker.get_seqno_safe_to_gc();
        for table in Table::ALL {
            let keyspace = self.tables.keyspace(table);
            let released = keyspace.tree.get_version_history_lock().maintenance(keyspace.path(), readable_from);
            if let Err(error) = released {
                tracing::warn!("old versions of table {} stay: {}", table.name(), describe_table(&error));
            }
        }
    }
}

/// The strategy of a step of rewriting, and the most bytes that it reads.
fn rewriting(step: Rewrite, levels: &[Level; LEVELS]) -> (Strategy, u64) {
    match step {
        Rewrite::Merge { from, to } => {
            let bytes = |level: u8| levels[usize::from(level)].bytes;
            let input_max = if from == to { bytes(from) } else { bytes(from) + bytes(to) };
            (Arc::new(PullDown(from, to)), input_max)
        }
        Rewrite::Move | Rewrite::WriteOut => (Arc::new(MoveDown(1, 2)), 0),
    }
}

/// The most that the next step of `Leveled` reads, and therefore writes: the first level with the next level that is
/// not empty, or some tables of two deeper levels.
fn input_max(levels: &[Level; LEVELS]) -> u64 {
    let first_filled = levels[1..].iter().find(|level| level.tables > 0);
    match levels[0].tables >= LEVELED_TABLES {
        true => levels[0].bytes + first_filled.map_or(0, |level| level.bytes),
        false => levels.iter().map(|level| level.bytes).sum::<u64>().min(DEEP_MERGE_BYTES_MAX),
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::embedded::{EmbeddedOptions, opening, wall_clock};

    const FLUSHES: usize = 8;

    /// The tables in this directory, created if needed.
    fn work(directory: &Path, reserve: u64) -> Work {
        let database = directory.join("database");
        let options = EmbeddedOptions { cache_bytes: 8 << 20, free_bytes_min: 0, ..EmbeddedOptions::default() };
        if !database.exists() {
            opening::create(&database, &options).unwrap();
        }
        let tables = Arc::new(opening::open(&database, &options, &wall_clock()).unwrap());
        let room = Arc::new(Room::new(directory.into(), reserve));
        Work { tables, room, writer: Arc::default(), failed: Arc::default(), halted: Halted::default() }
    }

    /// Fills the messages table with as many runs as memtables are flushed, with every key in each run.
    fn flush_often(work: &Work) {
        let keyspace = work.tables.keyspace(Table::Messages);
        for round in 0..FLUSHES {
            for key in 0..1000_u32 {
                keyspace.insert(key.to_be_bytes(), format!("{round} {key}")).unwrap();
            }
            keyspace.rotate_memtable_and_wait().unwrap();
        }
        assert!(runs(work) >= FLUSHES - 1);
    }

    /// Runs in the first level. fjall may have moved the first run behind all others, without rewriting it.
    fn runs(work: &Work) -> usize {
        levels_of(work.tables.keyspace(Table::Messages))[0].runs
    }

    fn table_files(work: &Work) -> usize {
        let tables = work.tables.keyspace(Table::Messages).path().join("tables");
        std::fs::read_dir(tables).unwrap().count()
    }

    fn check_rows(work: &Work) {
        let keyspace = work.tables.keyspace(Table::Messages);
        for key in 0..1000_u32 {
            let value = keyspace.get(key.to_be_bytes()).unwrap().unwrap();
            assert_eq!(&value[..], format!("{} {key}", FLUSHES - 1).as_bytes());
        }
    }

    #[test]
    fn a_merge_begins_only_if_the_disk_has_room_for_it() {
        let directory = tempfile::tempdir().unwrap();
        let full = work(directory.path(), u64::MAX);
        flush_often(&full);
        assert!(!full.merge_all(Part::Shallow), "nothing is merged without room");
        assert!(runs(&full) >= FLUSHES - 1);
        drop(full);
        let roomy = work(directory.path(), 0);
        assert!(matches!(roomy.merge(Table::Messages, Part::Shallow), Ok(Outcome::Done)));
        assert_eq!(runs(&roomy), 0);
        check_rows(&roomy);
    }

    #[test]
    fn what_a_merge_frees_is_freed_without_another_write() {
        let directory = tempfile::tempdir().unwrap();
        let work = work(directory.path(), 0);
        flush_often(&work);
        work.release();
        assert_eq!(table_files(&work), FLUSHES, "none of these is old");
        let reader = work.tables.view();
        while work.merge_all(Part::Shallow) {}
        work.release();
        assert!(table_files(&work) > FLUSHES, "a reader may still need them");
        drop(reader);
        work.release();
        assert!(!work.has_old_versions());
        // The table that the merge made, and perhaps one that fjall had moved.
        assert!(table_files(&work) <= 2);
        check_rows(&work);
    }

    #[test]
    fn a_writer_that_is_held_back_does_not_hold_merges_back() {
        let directory = tempfile::tempdir().unwrap();
        let work = work(directory.path(), 0);
        flush_often(&work);
        let writing = work.writer.lock();
        while work.merge_all(Part::Shallow) {
            work.release();
        }
        assert_eq!(runs(&work), 0);
        assert!(work.has_old_versions());
        drop(writing);
        work.release();
        assert!(!work.has_old_versions());
    }

    #[test]
    fn too_many_runs_without_room_to_merge_them_refuse_writes() {
        let directory = tempfile::tempdir().unwrap();
        let full = work(directory.path(), u64::MAX);
        let keyspace = full.tables.keyspace(Table::Messages);
        for round in 0..=RUNS_MAX {
            keyspace.insert("key", format!("{round}")).unwrap();
            keyspace.rotate_memtable_and_wait().unwrap();
        }
        full.merge_all(Part::Shallow);
        let Err(Failure::Full(text)) = full.room.check() else { panic!("taken") };
        assert!(text.contains("no room to merge tables"), "{text}");
    }

    /// Takes steps until there are none, also after one that has failed.
    fn settle(work: &Work) {
        let mut quiet = 0;
        for _ in 0..100 {
            let done = [Part::Shallow, Part::Deep].map(|part| work.merge_all(part)).contains(&true);
            quiet = if done { 0 } else { quiet + 1 };
            if quiet == 3 {
                return;
            }
        }
        panic!("steps without an end: {:?}", levels_of(work.tables.keyspace(Table::Messages)));
    }

    #[test]
    fn a_merge_that_meets_damage_is_left_out_and_runs_above_it_are_merged() {
        let directory = tempfile::tempdir().unwrap();
        let work = work(directory.path(), 0);
        flush_often(&work);
        let version = work.tables.keyspace(Table::Messages).tree.current_version();
        let damaged = version.level(0).unwrap().iter().last().unwrap().iter().next().unwrap().path.clone();
        let file = std::fs::OpenOptions::new().write(true).open(&*damaged).unwrap();
        std::os::unix::fs::FileExt::write_all_at(&file, &[0; 64], 100).unwrap();
        drop(version);

        settle(&work);
        assert_eq!(work.failed.get(), None, "the store goes on");
        assert_eq!(runs(&work), 0, "runs are moved down past the damage");
        assert_eq!(work.tables.damaged.count(), 1, "it is known by then");
        for _ in 0..3 {
            flush_often(&work);
            settle(&work);
            assert!(runs(&work) < LEVELED_TABLES, "{:?}", levels_of(work.tables.keyspace(Table::Messages)));
        }
        assert!(work.halted.parts(Table::Messages).deep, "what has failed is not tried again");
        assert_eq!(work.tables.damaged.count(), 1);
        check_rows(&work);
        assert!(damaged.exists(), "nothing that is damaged is removed");
    }

    #[test]
    fn runs_that_can_be_neither_merged_nor_moved_refuse_writes_before_fjall_holds_the_writer_back() {
        let directory = tempfile::tempdir().unwrap();
        let work = work(directory.path(), 0);
        let keyspace = work.tables.keyspace(Table::Messages);
        let flush = |round: usize| {
            for key in 0..1000_u32 {
                keyspace.insert(key.to_be_bytes(), format!("{round} {key}")).unwrap();
            }
            keyspace.rotate_memtable_and_wait().unwrap();
        };
        flush(0);
        if let Some(level) = (1..LEVELS as u8).find(|&level| levels_of(keyspace)[usize::from(level)].runs > 0) {
            keyspace.tree.compact(Arc::new(MoveDown(level, 0)), 0).unwrap();
        }
        (1..LEVELED_TABLES).for_each(flush);
        assert_eq!(runs(&work), LEVELED_TABLES, "no run lies below: {:?}", levels_of(keyspace));
        let damaged = keyspace.tree.current_version().iter_tables().last().unwrap().path.clone();
        let file = std::fs::OpenOptions::new().write(true).open(&*damaged).unwrap();
        std::os::unix::fs::FileExt::write_all_at(&file, &[0; 64], 100).unwrap();
        settle(&work);
        assert_eq!(work.room.check(), Ok(()), "some runs do no harm");
        (LEVELED_TABLES..RUNS_MAX).for_each(flush);
        settle(&work);
        let Err(Failure::Corrupt(reason)) = work.room.check() else { panic!("taken") };
        assert!(reason.contains("table messages") && reason.contains(&damaged.display().to_string()), "{reason}");
        assert_eq!(work.room.check_disk(), Ok(()), "a start is not refused for it");
        assert!(runs(&work) < 20, "fjall slows no writer down");
        check_newest(&work);
    }

    /// Each row is as the last flush has written it, or its block is damaged.
    fn check_newest(work: &Work) {
        let keyspace = work.tables.keyspace(Table::Messages);
        for key in 0..1000_u32 {
            if let Ok(value) = keyspace.get(key.to_be_bytes()) {
                assert_eq!(&value.unwrap()[..], format!("{} {key}", RUNS_MAX - 1).as_bytes());
            }
        }
    }

    #[test]
    fn closing_ends_a_merge() {
        let directory = tempfile::tempdir().unwrap();
        let work = work(directory.path(), 0);
        flush_often(&work);
        work.tables.stopping.store(true, Ordering::Release);
        assert!(
            matches!(work.merge(Table::Messages, Part::Shallow), Err(error) if describe(&error).contains("interrupted"))
        );
        check_rows(&work);
        work.tables.stopping.store(false, Ordering::Release);
        assert!(matches!(work.merge(Table::Messages, Part::Shallow), Ok(Outcome::Done)));
        check_rows(&work);
    }
}
