//! What an operator may set. Each field of `Settings` is declared once: its flag, its environment variable, its key in the
//! configuration file, its help and its default. Help, `stentor config` and docs/configuration.md are made from it.
//!
//! Rules that tools read off a declaration (`declared.rs`): `value_name = "TIME"` is a time; `value_delimiter` makes a list;
//! `hide_env_values` marks a secret; `KEY` and `KEY_file` are two forms of one secret. A default is a `default_value` and
//! never stands in the help text. A key without a default says in its help what happens when it is not given.

use std::num::NonZeroU16;
use std::path::PathBuf;

use clap::Args;
use engine::limits::{
    MEMBERSHIPS_PER_USER_MAX, ROOM_MEMBERS_MAX, SESSIONS_PER_USER_MAX, WORK_PER_SESSION_MAX, WORK_PER_USER_MAX,
};
use storage::embedded::EmbeddedOptions;

use super::span::Span;
use super::values::{AdminAddress, GrpcAddress, Moment, Ttl, clock_skew, keep_alive, whole};
use super::{KEEP_ALIVE, StoreKind};
use crate::allowed_origins::AllowedOrigin;
use crate::database::DatabaseSettings;
use crate::listen_address::ListenAddress;
use crate::log_levels::LogLevels;
use crate::logging::LogFormat;
use crate::sign_in::Access;

/// Most shards of a server. The mesh between them grows with the square of their number.
pub(super) const SHARDS_MAX: NonZeroU16 = NonZeroU16::new(256).expect("it is not zero");
/// Most members of a room whose joins and leaves may be announced one by one. A joiner's list of that many members is
/// 15 MB.
const ROOM_MEMBERS_LIMIT: u32 = 100_000;
/// Least free space to keep on the disk, in MiB: one file of the store's journal.
const DISK_RESERVE_MIB_MIN: u32 = 64;
/// Threads that hash passwords, unless configured otherwise: one does some forty a second, and the cores belong to the
/// shards.
const PASSWORD_THREADS: usize = 1;
/// Most threads that hash passwords. Each takes 19 MiB while it hashes.
const PASSWORD_THREADS_MAX: usize = 64;

const ADDRESSES: &str = "Addresses and proxies";
const STOPPING: &str = "Stopping";
const KEPT: &str = "Store";
const LIMITS: &str = "Limits";
const LOG: &str = "Log";
const TOKENS: &str = "Sign-in and tokens";
const PROVIDER: &str = "Identity provider";
const SIGNING_KEYS: &str = "Signing keys (made at random and kept in the data directory unless given)";

// A doc comment here would be printed by `--help`.
#[derive(Args)]
pub(super) struct Settings {
    /// TOML file with any of these options
    #[arg(long, env = "STENTOR_CONFIG", value_name = "FILE")]
    pub config: Option<PathBuf>,

    /// Addresses to listen on, HTTP and WebSocket alike: HOST:PORT, :PORT for every address of the machine, or unix:PATH;
    /// with tls: in front for TLS
    #[arg(long, help_heading = ADDRESSES, env = "STENTOR_LISTEN", value_name = "ADDR,..", value_delimiter = ',')]
    #[arg(default_value = "localhost:7350")]
    pub listen: Vec<ListenAddress>,

    /// Address of the API in gRPC, one, written as one of --listen; `off` for none; without it, the first of --listen with the
    /// port below, which has TLS if that one has it
    #[arg(long, help_heading = ADDRESSES, env = "STENTOR_GRPC", value_name = "ADDR")]
    pub grpc: Option<GrpcAddress>,

    /// File with the certificate of the listeners with TLS, and those between it and the root, in PEM; without it, there is
    /// no TLS
    #[arg(long, help_heading = ADDRESSES, env = "STENTOR_TLS_CERT", value_name = "FILE")]
    pub tls_cert: Option<PathBuf>,

    /// File with the private key of that certificate, in PEM; without it, there is no TLS
    #[arg(long, help_heading = ADDRESSES, env = "STENTOR_TLS_KEY", value_name = "FILE")]
    pub tls_key: Option<PathBuf>,

    /// Let the kernel encrypt WebSockets of TLS 1.3 (kTLS); the server does not start if the kernel cannot
    #[arg(long, help_heading = ADDRESSES, env = "STENTOR_KTLS", value_name = "BOOL")]
    #[arg(num_args = 0..=1, require_equals = true, default_missing_value = "true", default_value = "false")]
    pub ktls: bool,

    /// Address and port where operators read the counters, at /metrics; `off` for none
    #[arg(long, help_heading = ADDRESSES, env = "STENTOR_ADMIN", value_name = "ADDR:PORT")]
    #[arg(default_value = "127.0.0.1:7351")]
    pub admin: AdminAddress,

