//! What a home does when a batch of a channel is missing: it asks the channel's owner, and goes on from the answer.
//!
//! The owner answers with the state of the channel at the end of some batch. Batches that come meanwhile are set aside,
//! except those that turn out to be the next ones. Requests about the channel wait until the answer is here. So each
//! request that the owner has answered was sent before the owner was asked. If its answer is not here, that answer is
//! in a batch that the home does not take in any more, and the outcome is unknown.

use std::collections::{BTreeMap, HashMap, HashSet};

use super::{CloseMode, Home};
use crate::command::{Rejection, Reply};
use crate::counters::SessionEnd;
use crate::fanout::frames;
use crate::fanout::subscribers::Followed;
use crate::id::{ChannelId, ConnectionId, Epoch, Life, Monotonic};
use crate::limits::{ASIDE_BATCHES_MAX, ASIDE_BYTES_MAX};
use crate::message::Missed;
use crate::outbox::Outbox;
use crate::parcel::{Batch, BatchNumber, CaughtUp, ChannelAction, ChannelRequest, Item, Reached, Recovered};
use crate::session::admission::OnLag;
use crate::session::connection::{Private, RequestKind};
use crate::wire::websocket;

/// Why a member is closed.
const LOST: &str = "messages of a channel were lost on the way: connect and join again";

/// Channels whose owners were asked what is missing, at most once each at a time.
pub type CatchUps = HashMap<ChannelId, CatchUp>;

/// Whom a channel that has not caught up waits for.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Awaited {
    /// The owner, which was asked.
    #[default]
    Owner,
    /// An owner before this one, on the node of this life, until everything has left it: the flush with this number.
    Flush { of: Life, number: u64 },
    /// A newer chart, here or at the owner.
    Chart {
        /// The owner was asked last.
        asked: Monotonic,
    },
}

/// A channel whose owner was asked what is missing.
#[derive(Default)]
pub struct CatchUp {
    pub(super) waits_for: Awaited,
    /// Since when it has no owner that answers. Requests that have waited for long enough are refused.
    pub(super) unowned: Option<Monotonic>,
    /// Requests that were unanswered when the owner was asked: at most `REQUESTS_IN_FLIGHT_MAX` of each connection.
    open: Vec<(ConnectionId, u32)>,
    aside: Aside,
    /// Requests that wait for the answer, in order; bounded as `open` is.
    pub(super) held: Vec<ChannelRequest>,
}

impl CatchUp {
    /// Requests that no owner has taken up wait here again, each before those that its connection has made after it.
    pub(super) fn give_back(&mut self, requests: Vec<ChannelRequest>) {
        let is_given_back =
            |asked: &(ConnectionId, u32)| requests.iter().any(|request| (request.connection, request.number) == *asked);
        self.open.retain(|asked| !is_given_back(asked));
        for request in requests {
            let is_later = |held: &ChannelRequest| {
                held.connection == request.connection && held.number.wrapping_sub(request.number) < u32::MAX / 2
            };
            let place = self.held.iter().position(is_later).unwrap_or(self.held.len());
            self.held.insert(place, request);
        }
    }
}

/// Batches that came too early.
#[derive(Default)]
struct Aside {
    batches: BTreeMap<(Epoch, BatchNumber), Batch>,
    bytes: usize,
    /// The newest batch that found no room.
    dropped: Option<(Epoch, BatchNumber)>,
}

impl Aside {
    fn put(&mut self, batch: Batch) {
        let (place, bytes) = (batch.reached.place(), bytes_of(&batch));
        if self.batches.contains_key(&place) {
            return;
        }
        if self.batches.len() < ASIDE_BATCHES_MAX && self.bytes + bytes <= ASIDE_BYTES_MAX {
            self.bytes += bytes;
            self.batches.insert(place, batch);
        } else {
            self.dropped = self.dropped.max(Some(place));
        }
    }

    fn take_first(&mut self) -> Option<Batch> {
        let (_, batch) = self.batches.pop_first()?;
        self.bytes -= bytes_of(&batch);
        Some(batch)
    }

