//! What the database's answers mean: failures sorted by what may have happened, and the outcomes of lightweight
//! transactions.

use scylla::errors::{DbError, ExecutionError, RequestAttemptError};
use scylla::value::{CqlValue, Row};

use crate::Failure;

/// An attempt that did not succeed.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Missed {
    /// Nothing of it was done, or will be.
    pub nothing_done: bool,
    /// The same again may succeed.
    pub passing: bool,
    pub reason: String,
}

impl Missed {
    pub fn of(error: &ExecutionError) -> Self {
        let (nothing_done, passing) = match error {
            ExecutionError::BadQuery(_) | ExecutionError::PrepareError(_) => (true, false),
            ExecutionError::ConnectionPoolError(_) | ExecutionError::EmptyPlan => (true, true),
            ExecutionError::LastAttemptError(error) => of_attempt(error),
            _ => (false, true),
        };
        Self { nothing_done, passing, reason: error.to_string() }
    }

    /// The time is over, and nothing was heard.
    pub fn silence() -> Self {
        Self { nothing_done: false, passing: true, reason: "the database has not answered in time".into() }
    }

    /// The failure of a write that has not begun with this, or that has been taken back: nothing is done.
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
            // Some replicas may have it, or may yet get it.
            _ => (false, true),
        },
        _ => (false, true),
    }
}

/// Whether a lightweight transaction was applied, as its answer says.
///
/// Cassandra shows the row that it found only when it did not apply, ScyllaDB always, and with a column for each of the
/// table's; both name the columns, and which are there is nobody's business here.
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

    /// The answers of both servers to `INSERT INTO usernames (username, user_id) ... IF NOT EXISTS`, and to an update.
    #[test]
    fn both_servers_answers_are_understood() {
        let applied = |applied| Some(CqlValue::Boolean(applied));
        let ann = Some(CqlValue::Uuid(Uuid::from_u128(7)));
        let name = Some(CqlValue::Text("ann".into()));

        assert_eq!(outcome(&[("[applied]", applied(true))]), Ok(true));
        let cassandra = [("[applied]", applied(false)), ("username", name.clone()), ("user_id", ann.clone())];
        assert_eq!(outcome(&cassandra), Ok(false));
        // ScyllaDB shows the row as it was before. There was none, and yet there are columns.
        assert_eq!(outcome(&[("[applied]", applied(true)), ("username", None), ("user_id", None)]), Ok(true));
        // An update that was applied shows the row that it found all the same.
        assert_eq!(outcome(&[("[applied]", applied(true)), ("user_id", ann.clone())]), Ok(true));
        assert_eq!(outcome(&[("[applied]", applied(false)), ("user_id", ann.clone()), ("username", name)]), Ok(false));

        assert!(outcome(&[("user_id", ann)]).is_err());
        assert!(outcome(&[("[applied]", None)]).is_err());
    }

    #[test]
    fn failures_say_what_may_have_happened() {
        let of = |error| Missed::of(&ExecutionError::LastAttemptError(RequestAttemptError::DbError(error, "x".into())));
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
        let timeout = Missed::of(&ExecutionError::RequestTimeout(std::time::Duration::from_secs(1)));
        assert!(timeout.passing && !timeout.nothing_done);
    }
}
