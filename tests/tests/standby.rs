//! A second server on one store waits until the first has ended, says so, and takes over.

use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::time::{Duration, Instant};

use rustix::process::Signal;
use tests::harness::{DEADLINE, Launch, Server, Socket, data_dir};

fn free_address() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr()).expect("a port")
}

fn launch(data: &Path) -> Launch {
    Launch::on(data).flag("--session-ttl", 3600)
}

/// Starts a standby and waits until it says that it is one.
fn stand_by(data: &Path) -> Server {
    let standby = launch(data).environment("STENTOR_STANDBY", "true").begin_at(free_address());
    await_line(&standby, "standby: another server has the store");
    standby
}

fn await_line(server: &Server, words: &str) {
    let begun = Instant::now();
    while !server.output().contains(words) {
        assert!(begun.elapsed() < DEADLINE, "no {words:?} in:\n{}", server.output());
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// How long a standby may take on the embedded store, which is about a second (docs/operations.md). The rest is for a busy test
/// machine.
const TAKEOVER_MAX: Duration = Duration::from_secs(1 + 5);

fn await_readiness(server: &Server) {
    let begun = Instant::now();
    loop {
        let ready = TcpStream::connect(server.address()).is_ok()
            && server.http().request("GET", "/readyz", &[], "").status == 200;
        if ready {
            return;
        }
        assert!(begun.elapsed() < DEADLINE, "{}", server.output());
        std::thread::sleep(Duration::from_millis(10));
    }
}

#[test]
fn a_standby_takes_over_when_the_first_server_stops_or_is_killed() {
    let data = data_dir();
    let mut server = launch(data.path()).start();
    let ada = server.sign_in("ada");
    for round in 1..=2 {
        let mut socket = Socket::connect(server.address(), &ada.token);
        let channel = socket.join("lobby");
        let said = socket.say(&channel, r#"{"text":"kept"}"#);
        assert!(said["error"].is_null(), "{said}");

        let standby = stand_by(data.path());
        let unready = standby.http().request("GET", "/readyz", &[], "");
        assert!(unready.status == 503 && unready.body.contains("standby"), "{unready:?}");
        assert_eq!(standby.http().request("GET", "/healthz", &[], "").status, 200, "it lives");
        server.assert_works("a standby beside it");
        match round {
            1 => drop(server.stop()),
            _ => server.kill(),
        }
        let ended = Instant::now();
        await_readiness(&standby);
        assert!(ended.elapsed() < TAKEOVER_MAX, "round {round}: taken over after {:?}", ended.elapsed());
        await_line(&standby, "standby: this server has taken over");
        assert_eq!(standby.output().matches("another server has the store").count(), 1, "{}", standby.output());
        let history = standby.http().history_after(&ada.token, "2...lobby", None).0;
        assert_eq!(history.len(), round, "the keys and the messages are the store's");
        server = standby;
    }
    server.assert_works("two standbys");
}

#[test]
fn a_standby_reads_its_configuration_again_when_it_serves() {
    let data = data_dir();
    let server = launch(data.path()).start();
    let standby = stand_by(data.path());
    standby.signal(Signal::HUP);
    await_line(&standby, "SIGHUP: the configuration is read again when the server serves");
    assert!(!standby.output().contains("was read again"), "{}", standby.output());
    server.stop();
    await_line(&standby, "SIGHUP: the configuration was read again, and nothing in it has changed");
    standby.assert_works("SIGHUP before it served");
}

#[test]
fn a_standby_that_is_told_to_stop_ends() {
    let data = data_dir();
    let server = launch(data.path()).start();
    let standby = stand_by(data.path());
    standby.stop();
    server.assert_works("a standby that has gone");
    let refusal = launch(data.path()).start_refused();
    refusal.assert_says(&["another process"]);
}
