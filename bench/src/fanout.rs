//! The fan-out run. Starts Stentor and both bare loops in turn, measures the same questions with a full room on each,
//! and repeats this. So a figure is a median of rounds, and slow changes of the machine affect all servers alike.

mod beside;
mod filled_server;
mod report;

use clap::{Args, ValueEnum};

use crate::client::Shape;
use crate::cpu;
use crate::failure::Failure;
use crate::launch::{Budgets, Launch};
use crate::run::{self, Patience, Run};
use crate::search::Search;
use crate::server::Kind;
use crate::setting::{Runs, Setting};
use filled_server::FilledServer;
use report::{Comparison, Report, Visit};

/// Single messages that are sent to a quiet room in each round.
const SINGLE_MESSAGES: u32 = 40;
/// Descriptors besides the members': the publisher's, epoll, the server's pipes, the terminal, a sign-in.
const OTHER_DESCRIPTORS: u64 = 64;
/// Rates above this multiple of a server's maximum are skipped: they say nothing about its cost and take minutes to
/// drain.
const RATE_BEYOND_MAX: f64 = 1.5;
/// The multiple of its maximum at which a server is tested for collapse.
const BEYOND: f64 = 2.0;
/// The part of its maximum at which a room of two is measured beside it.
const BESIDE: f64 = 0.5;
/// Messages a second that one publisher may send within the default budgets, with something to spare.
const PUBLISHER_RATE_MAX: f64 = 2_000.0;
/// Why the server has no budgets if more are sent.
const ONE_PUBLISHER: &str = "one publisher is offered as many messages as the server can deliver, and they are more than a \
                             session's budget lets in";
/// If the programs of a run waited for their cores for more than this share of the time, other programs disturbed the
/// run.
const DISTURBED_SHARE_MAX: f64 = 0.02;

#[derive(Args, Debug)]
pub struct Options {
    /// Members of the room; one table each.
    #[arg(long, value_delimiter = ',', default_values_t = [100, 1000, 5000, 15000])]
    members: Vec<usize>,
    /// Messages per second at which CPU and latency are measured.
    #[arg(long, value_delimiter = ',', default_values_t = [1.0, 10.0, 100.0, 1000.0])]
    rates: Vec<f64>,
    #[command(flatten)]
    runs: Runs,
    /// Measures Stentor under TLS, beside Stentor without it and a batching loop under TLS. Needs `openssl`.
    #[arg(long)]
    tls: bool,
    /// Which servers to measure; by default all of the comparison.
    #[arg(long, value_enum, value_delimiter = ',')]
    only: Vec<Kind>,
    /// What to measure besides joins and memory.
    #[arg(long, value_enum, value_delimiter = ',', default_values_t = Question::value_variants().to_vec())]
    measure: Vec<Question>,
    #[command(flatten)]
    setting: Setting,
}

impl Options {
    /// The servers that are measured, of those that are compared.
    fn servers(&self) -> Vec<Kind> {
        let compared = Comparison::of(self.tls).servers();
        compared.into_iter().filter(|kind| self.only.is_empty() || self.only.contains(kind)).collect()
    }

    /// A session may send some 2,500 messages a second by default, and one member publishes all.
    fn budgets(&self) -> Budgets {
        let asks_for_most = self.measure.iter().any(|question| matches!(question, Question::Max | Question::Beyond));
        let is_fast =
            self.measure.contains(&Question::Rates) && self.rates.iter().any(|&rate| rate > PUBLISHER_RATE_MAX);
        if asks_for_most || is_fast { Budgets::Off(ONE_PUBLISHER) } else { Budgets::Default }
    }

