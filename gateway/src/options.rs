//! The configuration, parsed once. A flag wins over the environment, the environment over the file, and the file over
//! the default.
//!
//! `settings.rs` declares every key once, `sources.rs` collects the values, and this file checks what concerns several keys.
//! The result is typed; no raw string goes further into the server. Every error says which setting is wrong and what to
//! write instead. Keys given as text never appear in `Debug` output.

mod admin_call;
mod commands;
mod declared;
mod file;
mod nearest;
mod secrets;
mod settings;
mod sign_in;
mod sources;
pub mod span;
mod values;
mod warnings;

use std::ffi::OsString;
use std::net::{IpAddr, SocketAddr};
use std::num::{NonZeroU16, NonZeroU32};
use std::path::PathBuf;
use std::time::Duration;

use clap::FromArgMatches;
use engine::limits::ClientLimits;
use engine::process_rates::ProcessRates;
use storage::embedded::EmbeddedOptions;
use storage::retention::Retention;

pub use self::admin_call::AdminCall;
use self::commands::CommandLine;
pub use self::commands::{ChannelOrder, Command, ConfigCommand, TokenCommand, command_line};
pub use self::declared::{Key, Kind, keys};
#[cfg(feature = "scylla")]
pub(crate) use self::secrets::secret;
pub(crate) use self::secrets::{KEY_BYTES, from_hex};
pub use self::secrets::{PreviousKey, Secret};
use self::secrets::{previous_key, signing_key};
use self::settings::Settings;
pub use self::sources::{Configuration, Setting, Source};
#[cfg(feature = "scylla")]
pub(crate) use self::values::whole;
use self::values::{AdminAddress, GrpcAddress};
pub use self::warnings::warnings;
use crate::allowed_origins::{AllowedOrigin, AllowedOrigins, ORIGINS_MAX};
use crate::database::{self, DatabaseOptions};
use crate::drain::Terms;
use crate::listen_address::{ListenAddress, Place};
use crate::log_levels::LogLevels;
use crate::logging::LogFormat;
use crate::sign_in::SignInTerms;
use crate::target::is_host;
use crate::terminal;
use crate::tls::TlsFiles;
use crate::trusted_proxies::{NETWORKS_MAX, TrustedProxies};

/// How long an idle HTTP connection is kept, unless configured otherwise. This is longer than nginx (60 s), AWS's
/// balancers (60 s), Traefik (90 s) and Caddy (2 min) keep their connections to the server. The side that sends
/// requests must be the first to close an idle connection; otherwise it may send a request on a connection that is just
/// being closed.
pub(crate) const KEEP_ALIVE: Duration = Duration::from_secs(180);

/// The names of the files in the data directory that keep signing keys which no option gives.
pub(crate) const SESSION_KEY_FILE: &str = "session.key";
pub(crate) const REFRESH_KEY_FILE: &str = "refresh.key";
/// The name of the file there that keeps the token of admin calls.
pub(crate) const ADMIN_TOKEN_FILE: &str = "admin.token";

