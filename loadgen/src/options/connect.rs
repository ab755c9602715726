//! `loadgen connect`: users that only connect and stay.

use std::num::NonZeroU32;
use std::path::PathBuf;

use clap::Args;
use serde::Serialize;

use super::OptionsError;
use super::shared::{DrainArguments, TargetArguments, Work, WorkArguments, first_room, seconds};
use crate::plan::target::Target;
use crate::report::Outputs;
use crate::team::workforce::Workforce;
use crate::wire::Entrance;

/// An idle user receives mostly pings; the few other frames are read in pieces.
const READ_BUFFER_BYTES: u32 = 256;

#[derive(Args)]
pub struct ConnectArguments {
    /// The number of users
    #[arg(long, value_name = "N", default_value = "1000")]
    users: NonZeroU32,
    /// How long all users stay connected
    #[arg(long, value_name = "SECS", default_value_t = 10.0)]
    secs: f64,
    /// Join a room too; all users join the same room
    #[arg(long)]
    join: bool,
    /// Join hidden: the server sends no presence events and no member lists
    #[arg(long, requires = "join")]
    hidden: bool,
    /// The name of the room [default: a new name for each run]
    #[arg(long, value_name = "NAME", requires = "join")]
    room: Option<String>,
    #[command(flatten)]
    drain: DrainArguments,
    #[command(flatten)]
    target: TargetArguments,
    #[command(flatten)]
    outputs: Outputs,
    #[command(flatten)]
    work: WorkArguments,
    /// The most users that sign in or connect at the same time, in all processes together; fewer if the server is slow
    #[arg(long, value_name = "N", default_value = "1024")]
    in_flight: NonZeroU32,
}

/// The checked options of a run with idle users.
#[derive(Clone, Debug, Serialize)]
pub struct ConnectOptions {
    pub target: Target,
    /// The room that the users join, if they join one.
    pub entrance: Option<Entrance>,
    pub users: u32,
    pub secs: f64,
    /// The time over which the server is expected to drain; `None` if all users are to stay.
    pub drain_secs: Option<f64>,
    pub threads: Option<u32>,
    pub in_flight: u32,
    pub workforce: Workforce,
    pub pid: Option<u32>,
    pub scenario_file: Option<PathBuf>,
    #[serde(skip)]
    pub run: u32,
    #[serde(skip)]
    pub outputs: Outputs,
}

impl TryFrom<ConnectArguments> for ConnectOptions {
    type Error = OptionsError;

    fn try_from(raw: ConnectArguments) -> Result<Self, OptionsError> {
        let target = raw.target.check(READ_BUFFER_BYTES)?;
        let Work { workforce, threads, pid, scenario_file } = raw.work.check(&target)?;
        let (run, room) = first_room(raw.room)?;
        Ok(Self {
            target,
            entrance: raw.join.then_some(Entrance { room, hidden: raw.hidden, persistence: true }),
            users: raw.users.get(),
            secs: seconds(raw.secs, "--secs")?.as_secs_f64(),
            drain_secs: raw.drain.check()?,
            threads,
            in_flight: raw.in_flight.get(),
            workforce,
            pid,
            scenario_file,
            run,
            outputs: raw.outputs,
        })
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::options::{Arguments, Command};

    fn parse(line: &str) -> Result<ConnectOptions, String> {
        let arguments = Arguments::try_parse_from(line.split_whitespace()).map_err(|error| error.to_string())?;
        let Command::Connect(connect) = arguments.command else { return Err("no connect".to_owned()) };
        ConnectOptions::try_from(connect).map_err(|error| error.to_string())
    }

    #[test]
    fn users_join_a_room_only_when_told() {
        let options = parse("loadgen connect --users 15000 --secs 60").expect("a valid line");
        assert_eq!((options.users, options.secs, options.entrance.is_some()), (15_000, 60.0, false));
        assert_eq!(options.target.read_buffer_bytes, READ_BUFFER_BYTES);
        let options = parse("loadgen connect --join --hidden --room r --read-buffer 1024").expect("a valid line");
        assert!(options.entrance.is_some_and(|entrance| entrance.hidden && entrance.room == "r"));
        assert_eq!(options.target.read_buffer_bytes, 1024);
    }

    #[test]
    fn refusals_name_the_flag() {
        for (line, named) in [
            ("loadgen connect --users 0", "--users"),
            ("loadgen connect --secs=-1", "--secs"),
            ("loadgen connect --expect-drain=-1", "--expect-drain"),
            ("loadgen connect --hidden", "--join"),
            ("loadgen connect --room r", "--join"),
            ("loadgen connect --join --room ", "--room"),
            ("loadgen connect --addr nowhere", "--addr"),
            ("loadgen connect --read-buffer 10", "--read-buffer"),
        ] {
            let refusal = parse(line).err().unwrap_or_else(|| panic!("{line} is refused"));
            assert!(refusal.contains(named), "{line}: {refusal}");
        }
    }
}
