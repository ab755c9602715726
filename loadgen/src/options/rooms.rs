//! `loadgen rooms`: many rooms of mixed sizes at once.

use std::num::NonZeroU32;
use std::time::Duration;

use clap::Args;

use super::shared::{RunArguments, TalkArguments, TargetArguments, run_options};
use super::{OptionsError, RunOptions};
use crate::plan::actions::ActionShares;
use crate::plan::draws::Draws;
use crate::plan::run_plan::RoomPlan;
use crate::plan::schedule::{Schedule, Stretch};

/// The purposes for which the rooms' sizes and start times are drawn.
const SIZES: u64 = 1;
const STAGGERS: u64 = 2;

/// Every worker gets the plan of every room, some hundred bytes each.
const ROOMS_MAX: i64 = 100_000;

#[derive(Args)]
pub struct RoomsArguments {
    /// The number of rooms
    #[arg(long, value_name = "N", default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=ROOMS_MAX))]
    rooms: u32,
    /// The sizes of rooms and how often each occurs, as a list of MEMBERS:WEIGHT
    #[arg(long, value_name = "LIST", default_value = "2:60,20:30,500:10")]
    sizes: String,
    /// Messages per second in each room, of all its publishers together
    #[arg(long, value_name = "N", default_value_t = 2.0)]
    rate: f64,
    /// The number of users of a room that publish, in turn; in smaller rooms, all users publish
    #[arg(long, value_name = "N", default_value = "2")]
    publishers: NonZeroU32,
    #[command(flatten)]
    talk: TalkArguments,
    #[command(flatten)]
    target: TargetArguments,
    #[command(flatten)]
    run: RunArguments,
}

impl TryFrom<RoomsArguments> for RunOptions {
    type Error = OptionsError;

    fn try_from(raw: RoomsArguments) -> Result<Self, OptionsError> {
        let sizes = Sizes::read(&raw.sizes)?;
        let seed = raw.run.seed();
        let talk = raw.talk.check()?;
        let mut rooms = Vec::new();
        let mut users = 0_u64;
        for number in 0..raw.rooms {
            let members = sizes.draw(&mut Draws::new(seed, SIZES, number.into()));
            let first = users as u32;
            users += u64::from(members);
            if users > u64::from(u32::MAX) {
                return Err(OptionsError::TooManyUsers(users));
            }
            let stagger = Draws::new(seed, STAGGERS, number.into()).fraction();
            rooms.push(RoomPlan {
                users: first..users as u32,
                entrance: talk.entrance(&format!("-{number}"))?,
                schedule: schedule(raw.rate, raw.publishers.get().min(members), talk.warmup, talk.secs, stagger)?,
                payload_bytes: talk.payload_bytes,
                actions: ActionShares::default(),
            });
        }
        run_options("rooms", raw.target, &talk, raw.run, rooms)
    }
}

/// The publishers of all rooms send at the same rate, but each room's messages are shifted by its own stagger.
fn schedule(
    rate: f64,
    publishers: u32,
    warmup: Duration,
    secs: Duration,
    stagger: f64,
) -> Result<Schedule, OptionsError> {
    Ok(Schedule::staggered(publishers, warmup, &[Stretch { length: warmup + secs, rate }], stagger)?)
}

/// Room sizes and the weight of each: how often it occurs. There is at least one.
#[derive(PartialEq, Debug)]
struct Sizes {
    before: Vec<(u32, u32)>,
    last: (u32, u32),
}

impl Sizes {
    fn read(text: &str) -> Result<Self, OptionsError> {
        let size = |part: &str| {
            let (members, weight) = part.trim().split_once(':').unwrap_or((part.trim(), "1"));
            let (members, weight): (u32, u32) = (members.parse().ok()?, weight.parse().ok()?);
            (members > 0 && weight > 0).then_some((members, weight))
        };
        let mut before: Vec<_> = text.split(',').map(size).collect::<Option<_>>().unwrap_or_default();
        let last = before.pop().ok_or_else(|| OptionsError::Sizes(text.to_owned()))?;
        Ok(Self { before, last })
    }

