//! The reading client: all connections run in one thread, and each requests the same page again as soon as it has it.
//!
//! First it reads the page once to learn the answer. From then on it compares every answer with that one, byte for
//! byte; only the `date` may differ.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use rustix::event::epoll;
use rustix::io::Errno;
use rustix::net::{RecvFlags, SendFlags, recv, send};

use crate::sockets;

const ANSWER_TIME_MAX: Duration = Duration::from_secs(10);
const ANSWER_BYTES_MAX: usize = 4 << 20;

/// A request, and its first answer.
pub struct Page {
    address: SocketAddr,
    request: Vec<u8>,
    head_bytes: usize,
    pub body: Vec<u8>,
}

impl Page {
    /// Reads a page once. Any status but 200 is a failure.
    pub fn read(address: SocketAddr, path: &str, token: &str) -> io::Result<Page> {
        let request = format!("GET {path} HTTP/1.1\r\nHost: {address}\r\nAuthorization: Bearer {token}\r\n\r\n");
        let mut socket = connect(address)?;
        socket.write_all(request.as_bytes())?;
        let (mut answer, mut piece) = (Vec::new(), [0; 16 << 10]);
        loop {
            if let Some((head_bytes, body_bytes)) = frame(&answer)?
                && answer.len() == head_bytes + body_bytes
            {
                let body = answer.split_off(head_bytes);
                return Ok(Page { address, request: request.into_bytes(), head_bytes, body });
            }
            match socket.read(&mut piece)? {
                0 => return Err(io::Error::other("the server ended the connection within an answer")),
                got => answer.extend_from_slice(&piece[..got]),
            }
        }
    }

    /// How often the page is read in `duration` over so many connections. Each connection first reads it once without
    /// counting.
    pub fn read_for(&self, duration: Duration, connections: usize) -> io::Result<u64> {
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
        let mut readers = Vec::with_capacity(connections);
        for number in 0..connections as u64 {
            let socket = connect(self.address)?;
            epoll::add(&epoll, &socket, epoll::EventData::new_u64(number), epoll::EventFlags::IN)?;
            let mut reader = Reader { socket, answer: vec![0; self.answer_bytes()], got: 0 };
            reader.ask(&self.request)?;
            readers.push(reader);
        }
        let mut warming = connections;
        let (mut begun, mut reads) = (Instant::now(), 0);
        while warming > 0 || begun.elapsed() < duration {
            for event in ready(&epoll, connections)? {
                let reader = &mut readers[event.data.u64() as usize];
                if !reader.take(self)? {
                    continue;
                }
                reader.ask(&self.request)?;
                // Every connection has sent a request by now. Counting begins after each of them has got its first
                // answer.
                if warming > 0 {
                    warming -= 1;
                    begun = Instant::now();
                } else {
                    reads += 1;
                }
            }
        }
        Ok(reads)
    }

    fn answer_bytes(&self) -> usize {
        self.head_bytes + self.body.len()
    }
}

struct Reader {
    socket: TcpStream,
    answer: Vec<u8>,
    got: usize,
}

impl Reader {
    fn ask(&mut self, request: &[u8]) -> io::Result<()> {
        self.got = 0;
        let sent = send(&self.socket, request, SendFlags::DONTWAIT | SendFlags::NOSIGNAL)?;
        if sent == request.len() { Ok(()) } else { Err(io::Error::other("a request did not fit into an empty socket")) }
    }

    /// Reads what has arrived. Returns whether the answer is complete.
    fn take(&mut self, page: &Page) -> io::Result<bool> {
        match recv(&self.socket, &mut self.answer[self.got..], RecvFlags::DONTWAIT) {
            Ok((0, _)) => return Err(io::Error::other("the server ended a connection")),
            Ok((got, _)) => self.got += got,
            Err(Errno::AGAIN | Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
        if self.got < self.answer.len() {
            return Ok(false);
        }
        if self.answer.starts_with(b"HTTP/1.1 200 ") && self.answer[page.head_bytes..] == page.body {
            return Ok(true);
        }
        let begin = String::from_utf8_lossy(&self.answer[..self.answer.len().min(400)]);
        Err(io::Error::other(format!("another answer than the first, beginning with: {begin}")))
    }
}

fn connect(address: SocketAddr) -> io::Result<TcpStream> {
    let socket = TcpStream::connect(address)?;
    socket.set_nodelay(true)?;
    socket.set_read_timeout(Some(ANSWER_TIME_MAX))?;
    Ok(socket)
}

/// The connections with something to read. If none becomes readable in time, that is a failure.
fn ready(epoll: &rustix::fd::OwnedFd, connections: usize) -> io::Result<Vec<epoll::Event>> {
    let begun = Instant::now();
    let events = sockets::ready(epoll, connections, ANSWER_TIME_MAX)?;
    if events.is_empty() && begun.elapsed() >= ANSWER_TIME_MAX {
        return Err(io::Error::other(format!("nothing was answered for {ANSWER_TIME_MAX:?}")));
    }
    Ok(events)
}

/// The lengths of head and body, once the head is complete.
fn frame(answer: &[u8]) -> io::Result<Option<(usize, usize)>> {
    let Some(end) = answer.windows(4).position(|four| four == b"\r\n\r\n") else { return Ok(None) };
    let head = String::from_utf8_lossy(&answer[..end]).to_ascii_lowercase();
    let length = head.lines().find_map(|line| line.strip_prefix("content-length:")?.trim().parse().ok());
    match length {
        Some(length) if head.starts_with("http/1.1 200 ") && length <= ANSWER_BYTES_MAX => Ok(Some((end + 4, length))),
        _ => Err(io::Error::other(format!("answered with: {head}"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_framed_by_its_length() {
        let check = |answer: &str, expected| assert_eq!(frame(answer.as_bytes()).ok(), expected, "{answer}");
        check("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}", Some(Some((38, 2))));
        check("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n", Some(None));
        check("HTTP/1.1 401 No\r\nContent-Length: 2\r\n\r\n{}", None);
        check("HTTP/1.1 200 OK\r\n\r\n", None);
        check("HTTP/1.1 200 OK\r\nContent-Length: 99999999999\r\n\r\n", None);
    }

    #[test]
    fn every_answer_is_read_and_compared() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        // The tenth answer of a connection is different.
        let server = move || {
            for socket in listener.incoming().take(3) {
                std::thread::spawn(move || -> io::Result<()> {
                    let (mut socket, mut piece) = (socket?, [0; 1024]);
                    for number in 1.. {
                        if socket.read(&mut piece)? == 0 {
                            break;
                        }
                        let body = if number == 10 { "{-}" } else { "{+}" };
                        write!(socket, "HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\n{body}")?;
                    }
                    Ok(())
                });
            }
        };
        let server = std::thread::spawn(server);
        let page = Page::read(address, "/", "token").unwrap();
        assert_eq!(page.body, b"{+}");
        let error = page.read_for(Duration::from_secs(60), 2).unwrap_err().to_string();
        assert!(error.contains("another answer"), "{error}");
        server.join().unwrap();
    }
}
