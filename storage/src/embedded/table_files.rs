//! The files of tables, each looked at by itself. fjall opens all tables of a database or none, and does not say which one
//! it cannot open.
//!
//! A file ends with the list of its parts, and that list's checksum (the format of the crate `sfa`). fjall makes room for as
//! many parts as the list says before it looks at the checksum, so the checksum is compared here first.

use std::fs::{self, File};
use std::io::{self, ErrorKind};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use lsm_tree::table::{Block, BlockHandle};
use lsm_tree::{Cache, Checksum, CompressionType, Error, Table as TableFile};
use xxhash_rust::xxh3::xxh3_128;

use super::failures::{DAMAGED, UNREADABLE, describe};
use super::manifest::{Manifest, keyspaces_of};
use crate::Failure;

/// A name, a version and a kind of checksum; the checksum of the list of parts 16, its place 8, its length 8.
const TRAILER_BYTES: usize = 6 + 16 + 8 + 8;
const TRAILER_NAME: &[u8; 6] = b"SFA!\x01\x00";
/// The most bytes of the list of parts. lsm-tree's have some 200.
const PARTS_BYTES_MAX: u64 = 64 << 10;
/// In levels before this one, filters are read when the file is opened.
const FIRST_LEVEL_WITHOUT_FILTERS: usize = 1;
/// The same for indexes.
pub const FIRST_LEVEL_WITHOUT_INDEXES: usize = 2;
/// The keyspace in which fjall keeps the others' names and options.
pub const OPTIONS_KEYSPACE: &str = "0";
/// The cache of a file that is opened to be looked at. Nothing is read through it.
const CACHE_BYTES: u64 = 64 << 10;

/// What cannot be read of a table's file.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Flaw {
    /// The file cannot be opened, and none of its rows can be read. With the reason, for operators.
    Whole(String),
    /// A filter or an index that is read when a file of an upper level is opened. All rows can be read without it.
    Upper(String),
}

/// Looks at the ends of all tables on the lists of a database. Fails with the first that is damaged or missing. Lists that
/// cannot be read are left out.
pub fn check_ends(database: &Path) -> Result<(), Failure> {
    for list in lists(database) {
        for (_, _, path) in list.files() {
            check_end(&path).map_err(|reason| refusal(&path, &reason, 0))?;
        }
    }
    Ok(())
}

/// The failure of opening a database, with the table's file that cannot be opened, if there is one.
pub fn with_file(database: &Path, failure: Failure) -> Failure {
    if !matches!(failure, Failure::Corrupt(_) | Failure::Final(_)) {
        return failure;
    }
    let mut flawed = Vec::new();
    for list in lists(database) {
        for (level, _, path) in list.files() {
            let is_of_options = path.starts_with(database.join("keyspaces").join(OPTIONS_KEYSPACE));
            let flaw = if is_of_options { flaw_of_options(level, &path) } else { flaw(level, &path) };
            flawed.extend(flaw.map(|(Flaw::Whole(reason) | Flaw::Upper(reason))| (path, reason)));
        }
    }
    match flawed.as_slice() {
        [] => failure,
        [(path, reason), others @ ..] => refusal(path, reason, others.len()),
    }
}

/// The flaw of a file of this level that keeps fjall from opening its database.
pub fn flaw(level: usize, path: &Path) -> Option<Flaw> {
    let (with_filter, with_index) = (level < FIRST_LEVEL_WITHOUT_FILTERS, level < FIRST_LEVEL_WITHOUT_INDEXES);
    let reason = open(path, with_filter, with_index).err()?;
    Some(match (with_filter || with_index).then(|| open(path, false, false)) {
        Some(Ok(_)) => Flaw::Upper(reason),
        _ => Flaw::Whole(reason),
    })
}

/// The flaw of a file that has names and options of keyspaces. fjall reads all of it when it opens the database.
pub fn flaw_of_options(level: usize, path: &Path) -> Option<Flaw> {
    let read = open(path, level < FIRST_LEVEL_WITHOUT_FILTERS, true).and_then(|file| {
        let ended = file.scan().map_or_else(Some, |mut rows| rows.find_map(Result::err));
        ended.map_or(Ok(()), |error| Err(said(error)))
    });
    read.err().map(Flaw::Whole)
}

/// What is damaged of a file's filter. Requests for single rows read it, and walks over rows do not.
pub fn filter_damages(file: &TableFile) -> Vec<Error> {
    let parts = [file.regions.filter_tli, file.regions.filter].into_iter().flatten();
    let compressions = [file.metadata.index_block_compression, CompressionType::None];
    // Only a filter in several blocks has an index of its own.
    let compressions = &compressions[usize::from(file.regions.filter_tli.is_none())..];
    parts.zip(compressions).flat_map(|(part, compression)| block_damages(file, part, *compression)).collect()
}

