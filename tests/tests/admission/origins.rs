//! Origins: which pages may open sockets and ask over HTTP, and that other clients pass.

use serde_json::json;
use tests::harness::{Launch, SERVER_KEY, Socket, data_dir};

use crate::Hall;

const ALLOWED: &str = "https://chat.example,http://*.example.org:8080";

/// Origins, and whether their pages may come.
const ORIGINS: [(&str, bool); 8] = [
    ("https://chat.example", true),
    ("http://eu.example.org:8080", true),
    ("https://chat.example.evil", false),
    ("http://chat.example", false),
    ("http://example.org:8080", false),
    ("http://a.eu.example.org:8080", false),
    ("http://eu.example.org", false),
    ("null", false),
];

#[test]
fn pages_of_other_origins_open_no_socket_and_ask_nothing() {
    let hall = Hall::with(|launch| launch.flag("--allowed-origin", ALLOWED));
    let (http, account) = (hall.server.http(), hall.server.sign_in("ada"));
    let (mut refused_openings, mut refused_requests) = (0, 0);
    for (origin, is_allowed) in ORIGINS {
        let opened =
            Socket::try_connect(hall.address(), &format!("/ws?token={}", account.token), &[("Origin", origin)]);
        assert_eq!(opened.err(), (!is_allowed).then_some(403), "{origin}");
        let line = format!("Origin: {origin}\r\n");
        let (socket, head) = hall.open("made-up", &line);
        let expected = if is_allowed { "HTTP/1.1 401 " } else { "HTTP/1.1 403 " };
        assert!(head.starts_with(expected), "the origin is looked at before the token: {head}");
        assert!(head.contains("Connection: keep-alive"), "{head}");
        socket.finish_writing();
        let headers = [("Origin", origin), ("Authorization", SERVER_KEY)];
        let body = json!({"id": "custom-id-of-ada"}).to_string();
        let answer = http.request("POST", "/v2/account/authenticate/custom", &headers, body);
        let preflight = http.request("OPTIONS", "/v2/account", &[("Origin", origin)], "");
        let health = http.request("GET", "/healthcheck", &[("Origin", origin)], "");
        assert_eq!(health.status, 200, "a health check is never refused");
        if is_allowed {
            assert_eq!((answer.status, preflight.status), (200, 200), "{origin}: {}", answer.body);
        } else {
            assert_eq!((answer.status, preflight.status), (403, 403), "{origin}");
            assert_eq!(answer.json()["code"], 7, "{}", answer.body);
            refused_openings += 2;
            refused_requests += 2;
        }
    }
    assert_eq!(hall.metric("stentor_openings_refused_total{kind=\"origin\"}"), refused_openings);
    assert_eq!(hall.metric("stentor_http_requests_refused_total{kind=\"origin\"}"), refused_requests);
    assert_eq!(hall.metric("stentor_sign_ins_refused_total{kind=\"origin\"}"), refused_requests / 2);
    assert_eq!(hall.metric("stentor_pages_refused_total{kind=\"closed\"}"), 0, "they may not come back");
    // A client that is no browser sends no origin.
    Socket::connect(hall.address(), &account.token).assert_open();
}

#[test]
fn nonsense_ends_the_start() {
    for (origin, said) in [
        ("https://*.*.example", "one label"),
        ("https://chat.example/path", "no path"),
        ("*", "the scheme"),
        ("https://*", "last label"),
    ] {
        let data = data_dir();
        Launch::on(data.path()).flag("--allowed-origin", origin).start_refused().assert_says(&["allowed-origin", said]);
    }
}
