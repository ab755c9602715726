//! The run's worker processes: how many, who looks after which users, and their orders and words.
//!
//! Every run uses workers, also when one suffices: the coordinator stays free to watch, and there is one way only. A worker
//! that dies or fails ends the run, by its number and process id.

use std::io;
use std::net::IpAddr;
use std::ops::Range;
use std::process::{ExitStatus, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use thiserror::Error;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};
use tokio::sync::mpsc;

use crate::orders::{Assignment, Order, Progress, Word};
use crate::plan::Plan;
use crate::series::Series;

/// Descriptors a process needs besides one for each user: pipes, pollers, the sign-in connections.
const DESCRIPTORS_APART: u64 = 512;
/// Linux gives a source address the ports 32,768 to 60,999 by default, 28,232 of them; some rest for others.
const USERS_A_SOURCE: u32 = 28_000;
/// Where source addresses must be spread, they are filled less, so that a port still lingering from before harms nobody.
const USERS_A_SOURCE_SPREAD: u32 = 25_000;
/// Words in line from all workers: reading waits beyond that, and so do the workers.
const WORDS_MAX: usize = 64;
/// A worker takes its leave within seconds of its last word; then it is ended.
const LEAVING: Duration = Duration::from_secs(10);

#[derive(Debug, Error)]
pub enum TeamError {
    #[error("the descriptor limit cannot be raised: {0}")]
    Limit(#[source] io::Error),
    #[error("the descriptor limit of {0} leaves no room for a single user")]
    LimitTooLow(u64),
    #[error("worker {worker} cannot be started: {source}")]
    Start { worker: usize, source: io::Error },
    #[error("worker {worker} (pid {pid}, users {users:?}): {what}")]
    Failed { worker: usize, pid: u32, users: Range<u32>, what: String },
    #[error("worker {worker} (pid {pid}, users {users:?}) died: {status}")]
    Died { worker: usize, pid: u32, users: Range<u32>, status: String },
}

/// Raises the soft descriptor limit to the hard one, for this process and its workers, and says what it is.
pub fn raise_descriptor_limit() -> Result<u64, TeamError> {
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit { current: limit.maximum, maximum: limit.maximum };
    setrlimit(Resource::Nofile, raised).map_err(|error| TeamError::Limit(error.into()))?;
    Ok(limit.maximum.unwrap_or(u64::MAX))
}

/// How many processes it takes, each below its descriptor limit.
pub fn processes_needed(users: u32, descriptors: u64) -> Result<u32, TeamError> {
    let users_a_process = descriptors.saturating_sub(DESCRIPTORS_APART).min(u64::from(u32::MAX)) as u32;
    match users_a_process {
        0 => Err(TeamError::LimitTooLow(descriptors)),
        fitting => Ok(users.div_ceil(fitting)),
    }
}

/// How many users share a source address, when they cannot all have the same: only loopback has addresses to spare.
fn users_a_source(users: u32, server: IpAddr) -> Option<u32> {
    let loopback = matches!(server, IpAddr::V4(address) if address.is_loopback());
    (loopback && users > USERS_A_SOURCE).then_some(USERS_A_SOURCE_SPREAD)
}

/// Consecutive parts of nearly the same size.
fn split(users: u32, parts: u32) -> Vec<Range<u32>> {
    let edge = |part: u32| (u64::from(users) * u64::from(part) / u64::from(parts)) as u32;
    (0..parts).map(|part| edge(part)..edge(part + 1)).collect()
}

/// The assignments of a run's workers.
pub fn assignments(plan: &Plan, processes: u32) -> Vec<Assignment> {
    let users = plan.users();
    let processes = processes.clamp(1, users);
    let assign = |part| Assignment {
        plan: plan.clone(),
        users: part,
        in_flight: plan.in_flight.div_ceil(processes),
        users_a_source: users_a_source(users, plan.target.server.ip()),
    };
    split(users, processes).into_iter().map(assign).collect()
}

/// All workers of a run.
pub struct Team {
    workers: Vec<Worker>,
    /// What workers say, or nothing when one's output has ended.
    words: mpsc::Receiver<(usize, Option<Word>)>,
    series: Series,
}

struct Worker {
    child: Child,
    pid: u32,
    users: Range<u32>,
    orders: ChildStdin,
    progress: Progress,
    /// Whether it has said its last word, after which its process may end.
    finished: bool,
}

impl Team {
    /// Starts one worker an assignment and orders all to sign in.
    pub async fn start(assignments: Vec<Assignment>) -> Result<Self, TeamError> {
        let (words_in, words) = mpsc::channel(WORDS_MAX);
        let mut team = Self { workers: Vec::new(), words, series: Series::default() };
        for (number, assignment) in assignments.iter().enumerate() {
            let start = Worker::start(number, assignment.users.clone(), words_in.clone());
            team.workers.push(start.map_err(|source| TeamError::Start { worker: number, source })?);
        }
        for (number, assignment) in assignments.into_iter().enumerate() {
            team.order(number, &Order::SignIn(assignment)).await?;
        }
        Ok(team)
    }

    /// Number, process id and users of each worker.
    pub fn roll(&self) -> impl Iterator<Item = (usize, u32, Range<u32>)> {
        self.workers.iter().enumerate().map(|(number, worker)| (number, worker.pid, worker.users.clone()))
    }

    pub fn len(&self) -> usize {
        self.workers.len()
    }

    pub async fn order_all(&mut self, order: &Order) -> Result<(), TeamError> {
        for number in 0..self.workers.len() {
            self.order(number, order).await?;
        }
        Ok(())
    }