    /// Whether a batch after this place has come.
    fn is_beyond(&self, place: (Epoch, BatchNumber)) -> bool {
        let newest = self.batches.last_key_value().map(|(newest, _)| *newest);
        newest.max(self.dropped).is_some_and(|newest| newest > place)
    }
}

fn bytes_of(batch: &Batch) -> usize {
    let frames = batch.items.iter().filter_map(|item| match item {
        Item::Frames(frames) => Some(frames.bytes()),
        _ => None,
    });
    frames.sum()
}

impl Home {
    /// Sets a batch aside, because one before it is missing, and asks the owner.
    pub(super) fn set_aside(&mut self, batch: Batch, outbox: &mut Outbox) {
        let channel = batch.channel.clone();
        if !self.catch_ups.contains_key(&channel) {
            self.counters.batch_gaps += 1;
            self.ask_again(&channel, outbox);
        }
        self.catch_ups.entry(channel).or_default().aside.put(batch);
    }

    /// Asks the owners of all channels in which this shard has subscribers or unanswered requests.
    pub fn compare_with_owners(&mut self, outbox: &mut Outbox) {
        let mut open = self.open_requests(|_| true);
        for channel in self.subscribers.channels() {
            open.entry(channel.clone()).or_default();
        }
        for (channel, open) in open {
            if !self.catch_ups.contains_key(&channel) {
                self.ask_owner(&channel, open, outbox);
            }
        }
    }

    fn ask_again(&mut self, channel: &ChannelId, outbox: &mut Outbox) {
        let open = self.open_requests(|of| of == channel).remove(channel).unwrap_or_default();
        self.ask_owner(channel, open, outbox);
    }

    /// The owner is asked where the channel stands. These requests are unanswered, and those of them that do not wait here an
    /// owner has answered or has under way.
    pub(super) fn await_answers(&mut self, channel: &ChannelId, mut open: Vec<(ConnectionId, u32)>) {
        let catch_up = self.catch_ups.entry(channel.clone()).or_default();
        open.retain(|asked| !catch_up.held.iter().any(|held| (held.connection, held.number) == *asked));
        (catch_up.open, catch_up.waits_for) = (open, Awaited::Owner);
    }

    pub(super) fn ask_owner(&mut self, channel: &ChannelId, open: Vec<(ConnectionId, u32)>, outbox: &mut Outbox) {
        self.await_answers(channel, open);
        outbox.catch_up(channel.clone(), self.subscribers.reached(channel));
    }

    /// The unanswered requests to the owners of some channels. Looks at every connection, which is acceptable because
    /// batches are rarely lost.
    pub(super) fn open_requests(
        &self,
        of: impl Fn(&ChannelId) -> bool,
    ) -> BTreeMap<ChannelId, Vec<(ConnectionId, u32)>> {
        let mut open: BTreeMap<ChannelId, Vec<_>> = BTreeMap::new();
        for (id, connection) in self.connections.iter() {
            let requests = connection.traffic.iter().flat_map(|traffic| traffic.open_requests());
            for (number, request) in requests.filter(|(_, request)| of(&request.channel)) {
                open.entry(request.channel.clone()).or_default().push((id, number));
            }
        }
        open
    }

    /// Sends a request to the channel's owner, or keeps it until the channel has caught up.
    pub(super) fn send_request(&mut self, channel: ChannelId, request: ChannelRequest, outbox: &mut Outbox) {
        match self.catch_ups.get_mut(&channel) {
            Some(catch_up) => catch_up.held.push(request),
            None => outbox.request(channel, request),
        }
    }

