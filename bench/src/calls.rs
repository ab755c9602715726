//! A call of the API over REST and over gRPC, to the same server from as many clients: how many a second, and what each
//! costs the server.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use clap::Args;
use serde::Serialize;
use tokio::runtime::{Builder, Runtime};
use tokio::task::JoinSet;

use crate::accounts;
use crate::asker::{bearer, request};
use crate::cpu;
use crate::failure::Failure;
use crate::goals::{self, Bound, Goal, ratio};
use crate::grpc_client::{EMPTY_MESSAGE, GrpcClient, free_address};
use crate::kept_connection::KeptConnection;
use crate::report::{self, Conditions, median};
use crate::server::{Kind, Server};
use crate::setting::{Runs, Setting};

/// The number of the clients' local address.
const LOCAL_ADDRESS: u8 = 1;

/// What a call over gRPC may cost, as a multiple of the same over REST.
const GOAL: f64 = 2.0;

/// Users in whose names the clients call, in turn: so many that none has asked for more than a user may.
const USERS: usize = 256;

/// The number of the local address from which they sign in.
const SIGN_IN_ADDRESS: u8 = 200;

#[derive(Args, Debug)]
pub struct Options {
    /// Connections, each with one call at a time.
    #[arg(long, default_value_t = 16)]
    clients: usize,
    #[command(flatten)]
    runs: Runs,
    #[command(flatten)]
    setting: Setting,
}

/// How the account is asked for.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize)]
#[serde(rename_all = "kebab-case")]
enum Way {
    Rest,
    Grpc,
}

/// The calls of one run.
#[derive(Debug, Serialize)]
struct Calls {
    way: Way,
    calls: u64,
    per_second: f64,
    cpu_us: f64,
}

pub fn run(options: &Options) -> Result<(), Failure> {
    let Options { clients, runs, setting } = options;
    runs.check()?;
    if *clients == 0 {
        return Err(Failure::Options("--clients must be above zero".into()));
    }
    let mut launch = setting.launch_apart()?;
    let runtime = Builder::new_current_thread().enable_all().build()?;
    let mut all = Vec::new();
    for round in 0..runs.repeat {
        let grpc = free_address()?;
        launch.more = vec!["--grpc".into(), grpc.to_string()];
        let server = Server::start(Kind::Stentor, &launch)?;
        let tokens: Arc<[String]> = accounts::sign_in(server.address, SIGN_IN_ADDRESS, "caller", USERS)?.into();
        for (way, address) in [(Way::Rest, server.address), (Way::Grpc, grpc)] {
            let before = cpu::cpu_time(server.pid())?;
            let calls = ask_for(&runtime, way, address, &tokens, *clients, runs.length())?;
            let spent = cpu::cpu_time(server.pid())?.saturating_sub(before);
            let cpu_us = spent.as_secs_f64() * 1e6 / calls.max(1) as f64;
            let per_second = calls as f64 / runs.secs;
            eprintln!("round {} · {way:?}: {per_second:.0} calls/s, {cpu_us:.1} µs of the server each", round + 1);
            all.push(Calls { way, calls, per_second, cpu_us });
        }
    }
    let of = |way, figure: fn(&Calls) -> f64| median(all.iter().filter(|calls| calls.way == way).map(figure).collect());
    println!("{}", Conditions::here());
    println!(
        "An account asked for by {clients} clients, one call at a time each; server on core {:?}, clients on core {}. \
         They call in the names of {USERS} users. Medians of {} rounds of {} s. {}\n",
        launch.server_cpus,
        launch.client_cpu(),
        runs.repeat,
        runs.secs,
        launch.budgets
    );
    let row = |name, way| report::row(name, [of(way, |calls| calls.per_second), of(way, |calls| calls.cpu_us)]);
    println!(
        "{}",
        report::table("asked over | calls/s | µs of the server", [row("REST", Way::Rest), row("gRPC", Way::Grpc)])
    );
    let cost = ratio(of(Way::Grpc, |calls| calls.cpu_us), of(Way::Rest, |calls| calls.cpu_us));
    let goals = [Goal::new("the server's CPU a call, gRPC ÷ REST", cost, Bound::AtMost(GOAL))];
    goals::print(&goals);
    Ok(setting.keep(&serde_json::json!({ "calls": all, "goals": goals }))?)
}

/// Has the clients ask until the time is over. Returns how many calls were answered. Fails if one was not answered well.
fn ask_for(
    runtime: &Runtime,
    way: Way,
    address: SocketAddr,
    tokens: &Arc<[String]>,
    clients: usize,
    length: Duration,
) -> Result<u64, Failure> {
    runtime.block_on(async {
        let until = Instant::now() + length;
        let mut asking = JoinSet::new();
        for client in 0..clients {
            let tokens = tokens.clone();
            asking.spawn(async move {
                let first = client * tokens.len() / clients;
                match way {
                    Way::Rest => ask_over_rest(address, &tokens, first, until).await,
                    Way::Grpc => ask_over_grpc(address, &tokens, first, until).await,
                }
            });
        }
        let mut calls = 0;
        while let Some(asked) = asking.join_next().await {
            calls += asked.map_err(io::Error::other)??;
        }
        Ok(calls)
    })
}

/// Asks in the names of these users in turn, beginning with the one at `first`.
async fn ask_over_rest(address: SocketAddr, tokens: &[String], first: usize, until: Instant) -> io::Result<u64> {
    let requests: Vec<_> = tokens.iter().map(|token| request("GET /v2/account", &bearer(token), &[])).collect();
    let (mut connection, mut calls) = (KeptConnection::open(address).await?, 0);
    for request in requests.iter().cycle().skip(first) {
        if Instant::now() >= until {
            break;
        }
        connection.ask(request).await?;
        calls += 1;
    }
    Ok(calls)
}

/// The same over gRPC.
async fn ask_over_grpc(address: SocketAddr, tokens: &[String], first: usize, until: Instant) -> io::Result<u64> {
    let (mut client, mut calls) = (GrpcClient::connect(address, LOCAL_ADDRESS).await?, 0);
    for token in tokens.iter().cycle().skip(first) {
        if Instant::now() >= until {
            break;
        }
        match client.call("GetAccount", token, EMPTY_MESSAGE).await?.as_str() {
            "0" => calls += 1,
            status => return Err(io::Error::other(format!("a call ended with {status}"))),
        }
    }
    Ok(calls)
}
