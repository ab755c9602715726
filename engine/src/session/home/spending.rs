//! Budgets: what requests cost is charged to the session, its user and its network, and a request beyond the budget of
//! one of them is refused before its work begins.
//!
//! Some requests are never refused (`costs.rs`). If one of the three is far beyond the budget, the socket is read later:
//! the connection rests for `REST_DURATION`. After that at least one request is read, so a ping waits for a short time
//! only, whatever else the user's connections ask for.

use super::Home;
use crate::budget::{Standing, Work};
use crate::command::{Command, RateLimit, Rejection};
use crate::id::{ConnectionId, Monotonic, UserId};
use crate::limits::{REST_DURATION, RESTED_TURN_MAX};
use crate::outbox::{Outbox, SocketEffect};
use crate::session::connection::Rest;
use crate::session::costs::{
    ANSWER_BYTES_FREE, HELD_BACK_TURN_WORK_MAX, RECEIVED_BYTES_FREE, REFUSAL, SILENT_FRAME, TURN_WORK_MAX, cost_of,
    may_be_refused,
};
use crate::session::shared_budgets::{Payer, Purse};

impl Home {
    /// Whether the connection's next request may be read; if not, `SocketEffect::Resume` will say when.
    pub fn accepts(&mut self, id: ConnectionId) -> bool {
        let must_rest = self.must_rest(id);
        let Some(connection) = self.connections.get_mut(id) else { return false };
        if must_rest && connection.rest == Rest::Not {
            connection.rest = Rest::Resting;
            self.resting.push_back((self.monotonic.plus(REST_DURATION), id));
        }
        let accepts = connection.accepts();
        connection.paused = !accepts;
        accepts
    }

    fn must_rest(&self, id: ConnectionId) -> bool {
        self.standings(id).into_iter().any(|(_, standing)| standing.is_far_beyond())
    }

    /// Begins a turn at this reading of the monotonic clock.
    pub fn begin_turn(&mut self, now: Monotonic, outbox: &mut Outbox) {
        self.monotonic = now;
        (self.ended, self.ended_later) = (0, 0);
        self.worked = Work::default();
        self.shared_budgets.begin_turn(now);
        self.take_up_held_back(outbox);
        self.end_rests(outbox);
    }

    /// Has connections read again whose time of rest is over: as many as one turn may cost.
    fn end_rests(&mut self, outbox: &mut Outbox) {
        for _ in 0..RESTED_TURN_MAX {
            if !self.has_rested() {
                return;
            }
            let Some((_, id)) = self.resting.pop_front() else { return };
            let Some(connection) = self.connections.get_mut(id) else { continue };
            connection.rest = Rest::Over;
            if connection.paused && connection.accepts() {
                connection.paused = false;
                outbox.socket(SocketEffect::Resume(id));
            }
        }
    }

    /// Whether more connections have rested enough than one turn has had read again.
    pub(super) fn has_rested(&self) -> bool {
        self.resting.front().is_some_and(|(due, _)| *due <= self.monotonic)
    }

    /// The number of connections that are read later. Connections that have closed meanwhile count for a moment.
    pub fn resting(&self) -> usize {
        self.resting.len()
    }

    /// Charges a request that is about to begin, or refuses it. A refusal is charged too, but less.
    pub(super) fn afford(&mut self, id: ConnectionId, command: &Command) -> Result<(), Rejection> {
        let exceeded = self.standings(id).into_iter().find(|(_, standing)| *standing != Standing::Within);
        if let Some((limit, _)) = exceeded
            && may_be_refused(command)
        {
            self.charge_request(id, REFUSAL);
            let debts = self.standings(id).map(|(_, standing)| standing.debt());
            return Err(Rejection::too_fast(limit, debts.into_iter().max().unwrap_or_default()));
        }
        self.charge_request(id, cost_of(command));
        Ok(())
    }

