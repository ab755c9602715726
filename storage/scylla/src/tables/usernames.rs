//! The table `usernames`: which user has a name. Written by lightweight transactions only, so that each name has one
//! owner.

use engine::id::UserId;
use uuid::Uuid;

use super::{Mutation, Query, Statement, id, text};

/// The definition. Conditional.
pub const TABLE: &str = "CREATE TABLE IF NOT EXISTS usernames (username text PRIMARY KEY, user_id uuid)";

pub(super) const OWNER: &str = "SELECT user_id FROM usernames WHERE username = ?";
pub(super) const CLAIM: &str = "INSERT INTO usernames (username, user_id) VALUES (?, ?) IF NOT EXISTS";
pub(super) const TAKE: &str = "UPDATE usernames SET user_id = ? WHERE username = ? IF user_id = ?";
pub(super) const RELEASE: &str = "DELETE FROM usernames WHERE username = ? IF user_id = ?";
pub(super) const COUNT: &str = "SELECT user_id FROM usernames";

/// The user who has claimed the name. The name is free if the user's account has another one.
pub fn owner(username: &str) -> Query<(Uuid,)> {
    Query::new(Statement::Username, [text(username)])
}

/// A lightweight transaction that writes the username if no account has it.
pub fn claim(username: &str, user: UserId) -> Mutation {
    Mutation::new(Statement::ClaimUsername, [text(username), id(user.0)])
}

/// A lightweight transaction that gives the username to a user if it is still `orphan`'s, who does not use it.
pub fn take(username: &str, user: UserId, orphan: Uuid) -> Mutation {
    Mutation::new(Statement::TakeUsername, [id(user.0), text(username), id(orphan)])
}

/// A lightweight transaction that frees the username if it is this user's.
pub fn release(username: &str, user: UserId) -> Mutation {
    Mutation::new(Statement::ReleaseUsername, [text(username), id(user.0)])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tables::tests::{check_delete, read_back};

    #[test]
    fn an_owner_comes_back() {
        let [ann, bob] = [1, 2].map(|number| UserId(Uuid::from_u128(number)));
        for (row, user) in [(claim("ä", ann), ann), (take("ä", bob, ann.0), bob)] {
            assert_eq!(read_back(TABLE, &row, owner("ä")), (user.0,));
            check_delete(&row, &release("ä", user));
        }
    }
}
