//! A shard as the owner of its channels: it alone orders what happens in them.
//!
//! The owner gives each channel the clock's readings and random bits for a step, and collects at the end of a turn what
//! the channels announce.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{RngCore, SeedableRng};

use crate::channel::rankings::{Busiest, Ranking};
use crate::channel::requests_to_chat::KeptRequests;
use crate::channel::{Channel, StepContext};
use crate::chart::Slot;
use crate::counters::OwnerCounters;
use crate::id::{ChannelId, Epoch, Monotonic, Now, ShardId};
use crate::limits::{CHANNELS_PAGE_MAX, ENDINGS_TURN_MAX, HOMES_PATIENCE, PRESENCE_PAGE_MAX, RECENTS_BYTES_MAX, Rules};
use crate::outbox::{Outbox, Purpose};
use crate::parcel::{Backlog, BatchNumber, ChannelAction, ChannelRequest, Enter, Reached};
use crate::persist::{ChannelHead, StoreFailure, StoreReceipt};
use crate::query::{
    ChannelOrder, ChannelQuery, ChannelSeen, ChannelsQuery, NewestQuery, PresencePage, PresenceQuery, QueryAnswer,
    Version, Visitor,
};
use crate::routing::Routing;
use crate::table::give_back;

/// Entries of channels that no longer keep newest messages, beyond which the line is made anew.
const LINE_KEPT: usize = 1024;

/// The channels that a shard owns and that have members or work under way.
pub struct Owner {
    routing: Routing,
    room_max: usize,
    channels_max: usize,
    /// Each channel has an allocation of its own, so that a table that grows or shrinks moves no channels.
    channels: HashMap<ChannelId, Box<Channel>>,
    /// Memberships in all channels. The changes of the current turn are not counted yet.
    members: usize,
    /// The bytes of newest messages that channels keep in memory, and these channels, the oldest first. A channel that has
    /// forgotten its messages meanwhile may stand there still, or twice.
    recent_bytes: usize,
    with_recent: VecDeque<ChannelId>,
    /// Channels that may have something to announce at the end of this turn, each once.
    touched: Vec<ChannelId>,
    /// Channels that end presences, some in each turn. A channel may be gone meanwhile.
    ending: BTreeSet<ChannelId>,
    /// Channels with a presence event that waits, and when it may be announced.
    due: BTreeMap<ChannelId, Monotonic>,
    requests_to_chat: KeptRequests,
    /// Slots that this shard gives up in order, until the chart says that it does not have them.
    leaving: BTreeMap<Slot, Leaving>,
    /// The monotonic clock's reading of this turn.
    now: Monotonic,
    /// What owners before this one have left behind, of channels that were not made here yet.
    inherited: HashMap<ChannelId, Given>,
    /// Homes that want to hear that everything for them has left.
    flushes: Vec<(ShardId, u64)>,
    /// The largest and the busiest channels.
    by_members: Ranking,
    busiest: Busiest,
    /// Readings of newest messages so far. A number that a reading was prepared with is never used again.
    readings: u64,
    /// The number of the last batch sent.
    batch: BatchNumber,
    /// Random bits that make ids hard to guess by accident. No secret depends on them.
    random: ChaCha8Rng,
    pub counters: OwnerCounters,
}

/// A slot that a shard has given up in order.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct LeftSlot {
    pub slot: Slot,
    /// What the next owner must know of its channels.
    pub given: Vec<(ChannelId, Given)>,
}

/// What an owner that gives a channel up leaves behind for the next one.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Given {
    /// The last place that was given out, if messages behind the stored ones have had places.
    pub last: Option<ChannelHead>,
    /// The homes of members. The next owner accepts messages when their members have entered.
    pub homes: Vec<ShardId>,
}

/// A slot that this shard gives up.
struct Leaving {
    epoch: Epoch,
    /// Channels that have work under way. No channel takes up further work.
    busy: Vec<ChannelId>,
    /// It was reported that no work is under way.
    is_reported: bool,
}

