//! The embedded store beside a database, which this bench starts itself. It measures messages stored through the whole
//! server, the same rows stored by the database's driver alone, and how full partitions become.
//!
//! The database is one node. It has on disk what it has acknowledged, like the embedded store. It has its own cores,
//! because in real use it has its own machines: it must not take CPU time from the server.

mod database;
mod driver_alone;

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use serde::Serialize;

use crate::cpu;
use crate::dialect::Persistence;
use crate::durable::publishers::{Publishers, REQUESTS_PER_PUBLISHER};
use crate::durable::{Answers, ROOMS, line};
use crate::failure::Failure;
use crate::goals::{self, Bound, Goal, ratio};
use crate::launch::Launch;
use crate::report::{self, Conditions};
use crate::server::{Kind, Server};
use crate::setting::{Disk, Runs, Setting};
use database::{Database, Partition};
pub use driver_alone::{DriverAlone, serve as serve_driver_alone};

/// The bounds that the store promises for a partition: the limit at which it is closed, and the rows that are under way
/// at that time.
const PARTITION_ROWS_MAX: f64 = 80_000.0 + 1_024.0;
const PARTITION_BYTES_MAX: f64 = 64.0 * 1024.0 * 1024.0 + 1024.0 * 1024.0;

#[derive(Args, Debug)]
pub struct Options {
    /// Requests in flight, all publishers together (32 each).
    #[arg(long, value_delimiter = ',', default_values_t = [1, 1_000])]
    in_flight: Vec<usize>,
    /// Seconds of sending into one room, for its partitions.
    #[arg(long, default_value_t = 60.0)]
    hot_secs: f64,
    #[command(flatten)]
    runs: Runs,
    /// The cores of the database's node; by default the last, or all but two.
    #[arg(long, value_delimiter = ',')]
    node_cpus: Vec<usize>,
    #[command(flatten)]
    disk: Disk,
    /// The `with-cassandra` program; without it, it is built first.
    #[arg(long)]
    with_cassandra: Option<PathBuf>,
    #[command(flatten)]
    setting: Setting,
}

/// One round of sending.
#[derive(Debug, Serialize)]
struct Sent {
    round: usize,
    embedded: Answers,
    database: Answers,
    driver_alone: Answers,
}

impl Sent {
    fn answers(&self) -> [&Answers; 3] {
        [&self.embedded, &self.database, &self.driver_alone]
    }
}

