//! Raw bytes that no library would send: heads in pieces, frames that break the rules, connections that are cut.

use std::io::{ErrorKind, Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, SocketAddrV4, TcpStream};
use std::time::{Duration, Instant};

use rustix::net::{self, AddressFamily, SocketType};

use super::DEADLINE;

/// A server's frame: its first byte (FIN, reserved bits, opcode) and its payload.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Frame {
    pub first: u8,
    pub payload: Vec<u8>,
}

/// How the server ended a connection.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Ending {
    /// With a close frame of this code (1005: without a code).
    Code(u16),
    /// Without a close frame.
    Cut,
}

/// A bare TCP connection.
pub struct RawSocket {
    stream: TcpStream,
    unread: Vec<u8>,
}

impl RawSocket {
    /// Connects, and sends nothing yet. Writes have a deadline.
    pub fn connect(address: SocketAddr) -> Self {
        Self::of(TcpStream::connect(address).expect("the server accepts connections"))
    }

    /// Connects from this address of the machine. On the loopback device every address of 127.0.0.0/8 is one, so that a
    /// test can be several clients.
    pub fn connect_from(local: Ipv4Addr, address: SocketAddr) -> Self {
        let socket = net::socket(AddressFamily::INET, SocketType::STREAM, None).expect("a socket");
        net::bind(&socket, &SocketAddrV4::new(local, 0)).expect("an address of the loopback device");
        net::connect(&socket, &address).expect("the server accepts connections");
        Self::of(socket.into())
    }

    fn of(stream: TcpStream) -> Self {
        stream.set_nodelay(true).expect("TCP_NODELAY");
        stream.set_write_timeout(Some(DEADLINE)).expect("a write timeout");
        Self { stream, unread: Vec::new() }
    }

    /// Connects and upgrades with a token.
    pub fn upgraded(address: SocketAddr, token: &str) -> Self {
        let mut socket = Self::connect(address);
        socket.write(
            format!(
                "GET /ws?token={token} HTTP/1.1\r\nHost: {address}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
                 Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
            )
            .as_bytes(),
        );
        let head = socket.read_head();
        assert!(head.starts_with("HTTP/1.1 101 "), "{head}");
        assert!(head.contains("s3pPLMBiTxaQ9kYGzzhZRbK+xOo="), "the accept key of RFC 6455's example: {head}");
        socket
    }

    /// Writes all bytes. It is not an error if the server has ended the connection meanwhile.
    pub fn write(&mut self, bytes: &[u8]) {
        let _ = self.stream.write_all(bytes);
    }

    /// Writes all bytes. Returns false if the server has ended the connection.
    pub fn try_write(&mut self, bytes: &[u8]) -> bool {
        self.stream.write_all(bytes).is_ok()
    }

    /// Limits the time that a write waits for the server to read.
    pub fn write_within(&self, bound: Duration) {
        self.stream.set_write_timeout(Some(bound)).expect("a write timeout");
    }

    /// The same connection again, for a thread that writes while another one reads.
    pub fn second_hand(&self) -> Self {
        Self { stream: self.stream.try_clone().expect("a descriptor"), unread: Vec::new() }
    }

    /// Closes the writing side: nothing more will come.
    pub fn finish_writing(&self) {
        let _ = self.stream.shutdown(Shutdown::Write);
    }

    /// Ends the connection in both directions, also for a second hand.
    pub fn shut(&self) {
        let _ = self.stream.shutdown(Shutdown::Both);
    }

    /// Reads a response's head. The bytes after it stay unread.
    pub fn read_head(&mut self) -> String {
        let deadline = Instant::now() + DEADLINE;
        loop {
            if let Some(end) = self.unread.windows(4).position(|window| window == b"\r\n\r\n") {
                let head: Vec<u8> = self.unread.drain(..end + 4).collect();
                return String::from_utf8(head).expect("a head is text");
            }
            assert!(self.read_more(deadline), "the connection ended within the head: {:?}", self.text());
        }
    }

    /// Reads a whole response whose length is announced: its head and its body.
    pub fn read_answer(&mut self) -> (String, String) {
        let head = self.read_head();
        let length = head.lines().find_map(|line| {
            let (name, value) = line.split_once(':')?;
            name.eq_ignore_ascii_case("content-length").then(|| value.trim().parse().expect("a length"))
        });
        let length: usize = length.unwrap_or_else(|| panic!("no length in {head}"));
        let deadline = Instant::now() + DEADLINE;
        while self.unread.len() < length {
            assert!(self.read_more(deadline), "the connection ended within the body: {:?}", self.text());
        }
        let body = self.unread.drain(..length).collect();
        (head, String::from_utf8(body).expect("a body is text"))
    }

