//! Publishers in one thread. Each keeps a fixed number of sends unanswered and sends the next message when an
//! acknowledgement has come. So the server sets the pace (closed loop); `publisher`, whose sending half is used here, has
//! the schedule for the open loop.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use rustix::event::epoll;

use super::Answers;
use crate::dialect::{ACK_PREFIX, Dialect, Persistence};
use crate::failure::{Failure, world};
use crate::publisher::Publisher;
use crate::received::{Rare, empty_histogram};
use crate::server::Server;
use crate::sockets::{Connection, ready};

/// Requests that one publisher has in flight. For more requests in flight there are more publishers.
pub const REQUESTS_PER_PUBLISHER: usize = 32;
const BUFFER_BYTES: usize = 256 << 10;
const EVENTS_MAX: usize = 512;
const ANSWER_TIME_MAX: Duration = Duration::from_secs(20);

pub struct Publishers {
    clock: Instant,
    epoll: rustix::fd::OwnedFd,
    lines: Vec<Line>,
    joined: usize,
    buffer: Box<[u8]>,
    counter: u32,
    /// Sends of the present run.
    sent: u64,
    latency_us: Histogram<u64>,
    last_ack_ns: u64,
}

/// One publisher's connection.
struct Line {
    connection: Connection,
    publisher: Publisher,
    /// When each unanswered message was sent. Acknowledgements come in the same order.
    unanswered: VecDeque<u64>,
}

impl Publishers {
    /// As many publishers as keep so many sends unanswered.
    pub fn for_sends(server: &Server, in_flight: usize, rooms: usize, content_bytes: usize) -> Result<Self, Failure> {
        Publishers::join(server, in_flight.div_ceil(REQUESTS_PER_PUBLISHER), rooms, content_bytes)
    }

    /// Connects the publishers and lets them join one after the other, spread over the rooms.
    pub fn join(server: &Server, count: usize, rooms: usize, content_bytes: usize) -> Result<Publishers, Failure> {
        let token = server.token()?;
        let mut publishers = Publishers {
            clock: Instant::now(),
            epoll: epoll::create(epoll::CreateFlags::CLOEXEC)?,
            lines: Vec::new(),
            joined: 0,
            buffer: vec![0; BUFFER_BYTES].into_boxed_slice(),
            counter: 0,
            sent: 0,
            latency_us: empty_histogram(),
            last_ack_ns: 0,
        };
        for number in 0..count {
            let room = format!("durable-{:04}", number % rooms);
            let dialect = Dialect::Stentor { tokens: vec![token.clone()], persistence: Persistence::Kept, room };
            let head = dialect.upgrade_request(number).unwrap_or_default();
            let connection = Connection::open(server.address, number, &head, Some(dialect.member_request()))?;
            connection.watch(&publishers.epoll, number, epoll::EventFlags::IN)?;
            let publisher = Publisher::new(number, dialect.publication(content_bytes));
            publishers.lines.push(Line { connection, publisher, unanswered: VecDeque::new() });
            let begun = Instant::now();
            while publishers.joined <= number {
                publishers.turn(0)?;
                if begun.elapsed() > ANSWER_TIME_MAX {
                    return Err(Failure::Refused(format!("a join was not answered within {ANSWER_TIME_MAX:?}")));
                }
            }
        }
        Ok(publishers)
    }

    /// Keeps `in_flight` sends unanswered for `duration`, then waits for the last acknowledgement.
    pub fn send_for(&mut self, in_flight: usize, duration: Duration) -> Result<Answers, Failure> {
        let busy = in_flight.div_ceil(REQUESTS_PER_PUBLISHER);
        let window = in_flight.div_ceil(busy);
        self.latency_us.reset();
        self.sent = 0;
        assert!(busy <= self.lines.len(), "{busy} publishers are needed, and {} have joined", self.lines.len());
        assert!(busy * window >= in_flight, "{busy} publishers with {window} sends each keep {in_flight} unanswered");
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
        assert_eq!(self.latency_us.len(), self.sent, "each send is acknowledged once");
        let seconds = (self.last_ack_ns - start_ns) as f64 / 1e9;
        // The actual number in flight may be up to one publisher's share higher.
        Ok(Answers::of(in_flight, seconds, &self.latency_us))
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
        // Bytes that a full socket did not take before, and pongs.
        self.lines.iter_mut().try_for_each(Line::flush)
    }

    fn send_up_to(&mut self, number: usize, window: usize) -> Result<(), Failure> {
        let now_ns = self.now_ns();
        let line = &mut self.lines[number];
        while line.unanswered.len() < window {
            line.publisher.put_message(self.counter, now_ns);
            line.unanswered.push_back(now_ns);
            self.sent += 1;
            // The counter has nine digits.
            self.counter = (self.counter + 1) % 1_000_000_000;
        }
        line.flush()
    }

    /// Reads what has arrived. Returns the number of acknowledgements.
    fn read(&mut self, number: usize) -> Result<usize, Failure> {
        let now_ns = self.now_ns();
        let Line { connection, publisher, unanswered } = &mut self.lines[number];
        let closed = |reason: String| Failure::Closed { connection: number, reason };
        let read = connection.receive(&mut self.buffer, BUFFER_BYTES).map_err(|error| closed(error.to_string()))?;
        let Some(length) = read else { return Ok(0) };
        let (mut acks, mut surplus_acks, mut rare, latency_us) = (0, 0, Vec::new(), &mut self.latency_us);
        connection.take_in(&self.buffer[..length], |frame| {
            if frame.payload.starts_with(ACK_PREFIX) {
                acks += 1;
                match unanswered.pop_front() {
                    Some(sent_ns) => latency_us.saturating_record((now_ns - sent_ns) / 1_000),
                    None => surplus_acks += 1,
                }
            } else {
                rare.extend(Rare::of(frame));
            }
        })?;
        if surplus_acks > 0 {
            return Err(Failure::Faulty(format!("{surplus_acks} acknowledgements came without a send")));
        }
        for rare in rare {
            match rare {
                Rare::Joined => self.joined += 1,
                Rare::Ping(payload) => publisher.put_pong(&payload),
                Rare::Closed(code, reason) => return Err(closed(format!("code {code} {reason}"))),
                Rare::Refused(text) => return Err(Failure::Refused(text)),
            }
        }
        self.last_ack_ns = if acks > 0 { now_ns } else { self.last_ack_ns };
        Ok(acks)
    }

    fn now_ns(&self) -> u64 {
        self.clock.elapsed().as_nanos() as u64
    }
}

impl Line {
    fn flush(&mut self) -> Result<(), Failure> {
        self.publisher.flush(&self.connection.socket).map_err(world("publish"))
    }
}
