//! Where readers have found nothing but marks of removed rows. Later readers jump over these hollows, so the marks cost
//! something once and not at every reading.
//!
//! A hollow must never hide a row. So a commit ends the hollows of its rows before these rows become visible, and no
//! hollow is noted while it is under way. A reader may have begun before the rows were visible, and find a hollow only
//! after the commit. So a reader is watched from before its snapshot is taken, and what it finds is dropped if a row was
//! written there meanwhile.

use std::collections::BTreeMap;

use parking_lot::Mutex;

use crate::keys::Table;

/// Most hollows that are remembered. Beyond it all are forgotten, and readers find them again.
const HOLLOWS_MAX: usize = 16 << 10;
/// Most rows written during a reading that are remembered. Beyond it the reading notes no hollow.
const WRITTEN_MAX: usize = 256;

/// The hollows that are known.
#[derive(Default)]
pub struct Hollows {
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// For each table the first key of each hollow, under its last. Hollows of a table have no key in common.
    hollows: BTreeMap<(u8, Vec<u8>), Vec<u8>>,
    readings: BTreeMap<u64, Written>,
    next: u64,
    /// Whether a commit is under way: its rows may be visible already.
    commits: bool,
}

/// The rows that were written since a reading began; `None` if there are too many.
type Written = Option<Vec<(Table, Vec<u8>)>>;

/// A reading under watch.
#[derive(Clone, Copy)]
pub struct Reading(u64);

impl Hollows {
    /// Begins to watch a reading. Must be called before its snapshot is taken.
    pub fn begin(&self) -> Reading {
        let mut state = self.state.lock();
        state.next += 1;
        let reading = state.next;
        state.readings.insert(reading, Some(Vec::new()));
        Reading(reading)
    }

    /// Ends the watch of a reading.
    pub fn end(&self, reading: Reading) {
        self.state.lock().readings.remove(&reading.0);
    }

    /// Takes in that a reading has found nothing but marks from the first to the last of these keys, both included. The
    /// committer's own readings need no watch: no other thread writes.
    pub fn note(&self, reading: Option<Reading>, table: Table, first: &[u8], last: &[u8]) {
        debug_assert!(first <= last, "a hollow begins before it ends");
        let mut state = self.state.lock();
        let is_hit = |(of, key): &(Table, Vec<u8>)| *of == table && (first..=last).contains(&key.as_slice());
        let is_outdated = |reading: Reading| match state.readings.get(&reading.0) {
            Some(Some(written)) => written.iter().any(is_hit),
            _ => true,
        };
        if state.commits || reading.is_some_and(is_outdated) {
            return;
        }
        state.add(table, first, last);
    }

    /// The first and the last key of the hollow in which this key is.
    pub fn around(&self, table: Table, key: &[u8]) -> Option<(Vec<u8>, Vec<u8>)> {
        self.state.lock().around(table, key)
    }

    /// Takes in that a commit begins, with the rows of tables with marks that it will make visible. There is one commit
    /// at a time.
    pub fn commit_begins<'k>(&self, rows: impl Iterator<Item = (Table, &'k [u8])>) {
        let mut state = self.state.lock();
        assert!(!state.commits, "there is one commit at a time");
        state.commits = true;
        if state.hollows.is_empty() {
            return;
        }
        for (table, key) in rows {
            if let Some((_, last)) = state.around(table, key) {
                state.hollows.remove(&(table as u8, last));
            }
        }
    }

    /// Takes in that the commit with these rows has ended.
    pub fn commit_ends<'k>(&self, rows: impl Iterator<Item = (Table, &'k [u8])>) {
        let mut state = self.state.lock();
        assert!(state.commits, "a commit ends after it began");
        state.commits = false;
        if state.readings.is_empty() {
            return;
        }
        for (table, key) in rows {
            for written in state.readings.values_mut() {
                match written {
                    Some(rows) if rows.len() < WRITTEN_MAX => rows.push((table, key.to_vec())),
                    written => *written = None,
                }
            }
        }
    }
}

impl State {
    fn around(&self, table: Table, key: &[u8]) -> Option<(Vec<u8>, Vec<u8>)> {
        let ((of, last), first) = self.hollows.range((table as u8, key.to_vec())..).next()?;
        (*of == table as u8 && first.as_slice() <= key).then(|| (first.clone(), last.clone()))
    }

