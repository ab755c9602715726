//! Marks of removed rows. fjall passes over removed rows without a word, so a reader of a range could not tell how many
//! of them it has paid for. In tables that are read in ranges, a removed row is therefore replaced by a mark, which
//! readers see, count and pass over. A merge into the last level of a table drops the marks.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use fjall::compaction::filter::{CompactionFilter, CompactionFilterResult, Context, Factory, ItemAccessor, Verdict};

use super::expiry::{Expiry, Sieve, Sieved};
use crate::keys::Table;

/// The value of a removed row. No record is as short as this, and the value of a row without a record is empty.
pub const MARK: &[u8] = b"-";

/// Whether removed rows of this table leave marks: whether requests or writes read ranges of it.
pub fn leaves_marks(table: Table) -> bool {
    match table {
        Table::Messages | Table::Browsing | Table::Rosters | Table::UserGroups | Table::Friends => true,
        Table::Notifications | Table::AccountDeletions | Table::Leftovers | Table::Expiries => true,
        Table::Objects | Table::PublicObjects => true,
        // Only single rows of these are read; and of the notes of where a user has written, all at once.
        Table::Heads | Table::Accounts | Table::Credentials | Table::Usernames | Table::Revocations => false,
        Table::Meta | Table::Groups | Table::GroupNames | Table::Members | Table::Edges | Table::FriendCounts => false,
        Table::Inboxes | Table::Authored | Table::Passages | Table::GroupCounts | Table::ObjectCounts => false,
    }
}

/// Whether this value marks a removed row.
pub fn is_mark(value: &[u8]) -> bool {
    value == MARK
}

/// What fjall asks about each row that it merges. It stops running merges when the store is closed; the next start
/// removes what they have written. It drops the marks of removed rows where nothing older lies below them, and expired messages.
pub struct MergeFilter {
    pub stopping: Arc<AtomicBool>,
    pub drops_marks: bool,
    /// Drops expired messages, in their table.
    pub expiry: Option<AssertUnwindSafe<Arc<Expiry>>>,
}

struct Filter {
    stopping: Arc<AtomicBool>,
    drops_marks: bool,
    sieve: Option<Sieve>,
}

impl Factory for MergeFilter {
    fn name(&self) -> &str {
        "stentor"
    }

    fn make_filter(&self, context: &Context) -> Box<dyn CompactionFilter> {
        let drops_marks = self.drops_marks && context.is_last_level;
        let sieve = self.expiry.as_ref().map(|expiry| expiry.sieve());
        Box::new(Filter { stopping: self.stopping.clone(), drops_marks, sieve })
    }
}

impl CompactionFilter for Filter {
    fn filter_item(&mut self, item: ItemAccessor<'_>, _: &Context) -> CompactionFilterResult {
        if self.stopping.load(Ordering::Relaxed) {
            return Err(std::io::Error::from(std::io::ErrorKind::Interrupted).into());
        }
        let value = item.value()?;
        if self.drops_marks && is_mark(&value) {
            return Ok(Verdict::Remove);
        }
        let Some(sieve) = &mut self.sieve else { return Ok(Verdict::Keep) };
        Ok(match sieve.sieve(item.key(), &value, is_mark(&value)) {
            Sieved::Stays => Verdict::Keep,
            Sieved::Goes => Verdict::Remove,
            Sieved::Becomes(value) => Verdict::ReplaceValue(value.into()),
        })
    }
}
