//! One node: a Java process that is started, stopped, killed and frozen by its process id.

use std::fs::{self, File};
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use rustix::process::{Pid, Signal, kill_process};

use super::super::process::Process;
use super::super::server::{resident_kib, wait};
use super::{Consistency, Cql, START_DURATION_MAX};

/// The longest time for an orderly stop: the node drains, then waits for a little more than five seconds.
const STOP_DURATION_MAX: Duration = Duration::from_secs(30);
const LOG_TAIL_BYTES: usize = 6_000;

/// The configuration that all nodes share.
const COMMON_CONFIGURATION: &str = include_str!("../../../cassandra/cassandra.yaml");

/// A node, running or not. Its data stays until its cluster is dropped.
pub struct Node {
    address: SocketAddr,
    directory: PathBuf,
    process: Mutex<Option<Process>>,
}

impl Node {
    /// Writes the node's configuration.
    pub(super) fn prepare(cluster: &Path, address: IpAddr, cql_port: u16, seed: SocketAddr) -> Self {
        let directory = cluster.join(address.to_string());
        fs::create_dir_all(directory.join("data")).expect("a directory for the node");
        let configuration = format!(
            "{COMMON_CONFIGURATION}\
             listen_address: {address}\n\
             rpc_address: {address}\n\
             storage_port: {storage_port}\n\
             native_transport_port: {cql_port}\n\
             seed_provider:\n\
             \x20 - class_name: org.apache.cassandra.locator.SimpleSeedProvider\n\
             \x20   parameters: [{{seeds: \"{seed}\"}}]\n",
            storage_port = seed.port(),
        );
        fs::write(directory.join("cassandra.yaml"), configuration).expect("our own directory");
        Self { address: SocketAddr::new(address, cql_port), directory, process: Mutex::new(None) }
    }

    /// A node that another program has started. It can only be queried.
    pub(super) fn elsewhere(address: SocketAddr) -> Self {
        Self { address, directory: PathBuf::new(), process: Mutex::new(None) }
    }

    /// Makes the node require a login, and offer encryption beside plain connections. Returns the file with its
    /// certificate.
    pub(super) fn guard(&self) -> PathBuf {
        let (keys, certificate) = (self.directory.join("keys.p12"), self.directory.join("certificate.pem"));
        let address = self.address.ip();
        let store = ["-alias", "node", "-storetype", "PKCS12", "-storepass", "guarded"];
        let keytool = |arguments: &[&str], file: &Path| {
            let mut command = Command::new("keytool");
            command.args(arguments).args(store).arg("-keystore").arg(&keys).current_dir(&self.directory);
            if file != keys {
                command.arg("-file").arg(file);
            }
            let done = command.output().expect("`keytool` comes with Java");
            assert!(done.status.success(), "{done:?}");
        };
        let (name, alternative) = (format!("CN={address}"), format!("SAN=IP:{address}"));
        let pair = ["-genkeypair", "-keyalg", "EC", "-validity", "2", "-dname", &name, "-ext", &alternative];
        keytool(&pair, &keys);
        keytool(&["-exportcert", "-rfc"], &certificate);
        let more = format!(
            "authenticator: PasswordAuthenticator\n\
             authorizer: CassandraAuthorizer\n\
             client_encryption_options:\n\
             \x20 enabled: true\n\
             \x20 optional: true\n\
             \x20 keystore: {}\n\
             \x20 keystore_password: guarded\n",
            keys.display()
        );
        self.configure(|before| before + &more);
        certificate
    }

    /// Makes the node sync its commit log before it acknowledges a write. By default even a kill loses the last tenth
    /// of a second.
    pub(super) fn make_durable(&self) {
        let (default, durable) = (
            "commitlog_sync: periodic\ncommitlog_sync_period: 10000ms\n",
            "commitlog_sync: group\ncommitlog_sync_group_window: 2ms\n",
        );
        assert!(COMMON_CONFIGURATION.contains(default), "what is to be replaced is there");
        self.configure(|before| before.replace(default, durable));
    }

    fn configure(&self, change: impl FnOnce(String) -> String) {
        let configuration = self.directory.join("cassandra.yaml");
        let before = fs::read_to_string(&configuration).expect("our own file");
        fs::write(&configuration, change(before)).expect("our own file");
    }

