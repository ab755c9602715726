//! However a stream is split, a socket receives the messages that were sent over it, in either way of reading.

use std::collections::VecDeque;

use tokio_tungstenite::tungstenite::protocol::frame::FrameHeader;
use tokio_tungstenite::tungstenite::protocol::frame::coding::{Control, Data, OpCode};

use super::*;
use crate::plan::draws::Draws;
use crate::wire::frames;

const READ_BUFFER_BYTES: usize = 256;
/// Enough polls for the longest pong, which goes out at 1.5 bytes a poll on average.
const POLLS: usize = 1_000;
/// A stream of messages is split into at most about this many pieces.
const PIECES: u64 = 1_000;
const PINGS: OpCode = OpCode::Control(Control::Ping);

/// A connection whose bytes come in these pieces, with nothing in between. It accepts a few bytes at a time.
struct Pieces {
    coming: VecDeque<Vec<u8>>,
    /// Whether the last read returned nothing, so that the next read gives a piece.
    dry: bool,
    taken: Vec<u8>,
    draws: Draws,
}

impl AsyncRead for Pieces {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.dry = !self.dry;
        if self.dry {
            context.waker().wake_by_ref();
            return Poll::Pending;
        }
        let Some(mut piece) = self.coming.pop_front() else { return Poll::Pending };
        let rest = piece.split_off(piece.len().min(buffer.remaining()));
        buffer.put_slice(&piece);
        if !rest.is_empty() {
            self.coming.push_front(rest);
            // The rest can be read at once, as in a socket.
            self.dry = true;
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Pieces {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let taken = bytes.len().min(self.draws.below(4) as usize);
        if taken == 0 {
            context.waker().wake_by_ref();
            return Poll::Pending;
        }
        self.taken.extend_from_slice(&bytes[..taken]);
        Poll::Ready(Ok(taken))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

fn frame(opcode: OpCode, is_final: bool, payload: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    let header = FrameHeader { opcode, is_final, ..FrameHeader::default() };
    header.format(payload.len() as u64, &mut bytes).expect("writing to memory does not fail");
    bytes.extend_from_slice(payload);
    bytes
}

/// The bytes that a server sends, and the messages in them. Some messages have several frames, with pings between
/// these.
fn speech(draws: &mut Draws) -> (Vec<u8>, Vec<Message>) {
    const LENGTHS: [u64; 8] = [0, 5, 125, 126, 300, 5_000, 65_535, 70_000];
    let (mut bytes, mut messages) = (Vec::new(), Vec::new());
    for number in 0..=draws.below(12) as u8 {
        let mut whole = Vec::new();
        let frames = 1 + draws.below(3);
        for at in 0..frames {
            let payload = vec![number; LENGTHS[draws.below(8) as usize] as usize];
            let opcode = OpCode::Data(if at == 0 { Data::Binary } else { Data::Continue });
            bytes.extend(frame(opcode, at + 1 == frames, &payload));
            whole.extend(payload);
            if draws.below(3) == 0 {
                let payload = vec![number; draws.below(126) as usize];
                bytes.extend(frame(PINGS, true, &payload));
                // A ping between the frames of a message is received before the message.
                messages.push(Message::Ping(payload.into()));
                if at + 1 == frames {
                    let after = messages.len() - 1;
                    messages.insert(after, Message::Binary(std::mem::take(&mut whole).into()));
                }
            } else if at + 1 == frames {
                messages.push(Message::Binary(std::mem::take(&mut whole).into()));
            }
        }
    }
    (bytes, messages)
}

fn split(mut bytes: &[u8], draws: &mut Draws) -> VecDeque<Vec<u8>> {
    let longest = [1, 3, 200, 20_000, 1_000_000][draws.below(5) as usize].max(bytes.len() as u64 / PIECES);
    let mut pieces = VecDeque::new();
    while !bytes.is_empty() {
        let (piece, rest) = bytes.split_at(bytes.len().min(1 + draws.below(longest) as usize));
        pieces.push_back(piece.to_vec());
        bytes = rest;
    }
    pieces
}

fn socket(bytes: &[u8], mut draws: Draws) -> Socket<Pieces> {
    let stream = Pieces { coming: split(bytes, &mut draws), dry: false, taken: Vec::new(), draws };
    Socket::new(stream, WebSocketConfig::default().read_buffer_size(READ_BUFFER_BYTES))
}

#[tokio::test]
async fn however_it_is_split_a_speech_is_heard_whole_and_every_ping_answered() {
    for seed in 0..300 {
        let mut draws = Draws::new(seed, 1, 1);
        let (bytes, expected) = speech(&mut draws);
        let mut socket = socket(&bytes, draws);
        let mut heard = Vec::new();
        while heard.len() < expected.len() {
            heard.push(socket.next().await.expect("more to come").expect("what was said"));
        }
        assert_eq!(heard, expected, "seed {seed}");
        // Nothing more comes, and the last pong goes out a few bytes at a time.
        for _ in 0..POLLS {
            assert!(socket.next().now_or_never().is_none(), "seed {seed}: something nobody said");
        }
        check_pongs(seed, &mut socket, &expected);
    }
}

/// Checks that each ping was answered, that nothing else was sent, and that no large buffer is left.
fn check_pongs(seed: u64, socket: &mut Socket<Pieces>, expected: &[Message]) {
    let library = socket.library();
    let longest = library.get_ref().frames.longest;
    assert!(longest <= READ_BUFFER_BYTES as u64, "seed {seed}: the buffer is still one for {longest} bytes");
    let mut said = frames::Frames::of_client();
    said.take_in(&library.get_ref().stream.taken);
    let pings = |message: &Message| if let Message::Ping(payload) = message { Some(payload.clone()) } else { None };
    let mut pings = expected.iter().filter_map(pings);
    while let Some(pong) = said.next().expect("frames") {
        assert_eq!(pong.opcode, OpCode::Control(Control::Pong));
        // If several pings come before a pong has gone out, the library answers the last of them.
        assert!(pings.any(|ping| ping[..] == pong.payload), "seed {seed}: an answer to nothing");
    }
    assert_eq!(pings.next(), None, "seed {seed}: the last ping is answered");
}

/// An ear that knows some frames in advance, and records what it receives.
struct Knowing {
    known: Vec<Vec<u8>>,
    heard: Vec<Message>,
    recognised: usize,
}

impl Ear for Knowing {
    fn recognise(&mut self, bytes: &[u8]) -> usize {
        let mut at = 0;
        while let Some(frame) = self.known.iter().find(|frame| bytes[at..].starts_with(frame)) {
            let (header, _) = payload_length(frame).expect("a whole header");
            self.heard.push(Message::Binary(frame[header..].to_vec().into()));
            self.recognised += 1;
            at += frame.len();
        }
        at
    }

    fn hear(&mut self, frame: &Frame) {
        let Frame::Binary(bytes) = frame else { panic!("{frame:?}") };
        self.heard.push(Message::Binary(bytes.clone()));
    }
}

#[tokio::test]
async fn a_listener_hears_the_same_whatever_it_knows_beforehand() {
    let mut recognised = 0;
    for seed in 0..300 {
        let mut draws = Draws::new(seed, 2, 1);
        let (bytes, all) = speech(&mut draws);
        let mut ear = Knowing { known: Vec::new(), heard: Vec::new(), recognised: 0 };
        for message in &all {
            if let Message::Binary(payload) = message
                && draws.below(2) == 0
            {
                ear.known.push(frame(OpCode::Data(Data::Binary), true, payload));
            }
        }
        let is_said = |message: &&Message| matches!(message, Message::Binary(_));
        let expected: Vec<Message> = all.iter().filter(is_said).cloned().collect();
        // The socket may be read as a stream at first, and again between two polls.
        let (streamed, often) = (draws.below(4), draws.below(3) == 0);
        let mut socket = socket(&bytes, draws);
        for _ in 0..streamed {
            ear.heard.extend(socket.next().now_or_never().map(|item| item.expect("more").expect("a message")));
        }
        // In the end nothing more comes, and the last pong goes out a few bytes at a time.
        let mut polls_left = None;
        for polls in 0.. {
            assert!(socket.listen(&mut ear).now_or_never().is_none(), "seed {seed}: it is not over");
            if often && polls % 3 == 0 {
                ear.heard.extend(socket.next().now_or_never().map(|item| item.expect("more").expect("a message")));
            }
            if polls_left.is_none() && ear.heard.iter().filter(is_said).count() >= expected.len() {
                polls_left = Some(POLLS);
            }
            polls_left = polls_left.map(|left| left - 1);
            if polls_left == Some(0) || polls == 20 * POLLS {
                break;
            }
        }
        ear.heard.retain(|message| is_said(&message));
        assert_eq!(ear.heard, expected, "seed {seed}");
        check_pongs(seed, &mut socket, &all);
        recognised += ear.recognised;
    }
    assert!(recognised > 100, "{recognised}");
}

#[tokio::test]
async fn a_listener_learns_how_it_ends() {
    let said = |text: &str| frame(OpCode::Data(Data::Text), true, text.as_bytes());
    let goodbye = frame(OpCode::Control(Control::Close), true, &[&1013_u16.to_be_bytes()[..], b"slow"].concat());
    for (bytes, expected) in [
        ([said("a"), goodbye].concat(), "the server closed the connection with code 1013: \"slow\""),
        (said("a"), "the connection broke: WebSocket protocol error: Connection reset without closing handshake"),
        (
            said("a")[..2].to_vec(),
            "the connection broke: WebSocket protocol error: Connection reset without closing handshake",
        ),
        (
            [said("a"), vec![0xff, 0]].concat(),
            "the connection broke: WebSocket protocol error: Encountered invalid opcode: 15",
        ),
    ] {
        let (near, mut far) = tokio::io::duplex(1024);
        tokio::io::AsyncWriteExt::write_all(&mut far, &bytes).await.expect("an open connection");
        drop(far);
        struct Deaf;
        impl Ear for Deaf {
            fn recognise(&mut self, _: &[u8]) -> usize {
                0
            }
            fn hear(&mut self, _: &Frame) {}
        }
        let lost = Socket::new(near, WebSocketConfig::default()).listen(&mut Deaf).await;
        assert_eq!(lost.to_string(), expected, "{bytes:?}");
    }
}
