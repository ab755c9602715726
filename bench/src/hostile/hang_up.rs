//! Members of very many rooms who hang up together, several times.

use std::time::Instant;

use rustix::event::epoll;
use rustix::fd::OwnedFd;

use super::attack::{Attack, LOCAL_ADDRESS, PATIENCE, Tally, Target};
use crate::dialect::{JOINED_PREFIX, upgrade_request};
use crate::failure::{Failure, OPENING_TIME_MAX};
use crate::frames::{TEXT, put_client_frame};
use crate::session::{Heard, Session};
use crate::sockets::ready;

/// Joins of one session that wait for their answers.
const JOINS_AT_ONCE: usize = 32;
const EVENTS_MAX: usize = 256;
const BUFFER_BYTES: usize = 64 << 10;

/// Which other sessions are in the rooms of the sessions that hang up.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Shared {
    /// None: the server has no session to tell.
    WithNobody,
    /// The sessions that hang up later.
    WithTheOthers,
}

pub struct HangUp {
    waves: usize,
    sessions: usize,
    rooms: usize,
    shared: Shared,
    epoll: Option<OwnedFd>,
    /// The sessions of all waves. Sessions that have hung up are gone.
    members: Vec<Member>,
    begun: Option<Instant>,
    hung_up: usize,
    buffer: Vec<u8>,
}

struct Member {
    session: Session,
    asked: usize,
    joined: usize,
}

impl HangUp {
    /// So many times, so many sessions, each a member of so many rooms.
    pub fn new(waves: usize, sessions: usize, rooms: usize, shared: Shared) -> HangUp {
        let (members, buffer) = (Vec::new(), vec![0; BUFFER_BYTES]);
        HangUp { waves, sessions, rooms, shared, epoll: None, members, begun: None, hung_up: 0, buffer }
    }

    /// Takes in what came for a member, and lets it join further rooms.
    fn pump(&mut self, index: usize) -> Result<(), Failure> {
        let Some(Member { session, asked, joined }) = self.members.get_mut(index) else { return Ok(()) };
        let (mut opened, mut refused) = (*asked > 0, None);
        session.pump(&mut self.buffer, |heard| match heard {
            Heard::Opened => opened = true,
            Heard::Frame(frame) if frame.payload.starts_with(JOINED_PREFIX) => *joined += 1,
            Heard::Frame(frame) if frame.payload.starts_with(b"{\"cid\":") => {
                refused = Some(String::from_utf8_lossy(frame.payload).into_owned());
            }
            Heard::Frame(_) => {}
        })?;
        if let Some(reason) = refused {
            return Err(Failure::Refused(reason));
        }
        let wave = match self.shared {
            Shared::WithNobody => index / self.sessions,
            Shared::WithTheOthers => 0,
        };
        let until = if opened { self.rooms.min(*joined + JOINS_AT_ONCE) } else { 0 };
        session.say(|out| {
            for room in *asked..until {
                let join = format!(r#"{{"cid":"j","channel_join":{{"target":"room {wave}-{room}","type":1}}}}"#);
                put_client_frame(TEXT, join.as_bytes(), out);
            }
        })?;
        *asked = until.max(*asked);
        Ok(())
    }
}

impl Attack for HangUp {
    fn prepare(&mut self, target: &Target) -> Result<(), Failure> {
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
        for (index, token) in target.sign_in(self.waves * self.sessions)?.iter().enumerate() {
            let head = upgrade_request(token, "");
            let session = Session::open(target.server, LOCAL_ADDRESS, &head, &epoll, index)?;
            self.members.push(Member { session, asked: 0, joined: 0 });
        }
        let begun = Instant::now();
        while !self.members.iter().all(|member| member.joined == self.rooms) {
            for event in ready(&epoll, EVENTS_MAX, PATIENCE)? {
                self.pump(event.data.u64() as usize)?;
            }
            if begun.elapsed() > OPENING_TIME_MAX {
                return Err(Failure::faulty("not all members could join all rooms"));
            }
        }
        self.epoll = Some(epoll);
        Ok(())
    }

    fn turn(&mut self, target: &Target, tally: &mut Tally) -> Result<(), Failure> {
        let begun = *self.begun.get_or_insert_with(Instant::now);
        let due = due(begun.elapsed().as_secs_f64() / target.length.as_secs_f64(), self.waves);
        while self.hung_up < due {
            self.hung_up += 1;
            let first = self.members.len().saturating_sub(self.sessions);
            for member in self.members.split_off(first) {
                drop(member);
                tally.asked += self.rooms as u64;
                tally.done += self.rooms as u64;
            }
        }
        if let Some(epoll) = &self.epoll {
            for event in ready(epoll, EVENTS_MAX, PATIENCE)? {
                self.pump(event.data.u64() as usize)?;
            }
        }
        Ok(())
    }
}

/// How many waves have hung up after this share of the time: the first at once, the others at equal distances.
fn due(share: f64, waves: usize) -> usize {
    waves.min(1 + (share * waves as f64) as usize)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waves_hang_up_at_equal_distances() {
        let check = |share, expected| assert_eq!(due(share, 4), expected, "{share}");
        check(0.0, 1);
        check(0.24, 1);
        check(0.25, 2);
        check(0.8, 4);
        check(7.0, 4);
    }
}
