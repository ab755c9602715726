//! A session that writes some messages into a room, which are kept, before anything is measured.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use rustix::event::epoll;

use crate::dialect::{ACK_PREFIX, Dialect, JOINED_PREFIX, Persistence, upgrade_request};
use crate::failure::Failure;
use crate::session::{Heard, Session};
use crate::sockets::ready;

const PATIENCE: Duration = Duration::from_millis(100);
const WRITING_TIME_MAX: Duration = Duration::from_secs(30);
const BUFFER_BYTES: usize = 64 << 10;
const CONTENT_BYTES: usize = 100;

/// Writes so many messages of 100 bytes into this room, with the token of the writer, from the local address of this
/// number. Returns when all of them are acknowledged.
pub fn write(server: SocketAddr, number: u8, token: &str, room: &str, messages: usize) -> Result<(), Failure> {
    let dialect =
        Dialect::Stentor { tokens: vec![token.to_owned()], persistence: Persistence::Kept, room: room.to_owned() };
    let mut publication = dialect.publication(CONTENT_BYTES);
    let epoll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
    let mut session = Session::open(server, number, &upgrade_request(token, ""), &epoll, 0)?;
    let (begun, mut buffer, mut acks) = (Instant::now(), vec![0; BUFFER_BYTES], 0);
    while acks < messages {
        ready(&epoll, 1, PATIENCE)?;
        let (mut opened, mut joined) = (false, false);
        session.pump(&mut buffer, |heard| match heard {
            Heard::Opened => opened = true,
            Heard::Frame(frame) if frame.payload.starts_with(JOINED_PREFIX) => joined = true,
            Heard::Frame(frame) if frame.payload.starts_with(ACK_PREFIX) => acks += 1,
            Heard::Frame(_) => {}
        })?;
        if opened {
            session.say(|out| out.extend(dialect.member_request()))?;
        }
        if joined {
            session.say(|out| (0..messages as u32).for_each(|message| publication.put(message, 0, out)))?;
        }
        if begun.elapsed() > WRITING_TIME_MAX {
            return Err(Failure::faulty(format!("only {acks} of {messages} messages were acknowledged")));
        }
    }
    Ok(())
}