impl Owner {
    /// `routing` says under which epoch this shard orders a channel. `seed` is the start of the random bits of message ids.
    pub fn new(routing: Routing, rules: &Rules, seed: u64) -> Self {
        Self {
            routing,
            room_max: rules.room_members_max,
            channels_max: rules.channels_max,
            channels: HashMap::new(),
            members: 0,
            recent_bytes: 0,
            with_recent: VecDeque::new(),
            touched: Vec::new(),
            ending: BTreeSet::new(),
            due: BTreeMap::new(),
            requests_to_chat: KeptRequests::default(),
            leaving: BTreeMap::new(),
            now: Monotonic::default(),
            inherited: HashMap::new(),
            flushes: Vec::new(),
            by_members: Ranking::default(),
            busiest: Busiest::default(),
            readings: 0,
            batch: BatchNumber::default(),
            random: ChaCha8Rng::seed_from_u64(seed),
            counters: OwnerCounters::default(),
        }
    }

    /// Begins a turn: ends some of the presences that end.
    pub fn begin_turn(&mut self, now: Now, outbox: &mut Outbox) {
        self.now = now.monotonic;
        let mut left = ENDINGS_TURN_MAX;
        while left > 0
            && let Some(id) = self.ending.pop_first()
        {
            let context = self.context(now);
            let Some(channel) = self.channels.get_mut(&id) else { continue };
            left -= channel.go_on_ending(left, &context, outbox);
            // What it goes on with may end further presences, or it may have more of them.
            if channel.touch() {
                self.touched.push(id);
            }
        }
    }

    /// Puts a connection's request to a channel, which is made if it does not exist.
    ///
    /// If there are too many channels, a join that makes one is refused. Other requests make it for one turn, to answer.
    pub fn request(&mut self, home: ShardId, id: ChannelId, request: ChannelRequest, now: Now, outbox: &mut Outbox) {
        let context = self.context(now);
        let is_join = matches!(request.action, ChannelAction::Join { .. });
        let is_too_much = is_join && self.channels.len() >= self.channels_max && !self.channels.contains_key(&id);
        let channel = self.channel(&id);
        if is_too_much {
            channel.refuse_to_begin(home, &request);
        } else {
            channel.request(home, request, &context, outbox);
        }
        let first = channel.touch();
        self.touched.extend(first.then_some(id));
    }

    /// Answers a visitor's query, now or later.
    pub fn query(&mut self, visitor: Visitor, id: ChannelId, query: ChannelQuery, now: Now, outbox: &mut Outbox) {
        match query {
            ChannelQuery::Presence(query) => outbox.answer(visitor, QueryAnswer::Presence(self.presence(&id, &query))),
            ChannelQuery::Newest(NewestQuery { limit }) => {
                let mut channel = self.channels.get_mut(&id);
                let newest = channel.as_mut().and_then(|channel| {
                    channel.newest(limit, unused_version(&mut self.readings, channel.epoch()), outbox)
                });
                outbox.answer(visitor, QueryAnswer::Newest(newest));
                let first = channel.is_some_and(|channel| channel.touch());
                self.touched.extend(first.then_some(id));
            }
            ChannelQuery::Change(change) => {
                let context = self.context(now);
                let channel = self.channel(&id);
                channel.change(visitor, change, &context, outbox);
                let first = channel.touch();
                self.touched.extend(first.then_some(id));
            }
        }
    }

    /// The channels that come behind a place, by members or by messages. Looks at no others.
    pub fn listed(&self, query: &ChannelsQuery, now: Monotonic) -> Vec<ChannelSeen> {
        let ranking = match query.by {
            ChannelOrder::Members => &self.by_members,
            ChannelOrder::Rate => self.busiest.past(),
        };
        let ranked = ranking.below(query.below.as_ref(), query.limit.min(CHANNELS_PAGE_MAX + 1));
        let seen = ranked.into_iter().map(|(rank, channel)| {
            let (members, messages) = match self.channels.get(&channel) {
                Some(channel) => (channel.members_counted(), channel.shown.last_window(now)),
                // It has ended since it was ranked.
                None => (0, if query.by == ChannelOrder::Rate { rank } else { 0 }),
            };
            ChannelSeen { channel, rank, members, messages }
        });
        seen.collect()
    }

