//! The owner's answer to a home that has missed a batch: where the channel stands now, and what was missed of it.
//!
//! Only stored messages can be told again. They come from the newest messages in memory (`recent.rs`), which the store
//! is asked for first if they are not loaded. All presences are told again in one event.

use std::sync::Arc;

use super::{Channel, Requester, Submitted, Work};
use crate::channel::presence::PresenceList;
use crate::command::Event;
use crate::fanout::frames::Frames;
use crate::id::{ConnectionId, ShardId};
use crate::limits::RECENT_MAX;
use crate::outbox::{Outbox, Purpose};
use crate::parcel::{BatchNumber, CaughtUp, Reached, Recovered};
use crate::persist::StoreQuestion;
use crate::query::Version;

/// A home that waits for the answer.
pub struct Behind {
    home: ShardId,
    /// How far the home has come; `None` if it has no subscribers.
    reached: Option<Reached>,
}

impl Channel {
    /// A home has missed a batch. It is answered at the end of a turn, when the newest messages are loaded. If they must
    /// be loaded first, they are kept as version `unused`.
    pub fn catch_up(&mut self, home: ShardId, reached: Option<Reached>, unused: Version, outbox: &mut Outbox) {
        self.behind.retain(|behind| behind.home != home);
        self.behind.push(Behind { home, reached });
        let Some(after) = reached.map(|reached| reached.last) else { return };
        if after < self.announcements.last && !self.recent.reaches(after) && self.recent.begin_again(unused) {
            let question = StoreQuestion::Newest { channel: self.id.clone(), limit: RECENT_MAX };
            self.ask_store(Purpose::Newest(unused), question, outbox);
        }
    }

    /// Answers the homes that wait, unless the store still reads. `batch` is the last batch number that the owner gave
    /// out. An answer describes the channel behind the turn's batches, so it is made after them.
    pub fn caught_up(&mut self, batch: BatchNumber) -> Vec<(ShardId, CaughtUp)> {
        assert!(self.announcements.are_sent(), "the turn's batches come before the answers");
        if self.behind.is_empty() || self.recent.is_asked() {
            return Vec::new();
        }
        let behind = std::mem::take(&mut self.behind);
        behind.into_iter().map(|Behind { home, reached }| (home, self.answer_of(home, reached, batch))).collect()
    }

    fn answer_of(&mut self, home: ShardId, from: Option<Reached>, batch: BatchNumber) -> CaughtUp {
        let reached = self.announcements.reached(home, self.epoch, batch);
        let members = self.members.addresses().filter(|address| address.home == home);
        let members: Vec<ConnectionId> = members.map(|address| address.connection).collect();
        let recovered = match from {
            Some(from) if !members.is_empty() && from.place() != reached.place() => self.recover(from, reached),
            _ => Recovered::Frames(Arc::default()),
        };
        let unanswered = self.unanswered_of(home);
        CaughtUp { channel: self.id.clone(), from, reached, recovered, members, unanswered }
    }

    /// Encodes the stored messages between two places, and all presences.
    fn recover(&mut self, from: Reached, to: Reached) -> Recovered {
        let leaves = self.departures.since(from.batch).filter(|_| from.epoch == to.epoch);
        let after = from.last;
        let (Some(leaves), true) = (leaves, after >= to.last || self.recent.reaches(after)) else {
            return Recovered::TooMuch;
        };
        let leaves = leaves.filter(|presence| !self.members.is_known(presence.session)).cloned().collect();
        let mut frames = Frames::default();
        for message in self.recent.between(after, to.last) {
            frames.push(&Event::Message(message.clone()), self.members.formats());
        }
        let PresenceList { presences, count } = self.presence_changes.list(&self.members);
        let event = Event::Presence { channel: self.id.clone(), joins: presences.to_vec(), leaves, count };
        frames.push(&event, self.members.formats());
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