    /// Adds a hollow, and makes it one with those that it overlaps.
    fn add(&mut self, table: Table, first: &[u8], last: &[u8]) {
        if self.hollows.len() >= HOLLOWS_MAX {
            self.hollows.clear();
        }
        let (mut first, mut last) = (first.to_vec(), last.to_vec());
        let overlapping = self.hollows.range((table as u8, first.clone())..);
        let overlapping = overlapping.take_while(|((of, _), begins)| *of == table as u8 && **begins <= last);
        let overlapping: Vec<_> = overlapping.map(|(ends, begins)| (ends.clone(), begins.clone())).collect();
        for (ends, begins) in overlapping {
            self.hollows.remove(&ends);
            first = first.min(begins);
            last = last.max(ends.1);
        }
        self.hollows.insert((table as u8, last), first);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const TABLE: Table = Table::Friends;

    fn around(hollows: &Hollows, key: u8) -> Option<(u8, u8)> {
        hollows.around(TABLE, &[key]).map(|(first, last)| (first[0], last[0]))
    }

    fn write(hollows: &Hollows, key: u8) {
        hollows.commit_begins([(TABLE, [key].as_slice())].into_iter());
        hollows.commit_ends([(TABLE, [key].as_slice())].into_iter());
    }

    proptest! {
        #[test]
        fn what_is_in_a_hollow_was_noted_and_not_written(
            steps in prop::collection::vec((any::<bool>(), 0u8..40, 0u8..9), 0..40),
        ) {
            let hollows = Hollows::default();
            let mut model = [false; 64];
            for (notes, first, length) in steps {
                if notes {
                    hollows.note(None, TABLE, &[first], &[first + length]);
                    model[usize::from(first)..=usize::from(first + length)].fill(true);
                } else if let Some((first, last)) = around(&hollows, first) {
                    write(&hollows, first);
                    model[usize::from(first)..=usize::from(last)].fill(false);
                }
            }
            for key in 0..64 {
                let found = around(&hollows, key);
                prop_assert_eq!(found.is_some(), model[usize::from(key)], "{}", key);
                prop_assert!(found.is_none_or(|(first, last)| (first..=last).contains(&key)));
            }
        }
    }

    #[test]
    fn a_reading_notes_nothing_where_a_row_was_written_meanwhile() {
        let hollows = Hollows::default();
        let reading = hollows.begin();
        write(&hollows, 5);
        hollows.note(Some(reading), TABLE, &[1], &[5]);
        assert_eq!(around(&hollows, 3), None);
        hollows.note(Some(reading), TABLE, &[1], &[4]);
        assert_eq!(around(&hollows, 3), Some((1, 4)));
        hollows.note(Some(reading), Table::Rosters, &[5], &[5]);
        assert!(hollows.around(Table::Rosters, &[5]).is_some(), "it was written in another table");
        hollows.end(reading);
        hollows.note(Some(reading), TABLE, &[8], &[9]);
        assert_eq!(around(&hollows, 8), None, "it is watched no longer");
    }

    #[test]
    fn no_hollow_hides_a_row_of_the_commit_under_way() {
        let hollows = Hollows::default();
        let before = hollows.begin();
        hollows.note(Some(before), TABLE, &[1], &[9]);
        let rows = || [(TABLE, [5].as_slice())].into_iter();
        hollows.commit_begins(rows());
        assert_eq!(around(&hollows, 5), None, "the row may be visible from now on");
        let during = hollows.begin();
        for reading in [before, during] {
            hollows.note(Some(reading), TABLE, &[1], &[9]);
            assert_eq!(around(&hollows, 5), None);
        }
        hollows.commit_ends(rows());
        for reading in [before, during] {
            hollows.note(Some(reading), TABLE, &[1], &[9]);
            assert_eq!(around(&hollows, 5), None, "the row may be missing in what the reader has seen");
        }
        let after = hollows.begin();
        hollows.note(Some(after), TABLE, &[1], &[4]);
        assert_eq!(around(&hollows, 4), Some((1, 4)));
    }

    #[test]
    fn memory_is_bounded() {
        let hollows = Hollows::default();
        for number in 0..3 * HOLLOWS_MAX as u32 {
            let key = number.to_be_bytes();
            hollows.note(None, TABLE, &key, &key);
            assert!(hollows.around(TABLE, &key).is_some());
            assert!(hollows.state.lock().hollows.len() <= HOLLOWS_MAX);
        }
        let reading = hollows.begin();
        (0..=WRITTEN_MAX as u32).for_each(|number| {
            let rows = || [(TABLE, [7].as_slice())].into_iter().chain((number == 0).then_some((TABLE, [8].as_slice())));
            hollows.commit_begins(rows());
            hollows.commit_ends(rows());
        });
        assert!(hollows.state.lock().readings.values().all(Option::is_none));
        hollows.note(Some(reading), TABLE, &[1], &[2]);
        assert_eq!(around(&hollows, 1), None, "too much was written to tell");
    }
}
