//! A question for rows.

use std::marker::PhantomData;

use scylla::value::CqlValue;

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
        Self { statement, values: values.into(), row: PhantomData }
    }
}
