//! A member that stops reading is closed, with a code that says why if the socket still has room for it. No other
//! member is harmed.

use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::thread;
use std::time::Duration;

use serde_json::json;
use tests::harness::{Closed, Heard, Launch, Server, Socket, data_dir};

/// Bytes of content in each message, so that a few thousand messages exceed any allowed lag.
const CONTENT_BYTES: usize = 3500;
/// More bytes than the allowed lag (4 MiB), the kernel's largest send buffer and the reader's receive buffer together.
const MESSAGES: usize = 6000;
/// Sends in flight at once.
const PIPELINE: usize = 32;
/// How far the talker may get ahead of the readers: half of the allowed lag. So only the slow reader can ever fall
/// behind too far, however busy the machine is.
const AHEAD_MAX: usize = 2 * 1024 * 1024 / CONTENT_BYTES;

#[test]
fn is_let_go_and_the_others_hear_everything() {
    for shards in [1, 4] {
        let data = data_dir();
        let launch = Launch::on(data.path()).shards(shards).without_budgets().flag("--trusted-proxies", "127.0.0.1");
        one_stops_reading(launch.start());
    }
}

fn one_stops_reading(server: Server) {
    let account = server.sign_in("slow");
    // As a proxy that is trusted has it.
    let from = [("X-Forwarded-For", "192.0.2.7")];
    let path = format!("/ws?lang=en&status=false&token={}", account.token);
    let mut slow = Socket::try_connect(server.address(), &path, &from).expect("a session");
    rustix::net::sockopt::set_socket_recv_buffer_size(slow.stream(), 16 * 1024).expect("SO_RCVBUF");
    slow.join_as("flood", json!({"persistence": false, "hidden": false}));
    let readers: Vec<_> = (0..3)
        .map(|n| {
            let mut socket = server.connect(&format!("reader-{n}"));
            socket.join_as("flood", json!({"persistence": false, "hidden": true}));
            socket
        })
        .collect();
    let mut talker = server.connect("talker");
    let channel = talker.join_as("flood", json!({"persistence": false, "hidden": true}));
    let progress: Vec<AtomicUsize> = readers.iter().map(|_| AtomicUsize::new(0)).collect();
    thread::scope(|scope| {
        for ((number, mut socket), progress) in readers.into_iter().enumerate().zip(&progress) {
            scope.spawn(move || hear_everything(&mut socket, number, progress));
        }
        scope.spawn(|| flood(&mut talker, &channel, &progress));
    });
    let (heard, end) = read_out(&mut slow);
    assert!(heard < MESSAGES, "it was let go before the end");
    match end {
        Closed::Frame { code, reason } => {
            assert!(matches!(code, 1008 | 1013 | 4000..=4999), "a code that says why: {code} {reason}");
            assert!(!reason.is_empty(), "a reason in words");
        }
        // The full connection has no room for a close frame: protocol section 1.3 allows that.
        Closed::Cut => println!("cut without a close frame after {heard} messages"),
    }
    server.assert_works("a slow reader");
    let said = server.stop();
    let line = said.lines().find(|line| line.contains("a session is closed: its client reads too slowly"));
    let line = line.unwrap_or_else(|| panic!("{said}"));
    assert!(line.contains("client=192.0.2.7") && line.contains(&format!("user={}", account.user_id)), "{line}");
}

fn flood(talker: &mut Socket, channel: &str, readers: &[AtomicUsize]) {
    let filling = "x".repeat(CONTENT_BYTES);
    let mut acks = 0;
    for n in 0..MESSAGES {
        let content = json!({"n": n, "filling": filling}).to_string();
        talker.send(&json!({"channel_message_send": {"channel_id": channel, "content": content}}));
        // A reader that receives nothing any more fails by itself, and the test fails with it.
        while readers.iter().any(|heard| n > heard.load(Relaxed) + AHEAD_MAX) {
            thread::yield_now();
        }
        while n + 1 - acks >= PIPELINE {
            let envelope = talker.receive();
            assert!(envelope["error"].is_null(), "{envelope}");
            acks += usize::from(envelope["channel_message_ack"].is_object());
        }
    }
}

/// Receives every message in order, and the leave of the slow reader.
fn hear_everything(socket: &mut Socket, number: usize, progress: &AtomicUsize) {
    // However the reader ends, the talker stops waiting for it.
    let _done = Done(progress);
    let (mut next, mut left) = (0, false);
    while next < MESSAGES || !left {
        let envelope = socket.receive();
        if let Some(content) = envelope["channel_message"]["content"].as_str() {
            let content: serde_json::Value = serde_json::from_str(content).expect("JSON");
            assert_eq!(content["n"], next, "reader {number} misses nothing");
            next += 1;
            progress.store(next, Relaxed);
        }
        left |= envelope["channel_presence_event"]["leaves"][0]["username"] == "slow";
    }
}

/// Makes the talker stop waiting for a reader that is done or has failed.
struct Done<'a>(&'a AtomicUsize);

impl Drop for Done<'_> {
    fn drop(&mut self) {
        self.0.store(MESSAGES, Relaxed);
    }
}

/// Reads the rest. Returns the number of messages, and how the connection ended.
fn read_out(socket: &mut Socket) -> (usize, Closed) {
    let mut messages = 0;
    loop {
        match socket.hear(Duration::from_secs(20)) {
            Heard::Text(text) => messages += usize::from(text.starts_with(r#"{"channel_message""#)),
            Heard::Closed(closed) => return (messages, closed),
            Heard::Nothing => panic!("still open and silent after {messages} messages"),
        }
    }
}
