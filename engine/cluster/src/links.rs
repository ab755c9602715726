//! The links of a node to all other lives, with the store that they share. Pure: the time is an argument, and what is to
//! be sent is asked for.
//!
//! The caller hands in what happens (`send`, `receive`, `connected`, `disconnected`, `set_peers`, `tick`), and after each
//! call takes out what follows: `take` until no peer is in `readable`, and `transmit` until there is nothing. Then it
//! waits, at most until `timeout`.

use std::collections::{BTreeMap, BTreeSet};

use engine::id::{Life, Monotonic};

use crate::limits::{Limits, PEERS_MAX};
use crate::link::{Arrival, Event, Link, Reason, Taken};
use crate::packet::{Content, LinkNumber, Packet};

/// The bytes that the links of a node hold for their peers, together.
#[derive(Debug, Default)]
struct ResendStore {
    held: usize,
    /// Bytes that arrived over all links and were not taken.
    inbox: usize,
    /// Bytes of parcels of which pieces are missing.
    unfinished: usize,
}

/// What the links of a node have counted.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Counters {
    pub frames_sent: u64,
    /// Frames that were sent again, also counted in `frames_sent`.
    pub frames_resent: u64,
    pub frame_bytes_sent: u64,
    pub probes_sent: u64,
    pub frames_received: u64,
    /// Frames that had arrived before.
    pub duplicates: u64,
    /// Frames that were dropped because one before them was missing.
    pub gaps: u64,
    /// Frames that were dropped because the shards had not taken those before.
    pub no_room: u64,
    /// Packets of a time before a reset.
    pub stale: u64,
    /// Packets of lives that are no peers, for other lives, or with impossible numbers.
    pub refused: u64,
    /// Resets that this node began.
    pub resets: u64,
    /// Resets that peers began.
    pub resets_by_peers: u64,
    /// Parcels that were not accepted because their link was not open under their number.
    pub parcels_refused: u64,
}

/// A parcel was not accepted. Its sender has been told of a reset, or will be.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("the link to the peer is not open under this number")]
pub struct NotOpen;

/// There are more lives than a node has links to.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("a node has links to {PEERS_MAX} other lives at most")]
pub struct TooManyPeers;

/// The links of one node.
#[derive(Debug)]
pub struct Links {
    own: Life,
    limits: Limits,
    links: BTreeMap<Life, Link>,
    store: ResendStore,
    /// The highest link number that this node has used or seen. A link takes a higher one at each reset. It is one number
    /// for all links, so that a life that was no peer for a while comes back under a number that is new for both.
    number: LinkNumber,
    /// Whether the bus takes packets.
    connected: bool,
    /// The peer that was sent something last. The others come before it again.
    turn: Life,
    counters: Counters,
}

impl Links {
    /// Without peers, and without the bus.
    pub fn new(own: Life, limits: Limits) -> Self {
        Self {
            own,
            limits,
            links: BTreeMap::new(),
            store: ResendStore::default(),
            number: LinkNumber(0),
            connected: false,
            turn: own,
            counters: Counters::default(),
        }
    }

    /// The lives that a node has links to. The own life is left out. The links of lives that are not among them any more
    /// are reset for the last time. Changes nothing if there are more than `PEERS_MAX`.
    pub fn set_peers(&mut self, lives: &BTreeSet<Life>, now: Monotonic) -> Result<(), TooManyPeers> {
        if lives.len() > PEERS_MAX {
            return Err(TooManyPeers);
        }
        let gone: Vec<Life> = self.links.keys().copied().filter(|life| !lives.contains(life)).collect();
        for life in gone {
            self.change(life, |link, _| link.leave(now));
            self.links.retain(|_, link| !link.is_over());
        }
        for &life in lives.iter().filter(|&&life| life != self.own) {
            let number = LinkNumber(self.number.0 + 1);
            match self.links.get_mut(&life) {
                Some(link) if link.is_gone() => link.come_back(number, now),
                Some(_) => continue,
                None => drop(self.links.insert(life, Link::new(number, now))),
            }
            self.number = number;
        }
        Ok(())
    }

