//! The run's worker processes: how many there are, where they run, which users each has, and their orders and words.
//!
//! Every run uses workers, even if one is enough: the coordinator stays free to watch, and there is only one code path.
//! Workers run on this machine or on others; only the way to reach them differs. A worker that dies, fails or falls
//! silent ends the run, and the error names its number, machine and process id.

use std::io;
use std::net::SocketAddr;
use std::ops::Range;
use std::process::{ExitStatus, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use thiserror::Error;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};
use tokio::sync::mpsc;

use crate::base::{clock, interrupt};
use crate::costs::progress::Progress;
use crate::costs::series::{Series, ServerWatch};
use crate::orders::{Assignment, Order, Word};
use crate::plan::run_plan::Plan;
use crate::plan::sources::{self, Sources};
use crate::team::comparison;
use crate::team::lines::{self, LINE_BYTES_MAX, Lines, SILENCE_MAX};
use crate::team::machine::{Machine, MachineError, MachineFigures};
use crate::team::workforce::Workforce;
use crate::watch::{self, Watch};

/// Descriptors that a process needs besides one for each user: for pipes, pollers and the sign-in connections.
const DESCRIPTORS_APART: u64 = 512;
/// How many words from all workers may wait. With more, reading stops, and the workers wait too.
const WORDS_MAX: usize = 64;
/// A worker ends within seconds of its last word. After this time it is killed.
const LEAVING: Duration = Duration::from_secs(10);
/// How often the coordinator checks the progress while it waits.
pub const LOOK_EVERY: Duration = Duration::from_millis(100);

#[derive(Debug, Error)]
pub enum TeamError {
    #[error("the descriptor limit cannot be raised: {0}")]
    Limit(#[source] io::Error),
    #[error("the descriptor limit of {0} leaves no room for a single user")]
    LimitTooLow(u64),
    #[error("worker {worker} cannot be started: {source}")]
    Start { worker: usize, source: io::Error },
    #[error(transparent)]
    Machine(#[from] MachineError),
    #[error("{worker}: {what}")]
    Failed { worker: String, what: String },
    #[error("{worker} died: {status}")]
    Died { worker: String, status: String },
    #[error(
        "stopped by Ctrl-C. Until then {} messages or reads were sent, {} accepted and {} refused, {} were delivered with \
         {} faults, and {} users were disconnected. There is no report: what is missing is known at the end of a run",
        .0.sent, .0.accepted, .0.refused, .0.delivered, .0.faults, .0.disconnected
    )]
    Stopped(Progress),
}

/// Raises the soft descriptor limit to the hard one, for this process and its workers. Returns the limit.
pub fn raise_descriptor_limit() -> Result<u64, TeamError> {
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit { current: limit.maximum, maximum: limit.maximum };
    setrlimit(Resource::Nofile, raised).map_err(|error| TeamError::Limit(error.into()))?;
    Ok(limit.maximum.unwrap_or(u64::MAX))
}

/// How many processes are needed so that each stays below its descriptor limit.
pub fn processes_needed(users: u32, descriptors: u64) -> Result<u32, TeamError> {
    let users_a_process = descriptors.saturating_sub(DESCRIPTORS_APART).min(u64::from(u32::MAX)) as u32;
    match users_a_process {
        0 => Err(TeamError::LimitTooLow(descriptors)),
        fitting => Ok(users.div_ceil(fitting)),
    }
}

/// Splits users into consecutive parts of nearly the same size.
fn split(users: u32, parts: u32) -> Vec<Range<u32>> {
    let edge = |part: u32| (u64::from(users) * u64::from(part) / u64::from(parts)) as u32;
    let split: Vec<Range<u32>> = (0..parts).map(|part| edge(part)..edge(part + 1)).collect();
    assert!(split.last().is_none_or(|last| last.end == users), "all users are in a part");
    split
}

