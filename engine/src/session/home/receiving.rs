//! What a home does with the announcements of channels' owners.

use super::catching_up::{answer_is_lost, depart};
use super::{Home, Subscription};
use crate::channel::moving;
use crate::command::{Event, Reply};
use crate::fanout::frames;
use crate::fanout::subscribers::{Followed, Subscribers};
use crate::id::{ChannelId, ConnectionId};
use crate::outbox::Outbox;
use crate::parcel::{Batch, ChannelAction, ChannelRequest, Item, Reached};
use crate::session::connection::{Connection, JoinTerms, Private, RequestKind};

impl Home {
    /// Takes in a batch of a channel. A batch that comes twice changes nothing. A batch that comes too early is set
    /// aside until the channel has caught up.
    pub fn receive(&mut self, batch: Batch, outbox: &mut Outbox) {
        match self.subscribers.follow(&batch.channel, batch.previous, batch.reached) {
            Followed::InOrder if self.catch_ups.is_empty() => self.take_in(batch, outbox),
            Followed::InOrder => {
                let channel = batch.channel.clone();
                self.take_in(batch, outbox);
                self.take_from_aside(&channel, outbox);
            }
            Followed::Known => {}
            Followed::Gap => self.set_aside(batch, outbox),
        }
    }

    pub(super) fn take_in(&mut self, batch: Batch, outbox: &mut Outbox) {
        let Batch { channel, reached, items, .. } = batch;
        for item in items {
            match item {
                Item::Frames(frames) => self.subscribers.append(&channel, &frames),
                Item::Presences { presences, count } => self.subscribers.settle(&channel, &presences, count),
                Item::Answer { connection, number, reply } => {
                    let place = self.place(connection, &channel);
                    let overtakes = place.is_none() && self.waits_to_join(connection, number, &channel);
                    let reply = if overtakes { answer_is_lost() } else { reply };
                    self.answer(connection, number, &reply, place, outbox);
                }
                Item::Joined { connection, number, reply } => {
                    self.joined(connection, number, &channel, &reply, reached, outbox);
                }
                Item::Event { connection, event } => self.tell_event(connection, &channel, &event),
                Item::Left { connection, number } => {
                    self.unsubscribe(connection, &channel);
                    self.answer(connection, number, &Reply::Done, None, outbox);
                }
                Item::Evicted { connection } => self.unsubscribe(connection, &channel),
            }
        }
    }

    /// Answers a request about a channel that has no owner now. To leave it is done here: what the next owner hears of is the
    /// members that are left.
    pub fn refuse_without_owner(&mut self, channel: &ChannelId, request: &ChannelRequest, outbox: &mut Outbox) {
        let ChannelRequest { connection, number, action } = request;
        match action {
            ChannelAction::Depart => {}
            ChannelAction::Leave => {
                self.unsubscribe(*connection, channel);
                self.answer(*connection, *number, &Reply::Done, None, outbox);
            }
            ChannelAction::Join { .. } | ChannelAction::Message(_) => {
                let place = self.place(*connection, channel);
                self.answer(*connection, *number, &Reply::Refused(moving()), place, outbox);
            }
        }
    }

    /// Sends an event of a channel to one of its subscribers.
    fn tell_event(&mut self, id: ConnectionId, channel: &ChannelId, event: &Event) {
        let Some(place) = self.place(id, channel) else { return };
        let Some(connection) = self.connections.get_mut(id) else { return };
        let frame = frames::event(connection.session.format, event);
        connection.traffic().say(Private { after: Some(place), ..Private::of(frame) });
        self.mark(id.slot);
    }

    /// Whether the answer to a join comes later than the answer to this request, which was asked after it. What the
    /// request has changed in the channel is then not told here yet.
    fn waits_to_join(&self, id: ConnectionId, number: u32, channel: &ChannelId) -> bool {
        let traffic = self.connections.get(id).and_then(|connection| connection.traffic.as_ref());
        let mut others =
            traffic.into_iter().flat_map(|traffic| traffic.open_requests()).filter(|(of, _)| *of != number);
        others.any(|(_, request)| request.kind == RequestKind::Join && request.channel == *channel)
    }

    /// A connection is a subscriber from here on. If it is gone, the owner must know.
    fn joined(
        &mut self,
        id: ConnectionId,
        number: u32,
        channel: &ChannelId,
        reply: &Reply,
        reached: Reached,
        outbox: &mut Outbox,
    ) {
        let Some(connection) = self.connections.get_mut(id).filter(|connection| !connection.closing) else {
            return depart(id, channel, outbox);
        };
        // A batch that comes twice or late finds the request answered.
        let terms = connection.traffic.as_ref().and_then(|traffic| traffic.join_terms(number));
        if let Some(terms) = terms {
            self.subscribers.tell_before_join(channel, reply);
            subscribe(id, connection, &mut self.subscribers, channel, reached, terms);
            self.sessions_by_user.join(connection.session.user);
            let merged = self.subscribers.tell_joiner(channel, reply, self.keeps_told);
            let place = self.place(id, channel);
            self.answer(id, number, merged.as_ref().unwrap_or(reply), place, outbox);
        }
    }
}

fn subscribe(
    id: ConnectionId,
    connection: &mut Connection,
    subscribers: &mut Subscribers,
    channel: &ChannelId,
    reached: Reached,
    terms: JoinTerms,
) {
    let (key, index) = subscribers.subscribe(channel, connection.session.format, id.slot, reached);
    connection.subscriptions.push(Subscription { key, index, terms });
    if connection.parked {
        subscribers.park(key, index);
    }
}
