//! The store that is filled: the embedded store, or only the library below it, which the store is compared with.

use std::path::Path;

use engine::persist::StoreRequest;
use fjall::{AbstractTree, Database, Keyspace, KeyspaceCreateOptions, PersistMode};
use storage::embedded::{Embedded, EmbeddedOptions};
use storage::{Store, Write};

use super::{Error, Layout};

pub enum Filled {
    Store(Embedded),
    Library(Database, Keyspace),
}

impl Filled {
    pub fn open(layout: Layout, data: &Path) -> Result<Self, Error> {
        Ok(match layout {
            Layout::Hot | Layout::Spread => {
                Self::Store(Embedded::open(data, &EmbeddedOptions::default()).map_err(store)?)
            }
            Layout::Library => {
                let database = Database::builder(data).open().map_err(library)?;
                let rows = database.keyspace("messages", KeyspaceCreateOptions::default).map_err(library)?;
                Self::Library(database, rows)
            }
        })
    }

    /// Writes these as one group, and returns when they are on disk and synced.
    pub fn commit(&self, writes: &[Write]) -> Result<(), Error> {
        match self {
            Self::Store(filled) => {
                filled.commit(writes).map_err(store)?.into_iter().collect::<Result<Vec<_>, _>>().map_err(store)?;
            }
            Self::Library(database, rows) => {
                let mut batch = database.batch().durability(Some(PersistMode::SyncData));
                for (key, value) in writes.iter().filter_map(row) {
                    batch.insert(rows, key, value);
                }
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

    pub fn close(&self) -> Result<(), Error> {
        match self {
            Self::Store(filled) => filled.close().map_err(store),
            Self::Library(..) => Ok(()),
        }
    }
}

/// A message as one row: channel and id as the key, and only the content as the value.
fn row(write: &Write) -> Option<(Vec<u8>, &[u8])> {
    let Write::Request(StoreRequest::Insert(message)) = write else { return None };
    let mut key = message.channel.as_str().as_bytes().to_vec();
    key.extend(message.id.0.as_bytes());
    Some((key, message.content.as_bytes()))
}

fn store(failure: storage::Failure) -> Error {
    Error::Store(failure.to_string())
}

fn library(error: fjall::Error) -> Error {
    Error::Store(format!("fjall: {error}"))
}
