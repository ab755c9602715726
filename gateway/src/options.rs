//! The configuration, parsed once. A flag wins over the environment, the environment over the file, and the file over
//! the default.
//!
//! The result is checked and typed; no raw string goes further into the server. Every error says which setting is wrong
//! and what to write instead. Keys given as text never appear in `Debug` output.

mod admin_call;
mod settings;
pub(crate) mod span;

use std::ffi::OsString;
use std::fmt;
use std::net::SocketAddr;
use std::num::{NonZeroU16, NonZeroU32};
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::{CommandFactory, FromArgMatches, Parser};
use engine::limits::{
    MEMBERSHIPS_PER_USER_MAX, ROOM_MEMBERS_MAX, SESSIONS_PER_USER_MAX, WORK_PER_SESSION_MAX, WORK_PER_USER_MAX,
};
use serde::Deserialize;
use storage::embedded::EmbeddedOptions;

pub use self::admin_call::AdminCall;
use self::admin_call::DrainFlags;
#[cfg(feature = "scylla")]
pub(crate) use self::settings::parsed;
use self::settings::{AdminAddress, Settings, Ttl};
pub(crate) use self::settings::{SecretSetting, secret};
use crate::database::DatabaseOptions;
use crate::drain::Terms;
use crate::target::is_host;
use crate::trusted_proxies::{NETWORKS_MAX, TrustedProxies};

/// Most shards of a server. The mesh between them grows with the square of their number.
const SHARDS_MAX: u16 = 256;
/// Most members of a room whose joins and leaves may be announced one by one. A joiner's list of that many members is
/// 15 MB.
const ROOM_MEMBERS_LIMIT: u32 = 100_000;
/// Least free space to keep on the disk, in MiB.
const DISK_RESERVE_MIB_MIN: u32 = 64;
/// Shortest signing key: 128 bits, half of HMAC-SHA256's output. A shorter key would be too weak.
const KEY_BYTES_MIN: usize = 16;
/// Longest lifetime of a token. Revocations are kept as long as tokens live.
const TTL_MAX: Duration = Duration::from_secs(366 * 24 * 3600);

/// How long an idle HTTP connection is kept, unless configured otherwise. This is longer than nginx (60 s), AWS's
/// balancers (60 s), Traefik (90 s) and Caddy (2 min) keep their connections to the server. The side that sends
/// requests must be the first to close an idle connection; otherwise it may send a request on a connection that is just
/// being closed.
pub(crate) const KEEP_ALIVE: Duration = Duration::from_secs(180);
/// Threads that hash passwords, unless configured otherwise: one does some forty a second, and the cores belong to the
/// shards.
const PASSWORD_THREADS: usize = 1;
/// Most threads that hash passwords. Each takes 19 MiB while it hashes.
const PASSWORD_THREADS_MAX: usize = 64;
/// Longest keep-alive time.
const KEEP_ALIVE_MAX: Duration = Duration::from_secs(24 * 3600);

/// The names of the files in the data directory that keep signing keys which no option gives.
pub(crate) const SESSION_KEY_FILE: &str = "session.key";
pub(crate) const REFRESH_KEY_FILE: &str = "refresh.key";
/// The name of the file there that keeps the token of admin calls.
pub(crate) const ADMIN_TOKEN_FILE: &str = "admin.token";

/// The server's checked configuration.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Options {
    pub command: Command,
    pub listen: SocketAddr,
    /// The address where operators read the counters; `None` means no address.
    pub admin: Option<SocketAddr>,
    /// Names by which operators reach that address, besides `localhost` and IP addresses.
    pub admin_hosts: Vec<String>,
    /// The file with the token of admin calls, if it is not the one in the data directory.
    pub admin_token_file: Option<PathBuf>,
    /// How the server drains before it stops.
    pub drain: Terms,
    /// The peers that may say for which client they speak.
    pub trusted_proxies: TrustedProxies,
    pub data: PathBuf,
    pub store: StoreKind,
    /// Bytes of the data directory's disk that stay free: with less, the embedded store refuses writes.
    pub disk_reserve: u64,
    /// Where and how, for `StoreKind::Scylla`.
    pub database: DatabaseOptions,
    pub shards: NonZeroU16,
    /// How long an HTTP connection waits for its next request.
    pub keep_alive: Duration,
    /// How many threads hash passwords.
    pub password_threads: usize,
    /// Visible members up to which joins and leaves are announced one by one.
    pub room_members_max: usize,
    /// `None`: no limit.
    pub sends_per_second: Option<NonZeroU32>,
    /// Milliseconds of work a second, of one session, and of one user or one address on one shard. `None`: no limit.
    pub work_per_session: Option<NonZeroU32>,
    pub work_per_user: Option<NonZeroU32>,
    pub work_per_address: Option<NonZeroU32>,
    /// Sessions of one user on one shard. `None`: no limit.
    pub sessions_per_user: Option<NonZeroU32>,
    /// Memberships of all sessions of one user on one shard. `None`: no limit.
    pub memberships_per_user: Option<NonZeroU32>,
    pub server_key: String,
    pub session_ttl: Duration,
    pub refresh_ttl: Duration,
    /// `None`: the key is made at random on the first start and kept in the data directory.
    pub session_key: Option<Secret>,
    pub refresh_key: Option<Secret>,
    /// The files that have given secrets: the configuration file, and those that it or a flag names.
    pub given_secret_files: Vec<PathBuf>,
}

