//! A glommio socket as hyper sees it: bytes that were already read come first, each step of a request has its deadline,
//! and the stream ends for hyper where it has no more to answer (`framing.rs`).

use std::borrow::Cow;
use std::cell::{Cell, RefCell};
use std::future::{Future, poll_fn};
use std::io::{self, IoSlice};
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use futures_io::{AsyncRead, AsyncWrite};
use glommio::timer::Timer;
use hyper::rt::{Read, ReadBufCursor, Write};

use super::chunks::{self, ChunkFraming};
use super::framing::{Fault, Framing, Passage};
use super::request_turns::{Beginner, READ_BYTES_TURN_MAX};
use super::secured_stream::SecuredStream;
use super::unread_answers::{Reader, UnreadAnswer};
use crate::peer::Peer;
use crate::upgrade::{HEAD_BYTES_MAX, is_worth_parsing};

/// Time for a request's head, time for its body, and time for the client to read each part of an answer that is
/// written.
const STEP_DURATION_MAX: Duration = Duration::from_secs(10);
/// The least that a client reads of an answer in that time, if so much is left. A client behind the slowest mobile
/// network reads several times as much.
const STEP_ANSWER_BYTES_MIN: usize = 32 << 10;
/// No client waits this long; only a store that never answers reaches this limit.
const ANSWER_DURATION_MAX: Duration = Duration::from_secs(30);

/// How long the server still reads from a client that keeps sending after the last answer.
const LINGER_DURATION_MAX: Duration = Duration::from_secs(2);
/// How many bytes it then reads.
pub const LINGER_BYTES_MAX: usize = 512 << 10;

/// Most bytes read at once.
const READ_BYTES_MAX: usize = 8192;

/// Pieces of an answer that begin with so few bytes are written together: its head and the beginning of its body.
const GATHERED_BYTES_MAX: usize = 16 << 10;

/// Most bytes handed to hyper at once. A read that fills hyper's buffer, which has 8 KiB at first, makes hyper double
/// it, up to 400 KiB a connection. A longer body comes in more pieces instead.
const HANDED_BYTES_MAX: usize = 8191;

/// The present step of a connection, and its deadline.
pub struct Pace {
    step: Cell<Step>,
    deadline: Cell<Instant>,
    /// When, at the latest, the client must have read `STEP_ANSWER_BYTES_MIN` of what waits for it.
    write_deadline: Cell<Option<Instant>>,
    /// Bytes of the answer that the socket has taken since that deadline was set.
    taken: Cell<usize>,
    /// Whether hyper still has the newest answer, or a part of it.
    unsent: Cell<bool>,
    /// Counts the newest answer as long as hyper has it.
    in_hand: RefCell<Option<UnreadAnswer>>,
    /// How long a connection may wait for the next request.
    keep_alive: Duration,
    /// The fault of a head that was replaced by another one for hyper.
    fault: Cell<Option<Fault>>,
    /// What has come of the newest request's body beside its data.
    chunk_framing: Cell<ChunkFraming>,
}

/// What a connection is doing. Each step has its own deadline.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Step {
    /// Nothing of the next request has arrived.
    Idle,
    Head,
    Body,
    Answer,
}

impl Pace {
    /// Begins in the step `Head`: some bytes of a head have already been read.
    pub fn new(now: Instant, keep_alive: Duration) -> Self {
        let pace = Self {
            step: Cell::new(Step::Head),
            deadline: Cell::new(now),
            write_deadline: Cell::new(None),
            taken: Cell::new(0),
            unsent: Cell::new(false),
            in_hand: RefCell::default(),
            keep_alive,
            fault: Cell::new(None),
            chunk_framing: Cell::default(),
        };
        pace.enter(Step::Head, now);
        pace
    }

    /// The fault of the original request, if the request that hyper has just handed over stands for one that cannot be
    /// answered.
    pub fn take_fault(&self) -> Option<Fault> {
        self.fault.take()
    }

    /// What has come of the newest request's body beside its data.
    pub fn chunk_framing(&self) -> ChunkFraming {
        self.chunk_framing.get()
    }

