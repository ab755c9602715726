//! Durable sends through the whole server, beside what the store alone commits in the same run on the same core: how
//! many a second, and how long until the acknowledgement, with few and with many requests in flight.

mod store_alone;

use clap::Args;

use crate::cpu;
use crate::failure::Failure;
use crate::goals;
use crate::report::Conditions;
use crate::sends::publishers::{Publishers, REQUESTS_PER_PUBLISHER};
use crate::sends::{ROOMS, Sends, SendsOptions, Work};
use crate::server::{Kind, Server};
pub use store_alone::serve as serve_store_alone;

/// The least share of the store's commits that the server should reach with the most in flight.
const GOAL: f64 = 0.6;

#[derive(Args, Debug)]
pub struct Options {
    /// Requests in flight, all publishers together (32 each).
    #[arg(long, value_delimiter = ',', default_values_t = [1, 100, 10_000])]
    in_flight: Vec<usize>,
    #[command(flatten)]
    sends: SendsOptions,
}

pub fn run(options: &Options) -> Result<(), Failure> {
    let Options { in_flight, sends: SendsOptions { runs, setting, .. } } = options;
    let launch = options.sends.launch(in_flight)?;
    let most = in_flight.iter().copied().max().unwrap_or(1);
    let mut sends = Sends::default();
    for round in 0..runs.repeat {
        let server = Server::start(Kind::Stentor, &launch)?;
        let mut publishers = Publishers::for_sends(&server, most, ROOMS, runs.payload)?;
        for &in_flight in in_flight {
            let before = cpu::cpu_time(server.pid())?;
            let mut through = publishers.send_for(in_flight, runs.length())?;
            let spent = cpu::cpu_time(server.pid())?.saturating_sub(before);
            through.cores = spent.as_secs_f64() * through.per_second / through.messages.max(1) as f64;
            sends.add(round, "stentor", through);
            sends.add(round, "store alone", store_alone::run(Work::new(in_flight, ROOMS, runs), &launch)?);
        }
    }
    println!("{}", Conditions::here());
    println!(
        "Durable sends of {} bytes over {ROOMS} rooms, {REQUESTS_PER_PUBLISHER} in flight a publisher; server and store \
         alone on cores {:?}, publishers on core {}. Medians of {} rounds of {} s.",
        runs.payload,
        launch.server_cpus,
        launch.client_cpu(),
        runs.repeat,
        runs.secs
    );
    println!("{}", launch.budgets);
    println!("\n{}", sends.table(&["stentor", "store alone"], in_flight));
    let goals = sends.goals("stentor", "store alone", &[most], GOAL);
    goals::print(&goals);
    Ok(setting.keep(&serde_json::json!({ "sends": sends, "goals": goals }))?)
}
