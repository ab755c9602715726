//! The directory of an embedded store: locks it for one process, and checks whether its contents can be a Stentor
//! store.
//!
//! ```text
//! lock           held by the one process that uses the store; contains its process number, and which journal is the newest
//! database/      fjall's files
//! database.new/  a database that is being created; it is renamed when it is complete
//! ```
//!
//! A directory with anything else in it is refused and left untouched. fjall trusts the names of the files it finds and
//! panics on some that it did not make, so this module checks them before fjall sees them. It does not check the inside
//! of tables: that would mean reading all of them, and fjall checks each block as it reads it.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{ErrorKind, Read, Seek, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use parking_lot::Mutex;
use xxhash_rust::xxh3::xxh3_128;

use super::failures::{DAMAGED, UNREADABLE};
use super::journal::NewestJournal;
use super::{failed, journal};
use crate::Failure;

/// The lock of a store's directory. fjall has one of the same name in its own, which must be there.
pub const LOCK: &str = "lock";
/// Most bytes that are read of a lock file: two lines.
const LOCK_BYTES_MAX: u64 = 128;
/// The directory in the store's directory that has fjall's files.
pub const DATABASE: &str = "database";
const DATABASE_NEW: &str = "database.new";
/// The contents of fjall's version file when `journal` can read its journals.
const FJALL_FORMAT: &[u8] = b"FJL\x03";
/// The beginning of fjall's version file in all formats.
const FJALL_NAME: &[u8] = b"FJL";

/// A directory that belongs to this process until the value is dropped.
pub struct Directory {
    path: PathBuf,
    /// The lock ends with the process, even if the process crashes. `None`: a directory that is only read, and that no
    /// process has ever locked, such as a backup.
    lock: Option<File>,
    /// The newest journal, as the lock file has it.
    newest: Mutex<Option<NewestJournal>>,
}

impl Drop for Directory {
    fn drop(&mut self) {
        // Closing the file is not enough: a child process that is just being started may still share the file, and so
        // the lock.
        if let Some(lock) = &self.lock {
            let _ = lock.unlock();
        }
    }
}

impl Directory {
    /// Creates the directory if needed, checks that it holds no foreign files, and locks out other processes. Fails if
    /// it has foreign files or another process uses it.
    pub fn claim(path: &Path) -> Result<Self, Failure> {
        fs::create_dir_all(path).map_err(|error| {
            let path = path.display();
            Failure::Final(format!(
                "making {path} failed: {error}; --data names its directory, which the server's user must own"
            ))
        })?;
        for name in names_in(path)? {
            if ![LOCK, DATABASE, DATABASE_NEW].contains(&name.as_str()) {
                let path = path.display();
                return Err(Failure::Corrupt(format!(
                    "{path} holds '{name}', which is not of a Stentor store: give the store a directory of its own"
                )));
            }
        }
        let (lock, newest) = lock(path)?;
        Ok(Self { path: path.into(), lock: Some(lock), newest: Mutex::new(newest) })
    }

    /// Locks out processes that write, and changes nothing. Fails if the directory has no database or a process writes.
    pub fn claim_to_read(path: &Path) -> Result<Self, Failure> {
        let database = path.join(DATABASE);
        match fs::metadata(&database) {
            Ok(found) if found.is_dir() => {}
            Err(error) if error.kind() == ErrorKind::PermissionDenied => {
                let reason = format!("{}: {error}; run this as the user of the server", database.display());
                return Err(Failure::Unfit(reason));
            }
            _ => return Err(Failure::Unfit(format!("{} has no store", path.display()))),
        }
        let lock_path = path.join(LOCK);
        let lock = match File::open(&lock_path) {
            Ok(file) => Some(file),
            Err(error) if error.kind() == ErrorKind::NotFound => None,
            Err(error) => return Err(failed("locking", &lock_path, &error)),
        };
        match lock.as_ref().map(File::try_lock_shared) {
            None | Some(Ok(())) => {
                let newest = lock.as_ref().and_then(|file| noted(file).1);
                Ok(Self { path: path.into(), lock, newest: Mutex::new(newest) })
            }
            Some(Err(TryLockError::WouldBlock)) => Err(Failure::InUse(format!(
                "another process works with {}: stop it first, or take a backup and look at that",
                path.display()
            ))),
            Some(Err(TryLockError::Error(error))) => Err(failed("locking", &lock_path, &error)),
        }
    }

