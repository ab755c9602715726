//! What a home does when channels have new owners: it hands over its members, and goes on from the answer.
//!
//! A chart that says so may come before the last that the owner before has sent. So if that owner is up, it is asked first to
//! say when everything has left it: parcels from it come in order. Then the members go to the new owner, which answers where
//! the channel stands, as for a missing batch (`catching_up.rs`): the requests that the owner before did not answer have an
//! unknown outcome. Requests that come meanwhile wait.
//!
//! A shard that does not order a channel gives requests back. They wait for a newer chart.

use std::collections::BTreeMap;

use super::catching_up::{Awaited, CatchUp};
use super::{Home, Subscription};
use crate::id::{ChannelId, ConnectionId, Life, ShardId};
use crate::limits::{ENTRANTS_MAX, MOVE_PATIENCE, MOVE_RETRY_INTERVAL};
use crate::outbox::Outbox;
use crate::parcel::{Backlog, ChannelRequest, Enter, EnterPart, Entrant};
use crate::routing::Routing;
use crate::session::connection::{Connection, JoinTerms};

impl Home {
    /// Takes in that channels may have new owners. `before` are the routes by the chart before.
    pub fn follow_chart(&mut self, before: &Routing, routing: &Routing, outbox: &mut Outbox) {
        let own = routing.own();
        let mut flushing: BTreeMap<ShardId, u64> = BTreeMap::new();
        for (channel, open) in self.channels_in_use() {
            let Some((_, epoch)) = routing.ordering(&channel) else { continue };
            let here = self.subscribers.reached(&channel).map(|reached| reached.epoch);
            let was = before.ordering(&channel);
            let awaited = self.catch_ups.get(&channel).map(|catch_up| catch_up.waits_for);
            let is_settled = was.is_some_and(|(_, before)| before == epoch) && here.is_none_or(|here| here == epoch);
            if is_settled && !matches!(awaited, Some(Awaited::Chart { .. })) {
                continue;
            }
            if matches!(awaited, Some(Awaited::Flush { .. })) {
                continue;
            }
            let predecessor = was.map(|(shard, _)| shard).filter(|shard| {
                let is_another = was.is_some_and(|(_, before)| before != epoch);
                is_another && routing.is_up(shard.life) && routing.reaches(shard.life)
            });
            match predecessor {
                None => self.go_to_owner(routing, &channel, open, outbox),
                Some(shard) => {
                    let number = *flushing.entry(shard).or_insert_with(|| {
                        self.flushes += 1;
                        outbox.flush(shard, own, self.flushes);
                        self.flushes
                    });
                    self.catch_ups.entry(channel).or_default().waits_for = Awaited::Flush { of: shard.life, number };
                }
            }
        }
    }

    /// Everything that an owner had for this home has come: the channels that waited for that have another owner.
    pub fn flushed(&mut self, routing: &Routing, number: u64, outbox: &mut Outbox) {
        for (channel, open) in self.channels_in_use() {
            let waits_for = self.catch_ups.get(&channel).map(|catch_up| catch_up.waits_for);
            if matches!(waits_for, Some(Awaited::Flush { number: awaited, .. }) if awaited == number) {
                self.go_to_owner(routing, &channel, open, outbox);
            }
        }
    }

    /// Nothing comes from this life any more that it has sent so far, nor has it taken all that was sent to it. Channels
    /// that its shards order are asked what is missing, and channels that waited for it go on without it.
    pub fn link_is_reset(&mut self, life: Life, routing: &Routing, outbox: &mut Outbox) {
        for (channel, open) in self.channels_in_use() {
            let orders = routing.ordering(&channel).is_some_and(|(shard, _)| shard.life == life);
            match self.catch_ups.get(&channel).map(|catch_up| catch_up.waits_for) {
                Some(Awaited::Flush { of, .. }) if of == life => self.go_to_owner(routing, &channel, open, outbox),
                _ if orders => self.wait_for_chart(&channel),
                _ => {}
            }
        }
    }

    /// Parcels go to this life: what waited for its shards is asked of them.
    pub fn link_is_open(&mut self, life: Life, routing: &Routing, outbox: &mut Outbox) {
        for (channel, open) in self.channels_in_use() {
            if routing.ordering(&channel).is_none_or(|(shard, _)| shard.life != life) {
                continue;
            }
            self.go_to_owner(routing, &channel, open, outbox);
            if self.subscribers.is_behind(&channel) {
                outbox.backlog(channel, Backlog::High);
            }
        }
    }

