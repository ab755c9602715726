//! A peer that writes frames of HTTP/2 by itself (RFC 9113), as no library would.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};

use serde_json::json;
use tests::harness::{DEADLINE, Server};

pub const DATA: u8 = 0;
pub const HEADERS: u8 = 1;
pub const RST_STREAM: u8 = 3;
pub const SETTINGS: u8 = 4;
pub const PING: u8 = 6;
pub const GOAWAY: u8 = 7;
pub const WINDOW_UPDATE: u8 = 8;
pub const CONTINUATION: u8 = 9;

pub const END_STREAM: u8 = 1;
pub const END_HEADERS: u8 = 4;

/// Codes of errors.
pub const NO_ERROR: u32 = 0;
pub const PROTOCOL_ERROR: u32 = 1;
pub const REFUSED_STREAM: u32 = 7;
pub const ENHANCE_YOUR_CALM: u32 = 11;

/// A frame: its kind, its flags, its stream and its payload.
#[derive(Clone, Debug)]
pub struct Frame {
    pub kind: u8,
    pub flags: u8,
    pub stream: u32,
    pub payload: Vec<u8>,
}

impl Frame {
    /// The code of an error in a frame that ends a stream or a connection.
    pub fn error(&self) -> u32 {
        let at = if self.kind == GOAWAY { 4 } else { 0 };
        u32::from_be_bytes(self.payload[at..at + 4].try_into().expect("four bytes"))
    }
}

/// A frame as bytes.
pub fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let [_, a, b, c] = (payload.len() as u32).to_be_bytes();
    [&[a, b, c, kind, flags][..], &stream.to_be_bytes(), payload].concat()
}

/// A header as HPACK has it without any table (RFC 7541, section 6.2.2).
pub fn header(name: &str, value: &str) -> Vec<u8> {
    [&[0][..], &text(name), &text(value)].concat()
}

fn text(text: &str) -> Vec<u8> {
    let mut bytes = Vec::new();
    if text.len() < 127 {
        bytes.push(text.len() as u8);
    } else {
        bytes.push(127);
        let mut rest = text.len() - 127;
        while rest >= 128 {
            bytes.push((rest % 128) as u8 | 128);
            rest /= 128;
        }
        bytes.push(rest as u8);
    }
    bytes.extend_from_slice(text.as_bytes());
    bytes
}

/// The headers of a call.
pub fn head(method: &str, authorization: Option<&str>) -> Vec<u8> {
    let path = format!("/nakama.api.Nakama/{method}");
    let always = [
        (":method", "POST"),
        (":scheme", "http"),
        (":path", path.as_str()),
        (":authority", "localhost"),
        ("te", "trailers"),
        ("content-type", "application/grpc"),
    ];
    let all = always.into_iter().chain(authorization.map(|authorization| ("authorization", authorization)));
    all.flat_map(|(name, value)| header(name, value)).collect()
}

/// A whole call whose message is empty.
pub fn call(stream: u32, method: &str, authorization: Option<&str>) -> Vec<u8> {
    let head = frame(HEADERS, END_HEADERS, stream, &head(method, authorization));
    [head, frame(DATA, END_STREAM, stream, &[0; 5])].concat()
}

/// Fills a room with long messages. Returns what makes the frames of a call for a page of them, on a stream and for a
/// user, and the bytes of one message's content.
pub fn long_page(server: &Server, messages: u8) -> (impl Fn(u32, &str) -> Vec<u8>, usize) {
    let mut writer = server.connect("writer");
    let channel = writer.join("long");
    let content = json!({ "t": "x".repeat(3800) }).to_string();
    for _ in 0..messages {
        writer.say(&channel, &content);
    }
    // The fields `channel_id` and `limit`.
    let message = [&[0x0a, channel.len() as u8][..], channel.as_bytes(), &[0x12, 2, 0x08, messages]].concat();
    let body = [&[0][..], &(message.len() as u32).to_be_bytes(), &message].concat();
    let page_of = move |stream: u32, authorization: &str| {
        let head = head("ListChannelMessages", Some(authorization));
        [frame(HEADERS, END_HEADERS, stream, &head), frame(DATA, END_STREAM, stream, &body)].concat()
    };
    (page_of, content.len())
}

/// A connection.
pub struct Peer {
    stream: TcpStream,
    unread: Vec<u8>,
}

impl Peer {
    /// Connects, and begins as a client of HTTP/2 does.
    pub fn connect(address: SocketAddr) -> Self {
        Self::with_settings(address, &[])
    }

    /// The same, with these settings: identifiers of two bytes, values of four.
    pub fn with_settings(address: SocketAddr, settings: &[u8]) -> Self {
        let mut peer = Self::silent(address);
        peer.write(&[&b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"[..], &frame(SETTINGS, 0, 0, settings)].concat());
        peer
    }

    /// Connects, and sends nothing.
    pub fn silent(address: SocketAddr) -> Self {
        let stream = TcpStream::connect(address).expect("the server accepts connections");
        stream.set_nodelay(true).expect("TCP_NODELAY");
        stream.set_write_timeout(Some(DEADLINE)).expect("a write timeout");
        stream.set_read_timeout(Some(DEADLINE)).expect("a read timeout");
        Self { stream, unread: Vec::new() }
    }

    /// Writes all bytes. Returns false if the server has ended the connection.
    pub fn write(&mut self, bytes: &[u8]) -> bool {
        self.stream.write_all(bytes).is_ok()
    }

    /// The same connection, for a thread that writes while this one reads.
    pub fn writer(&self) -> Self {
        Self { stream: self.stream.try_clone().expect("a descriptor"), unread: Vec::new() }
    }

    /// The next frame, or `None` when the connection has ended.
    pub fn next(&mut self) -> Option<Frame> {
        loop {
            if let [a, b, c, kind, flags, stream @ ..] = self.unread.as_slice()
                && let length = u32::from_be_bytes([0, *a, *b, *c]) as usize
                && self.unread.len() >= 9 + length
            {
                let (kind, flags) = (*kind, *flags);
                let stream = u32::from_be_bytes(stream[..4].try_into().expect("four bytes"));
                let payload = self.unread.drain(..9 + length).skip(9).collect();
                return Some(Frame { kind, flags, stream, payload });
            }
            let mut buffer = [0; 16 << 10];
            match self.stream.read(&mut buffer) {
                Ok(0) => return None,
                Ok(count) => self.unread.extend_from_slice(&buffer[..count]),
                Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
                    panic!("the server neither answered nor ended the connection")
                }
                Err(_) => return None,
            }
        }
    }

    /// The next frame of one of these kinds. Panics if the connection ends before.
    pub fn expect(&mut self, kinds: &[u8]) -> Frame {
        loop {
            let frame =
                self.next().unwrap_or_else(|| panic!("the connection has ended, and a frame of {kinds:?} was due"));
            if kinds.contains(&frame.kind) {
                return frame;
            }
        }
    }

    /// All frames until the server ends the connection.
    pub fn rest(&mut self) -> Vec<Frame> {
        std::iter::from_fn(|| self.next()).collect()
    }

    /// Calls a method that any client may call, and checks that it is answered with a message.
    pub fn assert_answers(&mut self, stream: u32, after: &str) {
        assert!(self.write(&call(stream, "Healthcheck", None)), "after {after}");
        let answer = self.expect(&[DATA, RST_STREAM, GOAWAY]);
        assert_eq!((answer.kind, answer.stream, answer.payload), (DATA, stream, vec![0; 5]), "after {after}");
    }
}
