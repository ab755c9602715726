//! HTTP requests that are refused, each with its status and code.

use serde_json::{Value, json};
use tests::harness::{Answer, Launch, RawSocket, Server, data_dir};

use crate::refusals::{assert_refused, forge};

const KEY: (&str, &str) = ("Authorization", "Basic ZGVmYXVsdGtleTo=");
const REQUEST_BYTES_MAX: usize = 16_384;

/// `{"id":"gzip-device-0001"}`, compressed.
const GZIPPED_DEVICE: &[u8] = include_bytes!("device.json.gz");
/// Two million blanks, compressed to two thousand bytes.
const GZIPPED_BOMB: &[u8] = include_bytes!("bomb.json.gz");

fn authenticate(server: &Server, path: &str, headers: &[(&str, &str)], body: &Value) -> Answer {
    server.http().request("POST", &format!("/v2/account/authenticate/{path}"), headers, body.to_string())
}

#[test]
fn signing_in_with_the_wrong_key() {
    let data = data_dir();
    let server = Launch::on(data.path()).start();
    let body = json!({"id": "a-device-of-mine"});
    let cases: &[(&str, Option<&str>)] = &[
        ("no header", None),
        ("empty", Some("")),
        ("wrong key", Some("Basic d3JvbmdrZXk6")),
        ("key without its colon", Some("Basic ZGVmYXVsdGtleQ==")),
        ("not base64", Some("Basic !!!")),
        ("no key at all", Some("Basic")),
        ("another kind", Some("Bearer ZGVmYXVsdGtleTo=")),
        ("the key itself", Some("defaultkey")),
    ];
    for (case, authorization) in cases {
        let headers: Vec<_> = authorization.iter().map(|value| ("Authorization", *value)).collect();
        if *case == "key without its colon" {
            let status = authenticate(&server, "device", &headers, &body).status;
            assert!(status == 401 || status == 200, "{case}: {status}");
            continue;
        }
        assert_refused(&server, case, &authenticate(&server, "device", &headers, &body), 401, 16);
    }
}

#[test]
fn signing_in_with_bad_credentials() {
    let data = data_dir();
    let server = Launch::on(data.path()).start();
    let email = |address: &str, password: &str| json!({"email": address, "password": password});
    let id = |text: &str| json!({ "id": text });
    let good = authenticate(&server, "email?username=first", &[KEY], &email("first@example.org", "long enough"));
    assert_eq!(good.status, 200, "{}", good.body);
    let long_name = format!("device?username={}", "n".repeat(129));
    let long_email = format!("{}@example.org", "a".repeat(250));
    let cases = [
        ("no id", "device", json!({}), 400, 3),
        ("device id of 9 bytes", "device", id("123456789"), 400, 3),
        ("device id of 129 bytes", "device", id(&"d".repeat(129)), 400, 3),
        ("device id with a blank", "device", id("device of mine"), 400, 3),
        ("device id with a control character", "device", id("device\u{1}of-mine"), 400, 3),
        ("custom id of 5 bytes", "custom", id("12345"), 400, 3),
        ("custom id of 129 bytes", "custom", id(&"c".repeat(129)), 400, 3),
        ("custom id with a line feed", "custom", id("custom\nid"), 400, 3),
        ("id is a number", "custom", json!({"id": 12345678}), 400, 3),
        ("no such device", "device?create=false", id("nobody-has-this-one"), 404, 5),
        ("no such custom id", "custom?create=false", id("nobody-has-this-one"), 404, 5),
        ("no such email", "email?create=false", email("nobody@example.org", "long enough"), 404, 5),
        ("create is no boolean", "custom?create=maybe", id("custom-id"), 400, 3),
        ("create is empty", "custom?create=", id("custom-id"), 400, 3),
        ("create given twice", "custom?create=true&create=true", id("custom-id"), 400, 3),
        ("username of 129 bytes", &long_name, id("a-device-of-mine"), 400, 3),
        ("username with a control character", "device?username=a%01b", id("a-device-of-mine"), 400, 3),
        ("username taken", "device?username=first", id("a-device-of-mine"), 409, 6),
        ("email without @", "email", email("example.org", "long enough"), 400, 3),
        ("email with a blank", "email", email("a b@example.org", "long enough"), 400, 3),
        ("email too short", "email", email("a@b.c", "long enough"), 400, 3),
        ("email too long", "email", email(&long_email, "long enough"), 400, 3),
        ("password of 7 bytes", "email", email("second@example.org", "1234567"), 400, 3),
        ("no password", "email", json!({"email": "second@example.org"}), 400, 3),
        ("wrong password", "email", email("first@example.org", "wrong password"), 401, 16),
        ("wrong password by name", "email?username=first", json!({"password": "wrong password"}), 401, 16),
        ("no email and no name", "email", json!({"password": "long enough"}), 400, 3),
        ("unknown name", "email?username=nobody", json!({"password": "long enough"}), 404, 5),
        ("vars are no map", "device", json!({"id": "a-device-of-mine", "vars": [1]}), 400, 3),
    ];
    for (case, path, body, status, code) in cases {
        assert_refused(&server, case, &authenticate(&server, path, &[KEY], &body), status, code);
    }
    for body in ["{", "[]", "\"text\"", "1", "{\"id\":\"a-device-of-mine\",}", "{\"id\":\"\\ud800-long-enough\"}"] {
        let answer = server.http().request("POST", "/v2/account/authenticate/device", &[KEY], body);
        assert_refused(&server, body, &answer, 400, 3);
    }
    let answer =
        server.http().request("POST", "/v2/account/authenticate/device", &[KEY], *b"{\"id\":\"\xff123456789\"}");
    assert_refused(&server, "a body that is no UTF-8", &answer, 400, 3);
}

