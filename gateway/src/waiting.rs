//! Answers clients before the store does. At that time there are no shards, but the port is open: each client is told
//! to try again. A start that is quick enough refuses no client: its connections wait in the listeners' queues.

use std::borrow::Cow;
use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use hyper::header::{HeaderValue, RETRY_AFTER};
use hyper::{Request, StatusCode};
use parking_lot::Mutex;

use crate::health::ALIVE;
use crate::http::answer::{self, Answer};
use crate::http::error::{Code, Refusal};
use crate::threaded_http::ThreadedServer;

/// How long a start may take before clients are refused.
const SILENCE_MAX: Duration = Duration::from_millis(200);
/// How long a client may take to send its request, and to read its answer.
const CLIENT_DURATION_MAX: Duration = Duration::from_millis(250);

/// What clients are told.
type Reason = Arc<Mutex<Cow<'static, str>>>;

/// Refuses every request if the start takes long, until it is dropped.
pub struct WaitingRoom {
    reason: Reason,
    /// Dropping it ends the thread.
    over: Option<Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl WaitingRoom {
    /// Waits beside the start, on these listeners or those that they were cloned of. Fails if no thread is left.
    ///
    /// Give no listener with TLS, and no socket of this machine: their clients wait until the shards accept them.
    pub fn open(listeners: Vec<OwnedFd>) -> io::Result<Self> {
        let (over, seen) = channel();
        let reason: Reason = Arc::new(Mutex::new(Cow::Borrowed("the store does not answer yet")));
        let told = reason.clone();
        let thread = thread::Builder::new().name("start".into()).spawn(move || wait(listeners, &seen, told))?;
        Ok(Self { reason, over: Some(over), thread: Some(thread) })
    }

    /// From now on clients are told this reason.
    pub fn tell(&self, reason: String) {
        *self.reason.lock() = Cow::Owned(reason);
    }
}

impl Drop for WaitingRoom {
    fn drop(&mut self) {
        self.over = None;
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn wait(listeners: Vec<OwnedFd>, over: &Receiver<()>, reason: Reason) {
    if over.recv_timeout(SILENCE_MAX) != Err(RecvTimeoutError::Timeout) {
        return;
    }
    let respond = move |request: &Request<_>| respond(request, &reason);
    match ThreadedServer::start("waiting", listeners, CLIENT_DURATION_MAX, respond) {
        Ok(server) => {
            let _ = over.recv();
            server.close();
        }
        // The start goes on, and its clients wait.
        Err(error) => tracing::warn!(%error, "clients cannot be told that the start takes long"),
    }
}

fn respond<B>(request: &Request<B>, reason: &Reason) -> Answer {
    // A supervisor must not end a server for a start that takes long.
    if request.uri().path() == "/healthz" {
        return answer::text(StatusCode::OK, ALIVE);
    }
    let reason = reason.lock().clone();
    let mut answer = answer::refused(&Refusal::new(Code::Unavailable, reason));
    answer.headers_mut().insert(RETRY_AFTER, HeaderValue::from_static("1"));
    answer
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::net::TcpStream;

    use super::*;
    use crate::listeners::listeners;

    #[test]
    fn a_client_that_comes_too_early_is_told_so() {
        let (listening, address) = listeners("127.0.0.1:0".parse().unwrap(), 2).unwrap();
        let clones = listening.iter().map(OwnedFd::try_clone).collect::<io::Result<_>>().unwrap();
        let room = WaitingRoom::open(clones).unwrap();
        for _ in 0..4 {
            let mut client = TcpStream::connect(address).unwrap();
            client.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
            client.write_all(b"GET /healthcheck HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
            let mut answer = String::new();
            client.read_to_string(&mut answer).unwrap();
            assert!(answer.starts_with("HTTP/1.1 503 "), "{answer}");
            assert!(answer.contains("retry-after: 1\r\n"), "{answer}");
            let body = answer.split("\r\n\r\n").nth(1).unwrap();
            assert!(answer.contains(&format!("content-length: {}\r\n", body.len())), "{answer}");
            assert!(body.contains("\"code\":14"), "{body}");
        }
        room.tell("another server has the store".into());
        let mut client = TcpStream::connect(address).unwrap();
        client.write_all(b"GET /readyz HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
        let mut answer = String::new();
        client.read_to_string(&mut answer).unwrap();
        assert!(answer.starts_with("HTTP/1.1 503 ") && answer.contains("another server has the store"), "{answer}");
        let mut supervisor = TcpStream::connect(address).unwrap();
        supervisor.write_all(b"GET /healthz HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
        let mut answer = String::new();
        supervisor.read_to_string(&mut answer).unwrap();
        assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
        drop(room);
        assert_eq!(listening.len(), 2);
    }
}
