//! `loadgen`: fills chat rooms with real clients, and checks every delivery.

mod admission;
mod check;
mod client;
mod clock;
mod comparison;
mod connect;
mod content;
mod crew;
mod crowd;
mod draws;
mod figures;
mod head;
mod host;
mod idlers;
mod introduction;
mod lag;
mod latency;
mod lines;
mod machine;
mod options;
mod orders;
mod plan;
mod process;
mod recorder;
mod report;
mod scenario;
mod schedule;
mod series;
mod server;
mod sign_in;
mod stages;
mod watch;
#[allow(dead_code, reason = "leaves, updates and removals are the live event's, which is being built")]
mod wire;
mod worker;
mod workforce;

use std::process::ExitCode;

use clap::Parser;

use crate::introduction::Secret;
use crate::options::{Arguments, Command, ConnectOptions, OptionsError, RunOptions, WorkerArguments};

/// The command line asks for something that cannot be.
const EXIT_USAGE: u8 = 2;

fn main() -> ExitCode {
    match Arguments::parse().command {
        Command::Worker(arguments) => work(arguments),
        Command::Room(arguments) => run(arguments.try_into(), scenario),
        Command::Rooms(arguments) => run(arguments.try_into(), scenario),
        Command::Connect(arguments) => run(arguments.try_into(), connect),
    }
}

fn run<O>(options: Result<O, OptionsError>, scenario: impl Fn(&O) -> Result<bool, String>) -> ExitCode {
    match options {
        Ok(options) => finish(scenario(&options)),
        Err(error) => {
            watch::note(&format!("loadgen: {error}"));
            ExitCode::from(EXIT_USAGE)
        }
    }
}

/// Works for a coordinator, at once or whenever one comes.
fn work(arguments: WorkerArguments) -> ExitCode {
    match arguments.listen {
        Some(address) => finish(host::run(address, Secret::new(arguments.secret)).map(|()| true)),
        // What went wrong has been said to the coordinator, which reports it.
        None => worker::run(arguments.clock_offset_ns).map_or(ExitCode::FAILURE, |()| ExitCode::SUCCESS),
    }
}

/// Runs the scenario and reports it; answers whether it passed.
fn scenario(options: &RunOptions) -> Result<bool, String> {
    let outcome = worker::runtime()?.block_on(scenario::run(options)).map_err(|error| error.to_string())?;
    report::publish(report::room::findings(options, outcome), &options.outputs)
}

fn connect(options: &ConnectOptions) -> Result<bool, String> {
    let outcome = worker::runtime()?.block_on(connect::run(options)).map_err(|error| error.to_string())?;
    report::publish(connect::findings(options, outcome), &options.outputs)
}

fn finish(outcome: Result<bool, String>) -> ExitCode {
    match outcome {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            watch::note(&format!("loadgen: {error}"));
            ExitCode::FAILURE
        }
    }
}
