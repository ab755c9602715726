//! Examines fjall's journals before fjall opens them: is only the end of the newest one torn, or is something damaged?
//!
//! A loss of power can leave holes of zeros in the group whose sync had not returned. No client was told that this
//! group was done, so it is cut off; otherwise fjall would refuse to start. Any other damage means that acknowledged
//! groups may be lost. fjall would silently drop everything after the damage, so this module refuses to start instead.
//! If a journal lost its end exactly at the border of a group, it cannot be told from a shorter journal.
//!
//! A journal (fjall's format 3, the only one this is used on) is a sequence of batches, then zeros:
//!
//! ```text
//! batch: 1, items 4, sequence number 8 | items | 3, xxh3 of the items 8, "FJL" 3
//! item:  2, type 1, compression 1, keyspace 8, key length 2, value length 4, stored length 4, key, value
//!    or  4, keyspace 8
//! ```

use std::cmp::Ordering;
use std::fs::{File, OpenOptions};
use std::io::{self, Read, Seek};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use rustix::fs::SeekFrom;
use xxhash_rust::xxh3::xxh3_64;

use super::failed;
use super::failures::DAMAGED;
use crate::Failure;

const TRAILER: &[u8] = b"FJL\x03";
/// The unit that a disk writes as a whole.
const SECTOR_BYTES: usize = 512;

/// The state of a journal.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Verdict {
    Sound,
    /// The last batch, from this byte on, was never completely written.
    Torn(usize),
    /// From this byte on there is something that no interrupted write leaves behind.
    Damaged(usize),
}

/// Why bytes do not begin with a valid batch.
enum Flaw {
    Incomplete,
    /// The batch ends this many bytes from its beginning, but its checksum is wrong.
    Checksum(usize),
}

/// Examines a database's journals, oldest first, and cuts off a torn end of the newest. Fails if one is damaged
/// anywhere else, or is missing.
pub fn examine(journals: Vec<(u64, PathBuf)>) -> Result<(), Failure> {
    let database = journals.first().and_then(|(_, path)| path.parent()).unwrap_or(Path::new(""));
    if let Some(gap) = gaps(database, journals.iter().map(|(number, _)| *number)).first() {
        return Err(Failure::Corrupt(format!("{gap}. {DAMAGED}")));
    }
    examine_each(journals, |journal| {
        let (path, place) = (journal.path.display(), journal.place);
        if !journal.is_torn {
            return Err(Failure::Corrupt(format!("{path} is damaged at byte {place}. {DAMAGED}")));
        }
        tracing::warn!("{path} ends in a group that was not completely written, at byte {place}; it is dropped");
        cut(&journal)
    })
}

/// The newest journal, as the process noted it that last wrote there. fjall's own files do not name it, so without this
/// note nobody would see that it was lost.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct NewestJournal {
    pub number: u64,
    /// It had at least so many bytes.
    pub bytes: u64,
}

impl NewestJournal {
    /// The newest of these journals. Its bytes are counted if nothing writes to it any more.
    pub fn of(journals: &[(u64, PathBuf)], is_complete: bool) -> io::Result<Option<Self>> {
        let Some((number, path)) = journals.iter().max() else { return Ok(None) };
        let bytes = if is_complete { written_bytes(&File::open(path)?)? } else { 0 };
        Ok(Some(Self { number: *number, bytes }))
    }

    /// Reads what [`Self::line`] wrote.
    pub fn parse(line: &str) -> Option<Self> {
        let (number, bytes) = line.strip_prefix("journal ")?.split_once(' ')?;
        Some(Self { number: number.parse().ok()?, bytes: bytes.parse().ok()? })
    }

    /// The note, without the end of the line.
    pub fn line(self) -> String {
        format!("journal {} {}", self.number, self.bytes)
    }

    /// What of it is lost, for operators, if something is. fjall removes a journal only when there is a later one.
    pub fn loss(self, database: &Path, journals: &[(u64, PathBuf)]) -> io::Result<Option<String>> {
        let path = database.join(format!("{}.jnl", self.number));
        if journals.iter().any(|(number, _)| *number > self.number) {
            return Ok(None);
        }
        if !journals.iter().any(|(number, _)| *number == self.number) {
            return Ok(Some(format!("{} is missing, and what was written in it is lost", path.display())));
        }
        let bytes = written_bytes(&File::open(&path)?)?;
        Ok((bytes < self.bytes).then(|| {
            format!("{} has {bytes} bytes, and had {}: what was written there is lost", path.display(), self.bytes)
        }))
    }
}

