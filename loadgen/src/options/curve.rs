//! `loadgen curve`: rooms of several sizes, one after another.

use std::num::NonZeroU32;
use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use hyper::Uri;
use serde::Serialize;

use super::shared::{
    Course, CourseArguments, JoiningArguments, PayloadArguments, READ_BUFFER_BYTES, TargetArguments, Work,
    WorkArguments, first_room, seconds,
};
use super::{OptionsError, RunOptions};
use crate::plan::actions::ActionShares;
use crate::plan::run_plan::{OrderDemand, Plan, RoomPlan};
use crate::plan::schedule::Schedule;
use crate::plan::target::Target;
use crate::report::Outputs;
use crate::team::workforce::Workforce;
use crate::wire::Entrance;

#[derive(Args)]
pub struct CurveArguments {
    /// The numbers of members, the smallest first; `max` is the most for which the server's process, on this machine, has
    /// file descriptors
    #[arg(long, value_name = "LIST", default_value = "10,100,1000,10000,max")]
    sizes: String,
    /// Messages per second in the quiet run, which measures the time to the last member of a single message
    #[arg(long, value_name = "N", default_value_t = 2.0)]
    quiet_rate: f64,
    /// How long each rate is measured, in seconds
    #[arg(long, value_name = "SECS", default_value_t = 5.0)]
    secs: f64,
    /// A rate counts as sustained if the p99 of the time to the last member is below this
    #[arg(long, value_name = "MILLISECONDS", default_value_t = 1_000.0)]
    limit: f64,
    /// The number of users that publish, in turn; in smaller rooms, all users publish
    #[arg(long, value_name = "N", default_value = "10")]
    publishers: NonZeroU32,
    #[command(flatten)]
    payload: PayloadArguments,
    #[command(flatten)]
    joining: JoiningArguments,
    #[command(flatten)]
    target: TargetArguments,
    /// Write all figures to this file, as JSON
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Write a page with charts to this file, as HTML
    #[arg(long, value_name = "FILE")]
    html: Option<PathBuf>,
    #[command(flatten)]
    work: WorkArguments,
    #[command(flatten)]
    course: CourseArguments,
}

/// How many members a room of the curve has.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Size {
    Members(u32),
    AsManyAsFit,
}

/// The checked options of a curve.
#[derive(Clone, Debug, Serialize)]
pub struct CurveOptions {
    pub sizes: Vec<Size>,
    pub quiet_rate: f64,
    pub secs: Duration,
    pub limit: Duration,
    pub publishers: u32,
    pub payload_bytes: usize,
    pub hidden: bool,
    pub persistence: bool,
    pub target: Target,
    pub pid: Option<u32>,
    pub scenario_file: Option<PathBuf>,
    #[serde(skip)]
    pub metrics: Option<Uri>,
    #[serde(skip)]
    pub json: Option<PathBuf>,
    #[serde(skip)]
    pub html: Option<PathBuf>,
    pub workforce: Workforce,
    pub threads: Option<u32>,
    pub in_flight: u32,
    pub settle_secs: f64,
}

impl TryFrom<CurveArguments> for CurveOptions {
    type Error = OptionsError;

    fn try_from(raw: CurveArguments) -> Result<Self, OptionsError> {
        let payload_bytes = raw.payload.check()?;
        let target = raw.target.check(READ_BUFFER_BYTES)?;
        let Work { workforce, threads, pid, scenario_file } = raw.work.check(&target)?;
        let Course { metrics, in_flight, settle_secs } = raw.course.check()?;
        let secs = seconds(raw.secs, "--secs")?;
        // The quietest schedule has the fewest messages: if it is valid, there are enough at every other rate.
        Schedule::steady(raw.quiet_rate, 1, Duration::ZERO, secs)?;
        Ok(Self {
            sizes: sizes(&raw.sizes)?,
            quiet_rate: raw.quiet_rate,
            secs,
            limit: seconds(raw.limit / 1e3, "--limit")?,
            publishers: raw.publishers.get(),
            payload_bytes,
            hidden: raw.joining.hidden,
            persistence: !raw.joining.no_persist,
            target,
            pid,
            scenario_file,
            metrics,
            json: raw.json,
            html: raw.html,
            workforce,
            threads,
            in_flight,
            settle_secs,
        })
    }
}