    /// Names by which operators reach a loopback --admin, besides `localhost` and IP addresses; without it, there are none
    #[arg(long, help_heading = ADDRESSES, env = "STENTOR_ADMIN_HOST", value_name = "NAME,..", value_delimiter = ',')]
    pub admin_host: Option<Vec<String>>,

    /// File with the token of admin calls, made if missing; without it, `admin.token` in the data directory
    #[arg(long, help_heading = ADDRESSES, env = "STENTOR_ADMIN_TOKEN_FILE", value_name = "FILE")]
    pub admin_token_file: Option<PathBuf>,

    /// Proxies whose word on a client's address counts, such as 10.0.0.0/8,::1; without it, there are none
    #[arg(long, help_heading = ADDRESSES, env = "STENTOR_TRUSTED_PROXIES", value_name = "NET,..", value_delimiter = ',')]
    pub trusted_proxies: Option<Vec<String>>,

    /// Trusted proxies begin each connection with a header of the PROXY protocol, and those without are refused
    #[arg(long, help_heading = ADDRESSES, env = "STENTOR_PROXY_PROTOCOL", value_name = "BOOL")]
    #[arg(num_args = 0..=1, require_equals = true, default_missing_value = "true", default_value = "false")]
    pub proxy_protocol: bool,

    /// Origins whose pages may ask this server, such as `https://chat.example.org` or `https://*.example.org`; without it, pages of
    /// every origin may
    #[arg(long, help_heading = ADDRESSES, env = "STENTOR_ALLOWED_ORIGIN", value_name = "ORIGIN,..", value_delimiter = ',')]
    pub allowed_origin: Option<Vec<AllowedOrigin>>,

    /// How long an idle HTTP connection is kept; longer than balancers in front keep theirs
    #[arg(long, help_heading = ADDRESSES, env = "STENTOR_KEEP_ALIVE", value_name = "TIME", value_parser = keep_alive)]
    #[arg(default_value_t = Ttl(KEEP_ALIVE))]
    pub keep_alive: Ttl,

    /// How long a server that is to stop is only not ready, for balancers to see it; without it, 10s, or 0 if no client is
    /// connected and /readyz was never asked
    #[arg(long, help_heading = STOPPING, env = "STENTOR_DRAIN_WAIT", value_name = "TIME")]
    pub drain_wait: Option<Span>,

    /// Time over which a server that is to stop closes its sessions
    #[arg(long, help_heading = STOPPING, env = "STENTOR_DRAIN_TIME", value_name = "TIME", default_value = "0")]
    pub drain_time: Span,

    /// Where messages and accounts are kept
    #[arg(long, help_heading = KEPT, env = "STENTOR_STORE", value_name = "KIND", default_value = "embedded")]
    pub store: StoreKind,

    /// Directory of the embedded store and of the signing keys; made if missing
    #[arg(long, help_heading = KEPT, env = "STENTOR_DATA", value_name = "DIR", default_value = "./stentor-data")]
    pub data: PathBuf,

    /// MiB of the disk that stay free: with less, the embedded store refuses writes
    #[arg(long, help_heading = KEPT, env = "STENTOR_DISK_RESERVE", value_name = "MIB")]
    #[arg(value_parser = whole(DISK_RESERVE_MIB_MIN, u32::MAX), default_value_t = default_disk_reserve())]
    pub disk_reserve: u32,

    /// Serve what the embedded store has and write nothing, for a disk that is full or broken
    #[arg(long, help_heading = KEPT, env = "STENTOR_READ_ONLY", value_name = "BOOL")]
    #[arg(num_args = 0..=1, require_equals = true, default_missing_value = "true", default_value = "false")]
    pub read_only: bool,

    /// Wait while another server has the store, and take over when that server ends
    #[arg(long, help_heading = KEPT, env = "STENTOR_STANDBY", value_name = "BOOL")]
    #[arg(num_args = 0..=1, require_equals = true, default_missing_value = "true", default_value = "false")]
    pub standby: bool,

    /// Which lines the log has, such as info,gateway::sockets=debug: off, error, warn, info, debug or trace, for all or for a part
    #[arg(long, help_heading = LOG, env = "STENTOR_LOG_LEVEL", value_name = "LEVEL", default_value = "info")]
    pub log_level: LogLevels,

    /// The form of the log's lines
    #[arg(long, help_heading = LOG, env = "STENTOR_LOG_FORMAT", value_name = "FORMAT", default_value = "text")]
    pub log_format: LogFormat,

    /// How many shards, each pinned to a core; without it, one for each core that this process may use
    #[arg(long, help_heading = LIMITS, env = "STENTOR_SHARDS", value_name = "N")]
    #[arg(value_parser = whole(NonZeroU16::MIN, SHARDS_MAX))]
    pub shards: Option<NonZeroU16>,