    fn presence(&self, id: &ChannelId, query: &PresenceQuery) -> PresencePage {
        let channel = self.channels.get(id);
        channel.map_or_else(PresencePage::default, |channel| {
            channel.presence_page(query.after, query.limit.min(PRESENCE_PAGE_MAX))
        })
    }

    /// A shard has missed a batch of a channel. It is answered at the end of a turn.
    pub fn catch_up(&mut self, home: ShardId, id: ChannelId, reached: Option<Reached>, outbox: &mut Outbox) {
        let epoch = self.channel(&id).epoch();
        let unused = unused_version(&mut self.readings, epoch);
        let now = self.now;
        let channel = self.channel(&id);
        channel.catch_up(home, reached, unused, now, outbox);
        let first = channel.touch();
        self.touched.extend(first.then_some(id));
    }

    /// The store has answered a channel's request.
    pub fn receipt(
        &mut self,
        id: ChannelId,
        epoch: Epoch,
        purpose: Purpose,
        outcome: Result<StoreReceipt, StoreFailure>,
        now: Now,
        outbox: &mut Outbox,
    ) {
        let context = self.context(now);
        let unused = unused_version(&mut self.readings, epoch);
        // A channel is not kept only because the store reads its newest messages, and a channel that has ended knows no answer. It
        // may have been made again under another epoch.
        let Some(channel) = self.channels.get_mut(&id).filter(|channel| channel.epoch() == epoch) else { return };
        match purpose {
            Purpose::Entry(address) => channel.entry_decided(address, outcome, unused, outbox),
            Purpose::Decision(place, _) => channel.decided(place, outcome, &context, outbox),
            Purpose::Head => channel.head(outcome, &context, outbox),
            Purpose::Newest(version) => channel.read(version, outcome),
        }
        let first = channel.touch();
        self.touched.extend(first.then_some(id));
    }

    /// The backlog of a shard in this channel has become too high, or low again.
    pub fn backlog(&mut self, from: ShardId, id: ChannelId, state: Backlog, now: Now, outbox: &mut Outbox) {
        let context = self.context(now);
        let Some(channel) = self.channels.get_mut(&id) else { return };
        match state {
            Backlog::High => channel.hold(from),
            Backlog::Low => channel.release_hold(from, &context, outbox),
        }
        let first = channel.touch();
        self.touched.extend(first.then_some(id));
    }

    /// Puts into the outbox what the channels have to announce, and forgets channels of which nothing would be lost.
    pub fn announce(&mut self, now: Monotonic, outbox: &mut Outbox) {
        self.requests_to_chat.forget_old(now);
        let (touched, channels) = (&mut self.touched, &mut self.channels);
        self.busiest.turn(now, |id| channels.get(id).map_or(0, |channel| channel.shown.last_window(now)));
        self.due.retain(|id, due| {
            let waits = *due > now;
            if !waits && channels.get_mut(id).is_some_and(|channel| channel.touch()) {
                touched.push(id.clone());
            }
            waits
        });
        for id in std::mem::take(&mut self.touched) {
            self.announce_channel(&id, now, outbox);
            if self.channels.get(&id).is_some_and(|channel| channel.is_idle()) {
                self.drop_channel(&id, now);
            }
        }
        self.forget_recents();
        for (home, number) in self.flushes.drain(..) {
            outbox.flushed(home, number);
        }
    }

    /// Puts into the outbox what a channel has to announce.
    fn announce_channel(&mut self, id: &ChannelId, now: Monotonic, outbox: &mut Outbox) {
        let Some(channel) = self.channels.get_mut(id) else { return };
        channel.untouch();
        for (home, batch) in channel.batches(now, &mut self.batch) {
            outbox.batch(home, batch);
        }
        for (home, answer) in channel.caught_up(self.batch, now) {
            outbox.caught_up(home, answer);
        }
        let may_go_on = channel.may_stop_waiting_for_homes(now) || channel.may_ask_again(now);
        if channel.is_ending_presences() || may_go_on {
            self.ending.insert(id.clone());
        }
        outbox.append(&mut channel.afterwards);
        let (before, members) = channel.count_members();
        self.members = self.members - before + members;
        self.by_members.change(id, before as u32, members as u32);
        let (before, bytes) = channel.count_recent();
        self.recent_bytes = self.recent_bytes - before + bytes;
        if before == 0 && bytes > 0 {
            self.with_recent.push_back(id.clone());
        }
        let published = std::mem::take(&mut channel.announcements.published);
        self.counters.published += published;
        self.busiest.count(id, &mut channel.shown, published);
        if let Some(due) = channel.due() {
            self.due.insert(id.clone(), due);
        }
    }

