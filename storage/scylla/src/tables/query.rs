//! A question for rows.

use std::marker::PhantomData;

use scylla::value::{CqlValue, Row};

use super::Statement;

/// A read with its values, and the type of the rows that it finds.
pub struct Query<R> {
    pub statement: Statement,
    pub values: Vec<CqlValue>,
    row: PhantomData<fn() -> R>,
}

impl<R> Query<R> {
    /// A statement with its values, in the order of its markers.
    pub fn new(statement: Statement, values: impl Into<Vec<CqlValue>>) -> Self {
        debug_assert!(statement.is_read(), "{statement:?} finds no rows");
        let values = values.into();
        debug_assert_eq!(values.len(), statement.values(), "each marker of {statement:?} has a value");
        Self { statement, values, row: PhantomData }
    }

    /// The same question, for rows whatever their columns are.
    pub fn untyped(self) -> Query<Row> {
        Query { statement: self.statement, values: self.values, row: PhantomData }
    }
}

impl<R> Clone for Query<R> {
    fn clone(&self) -> Self {
        Self { statement: self.statement, values: self.values.clone(), row: PhantomData }
    }
}

impl<R> PartialEq for Query<R> {
    fn eq(&self, other: &Self) -> bool {
        self.statement == other.statement && self.values == other.values
    }
}
