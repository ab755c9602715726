//! Writes an export. The file has a temporary name until it is complete.

use std::fs::{self, File, OpenOptions};
use std::io::{BufReader, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use super::archive::{ArchiveRecord, Block, Progress, RECORD_BYTES_MAX, Trouble, next, read_whole, said, unreadable};
use super::{Item, Note, Target};
use crate::Failure;
use crate::record::{self, HEADER_BYTES};

/// The suffix of an incomplete export's name.
const UNFINISHED: &str = "unfinished";

/// An export file that is being written.
pub(super) struct ArchiveWriter {
    path: PathBuf,
    unfinished: PathBuf,
    file: File,
    /// The state that an interrupted attempt has left.
    note: Option<Note>,
    blocks: u64,
}

impl ArchiveWriter {
    /// Creates a file, or continues an unfinished one after its last complete block.
    pub fn open(path: &Path) -> Result<Self, Failure> {
        if path.exists() {
            return Err(Failure::InUse(format!("{} is there already: name another file", path.display())));
        }
        let mut unfinished = path.as_os_str().to_owned();
        unfinished.push(".");
        unfinished.push(UNFINISHED);
        let unfinished = PathBuf::from(unfinished);
        // The file contains password hashes and plain messages: no other user may read it.
        let file = OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(0o600).open(&unfinished);
        let mut file = file.map_err(|error| unreadable(&unfinished, &error))?;
        if file.try_lock().is_err() {
            return Err(Failure::InUse(format!("another process writes {}", unfinished.display())));
        }
        let (progress, end) = read_begun(&file).map_err(|reason| {
            Failure::Corrupt(format!(
                "{} is no unfinished export ({reason}): remove it, or name another file",
                unfinished.display()
            ))
        })?;
        file.set_len(end)
            .and_then(|()| file.seek(SeekFrom::Start(end)))
            .map_err(|error| unreadable(&unfinished, &error))?;
        Ok(Self { path: path.into(), unfinished, file, note: progress.note, blocks: progress.blocks })
    }

    fn append(&mut self, record: &[u8]) -> Result<(), Failure> {
        assert!(record.len() <= HEADER_BYTES + RECORD_BYTES_MAX, "a record that is written can be read");
        let written = self.file.write_all(record).and_then(|()| self.file.sync_data());
        written.map_err(|error| self.failed(&error))
    }

    fn failed(&self, error: &std::io::Error) -> Failure {
        Failure::Passing(format!("writing {} failed: {error}", self.unfinished.display()))
    }
}

/// The complete parts of an unfinished export, and their length in bytes. After a crash anything may follow them.
fn read_begun(file: &File) -> Result<(Progress, u64), String> {
    let mut file = BufReader::new(file);
    let (mut progress, mut end) = (Progress::default(), 0);
    loop {
        match next(&mut file) {
            Ok(None) => return Ok((progress, end)),
            // The export is complete but was not renamed: write its end again.
            Ok(Some((ArchiveRecord::Note(Note { done: true, .. }), _))) => return Ok((progress, end)),
            Ok(Some((part, bytes))) => {
                progress.take(part)?;
                end += bytes.len() as u64;
            }
            Err(Trouble::World(error)) => return Err(error.to_string()),
            Err(Trouble::Damage(damage)) if end == 0 => return Err(said(Trouble::Damage(damage))),
            Err(_) => return Ok((progress, end)),
        }
    }
}

impl Target for ArchiveWriter {
    fn begun(&self) -> Result<Option<Note>, Failure> {
        Ok(self.note.clone())
    }

    fn begin(&mut self, note: &Note) -> Result<(), Failure> {
        self.append(&record::encode_note(note))
    }

    fn put(&mut self, items: Vec<Item>, note: &Note) -> Result<(), Failure> {
        let rows = items.iter().map(Item::row).collect();
        let block = Block { number: self.blocks, place: note.place.clone(), left: note.left, rows };
        self.append(&record::encode_block(block))?;
        self.blocks += 1;
        Ok(())
    }

    /// Reads the whole file again before it gets its final name.
    fn end(&mut self, note: &Note) -> Result<(), Failure> {
        self.append(&record::encode_note(note))?;
        self.file.rewind().map_err(|error| self.failed(&error))?;
        let (found, _) = read_whole(BufReader::new(Read::by_ref(&mut self.file)))
            .map_err(|reason| Failure::Corrupt(format!("{}: {reason}", self.unfinished.display())))?;
        assert_eq!(found.counts, note.counts, "what was written is what was counted");
        fs::rename(&self.unfinished, &self.path).map_err(|error| self.failed(&error))?;
        let parent = self.path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
        File::open(parent).and_then(|directory| directory.sync_all()).map_err(|error| self.failed(&error))
    }
}
