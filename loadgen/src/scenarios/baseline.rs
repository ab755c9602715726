//! `--baseline`: does the same run again against the bare server (`bare/`) on the same cores, with messages as long and
//! batches as large as those of the real server. Then does it once more with members that only read, without looking at
//! the bytes: the difference in cost to the run before is what checking costs.

use std::io;
use std::process::Stdio;
use std::time::Duration;

use thiserror::Error;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::process::{Child, ChildStdin, Command};

use crate::costs::meter::{CostsError, Meter};
use crate::options::RunOptions;
use crate::report::{RunResults, Section};
use crate::scenarios::bare::Orders;
use crate::scenarios::baseline_results;
use crate::scenarios::room_results::{self, RoomOutcome};
use crate::scenarios::scenario::{self, RunError};
use crate::watch;
use crate::wire::Dialect;

/// The bare server listens within this time, or not at all.
const STARTING: Duration = Duration::from_secs(10);

/// How long members that only read may go on reading after the measured time.
const READING_SETTLES: Duration = Duration::from_secs(1);

#[derive(Debug, Error)]
pub enum BaselineError {
    #[error("--baseline needs the server's process on this machine, by --pid or because it listens here")]
    NoProcess,
    #[error("--baseline of several rooms needs rooms that the server knows; --target plain has one")]
    PlainRooms,
    #[error("the bare server cannot be started: {0}")]
    Start(#[from] io::Error),
    #[error("the bare server says {0:?} instead of its address")]
    Address(String),
    #[error(transparent)]
    Costs(#[from] CostsError),
    #[error("the run against the bare server: {0}")]
    Run(#[from] RunError),
}

/// The results of the runs against the bare server.
pub struct Baseline {
    pub results: RunResults,
    /// What the generator costs beside a client that only reads; `None` in runs whose members come and go.
    pub reading: Option<Section>,
}

/// Does the same run against the bare server.
pub async fn run(options: &RunOptions, real: &RoomOutcome) -> Result<Baseline, BaselineError> {
    let mut bare = Bare::start(&orders(options, real)?).await?;
    watch::note("baseline: the same once more, against a bare socket loop on the same cores");
    let mut options = options.clone();
    options.plan.target.server = bare.address;
    options.plan.rooms.iter_mut().for_each(|room| room.entrance.hidden = true);
    (options.pid, options.metrics) = (bare.process.id(), None);
    let checked = scenario::run(&options).await?;
    let reading = match options.plan.conduct {
        Some(_) => None,
        None => {
            watch::note("baseline: the same with members that only read");
            let read = scenario::run(&reading_only(&options)).await?;
            Some(baseline_results::beside_reading(&checked, &read))
        }
    };
    bare.end().await?;
    Ok(Baseline { results: room_results::results(&options, checked), reading })
}

/// The same run with members that only read. Their deliveries are not counted, so there is nothing to wait for.
fn reading_only(options: &RunOptions) -> RunOptions {
    let mut options = options.clone();
    options.plan.reads_only = true;
    // A new run number, so that it does not use the ports that the run before has just closed.
    options.plan.run = options.plan.run.wrapping_add(1);
    options.settle_secs = READING_SETTLES.as_secs_f64();
    options
}

fn orders(options: &RunOptions, real: &RoomOutcome) -> Result<Orders, BaselineError> {
    let plan = &options.plan;
    if matches!(plan.target.dialect, Dialect::Plain(_)) && plan.rooms.len() > 1 {
        return Err(BaselineError::PlainRooms);
    }
    let process = Meter::find(options.pid, plan.target.server, None)?.process().ok_or(BaselineError::NoProcess)?;
    let figures = &real.figures;
    Ok(Orders {
        address: plan.target.server.ip(),
        dialect: plan.target.dialect.clone(),
        cores: process.cores()?,
        batch_factor: real.costs.batch_factor(figures.delivered_in_window).unwrap_or(1.0),
        message_bytes: figures.heard.message_bytes.checked_div(figures.heard.messages).unwrap_or_default() as usize,
    })
}

/// The process of the bare server. It ends when this process ends, in whatever way that happens.
struct Bare {
    process: Child,
    orders: ChildStdin,
    address: std::net::SocketAddr,
}

impl Bare {
    async fn start(orders: &Orders) -> Result<Self, BaselineError> {
        let mut process = Command::new(std::env::current_exe()?)
            .arg("bare")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()?;
        let pipes = process.stdin.take().zip(process.stdout.take());
        let (mut input, output) = pipes.ok_or_else(|| io::Error::other("the new process has no pipes"))?;
        let mut line = serde_json::to_vec(orders).map_err(io::Error::other)?;
        line.push(b'\n');
        input.write_all(&line).await?;
        input.flush().await?;
        let mut said = String::new();
        let mut output = BufReader::new(output);
        let listening = tokio::time::timeout(STARTING, output.read_line(&mut said));
        listening.await.map_err(|_| io::Error::from(io::ErrorKind::TimedOut))??;
        let address = said.trim().parse().map_err(|_| BaselineError::Address(said))?;
        Ok(Self { process, orders: input, address })
    }

    async fn end(&mut self) -> io::Result<()> {
        self.orders.shutdown().await?;
        self.process.kill().await
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::checks::figures::{Figures, HeardFigures};
    use crate::scenarios::room_results::tests::{options, outcome};

    /// The orders after a run of this process's own with these messages, or the error.
    fn ordered(line: &str, messages: u64, message_bytes: u64) -> Result<Orders, BaselineError> {
        let heard = HeardFigures { messages, message_bytes, ..HeardFigures::default() };
        orders(&options(line), &outcome(Figures { heard, ..Figures::default() }))
    }

    #[test]
    fn the_bare_server_sends_messages_as_long_as_the_real_ones_from_the_same_cores() {
        let line = format!("loadgen room --addr 127.0.0.1:1 --pid {}", std::process::id());
        for (messages, bytes, expected) in [(0, 0, 0), (10, 2_009, 200), (1, 7, 7)] {
            let orders = ordered(&line, messages, bytes).expect("orders");
            assert_eq!((orders.message_bytes, orders.address), (expected, [127, 0, 0, 1].into()));
            assert!((orders.batch_factor - 1.0).abs() < 1e-9, "without a count, a write has one message");
            assert!(!orders.cores.is_empty(), "a process runs on some core");
        }
    }

    #[test]
    fn a_baseline_needs_a_process_and_rooms_that_the_bare_server_can_tell_apart() {
        // The kernel gives no process an id beyond 22 bits.
        let gone = ordered("loadgen room --addr 127.0.0.1:1 --pid 4194305", 1, 1).expect_err("no process");
        assert!(matches!(gone, BaselineError::Costs(_)), "{gone}");
        let unknown = ordered("loadgen room --addr 127.0.0.1:1", 1, 1).expect_err("no server listens there");
        assert!(matches!(unknown, BaselineError::NoProcess), "{unknown}");
        let plain = format!("--target plain --url ws://127.0.0.1:1/ --pid {}", std::process::id());
        assert!(ordered(&format!("loadgen room {plain}"), 1, 1).is_ok());
        let rooms = ordered(&format!("loadgen rooms --rooms 2 {plain}"), 1, 1).expect_err("two rooms");
        assert!(matches!(rooms, BaselineError::PlainRooms), "{rooms}");
    }

    #[test]
    fn the_run_that_only_reads_is_the_same_run_under_another_number() {
        let mut before = options("loadgen room --addr 127.0.0.1:1 --settle 30");
        before.plan.run = u32::MAX;
        let after = reading_only(&before);
        assert_eq!((after.plan.run, after.plan.reads_only, after.settle_secs), (0, true, 1.0));
        assert_eq!(after.plan.messages(), before.plan.messages());
        assert_eq!(after.plan.users(), before.plan.users());
    }
}
