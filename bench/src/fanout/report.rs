//! The results of a fan-out run, as a table for people (medians of the rounds, and Stentor's ratio to each bare loop)
//! and as a file for programs (every round, every run).

use serde::Serialize;

use super::beside::RoundTrips;
use super::filled_server::Filling;
use crate::goals::{self, Bound, Goal, ratio};
use crate::report::{self, Conditions, median, table};
use crate::run::Run;
use crate::server::Kind;

/// All results of one server in one round.
#[derive(Serialize)]
pub struct Visit {
    pub server: Kind,
    pub members: usize,
    pub round: usize,
    joins_per_second: f64,
    resident_bytes_per_connection: f64,
    pub time_to_last_ms: Option<f64>,
    pub max: Option<Run>,
    pub at_rates: Vec<Run>,
    pub beside: Option<RoundTrips>,
    pub beyond: Option<Run>,
    /// Runs that ended because the server closed a connection or refused a request.
    pub broken: Vec<String>,
}

impl Visit {
    /// A visit whose room has been filled.
    pub fn new(server: Kind, members: usize, round: usize, filling: &Filling) -> Visit {
        let Filling { joins_per_second, resident_bytes: resident_bytes_per_connection } = *filling;
        Visit {
            server,
            members,
            round,
            joins_per_second,
            resident_bytes_per_connection,
            time_to_last_ms: None,
            max: None,
            at_rates: Vec::new(),
            beside: None,
            beyond: None,
            broken: Vec::new(),
        }
    }

    /// Whether every message of every run that counts arrived once and in order.
    pub fn nothing_lost(&self) -> bool {
        self.runs().all(Run::nothing_lost)
    }

    /// The runs that count: those that were carried, and those that exceeded the maximum on purpose. Runs of a search
    /// that exceeded it do not count.
    pub fn runs(&self) -> impl Iterator<Item = &Run> {
        self.max.iter().chain(&self.beyond).chain(&self.at_rates)
    }
}

#[derive(Serialize)]
pub struct Report<'a> {
    rooms: Vec<RoomReport>,
    visits: &'a [Visit],
    #[serde(skip)]
    comparison: Comparison,
}

#[derive(Serialize)]
struct RoomReport {
    members: usize,
    rows: Vec<Row>,
    goals: Vec<Goal>,
}

/// One question, the answers of the servers that are compared, and the first divided by the others.
#[derive(Serialize)]
struct Row {
    question: String,
    figures: [Option<f64>; 5],
}

/// Which servers are compared: the first one with the others.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Comparison {
    /// Stentor with the bare loops.
    Plain,
    /// Stentor under TLS with itself without it, and with a batching loop under TLS.
    Tls,
}

impl Comparison {
    pub fn of(tls: bool) -> Self {
        if tls { Self::Tls } else { Self::Plain }
    }

    pub fn servers(self) -> [Kind; 3] {
        match self {
            Self::Plain => [Kind::Stentor, Kind::BareLoop, Kind::BatchingLoop],
            Self::Tls => [Kind::StentorTls, Kind::Stentor, Kind::TlsLoop],
        }
    }

    fn header(self) -> &'static str {
        match self {
            Self::Plain => " | stentor | bare loop | batching loop | ÷ bare | ÷ batching",
            Self::Tls => " | stentor, TLS | stentor | TLS loop | ÷ without TLS | ÷ TLS loop",
        }
    }

    fn goals(self, room: &Room<'_>, rates: &[f64]) -> Vec<Goal> {
        match self {
            Self::Plain => goals(room, rates),
            Self::Tls => tls_goals(room, rates),
        }
    }
}

/// The visits to servers with rooms of one size.
struct Room<'a> {
    visits: &'a [Visit],
    members: usize,
    comparison: Comparison,
}

impl Room<'_> {
    fn median(&self, kind: Kind, answer: &dyn Fn(&Visit) -> Option<f64>) -> Option<f64> {
        let same = self.visits.iter().filter(|visit| visit.members == self.members && visit.server == kind);
        median(same.filter_map(answer).collect())
    }

    fn row(&self, (question, answer): &(String, Answer)) -> Option<Row> {
        let of = self.comparison.servers().map(|kind| self.median(kind, answer));
        let [first, second, third] = of;
        let figures = [first, second, third, ratio(first, second), ratio(first, third)];
        of.iter().any(Option::is_some).then(|| Row { question: question.clone(), figures })
    }
}