/// What is damaged of a file's index.
pub fn index_damages(file: &TableFile) -> Vec<Error> {
    let parts = [Some(file.regions.tli), file.regions.index].into_iter().flatten();
    parts.flat_map(|part| block_damages(file, part, file.metadata.index_block_compression)).collect()
}

/// The path of a table's file. The file may be a link in a copy that is only read.
pub fn path_of(file: &TableFile) -> PathBuf {
    fs::read_link(&*file.path).unwrap_or_else(|_| (*file.path).clone())
}

/// Reads the blocks of a part of a file, past the cache. The blocks lie one behind the other.
fn block_damages(file: &TableFile, part: BlockHandle, compression: CompressionType) -> Vec<Error> {
    let mut bytes = vec![0; part.size() as usize];
    let read = File::open(&*file.path).and_then(|open| open.read_exact_at(&mut bytes, *part.offset()));
    if let Err(error) = read {
        return vec![Error::Io(error)];
    }
    let (mut rest, mut damages) = (bytes.as_slice(), Vec::new());
    while !rest.is_empty() {
        match Block::from_reader(&mut rest, compression) {
            Ok(_) => {}
            // The block's beginning was sound, so the next block is found.
            Err(error @ (Error::ChecksumMismatch { .. } | Error::Decompress(_))) => damages.push(error),
            Err(error) => {
                if damages.is_empty() {
                    damages.push(error);
                }
                break;
            }
        }
    }
    damages
}

fn lists(database: &Path) -> impl Iterator<Item = Manifest> {
    keyspaces_of(database).into_iter().filter_map(|keyspace| Manifest::read(&keyspace).ok())
}

fn open(path: &Path, with_filter: bool, with_index: bool) -> Result<TableFile, String> {
    check_end(path)?;
    let cache = Arc::new(Cache::with_capacity_bytes(CACHE_BYTES));
    let checksum = Checksum::from_raw(0);
    TableFile::recover(path.into(), checksum, 0, 0, cache, None, with_filter, with_index).map_err(said)
}

/// Compares the list of a file's parts with its checksum. Fails with the reason, for operators.
fn check_end(path: &Path) -> Result<(), String> {
    let damaged = || Err("its end is not as it should be".to_owned());
    let read = || -> io::Result<Option<(Vec<u8>, u128)>> {
        let file = File::open(path)?;
        let length = file.metadata()?.len();
        let Some(place) = length.checked_sub(TRAILER_BYTES as u64) else { return Ok(None) };
        let mut trailer = [0; TRAILER_BYTES];
        file.read_exact_at(&mut trailer, place)?;
        let Some((TRAILER_NAME, rest)) = trailer.split_first_chunk::<6>() else { return Ok(None) };
        let Some((checksum, rest)) = rest.split_first_chunk::<16>() else { return Ok(None) };
        let (parts, parts_bytes) = rest.split_at(8);
        let number = |bytes: &[u8]| bytes.iter().rev().fold(0, |number, &byte| number << 8 | u64::from(byte));
        let (parts, parts_bytes) = (number(parts), number(parts_bytes));
        if parts_bytes > PARTS_BYTES_MAX || parts.checked_add(parts_bytes) != Some(place) {
            return Ok(None);
        }
        let mut list = vec![0; parts_bytes as usize];
        file.read_exact_at(&mut list, parts)?;
        Ok(Some((list, u128::from_le_bytes(*checksum))))
    };
    match read() {
        Ok(Some((list, checksum))) if xxh3_128(&list) == checksum => Ok(()),
        Ok(_) => damaged(),
        Err(error) if error.kind() == ErrorKind::NotFound => Err("it is missing".into()),
        Err(error) => Err(error.to_string()),
    }
}

fn said(error: Error) -> String {
    describe(&error.into())
}

fn refusal(path: &Path, reason: &str, others: usize) -> Failure {
    let others = if others == 0 { String::new() } else { format!(" (and {others} more files of tables)") };
    let is_of_options = path.ancestors().nth(2).is_some_and(|keyspace| keyspace.ends_with(OPTIONS_KEYSPACE));
    let advice = if is_of_options { UNREADABLE } else { DAMAGED };
    Failure::Corrupt(format!("{}: this file of a table cannot be opened: {reason}{others}. {advice}", path.display()))
}
