//! One shard, one session, and a store that the test plays.

#![allow(dead_code, reason = "each test uses what it needs")]

use std::time::Duration;

use engine::chart::Chart;
use engine::command::{Command, Join};
use engine::fanout::frames::Format;
use engine::fanout::subscribers::{Gone, Outlet};
use engine::id::{ConnectionId, Epoch, Monotonic, SessionId, ShardId, Timestamp, UserId};
use engine::limits::Rules;
use engine::persist::{StoreReceipt, StoreRequest, Ticket};
use engine::query::QueryAnswer;
use engine::session::admission::{OnLag, Session};
use engine::session::home::Visibility;
use engine::shard::{Effects, Input, Shard, SocketEffect};
use uuid::Uuid;

pub const NOW: Timestamp = Timestamp(1_700_000_000_000_000_000);
pub const MEMBER: ConnectionId = ConnectionId { slot: 0, generation: 1 };

/// All bytes that were written to the member. What is written to other connections is not kept.
#[derive(Default)]
pub struct Heard(pub Vec<u8>);

impl Outlet for Heard {
    fn write(&mut self, slot: u32, pieces: &[&[u8]]) -> Result<usize, Gone> {
        if slot == MEMBER.slot {
            self.0.extend(pieces.concat());
        }
        Ok(pieces.iter().map(|piece| piece.len()).sum())
    }

    fn wait(&mut self, _: u32) {}
}

impl Heard {
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.0).into_owned()
    }
}

pub struct World {
    pub shard: Shard,
    pub heard: Heard,
    pub answers: Vec<(u64, QueryAnswer)>,
    pub sockets: Vec<SocketEffect>,
    monotonic: Monotonic,
    /// The wall clock.
    pub now: Timestamp,
}

impl World {
    pub fn new() -> Self {
        Self::with(Visibility::Unseen)
    }

    /// The world of a session that has just opened, before the end of its first turn.
    pub fn with(visibility: Visibility) -> Self {
        let mut world = Self::empty(Rules::default());
        world.open_session(MEMBER, 1, "ada", visibility);
        world
    }

    /// A world with other limits.
    pub fn under(rules: Rules) -> Self {
        let mut world = Self::empty(rules);
        world.open();
        world
    }

    fn empty(rules: Rules) -> Self {
        let shard = Shard::new(ShardId::alone(0), Chart::alone(1, Epoch(1)), rules, 7);
        let (heard, monotonic) = (Heard::default(), Monotonic(0));
        Self { shard, heard, answers: Vec::new(), sockets: Vec::new(), monotonic, now: NOW }
    }

    /// Opens the session again, after it was closed.
    pub fn open(&mut self) {
        self.open_session(MEMBER, 1, "ada", Visibility::Unseen);
    }

    pub fn open_session(&mut self, connection: ConnectionId, user: u128, username: &str, visibility: Visibility) {
        let session = Session {
            user: UserId(Uuid::from_u128(user)),
            session: SessionId(Uuid::from_u128(2 * user)),
            username: username.into(),
            format: Format::Json,
            on_lag: OnLag::Close,
            network: None,
        };
        self.shard.step(Input::Opened { connection, session, visibility }, NOW);
    }

    /// Has so many other users join a room, so slowly that each join is told at once.
    pub fn fill(&mut self, room: &str, users: u32) {
        for number in 1..=users {
            self.begin_turn(Duration::from_millis(20));
            let connection = ConnectionId { slot: number, generation: 1 };
            self.open_session(connection, 1000 + u128::from(number), &"n".repeat(120), Visibility::Unseen);
            let join = Join { target: room.to_owned(), kind: 1, persistence: true, hidden: false };
            self.shard.step(Input::Request { connection, cid: String::new(), command: Command::Join(join) }, self.now);
            for (head, _) in self.turn() {
                self.answer(head, StoreReceipt::Head(None));
            }
        }
    }

    /// Begins a turn after this time.
    pub fn begin_turn(&mut self, after: Duration) {
        self.monotonic = self.monotonic.plus(after);
        self.shard.begin_turn(self.monotonic);
    }

    pub fn ask(&mut self, cid: &str, command: Command) -> Vec<(Ticket, StoreRequest)> {
        self.shard.step(Input::Request { connection: MEMBER, cid: cid.to_owned(), command }, self.now);
        self.turn()
    }

    pub fn answer(&mut self, ticket: Ticket, receipt: StoreReceipt) -> Vec<(Ticket, StoreRequest)> {
        self.shard.step(Input::Receipt { ticket, outcome: Ok(receipt) }, self.now);
        self.turn()
    }

    pub fn turn(&mut self) -> Vec<(Ticket, StoreRequest)> {
        let mut effects = Effects::default();
        self.shard.finish_turn(self.now, &mut effects);
        self.shard.flush(&mut self.heard);
        self.shard.pass(Monotonic(0), &mut self.heard);
        self.shard.invariants();
        self.answers.append(&mut effects.answers);
        self.sockets.append(&mut effects.sockets);
        effects.store
    }
}

pub fn only<T>(mut list: Vec<T>) -> T {
    assert_eq!(list.len(), 1);
    list.remove(0)
}
