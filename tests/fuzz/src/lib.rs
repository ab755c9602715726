//! What is asserted of every parser that bytes from a socket reach, for any bytes whatever: that it returns, keeps to its
//! bounds, and agrees with itself.
//!
//! The fuzz binaries call these with inputs guided by coverage; `tests/tests/fuzz_short.rs` includes this file and calls
//! them with mutations of the seeds. A new parser is a function and a row in `TARGETS`.

use engine::command::{Command, Rejection, Reply};
use engine::id::{ChannelId, ChannelKind};
use engine::wire::json;
use engine::wire::websocket::{self, Assembly, Decoded, MESSAGE_BYTES_MAX, Violation};

/// A parser under test.
pub struct Target {
    pub name: &'static str,
    pub run: fn(&[u8]),
    /// Inputs to begin from, of which most are lawful.
    pub seeds: fn() -> Vec<Vec<u8>>,
}

pub const TARGETS: &[Target] = &[
    Target { name: "frame", run: frame, seeds: frame_seeds },
    Target { name: "envelope", run: envelope, seeds: envelope_seeds },
    Target { name: "channel_id", run: channel_id, seeds: channel_id_seeds },
];

/// The first byte is how much a read brings, the rest is what a client sends: however it is cut, the same is understood.
pub fn frame(bytes: &[u8]) {
    let Some((&read_bytes, stream)) = bytes.split_first() else {
        return;
    };
    let at_once = hear(stream, stream.len().max(1));
    let in_reads = hear(stream, usize::from(read_bytes).max(1));
    assert_eq!(at_once, in_reads);
}

/// All that is understood of a stream, up to what is refused.
fn hear(stream: &[u8], read_bytes: usize) -> (Vec<String>, Option<Violation>) {
    let (mut assembly, mut unread, mut heard) = (Assembly::default(), Vec::new(), Vec::new());
    for read in stream.chunks(read_bytes) {
        unread.extend_from_slice(read);
        let mut start = 0;
        loop {
            let rest = &mut unread[start..];
            let available = rest.len();
            match websocket::decode(rest, &mut assembly, MESSAGE_BYTES_MAX) {
                Ok(Decoded::Frame { consumed, incoming }) => {
                    assert!((6..=available).contains(&consumed));
                    heard.push(format!("{incoming:?}"));
                    start += consumed;
                }
                Ok(Decoded::Incomplete { needed }) => {
                    assert!(needed > available && available <= websocket::UNFINISHED_BYTES_MAX);
                    break;
                }
                Err(violation) => return (heard, Some(violation)),
            }
            assert!(assembly.bytes() <= MESSAGE_BYTES_MAX);
        }
        unread.drain(..start);
    }
    (heard, None)
}

/// Whatever is read can be answered, under the client's own name for it; content is judged as any JSON reader would.
pub fn envelope(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else {
        return;
    };
    let mut answer = Vec::new();
    let cid = match json::decode(text) {
        Ok(request) => {
            json::encode_reply(&request.cid, &Reply::Refused(Rejection::bad_input("no")), &mut answer);
            if let Command::Send { content, .. } | Command::Update { content, .. } = &request.command {
                is_json_object(content);
            }
            request.cid
        }
        Err(malformed) => {
            assert!(!malformed.to_string().is_empty());
            let Some((cid, rejection)) = malformed.last_answer() else {
                return is_json_object(text);
            };
            json::encode_error(cid, &rejection, &mut answer);
            cid.to_owned()
        }
    };
    let answer: serde_json::Value = serde_json::from_slice(&answer).expect("answers are JSON");
    assert_eq!(answer["cid"].as_str().unwrap_or_default(), cid);
    // An envelope is an object too.
    assert!(json::is_json_object(text));
}

/// `json::is_json_object` accepts whatever a stricter reader takes for an object, and nothing it takes for another value.
fn is_json_object(text: &str) {
    if let Ok(value) = serde_json::from_str::<serde_json::Value>(text) {
        assert_eq!(json::is_json_object(text), value.is_object());
    } else {
        json::is_json_object(text);
    }
}

