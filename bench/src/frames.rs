//! Finds the WebSocket frames that a server sends, by their headers only.
//!
//! Promises that every frame of a stream is shown once and whole, however the stream was split into reads; that the
//! bytes kept between two reads are bounded; and that a server's frames are legal (unmasked, unfragmented, no reserved
//! bit). It leaves the meaning of a payload to `checker` and `client`, and frames larger than a message to `skimmer`.

use engine::wire::websocket;
use thiserror::Error;

/// A larger frame is a fault, so up to this many bytes and a header may wait between two reads. Every message that a chat
/// server may relay is smaller (4,096 bytes from the client, and the JSON members around it), and so is the answer to a
/// hidden member's join, whose list of members is empty.
pub const PAYLOAD_BYTES_MAX: usize = 8 * 1024;

/// The longest header of a server's frame: two bytes, and the longest form of the length.
const HEADER_BYTES_MAX: usize = 2 + 8;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Frame<'a> {
    pub opcode: u8,
    pub payload: &'a [u8],
    /// The size of the frame on the wire, including its header.
    pub wire_bytes: usize,
}

pub const TEXT: u8 = 1;
pub const CLOSE: u8 = 8;
pub const PING: u8 = 9;
pub const PONG: u8 = 10;

/// Frames that a server must never send.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Error)]
pub enum IllegalFrame {
    #[error("a masked frame from a server")]
    Masked,
    #[error("a frame that is a fragment, or has a reserved bit set (first byte {0:#04x})")]
    FirstByte(u8),
    #[error("a frame with {0} bytes, at most {PAYLOAD_BYTES_MAX} expected")]
    TooLarge(u64),
}

/// Header and payload length of a frame.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Header {
    pub opcode: u8,
    pub header_bytes: usize,
    pub payload_bytes: usize,
}

impl Header {
    /// Reads the header at the front of `bytes`, of a frame of the expected size. Returns `None` while it is incomplete.
    #[inline]
    pub fn read(bytes: &[u8]) -> Result<Option<Header>, IllegalFrame> {
        match Header::read_of_any_size(bytes)? {
            Some(header) if header.payload_bytes > PAYLOAD_BYTES_MAX => {
                Err(IllegalFrame::TooLarge(header.payload_bytes as u64))
            }
            header => Ok(header),
        }
    }

    /// Reads the header at the front of `bytes`, however large the frame is. Returns `None` while it is incomplete.
    #[inline]
    pub fn read_of_any_size(bytes: &[u8]) -> Result<Option<Header>, IllegalFrame> {
        let &[first, second, ref rest @ ..] = bytes else { return Ok(None) };
        let opcode = first & 0x0f;
        if first & 0xf0 != 0x80 {
            return Err(IllegalFrame::FirstByte(first));
        }
        if second & 0x80 != 0 {
            return Err(IllegalFrame::Masked);
        }
        let (header_bytes, payload_bytes) = match second {
            126 => match rest.first_chunk() {
                Some(&length) => (4, usize::from(u16::from_be_bytes(length))),
                None => return Ok(None),
            },
            127 => match rest.first_chunk() {
                Some(&length) => (10, u64::from_be_bytes(length) as usize),
                None => return Ok(None),
            },
            length => (2, usize::from(length)),
        };
        Ok(Some(Header { opcode, header_bytes, payload_bytes }))
    }

    pub fn wire_bytes(&self) -> usize {
        self.header_bytes + self.payload_bytes
    }
}

/// What one connection keeps between two reads: the beginning of an unfinished frame.
#[derive(Default, Debug)]
pub struct Remainder {
    begun: Vec<u8>,
}

impl Remainder {
    /// Copies the unfinished frame to the front of `buffer`, so that the next read continues directly after it. Returns
    /// its length.
    #[inline]
    pub fn restore(&self, buffer: &mut [u8]) -> usize {
        buffer[..self.begun.len()].copy_from_slice(&self.begun);
        self.begun.len()
    }

