//! Moves everything that a store has, with its ids, orders and heads, so that every cursor stays valid. Rows move
//! directly between stores, or through a file.
//!
//! A move reads rows in an order that its source chooses, some at a time. The target stores, together with the rows, a
//! note of how far the move has come. So an interrupted move continues from its last note, unless its source was used
//! meanwhile. Rows that can be derived from others, such as the orders of lists, are not moved but derived again.
//! Leftovers of deleted things stay behind. At the end the move counts the rows that have arrived.

mod archive;
mod item;
mod writer;

use std::collections::HashSet;
use std::path::Path;

use crate::{Failure, Store};

pub use crate::keys::Table;
pub use archive::read_to_the_end;
pub(crate) use archive::{Block, Row};
pub use item::Item;

/// Most unreadable blocks and rows of a move that are named and counted.
pub const UNREADABLE_MAX: usize = 10_000;

/// One end of a move.
#[derive(Clone, Copy)]
pub enum End<'a> {
    Store(&'a dyn Movable),
    /// As a source: a complete export. As a target: a file that does not exist yet.
    File(&'a Path),
}

/// A store that can be either end of a move.
pub trait Movable: Store {
    /// This store as the source of rows.
    fn source(&self) -> Box<dyn Source + '_>;

    /// This store as the target of rows.
    fn target(&self) -> Box<dyn Target + '_>;
}

/// The result of a move.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Moved {
    pub rows: u64,
    /// Leftovers of deleted things, which were not moved.
    pub left: u64,
    /// How many of these two an earlier attempt had already handled.
    pub before: u64,
    /// How many blocks and rows of the source this attempt could not read and has left out, counted up to
    /// `UNREADABLE_MAX`.
    pub unreadable: u64,
}

/// Reports a move's progress: the rows handled so far, and the total, if it is known.
pub type Watch<'w> = &'w mut dyn FnMut(u64, Option<u64>);

/// Moves everything, or what is left of an interrupted move, and counts the result. Fails if an end cannot be read or
/// written, or if the counts differ; a later call goes on.
pub fn run(from: End<'_>, to: End<'_>, watch: Watch<'_>) -> Result<Moved, Failure> {
    let source: Box<dyn Source + '_> = match from {
        End::Store(store) => store.source(),
        End::File(path) => Box::new(archive::Archive::open(path)?),
    };
    match to {
        End::Store(store) => carry(&*source, &mut *store.target(), watch),
        End::File(path) => carry(&*source, &mut writer::ArchiveWriter::open(path)?, watch),
    }
}

fn carry(source: &dyn Source, target: &mut dyn Target, watch: Watch<'_>) -> Result<Moved, Failure> {
    let begun = target.begun()?;
    let origin = source.begin()?;
    let mut note = match begun {
        None => Note::first(origin),
        Some(note) => note.taken_up(origin)?,
    };
    target.begin(&note)?;
    let (before, size) = (note.through(), source.size()?);
    watch(before, size);
    let mut unreadable = HashSet::new();
    while let Some(page) = source.rows(&note.place)? {
        // Two pages may come upon the same block.
        for line in &page.unreadable {
            if unreadable.len() < UNREADABLE_MAX && unreadable.insert(line.clone()) {
                tracing::error!("left out: {line}");
            }
        }
        note.pass(&page);
        target.put(page.items, &note)?;
        watch(note.through(), size);
    }
    note.done = true;
    target.end(&note)?;
    Ok(Moved { rows: note.counts.sum(), left: note.left, before, unreadable: unreadable.len() as u64 })
}

/// What rows are read from.
pub trait Source {
    /// Begins to read. No other process may change anything until the end.
    fn begin(&self) -> Result<Origin, Failure>;

    /// How many rows there are, leftovers included; `None` if that is unknown without reading them all.
    fn size(&self) -> Result<Option<u64>, Failure>;

