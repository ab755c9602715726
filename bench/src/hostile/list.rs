//! The list of all attacks: a new one is a type with the trait `Attack`, and a line here.

use super::attack::Attack;
use super::call_flood::{CallFlood, Called};
use super::halves::{Halves, Part};
use super::hang_up::{HangUp, Shared};
use super::openings::{Openings, TokenKind};
use super::request_flood::{Asked, RequestFlood};
use super::session_flood::{Said, SessionFlood};
use crate::failure::Failure;

/// One line of the list.
pub struct Listed {
    pub name: &'static str,
    pub about: &'static str,
    pub make: fn() -> Box<dyn Attack>,
    /// Whether the bystander also signs in with a password.
    pub times_sign_ins: bool,
}

const fn listed(name: &'static str, about: &'static str, make: fn() -> Box<dyn Attack>) -> Listed {
    Listed { name, about, make, times_sign_ins: false }
}

fn flood(users: usize, sessions: usize, said: Said) -> Box<dyn Attack> {
    Box::new(SessionFlood::new(users, sessions, said))
}

fn requests(users: usize, connections: usize, asked: Asked) -> Box<dyn Attack> {
    Box::new(RequestFlood::new(users, connections, asked))
}

fn calls(connections: usize, streams: usize, called: Called) -> Box<dyn Attack> {
    Box::new(CallFlood::new(connections, streams, called))
}

/// All attacks, in the order in which they are run.
pub const ATTACKS: &[Listed] = &[
    listed("follows", "one user, 50 sessions: follows of 80 users", || flood(1, 50, Said::Follow)),
    listed("follows-of-many", "50 users, a session each: the same", || flood(50, 50, Said::Follow)),
    listed("statuses", "one user, 50 sessions that hear of each: statuses", || flood(1, 50, Said::Status)),
    listed("statuses-of-many", "50 users, a session each: statuses", || flood(50, 50, Said::Status)),
    listed("joins", "one user, 125 sessions: joins and leaves of the bystander's room", || {
        flood(1, 125, Said::JoinAndLeave)
    }),
    listed("joins-of-many", "125 users, a session each: the same", || flood(125, 125, Said::JoinAndLeave)),
    listed("messages", "10 users, 5 sessions each: messages to a room of their 50", || flood(10, 50, Said::Message)),
    listed("hang-up", "four times, 40 sessions in the same 1,024 rooms hang up together", || {
        Box::new(HangUp::new(4, 40, 1024, Shared::WithNobody))
    }),
    listed("hang-up-told", "the same, and those who hang up later are in the same rooms and are told", || {
        Box::new(HangUp::new(4, 40, 1024, Shared::WithTheOthers))
    }),
    listed("heads", "4,000 connections: heads that drip in, a line a second", || {
        Box::new(Halves::new(4000, Part::Head))
    }),
    listed("bodies", "4,000 connections: bodies of a logout that drip in, half of each at once", || {
        Box::new(Halves::new(4000, Part::Body))
    }),
    listed("gzip", "100 connections: sign-ins with 453 bytes that inflate to 37,000 pairs", || {
        requests(0, 100, Asked::Gzip { with_key: true })
    }),
    listed("gzip-no-key", "100 connections: the same without a key", || {
        requests(0, 100, Asked::Gzip { with_key: false })
    }),
    listed("pings", "50 sessions of 10 users: pings of WebSocket whose pongs are read", || flood(10, 50, Said::Ping)),
    listed("pongs", "50 sessions of 10 users: pongs of WebSocket", || flood(10, 50, Said::Pong)),
    listed("envelope-pings", "50 sessions of 10 users: pings of the protocol", || flood(10, 50, Said::EnvelopePing)),
    listed("pages", "one user, 20 connections: pages of 100 messages", || requests(1, 20, Asked::Page)),
    listed("pages-of-many", "100 users, a connection each: the same", || requests(100, 100, Asked::Page)),
    listed("calls", "50 connections, 32 calls at a time each: health over gRPC", || calls(50, 32, Called::Health)),
    listed("calls-pages", "one user, 20 connections, 16 calls at a time each: pages of 100 messages over gRPC", || {
        calls(20, 16, Called::Page)
    }),
    Listed {
        times_sign_ins: true,
        ..listed("passwords", "200 connections: wrong passwords of 200 accounts", || {
            requests(0, 200, Asked::WrongPassword)
        })
    },
    listed("strangers", "50 users, a connection each: leaves of a closed group they are not in", || {
        requests(50, 50, Asked::LeaveGroup)
    }),
    listed("openings", "64 connections at a time, 50 users: sessions that are opened and cut", || {
        Box::new(Openings::new(64, TokenKind::OfUsers(50)))
    }),
    listed("openings-no-token", "64 connections at a time: openings with a forged token", || {
        Box::new(Openings::new(64, TokenKind::Forged))
    }),
];

/// The attack of this name.
pub fn find(name: &str) -> Result<&'static Listed, Failure> {
    ATTACKS.iter().find(|listed| listed.name == name).ok_or_else(|| {
        let names: Vec<&str> = ATTACKS.iter().map(|listed| listed.name).collect();
        Failure::Options(format!("there is no attack {name}; there are {}", names.join(", ")))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_attack_is_found_by_its_name_alone() {
        for listed in ATTACKS {
            assert_eq!(find(listed.name).unwrap().about, listed.about);
        }
        assert!(find("nothing").err().unwrap().to_string().contains("hang-up"));
    }
}