#[test]
fn tokens_that_are_not_what_is_asked_for() {
    let data = data_dir();
    let server = Launch::on(data.path()).flag("--session-ttl", 3600).start();
    let (alice, bob) = (server.sign_in("alice"), server.sign_in("bob"));
    let refresh = |body: Value| server.http().post("/v2/account/session/refresh", KEY.1, &body);
    assert_refused(&server, "refresh: nothing", &refresh(json!({})), 400, 3);
    assert_refused(&server, "refresh: empty", &refresh(json!({"token": ""})), 400, 3);
    assert_refused(&server, "refresh: garbage", &refresh(json!({"token": "garbage"})), 401, 16);
    assert_refused(&server, "refresh: a session token", &refresh(json!({ "token": alice.token })), 401, 16);
    let answer = server.http().post("/v2/account/session/refresh", "", &json!({"token": alice.refresh_token}));
    assert_refused(&server, "refresh: no server key", &answer, 401, 16);

    let bearer = format!("Bearer {}", alice.token);
    let logout = |body: Value| server.http().post("/v2/session/logout", &bearer, &body);
    assert_refused(&server, "logout: garbage", &logout(json!({"token": "garbage"})), 400, 3);
    assert_refused(&server, "logout: somebody else", &logout(json!({ "token": bob.token })), 400, 3);
    assert_refused(&server, "logout: his refresh", &logout(json!({"refresh_token": bob.refresh_token})), 400, 3);

    let authorizations = [
        ("none", None),
        ("garbage", Some("Bearer garbage".to_string())),
        ("empty", Some("Bearer ".to_string())),
        ("server key", Some(KEY.1.to_string())),
        ("refresh token", Some(format!("Bearer {}", alice.refresh_token))),
        ("no kind", Some(alice.token.clone())),
    ];
    let protected = [
        ("GET", "/v2/account"),
        ("PUT", "/v2/account"),
        ("GET", "/v2/user?ids="),
        ("GET", "/v2/channel/2...lobby"),
        ("GET", "/v2/channel?channel_id=2...lobby"),
        ("POST", "/v2/session/logout"),
        ("PUT", "/v2/storage"),
        ("DELETE", "/v2/account"),
        ("POST", "/v2/account/link/device"),
        ("POST", "/v2/account/unlink/email"),
        ("GET", "/v2/group"),
        ("POST", "/v2/group"),
        ("PUT", "/v2/group/65aea872-a336-4029-90c9-6f507b75281c"),
        ("DELETE", "/v2/group/65aea872-a336-4029-90c9-6f507b75281c"),
        ("GET", "/v2/group/65aea872-a336-4029-90c9-6f507b75281c/user"),
        ("POST", "/v2/group/65aea872-a336-4029-90c9-6f507b75281c/join"),
        ("POST", "/v2/group/65aea872-a336-4029-90c9-6f507b75281c/kick?user_ids=nonsense"),
        ("GET", "/v2/user/65aea872-a336-4029-90c9-6f507b75281c/group"),
        ("GET", "/v2/friend"),
        ("POST", "/v2/friend"),
        ("DELETE", "/v2/friend?ids=nonsense"),
        ("POST", "/v2/friend/block"),
        ("GET", "/v2/notification"),
        ("DELETE", "/v2/notification?ids=nonsense"),
    ];
    for (name, authorization) in &authorizations {
        let headers: Vec<_> = authorization.iter().map(|value| ("Authorization", value.as_str())).collect();
        for (method, path) in protected {
            let body = if method == "GET" { "" } else { "{}" };
            let answer = server.http().request(method, path, &headers, body);
            assert_refused(&server, &format!("{method} {path} with {name}"), &answer, 401, 16);
        }
    }
}

