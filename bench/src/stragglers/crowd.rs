//! The client process of the stragglers: members that read normally until they are told to stop, and that continue
//! later.
//!
//! A member that has stopped reading still sends something at intervals, like a client whose connection works in one
//! direction only. Otherwise the server would close it for its silence long before it is too far behind. The client
//! checks what its members receive: every message once and in order, and each missing message is named by a gap.

use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::sync::mpsc::TryRecvError;
use std::time::{Duration, Instant};

use rustix::event::epoll;
use serde::{Deserialize, Serialize};

use super::member::{Behavior, Ending, Member};
use crate::checker::{Checker, padding};
use crate::dialect::{Dialect, Persistence, upgrade_request};
use crate::failure::Failure;
use crate::received::Rare;
use crate::sockets::{Connection, OPENING_MAX, PORTS_PER_ADDRESS, ready};
use crate::{accounts, companion, cpu};

/// A turn waits this long for events, and handles at most so many.
const PATIENCE: Duration = Duration::from_millis(5);
const EVENTS_MAX: usize = 512;
const OPENING_TIME_MAX: Duration = Duration::from_secs(120);
const CATCHING_UP_TIME_MAX: Duration = Duration::from_secs(60);
/// After so long without any event, everything that was sent has arrived.
const QUIET: Duration = Duration::from_millis(300);
const TICK: Duration = Duration::from_millis(50);
/// A member that has stopped sends something once in so many ticks: every five seconds.
const TICKS_PER_WORD: usize = 100;
/// A slow member reads once in so many ticks: four times a second.
const TICKS_PER_SIP: usize = 5;
const SIPS_PER_SECOND: usize = 4;
/// What a slow member reads.
pub const SLOW_BYTES_PER_SECOND: usize = 400;
const BUFFER_BYTES: usize = 256 << 10;

/// What a client process of the stragglers has to do.
#[derive(Serialize, Deserialize)]
pub struct Options {
    pub address: SocketAddr,
    pub room: String,
    pub members: usize,
    /// How the members behave, in turn.
    pub behaviors: Vec<Behavior>,
    /// The number of the local address from which the first members connect.
    pub from_address: usize,
    /// The counter of the first message they see.
    pub next: u32,
    pub payload: usize,
}

#[derive(Serialize, Deserialize)]
pub enum Order {
    /// Stop reading, each member in its own way.
    Stop,
    /// Read everything, and report the outcome once all members that are still connected have seen `sent` messages.
    Read { sent: u32 },
}

/// The answer to each order, and the first when all members have joined; or why there is none.
pub type Answer = Result<Outcomes, String>;

/// What happened to the members of each kind. Empty where the order does not ask for it.
pub type Outcomes = BTreeMap<Behavior, Outcome>;

/// What happened to the members of one kind.
#[derive(Clone, Copy, Default, Debug, Serialize, Deserialize)]
pub struct Outcome {
    pub members: u64,
    /// Connected, and received every message, or the gaps for those it missed.
    pub caught_up: u64,
    /// Connected, and did not receive everything in time.
    pub behind: u64,
    /// Closed with code 1013 and the reason; or by a reset, if the full socket has no room for the close frame.
    pub closed_1013: u64,
    pub reset: u64,
    /// Closed with code 1000 for silence.
    pub closed_1000: u64,
    pub closed_otherwise: u64,
    pub gaps: u64,
    /// Messages that gaps covered.
    pub missed: u64,
    /// Messages that were missed without a gap, and gaps that do not name what was missed.
    pub wrong: u64,
}

struct Crowd {
    /// A user's token for each member.
    tokens: Vec<String>,
    epoll: rustix::fd::OwnedFd,
    members: Vec<Member>,
    joined: usize,
    checker: Checker,
    buffer: Vec<u8>,
    stopped: bool,
    ticks: usize,
    ticked: Instant,
    last_read: Instant,
}

/// Runs a client process.
pub fn serve() -> Result<(), Failure> {
    let options = companion::options()?;
    cpu::raise_descriptor_limit();
    match run(&options) {
        Ok(()) => Ok(()),
        Err(failure) => Ok(companion::answer(&Answer::Err(failure.to_string()))?),
    }
}

