//! What is written to sockets, and what happens to connections that do not read.
//!
//! A turn writes private frames (`flush`), one slice of a pass, and what waits for sockets that have room again
//! (`writable`): each as many bytes as are bounded. A connection whose socket is full is parked. It is let go when it is
//! too far behind, or cut off when the unread answers of all connections hold too much.

use std::ops::Bound;

use super::Home;
use crate::counters::SessionEnd;
use crate::fanout::frames;
use crate::fanout::log::Position;
use crate::fanout::subscribers::{AudienceKey, Outlet, Skip, Subscribers};
use crate::id::{ConnectionId, Monotonic};
use crate::limits::{FLUSH_WRITES_MAX, PASS_BYTES_MAX, WRITE_PIECES_MAX};
use crate::message::Missed;
use crate::outbox::{Outbox, SocketEffect};
use crate::session::admission::OnLag;
use crate::session::connection::{Connection, Private, Subscription};
use crate::session::costs::late_write;
use crate::wire::websocket;

impl Home {
    /// Writes the private frames of connections that have some: as many bytes as a slice of a pass writes, and to at most
    /// `FLUSH_WRITES_MAX` connections. Connections beyond that are parked, as if their sockets were full, and are written
    /// to in the next turns. Must be called before a pass goes on.
    pub fn flush(&mut self, outlet: &mut impl Outlet, outbox: &mut Outbox) {
        let (mut left, mut writes) = (PASS_BYTES_MAX, FLUSH_WRITES_MAX);
        while left >= self.rules.write_bytes_max
            && writes > 0
            && let Some(id) = self.deferred.pop_front()
        {
            if let Some(connection) = self.connections.get_mut(id)
                && std::mem::take(&mut connection.deferred)
            {
                left -= self.write(id.slot, outlet, outbox);
                writes -= 1;
                self.charge_held_bytes(id.slot, outbox);
            }
        }
        for slot in std::mem::take(&mut self.dirty) {
            let Some(connection) = self.connections.in_slot(slot) else { continue };
            let was_dirty = std::mem::take(&mut connection.dirty);
            if was_dirty && !connection.parked {
                if left >= self.rules.write_bytes_max && writes > 0 {
                    left -= self.write(slot, outlet, outbox);
                    writes -= 1;
                } else {
                    connection.deferred = true;
                    self.deferred.push_back(ConnectionId { slot, generation: connection.generation });
                    park(connection, &mut self.subscribers);
                }
            }
            self.charge_held_bytes(slot, outbox);
        }
    }

    /// Counts the bytes that wait for this connection's socket, if the socket is full. While the connections of the shard
    /// together hold more than `Rules::outboxes_bytes_max`, closes the heaviest connection of the user who holds most.
    fn charge_held_bytes(&mut self, slot: u32, outbox: &mut Outbox) {
        self.count_held(slot);
        while let Some(user) = self.held_bytes.gives_way() {
            let accounted = |id: ConnectionId| {
                let traffic = self.connections.get(id).and_then(|connection| connection.traffic.as_ref());
                traffic.map_or(0, |traffic| traffic.accounted)
            };
            let ids = self.sessions_by_user.of(user).filter_map(|slot| self.connections.id_in_slot(slot));
            let heaviest = ids.max_by_key(|&id| accounted(id)).filter(|&id| accounted(id) > 0);
            let Some(id) = heaviest else {
                debug_assert!(false, "a user that holds bytes has a connection that does");
                return;
            };
            self.cut_off(id, outbox);
        }
    }

    fn count_held(&mut self, slot: u32) {
        let Some(connection) = self.connections.in_slot(slot) else { return };
        let is_slow = connection.is_slow();
        let Some(traffic) = &mut connection.traffic else { return };
        let now = if is_slow { traffic.held() } else { 0 };
        let before = std::mem::replace(&mut traffic.accounted, now);
        if before != now {
            self.held_bytes.change(connection.session.user, before, now);
            connection.rest();
        }
    }

    /// Ends a connection without a close frame: its socket is full, and a frame may be half written.
    fn cut_off(&mut self, id: ConnectionId, outbox: &mut Outbox) {
        self.counters.cut_off += 1;
        self.leave_all(id, outbox);
        let Some(connection) = self.connections.get_mut(id) else { return };
        connection.end = SessionEnd::Slow;
        connection.closing = true;
        connection.traffic().abandon();
        outbox.socket(SocketEffect::Finish(id));
        self.count_held(id.slot);
    }

