//! fjall stores options with each keyspace when the keyspace is created. This module updates them in a database that an
//! earlier version created.
//!
//! fjall stores them in a tree of its own, in `keyspaces/0`: a name under `n` and the keyspace's number, and each
//! option under `c`, that number and the option's name. While no database is open there, the tree can be opened alone.
//! All new options become valid at once, with the tree's next manifest. If the program is killed before that, nothing
//! has changed, and the next start updates them.

use std::panic::UnwindSafe;
use std::path::Path;

use fjall::compaction::Leveled;
use lsm_tree::compaction::CompactionStrategy;
use lsm_tree::{AbstractTree, AnyTree, Config, Guard, SeqNo, SequenceNumberCounter, Slice};

use super::failures::unopenable;
use crate::Failure;
use crate::keys::Table;

const TREE: &str = "keyspaces/0";
/// Messages are almost all that is written.
const MESSAGES_MEMTABLE_BYTES: u64 = 32 << 20;
/// For heads, accounts and similar tables.
const OTHER_MEMTABLE_BYTES: u64 = 4 << 20;
/// For tables that change when friends, groups or notifications change.
const SLOW_MEMTABLE_BYTES: u64 = 2 << 20;
/// For the notes of which user has written where, and in which passages: one row with each message whose sender has not
/// written in that channel for a while.
const AUTHORED_MEMTABLE_BYTES: u64 = 8 << 20;

/// The compaction options that fjall stores: fjall must never merge by itself, because `compaction` merges. The target
/// is a size that no level reaches, and the threshold a number of tables that the first level does not reach.
pub fn inert() -> Leveled {
    Leveled::default().with_l0_threshold(u8::MAX).with_table_target_size(1 << 50)
}

/// The size up to which rows are kept in memory before they become a run.
pub fn memtable_bytes(table: Table) -> u64 {
    match table {
        Table::Messages => MESSAGES_MEMTABLE_BYTES,
        Table::Authored | Table::Passages => AUTHORED_MEMTABLE_BYTES,
        other if (other as usize) < Table::COUNT_OF_FORMAT_1 => OTHER_MEMTABLE_BYTES,
        _ => SLOW_MEMTABLE_BYTES,
    }
}

/// Whether a database has outdated options. No `Database` may have it open.
pub fn are_outdated(database: &Path) -> Result<bool, Failure> {
    careful(database, || Ok(!Kept::read(database)?.outdated.is_empty()))
}

/// Updates the outdated options. No `Database` may have it open.
pub fn renew(database: &Path) -> Result<(), Failure> {
    careful(database, || Kept::read(database)?.renew())
}

/// lsm-tree asserts some of what it reads: a panic here means damaged data, not a bug of ours.
fn careful<T>(database: &Path, work: impl FnOnce() -> lsm_tree::Result<T> + UnwindSafe) -> Result<T, Failure> {
    match std::panic::catch_unwind(work) {
        Ok(done) => done.map_err(|error| unopenable(database, &error.into())),
        Err(_) => {
            Err(Failure::Corrupt(format!("{} is damaged: fjall's list of tables makes no sense", database.display())))
        }
    }
}

/// fjall's tree of options, and the new values of the outdated ones.
struct Kept {
    tree: AnyTree,
    seqno: SequenceNumberCounter,
    outdated: Vec<(Slice, Slice)>,
}

impl Kept {
    fn read(database: &Path) -> lsm_tree::Result<Self> {
        let seqno = SequenceNumberCounter::default();
        let tree = Config::new(database.join(TREE), seqno.clone(), SequenceNumberCounter::default()).open()?;
        let mut outdated = Vec::new();
        for row in tree.prefix(b"n", SeqNo::MAX, None) {
            let (key, name) = row.into_inner()?;
            let Some(table) = Table::ALL.into_iter().find(|table| table.name().as_bytes() == &name[..]) else {
                continue;
            };
            for (option, value) in wanted(table) {
                let key: Slice = [b"c", &key[1..], option.as_bytes()].concat().into();
                if tree.get(&key, SeqNo::MAX)?.as_ref() != Some(&value) {
                    outdated.push((key, value));
                }
            }
        }
        outdated.sort();
        Ok(Self { tree, seqno, outdated })
    }

    fn renew(self) -> lsm_tree::Result<()> {
        // Rows with a later sequence number hide earlier ones.
        self.seqno.fetch_max(self.tree.get_highest_seqno().map_or(0, |seqno| seqno + 1));
        let mut rows = self.tree.ingestion()?;
        for (key, value) in self.outdated {
            rows.write(key, value)?;
        }
        rows.finish()
    }
}

/// The options of a table that have changed since format 1, as fjall stores them.
fn wanted(table: Table) -> Vec<(String, Slice)> {
    let strategy = inert();
    let config = strategy.get_config().into_iter();
    let mut options: Vec<_> =
        config.map(|(name, value)| (String::from_utf8_lossy(&name).into_owned(), value)).collect();
    options.push(("compaction_strategy".into(), strategy.get_name().into()));
    options.push(("max_memtable_size".into(), memtable_bytes(table).to_le_bytes().into()));
    options
}
