//! The same crowds on one shard and on two: how much more is delivered at most, and where the time goes.
//!
//! Each client is a separate process with its own room. It has its own core, as far as the shards leave cores free. If
//! they leave none, the client shares the last shard's core, and the report says that growth cannot be shown. On any
//! machine the bench can show what further shards cost: the server's CPU time per delivery. It is measured at a rate
//! that leaves the server idle for most of the time, with messages one at a time, so that every delivery is a write.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use clap::Args;
use serde::{Deserialize, Serialize};

use crate::client::{Room, Shape};
use crate::companion::{self, Companion};
use crate::cpu;
use crate::dialect::{Dialect, Persistence};
use crate::failure::Failure;
use crate::goals::{self, Bound, Goal, ratio};
use crate::launch::Launch;
use crate::report::{self, Conditions};
use crate::run::{self, Patience, Run};
use crate::search::Search;
use crate::server::{Kind, Server};
use crate::setting::{Runs, Setting};

/// Deliveries/s that each client is offered first. The search continues from there.
const START_PER_CLIENT: f64 = 4e6;
/// Messages/s in each room in the quiet run: a quarter of a core's writes, or less.
const QUIET_RATE: f64 = 20.0;
/// By how much a delivery may become more expensive with further shards, in CPU time.
const COST_GROWTH_MAX: f64 = 1.2;
/// The least growth that shards with their own cores should give.
const GROWTH_MIN: f64 = 1.5;
/// A side that is busy for this share of its time counts as full.
const FULL: f64 = 0.9;

#[derive(Args, Debug)]
pub struct Options {
    /// Numbers of shards to compare; a core each.
    #[arg(long, value_delimiter = ',', default_values_t = [1, 2])]
    shards: Vec<usize>,
    /// Client processes; by default as many as cores are left beside the most shards, and at least one.
    #[arg(long)]
    clients: Option<usize>,
    /// Members of each client's room.
    #[arg(long, default_value_t = 2000)]
    members: usize,
    #[command(flatten)]
    runs: Runs,
    #[command(flatten)]
    setting: Setting,
}

/// What a client process of this question has to do.
#[derive(Serialize, Deserialize)]
struct Crowd {
    address: SocketAddr,
    token: String,
    room: String,
    members: usize,
    payload: usize,
    secs: f64,
    server_pid: u32,
}

/// An answer of a client.
#[derive(Serialize, Deserialize)]
enum Answer {
    Full,
    Ran(Run),
    Broke(String),
}

/// The most that so many shards carried in one round.
#[derive(Clone, Debug, Serialize)]
struct Figures {
    shards: usize,
    round: usize,
    deliveries_per_second: f64,
    latency_p99_ms: f64,
    /// Cores that the server used, and the part of them in the kernel.
    server_cores: f64,
    server_cores_in_kernel: f64,
    /// Cores on which clients had something to read. Each client uses a whole core, because it never sleeps.
    client_cores_busy: f64,
    /// The share of the time in which a thread of the server or a client was ready and its core ran another thread.
    waiting_for_cores: f64,
    /// The server's CPU time.
    cpu_us_per_delivery: f64,
    /// The same in the quiet run before this one.
    quiet_cpu_us_per_delivery: f64,
}

/// The cores of a server with so many shards, and of its clients.
struct Place {
    launch: Launch,
    /// What cannot be shown, because server and clients share cores.
    sharing: Option<String>,
}