    /// Writes what a connection is owed, because its socket has room again.
    pub fn writable(&mut self, id: ConnectionId, outlet: &mut impl Outlet, outbox: &mut Outbox) {
        let Some(connection) = self.connections.get_mut(id).filter(|connection| connection.parked) else { return };
        if connection.is_mute() && !connection.closing {
            // Answers to it are dropped, so the logs behind them must not be sent either. It waits for its close frame.
            return outlet.wait(id.slot);
        }
        let (subscriptions, before) = (connection.subscriptions.len(), self.counters.private_writes);
        let bytes = self.write(id.slot, outlet, outbox);
        self.charge_held_bytes(id.slot, outbox);
        let writes = (self.counters.private_writes - before) as usize;
        self.count_work(late_write(writes, bytes, subscriptions));
    }

    /// Runs one slice of the passes under way, and deals with connections that are blocked or too far behind.
    pub fn pass(&mut self, now: Monotonic, outlet: &mut impl Outlet, outbox: &mut Outbox) {
        let mut slice = self.subscribers.begin_slice(now, &self.rules);
        while self.subscribers.serve_next(&mut slice, outlet, &self.rules, &mut self.report) {
            for (slot, key) in self.report.blocked.drain(..) {
                if let Some(connection) = self.connections.in_slot(slot) {
                    connection.traffic().interrupted = Some(key);
                    park(connection, &mut self.subscribers);
                }
            }
        }
        self.let_laggards_go();
        for (channel, state) in std::mem::take(&mut self.report.backlogs) {
            outbox.backlog(channel, state);
        }
    }

    /// Judges members whose sockets are full, if what they are owed fills much of the memory for logs. Must be called
    /// once a turn.
    pub fn judge_parked(&mut self) {
        self.subscribers.judge_parked(&self.rules, &mut self.report);
        self.let_laggards_go();
        self.judge_tail();
    }

    /// If the logs hold more than half of what they may, judges one connection of those that still have to read of channels
    /// they have left.
    fn judge_tail(&mut self) {
        if self.subscribers.log_bytes() <= self.rules.logs_bytes_max / 2 {
            return;
        }
        let after = self.judged_tail.map_or(Bound::Unbounded, Bound::Excluded);
        let next = self.with_tails.range((after, Bound::Unbounded)).next().or(self.with_tails.first()).copied();
        self.judged_tail = next;
        let Some(slot) = next else { return };
        let allowed = self.subscribers.lag_allowed(&self.rules);
        let slow = |connection: &&mut Connection| connection.is_slow() && !connection.is_leaving();
        let traffic = self.connections.in_slot(slot).filter(slow);
        let owed = traffic.and_then(|connection| connection.traffic.as_ref()).map_or(0, |traffic| traffic.tail_bytes());
        if owed == 0 || owed > allowed {
            self.with_tails.remove(&slot);
        }
        if owed > allowed
            && let Some(connection) = self.connections.in_slot(slot)
        {
            let id = ConnectionId { slot, generation: connection.generation };
            self.let_go(id, &format!("too slow: more than {allowed} bytes of left channels behind"));
        }
    }

    /// Moves members on that are too far behind, or closes them when their turn comes.
    pub(super) fn let_laggards_go(&mut self) {
        let allowed = self.subscribers.lag_allowed(&self.rules);
        for (slot, key) in std::mem::take(&mut self.report.lagging) {
            // A connection that waits for the server is not slow.
            let may_be_slow = |connection: &&mut Connection| !connection.is_leaving() && !connection.deferred;
            let Some(connection) = self.connections.in_slot(slot).filter(may_be_slow) else { continue };
            match (connection.session.on_lag, connection.subscription(key)) {
                (OnLag::Skip, Some(subscription)) => {
                    self.counters.gaps += 1;
                    skip(connection, subscription, &mut self.subscribers, allowed);
                }
                _ => {
                    let id = ConnectionId { slot, generation: connection.generation };
                    self.let_go(id, &format!("too slow: more than {allowed} bytes behind"));
                }
            }
        }
    }

    /// Whether a connection was found to be too far behind.
    pub fn is_too_slow(&self, id: ConnectionId) -> bool {
        self.connections.get(id).is_some_and(|connection| connection.is_mute())
    }

