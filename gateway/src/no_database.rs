//! In place of `database.rs` in a program that is built without the cargo feature `scylla`: there are no options of a
//! database, and whatever needs one fails with advice.

use std::sync::Arc;

use clap::Args;
use storage::Failure;
use storage::retention::Retention;
use storage::transfer::Movable;

use crate::options::OptionsError;

const ADVICE: &str = "this program was built without the driver of ScyllaDB and Cassandra; \
                      build it with `cargo build --release -p gateway --features scylla`";

/// Nothing can be said of a database.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct DatabaseOptions;

/// The section of the configuration file that has the keys of a database.
pub(crate) const SECTION: &str = "database";

/// The reason why there is no such section.
pub(crate) const ABSENT: Option<&str> = Some(ADVICE);

/// Leaves the name as it is: no setting is in the section.
pub(crate) fn name_in_section(id: &str) -> &str {
    id
}

/// No flags.
#[derive(Args)]
pub(crate) struct DatabaseSettings {}

impl DatabaseSettings {
    /// Has nothing to check, unlike its namesake in `database.rs`. Never fails.
    pub fn checked(self) -> Result<DatabaseOptions, OptionsError> {
        Ok(DatabaseOptions)
    }
}

/// Fails with advice.
pub fn open(_: &DatabaseOptions) -> Result<Arc<dyn Movable>, Failure> {
    Err(Failure::Unfit(ADVICE.into()))
}

/// Nowhere: no database was opened.
pub fn place(_: &DatabaseOptions) -> String {
    "nowhere".into()
}

/// For ever: there are no options of retention.
pub fn retention(_: &DatabaseOptions) -> Retention {
    Retention::default()
}

/// None: no database was opened.
pub fn keyspace(_: &DatabaseOptions) -> String {
    String::new()
}

/// Fails with advice.
pub fn tables(_: &DatabaseOptions) -> Result<String, String> {
    Err(ADVICE.into())
}

/// Fails with advice.
pub fn apply_schema(_: &DatabaseOptions) -> Result<String, String> {
    Err(ADVICE.into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::options::StoreKind;
    use crate::options::tests::parse;

    #[test]
    fn a_server_without_the_driver_says_how_to_get_it() {
        let options = parse(&["--store", "scylla"]).unwrap();
        assert_eq!(options.store, StoreKind::Scylla);
        assert_eq!(open(&options.database).err(), Some(Failure::Unfit(ADVICE.into())));
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("stentor.toml");
        std::fs::write(&path, "[database]\nnodes = ['db:1']\n").unwrap();
        let error = parse(&["--config", path.to_str().unwrap()]).unwrap_err().to_string();
        assert!(error.contains(ADVICE), "{error}");
    }
}
