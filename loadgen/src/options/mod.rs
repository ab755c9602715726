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
Every client has its own WebSocket. loadgen works with every server that speaks Nakama's realtime chat, in JSON or
protobuf. With --target plain it works with every WebSocket server that sends to all clients what one client sends.
Exit code 0: every accepted message was delivered to every member, once and in order. 1: a message was not, or the run
failed. 2: the command line is wrong.";

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
    /// Test one room: all users join, a few publish, and every member checks everything that it receives
    #[command(args_override_self = true)]
    Room(RoomArguments),
    /// Test many rooms of different sizes at the same time, each checked as in `room`
    #[command(args_override_self = true)]
    Rooms(RoomsArguments),
    /// Test idle users: how fast they connect, what each costs, and whether all stay connected
    #[command(args_override_self = true)]
    Connect(ConnectArguments),
    /// Test a live event: members join, leave and return; bursts, slow readers, updates and removals; every message is
    /// accounted for
    #[command(args_override_self = true)]
    Event(EventArguments),
    /// Test loadgen itself: a proxy adds faults to what the server sends, and every kind must be found and named correctly
    #[command(args_override_self = true)]
    #[command(mut_arg("users", |users| users.default_value("24")))]
    #[command(mut_arg("rate", |rate| rate.default_value("200")))]
    #[command(mut_arg("secs", |secs| secs.default_value("3")))]
    #[command(mut_arg("payload", |payload| payload.default_value("160")))]
    #[command(mut_arg("settle", |settle| settle.hide(true)))]
    #[command(mut_arg("baseline", |baseline| baseline.hide(true)))]
    Selftest(SelftestArguments),
    /// Compare the JSON reports of two runs: which differences are real, and which are only noise
    Diff(DiffArguments),
    /// Test the history of a room: read pages over HTTP at a fixed rate, the newest page and older pages by cursor
    #[command(args_override_self = true)]
    History(HistoryArguments),
    /// Test rooms of growing sizes: the time to the last member, the highest rate, and an estimate for a million members
    #[command(args_override_self = true)]
    Curve(CurveArguments),
    /// Run the bare server that --baseline measures against; reads its orders from standard input
    #[command(hide = true)]
    Bare,
    /// Let a loadgen on another machine use this machine for its run
    Worker(WorkerArguments),
}

#[derive(Args)]
pub struct WorkerArguments {
    /// Listen for coordinators at this address; other addresses than loopback need a secret
    #[arg(long, value_name = "ADDRESS:PORT")]
    pub listen: Option<SocketAddr>,
    /// The secret that a coordinator must have to be accepted
    #[arg(long, value_name = "TEXT", env = SECRET_VARIABLE, hide_env_values = true)]
    pub secret: Option<String>,
    /// For a worker process of a run: how far the coordinator's clock is ahead of this machine's clock
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
        "--baseline needs rooms whose members stay, as in `room` and `rooms`: the bare server does not support leaving and returning"
    )]
    Baseline,
    #[error("--metrics {0:?} is not an address like http://127.0.0.1:7351/metrics")]
    Metrics(String),
    #[error("--send must contain {{content}} or {{content_json}}")]
    Send,
    #[error("{0} must be a number of seconds that is not negative, and at most a year")]
    Seconds(&'static str),
    #[error("--publishers {publishers} is more than --users {users}")]
    Publishers { publishers: u32, users: u32 },
    #[error("--payload must be between {CONTENT_BYTES_MIN} and {CONTENT_BYTES_MAX} bytes")]
    Payload,
    #[error("--room must be 1 to {ROOM_NAME_BYTES_MAX} bytes long")]
    Room,
    #[error(
        "--sizes {0:?} is not a list like 2:60,20:30,500:10: the number of members of a room, and the weight of that size"
    )]
    Sizes(String),
    #[error("--sizes {0:?} is not a list like 10,100,1000,max: the number of members of each room")]
    CurveSizes(String),
    #[error(
        "--rate and --secs must give at least one read within --secs, after --warmup, and at most twenty million reads in all"
    )]
    Reads,
    #[error("--target plain has no history to read")]
    NoHistory,
    #[error("{0} must be between 0 and 100 percent")]
    Percent(&'static str),
    #[error("{0} must be a number that is not negative")]
    Rate(&'static str),
    #[error("--updates and --removals together may be at most 50: each of them changes one new message")]
    Actions,
    #[error("the run gets no number, as the system gives no randomness: {0}")]
    Randomness(#[source] getrandom::Error),
    #[error("nothing would be measured, as no message is due after the warm-up: raise --secs or --rate")]
    NothingMeasured,
    #[error("--burst must be shorter than --burst-every")]
    Bursts,
    #[error("{0} users are too many for one run: lower --rooms or --sizes")]
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
