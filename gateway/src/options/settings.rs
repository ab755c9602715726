//! What an operator may set. Each field of `Settings` is at once a flag, an environment variable and a key of the
//! configuration file. A flag wins over the environment, the environment over the file.
//!
//! The values have the right form. `Options` checks their ranges, and fills in what is not given.

use std::cmp::Ordering;
use std::fmt::Display;
use std::io;
use std::net::SocketAddr;
use std::num::NonZeroU16;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::Duration;

use clap::parser::ValueSource;
use clap::{ArgMatches, Args};
use serde::{Deserialize, Deserializer};

use super::span::Span;
use super::{OptionsError, StoreKind, TTL_MAX};
use crate::database::DatabaseSettings;

const SIGNING_KEYS: &str = "Signing keys (made at random and kept in the data directory unless given)";

// A doc comment here would be printed by `--help`.
#[derive(Args, Deserialize, Default)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Settings {
    /// Address and port to listen on, HTTP and WebSocket alike [default: 127.0.0.1:7350]
    #[arg(long, env = "STENTOR_LISTEN", value_name = "ADDR:PORT", value_parser = address)]
    pub listen: Option<SocketAddr>,

    /// Address and port where operators read the counters, at /metrics; `off` for none [default: 127.0.0.1:7351]
    #[arg(long, env = "STENTOR_ADMIN", value_name = "ADDR:PORT")]
    #[serde(deserialize_with = "parsed")]
    pub admin: Option<AdminAddress>,

    /// Names by which operators reach a loopback --admin, besides `localhost` and IP addresses [default: none]
    #[arg(long, env = "STENTOR_ADMIN_HOST", value_name = "NAME,..", value_delimiter = ',')]
    pub admin_host: Option<Vec<String>>,

    /// File with the token of admin calls; made if missing [default: admin.token in the data directory]
    #[arg(long, env = "STENTOR_ADMIN_TOKEN_FILE", value_name = "FILE")]
    pub admin_token_file: Option<PathBuf>,

    /// How long a server that is to stop is only not ready, for balancers to see it [default: 10s, or 0 if no client is
    /// connected and /readyz was never asked]
    #[arg(long, env = "STENTOR_DRAIN_WAIT", value_name = "TIME")]
    pub drain_wait: Option<Span>,

    /// Time over which a server that is to stop closes its sessions [default: 0]
    #[arg(long, env = "STENTOR_DRAIN_TIME", value_name = "TIME")]
    pub drain_time: Option<Span>,

    /// Proxies whose word on a client's address counts, such as 10.0.0.0/8,::1 [default: none]
    #[arg(long, env = "STENTOR_TRUSTED_PROXIES", value_name = "NET,..", value_delimiter = ',')]
    pub trusted_proxies: Option<Vec<String>>,

    /// Trusted proxies begin each connection with a header of the PROXY protocol, and those without are refused
    /// [default: false]
    #[arg(long, env = "STENTOR_PROXY_PROTOCOL", value_name = "BOOL")]
    #[arg(num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    pub proxy_protocol: Option<bool>,

    /// Directory of the store and of the signing keys; made if missing [default: ./stentor-data]
    #[arg(long, env = "STENTOR_DATA", value_name = "DIR")]
    pub data: Option<PathBuf>,

    /// Where messages and accounts are kept [default: embedded]
    #[arg(long, env = "STENTOR_STORE", value_name = "KIND")]
    pub store: Option<StoreKind>,

    /// MiB of the disk that stay free: with less, the embedded store refuses writes [default: 256]
    #[arg(long, env = "STENTOR_DISK_RESERVE", value_name = "MIB")]
    pub disk_reserve: Option<u32>,

    /// How many shards, each pinned to a core [default: the cores this process may use]
    #[arg(long, env = "STENTOR_SHARDS", value_name = "N")]
    pub shards: Option<NonZeroU16>,

    /// How long an idle HTTP connection is kept; longer than balancers in front keep theirs [default: 3m]
    #[arg(long, env = "STENTOR_KEEP_ALIVE", value_name = "TIME")]
    pub keep_alive: Option<Ttl>,

    /// Threads that hash passwords; 128 sign-ins with a password wait for each [default: 1]
    #[arg(long, env = "STENTOR_PASSWORD_THREADS", value_name = "N")]
    pub password_threads: Option<usize>,

    /// Visible members up to which a room names each of them to all; beyond, it counts and samples [default: 1000]
    #[arg(long, env = "STENTOR_ROOM_MEMBERS_MAX", value_name = "N")]
    pub room_members_max: Option<u32>,

    /// Messages, updates and removals that one session may send in a second; 0 for no limit [default: 0]
    #[arg(long, env = "STENTOR_SENDS_PER_SECOND", value_name = "N")]
    pub sends_per_second: Option<u32>,

    /// Milliseconds of work a second that one session may ask for; 0 for no limit [default: 50]
    #[arg(long, env = "STENTOR_WORK_PER_SESSION", value_name = "MS")]
    pub work_per_session: Option<u32>,

    /// Milliseconds of work a second that one user may ask each shard for; 0 for no limit [default: 100]
    #[arg(long, env = "STENTOR_WORK_PER_USER", value_name = "MS")]
    pub work_per_user: Option<u32>,

    /// Milliseconds of work a second that one client address may ask each shard for; 0 for no limit [default: 0]
    #[arg(long, env = "STENTOR_WORK_PER_ADDRESS", value_name = "MS")]
    pub work_per_address: Option<u32>,

    /// Sessions that one user may have at a time on each shard; 0 for no limit [default: 1000]
    #[arg(long, env = "STENTOR_SESSIONS_PER_USER", value_name = "N")]
    pub sessions_per_user: Option<u32>,

    /// Memberships of channels that all sessions of one user may have at a time on each shard; 0 for no limit
    /// [default: 8192]
    #[arg(long, env = "STENTOR_MEMBERSHIPS_PER_USER", value_name = "N")]
    pub memberships_per_user: Option<u32>,

    /// Key that client programs show to sign users in; it is no secret [default: defaultkey]
    #[arg(long, env = "STENTOR_SERVER_KEY", value_name = "KEY")]
    pub server_key: Option<String>,

    /// How long a session token is valid, such as 90s, 2m, 1h or plain seconds [default: 60s]
    #[arg(long, env = "STENTOR_SESSION_TTL", value_name = "TIME")]
    pub session_ttl: Option<Ttl>,

    /// How long a refresh token is valid [default: 1h]
    #[arg(long, env = "STENTOR_REFRESH_TTL", value_name = "TIME")]
    pub refresh_ttl: Option<Ttl>,

    /// TOML file with any of these options
    #[arg(long, env = "STENTOR_CONFIG", value_name = "FILE")]
    #[serde(skip)]
    pub config: Option<PathBuf>,

    #[command(flatten)]
    pub database: DatabaseSettings,

    /// Key that signs session tokens; other users of this machine can see it, prefer --session-key-file
    #[arg(long, help_heading = SIGNING_KEYS, env = "STENTOR_SESSION_KEY", value_name = "KEY", hide_env_values = true)]
    pub session_key: Option<String>,

    /// File with the key that signs session tokens
    #[arg(long, help_heading = SIGNING_KEYS, env = "STENTOR_SESSION_KEY_FILE", value_name = "FILE")]
    pub session_key_file: Option<PathBuf>,

    /// Key that signs refresh tokens; must differ from the session key
    #[arg(long, help_heading = SIGNING_KEYS, env = "STENTOR_REFRESH_KEY", value_name = "KEY", hide_env_values = true)]
    pub refresh_key: Option<String>,

    /// File with the key that signs refresh tokens
    #[arg(long, help_heading = SIGNING_KEYS, env = "STENTOR_REFRESH_KEY_FILE", value_name = "FILE")]
    pub refresh_key_file: Option<PathBuf>,
}