fn run(options: &Options) -> Result<(), Failure> {
    let mut crowd = Crowd::fill(options)?;
    companion::answer(&Answer::Ok(Outcomes::new()))?;
    let orders = companion::orders();
    // How many messages must be seen before the next answer, and the deadline for that.
    let mut awaited: Option<(u32, Instant)> = None;
    loop {
        match orders.try_recv() {
            Ok(Order::Stop) => {
                crowd.stop()?;
                companion::answer(&Answer::Ok(Outcomes::new()))?;
            }
            Ok(Order::Read { sent }) => {
                crowd.go_on()?;
                awaited = Some((sent, Instant::now() + CATCHING_UP_TIME_MAX));
            }
            Err(TryRecvError::Empty) => {}
            Err(TryRecvError::Disconnected) => return Ok(()),
        }
        crowd.turn()?;
        if let Some((sent, until)) = awaited
            && (crowd.has_all(sent) || Instant::now() > until)
        {
            companion::answer(&Answer::Ok(crowd.outcomes(sent)))?;
            awaited = None;
        }
    }
}

impl Crowd {
    fn fill(options: &Options) -> Result<Crowd, Failure> {
        let number = u8::try_from(options.from_address).map_err(io::Error::other)?;
        let name = format!("straggler-{number}");
        let mut crowd = Crowd {
            tokens: accounts::sign_in(options.address, number, &name, options.members)?,
            epoll: epoll::create(epoll::CreateFlags::CLOEXEC)?,
            members: Vec::with_capacity(options.members),
            joined: 0,
            checker: Checker::new(padding(options.payload)),
            buffer: vec![0; BUFFER_BYTES],
            stopped: false,
            ticks: 0,
            ticked: Instant::now(),
            last_read: Instant::now(),
        };
        let start = Instant::now();
        while crowd.joined < options.members {
            while crowd.members.len() < options.members && crowd.members.len() - crowd.joined < OPENING_MAX {
                crowd.open(options)?;
            }
            crowd.turn()?;
            if start.elapsed() > OPENING_TIME_MAX || crowd.members.iter().any(|member| member.ending.is_some()) {
                return Err(Failure::Faulty(format!("only {} of {} joined", crowd.joined, options.members)));
            }
        }
        Ok(crowd)
    }

    fn open(&mut self, options: &Options) -> Result<(), Failure> {
        let index = self.members.len();
        let behavior = options.behaviors[index % options.behaviors.len()];
        let on_lag = if behavior == Behavior::Skipping { "&on_lag=skip" } else { "" };
        let (tokens, room) = (Vec::new(), options.room.clone());
        let join = Dialect::Stentor { tokens, persistence: Persistence::Passing, room }.member_request();
        let head = upgrade_request(&self.tokens[index], on_lag);
        let place = options.from_address * PORTS_PER_ADDRESS + index;
        let connection = Connection::open(options.address, place, &head, Some(join))?;
        self.members.push(Member::new(connection, behavior, options.next));
        self.watch(index)
    }

    fn watch(&self, index: usize) -> Result<(), Failure> {
        self.members[index].connection.watch(&self.epoll, index, epoll::EventFlags::IN)
    }

    /// The indices of the members that are still connected.
    fn living(&self) -> Vec<usize> {
        (0..self.members.len()).filter(|&index| self.members[index].ending.is_none()).collect()
    }

    fn stop(&mut self) -> Result<(), Failure> {
        for index in self.living() {
            epoll::delete(&self.epoll, &self.members[index].connection.socket)?;
        }
        self.stopped = true;
        Ok(())
    }

    fn go_on(&mut self) -> Result<(), Failure> {
        if std::mem::take(&mut self.stopped) {
            self.living().into_iter().try_for_each(|index| self.watch(index))?;
        }
        self.last_read = Instant::now();
        Ok(())
    }

    fn turn(&mut self) -> Result<(), Failure> {
        for event in ready(&self.epoll, EVENTS_MAX, PATIENCE)? {
            self.read(event.data.u64() as usize, BUFFER_BYTES)?;
            self.last_read = Instant::now();
        }
        if self.stopped && self.ticked.elapsed() >= TICK {
            self.ticked = Instant::now();
            self.tick()?;
        }
        Ok(())
    }