#[test]
fn accounts_and_users() {
    let data = data_dir();
    let server = Launch::on(data.path()).flag("--session-ttl", 3600).start();
    let (alice, _bob) = (server.sign_in("alice"), server.sign_in("bob"));
    let bearer = format!("Bearer {}", alice.token);
    let long = "n".repeat(129);
    let cases = [
        ("nothing", json!({})),
        ("empty username", json!({"username": ""})),
        ("long username", json!({ "username": long })),
        ("control character", json!({"username": "a\u{7}b"})),
        ("taken", json!({"username": "bob"})),
        ("a number", json!({"username": 5})),
    ];
    for (case, body) in cases {
        let answer = server.http().request("PUT", "/v2/account", &[("Authorization", &bearer)], body.to_string());
        assert_refused(&server, case, &answer, 400, 3);
    }
    for path in ["/v2/user?ids=nonsense", "/v2/user?ids="] {
        assert_refused(&server, path, &server.http().get(path, &alice.token), 400, 3);
    }
    let own = server.http().get("/v2/account", &alice.token).json();
    assert_eq!(own["user"]["username"], "alice", "nothing was changed");
}

#[test]
fn history_parameters_and_cursors() {
    let data = data_dir();
    let server = Launch::on(data.path()).flag("--session-ttl", 3600).start();
    let mut socket = server.connect("alice");
    let (lobby, other) = (socket.join("lobby"), socket.join("other"));
    for n in 0..5 {
        socket.say(&lobby, &format!("{{\"n\":{n}}}"));
        socket.say(&other, &format!("{{\"n\":{n}}}"));
    }
    let token = server.sign_in("alice").token;
    let page = |parameters: &str| server.http().history(&token, &lobby, parameters);
    let cursor =
        |answer: &Answer, kind: &str| answer.json()[kind].as_str().unwrap_or_else(|| panic!("{kind}")).to_string();
    let forward = page("limit=2&forward=true");
    let (next, cacheable) = (cursor(&forward, "next_cursor"), cursor(&forward, "cacheable_cursor"));
    let backward = page("limit=2&forward=false");
    let back_next = cursor(&backward, "next_cursor");
    let back_cacheable = cursor(&backward, "cacheable_cursor");

    for wrong in [
        "limit=0",
        "limit=101",
        "limit=-1",
        "limit=abc",
        "limit=",
        "limit=1.5",
        "limit=99999999999",
        "limit=1&limit=2",
        "forward=maybe",
        "forward=",
        "forward=true&forward=true",
        "cursor=garbage",
        "cursor=%00",
        "cursor=e30",
        "cursor=bnVsbA==",
        "cursor=%F0%9F%8E%89",
    ] {
        assert_refused(&server, wrong, &page(wrong), 400, 3);
    }
    let with = |direction: &str, cursor: &str| format!("limit=2&forward={direction}&cursor={cursor}");
    assert_refused(&server, "next of the other direction", &page(&with("false", &next)), 400, 3);
    assert_refused(&server, "back's next, forward", &page(&with("true", &back_next)), 400, 3);
    assert_refused(&server, "back's next, direction unsaid", &page(&format!("cursor={back_next}")), 400, 3);
    assert_refused(&server, "cacheable, backward", &page(&with("false", &cacheable)), 400, 3);
    assert_refused(&server, "back's cacheable, backward", &page(&with("false", &back_cacheable)), 400, 3);
    for cursor in [&next, &cacheable] {
        let answer = server.http().history(&token, &other, &with("true", cursor));
        assert_refused(&server, "a cursor of another channel", &answer, 400, 3);
        let forged = forge(cursor);
        assert_refused(&server, "a cursor with one bit changed", &page(&with("true", &forged)), 400, 3);
        let cut = &cursor[..cursor.len() - 4];
        assert_refused(&server, "a cursor cut short", &page(&with("true", cut)), 400, 3);
        assert_refused(&server, "a cursor made longer", &page(&with("true", &format!("{cursor}AAAA"))), 400, 3);
    }
    for id in ["lobby", "2..", "2...", "2..x.lobby", "9...lobby", "3.x..", "4.x.y.", "2...%FF"] {
        assert_refused(&server, id, &server.http().history(&token, id, "limit=1"), 400, 3);
        let older = format!("/v2/channel?channel_id={id}&limit=1");
        assert_refused(&server, &older, &server.http().get(&older, &token), 400, 3);
    }
    assert_refused(&server, "no channel", &server.http().get("/v2/channel?limit=1", &token), 400, 3);
    let group = "3.65aea872-a336-4029-90c9-6f507b75281c..";
    assert_refused(&server, "no such group", &server.http().history(&token, group, ""), 400, 3);
    let direct = "4.65aea872-a336-4029-90c9-6f507b75281c.8764eaba-85b6-4c62-88f1-c205fa39b581.";
    assert_refused(&server, "others' direct chat", &server.http().history(&token, direct, ""), 400, 3);

    assert_eq!(
        page(&with("true", &next)).json()["messages"].as_array().map(Vec::len),
        Some(2),
        "the good one still works"
    );
    let harmless = format!("limit=2&forward=1&unknown=x&cursor={next}&");
    assert_eq!(page(&harmless).status, 200, "unknown parameters and a trailing & are fine");
}

