//! A glommio socket as hyper's HTTP/2 sees it: bytes that were already read come first, a connection reads its part of
//! each turn, and what is read and written is counted.

use std::cell::Cell;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use futures_io::{AsyncRead, AsyncWrite};
use hyper::rt::{Read, ReadBufCursor, Write};

use super::frames::FrameCount;
use crate::http::request_turns::{Beginner, READ_BYTES_TURN_MAX};
use crate::http::secured_stream::SecuredStream;
use crate::http::stream::gathered;

/// Most bytes that are read after the server has said all, as in HTTP/1.1.
const LINGER_BYTES_MAX: usize = 512 << 10;

/// Frames that the library is given each time the connection is let in. A call is one to three of them, and some cost as much
/// as a small request. So a shard looks at a thousand frames between two turns at most, which takes it some milliseconds.
pub const FRAMES_TURN_MAX: usize = 16;

/// Most bytes read at once. They may wait for the connection's turn.
const READ_BYTES_MAX: usize = 4096;

/// What a connection has read and written, for its task.
#[derive(Default)]
pub struct Meter {
    /// Bytes that were read since the task has charged for them.
    pub read: Cell<usize>,
    /// All frames that have come.
    pub frames: Cell<u64>,
    /// Bytes that the socket has taken since the task has last looked.
    pub written: Cell<usize>,
    /// Whether the socket takes no more for now.
    pub is_blocked: Cell<bool>,
    /// Whether the connection is read later, because too much was asked over it.
    pub is_resting: Cell<bool>,
    /// Whether the client has sent more frames than it may.
    pub is_flooded: Cell<bool>,
}

/// The connection, for hyper.
pub struct GrpcStream {
    stream: SecuredStream,
    /// Bytes that were read, and that the library has not been given.
    unread: Vec<u8>,
    frames: FrameCount,
    beginner: Beginner,
    share: Share,
    /// Whether nothing more comes.
    has_ended: bool,
    /// Whether the client was told that nothing more comes.
    is_shut_down: bool,
    /// Bytes that are still read and thrown away after that.
    lingering: usize,
    meter: Rc<Meter>,
}

impl GrpcStream {
    /// `unread` are the bytes of the stream that were read before.
    pub fn new(stream: SecuredStream, unread: Vec<u8>, beginner: Beginner, meter: Rc<Meter>) -> Self {
        let (frames, share, lingering) = (FrameCount::default(), Share::default(), LINGER_BYTES_MAX);
        Self { stream, unread, frames, beginner, share, has_ended: false, is_shut_down: false, lingering, meter }
    }

    /// Gives the library bytes that were read, as far as the connection's share of the turn goes. Fails if they have more
    /// frames than a client may send.
    fn hand_over(&mut self, buffer: &mut ReadBufCursor<'_>) -> io::Result<()> {
        let most = self.unread.len().min(buffer.remaining()).min(self.share.bytes);
        let before = self.frames.frames();
        let taken = self.frames.take_in(&self.unread[..most], self.share.frames);
        let frames = (self.frames.frames() - before) as usize;
        self.meter.frames.set(self.frames.frames());
        self.meter.is_flooded.set(taken.is_err());
        let taken = taken.map_err(io::Error::other)?;
        self.meter.read.set(self.meter.read.get() + taken);
        self.share.bytes -= taken;
        self.share.frames = self.share.frames.saturating_sub(frames);
        buffer.put_slice(&self.unread[..taken]);
        if taken == self.unread.len() {
            self.unread = Vec::new();
        } else {
            self.unread.drain(..taken);
        }
        Ok(())
    }

    /// Ready when the connection has a share of a turn.
    fn poll_share(&mut self, context: &Context<'_>) -> Poll<()> {
        let had_one = self.share.turn == Some(self.beginner.turn());
        if !had_one || self.share.is_used_up() {
            ready!(self.beginner.poll_begin(had_one, context));
            self.share = Share::of(self.beginner.turn());
        }
        Poll::Ready(())
    }
}

/// What the library may be given of a connection's bytes in one turn.
#[derive(Default)]
struct Share {
    /// The turn; `None` before the connection is first let in.
    turn: Option<u64>,
    bytes: usize,
    frames: usize,
}

impl Share {
    fn of(turn: u64) -> Self {
        Self { turn: Some(turn), bytes: READ_BYTES_TURN_MAX, frames: FRAMES_TURN_MAX }
    }

    fn is_used_up(&self) -> bool {
        self.bytes == 0 || self.frames == 0
    }
}

impl Read for GrpcStream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        mut buffer: ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        if self.meter.is_resting.get() {
            // The task reads again when the rest is over. Meanwhile others have its place among those that are let in.
            self.beginner.leave();
            return Poll::Pending;
        }
        if self.unread.is_empty() && !self.has_ended {
            let mut bytes = [0; READ_BYTES_MAX];
            let read = ready!(Pin::new(&mut self.stream).poll_read(context, &mut bytes));
            // A connection that has failed has ended: what the library would do with the reason is to end.
            let read = read.unwrap_or(0);
            self.has_ended = read == 0;
            self.unread.extend_from_slice(&bytes[..read]);
        }
        // To end is work, too, if there are many calls.
        ready!(self.poll_share(context));
        self.hand_over(&mut buffer)?;
        Poll::Ready(Ok(()))
    }
}

impl Write for GrpcStream {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write(context, bytes);
        self.meter.is_blocked.set(written.is_pending());
        match &written {
            // A connection that waits for its client keeps no place among those that are let in.
            Poll::Pending => self.beginner.leave(),
            Poll::Ready(written) => {
                self.meter.written.set(self.meter.written.get() + written.as_ref().unwrap_or(&0));
            }
        }
        written
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        pieces: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let bytes = gathered(pieces);
        if bytes.is_empty() { Poll::Ready(Ok(0)) } else { self.poll_write(context, &bytes) }
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let flushed = Pin::new(&mut self.stream).poll_flush(context);
        self.meter.is_blocked.set(flushed.is_pending());
        flushed
    }

    /// Ready when the client has closed the connection, too, or has sent much more: closing a socket with unread bytes resets
    /// the connection, and the client may lose its last answer. The task bounds the time.
    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        if !self.is_shut_down {
            ready!(Pin::new(&mut self.stream).poll_close(context))?;
            self.is_shut_down = true;
        }
        let mut bytes = [0; READ_BYTES_MAX];
        while self.lingering > 0 {
            match ready!(Pin::new(&mut self.stream).poll_read(context, &mut bytes)) {
                Ok(0) | Err(_) => break,
                Ok(read) => self.lingering = self.lingering.saturating_sub(read),
            }
        }
        Poll::Ready(Ok(()))
    }
}