/// The journals that are missing between these numbers, for operators. fjall numbers journals one after the other, and
/// removes the oldest first.
pub fn gaps(database: &Path, numbers: impl Iterator<Item = u64>) -> Vec<String> {
    let mut numbers: Vec<_> = numbers.collect();
    numbers.sort_unstable();
    let gap = |pair: &[u64]| {
        let (first, last) = (pair[0] + 1, pair[1].saturating_sub(1));
        let path = database.join(format!("{first}.jnl"));
        match first.cmp(&last) {
            Ordering::Greater => None,
            Ordering::Equal => Some(format!("{} is missing, and what was written in it is lost", path.display())),
            Ordering::Less => Some(format!(
                "{} and all up to {last}.jnl are missing, and what was written in them is lost",
                path.display()
            )),
        }
    };
    numbers.windows(2).filter_map(gap).collect()
}

/// A journal that cannot be read to its end.
pub struct Unread {
    pub path: PathBuf,
    /// The byte from which on nothing can be read.
    pub place: usize,
    /// Whether it ends there in a group that was not completely written, as an interrupted write leaves it behind.
    pub is_torn: bool,
}

/// Examines copies of a database's journals, and cuts each off where it cannot be read.
pub fn cut_off(journals: Vec<(u64, PathBuf)>) -> Result<Vec<Unread>, Failure> {
    let mut unread = Vec::new();
    examine_each(journals, |journal| {
        cut(&journal)?;
        unread.push(journal);
        Ok(())
    })?;
    Ok(unread)
}

/// Examines journals, oldest first, and tells `unread` of each that cannot be read to its end. Only the newest can be torn.
fn examine_each(
    mut journals: Vec<(u64, PathBuf)>,
    mut unread: impl FnMut(Unread) -> Result<(), Failure>,
) -> Result<(), Failure> {
    journals.sort();
    let newest = journals.last().map(|(number, _)| *number);
    for (number, path) in journals {
        let bytes = read(&path).map_err(|error| failed("reading", &path, &error))?;
        match verdict(&bytes) {
            Verdict::Sound => {}
            Verdict::Torn(place) => unread(Unread { path, place, is_torn: Some(number) == newest })?,
            Verdict::Damaged(place) => unread(Unread { path, place, is_torn: false })?,
        }
    }
    Ok(())
}

/// Reads a journal without its final hole: fjall makes each file 64 MiB long before it writes anything.
fn read(path: &Path) -> io::Result<Vec<u8>> {
    let mut file = File::open(path)?;
    let written = end_of_data(&file)?;
    let mut bytes = Vec::new();
    file.rewind()?;
    file.take(written).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// Where the final hole of a file begins.
fn end_of_data(file: &File) -> io::Result<u64> {
    let length = file.metadata()?.len();
    let (mut written, mut place) = (0, 0);
    while place < length {
        match rustix::fs::seek(file, SeekFrom::Data(place)) {
            Ok(data) => place = rustix::fs::seek(file, SeekFrom::Hole(data))?,
            Err(rustix::io::Errno::NXIO) => break,
            Err(error) => return Err(error.into()),
        }
        written = place;
    }
    Ok(written)
}

/// How many bytes of a journal, to which nothing is being written, have been written. A batch does not end with zeros.
pub fn written_bytes(file: &File) -> io::Result<u64> {
    let mut end = end_of_data(file)?;
    let mut chunk = [0; 8 * SECTOR_BYTES];
    while end > 0 {
        let begin = end.saturating_sub(chunk.len() as u64);
        let part = &mut chunk[..(end - begin) as usize];
        file.read_exact_at(part, begin)?;
        if let Some(last) = part.iter().rposition(|&byte| byte != 0) {
            return Ok(begin + last as u64 + 1);
        }
        end = begin;
    }
    Ok(0)
}

fn cut(Unread { path, place, .. }: &Unread) -> Result<(), Failure> {
    let file = OpenOptions::new().write(true).open(path).map_err(|error| failed("opening", path, &error))?;
    let cut = file.set_len(*place as u64).and_then(|()| file.sync_all());
    cut.map_err(|error| failed("shortening", path, &error))
}

fn verdict(bytes: &[u8]) -> Verdict {
    let mut place = 0;
    let flaw = loop {
        match batch_length(&bytes[place..]) {
            Ok(length) => {
                assert!(0 < length && length <= bytes.len() - place, "a batch lies within the journal");
                place += length;
            }
            Err(flaw) => break flaw,
        }
    };
    let rest = &bytes[place..];
    if rest.iter().all(|&byte| byte == 0) {
        return Verdict::Sound;
    }
    // Only the last batch can be torn: the sync of a later batch would have synced it, too.
    let beginnings = rest.iter().enumerate().skip(1).filter(|&(_, &byte)| byte == 1);
    let followed = beginnings.map(|(place, _)| &rest[place..]).any(|next| batch_length(next).is_ok());
    let torn = match flaw {
        Flaw::Incomplete => true,
        Flaw::Checksum(length) => has_hole(bytes, place, place + length),
    };
    if torn && !followed { Verdict::Torn(place) } else { Verdict::Damaged(place) }
}

/// Whether the part of some sector that lies in this range is all zeros. A batch neither begins nor ends with zeros, so
/// a short part at either border is not zero by chance.
fn has_hole(bytes: &[u8], start: usize, end: usize) -> bool {
    assert!(start < end && end <= bytes.len(), "a batch lies within the journal");
    (start / SECTOR_BYTES..=(end - 1) / SECTOR_BYTES).any(|sector| {
        let from = (sector * SECTOR_BYTES).max(start);
        let to = ((sector + 1) * SECTOR_BYTES).min(end);
        bytes[from..to].iter().all(|&byte| byte == 0)
    })
}

/// The length of the batch at the start of these bytes.
fn batch_length(bytes: &[u8]) -> Result<usize, Flaw> {
    let mut reader = Reader { bytes, place: 0 };
    if reader.byte()? != 1 {
        return Err(Flaw::Incomplete);
    }
    let items = reader.number::<4>()?;
    reader.skip(8)?;
    let first = reader.place;
    for _ in 0..items {
        reader.skip_item()?;
    }
    let last = reader.place;
    if reader.byte()? != 3 {
        return Err(Flaw::Incomplete);
    }
    let checksum = reader.number::<8>()?;
    if reader.take(TRAILER.len())? != TRAILER {
        return Err(Flaw::Incomplete);
    }
    if xxh3_64(&bytes[first..last]) != checksum {
        return Err(Flaw::Checksum(reader.place));
    }
    Ok(reader.place)
}

struct Reader<'a> {
    bytes: &'a [u8],
    place: usize,
}

