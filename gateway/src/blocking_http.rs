//! HTTP on a plain thread, for answers that must not depend on the shards: to operators (`admin.rs`), and to every
//! client before the store answers (`waiting.rs`).
//!
//! A server takes one connection at a time and one request on each, and bounds the time of both sides. hyper reads and
//! writes. The sockets block, so hyper has nothing to wait for and needs no runtime: the thread polls it to the end.

use std::cell::RefCell;
use std::convert::Infallible;
use std::future::{Future, ready};
use std::io::{self, PipeReader, PipeWriter, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::os::fd::OwnedFd;
use std::pin::{Pin, pin};
use std::task::{Context, Poll, Waker};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use hyper::Request;
use hyper::body::Incoming;
use hyper::rt::ReadBufCursor;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use rustix::event::{PollFd, PollFlags, poll};
use rustix::net::{SocketFlags, accept_with};

use crate::http::answer::Answer;

/// Longest request head. It is the least that hyper accepts as a bound.
const HEAD_BYTES_MAX: usize = 8 * 1024;

/// Bytes read from a socket at once.
const READ_BYTES_MAX: usize = 1024;

/// How often hyper is polled for one request. It needs one poll, and gives other tasks a turn after 16 reads and writes.
const POLLS_MAX: usize = 16;

/// How long to wait when no connection can be accepted, for example because descriptors have run out.
const RETRY: Duration = Duration::from_millis(100);

/// A server on a thread of its own. When the value is dropped, the thread ends after the client that it serves.
pub struct BlockingServer {
    over: PipeWriter,
    thread: JoinHandle<()>,
}

impl BlockingServer {
    /// Starts to serve the connections of these listeners, which must not block. A client may take `patience` to send
    /// its request, and as long again to read its answer.
    pub fn start(
        name: &str,
        listeners: Vec<OwnedFd>,
        patience: Duration,
        mut respond: impl FnMut(&Request<Incoming>) -> Answer + Send + 'static,
    ) -> io::Result<Self> {
        let (seen, over) = io::pipe()?;
        let mut door = Door { listeners, over: seen, spare: None };
        let serve = move || {
            while let Some(arrived) = door.wait() {
                for stream in arrived {
                    attend(stream, patience, &mut respond);
                }
            }
        };
        let thread = thread::Builder::new().name(name.to_owned()).spawn(serve)?;
        Ok(Self { over, thread })
    }

    /// Waits until the last client is served.
    pub fn close(self) {
        drop(self.over);
        let _ = self.thread.join();
    }
}

/// Where clients come in.
struct Door {
    listeners: Vec<OwnedFd>,
    /// Readable when the server is to end.
    over: PipeReader,
    /// Operators look when descriptors have run out, so one is kept back for them.
    spare: Option<PipeReader>,
}

impl Door {
    /// Waits for clients: at most one of each listener. Returns `None` when the server is to end.
    fn wait(&mut self) -> Option<Vec<TcpStream>> {
        // Before the wait: in the meantime the shards take every descriptor that is free.
        if self.spare.is_none() {
            self.spare = self.over.try_clone().ok();
        }
        let mut polled = vec![PollFd::new(&self.over, PollFlags::IN)];
        polled.extend(self.listeners.iter().map(|listener| PollFd::new(listener, PollFlags::IN)));
        if poll(&mut polled, None).is_err() {
            thread::sleep(RETRY);
            return Some(Vec::new());
        }
        let mut ready = polled.iter().map(|polled| !polled.revents().is_empty());
        if ready.next() == Some(true) {
            return None;
        }
        let ready: Vec<bool> = ready.collect();
        let ready = ready.into_iter().enumerate().filter_map(|(number, is_ready)| is_ready.then_some(number));
        Some(ready.filter_map(|number| self.accept(number)).collect())
    }

    fn accept(&mut self, listener: usize) -> Option<TcpStream> {
        let accept = || accept_with(&self.listeners[listener], SocketFlags::CLOEXEC);
        let accepted = accept().or_else(|error| match self.spare.take() {
            Some(spare) => {
                drop(spare);
                accept()
            }
            None => Err(error),
        });
        if accepted.is_err() {
            thread::sleep(RETRY);
        }
        accepted.ok().map(TcpStream::from)
    }
}

/// Serves one connection. Its errors concern only its client.
fn attend(stream: TcpStream, patience: Duration, respond: &mut dyn FnMut(&Request<Incoming>) -> Answer) {
    let respond = RefCell::new(respond);
    let service = service_fn(|request| ready(Ok::<_, Infallible>((respond.borrow_mut())(&request))));
    let socket = BlockingSocket { stream, patience, read_until: Instant::now() + patience, write_until: None };
    let connection = http1::Builder::new()
        .keep_alive(false)
        // Without this, hyper reads on while it answers, and here a read waits.
        .half_close(true)
        .header_read_timeout(None)
        .max_buf_size(HEAD_BYTES_MAX)
        .serve_connection(socket, service);
    let mut connection = pin!(connection);
    let mut context = Context::from_waker(Waker::noop());
    let _ = (0..POLLS_MAX).find(|_| connection.as_mut().poll(&mut context).is_ready());
}

/// A socket for hyper that is always ready, because its reads and writes wait.
struct BlockingSocket {
    stream: TcpStream,
    patience: Duration,
    read_until: Instant,
    /// Set by the first write.
    write_until: Option<Instant>,
}

impl hyper::rt::Read for BlockingSocket {
    fn poll_read(mut self: Pin<&mut Self>, _: &mut Context<'_>, mut into: ReadBufCursor<'_>) -> Poll<io::Result<()>> {
        self.stream.set_read_timeout(Some(left_until(self.read_until)?))?;
        let mut buffer = [0; READ_BYTES_MAX];
        let room = into.remaining().min(READ_BYTES_MAX);
        let read = self.stream.read(&mut buffer[..room])?;
        into.put_slice(&buffer[..read]);
        Poll::Ready(Ok(()))
    }
}

impl hyper::rt::Write for BlockingSocket {
    fn poll_write(mut self: Pin<&mut Self>, _: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let patience = self.patience;
        let deadline = *self.write_until.get_or_insert_with(|| Instant::now() + patience);
        self.stream.set_write_timeout(Some(left_until(deadline)?))?;
        Poll::Ready(self.stream.write(bytes))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(self.stream.shutdown(Shutdown::Write))
    }
}

/// The time until `deadline`, as a socket's timeout.
fn left_until(deadline: Instant) -> io::Result<Duration> {
    let left = deadline.saturating_duration_since(Instant::now());
    if left.is_zero() { Err(io::ErrorKind::TimedOut.into()) } else { Ok(left) }
}