    /// Shard `from` does not order this channel, and gives these requests back; none if it was asked where the channel stands.
    /// If the chart says that it does, a newer chart is on the way. If the shard was asked after these requests, its answer is
    /// on the way as well, and may say otherwise: then they wait for that.
    pub fn not_ordered(
        &mut self,
        from: ShardId,
        channel: ChannelId,
        requests: Vec<ChannelRequest>,
        routing: &Routing,
        outbox: &mut Outbox,
    ) {
        let is_asked = self.catch_ups.get(&channel).is_some_and(|catch_up| catch_up.waits_for == Awaited::Owner);
        let answer_comes = is_asked && !requests.is_empty();
        if !answer_comes && routing.ordering(&channel).is_some_and(|(owner, _)| owner == from) {
            self.wait_for_chart(&channel);
        }
        match self.catch_ups.get_mut(&channel) {
            Some(catch_up) => catch_up.give_back(requests),
            // Requests whose outcome is unknown are answered, and not asked again.
            None => requests.into_iter().filter(|request| self.is_open(request)).for_each(|request| {
                outbox.request(channel.clone(), request);
            }),
        }
    }

    /// Asks owners again that may have a newer chart by now, and refuses requests that have waited too long.
    pub fn look_for_owners(&mut self, routing: &Routing, outbox: &mut Outbox) {
        let now = self.monotonic;
        let is_due = |(_, catch_up): &(&ChannelId, &CatchUp)| match catch_up.waits_for {
            Awaited::Chart { asked } => now.since(asked) >= MOVE_RETRY_INTERVAL,
            Awaited::Owner | Awaited::Flush { .. } => false,
        };
        let due: Vec<ChannelId> = self.catch_ups.iter().filter(is_due).map(|(channel, _)| channel.clone()).collect();
        if due.is_empty() {
            return;
        }
        let mut open = self.open_requests(|of| due.contains(of));
        for channel in due {
            let Some(catch_up) = self.catch_ups.get_mut(&channel) else { continue };
            catch_up.waits_for = Awaited::Chart { asked: now };
            if catch_up.unowned.is_some_and(|since| now.since(since) >= MOVE_PATIENCE) {
                catch_up.unowned = Some(now);
                for request in std::mem::take(&mut catch_up.held) {
                    self.refuse_without_owner(&channel, &request, outbox);
                }
            }
            if routing.owner_of(&channel).is_some() {
                let open = open.remove(&channel).unwrap_or_default();
                self.go_to_owner(routing, &channel, open, outbox);
            }
        }
    }

    /// The channel goes on when a newer chart has come, here or at the owner.
    pub fn wait_for_chart(&mut self, channel: &ChannelId) {
        let now = self.monotonic;
        let catch_up = self.catch_ups.entry(channel.clone()).or_default();
        catch_up.unowned.get_or_insert(now);
        if !matches!(catch_up.waits_for, Awaited::Chart { .. }) {
            catch_up.waits_for = Awaited::Chart { asked: now };
        }
    }

    /// Asks the channel's owner where it stands. If the owner is new, hands it the members.
    fn go_to_owner(
        &mut self,
        routing: &Routing,
        channel: &ChannelId,
        open: Vec<(ConnectionId, u32)>,
        outbox: &mut Outbox,
    ) {
        let epoch = routing.ordering(channel).map(|(_, epoch)| epoch);
        if self.subscribers.reached(channel).is_some_and(|here| Some(here.epoch) == epoch) {
            self.ask_owner(channel, open, outbox);
        } else {
            self.enter(routing.own(), channel, open, outbox);
        }
    }

    /// The channels with subscribers, with unanswered requests, or that have not caught up, and these requests.
    fn channels_in_use(&self) -> BTreeMap<ChannelId, Vec<(ConnectionId, u32)>> {
        let mut channels = self.open_requests(|_| true);
        for channel in self.subscribers.channels().chain(self.catch_ups.keys()) {
            channels.entry(channel.clone()).or_default();
        }
        channels
    }

    /// Hands the members of a channel to its owner. Without members, asks what became of the unanswered requests.
    fn enter(&mut self, own: ShardId, channel: &ChannelId, open: Vec<(ConnectionId, u32)>, outbox: &mut Outbox) {
        let members = self.entrants(channel);
        if members.is_empty() {
            return self.ask_owner(channel, open, outbox);
        }
        self.await_answers(channel, open);
        self.subscribers.doubt_told(channel);
        let reached = self.subscribers.reached(channel);
        let parts = members.len().div_ceil(ENTRANTS_MAX);
        let mut members = members.into_iter();
        for part in 0..parts {
            let part = EnterPart { is_first: part == 0, is_last: part + 1 == parts };
            let members = members.by_ref().take(ENTRANTS_MAX).collect();
            outbox.enter(Enter { from: own, channel: channel.clone(), reached, members, part });
        }
    }

    fn entrants(&self, channel: &ChannelId) -> Vec<Entrant> {
        let subscribed = self.subscribers_of(channel).into_iter();
        subscribed.filter_map(|id| self.entrant(id, self.connections.get(id)?, channel)).collect()
    }

    fn entrant(&self, id: ConnectionId, connection: &Connection, channel: &ChannelId) -> Option<Entrant> {
        let key = self.subscribers.audience(channel, connection.session.format)?;
        let Subscription { terms: JoinTerms { hidden, persistence }, .. } = connection.subscription(key)?;
        let presence = connection.session.presence(persistence);
        let known = self.subscribers.was_told(channel, &presence);
        Some(Entrant { connection: id, presence, hidden, known, format: connection.session.format })
    }
}