/// The kind of store.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum StoreKind {
    /// On this machine's disk, in the data directory.
    Embedded,
    /// In memory only: everything is forgotten when the server stops.
    Memory,
    /// In a cluster of ScyllaDB or Cassandra nodes.
    #[value(hide = cfg!(not(feature = "scylla")))]
    Scylla,
}

impl StoreKind {
    /// The name of the kind on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Self::Embedded => "embedded",
            Self::Memory => "memory",
            Self::Scylla => "scylla",
        }
    }
}

/// The task of this process.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Command {
    Serve,
    /// Print the tables' CQL, or create the tables.
    Schema {
        apply: bool,
    },
    /// Ask the server on this machine whether it is ready.
    HealthCheck,
    /// Call the admin address of the server on this machine.
    Admin(AdminCall),
    /// Write everything that the store has to this file.
    Export(PathBuf),
    /// Move everything from this file to the store; without a file, from the embedded store to the database.
    Import(Option<PathBuf>),
}

/// A command's name on the command line.
#[derive(Clone, Copy, PartialEq, Eq, Debug, clap::ValueEnum)]
enum CommandName {
    /// Print the database's tables as CQL; with --apply, make them or bring them up to date
    #[value(hide = cfg!(not(feature = "scylla")))]
    Schema,
    /// Ask the server that listens on --listen whether it is ready: exit code 0 if it is
    #[value(name = "healthcheck")]
    HealthCheck,
    /// Ask the server at --admin how it is
    Status,
    /// Let the server at --admin drain and stop; with --status, tell how far the drain is
    Drain,
    /// Write everything that the store has to FILE; begun again, it goes on where it was
    Export,
    /// Move everything from FILE, an export, to an empty store; without FILE, from the embedded store in --data to the
    /// database; begun again, it goes on where it was
    Import,
}

/// Key material that is not shown in logs.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(Vec<u8>);

impl Secret {
    /// Takes the key as it is: any bytes, of any length.
    pub fn new(bytes: impl Into<Vec<u8>>) -> Self {
        Self(bytes.into())
    }

    /// The bare key. Whatever the caller makes of it must not be shown in logs.
    pub fn bytes(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[secret]")
    }
}

/// The configuration is invalid.
#[derive(Debug, thiserror::Error)]
pub enum OptionsError {
    /// Wrong flags or environment. `--help` and `--version` are also reported this way.
    #[error(transparent)]
    Arguments(#[from] clap::Error),
    #[error("cannot read the configuration file {path}: {source}")]
    FileUnreadable { path: PathBuf, source: std::io::Error },
    #[error("the configuration file {path} is wrong: {message}")]
    FileInvalid { path: PathBuf, message: String },
    #[error("{0}")]
    Invalid(String),
}

impl OptionsError {
    /// Prints the error, or the text that `--help` asks for, and ends the process.
    pub fn exit(self) -> ! {
        match self {
            Self::Arguments(error) => error.exit(),
            error => {
                eprintln!("stentor: {error}");
                std::process::exit(2)
            }
        }
    }
}

impl Options {
    /// Reads the process's arguments, its environment, and the file they name. Fails with the option that is unknown,
    /// malformed or contradicts another one.
    pub fn from_process() -> Result<Self, OptionsError> {
        Self::from_arguments(std::env::args_os())
    }

    /// Like `from_process`, with these arguments. The first is the program's name.
    pub(crate) fn from_arguments(arguments: impl IntoIterator<Item = OsString>) -> Result<Self, OptionsError> {
        let mut matches = Flags::command().try_get_matches_from(arguments)?;
        let mut flags = Flags::default();
        let mut secret_files = Vec::new();
        if let Some(path) = matches.get_one::<PathBuf>("config") {
            flags.settings = Settings::read(path)?;
            secret_files.extend(flags.settings.holds_secrets().then(|| path.clone()));
        }
        flags.settings.keep_strongest_secrets(&mut matches);
        // What the command line or the environment gives replaces what the file gives.
        flags.update_from_arg_matches(&matches)?;
        let command = match flags.command {
            Some(CommandName::Drain) if !flags.apply && flags.file.is_none() => Command::Admin(flags.drain.call()?),
            command => flags.drain.none_given().and_then(|()| checked_command(command, flags.apply, flags.file))?,
        };
        secret_files.extend(flags.settings.secret_files());
        Self::checked(command, flags.settings, secret_files)
    }

