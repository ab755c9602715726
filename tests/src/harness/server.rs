//! The real `stentor` process: started on a port that the kernel chose, killed by its process id, or stopped in order.
//!
//! The binary is the one beside the tests (`target/<profile>/stentor`), or the one that `STENTOR_BIN` names.

use std::io::{BufRead, BufReader, Read};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};
use rustix::process::{Pid, Signal, kill_process};

use super::{Account, DEADLINE, Format, Http, Socket};

/// The settings of a server that is to be started. Defaults: one shard, a port that the kernel chooses, and no
/// `STENTOR_...` variables of the test's environment.
pub struct Launch {
    data: PathBuf,
    listen: Option<String>,
    admin: String,
    shards: Option<u16>,
    drain_wait: Option<String>,
    flags: Vec<String>,
    environment: Vec<(String, String)>,
    confine: Option<Confine>,
}

/// A last change to the command that starts a server.
type Confine = Box<dyn FnOnce(&mut Command)>;

impl Launch {
    /// A server with one shard, on a port that the kernel chooses, with its data in this directory.
    pub fn on(data: &Path) -> Self {
        Self {
            data: data.to_path_buf(),
            listen: Some("127.0.0.1:0".into()),
            // Off by default, because many servers run at once.
            admin: "off".into(),
            shards: Some(1),
            // No balancer looks at these servers, so a stop need not wait for one.
            drain_wait: Some("0".into()),
            flags: Vec::new(),
            environment: Vec::new(),
            confine: None,
        }
    }

    /// Changes the command or the process's rights just before the start.
    pub fn confined(mut self, confine: impl FnOnce(&mut Command) + 'static) -> Self {
        self.confine = Some(Box::new(confine));
        self
    }

    /// How many shards, instead of one.
    pub fn shards(mut self, shards: u16) -> Self {
        self.shards = Some(shards);
        self
    }

    /// The address for clients. Without it, the kernel chooses a port.
    pub fn listen(mut self, address: SocketAddr) -> Self {
        self.listen = Some(address.to_string());
        self
    }

    /// The address for operators, or `off`, which is the default.
    pub fn admin(mut self, address: impl ToString) -> Self {
        self.admin = address.to_string();
        self
    }

    /// Leaves `--listen` to the environment or the configuration file.
    pub fn listen_unsaid(mut self) -> Self {
        self.listen = None;
        self
    }

    /// Leaves `--shards` to the environment, the configuration file or the default.
    pub fn shards_unsaid(mut self) -> Self {
        self.shards = None;
        self
    }

    /// How long SIGTERM only makes the server not ready. The default here is no time.
    pub fn drain_wait(mut self, time: &str) -> Self {
        self.drain_wait = Some(time.to_owned());
        self
    }

    /// Leaves `--drain-wait` to the environment, the configuration file or the default.
    pub fn drain_wait_unsaid(mut self) -> Self {
        self.drain_wait = None;
        self
    }

    /// Lets one user ask for any amount of work, and be in any number of channels, for tests of other bounds whose users ask for more than people do.
    pub fn without_budgets(self) -> Self {
        self.flag("--work-per-session", 0).flag("--work-per-user", 0).flag("--memberships-per-user", 0)
    }

    /// Adds a flag and its value.
    pub fn flag(mut self, name: &str, value: impl ToString) -> Self {
        self.flags.extend([name.to_string(), value.to_string()]);
        self
    }

    /// Adds a flag and its value, unless the flag is there already.
    pub fn flag_by_default(self, name: &str, value: impl ToString) -> Self {
        if self.flags.iter().any(|flag| flag == name) { self } else { self.flag(name, value) }
    }

    /// Adds flags and their values, as on a command line.
    pub fn flags(mut self, flags: impl IntoIterator<Item = String>) -> Self {
        self.flags.extend(flags);
        self
    }

    /// Sets a variable in the server's environment.
    pub fn environment(mut self, name: &str, value: &str) -> Self {
        self.environment.push((name.to_string(), value.to_string()));
        self
    }

