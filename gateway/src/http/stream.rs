//! A glommio socket as hyper wants to see it: the bytes that were read before come first, each step of a request has its
//! deadline, and the connection seems to end where hyper has no more to answer on it (`framing.rs`).

use std::cell::Cell;
use std::future::{Future, poll_fn};
use std::io;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use futures_io::{AsyncRead, AsyncWrite};
use glommio::net::TcpStream;
use glommio::timer::Timer;
use hyper::rt::{Read, ReadBufCursor, Write};

use super::framing::{Fault, Framing, Passage};

/// Requests have this long for their head, then for their body; answers this long for each part that is written.
const STEP_DURATION_MAX: Duration = Duration::from_secs(10);
/// Long after the patience of any client; only a store that never answers gets here.
const ANSWER_DURATION_MAX: Duration = Duration::from_secs(30);

/// How long, and how far, a client that is still sending is listened to behind the last answer.
const LINGER_DURATION_MAX: Duration = Duration::from_secs(2);
const LINGER_BYTES_MAX: usize = 4 << 20;

/// Most bytes read at once.
const READ_BYTES_MAX: usize = 8192;

/// Where a connection is, and how long it may stay there.
pub struct Pace {
    step: Cell<Step>,
    deadline: Cell<Instant>,
    /// Since when, at the latest, the client should have taken something of what it is sent.
    write_deadline: Cell<Option<Instant>>,
    /// Whether the newest answer is still with hyper, or a part of it.
    unsent: Cell<bool>,
    /// How long the next request may be waited for.
    keep_alive: Duration,
    /// What is wrong with the head that hyper was given another one for.
    fault: Cell<Option<Fault>>,
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
            unsent: Cell::new(false),
            keep_alive,
            fault: Cell::new(None),
        };
        pace.enter(Step::Head, now);
        pace
    }

    /// Why the request that hyper has just handed over is to be refused, if it stands for one that cannot be answered.
    pub fn take_fault(&self) -> Option<Fault> {
        self.fault.take()
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

    /// Whether some of the newest answer is not sent yet.
    pub fn is_unsent(&self) -> bool {
        self.unsent.get()
    }

    /// hyper is about to be given the answer to its newest request.
    pub fn answered(&self, now: Instant) {
        self.unsent.set(true);
        self.enter(Step::Idle, now);
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
    /// What was read and hyper does not have. Of that, `passed` bytes are for it.
    unread: Vec<u8>,
    passed: usize,
    framing: Framing,
    /// What hyper, once it has what was passed, is told.
    end: Option<End>,
    pace: Rc<Pace>,
}

/// Where a connection ends for hyper.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum End {
    /// The client sends no more.
    Client,
    /// The next request opens a WebSocket.
    Opening,
    /// Nobody can tell what else the client sends.
    Unknown,
}

/// What is left of a connection.
pub enum Left {
    /// A request to open a WebSocket, and what came with it.
    Opening(TcpStream, Vec<u8>),
    /// Nothing to answer.
    Nothing(PacedStream),
}

impl PacedStream {
    /// `unread` are the bytes of the stream that were read before it was known to be HTTP.
    pub fn new(stream: TcpStream, unread: Vec<u8>, pace: Rc<Pace>) -> Self {
        Self { stream, unread, passed: 0, framing: Framing::default(), end: None, pace }
    }

    /// What is left when hyper has nothing more to answer.
    pub fn into_left(self) -> Left {
        if self.is_opening() { Left::Opening(self.stream, self.unread) } else { Left::Nothing(self) }
    }

    fn is_opening(&self) -> bool {
        self.end == Some(End::Opening) && self.passed == 0 && !self.pace.unsent.get()
    }

    /// Ends the connection so that the client gets to see the last answer: a socket that is closed with bytes unread
    /// takes back what it has sent.
    pub async fn close(mut self) {
        let deadline = Timer::new(LINGER_DURATION_MAX);
        let unsent = self.end != Some(End::Client) && !(self.framing.is_between_requests() && self.unread.is_empty());
        let mut deadline = pin!(deadline);
        let _ = poll_fn(|context| Pin::new(&mut self.stream).poll_close(context)).await;
        let mut discarded = 0;
        poll_fn(|context| {
            while discarded < LINGER_BYTES_MAX {
                match Pin::new(&mut self.stream).poll_read(context, &mut [0; READ_BYTES_MAX]) {
                    Poll::Ready(Ok(0) | Err(_)) => return Poll::Ready(()),
                    Poll::Ready(Ok(read)) => discarded += read,
                    Poll::Pending if unsent => return deadline.as_mut().poll(context).map(drop),
                    Poll::Pending => return Poll::Ready(()),
                }
            }
            Poll::Ready(())
        })
        .await;
    }

    /// Passes on what may be passed on of what was read; false when more has to be read for that.
    fn pass(&mut self) -> bool {
        while self.passed == 0 && self.end.is_none() {
            match self.framing.next(&self.unread) {
                Passage::NeedMore if self.unread.is_empty() => return false,
                Passage::NeedMore => {
                    self.pace.has_read();
                    return false;
                }
                Passage::Skip(bytes) => drop(self.unread.drain(..bytes)),
                Passage::Pass(bytes) => self.passed = bytes,
                Passage::Rewrite { read, head } => {
                    self.passed = head.len();
                    self.unread.splice(..read, head);
                }
                Passage::Refuse { fault, head } => {
                    self.pace.fault.set(Some(fault));
                    self.unread = head.to_vec();
                    self.passed = head.len();
                    self.end = Some(End::Unknown);
                }
                Passage::Opening => self.end = Some(End::Opening),
                Passage::Broken => self.end = Some(End::Unknown),
            }
        }
        true
    }
}

impl Read for PacedStream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        mut buffer: ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        while !self.pass() {
            let mut bytes = [0; READ_BYTES_MAX];
            match ready!(Pin::new(&mut self.stream).poll_read(context, &mut bytes))? {
                0 => self.end = Some(End::Client),
                read => self.unread.extend_from_slice(&bytes[..read]),
            }
        }
        if self.passed > 0 {
            self.pace.has_read();
            let moved = self.passed.min(buffer.remaining());
            buffer.put_slice(&self.unread[..moved]);
            self.unread.drain(..moved);
            self.passed -= moved;
            if self.unread.is_empty() {
                self.unread = Vec::new();
            }
        }
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
        // hyper flushes when it has handed over all that it has.
        self.pace.unsent.set(false);
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
