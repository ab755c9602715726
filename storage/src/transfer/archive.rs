//! An export: a file of records, in the format of `record.rs`, one after another.
//!
//! ```text
//! note, blocks of rows, [note, blocks of rows ...], note that says done
//! ```
//!
//! A note begins each attempt at the export; the last note has the counts. A block contains its number, so that a
//! missing block is noticed, and the place in the source at which it ends, so that an interrupted export continues
//! after the last complete block. Every record has a checksum. Before anything of an export is used, all of it is read.

use std::fs::File;
use std::io::{BufReader, ErrorKind, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use xxhash_rust::xxh3::Xxh3;

use super::{Item, Note, Origin, Page, Source};
use crate::Failure;
use crate::keys::Table;
use crate::record::{self, Damage, HEADER_BYTES, Kind};

/// The longest record that is read: far more than is ever written, and little enough for any machine's memory.
pub(super) const RECORD_BYTES_MAX: usize = 64 << 20;
/// Memory reserved for a record before any of it is read.
const READ_BYTES: usize = 64 << 10;

/// A row as the embedded store keeps it: table, key, record.
pub(crate) type Row = (Table, Vec<u8>, Vec<u8>);

/// Rows, and their position.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Block {
    /// Counted from 0 within a file.
    pub number: u64,
    /// The place in the source after these rows.
    pub place: Vec<u8>,
    /// Leftovers that the source has skipped so far; they are not in the file.
    pub left: u64,
    pub rows: Vec<Row>,
}

/// One record.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum ArchiveRecord {
    Note(Note),
    Block(Block),
}

/// Why a record cannot be read.
#[derive(Debug)]
pub(super) enum Trouble {
    /// The file ends within the record.
    Torn,
    Damage(Damage),
    World(std::io::Error),
}

/// The next record, and its bytes; `None` at the end of the file.
pub(super) fn next(file: &mut impl Read) -> Result<Option<(ArchiveRecord, Vec<u8>)>, Trouble> {
    let mut bytes = Vec::with_capacity(READ_BYTES);
    read_more(file, &mut bytes, HEADER_BYTES)?;
    if bytes.is_empty() {
        return Ok(None);
    }
    let Some(header) = bytes.first_chunk() else { return Err(Trouble::Torn) };
    let (kind, length) = record::read_header(header).map_err(Trouble::Damage)?;
    if length > RECORD_BYTES_MAX {
        return Err(Trouble::Damage(Damage::Length { expected: RECORD_BYTES_MAX, found: length }));
    }
    read_more(file, &mut bytes, length)?;
    if bytes.len() < HEADER_BYTES + length {
        return Err(Trouble::Torn);
    }
    assert_eq!(bytes.len(), HEADER_BYTES + length, "nothing of the next record was read");
    let part = if kind == Kind::Note as u8 {
        record::decode_note(&bytes).map(ArchiveRecord::Note)
    } else {
        record::decode_block(&bytes).map(ArchiveRecord::Block)
    };
    Ok(Some((part.map_err(Trouble::Damage)?, bytes)))
}

/// Reads `count` bytes, or fewer at the end of the file. Memory grows only with the bytes that are read, whatever a
/// damaged length says.
fn read_more(file: &mut impl Read, bytes: &mut Vec<u8>, count: usize) -> Result<(), Trouble> {
    file.take(count as u64).read_to_end(bytes).map(drop).map_err(Trouble::World)
}

/// Checks the parts of an export as they are read, and remembers how far they go.
#[derive(Default)]
pub(super) struct Progress {
    /// The note that an interrupted move would have left at this point.
    pub note: Option<Note>,
    pub blocks: u64,
}

impl Progress {
    /// Accepts the next part, or fails if it does not follow from the parts before.
    pub fn take(&mut self, part: ArchiveRecord) -> Result<(), String> {
        match (part, &mut self.note) {
            (_, Some(Note { done: true, .. })) => Err("there is something behind its end".into()),
            (ArchiveRecord::Note(note), None) => {
                if note.done || note.left > 0 || note.counts.sum() > 0 || !note.place.is_empty() {
                    return Err("its beginning is missing".into());
                }
                self.note = Some(note);
                Ok(())
            }
            (ArchiveRecord::Note(note), Some(known)) => {
                if note.counts != known.counts || note.left != known.left {
                    return Err("it does not have the rows that it counts".into());
                }
                *known = note;
                Ok(())
            }
            (ArchiveRecord::Block(_), None) => Err("it does not begin as one".into()),
            (ArchiveRecord::Block(block), Some(note)) => {
                if block.number != self.blocks {
                    return Err(format!("block {} is missing", self.blocks));
                }
                self.blocks += 1;
                for (table, key, value) in &block.rows {
                    Item::of(*table, key, value).map_err(|failure| failure.to_string())?;
                    note.counts.add(*table, 1);
                }
                note.left = block.left;
                note.place = block.place;
                Ok(())
            }
        }
    }
}

