//! Where the work of a run is done: in how many processes, on this machine or on others.

use std::net::{IpAddr, SocketAddr, ToSocketAddrs};
use std::num::NonZeroU32;

use clap::Args;
use serde::Serialize;
use thiserror::Error;

use crate::base::addresses;
use crate::team::introduction::Secret;

/// The environment variable for the secret, so that no list of processes shows it.
pub const SECRET_VARIABLE: &str = "LOADGEN_SECRET";

/// A port to propose for workers that listen. They have no usual one.
const WORKER_PORT: u16 = 7400;

#[derive(Args, Clone)]
pub struct WorkforceArguments {
    /// The number of processes for the users [default: as few as the limit of file descriptors allows]
    #[arg(long, value_name = "N")]
    processes: Option<NonZeroU32>,
    /// Run the users on these machines instead of this one; on each, `loadgen worker --listen` must be running
    #[arg(long, value_name = "HOST:PORT,...", value_delimiter = ',')]
    workers: Vec<String>,
    /// The secret that was given to these workers
    #[arg(long, value_name = "TEXT", env = SECRET_VARIABLE, hide_env_values = true)]
    secret: Option<String>,
}

#[derive(Debug, Error)]
pub enum WorkforceError {
    #[error("--workers {name}: {reason}")]
    NoAddress { name: String, reason: String },
    #[error("--workers names {0} twice: name each machine once, as a worker starts as many processes as it needs")]
    Twice(SocketAddr),
    #[error(
        "--addr {server} means another server on {worker}, which is not this machine: give an address that is the \
         server's on all machines"
    )]
    ServerElsewhere { server: SocketAddr, worker: SocketAddr },
}

/// The processes and machines of a run.
#[derive(Clone, Default, Serialize)]
pub struct Workforce {
    /// The least number of processes, on all machines together.
    pub processes: Option<u32>,
    /// If empty, this machine does the work.
    pub machines: Vec<SocketAddr>,
    #[serde(skip)]
    pub secret: Secret,
}

impl std::fmt::Debug for Workforce {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { processes, machines, secret: _ } = self;
        f.debug_struct("Workforce").field("processes", processes).field("machines", machines).finish_non_exhaustive()
    }
}

impl TryFrom<WorkforceArguments> for Workforce {
    type Error = WorkforceError;

    fn try_from(raw: WorkforceArguments) -> Result<Self, WorkforceError> {
        let mut machines: Vec<SocketAddr> = Vec::new();
        for name in &raw.workers {
            let machine = resolve(name)?;
            if machines.contains(&machine) {
                return Err(WorkforceError::Twice(machine));
            }
            machines.push(machine);
        }
        let processes = raw.processes.map(NonZeroU32::get);
        Ok(Self { processes, machines, secret: Secret::new(raw.secret) })
    }
}

impl Workforce {
    /// Whether the server's address means the same server on every machine.
    pub fn can_reach(&self, server: SocketAddr) -> Result<(), WorkforceError> {
        let far = |machine: &&SocketAddr| server.ip().is_loopback() && !machine.ip().is_loopback();
        match self.machines.iter().find(far) {
            Some(worker) => Err(WorkforceError::ServerElsewhere { server, worker: *worker }),
            None => Ok(()),
        }
    }
}

fn resolve(name: &str) -> Result<SocketAddr, WorkforceError> {
    let refuse = |reason: String| WorkforceError::NoAddress { name: name.to_owned(), reason };
    if let Some(reason) = addresses::missing_port(name, WORKER_PORT) {
        return Err(refuse(reason));
    }
    let found = name.to_socket_addrs().map_err(|error| refuse(error.to_string()))?;
    // A name may have IPv4 and IPv6 addresses. Most workers listen on IPv4.
    let mut found: Vec<SocketAddr> = found.collect();
    found.sort_by_key(|address| matches!(address.ip(), IpAddr::V6(_)));
    found.into_iter().next().ok_or_else(|| refuse("no such host".to_owned()))
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        workforce: WorkforceArguments,
    }

    fn parse(line: &str) -> Result<Workforce, String> {
        let line = Line::try_parse_from(line.split_whitespace()).map_err(|error| error.to_string())?;
        Workforce::try_from(line.workforce).map_err(|error| error.to_string())
    }

    #[test]
    fn machines_are_listed_and_refusals_say_what_to_do() {
        let workforce = parse("loadgen --workers 127.0.0.1:1,127.0.0.2:2 --processes 3").expect("a valid line");
        assert_eq!((workforce.processes, workforce.machines.len()), (Some(3), 2));
        assert!(parse("loadgen").is_ok_and(|workforce| workforce.machines.is_empty()));
        for (line, named) in [
            ("loadgen --workers nowhere", "nowhere"),
            ("loadgen --workers 127.0.0.1", "the port is missing"),
            ("loadgen --workers 127.0.0.1:1,192.0.2.1", "--workers 192.0.2.1: the port is missing"),
            ("loadgen --workers 127.0.0.1:1,127.0.0.1:1", "twice"),
            ("loadgen --processes 0", "--processes"),
        ] {
            let refusal = parse(line).err().unwrap_or_else(|| panic!("{line} is refused"));
            assert!(refusal.contains(named), "{line}: {refusal}");
        }
    }

    #[test]
    fn a_server_on_loopback_is_one_for_workers_on_loopback_only() {
        let check = |workers: &str, server: &str, reachable| {
            let workforce = parse(&format!("loadgen --workers {workers}")).expect("a valid line");
            let server = server.parse().expect("an address");
            assert_eq!(workforce.can_reach(server).is_ok(), reachable, "{workers} and {server}");
        };
        check("127.0.0.1:1", "127.0.0.1:7350", true);
        check("127.0.0.1:1,192.0.2.1:1", "127.0.0.1:7350", false);
        check("127.0.0.1:1,192.0.2.1:1", "192.0.2.2:7350", true);
    }

    #[test]
    fn the_secret_is_shown_nowhere() {
        let workforce = parse("loadgen --workers 127.0.0.1:1 --secret hush").expect("a valid line");
        assert!(!format!("{workforce:?}").contains("hush"));
        assert!(!serde_json::to_string(&workforce).expect("text").contains("hush"));
    }
}
