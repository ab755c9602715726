//! Which clients may open a socket, and how: tokens, headers, formats.

use std::time::Instant;

use serde_json::json;
use tests::harness::{DEADLINE, Launch, RawSocket, Server, Socket, data_dir, masked_frame};

fn check(server: &Server, case: &str, path: &str, headers: &[(&str, &str)], expected: Result<(), u16>) {
    let opened = Socket::try_connect(server.address(), path, headers);
    match (opened, expected) {
        (Ok(mut socket), Ok(())) => socket.assert_open(),
        (Err(status), Err(expected)) => assert_eq!(status, expected, "{case}"),
        (opened, expected) => panic!("{case}: {:?} instead of {expected:?}", opened.map(|_| "open")),
    }
    server.assert_works(case);
}

/// The token with the payload of another token, as an attacker would forge it.
fn with_payload_of(token: &str, other: &str) -> String {
    let parts = |token: &str| token.split('.').map(str::to_string).collect::<Vec<_>>();
    let (mine, theirs) = (parts(token), parts(other));
    format!("{}.{}.{}", mine[0], theirs[1], mine[2])
}

/// A token that claims to need no signature: header `{"alg":"none","typ":"JWT"}`.
fn unsigned(token: &str) -> String {
    let payload = token.split('.').nth(1).expect("three parts");
    format!("eyJhbGciOiJub25lIiwidHlwIjoiSldUIn0.{payload}.")
}

#[test]
fn only_a_good_token_opens_a_socket() {
    let data = data_dir();
    let server = Launch::on(data.path()).flag("--session-ttl", 3600).start();
    let (alice, bob) = (server.sign_in("alice"), server.sign_in("bob"));
    let elsewhere = data_dir();
    let stranger = Launch::on(elsewhere.path()).start().sign_in("alice");
    let good = alice.token.as_str();
    let cut = &good[..good.len() - 1];
    let bearer = format!("Bearer {good}");
    let forged = with_payload_of(good, &bob.token);
    let unsigned = unsigned(good);
    let with = |token: &str| format!("/ws?lang=en&status=false&token={token}");

    check(&server, "good", &with(good), &[], Ok(()));
    check(&server, "no token", "/ws", &[], Err(401));
    check(&server, "empty token", &with(""), &[], Err(401));
    check(&server, "garbage", &with("garbage"), &[], Err(401));
    check(&server, "three empty parts", &with(".."), &[], Err(401));
    check(&server, "cut", &with(cut), &[], Err(401));
    check(&server, "payload of another", &with(&forged), &[], Err(401));
    check(&server, "unsigned", &with(&unsigned), &[], Err(401));
    check(&server, "another installation's", &with(&stranger.token), &[], Err(401));
    check(&server, "a refresh token", &with(&alice.refresh_token), &[], Err(401));

    let header = |value| [("Authorization", value)];
    check(&server, "in the header", "/ws", &header(bearer.as_str()), Ok(()));
    check(&server, "good header wins over a bad query", &with("bad"), &header(bearer.as_str()), Ok(()));
    check(&server, "bad header wins over a good query", &with(good), &header("Bearer bad"), Err(401));
    check(&server, "a header of another kind", &with(good), &header("Basic ZGVmYXVsdGtleTo="), Err(401));
    check(&server, "an empty bearer", &with(good), &header("Bearer "), Err(401));

    check(&server, "format json", &format!("{}&format=json", with(good)), &[], Ok(()));
    check(&server, "format empty", &format!("{}&format=", with(good)), &[], Ok(()));
    check(&server, "format unknown", &format!("{}&format=xml", with(good)), &[], Err(400));
    check(&server, "format protobuf", &format!("{}&format=protobuf", with(good)), &[], Ok(()));
    check(&server, "format in capitals", &format!("{}&format=PROTOBUF", with(good)), &[], Err(400));
    check(&server, "format is looked at first", "/ws?format=xml", &[], Err(400));
    check(&server, "any origin", &with(good), &[("Origin", "https://example.org")], Ok(()));
    check(&server, "any language, any status", &format!("/ws?lang=tlh&status=maybe&token={good}"), &[], Ok(()));
}