    /// Takes in the owner's answer.
    pub fn caught_up(&mut self, answer: CaughtUp, outbox: &mut Outbox) {
        let CaughtUp { channel, from, reached, .. } = &answer;
        let Some(catch_up) = self.catch_ups.get_mut(channel) else { return };
        match catch_up.waits_for {
            Awaited::Owner => {}
            Awaited::Flush { .. } => return self.go_on_until_flushed(&answer, outbox),
            // Another owner is going to answer.
            Awaited::Chart { .. } => return,
        }
        let here = self.subscribers.reached(channel);
        let is_past = here.is_some_and(|here| here.place() > reached.place());
        let is_level = here.is_some_and(|here| here.place() == reached.place());
        if !is_past && !is_level && here.map(Reached::place) != from.map(Reached::place) {
            // Batches before this answer have come late, and the answer repeats a part of them.
            return self.ask_again(channel, outbox);
        }
        let mut open = std::mem::take(&mut catch_up.open);
        let unanswered: HashSet<_> = answer.unanswered.iter().collect();
        open.retain(|asked| !unanswered.contains(asked));
        let members: HashSet<ConnectionId> = answer.members.iter().copied().collect();
        self.settle_memberships(channel, &members, &open, outbox);
        if !is_past {
            self.agree_on_members(&answer, &members, outbox);
        }
        if let Some(here) = self.subscribers.reached(channel).filter(|here| here.place() < reached.place()) {
            self.recover(channel, here, *reached, &answer.recovered, outbox);
        }
        for (connection, number) in open {
            let place = self.place(connection, channel);
            self.answer(connection, number, &answer_is_lost(), place, outbox);
        }
        self.take_from_aside(channel, outbox);
        self.finish(channel, *reached, outbox);
    }

    /// An owner has answered that gives the channel up. What it has announced since comes before the announcements of the
    /// next owner, which is going to answer, too.
    fn go_on_until_flushed(&mut self, answer: &CaughtUp, outbox: &mut Outbox) {
        let CaughtUp { channel, from, reached, recovered, .. } = answer;
        let Some(here) = self.subscribers.reached(channel) else { return };
        if here.place() < reached.place() && Some(here.place()) == from.map(Reached::place) {
            self.recover(channel, here, *reached, recovered, outbox);
            self.take_from_aside(channel, outbox);
        }
    }

    /// Answers the requests to join and to leave whose answers are lost. After a join of unknown outcome the connection
    /// is out of the channel, here and at the owner: it may have been thrown out and let in again, and what was
    /// announced between is not for it.
    fn settle_memberships(
        &mut self,
        channel: &ChannelId,
        members: &HashSet<ConnectionId>,
        open: &[(ConnectionId, u32)],
        outbox: &mut Outbox,
    ) {
        for &(id, number) in open {
            let reply = match self.kind_of(id, number) {
                Some(RequestKind::Join) => join_is_lost(),
                Some(RequestKind::Leave) => Reply::Done,
                Some(RequestKind::Message) | None => continue,
            };
            self.unsubscribe(id, channel);
            if members.contains(&id) {
                depart(id, channel, outbox);
            }
            self.answer(id, number, &reply, None, outbox);
        }
    }

    fn kind_of(&self, id: ConnectionId, number: u32) -> Option<RequestKind> {
        let traffic = self.connections.get(id)?.traffic.as_ref()?;
        traffic.open_requests().find(|(open, _)| *open == number).map(|(_, request)| request.kind)
    }

    /// Makes the subscribers here the members that the owner knows.
    fn agree_on_members(&mut self, answer: &CaughtUp, members: &HashSet<ConnectionId>, outbox: &mut Outbox) {
        let subscribed = self.subscribers_of(&answer.channel);
        let here: HashSet<ConnectionId> = subscribed.iter().copied().collect();
        for id in answer.members.iter().filter(|id| !here.contains(id)) {
            depart(*id, &answer.channel, outbox);
        }
        for id in subscribed.into_iter().filter(|id| !members.contains(id)) {
            if answer.entered {
                // It may not enter, or the owner could not say whether it may.
                self.unsubscribe(id, &answer.channel);
            } else {
                // The owner has removed these members, or it was restarted and knows no member.
                self.close_lost(id, outbox);
            }
        }
    }

    pub(super) fn subscribers_of(&self, channel: &ChannelId) -> Vec<ConnectionId> {
        let slots = self.subscribers.slots(channel).into_iter();
        slots.filter_map(|slot| self.connections.id_in_slot(slot)).collect()
    }