#[test]
fn routes_and_methods() {
    let data = data_dir();
    let server = Launch::on(data.path()).flag("--session-ttl", 3600).start();
    let token = server.sign_in("alice").token;
    let bearer = format!("Bearer {token}");
    let cases = [
        ("GET", "/nothing/here", 404, 5),
        ("GET", "/v1/account", 404, 5),
        ("GET", "/v2/accounts", 404, 5),
        ("GET", "/v2/channel/2...a/b", 404, 5),
        ("GET", "/../etc/passwd", 404, 5),
        ("GET", "/v2/storage/a/b/c", 404, 5),
        ("GET", "/v2/storage", 501, 12),
        ("PUT", "/v2/storage/saves", 501, 12),
        ("GET", "/v2/leaderboard/x", 404, 5),
        ("POST", "/v2/rpc/anything", 404, 5),
        ("GET", "/v2/account/authenticate/device", 501, 12),
        ("PUT", "/v2/account/authenticate/email", 501, 12),
        ("POST", "/v2/user", 501, 12),
        ("DELETE", "/v2/channel/2...lobby", 501, 12),
        ("GET", "/v2/session/logout", 501, 12),
        ("GET", "/v2/account/session/refresh", 501, 12),
        ("GET", "/v2/account/link/device", 501, 12),
        ("DELETE", "/v2/account/unlink/custom", 501, 12),
        ("POST", "/v2/account/link/steam", 404, 5),
        ("PUT", "/v2/group", 501, 12),
        ("GET", "/v2/group/65aea872-a336-4029-90c9-6f507b75281c", 501, 12),
        ("GET", "/v2/group/65aea872-a336-4029-90c9-6f507b75281c/join", 501, 12),
        ("POST", "/v2/group/65aea872-a336-4029-90c9-6f507b75281c/user", 501, 12),
        ("POST", "/v2/group/65aea872-a336-4029-90c9-6f507b75281c/crown", 404, 5),
        ("POST", "/v2/user/65aea872-a336-4029-90c9-6f507b75281c/group", 501, 12),
        ("PUT", "/v2/friend", 501, 12),
        ("GET", "/v2/friend/block", 501, 12),
        ("GET", "/v2/friend/friends", 404, 5),
        ("POST", "/v2/notification", 501, 12),
    ];
    for (method, path, status, code) in cases {
        let answer = server.http().request(method, path, &[("Authorization", &bearer)], "");
        assert_refused(&server, &format!("{method} {path}"), &answer, status, code);
    }
}

