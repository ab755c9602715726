//! A WebSocket session that never waits: it may be refused, closed or cut, and that is a result and no failure.
//!
//! It opens, answers the server's pings, and shows every other frame. It leaves the meaning of a frame to its user.

use std::io;
use std::net::{SocketAddr, TcpStream};

use rustix::event::epoll;
use rustix::fd::OwnedFd;
use rustix::io::Errno;
use rustix::net::{RecvFlags, recv};

use crate::dialect::Dialect;
use crate::frames;
use crate::skimmer::{Skimmed, Skimmer};
use crate::sockets::{self, Outgoing};

const HEAD_END: &[u8] = b"\r\n\r\n";
const HEAD_BYTES_MAX: usize = 8 << 10;
/// Reads of one session in a row, so that a session with much to read does not keep the others waiting.
const READS_MAX: usize = 4;

pub struct Session {
    socket: TcpStream,
    /// The received part of the answer's head, until the session is open.
    opening: Option<Vec<u8>>,
    skimmer: Skimmer,
    outgoing: Outgoing,
}

/// What a session hears.
pub enum Heard<'a> {
    /// It is open now.
    Opened,
    Frame(Skimmed<'a>),
}

/// Why a session is over.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Ending {
    /// The opening was answered with this status.
    Refused(u16),
    /// The server closed it with this code; 1005 if it gave none.
    Closed(u16),
    /// The connection ended without a word, or the server's bytes were no frames.
    Cut(String),
}

impl std::fmt::Display for Ending {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Ending::Refused(status) => write!(formatter, "opening refused with {status}"),
            Ending::Closed(code) => write!(formatter, "closed with {code}"),
            Ending::Cut(reason) => write!(formatter, "cut: {reason}"),
        }
    }
}

impl Session {
    /// Begins to open a session with the head of its request, from the local address of this number, and adds it to an
    /// epoll set.
    pub fn open(server: SocketAddr, number: u8, head: &[u8], epoll: &OwnedFd, index: usize) -> io::Result<Session> {
        let socket = sockets::begin_to_connect(server, number)?;
        watch(epoll, &socket, index)?;
        let mut session =
            Session { socket, opening: Some(Vec::new()), skimmer: Skimmer::default(), outgoing: Outgoing::default() };
        session.outgoing.bytes().extend_from_slice(head);
        Ok(session)
    }

    /// Appends frames with `put`, and sends what the kernel takes.
    pub fn say(&mut self, put: impl FnOnce(&mut Vec<u8>)) -> Result<(), Ending> {
        put(self.outgoing.bytes());
        self.outgoing.flush(&self.socket).map_err(cut)
    }

    /// Whether all that was said has left.
    pub fn has_sent_all(&self) -> bool {
        self.outgoing.is_empty()
    }

    /// Sends what waits, and reads what has come. To be called when the socket's epoll set names it.
    pub fn pump(&mut self, buffer: &mut [u8], mut hear: impl FnMut(Heard<'_>)) -> Result<(), Ending> {
        self.outgoing.flush(&self.socket).map_err(cut)?;
        for _ in 0..READS_MAX {
            match recv(&self.socket, &mut *buffer, RecvFlags::DONTWAIT) {
                Ok((0, _)) => return Err(Ending::Cut("end of stream".into())),
                Ok((got, _)) => self.take_in(&buffer[..got], &mut hear)?,
                Err(Errno::AGAIN | Errno::NOTCONN) => return Ok(()),
                Err(Errno::INTR) => {}
                Err(error) => return Err(cut(error.into())),
            }
        }
        Ok(())
    }

    fn take_in(&mut self, bytes: &[u8], hear: &mut impl FnMut(Heard<'_>)) -> Result<(), Ending> {
        let Some(mut head) = self.opening.take() else { return self.take_in_frames(bytes, hear) };
        head.extend_from_slice(bytes);
        let Some(end) = head.windows(HEAD_END.len()).position(|window| window == HEAD_END) else {
            let endless = head.len() > HEAD_BYTES_MAX;
            self.opening = Some(head);
            return if endless { Err(Ending::Cut("an endless head".into())) } else { Ok(()) };
        };
        let (head, frames) = head.split_at(end + HEAD_END.len());
        let text = String::from_utf8_lossy(head);
        if !Dialect::is_upgrade(&text) {
            return Err(Ending::Refused(status_of(&text)));
        }
        hear(Heard::Opened);
        self.take_in_frames(frames, hear)
    }

    fn take_in_frames(&mut self, bytes: &[u8], hear: &mut impl FnMut(Heard<'_>)) -> Result<(), Ending> {
        let (mut over, mut pings) = (None, Vec::new());
        let taken = self.skimmer.take_in(bytes, |frame| match (frame.opcode, frame.payload) {
            (frames::PING, payload) => {
                frames::put_client_frame(frames::PONG, payload, &mut pings);
            }
            (frames::CLOSE, [high, low, ..]) => over = Some(Ending::Closed(u16::from_be_bytes([*high, *low]))),
            (frames::CLOSE, _) => over = Some(Ending::Closed(1005)),
            _ => hear(Heard::Frame(frame)),
        });
        taken.map_err(|illegal| Ending::Cut(illegal.to_string()))?;
        if !pings.is_empty() {
            self.say(|out| out.append(&mut pings))?;
        }
        over.map_or(Ok(()), Err)
    }

    /// Cuts the connection with a reset.
    pub fn reset(self) -> io::Result<()> {
        sockets::reset(self.socket)
    }
}

/// Adds a socket to an epoll set, which names it whenever bytes come or can be sent again.
pub fn watch(epoll: &OwnedFd, socket: &TcpStream, index: usize) -> io::Result<()> {
    let flags = epoll::EventFlags::IN | epoll::EventFlags::OUT | epoll::EventFlags::RDHUP | epoll::EventFlags::ET;
    Ok(epoll::add(epoll, socket, epoll::EventData::new_u64(index as u64), flags)?)
}

/// The status of an answer; 0 if its head has none.
pub fn status_of(head: &str) -> u16 {
    head.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap_or(0)
}

fn cut(error: io::Error) -> Ending {
    Ending::Cut(error.to_string())
}
