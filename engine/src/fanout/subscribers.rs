//! This shard's subscribers, by channel. An audience is the subscribers of one channel in one format: a log and the
//! cursors that read it.
//!
//! A pass goes round the audience's members, one rotation after another. At each visit the member gets everything
//! between its cursor and the log's end at that moment in one write, so a visit also delivers what has arrived since
//! the rotation began. A member costs 16 bytes here. While messages keep coming, rotations are paced
//! (`ROTATION_INTERVAL`), so that each write carries more. The first message after a rest is sent at once.

mod audience;
mod told;

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::ops::Bound;

use slab::Slab;

pub(crate) use audience::Subscriber;
use audience::{Audience, AudienceLevels, Rotation};
use told::Told;

use crate::counters::FanoutCounters;
use crate::fanout::frames::{Format, Frames};
use crate::fanout::log::Position;
use crate::fanout::tail::{TailBytes, TailPiece};
use crate::id::{ChannelId, MessageId, Monotonic, Timestamp};
use crate::limits::{BACKLOG_BYTES_HIGH, BACKLOG_BYTES_LOW, PASS_BYTES_MAX, Rules};
use crate::message::Missed;
use crate::parcel::{Backlog, BatchNumber, Reached};
use crate::table::give_back;

/// The most members that `levels` looks at to find how far the slowest is behind: this takes about 50 µs. If the
/// audiences with parked members have more members than this, the result covers only a part of them.
const LEVELS_VISITS_MAX: usize = 32 * 1024;

/// The capacity that the queue of passes may keep when it is empty.
const LINE_KEPT: usize = 1024;

/// This part of a slice's visits is for audiences that are owed no message, if there are any.
const UNHURRIED_PART: usize = 4;

/// Where a pass writes to: a shard's sockets, or a simulation of them.
pub trait Outlet {
    /// Writes the pieces one after the other, as far as the connection takes them now. Returns how many bytes it took.
    /// If these are fewer than offered, the socket is full: `Shard::writable` must be called when it has room again.
    fn write(&mut self, slot: u32, pieces: &[&[u8]]) -> Result<usize, Gone>;

    /// The socket took all that it was offered, and the connection is owed more than one visit writes:
    /// `Shard::writable` must be called when the socket has room, which may be at once.
    fn wait(&mut self, slot: u32);
}

/// The connection is dead. `Input::Closed` will report its end.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Gone;

/// An audience of this shard. A key is used again after its audience has ended.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct AudienceKey(u32);

/// What a pass found out about connections. The caller acts on it.
#[derive(Default)]
pub struct PassReport {
    /// Slots that are owed more than their socket took, or more than one visit writes.
    pub blocked: Vec<(u32, AudienceKey)>,
    /// Slots that are too far behind.
    pub lagging: Vec<(u32, AudienceKey)>,
    /// Channels whose backlog on this shard has become too high, or low again.
    pub backlogs: Vec<(ChannelId, Backlog)>,
}

/// What one slice of the passes may still do. One audience seldom needs all of it, so that a slice serves many small
/// audiences.
pub struct Slice {
    now: Monotonic,
    visits: usize,
    /// These of the visits are for audiences that are owed no message.
    reserved: usize,
    bytes: usize,
}

/// All audiences of a shard.
#[derive(Default)]
pub struct Subscribers {
    /// Each audience has an allocation of its own, so that a table that grows moves no audiences.
    audiences: Slab<Box<Audience>>,
    channels: HashMap<ChannelId, Listening>,
    /// The number of members in all audiences, and how many of them are parked.
    members: usize,
    parked: usize,
    /// Audiences with at least one parked member.
    waiting: BTreeSet<AudienceKey>,
    /// The memory that all logs hold.
    log_bytes: u64,
    /// The memory of the parts of logs that members have taken with them.
    tail_bytes: TailBytes,
    /// The audience with parked members that was judged last, at rest or not.
    judged: Option<AudienceKey>,
    /// Backlogs that have become high or low because members left. They are not reported yet.
    turned: Vec<(ChannelId, Backlog)>,
    /// Audiences whose pass is under way and that are owed messages, served in turn, and those that are owed other events
    /// only. When a crowd leaves a thousand rooms at once, a message of another room does not wait for all this news.
    active: Queue,
    unhurried: Queue,
    /// The number of entries put into the two queues so far.
    entries: u64,
    /// Audiences whose next rotation must wait, and until when.
    paced: BTreeSet<(Monotonic, AudienceKey)>,
    /// The turn's wall-clock time. The duration of passes is measured with it.
    pub now: Timestamp,
    pub counters: FanoutCounters,
    /// The rotations that ended in the last slice: at most as many as it has visits.
    ended: Vec<Rotation>,
}

