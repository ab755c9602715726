//! A server, its attackers, and the bystander, each with an address of its own; and the bounds that hold whatever the
//! attack is.

use std::net::Ipv4Addr;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use engine::limits::{FLUSH_WRITES_MAX, PASS_BYTES_MAX, PASS_VISITS_MAX};
use parking_lot::{Mutex, MutexGuard};
use serde_json::{Value, json};
use tests::harness::{Launch, RawSocket, SERVER_KEY, Server, Socket, data_dir, masked_frame};

/// Where attackers come from.
pub const ATTACKER: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 2);
/// Where the bystander comes from, unless a test says otherwise.
pub const BYSTANDER: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 3);

/// The proxy whose headers count.
pub const PROXY: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 9);

/// Milliseconds of work a second that an address may ask for: a whole core, so that an attack meets its own bound first.
const WORK_PER_ADDRESS: u64 = 1000;

/// Writes to sessions in one turn: private frames, a slice of a pass, and what was late. The turn ends with as much late
/// work as it may do, at 7 µs a write.
const TURN_WRITES_MAX: u64 = (FLUSH_WRITES_MAX + PASS_VISITS_MAX) as u64 + TURN_WORK_MAX_US / 7;

/// Bytes of these writes: as many as a pass may write, twice, and late ones, at a nanosecond of work each.
const TURN_BYTES_MAX: u64 = 2 * PASS_BYTES_MAX as u64 + TURN_WORK_MAX_US * 1000;

/// The work of requests after which a turn takes no more of them.
const TURN_WORK_MAX_US: u64 = 40_000;

/// What a turn may exceed it by: the requests of the last read, and what becomes due besides.
const LAST_READ_US: u64 = 40_000;

/// An attack takes thousands of descriptors, and a process has not so many for several attacks.
static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());

/// How long a test waits for a number. It is reached at once unless something is wrong or the machine is very busy.
const PATIENCE: Duration = Duration::from_secs(60);

/// The least requests of a bystander beside an attack.
const REQUESTS_MIN: usize = 20;

/// The most that one turn of the shard has done.
#[derive(Clone, Copy, Default, Debug)]
pub struct Turn {
    pub writes: u64,
    pub bytes: u64,
    pub work_us: u64,
}

/// A server with one shard, so that attackers and the bystander share everything that a shard has.
pub struct Stage {
    pub server: Server,
    /// The most that one turn has done so far. Each look at the operators' page resets what it shows.
    largest_turn: Mutex<Turn>,
    data: tempfile::TempDir,
    _turn: MutexGuard<'static, ()>,
}

impl Stage {
    pub fn launch() -> Self {
        Self::launch_with(|launch| launch)
    }

    /// A stage whose server has further options. Whatever they leave open is on: the budgets of sessions and users as by
    /// default, a budget of each address, and a trusted proxy.
    pub fn launch_with(options: impl FnOnce(Launch) -> Launch) -> Self {
        let turn = ONE_AT_A_TIME.lock();
        let data = data_dir();
        let launch = options(Launch::on(data.path()).admin("127.0.0.1:0").flag("--session-ttl", 3600));
        let launch = launch.flag_by_default("--work-per-address", WORK_PER_ADDRESS);
        let server = launch.flag_by_default("--trusted-proxies", PROXY).start();
        Self { server, largest_turn: Mutex::default(), data, _turn: turn }
    }

