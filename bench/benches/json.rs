//! What one envelope costs to read and to write. Reading happens once a request; writing once a message and format, at the
//! channel's owner, however many hear it.

use std::hint::black_box;
use std::sync::Arc;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use engine::command::{Event, Reply};
use engine::id::{ChannelId, MessageId, Sequence, SessionId, Timestamp, UserId};
use engine::message::{Message, MessageCode, Presence};
use engine::wire::{json, websocket};
use uuid::Uuid;

const JOIN: &str = r#"{"channel_join":{"target":"lobby","type":1,"persistence":true,"hidden":false},"cid":"2"}"#;

/// An envelope that sends a content of this many bytes.
fn send(content_bytes: usize) -> String {
    let text = "x".repeat(content_bytes - r#"{"text":""}"#.len());
    format!(r#"{{"channel_message_send":{{"channel_id":"2...lobby","content":"{{\"text\":\"{text}\"}}"}},"cid":"3"}}"#)
}

fn message(content_bytes: usize) -> Message {
    let at = Timestamp(1_795_338_279_575_385_013);
    Message {
        channel: ChannelId::room("lobby").expect("a room's name"),
        id: MessageId(Uuid::from_u128(0x01a2_0280_1a97_7000_8000_0000_0000_0000)),
        sequence: Sequence(1),
        code: MessageCode::Chat,
        sender: UserId(Uuid::from_u128(1)),
        username: "alice".into(),
        content: format!(r#"{{"text":"{}"}}"#, "x".repeat(content_bytes - r#"{"text":""}"#.len())).into(),
        create_time: at,
        update_time: at,
        persistent: true,
    }
}

fn presence(number: u128) -> Presence {
    Presence {
        user: UserId(Uuid::from_u128(number)),
        session: SessionId(Uuid::from_u128(number)),
        username: format!("user-{number}").into(),
        persistence: true,
    }
}

fn decode(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("json/decode");
    for (name, text) in [
        ("ping", r#"{"cid":"1","ping":{}}"#.to_owned()),
        ("join", JOIN.to_owned()),
        ("send 100 B", send(100)),
        ("send 2 KiB", send(2048)),
    ] {
        group.throughput(Throughput::Bytes(text.len() as u64));
        group.bench_function(name, |bencher| bencher.iter(|| json::decode(black_box(&text)).expect("well formed")));
    }
    for content_bytes in [100, 2048] {
        let content = message(content_bytes).content;
        group.throughput(Throughput::Bytes(content_bytes as u64));
        group.bench_function(format!("content check {content_bytes} B"), |bencher| {
            bencher.iter(|| assert!(json::is_json_object(black_box(&content))));
        });
    }
    group.finish();
}

fn encode(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("json/encode");
    let lobby = message(100).channel;
    let joined = Reply::Joined {
        channel: lobby.clone(),
        presences: (0..100).map(presence).collect::<Arc<[_]>>(),
        me: presence(100),
        count: None,
    };
    let acknowledged = Reply::Acknowledged { message: message(100), code: MessageCode::Chat };
    let came = Event::Presence { channel: lobby, joins: vec![presence(1)], leaves: vec![], count: None };
    let mut out = Vec::with_capacity(64 * 1024);
    for (name, event) in [
        ("message 100 B", Event::Message(message(100))),
        ("message 2 KiB", Event::Message(message(2048))),
        ("presence event", came),
    ] {
        group.bench_function(name, |bencher| {
            bencher.iter(|| {
                out.clear();
                websocket::text_frame(&mut out, |out| json::encode_event(black_box(&event), out));
                black_box(out.len())
            });
        });
    }
    for (name, reply) in [("acknowledgement", acknowledged), ("channel of 100", joined)] {
        group.bench_function(name, |bencher| {
            bencher.iter(|| {
                out.clear();
                websocket::text_frame(&mut out, |out| json::encode_reply("3", black_box(&reply), out));
                black_box(out.len())
            });
        });
    }
    group.finish();
}

criterion_group!(benches, decode, encode);
criterion_main!(benches);
