//! What the subscribers of a channel on this shard were told of its members.
//!
//! A new owner does not know it, and members may have come or gone without having been told. So the home remembers it, and
//! tells its subscribers the difference once the owner says who is there. Until then the owner announces what it knows, and
//! the home leaves out what is no news here: a leave of a member of whom no subscriber heard, and a join that all heard of.
//!
//! In a crowd each subscriber knows some members, and not all know the same. Nothing is left out there.

use std::borrow::Cow;
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
    /// The count that the subscribers were told last. While there is one, they do not all know the same members.
    count: Option<u32>,
    /// The owner is a new one, which has not said yet who is there. Until then a crowd stays a crowd.
    is_unsettled: bool,
}

impl Told {
    /// Takes in events that all subscribers are to be told. Returns what to tell them instead, if some of it is no news.
    pub fn hear(&mut self, events: &[Event]) -> Option<Vec<Event>> {
        if !events.iter().any(|event| matches!(event, Event::Presence { .. })) {
            return None;
        }
        let news: Vec<_> = events.iter().filter_map(|event| self.hear_one(event)).collect();
        let is_all = news.len() == events.len() && news.iter().all(|event| matches!(event, Cow::Borrowed(_)));
        (!is_all).then(|| news.into_iter().map(Cow::into_owned).collect())
    }

    /// Takes in an event, and returns what is news of it.
    fn hear_one<'e>(&mut self, event: &'e Event) -> Option<Cow<'e, Event>> {
        let Event::Presence { channel, joins, leaves, count } = event else { return Some(Cow::Borrowed(event)) };
        let tells_all = self.count.is_some() || count.is_some();
        if count.is_some() || !self.is_unsettled {
            self.count = *count;
        }
        let (mut joins, mut leaves) = (joins.clone(), leaves.clone());
        leaves.retain(|presence| self.presences.remove(&presence.session).is_some() || tells_all);
        joins.retain(|presence| !self.knows(presence) || tells_all);
        self.add(&joins);
        let is_news = !joins.is_empty() || !leaves.is_empty() || tells_all;
        let news = Event::Presence { channel: channel.clone(), joins, leaves, count: self.count };
        is_news.then(|| if news == *event { Cow::Borrowed(event) } else { Cow::Owned(news) })
    }

    fn knows(&self, presence: &Presence) -> bool {
        self.presences.get(&presence.session) == Some(presence)
    }

    fn add(&mut self, presences: &[Presence]) {
        self.presences.extend(presences.iter().map(|presence| (presence.session, presence.clone())));
    }

    /// The event that brings subscribers from what they were told to these presences.
    fn settled(&mut self, channel: &ChannelId, presences: &[Presence], count: Option<u32>) -> Event {
        self.is_unsettled = false;
        let there: BTreeMap<_, _> = presences.iter().map(|presence| (presence.session, presence)).collect();
        let has_gone = |presence: &&Presence| !there.contains_key(&presence.session);
        let leaves = self.presences.values().filter(has_gone).cloned().collect();
        Event::Presence { channel: channel.clone(), joins: presences.to_vec(), leaves, count }
    }
}

impl Subscribers {
    /// A connection is about to become a subscriber, and its answer lists members. Tells the subscribers of those of whom
    /// they have not heard.
    pub fn tell_before_join(&mut self, channel: &ChannelId, reply: &Reply) {
        let Reply::Joined { presences, count: None, .. } = reply else { return };
        let told = self.channels.get(channel).and_then(|listening| listening.told.as_ref());
        let Some(told) = told.filter(|told| told.count.is_none()) else { return };
        let joins: Vec<Presence> = presences.iter().filter(|presence| !told.knows(presence)).cloned().collect();
        if !joins.is_empty() {
            let event = Event::Presence { channel: channel.clone(), joins, leaves: Vec::new(), count: None };
            self.append(channel, &Frames::of_events(&[event]));
        }
    }

    /// A subscriber is told of its join. Returns the answer with all that the other subscribers here were told, if that is
    /// more than the owner knows yet. `keeps`: the channel may get another owner.
    pub fn tell_joiner(&mut self, channel: &ChannelId, reply: &Reply, keeps: bool) -> Option<Reply> {
        let Reply::Joined { presences, count, me, .. } = reply else { return None };
        let told = &mut self.channels.get_mut(channel).filter(|_| keeps)?.told;
        let told = told.get_or_insert_default();
        told.add(presences);
        if told.count.is_some() || count.is_some() {
            let is_still_crowd = count.is_none() && told.is_unsettled;
            told.count = count.or(told.count);
            return is_still_crowd.then(|| Reply::Joined {
                channel: channel.clone(),
                presences: presences.clone(),
                count: told.count,
                me: me.clone(),
            });
        }
        let others = || told.presences.values().filter(|presence| presence.session != me.session);
        if others().count() == presences.len() {
            return None;
        }
        let presences: SharedPresences = others().cloned().collect();
        Some(Reply::Joined { channel: channel.clone(), presences, count: None, me: me.clone() })
    }

    /// Whether the subscribers here were told of this presence.
    pub fn was_told(&self, channel: &ChannelId, presence: &Presence) -> bool {
        let told = self.channels.get(channel).and_then(|listening| listening.told.as_ref());
        told.is_some_and(|told| told.knows(presence))
    }

    /// The owner is another one from here on, which will say who is there.
    pub fn doubt_told(&mut self, channel: &ChannelId) {
        if let Some(told) = self.channels.get_mut(channel).and_then(|listening| listening.told.as_mut()) {
            told.is_unsettled = true;
        }
    }

    /// Takes in who is there, and tells the subscribers what is new to them.
    pub fn settle(&mut self, channel: &ChannelId, presences: &[Presence], count: Option<u32>) {
        let told = self.channels.get_mut(channel).and_then(|listening| listening.told.as_mut());
        if let Some(event) = told.map(|told| told.settled(channel, presences, count)) {
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
        let hear = |told: &mut Told, event: Event| told.hear(&[event]);
        assert_eq!(hear(&mut told, event(&[&ada, &bob], &[])), None, "all of it is news");
        assert_eq!(hear(&mut told, event(&[&cleo], &[&ada])), None);
        let renamed = presence(2, "robert");
        let news = event(&[&ada, &renamed], &[&cleo]);
        let settled = told.settled(&channel, &[ada.clone(), renamed.clone()], None);
        assert_eq!(hear(&mut told, settled), None);
        assert!(told.knows(&ada) && told.knows(&renamed) && !told.knows(&cleo));
        assert_eq!(hear(&mut told, news), Some(Vec::new()), "nothing of it is news");
        assert_eq!(hear(&mut told, event(&[&ada, &cleo], &[&bob])), Some(vec![event(&[&cleo], &[&bob])]));
    }

    #[test]
    fn nothing_is_left_out_in_a_crowd() {
        let channel = ChannelId::room("lobby").unwrap();
        let mut told = Told::default();
        let [ada, bob] = [presence(1, "ada"), presence(2, "bob")];
        let event = |joins: &[&Presence], count| Event::Presence {
            channel: channel.clone(),
            joins: joins.iter().map(|presence| (*presence).clone()).collect(),
            leaves: vec![bob.clone()],
            count,
        };
        assert_eq!(told.hear(&[event(&[&ada], Some(7))]), None);
        assert_eq!(told.hear(&[event(&[&ada], Some(6))]), None);
        assert_eq!(told.hear(&[event(&[&ada], None)]), None, "it is a room again");
        assert_ne!(told.hear(&[event(&[&ada], None)]), None);
    }
}