    /// Forgets a channel that has announced what it had to.
    fn drop_channel(&mut self, id: &ChannelId, now: Monotonic) {
        let Some(mut channel) = self.channels.remove(id) else { return };
        self.due.remove(id);
        self.ending.remove(id);
        let (members, _) = channel.count_members();
        self.members -= members;
        self.by_members.change(id, members as u32, 0);
        self.recent_bytes -= channel.count_recent().0;
        self.requests_to_chat.keep(id.clone(), channel.take_requests_to_chat(), now);
        give_back(&mut self.channels);
    }

    /// Takes in a newer chart. Channels that this shard does not order any more end: what they have under way is refused, its
    /// outcome is unknown. Members on nodes that are not up leave.
    pub fn follow(&mut self, routing: &Routing, now: Now, outbox: &mut Outbox) {
        self.routing = routing.clone();
        self.leaving.retain(|slot, leaving| routing.epoch_of_slot(*slot) == Some(leaving.epoch));
        self.inherited.retain(|id, _| routing.epoch_of(id).is_some());
        let is_over = |id: &ChannelId, epoch| routing.epoch_of(id) != Some(epoch);
        let over = self.channels.iter().filter(|(id, channel)| is_over(id, channel.epoch()));
        let over: Vec<ChannelId> = over.map(|(id, _)| id.clone()).collect();
        for id in over {
            if let Some(channel) = self.channels.get_mut(&id) {
                channel.give_up();
            }
            self.announce_channel(&id, now.monotonic, outbox);
            self.drop_channel(&id, now.monotonic);
        }
        for (id, channel) in &mut self.channels {
            if channel.depart_homes(|home| routing.is_up(home.life)) && channel.touch() {
                self.touched.push(id.clone());
            }
        }
    }

    /// Gives slots up in order: their channels finish what is under way and take up nothing further.
    pub fn leave(&mut self, slots: &[Slot]) {
        for &slot in slots {
            let Some(epoch) = self.routing.epoch_of_slot(slot) else { continue };
            let of_slot = self.channels.keys().filter(|id| self.routing.slot(id) == slot).cloned();
            let busy = of_slot.collect();
            self.leaving.entry(slot).or_insert(Leaving { epoch, busy, is_reported: false });
        }
    }

    /// Whether this shard orders the channel and takes up work for it.
    pub fn takes_up(&self, channel: &ChannelId) -> bool {
        self.routing.epoch_of(channel).is_some()
            && (self.leaving.is_empty() || !self.leaving.contains_key(&self.routing.slot(channel)))
    }

    /// Whether this shard orders the channel and takes in homes of its members: also while it gives the channel up, until
    /// everything under way is done, because messages may wait for these homes.
    pub fn takes_in_homes(&self, channel: &ChannelId) -> bool {
        let waits = |leaving: &Leaving| !leaving.is_reported && leaving.busy.contains(channel);
        self.takes_up(channel)
            || self.routing.epoch_of(channel).is_some()
                && self.leaving.get(&self.routing.slot(channel)).is_some_and(waits)
    }

    /// Slots that this shard gives up and with which it is done since this was last called.
    pub fn take_left(&mut self) -> Vec<LeftSlot> {
        let mut done = Vec::new();
        for (slot, leaving) in self.leaving.iter_mut().filter(|(_, leaving)| !leaving.is_reported) {
            let channels = &self.channels;
            leaving.busy.retain(|id| channels.get(id).is_some_and(|channel| channel.is_at_work()));
            if leaving.busy.is_empty() {
                leaving.is_reported = true;
                done.push(*slot);
            }
        }
        done.into_iter().map(|slot| LeftSlot { slot, given: self.given(slot) }).collect()
    }

