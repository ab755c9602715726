//! Many requests on one connection, REST and WebSocket openings in any order, as proxies and HTTP libraries with pools
//! send them. Each is answered as if it were the first.

use std::time::Duration;

use serde_json::Value;
use tests::harness::{DEADLINE, Ending, Launch, RawSocket, Server, data_dir, masked_frame};

const PING: &[u8] = br#"{"cid":"7","ping":{}}"#;
const HEALTH: &str = "GET /healthcheck HTTP/1.1\r\nHost: localhost\r\n\r\n";

/// The server's answer to the key in `opening`.
const ACCEPT: &str = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=";

fn opening(token: &str) -> String {
    format!(
        "GET /ws?token={token} HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
    )
}

fn post(path: &str, headers: &str, body: &str) -> String {
    format!(
        "POST {path} HTTP/1.1\r\nHost: localhost\r\nAuthorization: Basic ZGVmYXVsdGtleTo=\r\n{headers}\r\n\r\n{body}"
    )
}

/// A request that signs in a user, with a body of announced length or in chunks.
fn sign_in(name: &str) -> [String; 2] {
    let path = format!("/v2/account/authenticate/device?username={name}");
    let body = format!("{{\"id\":\"device-of-{name}\"}}");
    let chunks = format!("{:x};of=it\r\n{body}\r\n0\r\nTrailer: x\r\n\r\n", body.len());
    [post(&path, &format!("Content-Length: {}", body.len()), &body), post(&path, "Transfer-Encoding: chunked", &chunks)]
}

fn expect_status(socket: &mut RawSocket, status: &str, case: &str) -> String {
    let (head, body) = socket.read_answer();
    assert!(head.starts_with(&format!("HTTP/1.1 {status} ")), "{case}: {head}{body}");
    body
}

/// Reads the answer to an opening, and checks that the session works.
fn expect_session(socket: &mut RawSocket, case: &str) {
    let head = socket.read_head();
    assert!(head.starts_with("HTTP/1.1 101 ") && head.contains(ACCEPT), "{case}: {head}");
    socket.write(&masked_frame(0x81, PING));
    expect_pong(socket, case);
}

fn expect_pong(socket: &mut RawSocket, case: &str) {
    let frame = socket.read_frame().unwrap_or_else(|| panic!("{case}: ended"));
    let said: Value = serde_json::from_slice(&frame.payload).expect("JSON");
    assert_eq!((frame.first, &said["cid"]), (0x81, &Value::from("7")), "{case}: {said}");
}

fn launched(data: &tempfile::TempDir) -> Server {
    let launch = Launch::on(data.path()).flag("--session-ttl", 3600).admin("127.0.0.1:0");
    // Some tests open thousands of sessions of one user.
    launch.flag("--sessions-per-user", 0).start()
}

#[test]
fn an_opening_may_come_behind_any_requests() {
    let data = data_dir();
    let server = launched(&data);
    let token = server.sign_in("alice").token;
    let [counted, chunked] = sign_in("bob");
    let head = HEALTH.replace("GET", "HEAD");
    let cases: &[(&str, &[&str])] = &[
        ("a health check", &[HEALTH]),
        ("five of them", &[HEALTH; 5]),
        ("a sign-in", &[&counted]),
        ("a sign-in in chunks", &[&chunked]),
        ("some of each", &[HEALTH, &counted, &chunked, HEALTH]),
        ("empty lines", &[HEALTH, "\r\n\r\n"]),
    ];
    for (case, requests) in cases {
        let answers = requests.iter().filter(|request| !request.trim().is_empty()).count();
        // One request after the other, each after the previous answer.
        let mut socket = RawSocket::connect(server.address());
        for request in *requests {
            socket.write(request.as_bytes());
            if !request.trim().is_empty() {
                expect_status(&mut socket, "200", case);
            }
        }
        socket.write(opening(&token).as_bytes());
        expect_session(&mut socket, case);
        // All requests at once, followed by a frame.
        let mut socket = RawSocket::connect(server.address());
        let all = [requests.concat().as_bytes(), opening(&token).as_bytes(), &masked_frame(0x81, PING)].concat();
        socket.write(&all);
        (0..answers).for_each(|_| drop(expect_status(&mut socket, "200", case)));
        assert!(socket.read_head().starts_with("HTTP/1.1 101 "), "{case}, at once");
        expect_pong(&mut socket, case);
        // In pieces, which the server reads one by one.
        let mut socket = RawSocket::connect(server.address());
        for piece in all.chunks(97) {
            socket.write(piece);
        }
        (0..answers).for_each(|_| drop(expect_status(&mut socket, "200", case)));
        assert!(socket.read_head().starts_with("HTTP/1.1 101 "), "{case}, in pieces");
        expect_pong(&mut socket, case);
    }
    let mut socket = RawSocket::connect(server.address());
    socket.write(format!("{head}{}", opening(&token)).as_bytes());
    assert!(socket.read_head().starts_with("HTTP/1.1 200 "), "an answer without its body");
    expect_session(&mut socket, "behind HEAD");
    server.assert_works("all of them");
}

