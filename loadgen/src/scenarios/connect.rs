//! `loadgen connect`: the coordinator's side, and the results.
//!
//! All users sign in; then all connect, as fast as the server accepts them; then all stay for a while. A user's memory
//! cost is the growth of memory between the first stage and the last, divided by the number of connected users.

use std::io;
use std::time::Duration;

use thiserror::Error;

use crate::base::clock::{self, SECOND_NS};
use crate::base::words::{grouped, ratio};
use crate::checks::latency_name::LatencyName;
use crate::costs::kernel::KernelReading;
use crate::costs::listening;
use crate::costs::progress::Progress;
use crate::costs::series::ServerWatch;
use crate::costs::server::{CpuTime, ServerProbe};
use crate::options::ConnectOptions;
use crate::orders::idle_users::{Held, Holding, Resident};
use crate::orders::{Order, Word};
use crate::report::{Course, Generator, KEY_SHOWN, Mark, Route, RunResults, Section, Value};
use crate::scenarios::closes;
use crate::scenarios::find_listener::{NoServer, find_listener};
use crate::team::machine::MachineFigures;
use crate::team::process::{Sites, Team, TeamError};
use crate::watch::{Stage, Watch};

const PROMISE: &str = "every user who came was let in, and stayed";
const DRAIN_PROMISE: &str = "every user who came was let in, and stayed until the drain";

