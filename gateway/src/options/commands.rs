//! The command line: what the process is to do, and the flags, which may stand before or behind the command.

use std::ffi::OsString;
use std::path::PathBuf;

use clap::{Args, CommandFactory, Parser, Subcommand};
use engine::limits::USERNAME_BYTES_MAX;
use uuid::Uuid;

use super::declared::CONFIG;
use super::settings::Settings;
use super::span::Span;
use super::values::{Ttl, uuid};
use crate::database::DatabaseSettings;
use crate::log_levels::LogLevels;
use crate::version;

/// The task of this process.
#[derive(Clone, PartialEq, Eq, Debug, Subcommand)]
pub enum Command {
    /// Run the server; so does `stentor` without a command
    Serve,
    /// Write everything that the store has to FILE; begun again, it goes on where it was
    Export {
        /// The file that is to be written
        file: PathBuf,
    },
    /// Fill an empty store from FILE, an export, or the database from the embedded store
    ///
    /// Moves everything from FILE, an export, to an empty store. Without FILE it moves everything from the embedded store
    /// in --data to the database. Begun again, it goes on where it was.
    Import {
        /// The export that is to be read
        file: Option<PathBuf>,
    },
    /// Print the database's tables as CQL; with --apply, make them or bring them up to date
    #[command(hide = cfg!(not(feature = "scylla")))]
    Schema {
        /// Make the tables, or bring them up to date
        #[arg(long)]
        apply: bool,
    },
    /// Ask the server that listens on --listen whether it is ready: exit code 0 if it is
    #[command(name = "healthcheck")]
    HealthCheck,
    /// Ask the server at --admin how it is
    Status,
    /// Let the server at --admin drain and stop
    Drain {
        /// Begin no drain, but tell how far it is
        #[arg(long, conflicts_with_all = ["wait", "time"])]
        status: bool,

        /// How long /readyz is 503 before sessions are closed; without it, the server's --drain-wait
        #[arg(long, value_name = "TIME")]
        wait: Option<Span>,

        /// The time over which sessions are closed; without it, the server's --drain-time
        #[arg(long, value_name = "TIME")]
        time: Option<Span>,
    },
    /// Ask the server at --admin which log lines it writes, or let it write others
    #[command(name = "log-level")]
    LogLevel {
        /// The levels from now on, until the next SIGHUP or start, such as info,gateway::sockets=debug
        levels: Option<LogLevels>,
    },
    /// Make and check tokens of users
    #[command(subcommand)]
    Token(TokenCommand),
    /// Let the server at --admin copy its embedded store into DIR, which must not be there yet
    ///
    /// The server goes on meanwhile. The copy has everything that was acknowledged before. DIR is a directory of the
    /// machine on which the server runs, and the server's user must be able to make it.
    Backup {
        /// The directory that is to be made
        directory: PathBuf,

        /// Copy the signing keys too, so that users of the restored server stay signed in; keep such a backup secret
        #[arg(long)]
        keys: bool,
    },
    /// Let the server at --admin erase a user: the account, and everything that the user has written
    ///
    /// Deletes the account as its user would, and waits until every trace of it in the store is gone. This cannot be taken
    /// back. docs/operations.md lists the traces, and those that stay: in backups, and in logs.
    Erase {
        /// The user's id or username
        #[arg(long, value_name = "ID-OR-NAME")]
        user: String,
    },
    /// Ask the server at --admin for its largest or busiest channels
    Channels {
        /// What comes first: most members, or most messages a second
        #[arg(long, value_name = "ORDER", default_value = "members")]
        by: ChannelOrder,

        /// Channels on the page, at most 1000
        #[arg(long, value_name = "N")]
        limit: Option<u16>,

        /// The `cursor` of the page before
        #[arg(long)]
        cursor: Option<String>,
    },
    /// Ask the server at --admin for the sessions of a user
    User {
        /// The user's id or username
        user: String,
    },
    /// Let the server at --admin close the sessions of a user, or one session
    Disconnect {
        /// The user's id or username
        #[arg(long, value_name = "ID-OR-NAME", required_unless_present = "session", conflicts_with = "session")]
        user: Option<String>,

        /// The session's id
        #[arg(long, value_name = "ID", value_parser = uuid)]
        session: Option<Uuid>,

        /// What the clients read, in at most 123 bytes
        #[arg(long, value_name = "TEXT")]
        reason: Option<String>,
    },
    /// Make the data directory --data from DIR, a backup; refuses to overwrite anything
    Restore {
        /// The backup
        directory: PathBuf,
    },
    /// Read everything in DIR, a backup or the data directory of a stopped server; exit code 1 if something is unreadable
    Verify {
        /// The directory; without it, --data
        directory: Option<PathBuf>,
    },
    /// Check, print and document the configuration
    #[command(subcommand)]
    Config(ConfigCommand),
}