    /// Starts the server and waits until it listens.
    pub fn start(self) -> Server {
        self.start_or_refused().unwrap_or_else(|refusal| {
            panic!("the server refused to start ({}); it said:\n{}", refusal.status, refusal.output)
        })
    }

    /// Starts a server that is expected to exit with an error, and waits until it has.
    pub fn start_refused(self) -> Refusal {
        match self.start_or_refused() {
            Ok(server) => panic!("the server should have refused to start, but says:\n{}", server.output()),
            Err(refusal) => refusal,
        }
    }

    /// Starts a server at a chosen address. It may take a while until the server prints that it listens.
    pub fn begin_at(self, address: SocketAddr) -> Server {
        let mut server = self.listen(address).spawn();
        server.address = address;
        server
    }

    /// Starts a server and waits until it listens or has exited.
    pub fn start_or_refused(self) -> Result<Server, Refusal> {
        let mut server = self.spawn();
        // The server's output at its start ends with a line that says what to do next.
        let listening = server.log.wait_for(DEADLINE, |lines| {
            lines.iter().find(|line| line.trim_start().starts_with("open "))?;
            lines.iter().find_map(|line| listening_address(line))
        });
        if let Some(address) = listening {
            server.address = address;
            return Ok(server);
        }
        match wait(&mut server.child, DEADLINE) {
            Some(status) => Err(Refusal { status, output: server.output_to_the_end() }),
            None => panic!("the server neither said `listening on ADDR:PORT` nor ended; it said:\n{}", server.output()),
        }
    }

    fn spawn(self) -> Server {
        let binary = binary();
        let mut command = Command::new(&binary);
        for (name, _) in std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("STENTOR_")) {
            command.env_remove(name);
        }
        command.arg("--data").arg(&self.data);
        if let Some(listen) = &self.listen {
            command.args(["--listen", listen]);
            // The port below a chosen one may be that of another test.
            if !listen.ends_with(":0") && !self.flags.iter().any(|flag| flag == "--grpc") {
                command.args(["--grpc", "off"]);
            }
        }
        command.args(["--admin", &self.admin]);
        if let Some(shards) = self.shards {
            command.args(["--shards", &shards.to_string()]);
        }
        if let Some(wait) = &self.drain_wait {
            command.args(["--drain-wait", wait]);
        }
        command.args(&self.flags).envs(self.environment);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        if let Some(confine) = self.confine {
            confine(&mut command);
        }
        let mut child = command.spawn().unwrap_or_else(|error| panic!("{} does not start: {error}", binary.display()));
        let log = Arc::new(Log::default());
        let readers =
            vec![log.clone().follow(piped(child.stdout.take())), log.clone().follow(piped(child.stderr.take()))];
        Server { child, address: SocketAddr::from(([127, 0, 0, 1], 0)), log, readers }
    }
}

/// What comes from a stream of the child; nothing if a test has given the stream another end.
fn piped(stream: Option<impl Read + Send + 'static>) -> Box<dyn Read + Send> {
    match stream {
        Some(stream) => Box::new(stream),
        None => Box::new(std::io::empty()),
    }
}

/// A server that exited instead of starting: its status and its output.
pub struct Refusal {
    pub status: ExitStatus,
    pub output: String,
}

impl Refusal {
    /// Asserts that it exited by itself, with a failure, with these words in its output, and without a panic.
    pub fn assert_says(&self, words: &[&str]) {
        let said = self.output.to_lowercase();
        let code = self.status.code();
        assert!(code.is_some_and(|code| code != 0), "exit status {:?}; it said:\n{}", self.status, self.output);
        assert!(!said.contains("panicked"), "a refusal is not a panic:\n{}", self.output);
        for word in words {
            assert!(said.contains(&word.to_lowercase()), "expected {word:?} in:\n{}", self.output);
        }
    }
}

/// A running server. Dropping it kills it.
pub struct Server {
    child: Child,
    address: SocketAddr,
    log: Arc<Log>,
    readers: Vec<std::thread::JoinHandle<()>>,
}

