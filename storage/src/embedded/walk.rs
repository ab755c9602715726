//! Reads of ranges that examine a bounded number of rows, removed rows included, whatever the table holds.

use std::ops::Bound::{self, Excluded, Included, Unbounded};
use std::sync::atomic::{AtomicU64, Ordering};

use fjall::{Iter, Slice};

use super::damaged::DamagedBlocks;
use super::dead::is_mark;
use super::hollows::{Hollows, Reading};
use crate::Failure;
use crate::keys::{Span, Table};

/// Most rows that one walk examines: some milliseconds. The longest page has half as many.
pub const ROWS_EXAMINED_MAX: usize = 2048;
/// Marks in a row that make a hollow which is worth remembering. So few that a walk for a hundred rows comes to its end
/// however the marks lie between these rows, at the latest when the hollows are known.
pub const HOLLOW_ROWS_MIN: usize = 16;

/// The order of a walk.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Direction {
    Rising,
    Falling,
}

/// What the walks of a store know and count together.
#[derive(Clone, Copy)]
pub struct Notes<'a> {
    pub hollows: &'a Hollows,
    /// Counts the rows that all walks and look-ups examine.
    pub rows_read: &'a AtomicU64,
    pub damaged: &'a DamagedBlocks,
}

/// The rows of a span in order, without the removed ones. It ends after `ROWS_EXAMINED_MAX` rows: then
/// [`Self::stopped`] says where.
pub struct Walk<'a> {
    notes: Notes<'a>,
    table: Table,
    direction: Direction,
    reading: Option<Reading>,
    /// Reads a span of the same state of the table.
    read: Box<dyn Fn(Span) -> Iter + 'a>,
    span: Span,
    /// `None` when no row is left.
    rows: Option<Iter>,
    examined: usize,
    examined_max: usize,
    /// The key that was examined last.
    last: Option<Slice>,
    stopped: bool,
    /// The marks that were passed since the last row.
    marks: Option<Marks>,
}

/// Marks that follow each other.
struct Marks {
    from: Slice,
    to: Slice,
    count: usize,
}

impl<'a> Walk<'a> {
    /// A walk over a span. `reading` watches it, unless the committer walks.
    pub fn new(
        notes: Notes<'a>,
        table: Table,
        (span, direction): (Span, Direction),
        reading: Option<Reading>,
        read: impl Fn(Span) -> Iter + 'a,
    ) -> Self {
        let rows = Some(read(span.clone()));
        Self {
            notes,
            table,
            direction,
            reading,
            read: Box::new(read),
            span,
            rows,
            examined: 0,
            examined_max: ROWS_EXAMINED_MAX,
            last: None,
            stopped: false,
            marks: None,
        }
    }

    /// The walk with another bound on the rows that it examines.
    pub fn at_most(mut self, rows: usize) -> Self {
        self.examined_max = rows;
        self
    }

    /// How many rows were examined, marks included.
    pub fn examined(&self) -> u64 {
        self.examined as u64
    }

    /// The key up to which rows were examined, if the walk ended because of its bound. There may be more rows.
    pub fn stopped(&self) -> Option<&[u8]> {
        self.last.as_deref().filter(|_| self.stopped)
    }

    /// Passes a mark, and the hollow around it if one is known.
    fn pass(&mut self, key: Slice) {
        let known = self.notes.hollows.around(self.table, &key);
        let to = match (known, self.direction) {
            (None, _) => None,
            (Some((_, last)), Direction::Rising) => Some(Slice::from(last)),
            (Some((first, _)), Direction::Falling) => Some(Slice::from(first)),
        };
        if let Some(to) = &to {
            self.jump(to);
        }
        let count = if to.is_some() { HOLLOW_ROWS_MIN } else { 1 };
        let to = to.unwrap_or_else(|| key.clone());
        match &mut self.marks {
            Some(marks) => (marks.to, marks.count) = (to, marks.count + count),
            None => self.marks = Some(Marks { from: key, to, count }),
        }
    }

    /// Goes on behind a key.
    fn jump(&mut self, to: &Slice) {
        let behind = Excluded(to.to_vec());
        match self.direction {
            Direction::Rising => self.span.0 = behind,
            Direction::Falling => self.span.1 = behind,
        }
        self.rows = (!is_empty(&self.span)).then(|| (self.read)(self.span.clone()));
        self.last = Some(to.clone());
    }

    /// Remembers the marks that were passed, if they are many.
    fn note_hollow(&mut self) {
        let Some(Marks { from, to, .. }) = self.marks.take().filter(|marks| marks.count >= HOLLOW_ROWS_MIN) else {
            return;
        };
        let (first, last) = if self.direction == Direction::Rising { (from, to) } else { (to, from) };
        self.notes.hollows.note(self.reading, self.table, &first, &last);
    }
}

impl Iterator for Walk<'_> {
    type Item = Result<(Slice, Slice), Failure>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            let rows = self.rows.as_mut()?;
            if self.examined >= self.examined_max {
                self.stopped = true;
                return None;
            }
            let row = match self.direction {
                Direction::Rising => rows.next(),
                Direction::Falling => rows.next_back(),
            }?;
            self.examined += 1;
            let (key, value) = match row.into_inner() {
                Ok(row) => row,
                Err(error) => return Some(Err(self.notes.damaged.failure(self.table, self.span.clone(), &error))),
            };
            self.last = Some(key.clone());
            if !is_mark(&value) {
                self.note_hollow();
                return Some(Ok((key, value)));
            }
            self.pass(key);
        }
    }
}

impl Drop for Walk<'_> {
    fn drop(&mut self) {
        self.note_hollow();
        self.notes.rows_read.fetch_add(self.examined as u64, Ordering::Relaxed);
    }
}

fn is_empty(span: &Span) -> bool {
    let key = |bound: &'_ Bound<Vec<u8>>| match bound {
        Included(key) | Excluded(key) => Some(key.clone()),
        Unbounded => None,
    };
    let both_included = matches!(span, (Included(_), Included(_)));
    match (key(&span.0), key(&span.1)) {
        (Some(first), Some(last)) => first > last || (first == last && !both_included),
        _ => false,
    }
}