type Answer<'a> = Box<dyn Fn(&Visit) -> Option<f64> + 'a>;

impl<'a> Report<'a> {
    pub fn new(visits: &'a [Visit], rates: &[f64], comparison: Comparison) -> Report<'a> {
        let mut sizes: Vec<usize> = visits.iter().map(|visit| visit.members).collect();
        sizes.dedup();
        let questions = questions(rates);
        let room = |members| {
            let room = Room { visits, members, comparison };
            let rows = questions.iter().filter_map(|question| room.row(question)).collect();
            RoomReport { members, rows, goals: comparison.goals(&room, rates) }
        };
        Report { rooms: sizes.into_iter().map(room).collect(), visits, comparison }
    }

    pub fn print(&self) {
        println!("{}", Conditions::here());
        for room in &self.rooms {
            println!("\nOne room of {} members, server on one core, client on another:", room.members);
            let header = self.comparison.header();
            println!("{}", table(header, room.rows.iter().map(|row| report::row(&row.question, row.figures))));
            goals::print(&room.goals);
        }
    }
}

fn questions<'a>(rates: &[f64]) -> Vec<(String, Answer<'a>)> {
    let mut questions: Vec<(String, Answer)> = vec![
        ("connects and joins/s".into(), Box::new(|visit| Some(visit.joins_per_second))),
        (
            "KiB of memory a joined connection".into(),
            Box::new(|visit| Some(visit.resident_bytes_per_connection / 1024.0)),
        ),
        ("ms to the last member, quiet room".into(), Box::new(|visit| visit.time_to_last_ms)),
        max("most M deliveries/s", |run| run.deliveries_per_second / 1e6),
        max("… bytes a delivery", |run| run.wire_bytes_per_delivery),
        max("… p50 ms", |run| run.latency_p50_ms),
        max("… p99 ms", |run| run.latency_p99_ms),
        max("… of the server's core, %", |run| run.core_share * 100.0),
        max("… of the client's core, %", |run| run.client_share * 100.0),
        max("… ms the publisher was late, at worst", |run| run.publisher_late_max_ms),
        (
            "M deliveries/s, twice that offered".into(),
            Box::new(|visit| Some(visit.beyond.as_ref()?.deliveries_per_second / 1e6)),
        ),
        (
            "a room of two beside it, at half of that maximum: p50 ms".into(),
            Box::new(|visit| Some(visit.beside.as_ref()?.p50_ms)),
        ),
        ("… p99 ms".into(), Box::new(|visit| Some(visit.beside.as_ref()?.p99_ms))),
    ];
    for &rate in rates {
        questions.push(at(rate, "CPU µs a delivery", |run| run.cpu_us_per_delivery));
        questions.push(at(rate, "of the server's core, %", |run| run.core_share * 100.0));
        questions.push(at(rate, "p50 ms", |run| run.latency_p50_ms));
        questions.push(at(rate, "p99 ms", |run| run.latency_p99_ms));
    }
    questions
}

fn max<'a>(question: &str, figure: fn(&Run) -> f64) -> (String, Answer<'a>) {
    (question.into(), Box::new(move |visit| visit.max.as_ref().map(figure)))
}

fn at<'a>(rate: f64, question: &str, figure: fn(&Run) -> f64) -> (String, Answer<'a>) {
    let answer = move |visit: &Visit| run_at(visit, rate).map(figure);
    (format!("at {rate} messages/s: {question}"), Box::new(answer))
}

/// Below this rate of deliveries, messages come one at a time: a server that writes each of them separately still has
/// most of a core free.
const ONE_AT_A_TIME_MAX: f64 = 60_000.0;

/// Up to this rate a batching loop, which sends once in 20 ms, sends each message separately.
const ONE_A_TICK_MAX: f64 = 25.0;

/// From this size on, a pass over the room takes so long that a small room would notice if it had to wait for one.
const LARGE: usize = 10_000;