    /// Shows every frame that `bytes` completes. `bytes` begins with the bytes that `restore` copied.
    #[inline]
    pub fn walk(&mut self, bytes: &[u8], mut show: impl FnMut(Frame<'_>)) -> Result<(), IllegalFrame> {
        let mut at = 0;
        while let Some(header) = Header::read(&bytes[at..])? {
            let wire_bytes = header.wire_bytes();
            let Some(payload) = bytes.get(at + header.header_bytes..at + wire_bytes) else { break };
            show(Frame { opcode: header.opcode, payload, wire_bytes });
            at += wire_bytes;
        }
        self.begun.clear();
        self.begun.extend_from_slice(&bytes[at..]);
        assert!(self.begun.len() < PAYLOAD_BYTES_MAX + HEADER_BYTES_MAX, "{} bytes are unfinished", self.begun.len());
        Ok(())
    }
}

/// Appends an unmasked text frame, as a server sends it.
pub fn put_server_text(payload: &[u8], out: &mut Vec<u8>) {
    websocket::text_frame(out, |out| out.extend_from_slice(payload));
}

/// Appends a masked frame, as a client must send it, and returns where its payload begins.
pub fn put_client_frame(opcode: u8, payload: &[u8], out: &mut Vec<u8>) -> usize {
    let begin = out.len();
    put_server_text(payload, out);
    out[begin] = 0x80 | opcode;
    out[begin + 1] |= 0x80;
    let start = out.len() - payload.len();
    websocket::unmask(&mut out[start..], MASK);
    out.splice(start..start, MASK);
    start + MASK.len()
}

/// The mask of every frame that the bench sends. Masks protect proxies on the way, and there are none here. This mask
/// only gives the server the work of unmasking.
pub const MASK: [u8; 4] = [0x37, 0xfa, 0x21, 0x3d];

#[cfg(test)]
mod tests {
    use super::*;

    type Seen = Vec<(u8, Vec<u8>, usize)>;

    /// Passes `stream` to a connection in the given pieces, as a client's reads would.
    fn walk_pieces<'a>(pieces: impl IntoIterator<Item = &'a [u8]>) -> Result<Seen, IllegalFrame> {
        let mut remainder = Remainder::default();
        let mut buffer = vec![0; 256 * 1024];
        let mut seen = Vec::new();
        for piece in pieces {
            let kept = remainder.restore(&mut buffer);
            buffer[kept..kept + piece.len()].copy_from_slice(piece);
            remainder.walk(&buffer[..kept + piece.len()], |frame| {
                seen.push((frame.opcode, frame.payload.to_vec(), frame.wire_bytes));
            })?;
            assert!(remainder.begun.len() <= PAYLOAD_BYTES_MAX + 4, "what is kept between reads is bounded");
        }
        assert!(remainder.begun.is_empty(), "a whole stream leaves nothing over");
        Ok(seen)
    }

    fn stream_of(payload_sizes: &[usize]) -> (Vec<u8>, Seen) {
        let mut stream = Vec::new();
        let mut expected = Vec::new();
        for (number, &size) in payload_sizes.iter().enumerate() {
            let payload: Vec<u8> = (0..size).map(|at| b'a' + ((at + number) % 26) as u8).collect();
            let before = stream.len();
            put_server_text(&payload, &mut stream);
            expected.push((TEXT, payload, stream.len() - before));
        }
        (stream, expected)
    }

    #[test]
    fn every_way_to_cut_a_stream_once_shows_the_same_frames() {
        let sizes = [0, 1, 125, 126, 127, 430, 431, 60, PAYLOAD_BYTES_MAX, 5];
        let (stream, expected) = stream_of(&sizes);
        for cut in 0..=stream.len() {
            let (left, right) = stream.split_at(cut);
            assert_eq!(walk_pieces([left, right]).as_ref(), Ok(&expected), "cut at {cut}");
        }
    }

    #[test]
    fn pieces_of_every_size_show_the_same_frames() {
        let (stream, expected) = stream_of(&[200, PAYLOAD_BYTES_MAX, 0, 430, 125, 126]);
        for size in 1..700 {
            assert_eq!(walk_pieces(stream.chunks(size)).as_ref(), Ok(&expected), "pieces of {size}");
        }
    }

    #[test]
    fn illegal_frames_are_named() {
        let check = |bytes: &[u8], expected| assert_eq!(Header::read(bytes), Err(expected), "{bytes:x?}");
        check(&[0x81, 0x80], IllegalFrame::Masked);
        check(&[0x01, 0x00], IllegalFrame::FirstByte(0x01));
        check(&[0xc1, 0x00], IllegalFrame::FirstByte(0xc1));
        check(&[0x81, 126, 0xff, 0xff], IllegalFrame::TooLarge(0xffff));
        check(&[[0x82, 127].as_slice(), &[0xff; 8]].concat(), IllegalFrame::TooLarge(u64::MAX));
    }

    #[test]
    fn a_client_frame_unmasks_to_its_payload() {
        for size in [0, 1, 125, 126, 4096, 70_000] {
            let payload: Vec<u8> = (0..size).map(|at| at as u8).collect();
            let mut frame = vec![0xee];
            let start = put_client_frame(PONG, &payload, &mut frame);
            let unmasked: Vec<u8> = frame[start..].iter().zip(MASK.iter().cycle()).map(|(a, b)| a ^ b).collect();
            assert_eq!(unmasked, payload);
            assert_eq!((frame[1], frame[2] & 0x80, &frame[start - 4..start]), (0x8a, 0x80, &MASK[..]));
        }
    }
}