/// The server's checked configuration.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Options {
    pub command: Command,
    pub listen: Vec<ListenAddress>,
    /// Where the API in gRPC listens, if it does.
    pub grpc: Option<Grpc>,
    /// The certificate and key of listeners with TLS; `None` if there are no such listeners.
    pub tls: Option<TlsFiles>,
    pub ktls: bool,
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
    /// The origins whose pages may ask this server.
    pub allowed_origins: AllowedOrigins,
    pub data: PathBuf,
    pub store: StoreKind,
    /// Bytes of the data directory's disk that stay free: with less, the embedded store refuses writes.
    pub disk_reserve: u64,
    /// Whether the embedded store is only read.
    pub read_only: bool,
    /// Whether to wait for a store that another server has.
    pub standby: bool,
    /// Where and how, for `StoreKind::Scylla`.
    pub database: DatabaseOptions,
    /// Which log lines are written.
    pub log_level: LogLevels,
    pub log_format: LogFormat,
    pub shards: NonZeroU16,
    /// How long an HTTP connection waits for its next request.
    pub keep_alive: Duration,
    /// How many threads hash passwords.
    pub password_threads: usize,
    /// Visible members up to which joins and leaves are announced one by one.
    pub room_members_max: usize,
    /// What one session, user or address may do.
    pub client_limits: ClientLimits,
    /// What the whole process lets in in a second.
    pub process_rates: ProcessRates,
    pub server_key: String,
    pub session_ttl: Duration,
    pub refresh_ttl: Duration,
    /// `None`: the key is made at random on the first start and kept in the data directory.
    pub session_key: Option<Secret>,
    pub refresh_key: Option<Secret>,
    /// The keys that were in use before, until their end.
    pub previous_session_key: Option<PreviousKey>,
    pub previous_refresh_key: Option<PreviousKey>,
    /// Whether a session ends with the token that opened it.
    pub close_on_expiry: bool,
    pub sign_in: SignInTerms,
    /// Each key's value and source.
    pub configuration: Configuration,
}

/// The address of the API in gRPC.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Grpc {
    pub address: ListenAddress,
    /// Whether the operator has named it. If not, the server can do without.
    pub is_asked_for: bool,
}

/// The kind of store.
#[derive(Clone, Copy, PartialEq, Eq, Debug, clap::ValueEnum)]
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

/// The configuration is invalid.
#[derive(Debug, thiserror::Error)]
pub enum OptionsError {
    /// Wrong flags. `--help` and `--version` are also reported this way.
    #[error(transparent)]
    Arguments(#[from] clap::Error),
    /// Mistakes in the environment and in the file, or values that do not fit each other; a line for each.
    #[error("{}", .0.join("\n"))]
    Mistakes(Vec<String>),
    #[error("{0}")]
    Invalid(String),
}

impl OptionsError {
    /// Prints the error, or the text that `--help` asks for, and ends the process.
    pub fn exit(self) -> ! {
        match self {
            Self::Arguments(error) => error.exit(),
            error => {
                error.to_string().lines().for_each(|line| terminal::tell(&format!("stentor: {line}")));
                std::process::exit(2)
            }
        }
    }
}

impl Options {
    /// Reads the process's arguments, its environment, and the file they name.
    pub fn from_process() -> Result<Self, OptionsError> {
        Self::from_arguments(std::env::args_os())
    }

    /// Like `from_process`, with these arguments. The first is the program's name.
    pub(crate) fn from_arguments(arguments: impl IntoIterator<Item = OsString>) -> Result<Self, OptionsError> {
        let (arguments, environment): (Vec<_>, Vec<_>) =
            (arguments.into_iter().collect(), std::env::vars_os().collect());
        let (matches, configuration) = sources::resolve(&arguments, &environment)?;
        let given = CommandLine::from_arg_matches(&matches)?;
        Self::checked(given.task(), given.settings, configuration)
    }

