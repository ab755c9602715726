//! Clients that send too slowly on purpose: the server closes each one within its deadline, and other clients do not
//! wait for them.

use std::thread;
use std::time::{Duration, Instant};

use tests::harness::{Launch, RawSocket, Server, data_dir};

/// The server reads a request for at most ten seconds. The rest is for a busy test machine.
const LET_GO_WITHIN: Duration = Duration::from_secs(20);
/// The time between two bytes of a slow client, so that it is never idle for long.
const DRIP: Duration = Duration::from_millis(250);

/// Writes a byte at intervals until the server ends the connection. Returns how long that took.
fn drip_until_let_go(server: &Server, start: &str) -> Duration {
    let mut reader = RawSocket::connect(server.address());
    reader.write(start.as_bytes());
    let mut writer = reader.second_hand();
    let started = Instant::now();
    let dripping = thread::spawn(move || {
        while started.elapsed() < LET_GO_WITHIN && writer.try_write(b"x") {
            thread::sleep(DRIP);
        }
    });
    reader.read_to_end(LET_GO_WITHIN);
    let took = started.elapsed();
    dripping.join().expect("the dripping thread does not panic");
    took
}

#[test]
fn heads_and_bodies_that_drip_in() {
    let data = data_dir();
    let server = Launch::on(data.path()).start();
    let body = "POST /v2/account/authenticate/device HTTP/1.1\r\nHost: localhost\r\n\
                Authorization: Basic ZGVmYXVsdGtleTo=\r\nContent-Length: 10000\r\n\r\n";
    let cases =
        [("a head without its end", "GET / HTTP/1.1\r\nX-Slow: "), ("a head of one byte", "G"), ("a body", body)];
    thread::scope(|scope| {
        for (case, start) in cases {
            let server = &server;
            scope.spawn(move || {
                let took = drip_until_let_go(server, start);
                assert!(took < LET_GO_WITHIN, "{case}: let go after {took:?}");
                assert!(took > Duration::from_secs(2), "{case}: an honest slow client has time: {took:?}");
            });
            scope.spawn(move || {
                let mut silent = RawSocket::connect(server.address());
                silent.write(start.as_bytes());
                silent.read_to_end(LET_GO_WITHIN);
            });
        }
        // The server serves other clients meanwhile.
        for _ in 0..20 {
            server.assert_works("slow clients");
        }
    });
    server.assert_works("slow clients are gone");
}

#[test]
fn a_connection_that_says_nothing_is_let_go() {
    let data = data_dir();
    let server = Launch::on(data.path()).start();
    let mut silent = RawSocket::connect(server.address());
    silent.read_to_end(LET_GO_WITHIN);
    server.assert_works("a silent connection");
}

#[test]
fn a_session_that_has_ended_does_not_live_by_talking() {
    let data = data_dir();
    let server = Launch::on(data.path()).start();
    let token = server.sign_in("alice").token;
    let mut talker = RawSocket::upgraded(server.address(), &token);
    // A binary frame ends the session. This client ignores that and keeps sending.
    talker.write(b"\x82\x80\0\0\0\0");
    let started = Instant::now();
    while talker.try_write(b"x") {
        assert!(started.elapsed() < LET_GO_WITHIN, "the server still listens");
        thread::sleep(DRIP);
    }
    server.assert_works("a client that never hung up");
}