/// What comes first in a list of channels.
#[derive(Clone, Copy, PartialEq, Eq, Debug, clap::ValueEnum)]
pub enum ChannelOrder {
    /// Most members.
    Members,
    /// Most messages a second.
    Rate,
}

impl ChannelOrder {
    /// The name on the command line and in calls.
    pub fn name(self) -> &'static str {
        match self {
            Self::Members => "members",
            Self::Rate => "rate",
        }
    }
}

/// What to do with tokens.
#[derive(Clone, PartialEq, Eq, Debug, Subcommand)]
pub enum TokenCommand {
    /// Print a session token for a user
    ///
    /// Signs with the key of the data directory, or with --session-key-file. The server is not asked: nothing checks that there
    /// is such a user. A person who has the token acts as that user until it ends.
    New {
        /// The user's id, a UUID
        #[arg(long, value_name = "ID", value_parser = uuid)]
        user: Uuid,

        /// The username that sessions show
        #[arg(long, value_name = "NAME", value_parser = username)]
        username: String,

        /// How long the token is valid; without it, as long as --session-ttl
        #[arg(long, value_name = "TIME")]
        lifetime: Option<Ttl>,

        /// A pair of text that the token carries; may be given several times
        #[arg(long = "var", value_name = "KEY=VALUE", value_parser = pair)]
        vars: Vec<(String, String)>,

        /// Print a refresh token, too, in a second line
        #[arg(long)]
        refresh: bool,
    },
    /// Say what a token is, whose, until when, and whether it is valid
    ///
    /// The exit code is 0 if the token is valid, and 1 if it is not. The server is not asked, so a logout is not seen.
    Check {
        /// The token, or `-` to read it from standard input, where other users of this machine do not see it
        token: String,
    },
}

fn username(text: &str) -> Result<String, String> {
    let good = (1..=USERNAME_BYTES_MAX).contains(&text.len()) && !text.chars().any(|letter| letter.is_ascii_control());
    if good { Ok(text.to_owned()) } else { Err("write 1 to 128 bytes without control characters".into()) }
}

fn pair(text: &str) -> Result<(String, String), String> {
    let (key, value) = text.split_once('=').ok_or("write KEY=VALUE")?;
    Ok((key.to_owned(), value.to_owned()))
}

/// What to do with the configuration.
#[derive(Clone, PartialEq, Eq, Debug, Subcommand)]
pub enum ConfigCommand {
    /// Read the configuration as a start would, and print errors and warnings
    ///
    /// Reads flags, environment, the configuration file and the files of secrets as a start would, and prints all errors and
    /// warnings. Starts nothing and changes nothing. The exit code is 2 if there are errors. It is 1 with --strict if there
    /// are warnings, and 0 otherwise.
    Check {
        /// End with exit code 1 if there are warnings
        #[arg(long)]
        strict: bool,
    },
    /// Print every key with its value and where it came from, as TOML without secrets
    Print,
    /// Print a configuration file with all keys, their help and their defaults
    Default,
    /// Print the documentation page of all options, in Markdown
    Docs,
    /// Print the completion script for a shell
    Completion {
        /// The shell
        shell: clap_complete::Shell,
    },
    /// Print the manual page
    Man,
}

/// The options that give signing keys.
const OF_SIGNING_KEYS: [&str; 10] = [
    "session_key",
    "session_key_file",
    "refresh_key",
    "refresh_key_file",
    "previous_session_key",
    "previous_session_key_file",
    "previous_session_key_until",
    "previous_refresh_key",
    "previous_refresh_key_file",
    "previous_refresh_key_until",
];

