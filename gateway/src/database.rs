//! The database as a store, for `--store scylla`. It is built with the cargo feature `scylla`; a program without the
//! feature has `no_database.rs` in this place.

mod options;

use std::fmt;
use std::sync::Arc;

use runtime::clock;
use storage::Failure;
use storage::retention::Retention;
use storage::transfer::Movable;
use storage_scylla::{Scylla, schema};

pub use storage_scylla::options::ScyllaOptions as DatabaseOptions;

pub(crate) use options::{ABSENT, DatabaseSettings, SECTION, name_in_section};

/// Begins to connect, without waiting for the database. Fails if an option cannot be used.
pub fn open(options: &DatabaseOptions) -> Result<Arc<dyn Movable>, Failure> {
    Ok(Arc::new(Scylla::open(options.clone(), clock::wall)?))
}

/// How long messages are kept.
pub fn retention(options: &DatabaseOptions) -> Retention {
    options.retention
}

/// The keyspace with the tables.
pub fn keyspace(options: &DatabaseOptions) -> String {
    options.keyspace.as_str().to_owned()
}

/// Where the database keeps the tables, for people.
pub fn place(options: &DatabaseOptions) -> String {
    format!("keyspace {} at {}", options.keyspace, options.nodes.join(", "))
}

/// The tables as CQL.
pub fn tables(options: &DatabaseOptions) -> Result<String, String> {
    Ok(schema::text(&options.keyspace, options.replication))
}

/// Makes the tables, or brings them up to date. Returns what was done, for people. Fails if the database cannot be
/// reached or refuses a statement.
pub fn apply_schema(options: &DatabaseOptions) -> Result<String, String> {
    let applied = storage_scylla::apply_schema(options, clock::wall());
    let before = applied.map_err(|failure| match failure {
        // It says what to do, and no store was asked to take anything.
        Failure::Unfit(reason) => reason,
        failure => said(failure),
    })?;
    let (keyspace, version) = (&options.keyspace, schema::VERSION);
    Ok(match before {
        schema::VERSION => format!("keyspace {keyspace} is up to date, at version {before}"),
        0 => format!("keyspace {keyspace} has its tables, at version {version}"),
        before => format!("keyspace {keyspace} is brought from version {before} to {version}"),
    })
}

fn said(error: impl fmt::Display) -> String {
    error.to_string()
}