    /// All that is wrong is told at once.
    fn checked(command: Command, mut settings: Settings, configuration: Configuration) -> Result<Self, OptionsError> {
        let mut mistakes = Mistakes::default();
        let (text, path) = (settings.session_key.take(), settings.session_key_file.take());
        let session_key = mistakes.of(signing_key("session_key", text, path));
        let (text, path) = (settings.refresh_key.take(), settings.refresh_key_file.take());
        let refresh_key = mistakes.of(signing_key("refresh_key", text, path));
        if session_key.is_some() && session_key == refresh_key {
            mistakes.add(
                "session_key and refresh_key are the same; give two different keys, or a session token would pass as a \
                 refresh token",
            );
        }
        let previous_session_key = mistakes.of(previous_key(
            "session_key",
            settings.previous_session_key.take(),
            settings.previous_session_key_file.take(),
            settings.previous_session_key_until,
            session_key.as_ref(),
        ));
        let previous_refresh_key = mistakes.of(previous_key(
            "refresh_key",
            settings.previous_refresh_key.take(),
            settings.previous_refresh_key_file.take(),
            settings.previous_refresh_key_until,
            refresh_key.as_ref(),
        ));
        let sign_in = mistakes.of(sign_in::checked(&mut settings));
        let database = mistakes.of(settings.database.checked());
        if settings.store == StoreKind::Memory && database::retention(&database) != Retention::default() {
            mistakes.add(
                "the memory store keeps messages until the server stops; take retention_room, retention_group and \
                 retention_direct out, or choose another store",
            );
        }
        if settings.read_only && settings.store != StoreKind::Embedded {
            mistakes.add("read_only is for the embedded store; take it out");
        }
        if settings.standby && settings.store == StoreKind::Memory {
            mistakes.add("standby needs a store that servers share; take it out");
        }
        let grpc = grpc_address(settings.grpc.take(), &settings.listen);
        let admin = match settings.admin {
            AdminAddress::At(address) => Some(address),
            AdminAddress::Off => None,
        };
        mistakes.of(checked_places(&settings.listen, grpc.as_ref(), admin));
        let is_secured = settings.listen.iter().any(|address| address.secured);
        let listen = settings.listen.iter().chain(grpc.iter().map(|grpc| &grpc.address));
        let tls = mistakes.of(checked_tls(listen, settings.tls_cert, settings.tls_key));
        let ktls = mistakes.of(checked_ktls(settings.ktls, is_secured));
        let admin_hosts = mistakes.of(checked_admin_hosts(settings.admin_host));
        let trusted_proxies = mistakes.of(checked_proxies(settings.trusted_proxies, settings.proxy_protocol));
        let allowed_origins = mistakes.of(checked_origins(settings.allowed_origin));
        let server_key = mistakes.of(checked_server_key(settings.server_key));
        mistakes.end(&configuration)?;
        Ok(Self {
            command,
            sign_in,
            database,
            tls,
            ktls,
            grpc,
            listen: settings.listen,
            admin,
            admin_hosts,
            admin_token_file: settings.admin_token_file,
            drain: Terms { wait: settings.drain_wait.map(|wait| wait.0), time: Some(settings.drain_time.0) },
            trusted_proxies,
            allowed_origins,
            data: settings.data,
            store: settings.store,
            read_only: settings.read_only,
            standby: settings.standby,
            disk_reserve: u64::from(settings.disk_reserve) << 20,
            log_level: settings.log_level,
            log_format: settings.log_format,
            shards: settings.shards.unwrap_or_else(shards_for_cores),
            keep_alive: settings.keep_alive.0,
            password_threads: settings.password_threads,
            room_members_max: settings.room_members_max as usize,
            client_limits: ClientLimits {
                sends_per_second: NonZeroU32::new(settings.sends_per_second),
                work_per_session: NonZeroU32::new(settings.work_per_session),
                work_per_user: NonZeroU32::new(settings.work_per_user),
                work_per_address: NonZeroU32::new(settings.work_per_address),
                sessions_per_user_max: NonZeroU32::new(settings.sessions_per_user),
                memberships_per_user_max: NonZeroU32::new(settings.memberships_per_user),
            },
            process_rates: ProcessRates {
                openings: NonZeroU32::new(settings.openings_per_second),
                sign_ins: NonZeroU32::new(settings.sign_ins_per_second),
                accounts: NonZeroU32::new(settings.accounts_per_second),
                joins: NonZeroU32::new(settings.joins_per_second),
            },
            server_key,
            session_ttl: settings.session_ttl.0,
            refresh_ttl: settings.refresh_ttl.0,
            session_key,
            refresh_key,
            previous_session_key,
            previous_refresh_key,
            close_on_expiry: settings.close_on_expiry,
            configuration,
        })
    }

