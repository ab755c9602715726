//! The link between this life and one other life: what either hands the other arrives in order, once and without a hole,
//! or both are told that the link was reset. Pure: the time is an argument.
//!
//! Frames are numbered and acknowledged. A peer that makes no progress for a second is asked by a probe, and so is
//! every peer after the bus was away; its answer says what must be sent again. A receiver that sees a gap says so at once.
//!
//! A link that is reset gets a higher number. Packets of lower numbers are ignored, so what was under way before is never
//! taken for something new. A life that sees a higher number adopts it. Nothing is sent under a number before the peer
//! was heard under it, and nothing is accepted for sending: what would wait for a peer that may be gone.

mod receiving;
mod sending;

use std::collections::VecDeque;

use bytes::Bytes;
use engine::id::Monotonic;

use crate::limits::{Limits, REOPEN_INTERVAL};
use crate::packet::{Content, FrameNumber, LinkNumber, Packet};
use receiving::Receiving;
use sending::Sending;

pub use receiving::Arrival;

/// What a link tells its shards, in this order among the parcels.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Event {
    /// From here on parcels go to the peer and come from it, under this number.
    Opened(LinkNumber),
    Parcel(Bytes),
    /// What was sent under this number and has not been answered may be lost, and nothing else comes under it. Each opened
    /// number is reset at most once.
    Reset(LinkNumber, Reason),
}

/// Why a link was reset.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Reason {
    /// The store was full, and this link held most of it.
    StoreFull,
    /// A parcel to the peer, or from it, is longer than any parcel may be.
    ParcelTooLong,
    /// Too much is held of parcels of which pieces are missing.
    UnfinishedFull,
    /// A parcel could not be read.
    Unreadable,
    /// The peer has reset the link.
    Peer,
    /// The peer's life is over.
    Gone,
}

/// What became of a packet.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Taken {
    Heard,
    Frame(Arrival),
    /// It is of a time before the link was reset.
    Stale,
    /// It speaks of frames that were never sent.
    Impossible,
}

/// A packet without its two lives.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Outgoing {
    pub link: LinkNumber,
    pub acknowledged: FrameNumber,
    pub received: FrameNumber,
    pub content: Content,
}

/// The link to one other life, at this life.
#[derive(Debug)]
pub struct Link {
    number: LinkNumber,
    /// Whether the peer was heard under this number.
    open: bool,
    /// When the link was opened last.
    opened: Option<Monotonic>,
    sending: Sending,
    receiving: Receiving,
    /// The number under which the shards were told that the link is open.
    told_open: Option<LinkNumber>,
    /// What the shards must be told before the next parcel: a reset, an opening, or both.
    news: VecDeque<Event>,
    gone: bool,
}

impl Link {
    /// A link that asks for its peer.
    pub fn new(number: LinkNumber, now: Monotonic) -> Self {
        Self {
            number,
            open: false,
            opened: None,
            sending: Sending::new(0, now),
            receiving: Receiving::default(),
            told_open: None,
            news: VecDeque::new(),
            gone: false,
        }
    }

    /// Begins anew under a higher number. What was held is gone. A link that was opened a moment ago waits until its peer is
    /// asked: whatever makes both sides reset it again and again, they do so once in `REOPEN_INTERVAL`.
    pub fn reset(&mut self, number: LinkNumber, reason: Reason, now: Monotonic) {
        debug_assert!(number > self.number, "link numbers rise");
        self.end(reason);
        self.number = number;
        let due = self.opened.map_or(now, |opened| now.max(opened.plus(REOPEN_INTERVAL)));
        self.sending = Sending::new(self.sending.probes(), due);
        self.receiving = Receiving::default();
    }

    /// The peer's life is over: all that is left is to tell the shards.
    pub fn leave(&mut self, now: Monotonic) {
        self.end(Reason::Gone);
        self.gone = true;
        self.sending = Sending::new(self.sending.probes(), now);
        self.receiving = Receiving::default();
    }

    /// The life is a peer again after all.
    pub fn come_back(&mut self, number: LinkNumber, now: Monotonic) {
        self.gone = false;
        self.reset(number, Reason::Gone, now);
    }

    fn end(&mut self, reason: Reason) {
        // An opening that the shards were not told of never happened for them, and a reset stays the first one.
        self.news.retain(|event| !matches!(event, Event::Opened(_)));
        if let Some(number) = self.told_open.take() {
            self.news.push_back(Event::Reset(number, reason));
        }
        self.open = false;
    }