impl Server {
    /// The address for clients, with the port that the kernel chose.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// A client of the operators' address that the server prints.
    pub fn admin(&self) -> Http {
        let address = self.log.wait_for(DEADLINE, |lines| lines.iter().find_map(|line| admin_address(line)));
        Http::new(address.unwrap_or_else(|| panic!("no admin address in:\n{}", self.output())))
    }

    /// The address of the API in gRPC that the server prints.
    pub fn grpc_address(&self) -> SocketAddr {
        let address = self.log.wait_for(DEADLINE, |lines| lines.iter().find_map(|line| grpc_address(line)));
        address.unwrap_or_else(|| panic!("no address of gRPC in:\n{}", self.output()))
    }

    /// The process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Resident memory in KiB.
    pub fn resident_kib(&self) -> usize {
        resident_kib(self.pid())
    }

    /// Everything that the server has printed so far, on both streams.
    pub fn output(&self) -> String {
        self.log.text()
    }

    /// A new client of this server, with connections of its own.
    pub fn http(&self) -> Http {
        Http::new(self.address)
    }

    /// Signs in the account called `name`, and creates it the first time.
    pub fn sign_in(&self, name: &str) -> Account {
        self.http().sign_in(name)
    }

    /// Signs in and opens a socket.
    pub fn connect(&self, name: &str) -> Socket {
        self.connect_in(Format::Json, name)
    }

    /// Signs in and opens a socket for this format.
    pub fn connect_in(&self, format: Format, name: &str) -> Socket {
        Socket::connect_in(format, self.address, &self.sign_in(name).token)
    }

    /// Asserts that the server still works: a new connection joins a room and receives its own message.
    pub fn assert_works(&self, after: &str) {
        let account = self.sign_in("still-working");
        let mut socket = Socket::connect(self.address, &account.token);
        let channel = socket.join("still-working");
        let ack = socket.say(&channel, r#"{"still":"working"}"#);
        assert_eq!(ack["channel_message_ack"]["code"], 0, "after {after}");
    }

    /// Sends SIGKILL and waits for the end of the process.
    pub fn kill(mut self) {
        self.end();
    }

    /// Sends SIGTERM. Asserts that the server ends by itself, in time and with success, and returns its output.
    pub fn stop(mut self) -> String {
        self.signal(Signal::TERM);
        self.await_success()
    }

    /// Sends a signal to the process, which must not have been waited for.
    pub fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).expect("the server runs");
    }

    /// Asserts that the server ends by itself with success, and returns its output.
    pub fn await_success(&mut self) -> String {
        match wait(&mut self.child, DEADLINE) {
            Some(status) => assert!(status.success(), "{status}; it said:\n{}", self.output()),
            None => panic!("not stopped after {DEADLINE:?}; it said:\n{}", self.output()),
        }
        self.output_to_the_end()
    }

    /// Asserts that the server ends by itself with a failure, and returns its output.
    pub fn await_failure(&mut self) -> String {
        match wait(&mut self.child, DEADLINE) {
            Some(status) => assert!(status.code().is_some_and(|code| code != 0), "{status}:\n{}", self.output()),
            None => panic!("it still runs after {DEADLINE:?}; it said:\n{}", self.output()),
        }
        self.output_to_the_end()
    }

    fn output_to_the_end(&mut self) -> String {
        for reader in self.readers.drain(..) {
            reader.join().expect("the reader of its output does not panic");
        }
        self.log.text()
    }

    fn end(&mut self) {
        // This fails only if the process has already ended.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.end();
        if std::thread::panicking() {
            eprintln!("--- the server said ---\n{}-----------------------", self.output());
        }
    }
}

/// Resident memory of a process in KiB.
pub(super) fn resident_kib(pid: u32) -> usize {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).expect("the process runs");
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("a process has memory");
    line.trim().trim_end_matches(" kB").parse().expect("a number")
}

/// Runs the program to its end, for its commands other than serving.
pub fn run_program(arguments: &[impl AsRef<std::ffi::OsStr>]) -> std::process::Output {
    Command::new(binary()).args(arguments).stdin(Stdio::null()).output().expect("the program starts")
}