#[test]
fn a_session_behind_requests_is_one_like_any_other() {
    let data = data_dir();
    let server = launched(&data);
    let token = server.sign_in("alice").token;
    let mut socket = RawSocket::connect(server.address());
    socket.write(format!("{HEALTH}{}", opening(&token)).as_bytes());
    expect_status(&mut socket, "200", "before");
    expect_session(&mut socket, "behind it");
    // Half a frame, then the rest.
    let frame = masked_frame(0x81, PING);
    socket.write(&frame[..5]);
    socket.write(&frame[5..]);
    expect_pong(&mut socket, "a frame in two pieces");
    // Such a session ends like any other: with the matching close code, and in an orderly stop.
    socket.write(&masked_frame(0x82, b"x"));
    assert_eq!(socket.read_ending().1, Ending::Code(1000));
    let mut socket = RawSocket::connect(server.address());
    socket.write(format!("{HEALTH}{}", opening(&token)).as_bytes());
    expect_status(&mut socket, "200", "before");
    expect_session(&mut socket, "the second");
    server.stop();
    assert_eq!(socket.read_ending().1, Ending::Code(1012));
}

#[test]
fn a_refused_opening_leaves_the_connection_to_the_next_request() {
    let data = data_dir();
    let server = launched(&data);
    let token = server.sign_in("alice").token;
    for before in ["", HEALTH] {
        let mut socket = RawSocket::connect(server.address());
        socket.write(before.as_bytes());
        if !before.is_empty() {
            expect_status(&mut socket, "200", "before");
        }
        for _ in 0..3 {
            socket.write(opening("forged").as_bytes());
            expect_status(&mut socket, "401", "a forged token");
            socket.write(HEALTH.as_bytes());
            expect_status(&mut socket, "200", "behind a refusal");
        }
        let both = format!("{}{}{HEALTH}{}", opening("forged"), opening("").replace("13", "8"), opening(&token));
        socket.write(both.as_bytes());
        expect_status(&mut socket, "401", "pipelined");
        expect_status(&mut socket, "401", "pipelined, no token");
        expect_status(&mut socket, "200", "pipelined");
        expect_session(&mut socket, "behind refusals");
    }
    // The connection is not kept if the client does not want that, or if the start of the next request is uncertain.
    for request in [
        opening("forged").replace("Connection: Upgrade", "Connection: close, Upgrade"),
        opening("forged").replace("HTTP/1.1", "HTTP/1.0"),
        opening(&token).replace("Host", "Content-Length: 5\r\nHost"),
        opening(&token).replace("Host", "Transfer-Encoding: chunked\r\nHost"),
    ] {
        let mut socket = RawSocket::connect(server.address());
        socket.write(format!("{HEALTH}{request}{HEALTH}").as_bytes());
        expect_status(&mut socket, "200", &request);
        let (head, _) = socket.read_answer();
        assert!(head.starts_with("HTTP/1.1 4") && head.contains("Connection: close"), "{request}{head}");
        assert_eq!(socket.read_to_end(DEADLINE), "", "{request}");
    }
    let page = server.admin().get("/metrics", "").body;
    let refused = |kind: &str, expected: u64| {
        let line = format!("stentor_openings_refused_total{{kind=\"{kind}\"}} {expected}\n");
        assert!(page.contains(&line), "{line} is not in {page}");
    };
    refused("token_invalid", 2 * 5 + 2);
    refused("body", 2);
    refused("handshake", 0);
}

#[test]
fn a_request_that_ends_the_connection_lets_no_opening_follow() {
    let data = data_dir();
    let server = launched(&data);
    let token = server.sign_in("alice").token;
    for request in [HEALTH.replace("Host", "Connection: close\r\nHost"), HEALTH.replace("HTTP/1.1", "HTTP/1.0")] {
        let mut socket = RawSocket::connect(server.address());
        socket.write(format!("{request}{}", opening(&token)).as_bytes());
        let (head, _) = socket.read_answer();
        assert!(head.contains(" 200 "), "{head}");
        assert_eq!(socket.read_to_end(DEADLINE), "", "{request}");
    }
    // A body that contains an opening is still only a body.
    let hidden = opening(&token);
    let mut socket = RawSocket::connect(server.address());
    let body = post("/v2/account/authenticate/device", &format!("Content-Length: {}", hidden.len()), &hidden);
    socket.write(format!("{body}{HEALTH}").as_bytes());
    expect_status(&mut socket, "400", "an opening for a body");
    expect_status(&mut socket, "200", "behind it");
    let chunks = format!("{:x}\r\n{hidden}\r\n0\r\n\r\n", hidden.len());
    socket.write(post("/v2/account/authenticate/device", "Transfer-Encoding: chunked", &chunks).as_bytes());
    expect_status(&mut socket, "400", "an opening in a chunk");
    socket.write(hidden.as_bytes());
    expect_session(&mut socket, "the opening itself");
}

