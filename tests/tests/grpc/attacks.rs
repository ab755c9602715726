//! Peers that break the rules of gRPC and HTTP/2, or use them to make the server work. Each is bounded, and nothing is
//! judged by the time that it takes: what counts is what the peer gets, and that the server serves others.

use std::thread;
use std::time::{Duration, Instant};

use tests::harness::{DEADLINE, Launch, RawSocket, Server, bearer, data_dir};

use super::peer::*;

const PROGRAM: &str = "Basic ZGVmYXVsdGtleTo=";
/// Calls of a connection at a time, and frames between two calls (`gateway/src/http/grpc`).
const STREAMS_MAX: u32 = 64;
const FRAMES_BETWEEN_CALLS_MAX: usize = 10_000;
/// Bytes of heads and bodies that wait (`gateway/src/http/bodies.rs`).
const HEADS_AND_BODIES_BYTES_MAX: u64 = 32 << 20;

fn launch(change: impl FnOnce(Launch) -> Launch) -> (Server, tempfile::TempDir) {
    let data = data_dir();
    (change(Launch::on(data.path()).admin("127.0.0.1:0")).start(), data)
}

fn started() -> (Server, tempfile::TempDir) {
    launch(|launch| launch)
}

fn assert_serves(server: &Server, after: &str) {
    Peer::connect(server.grpc_address()).assert_answers(1, after);
}

fn metric(server: &Server, name: &str) -> u64 {
    let page = server.admin().get("/metrics", "").body;
    let line = page.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    line.and_then(|value| value.parse().ok()).unwrap_or_else(|| panic!("no {name} in the page"))
}

fn await_that(what: &str, mut is_so: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !is_so() {
        assert!(begun.elapsed() < DEADLINE, "not within {DEADLINE:?}: {what}");
        thread::sleep(Duration::from_millis(50));
    }
}

#[test]
fn a_message_with_a_wrong_length_ends_only_its_call() {
    let (server, _data) = started();
    let mut peer = Peer::connect(server.grpc_address());
    let wrong: [&[u8]; 5] = [b"", b"\0\0\0\0", b"\0\xff\xff\xff\xffx", b"\0\0\0\0\x01xyz", b"\x07\0\0\0\0"];
    for (number, body) in (0_u32..).zip(wrong) {
        let stream = 2 * number + 1;
        peer.write(&frame(HEADERS, END_HEADERS, stream, &head("AuthenticateDevice", Some(PROGRAM))));
        peer.write(&frame(DATA, END_STREAM, stream, body));
        let answer = peer.expect(&[HEADERS, DATA, RST_STREAM, GOAWAY]);
        // A refusal is a head that ends its stream.
        assert_eq!((answer.kind, answer.stream, answer.flags & END_STREAM), (HEADERS, stream, END_STREAM), "{body:?}");
    }
    peer.assert_answers(11, "messages with wrong lengths");
}

