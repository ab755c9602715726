//! The bystander: members of a room who do nothing wrong, timed while others ask for too much.
//!
//! Messages and pings are due at fixed times (an open loop), and latency counts from those times. Every message must
//! come to every member once and in order, every ping must be answered, and no member may be closed; what goes wrong is
//! counted. How late the bystander itself was is measured as well, because it may share its core with the attackers.

mod quantiles;
mod sign_ins;

use std::io;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use rustix::event::epoll;
use rustix::fd::OwnedFd;
use serde::Serialize;

use crate::checker::{Checker, padding};
use crate::dialect::{ACK_PREFIX, Dialect, JOINED_PREFIX, Persistence, Publication, upgrade_request};
use crate::failure::{Failure, OPENING_TIME_MAX};
use crate::frames;
use crate::publisher::Schedule;
use crate::received::empty_histogram;
use crate::session::{Ending, Heard, Session};
use crate::skimmer::Skimmed;
use crate::sockets::{OPENING_MAX, ready};
pub use quantiles::Quantiles;
pub use sign_ins::{SignIns, sign_in_with_password};

/// The number of the local address of all members: no attacker has it.
const LOCAL_ADDRESS: u8 = 250;
const CONTENT_BYTES: usize = 100;
const EVENTS_MAX: usize = 512;
const BUFFER_BYTES: usize = 64 << 10;
/// A turn waits this long at most, so that the process also looks at its companions.
const PATIENCE: Duration = Duration::from_millis(5);
/// After the last message was due, so long is waited for what has not come. Beyond it, it counts as lost.
const LATENESS_MAX: Duration = Duration::from_secs(20);
/// The first bytes of an answer to a ping; digits of the due time follow.
const PONG_PREFIX: &[u8] = br#"{"cid":"p"#;
const STAMP_DIGITS: usize = 20;
/// Stands for the epoll set of the sign-ins, where others have the number of a member.
const SIGN_INS: u64 = u64::MAX;

/// The pace of the bystander.
#[derive(Clone, Copy, Debug)]
pub struct Pace {
    pub members: usize,
    pub messages_per_second: f64,
    pub pings_per_second: f64,
}

pub struct Bystander {
    pace: Pace,
    clock: Instant,
    epoll: OwnedFd,
    /// A place is empty if the server has ended the session.
    members: Vec<Option<Session>>,
    joined: usize,
    checker: Checker,
    publication: Publication,
    counter: u32,
    sign_ins: Option<SignIns>,
    buffer: Vec<u8>,
    counts: Counts,
    messages_us: Histogram<u64>,
    pings_us: Histogram<u64>,
    late_us: Histogram<u64>,
    refused: Vec<String>,
}

/// What the bystander sent and heard in one phase.
#[derive(Clone, Copy, Default)]
struct Counts {
    messages: u64,
    acks: u64,
    pings: u64,
    pongs: u64,
}

/// What the bystander noticed in one phase. Latencies are in milliseconds, from the time at which each was due.
#[derive(Clone, Default, Debug, Serialize)]
pub struct Noticed {
    pub messages: Quantiles,
    pub pings: Quantiles,
    /// Sign-ins with a password, where they are timed.
    pub sign_ins: Option<Quantiles>,
    pub sign_ins_failed: u64,
    /// How late the bystander itself was: from the time at which something was due until it was sent.
    pub own_lateness: Quantiles,
    /// Deliveries, acknowledgements and pongs that never came, or came twice or in another order.
    pub lost: u64,
    /// Why members were closed.
    pub closed: Vec<String>,
}

impl Bystander {
    /// Lets all members join.
    pub fn join(server: SocketAddr, token: &str, room: &str, pace: Pace) -> Result<Bystander, Failure> {
        let dialect = Dialect::Stentor {
            tokens: vec![token.to_owned()],
            persistence: Persistence::Passing,
            room: room.to_owned(),
        };
        let mut bystander = Bystander {
            pace,
            clock: Instant::now(),
            epoll: epoll::create(epoll::CreateFlags::CLOEXEC)?,
            members: Vec::new(),
            joined: 0,
            checker: Checker::new(padding(CONTENT_BYTES)),
            publication: dialect.publication(CONTENT_BYTES),
            counter: 0,
            sign_ins: None,
            buffer: vec![0; BUFFER_BYTES],
            counts: Counts::default(),
            messages_us: empty_histogram(),
            pings_us: empty_histogram(),
            late_us: empty_histogram(),
            refused: Vec::new(),
        };
        let (head, join) = (upgrade_request(token, ""), dialect.member_request());
        let begun = Instant::now();
        while bystander.joined < pace.members {
            while bystander.members.len() < pace.members && bystander.members.len() - bystander.joined < OPENING_MAX {
                let index = bystander.members.len();
                let session = Session::open(server, LOCAL_ADDRESS, &head, &bystander.epoll, index)?;
                bystander.members.push(Some(session));
                bystander.checker.add_member(0);
            }
            bystander.turn_and(PATIENCE, Some(&join))?;
            if let Some(reason) = bystander.refused.first() {
                return Err(Failure::Refused(reason.clone()));
            }
            if begun.elapsed() > OPENING_TIME_MAX {
                return Err(Failure::OpeningTooSlow { joined: bystander.joined, asked: pace.members });
            }
        }
        Ok(bystander)
    }

