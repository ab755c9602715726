//! The table `credentials`: which user a credential opens, and its secret. Written by lightweight transactions only, so
//! that each credential has one owner.

use engine::id::UserId;
use scylla::DeserializeRow;
use storage::Failure;
use storage::account::{Credential, CredentialKind, CredentialOwner};
use uuid::Uuid;

use super::{Mutation, Query, Statement, big, id, int, known, limit_of, text};

/// The definition. Conditional.
pub const TABLE: &str = "CREATE TABLE IF NOT EXISTS credentials (
  kind int, ident text, user_id uuid, secret text, PRIMARY KEY ((kind, ident)))";

pub(super) const OWNER: &str = "SELECT user_id, secret FROM credentials WHERE kind = ? AND ident = ?";
pub(super) const CLAIM: &str =
    "INSERT INTO credentials (kind, ident, user_id, secret) VALUES (?, ?, ?, ?) IF NOT EXISTS";
pub(super) const TAKE: &str =
    "UPDATE credentials SET user_id = ?, secret = ? WHERE kind = ? AND ident = ? IF user_id = ?";
pub(super) const RELEASE: &str = "DELETE FROM credentials WHERE kind = ? AND ident = ? IF user_id = ?";
pub(super) const COUNT: &str = "SELECT user_id FROM credentials";
pub(super) const FROM: &str =
    "SELECT TOKEN(kind, ident), kind, ident, user_id, secret FROM credentials WHERE TOKEN(kind, ident) > ? LIMIT ?";

/// The kinds, each at its number.
const KINDS: [CredentialKind; 3] = [CredentialKind::Device, CredentialKind::Custom, CredentialKind::Email];

/// The owner's columns.
#[derive(DeserializeRow)]
#[scylla(flavor = "enforce_order")]
pub struct Row {
    user_id: Uuid,
    secret: String,
}

/// A whole row with its token. Servers name the token themselves.
#[derive(DeserializeRow)]
#[scylla(flavor = "enforce_order", skip_name_checks)]
pub struct WholeRow {
    pub token: i64,
    kind: i32,
    ident: String,
    user_id: Uuid,
    secret: String,
}

impl Row {
    /// The user who has claimed the credential, and its secret.
    pub fn owner(self) -> CredentialOwner {
        CredentialOwner { user: UserId(self.user_id), secret: self.secret }
    }
}

impl WholeRow {
    /// The credential and its owner. Fails with [`Failure::Corrupt`] if there is no such kind.
    pub fn credential(self) -> Result<(Credential, CredentialOwner), Failure> {
        let found = usize::try_from(self.kind).ok().and_then(|number| KINDS.get(number).copied());
        let kind = known("a credential's kind", self.kind, found)?;
        let owner = CredentialOwner { user: UserId(self.user_id), secret: self.secret };
        Ok((Credential { kind, ident: self.ident }, owner))
    }
}

fn kind_number(credential: &Credential) -> i32 {
    match credential.kind {
        CredentialKind::Device => 0,
        CredentialKind::Custom => 1,
        CredentialKind::Email => 2,
    }
}

/// The user who has claimed the credential. The credential is free if the user's account does not have it.
pub fn owner(credential: &Credential) -> Query<Row> {
    Query::new(Statement::Credential, [int(kind_number(credential)), text(&credential.ident)])
}

/// A lightweight transaction that writes the credential if no account has it. The secret is the password's hash for an
/// email, and empty otherwise.
pub fn claim(credential: &Credential, owner: &CredentialOwner) -> Mutation {
    let values = [int(kind_number(credential)), text(&credential.ident), id(owner.user.0), text(&owner.secret)];
    Mutation::new(Statement::ClaimCredential, values)
}

/// A lightweight transaction that gives the credential to an account if it is still `before`'s.
pub fn take(credential: &Credential, owner: &CredentialOwner, before: Uuid) -> Mutation {
    let (kind, ident) = (int(kind_number(credential)), text(&credential.ident));
    Mutation::new(Statement::TakeCredential, [id(owner.user.0), text(&owner.secret), kind, ident, id(before)])
}

/// A lightweight transaction that frees the credential if it is this user's.
pub fn release(credential: &Credential, user: UserId) -> Mutation {
    let (kind, ident) = (int(kind_number(credential)), text(&credential.ident));
    Mutation::new(Statement::ReleaseCredential, [kind, ident, id(user.0)])
}

/// Whole rows in the order of tokens, after a token.
pub fn after(token: i64, limit: usize) -> Query<WholeRow> {
    Query::new(Statement::CredentialsFrom, [big(token), int(limit_of(limit))])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tables::tests::{check_delete, read_back};

    #[test]
    fn an_owner_comes_back() {
        for kind in KINDS {
            let credential = Credential { kind, ident: "ann@example.com".into() };
            let owners = [1, 2].map(|number| CredentialOwner {
                user: UserId(Uuid::from_u128(number)),
                secret: format!("secret {number}"),
            });
            let rows = [claim(&credential, &owners[0]), take(&credential, &owners[1], owners[0].user.0)];
            for (row, expected) in rows.iter().zip(&owners) {
                assert_eq!(&read_back(TABLE, row, owner(&credential)).owner(), expected);
                let whole = read_back(TABLE, row, after(0, 1));
                assert_eq!((whole.token, whole.credential()), (8, Ok((credential.clone(), expected.clone()))));
                check_delete(row, &release(&credential, expected.user));
            }
        }
    }

    #[test]
    fn an_unknown_kind_is_damage() {
        let whole = |kind| WholeRow { token: 0, kind, ident: "a".into(), user_id: Uuid::nil(), secret: String::new() };
        assert!(matches!(whole(3).credential(), Err(Failure::Corrupt(_))));
        assert!(matches!(whole(-1).credential(), Err(Failure::Corrupt(_))));
    }
}
