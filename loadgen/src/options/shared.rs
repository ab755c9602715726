//! Flags that all scenarios share, and the options that they become.

use std::net::{SocketAddr, ToSocketAddrs};
use std::num::NonZeroU32;
use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use hyper::Uri;

use super::{OptionsError, ROOM_NAME_BYTES_MAX, RunOptions};
use crate::base::addresses;
use crate::base::content::{CONTENT_BYTES_MAX, CONTENT_BYTES_MIN};
use crate::plan::run_plan::{OrderDemand, Plan, RoomPlan};
use crate::plan::schedule::Schedule;
use crate::plan::target::{SignInKind, Target};
use crate::report::Outputs;
use crate::team::workforce::{Workforce, WorkforceArguments};
use crate::wire::{Dialect, Entrance, Plain, Speaker};

/// The longest time that a flag may name. No run lasts a year.
const SECONDS_MAX: Duration = Duration::from_secs(366 * 24 * 60 * 60);

/// The port for WebSockets when the address has none.
const WS_PORT: u16 = 80;

/// The port that a server listens on by default.
const SERVER_PORT: u16 = 7350;

/// The read buffer for answers to joins, and for slow readers of a room.
pub const READ_BUFFER_BYTES: u32 = 8 * 1024;
/// How many users publish when no flag says otherwise.
const PUBLISHERS: u32 = 10;
/// Enough for a ping and for the header of any frame.
const READ_BUFFER_BYTES_MIN: i64 = 128;

/// Where a run goes, and as whom.
#[derive(Args)]
pub struct TargetArguments {
    /// The protocol of the server: `nakama` for Stentor and Nakama, `plain` for any other WebSocket server
    #[arg(long, value_enum, default_value = "nakama")]
    target: TargetKind,
    /// The address of the server
    #[arg(long, value_name = "HOST:PORT", default_value = "127.0.0.1:7350")]
    addr: String,
    /// The key with which clients sign in
    #[arg(long, value_name = "KEY", default_value = "defaultkey")]
    server_key: String,
    /// The format of the messages between clients and server
    #[arg(long, value_enum, default_value = "json")]
    format: Format,
    /// For a plain server: the address of the WebSocket; {user} and {room} are replaced, here, in --greeting and in --send
    #[arg(long, value_name = "ws://HOST:PORT/PATH", required_if_eq("target", "plain"))]
    url: Option<String>,
    /// For a plain server: the text that users send first on a new WebSocket
    #[arg(long, value_name = "TEMPLATE")]
    greeting: Option<String>,
    /// For a plain server: a user is in the room when it has received a frame that contains this text [default: when it has
    /// sent the greeting]
    #[arg(long, value_name = "TEXT")]
    welcome: Option<String>,
    /// For a plain server: the frame that sends a message; {content} is replaced by the content, {content_json} by the
    /// content as a JSON string
    #[arg(long, value_name = "TEMPLATE", default_value = "{content}")]
    send: String,
    /// How users sign in: with a custom id or a device id
    #[arg(long, value_enum, default_value = "custom")]
    sign_in: SignInKind,
    /// The start of the account names, before the number of the user; later runs use the same accounts again
    #[arg(long, value_name = "TEXT", default_value = "loadgen-")]
    account_prefix: String,
    /// The size of the read buffer of a connection, in bytes. Members that listen share one buffer per thread and do not use
    /// it; joining members, slow readers and idle users do. A larger buffer is faster, a smaller one leaves memory for
    /// more users [default: 8192, for idle users 256]
    #[arg(long, value_name = "BYTES", value_parser = clap::value_parser!(u32).range(READ_BUFFER_BYTES_MIN..))]
    read_buffer: Option<u32>,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, clap::ValueEnum)]
enum TargetKind {
    Nakama,
    Plain,
}

/// The format in which a server with Nakama's protocol is addressed.
#[derive(Clone, Copy, PartialEq, Eq, Debug, clap::ValueEnum)]
enum Format {
    Json,
    Protobuf,
}

/// What is said, and what is asked of the server's order.
#[derive(Args)]
pub struct TalkArguments {
    /// How long to publish and measure, in seconds
    #[arg(long, value_name = "SECS", default_value_t = 10.0)]
    secs: f64,
    /// Publish for this long first; these messages are checked, but not measured
    #[arg(long, value_name = "SECS", default_value_t = 0.0)]
    warmup: f64,
    #[command(flatten)]
    payload: PayloadArguments,
    #[command(flatten)]
    joining: JoiningArguments,
    /// The order to check: one order for the whole room, or only the order of each publisher (all that Nakama promises)
    #[arg(long, value_enum, default_value = "room")]
    order: OrderDemand,
    /// The name of the room, or the start of the names of several rooms [default: a new name for each run]
    #[arg(long, value_name = "NAME")]
    room: Option<String>,
}