/// Where the workers of a run are: the machines taken for the run, and one part of the users for each process.
pub struct Sites {
    machines: Vec<Machine>,
    /// The users of each worker, and the number of its machine; `None` is this machine.
    parts: Vec<(Option<usize>, Range<u32>)>,
}

impl Sites {
    /// Takes the machines, and splits the users over as many processes as the descriptor limits require.
    pub async fn find(workforce: &Workforce, users: u32, run: u64) -> Result<Self, TeamError> {
        let here = raise_descriptor_limit()?;
        let mut machines = Vec::new();
        for address in workforce.machines.iter().take(users as usize) {
            machines.push(Machine::take(*address, &workforce.secret, run).await?);
        }
        let limits: Vec<u64> = machines.iter().map(|machine| machine.descriptors).collect();
        let parts = match limits.is_empty() {
            true => on_each(&[here], workforce.processes, users)?.into_iter().map(|(_, part)| (None, part)).collect(),
            false => {
                let parts = on_each(&limits, workforce.processes, users)?;
                parts.into_iter().map(|(machine, part)| (Some(machine), part)).collect()
            }
        };
        Ok(Self { machines, parts })
    }

    pub fn processes(&self) -> u32 {
        self.parts.len() as u32
    }

    /// The addresses from which the users connect. Prints a warning if a machine has too few ports for its part of the
    /// users.
    pub fn sources(&self, users: u32, server: SocketAddr, run: u64) -> Option<Sources> {
        let ports = sources::ports();
        let users_a_machine = users.div_ceil(self.machines.len().max(1) as u32);
        sources::warning(users_a_machine, server, ports).iter().for_each(|said| watch::note(said));
        // The run's number and the server's port select the addresses, so a run against the bare server, which has
        // another port, does not wait for ports of the run before.
        Sources::choose(users, server.ip(), ports, run ^ u64::from(server.port()) << 32)
    }

    pub fn parts(&self) -> impl Iterator<Item = Range<u32>> {
        self.parts.iter().map(|(_, part)| part.clone())
    }
}

/// Gives each machine nearly the same number of users, in at least `processes` processes on all machines together.
fn on_each(descriptors: &[u64], processes: Option<u32>, users: u32) -> Result<Vec<(usize, Range<u32>)>, TeamError> {
    let machines = descriptors.len() as u32;
    let wished = processes.unwrap_or(1).div_ceil(machines);
    let mut parts = Vec::new();
    for ((machine, limit), share) in descriptors.iter().enumerate().zip(split(users, machines)) {
        let own = share.end - share.start;
        let processes = processes_needed(own, *limit)?.max(wished).clamp(1, own.max(1));
        let of_machine = split(own, processes).into_iter();
        parts.extend(of_machine.map(|part| (machine, share.start + part.start..share.start + part.end)));
    }
    assert_eq!(parts.last().map_or(0, |(_, part)| part.end), users, "each user is in one process");
    Ok(parts)
}

/// The first orders of a run of rooms, one for each worker.
pub fn assignments(plan: &Plan, sites: &Sites) -> Vec<Order> {
    let sources = sites.sources(plan.users(), plan.target.server, u64::from(plan.run));
    let in_flight = plan.in_flight.div_ceil(sites.processes());
    let assign = |users| Order::SignIn(Assignment { plan: plan.clone(), users, in_flight, sources });
    sites.parts().map(assign).collect()
}

/// All workers of a run.
pub struct Team {
    workers: Vec<Worker>,
    machines: Vec<Machine>,
    /// The words of each worker; `None` when the worker's output has ended.
    words: mpsc::Receiver<(usize, Option<Word>)>,
    series: Series,
}

struct Worker {
    /// Its number, machine, process id and users, in words.
    name: String,
    /// The process, if it was started by this process.
    child: Option<Child>,
    /// The number of its machine, if it is on another one.
    machine: Option<usize>,
    orders: Box<dyn AsyncWrite + Unpin>,
    progress: Progress,
    /// Whether it has sent its last word. After that its process may end.
    finished: bool,
    /// How its process ended, if that was reported.
    status: Option<String>,
}

