//! The command line, checked once: nothing past this file handles a raw flag.

use std::net::{SocketAddr, ToSocketAddrs};
use std::num::NonZeroU32;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand};
use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::check::OrderDemand;
use crate::clock;
use crate::content::{CONTENT_BYTES_MAX, CONTENT_BYTES_MIN};
use crate::schedule::{Schedule, ScheduleError};
use crate::sign_in::SignInKind;
use crate::wire::Entrance;
use crate::workforce::{SECRET_VARIABLE, Workforce, WorkforceArguments, WorkforceError};

/// The longest room name a server takes.
const ROOM_NAME_BYTES_MAX: usize = 64;

/// Fills chat rooms with real clients, and checks every delivery.
#[derive(Parser)]
#[command(name = "loadgen", version, about, after_help = AFTER_HELP)]
pub struct Arguments {
    #[command(subcommand)]
    pub command: Command,
}

const AFTER_HELP: &str = "\
Every client is a WebSocket of its own. Works with any server that speaks Nakama's realtime chat, JSON format.
Exit code 0: everything accepted was delivered to everybody, once and in order. 1: it was not, or the run failed.
2: the command line is wrong.";

#[derive(Subcommand)]
pub enum Command {
    /// One room: everybody joins it, a few publish, every member checks everything it hears
    Room(RoomArguments),
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

#[derive(Args)]
pub struct RoomArguments {
    /// Where the server listens
    #[arg(long, value_name = "HOST:PORT", default_value = "127.0.0.1:7350")]
    addr: String,
    /// How many users join the room
    #[arg(long, value_name = "N", default_value = "1000")]
    users: NonZeroU32,
    /// Messages a second, by all publishers together
    #[arg(long, value_name = "N", default_value_t = 100.0)]
    rate: f64,
    /// How long to publish and measure
    #[arg(long, value_name = "SECS", default_value_t = 10.0)]
    secs: f64,
    /// Publish this long before measuring; checked like the rest, but not part of latency and throughput
    #[arg(long, value_name = "SECS", default_value_t = 0.0)]
    warmup: f64,
    /// How many of the users publish, in turn [default: 10, or all when they are fewer]
    #[arg(long, value_name = "N")]
    publishers: Option<NonZeroU32>,
    /// Bytes of a message's content, padded up to this
    #[arg(long, value_name = "BYTES", default_value_t = CONTENT_BYTES_MIN)]
    payload: usize,
    /// Join hidden: no presence events, no member lists
    #[arg(long)]
    hidden: bool,
    /// Join so that messages are not kept in history
    #[arg(long)]
    no_persist: bool,
    /// The order to demand: one for the whole room, or each publisher's own (all that stock Nakama promises)
    #[arg(long, value_enum, default_value = "room")]
    order: OrderDemand,
    /// The room's name [default: a new room for each run]
    #[arg(long, value_name = "NAME")]
    room: Option<String>,
    /// The key that clients authenticate with before they have a session
    #[arg(long, value_name = "KEY", default_value = "defaultkey")]
    server_key: String,
    /// How users sign in
    #[arg(long, value_enum, default_value = "custom")]
    sign_in: SignInKind,
    /// Accounts are named by this and a number, and are used again by later runs
    #[arg(long, value_name = "TEXT", default_value = "loadgen-")]
    account_prefix: String,
    /// The server's process on this machine: its CPU time and memory go into the report
    #[arg(long, value_name = "PID")]
    pid: Option<u32>,
    /// Also write all figures to this file
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    #[command(flatten)]
    workforce: WorkforceArguments,
    /// Threads a process gives to its listening users [default: the cores it may use]
    #[arg(long, value_name = "N")]
    threads: Option<NonZeroU32>,
    /// How many users sign in or connect at the same moment, in all processes together
    #[arg(long, value_name = "N", default_value = "128")]
    in_flight: NonZeroU32,
    /// Bytes each connection's read buffer has: more is faster in a busy room, less lets more users fit
    #[arg(long, value_name = "BYTES", default_value_t = 8 * 1024, value_parser = clap::value_parser!(u32).range(1024..))]
    read_buffer: u32,
    /// After the last send, wait for what is missing until nothing has come for this long
    #[arg(long, value_name = "SECS", default_value_t = 10.0)]
    settle: f64,
}

#[derive(Debug, Error)]
pub enum OptionsError {
    #[error("--addr {addr}: {reason}")]
    Addr { addr: String, reason: String },
    #[error("{0} must be a number of seconds, and not negative")]
    Seconds(&'static str),
    #[error("--publishers {publishers} are more than --users {users}")]
    Publishers { publishers: u32, users: u32 },
    #[error("--payload must be between {CONTENT_BYTES_MIN} and {CONTENT_BYTES_MAX} bytes")]
    Payload,
    #[error("--room must have 1 to {ROOM_NAME_BYTES_MAX} bytes")]
    Room,
    #[error(transparent)]
    Workforce(#[from] WorkforceError),
    #[error(transparent)]
    Schedule(#[from] ScheduleError),
}

/// A run as it was asked for, every part valid.
#[derive(Clone, Debug, Serialize)]
pub struct RoomOptions {
    pub target: Target,
    pub users: u32,
    pub rate: f64,
    pub secs: f64,
    pub warmup_secs: f64,
    pub workforce: Workforce,
    pub threads: u32,
    pub in_flight: u32,
    pub settle_secs: f64,
    pub pid: Option<u32>,
    #[serde(skip)]
    pub json: Option<PathBuf>,
    #[serde(skip)]
    pub schedule: Schedule,
}

/// What every client needs to know: where to go, and what to say there.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Target {
    /// Told apart from other runs in the same room by this number.
    pub run: u32,
    pub server: SocketAddr,
    pub server_key: String,
    pub sign_in: SignInKind,
    pub account_prefix: String,
    pub entrance: Entrance,
    pub order: OrderDemand,
    pub payload_bytes: usize,
    pub read_buffer_bytes: u32,
}

impl TryFrom<RoomArguments> for RoomOptions {
    type Error = OptionsError;

    fn try_from(raw: RoomArguments) -> Result<Self, OptionsError> {
        let users = raw.users.get();
        let publishers = raw.publishers.map_or(users.min(10), NonZeroU32::get);
        if publishers > users {
            return Err(OptionsError::Publishers { publishers, users });
        }
        let [secs, warmup, settle] =
            [(raw.secs, "--secs"), (raw.warmup, "--warmup"), (raw.settle, "--settle")].map(seconds);
        let (secs, warmup, settle) = (secs?, warmup?, settle?);
        let cores = std::thread::available_parallelism().map_or(1, |cores| cores.get() as u32);
        Ok(Self {
            target: target(&raw)?,
            users,
            rate: raw.rate,
            secs: secs.as_secs_f64(),
            warmup_secs: warmup.as_secs_f64(),
            workforce: workforce(&raw)?,
            threads: raw.threads.map_or(cores, NonZeroU32::get),
            in_flight: raw.in_flight.get(),
            settle_secs: settle.as_secs_f64(),
            pid: raw.pid,
            json: raw.json,
            schedule: Schedule::new(raw.rate, publishers, warmup, secs)?,
        })
    }
}

fn workforce(raw: &RoomArguments) -> Result<Workforce, OptionsError> {
    let workforce = Workforce::try_from(raw.workforce.clone())?;
    workforce.can_reach(resolve(&raw.addr)?)?;
    Ok(workforce)
}

fn target(raw: &RoomArguments) -> Result<Target, OptionsError> {
    if !(CONTENT_BYTES_MIN..=CONTENT_BYTES_MAX).contains(&raw.payload) {
        return Err(OptionsError::Payload);
    }
    // Two runs a nanosecond apart share neither room nor run number; more is not asked of it.
    let run = (clock::now_ns() ^ (u64::from(std::process::id()) << 20)) as u32;
    let room = raw.room.clone().unwrap_or_else(|| format!("loadgen-{run:08x}"));
    if room.is_empty() || room.len() > ROOM_NAME_BYTES_MAX {
        return Err(OptionsError::Room);
    }
    Ok(Target {
        run,
        server: resolve(&raw.addr)?,
        server_key: raw.server_key.clone(),
        sign_in: raw.sign_in,
        account_prefix: raw.account_prefix.clone(),
        entrance: Entrance { room, hidden: raw.hidden, persistence: !raw.no_persist },
        order: raw.order,
        payload_bytes: raw.payload,
        read_buffer_bytes: raw.read_buffer,
    })
}

fn resolve(addr: &str) -> Result<SocketAddr, OptionsError> {
    let refuse = |reason: String| OptionsError::Addr { addr: addr.to_owned(), reason };
    let mut found = addr.to_socket_addrs().map_err(|error| refuse(error.to_string()))?;
    found.next().ok_or_else(|| refuse("no such host".to_owned()))
}

fn seconds((value, flag): (f64, &'static str)) -> Result<Duration, OptionsError> {
    Duration::try_from_secs_f64(value).map_err(|_| OptionsError::Seconds(flag))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(line: &str) -> Result<RoomOptions, String> {
        let arguments = Arguments::try_parse_from(line.split_whitespace()).map_err(|error| error.to_string())?;
        let Command::Room(room) = arguments.command else { return Err("no room".to_owned()) };
        RoomOptions::try_from(room).map_err(|error| error.to_string())
    }

    #[test]
    fn the_documented_line_is_understood() {
        let options = parse(
            "loadgen room --addr 127.0.0.1:7351 --users 5000 --rate 100 --secs 10 --publishers 20 --payload 200 \
             --hidden --no-persist --json out.json --server-key k --room r --pid 7 --warmup 2",
        )
        .expect("a valid line");
        assert_eq!((options.users, options.schedule.publishers(), options.schedule.messages()), (5000, 20, 1200));
        assert!(options.target.entrance.hidden && !options.target.entrance.persistence);
        assert_eq!(options.target.server.port(), 7351);
    }

    #[test]
    fn defaults_hold_together() {
        let options = parse("loadgen room --users 3").expect("a valid line");
        assert_eq!(options.schedule.publishers(), 3);
        assert!(!options.target.entrance.hidden && options.target.entrance.persistence);
        assert_eq!(options.target.order, OrderDemand::Room);
    }

    #[test]
    fn refusals_name_the_flag() {
        for (line, named) in [
            ("loadgen room --users 0", "--users"),
            ("loadgen room --users 5 --publishers 6", "--publishers"),
            ("loadgen room --payload 99", "--payload"),
            ("loadgen room --payload 4000", "--payload"),
            ("loadgen room --secs=-1", "--secs"),
            ("loadgen room --secs 0", "--secs"),
            ("loadgen room --warmup inf", "--warmup"),
            ("loadgen room --addr nowhere", "--addr"),
            ("loadgen room --rate 0", "rate"),
            ("loadgen room --rate 100000000", "--rate"),
            ("loadgen room --room ", "--room"),
            ("loadgen room --read-buffer 10", "--read-buffer"),
        ] {
            let refusal = parse(line).err().unwrap_or_else(|| panic!("{line} is refused"));
            assert!(refusal.contains(named), "{line}: {refusal}");
        }
        assert!(parse(&format!("loadgen room --room {}", "x".repeat(65))).is_err_and(|text| text.contains("--room")));
    }
}
