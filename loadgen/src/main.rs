//! `loadgen`: fills chat rooms with real clients, and checks every delivery.

mod acceptances;
mod check;
mod client;
mod clock;
mod content;
mod crowd;
mod deeds;
mod draws;
mod figures;
mod history_reads;
mod lag;
mod latency;
mod lives;
mod member;
mod options;
mod orders;
mod page_check;
mod pages;
mod plan;
mod process;
mod publisher;
mod recorder;
mod report;
mod scenario;
mod schedule;
mod series;
mod server;
mod sign_in;
mod stages;
mod stays;
mod watch;
mod whole_history;
mod wire;
mod worker;

use std::process::ExitCode;

use crate::options::{Command, OptionsError, ParseError, RunOptions};
use crate::report::diff::DiffArguments;

/// The command line asks for something that cannot be.
const EXIT_USAGE: u8 = 2;

fn main() -> ExitCode {
    let arguments = match options::parse(std::env::args_os().collect()) {
        Ok(arguments) => arguments,
        // Says what is wrong, or the help that was asked for, and with which code to end.
        Err(ParseError::Line(error)) => error.exit(),
        Err(ParseError::File(error)) => {
            watch::note(&format!("loadgen: {error}"));
            return ExitCode::from(EXIT_USAGE);
        }
    };
    match arguments.command {
        // What went wrong has been said to the coordinator, which reports it.
        Command::Worker => worker::run().map_or(ExitCode::FAILURE, |()| ExitCode::SUCCESS),
        Command::Diff(arguments) => finish(diff(&arguments)),
        Command::Room(arguments) => run(arguments.try_into()),
        Command::Rooms(arguments) => run(arguments.try_into()),
        Command::Event(arguments) => run(arguments.try_into()),
    }
}

fn run(options: Result<RunOptions, OptionsError>) -> ExitCode {
    match options {
        Ok(options) => finish(scenario(&options)),
        Err(error) => {
            watch::note(&format!("loadgen: {error}"));
            ExitCode::from(EXIT_USAGE)
        }
    }
}

/// Runs the scenario and reports it; answers whether it passed.
fn scenario(options: &RunOptions) -> Result<bool, String> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|error| format!("cannot start a runtime: {error}"))?;
    let outcome = runtime.block_on(scenario::run(options)).map_err(|error| error.to_string())?;
    report::publish(report::room::findings(options, outcome), &options.outputs)
}

/// Shows what changed; that something did is no failure.
fn diff(arguments: &DiffArguments) -> Result<bool, String> {
    println!("{}", report::diff::compare(arguments)?);
    Ok(true)
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