#[test]
fn a_logged_out_token_opens_nothing() {
    let data = data_dir();
    let server = Launch::on(data.path()).flag("--session-ttl", 3600).start();
    let alice = server.sign_in("alice");
    let mut open = Socket::connect(server.address(), &alice.token);
    let tokens = json!({"token": alice.token, "refresh_token": alice.refresh_token});
    let answer = server.http().post("/v2/session/logout", &format!("Bearer {}", alice.token), &tokens);
    assert_eq!((answer.status, answer.body.as_str()), (200, "{}"));
    check(&server, "logged out", &format!("/ws?token={}", alice.token), &[], Err(401));
    open.assert_open();
}

#[test]
fn an_expired_token_opens_nothing() {
    let data = data_dir();
    let server = Launch::on(data.path()).flag("--session-ttl", 1).without_budgets().start();
    let alice = server.http().post(
        "/v2/account/authenticate/custom",
        "Basic ZGVmYXVsdGtleTo=",
        &json!({"id": "custom-id-of-alice"}),
    );
    let token = alice.json()["token"].as_str().expect("a token").to_string();
    let path = format!("/ws?token={token}");
    let start = Instant::now();
    let status = loop {
        match Socket::try_connect(server.address(), &path, &[]) {
            Err(status) => break status,
            Ok(_) => assert!(start.elapsed() < DEADLINE, "a token of one second still opens sockets"),
        }
    };
    assert_eq!(status, 401);
    assert_eq!(server.http().get("/v2/account", &token).status, 401);
}

#[test]
fn an_upgrade_needs_its_headers() {
    let data = data_dir();
    let server = Launch::on(data.path()).flag("--session-ttl", 3600).start();
    let token = server.sign_in("alice").token;
    let answer = server.http().request("GET", &format!("/ws?token={token}"), &[], "");
    assert_eq!(answer.status, 400, "no upgrade headers: {}", answer.body);
    let connection = "Connection: Upgrade\r\n";
    let upgrade = "Upgrade: websocket\r\n";
    let version = "Sec-WebSocket-Version: 13\r\n";
    let key = "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";
    let cases = [
        ("all there", [connection, upgrade, version, key].concat(), "101"),
        ("several tokens, other case", ["connection: keep-alive, upgrade\r\n", upgrade, version, key].concat(), "101"),
        ("no version", [connection, upgrade, key].concat(), "4"),
        ("version 8", [connection, upgrade, "Sec-WebSocket-Version: 8\r\n", key].concat(), "4"),
        ("no key", [connection, upgrade, version].concat(), "4"),
        ("a key of 3 bytes", [connection, upgrade, version, "Sec-WebSocket-Key: YWJj\r\n"].concat(), "4"),
        ("upgrade to something else", [connection, "Upgrade: h2c\r\n", version, key].concat(), "4"),
    ];
    for (case, headers, status) in cases {
        let mut socket = RawSocket::connect(server.address());
        socket.write(format!("GET /ws?token={token} HTTP/1.1\r\nHost: localhost\r\n{headers}\r\n").as_bytes());
        let head = socket.read_head();
        assert!(head.starts_with(&format!("HTTP/1.1 {status}")), "{case}: {head}");
        server.assert_works(case);
    }
    let offers = "Sec-WebSocket-Extensions: permessage-deflate\r\nSec-WebSocket-Protocol: chat\r\n";
    let mut socket = RawSocket::connect(server.address());
    let headers = [connection, upgrade, version, key, offers].concat();
    socket.write(format!("GET /ws?token={token} HTTP/1.1\r\nHost: localhost\r\n{headers}\r\n").as_bytes());
    let head = socket.read_head().to_lowercase();
    assert!(head.starts_with("http/1.1 101"), "{head}");
    assert!(!head.contains("sec-websocket-extensions") && !head.contains("sec-websocket-protocol"), "{head}");
}

