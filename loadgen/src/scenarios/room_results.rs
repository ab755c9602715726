//! The results of `loadgen room`, as sections.

use std::collections::HashMap;

use crate::checks::check::{Answers, Disagreement};
use crate::checks::figures::{Figures, LifeFigures};
use crate::checks::latency_name::LatencyName;
use crate::checks::whole_history::HistoryFigures;
use crate::costs::meter::Costs;
use crate::costs::progress::Progress;
use crate::options::RunOptions;
use crate::plan::run_plan::OrderDemand;
use crate::team::machine::MachineFigures;

use super::{closes, room_costs};
use crate::base::words::{grouped, number, ratio};
use crate::report::{Course, Generator, KEY_SHOWN, Route, RunResults, Section, Value};

const ROOM_PROMISE: &str = "everything accepted was delivered to every member, once and in order";
const EVENT_PROMISE: &str =
    "everything that was due to a member was delivered, once and in order, or the server gave notice of it";

/// A finished run, before it is judged.
pub struct RoomOutcome {
    pub processes: usize,
    /// The other machines of the run, and how exactly their clocks are known.
    pub machines: Vec<MachineFigures>,
    /// How far the times from two workers may disagree.
    pub clock_margin_ns: u64,
    pub figures: Figures,
    /// By room number.
    pub answers: HashMap<u32, Answers>,
    pub disagreement: Disagreement,
    pub progress: Progress,
    pub costs: Costs,
    /// How long after the last scheduled send the last delivery came.
    pub last_delivery_late_ns: u64,
    /// What the rooms' histories held at the end, if they were read.
    pub history: Option<HistoryFigures>,
    pub course: Course,
}

pub fn results(options: &RunOptions, outcome: RoomOutcome) -> RunResults {
    let total = |numbers: fn(&Answers) -> &HashMap<u32, Vec<u32>>| -> u64 {
        outcome.answers.values().flat_map(|room| numbers(room).values()).map(|of| of.len() as u64).sum()
    };
    // What publishers withheld while they were away is refused, and what a drain cut off is unanswered, for the checks of
    // deliveries.
    let (refused, unanswered) = (total(|room| &room.refused), total(|room| &room.unanswered));
    assert!(refused + unanswered <= options.plan.messages(), "each message has one answer at most");
    let accepted = options.plan.messages() - refused - unanswered;
    let mut sections = vec![
        messages(options, &outcome, [accepted, refused, unanswered]),
        deliveries(options, &outcome),
        connections(options, &outcome),
    ];
    let comes_and_goes = options.plan.conduct.is_some();
    sections.extend(comes_and_goes.then(|| coming_and_going(options, &outcome)));
    sections.extend(closes::section(&outcome.course));
    sections.extend(
        outcome.history.iter().flat_map(|history| [history_reads(options, &outcome.figures), whole_history(history)]),
    );
    sections.extend(room_costs::sections(options, &outcome.costs, &outcome.figures, &outcome.course));
    let nothing = (accepted == 0).then(|| "no message was accepted, so nothing was shown".to_owned());
    let drain = closes::faults(&outcome.course);
    let last_member = outcome.figures.last_member(&options.plan);
    let reached =
        (last_member.percentiles().count > 0).then_some((LatencyName::LastMember, Route::ToMembers, last_member));
    let Figures { delivery, ack, history, history_lateness, lateness, lag, publishers_lag, threads, samples, .. } =
        outcome.figures;
    let messages =
        [(LatencyName::Delivery, Route::ToMembers, delivery), (LatencyName::Ack, Route::BackToPublisher, ack)];
    let read = comes_and_goes.then_some((LatencyName::History, Route::Timed, history));
    RunResults {
        scenario: options.scenario,
        heading: heading(options, outcome.processes),
        settings: settings(options),
        sections,
        latencies: messages.into_iter().chain(reached).chain(read).collect(),
        faults: nothing.into_iter().chain(drain).collect(),
        promise: if comes_and_goes { EVENT_PROMISE } else { ROOM_PROMISE },
        samples: samples.into_texts(),
        generator: Generator {
            lateness,
            reads_lateness: history_lateness,
            lag,
            publishers_lag,
            threads,
            machines: outcome.machines,
        },
        course: outcome.course,
    }
}

fn heading(options: &RunOptions, processes: usize) -> String {
    let plan = &options.plan;
    let place = match plan.rooms.as_slice() {
        [room] => format!("room {:?}", room.entrance.room),
        rooms => format!("{} rooms", grouped(rooms.len() as u64)),
    };
    let secs = options.secs + options.warmup_secs;
    format!(
        "{} users in {place} on {}, {} publishers, {} messages/s for {} s (after {} s of warm-up), {} byte contents, {} {}",
        plan.users(),
        plan.target.server,
        plan.publishers(),
        number(ratio(plan.messages() as f64, secs)),
        options.secs,
        options.warmup_secs,
        plan.rooms.first().map_or(0, |room| room.payload_bytes),
        processes,
        if processes == 1 { "process" } else { "processes" },
    )
}

/// Reports are passed on, so the server's key is not shown.
fn settings(options: &RunOptions) -> serde_json::Value {
    let mut options = options.clone();
    KEY_SHOWN.clone_into(&mut options.plan.target.server_key);
    serde_json::to_value(options).expect("options are plain structures, which always serialise")
}