    /// Begins a step, with its deadline counted from `now`.
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

    /// Whether some of the newest answer has not been sent yet.
    pub fn is_unsent(&self) -> bool {
        self.unsent.get()
    }

    /// Call this just before hyper gets the answer to its newest request. `in_hand` counts the answer.
    pub fn answered(&self, in_hand: Option<UnreadAnswer>, now: Instant) {
        self.unsent.set(true);
        *self.in_hand.borrow_mut() = in_hand;
        self.enter(Step::Idle, now);
    }

    /// Ready when the answer has given way to others and the connection is to be closed.
    pub fn poll_displaced(&self, context: &Context<'_>) -> Poll<()> {
        self.in_hand.borrow().as_ref().map_or(Poll::Pending, |answer| answer.poll_displaced(context))
    }

    /// Who is to read the newest answer of this connection.
    pub fn reader(&self, peer: &Peer) -> Reader {
        self.in_hand.borrow().as_ref().map_or_else(|| Reader::unknown(peer.network()), UnreadAnswer::reader)
    }

    /// When the connection is given up. While an answer waits for its client, the client's reading counts alone.
    pub fn deadline(&self) -> Instant {
        self.write_deadline.get().unwrap_or(self.deadline.get())
    }

    /// Whether the client has an answer that it reads too slowly.
    pub fn is_read_too_slowly(&self, now: Instant) -> bool {
        self.write_deadline.get().is_some_and(|deadline| now >= deadline)
    }

    /// hyper no longer has an answer. If the client has read it, the time to wait for the next request begins.
    pub fn let_go(&self, now: Instant) {
        self.unsent.set(false);
        self.in_hand.take();
        if self.write_deadline.take().is_some() && self.step.get() == Step::Idle {
            self.enter(Step::Idle, now);
        }
    }

    /// Whether no request is being read or answered, and the client has read every answer. An incomplete head does not
    /// count as a request.
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
            self.taken.set(0);
        }
    }

    fn has_written(&self, bytes: usize) {
        self.taken.set(self.taken.get() + bytes);
        if self.taken.get() >= STEP_ANSWER_BYTES_MIN {
            self.write_deadline.set(None);
        }
    }
}

/// The connection, for hyper.
pub struct PacedStream {
    stream: SecuredStream,
    /// Bytes that were read and that hyper does not have. The first `passed` of them are for hyper.
    unread: Vec<u8>,
    passed: usize,
    /// The first bytes of a head that were parsed, and were not all of it.
    parsed: usize,
    framing: Framing,
    /// Lets each request begin in its turn.
    beginner: Beginner,
    /// Whether the request whose head comes next was let in.
    let_in: bool,
    /// Whether that request has come before the answer to the one before it, as far as is known.
    is_pipelined: bool,
    /// Bytes that may be read before the connection waits for a turn.
    allowance: usize,
    /// How the stream ends for hyper, once hyper has the passed bytes.
    end: Option<End>,
    pace: Rc<Pace>,
}

/// Why the stream ends for hyper.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum End {
    /// The client sends no more.
    Client,
    /// The next request opens a WebSocket.
    Opening,
    /// The end of the client's request cannot be known.
    Unknown,
}

/// What remains of a connection.
pub enum Left {
    /// A request to open a WebSocket, and the bytes that came after it.
    Opening(SecuredStream, Vec<u8>),
    /// Nothing to answer.
    Nothing(PacedStream),
}

impl PacedStream {
    /// `unread` are the bytes of the stream that were read before it was known to be HTTP.
    pub fn new(stream: SecuredStream, unread: Vec<u8>, pace: Rc<Pace>, beginner: Beginner) -> Self {
        Self {
            stream,
            unread,
            passed: 0,
            parsed: 0,
            framing: Framing::default(),
            beginner,
            let_in: false,
            is_pipelined: false,
            allowance: READ_BYTES_TURN_MAX,
            end: None,
            pace,
        }
    }

