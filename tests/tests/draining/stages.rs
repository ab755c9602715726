//! The stages of a drain, and what ends it at once.

use std::collections::BTreeSet;
use std::net::TcpStream;

use rustix::process::Signal;
use tests::harness::{Closed, Launch, RawSocket, Socket, data_dir};

use crate::{LONG, await_stage, launch, metric, until};

/// Asserts that the connection ends with this code.
fn assert_closed(socket: &mut Socket, expected: u16) {
    match socket.expect_closed() {
        Closed::Frame { code, .. } => assert_eq!(code, expected),
        Closed::Cut => panic!("cut off without a close frame"),
    }
}

#[test]
fn while_it_waits_the_server_is_not_ready_and_everything_goes_on() {
    let data = data_dir();
    let mut server = launch(data.path()).drain_wait(LONG).start();
    let (public, admin) = (server.http(), server.admin());
    let mut early = server.connect("early");
    assert_eq!(public.request("GET", "/readyz", &[], "").status, 200);
    let ask = |raw: &mut RawSocket| {
        raw.write(b"GET /healthz HTTP/1.1\r\nHost: a\r\n\r\n");
        raw.read_answer().0.to_lowercase()
    };
    let mut kept = RawSocket::connect(server.address());
    assert!(!ask(&mut kept).contains("connection: close"));

    server.signal(Signal::TERM);
    for http in [&public, &admin] {
        let unready = until("it is not ready", || {
            Some(http.request("GET", "/readyz", &[], "")).filter(|answer| answer.status == 503)
        });
        assert!(unready.body.contains("draining"), "{}", unready.body);
        assert_eq!(http.request("GET", "/healthz", &[], "").status, 200);
    }
    assert_eq!(metric(&admin, "stentor_draining"), 1);
    assert_eq!(await_stage(&server, data.path(), "waiting")["begun_by"], "SIGTERM");
    assert!(ask(&mut kept).contains("connection: close"), "the next answer is the last");
    let channel = early.join("lobby");
    let mut late = server.connect("late");
    late.join("lobby");
    assert_eq!(early.say(&channel, r#"{"still":"here"}"#)["channel_message_ack"]["code"], 0);
    until("both sessions are counted", || (metric(&admin, "stentor_drain_sessions_left") == 2).then_some(()));

    server.signal(Signal::TERM);
    assert_closed(&mut early, 1001);
    assert_closed(&mut late, 1001);
    server.await_success();
}

#[test]
fn an_interrupt_ends_a_drain_at_once() {
    for wait in [LONG, "0"] {
        let data = data_dir();
        let mut server = launch(data.path()).drain_wait(wait).flag("--drain-time", LONG).start();
        let mut socket = server.connect("alice");
        server.signal(Signal::TERM);
        await_stage(&server, data.path(), if wait == "0" { "closing" } else { "waiting" });
        server.signal(Signal::INT);
        assert_closed(&mut socket, 1001);
        server.await_success();
    }
}

#[test]
fn while_sessions_are_closed_no_connection_is_accepted_and_what_is_open_goes_on() {
    let data = data_dir();
    let mut server = launch(data.path()).flag("--drain-time", LONG).start();
    let account = server.sign_in("alice");
    let mut socket = Socket::connect(server.address(), &account.token);
    let mut kept: Vec<RawSocket> = (0..2).map(|_| RawSocket::connect(server.address())).collect();
    for raw in &mut kept {
        raw.write(b"GET /healthz HTTP/1.1\r\nHost: a\r\n\r\n");
        assert!(raw.read_answer().0.starts_with("HTTP/1.1 200 "));
    }
    server.signal(Signal::TERM);
    await_stage(&server, data.path(), "closing");
    until("no connection is accepted", || TcpStream::connect(server.address()).is_err().then_some(()));

    let channel = socket.join("lobby");
    assert_eq!(socket.say(&channel, r#"{"still":"here"}"#)["channel_message_ack"]["code"], 0);
    let bearer = format!("Authorization: Bearer {}", account.token);
    kept[0].write(format!("GET /v2/account HTTP/1.1\r\nHost: a\r\n{bearer}\r\n\r\n").as_bytes());
    let (head, body) = kept[0].read_answer();
    assert!(head.starts_with("HTTP/1.1 200 ") && body.contains("alice"), "{head}{body}");
    assert!(head.to_lowercase().contains("connection: close"), "{head}");
    let opening = "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
                   Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==";
    kept[1].write(format!("GET /ws HTTP/1.1\r\nHost: a\r\n{bearer}\r\n{opening}\r\n\r\n").as_bytes());
    let (head, body) = kept[1].read_answer();
    assert!(head.starts_with("HTTP/1.1 503 ") && head.contains("Retry-After: "), "{head}{body}");
    assert_eq!(metric(&server.admin(), "stentor_openings_refused_total{kind=\"draining\"}"), 1);

    server.signal(Signal::TERM);
    assert_closed(&mut socket, 1001);
    server.await_success();
}

#[test]
fn without_a_time_all_sessions_are_closed_and_told_to_come_back() {
    for shards in [1, 3] {
        let data = data_dir();
        let mut server = Launch::on(data.path()).shards(shards).start();
        let mut sockets: Vec<_> = (0..20).map(|n| server.connect(&format!("member-{n}"))).collect();
        server.signal(Signal::TERM);
        let mut hints = BTreeSet::new();
        for socket in &mut sockets {
            let Closed::Frame { code: 1012, reason } = socket.expect_closed() else { panic!("no restart") };
            let (hint, text) = reason.split_once("; ").unwrap_or_else(|| panic!("{reason}"));
            assert_eq!(text, "the server restarts: connect again");
            let hint = hint.strip_prefix("retry_after_ms=").and_then(|number| number.parse::<u32>().ok());
            hints.insert(hint.unwrap_or_else(|| panic!("{reason}")));
        }
        assert!(hints.len() > 5 && hints.last() <= Some(&5000), "clients do not come back together: {hints:?}");
        let said = server.await_success();
        assert!(said.contains("drained"), "{said}");
    }
}

#[test]
fn a_server_that_nobody_watches_waits_for_nobody() {
    let data = data_dir();
    let mut server = Launch::on(data.path()).drain_wait_unsaid().start();
    server.signal(Signal::TERM);
    let said = server.await_success();
    assert!(said.contains("/readyz is 503, the sessions are closed"), "{said}");
    let mut server = Launch::on(data.path()).drain_wait_unsaid().start();
    assert_eq!(server.http().request("GET", "/readyz", &[], "").status, 200);
    server.signal(Signal::TERM);
    until("it waits", || server.output().contains("/readyz is 503, for 10s").then_some(()));
    server.signal(Signal::INT);
    server.await_success();
}