impl Team {
    /// Starts one worker for each part of the users, each with its first order. If there are several, prints who they
    /// are.
    pub async fn start(sites: Sites, orders: Vec<Order>) -> Result<Self, TeamError> {
        let (words_in, words) = mpsc::channel(WORDS_MAX);
        let Sites { machines, parts } = sites;
        assert_eq!(orders.len(), parts.len(), "each worker has one first order");
        let mut team = Self { workers: Vec::new(), machines, words, series: Series::default() };
        for (number, (machine, users)) in parts.into_iter().enumerate() {
            let worker = match machine {
                None => Worker::start(number, users, words_in.clone())
                    .map_err(|source| TeamError::Start { worker: number, source })?,
                Some(at) => Worker::start_on(&team.machines[at], at, number, users, words_in.clone()).await?,
            };
            team.workers.push(worker);
        }
        for (number, order) in orders.into_iter().enumerate() {
            team.order(number, &order).await?;
        }
        if team.len() > 1 {
            team.workers.iter().for_each(|worker| watch::note(&worker.name));
        }
        Ok(team)
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
        let writing = lines::write(&mut self.workers[number].orders, order);
        match tokio::time::timeout(SILENCE_MAX, writing).await {
            Ok(Ok(())) => Ok(()),
            // The worker's last word may give the reason; otherwise it died without a word.
            Ok(Err(_)) => Err(self.gone(number).await),
            Err(_) => Err(self.failed(number, format!("it takes no order for {} s", SILENCE_MAX.as_secs()))),
        }
    }

    /// Waits for one answer from each worker, and shows the progress if there is a display.
    pub async fn gather<T>(
        &mut self,
        mut watch: Option<&mut Watch>,
        wanted: impl Fn(Word) -> Option<T>,
    ) -> Result<Vec<T>, TeamError> {
        let mut answers = Vec::new();
        while answers.len() < self.len() {
            answers.extend(self.next_word(Instant::now() + LOOK_EVERY).await?.and_then(&wanted));
            if let Some(watch) = &mut watch {
                watch.show(&self.progress(), &self.series);
            }
        }
        Ok(answers)
    }

    /// Waits until every worker has completed a stage that has no results, and shows the progress.
    pub async fn complete(&mut self, watch: &mut Watch) -> Result<(), TeamError> {
        let completed = |word| matches!(word, Word::SignedIn | Word::Joined).then_some(());
        self.gather(Some(watch), completed).await.map(drop)
    }

    /// Shows the progress until that time of the run's clock, as long as `goes_on` allows it.
    pub async fn watch_until(
        &mut self,
        watch: &mut Watch,
        point_ns: u64,
        goes_on: impl Fn(&Progress) -> bool,
    ) -> Result<(), TeamError> {
        while clock::now_ns() < point_ns && goes_on(&self.progress()) {
            self.next_word(Instant::now() + clock::until(point_ns).min(LOOK_EVERY)).await?;
            watch.show(&self.progress(), &self.series);
        }
        Ok(())
    }

    /// The running totals of all workers, as far as they have reported.
    pub fn progress(&self) -> Progress {
        let mut sum = Progress::default();
        self.workers.iter().for_each(|worker| sum.add(&worker.progress));
        sum
    }

    /// The seconds that the workers have reported so far.
    pub fn series(&self) -> &Series {
        &self.series
    }

    /// The same, with what was seen of the server.
    pub fn series_with(&self, server_watch: Option<ServerWatch>) -> Series {
        let mut series = self.series.clone();
        series.merge(server_watch.map(ServerWatch::finish).unwrap_or_default());
        series
    }

