//! The same crowds on one shard and on two: how much more is delivered, and where the time goes.
//!
//! Each client is a process of its own with a room of its own, on a core of its own as far as there are cores; where
//! there are not, clients share the cores of the last shards, and the report says so.

use std::io::{self, BufRead, BufReader, Write};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::Duration;

use clap::Args;
use serde::Serialize;
use thiserror::Error;

use crate::client::{Failure, Room, Shape};
use crate::cpu;
use crate::dialect::{Dialect, Persistence};
use crate::goals::{Bound, Goal, ratio, shown};
use crate::run::{self, Patience, Run};
use crate::server::{self, Kind, Launch, Server};

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
    /// Deliveries/s that each client offers: more than can be carried, so that the figure is the most there can be.
    #[arg(long, default_value_t = 16e6)]
    offered: f64,
    /// Seconds of each run.
    #[arg(long, default_value_t = 5.0)]
    secs: f64,
    /// Rounds; figures are medians.
    #[arg(long, default_value_t = 3)]
    repeat: usize,
    /// Bytes of a message's content.
    #[arg(long, default_value_t = 100)]
    payload: usize,
    /// The stentor binary; without it, it is built first.
    #[arg(long)]
    server: Option<PathBuf>,
    /// Writes what was measured to this file.
    #[arg(long)]
    json: Option<PathBuf>,
}

/// What one client process is to do.
#[derive(Args, Debug)]
pub struct Crowd {
    #[arg(long)]
    address: SocketAddr,
    #[arg(long)]
    token: String,
    #[arg(long)]
    room: String,
    #[arg(long)]
    members: usize,
    #[arg(long)]
    payload: usize,
    /// Messages per second.
    #[arg(long)]
    rate: f64,
    #[arg(long)]
    secs: f64,
    #[arg(long)]
    server_pid: u32,
}

