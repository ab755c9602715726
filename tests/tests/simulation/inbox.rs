//! The incoming side of a client's socket: joins bytes to frames, and reads the envelopes that they carry.

use engine::fanout::frames::Format;
use engine::wire::websocket;
use serde_json::Value;
use tests::harness::schema;

/// The format of the client with this number. Only every fourth client speaks protobuf, because reading it takes most
/// of the tests' time.
pub fn format_of(number: usize) -> Format {
    if number % 4 == 3 { Format::Protobuf } else { Format::Json }
}

/// The content of a frame that a client receives.
pub enum Heard {
    Envelope(Value),
    /// The answer to a ping of WebSocket.
    Pong,
    /// A close frame with this code.
    Closed(u16),
}

pub struct Inbox {
    format: Format,
    /// Bytes that do not make a whole frame yet.
    unread: Vec<u8>,
}

impl Inbox {
    pub fn of(format: Format) -> Self {
        Self { format, unread: Vec::new() }
    }

    pub fn take_in(&mut self, bytes: &[u8]) {
        self.unread.extend_from_slice(bytes);
    }

    /// The content of the next whole frame, if there is one.
    pub fn next(&mut self) -> Option<Heard> {
        let length = websocket::frame_length(&self.unread).filter(|&length| length <= self.unread.len())?;
        let frame: Vec<u8> = self.unread.drain(..length).collect();
        let header = 2 + match frame[1] {
            126 => 2,
            127 => 8,
            _ => 0,
        };
        let payload = &frame[header..];
        Some(match (frame[0], self.format) {
            (0x88, _) => Heard::Closed(u16::from_be_bytes([payload[0], payload[1]])),
            (0x8A, _) => Heard::Pong,
            (0x81, Format::Json) => Heard::Envelope(serde_json::from_slice(payload).expect("text frames hold JSON")),
            (0x82, Format::Protobuf) => {
                Heard::Envelope(serde_json::from_str(&schema::text_of(payload)).expect("the library writes JSON"))
            }
            (opcode, format) => panic!("a frame {opcode:#x} for a client that speaks {format:?}"),
        })
    }
}