    /// How a session, its user and its network stand to their budgets. A connection that closes has no budget.
    fn standings(&self, id: ConnectionId) -> [(RateLimit, Standing); 3] {
        let connection = self.connections.get(id).filter(|connection| !connection.closing);
        let session = connection.map_or(Standing::Within, |connection| connection.work.standing(self.monotonic));
        let payer = connection.map_or(Payer::default(), |connection| connection.session.payer());
        let [user, network] = self.shared_budgets.standings(payer, Purse::Requests);
        [(RateLimit::WorkPerSession, session), user, network]
    }

    /// Charges what a connection has sent.
    pub(super) fn charge_request(&mut self, id: ConnectionId, work: Work) {
        if let Some(connection) = self.connections.get_mut(id)
            && connection.rest == Rest::Over
        {
            connection.rest = Rest::Not;
        }
        self.charge(id, work);
    }

    /// Whether the requests of this turn are half of the work that a turn may be. What was kept from earlier turns takes no
    /// more, so that sockets are read as well.
    pub fn has_worked_half(&self) -> bool {
        self.worked >= HELD_BACK_TURN_WORK_MAX
    }

    /// Whether the requests that were read in this turn are as much work as a turn may be. The others are read in the next
    /// turn.
    pub fn has_worked_enough(&self) -> bool {
        self.worked >= TURN_WORK_MAX
    }

    /// The work of the requests that were read in this turn, and of late writes.
    pub fn worked(&self) -> Work {
        self.worked
    }

    /// The user and the network of a connection's session. Empty if there is no such connection.
    pub fn client(&self, id: ConnectionId) -> Payer {
        self.connections.get(id).map_or(Payer::default(), |connection| connection.session.payer())
    }

    /// To whose budgets the work of a connection is charged. Empty if there is no such connection.
    pub fn payer(&self, id: ConnectionId) -> Payer {
        let payer = self.client(id);
        // Networks without budgets pay nothing.
        Payer { network: payer.network.filter(|_| self.shared_budgets.bounds_networks()), ..payer }
    }

    /// Counts work of this turn that no session is charged for.
    pub(super) fn count_work(&mut self, work: Work) {
        self.worked = self.worked + work;
    }

    /// Charges work to a session, its user and its network.
    pub(super) fn charge(&mut self, id: ConnectionId, work: Work) {
        self.count_work(work);
        let Some(connection) = self.connections.get_mut(id) else { return };
        if let Some(rate) = self.rules.work_per_session {
            connection.work.spend(work, rate, self.monotonic);
        }
        self.shared_budgets.charge(connection.session.payer(), Purse::Requests, work);
    }

    /// Charges bytes that a connection has sent, and frames of it that are no request: pongs, and parts of messages.
    /// Every request has a price of its own, in which a short frame is contained.
    pub fn charge_received(&mut self, id: ConnectionId, bytes: usize, silent_frames: usize) {
        if bytes > RECEIVED_BYTES_FREE || silent_frames > 0 {
            self.charge_request(id, Work::bytes(bytes) + SILENT_FRAME.times(silent_frames));
        }
    }

    /// Charges an answer that is longer than answers usually are.
    pub(super) fn charge_answer(&mut self, id: ConnectionId, bytes: usize) {
        if bytes > ANSWER_BYTES_FREE {
            self.charge(id, Work::bytes(bytes));
        }
    }

    /// Charges what it took to tell others of a user's statuses: to the user, and in equal parts to the sessions whose
    /// requests waited for it and to their networks.
    pub(super) fn charge_telling(&mut self, user: UserId, asked_by: &[ConnectionId], work: Work) {
        self.shared_budgets.charge(Payer { user: Some(user), network: None }, Purse::Requests, work);
        let part = work.shared_by(asked_by.len());
        for &id in asked_by {
            let Some(connection) = self.connections.get_mut(id) else { continue };
            let payer = Payer { user: None, network: connection.session.network };
            self.shared_budgets.charge(payer, Purse::Requests, part);
            if let Some(rate) = self.rules.work_per_session {
                connection.work.spend(part, rate, self.monotonic);
            }
        }
    }
}