#[test]
fn a_body_that_is_waited_for_may_precede_an_opening() {
    let data = data_dir();
    let server = launched(&data);
    let token = server.sign_in("alice").token;
    let body = r#"{"id":"a-device-of-carol"}"#;
    let headers = format!("Content-Length: {}\r\nExpect: 100-continue", body.len());
    let mut socket = RawSocket::connect(server.address());
    socket.write(post("/v2/account/authenticate/device", &headers, "").as_bytes());
    assert!(socket.read_head().starts_with("HTTP/1.1 100 "));
    socket.write(format!("{body}{}", opening(&token)).as_bytes());
    expect_status(&mut socket, "200", "the body");
    expect_session(&mut socket, "behind it");
}

/// The server's memory in KiB with `count` open sessions that have joined nothing, after so many requests on the
/// connection of each.
fn resident_with_sessions(requests: usize, count: usize) -> usize {
    let data = data_dir();
    let server = launched(&data);
    let token = server.sign_in("alice").token;
    let mut sockets = Vec::new();
    for _ in 0..count {
        let mut socket = RawSocket::connect(server.address());
        socket.write(format!("{}{}", HEALTH.repeat(requests), opening(&token)).as_bytes());
        (0..requests).for_each(|_| drop(expect_status(&mut socket, "200", "before")));
        assert!(socket.read_head().starts_with("HTTP/1.1 101 "));
        sockets.push(socket);
    }
    server.resident_kib()
}

#[test]
fn a_session_behind_requests_costs_no_more_memory() {
    const SESSIONS: usize = 2000;
    // The memory that hyper uses for a connection. If each session kept a tenth of it, that would be ten times what a
    // session may cost.
    const HTTP_CONNECTION_KIB: usize = 18;
    let (direct, behind) = (resident_with_sessions(0, SESSIONS), resident_with_sessions(1, SESSIONS));
    let more = behind.saturating_sub(direct);
    assert!(more < SESSIONS * HTTP_CONNECTION_KIB / 10, "{more} KiB more for {SESSIONS} sessions: {direct}, {behind}");
}

#[test]
fn a_client_that_has_said_all_gets_its_answers() {
    let data = data_dir();
    let server = launched(&data);
    let token = server.sign_in("alice").token;
    let [counted, _] = sign_in("bob");
    let within = Duration::from_secs(15);
    for (request, status) in [
        (HEALTH.to_owned(), "200"),
        (HEALTH.replace("HTTP/1.1", "HTTP/1.0"), "200"),
        (counted, "200"),
        (opening("forged"), "401"),
        (format!("{HEALTH}{}", opening("forged")), "401"),
        (post("/v2/account/authenticate/device", "Content-Length: 100", "{\"id\":"), "400"),
        (opening(&token), "101"),
    ] {
        let mut socket = RawSocket::connect(server.address());
        socket.write(request.as_bytes());
        socket.finish_writing();
        let heard = socket.read_to_end(within);
        let last = heard.rsplit("HTTP/1.").next().unwrap_or_default();
        assert!(last[1..].trim_start().starts_with(status), "{request}{heard}");
    }
}

/// A client may send all it has to say and close its half at once: behind the first opening or behind another request.
#[test]
fn a_session_that_closes_its_half_gets_its_answers() {
    let data = data_dir();
    let server = launched(&data);
    let token = server.sign_in("alice").token;
    let join = br#"{"cid":"1","channel_join":{"target":"lobby","type":1,"persistence":true,"hidden":false}}"#;
    let send =
        br#"{"cid":"2","channel_message_send":{"channel_id":"2...lobby","content":"{\"said\":\"last words\"}"}}"#;
    let said = [masked_frame(0x81, join), masked_frame(0x81, send), masked_frame(0x81, PING)].concat();
    // The store has not written the message yet when the close frame comes.
    let closing = [said.clone(), masked_frame(0x88, &1000_u16.to_be_bytes())].concat();
    for round in 0..20 {
        for (case, before) in [("first", ""), ("behind a request", HEALTH)] {
            for (ending, frames) in [("closes its half", &said), ("sends a close frame", &closing)] {
                let mut socket = RawSocket::connect(server.address());
                socket.write(&[before.as_bytes(), opening(&token).as_bytes(), frames].concat());
                if frames.len() == said.len() {
                    socket.finish_writing();
                }
                let case = format!("{case}, {ending}, round {round}");
                if !before.is_empty() {
                    expect_status(&mut socket, "200", &case);
                }
                let head = socket.read_head();
                assert!(head.starts_with("HTTP/1.1 101 "), "{case}: {head}");
                let mut answered = Vec::new();
                let end = loop {
                    let frame = socket.read_frame().unwrap_or_else(|| panic!("{case}: cut after {answered:?}"));
                    if frame.first == 0x88 {
                        break frame.payload;
                    }
                    let said: Value = serde_json::from_slice(&frame.payload).expect("JSON");
                    answered.extend(said["cid"].as_str().map(str::to_owned));
                };
                assert_eq!(answered, ["1", "2", "7"], "{case}");
                assert_eq!(end[..2], 1000_u16.to_be_bytes(), "{case}");
            }
        }
    }
}
