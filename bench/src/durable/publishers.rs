//! Publishers in one thread. Each keeps a fixed number of sends unanswered and sends the next message when an
//! acknowledgement has come.

use std::collections::VecDeque;
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use rustix::event::epoll;
use rustix::io::Errno;
use rustix::net::{RecvFlags, SendFlags, recv, send};

use super::Answers;
use crate::dialect::{ACK_PREFIX, Dialect, JOINED_PREFIX, Persistence, Publication};
use crate::failure::{Failure, world};
use crate::frames::{self, Remainder};
use crate::received::empty_histogram;
use crate::sockets::ready;

/// Requests that one publisher has in flight. For more requests in flight there are more publishers.
pub const REQUESTS_PER_PUBLISHER: usize = 32;
const BUFFER_BYTES: usize = 256 << 10;
const EVENTS_MAX: usize = 512;
const ANSWER_TIME_MAX: Duration = Duration::from_secs(20);

pub struct Publishers {
    clock: Instant,
    epoll: rustix::fd::OwnedFd,
    lines: Vec<Line>,
    buffer: Box<[u8]>,
    counter: u32,
    latency_us: Histogram<u64>,
    last_ack_ns: u64,
}

/// One publisher's connection.
struct Line {
    socket: TcpStream,
    remainder: Remainder,
    publication: Publication,
    pending: Vec<u8>,
    /// When each unanswered message was sent. Acknowledgements come in the same order.
    unanswered: VecDeque<u64>,
}

impl Publishers {
    /// Connects the publishers and lets them join one after the other, spread over the rooms.
    pub fn join(
        address: SocketAddr,
        token: &str,
        count: usize,
        rooms: usize,
        content_bytes: usize,
    ) -> Result<Publishers, Failure> {
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
        let mut lines = Vec::new();
        for number in 0..count {
            let room = format!("durable-{:04}", number % rooms);
            let dialect = Dialect::Stentor { token: token.into(), persistence: Persistence::Kept, room };
            let line = Line::join(address, &dialect, content_bytes).map_err(world("join a publisher"))?;
            let key = epoll::EventData::new_u64(number as u64);
            epoll::add(&epoll, &line.socket, key, epoll::EventFlags::IN)?;
            lines.push(line);
        }
        Ok(Publishers {
            clock: Instant::now(),
            epoll,
            lines,
            buffer: vec![0; BUFFER_BYTES].into_boxed_slice(),
            counter: 0,
            latency_us: empty_histogram(),
            last_ack_ns: 0,
        })
    }

    /// Keeps `in_flight` sends unanswered for `duration`, then waits for the last acknowledgement.
    pub fn send_for(&mut self, in_flight: usize, duration: Duration) -> Result<Answers, Failure> {
        let busy = in_flight.div_ceil(REQUESTS_PER_PUBLISHER);
        let window = in_flight.div_ceil(busy);
        self.latency_us.reset();
        let start_ns = self.now_ns();
        let end_ns = start_ns + duration.as_nanos() as u64;
        let give_up_ns = end_ns + ANSWER_TIME_MAX.as_nanos() as u64;
        for number in 0..busy {
            self.send_up_to(number, window)?;
        }
        loop {
            let sending = self.now_ns() < end_ns;
            self.turn(if sending { window } else { 0 })?;
            let open: usize = self.lines.iter().map(|line| line.unanswered.len()).sum();
            if !sending && open == 0 {
                break;
            }
            if self.now_ns() > give_up_ns {
                return Err(Failure::Refused(format!("{open} sends were not answered within {ANSWER_TIME_MAX:?}")));
            }
        }
        let seconds = (self.last_ack_ns - start_ns) as f64 / 1e9;
        Ok(Answers::of(busy * window, seconds, &self.latency_us).named(in_flight))
    }

    /// Sends of the last run that were acknowledged, even if that run failed.
    pub fn acknowledged(&self) -> u64 {
        self.latency_us.len()
    }

    fn turn(&mut self, window: usize) -> Result<(), Failure> {
        // The thread sleeps until an acknowledgement comes, so that a server with threads on this core can use it
        // meanwhile.
        const WAIT: Duration = Duration::from_millis(1);
        let events = ready(&self.epoll, EVENTS_MAX, WAIT)?;
        for event in events {
            let number = event.data.u64() as usize;
            let acks = self.read(number)?;
            // A publisher sends only after an acknowledgement, so publishers that are not used in this run stay silent.
            let open = self.lines[number].unanswered.len();
            if acks > 0 && open < window {
                self.send_up_to(number, window)?;
            }
        }
        // Bytes that a full socket did not take before.
        for line in self.lines.iter_mut().filter(|line| !line.pending.is_empty()) {
            line.flush().map_err(world("publish"))?;
        }
        Ok(())
    }

