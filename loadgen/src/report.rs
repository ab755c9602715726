//! What a run came to, in words, as tables and as JSON.

use std::collections::HashMap;
use std::io;
use std::path::Path;

use comfy_table::{Cell, CellAlignment, Table, presets};
use serde::Serialize;

use crate::check::{Answers, Disagreement, OrderDemand};
use crate::figures::{Figures, LifeFigures, PresenceFigures};
use crate::latency::Percentiles;
use crate::options::RunOptions;
use crate::orders::Progress;

/// A finished run, before it is judged.
pub struct Outcome {
    pub processes: usize,
    pub figures: Figures,
    /// By the number of the room.
    pub answers: HashMap<u32, Answers>,
    pub disagreement: Disagreement,
    pub progress: Progress,
    /// What the server's process cost, when it was watched.
    pub costs: Option<Costs>,
    /// How long after the last scheduled send the last delivery came.
    pub last_delivery_late_ns: u64,
}

/// The server's process: CPU time while measuring, resident memory at three moments.
#[derive(Clone, Copy, Default, Serialize)]
pub struct Costs {
    pub cpu_user_secs: f64,
    pub cpu_system_secs: f64,
    pub resident_before_bytes: u64,
    pub resident_joined_bytes: u64,
    pub resident_end_bytes: u64,
}

/// All figures of a run, and the verdict.
#[derive(Serialize)]
pub struct Report {
    passed: bool,
    /// What is wrong, in words; empty when passed.
    faults: Vec<String>,
    command: String,
    options: RunOptions,
    processes: usize,
    publishers: u64,
    messages: Messages,
    deliveries: Deliveries,
    latency: Latencies,
    presence: PresenceFigures,
    lives: Option<LifeFigures>,
    disconnected: u64,
    server: Option<ServerFigures>,
    /// A few of the faults as the clients met them.
    samples: Vec<String>,
}

#[derive(Serialize)]
struct Messages {
    scheduled: u64,
    sent: u64,
    accepted: u64,
    refused: u64,
    unanswered: u64,
    stray_answers: u64,
}

#[derive(Serialize)]
struct Deliveries {
    expected: u64,
    delivered: u64,
    skipped: u64,
    announced: u64,
    missing: u64,
    beyond: u64,
    duplicates: u64,
    out_of_order: u64,
    corrupt: u64,
    refused_but_delivered: u64,
    unanswered_but_delivered: u64,
    foreign: u64,
    in_window: u64,
    per_second: f64,
    last_after_end_ms: f64,
}

#[derive(Serialize)]
struct Latencies {
    delivery: Percentiles,
    ack: Percentiles,
    generator_lateness: Percentiles,
}

#[derive(Serialize)]
struct ServerFigures {
    #[serde(flatten)]
    costs: Costs,
    cpu_cores: f64,
    cpu_us_per_delivery: f64,
    resident_bytes_per_connection: f64,
}

impl Report {
    pub fn new(options: &RunOptions, outcome: Outcome) -> Self {
        let messages = messages(options, &outcome);
        let deliveries = deliveries(options, &outcome);
        let figures = &outcome.figures;
        let latency = Latencies {
            delivery: figures.delivery.percentiles(),
            ack: figures.ack.percentiles(),
            generator_lateness: figures.lateness.percentiles(),
        };
        let faults = faults(&messages, &deliveries, figures.disconnected, &figures.lives);
        Self {
            passed: faults.is_empty(),
            faults,
            command: without_key(std::env::args()),
            options: shareable(options),
            processes: outcome.processes,
            publishers: options.plan.publishers(),
            server: outcome.costs.map(|costs| server_figures(options, costs, deliveries.in_window)),
            messages,
            deliveries,
            latency,
            presence: figures.presence,
            lives: options.plan.conduct.is_some().then_some(figures.lives),
            disconnected: figures.disconnected,
            samples: outcome.figures.samples,
        }
    }

    pub fn passed(&self) -> bool {
        self.passed
    }

    pub fn write_json(&self, path: &Path) -> io::Result<()> {
        let mut text = serde_json::to_string_pretty(self)?;
        text.push('\n');
        std::fs::write(path, text)
    }

    /// The tables and the verdict, for people.
    pub fn text(&self) -> String {
        let mut parts = vec![self.heading(), self.counts().to_string(), self.latencies().to_string()];
        parts.extend(self.lives.as_ref().map(|lives| lives_table(lives, &self.deliveries).to_string()));
        parts.extend(self.server.as_ref().map(|server| server_table(server).to_string()));
        parts.extend(self.samples.iter().map(|sample| format!("  {sample}")));
        parts.push(self.verdict());
        parts.join("\n")
    }

    fn heading(&self) -> String {
        let options = &self.options;
        let plan = &options.plan;
        let place = match plan.rooms.as_slice() {
            [room] => format!("room {:?}", room.entrance.room),
            rooms => format!("{} rooms", grouped(rooms.len() as u64)),
        };
        let secs = options.secs + options.warmup_secs;
        format!(
            "{} users in {place} on {}, {} publishers, {:.4} messages/s for {} s (after {} s of warm-up), {} byte contents, {} {}",
            plan.users(),
            plan.target.server,
            self.publishers,
            ratio(plan.messages() as f64, secs),
            options.secs,
            options.warmup_secs,
            plan.rooms.first().map_or(0, |room| room.payload_bytes),
            self.processes,
            if self.processes == 1 { "process" } else { "processes" },
        )
    }

