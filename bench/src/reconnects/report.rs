//! The results of a run with reconnects, as tables for people and a file for programs, and which goals were met.

use comfy_table::Table;

use super::backoff::{FIRST_WAIT_MAX, WAIT_MAX};
use super::generator::Outcome;
use super::{Measured, Options};
use crate::bystander::{Noticed, Quantiles};
use crate::failure::Failure;
use crate::goals::{self, Bound, Goal, ratio};
use crate::launch::Launch;
use crate::report::{self, Conditions, median};

/// By what factor p99 may grow. If windows before the cut differ by more, it may grow by as much as they differ.
const NOISE: f64 = 1.2;
/// The openings that the server answers in a second at least. Everybody is back as soon as that and the clients' own
/// waits allow.
pub const OPENINGS_PER_SECOND: f64 = 10_000.0;
const MEMORY_AFTER: f64 = 1.1;
const MEMORY_DURING: f64 = 1.25;

/// Prints everything, writes the file if the options ask for it, and fails if a goal was not met.
pub fn report(options: &Options, launch: &Launch, measured: &Measured) -> Result<(), Failure> {
    let outcome = &measured.outcome;
    println!("{}", Conditions::here());
    println!(
        "A room of {} at {} messages/s. {} of them are cut at once and come back; they wait up to {:?} at first, then up \
         to twice as long each time, up to {:?}. {} are never cut, and are timed. All have come back once before the first \
         window, so that each window has them in a random order. Server on cores {:?}, clients on {:?}.\n",
        measured.members,
        options.rate,
        outcome.members,
        FIRST_WAIT_MAX,
        WAIT_MAX,
        options.uncut,
        launch.server_cpus,
        launch.client_cpus
    );
    println!("{}\n", phases(measured));
    println!("{}", returns(outcome));
    println!("\nOpenings in each second since the cut: {:?}.", outcome.openings_by_second);
    if !outcome.failed.is_empty() {
        println!("Tries that failed and were not spoiled: {:?}.", outcome.failed);
    }
    let goals = goals(measured);
    goals::print(&goals);
    options.setting.keep(&serde_json::json!({ "measured": measured, "goals": goals }))?;
    goals::judge(&goals)
}

fn phases(measured: &Measured) -> Table {
    let header = "never cut | messages p50 ms | p99 ms | max ms | pings p50 ms | p99 ms | max ms | lost | closed | late \
                  themselves, p99 ms | resident MiB, at most | the kernel's TCP MiB | longest turn ms | of the core | \
                  server disturbed, %";
    let mib = |bytes: u64| Some(bytes as f64 / f64::from(1 << 20));
    let during = std::slice::from_ref(&measured.during);
    let all = [("before", &measured.before[..]), ("during", during), ("after", &measured.after[..])];
    let rows = all.into_iter().zip(measured.stood).map(|((name, windows), stood)| {
        let of = |figure: fn(&Noticed) -> f64| median(windows.iter().map(figure).collect());
        let most = |figure: fn(&Noticed) -> f64| windows.iter().map(figure).reduce(f64::max);
        let figures = [
            of(|noticed| noticed.messages.p50_ms),
            of(|noticed| noticed.messages.p99_ms),
            most(|noticed| noticed.messages.max_ms),
            of(|noticed| noticed.pings.p50_ms),
            of(|noticed| noticed.pings.p99_ms),
            most(|noticed| noticed.pings.max_ms),
            Some(windows.iter().map(|noticed| noticed.lost as f64).sum()),
            Some(windows.iter().map(|noticed| noticed.closed.len() as f64).sum()),
            of(|noticed| noticed.own_lateness.p99_ms),
            mib(stood.resident_bytes),
            mib(stood.kernel_tcp_bytes),
            Some(stood.longest_turn_secs * 1e3),
            Some(stood.core_share),
            Some(stood.disturbed_share * 100.0),
        ];
        report::row(name, figures)
    });
    report::table(header, rows)
}

fn returns(outcome: &Outcome) -> Table {
    let header = "cut | back | openings | … spoiled | … failed | openings/s, mean | … at most | back after s | by their \
                  waits alone s | join p50 ms | p99 ms | max ms | clients late themselves, p99 ms";
    let failed: u64 = outcome.failed.values().sum();
    let figures = [
        outcome.back as f64,
        outcome.openings as f64,
        outcome.spoiled as f64,
        failed as f64,
        outcome.openings as f64 / outcome.back_after_secs.max(f64::MIN_POSITIVE),
        outcome.openings_by_second.iter().copied().max().unwrap_or_default() as f64,
        outcome.back_after_secs,
        outcome.planned_secs,
        outcome.joining.p50_ms,
        outcome.joining.p99_ms,
        outcome.joining.max_ms,
        outcome.own_lateness.p99_ms,
    ];
    report::table(header, [report::row(outcome.members, figures.map(Some))])
}

