//! Sessions that are opened and cut at once, again and again; and openings that are refused.

use rustix::event::epoll;
use rustix::fd::OwnedFd;

use super::attack::{Attack, LOCAL_ADDRESS, PATIENCE, Tally, Target};
use crate::dialect::upgrade_request;
use crate::failure::Failure;
use crate::session::{Heard, Session};
use crate::sockets::ready;

const EVENTS_MAX: usize = 256;
const BUFFER_BYTES: usize = 16 << 10;
/// It has the form of a token, and no server has signed it.
const FORGED: &str = "eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9.eyJ1aWQiOiJhIiwiZXhwIjo5OTk5OTk5OTk5fQ.c2lnbmF0dXJl";

/// With what tokens.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum TokenKind {
    OfUsers(usize),
    Forged,
}

pub struct Openings {
    token_kind: TokenKind,
    heads: Vec<Vec<u8>>,
    sessions: Vec<Option<Session>>,
    epoll: Option<OwnedFd>,
    opened: usize,
    buffer: Vec<u8>,
}

impl Openings {
    /// So many at a time.
    pub fn new(at_once: usize, token_kind: TokenKind) -> Openings {
        let sessions = (0..at_once).map(|_| None).collect();
        Openings { token_kind, heads: Vec::new(), sessions, epoll: None, opened: 0, buffer: vec![0; BUFFER_BYTES] }
    }
}

impl Attack for Openings {
    fn prepare(&mut self, target: &Target) -> Result<(), Failure> {
        let tokens = match self.token_kind {
            TokenKind::OfUsers(users) => target.sign_in(users)?,
            TokenKind::Forged => vec![FORGED.to_owned()],
        };
        self.heads = tokens.iter().map(|token| upgrade_request(token, "")).collect();
        self.epoll = Some(epoll::create(epoll::CreateFlags::CLOEXEC)?);
        Ok(())
    }

    fn turn(&mut self, target: &Target, tally: &mut Tally) -> Result<(), Failure> {
        let Openings { heads, sessions, epoll: Some(epoll), opened, buffer, .. } = self else { return Ok(()) };
        for (index, session) in sessions.iter_mut().enumerate().filter(|(_, session)| session.is_none()) {
            let head = &heads[*opened % heads.len()];
            *session = Some(Session::open(target.server, LOCAL_ADDRESS, head, epoll, index)?);
            *opened += 1;
            tally.asked += 1;
        }
        for event in ready(epoll, EVENTS_MAX, PATIENCE)? {
            let Some(session) = &mut sessions[event.data.u64() as usize] else { continue };
            let mut is_open = false;
            let ended = session.pump(buffer, |heard| is_open |= matches!(heard, Heard::Opened));
            tally.done += u64::from(is_open);
            if let Err(ending) = &ended {
                tally.refuse(ending.to_string());
            }
            if (is_open || ended.is_err())
                && let Some(session) = sessions[event.data.u64() as usize].take()
            {
                session.reset()?;
            }
        }
        Ok(())
    }
}
