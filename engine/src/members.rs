//! Who is in a channel, as its owner knows it.

use std::collections::HashMap;
use std::sync::Arc;

use crate::id::{ConnectionId, ShardId};
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
}

/// The members of one channel.
#[derive(Default)]
pub struct Members {
    list: Vec<Member>,
    places: HashMap<Address, u32>,
    /// How many members live on each shard; the shards are those with at least one.
    homes: Vec<(ShardId, u32)>,
    /// The visible presences, until one comes or goes.
    visible: Option<Arc<[Presence]>>,
}

impl Members {
    pub fn get(&self, address: Address) -> Option<&Member> {
        self.places.get(&address).map(|&place| &self.list[place as usize])
    }

    pub fn insert(&mut self, member: Member) {
        if !member.hidden {
            self.visible = None;
        }
        match self.homes.iter_mut().find(|(home, _)| *home == member.address.home) {
            Some((_, count)) => *count += 1,
            None => self.homes.push((member.address.home, 1)),
        }
        let former = self.places.insert(member.address, self.list.len() as u32);
        assert!(former.is_none(), "a member joins once");
        self.list.push(member);
    }

    pub fn remove(&mut self, address: Address) -> Option<Member> {
        let place = self.places.remove(&address)? as usize;
        let member = self.list.swap_remove(place);
        if let Some(moved) = self.list.get(place) {
            self.places.insert(moved.address, place as u32);
        }
        if !member.hidden {
            self.visible = None;
        }
        let home = self.homes.iter().position(|(home, _)| *home == address.home).expect("it lives somewhere");
        self.homes[home].1 -= 1;
        if self.homes[home].1 == 0 {
            self.homes.swap_remove(home);
        }
        Some(member)
    }

    /// The shards on which members live.
    pub fn homes(&self) -> impl Iterator<Item = ShardId> + '_ {
        self.homes.iter().map(|&(home, _)| home)
    }

    /// The presences that others may see.
    pub fn visible(&mut self) -> Arc<[Presence]> {
        self.visible
            .get_or_insert_with(|| {
                self.list.iter().filter(|member| !member.hidden).map(|member| member.presence.clone()).collect()
            })
            .clone()
    }

    pub fn is_empty(&self) -> bool {
        self.list.is_empty()
    }
}