    fn given(&self, slot: Slot) -> Vec<(ChannelId, Given)> {
        let of_slot = self.channels.iter().filter(|(id, _)| self.routing.slot(id) == slot);
        let given = of_slot.map(|(id, channel)| (id.clone(), channel.given()));
        let unmade = self.inherited.iter().filter(|(id, _)| self.routing.slot(id) == slot);
        given.chain(unmade.map(|(id, given)| (id.clone(), given.clone()))).collect()
    }

    /// Takes over what the owners before this one have left behind. Comes before the chart that makes this shard the owner.
    pub fn inherit(&mut self, given: Vec<(ChannelId, Given)>) {
        self.inherited.extend(given);
    }

    /// Tells the home `Flushed` with this number behind everything that this shard has to announce now.
    pub fn flush(&mut self, home: ShardId, number: u64) {
        self.flushes.push((home, number));
    }

    /// Takes in members of a home. It is answered at the end of a turn.
    pub fn enter(&mut self, enter: Enter, now: Now, outbox: &mut Outbox) {
        let id = enter.channel.clone();
        let context = self.context(now);
        let epoch = self.channel(&id).epoch();
        let unused = unused_version(&mut self.readings, epoch);
        let channel = self.channel(&id);
        channel.enter(enter, unused, &context, outbox);
        let first = channel.touch();
        self.touched.extend(first.then_some(id));
    }

    /// Has channels forget their newest messages while all together keep too many bytes.
    fn forget_recents(&mut self) {
        while self.recent_bytes > RECENTS_BYTES_MAX
            && let Some(id) = self.with_recent.pop_front()
        {
            let Some(channel) = self.channels.get_mut(&id) else { continue };
            if channel.forget_recent() {
                let (before, bytes) = channel.count_recent();
                self.recent_bytes = self.recent_bytes - before + bytes;
            } else {
                self.with_recent.push_back(id);
            }
        }
        // A channel that was dropped and made again stands in this line once more for each time.
        if self.with_recent.len() > 2 * self.channels.len() + LINE_KEPT {
            let keeping = self.channels.iter().filter(|(_, channel)| channel.keeps_recent());
            self.with_recent = keeping.map(|(id, _)| id.clone()).collect();
        }
    }

    /// Asserts what the channels promise. Looks at every member.
    pub fn invariants(&self) {
        self.channels.values().for_each(|channel| channel.invariants());
    }

    /// Whether channels may have something to announce.
    pub fn is_busy(&self) -> bool {
        !self.touched.is_empty() || !self.ending.is_empty() || !self.flushes.is_empty()
    }

    /// How many channels there are, and memberships in them, as of the end of the last turn. Looks at no channel.
    pub fn size(&self) -> (usize, usize) {
        (self.channels.len(), self.members)
    }

    fn channel(&mut self, id: &ChannelId) -> &mut Channel {
        self.channels.entry(id.clone()).or_insert_with(|| {
            let epoch = self.routing.epoch_of(id);
            debug_assert!(epoch.is_some(), "{id} is ordered elsewhere");
            let requests_to_chat = self.requests_to_chat.take(id);
            let keeps_events = self.routing.is_of_cluster();
            let epoch = epoch.unwrap_or_default();
            let mut channel = Channel::new(id.clone(), epoch, self.room_max, keeps_events, requests_to_chat);
            if let Some(given) = self.inherited.remove(id) {
                channel.inherit(given, self.now.plus(HOMES_PATIENCE));
            }
            Box::new(channel)
        })
    }

    fn context(&mut self, now: Now) -> StepContext {
        StepContext { now, random: self.random.next_u64() }
    }
}