    /// The bus takes packets, and what was sent before may be lost.
    pub fn connected(&mut self, now: Monotonic) {
        self.connected = true;
        for link in self.links.values_mut() {
            link.doubt(now);
        }
    }

    /// The bus takes no packets. Nothing is sent until `connected`.
    pub fn disconnected(&mut self) {
        self.connected = false;
    }

    /// Puts a parcel behind those for the same peer. `link` is the number that the sender was told last: what was meant for
    /// a time before a reset does not go out after it.
    pub fn send(&mut self, to: Life, link: LinkNumber, parcel: &[u8], now: Monotonic) -> Result<(), NotOpen> {
        let accepted = self.accept(to, link, parcel, now);
        self.counters.parcels_refused += u64::from(accepted.is_err());
        accepted
    }

    fn accept(&mut self, to: Life, link: LinkNumber, parcel: &[u8], now: Monotonic) -> Result<(), NotOpen> {
        if self.open(to) != Some(link) {
            return Err(NotOpen);
        }
        if parcel.len() > self.limits.parcel_bytes_max {
            self.reset(to, Reason::ParcelTooLong, now);
            return Err(NotOpen);
        }
        while self.store.held + Link::growth(parcel.len(), &self.limits) > self.limits.store_bytes_max {
            let holding = self.links.iter().filter(|(_, link)| link.held() > 0);
            let most = holding.max_by_key(|(_, link)| link.held()).map_or(to, |(life, _)| *life);
            self.reset(most, Reason::StoreFull, now);
            if self.open(to) != Some(link) {
                return Err(NotOpen);
            }
        }
        self.change(to, |link, limits| link.push(parcel, limits));
        Ok(())
    }

    /// The number under which the link to a life is open, if it is.
    pub fn open(&self, life: Life) -> Option<LinkNumber> {
        self.links.get(&life)?.open()
    }

    /// Resets the link to a peer. Both sides' shards are told.
    pub fn reset(&mut self, life: Life, reason: Reason, now: Monotonic) {
        self.number = LinkNumber(self.number.0 + 1);
        self.counters.resets += 1;
        let number = self.number;
        self.change(life, |link, _| link.reset(number, reason, now));
    }

    /// Takes in a packet of the bus.
    pub fn receive(&mut self, packet: Packet, now: Monotonic) {
        let from = packet.from;
        // The next number must exist.
        let is_for_us = packet.to == self.own && packet.link.0 < u32::MAX;
        let Some(before) = self.links.get(&from).filter(|_| is_for_us) else {
            self.counters.refused += 1;
            return;
        };
        let opened_before = before.open();
        let number = packet.link;
        let room = self.limits.inbox_bytes_max.saturating_sub(self.store.inbox);
        let taken = self.change(from, |link, _| link.receive(packet, room, now));
        let counters = &mut self.counters;
        match taken {
            Some(Taken::Heard) => {}
            Some(Taken::Frame(Arrival::InOrder)) => counters.frames_received += 1,
            Some(Taken::Frame(Arrival::Duplicate)) => counters.duplicates += 1,
            Some(Taken::Frame(Arrival::Gap)) => counters.gaps += 1,
            Some(Taken::Frame(Arrival::NoRoom)) => counters.no_room += 1,
            Some(Taken::Stale) => counters.stale += 1,
            Some(Taken::Impossible) | None => counters.refused += 1,
        }
        if taken != Some(Taken::Stale) {
            self.number = self.number.max(number);
            counters.resets_by_peers += u64::from(opened_before.is_some_and(|before| before < number));
        }
    }

    /// Peers whose links may have events.
    pub fn readable(&self) -> impl Iterator<Item = Life> {
        self.links.iter().filter(|(_, link)| link.has_events()).map(|(life, _)| *life)
    }

