//! The table `authored`: the channels in which a user had written before version 4 of the schema, which has
//! `author_buckets` for it. Nothing adds to it any more, except the end of a change that version 3 has left unfinished.

use engine::id::{ChannelId, UserId};
use storage::Failure;
use uuid::Uuid;

use super::{Mutation, Query, Statement, big, id, int, limit_of, text};

/// The definition.
pub const TABLE: &str = "CREATE TABLE IF NOT EXISTS authored (
  user_id uuid, channel_id text, PRIMARY KEY ((user_id), channel_id))";

pub(super) const PUT: &str = "INSERT INTO authored (user_id, channel_id) VALUES (?, ?) USING TIMESTAMP ?";
pub(super) const DELETE: &str = "DELETE FROM authored USING TIMESTAMP ? WHERE user_id = ?";
pub(super) const PAGE: &str = "SELECT channel_id FROM authored WHERE user_id = ? AND channel_id > ? LIMIT ?";
pub(super) const USERS_FROM: &str =
    "SELECT DISTINCT TOKEN(user_id), user_id FROM authored WHERE TOKEN(user_id) > ? LIMIT ?";

/// Deletes all notes of a user.
pub fn delete_all(user: UserId) -> Mutation {
    Mutation::new(Statement::DeleteAuthored, [id(user.0)])
}

/// Names of channels in which a user has written, after a name; read them with [`channel`].
pub fn page(user: UserId, after: &str, limit: usize) -> Query<(String,)> {
    Query::new(Statement::Authored, [id(user.0), text(after), int(limit_of(limit))])
}

/// Users of whom there are notes, each with the token, in the order of tokens, after a token.
pub fn users_after(token: i64, limit: usize) -> Query<(i64, Uuid)> {
    Query::new(Statement::AuthorsFrom, [big(token), int(limit_of(limit))])
}

/// A channel from its name. Fails with [`Failure::Corrupt`] if the name is no channel id.
pub fn channel(name: &str) -> Result<ChannelId, Failure> {
    ChannelId::parse(name).map_err(|_| Failure::Corrupt(format!("{name:?} is no channel")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tables::tests::{check_delete, read_back};

    #[test]
    fn a_note_comes_back() {
        let user = UserId(Uuid::max());
        for expected in [ChannelId::room("lobby").unwrap(), ChannelId::direct(user, UserId(Uuid::nil()))] {
            let row = Mutation::new(Statement::PutAuthored, [id(user.0), text(expected.as_str())]);
            let (name,) = read_back(TABLE, &row, page(user, "", 1));
            assert_eq!(channel(&name), Ok(expected));
            assert_eq!(read_back(TABLE, &row, users_after(0, 1)), (8, user.0));
            check_delete(&row, &delete_all(user));
        }
        assert!(matches!(channel("lobby"), Err(Failure::Corrupt(_))));
    }
}