/// A queue of audiences. An entry whose number is not the audience's own any more is skipped when its turn comes: the
/// audience has ended, or it waits in the other queue.
type Queue = VecDeque<(AudienceKey, u64)>;

/// The current state of all audiences together.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct SubscriberLevels {
    pub subscriptions: usize,
    pub parked: usize,
    /// Bytes owed to the parked member that is furthest behind, among the first `LEVELS_VISITS_MAX` members of
    /// audiences with parked members.
    pub lag_bytes: u64,
    /// The memory that all logs hold.
    pub log_bytes: u64,
}

/// A channel with subscribers on this shard.
struct Listening {
    audiences: [Option<AudienceKey>; Format::COUNT],
    /// How far the owner's batches have been taken in here.
    reached: Reached,
    backlog: Backlog,
    /// What the subscribers were told of each other, if the channel may get another owner.
    told: Option<Box<Told>>,
}

/// How a member skips a part of the log.
pub struct Skip {
    /// Where the gap begins.
    pub border: Position,
    /// The rest of the frame before the gap, if the member has received a part of that frame.
    pub rest: Vec<u8>,
    pub missed: Missed,
}

/// Members whose index changed because another member was removed: (slot, new index).
pub type Moved = [Option<(u32, u32)>; 2];

impl Subscribers {
    /// Makes a connection a subscriber from now on. If it is the channel's first here, `reached` is the batch that it
    /// joins with. Returns its audience and its index there.
    pub fn subscribe(
        &mut self,
        channel: &ChannelId,
        format: Format,
        slot: u32,
        reached: Reached,
    ) -> (AudienceKey, u32) {
        let listening = self.channels.entry(channel.clone()).or_insert_with(|| Listening {
            audiences: [None; Format::COUNT],
            reached,
            backlog: Backlog::Low,
            told: None,
        });
        let key = *listening.audiences[format as usize]
            .get_or_insert_with(|| AudienceKey(self.audiences.insert(Box::new(Audience::of(channel.clone()))) as u32));
        self.members += 1;
        (key, self.audiences[key.0 as usize].push(slot))
    }

    /// Ends a membership. Returns the members whose index has changed.
    pub fn unsubscribe(&mut self, key: AudienceKey, index: u32) -> Moved {
        let audience = &mut self.audiences[key.0 as usize];
        let before = audience.levels();
        let moved = audience.remove(index as usize);
        self.members -= 1;
        self.sum_up(key, before);
        if self.audiences[key.0 as usize].members.is_empty() {
            let audience = self.audiences.remove(key.0 as usize);
            self.log_bytes -= audience.log.bytes_held();
            self.paced.remove(&(audience.next_rotation(), key));
            if let Some(listening) = self.channels.get_mut(&audience.channel) {
                listening.audiences.iter_mut().filter(|slot| **slot == Some(key)).for_each(|slot| *slot = None);
                if listening.audiences.iter().all(Option::is_none) {
                    // A later subscriber begins with a low backlog, and would never report that it is low again.
                    if listening.backlog == Backlog::High {
                        self.turned.push((audience.channel.clone(), Backlog::Low));
                    }
                    self.channels.remove(&audience.channel);
                    give_back(&mut self.channels);
                } else if let Some(backlog) = self.backlog(&audience.channel) {
                    self.turned.push((audience.channel.clone(), backlog));
                }
            }
        }
        moved
    }

    /// Backlogs that have turned because members left, since the last call.
    pub fn take_turned_backlogs(&mut self) -> Vec<(ChannelId, Backlog)> {
        std::mem::take(&mut self.turned)
    }

    /// If the logs hold more than half of what they may, looks at the parked members of one audience, whether or not it
    /// has anything to deliver: reports those that are too far behind, and forgets what no member needs. The audiences
    /// take turns from call to call.
    pub fn judge_parked(&mut self, rules: &Rules, report: &mut PassReport) {
        if self.log_bytes() <= rules.logs_bytes_max / 2 {
            return;
        }
        let after = self.judged.map_or(Bound::Unbounded, Bound::Excluded);
        let next = self.waiting.range((after, Bound::Unbounded)).next().or(self.waiting.first()).copied();
        self.judged = next;
        let (Some(key), allowed) = (next, self.lag_allowed(rules)) else { return };
        let audience = &mut self.audiences[key.0 as usize];
        let before = audience.levels();
        let end = audience.log.end();
        let parked = || audience.members.iter().filter(|member| member.parked);
        let far = parked().filter(|member| end.0 - member.cursor.0 > allowed);
        report.lagging.extend(far.map(|member| (member.slot, key)));
        if audience.owed == 0 {
            let slowest = parked().map(|member| member.cursor).min().unwrap_or(end);
            audience.log.trim(slowest);
            audience.tally.trim(slowest);
        }
        self.sum_up(key, before);
    }