/// The size of what is said.
#[derive(Args)]
pub struct PayloadArguments {
    /// The size of the content of a message, in bytes
    #[arg(long, value_name = "BYTES", default_value_t = CONTENT_BYTES_MIN)]
    payload: usize,
}

/// How members join a room.
#[derive(Args)]
pub struct JoiningArguments {
    /// Join hidden: the server sends no presence events and no member lists
    #[arg(long)]
    pub hidden: bool,
    /// Join without persistence: the server keeps no history
    #[arg(long)]
    pub no_persist: bool,
}

/// How rooms are filled and left, and what is read of the server meanwhile.
#[derive(Args)]
pub struct CourseArguments {
    /// The metrics page of Stentor: socket writes and the batch factor are taken from it
    #[arg(long, value_name = "URL")]
    metrics: Option<String>,
    /// The most users that sign in or connect at the same time, in all processes together
    #[arg(long, value_name = "N", default_value = "128")]
    in_flight: NonZeroU32,
    /// After the last send, wait for missing messages until none has arrived for this long
    #[arg(long, value_name = "SECS", default_value_t = 10.0)]
    settle: f64,
}

/// What the server is expected to do to its clients.
#[derive(Args)]
pub struct DrainArguments {
    /// The server drains during the run, over this time (its --drain-time): that it closes connections with 1012 is no fault.
    /// The members of an event come back, the users of `connect` do not
    #[arg(long, value_name = "SECS")]
    expect_drain: Option<f64>,
}

/// Who comes to a room.
#[derive(Args)]
pub struct AttendanceArguments {
    /// The number of users in the room
    #[arg(long, value_name = "N", default_value = "1000")]
    users: NonZeroU32,
    /// The number of users that publish, in turn; in an event they join before the others and stay [default: 10, or all
    /// users if there are fewer]
    #[arg(long, value_name = "N")]
    publishers: Option<NonZeroU32>,
}

/// Who does a run's work, and which server's process it is watched at.
#[derive(Args)]
pub struct WorkArguments {
    /// A TOML file with flags of this command; its keys are the names of the flags, and flags on the command line override it
    #[arg(long, value_name = "FILE")]
    scenario: Option<PathBuf>,
    /// The process id of the server on this machine, to report its CPU time and memory [default: the process that listens]
    #[arg(long, value_name = "PID")]
    pid: Option<u32>,
    #[command(flatten)]
    workforce: WorkforceArguments,
    /// The number of threads for users in each process [default: the number of cores]
    #[arg(long, value_name = "N")]
    threads: Option<NonZeroU32>,
}

/// How a run of rooms is carried out.
#[derive(Args)]
pub struct RunArguments {
    #[command(flatten)]
    work: WorkArguments,
    /// The seed of all random choices of the plan: the same number gives the same plan
    #[arg(long, value_name = "N", default_value_t = 1)]
    seed: u64,
    /// Repeat the run against a bare server on the same cores, and show every figure as a percentage of the bare server's
    #[arg(long)]
    baseline: bool,
    #[command(flatten)]
    outputs: Outputs,
    #[command(flatten)]
    course: CourseArguments,
}

/// The checked flags of what is said.
pub struct Talk {
    pub secs: Duration,
    pub warmup: Duration,
    /// The run's number.
    pub run: u32,
    /// The room's name, or the beginning of the rooms' names.
    room: String,
    hidden: bool,
    persistence: bool,
    pub payload_bytes: usize,
    pub order: OrderDemand,
}

/// The checked flags of how rooms are filled and left.
pub struct Course {
    pub metrics: Option<Uri>,
    pub in_flight: u32,
    pub settle_secs: f64,
}

/// The checked flags of who does the work.
pub struct Work {
    pub workforce: Workforce,
    pub threads: Option<u32>,
    pub pid: Option<u32>,
    pub scenario_file: Option<PathBuf>,
}

impl WorkArguments {
    /// Checks the flags. All workers must be able to reach the server.
    pub fn check(self, target: &Target) -> Result<Work, OptionsError> {
        let workforce = Workforce::try_from(self.workforce)?;
        workforce.can_reach(target.server)?;
        let threads = self.threads.map(NonZeroU32::get);
        Ok(Work { workforce, threads, pid: self.pid, scenario_file: self.scenario })
    }
}

impl PayloadArguments {
    /// The size of a content in bytes.
    pub fn check(&self) -> Result<usize, OptionsError> {
        let possible = (CONTENT_BYTES_MIN..=CONTENT_BYTES_MAX).contains(&self.payload);
        if possible { Ok(self.payload) } else { Err(OptionsError::Payload) }
    }
}