#[test]
fn what_is_no_http_2_is_not_served() {
    let (server, _data) = started();
    for bytes in
        [&b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n"[..], b"\x16\x03\x01\x02\0\x01", b"PRI * HTTP/1.0\r\n\r\n"]
    {
        let mut peer = Peer::silent(server.grpc_address());
        peer.write(bytes);
        // It may say that the protocol is broken, and it serves nothing.
        assert!(peer.rest().iter().all(|frame| matches!(frame.kind, SETTINGS | GOAWAY)), "{bytes:?}");
    }
    let mut http = RawSocket::connect(server.address());
    http.write(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n");
    let answer = http.read_to_end(DEADLINE);
    assert!(answer.starts_with("HTTP/1.1 4") || answer.starts_with("HTTP/1.1 5"), "{answer}");
    assert_serves(&server, "bytes of other protocols");
}

#[test]
fn long_heads_are_refused_and_endless_ones_end_the_connection() {
    let (server, _data) = started();
    let mut peer = Peer::connect(server.grpc_address());
    let long = [head("Healthcheck", None), header("x", &"x".repeat(10_000)), header("y", &"y".repeat(4_000))].concat();
    peer.write(&frame(HEADERS, END_HEADERS | END_STREAM, 1, &long));
    let small_enough = peer.expect(&[HEADERS, RST_STREAM, GOAWAY]);
    assert_eq!((small_enough.kind, small_enough.stream), (HEADERS, 1));

    // One list of headers is longer than a head may be. The next call of the connection is served.
    let mut peer = Peer::connect(server.grpc_address());
    let first = [head("Healthcheck", None), header("x", &"x".repeat(15_000))].concat();
    peer.write(&frame(HEADERS, END_STREAM, 1, &first));
    peer.write(&frame(CONTINUATION, 0, 1, &header("y", &"y".repeat(15_000))));
    peer.write(&frame(CONTINUATION, END_HEADERS, 1, &header("z", &"z".repeat(15_000))));
    let refused = peer.expect(&[HEADERS, RST_STREAM, GOAWAY]);
    assert!(matches!(refused.kind, HEADERS | RST_STREAM) && refused.stream == 1, "{refused:?}");
    peer.assert_answers(3, "a list of headers that is too long");
    assert_eq!(metric(&server, "stentor_grpc_calls_total{kind=\"ok\"}"), 2, "the long list was no call");

    let mut peer = Peer::connect(server.grpc_address());
    peer.write(&frame(HEADERS, 0, 1, &head("Healthcheck", None)));
    let more = header("x", &"x".repeat(16_000));
    let mut written = 0;
    while peer.write(&frame(CONTINUATION, 0, 1, &more)) && written < 1_000 {
        written += 1;
    }
    assert!(written < 1_000, "a head without an end is cut, and not after {written} frames of 16,000 bytes");
    assert_serves(&server, "a head without an end");
}

/// A connection whose calls wait for their messages. Each has one more header.
fn waiting_calls(server: &Server, more: &[u8]) -> Peer {
    let mut peer = Peer::connect(server.grpc_address());
    let head = [head("AuthenticateDevice", Some(PROGRAM)), more.to_vec()].concat();
    let open = |number: u32| frame(HEADERS, END_HEADERS, 2 * number + 1, &head);
    peer.write(&(0..STREAMS_MAX).flat_map(open).collect::<Vec<_>>());
    peer
}

#[test]
fn heads_of_calls_that_wait_are_held_within_the_bound_of_bodies() {
    let (server, _data) = started();
    let held = || metric(&server, "stentor_body_bytes");
    let (unneeded, needed) = (header("x", &"x".repeat(8_000)), header("origin", &"x".repeat(8_000)));
    let peer = waiting_calls(&server, &unneeded);
    await_that("the heads are counted", || held() > 0);
    assert!(held() < 1_000 * u64::from(STREAMS_MAX), "{} bytes: headers that no call needs are not kept", held());
    // Together they would hold 41 MB.
    let peers: Vec<Peer> = (0..40).map(|_| waiting_calls(&server, &needed)).collect();
    await_that("the bound is reached", || held() > HEADS_AND_BODIES_BYTES_MAX * 9 / 10);
    assert!(held() <= HEADS_AND_BODIES_BYTES_MAX, "{} bytes", held());
    assert_serves(&server, "heads that wait");
    drop((peers, peer));
    await_that("the heads are given back", || held() == 0);
}

#[test]
fn a_connection_has_so_many_calls_at_a_time() {
    let (server, _data) = started();
    let mut peer = Peer::connect(server.grpc_address());
    // Each call waits for its message.
    let open = |number: u32| frame(HEADERS, END_HEADERS, 2 * number + 1, &head("AuthenticateDevice", Some(PROGRAM)));
    peer.write(&(0..STREAMS_MAX + 1).flat_map(open).collect::<Vec<_>>());
    let refused = peer.expect(&[HEADERS, RST_STREAM, GOAWAY]);
    assert_eq!((refused.kind, refused.stream, refused.error()), (RST_STREAM, 2 * STREAMS_MAX + 1, REFUSED_STREAM));
    // A call that ends makes room for another one.
    peer.write(&frame(RST_STREAM, 0, 1, &8_u32.to_be_bytes()));
    peer.assert_answers(2 * STREAMS_MAX + 3, "a call has ended");
    assert_serves(&server, "many calls on one connection");
}

#[test]
fn calls_that_are_reset_at_once_keep_nothing_else_from_being_answered() {
    const RESETS: u32 = 1_000;
    let (server, _data) = started();
    let mut peer = Peer::connect(server.grpc_address());
    let reset = |number: u32| {
        let begun = frame(HEADERS, END_HEADERS, 2 * number + 1, &head("Healthcheck", None));
        [begun, frame(RST_STREAM, 0, 2 * number + 1, &8_u32.to_be_bytes())].concat()
    };
    peer.write(&(0..RESETS).flat_map(reset).collect::<Vec<_>>());
    // The library is given some frames a turn, so that no reset comes before it has seen its call.
    let behind = 2 * RESETS + 1;
    peer.write(&call(behind, "Healthcheck", Some(PROGRAM)));
    while peer.expect(&[HEADERS, GOAWAY]).stream != behind {}
    assert_serves(&server, "calls that are reset at once");
}

#[test]
fn so_many_faulty_calls_end_the_connection() {
    const FAULTY_STREAMS_MAX: usize = 100;
    const FRAMES_TURN_MAX: usize = 16;
    let (server, _data) = started();
    let mut peer = Peer::connect(server.grpc_address());
    // HTTP/2 has no such header.
    let faulty = [head("Healthcheck", None), header("connection", "close")].concat();
    let open = |number: u32| frame(HEADERS, END_HEADERS | END_STREAM, 2 * number + 1, &faulty);
    peer.write(&(0..2 * FAULTY_STREAMS_MAX as u32).flat_map(open).collect::<Vec<_>>());
    let heard = peer.rest();
    let resets = heard.iter().filter(|frame| frame.kind == RST_STREAM);
    // What the server has said of the frames that it was given last is not written any more.
    let answered = resets.clone().count();
    assert!((FAULTY_STREAMS_MAX - FRAMES_TURN_MAX..=FAULTY_STREAMS_MAX).contains(&answered), "{answered}");
    assert!(resets.clone().all(|frame| frame.error() == PROTOCOL_ERROR));
    let end = heard.last().expect("frames");
    assert_eq!((end.kind, end.error()), (GOAWAY, ENHANCE_YOUR_CALM));
    assert_serves(&server, "faulty calls");
}

#[test]
fn a_flood_of_pings_ends_the_connection() {
    let (server, _data) = started();
    let mut peer = Peer::connect(server.grpc_address());
    let mut writer = peer.writer();
    let flood = thread::spawn(move || {
        let pings = frame(PING, 0, 0, &[7; 8]).repeat(100);
        (0..FRAMES_BETWEEN_CALLS_MAX).take_while(|_| writer.write(&pings)).count()
    });
    let answered = peer.rest().iter().filter(|frame| frame.kind == PING).count();
    let written = flood.join().expect("the writer ends");
    assert!(written < FRAMES_BETWEEN_CALLS_MAX, "the connection ends");
    assert!(answered <= FRAMES_BETWEEN_CALLS_MAX, "{answered} pings were answered");
    assert_serves(&server, "a flood of pings");
}

#[test]
fn idle_connections_are_told_that_they_end() {
    let (server, _data) = launch(|launch| launch.flag("--keep-alive", "1s"));
    let mut used = Peer::connect(server.grpc_address());
    used.assert_answers(1, "nothing");
    for (mut peer, which) in [(used, "after a call"), (Peer::connect(server.grpc_address()), "before a call")] {
        let farewell = peer.expect(&[GOAWAY]);
        assert_eq!(farewell.error(), NO_ERROR, "{which}");
        peer.rest();
    }
}

#[test]
fn a_call_ends_at_the_deadline_that_its_client_gives() {
    let (server, _data) = started();
    let mut peer = Peer::connect(server.grpc_address());
    // Of both calls half a message comes. The first has only the server's own bound for it.
    let late = || metric(&server, "stentor_grpc_calls_total{kind=\"deadline_exceeded\"}");
    for (stream, more) in [(1, Vec::new()), (3, header("grpc-timeout", "200m"))] {
        let head = [head("AuthenticateDevice", Some(PROGRAM)), more].concat();
        peer.write(&frame(HEADERS, END_HEADERS, stream, &head));
        peer.write(&frame(DATA, 0, stream, &[0]));
    }
    for (number, stream) in [(1, 3), (2, 1)] {
        let answer = peer.expect(&[HEADERS, GOAWAY]);
        assert_eq!((answer.kind, answer.stream, answer.flags & END_STREAM), (HEADERS, stream, END_STREAM));
        assert_eq!(late(), number, "the call on stream {stream}");
    }
}

#[test]
fn a_message_that_does_not_come_is_not_waited_for() {
    let (server, _data) = started();
    let mut peer = Peer::connect(server.grpc_address());
    peer.write(&frame(HEADERS, END_HEADERS, 1, &head("AuthenticateDevice", Some(PROGRAM))));
    peer.write(&frame(DATA, 0, 1, &[0]));
    let answer = peer.expect(&[HEADERS, RST_STREAM, GOAWAY]);
    assert_eq!((answer.kind, answer.stream, answer.flags & END_STREAM), (HEADERS, 1, END_STREAM));
    assert_eq!(metric(&server, "stentor_grpc_calls_total{kind=\"deadline_exceeded\"}"), 1);
    // The rest of the message is not wanted any more.
    let unwanted = peer.expect(&[RST_STREAM, GOAWAY]);
    assert_eq!((unwanted.kind, unwanted.stream, unwanted.error()), (RST_STREAM, 1, NO_ERROR));
    peer.assert_answers(3, "a message that has not come");
}

#[test]
fn answers_that_no_window_lets_through_are_given_up() {
    let (server, _data) = started();
    let account = server.sign_in("alice");
    let (alice, user) = (bearer(&account.token), account.user_id);
    // SETTINGS_INITIAL_WINDOW_SIZE is 0.
    let mut peer = Peer::with_settings(server.grpc_address(), &[0, 4, 0, 0, 0, 0]);
    for number in 0..10 {
        peer.write(&call(2 * number + 1, "GetAccount", Some(&alice)));
    }
    await_that("the answers wait", || metric(&server, "stentor_answer_bytes") > 1_000);
    assert_serves(&server, "a client that reads nothing");
    let heard = peer.rest();
    assert!(heard.iter().all(|frame| frame.kind != DATA), "no window, no data");
    assert_eq!(metric(&server, "stentor_http_answers_cut_total{kind=\"slow\"}"), 1);
    let said = server.output();
    let line = said.lines().find(|line| line.contains("a client reads its HTTP answer too slowly"));
    let line = line.unwrap_or_else(|| panic!("{said}"));
    assert!(line.contains("client=127.0.0.1") && line.contains(&format!("user={user}")), "{line}");
    await_that("the answers are forgotten", || metric(&server, "stentor_answer_bytes") == 0);
}

#[test]
fn a_client_that_has_pings_acknowledged_and_reads_no_answer_is_given_up() {
    const ROUNDS: usize = 40;
    // In the time that a client has to read 32 KiB of its answer, their acknowledgements are more than that.
    const PINGS: usize = 200;
    let (server, _data) = started();
    let alice = bearer(&server.sign_in("alice").token);
    let mut peer = Peer::with_settings(server.grpc_address(), &[0, 4, 0, 0, 0, 0]);
    peer.write(&call(1, "GetAccount", Some(&alice)));
    await_that("the answer waits", || metric(&server, "stentor_answer_bytes") > 0);
    let mut writer = peer.writer();
    let pinging = thread::spawn(move || {
        let pings = frame(PING, 0, 0, &[7; 8]).repeat(PINGS);
        let sent = (0..ROUNDS).take_while(|_| {
            thread::sleep(Duration::from_millis(500));
            writer.write(&pings)
        });
        sent.count()
    });
    let acknowledged = peer.rest().iter().filter(|frame| frame.kind == PING).count();
    let rounds = pinging.join().expect("the writer ends");
    assert!(rounds < ROUNDS, "the connection ends, after {acknowledged} acknowledgements");
    assert!(acknowledged > PINGS, "the client is served meanwhile");
    assert_eq!(metric(&server, "stentor_http_answers_cut_total{kind=\"slow\"}"), 1);
    await_that("the answer is forgotten", || metric(&server, "stentor_answer_bytes") == 0);
    assert_serves(&server, "a client that pings");
}

#[test]
fn pages_that_no_window_lets_through_hold_a_bounded_memory() {
    const CONNECTIONS: usize = 220;
    const ANSWERS_BYTES_MAX: u64 = 64 << 20;
    let (server, _data) = launch(Launch::without_budgets);
    let (page_of, content) = long_page(&server, 100);
    // All that is asked for is more than there is room for.
    assert!(CONNECTIONS * 100 * content > ANSWERS_BYTES_MAX as usize);
    let alice = bearer(&server.sign_in("alice").token);
    let ask = |_| {
        let mut peer = Peer::with_settings(server.grpc_address(), &[0, 4, 0, 0, 0, 0]);
        peer.write(&page_of(1, &alice));
        peer
    };
    let peers: Vec<Peer> = (0..CONNECTIONS).map(ask).collect();
    await_that("some give way", || metric(&server, "stentor_http_answers_cut_total{kind=\"full\"}") > 0);
    let held = metric(&server, "stentor_answer_bytes");
    assert!((1..=ANSWERS_BYTES_MAX).contains(&held), "{held} bytes are held");
    assert_serves(&server, "pages that no window lets through");
    drop(peers);
    await_that("the answers are forgotten", || metric(&server, "stentor_answer_bytes") == 0);
}

#[test]
fn calls_are_counted_by_their_code_and_with_the_requests_for_the_same() {
    let (server, _data) = started();
    let mut peer = Peer::connect(server.grpc_address());
    peer.assert_answers(1, "nothing");
    for stream in [3, 5] {
        peer.write(&call(stream, "GetAccount", None));
        peer.expect(&[HEADERS]);
    }
    assert_eq!(metric(&server, "stentor_grpc_calls_total{kind=\"ok\"}"), 1);
    assert_eq!(metric(&server, "stentor_grpc_calls_total{kind=\"unauthenticated\"}"), 2);
    assert_eq!(metric(&server, "stentor_http_latency_seconds_count{route=\"health\"}"), 1);
}