    /// The directory with the server's data.
    pub fn data(&self) -> &Path {
        self.data.path()
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

    /// Runs an attack beside a bystander in a room, who writes and hears every message of its own while the attack goes on.
    pub fn beside_a_room<T>(&self, attack: impl FnOnce() -> T) -> T {
        let mut room = Room::open(self);
        let over = AtomicBool::new(false);
        let done = thread::scope(|scope| {
            let talking = scope.spawn(|| {
                let mut said = 0;
                while said < REQUESTS_MIN || !over.load(Ordering::Relaxed) {
                    room.talk(said);
                    said += 1;
                    // People do not write faster, and the bystander's own budget is not to be the end of the talk.
                    thread::sleep(Duration::from_millis(5));
                }
            });
            let end = SetAtEnd(&over);
            let done = attack();
            drop(end);
            talking.join().expect("the bystander hears all");
            done
        });
        room.writer.assert_open();
        room.reader.assert_open();
        done
    }

    /// Asserts that no turn so far has done more than a turn may, and that no client was closed for being slow. Returns the
    /// most that one turn has done.
    pub fn assert_bounded(&self) -> Turn {
        let page = self.page();
        for kind in ["1013", "none"] {
            let name = format!("stentor_slow_readers_closed_total{{kind=\"{kind}\"}}");
            assert_eq!(number(&page, &name), 0.0, "nobody is closed who reads");
        }
        self.assert_turns_bounded()
    }

    /// The same, where clients that read nothing may be closed.
    pub fn assert_turns_bounded(&self) -> Turn {
        self.page();
        let turn = *self.largest_turn.lock();
        assert!(turn.writes <= TURN_WRITES_MAX, "{turn:?}");
        assert!(turn.bytes <= TURN_BYTES_MAX, "{turn:?}");
        assert!(turn.work_us <= TURN_WORK_MAX_US + LAST_READ_US, "{turn:?}");
        turn
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
        number(&self.page(), name) as u64
    }

    /// The operators' page. Takes in what it says of the largest turn.
    fn page(&self) -> String {
        let page = self.server.admin().get("/metrics", "").body;
        let of_shard = |name: &str| number(&page, &format!("{name}{{shard=\"0\"}}"));
        let mut turn = self.largest_turn.lock();
        turn.writes = turn.writes.max(of_shard("stentor_turn_writes_max") as u64);
        turn.bytes = turn.bytes.max(of_shard("stentor_turn_bytes_max") as u64);
        turn.work_us = turn.work_us.max((of_shard("stentor_turn_work_max_seconds") * 1e6).round() as u64);
        drop(turn);
        page
    }
}

/// A number of the page.
fn number(page: &str, name: &str) -> f64 {
    let line = page.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    line.unwrap_or_else(|| panic!("{name} is not in {page}")).parse().expect("a number")
}

/// A room of two, who are not attacked.
struct Room {
    writer: Socket,
    reader: Socket,
    channel: String,
}

impl Room {
    fn open(stage: &Stage) -> Self {
        let mut writer = stage.server.connect("bystander-who-writes");
        let mut reader = stage.server.connect("bystander-who-reads");
        reader.join("a quiet room");
        let channel = writer.join("a quiet room");
        Self { writer, reader, channel }
    }

    /// Says something, and waits until it is acknowledged and heard. It must be the next that is heard.
    fn talk(&mut self, number: usize) {
        let content = format!("{{\"n\":{number}}}");
        let answer = self.writer.say(&self.channel, &content);
        assert!(answer["channel_message_ack"].is_object(), "{answer}");
        let is_message = |push: &Value| push["channel_message"].is_object();
        let heard = self.reader.push_where("the bystander's message", is_message);
        assert_eq!(heard["channel_message"]["content"], json!(content), "each message comes, in order");
        // The writer hears its own messages, too.
        self.writer.pushes.clear();
    }
}

/// Sets the flag when it is dropped, also by a panic, so that a thread that waits for the flag ends.
pub struct SetAtEnd<'a>(pub &'a AtomicBool);

impl Drop for SetAtEnd<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Opens a session, and returns the head of the server's answer.
pub fn open_session(stage: &Stage, token: &str) -> (RawSocket, String) {
    let mut socket = begin_session(stage, token, false);
    let head = socket.read_head();
    (socket, head)
}

/// Asks for a session that shows a status or does not, and does not wait for the answer.
pub fn begin_session(stage: &Stage, token: &str, shows_status: bool) -> RawSocket {
    let mut socket = stage.connect(ATTACKER);
    let request = format!(
        "GET /ws?token={token}&status={shows_status} HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\n\
         Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
    );
    socket.write(request.as_bytes());
    socket
}

/// A frame with an envelope.
pub fn envelope(envelope: &Value) -> Vec<u8> {
    masked_frame(0x81, envelope.to_string().as_bytes())
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
