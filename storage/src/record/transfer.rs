//! Records of a move from one store to another: how far it has come, and the rows that are being moved.

use rkyv::{Archive, Deserialize, Serialize};

use super::{Damage, Kind, access, encode, malformed};
use crate::keys::Table;
use crate::transfer::{Block, Counts, Note};

#[derive(Archive, Serialize, Deserialize)]
struct NoteV1 {
    source: String,
    epoch: u64,
    place: Vec<u8>,
    /// By the tables' numbers.
    counts: Vec<u64>,
    left: u64,
    done: bool,
}

#[derive(Archive, Serialize, Deserialize)]
struct BlockV1 {
    number: u64,
    place: Vec<u8>,
    left: u64,
    rows: Vec<RowV1>,
}

/// A row as the embedded store keeps it.
#[derive(Archive, Serialize, Deserialize)]
struct RowV1 {
    table: u8,
    key: Vec<u8>,
    record: Vec<u8>,
}

/// The record of a note.
pub fn encode_note(note: &Note) -> Vec<u8> {
    let counts = Table::ALL.map(|table| note.counts.of(table)).into();
    let note = note.clone();
    let (source, epoch, place, left, done) = (note.source, note.epoch, note.place, note.left, note.done);
    encode(Kind::Note, &NoteV1 { source, epoch, place, counts, left, done })
}

/// The note in a record. Fails if the record is damaged or of another kind.
pub fn decode_note(bytes: &[u8]) -> Result<Note, Damage> {
    let record = access::<ArchivedNoteV1>(Kind::Note, bytes)?;
    let record: NoteV1 = rkyv::deserialize(record).map_err(malformed)?;
    let mut counts = Counts::default();
    for (number, &rows) in record.counts.iter().enumerate() {
        if rows > 0 {
            counts.add(table(number)?, rows);
        }
    }
    let NoteV1 { source, epoch, place, left, done, .. } = record;
    Ok(Note { source, epoch, place, counts, left, done })
}

pub(crate) fn encode_block(block: Block) -> Vec<u8> {
    let row = |(table, key, record)| RowV1 { table: table as u8, key, record };
    let rows = block.rows.into_iter().map(row).collect();
    encode(Kind::Block, &BlockV1 { number: block.number, place: block.place, left: block.left, rows })
}

pub(crate) fn decode_block(bytes: &[u8]) -> Result<Block, Damage> {
    let record = access::<ArchivedBlockV1>(Kind::Block, bytes)?;
    let record: BlockV1 = rkyv::deserialize(record).map_err(malformed)?;
    let row = |row: RowV1| Ok((table(usize::from(row.table))?, row.key, row.record));
    let rows = record.rows.into_iter().map(row).collect::<Result<_, _>>()?;
    Ok(Block { number: record.number, place: record.place, left: record.left, rows })
}

fn table(number: usize) -> Result<Table, Damage> {
    let unknown = Damage::Number { what: "table", number: i32::try_from(number).unwrap_or(i32::MAX) };
    Table::ALL.get(number).copied().ok_or(unknown)
}
