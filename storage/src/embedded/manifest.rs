//! The list of a keyspace's tables, as lsm-tree writes it.
//!
//! It is an archive (of the crate `sfa`) of named parts. The part `tables` has the levels, of each level the runs with the
//! newest first, and of each run its tables:
//!
//! ```text
//! levels 1 | runs 1 | tables 4 | number 8, kind of checksum 1, checksum 16, sequence number 8 | ...
//! ```

use std::fs;
use std::io::{Cursor, Write};
use std::path::{Path, PathBuf};

use super::copying::write_file;
use super::directory::{current_of, manifest_of};
use super::failed;
use crate::Failure;

const TABLES: &[u8] = b"tables";
/// The bytes of a table after its number.
const REST_BYTES: usize = 1 + 16 + 8;

/// The tables of a keyspace, level by level and run by run.
pub struct Manifest {
    keyspace: PathBuf,
    number: u64,
    bytes: Vec<u8>,
    levels: Vec<Vec<Run>>,
}

type Run = Vec<Entry>;

#[derive(Clone, PartialEq, Eq, Debug)]
struct Entry {
    number: u64,
    rest: [u8; REST_BYTES],
}

impl Manifest {
    /// Reads the list of the keyspace in this directory. Fails if it is missing or damaged.
    pub fn read(keyspace: &Path) -> Result<Self, Failure> {
        let (number, bytes) = manifest_of(keyspace)?;
        let levels = sections(&bytes).and_then(|sections| {
            let (_, tables) = sections.into_iter().find(|(name, _)| name == TABLES)?;
            decode(tables)
        });
        match levels {
            Some(levels) => Ok(Self { keyspace: keyspace.into(), number, levels, bytes }),
            None => Err(Failure::Corrupt(format!("{}/v{number} is no list of tables", keyspace.display()))),
        }
    }

    /// The files of all tables, each with its level, and with its number, which is its name.
    pub fn files(&self) -> impl Iterator<Item = (usize, u64, PathBuf)> {
        let entries = self.levels.iter().enumerate().flat_map(|(level, runs)| {
            let entries = runs.iter().flatten();
            entries.map(move |entry| (level, entry.number))
        });
        entries.map(|(level, number)| (level, number, self.keyspace.join("tables").join(number.to_string())))
    }

    /// The names of the two files that have the list.
    pub fn names(&self) -> [String; 2] {
        [format!("v{}", self.number), "current".into()]
    }

    /// Takes a table off the list.
    pub fn remove(&mut self, number: u64) {
        for runs in &mut self.levels {
            runs.iter_mut().for_each(|run| run.retain(|entry| entry.number != number));
            runs.retain(|run| !run.is_empty());
        }
    }

    /// Moves the runs of the levels above `level` into it, before its own runs. The order of all runs stays, and so does
    /// what is read.
    pub fn move_down(&mut self, level: usize) {
        if let Some((lower, upper)) = self.levels.split_at_mut_checked(level).and_then(|(upper, lower)| {
            let (first, _) = lower.split_first_mut()?;
            Some((first, upper))
        }) {
            let moved: Vec<Run> = upper.iter_mut().flat_map(std::mem::take).collect();
            lower.splice(0..0, moved);
        }
    }

    /// Writes the list for the keyspace in another directory, which has none.
    pub fn write(&self, keyspace: &Path) -> Result<(), Failure> {
        let wrong = || Failure::Corrupt(format!("{}/v{}: too long", self.keyspace.display(), self.number));
        let tables = encode(&self.levels).ok_or_else(wrong)?;
        let mut writer = sfa::Writer::from_writer(Cursor::new(Vec::new()));
        for (name, section) in sections(&self.bytes).unwrap_or_default() {
            let section = if name == TABLES { &tables } else { section };
            let written = writer.start(name).and_then(|()| writer.write_all(section));
            written.map_err(|error| failed("writing", keyspace, &error))?;
        }
        let bytes = writer.into_inner().map_err(|_| wrong())?.into_inner();
        let [manifest, current] = self.names();
        write_file(&keyspace.join(manifest), &bytes)?;
        write_file(&keyspace.join(current), &current_of(self.number, &bytes))
    }
}