    /// Appends frames to the channel's logs, and starts their passes.
    pub fn append(&mut self, channel: &ChannelId, frames: &Frames) {
        let Some(listening) = self.channels.get_mut(channel) else { return };
        let news = listening.told.as_mut().and_then(|told| told.hear(frames.events()));
        let news = news.map(|events| Frames::of_events(&events));
        if news.as_ref().is_some_and(Frames::is_empty) {
            return;
        }
        let frames = news.as_ref().unwrap_or(frames);
        let audiences = listening.audiences;
        // Frames of another node are encoded here, once for each format in which anything listens.
        let listened = Format::ALL.into_iter().filter(|&format| audiences[format as usize].is_some());
        let encoded = frames.awaits_encoding().then(|| frames.encoded(listened));
        let frames = encoded.as_ref().unwrap_or(frames);
        for format in Format::ALL {
            let Some(key) = audiences[format as usize] else { continue };
            let audience = &mut self.audiences[key.0 as usize];
            let before = audience.levels();
            let (rested, was_urgent) = (audience.owed == 0, audience.urgent);
            audience.append(frames.of(format), frames.messages(), frames.accepted());
            let becomes_urgent =
                audience.urgent && !was_urgent && !self.paced.contains(&(audience.next_rotation(), key));
            self.sum_up(key, before);
            if rested || becomes_urgent {
                self.put_in_line(key);
            }
        }
    }

    /// Decides whether a batch is the next one, and if so notes that it is taken in. `previous` and `reached` are those
    /// of the batch. A channel without subscribers here has no order to keep, so any batch is its next one.
    pub fn follow(&mut self, channel: &ChannelId, previous: Option<BatchNumber>, reached: Reached) -> Followed {
        let Some(Listening { reached: known, .. }) = self.channels.get_mut(channel) else { return Followed::InOrder };
        if previous == Some(known.batch) && reached.epoch == known.epoch {
            debug_assert!(reached.batch > known.batch, "batch numbers rise");
            debug_assert!(reached.last >= known.last && reached.told >= known.told, "a channel takes nothing back");
            *known = reached;
            return Followed::InOrder;
        }
        if (reached.epoch, reached.batch) <= (known.epoch, known.batch) { Followed::Known } else { Followed::Gap }
    }

    /// How far a channel's batches are taken in, if it has subscribers.
    pub fn reached(&self, channel: &ChannelId) -> Option<Reached> {
        self.channels.get(channel).map(|listening| listening.reached)
    }

    /// The next batch is the one after `reached`: what was missed before it has been dealt with.
    pub fn go_on_from(&mut self, channel: &ChannelId, reached: Reached) {
        if let Some(listening) = self.channels.get_mut(channel) {
            listening.reached = reached;
        }
    }

    /// All channels that have subscribers.
    pub fn channels(&self) -> impl Iterator<Item = &ChannelId> {
        self.channels.keys()
    }

    /// The last message in an audience's log, or the last that was in it.
    pub fn last_message(&self, key: AudienceKey) -> Option<MessageId> {
        let log = &self.audiences[key.0 as usize].log;
        log.message_before(log.end())
    }

    /// The slots of a channel's subscribers, in all formats.
    pub fn slots(&self, channel: &ChannelId) -> Vec<u32> {
        self.audiences_of(channel).flat_map(|audience| &audience.members).map(|member| member.slot).collect()
    }

    /// The number of a channel's subscribers, in all formats.
    pub fn count(&self, channel: &ChannelId) -> usize {
        self.audiences_of(channel).map(|audience| audience.members.len()).sum()
    }

    /// The audiences of a channel's subscribers, one for each format that they use.
    fn audiences_of(&self, channel: &ChannelId) -> impl Iterator<Item = &Audience> {
        let keys = self.channels.get(channel).into_iter().flat_map(|listening| listening.audiences.iter().flatten());
        keys.map(|key| self.audiences[key.0 as usize].as_ref())
    }

