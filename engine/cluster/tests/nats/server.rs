//! Real servers of the bus, on loopback, which end with the test.

use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

/// Debian's server, and the newer one. `check` installs both.
pub fn programs() -> [PathBuf; 2] {
    let newer = concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/nats/target/bin/nats-server");
    let programs = ["/usr/sbin/nats-server", newer].map(PathBuf::from);
    for program in &programs {
        assert!(program.exists(), "there is no {}: run ./check, which installs it", program.display());
    }
    programs
}

/// A server on a port of its own, which it has again when it is started again.
pub struct Server {
    program: PathBuf,
    pub port: u16,
    configuration: PathBuf,
    child: Option<Child>,
}

impl Server {
    /// A server that runs, with these lines in its configuration.
    pub fn start(program: &Path, lines: &str) -> Self {
        let mut server = Self::prepare(program, lines);
        server.run();
        server
    }

    /// A server that does not run yet.
    pub fn prepare(program: &Path, lines: &str) -> Self {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let port = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))
            .and_then(|listener| listener.local_addr())
            .expect("a free port")
            .port();
        let name = format!("stentor-nats-{}-{}.conf", std::process::id(), NUMBER.fetch_add(1, Ordering::Relaxed));
        let configuration = std::env::temp_dir().join(name);
        std::fs::write(&configuration, format!("listen: \"127.0.0.1:{port}\"\n{lines}\n")).expect("a file");
        Self { program: program.to_path_buf(), port, configuration, child: None }
    }

    pub fn url(&self) -> String {
        format!("nats://127.0.0.1:{}", self.port)
    }

    /// Starts the server, and waits until it listens.
    pub fn run(&mut self) {
        let mut command = Command::new(&self.program);
        command.arg("-c").arg(&self.configuration).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        self.child = Some(command.spawn().expect("the server starts"));
        let begun = Instant::now();
        while TcpStream::connect((Ipv4Addr::LOCALHOST, self.port)).is_err() {
            assert!(begun.elapsed() < Duration::from_secs(20), "the server listens");
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// Sends the server a signal by its id.
    pub fn signal(&self, name: &str) {
        let child = self.child.as_ref().expect("the server runs");
        let status = Command::new("kill").arg(format!("-{name}")).arg(child.id().to_string()).status();
        assert!(status.expect("kill runs").success());
    }

    pub fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            child.kill().expect("the server runs");
            child.wait().expect("the server ends");
        }
    }
}

/// A certificate for 127.0.0.1 that vouches for itself, and its key, in files that end with this.
pub struct Certificate {
    pub certificate: PathBuf,
    key: PathBuf,
}

impl Certificate {
    pub fn make(name: &str) -> Self {
        let path = |ending| std::env::temp_dir().join(format!("stentor-nats-{}-{name}.{ending}", std::process::id()));
        let made = Self { certificate: path("pem"), key: path("key") };
        let mut command = Command::new("openssl");
        command.args(["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]);
        command.args(["-days", "2", "-subj", "/CN=bus", "-addext", "subjectAltName=IP:127.0.0.1"]);
        command.args(["-addext", "basicConstraints=critical,CA:FALSE"]);
        command.arg("-keyout").arg(&made.key).arg("-out").arg(&made.certificate);
        let output = command.stdin(Stdio::null()).output().expect("openssl runs: `./check` installs it");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        made
    }

    /// The lines that give it to a server.
    pub fn lines(&self) -> String {
        format!("tls {{ cert_file: {:?}, key_file: {:?} }}", self.certificate, self.key)
    }
}

impl Drop for Certificate {
    fn drop(&mut self) {
        let _ = (std::fs::remove_file(&self.certificate), std::fs::remove_file(&self.key));
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.kill();
        let _ = std::fs::remove_file(&self.configuration);
    }
}
