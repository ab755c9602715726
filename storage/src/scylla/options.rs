//! What an operator says about the database, checked.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

/// Where the database is, and how messages lie in it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ScyllaOptions {
    /// `host:port`, at least one; the driver finds the others by itself.
    pub nodes: Vec<String>,
    pub keyspace: Keyspace,
    /// Copies of each row, when the keyspace is made.
    pub replication: u16,
    pub login: Option<Login>,
    /// A file of PEM certificates that sign the nodes' own; none: no encryption.
    pub authority: Option<PathBuf>,
    pub retention: Retention,
    pub buckets: BucketBounds,
}

impl ScyllaOptions {
    pub fn at(nodes: Vec<String>) -> Self {
        Self {
            nodes,
            keyspace: Keyspace::default(),
            replication: 3,
            login: None,
            authority: None,
            retention: Retention::default(),
            buckets: BucketBounds::default(),
        }
    }
}

/// A user of the database.
#[derive(Clone, PartialEq, Eq)]
pub struct Login {
    pub user: String,
    pub password: String,
}

impl fmt::Debug for Login {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} [password]", self.user)
    }
}

/// A keyspace's name: one that needs no quotes anywhere.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Keyspace(String);

impl Keyspace {
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Default for Keyspace {
    fn default() -> Self {
        Self("chat".into())
    }
}

impl fmt::Display for Keyspace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for Keyspace {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let fits = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
        let begins = text.starts_with(|c: char| c.is_ascii_lowercase());
        if begins && text.len() <= 48 && text.chars().all(fits) {
            return Ok(Self(text.into()));
        }
        Err(format!("{text:?} is not a keyspace; give 1 to 48 of a-z, 0-9 and _, with a letter first"))
    }
}

/// How long messages are kept, by kind of channel; nothing: for ever.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Retention {
    pub room: Option<Duration>,
    pub group: Option<Duration>,
    pub direct: Option<Duration>,
}

/// When a partition of messages is closed and the next begun.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct BucketBounds {
    /// Rows beyond which a bucket that is old enough is closed.
    pub rows: u32,
    /// Bytes of text likewise.
    pub bytes: u64,
    /// Old enough.
    pub young_ms: i64,
    /// Closed whatever its age at this many times the rows or bytes.
    pub hard_factor: u32,
    /// Closed whatever its size at this age.
    pub age_ms: i64,
}

impl Default for BucketBounds {
    /// A busy room has a bucket in half a minute at least, so that its index stays small; no partition comes near the
    /// 100,000 rows of which ScyllaDB warns.
    fn default() -> Self {
        Self { rows: 20_000, bytes: 16 << 20, young_ms: 30_000, hard_factor: 4, age_ms: 365 * 24 * 3600 * 1000 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keyspaces_need_no_quotes() {
        for good in ["chat", "c", "chat_2", &"x".repeat(48)] {
            assert_eq!(good.parse::<Keyspace>().map(|keyspace| keyspace.to_string()), Ok(good.to_owned()));
        }
        for bad in ["", "2chat", "Chat", "chat-1", "a;b", "a'b", "_a", &"x".repeat(49)] {
            assert!(bad.parse::<Keyspace>().is_err(), "{bad}");
        }
    }

    #[test]
    fn passwords_do_not_show() {
        let login = Login { user: "ann".into(), password: "open sesame".into() };
        assert!(!format!("{login:?}").contains("sesame"));
    }
}
