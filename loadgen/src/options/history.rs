//! `loadgen history`: reads the history of a room.

use std::num::NonZeroU32;
use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use serde::Serialize;

use super::OptionsError;
use super::shared::{PayloadArguments, READ_BUFFER_BYTES, TargetArguments, Work, WorkArguments, first_room, seconds};
use crate::base::clock::SECOND_NS;
use crate::plan::target::Target;
use crate::plan::timetable::Timetable;
use crate::report::Outputs;
use crate::team::workforce::Workforce;
use crate::wire::{Dialect, Entrance};

/// How many messages a new room is filled with.
const MESSAGES: u32 = 2_000;
const MESSAGES_MAX: i64 = 1_000_000;
/// More reads than any run needs.
const READS_MAX: u64 = 20_000_000;

#[derive(Args)]
pub struct HistoryArguments {
    /// The number of messages to fill the room with first [default: 2000, or none if --room is given]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(0..=MESSAGES_MAX))]
    messages: Option<u32>,
    /// The name of the room [default: a new name for each run]
    #[arg(long, value_name = "NAME")]
    room: Option<String>,
    #[command(flatten)]
    payload: PayloadArguments,
    /// Reads per second, of all readers together
    #[arg(long, value_name = "N", default_value_t = 100.0)]
    rate: f64,
    /// How long to read and measure, in seconds
    #[arg(long, value_name = "SECS", default_value_t = 10.0)]
    secs: f64,
    /// Read for this long first; these reads are checked, but not measured
    #[arg(long, value_name = "SECS", default_value_t = 0.0)]
    warmup: f64,
    /// The number of accounts that read, in turn
    #[arg(long, value_name = "N", default_value = "16")]
    readers: NonZeroU32,
    /// The most items on one page
    #[arg(long, value_name = "N", default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=100))]
    page: u32,
    /// The percentage of reads of the newest page; the other reads are divided equally into older pages read oldest first,
    /// older pages read newest first, and pages read back by the previous cursor
    #[arg(long, value_name = "PERCENT", default_value_t = 50.0)]
    newest: f64,
    /// Read while no member is in the room; with a member in it, a server may keep its newest page in memory
    #[arg(long)]
    absent: bool,
    /// The seed: the same number selects the same pages
    #[arg(long, value_name = "N", default_value_t = 1)]
    seed: u64,
    #[command(flatten)]
    target: TargetArguments,
    #[command(flatten)]
    outputs: Outputs,
    #[command(flatten)]
    work: WorkArguments,
    /// The most reads at the same time, in all processes together; further reads wait
    #[arg(long, value_name = "N", default_value = "1024")]
    in_flight: NonZeroU32,
}

/// The checked options of a run that reads history.
#[derive(Clone, Debug, Serialize)]
pub struct HistoryOptions {
    pub target: Target,
    pub entrance: Entrance,
    pub messages: u32,
    pub payload_bytes: usize,
    #[serde(skip)]
    pub timetable: Timetable,
    pub rate: f64,
    pub secs: f64,
    pub warmup_secs: f64,
    pub readers: u32,
    pub page_items: u32,
    /// A part of 1.
    pub newest: f64,
    pub absent: bool,
    pub seed: u64,
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

impl TryFrom<HistoryArguments> for HistoryOptions {
    type Error = OptionsError;

    fn try_from(raw: HistoryArguments) -> Result<Self, OptionsError> {
        let payload_bytes = raw.payload.check()?;
        if !(0.0..=100.0).contains(&raw.newest) {
            return Err(OptionsError::Percent("--newest"));
        }
        let target = raw.target.check(READ_BUFFER_BYTES)?;
        if matches!(target.dialect, Dialect::Plain(_)) {
            return Err(OptionsError::NoHistory);
        }
        let Work { workforce, threads, pid, scenario_file } = raw.work.check(&target)?;
        let (secs, warmup) = (seconds(raw.secs, "--secs")?, seconds(raw.warmup, "--warmup")?);
        let timetable = timetable(raw.rate, warmup, secs)?;
        let messages = raw.messages.unwrap_or(if raw.room.is_some() { 0 } else { MESSAGES });
        let (run, room) = first_room(raw.room)?;
        Ok(Self {
            target,
            entrance: Entrance { room, hidden: true, persistence: true },
            messages,
            payload_bytes,
            timetable,
            rate: raw.rate,
            secs: secs.as_secs_f64(),
            warmup_secs: warmup.as_secs_f64(),
            readers: raw.readers.get(),
            page_items: raw.page,
            newest: raw.newest / 100.0,
            absent: raw.absent,
            seed: raw.seed,
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

fn timetable(rate: f64, warmup: Duration, secs: Duration) -> Result<Timetable, OptionsError> {
    let rate_milli = (rate * 1_000.0).round() as u64;
    let nanoseconds = |duration: Duration| u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX);
    let timetable = Timetable { rate_milli, warmup_ns: nanoseconds(warmup), end_ns: nanoseconds(warmup + secs) };
    // The measured time must be at least a tenth of a second and have a read in it. The run must not have more reads
    // than any run needs.
    let is_measured = nanoseconds(secs) >= SECOND_NS / 10
        && timetable.reads().checked_sub(1).is_some_and(|last| timetable.due_ns(last) >= timetable.warmup_ns);
    let sensible = rate_milli > 0 && is_measured && timetable.reads() <= READS_MAX;
    if sensible { Ok(timetable) } else { Err(OptionsError::Reads) }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::options::{Arguments, Command};

    fn parse(line: &str) -> Result<HistoryOptions, String> {
        let arguments = Arguments::try_parse_from(line.split_whitespace()).map_err(|error| error.to_string())?;
        let Command::History(history) = arguments.command else { return Err("no history".to_owned()) };
        HistoryOptions::try_from(history).map_err(|error| error.to_string())
    }

    #[test]
    fn a_new_room_is_filled_and_a_named_one_is_not() {
        for (line, messages) in [
            ("loadgen history", MESSAGES),
            ("loadgen history --room r", 0),
            ("loadgen history --room r --messages 7", 7),
        ] {
            assert_eq!(parse(line).expect("a valid line").messages, messages, "{line}");
        }
        let options = parse("loadgen history --rate 50 --secs 4 --warmup 1").expect("a valid line");
        assert_eq!(options.timetable.reads(), 250);
        parse("loadgen history --rate 0.1 --warmup 1 --secs 10").expect("one read, after ten seconds");
    }

    #[test]
    fn refusals_name_the_flag() {
        for (line, named) in [
            ("loadgen history --rate 0", "--rate"),
            ("loadgen history --rate=-1", "--rate"),
            ("loadgen history --rate 1e9", "--rate"),
            ("loadgen history --secs 0", "--secs"),
            ("loadgen history --warmup 10 --secs 0", "--secs"),
            ("loadgen history --warmup 10 --secs 0.09", "--secs"),
            ("loadgen history --rate 0.1 --warmup 1 --secs 5", "--secs"),
            ("loadgen history --newest 101", "--newest"),
            ("loadgen history --page 101", "--page"),
            ("loadgen history --readers 0", "--readers"),
            ("loadgen history --room ", "--room"),
            ("loadgen history --target plain --url ws://127.0.0.1:1", "--target"),
        ] {
            let refusal = parse(line).err().unwrap_or_else(|| panic!("{line} is refused"));
            assert!(refusal.contains(named), "{line}: {refusal}");
        }
    }
}
