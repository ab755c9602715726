//! Who comes and goes: exact in a room of people, a count and a sample in a crowd.
//!
//! Joins and leaves of a turn are told together, in one event. A member is *known* once the others were told of it, and
//! whoever was told of it is told when it leaves, always. In a room everybody visible is known. In a crowd at most as many
//! are known as a room may hold, so that what a join or a leave costs does not grow with the crowd; the count is exact, and
//! told at most once a second. When a crowd becomes a room again, everybody is told of everybody.

use std::collections::VecDeque;
use std::sync::Arc;

use crate::channel::members::{Address, Member, Members};
use crate::id::Monotonic;
use crate::limits::{CROWD_EVENT_INTERVAL, CROWD_LIST_MAX, CROWD_SAMPLE_MAX};
use crate::message::Presence;

/// What is to be told about who is there.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct PresenceNews {
    pub joins: Vec<Presence>,
    pub leaves: Vec<Presence>,
    /// How many are there, where the presences do not say it: in a crowd.
    pub count: Option<u32>,
}

/// What a joiner is told of those who are there.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct PresenceList {
    pub presences: Arc<[Presence]>,
    pub count: Option<u32>,
}

/// What to do about a session that comes again before its leave was told.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Return {
    No,
    TellFirst,
    /// The others know it as present, and go on to.
    NeverLeft,
}

/// The presence changes and goings of one channel that nobody has been told of yet.
#[derive(Default)]
pub struct PresenceChanges {
    crowd: Option<Crowd>,
    /// Arrivals to be told of; the newest only, in a crowd.
    arrived: VecDeque<Address>,
    /// Known members that have left.
    left: Vec<Presence>,
    /// The members known last, for those who join a crowd.
    recent: VecDeque<Address>,
    /// What a joiner is told, until the next event.
    list: Option<Arc<[Presence]>>,
}

/// A channel that is a crowd.
struct Crowd {
    told: Monotonic,
    told_count: u32,
}

impl PresenceChanges {
    /// A visible member of whom the others do not know has come.
    pub fn arrive(&mut self, address: Address) {
        self.arrived.push_back(address);
        if self.crowd.is_some() && self.arrived.len() > CROWD_SAMPLE_MAX {
            self.arrived.pop_front();
        }
    }

    /// A member has gone. One that nobody knew of has not been there.
    pub fn depart(&mut self, member: Member) {
        if member.known {
            self.left.push(member.presence);
        }
    }

    /// A session comes whose leave has not been told yet: in one event it cannot both come and go.
    pub fn returns(&mut self, member: &Member) -> Return {
        let Some(place) = self.left.iter().position(|presence| presence.session == member.presence.session) else {
            return Return::No;
        };
        if self.crowd.is_none() {
            return Return::TellFirst;
        }
        if member.hidden {
            return Return::No;
        }
        // Telling at once would let anybody make a crowd hear of them as often as they like. So it has not left.
        self.left.swap_remove(place);
        Return::NeverLeft
    }

    /// What somebody who joins now is told: what the others have been told, so that the next event is news to all alike.
    pub fn list(&mut self, members: &Members) -> PresenceList {
        let presences = self.list.get_or_insert_with(|| match self.crowd {
            None => {
                let known = members.visible_after(None).filter(|member| member.known);
                known.map(|member| member.presence.clone()).chain(self.left.iter().cloned()).collect()
            }
            Some(_) => {
                let recent = self.recent.iter().rev().filter_map(|&address| members.get(address));
                recent
                    .filter(|member| member.known)
                    .map(|member| member.presence.clone())
                    .take(CROWD_LIST_MAX)
                    .collect()
            }
        });
        PresenceList { presences: presences.clone(), count: self.crowd.as_ref().map(|_| count(members)) }
    }

    /// When there will be something to tell, if it must wait.
    pub fn due(&self, members: &Members) -> Option<Monotonic> {
        let crowd = self.crowd.as_ref()?;
        let changed = crowd.told_count != count(members) || !self.left.is_empty() || !self.arrived.is_empty();
        changed.then(|| crowd.told.plus(CROWD_EVENT_INTERVAL))
    }

    /// Ends a turn: what is to be told now. A channel is a crowd beyond `room_max` visible members, and a room again when
    /// a tenth fewer are left, so that it does not waver.
    pub fn tell(&mut self, members: &mut Members, room_max: usize, now: Monotonic) -> Option<PresenceNews> {
        let visible = members.visible_count();
        let news = match &self.crowd {
            None if visible <= room_max => self.everybody_new(members),
            None => self.become_crowd(members, room_max, now),
            Some(_) if visible <= room_max - room_max / 10 => self.become_room(members),
            Some(_) => {
                if self.due(members)? > now {
                    return None;
                }
                self.sample(members, room_max, now)
            }
        };
        (!news.joins.is_empty() || !news.leaves.is_empty() || news.count.is_some()).then(|| {
            self.list = None;
            news
        })
    }

    fn everybody_new(&mut self, members: &mut Members) -> PresenceNews {
        let arrived = std::mem::take(&mut self.arrived);
        let joins = arrived.into_iter().filter_map(|address| members.tell_of(address)).collect();
        PresenceNews { joins, leaves: std::mem::take(&mut self.left), count: None }
    }

    fn become_crowd(&mut self, members: &mut Members, room_max: usize, now: Monotonic) -> PresenceNews {
        let surplus = self.arrived.len().saturating_sub(CROWD_SAMPLE_MAX);
        self.arrived.drain(..surplus);
        let known = members.visible_after(None).filter(|member| member.known).map(|member| member.address);
        self.recent = known.take(CROWD_LIST_MAX).collect();
        self.sample(members, room_max, now)
    }

    fn become_room(&mut self, members: &mut Members) -> PresenceNews {
        let everybody: Vec<Address> = members.visible_after(None).map(|member| member.address).collect();
        for &address in &everybody {
            members.tell_of(address);
        }
        let presence = |address: &Address| members.get(*address).map(|member| member.presence.clone());
        let joins = everybody.iter().filter_map(presence).collect();
        *self = Self { left: std::mem::take(&mut self.left), ..Self::default() };
        PresenceNews { joins, leaves: std::mem::take(&mut self.left), count: None }
    }

    fn sample(&mut self, members: &mut Members, room_max: usize, now: Monotonic) -> PresenceNews {
        let mut joins = Vec::new();
        for address in std::mem::take(&mut self.arrived) {
            if members.known_count() < room_max
                && let Some(presence) = members.tell_of(address)
            {
                joins.push(presence);
                self.recent.push_back(address);
            }
        }
        // Some of them have left meanwhile, so twice as many are remembered as are listed.
        let surplus = self.recent.len().saturating_sub(2 * CROWD_LIST_MAX);
        self.recent.drain(..surplus);
        let count = count(members);
        self.crowd = Some(Crowd { told: now, told_count: count });
        PresenceNews { joins, leaves: std::mem::take(&mut self.left), count: Some(count) }
    }
}

fn count(members: &Members) -> u32 {
    u32::try_from(members.visible_count()).unwrap_or(u32::MAX)
}
