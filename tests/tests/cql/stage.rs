//! A keyspace of a test's own, servers on it, and what they say of their health.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tempfile::TempDir;
use tests::harness::cassandra::{Cassandra, Keyspace};
use tests::harness::{DEADLINE, Launch, Server, data_dir};

/// The longest that a send or a request may wait for its answer, whatever the database does: `docs/scylla.md` states it.
pub const ANSWER_DURATION_MAX: Duration = Duration::from_secs(10);
/// What a machine that does much else may add to that.
pub const BUSY_MACHINE: Duration = Duration::from_secs(5);

/// A keyspace, and a directory for the servers on it.
pub struct Stage {
    pub keyspace: Keyspace,
    data: TempDir,
}

impl Stage {
    pub fn on(cluster: Arc<Cassandra>) -> Self {
        Self::with(cluster, &[])
    }

    /// The same, and these flags are needed to get in.
    pub fn with(cluster: Arc<Cassandra>, login: &[String]) -> Self {
        Self { keyspace: Keyspace::with(cluster, login), data: data_dir() }
    }

    /// On the shared node.
    pub fn shared() -> Self {
        Self::on(Cassandra::shared())
    }

    /// A server that reaches the nodes there.
    pub fn launch(&self, nodes: &str) -> Launch {
        Launch::on(self.data.path()).flag("--session-ttl", 3600).flags(self.keyspace.flags(nodes))
    }
}

/// Waits until `/healthcheck` says so.
pub fn await_health(server: &Server, status: u16) {
    let deadline = Instant::now() + DEADLINE;
    loop {
        // Before it listens there is nobody to answer.
        let answered = health(server.address());
        if answered.as_ref().is_ok_and(|&answered| answered == status) {
            return;
        }
        assert!(Instant::now() < deadline, "/healthcheck says {answered:?}, and not {status}:\n{}", server.output());
        std::thread::sleep(Duration::from_millis(50));
    }
}

fn health(address: SocketAddr) -> io::Result<u16> {
    let mut stream = TcpStream::connect(address)?;
    stream.set_read_timeout(Some(DEADLINE))?;
    stream.write_all(b"GET /healthcheck HTTP/1.1\r\nHost: stentor\r\nConnection: close\r\n\r\n")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    let status = answer.split(' ').nth(1).and_then(|status| status.parse().ok());
    status.ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, answer))
}

/// An address where nobody listens, for a server that will say nothing before its database answers.
pub fn free_address() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    listener.local_addr().expect("a bound socket")
}

/// Asserts that a request which needs the database says that there is none, and in time.
pub fn assert_unavailable(server: &Server, method: &str, path: &str, authorization: &str, body: &Value) {
    let asked = Instant::now();
    let body = if body.is_null() { String::new() } else { body.to_string() };
    let answer = server.http().request(method, path, &[("Authorization", authorization)], body);
    assert_eq!(answer.status, 503, "{method} {path}: {}", answer.body);
    assert_eq!(answer.json()["code"], 14, "{method} {path}: {}", answer.body);
    assert!(asked.elapsed() < ANSWER_DURATION_MAX + BUSY_MACHINE, "{method} {path} took {:?}", asked.elapsed());
}

/// A body that signs somebody in.
pub fn custom_id(name: &str) -> Value {
    json!({ "id": format!("custom-id-of-{name}") })
}
