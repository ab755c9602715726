//! The options of the database, for `--store scylla`, and of the commands that create its tables.

use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::Args;
use storage_scylla::options::{Keyspace, Login, Retention, ScyllaOptions};

use crate::options::{OptionsError, secret, whole};

/// Most copies of a row that a new keyspace may have.
const REPLICATION_MAX: u16 = 9;

/// The section of the configuration file that has these keys.
pub(crate) const SECTION: &str = "database";

/// The reason why there is no such section: there is one.
pub(crate) const ABSENT: Option<&str> = None;

/// A setting's name in that section, which needs no `scylla_`.
pub(crate) fn name_in_section(id: &str) -> &str {
    match id {
        "scylla" => "nodes",
        id => id.strip_prefix("scylla_").unwrap_or(id),
    }
}

// A doc comment here would be printed by `--help`.
#[derive(Args)]
#[command(next_help_heading = "Database (for --store scylla)")]
pub(crate) struct DatabaseSettings {
    /// Nodes of ScyllaDB or Cassandra; one is enough, the others are found
    #[arg(long, env = "STENTOR_SCYLLA", value_name = "HOST:PORT,..", value_delimiter = ',')]
    #[arg(default_value = "127.0.0.1:9042")]
    scylla: Vec<String>,

    /// Keyspace with the tables
    #[arg(long, env = "STENTOR_KEYSPACE", value_name = "NAME", default_value_t)]
    keyspace: Keyspace,

    /// Copies of each row, when `schema --apply` makes the keyspace
    #[arg(long, env = "STENTOR_REPLICATION", value_name = "N", value_parser = whole(1, REPLICATION_MAX))]
    #[arg(default_value = "3")]
    replication: u16,

    /// User of the database, if it asks for one
    #[arg(long, env = "STENTOR_SCYLLA_USER", value_name = "NAME")]
    scylla_user: Option<String>,

    /// The user's password; other users of this machine can see it, prefer --scylla-password-file
    #[arg(long, env = "STENTOR_SCYLLA_PASSWORD", value_name = "PASSWORD", hide_env_values = true)]
    scylla_password: Option<String>,

    /// File with the user's password
    #[arg(long, env = "STENTOR_SCYLLA_PASSWORD_FILE", value_name = "FILE")]
    scylla_password_file: Option<PathBuf>,

    /// File of certificates (PEM) that sign those of the nodes; encrypts the connections
    #[arg(long, env = "STENTOR_SCYLLA_CA", value_name = "FILE")]
    scylla_ca: Option<PathBuf>,

    /// How long messages of rooms are kept, such as 90d, in the embedded store too; without it, for ever
    #[arg(long, env = "STENTOR_RETENTION_ROOM", value_name = "TIME")]
    retention_room: Option<KeepFor>,

    /// How long messages of groups are kept, in the embedded store too; without it, for ever
    #[arg(long, env = "STENTOR_RETENTION_GROUP", value_name = "TIME")]
    retention_group: Option<KeepFor>,

    /// How long direct messages are kept, in the embedded store too; without it, for ever
    #[arg(long, env = "STENTOR_RETENTION_DIRECT", value_name = "TIME")]
    retention_direct: Option<KeepFor>,
}

/// How long messages are kept: whole seconds, from a minute to twenty years.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct KeepFor(Duration);

impl std::str::FromStr for KeepFor {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        const SHORTEST: Duration = Duration::from_secs(60);
        const LONGEST: Duration = Duration::from_secs(20 * 365 * 24 * 3600);
        let kept = match text.parse::<u64>() {
            Ok(seconds) => Duration::from_secs(seconds),
            Err(_) => humantime::parse_duration(text).map_err(|_| "write a time: 90d, 12h or plain seconds")?,
        };
        if (SHORTEST..=LONGEST).contains(&kept) {
            return Ok(Self(Duration::from_secs(kept.as_secs())));
        }
        Err("write a time from 60s to 20 years".into())
    }
}

impl DatabaseSettings {
    /// The options with their defaults. Fails if a value is outside the range of its option.
    pub fn checked(self) -> Result<ScyllaOptions, OptionsError> {
        let nodes = self.scylla;
        if nodes.is_empty() || nodes.iter().any(|node| !is_node(node)) {
            return Err(OptionsError::Invalid(format!(
                "scylla is {:?}; give HOST:PORT, or several with commas between them",
                nodes.join(",")
            )));
        }
        Ok(ScyllaOptions {
            keyspace: self.keyspace,
            replication: self.replication,
            login: checked_login(self.scylla_user, self.scylla_password, self.scylla_password_file)?,
            authority: self.scylla_ca.map(readable).transpose()?,
            retention: Retention {
                room: self.retention_room.map(|kept| kept.0),
                group: self.retention_group.map(|kept| kept.0),
                direct: self.retention_direct.map(|kept| kept.0),
            },
            ..ScyllaOptions::at(nodes)
        })
    }
}

fn is_node(text: &str) -> bool {
    text.rsplit_once(':').is_some_and(|(host, port)| !host.is_empty() && port.parse::<u16>().is_ok_and(|port| port > 0))
}

