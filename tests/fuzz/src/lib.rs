//! What must hold for every parser that gets bytes from a socket or from a file that an operator names, for any bytes:
//! it returns, keeps within its bounds, and is consistent.
//!
//! The fuzz binaries call these functions with inputs guided by coverage. `tests/tests/fuzz_short.rs` includes this
//! file and calls them with mutations of the seeds. For a new parser, add a function and a row in `TARGETS`.

mod identity;
mod links;

use std::net::IpAddr;
use std::sync::LazyLock;
use std::time::Duration;

use engine::command::{Command, Rejection, Reply};
use engine::id::{ChannelId, ChannelKind, MessageId, Sequence, Timestamp, UserId};
use engine::message::{Message, MessageCode};
use engine::persist::StoreWrite;
use engine::wire::request::{Malformed, Request};
use engine::wire::websocket::{self, Assembly, Decoded, MESSAGE_BYTES_MAX, Violation};
use engine::wire::{json, protobuf};
use gateway::allowed_origins::{AllowedOrigin, AllowedOrigins};
use gateway::forwarded;
use gateway::http::cursor::{Cursor, CursorKey, Direction, PageStep};
use gateway::http::framing::{Framing, Passage};
use gateway::http::grpc::message::{self, PREFIX_BYTES};
use gateway::keys::SigningKeys;
use gateway::options::Secret;
use gateway::proxy_header::{self, HEADER_BYTES_MAX, ProxyHeader};
use gateway::token::{Claims, Tokens, Vars};
use gateway::trusted_proxies::TrustedProxies;
use gateway::upgrade::{self, Admitted, Ending, HEAD_BYTES_MAX, Identity, Opening};
use hyper::HeaderMap;
use hyper::header::{FORWARDED, HeaderName, HeaderValue};
use storage::account::{Account, Credential, CredentialKind, Registration, Revocation};
use storage::embedded::{Embedded, EmbeddedOptions};
use storage::object::{ObjectCondition, ObjectVersion, ObjectWrite, ReadPermission, WritePermission};
use storage::transfer::{self, End};
use storage::{Store, Write};
use uuid::Uuid;
use xxhash_rust::xxh3::xxh3_64;

pub use identity::{identity_token, public_keys};
use identity::{identity_token_seeds, public_keys_seeds};
pub use links::{packet, parcel};
use links::{packet_seeds, parcel_seeds};

/// A parser under test.
pub struct Target {
    pub name: &'static str,
    pub run: fn(&[u8]),
    /// The first inputs, most of them valid.
    pub seeds: fn() -> Vec<Vec<u8>>,
}

pub const TARGETS: &[Target] = &[
    Target { name: "frame", run: frame, seeds: frame_seeds },
    Target { name: "envelope", run: envelope, seeds: envelope_seeds },
    Target { name: "envelope_protobuf", run: envelope_protobuf, seeds: envelope_protobuf_seeds },
    Target { name: "channel_id", run: channel_id, seeds: channel_id_seeds },
    Target { name: "cursor", run: cursor, seeds: cursor_seeds },
    Target { name: "opening", run: opening, seeds: opening_seeds },
    Target { name: "framing", run: framing, seeds: framing_seeds },
    Target { name: "grpc_message", run: grpc_message, seeds: grpc_message_seeds },
    Target { name: "proxy_header", run: proxy_header, seeds: proxy_header_seeds },
    Target { name: "forwarded", run: forwarded, seeds: forwarded_seeds },
    Target { name: "origin", run: origin, seeds: origin_seeds },
    Target { name: "export", run: export, seeds: export_seeds },
    Target { name: "public_keys", run: public_keys, seeds: public_keys_seeds },
    Target { name: "identity_token", run: identity_token, seeds: identity_token_seeds },
    Target { name: "packet", run: packet, seeds: packet_seeds },
    Target { name: "parcel", run: parcel, seeds: parcel_seeds },
];

