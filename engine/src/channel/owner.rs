//! A shard as the owner of its channels: it alone orders what happens in them.
//!
//! It gives each channel the step's context, sends the channel's requests to the store under tickets, and collects at
//! the end of a turn what the channels announce.

use std::collections::{BTreeMap, HashMap};

use crate::channel::pending::PendingPlace;
use crate::channel::{Channel, StepContext, Wanted, Wants};
use crate::counters::OwnerCounters;
use crate::id::{ChannelId, Epoch, Monotonic, Now, ShardId, Timestamp};
use crate::limits::{PRESENCE_PAGE_MAX, RECENT_MAX, STORE_REQUESTS_MAX};
use crate::parcel::{Backlog, Batch, Block, ChannelAnswer, ChannelQuery, ChannelRequest, Version};
use crate::persist::{StoreFailure, StoreReceipt, StoreRequest, Ticket};
use crate::social::notification::Notice;
use crate::table::give_back;

/// The channels that a shard owns and that have members or work under way.
pub struct Owner {
    epoch: Epoch,
    room_max: usize,
    /// Each channel has an allocation of its own, so that a table that grows or shrinks moves no channels.
    channels: HashMap<ChannelId, Box<Channel>>,
    /// Memberships in all channels. The changes of the current turn are not counted yet.
    members: usize,
    /// Channels that may have something to announce at the end of this turn.
    touched: Vec<ChannelId>,
    /// Channels with a presence event that waits, and when it may be announced.
    due: BTreeMap<ChannelId, Monotonic>,
    /// Requests under way at the store: for which channel, for what purpose, and since when.
    waiting: HashMap<Ticket, (ChannelId, Purpose, Timestamp)>,
    tickets: u64,
    /// Readings of newest messages so far. A number that a reading was prepared with is never used again.
    readings: u64,
    random: SplitMix64,
    /// Requests for the store, in order.
    pub requests: Vec<(Ticket, StoreRequest)>,
    /// Answers to visitors (requesters without a session), with the visitor's shard and the query's number.
    pub answers: Vec<(ShardId, u64, ChannelAnswer)>,
    /// Notices to be pushed to the sessions of their users.
    pub notices: Vec<Notice>,
    /// Blocks that the store has confirmed, with the shard and the number of the query.
    pub blocks: Vec<(ShardId, u64, Block)>,
    pub counters: OwnerCounters,
}

/// The purpose of a request to the store.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Purpose {
    Head,
    Newest(Version),
    Decision(PendingPlace),
}

impl Owner {
    /// `seed` is the seed of the generator for the random bits of message ids.
    pub fn new(epoch: Epoch, room_max: usize, seed: u64) -> Self {
        Self {
            epoch,
            room_max,
            channels: HashMap::new(),
            members: 0,
            touched: Vec::new(),
            due: BTreeMap::new(),
            waiting: HashMap::new(),
            tickets: 0,
            readings: 0,
            random: SplitMix64(seed),
            requests: Vec::new(),
            answers: Vec::new(),
            notices: Vec::new(),
            blocks: Vec::new(),
            counters: OwnerCounters::default(),
        }
    }

    /// Puts a request to a channel. Creates the channel if there is none.
    pub fn request(&mut self, home: ShardId, id: ChannelId, request: ChannelRequest, now: Now) {
        let context = StepContext { now, random: self.random.next() };
        let mut wants = Wants::new();
        let channel =
            self.channels.entry(id.clone()).or_insert_with(|| Box::new(Channel::new(id.clone(), self.room_max)));
        channel.request(home, request, &context, &mut wants);
        self.carry_out(id, wants, now);
    }

    /// Puts a visitor's change to a channel. Creates the channel if there is none.
    fn change(&mut self, from: ShardId, number: u64, id: ChannelId, query: ChannelQuery, now: Now) {
        let context = StepContext { now, random: self.random.next() };
        let mut wants = Wants::new();
        let channel =
            self.channels.entry(id.clone()).or_insert_with(|| Box::new(Channel::new(id.clone(), self.room_max)));
        channel.change(from, number, query, &context, &mut wants);
        self.carry_out(id, wants, now);
    }

