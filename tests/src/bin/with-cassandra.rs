//! Runs a command beside a node of Cassandra, and exits like the command. The command finds the node's address in
//! `STENTOR_TEST_CQL`, and the node ends with the command. With `--durable` as the first argument, the node syncs every
//! write to disk before it acknowledges it. With `--cpus 1,2` next, it runs on those cores only.

use std::process::{Command, ExitCode};

use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};
use tests::harness::cassandra::{Cassandra, SHARED_NODE};

fn main() -> ExitCode {
    let mut arguments = std::env::args_os().skip(1).peekable();
    let durable = arguments.next_if(|first| first == "--durable").is_some();
    let cpus = arguments.next_if(|next| next == "--cpus").and_then(|_| arguments.next());
    let Some(program) = arguments.next() else {
        eprintln!("with-cassandra: name a command");
        return ExitCode::FAILURE;
    };
    let start = || if durable { Cassandra::start_durable() } else { Cassandra::start() };
    let started = match cpus.as_ref().map(|cpus| cpu_set(&cpus.to_string_lossy())) {
        None => Ok(start()),
        Some(Some(cpus)) => on_cpus(&cpus, start),
        Some(None) => Err(std::io::Error::other("--cpus takes numbers of cores, as in 1,2")),
    };
    let cluster = match started {
        Ok(cluster) => cluster,
        Err(error) => {
            eprintln!("with-cassandra: {error}");
            return ExitCode::FAILURE;
        }
    };
    let status = Command::new(&program).args(arguments).env(SHARED_NODE, cluster.contact_points()).status();
    match status {
        Ok(status) if status.success() => ExitCode::SUCCESS,
        Ok(_) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("with-cassandra: {}: {error}", program.display());
            ExitCode::FAILURE
        }
    }
}

fn cpu_set(text: &str) -> Option<CpuSet> {
    let mut cpus = CpuSet::new();
    for number in text.split(',') {
        cpus.set(number.parse().ok().filter(|&cpu| cpu < CpuSet::MAX_CPU)?);
    }
    Some(cpus)
}

/// Processes that `start` starts stay on these cores.
fn on_cpus<T>(cpus: &CpuSet, start: impl FnOnce() -> T) -> std::io::Result<T> {
    let all = sched_getaffinity(None)?;
    sched_setaffinity(None, cpus)?;
    let started = start();
    sched_setaffinity(None, &all)?;
    Ok(started)
}
