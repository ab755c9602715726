//! A run fails for every fault that its clients found, in words that name it, and for nothing else.

use clap::Parser;

use super::*;
use crate::checks::latency::Latency;
use crate::checks::whole_history::HistoryFigures;
use crate::costs::kernel::KernelReading;
use crate::costs::meter::{ProcessReading, Reading};
use crate::costs::metrics::Counters;
use crate::costs::server::CpuTime;
use crate::options::{Arguments, Command};
use crate::report::Report;

fn constant(us: u64) -> Latency {
    let mut latency = Latency::default();
    (0..100).for_each(|_| latency.record_ns(us * 1_000));
    latency
}

pub fn options(line: &str) -> RunOptions {
    let Ok(Arguments { command }) = Arguments::try_parse_from(line.split(' ')) else { panic!("{line} is refused") };
    let options = match command {
        Command::Room(room) => RunOptions::try_from(room),
        Command::Rooms(rooms) => RunOptions::try_from(rooms),
        Command::Event(event) => RunOptions::try_from(event),
        _ => panic!("{line} is no run of rooms"),
    };
    options.unwrap_or_else(|error| panic!("{line}: {error}"))
}

const ROOM: &str = "loadgen room --users 5 --secs 1 --rate 10 --addr 127.0.0.1:1";
const EVENT: &str = "loadgen event --users 20 --secs 1 --addr 127.0.0.1:1";

/// The faults of a run in words, after this change to an outcome without any.
fn faults(line: &str, change: impl FnOnce(&mut RoomOutcome)) -> Vec<String> {
    let mut outcome = outcome(Figures::default());
    change(&mut outcome);
    Report::new(results(&options(line), outcome), &[]).faults().to_vec()
}

#[test]
fn every_fault_of_deliveries_fails_a_run_by_its_name() {
    assert_eq!(faults(ROOM, |_| {}), [""; 0], "an outcome without a fault");
    let check = |change: fn(&mut RoomOutcome), expected: &str| assert_eq!(faults(ROOM, change), [expected]);
    check(|outcome| outcome.figures.tally.missing = 3, "3 missing");
    check(|outcome| outcome.figures.duplicates = 2, "2 delivered twice");
    check(|outcome| outcome.disagreement.shared_ids = 2, "2 delivered twice");
    check(|outcome| outcome.figures.out_of_order = 1, "1 out of order");
    check(|outcome| outcome.figures.tally.out_of_order = 1, "1 out of order");
    check(|outcome| outcome.disagreement.out_of_order = 1, "1 out of order");
    check(|outcome| outcome.disagreement.unplaced = 4, "4 out of order");
    check(|outcome| outcome.figures.corrupt = 1_234, "1,234 corrupt");
    check(|outcome| outcome.disagreement.other_ids = 1, "1 corrupt");
    check(|outcome| outcome.figures.tally.refused_but_delivered = 1, "1 refused but delivered all the same");
    check(|outcome| outcome.figures.stray_answers = 1, "1 answers to nothing");
    check(|outcome| outcome.figures.disconnected = 5, "5 users disconnected");
    let unanswered = |outcome: &mut RoomOutcome| {
        outcome.answers.entry(0).or_default().unanswered.insert(0, vec![1, 2]);
    };
    check(unanswered, "2 published without an answer");
}

#[test]
fn what_is_no_fault_fails_no_run() {
    let harmless: [fn(&mut RoomOutcome); 6] = [
        |outcome| outcome.figures.foreign = 9,
        |outcome| outcome.figures.tally.unanswered_but_delivered = 9,
        |outcome| outcome.figures.tally.beyond = 9,
        |outcome| outcome.figures.refused_too_fast = 9,
        // A message without a place is explained by what is missing, and that is told already.
        |outcome| (outcome.figures.tally.skipped, outcome.disagreement.unplaced) = (1, 1),
        |outcome| (outcome.figures.tally.announced, outcome.disagreement.unplaced) = (1, 1),
    ];
    for (number, change) in harmless.into_iter().enumerate() {
        assert_eq!(faults(ROOM, change), [""; 0], "change {number}");
    }
    let publisher = |outcome: &mut RoomOutcome| outcome.disagreement.unplaced = 4;
    assert_eq!(faults(&format!("{ROOM} --order publisher"), publisher), [""; 0], "no order of the room was asked for");
}