    /// The next word of any worker that is not progress; `None` when the deadline passed or only progress came. Fails
    /// when Ctrl-C was pressed.
    pub async fn next_word(&mut self, deadline: Instant) -> Result<Option<Word>, TeamError> {
        if interrupt::is_asked() {
            return Err(TeamError::Stopped(self.progress()));
        }
        let Ok(heard) = tokio::time::timeout_at(deadline.into(), self.words.recv()).await else { return Ok(None) };
        let Some((number, word)) = heard else { return Err(self.gone(0).await) };
        let worker = &mut self.workers[number];
        match word {
            Some(Word::Progress(progress)) => worker.progress = progress,
            Some(Word::Second(second)) => self.series.add(*second),
            Some(Word::Failed { what }) => return Err(self.failed(number, what)),
            Some(Word::Ended { status }) => worker.status = Some(status),
            Some(word) => {
                worker.finished = word.is_last();
                return Ok(Some(word));
            }
            None if worker.finished => {}
            None => return Err(self.gone(number).await),
        }
        Ok(None)
    }

    fn failed(&self, worker: usize, what: String) -> TeamError {
        TeamError::Failed { worker: self.workers[worker].name.clone(), what }
    }

    /// Why a worker is gone: the reason in its last word, or else how its process ended.
    async fn gone(&mut self, worker: usize) -> TeamError {
        while let Ok((number, word)) = self.words.try_recv() {
            match word {
                Some(Word::Failed { what }) if number == worker => return self.failed(worker, what),
                Some(Word::Ended { status }) if number == worker => self.workers[worker].status = Some(status),
                _ => {}
            }
        }
        let Worker { child, status, name, .. } = &mut self.workers[worker];
        let status = match (child, status.take()) {
            (_, Some(status)) => status,
            (Some(child), None) => ended(child).await,
            (None, None) => "the connection to its machine has ended".to_owned(),
        };
        TeamError::Died { worker: name.clone(), status }
    }

    /// How far the times from two workers may disagree.
    pub async fn clock_margin_ns(&mut self) -> Result<u64, TeamError> {
        let mut uncertainties_ns = Vec::new();
        for machine in &mut self.machines {
            uncertainties_ns.push(machine.bearing().await?.uncertainty_ns);
        }
        Ok(comparison::margin_ns(uncertainties_ns))
    }

    /// Waits for the workers to end after their last word, and gives the machines back.
    pub async fn dismiss(mut self) -> Result<Vec<MachineFigures>, TeamError> {
        for child in self.workers.iter_mut().filter_map(|worker| worker.child.as_mut()) {
            ended(child).await;
        }
        let mut figures = Vec::new();
        for (number, machine) in std::mem::take(&mut self.machines).into_iter().enumerate() {
            let workers = self.workers.iter().filter(|worker| worker.machine == Some(number)).count();
            figures.push(machine.release(workers).await?);
        }
        Ok(figures)
    }
}

/// Waits a while for the child to end, and describes how it ended. A child that does not end is killed.
pub async fn ended(child: &mut Child) -> String {
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
        let Spawned { child, pid, orders, words: output } = spawn(0)?;
        tokio::spawn(hear(number, Lines::new(output, LINE_BYTES_MAX, Some(SILENCE_MAX)), words));
        let name = format!("worker {number} (pid {pid}, users {users:?})");
        Ok(Self::new(name, Some(child), None, Box::new(orders)))
    }

    async fn start_on(
        machine: &Machine,
        at: usize,
        number: usize,
        users: Range<u32>,
        words: mpsc::Sender<(usize, Option<Word>)>,
    ) -> Result<Self, TeamError> {
        let (pid, lines, orders) = machine.start_worker().await?;
        tokio::spawn(hear(number, lines, words));
        let name = format!("worker {number} ({}, pid {pid}, users {users:?})", machine.address);
        Ok(Self::new(name, None, Some(at), Box::new(orders)))
    }

    fn new(name: String, child: Option<Child>, machine: Option<usize>, orders: Box<dyn AsyncWrite + Unpin>) -> Self {
        Self { name, child, machine, orders, progress: Progress::default(), finished: false, status: None }
    }
}

/// A worker process that was just started on this machine.
pub struct Spawned {
    pub child: Child,
    pub pid: u32,
    pub orders: ChildStdin,
    pub words: ChildStdout,
}

