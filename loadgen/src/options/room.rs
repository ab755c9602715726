//! `loadgen room`: one room.

use clap::Args;

use super::shared::{AttendanceArguments, RunArguments, TalkArguments, TargetArguments, run_options};
use super::{OptionsError, RunOptions};
use crate::plan::actions::ActionShares;
use crate::plan::run_plan::RoomPlan;
use crate::plan::schedule::Schedule;

#[derive(Args)]
pub struct RoomArguments {
    #[command(flatten)]
    attendance: AttendanceArguments,
    /// Messages per second, of all publishers together
    #[arg(long, value_name = "N", default_value_t = 100.0)]
    rate: f64,
    #[command(flatten)]
    talk: TalkArguments,
    #[command(flatten)]
    target: TargetArguments,
    #[command(flatten)]
    run: RunArguments,
}

impl TryFrom<RoomArguments> for RunOptions {
    type Error = OptionsError;

    fn try_from(raw: RoomArguments) -> Result<Self, OptionsError> {
        let (users, publishers) = raw.attendance.check()?;
        let talk = raw.talk.check()?;
        let room = RoomPlan {
            users: 0..users,
            entrance: talk.entrance("")?,
            schedule: Schedule::steady(raw.rate, publishers, talk.warmup, talk.secs)?,
            payload_bytes: talk.payload_bytes,
            actions: ActionShares::default(),
        };
        run_options("room", raw.target, &talk, raw.run, vec![room])
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::options::{Arguments, Command};
    use crate::plan::run_plan::OrderDemand;

    fn parse(line: &str) -> Result<RunOptions, String> {
        let arguments = Arguments::try_parse_from(line.split_whitespace()).map_err(|error| error.to_string())?;
        let Command::Room(room) = arguments.command else { return Err("no room".to_owned()) };
        RunOptions::try_from(room).map_err(|error| error.to_string())
    }

    #[test]
    fn the_documented_line_is_understood() {
        let options = parse(
            "loadgen room --addr 127.0.0.1:7351 --users 5000 --rate 100 --secs 10 --publishers 20 --payload 200 \
             --hidden --no-persist --json out.json --server-key k --room r --pid 7 --warmup 2",
        )
        .expect("a valid line");
        let plan = &options.plan;
        assert_eq!((plan.users(), plan.publishers(), plan.messages()), (5000, 20, 1200));
        assert!(plan.rooms[0].entrance.hidden && !plan.rooms[0].entrance.persistence);
        assert_eq!((plan.rooms[0].entrance.room.as_str(), plan.target.server.port()), ("r", 7351));
    }

    #[test]
    fn a_plain_server_is_where_its_url_says_and_shows_no_presences() {
        for (url, expected) in [
            ("ws://127.0.0.1:9000/chat?u={user}", "127.0.0.1:9000"),
            ("ws://127.0.0.1", "127.0.0.1:80"),
            ("ws://[::1]:81/{room}", "[::1]:81"),
        ] {
            let options = parse(&format!("loadgen room --target plain --url {url}")).expect("a valid line");
            assert_eq!(options.plan.target.server.to_string(), expected);
            assert!(!options.plan.shows_presences());
        }
    }

    #[test]
    fn defaults_hold_together() {
        let options = parse("loadgen room --users 3").expect("a valid line");
        let room = &options.plan.rooms[0];
        assert_eq!(room.schedule.publishers(), 3);
        assert!(!room.entrance.hidden && room.entrance.persistence);
        assert_eq!(options.plan.order, OrderDemand::Room);
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
            ("loadgen room --warmup 5 --secs 0", "--secs"),
            ("loadgen room --warmup 5 --secs 0.5 --rate 0.1", "--secs"),
            ("loadgen room --warmup inf", "--warmup"),
            ("loadgen room --addr nowhere", "--addr"),
            ("loadgen room --rate 0", "rate"),
            ("loadgen room --rate 100000000", "--rate"),
            ("loadgen room --room ", "--room"),
            ("loadgen room --read-buffer 10", "--read-buffer"),
            ("loadgen room --metrics 127.0.0.1:7351", "--metrics"),
            ("loadgen room --target plain", "--url"),
            ("loadgen room --target plain --url wss://127.0.0.1/", "TLS"),
            ("loadgen room --target plain --url ws:/x", "--url"),
            ("loadgen room --target plain --url ws://127.0.0.1:1 --send x", "--send"),
        ] {
            let refusal = parse(line).err().unwrap_or_else(|| panic!("{line} is refused"));
            assert!(refusal.contains(named), "{line}: {refusal}");
        }
        assert!(parse(&format!("loadgen room --room {}", "x".repeat(65))).is_err_and(|text| text.contains("--room")));
    }
}