    fn checked(
        command: Command,
        mut settings: Settings,
        given_secret_files: Vec<PathBuf>,
    ) -> Result<Self, OptionsError> {
        let [session_key, refresh_key] = checked_keys(&mut settings)?;
        Ok(Self {
            command,
            database: settings.database.checked()?,
            listen: settings.listen.unwrap_or(SocketAddr::from(([127, 0, 0, 1], 7350))),
            admin: match settings.admin {
                None => Some(SocketAddr::from(([127, 0, 0, 1], 7351))),
                Some(AdminAddress::At(address)) => Some(address),
                Some(AdminAddress::Off) => None,
            },
            admin_hosts: checked_admin_hosts(settings.admin_host)?,
            admin_token_file: settings.admin_token_file,
            drain: Terms { wait: settings.drain_wait.map(|wait| wait.0), time: settings.drain_time.map(|time| time.0) },
            trusted_proxies: checked_proxies(settings.trusted_proxies, settings.proxy_protocol)?,
            data: settings.data.unwrap_or_else(|| PathBuf::from("./stentor-data")),
            store: settings.store.unwrap_or(StoreKind::Embedded),
            disk_reserve: checked_disk_reserve(settings.disk_reserve)?,
            shards: checked_shards(settings.shards)?,
            keep_alive: checked_keep_alive(settings.keep_alive)?,
            password_threads: checked_password_threads(settings.password_threads)?,
            room_members_max: checked_room_members(settings.room_members_max)?,
            sends_per_second: settings.sends_per_second.and_then(NonZeroU32::new),
            work_per_session: given_or(settings.work_per_session, WORK_PER_SESSION_MAX),
            work_per_user: given_or(settings.work_per_user, WORK_PER_USER_MAX),
            work_per_address: settings.work_per_address.and_then(NonZeroU32::new),
            sessions_per_user: given_or(settings.sessions_per_user, SESSIONS_PER_USER_MAX),
            memberships_per_user: given_or(settings.memberships_per_user, MEMBERSHIPS_PER_USER_MAX),
            server_key: checked_server_key(settings.server_key)?,
            session_ttl: settings.session_ttl.map_or(Duration::from_secs(60), |ttl| ttl.0),
            refresh_ttl: settings.refresh_ttl.map_or(Duration::from_secs(3600), |ttl| ttl.0),
            session_key,
            refresh_key,
            given_secret_files,
        })
    }

    /// The files that hold secrets of this server. Those in the data directory need not be there yet.
    pub fn secret_files(&self) -> Vec<PathBuf> {
        let kept = [(&self.session_key, SESSION_KEY_FILE), (&self.refresh_key, REFRESH_KEY_FILE)];
        let kept = kept.into_iter().filter(|(given, _)| given.is_none() && self.store != StoreKind::Memory);
        let keys = self.given_secret_files.iter().cloned().chain(kept.map(|(_, name)| self.data.join(name)));
        keys.chain(self.admin.and_then(|_| self.admin_token_path())).collect()
    }

    /// The file with the token of admin calls. `None`: the memory store has no directory, and no option names a file.
    pub fn admin_token_path(&self) -> Option<PathBuf> {
        let kept = || (self.store != StoreKind::Memory).then(|| self.data.join(ADMIN_TOKEN_FILE));
        self.admin_token_file.clone().or_else(kept)
    }

    /// The directory of the embedded store, beside the signing keys.
    pub fn store_directory(&self) -> PathBuf {
        self.data.join("store")
    }

    /// The options of the embedded store that these options say: how much of the disk stays free. All others have their
    /// defaults.
    pub fn embedded_store(&self) -> EmbeddedOptions {
        EmbeddedOptions { free_bytes_min: self.disk_reserve, ..EmbeddedOptions::default() }
    }
}

/// A realtime chat server for huge live events. Speaks Nakama's chat protocol: HTTP and WebSocket on one port.
///
/// Every option can also be set by an environment variable or by a key of the same name (with underscores) in the
/// TOML file given by --config. Keys of the database stand in the table `database` (docs/scylla.md). A flag wins over
/// the environment, the environment over the file.
#[derive(Parser, Default)]
#[command(name = "stentor", version = crate::version::TEXT, max_term_width = 100)]
struct Flags {
    /// What to do instead of serving
    #[arg(value_name = "COMMAND")]
    command: Option<CommandName>,

    /// With `export` and `import`: the export
    file: Option<PathBuf>,

    /// With `schema`: make the tables, or bring them up to date
    #[arg(long)]
    apply: bool,

