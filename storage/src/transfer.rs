//! Moves everything that a store has, with its ids, orders and heads, so that every cursor stays good: between the keepers, or
//! by way of a file.
//!
//! A move reads rows in an order that its source chooses, some at a time, and notes with them, where they arrive, how far
//! it has come. So a move that was interrupted goes on from its last note, unless its source was used meanwhile. What can be
//! made from other rows, such as the orders of lists, is not moved but made anew; what was left over from things deleted
//! stays behind. In the end it is counted what has arrived.

mod archive;
mod item;
mod writer;

use std::path::Path;

use crate::Failure;
use crate::embedded::Embedded;
use crate::keys::Table;
use crate::scylla::Scylla;

pub use archive::read_to_the_end;
pub(crate) use archive::{Block, Row};
pub(crate) use item::Item;

/// One end of a move.
#[derive(Clone, Copy)]
pub enum End<'a> {
    Embedded(&'a Embedded),
    Database(&'a Scylla),
    /// As a source: a whole export. As a target: a file that is not there yet.
    File(&'a Path),
}

/// What a move has come to.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Moved {
    pub rows: u64,
    /// Rows that were left over from things deleted, and stayed behind.
    pub left: u64,
    /// Of these two, what an earlier attempt had moved already.
    pub before: u64,
}

/// How far a move is: rows that are through, and how many there are, where that is known.
pub type Watch<'w> = &'w mut dyn FnMut(u64, Option<u64>);

/// Moves everything, or what an interrupted move has left to do, and counts it in the end.
pub fn run(from: End<'_>, to: End<'_>, watch: Watch<'_>) -> Result<Moved, Failure> {
    let source: Box<dyn Source + '_> = match from {
        End::Embedded(store) => Box::new(store),
        End::Database(store) => Box::new(store),
        End::File(path) => Box::new(archive::Archive::open(path)?),
    };
    match to {
        End::Embedded(store) => carry(&*source, &mut &*store, watch),
        End::Database(store) => carry(&*source, &mut &*store, watch),
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
    while let Some(page) = source.rows(&note.place)? {
        note.pass(&page);
        target.put(page.items, &note)?;
        watch(note.through(), size);
    }
    note.done = true;
    target.end(&note)?;
    Ok(Moved { rows: note.counts.sum(), left: note.left, before })
}

/// Where rows come from.
pub(crate) trait Source {
    /// Begins to read, so that nobody changes anything until that is over.
    fn begin(&self) -> Result<Origin, Failure>;

    /// How many rows there are, leftovers included, if that is known without reading them all.
    fn size(&self) -> Result<Option<u64>, Failure>;

    /// Some rows behind a place, the first of which is empty; nothing when there are no more. A channel's messages come
    /// with their ids rising, and before its head; a group comes before its members.
    fn rows(&self, after: &[u8]) -> Result<Option<Page>, Failure>;
}

/// Where rows arrive.
pub(crate) trait Target {
    /// How far an interrupted move into this has come; nothing if it is empty. Anything else is refused.
    fn begun(&self) -> Result<Option<Note>, Failure>;

    /// Takes the note of a move that begins, or goes on.
    fn begin(&mut self, note: &Note) -> Result<(), Failure> {
        self.put(Vec::new(), note)
    }

    /// Takes rows, and the note of how far the move has come with them. Taken twice they come to the same.
    fn put(&mut self, items: Vec<Item>, note: &Note) -> Result<(), Failure>;

    /// Makes sure that everything has arrived. Epochs that are given out from now on are later than the note's.
    fn end(&mut self, note: &Note) -> Result<(), Failure>;
}

/// Which source it is, and in which state.
pub(crate) struct Origin {
    pub source: String,
    /// Rises by one whenever somebody uses the source, this move included.
    pub epoch: u64,
    /// What `epoch` is for a move to which nobody has come in between. Of what never changes they are the same.
    pub last: u64,
}

pub(crate) struct Page {
    pub items: Vec<Item>,
    pub left: u64,
    /// Where these rows end.
    pub place: Vec<u8>,
}

/// How far a move has come.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Note {
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

    /// Goes on, if it is the same source and nobody has used it since.
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

/// Rows by table.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(crate) struct Counts([u64; Table::COUNT]);

impl Counts {
    pub fn of(&self, table: Table) -> u64 {
        self.0[table as usize]
    }

    pub fn add(&mut self, table: Table, rows: u64) {
        self.0[table as usize] = self.0[table as usize].saturating_add(rows);
    }

    pub fn sum(&self) -> u64 {
        self.0.iter().fold(0, |sum, &rows| sum.saturating_add(rows))
    }

    /// Compares what was moved with what is there.
    pub fn check(&self, table: Table, found: u64) -> Result<(), Failure> {
        let expected = self.of(table);
        if found == expected {
            return Ok(());
        }
        let name = table.name();
        Err(Failure::Corrupt(format!("{expected} rows of {name} were moved, and {found} are there")))
    }
}
