//! Where gRPC listens, and what happens when the address is taken.

use std::net::TcpListener;

use tests::harness::{Launch, Refusal, Server, bearer, data_dir};

use super::peer::{DATA, END_STREAM, GOAWAY, HEADERS, NO_ERROR, Peer, WINDOW_UPDATE, frame, long_page};

/// Starts a server for HTTP on the port above a taken port, if the port above is free.
fn start_above(taken: u16, flags: &[&str]) -> (Result<Server, Refusal>, tempfile::TempDir) {
    let data = data_dir();
    let launch = Launch::on(data.path()).listen_unsaid().flag("--listen", format!("127.0.0.1:{}", taken + 1));
    (launch.flags(flags.iter().map(ToString::to_string)).start_or_refused(), data)
}

/// A taken port whose upper neighbour is free.
fn taken_port() -> (TcpListener, u16) {
    let taken = || {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let port = listener.local_addr().expect("a bound socket").port();
        TcpListener::bind(("127.0.0.1", port.checked_add(1)?)).ok()?;
        Some((listener, port))
    };
    std::iter::repeat_with(taken).flatten().next().expect("a free port above a taken one")
}

#[test]
fn a_default_that_is_taken_is_warned_of_and_one_that_was_asked_for_ends_the_start() {
    let (_listener, taken) = taken_port();
    let (server, _data) = start_above(taken, &[]);
    let server = server.unwrap_or_else(|refusal| panic!("{}", refusal.output));
    let warning = format!("WARN stentor: cannot listen on 127.0.0.1:{taken} for gRPC");
    assert!(server.output().contains(&warning), "{}", server.output());
    server.assert_works("the port of gRPC is taken");
    drop(server);

    let (refused, _data) = start_above(taken, &["--grpc", &format!("127.0.0.1:{taken}")]);
    let Err(refused) = refused else { panic!("an address that was asked for is taken") };
    refused.assert_says(&["for grpc", "another server is listening there", "--grpc"]);
}

#[test]
fn grpc_has_the_address_that_is_given_or_none() {
    let data = data_dir();
    let server = Launch::on(data.path()).flag("--grpc", "127.0.0.2:0").start();
    let address = server.grpc_address();
    assert!(address.ip().to_string() == "127.0.0.2" && address.port() != server.address().port(), "{address}");
    Peer::connect(address).assert_answers(1, "a start");
    drop(server);
    let server = Launch::on(data.path()).flag("--grpc", "off").start();
    assert!(server.output().contains("\n  grpc         off\n"), "{}", server.output());
}

#[test]
fn a_stop_says_goodbye_to_clients() {
    let data = data_dir();
    let server = Launch::on(data.path()).start();
    let mut peer = Peer::connect(server.grpc_address());
    peer.assert_answers(1, "a start");
    server.stop();
    assert_eq!(peer.expect(&[GOAWAY]).error(), NO_ERROR);
    peer.rest();
}

#[test]
fn a_long_page_comes_through_a_small_window() {
    const MESSAGES: u8 = 100;
    let data = data_dir();
    let server = Launch::on(data.path()).without_budgets().start();
    let (page_of, content) = long_page(&server, MESSAGES);
    let mut peer = Peer::connect(server.grpc_address());
    let alice = bearer(&server.sign_in("alice").token);
    peer.write(&page_of(1, &alice));
    let mut page = Vec::new();
    loop {
        let next = peer.expect(&[DATA, HEADERS]);
        if next.kind == HEADERS && next.flags & END_STREAM != 0 {
            break;
        }
        if next.kind == DATA && !next.payload.is_empty() {
            let room = (next.payload.len() as u32).to_be_bytes();
            page.extend_from_slice(&next.payload);
            peer.write(&[frame(WINDOW_UPDATE, 0, 0, &room), frame(WINDOW_UPDATE, 0, 1, &room)].concat());
        }
    }
    assert!(page.len() > usize::from(MESSAGES) * content, "{} bytes", page.len());
    assert_eq!(page[..5], [&[0][..], &(page.len() as u32 - 5).to_be_bytes()].concat());
    peer.assert_answers(3, "a long page");
}
