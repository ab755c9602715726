//! Floods of HTTP requests: each connection asks again as soon as it is answered.

use rustix::event::epoll;
use rustix::fd::OwnedFd;

use super::attack::{Attack, LOCAL_ADDRESS, PATIENCE, Tally, Target};
use crate::accounts::SERVER_KEY_BASIC;
use crate::asker::{Asker, Reply, bearer, request};
use crate::bystander::sign_in_with_password;
use crate::failure::Failure;
use crate::http;
use crate::sockets::ready;
use crate::writer;

const EVENTS_MAX: usize = 256;
const BUFFER_BYTES: usize = 64 << 10;
const PAGE: usize = 100;
const PAGES_ROOM: &str = "pages";
/// 37,000 `vars` in 453 bytes, as the tests send them.
const GZIPPED_VARS: &[u8] = include_bytes!("../../../tests/tests/hostile/vars.json.gz");
/// A key that is not the server's, in base64.
const WRONG_KEY_BASIC: &str = "eDo=";

/// What the connections ask for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Asked {
    Page,
    Gzip { with_key: bool },
    WrongPassword,
    LeaveGroup,
}

pub struct RequestFlood {
    users: usize,
    asked: Asked,
    askers: Vec<Asker>,
    /// What each connection asks for.
    requests: Vec<Vec<u8>>,
    connections: usize,
    epoll: Option<OwnedFd>,
    buffer: Vec<u8>,
}

impl RequestFlood {
    pub fn new(users: usize, connections: usize, asked: Asked) -> RequestFlood {
        let (askers, requests) = (Vec::new(), Vec::new());
        RequestFlood { users, asked, askers, requests, connections, epoll: None, buffer: vec![0; BUFFER_BYTES] }
    }
}

impl Attack for RequestFlood {
    fn prepare(&mut self, target: &Target) -> Result<(), Failure> {
        let tokens = target.sign_in(self.users)?;
        let request_of: Box<dyn Fn(usize) -> Vec<u8>> = match self.asked {
            Asked::Page => {
                writer::write(target.server, LOCAL_ADDRESS, &tokens[0], PAGES_ROOM, PAGE)?;
                let line = format!("GET /v2/channel/2...{PAGES_ROOM}?limit={PAGE}&forward=false");
                Box::new(move |index| request(&line, &bearer(&tokens[index % tokens.len()]), b""))
            }
            Asked::LeaveGroup => {
                let owner = target.sign_in(1)?.remove(0);
                let line = format!("POST /v2/group/{}/leave", make_closed_group(target, &owner)?);
                // The first of the users owns the group.
                Box::new(move |index| request(&line, &bearer(&tokens[1 + index % (tokens.len() - 1)]), b""))
            }
            Asked::Gzip { with_key } => {
                let key = if with_key { SERVER_KEY_BASIC } else { WRONG_KEY_BASIC };
                let headers = format!("Authorization: Basic {key}\r\nContent-Encoding: gzip\r\n");
                Box::new(move |_| request("POST /v2/account/authenticate/device", &headers, GZIPPED_VARS))
            }
            Asked::WrongPassword => {
                Box::new(|index| sign_in_with_password(&format!("guessed-{index}"), "wrong password"))
            }
        };
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
        for index in 0..self.connections {
            self.askers.push(Asker::new(target.server, LOCAL_ADDRESS, index));
            self.requests.push(request_of(index));
        }
        self.epoll = Some(epoll);
        Ok(())
    }

    fn turn(&mut self, _: &Target, tally: &mut Tally) -> Result<(), Failure> {
        let RequestFlood { askers, requests, epoll: Some(epoll), buffer, .. } = self else { return Ok(()) };
        for (asker, request) in askers.iter_mut().zip(requests).filter(|(asker, _)| !asker.is_busy()) {
            asker.ask(request, epoll)?;
            tally.asked += 1;
        }
        for event in ready(epoll, EVENTS_MAX, PATIENCE)? {
            match askers[event.data.u64() as usize].pump(buffer, epoll)? {
                None => {}
                Some(Reply::Answer { status: 200, .. }) => tally.done += 1,
                Some(Reply::Answer { status, .. }) => tally.refuse(status.to_string()),
                Some(Reply::Cut) => tally.refuse("cut"),
            }
        }
        Ok(())
    }
}

/// Makes a group that users can only ask to join, and returns its id.
fn make_closed_group(target: &Target, token: &str) -> Result<String, Failure> {
    let headers = format!("{}Content-Type: application/json\r\n", bearer(token));
    let group = http::ask(target.server, "POST /v2/group", &headers, r#"{"name":"closed","open":false}"#)?;
    let id = serde_json::from_str::<serde_json::Value>(&group)?["id"].as_str().map(str::to_owned);
    id.ok_or_else(|| Failure::faulty(format!("making a group was answered with: {group}")))
}