/// A version for the next reading of newest messages. No two readings of a shard have the same number.
fn unused_version(readings: &mut u64, epoch: Epoch) -> Version {
    *readings += 1;
    Version { epoch, reading: *readings, changes: 0 }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use uuid::Uuid;

    use super::*;
    use crate::chart::Chart;
    use crate::fanout::frames::Format;
    use crate::id::{ConnectionId, MessageId, Sequence, SessionId, Timestamp, UserId};
    use crate::message::{Message, MessageCode, Presence};
    use crate::outbox::{Asker, Output};
    use crate::parcel::ChannelAction;
    use crate::routing::PlacementKey;

    fn owner() -> Owner {
        let routing = Routing::new(ShardId::alone(0), Chart::alone(1, Epoch(1)), PlacementKey::default());
        Owner::new(routing, &Rules::default(), 7)
    }

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
        let mut owner = owner();
        let mut outbox = Outbox::default();
        let walked = |owner: &mut Owner| owner.channels.values_mut().map(|channel| channel.count_members().1).sum();
        // Each channel has one to three members.
        let places: Vec<_> =
            (0..2 * CHANNELS).map(|slot| (slot, slot % CHANNELS - (slot % CHANNELS) % 3 % 2)).collect();
        for turn in places.chunks(1_000) {
            for (slot, room) in turn {
                let channel = ChannelId::room(&format!("room-{room}")).unwrap();
                owner.request(ShardId::alone(0), channel, request(*slot, true), now, &mut outbox);
            }
            owner.announce(now.monotonic, &mut outbox);
            let members: usize = walked(&mut owner);
            assert_eq!(owner.size(), (owner.channels.len(), members));
        }
        assert_eq!(owner.size().1, places.len());
        // The store says where each channel's history ends. A channel that waits for this answer is not dropped.
        while let Some(output) = outbox.take() {
            if let Output::Store(Asker::Channel(channel, epoch, purpose), _) = output {
                owner.receipt(channel, epoch, purpose, Ok(StoreReceipt::Head(None)), now, &mut Outbox::default());
            }
        }
        assert!(owner.channels.capacity() > 10_000);
        for turn in places.chunks(1_000) {
            for (slot, room) in turn {
                let channel = ChannelId::room(&format!("room-{room}")).unwrap();
                owner.request(ShardId::alone(0), channel, request(*slot, false), now, &mut outbox);
            }
            owner.announce(now.monotonic, &mut outbox);
            let members: usize = walked(&mut owner);
            assert_eq!(owner.size(), (owner.channels.len(), members));
        }
        assert_eq!(owner.size(), (0, 0));
        assert!(owner.channels.capacity() <= 2 * 1024, "{}", owner.channels.capacity());
    }

    #[test]
    fn channels_forget_their_newest_messages_when_all_keep_too_many_bytes() {
        let now = Now { wall: Timestamp(1), monotonic: Monotonic(1) };
        let (mut owner, mut outbox) = (owner(), Outbox::default());
        // One content, which all messages share, so that the test itself holds little.
        let content: Arc<str> = "x".repeat(1 << 20).into();
        let channels: Vec<_> = (0..6).map(|number| ChannelId::room(&format!("room-{number}")).unwrap()).collect();
        let kept = RECENTS_BYTES_MAX / (100 << 20);
        for channel in &channels {
            let message = |number: u128| Message {
                channel: channel.clone(),
                id: MessageId(Uuid::from_u128(number)),
                sequence: Sequence(number as u64),
                code: MessageCode::Chat,
                sender: UserId(Uuid::nil()),
                username: "ada".into(),
                content: content.clone(),
                create_time: Timestamp(1),
                update_time: Timestamp(1),
                persistent: true,
            };
            owner.request(ShardId::alone(0), channel.clone(), request(0, true), now, &mut outbox);
            let version = Version { epoch: Epoch(1), reading: 1, changes: 0 };
            let channel_state = owner.channels.get_mut(channel).unwrap();
            channel_state.keep_recent(version, (1..=100).rev().map(message).collect());
            owner.announce(now.monotonic, &mut outbox);
            // The first channel is asked again and again.
            assert!(owner.channels.get_mut(&channels[0]).unwrap().recent.newest(100).is_some());
            assert!(owner.recent_bytes <= RECENTS_BYTES_MAX);
        }
        let keeping: Vec<_> = channels.iter().map(|channel| owner.channels[channel].keeps_recent()).collect();
        assert_eq!(keeping.iter().filter(|&&keeps| keeps).count(), kept);
        assert!(keeping[0] && keeping[5] && !keeping[1], "{keeping:?}");
    }
}
