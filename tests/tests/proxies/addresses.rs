//! Whose share a request counts for behind a proxy: the client's, which the proxy names. The queue for passwords shows it.
//! An attacker fills it with sign-ins to many accounts, and another client signs in beside it.

use std::net::Ipv4Addr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Instant;

use tests::harness::{DEADLINE, ProxyKind, RawSocket, SERVER_KEY};

use crate::stage::Stage;

const ATTACKER: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 2);
const BYSTANDER: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 3);

/// More than the queue has places.
const GUESSERS: usize = 160;
const SIGN_INS: usize = 5;

const TRUSTED: [&str; 2] = ["--trusted-proxies", "127.0.0.1"];
const INTRODUCED: [&str; 3] = ["--trusted-proxies", "127.0.0.1", "--proxy-protocol"];

#[test]
fn nginx_names_its_clients() {
    let stage = Stage::launch(ProxyKind::Nginx, &[], &TRUSTED);
    assert_eq!(refused_beside_an_attacker(&stage), 0);
}

#[test]
fn haproxy_names_its_clients() {
    let stage = Stage::launch(ProxyKind::Haproxy, &[("http-reuse safe", "http-reuse always")], &TRUSTED);
    assert_eq!(refused_beside_an_attacker(&stage), 0);
}

#[test]
fn haproxy_introduces_its_clients() {
    for version in ["127.0.0.1:7350 check send-proxy-v2", "127.0.0.1:7350 check send-proxy"] {
        let changes = [("127.0.0.1:7350 check", version), ("    option forwardfor\n", "")];
        let stage = Stage::launch(ProxyKind::Haproxy, &changes, &INTRODUCED);
        assert_eq!(refused_beside_an_attacker(&stage), 0, "{version}");
        assert_eq!(stage.metric("stentor_openings_refused_total{kind=\"proxy_header\"}"), 0, "{version}");
    }
}

/// What is true of a proxy's header is true of a client's own: it counts only from peers that are trusted.
#[test]
fn a_proxy_that_is_not_trusted_counts_as_one_client() {
    let stage = Stage::launch(ProxyKind::Nginx, &[], &["--trusted-proxies", "192.0.2.1"]);
    assert!(refused_beside_an_attacker(&stage) > 0);
}

/// Fills the queue for passwords from one address. Returns how often a client at another address is refused meanwhile.
fn refused_beside_an_attacker(stage: &Stage) -> usize {
    let over = AtomicBool::new(false);
    thread::scope(|scope| {
        // The flag is set also when the test fails, or the guessers would go on for ever.
        let end = SetAtEnd(&over);
        for guesser in 0..GUESSERS {
            let over = &over;
            scope.spawn(move || {
                while !over.load(Ordering::Relaxed) {
                    sign_in(stage, ATTACKER, &format!("guessed-{guesser}"));
                }
            });
        }
        let deadline = Instant::now() + DEADLINE;
        while stage.metric("stentor_http_requests_refused_total{kind=\"passwords_full\"}") == 0 {
            assert!(Instant::now() < deadline, "the queue is never full");
        }
        let answers = (0..SIGN_INS).map(|number| sign_in(stage, BYSTANDER, &format!("bystander-{number}")));
        let refused = answers.filter(|head| head.starts_with("HTTP/1.1 503 ")).count();
        drop(end);
        refused
    })
}

struct SetAtEnd<'a>(&'a AtomicBool);

impl Drop for SetAtEnd<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Signs in over a new connection to the proxy. Returns the head of the answer, which must be 200 or 503.
fn sign_in(stage: &Stage, from: Ipv4Addr, name: &str) -> String {
    let body = format!("{{\"email\":\"{name}@example.org\",\"password\":\"a good password\"}}");
    let mut socket = RawSocket::connect_from(from, stage.proxy.address());
    socket.write(
        format!(
            "POST /v2/account/authenticate/email HTTP/1.1\r\nHost: localhost\r\nAuthorization: {SERVER_KEY}\r\n\
             Content-Length: {}\r\nConnection: close\r\n\r\n{body}",
            body.len()
        )
        .as_bytes(),
    );
    let (head, body) = socket.read_answer();
    assert!(head.starts_with("HTTP/1.1 200 ") || head.starts_with("HTTP/1.1 503 "), "{head}{body}");
    head
}