#[test]
fn a_run_in_which_nothing_was_accepted_shows_nothing() {
    let all_refused = |outcome: &mut RoomOutcome| {
        outcome.answers.entry(0).or_default().refused.insert(0, (0..10).collect());
    };
    assert_eq!(faults(ROOM, all_refused), ["no message was accepted, so nothing was shown"]);
    let nearly_all = |outcome: &mut RoomOutcome| {
        outcome.answers.entry(0).or_default().refused.insert(0, (0..9).collect());
    };
    assert_eq!(faults(ROOM, nearly_all), [""; 0], "a refusal is an answer");
}

#[test]
fn every_fault_of_an_event_fails_it_by_its_name() {
    let check = |change: fn(&mut RoomOutcome), expected: &str| assert_eq!(faults(EVENT, change), [expected]);
    assert_eq!(faults(EVENT, |_| {}), [""; 0]);
    check(|outcome| outcome.figures.lives.failed = 1, "1 users could not come back");
    check(|outcome| outcome.figures.lives.outside = 1, "1 deliveries to users who were not in the room");
    fn of_history(change: impl Fn(&mut HistoryFigures)) -> HistoryFigures {
        let mut history = HistoryFigures::default();
        change(&mut history);
        history
    }
    type Change = fn(&mut HistoryFigures);
    let kinds: [(Change, &str); 8] = [
        (|history| history.unread = 1, "1 rooms whose history could not be read"),
        (|history| history.missing = 1, "1 missing in history"),
        (|history| history.duplicates = 1, "1 twice in history"),
        (|history| history.out_of_order = 1, "1 out of order in history"),
        (|history| history.corrupt = 1, "1 corrupt in history, or not updated"),
        (|history| history.removed_but_there = 1, "1 in history although removed"),
        (|history| history.unknown = 1, "1 in history although not accepted"),
        (|history| history.directions_differ = 1, "1 different in history when read the other way"),
    ];
    for (change, expected) in kinds {
        assert_eq!(faults(EVENT, |outcome| outcome.history = Some(of_history(change))), [expected]);
    }
    let read = |change: fn(&mut Figures)| {
        faults(EVENT, |outcome| {
            outcome.history =
                Some(HistoryFigures { foreign: 7, reworded: 7, found: 3, expected: 3, ..Default::default() });
            change(&mut outcome.figures);
        })
    };
    assert_eq!(read(|_| {}), [""; 0], "other runs and other bytes are no faults");
    assert_eq!(read(|figures| figures.history_faults = 1), ["1 wrong pages of history"]);
    assert_eq!(read(|figures| figures.history_failures = 1), ["1 history reads that failed"]);
    let left_out = read(|figures| figures.history_left_out = 1);
    assert_eq!(left_out, ["1 history reads left out, as too many were under way"]);
}

#[test]
fn counts_are_those_of_the_answers_and_add_up() {
    let mut outcome = outcome(Figures::default());
    let answers = outcome.answers.entry(0).or_default();
    answers.refused.insert(0, vec![0]);
    answers.unanswered.insert(1, vec![0, 1]);
    let json = serde_json::to_value(Report::new(results(&options(ROOM), outcome), &[])).expect("JSON");
    let count = |name: &str| json["messages"][name].as_u64().expect("a count");
    assert_eq!((count("scheduled"), count("accepted"), count("refused"), count("unanswered")), (10, 7, 1, 2));
}

/// The costs of a server that computed for a quarter of a second while 1,000 deliveries were made.
fn costs() -> Costs {
    let at = |secs: f64, bytes: u64, count: f64| Reading {
        process: Some(ProcessReading {
            cpu: CpuTime { user_secs: secs, system_secs: 0.0 },
            resident_bytes: bytes,
            kernel: KernelReading { data_segments: count as u64, sent_bytes: count as u64, ..Default::default() },
        }),
        counters: Some(Counters { deliveries: count, delivery_bytes: count, pass_writes: count, private_writes: 0.0 }),
    };
    Costs {
        signed_in: at(0.0, 1_000, 0.0),
        joined: at(0.0, 6_000, 0.0),
        begin: at(1.0, 6_000, 100.0),
        end: at(1.25, 6_000, 1_100.0),
        settled: at(1.25, 6_000, 1_100.0),
    }
}

#[test]
fn costs_are_shared_out_over_deliveries_and_connections() {
    let mut outcome = outcome(Figures { delivered_in_window: 1_000, ..Figures::default() });
    outcome.costs = costs();
    let json = serde_json::to_value(Report::new(results(&options(ROOM), outcome), &[])).expect("JSON");
    assert_eq!(json["server"]["cpu_per_delivery_us"], 250.0, "{}", json["server"]);
    assert_eq!(json["server"]["cores_busy"], 0.25);
    assert_eq!(json["server"]["resident_per_connection_bytes"], 1_000);
    assert_eq!(json["network"]["socket_writes"], 1_000);
    assert_eq!(json["network"]["batch_factor"], 1.0);
}