impl Settings {
    /// Reads a configuration file. Fails if it cannot be read, or has an unknown key or a malformed value.
    pub fn read(path: &Path) -> Result<Self, OptionsError> {
        let text = std::fs::read_to_string(path)
            .map_err(|source| OptionsError::FileUnreadable { path: path.to_owned(), source })?;
        toml::from_str(&text)
            .map_err(|error| OptionsError::FileInvalid { path: path.to_owned(), message: error.to_string() })
    }

    /// Forgets the secrets that a stronger layer gives in another form.
    pub fn keep_strongest_secrets(&mut self, matches: &mut ArgMatches) {
        self.secrets().for_each(|secret| secret.keep_strongest(matches));
    }

    /// Whether one of the secrets is given as text.
    pub fn holds_secrets(&mut self) -> bool {
        self.secrets().any(|secret| secret.text.is_some())
    }

    /// The files that hold a secret each.
    pub fn secret_files(&mut self) -> Vec<PathBuf> {
        self.secrets().filter_map(|secret| secret.path.clone()).collect()
    }

    fn secrets(&mut self) -> impl Iterator<Item = SecretSetting<'_>> {
        let keys = [
            SecretSetting { name: "session_key", text: &mut self.session_key, path: &mut self.session_key_file },
            SecretSetting { name: "refresh_key", text: &mut self.refresh_key, path: &mut self.refresh_key_file },
        ];
        keys.into_iter().chain(self.database.password())
    }
}

