//! HTTP on a thread of its own, for answers that must not depend on the shards: to operators (`admin.rs`), and to every
//! client before the store answers (`waiting.rs`).
//!
//! A server takes up to `CONNECTIONS_MAX` connections at once, answers one request on each, and bounds the time of both
//! sides. hyper reads and writes. The sockets do not block, and one `poll` waits for all of them. So a client that says
//! nothing delays no other client.

use std::cell::{Cell, RefCell};
use std::convert::Infallible;
use std::future::{Future, ready};
use std::io::{self, PipeReader, PipeWriter, Read, Write};
use std::net::{IpAddr, Shutdown, TcpStream};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{self, Context, Poll, Waker};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use hyper::Request;
use hyper::body::Incoming;
use hyper::rt::ReadBufCursor;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::net::{SocketFlags, accept_with};

use crate::http::answer::Answer;

/// Connections at once. Operators need one for each program that reads the numbers. The rest is for clients that say
/// nothing. When one more comes, the connection closes that has been idle longest.
const CONNECTIONS_MAX: usize = 32;

/// Longest request head. It is the least that hyper accepts as a bound.
const HEAD_BYTES_MAX: usize = 8 * 1024;

/// Bytes read from a socket at once.
const READ_BYTES_MAX: usize = 1024;

/// How often hyper is polled while its socket is ready. It gives other tasks a turn after 16 reads and writes.
const POLLS_MAX: usize = 16;

/// How long to wait when no connection can be accepted, for example because descriptors have run out.
const RETRY: Duration = Duration::from_millis(100);

/// A server on a thread of its own. When the value is dropped, the thread ends after the clients that it serves.
pub struct ThreadedServer {
    over: PipeWriter,
    thread: JoinHandle<()>,
}

