//! Properties of plans: the same seed gives the same plan, and the totals are what was asked for.

use std::collections::HashSet;
use std::time::Duration;

use proptest::collection::vec;
use proptest::prelude::*;

use crate::base::clock::SECOND_NS;
use crate::base::content::ScheduleSlot;
use crate::plan::actions::{Action, ActionShares, Actions};
use crate::plan::draws::Draws;
use crate::plan::lives::{ACTS_MAX, Conduct, ReadingMode, Step};
use crate::plan::schedule::{MESSAGES_MAX, Schedule, ScheduleError, Stretch};
use crate::plan::sources::Sources;
use crate::plan::timetable::Timetable;

/// Stretches of up to three seconds, at rates in thousandths of a message a second.
fn stretches() -> impl Strategy<Value = Vec<Stretch>> {
    let stretch = (0_u64..3_000_000, 1_u64..200_000);
    let stretch = stretch
        .prop_map(|(us, rate_milli)| Stretch { length: Duration::from_micros(us), rate: rate_milli as f64 / 1_000.0 });
    vec(stretch, 1..6)
}

/// How many messages a stretch holds, counted one by one: message k is due `(k + stagger) / rate` after its beginning.
fn counted(stretch: &Stretch, stagger_milli: u128) -> u64 {
    let rate_milli = (stretch.rate * 1_000.0).round() as u128;
    let due_before_the_end =
        |k: u128| (k * 1_000 + stagger_milli) * 1_000_000_000 < rate_milli * stretch.length.as_nanos();
    (0..).take_while(|k| due_before_the_end(*k)).count() as u64
}

