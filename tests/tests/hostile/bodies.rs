//! Bodies of requests: without a key, half sent and never finished, small ones that inflate, and heads without an end.

use std::net::Ipv4Addr;

use tests::harness::{Launch, RawSocket, SERVER_KEY, bearer};

use crate::stage::{ATTACKER, BYSTANDER, Stage, sign_in, sign_in_device};

/// How many connections attack at once.
const CONNECTIONS: usize = 4000;

/// What all bodies of the server may hold (docs/protocol.md, section 10).
const BODIES_KIB_MAX: usize = 32 << 10;

/// What all heads that are not whole may hold.
const HEADS_KIB_MAX: usize = 32 << 10;
/// What a connection may hold in the table beside the bytes of its head, with what the allocator adds.
const TABLE_ENTRY_KIB_MAX: usize = 8;

/// What one connection may hold beside its body: hyper's buffers and the state of the connection.
const CONNECTION_KIB_MAX: usize = 40;

/// 37,000 `vars` in 453 bytes.
const GZIPPED_VARS: &[u8] = include_bytes!("vars.json.gz");

/// Opens many connections that send `first` and wait.
fn open(stage: &Stage, first: &str) -> Vec<RawSocket> {
    let connections = (0..CONNECTIONS).map(|_| {
        let mut socket = stage.connect(ATTACKER);
        socket.write(first.as_bytes());
        socket
    });
    connections.collect()
}

#[test]
fn a_body_without_a_key_is_refused_by_its_head() {
    let stage = Stage::launch();
    let before = stage.server.resident_kib();
    let announced = sign_in("device", "Content-Length: 200000", &"x".repeat(100_000)).replace(SERVER_KEY, "Basic eDo=");
    stage.beside(BYSTANDER, &sign_in_device("bystander"), || {
        for mut attacker in open(&stage, &announced) {
            let (head, body) = attacker.read_answer();
            assert!(head.starts_with("HTTP/1.1 401 "), "{head}{body}");
            assert!(body.contains("server key missing or wrong"), "{body}");
        }
    });
    assert_eq!(stage.metric("stentor_body_bytes"), 0);
    let more = stage.server.resident_kib().saturating_sub(before);
    // Without the bodies themselves, of which 97 KiB came on each connection.
    assert!(more < CONNECTIONS * 2 * CONNECTION_KIB_MAX, "{more} KiB more");
    stage.server.assert_works("bodies without a key");
}

/// Half of the largest body that there is. A thousand of them are more than all bodies may hold, so that the room is full
/// before the first of them has had its ten seconds.
fn half_body(stage: &Stage) -> String {
    let token = stage.server.sign_in("attacker").token;
    format!(
        "POST /v2/session/logout HTTP/1.1\r\nHost: localhost\r\nAuthorization: {}\r\nContent-Length: 36000\r\n\r\n{}",
        bearer(&token),
        "x".repeat(20_000)
    )
}

/// Half bodies of clients that have a token: the bystander is served beside them, from another address and from theirs.
#[test]
fn half_bodies_hold_no_more_than_all_bodies_may() {
    for bystander in [BYSTANDER, ATTACKER] {
        // One user's budget would refuse most of the bodies, and they are to fill the room for all bodies.
        let stage = Stage::launch_with(Launch::without_budgets);
        let before = stage.server.resident_kib();
        let half = half_body(&stage);
        let (held, resident) = stage.beside(bystander, &sign_in_device("bystander"), || {
            let _attackers = open(&stage, &half);
            // The requests begin some in each turn, so not all of them have begun when the last one is sent.
            stage.await_metric("stentor_http_requests_refused_total{kind=\"bodies_full\"}", 1);
            (stage.metric("stentor_body_bytes"), stage.server.resident_kib())
        });
        assert!(held as usize <= BODIES_KIB_MAX << 10, "{held} bytes are held");
        let more = resident.saturating_sub(before);
        assert!(more < BODIES_KIB_MAX + CONNECTIONS * CONNECTION_KIB_MAX, "{more} KiB more");
        stage.server.assert_works("half bodies");
    }
}

/// The attackers drop their oldest half bodies and send new ones for as long as the bystander asks.
#[test]
fn half_bodies_that_keep_coming_starve_no_other_client() {
    // One user's budget would refuse most of the bodies.
    let stage = Stage::launch_with(Launch::without_budgets);
    let half = half_body(&stage);
    stage.beside(ATTACKER, &sign_in_device("bystander"), || {
        let mut attackers = open(&stage, &half);
        for (number, attacker) in attackers.iter_mut().enumerate() {
            *attacker = stage.connect(Ipv4Addr::new(127, 0, 1, (number % 256) as u8));
            attacker.write(half.as_bytes());
        }
    });
    assert!(stage.metric("stentor_body_bytes") as usize <= BODIES_KIB_MAX << 10);
    stage.server.assert_works("half bodies that keep coming");
}

/// A head that does not end, nearly as long as a head may be.
#[test]
fn half_heads_hold_no_more_than_all_heads_may() {
    let stage = Stage::launch();
    let before = stage.server.resident_kib();
    let half = format!("POST /v2/account HTTP/1.1\r\nHost: a\r\nX-Padding: {}", "x".repeat(20_000));
    let resident = stage.beside(BYSTANDER, &sign_in_device("bystander"), || {
        let _attackers = open(&stage, &half);
        stage.await_metric("stentor_connections_refused_total", 1);
        stage.server.resident_kib()
    });
    let more = resident.saturating_sub(before);
    assert!(more < HEADS_KIB_MAX + CONNECTIONS * TABLE_ENTRY_KIB_MAX, "{more} KiB more");
    stage.server.assert_works("half heads");
}

#[test]
fn a_small_body_that_inflates_is_refused_at_the_bound() {
    let stage = Stage::launch();
    let lines = format!("Content-Encoding: gzip\r\nContent-Length: {}", GZIPPED_VARS.len());
    let request = [sign_in("device", &lines, "").as_bytes(), GZIPPED_VARS].concat();
    stage.beside(BYSTANDER, &sign_in_device("bystander"), || {
        for _ in 0..500 {
            let (head, body) = stage.ask(ATTACKER, &request);
            assert!(head.starts_with("HTTP/1.1 400 "), "{head}{body}");
            assert!(body.contains("larger than 16384 bytes"), "{body}");
        }
    });
    assert_eq!(stage.metric("stentor_http_requests_refused_total{kind=\"body_too_large\"}"), 500);
    stage.server.assert_works("bodies that inflate");
}

#[test]
fn pairs_are_counted_while_they_are_read() {
    let stage = Stage::launch();
    let pairs: Vec<String> = (0..1000).map(|number| format!("\"{number}\":\"\"")).collect();
    let body = format!("{{\"id\":\"a-device-of-mine\",\"vars\":{{{}}}}}", pairs.join(","));
    let request = sign_in("device", &format!("Content-Length: {}", body.len()), &body);
    stage.beside(BYSTANDER, &sign_in_device("bystander"), || {
        for _ in 0..200 {
            let (head, said) = stage.ask(ATTACKER, request.as_bytes());
            assert!(head.starts_with("HTTP/1.1 400 ") && said.contains("more than 64 pairs"), "{head}{said}");
        }
    });
    assert_eq!(stage.metric("stentor_accounts_made_total"), 1, "the bystander's");
}