    /// From now on, signs in with a password at a fixed pace as well.
    pub fn sign_in_too(&mut self, sign_ins: SignIns) -> Result<(), Failure> {
        let number = epoll::EventData::new_u64(SIGN_INS);
        epoll::add(&self.epoll, sign_ins.epoll(), number, epoll::EventFlags::IN)?;
        self.sign_ins = Some(sign_ins);
        Ok(())
    }

    pub fn now_ns(&self) -> u64 {
        self.clock.elapsed().as_nanos() as u64
    }

    /// Reads what has come, without sending anything of its own.
    pub fn rest(&mut self) -> Result<(), Failure> {
        self.turn_and(PATIENCE, None)
    }

    /// Sends and hears for so long, and then until all has come that was sent.
    pub fn notice(&mut self, length: Duration) -> Result<Noticed, Failure> {
        self.notice_until(length, || Ok(false))
    }

    /// The same, for less long if `is_over`, which is asked once a turn.
    pub fn notice_until(
        &mut self,
        most: Duration,
        mut is_over: impl FnMut() -> Result<bool, Failure>,
    ) -> Result<Noticed, Failure> {
        self.forget();
        let start_ns = self.now_ns();
        let mut end_ns = start_ns + most.as_nanos() as u64;
        let count = |rate: f64| (rate * most.as_secs_f64()) as u64;
        let Pace { messages_per_second, pings_per_second, .. } = self.pace;
        let mut messages = Schedule::new(start_ns, messages_per_second, count(messages_per_second));
        let mut pings = Schedule::new(start_ns, pings_per_second, count(pings_per_second));
        if let Some(sign_ins) = &mut self.sign_ins {
            sign_ins.begin(start_ns, most);
        }
        loop {
            self.send_due(&mut messages, &mut pings)?;
            let now_ns = self.now_ns();
            if now_ns < end_ns && is_over()? {
                end_ns = now_ns;
                messages.stop();
                pings.stop();
            }
            let sent = messages.finished() && pings.finished() && now_ns >= end_ns;
            if sent && (self.has_all() || now_ns - end_ns > LATENESS_MAX.as_nanos() as u64) {
                return Ok(self.noticed());
            }
            // The wait ends when the next of the two is due.
            let due_ns = [&messages, &pings].into_iter().filter_map(Schedule::next).min();
            let wait_ns = due_ns.map_or(u64::MAX, |due_ns| due_ns.saturating_sub(now_ns));
            self.turn_and(PATIENCE.min(Duration::from_nanos(wait_ns)), None)?;
        }
    }

