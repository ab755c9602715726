//! The options of the database, for `--store scylla`, and of the commands that create its tables.

use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::Args;
use serde::Deserialize;
use storage_scylla::options::{Keyspace, Login, Retention, ScyllaOptions};

use crate::options::{OptionsError, SecretSetting, parsed, secret};

/// Most copies of a row that a new keyspace may have.
const REPLICATION_MAX: u16 = 9;

// A key in the file's section `[database]` is a flag's name without `scylla_`. (A doc comment here would be printed by
// `--help`.)
#[derive(Args, Deserialize, Default)]
#[command(next_help_heading = "Database (for --store scylla)")]
#[serde(default, deny_unknown_fields)]
pub(crate) struct DatabaseSettings {
    /// Nodes of ScyllaDB or Cassandra; one is enough, the others are found [default: 127.0.0.1:9042]
    #[arg(long, env = "STENTOR_SCYLLA", value_name = "HOST:PORT,..", value_delimiter = ',')]
    #[serde(rename = "nodes")]
    scylla: Option<Vec<String>>,

    /// Keyspace with the tables [default: chat]
    #[arg(long, env = "STENTOR_KEYSPACE", value_name = "NAME")]
    #[serde(deserialize_with = "parsed")]
    keyspace: Option<Keyspace>,

    /// Copies of each row, when `schema --apply` makes the keyspace [default: 3]
    #[arg(long, env = "STENTOR_REPLICATION", value_name = "N")]
    replication: Option<u16>,

    /// User of the database, if it asks for one
    #[arg(long, env = "STENTOR_SCYLLA_USER", value_name = "NAME")]
    #[serde(rename = "user")]
    scylla_user: Option<String>,

    /// The user's password; other users of this machine can see it, prefer --scylla-password-file
    #[arg(long, env = "STENTOR_SCYLLA_PASSWORD", value_name = "PASSWORD", hide_env_values = true)]
    #[serde(rename = "password")]
    scylla_password: Option<String>,

    /// File with the user's password
    #[arg(long, env = "STENTOR_SCYLLA_PASSWORD_FILE", value_name = "FILE")]
    #[serde(rename = "password_file")]
    scylla_password_file: Option<PathBuf>,

    /// File of certificates (PEM) that sign those of the nodes; encrypts the connections
    #[arg(long, env = "STENTOR_SCYLLA_CA", value_name = "FILE")]
    #[serde(rename = "ca")]
    scylla_ca: Option<PathBuf>,

    /// How long messages of rooms are kept, such as 90d [default: for ever]
    #[arg(long, env = "STENTOR_RETENTION_ROOM", value_name = "TIME")]
    #[serde(deserialize_with = "parsed")]
    retention_room: Option<KeepFor>,

    /// How long messages of groups are kept [default: for ever]
    #[arg(long, env = "STENTOR_RETENTION_GROUP", value_name = "TIME")]
    #[serde(deserialize_with = "parsed")]
    retention_group: Option<KeepFor>,

    /// How long direct messages are kept [default: for ever]
    #[arg(long, env = "STENTOR_RETENTION_DIRECT", value_name = "TIME")]
    #[serde(deserialize_with = "parsed")]
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
            Err(_) => humantime::parse_duration(text)
                .map_err(|_| format!("{text:?} is not a time; write 90d, 12h or plain seconds"))?,
        };
        if (SHORTEST..=LONGEST).contains(&kept) {
            return Ok(Self(Duration::from_secs(kept.as_secs())));
        }
        Err(format!("{text:?} is out of range; write a time from 60s to 20 years"))
    }
}

impl DatabaseSettings {
    /// The password as text or as the path of a file; `None` where there is no such option.
    pub fn password(&mut self) -> Option<SecretSetting<'_>> {
        let (text, path) = (&mut self.scylla_password, &mut self.scylla_password_file);
        Some(SecretSetting { name: "scylla_password", text, path })
    }

    /// The options with their defaults. Fails if a value is outside the range of its option.
    pub fn checked(self) -> Result<ScyllaOptions, OptionsError> {
        let nodes = self.scylla.unwrap_or_else(|| vec!["127.0.0.1:9042".into()]);
        if nodes.is_empty() || nodes.iter().any(|node| !is_node(node)) {
            return Err(OptionsError::Invalid(format!(
                "scylla is {:?}; give HOST:PORT, or several with commas between them",
                nodes.join(",")
            )));
        }
        Ok(ScyllaOptions {
            keyspace: self.keyspace.unwrap_or_default(),
            replication: checked_replication(self.replication)?,
            login: checked_login(self.scylla_user, self.scylla_password, self.scylla_password_file)?,
            authority: self.scylla_ca,
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

fn checked_replication(given: Option<u16>) -> Result<u16, OptionsError> {
    match given {
        None => Ok(3),
        Some(copies) if (1..=REPLICATION_MAX).contains(&copies) => Ok(copies),
        Some(copies) => Err(OptionsError::Invalid(format!(
            "replication is {copies}; give a number from 1 to {REPLICATION_MAX}, 3 unless you know better"
        ))),
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
            "ca.pem",
            "--retention-room",
            "90d",
        ])
        .unwrap();
        assert_eq!(options.nodes, ["db1:9042", "[::1]:9043"]);
        assert_eq!((options.keyspace.as_str(), options.replication), ("talk", 1));
        assert_eq!(options.login, Some(Login { user: "ann".into(), password: "sesame".into() }));
        assert_eq!(options.authority, Some("ca.pem".into()));
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
            (vec!["--scylla", "db"], "HOST:PORT"),
            (vec!["--scylla", "db:0"], "HOST:PORT"),
            (vec!["--scylla", "db:9042,"], "HOST:PORT"),
            (vec!["--keyspace", "a'b"], "keyspace"),
            (vec!["--replication", "0"], "1 to 9"),
            (vec!["--scylla-user", "ann"], "scylla_password"),
            (vec!["--scylla-password", "x"], "scylla_user"),
            (vec!["--scylla-user", "ann", "--scylla-password-file", "/nonexistent/x"], "/nonexistent/x"),
            (vec!["--retention-room", "1s"], "60s"),
            (vec!["--retention-group", "soon"], "90d"),
        ] {
            let error = parse(&arguments).unwrap_err().to_string();
            assert!(error.contains(expected), "{arguments:?}: {error}");
        }
    }
}
