//! Floods over sessions: each session says the same kind of thing again and again, as fast as the server reads it.

use std::time::Instant;

use rustix::event::epoll;
use rustix::fd::OwnedFd;

use super::attack::{Attack, LOCAL_ADDRESS, PATIENCE, Tally, Target};
use crate::dialect::{JOINED_PREFIX, upgrade_request};
use crate::failure::{Failure, OPENING_TIME_MAX};
use crate::frames::{PING, PONG, TEXT, put_client_frame};
use crate::session::{Ending, Heard, Session};
use crate::sockets::ready;

/// Requests of one session that wait for their answers. The server reads no more than 64 of them.
const IN_FLIGHT_MAX: u64 = 32;
/// Frames that are not answered one by one, handed to the kernel together.
const FRAMES_AT_ONCE: u64 = 1000;
const FOLLOWED: u64 = 80;
const EVENTS_MAX: usize = 256;
const BUFFER_BYTES: usize = 64 << 10;
/// The room of attackers that speak.
const ATTACKERS_ROOM: &str = "attackers";

/// What the sessions say.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Said {
    Follow,
    Status,
    /// Two requests each.
    JoinAndLeave,
    Message,
    EnvelopePing,
    /// Control frames of WebSocket.
    Ping,
    Pong,
}

impl Said {
    /// Whether each frame is answered by an envelope with its `cid`.
    fn is_answered(self) -> bool {
        !matches!(self, Said::Ping | Said::Pong)
    }

    /// Appends the frames of request `number`, and returns how many they are.
    fn put(self, number: u64, room: &str, out: &mut Vec<u8>) -> u64 {
        if !self.is_answered() {
            put_client_frame(if self == Said::Ping { PING } else { PONG }, b"", out);
            return 1;
        }
        let envelopes = self.envelopes(number, room);
        for envelope in &envelopes {
            put_client_frame(TEXT, envelope.as_bytes(), out);
        }
        envelopes.len() as u64
    }

