//! One user with thousands of sessions that show and change statuses all at once: what a turn costs, and who is closed.

use std::collections::BTreeSet;

use engine::chart::Chart;
use engine::command::Command;
use engine::fanout::frames::Format;
use engine::fanout::subscribers::{Gone, Outlet};
use engine::id::{ConnectionId, Epoch, Monotonic, SessionId, ShardId, Timestamp, UserId};
use engine::limits::{NEWS_BYTES_MAX, PASS_BYTES_MAX, Rules, STATUS_BYTES_MAX, STATUS_TURN_PUSHES_MAX};
use engine::session::admission::{OnLag, Session};
use engine::session::home::Visibility;
use engine::shard::{Effects, Input, Shard, SocketEffect};
use uuid::Uuid;

const SESSIONS: u32 = 2_400;

/// Sessions that change their status.
const NOISY: u32 = 16;

/// How often each of them does so, in one turn.
const CHANGES: usize = 7;

const NOW: Timestamp = Timestamp(1_700_000_000_000_000_000);

/// A status that is twice as long in JSON.
fn status() -> String {
    "\"".repeat(STATUS_BYTES_MAX)
}

/// The sockets of all sessions.
#[derive(Default)]
struct Sockets {
    /// They take nothing.
    full: bool,
    writes: usize,
    bytes: usize,
}

struct World {
    shard: Shard,
    sockets: Sockets,
    closed: BTreeSet<ConnectionId>,
}

impl Outlet for Sockets {
    fn write(&mut self, _: u32, pieces: &[&[u8]]) -> Result<usize, Gone> {
        let bytes = pieces.iter().map(|piece| piece.len()).sum();
        self.writes += 1;
        self.bytes += bytes;
        Ok(if self.full { 0 } else { bytes })
    }

    fn wait(&mut self, _: u32) {}
}

fn connection(slot: u32) -> ConnectionId {
    ConnectionId { slot, generation: 1 }
}

impl World {
    /// A shard with the user's sessions, all visible.
    fn new() -> Self {
        // The bounds of a turn must hold without the budgets, which would refuse most of the storm.
        let rules = Rules { work_per_session: None, work_per_user: None, ..Rules::default() };
        let shard = Shard::new(ShardId::alone(0), Chart::alone(1, Epoch(1)), rules, 7);
        let mut world = Self { shard, sockets: Sockets::default(), closed: BTreeSet::new() };
        for slot in 0..SESSIONS {
            let session = Session {
                user: UserId(Uuid::from_u128(1)),
                session: SessionId(Uuid::from_u128(u128::from(slot))),
                username: "ada".into(),
                format: Format::Json,
                on_lag: OnLag::Close,
                network: None,
            };
            let visibility = Visibility::Online;
            world.shard.step(Input::Opened { connection: connection(slot), session, visibility }, NOW);
        }
        world.rest();
        world
    }

    /// Turns until nothing is left to do. Returns the number of turns. No turn writes more than its bound.
    fn rest(&mut self) -> usize {
        for turn in 0..10_000 {
            let Sockets { writes, bytes, .. } = self.sockets;
            let mut effects = Effects::default();
            self.shard.begin_turn(Monotonic(turn as i64));
            self.shard.finish_turn(NOW, &mut effects);
            self.shard.flush(&mut self.sockets);
            self.shard.pass(Monotonic(turn as i64), &mut self.sockets);
            self.shard.invariants();
            self.take_in(effects);
            let pushes = STATUS_TURN_PUSHES_MAX + SESSIONS as usize;
            assert!(self.sockets.writes - writes <= pushes, "{} writes in a turn", self.sockets.writes - writes);
            let written = self.sockets.bytes - bytes;
            assert!(written <= PASS_BYTES_MAX || self.sockets.full, "{written} bytes in a turn");
            if !self.shard.is_busy() {
                return turn;
            }
        }
        panic!("the shard does not come to rest");
    }

    fn take_in(&mut self, effects: Effects) {
        for effect in effects.sockets {
            if let SocketEffect::Closing(connection) = effect {
                self.closed.insert(connection);
            }
        }
    }

    fn storm(&mut self) {
        for change in 0..CHANGES {
            for slot in 0..NOISY {
                let command = Command::StatusUpdate { status: Some(status()) };
                let cid = change.to_string();
                self.shard.step(Input::Request { connection: connection(slot), cid, command }, NOW);
            }
        }
    }
}

#[test]
fn a_storm_closes_nobody_who_reads_and_tells_only_the_newest() {
    let mut world = World::new();
    let opened = world.sockets.bytes;
    world.storm();
    world.rest();
    assert!(world.closed.is_empty(), "{:?}", world.closed);
    // In an event a status stands twice at most, as what comes and as what leaves: 5 KB each.
    let each = (world.sockets.bytes - opened) / SESSIONS as usize;
    assert!(each > NOISY as usize * 2 * STATUS_BYTES_MAX, "{each} bytes: every session was told");
    assert!(each < NOISY as usize * 5 * STATUS_BYTES_MAX, "{each} bytes: of each session only the newest counts");
}

#[test]
fn sessions_that_read_nothing_are_let_go_one_turn_after_the_other() {
    let mut world = World::new();
    world.sockets.full = true;
    let storms = NEWS_BYTES_MAX / (NOISY as usize * 2 * STATUS_BYTES_MAX) + 2;
    for _ in 0..storms {
        world.storm();
        world.rest();
    }
    // Each that goes was visible, and the others are told. That happens in later turns, and ends.
    assert_eq!(world.closed.len(), SESSIONS as usize, "after {storms} storms");
}