    /// Takes in the store's answer to the request with this ticket.
    pub fn receipt(&mut self, ticket: Ticket, outcome: Result<StoreReceipt, StoreFailure>, now: Now) {
        let (id, purpose, asked) = self.waiting.remove(&ticket).expect("the store answers what it was asked, once");
        self.counters.store.record_between(asked, now.wall);
        self.counters.store_failures += u64::from(outcome.is_err());
        let context = StepContext { now, random: self.random.next() };
        let mut wants = Wants::new();
        // The channel may be gone: a reading of its newest messages does not keep it in memory.
        let Some(channel) = self.channels.get_mut(&id) else { return };
        match purpose {
            Purpose::Decision(place) => channel.decided(place, outcome, &context, &mut wants),
            Purpose::Head => channel.head(outcome, &context, &mut wants),
            Purpose::Newest(version) => channel.read(version, outcome),
        }
        self.carry_out(id, wants, now);
    }

    /// A shard's backlog in a channel has become too high, or low again.
    pub fn backlog(&mut self, from: ShardId, id: &ChannelId, state: Backlog, now: Now) {
        let Some(channel) = self.channels.get_mut(id) else { return };
        let context = StepContext { now, random: self.random.next() };
        let mut wants = Wants::new();
        match state {
            Backlog::High => channel.hold(from),
            Backlog::Low => channel.release_hold(from, &context, &mut wants),
        }
        self.carry_out(id.clone(), wants, now);
    }

    fn carry_out(&mut self, id: ChannelId, mut wants: Wants, now: Now) {
        let channel = self.channels.get_mut(&id).expect("the caller has looked");
        while !wants.is_empty() {
            for wanted in std::mem::take(&mut wants) {
                let (purpose, request) = match wanted {
                    Wanted::Head => (Purpose::Head, StoreRequest::Head { channel: id.clone() }),
                    Wanted::Newest(version) => {
                        (Purpose::Newest(version), StoreRequest::Newest { channel: id.clone(), limit: RECENT_MAX })
                    }
                    Wanted::Decision(place, request) => (Purpose::Decision(place), request),
                };
                // Requests for the head and the newest messages are bounded by the number of channels: each channel has
                // at most one of each.
                if let Purpose::Decision(place) = purpose
                    && self.waiting.len() >= STORE_REQUESTS_MAX
                {
                    let failure = StoreFailure::nothing_done("the store has too much to do");
                    let context = StepContext { now, random: self.random.next() };
                    channel.decided(place, Err(failure), &context, &mut wants);
                    continue;
                }
                self.tickets += 1;
                let ticket = Ticket(self.tickets);
                self.waiting.insert(ticket, (id.clone(), purpose, now.wall));
                self.requests.push((ticket, request));
            }
        }
        self.touched.push(id);
    }

    /// Takes what the touched channels announce, and drops the channels that are idle.
    pub fn batches(&mut self, now: Monotonic) -> Vec<(ShardId, Batch)> {
        let touched = &mut self.touched;
        self.due.retain(|id, due| {
            let waits = *due > now;
            if !waits {
                touched.push(id.clone());
            }
            waits
        });
        let mut batches = Vec::new();
        for id in std::mem::take(&mut self.touched) {
            let Some(channel) = self.channels.get_mut(&id) else { continue };
            batches.append(&mut channel.batches(self.epoch, now));
            let (before, members) = channel.count_members();
            self.members = self.members - before + members;
            self.counters.published += std::mem::take(&mut channel.announcements.published);
            self.answers.append(&mut channel.answers);
            self.notices.append(&mut channel.notices);
            self.blocks.append(&mut channel.blocks);
            if let Some(due) = channel.due() {
                self.due.insert(id.clone(), due);
            }
            if channel.is_idle() {
                self.due.remove(&id);
                self.channels.remove(&id);
                give_back(&mut self.channels);
            }
        }
        batches
    }