pub fn run(options: &Options) -> Result<(), Failure> {
    check(options)?;
    let (server_cpus, client_cpus) = options.setting.cores(1)?;
    let places = Places::of(&options.node_cpus, &server_cpus, &client_cpus);
    let Some(database) = Database::of_environment()? else {
        return database::again_beside_a_node(options.with_cassandra.as_deref(), &places.node);
    };
    let launch = Launch {
        store: "embedded".into(),
        persistence: Persistence::Kept,
        data_in: Some(options.disk.directory()?),
        ..options.setting.launch(1)?
    };
    // A node that has just started is slow, because its code is compiled while it runs.
    let most = options.in_flight.iter().copied().max().unwrap_or(1);
    let warm = driver_alone::spawn(&driver_alone(options, &database, &launch, most)?, &launch)?;
    eprintln!("warming up · {}", line(&warm));
    let mut sent = Vec::new();
    for round in 0..options.runs.repeat {
        send_round(options, &launch, &places, &database, round, &mut sent)?;
    }
    cpu::pin_to(&places.publishers)?;
    let partitions = hot_room(options, &launch, &database)?;
    print(options, &launch, &places, &sent, &partitions)
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

/// Refuses options that cannot be measured, before anything is built or started.
fn check(options: &Options) -> Result<(), Failure> {
    options.runs.check()?;
    if options.hot_secs <= 0.0 || options.in_flight.contains(&0) {
        return Err(Failure::Options("no number may be zero".into()));
    }
    Ok(())
}

fn send_round(
    options: &Options,
    launch: &Launch,
    places: &Places,
    database: &Database,
    round: usize,
    sent: &mut Vec<Sent>,
) -> Result<(), Failure> {
    let on_database = database.launch(launch)?;
    let servers = [Server::start(Kind::Stentor, launch)?, Server::start(Kind::Stentor, &on_database)?];
    let most = options.in_flight.iter().max().map_or(1, |most| most.div_ceil(REQUESTS_PER_PUBLISHER));
    let join = |server: &Server| -> Result<Publishers, Failure> {
        Publishers::join(server.address, &server.token()?, most, ROOMS, options.runs.payload)
    };
    let [mut embedded, mut kept] = [join(&servers[0])?, join(&servers[1])?];
    let duration = options.runs.length();
    for &in_flight in &options.in_flight {
        let say = |what: &str, answers: &Answers| eprintln!("round {} · {what} · {}", round + 1, line(answers));
        let embedded = embedded.send_for(in_flight, duration)?;
        say("embedded    ", &embedded);
        cpu::pin_to(&places.publishers)?;
        let of_database = kept.send_for(in_flight, duration);
        cpu::pin_to(&[launch.client_cpu()])?;
        let of_database = of_database?;
        say("database    ", &of_database);
        let driver_alone = driver_alone::spawn(&driver_alone(options, database, launch, in_flight)?, launch)?;
        say("driver alone", &driver_alone);
        sent.push(Sent { round, embedded, database: of_database, driver_alone });
    }
    Ok(())
}

/// The options of the driver alone: the same rooms, and as many requests in flight.
fn driver_alone(
    options: &Options,
    database: &Database,
    launch: &Launch,
    in_flight: usize,
) -> Result<DriverAlone, Failure> {
    Ok(DriverAlone {
        node: database.node.clone(),
        keyspace: database.new_keyspace(launch)?,
        in_flight,
        rooms: ROOMS.min(in_flight.div_ceil(REQUESTS_PER_PUBLISHER)),
        secs: options.runs.secs,
        payload: options.runs.payload,
    })
}

/// One room with the most requests in flight: how full do its partitions become?
fn hot_room(options: &Options, launch: &Launch, database: &Database) -> Result<Vec<Partition>, Failure> {
    let keyspace = database.new_keyspace(launch)?;
    let server = Server::start(Kind::Stentor, &database.launch_on(launch, &keyspace))?;
    let most = options.in_flight.iter().copied().max().unwrap_or(1);
    let publishers = most.div_ceil(REQUESTS_PER_PUBLISHER);
    let mut publishers = Publishers::join(server.address, &server.token()?, publishers, 1, options.runs.payload)?;
    let answers = publishers.send_for(most, Duration::from_secs_f64(options.hot_secs))?;
    eprintln!("hot room · {}", line(&answers));
    let partitions = database.partitions(&keyspace)?;
    let rows: u64 = partitions.iter().map(|partition| partition.rows).sum();
    if rows != answers.messages {
        return Err(Failure::Faulty(format!("{} messages were acknowledged, and {rows} are there", answers.messages)));
    }
    Ok(partitions)
}

fn print(
    options: &Options,
    launch: &Launch,
    places: &Places,
    sent: &[Sent],
    partitions: &[Partition],
) -> Result<(), Failure> {
    println!("{}", Conditions::here());
    println!(
        "Sends of {} bytes over {} rooms, {REQUESTS_PER_PUBLISHER} in flight a publisher; server and driver alone on cores \
         {:?}, the database's node on {:?}, publishers on {:?}, or {} where there is no database. Medians of {} rounds of {} s.",
        options.runs.payload,
        ROOMS,
        launch.server_cpus,
        places.node,
        places.publishers,
        launch.client_cpu(),
        options.runs.repeat,
        options.runs.secs
    );
    let (mut goals, mut rows) = (Vec::new(), Vec::new());
    for &in_flight in &options.in_flight {
        let mut rates = Vec::new();
        for (place, name) in ["stentor, embedded", "stentor, database", "driver alone"].into_iter().enumerate() {
            let figure = |figure: fn(&Answers) -> f64| {
                let same = sent.iter().filter(|sent| sent.driver_alone.in_flight == in_flight);
                report::median(same.map(|sent| figure(sent.answers()[place])).collect())
            };
            let figures = [figure(|a| a.per_second), figure(|a| a.p50_ms), figure(|a| a.p99_ms)];
            rows.push(report::row(format!("{in_flight} in flight, {name}"), figures));
            rates.push(figures[0]);
        }
        let question = format!("messages/s on the database ÷ the driver alone, {in_flight} in flight");
        goals.push(Goal::new(question, ratio(rates[1], rates[2]), Bound::AtLeast(0.8)));
    }
    println!("\n{}", report::table("sending | messages/s | p50 ms | p99 ms", rows));
    let cells = |(number, partition): (usize, &Partition)| {
        let mib = partition.bytes as f64 / f64::from(1 << 20);
        report::row(number + 1, [Some(partition.rows as f64), Some(mib)])
    };
    let rows = partitions.iter().enumerate().map(cells);
    println!("\n{}", report::table("partition of the hot room | rows | MiB of text", rows));
    let most = |of: fn(&Partition) -> u64| partitions.iter().map(of).max().map(|most| most as f64);
    goals.push(Goal::new("rows of the largest partition", most(|one| one.rows), Bound::AtMost(PARTITION_ROWS_MAX)));
    goals.push(Goal::new("bytes of the largest partition", most(|one| one.bytes), Bound::AtMost(PARTITION_BYTES_MAX)));
    goals::print(&goals);
    let results = serde_json::json!({ "sent": sent, "partitions": partitions, "goals": goals });
    Ok(options.setting.keep(&results)?)
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
