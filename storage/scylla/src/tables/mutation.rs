//! A row to be written or deleted.

use scylla::value::CqlValue;

use super::Statement;

/// A statement with its values, without the timestamp.
#[derive(Clone, PartialEq, Debug)]
pub struct Mutation {
    pub statement: Statement,
    pub values: Vec<CqlValue>,
}

impl Mutation {
    /// A statement with its values, in the order of its markers. The timestamp is added when it is sent.
    pub fn new(statement: Statement, values: impl IntoIterator<Item = CqlValue>) -> Self {
        let given = values.into_iter();
        // Room for the timestamp.
        let mut values = Vec::with_capacity(given.size_hint().0 + 1);
        values.extend(given);
        debug_assert!(!statement.is_read(), "{statement:?} changes nothing");
        debug_assert_eq!(values.len(), statement.values(), "each marker of {statement:?} has a value");
        Self { statement, values }
    }
}