#[test]
fn bodies_of_every_size() {
    let data = data_dir();
    let server = Launch::on(data.path()).start();
    let padded = |bytes: usize| {
        let body = r#"{"id":"a-device-of-mine"}"#;
        format!("{body}{}", " ".repeat(bytes - body.len()))
    };
    let path = "/v2/account/authenticate/device";
    let post = |headers: &[(&str, &str)], body: Vec<u8>| server.http().request("POST", path, headers, body);
    let answer = post(&[KEY], padded(REQUEST_BYTES_MAX).into());
    assert_eq!(answer.status, 200, "the largest body: {}", answer.body);
    let answer = post(&[KEY], padded(REQUEST_BYTES_MAX + 1).into());
    assert_refused(&server, "one byte too many", &answer, 400, 3);
    let gzip = ("Content-Encoding", "gzip");
    let answer = post(&[KEY, gzip], GZIPPED_DEVICE.into());
    assert_eq!(answer.status, 200, "a compressed body: {}", answer.body);
    assert_refused(&server, "a bomb", &post(&[KEY, gzip], GZIPPED_BOMB.into()), 400, 3);
    assert_refused(&server, "not gzip", &post(&[KEY, gzip], b"{}".into()), 400, 3);
    let cut = GZIPPED_DEVICE[..20].to_vec();
    assert_refused(&server, "gzip cut short", &post(&[KEY, gzip], cut), 400, 3);
    assert_refused(&server, "no body at all", &post(&[KEY], Vec::new()), 400, 3);

    let head = format!("POST {path} HTTP/1.1\r\nHost: localhost\r\n{}: {}\r\n", KEY.0, KEY.1);
    let mut socket = RawSocket::connect(server.address());
    let chunks = "10\r\n{\"id\":\"a-device-\r\n9\r\nof-mine\"}\r\n0\r\n\r\n";
    socket.write(format!("{head}Transfer-Encoding: chunked\r\n\r\n{chunks}").as_bytes());
    assert!(socket.read_head().starts_with("HTTP/1.1 200 "), "a body in chunks");
    let mut socket = RawSocket::connect(server.address());
    socket.write(format!("{head}Content-Length: 999999999999\r\n\r\n{{").as_bytes());
    assert!(socket.read_head().starts_with("HTTP/1.1 400 "), "a gigantic body, only announced");
    server.assert_works("a gigantic body");
    let mut socket = RawSocket::connect(server.address());
    socket.write(format!("{head}Content-Length: 100\r\n\r\n{{\"id\":").as_bytes());
    drop(socket);
    server.assert_works("a body cut short");
}