/// The first byte is the length of a read, the rest is what a client sends. However the bytes are split, the result is
/// the same.
pub fn frame(bytes: &[u8]) {
    let Some((&read_bytes, stream)) = bytes.split_first() else {
        return;
    };
    let at_once = hear(stream, stream.len().max(1));
    let in_reads = hear(stream, usize::from(read_bytes).max(1));
    assert_eq!(at_once, in_reads);
}

/// Everything that is read of a stream, up to the first violation.
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

/// Half of the bytes are an origin that an operator names, the others are what a client sends. What is read is written and
/// read again the same. An origin is allowed as it is named, and a star stands for one label.
pub fn origin(bytes: &[u8]) {
    let (named, sent) = bytes.split_at(bytes.iter().position(|&byte| byte == b'\n').unwrap_or(bytes.len()));
    let Ok(named) = std::str::from_utf8(named) else { return };
    let sent = sent.strip_prefix(b"\n").unwrap_or(sent);
    let Ok(allowed) = named.parse::<AllowedOrigin>() else { return };
    assert!(allowed.to_string().parse::<AllowedOrigin>() == Ok(allowed.clone()), "{named}");
    let origins = AllowedOrigins::new(vec![allowed]);
    let allows = |origin: &[u8]| origins.allow(std::iter::once(origin));
    assert!(allows(named.replace('*', "label").as_bytes()), "{named}");
    assert!(!named.contains('*') || !allows(named.replace('*', "two.labels").as_bytes()), "{named}");
    if allows(sent) {
        let sent = std::str::from_utf8(sent).expect("an allowed origin is text").to_ascii_lowercase();
        let (scheme, _) = named.split_once("://").unwrap_or((named, ""));
        assert!(sent.starts_with(&scheme.to_ascii_lowercase()) && !sent.contains('*'), "{named} allows {sent}");
    }
}

fn origin_seeds() -> Vec<Vec<u8>> {
    let seeds: [&[u8]; 5] = [
        b"https://chat.example.org\nhttps://chat.example.org:443",
        b"http://*.example.org:8080\nhttp://eu.example.org:8080",
        b"http://[::1]:80\nhttp://[::1]",
        b"null\nnull",
        b"https://chat.*.example\nhttps://chat.evil/.example",
    ];
    seeds.map(<[u8]>::to_vec).to_vec()
}

/// Every request that is read can be answered, under the client's own cid. Content is judged like any JSON reader would
/// judge it.
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
    // An envelope is a JSON object too.
    assert!(json::is_json_object(text));
}

/// Every request that is read can be answered, under the client's own cid. It holds no more text than there were bytes.
/// A field that the protocol does not have changes nothing.
pub fn envelope_protobuf(bytes: &[u8]) {
    let read = protobuf::decode(bytes);
    let (cid, reply) = match &read {
        Ok(Request { cid, command }) => {
            assert!(text_bytes(command) <= bytes.len());
            (cid.as_str(), Reply::Pong)
        }
        Err(malformed) => {
            assert!(!malformed.to_string().is_empty());
            let Some((cid, rejection)) = malformed.last_answer() else { return };
            (cid, Reply::Refused(rejection))
        }
    };
    assert!(cid.len() <= bytes.len());
    let mut answer = Vec::new();
    protobuf::encode_reply(cid, &reply, &mut answer);
    match protobuf::decode(&answer) {
        Ok(Request { cid: heard, command: Command::Pong }) => assert_eq!(heard, cid),
        Err(Malformed::ServerPayload { cid: heard, name: "error" }) => assert_eq!(heard, cid),
        other => panic!("{reply:?} was written as {other:?}"),
    }
    const UNKNOWN: &[u8] = b"\xa0\x06\x01";
    assert_eq!(protobuf::decode(&[bytes, UNKNOWN].concat()), read);
    assert_eq!(protobuf::decode(&[UNKNOWN, bytes].concat()), read);
}

