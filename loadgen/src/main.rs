//! `loadgen`: fills chat rooms with real clients, and checks every delivery. It knows nothing of the server's code.
//!
//! Each folder uses only folders above it in this list (`tests/tests/circles.rs` checks that there is no circle).
//!
//! - `base/`: the ground floor: the clock, contents of messages, words for numbers.
//! - `wire/`: the dialects (JSON, protobuf, and plain WebSocket servers), WebSocket frames, pages of history.
//! - `plan/`: what a run is, beforehand: rooms, schedules, lives, the target, the addresses that users connect from.
//! - `checks/`: the judges, pure: was every due message heard, once and in order?
//! - `costs/`: what the server, the kernel and the generator cost, second by second.
//! - `orders/`: what coordinator and workers say to each other.
//! - `clients/`: the tasks of one thread. `stages.rs` is a user's life. `crowd.rs` hands what is heard to the judges.
//! - `watch.rs`: the progress display.
//! - `team/`: the processes, on this machine and others, and what another machine's clock is worth.
//! - `worker/`: a worker process and its threads.
//! - `report/`: figures, verdicts, pages.
//! - `options/`: the command line.
//! - `scenarios/`: what the coordinator does, command by command; the proxy of the self-test, and the bare loop of the
//!   baseline.

mod base;
mod checks;
mod clients;
mod costs;
mod options;
mod orders;
mod plan;
mod report;
mod scenarios;
mod team;
mod watch;
mod wire;
mod worker;

use std::process::ExitCode;

use crate::options::{
    Command, ConnectOptions, CurveOptions, HistoryOptions, OptionsError, ParseError, RunOptions, SelftestOptions,
    WorkerArguments,
};
use crate::report::diff::DiffArguments;
use crate::team::introduction::Secret;
use crate::worker::runtime;

/// The exit code for a wrong command line.
const EXIT_USAGE: u8 = 2;

fn main() -> ExitCode {
    let arguments = match options::parse(std::env::args_os().collect()) {
        Ok(arguments) => arguments,
        // Prints the error, or the help text, and exits with the right code.
        Err(ParseError::Line(error)) => error.exit(),
        Err(ParseError::File(error)) => {
            watch::note(&format!("loadgen: {error}"));
            return ExitCode::from(EXIT_USAGE);
        }
    };
    match arguments.command {
        Command::Worker(arguments) => work(arguments),
        Command::Diff(arguments) => finish(diff(&arguments)),
        Command::Room(arguments) => run(arguments.try_into(), scenario),
        Command::Rooms(arguments) => run(arguments.try_into(), scenario),
        Command::Event(arguments) => run(arguments.try_into(), scenario),
        Command::History(arguments) => run(arguments.try_into(), history),
        Command::Curve(arguments) => run(arguments.try_into(), curve),
        Command::Connect(arguments) => run(arguments.try_into(), connect),
        Command::Selftest(arguments) => run(arguments.try_into(), selftest),
        Command::Bare => finish(scenarios::bare::run().map(|()| true)),
    }
}

fn run<O>(options: Result<O, OptionsError>, scenario: impl Fn(&O) -> Result<bool, String>) -> ExitCode {
    if let Err(error) = base::interrupt::watch() {
        watch::note(&format!("loadgen: Ctrl-C will end the run without a word: {error}"));
    }
    match options {
        Ok(options) => finish(scenario(&options)),
        Err(error) => refuse(&error),
    }
}

fn refuse(error: &OptionsError) -> ExitCode {
    watch::note(&format!("loadgen: {error}"));
    ExitCode::from(EXIT_USAGE)
}

fn selftest(options: &SelftestOptions) -> Result<bool, String> {
    runtime()?.block_on(scenarios::selftest::run(options)).map_err(|error| error.to_string())
}

/// Works for one coordinator, or waits for coordinators when `--listen` is given.
fn work(arguments: WorkerArguments) -> ExitCode {
    match arguments.listen {
        Some(address) => finish(team::host::run(address, Secret::new(arguments.secret)).map(|()| true)),
        // The coordinator has been told the error and reports it.
        None => worker::run(arguments.clock_offset_ns).map_or(ExitCode::FAILURE, |()| ExitCode::SUCCESS),
    }
}

/// Runs the scenario and reports it. Returns whether it passed.
fn scenario(options: &RunOptions) -> Result<bool, String> {
    options.outputs.check()?;
    let outcome = runtime()?.block_on(scenarios::scenario::run(options)).map_err(|error| error.to_string())?;
    let baseline = match options.baseline {
        true => {
            Some(runtime()?.block_on(scenarios::baseline::run(options, &outcome)).map_err(|error| error.to_string())?)
        }
        false => None,
    };
    let mut results = scenarios::room_results::results(options, outcome);
    if let Some(baseline) = &baseline {
        results.sections.extend(scenarios::baseline_results::sections(&results, &baseline.results));
        results.sections.extend(baseline.reading.clone());
    }
    report::publish(results, &options.outputs)
}

fn connect(options: &ConnectOptions) -> Result<bool, String> {
    options.outputs.check()?;
    let outcome = runtime()?.block_on(scenarios::connect::run(options)).map_err(|error| error.to_string())?;
    report::publish(scenarios::connect::results(options, outcome), &options.outputs)
}

fn history(options: &HistoryOptions) -> Result<bool, String> {
    options.outputs.check()?;
    let outcome = runtime()?.block_on(scenarios::history::run(options)).map_err(|error| error.to_string())?;
    report::publish(scenarios::history::results(options, outcome), &options.outputs)
}

fn curve(options: &CurveOptions) -> Result<bool, String> {
    [&options.json, &options.html].into_iter().flatten().try_for_each(|path| report::check_folder(path))?;
    let curve = runtime()?.block_on(scenarios::curve::run(options)).map_err(|error| error.to_string())?;
    report::show(&curve.text());
    if let Some(path) = &options.json {
        report::written(path, curve.write_json(path))?;
    }
    if let Some(path) = &options.html {
        report::written(path, std::fs::write(path, curve.page()?))?;
    }
    Ok(curve.passed())
}

/// Shows what changed between two reports. A change is not a failure.
fn diff(arguments: &DiffArguments) -> Result<bool, String> {
    report::show(&report::diff::compare(arguments)?);
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
