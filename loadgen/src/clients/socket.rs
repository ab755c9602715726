//! A user's WebSocket. It keeps almost no buffer of its own while nothing is under way, and it lets an `Ear` compare
//! frames that other users have received before, instead of reading them.
//!
//! The library lets a connection's buffer grow to the longest frame and never shrinks it. The list of members that
//! answers a join would then be most of an idle user's memory. The buffer cannot be taken away, but when it is empty, a
//! new WebSocket can be made over the same stream. The buffer is empty when the library waits for more bytes and the
//! bytes that it got end where a message ends. So this file follows the frame headers in the stream.
//!
//! A socket is read in one of two ways. As a `Stream`, the library reads the connection and returns messages. With
//! `poll_listen`, all sockets of a thread share one large buffer, and the bytes read are first shown to an `Ear`, which
//! may recognise them. The bytes that the ear does not recognise are given to the library frame by frame, as if they
//! came from the stream, and the ear receives the resulting message. So every byte is either equal to bytes that the
//! library has read for another user, or is read by the library itself.

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

use crate::costs::closes::NO_FRAME;
use crate::wire::Frame;

/// The most bytes of one read. A nearly full receive buffer of the kernel takes a few reads.
const SHARED_BUFFER_BYTES: usize = 256 * 1024;
/// The library's buffer while it is given single frames; it grows to the size of the frame.
const LISTENING_BUFFER_BYTES: u32 = 256;
/// A longer frame is given to the library in pieces. A shorter frame waits here until it is whole.
const BEGUN_BYTES_MAX: usize = 16 * 1024;
const _: () = assert!(BEGUN_BYTES_MAX < SHARED_BUFFER_BYTES, "each read has room behind what has begun");