impl CourseArguments {
    pub fn check(self) -> Result<Course, OptionsError> {
        Ok(Course {
            metrics: self.metrics.map(metrics).transpose()?,
            in_flight: self.in_flight.get(),
            settle_secs: seconds(self.settle, "--settle")?.as_secs_f64(),
        })
    }
}

impl DrainArguments {
    /// The time over which a drain is expected, if one is.
    pub fn check(&self) -> Result<Option<f64>, OptionsError> {
        let checked = |secs| Ok(seconds(secs, "--expect-drain")?.as_secs_f64());
        self.expect_drain.map(checked).transpose()
    }
}

impl AttendanceArguments {
    /// How many users come, and how many of them publish.
    pub fn check(&self) -> Result<(u32, u32), OptionsError> {
        let users = self.users.get();
        let publishers = self.publishers.map_or(users.min(PUBLISHERS), NonZeroU32::get);
        if publishers > users { Err(OptionsError::Publishers { publishers, users }) } else { Ok((users, publishers)) }
    }
}

impl RunArguments {
    pub fn seed(&self) -> u64 {
        self.seed
    }
}

impl TargetArguments {
    /// Checks the flags. `read_buffer_bytes` is used if no flag sets another size.
    pub fn check(self, read_buffer_bytes: u32) -> Result<Target, OptionsError> {
        let (server, dialect) = match (self.target, self.format) {
            (TargetKind::Plain, _) => plain(self.url, self.greeting, self.welcome, self.send)?,
            (TargetKind::Nakama, Format::Json) => (resolve(&self.addr)?, Dialect::Json),
            (TargetKind::Nakama, Format::Protobuf) => (resolve(&self.addr)?, Dialect::Protobuf),
        };
        Ok(Target {
            server,
            dialect,
            server_key: self.server_key,
            sign_in: self.sign_in,
            account_prefix: self.account_prefix,
            read_buffer_bytes: self.read_buffer.unwrap_or(read_buffer_bytes),
        })
    }
}

/// The dialect of a plain server, and its address.
fn plain(
    url: Option<String>,
    greeting: Option<String>,
    welcome: Option<String>,
    send: String,
) -> Result<(SocketAddr, Dialect), OptionsError> {
    let plain = Plain { url: url.unwrap_or_default(), greeting, welcome, send };
    if !plain.carries_contents() {
        return Err(OptionsError::Send);
    }
    let filled = plain.url(Speaker { user: 0, room: "room" });
    let refuse = |reason: &str| OptionsError::Url { url: plain.url.clone(), reason: reason.to_owned() };
    let uri: Uri = filled.parse().map_err(|_| refuse("this is not an address"))?;
    if uri.scheme_str() != Some("ws") {
        return Err(refuse(
            "it must begin with ws://; for a server with TLS, put a proxy in front that removes the TLS",
        ));
    }
    let host = uri.host().ok_or_else(|| refuse("it has no host"))?;
    let server = first_address((host.trim_matches(['[', ']']), uri.port_u16().unwrap_or(WS_PORT)));
    Ok((server.map_err(|reason| refuse(&reason))?, Dialect::Plain(plain)))
}

impl TalkArguments {
    pub fn secs(&self) -> f64 {
        self.secs
    }

    pub fn check(self) -> Result<Talk, OptionsError> {
        let payload_bytes = self.payload.check()?;
        let run = run_number()?;
        Ok(Talk {
            secs: seconds(self.secs, "--secs")?,
            warmup: seconds(self.warmup, "--warmup")?,
            run,
            room: self.room.unwrap_or_else(|| format!("loadgen-{run:08x}")),
            hidden: self.joining.hidden,
            persistence: !self.joining.no_persist,
            payload_bytes,
            order: self.order,
        })
    }
}

impl Talk {
    /// How members enter the room whose name has this ending.
    pub fn entrance(&self, ending: &str) -> Result<Entrance, OptionsError> {
        let room = format!("{}{ending}", self.room);
        if room.is_empty() || room.len() > ROOM_NAME_BYTES_MAX {
            return Err(OptionsError::Room);
        }
        Ok(Entrance { room, hidden: self.hidden, persistence: self.persistence })
    }
}