fn sizes(text: &str) -> Result<Vec<Size>, OptionsError> {
    let size = |text: &str| match text {
        "max" => Some(Size::AsManyAsFit),
        number => number.parse().ok().filter(|members| *members > 0).map(Size::Members),
    };
    let sizes: Option<Vec<Size>> = text.split(',').map(|part| size(part.trim())).collect();
    sizes.ok_or_else(|| OptionsError::CurveSizes(text.to_owned()))
}

impl CurveOptions {
    /// The options for a run of one room of the curve; each run has a new room.
    pub fn room(&self, users: u32, rate: f64) -> Result<RunOptions, OptionsError> {
        let publishers = self.publishers.min(users);
        let schedule = Schedule::steady(rate, publishers, Duration::ZERO, self.secs)?;
        let (run, room) = first_room(None)?;
        let entrance = Entrance { room, hidden: self.hidden, persistence: self.persistence };
        let actions = ActionShares::default();
        let rooms = vec![RoomPlan { users: 0..users, entrance, schedule, payload_bytes: self.payload_bytes, actions }];
        let plan = Plan {
            run,
            seed: 1,
            target: self.target.clone(),
            rooms,
            order: OrderDemand::Room,
            threads: self.threads,
            conduct: None,
            reads_only: false,
            in_flight: self.in_flight,
        };
        Ok(RunOptions {
            scenario: "room",
            plan,
            secs: self.secs.as_secs_f64(),
            warmup_secs: 0.0,
            workforce: self.workforce.clone(),
            settle_secs: self.settle_secs,
            pid: self.pid,
            metrics: self.metrics.clone(),
            outputs: Outputs::default(),
            scenario_file: None,
            baseline: false,
        })
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::options::{Arguments, Command};

    fn parse(line: &str) -> Result<CurveOptions, String> {
        let arguments = Arguments::try_parse_from(line.split_whitespace()).map_err(|error| error.to_string())?;
        let Command::Curve(curve) = arguments.command else { return Err("no curve".to_owned()) };
        CurveOptions::try_from(curve).map_err(|error| error.to_string())
    }

    #[test]
    fn sizes_are_numbers_and_as_many_as_fit() {
        let options = parse("loadgen curve --sizes 10,200,max --limit 250").expect("a valid line");
        assert_eq!(options.sizes, [Size::Members(10), Size::Members(200), Size::AsManyAsFit]);
        assert_eq!(options.limit, Duration::from_millis(250));
        let room = options.room(3, 5.0).expect("a valid room");
        assert_eq!((room.plan.users(), room.plan.publishers(), room.plan.messages()), (3, 3, 25));
        let other = options.room(3, 5.0).expect("a valid room");
        assert_ne!(room.plan.rooms[0].entrance.room, other.plan.rooms[0].entrance.room);
    }

    #[test]
    fn refusals_name_the_flag() {
        for (line, named) in [
            ("loadgen curve --sizes 10,many", "--sizes"),
            ("loadgen curve --sizes 0", "--sizes"),
            ("loadgen curve --sizes ,", "--sizes"),
            ("loadgen curve --quiet-rate 0", "rate"),
            ("loadgen curve --limit=-1", "--limit"),
            ("loadgen curve --secs 0", "--secs"),
            ("loadgen curve --payload 9", "--payload"),
        ] {
            let refusal = parse(line).err().unwrap_or_else(|| panic!("{line} is refused"));
            assert!(refusal.contains(named), "{line}: {refusal}");
        }
    }
}
