//! The cost of reading and of writing one envelope, and of the frame around it. An envelope is read once for each request. It is written once for
//! each message and format, by the channel's owner, however many members receive it.

use std::hint::black_box;

use criterion::{BatchSize, Criterion, criterion_group, criterion_main};
use engine::command::{Event, Reply};
use engine::fanout::frames::{self, Format, Frames};
use engine::id::{ChannelId, MessageId, Sequence, SessionId, Timestamp, UserId};
use engine::message::{Message, MessageCode, Presence};
use engine::wire::websocket::{self, Assembly, Decoded, MESSAGE_BYTES_MAX};
use engine::wire::{json, protobuf};
use uuid::Uuid;

const MASK: [u8; 4] = [0x37, 0xfa, 0x21, 0x3d];
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

/// A field with a text or a message. Its length takes one byte or two.
fn field(number: u8, bytes: &[u8]) -> Vec<u8> {
    let length = bytes.len();
    let length = if length < 128 { vec![length as u8] } else { vec![length as u8 | 0x80, (length >> 7) as u8] };
    [&[(number << 3) | 2], length.as_slice(), bytes].concat()
}

/// The same envelope in protobuf.
fn join_in_protobuf() -> Vec<u8> {
    let join = [field(1, b"lobby"), vec![0x10, 1], field(3, &[0x08, 1]), field(4, &[])].concat();
    [field(1, b"2"), field(3, &join)].concat()
}

fn send_in_protobuf(content_bytes: usize) -> Vec<u8> {
    let content = message(content_bytes).content;
    [field(1, b"3"), field(7, &[field(1, b"2...lobby"), field(2, content.as_bytes())].concat())].concat()
}

fn decode(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("decode");
    for (name, text, bytes) in [
        ("ping", r#"{"cid":"1","ping":{}}"#.to_owned(), b"\x0a\x011\x82\x02\x00".to_vec()),
        ("join", JOIN.to_owned(), join_in_protobuf()),
        ("send 100 B", send(100), send_in_protobuf(100)),
        ("send 2 KiB", send(2048), send_in_protobuf(2048)),
    ] {
        assert_eq!(json::decode(&text).map(|read| read.command), protobuf::decode(&bytes).map(|read| read.command));
        group.bench_function(format!("json {name}"), |bencher| {
            bencher.iter(|| json::decode(black_box(&text)).expect("well formed"));
        });
        group.bench_function(format!("protobuf {name}"), |bencher| {
            bencher.iter(|| protobuf::decode(black_box(&bytes)).expect("well formed"));
        });
    }
    for content_bytes in [100, 2048] {
        let content = message(content_bytes).content;
        group.bench_function(format!("content check {content_bytes} B"), |bencher| {
            bencher.iter(|| assert!(json::is_json_object(black_box(&content))));
        });
    }
    group.finish();
}

/// Decodes in place the frame of a client that sends a content. Unmasking has to touch every byte, as copying does, so
/// its limit is a memcpy of the same bytes.
fn frame(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("frame");
    for content_bytes in [100, 2048] {
        let payload = send(content_bytes).into_bytes();
        let mut frame = Vec::new();
        websocket::text_frame(&mut frame, |out| out.extend_from_slice(&payload));
        let start = frame.len() - payload.len();
        frame[1] |= 0x80;
        frame.splice(start..start, MASK);
        websocket::unmask(&mut frame[start + MASK.len()..], MASK);
        let decode = |bytes: &mut Vec<u8>| {
            let decoded = websocket::decode(bytes, &mut Assembly::default(), MESSAGE_BYTES_MAX);
            assert!(matches!(black_box(decoded), Ok(Decoded::Frame { .. })));
        };
        group.bench_function(format!("decode send {content_bytes} B"), |bencher| {
            bencher.iter_batched_ref(|| frame.clone(), decode, BatchSize::SmallInput);
        });
        group.bench_function(format!("memcpy send {content_bytes} B"), |bencher| {
            let copy = |bytes: &mut Vec<u8>| black_box(bytes).copy_from_slice(black_box(&frame));
            bencher.iter_batched_ref(|| frame.clone(), copy, BatchSize::SmallInput);
        });
    }
    group.finish();
}

fn encode(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("encode");
    let lobby = message(100).channel;
    let joined = Reply::Joined {
        channel: lobby.clone(),
        presences: (0..100).map(presence).collect(),
        count: None,
        me: presence(100),
    };
    let acknowledged = Reply::Acknowledged { message: message(100), code: MessageCode::Chat };
    let came = Event::Presence { channel: lobby, joins: vec![presence(1)], leaves: vec![], count: None };
    for (name, event) in [
        ("message 100 B", Event::Message(message(100))),
        ("message 2 KiB", Event::Message(message(2048))),
        ("presence event", came),
    ] {
        for format in Format::ALL {
            group.bench_function(format!("{format:?} {name}"), |bencher| {
                bencher.iter(|| {
                    let mut frames = Frames::default();
                    frames.push(black_box(&event), [format].into_iter());
                    black_box(frames.messages())
                });
            });
        }
    }
    for (name, reply) in [("acknowledgement", acknowledged), ("channel of 100", joined)] {
        for format in Format::ALL {
            group.bench_function(format!("{format:?} {name}"), |bencher| {
                bencher.iter(|| black_box(frames::reply(format, "3", black_box(&reply)).len()));
            });
        }
    }
    group.finish();
}

criterion_group!(benches, decode, frame, encode);
criterion_main!(benches);