/// Builds the options of a run, for any scenario.
pub fn run_options(
    scenario: &'static str,
    target: TargetArguments,
    talk: &Talk,
    run: RunArguments,
    mut rooms: Vec<RoomPlan>,
) -> Result<RunOptions, OptionsError> {
    let is_measured = |schedule: &Schedule| schedule.is_measured(schedule.messages() - 1);
    if !rooms.iter().any(|room| is_measured(&room.schedule)) {
        return Err(OptionsError::NothingMeasured);
    }
    let target = target.check(READ_BUFFER_BYTES)?;
    let work = run.work.check(&target)?;
    let Course { metrics, in_flight, settle_secs } = run.course.check()?;
    if matches!(target.dialect, Dialect::Plain(_)) {
        // A plain server has no presence events that the client can read.
        rooms.iter_mut().for_each(|room| room.entrance.hidden = true);
    }
    let plan = Plan {
        run: talk.run,
        seed: run.seed,
        target,
        rooms,
        order: talk.order,
        threads: work.threads,
        conduct: None,
        reads_only: false,
        in_flight,
    };
    Ok(RunOptions {
        scenario,
        scenario_file: work.scenario_file,
        plan,
        secs: talk.secs.as_secs_f64(),
        warmup_secs: talk.warmup.as_secs_f64(),
        workforce: work.workforce,
        settle_secs,
        pid: work.pid,
        baseline: run.baseline,
        metrics,
        outputs: run.outputs,
    })
}

/// The number of a new run, which names its room and marks its messages. Two runs in one room must not share a number:
/// each would take the other's messages for its own.
///
/// The number is random, not a clock's, because 32 bits of nanoseconds come again every 4.3 seconds, and machines that
/// start runs together may read the same. Contents have room for 32 bits. That is enough: among the few runs whose
/// messages are in one room, two share a number once in four billion times.
fn run_number() -> Result<u32, OptionsError> {
    getrandom::u32().map_err(OptionsError::Randomness)
}

/// The number of a run in one room, and the room's name: a new name if none was given.
pub fn first_room(wished: Option<String>) -> Result<(u32, String), OptionsError> {
    let run = run_number()?;
    let room = wished.unwrap_or_else(|| format!("loadgen-{run:08x}"));
    if room.is_empty() || room.len() > ROOM_NAME_BYTES_MAX {
        return Err(OptionsError::Room);
    }
    Ok((run, room))
}

fn resolve(addr: &str) -> Result<SocketAddr, OptionsError> {
    let refuse = |reason| OptionsError::Addr { addr: addr.to_owned(), reason };
    if let Some(reason) = addresses::missing_port(addr, SERVER_PORT) {
        return Err(refuse(reason));
    }
    first_address(addr).map_err(refuse)
}

fn metrics(url: String) -> Result<Uri, OptionsError> {
    let uri = url.parse().ok().filter(|uri: &Uri| uri.scheme_str() == Some("http") && uri.host().is_some());
    uri.ok_or(OptionsError::Metrics(url))
}

fn first_address(host: impl ToSocketAddrs) -> Result<SocketAddr, String> {
    let mut found = host.to_socket_addrs().map_err(|error| error.to_string())?;
    found.next().ok_or_else(|| "no such host".to_owned())
}

/// A time on the command line. Times are added to each other and to the clock, in nanoseconds of 64 bits, so none is
/// longer than a year.
pub fn seconds(value: f64, flag: &'static str) -> Result<Duration, OptionsError> {
    let duration = Duration::try_from_secs_f64(value).ok().filter(|duration| *duration <= SECONDS_MAX);
    duration.ok_or(OptionsError::Seconds(flag))
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn a_time_is_not_negative_and_not_longer_than_a_year() {
        for (value, expected) in [(0.0, Some(0)), (0.25, Some(250)), (86_400.0, Some(86_400_000))] {
            assert_eq!(seconds(value, "--secs").ok(), expected.map(Duration::from_millis), "{value}");
        }
        for value in [-1.0, -1e-9, f64::NAN, f64::INFINITY, 1e9, 1e19, 1e300] {
            let refusal = seconds(value, "--secs").expect_err("no time of a run").to_string();
            assert!(refusal.contains("--secs") && refusal.contains("a year"), "{value}: {refusal}");
        }
    }

    #[test]
    fn an_address_without_a_port_is_told_what_is_missing() {
        for addr in ["127.0.0.1", "localhost", "::1", "[::1]", "127.0.0.1:"] {
            let refusal = resolve(addr).expect_err("no port").to_string();
            assert!(refusal.starts_with("--addr ") && refusal.contains("port is missing"), "{addr}: {refusal}");
        }
        assert_eq!(resolve("127.0.0.1:80").ok(), Some(([127, 0, 0, 1], 80).into()));
        assert!(resolve("[::1]:80").is_ok_and(|found| found.port() == 80));
        let refusal = resolve("127.0.0.1:70000").expect_err("no port").to_string();
        assert!(!refusal.contains("missing"), "{refusal}");
    }

    #[test]
    fn numbers_of_runs_differ_in_every_bit_whatever_the_time() {
        let numbers: HashSet<u32> = (0..64).map(|_| run_number().expect("randomness")).collect();
        assert_eq!(numbers.len(), 64);
        for bit in 0..u32::BITS {
            let set = numbers.iter().filter(|number| **number >> bit & 1 == 1).count();
            assert!((1..64).contains(&set), "bit {bit} of {numbers:?}");
        }
    }
}