    /// The directory as the operator named it.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The path of fjall's files, whether they exist or not.
    pub fn database(&self) -> PathBuf {
        self.path.join(DATABASE)
    }

    /// Whether a complete database is there.
    pub fn has_database(&self) -> bool {
        self.database().exists()
    }

    /// What is lost of the newest journal, for operators, if something is.
    pub fn lost_journal(&self, journals: &[(u64, PathBuf)]) -> Result<Option<String>, Failure> {
        let Some(newest) = *self.newest.lock() else { return Ok(None) };
        let loss = newest.loss(&self.database(), journals);
        loss.map_err(|error| failed("reading the journals of", &self.path, &error))
    }

    /// Notes which journal is the newest, and its length if nothing more is written there. A note that cannot be made is left
    /// out: it only helps to notice that files were lost.
    pub fn note_newest_journal(&self, is_complete: bool) {
        let Ok(journals) = journals_in(&self.database()) else { return };
        let (Ok(Some(newest)), Some(mut lock)) = (NewestJournal::of(&journals, is_complete), self.lock.as_ref()) else {
            return;
        };
        let mut noted = self.newest.lock();
        if !is_complete && noted.is_some_and(|noted| noted.number == newest.number) {
            return;
        }
        let text = format!("{}\n{}\n", std::process::id(), newest.line());
        let written = lock.rewind().and_then(|()| lock.write_all(text.as_bytes()));
        if written.and_then(|()| lock.set_len(text.len() as u64)).and_then(|()| lock.sync_data()).is_ok() {
            *noted = Some(newest);
        }
    }

    /// Creates a database. A crash in between leaves it under a name that the next start removes.
    pub fn create_database(&self, create: impl FnOnce(&Path) -> Result<(), Failure>) -> Result<(), Failure> {
        let new = self.path.join(DATABASE_NEW);
        if new.exists() {
            fs::remove_dir_all(&new).map_err(|error| failed("removing", &new, &error))?;
        }
        create(&new)?;
        fs::rename(&new, self.database()).map_err(|error| failed("renaming", &new, &error))?;
        let synced = File::open(&self.path).and_then(|directory| directory.sync_all());
        synced.map_err(|error| failed("syncing", &self.path, &error))
    }

    /// Checks whether fjall can safely open the database: its files have the names and types that fjall expects, and
    /// no file is missing that fjall would silently recreate. Fails with the first file that is wrong, for operators.
    pub fn check_database(&self) -> Result<(), Failure> {
        let journals = checked_files(&self.database())?;
        if let Some(loss) = self.lost_journal(&journals)? {
            let lock = self.path.join(LOCK);
            return Err(Failure::Corrupt(format!(
                "{loss}. {DAMAGED}. If you have put an older database there yourself, delete {}, which has the note",
                lock.display()
            )));
        }
        journal::examine(journals)
    }
}

/// Checks the files of a database, except for what is in its journals and tables. Returns the journals that can be read,
/// with their numbers.
pub fn checked_files(database: &Path) -> Result<Vec<(u64, PathBuf)>, Failure> {
    let version = database.join("version");
    check(version.is_file(), "has no version file", database)?;
    let found = read(&version)?;
    if found != FJALL_FORMAT && found.starts_with(FJALL_NAME) {
        // Nothing is wrong with these files.
        return Err(Failure::Corrupt(format!(
            "{} was written by another version of this program: start that version. Leave the files as they are",
            database.display()
        )));
    }
    let journals = journals_in(database)?;
    check(!journals.is_empty(), "has no journal", database)?;
    let keyspaces = database.join("keyspaces");
    check(keyspaces.is_dir(), "is missing", &keyspaces)?;
    // For a file that is none of fjall's, fjall's own error message is better than one of ours.
    let known = found == FJALL_FORMAT;
    for name in names_in(&keyspaces)? {
        let path = keyspaces.join(&name);
        check(name.parse::<u64>().is_ok() && path.is_dir(), "is not a keyspace", &path)?;
        if known {
            manifest_of(&path)?;
        }
    }
    Ok(if known { journals } else { Vec::new() })
}