/// The total bytes of all texts in a command.
fn text_bytes(command: &Command) -> usize {
    let all = |texts: &[String]| texts.iter().map(String::len).sum::<usize>();
    match command {
        Command::Join(join) => join.target.len(),
        Command::Leave { channel_id } => channel_id.len(),
        Command::Send { channel_id, content } => channel_id.len() + content.len(),
        Command::Update { channel_id, message_id, content } => channel_id.len() + message_id.len() + content.len(),
        Command::Remove { channel_id, message_id } => channel_id.len() + message_id.len(),
        Command::StatusFollow { user_ids, usernames } => all(user_ids) + all(usernames),
        Command::StatusUnfollow { user_ids } => all(user_ids),
        Command::StatusUpdate { status } => status.as_ref().map_or(0, String::len),
        Command::Ping | Command::Pong | Command::Rpc | Command::Unsupported(_) => 0,
    }
}

/// `json::is_json_object` accepts everything that a stricter reader reads as an object, and nothing that it reads as
/// another value.
fn is_json_object(text: &str) {
    if let Ok(value) = serde_json::from_str::<serde_json::Value>(text) {
        assert_eq!(json::is_json_object(text), value.is_object());
    } else {
        json::is_json_object(text);
    }
}

/// A channel id that is read is in its normal form, and names the parts it was made from.
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
    assert!(engine::routing::PlacementKey::default().owner(&id, 7).core < 7);
}

/// A cursor is read only if this server gave it for this listing. A given cursor is read again: the first byte of the
/// input is its direction, the next sixteen are the id, the rest is the channel's.
pub fn cursor(bytes: &[u8]) {
    static KEY: LazyLock<CursorKey> = LazyLock::new(|| CursorKey::new(&keys()));
    let lobby = ChannelId::room("lobby").expect("a room");
    for direction in [Direction::OldestFirst, Direction::NewestFirst] {
        if let Ok(text) = std::str::from_utf8(bytes)
            && let Some(cursor) = KEY.decode(&lobby, direction, text)
        {
            assert_eq!(KEY.encode(&lobby, cursor), text);
            only_for_its_listing(&KEY, &lobby, cursor, text);
        }
    }
    let Some((&way, rest)) = bytes.split_first() else { return };
    let Some((&id, channel)) = rest.split_first_chunk() else { return };
    let channel = std::str::from_utf8(channel).ok().and_then(|text| ChannelId::parse(text).ok()).unwrap_or(lobby);
    let direction = if way & 1 == 0 { Direction::OldestFirst } else { Direction::NewestFirst };
    let step = if way & 2 == 0 { PageStep::Next } else { PageStep::Previous };
    let cursor = Cursor { direction, step, id: MessageId(Uuid::from_bytes(id)) };
    let text = KEY.encode(&channel, cursor);
    assert_eq!(KEY.decode(&channel, direction, &text), Some(cursor));
    only_for_its_listing(&KEY, &channel, cursor, &text);
    let mut damaged = text.into_bytes();
    let place = usize::from(way) % damaged.len();
    damaged[place] = if damaged[place] == b'A' { b'B' } else { b'A' };
    assert_eq!(KEY.decode(&channel, direction, std::str::from_utf8(&damaged).expect("ASCII")), None);
}

fn only_for_its_listing(key: &CursorKey, channel: &ChannelId, cursor: Cursor, text: &str) {
    let (other_way, elsewhere) = match cursor.direction {
        Direction::OldestFirst => (Direction::NewestFirst, ChannelId::room("elsewhere, old").expect("a room")),
        Direction::NewestFirst => (Direction::OldestFirst, ChannelId::room("elsewhere, new").expect("a room")),
    };
    assert_eq!(key.decode(channel, other_way, text), None);
    assert!(elsewhere == *channel || key.decode(&elsewhere, cursor.direction, text).is_none());
}

