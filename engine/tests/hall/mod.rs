//! One shard with many sessions, whose sockets take everything unless they are said to be full.

#![allow(dead_code, reason = "each test uses what it needs")]

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use engine::chart::Chart;
use engine::command::{Command, Join};
use engine::fanout::frames::Format;
use engine::fanout::subscribers::{Gone, Outlet};
use engine::id::{ConnectionId, Epoch, Monotonic, SessionId, ShardId, Timestamp, UserId};
use engine::limits::Rules;
use engine::persist::{StoreQuestion, StoreReceipt, StoreRequest, StoreWrite};
use engine::session::admission::{OnLag, Session};
use engine::session::home::Visibility;
use engine::shard::{Effects, Input, Shard, SocketEffect};
use uuid::Uuid;

pub const NOW: Timestamp = Timestamp(1_700_000_000_000_000_000);

/// The most turns until the shard has nothing more to do.
const TURNS_MAX: usize = 10_000;

/// The sockets of all sessions.
#[derive(Default)]
struct Sockets {
    /// The bytes that each session has received.
    heard: BTreeMap<u32, Vec<u8>>,
    /// Sockets that take nothing.
    full: BTreeSet<u32>,
    /// Sockets that have room, and whose sessions wait for the next turn.
    waiting: BTreeSet<u32>,
    /// The bytes that were written in this turn.
    written: usize,
    /// The writes of this turn.
    writes: usize,
}

impl Outlet for Sockets {
    fn write(&mut self, slot: u32, pieces: &[&[u8]]) -> Result<usize, Gone> {
        if self.full.contains(&slot) {
            return Ok(0);
        }
        let heard = self.heard.entry(slot).or_default();
        pieces.iter().for_each(|piece| heard.extend_from_slice(piece));
        let bytes = pieces.iter().map(|piece| piece.len()).sum();
        self.written += bytes;
        self.writes += 1;
        Ok(bytes)
    }

    fn wait(&mut self, slot: u32) {
        self.waiting.insert(slot);
    }
}

pub struct Hall {
    pub shard: Shard,
    sockets: Sockets,
    now: Monotonic,
    /// Connections that the server has closed.
    pub closed: BTreeSet<ConnectionId>,
    /// Connections of which the server has finished its side.
    pub finished: BTreeSet<ConnectionId>,
    /// The most memberships that ended in one turn.
    pub ended_most: u64,
    /// The most bytes that were written in one turn.
    pub written_most: usize,
    /// The most writes of one turn.
    pub writes_most: usize,
    /// The most memberships of which the channels' owner was told in one turn that they have ended.
    pub departed_most: u64,
    /// The most connections that one turn has read again.
    pub resumed_most: usize,
}

pub fn connection(slot: u32) -> ConnectionId {
    ConnectionId { slot, generation: 1 }
}

pub fn session_of(slot: u32) -> SessionId {
    SessionId(Uuid::from_u128(u128::from(slot) + 1))
}

impl Hall {
    pub fn with(rules: Rules) -> Self {
        let shard = Shard::new(ShardId::alone(0), Chart::alone(1, Epoch(1)), rules, 7);
        let (sockets, closed, finished) = (Sockets::default(), BTreeSet::new(), BTreeSet::new());
        let now = Monotonic(3_600_000_000_000);
        let (ended_most, departed_most) = (0, 0);
        let (written_most, writes_most, resumed_most) = (0, 0, 0);
        Self {
            shard,
            sockets,
            now,
            closed,
            finished,
            ended_most,
            written_most,
            writes_most,
            departed_most,
            resumed_most,
        }
    }

    /// Opens a session of a user of its own.
    pub fn open(&mut self, slot: u32) {
        self.open_as(slot, UserId(Uuid::from_u128(u128::from(slot) + 1)));
    }

    pub fn open_as(&mut self, slot: u32, user: UserId) {
        let session = Session {
            user,
            session: session_of(slot),
            username: "ada".into(),
            format: Format::Json,
            on_lag: OnLag::Close,
            network: None,
        };
        let visibility = Visibility::Unseen;
        self.shard.step(Input::Opened { connection: connection(slot), session, visibility }, NOW);
    }

    pub fn join(&mut self, slot: u32, room: &str) {
        self.join_as(slot, room, true);
    }

    pub fn join_as(&mut self, slot: u32, room: &str, persistence: bool) {
        let join = Join { target: room.to_owned(), kind: 1, persistence, hidden: false };
        self.ask(slot, Command::Join(join));
    }