    /// The audience of a channel's subscribers in this format, if there is one.
    pub fn audience(&self, channel: &ChannelId, format: Format) -> Option<AudienceKey> {
        self.channels.get(channel)?.audiences[format as usize]
    }

    /// Whether this shard has a subscriber of the channel, in any format.
    pub fn listens(&self, channel: &ChannelId) -> bool {
        self.channels.contains_key(channel)
    }

    /// The channel of an audience. Panics if there is no audience with this key.
    pub fn channel_of(&self, key: AudienceKey) -> &ChannelId {
        &self.audiences[key.0 as usize].channel
    }

    /// The end of the audience's log. A cursor there is owed nothing.
    pub fn end(&self, key: AudienceKey) -> Position {
        self.audiences[key.0 as usize].log.end()
    }

    /// How far the member at `index` of the audience's list has been written. Panics if there is no such member.
    pub fn cursor(&self, key: AudienceKey, index: u32) -> Position {
        self.audiences[key.0 as usize].members[index as usize].cursor
    }

    /// The bytes between two positions of the audience's log. Both must be in the log, as `FrameLog::range` says.
    pub fn bytes(&self, key: AudienceKey, from: Position, to: Position) -> &[u8] {
        self.audiences[key.0 as usize].log.range(from, to)
    }

    /// The end of the frame that a cursor is in.
    pub fn border(&self, key: AudienceKey, cursor: Position) -> Position {
        self.audiences[key.0 as usize].log.border_at_or_after(cursor)
    }

    /// Moves a member's cursor on by bytes that were written outside the pass.
    pub fn advance(&mut self, key: AudienceKey, index: u32, bytes: usize) {
        let audience = &mut self.audiences[key.0 as usize];
        let cursor = &mut audience.members[index as usize].cursor;
        let from = *cursor;
        cursor.0 += bytes as u64;
        debug_assert!(*cursor <= audience.log.end(), "a member has read no more than the log holds");
        audience.tally.count(from, *cursor, &mut self.counters);
    }

    /// Counts a delivery of the log from a leaving member's cursor to the end: that part becomes the connection's
    /// private frames.
    pub fn hand_over(&mut self, key: AudienceKey, from: Position) {
        let audience = &mut self.audiences[key.0 as usize];
        audience.tally.count(from, audience.log.end(), &mut self.counters);
    }

    /// The bytes between two positions of the audience's log, for a member that takes them with it.
    pub fn tail(&mut self, key: AudienceKey, from: Position, to: Position) -> Vec<TailPiece> {
        let Audience { log, tails, .. } = &mut *self.audiences[key.0 as usize];
        tails.take(log, from, to, &self.tail_bytes)
    }

    /// The memory that all logs hold, with the parts that members have taken with them.
    pub fn log_bytes(&self) -> u64 {
        self.log_bytes + self.tail_bytes.held()
    }

    /// Moves a member to the newest message if that is less than `far` bytes before the log's end, and to the end
    /// otherwise. Returns what the member missed.
    pub fn skip(&mut self, key: AudienceKey, index: u32, far: u64) -> Skip {
        let Audience { log, members, .. } = &mut *self.audiences[key.0 as usize];
        let member = &mut members[index as usize];
        let border = log.border_at_or_after(member.cursor);
        let rest = log.range(member.cursor, border).to_vec();
        let newest = log.newest().filter(|newest| newest.at >= border && log.end().0 - newest.at.0 < far);
        // If the log knows no message before the gap, the gap's range begins just before the first missed message.
        let after = log.message_before(border).or_else(|| log.message_from(border).map(|first| first.id.just_below()));
        member.cursor = newest.map_or(log.end(), |newest| newest.at);
        Skip { border, rest, missed: Missed { after, before: newest.map(|newest| newest.id) } }
    }

    /// Takes a member out of the pass until its socket has room again.
    pub fn park(&mut self, key: AudienceKey, index: u32) {
        let audience = &mut self.audiences[key.0 as usize];
        let before = audience.levels();
        let subscriber = &mut audience.members[index as usize];
        audience.parked += usize::from(!subscriber.parked);
        subscriber.parked = true;
        self.sum_up(key, before);
    }

    /// Puts a member back into the pass.
    pub fn unpark(&mut self, key: AudienceKey, index: u32) {
        let audience = &mut self.audiences[key.0 as usize];
        let before = audience.levels();
        let subscriber = &mut audience.members[index as usize];
        audience.parked -= usize::from(subscriber.parked);
        subscriber.parked = false;
        audience.rest();
        self.sum_up(key, before);
    }