/// A secret in the configuration file. It is given as text under its name, or as the path of a file under `NAME_file`.
/// The layer that is strongest and gives either form decides: other layers must not add the other form.
pub(crate) struct SecretSetting<'a> {
    pub name: &'static str,
    pub text: &'a mut Option<String>,
    pub path: &'a mut Option<PathBuf>,
}

impl SecretSetting<'_> {
    /// Forgets the other forms, here and among the flags and variables.
    fn keep_strongest(self, matches: &mut ArgMatches) {
        let name_of_path = format!("{}_file", self.name);
        let by_text = matches.value_source(self.name);
        let by_path = matches.value_source(&name_of_path);
        if by_text.max(by_path) > Some(ValueSource::DefaultValue) {
            (*self.text, *self.path) = (None, None);
        }
        let weaker = match by_text.cmp(&by_path) {
            Ordering::Less => self.name,
            Ordering::Greater => &name_of_path,
            Ordering::Equal => return,
        };
        let _ = matches.try_clear_id(weaker);
    }
}

/// A secret that is given as text, or in the file that `read` reads.
pub(crate) fn secret<T>(
    name: &str,
    text: Option<T>,
    path: Option<PathBuf>,
    read: impl FnOnce(&Path) -> io::Result<T>,
) -> Result<Option<T>, OptionsError> {
    match (text, path) {
        (Some(_), Some(_)) => {
            Err(OptionsError::Invalid(format!("{name} and {name}_file are both given; give one of them")))
        }
        (None, Some(path)) => read(&path)
            .map(Some)
            .map_err(|error| OptionsError::Invalid(format!("cannot read {name}_file {}: {error}", path.display()))),
        (text, None) => Ok(text),
    }
}

/// Reads a value of the file as a flag's value is read.
pub(crate) fn parsed<'de, D, T>(deserializer: D) -> Result<Option<T>, D::Error>
where
    D: Deserializer<'de>,
    T: FromStr<Err: Display>,
{
    String::deserialize(deserializer)?.parse().map(Some).map_err(serde::de::Error::custom)
}

/// Parses an address. The error shows an example, because many users write a port alone, or a name.
fn address(text: &str) -> Result<SocketAddr, String> {
    text.parse().map_err(|_| "write an IP address and a port, such as 127.0.0.1:7350".to_owned())
}

/// The address for operators, or `off`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum AdminAddress {
    At(SocketAddr),
    Off,
}

impl FromStr for AdminAddress {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "off" => Ok(Self::Off),
            text => address(text).map(Self::At).map_err(|error| format!("{error}, or off")),
        }
    }
}

/// A token's lifetime: `90s`, `2m`, `1h 30m` or plain seconds.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Ttl(pub Duration);

impl FromStr for Ttl {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let duration = match text.parse::<u64>() {
            Ok(seconds) => Duration::from_secs(seconds),
            Err(_) => humantime::parse_duration(text)
                .map_err(|_| format!("{text:?} is not a time; write 90s, 2m, 1h or plain seconds"))?,
        };
        if duration < Duration::from_secs(1) || duration > TTL_MAX {
            return Err(format!("{text:?} is out of range; write a time from 1s to 366 days"));
        }
        // Tokens have times in whole seconds.
        Ok(Self(Duration::from_secs(duration.as_secs())))
    }
}

impl<'de> Deserialize<'de> for Ttl {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(untagged, expecting = "a time such as \"90s\", or a number of seconds")]
        enum Written {
            Seconds(u64),
            Text(String),
        }
        let text = match Written::deserialize(deserializer)? {
            Written::Seconds(seconds) => seconds.to_string(),
            Written::Text(text) => text,
        };
        text.parse().map_err(serde::de::Error::custom)
    }
}
