//! What the subscribers of a channel on this shard were told of its members.
//!
//! A new owner does not know it, and members may have come or gone without having been told. So the home remembers it, and
//! tells its subscribers the difference once the owner says who is there.

use std::collections::BTreeMap;

use super::Subscribers;
use crate::command::{Event, Reply};
use crate::fanout::frames::Frames;
use crate::id::{ChannelId, SessionId};
use crate::message::Presence;
use crate::presence_list::SharedPresences;

/// The members that the subscribers know. There are about as many as one list or the room's maximum has.
#[derive(Default)]
pub struct Told {
    presences: BTreeMap<SessionId, Presence>,
    /// The subscribers were told by an owner before this one, and the owner has not said yet who is there.
    is_old: bool,
}

impl Told {
    /// Takes in an event that all subscribers are told.
    pub fn hear(&mut self, event: &Event) {
        if let Event::Presence { joins, leaves, .. } = event {
            leaves.iter().for_each(|presence| drop(self.presences.remove(&presence.session)));
            self.add(joins);
        }
    }

    fn add(&mut self, presences: &[Presence]) {
        self.presences.extend(presences.iter().map(|presence| (presence.session, presence.clone())));
    }

    /// The event that brings subscribers from what they were told to these presences; `None` if they were told them.
    fn settle(&mut self, channel: &ChannelId, presences: &[Presence], count: Option<u32>) -> Option<Event> {
        self.is_old = false;
        let there: BTreeMap<_, _> = presences.iter().map(|presence| (presence.session, presence)).collect();
        let has_gone = |presence: &&Presence| !there.contains_key(&presence.session);
        let leaves: Vec<Presence> = self.presences.values().filter(has_gone).cloned().collect();
        let is_news = |presence: &&Presence| self.presences.get(&presence.session) != Some(*presence);
        let joins: Vec<Presence> = presences.iter().filter(is_news).cloned().collect();
        let event = Event::Presence { channel: channel.clone(), joins, leaves, count };
        self.hear(&event);
        let Event::Presence { joins, leaves, .. } = &event else { return None };
        (!joins.is_empty() || !leaves.is_empty() || count.is_some()).then_some(event)
    }
}

impl Subscribers {
    /// A subscriber is told of its join. Returns the answer with what the other subscribers here were told, if that is more
    /// than the owner knows yet. `keeps`: the channel may get another owner.
    pub fn tell_joiner(&mut self, channel: &ChannelId, reply: &Reply, keeps: bool) -> Option<Reply> {
        let Reply::Joined { presences, count, me, .. } = reply else { return None };
        let told = &mut self.channels.get_mut(channel).filter(|_| keeps)?.told;
        let told = told.get_or_insert_default();
        told.add(presences);
        if !told.is_old {
            return None;
        }
        let all = told.presences.values().filter(|presence| presence.session != me.session).cloned();
        let presences: SharedPresences = all.collect();
        Some(Reply::Joined { channel: channel.clone(), presences, count: *count, me: me.clone() })
    }

    /// Whether the subscribers here were told of this presence.
    pub fn was_told(&self, channel: &ChannelId, presence: &Presence) -> bool {
        let told = self.channels.get(channel).and_then(|listening| listening.told.as_ref());
        told.is_some_and(|told| told.presences.get(&presence.session) == Some(presence))
    }

    /// The owner is another one from here on, which will say who is there.
    pub fn doubt_told(&mut self, channel: &ChannelId) {
        if let Some(told) = self.channels.get_mut(channel).and_then(|listening| listening.told.as_mut()) {
            told.is_old = true;
        }
    }

    /// Takes in who is there, and tells the subscribers what is new to them.
    pub fn settle(&mut self, channel: &ChannelId, presences: &[Presence], count: Option<u32>) {
        let told = self.channels.get_mut(channel).and_then(|listening| listening.told.as_mut());
        if let Some(event) = told.and_then(|told| told.settle(channel, presences, count)) {
            // `append` takes the event in once more, which changes nothing.
            self.append(channel, &Frames::of_events(&[event]));
        }
    }

    /// Whether this shard's passes are behind what the channel announces.
    pub fn is_behind(&self, channel: &ChannelId) -> bool {
        self.channels.get(channel).is_some_and(|listening| listening.backlog == crate::parcel::Backlog::High)
    }
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;
    use crate::id::UserId;

    fn presence(number: u128, username: &str) -> Presence {
        let id = Uuid::from_u128(number);
        Presence { user: UserId(id), session: SessionId(id), username: username.into(), persistence: true }
    }

    #[test]
    fn subscribers_are_told_the_difference_once() {
        let channel = ChannelId::room("lobby").unwrap();
        let mut told = Told::default();
        let [ada, bob, cleo] = [presence(1, "ada"), presence(2, "bob"), presence(3, "cleo")];
        let event = |joins: &[&Presence], leaves: &[&Presence]| {
            let owned = |presences: &[&Presence]| presences.iter().map(|presence| (*presence).clone()).collect();
            Event::Presence { channel: channel.clone(), joins: owned(joins), leaves: owned(leaves), count: None }
        };
        told.hear(&event(&[&ada, &bob], &[]));
        told.hear(&event(&[&cleo], &[&ada]));
        let renamed = presence(2, "robert");
        let settled = told.settle(&channel, &[ada.clone(), renamed.clone()], None);
        assert_eq!(settled, Some(event(&[&ada, &renamed], &[&cleo])));
        assert_eq!(told.settle(&channel, &[renamed, ada], None), None);
        assert!(told.settle(&channel, &[bob], Some(7)).is_some());
    }
}