    /// Threads that hash passwords; 128 sign-ins with a password wait for each
    #[arg(long, help_heading = LIMITS, env = "STENTOR_PASSWORD_THREADS", value_name = "N")]
    #[arg(value_parser = whole(1, PASSWORD_THREADS_MAX), default_value_t = PASSWORD_THREADS)]
    pub password_threads: usize,

    /// Visible members up to which a room names each of them to all; beyond, it counts and samples
    #[arg(long, help_heading = LIMITS, env = "STENTOR_ROOM_MEMBERS_MAX", value_name = "N")]
    #[arg(value_parser = whole(1, ROOM_MEMBERS_LIMIT), default_value_t = ROOM_MEMBERS_MAX as u32)]
    pub room_members_max: u32,

    /// Messages, updates and removals that one session may send in a second; 0 for no limit
    #[arg(long, help_heading = LIMITS, env = "STENTOR_SENDS_PER_SECOND", value_name = "N")]
    #[arg(value_parser = whole(0, u32::MAX), default_value = "0")]
    pub sends_per_second: u32,

    /// Milliseconds of work a second that one session may ask for; 0 for no limit
    #[arg(long, help_heading = LIMITS, env = "STENTOR_WORK_PER_SESSION", value_name = "MS")]
    #[arg(value_parser = whole(0, u32::MAX), default_value_t = WORK_PER_SESSION_MAX.get())]
    pub work_per_session: u32,

    /// Milliseconds of work a second that one user may ask each shard for; 0 for no limit
    #[arg(long, help_heading = LIMITS, env = "STENTOR_WORK_PER_USER", value_name = "MS")]
    #[arg(value_parser = whole(0, u32::MAX), default_value_t = WORK_PER_USER_MAX.get())]
    pub work_per_user: u32,

    /// Milliseconds of work a second that one client address may ask each shard for; 0 for no limit
    #[arg(long, help_heading = LIMITS, env = "STENTOR_WORK_PER_ADDRESS", value_name = "MS")]
    #[arg(value_parser = whole(0, u32::MAX), default_value = "0")]
    pub work_per_address: u32,

    /// Sessions that one user may have at a time on each shard; 0 for no limit
    #[arg(long, help_heading = LIMITS, env = "STENTOR_SESSIONS_PER_USER", value_name = "N")]
    #[arg(value_parser = whole(0, u32::MAX), default_value_t = SESSIONS_PER_USER_MAX.get())]
    pub sessions_per_user: u32,

    /// Memberships of channels that all sessions of one user may have at a time on each shard; 0 for no limit
    #[arg(long, help_heading = LIMITS, env = "STENTOR_MEMBERSHIPS_PER_USER", value_name = "N")]
    #[arg(value_parser = whole(0, u32::MAX), default_value_t = MEMBERSHIPS_PER_USER_MAX.get())]
    pub memberships_per_user: u32,

    /// WebSocket openings that the server lets in in a second; 0 for no limit
    #[arg(long, help_heading = LIMITS, env = "STENTOR_OPENINGS_PER_SECOND", value_name = "N")]
    #[arg(value_parser = whole(0, u32::MAX), default_value = "0")]
    pub openings_per_second: u32,

    /// Sign-ins that the server lets in in a second, good or not; 0 for no limit
    #[arg(long, help_heading = LIMITS, env = "STENTOR_SIGN_INS_PER_SECOND", value_name = "N")]
    #[arg(value_parser = whole(0, u32::MAX), default_value = "0")]
    pub sign_ins_per_second: u32,

    /// New accounts that the server makes in a second; 0 for no limit
    #[arg(long, help_heading = LIMITS, env = "STENTOR_ACCOUNTS_PER_SECOND", value_name = "N")]
    #[arg(value_parser = whole(0, u32::MAX), default_value = "0")]
    pub accounts_per_second: u32,

    /// Joins of channels that the server lets in in a second; 0 for no limit
    #[arg(long, help_heading = LIMITS, env = "STENTOR_JOINS_PER_SECOND", value_name = "N")]
    #[arg(value_parser = whole(0, u32::MAX), default_value = "0")]
    pub joins_per_second: u32,

    /// Key that client programs show to sign users in; it is no secret
    #[arg(long, help_heading = TOKENS, env = "STENTOR_SERVER_KEY", value_name = "KEY", default_value = "defaultkey")]
    pub server_key: String,

    /// How long a session token is valid, such as 90s, 2m, 1h or plain seconds
    #[arg(long, help_heading = TOKENS, env = "STENTOR_SESSION_TTL", value_name = "TIME", default_value = "1h")]
    pub session_ttl: Ttl,

    /// How long a refresh token is valid
    #[arg(long, help_heading = TOKENS, env = "STENTOR_REFRESH_TTL", value_name = "TIME", default_value = "1d")]
    pub refresh_ttl: Ttl,

