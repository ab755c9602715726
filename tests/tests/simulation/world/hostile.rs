//! Hostile clients: sessions of one user that ask as much as they are let, and hardly read. They join and leave around
//! the border of a crowd, show long statuses, follow and unfollow, ping, ask the others to chat, flood the rooms with
//! messages, hang up in the middle of all that, and return.
//!
//! The honest clients stay in their rooms meanwhile. What the attack may cost them has a budget, which this file asserts
//! beside what every simulation asserts in each turn.

use std::time::Duration;

use engine::command::{Command, Join};
use engine::id::{ChannelId, Monotonic, UserId};
use engine::limits::{
    BACKLOG_BYTES_HIGH, BUDGET_BURST, CROWD_EVENT_INTERVAL, CROWD_LASTS_MIN, NEWS_BYTES_MAX, OUTBOX_BYTES_MAX,
    PASS_BYTES_MAX, PRESENCES_PER_SECOND, REQUEST_TO_CHAT_INTERVAL, STATUS_BYTES_MAX, SUBSCRIBER_LAG_BYTES_MAX,
};
use engine::persist::{StoreRequest, StoreWrite};
use engine::shard::Input;
use engine::wire::websocket;
use uuid::Uuid;

use super::{Wires, World};

/// The user of all hostile sessions.
pub const HOSTILE: UserId = UserId(Uuid::from_u128(u128::MAX));

/// The requests of a hostile client in one turn are fewer than this, floods aside.
const REQUESTS_MAX: usize = 16;

/// Messages of a flood.
const FLOOD: usize = 8;

/// Microseconds of the cheapest request that a budget may refuse: a message.
const CHEAPEST_US: u128 = 20;

impl World {
    pub(super) fn attack(&mut self, client: usize) {
        for _ in 0..self.random.below(REQUESTS_MAX) {
            let room = self.random.below(self.plan.rooms);
            match self.random.below(60) {
                0..=19 => {
                    let persistence = self.random.one_in(2);
                    self.costly_requests += 1;
                    self.join(client, room, persistence);
                }
                20..=38 => self.request(client, "leave", room, |channel_id| Command::Leave { channel_id }),
                39..=43 => {
                    let status = Some("\t".repeat(STATUS_BYTES_MAX));
                    self.costly_requests += 1;
                    self.request(client, "status", room, |_| Command::StatusUpdate { status });
                }
                44 => self.hang_up_and_return(client),
                45 => self.flood(client, room),
                46..=47 => self.follow(client),
                48..=51 => self.ping(client),
                52..=55 => self.request(client, "ping", room, |_| Command::Ping),
                _ => self.ask_to_chat(client),
            }
        }
    }

    /// The connection ends without a word, and another session of the user opens, on any shard.
    fn hang_up_and_return(&mut self, client: usize) {
        self.replace(client);
    }

    /// Sends as many messages as the connection takes.
    fn flood(&mut self, client: usize, room: usize) {
        for _ in 0..FLOOD {
            self.costly_requests += 1;
            let content = format!("{{\"flood\":{}}}", self.random.below(1_000_000));
            self.request(client, "send", room, |channel_id| Command::Send { channel_id, content });
        }
    }

    /// Follows a client, or a hostile one, or ends that.
    fn follow(&mut self, client: usize) {
        let victim = self.random.below(self.clients.len());
        let user_ids = vec![self.clients[victim].user.to_string()];
        if self.random.one_in(2) {
            self.costly_requests += 1;
            let follow = Command::StatusFollow { user_ids, usernames: Vec::new() };
            self.request(client, "follow", 0, |_| follow);
        } else {
            self.request(client, "unfollow", 0, |_| Command::StatusUnfollow { user_ids });
        }
    }

    /// A ping of WebSocket.
    fn ping(&mut self, client: usize) {
        let (shard, connection) = (self.clients[client].shard, self.clients[client].connection);
        if self.shards[shard].accepts(connection) {
            let mut frame = Vec::new();
            websocket::pong_frame(&mut frame, &[0; 100]);
            let now = self.wall(shard);
            self.shards[shard].step(Input::Pong { connection, frame }, now);
        }
    }

    /// Joins the direct channel with another client, or leaves it.
    fn ask_to_chat(&mut self, client: usize) {
        let victim = self.random.below(self.clients.len());
        let user = self.clients[victim].user;
        let channel = ChannelId::direct(HOSTILE, user).to_string();
        if self.random.one_in(2) {
            self.costly_requests += 1;
            let join = Join { target: user.to_string(), kind: 2, persistence: true, hidden: false };
            self.request_in(client, "join", channel, |_| Command::Join(join));
        } else {
            self.request_in(client, "leave", channel, |channel_id| Command::Leave { channel_id });
        }
    }