    /// Updates the sums. `before` is what the audience had before the change.
    fn sum_up(&mut self, key: AudienceKey, before: AudienceLevels) {
        let now = self.audiences[key.0 as usize].levels();
        self.log_bytes = self.log_bytes - before.log_bytes + now.log_bytes;
        if now.parked == before.parked {
            return;
        }
        self.parked = self.parked - before.parked + now.parked;
        match now.parked {
            0 => self.waiting.remove(&key),
            _ => self.waiting.insert(key),
        };
    }

    /// How far a member may be behind now, in bytes of one channel's log.
    pub fn lag_allowed(&self, rules: &Rules) -> u64 {
        let half = rules.logs_bytes_max / 2;
        let left = rules.logs_bytes_max.saturating_sub(self.log_bytes()).min(half);
        (u128::from(rules.lag_bytes_max) * u128::from(left) / u128::from(half)) as u64
    }

    /// Returns a channel's backlog if it has just become high, or low again. The backlog is what the passes have not
    /// offered yet; what parked members are owed does not count.
    fn backlog(&mut self, channel: &ChannelId) -> Option<Backlog> {
        let listening = self.channels.get_mut(channel)?;
        let owed = |key: &AudienceKey| self.audiences[key.0 as usize].backlog();
        let bytes = listening.audiences.iter().flatten().map(owed).max().unwrap_or(0);
        let backlog = match listening.backlog {
            Backlog::Low if bytes > BACKLOG_BYTES_HIGH => Backlog::High,
            Backlog::High if bytes < BACKLOG_BYTES_LOW => Backlog::Low,
            _ => return None,
        };
        listening.backlog = backlog;
        Some(backlog)
    }

    /// Asserts what the tables promise. Looks at every member of every audience.
    pub fn invariants(&self) {
        let audiences = || self.audiences.iter().map(|(_, audience)| &**audience);
        audiences().for_each(Audience::invariants);
        assert_eq!(self.members, audiences().map(|audience| audience.members.len()).sum::<usize>(), "members");
        assert_eq!(self.parked, audiences().map(|audience| audience.parked).sum::<usize>(), "parked");
        assert_eq!(self.log_bytes, audiences().map(|audience| audience.log.bytes_held()).sum::<u64>(), "log bytes");
        for (key, audience) in &self.audiences {
            let key = AudienceKey(key as u32);
            assert_eq!(self.waiting.contains(&key), audience.parked > 0, "waiting");
            let queue = if audience.urgent { &self.active } else { &self.unhurried };
            let active = queue.contains(&(key, audience.entry));
            let paced = self.paced.iter().any(|&(_, paced)| paced == key);
            assert_eq!(active || paced, audience.owed > 0, "an audience is served as long as visits are owed");
        }
    }

    /// Asserts that a connection's place in an audience is its own.
    pub fn assert_place(&self, key: AudienceKey, index: u32, slot: u32, parked: bool) {
        let member = &self.audiences[key.0 as usize].members[index as usize];
        assert_eq!((member.slot, member.parked), (slot, parked), "a subscription leads to the connection's own place");
    }

    /// Whether a pass is under way. A pass whose next rotation must wait does not count: see `next_due`.
    pub fn is_busy(&self) -> bool {
        !self.active.is_empty() || !self.unhurried.is_empty()
    }

    /// When the first of the waiting rotations may begin.
    pub fn next_due(&self) -> Option<Monotonic> {
        self.paced.first().map(|&(due, _)| due)
    }

    /// Begins a slice of the passes under way. `now` paces rotations: those that had to wait until then may begin.
    pub fn begin_slice(&mut self, now: Monotonic, rules: &Rules) -> Slice {
        while self.next_due().is_some_and(|due| due <= now) {
            let next = self.paced.pop_first();
            next.into_iter().for_each(|(_, key)| self.put_in_line(key));
        }
        self.ended.clear();
        Slice {
            now,
            visits: rules.pass_visits_max,
            reserved: rules.pass_visits_max / UNHURRIED_PART,
            bytes: PASS_BYTES_MAX,
        }
    }