    /// Tells the subscribers what they have missed, as far as that is possible, and counts the rest.
    fn recover(&mut self, channel: &ChannelId, from: Reached, to: Reached, recovered: &Recovered, outbox: &mut Outbox) {
        let told_again = match recovered {
            Recovered::Frames(frames) => {
                if !frames.is_empty() {
                    self.subscribers.append(channel, frames);
                }
                frames.messages()
            }
            Recovered::TooMuch => {
                self.skip_lost(channel, outbox);
                0
            }
        };
        if from.epoch == to.epoch {
            self.counters.lost += to.told.saturating_sub(from.told).saturating_sub(told_again);
        }
        self.subscribers.go_on_from(channel, to);
    }

    /// Tells each subscriber that it has missed something, or closes it.
    fn skip_lost(&mut self, channel: &ChannelId, outbox: &mut Outbox) {
        for id in self.subscribers_of(channel) {
            let Some(connection) = self.connections.get_mut(id) else { continue };
            let format = connection.session.format;
            let Some(key) = self.subscribers.audience(channel, format) else { continue };
            let (after, end) = (self.subscribers.last_message(key), self.subscribers.end(key));
            if connection.session.on_lag == OnLag::Close || after.is_none() {
                self.close_lost(id, outbox);
                continue;
            }
            let gap = frames::gap(format, channel, Missed { after, before: None });
            connection.traffic().say(Private { after: Some((key, end)), ..Private::of(gap) });
            self.counters.gaps += 1;
            self.mark(id.slot);
        }
    }

    fn close_lost(&mut self, id: ConnectionId, outbox: &mut Outbox) {
        if let Some(connection) = self.connections.get_mut(id) {
            // The frames before these answers are dropped, so the answers must not be sent either.
            connection.traffic().forget_unsaid();
        }
        let mut frame = Vec::new();
        websocket::close_frame(&mut frame, Some(websocket::CloseCode::TRY_AGAIN_LATER), LOST);
        self.close(id, frame, CloseMode::AtOnce, SessionEnd::Lost, outbox);
    }

    /// Takes in the batches set aside that are the next ones.
    pub(super) fn take_from_aside(&mut self, channel: &ChannelId, outbox: &mut Outbox) {
        while let Some(catch_up) = self.catch_ups.get_mut(channel)
            && let Some(batch) = catch_up.aside.take_first()
        {
            match self.subscribers.follow(channel, batch.previous, batch.reached) {
                Followed::InOrder => self.take_in(batch, outbox),
                Followed::Known => {}
                Followed::Gap => return catch_up.aside.put(batch),
            }
        }
    }

    /// Asks again if a further batch is missing. If not, the channel has caught up.
    fn finish(&mut self, channel: &ChannelId, reached: Reached, outbox: &mut Outbox) {
        let here = self.subscribers.reached(channel).unwrap_or(reached).place();
        let Some(catch_up) = self.catch_ups.get(channel) else { return };
        if self.subscribers.listens(channel) && catch_up.aside.is_beyond(here) {
            return self.ask_again(channel, outbox);
        }
        let held = self.catch_ups.remove(channel).map(|catch_up| catch_up.held);
        for request in held.into_iter().flatten() {
            if self.is_open(&request) {
                outbox.request(channel.clone(), request);
            }
        }
    }

    /// Whether the request is not answered.
    pub(super) fn is_open(&self, request: &ChannelRequest) -> bool {
        self.kind_of(request.connection, request.number).is_some()
    }
}

/// Tells the owner that a connection is no subscriber.
pub(super) fn depart(connection: ConnectionId, channel: &ChannelId, outbox: &mut Outbox) {
    let request = ChannelRequest { connection, number: 0, action: ChannelAction::Depart };
    outbox.request(channel.clone(), request);
}

fn join_is_lost() -> Reply {
    let reason = "the outcome is unknown: the answer was lost, and the session is not in this channel: join it again";
    Reply::Refused(Rejection::outcome_unknown(reason))
}

pub(super) fn answer_is_lost() -> Reply {
    let reason = "the outcome is unknown: the answer was lost, and history may show this request as done";
    Reply::Refused(Rejection::outcome_unknown(reason))
}