    fn shape(&self, members: usize) -> Shape {
        Shape { members, content_bytes: self.runs.payload }
    }
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
enum Question {
    /// Time to the last member of one message in a quiet room.
    Last,
    /// The most deliveries per second with p99 under a second and nothing lost.
    Max,
    /// CPU and latency at each of --rates.
    Rates,
    /// How long messages take in a room of two beside this room, at half of the maximum. Of Stentor only.
    Beside,
    /// Deliveries per second when twice the maximum is offered.
    Beyond,
}

pub fn run(options: &Options) -> Result<(), Failure> {
    check(options)?;
    let launch = Launch { budgets: options.budgets(), ..options.setting.launch_apart()? };
    eprintln!("leave the machine alone meanwhile");
    let servers = options.servers();
    let mut visits: Vec<Visit> = Vec::new();
    for &members in &options.members {
        for round in 0..options.runs.repeat {
            for &kind in &servers {
                let best = best_so_far(&visits, kind, members);
                let visited = Visitor::open(kind, members, round, options, &launch).and_then(|it| it.measure(best));
                let named = |failure| Failure::Faulty(format!("{kind}, {members} members: {failure}"));
                visits.push(visited.map_err(named)?);
            }
        }
    }
    let planned = options.members.len() * options.runs.repeat * servers.len();
    assert_eq!(visits.len(), planned, "each server is visited in each round of each size");
    let report = Report::new(&visits, &options.rates, Comparison::of(options.tls));
    report.print();
    println!("{}", conditions(options, launch.budgets));
    warn_of_disturbance(&visits);
    options.setting.keep(&report)?;
    if visits.iter().all(Visit::nothing_lost) {
        Ok(())
    } else {
        Err(Failure::faulty("messages were lost, repeated or reordered; the table does not count"))
    }
}

/// The conditions that a reader of the table must know to compare it.
fn conditions(options: &Options, budgets: Budgets) -> String {
    format!(
        "Stentor: one shard, store memory, messages passed on, not kept; members are hidden, each a user of its own. {budgets} The \
         loops speak no protocol and send frames laid out like Stentor's.\nEvery delivery is checked for order, loss and \
         repetition; latency is from the intended time of sending, at a sample of {} members. Where the server's core is \
         not full at its maximum, the client's was. Medians of {} rounds of {} s a rate.",
        crate::client::SAMPLED_MEMBERS,
        options.runs.repeat,
        options.runs.secs
    )
}

fn warn_of_disturbance(visits: &[Visit]) {
    let runs: Vec<&Run> = visits.iter().flat_map(Visit::runs).collect();
    let disturbed = runs.iter().filter(|run| run.disturbed_share > DISTURBED_SHARE_MAX).count();
    if disturbed > 0 {
        println!("WARNING: in {disturbed} of {} runs other programs used the two cores; measure again.", runs.len());
    }
}

/// Refuses options that cannot be measured, before anything is built or started.
fn check(options: &Options) -> Result<(), Failure> {
    let refuse = |text: String| Err(Failure::Options(text));
    options.runs.check()?;
    if options.servers().is_empty() {
        return refuse(format!(
            "--only names no server that is compared {} --tls",
            if options.tls { "with" } else { "without" }
        ));
    }
    if options.rates.iter().any(|&rate| rate <= 0.0) {
        return refuse("--rates must be above zero".into());
    }
    let limit = cpu::raise_descriptor_limit();
    let most = limit.saturating_sub(OTHER_DESCRIPTORS);
    match options.members.iter().find(|&&members| members == 0 || members as u64 > most) {
        None => Ok(()),
        Some(members) => refuse(format!(
            "--members {members} is not possible: at least one, and at most {most}, as one process \
             may open {limit} descriptors here (`ulimit -Hn`)"
        )),
    }
}

/// A server that is visited, and what was measured of it so far.
struct Visitor<'a> {
    options: &'a Options,
    launch: &'a Launch,
    /// Empty after a run that lost messages or members, because it is unknown what the members must see next.
    filled: Option<FilledServer>,
    visit: Visit,
}

impl<'a> Visitor<'a> {
    /// Starts the server, and lets the room fill.
    fn open(
        kind: Kind,
        members: usize,
        round: usize,
        options: &'a Options,
        launch: &'a Launch,
    ) -> Result<Self, Failure> {
        let (filled, filling) = FilledServer::open_measured(kind, options.shape(members), launch)?;
        let visit = Visit::new(kind, members, round, &filling);
        let visitor = Visitor { options, launch, filled: Some(filled), visit };
        visitor.say(&format!(
            "{:.0} joins/s, {:.2} KiB a connection",
            filling.joins_per_second,
            filling.resident_bytes / 1024.0
        ));
        Ok(visitor)
    }

    fn say(&self, what: &str) {
        let Visit { server, members, round, .. } = &self.visit;
        eprintln!("{members:>6} members · round {} · {server:<13} · {what}", round + 1);
    }

    /// Asks all questions. A search for the maximum begins near `best`, if it is known.
    fn measure(mut self, best: Option<f64>) -> Result<Visit, Failure> {
        let options = self.options;
        let asked = |question| options.measure.contains(&question);
        if asked(Question::Last) {
            self.ask_last()?;
        }
        if asked(Question::Max) {
            self.visit.max = self.most(best)?;
        }
        let most = self.visit.max.as_ref().map(|run| run.deliveries_per_second);
        let members = self.visit.members as f64;
        if asked(Question::Rates) {
            let sensible = |&&rate: &&f64| most.is_none_or(|most| rate * members <= most * RATE_BEYOND_MAX);
            for &rate in options.rates.iter().filter(sensible) {
                let run = self.ask(rate, Patience::Limited)?;
                self.visit.at_rates.extend(run);
            }
        }
        if let (true, Kind::Stentor, false, Some(most)) =
            (asked(Question::Beside), self.visit.server, options.tls, most)
        {
            self.ask_beside(BESIDE * most / members)?;
        }
        if let (true, Some(most)) = (asked(Question::Beyond), most) {
            self.visit.beyond = self.ask(BEYOND * most / members, Patience::Endless)?;
        }
        Ok(self.visit)
    }

