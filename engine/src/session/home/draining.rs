//! A drain: the sessions of a shard are closed one after another, evenly over a time, so that their clients do not all
//! come back at the same moment.
//!
//! A session that ends for another reason counts like a session that the drain has closed, so the others are not closed sooner
//! because of it. Sessions whose sockets were found full come last: their clients need the time to read. Sessions that are
//! still open go on as always.

use std::collections::HashSet;
use std::time::Duration;

use super::{CloseMode, Home};
use crate::counters::SessionEnd;
use crate::id::Monotonic;
use crate::limits::DRAIN_LOOKS_MAX;
use crate::outbox::Outbox;
use crate::session::connections::Connections;

/// A drain under way.
pub(super) struct Drain {
    begun: Monotonic,
    time: Duration,
    /// The last frames of the sessions, which take them in turn.
    frames: Vec<Vec<u8>>,
    /// The sessions when it began.
    total: usize,
    /// Those of them that the drain has closed.
    closed: usize,
    /// The slots of those that it has closed and that are still there: they wait for their answers, or for the client to
    /// hang up.
    closing: HashSet<u32>,
    /// Those of them that have ended for another reason.
    ended_alone: usize,
    round: Round,
    /// The slot that is looked at next.
    next_slot: u32,
    /// Whether a session is due that this turn had no more room for.
    is_behind: bool,
}

/// Which sessions are closed. Each round looks at every slot.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Round {
    /// Those whose sockets take what is sent.
    Readers,
    /// All that are left.
    All,
    /// No session is left that must be closed.
    Over,
}

impl Drain {
    /// How many sessions are to have ended by now.
    fn due(&self, now: Monotonic) -> usize {
        let elapsed = now.since(self.begun);
        if elapsed >= self.time {
            return self.total;
        }
        let due = self.total as u128 * elapsed.as_nanos() / self.time.as_nanos().max(1);
        usize::try_from(due).unwrap_or(self.total)
    }

    /// Whether more sessions are due than have ended.
    fn is_due(&self, now: Monotonic) -> bool {
        self.round != Round::Over && self.closed + self.ended_alone < self.due(now)
    }

    /// Looks at the next slot. Returns its connection if the drain closes it in this round.
    fn look(&mut self, connections: &mut Connections) -> Option<u32> {
        if self.next_slot >= connections.slots() {
            self.next_slot = 0;
            self.round = if self.round == Round::Readers { Round::All } else { Round::Over };
            return None;
        }
        let slot = self.next_slot;
        self.next_slot += 1;
        let connection = connections.in_slot(slot)?;
        if connection.is_leaving() || (self.round == Round::Readers && connection.is_slow()) {
            return None;
        }
        self.closing.insert(slot).then_some(slot)
    }

    /// Takes in that the session in this slot has ended.
    pub(super) fn ended(&mut self, slot: u32) {
        self.ended_alone += usize::from(!self.closing.remove(&slot));
    }
}

impl Home {
    /// Begins to close all sessions, evenly over this time. One of `frames`, of which there is at least one, is the last that
    /// each client receives, after the answers to its requests. No session may open afterwards. A second drain changes nothing.
    pub fn drain(&mut self, time: Duration, frames: Vec<Vec<u8>>) {
        debug_assert!(!frames.is_empty(), "each client is told");
        let (begun, total) = (self.monotonic, self.open);
        self.drain.get_or_insert_with(|| {
            let (round, is_behind) = (Round::Readers, total > 0);
            let (closed, closing, ended_alone) = (0, HashSet::new(), 0);
            Drain { begun, time, frames, total, closed, closing, ended_alone, round, next_slot: 0, is_behind }
        });
    }

    /// Closes the sessions that are due, as many as one turn may cost. Must be called once a turn.
    pub fn close_due(&mut self, outbox: &mut Outbox) {
        let Some(mut drain) = self.drain.take() else { return };
        let mut looks = 0;
        while drain.is_due(self.monotonic) && looks < DRAIN_LOOKS_MAX && !self.has_ended_enough() {
            looks += 1;
            let slot = drain.look(&mut self.connections);
            if let Some(id) = slot.and_then(|slot| self.connections.id_in_slot(slot)) {
                let frame = drain.frames[drain.closed % drain.frames.len()].clone();
                drain.closed += 1;
                self.counters.drained += 1;
                self.close(id, frame, CloseMode::AfterAnswers, SessionEnd::Drained, outbox);
            }
        }
        drain.is_behind = drain.is_due(self.monotonic);
        self.drain = Some(drain);
    }

    /// Whether sessions are due to be closed now.
    pub(super) fn drain_is_behind(&self) -> bool {
        self.drain.as_ref().is_some_and(|drain| drain.is_behind)
    }
}