#[test]
fn encodings_of_bodies() {
    let data = data_dir();
    let server = Launch::on(data.path()).start();
    let post = |encoding: &str, body: &[u8]| {
        let headers = [KEY, ("Content-Encoding", encoding)];
        server.http().request("POST", "/v2/account/authenticate/device", &headers, body)
    };
    let plain: &[u8] = br#"{"id":"a-device-of-mine"}"#;
    for (encoding, body) in
        [("gzip", GZIPPED_DEVICE), ("x-gzip", GZIPPED_DEVICE), ("X-GZip", GZIPPED_DEVICE), ("identity", plain)]
    {
        let answer = post(encoding, body);
        assert_eq!(answer.status, 200, "{encoding}: {}", answer.body);
    }
    for encoding in ["br", "deflate", "compress", "zstd", "gzip, gzip", "base64"] {
        let answer = post(encoding, plain);
        assert_refused(&server, encoding, &answer, 415, 3);
        assert_eq!(answer.header("accept-encoding"), Some("gzip"), "{encoding}");
    }
}

#[test]
fn heads_that_mean_the_same_and_heads_that_mean_nothing() {
    let data = data_dir();
    let server = Launch::on(data.path()).flag("--session-ttl", 3600).start();
    let token = server.sign_in("alice").token;
    let get = |target: &str, lines: &str| format!("GET {target} HTTP/1.1\r\n{lines}\r\n");
    let bearer = |scheme: &str| format!("Host: a\r\nAuthorization: {scheme} {token}\r\n");
    let basic = |scheme: &str| {
        let body = r#"{"id":"a-device-of-mine"}"#;
        format!(
            "POST /v2/account/authenticate/device HTTP/1.1\r\nHost: a\r\nAuthorization: {scheme} ZGVmYXVsdGtleTo=\r\n\
             Content-Length: {}\r\n\r\n{body}",
            body.len()
        )
    };
    let coded = |coding: &str| {
        format!(
            "PUT /v2/account HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: {coding}\r\nConnection: close\r\n\r\n0\r\n\r\n"
        )
    };
    let mine = bearer("Bearer");
    let cases = [
        ("the plain form", get("/healthcheck", "Host: a\r\n"), "200"),
        ("absolute form", get("http://a:7350/healthcheck", "Host: a\r\n"), "200"),
        ("absolute form of another host", get("http://b/healthcheck?x", "Host: a\r\n"), "200"),
        ("absolute form without a path", get("http://a", "Host: a\r\n"), "200"),
        ("absolute form without a host", get("http:///healthcheck", "Host: a\r\n"), "400"),
        ("absolute form without an authority", get("http:/healthcheck", "Host: a\r\n"), "400"),
        ("absolute form with half an address", get("http://[::1/healthcheck", "Host: a\r\n"), "400"),
        ("absolute form with two ports", get("http://h:80:80/healthcheck", "Host: a\r\n"), "400"),
        (
            "a target that grows too long for the parser",
            get(&format!("/healthcheck?{}", "\"".repeat(25_000)), "Host: a\r\n"),
            "431",
        ),
        ("a percent-encoded path", get("/%68ealthcheck", "Host: a\r\n"), "200"),
        ("a percent-encoded slash", get("/v2%2Faccount", &mine), "200"),
        ("percent-encoded twice", get("/%2568ealthcheck", "Host: a\r\n"), "404"),
        ("an empty line first", format!("\r\n{}", get("/healthcheck", "Host: a\r\n")), "200"),
        ("many of them", format!("\r\n\n\r\n\r\n{}", get("/healthcheck", "Host: a\r\n")), "200"),
        ("OPTIONS of everything", "OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n".into(), "200"),
        ("HTTP/1.0 without a host", "GET /healthcheck HTTP/1.0\r\n\r\n".into(), "200"),
        ("an empty host", get("/healthcheck", "Host:\r\n"), "200"),
        ("no host", get("/healthcheck", ""), "400"),
        ("no host, absolute form", get("http://a/healthcheck", ""), "400"),
        ("two hosts", get("/healthcheck", "Host: a\r\nHost: a\r\n"), "400"),
        ("two hosts by HTTP/1.0", "GET / HTTP/1.0\r\nHost: a\r\nHost: b\r\n\r\n".into(), "400"),
        ("a host with a blank", get("/healthcheck", "Host: a b\r\n"), "400"),
        ("no path", get("healthcheck", "Host: a\r\n"), "400"),
        ("small letters", get("/v2/account", &bearer("bearer")), "200"),
        ("capitals", get("/v2/account", &bearer("BEARER")), "200"),
        ("another scheme", get("/v2/account", &bearer("Basic")), "401"),
        ("basic in small letters", basic("basic"), "200"),
        ("basic in capitals", basic("BASIC"), "200"),
        ("raw in a query", get("/v2/user?usernames=a\"<b>{c}`|^[]", &mine), "200"),
        ("raw in a query, absolute", get("http://a/v2/user?usernames=\"<>", &mine), "200"),
        ("raw in a path", get("/v2/channel/2...<\"{}\">?limit=1", &mine), "200"),
        ("an unknown transfer coding", coded("gzip, chunked"), "501"),
        ("one that is not chunked at all", coded("gzip"), "501"),
        ("none", coded("identity"), "501"),
        ("chunked twice", coded("chunked, chunked"), "400"),
        ("chunked", coded("chunked"), "401"),
        ("a length that is none", coded("chunked").replace("Host", "Content-Length: x\r\nHost"), "400"),
        ("a head of 70 KB", get("/healthcheck", &format!("Host: a\r\nX: {}\r\n", "x".repeat(70_000))), "431"),
    ];
    for (case, request, status) in &cases {
        // As the first request of a connection, and after another one.
        for before in ["", "GET /healthcheck HTTP/1.1\r\nHost: a\r\n\r\n"] {
            let mut socket = RawSocket::connect(server.address());
            socket.write(before.as_bytes());
            if !before.is_empty() {
                assert!(socket.read_answer().0.starts_with("HTTP/1.1 200 "));
            }
            socket.write(request.as_bytes());
            let (head, body) = socket.read_answer();
            assert_eq!(head.get(9..12), Some(*status), "{case}, behind {before:?}: {head}{body}");
            if *status != "200" {
                let refusal: Value = serde_json::from_str(&body).unwrap_or_else(|_| panic!("{case}: {body}"));
                assert!(refusal["code"].is_number() && refusal["message"].is_string(), "{case}: {body}");
            }
        }
    }
    server.assert_works("all of them");
}

