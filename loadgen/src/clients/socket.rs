//! A user's WebSocket. It keeps next to no buffer of its own while nothing is on its way, and lets what others have heard
//! before be compared instead of read.
//!
//! The library lets a connection's buffer grow to the longest frame, and keeps it for ever: the list of members that answers
//! a join would be most of what an idle user costs. Its buffer cannot be taken away, but where it is empty the WebSocket can
//! be made anew over the same stream. It is empty when the library waits for more and what it was given ends where a message
//! ends; so the headers of what passes are followed.
//!
//! A socket is read in one of two ways. As a `Stream` it is the library's: the library reads the stream and gives messages.
//! By `poll_listen` all sockets of a thread share one large buffer: what was read is shown to an `Ear`, which may know it
//! already. What the ear does not know is given to the library frame by frame, as if it came from the stream, and the
//! ear hears the message that the library makes of it. So every byte is either equal to bytes that the library has read
//! for another user, or is read by the library itself.

use std::cell::RefCell;
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use futures_util::{FutureExt, Sink, SinkExt, Stream, StreamExt};
use thiserror::Error;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::protocol::{Role, WebSocketConfig};
use tokio_tungstenite::tungstenite::{Error as SocketError, Message};

use crate::wire::Frame;

/// What one read may bring: a receive buffer of the kernel that is nearly full takes a few reads.
const SHARED_BUFFER_BYTES: usize = 256 * 1024;
/// The library's buffer while it is given single frames; it grows to the frame that it is given.
const LISTENING_BUFFER_BYTES: u32 = 256;
/// A frame that is longer is given to the library in pieces. A shorter one waits here until it is whole.
const BEGUN_BYTES_MAX: usize = 16 * 1024;
const _: () = assert!(BEGUN_BYTES_MAX < SHARED_BUFFER_BYTES, "each read has room behind what has begun");