/// The first two bytes say where the rest is split into two reads. The verdict on the first read stays the same
/// whatever follows. And a client with a token of this server gets the username of that token.
pub fn opening(bytes: &[u8]) {
    let Some((cut, stream)) = bytes.split_first_chunk() else { return };
    let cut = usize::from(u16::from_be_bytes(*cut)) % (stream.len() + 1);
    let (early, verdict) = (judge(&stream[..cut]), judge(stream));
    assert!(early == Opening::NeedMore || early == verdict, "{early:?} became {verdict:?}");
    match verdict {
        Opening::NeedMore => assert!(stream.len() < HEAD_BYTES_MAX),
        Opening::Http => {}
        Opening::WebSocket { answer, identity, consumed } => {
            assert!(consumed <= stream.len().min(HEAD_BYTES_MAX) && stream[..consumed].ends_with(b"\n"));
            assert_eq!((identity.user, &*identity.username), (USER, "alice"));
            assert!(answer.starts_with(b"HTTP/1.1 101 ") && answer.ends_with(b"\r\n\r\n"));
        }
        Opening::Refuse { refusal, next } => {
            assert!(next.is_none_or(|next| next <= stream.len().min(HEAD_BYTES_MAX)));
            is_refusal(&refusal.written(Ending::Close));
            is_refusal(&refusal.written(Ending::Keep));
        }
    }
    let username: String = String::from_utf8_lossy(stream).chars().take(USERNAME_CHARACTERS_MAX).collect();
    match judge(opening_of(&username).as_bytes()) {
        Opening::WebSocket { identity: Identity { user, username: heard, .. }, .. } => {
            assert_eq!((user, &*heard), (USER, username.as_str()));
        }
        other => panic!("{username:?} gets {other:?}"),
    }
}

/// The first byte is the length of a read, the rest is what a client sends. However the bytes are split, hyper gets the
/// same bytes, and never more than one request at a time.
pub fn framing(bytes: &[u8]) {
    let Some((&read_bytes, stream)) = bytes.split_first() else { return };
    let at_once = passed_on(stream, stream.len().max(1));
    let in_reads = passed_on(stream, usize::from(read_bytes).max(1));
    assert_eq!(at_once, in_reads);
}

/// Everything that is passed on of a stream, and why it ended.
fn passed_on(stream: &[u8], read_bytes: usize) -> (Vec<u8>, Option<Passage>) {
    let (mut framing, mut unread, mut passed) = (Framing::default(), Vec::new(), Vec::new());
    for read in stream.chunks(read_bytes) {
        unread.extend_from_slice(read);
        loop {
            match framing.next(&unread) {
                Passage::NeedMore => break,
                Passage::Skip(bytes) => drop(unread.drain(..bytes)),
                Passage::Pass(bytes) => passed.extend(unread.drain(..bytes)),
                Passage::Rewrite { read, head } => {
                    assert!(head.len() <= 3 * read && head.ends_with(b"\n"));
                    unread.drain(..read);
                    passed.extend(head);
                }
                Passage::Chunk { read, data, is_end } => {
                    assert!(data.len() <= read && read > 0);
                    unread.drain(..read);
                    passed.extend(data);
                    passed.extend_from_slice(if is_end { b"|" } else { b"" });
                }
                end => return (passed, Some(end)),
            }
        }
        assert!(unread.len() <= HEAD_BYTES_MAX);
    }
    (passed, None)
}

/// A body of gRPC is one message, and its bytes are those of the body.
pub fn grpc_message(bytes: &[u8]) {
    if let Ok(framed) = message::read(bytes) {
        assert_eq!(framed.bytes, &bytes[PREFIX_BYTES..]);
        let again = message::framed(framed.bytes);
        assert_eq!(again[1..], bytes[1..], "a message is framed as it was read");
    }
    let text = String::from_utf8_lossy(bytes);
    assert!(message::encoded_text(&text).bytes().all(|byte| (b' '..=b'~').contains(&byte)));
}

fn grpc_message_seeds() -> Vec<Vec<u8>> {
    let compressed = b"\x01\0\0\0\x14\x1f\x8b\x08\0\0\0\0\0\0\xff\x03\0\0\0\0\0\0\0\0\0".to_vec();
    vec![message::framed(b""), message::framed(b"\x0a\x05alice"), compressed, b"\0\xff\xff\xff\xff".to_vec()]
}

