//! An HTTP client that never waits: one request at a time on a connection that is kept, and opened again if it ends. It
//! is for requests that are measured or that many users make at once; `http` is for single ones.

use std::io;
use std::net::{SocketAddr, TcpStream};

use rustix::event::epoll;
use rustix::fd::OwnedFd;
use rustix::io::Errno;
use rustix::net::{RecvFlags, recv};

use crate::session::{status_of, watch};
use crate::sockets::{Outgoing, begin_to_connect};

const HEAD_END: &[u8] = b"\r\n\r\n";

pub struct Asker {
    server: SocketAddr,
    /// The number of the local address.
    number: u8,
    index: usize,
    socket: Option<TcpStream>,
    outgoing: Outgoing,
    received: Vec<u8>,
    /// Whether a request waits for its reply.
    busy: bool,
}

/// What became of a request.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Reply {
    Answer {
        status: u16,
        body: Vec<u8>,
    },
    /// The connection ended before a whole answer.
    Cut,
}

impl Asker {
    /// Connects when it is first asked, from the local address of this number.
    pub fn new(server: SocketAddr, number: u8, index: usize) -> Asker {
        Asker { server, number, index, socket: None, outgoing: Outgoing::default(), received: Vec::new(), busy: false }
    }

    /// Whether a request waits for its reply.
    pub fn is_busy(&self) -> bool {
        self.busy
    }

    /// Sends a request. The one before must have been replied to.
    pub fn ask(&mut self, request: &[u8], epoll: &OwnedFd) -> io::Result<()> {
        let socket = match &self.socket {
            Some(socket) => socket,
            None => {
                let socket = begin_to_connect(self.server, self.number)?;
                watch(epoll, &socket, self.index)?;
                self.socket.insert(socket)
            }
        };
        assert!(!self.busy, "a request is sent while another waits for its reply");
        self.busy = true;
        self.received.clear();
        self.outgoing.bytes().extend_from_slice(request);
        // If the connection has ended, the next read says so.
        let _ = self.outgoing.flush(socket);
        Ok(())
    }

    /// Sends what waits, and reads what has come. To be called when the epoll set names it.
    pub fn pump(&mut self, buffer: &mut [u8], epoll: &OwnedFd) -> io::Result<Option<Reply>> {
        let Some(socket) = &self.socket else { return Ok(None) };
        let flushed = self.outgoing.flush(socket);
        loop {
            match recv(socket, &mut *buffer, RecvFlags::DONTWAIT) {
                Ok((got, _)) if got > 0 => self.received.extend_from_slice(&buffer[..got]),
                Err(Errno::AGAIN | Errno::NOTCONN) if flushed.is_ok() => break,
                Err(Errno::INTR) => {}
                _ => {
                    // A server may answer and end the connection.
                    let reply = whole(&self.received).unwrap_or(Reply::Cut);
                    self.hang_up(epoll)?;
                    return Ok(std::mem::take(&mut self.busy).then_some(reply));
                }
            }
        }
        let reply = whole(&self.received);
        if reply.is_some() {
            self.received.clear();
            self.busy = false;
        }
        Ok(reply)
    }

    fn hang_up(&mut self, epoll: &OwnedFd) -> io::Result<()> {
        self.outgoing = Outgoing::default();
        self.received.clear();
        self.socket.take().map_or(Ok(()), |socket| Ok(epoll::delete(epoll, &socket)?))
    }
}

/// The answer, if all of it has come. A body's length is in its head.
pub fn whole(received: &[u8]) -> Option<Reply> {
    let end = received.windows(HEAD_END.len()).position(|window| window == HEAD_END)? + HEAD_END.len();
    let head = String::from_utf8_lossy(&received[..end]).to_lowercase();
    let length = head.lines().find_map(|line| line.strip_prefix("content-length:")?.trim().parse().ok()).unwrap_or(0);
    let body = received.get(end..end + length)?.to_vec();
    Some(Reply::Answer { status: status_of(&head), body })
}

/// A request with this line, these further header lines (each with its line end) and this body.
pub fn request(line: &str, headers: &str, body: &[u8]) -> Vec<u8> {
    let length = body.len();
    let head = format!("{line} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {length}\r\n{headers}\r\n");
    [head.as_bytes(), body].concat()
}

/// The header line of a session token.
pub fn bearer(token: &str) -> String {
    format!("Authorization: Bearer {token}\r\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_whole_with_its_body() {
        let check = |bytes: &str, expected| assert_eq!(whole(bytes.as_bytes()), expected, "{bytes}");
        let answer = |status, body: &str| Some(Reply::Answer { status, body: body.into() });
        check("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n", None);
        check("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\na", None);
        check("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nab", answer(200, "ab"));
        check("HTTP/1.1 429 Too Many\r\ncontent-length: 1\r\nRetry-After: 1\r\n\r\nx", answer(429, "x"));
        check("HTTP/1.1 204 No Content\r\n\r\n", answer(204, ""));
    }
}
