//! Creates the store's database, and opens it as this program needs it, whatever program has written it.

use std::path::Path;

use engine::id::Epoch;

use super::EmbeddedOptions;
use super::expiry::Clock;
use super::kept_options;
use super::tables::{FORMAT, Tables};
use super::upgrade::{put_meta, upgrade};
use crate::Failure;

/// Creates a database with every table and the record that marks it as a Stentor store, all synced.
pub fn create(path: &Path, options: &EmbeddedOptions) -> Result<(), Failure> {
    put_meta(&Tables::create(path, options)?, path, Epoch(0))
}

/// Opens a database, which must be a Stentor store. Upgrades one of an older format. Fails if it is none, is damaged,
/// or is of a newer format.
pub fn open(path: &Path, options: &EmbeddedOptions, clock: &Clock) -> Result<Tables, Failure> {
    if kept_options::are_outdated(path)? {
        // An earlier program must not open a database in which fjall no longer merges. So the format is upgraded first.
        drop(open_upgraded(path, options, clock)?);
        kept_options::renew(path)?;
    }
    open_upgraded(path, options, clock)
}

/// Opens a copy that is only read. Fails if the store is of an older format, which would have to be upgraded first.
pub fn open_to_read(path: &Path, options: &EmbeddedOptions, clock: &Clock, named: &Path) -> Result<Tables, Failure> {
    let (tables, format) = Tables::open_to_read(path, options, clock)?;
    if format < FORMAT {
        let named = named.display();
        return Err(Failure::Unfit(format!(
            "{named} is of format {format}: a start of the server upgrades it to {FORMAT}"
        )));
    }
    Ok(tables)
}

fn open_upgraded(path: &Path, options: &EmbeddedOptions, clock: &Clock) -> Result<Tables, Failure> {
    let (tables, format) = Tables::open(path, options, clock)?;
    if format < FORMAT {
        upgrade(&tables, path)?;
    }
    Ok(tables)
}