/// The first two bytes say where the rest is split into two reads. The verdict on the first read stays the same whatever
/// follows. A header is never longer than its bound, and never longer than what has come.
pub fn proxy_header(bytes: &[u8]) {
    let Some((cut, stream)) = bytes.split_first_chunk() else { return };
    let cut = usize::from(u16::from_be_bytes(*cut)) % (stream.len() + 1);
    let (early, verdict) = (proxy_header::read(&stream[..cut]), proxy_header::read(stream));
    assert!(early == ProxyHeader::NeedMore || early == verdict, "{early:?} became {verdict:?}");
    match verdict {
        ProxyHeader::NeedMore => assert!(stream.len() < HEADER_BYTES_MAX),
        ProxyHeader::Whole { read, .. } => assert!(read <= stream.len().min(HEADER_BYTES_MAX)),
        ProxyHeader::Bad(fault) => assert!(!fault.to_string().is_empty()),
    }
}

/// Each line of the input is a line of the header. A peer that is no proxy speaks for itself, whatever it sends. What a
/// client sends to a proxy never becomes another address than those two: the one that the proxy appends, or the proxy's.
pub fn forwarded(bytes: &[u8]) {
    let [proxy, client]: [IpAddr; 2] = ["10.0.0.1", "192.0.2.7"].map(|address| address.parse().expect("an address"));
    let proxies = TrustedProxies::new(["10.0.0.0/8".parse().expect("a network")]);
    for (name, appended) in [(FORWARDED, "for=192.0.2.7"), (HeaderName::from_static("x-forwarded-for"), "192.0.2.7")] {
        let values = bytes.split(|&byte| byte == b'\n').filter_map(|line| HeaderValue::from_bytes(line).ok());
        let mut headers: HeaderMap = values.map(|value| (name.clone(), value)).collect();
        assert_eq!(forwarded::client(client, &headers, &proxies), client);
        forwarded::client(proxy, &headers, &proxies);
        headers.append(&name, HeaderValue::from_static(appended));
        assert_eq!(forwarded::client(proxy, &headers, &proxies), client, "in a line of its own");
        let joined = [bytes, b", ", appended.as_bytes()].concat();
        let Ok(joined) = HeaderValue::from_bytes(&joined) else { continue };
        let found = forwarded::client(proxy, &HeaderMap::from_iter([(name, joined)]), &proxies);
        assert!(found == client || found == proxy, "{found}");
    }
}

/// An export is read to its end or refused with a reason. The same holds if all its checksums are corrected, as an
/// attacker could do.
pub fn export(bytes: &[u8]) {
    for bytes in [bytes.to_vec(), vouched_for(bytes)] {
        match transfer::read_to_the_end(&bytes[..]) {
            Ok(rows) => assert!(rows <= bytes.len() as u64),
            Err(reason) => assert!(!reason.is_empty()),
        }
    }
}

/// The same records, as far as they can be separated, with correct lengths and checksums.
fn vouched_for(bytes: &[u8]) -> Vec<u8> {
    let (mut vouched, mut rest) = (Vec::new(), bytes);
    while let Some((header, behind)) = rest.split_first_chunk::<16>() {
        let length = u32::from_le_bytes([header[4], header[5], header[6], header[7]]) as usize;
        let (body, next) = behind.split_at(length.min(behind.len()));
        vouched.extend(&header[..4]);
        vouched.extend((body.len() as u32).to_le_bytes());
        vouched.extend(xxh3_64(body).to_le_bytes());
        vouched.extend(body);
        rest = next;
    }
    vouched
}

/// The most characters of the longest encoding that fit into a username.
const USERNAME_CHARACTERS_MAX: usize = 32;
const USER: UserId = UserId(Uuid::from_u128(7));
/// The fixed time of these tests, in seconds.
const NOW: i64 = 1_000_000;

static TOKENS: LazyLock<Tokens> = LazyLock::new(|| {
    let (session_ttl, refresh_ttl) = (Duration::from_secs(60), Duration::from_secs(3600));
    Tokens::new(&keys(), session_ttl, refresh_ttl, &[], now())
});