/// The number and the content of a keyspace's manifest. Fails if it is missing or damaged.
///
/// fjall writes a checksum of the manifest next to it, but does not verify it, and may panic on a damaged manifest. The
/// file `current` holds the manifest's number (8 bytes), its xxh3 (16 bytes), and a byte for the kind of checksum.
pub fn manifest_of(keyspace: &Path) -> Result<(u64, Vec<u8>), Failure> {
    let path = keyspace.join("current");
    check(path.is_file(), "is missing", &path)?;
    let current = read(&path)?;
    let number = current.first_chunk::<8>().map(|number| u64::from_le_bytes(*number));
    check(number.is_some(), "is too short", &path)?;
    let number = number.unwrap_or_default();
    let manifest = keyspace.join(format!("v{number}"));
    check(manifest.is_file(), "is missing", &manifest)?;
    let bytes = read(&manifest)?;
    let fits = current == current_of(number, &bytes);
    check(fits, "does not have the checksum that it should have", &manifest)?;
    Ok((number, bytes))
}

/// The content of the file `current` that names this manifest.
pub fn current_of(number: u64, manifest: &[u8]) -> Vec<u8> {
    [&number.to_le_bytes()[..], &xxh3_128(manifest).to_le_bytes(), &[0]].concat()
}

fn read(path: &Path) -> Result<Vec<u8>, Failure> {
    fs::read(path).map_err(|error| failed("reading", path, &error))
}

/// The journals of a database, with their numbers.
pub fn journals_in(database: &Path) -> Result<Vec<(u64, PathBuf)>, Failure> {
    let mut journals = Vec::new();
    for name in names_in(database)? {
        if let Some(stem) = name.strip_suffix(".jnl") {
            let (path, number) = (database.join(&name), stem.parse());
            if !path.try_exists().unwrap_or(true) {
                // fjall has removed it meanwhile.
                continue;
            }
            check(number.is_ok() && path.is_file(), "is not a journal", &path)?;
            journals.extend(number.map(|number| (number, path)));
        }
    }
    Ok(journals)
}

/// The room that the journals of a database take on the disk, in bytes. What is removed meanwhile does not count.
pub fn bytes_of_journals(database: &Path) -> u64 {
    let journals = journals_in(database).unwrap_or_default().into_iter();
    // A journal is longer than what is written in it.
    journals.filter_map(|(_, path)| fs::metadata(path).ok()).map(|file| file.blocks() * 512).sum()
}

fn check(fits: bool, what: &str, path: &Path) -> Result<(), Failure> {
    if fits {
        return Ok(());
    }
    let path = path.display();
    Err(Failure::Corrupt(format!("{path} {what}: the store is damaged. {UNREADABLE}")))
}

/// The names of the files and directories in a directory.
pub fn names_in(path: &Path) -> Result<Vec<String>, Failure> {
    let entries = fs::read_dir(path).map_err(|error| failed("reading", path, &error))?;
    let name = |entry: std::io::Result<fs::DirEntry>| {
        let entry = entry.map_err(|error| failed("reading", path, &error))?;
        Ok(entry.file_name().to_string_lossy().into_owned())
    };
    entries.map(name).collect()
}

/// What stands in a lock file: the number of a process, and which journal was the newest. What cannot be read is as if it were
/// not there.
fn noted(mut lock: &File) -> (Option<u32>, Option<NewestJournal>) {
    let mut text = String::new();
    let _ = lock.rewind().and_then(|()| lock.take(LOCK_BYTES_MAX).read_to_string(&mut text));
    let mut lines = text.lines();
    let process = lines.next().and_then(|line| line.trim().parse().ok());
    (process, lines.next().and_then(NewestJournal::parse))
}

