//! Prometheus from Debian, which reads a server's numbers with the configuration and the rules in `deploy/prometheus`,
//! and `promtool`, which judges texts that Prometheus reads.

use std::fs;
use std::io::Write;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;
use tempfile::TempDir;

use super::ports::ReservedPort;
use super::process::Process;
use super::{DEADLINE, Http};

/// The files for operators.
pub fn deployed(file: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the workspace is above this crate").join("deploy").join(file)
}

/// Runs `promtool` with this text as its standard input.
pub fn promtool(arguments: &[&str], input: &str) -> Output {
    let mut command = Command::new("promtool");
    command.args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().expect("promtool is installed");
    child.stdin.take().expect("it is piped").write_all(input.as_bytes()).expect("promtool reads all");
    child.wait_with_output().expect("promtool ends")
}

/// A running Prometheus. Dropping it kills it.
pub struct Prometheus {
    process: Process,
    http: Http,
    _directory: TempDir,
    _port: ReservedPort,
}

impl Prometheus {
    /// Starts Prometheus, which asks this address of a server for numbers every second.
    pub fn before(server: SocketAddr) -> Self {
        let directory =
            tempfile::Builder::new().prefix("stentor-prometheus-").tempdir().expect("a temporary directory");
        let config = fs::read_to_string(deployed("prometheus/prometheus.yml")).expect("the file is in the tree");
        let (asked, often) = (config.replace("127.0.0.1:7351", &server.to_string()), "scrape_interval: 1s");
        assert_ne!(asked, config, "the file names the server's usual address");
        let config =
            asked.replace("scrape_interval: 15s", often).replace("evaluation_interval: 15s", "evaluation_interval: 1s");
        assert!(config.contains(often), "{config}");
        fs::write(directory.path().join("prometheus.yml"), config).expect("our own directory");
        fs::copy(deployed("prometheus/stentor.rules.yml"), directory.path().join("stentor.rules.yml"))
            .expect("our own directory");
        let loopback = IpAddr::V4(Ipv4Addr::LOCALHOST);
        let port = ReservedPort::at(&[loopback]);
        let address = SocketAddr::new(loopback, port.number());
        let mut command = Process::command("prometheus");
        command
            .arg(format!("--config.file={}", directory.path().join("prometheus.yml").display()))
            .arg(format!("--storage.tsdb.path={}", directory.path().join("data").display()))
            .arg(format!("--web.listen-address={address}"))
            .args(["--log.level=error"]);
        Self { process: Process::start(command), http: Http::new(address), _directory: directory, _port: port }
    }

    /// Asks the API until the answer satisfies `is_good`. Returns the part of it that has the data.
    pub fn wait_for(&self, path: &str, is_good: impl Fn(&Value) -> bool) -> Value {
        let begun = Instant::now();
        loop {
            let answer = self.http.try_request("GET", path, &[], "").ok().map(|answer| answer.body);
            let data = answer.as_deref().and_then(|body| serde_json::from_str::<Value>(body).ok());
            match data.as_ref().map(|answer| &answer["data"]) {
                Some(data) if is_good(data) => return data.clone(),
                _ => assert!(begun.elapsed() < DEADLINE, "{path} is answered by {answer:?}"),
            }
            std::thread::sleep(Duration::from_millis(200));
        }
    }
}

impl Drop for Prometheus {
    fn drop(&mut self) {
        self.process.end();
    }
}