    /// Closes a connection that is too far behind, when its turn comes.
    pub(super) fn let_go(&mut self, id: ConnectionId, reason: &str) {
        let Some(connection) = self.connections.get_mut(id).filter(|connection| !connection.is_leaving()) else {
            return;
        };
        debug_assert!(connection.parked, "only whose socket was found full may be slow");
        self.counters.slow_readers += 1;
        // The frames before its answers are dropped, so the answers must not be sent either.
        connection.end = SessionEnd::Slow;
        let traffic = connection.traffic();
        traffic.forget_unsaid();
        let mut frame = Vec::new();
        websocket::close_frame(&mut frame, Some(websocket::CloseCode::TRY_AGAIN_LATER), reason);
        // It says more than a close frame that waits already.
        traffic.farewell = Some(frame);
        self.end_later(id);
    }

    /// Writes what a connection is owed outside of the pass: its private frames, each after the part of a log that it
    /// must follow. If the connection was parked, also writes everything else that it is owed. If it is owed more than
    /// one visit writes, it waits like a connection whose socket is full. Returns the bytes that the socket took.
    fn write(&mut self, slot: u32, outlet: &mut impl Outlet, outbox: &mut Outbox) -> usize {
        let (most, mut bytes, mut looked) = (self.rules.write_bytes_max, 0, 0);
        loop {
            let Some(connection) = self.connections.in_slot(slot) else { return bytes };
            let pieces = owed(connection, &self.subscribers, &mut looked);
            if pieces.is_empty() {
                let id = ConnectionId { slot, generation: connection.generation };
                written_all(id, connection, &mut self.subscribers, outbox);
                return bytes;
            }
            let private = connection.traffic.as_deref();
            let mut slices: Vec<&[u8]> = Vec::with_capacity(pieces.len());
            for piece in &pieces {
                match piece {
                    Piece::Log(subscription, from, to) => {
                        slices.push(self.subscribers.bytes(subscription.key, *from, *to));
                    }
                    Piece::Private(index) => {
                        let traffic = private.expect("private pieces are of the traffic");
                        let written = if *index == 0 { traffic.written } else { 0 };
                        slices.extend(traffic.outbox[*index].bytes.behind(written));
                    }
                }
            }
            let offered = cut(&mut slices, most - bytes);
            self.counters.private_writes += 1;
            let Ok(written) = outlet.write(slot, &slices) else { return bytes };
            account(connection, &mut self.subscribers, &pieces, written);
            bytes += written;
            if bytes == most {
                outlet.wait(slot);
            }
            if bytes == most || written < offered {
                park(connection, &mut self.subscribers);
                return bytes;
            }
        }
    }
}

/// Shortens the slices to at most this many bytes together. Returns how many bytes they have then.
fn cut(slices: &mut Vec<&[u8]>, bytes_max: usize) -> usize {
    let mut bytes = 0;
    slices.retain_mut(|slice| {
        *slice = &slice[..slice.len().min(bytes_max - bytes)];
        bytes += slice.len();
        !slice.is_empty()
    });
    bytes
}

/// After a write of `written` bytes: moves cursors on and removes the written frames from the outbox.
fn account(connection: &mut Connection, subscribers: &mut Subscribers, pieces: &[Piece], mut written: usize) {
    for piece in pieces {
        match piece {
            Piece::Log(Subscription { key, index, .. }, from, to) => {
                let bytes = (to.0 - from.0) as usize;
                let taken = bytes.min(written);
                subscribers.advance(*key, *index, taken);
                written -= taken;
                if taken == bytes {
                    connection.traffic().interrupted.take_if(|of| of == key);
                    continue;
                }
                if taken > 0 {
                    connection.traffic().interrupted = Some(*key);
                }
                return;
            }
            Piece::Private(_) => {
                let traffic = connection.traffic();
                let rest = traffic.outbox[0].bytes.len() - traffic.written;
                if written < rest {
                    traffic.written += written;
                    return;
                }
                written -= rest;
                traffic.said();
            }
        }
    }
    debug_assert_eq!(written, 0, "a socket takes no more than it is offered");
}