/// Locks the directory, and writes this process's number into the lock file. Returns the newest journal, too, as the process
/// before noted it.
fn lock(directory: &Path) -> Result<(File, Option<NewestJournal>), Failure> {
    let path = directory.join(LOCK);
    let io = |error| failed("locking", &path, &error);
    let on_disk = |error: std::io::Error| match error.kind() {
        ErrorKind::ReadOnlyFilesystem => {
            let directory = directory.display();
            Failure::Final(format!(
                "the disk of {directory} takes no writes ({error}): with --read-only the server serves what is there"
            ))
        }
        _ => failed("locking", &path, &error),
    };
    let mut file =
        OpenOptions::new().read(true).write(true).create(true).truncate(false).open(&path).map_err(on_disk)?;
    match file.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => {
            // The number only helps the error message: if it is missing or not a number, nothing changes.
            let holder = noted(&file).0.map_or(String::new(), |pid| format!(" (number {pid})"));
            let directory = directory.display();
            return Err(Failure::InUse(format!(
                "another process{holder} uses {directory}: stop it first, or choose another directory"
            )));
        }
        Err(TryLockError::Error(error)) => return Err(io(error)),
    }
    let newest = noted(&file).1;
    let line = newest.map_or_else(String::new, |newest| newest.line() + "\n");
    file.rewind().map_err(io)?;
    let text = format!("{}\n{line}", std::process::id());
    file.write_all(text.as_bytes()).and_then(|()| file.set_len(text.len() as u64)).map_err(io)?;
    Ok((file, newest))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Claims a directory made of these files (a name ending in `/` is a directory), and checks its database.
    fn check_directory(files: &[&str], expected: Result<(), &str>) {
        let directory = tempfile::tempdir().unwrap();
        for file in files {
            let path = directory.path().join(file);
            if file.ends_with('/') {
                fs::create_dir_all(path).unwrap();
            } else {
                fs::create_dir_all(path.parent().unwrap()).unwrap();
                fs::write(path, "x").unwrap();
            }
        }
        let found = Directory::claim(directory.path()).and_then(|directory| directory.check_database());
        match (&found, expected) {
            (Ok(()), Ok(())) => {}
            (Err(Failure::Corrupt(text)), Err(expected)) if text.contains(expected) => {}
            _ => panic!("{files:?}: {found:?} instead of {expected:?}"),
        }
    }

    #[test]
    fn only_what_looks_like_a_store_is_let_in() {
        let good = ["database/version", "database/0.jnl", "database/keyspaces/0/", "database/keyspaces/12/"];
        let with = |more: &'static str| good.into_iter().chain([more]).collect::<Vec<_>>();
        let without = |less: &'static str| good.into_iter().filter(|&file| file != less).collect::<Vec<_>>();
        check_directory(&good, Ok(()));
        check_directory(&with("database/lock"), Ok(()));
        check_directory(&with("photo.jpg"), Err("photo.jpg"));
        check_directory(&with("deep/er/letter.txt"), Err("'deep'"));
        check_directory(&without("database/version"), Err("no version"));
        check_directory(&without("database/0.jnl"), Err("no journal"));
        check_directory(&with("database/1.jnl/"), Err("1.jnl"));
        check_directory(&with("database/one.jnl"), Err("one.jnl"));
        check_directory(&with("database/keyspaces/letters/"), Err("letters"));
        check_directory(&with("database/keyspaces/3"), Err("keyspaces/3"));
        check_directory(&["database/version", "database/0.jnl"], Err("keyspaces"));
    }

    #[test]
    fn a_crash_while_creating_is_forgotten() {
        let directory = tempfile::tempdir().unwrap();
        fs::create_dir_all(directory.path().join("database.new/keyspaces")).unwrap();
        fs::write(directory.path().join("database.new/0.jnl"), "half").unwrap();
        let claimed = Directory::claim(directory.path()).unwrap();
        assert!(!claimed.has_database());
        let create = |path: &Path| {
            assert!(!path.exists());
            fs::create_dir_all(path).map_err(|error| failed("making", path, &error))
        };
        claimed.create_database(create).unwrap();
        assert!(claimed.has_database());
    }

    #[test]
    fn a_second_claim_names_directory_and_holder() {
        let directory = tempfile::tempdir().unwrap();
        let first = Directory::claim(directory.path()).unwrap();
        let Err(Failure::InUse(text)) = Directory::claim(directory.path()) else { panic!("claimed twice") };
        assert!(text.contains(&directory.path().display().to_string()), "{text}");
        assert!(text.contains(&std::process::id().to_string()), "{text}");
        drop(first);
        Directory::claim(directory.path()).unwrap();
    }
}
