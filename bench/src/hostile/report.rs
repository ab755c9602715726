//! The results of attacks beside a bystander, as tables for people and a file for programs, and which goals were met.

use comfy_table::Table;

use super::{Measured, Options, Phase};
use crate::bystander::Quantiles;
use crate::failure::Failure;
use crate::goals::{self, Bound, Goal, shown};
use crate::launch::Launch;
use crate::report::{self, Conditions};

/// The bystander's p99 beside an attack: within this, or within so many times its p99 in quiet.
const P99_MS_MAX: f64 = 50.0;
const P99_GROWTH_MAX: f64 = 5.0;
const TURN_MS_MAX: f64 = 50.0;
/// Kinds of refusals that are named; the others are summed.
const KINDS_SHOWN_MAX: usize = 3;

/// Prints everything, writes the file if the options ask for it, and fails if a goal was not met.
pub fn report(options: &Options, launch: &Launch, all: &[Measured]) -> Result<(), Failure> {
    println!("{}", Conditions::here());
    println!(
        "A room of {} with {} messages and {} pings a second, in quiet for {} s and beside each attack for as long; each \
         attack on a new server with its default budgets. Latencies count from when each was due. Server on cores {:?}, \
         bystander and attackers on {:?}.\n",
        options.members, options.rate, options.rate, options.secs, launch.server_cpus, launch.client_cpus
    );
    println!("{}\n", latencies(all));
    println!("{}", attacks(all));
    let goals: Vec<Goal> = all.iter().flat_map(goals_of).collect();
    goals::print(&goals);
    options.setting.keep(&serde_json::json!({ "attacks": all, "goals": goals }))?;
    goals::judge(&goals)
}

fn latencies(all: &[Measured]) -> Table {
    let header = "ms | messages p50 quiet | … beside | p99 quiet | … beside | max quiet | … beside | pings p99 quiet | \
                  … beside | max quiet | … beside | longest turn quiet | … beside | bystander late itself, p99 | \
                  server disturbed, %";
    let cells = |measured: &Measured| {
        let (quiet, beside) = (&measured.quiet.noticed, &measured.beside.noticed);
        let of_messages = [quiet.messages, beside.messages];
        let of_pings = [quiet.pings, beside.pings];
        let each = |of: [Quantiles; 2], figure: fn(Quantiles) -> f64| of.map(|quantiles| Some(figure(quantiles)));
        let turns = [&measured.quiet, &measured.beside].map(|phase: &Phase| Some(phase.longest_turn_ms));
        let figures = [
            each(of_messages, |quantiles| quantiles.p50_ms),
            each(of_messages, |quantiles| quantiles.p99_ms),
            each(of_messages, |quantiles| quantiles.max_ms),
            each(of_pings, |quantiles| quantiles.p99_ms),
            each(of_pings, |quantiles| quantiles.max_ms),
            turns,
        ];
        report::row(
            measured.attack,
            figures
                .concat()
                .into_iter()
                .chain([Some(beside.own_lateness.p99_ms), Some(measured.beside.disturbed_share * 100.0)]),
        )
    };
    report::table(header, all.iter().map(cells))
}

fn attacks(all: &[Measured]) -> Table {
    let header = "attack | asked/s | done/s | refused, % | most refused as | resident MiB quiet | … beside | bystander \
                  lost | … closed | sign-ins p99 ms quiet | … beside | … failed";
    let cells = |measured: &Measured| {
        let Measured { attack, quiet, beside, asked, .. } = measured;
        let per_second = |count: u64| shown(Some(count as f64 / beside.secs));
        assert!(beside.secs > 0.0, "{attack}: an attack takes time");
        let share = Some(asked.refusals() as f64 * 100.0 / asked.asked.max(1) as f64);
        let mib = |phase: &Phase| shown(Some(phase.resident_bytes as f64 / f64::from(1 << 20)));
        let sign_ins = |phase: &Phase| shown(phase.noticed.sign_ins.map(|quantiles| quantiles.p99_ms));
        vec![
            (*attack).to_owned(),
            per_second(asked.asked),
            per_second(asked.done),
            shown(share),
            kinds(measured),
            mib(quiet),
            mib(beside),
            beside.noticed.lost.to_string(),
            beside.noticed.closed.len().to_string(),
            sign_ins(quiet),
            sign_ins(beside),
            beside.noticed.sign_ins.map_or("–".into(), |_| beside.noticed.sign_ins_failed.to_string()),
        ]
    };
    report::table(header, all.iter().map(cells))
}