pub fn run(options: &Options) -> Result<(), Failure> {
    options.runs.check()?;
    if options.shards.contains(&0) || options.clients == Some(0) {
        return Err(Failure::Options("--shards and --clients must be above zero".into()));
    }
    let cores = cpu::allowed_cpus()?.len();
    let most_shards = options.shards.iter().copied().max().unwrap_or(1);
    let clients = options.clients.unwrap_or(cores.saturating_sub(most_shards).max(1));
    let place = |&shards: &usize| -> io::Result<(usize, Place)> {
        // Clients get the cores that the largest number of shards leaves free, so that every number of shards is
        // measured with the same clients.
        let client_cpus = options.setting.cores(most_shards)?.1;
        let launch = Launch { client_cpus, ..options.setting.launch(shards)? };
        let apart = launch.client_cpus.iter().all(|cpu| !launch.server_cpus.contains(cpu));
        let apart = apart && launch.server_cpus.len() >= shards && launch.client_cpus.len() >= clients;
        Ok((shards, Place { launch, sharing: (!apart).then(|| sharing(shards, cores, clients)) }))
    };
    let places = options.shards.iter().map(place).collect::<io::Result<Vec<_>>>()?;
    // Printed before anything is measured, and again with the figures.
    places.iter().filter_map(|(_, place)| place.sharing.as_ref()).for_each(|text| eprintln!("{text}"));
    let mut all: Vec<Figures> = Vec::new();
    for round in 0..options.runs.repeat {
        for (shards, place) in &places {
            let known = all.iter().rev().find(|figures| figures.shards == *shards);
            let near = known.map(|figures| figures.deliveries_per_second);
            let figures = Asking { options, launch: &place.launch, clients, filled: None }.most(near, round)?;
            let nothing = || Failure::Faulty(format!("with {shards} shards no rate at all was carried"));
            all.push(figures.ok_or_else(nothing)?);
        }
    }
    print(options, &places, clients, &all)
}

/// A server and its clients' full rooms. The server is dropped first, or it would have to handle every member's leave.
struct Filled {
    server: Server,
    clients: Vec<Companion>,
}

/// Offers one rate after another.
struct Asking<'a> {
    options: &'a Options,
    launch: &'a Launch,
    clients: usize,
    /// Empty after a run that lost messages or members.
    filled: Option<Filled>,
}

impl Asking<'_> {
    /// The most deliveries per second at which no member is lost and every client's p99 is below a second.
    fn most(mut self, near: Option<f64>, round: usize) -> Result<Option<Figures>, Failure> {
        let quiet = self.offer(QUIET_RATE * (self.clients * self.options.members) as f64, round)?;
        let Some(quiet) = quiet else { return Ok(None) };
        let search = near.map_or(Search::from(START_PER_CLIENT * self.clients as f64), Search::near);
        let offer = |deliveries| {
            let carried = self.offer(deliveries, round)?;
            let said = match &carried {
                Some(figures) => format!("carried, p99 {:.0} ms", figures.latency_p99_ms),
                None => "not carried".into(),
            };
            let shards = self.launch.shards;
            eprintln!("round {} · {shards} shards · {:.2} M/s offered · {said}", round + 1, deliveries / 1e6);
            Ok::<_, Failure>(carried)
        };
        let best = search.most(offer, |figures| figures.deliveries_per_second)?;
        Ok(best.map(|best| Figures { quiet_cpu_us_per_delivery: quiet.cpu_us_per_delivery, ..best }))
    }

    /// One run of all clients at once. `None` if one of them did not carry its part.
    fn offer(&mut self, deliveries: f64, round: usize) -> Result<Option<Figures>, Failure> {
        let mut filled = match self.filled.take() {
            Some(filled) => filled,
            None => self.open()?,
        };
        let rate = deliveries / (self.clients * self.options.members) as f64;
        let before = Spent::look(&filled)?;
        for client in &mut filled.clients {
            client.tell(&rate)?;
        }
        let (mut runs, mut broke) = (Vec::new(), false);
        for client in &filled.clients {
            match client.hear(self.options.runs.length())? {
                Answer::Ran(run) => runs.push(run),
                Answer::Broke(text) => {
                    eprintln!("  a client's run broke off: {text}");
                    broke = true;
                }
                Answer::Full => return Err(io::Error::other("a client filled its room twice").into()),
            }
        }
        let spent = Spent::look(&filled)?.since(&before);
        let whole = !broke && runs.iter().all(Run::nothing_lost);
        self.filled = whole.then_some(filled);
        let carried = whole && runs.iter().all(Run::carried);
        Ok(carried.then(|| Figures::of(self.launch.shards, round, &runs, &spent)))
    }

    fn open(&self) -> Result<Filled, Failure> {
        let server = Server::start(Kind::Stentor, self.launch)?;
        let token = server.token()?;
        let clients = (0..self.clients).map(|number| self.start_client(&server, &token, number));
        let clients = clients.collect::<io::Result<Vec<_>>>()?;
        for client in &clients {
            match client.hear(Duration::ZERO)? {
                Answer::Full => {}
                Answer::Broke(text) => return Err(io::Error::other(format!("a room was not filled: {text}")).into()),
                Answer::Ran(_) => return Err(io::Error::other("a client ran before it was told to").into()),
            }
        }
        Ok(Filled { server, clients })
    }

    fn start_client(&self, server: &Server, token: &str, number: usize) -> io::Result<Companion> {
        // Clients get cores from the last one down, so that shared cores are those of the last shards.
        let cpus = &self.launch.client_cpus;
        let cpu = cpus[cpus.len() - 1 - number % cpus.len()];
        let Runs { payload, secs, .. } = self.options.runs;
        let crowd = Crowd {
            address: server.address,
            token: token.to_owned(),
            room: format!("crowd-{number}"),
            members: self.options.members,
            payload,
            secs,
            server_pid: server.pid(),
        };
        Companion::start("crowd-of-shards", &crowd, self.launch, &[cpu])
    }
}

