//! Another machine, as the coordinator uses it: it is taken for the run, its clock is compared with ours, and its
//! workers are reached over TCP.

use std::io;
use std::net::SocketAddr;

use serde::Serialize;
use thiserror::Error;
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;
use tokio::time::{Duration, interval, timeout};

use crate::base::clock;
use crate::team::comparison::{Bearing, Comparison, Stamps};
use crate::team::introduction::{self, Errand, Secret};
use crate::team::lines::{self, Lines, SILENCE_MAX};

/// A machine that does not accept a connection or complete the introduction within this time cannot be used.
const CONNECTING: Duration = Duration::from_secs(10);
/// The number of exchanges in one comparison of clocks; the best of them counts.
const EXCHANGES: usize = 64;
/// How often the time is asked for between the comparisons, to show that the coordinator is still there.
const HEARTBEAT: Duration = Duration::from_secs(1);

#[derive(Debug, Error)]
#[error("machine {address}: {what}")]
pub struct MachineError {
    address: SocketAddr,
    what: String,
}

/// A machine that was taken for a run.
pub struct Machine {
    pub address: SocketAddr,
    /// How many descriptors one process may have on that machine.
    pub descriptors: u64,
    secret: Secret,
    run: u64,
    start: Comparison,
    /// Sends a request to compare the clocks to the connection's task. The task ends when the last sender is gone.
    ask: mpsc::Sender<oneshot::Sender<Comparison>>,
    keeping: JoinHandle<io::Result<()>>,
}

/// What a report shows about a machine.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct MachineFigures {
    pub address: SocketAddr,
    pub workers: usize,
    pub clock: Bearing,
}

impl MachineFigures {
    pub fn text(&self) -> String {
        let Self { address, workers, clock } = self;
        let [offset, uncertainty] = [clock.offset_ns as f64, clock.uncertainty_ns as f64].map(|ns| ns / 1e3);
        format!(
            "machine {address}: {workers} workers, clock {offset:+.1} µs from ours within {uncertainty:.1} µs, drift {:.1} ppm",
            clock.drift_ppm,
        )
    }
}

impl Machine {
    pub async fn take(address: SocketAddr, secret: &Secret, run: u64) -> Result<Self, MachineError> {
        let taking = async {
            let mut line = Line::open(address, secret, Errand::Take { run }).await?;
            let start = line.compare().await?;
            Ok((line, start))
        };
        let (line, start) = taking.await.map_err(|error| failed(address, &error))?;
        let descriptors = line.descriptors;
        let (ask, asked) = mpsc::channel(1);
        let keeping = tokio::spawn(keep(line, asked));
        Ok(Self { address, descriptors, secret: secret.clone(), run, start, ask, keeping })
    }

    /// Starts a worker process on the machine. Returns its process id, the reader of its words and the writer of its
    /// orders.
    pub async fn start_worker(&self) -> Result<(u32, Lines<OwnedReadHalf>, OwnedWriteHalf), MachineError> {
        let errand = Errand::Work { run: self.run, clock_offset_ns: self.start.offset_ns };
        let line =
            Line::open(self.address, &self.secret, errand).await.map_err(|error| failed(self.address, &error))?;
        Ok((line.pid, line.lines, line.writer))
    }

    /// Compares the clocks once more. Returns what is known now about the machine's clock.
    pub async fn bearing(&mut self) -> Result<Bearing, MachineError> {
        let (answer, answered) = oneshot::channel();
        // If sending fails or no answer comes, the task has ended with an error.
        let _ = self.ask.send(answer).await;
        match answered.await {
            Ok(now) => Ok(Bearing::new(self.start, now)),
            Err(_) => {
                let ended = (&mut self.keeping).await.map_err(io::Error::other).flatten();
                let error = ended.err().unwrap_or_else(|| io::ErrorKind::UnexpectedEof.into());
                Err(failed(self.address, &error))
            }
        }
    }

    /// Compares the clocks for the last time and gives the machine back.
    pub async fn release(mut self, workers: usize) -> Result<MachineFigures, MachineError> {
        Ok(MachineFigures { address: self.address, workers, clock: self.bearing().await? })
    }
}

fn failed(address: SocketAddr, error: &io::Error) -> MachineError {
    let what = match error.kind() {
        io::ErrorKind::ConnectionRefused => {
            format!("nothing listens there ({error}): start `loadgen worker --listen {address}` on it")
        }
        io::ErrorKind::UnexpectedEof => "it hung up".to_owned(),
        _ => error.to_string(),
    };
    MachineError { address, what }
}

/// A connection to a listening worker, after both sides have proved that they have the secret.
struct Line {
    lines: Lines<OwnedReadHalf>,
    writer: OwnedWriteHalf,
    pid: u32,
    descriptors: u64,
}

impl Line {
    async fn open(address: SocketAddr, secret: &Secret, errand: Errand) -> io::Result<Self> {
        let opening = async {
            let stream = TcpStream::connect(address).await?;
            lines::prepare(&stream, SILENCE_MAX)?;
            let (reader, mut writer) = stream.into_split();
            let mut lines = Lines::new(reader, 0, Some(SILENCE_MAX));
            let site = introduction::ask(&mut lines, &mut writer, secret, errand).await?;
            Ok(Self { lines, writer, pid: site.pid, descriptors: site.descriptors })
        };
        timeout(CONNECTING, opening).await.unwrap_or_else(|_| {
            let what = format!("no worker has answered within {} s", CONNECTING.as_secs());
            Err(io::Error::new(io::ErrorKind::TimedOut, what))
        })
    }

    async fn compare(&mut self) -> io::Result<Comparison> {
        let mut comparisons = Vec::with_capacity(EXCHANGES);
        for _ in 0..EXCHANGES {
            comparisons.extend(self.exchange().await?);
        }
        Comparison::best(comparisons.into_iter()).ok_or_else(|| io::Error::other("its clock goes backwards"))
    }

    async fn exchange(&mut self) -> io::Result<Option<Comparison>> {
        let asked_ns = clock::machine_ns();
        lines::write(&mut self.writer, &()).await?;
        let answer = self.lines.next().await?.ok_or(io::ErrorKind::UnexpectedEof)?;
        let heard_ns = clock::machine_ns();
        let stamps: Stamps = serde_json::from_slice(answer)?;
        Ok(Comparison::of(asked_ns, stamps, heard_ns))
    }
}

/// Keeps the machine taken until no comparison of the clocks can be requested any more.
async fn keep(mut line: Line, mut asked: mpsc::Receiver<oneshot::Sender<Comparison>>) -> io::Result<()> {
    let mut beats = interval(HEARTBEAT);
    loop {
        tokio::select! {
            answer = asked.recv() => {
                let Some(answer) = answer else { return Ok(()) };
                // The caller may have given up meanwhile.
                let _ = answer.send(line.compare().await?);
            }
            _ = beats.tick() => {
                line.exchange().await?;
            }
        }
    }
}
