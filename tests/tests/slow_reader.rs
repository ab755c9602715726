//! A member that stops reading is let go, with a code that says why where it can still be told, and nobody else is harmed.

use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::thread;
use std::time::Duration;

use serde_json::json;
use tests::harness::{Closed, Heard, Launch, Server, Socket, data_dir};

/// Bytes of content in each message, so that a few thousand messages are more than any bound on lagging behind.
const CONTENT_BYTES: usize = 3500;
/// More than the lag allowed (4 MiB), the kernel's largest send buffer and the reader's receive buffer together.
const MESSAGES: usize = 6000;
/// Sends under way at once.
const PIPELINE: usize = 32;
/// How far the talker gets ahead of those who read, so that nobody but the slow one is ever as much as slow, however busy
/// the machine: half of the lag allowed.
const AHEAD_MAX: usize = 2 * 1024 * 1024 / CONTENT_BYTES;

#[test]
fn is_let_go_and_the_others_hear_everything() {
    for shards in [1, 4] {
        let data = data_dir();
        one_stops_reading(&Launch::on(data.path()).shards(shards).start());
    }
}

fn one_stops_reading(server: &Server) {
    let mut slow = server.connect("slow");
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
        // What fills the connection leaves no room for a close frame: protocol section 1.3 allows that.
        Closed::Cut => println!("cut without a close frame after {heard} messages"),
    }
    server.assert_works("a slow reader");
}

fn flood(talker: &mut Socket, channel: &str, readers: &[AtomicUsize]) {
    let filling = "x".repeat(CONTENT_BYTES);
    let mut acks = 0;
    for n in 0..MESSAGES {
        let content = json!({"n": n, "filling": filling}).to_string();
        talker.send(&json!({"channel_message_send": {"channel_id": channel, "content": content}}));
        // A reader that hears nothing any more fails by itself, and with it the test.
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

/// Hears every message in its order, and the slow one's leaving.
fn hear_everything(socket: &mut Socket, number: usize, progress: &AtomicUsize) {
    // However it ends, the talker does not wait for it.
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

/// A reader that is through, or has failed, holds nobody up.
struct Done<'a>(&'a AtomicUsize);

impl Drop for Done<'_> {
    fn drop(&mut self) {
        self.0.store(MESSAGES, Relaxed);
    }
}

/// Reads what still comes: how many messages, and the end.
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