/// The parts of an archive, in their order.
fn sections(bytes: &[u8]) -> Option<Vec<(Vec<u8>, &[u8])>> {
    let reader = sfa::Reader::from_reader(&mut Cursor::new(bytes)).ok()?;
    let section = |entry: &sfa::TocEntry| {
        let from = usize::try_from(entry.pos()).ok()?;
        let to = from.checked_add(usize::try_from(entry.len()).ok()?)?;
        Some((entry.name().to_vec(), bytes.get(from..to)?))
    };
    reader.toc().iter().map(section).collect()
}

fn decode(mut bytes: &[u8]) -> Option<Vec<Vec<Run>>> {
    let levels = number::<1>(&mut bytes)?;
    let level = |bytes: &mut &[u8]| (0..number::<1>(bytes)?).map(|_| run(bytes)).collect();
    (0..levels).map(|_| level(&mut bytes)).collect()
}

fn run(bytes: &mut &[u8]) -> Option<Run> {
    let entry = |bytes: &mut &[u8]| {
        let number = number::<8>(bytes)?;
        Some(Entry { number, rest: *bytes.split_off(..REST_BYTES)?.first_chunk()? })
    };
    (0..number::<4>(bytes)?).map(|_| entry(bytes)).collect()
}

/// A number of `N` bytes, lowest byte first.
fn number<const N: usize>(bytes: &mut &[u8]) -> Option<u64> {
    Some(bytes.split_off(..N)?.iter().rev().fold(0, |number, &byte| number << 8 | u64::from(byte)))
}

/// `None` if there are more levels, runs or tables than the format has room for.
fn encode(levels: &[Vec<Run>]) -> Option<Vec<u8>> {
    let mut bytes = vec![u8::try_from(levels.len()).ok()?];
    for runs in levels {
        bytes.push(u8::try_from(runs.len()).ok()?);
        for run in runs {
            bytes.extend(u32::try_from(run.len()).ok()?.to_le_bytes());
            for Entry { number, rest } in run {
                bytes.extend(number.to_le_bytes());
                bytes.extend(rest);
            }
        }
    }
    Some(bytes)
}

/// The keyspaces of a database, each a directory.
pub fn keyspaces_of(database: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(database.join("keyspaces")).into_iter().flatten().flatten();
    let mut keyspaces: Vec<_> = entries.map(|entry| entry.path()).filter(|path| path.is_dir()).collect();
    keyspaces.sort();
    keyspaces
}

#[cfg(test)]
mod tests {
    use super::*;

    fn levels(levels: &[&[&[u64]]]) -> Vec<Vec<Run>> {
        let entry = |&number: &u64| Entry { number, rest: [number as u8; REST_BYTES] };
        let runs = |runs: &&[&[u64]]| runs.iter().map(|run| run.iter().map(entry).collect()).collect();
        levels.iter().map(runs).collect()
    }

    #[test]
    fn a_list_is_read_as_it_was_written_and_half_a_list_not_at_all() {
        let levels = levels(&[&[&[9], &[7, 8]], &[], &[&[1, 2, 3]]]);
        let bytes = encode(&levels).unwrap();
        assert_eq!(decode(&bytes), Some(levels));
        for length in 0..bytes.len() {
            assert_eq!(decode(&bytes[..length]), None, "{length} bytes");
        }
    }

    #[test]
    fn tables_are_taken_off_and_runs_keep_their_order() {
        let levels_before = levels(&[&[&[9], &[7, 8]], &[&[6]], &[&[1, 2, 3]], &[&[0]]]);
        let mut list = Manifest { keyspace: "k".into(), number: 1, bytes: Vec::new(), levels: levels_before };
        list.remove(9);
        list.remove(2);
        assert_eq!(list.levels, levels(&[&[&[7, 8]], &[&[6]], &[&[1, 3]], &[&[0]]]));
        list.move_down(2);
        assert_eq!(list.levels, levels(&[&[], &[], &[&[7, 8], &[6], &[1, 3]], &[&[0]]]));
        list.move_down(9);
        assert_eq!(
            list.files().map(|(level, number, _)| (level, number)).collect::<Vec<_>>(),
            [(2, 7), (2, 8), (2, 6), (2, 1), (2, 3), (3, 0)]
        );
    }
}