impl Figures {
    fn of(shards: usize, round: usize, runs: &[Run], spent: &Spent) -> Figures {
        let seconds = runs.iter().map(|run| run.deliveries as f64 / run.deliveries_per_second).fold(0.0, f64::max);
        let deliveries: u64 = runs.iter().map(|run| run.deliveries).sum();
        Figures {
            shards,
            round,
            deliveries_per_second: runs.iter().map(|run| run.deliveries_per_second).sum(),
            latency_p99_ms: runs.iter().map(|run| run.latency_p99_ms).fold(0.0, f64::max),
            server_cores: (spent.server_user + spent.server_system) / seconds,
            server_cores_in_kernel: spent.server_system / seconds,
            client_cores_busy: runs.iter().map(|run| run.client_share).sum(),
            waiting_for_cores: spent.waiting / seconds,
            cpu_us_per_delivery: (spent.server_user + spent.server_system) * 1e6 / deliveries.max(1) as f64,
            quiet_cpu_us_per_delivery: 0.0,
        }
    }
}

/// CPU seconds that were used so far.
struct Spent {
    server_user: f64,
    server_system: f64,
    waiting: f64,
}

impl Spent {
    fn look(filled: &Filled) -> io::Result<Spent> {
        let (user, system) = cpu::user_and_system_time(filled.server.pid())?;
        let mut waiting = cpu::time_kept_waiting(filled.server.pid())?;
        for client in &filled.clients {
            waiting += cpu::time_kept_waiting(client.pid())?;
        }
        Ok(Spent {
            server_user: user.as_secs_f64(),
            server_system: system.as_secs_f64(),
            waiting: waiting.as_secs_f64(),
        })
    }

    fn since(&self, before: &Spent) -> Spent {
        Spent {
            server_user: self.server_user - before.server_user,
            server_system: self.server_system - before.server_system,
            waiting: self.waiting - before.waiting,
        }
    }
}

/// A client process. It reports when its room is full. Then it gets rates, and reports the result of each.
pub fn crowd() -> Result<(), Failure> {
    let options: Crowd = companion::options()?;
    cpu::raise_descriptor_limit();
    let mut room = match fill(&options) {
        Ok(room) => room,
        Err(failure) => return Ok(companion::answer(&Answer::Broke(failure.to_string()))?),
    };
    companion::answer(&Answer::Full)?;
    while let Some(rate) = companion::next_order()? {
        let duration = Duration::from_secs_f64(options.secs);
        match run::at_rate(&mut room, options.server_pid, rate, duration, Patience::Limited) {
            Ok(run) => companion::answer(&Answer::Ran(run))?,
            Err(failure) => companion::answer(&Answer::Broke(failure.to_string()))?,
        }
    }
    Ok(())
}

fn fill(options: &Crowd) -> Result<Room, Failure> {
    let (token, room) = (options.token.clone(), options.room.clone());
    let dialect = Dialect::Stentor { token, persistence: Persistence::Passing, room };
    let shape = Shape { members: options.members, content_bytes: options.payload };
    let mut room = Room::new(options.address, dialect, shape)?;
    room.fill()?;
    Ok(room)
}

