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

use crate::accounts;
use crate::client::{Room, Shape};
use crate::companion::{self, Companion};
use crate::cpu::{self, Usage};
use crate::dialect::{Dialect, Persistence};
use crate::failure::{Failure, OPENING_TIME_MAX};
use crate::goals::{self, Bound, Goal, ratio};
use crate::launch::{Budgets, Launch};
use crate::report::{self, Conditions};
use crate::run::{self, Patience, Run};
use crate::search::Search;
use crate::server::{Kind, Server};
use crate::setting::{Runs, Setting};

/// Deliveries/s that each client is offered first. The search continues from there.
const START_PER_CLIENT: f64 = 4e6;
/// The local address from which the members of the first process sign in.
const FIRST_SIGN_IN_ADDRESS: u8 = 100;
/// Why the server has no budgets.
const ONE_PUBLISHER: &str = "each room has one publisher, who is offered as many messages as the server can deliver, and they are \
                             more than a session's budget lets in";
/// Messages/s in each room in the quiet run: a quarter of a core's writes, or less.
const QUIET_RATE: f64 = 20.0;
/// By how much a delivery may become more expensive with further shards, in CPU time.
const COST_GROWTH_MAX: f64 = 1.2;
/// The least growth that shards with their own cores should give.
const GROWTH_MIN: f64 = 1.5;

#[derive(Args, Debug)]
pub struct Options {
    /// Numbers of shards to compare; a core each.
    #[arg(long, value_delimiter = ',', default_values_t = [1, 2])]
    shards: Vec<usize>,
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
    /// The token of the user who publishes.
    token: String,
    /// The number of the local address from which the other members sign in, and of the process.
    number: u8,
    room: String,
    members: usize,
    payload: usize,
    secs: f64,
    server_pid: u32,
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

/// How a server with so many shards is started, and with how many clients.
struct Layout {
    launch: Launch,
    clients: usize,
    /// What cannot be shown, because server and clients share cores.
    sharing: Option<String>,
}

impl Layout {
    fn of(shards: usize, options: &Options) -> Result<Layout, Failure> {
        let cores = cpu::allowed_cpus()?.len();
        let most_shards = options.shards.iter().copied().max().unwrap_or(1);
        // Clients get the cores that the largest number of shards leaves free, so that every number of shards is
        // measured with the same clients.
        let (clients, (_, client_cpus)) =
            (cores.saturating_sub(most_shards).max(1), options.setting.cores(most_shards)?);
        let launch = Launch { client_cpus, budgets: Budgets::Off(ONE_PUBLISHER), ..options.setting.launch(shards)? };
        let apart = launch.client_cpus.iter().all(|cpu| !launch.server_cpus.contains(cpu))
            && launch.server_cpus.len() >= shards
            && launch.client_cpus.len() >= clients;
        let sharing = (!apart).then(|| {
            format!(
                "With {shards} shards and {clients} client processes on {cores} cores, a shard shares its core with a \
                 client, and lacks what that takes: how throughput grows CANNOT BE SHOWN here. It takes a core for each \
                 of them: 4 cores, for two shards and two clients."
            )
        });
        Ok(Layout { launch, clients, sharing })
    }
}

pub fn run(options: &Options) -> Result<(), Failure> {
    options.runs.check()?;
    if options.shards.contains(&0) {
        return Err(Failure::Options("--shards must be above zero".into()));
    }
    let layouts = options.shards.iter().map(|&shards| Layout::of(shards, options)).collect::<Result<Vec<_>, _>>()?;
    // Printed before anything is measured, and again with the figures.
    layouts.iter().filter_map(|layout| layout.sharing.as_ref()).for_each(|text| eprintln!("{text}"));
    let mut all: Vec<Figures> = Vec::new();
    for round in 0..options.runs.repeat {
        for layout in &layouts {
            let shards = layout.launch.shards;
            let known = all.iter().rev().find(|figures| figures.shards == shards);
            let near = known.map(|figures| figures.deliveries_per_second);
            let figures = Asking { options, layout, filled: None }.most(near, round)?;
            let nothing = || Failure::Faulty(format!("with {shards} shards no rate at all was carried"));
            all.push(figures.ok_or_else(nothing)?);
        }
    }
    print(options, &layouts, &all)
}

/// A server and its clients' full rooms. The server is dropped first, or it would have to handle every member's leave.
struct Filled {
    server: Server,
    clients: Vec<Companion>,
}

/// Offers one rate after another.
struct Asking<'a> {
    options: &'a Options,
    layout: &'a Layout,
    /// Empty after a run that lost messages or members.
    filled: Option<Filled>,
}