/// Waits for the end of a child process, at most for `bound`.
pub(super) fn wait(child: &mut Child, bound: Duration) -> Option<ExitStatus> {
    let deadline = Instant::now() + bound;
    loop {
        if let Some(status) = child.try_wait().expect("our own child") {
            return Some(status);
        }
        if Instant::now() >= deadline {
            return None;
        }
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// The lines that a process has printed so far.
#[derive(Default)]
struct Log {
    printed: Mutex<Printed>,
    grown: Condvar,
}

#[derive(Default)]
struct Printed {
    lines: Vec<String>,
    /// Streams that have ended. They end with the process.
    streams_ended: usize,
}

impl Log {
    const STREAMS: usize = 2;

    fn follow(self: Arc<Self>, stream: impl Read + Send + 'static) -> std::thread::JoinHandle<()> {
        std::thread::spawn(move || {
            for line in BufReader::new(stream).lines().map_while(Result::ok) {
                self.printed.lock().lines.push(line);
                self.grown.notify_all();
            }
            self.printed.lock().streams_ended += 1;
            self.grown.notify_all();
        })
    }

    /// Waits until `found` returns a result for the lines. Gives up after `bound`, or when the process has ended.
    fn wait_for<T>(&self, bound: Duration, found: impl Fn(&[String]) -> Option<T>) -> Option<T> {
        let deadline = Instant::now() + bound;
        let mut printed = self.printed.lock();
        loop {
            if let Some(value) = found(&printed.lines) {
                return Some(value);
            }
            if printed.streams_ended == Self::STREAMS {
                return None;
            }
            let left = deadline.checked_duration_since(Instant::now())?;
            self.grown.wait_for(&mut printed, left);
        }
    }

    fn text(&self) -> String {
        self.printed.lock().lines.iter().map(|line| format!("{line}\n")).collect()
    }
}

fn admin_address(line: &str) -> Option<SocketAddr> {
    line.split_once(" admin ")?.1.trim().strip_prefix("http://")?.strip_suffix("/metrics")?.parse().ok()
}

fn grpc_address(line: &str) -> Option<SocketAddr> {
    line.trim_start().strip_prefix("grpc ")?.trim().trim_end_matches(" (TLS)").parse().ok()
}

fn listening_address(line: &str) -> Option<SocketAddr> {
    let address = line.split("listening on ").nth(1)?;
    let end = address.find(|c: char| !c.is_ascii_digit() && !".:".contains(c)).unwrap_or(address.len());
    address[..end].trim_end_matches(['.', ':']).parse().ok()
}

/// The path of the server's binary.
pub(super) fn binary() -> PathBuf {
    if let Some(named) = std::env::var_os("STENTOR_BIN") {
        return PathBuf::from(named);
    }
    // Tests run as target/<profile>/deps/<test>-<hash>.
    let this = std::env::current_exe().expect("the path of this test");
    let beside = this.ancestors().nth(2).expect("tests live in target/<profile>/deps").join("stentor");
    assert!(
        beside.is_file(),
        "{} is missing: run `cargo build -p gateway` first, with the same --profile as the tests, or name a binary in STENTOR_BIN",
        beside.display()
    );
    beside
}

/// The path of the load generator: LOADGEN_BIN, or beside the server.
pub fn loadgen() -> PathBuf {
    let beside = || binary().parent().expect("a directory").join("loadgen");
    let program = std::env::var_os("LOADGEN_BIN").map_or_else(beside, PathBuf::from);
    assert!(program.is_file(), "{} is missing: run `cargo build -p loadgen` as for the server", program.display());
    program
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_the_address_out_of_a_sentence() {
        let check = |line: &str, expected: Option<&str>| {
            assert_eq!(listening_address(line), expected.map(|text| text.parse().unwrap()), "{line:?}");
        };
        check("stentor: listening on 127.0.0.1:7350", Some("127.0.0.1:7350"));
        check("listening on 127.0.0.1:40123, 4 shards", Some("127.0.0.1:40123"));
        check("listening on 127.0.0.1:40123.", Some("127.0.0.1:40123"));
        check("will soon be listening", None);
        check("listening on nothing", None);
    }
}
