//! Splits the bytes that a server or a client sends over a WebSocket into whole messages, and writes a server's
//! messages again.

use std::io::Cursor;

use thiserror::Error;
use tokio_tungstenite::tungstenite::protocol::frame::FrameHeader;
use tokio_tungstenite::tungstenite::protocol::frame::coding::{Data, OpCode};

/// The longest message, or part of one, that is accepted; no server we know sends so much in one message.
const MESSAGE_BYTES_MAX: usize = 16 << 20;

#[derive(Debug, Error, PartialEq, Eq)]
pub enum FramesError {
    #[error("this is no WebSocket frame")]
    NoFrame,
    #[error("a frame that only the other side sends, or one with an extension that was not asked for")]
    Unexpected,
    #[error("a message of more than {MESSAGE_BYTES_MAX} bytes")]
    TooLong,
}

/// One message, however many frames it came in, or a control frame.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Whole {
    pub opcode: OpCode,
    pub payload: Vec<u8>,
}

/// Bytes that are not yet whole messages.
pub struct Frames {
    /// Clients mask what they send, servers do not.
    masked: bool,
    bytes: Vec<u8>,
    /// The beginning of a message whose end has not come yet.
    begun: Option<Whole>,
}

impl Whole {
    /// The message as one frame of a server.
    pub fn written(&self) -> Vec<u8> {
        debug_assert!(self.payload.len() <= MESSAGE_BYTES_MAX, "a message that was read is not longer");
        let header = FrameHeader { opcode: self.opcode, ..FrameHeader::default() };
        let mut bytes = Vec::with_capacity(self.payload.len() + 10);
        header.format(self.payload.len() as u64, &mut bytes).expect("writing to memory does not fail");
        bytes.extend_from_slice(&self.payload);
        debug_assert!(bytes.len() - self.payload.len() <= 10, "a server's header has ten bytes at most");
        bytes
    }
}

impl Frames {
    pub fn of_server() -> Self {
        Self { masked: false, bytes: Vec::new(), begun: None }
    }

    pub fn of_client() -> Self {
        Self { masked: true, ..Self::of_server() }
    }

    pub fn take_in(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
    }

    /// The next message that is whole, if there is one.
    pub fn next(&mut self) -> Result<Option<Whole>, FramesError> {
        while let Some((header, payload)) = self.frame()? {
            match (header.opcode, self.begun.take()) {
                (OpCode::Control(_), begun) => {
                    self.begun = begun;
                    return Ok(Some(Whole { opcode: header.opcode, payload }));
                }
                (OpCode::Data(Data::Continue), Some(mut begun)) => {
                    if begun.payload.len() + payload.len() > MESSAGE_BYTES_MAX {
                        return Err(FramesError::TooLong);
                    }
                    begun.payload.extend_from_slice(&payload);
                    self.begun = Some(begun);
                }
                (OpCode::Data(Data::Text | Data::Binary), None) => {
                    self.begun = Some(Whole { opcode: header.opcode, payload });
                }
                _ => return Err(FramesError::NoFrame),
            }
            if header.is_final {
                return Ok(self.begun.take());
            }
        }
        Ok(None)
    }

    fn frame(&mut self) -> Result<Option<(FrameHeader, Vec<u8>)>, FramesError> {
        let mut cursor = Cursor::new(&self.bytes);
        let header = FrameHeader::parse(&mut cursor).map_err(|_| FramesError::NoFrame)?;
        let begin = cursor.position() as usize;
        let Some((header, length)) = header else { return Ok(None) };
        if header.mask.is_some() != self.masked || header.rsv1 || header.rsv2 || header.rsv3 {
            return Err(FramesError::Unexpected);
        }
        let length = usize::try_from(length).ok().filter(|length| *length <= MESSAGE_BYTES_MAX);
        let end = begin + length.ok_or(FramesError::TooLong)?;
        if self.bytes.len() < end {
            return Ok(None);
        }
        let mut payload = self.bytes[begin..end].to_vec();
        if let Some(mask) = header.mask {
            payload.iter_mut().zip(mask.iter().cycle()).for_each(|(byte, mask)| *byte ^= mask);
        }
        self.bytes.drain(..end);
        Ok(Some((header, payload)))
    }
}

#[cfg(test)]
mod tests {
    use tokio_tungstenite::tungstenite::protocol::frame::coding::Control;

    use super::*;

    fn whole(opcode: OpCode, payload: &[u8]) -> Whole {
        Whole { opcode, payload: payload.to_vec() }
    }

    const TEXT: OpCode = OpCode::Data(Data::Text);
    const PING: OpCode = OpCode::Control(Control::Ping);

    /// The messages found when the bytes come in pieces of this size.
    fn in_pieces(bytes: &[u8], size: usize) -> Result<Vec<Whole>, FramesError> {
        let mut frames = Frames::of_server();
        let mut found = Vec::new();
        for piece in bytes.chunks(size) {
            frames.take_in(piece);
            while let Some(message) = frames.next()? {
                found.push(message);
            }
        }
        Ok(found)
    }

    #[test]
    fn what_is_written_comes_back_in_pieces_of_any_size() {
        let long = vec![b'x'; 70_000];
        let messages = [whole(TEXT, b""), whole(TEXT, b"hello"), whole(PING, b"?"), whole(TEXT, &long)];
        let bytes: Vec<u8> = messages.iter().flat_map(Whole::written).collect();
        for size in [1, 2, 3, 7, 4096, bytes.len()] {
            assert_eq!(in_pieces(&bytes, size).as_deref(), Ok(&messages[..]), "pieces of {size}");
        }
    }

    #[test]
    fn fragments_become_one_message_and_a_ping_may_come_between() {
        let bytes = [&[0x01, 2][..], b"he", &[0x89, 1], b"?", &[0x00, 1], b"l", &[0x80, 2], b"lo"].concat();
        assert_eq!(in_pieces(&bytes, 1), Ok(vec![whole(PING, b"?"), whole(TEXT, b"hello")]));
    }

    #[test]
    fn clients_mask_what_they_say() {
        let mut frames = Frames::of_client();
        frames.take_in(&[0x81, 0x85, 1, 2, 3, 4, b'h' ^ 1, b'e' ^ 2, b'l' ^ 3, b'l' ^ 4, b'o' ^ 1]);
        assert_eq!(frames.next(), Ok(Some(whole(TEXT, b"hello"))));
        frames.take_in(&[0x81, 0]);
        assert_eq!(frames.next(), Err(FramesError::Unexpected));
    }

    #[test]
    fn refuses_what_no_server_sends() {
        for (bytes, expected) in [
            (&[0x83, 0][..], FramesError::NoFrame),
            (&[0x80, 0], FramesError::NoFrame),
            (&[0x01, 0, 0x81, 0], FramesError::NoFrame),
            (&[0x81, 0x80, 1, 2, 3, 4], FramesError::Unexpected),
            (&[0xc1, 0], FramesError::Unexpected),
            (&[0x81, 127, 0, 0, 0, 0, 1, 0, 0, 1], FramesError::TooLong),
            (&[0x81, 127, 255, 255, 255, 255, 255, 255, 255, 255], FramesError::TooLong),
        ] {
            assert_eq!(in_pieces(bytes, 64), Err(expected), "{bytes:?}");
        }
    }
}