impl Asking<'_> {
    /// The most deliveries per second at which no member is lost and every client's p99 is below a second.
    fn most(mut self, near: Option<f64>, round: usize) -> Result<Option<Figures>, Failure> {
        let Layout { clients, ref launch, .. } = *self.layout;
        let quiet = self.offer(QUIET_RATE * (clients * self.options.members) as f64, round)?;
        let Some(quiet) = quiet else { return Ok(None) };
        let search = near.map_or(Search::from(START_PER_CLIENT * clients as f64), Search::near);
        let offer = |deliveries| {
            let carried = self.offer(deliveries, round)?;
            let said = match &carried {
                Some(figures) => format!("carried, p99 {:.0} ms", figures.latency_p99_ms),
                None => "not carried".into(),
            };
            eprintln!("round {} · {} shards · {:.2} M/s offered · {said}", round + 1, launch.shards, deliveries / 1e6);
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
        let rate = deliveries / (self.layout.clients * self.options.members) as f64;
        let before = filled.usage()?;
        filled.clients.iter_mut().try_for_each(|client| client.tell(&rate))?;
        let (mut runs, mut whole) = (Vec::new(), true);
        for client in &filled.clients {
            match client.hear::<Result<Run, String>>(self.options.runs.length())? {
                Ok(run) => runs.push(run),
                Err(text) => {
                    eprintln!("  a client's run broke off: {text}");
                    whole = false;
                }
            }
        }
        let spent = filled.usage()?.since(before);
        whole &= runs.iter().all(Run::nothing_lost);
        self.filled = whole.then_some(filled);
        assert!(!whole || runs.len() == self.layout.clients, "{} of {} clients", runs.len(), self.layout.clients);
        let carried = whole && runs.iter().all(Run::carried);
        Ok(carried.then(|| Figures::of(self.layout.launch.shards, round, &runs, spent)))
    }

    fn open(&self) -> Result<Filled, Failure> {
        let server = Server::start(Kind::Stentor, &self.layout.launch)?;
        let token = server.token()?;
        let clients = (0..self.layout.clients).map(|number| self.start_client(&server, &token, number));
        let clients = clients.collect::<io::Result<Vec<_>>>()?;
        for client in &clients {
            let filled: Result<(), String> = client.hear(OPENING_TIME_MAX)?;
            filled.map_err(|text| Failure::Faulty(format!("a room was not filled: {text}")))?;
        }
        Ok(Filled { server, clients })
    }

    fn start_client(&self, server: &Server, token: &str, number: usize) -> io::Result<Companion> {
        // Clients get cores from the last one down, so that shared cores are those of the last shards.
        let cpus = &self.layout.launch.client_cpus;
        let cpu = cpus[cpus.len() - 1 - number % cpus.len()];
        let Runs { payload, secs, .. } = self.options.runs;
        let crowd = Crowd {
            address: server.address,
            token: token.to_owned(),
            number: FIRST_SIGN_IN_ADDRESS + u8::try_from(number).map_err(io::Error::other)?,
            room: format!("crowd-{number}"),
            members: self.options.members,
            payload,
            secs,
            server_pid: server.pid(),
        };
        Companion::start("crowd-of-shards", &crowd, &self.layout.launch, &[cpu])
    }
}

impl Filled {
    /// What the server has used, and how long it and the clients waited for cores.
    fn usage(&self) -> Result<Usage, Failure> {
        let clients: Vec<u32> = self.clients.iter().map(Companion::pid).collect();
        Ok(Usage::of(self.server.pid(), &clients)?)
    }
}

impl Figures {
    fn of(shards: usize, round: usize, runs: &[Run], spent: Usage) -> Figures {
        let seconds = runs.iter().map(|run| run.deliveries as f64 / run.deliveries_per_second).fold(0.0, f64::max);
        let deliveries: u64 = runs.iter().map(|run| run.deliveries).sum();
        assert!(seconds > 0.0 && deliveries > 0, "{deliveries} deliveries in {seconds} s are no figures");
        Figures {
            shards,
            round,
            deliveries_per_second: runs.iter().map(|run| run.deliveries_per_second).sum(),
            latency_p99_ms: runs.iter().map(|run| run.latency_p99_ms).fold(0.0, f64::max),
            server_cores: spent.cpu.as_secs_f64() / seconds,
            server_cores_in_kernel: spent.in_kernel.as_secs_f64() / seconds,
            client_cores_busy: runs.iter().map(|run| run.client_share).sum(),
            waiting_for_cores: spent.waiting.as_secs_f64() / seconds,
            cpu_us_per_delivery: spent.cpu.as_secs_f64() * 1e6 / deliveries.max(1) as f64,
            quiet_cpu_us_per_delivery: 0.0,
        }
    }
}