#[derive(Debug, Error)]
pub enum Error {
    #[error(transparent)]
    World(#[from] io::Error),
    #[error(transparent)]
    Measuring(#[from] Failure),
    #[error("a client ended early: {0}")]
    Client(String),
    #[error("messages were lost, repeated or reordered; the table does not count")]
    Faulty,
}

/// One run with so many shards.
#[derive(Debug, Serialize)]
struct Figures {
    shards: usize,
    round: usize,
    deliveries_per_second: f64,
    /// Cores that the server used, of them in the kernel.
    server_cores: f64,
    server_cores_in_kernel: f64,
    client_cores: f64,
    /// How much of the time a thread of the server or a client was ready and its core ran another.
    waiting_for_cores: f64,
    nothing_lost: bool,
}

pub fn run(options: &Options) -> Result<(), Error> {
    let stentor = options.server.clone().map_or_else(server::build_stentor, Ok)?;
    let cores = cpu::allowed_cpus()?;
    let most_shards = options.shards.iter().copied().max().unwrap_or(1);
    let clients = options.clients.unwrap_or(cores.saturating_sub(most_shards).max(1));
    let mut all = Vec::new();
    for round in 0..options.repeat {
        for &shards in &options.shards {
            let launch = Launch {
                stentor: Some(stentor.clone()),
                store: "memory".into(),
                persistence: Persistence::Passing,
                shards,
                server_cpus: (0..shards).collect(),
                client_cpu: cores - 1,
                data_in: None,
            };
            let figures = measure(options, &launch, clients, cores, round)?;
            eprintln!("round {} · {shards} shards · {:.3} M/s", round + 1, figures.deliveries_per_second / 1e6);
            all.push(figures);
        }
    }
    report(options, clients, cores, &all)?;
    if all.iter().all(|figures| figures.nothing_lost) { Ok(()) } else { Err(Error::Faulty) }
}

fn measure(options: &Options, launch: &Launch, clients: usize, cores: usize, round: usize) -> Result<Figures, Error> {
    let server = Server::start(Kind::Stentor, launch)?;
    let token = server.token()?;
    let start = |number: usize| {
        // From the last core down, so that shards are the last to be shared with.
        let core = cores - 1 - number % cores;
        Client::start(options, &server, &token, number, Launch { server_cpus: vec![core], ..launch.clone() })
    };
    let mut crowds = (0..clients).map(start).collect::<Result<Vec<_>, _>>()?;
    for crowd in &mut crowds {
        crowd.hear()?;
    }
    let before = Spent::look(&server, &crowds)?;
    for crowd in &mut crowds {
        crowd.input.write_all(b"go\n")?;
    }
    let mut runs = Vec::new();
    for crowd in &mut crowds {
        let said = crowd.hear()?;
        runs.push(serde_json::from_str::<Run>(&said).map_err(|_| Error::Client(said))?);
    }
    let spent = Spent::look(&server, &crowds)?.since(&before);
    let seconds = runs.iter().map(|run| run.deliveries as f64 / run.deliveries_per_second).fold(0.0, f64::max);
    Ok(Figures {
        shards: launch.shards,
        round,
        deliveries_per_second: runs.iter().map(|run| run.deliveries_per_second).sum(),
        server_cores: (spent.server_user + spent.server_system) / seconds,
        server_cores_in_kernel: spent.server_system / seconds,
        client_cores: spent.clients / seconds,
        waiting_for_cores: spent.waiting / seconds,
        nothing_lost: runs.iter().all(Run::nothing_lost),
    })
}

/// Seconds that were spent so far.
struct Spent {
    server_user: f64,
    server_system: f64,
    clients: f64,
    waiting: f64,
}

impl Spent {
    fn look(server: &Server, clients: &[Client]) -> io::Result<Spent> {
        let (user, system) = cpu::user_and_system_time(server.pid())?;
        let mut waiting = cpu::time_kept_waiting(server.pid())?;
        let mut own = Duration::ZERO;
        for client in clients {
            own += cpu::cpu_time(client.child.id())?;
            waiting += cpu::time_kept_waiting(client.child.id())?;
        }
        Ok(Spent {
            server_user: user.as_secs_f64(),
            server_system: system.as_secs_f64(),
            clients: own.as_secs_f64(),
            waiting: waiting.as_secs_f64(),
        })
    }

    fn since(&self, before: &Spent) -> Spent {
        Spent {
            server_user: self.server_user - before.server_user,
            server_system: self.server_system - before.server_system,
            clients: self.clients - before.clients,
            waiting: self.waiting - before.waiting,
        }
    }
}

/// A client process: it says a line when its room is full, waits for one, and says what came of its run.
struct Client {
    child: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
}

impl Client {
    fn start(options: &Options, server: &Server, token: &str, number: usize, launch: Launch) -> Result<Client, Error> {
        let mut command = Command::new(std::env::current_exe()?);
        let rate = options.offered / options.members as f64;
        command.args(["crowd-of-shards", "--token", token, "--room", &format!("crowd-{number}")]);
        command.args(["--address", &server.address.to_string(), "--server-pid", &server.pid().to_string()]);
        command.args(["--members", &options.members.to_string(), "--payload", &options.payload.to_string()]);
        command.args(["--rate", &rate.to_string(), "--secs", &options.secs.to_string()]);
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = launch.spawn(&mut command)?;
        match (child.stdin.take(), child.stdout.take()) {
            (Some(input), Some(output)) => Ok(Client { child, input, output: BufReader::new(output) }),
            _ => Err(Error::Client("it has no standard streams".into())),
        }
    }

    fn hear(&mut self) -> Result<String, Error> {
        let mut line = String::new();
        match self.output.read_line(&mut line)? {
            0 => Err(Error::Client("see above".into())),
            _ => Ok(line),
        }
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        cpu::kill(self.child.id());
        // It was just killed, so this ends.
        let _ = self.child.wait();
    }
}

/// A client process.
pub fn crowd(options: &Crowd) -> Result<(), Error> {
    cpu::raise_descriptor_limit();
    let (token, room) = (options.token.clone(), options.room.clone());
    let dialect = Dialect::Stentor { token, persistence: Persistence::Passing, room };
    let shape = Shape { members: options.members, publishers: 1, content_bytes: options.payload };
    let mut room = Room::new(options.address, dialect, shape)?;
    room.admit(options.members)?;
    room.appoint_publishers()?;
    let mut output = io::stdout();
    writeln!(output, "full")?;
    output.flush()?;
    io::stdin().read_line(&mut String::new())?;
    let duration = Duration::from_secs_f64(options.secs);
    let run = run::at_rate(&mut room, options.server_pid, options.rate, duration, Patience::Endless)?;
    writeln!(output, "{}", serde_json::to_string(&run).map_err(io::Error::from)?)?;
    output.flush()?;
    // The server is ended first, or it would see everybody leave.
    io::stdin().read_line(&mut String::new())?;
    Ok(())
}

fn report(options: &Options, clients: usize, cores: usize, all: &[Figures]) -> Result<(), Error> {
    let command = std::env::args().skip(1).collect::<Vec<_>>().join(" ");
    println!("cargo run --release -p bench -- {command}\n{}", cpu::machine());
    println!(
        "{clients} client processes with a room of {} each, each offering {} M deliveries/s. Medians of {} rounds.",
        options.members,
        shown(Some(options.offered / 1e6)),
        options.repeat
    );
    for &shards in options.shards.iter().filter(|&&shards| shards + clients > cores) {
        println!(
            "With {shards} shards on {cores} cores, {} of them share a core with a client: what a client takes there, \
             a shard lacks.",
            (shards + clients - cores).min(shards)
        );
    }
    println!(
        "\n| shards | M deliveries/s | × the first | server's cores | … in the kernel | clients' cores | waiting for a core |"
    );
    println!("| --- | --- | --- | --- | --- | --- | --- |");
    let of = |shards: usize, figure: fn(&Figures) -> f64| {
        crate::report::median(all.iter().filter(|figures| figures.shards == shards).map(figure).collect())
    };
    let delivered = |shards| of(shards, |figures| figures.deliveries_per_second / 1e6);
    let first = options.shards.first().and_then(|&shards| delivered(shards));
    let mut goals = Vec::new();
    for &shards in &options.shards {
        let growth = ratio(delivered(shards), first);
        let figures = [
            delivered(shards),
            growth,
            of(shards, |figures| figures.server_cores),
            of(shards, |figures| figures.server_cores_in_kernel),
            of(shards, |figures| figures.client_cores),
            of(shards, |figures| figures.waiting_for_cores),
        ];
        println!("| {shards} | {} |", figures.map(shown).join(" | "));
        if Some(&shards) != options.shards.first() {
            goals.push(Goal::new(
                format!("throughput of {shards} shards grows: × the first"),
                growth,
                Bound::AtLeast(1.0),
            ));
        }
    }
    println!("\nGoals:");
    goals.iter().for_each(|goal| println!("  {goal}"));
    if let Some(path) = &options.json {
        let whole = serde_json::json!({
            "command": command, "machine": cpu::machine(), "cores": cores, "clients": clients, "runs": all, "goals": goals,
        });
        std::fs::write(path, serde_json::to_vec_pretty(&whole).map_err(io::Error::from)?)?;
    }
    Ok(())
}
