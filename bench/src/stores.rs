//! The embedded store beside a database, which this bench starts itself. It measures messages stored through the whole
//! server, and the same rows stored by the database's driver alone.
//!
//! The database is one node. It has on disk what it has acknowledged, like the embedded store. It has its own cores,
//! because in real use it has its own machines: it must not take CPU time from the server.

mod database;
mod driver_alone;

use std::path::PathBuf;

use clap::Args;

use crate::cpu;
use crate::failure::Failure;
use crate::goals;
use crate::launch::Launch;
use crate::report::Conditions;
use crate::sends::publishers::{Publishers, REQUESTS_PER_PUBLISHER};
use crate::sends::{ROOMS, Sends, SendsOptions, Work};
use crate::server::{Kind, Server};
use database::Database;
pub use driver_alone::serve as serve_driver_alone;

/// The least share of what the driver alone stores that the server should reach.
const GOAL: f64 = 0.8;

#[derive(Args, Debug)]
pub struct Options {
    /// Requests in flight, all publishers together (32 each).
    #[arg(long, value_delimiter = ',', default_values_t = [1, 1_000])]
    in_flight: Vec<usize>,
    /// The cores of the database's node; by default the last, or all but two.
    #[arg(long, value_delimiter = ',')]
    node_cpus: Vec<usize>,
    /// The `with-cassandra` program; without it, it is built first.
    #[arg(long)]
    with_cassandra: Option<PathBuf>,
    #[command(flatten)]
    sends: SendsOptions,
}

pub fn run(options: &Options) -> Result<(), Failure> {
    let Options { in_flight, sends: SendsOptions { runs, setting, .. }, .. } = options;
    let (server_cpus, client_cpus) = setting.cores(1)?;
    let places = Places::of(&options.node_cpus, &server_cpus, &client_cpus);
    let Some(database) = Database::of_environment()? else {
        return database::again_beside_a_node(options.with_cassandra.as_deref(), &places.node);
    };
    let launch = options.sends.launch(in_flight)?;
    // A node that has just started is slow, because its code is compiled while it runs.
    let most = in_flight.iter().copied().max().unwrap_or(1);
    driver_alone::run(&database, work(most, options), &launch)?;
    let mut sends = Sends::default();
    for round in 0..runs.repeat {
        send_round(options, &launch, &places, &database, round, &mut sends)?;
    }
    println!("{}", Conditions::here());
    println!(
        "Sends of {} bytes over {ROOMS} rooms, {REQUESTS_PER_PUBLISHER} in flight a publisher; server and driver alone on \
         cores {:?}, the database's node on {:?}, publishers on {:?}, or {} where there is no database. Medians of {} \
         rounds of {} s.",
        runs.payload,
        launch.server_cpus,
        places.node,
        places.publishers,
        launch.client_cpu(),
        runs.repeat,
        runs.secs
    );
    println!("{}", launch.budgets);
    println!("\n{}", sends.table(&["embedded", "database", "driver alone"], in_flight));
    let goals = sends.goals("database", "driver alone", in_flight, GOAL);
    goals::print(&goals);
    Ok(setting.keep(&serde_json::json!({ "sends": sends, "goals": goals }))?)
}

/// What the driver alone has to send: in the same rooms, and as many requests in flight.
fn work(in_flight: usize, options: &Options) -> Work {
    Work::new(in_flight, ROOMS.min(in_flight.div_ceil(REQUESTS_PER_PUBLISHER)), &options.sends.runs)
}

fn send_round(
    options: &Options,
    launch: &Launch,
    places: &Places,
    database: &Database,
    round: usize,
    sends: &mut Sends,
) -> Result<(), Failure> {
    let runs = options.sends.runs;
    let embedded = Server::start(Kind::Stentor, launch)?;
    let kept = Server::start(Kind::Stentor, &database.launch(launch)?)?;
    let most = options.in_flight.iter().copied().max().unwrap_or(1);
    let mut on_embedded = Publishers::for_sends(&embedded, most, ROOMS, runs.payload)?;
    let mut on_database = Publishers::for_sends(&kept, most, ROOMS, runs.payload)?;
    for &in_flight in &options.in_flight {
        sends.add(round, "embedded", on_embedded.send_for(in_flight, runs.length())?);
        cpu::pin_to(&places.publishers)?;
        let answers = on_database.send_for(in_flight, runs.length());
        cpu::pin_to(&[launch.client_cpu()])?;
        sends.add(round, "database", answers?);
        sends.add(round, "driver alone", driver_alone::run(database, work(in_flight, options), launch)?);
    }
    Ok(())
}

/// The cores of the database's node, and the cores of the clients that publish to a server with this database.
struct Places {
    node: Vec<usize>,
    publishers: Vec<usize>,
}

impl Places {
    /// Publishers do not use the node's cores: on a machine with two cores they run on the server's core.
    fn of(node: &[usize], server: &[usize], clients: &[usize]) -> Self {
        let (first, others) = clients.split_at(1);
        let by_default = if others.is_empty() { first } else { others };
        let node = if node.is_empty() { by_default } else { node };
        let publishers = if node.contains(&first[0]) { server } else { first };
        Self { node: node.into(), publishers: publishers.into() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_node_is_apart_from_all_others_as_far_as_there_are_cores() {
        let check = |node: &[usize], clients: &[usize], expected: (&[usize], &[usize])| {
            let places = Places::of(node, &[0], clients);
            assert_eq!((&places.node[..], &places.publishers[..]), expected, "{node:?} of {clients:?}");
        };
        check(&[], &[1], (&[1], &[0]));
        check(&[], &[1, 2], (&[2], &[1]));
        check(&[], &[1, 2, 3], (&[2, 3], &[1]));
        check(&[3], &[1, 2, 3], (&[3], &[1]));
        check(&[0, 1], &[1], (&[0, 1], &[0]));
    }
}
