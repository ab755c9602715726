//! The command line, checked once: no code outside this folder handles a raw flag.
//!
//! There is one file for each scenario; the flags that all scenarios share are in `shared.rs`.

mod connect;
mod curve;
mod event;
mod history;
mod room;
mod rooms;
mod scenario_file;
mod selftest;
mod shared;

use std::ffi::OsString;
use std::net::SocketAddr;
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};
use hyper::Uri;
use serde::Serialize;
use thiserror::Error;

use crate::base::content::{CONTENT_BYTES_MAX, CONTENT_BYTES_MIN};
use crate::plan::run_plan::Plan;
use crate::plan::schedule::ScheduleError;
use crate::report::Outputs;
use crate::report::diff::DiffArguments;
use crate::team::workforce::{SECRET_VARIABLE, Workforce, WorkforceError};

pub use connect::{ConnectArguments, ConnectOptions};
pub use curve::{CurveArguments, CurveOptions, Size};
pub use event::EventArguments;
pub use history::{HistoryArguments, HistoryOptions};
pub use room::RoomArguments;
pub use rooms::RoomsArguments;
pub use selftest::{SelftestArguments, SelftestOptions};

/// The longest room name that a server accepts.
const ROOM_NAME_BYTES_MAX: usize = 64;

/// Fills chat rooms with real clients, and checks every delivery.
#[derive(Parser)]
#[command(name = "loadgen", version, about, after_help = AFTER_HELP)]
pub struct Arguments {
    #[command(subcommand)]
    pub command: Command,
}

const AFTER_HELP: &str = "\
Every client is a WebSocket of its own. Works with any server that speaks Nakama's realtime chat, in
JSON or protobuf, and with --target plain with any WebSocket server that repeats to all what one of them says.
Exit code 0: everything accepted was delivered to everybody, once and in order. 1: it was not, or the run failed.
2: the command line is wrong.";

/// Reads the command line, and the scenario file if the command line names one.
pub fn parse(line: Vec<OsString>) -> Result<Arguments, ParseError> {
    Ok(Arguments::try_parse_from(scenario_file::with_file(line)?)?)
}

