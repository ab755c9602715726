//! How the servers and the helping processes of a run are started, and on which cores.

use std::fmt;
use std::io;
use std::path::PathBuf;
use std::process::{Child, Command};

use tempfile::TempDir;

use crate::cpu;
use crate::dialect::Persistence;

/// What one session and one user may ask of the server.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Budgets {
    /// What the server grants without options.
    Default,
    /// As much as they like, for this reason.
    Off(&'static str),
}

impl fmt::Display for Budgets {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Budgets::Default => write!(formatter, "The server has its default budgets of sessions and users."),
            Budgets::Off(reason) => write!(formatter, "The server's budgets of sessions and users are off: {reason}."),
        }
    }
}

/// How the servers of one run are started.
#[derive(Clone)]
pub struct Launch {
    /// The stentor binary.
    pub stentor: PathBuf,
    pub store: String,
    pub persistence: Persistence,
    pub shards: usize,
    pub server_cpus: Vec<usize>,
    /// The thread that starts servers runs on the first of them.
    pub client_cpus: Vec<usize>,
    pub budgets: Budgets,
    /// Further flags for Stentor.
    pub more: Vec<String>,
    /// Where data directories are made; by default in the system's directory for temporary files.
    pub data_in: Option<PathBuf>,
}

impl Launch {
    /// The core of the thread that measures.
    pub fn client_cpu(&self) -> usize {
        self.client_cpus[0]
    }

    /// A new data directory. It is removed with its content when it is dropped.
    pub fn data_directory(&self) -> io::Result<TempDir> {
        self.data_in.as_ref().map_or_else(TempDir::new, TempDir::new_in)
    }

    /// Starts a child process on these cores.
    pub fn spawn_on(&self, cpus: &[usize], command: &mut Command) -> io::Result<Child> {
        // A child process inherits the cores of the thread that starts it.
        cpu::pin_to(cpus)?;
        let child = command.spawn();
        cpu::pin_to(&[self.client_cpu()])?;
        child.map_err(|error| io::Error::other(format!("cannot start {command:?}: {error}")))
    }
}
