//! `loadgen event`: a live event in one room.

use std::time::Duration;

use clap::Args;

use super::shared::{
    AttendanceArguments, DrainArguments, RunArguments, TalkArguments, TargetArguments, run_options, seconds,
};
use super::{OptionsError, RunOptions};
use crate::plan::actions::ActionShares;
use crate::plan::lives::Conduct;
use crate::plan::run_plan::RoomPlan;
use crate::plan::schedule::{Schedule, Stretch};

#[derive(Args)]
pub struct EventArguments {
    #[command(flatten)]
    attendance: AttendanceArguments,
    /// The other users join evenly over this time; messages are published in this time too, as a warm-up
    #[arg(long, value_name = "SECS", default_value_t = 10.0)]
    ramp: f64,
    /// Messages per second, of all publishers together
    #[arg(long, value_name = "N", default_value_t = 20.0)]
    rate: f64,
    /// The rate in a burst, as a multiple of the rate
    #[arg(long, value_name = "TIMES", default_value_t = 20.0)]
    burst_factor: f64,
    /// How long a burst lasts; 0 means no bursts
    #[arg(long, value_name = "SECS", default_value_t = 1.0)]
    burst: f64,
    /// The time from the start of one burst to the start of the next
    #[arg(long, value_name = "SECS", default_value_t = 10.0)]
    burst_every: f64,
    /// The percentage of members that leave or drop their connection in each second, and return later
    #[arg(long, value_name = "PERCENT", default_value_t = 2.0)]
    churn: f64,
    /// The longest time until they return
    #[arg(long, value_name = "SECS", default_value_t = 2.0)]
    away: f64,
    /// The percentage of connections that are dropped together after two thirds of --secs, and opened again immediately
    #[arg(long, value_name = "PERCENT", default_value_t = 20.0)]
    reconnect: f64,
    /// The percentage of members that read slowly
    #[arg(long, value_name = "PERCENT", default_value_t = 1.0)]
    slow: f64,
    /// The number of frames that a slow reader reads per second
    #[arg(long, value_name = "N", default_value_t = 10.0)]
    slow_frames: f64,
    /// The percentage of slow readers that ask the server to skip messages (on_lag=skip); the server closes the others
    #[arg(long, value_name = "PERCENT", default_value_t = 50.0)]
    slow_skip: f64,
    /// The number of publishes in a hundred that update an earlier message
    #[arg(long, value_name = "N", default_value_t = 4)]
    updates: u32,
    /// The number of publishes in a hundred that remove an earlier message
    #[arg(long, value_name = "N", default_value_t = 2)]
    removals: u32,
    /// The number of history pages that are read per second, during the whole run
    #[arg(long, value_name = "N", default_value_t = 5.0)]
    history_reads: f64,
    #[command(flatten)]
    drain: DrainArguments,
    #[command(flatten)]
    talk: TalkArguments,
    #[command(flatten)]
    target: TargetArguments,
    #[command(flatten)]
    run: RunArguments,
}

impl TryFrom<EventArguments> for RunOptions {
    type Error = OptionsError;

    fn try_from(raw: EventArguments) -> Result<Self, OptionsError> {
        let actions = ActionShares { updates: raw.updates, removals: raw.removals };
        if actions.updates.saturating_add(actions.removals) > ActionShares::TOGETHER_MAX {
            return Err(OptionsError::Actions);
        }
        let ramp = seconds(raw.ramp, "--ramp")?;
        let conduct = raw.conduct(ramp)?;
        let (users, publishers) = raw.attendance.check()?;
        let schedule = raw.schedule(publishers, ramp)?;
        let mut talk = raw.talk.check()?;
        // The ramp, during which members still join, is the warm-up.
        talk.warmup = ramp;
        let room = RoomPlan {
            users: 0..users,
            entrance: talk.entrance("")?,
            schedule,
            payload_bytes: talk.payload_bytes,
            actions,
        };
        let mut options = run_options("event", raw.target, &talk, raw.run, vec![room])?;
        if options.baseline {
            return Err(OptionsError::Baseline);
        }
        options.plan.conduct = Some(conduct);
        Ok(options)
    }
}

