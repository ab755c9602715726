//! Copies of the store's files: new ones for this user alone, and hard links of those that never change.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, ErrorKind, Write};
use std::os::unix::fs::{DirBuilderExt, FileExt, OpenOptionsExt};
use std::path::Path;

use super::failed;
use crate::Failure;
use crate::backup::BackedUp;

/// Bytes that are copied at once.
const CHUNK_BYTES: usize = 1 << 20;

/// Makes a directory, which must not be there, for this user alone.
pub fn make_directory(path: &Path) -> Result<(), Failure> {
    DirBuilder::new().mode(0o700).create(path).map_err(|error| failed("making", path, &error))
}

/// Makes a file, which must not be there, with these bytes.
pub fn write_file(path: &Path, bytes: &[u8]) -> Result<(), Failure> {
    let written = create(path).and_then(|mut file| file.write_all(bytes).and_then(|()| file.sync_all()));
    written.map_err(|error| failed("writing", path, &error))
}

/// Makes a file, which must not be there, with the first `length` bytes of an open file.
pub fn copy_beginning(from: &File, length: u64, path: &Path) -> Result<(), Failure> {
    let copy = || {
        let mut file = create(path)?;
        let mut chunk = vec![0; CHUNK_BYTES];
        let mut place = 0;
        while place < length {
            let bytes = usize::try_from(length - place).map_or(CHUNK_BYTES, |left| left.min(CHUNK_BYTES));
            from.read_exact_at(&mut chunk[..bytes], place)?;
            file.write_all(&chunk[..bytes])?;
            place += bytes as u64;
        }
        file.sync_all()
    };
    copy().map_err(|error: io::Error| failed("writing", path, &error))
}

/// Copies a whole file.
pub fn copy_file(from: &Path, to: &Path) -> Result<u64, Failure> {
    let file = File::open(from).map_err(|error| failed("reading", from, &error))?;
    let length = file.metadata().map_err(|error| failed("reading", from, &error))?.len();
    copy_beginning(&file, length, to)?;
    Ok(length)
}

/// Makes a hard link of a file that never changes; copies it where the file system makes no link.
pub fn link_or_copy(from: &Path, to: &Path, done: &mut BackedUp) -> Result<(), Failure> {
    let length = match fs::hard_link(from, to) {
        Ok(()) => {
            let length = fs::metadata(to).map_err(|error| failed("reading", to, &error))?.len();
            done.linked_bytes += length;
            length
        }
        Err(error) if matches!(error.kind(), ErrorKind::AlreadyExists | ErrorKind::NotFound) => {
            return Err(failed("linking", from, &error));
        }
        Err(_) => copy_file(from, to)?,
    };
    done.files += 1;
    done.bytes += length;
    Ok(())
}

/// Makes the names in a directory durable.
pub fn sync_directory(path: &Path) -> Result<(), Failure> {
    let synced = File::open(path).and_then(|directory| directory.sync_all());
    synced.map_err(|error| failed("syncing", path, &error))
}

fn create(path: &Path) -> io::Result<File> {
    OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)
}