impl<'a> Reader<'a> {
    fn take(&mut self, length: usize) -> Result<&'a [u8], Flaw> {
        let end = self.place.checked_add(length).ok_or(Flaw::Incomplete)?;
        let taken = self.bytes.get(self.place..end).ok_or(Flaw::Incomplete)?;
        self.place = end;
        Ok(taken)
    }

    fn skip(&mut self, length: usize) -> Result<(), Flaw> {
        self.take(length).map(|_| ())
    }

    fn byte(&mut self) -> Result<u8, Flaw> {
        self.take(1).map(|taken| taken[0])
    }

    /// A number of `N` bytes, lowest byte first.
    fn number<const N: usize>(&mut self) -> Result<u64, Flaw> {
        Ok(self.take(N)?.iter().rev().fold(0, |number, &byte| number << 8 | u64::from(byte)))
    }

    fn skip_item(&mut self) -> Result<(), Flaw> {
        match self.byte()? {
            2 => {
                self.skip(1 + 1 + 8)?;
                let key = self.number::<2>()?;
                self.skip(4)?;
                let value = self.number::<4>()?;
                self.skip((key + value) as usize)
            }
            4 => self.skip(8),
            _ => Err(Flaw::Incomplete),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use proptest::prelude::*;

    use super::*;

    fn batch(number: u64, value: &[u8]) -> Vec<u8> {
        let mut items = vec![2, 0, 0];
        items.extend(7u64.to_le_bytes());
        items.extend(3u16.to_le_bytes());
        items.extend((value.len() as u32).to_le_bytes());
        items.extend((value.len() as u32).to_le_bytes());
        items.extend(b"key");
        items.extend(value);
        items.push(4);
        items.extend(9u64.to_le_bytes());
        let mut bytes = vec![1, 2, 0, 0, 0];
        bytes.extend(number.to_le_bytes());
        bytes.extend(&items);
        bytes.push(3);
        bytes.extend(xxh3_64(&items).to_le_bytes());
        bytes.extend(TRAILER);
        bytes
    }

    /// Three batches, the last of several sectors, and the places where each begins.
    fn journal() -> (Vec<u8>, [usize; 3]) {
        let batches = [batch(1, b"first"), batch(2, &[b'x'; 700]), batch(3, &[b'y'; 3000])];
        let places = [0, batches[0].len(), batches[0].len() + batches[1].len()];
        (batches.concat(), places)
    }

    #[test]
    fn sound_journals() {
        let (mut bytes, places) = journal();
        for length in [0, places[1], places[2], bytes.len()] {
            assert_eq!(verdict(&bytes[..length]), Verdict::Sound);
        }
        bytes.resize(10_000, 0);
        assert_eq!(verdict(&bytes), Verdict::Sound);
        assert_eq!(verdict(&[0; 100]), Verdict::Sound);
    }

    #[test]
    fn torn_ends() {
        let (bytes, places) = journal();
        for length in places[2] + 1..bytes.len() {
            let mut torn = bytes[..length].to_vec();
            assert_eq!(verdict(&torn), Verdict::Torn(places[2]), "cut to {length}");
            torn.resize(bytes.len() + 500, 0);
            assert_eq!(verdict(&torn), Verdict::Torn(places[2]), "zeros from {length}");
        }
        for sector in places[2] / SECTOR_BYTES..=(bytes.len() - 1) / SECTOR_BYTES {
            let mut torn = bytes.clone();
            let end = ((sector + 1) * SECTOR_BYTES).min(bytes.len());
            torn[(sector * SECTOR_BYTES).max(places[2])..end].fill(0);
            assert_eq!(verdict(&torn), Verdict::Torn(places[2]), "hole at sector {sector}");
        }
    }

    #[test]
    fn damage_before_the_last_batch() {
        let (bytes, places) = journal();
        for place in 0..places[2] {
            let mut damaged = bytes.clone();
            damaged[place] ^= 0x55;
            let flawed = if place < places[1] { places[0] } else { places[1] };
            // The sequence number is not covered by fjall's checksum.
            let unseen = (5..13).contains(&(place - flawed));
            let expected = if unseen { Verdict::Sound } else { Verdict::Damaged(flawed) };
            assert_eq!(verdict(&damaged), expected, "byte {place}");
        }
    }

    #[test]
    fn changed_bytes_in_the_last_batch() {
        let (mut bytes, places) = journal();
        let place = bytes.len() - 100;
        bytes[place] ^= 1;
        assert_eq!(verdict(&bytes), Verdict::Damaged(places[2]));
    }

    #[test]
    fn holes_inside_are_read_and_the_last_is_not() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("0.jnl");
        let (bytes, _) = journal();
        let file = File::create(&path).unwrap();
        file.set_len(64 << 20).unwrap();
        std::os::unix::fs::FileExt::write_all_at(&file, &bytes, 1 << 20).unwrap();
        let read = read(&path).unwrap();
        assert_eq!(read[1 << 20..][..bytes.len()], bytes);
        assert!(read[..1 << 20].iter().all(|&byte| byte == 0));
        assert_eq!(verdict(&read), Verdict::Damaged(0));
    }

    #[test]
    fn only_the_newest_journal_may_be_torn() {
        let directory = tempfile::tempdir().unwrap();
        let (bytes, places) = journal();
        let torn = &bytes[..bytes.len() - 9];
        let [older, newer] = [9, 10].map(|number| (number, directory.path().join(format!("{number}.jnl"))));
        fs::write(&older.1, &bytes).unwrap();
        fs::write(&newer.1, torn).unwrap();
        examine(vec![newer.clone(), older.clone()]).unwrap();
        assert_eq!(fs::read(&newer.1).unwrap(), bytes[..places[2]]);
        fs::write(&older.1, torn).unwrap();
        let Err(Failure::Corrupt(reason)) = examine(vec![newer, older]) else { panic!("passed") };
        assert!(reason.contains("9.jnl"), "{reason}");
    }

    #[test]
    fn a_gap_between_journals_is_damage() {
        let gaps = |numbers: &[u64]| gaps(Path::new("d"), numbers.iter().copied());
        assert!(gaps(&[]).is_empty() && gaps(&[7]).is_empty() && gaps(&[9, 8, 7]).is_empty());
        let found = gaps(&[u64::MAX, 4, 3, 6]);
        assert_eq!(found.len(), 2, "{found:?}");
        assert!(found[0].starts_with("d/5.jnl is missing"), "{found:?}");
        assert!(found[1].starts_with("d/7.jnl and all up to 18446744073709551614.jnl"), "{found:?}");
        let directory = tempfile::tempdir().unwrap();
        let journals = [1, 3].map(|number| (number, directory.path().join(format!("{number}.jnl"))));
        journals.iter().for_each(|(_, path)| fs::write(path, journal().0).unwrap());
        let Err(Failure::Corrupt(reason)) = examine(journals.to_vec()) else { panic!("passed") };
        assert!(reason.contains("2.jnl is missing") && reason.contains("stentor verify"), "{reason}");
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_do_not_panic(bytes in prop::collection::vec(prop_oneof![0u8..5, any::<u8>()], 0..200)) {
            verdict(&bytes);
            verdict(&[batch(1, b"first"), bytes].concat());
        }
    }
}
