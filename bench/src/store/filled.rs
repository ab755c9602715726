//! The store that is filled: the embedded store, or only the library below it, which the store is compared with.

use std::path::Path;

use engine::persist::StoreWrite;
use fjall::{AbstractTree, Database, Keyspace, KeyspaceCreateOptions, PersistMode};
use storage::embedded::{Embedded, EmbeddedOptions};
use storage::{Store, Write};

use super::Layout;
use crate::failure::Failure;

pub enum Filled {
    Store(Embedded),
    Library(Database, Keyspace),
}

impl Filled {
    pub fn open(layout: Layout, data: &Path) -> Result<Self, Failure> {
        Ok(match layout {
            Layout::Hot | Layout::Spread => Self::Store(Embedded::open(data, &EmbeddedOptions::default())?),
            Layout::Library => {
                let database = Database::builder(data).open().map_err(library)?;
                let rows = database.keyspace("messages", KeyspaceCreateOptions::default).map_err(library)?;
                Self::Library(database, rows)
            }
        })
    }

    /// Writes these as one group, and returns when they are on disk and synced.
    pub fn commit(&self, writes: &[Write]) -> Result<(), Failure> {
        match self {
            Self::Store(filled) => {
                let written = filled.commit(writes)?.into_iter().collect::<Result<Vec<_>, _>>()?;
                assert_eq!(written.len(), writes.len(), "the store answers each write");
            }
            Self::Library(database, rows) => {
                let mut batch = database.batch().durability(Some(PersistMode::SyncData));
                let mut rows_written = 0;
                for (key, value) in writes.iter().filter_map(row) {
                    batch.insert(rows, key, value);
                    rows_written += 1;
                }
                assert_eq!(rows_written, writes.len(), "each write is a message, and one row here");
                batch.commit().map_err(library)?;
            }
        }
        Ok(())
    }

    pub fn first_level_runs(&self) -> usize {
        match self {
            Self::Store(filled) => filled.first_level_runs(),
            Self::Library(_, rows) => rows.tree.l0_run_count(),
        }
    }

    pub fn close(&self) -> Result<(), Failure> {
        match self {
            Self::Store(filled) => Ok(filled.close()?),
            Self::Library(..) => Ok(()),
        }
    }
}

/// A message as one row: channel and id as the key, and only the content as the value.
fn row(write: &Write) -> Option<(Vec<u8>, &[u8])> {
    let Write::Request(StoreWrite::Insert(message)) = write else { return None };
    let mut key = message.channel.as_str().as_bytes().to_vec();
    key.extend(message.id.0.as_bytes());
    Some((key, message.content.as_bytes()))
}

fn library(error: fjall::Error) -> Failure {
    Failure::Faulty(format!("fjall: {error}"))
}
