//! A copy of a store for reading, which leaves the store's own files untouched: for a server that only reads, for checks,
//! and for exports from a disk that is full or broken.
//!
//! fjall writes as soon as it opens a database. So it opens a copy in a directory of its own, elsewhere. Tables, which are
//! almost all of the data, are symbolic links there. Lists of tables and journals are copied, 200 MB at most. fjall gets no
//! threads, so it keeps what was in journals in memory, and merges nothing.
//!
//! fjall opens no database with a table that it cannot open, and no table of an upper level without its filter and index.
//! So the lists in the copy leave such tables out, and have runs of upper levels further down if need be.

use std::fs::{self, File};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

use rustix::fs::FlockOperation;

use super::copying::{copy_beginning, copy_file, make_directory, write_file};
use super::directory::{DATABASE, Directory, LOCK, checked_files, names_in};
use super::failures::UNREADABLE;
use super::journal::Unread;
use super::manifest::Manifest;
use super::table_files::{self, FIRST_LEVEL_WITHOUT_INDEXES, Flaw, OPTIONS_KEYSPACE};
use super::{failed, journal};
use crate::Failure;

/// The directory in a keyspace that has the files of its tables.
const TABLES: &str = "tables";
/// The most tables that are left out and told of when the copy cannot be opened.
const LEFT_OUT_MAX: usize = 10;
/// How the names of copies begin.
const PREFIX: &str = "stentor-reading-";
/// Directories of this many names are tried.
const NAMES_MAX: u32 = 1000;
/// Bytes beside those of the journals that the copy may take: lists of tables, and tables that are made from journals.
const REST_BYTES: u64 = 16 << 20;

/// The copy; it is removed when this is dropped. A copy of a process that was killed is removed by the next that makes one.
pub struct ReadingCopy {
    path: PathBuf,
    /// The lock on the directory, which says that a process still needs it.
    _lock: File,
    /// What cannot be read of the journals, and which tables are left out, for operators.
    pub damages: Vec<String>,
}

impl Drop for ReadingCopy {
    fn drop(&mut self) {
        // What cannot be removed now is removed by the next copy.
        let _ = fs::remove_dir_all(&self.path);
    }
}

impl ReadingCopy {
    /// Copies a store that no server has open. Fails if a file of it is missing, damaged or unreadable, unless that is a table
    /// or a journal; and if there is no room for the copy.
    pub fn of(directory: &Directory) -> Result<Self, Failure> {
        let database = directory.database();
        let journals = checked_files(&database)?;
        let lost = directory.lost_journal(&journals)?;
        let mut sources = Vec::new();
        for (number, path) in journals {
            let file = File::open(&path).map_err(|error| failed("reading", &path, &error))?;
            let length = journal::written_bytes(&file).map_err(|error| failed("reading", &path, &error))?;
            sources.push((number, path, file, length));
        }
        // What is in journals may be written once more, as tables.
        let bytes = sources.iter().map(|(.., length)| 2 * length).sum::<u64>() + REST_BYTES;
        let (path, _lock) = scratch(bytes)?;
        let mut copy = Self { path, _lock, damages: Vec::new() };
        let target = copy.database();
        make_directory(&target)?;
        copy_file(&database.join("version"), &target.join("version"))?;
        write_file(&target.join(LOCK), &[])?;
        let keyspaces = target.join("keyspaces");
        make_directory(&keyspaces)?;
        for name in names_in(&database.join("keyspaces"))? {
            let from = database.join("keyspaces").join(&name);
            let list = readable_tables(&name, &from, &mut copy.damages)?;
            copy_keyspace(&from, &keyspaces.join(&name), &list)?;
        }
        copy.damages.extend(lost);
        copy.damages.extend(journal::gaps(&database, sources.iter().map(|(number, ..)| *number)));
        let mut copied = Vec::new();
        for (number, path, file, length) in sources {
            let to = target.join(format!("{number}.jnl"));
            copy_beginning(&file, length, &to)?;
            copied.push(((number, to), path));
        }
        for Unread { path, place, is_torn } in journal::cut_off(copied.iter().map(|(copy, _)| copy.clone()).collect())?
        {
            let original = copied.iter().find(|((_, copy), _)| *copy == path).map_or(&path, |(_, path)| path).display();
            if is_torn {
                tracing::warn!(
                    "{original} ends in a group that was not completely written, at byte {place}; it is left out. A \
                     process that is killed leaves that behind, and loses nothing by it; one that was stopped in order \
                     does not"
                );
            } else {
                copy.damages.push(format!("{original}: damaged at byte {place}; what follows is lost"));
            }
        }
        Ok(copy)
    }

    /// A failure of opening the copy, told of the store that it is a copy of, with the tables that are left out.
    pub fn told(&self, failure: Failure, directory: &Path) -> Failure {
        let Failure::Corrupt(text) = failure else { return failure };
        let text = text.replace(&self.path.display().to_string(), &directory.display().to_string());
        let left_out: String = self.damages.iter().take(LEFT_OUT_MAX).map(|damage| format!("; {damage}")).collect();
        Failure::Corrupt(format!("{text}{left_out}"))
    }

    /// The path of fjall's files in the copy.
    pub fn database(&self) -> PathBuf {
        self.path.join(DATABASE)
    }
}

