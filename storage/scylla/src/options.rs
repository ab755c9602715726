//! The operator's settings for the database, validated.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

/// Where the database is, and how messages are stored in it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ScyllaOptions {
    /// `host:port`, at least one; the driver finds the other nodes.
    pub nodes: Vec<String>,
    pub keyspace: Keyspace,
    /// The number of copies of each row; used when the keyspace is created.
    pub replication: u16,
    pub login: Option<Login>,
    /// A file of PEM certificates that sign the nodes' certificates. `None`: no encryption.
    pub authority: Option<PathBuf>,
    pub retention: Retention,
    pub buckets: BucketBounds,
    /// One removal in so many has its list written anew: a list of friends, of a user's groups, of a group's members.
    pub removals_per_rewrite: u32,
}

/// Of 100,000 removals from a list, which leave as many marks as Cassandra reads, none draws a rewrite once in 4 * 10^10
/// times. A list of 10,000 entries costs less than three rows more a removal.
const REMOVALS_PER_REWRITE: u32 = 4_096;

impl Default for ScyllaOptions {
    /// The defaults, without a node to reach.
    fn default() -> Self {
        Self::at(Vec::new())
    }
}

impl ScyllaOptions {
    /// The defaults for a cluster with these contact points, each `host:port`: three copies, without login and TLS.
    pub fn at(nodes: Vec<String>) -> Self {
        Self {
            nodes,
            keyspace: Keyspace::default(),
            replication: 3,
            login: None,
            authority: None,
            retention: Retention::default(),
            buckets: BucketBounds::default(),
            removals_per_rewrite: REMOVALS_PER_REWRITE,
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

/// The name of a keyspace. It needs no quotes anywhere.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Keyspace(String);

impl Keyspace {
    /// The name as it stands in CQL. It needs no quotes.
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

pub use storage::retention::Retention;

/// When a partition of messages is closed and the next begun.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct BucketBounds {
    /// Rows beyond which a bucket older than `young_ms` is closed.
    pub rows: u32,
    /// Bytes of text beyond which a bucket older than `young_ms` is closed.
    pub bytes: u64,
    /// The least age at which the two bounds above apply.
    pub young_ms: i64,
    /// A bucket with this many times the rows or bytes is closed at any age.
    pub hard_factor: u32,
    /// A bucket of this age is closed whatever its size.
    pub age_ms: i64,
}

impl Default for BucketBounds {
    /// A busy room begins at most one bucket per half minute, so that its index stays small. No partition comes near
    /// the 100,000 rows at which ScyllaDB warns.
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