thread_local! {
    /// What the sockets of this thread are read into while they are listened to.
    static SHARED_BUFFER: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

/// How a connection came to an end that we did not ask for.
#[derive(Debug, Error)]
pub enum Lost {
    #[error("the server closed the connection with code {code}: {reason:?}")]
    Closed { code: u16, reason: String },
    #[error("the connection ended without a close frame")]
    Ended,
    #[error("the connection broke: {0}")]
    Broken(#[source] Box<SocketError>),
}

/// The user behind a socket, as `poll_listen` sees it.
pub trait Ear {
    /// Compares what comes next with what others have heard. The bytes begin where a frame begins, and may end anywhere.
    /// Answers how many of them are heard by that; they are whole frames.
    fn recognise(&mut self, bytes: &[u8]) -> usize;
    /// Hears a frame that was not recognised.
    fn hear(&mut self, frame: &Frame);
}

pub struct Socket<S = TcpStream> {
    /// There but for the moment in which it is made anew.
    library: Option<WebSocketStream<Followed<S>>>,
    /// What the library's buffer may keep.
    buffer_bytes: u32,
    /// Whether something was given to the library that may not be written yet: it would be lost.
    sending: bool,
    /// Whether the answer to a ping may not be written yet.
    answering: bool,
    /// Whether one side has said goodbye: the library has to remember that.
    closing: bool,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Socket<S> {
    /// Over a stream on which a WebSocket was opened and nothing read since.
    pub fn new(stream: S, config: WebSocketConfig) -> Self {
        Self {
            buffer_bytes: u32::try_from(config.read_buffer_size).unwrap_or(u32::MAX),
            library: Some(library(stream, config, None)),
            sending: false,
            answering: false,
            closing: false,
        }
    }

    fn library(&mut self) -> &mut WebSocketStream<Followed<S>> {
        self.library.as_mut().expect("it is put back where it was taken")
    }

    fn followed(&mut self) -> &mut Followed<S> {
        self.library().get_mut()
    }

    /// Begins with a buffer of this size again where nothing would be lost; says whether it did.
    fn begin_anew(&mut self, buffer_bytes: u32, context: &mut Context<'_>) -> bool {
        let kept = !self.sending && !self.closing;
        if !kept || !self.followed().is_at_rest() {
            return false;
        }
        // A pong may still be on its way out.
        if !matches!(self.library().poll_flush_unpin(context), Poll::Ready(Ok(()))) {
            return false;
        }
        let config = self.library().get_config().read_buffer_size(buffer_bytes as usize);
        self.library = self.library.take().map(|grown| {
            let Followed { stream, given, .. } = grown.into_inner();
            library(stream, config, given)
        });
        true
    }

    /// The same where a frame was longer than what the buffer may keep.
    fn shrink(&mut self, buffer_bytes: u32, context: &mut Context<'_>) -> bool {
        let longest = self.followed().frames.longest;
        longest > u64::from(self.buffer_bytes) && self.begin_anew(buffer_bytes, context)
    }

    /// Lets an ear hear what comes, until the connection ends.
    pub async fn listen(&mut self, ear: &mut impl Ear) -> Lost {
        std::future::poll_fn(|context| self.poll_listen(context, ear)).await
    }

    fn poll_listen(&mut self, context: &mut Context<'_>, ear: &mut impl Ear) -> Poll<Lost> {
        if self.followed().given.as_ref().is_none_or(|given| given.to_the_end)
            && let Some(lost) = self.begin_listening(context, ear)
        {
            return Poll::Ready(lost);
        }
        // Whoever is sending writes the answer along with it.
        if self.answering && !self.sending {
            self.answering = self.library().poll_flush_unpin(context).is_pending();
        }
        SHARED_BUFFER.with_borrow_mut(|buffer| {
            buffer.resize(SHARED_BUFFER_BYTES, 0);
            loop {
                let followed = self.followed();
                let begun = followed.given.as_deref().map_or(&[][..], |given| &given.begun);
                let begun_bytes = begun.len();
                buffer[..begun_bytes].copy_from_slice(begun);
                let mut read = ReadBuf::new(&mut buffer[begun_bytes..]);
                match Pin::new(&mut followed.stream).poll_read(context, &mut read) {
                    Poll::Pending => {
                        self.shrink(LISTENING_BUFFER_BYTES, context);
                        return Poll::Pending;
                    }
                    Poll::Ready(Err(error)) => return Poll::Ready(broken(error.into())),
                    Poll::Ready(Ok(())) => {}
                }
                let filled = begun_bytes + read.filled().len();
                if filled == begun_bytes {
                    return Poll::Ready(self.hear_the_end(context, ear));
                }
                if let Some(given) = &mut followed.given {
                    given.begun.clear();
                }
                if let Some(lost) = self.take_in(&buffer[..filled], context, ear) {
                    return Poll::Ready(lost);
                }
                if filled == buffer.len() {
                    // There is more. Others have waited meanwhile: it is their turn.
                    context.waker().wake_by_ref();
                    return Poll::Pending;
                }
            }
        })
    }

    /// Reads what comes and looks at none of it, until the connection ends; `count` is told how many bytes each read brought.
    pub async fn drain(&mut self, mut count: impl FnMut(u64)) -> Lost {
        std::future::poll_fn(|context| self.poll_drain(context, &mut count)).await
    }

    fn poll_drain(&mut self, context: &mut Context<'_>, count: &mut impl FnMut(u64)) -> Poll<Lost> {
        SHARED_BUFFER.with_borrow_mut(|buffer| {
            buffer.resize(SHARED_BUFFER_BYTES, 0);
            loop {
                let mut read = ReadBuf::new(buffer);
                match ready!(Pin::new(&mut self.followed().stream).poll_read(context, &mut read)) {
                    Err(error) => return Poll::Ready(broken(error.into())),
                    Ok(()) if read.filled().is_empty() => return Poll::Ready(Lost::Ended),
                    Ok(()) => count(read.filled().len() as u64),
                }
                if read.remaining() == 0 {
                    context.waker().wake_by_ref();
                    return Poll::Pending;
                }
            }
        })
    }

    /// Hears what the library has read already; from here on it reads what it is given.
    fn begin_listening(&mut self, context: &mut Context<'_>, ear: &mut impl Ear) -> Option<Lost> {
        self.followed().given.get_or_insert_default().to_the_end = false;
        let lost = self.hear_library(context, ear);
        self.begin_anew(LISTENING_BUFFER_BYTES, context);
        lost
    }

    /// Takes in what was read: lets the ear compare, and gives the rest to the library.
    fn take_in(&mut self, mut bytes: &[u8], context: &mut Context<'_>, ear: &mut impl Ear) -> Option<Lost> {
        while !bytes.is_empty() {
            let frames = &self.followed().frames;
            let part = if frames.are_between_messages() {
                bytes = &bytes[ear.recognise(bytes)..];
                whole_frame(bytes)
            } else if frames.are_between_frames() {
                whole_frame(bytes)
            } else {
                Some(frames.missing().min(bytes.len()))
            };
            let Some(part) = part else {
                if let Some(given) = &mut self.followed().given {
                    given.begun.extend_from_slice(bytes);
                }
                return None;
            };
            let (given, rest) = bytes.split_at(part);
            bytes = rest;
            if !given.is_empty() {
                self.followed().give(given);
                if let Some(lost) = self.hear_library(context, ear) {
                    return Some(lost);
                }
            }
        }
        None
    }

    /// Lets the ear hear all messages that the library has whole.
    fn hear_library(&mut self, context: &mut Context<'_>, ear: &mut impl Ear) -> Option<Lost> {
        loop {
            match self.library().poll_next_unpin(context) {
                Poll::Pending => return None,
                Poll::Ready(item) => match heard(item) {
                    Ok(Some(frame)) => ear.hear(&frame),
                    // It was a ping, or a pong: the library answers by itself when it is polled again.
                    Ok(None) => self.answering = true,
                    Err(lost) => {
                        self.closing = true;
                        return Some(lost);
                    }
                },
            }
        }
    }

    /// The stream has ended: the library says what that means.
    fn hear_the_end(&mut self, context: &mut Context<'_>, ear: &mut impl Ear) -> Lost {
        self.followed().end_giving();
        self.hear_library(context, ear).unwrap_or(Lost::Ended)
    }

    /// From here on the library reads the stream, beginning with what waits for its end.
    fn end_listening(&mut self, context: &mut Context<'_>) {
        self.begin_anew(self.buffer_bytes, context);
        self.followed().end_giving();
    }
}

fn library<S: AsyncRead + AsyncWrite + Unpin>(
    stream: S,
    config: WebSocketConfig,
    given: Option<Box<Given>>,
) -> WebSocketStream<Followed<S>> {
    let followed = Followed { stream, frames: Frames::default(), given };
    let made = WebSocketStream::from_raw_socket(followed, Role::Client, Some(config)).now_or_never();
    made.expect("without a handshake there is nothing to wait for")
}

impl<S: AsyncRead + AsyncWrite + Unpin> Stream for Socket<S> {
    type Item = Result<Message, SocketError>;

    fn poll_next(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = self.get_mut();
        if this.followed().given.as_ref().is_some_and(|given| !given.to_the_end) {
            this.end_listening(context);
        }
        loop {
            match this.library().poll_next_unpin(context) {
                // The new one does not know yet whom to wake.
                Poll::Pending if this.shrink(this.buffer_bytes, context) => {}
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

/// What comes over a socket, told apart: a frame with something in it, nothing for a ping or a pong, which the library
/// handles by itself, or the end.
pub fn heard(item: Option<Result<Message, SocketError>>) -> Result<Option<Frame>, Lost> {
    match item {
        Some(Ok(Message::Text(text))) => Ok(Some(Frame::Text(text))),
        Some(Ok(Message::Binary(bytes))) => Ok(Some(Frame::Binary(bytes))),
        Some(Ok(Message::Close(Some(frame)))) => {
            Err(Lost::Closed { code: frame.code.into(), reason: frame.reason.to_string() })
        }
        Some(Ok(Message::Close(None))) | None => Err(Lost::Ended),
        Some(Ok(Message::Ping(_) | Message::Pong(_) | Message::Frame(_))) => Ok(None),
        Some(Err(error)) => Err(broken(error)),
    }
}

pub fn broken(error: SocketError) -> Lost {
    Lost::Broken(Box::new(error))
}

/// A socket that one task listens to and another writes to, both on one thread.
pub struct SharedSocket<S = TcpStream>(Rc<RefCell<Socket<S>>>);

impl<S> Clone for SharedSocket<S> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> SharedSocket<S> {
    pub fn new(socket: Socket<S>) -> Self {
        Self(Rc::new(RefCell::new(socket)))
    }

    /// As `Socket::listen`.
    pub async fn listen(&self, ear: &mut impl Ear) -> Lost {
        std::future::poll_fn(|context| self.0.borrow_mut().poll_listen(context, ear)).await
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> Sink<Message> for SharedSocket<S> {
    type Error = SocketError;

    fn poll_ready(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Result<(), SocketError>> {
        self.0.borrow_mut().poll_ready_unpin(context)
    }

    fn start_send(self: Pin<&mut Self>, message: Message) -> Result<(), SocketError> {
        self.0.borrow_mut().start_send_unpin(message)
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Result<(), SocketError>> {
        self.0.borrow_mut().poll_flush_unpin(context)
    }

    fn poll_close(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Result<(), SocketError>> {
        self.0.borrow_mut().poll_close_unpin(context)
    }
}

/// A stream that knows how far the frames in what was read from it have come.
struct Followed<S> {
    stream: S,
    frames: Frames,
    /// What the library reads instead of the stream, while the socket is listened to.
    given: Option<Box<Given>>,
}

/// Bytes of the stream that were read for the library.
#[derive(Default)]
struct Given {
    bytes: Vec<u8>,
    /// So many of them the library has taken.
    taken: usize,
    /// The beginning of a frame whose end is still to come. The library has not been given it yet.
    begun: Vec<u8>,
    /// Whether the library reads the stream once it has taken all.
    to_the_end: bool,
}

impl<S> Followed<S> {
    /// Puts bytes in line for the library.
    fn give(&mut self, bytes: &[u8]) {
        self.given.get_or_insert_default().bytes.extend_from_slice(bytes);
    }

    /// From here on the library reads the stream, as soon as it has taken what there is.
    fn end_giving(&mut self) {
        let Some(given) = &mut self.given else { return };
        given.to_the_end = true;
        given.bytes.append(&mut given.begun);
        self.given.take_if(|given| given.taken == given.bytes.len());
    }

    /// Whether the library has taken all it was given, and that ends where a message ends.
    fn is_at_rest(&self) -> bool {
        let taken = self.given.as_ref().is_none_or(|given| given.bytes.is_empty());
        taken && self.frames.are_between_messages()
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Followed<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = &mut *self;
        let before = buffer.filled().len();
        match &mut this.given {
            None => ready!(Pin::new(&mut this.stream).poll_read(context, buffer))?,
            // Who gives the library more polls it then.
            Some(given) if given.bytes.is_empty() => return Poll::Pending,
            Some(given) => {
                let rest = &given.bytes[given.taken..];
                let part = &rest[..rest.len().min(buffer.remaining())];
                buffer.put_slice(part);
                given.taken += part.len();
                if given.taken == given.bytes.len() {
                    // Few users read a frame themselves, and seldom: none of them keeps room for it.
                    (given.bytes, given.taken) = (Vec::new(), 0);
                    this.given.take_if(|given| given.to_the_end);
                }
            }
        }
        this.frames.follow(&buffer.filled()[before..]);
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
    fn are_between_frames(&self) -> bool {
        self.header_bytes == 0 && self.payload_left == 0
    }

    fn are_between_messages(&self) -> bool {
        self.are_between_frames() && !self.unfinished
    }

    /// How many bytes certainly belong to the frame that has begun.
    fn missing(&self) -> usize {
        if self.header_bytes > 0 { 1 } else { usize::try_from(self.payload_left).unwrap_or(usize::MAX) }
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
        payload_length(self.header.get(..self.header_bytes.into())?).map(|(_, length)| length)
    }
}

/// How many bytes the header has that these bytes begin with, and how long a payload it names; nothing before it is whole.
fn payload_length(bytes: &[u8]) -> Option<(usize, u64)> {
    let (header_bytes, extended) = match bytes.get(1)? & LENGTH {
        126 => (4, bytes.get(2..4)?),
        127 => (HEADER_BYTES_MAX, bytes.get(2..HEADER_BYTES_MAX)?),
        short => return Some((2, short.into())),
    };
    Some((header_bytes, extended.iter().fold(0, |length, byte| length << 8 | u64::from(*byte))))
}

/// How much of these bytes, which begin where a frame begins, may go to the library at once: the first frame, or as much as
/// there is of one that is too long to wait for. Nothing where it is better to wait for the rest.
fn whole_frame(bytes: &[u8]) -> Option<usize> {
    if bytes.is_empty() {
        return Some(0);
    }
    let (header, payload) = payload_length(bytes)?;
    let length = usize::try_from(payload).unwrap_or(usize::MAX).saturating_add(header);
    if length <= bytes.len() {
        Some(length)
    } else if length > BEGUN_BYTES_MAX {
        Some(bytes.len())
    } else {
        None
    }
}

#[cfg(test)]
mod tests;