/// A complete export, read once and found valid.
pub(super) struct Archive {
    path: PathBuf,
    /// Its last note.
    note: Note,
    /// A hash of all record headers, and so of all checksums: a different file has a different one.
    fingerprint: u64,
}

impl Archive {
    /// Reads the whole file and checks it. Fails if it cannot be read, is damaged, or lacks its end.
    pub fn open(path: &Path) -> Result<Self, Failure> {
        let file = File::open(path).map_err(|error| unreadable(path, &error))?;
        let (note, fingerprint) = read_whole(BufReader::new(file)).map_err(|reason| damaged(path, &reason))?;
        Ok(Self { path: path.into(), note, fingerprint })
    }
}

impl Source for Archive {
    /// A file with the same content is the same source, whatever its path.
    fn begin(&self) -> Result<Origin, Failure> {
        let source = format!("the export {:016x} of {}", self.fingerprint, self.note.source);
        Ok(Origin { source, epoch: self.note.epoch, last: self.note.epoch })
    }

    fn size(&self) -> Result<Option<u64>, Failure> {
        Ok(Some(self.note.counts.sum()))
    }

    /// A place is the number of the file's bytes before it.
    fn rows(&self, after: &[u8]) -> Result<Option<Page>, Failure> {
        let mut place = after.first_chunk().map_or(0, |place| u64::from_be_bytes(*place));
        let mut file = File::open(&self.path).map_err(|error| unreadable(&self.path, &error))?;
        file.seek(SeekFrom::Start(place)).map_err(|error| unreadable(&self.path, &error))?;
        loop {
            let part = next(&mut file).map_err(|trouble| damaged(&self.path, &said(trouble)))?;
            let Some((part, bytes)) = part else { return Ok(None) };
            place += bytes.len() as u64;
            if let ArchiveRecord::Block(block) = part {
                let items = block.rows.iter().map(|(table, key, value)| Item::of(*table, key, value));
                let items = items.collect::<Result<_, _>>()?;
                return Ok(Some(Page { items, left: 0, place: place.to_be_bytes().into(), unreadable: Vec::new() }));
            }
        }
    }
}

/// The last note of a complete export, and its fingerprint.
pub(super) fn read_whole(mut file: impl Read) -> Result<(Note, u64), String> {
    let (mut progress, mut fingerprint, mut place) = (Progress::default(), Xxh3::new(), 0);
    while let Some((part, bytes)) = next(&mut file).map_err(|trouble| format!("{} at byte {place}", said(trouble)))? {
        fingerprint.update(&bytes[..HEADER_BYTES]);
        place += bytes.len();
        progress.take(part).map_err(|reason| format!("{reason}, before byte {place}"))?;
    }
    match progress.note {
        Some(note) if note.done => Ok((note, fingerprint.digest())),
        Some(_) => Err("it is not finished".into()),
        None => Err("there is nothing in it".into()),
    }
}

/// How many rows an export has. Fails with the reason if the file is not a complete export.
pub fn read_to_the_end(file: impl Read) -> Result<u64, String> {
    read_whole(file).map(|(note, _)| note.counts.sum())
}

pub(super) fn said(trouble: Trouble) -> String {
    match trouble {
        Trouble::Torn => "it ends too early".into(),
        Trouble::Damage(Damage::Foreign) => "this was not written by Stentor".into(),
        Trouble::Damage(damage) => damage.to_string(),
        Trouble::World(error) => error.to_string(),
    }
}

fn damaged(path: &Path, reason: &str) -> Failure {
    Failure::Corrupt(format!("{} is no export, or damaged: {reason}", path.display()))
}

pub(super) fn unreadable(path: &Path, error: &std::io::Error) -> Failure {
    let text = format!("{}: {error}", path.display());
    match error.kind() {
        ErrorKind::NotFound | ErrorKind::PermissionDenied => Failure::Unfit(text),
        _ => Failure::Passing(text),
    }
}

#[cfg(test)]
mod tests {
    use engine::id::{Timestamp, UserId};
    use proptest::prelude::*;
    use uuid::Uuid;

    use super::super::Counts;
    use super::*;
    use crate::account::Revocation;