#[derive(Debug, Error)]
pub enum ParseError {
    #[error(transparent)]
    File(#[from] scenario_file::ScenarioFileError),
    /// Also a request for help, which is answered.
    #[error(transparent)]
    Line(#[from] clap::Error),
}

#[derive(Subcommand)]
pub enum Command {
    /// One room: everybody joins it, a few publish, every member checks everything it hears
    #[command(args_override_self = true)]
    Room(RoomArguments),
    /// Many rooms of mixed sizes at once, each checked like one
    #[command(args_override_self = true)]
    Rooms(RoomsArguments),
    /// Idle users: how fast they get in, what each costs, and whether all of them stay
    #[command(args_override_self = true)]
    Connect(ConnectArguments),
    /// A live event: members come, go and return, bursts, slow readers, updates and removals, all of it accounted for
    #[command(args_override_self = true)]
    Event(EventArguments),
    /// Lets a proxy break what the server says, and shows that every kind of fault is found and named right
    #[command(args_override_self = true)]
    #[command(mut_arg("users", |users| users.default_value("24")))]
    #[command(mut_arg("rate", |rate| rate.default_value("200")))]
    #[command(mut_arg("secs", |secs| secs.default_value("3")))]
    #[command(mut_arg("payload", |payload| payload.default_value("160")))]
    #[command(mut_arg("settle", |settle| settle.hide(true)))]
    #[command(mut_arg("baseline", |baseline| baseline.hide(true)))]
    Selftest(SelftestArguments),
    /// What changed between two runs' JSON reports, and what is only noise
    Diff(DiffArguments),
    /// A room's history, read page by page over HTTP at a rate: the newest, deep by cursor, and back
    #[command(args_override_self = true)]
    History(HistoryArguments),
    /// Rooms of several sizes: time to the last member and deliveries a second, and what a million would need
    #[command(args_override_self = true)]
    Curve(CurveArguments),
    /// A bare socket loop to measure a server against; reads its orders from standard input
    #[command(hide = true)]
    Bare,
    /// Lends this machine to a run that another one coordinates
    Worker(WorkerArguments),
}

#[derive(Args)]
pub struct WorkerArguments {
    /// Wait here for coordinators; beyond loopback only with a secret
    #[arg(long, value_name = "ADDRESS:PORT")]
    pub listen: Option<SocketAddr>,
    /// What a coordinator must know to be let in
    #[arg(long, value_name = "TEXT", env = SECRET_VARIABLE, hide_env_values = true)]
    pub secret: Option<String>,
    /// A process of a run reads its orders from standard input, and goes by its coordinator's clock
    #[arg(long, hide = true, default_value_t = 0, allow_negative_numbers = true)]
    pub clock_offset_ns: i64,
}

#[derive(Debug, Error)]
pub enum OptionsError {
    #[error("--addr {addr}: {reason}")]
    Addr { addr: String, reason: String },
    #[error("--url {url:?}: {reason}")]
    Url { url: String, reason: String },
    #[error(
        "--baseline is for rooms whose members stay, as those of room and rooms do: a bare loop knows nobody who comes and goes"
    )]
    Baseline,
    #[error("--metrics {0:?} is no address like http://127.0.0.1:7351/metrics")]
    Metrics(String),
    #[error("--send must have {{content}} or {{content_json}} in it")]
    Send,
    #[error("{0} must be a number of seconds, and not negative")]
    Seconds(&'static str),
    #[error("--publishers {publishers} are more than --users {users}")]
    Publishers { publishers: u32, users: u32 },
    #[error("--payload must be between {CONTENT_BYTES_MIN} and {CONTENT_BYTES_MAX} bytes")]
    Payload,
    #[error("--room must have 1 to {ROOM_NAME_BYTES_MAX} bytes")]
    Room,
    #[error("--sizes {0:?} is not a list like 2:60,20:30,500:10: members of a room, and how often rooms have so many")]
    Sizes(String),
    #[error("--sizes {0:?} is not a list like 10,100,1000,max: how many members the rooms have")]
    CurveSizes(String),
    #[error(
        "--rate and --secs must give at least one read within --secs, after --warmup, and at most twenty million reads in all"
    )]
    Reads,
    #[error("--target plain has no history that could be read")]
    NoHistory,
    #[error("{0} must be between 0 and 100 percent")]
    Percent(&'static str),
    #[error("{0} must be a number, and not negative")]
    Rate(&'static str),
    #[error("--updates and --removals may be 50 of a hundred together: what they touch must have been said")]
    Actions,
    #[error("the run gets no number, as the system gives no randomness: {0}")]
    Randomness(#[source] getrandom::Error),
    #[error("--burst must be shorter than --burst-every")]
    Bursts,
    #[error("{0} users are more than a run may have: lower --rooms or --sizes")]
    TooManyUsers(u64),
    #[error(transparent)]
    Workforce(#[from] WorkforceError),
    #[error(transparent)]
    Schedule(#[from] ScheduleError),
}

/// The checked options of a run.
#[derive(Clone, Debug, Serialize)]
pub struct RunOptions {
    /// The scenario's name.
    pub scenario: &'static str,
    /// The file from which some of the flags came.
    pub scenario_file: Option<PathBuf>,
    pub plan: Plan,
    pub secs: f64,
    pub warmup_secs: f64,
    pub workforce: Workforce,
    pub settle_secs: f64,
    pub pid: Option<u32>,
    /// Whether the same run is done against a bare socket loop afterwards.
    pub baseline: bool,
    /// The server's metrics page.
    #[serde(skip)]
    pub metrics: Option<Uri>,
    #[serde(skip)]
    pub outputs: Outputs,
}
