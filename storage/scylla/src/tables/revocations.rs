//! The table `revocations`: logouts. Kind 0: a token and when it expires. Kind 1: a user, whose earlier tokens are
//! refused.

use engine::id::{Timestamp, UserId};
use scylla::DeserializeRow;
use storage::Failure;
use storage::account::Revocation;
use uuid::Uuid;

use super::{Mutation, Query, Statement, big, id, int, known, limit_of};

/// The definition.
pub const TABLE: &str =
    "CREATE TABLE IF NOT EXISTS revocations (kind int, id uuid, time_ns bigint, PRIMARY KEY ((kind, id)))";

pub(super) const ALL: &str = "SELECT kind, id, time_ns FROM revocations";
pub(super) const ONE: &str = "SELECT time_ns FROM revocations WHERE kind = ? AND id = ?";
pub(super) const PUT: &str = "INSERT INTO revocations (kind, id, time_ns) VALUES (?, ?, ?) USING TIMESTAMP ?";
pub(super) const DELETE: &str = "DELETE FROM revocations USING TIMESTAMP ? WHERE kind = ? AND id = ?";
pub(super) const COUNT: &str = "SELECT id FROM revocations";
pub(super) const FROM: &str =
    "SELECT TOKEN(kind, id), kind, id, time_ns FROM revocations WHERE TOKEN(kind, id) > ? LIMIT ?";

const TOKEN: i32 = 0;
const USER: i32 = 1;

/// A revocation's columns. Rows are ordered by kind and id.
#[derive(PartialEq, Eq, PartialOrd, Ord, DeserializeRow)]
#[scylla(flavor = "enforce_order")]
pub struct Row {
    kind: i32,
    id: Uuid,
    time_ns: i64,
}

/// The same with the row's token. Servers name the token themselves.
#[derive(DeserializeRow)]
#[scylla(flavor = "enforce_order", skip_name_checks)]
pub struct TokenRow {
    pub token: i64,
    kind: i32,
    id: Uuid,
    time_ns: i64,
}

impl Row {
    /// Fails with [`Failure::Corrupt`] if there is no such kind.
    pub fn revocation(self) -> Result<Revocation, Failure> {
        let time = Timestamp(self.time_ns);
        let found = match self.kind {
            TOKEN => Some(Revocation::Token { id: self.id, expires: time }),
            USER => Some(Revocation::User { id: UserId(self.id), issued_before: time }),
            _ => None,
        };
        known("a revocation's kind", self.kind, found)
    }
}

impl TokenRow {
    /// Fails with [`Failure::Corrupt`] if there is no such kind.
    pub fn revocation(self) -> Result<Revocation, Failure> {
        Row { kind: self.kind, id: self.id, time_ns: self.time_ns }.revocation()
    }
}

fn parts(revocation: &Revocation) -> (i32, Uuid, Timestamp) {
    match *revocation {
        Revocation::Token { id, expires } => (TOKEN, id, expires),
        Revocation::User { id, issued_before } => (USER, id.0, issued_before),
    }
}

/// Writes a revocation, or a later time of it.
pub fn put(revocation: &Revocation) -> Mutation {
    let (kind, of, time) = parts(revocation);
    Mutation::new(Statement::PutRevocation, [int(kind), id(of), big(time.0)])
}

/// Deletes a revocation, whatever its time is.
pub fn delete(revocation: &Revocation) -> Mutation {
    let (kind, of, _) = parts(revocation);
    Mutation::new(Statement::DeleteRevocation, [int(kind), id(of)])
}

/// All revocations.
pub fn all() -> Query<Row> {
    Query::new(Statement::Revocations, [])
}

/// The stored time, in nanoseconds, of the revocation of the same token or user.
pub fn time_of(revocation: &Revocation) -> Query<(i64,)> {
    let (kind, of, _) = parts(revocation);
    Query::new(Statement::Revocation, [int(kind), id(of)])
}

/// Revocations in the order of tokens, after a token.
pub fn after(token: i64, limit: usize) -> Query<TokenRow> {
    Query::new(Statement::RevocationsFrom, [big(token), int(limit_of(limit))])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tables::tests::{check_delete, read_back};

    #[test]
    fn a_revocation_comes_back() {
        let id = Uuid::from_u128(7);
        for expected in [
            Revocation::Token { id, expires: Timestamp(i64::MAX) },
            Revocation::User { id: UserId(id), issued_before: Timestamp(-1) },
        ] {
            let row = put(&expected);
            assert_eq!(read_back(TABLE, &row, all()).revocation(), Ok(expected));
            assert_eq!(read_back(TABLE, &row, after(0, 1)).revocation(), Ok(expected));
            assert_eq!(read_back(TABLE, &row, time_of(&expected)), (parts(&expected).2.0,));
            check_delete(&row, &delete(&expected));
        }
        let unknown = Row { kind: 2, id, time_ns: 0 }.revocation();
        assert!(matches!(unknown, Err(Failure::Corrupt(_))), "{unknown:?}");
    }
}