    fn open_at(&mut self, now: Monotonic) {
        self.open = true;
        self.opened = Some(now);
        self.sending.begin();
        self.news.push_back(Event::Opened(self.number));
    }

    /// The number under which the link is open, if it is.
    pub fn open(&self) -> Option<LinkNumber> {
        self.open.then_some(self.number)
    }

    /// Whether the peer's life is over.
    pub fn is_gone(&self) -> bool {
        self.gone
    }

    /// Whether the peer's life is over and the shards were told.
    pub fn is_over(&self) -> bool {
        self.gone && self.news.is_empty()
    }

    /// Puts a parcel behind those that are held.
    pub fn push(&mut self, parcel: &[u8], limits: &Limits) {
        debug_assert!(self.open, "nothing waits for a peer that may be gone");
        self.sending.push(parcel, limits);
    }

    /// A packet of the peer. `room` is how many bytes of parcels may be kept.
    pub fn receive(&mut self, packet: Packet, room: usize, now: Monotonic) -> Taken {
        if self.gone || packet.link < self.number {
            return Taken::Stale;
        }
        if packet.link > self.number {
            self.reset(packet.link, Reason::Peer, now);
        }
        if !self.open {
            self.open_at(now);
        }
        if !self.sending.acknowledged(packet.acknowledged, packet.received, now) {
            return Taken::Impossible;
        }
        match packet.content {
            Content::Frame { number, payload } => {
                return Taken::Frame(self.receiving.frame(number, payload, room, now));
            }
            Content::Acknowledgement => {}
            Content::Probe { number } => self.receiving.probed(number),
            Content::Answer { probe } => self.sending.answered(probe, now),
            Content::Missing => self.sending.missing(packet.received),
        }
        Taken::Heard
    }

    /// The next event for the shards. Fails if the peer's parcel is longer than any parcel may be.
    pub fn take(&mut self, limits: &Limits, now: Monotonic) -> Result<Option<Event>, Reason> {
        if let Some(event) = self.news.pop_front() {
            if let Event::Opened(number) = event {
                self.told_open = Some(number);
            }
            return Ok(Some(event));
        }
        let parcel = self.receiving.take(now, limits).map_err(|_| Reason::ParcelTooLong)?;
        Ok(parcel.map(Event::Parcel))
    }

    /// Whether the shards may have something to take.
    pub fn has_events(&self) -> bool {
        !self.news.is_empty() || self.receiving.has_frames()
    }

    /// The bus may have been away: what is held is doubted.
    pub fn doubt(&mut self, now: Monotonic) {
        self.sending.doubt(now);
    }

    /// Lets time pass.
    pub fn tick(&mut self, now: Monotonic) {
        self.sending.tick(now);
    }

    /// When `tick` or `transmit` has something to do next because time passes.
    pub fn timeout(&self) -> Option<Monotonic> {
        let timeouts = [self.sending.timeout(), self.receiving.timeout()];
        timeouts.into_iter().flatten().min().filter(|_| !self.gone)
    }

    /// What to send to the peer next, and whether it is a frame that was sent before.
    pub fn transmit(&mut self, limits: &Limits, now: Monotonic) -> Option<(Outgoing, bool)> {
        if self.gone {
            return None;
        }
        let urgent = self.receiving.urgent().map(|content| (content, false));
        let next = urgent.or_else(|| self.sending.next(now, limits));
        let (content, again) = next.or_else(|| self.receiving.acknowledgement(now).map(|content| (content, false)))?;
        let (acknowledged, received) = self.receiving.tell();
        Some((Outgoing { link: self.number, acknowledged, received, content }, again))
    }

    /// Whether too much waits for a peer that makes progress.
    pub fn is_full(&self, limits: &Limits, now: Monotonic) -> bool {
        self.sending.is_full(now, limits)
    }

    /// What is held for the peer, in bytes.
    pub fn held(&self) -> usize {
        self.sending.held()
    }

    /// The bytes that have arrived and were not taken, and those of a parcel of which pieces are missing.
    pub fn arrived(&self) -> (usize, usize) {
        (self.receiving.inbox(), self.receiving.unfinished())
    }

    /// The most by which a parcel of so many bytes can make `held` grow.
    pub fn growth(parcel_bytes: usize, limits: &Limits) -> usize {
        Sending::growth(parcel_bytes, limits)
    }

    /// What `held` and `arrived` must be, counted anew.
    #[cfg(test)]
    pub fn measured(&self) -> (usize, (usize, usize)) {
        (self.sending.measured(), (self.receiving.measured(), self.receiving.unfinished()))
    }
}
