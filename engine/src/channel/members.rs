//! The members of a channel, as its owner knows them.

use std::collections::{BTreeMap, HashMap};
use std::ops::Bound;

use crate::fanout::frames::Format;
use crate::id::{ConnectionId, SessionId, ShardId, UserId};
use crate::message::Presence;

/// A connection, wherever its home is.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Address {
    pub home: ShardId,
    pub connection: ConnectionId,
}

/// One presence in a channel.
pub struct Member {
    pub address: Address,
    pub presence: Presence,
    pub hidden: bool,
    pub format: Format,
    /// The other members were told of this one. Never true for a hidden member.
    pub known: bool,
}

/// The members of one channel.
#[derive(Default)]
pub struct Members {
    list: Vec<Member>,
    places: HashMap<Address, u32>,
    /// The members that others may see, in the order of pages.
    visible: BTreeMap<SessionId, Address>,
    known: usize,
    /// How many members have their home on each shard. Shards without members are not listed.
    homes: Vec<(ShardId, u32)>,
    /// How many members receive each format.
    formats: [u32; Format::COUNT],
}

impl Members {
    /// The member at this address, or `None` if that connection is not in the channel.
    pub fn get(&self, address: Address) -> Option<&Member> {
        self.places.get(&address).map(|&place| &self.list[place as usize])
    }

    /// Adds a member. Panics if its address is in the channel already.
    pub fn insert(&mut self, member: Member) {
        if !member.hidden {
            self.visible.insert(member.presence.session, member.address);
        }
        self.known += usize::from(member.known);
        self.formats[member.format as usize] += 1;
        match self.homes.iter_mut().find(|(home, _)| *home == member.address.home) {
            Some((_, count)) => *count += 1,
            None => self.homes.push((member.address.home, 1)),
        }
        let former = self.places.insert(member.address, self.list.len() as u32);
        assert!(former.is_none(), "a member joins once");
        self.list.push(member);
    }

    /// Takes a member out and returns it, or `None` if that connection is not in the channel.
    pub fn remove(&mut self, address: Address) -> Option<Member> {
        let place = self.places.remove(&address)? as usize;
        let member = self.list.swap_remove(place);
        if let Some(moved) = self.list.get(place) {
            self.places.insert(moved.address, place as u32);
        }
        if !member.hidden {
            self.visible.remove(&member.presence.session);
        }
        self.known -= usize::from(member.known);
        self.formats[member.format as usize] -= 1;
        let home = self.homes.iter().position(|(home, _)| *home == address.home).expect("it lives somewhere");
        self.homes[home].1 -= 1;
        if self.homes[home].1 == 0 {
            self.homes.swap_remove(home);
        }
        Some(member)
    }

    /// Marks a member as known. Returns its presence to be announced, or `None` if the member is absent, hidden or
    /// known already.
    pub fn tell_of(&mut self, address: Address) -> Option<Presence> {
        let member = &mut self.list[*self.places.get(&address)? as usize];
        if member.known || member.hidden {
            return None;
        }
        member.known = true;
        self.known += 1;
        Some(member.presence.clone())
    }

    /// The addresses of a user's presences.
    pub fn of_user(&self, user: UserId) -> impl Iterator<Item = Address> + '_ {
        self.list.iter().filter(move |member| member.presence.user == user).map(|member| member.address)
    }

    /// The addresses of all members, hidden ones too, in no particular order.
    pub fn addresses(&self) -> impl Iterator<Item = Address> + '_ {
        self.list.iter().map(|member| member.address)
    }

    /// The shards that are the home of at least one member.
    pub fn homes(&self) -> impl Iterator<Item = ShardId> + '_ {
        self.homes.iter().map(|&(home, _)| home)
    }

    /// The formats that at least one member receives.
    pub fn formats(&self) -> impl Iterator<Item = Format> + '_ {
        Format::ALL.into_iter().filter(|&format| self.formats[format as usize] > 0)
    }

    /// The members that others may see, in order of their sessions, beginning after `after`.
    pub fn visible_after(&self, after: Option<SessionId>) -> impl Iterator<Item = &Member> + '_ {
        let from = after.map_or(Bound::Unbounded, Bound::Excluded);
        self.visible.range((from, Bound::Unbounded)).filter_map(|(_, &address)| self.get(address))
    }

    /// The address of the session, or `None` if it is not a member that others may see.
    pub fn visible_at(&self, session: SessionId) -> Option<Address> {
        self.visible.get(&session).copied()
    }

    /// Whether the other members were told of the session's presence.
    pub fn is_known(&self, session: SessionId) -> bool {
        self.visible_at(session).and_then(|address| self.get(address)).is_some_and(|member| member.known)
    }

    /// Asserts what the type promises. Looks at every member.
    pub fn invariants(&self) {
        assert_eq!(self.places.len(), self.list.len(), "each member has one place");
        for (place, member) in self.list.iter().enumerate() {
            assert_eq!(self.places.get(&member.address), Some(&(place as u32)), "a place leads to its member");
            assert!(!(member.known && member.hidden), "the others are never told of a hidden member");
        }
        let count = |is: fn(&Member) -> bool| self.list.iter().filter(|member| is(member)).count();
        assert_eq!(self.known, count(|member| member.known), "known");
        assert!(self.visible.len() <= count(|member| !member.hidden), "visible");
        let formats: usize = self.formats.iter().map(|&count| count as usize).sum();
        let homes: usize = self.homes.iter().map(|&(_, count)| count as usize).sum();
        assert_eq!((formats, homes), (self.list.len(), self.list.len()), "each member has a format and a home");
    }

    /// How many members others may see.
    pub fn visible_count(&self) -> usize {
        self.visible.len()
    }

    /// How many members the other members were told of.
    pub fn known_count(&self) -> usize {
        self.known
    }

    /// How many members there are, hidden ones included.
    pub fn len(&self) -> usize {
        self.list.len()
    }

    /// Whether not even a hidden member is left.
    pub fn is_empty(&self) -> bool {
        self.list.is_empty()
    }
}
