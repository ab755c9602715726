//! What members and publishers send to each kind of server, and how the server's answers are recognized.
//!
//! The bench talks to Stentor like any client. The bare loops understand one byte, and their publishers send them the
//! exact frame that the members are to get. That frame has the layout of Stentor's `channel_message`, so that a
//! delivery has as many bytes and the same client code can check it.

use crate::checker::{COUNTER_PLACEHOLDER, STAMP_PLACEHOLDER};
use crate::frames;

pub const ROOM: &str = "bench";
pub const USERNAME: &str = "bench";
/// The first byte that a connection sends to a bare loop.
pub const BARE_MEMBER: u8 = b'M';
pub const BARE_PUBLISHER: u8 = b'P';
/// The answer of a bare loop, so that the client knows when a join is done.
pub const BARE_WELCOME: &[u8] = br#"{"cid":"j","channel":{"id":"2...bench"}}"#;
pub const JOINED_PREFIX: &[u8] = br#"{"cid":"j","channel":{"#;
pub const ACK_PREFIX: &[u8] = br#"{"cid":"m","channel_message_ack":{"#;

/// A fixed key is enough, because the server only has to prove that it read the key. This pair is RFC 6455's example.
const WEBSOCKET_KEY: &str = "dGhlIHNhbXBsZSBub25jZQ==";
const WEBSOCKET_ACCEPT: &str = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=";

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Persistence {
    Kept,
    Passing,
}

#[derive(Clone, Debug)]
pub enum Dialect {
    Stentor {
        /// A user's session token for each connection. With fewer tokens than connections, users have several sessions.
        tokens: Vec<String>,
        persistence: Persistence,
        /// The room's name, plain letters only.
        room: String,
    },
    Bare,
}

impl Dialect {
    /// Whether publishers are members of the room, and so receive what they send.
    pub fn publishers_are_members(&self) -> bool {
        matches!(self, Dialect::Stentor { .. })
    }

    /// The head of the request that opens the WebSocket of the connection with this number. `None` if a connection carries
    /// frames from its start.
    pub fn upgrade_request(&self, connection: usize) -> Option<Vec<u8>> {
        let Dialect::Stentor { tokens, .. } = self else { return None };
        Some(upgrade_request(&tokens[connection % tokens.len()], ""))
    }

    /// Whether this response head opens the WebSocket that `upgrade_request` asked for.
    pub fn is_upgrade(head: &str) -> bool {
        head.starts_with("HTTP/1.1 101 ") && head.contains(WEBSOCKET_ACCEPT)
    }

    pub fn member_request(&self) -> Vec<u8> {
        match self {
            Dialect::Bare => vec![BARE_MEMBER],
            Dialect::Stentor { persistence, room, .. } => {
                // The members are hidden. Otherwise every join would be announced to all members, and the cost would
                // grow with the square of the room.
                let kept = *persistence == Persistence::Kept;
                let join = format!(
                    r#"{{"channel_join":{{"target":"{room}","type":1,"persistence":{kept},"hidden":true}},"cid":"j"}}"#
                );
                let mut frame = Vec::new();
                frames::put_client_frame(frames::TEXT, join.as_bytes(), &mut frame);
                frame
            }
        }
    }

    /// The bytes that publish `content`, and where in them the numbers of the content lie and how they are masked.
    pub fn publication(&self, content_bytes: usize) -> Publication {
        let content = crate::checker::placeholder_content(content_bytes);
        match self {
            Dialect::Bare => {
                let mut bytes = Vec::new();
                let payload = message_as_delivered(&content);
                frames::put_server_text(payload.as_bytes(), &mut bytes);
                let start = bytes.len() - payload.len();
                Publication::new(bytes, start, &payload, [0; 4])
            }
            Dialect::Stentor { room, .. } => {
                let payload = format!(
                    r#"{{"channel_message_send":{{"channel_id":"2...{room}","content":"{}"}},"cid":"m"}}"#,
                    escaped(&content)
                );
                let mut bytes = Vec::new();
                let start = frames::put_client_frame(frames::TEXT, payload.as_bytes(), &mut bytes);
                Publication::new(bytes, start, &payload, frames::MASK)
            }
        }
    }
}

/// The head of the request that opens a session, with `more` at the end of its query.
pub fn upgrade_request(token: &str, more: &str) -> Vec<u8> {
    let head = format!(
        "GET /ws?lang=en&status=false&token={token}{more} HTTP/1.1\r\nHost: 127.0.0.1\r\nUpgrade: websocket\r\n\
         Connection: Upgrade\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {WEBSOCKET_KEY}\r\n\r\n"
    );
    head.into_bytes()
}

