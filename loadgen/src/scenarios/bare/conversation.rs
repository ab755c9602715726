//! One connection of the bare server: turns its bytes into events. Pure.

use std::mem;

use thiserror::Error;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;
use tokio_tungstenite::tungstenite::protocol::frame::coding::{Control, Data, OpCode};
use tokio_tungstenite::tungstenite::{Bytes, Utf8Bytes};

use crate::wire::Frame;
use crate::wire::frames::{Frames, FramesError, Whole};

/// The requests of our own clients are far shorter.
const REQUEST_BYTES_MAX: usize = 16 * 1024;
const HEADERS_MAX: usize = 32;
/// The answer to every sign-in: always the same session.
const SESSION: &str =
    "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 15\r\n\r\n{\"token\":\"any\"}";

#[derive(Debug, Error, PartialEq, Eq)]
pub enum ConversationError {
    #[error("this is no request that a client of ours makes")]
    Request,
    #[error(transparent)]
    Frames(#[from] FramesError),
}

pub enum Conversation {
    /// HTTP requests, as far as their bytes have come.
    Requests(Vec<u8>),
    Socket(Frames),
}

/// What the shard must do.
#[derive(PartialEq, Eq, Debug)]
pub enum Event {
    /// Write these bytes to the client.
    Answer(Vec<u8>),
    /// The connection has become a WebSocket.
    Opened,
    Said(Frame),
    Closed,
}

impl Conversation {
    pub fn new() -> Self {
        Self::Requests(Vec::new())
    }

    pub fn take_in(&mut self, bytes: &[u8]) -> Result<Vec<Event>, ConversationError> {
        let mut events = Vec::new();
        match self {
            Self::Requests(unread) => {
                unread.extend_from_slice(bytes);
                self.answer_requests(&mut events)?;
            }
            Self::Socket(frames) => frames.take_in(bytes),
        }
        if let Self::Socket(frames) = self {
            while let Some(message) = frames.next()? {
                events.extend(event(message));
            }
        }
        Ok(events)
    }

    fn answer_requests(&mut self, events: &mut Vec<Event>) -> Result<(), ConversationError> {
        while let Self::Requests(unread) = self {
            let Some((length, answer, opens)) = request(unread)? else { return Ok(()) };
            let rest = unread.split_off(length);
            events.push(Event::Answer(answer));
            if opens {
                events.push(Event::Opened);
                let mut frames = Frames::of_client();
                frames.take_in(&rest);
                *self = Self::Socket(frames);
            } else {
                drop(mem::replace(unread, rest));
            }
        }
        Ok(())
    }
}

/// The first request once it is whole: its length, the answer, and whether the answer opens a WebSocket.
fn request(unread: &[u8]) -> Result<Option<(usize, Vec<u8>, bool)>, ConversationError> {
    let mut headers = [httparse::EMPTY_HEADER; HEADERS_MAX];
    let mut head = httparse::Request::new(&mut headers);
    let status = head.parse(unread).map_err(|_| ConversationError::Request)?;
    let httparse::Status::Complete(head_length) = status else {
        return if unread.len() > REQUEST_BYTES_MAX { Err(ConversationError::Request) } else { Ok(None) };
    };
    let value = |name: &str| {
        let header = head.headers.iter().find(|header| header.name.eq_ignore_ascii_case(name))?;
        std::str::from_utf8(header.value).ok()
    };
    if let Some(key) = value("sec-websocket-key") {
        let accept = derive_accept_key(key.as_bytes());
        let answer = format!(
            "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
             Sec-WebSocket-Accept: {accept}\r\n\r\n"
        );
        return Ok(Some((head_length, answer.into_bytes(), true)));
    }
    let body: usize = value("content-length").map_or(Ok(0), str::parse).map_err(|_| ConversationError::Request)?;
    if body > REQUEST_BYTES_MAX {
        return Err(ConversationError::Request);
    }
    let length = head_length + body;
    Ok((unread.len() >= length).then(|| (length, SESSION.as_bytes().to_vec(), false)))
}

fn event(message: Whole) -> Option<Event> {
    match message.opcode {
        // Our clients never send a text frame that is not UTF-8, so such a frame is ignored.
        OpCode::Data(Data::Text) => {
            Utf8Bytes::try_from(Bytes::from(message.payload)).ok().map(Frame::Text).map(Event::Said)
        }
        OpCode::Data(_) => Some(Event::Said(Frame::Binary(message.payload.into()))),
        OpCode::Control(Control::Close) => Some(Event::Closed),
        OpCode::Control(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SIGN_IN: &str = "POST /v2/account/authenticate/custom?create=true HTTP/1.1\r\ncontent-length: 4\r\n\r\nbody";
    const OPENING: &str =
        "GET /ws?token=any HTTP/1.1\r\nUpgrade: websocket\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";

    fn in_pieces(bytes: &[u8], size: usize) -> Result<Vec<Event>, ConversationError> {
        let mut conversation = Conversation::new();
        let mut events = Vec::new();
        for piece in bytes.chunks(size) {
            events.extend(conversation.take_in(piece)?);
        }
        Ok(events)
    }

    #[test]
    fn signs_in_opens_and_hears() {
        let said =
            [&[0x81, 0x82, 0, 0, 0, 0][..], b"hi", &[0x8a, 0x80, 0, 0, 0, 0], &[0x88, 0x80, 0, 0, 0, 0]].concat();
        let bytes = [SIGN_IN.as_bytes(), SIGN_IN.as_bytes(), OPENING.as_bytes(), &said].concat();
        for size in [1, 10, 100, bytes.len()] {
            let events = in_pieces(&bytes, size).expect("what clients say");
            let [Event::Answer(one), Event::Answer(two), Event::Answer(opened), rest @ ..] = events.as_slice() else {
                panic!("{events:?}")
            };
            assert_eq!((one.as_slice(), two), (SESSION.as_bytes(), one));
            assert!(String::from_utf8_lossy(opened).contains("s3pPLMBiTxaQ9kYGzzhZRbK+xOo="), "{opened:?}");
            assert_eq!(rest, [Event::Opened, Event::Said(Frame::Text("hi".into())), Event::Closed]);
        }
    }

    #[test]
    fn refuses_what_is_no_request() {
        let long = [b"GET /".to_vec(), vec![b'x'; REQUEST_BYTES_MAX]].concat();
        for bytes in [b"\0\0\0".to_vec(), long, b"POST / HTTP/1.1\r\ncontent-length: 99999\r\n\r\n".to_vec()] {
            assert_eq!(in_pieces(&bytes, bytes.len()), Err(ConversationError::Request));
        }
        assert!(in_pieces(&[OPENING.as_bytes(), &[0x81, 0x02]].concat(), 4096).is_err());
    }
}
