//! A client process of a run with reconnects: members of the room who are cut all at once and come back.
//!
//! Each member tries again after a wait. Some of its openings are spoiled on purpose: it hangs up in the middle of the
//! request, when the session is open, or when it has joined. A try that is refused, ended, or not finished within ten
//! seconds is followed by another one. What the members hear is read and not checked: the members who are never cut do
//! that.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::mpsc::TryRecvError;
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use rustix::event::epoll;
use rustix::fd::OwnedFd;
use serde::{Deserialize, Serialize};

use super::backoff::{AbortPoint, Draws, planned, spoiled_of};
use super::timers::Timers;
use crate::accounts;
use crate::bystander::Quantiles;
use crate::dialect::{JOINED_PREFIX, upgrade_request};
use crate::failure::{Failure, OPENING_TIME_MAX};
use crate::frames::{TEXT, put_client_frame};
use crate::received::empty_histogram;
use crate::session::{Heard, Session};
use crate::sockets::{OPENING_MAX, ready};
use crate::{companion, cpu};

const PATIENCE: Duration = Duration::from_millis(5);
const EVENTS_MAX: usize = 512;
const BUFFER_BYTES: usize = 256 << 10;
/// The JavaScript client gives up an opening that takes longer.
const TRY_TIME_MAX: Duration = Duration::from_secs(10);
/// The members may share a core with the members that are timed.
const NICENESS: i32 = 19;

/// What a client process has to do.
#[derive(Serialize, Deserialize)]
pub struct Options {
    pub server: SocketAddr,
    pub room: String,
    /// The number of the local address, and of the process.
    pub number: u8,
    pub members: usize,
    /// Whether members appear in the room's list.
    pub visible: bool,
    /// Members that are not back after this are given up.
    pub patience: Duration,
}

#[derive(Serialize, Deserialize)]
pub enum Order {
    /// Cut all connections, and come back with so many openings of all members, if no opening fails but the spoiled ones.
    Cut { openings: usize },
}

/// The answer when all members have joined, and when all are back; or why there is none.
pub type Answer = Result<Outcome, String>;

/// What came of the reconnects of one process.
#[derive(Clone, Default, Debug, Serialize, Deserialize)]
pub struct Outcome {
    pub members: u64,
    pub back: u64,
    /// Connections that were begun.
    pub openings: u64,
    pub spoiled: u64,
    /// Tries that failed though they were not spoiled, by kind.
    pub failed: BTreeMap<String, u64>,
    /// When the last member was back, and when it would have been if every opening had taken no time.
    pub back_after_secs: f64,
    pub planned_secs: f64,
    /// Openings begun in each second since the cut.
    pub openings_by_second: Vec<u64>,
    /// From the beginning of a try until the answer to its join, for tries that were not spoiled before.
    pub joining: Quantiles,
    /// How late the process itself was: from the end of a wait until the try began.
    pub own_lateness: Quantiles,
}

struct Member {
    session: Option<Session>,
    /// Numbers the tries, so that a timer of an earlier one is known.
    tries: u32,
    failures: u32,
    /// Openings that are still to be spoiled.
    to_spoil: u32,
    spoiling: Option<AbortPoint>,
    begun_ns: u64,
    home: bool,
    draws: Draws,
}

struct Crowd<'a> {
    options: &'a Options,
    heads: Vec<Vec<u8>>,
    join: Vec<u8>,
    epoll: OwnedFd,
    members: Vec<Member>,
    timers: Timers,
    clock: Instant,
    home: usize,
    outcome: Outcome,
    joining_us: Histogram<u64>,
    late_us: Histogram<u64>,
    buffer: Vec<u8>,
}

/// Runs a client process.
pub fn serve() -> Result<(), Failure> {
    let options = companion::options()?;
    cpu::raise_descriptor_limit();
    rustix::process::nice(NICENESS)?;
    match run(&options) {
        Ok(()) => Ok(()),
        Err(failure) => Ok(companion::answer(&Answer::Err(failure.to_string()))?),
    }
}

