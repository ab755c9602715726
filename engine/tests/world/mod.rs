//! One shard, one session, and a store that the test plays.

#![allow(dead_code, reason = "each test uses what it needs")]

use engine::command::Command;
use engine::fanout::frames::Format;
use engine::fanout::subscribers::{Gone, Outlet};
use engine::id::{ConnectionId, Epoch, Monotonic, SessionId, ShardId, Timestamp, UserId};
use engine::limits::Rules;
use engine::persist::{StoreReceipt, StoreRequest, Ticket};
use engine::query::QueryAnswer;
use engine::session::admission::{OnLag, Session};
use engine::session::home::Visibility;
use engine::shard::{Effects, Input, Shard};
use uuid::Uuid;

pub const NOW: Timestamp = Timestamp(1_700_000_000_000_000_000);
pub const MEMBER: ConnectionId = ConnectionId { slot: 0, generation: 1 };

/// All bytes that were written to the connection.
#[derive(Default)]
pub struct Heard(pub Vec<u8>);

impl Outlet for Heard {
    fn write(&mut self, _: u32, pieces: &[&[u8]]) -> Result<usize, Gone> {
        self.0.extend(pieces.concat());
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
    /// The wall clock.
    pub now: Timestamp,
}

impl World {
    pub fn new() -> Self {
        Self::with(Visibility::Unseen)
    }

    /// The world of a session that has just opened, before the end of its first turn.
    pub fn with(visibility: Visibility) -> Self {
        let shard = Shard::new(ShardId(0), 1, Epoch(1), Rules::default(), 7);
        let mut world = Self { shard, heard: Heard::default(), answers: Vec::new(), now: NOW };
        world.open_with(visibility);
        world
    }

    /// Opens the session again, after it was closed.
    pub fn open(&mut self) {
        self.open_with(Visibility::Unseen);
    }

    fn open_with(&mut self, visibility: Visibility) {
        let session = Session {
            user: UserId(Uuid::from_u128(1)),
            session: SessionId(Uuid::from_u128(2)),
            username: "ada".into(),
            format: Format::Json,
            on_lag: OnLag::Close,
        };
        self.shard.step(Input::Opened { connection: MEMBER, session, visibility }, NOW);
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
        effects.store
    }
}

pub fn only<T>(mut list: Vec<T>) -> T {
    assert_eq!(list.len(), 1);
    list.remove(0)
}
