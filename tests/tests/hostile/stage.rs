//! A server, its attackers, and the bystander, each with an address of its own.

use std::net::Ipv4Addr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use parking_lot::{Mutex, MutexGuard};
use tests::harness::{Launch, RawSocket, SERVER_KEY, Server, data_dir};

/// Where attackers come from.
pub const ATTACKER: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 2);
/// Where the bystander comes from, unless a test says otherwise.
pub const BYSTANDER: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 3);

/// An attack takes thousands of descriptors, and a process has not so many for several attacks.
static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());

/// How long a test waits for a number. It is reached at once unless something is wrong or the machine is very busy.
const PATIENCE: Duration = Duration::from_secs(60);

/// The least requests of a bystander beside an attack.
const REQUESTS_MIN: usize = 20;

/// A server with one shard, so that attackers and the bystander share everything that a shard has.
pub struct Stage {
    pub server: Server,
    _data: tempfile::TempDir,
    _turn: MutexGuard<'static, ()>,
}

impl Stage {
    pub fn launch() -> Self {
        Self::launch_with(|launch| launch)
    }

    /// A stage whose server has further options.
    pub fn launch_with(options: impl FnOnce(Launch) -> Launch) -> Self {
        let turn = ONE_AT_A_TIME.lock();
        let data = data_dir();
        let launch = Launch::on(data.path()).admin("127.0.0.1:0").flag("--session-ttl", 3600);
        let server = options(launch).start();
        Self { server, _data: data, _turn: turn }
    }

    /// A new connection from this address.
    pub fn connect(&self, from: Ipv4Addr) -> RawSocket {
        RawSocket::connect_from(from, self.server.address())
    }

    /// Sends one request on a new connection, and returns the head and the body of the answer.
    pub fn ask(&self, from: Ipv4Addr, request: &[u8]) -> (String, String) {
        let mut socket = self.connect(from);
        socket.write(request);
        socket.read_answer()
    }

    /// Runs an attack beside a bystander, who sends `request` again and again on new connections. Every answer must be
    /// 200.
    pub fn beside<T>(&self, bystander: Ipv4Addr, request: &str, attack: impl FnOnce() -> T) -> T {
        let over = AtomicBool::new(false);
        thread::scope(|scope| {
            let watching = scope.spawn(|| {
                let mut asked = 0;
                while asked < REQUESTS_MIN || !over.load(Ordering::Relaxed) {
                    let (head, body) = self.ask(bystander, request.as_bytes());
                    assert!(head.starts_with("HTTP/1.1 200 "), "request {asked} of the bystander: {head}{body}");
                    asked += 1;
                }
            });
            // The flag is set also when the attack panics, or the bystander would go on for ever.
            let end = SetAtEnd(&over);
            let done = attack();
            drop(end);
            watching.join().expect("the bystander is served");
            done
        })
    }

    /// Waits until a number of the operators' page is at least this.
    pub fn await_metric(&self, name: &str, least: u64) {
        let begun = Instant::now();
        while self.metric(name) < least {
            assert!(begun.elapsed() < PATIENCE, "{name} is {} after {PATIENCE:?}", self.metric(name));
        }
    }

    /// Waits until something is so.
    pub fn await_that(&self, what: &str, mut is_so: impl FnMut() -> bool) {
        let begun = Instant::now();
        while !is_so() {
            assert!(begun.elapsed() < PATIENCE, "not within {PATIENCE:?}: {what}");
            thread::sleep(Duration::from_millis(50));
        }
    }

    /// A number of the operators' page.
    pub fn metric(&self, name: &str) -> u64 {
        let page = self.server.admin().get("/metrics", "").body;
        let line = page.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        line.unwrap_or_else(|| panic!("{name} is not in {page}")).parse().expect("a number")
    }
}

struct SetAtEnd<'a>(&'a AtomicBool);

impl Drop for SetAtEnd<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// A request that signs in, with these further lines in its head.
pub fn sign_in(path: &str, lines: &str, body: &str) -> String {
    format!(
        "POST /v2/account/authenticate/{path} HTTP/1.1\r\nHost: localhost\r\nAuthorization: {SERVER_KEY}\r\n{lines}\r\n\
         Connection: close\r\n\r\n{body}"
    )
}

/// A whole request that signs in a device.
pub fn sign_in_device(name: &str) -> String {
    let body = format!("{{\"id\":\"device-of-{name}\"}}");
    sign_in("device", &format!("Content-Length: {}", body.len()), &body)
}
