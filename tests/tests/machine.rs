//! A machine with too few resources: descriptors, locked memory, io_uring. The server says what is missing and what to
//! change. Or it serves the clients it can and refuses the others, without using the whole core.
#![allow(unsafe_code)]

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::process::CommandExt;
use std::process::Command;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Resource, Rlimit, prlimit, setrlimit};
use tests::harness::{DEADLINE, Http, Launch, RawSocket, Refusal, Server, data_dir, masked_frame, run_program};

/// Sets these limits, hard and soft, for a server.
fn with_limit(launch: Launch, resource: Resource, limit: u64) -> Launch {
    launch.confined(move |command: &mut Command| {
        let limits = Rlimit { current: Some(limit), maximum: Some(limit) };
        // SAFETY: between fork and exec the closure makes one system call, and touches no memory but its own stack.
        unsafe { command.pre_exec(move || Ok(setrlimit(resource, limits)?)) };
    })
}

/// Starts a server whose `io_uring_setup` fails with this error, as it does under a container's filter.
fn without_io_uring(errno: i32) -> Refusal {
    const ERRNO_BITS: i32 = 0xffff;
    let statement = |code: u32, k: u32| libc::sock_filter { code: code as u16, jt: 0, jf: 0, k };
    let filter = [
        // The first word that a filter sees is the system call's number.
        statement(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, 0),
        libc::sock_filter {
            jf: 1,
            ..statement(libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K, libc::SYS_io_uring_setup as u32)
        },
        statement(libc::BPF_RET | libc::BPF_K, libc::SECCOMP_RET_ERRNO | (errno & ERRNO_BITS) as u32),
        statement(libc::BPF_RET | libc::BPF_K, libc::SECCOMP_RET_ALLOW),
    ];
    let confine = move |command: &mut Command| {
        let install = move || {
            let program = libc::sock_fprog { len: filter.len() as u16, filter: filter.as_ptr().cast_mut() };
            // SAFETY: the program and its filter outlive the calls, and the kernel only reads them.
            let failed = unsafe {
                libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0
                    || libc::prctl(libc::PR_SET_SECCOMP, libc::SECCOMP_MODE_FILTER, &program) != 0
            };
            if failed { Err(std::io::Error::last_os_error()) } else { Ok(()) }
        };
        // SAFETY: between fork and exec the closure makes two system calls, and touches no memory but its own.
        unsafe { command.pre_exec(install) };
    };
    let data = data_dir();
    Launch::on(data.path()).confined(confine).start_refused()
}

#[test]
fn forbidden_io_uring_is_explained() {
    let profile = "io_uring_setup, io_uring_enter and io_uring_register";
    without_io_uring(libc::EPERM).assert_says(&["io_uring cannot be used", "not permitted", "seccomp", profile]);
    without_io_uring(libc::ENOSYS).assert_says(&["io_uring cannot be used", "not implemented", "Linux 5.8", profile]);
    without_io_uring(libc::ENOMEM).assert_says(&["io_uring cannot be used", "locked memory", "ulimit -l"]);
}

#[test]
fn too_little_locked_memory_is_explained() {
    let refused = |shards: u16, bytes: u64, words: &[&str]| {
        let data = data_dir();
        let launch = Launch::on(data.path()).shards(shards);
        with_limit(launch, Resource::Memlock, bytes).start_refused().assert_says(words);
    };
    refused(1, 64 * 1024, &["locked memory is 64 KiB", "512 KiB", "ulimit -l", "LimitMEMLOCK="]);
    refused(3, 1024 * 1024, &["locked memory is 1024 KiB", "1536 KiB", "fewer --shards"]);
    let data = data_dir();
    let enough = with_limit(Launch::on(data.path()).shards(2), Resource::Memlock, 1024 * 1024).start();
    enough.assert_works("just enough locked memory");
}

