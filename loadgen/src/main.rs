//! `loadgen`: fills chat rooms with real clients, and checks every delivery.

mod acceptances;
mod admission;
mod bare;
mod baseline;
mod check;
mod client;
mod clock;
mod comparison;
mod connect;
mod content;
mod costs;
mod crew;
mod crowd;
mod curve;
mod deeds;
mod draws;
mod figures;
mod frames;
mod head;
mod history;
mod history_reads;
mod host;
mod idlers;
mod introduction;
mod kernel;
mod lag;
mod latency;
mod lines;
mod listening;
mod lives;
mod machine;
mod member;
mod metrics;
mod options;
mod orders;
mod page_check;
mod pages;
mod plan;
mod process;
mod proxy;
mod publisher;
mod reach;
mod recorder;
mod report;
mod scenario;
mod schedule;
mod selftest;
mod series;
mod server;
mod sign_in;
mod stages;
mod stays;
mod watch;
mod whole_history;
mod wire;
mod worker;
mod workforce;

use std::process::ExitCode;

use crate::introduction::Secret;
use crate::options::{
    Command, ConnectOptions, CurveOptions, HistoryOptions, OptionsError, ParseError, RunOptions, SelftestOptions,
    WorkerArguments,
};
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
        Command::Worker(arguments) => work(arguments),
        Command::Diff(arguments) => finish(diff(&arguments)),
        Command::Room(arguments) => run(arguments.try_into(), scenario),
        Command::Rooms(arguments) => run(arguments.try_into(), scenario),
        Command::Event(arguments) => run(arguments.try_into(), scenario),
        Command::History(arguments) => run(arguments.try_into(), history),
        Command::Curve(arguments) => run(arguments.try_into(), curve),
        Command::Connect(arguments) => run(arguments.try_into(), connect),
        Command::Selftest(arguments) => run(arguments.try_into(), selftest),
        Command::Bare => finish(bare::run().map(|()| true)),
    }
}

fn run<O>(options: Result<O, OptionsError>, scenario: impl Fn(&O) -> Result<bool, String>) -> ExitCode {
    match options {
        Ok(options) => finish(scenario(&options)),
        Err(error) => refuse(&error),
    }
}

fn refuse(error: &OptionsError) -> ExitCode {
    watch::note(&format!("loadgen: {error}"));
    ExitCode::from(EXIT_USAGE)
}

fn runtime() -> Result<tokio::runtime::Runtime, String> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.map_err(|error| format!("cannot start a runtime: {error}"))
}

fn selftest(options: &SelftestOptions) -> Result<bool, String> {
    runtime()?.block_on(selftest::run(options)).map_err(|error| error.to_string())
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
    let outcome = runtime()?.block_on(scenario::run(options)).map_err(|error| error.to_string())?;
    let baseline = match options.baseline {
        true => Some(runtime()?.block_on(baseline::run(options, &outcome)).map_err(|error| error.to_string())?),
        false => None,
    };
    let mut findings = report::room::findings(options, outcome);
    if let Some(baseline) = &baseline {
        findings.sections.extend(report::baseline::sections(&findings, baseline));
    }
    report::publish(findings, &options.outputs)
}

fn connect(options: &ConnectOptions) -> Result<bool, String> {
    let outcome = runtime()?.block_on(connect::run(options)).map_err(|error| error.to_string())?;
    report::publish(connect::findings(options, outcome), &options.outputs)
}

fn history(options: &HistoryOptions) -> Result<bool, String> {
    let outcome = runtime()?.block_on(history::run(options)).map_err(|error| error.to_string())?;
    report::publish(history::findings(options, outcome), &options.outputs)
}

fn curve(options: &CurveOptions) -> Result<bool, String> {
    let curve = runtime()?.block_on(curve::run(options)).map_err(|error| error.to_string())?;
    println!("{}", curve.text());
    if let Some(path) = &options.json {
        curve.write_json(path).map_err(|error| format!("cannot write {}: {error}", path.display()))?;
    }
    Ok(curve.passed())
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
