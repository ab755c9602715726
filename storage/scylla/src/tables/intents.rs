//! The table `intents`: changes of more than one batch that are in flight, one partition each. The static column is the
//! number of parts (0 after the change has ended); the rows are the parts of the undo, as `storage::record` writes them.

use scylla::DeserializeRow;

use super::{Mutation, Query, Statement, bytes, int};

/// The definition.
pub const TABLE: &str = "CREATE TABLE IF NOT EXISTS intents (
  slot int, part int, parts int static, record blob, PRIMARY KEY ((slot), part))";

pub(super) const STATE: &str = "SELECT parts, WRITETIME(parts) FROM intents WHERE slot = ? LIMIT 1";
pub(super) const PART: &str = "SELECT record FROM intents WHERE slot = ? AND part = ?";
pub(super) const SET: &str = "UPDATE intents USING TIMESTAMP ? SET parts = ? WHERE slot = ?";
pub(super) const PUT_PART: &str = "INSERT INTO intents (slot, part, record) VALUES (?, ?, ?) USING TIMESTAMP ?";
pub(super) const CLEAR: &str = "DELETE FROM intents USING TIMESTAMP ? WHERE slot = ? AND part >= 0";

/// A slot's number of parts, and when it was written. Both are null in a slot that was never used. Servers name the
/// second column themselves.
#[derive(Clone, Copy, PartialEq, Eq, Debug, DeserializeRow)]
#[scylla(flavor = "enforce_order", skip_name_checks)]
pub struct State {
    pub parts: Option<i32>,
    pub written_us: Option<i64>,
}

/// The state of a slot.
pub fn state(slot: i32) -> Query<State> {
    Query::new(Statement::Intent, [int(slot)])
}

/// The record of one part of the intent in a slot.
pub fn part(slot: i32, part: i32) -> Query<(Vec<u8>,)> {
    Query::new(Statement::IntentPart, [int(slot), int(part)])
}

/// Writes the number of parts: with it, an intent begins or ends.
pub fn set(slot: i32, parts: i32) -> Mutation {
    debug_assert!(parts >= 0, "an intent has no {parts} parts");
    Mutation::new(Statement::SetIntent, [int(parts), int(slot)])
}

/// Writes one part.
pub fn put_part(slot: i32, part: i32, record: &[u8]) -> Mutation {
    debug_assert!(part >= 0, "parts are counted from zero: `clear` deletes no part {part}");
    Mutation::new(Statement::PutIntentPart, [int(slot), int(part), bytes(record)])
}

/// Deletes all parts in a slot.
pub fn clear(slot: i32) -> Mutation {
    Mutation::new(Statement::ClearIntent, [int(slot)])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tables::tests::{check_delete, read_back};

    #[test]
    fn parts_and_their_number_come_back() {
        for parts in [0, 1, i32::MAX] {
            let expected = State { parts: Some(parts), written_us: Some(8) };
            assert_eq!(read_back(TABLE, &set(3, parts), state(3)), expected);
        }
        let row = put_part(3, 7, b"a record");
        assert_eq!(read_back(TABLE, &row, part(3, 7)), (b"a record".to_vec(),));
        check_delete(&row, &clear(3));
    }
}