    fn draw(&self, draws: &mut Draws) -> u32 {
        let total = self.before.iter().chain([&self.last]).map(|(_, weight)| u64::from(*weight)).sum();
        let mut left = draws.below(total);
        for (members, weight) in &self.before {
            match left.checked_sub((*weight).into()) {
                Some(rest) => left = rest,
                None => return *members,
            }
        }
        let (members, weight) = self.last;
        debug_assert!(left < weight.into(), "what the other sizes leave is the weight of the last one");
        members
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::options::{Arguments, Command};

    fn parse(line: &str) -> Result<RunOptions, String> {
        let arguments = Arguments::try_parse_from(line.split_whitespace()).map_err(|error| error.to_string())?;
        let Command::Rooms(rooms) = arguments.command else { return Err("no rooms".to_owned()) };
        RunOptions::try_from(rooms).map_err(|error| error.to_string())
    }

    #[test]
    fn rooms_have_the_sizes_asked_for_about_as_often_as_asked_for() {
        let plan = parse("loadgen rooms --rooms 1000 --sizes 2:60,20:30,500:10").expect("a valid line").plan;
        let of = |size| plan.rooms.iter().filter(|room| room.members() == size).count();
        let (small, middle, large) = (of(2), of(20), of(500));
        assert_eq!(small + middle + large, 1000);
        assert!((550..650).contains(&small) && (250..350).contains(&middle) && (70..130).contains(&large));
        assert_eq!(u64::from(plan.users()), 2 * small as u64 + 20 * middle as u64 + 500 * large as u64);
        let names: std::collections::HashSet<_> = plan.rooms.iter().map(|room| &room.entrance.room).collect();
        assert_eq!(names.len(), 1000);
    }

    #[test]
    fn the_seed_decides() {
        let members = |seed| {
            let plan = parse(&format!("loadgen rooms --seed {seed}")).expect("a valid line").plan;
            plan.rooms.iter().map(|room| (room.users.clone(), room.schedule.due_ns(0))).collect::<Vec<_>>()
        };
        assert_eq!(members(5), members(5));
        assert_ne!(members(5), members(6));
    }

    #[test]
    fn every_size_of_the_list_is_drawn_by_its_weight_and_no_other() {
        for (text, expected) in [
            ("7", &[(7, 1.0)][..]),
            ("2:1,3:1", &[(2, 0.5), (3, 0.5)]),
            ("2:1,3:2,9:7", &[(2, 0.1), (3, 0.2), (9, 0.7)]),
        ] {
            let sizes = Sizes::read(text).expect("a list");
            let drawn: Vec<u32> = (0..10_000).map(|number| sizes.draw(&mut Draws::new(3, SIZES, number))).collect();
            let known = |members: &u32| expected.iter().any(|(size, _)| size == members);
            assert!(drawn.iter().all(known), "{text}");
            for (size, share) in expected {
                let found = drawn.iter().filter(|members| *members == size).count() as f64 / drawn.len() as f64;
                assert!((found - share).abs() < 0.02, "{text}: {found} of {size}");
            }
        }
        // The sum of the weights may be larger than one weight can be.
        let heavy = Sizes::read("2:4294967295,3:4294967295,4:4294967295").expect("a list");
        let drawn: std::collections::HashSet<u32> =
            (0..100).map(|number| heavy.draw(&mut Draws::new(1, SIZES, number))).collect();
        assert_eq!(drawn, std::collections::HashSet::from([2, 3, 4]));
    }

    #[test]
    fn users_are_numbered_through_the_rooms_without_a_gap() {
        let plan = parse("loadgen rooms --rooms 50 --sizes 1:1,2:3,20:1 --publishers 3").expect("a valid line").plan;
        let mut next = 0;
        for (number, room) in plan.rooms.iter().enumerate() {
            assert_eq!(room.users.start, next, "room {number}");
            next = room.users.end;
            assert_eq!(room.schedule.publishers(), room.members().min(3), "in smaller rooms all users publish");
            assert!((room.users.clone()).all(|user| plan.room_of(user) == number), "room {number}");
        }
        assert_eq!(plan.users(), next);
    }

    #[test]
    fn a_list_of_sizes_is_read_or_refused() {
        let check = |text: &str, expected: Option<&[(u32, u32)]>| {
            let found = Sizes::read(text).ok();
            let found = found.map(|Sizes { before, last }| [before, vec![last]].concat());
            assert_eq!(found.as_deref(), expected, "{text:?}");
        };
        check("2:60,20:30", Some(&[(2, 60), (20, 30)]));
        check("7", Some(&[(7, 1)]));
        check(" 2:1 , 3:1 ", Some(&[(2, 1), (3, 1)]));
        for text in ["", ",", "0:5", "5:0", "a", "2:b", "2:1,", "-2:1", "2:1:1"] {
            check(text, None);
        }
        let refusal = parse("loadgen rooms --rooms 100000 --sizes 4294967295").expect_err("too many");
        assert!(refusal.contains("--rooms"), "{refusal}");
    }
}