/// The kinds of refusals that came most often.
fn kinds(measured: &Measured) -> String {
    let mut kinds: Vec<(&String, &u64)> = measured.asked.refused.iter().collect();
    kinds.sort_by_key(|&(kind, &count)| (std::cmp::Reverse(count), kind));
    let others: u64 = kinds.iter().skip(KINDS_SHOWN_MAX).map(|&(_, count)| count).sum();
    let named = kinds.iter().take(KINDS_SHOWN_MAX).map(|(kind, count)| format!("{kind} ({count})"));
    let rest = (others > 0).then(|| format!("others ({others})"));
    let all: Vec<String> = named.chain(rest).collect();
    if all.is_empty() { "–".into() } else { all.join(", ") }
}

fn goals_of(measured: &Measured) -> Vec<Goal> {
    let Measured { attack, quiet, beside, .. } = measured;
    let p99 = |what: &str, figure: fn(&Phase) -> Quantiles| {
        let bound = Bound::AtMost(p99_bound_ms(figure(quiet).p99_ms));
        let measured = figure(beside);
        let p99_ms = (measured.count > 0).then_some(measured.p99_ms);
        Goal::new(format!("{attack}: p99 of the bystander's {what}, ms"), p99_ms, bound)
    };
    let count =
        |what: &str, count: usize| Goal::new(format!("{attack}: {what}"), Some(count as f64), Bound::AtMost(0.0));
    let mut goals = vec![
        p99("messages", |phase| phase.noticed.messages),
        p99("pings", |phase| phase.noticed.pings),
        Goal::new(format!("{attack}: longest turn, ms"), Some(beside.longest_turn_ms), Bound::AtMost(TURN_MS_MAX)),
        count("messages, acks and pongs of the bystander that were lost", beside.noticed.lost as usize),
        count("members of the bystander that were refused or closed", beside.noticed.closed.len()),
    ];
    if beside.noticed.sign_ins.is_some() {
        goals.push(count("honest sign-ins that failed", beside.noticed.sign_ins_failed as usize));
    }
    goals
}

/// How high the p99 may be beside an attack, in milliseconds to two digits, if it is this in quiet.
fn p99_bound_ms(quiet_ms: f64) -> f64 {
    let grown = (quiet_ms * P99_GROWTH_MAX * 100.0).ceil() / 100.0;
    grown.max(P99_MS_MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bystander::Noticed;
    use crate::hostile::attack::Tally;

    fn phase(p99_ms: f64, longest_turn_ms: f64) -> Phase {
        let quantiles = Quantiles { count: 100, p50_ms: p99_ms / 2.0, p99_ms, max_ms: p99_ms };
        let noticed = Noticed { messages: quantiles, pings: quantiles, ..Noticed::default() };
        Phase { secs: 1.0, noticed, longest_turn_ms, disturbed_share: 0.0, resident_bytes: 0 }
    }

    fn measured(quiet: Phase, beside: Phase) -> Measured {
        Measured { attack: "a", about: "", quiet, beside, asked: Tally::default() }
    }

    fn missed(measured: &Measured) -> usize {
        goals_of(measured).iter().filter(|goal| goal.is_missed()).count()
    }

    #[test]
    fn the_bystander_may_be_slower_within_a_bound_or_a_factor() {
        let check = |quiet, beside, turn, expected| {
            assert_eq!(missed(&measured(phase(quiet, 1.0), phase(beside, turn))), expected, "{quiet} {beside} {turn}");
        };
        check(1.0, 50.0, 50.0, 0);
        check(1.0, 50.1, 50.0, 2);
        check(20.0, 100.0, 1.0, 0);
        check(20.0, 100.1, 1.0, 2);
        check(1.0, 1.0, 50.1, 1);
    }

    #[test]
    fn a_bystander_that_loses_something_or_is_closed_misses_a_goal() {
        let mut one = measured(phase(1.0, 1.0), phase(1.0, 1.0));
        one.beside.noticed.lost = 1;
        assert_eq!(missed(&one), 1);
        one.beside.noticed.closed.push("closed with 1013".into());
        assert_eq!(missed(&one), 2);
        one.beside.noticed.messages.count = 0;
        assert_eq!(goals_of(&one)[0].verdict, "not measured");
    }

    #[test]
    fn the_most_frequent_refusals_are_named() {
        let mut one = measured(phase(1.0, 1.0), phase(1.0, 1.0));
        assert_eq!(kinds(&one), "–");
        for (kind, count) in [("a", 1), ("b", 5), ("c", 3), ("d", 2), ("e", 1)] {
            one.asked.refused.insert(kind.into(), count);
        }
        assert_eq!(kinds(&one), "b (5), c (3), d (2), others (2)");
    }
}