    /// Checks what a shard asks the store: no more than clients ask it, and a request to chat of one pair once in ten
    /// seconds.
    pub(super) fn check_asked(&mut self, request: &StoreRequest) {
        self.store_requests += 1;
        // A channel that is made asks for the end of its history, beside the request that makes it.
        let may = 2 * self.requests;
        assert!(self.store_requests <= may || self.catches_up(), "{} requests to the store", self.store_requests);
        let StoreRequest::Write(StoreWrite::RequestChat { user, other, .. }) = request else {
            return;
        };
        let before = self.asked_to_chat.insert((*user, *other), self.monotonic);
        let again = before.is_none_or(|before| before.plus(REQUEST_TO_CHAT_INTERVAL) <= self.monotonic);
        // If the store fails, the next join asks again.
        assert!(again || self.plan.store_fails, "{user} asks {other} to chat again");
    }

    /// Checks what the witness was told of presences, against what the members of a room may be told in this time.
    pub fn check_budget(&self) {
        if self.plan.hostile == 0 {
            return;
        }
        let time = self.monotonic.since(Monotonic(0));
        let times = |interval: Duration| time.as_nanos() / interval.as_nanos() + 2;
        let (clients, hostile) = (self.plan.clients as u128, self.plan.hostile as u128);
        let at_once = u128::from(PRESENCES_PER_SECOND.get()) * times(Duration::from_secs(1));
        let net_changes = 2 * clients * times(CROWD_EVENT_INTERVAL);
        let lists = clients * times(CROWD_LASTS_MIN);
        // Before the first message of an honest client the others are told of it, and of all that waits.
        let before_messages = clients * (1 + 2 * hostile);
        let budget = self.plan.rooms as u128 * (at_once + net_changes + lists + before_messages);
        let witness = &self.clients[0];
        assert!(u128::from(witness.presences) <= budget, "{} presences told, {budget} may be", witness.presences);
        self.check_work(time);
        let rooms_again = self.plan.rooms as u128 * times(CROWD_LASTS_MIN);
        assert!(u128::from(witness.rooms_again) <= rooms_again, "{} lists, {rooms_again} may be", witness.rooms_again);
    }

    /// Checks that the hostile user was let in no more often than the user's budget allows, on all shards together.
    fn check_work(&self, time: Duration) {
        let Some(rate) = self.plan.work_per_user else { return };
        let refused: u64 = self.shards.iter().map(|shard| shard.report().home.too_fast.iter().sum::<u64>()).sum();
        let allowed_us = (BUDGET_BURST + time).as_micros() * u128::from(rate.get()) / 1000;
        let allowed = self.shards.len() as u128 * (allowed_us / CHEAPEST_US + 1);
        let let_in = u128::from(self.costly_requests.saturating_sub(refused + self.untaken));
        assert!(let_in <= allowed, "{let_in} requests of one user were let in, and {allowed} may be");
    }

    /// Checks what the hostile clients make a shard hold: logs that they do not read, and answers and news.
    pub(super) fn check_held(&self, shard: usize) {
        let levels = self.shards[shard].report().levels;
        let logs = self.plan.rooms as u64 * (SUBSCRIBER_LAG_BYTES_MAX + 2 * BACKLOG_BYTES_HIGH);
        assert!(levels.log_bytes <= logs, "{} bytes of logs, and {logs} may be", levels.log_bytes);
        let unread = self.plan.clients as u64 * 2 * (OUTBOX_BYTES_MAX + NEWS_BYTES_MAX) as u64;
        assert!(levels.unread_bytes <= unread, "{} bytes are unread, and {unread} may be", levels.unread_bytes);
    }

    /// Checks that a turn's private frames, and the slice of its pass, keep their bounds.
    pub(super) fn check_written(&self, shard: usize, flushed: &Written, passed: &Written) {
        let most = flushed.bytes.values().max().copied().unwrap_or(0);
        assert!(most <= self.plan.write_bytes_max, "{most} bytes in one visit of shard {shard}");
        assert!(passed.writes <= self.plan.pass_visits_max, "{} visits in a slice", passed.writes);
        let bytes: usize = passed.bytes.values().sum();
        assert!(bytes <= PASS_BYTES_MAX, "{bytes} bytes in a slice");
    }
}

/// What was written to the sockets of a shard.
#[derive(Default)]
pub struct Written {
    pub writes: usize,
    /// By slot.
    pub bytes: std::collections::BTreeMap<u32, usize>,
}

impl Wires {
    /// What was written since the last call.
    pub fn take_written(&mut self) -> Written {
        std::mem::take(&mut self.written)
    }
}
