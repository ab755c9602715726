//! The results of a run with stragglers, as tables for people and a file for programs, and which goals were met.

use comfy_table::Table;
use engine::limits::SUBSCRIBER_LAG_BYTES_MAX;

use super::crowd::{Outcome, SLOW_BYTES_PER_SECOND};
use super::member::Behavior;
use super::{DEADLINE, Measurements, Options, Phase, Standing};
use crate::failure::Failure;
use crate::goals::{self, Bound, Goal, ratio, shown};
use crate::report::{self, Conditions, median};
use crate::run::Run;
use crate::watch::Look;

/// By what factor the others' p99 may grow. If windows of the same kind differ by more than this, it may grow by as
/// much as they differ. If they differ by more than `NOISE_MAX`, the figures say nothing.
const NOISE: f64 = 1.2;
const NOISE_MAX: f64 = 2.0;
/// The memory that the log may take, in multiples of a member's greatest lag: its vector doubles as it grows, and half
/// of it may have been read and not returned yet.
const LOG_MEMORY: f64 = 4.0;
/// The deadline of a session is checked once a second, and the bench looks four times a second.
const DEADLINE_SLACK_SECS: f64 = 2.0;
/// The greatest ratio of resident memory at the end to resident memory with every member connected and no messages. The
/// tables and the allocator keep that much.
const LEFT_MEMORY: f64 = 1.1;

/// Prints everything, writes the file if the options ask for it, and fails if a goal was not met.
pub fn report(options: &Options, stopped: usize, measurements: &Measurements) -> Result<(), Failure> {
    println!("{}", Conditions::here());
    println!(
        "A room of {} at {} messages/s, {} bytes of content each. {stopped} of them stop for {} s: a third reads nothing, a \
         third reads nothing and has asked to be moved on, a third reads {} bytes/s. The {} others are timed, from the \
         intended time of sending. Each member is a user of its own, and the server has its default budgets.\n",
        options.members,
        options.rate,
        options.payload,
        options.secs,
        SLOW_BYTES_PER_SECOND,
        options.members - stopped
    );
    if let Some(core) = measurements.shared_core {
        println!(
            "The stragglers' processes share core {core} with the client that times the others: while they read, that costs \
             the others something which is not the server's. Alone, it does not.\n"
        );
    }
    println!("{}\n", phases(measurements));
    println!("{}\n", outcomes(measurements));
    println!("{}", standings(measurements));
    if let Some(vanishing) = &measurements.vanishing {
        println!(
            "\nOf {} who vanished in a quiet room, {} were closed, {:.1} to {:.1} s after that; {} of them \
             found the reason, code 1000, when they woke up.",
            vanishing.vanished,
            vanishing.closed,
            vanishing.first_after_secs,
            vanishing.last_after_secs,
            vanishing.woken.closed_1000
        );
    }
    println!("\n{}", in_words(stopped, measurements));
    let goals = goals(measurements);
    goals::print(&goals);
    let members = options.members;
    let results = serde_json::json!({
        "members": members, "stopped": stopped, "measurements": measurements, "goals": goals,
    });
    options.setting.keep(&results)?;
    goals::judge(&goals)
}

fn phases(measurements: &Measurements) -> Table {
    let header = "the others | M deliveries/s | p50 ms | p99 ms | … of the worst window | resident MiB, at most | \
                   parked, at most | MiB owed to the slowest | the kernel's TCP MiB | disturbed, %";
    let cells = |phase: &Phase| {
        let looks = || measurements.looks.iter().filter(|look| look.phase == phase.name);
        let most = |figure: fn(&Look) -> u64| looks().map(figure).max().map(|most| most as f64);
        let figures = [
            phase.median(|run| run.deliveries_per_second / 1e6),
            phase.median(|run| run.latency_p50_ms),
            phase.median(|run| run.latency_p99_ms),
            phase.most(|run| run.latency_p99_ms),
            mib(most(|look| look.resident_bytes)),
            most(|look| look.levels.parked),
            mib(most(|look| look.levels.lag_bytes)),
            mib(most(|look| look.kernel_tcp_bytes)),
            phase.median(|run| run.disturbed_share * 100.0),
        ];
        report::row(format!("{}, {} windows", phase.name, phase.windows.len()), figures)
    };
    report::table(header, measurements.phases.iter().map(cells))
}

fn outcomes(measurements: &Measurements) -> Table {
    let header = "who stopped | members | caught up | closed with 1013 | … and reset | closed otherwise | never \
                   caught up | gaps | messages missed, as told | … not as told";
    let cells = |(behavior, outcome): (&Behavior, &Outcome)| {
        let figures = [
            outcome.members,
            outcome.caught_up,
            outcome.closed_1013,
            outcome.reset,
            outcome.closed_1000 + outcome.closed_otherwise,
            outcome.behind,
            outcome.gaps,
            outcome.missed,
            outcome.wrong,
        ];
        report::counts(format!("{behavior:?}").to_lowercase(), figures)
    };
    report::table(header, measurements.outcomes.iter().map(cells))
}