    /// Answers a visitor's query, now or later. The answer appears in `answers`.
    pub fn query(&mut self, from: ShardId, number: u64, id: &ChannelId, query: ChannelQuery, now: Now) {
        let answer = match (self.channels.get_mut(id), query) {
            (None, ChannelQuery::Presence { .. }) => ChannelAnswer::Presence { presences: Vec::new(), count: 0 },
            (None, ChannelQuery::Newest { .. }) => ChannelAnswer::AskTheStore,
            (Some(channel), ChannelQuery::Presence { after, limit }) => {
                let (presences, count) = channel.presence_page(after, limit.min(PRESENCE_PAGE_MAX));
                ChannelAnswer::Presence { presences, count }
            }
            (Some(channel), ChannelQuery::Newest { limit }) => {
                let mut wants = Wants::new();
                self.readings += 1;
                let unused = Version { epoch: self.epoch, reading: self.readings, changes: 0 };
                let answer = channel.newest(limit, unused, &mut wants);
                self.carry_out(id.clone(), wants, now);
                answer
            }
            (_, query) => return self.change(from, number, id.clone(), query, now),
        };
        self.answers.push((from, number, answer));
    }

    /// Whether channels have something to announce, or requests and answers wait to be taken.
    pub fn is_busy(&self) -> bool {
        !self.touched.is_empty() || !self.requests.is_empty() || !self.answers.is_empty()
    }

    /// The number of channels and of memberships in them, as of the end of the last turn. Looks at no channel.
    pub fn size(&self) -> (usize, usize) {
        (self.channels.len(), self.members)
    }

    /// Requests that the store has not answered.
    pub fn waiting(&self) -> usize {
        self.waiting.len()
    }
}

/// A small generator for the random bits that make ids hard to guess by accident. No secret depends on it.
struct SplitMix64(u64);

impl SplitMix64 {
    fn next(&mut self) -> u32 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((z ^ (z >> 31)) >> 32) as u32
    }
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;
    use crate::fanout::frames::Format;
    use crate::id::{ConnectionId, SessionId, UserId};
    use crate::limits::ROOM_MEMBERS_MAX;
    use crate::message::Presence;
    use crate::parcel::ChannelAction;

    fn request(slot: u32, joins: bool) -> ChannelRequest {
        let id = Uuid::from_u128(u128::from(slot));
        let presence = Presence { user: UserId(id), session: SessionId(id), username: "ada".into(), persistence: true };
        let action = if joins {
            ChannelAction::Join { presence, hidden: false, format: Format::Json }
        } else {
            ChannelAction::Leave
        };
        ChannelRequest { connection: ConnectionId { slot, generation: 0 }, number: 0, action }
    }

    #[test]
    fn sums_are_kept_and_the_table_is_given_back() {
        const CHANNELS: u32 = 20_000;
        let now = Now { wall: Timestamp(1), monotonic: Monotonic(1) };
        let mut owner = Owner::new(Epoch(1), ROOM_MEMBERS_MAX, 7);
        let walked = |owner: &mut Owner| owner.channels.values_mut().map(|channel| channel.count_members().1).sum();
        // Each channel has one to three members.
        let places: Vec<_> =
            (0..2 * CHANNELS).map(|slot| (slot, slot % CHANNELS - (slot % CHANNELS) % 3 % 2)).collect();
        for turn in places.chunks(1_000) {
            for (slot, room) in turn {
                let channel = ChannelId::room(&format!("room-{room}")).unwrap();
                owner.request(ShardId(0), channel, request(*slot, true), now);
            }
            owner.batches(now.monotonic);
            let members: usize = walked(&mut owner);
            assert_eq!(owner.size(), (owner.channels.len(), members));
        }
        assert_eq!(owner.size().1, places.len());
        // The store says where each channel's history ends. A channel that waits for this answer is not dropped.
        for (ticket, _) in std::mem::take(&mut owner.requests) {
            owner.receipt(ticket, Ok(StoreReceipt::Head(None)), now);
        }
        assert!(owner.channels.capacity() > 10_000);
        for turn in places.chunks(1_000) {
            for (slot, room) in turn {
                let channel = ChannelId::room(&format!("room-{room}")).unwrap();
                owner.request(ShardId(0), channel, request(*slot, false), now);
            }
            owner.batches(now.monotonic);
            let members: usize = walked(&mut owner);
            assert_eq!(owner.size(), (owner.channels.len(), members));
        }
        assert_eq!(owner.size(), (0, 0));
        assert!(owner.channels.capacity() <= 2 * 1024, "{}", owner.channels.capacity());
    }
}