impl EventArguments {
    fn conduct(&self, ramp: Duration) -> Result<Conduct, OptionsError> {
        let secs = seconds(self.talk.secs(), "--secs")?;
        let nanoseconds = |duration: Duration| duration.as_nanos() as u64;
        Ok(Conduct {
            ramp_ns: nanoseconds(ramp),
            end_ns: nanoseconds(ramp + secs),
            churn_a_second: share(self.churn, "--churn")?,
            away_max_ns: nanoseconds(seconds(self.away, "--away")?),
            reconnect_ns: nanoseconds(ramp + secs * 2 / 3),
            reconnect_share: share(self.reconnect, "--reconnect")?,
            slow_share: share(self.slow, "--slow")?,
            slow_frames_a_second: rate(self.slow_frames, "--slow-frames")?,
            skip_share: share(self.slow_skip, "--slow-skip")?,
            history_reads_a_second: rate(self.history_reads, "--history-reads")?,
            drain_secs: self.drain.check()?,
        })
    }

    /// A steady rate, with a burst at the end of each period.
    fn schedule(&self, publishers: u32, ramp: Duration) -> Result<Schedule, OptionsError> {
        let secs = seconds(self.talk.secs(), "--secs")?;
        let (burst, every) = (seconds(self.burst, "--burst")?, seconds(self.burst_every, "--burst-every")?);
        let factor = rate(self.burst_factor, "--burst-factor")?;
        if !burst.is_zero() && burst >= every {
            return Err(OptionsError::Bursts);
        }
        let mut stretches = vec![Stretch { length: ramp, rate: self.rate }];
        let mut left = secs;
        while !burst.is_zero() && left >= every && stretches.len() <= Schedule::PHASES_MAX {
            stretches.push(Stretch { length: every - burst, rate: self.rate });
            stretches.push(Stretch { length: burst, rate: self.rate * factor });
            left -= every;
        }
        stretches.push(Stretch { length: left, rate: self.rate });
        Ok(Schedule::new(publishers, ramp, &stretches)?)
    }
}

fn share(percent: f64, flag: &'static str) -> Result<f64, OptionsError> {
    if (0.0..=100.0).contains(&percent) { Ok(percent / 100.0) } else { Err(OptionsError::Percent(flag)) }
}

fn rate(value: f64, flag: &'static str) -> Result<f64, OptionsError> {
    if value.is_finite() && value >= 0.0 { Ok(value) } else { Err(OptionsError::Rate(flag)) }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::base::clock::SECOND_NS;
    use crate::options::{Arguments, Command};

    fn parse(line: &str) -> Result<RunOptions, String> {
        let arguments = Arguments::try_parse_from(line.split_whitespace()).map_err(|error| error.to_string())?;
        let Command::Event(event) = arguments.command else { return Err("no event".to_owned()) };
        RunOptions::try_from(event).map_err(|error| error.to_string())
    }

    #[test]
    fn an_event_ramps_up_and_has_bursts() {
        let plan = parse("loadgen event --users 50 --ramp 5 --secs 25 --rate 10 --burst 1 --burst-every 10")
            .expect("valid")
            .plan;
        // 5 s and 23 s at the steady rate, and two bursts of one second each.
        assert_eq!(plan.messages(), 10 * 28 + 2 * 200);
        assert_eq!(plan.measured_ns(), 5 * SECOND_NS..30 * SECOND_NS);
        let conduct = plan.conduct.expect("members come and go");
        assert_eq!((conduct.ramp_ns, conduct.end_ns), (5 * SECOND_NS, 30 * SECOND_NS));
        assert_eq!((conduct.churn_a_second, conduct.reconnect_share, conduct.drain_secs), (0.02, 0.2, None));
        let plan = parse("loadgen event --expect-drain 60").expect("valid").plan;
        assert_eq!(plan.drain_secs(), Some(60.0));
    }

    #[test]
    fn without_bursts_the_rate_is_one() {
        let plan = parse("loadgen event --ramp 1 --secs 9 --rate 10 --burst 0").expect("valid").plan;
        assert_eq!(plan.messages(), 100);
    }

    #[test]
    fn refusals_name_the_flag() {
        for (line, named) in [
            ("loadgen event --users 5 --publishers 6", "--publishers"),
            ("loadgen event --churn 101", "--churn"),
            ("loadgen event --slow=-1", "--slow"),
            ("loadgen event --expect-drain NaN", "--expect-drain"),
            ("loadgen event --reconnect NaN", "--reconnect"),
            ("loadgen event --updates 30 --removals 21", "--updates"),
            ("loadgen event --burst 10 --burst-every 10", "--burst"),
            ("loadgen event --burst 0.001 --burst-every 0.002 --secs 100", "phases"),
            ("loadgen event --slow-frames inf", "--slow-frames"),
            ("loadgen event --ramp=-1", "--ramp"),
            ("loadgen event --ramp 5 --secs 0", "--secs"),
            ("loadgen event --baseline", "--baseline"),
        ] {
            let refusal = parse(line).expect_err("refused");
            assert!(refusal.contains(named), "{line}: {refusal}");
        }
    }
}