    /// Some rows after a place; the first place is empty. `None` if there are no more. A channel's messages come with
    /// rising ids, and before its head; a group comes before its members.
    fn rows(&self, after: &[u8]) -> Result<Option<Page>, Failure>;
}

/// What rows are written to.
pub trait Target {
    /// How far an interrupted move into this target has come; `None` if the target is empty. Fails in all other cases.
    fn begun(&self) -> Result<Option<Note>, Failure>;

    /// Stores the note of a move that begins or continues.
    fn begin(&mut self, note: &Note) -> Result<(), Failure> {
        self.put(Vec::new(), note)
    }

    /// Stores rows, and the note of how far the move has come with them. Storing the same rows twice is harmless.
    fn put(&mut self, items: Vec<Item>, note: &Note) -> Result<(), Failure>;

    /// Checks that everything has arrived. Epochs that the target gives out from now on are later than the note's.
    fn end(&mut self, note: &Note) -> Result<(), Failure>;
}

/// The identity of a source, and its state.
pub struct Origin {
    pub source: String,
    /// Rises by one with every use of the source, this move included.
    pub epoch: u64,
    /// The epoch before this use: equal to the note's epoch if nothing else has used the source since. For a source
    /// that never changes, it equals `epoch`.
    pub last: u64,
}

/// Some rows of a source.
pub struct Page {
    pub items: Vec<Item>,
    /// Leftovers of deleted things that were skipped on the way to these rows.
    pub left: u64,
    /// The place after these rows.
    pub place: Vec<u8>,
    /// What could not be read on the way to these rows, for operators.
    pub unreadable: Vec<String>,
}

/// How far a move has come.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Note {
    pub source: String,
    pub epoch: u64,
    pub place: Vec<u8>,
    pub counts: Counts,
    pub left: u64,
    pub done: bool,
}

impl Note {
    fn first(origin: Origin) -> Self {
        let Origin { source, epoch, .. } = origin;
        Self { source, epoch, place: Vec::new(), counts: Counts::default(), left: 0, done: false }
    }

    /// Continues the move, if the source is the same and was not used since.
    fn taken_up(self, origin: Origin) -> Result<Self, Failure> {
        let source = &self.source;
        if self.done {
            return Err(Failure::InUse(format!("{source} has been moved there already")));
        }
        if *source != origin.source {
            return Err(Failure::InUse(format!("the move of {source} was begun there: finish it first")));
        }
        if self.epoch != origin.last {
            return Err(Failure::InUse(format!(
                "{source} has been used since its move was begun, so what was moved is out of date: empty the target, and \
                 begin anew"
            )));
        }
        Ok(Self { epoch: origin.epoch, ..self })
    }

    fn pass(&mut self, page: &Page) {
        debug_assert_ne!(self.place, page.place, "each page moves on: a move that does not would never end");
        for item in &page.items {
            self.counts.add(item.table(), 1);
        }
        self.left += page.left;
        self.place.clone_from(&page.place);
    }

    fn through(&self) -> u64 {
        self.counts.sum() + self.left
    }
}

/// Counts of rows by table.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Counts([u64; Table::COUNT]);

impl Counts {
    pub(crate) fn of(&self, table: Table) -> u64 {
        self.0[table as usize]
    }

    pub(crate) fn add(&mut self, table: Table, rows: u64) {
        self.0[table as usize] = self.0[table as usize].saturating_add(rows);
    }

    /// The rows of all tables.
    pub fn sum(&self) -> u64 {
        self.0.iter().fold(0, |sum, &rows| sum.saturating_add(rows))
    }

    /// Compares the count of moved rows with the count found.
    pub fn check(&self, table: Table, found: u64) -> Result<(), Failure> {
        let expected = self.of(table);
        if found == expected {
            return Ok(());
        }
        let name = table.name();
        Err(Failure::Corrupt(format!("{expected} rows of {name} were moved, and {found} are there")))
    }
}