#[derive(Debug, Error)]
pub enum ConnectError {
    #[error(transparent)]
    NoServer(#[from] NoServer),
    #[error(transparent)]
    Team(#[from] TeamError),
    #[error("the server's process cannot be watched: {0}")]
    Probe(#[from] io::Error),
}

/// A finished run, before it is judged.
pub struct ConnectOutcome {
    processes: usize,
    machines: Vec<MachineFigures>,
    held: Held,
    /// How long it took until all users were connected or had failed.
    connecting: Duration,
    server: Option<ServerCosts>,
    /// The kernel memory of this machine. If the server and the users are both on it, this covers both ends of the
    /// connections.
    kernel_bytes: Option<f64>,
    course: Course,
}

#[derive(Clone, Copy)]
struct ServerCosts {
    resident_before_bytes: u64,
    resident_held_bytes: u64,
    connecting: CpuTime,
    idle: CpuTime,
}

/// Runs the scenario to its end.
pub async fn run(options: &ConnectOptions) -> Result<ConnectOutcome, ConnectError> {
    find_listener(options.target.server).await?;
    let pid = options.pid.or_else(|| listening::process_at(options.target.server));
    let probe = pid.map(ServerProbe::new).transpose()?;
    let server_watch = probe.map(ServerWatch::start);
    let sites = Sites::find(&options.workforce, options.users, u64::from(options.run)).await?;
    let orders = orders(options, &sites);
    let mut team = Team::start(sites, orders).await?;
    let resident_before_bytes = probe.map_or(Ok(0), |probe| probe.resident_bytes())?;
    team.complete(&mut Watch::new(Stage::signing_in(options.users))).await?;

    let cpu = || probe.map_or(Ok(CpuTime::default()), |probe| probe.cpu());
    let (kernel_before, cpu_before, start_ns) = (kernel_bytes(), cpu()?, clock::now_ns());
    team.order_all(&Order::Join).await?;
    team.complete(&mut Watch::new(Stage::connecting(options.users))).await?;
    let connecting = Duration::from_nanos(clock::now_ns().saturating_sub(start_ns));
    let cpu_connected = cpu()?;

    let held_from_ns = clock::now_ns();
    let held_until_ns = held_from_ns + (options.secs * SECOND_NS as f64) as u64;
    let users_are_joined = |progress: &Progress| progress.joined > progress.disconnected + progress.left;
    team.watch_until(&mut Watch::new(Stage::holding(options.users)), held_until_ns, users_are_joined).await?;
    let kernel_bytes = kernel_before.zip(kernel_bytes()).map(|(before, held)| held - before);
    // A server that has ended meanwhile has no costs.
    let server = probe.and_then(|probe| {
        Some(ServerCosts {
            resident_before_bytes,
            resident_held_bytes: probe.resident_bytes().ok()?,
            connecting: cpu_connected.minus(cpu_before),
            idle: probe.cpu().ok()?.minus(cpu_connected),
        })
    });
    team.order_all(&Order::Stop).await?;
    let mut watch = Watch::new(Stage::connecting(options.users));
    let parts =
        team.gather(Some(&mut watch), |word| if let Word::Held(part) = word { Some(part) } else { None }).await?;
    let mut held = Held::default();
    parts.into_iter().for_each(|part| held.add(*part));

    let series = team.series_with(server_watch);
    let marks = vec![Mark::new(start_ns, "connecting"), Mark::new(held_from_ns, "all there")];
    let course = Course { series, marks, window: start_ns..held_from_ns, drain_secs: options.drain_secs };
    let processes = team.len();
    let machines = team.dismiss().await?;
    Ok(ConnectOutcome { processes, machines, held, connecting, server, kernel_bytes, course })
}

/// The memory that this machine's kernel uses for sockets, among other things; `None` where the kernel does not report
/// it.
fn kernel_bytes() -> Option<f64> {
    let reading = KernelReading::take(std::process::id()).ok()?;
    Some((reading.slab_bytes + reading.socket_buffer_bytes) as f64)
}

fn orders(options: &ConnectOptions, sites: &Sites) -> Vec<Order> {
    let sources = sites.sources(options.users, options.target.server, u64::from(options.run));
    let order = |users| {
        Order::Hold(Holding {
            target: options.target.clone(),
            entrance: options.entrance.clone(),
            users,
            threads: options.threads,
            in_flight: options.in_flight.div_ceil(sites.processes()),
            sources,
            expects_drain: options.drain_secs.is_some(),
        })
    };
    sites.parts().map(order).collect()
}

pub fn results(options: &ConnectOptions, outcome: ConnectOutcome) -> RunResults {
    let sections = [connections(options, &outcome), memory(&outcome)];
    let server = outcome.server.map(|costs| server(options, &outcome, costs));
    let ConnectOutcome { processes, machines, held, course, .. } = outcome;
    let mut settings = options.clone();
    KEY_SHOWN.clone_into(&mut settings.target.server_key);
    let mut latencies = vec![(LatencyName::Connect, Route::Asked, held.connect)];
    if options.entrance.is_some() {
        latencies.push((LatencyName::Join, Route::Asked, held.join));
    }
    let heading = format!(
        "{} idle users{} on {}, held for {} s, {} {}",
        grouped(u64::from(options.users)),
        if options.entrance.is_some() { " in one room" } else { "" },
        options.target.server,
        options.secs,
        processes,
        if processes == 1 { "process" } else { "processes" },
    );
    RunResults {
        scenario: "connect",
        heading,
        settings: serde_json::to_value(settings).expect("options are plain structures, which always serialise"),
        sections: sections.into_iter().chain(closes::section(&course)).chain(server).collect(),
        latencies,
        faults: closes::faults(&course).into_iter().collect(),
        promise: if options.drain_secs.is_some() { DRAIN_PROMISE } else { PROMISE },
        samples: held.samples.into_texts(),
        generator: Generator { lag: held.lag, threads: held.threads, machines, ..Generator::default() },
        course,
    }
}

fn connections(options: &ConnectOptions, outcome: &ConnectOutcome) -> Section {
    let held = &outcome.held;
    let secs = outcome.connecting.as_secs_f64();
    Section::new("connections")
        .count("users", u64::from(options.users))
        .count("connected", held.connected)
        .fault("shut out", held.shut_out, "users never got in")
        .count("not tried", held.not_tried)
        .count("attempts repeated", held.retries)
        .fault("disconnected", held.disconnected, "users disconnected")
        .count("closed by the drain", held.drained)
        .row("connecting", Value::Seconds(secs))
        .row("connections per second", Value::Number(ratio(held.connected as f64, secs)))
        .count("under way at most", held.window_most)
        .count("under way at the end", held.window_last)
        .count("pings answered", held.pings)
        .count("other frames", held.frames)
        .count("processes", outcome.processes as u64)
}

/// What each user costs the generator and the kernel.
fn memory(outcome: &ConnectOutcome) -> Section {
    let grown = |resident: &Resident| resident.held_bytes as f64 - resident.before_bytes as f64;
    let own: f64 = outcome.held.resident.iter().map(grown).sum();
    let connected = outcome.held.connected as f64;
    let section = Section::new("memory")
        .row("generator, per user", Value::Bytes(ratio(own.max(0.0), connected)))
        .row("generator, in all", Value::Bytes(own));
    match outcome.kernel_bytes {
        Some(bytes) if outcome.machines.is_empty() => section
            .row("kernel of this machine, per user", Value::Bytes(ratio(bytes.max(0.0), connected)))
            .row("kernel of this machine, in all", Value::Bytes(bytes)),
        _ => section,
    }
}

fn server(options: &ConnectOptions, outcome: &ConnectOutcome, costs: ServerCosts) -> Section {
    let connected = outcome.held.connected as f64;
    let grown = costs.resident_held_bytes as f64 - costs.resident_before_bytes as f64;
    Section::new("server")
        .row("resident, before", Value::Bytes(costs.resident_before_bytes as f64))
        .row("resident, held", Value::Bytes(costs.resident_held_bytes as f64))
        .row("resident per connection", Value::Bytes(ratio(grown.max(0.0), connected)))
        .row("CPU per connect", Value::Microseconds(ratio(costs.connecting.secs() * 1e6, connected)))
        .row("cores busy, idle", Value::Number(ratio(costs.idle.secs(), options.secs)))
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::options::{Arguments, Command};
    use crate::report::Report;

    fn options(more: &str) -> ConnectOptions {
        let line = format!("loadgen connect --users 10 --secs 2 --addr 127.0.0.1:1{more}");
        let Ok(Arguments { command: Command::Connect(connect) }) = Arguments::try_parse_from(line.split(' ')) else {
            panic!("{line} is no connect")
        };
        ConnectOptions::try_from(connect).expect("valid")
    }

    fn outcome(held: Held) -> ConnectOutcome {
        ConnectOutcome {
            processes: 1,
            machines: Vec::new(),
            held,
            connecting: Duration::from_millis(500),
            server: None,
            kernel_bytes: None,
            course: Course::default(),
        }
    }

    fn report(held: Held) -> serde_json::Value {
        serde_json::to_value(Report::new(results(&options(""), outcome(held)), &[])).expect("JSON")
    }

    #[test]
    fn a_user_that_never_came_or_did_not_stay_fails_the_run() {
        let check = |held: Held, expected: &[&str]| {
            let report = Report::new(results(&options(""), outcome(held)), &[]);
            assert_eq!(report.faults(), expected);
        };
        let all = || Held { connected: 10, ..Held::default() };
        check(all(), &[]);
        check(Held { pings: 5, frames: 9, retries: 3, window_most: 8, ..all() }, &[]);
        check(Held { connected: 8, shut_out: 2, not_tried: 1, ..all() }, &["2 users never got in"]);
        check(Held { disconnected: 1, ..all() }, &["1 users disconnected"]);
        check(Held { drained: 10, ..all() }, &[]);
    }

    #[test]
    fn a_run_in_which_no_user_connected_has_no_cost_and_no_rate() {
        let json = report(Held { shut_out: 10, ..Held::default() });
        assert_eq!(json["connections"]["connections_per_second"], 0.0);
        assert_eq!(json["memory"]["generator_per_user_bytes"], 0);
        assert_eq!(json["latency"]["connect"]["count"], 0);
    }

    #[test]
    fn memory_is_shared_out_over_those_who_connected() {
        let resident = |first_user, before_bytes, held_bytes| Resident { first_user, before_bytes, held_bytes };
        let resident = vec![resident(0, 1_000, 5_000), resident(5, 1_000, 7_000)];
        let json = report(Held { connected: 10, resident, ..Held::default() });
        assert_eq!(json["memory"]["generator_per_user_bytes"], 1_000, "ten users need ten thousand bytes");
        assert_eq!(json["connections"]["connections_per_second"], 20.0);
        // A process that shrank has no cost for a user.
        let json = report(Held { connected: 10, resident: vec![self::resident_that_shrank()], ..Held::default() });
        assert_eq!(json["memory"]["generator_per_user_bytes"], 0);
        assert_eq!(json["memory"]["generator_in_all_bytes"], -900);
    }

    fn resident_that_shrank() -> Resident {
        Resident { first_user: 0, before_bytes: 1_000, held_bytes: 100 }
    }

    #[test]
    fn a_servers_costs_are_those_of_its_stages() {
        let time = |user_secs, system_secs| CpuTime { user_secs, system_secs };
        let mut outcome = outcome(Held { connected: 10, ..Held::default() });
        outcome.server = Some(ServerCosts {
            resident_before_bytes: 10_000,
            resident_held_bytes: 30_000,
            connecting: time(0.5, 0.5),
            idle: time(0.1, 0.1),
        });
        outcome.kernel_bytes = Some(5_000.0);
        let json = serde_json::to_value(Report::new(results(&options(""), outcome), &[])).expect("JSON");
        assert_eq!(json["server"]["resident_per_connection_bytes"], 2_000);
        assert_eq!(json["server"]["cpu_per_connect_us"], 100_000.0);
        assert_eq!(json["server"]["cores_busy_idle"], 0.1, "0.2 s in 2 s");
        assert_eq!(json["memory"]["kernel_of_this_machine_per_user_bytes"], 500);
    }

    #[test]
    fn the_time_to_join_is_measured_only_where_users_join() {
        for (more, joins) in [("", false), (" --join", true)] {
            let options = options(more);
            let json = serde_json::to_value(Report::new(results(&options, outcome(Held::default())), &[]));
            assert_eq!(json.expect("JSON")["latency"].get("join").is_some(), joins, "{more}");
        }
    }
}