    /// The full server. A new one is opened if the last run lost messages or members.
    fn take_filled(&mut self) -> Result<FilledServer, Failure> {
        match self.filled.take() {
            Some(filled) => Ok(filled),
            None => FilledServer::open(self.visit.server, self.options.shape(self.visit.members), self.launch),
        }
    }

    fn ask_last(&mut self) -> Result<(), Failure> {
        let mut filled = self.take_filled()?;
        let last_ms = run::one_by_one(&mut filled.room, SINGLE_MESSAGES)?.value_at_quantile(0.5) as f64 / 1e3;
        self.say(&format!("last member after {last_ms:.2} ms"));
        (self.filled, self.visit.time_to_last_ms) = (Some(filled), Some(last_ms));
        Ok(())
    }

    /// One run. `None` when the server closed a connection or refused a request.
    fn ask(&mut self, rate: f64, patience: Patience) -> Result<Option<Run>, Failure> {
        let mut filled = self.take_filled()?;
        match run::at_rate(&mut filled.room, filled.server.pid(), rate, self.options.runs.length(), patience) {
            Ok(run) => {
                self.say(&line(&run));
                let expected = run.messages * self.visit.members as u64;
                assert!(
                    !run.nothing_lost() || run.deliveries == expected,
                    "{} deliveries of {expected}",
                    run.deliveries
                );
                self.filled = run.nothing_lost().then_some(filled);
                Ok(Some(run))
            }
            Err(failure) => self.break_off(rate, failure).map(|()| None),
        }
    }

    fn ask_beside(&mut self, rate: f64) -> Result<(), Failure> {
        let mut filled = self.take_filled()?;
        let Runs { payload, .. } = self.options.runs;
        match beside::round_trips(&mut filled, rate, self.options.runs.length(), payload) {
            Ok(trips) => {
                self.say(&format!("a room of two beside {rate:.0} messages/s: p99 {:.2} ms", trips.p99_ms));
                (self.filled, self.visit.beside) = (Some(filled), Some(trips));
                Ok(())
            }
            Err(failure) => self.break_off(rate, failure),
        }
    }

    /// Keeps the reason of a run that the server broke off. Any other failure ends the measurement.
    fn break_off(&mut self, rate: f64, failure: Failure) -> Result<(), Failure> {
        if let Failure::World(_) = failure {
            return Err(failure);
        }
        self.say(&format!("{rate:.0} messages/s broke off: {failure}"));
        self.visit.broken.push(format!("at {rate:.1} messages/s: {failure}"));
        Ok(())
    }

    /// The run with the most deliveries per second among those that the server carried.
    fn most(&mut self, near: Option<f64>) -> Result<Option<Run>, Failure> {
        let start = if self.visit.server == Kind::BareLoop { 1e5 } else { 1e6 };
        let search = near.map_or(Search::from(start), Search::near);
        let members = self.visit.members as f64;
        let offer = |rate| Ok(self.ask(rate / members, Patience::Limited)?.filter(Run::carried));
        search.most(offer, |run| run.deliveries_per_second)
    }
}

fn best_so_far(visits: &[Visit], kind: Kind, members: usize) -> Option<f64> {
    let same = visits.iter().rev().find(|visit| visit.server == kind && visit.members == members);
    same?.max.as_ref().map(|run| run.deliveries_per_second)
}

fn line(run: &Run) -> String {
    let verdict = match (run.nothing_lost(), run.carried()) {
        (false, _) => format!(" · LOST {} missing, {:?}", run.missing, run.faults),
        (true, false) => " · not carried".into(),
        (true, true) => String::new(),
    };
    let disturbed = match run.disturbed_share {
        share if share > DISTURBED_SHARE_MAX => format!(" · DISTURBED by other programs, {:.0} %", share * 100.0),
        _ => String::new(),
    };
    format!(
        "{:.0} messages/s: {:.3} M deliveries/s, p99 {:.1} ms, {:.3} µs each, core {:.0} %{verdict}{disturbed}",
        run.offered_messages_per_second,
        run.deliveries_per_second / 1e6,
        run.latency_p99_ms,
        run.cpu_us_per_delivery,
        run.core_share * 100.0,
    )
}
