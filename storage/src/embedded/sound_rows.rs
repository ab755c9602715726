//! Reads a table past damaged blocks. fjall's own reading ends at the first of them.
//!
//! Each run of the table's tree is read by itself, and goes on behind a block that cannot be read. The rows of all runs
//! are merged: of the rows with one key, the newest counts. If the newest is in a damaged block, an older one comes back,
//! even if the newest had removed or changed it.
//!
//! A file whose index cannot be read is read from its beginning on, block by block.

use std::cmp::{Ordering, Reverse};
use std::collections::{BinaryHeap, VecDeque};
use std::ops::Bound::{Excluded, Unbounded};

use fjall::{AbstractTree, Keyspace, Slice};
use lsm_tree::{InternalValue, Table as TableFile};

use super::dead::is_mark;
use super::failures::describe_table;
use super::table_files::{index_damages, path_of};

type Rows = Box<dyn Iterator<Item = lsm_tree::Result<InternalValue>>>;

/// The rows of a keyspace whose memory is empty, in the order of their keys, without removed ones.
pub struct SoundRows {
    runs: Vec<Run>,
    heads: BinaryHeap<Reverse<Head>>,
    last: Option<Slice>,
    damages: Vec<String>,
}

/// Tables whose keys do not overlap, in the order of their keys.
struct Run {
    tables: VecDeque<TableFile>,
    /// The key after which the next row comes.
    after: Option<Slice>,
    reading: Option<(TableFile, Rows)>,
    /// Whether that table is read without its index.
    without_index: bool,
    /// How many more blocks of the table that is being read may be damaged: as many as it has.
    damaged_max: u64,
}

struct Head {
    row: InternalValue,
    run: usize,
}

impl Ord for Head {
    /// By key; of one key, the newest first.
    fn cmp(&self, other: &Self) -> Ordering {
        let (own, others) = (&self.row.key, &other.row.key);
        own.user_key.cmp(&others.user_key).then(others.seqno.cmp(&own.seqno)).then(self.run.cmp(&other.run))
    }
}

impl PartialOrd for Head {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Head {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Head {}

impl SoundRows {
    /// The rows after a key, or all. What is in memory only is not read.
    pub fn of(keyspace: &Keyspace, after: Option<&[u8]>) -> Self {
        let version = keyspace.tree.current_version();
        let runs = version.iter_levels().flat_map(|level| level.iter());
        let runs = runs.map(|run| Run {
            tables: run.iter().cloned().collect(),
            after: after.map(Slice::from),
            reading: None,
            without_index: false,
            damaged_max: 0,
        });
        let mut rows = Self { runs: runs.collect(), heads: BinaryHeap::new(), last: None, damages: Vec::new() };
        (0..rows.runs.len()).for_each(|run| rows.refill(run));
        rows
    }

    /// What could not be read since the last call, for operators: a file, and why.
    pub fn take_damages(&mut self) -> Vec<String> {
        std::mem::take(&mut self.damages)
    }

    fn refill(&mut self, run: usize) {
        if let Some(row) = self.runs[run].next(&mut self.damages) {
            self.heads.push(Reverse(Head { row, run }));
        }
    }
}

impl Iterator for SoundRows {
    type Item = (Slice, Slice);

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            let Reverse(Head { row, run }) = self.heads.pop()?;
            self.refill(run);
            if self.last.as_ref() == Some(&row.key.user_key) {
                continue;
            }
            self.last = Some(row.key.user_key.clone());
            if !row.key.is_tombstone() && !is_mark(&row.value) {
                return Some((row.key.user_key, row.value));
            }
        }
    }
}

impl Run {
    fn next(&mut self, damages: &mut Vec<String>) -> Option<InternalValue> {
        loop {
            let Some((table, rows)) = &mut self.reading else {
                let table = self.tables.pop_front()?;
                if self.after.as_ref().is_some_and(|after| table.metadata.key_range.max() <= after) {
                    continue;
                }
                self.damaged_max = table.metadata.data_block_count;
                let first = self.after.clone().map_or(Unbounded, Excluded);
                let rows: Rows = Box::new(table.range((first, Unbounded)));
                (self.reading, self.without_index) = (Some((table, rows)), false);
                continue;
            };
            match rows.next() {
                Some(Ok(row)) => {
                    self.after = Some(row.key.user_key.clone());
                    return Some(row);
                }
                Some(Err(_)) if !self.without_index && !index_damages(table).is_empty() => {
                    self.without_index = true;
                    match rows_without_index(table, self.after.clone()) {
                        Ok(found) => *rows = found,
                        Err(error) => {
                            damages.push(damage(table, &error));
                            self.reading = None;
                        }
                    }
                }
                // Behind a damaged block, what follows the rows could be taken for rows.
                Some(Err(error)) if self.without_index => {
                    damages.push(damage(table, &error));
                    self.reading = None;
                }
                // The next row is that of the next block.
                Some(Err(error)) => {
                    damages.push(damage(table, &error));
                    self.damaged_max = self.damaged_max.saturating_sub(1);
                    if self.damaged_max == 0 {
                        self.reading = None;
                    }
                }
                None => self.reading = None,
            }
        }
    }
}

/// The rows after a key, read block by block from the beginning of the file.
fn rows_without_index(table: &TableFile, after: Option<Slice>) -> lsm_tree::Result<Rows> {
    let is_before = move |row: &InternalValue| after.as_ref().is_some_and(|after| row.key.user_key <= *after);
    Ok(Box::new(table.scan()?.skip_while(move |row| row.as_ref().is_ok_and(&is_before))))
}

fn damage(table: &TableFile, error: &lsm_tree::Error) -> String {
    format!("{}: a block cannot be read: {}", path_of(table).display(), describe_table(error))
}
