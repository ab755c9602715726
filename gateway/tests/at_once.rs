//! A peer learns what it has to know within the turn that decides it, even if the thread never rests. Closing a
//! connection needs no turn of glommio's reactor; it would if a pending poll of glommio held the socket.
//!
//! This test has no executor, only turns, so nothing can depend on an executor.

mod support;

use std::net::{SocketAddr, TcpStream};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Instant;

use engine::chart::Chart;
use engine::id::{Epoch, ShardId};
use engine::limits::Rules;
use engine::shard::{Effects, Shard};
use gateway::listeners::listeners;
use gateway::sockets::SocketTable;
use runtime::{Reading, Sockets, clock};
use storage::bridge::Bridge;
use storage::memory::Memory;

use support::{DEADLINE, World, connect, frame, opening, read_to_end, say};

/// Turns from the arrival of the bytes to the end of the connection. One turn reads them and writes the last answer,
/// the next one hangs up.
const TURNS_MAX: usize = 3;

/// A shard that turns only when the test calls it.
struct Shore {
    table: SocketTable,
    shard: Shard,
    effects: Effects,
    world: World,
    address: SocketAddr,
    _bridge: Bridge,
}

impl Shore {
    fn new() -> Self {
        let (bridge, _) = Bridge::start(Arc::new(Memory::new()), 0).expect("a bridge");
        let world = World::new(&bridge);
        let (mut listening, address) = listeners(SocketAddr::from(([127, 0, 0, 1], 0)), 1).expect("a free port");
        let listener = listening.pop().expect("one");
        let table =
            SocketTable::new(vec![listener.into()], 1000, Rc::new(world.clone().services())).expect("an epoll set");
        let shard = Shard::new(ShardId::alone(0), Chart::alone(1, Epoch(1)), Rules::default(), 7);
        Self { table, shard, effects: Effects::default(), world, address, _bridge: bridge }
    }

    /// Does a turn like `Turning`, without waiting anywhere.
    fn turn(&mut self) {
        let now = clock::wall();
        self.shard.begin_turn(clock::monotonic());
        self.table.gather(&mut self.shard, now, Reading::On);
        self.shard.finish_turn(clock::wall(), &mut self.effects);
        assert!(self.effects.store.is_empty() && self.effects.parcels.is_empty(), "nothing here asks for these");
        for effect in self.effects.sockets.drain(..) {
            self.table.carry_out(effect, &mut self.shard);
        }
        self.shard.flush(&mut self.table);
        self.shard.pass(clock::monotonic(), &mut self.table);
    }

    /// Turns until an answer has come; the loopback device delivers with some delay.
    fn turn_until_heard(&mut self, stream: &TcpStream) {
        let begun = Instant::now();
        stream.set_nonblocking(true).expect("a socket of ours");
        while stream.peek(&mut [0]).is_err() {
            assert!(begun.elapsed() < DEADLINE, "nothing came back");
            self.turn();
        }
        stream.set_nonblocking(false).expect("a socket of ours");
    }

    /// For a connection whose bytes get a last answer: checks that the client gets this answer and the end within few
    /// turns.
    fn assert_ended_at_once(&mut self, mut stream: TcpStream, what: &str, last_words: &[u8]) {
        self.turn_until_heard(&stream);
        (0..TURNS_MAX).for_each(|_| self.turn());
        // From here on there are no more turns: what the server has not sent by now it never sends.
        let heard = read_to_end(&mut stream);
        let found = heard.windows(last_words.len()).any(|bytes| bytes == last_words);
        assert!(
            found,
            "{what}: {:?} not in {:?}",
            String::from_utf8_lossy(last_words),
            String::from_utf8_lossy(&heard)
        );
    }

    fn session(&mut self) -> TcpStream {
        let mut stream = connect(self.address);
        say(&mut stream, opening(&self.world.token()).as_bytes());
        self.turn_until_heard(&stream);
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            let mut byte = [0];
            std::io::Read::read_exact(&mut stream, &mut byte).expect("the rest of the head");
            head.push(byte[0]);
        }
        assert!(head.starts_with(b"HTTP/1.1 101 "));
        stream
    }
}

#[test]
fn the_end_of_a_session_reaches_the_peer_at_once() {
    let mut shore = Shore::new();
    let check = |shore: &mut Shore, what: &str, bytes: &[u8], last_words: &[u8]| {
        let mut stream = shore.session();
        say(&mut stream, bytes);
        shore.assert_ended_at_once(stream, what, last_words);
    };
    check(&mut shore, "a close frame is echoed", &frame(0x88, &1000u16.to_be_bytes()), &[0x88, 2, 0x03, 0xe8]);
    check(&mut shore, "a binary frame", &frame(0x82, b"x"), b"send text frames");
    check(&mut shore, "bad JSON", &frame(0x81, b"{"), &[0x88]);
    check(&mut shore, "an unmasked frame", &[0x81, 2, b'{', b'}'], &[0x03, 0xea]);
}

#[test]
fn the_refusal_of_an_opening_reaches_the_peer_at_once() {
    let mut shore = Shore::new();
    let mut stream = connect(shore.address);
    // A connection that stays open goes to the HTTP server, which needs an executor.
    say(&mut stream, opening("forged").replace("Connection: Upgrade", "Connection: close, Upgrade").as_bytes());
    shore.assert_ended_at_once(stream, "a forged token", b"HTTP/1.1 401 ");
}