/// Starts a worker process on this machine, for a coordinator whose clock is ahead of this machine's by the offset.
pub fn spawn(clock_offset_ns: i64) -> io::Result<Spawned> {
    let mut child = Command::new(std::env::current_exe()?)
        .arg("worker")
        .arg(format!("--clock-offset-ns={clock_offset_ns}"))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        // A group of its own: a terminal sends Ctrl-C to a whole group, and a worker that it ended would be a failure.
        .process_group(0)
        // When the coordinator fails, its workers are killed. When it dies, their standard input ends, and so do they.
        .kill_on_drop(true)
        .spawn()?;
    let pipes = child.stdin.take().zip(child.stdout.take()).zip(child.id());
    let ((orders, words), pid) = pipes.ok_or_else(|| io::Error::other("the new process has no pipes"))?;
    Ok(Spawned { child, pid, orders, words })
}

async fn hear<R: AsyncRead + Unpin>(number: usize, mut lines: Lines<R>, words: mpsc::Sender<(usize, Option<Word>)>) {
    loop {
        let word = match lines.next().await {
            Ok(None) => break,
            Ok(Some(line)) => serde_json::from_slice(line)
                .unwrap_or_else(|error| Word::Failed { what: format!("an unreadable word: {error}") }),
            Err(error) => Word::Failed { what: format!("it cannot be heard any more: {error}") },
        };
        let failed = matches!(word, Word::Failed { .. });
        if words.send((number, Some(word))).await.is_err() || failed {
            return;
        }
    }
    // The receiver is gone only when the run is over.
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
    fn machines_share_the_users_and_split_them_by_their_limits() {
        let check = |descriptors: &[u64], processes, users, expected: &[(usize, u32)]| {
            let parts = on_each(descriptors, processes, users).expect("limits high enough");
            let sizes: Vec<_> = parts.iter().map(|(machine, part)| (*machine, part.end - part.start)).collect();
            assert_eq!(sizes, expected, "{users} on {descriptors:?}");
            assert_eq!((parts[0].1.start, parts[parts.len() - 1].1.end), (0, users));
            assert!(parts.windows(2).all(|pair| pair[0].1.end == pair[1].1.start), "{parts:?}");
        };
        check(&[20_000], None, 20_000, &[(0, 10_000), (0, 10_000)]);
        check(&[20_000, 20_000], None, 20_000, &[(0, 10_000), (1, 10_000)]);
        check(&[10_000, 20_000], None, 20_001, &[(0, 5_000), (0, 5_000), (1, 10_001)]);
        check(&[20_000, 20_000], Some(3), 8, &[(0, 2), (0, 2), (1, 2), (1, 2)]);
        check(&[20_000, 20_000], Some(9), 3, &[(0, 1), (1, 1), (1, 1)]);
        assert!(on_each(&[20_000, 100], None, 10).is_err());
    }

    proptest::proptest! {
        #[test]
        fn each_user_is_in_one_process_that_has_room_for_it(
            limits in proptest::collection::vec(DESCRIPTORS_APART + 1..30_000, 1..5),
            processes in proptest::option::of(1_u32..20),
            users in 1_u32..50_000,
        ) {
            let parts = on_each(&limits, processes, users).expect("limits high enough");
            let mut next = 0;
            for (machine, part) in &parts {
                assert_eq!(part.start, next, "{parts:?}");
                next = part.end;
                let room = limits[*machine] - DESCRIPTORS_APART;
                assert!((part.len() as u64) <= room, "{} users on machine {machine}", part.len());
            }
            assert_eq!(next, users);
            let on = |machine: usize| {
                let parts = parts.iter().filter(|(of, _)| *of == machine);
                parts.map(|(_, part)| part.len() as u64).sum::<u64>()
            };
            let shares: Vec<u64> = (0..limits.len()).map(on).collect();
            assert!(shares.iter().max() <= shares.iter().min().map(|least| least + 1).as_ref(), "{shares:?}");
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
}