fn standings(measurements: &Measurements) -> Table {
    let header =
        "the server | sessions | channels | members | subscriptions | parked | owed bytes | descriptors | resident MiB";
    let all = [
        ("before any client came", &measurements.empty),
        ("full, nothing said", &measurements.full),
        ("left", &measurements.left),
    ];
    let cells = |(name, standing): (&str, &Option<Standing>)| {
        let Standing { look, descriptors } = standing.as_ref()?;
        let levels = look.levels;
        let counts = [
            levels.sessions,
            levels.channels,
            levels.members,
            levels.subscriptions,
            levels.parked,
            levels.lag_bytes,
            *descriptors as u64,
        ];
        let resident = mib(Some(look.resident_bytes as f64));
        Some([report::counts(name, counts), vec![shown(resident)]].concat())
    };
    report::table(header, all.into_iter().filter_map(cells))
}

fn goals(measurements: &Measurements) -> Vec<Goal> {
    let phase = |name: &str| measurements.phases.iter().find(|phase| phase.name == name);
    let p99 = |name: &str| phase(name)?.median(|run| run.latency_p99_ms);
    let spread = spread(measurements);
    let noise = Bound::AtMost((spread.max(NOISE) * 100.0).ceil() / 100.0);
    let beside = |name: &str| ratio(p99("during"), p99(name)).filter(|_| spread <= NOISE_MAX);
    let total = measurements.outcomes.values().fold(Outcome::default(), |sum, outcome| sum.and(outcome));
    let skipping = measurements.outcomes.get(&Behavior::Skipping).copied().unwrap_or_default();
    let last = measurements.looks.last().map(|look| look.levels).unwrap_or_default();
    let figure = |count: u64| Some(count as f64);
    let (empty, full, left) = (&measurements.empty, &measurements.full, &measurements.left);
    let leaked = left.as_ref().map(|left| {
        let levels = left.look.levels;
        levels.connections + levels.channels + levels.members + levels.subscriptions + levels.parked + levels.lag_bytes
    });
    let descriptors = |standing: &Option<Standing>| Some(standing.as_ref()?.descriptors as f64);
    let resident = |standing: &Option<Standing>| Some(standing.as_ref()?.look.resident_bytes as f64);
    let mut goals = vec![
        Goal::new("the others' p99, during ÷ before they stop", beside("before"), noise),
        Goal::new("the others' p99, during ÷ before they come", beside("alone"), noise),
        Goal::new("memory during, more than before ÷ 4 MiB", memory_growth(measurements), Bound::AtMost(LOG_MEMORY)),
        Goal::new("stragglers who neither caught up nor were let go", figure(total.behind), Bound::AtMost(0.0)),
        Goal::new(
            "… let go for another reason",
            figure(total.closed_1000 + total.closed_otherwise),
            Bound::AtMost(0.0),
        ),
        Goal::new("… let go though they had asked to be moved on", figure(skipping.let_go()), Bound::AtMost(0.0)),
        Goal::new(
            "let go as they say, and as the server counts: difference",
            figure(total.let_go().abs_diff(last.slow_readers_closed)),
            Bound::AtMost(0.0),
        ),
        Goal::new("messages missed otherwise than was told", figure(total.wrong), Bound::AtMost(0.0)),
    ];
    if let Some(vanishing) = &measurements.vanishing {
        let deadline = DEADLINE.as_secs_f64() + DEADLINE_SLACK_SECS;
        let missing = vanishing.vanished - vanishing.closed.min(vanishing.vanished);
        goals.push(Goal::new("of the vanished, not closed", figure(missing), Bound::AtMost(0.0)));
        goals.push(Goal::new("seconds to the last of them", Some(vanishing.last_after_secs), Bound::AtMost(deadline)));
    }
    goals.extend([
        Goal::new("connections, memberships and debts left in the end", leaked.and_then(figure), Bound::AtMost(0.0)),
        Goal::new(
            "descriptors more in the end than before any client came",
            descriptors(left).zip(descriptors(empty)).map(|(left, empty)| left - empty),
            Bound::AtMost(0.0),
        ),
        Goal::new(
            "memory in the end ÷ with all members there and no messages",
            ratio(resident(left), resident(full)),
            Bound::AtMost(LEFT_MEMORY),
        ),
    ]);
    goals
}

