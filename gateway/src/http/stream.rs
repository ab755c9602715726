//! A glommio socket as hyper wants to see it: the bytes that were read before come first, and each step of a request
//! has its deadline.

use std::cell::Cell;
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use futures_io::{AsyncRead, AsyncWrite};
use glommio::net::TcpStream;
use hyper::rt::{Read, ReadBufCursor, Write};

/// Requests have this long for their head, then for their body; answers this long for each part that is written.
const STEP_DURATION_MAX: Duration = Duration::from_secs(10);
/// Long after the patience of any client; only a store that never answers gets here.
const ANSWER_DURATION_MAX: Duration = Duration::from_secs(30);

/// Most bytes read at once.
const READ_BYTES_MAX: usize = 8192;

/// Where a connection is, and how long it may stay there.
pub struct Pace {
    step: Cell<Step>,
    deadline: Cell<Instant>,
    /// Since when, at the latest, the client should have taken something of what it is sent.
    write_deadline: Cell<Option<Instant>>,
    /// How long the next request may be waited for.
    keep_alive: Duration,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Step {
    /// Nothing of the next request is here.
    Idle,
    Head,
    Body,
    Answer,
}

impl Pace {
    /// Begins with a head of which something has been read already.
    pub fn new(now: Instant, keep_alive: Duration) -> Self {
        let pace = Self {
            step: Cell::new(Step::Head),
            deadline: Cell::new(now),
            write_deadline: Cell::new(None),
            keep_alive,
        };
        pace.enter(Step::Head, now);
        pace
    }

    pub fn enter(&self, step: Step, now: Instant) {
        self.step.set(step);
        self.deadline.set(
            now + match step {
                Step::Idle => self.keep_alive,
                Step::Head | Step::Body => STEP_DURATION_MAX,
                Step::Answer => ANSWER_DURATION_MAX,
            },
        );
    }

    /// When the connection shall be given up, if nothing moves until then.
    pub fn deadline(&self) -> Instant {
        self.write_deadline.get().map_or(self.deadline.get(), |deadline| deadline.min(self.deadline.get()))
    }

    /// Whether no request is being read or answered, and no answer waits to be taken. The beginning of a head is no
    /// request yet.
    pub fn owes_nothing(&self) -> bool {
        matches!(self.step.get(), Step::Idle | Step::Head) && self.write_deadline.get().is_none()
    }

    fn has_read(&self) {
        if self.step.get() == Step::Idle {
            self.enter(Step::Head, Instant::now());
        }
    }

    fn write_waits(&self) {
        if self.write_deadline.get().is_none() {
            self.write_deadline.set(Some(Instant::now() + STEP_DURATION_MAX));
        }
    }
}

/// The connection, for hyper.
pub struct PacedStream {
    stream: TcpStream,
    /// Bytes that were read before it was known to be HTTP, and how many of them hyper has.
    prefix: Vec<u8>,
    taken: usize,
    pace: Rc<Pace>,
}

impl PacedStream {
    pub fn new(stream: TcpStream, prefix: Vec<u8>, pace: Rc<Pace>) -> Self {
        Self { stream, prefix, taken: 0, pace }
    }
}

impl Read for PacedStream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        mut buffer: ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        let room = buffer.remaining().min(READ_BYTES_MAX);
        let waiting = &self.prefix[self.taken..];
        if !waiting.is_empty() {
            let moved = waiting.len().min(room);
            buffer.put_slice(&waiting[..moved]);
            self.taken += moved;
            if self.taken == self.prefix.len() {
                (self.prefix, self.taken) = (Vec::new(), 0);
            }
            return Poll::Ready(Ok(()));
        }
        let mut bytes = [0; READ_BYTES_MAX];
        let read = ready!(Pin::new(&mut self.stream).poll_read(context, &mut bytes[..room]))?;
        if read > 0 {
            self.pace.has_read();
        }
        buffer.put_slice(&bytes[..read]);
        Poll::Ready(Ok(()))
    }
}

impl Write for PacedStream {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write(context, bytes);
        match written {
            Poll::Pending => self.pace.write_waits(),
            Poll::Ready(_) => self.pace.write_deadline.set(None),
        }
        written
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_close(context)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_step_has_its_deadline() {
        const KEEP_ALIVE: Duration = Duration::from_secs(75);
        let now = Instant::now();
        let pace = Pace::new(now, KEEP_ALIVE);
        assert_eq!(pace.deadline(), now + STEP_DURATION_MAX);
        pace.has_read();
        assert_eq!(pace.deadline(), now + STEP_DURATION_MAX, "a head that dribbles in gets no more time");
        pace.enter(Step::Idle, now);
        assert_eq!(pace.deadline(), now + KEEP_ALIVE);
        pace.has_read();
        assert!(pace.deadline() < now + KEEP_ALIVE, "the next head has begun");
        pace.enter(Step::Answer, now);
        pace.write_waits();
        assert!(pace.deadline() < now + ANSWER_DURATION_MAX);
    }
}
