//! Interprets the database's answers: sorts errors by what may have happened, and reads the outcomes of lightweight
//! transactions.

use scylla::errors::{DbError, ExecutionError, RequestAttemptError};
use scylla::value::{CqlValue, Row};
use storage::Failure;

/// A failed attempt.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct FailedAttempt {
    /// Nothing of it was done, and nothing of it will be done.
    pub nothing_done: bool,
    /// A retry of the same request may succeed.
    pub passing: bool,
    pub reason: String,
}

impl FailedAttempt {
    /// What an error of the driver means: whether nothing was done, and whether trying again makes sense. If in doubt,
    /// something may have been done.
    pub fn of(error: &ExecutionError) -> Self {
        let (nothing_done, passing) = match error {
            ExecutionError::BadQuery(_) | ExecutionError::PrepareError(_) => (true, false),
            ExecutionError::ConnectionPoolError(_) | ExecutionError::EmptyPlan => (true, true),
            ExecutionError::LastAttemptError(error) => of_attempt(error),
            _ => (false, true),
        };
        Self { nothing_done, passing, reason: error.to_string() }
    }

    /// The deadline has passed without an answer.
    pub fn silence() -> Self {
        Self { nothing_done: false, passing: true, reason: "the database has not answered in time".into() }
    }

    /// The failure of a write that was never begun or that has been undone: nothing is done.
    pub fn failure(&self) -> Failure {
        if self.passing || !self.nothing_done {
            return Failure::Passing(self.reason.clone());
        }
        Failure::Unfit(self.reason.clone())
    }
}

fn of_attempt(error: &RequestAttemptError) -> (bool, bool) {
    match error {
        RequestAttemptError::SerializationError(_) | RequestAttemptError::CqlRequestSerialization(_) => (true, false),
        RequestAttemptError::UnableToAllocStreamId => (true, true),
        RequestAttemptError::DbError(error, _) => match error {
            DbError::SyntaxError | DbError::Invalid | DbError::ConfigError => (true, false),
            DbError::Unavailable { .. }
            | DbError::IsBootstrapping
            | DbError::Unauthorized
            | DbError::AuthenticationError
            | DbError::RateLimitReached { .. }
            | DbError::Unprepared { .. } => (true, true),
            // Some replicas may have the write, or may still get it.
            _ => (false, true),
        },
        _ => (false, true),
    }
}

/// Reads from a lightweight transaction's answer whether it was applied.
///
/// Cassandra returns the existing row only if it did not apply the transaction; ScyllaDB always returns one, with every
/// column of the table. Both name the columns, so this looks for `[applied]` and ignores the others.
pub fn applied<'a>(mut names: impl Iterator<Item = &'a str>, row: &Row) -> Result<bool, Failure> {
    let place = names.position(|name| name == "[applied]");
    match place.and_then(|place| row.columns.get(place)) {
        Some(Some(CqlValue::Boolean(applied))) => Ok(*applied),
        _ => Err(Failure::Corrupt("a transaction's answer does not say whether it was applied".into())),
    }
}

#[cfg(test)]
mod tests {
    use scylla::errors::WriteType;
    use scylla::statement::Consistency;
    use uuid::Uuid;

    use super::*;

    fn outcome(columns: &[(&str, Option<CqlValue>)]) -> Result<bool, Failure> {
        let row = Row { columns: columns.iter().map(|(_, value)| value.clone()).collect() };
        applied(columns.iter().map(|(name, _)| *name), &row)
    }

    /// How both servers answer `INSERT INTO usernames (username, user_id) ... IF NOT EXISTS`, and an update.
    #[test]
    fn both_servers_answers_are_understood() {
        let applied = |applied| Some(CqlValue::Boolean(applied));
        let ann = Some(CqlValue::Uuid(Uuid::from_u128(7)));
        let name = Some(CqlValue::Text("ann".into()));

        assert_eq!(outcome(&[("[applied]", applied(true))]), Ok(true));
        let cassandra = [("[applied]", applied(false)), ("username", name.clone()), ("user_id", ann.clone())];
        assert_eq!(outcome(&cassandra), Ok(false));
        // ScyllaDB returns the row as it was before. There was no row, but the columns are there.
        assert_eq!(outcome(&[("[applied]", applied(true)), ("username", None), ("user_id", None)]), Ok(true));
        // Even for an update that it applied, ScyllaDB returns the existing row.
        assert_eq!(outcome(&[("[applied]", applied(true)), ("user_id", ann.clone())]), Ok(true));
        assert_eq!(outcome(&[("[applied]", applied(false)), ("user_id", ann.clone()), ("username", name)]), Ok(false));

        assert!(outcome(&[("user_id", ann)]).is_err());
        assert!(outcome(&[("[applied]", None)]).is_err());
    }

    #[test]
    fn failures_say_what_may_have_happened() {
        let of = |error| {
            FailedAttempt::of(&ExecutionError::LastAttemptError(RequestAttemptError::DbError(error, "x".into())))
        };
        let timeout = DbError::WriteTimeout {
            consistency: Consistency::LocalQuorum,
            received: 1,
            required: 2,
            write_type: WriteType::Simple,
        };
        assert!(!of(timeout.clone()).nothing_done);
        assert!(matches!(of(timeout).failure(), Failure::Passing(_)));
        let unavailable = DbError::Unavailable { consistency: Consistency::LocalQuorum, required: 2, alive: 1 };
        assert!(of(unavailable).nothing_done);
        assert!(matches!(of(DbError::Invalid).failure(), Failure::Unfit(_)));
        let timeout = FailedAttempt::of(&ExecutionError::RequestTimeout(std::time::Duration::from_secs(1)));
        assert!(timeout.passing && !timeout.nothing_done);
    }
}
