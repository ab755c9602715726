//! The table `transfers`: one row, how far a move into this keyspace has come.

use storage::transfer::Note;
use storage::{Failure, record};

use super::{Mutation, Query, Statement, big, bytes, flag, text};

/// The definition. The place is a note as `storage::record` writes it; the other columns are for operators.
pub const TABLE: &str =
    "CREATE TABLE IF NOT EXISTS transfers (id int PRIMARY KEY, source text, place blob, moved bigint, done boolean)";

pub(super) const ONE: &str = "SELECT place FROM transfers WHERE id = 0";
pub(super) const PUT: &str =
    "INSERT INTO transfers (id, source, place, moved, done) VALUES (0, ?, ?, ?, ?) USING TIMESTAMP ?";

/// The record of the note, if there was a move; read it with [`note`].
pub fn one() -> Query<(Vec<u8>,)> {
    Query::new(Statement::Transfer, [])
}

/// The note in a record. Fails with [`Failure::Corrupt`] if it is damaged.
pub fn note(record: &[u8]) -> Result<Note, Failure> {
    record::decode_note(record)
        .map_err(|damage| Failure::Corrupt(format!("the note of a move into this keyspace: {damage}")))
}

/// Writes how far the move has come.
pub fn put(note: &Note) -> Mutation {
    let moved = note.counts.sum().try_into().unwrap_or(i64::MAX);
    let values = [text(&note.source), bytes(&record::encode_note(note)), big(moved), flag(note.done)];
    Mutation::new(Statement::PutTransfer, values)
}

#[cfg(test)]
mod tests {
    use storage::transfer::Counts;

    use super::*;
    use crate::tables::tests::read_back;

    #[test]
    fn a_note_comes_back() {
        for done in [false, true] {
            let (source, place, counts) = ("a directory".into(), vec![1, 2], Counts::default());
            let expected = Note { source, epoch: 7, place, counts, left: 9, done };
            let (record,) = read_back(TABLE, &put(&expected), one());
            assert_eq!(note(&record), Ok(expected));
        }
        assert!(matches!(note(b"no record"), Err(Failure::Corrupt(_))));
    }
}
