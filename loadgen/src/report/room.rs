//! What `loadgen room` found, as sections.

use std::collections::HashMap;

use crate::check::{Answers, Disagreement, OrderDemand};
use crate::costs::Costs;
use crate::figures::Figures;
use crate::machine::MachineFigures;
use crate::options::RunOptions;
use crate::orders::Progress;

use super::costs;
use super::words::{grouped, number, ratio};
use super::{Course, DELIVERY, Findings, Generator, KEY_SHOWN, Section, Value};

/// A finished run, before it is judged.
pub struct Outcome {
    pub processes: usize,
    /// The other machines that took part, and how well their clocks are known.
    pub machines: Vec<MachineFigures>,
    pub figures: Figures,
    /// By the number of the room.
    pub answers: HashMap<u32, Answers>,
    pub disagreement: Disagreement,
    pub progress: Progress,
    pub costs: Costs,
    /// How long after the last scheduled send the last delivery came.
    pub last_delivery_late_ns: u64,
    pub course: Course,
}

pub fn findings(options: &RunOptions, outcome: Outcome) -> Findings {
    let total = |numbers: fn(&Answers) -> &HashMap<u32, Vec<u32>>| -> u64 {
        outcome.answers.values().flat_map(|room| numbers(room).values()).map(|of| of.len() as u64).sum()
    };
    let (refused, unanswered) = (total(|room| &room.refused), total(|room| &room.unanswered));
    let accepted = options.plan.messages() - refused - unanswered;
    let mut sections = vec![
        messages(options, &outcome, [accepted, refused, unanswered]),
        deliveries(options, &outcome),
        connections(options, &outcome),
    ];
    sections.extend(costs::sections(options, &outcome.costs, &outcome.figures, &outcome.course));
    let nothing = (accepted == 0).then(|| "no message was accepted, so nothing was shown".to_owned());
    let Figures { delivery, ack, lateness, lag, threads, samples, .. } = outcome.figures;
    Findings {
        scenario: options.scenario,
        heading: heading(options, outcome.processes),
        settings: settings(options),
        sections,
        latencies: vec![(DELIVERY, delivery), ("ack", ack)],
        faults: nothing.into_iter().collect(),
        promise: "everything accepted was delivered to everybody, once and in order",
        samples,
        generator: Generator { lateness, lag, threads, machines: outcome.machines },
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

/// Reports are shown around; a server's key is not.
fn settings(options: &RunOptions) -> serde_json::Value {
    let mut options = options.clone();
    KEY_SHOWN.clone_into(&mut options.plan.target.server_key);
    serde_json::to_value(options).expect("options are plain structures, which always serialise")
}

fn messages(options: &RunOptions, outcome: &Outcome, [accepted, refused, unanswered]: [u64; 3]) -> Section {
    Section::new("messages")
        .count("scheduled", options.plan.messages())
        .count("sent", outcome.progress.sent)
        .count("accepted", accepted)
        .count("refused", refused)
        .fault("unanswered", unanswered, "published without an answer")
        .fault("stray answers", outcome.figures.stray_answers, "answers to nothing")
}

fn deliveries(options: &RunOptions, outcome: &Outcome) -> Section {
    let Outcome { figures, disagreement, .. } = outcome;
    let out_of_order = figures.out_of_order + figures.tally.out_of_order + disagreement.out_of_order;
    // Members that had everything and one order would have placed every message.
    let no_other_reason = out_of_order == 0 && figures.tally.missing == 0 && options.plan.order == OrderDemand::Room;
    let unplaced = if no_other_reason { disagreement.unplaced } else { 0 };
    let per_second = ratio(figures.delivered_in_window as f64, options.secs);
    Section::new("deliveries")
        .count("expected", figures.tally.expected)
        .count("delivered", figures.tally.delivered)
        .fault("missing", figures.tally.missing, "missing")
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

fn connections(options: &RunOptions, outcome: &Outcome) -> Section {
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