fn judge(bytes: &[u8]) -> Opening {
    upgrade::judge(bytes, |_| Ok(()), |token| Admitted::by_session_token(&TOKENS, token, now()))
}

fn now() -> Timestamp {
    Timestamp(NOW * 1_000_000_000)
}

fn keys() -> SigningKeys {
    SigningKeys::new(Secret::new(*b"a session key of fuzzing"), Secret::new(*b"a refresh key of fuzzing"))
}

/// The same token in every run. It is renewed, because new tokens have random ids.
fn token_of(username: &str) -> String {
    let (token, expires) = (Uuid::from_u128(1), NOW + 60);
    let (username_before, vars) = (String::new(), Vars::new());
    let claims = Claims { token, user: USER, username: username_before, vars, issued: NOW, expires, sequence: None };
    TOKENS.renew(&claims, username, Vars::new(), now()).session
}

fn opening_of(username: &str) -> String {
    format!("GET /ws?lang=en&token={}& HTTP/1.1\r\n{UPGRADE}\r\n", token_of(username))
}

const UPGRADE: &str = "Host: localhost:7350\r\nUpgrade: websocket\r\nConnection: keep-alive, Upgrade\r\n\
                       Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";

/// Checks that a refusal is one line of text with the announced length.
fn is_refusal(answer: &[u8]) {
    let answer = std::str::from_utf8(answer).expect("text");
    let (head, body) = answer.split_once("\r\n\r\n").expect("a head");
    let status = head.strip_prefix("HTTP/1.1 ").expect("a status");
    assert!(["400", "401", "431"].iter().any(|expected| status.starts_with(expected)), "{answer}");
    assert!(head.contains(&format!("Content-Length: {}\r\n", body.len())), "{answer}");
    assert!(body.ends_with('\n') && body.lines().count() == 1, "{answer}");
}