    /// The address at which the node speaks CQL.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Starts the node, for the first time or on the data it has stored before, and waits until it answers.
    pub fn start(&self) {
        let mut process = self.process.lock();
        assert!(process.is_none(), "{} runs already", self.address);
        let process = process.insert(Process::start(self.command()));
        let deadline = Instant::now() + START_DURATION_MAX;
        loop {
            let release = "SELECT release_version FROM system.local";
            let answered = Cql::connect(self.address).and_then(|mut cql| cql.query(release, Consistency::One));
            let Err(error) = answered else { return };
            let ended = process.child.try_wait().expect("our own child");
            if ended.is_some() || Instant::now() > deadline {
                panic!("Cassandra at {} did not start ({error}, {ended:?}):\n{}", self.address, self.log_tail());
            }
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// Sends SIGTERM: the node drains and ends. Sends SIGKILL if that takes too long.
    pub fn stop(&self) {
        let Some(mut process) = self.process.lock().take() else { return };
        let _ = kill_process(Pid::from_child(&process.child), Signal::TERM);
        if wait(&mut process.child, STOP_DURATION_MAX).is_none() {
            process.end();
        }
    }

    /// Sends SIGKILL and waits for the end of the process.
    pub fn kill(&self) {
        if let Some(mut process) = self.process.lock().take() {
            process.end();
        }
    }

    /// Sends SIGSTOP: connections stay open, and no request is answered.
    pub fn freeze(&self) {
        self.signal(Signal::STOP);
    }

    /// Sends SIGCONT: the node continues.
    pub fn thaw(&self) {
        self.signal(Signal::CONT);
    }

    /// A CQL connection to this node.
    pub fn cql(&self) -> Cql {
        Cql::connect(self.address).unwrap_or_else(|error| panic!("{}: {error}\n{}", self.address, self.log_tail()))
    }

    /// The end of the node's output.
    pub fn log_tail(&self) -> String {
        let said = fs::read(self.directory.join("log")).unwrap_or_default();
        String::from_utf8_lossy(&said[said.len().saturating_sub(LOG_TAIL_BYTES)..]).into_owned()
    }

    /// Resident memory in KiB.
    pub fn resident_kib(&self) -> usize {
        resident_kib(self.process.lock().as_ref().expect("the node runs").child.id())
    }

    fn signal(&self, signal: Signal) {
        let process = self.process.lock();
        kill_process(Pid::from_child(&process.as_ref().expect("the node runs").child), signal).expect("it runs");
    }

    fn command(&self) -> Command {
        let place = Path::new(env!("CARGO_MANIFEST_DIR")).join("cassandra");
        let jars = place.join("target/dependency");
        let names = fs::read_dir(&jars).into_iter().flatten().flatten().map(|entry| entry.path());
        let is_agent = |path: &PathBuf| path.file_name().is_some_and(|n| n.to_string_lossy().starts_with("jamm-"));
        let agent = names.into_iter().find(is_agent).unwrap_or_else(|| {
            panic!("Cassandra is not in {}: `./check` fetches it (it needs Java 17 and Maven)", jars.display())
        });
        let log = File::options().create(true).append(true).open(self.directory.join("log")).expect("our own file");
        let mut command = Process::command("java");
        command.arg(format!("@{}", place.join("jvm.options").display()));
        command.arg(format!("-javaagent:{}", agent.display()));
        command.arg(format!("-Dlogback.configurationFile={}", place.join("logback.xml").display()));
        command.arg(format!("-Dcassandra.config=file://{}", self.directory.join("cassandra.yaml").display()));
        command.arg(format!("-Dcassandra.storagedir={}", self.directory.join("data").display()));
        command.arg(format!("-Dcassandra.logdir={}", self.directory.display()));
        // Libraries are unpacked there, and a killed node does not remove them.
        command.arg(format!("-Djava.io.tmpdir={}", self.directory.display()));
        command.arg("-cp").arg(format!("{}/*", jars.display()));
        command.arg("org.apache.cassandra.service.CassandraDaemon");
        command.current_dir(&self.directory).stdin(Stdio::null());
        command.stdout(log.try_clone().expect("our own file")).stderr(log);
        command
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        if std::thread::panicking() && self.process.lock().is_some() {
            eprintln!("--- Cassandra at {} said ---\n{}\n---", self.address, self.log_tail());
        }
        self.kill();
    }
}