    /// The files that hold secrets of this server. Those in the data directory need not be there yet.
    pub fn secret_files(&self) -> Vec<PathBuf> {
        let kept = [(&self.session_key, SESSION_KEY_FILE), (&self.refresh_key, REFRESH_KEY_FILE)];
        let kept = kept.into_iter().filter(|(given, _)| given.is_none() && self.store != StoreKind::Memory);
        let keys = self.configuration.secret_files().into_iter().chain(kept.map(|(_, name)| self.data.join(name)));
        let keys = keys.chain(self.tls.iter().map(|files| files.key.clone()));
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

    /// The options of the embedded store that these options say: how much of the disk stays free, and how long messages are
    /// kept. All others have their defaults.
    pub fn embedded_store(&self) -> EmbeddedOptions {
        let retention = self.retention();
        EmbeddedOptions { free_bytes_min: self.disk_reserve, retention, ..EmbeddedOptions::default() }
    }

    /// How long messages are kept, in either store that keeps them.
    pub fn retention(&self) -> Retention {
        database::retention(&self.database)
    }
}

/// What is wrong with the values together, a line for each.
#[derive(Default)]
struct Mistakes(Vec<String>);

impl Mistakes {
    /// The value, or a stand-in for one that is wrong: it is never used, as `end` fails.
    fn of<T: Default>(&mut self, checked: Result<T, OptionsError>) -> T {
        checked.unwrap_or_else(|error| {
            self.0.push(error.to_string());
            T::default()
        })
    }

    fn add(&mut self, line: &str) {
        self.0.push(line.to_owned());
    }

