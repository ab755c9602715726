//! The fan-out run. Starts Stentor and both bare loops in turn, measures the same questions with a full room on each,
//! and repeats this. So a figure is a median of rounds, and slow changes of the machine affect all servers alike.

use std::fmt::Display;

use clap::{Args, ValueEnum};

use crate::client::Shape;
use crate::cpu;
use crate::failure::Failure;
use crate::filled_server::{FilledServer, Filling, Offers};
use crate::report::Report;
use crate::run::{self, Patience, Run};
use crate::search::Search;
use crate::server::{Kind, Launch};
use crate::setting::{Runs, Setting};
use crate::visit::Visit;

/// Single messages that are sent to a quiet room in each round.
const SINGLE_MESSAGES: u32 = 40;
/// Descriptors besides the members': the publisher's, epoll, the server's pipes, the terminal, a sign-in.
const OTHER_DESCRIPTORS: u64 = 64;
/// Rates above this multiple of a server's maximum are skipped: they say nothing about its cost and take minutes to
/// drain.
const RATE_BEYOND_MAX: f64 = 1.5;
/// The multiple of its maximum at which a server is tested for collapse.
const BEYOND: f64 = 2.0;
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
    /// Which servers to measure.
    #[arg(long, value_enum, value_delimiter = ',', default_values_t = Kind::value_variants().to_vec())]
    only: Vec<Kind>,
    /// What to measure besides joins and memory.
    #[arg(long, value_enum, value_delimiter = ',', default_values_t = Question::value_variants().to_vec())]
    measure: Vec<Question>,
    #[command(flatten)]
    setting: Setting,
}

impl Options {
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
    /// Deliveries per second when twice the maximum is offered.
    Beyond,
}

pub fn run(options: &Options) -> Result<(), Failure> {
    check(options)?;
    let apart = options.setting.launch_apart()?;
    let stentor = options.only.contains(&Kind::Stentor).then(|| options.setting.stentor()).transpose()?;
    let launch = Launch { stentor, ..apart };
    eprintln!("about {:.0} minutes; leave the machine alone meanwhile", minutes(options).ceil());
    let mut visits = Vec::new();
    for &members in &options.members {
        for round in 0..options.runs.repeat {
            for &kind in &options.only {
                let best = best_so_far(&visits, kind, members);
                visits.push(visit(kind, members, round, best, options, &launch)?);
            }
        }
    }
    let report = Report::new(&visits, &options.rates);
    report.print();
    println!("{}", conditions(options));
    warn_of_disturbance(&visits);
    options.setting.keep(&report)?;
    if visits.iter().all(Visit::nothing_lost) {
        Ok(())
    } else {
        Err(Failure::faulty("messages were lost, repeated or reordered; the table does not count"))
    }
}

/// An estimate of the run's minutes. A search takes some ten runs in the first round and four in later rounds. Runs
/// beyond the maximum take longer to drain.
fn minutes(options: &Options) -> f64 {
    let asked = |question, runs: usize| if options.measure.contains(&question) { runs } else { 0 };
    let each_round = asked(Question::Rates, options.rates.len()) + asked(Question::Beyond, 2) + 1;
    let searching = asked(Question::Max, 10 + 4 * (options.runs.repeat - 1));
    let runs = options.members.len() * options.only.len() * (each_round * options.runs.repeat + searching);
    runs as f64 * options.runs.secs * 1.2 / 60.0
}

