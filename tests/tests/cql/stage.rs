//! A keyspace for one test, servers on it, and the health that they report.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tempfile::TempDir;
use tests::harness::cassandra::{Cassandra, Keyspace};
use tests::harness::{DEADLINE, Launch, Server, data_dir};

/// The longest time that a send or a request may wait for its answer, whatever the database does. `docs/scylla.md`
/// states it.
pub const ANSWER_DURATION_MAX: Duration = Duration::from_secs(10);
/// The time that a busy machine may add to that.
pub const BUSY_MACHINE: Duration = Duration::from_secs(5);

/// A keyspace, and a directory for the servers that use it.
pub struct Stage {
    pub keyspace: Keyspace,
    data: TempDir,
}

impl Stage {
    pub fn on(cluster: Arc<Cassandra>) -> Self {
        Self::with(cluster, &[])
    }

    /// The same, with these flags for the login.
    pub fn with(cluster: Arc<Cassandra>, login: &[String]) -> Self {
        Self { keyspace: Keyspace::with(cluster, login), data: data_dir() }
    }

    /// On the shared node.
    pub fn shared() -> Self {
        Self::on(Cassandra::shared())
    }

    /// A server that reaches the database at `nodes`.
    pub fn launch(&self, nodes: &str) -> Launch {
        Launch::on(self.data.path()).flag("--session-ttl", 3600).flags(self.keyspace.flags(nodes))
    }
}

/// Waits until `/healthcheck` answers with this status.
pub fn await_health(server: &Server, status: u16) {
    let deadline = Instant::now() + DEADLINE;
    loop {
        // Before the server listens, connections fail.
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

/// A free address, for a server that prints nothing before its database answers.
pub fn free_address() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    listener.local_addr().expect("a bound socket")
}

/// Asserts that a request that needs the database is answered in time, and that the answer says that the database is
/// unavailable.
pub fn assert_unavailable(server: &Server, method: &str, path: &str, authorization: &str, body: &Value) {
    let asked = Instant::now();
    let body = if body.is_null() { String::new() } else { body.to_string() };
    let answer = server.http().request(method, path, &[("Authorization", authorization)], body);
    assert_eq!(answer.status, 503, "{method} {path}: {}", answer.body);
    assert_eq!(answer.json()["code"], 14, "{method} {path}: {}", answer.body);
    assert!(asked.elapsed() < ANSWER_DURATION_MAX + BUSY_MACHINE, "{method} {path} took {:?}", asked.elapsed());
}

/// A request body that signs in the user of this name.
pub fn custom_id(name: &str) -> Value {
    json!({ "id": format!("custom-id-of-{name}") })
}