    /// Joins a room with this `cid`.
    pub fn ask_as(&mut self, slot: u32, cid: &str, room: &str) {
        let join = Join { target: room.to_owned(), kind: 1, persistence: true, hidden: false };
        let (connection, cid) = (connection(slot), cid.to_owned());
        self.shard.step(Input::Request { connection, cid, command: Command::Join(join) }, NOW);
    }

    pub fn leave(&mut self, slot: u32, room: &str) {
        self.ask(slot, Command::Leave { channel_id: format!("2...{room}") });
    }

    pub fn ask(&mut self, slot: u32, command: Command) {
        let cid = slot.to_string();
        self.shard.step(Input::Request { connection: connection(slot), cid, command }, NOW);
    }

    /// Ends the turn, and goes on until the shard has nothing more to do. The next turn begins later by `after`. Returns
    /// the number of turns.
    pub fn turn(&mut self, after: Duration) -> usize {
        let mut turns = 0;
        loop {
            turns += 1;
            assert!(turns < TURNS_MAX, "the shard does not come to rest");
            let asked = self.end_turn();
            if !asked && !self.shard.is_busy() && self.sockets.waiting.is_empty() {
                break;
            }
            self.shard.begin_turn(self.now);
            self.write_late();
        }
        self.now = self.now.plus(after);
        self.shard.begin_turn(self.now);
        turns
    }

    /// Ends one turn, and begins the next. Returns whether the shard has more to do.
    pub fn one_turn(&mut self) -> bool {
        let asked = self.end_turn();
        self.shard.begin_turn(self.now);
        self.write_late();
        asked || self.shard.is_busy()
    }

    /// The sockets of these sessions take nothing from now on.
    pub fn fill_up(&mut self, slots: impl IntoIterator<Item = u32>) {
        self.sockets.full.extend(slots);
    }

    /// A session's socket has room again.
    pub fn make_room(&mut self, slot: u32) {
        self.sockets.full.remove(&slot);
        self.sockets.waiting.insert(slot);
    }

    /// Writes to sockets that have room again, as much as one turn may.
    fn write_late(&mut self) {
        while !self.shard.has_worked_enough()
            && let Some(slot) = self.sockets.waiting.pop_first()
        {
            self.shard.writable(connection(slot), &mut self.sockets);
        }
    }

    /// Ends one turn. Returns whether the store was asked something; the answer is in.
    fn end_turn(&mut self) -> bool {
        let before = self.shard.report().levels;
        let mut resumed = 0;
        let mut effects = Effects::default();
        self.shard.finish_turn(NOW, &mut effects);
        self.shard.flush(&mut self.sockets);
        self.shard.pass(self.now, &mut self.sockets);
        self.shard.invariants();
        self.written_most = self.written_most.max(std::mem::take(&mut self.sockets.written));
        self.writes_most = self.writes_most.max(std::mem::take(&mut self.sockets.writes));
        let after = self.shard.report().levels;
        self.ended_most = self.ended_most.max(before.subscriptions.saturating_sub(after.subscriptions));
        self.departed_most = self.departed_most.max(before.members.saturating_sub(after.members));
        for effect in effects.sockets {
            match effect {
                SocketEffect::Closing(connection) => drop(self.closed.insert(connection)),
                SocketEffect::Finish(connection) => drop(self.finished.insert(connection)),
                SocketEffect::Resume(_) => resumed += 1,
                SocketEffect::TooFast(..) => {}
            }
        }
        self.resumed_most = self.resumed_most.max(resumed);
        let asked = !effects.store.is_empty();
        for (ticket, request) in effects.store {
            let receipt = match request {
                StoreRequest::Question(StoreQuestion::Head { .. }) => StoreReceipt::Head(None),
                StoreRequest::Question(StoreQuestion::Users { ids, .. }) => StoreReceipt::Users(ids),
                StoreRequest::Write(StoreWrite::Insert(_)) => StoreReceipt::Inserted,
                other => panic!("{other:?}"),
            };
            self.shard.step(Input::Receipt { ticket, outcome: Ok(receipt) }, NOW);
        }
        asked
    }

    /// What a session has received.
    pub fn heard(&self, slot: u32) -> &[u8] {
        self.sockets.heard.get(&slot).map_or(&[], Vec::as_slice)
    }

    /// The same as text.
    pub fn text(&self, slot: u32) -> String {
        String::from_utf8_lossy(self.heard(slot)).into_owned()
    }
}
