//! A reader that reads nothing in many rooms.

use std::thread;

use engine::limits::{BACKLOG_BYTES_HIGH, SUBSCRIBER_LAG_BYTES_MAX};
use serde_json::json;

use crate::stage::{Stage, envelope, open_session};

const ROOMS: usize = 8;

/// Messages in each room, which are together longer than a reader may be behind.
const MESSAGES: usize = 1300;
const CONTENT_BYTES: usize = 3700;

/// Writes to one room, and reads what comes back.
fn write_to(stage: &Stage, number: usize) {
    let mut writer = stage.server.connect(&format!("writer-{number}"));
    let channel = writer.join_as(&format!("room {number}"), json!({"persistence": false}));
    let content = json!({ "t": "x".repeat(CONTENT_BYTES) }).to_string();
    let send = json!({"cid": "s", "channel_message_send": {"channel_id": channel, "content": content}}).to_string();
    let mut acknowledged = 0;
    for some in [20; MESSAGES / 20] {
        (0..some).for_each(|_| writer.send_text(&send));
        let end = acknowledged + some;
        while acknowledged < end {
            let heard = writer.receive();
            assert!(heard["error"].is_null(), "{heard}");
            acknowledged += usize::from(heard["channel_message_ack"].is_object());
        }
    }
    writer.assert_open();
}

#[test]
fn a_reader_that_reads_nothing_in_many_rooms_holds_bounded_logs_and_is_let_go() {
    const LOGS: &str = "stentor_log_bytes";
    let stage = Stage::launch();
    let (mut deaf, _) = open_session(&stage, &stage.server.sign_in("deaf").token);
    for number in 0..ROOMS {
        let join = json!({"channel_join": {"target": format!("room {number}"), "type": 1, "persistence": false}});
        deaf.write(&envelope(&join));
    }
    stage.await_metric("stentor_members", ROOMS as u64);
    let mut held = 0;
    stage.beside_a_room(|| {
        thread::scope(|scope| {
            let stage = &stage;
            let writing: Vec<_> = (0..ROOMS).map(|number| scope.spawn(move || write_to(stage, number))).collect();
            while writing.iter().any(|thread| !thread.is_finished()) {
                held = held.max(stage.metric(LOGS));
                thread::sleep(std::time::Duration::from_millis(5));
            }
        });
    });
    let allowed = ROOMS as u64 * (SUBSCRIBER_LAG_BYTES_MAX + 2 * BACKLOG_BYTES_HIGH);
    assert!((SUBSCRIBER_LAG_BYTES_MAX..=allowed).contains(&held), "{held} bytes of logs, and {allowed} may be");
    stage.await_that("the reader is let go", || stage.metric("stentor_slow_readers_closed_total{kind=\"1013\"}") == 1);
    drop(deaf);
    stage.await_that("the logs give their memory back", || stage.metric(LOGS) < SUBSCRIBER_LAG_BYTES_MAX / 4);
    stage.assert_turns_bounded();
}