    /// The envelopes of request `number`.
    fn envelopes(self, number: u64, room: &str) -> Vec<String> {
        let envelope = |payload: String| format!(r#"{{"cid":"a",{payload}}}"#);
        match self {
            Said::Follow => {
                let ids: Vec<String> = (0..FOLLOWED).map(|user| user_id(number * FOLLOWED + user)).collect();
                vec![envelope(format!(r#""status_follow":{{"user_ids":[{}]}}"#, ids.join(",")))]
            }
            Said::Status => vec![envelope(format!(r#""status_update":{{"status":"{number}"}}"#))],
            Said::JoinAndLeave => vec![
                envelope(format!(r#""channel_join":{{"target":"{room}","type":1}}"#)),
                envelope(format!(r#""channel_leave":{{"channel_id":"2...{room}"}}"#)),
            ],
            Said::Message => {
                let send = format!(r#"{{"channel_id":"2...{ATTACKERS_ROOM}","content":"{{\"n\":{number}}}"}}"#);
                vec![envelope(format!(r#""channel_message_send":{send}"#))]
            }
            Said::EnvelopePing => vec![envelope(r#""ping":{}"#.into())],
            Said::Ping | Said::Pong => Vec::new(),
        }
    }

    /// What a session says first.
    fn first(self) -> Option<String> {
        let join = format!(
            r#"{{"cid":"j","channel_join":{{"target":"{ATTACKERS_ROOM}","type":1,"persistence":false,"hidden":true}}}}"#
        );
        (self == Said::Message).then_some(join)
    }
}

/// A user that does not exist.
fn user_id(number: u64) -> String {
    format!(r#""{:08x}-0000-4000-8000-{:012x}""#, number >> 32, number & 0xffff_ffff)
}

pub struct SessionFlood {
    users: usize,
    said: Said,
    tokens: Vec<String>,
    epoll: Option<OwnedFd>,
    seats: Vec<Seat>,
    number: u64,
    buffer: Vec<u8>,
}

/// The place of a session, which may have to be opened again.
#[derive(Default)]
struct Seat {
    session: Option<Session>,
    ready: bool,
    in_flight: u64,
}

impl SessionFlood {
    pub fn new(users: usize, sessions: usize, said: Said) -> SessionFlood {
        let seats = (0..sessions).map(|_| Seat::default()).collect();
        SessionFlood { users, said, tokens: Vec::new(), epoll: None, seats, number: 0, buffer: vec![0; BUFFER_BYTES] }
    }

    fn epoll(&mut self) -> Result<&OwnedFd, Failure> {
        match &mut self.epoll {
            Some(epoll) => Ok(epoll),
            none => Ok(none.insert(epoll::create(epoll::CreateFlags::CLOEXEC)?)),
        }
    }

    fn open(&mut self, index: usize, target: &Target) -> Result<(), Failure> {
        // A session with a status hears of every status of its user.
        let status = if self.said == Said::Status { "&status=true" } else { "" };
        let head = upgrade_request(&self.tokens[index % self.users], status);
        let session = Session::open(target.server, LOCAL_ADDRESS, &head, self.epoll()?, index)?;
        self.seats[index] = Seat { session: Some(session), ..Seat::default() };
        Ok(())
    }

    /// Takes in what came for a session. Sessions that ended are opened again.
    fn pump(&mut self, index: usize, target: &Target, tally: &mut Tally) -> Result<(), Failure> {
        let (seat, said) = (&mut self.seats[index], self.said);
        let Some(session) = &mut seat.session else { return Ok(()) };
        let (mut opened, mut joined, mut answered) = (false, false, 0);
        let ended = session.pump(&mut self.buffer, |heard| match heard {
            Heard::Opened => opened = true,
            Heard::Frame(frame) if frame.payload.starts_with(JOINED_PREFIX) => joined = true,
            Heard::Frame(frame) if frame.opcode == PONG => tally.done += 1,
            Heard::Frame(frame) if frame.payload.starts_with(br#"{"cid":"a""#) => {
                answered += 1;
                match reason_of(frame.payload) {
                    Some(reason) => tally.refuse(reason),
                    None => tally.done += 1,
                }
            }
            Heard::Frame(_) => {}
        });
        seat.in_flight = seat.in_flight.saturating_sub(answered);
        let said_first = match (opened, said.first()) {
            (true, Some(first)) => session.say(|out| _ = put_client_frame(TEXT, first.as_bytes(), out)),
            (true, None) => {
                seat.ready = true;
                Ok(())
            }
            (false, _) => Ok(()),
        };
        seat.ready |= joined;
        match ended.and(said_first) {
            Ok(()) => Ok(()),
            Err(ending) => self.reopen(index, &ending, target, tally),
        }
    }

    fn reopen(&mut self, index: usize, ending: &Ending, target: &Target, tally: &mut Tally) -> Result<(), Failure> {
        tally.refuse(ending.to_string());
        self.open(index, target)
    }

    /// Lets a session say as much as it may.
    fn feed(&mut self, index: usize, target: &Target, tally: &mut Tally) -> Result<(), Failure> {
        let (seat, said, number) = (&mut self.seats[index], self.said, &mut self.number);
        let Some(session) = seat.session.as_mut().filter(|session| seat.ready && session.has_sent_all()) else {
            return Ok(());
        };
        let most = if said.is_answered() { IN_FLIGHT_MAX.saturating_sub(seat.in_flight) } else { FRAMES_AT_ONCE };
        let mut put = 0;
        let spoken = session.say(|out| {
            while put < most {
                put += said.put(*number, &target.room, out);
                *number += 1;
            }
        });
        tally.asked += put;
        if said.is_answered() {
            seat.in_flight += put;
        } else if said == Said::Pong {
            tally.done += put;
        }
        spoken.or_else(|ending| self.reopen(index, &ending, target, tally))
    }
}

impl Attack for SessionFlood {
    fn prepare(&mut self, target: &Target) -> Result<(), Failure> {
        self.tokens = target.sign_in(self.users)?;
        (0..self.seats.len()).try_for_each(|index| self.open(index, target))?;
        let (begun, mut refused) = (Instant::now(), Tally::default());
        while !self.seats.iter().all(|seat| seat.ready) {
            for event in ready(self.epoll()?, EVENTS_MAX, PATIENCE)? {
                self.pump(event.data.u64() as usize, target, &mut refused)?;
            }
            if begun.elapsed() > OPENING_TIME_MAX || refused.refusals() > 0 {
                return Err(Failure::faulty(format!("not all attackers could join: {refused:?}")));
            }
        }
        Ok(())
    }

    fn turn(&mut self, target: &Target, tally: &mut Tally) -> Result<(), Failure> {
        (0..self.seats.len()).try_for_each(|index| self.feed(index, target, tally))?;
        for event in ready(self.epoll()?, EVENTS_MAX, PATIENCE)? {
            self.pump(event.data.u64() as usize, target, tally)?;
        }
        Ok(())
    }
}

/// Why the request was refused that this answers: the reason in the error's context, or else its code.
fn reason_of(answer: &[u8]) -> Option<String> {
    let text = String::from_utf8_lossy(answer);
    let (_, error) = text.split_once(r#""error":"#)?;
    let quoted = error.split_once(r#""reason":""#).and_then(|(_, behind)| behind.split('"').next());
    let code = error.split_once(r#""code":"#).and_then(|(_, behind)| behind.split([',', '}']).next());
    Some(quoted.map_or_else(|| format!("code {}", code.unwrap_or("0")), str::to_owned))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refusals_say_why() {
        let check = |answer: &str, expected: Option<&str>| {
            assert_eq!(reason_of(answer.as_bytes()), expected.map(str::to_owned), "{answer}");
        };
        check(r#"{"cid":"a"}"#, None);
        check(r#"{"cid":"a","pong":{}}"#, None);
        check(r#"{"cid":"a","error":{"code":3,"message":"m"}}"#, Some("code 3"));
        check(r#"{"cid":"a","error":{"message":"m"}}"#, Some("code 0"));
        let budget = r#"{"cid":"a","error":{"code":3,"message":"m","context":{"reason":"work_per_user"}}}"#;
        check(budget, Some("work_per_user"));
    }

    #[test]
    fn what_is_said_is_an_envelope_that_a_server_takes() {
        for said in [Said::Follow, Said::Status, Said::JoinAndLeave, Said::Message, Said::EnvelopePing] {
            for envelope in said.envelopes(7, "hall") {
                let read: serde_json::Value = serde_json::from_str(&envelope).unwrap();
                assert_eq!((read["cid"].as_str(), read.as_object().unwrap().len()), (Some("a"), 2), "{envelope}");
                assert!(envelope.len() <= 4096, "{said:?} takes {} bytes", envelope.len());
            }
        }
        let mut out = Vec::new();
        assert_eq!((Said::JoinAndLeave.put(0, "hall", &mut out), Said::Pong.put(0, "hall", &mut out)), (2, 1));
        assert_eq!(user_id(1), r#""00000000-0000-4000-8000-000000000001""#);
    }
}