proptest! {
    #[test]
    fn a_schedule_holds_what_its_stretches_ask_for(
        stretches in stretches(),
        publishers in 1_u32..30,
        stagger_milli in 0_u32..1_000,
        warmup_ms in 0_u64..3_000,
    ) {
        let warmup = Duration::from_millis(warmup_ms);
        let stagger = (f64::from(stagger_milli) + 0.5) / 1_000.0;
        let expected: u64 = stretches.iter().map(|stretch| counted(stretch, stagger_milli.min(999).into())).sum();
        let schedule = match Schedule::staggered(publishers, warmup, &stretches, stagger) {
            Ok(schedule) => schedule,
            Err(error) => {
                prop_assert_eq!((error, expected), (ScheduleError::Nothing, 0));
                return Ok(());
            }
        };
        prop_assert_eq!(u64::from(schedule.messages()), expected);
        let planned: u64 = (0..publishers).map(|publisher| u64::from(schedule.planned(publisher))).sum();
        prop_assert_eq!(planned, expected, "each message has one publisher");
        let most = (0..publishers).map(|publisher| schedule.planned(publisher)).max();
        let least = (0..publishers).map(|publisher| schedule.planned(publisher)).min();
        prop_assert!(most <= least.map(|least| least + 1), "the publishers take turns");
        let length: Duration = stretches.iter().map(|stretch| stretch.length).sum();
        prop_assert_eq!(schedule.measured_ns(), warmup_ms * 1_000_000..length.as_nanos() as u64);
        let mut before = 0;
        for index in 0..schedule.messages() {
            let due_ns = schedule.due_ns(index);
            prop_assert!(before <= due_ns && due_ns < schedule.measured_ns().end, "message {index} at {due_ns}");
            before = due_ns;
            let slot = schedule.slot(index);
            prop_assert_eq!(schedule.index(slot), Some(index));
            prop_assert!(slot.publisher < publishers && slot.number < schedule.planned(slot.publisher));
            prop_assert_eq!(schedule.is_measured(index), due_ns >= warmup_ms * 1_000_000);
            prop_assert!(schedule.first_due_at(due_ns) <= index && schedule.first_due_at(due_ns + 1) > index);
        }
        for publisher in 0..publishers {
            let beyond = ScheduleSlot { publisher, number: schedule.planned(publisher) };
            prop_assert_eq!(schedule.index(beyond), None);
        }
        let text = serde_json::to_string(&schedule).expect("text");
        prop_assert_eq!(serde_json::from_str::<Schedule>(&text).expect("what was written"), schedule);
    }

    #[test]
    fn a_number_from_an_index_is_the_first_behind_it(publishers in 1_u32..20, publisher in 0_u32..20, index in 0_u32..90) {
        let schedule = Schedule::steady(90.0, publishers, Duration::ZERO, Duration::from_secs(1)).expect("valid");
        let publisher = publisher % publishers;
        let number = schedule.number_from(publisher, index);
        let naive = (0..90).find(|at| *at >= index && at % publishers == publisher).map(|at| at / publishers);
        prop_assert_eq!(number, naive.unwrap_or(schedule.planned(publisher)));
    }

    #[test]
    fn reads_are_as_many_as_fit_before_the_end(rate_milli in 1_u64..100_000, end_ms in 1_u64..20_000) {
        let timetable = Timetable { rate_milli, warmup_ns: 0, end_ns: end_ms * 1_000_000 };
        let reads = timetable.reads();
        prop_assert!(reads >= 1, "the first read is due at once");
        prop_assert!(timetable.due_ns(reads - 1) < timetable.end_ns);
        let next_ns = u128::from(reads) * 1_000_000_000_000 / u128::from(rate_milli);
        prop_assert!(next_ns >= u128::from(timetable.end_ns), "one read more would be too late");
    }

    /// Of a hundred numbers of a publisher, as many are updates and removals as were asked for, and no message is
    /// changed twice.
    #[test]
    fn actions_are_as_many_as_asked_for(updates in 0_u32..=50, removals in 0_u32..=50) {
        prop_assume!(updates + removals <= ActionShares::TOGETHER_MAX);
        let actions = Actions::new(ActionShares { updates, removals });
        let (mut touched, mut found) = (HashSet::new(), (0, 0));
        for number in 100..400 {
            match actions.of(number) {
                Action::Say => {}
                Action::Update { target } => {
                    found.0 += 1;
                    prop_assert!(touched.insert(target) && actions.is_target(target) && target < number);
                    prop_assert_eq!((actions.of(target), actions.removal_of(target)), (Action::Say, None));
                }
                Action::Remove { target } => {
                    found.1 += 1;
                    prop_assert!(touched.insert(target) && actions.is_target(target) && target < number);
                    prop_assert_eq!((actions.of(target), actions.removal_of(target)), (Action::Say, Some(number)));
                }
            }
        }
        prop_assert_eq!(found, (3 * updates, 3 * removals));
    }

    #[test]
    fn a_life_alternates_in_time_and_repeats_with_its_seed(
        seed: u64,
        user: u32,
        nth in 0_u32..100,
        secs in (0_u64..30, 0_u64..60, 0_u64..10, 0_u64..80),
        shares in (0.0..5.0, 0.0..=1.0, 0.0..=1.0, 0.0..=1.0),
    ) {
        let (ramp, stay, away, reconnect) = secs;
        let conduct = Conduct {
            ramp_ns: ramp * SECOND_NS,
            end_ns: (ramp + stay) * SECOND_NS,
            churn_a_second: shares.0,
            away_max_ns: away * SECOND_NS,
            reconnect_ns: reconnect * SECOND_NS,
            reconnect_share: shares.1,
            slow_share: shares.2,
            slow_frames_a_second: 1.0,
            skip_share: shares.3,
            history_reads_a_second: 0.0,
            drain_secs: None,
        };
        let life = conduct.life(seed, user, nth, 100);
        prop_assert_eq!(&life, &conduct.life(seed, user, nth, 100));
        prop_assert!(life.len() % 2 == 1 && life.len() <= ACTS_MAX + 1, "{} acts", life.len());
        for (at, act) in life.iter().enumerate() {
            prop_assert_eq!(act.step == Step::Join, at % 2 == 0, "a member comes, goes, and comes again");
            prop_assert!(at == 0 || life[at - 1].at_ns <= act.at_ns);
            prop_assert!(at == 0 || act.at_ns < conduct.end_ns, "nobody comes or goes after the end");
        }
        prop_assert!(life[0].at_ns <= conduct.ramp_ns, "everybody has come when the ramp ends");
        if conduct.reading_mode(seed, user) != ReadingMode::Prompt {
            prop_assert_eq!(life.len(), 1, "a slow member stays");
        }
    }

    #[test]
    fn a_draw_is_below_its_bound_and_repeats(seed: u64, purpose: u64, number: u64, bound in 1_u64..) {
        let draws = |times: usize| {
            let mut draws = Draws::new(seed, purpose, number);
            (0..times).map(|_| (draws.below(bound), draws.fraction())).collect::<Vec<_>>()
        };
        let drawn = draws(20);
        prop_assert!(drawn.iter().all(|(number, part)| *number < bound && (0.0..1.0).contains(part)));
        prop_assert_eq!(&drawn[..10], &draws(10)[..], "a longer sequence begins with the shorter one");
    }

    #[test]
    fn every_user_has_a_source_of_its_own_machine(users in 1_u32..200_000, ports in 1_u32..65_536, run: u64) {
        let near = "127.0.0.1".parse().expect("an address");
        let Some(sources) = Sources::choose(users, near, ports, run) else { return Ok(()) };
        let (first, last) = (sources.of(0), sources.of(users - 1));
        prop_assert!(first.is_loopback() && last.is_loopback() && first <= last);
        prop_assert_eq!(Sources::choose(users, near, ports, run), Some(sources));
        let text = serde_json::to_string(&sources).expect("text");
        prop_assert_eq!(serde_json::from_str::<Sources>(&text).expect("what was written"), sources);
    }
}

#[test]
fn a_schedule_at_its_bounds_is_refused_or_exact() {
    let second = Duration::from_secs(1);
    let check = |rate, length, expected: Result<u64, ScheduleError>| {
        let schedule = Schedule::steady(rate, 1, Duration::ZERO, length);
        assert_eq!(schedule.map(|schedule| schedule.messages().into()), expected, "{rate} for {length:?}");
    };
    check(MESSAGES_MAX as f64, second, Ok(MESSAGES_MAX));
    check(MESSAGES_MAX as f64 + 1.0, second, Err(ScheduleError::TooMany(MESSAGES_MAX + 1)));
    check(0.001, Duration::from_secs(1_000), Ok(1));
    check(0.001, Duration::from_nanos(1_000_000_000_001), Ok(2));
    check(0.0004, second, Err(ScheduleError::RateTooLow));
    // The rate is the largest number that its 64 bits hold.
    check(f64::INFINITY, second, Err(ScheduleError::TooMany((u64::MAX).div_ceil(1_000))));
    check(1.0, Duration::ZERO, Err(ScheduleError::Nothing));
    check(1.0, Duration::from_nanos(1), Ok(1));
    let many = vec![Stretch { length: second, rate: 1.0 }; Schedule::PHASES_MAX + 1];
    let refused = Schedule::new(1, Duration::ZERO, &many);
    assert_eq!(refused.err(), Some(ScheduleError::TooManyPhases(Schedule::PHASES_MAX + 1)));
    assert!(Schedule::new(1, Duration::ZERO, &many[1..]).is_ok());
}
