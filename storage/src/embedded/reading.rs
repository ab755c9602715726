//! A copy of a store for reading, which leaves the store's own files untouched: for a server that only reads, for checks,
//! and for exports from a disk that is full or broken.
//!
//! fjall writes as soon as it opens a database. So it opens a copy in a directory of its own, elsewhere. Tables, which are
//! almost all of the data, are symbolic links there. Lists of tables and journals are copied, 200 MB at most. fjall gets no
//! threads, so it keeps what was in journals in memory, and merges nothing.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

use super::copying::{copy_beginning, copy_file, make_directory, write_file};
use super::directory::{DATABASE, Directory, LOCK, checked_files, names_in};
use super::{failed, journal};
use crate::Failure;

/// Directories of this many names are tried.
const NAMES_MAX: u32 = 1000;
/// Bytes beside those of the journals that the copy may take: lists of tables, and tables that are made from journals.
const REST_BYTES: u64 = 16 << 20;

/// The copy; it is removed when this is dropped.
pub struct ReadingCopy {
    path: PathBuf,
    /// What cannot be read of the journals, for operators.
    pub damages: Vec<String>,
}

impl Drop for ReadingCopy {
    fn drop(&mut self) {
        // The system empties its directory of temporary files when it starts.
        let _ = fs::remove_dir_all(&self.path);
    }
}

impl ReadingCopy {
    /// Copies a store that no server has open. Fails if a file of it is missing, damaged or unreadable, unless that is a table
    /// or a journal; and if there is no room for the copy.
    pub fn of(directory: &Directory) -> Result<Self, Failure> {
        let database = directory.database();
        let journals = checked_files(&database)?;
        let mut sources = Vec::new();
        for (number, path) in journals {
            let file = File::open(&path).map_err(|error| failed("reading", &path, &error))?;
            let length = journal::written_bytes(&file).map_err(|error| failed("reading", &path, &error))?;
            sources.push((number, path, file, length));
        }
        // What is in journals may be written once more, as tables.
        let bytes = sources.iter().map(|(.., length)| 2 * length).sum::<u64>() + REST_BYTES;
        let mut copy = Self { path: scratch(bytes)?, damages: Vec::new() };
        let target = copy.database();
        make_directory(&target)?;
        copy_file(&database.join("version"), &target.join("version"))?;
        write_file(&target.join(LOCK), &[])?;
        copy_keyspaces(&database.join("keyspaces"), &target.join("keyspaces"))?;
        let mut copied = Vec::new();
        for (number, path, file, length) in sources {
            let to = target.join(format!("{number}.jnl"));
            copy_beginning(&file, length, &to)?;
            copied.push(((number, to), path));
        }
        for (damaged, place) in journal::cut_damage_off(copied.iter().map(|(copy, _)| copy.clone()).collect())? {
            let original = copied.iter().find(|((_, copy), _)| *copy == damaged).map_or(&damaged, |(_, path)| path);
            copy.damages.push(format!("{}: damaged at byte {place}; what follows is lost", original.display()));
        }
        Ok(copy)
    }

    /// The path of fjall's files in the copy.
    pub fn database(&self) -> PathBuf {
        self.path.join(DATABASE)
    }
}

fn copy_keyspaces(from: &Path, to: &Path) -> Result<(), Failure> {
    make_directory(to)?;
    for name in names_in(from)? {
        let (from, to) = (from.join(&name), to.join(&name));
        make_directory(&to)?;
        for name in names_in(&from)? {
            let (from, to) = (from.join(&name), to.join(&name));
            if from.is_dir() {
                link_tables(&from, &to)?;
            } else {
                copy_file(&from, &to)?;
            }
        }
    }
    Ok(())
}

fn link_tables(from: &Path, to: &Path) -> Result<(), Failure> {
    make_directory(to)?;
    let from = from.canonicalize().map_err(|error| failed("finding", from, &error))?;
    for name in names_in(&from)? {
        let (original, link) = (from.join(&name), to.join(&name));
        std::os::unix::fs::symlink(&original, &link).map_err(|error| failed("making", &link, &error))?;
    }
    Ok(())
}

/// A new directory for this user alone, on a disk that has room for so many bytes: where the system has temporary files,
/// or in memory.
fn scratch(bytes: u64) -> Result<PathBuf, Failure> {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let mut reason = String::new();
    for parent in [std::env::temp_dir(), "/dev/shm".into(), "/var/tmp".into()] {
        let free = rustix::fs::statvfs(&parent).map_or(0, |stat| stat.f_bavail.saturating_mul(stat.f_frsize));
        if free < bytes {
            reason = format!("{} has {} MiB free", parent.display(), free >> 20);
            continue;
        }
        for _ in 0..NAMES_MAX {
            let number = NEXT.fetch_add(1, Ordering::Relaxed);
            let path = parent.join(format!("stentor-reading-{}-{number}", std::process::id()));
            match make_directory(&path) {
                Ok(()) => return Ok(path),
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
