//! Client processes beside the measuring one. Each runs this program again, and the two exchange lines of JSON: orders
//! go to the companion's standard input, answers come from its standard output.

use std::io::{self, BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, TryRecvError};
use std::time::Duration;

use rustix::process::{Signal, set_parent_process_death_signal};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::cpu;
use crate::server::Launch;

/// A companion that is silent for longer than this is stuck.
const SILENCE_MAX: Duration = Duration::from_secs(150);

pub struct Companion {
    child: Child,
    input: ChildStdin,
    lines: Receiver<String>,
}

impl Companion {
    /// Starts this program with other arguments, on these cores.
    pub fn start(arguments: &[String], launch: &Launch, cpus: &[usize]) -> io::Result<Companion> {
        let mut command = Command::new(std::env::current_exe()?);
        command.args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = launch.spawn_on(cpus, &mut command)?;
        let (Some(input), Some(output)) = (child.stdin.take(), child.stdout.take()) else {
            return Err(io::Error::other("a client process has no standard streams"));
        };
        let (said, lines) = mpsc::channel();
        std::thread::spawn(move || {
            for line in BufReader::new(output).lines().map_while(Result::ok) {
                // If the `Companion` has been dropped, no thread reads its answers.
                let _ = said.send(line);
            }
        });
        Ok(Companion { child, input, lines })
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    pub fn tell(&mut self, order: &impl Serialize) -> io::Result<()> {
        writeln!(self.input, "{}", serde_json::to_string(order)?)
    }

    /// Waits for the next answer.
    pub fn hear<T: DeserializeOwned>(&mut self) -> io::Result<T> {
        let line = self.lines.recv_timeout(SILENCE_MAX).map_err(|error| match error {
            RecvTimeoutError::Timeout => io::Error::other(format!("a client process said nothing for {SILENCE_MAX:?}")),
            RecvTimeoutError::Disconnected => ended_early(),
        })?;
        understand(&line)
    }

    /// The next answer, if it has come.
    pub fn heard<T: DeserializeOwned>(&mut self) -> io::Result<Option<T>> {
        match self.lines.try_recv() {
            Ok(line) => understand(&line).map(Some),
            Err(TryRecvError::Empty) => Ok(None),
            Err(TryRecvError::Disconnected) => Err(ended_early()),
        }
    }
}

impl Drop for Companion {
    fn drop(&mut self) {
        cpu::kill(self.child.id());
        // The process was just killed, so this returns.
        let _ = self.child.wait();
    }
}

fn ended_early() -> io::Error {
    io::Error::other("a client process ended early; see above")
}

fn understand<T: DeserializeOwned>(line: &str) -> io::Result<T> {
    serde_json::from_str(line).map_err(|_| io::Error::other(format!("a client process said: {line}")))
}

/// In a companion: makes it end with the process that started it, even if the companion is stopped at that time.
pub fn end_with_parent() -> io::Result<()> {
    Ok(set_parent_process_death_signal(Some(Signal::KILL))?)
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