    #[command(flatten)]
    drain: DrainFlags,

    #[command(flatten)]
    settings: Settings,
}

fn checked_command(name: Option<CommandName>, apply: bool, file: Option<PathBuf>) -> Result<Command, OptionsError> {
    let refused = |reason: &str| Err(OptionsError::Invalid(reason.into()));
    match (name, apply, file) {
        (Some(CommandName::Schema), apply, None) => Ok(Command::Schema { apply }),
        (_, true, _) => refused("--apply is for `stentor schema`"),
        (Some(CommandName::Status), false, None) => Ok(Command::Admin(AdminCall::Status)),
        (Some(CommandName::HealthCheck), false, None) => Ok(Command::HealthCheck),
        (Some(CommandName::Export), false, Some(file)) => Ok(Command::Export(file)),
        (Some(CommandName::Export), false, None) => {
            refused("name the file that is to be written: `stentor export FILE`")
        }
        (Some(CommandName::Import), false, file) => Ok(Command::Import(file)),
        (None, false, None) => Ok(Command::Serve),
        (Some(CommandName::Drain), ..) => refused("`stentor drain` takes no FILE"),
        (_, false, Some(_)) => refused("a FILE is for `stentor export` and `stentor import`"),
    }
}

/// A limit that is on unless 0 is given.
fn given_or(given: Option<u32>, default: NonZeroU32) -> Option<NonZeroU32> {
    given.map_or(Some(default), NonZeroU32::new)
}

/// The port does not matter, so the names have none. An IP address is accepted without being named.
fn checked_admin_hosts(given: Option<Vec<String>>) -> Result<Vec<String>, OptionsError> {
    let names = given.unwrap_or_default();
    match names.iter().find(|name| !is_host(name.as_bytes()) || name.contains([':', '[', '%'])) {
        None => Ok(names),
        Some(name) => Err(OptionsError::Invalid(format!(
            "admin_host has {name:?}; give names of hosts without ports, such as metrics.example.org, with commas between them"
        ))),
    }
}

fn checked_proxies(given: Option<Vec<String>>, introduce: Option<bool>) -> Result<TrustedProxies, OptionsError> {
    let named = given.unwrap_or_default();
    if named.len() > NETWORKS_MAX {
        let message = format!("trusted_proxies has {} networks; give at most {NETWORKS_MAX}", named.len());
        return Err(OptionsError::Invalid(message));
    }
    let networks = named.iter().map(|text| text.parse()).collect::<Result<Vec<_>, String>>();
    let proxies = networks.map_err(|error| OptionsError::Invalid(format!("trusted_proxies: {error}")))?;
    match (TrustedProxies::new(proxies), introduce) {
        (proxies, Some(true)) if proxies.is_empty() => {
            Err(OptionsError::Invalid("proxy_protocol is for trusted proxies; name them with trusted_proxies".into()))
        }
        (proxies, Some(true)) => Ok(proxies.introducing_clients()),
        (proxies, _) => Ok(proxies),
    }
}

fn checked_disk_reserve(given: Option<u32>) -> Result<u64, OptionsError> {
    match given {
        None => Ok(EmbeddedOptions::default().free_bytes_min),
        Some(mib) if mib < DISK_RESERVE_MIB_MIN => Err(OptionsError::Invalid(format!(
            "disk_reserve is {mib}; give at least {DISK_RESERVE_MIB_MIN} (MiB), which is one file of the store's journal"
        ))),
        Some(mib) => Ok(u64::from(mib) << 20),
    }
}

fn checked_shards(given: Option<NonZeroU16>) -> Result<NonZeroU16, OptionsError> {
    match given {
        Some(shards) if shards.get() > SHARDS_MAX => {
            Err(OptionsError::Invalid(format!("shards is {shards}; give at most {SHARDS_MAX}")))
        }
        Some(shards) => Ok(shards),
        None => {
            // `available_parallelism` respects affinity masks and a container's CPU quota.
            let cores = std::thread::available_parallelism().map_or(1, |cores| cores.get());
            let shards = u16::try_from(cores).unwrap_or(SHARDS_MAX).min(SHARDS_MAX);
            Ok(NonZeroU16::new(shards).unwrap_or(NonZeroU16::MIN))
        }
    }
}

fn checked_keep_alive(given: Option<Ttl>) -> Result<Duration, OptionsError> {
    match given {
        None => Ok(KEEP_ALIVE),
        Some(Ttl(time)) if time <= KEEP_ALIVE_MAX => Ok(time),
        Some(Ttl(time)) => Err(OptionsError::Invalid(format!("keep_alive is {time:?}; give a time from 1s to 24h"))),
    }
}

fn checked_password_threads(given: Option<usize>) -> Result<usize, OptionsError> {
    match given {
        None => Ok(PASSWORD_THREADS),
        Some(threads) if (1..=PASSWORD_THREADS_MAX).contains(&threads) => Ok(threads),
        Some(threads) => Err(OptionsError::Invalid(format!(
            "password_threads is {threads}; give a number from 1 to {PASSWORD_THREADS_MAX}"
        ))),
    }
}

fn checked_room_members(given: Option<u32>) -> Result<usize, OptionsError> {
    match given {
        None => Ok(ROOM_MEMBERS_MAX),
        Some(members) if (1..=ROOM_MEMBERS_LIMIT).contains(&members) => Ok(members as usize),
        Some(members) => Err(OptionsError::Invalid(format!(
            "room_members_max is {members}; give a number from 1 to {ROOM_MEMBERS_LIMIT}"
        ))),
    }
}

fn checked_server_key(given: Option<String>) -> Result<String, OptionsError> {
    let key = given.unwrap_or_else(|| "defaultkey".into());
    // The key is sent as the user name of HTTP's Basic scheme, which ends at the first colon.
    if key.is_empty() || key.contains(':') || key.chars().any(char::is_control) {
        return Err(OptionsError::Invalid(
            "server_key must not be empty, nor contain a colon or control characters".into(),
        ));
    }
    Ok(key)
}

/// Checks the signing keys of session tokens and of refresh tokens.
fn checked_keys(settings: &mut Settings) -> Result<[Option<Secret>; 2], OptionsError> {
    let (text, path) = (settings.session_key.take(), settings.session_key_file.take());
    let session_key = checked_key("session_key", text, path)?;
    let (text, path) = (settings.refresh_key.take(), settings.refresh_key_file.take());
    let refresh_key = checked_key("refresh_key", text, path)?;
    if session_key.is_some() && session_key == refresh_key {
        return Err(OptionsError::Invalid(
            "session_key and refresh_key are the same; give two different keys, or a session token would pass as a \
             refresh token"
                .into(),
        ));
    }
    Ok([session_key, refresh_key])
}

fn checked_key(name: &str, text: Option<String>, path: Option<PathBuf>) -> Result<Option<Secret>, OptionsError> {
    // Editors and `echo` end a file with a newline that is not part of the key.
    let read = |path: &Path| Ok(std::fs::read(path)?.trim_ascii_end().to_vec());
    match secret(name, text.map(String::into_bytes), path, read)? {
        Some(bytes) if bytes.len() < KEY_BYTES_MIN => Err(OptionsError::Invalid(format!(
            "{name} has {} bytes; give at least {KEY_BYTES_MIN}, made at random",
            bytes.len()
        ))),
        bytes => Ok(bytes.map(Secret::new)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(arguments: &[&str]) -> Result<Options, OptionsError> {
        Options::from_arguments(std::iter::once("stentor").chain(arguments.iter().copied()).map(OsString::from))
    }

    fn with_file(text: &str, arguments: &[&str]) -> Result<Options, OptionsError> {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("stentor.toml");
        std::fs::write(&path, text).unwrap();
        parse(&[&["--config", path.to_str().unwrap()], arguments].concat())
    }

    /// Checks that every part of `expected` is in the error.
    fn check_error(result: Result<Options, OptionsError>, expected: &[&str]) {
        let error = result.unwrap_err().to_string();
        for part in expected {
            assert!(error.contains(part), "{part:?} is not in: {error}");
        }
    }

    #[test]
    fn defaults() {
        let options = parse(&[]).unwrap();
        assert_eq!(options.listen.to_string(), "127.0.0.1:7350");
        assert_eq!(options.admin.map(|admin| admin.to_string()).as_deref(), Some("127.0.0.1:7351"));
        assert_eq!(options.data, Path::new("./stentor-data"));
        assert_eq!((options.store, options.disk_reserve), (StoreKind::Embedded, 256 << 20));
        assert_eq!(options.room_members_max, 1000);
        assert_eq!(options.password_threads, 1);
        assert_eq!(options.server_key, "defaultkey");
        assert_eq!(options.session_ttl, Duration::from_secs(60));
        assert_eq!(options.refresh_ttl, Duration::from_secs(3600));
        assert_eq!((options.sends_per_second, options.sessions_per_user), (None, Some(SESSIONS_PER_USER_MAX)));
        let work = (options.work_per_session, options.work_per_user);
        assert_eq!(work, (Some(WORK_PER_SESSION_MAX), Some(WORK_PER_USER_MAX)));
        assert_eq!((options.session_key, options.refresh_key), (None, None));
    }

    #[test]
    fn a_flag_wins_over_the_file() {
        let file = "listen = '0.0.0.0:1'\nstore = 'memory'\nshards = 3\nsends_per_second = 7\nsessions_per_user = 0\nwork_per_session = 0\nwork_per_user = 7\nsession_ttl = 90\nrefresh_ttl = '2m'\n";
        let options =
            with_file(file, &["--listen", "[::1]:2", "--sends-per-second", "5", "--session-ttl", "1h"]).unwrap();
        assert_eq!(options.listen.to_string(), "[::1]:2");
        assert_eq!(options.store, StoreKind::Memory);
        assert_eq!(options.shards.get(), 3);
        assert_eq!(options.sends_per_second, NonZeroU32::new(5));
        assert_eq!(options.sessions_per_user, None, "0 is no limit");
        assert_eq!(options.memberships_per_user, Some(MEMBERSHIPS_PER_USER_MAX));
        assert_eq!((options.work_per_session, options.work_per_user), (None, NonZeroU32::new(7)));
        assert_eq!(options.session_ttl, Duration::from_secs(3600));
        assert_eq!(options.refresh_ttl, Duration::from_secs(120));
    }

    #[test]
    fn commands() {
        let command = |arguments: &[&str]| parse(arguments).unwrap().command;
        assert_eq!(command(&[]), Command::Serve);
        assert_eq!(command(&["schema"]), Command::Schema { apply: false });
        assert_eq!(command(&["schema", "--apply"]), Command::Schema { apply: true });
        assert_eq!(command(&["healthcheck"]), Command::HealthCheck);
        assert_eq!(command(&["import", "--data", "x"]), Command::Import(None));
        assert_eq!(command(&["import", "all.export"]), Command::Import(Some("all.export".into())));
        assert_eq!(command(&["export", "all.export", "--store", "scylla"]), Command::Export("all.export".into()));
        check_error(parse(&["export"]), &["stentor export FILE"]);
        check_error(parse(&["schema", "all.export"]), &["export", "import"]);
        check_error(parse(&["export", "all.export", "--apply"]), &["--apply"]);
        check_error(parse(&["--apply"]), &["--apply", "stentor schema"]);
        check_error(parse(&["sing"]), &["sing", "schema"]);
    }

    #[test]
    fn password_threads() {
        let of = |options: Options| options.password_threads;
        assert_eq!(of(with_file("password_threads = 64", &[]).unwrap()), 64);
        assert_eq!(of(with_file("password_threads = 7", &["--password-threads", "2"]).unwrap()), 2);
        for wrong in ["0", "65"] {
            check_error(parse(&["--password-threads", wrong]), &["password_threads", wrong, "1 to 64"]);
        }
    }

    #[test]
    fn room_members() {
        let of = |options: Options| options.room_members_max;
        assert_eq!(of(parse(&["--room-members-max", "1"]).unwrap()), 1);
        assert_eq!(of(with_file("room_members_max = 100000", &[]).unwrap()), 100_000);
        assert_eq!(of(with_file("room_members_max = 7", &["--room-members-max", "8"]).unwrap()), 8);
        for wrong in ["0", "100001"] {
            check_error(parse(&["--room-members-max", wrong]), &["room_members_max", wrong, "1 to 100000"]);
        }
        check_error(parse(&["--room-members-max", "many"]), &["--room-members-max", "many"]);
    }

    #[test]
    fn keep_alive() {
        let of = |options: Result<Options, OptionsError>| options.unwrap().keep_alive;
        assert_eq!(of(parse(&[])), Duration::from_secs(180));
        assert_eq!(of(parse(&["--keep-alive", "10m"])), Duration::from_secs(600));
        assert_eq!(of(with_file("keep_alive = 5", &[])), Duration::from_secs(5));
        assert_eq!(of(with_file("keep_alive = '1h'", &["--keep-alive", "620s"])), Duration::from_secs(620));
        check_error(parse(&["--keep-alive", "25h"]), &["keep_alive", "24h"]);
        check_error(parse(&["--keep-alive", "0"]), &["--keep-alive", "1s"]);
    }

    #[test]
    fn the_admin_address_may_be_off() {
        let check = |options: Result<Options, OptionsError>, expected: Option<&str>| {
            assert_eq!(options.unwrap().admin, expected.map(|address| address.parse().unwrap()));
        };
        check(parse(&["--admin", "off"]), None);
        check(parse(&["--admin", "[::1]:0"]), Some("[::1]:0"));
        check(with_file("admin = 'off'", &[]), None);
        check(with_file("admin = 'off'", &["--admin", "127.0.0.1:1"]), Some("127.0.0.1:1"));
        check_error(parse(&["--admin", "7351"]), &["--admin", "7351", "off"]);
        check_error(with_file("admin = 'on'", &[]), &["admin", "on", "off", "stentor.toml"]);
    }

    #[test]
    fn names_of_the_admin_address() {
        let check = |options: Result<Options, OptionsError>, expected: &[&str]| {
            assert_eq!(options.unwrap().admin_hosts, expected);
        };
        check(parse(&[]), &[]);
        check(parse(&["--admin-host", "a.example,b"]), &["a.example", "b"]);
        check(with_file("admin_host = ['a.example', 'b']", &[]), &["a.example", "b"]);
        check(with_file("admin_host = ['a.example']", &["--admin-host", "c"]), &["c"]);
        for wrong in ["a:7351", "a,", "", "a b", "http://a", "[::1]", "a/b"] {
            check_error(parse(&["--admin-host", wrong]), &["admin_host", "such as"]);
        }
    }

    #[test]
    fn proxies_that_are_trusted() {
        let of = |options: Result<Options, OptionsError>| options.unwrap().trusted_proxies;
        let trusted = |networks: &[&str]| TrustedProxies::new(networks.iter().map(|network| network.parse().unwrap()));
        assert_eq!(of(parse(&[])), TrustedProxies::default());
        assert_eq!(of(parse(&["--trusted-proxies", "10.0.0.0/8,::1"])), trusted(&["10.0.0.0/8", "::1"]));
        let file = "trusted_proxies = ['192.0.2.1']\nproxy_protocol = true";
        assert_eq!(of(with_file(file, &[])), trusted(&["192.0.2.1"]).introducing_clients());
        assert_eq!(of(with_file(file, &["--proxy-protocol=false"])), trusted(&["192.0.2.1"]));
        let flags = ["--proxy-protocol", "--trusted-proxies", "::1"];
        assert_eq!(of(parse(&flags)), trusted(&["::1"]).introducing_clients());
        for wrong in ["10.0.0.1/8", "10.0.0.0/33", "proxy.example.org", "::1,", "10.0.0.1 10.0.0.2", ""] {
            check_error(parse(&["--trusted-proxies", wrong]), &["trusted_proxies", "write"]);
        }
        let many = ["10.0.0.1"; NETWORKS_MAX + 1].join(",");
        check_error(parse(&["--trusted-proxies", &many]), &["trusted_proxies", "257", "256"]);
        check_error(parse(&["--proxy-protocol"]), &["proxy_protocol", "trusted_proxies"]);
        check_error(parse(&["--proxy-protocol=maybe", "--trusted-proxies", "::1"]), &["--proxy-protocol", "maybe"]);
    }

    #[test]
    fn times() {
        for (text, seconds) in [("90", 90), ("90s", 90), ("2m", 120), ("1h", 3600), ("1h 30m", 5400), ("1500ms", 1)] {
            assert_eq!(text.parse::<Ttl>(), Ok(Ttl(Duration::from_secs(seconds))), "{text}");
        }
        for text in ["", "soon", "0", "-1", "999ms", "367d", "90 s x"] {
            assert!(text.parse::<Ttl>().is_err(), "{text}");
        }
    }

    #[test]
    fn mistakes_are_named() {
        check_error(with_file("listn = '0.0.0.0:1'", &[]), &["listn", "listen", "stentor.toml"]);
        check_error(with_file("listen = 'nowhere'", &[]), &["listen", "stentor.toml"]);
        check_error(with_file("session_ttl = 'soon'", &[]), &["session_ttl", "90s"]);
        check_error(with_file("session_ttl = true", &[]), &["session_ttl", "90s"]);
        check_error(with_file("shards = 0", &[]), &["shards"]);
        check_error(with_file("sends_per_second = -1", &[]), &["sends_per_second"]);
        check_error(with_file("listen = ", &[]), &["stentor.toml"]);
        check_error(parse(&["--config", "/nonexistent/x.toml"]), &["/nonexistent/x.toml"]);
        check_error(parse(&["--listen", "7350"]), &["--listen", "'7350'", "such as 127.0.0.1:7350"]);
        check_error(parse(&["--listen", "localhost:7350"]), &["--listen", "such as 127.0.0.1:7350"]);
        check_error(parse(&["--store", "paper"]), &["paper", "embedded", "memory"]);
        check_error(parse(&["--shards", "257"]), &["shards", "256"]);
        check_error(parse(&["--server-key", "a:b"]), &["server_key", "colon"]);
        check_error(parse(&["--session-key", "short"]), &["session_key", "16"]);
        check_error(parse(&["--session-key-file", "/nonexistent/key"]), &["session_key_file", "/nonexistent/key"]);
        let same = ["--session-key", "0123456789abcdef", "--refresh-key", "0123456789abcdef"];
        check_error(parse(&same), &["session_key", "refresh_key", "different"]);
        let both = ["--session-key", "0123456789abcdef", "--session-key-file", "/nonexistent/key"];
        check_error(parse(&both), &["session_key_file", "both"]);
        check_error(parse(&["--frobnicate"]), &["--frobnicate"]);
    }

    #[test]
    fn keys_come_from_the_first_layer_that_names_one() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("key");
        std::fs::write(&path, "key-of-the-file-0123456789\n").unwrap();
        let file = format!("session_key_file = '{}'", path.display());
        let key = |options: Options| options.session_key.unwrap();
        assert_eq!(key(with_file(&file, &[]).unwrap()).bytes(), b"key-of-the-file-0123456789");
        let flag = ["--session-key", "key-of-the-flag-0123456789"];
        assert_eq!(key(with_file(&file, &flag).unwrap()).bytes(), b"key-of-the-flag-0123456789");
    }

    /// The environment belongs to a whole process, so these cases run in a process of their own.
    #[test]
    fn the_environment_lies_between_flags_and_file() {
        let child = std::process::Command::new(std::env::current_exe().unwrap())
            .args(["--ignored", "--exact", "options::tests::in_an_environment"])
            .env("STENTOR_LISTEN", "127.0.0.2:2")
            .env("STENTOR_SHARDS", "2")
            .env("STENTOR_ROOM_MEMBERS_MAX", "2222")
            .env("STENTOR_SESSION_KEY", "key-of-the-environment")
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&child.stdout);
        assert!(child.status.success() && said.contains("1 passed"), "{said}");
    }

    #[test]
    #[ignore = "run by the test above, in its environment"]
    fn in_an_environment() {
        let file = "listen = '127.0.0.3:3'\nshards = 3\nroom_members_max = 3\nstore = 'memory'\nsession_key = 'key-of-the-file-0123456789'";
        let options = with_file(file, &["--listen", "127.0.0.1:1"]).unwrap();
        assert_eq!(options.listen.to_string(), "127.0.0.1:1");
        assert_eq!(options.shards.get(), 2);
        assert_eq!(options.room_members_max, 2222);
        assert_eq!(options.store, StoreKind::Memory);
        assert_eq!(options.session_key.unwrap().bytes(), b"key-of-the-environment");
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("key");
        std::fs::write(&path, "key-of-the-flags-file").unwrap();
        let options = parse(&["--session-key-file", path.to_str().unwrap()]).unwrap();
        assert_eq!(options.session_key.unwrap().bytes(), b"key-of-the-flags-file");
    }

    #[test]
    fn files_with_secrets_are_known() {
        let directory = tempfile::tempdir().unwrap();
        let (path, config) = (directory.path().join("key"), directory.path().join("stentor.toml"));
        std::fs::write(&path, "key-of-the-file-0123456789").unwrap();
        let check = |file: &str, arguments: &[&str], expected: &[&str]| {
            std::fs::write(&config, file).unwrap();
            let given = ["--data", "data", "--config", config.to_str().unwrap()];
            let files = parse(&[&given, arguments].concat()).unwrap().secret_files();
            let names: Vec<_> = files.iter().map(|file| file.file_name().unwrap().to_str().unwrap()).collect();
            assert_eq!(names, expected, "{file} {arguments:?}");
        };
        let by_path = format!("session_key_file = '{}'", path.display());
        check("", &[], &["session.key", "refresh.key", "admin.token"]);
        check("admin = 'off'", &[], &["session.key", "refresh.key"]);
        check("store = 'memory'", &["--admin-token-file", "other.token"], &["other.token"]);
        check("store = 'memory'", &[], &[]);
        check(&by_path, &[], &["key", "refresh.key", "admin.token"]);
        check("", &["--refresh-key-file", path.to_str().unwrap()], &["key", "session.key", "admin.token"]);
        check("session_key = 'key-in-the-text-0123456789'", &[], &["stentor.toml", "refresh.key", "admin.token"]);
        check(&by_path, &["--session-key", "key-of-the-flag-0123456789"], &["refresh.key", "admin.token"]);
    }

    #[test]
    fn secrets_do_not_show() {
        let options = parse(&["--session-key", "key-of-the-flag-0123456789"]).unwrap();
        assert!(!format!("{options:?}").contains("key-of-the-flag"));
    }

    #[test]
    fn help_names_every_option_and_its_variable() {
        let help = Flags::command().render_long_help().to_string();
        let names =
            ["listen", "admin", "admin-host", "data", "store", "shards", "keep-alive", "server-key", "session-ttl"];
        let others = ["refresh-key-file", "config", "room-members-max", "sends-per-second", "trusted-proxies"];
        for name in names.into_iter().chain(others).chain([
            "work-per-session",
            "work-per-user",
            "admin-token-file",
            "drain-wait",
        ]) {
            assert!(help.contains(&format!("--{name} ")), "{name} is not in: {help}");
            let variable = format!("STENTOR_{}", name.to_uppercase().replace('-', "_"));
            assert!(help.contains(&variable), "{variable} is not in: {help}");
        }
    }
}