/// The conditions that a reader of the table must know to compare it.
fn conditions(options: &Options) -> String {
    format!(
        "Stentor: one shard, store memory, messages passed on, not kept; members are hidden sessions of one user. The loops speak \
         no protocol and send frames laid out like Stentor's.\nEvery delivery is checked for order, loss and \
         repetition; latency is from the intended time of sending, at a sample of {} members. Where the server's core \
         is not full at its maximum, the client's was. Medians of {} rounds of {} s a rate.",
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

fn visit(
    kind: Kind,
    members: usize,
    round: usize,
    best: Option<f64>,
    options: &Options,
    launch: &Launch,
) -> Result<Visit, Failure> {
    let fail = |failure| Failure::Faulty(format!("{kind}, {members} members: {failure}"));
    let said = |what: &dyn Display| eprintln!("{members:>6} members · round {} · {kind:<13} · {what}", round + 1);
    let (mut filled, filling) = FilledServer::open_measured(kind, options.shape(members), launch).map_err(fail)?;
    said(&format!("{:.0} joins/s, {:.2} KiB a connection", filling.joins.all, filling.resident_bytes / 1024.0));
    let mut visit = begun(kind, members, round, &filling);
    let asked = |question| options.measure.contains(&question);
    if asked(Question::Last) {
        let last_us = run::one_by_one(&mut filled.room, SINGLE_MESSAGES).map_err(fail)?;
        visit.time_to_last_ms = Some(last_us.value_at_quantile(0.5) as f64 / 1e3);
        said(&format!("last member after {:.2} ms", last_us.value_at_quantile(0.5) as f64 / 1e3));
    }
    let open = || FilledServer::open(kind, options.shape(members), launch);
    let offers = Offers::new(open).beginning_with(filled);
    let mut asker = Asker { offers, kind, members, options, broken: Vec::new(), said: &said };
    if asked(Question::Max) {
        visit.max = asker.most(best).map_err(fail)?;
    }
    let most = visit.max.as_ref().map(|run| run.deliveries_per_second);
    if asked(Question::Rates) {
        let sensible = |&&rate: &&f64| most.is_none_or(|most| rate * members as f64 <= most * RATE_BEYOND_MAX);
        for &rate in options.rates.iter().filter(sensible) {
            visit.at_rates.extend(asker.ask(rate, Patience::Limited).map_err(fail)?);
        }
    }
    if let (true, Some(most)) = (asked(Question::Beyond), most) {
        visit.beyond = asker.ask(BEYOND * most / members as f64, Patience::Endless).map_err(fail)?;
    }
    visit.broken = asker.broken;
    Ok(visit)
}

/// Offers a server one rate after another, and keeps the reasons of the runs that it broke off.
struct Asker<'a> {
    offers: Offers<'a>,
    kind: Kind,
    members: usize,
    options: &'a Options,
    broken: Vec<String>,
    said: &'a dyn Fn(&dyn Display),
}

impl Asker<'_> {
    /// One run. `None` when the server closed a connection or refused a request.
    fn ask(&mut self, rate: f64, patience: Patience) -> Result<Option<Run>, Failure> {
        match self.offers.offer(rate, self.options.runs.length(), patience)? {
            Ok(run) => {
                (self.said)(&line(&run));
                Ok(Some(run))
            }
            Err(failure) => {
                (self.said)(&format!("{rate:.0} messages/s broke off: {failure}"));
                self.broken.push(format!("at {rate:.1} messages/s: {failure}"));
                Ok(None)
            }
        }
    }

    /// The run with the most deliveries per second among those that the server carried.
    fn most(&mut self, near: Option<f64>) -> Result<Option<Run>, Failure> {
        let start = if self.kind == Kind::BareLoop { 1e5 } else { 1e6 };
        let search = near.map_or(Search::from(start), Search::near);
        let offer = |rate| Ok(self.ask(rate / self.members as f64, Patience::Limited)?.filter(Run::carried));
        search.most(offer, |run| run.deliveries_per_second)
    }
}

/// A visit without runs.
fn begun(server: Kind, members: usize, round: usize, filling: &Filling) -> Visit {
    let Filling { joins, resident_bytes: resident_bytes_per_connection } = *filling;
    let (max, beyond, at_rates, broken) = (None, None, Vec::new(), Vec::new());
    Visit {
        server,
        members,
        round,
        joins_per_second: joins.all,
        joins_per_second_first: joins.first,
        joins_per_second_last: joins.last,
        resident_bytes_per_connection,
        time_to_last_ms: None,
        max,
        beyond,
        at_rates,
        broken,
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