thread_local! {
    /// The buffer into which the sockets of this thread are read while they are listened to.
    static SHARED_BUFFER: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

/// The end of a connection that the client did not close.
#[derive(Debug, Error)]
pub enum Lost {
    #[error("the server closed the connection with code {code}: {reason:?}")]
    Closed { code: u16, reason: String },
    #[error("the connection ended without a close frame")]
    Ended,
    #[error("the connection broke: {0}")]
    Broken(#[source] Box<SocketError>),
}

impl Lost {
    /// The close code, also for a connection that ended without one.
    pub fn code(&self) -> u16 {
        if let Self::Closed { code, .. } = self { *code } else { NO_FRAME }
    }
}

/// The user of a socket, as `poll_listen` sees it.
pub trait Ear {
    /// Compares the next bytes with what other users received. The bytes begin where a frame begins, and may end
    /// anywhere. Returns how many of them are thereby received; these are whole frames.
    fn recognise(&mut self, bytes: &[u8]) -> usize;
    /// Receives a frame that was not recognised.
    fn hear(&mut self, frame: &Frame);
}

pub struct Socket<S = TcpStream> {
    /// `None` only while a new WebSocket is being made.
    library: Option<WebSocketStream<Followed<S>>>,
    /// The size that the library's buffer may keep.
    buffer_bytes: u32,
    /// Whether bytes given to the library may not be written yet. A new WebSocket would lose them.
    sending: bool,
    /// Whether the answer to a ping may not be written yet.
    answering: bool,
    /// Whether one side has sent a close frame: the library must keep that state.
    closing: bool,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Socket<S> {
    /// For a stream on which a WebSocket was opened and no byte was read after the opening.
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

    /// Makes a new WebSocket with a buffer of this size, if that loses nothing. Returns whether it did.
    fn begin_anew(&mut self, buffer_bytes: u32, context: &mut Context<'_>) -> bool {
        let kept = !self.sending && !self.closing;
        if !kept || !self.followed().is_at_rest() {
            return false;
        }
        // A pong may not be written yet.
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

    /// The same, but only if a frame was longer than `self.buffer_bytes`.
    fn shrink(&mut self, buffer_bytes: u32, context: &mut Context<'_>) -> bool {
        let longest = self.followed().frames.longest;
        longest > u64::from(self.buffer_bytes) && self.begin_anew(buffer_bytes, context)
    }

    /// Lets an ear receive what comes, until the connection ends.
    pub async fn listen(&mut self, ear: &mut impl Ear) -> Lost {
        std::future::poll_fn(|context| self.poll_listen(context, ear)).await
    }

    fn poll_listen(&mut self, context: &mut Context<'_>, ear: &mut impl Ear) -> Poll<Lost> {
        if self.followed().given.as_ref().is_none_or(|given| given.to_the_end)
            && let Some(lost) = self.begin_listening(context, ear)
        {
            return Poll::Ready(lost);
        }
        // While a message is being sent, the sender writes the pong along with it.
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
                    // There is more to read, but the other sockets of this thread have waited: let them run first.
                    context.waker().wake_by_ref();
                    return Poll::Pending;
                }
            }
        })
    }

    /// Reads until the connection ends, without looking at the bytes. `count` gets the number of bytes of each read.
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

    /// Receives what the library has already read. From now on the library reads only what it is given.
    fn begin_listening(&mut self, context: &mut Context<'_>, ear: &mut impl Ear) -> Option<Lost> {
        self.followed().given.get_or_insert_default().to_the_end = false;
        let lost = self.hear_library(context, ear);
        self.begin_anew(LISTENING_BUFFER_BYTES, context);
        lost
    }

    /// Handles the bytes read: lets the ear compare, and gives the rest to the library.
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

    /// Lets the ear receive all messages that the library has completely.
    fn hear_library(&mut self, context: &mut Context<'_>, ear: &mut impl Ear) -> Option<Lost> {
        loop {
            match self.library().poll_next_unpin(context) {
                Poll::Pending => return None,
                Poll::Ready(item) => match heard(item) {
                    Ok(Some(frame)) => ear.hear(&frame),
                    // A ping or a pong: the library sends the answer itself when it is polled again.
                    Ok(None) => self.answering = true,
                    Err(lost) => {
                        self.closing = true;
                        return Some(lost);
                    }
                },
            }
        }
    }

    /// The stream has ended. The library tells how the connection was closed.
    fn hear_the_end(&mut self, context: &mut Context<'_>, ear: &mut impl Ear) -> Lost {
        self.followed().end_giving();
        self.hear_library(context, ear).unwrap_or(Lost::Ended)
    }

    /// From now on the library reads the stream, starting with the part of a frame that is waiting here.
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
                // The new WebSocket has not registered the task's waker yet.
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

/// Classifies what comes over a socket: a frame with content, `None` for a ping or a pong (the library handles them),
/// or the end of the connection.
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

/// A socket that one task listens to and another task writes to, both on one thread.
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

/// A stream that follows the frame headers in the bytes read from it.
struct Followed<S> {
    stream: S,
    frames: Frames,
    /// The bytes that the library reads instead of the stream, while the socket is listened to.
    given: Option<Box<Given>>,
}

/// Bytes of the stream for the library to read.
#[derive(Default)]
struct Given {
    bytes: Vec<u8>,
    /// How many of the bytes the library has taken.
    taken: usize,
    /// The beginning of a frame whose end has not come yet. The library has not been given it yet.
    begun: Vec<u8>,
    /// Whether the library reads the stream once it has taken all bytes.
    to_the_end: bool,
}

impl<S> Followed<S> {
    /// Queues bytes for the library.
    fn give(&mut self, bytes: &[u8]) {
        self.given.get_or_insert_default().bytes.extend_from_slice(bytes);
    }

    /// From now on the library reads the stream, as soon as it has taken the queued bytes.
    fn end_giving(&mut self) {
        let Some(given) = &mut self.given else { return };
        given.to_the_end = true;
        given.bytes.append(&mut given.begun);
        self.given.take_if(|given| given.taken == given.bytes.len());
    }

    /// Whether the library has taken everything it was given, and that ends where a message ends.
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
            // The code that gives the library bytes also polls it, so no waker is needed.
            Some(given) if given.bytes.is_empty() => return Poll::Pending,
            Some(given) => {
                let rest = &given.bytes[given.taken..];
                let part = &rest[..rest.len().min(buffer.remaining())];
                buffer.put_slice(part);
                given.taken += part.len();
                assert!(given.taken <= given.bytes.len(), "the library takes what it was given");
                if given.taken == given.bytes.len() {
                    // A user seldom reads a frame through the library, so the buffer is freed.
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

/// The longest frame header of a server: a server masks nothing. The library refuses a masked frame.
const HEADER_BYTES_MAX: usize = 10;
const FINAL: u8 = 0x80;
const CONTROL: u8 = 0x08;
const LENGTH: u8 = 0x7f;

#[derive(Default)]
struct Frames {
    header: [u8; HEADER_BYTES_MAX],
    /// How many bytes of the header have come, while it is not whole.
    header_bytes: u8,
    /// Whether a message has begun whose last frame has not come yet.
    unfinished: bool,
    /// How many bytes of the payload have not come yet.
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

    /// How many of the next bytes certainly belong to the frame that has begun.
    fn missing(&self) -> usize {
        if self.header_bytes > 0 { 1 } else { usize::try_from(self.payload_left).unwrap_or(usize::MAX) }
    }

    fn follow(&mut self, mut bytes: &[u8]) {
        loop {
            debug_assert!(self.payload_left == 0 || self.header_bytes == 0, "a payload follows its whole header");
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

    /// The payload length in the header, once the header is whole.
    fn payload_length(&self) -> Option<u64> {
        payload_length(self.header.get(..self.header_bytes.into())?).map(|(_, length)| length)
    }
}

/// The length of the header at the beginning of these bytes, and the payload length in it; `None` while the header is
/// not whole.
fn payload_length(bytes: &[u8]) -> Option<(usize, u64)> {
    let (header_bytes, extended) = match bytes.get(1)? & LENGTH {
        126 => (4, bytes.get(2..4)?),
        127 => (HEADER_BYTES_MAX, bytes.get(2..HEADER_BYTES_MAX)?),
        short => return Some((2, short.into())),
    };
    Some((header_bytes, extended.iter().fold(0, |length, byte| length << 8 | u64::from(*byte))))
}

/// How many of these bytes, which begin where a frame begins, the library may get at once: the first frame, or all
/// bytes of a frame that is too long to wait for. `None` if the rest of the frame is to be awaited.
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
