//! The table `installation`: one row, with what all servers of this keyspace must agree on. Written by lightweight
//! transactions only.

use super::{Mutation, Query, Statement, bytes};

/// The definition. Conditional, one row.
pub const TABLE: &str = "CREATE TABLE IF NOT EXISTS installation (id int PRIMARY KEY, placement_key blob)";

pub(super) const ONE: &str = "SELECT placement_key FROM installation WHERE id = 0";
pub(super) const CLAIM: &str = "INSERT INTO installation (id, placement_key) VALUES (0, ?) IF NOT EXISTS";

/// The key by which channels are placed, if a server has written it.
pub fn one() -> Query<(Vec<u8>,)> {
    Query::new(Statement::Installation, [])
}

/// A lightweight transaction that writes the key, unless there is one.
pub fn claim(key: &[u8]) -> Mutation {
    Mutation::new(Statement::ClaimInstallation, [bytes(key)])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tables::tests::read_back;

    #[test]
    fn the_key_comes_back() {
        assert_eq!(read_back(TABLE, &claim(&[7; 16]), one()), (vec![7; 16],));
    }
}
