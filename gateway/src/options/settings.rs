//! What an operator may set. Each field of `Settings` is declared once: its flag, its environment variable, its key in the
//! configuration file, its help and its default. Help, `stentor config` and docs/configuration.md are made from it.
//!
//! Rules that tools read off a declaration (`declared.rs`): `value_name = "TIME"` is a time; `value_delimiter` makes a list;
//! `hide_env_values` marks a secret; `KEY` and `KEY_file` are two forms of one secret. A default is a `default_value` and
//! never stands in the help text. A key without a default says in its help what happens when it is not given.

use std::net::SocketAddr;
use std::num::NonZeroU16;
use std::path::PathBuf;

use clap::Args;
use engine::limits::{
    MEMBERSHIPS_PER_USER_MAX, ROOM_MEMBERS_MAX, SESSIONS_PER_USER_MAX, WORK_PER_SESSION_MAX, WORK_PER_USER_MAX,
};
use storage::embedded::EmbeddedOptions;

use super::span::Span;
use super::values::{AdminAddress, Ttl, address, keep_alive, whole};
use super::{KEEP_ALIVE, StoreKind};
use crate::database::DatabaseSettings;

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
const TOKENS: &str = "Sign-in and tokens";
const SIGNING_KEYS: &str = "Signing keys (made at random and kept in the data directory unless given)";

// A doc comment here would be printed by `--help`.
#[derive(Args)]
pub(super) struct Settings {
    /// TOML file with any of these options
    #[arg(long, env = "STENTOR_CONFIG", value_name = "FILE")]
    pub config: Option<PathBuf>,

    /// Address and port to listen on, HTTP and WebSocket alike
    #[arg(long, help_heading = ADDRESSES, env = "STENTOR_LISTEN", value_name = "ADDR:PORT", value_parser = address)]
    #[arg(default_value = "127.0.0.1:7350")]
    pub listen: SocketAddr,

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

    /// Key that client programs show to sign users in; it is no secret
    #[arg(long, help_heading = TOKENS, env = "STENTOR_SERVER_KEY", value_name = "KEY", default_value = "defaultkey")]
    pub server_key: String,

    /// How long a session token is valid, such as 90s, 2m, 1h or plain seconds
    #[arg(long, help_heading = TOKENS, env = "STENTOR_SESSION_TTL", value_name = "TIME", default_value = "60s")]
    pub session_ttl: Ttl,

    /// How long a refresh token is valid
    #[arg(long, help_heading = TOKENS, env = "STENTOR_REFRESH_TTL", value_name = "TIME", default_value = "1h")]
    pub refresh_ttl: Ttl,

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

    #[command(flatten)]
    pub database: DatabaseSettings,
}

fn default_disk_reserve() -> u32 {
    u32::try_from(EmbeddedOptions::default().free_bytes_min >> 20).unwrap_or(u32::MAX)
}
