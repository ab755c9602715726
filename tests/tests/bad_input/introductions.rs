//! Connections of trusted proxies, which begin with a header of the PROXY protocol, and of other peers, which do not.

use std::net::Ipv4Addr;
use std::time::Duration;

use tests::harness::{Launch, RawSocket, Server, data_dir};

const PROXY: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 2);
const OTHER: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 3);

const HEALTH: &[u8] = b"GET /healthcheck HTTP/1.1\r\nHost: a\r\n\r\n";
const LINE: &[u8] = b"PROXY TCP4 192.0.2.7 198.51.100.1 56324 443\r\n";
const SIGNATURE: &[u8] = b"\r\n\r\n\0\r\nQUIT\n";

/// A header of version 2.
fn binary(head: [u8; 2], payload: &[u8]) -> Vec<u8> {
    let length = u16::try_from(payload.len()).expect("a short payload").to_be_bytes();
    [SIGNATURE, &head, &length, payload].concat()
}

fn server(data: &tempfile::TempDir) -> Server {
    let flags = ["--trusted-proxies", "127.0.0.2", "--proxy-protocol", "--session-ttl", "3600"].map(str::to_owned);
    Launch::on(data.path()).admin("127.0.0.1:0").flags(flags).start()
}

/// The status of the answer to these bytes, and whether the connection ends behind it.
fn answered(server: &Server, from: Ipv4Addr, pieces: &[&[u8]]) -> (String, bool) {
    let mut socket = RawSocket::connect_from(from, server.address());
    for piece in pieces {
        socket.write(piece);
    }
    let (head, _) = socket.read_answer();
    let closes = head.to_lowercase().contains("connection: close");
    if closes {
        socket.read_to_end(Duration::from_secs(15));
    } else {
        socket.write(HEALTH);
        assert!(socket.read_answer().0.starts_with("HTTP/1.1 200 "), "the header comes once a connection");
    }
    (head[9..12].to_owned(), closes)
}

#[test]
fn a_header_is_read_of_trusted_proxies_only() {
    let data = data_dir();
    let server = server(&data);
    let v4 = [192, 0, 2, 7, 198, 51, 100, 1, 0xdc, 4, 1, 0xbb];
    let good: [Vec<u8>; 6] = [
        LINE.to_vec(),
        b"PROXY UNKNOWN\r\n".to_vec(),
        binary([0x21, 0x11], &v4),
        binary([0x21, 0x21], &[0x20; 36]),
        binary([0x20, 0], &[]),
        binary([0x21, 0], &[0; 536]),
    ];
    for header in &good {
        let said = header.escape_ascii();
        assert_eq!(answered(&server, PROXY, &[header, HEALTH]), ("200".into(), false), "{said}");
        let bytes: Vec<&[u8]> = header.chunks(1).chain([HEALTH]).collect();
        assert_eq!(answered(&server, PROXY, &bytes), ("200".into(), false), "{said} byte by byte");
        assert_eq!(answered(&server, OTHER, &[header, HEALTH]), ("400".into(), true), "{said} of another peer");
    }
    let mut refused = 0;
    let bad: [Vec<u8>; 6] = [
        Vec::new(),
        b"PROXY TCP4 nonsense\r\n".to_vec(),
        [b"PROXY UNKNOWN ", &[b'x'; 107][..]].concat(),
        binary([0x22, 0x11], &v4),
        binary([0x21, 0x11], &v4[..11]),
        binary([0x21, 0], &[0; 537]),
    ];
    for header in &bad {
        assert_eq!(answered(&server, PROXY, &[header, HEALTH]), ("400".into(), true), "{}", header.escape_ascii());
        refused += 1;
    }
    assert_eq!(answered(&server, OTHER, &[HEALTH]), ("200".into(), false));
    let page = server.admin().get("/metrics", "").body;
    let line = format!("stentor_openings_refused_total{{kind=\"proxy_header\"}} {refused}\n");
    assert!(page.contains(&line), "{line} is not in {page}");
    assert!(server.output().contains("--proxy-protocol"), "the log says it: {}", server.output());
}

#[test]
fn a_session_opens_behind_a_header() {
    let data = data_dir();
    let server = server(&data);
    let token = server.sign_in("alice").token;
    let opening = format!(
        "GET /ws?token={token} HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
    );
    for before in [&b""[..], HEALTH] {
        let mut socket = RawSocket::connect_from(PROXY, server.address());
        socket.write(&[LINE, before, opening.as_bytes()].concat());
        if !before.is_empty() {
            assert!(socket.read_answer().0.starts_with("HTTP/1.1 200 "));
        }
        let head = socket.read_head();
        assert!(head.starts_with("HTTP/1.1 101 "), "{head}");
    }
}

#[test]
fn a_proxy_that_never_ends_its_header_is_let_go() {
    let data = data_dir();
    let server = server(&data);
    let mut socket = RawSocket::connect_from(PROXY, server.address());
    socket.write(&LINE[..LINE.len() - 1]);
    assert_eq!(socket.read_to_end(Duration::from_secs(30)), "");
    server.assert_works("a header without an end");
}
