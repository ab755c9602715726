//! Turns errors of fjall, and rows that make no sense, into failures of the store.

use std::path::Path;

use crate::Failure;
use crate::keys::Table;
use crate::record::Damage;

/// What an operator can do about damaged files.
pub const DAMAGED: &str =
    "Restore a backup; or see what stentor verify lists, and save with stentor export what can be read";

/// What an operator can do about a damaged file without which `stentor verify` and `stentor export` read nothing.
pub const UNREADABLE: &str = "Restore a backup: nothing of this store can be read without that file";

/// The failure of opening a store only to read it: with advice that does not send to a command that fails in the same way.
pub fn for_readers(failure: Failure) -> Failure {
    match failure {
        Failure::Corrupt(text) => Failure::Corrupt(text.replace(DAMAGED, UNREADABLE)),
        failure => failure,
    }
}

/// The decoded record, or a failure that names its table.
pub fn decoded<T>(table: Table, record: Result<T, Damage>) -> Result<T, Failure> {
    record.map_err(|damage| Failure::Corrupt(format!("in table {}: {damage}", table.name())))
}

/// The parsed key, or a failure if the key does not belong in this table.
pub fn parsed<T>(table: Table, key: Option<T>) -> Result<T, Failure> {
    key.ok_or_else(|| Failure::Corrupt(format!("in table {}: a key is not as it should be", table.name())))
}

/// A failed read: a disk error may pass, a wrong checksum stays.
pub fn unreadable(table: Table, error: &fjall::Error) -> Failure {
    let text = format!("reading table {} failed: {}", table.name(), describe(error));
    if is_damage(error) { Failure::Corrupt(text) } else { Failure::Passing(text) }
}

/// Whether the bytes on the disk are not what was written: a wrong checksum, or an end where there should be more. Other
/// errors of the disk may pass.
pub fn is_damage(error: &fjall::Error) -> bool {
    use std::io::ErrorKind::{InvalidData, NotFound, UnexpectedEof};
    io_error(error).is_none_or(|error| matches!(error.kind(), InvalidData | NotFound | UnexpectedEof))
}

/// The failure for a database that cannot be opened.
pub fn unopenable(path: &Path, error: &fjall::Error) -> Failure {
    use std::io::ErrorKind::{AlreadyExists, InvalidData, NotFound, UnexpectedEof};
    let (path, reason) = (path.display(), describe(error));
    if matches!(error, fjall::Error::Locked) {
        return Failure::InUse(format!("another process uses {path}"));
    }
    if is_of_another_version(error) {
        return Failure::Corrupt(format!(
            "{path} was written by another version of this program ({reason}): start that version. Leave the files as they are"
        ));
    }
    match io_error(error).map(std::io::Error::kind) {
        None | Some(AlreadyExists | InvalidData | NotFound | UnexpectedEof) => {
            Failure::Corrupt(format!("{path} cannot be read: {reason}. {DAMAGED}"))
        }
        Some(_) => Failure::Final(format!("{path} cannot be opened: {reason}")),
    }
}

/// Whether the files are whole, and another version of the program has written them.
fn is_of_another_version(error: &fjall::Error) -> bool {
    matches!(error, fjall::Error::InvalidVersion(_) | fjall::Error::Storage(fjall::LsmError::InvalidVersion(_)))
}

/// The operating system's error, if that is the cause.
pub fn io_error(error: &fjall::Error) -> Option<&std::io::Error> {
    match error {
        fjall::Error::Io(error) | fjall::Error::Storage(fjall::LsmError::Io(error)) => Some(error),
        _ => None,
    }
}

/// A fjall error in words for operators; an operating system's error in that system's words.
pub fn describe(error: &fjall::Error) -> String {
    match error {
        fjall::Error::Io(error) => error.to_string(),
        fjall::Error::Storage(error) => describe_table(error),
        fjall::Error::Poisoned => "fjall has failed before, in a thread that writes tables".into(),
        error => format!("{error:?}"),
    }
}

/// The same for an error of a table.
pub fn describe_table(error: &fjall::LsmError) -> String {
    use fjall::LsmError::{
        ChecksumMismatch, Decompress, InvalidHeader, InvalidTag, InvalidTrailer, Io, Unrecoverable, Utf8,
    };
    match error {
        Io(error) => error.to_string(),
        ChecksumMismatch { got, expected } => {
            let [got, written] = [got, expected].map(|sum| sum.into_u128());
            format!("its checksum is {got:x}, and was {written:x} when it was written")
        }
        Decompress(_) => "it cannot be decompressed".into(),
        InvalidHeader(_) | InvalidTag(_) | InvalidTrailer | Utf8(_) => "it has not the form that it should have".into(),
        Unrecoverable => "files that belong to it are missing or damaged".into(),
        error => format!("{error:?}"),
    }
}
