//! The nodes of a simulated cluster: each shard is a node of its own. Slots change hands, in order or because a node dies.
//! Each shard hears of a change at a time of its own, and of all changes in one order.

use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;

use engine::channel::owner::{Given, LeftSlot};
use engine::chart::{Chart, Node, SLOTS, Slot, SlotOwner};
use engine::id::{ChannelId, Epoch, Life, ShardId};
use engine::shard::Input;

use crate::world::Random;

/// Why slots change hands.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Moves {
    /// They do not: the server is alone.
    None,
    /// Nodes give them up in order.
    Orderly,
    /// Nodes die as well, and others take what they had.
    Deaths,
}

/// A change that is under way.
struct Moving {
    from: usize,
    to: usize,
    /// Slots that their node has not given up yet.
    left: BTreeSet<Slot>,
    slots: Vec<Slot>,
    given: Vec<(ChannelId, Given)>,
}

/// The cluster's state, as the lock has it.
pub struct Nodes {
    lives: Vec<Life>,
    next_life: u16,
    epoch: u64,
    /// Which node has each slot, under which epoch.
    owners: Vec<Option<(usize, Epoch)>>,
    moving: Option<Moving>,
    /// What each shard is going to hear.
    news: Vec<VecDeque<Input>>,
    /// The lives to which each shard has an open link.
    linked: Vec<BTreeSet<Life>>,
    /// How many slots have changed hands in order, and how many nodes have died.
    pub counts: [u64; 2],
}

impl Nodes {
    /// So many nodes, which share the slots.
    pub fn new(count: usize) -> Self {
        let lives: Vec<Life> = (1..=count as u16).map(Life).collect();
        let owners = (0..usize::from(SLOTS)).map(|slot| Some((slot % count, Epoch(1)))).collect();
        let news = (0..count).map(|_| VecDeque::new()).collect();
        let linked = vec![lives.iter().copied().collect(); count];
        Self { lives, next_life: count as u16 + 1, epoch: 1, owners, moving: None, news, linked, counts: [0; 2] }
    }

    /// The shard of a node.
    pub fn shard(&self, node: usize) -> ShardId {
        ShardId { life: self.lives[node], core: 0 }
    }

    /// The node that this shard is; `None` if it is dead.
    pub fn node(&self, shard: ShardId) -> Option<usize> {
        self.lives.iter().position(|life| *life == shard.life)
    }

    /// The chart as it is now.
    pub fn chart(&self) -> Arc<Chart> {
        let nodes = self.lives.iter().map(|&life| Node { life, cores: 1 }).collect();
        let owner = |Slot(slot)| self.owners[usize::from(slot)];
        Arc::new(Chart::new(nodes, |slot| {
            owner(slot).map(|(node, epoch): (usize, Epoch)| SlotOwner { life: self.lives[node], epoch })
        }))
    }

    /// The other lives, which a node has links to from the beginning.
    pub fn others(&self, node: usize) -> Vec<Life> {
        self.lives.iter().copied().filter(|life| *life != self.lives[node]).collect()
    }

    /// Begins to move some of a node's slots to another one. Returns the node, and what it must give up.
    pub fn begin_move(&mut self, random: &mut Random) -> Option<(usize, Vec<Slot>)> {
        if !self.is_quiet() || self.lives.len() < 2 {
            return None;
        }
        let from = random.below(self.lives.len());
        let to = (from + 1 + random.below(self.lives.len() - 1)) % self.lives.len();
        let part = random.below(2);
        let has = |slot: &usize| self.owners[*slot].is_some_and(|(node, _)| node == from) && slot % 2 == part;
        let slots: Vec<Slot> = (0..self.owners.len()).filter(has).map(|slot| Slot(slot as u16)).collect();
        if slots.is_empty() {
            return None;
        }
        self.moving =
            Some(Moving { from, to, left: slots.iter().copied().collect(), slots: slots.clone(), given: Vec::new() });
        Some((from, slots))
    }