    /// Close a session when the token that opened it ends
    #[arg(long, help_heading = TOKENS, env = "STENTOR_CLOSE_ON_EXPIRY", value_name = "BOOL")]
    #[arg(num_args = 0..=1, require_equals = true, default_missing_value = "true", default_value = "false")]
    pub close_on_expiry: bool,

    /// Who may sign in with a custom id: every client, users of the identity provider, or no client
    #[arg(long, help_heading = TOKENS, env = "STENTOR_CUSTOM_SIGN_IN", value_name = "WHO", default_value = "open")]
    pub custom_sign_in: Access,

    /// For whom a sign-in makes an account: every client, users of the identity provider, or no client
    #[arg(long, help_heading = TOKENS, env = "STENTOR_ACCOUNT_CREATION", value_name = "WHO", default_value = "open")]
    pub account_creation: Access,

    /// The `iss` in the tokens of the identity provider that signs users in; without it, there is no provider
    #[arg(long, help_heading = PROVIDER, env = "STENTOR_IDENTITY_ISSUER", value_name = "ISSUER")]
    pub identity_issuer: Option<String>,

    /// Names of this server at the provider: a token has one of them in `aud`; without it, no provider can be named
    #[arg(long, help_heading = PROVIDER, env = "STENTOR_IDENTITY_AUDIENCE", value_name = "NAME,..", value_delimiter = ',')]
    pub identity_audience: Option<Vec<String>>,

    /// Files with the provider's public keys, each a key as PEM or a JWK set; without it, no provider can be named
    #[arg(long, help_heading = PROVIDER, env = "STENTOR_IDENTITY_KEYS", value_name = "FILE,..", value_delimiter = ',')]
    pub identity_keys: Option<Vec<PathBuf>>,

    /// The claim whose text names a new account
    #[arg(long, help_heading = PROVIDER, env = "STENTOR_IDENTITY_NAME_CLAIM", value_name = "CLAIM")]
    #[arg(default_value = "preferred_username")]
    pub identity_name_claim: String,

    /// How far the provider's clock may differ
    #[arg(long, help_heading = PROVIDER, env = "STENTOR_IDENTITY_CLOCK_SKEW", value_name = "TIME")]
    #[arg(value_parser = clock_skew, default_value = "30s")]
    pub identity_clock_skew: Span,

    /// The provider's tokens open WebSockets without an exchange for a session token
    #[arg(long, help_heading = PROVIDER, env = "STENTOR_IDENTITY_DIRECT", value_name = "BOOL")]
    #[arg(num_args = 0..=1, require_equals = true, default_missing_value = "true", default_value = "false")]
    pub identity_direct: bool,

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

    /// Key that signed session tokens before; prefer --previous-session-key-file
    #[arg(long, help_heading = SIGNING_KEYS, env = "STENTOR_PREVIOUS_SESSION_KEY", value_name = "KEY", hide_env_values = true)]
    pub previous_session_key: Option<String>,

    /// File with the key that signed session tokens before
    #[arg(long, help_heading = SIGNING_KEYS, env = "STENTOR_PREVIOUS_SESSION_KEY_FILE", value_name = "FILE")]
    pub previous_session_key_file: Option<PathBuf>,

    /// When tokens of that key end, in UTC, such as 2026-12-31T18:00:00Z; without it, no previous key can be given
    #[arg(long, help_heading = SIGNING_KEYS, env = "STENTOR_PREVIOUS_SESSION_KEY_UNTIL", value_name = "MOMENT")]
    pub previous_session_key_until: Option<Moment>,

    /// Key that signed refresh tokens before; prefer --previous-refresh-key-file
    #[arg(long, help_heading = SIGNING_KEYS, env = "STENTOR_PREVIOUS_REFRESH_KEY", value_name = "KEY", hide_env_values = true)]
    pub previous_refresh_key: Option<String>,

    /// File with the key that signed refresh tokens before
    #[arg(long, help_heading = SIGNING_KEYS, env = "STENTOR_PREVIOUS_REFRESH_KEY_FILE", value_name = "FILE")]
    pub previous_refresh_key_file: Option<PathBuf>,

    /// When tokens of that key end, in UTC, such as 2026-12-31T18:00:00Z; without it, no previous key can be given
    #[arg(long, help_heading = SIGNING_KEYS, env = "STENTOR_PREVIOUS_REFRESH_KEY_UNTIL", value_name = "MOMENT")]
    pub previous_refresh_key_until: Option<Moment>,

    #[command(flatten)]
    pub database: DatabaseSettings,
}

fn default_disk_reserve() -> u32 {
    u32::try_from(EmbeddedOptions::default().free_bytes_min >> 20).unwrap_or(u32::MAX)
}