    fn counts(&self) -> Table {
        let Self { messages, deliveries, presence, .. } = self;
        let mut table = table(&["messages", "", "deliveries", ""]);
        let mut row = |left: (&str, String), right: (&str, String)| {
            table.add_row([Cell::new(left.0), number(left.1), Cell::new(right.0), number(right.1)]);
        };
        row(("scheduled", grouped(messages.scheduled)), ("expected", grouped(deliveries.expected)));
        row(("sent", grouped(messages.sent)), ("delivered", grouped(deliveries.delivered)));
        row(("accepted", grouped(messages.accepted)), ("missing", grouped(deliveries.missing)));
        row(("refused", grouped(messages.refused)), ("duplicates", grouped(deliveries.duplicates)));
        row(("unanswered", grouped(messages.unanswered)), ("out of order", grouped(deliveries.out_of_order)));
        row(("users disconnected", grouped(self.disconnected)), ("corrupt", grouped(deliveries.corrupt)));
        row(("presence frames", grouped(presence.frames)), ("of other runs", grouped(deliveries.foreign)));
        let late = format!("{:.1} ms", deliveries.last_after_end_ms);
        row(("last delivery after end", late), ("per second", grouped(deliveries.per_second as u64)));
        table
    }

    fn latencies(&self) -> Table {
        let mut table = table(&["milliseconds", "p50", "p90", "p99", "p99.9", "max", "count"]);
        let Latencies { delivery, ack, generator_lateness } = &self.latency;
        for (name, found) in [("delivery", delivery), ("ack", ack), ("generator lateness", generator_lateness)] {
            let times = [found.p50_us, found.p90_us, found.p99_us, found.p999_us, found.max_us];
            let times = times.map(|us| format!("{}.{:03}", grouped(us / 1000), us % 1000));
            let count = [grouped(found.count)];
            table.add_row(std::iter::once(Cell::new(name)).chain(times.into_iter().chain(count).map(number)));
        }
        table
    }

    fn verdict(&self) -> String {
        if self.passed {
            return "PASSED: everything accepted was delivered to everybody, once and in order.".to_owned();
        }
        format!("FAILED: {}.", self.faults.join("; "))
    }
}

/// Reports are shown around; a server's key is not.
const KEY_SHOWN: &str = "(not shown)";

fn shareable(options: &RunOptions) -> RunOptions {
    let mut options = options.clone();
    KEY_SHOWN.clone_into(&mut options.plan.target.server_key);
    options
}

/// The command line as it was typed, but for the server's key.
fn without_key(arguments: impl Iterator<Item = String>) -> String {
    let mut shown: Vec<String> = Vec::new();
    for argument in arguments {
        let is_key = shown.last().is_some_and(|flag| flag == "--server-key");
        let hidden = match argument.split_once('=') {
            _ if is_key => KEY_SHOWN.to_owned(),
            Some(("--server-key", _)) => format!("--server-key={KEY_SHOWN}"),
            _ => argument,
        };
        shown.push(hidden);
    }
    shown.join(" ")
}

fn messages(options: &RunOptions, outcome: &Outcome) -> Messages {
    let total = |numbers: fn(&Answers) -> &HashMap<u32, Vec<u32>>| -> u64 {
        outcome.answers.values().flat_map(|room| numbers(room).values()).map(|of| of.len() as u64).sum()
    };
    let (refused, unanswered) = (total(|room| &room.refused), total(|room| &room.unanswered));
    let scheduled = options.plan.messages();
    Messages {
        scheduled,
        sent: outcome.progress.sent,
        accepted: scheduled - refused - unanswered,
        refused,
        unanswered,
        stray_answers: outcome.figures.stray_answers,
    }
}

fn deliveries(options: &RunOptions, outcome: &Outcome) -> Deliveries {
    let Outcome { figures, disagreement, .. } = outcome;
    let out_of_order = figures.out_of_order + figures.tally.out_of_order + disagreement.out_of_order;
    // Members that had everything and one order would have placed every message.
    let all_was_heard = figures.tally.missing + figures.tally.skipped + figures.tally.announced == 0;
    let no_other_reason = out_of_order == 0 && all_was_heard && options.plan.order == OrderDemand::Room;
    let unplaced = if no_other_reason { disagreement.unplaced } else { 0 };
    Deliveries {
        expected: figures.tally.expected,
        delivered: figures.tally.delivered,
        skipped: figures.tally.skipped,
        announced: figures.tally.announced,
        beyond: figures.tally.beyond,
        missing: figures.tally.missing,
        duplicates: figures.duplicates + disagreement.shared_ids,
        out_of_order: out_of_order + unplaced,
        corrupt: figures.corrupt + disagreement.other_ids,
        refused_but_delivered: figures.tally.refused_but_delivered,
        unanswered_but_delivered: figures.tally.unanswered_but_delivered,
        foreign: figures.foreign,
        in_window: figures.delivered_in_window,
        per_second: ratio(figures.delivered_in_window as f64, options.secs),
        last_after_end_ms: outcome.last_delivery_late_ns as f64 / 1e6,
    }
}

