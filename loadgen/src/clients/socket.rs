//! A user's WebSocket, whose read buffer is a small one again once a long frame has gone by.
//!
//! The library lets a connection's buffer grow to the longest frame, and keeps it for ever: the list of members that answers
//! a join would be most of what an idle user costs. Its buffer cannot be taken away, but where it is empty the WebSocket can
//! be made anew over the same stream. It is empty when the library waits for more and what it was given ends where a message
//! ends; so the headers of what passes are followed, and not a byte is held back.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use futures_util::{FutureExt, Sink, SinkExt, Stream, StreamExt};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::protocol::{Role, WebSocketConfig};
use tokio_tungstenite::tungstenite::{Error as SocketError, Message};

pub struct Socket<S = TcpStream> {
    /// There but for the moment in which it is made anew.
    library: Option<WebSocketStream<Followed<S>>>,
    /// Whether something was given to the library that may not be written yet: it would be lost.
    sending: bool,
    /// Whether one side has said goodbye: the library has to remember that.
    closing: bool,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Socket<S> {
    /// Over a stream on which a WebSocket was opened and nothing read since.
    pub fn new(stream: S, config: WebSocketConfig) -> Self {
        Self { library: Some(library(stream, config)), sending: false, closing: false }
    }

    fn library(&mut self) -> &mut WebSocketStream<Followed<S>> {
        self.library.as_mut().expect("it is put back where it was taken")
    }

    /// Begins with a small buffer again if there was a long frame and nothing would be lost; says whether it did.
    fn shrink(&mut self, context: &mut Context<'_>) -> bool {
        let kept = !self.sending && !self.closing;
        let config = *self.library().get_config();
        let frames = &self.library().get_ref().frames;
        if !kept || !frames.are_whole() || frames.longest <= config.read_buffer_size as u64 {
            return false;
        }
        // A pong may still be on its way out.
        if !matches!(self.library().poll_flush_unpin(context), Poll::Ready(Ok(()))) {
            return false;
        }
        self.library = self.library.take().map(|grown| library(grown.into_inner().stream, config));
        true
    }
}

fn library<S: AsyncRead + AsyncWrite + Unpin>(stream: S, config: WebSocketConfig) -> WebSocketStream<Followed<S>> {
    let followed = Followed { stream, frames: Frames::default() };
    let made = WebSocketStream::from_raw_socket(followed, Role::Client, Some(config)).now_or_never();
    made.expect("without a handshake there is nothing to wait for")
}

impl<S: AsyncRead + AsyncWrite + Unpin> Stream for Socket<S> {
    type Item = Result<Message, SocketError>;

