//! Copies the store while the server works with it.
//!
//! For some milliseconds no group is written. Meanwhile this module notes which tables there are, and where each journal
//! ends. Then writers go on, and the copy is made: a table never changes, so the copy has a hard link of it. A journal is
//! only ever appended to, so its first bytes are copied. fjall removes a table or a journal that it no longer needs, but
//! not while this module holds it open.
//!
//! The copy has every group that was written before the pause, and nothing of later ones. It is a store of its own.

use std::fs::{self, File};
use std::io::ErrorKind;
use std::path::Path;

use fjall::{AbstractTree, Keyspace};

use super::copying::{copy_beginning, link_or_copy, make_directory, sync_directory, write_file};
use super::directory::{DATABASE, LOCK, journals_in};
use super::{Embedded, failed, journal};
use crate::Failure;
use crate::backup::BackedUp;
use crate::keys::Table;

/// How often the list of a keyspace's tables is read again because a merge has replaced it meanwhile.
const ATTEMPTS_MAX: usize = 100;
/// The keyspace in which fjall keeps the others' names and options. It changes only while a store is opened.
const OPTIONS_KEYSPACE: &str = "0";

/// What there was during the pause.
struct Moment {
    journals: Vec<Journal>,
    trees: Vec<Tree>,
}

struct Journal {
    name: String,
    file: File,
    length: u64,
}

/// The tables of a keyspace.
struct Tree {
    /// The name of its directory.
    name: String,
    /// The number and the content of the manifest, which lists the tables.
    manifest: (u64, Vec<u8>),
    /// As long as a table is held, its file stays.
    tables: Vec<lsm_tree::Table>,
}

impl Embedded {
    /// Copies the store into a directory, which must not be there and whose parent must be. Fails if the copy cannot be
    /// written; what it has written by then stays.
    pub(super) fn copy_to(&self, target: &Path) -> Result<BackedUp, Failure> {
        let moment = self.moment()?;
        let (from, to) = (self.directory.database(), target.join(DATABASE));
        make_directory(target)?;
        make_directory(&to)?;
        let mut done = BackedUp::default();
        link_or_copy(&from.join("version"), &to.join("version"), &mut done)?;
        let keyspaces = to.join("keyspaces");
        make_directory(&keyspaces)?;
        copy_options(&from.join("keyspaces").join(OPTIONS_KEYSPACE), &keyspaces.join(OPTIONS_KEYSPACE), &mut done)?;
        for tree in &moment.trees {
            tree.write(&keyspaces.join(&tree.name), &mut done)?;
        }
        for Journal { name, file, length } in &moment.journals {
            copy_beginning(file, *length, &to.join(name))?;
            done.files += 1;
            done.bytes += length;
        }
        write_file(&to.join(LOCK), &[])?;
        done.files += 1;
        for directory in [&keyspaces, &to, target] {
            sync_directory(directory)?;
        }
        Ok(done)
    }

    fn moment(&self) -> Result<Moment, Failure> {
        let tables = self.tables()?;
        // Until this is dropped no group is written. Each group was synced when it was written.
        let _writer = self.cache.lock();
        if let Some(reason) = self.failed.get() {
            return Err(Failure::Final(reason.clone()));
        }
        // The order matters: fjall removes a journal when all of it is in tables, and those are looked at later.
        let journals = open_journals(&self.directory.database())?;
        let trees = Table::ALL.into_iter().map(|table| Tree::of(tables.keyspace(table)));
        Ok(Moment { journals, trees: trees.collect::<Result<_, _>>()? })
    }
}

fn open_journals(database: &Path) -> Result<Vec<Journal>, Failure> {
    let (mut journals, mut found) = (Vec::new(), journals_in(database)?);
    found.sort();
    for (number, path) in found {
        let file = match File::open(&path) {
            Ok(file) => file,
            Err(error) if error.kind() == ErrorKind::NotFound => {
                // fjall has removed it meanwhile, and the older ones too: a copy with those alone would have a gap.
                journals.clear();
                continue;
            }
            Err(error) => return Err(failed("reading", &path, &error)),
        };
        let length = journal::written_bytes(&file).map_err(|error| failed("reading", &path, &error))?;
        journals.push(Journal { name: format!("{number}.jnl"), file, length });
    }
    Ok(journals)
}

impl Tree {
    fn of(keyspace: &Keyspace) -> Result<Self, Failure> {
        let path = keyspace.path();
        for _ in 0..ATTEMPTS_MAX {
            let version = keyspace.tree.current_version();
            let manifest = path.join(format!("v{}", version.id()));
            match fs::read(&manifest) {
                Ok(bytes) => {
                    let tables = version.iter_tables().cloned().collect();
                    let name = path.file_name().map_or_else(String::new, |name| name.to_string_lossy().into_owned());
                    return Ok(Self { name, manifest: (version.id(), bytes), tables });
                }
                // A merge has replaced it.
                Err(error) if error.kind() == ErrorKind::NotFound => {}
                Err(error) => return Err(failed("reading", &manifest, &error)),
            }
        }
        Err(Failure::Passing(format!("the tables of {} change too fast to be copied", keyspace.path().display())))
    }

    fn write(&self, target: &Path, done: &mut BackedUp) -> Result<(), Failure> {
        let (number, manifest) = &self.manifest;
        make_directory(target)?;
        let tables = target.join("tables");
        make_directory(&tables)?;
        for table in &self.tables {
            link_or_copy(&table.path, &tables.join(table.id().to_string()), done)?;
        }
        let current = super::directory::current_of(*number, manifest);
        for (name, bytes) in [(format!("v{number}"), manifest), ("current".to_owned(), &current)] {
            write_file(&target.join(name), bytes)?;
            done.files += 1;
            done.bytes += bytes.len() as u64;
        }
        sync_directory(&tables)?;
        sync_directory(target)
    }
}

/// Copies a keyspace in which nothing changes.
fn copy_options(from: &Path, to: &Path, done: &mut BackedUp) -> Result<(), Failure> {
    make_directory(to)?;
    let entries = fs::read_dir(from).map_err(|error| failed("reading", from, &error))?;
    for entry in entries {
        let path = entry.map_err(|error| failed("reading", from, &error))?.path();
        let Some(name) = path.file_name() else { continue };
        if path.is_dir() {
            copy_options(&path, &to.join(name), done)?;
        } else {
            link_or_copy(&path, &to.join(name), done)?;
        }
    }
    sync_directory(to)
}
