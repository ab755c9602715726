//! What a channel's owner announces in one turn: events for all members and answers for single connections, in one
//! order.
//!
//! Consecutive events are encoded end to end into one run of frames, which all shards share. A run ends where a member
//! joins or leaves, because the set of its readers changes there. Answers wait for the end of the run, so that each
//! answer follows the frames that came before it.

use std::sync::Arc;

use crate::channel::members::{Address, Members};
use crate::command::{Event, Reply};
use crate::fanout::frames::Frames;
use crate::id::{ChannelId, Epoch, MessageId, Sequence, ShardId};
use crate::parcel::{Batch, BatchNumber, Item, Reached};

/// The announcements of one turn.
#[derive(Default)]
pub struct Announcements {
    /// The newest message announced, and the newest of those that are stored.
    pub last: Sequence,
    pub stored: Option<MessageId>,
    /// Messages announced since the channel was made.
    told: u64,
    /// Messages announced since the owner last took this number for its counters.
    pub published: u64,
    run: Frames,
    /// Whether homes may be on other nodes, so that events are kept for them.
    keeps_events: bool,
    answers: Vec<(ShardId, Item)>,
    homes: Vec<(ShardId, Vec<Item>)>,
    /// The last batch to each shard that is the home of members.
    sent: Vec<(ShardId, BatchNumber)>,
}

impl Announcements {
    /// Without announcements yet. `keeps_events`: homes may be on other nodes.
    pub fn new(keeps_events: bool) -> Self {
        Self { run: Frames::keeping(keeps_events), keeps_events, ..Self::default() }
    }

    /// Announces an event to all current members. The run ends before another member joins, so the event is encoded in
    /// the formats of the current members only.
    pub fn announce(&mut self, event: &Event, members: &Members) {
        let messages = u64::from(matches!(event, Event::Message(_)));
        self.published += messages;
        self.told += messages;
        self.run.push(event, members.formats());
    }

    /// Answers one connection. The answer follows all that was announced so far.
    pub fn answer(&mut self, to: Address, number: u32, reply: Reply) {
        self.answers.push((to.home, Item::Answer { connection: to.connection, number, reply }));
    }

    /// Answers one connection before anything else is announced: the answer describes the present state, which later
    /// events may change.
    pub fn answer_here(&mut self, members: &Members, to: Address, number: u32, reply: Reply) {
        self.seal(members);
        self.put(to.home, Item::Answer { connection: to.connection, number, reply });
    }

    /// The connection receives all that is announced from here on. `members` are the members without it.
    pub fn joined(&mut self, members: &Members, to: Address, number: u32, reply: Reply) {
        self.seal(members);
        self.put(to.home, Item::Joined { connection: to.connection, number, reply });
    }

    /// Tells one member of an event that the others are told of later. The member gets it after all that is put so far.
    pub fn tell(&mut self, to: Address, event: Event) {
        self.put(to.home, Item::Event { connection: to.connection, event });
    }

    /// The connection receives nothing from here on. It is no member any more, and the run that it was a reader of ended
    /// when it was taken out of the members.
    pub fn left(&mut self, to: Address, number: u32) {
        self.put(to.home, Item::Left { connection: to.connection, number });
    }

    /// Like `left`, but the connection did not ask to leave, so there is no request to answer.
    pub fn evicted(&mut self, to: Address) {
        self.put(to.home, Item::Evicted { connection: to.connection });
    }

    /// Tells all homes of members something that each of them tells its members in its own way.
    pub fn tell_homes(&mut self, members: &Members, item: &Item) {
        self.seal(members);
        for home in members.homes() {
            self.put(home, item.clone());
        }
    }

    /// Frames for homes, without an event yet.
    pub fn frames(&self) -> Frames {
        Frames::keeping(self.keeps_events)
    }

    /// The home receives batches from here on. The one before the next is `batch`, unless it was sent one already.
    pub fn begin(&mut self, home: ShardId, batch: BatchNumber) {
        if self.sent.iter().all(|(known, _)| *known != home) {
            self.sent.push((home, batch));
        }
    }

    /// Ends the run: its frames go to the current members, and the waiting answers follow.
    pub fn seal(&mut self, members: &Members) {
        if !self.run.is_empty() {
            let frames = Arc::new(std::mem::replace(&mut self.run, Frames::keeping(self.keeps_events)));
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

    /// Ends the turn: returns one batch for each shard that has something to receive. `number` is the last batch number
    /// that the owner gave out, and each batch takes the next one.
    pub fn batches(
        &mut self,
        channel: &ChannelId,
        epoch: Epoch,
        members: &Members,
        number: &mut BatchNumber,
    ) -> Vec<(ShardId, Batch)> {
        self.seal(members);
        let mut batches = Vec::with_capacity(self.homes.len());
        for (home, items) in std::mem::take(&mut self.homes) {
            *number = number.next();
            let reached = Reached { epoch, batch: *number, last: self.last, told: self.told, stored: self.stored };
            let previous = self.send(home, *number);
            batches.push((home, Batch { channel: channel.clone(), previous, reached, items }));
        }
        // Each home of members was sent a batch when the first of them joined, so equal lengths mean equal lists.
        if self.sent.len() != members.homes().count() {
            self.sent.retain(|(home, _)| members.homes().any(|with_members| with_members == *home));
        }
        batches
    }

    /// How far the batches to a shard have come. `batch` is the last batch number that the owner gave out: it stands for
    /// the batches to a shard that is the home of no member.
    pub fn reached(&self, home: ShardId, epoch: Epoch, batch: BatchNumber) -> Reached {
        let sent = self.sent.iter().find(|(known, _)| *known == home);
        let batch = sent.map_or(batch, |(_, last)| *last);
        Reached { epoch, batch, last: self.last, told: self.told, stored: self.stored }
    }

    /// Whether everything that was announced is in batches that were returned.
    pub fn are_sent(&self) -> bool {
        self.run.is_empty() && self.answers.is_empty() && self.homes.is_empty()
    }

    /// Notes the newest batch to a shard. Returns the one before it.
    fn send(&mut self, home: ShardId, number: BatchNumber) -> Option<BatchNumber> {
        match self.sent.iter_mut().find(|(known, _)| *known == home) {
            Some((_, last)) => {
                debug_assert!(*last < number, "batch numbers rise");
                Some(std::mem::replace(last, number))
            }
            None => {
                self.sent.push((home, number));
                None
            }
        }
    }
}