    async fn order(&mut self, number: usize, order: &Order) -> Result<(), TeamError> {
        let mut line = serde_json::to_vec(order).expect("orders are plain structures, which always serialise");
        line.push(b'\n');
        let orders = &mut self.workers[number].orders;
        let written = async {
            orders.write_all(&line).await?;
            orders.flush().await
        };
        match written.await {
            Ok(()) => Ok(()),
            // Its last word may say why; otherwise it has died without one.
            Err(_) => Err(self.gone(number).await),
        }
    }

    /// What all workers together have come to, as far as they have told.
    pub fn progress(&self) -> Progress {
        let mut sum = Progress::default();
        self.workers.iter().for_each(|worker| sum.add(&worker.progress));
        sum
    }

    /// What they have told of the seconds so far.
    pub fn series(&self) -> &Series {
        &self.series
    }

    /// The next word of any worker that is more than progress; nothing when the deadline came first, or only progress did.
    pub async fn next_word(&mut self, deadline: Instant) -> Result<Option<Word>, TeamError> {
        let Ok(heard) = tokio::time::timeout_at(deadline.into(), self.words.recv()).await else { return Ok(None) };
        let Some((number, word)) = heard else { return Err(self.gone(0).await) };
        let worker = &mut self.workers[number];
        match word {
            Some(Word::Progress(progress)) => worker.progress = progress,
            Some(Word::Second(second)) => self.series.add(*second),
            Some(Word::Failed { what }) => return Err(self.failed(number, what)),
            Some(word) => {
                worker.finished = matches!(word, Word::Figures(_));
                return Ok(Some(word));
            }
            None if worker.finished => {}
            None => return Err(self.gone(number).await),
        }
        Ok(None)
    }

    fn failed(&self, worker: usize, what: String) -> TeamError {
        let Worker { pid, users, .. } = &self.workers[worker];
        TeamError::Failed { worker, pid: *pid, users: users.clone(), what }
    }

    /// Why a worker is gone: its own last word if it had one, else how its process ended.
    async fn gone(&mut self, worker: usize) -> TeamError {
        while let Ok((number, word)) = self.words.try_recv() {
            if let (Some(Word::Failed { what }), true) = (word, number == worker) {
                return self.failed(worker, what);
            }
        }
        let Worker { child, pid, users, .. } = &mut self.workers[worker];
        let status = ended(child).await;
        TeamError::Died { worker, pid: *pid, users: users.clone(), status }
    }

    /// Lets the workers take their leave, after their last word.
    pub async fn dismiss(mut self) {
        for worker in &mut self.workers {
            ended(&mut worker.child).await;
        }
    }
}

/// Waits a while for the child's end and describes it; a child that stays is ended.
async fn ended(child: &mut Child) -> String {
    let deadline = Instant::now() + LEAVING;
    let describe = |status: io::Result<ExitStatus>| status.map_or_else(|error| error.to_string(), |s| s.to_string());
    match tokio::time::timeout_at(deadline.into(), child.wait()).await {
        Ok(status) => describe(status),
        Err(_) => match child.kill().await {
            Ok(()) => "it did not end by itself".to_owned(),
            Err(error) => error.to_string(),
        },
    }
}

impl Worker {
    fn start(number: usize, users: Range<u32>, words: mpsc::Sender<(usize, Option<Word>)>) -> io::Result<Self> {
        let mut child = Command::new(std::env::current_exe()?)
            .arg("worker")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            // When the coordinator gives up, so do the workers; when it dies, their standard input tells them.
            .kill_on_drop(true)
            .spawn()?;
        let pipes = child.stdin.take().zip(child.stdout.take()).zip(child.id());
        let ((orders, output), pid) = pipes.ok_or_else(|| io::Error::other("the new process has no pipes"))?;
        tokio::spawn(hear(number, output, words));
        Ok(Self { child, pid, users, orders, progress: Progress::default(), finished: false })
    }
}

async fn hear(number: usize, output: ChildStdout, words: mpsc::Sender<(usize, Option<Word>)>) {
    let mut lines = BufReader::new(output).lines();
    while let Ok(Some(line)) = lines.next_line().await {
        let word = serde_json::from_str(&line)
            .unwrap_or_else(|error| Word::Failed { what: format!("an unreadable word: {error}") });
        if words.send((number, Some(word))).await.is_err() {
            return;
        }
    }
    // Nobody is left to be told only when the run is over.
    let _ = words.send((number, None)).await;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn users_are_split_without_loss() {
        for (users, parts) in [(1, 1), (10, 3), (5000, 7), (1_000_000, 53), (3, 3)] {
            let split = split(users, parts);
            assert_eq!((split[0].start, split[split.len() - 1].end), (0, users));
            assert!(split.windows(2).all(|pair| pair[0].end == pair[1].start));
            let sizes: Vec<usize> = split.iter().map(ExactSizeIterator::len).collect();
            assert!(sizes.iter().max() <= sizes.iter().min().map(|least| least + 1).as_ref(), "{sizes:?}");
        }
    }

    #[test]
    fn processes_stay_below_their_limit() {
        for (users, descriptors, expected) in
            [(1, 1024, 1), (5000, 20_000, 1), (19_488, 20_000, 1), (19_489, 20_000, 2), (1_000_000, 20_000, 52)]
        {
            assert_eq!(processes_needed(users, descriptors).ok(), Some(expected), "{users} with {descriptors}");
        }
        assert!(processes_needed(1, 100).is_err());
    }

    #[test]
    fn source_addresses_are_spread_on_loopback_only_when_needed() {
        let [local, far]: [IpAddr; 2] = ["127.0.0.1", "192.0.2.1"].map(|text| text.parse().expect("an address"));
        for (users, server, expected) in [(28_000, local, None), (28_001, local, Some(25_000)), (1_000_000, far, None)]
        {
            assert_eq!(users_a_source(users, server), expected, "{users} to {server}");
        }
    }
}