/// The path of the certificates, if they can be read now.
fn readable(path: PathBuf) -> Result<PathBuf, OptionsError> {
    match std::fs::File::open(&path) {
        Ok(_) => Ok(path),
        Err(error) => Err(OptionsError::Invalid(format!("cannot read scylla_ca {}: {error}", path.display()))),
    }
}

fn checked_login(
    user: Option<String>,
    password: Option<String>,
    path: Option<PathBuf>,
) -> Result<Option<Login>, OptionsError> {
    // Editors and `echo` end a file with a newline that is not part of the password.
    let read = |path: &Path| Ok(std::fs::read_to_string(path)?.trim_end_matches(['\r', '\n']).to_owned());
    let password = secret("scylla_password", password, path, read)?;
    match (user, password) {
        (None, None) => Ok(None),
        (Some(user), Some(password)) => Ok(Some(Login { user, password })),
        (Some(_), None) => {
            Err(OptionsError::Invalid("scylla_user needs a scylla_password or scylla_password_file".into()))
        }
        (None, Some(_)) => Err(OptionsError::Invalid("scylla_password needs a scylla_user".into())),
    }
}

#[cfg(test)]
mod tests {
    use std::ffi::OsString;

    use super::*;
    use crate::options::Options;

    fn parse(arguments: &[&str]) -> Result<ScyllaOptions, OptionsError> {
        let arguments = std::iter::once("stentor").chain(arguments.iter().copied()).map(OsString::from);
        Options::from_arguments(arguments).map(|options| options.database)
    }

    #[test]
    fn the_database_is_named() {
        let options = parse(&[]).unwrap();
        assert_eq!(options.nodes, ["127.0.0.1:9042"]);
        assert_eq!((options.keyspace.as_str(), options.replication, options.login), ("chat", 3, None));
        assert_eq!(parse(&["schema", "--keyspace", "talk", "--apply"]).unwrap().keyspace.as_str(), "talk");
        // Any file that is there: certificates are read when the first connection is made.
        let certificates = std::env::current_exe().unwrap();
        let options = parse(&[
            "--store",
            "scylla",
            "--scylla",
            "db1:9042,[::1]:9043",
            "--keyspace",
            "talk",
            "--replication",
            "1",
            "--scylla-user",
            "ann",
            "--scylla-password",
            "sesame",
            "--scylla-ca",
            certificates.to_str().unwrap(),
            "--retention-room",
            "90d",
        ])
        .unwrap();
        assert_eq!(options.nodes, ["db1:9042", "[::1]:9043"]);
        assert_eq!((options.keyspace.as_str(), options.replication), ("talk", 1));
        assert_eq!(options.login, Some(Login { user: "ann".into(), password: "sesame".into() }));
        assert_eq!(options.authority, Some(certificates));
        assert_eq!(options.retention.room, Some(Duration::from_secs(90 * 24 * 3600)));
        assert_eq!(options.retention.direct, None);
    }

    #[test]
    fn help_names_the_options_and_their_variables() {
        let help = parse(&["--help"]).unwrap_err().to_string();
        for (flag, variable) in [("--scylla ", "STENTOR_SCYLLA="), ("--keyspace ", "STENTOR_KEYSPACE=")] {
            assert!(help.contains(flag) && help.contains(variable), "{flag} is not in: {help}");
        }
    }

    #[test]
    fn the_file_names_it_too() {
        let directory = tempfile::tempdir().unwrap();
        let (path, password) = (directory.path().join("stentor.toml"), directory.path().join("password"));
        std::fs::write(&password, "sesame\n").unwrap();
        let text = format!(
            "store = 'scylla'\n[database]\nnodes = ['db:1']\nuser = 'ann'\npassword_file = '{}'\nretention_direct = '1h'",
            password.display()
        );
        std::fs::write(&path, text).unwrap();
        let options = parse(&["--config", path.to_str().unwrap(), "--keyspace", "other"]).unwrap();
        assert_eq!((options.nodes, options.keyspace.as_str()), (vec!["db:1".to_owned()], "other"));
        assert_eq!(options.login.map(|login| login.password).as_deref(), Some("sesame"));
        assert_eq!(options.retention.direct, Some(Duration::from_secs(3600)));
    }

    #[test]
    fn mistakes_are_named() {
        for (arguments, expected) in [
            (vec!["--store", "memory", "--retention-room", "1h"], "memory store"),
            (vec!["--scylla", "db"], "HOST:PORT"),
            (vec!["--scylla", "db:0"], "HOST:PORT"),
            (vec!["--scylla", "db:9042,"], "HOST:PORT"),
            (vec!["--keyspace", "a'b"], "keyspace"),
            (vec!["--replication", "0"], "1 to 9"),
            (vec!["--scylla-user", "ann"], "scylla_password"),
            (vec!["--scylla-password", "x"], "scylla_user"),
            (vec!["--scylla-user", "ann", "--scylla-password-file", "/nonexistent/x"], "/nonexistent/x"),
            (vec!["--scylla-ca", "/nonexistent/ca.pem"], "/nonexistent/ca.pem"),
            (vec!["--retention-room", "1s"], "60s"),
            (vec!["--retention-group", "soon"], "90d"),
        ] {
            let error = parse(&arguments).unwrap_err().to_string();
            assert!(error.contains(expected), "{arguments:?}: {error}");
        }
    }
}
