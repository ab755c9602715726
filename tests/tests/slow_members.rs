//! Members that stop reading, read slowly or vanish without closing, and clients that flood. The server's memory stays
//! within the bounds of its logs. The other members receive everything. A member with `on_lag=skip` is told exactly
//! what it missed. Nothing is left behind.

use std::thread;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tests::harness::{Ending, Heard, Launch, RawSocket, Server, Socket, data_dir, masked_frame};

const STOPPED: usize = 60;
const SKIPPING: usize = 4;
const SLOW: usize = 6;
const READERS: usize = 12;
/// Bytes of content in each message.
const CONTENT_BYTES: usize = 3500;
/// More bytes than the allowed lag (4 MiB), the kernel's largest send buffer and the reader's receive buffer together.
const MESSAGES: usize = 2500;
/// Sends in flight at once.
const PIPELINE: usize = 32;

/// What the log may hold in one room and shard: the allowed lag, twice because half of it may be read and not yet
/// returned, and twice because a vector doubles as it grows. And the same again for what the allocator keeps and for
/// the store's cache of the run.
const MEMORY_KIB: usize = 2 * 4 * 4 * 1024 + MESSAGES * CONTENT_BYTES * 2 / 1024;

#[test]
fn are_let_go_or_moved_on_and_leave_nothing_behind() {
    let data = data_dir();
    let server = Launch::on(data.path()).flag("--store", "memory").start();
    server.assert_works("its start");
    let sockets = sockets(&server);
    let memory = server.resident_kib();
    let vanished = crowd(&server);
    let grown = server.resident_kib().saturating_sub(memory);
    assert!(grown < MEMORY_KIB, "{grown} KiB more than before");
    await_that("all sockets are given back", || self::sockets(&server) <= sockets);
    drop(vanished);
    server.assert_works("slow members");
}

/// Returns the sockets that no client reads again and that do not close either.
fn crowd(server: &Server) -> Vec<RawSocket> {
    let mut stopped: Vec<_> = (0..STOPPED).map(|number| silent(server, &format!("stopped-{number}"))).collect();
    let mut skipping: Vec<_> = (0..SKIPPING).map(|number| skipper(server, &format!("skipping-{number}"))).collect();
    let mut talker = member(server, "talker");
    let readers: Vec<_> = (0..READERS).map(|number| member(server, &format!("reader-{number}"))).collect();
    let slow: Vec<_> = (0..SLOW).map(|number| member(server, &format!("slow-{number}"))).collect();
    thread::scope(|scope| {
        for (number, mut socket) in readers.into_iter().enumerate() {
            scope.spawn(move || hear_everything(&mut socket, number, 0));
        }
        for (number, mut socket) in slow.into_iter().enumerate() {
            // Slower than most, but fast enough not to fall behind by the whole lag.
            scope.spawn(move || hear_everything(&mut socket, number, 400));
        }
        scope.spawn(|| flood(&mut talker));
    });
    for socket in &mut skipping {
        catch_up(server, socket, &mut talker);
    }
    let vanished = stopped.split_off(STOPPED / 2);
    for socket in &mut stopped {
        let (heard, ending) = socket.read_ending();
        assert!(heard.len() < MESSAGES, "it was let go before the end");
        // The full connection may have no room for the close frame.
        assert!(matches!(ending, Ending::Code(1013) | Ending::Cut), "{ending:?}");
    }
    vanished
}

/// A member that never reads after joining.
fn silent(server: &Server, name: &str) -> RawSocket {
    let mut socket = RawSocket::upgraded(server.address(), &server.sign_in(name).token);
    let join =
        json!({"cid": "1", "channel_join": {"target": "flood", "type": 1, "persistence": false, "hidden": true}});
    socket.write(&masked_frame(0x81, join.to_string().as_bytes()));
    assert!(socket.read_frame().is_some(), "the answer to the join");
    socket
}

fn member(server: &Server, name: &str) -> Socket {
    let mut socket = server.connect(name);
    socket.join_as("flood", json!({"persistence": true, "hidden": true}));
    socket
}

fn skipper(server: &Server, name: &str) -> Socket {
    let path = format!("/ws?on_lag=skip&token={}", server.sign_in(name).token);
    let mut socket = Socket::try_connect(server.address(), &path, &[]).expect("on_lag=skip is offered");
    socket.join_as("flood", json!({"persistence": true, "hidden": true}));
    socket
}

fn flood(talker: &mut Socket) {
    let filling = "x".repeat(CONTENT_BYTES);
    let mut acks = 0;
    for n in 0..MESSAGES {
        let content = json!({"n": n, "filling": filling}).to_string();
        talker.send(&json!({"channel_message_send": {"channel_id": "2...flood", "content": content}}));
        while acks < (n + 1).saturating_sub(PIPELINE) || (n + 1 == MESSAGES && acks < MESSAGES) {
            let envelope = talker.receive();
            assert!(envelope["error"].is_null(), "{envelope}");
            acks += usize::from(envelope["channel_message_ack"].is_object());
        }
    }
}

fn number(message: &Value) -> usize {
    let content: Value = serde_json::from_str(message["content"].as_str().expect("content")).expect("JSON");
    content["n"].as_u64().expect("a number") as usize
}

