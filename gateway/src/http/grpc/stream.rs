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

/// What a frame costs of the bytes that a connection reads in a turn, besides its own: 9 bytes can be a frame, and some cost
/// as much as a small request.
const FRAME_BYTES: usize = 64;

/// Most bytes read at once.
const READ_BYTES_MAX: usize = 8192;

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
    /// Bytes that were read before the stream was given to HTTP/2.
    unread: Vec<u8>,
    frames: FrameCount,
    beginner: Beginner,
    /// Bytes that may be read before the connection waits for a turn.
    allowance: usize,
    /// Whether the client was told that nothing more comes.
    is_shut_down: bool,
    /// Bytes that are still read and thrown away after that.
    lingering: usize,
    meter: Rc<Meter>,
}

impl GrpcStream {
    /// `unread` are the bytes of the stream that were read before.
    pub fn new(stream: SecuredStream, unread: Vec<u8>, beginner: Beginner, meter: Rc<Meter>) -> Self {
        let (frames, allowance, lingering) = (FrameCount::default(), READ_BYTES_TURN_MAX, LINGER_BYTES_MAX);
        Self { stream, unread, frames, beginner, allowance, is_shut_down: false, lingering, meter }
    }

    /// Counts bytes that hyper gets. Fails if they have more frames than a client may send.
    fn count(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.meter.read.set(self.meter.read.get() + bytes.len());
        let before = self.frames.frames();
        let counted = self.frames.take_in(bytes);
        let frames = (self.frames.frames() - before) as usize;
        self.allowance = self.allowance.saturating_sub(frames * FRAME_BYTES);
        self.meter.frames.set(self.frames.frames());
        self.meter.is_flooded.set(counted.is_err());
        counted.map_err(io::Error::other)
    }
}

impl Read for GrpcStream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        mut buffer: ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        if self.meter.is_resting.get() {
            // The task reads again when the rest is over.
            return Poll::Pending;
        }
        if !self.unread.is_empty() {
            let moved = self.unread.len().min(buffer.remaining());
            let bytes: Vec<u8> = self.unread.drain(..moved).collect();
            self.count(&bytes)?;
            buffer.put_slice(&bytes);
            return Poll::Ready(Ok(()));
        }
        if self.allowance == 0 {
            ready!(self.beginner.poll_begin(true, context));
            self.allowance = READ_BYTES_TURN_MAX;
        }
        let mut bytes = [0; READ_BYTES_MAX];
        let most = READ_BYTES_MAX.min(buffer.remaining()).min(self.allowance);
        let read = ready!(Pin::new(&mut self.stream).poll_read(context, &mut bytes[..most]))?;
        self.allowance -= read;
        self.count(&bytes[..read])?;
        buffer.put_slice(&bytes[..read]);
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