fn sharing(shards: usize, cores: usize, clients: usize) -> String {
    format!(
        "With {shards} shards and {clients} client processes on {cores} cores, a shard shares its core with a client, and \
         lacks what that takes: how throughput grows CANNOT BE SHOWN here. It takes a core for each of them: 4 cores, for \
         two shards and two clients."
    )
}

fn print(options: &Options, places: &[(usize, Place)], clients: usize, all: &[Figures]) -> Result<(), Failure> {
    println!("{}", Conditions::here());
    println!(
        "{clients} client process(es), each with a room of {}: the most deliveries/s at which nobody is lost, every \
         message arrives once and in order, and p99 stays below a second. Medians of {} rounds.",
        options.members, options.runs.repeat
    );
    for (shards, place) in places {
        let Launch { server_cpus, client_cpus, .. } = &place.launch;
        println!("{shards} shards on cores {server_cpus:?}, clients on {client_cpus:?}.");
        place.sharing.iter().for_each(|text| println!("{text}"));
    }
    let header = "shards | M deliveries/s | × the first | p99 ms | server's cores | … in the kernel | clients' \
                   cores busy | waiting for a core | quiet: CPU µs a delivery | × the first | why not more";
    let of = |shards: usize, figure: fn(&Figures) -> f64| {
        report::median(all.iter().filter(|figures| figures.shards == shards).map(figure).collect())
    };
    let delivered = |shards| of(shards, |figures| figures.deliveries_per_second / 1e6);
    let cost = |shards| of(shards, |figures| figures.quiet_cpu_us_per_delivery);
    let first = options.shards.first().and_then(|&shards| delivered(shards));
    let first_cost = options.shards.first().and_then(|&shards| cost(shards));
    let (mut goals, mut rows) = (Vec::new(), Vec::new());
    for (shards, place) in places {
        let growth = ratio(delivered(*shards), first);
        let cost_growth = ratio(cost(*shards), first_cost);
        let sides = [
            of(*shards, |figures| figures.server_cores),
            of(*shards, |figures| figures.client_cores_busy),
            of(*shards, |figures| figures.waiting_for_cores),
        ];
        let figures = [
            delivered(*shards),
            growth,
            of(*shards, |figures| figures.latency_p99_ms),
            sides[0],
            of(*shards, |figures| figures.server_cores_in_kernel),
            sides[1],
            sides[2],
            cost(*shards),
            cost_growth,
        ];
        let mut row = report::row(shards, figures);
        row.push(limit(*shards, clients, sides).to_owned());
        rows.push(row);
        if Some(shards) != options.shards.first() {
            let question = format!("throughput of {shards} shards grows: × the first");
            goals.push(Goal::new(question, growth.filter(|_| place.sharing.is_none()), Bound::AtLeast(GROWTH_MIN)));
            let question = format!("a delivery with {shards} shards in a quiet room, CPU time: × the first");
            goals.push(Goal::new(question, cost_growth, Bound::AtMost(COST_GROWTH_MAX)));
        }
    }
    println!("\n{}", report::table(header, rows));
    goals::print(&goals);
    options.setting.keep(&serde_json::json!({ "clients": clients, "runs": all, "goals": goals }))?;
    goals::judge(&goals)
}

/// What limited the deliveries, as far as the cores show it.
fn limit(shards: usize, clients: usize, [server, client, waiting]: [Option<f64>; 3]) -> &'static str {
    let full = |busy: Option<f64>, cores: usize| busy.is_some_and(|busy| busy >= FULL * cores as f64);
    match (full(server, shards), full(client, clients)) {
        _ if waiting.is_some_and(|waiting| waiting >= 1.0 - FULL) => "too few cores",
        (true, true) => "both sides are full",
        (true, false) => "the shards are full",
        (false, true) => "the clients are full",
        (false, false) => "neither side is full",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_fuller_side_is_the_limit() {
        let check = |server, client, waiting, expected| {
            assert_eq!(limit(2, 1, [Some(server), Some(client), Some(waiting)]), expected);
        };
        check(1.9, 0.5, 0.0, "the shards are full");
        check(1.2, 0.95, 0.01, "the clients are full");
        check(1.9, 0.95, 0.01, "both sides are full");
        check(1.2, 0.5, 0.01, "neither side is full");
        check(1.2, 0.5, 0.6, "too few cores");
    }
}