    fn poll_next(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = self.get_mut();
        loop {
            match this.library().poll_next_unpin(context) {
                // The new one does not know yet whom to wake.
                Poll::Pending if this.shrink(context) => {}
                Poll::Ready(heard) => {
                    this.closing |= !matches!(heard, Some(Ok(ref message)) if !message.is_close());
                    return Poll::Ready(heard);
                }
                Poll::Pending => return Poll::Pending,
            }
        }
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> Sink<Message> for Socket<S> {
    type Error = SocketError;

    fn poll_ready(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Result<(), SocketError>> {
        self.library().poll_ready_unpin(context)
    }

    fn start_send(mut self: Pin<&mut Self>, message: Message) -> Result<(), SocketError> {
        self.sending = true;
        self.closing |= message.is_close();
        self.library().start_send_unpin(message)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Result<(), SocketError>> {
        ready!(self.library().poll_flush_unpin(context))?;
        self.sending = false;
        Poll::Ready(Ok(()))
    }

    fn poll_close(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Result<(), SocketError>> {
        self.closing = true;
        self.library().poll_close_unpin(context)
    }
}

/// A stream that knows how far the frames in what was read from it have come.
struct Followed<S> {
    stream: S,
    frames: Frames,
}

impl<S: AsyncRead + Unpin> AsyncRead for Followed<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        ready!(Pin::new(&mut self.stream).poll_read(context, buffer))?;
        self.frames.follow(&buffer.filled()[before..]);
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Followed<S> {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

/// The longest header of a server, which masks nothing. What it masks all the same the library refuses.
const HEADER_BYTES_MAX: usize = 10;
const FINAL: u8 = 0x80;
const CONTROL: u8 = 0x08;
const LENGTH: u8 = 0x7f;

#[derive(Default)]
struct Frames {
    header: [u8; HEADER_BYTES_MAX],
    /// How much of the header is there, while it is not whole.
    header_bytes: u8,
    /// Whether a message has begun whose last frame is still to come.
    unfinished: bool,
    /// How much of the payload is still to come.
    payload_left: u64,
    longest: u64,
}

impl Frames {
    fn are_whole(&self) -> bool {
        self.header_bytes == 0 && self.payload_left == 0 && !self.unfinished
    }

    fn follow(&mut self, mut bytes: &[u8]) {
        loop {
            let payload = self.payload_left.min(bytes.len() as u64);
            self.payload_left -= payload;
            bytes = &bytes[payload as usize..];
            let Some((byte, rest)) = bytes.split_first() else { return };
            self.header[usize::from(self.header_bytes)] = *byte;
            self.header_bytes += 1;
            bytes = rest;
            if let Some(length) = self.payload_length() {
                let first = self.header[0];
                if first & CONTROL == 0 {
                    self.unfinished = first & FINAL == 0;
                }
                self.header_bytes = 0;
                self.payload_left = length;
                self.longest = self.longest.max(length);
            }
        }
    }

    /// The length that the header names, once it is whole.
    fn payload_length(&self) -> Option<u64> {
        let header = self.header.get(..self.header_bytes.into())?;
        let extended = match header.get(1)? & LENGTH {
            126 => header.get(2..4)?,
            127 => header.get(2..HEADER_BYTES_MAX)?,
            short => return Some(short.into()),
        };
        Some(extended.iter().fold(0, |length, byte| length << 8 | u64::from(*byte)))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;

    use tokio_tungstenite::tungstenite::protocol::frame::FrameHeader;
    use tokio_tungstenite::tungstenite::protocol::frame::coding::{Control, Data, OpCode};

    use super::*;
    use crate::clients::frames;
    use crate::plan::draws::Draws;

    const READ_BUFFER_BYTES: usize = 256;
    /// Enough for the longest pong, at a byte and a half each.
    const POLLS: usize = 1_000;
    /// About as many pieces a speech is in at most.
    const PIECES: u64 = 1_000;
    const PINGS: OpCode = OpCode::Control(Control::Ping);

    /// A connection whose bytes come in these pieces, nothing in between, and which takes a few bytes at a time.
    struct Pieces {
        coming: VecDeque<Vec<u8>>,
        /// Whether it is to say that nothing is there before it gives the next piece.
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
                // There is more at once, as in a socket.
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

    /// What a server says, as bytes and as the messages it is: some in several frames, with pings between them.
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
                    // Between the frames of a message it is heard before it.
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

    #[tokio::test]
    async fn however_it_is_split_a_speech_is_heard_whole_and_every_ping_answered() {
        for seed in 0..300 {
            let mut draws = Draws::new(seed, 1, 1);
            let (bytes, expected) = speech(&mut draws);
            let stream = Pieces { coming: split(&bytes, &mut draws), dry: false, taken: Vec::new(), draws };
            let config = WebSocketConfig::default().read_buffer_size(READ_BUFFER_BYTES);
            let mut socket = Socket::new(stream, config);
            let mut heard = Vec::new();
            while heard.len() < expected.len() {
                heard.push(socket.next().await.expect("more to come").expect("what was said"));
            }
            assert_eq!(heard, expected, "seed {seed}");
            // Nothing more comes, and the last pong goes out bit by bit.
            for _ in 0..POLLS {
                assert!(socket.next().now_or_never().is_none(), "seed {seed}: something nobody said");
            }
            let library = socket.library();
            let longest = library.get_ref().frames.longest;
            assert!(longest <= READ_BUFFER_BYTES as u64, "seed {seed}: the buffer is still one for {longest} bytes");
            let mut said = frames::Frames::of_client();
            said.take_in(&library.get_ref().stream.taken);
            let pings =
                |message: &Message| if let Message::Ping(payload) = message { Some(payload.clone()) } else { None };
            let mut pings = expected.iter().filter_map(pings);
            while let Some(pong) = said.next().expect("frames") {
                assert_eq!(pong.opcode, OpCode::Control(Control::Pong));
                // Of pings that come before a pong has gone the library answers the last.
                assert!(pings.any(|ping| ping[..] == pong.payload), "seed {seed}: an answer to nothing");
            }
            assert_eq!(pings.next(), None, "seed {seed}: the last ping is answered");
        }
    }
}