fn messages(options: &RunOptions, outcome: &RoomOutcome, [accepted, refused, unanswered]: [u64; 3]) -> Section {
    let LifeFigures { withheld, cut_off_publishes, .. } = outcome.figures.lives;
    let section = Section::new("messages")
        .count("scheduled", options.plan.messages())
        .count("sent", outcome.progress.sent)
        .count("accepted", accepted)
        .count("refused", refused - withheld)
        .count("refused as too fast", outcome.figures.refused_too_fast)
        .fault("unanswered", unanswered - cut_off_publishes, "published without an answer")
        .fault("stray answers", outcome.figures.stray_answers, "answers to nothing");
    if options.plan.drain_secs().is_none() {
        return section;
    }
    section.count("not sent while away", withheld).count("cut off by the drain", cut_off_publishes)
}

fn deliveries(options: &RunOptions, outcome: &RoomOutcome) -> Section {
    let RoomOutcome { figures, disagreement, .. } = outcome;
    let out_of_order = figures.out_of_order + figures.tally.out_of_order + disagreement.out_of_order;
    // If all members received everything in one order, every message would have a place.
    let all_was_heard = figures.tally.missing + figures.tally.skipped + figures.tally.announced == 0;
    let no_other_reason = out_of_order == 0 && all_was_heard && options.plan.order == OrderDemand::Room;
    let unplaced = if no_other_reason { disagreement.unplaced } else { 0 };
    let per_second = ratio(figures.delivered_in_window as f64, options.secs);
    Section::new("deliveries")
        .count("expected", figures.tally.expected)
        .count("delivered", figures.tally.delivered)
        .count("skipped as announced", figures.tally.skipped)
        .count("owed to closed readers", figures.tally.announced)
        .fault("missing", figures.tally.missing, "missing")
        .count("beyond what was due", figures.tally.beyond)
        .fault("duplicates", figures.duplicates + disagreement.shared_ids, "delivered twice")
        .fault("out of order", out_of_order + unplaced, "out of order")
        .fault("corrupt", figures.corrupt + disagreement.other_ids, "corrupt")
        .fault("refused but delivered", figures.tally.refused_but_delivered, "refused but delivered all the same")
        .count("unanswered but delivered", figures.tally.unanswered_but_delivered)
        .count("foreign", figures.foreign)
        .count("in window", figures.delivered_in_window)
        .row("per second", Value::Number(per_second))
        .row("last after end", Value::Milliseconds(outcome.last_delivery_late_ns as f64 / 1e6))
}

fn connections(options: &RunOptions, outcome: &RoomOutcome) -> Section {
    let presence = &outcome.figures.presence;
    Section::new("connections")
        .count("users", u64::from(options.plan.users()))
        .fault("disconnected", outcome.figures.disconnected, "users disconnected")
        .count("processes", outcome.processes as u64)
        .count("presence frames", presence.frames)
        .count("presence joins", presence.joins)
        .count("presence leaves", presence.leaves)
        .count("presence incomplete members", presence.incomplete_members)
}

fn coming_and_going(options: &RunOptions, outcome: &RoomOutcome) -> Section {
    let lives = &outcome.figures.lives;
    let section = Section::new("coming and going")
        .count("stays", lives.stays)
        .count("left", lives.left)
        .count("connections dropped", lives.dropped)
        .count("slow readers closed", lives.closed)
        .count("closed without seeing the notice", lives.cut_off)
        .count("gaps announced", lives.gaps)
        .fault("failed to come back", lives.failed, "users could not come back")
        .row("edges of stays uncertain by", Value::Milliseconds(outcome.clock_margin_ns as f64 / 1e6))
        .fault("heard outside of the room", lives.outside, "deliveries to users who were not in the room");
    if options.plan.drain_secs().is_none() {
        return section;
    }
    let away = lives.sought - lives.returned;
    let section = section.count("closed by the drain", lives.drained).count("came back", lives.returned);
    // If no user came back, the server was not started again, and there is no other one.
    if lives.returned == 0 {
        return section.count("still away", away);
    }
    section.fault("still away", away, "users did not come back after the drain")
}

fn history_reads(options: &RunOptions, figures: &Figures) -> Section {
    let section = Section::new("history reads").count("pages", figures.history_reads).fault(
        "wrong",
        figures.history_faults,
        "wrong pages of history",
    );
    // A server that drains answers no reads.
    if options.plan.drain_secs().is_some() {
        return section.count("failed", figures.history_failures).count("left out", figures.history_left_out);
    }
    section.fault("failed", figures.history_failures, "history reads that failed").fault(
        "left out",
        figures.history_left_out,
        "history reads left out, as too many were under way",
    )
}

fn whole_history(history: &HistoryFigures) -> Section {
    Section::new("whole history")
        .count("expected", history.expected)
        .count("found", history.found)
        .fault("unread", history.unread, "rooms whose history could not be read")
        .fault("missing", history.missing, "missing in history")
        .fault("duplicates", history.duplicates, "twice in history")
        .fault("out of order", history.out_of_order, "out of order in history")
        .fault("corrupt", history.corrupt, "corrupt in history, or not updated")
        .fault("removed but there", history.removed_but_there, "in history although removed")
        .fault("unknown", history.unknown, "in history although not accepted")
        .fault("directions differ", history.directions_differ, "different in history when read the other way")
        .count("kept in other bytes", history.reworded)
        .count("foreign", history.foreign)
}

#[cfg(test)]
pub mod tests;