#[test]
fn heads_that_are_no_requests() {
    let data = data_dir();
    let server = Launch::on(data.path()).start();
    let endless = format!("GET / HTTP/1.1\r\nHost: localhost\r\nX-Long: {}\r\n\r\n", "x".repeat(256 * 1024));
    let many = format!("GET / HTTP/1.1\r\nHost: localhost\r\n{}\r\n", "X-Many: x\r\n".repeat(20_000));
    let long_path = format!("GET /{} HTTP/1.1\r\nHost: localhost\r\n\r\n", "x".repeat(256 * 1024));
    let cases: &[(&str, &[u8])] = &[
        ("a TLS greeting", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"),
        ("binary", &[0xff; 64]),
        ("no version", b"GET /\r\n\r\n"),
        ("no such version", b"GET / HTTP/7.3\r\n\r\n"),
        ("control character in a header", b"GET / HTTP/1.1\r\nHost: a\x01b\r\n\r\n"),
        ("two lengths", b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab"),
        ("negative length", b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: -1\r\n\r\n"),
        ("an HTTP/2 preface", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"),
        ("an endless header", endless.as_bytes()),
        ("too many headers", many.as_bytes()),
        ("an endless path", long_path.as_bytes()),
    ];
    for (case, bytes) in cases {
        let mut socket = RawSocket::connect(server.address());
        socket.write(bytes);
        let answer = socket.read_to_end(std::time::Duration::from_secs(15));
        let fine = answer.is_empty() || answer.starts_with("HTTP/1.1 4") || answer.starts_with("HTTP/1.1 505");
        assert!(fine, "{case}: {answer}");
        server.assert_works(case);
    }
}

/// A proxy that goes by the other length takes a part of the body for a request of another client.
#[test]
fn a_coding_and_a_length_are_refused_and_nothing_follows() {
    let data = data_dir();
    let server = Launch::on(data.path()).start();
    let health = "GET /healthcheck HTTP/1.1\r\nHost: a\r\n\r\n";
    let lengths =
        ["Content-Length: 5\r\nTransfer-Encoding: chunked", "Transfer-Encoding: chunked\r\nContent-Length: 0"];
    for lengths in lengths {
        for line in ["POST /v2/account/authenticate/device", "GET /healthcheck", "GET /ws?token=x"] {
            let request = format!("{line} HTTP/1.1\r\nHost: a\r\n{lengths}\r\n\r\n0\r\n\r\n{health}");
            for before in [0, 2] {
                let mut socket = RawSocket::connect(server.address());
                socket.write(format!("{}{request}", health.repeat(before)).as_bytes());
                for _ in 0..before {
                    assert!(socket.read_answer().0.starts_with("HTTP/1.1 200 "), "{request}");
                }
                let (head, body) = socket.read_answer();
                assert!(head.starts_with("HTTP/1.1 400 "), "{request}: {head}{body}");
                assert!(head.to_lowercase().contains("connection: close"), "{request}: {head}");
                assert_eq!(socket.read_to_end(std::time::Duration::from_secs(15)), "", "{request}");
            }
        }
    }
    server.assert_works("two lengths");
}

#[test]
fn what_browsers_ask() {
    let data = data_dir();
    let server = Launch::on(data.path()).start();
    let preflight = [
        ("Origin", "https://example.org"),
        ("Access-Control-Request-Method", "PUT"),
        ("Access-Control-Request-Headers", "authorization,content-type"),
    ];
    for path in ["/v2/account", "/v2/channel/2...lobby", "/v2/account/authenticate/device"] {
        let answer = server.http().request("OPTIONS", path, &preflight, "");
        assert_eq!(answer.status, 200, "{path}: {}", answer.body);
        assert_eq!(answer.header("access-control-allow-origin"), Some("*"), "{path}");
        let allowed = |name: &str| answer.header(name).unwrap_or_else(|| panic!("{path}: {name}")).to_lowercase();
        let age = allowed("access-control-max-age");
        assert!(age.parse::<u32>().is_ok_and(|seconds| seconds >= 600), "{path}: {age}");
        let (headers, methods) = (allowed("access-control-allow-headers"), allowed("access-control-allow-methods"));
        assert!(headers.contains("authorization") && headers.contains("content-type"), "{path}: {headers}");
        for method in ["get", "head", "post", "put", "delete"] {
            assert!(methods.contains(method), "{path}: {methods}");
        }
    }
    let refused = server.http().request("GET", "/v2/account", &[("Origin", "https://example.org")], "");
    assert_eq!(refused.header("access-control-allow-origin"), Some("*"), "refusals can be read by pages too");
    assert_eq!(refused.header("cache-control"), Some("no-store, no-cache, must-revalidate"));

    let live = server.http().request("GET", "/", &[], "");
    assert_eq!((live.status, live.body.as_str()), (200, ""), "liveness");
    let healthy = server.http().request("GET", "/healthcheck", &[], "");
    assert_eq!((healthy.status, healthy.body.as_str()), (200, "{}"));
    let page = server.http().request("GET", "/", &[("Accept", "text/html,application/xhtml+xml,*/*;q=0.8")], "");
    assert_eq!(page.status, 200);
    assert!(page.header("content-type").is_some_and(|kind| kind.starts_with("text/html")), "{:?}", page.headers);
    assert!(page.body.trim_start().to_lowercase().starts_with("<!doctype html>"));
}