/// Everything that the connection was owed is written.
fn written_all(id: ConnectionId, connection: &mut Connection, subscribers: &mut Subscribers, outbox: &mut Outbox) {
    if std::mem::take(&mut connection.parked) {
        for Subscription { key, index, .. } in &connection.subscriptions {
            subscribers.unpark(*key, *index);
        }
    }
    if connection.closing {
        outbox.socket(SocketEffect::Finish(id));
    }
    connection.rest();
    if connection.paused && connection.accepts() {
        connection.paused = false;
        outbox.socket(SocketEffect::Resume(id));
    }
}

/// The connection's socket is full: passes leave it out until the socket has room.
fn park(connection: &mut Connection, subscribers: &mut Subscribers) {
    connection.parked = true;
    for Subscription { key, index, .. } in &connection.subscriptions {
        subscribers.park(*key, *index);
    }
}

/// Moves a connection that is too far behind to the newest message, and tells it what it missed. A half-written frame
/// is finished first.
fn skip(connection: &mut Connection, subscription: Subscription, subscribers: &mut Subscribers, lag_allowed: u64) {
    let Subscription { key, index, .. } = subscription;
    // The newest message counts only if it is less than half of the allowed lag behind the end. The other half is room
    // to catch up with new messages.
    let Skip { border, rest, missed } = subscribers.skip(key, index, lag_allowed / 2);
    let channel = subscribers.channel_of(key);
    let format = connection.session.format;
    let traffic = connection.traffic();
    traffic.say_gap((key, border), missed.after, |after| frames::gap(format, channel, Missed { after, ..missed }));
    if traffic.interrupted.take_if(|of| *of == key).is_some() {
        traffic.say_first(Private::of(rest));
    }
}

/// A part of what a connection is owed.
enum Piece {
    Log(Subscription, Position, Position),
    /// The frame at this place of the outbox.
    Private(usize),
}

/// What to write to a connection next, in order, in at most `WRITE_PIECES_MAX` pieces. `looked` is how many of its
/// subscriptions are known to owe it nothing; those that this call has looked at are added to them, because the caller
/// asks again only if all pieces were written.
fn owed(connection: &Connection, subscribers: &Subscribers, looked: &mut usize) -> Vec<Piece> {
    let mut pieces = Vec::new();
    // The log positions that the pieces before and between private frames reach.
    let mut reached: Vec<(AudienceKey, Position)> = Vec::new();
    let cursor = |subscription: Subscription| subscribers.cursor(subscription.key, subscription.index);
    let mut take = |pieces: &mut Vec<Piece>, subscription: Subscription, to: Position| {
        let known = reached.iter().position(|(key, _)| *key == subscription.key).unwrap_or_else(|| {
            reached.push((subscription.key, cursor(subscription)));
            reached.len() - 1
        });
        let from = reached[known].1;
        if from < to {
            pieces.push(Piece::Log(subscription, from, to));
            reached[known].1 = to;
        }
    };
    if let Some(traffic) = &connection.traffic {
        if let Some(subscription) = traffic.interrupted.and_then(|key| connection.subscription(key)) {
            // Finish the half-written frame, but go on only to the place of the next private frame. The place of an
            // answer that waited for others may be before the cursor; such an answer does not count here.
            let places = traffic.outbox.iter().filter_map(|private| private.after);
            let until = places.filter(|&(key, place)| key == subscription.key && place >= cursor(subscription));
            let until = until.map(|(_, place)| place).min();
            take(&mut pieces, subscription, until.unwrap_or(subscribers.end(subscription.key)));
        }
        for (index, private) in traffic.outbox.iter().enumerate() {
            if pieces.len() + 2 > WRITE_PIECES_MAX {
                return pieces;
            }
            if let Some((key, place)) = private.after
                && let Some(subscription) = connection.subscription(key)
            {
                take(&mut pieces, subscription, place);
            }
            pieces.push(Piece::Private(index));
        }
    }
    if connection.parked {
        for subscription in &connection.subscriptions[*looked..] {
            if pieces.len() >= WRITE_PIECES_MAX {
                break;
            }
            *looked += 1;
            let known = reached.iter().find(|(key, _)| *key == subscription.key);
            let from = known.map_or_else(|| cursor(*subscription), |&(_, position)| position);
            let to = subscribers.end(subscription.key);
            if from < to {
                pieces.push(Piece::Log(*subscription, from, to));
            }
        }
    }
    pieces
}