    /// What remains when hyper has nothing more to answer.
    pub fn into_left(self) -> Left {
        if self.is_opening() { Left::Opening(self.stream, self.unread) } else { Left::Nothing(self) }
    }

    fn is_opening(&self) -> bool {
        debug_assert!(self.passed <= self.unread.len(), "the passed bytes are unread ones");
        self.end == Some(End::Opening) && self.passed == 0 && !self.pace.unsent.get()
    }

    /// Ends the connection so that the client can read the last answer: closing a socket with unread bytes resets the
    /// connection, and the client may lose that answer.
    pub async fn close(mut self) {
        let deadline = Timer::new(LINGER_DURATION_MAX);
        let unsent = self.end != Some(End::Client) && !(self.framing.is_between_requests() && self.unread.is_empty());
        let mut deadline = pin!(deadline);
        let _ = poll_fn(|context| Pin::new(&mut self.stream).poll_close(context)).await;
        let mut discarded = 0;
        poll_fn(|context| {
            while discarded < LINGER_BYTES_MAX {
                if self.poll_allowance(context).is_pending() {
                    return deadline.as_mut().poll(context).map(drop);
                }
                match self.poll_receive(context, &mut [0; READ_BYTES_MAX]) {
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

    /// Ready when the connection may read: at once, or in a next turn of the shard if it has read its part of this one.
    fn poll_allowance(&mut self, context: &Context<'_>) -> Poll<()> {
        if self.allowance == 0 {
            ready!(self.beginner.poll_begin(true, context));
            self.allowance = READ_BYTES_TURN_MAX;
        }
        Poll::Ready(())
    }

    /// Reads from the socket, within the allowance.
    fn poll_receive(&mut self, context: &mut Context<'_>, bytes: &mut [u8]) -> Poll<io::Result<usize>> {
        debug_assert!(self.allowance > 0, "a read of no bytes looks like the end of the stream");
        let most = bytes.len().min(self.allowance);
        let read = ready!(Pin::new(&mut self.stream).poll_read(context, &mut bytes[..most]));
        if let Ok(read) = read {
            self.allowance -= read;
        }
        Poll::Ready(read)
    }

    /// Ready unless bytes of a next request are here and it may not begin yet.
    fn poll_begin(&mut self, context: &Context<'_>) -> Poll<()> {
        let is_new = self.passed == 0 && self.end.is_none() && self.framing.is_between_requests();
        if is_new && !self.let_in && !self.unread.is_empty() {
            self.pace.has_read();
            ready!(self.beginner.poll_begin(self.is_pipelined, context));
            (self.let_in, self.allowance) = (true, READ_BYTES_TURN_MAX);
        }
        Poll::Ready(())
    }

    /// Passes on those unread bytes that are for hyper. Returns false when more bytes have to be read first.
    fn pass(&mut self) -> bool {
        while self.passed == 0 && self.end.is_none() {
            let is_new = self.framing.is_between_requests();
            let passage = self.next_passage();
            if is_new && !matches!(passage, Passage::NeedMore | Passage::Skip(_)) {
                (self.let_in, self.is_pipelined) = (false, true);
            }
            match passage {
                Passage::NeedMore if self.unread.is_empty() => return false,
                Passage::NeedMore => {
                    debug_assert!(
                        self.unread.len() <= HEAD_BYTES_MAX,
                        "more bytes than a head or trailers may have wait"
                    );
                    self.parsed = self.unread.len();
                    self.pace.has_read();
                    return false;
                }
                Passage::Skip(bytes) => {
                    debug_assert!(bytes > 0, "each passage goes on");
                    self.unread.drain(..bytes);
                }
                Passage::Pass(bytes) => {
                    debug_assert!(0 < bytes && bytes <= self.unread.len(), "{bytes} of {} bytes", self.unread.len());
                    self.passed = bytes;
                }
                Passage::Rewrite { read, head } => {
                    debug_assert!(read > 0 && !head.is_empty(), "a head stands for another one");
                    self.passed = head.len();
                    self.unread.splice(..read, head);
                }
                Passage::Chunk { read, data, is_end } => {
                    let chunk = chunks::encode(&data, is_end);
                    self.passed = chunk.len();
                    self.unread.splice(..read, chunk);
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

    fn next_passage(&mut self) -> Passage {
        let parsed = std::mem::take(&mut self.parsed);
        if self.framing.is_between_requests() && !is_worth_parsing(&self.unread, parsed) {
            return Passage::NeedMore;
        }
        let passage = self.framing.next(&self.unread);
        self.pace.chunk_framing.set(self.framing.chunk_framing());
        passage
    }
}

impl Read for PacedStream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        mut buffer: ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        loop {
            ready!(self.poll_begin(context));
            if self.pass() {
                break;
            }
            ready!(self.poll_allowance(context));
            let mut bytes = [0; READ_BYTES_MAX];
            let Poll::Ready(read) = self.poll_receive(context, &mut bytes) else {
                self.is_pipelined = false;
                return Poll::Pending;
            };
            match read? {
                0 => self.end = Some(End::Client),
                read => self.unread.extend_from_slice(&bytes[..read]),
            }
        }
        if self.passed > 0 {
            self.pace.has_read();
            let moved = self.passed.min(buffer.remaining()).min(HANDED_BYTES_MAX);
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
            Poll::Pending => {
                self.pace.write_waits();
                // A connection that waits for its client may read nothing for a long time. It would keep a place among
                // those that are let in. When the client reads, hyper reads again, and so asks again.
                self.beginner.leave();
            }
            Poll::Ready(Ok(bytes)) => self.pace.has_written(bytes),
            Poll::Ready(Err(_)) => {}
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

    /// Makes hyper keep an answer as it is. Otherwise hyper would copy each answer into a buffer of the connection, and
    /// keep a buffer of that length until the connection ends.
    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        // hyper flushes when it has handed over all of its output. What TLS has of it must be read as well.
        let flushed = Pin::new(&mut self.stream).poll_flush(context);
        match flushed {
            Poll::Pending => self.pace.write_waits(),
            Poll::Ready(_) => self.pace.let_go(Instant::now()),
        }
        flushed
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_close(context)
    }
}

/// The first of these bytes, for one write. Nothing is copied if the first piece is long, or the only one.
pub fn gathered<'a>(pieces: &'a [IoSlice<'_>]) -> Cow<'a, [u8]> {
    let first = pieces.iter().position(|piece| !piece.is_empty()).unwrap_or_default();
    match &pieces[first..] {
        [] => Cow::Borrowed(&[]),
        [piece] => Cow::Borrowed(piece),
        [piece, ..] if piece.len() >= GATHERED_BYTES_MAX => Cow::Borrowed(piece),
        pieces => {
            let mut gathered = Vec::with_capacity(GATHERED_BYTES_MAX);
            for piece in pieces {
                let room = GATHERED_BYTES_MAX - gathered.len();
                gathered.extend_from_slice(&piece[..room.min(piece.len())]);
            }
            Cow::Owned(gathered)
        }
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

    #[test]
    fn an_answer_must_be_read_at_the_least_rate() {
        const KEEP_ALIVE: Duration = Duration::from_secs(1);
        let now = Instant::now();
        let pace = Pace::new(now, KEEP_ALIVE);
        pace.answered(None, now);
        pace.write_waits();
        let deadline = pace.deadline();
        assert!(deadline > now + KEEP_ALIVE, "the wait for a next request has not begun");
        pace.has_written(STEP_ANSWER_BYTES_MIN - 1);
        pace.write_waits();
        assert_eq!(pace.deadline(), deadline, "too little");
        assert!(pace.is_read_too_slowly(deadline) && !pace.is_read_too_slowly(now));
        pace.has_written(1);
        assert!(!pace.is_read_too_slowly(deadline), "enough");
        pace.write_waits();
        pace.let_go(now);
        assert!(!pace.is_read_too_slowly(deadline), "a short rest is enough too");
        assert_eq!(pace.deadline(), now + KEEP_ALIVE);
    }
}
