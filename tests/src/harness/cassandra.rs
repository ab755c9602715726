//! Real Apache Cassandra for tests, on loopback and with little memory: one node, or three nodes that each hold a copy
//! of everything.
//!
//! `check` has installed its artifacts. Data and logs are in a temporary directory. A node is killed by its process id
//! when it is dropped. If the test's process ends in any other way, the kernel kills the node.

mod cql;
mod keyspace;
mod node;

use std::collections::HashSet;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use parking_lot::Mutex;
use tempfile::TempDir;

use super::DEADLINE;
use super::ports::ReservedPort;

pub use cql::{Consistency, Cql, CqlError, Rows};
pub use keyspace::Keyspace;
pub use node::Node;

/// The longest start of a node: about five seconds on two quiet cores.
const START_DURATION_MAX: Duration = Duration::from_secs(90);

/// The environment variable with the address of the node that all tests share, `host:port`.
pub const SHARED_NODE: &str = "STENTOR_TEST_CQL";

/// A cluster of nodes. Dropping it kills them and removes their data.
pub struct Cassandra {
    nodes: Vec<Node>,
    _directory: Option<TempDir>,
    /// The reserved ports. Cassandra does not use the datagram ports that reserve them.
    _ports: Vec<ReservedPort>,
}

impl Cassandra {
    /// The one node that all tests share: the node that the environment names, or a node of this process, which ends
    /// with the last of its users.
    pub fn shared() -> Arc<Self> {
        if let Some(address) = std::env::var(SHARED_NODE).ok().filter(|address| !address.is_empty()) {
            let address = address.parse().unwrap_or_else(|error| panic!("{SHARED_NODE}={address}: {error}"));
            return Arc::new(Self { nodes: vec![Node::elsewhere(address)], _directory: None, _ports: Vec::new() });
        }
        // If a test fails to start the node, it panics while it holds this lock, and the next test tries again.
        static SHARED: Mutex<Weak<Cassandra>> = Mutex::new(Weak::new());
        let mut shared = SHARED.lock();
        shared.upgrade().unwrap_or_else(|| {
            let cluster = Arc::new(Self::start());
            *shared = Arc::downgrade(&cluster);
            cluster
        })
    }

    /// Starts a separate node and waits until it answers.
    pub fn start() -> Self {
        let cluster = Self::prepare(1);
        cluster.nodes[0].start();
        cluster
    }

    /// Starts a node that has on disk what it has acknowledged, as a node without replicas must.
    pub fn start_durable() -> Self {
        let cluster = Self::prepare(1);
        cluster.nodes[0].make_durable();
        cluster.nodes[0].start();
        cluster
    }

    /// Starts a node that requires a login and offers encryption. Also returns the file with its certificate.
    pub fn start_guarded() -> (Self, PathBuf) {
        let cluster = Self::prepare(1);
        let certificate = cluster.nodes[0].guard();
        cluster.nodes[0].start();
        (cluster, certificate)
    }

    /// Starts three nodes that know each other.
    pub fn start_three() -> Self {
        let cluster = Self::prepare(3);
        // The first node is the seed. Each of the others can choose its place in the ring only after the previous one
        // has.
        for node in &cluster.nodes {
            node.start();
        }
        cluster.await_all_replicas();
        cluster
    }

    fn prepare(nodes: u8) -> Self {
        let directory = tempfile::Builder::new().prefix("stentor-cassandra-").tempdir().expect("a temporary directory");
        let addresses: Vec<IpAddr> = (1..=nodes).map(|number| Ipv4Addr::new(127, 0, 0, number).into()).collect();
        // All nodes of a cluster use the same ports, each on its own address.
        let (cql, storage) = (ReservedPort::at(&addresses), ReservedPort::at(&addresses));
        let seed = SocketAddr::new(addresses[0], storage.number());
        let prepare = |address| Node::prepare(directory.path(), address, cql.number(), seed);
        let nodes = addresses.iter().copied().map(prepare).collect();
        Self { nodes, _directory: Some(directory), _ports: vec![cql, storage] }
    }

    /// The nodes in the order of their addresses, whether they run or not.
    pub fn nodes(&self) -> &[Node] {
        &self.nodes
    }

    /// The addresses of the nodes, in the form that the server's `--scylla` takes.
    pub fn contact_points(&self) -> String {
        let addresses: Vec<String> = self.nodes.iter().map(|node| node.address().to_string()).collect();
        addresses.join(",")
    }

    /// Executes a statement that changes the schema, and waits until every running node knows the change.
    pub fn change_schema(&self, statement: &str) {
        let mut connections: Vec<Cql> =
            self.nodes.iter().filter_map(|node| Cql::connect(node.address()).ok()).collect();
        let first = connections.first_mut().expect("a node answers");
        first.query(statement, Consistency::One).unwrap_or_else(|error| panic!("{statement}: {error}"));
        let deadline = Instant::now() + DEADLINE;
        loop {
            let version = "SELECT schema_version FROM system.local";
            let answers =
                connections.iter_mut().map(|cql| cql.query(version, Consistency::One).expect("a node answers"));
            let versions: HashSet<_> = answers.map(|answer| answer.rows).collect();
            if versions.len() == 1 {
                return;
            }
            assert!(Instant::now() < deadline, "the nodes do not agree after {statement}");
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// A name for a keyspace that no other test uses.
    pub fn unused_keyspace() -> String {
        static USED: AtomicU32 = AtomicU32::new(0);
        let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("a clock that is set").as_micros();
        format!("test_{now}_{}_{}", std::process::id(), USED.fetch_add(1, Ordering::Relaxed))
    }

    /// Waits until every node acknowledges a write, from the view of each node.
    fn await_all_replicas(&self) {
        let deadline = Instant::now() + START_DURATION_MAX;
        let keyspace = "CREATE KEYSPACE IF NOT EXISTS stentor_ready WITH replication = \
                        {'class': 'NetworkTopologyStrategy', 'replication_factor': 3}";
        let table = "CREATE TABLE IF NOT EXISTS stentor_ready.written (id int PRIMARY KEY)";
        let write = "INSERT INTO stentor_ready.written (id) VALUES (1)";
        for node in &self.nodes {
            loop {
                let answered = Cql::connect(node.address()).and_then(|mut cql| {
                    cql.query(keyspace, Consistency::One)?;
                    cql.query(table, Consistency::One)?;
                    cql.query(write, Consistency::All)
                });
                match answered {
                    Ok(_) => break,
                    Err(error) if Instant::now() > deadline => {
                        panic!("{} does not reach all replicas ({error}):\n{}", node.address(), node.log_tail())
                    }
                    Err(_) => std::thread::sleep(Duration::from_millis(100)),
                }
            }
        }
    }
}