    fn send_due(&mut self, messages: &mut Schedule, pings: &mut Schedule) -> Result<(), Failure> {
        while let Some(due_ns) = messages.due(self.now_ns()) {
            self.counts.messages += 1;
            let (counter, mut frame) = (self.counter, Vec::new());
            self.counter += 1;
            self.publication.put(counter, due_ns, &mut frame);
            self.say(0, due_ns, &frame);
            messages.sent(due_ns, self.now_ns().max(due_ns));
        }
        while let Some(due_ns) = pings.due(self.now_ns()) {
            let member = (self.counts.pings % self.members.len() as u64) as usize;
            self.counts.pings += 1;
            let mut frame = Vec::new();
            let ping = format!(r#"{{"cid":"p{due_ns:020}","ping":{{}}}}"#);
            frames::put_client_frame(frames::TEXT, ping.as_bytes(), &mut frame);
            self.say(member, due_ns, &frame);
            pings.sent(due_ns, self.now_ns().max(due_ns));
        }
        let now_ns = self.now_ns();
        match &mut self.sign_ins {
            Some(sign_ins) => Ok(sign_ins.turn(now_ns, &mut self.buffer)?),
            None => Ok(()),
        }
    }

    fn say(&mut self, member: usize, due_ns: u64, frame: &[u8]) {
        self.late_us.saturating_record(self.now_ns().saturating_sub(due_ns) / 1_000);
        let said =
            self.members[member].as_mut().map_or(Ok(()), |session| session.say(|out| out.extend_from_slice(frame)));
        if let Err(ending) = said {
            self.end(member, &ending);
        }
    }

    fn turn_and(&mut self, patience: Duration, join: Option<&[u8]>) -> Result<(), Failure> {
        for event in ready(&self.epoll, EVENTS_MAX, patience)? {
            let number = event.data.u64();
            // What comes for the sign-ins ends the wait, and is read at the beginning of the next turn.
            if number != SIGN_INS {
                self.hear(number as usize, join);
            }
        }
        Ok(())
    }

    fn hear(&mut self, index: usize, join: Option<&[u8]>) {
        let Bystander { members, buffer, clock, checker, .. } = self;
        let Some(session) = &mut members[index] else { return };
        let (counts, messages_us, pings_us) = (&mut self.counts, &mut self.messages_us, &mut self.pings_us);
        let (mut opened, refused, joined) = (false, &mut self.refused, &mut self.joined);
        let mut ended = session.pump(buffer, |heard| match heard {
            Heard::Opened => opened = true,
            Heard::Frame(frame) => {
                let now_ns = clock.elapsed().as_nanos() as u64;
                let since_us = |stamp_ns: u64| now_ns.saturating_sub(stamp_ns) / 1_000;
                if let Some(counter) = checker.counter(frame.payload) {
                    checker.deliver(index, counter, frame.wire_bytes);
                    let stamp_ns = checker.stamp_ns(frame.payload);
                    messages_us.saturating_record(since_us(stamp_ns.unwrap_or(0)));
                } else if let Some(stamp_ns) = ping_stamp(frame) {
                    counts.pongs += 1;
                    pings_us.saturating_record(since_us(stamp_ns));
                } else if frame.payload.starts_with(ACK_PREFIX) {
                    counts.acks += 1;
                } else if frame.payload.starts_with(JOINED_PREFIX) {
                    *joined += 1;
                } else if frame.payload.starts_with(b"{\"cid\":") {
                    refused.push(String::from_utf8_lossy(frame.payload).into_owned());
                }
            }
        });
        if let (Ok(()), true, Some(join)) = (&ended, opened, join) {
            ended = session.say(|out| out.extend_from_slice(join));
        }
        if let Err(ending) = ended {
            self.end(index, &ending);
        }
    }

    fn end(&mut self, member: usize, ending: &Ending) {
        self.members[member] = None;
        self.refused.push(ending.to_string());
    }

    fn has_all(&self) -> bool {
        let deliveries = self.counts.messages * self.members.len() as u64;
        self.checker.delivered >= deliveries
            && self.counts.acks >= self.counts.messages
            && self.counts.pongs >= self.counts.pings
            && self.sign_ins.as_ref().is_none_or(SignIns::is_idle)
    }

    fn forget(&mut self) {
        self.counts = Counts::default();
        self.checker.forget_counts();
        self.messages_us.reset();
        self.pings_us.reset();
        self.late_us.reset();
    }

    fn noticed(&mut self) -> Noticed {
        let Counts { messages, acks, pings, pongs } = self.counts;
        let faults = self.checker.take_faults();
        let heard = self.checker.delivered + faults.repeated_or_late;
        assert!(self.messages_us.len() <= heard, "{} of {heard} deliveries were timed", self.messages_us.len());
        assert_eq!(self.pings_us.len(), pongs, "each pong is timed");
        let undelivered = (messages * self.members.len() as u64).saturating_sub(self.checker.delivered);
        let wrong = faults.repeated_or_late + faults.foreign;
        let lost = undelivered + wrong + messages.saturating_sub(acks) + pings.saturating_sub(pongs);
        let (sign_ins, sign_ins_failed) = self.sign_ins.as_mut().map_or((None, 0), |sign_ins| {
            let (quantiles, failed) = sign_ins.end();
            (Some(quantiles), failed)
        });
        Noticed {
            messages: Quantiles::of(&self.messages_us),
            pings: Quantiles::of(&self.pings_us),
            sign_ins,
            sign_ins_failed,
            own_lateness: Quantiles::of(&self.late_us),
            lost,
            closed: std::mem::take(&mut self.refused),
        }
    }
}

/// When the ping was due that this frame answers.
fn ping_stamp(frame: Skimmed<'_>) -> Option<u64> {
    let digits = frame.payload.strip_prefix(PONG_PREFIX)?.get(..STAMP_DIGITS)?;
    std::str::from_utf8(digits).ok()?.parse().ok()
}

impl From<Ending> for Failure {
    fn from(ending: Ending) -> Failure {
        Failure::Refused(ending.to_string())
    }
}

impl From<Ending> for io::Error {
    fn from(ending: Ending) -> io::Error {
        io::Error::other(ending.to_string())
    }
}