    /// Lets some of the stopped members send something, and some of the slow members read something.
    fn tick(&mut self) -> Result<(), Failure> {
        self.ticks += 1;
        for index in (self.ticks % TICKS_PER_WORD..self.members.len()).step_by(TICKS_PER_WORD) {
            if self.members[index].behavior != Behavior::Vanished {
                self.members[index].pong(b"");
            }
        }
        for index in (self.ticks % TICKS_PER_SIP..self.members.len()).step_by(TICKS_PER_SIP) {
            if self.members[index].behavior == Behavior::Slow && self.members[index].ending.is_none() {
                self.read(index, SLOW_BYTES_PER_SECOND / SIPS_PER_SECOND)?;
            }
        }
        Ok(())
    }

    fn read(&mut self, index: usize, most: usize) -> Result<(), Failure> {
        let member = &mut self.members[index];
        let length = match member.connection.receive(&mut self.buffer, most) {
            Ok(Some(length)) => length,
            Ok(None) => return Ok(()),
            Err(_) => return self.end(index, Ending::Cut),
        };
        for rare in member.take_in(&self.buffer[..length], &mut self.checker)? {
            match rare {
                Rare::Joined => self.joined += 1,
                Rare::Ping(payload) => self.members[index].pong(&payload),
                Rare::Closed(code, _) => return self.end(index, Ending::Code(code)),
                Rare::Refused(text) => return Err(Failure::Refused(text)),
            }
        }
        Ok(())
    }

    fn end(&mut self, index: usize, ending: Ending) -> Result<(), Failure> {
        let member = &mut self.members[index];
        member.ending = Some(ending);
        if !self.stopped {
            epoll::delete(&self.epoll, &member.connection.socket)?;
        }
        // A client that was closed hangs up.
        match member.connection.socket.shutdown(std::net::Shutdown::Both) {
            Err(error) if error.kind() != io::ErrorKind::NotConnected => Err(error.into()),
            _ => Ok(()),
        }
    }

    fn has_all(&self, sent: u32) -> bool {
        self.last_read.elapsed() > QUIET
            && self.members.iter().all(|member| member.ending.is_some() || member.heard.has_all(sent))
    }

    fn outcomes(&self, sent: u32) -> Outcomes {
        let mut outcomes = Outcomes::new();
        for member in &self.members {
            let outcome = outcomes.entry(member.behavior).or_default();
            outcome.members += 1;
            outcome.gaps += member.heard.gaps;
            outcome.missed += member.heard.missed;
            outcome.wrong += member.heard.wrong;
            let counted = match member.ending {
                None if member.heard.has_all(sent) => &mut outcome.caught_up,
                None => &mut outcome.behind,
                Some(Ending::Cut) => &mut outcome.reset,
                Some(Ending::Code(1013)) => &mut outcome.closed_1013,
                Some(Ending::Code(1000)) => &mut outcome.closed_1000,
                Some(Ending::Code(_)) => &mut outcome.closed_otherwise,
            };
            *counted += 1;
        }
        let all: u64 = outcomes.values().map(Outcome::endings).sum();
        assert_eq!(all, self.members.len() as u64, "each member has one ending");
        outcomes
    }
}

impl Outcome {
    /// The members, counted by how they ended.
    fn endings(&self) -> u64 {
        self.caught_up + self.behind + self.let_go() + self.closed_1000 + self.closed_otherwise
    }

    /// The sum of two outcomes.
    pub fn and(self, other: &Outcome) -> Outcome {
        Outcome {
            members: self.members + other.members,
            caught_up: self.caught_up + other.caught_up,
            behind: self.behind + other.behind,
            closed_1013: self.closed_1013 + other.closed_1013,
            reset: self.reset + other.reset,
            closed_1000: self.closed_1000 + other.closed_1000,
            closed_otherwise: self.closed_otherwise + other.closed_otherwise,
            gaps: self.gaps + other.gaps,
            missed: self.missed + other.missed,
            wrong: self.wrong + other.wrong,
        }
    }

    /// The members that were too slow: closed with code 1013, or by a reset.
    pub fn let_go(&self) -> u64 {
        self.closed_1013 + self.reset
    }
}