/// The tables of a keyspace that fjall can open. Tells `damages` of the others. Fails if fjall's own tables of names and
/// options are among these: no other table is found without them.
fn readable_tables(name: &str, keyspace: &Path, damages: &mut Vec<String>) -> Result<List, Failure> {
    let mut list = List { manifest: Manifest::read(keyspace)?, is_changed: false };
    let (mut unopenable, mut has_upper_flaw) = (Vec::new(), false);
    for (level, number, path) in list.manifest.files() {
        if name == OPTIONS_KEYSPACE {
            if let Some(Flaw::Whole(reason) | Flaw::Upper(reason)) = table_files::flaw_of_options(level, &path) {
                let path = path.display();
                return Err(Failure::Corrupt(format!(
                    "{path}: the names of all tables cannot be read: {reason}. {UNREADABLE}"
                )));
            }
            continue;
        }
        match table_files::flaw(level, &path) {
            None => {}
            Some(Flaw::Upper(_)) => has_upper_flaw = true,
            Some(Flaw::Whole(reason)) => {
                let path = path.display();
                damages.push(format!("{path}: this file of a table cannot be opened, and is left out: {reason}"));
                unopenable.push(number);
            }
        }
    }
    list.is_changed = has_upper_flaw || !unopenable.is_empty();
    unopenable.into_iter().for_each(|number| list.manifest.remove(number));
    if has_upper_flaw {
        list.manifest.move_down(FIRST_LEVEL_WITHOUT_INDEXES);
    }
    Ok(list)
}

/// The tables that a copy of a keyspace has.
struct List {
    manifest: Manifest,
    /// Whether it is not the keyspace's own list.
    is_changed: bool,
}

fn copy_keyspace(from: &Path, to: &Path, list: &List) -> Result<(), Failure> {
    make_directory(to)?;
    let own = if list.is_changed { list.manifest.names().to_vec() } else { Vec::new() };
    for name in names_in(from)? {
        let (from, to) = (from.join(&name), to.join(&name));
        if name == TABLES {
            link_tables(&from, &to, list.manifest.files().map(|(_, number, _)| number.to_string()))?;
        } else if from.is_dir() {
            link_tables(&from, &to, names_in(&from)?.into_iter())?;
        } else if !own.contains(&name) {
            copy_file(&from, &to)?;
        }
    }
    if list.is_changed { list.manifest.write(to) } else { Ok(()) }
}

fn link_tables(from: &Path, to: &Path, names: impl Iterator<Item = String>) -> Result<(), Failure> {
    make_directory(to)?;
    let from = from.canonicalize().map_err(|error| failed("finding", from, &error))?;
    for name in names {
        let (original, link) = (from.join(&name), to.join(&name));
        std::os::unix::fs::symlink(&original, &link).map_err(|error| failed("making", &link, &error))?;
    }
    Ok(())
}

/// Removes the copies of this user that no process needs any more, because it was killed.
fn remove_left_over(parent: &Path) {
    let (Ok(entries), Ok(own)) = (fs::read_dir(parent), fs::metadata("/proc/self")) else { return };
    for path in entries.flatten().map(|entry| entry.path()) {
        let is_copy = path.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(PREFIX.as_bytes()));
        let is_own = || {
            let found = fs::symlink_metadata(&path).ok();
            found.is_some_and(|found| found.is_dir() && found.uid() == own.uid())
        };
        if is_copy && is_own() && locked(&path).is_some() {
            let _ = fs::remove_dir_all(&path);
        }
    }
}

/// The lock on a directory, if no process has it.
fn locked(path: &Path) -> Option<File> {
    let directory = File::open(path).ok()?;
    rustix::fs::flock(&directory, FlockOperation::NonBlockingLockExclusive).ok()?;
    Some(directory)
}

/// A new directory for this user alone, on a disk that has room for so many bytes: where the system has temporary files,
/// or in memory. It is locked as long as the file is open.
fn scratch(bytes: u64) -> Result<(PathBuf, File), Failure> {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let mut reason = String::new();
    for parent in [std::env::temp_dir(), "/dev/shm".into(), "/var/tmp".into()] {
        remove_left_over(&parent);
        let free = rustix::fs::statvfs(&parent).map_or(0, |stat| stat.f_bavail.saturating_mul(stat.f_frsize));
        if free < bytes {
            reason = format!("{} has {} MiB free", parent.display(), free >> 20);
            continue;
        }
        for _ in 0..NAMES_MAX {
            let number = NEXT.fetch_add(1, Ordering::Relaxed);
            let path = parent.join(format!("{PREFIX}{}-{number}", std::process::id()));
            match make_directory(&path) {
                // The process that removes what is left over may have been faster than the lock.
                Ok(()) => match locked(&path) {
                    Some(lock) => return Ok((path, lock)),
                    None => continue,
                },
                Err(failure) => reason = failure.to_string(),
            }
            if !path.exists() {
                break;
            }
        }
    }
    Err(Failure::Passing(format!(
        "{} MiB are needed beside the store to read it ({reason}): name a directory with room by the variable TMPDIR",
        bytes >> 20
    )))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn copies_of_killed_processes_are_removed_and_those_in_use_stay() {
        let parent = tempfile::tempdir().unwrap();
        let path = |name: &str| parent.path().join(name);
        for name in ["stentor-reading-7-0", "stentor-reading-8-0", "stentor-readings", "other"] {
            make_directory(&path(name)).unwrap();
        }
        fs::write(path("stentor-reading-7-0").join("journal"), "of a killed process").unwrap();
        let lock = locked(&path("stentor-reading-8-0")).unwrap();
        remove_left_over(parent.path());
        let left = || {
            let mut names: Vec<_> =
                fs::read_dir(parent.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
            names.sort();
            names
        };
        assert_eq!(left(), ["other", "stentor-reading-8-0", "stentor-readings"]);
        drop(lock);
        remove_left_over(parent.path());
        assert_eq!(left(), ["other", "stentor-readings"]);
    }
}
