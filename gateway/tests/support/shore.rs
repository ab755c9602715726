//! A shard with its socket table that turns only when the test calls it: no executor, no thread that waits.

use std::io::Read;
use std::net::{SocketAddr, TcpStream};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Instant;

use engine::chart::Chart;
use engine::id::{Epoch, ShardId};
use engine::limits::Rules;
use engine::persist::{StoreQuestion, StoreReceipt, StoreRequest};
use engine::shard::{Effects, Input, Shard};
use gateway::listeners::listeners;
use gateway::sockets::SocketTable;
use runtime::{Reading, Sockets, clock};
use storage::bridge::Bridge;
use storage::memory::Memory;

use super::{DEADLINE, World, connect, opening, say};

/// A shard that turns only when the test calls it.
pub struct Shore {
    pub table: SocketTable,
    pub shard: Shard,
    effects: Effects,
    pub world: World,
    pub address: SocketAddr,
    _bridge: Bridge,
}

impl Shore {
    /// A shard with these limits, and with room for so many connections.
    pub fn new(rules: Rules, capacity: usize) -> Self {
        let (bridge, _) = Bridge::start(Arc::new(Memory::new()), 0).expect("a bridge");
        let world = World::new(&bridge);
        let (mut listening, address) = listeners(SocketAddr::from(([127, 0, 0, 1], 0)), 1).expect("a free port");
        let listener = listening.pop().expect("one");
        let services = Rc::new(world.clone().services());
        let table = SocketTable::new(vec![listener.into()], capacity, services).expect("an epoll set");
        let shard = Shard::new(ShardId::alone(0), Chart::alone(1, Epoch(1)), rules, 7);
        Self { table, shard, effects: Effects::default(), world, address, _bridge: bridge }
    }

    /// Does a turn like `Turning`, without waiting anywhere. The store knows of no message.
    pub fn turn(&mut self) {
        let now = clock::wall();
        self.shard.begin_turn(clock::monotonic());
        self.table.gather(&mut self.shard, now, Reading::On);
        self.shard.finish_turn(clock::wall(), &mut self.effects);
        assert!(self.effects.parcels.is_empty(), "there is no other shard");
        for (ticket, request) in std::mem::take(&mut self.effects.store) {
            assert!(matches!(request, StoreRequest::Question(StoreQuestion::Head { .. })), "{request:?}");
            self.shard.step(Input::Receipt { ticket, outcome: Ok(StoreReceipt::Head(None)) }, now);
        }
        for effect in self.effects.sockets.drain(..) {
            self.table.carry_out(effect, &mut self.shard);
        }
        self.shard.flush(&mut self.table);
        self.shard.pass(clock::monotonic(), &mut self.table);
    }

    /// Turns until something is so.
    pub fn turn_until(&mut self, what: &str, mut is_so: impl FnMut(&Self) -> bool) {
        let begun = Instant::now();
        while !is_so(self) {
            assert!(begun.elapsed() < DEADLINE, "not in time: {what}");
            self.turn();
        }
    }

    /// Turns until an answer has come; the loopback device delivers with some delay.
    pub fn turn_until_heard(&mut self, stream: &TcpStream) {
        let begun = Instant::now();
        stream.set_nonblocking(true).expect("a socket of ours");
        while stream.peek(&mut [0]).is_err() {
            assert!(begun.elapsed() < DEADLINE, "nothing came back");
            self.turn();
        }
        stream.set_nonblocking(false).expect("a socket of ours");
    }

    /// A session that has just opened.
    pub fn session(&mut self) -> TcpStream {
        let mut stream = connect(self.address);
        say(&mut stream, opening(&self.world.token()).as_bytes());
        self.turn_until_heard(&stream);
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            let mut byte = [0];
            stream.read_exact(&mut byte).expect("the rest of the head");
            head.push(byte[0]);
        }
        assert!(head.starts_with(b"HTTP/1.1 101 "));
        stream
    }
}