fn goals(measured: &Measured) -> Vec<Goal> {
    let outcome = &measured.outcome;
    let p99 = |windows: &[Noticed], figure: fn(&Noticed) -> f64| median(windows.iter().map(figure).collect());
    let during = std::slice::from_ref(&measured.during);
    let grown = |what: &str, windows: &[Noticed], figure: fn(&Noticed) -> f64| {
        let bound = (spread(&measured.before, figure).max(NOISE) * 100.0).ceil() / 100.0;
        Goal::new(what, ratio(p99(windows, figure), p99(&measured.before, figure)), Bound::AtMost(bound))
    };
    let messages = |noticed: &Noticed| noticed.messages.p99_ms;
    let pings = |noticed: &Noticed| noticed.pings.p99_ms;
    let all = || measured.before.iter().chain(during).chain(&measured.after);
    let [stood_before, stood_during, stood_after] = measured.stood.map(|stood| stood.resident_bytes as f64);
    let memory = |stood: f64| ratio(Some(stood), Some(stood_before));
    let allowed_secs = outcome.planned_secs + outcome.openings as f64 / OPENINGS_PER_SECOND;
    let none = |what: &str, count: u64| Goal::new(what, Some(count as f64), Bound::AtMost(0.0));
    vec![
        none("members who did not come back", outcome.members - outcome.back),
        Goal::new(
            format!("seconds until all were back ÷ (their waits + openings ÷ {OPENINGS_PER_SECOND}/s)"),
            ratio(Some(outcome.back_after_secs), Some(allowed_secs)),
            Bound::AtMost(1.0),
        ),
        none("messages, acks and pongs lost by those never cut", all().map(|noticed| noticed.lost).sum()),
        none("of those never cut, refused or closed", all().map(|noticed| noticed.closed.len() as u64).sum()),
        grown("p99 of messages of those never cut, during ÷ before", during, messages),
        grown("… after ÷ before", &measured.after, messages),
        grown("p99 of their pings, during ÷ before", during, pings),
        grown("… after ÷ before", &measured.after, pings),
        Goal::new("memory during ÷ before", memory(stood_during), Bound::AtMost(MEMORY_DURING)),
        Goal::new("memory after ÷ before", memory(stood_after), Bound::AtMost(MEMORY_AFTER)),
    ]
}

/// The factor by which windows differ in a figure.
fn spread(windows: &[Noticed], figure: fn(&Noticed) -> f64) -> f64 {
    let most = windows.iter().map(figure).reduce(f64::max);
    let least = windows.iter().map(figure).reduce(f64::min);
    ratio(most, least).unwrap_or(1.0)
}

impl Outcome {
    /// The sum of two processes. Of quantiles it has the larger ones.
    pub fn and(self, other: Outcome) -> Outcome {
        let mut failed = self.failed;
        for (kind, count) in other.failed {
            *failed.entry(kind).or_default() += count;
        }
        let seconds = self.openings_by_second.len().max(other.openings_by_second.len());
        let in_second = |by_second: &[u64], second: usize| by_second.get(second).copied().unwrap_or_default();
        let openings =
            |second| in_second(&self.openings_by_second, second) + in_second(&other.openings_by_second, second);
        Outcome {
            members: self.members + other.members,
            back: self.back + other.back,
            openings: self.openings + other.openings,
            spoiled: self.spoiled + other.spoiled,
            failed,
            back_after_secs: self.back_after_secs.max(other.back_after_secs),
            planned_secs: self.planned_secs.max(other.planned_secs),
            openings_by_second: (0..seconds).map(openings).collect(),
            joining: self.joining.or_larger(other.joining),
            own_lateness: self.own_lateness.or_larger(other.own_lateness),
        }
    }
}

impl Quantiles {
    fn or_larger(self, other: Quantiles) -> Quantiles {
        Quantiles {
            count: self.count + other.count,
            p50_ms: self.p50_ms.max(other.p50_ms),
            p99_ms: self.p99_ms.max(other.p99_ms),
            max_ms: self.max_ms.max(other.max_ms),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reconnects::Stood;

    fn noticed(p99_ms: f64) -> Noticed {
        let quantiles = Quantiles { count: 1, p50_ms: p99_ms, p99_ms, max_ms: p99_ms };
        Noticed { messages: quantiles, pings: quantiles, ..Noticed::default() }
    }

    fn returned(back_after_secs: f64, during_ms: f64, after_bytes: u64) -> Measured {
        let stood = |resident_bytes| Stood { resident_bytes, ..Stood::default() };
        Measured {
            before: vec![noticed(10.0), noticed(11.0)],
            during: noticed(during_ms),
            after: vec![noticed(10.0)],
            outcome: Outcome {
                members: 2,
                back: 2,
                openings: 5_000,
                planned_secs: 9.0,
                back_after_secs,
                ..Outcome::default()
            },
            stood: [stood(100), stood(120), stood(after_bytes)],
            ..Measured::default()
        }
    }

    #[test]
    fn the_return_the_others_and_the_memory_are_judged() {
        let check = |measured: Measured, expected: &[&str]| {
            let missed = goals(&measured).into_iter().filter(Goal::is_missed).map(|goal| goal.question);
            assert_eq!(missed.collect::<Vec<_>>(), expected);
        };
        check(returned(9.5, 12.6, 110), &[]);
        check(returned(9.6, 12.6, 110), &["seconds until all were back ÷ (their waits + openings ÷ 10000/s)"]);
        check(
            returned(9.5, 12.7, 110),
            &["p99 of messages of those never cut, during ÷ before", "p99 of their pings, during ÷ before"],
        );
        check(returned(9.5, 12.0, 111), &["memory after ÷ before"]);
        let mut away = returned(9.5, 12.0, 110);
        away.outcome.back = 1;
        check(away, &["members who did not come back"]);
    }

    #[test]
    fn the_outcomes_of_processes_add_up() {
        let outcome = |kind: &str, by_second: &[u64], back_after_secs| Outcome {
            members: 1,
            failed: [(kind.to_owned(), 2)].into(),
            openings_by_second: by_second.to_vec(),
            back_after_secs,
            ..Outcome::default()
        };
        let sum = outcome("a", &[1, 2], 3.0).and(outcome("a", &[4], 5.0)).and(outcome("b", &[], 1.0));
        assert_eq!((sum.members, sum.back_after_secs), (3, 5.0));
        assert_eq!(sum.openings_by_second, [5, 2]);
        assert_eq!((sum.failed["a"], sum.failed["b"]), (4, 2));
    }
}