#[test]
fn too_few_descriptors_are_explained() {
    let refused = |shards: u16, limit: u64, words: &[&str]| {
        let data = data_dir();
        let launch = Launch::on(data.path()).shards(shards);
        with_limit(launch, Resource::Nofile, limit).start_refused().assert_says(words);
    };
    refused(4, 128, &["open descriptors is 128", "server of 4 shards", "ulimit -n", "LimitNOFILE=", "fewer --shards"]);
    refused(2, 64, &["open descriptors is 64", "server of 2 shards"]);
    let data = data_dir();
    let enough = with_limit(Launch::on(data.path()).shards(1), Resource::Nofile, 128).start();
    enough.assert_works("just enough descriptors");
}

/// A client that has a session, or waits to be accepted.
struct Client(TcpStream);

impl Client {
    /// Sends an opening and does not wait for the answer.
    fn knock(address: SocketAddr, token: &str) -> Self {
        let mut stream = TcpStream::connect(address).expect("the backlog has room");
        let head = format!(
            "GET /ws?token={token} HTTP/1.1\r\nHost: {address}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
             Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
        );
        stream.write_all(head.as_bytes()).expect("the kernel takes it");
        Self(stream)
    }

    /// Reads the head of the answer byte by byte, so that the bytes after it stay unread.
    fn read_head(&mut self) -> String {
        self.0.set_read_timeout(Some(DEADLINE)).expect("a read timeout");
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            let mut byte = [0];
            self.0.read_exact(&mut byte).unwrap_or_else(|error| {
                panic!("waiting for a head: {error}, heard {:?}", String::from_utf8_lossy(&head))
            });
            head.push(byte[0]);
        }
        String::from_utf8(head).expect("a head is text")
    }

    fn expect(&mut self, text: &str) {
        self.0.set_read_timeout(Some(DEADLINE)).expect("a read timeout");
        let mut heard = String::new();
        while !heard.contains(text) {
            let mut bytes = [0; 1024];
            let count = self.0.read(&mut bytes).unwrap_or_else(|error| panic!("waiting for {text}: {error}"));
            assert!(count > 0, "ended; waiting for {text}, heard {heard:?}");
            heard.push_str(&String::from_utf8_lossy(&bytes[..count]));
        }
    }

    fn assert_served(&mut self) {
        self.0.write_all(&masked_frame(0x81, br#"{"cid":"7","ping":{}}"#)).expect("the connection is open");
        self.expect(r#""pong""#);
    }
}

/// Waits until every client has an answer. Returns the accepted clients and the number of refused ones. Refused clients
/// are told when to try again.
fn inside_and_refused(clients: Vec<Client>) -> (Vec<Client>, usize) {
    let (mut inside, mut refused) = (Vec::new(), 0);
    for mut client in clients {
        let head = client.read_head();
        if head.starts_with("HTTP/1.1 101 ") {
            inside.push(client);
        } else {
            assert!(head.starts_with("HTTP/1.1 503 ") && head.contains("\r\nRetry-After: "), "{head}");
            refused += 1;
        }
    }
    (inside, refused)
}

/// Seconds of CPU that a process has used.
fn cpu_seconds(server: &Server) -> f64 {
    let stat = std::fs::read_to_string(format!("/proc/{}/stat", server.pid())).expect("the server runs");
    let (_, after_name) = stat.rsplit_once(')').expect("a name in brackets");
    // The fields after the name begin with the third; user and system time are the 14th and the 15th, in hundredths of
    // a second.
    let ticks: f64 =
        after_name.split_whitespace().skip(11).take(2).map(|field| field.parse::<f64>().expect("a number")).sum();
    ticks / 100.0
}

/// A shard that retries in a loop would use its whole core. A tenth of that is far more than waiting costs.
fn assert_does_not_burn(server: &Server) {
    const WATCHED: Duration = Duration::from_secs(1);
    let before = cpu_seconds(server);
    std::thread::sleep(WATCHED);
    let used = cpu_seconds(server) - before;
    assert!(used < WATCHED.as_secs_f64() / 2.0, "{used} s of CPU in {WATCHED:?} of waiting");
}

/// A full server is alive, and tells balancers and operators so. It counts the refused connections.
fn assert_lives_and_counts(server: &Server, refused: usize) {
    for _ in 0..5 {
        let health = server.http().request("GET", "/healthcheck", &[], "");
        assert_eq!((health.status, health.body.as_str()), (200, "{}"));
        assert_eq!(server.http().request("GET", "/", &[], "").status, 200);
    }
    let page = server.admin().request("GET", "/metrics", &[], "").body;
    let counted = page.lines().find_map(|line| line.strip_prefix("stentor_connections_refused_total "));
    let counted: usize = counted.and_then(|count| count.parse().ok()).expect("a number");
    assert!(counted >= refused, "{counted} of {refused}");
    assert_eq!(server.output().matches("more are refused with 503").count(), 1, "it is said once");
}

/// Tries until the server accepts: it notices a little later that other clients have left.
fn come_in(server: &Server, token: &str) -> Client {
    let begun = Instant::now();
    loop {
        let mut client = Client::knock(server.address(), token);
        if client.read_head().starts_with("HTTP/1.1 101 ") {
            return client;
        }
        assert!(begun.elapsed() < DEADLINE, "nobody is let in although there is room");
    }
}

#[test]
fn more_clients_than_fit_are_refused_until_others_leave() {
    const DESCRIPTORS: u64 = 300;
    // Half of the descriptors: see `gateway/src/machine.rs`.
    const FIT: usize = 150;
    const LEAVING: usize = 60;
    let data = data_dir();
    let server = with_limit(Launch::on(data.path()).admin("127.0.0.1:0"), Resource::Nofile, DESCRIPTORS).start();
    assert!(server.output().contains(&FIT.to_string()), "it says how many fit");
    let page = server.admin().request("GET", "/metrics", &[], "").body;
    assert!(page.contains(&format!("stentor_connections_max {FIT}\n")), "{page}");
    let token = server.sign_in("alice").token;
    let clients = (0..2 * FIT).map(|_| Client::knock(server.address(), &token)).collect();
    let (mut inside, refused) = inside_and_refused(clients);
    // The connection of the sign-in may still have used one place.
    assert!((FIT - 2..=FIT).contains(&inside.len()), "{} are in", inside.len());
    let asked = server.http().request("GET", "/v2/account", &[], "");
    assert_eq!((asked.status, asked.json()["code"].as_u64()), (503, Some(14)), "{}", asked.body);
    assert!(asked.header("retry-after").is_some(), "{:?}", asked.headers);
    assert_lives_and_counts(&server, refused);
    assert_does_not_burn(&server);
    inside.iter_mut().for_each(Client::assert_served);
    inside.drain(..LEAVING);
    inside.extend((0..LEAVING / 2).map(|_| come_in(&server, &token)));
    inside.iter_mut().for_each(Client::assert_served);
    server.stop();
}

#[test]
fn silent_clients_do_not_keep_the_places_of_those_who_ask() {
    const FIT: u64 = 50;
    let data = data_dir();
    let server = with_limit(Launch::on(data.path()).admin("127.0.0.1:0"), Resource::Nofile, 2 * FIT).start();
    let token = server.sign_in("alice").token;
    let silent: Vec<_> = (0..3 * FIT).map(|_| TcpStream::connect(server.address()).expect("a place")).collect();
    let begun = Instant::now();
    while server.http().request("GET", "/healthcheck", &[], "").status != 200 {
        assert!(begun.elapsed() < DEADLINE, "the silent have taken the places that are kept");
    }
    assert_does_not_burn(&server);
    drop(silent);
    come_in(&server, &token).assert_served();
}

/// A balancer whose health checks failed would send all users elsewhere at once.
#[test]
fn a_full_server_tells_a_balancer_with_the_proxy_protocol_that_it_is_well() {
    const FIT: u64 = 50;
    let data = data_dir();
    let flags = ["--trusted-proxies", "127.0.0.1", "--proxy-protocol"].map(str::to_owned);
    let server = with_limit(Launch::on(data.path()).flags(flags), Resource::Nofile, 2 * FIT).start();
    let _silent: Vec<_> = (0..3 * FIT).map(|_| TcpStream::connect(server.address()).expect("a place")).collect();
    let status = |target: &str| {
        let mut balancer = RawSocket::connect(server.address());
        balancer.write(format!("PROXY UNKNOWN\r\nGET {target} HTTP/1.1\r\nHost: a\r\n\r\n").as_bytes());
        balancer.read_answer().0[9..12].to_owned()
    };
    let begun = Instant::now();
    while ["/v2/account", "/healthcheck", "/v2/account"].map(status) != ["503", "200", "503"] {
        assert!(begun.elapsed() < DEADLINE, "the balancer is never answered while the server is full");
    }
}

fn status(http: &Http, path: &str) -> u16 {
    http.request("GET", path, &[], "").status
}

/// Waits until the path answers with this status.
fn await_status(http: &Http, path: &str, expected: u16) {
    let begun = Instant::now();
    while status(http, path) != expected {
        assert!(begun.elapsed() < DEADLINE, "{path} is never {expected}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn a_server_is_not_ready_while_nearly_all_connections_are_in_use() {
    const FIT: u64 = 50;
    let data = data_dir();
    let server = with_limit(Launch::on(data.path()).admin("127.0.0.1:0"), Resource::Nofile, 2 * FIT).start();
    let (public, admin) = (server.http(), server.admin());
    for http in [&public, &admin] {
        assert_eq!((status(http, "/healthz"), status(http, "/readyz")), (200, 200));
    }
    let check = |expected| {
        let checked = run_program(&["healthcheck", "--listen", &server.address().to_string()]);
        let said = String::from_utf8_lossy(&checked.stdout).into_owned() + &String::from_utf8_lossy(&checked.stderr);
        assert_eq!(checked.status.code(), Some(expected), "{said}");
        said
    };
    assert_eq!(check(0), "ready\n");
    let inside: Vec<_> = (0..2 * FIT).map(|_| TcpStream::connect(server.address()).expect("a place")).collect();
    await_status(&admin, "/readyz", 503);
    let reason = admin.request("GET", "/readyz", &[], "").body;
    assert!(reason.contains("connections are in use"), "{reason}");
    assert_eq!((status(&public, "/readyz"), status(&public, "/healthz")), (503, 200));
    assert!(check(1).contains("is not ready (503)"));
    drop(inside);
    await_status(&admin, "/readyz", 200);
    await_status(&public, "/readyz", 200);
}

/// How many descriptors a server has open.
fn descriptors(server: &Server) -> u64 {
    std::fs::read_dir(format!("/proc/{}/fd", server.pid())).expect("the server runs").count() as u64
}

fn limit_descriptors(server: &Server, limit: u64) {
    let pid = Pid::from_raw(server.pid() as i32).expect("a process");
    // The hard limit that the server inherited from this process.
    let maximum = rustix::process::getrlimit(Resource::Nofile).maximum;
    prlimit(Some(pid), Resource::Nofile, Rlimit { current: Some(limit), maximum }).expect("our own child");
}

#[test]
fn out_of_descriptors_it_serves_those_inside_and_refuses_the_others() {
    const ROOM: u64 = 20;
    const REFUSED: u64 = 40;
    let data = data_dir();
    let server = Launch::on(data.path()).admin("127.0.0.1:0").start();
    let token = server.sign_in("alice").token;
    // Something else has taken descriptors that the server counted on.
    let open = descriptors(&server);
    limit_descriptors(&server, open + ROOM);
    let clients = (0..ROOM + REFUSED).map(|_| Client::knock(server.address(), &token)).collect();
    let (mut inside, refused) = inside_and_refused(clients);
    assert!(inside.len() >= ROOM as usize / 2 && refused > 0, "{} are in, {refused} refused", inside.len());
    assert_does_not_burn(&server);
    assert_lives_and_counts(&server, refused);
    inside.iter_mut().for_each(Client::assert_served);
    limit_descriptors(&server, open + 2 * (ROOM + REFUSED));
    inside.extend((0..REFUSED).map(|_| come_in(&server, &token)));
    inside.iter_mut().for_each(Client::assert_served);
    server.stop();
}
