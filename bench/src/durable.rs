//! Durable sends through the whole server, beside what the store alone commits in the same run on the same core: how
//! many a second, and how long until the acknowledgement, with few and with many requests in flight.

pub mod publishers;
mod store_alone;

use std::path::{Path, PathBuf};

use clap::Args;
use hdrhistogram::Histogram;
use serde::{Deserialize, Serialize};

use crate::companion::Companion;
use crate::cpu;
use crate::dialect::Persistence;
use crate::failure::Failure;
use crate::goals::{self, Bound, Goal, ratio};
use crate::launch::Launch;
use crate::report::{self, Conditions};
use crate::server::{Kind, Server};
use crate::setting::{Disk, Runs, Setting};
use publishers::{Publishers, REQUESTS_PER_PUBLISHER};
pub use store_alone::serve as serve_store_alone;

/// Rooms over which the publishers are spread.
pub const ROOMS: usize = 64;

#[derive(Args, Debug)]
pub struct Options {
    /// Requests in flight, all publishers together (32 each); one line of the table each.
    #[arg(long, value_delimiter = ',', default_values_t = [1, 100, 10_000])]
    in_flight: Vec<usize>,
    #[command(flatten)]
    runs: Runs,
    #[command(flatten)]
    disk: Disk,
    #[command(flatten)]
    setting: Setting,
}

/// What the store alone has to do.
#[derive(Serialize, Deserialize)]
pub struct StoreAlone {
    pub data: PathBuf,
    pub in_flight: usize,
    pub rooms: usize,
    pub secs: f64,
    pub payload: usize,
}

/// The result of one run: how many messages became durable, and how long each took.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Answers {
    pub in_flight: usize,
    pub messages: u64,
    pub per_second: f64,
    pub p50_ms: f64,
    pub p99_ms: f64,
    /// Cores that the server used during the run.
    pub cores: f64,
}

impl Answers {
    pub fn of(in_flight: usize, seconds: f64, latency_us: &Histogram<u64>) -> Answers {
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

/// The server's result and the store's result of one round.
#[derive(Debug, Serialize)]
struct Pair {
    round: usize,
    server: Answers,
    store: Answers,
}

pub fn run(options: &Options) -> Result<(), Failure> {
    options.runs.check()?;
    if options.in_flight.contains(&0) {
        return Err(Failure::Options("--in-flight must be above zero".into()));
    }
    let data_in = options.disk.directory()?;
    let launch = Launch {
        store: "embedded".into(),
        persistence: Persistence::Kept,
        data_in: Some(data_in.clone()),
        ..options.setting.launch(1)?
    };
    let mut pairs = Vec::new();
    for round in 0..options.runs.repeat {
        let server = Server::start(Kind::Stentor, &launch)?;
        let token = server.token()?;
        let most = options.in_flight.iter().max().map_or(1, |most| most.div_ceil(REQUESTS_PER_PUBLISHER));
        let mut publishers = Publishers::join(server.address, &token, most, ROOMS, options.runs.payload)?;
        for &in_flight in &options.in_flight {
            let cpu_before = cpu::cpu_time(server.pid())?;
            let mut through = publishers.send_for(in_flight, options.runs.length())?;
            let spent = cpu::cpu_time(server.pid())?.saturating_sub(cpu_before);
            through.cores = spent.as_secs_f64() * through.per_second / through.messages.max(1) as f64;
            eprintln!("round {} · stentor     · {}", round + 1, line(&through));
            let alone = store_alone(options, &launch, &data_in, in_flight)?;
            eprintln!("round {} · store alone · {}", round + 1, line(&alone));
            pairs.push(Pair { round, server: through, store: alone });
        }
    }
    print(options, &launch, &pairs)
}

/// Writes the same messages through the bridge alone, in a separate process on the server's cores.
fn store_alone(options: &Options, launch: &Launch, data_in: &Path, in_flight: usize) -> Result<Answers, Failure> {
    let directory = tempfile::TempDir::new_in(data_in)?;
    let Runs { secs, payload, .. } = options.runs;
    let alone = StoreAlone { data: directory.path().into(), in_flight, rooms: ROOMS, secs, payload };
    let process = Companion::start("store-alone", &alone, launch, &launch.server_cpus)?;
    Ok(process.hear(options.runs.length())?)
}

fn print(options: &Options, launch: &Launch, pairs: &[Pair]) -> Result<(), Failure> {
    println!("{}", Conditions::here());
    println!(
        "Durable sends of {} bytes over {} rooms, {REQUESTS_PER_PUBLISHER} in flight a publisher; server and store \
         alone on cores {:?}, publishers on core {}. Medians of {} rounds of {} s.",
        options.runs.payload,
        ROOMS,
        launch.server_cpus,
        launch.client_cpu(),
        options.runs.repeat,
        options.runs.secs
    );
    let header =
        "in flight | acks/s | store alone/s | ÷ store | p50 ms | p99 ms | store p50 ms | store p99 ms | server's cores";
    let (mut goals, mut rows) = (Vec::new(), Vec::new());
    for &in_flight in &options.in_flight {
        let of = |figure: &dyn Fn(&Pair) -> f64| {
            let same = pairs.iter().filter(|pair| pair.server.in_flight == in_flight);
            report::median(same.map(figure).collect())
        };
        let (through, alone) = (of(&|pair| pair.server.per_second), of(&|pair| pair.store.per_second));
        let figures = [
            through,
            alone,
            ratio(through, alone),
            of(&|pair| pair.server.p50_ms),
            of(&|pair| pair.server.p99_ms),
            of(&|pair| pair.store.p50_ms),
            of(&|pair| pair.store.p99_ms),
            of(&|pair| pair.server.cores),
        ];
        rows.push(report::row(in_flight, figures));
        if options.in_flight.iter().max() == Some(&in_flight) {
            let question = format!("durable sends/s ÷ the store alone, {in_flight} in flight");
            goals.push(Goal::new(question, ratio(through, alone), Bound::AtLeast(0.6)));
        }
    }
    println!("\n{}", report::table(header, rows));
    goals::print(&goals);
    Ok(options.setting.keep(&serde_json::json!({ "runs": pairs, "goals": goals }))?)
}

pub fn line(answers: &Answers) -> String {
    format!(
        "{:>6} in flight: {:.0} messages/s, p50 {:.2} ms, p99 {:.2} ms",
        answers.in_flight, answers.per_second, answers.p50_ms, answers.p99_ms
    )
}
