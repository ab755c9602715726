//! Processes beside the measuring one: the servers, and this program in other roles. They are killed when they are
//! dropped. With this program in another role, lines of JSON are exchanged: its options and further orders go to its
//! standard input, answers come from its standard output.

use std::io::{self, BufRead, BufReader, Write};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, TryRecvError};
use std::time::Duration;

use rustix::process::{Signal, set_parent_process_death_signal};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::launch::Launch;

/// A companion that is silent for longer than this, beyond the time that its work takes, is stuck.
const SILENCE_MAX: Duration = Duration::from_secs(150);

pub struct Companion {
    child: Child,
    lines: Receiver<String>,
}

impl Companion {
    /// Starts this program in another role, on these cores. It reads `options` as its first order.
    pub fn start(role: &str, options: &impl Serialize, launch: &Launch, cpus: &[usize]) -> io::Result<Companion> {
        let mut command = Command::new(std::env::current_exe()?);
        command.arg(role);
        let mut companion = Companion::spawn(command, launch, cpus)?;
        companion.tell(options)?;
        Ok(companion)
    }

    /// Starts a process on these cores. A thread reads all lines that it prints, so that it never blocks on its output.
    pub fn spawn(mut command: Command, launch: &Launch, cpus: &[usize]) -> io::Result<Companion> {
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = launch.spawn_on(cpus, &mut command)?;
        let output = child.stdout.take().ok_or_else(|| io::Error::other("a child process has no standard output"))?;
        let (said, lines) = mpsc::channel();
        std::thread::spawn(move || {
            for line in BufReader::new(output).lines().map_while(Result::ok) {
                // If the `Companion` has been dropped, no thread hears the line.
                let _ = said.send(line);
            }
        });
        Ok(Companion { child, lines })
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    pub fn tell(&mut self, order: &impl Serialize) -> io::Result<()> {
        let input = self.child.stdin.as_mut().ok_or_else(|| io::Error::other("a child process has no input"))?;
        writeln!(input, "{}", serde_json::to_string(order)?)
    }

    /// Waits for the next line.
    pub fn line(&self, patience: Duration) -> io::Result<String> {
        self.lines.recv_timeout(patience).map_err(|error| match error {
            RecvTimeoutError::Timeout => io::Error::other(format!("said nothing for {patience:?}")),
            RecvTimeoutError::Disconnected => ended_early(),
        })
    }

    /// Waits for the next answer, which takes `work` to find.
    pub fn hear<T: DeserializeOwned>(&self, work: Duration) -> io::Result<T> {
        understand(&self.line(work + SILENCE_MAX)?)
    }

    /// The next answer, if it has come.
    pub fn heard<T: DeserializeOwned>(&self) -> io::Result<Option<T>> {
        match self.lines.try_recv() {
            Ok(line) => understand(&line).map(Some),
            Err(TryRecvError::Empty) => Ok(None),
            Err(TryRecvError::Disconnected) => Err(ended_early()),
        }
    }
}

impl Drop for Companion {
    fn drop(&mut self) {
        // A measured server has nothing to save. It may already have ended, and a killed process ends at once.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn ended_early() -> io::Error {
    io::Error::other("a child process ended early; see above")
}

fn understand<T: DeserializeOwned>(line: &str) -> io::Result<T> {
    serde_json::from_str(line).map_err(|_| io::Error::other(format!("a child process said: {line}")))
}

/// In a companion: its options. It ends with the process that started it, even if it is stopped at that time.
pub fn options<T: DeserializeOwned>() -> io::Result<T> {
    set_parent_process_death_signal(Some(Signal::KILL))?;
    next_order()?.ok_or_else(|| io::Error::other("no options came"))
}

/// In a companion: sends an answer to the process that started it.
pub fn answer(answer: &impl Serialize) -> io::Result<()> {
    let mut output = io::stdout();
    writeln!(output, "{}", serde_json::to_string(answer)?)?;
    output.flush()
}

/// In a companion: waits for the next order. Returns `None` when the process that started it has ended.
pub fn next_order<T: DeserializeOwned>() -> io::Result<Option<T>> {
    let mut line = String::new();
    match io::stdin().read_line(&mut line)? {
        0 => Ok(None),
        _ => Ok(Some(serde_json::from_str(&line)?)),
    }
}

/// In a companion that also does other work: a channel with the orders as they come, until the process that gives them
/// has ended.
pub fn orders<T: DeserializeOwned + Send + 'static>() -> Receiver<T> {
    let (order, orders) = mpsc::channel();
    std::thread::spawn(move || {
        while let Ok(Some(next)) = next_order() {
            if order.send(next).is_err() {
                return;
            }
        }
    });
    orders
}