fn frame_seeds() -> Vec<Vec<u8>> {
    // The first byte is the length of a read. The masks are mostly zero, so that a mutated payload byte is what the
    // server reads.
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

fn envelope_protobuf_seeds() -> Vec<Vec<u8>> {
    let seeds: [&[u8]; 13] = [
        b"\x0a\x017\x82\x02\x00",
        b"\x0a\x012\x1a\x11\x0a\x05lobby\x10\x01\x1a\x02\x08\x01\x22\x02\x08\x00",
        b"\x0a\x013\x22\x0b\x0a\x092...lobby",
        b"\x0a\x014:\x1a\x0a\x092...lobby\x12\x0d{\"text\":\"hi\"}",
        b"\x0a\x015B\x0a\x0a\x01c\x12\x01m\x1a\x02{}",
        b"\x0a\x016J\x06\x0a\x01c\x12\x01m",
        b"\x0a\x018\xc2\x01\x07\x0a\x01f\x12\x02{}",
        b"\x0a\x019\xd2\x01\x09\x0a\x01u\x0a\x01v\x12\x01n",
        b"\x0a\x0211\xea\x01\x08\x0a\x06\x0a\x04away",
        b"\x0a\x0215\x9a\x01\x0f\x08\x02\x10\x04\x1a\x01*\"\x06\x0a\x01a\x12\x01b",
        // Messages that only servers send, with a list inside; nested groups; and only a cid.
        b"\x0a\x017R\x0c\x0a\x01c\x12\x07\x0a\x01u\x12\x01s \x01",
        b"\x9b\x06\x9b\x06\xa0\x06\x01\x9c\x06\x9c\x06\x82\x02\x00",
        b"\x0a\x0216",
    ];
    seeds.map(<[u8]>::to_vec).into()
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

fn cursor_seeds() -> Vec<Vec<u8>> {
    let key = CursorKey::new(&keys());
    let id = MessageId(Uuid::from_u128(0x0190_1234_5678_7abc_8def_0123_4567_89ab));
    let given = [
        (Direction::OldestFirst, PageStep::Next),
        (Direction::OldestFirst, PageStep::Previous),
        (Direction::NewestFirst, PageStep::Next),
        (Direction::NewestFirst, PageStep::Previous),
    ]
    .map(|(direction, step)| {
        key.encode(&ChannelId::room("lobby").expect("a room"), Cursor { direction, step, id }).into_bytes()
    });
    let to_be_given = ["\0", "\x01", "\x02", "\x03"].map(|way| format!("{way}0123456789abcdef2...a room").into_bytes());
    given.into_iter().chain(to_be_given).collect()
}

fn opening_seeds() -> Vec<Vec<u8>> {
    let (token, good) = (token_of("alice"), opening_of("alice"));
    let padded = |line: &str, times: usize| format!("{}{}\r\n", &good[..good.len() - 2], line.repeat(times));
    [
        format!("{good}\u{1}\u{5}frames"),
        format!("GET /ws HTTP/1.1\r\nauthorization: Bearer {token}\r\n{UPGRADE}\r\n"),
        format!("GET /ws?token=bad HTTP/1.1\r\nAuthorization: Basic ZGVmYXVsdGtleTo=\r\n{UPGRADE}\r\n"),
        format!("GET /ws?format=protobuf&token={token} HTTP/1.1\r\n{UPGRADE}\r\n"),
        format!("GET /ws?format=%6Ason&token=%65{} HTTP/1.1\r\nHost: a\r\n\r\n", &token[1..]),
        good.replace("Version: 13", "Version: 8"),
        good.replace("HTTP/1.1", "HTTP/1.0"),
        padded("X-Padding: 0123456789\r\n", 12),
        padded("A: b\r\n", 64),
        padded("X-Padding: 01234567890123456789012345678901234567890123456789012345678901234567890123456789\r\n", 100),
        "GET /ws HTTP/1.1\r\n\r\n".into(),
        "GET /healthcheck HTTP/1.1\r\nHost: a\r\n\r\n".into(),
    ]
    // Split somewhere in the head.
    .map(|text| [b"\x01\x02", text.as_bytes()].concat())
    .into()
}

fn framing_seeds() -> Vec<Vec<u8>> {
    let (get, opening) = ("GET /healthcheck HTTP/1.1\r\nHost: a\r\n\r\n", opening_of("alice"));
    let post =
        |length: &str, body: &str| format!("POST /v2/account?a=\"<b>\" HTTP/1.1\r\nHost: a\r\n{length}\r\n\r\n{body}");
    let coded = "Transfer-Encoding: chunked";
    [
        format!("{get}{opening}\u{1}frames"),
        format!("{}{get}\r\n\r\n{opening}", post("Content-Length: 7", "{\"a\":1}")),
        format!("{}{opening}", post(coded, "3;x=y\r\n{ }\r\n0a\r\n0123456789\r\n0\r\nA: b\r\n\r\n")),
        format!("{}{get}", post("Content-Length: 0\r\nConnection: close", "")),
        post(&format!("{coded}\r\nTransfer-Encoding: gzip"), "0\r\n\r\n"),
        post(&format!("{coded}\r\nContent-Length: 3"), "0\r\n\r\n"),
        format!("GET http://a/x`y HTTP/1.0\r\n\r\n{get}"),
        "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".into(),
    ]
    .map(|text| [b"\x05", text.as_bytes()].concat())
    .into()
}

fn proxy_header_seeds() -> Vec<Vec<u8>> {
    const SIGNATURE: &[u8] = b"\r\n\r\n\0\r\nQUIT\n";
    let binary = |head: [u8; 4], payload: &[u8]| [SIGNATURE, &head, payload, b"GET / HTTP/1.1\r\n"].concat();
    [
        b"PROXY TCP4 192.0.2.7 198.51.100.1 56324 443\r\nGET / HTTP/1.1\r\n".to_vec(),
        b"PROXY TCP6 2001:db8::7 2001:db8::1 56324 443\r\n".to_vec(),
        b"PROXY UNKNOWN ff::1 ff::2 1 2\r\n".to_vec(),
        binary([0x21, 0x11, 0, 12], &[192, 0, 2, 7, 198, 51, 100, 1, 0xdc, 4, 1, 0xbb]),
        binary([0x21, 0x21, 0, 36], &[0x20; 36]),
        binary([0x21, 0x31, 0, 216], &[b'/'; 216]),
        binary([0x21, 0x11, 0, 19], &[192, 0, 2, 7, 198, 51, 100, 1, 0xdc, 4, 1, 0xbb, 3, 0, 4, 1, 2, 3, 4]),
        binary([0x20, 0, 0, 0], &[]),
        binary([0x21, 0, 2, 0x18], &[0; 536]),
    ]
    .map(|header| [&[0, 20], &header[..]].concat())
    .into()
}

fn forwarded_seeds() -> Vec<Vec<u8>> {
    [
        "For=\"[2001:db8:cafe::17]:4711\"",
        "for=192.0.2.60;proto=http;by=203.0.113.43",
        "for=192.0.2.43,for=\"[2001:db8:cafe::17]\",for=unknown",
        "for=_hidden, for=10.0.0.2:_port\nfor=\"10.0.0.3:80\";ext=\"a,b;\\\"\"",
        "192.0.2.43, 10.0.0.9:80, , [2001:db8::1]:443",
        "unknown\n2001:db8::1,10.0.0.2\n::ffff:10.0.0.3",
    ]
    .map(|text| text.as_bytes().to_vec())
    .into()
}

/// The export of a small store, and of an empty one.
fn export_seeds() -> Vec<Vec<u8>> {
    let (lobby, time) = (ChannelId::room("lobby").expect("a room"), Timestamp(5));
    let account = Account {
        id: USER,
        username: "ann".into(),
        display_name: String::new(),
        avatar_url: String::new(),
        lang_tag: "en".into(),
        location: String::new(),
        timezone: String::new(),
        metadata: "{}".into(),
        email: String::new(),
        custom_id: String::new(),
        devices: vec!["a device".into()],
        create_time: time,
        update_time: time,
        disable_time: None,
    };
    let credential = Credential { kind: CredentialKind::Device, ident: "a device".into() };
    let message = Message {
        channel: lobby,
        id: MessageId(Uuid::from_u128(9)),
        sequence: Sequence(1),
        code: MessageCode::Chat,
        sender: USER,
        username: "ann".into(),
        content: "{}".into(),
        create_time: time,
        update_time: time,
        persistent: true,
    };
    let object = ObjectWrite {
        collection: "profile".into(),
        key: "picture".into(),
        value: "{}".into(),
        version: ObjectVersion([7; 16]),
        condition: ObjectCondition::Anything,
        read: ReadPermission::Public,
        write: WritePermission::Owner,
    };
    let writes = [
        Write::Register(Registration { account, credential, secret: "a hash".into() }),
        Write::WriteObjects { owner: USER, objects: vec![object], time },
        Write::Request(StoreWrite::Insert(message)),
        Write::Revoke(Revocation::User { id: USER, issued_before: time }),
    ];
    vec![export_of(&writes), export_of(&[])]
}

fn export_of(writes: &[Write]) -> Vec<u8> {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let (path, options) =
        (directory.path().join("export"), EmbeddedOptions { free_bytes_min: 0, ..Default::default() });
    let store = Embedded::open(&directory.path().join("store"), &options).expect("a new store");
    store.commit(writes).expect("a store that works");
    transfer::run(End::Store(&store), End::File(&path), &mut |_, _| ()).expect("a disk with room");
    let mut bytes = std::fs::read(&path).expect("our own file");
    // The store's path is replaced, because it differs from run to run.
    let place = directory.path().canonicalize().expect("our own directory");
    let place = place.as_os_str().as_encoded_bytes();
    while let Some(at) = bytes.windows(place.len()).position(|some| some == place) {
        bytes[at..at + place.len()].fill(b'/');
    }
    vouched_for(&bytes)
}