    fn note(counts: Counts, left: u64, done: bool) -> Note {
        let place = if done { vec![1, 2] } else { Vec::new() };
        Note { source: "a store".into(), epoch: 7, place, counts, left, done }
    }

    fn beginning() -> Vec<u8> {
        record::encode_note(&note(Counts::default(), 0, false))
    }

    fn row(number: u128) -> Row {
        let revocation = Revocation::User { id: UserId(Uuid::from_u128(number)), issued_before: Timestamp(5) };
        Item::Revocation(revocation).row()
    }

    fn block(number: u64, rows: u128) -> Block {
        Block { number, place: vec![9], left: 3, rows: (0..rows).map(row).collect() }
    }

    /// An export of blocks with this many rows each.
    fn archive(blocks: &[u128]) -> Vec<u8> {
        let mut counts = Counts::default();
        let mut bytes = beginning();
        for (number, &rows) in (0..).zip(blocks) {
            bytes.extend(record::encode_block(block(number, rows)));
            counts.add(Table::Revocations, rows as u64);
        }
        let left = if blocks.is_empty() { 0 } else { 3 };
        bytes.extend(record::encode_note(&note(counts, left, true)));
        bytes
    }

    #[track_caller]
    fn check(bytes: &[u8], expected: Result<u64, &str>) {
        match (read_to_the_end(bytes), expected) {
            (Ok(found), Ok(rows)) => assert_eq!(found, rows),
            (Err(found), Err(part)) => assert!(found.contains(part), "{part:?} is not in: {found}"),
            (found, _) => panic!("{found:?}"),
        }
    }

    #[test]
    fn what_is_not_whole_is_refused() {
        check(&archive(&[3, 0, 2]), Ok(5));
        check(b"", Err("nothing"));
        check(b"PK\x03\x04 this is some other file", Err("not written by Stentor"));
        let unfinished = beginning();
        check(&unfinished, Err("not finished"));
        let (one, two) = (record::encode_block(block(0, 1)), record::encode_block(block(1, 1)));
        check(&[&unfinished[..], &two, &one].concat(), Err("block 0 is missing"));
        check(&one, Err("does not begin"));
        check(&[archive(&[1]), one.clone()].concat(), Err("behind its end"));
        let end = record::encode_note(&note(Counts::default(), 0, true));
        check(&end, Err("beginning"));
        check(&[&unfinished[..], &one, &end].concat(), Err("counts"));
        let foreign = Block { rows: vec![(Table::Meta, vec![], vec![])], ..block(0, 0) };
        check(&[unfinished, record::encode_block(foreign)].concat(), Err("meta"));
        let mut endless = one;
        endless[4..8].fill(0xff);
        check(&endless, Err("bytes"));
    }

    proptest! {
        #[test]
        fn parts_come_back(
            source in ".{0,20}",
            numbers in any::<(u64, u64, bool)>(),
            place in prop::collection::vec(any::<u8>(), 0..40),
            rows in prop::collection::vec((0..Table::COUNT, any::<[u8; 5]>(), any::<[u8; 9]>()), 0..20),
        ) {
            let mut counts = Counts::default();
            for (table, ..) in &rows {
                counts.add(Table::ALL[*table], numbers.1);
            }
            let left = numbers.1;
            let note = Note { source, epoch: numbers.0, place: place.clone(), counts, left, done: numbers.2 };
            let rows = rows.into_iter().map(|(table, key, value)| (Table::ALL[table], key.into(), value.into()));
            let block = Block { number: numbers.0, place, left, rows: rows.collect() };
            let bytes = [record::encode_note(&note), record::encode_block(block.clone())].concat();
            let mut file = &bytes[..];
            let read = |file: &mut &[u8]| next(file).unwrap().map(|(part, _)| part);
            prop_assert_eq!(read(&mut file), Some(ArchiveRecord::Note(note)));
            prop_assert_eq!(read(&mut file), Some(ArchiveRecord::Block(block)));
            prop_assert_eq!(read(&mut file), None);
        }

        #[test]
        fn damage_is_noticed(blocks in prop::collection::vec(0u128..4, 0..4), at in any::<prop::sample::Index>(), flip in 1u8..) {
            let mut bytes = archive(&blocks);
            let cut = at.index(bytes.len());
            prop_assert!(read_to_the_end(&bytes[..cut]).is_err(), "cut at {}", cut);
            bytes[cut] ^= flip;
            prop_assert!(read_to_the_end(&bytes[..]).is_err(), "byte {}", cut);
        }
    }
}