/// A client process. It reports when its room is full. Then it gets rates, and reports the result of each.
pub fn crowd() -> Result<(), Failure> {
    let options: Crowd = companion::options()?;
    cpu::raise_descriptor_limit();
    let filled = fill(&options);
    companion::answer(&filled.as_ref().map(|_| ()).map_err(Failure::to_string))?;
    let Ok(mut room) = filled else { return Ok(()) };
    while let Some(rate) = companion::next_order()? {
        let duration = Duration::from_secs_f64(options.secs);
        let run = run::at_rate(&mut room, options.server_pid, rate, duration, Patience::Limited);
        companion::answer(&run.map_err(|failure| failure.to_string()))?;
    }
    Ok(())
}

fn fill(options: &Crowd) -> Result<Room, Failure> {
    let (mut tokens, room) = (vec![options.token.clone()], options.room.clone());
    let others = options.members.saturating_sub(1);
    tokens.extend(accounts::sign_in(options.address, options.number, &format!("member-{}", options.number), others)?);
    let dialect = Dialect::Stentor { tokens, persistence: Persistence::Passing, room };
    let shape = Shape { members: options.members, content_bytes: options.payload };
    let mut room = Room::new(options.address, dialect, shape)?;
    room.fill()?;
    Ok(room)
}

fn print(options: &Options, layouts: &[Layout], all: &[Figures]) -> Result<(), Failure> {
    let clients = layouts.first().map_or(0, |layout| layout.clients);
    println!("{}", Conditions::here());
    println!(
        "{clients} client process(es), each with a room of {}: the most deliveries/s at which no member is lost, every \
         message arrives once and in order, and p99 stays below a second. Medians of {} rounds.",
        options.members, options.runs.repeat
    );
    println!("{}", Budgets::Off(ONE_PUBLISHER));
    for Layout { launch: Launch { shards, server_cpus, client_cpus, .. }, sharing, .. } in layouts {
        println!("{shards} shards on cores {server_cpus:?}, clients on {client_cpus:?}.");
        sharing.iter().for_each(|text| println!("{text}"));
    }
    let header = "shards | M deliveries/s | × the first | p99 ms | server's cores | … in the kernel | \
                  clients' cores busy | waiting for a core | quiet: CPU µs a delivery | × the first";
    let of = |shards: usize, figure: fn(&Figures) -> f64| {
        report::median(all.iter().filter(|figures| figures.shards == shards).map(figure).collect())
    };
    let delivered = |shards| of(shards, |figures| figures.deliveries_per_second / 1e6);
    let cost = |shards| of(shards, |figures| figures.quiet_cpu_us_per_delivery);
    let first = options.shards.first().copied().unwrap_or(1);
    let (mut goals, mut rows) = (Vec::new(), Vec::new());
    for layout in layouts {
        let shards = layout.launch.shards;
        let growth = ratio(delivered(shards), delivered(first));
        let cost_growth = ratio(cost(shards), cost(first));
        let figures = [
            delivered(shards),
            growth,
            of(shards, |figures| figures.latency_p99_ms),
            of(shards, |figures| figures.server_cores),
            of(shards, |figures| figures.server_cores_in_kernel),
            of(shards, |figures| figures.client_cores_busy),
            of(shards, |figures| figures.waiting_for_cores),
            cost(shards),
            cost_growth,
        ];
        rows.push(report::row(shards, figures));
        if shards != first {
            let question = format!("throughput of {shards} shards grows: × the first");
            goals.push(Goal::new(question, growth.filter(|_| layout.sharing.is_none()), Bound::AtLeast(GROWTH_MIN)));
            let question = format!("a delivery with {shards} shards in a quiet room, CPU time: × the first");
            goals.push(Goal::new(question, cost_growth, Bound::AtMost(COST_GROWTH_MAX)));
        }
    }
    println!("\n{}", report::table(header, rows));
    goals::print(&goals);
    options.setting.keep(&serde_json::json!({ "clients": clients, "runs": all, "goals": goals }))?;
    goals::judge(&goals)
}