/// A realtime chat server for huge live events. Speaks Nakama's chat protocol: HTTP and WebSocket on one port.
///
/// Every option can also be set by an environment variable or by a key of the same name (with underscores) in the
/// TOML file given by --config. Keys of the database stand in the table `database` (docs/scylla.md). A flag wins over
/// the environment, the environment over the file. `stentor config` checks, prints and documents the configuration.
#[derive(Parser)]
#[command(name = "stentor", version = version::TEXT, max_term_width = 100)]
pub(super) struct CommandLine {
    #[command(subcommand)]
    command: Option<Command>,

    #[command(flatten)]
    pub settings: Settings,
}

impl CommandLine {
    /// What the process is to do.
    pub fn task(&self) -> Command {
        self.command.clone().unwrap_or(Command::Serve)
    }

    /// Whether the command depends on the configuration. Those that print what is declared do not.
    pub fn reads_configuration(&self) -> bool {
        let Command::Config(command) = self.task() else { return true };
        matches!(command, ConfigCommand::Check { .. } | ConfigCommand::Print)
    }
}

/// The command line for clap. All flags hold for all commands.
pub fn command_line() -> clap::Command {
    CommandLine::command().mut_args(|arg| arg.global(true))
}

/// The help that these arguments ask for. A command's help has the flags that the command looks at.
pub(super) fn help(arguments: &[OsString]) -> Option<clap::Error> {
    let mut command = command_line();
    // Hands the flags on to the commands, which have none before.
    command.build();
    let of_database = DatabaseSettings::augment_args(clap::Command::new("section"));
    let database: Vec<&str> = of_database.get_arguments().map(|arg| arg.get_id().as_str()).collect();
    let of_store = [&["store", "data", "disk_reserve", CONFIG], &database[..]].concat();
    let provider =
        ["identity_issuer", "identity_audience", "identity_keys", "identity_name_claim", "identity_clock_skew"];
    let of_tokens = [&["data", "store", CONFIG, "session_ttl", "refresh_ttl"], &OF_SIGNING_KEYS[..]].concat();
    let of_check = [&of_tokens[..], &provider[..]].concat();
    let of_calls = ["admin", "admin_token_file", "data", "store", CONFIG];
    let command = command
        .mut_subcommand("export", |command| only(command, &of_store))
        .mut_subcommand("import", |command| only(command, &of_store))
        .mut_subcommand("schema", |command| only(command, &[&[CONFIG], &database[..]].concat()))
        .mut_subcommand("healthcheck", |command| only(command, &["listen", "admin", CONFIG]))
        .mut_subcommand("status", |command| only(command, &of_calls))
        .mut_subcommand("drain", |command| only(command, &of_calls))
        .mut_subcommand("log-level", |command| only(command, &of_calls))
        .mut_subcommand("token", |command| {
            let command = only(command, &of_check).mut_subcommand("new", |command| only(command, &of_tokens));
            command.mut_subcommand("check", |command| only(command, &of_check))
        })
        .mut_subcommand("backup", |command| only(command, &of_calls))
        .mut_subcommand("erase", |command| only(command, &of_calls))
        .mut_subcommand("channels", |command| only(command, &of_calls))
        .mut_subcommand("user", |command| only(command, &of_calls))
        .mut_subcommand("disconnect", |command| only(command, &of_calls))
        .mut_subcommand("restore", |command| only(command, &["data", CONFIG]))
        .mut_subcommand("verify", |command| only(command, &["data", CONFIG]))
        .mut_subcommand("config", |command| {
            let declarations = ["default", "docs", "completion", "man"];
            declarations
                .iter()
                .fold(only(command, &[]), |command, name| command.mut_subcommand(name, |command| only(command, &[])))
        });
    command.try_get_matches_from(arguments).err()
}

/// Hides the flags of all commands, except these.
fn only(command: clap::Command, shown: &[&str]) -> clap::Command {
    command.mut_args(|arg| {
        let hidden = arg.is_global_set() && !shown.contains(&arg.get_id().as_str());
        if hidden { arg.hide(true) } else { arg }
    })
}