fn run(options: &Options) -> Result<(), Failure> {
    let mut crowd = Crowd::fill(options)?;
    companion::answer(&Answer::Ok(Outcome::default()))?;
    let (orders, mut awaited) = (companion::orders(), false);
    loop {
        match orders.try_recv() {
            Ok(Order::Cut { openings }) => {
                crowd.cut(openings)?;
                awaited = true;
            }
            Err(TryRecvError::Empty) => {}
            Err(TryRecvError::Disconnected) => return Ok(()),
        }
        crowd.turn()?;
        if awaited && (crowd.home == options.members || crowd.clock.elapsed() > options.patience) {
            companion::answer(&Answer::Ok(crowd.outcome()))?;
            awaited = false;
        }
    }
}

impl Crowd<'_> {
    fn fill(options: &Options) -> Result<Crowd<'_>, Failure> {
        let tokens =
            accounts::sign_in(options.server, options.number, &format!("member-{}", options.number), options.members)?;
        let mut join = Vec::new();
        let hidden = !options.visible;
        let text = format!(
            r#"{{"cid":"j","channel_join":{{"target":"{}","type":1,"persistence":false,"hidden":{hidden}}}}}"#,
            options.room
        );
        put_client_frame(TEXT, text.as_bytes(), &mut join);
        let mut crowd = Crowd {
            options,
            heads: tokens.iter().map(|token| upgrade_request(token, "")).collect(),
            join,
            epoll: epoll::create(epoll::CreateFlags::CLOEXEC)?,
            members: Vec::with_capacity(options.members),
            timers: Timers::default(),
            clock: Instant::now(),
            home: 0,
            outcome: Outcome::default(),
            joining_us: empty_histogram(),
            late_us: empty_histogram(),
            buffer: vec![0; BUFFER_BYTES],
        };
        while crowd.home < options.members {
            while crowd.members.len() < options.members && crowd.members.len() - crowd.home < OPENING_MAX {
                let index = crowd.members.len();
                let seed = u64::from(options.number) << 32 | index as u64;
                crowd.members.push(Member::new(seed));
                crowd.begin(index, None)?;
            }
            crowd.turn()?;
            if crowd.clock.elapsed() > OPENING_TIME_MAX || !crowd.outcome.failed.is_empty() {
                let (home, failed) = (crowd.home, &crowd.outcome.failed);
                return Err(Failure::Faulty(format!("only {home} of {} joined: {failed:?}", options.members)));
            }
        }
        Ok(crowd)
    }

    fn now_ns(&self) -> u64 {
        self.clock.elapsed().as_nanos() as u64
    }

    /// Cuts all connections with resets, and plans the members' return.
    fn cut(&mut self, openings: usize) -> Result<(), Failure> {
        for member in &mut self.members {
            member.session.take().map_or(Ok(()), Session::reset)?;
            member.home = false;
        }
        (self.home, self.outcome) = (0, Outcome::default());
        self.joining_us.reset();
        self.late_us.reset();
        self.timers = Timers::default();
        self.clock = Instant::now();
        let members = self.members.len();
        for index in 0..members {
            let member = &mut self.members[index];
            (member.to_spoil, member.failures) = (spoiled_of(index, members, openings), 0);
            let planned_secs = planned(&member.draws, member.to_spoil).as_secs_f64();
            self.outcome.planned_secs = self.outcome.planned_secs.max(planned_secs);
            self.wait(index);
        }
        Ok(())
    }

    /// Lets a member wait before its next try.
    fn wait(&mut self, index: usize) {
        let now_ns = self.now_ns();
        let member = &mut self.members[index];
        let wait = member.draws.wait(member.failures);
        self.timers.set(now_ns + wait.as_nanos() as u64, index, member.tries);
    }

    /// Begins a try that was due at this time.
    fn begin(&mut self, index: usize, due_ns: Option<u64>) -> Result<(), Failure> {
        let now_ns = self.now_ns();
        let member = &mut self.members[index];
        member.spoiling = (member.to_spoil > 0).then(|| member.draws.spoiled());
        let head = &self.heads[index];
        let sent = if member.spoiling == Some(AbortPoint::InTheHead) { &head[..head.len() / 2] } else { head };
        member.session = Some(Session::open(self.options.server, self.options.number, sent, &self.epoll, index)?);
        member.begun_ns = now_ns;
        self.outcome.openings += 1;
        if let Some(due_ns) = due_ns {
            let second = (now_ns / 1_000_000_000) as usize;
            let by_second = &mut self.outcome.openings_by_second;
            by_second.resize(by_second.len().max(second + 1), 0);
            by_second[second] += 1;
            self.late_us.saturating_record(now_ns.saturating_sub(due_ns) / 1_000);
        }
        self.timers.set(now_ns + TRY_TIME_MAX.as_nanos() as u64, index, member.tries);
        Ok(())
    }

    fn turn(&mut self) -> Result<(), Failure> {
        for event in ready(&self.epoll, EVENTS_MAX, PATIENCE)? {
            self.pump(event.data.u64() as usize)?;
        }
        for _ in 0..EVENTS_MAX {
            let Some(due) = self.timers.due(self.now_ns()) else { break };
            let member = &self.members[due.index];
            if member.tries != due.tries || member.home {
                continue;
            }
            match member.session {
                None => self.begin(due.index, Some(due.at_ns))?,
                Some(_) => self.fail(due.index, "no answer in time".into())?,
            }
        }
        Ok(())
    }

    fn pump(&mut self, index: usize) -> Result<(), Failure> {
        let member = &mut self.members[index];
        let Some(session) = &mut member.session else { return Ok(()) };
        let (mut opened, mut joined, mut refused) = (false, false, None);
        let mut ended = session.pump(&mut self.buffer, |heard| match heard {
            Heard::Opened => opened = true,
            Heard::Frame(frame) if frame.payload.starts_with(JOINED_PREFIX) => joined = true,
            Heard::Frame(frame) if frame.payload.starts_with(b"{\"cid\":") => {
                refused = Some("join refused".to_owned());
            }
            Heard::Frame(_) => {}
        });
        let spoil = match member.spoiling {
            None => false,
            Some(AbortPoint::InTheHead) => session.has_sent_all(),
            Some(AbortPoint::Opened) => opened,
            Some(AbortPoint::Joined) => joined,
        };
        if spoil && ended.is_ok() {
            return self.spoil(index);
        }
        if opened && ended.is_ok() {
            ended = session.say(|out| out.extend_from_slice(&self.join));
        }
        if let Some(kind) = ended.err().map(|ending| ending.to_string()).or(refused) {
            return self.fail(index, kind);
        }
        if joined {
            let now_ns = self.now_ns();
            let member = &mut self.members[index];
            self.joining_us.saturating_record((now_ns - member.begun_ns) / 1_000);
            member.home = true;
            self.home += 1;
            self.outcome.back_after_secs = now_ns as f64 / 1e9;
        }
        Ok(())
    }

    /// Gives up an opening on purpose.
    fn spoil(&mut self, index: usize) -> Result<(), Failure> {
        self.outcome.spoiled += 1;
        self.members[index].to_spoil -= 1;
        self.try_again(index)
    }

    fn fail(&mut self, index: usize, kind: String) -> Result<(), Failure> {
        *self.outcome.failed.entry(kind).or_default() += 1;
        if std::mem::take(&mut self.members[index].home) {
            self.home -= 1;
            self.members[index].failures = 0;
        }
        self.try_again(index)
    }

    fn try_again(&mut self, index: usize) -> Result<(), Failure> {
        let member = &mut self.members[index];
        member.session.take().map_or(Ok(()), Session::reset)?;
        member.tries += 1;
        member.failures += 1;
        self.wait(index);
        Ok(())
    }

    fn outcome(&self) -> Outcome {
        let home = self.members.iter().filter(|member| member.home).count();
        assert_eq!(self.home, home, "members who are back");
        let Outcome { openings, spoiled, failed, openings_by_second, .. } = &self.outcome;
        assert_eq!(openings_by_second.iter().sum::<u64>(), *openings, "each opening began in one second");
        let ended = spoiled + failed.values().sum::<u64>() + home as u64;
        assert!(ended <= *openings, "{ended} of {openings} openings have ended, each in one way");
        Outcome {
            members: self.members.len() as u64,
            back: self.home as u64,
            joining: Quantiles::of(&self.joining_us),
            own_lateness: Quantiles::of(&self.late_us),
            ..self.outcome.clone()
        }
    }
}

impl Member {
    fn new(seed: u64) -> Member {
        Member {
            session: None,
            tries: 0,
            failures: 0,
            to_spoil: 0,
            spoiling: None,
            begun_ns: 0,
            home: false,
            draws: Draws::new(seed),
        }
    }
}