#[test]
fn costs_without_a_delivery_are_finite() {
    let mut outcome = outcome(Figures::default());
    outcome.costs = costs();
    let json = serde_json::to_value(Report::new(results(&options(ROOM), outcome), &[])).expect("JSON");
    let mut leaves = Vec::new();
    crate::report::diff::leaves("", &json, &mut leaves);
    let nulls: Vec<_> = leaves.iter().filter(|(_, leaf)| leaf.is_null()).map(|(path, _)| path.as_str()).collect();
    // A figure that is no number would be written as null. Only what was not measured has none.
    assert_eq!(nulls, ["series.measured_secs"]);
}

#[test]
fn what_a_drain_causes_is_no_fault_where_it_was_expected() {
    let drained = |outcome: &mut RoomOutcome| {
        let mut second = crate::costs::series::Second::new(5);
        second.closes.count(1012, 0);
        outcome.course.series.add(second);
        let room = outcome.answers.entry(0).or_default();
        room.unanswered.insert(0, vec![1, 2]);
        room.refused.insert(0, vec![3]);
        let lives = &mut outcome.figures.lives;
        (lives.drained, lives.sought, lives.withheld, lives.cut_off_publishes) = (5, 5, 1, 2);
        outcome.figures.history_failures = 4;
        outcome.history = Some(HistoryFigures::default());
    };
    let expects = format!("{EVENT} --expect-drain 10");
    let faults_of = |line: &str, returned: u64, withheld: u64| {
        faults(line, |outcome| {
            drained(outcome);
            outcome.course.drain_secs = options(line).plan.drain_secs();
            (outcome.figures.lives.returned, outcome.figures.lives.withheld) = (returned, withheld);
            if withheld == 0 {
                outcome.figures.lives.cut_off_publishes = 0;
            }
        })
    };
    assert_eq!(faults_of(&expects, 0, 1), [""; 0], "the server was not started again");
    assert_eq!(faults_of(&expects, 5, 1), [""; 0], "all came back");
    assert_eq!(faults_of(&expects, 3, 1), ["2 users did not come back after the drain"]);
    let unexpected = faults_of(EVENT, 0, 0);
    assert!(unexpected.iter().any(|fault| fault.contains("--expect-drain")), "{unexpected:?}");
    assert!(unexpected.iter().any(|fault| fault.contains("history reads that failed")), "{unexpected:?}");
    assert!(unexpected.iter().any(|fault| fault.contains("published without an answer")), "{unexpected:?}");
}

/// Every figure that `--fail-if` takes is in the report of a run, so that a renamed row is noticed.
#[test]
fn every_condition_can_be_decided() {
    for name in crate::report::condition_names() {
        let comparison = [">1e18", ">1e9s", ">1e9GiB", ">100%"]
            .into_iter()
            .find_map(|limit| format!("{name}{limit}").parse::<crate::report::Condition>().ok());
        let condition = comparison.unwrap_or_else(|| panic!("{name} takes no limit"));
        let mut outcome = outcome(Figures { delivered_in_window: 10, ..Figures::default() });
        outcome.costs = costs();
        let report = Report::new(results(&options(ROOM), outcome), &[condition]);
        assert_eq!(report.faults(), [""; 0], "{name}");
    }
}

/// An outcome without a fault, of clients that found this.
pub fn outcome(figures: Figures) -> RoomOutcome {
    RoomOutcome {
        processes: 1,
        machines: Vec::new(),
        clock_margin_ns: 0,
        figures,
        answers: HashMap::new(),
        disagreement: Disagreement::default(),
        progress: Progress::default(),
        costs: Costs::default(),
        last_delivery_late_ns: 0,
        history: None,
        course: Course::default(),
    }
}

#[test]
fn history_that_was_read_late_is_not_the_servers_latency() {
    let line = "loadgen event --users 5 --secs 1 --addr 127.0.0.1:1";
    let Ok(Arguments { command: Command::Event(event) }) = Arguments::try_parse_from(line.split(' ')) else {
        panic!("{line} is no event")
    };
    let options = RunOptions::try_from(event).expect("valid");
    for (late_us, bound) in [(100, false), (5_000, true)] {
        let (history, history_lateness) = (constant(8_000), constant(late_us));
        let figures = Figures { history, history_lateness, ..Figures::default() };
        let report = Report::new(results(&options, outcome(figures)), &[]);
        assert_eq!(report.generator_bound_of(LatencyName::History).is_some(), bound, "{late_us} µs late");
    }
}
