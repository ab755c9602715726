//! Answers clients before the store does. At that time there are no shards, but the port is open: each client is told
//! to try again.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::net::{SocketFlags, accept_with};

/// How long to wait for connections before checking again whether the store has answered.
const LOOK_INTERVAL: Timespec = Timespec { tv_sec: 0, tv_nsec: 50_000_000 };
/// How long a client may take to send its request, and to read its answer.
const CLIENT_DURATION_MAX: Duration = Duration::from_millis(250);

const ANSWER: &str = "HTTP/1.1 503 Service Unavailable\r\n\
    content-type: application/json\r\n\
    content-length: 93\r\n\
    retry-after: 1\r\n\
    connection: close\r\n\r\n";
const BODY: &str = r#"{"error":"the store does not answer yet","message":"the store does not answer yet","code":14}"#;

/// Answers on the server's port until it is dropped.
pub struct WaitingRoom {
    over: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl WaitingRoom {
    /// Serves the connections of these listeners, which the caller still owns.
    pub fn open(listeners: &[OwnedFd]) -> Result<Self, String> {
        let listeners = listeners.iter().map(OwnedFd::try_clone).collect::<Result<Vec<_>, _>>();
        let listeners = listeners.map_err(|error| error.to_string())?;
        let over = Arc::new(AtomicBool::new(false));
        let seen = over.clone();
        let room = thread::Builder::new().name("waiting".into()).spawn(move || {
            while !seen.load(Ordering::Acquire) {
                serve_once(&listeners);
            }
        });
        Ok(Self { over, thread: Some(room.map_err(|error| error.to_string())?) })
    }
}

impl Drop for WaitingRoom {
    fn drop(&mut self) {
        self.over.store(true, Ordering::Release);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn serve_once(listeners: &[OwnedFd]) {
    let mut ready: Vec<_> = listeners.iter().map(|listener| PollFd::new(listener, PollFlags::IN)).collect();
    if poll(&mut ready, Some(&LOOK_INTERVAL)).is_err() {
        return;
    }
    let ready: Vec<_> = ready.iter().map(|polled| polled.revents().contains(PollFlags::IN)).collect();
    for (listener, _) in listeners.iter().zip(ready).filter(|(_, ready)| *ready) {
        if let Ok(connection) = accept_with(listener, SocketFlags::CLOEXEC) {
            // If a client does not read the answer, it tries again anyway.
            let _ = refuse(TcpStream::from(connection));
        }
    }
}

fn refuse(mut connection: TcpStream) -> std::io::Result<()> {
    connection.set_read_timeout(Some(CLIENT_DURATION_MAX))?;
    connection.set_write_timeout(Some(CLIENT_DURATION_MAX))?;
    // The request's content does not matter. But if it were left unread, closing would reset the connection and lose
    // the answer.
    let mut asked = [0; 4096];
    let _ = connection.read(&mut asked)?;
    connection.write_all(ANSWER.as_bytes())?;
    connection.write_all(BODY.as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::listeners::listeners;

    #[test]
    fn whoever_comes_too_early_is_told_so() {
        let (listening, address) = listeners("127.0.0.1:0".parse().unwrap(), 2).unwrap();
        let room = WaitingRoom::open(&listening).unwrap();
        for _ in 0..4 {
            let mut client = TcpStream::connect(address).unwrap();
            client.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
            client.write_all(b"GET /healthcheck HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
            let mut answer = String::new();
            client.read_to_string(&mut answer).unwrap();
            assert!(answer.starts_with("HTTP/1.1 503 "), "{answer}");
            let body = answer.split("\r\n\r\n").nth(1).unwrap();
            assert!(answer.contains(&format!("content-length: {}\r\n", body.len())), "{answer}");
            assert!(body.contains("\"code\":14"), "{body}");
        }
        drop(room);
        assert_eq!(listening.len(), 2);
    }
}