impl ThreadedServer {
    /// Starts to serve the connections of these listeners, which must not block. A client may take `patience` to send
    /// its request, and as long again to read its answer.
    pub fn start(
        name: &str,
        listeners: Vec<OwnedFd>,
        patience: Duration,
        respond: impl FnMut(&Request<Incoming>) -> Answer + Send + 'static,
    ) -> io::Result<Self> {
        let (seen, over) = io::pipe()?;
        let door = Door { listeners, over: seen, spare: None };
        let serve = move || {
            let respond = Rc::new(RefCell::new(respond));
            Server { door: Some(door), connections: Vec::new(), patience, respond }.work();
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

/// The address of the other end of a connection, which each request carries.
#[derive(Clone, Copy)]
struct Client(IpAddr);

/// The address from which this request came. `None` if the connection was dead before it was looked at.
pub(crate) fn client_of<B>(request: &Request<B>) -> Option<IpAddr> {
    request.extensions().get().map(|Client(address)| *address)
}

type Respond = dyn FnMut(&Request<Incoming>) -> Answer;

/// What the thread has.
struct Server {
    /// `None` when the server is to end.
    door: Option<Door>,
    connections: Vec<Connection>,
    patience: Duration,
    respond: Rc<RefCell<Respond>>,
}

impl Server {
    fn work(mut self) {
        while self.door.is_some() || !self.connections.is_empty() {
            let (callers, ready) = self.wait();
            // Making an answer takes time. So a connection that is ready goes on, even if it is late by now.
            debug_assert_eq!(ready.len(), self.connections.len(), "each connection is ready or not");
            let mut ready = ready.into_iter();
            self.connections.retain_mut(|connection| {
                let goes_on = ready.next() == Some(false) || connection.advance() == Stage::UnderWay;
                goes_on && Instant::now() < connection.socket.deadline.get()
            });
            for caller in callers {
                self.admit(caller);
            }
        }
    }

    /// Waits for clients. Returns the listeners at which clients wait, and which connections are ready.
    fn wait(&mut self) -> (Vec<usize>, Vec<bool>) {
        if let Some(door) = &mut self.door {
            door.keep_spare();
        }
        let mut polled: Vec<PollFd<'_>> = self.door.iter().flat_map(Door::polled).collect();
        let at_door = polled.len();
        polled.extend(self.connections.iter().map(|connection| connection.socket.polled()));
        let deadline = self.connections.iter().map(|connection| connection.socket.deadline.get()).min();
        let timeout = deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
        let timeout = timeout.and_then(|left| Timespec::try_from(left).ok());
        if poll(&mut polled, timeout.as_ref()).is_err() {
            thread::sleep(RETRY);
        }
        let ready: Vec<bool> = polled.iter().map(|polled| !polled.revents().is_empty()).collect();
        let (door, connections) = ready.split_at(at_door);
        let connections = connections.to_vec();
        let callers = match door {
            [] => Vec::new(),
            [true, ..] => {
                self.door = None;
                Vec::new()
            }
            [_, listeners @ ..] => (0..listeners.len()).filter(|&number| listeners[number]).collect(),
        };
        (callers, connections)
    }

    /// Accepts a client at this listener, and reads what it has sent.
    fn admit(&mut self, listener: usize) {
        let Some(stream) = self.accept(listener) else { return };
        if self.connections.len() >= CONNECTIONS_MAX {
            self.close_longest_idle();
        }
        let mut connection = Connection::new(stream, self.patience, self.respond.clone());
        if connection.advance() == Stage::UnderWay {
            self.connections.push(connection);
            assert!(self.connections.len() <= CONNECTIONS_MAX, "{} connections at once", self.connections.len());
        }
    }

    /// Accepts a client. When descriptors have run out, takes the spare one, and then those of idle connections.
    fn accept(&mut self, listener: usize) -> Option<TcpStream> {
        loop {
            let door = self.door.as_mut()?;
            match accept_with(&door.listeners[listener], SocketFlags::CLOEXEC | SocketFlags::NONBLOCK) {
                Ok(descriptor) => return Some(TcpStream::from(descriptor)),
                // The client has gone again.
                Err(Errno::AGAIN | Errno::CONNABORTED | Errno::INTR) => return None,
                Err(Errno::MFILE | Errno::NFILE) if door.spare.take().is_some() => {}
                Err(Errno::MFILE | Errno::NFILE) if !self.connections.is_empty() => self.close_longest_idle(),
                Err(_) => {
                    thread::sleep(RETRY);
                    return None;
                }
            }
        }
    }

    fn close_longest_idle(&mut self) {
        let idle = self.connections.iter().enumerate().min_by_key(|(_, connection)| connection.socket.moved.get());
        if let Some(number) = idle.map(|(number, _)| number) {
            self.connections.remove(number);
        }
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
    /// Call it before each wait: during the wait the shards take every descriptor that is free.
    fn keep_spare(&mut self) {
        if self.spare.is_none() {
            self.spare = self.over.try_clone().ok();
        }
    }

    /// The end of the server first, then the listeners.
    fn polled(&self) -> impl Iterator<Item = PollFd<'_>> {
        let listeners = self.listeners.iter().map(OwnedFd::as_fd);
        let descriptors = std::iter::once(self.over.as_fd()).chain(listeners);
        descriptors.map(|descriptor: BorrowedFd<'_>| PollFd::from_borrowed_fd(descriptor, PollFlags::IN))
    }
}

/// A client's connection: its socket, and hyper's work on it.
struct Connection {
    socket: Rc<Socket>,
    answering: Pin<Box<dyn Future<Output = ()>>>,
}

/// How far a connection is.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Stage {
    UnderWay,
    Ended,
}

impl Connection {
    fn new(stream: TcpStream, patience: Duration, respond: Rc<RefCell<Respond>>) -> Self {
        let client = stream.peer_addr().ok().map(|peer| Client(peer.ip()));
        let socket = Rc::new(Socket::new(stream, patience));
        let service = service_fn(move |mut request: Request<Incoming>| {
            client.and_then(|client| request.extensions_mut().insert(client));
            ready(Ok::<_, Infallible>((respond.borrow_mut())(&request)))
        });
        let connection = http1::Builder::new()
            .keep_alive(false)
            // A client may close its writing side once it has sent its request.
            .half_close(true)
            .header_read_timeout(None)
            .max_buf_size(HEAD_BYTES_MAX)
            .serve_connection(HyperSocket(socket.clone()), service);
        // The errors of a connection concern only its client.
        Self { socket, answering: Box::pin(async { drop(connection.await) }) }
    }

    /// Reads and writes as far as the socket is ready.
    fn advance(&mut self) -> Stage {
        for _ in 0..POLLS_MAX {
            self.socket.awaited.set(PollFlags::empty());
            if self.answering.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_ready() {
                break;
            }
            if !self.socket.awaited.get().is_empty() {
                return Stage::UnderWay;
            }
        }
        Stage::Ended
    }
}

/// What the thread and hyper share of a connection.
struct Socket {
    stream: TcpStream,
    patience: Duration,
    /// What the socket was not ready for when hyper was last polled.
    awaited: Cell<PollFlags>,
    /// When the request must be complete; from the first write on, when the answer must be sent.
    deadline: Cell<Instant>,
    has_written: Cell<bool>,
    /// When bytes were last read or written.
    moved: Cell<Instant>,
}

impl Socket {
    fn new(stream: TcpStream, patience: Duration) -> Self {
        let now = Instant::now();
        Self {
            stream,
            patience,
            awaited: Cell::new(PollFlags::empty()),
            deadline: Cell::new(now + patience),
            has_written: Cell::new(false),
            moved: Cell::new(now),
        }
    }

    fn polled(&self) -> PollFd<'_> {
        PollFd::new(&self.stream, self.awaited.get())
    }

    /// Notes what a read or a write has come to.
    fn noted(&self, awaited: PollFlags, outcome: io::Result<usize>) -> Poll<io::Result<usize>> {
        match outcome {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                self.awaited.set(self.awaited.get() | awaited);
                Poll::Pending
            }
            outcome => {
                self.moved.set(Instant::now());
                Poll::Ready(outcome)
            }
        }
    }
}

/// A socket for hyper, whose wakers it does not need: the thread polls hyper when the socket is ready.
struct HyperSocket(Rc<Socket>);

impl hyper::rt::Read for HyperSocket {
    fn poll_read(self: Pin<&mut Self>, _: &mut Context<'_>, mut into: ReadBufCursor<'_>) -> Poll<io::Result<()>> {
        let mut buffer = [0; READ_BYTES_MAX];
        let room = into.remaining().min(READ_BYTES_MAX);
        let read = (&self.0.stream).read(&mut buffer[..room]);
        let read = task::ready!(self.0.noted(PollFlags::IN, read))?;
        into.put_slice(&buffer[..read]);
        Poll::Ready(Ok(()))
    }
}

impl hyper::rt::Write for HyperSocket {
    fn poll_write(self: Pin<&mut Self>, _: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        if !self.0.has_written.replace(true) {
            self.0.deadline.set(Instant::now() + self.0.patience);
        }
        self.0.noted(PollFlags::OUT, (&self.0.stream).write(bytes))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(self.0.stream.shutdown(Shutdown::Write))
    }
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use http_body_util::Full;
    use hyper::body::Bytes;

    use super::*;

    /// More than the kernel buffers for a client that does not read.
    const BODY_BYTES: usize = 32 << 20;

    #[test]
    fn a_client_that_does_not_read_delays_no_other_and_is_given_up() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        let address = listener.local_addr().unwrap();
        let body = Bytes::from(vec![b'x'; BODY_BYTES]);
        let answer = move |_: &Request<Incoming>| Answer::new(Full::new(body.clone()));
        let server = ThreadedServer::start("test", vec![listener.into()], Duration::from_secs(2), answer).unwrap();
        let ask = || {
            let mut client = TcpStream::connect(address).unwrap();
            client.write_all(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
            client.read_exact(&mut [0]).unwrap();
            client
        };
        let read = |mut client: TcpStream| {
            let mut bytes = Vec::new();
            let _ = client.read_to_end(&mut bytes);
            bytes.len()
        };
        let idle = ask();
        assert!(read(ask()) > BODY_BYTES);
        server.close();
        assert!(read(idle) < BODY_BYTES);
    }
}