    /// The next event of a peer's link. What is taken is acknowledged.
    pub fn take(&mut self, from: Life, now: Monotonic) -> Option<Event> {
        let event = loop {
            match self.change(from, |link, limits| link.take(limits, now))? {
                Ok(None) if self.store.unfinished > self.limits.unfinished_bytes_max => {
                    self.reset(from, Reason::UnfinishedFull, now);
                }
                Ok(event) => break event,
                Err(reason) => self.reset(from, reason, now),
            }
        };
        if self.links.get(&from).is_some_and(Link::is_over) {
            self.links.remove(&from);
        }
        event
    }

    /// Lets time pass.
    pub fn tick(&mut self, now: Monotonic) {
        if self.connected {
            self.links.values_mut().for_each(|link| link.tick(now));
        }
    }

    /// When `tick` and `transmit` have something to do next because time passes; `None`: not before something happens.
    pub fn timeout(&self) -> Option<Monotonic> {
        self.links.values().filter(|_| self.connected).filter_map(Link::timeout).min()
    }

    /// The next packet for the bus. Peers take turns.
    pub fn transmit(&mut self, now: Monotonic) -> Option<Packet> {
        if !self.connected {
            return None;
        }
        let (before, behind) = (..=self.turn, (std::ops::Bound::Excluded(self.turn), std::ops::Bound::Unbounded));
        let lives = self.links.range(behind).chain(self.links.range(before)).map(|(life, _)| *life);
        let (to, (outgoing, again)) = lives
            .collect::<Vec<_>>()
            .into_iter()
            .find_map(|life| Some((life, self.change(life, |link, limits| link.transmit(limits, now))??)))?;
        self.turn = to;
        match &outgoing.content {
            Content::Frame { payload, .. } => {
                self.counters.frames_sent += 1;
                self.counters.frames_resent += u64::from(again);
                self.counters.frame_bytes_sent += payload.bytes().len() as u64;
            }
            Content::Probe { .. } => self.counters.probes_sent += 1,
            _ => {}
        }
        let (link, acknowledged, received) = (outgoing.link, outgoing.acknowledged, outgoing.received);
        Some(Packet { from: self.own, to, link, acknowledged, received, content: outgoing.content })
    }

    /// Whether senders must wait: too much waits for a peer that makes progress. A peer that has stopped holds no sender back,
    /// nor does a bus that is away: what waits for them fills the store.
    pub fn is_full(&self, now: Monotonic) -> bool {
        self.connected && self.links.values().any(|link| link.is_full(&self.limits, now))
    }

    /// The bytes that are held for all peers.
    pub fn held(&self) -> usize {
        self.store.held
    }

    /// What was counted since the start.
    pub fn counters(&self) -> Counters {
        self.counters
    }

    /// Changes a link and the sums over all links with it.
    fn change<T>(&mut self, life: Life, change: impl FnOnce(&mut Link, &Limits) -> T) -> Option<T> {
        let link = self.links.get_mut(&life)?;
        let (held, (inbox, unfinished)) = (link.held(), link.arrived());
        let result = change(link, &self.limits);
        self.store.held = self.store.held + link.held() - held;
        let arrived = link.arrived();
        self.store.inbox = self.store.inbox + arrived.0 - inbox;
        self.store.unfinished = self.store.unfinished + arrived.1 - unfinished;
        Some(result)
    }

    /// What is held, what has arrived and what is unfinished: as it is counted, and as it must be.
    #[cfg(test)]
    fn measured(&self) -> [[usize; 3]; 2] {
        let mut measured = [0; 3];
        for (held, (inbox, unfinished)) in self.links.values().map(Link::measured) {
            measured = [measured[0] + held, measured[1] + inbox, measured[2] + unfinished];
        }
        [[self.store.held, self.store.inbox, self.store.unfinished], measured]
    }
}

#[cfg(test)]
mod tests;