#[test]
fn openings_in_any_spelling() {
    let data = data_dir();
    let server = Launch::on(data.path()).flag("--session-ttl", 3600).start();
    let token = server.sign_in("alice").token;
    let upgrade = "Host: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n";
    let opening =
        |target: &str, key: &str| format!("GET {target} HTTP/1.1\r\n{upgrade}Sec-WebSocket-Key: {key}\r\n\r\n");
    let (key, good) = ("dGhlIHNhbXBsZSBub25jZQ==", format!("/ws?token={token}"));
    let body = |line: &str| opening(&good, key).replace("Host", &format!("{line}\r\nHost"));
    let cases = [
        ("the plain form", opening(&good, key), "101"),
        ("absolute form", opening(&format!("http://host:7350{good}"), key), "101"),
        ("absolute form of WebSocket", opening(&format!("ws://host{good}"), key), "101"),
        ("a percent-encoded path", opening(&format!("/%77s?token={token}"), key), "101"),
        ("an empty line first", format!("\r\n{}", opening(&good, key)), "101"),
        ("raw in the query", opening(&format!("{good}&lang=\"<{{}}>\""), key), "101"),
        ("the standard's sample of a key", opening(&good, "AQIDBAUGBwgJCgsMDQ4PEC=="), "101"),
        ("bits behind the key", opening(&good, "dGhlIHNhbXBsZSBub25jZf=="), "101"),
        ("a key of 15 bytes", opening(&good, "AQIDBAUGBwgJCgsMDQ4P"), "400"),
        ("a key of 17 bytes", opening(&good, "AQIDBAUGBwgJCgsMDQ4PEBE="), "400"),
        ("a key that is no base64", opening(&good, "AQIDBAUGBwgJCgsMDQ4P!!=="), "400"),
        ("no body, and that said", body("Content-Length: 0"), "101"),
        ("a body", format!("{}hello", body("Content-Length: 5")), "400"),
        ("a body in chunks", format!("{}0\r\n\r\n", body("Transfer-Encoding: chunked")), "400"),
        ("a body in another coding", body("Transfer-Encoding: gzip"), "400"),
        ("a length that is none", body("Content-Length: -0"), "400"),
        ("no host", opening(&good, key).replace("Host: localhost\r\n", ""), "400"),
        ("two hosts", opening(&good, key).replace("Host", "Host: a\r\nHost"), "400"),
    ];
    for (case, request, status) in &cases {
        for before in ["", "GET /healthcheck HTTP/1.1\r\nHost: a\r\n\r\n"] {
            let mut socket = RawSocket::connect(server.address());
            socket.write(format!("{before}{request}").as_bytes());
            if !before.is_empty() {
                assert!(socket.read_answer().0.starts_with("HTTP/1.1 200 "));
            }
            let head = socket.read_head();
            assert_eq!(head.get(9..12), Some(*status), "{case}, behind {before:?}: {head}");
            if *status == "101" {
                socket.write(&masked_frame(0x81, br#"{"cid":"1","ping":{}}"#));
                assert!(socket.read_frame().is_some_and(|frame| frame.first == 0x81), "{case}");
            }
        }
    }
    server.assert_works("all of them");
}

#[test]
fn a_status_is_shown_if_it_is_wished_for() {
    let data = data_dir();
    let server = Launch::on(data.path()).flag("--session-ttl", 3600).start();
    let alice = server.sign_in("alice");
    for (status, shown) in [
        ("1", true),
        ("t", true),
        ("T", true),
        ("true", true),
        ("TRUE", true),
        ("True", true),
        ("0", false),
        ("false", false),
        ("tRUE", false),
        ("yes", false),
        ("2", false),
        ("", false),
        ("%FF", false),
    ] {
        let path = format!("/ws?lang=en&status={status}&token={}", alice.token);
        let mut socket = Socket::try_connect(server.address(), &path, &[]).expect("it opens whatever the status");
        socket.assert_open();
        let events: Vec<_> = socket.pushes.iter().map(|push| &push["status_presence_event"]["joins"]).collect();
        assert_eq!(events.len(), usize::from(shown), "{status:?}: {events:?}");
        if shown {
            let joins = events[0].as_array().expect("a list");
            assert_eq!((&joins[0]["user_id"], &joins[0]["status"]), (&json!(alice.user_id), &json!("")), "{status:?}");
        }
        // The next session does not receive this one's leave: the session has ended when the server has answered its
        // close.
        socket.close(1000);
    }
}
