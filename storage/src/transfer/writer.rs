//! Writes an export, under another name until it is whole.

use std::fs::{self, File, OpenOptions};
use std::io::{BufReader, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use super::archive::{Block, Part, Progress, Trouble, next, read_whole, said, unreadable};
use super::{Item, Note, Target};
use crate::{Failure, record};

/// Behind the name of an export that is not whole.
const UNFINISHED: &str = "unfinished";

/// The file in the making.
pub(super) struct ArchiveWriter {
    path: PathBuf,
    unfinished: PathBuf,
    file: File,
    /// What is there of an interrupted attempt.
    note: Option<Note>,
    blocks: u64,
}

impl ArchiveWriter {
    /// Begins a file, or goes on behind the last whole block of one.
    pub fn open(path: &Path) -> Result<Self, Failure> {
        if path.exists() {
            return Err(Failure::InUse(format!("{} is there already: name another file", path.display())));
        }
        let mut unfinished = path.as_os_str().to_owned();
        unfinished.push(".");
        unfinished.push(UNFINISHED);
        let unfinished = PathBuf::from(unfinished);
        // Passwords are hashed in it, and messages are not: it is for nobody else to read.
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
        let written = self.file.write_all(record).and_then(|()| self.file.sync_data());
        written.map_err(|error| self.failed(&error))
    }

    fn failed(&self, error: &std::io::Error) -> Failure {
        Failure::Passing(format!("writing {} failed: {error}", self.unfinished.display()))
    }
}

/// What is whole of an unfinished export, and how many bytes that is. A crash may leave anything behind it.
fn read_begun(file: &File) -> Result<(Progress, u64), String> {
    let mut file = BufReader::new(file);
    let (mut progress, mut end) = (Progress::default(), 0);
    loop {
        match next(&mut file) {
            Ok(None) => return Ok((progress, end)),
            // Whole, and yet not renamed: its end is written again.
            Ok(Some((Part::Note(Note { done: true, .. }), _))) => return Ok((progress, end)),
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

    /// Reads it all again before it gets its name.
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