    /// Serves the first audience in one of the queues, as far as the slice goes. An audience that is owed more goes to the
    /// end of its queue. Audiences that are owed messages come first, and leave a part of the slice to the others. Members
    /// that are further behind than the rules allow are reported as lagging. Returns whether the slice goes on. The caller
    /// must deal with the report before that: a blocked connection may be in other audiences, and its frames must not mix.
    pub fn serve_next(
        &mut self,
        slice: &mut Slice,
        outlet: &mut impl Outlet,
        rules: &Rules,
        report: &mut PassReport,
    ) -> bool {
        if slice.visits == 0 || slice.bytes < rules.write_bytes_max {
            return false;
        }
        let Some(key) = self.next_in_line(slice) else { return false };
        let rules = Rules { lag_bytes_max: self.lag_allowed(rules), ..*rules };
        let audience = &mut self.audiences[key.0 as usize];
        if audience.rotation.left == 0 {
            audience.begin_rotation(slice.now, self.now);
        }
        let (before, visits) = (audience.levels(), slice.visits);
        audience.serve(key, slice, &rules, outlet, report, &mut self.counters);
        assert!(slice.visits < visits, "an audience whose turn it is gets a visit");
        if audience.rotation.left == 0 {
            self.ended.push(audience.end_rotation());
        }
        self.sum_up(key, before);
        let audience = &mut self.audiences[key.0 as usize];
        if audience.owed > 0 {
            let due = audience.next_rotation();
            if audience.rotation.left > 0 || due <= slice.now {
                self.put_in_line(key);
            } else {
                self.paced.insert((due, key));
            }
        }
        let channel = self.audiences[key.0 as usize].channel.clone();
        if let Some(backlog) = self.backlog(&channel) {
            report.backlogs.push((channel, backlog));
        }
        true
    }

    /// Puts an audience at the end of its queue. An entry that it has in the other queue does not count any more.
    fn put_in_line(&mut self, key: AudienceKey) {
        let audience = &mut self.audiences[key.0 as usize];
        self.entries += 1;
        audience.entry = self.entries;
        let queue = if audience.urgent { &mut self.active } else { &mut self.unhurried };
        queue.push_back((key, self.entries));
    }

    /// Takes the audience whose turn it is.
    fn next_in_line(&mut self, slice: &mut Slice) -> Option<AudienceKey> {
        let mut queues = [&mut self.active, &mut self.unhurried];
        if slice.visits <= slice.reserved {
            queues.reverse();
        }
        let next = queues.into_iter().find_map(|queue| next_of(queue, &self.audiences));
        if self.unhurried.is_empty() {
            slice.reserved = 0;
        }
        next
    }

    /// The rotations that ended in the last slice ended at `now`.
    pub fn passed(&mut self, now: Timestamp) {
        for rotation in self.ended.drain(..) {
            self.counters.passes.record_between(rotation.began, now);
            if let Some(accepted) = rotation.accepted {
                self.counters.latency.record_between(accepted, now);
            }
        }
    }

    /// The current state of all audiences. Looks at no more than `LEVELS_VISITS_MAX` members, all of audiences with
    /// parked members.
    pub fn levels(&self) -> SubscriberLevels {
        let (lag_bytes, _) = self.lag();
        SubscriberLevels { subscriptions: self.members, parked: self.parked, lag_bytes, log_bytes: self.log_bytes() }
    }

    /// The bytes owed to the slowest parked member, and how many members were looked at to find it.
    fn lag(&self) -> (u64, usize) {
        let (mut lag, mut visits) = (0, 0);
        for key in &self.waiting {
            let audience = &self.audiences[key.0 as usize];
            let end = audience.log.end();
            for member in audience.members.iter().take(LEVELS_VISITS_MAX - visits) {
                visits += 1;
                if member.parked {
                    lag = lag.max(end.0 - member.cursor.0);
                }
            }
            if visits == LEVELS_VISITS_MAX {
                break;
            }
        }
        (lag, visits)
    }
}

/// Takes the next entry of a queue that counts.
fn next_of(queue: &mut Queue, audiences: &Slab<Box<Audience>>) -> Option<AudienceKey> {
    while let Some((key, entry)) = queue.pop_front() {
        if audiences.get(key.0 as usize).is_some_and(|audience| audience.entry == entry) {
            return Some(key);
        }
    }
    // Many channels were served at once: the queue need not keep so much memory.
    if queue.capacity() > LINE_KEPT {
        *queue = Queue::new();
    }
    None
}

/// Where a batch stands among the batches that its channel's subscribers have taken in.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Followed {
    /// It is the next one.
    InOrder,
    /// It was taken in, or what it says is out of date: it arrived twice or late.
    Known,
    /// A batch before it is missing.
    Gap,
}

#[cfg(test)]
mod tests;