    /// Fails if there is one. A line whose key stands in the file or in the environment says where.
    fn end(self, configuration: &Configuration) -> Result<(), OptionsError> {
        if self.0.is_empty() {
            return Ok(());
        }
        let placed = |line: String| match configuration.place_of_first_key(&line) {
            Some(place) => format!("{place}: {line}"),
            None => line,
        };
        Err(OptionsError::Mistakes(self.0.into_iter().map(placed).collect()))
    }
}

/// No address may be listened on twice. Names are not looked up for that.
fn checked_places(
    listen: &[ListenAddress],
    grpc: Option<&Grpc>,
    admin: Option<SocketAddr>,
) -> Result<(), OptionsError> {
    let mut taken: Vec<(SocketAddr, String)> = admin.into_iter().map(|at| (at, format!("admin {at}"))).collect();
    let grpc = grpc.filter(|grpc| grpc.is_asked_for).map(|grpc| ("grpc", &grpc.address));
    for (key, address) in listen.iter().map(|address| ("listen", address)).chain(grpc) {
        let known = address.known_addresses();
        for at in &known {
            if let Some((_, other)) = taken.iter().find(|(other, _)| overlap(*other, *at)) {
                let text = format!("{key} {address} and {other} take the same port; give each a port of its own");
                return Err(OptionsError::Invalid(text));
            }
        }
        taken.extend(known.into_iter().map(|at| (at, format!("{key} {address}"))));
    }
    Ok(())
}

/// Whether two sockets cannot listen on these addresses.
fn overlap(one: SocketAddr, other: SocketAddr) -> bool {
    let covers = |one: IpAddr, other: IpAddr| one.is_unspecified() && (one.is_ipv6() || other.is_ipv4());
    let (first, second) = (one.ip(), other.ip());
    one.port() != 0 && one.port() == other.port() && (first == second || covers(first, second) || covers(second, first))
}

/// The address of gRPC. Unless the operator has named one, it is the first address with a port, with the port below it; if
/// the kernel chooses that port, it chooses this one too.
fn grpc_address(given: Option<GrpcAddress>, listen: &[ListenAddress]) -> Option<Grpc> {
    match given {
        Some(GrpcAddress::Off) => None,
        Some(GrpcAddress::At(address)) => Some(Grpc { address, is_asked_for: true }),
        None => listen.iter().find_map(|address| match &address.place {
            Place::Tcp { host, port } if *port != 1 => {
                let place = Place::Tcp { host: host.clone(), port: port.saturating_sub(1) };
                Some(Grpc { address: ListenAddress { place, secured: address.secured }, is_asked_for: false })
            }
            _ => None,
        }),
    }
}

fn checked_tls<'a>(
    mut listen: impl Iterator<Item = &'a ListenAddress>,
    certificate: Option<PathBuf>,
    key: Option<PathBuf>,
) -> Result<Option<TlsFiles>, OptionsError> {
    let secured = listen.find(|address| address.secured);
    let invalid = |text: String| Err(OptionsError::Invalid(text));
    match (secured, certificate, key) {
        (None, None, None) => Ok(None),
        (Some(_), Some(certificate), Some(key)) => Ok(Some(TlsFiles { certificate, key })),
        (Some(address), ..) => invalid(format!("{address} is an address with TLS: give tls_cert and tls_key as well")),
        (None, ..) => invalid(
            "tls_cert and tls_key are for listeners with TLS, and listen has none: write tls: in front of an address, such as \
             tls::443"
                .into(),
        ),
    }
}

fn checked_ktls(ktls: bool, is_secured: bool) -> Result<bool, OptionsError> {
    if ktls && !is_secured {
        return Err(OptionsError::Invalid("ktls is for listeners with TLS, and listen has none: take it out".into()));
    }
    Ok(ktls)
}

/// The port does not matter, so the names have none. An IP address is accepted without being named.
fn checked_admin_hosts(given: Option<Vec<String>>) -> Result<Vec<String>, OptionsError> {
    let names = given.unwrap_or_default();
    match names.iter().find(|name| !is_host(name.as_bytes()) || name.contains([':', '[', '%', '*'])) {
        None => Ok(names),
        Some(name) => Err(OptionsError::Invalid(format!(
            "admin_host has {name:?}; give names of hosts without ports, such as metrics.example.org, with commas between them"
        ))),
    }
}

fn checked_proxies(given: Option<Vec<String>>, introduce: bool) -> Result<TrustedProxies, OptionsError> {
    let named = given.unwrap_or_default();
    if named.len() > NETWORKS_MAX {
        let message = format!("trusted_proxies has {} networks; give at most {NETWORKS_MAX}", named.len());
        return Err(OptionsError::Invalid(message));
    }
    let networks = named.iter().map(|text| text.parse()).collect::<Result<Vec<_>, String>>();
    let proxies = networks.map_err(|error| OptionsError::Invalid(format!("trusted_proxies: {error}")))?;
    match (TrustedProxies::new(proxies), introduce) {
        (proxies, true) if proxies.is_empty() => {
            Err(OptionsError::Invalid("proxy_protocol is for trusted proxies; name them with trusted_proxies".into()))
        }
        (proxies, true) => Ok(proxies.introducing_clients()),
        (proxies, false) => Ok(proxies),
    }
}

fn checked_origins(given: Option<Vec<AllowedOrigin>>) -> Result<AllowedOrigins, OptionsError> {
    let origins = given.unwrap_or_default();
    if origins.len() > ORIGINS_MAX {
        let message = format!("allowed_origin has {} origins; give at most {ORIGINS_MAX}", origins.len());
        return Err(OptionsError::Invalid(message));
    }
    Ok(AllowedOrigins::new(origins))
}

/// One shard for each core. `available_parallelism` respects affinity masks and a container's CPU quota.
fn shards_for_cores() -> NonZeroU16 {
    let cores = std::thread::available_parallelism().map_or(1, |cores| cores.get());
    let shards = u16::try_from(cores).unwrap_or(u16::MAX).min(settings::SHARDS_MAX.get());
    NonZeroU16::new(shards).unwrap_or(NonZeroU16::MIN)
}

fn checked_server_key(key: String) -> Result<String, OptionsError> {
    // The key is sent as the user name of HTTP's Basic scheme, which ends at the first colon.
    if key.is_empty() || key.contains(':') || key.chars().any(char::is_control) {
        return Err(OptionsError::Invalid(
            "server_key must not be empty, nor contain a colon or control characters".into(),
        ));
    }
    Ok(key)
}

#[cfg(test)]
pub(crate) mod tests;
