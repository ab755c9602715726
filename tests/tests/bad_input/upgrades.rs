//! Who may open a socket, and how: tokens, headers, formats.

use std::time::Instant;

use serde_json::json;
use tests::harness::{DEADLINE, Launch, RawSocket, Server, Socket, data_dir};

fn check(server: &Server, case: &str, path: &str, headers: &[(&str, &str)], expected: Result<(), u16>) {
    let opened = Socket::try_connect(server.address(), path, headers);
    match (opened, expected) {
        (Ok(mut socket), Ok(())) => socket.assert_open(),
        (Err(status), Err(expected)) => assert_eq!(status, expected, "{case}"),
        (opened, expected) => panic!("{case}: {:?} instead of {expected:?}", opened.map(|_| "open")),
    }
    server.assert_works(case);
}

/// The token with the payload of another, as a forger would send it.
fn with_payload_of(token: &str, other: &str) -> String {
    let parts = |token: &str| token.split('.').map(str::to_string).collect::<Vec<_>>();
    let (mine, theirs) = (parts(token), parts(other));
    format!("{}.{}.{}", mine[0], theirs[1], mine[2])
}

/// A token that says it needs no signature: header `{"alg":"none","typ":"JWT"}`.
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
    let server = Launch::on(data.path()).flag("--session-ttl", 1).start();
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
fn a_status_is_shown_if_it_is_wished_for() {
    let data = data_dir();
    let server = Launch::on(data.path()).flag("--session-ttl", 3600).start();
    let alice = server.sign_in("alice");
    for (wish, shown) in [
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
        let path = format!("/ws?lang=en&status={wish}&token={}", alice.token);
        let mut socket = Socket::try_connect(server.address(), &path, &[]).expect("it opens whatever the wish");
        socket.assert_open();
        let events: Vec<_> = socket.pushes.iter().map(|push| &push["status_presence_event"]["joins"]).collect();
        assert_eq!(events.len(), usize::from(shown), "{wish:?}: {events:?}");
        if shown {
            let joins = events[0].as_array().expect("a list");
            assert_eq!((&joins[0]["user_id"], &joins[0]["status"]), (&json!(alice.user_id), &json!("")), "{wish:?}");
        }
        // Its leave is nothing that the next one hears: it is gone when its close has been answered.
        socket.close(1000);
    }
}
