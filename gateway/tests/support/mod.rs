//! The real socket table with real services over a store in memory, and clients that send and read bytes.
//!
//! Each test file is a program of its own and uses a part of this module.
#![allow(dead_code)]

pub mod shore;

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::Duration;

use engine::id::UserId;
use gateway::http::Services;
use gateway::keys::SigningKeys;
use gateway::options::Secret;
use gateway::password::Passwords;
use gateway::token::Tokens;
use runtime::clock;
use storage::bridge::{Bridge, Client};

/// Nothing here takes long. A test that hangs fails after this time.
pub const DEADLINE: Duration = Duration::from_secs(20);

/// What the services of all shards share.
#[derive(Clone)]
pub struct World {
    keys: SigningKeys,
    tokens: Arc<Tokens>,
    passwords: Passwords,
    store: Client,
}

impl World {
    pub fn new(bridge: &Bridge) -> Self {
        let keys =
            SigningKeys::new(Secret::new(*b"session-key-of-the-tests"), Secret::new(*b"refresh-key-of-the-tests"));
        let life = Duration::from_secs(3600);
        let tokens = Arc::new(Tokens::new(&keys, life, life, &[], clock::wall()));
        let passwords = Passwords::start(1).expect("a thread");
        Self { keys, tokens, passwords, store: bridge.client() }
    }

    pub fn services(self) -> Services {
        Services::new("defaultkey", &self.keys, self.tokens, self.passwords, self.store, clock::wall)
    }

    /// How many owners hold the shared tokens, including this one.
    pub fn holders(&self) -> usize {
        Arc::strong_count(&self.tokens)
    }

    /// A session token of a new user.
    pub fn token(&self) -> String {
        let user = UserId(uuid::Uuid::new_v4());
        self.tokens.issue(user, "somebody", Default::default(), clock::wall()).session
    }
}

/// Connects. An answer that does not come in time fails the test.
pub fn connect(address: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(address).expect("the listener's backlog has room");
    stream.set_read_timeout(Some(DEADLINE)).expect("a read timeout");
    stream
}

/// The request head of a WebSocket opening.
pub fn opening(token: &str) -> String {
    format!(
        "GET /ws?token={token} HTTP/1.1\r\nHost: test\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
    )
}

/// A client's frame, masked with zeros: its first byte and a short payload.
pub fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
    let length = u8::try_from(payload.len()).ok().filter(|length| *length < 126).expect("a short payload");
    [&[first, 0x80 | length, 0, 0, 0, 0], payload].concat()
}

/// Reads everything up to the end of the connection. A reset counts as the end.
pub fn read_to_end(stream: &mut TcpStream) -> Vec<u8> {
    let mut heard = Vec::new();
    match stream.read_to_end(&mut heard) {
        Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {
            panic!("not ended after {DEADLINE:?}; heard: {}", String::from_utf8_lossy(&heard))
        }
        _ => heard,
    }
}

pub fn say(stream: &mut TcpStream, bytes: &[u8]) {
    stream.write_all(bytes).expect("the connection is open");
}
