//! The table `users`: accounts.

use engine::id::{Timestamp, UserId};
use scylla::DeserializeRow;
use storage::account::{Account, Profile};
use uuid::Uuid;

use super::{Mutation, Query, Statement, big, id, int, limit_of, text, texts};

/// The definition.
pub const TABLE: &str = "CREATE TABLE IF NOT EXISTS users (
  user_id uuid PRIMARY KEY, username text, display_name text, avatar_url text, lang_tag text, location text,
  timezone text, metadata text, email text, custom_id text, devices frozen<list<text>>, create_ns bigint,
  update_ns bigint, disable_ns bigint)";

pub(super) const ONE: &str = "SELECT username, display_name, avatar_url, lang_tag, location, timezone, metadata, email, custom_id, devices, create_ns, update_ns, disable_ns FROM users WHERE user_id = ?";
pub(super) const PROFILE: &str = "SELECT username, display_name, avatar_url, lang_tag, location, timezone, metadata, create_ns, update_ns FROM users WHERE user_id = ?";
pub(super) const USERNAME: &str = "SELECT username FROM users WHERE user_id = ?";
pub(super) const PUT: &str = "INSERT INTO users (user_id, username, display_name, avatar_url, lang_tag, location, timezone, metadata, email, custom_id, devices, create_ns, update_ns, disable_ns) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?) USING TIMESTAMP ?";
pub(super) const DELETE: &str = "DELETE FROM users USING TIMESTAMP ? WHERE user_id = ?";
pub(super) const COUNT: &str = "SELECT user_id FROM users";
pub(super) const IDS_FROM: &str = "SELECT TOKEN(user_id), user_id FROM users WHERE TOKEN(user_id) > ? LIMIT ?";

/// Stands for a missing time.
const NO_TIME: i64 = i64::MIN;

/// An account's columns.
#[derive(DeserializeRow)]
#[scylla(flavor = "enforce_order")]
pub struct Row {
    username: String,
    display_name: String,
    avatar_url: String,
    lang_tag: String,
    location: String,
    timezone: String,
    metadata: String,
    email: String,
    custom_id: String,
    devices: Option<Vec<String>>,
    create_ns: i64,
    update_ns: i64,
    disable_ns: i64,
}

impl Row {
    /// The account, whose id is the row's key.
    pub fn account(self, id: UserId) -> Account {
        Account {
            id,
            username: self.username,
            display_name: self.display_name,
            avatar_url: self.avatar_url,
            lang_tag: self.lang_tag,
            location: self.location,
            timezone: self.timezone,
            metadata: self.metadata,
            email: self.email,
            custom_id: self.custom_id,
            devices: self.devices.unwrap_or_default(),
            create_time: Timestamp(self.create_ns),
            update_time: Timestamp(self.update_ns),
            disable_time: (self.disable_ns != NO_TIME).then_some(Timestamp(self.disable_ns)),
        }
    }
}

/// The columns of an account that others see.
#[derive(DeserializeRow)]
#[scylla(flavor = "enforce_order")]
pub struct ProfileRow {
    username: String,
    display_name: String,
    avatar_url: String,
    lang_tag: String,
    location: String,
    timezone: String,
    metadata: String,
    create_ns: i64,
    update_ns: i64,
}

impl ProfileRow {
    /// The profile of the account whose id is the row's key.
    pub fn profile(self, id: UserId) -> Profile {
        Profile {
            id,
            username: self.username,
            display_name: self.display_name,
            avatar_url: self.avatar_url,
            lang_tag: self.lang_tag,
            location: self.location,
            timezone: self.timezone,
            metadata: self.metadata,
            create_time: Timestamp(self.create_ns),
            update_time: Timestamp(self.update_ns),
        }
    }
}

/// Writes the row of an account, with all columns.
pub fn put(account: &Account) -> Mutation {
    debug_assert_ne!(account.disable_time, Some(Timestamp(NO_TIME)), "this time stands for none");
    Mutation::new(
        Statement::PutUser,
        [
            id(account.id.0),
            text(&account.username),
            text(&account.display_name),
            text(&account.avatar_url),
            text(&account.lang_tag),
            text(&account.location),
            text(&account.timezone),
            text(&account.metadata),
            text(&account.email),
            text(&account.custom_id),
            texts(&account.devices),
            big(account.create_time.0),
            big(account.update_time.0),
            big(account.disable_time.map_or(NO_TIME, |time| time.0)),
        ],
    )
}

/// Deletes the row of an account. Its credentials and username have rows of their own.
pub fn delete(user: UserId) -> Mutation {
    Mutation::new(Statement::DeleteUser, [id(user.0)])
}

/// The account of a user.
pub fn one(user: UserId) -> Query<Row> {
    Query::new(Statement::User, [id(user.0)])
}

/// What others see of the account of a user.
pub fn profile(user: UserId) -> Query<ProfileRow> {
    Query::new(Statement::UserProfile, [id(user.0)])
}

/// The username in the account of a user.
pub fn username_of(user: UserId) -> Query<(String,)> {
    Query::new(Statement::UserExists, [id(user.0)])
}

/// Users, each with the token, in the order of tokens, after a token.
pub fn after(token: i64, limit: usize) -> Query<(i64, Uuid)> {
    Query::new(Statement::UserIdsFrom, [big(token), int(limit_of(limit))])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tables::tests::{check_delete, read_back};

    /// An account may have a hundred devices, and they are in its row.
    #[test]
    fn what_others_see_is_read_without_the_credentials() {
        for cql in [PROFILE, USERNAME] {
            assert!(["devices", "email", "custom_id"].iter().all(|column| !cql.contains(column)), "{cql}");
        }
    }

    #[test]
    fn an_account_comes_back() {
        let texts = |number: usize| (0..number).map(|number| format!("text {number}")).collect::<Vec<_>>();
        for (devices, disable_time) in [(0, None), (3, Some(Timestamp(i64::MIN + 1))), (1, Some(Timestamp(0)))] {
            let [username, display_name, avatar_url, lang_tag, location, timezone, metadata, email, custom_id] =
                texts(9).try_into().unwrap();
            let id = UserId(Uuid::from_u128(7));
            let (create_time, update_time, devices) = (Timestamp(1), Timestamp(i64::MAX), texts(devices));
            #[rustfmt::skip]
            let account = Account {
                id, username, display_name, avatar_url, lang_tag, location, timezone, metadata, email, custom_id,
                devices, create_time, update_time, disable_time,
            };
            let row = put(&account);
            assert_eq!(read_back(TABLE, &row, one(id)).account(id), account);
            assert_eq!(read_back(TABLE, &row, username_of(id)), (account.username.clone(),));
            assert_eq!(read_back(TABLE, &row, profile(id)).profile(id), Profile::from(account));
            assert_eq!(read_back(TABLE, &row, after(0, 1)), (8, id.0));
            check_delete(&row, &delete(id));
        }
    }
}