/// A message as Stentor's members receive it: ids have the same lengths, and times have all nine digits of the
/// nanosecond, like all but one in a thousand.
pub fn message_as_delivered(content: &str) -> String {
    let content = escaped(content);
    format!(
        r#"{{"channel_message":{{"channel_id":"2...{ROOM}","message_id":"f4f9926e-0877-7a3f-9db2-d506c0f311d1","code":0,"sender_id":"65aea872-a336-4029-90c9-6f507b75281c","username":"{USERNAME}","content":"{content}","create_time":"2026-11-22T09:04:39.575385013Z","update_time":"2026-11-22T09:04:39.575385013Z","persistent":false,"room_name":"{ROOM}"}}}}"#
    )
}

/// Escapes a content for JSON. The bench's contents contain no character but the quote that needs escaping.
fn escaped(content: &str) -> String {
    content.replace('"', "\\\"")
}

/// The bytes of one publication. From one message to the next only the digits of counter and stamp change.
#[derive(Clone, Debug)]
pub struct Publication {
    bytes: Vec<u8>,
    payload_at: usize,
    counter_at: usize,
    stamp_at: usize,
    mask: [u8; 4],
}

impl Publication {
    fn new(bytes: Vec<u8>, payload_at: usize, payload: &str, mask: [u8; 4]) -> Publication {
        let find = |placeholder: &str| payload.find(placeholder).expect("a content carries its numbers");
        let counter_at = payload_at + find(COUNTER_PLACEHOLDER);
        let stamp_at = payload_at + find(STAMP_PLACEHOLDER);
        Publication { bytes, payload_at, counter_at, stamp_at, mask }
    }

    /// Appends the publication of message `counter`, to be sent at `stamp_ns`.
    pub fn put(&mut self, counter: u32, stamp_ns: u64, out: &mut Vec<u8>) {
        assert!(u64::from(counter) < 10_u64.pow(COUNTER_PLACEHOLDER.len() as u32), "{counter} has too many digits");
        self.put_digits(self.counter_at, COUNTER_PLACEHOLDER.len(), u64::from(counter));
        self.put_digits(self.stamp_at, STAMP_PLACEHOLDER.len(), stamp_ns);
        out.extend_from_slice(&self.bytes);
    }

    fn put_digits(&mut self, at: usize, digits: usize, mut number: u64) {
        for position in (at..at + digits).rev() {
            let digit = b'0' + (number % 10) as u8;
            self.bytes[position] = digit ^ self.mask[(position - self.payload_at) % 4];
            number /= 10;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::checker::{content, padding};

    fn stentor() -> Dialect {
        Dialect::Stentor { tokens: vec!["t".into()], persistence: Persistence::Passing, room: ROOM.into() }
    }

    #[test]
    fn a_publication_to_a_bare_loop_is_the_frame_of_a_message() {
        let mut publication = Dialect::Bare.publication(100);
        for (counter, stamp_ns) in [(0, 0), (123, 456), (999_999_999, 1_700_000_000_000_000_000)] {
            let mut out = Vec::new();
            publication.put(counter, stamp_ns, &mut out);
            let mut expected = Vec::new();
            let text = message_as_delivered(&content(counter, stamp_ns, &padding(100)));
            frames::put_server_text(text.as_bytes(), &mut expected);
            assert_eq!(out, expected);
        }
    }

    #[test]
    fn a_publication_to_stentor_unmasks_to_a_send() {
        let mut publication = stentor().publication(100);
        let mut out = Vec::new();
        publication.put(42, 77, &mut out);
        let start = publication.payload_at;
        let text: Vec<u8> = out[start..].iter().zip(frames::MASK.iter().cycle()).map(|(a, b)| a ^ b).collect();
        let envelope: serde_json::Value = serde_json::from_slice(&text).unwrap();
        let send = &envelope["channel_message_send"];
        assert_eq!(send["channel_id"], "2...bench");
        assert_eq!(send["content"], content(42, 77, &padding(100)));
        assert_eq!(envelope["cid"], "m");
    }

    #[test]
    fn a_delivery_is_written_as_the_protocol_says() {
        let message: serde_json::Value = serde_json::from_str(&message_as_delivered(r#"{"a":"b"}"#)).unwrap();
        let message = &message["channel_message"];
        assert_eq!(message["content"], r#"{"a":"b"}"#);
        assert_eq!(message["room_name"], ROOM);
        assert_eq!(message.as_object().map(|members| members.len()), Some(10));
    }

    #[test]
    fn only_a_proven_101_opens_a_socket() {
        let check = |head: &str, expected| assert_eq!(Dialect::is_upgrade(head), expected, "{head}");
        let accept = format!("Sec-WebSocket-Accept: {WEBSOCKET_ACCEPT}\r\n\r\n");
        check(&format!("HTTP/1.1 101 Switching Protocols\r\n{accept}"), true);
        check(&format!("HTTP/1.1 200 OK\r\n{accept}"), false);
        check("HTTP/1.1 101 Switching Protocols\r\n\r\n", false);
        check("HTTP/1.1 401 Unauthorized\r\n\r\n", false);
    }
}
