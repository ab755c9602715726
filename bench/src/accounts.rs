//! Signs in many users at once, as an attack or a crowd needs them.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use rustix::event::epoll;

use crate::asker::{Asker, Reply, request};
use crate::failure::Failure;
use crate::sockets::ready;

/// The server key that standard clients use by default, with a colon, in base64.
pub const SERVER_KEY_BASIC: &str = "ZGVmYXVsdGtleTo=";

const CONNECTIONS: usize = 16;
const PATIENCE: Duration = Duration::from_millis(100);
const SIGNING_IN_TIME_MAX: Duration = Duration::from_secs(120);
const BUFFER_BYTES: usize = 16 << 10;

/// Signs in so many users, from the local address of this number, and returns their session tokens in their order.
pub fn sign_in(server: SocketAddr, number: u8, name: &str, users: usize) -> Result<Vec<String>, Failure> {
    let epoll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
    let mut askers: Vec<Asker> = (0..CONNECTIONS.min(users)).map(|index| Asker::new(server, number, index)).collect();
    let mut tokens = vec![String::new(); users];
    // The user whom each connection signs in, and the next one.
    let (mut asked, mut next, mut signed_in) = (vec![0; askers.len()], 0, 0);
    let mut ask_next = |asker: &mut Asker, asked: &mut usize| {
        (*asked, next) = (next, next + 1);
        if *asked < users { asker.ask(&of_user(&format!("{name}-{asked}")), &epoll) } else { Ok(()) }
    };
    askers.iter_mut().zip(&mut asked).try_for_each(|(asker, asked)| ask_next(asker, asked))?;
    let (begun, mut buffer) = (Instant::now(), vec![0; BUFFER_BYTES]);
    while signed_in < users {
        for event in ready(&epoll, CONNECTIONS, PATIENCE)? {
            let index = event.data.u64() as usize;
            let asker = &mut askers[index];
            match asker.pump(&mut buffer, &epoll)? {
                None => {}
                Some(Reply::Answer { status: 200, body }) => {
                    tokens[asked[index]] = token_of(&body)?;
                    signed_in += 1;
                    ask_next(asker, &mut asked[index])?;
                }
                Some(other) => return Err(Failure::faulty(format!("a sign-in was replied to with {other:?}"))),
            }
        }
        if begun.elapsed() > SIGNING_IN_TIME_MAX {
            return Err(Failure::faulty(format!("only {signed_in} of {users} users signed in")));
        }
    }
    Ok(tokens)
}

fn of_user(name: &str) -> Vec<u8> {
    let headers = format!("Authorization: Basic {SERVER_KEY_BASIC}\r\nContent-Type: application/json\r\n");
    let body = format!(r#"{{"id":"bench-{name}"}}"#);
    request("POST /v2/account/authenticate/custom", &headers, body.as_bytes())
}

fn token_of(body: &[u8]) -> Result<String, Failure> {
    let session: serde_json::Value = serde_json::from_slice(body)?;
    let token = session["token"].as_str().map(str::to_owned);
    token.ok_or_else(|| Failure::faulty(format!("a sign-in gave no token but: {session}")))
}