/// Receives every message in order, with a pause after every `pause_every` messages.
fn hear_everything(socket: &mut Socket, reader: usize, pause_every: usize) {
    for next in 0..MESSAGES {
        let message = socket.push_where("the next message", |push| push["channel_message"].is_object());
        assert_eq!(number(&message["channel_message"]), next, "reader {reader} misses nothing");
        if pause_every > 0 && next % pause_every == 0 {
            thread::sleep(Duration::from_millis(5));
        }
    }
}

/// Reads what came, and fetches what the gaps name. Together that is every message, once and in order.
fn catch_up(server: &Server, socket: &mut Socket, talker: &mut Socket) {
    let ack = talker.say("2...flood", &json!({"n": MESSAGES}).to_string());
    assert!(ack["channel_message_ack"].is_object(), "{ack}");
    let (mut known, mut gaps) = (Vec::new(), 0);
    while known.last() != Some(&MESSAGES) {
        let text = match socket.hear(Duration::from_secs(20)) {
            Heard::Text(text) => text,
            other => panic!("{other:?} after {:?} and {gaps} gaps", known.last()),
        };
        let push: Value = serde_json::from_str(&text).expect("JSON");
        if push["channel_message"].is_object() {
            known.push(number(&push["channel_message"]));
        } else if push["channel_gap"].is_object() {
            gaps += 1;
            fetch(server, &push["channel_gap"], &mut known);
        }
    }
    // Other clients may have sent more in between.
    assert!(gaps > 0, "it did not read, and was not moved on");
    known.dedup();
    assert!(known.iter().copied().eq(0..=MESSAGES), "{} of {MESSAGES} in {gaps} gaps", known.len());
}

fn fetch(server: &Server, gap: &Value, known: &mut Vec<usize>) {
    assert_eq!((gap["channel_id"].as_str(), gap["room_name"].as_str()), (Some("2...flood"), Some("flood")));
    let (after, before) = (gap["after_message_id"].as_str(), gap["before_message_id"].as_str());
    let range = format!("after_message_id={}&before_message_id={}", after.expect("after"), before.expect("before"));
    let token = server.sign_in("historian").token;
    let mut cursor = String::new();
    loop {
        let path = format!("/v2/channel/2...flood?limit=100&{range}&cursor={cursor}");
        let page = server.http().get(&path, &token).json();
        known.extend(page["messages"].as_array().into_iter().flatten().map(number));
        match page["next_cursor"].as_str() {
            Some(next) => cursor = next.to_owned(),
            None => return,
        }
    }
}

#[test]
fn a_client_that_asks_and_never_listens_is_not_read_beyond_its_bounds() {
    let data = data_dir();
    let server = Launch::on(data.path()).flag("--store", "memory").start();
    let mut other = server.connect("other");
    let channel = other.join("elsewhere");
    let mut deaf = RawSocket::upgraded(server.address(), &server.sign_in("deaf").token);
    let memory = server.resident_kib();
    // Each answer is larger than its request, so a server that kept reading would have to store all answers.
    let question = masked_frame(0x81, json!({"cid": "x".repeat(3000), "ping": {}}).to_string().as_bytes());
    deaf.write_within(Duration::from_secs(1));
    let asked = (0..10_000).take_while(|_| deaf.try_write(&question)).count();
    assert!(asked < 10_000, "30 MB were read of somebody who takes no answers");
    for n in 0..50 {
        let ack = other.say(&channel, &json!({"n": n}).to_string());
        assert!(ack["channel_message_ack"].is_object(), "{ack}");
    }
    let grown = server.resident_kib().saturating_sub(memory);
    assert!(grown < 4 * 1024, "{grown} KiB more for one client: 64 KiB of answers and 16 KiB of questions are allowed");
    drop(deaf);
    server.assert_works("a flood");
}

#[test]
fn sends_beyond_the_rate_are_refused_and_the_session_goes_on() {
    let data = data_dir();
    let server = Launch::on(data.path()).flag("--store", "memory").flag("--sends-per-second", 5).start();
    let (mut fast, mut calm) = (server.connect("fast"), server.connect("calm"));
    let channel = fast.join("limited");
    calm.join("limited");
    let answers: Vec<Value> = (0..50).map(|n| fast.say(&channel, &json!({"n": n}).to_string())).collect();
    let refused: Vec<&Value> = answers.iter().filter(|answer| answer["error"].is_object()).collect();
    assert!(refused.len() >= 10 && refused.len() <= 45, "{} refused of 50 at once", refused.len());
    for answer in refused {
        assert_eq!(answer["error"]["code"], 3);
        assert!(
            answer["error"]["message"].as_str().is_some_and(|text| text.contains("so many messages a second")),
            "{answer}"
        );
    }
    fast.assert_open();
    assert!(calm.say(&channel, "{}")["channel_message_ack"].is_object(), "another session has its own measure");
    await_that("its measure comes back", || fast.say(&channel, "{}")["channel_message_ack"].is_object());
}

fn sockets(server: &Server) -> usize {
    let descriptors = std::fs::read_dir(format!("/proc/{}/fd", server.pid())).expect("the server runs");
    let links = descriptors.filter_map(|descriptor| std::fs::read_link(descriptor.ok()?.path()).ok());
    links.filter(|link| link.to_string_lossy().starts_with("socket:")).count()
}

fn await_that(what: &str, mut is_so: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(20);
    while !is_so() {
        assert!(Instant::now() < deadline, "not within 20 s: {what}");
        thread::sleep(Duration::from_millis(50));
    }
}