/// A channel id that is read is in its normal form, and names what it was made of.
pub fn channel_id(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else {
        return;
    };
    let Ok(id) = ChannelId::parse(text) else {
        return;
    };
    let same = match id.kind() {
        ChannelKind::Room(name) => ChannelId::room(name).expect("it was a room before"),
        ChannelKind::Group(group) => ChannelId::group(group),
        ChannelKind::Direct(one, two) => ChannelId::direct(two, one),
    };
    assert_eq!(same, id);
    assert_eq!(ChannelId::parse(id.as_str()).as_ref(), Ok(&id));
    assert!(id.owner(7).0 < 7);
}

fn frame_seeds() -> Vec<Vec<u8>> {
    // The first byte is the length of a read; the masks are mostly zero, so that a mutation says what it seems to say.
    let with_length =
        |length: u16, payload: &[u8]| [&[200, 0x81, 0xfe], length.to_be_bytes().as_slice(), &[0; 4], payload].concat();
    vec![
        b"\x01\x81\x85\0\0\0\0hello".to_vec(),
        b"\x03\x01\x81\0\0\0\0h\x89\x81\0\0\0\0p\x80\x84\0\0\0\0ello".to_vec(),
        b"\x05\x02\x80\0\0\0\0\x00\x82\0\0\0\0\xff\xfe\x80\x81\0\0\0\0\0\x8a\x80\0\0\0\0".to_vec(),
        b"\x07\x88\x80\0\0\0\0".to_vec(),
        b"\x02\x88\x85\0\0\0\0\x03\xe8bye".to_vec(),
        b"\x02\x81\x86\x37\xfa\x21\x3d\x7f\x9f\x4d\x51\x58\xdb".to_vec(),
        b"\xff\x81\xff\0\0\0\0\0\x01\0\0\0\0\0\0".to_vec(),
        with_length(126, &[b'x'; 126]),
        with_length(4096, &[b'y'; 4096]),
        with_length(4097, &[b'z'; 100]),
        [with_length(4000, &[b'a'; 4000]).as_slice(), b"\x80\xfe\0\x7e\0\0\0\0", &[b'b'; 126]].concat(),
    ]
}

fn envelope_seeds() -> Vec<Vec<u8>> {
    [
        r#"{"cid":"1","ping":{}}"#,
        r#"{"channel_join":{"target":"lobby","type":1,"persistence":true,"hidden":false},"cid":"2"}"#,
        r#"{"cid":"2","channelJoin":{"target":"8764eaba-85b6-4c62-88f1-c205fa39b581","type":"2","hidden":null}}"#,
        r#"{"channel_message_send":{"channel_id":"2...lobby","content":"{\"text\":\"hi \\u0041\\ud83d\\ude00\"}"},"cid":"3"}"#,
        r#"{"channelMessageUpdate":{"channelId":"2...x","messageId":"f4f9926e-0877-4a3f-9db2-d506c0f311d1","content":"{}"}}"#,
        r#"{"channel_message_remove":{"channel_id":"2...x","message_id":"f4f9926e-0877-4a3f-9db2-d506c0f311d1"}}"#,
        r#"{"cid":"\u0034\n😀","channel_leave":{"channel_id":"2...lobby"}}"#,
        r#"{"matchmaker_add":{"min_count":2,"query":"*","numeric_properties":{"a":[1.5e3,{"b":[[[]]]}]}}}"#,
        r#"{"rpc":{"id":"f"},"match":null,"pong":null}"#,
        r#"{"cid":"9","channel_presence_event":{"joins":[{"user_id":""}]}}"#,
        r#"{"cid":"9"}"#,
        r#" { "a" : [ 1 , -0.5e+3 , true , null , "\ud800" ] } "#,
    ]
    .map(|text| text.as_bytes().to_vec())
    .into()
}

fn channel_id_seeds() -> Vec<Vec<u8>> {
    [
        "2...lobby",
        "2...a.b/c d\u{7f}é",
        "2...0123456789012345678901234567890123456789012345678901234567890123",
        "3.801a0c03-a0ac-42af-9ac2-d2b694ccafc6..",
        "3.801A0C03-A0AC-42AF-9AC2-D2B694CCAFC6..",
        "3...",
        "4.65aea872-a336-4029-90c9-6f507b75281c.8764eaba-85b6-4c62-88f1-c205fa39b581.",
        "4.8764eaba-85b6-4c62-88f1-c205fa39b581.65aea872-a336-4029-90c9-6f507b75281c.",
        "4...",
        "4..65aea872-a336-4029-90c9-6f507b75281c.",
    ]
    .map(|text| text.as_bytes().to_vec())
    .into()
}
