//! Durable sends: how many are answered a second, and how long each takes, by several contestants in turn.

pub mod publishers;

use std::time::Duration;

use clap::Args;
use comfy_table::Table;
use hdrhistogram::Histogram;
use serde::{Deserialize, Serialize};

use crate::dialect::Persistence;
use crate::failure::Failure;
use crate::goals::{Bound, Goal, ratio};
use crate::launch::{Budgets, Launch};
use crate::report::{self, median};
use crate::setting::{Disk, Runs, Setting};

/// Rooms over which the publishers are spread.
pub const ROOMS: usize = 64;

/// Why a server that is measured with durable sends has no budgets.
pub const FAST_PUBLISHERS: &str = "each publisher sends again as soon as it is answered, which is more than a session's budget \
                                   lets in";

/// The settings of a question that is asked with durable sends.
#[derive(Args, Debug)]
pub struct SendsOptions {
    #[command(flatten)]
    pub runs: Runs,
    #[command(flatten)]
    disk: Disk,
    #[command(flatten)]
    pub setting: Setting,
}

impl SendsOptions {
    /// How a server is started that keeps everything in the embedded store. Refuses options that cannot be measured.
    pub fn launch(&self, in_flight: &[usize]) -> Result<Launch, Failure> {
        self.runs.check()?;
        if in_flight.contains(&0) {
            return Err(Failure::Options("--in-flight must be above zero".into()));
        }
        let (store, data_in) = ("embedded".into(), Some(self.disk.directory()?));
        let budgets = Budgets::Off(FAST_PUBLISHERS);
        Ok(Launch { store, persistence: Persistence::Kept, data_in, budgets, ..self.setting.launch(1)? })
    }
}

/// What a contestant without a server has to send.
#[derive(Serialize, Deserialize)]
pub struct Work {
    pub in_flight: usize,
    pub rooms: usize,
    secs: f64,
    pub payload: usize,
}

impl Work {
    pub fn new(in_flight: usize, rooms: usize, runs: &Runs) -> Work {
        Work { in_flight, rooms, secs: runs.secs, payload: runs.payload }
    }

    pub fn length(&self) -> Duration {
        Duration::from_secs_f64(self.secs)
    }
}

/// The result of one run: how many messages became durable, and how long each took.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Answers {
    pub in_flight: usize,
    pub messages: u64,
    pub per_second: f64,
    p50_ms: f64,
    p99_ms: f64,
    /// Cores that the server used during the run. Zero where that is not measured.
    pub cores: f64,
}

impl Answers {
    pub fn of(in_flight: usize, seconds: f64, latency_us: &Histogram<u64>) -> Answers {
        assert!(seconds > 0.0, "{} sends were answered in no time", latency_us.len());
        let quantile_ms = |quantile| latency_us.value_at_quantile(quantile) as f64 / 1e3;
        Answers {
            in_flight,
            messages: latency_us.len(),
            per_second: latency_us.len() as f64 / seconds,
            p50_ms: quantile_ms(0.5),
            p99_ms: quantile_ms(0.99),
            cores: 0.0,
        }
    }
}

/// What all contestants sent in all rounds.
#[derive(Default, Serialize)]
pub struct Sends(Vec<Sent>);

#[derive(Serialize)]
struct Sent {
    round: usize,
    who: &'static str,
    answers: Answers,
}

impl Sends {
    /// Keeps a result, and says it.
    pub fn add(&mut self, round: usize, who: &'static str, answers: Answers) {
        let Answers { in_flight, per_second, p50_ms, p99_ms, .. } = answers;
        eprintln!(
            "round {} · {who:<12} · {in_flight:>6} in flight: {per_second:.0} messages/s, p50 {p50_ms:.2} ms, p99 \
             {p99_ms:.2} ms",
            round + 1
        );
        self.0.push(Sent { round, who, answers });
    }

    fn median(&self, who: &str, in_flight: usize, figure: fn(&Answers) -> f64) -> Option<f64> {
        let same = self.0.iter().filter(|sent| sent.who == who && sent.answers.in_flight == in_flight);
        median(same.map(|sent| figure(&sent.answers)).collect())
    }

    /// The medians of these contestants, and their messages/s ÷ those of the last one.
    pub fn table(&self, who: &[&str], in_flight: &[usize]) -> Table {
        let last = who.last().copied().unwrap_or_default();
        let row = |in_flight: usize, who: &str| {
            let of = |figure| self.median(who, in_flight, figure);
            let to_last = ratio(of(|a| a.per_second), self.median(last, in_flight, |a| a.per_second));
            let cores = of(|a| a.cores).filter(|&cores| cores > 0.0);
            let figures = [of(|a| a.per_second), to_last, of(|a| a.p50_ms), of(|a| a.p99_ms), cores];
            report::row(format!("{in_flight} in flight, {who}"), figures)
        };
        let rows = in_flight.iter().flat_map(|&in_flight| who.iter().map(move |who| row(in_flight, who)));
        report::table(&format!("sending | messages/s | ÷ {last} | p50 ms | p99 ms | server's cores"), rows)
    }

    /// The goals that one contestant sends at least this share of what the other does.
    pub fn goals(&self, who: &str, than: &str, in_flight: &[usize], least: f64) -> Vec<Goal> {
        let goal = |&in_flight: &usize| {
            let of = |who| self.median(who, in_flight, |answers| answers.per_second);
            let question = format!("messages/s, {who} ÷ {than}, {in_flight} in flight");
            Goal::new(question, ratio(of(who), of(than)), Bound::AtLeast(least))
        };
        in_flight.iter().map(goal).collect()
    }
}