    /// Reads until the server ends the connection, and returns everything.
    pub fn read_to_end(&mut self, bound: Duration) -> String {
        let deadline = Instant::now() + bound;
        while self.read_more(deadline) {}
        self.text()
    }

    fn text(&self) -> String {
        String::from_utf8_lossy(&self.unread).into_owned()
    }

    /// The next frame, or `None` when the connection has ended.
    pub fn read_frame(&mut self) -> Option<Frame> {
        let deadline = Instant::now() + DEADLINE;
        loop {
            if let Some(frame) = self.take_frame() {
                return Some(frame);
            }
            if !self.read_more(deadline) {
                return None;
            }
        }
    }

    /// Reads until the end. Returns the text frames before it, and how the connection ended.
    pub fn read_ending(&mut self) -> (Vec<String>, Ending) {
        let mut texts = Vec::new();
        while let Some(frame) = self.read_frame() {
            match frame.first {
                0x81 => texts.push(String::from_utf8(frame.payload).expect("text frames are UTF-8")),
                0x88 if frame.payload.len() >= 2 => {
                    let code = u16::from_be_bytes([frame.payload[0], frame.payload[1]]);
                    // The echo lets the server finish the closing handshake instead of waiting for it.
                    self.write(&masked_frame(0x88, &frame.payload[..2]));
                    return (texts, Ending::Code(code));
                }
                0x88 => return (texts, Ending::Code(1005)),
                _ => {}
            }
        }
        (texts, Ending::Cut)
    }

    fn take_frame(&mut self) -> Option<Frame> {
        let (&first, &second) = (self.unread.first()?, self.unread.get(1)?);
        assert_eq!(second & 0x80, 0, "a server must not mask its frames");
        let (header, length) = match second {
            126 => (4, u16::from_be_bytes(self.unread.get(2..4)?.try_into().expect("two bytes")) as usize),
            127 => (10, u64::from_be_bytes(self.unread.get(2..10)?.try_into().expect("eight bytes")) as usize),
            short => (2, usize::from(short)),
        };
        if self.unread.len() < header + length {
            return None;
        }
        let payload = self.unread.drain(..header + length).skip(header).collect();
        Some(Frame { first, payload })
    }

    /// Reads once. Returns false when the connection has ended.
    fn read_more(&mut self, deadline: Instant) -> bool {
        let left = deadline.saturating_duration_since(Instant::now()).max(Duration::from_millis(1));
        self.stream.set_read_timeout(Some(left)).expect("a read timeout");
        let mut buffer = [0; 16 * 1024];
        match self.stream.read(&mut buffer) {
            Ok(0) => false,
            Ok(count) => {
                self.unread.extend_from_slice(&buffer[..count]);
                true
            }
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
                panic!("the server neither answered nor ended the connection; so far: {:?}", self.text())
            }
            Err(_) => false,
        }
    }

    /// The TCP stream. All bytes that came must have been read.
    pub fn into_stream(self) -> TcpStream {
        assert!(self.unread.is_empty(), "unread: {:?}", self.text());
        self.stream
    }
}

/// A client's frame: any first byte, masked as RFC 6455 requires of clients.
pub fn masked_frame(first: u8, payload: &[u8]) -> Vec<u8> {
    const MASK: [u8; 4] = [0x37, 0xfa, 0x21, 0x3d];
    let mut frame = header(first, payload.len(), 0x80);
    frame.extend_from_slice(&MASK);
    frame.extend(payload.iter().zip(MASK.iter().cycle()).map(|(byte, mask)| byte ^ mask));
    frame
}

/// An unmasked frame, which only a server may send.
pub fn unmasked_frame(first: u8, payload: &[u8]) -> Vec<u8> {
    let mut frame = header(first, payload.len(), 0);
    frame.extend_from_slice(payload);
    frame
}

fn header(first: u8, length: usize, mask_bit: u8) -> Vec<u8> {
    match length {
        0..126 => vec![first, mask_bit | length as u8],
        126..=0xffff => {
            let mut header = vec![first, mask_bit | 126];
            header.extend((length as u16).to_be_bytes());
            header
        }
        _ => {
            let mut header = vec![first, mask_bit | 127];
            header.extend((length as u64).to_be_bytes());
            header
        }
    }
}
