//! The database's node, started by the same program that starts one for the tests, and its keyspaces.

use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

use crate::failure::Failure;
use crate::launch::Launch;
use crate::server;

/// The environment variable with the address of a running node, `host:port`.
const NODE: &str = "STENTOR_TEST_CQL";

/// One node, and the keyspaces that the bench makes on it.
pub struct Database {
    pub node: String,
    keyspaces: AtomicU32,
}

impl Database {
    /// The node that the environment names, if there is one.
    pub fn of_environment() -> Result<Option<Self>, Failure> {
        let node = std::env::var(NODE).ok().filter(|node| !node.is_empty());
        Ok(node.map(|node| Self { node, keyspaces: AtomicU32::new(0) }))
    }

    /// A new keyspace with the server's tables.
    pub fn new_keyspace(&self, launch: &Launch) -> Result<String, Failure> {
        let number = self.keyspaces.fetch_add(1, Ordering::Relaxed);
        let keyspace = format!("bench_{}_{number}", std::process::id());
        let mut command = Command::new(&launch.stentor);
        command.args(["schema", "--apply", "--replication", "1"]).args(self.flags(&keyspace)).stdout(Stdio::null());
        let made = command.status()?;
        if !made.success() {
            return Err(Failure::Faulty(format!("the tables could not be made: {made}")));
        }
        Ok(keyspace)
    }

    /// The launch of a server on a new keyspace.
    pub fn launch(&self, launch: &Launch) -> Result<Launch, Failure> {
        let more = self.flags(&self.new_keyspace(launch)?).into();
        Ok(Launch { store: "scylla".into(), more, ..launch.clone() })
    }

    fn flags(&self, keyspace: &str) -> [String; 4] {
        ["--scylla", &self.node, "--keyspace", keyspace].map(str::to_owned)
    }
}

/// Runs this program again with the same arguments, beside a node on these cores. The node ends with that program.
pub fn again_beside_a_node(with_cassandra: Option<&Path>, cpus: &[usize]) -> Result<(), Failure> {
    let program = match with_cassandra {
        Some(path) => path.to_owned(),
        None => server::build("tests", "with-cassandra")?,
    };
    let mut command = Command::new(program);
    let cpus: Vec<_> = cpus.iter().map(usize::to_string).collect();
    command
        .args(["--durable", "--cpus", &cpus.join(",")])
        .arg(std::env::current_exe()?)
        .args(std::env::args_os().skip(1));
    match command.status()? {
        status if status.success() => Ok(()),
        status => Err(Failure::Faulty(format!("the run beside it failed: {status}"))),
    }
}
