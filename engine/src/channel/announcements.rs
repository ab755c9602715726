//! What a channel's owner has to say in one turn: events for everybody, answers for single connections, in one order.
//!
//! Events that follow each other are encoded end to end into one run of frames, shared by all shards. A run ends where
//! somebody comes or goes, because that is where the set of its readers changes; answers wait for the end of the run, so
//! that each follows the frames that came before it.

use std::sync::Arc;

use crate::channel::members::{Address, Members};
use crate::command::{Event, Reply};
use crate::fanout::frames::Frames;
use crate::id::{ChannelId, Epoch, Sequence, ShardId};
use crate::parcel::{Batch, Item};

/// The announcements of one turn.
#[derive(Default)]
pub struct Announcements {
    /// The newest message announced, and the newest before this turn.
    pub last: Sequence,
    previous: Sequence,
    /// Messages announced that nobody has counted yet.
    pub published: u64,
    run: Frames,
    answers: Vec<(ShardId, Item)>,
    homes: Vec<(ShardId, Vec<Item>)>,
}

impl Announcements {
    /// For every member there is now: the run ends before any other comes, so their formats are all that is needed.
    pub fn announce(&mut self, event: &Event, members: &Members) {
        self.published += u64::from(matches!(event, Event::Message(_)));
        self.run.push(event, members.formats());
    }

    /// For one connection, after all that was announced so far.
    pub fn answer(&mut self, to: Address, number: u32, reply: Reply) {
        self.answers.push((to.home, Item::Answer { connection: to.connection, number, reply }));
    }

    /// For one connection, before all that is announced from here on: it says what is true now, and may not be then.
    pub fn answer_here(&mut self, members: &Members, to: Address, number: u32, reply: Reply) {
        self.seal(members);
        self.put(to.home, Item::Answer { connection: to.connection, number, reply });
    }

    /// The connection hears all that is announced from here on; `members` are those before it.
    pub fn joined(&mut self, members: &Members, to: Address, number: u32, reply: Reply) {
        self.seal(members);
        self.put(to.home, Item::Joined { connection: to.connection, number, reply });
    }

    /// The connection hears nothing from here on. The caller has sealed the run it was part of.
    pub fn left(&mut self, to: Address, number: u32) {
        self.put(to.home, Item::Left { connection: to.connection, number });
    }

    /// The same, without having asked for it.
    pub fn evicted(&mut self, to: Address) {
        self.put(to.home, Item::Evicted { connection: to.connection });
    }

    /// Ends the run: what was announced goes to the members there are now.
    pub fn seal(&mut self, members: &Members) {
        if !self.run.is_empty() {
            let frames = Arc::new(std::mem::take(&mut self.run));
            for home in members.homes() {
                self.put(home, Item::Frames(frames.clone()));
            }
        }
        for (home, item) in std::mem::take(&mut self.answers) {
            self.put(home, item);
        }
    }

    fn put(&mut self, home: ShardId, item: Item) {
        match self.homes.iter_mut().find(|(known, _)| *known == home) {
            Some((_, items)) => items.push(item),
            None => self.homes.push((home, vec![item])),
        }
    }

    /// Ends the turn: one batch for each shard that is concerned.
    pub fn batches(&mut self, channel: &ChannelId, epoch: Epoch, members: &Members) -> Vec<(ShardId, Batch)> {
        self.seal(members);
        let (previous, last) = (self.previous, self.last);
        self.previous = last;
        std::mem::take(&mut self.homes)
            .into_iter()
            .map(|(home, items)| (home, Batch { channel: channel.clone(), epoch, previous, last, items }))
            .collect()
    }
}