/// The goals for a room of this size.
fn goals(room: &Room<'_>, rates: &[f64]) -> Vec<Goal> {
    let members = room.members;
    let most = |visit: &Visit| visit.max.as_ref().map(|run| run.deliveries_per_second);
    let beyond = |visit: &Visit| visit.beyond.as_ref().map(|run| run.deliveries_per_second);
    let own = |answer: &dyn Fn(&Visit) -> Option<f64>| room.median(Kind::Stentor, answer);
    let to = |kind, answer: &dyn Fn(&Visit) -> Option<f64>| ratio(own(answer), room.median(kind, answer));
    let thrown_out = own(&|visit| Some(visit.broken.len() as f64));
    let mut goals = vec![
        Goal::new("connects and joins/s", own(&|visit| Some(visit.joins_per_second)), Bound::AtLeast(10_000.0)),
        Goal::new("runs in which a member was closed or refused", thrown_out, Bound::AtMost(0.0)),
        Goal::new(
            "deliveries/s at twice the maximum ÷ the maximum",
            ratio(own(&beyond), own(&most)),
            Bound::AtLeast(0.8),
        ),
    ];
    if members >= 1000 {
        let batching = if members >= 5000 { 0.9 } else { 0.8 };
        let memory = own(&|visit| Some(visit.resident_bytes_per_connection / 1024.0));
        let singly = rates.iter().copied().filter(|rate| rate * members as f64 <= ONE_AT_A_TIME_MAX);
        let cost = |visit: &Visit| Some(run_at(visit, singly.clone().reduce(f64::max)?)?.cpu_us_per_delivery);
        goals.extend([
            Goal::new("most deliveries/s ÷ batching loop", to(Kind::BatchingLoop, &most), Bound::AtLeast(batching)),
            Goal::new("CPU a delivery, one at a time ÷ bare loop", to(Kind::BareLoop, &cost), Bound::AtMost(1.2)),
            Goal::new(
                "time to the last member ÷ bare loop",
                to(Kind::BareLoop, &|visit| visit.time_to_last_ms),
                Bound::AtMost(1.2),
            ),
            Goal::new("KiB of memory a joined connection", memory, Bound::AtMost(1.0)),
        ]);
    }
    if members >= LARGE {
        let trip = own(&|visit| Some(visit.beside.as_ref()?.p99_ms));
        let pass = own(&|visit| visit.time_to_last_ms);
        let question = "p99 in a room of two beside it, at half the maximum ÷ time to the last member";
        goals.push(Goal::new(question, ratio(trip, pass), Bound::AtMost(0.1)));
    }
    if members == 1000 && rates.contains(&1000.0) {
        let share = |visit: &Visit| run_at(visit, 1000.0).filter(|run| run.carried()).map(|run| run.core_share);
        goals.push(Goal::new("of the core at 1,000 messages/s", own(&share), Bound::AtMost(0.5)));
    }
    goals
}

/// The goals of TLS: as fast as the library lets a bare loop be, in half of its memory.
fn tls_goals(room: &Room<'_>, rates: &[f64]) -> Vec<Goal> {
    let to_loop = |answer: &dyn Fn(&Visit) -> Option<f64>| {
        ratio(room.median(Kind::StentorTls, answer), room.median(Kind::TlsLoop, answer))
    };
    let most = |visit: &Visit| visit.max.as_ref().map(|run| run.deliveries_per_second);
    let mut goals = vec![
        Goal::new(
            "memory a joined connection ÷ TLS loop",
            to_loop(&|visit| Some(visit.resident_bytes_per_connection)),
            Bound::AtMost(0.5),
        ),
        Goal::new("most deliveries/s ÷ TLS loop", to_loop(&most), Bound::AtLeast(0.9)),
    ];
    // At higher rates the loop writes several messages at once, because it waits for its tick.
    goals.extend(rates.iter().filter(|&&rate| rate <= ONE_A_TICK_MAX).map(|&rate| {
        let cost = |visit: &Visit| Some(run_at(visit, rate)?.cpu_us_per_delivery);
        Goal::new(format!("CPU a delivery at {rate} messages/s ÷ TLS loop"), to_loop(&cost), Bound::AtMost(1.1))
    }));
    goals
}

fn run_at(visit: &Visit, rate: f64) -> Option<&Run> {
    visit.at_rates.iter().find(|run| run.offered_messages_per_second == rate)
}
