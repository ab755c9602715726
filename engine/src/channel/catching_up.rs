//! The owner's answer to a home that has missed a batch: where the channel stands now, and what was missed of it.
//!
//! Only stored messages can be told again. They come from the newest messages in memory (`recent.rs`), which the store
//! is asked for first if they are not loaded. All presences are told again in one event.

use std::sync::Arc;

use super::{Channel, History, Requester, Submitted, Work};
use crate::channel::presence::PresenceList;
use crate::command::Event;
use crate::id::{ConnectionId, Monotonic, ShardId};
use crate::limits::RECENT_MAX;
use crate::outbox::{Outbox, Purpose};
use crate::parcel::{BatchNumber, CaughtUp, Reached, Recovered};
use crate::persist::StoreQuestion;
use crate::query::Version;

/// A home that waits for the answer.
pub struct Behind {
    pub home: ShardId,
    /// How far the home has come; `None` if it has no subscribers.
    pub reached: Option<Reached>,
    /// It has handed over its members.
    pub entered: bool,
}

impl Channel {
    /// A home has missed a batch. It is answered at the end of a turn, when the newest messages are loaded. If they must
    /// be loaded first, they are kept as version `unused`.
    pub fn catch_up(
        &mut self,
        home: ShardId,
        reached: Option<Reached>,
        unused: Version,
        now: Monotonic,
        outbox: &mut Outbox,
    ) {
        if reached.is_none() {
            self.has_home(home, now);
        }
        self.wait_for_answer(Behind { home, reached, entered: false }, unused, outbox);
    }

    pub(super) fn wait_for_answer(&mut self, behind: Behind, unused: Version, outbox: &mut Outbox) {
        let reached = behind.reached;
        self.behind.retain(|known| known.home != behind.home);
        self.behind.push(behind);
        let Some(reached) = reached else { return };
        // What an owner before this one has stored last is known only to the store.
        let is_missing = reached.epoch != self.epoch || reached.last < self.announcements.last;
        if is_missing && !self.reaches(reached) && self.recent.begin_again(unused) {
            let question = StoreQuestion::Newest { channel: self.id.clone(), limit: RECENT_MAX };
            self.ask_store(Purpose::Newest(unused), question, outbox);
        }
    }

    /// Whether all stored messages behind this place are in memory.
    fn reaches(&self, place: Reached) -> bool {
        if place.epoch == self.epoch { self.recent.reaches(place.last) } else { self.recent.reaches_id(place.stored) }
    }

    /// Answers the homes that wait, unless the store still reads. `batch` is the last batch number that the owner gave
    /// out. An answer describes the channel behind the turn's batches, so it is made after them.
    pub fn caught_up(&mut self, batch: BatchNumber, now: Monotonic) -> Vec<(ShardId, CaughtUp)> {
        assert!(self.announcements.are_sent(), "the turn's batches come before the answers");
        // A home that enters counts on from the end of the history.
        let waits = self.recent.is_asked() || matches!(self.history, History::Asked) || self.waits_for_history();
        if self.behind.is_empty() || waits {
            return Vec::new();
        }
        let behind = std::mem::take(&mut self.behind);
        behind.iter().filter(|behind| behind.entered).for_each(|behind| self.has_home(behind.home, now));
        behind.into_iter().map(|behind| (behind.home, self.answer_of(behind, batch))).collect()
    }

    fn answer_of(&mut self, behind: Behind, batch: BatchNumber) -> CaughtUp {
        let Behind { home, reached: from, entered } = behind;
        if entered && self.members.homes().any(|with_members| with_members == home) {
            self.announcements.begin(home, batch);
        }
        let reached = self.announcements.reached(home, self.epoch, batch);
        let members = self.members.addresses().filter(|address| address.home == home);
        let members: Vec<ConnectionId> = members.map(|address| address.connection).collect();
        let recovered = match from {
            Some(from) if !members.is_empty() && from.place() != reached.place() => self.recover(from, reached),
            _ => Recovered::Frames(Arc::default()),
        };
        let unanswered = self.unanswered_of(home);
        CaughtUp { channel: self.id.clone(), from, reached, recovered, members, unanswered, entered }
    }

    /// Encodes the stored messages between two places, and all presences.
    fn recover(&mut self, from: Reached, to: Reached) -> Recovered {
        if from.epoch != to.epoch {
            return self.recover_stored(from, to);
        }
        let leaves = self.departures.since(from.batch);
        let after = from.last;
        let (Some(leaves), true) = (leaves, after >= to.last || self.recent.reaches(after)) else {
            return Recovered::TooMuch;
        };
        let leaves = leaves.filter(|presence| !self.members.is_known(presence.session)).cloned().collect();
        let mut frames = self.announcements.frames();
        for message in self.recent.between(after, to.last) {
            frames.push(&Event::Message(message.clone()), self.members.formats());
        }
        let PresenceList { presences, count } = self.presence_changes.list(&self.members);
        let event = Event::Presence { channel: self.id.clone(), joins: presences.to_vec(), leaves, count };
        frames.push(&event, self.members.formats());
        Recovered::Frames(Arc::new(frames))
    }

    /// Tells the messages that were stored between a place with an owner before this one and a place with this one. Who is
    /// known is told when all homes have entered.
    fn recover_stored(&mut self, from: Reached, to: Reached) -> Recovered {
        if !self.recent.reaches_id(from.stored) {
            return Recovered::TooMuch;
        }
        let mut frames = self.announcements.frames();
        for message in self.recent.between_ids(from.stored, to.stored) {
            frames.push(&Event::Message(message.clone()), self.members.formats());
        }
        Recovered::Frames(Arc::new(frames))
    }

    /// The requests of a home's connections that are not answered yet.
    fn unanswered_of(&self, home: ShardId) -> Vec<(ConnectionId, u32)> {
        let accepted = self.pending.works().filter_map(Work::requester);
        let waiting = self.waiting.iter().filter_map(Submitted::requester);
        let of_home = accepted.chain(waiting).filter(|requester| requester.address.home == home);
        of_home.map(|Requester { address, number }| (address.connection, number)).collect()
    }
}