    /// A node has given up slots. When these are all that it was to give up, the other node has them. If that one has died
    /// since, the node keeps them, and is going to hear so.
    pub fn left(&mut self, node: usize, left: Vec<LeftSlot>) {
        let Some(moving) = self.moving.as_mut().filter(|moving| moving.from == node) else {
            assert!(left.is_empty() || !self.news[node].is_empty(), "a node gives up what it was told to");
            return;
        };
        for LeftSlot { slot, given } in left {
            assert!(moving.left.remove(&slot), "a slot is given up once");
            moving.given.extend(given);
        }
        if !moving.left.is_empty() {
            return;
        }
        let Some(Moving { to, slots, given, .. }) = self.moving.take() else { return };
        self.counts[0] += slots.len() as u64;
        self.epoch += 1;
        for Slot(slot) in slots {
            self.owners[usize::from(slot)] = Some((to, Epoch(self.epoch)));
        }
        self.news[to].push_back(Input::Inherit(given));
        self.tell_chart();
    }

    /// A node dies, and begins a new life. The others take what it had. Returns the chart with which the new life begins.
    pub fn die(&mut self, node: usize, random: &mut Random) -> Arc<Chart> {
        let former = self.lives[node];
        self.lives[node] = Life(self.next_life);
        self.next_life += 1;
        self.counts[1] += 1;
        // What it was to give up another node takes as it is, and what it was to take stays where it was.
        let is_of_node = |moving: &mut Moving| moving.from == node || moving.to == node;
        if let Some(Moving { from, slots, .. }) = self.moving.take_if(is_of_node) {
            self.epoch += 1;
            for Slot(slot) in slots.into_iter().filter(|_| from != node) {
                self.owners[usize::from(slot)] = Some((from, Epoch(self.epoch)));
            }
        }
        let orphans: Vec<usize> =
            (0..self.owners.len()).filter(|&slot| self.owners[slot].is_some_and(|(owner, _)| owner == node)).collect();
        orphans.iter().for_each(|&slot| self.owners[slot] = None);
        let life = self.lives[node];
        for other in (0..self.lives.len()).filter(|&other| other != node) {
            self.news[other].push_back(Input::LinkReset(former));
        }
        self.tell_chart();
        let first = self.chart();
        self.news[node].clear();
        self.linked[node].clear();
        for other in (0..self.lives.len()).filter(|&other| other != node) {
            self.news[other].push_back(Input::LinkOpened(life));
            self.news[node].push_back(Input::LinkOpened(self.lives[other]));
        }
        self.epoch += 1;
        for slot in orphans {
            let taker = (node + 1 + random.below(self.lives.len() - 1)) % self.lives.len();
            self.owners[slot] = Some((taker, Epoch(self.epoch)));
        }
        self.tell_chart();
        first
    }

    /// Whether a shard takes parcels of another one: as soon as it can answer.
    pub fn takes(&self, node: usize, from: usize) -> bool {
        self.linked[node].contains(&self.lives[from])
    }

    fn tell_chart(&mut self) {
        let chart = self.chart();
        self.news.iter_mut().for_each(|news| news.push_back(Input::Chart(chart.clone())));
    }

    /// What a shard hears now, if anything. What has been left behind is heard together with the chart behind it.
    pub fn news(&mut self, node: usize, random: &mut Random) -> Vec<Input> {
        if self.news[node].is_empty() || !random.one_in(4) {
            return Vec::new();
        }
        let mut heard: Vec<Input> = self.news[node].pop_front().into_iter().collect();
        if matches!(heard[..], [Input::Inherit(_)]) {
            heard.extend(self.news[node].pop_front());
        }
        for input in &heard {
            match input {
                Input::LinkOpened(life) => drop(self.linked[node].insert(*life)),
                Input::LinkReset(life) => drop(self.linked[node].remove(life)),
                _ => {}
            }
        }
        heard
    }

    /// Whether every shard has heard everything, and no slot is under way.
    pub fn is_quiet(&self) -> bool {
        self.moving.is_none() && self.news.iter().all(VecDeque::is_empty)
    }
}
