//! Reads everything that a store has: every block of every table, those of filters and indexes too, every journal, and every
//! record.

use std::path::Path;

use fjall::Slice;

use super::pages::listed_metadata;
use super::{Embedded, EmbeddedOptions};
use crate::keys::{self, Listed, Table};
use crate::transfer::Item;
use crate::{Failure, record};

/// Most lines about what cannot be read; the rest is counted.
pub const LINES_MAX: usize = 1000;

/// What a store has.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Verified {
    /// How many records can be read, by kind, without removed ones.
    pub records: Vec<(&'static str, u64)>,
    /// What cannot be read, with the file where it is known; the first `LINES_MAX` lines.
    pub unreadable: Vec<String>,
    /// How much cannot be read: files, blocks, ends of journals, records.
    pub unreadable_count: u64,
}

impl Verified {
    fn note(&mut self, line: String) {
        self.unreadable_count += 1;
        if self.unreadable.len() < LINES_MAX {
            self.unreadable.push(line);
        }
    }
}

/// Reads all of a store with which no process works: the directory of a server that has stopped, or one of a backup.
/// Changes nothing there. Fails if it cannot be read at all.
pub fn verify(directory: &Path, options: &EmbeddedOptions) -> Result<Verified, Failure> {
    let store = Embedded::open_to_read(directory, options)?;
    store.write_memory_out()?;
    let mut verified = Verified::default();
    store.damages()?.into_iter().for_each(|line| verified.note(line));
    for table in Table::ALL {
        let mut rows = store.sound_rows(table, None)?;
        let mut records = 0;
        for (key, value) in rows.by_ref() {
            match check(table, &key, &value) {
                Ok(()) => records += 1,
                Err(failure) => verified.note(format!("{}: record {}: {failure}", table.name(), hex(&key))),
            }
        }
        rows.take_damages().into_iter().for_each(|line| verified.note(format!("{}: {line}", table.name())));
        store.damaged_filters(table)?.into_iter().for_each(|line| verified.note(format!("{}: {line}", table.name())));
        verified.records.push((table.name(), records));
    }
    Ok(verified)
}

/// Decodes a record with its key.
fn check(table: Table, key: &Slice, value: &Slice) -> Result<(), Failure> {
    let known = |is_known: bool| match is_known {
        true => Ok(()),
        false => Err(Failure::Corrupt("the key is not as it should be".into())),
    };
    match table {
        Table::Usernames => super::decoded(table, record::decode_username(value)).map(drop),
        Table::GroupNames => super::decoded(table, record::decode_group_name(value)).map(drop),
        Table::GroupCounts => super::decoded(table, record::decode_group_count(value)).map(drop),
        Table::Leftovers => super::decoded(table, record::decode_leftover(value)).map(drop),
        Table::Browsing => known(keys::browsed_group(key).is_some()),
        Table::Rosters | Table::UserGroups => known(Listed::of(key).is_some()),
        Table::Friends => known(Listed::of(key).is_some()).and(listed_metadata(value).map(drop)),
        Table::Expiries => known(keys::expiring(key).is_some()),
        Table::PublicObjects => known(keys::public_object_id(key).is_some()),
        Table::Passages => known(keys::message_id(key).is_some()),
        Table::Meta => match &**key {
            keys::META => super::decoded(table, record::decode_meta(value)).map(drop),
            keys::MOVE => super::decoded(table, record::decode_note(value)).map(drop),
            other => known(other == keys::PASSAGES && value.len() == 16),
        },
        _ => Item::of(table, key, value).map(drop),
    }
}

/// The beginning of a key, for operators.
fn hex(key: &[u8]) -> String {
    const BYTES_MAX: usize = 96;
    let digits: String = key.iter().take(BYTES_MAX).map(|byte| format!("{byte:02x}")).collect();
    if key.len() > BYTES_MAX { digits + "..." } else { digits }
}