fn server_figures(options: &RunOptions, costs: Costs, delivered: u64) -> ServerFigures {
    let cpu_secs = costs.cpu_user_secs + costs.cpu_system_secs;
    let grown = costs.resident_joined_bytes as f64 - costs.resident_before_bytes as f64;
    ServerFigures {
        costs,
        cpu_cores: ratio(cpu_secs, options.secs),
        cpu_us_per_delivery: ratio(cpu_secs * 1e6, delivered as f64),
        resident_bytes_per_connection: grown / f64::from(options.plan.users()),
    }
}

/// Everything that keeps a run from being faultless.
fn faults(messages: &Messages, deliveries: &Deliveries, disconnected: u64, lives: &LifeFigures) -> Vec<String> {
    let counted = [
        (deliveries.missing, "missing"),
        (deliveries.duplicates, "delivered twice"),
        (deliveries.out_of_order, "out of order"),
        (deliveries.corrupt, "corrupt"),
        (deliveries.refused_but_delivered, "refused but delivered all the same"),
        (messages.unanswered, "published without an answer"),
        (messages.stray_answers, "answers to nothing"),
        (disconnected, "users disconnected"),
        (lives.failed, "times a user could not come back"),
        (lives.outside, "delivered to somebody who was not in the room"),
    ];
    let mut faults: Vec<String> =
        counted.iter().filter(|(count, _)| *count > 0).map(|(count, what)| format!("{count} {what}")).collect();
    if messages.accepted == 0 {
        faults.push("no message was accepted, so nothing was shown".to_owned());
    }
    faults
}

/// Where members come and go: how they did, and what was due to them but never meant to come.
fn lives_table(lives: &LifeFigures, deliveries: &Deliveries) -> Table {
    let mut table = table(&["coming and going", ""]);
    let rows = [
        ("stays", lives.stays),
        ("left", lives.left),
        ("connections dropped", lives.dropped),
        ("slow readers closed", lives.closed),
        ("of them without seeing the notice", lives.cut_off),
        ("gaps announced", lives.gaps),
        ("deliveries skipped, as announced", deliveries.skipped),
        ("deliveries owed to closed readers", deliveries.announced),
        ("delivered though not due", deliveries.beyond),
    ];
    for (name, value) in rows {
        table.add_row([Cell::new(name), number(grouped(value))]);
    }
    table
}

fn server_table(server: &ServerFigures) -> Table {
    let mut table = table(&["server", ""]);
    let costs = &server.costs;
    let mebibytes = |bytes: u64| format!("{:.1} MiB", bytes as f64 / f64::from(1 << 20));
    let rows = [
        ("CPU, user", format!("{:.2} s", costs.cpu_user_secs)),
        ("CPU, system", format!("{:.2} s", costs.cpu_system_secs)),
        ("cores busy", format!("{:.2}", server.cpu_cores)),
        ("CPU per delivery", format!("{:.3} µs", server.cpu_us_per_delivery)),
        ("resident, signed in", mebibytes(costs.resident_before_bytes)),
        ("resident, all joined", mebibytes(costs.resident_joined_bytes)),
        ("resident, at the end", mebibytes(costs.resident_end_bytes)),
        ("resident per connection", format!("{:.0} B", server.resident_bytes_per_connection)),
    ];
    for (name, value) in rows {
        table.add_row([Cell::new(name), number(value)]);
    }
    table
}

fn table(header: &[&str]) -> Table {
    let mut table = Table::new();
    table.load_style(presets::UTF8_FULL_CONDENSED);
    table.set_header(header.iter().map(Cell::new));
    table
}

fn number(text: String) -> Cell {
    Cell::new(text).set_alignment(CellAlignment::Right)
}

/// Zero, not infinity, when there was nothing to divide by.
fn ratio(of: f64, by: f64) -> f64 {
    if by > 0.0 { of / by } else { 0.0 }
}

/// Digits in threes: 1,234,567.
fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (at, digit) in digits.char_indices() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_key_is_not_in_the_command_shown() {
        for (line, expected) in [
            ("loadgen room --users 5", "loadgen room --users 5"),
            ("loadgen room --server-key k --hidden", "loadgen room --server-key (not shown) --hidden"),
            ("loadgen room --server-key=k=k --hidden", "loadgen room --server-key=(not shown) --hidden"),
        ] {
            assert_eq!(without_key(line.split(' ').map(str::to_owned)), expected);
        }
    }

    #[test]
    fn digits_stand_in_threes() {
        for (number, expected) in
            [(0, "0"), (999, "999"), (1000, "1,000"), (12_345, "12,345"), (1_234_567, "1,234,567")]
        {
            assert_eq!(grouped(number), expected);
        }
    }
}