    fn send_up_to(&mut self, number: usize, window: usize) -> Result<(), Failure> {
        let now_ns = self.now_ns();
        let line = &mut self.lines[number];
        while line.unanswered.len() < window {
            line.publication.put(self.counter, now_ns, &mut line.pending);
            line.unanswered.push_back(now_ns);
            // The counter has nine digits.
            self.counter = (self.counter + 1) % 1_000_000_000;
        }
        line.flush().map_err(world("publish"))
    }

    /// Reads what has arrived. Returns the number of acknowledgements.
    fn read(&mut self, number: usize) -> Result<usize, Failure> {
        let now_ns = self.now_ns();
        let line = &mut self.lines[number];
        let kept = line.remainder.restore(&mut self.buffer);
        let got = match recv(&line.socket, &mut self.buffer[kept..], RecvFlags::DONTWAIT) {
            Ok((0, _)) => return Err(Failure::Closed { connection: number, reason: "end of stream".into() }),
            Ok((got, _)) => got,
            Err(Errno::AGAIN | Errno::INTR) => return Ok(0),
            Err(error) => return Err(world("read")(error.into())),
        };
        let (mut acks, mut refused, mut pings) = (0, None, Vec::new());
        let (unanswered, latency_us) = (&mut line.unanswered, &mut self.latency_us);
        let heard = line.remainder.walk(&self.buffer[..kept + got], |frame| {
            if frame.opcode == frames::PING {
                frames::put_client_frame(frames::PONG, frame.payload, &mut pings);
            } else if frame.payload.starts_with(ACK_PREFIX) {
                acks += 1;
                let sent_ns = unanswered.pop_front().unwrap_or(now_ns);
                latency_us.saturating_record((now_ns - sent_ns) / 1_000);
            } else if frame.opcode == frames::CLOSE || frame.payload.starts_with(br#"{"cid":"#) {
                refused = Some(String::from_utf8_lossy(frame.payload).into_owned());
            }
        });
        heard.map_err(|source| Failure::Illegal { connection: number, source })?;
        line.pending.append(&mut pings);
        self.last_ack_ns = if acks > 0 { now_ns } else { self.last_ack_ns };
        refused.map_or(Ok(acks), |text| Err(Failure::Refused(text)))
    }

    fn now_ns(&self) -> u64 {
        self.clock.elapsed().as_nanos() as u64
    }
}

impl Answers {
    /// Sets the requested number in flight. The actual number may be up to one publisher's share higher.
    fn named(self, in_flight: usize) -> Answers {
        Answers { in_flight, ..self }
    }
}

impl Line {
    fn join(address: SocketAddr, dialect: &Dialect, content_bytes: usize) -> io::Result<Line> {
        let mut socket = TcpStream::connect(address)?;
        socket.set_nodelay(true)?;
        socket.set_read_timeout(Some(ANSWER_TIME_MAX))?;
        socket.write_all(&dialect.upgrade_request().unwrap_or_default())?;
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            // One byte at a time, because the bytes after the head belong to the frames.
            let mut byte = [0];
            socket.read_exact(&mut byte)?;
            head.push(byte[0]);
        }
        let text = String::from_utf8_lossy(&head);
        if !Dialect::is_upgrade(&text) {
            return Err(io::Error::other(format!("refused: {text}")));
        }
        socket.write_all(&dialect.member_request())?;
        let publication = dialect.publication(content_bytes);
        let (pending, unanswered) = (Vec::new(), VecDeque::new());
        let mut line = Line { socket, remainder: Remainder::default(), publication, pending, unanswered };
        line.wait_for_join()?;
        Ok(line)
    }

    fn wait_for_join(&mut self) -> io::Result<()> {
        let mut buffer = vec![0; BUFFER_BYTES];
        let mut joined = false;
        while !joined {
            let kept = self.remainder.restore(&mut buffer);
            let got = self.socket.read(&mut buffer[kept..])?;
            if got == 0 {
                return Err(io::Error::other("closed before the join was answered"));
            }
            let shown = |frame: frames::Frame<'_>| joined |= frame.payload.starts_with(JOINED_PREFIX);
            self.remainder.walk(&buffer[..kept + got], shown).map_err(io::Error::other)?;
        }
        Ok(())
    }

    fn flush(&mut self) -> io::Result<()> {
        let mut taken = 0;
        while taken < self.pending.len() {
            match send(&self.socket, &self.pending[taken..], SendFlags::DONTWAIT | SendFlags::NOSIGNAL) {
                Ok(some) => taken += some,
                Err(Errno::AGAIN) => break,
                Err(Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
        self.pending.drain(..taken);
        Ok(())
    }
}