/// The factor by which windows of the same kind differ in their p99.
fn spread(measurements: &Measurements) -> f64 {
    let kinds = measurements.phases.iter().filter(|phase| phase.name == "alone" || phase.name == "before");
    kinds.filter_map(Phase::spread).fold(1.0, f64::max)
}

/// Facts that the tables do not show.
fn in_words(stopped: usize, measurements: &Measurements) -> String {
    let most = |name: &str, figure: fn(&Look) -> u64| {
        measurements.looks.iter().filter(|look| look.phase == name).map(figure).max().unwrap_or_default()
    };
    let tcp = |name| most(name, |look| look.kernel_tcp_bytes);
    let kernel = tcp("during").saturating_sub(tcp("before")) as f64 / 1024.0 / stopped as f64;
    let spread = spread(measurements);
    let noise = match spread {
        spread if spread > NOISE_MAX => "so they say NOTHING about the others; measure again with a quiet machine",
        _ => "so more than that (and than 1.2) is what the stragglers would be blamed for",
    };
    format!(
        "What a straggler is sent and does not read, the kernel keeps, before the server keeps anything: {kernel:.0} KiB \
         each, at both ends together. That is not in the resident memory, where only the log is; the server counts {} \
         closed as too slow and {} moved on.\nWindows of the same kind, before any member stops, differ in their p99 by up \
         to {}, {noise}.",
        most("after", |look| look.levels.slow_readers_closed),
        most("after", |look| look.levels.gaps),
        shown(Some(spread)),
    )
}

/// By how much resident memory grew while members had stopped, in multiples of a member's greatest lag.
fn memory_growth(measurements: &Measurements) -> Option<f64> {
    let peak = |name: &str| {
        measurements.looks.iter().filter(|look| look.phase == name).map(|look| look.resident_bytes_peak).max()
    };
    Some(peak("during")?.saturating_sub(peak("before")?) as f64 / SUBSCRIBER_LAG_BYTES_MAX as f64)
}

impl Phase {
    fn median(&self, figure: fn(&Run) -> f64) -> Option<f64> {
        median(self.windows.iter().map(figure).collect())
    }

    fn most(&self, figure: fn(&Run) -> f64) -> Option<f64> {
        self.windows.iter().map(figure).reduce(f64::max)
    }

    /// The ratio of the windows' highest and lowest p99.
    fn spread(&self) -> Option<f64> {
        let least = self.windows.iter().map(|run| run.latency_p99_ms).reduce(f64::min);
        ratio(self.most(|run| run.latency_p99_ms), least)
    }
}

fn mib(bytes: Option<f64>) -> Option<f64> {
    bytes.map(|bytes| bytes / f64::from(1 << 20))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::watch::Levels;

    fn look(phase: &'static str, resident_bytes: u64, levels: Levels) -> Look {
        Look {
            at_secs: 0.0,
            phase,
            levels,
            resident_bytes,
            resident_bytes_peak: resident_bytes,
            kernel_tcp_bytes: 0,
            longest_turn_secs: 0.0,
        }
    }

    /// The goals that a run misses if it closes as many members as it counts, and ends with these levels and this
    /// memory.
    fn missed(during_bytes: u64, left_bytes: u64, left: Levels) -> Vec<String> {
        let standing = |look| Some(Standing { look, descriptors: 15 });
        let mut measurements = Measurements {
            empty: standing(look("start", 10 << 20, Levels::default())),
            full: standing(look("filling", 20 << 20, Levels::default())),
            left: standing(look("leaving", left_bytes, left)),
            ..Measurements::default()
        };
        let closed = Levels { slow_readers_closed: 3, ..left };
        measurements.looks = vec![
            look("before", 20 << 20, Levels::default()),
            look("during", during_bytes, Levels::default()),
            look("leaving", left_bytes, closed),
        ];
        measurements
            .outcomes
            .insert(Behavior::Silent, Outcome { members: 3, closed_1013: 1, reset: 2, ..Outcome::default() });
        goals(&measurements).into_iter().filter(Goal::is_missed).map(|goal| goal.question).collect()
    }

    #[test]
    fn what_is_left_and_what_it_took_of_memory_is_judged() {
        let check =
            |during, left_bytes, left, expected: &[&str]| assert_eq!(missed(during, left_bytes, left), expected);
        check(36 << 20, 21 << 20, Levels::default(), &[]);
        check(37 << 20, 21 << 20, Levels::default(), &["memory during, more than before ÷ 4 MiB"]);
        check(20 << 20, 23 << 20, Levels::default(), &["memory in the end ÷ with all members there and no messages"]);
        let subscribed = Levels { subscriptions: 1, ..Levels::default() };
        check(20 << 20, 20 << 20, subscribed, &["connections, memberships and debts left in the end"]);
    }
}
