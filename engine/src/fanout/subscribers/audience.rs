//! The subscribers of one channel in one format: a log, and the members that read it, visited one rotation after another.

use super::{AudienceKey, Gone, Outlet, PassReport, Slice};
use crate::counters::FanoutCounters;
use crate::fanout::log::{FrameLog, Position, Run};
use crate::fanout::subscribers::Moved;
use crate::fanout::tail::Tails;
use crate::fanout::tally::Tally;
use crate::id::{ChannelId, Monotonic, Timestamp};
use crate::limits::{ROTATION_INTERVAL, Rules};

/// The subscribers of one channel in one format.
pub(super) struct Audience {
    pub(super) channel: ChannelId,
    /// The number of its entry in one of the two queues. No other entry ever has this number.
    pub(super) entry: u64,
    /// A message has been appended since the audience last rested.
    pub(super) urgent: bool,
    pub(super) log: FrameLog,
    pub(super) tails: Tails,
    pub(super) members: Vec<Subscriber>,
    /// The index of the next member to be visited. Members before it were visited in this round of the table, members
    /// from it on were not.
    pub(super) place: usize,
    /// The number of visits until every member was offered the whole log.
    pub(super) owed: usize,
    pub(super) rotation: Rotation,
    /// The acceptance time of the oldest message that has come since this rotation began. The next rotation delivers
    /// it.
    pub(super) accepted: Option<Timestamp>,
    /// The log's end when this round of the table began: every member visited since has all up to it, except parked
    /// ones.
    pub(super) swept: Position,
    /// The smallest cursor among the parked members visited in this round of the table.
    pub(super) slowest: Position,
    pub(super) parked: usize,
    pub(super) tally: Tally,
}

/// What an audience adds to the sums of all.
#[derive(Clone, Copy)]
pub(super) struct AudienceLevels {
    pub(super) parked: usize,
    pub(super) log_bytes: u64,
}

/// One rotation: the visits that deliver to every member what the log holds when the rotation begins. This is the
/// rotation under way, or the last one.
#[derive(Clone, Copy, Default)]
pub(super) struct Rotation {
    /// Visits left; zero between two rotations and at rest.
    pub(super) left: usize,
    /// When it began: `paced` on the monotonic clock, which paces rotations, and `began` on the wall clock, which
    /// measures them.
    pub(super) paced: Monotonic,
    pub(super) began: Timestamp,
    /// The acceptance time of the oldest message that this rotation delivers.
    pub(super) accepted: Option<Timestamp>,
}

/// A member: a cursor into the audience's log, and the slot of its connection.
pub(crate) struct Subscriber {
    pub(super) cursor: Position,
    pub(super) slot: u32,
    /// Its socket is full: `Shard::writable` writes to it, not the pass.
    pub(super) parked: bool,
}

const _: () = assert!(size_of::<Subscriber>() == 16);

impl Audience {
    pub(super) fn of(channel: ChannelId) -> Self {
        Self {
            channel,
            entry: 0,
            urgent: false,
            log: FrameLog::default(),
            tails: Tails::default(),
            members: Vec::new(),
            place: 0,
            owed: 0,
            rotation: Rotation::default(),
            accepted: None,
            swept: Position(0),
            slowest: Position(u64::MAX),
            parked: 0,
            tally: Tally::default(),
        }
    }

    pub(super) fn levels(&self) -> AudienceLevels {
        AudienceLevels { parked: self.parked, log_bytes: self.log.bytes_held() }
    }

    pub(super) fn push(&mut self, slot: u32) -> u32 {
        self.members.push(Subscriber { cursor: self.log.end(), slot, parked: false });
        // The table has one place more, and the members that are still owed a visit may come after it.
        self.owe_one_more();
        (self.members.len() - 1) as u32
    }

    pub(super) fn owe_one_more(&mut self) {
        self.owed += usize::from(self.owed > 0);
        self.rotation.left += usize::from(self.rotation.left > 0);
    }

    /// Appends frames to the log: every member is now owed a visit. A rotation under way goes on.
    pub(super) fn append(&mut self, run: &Run, messages: u64, accepted: Option<Timestamp>) {
        self.log.append(run);
        self.tally.append(self.log.end(), messages);
        self.accepted = self.accepted.or(accepted);
        self.urgent = messages > 0 || (self.urgent && self.owed > 0);
        self.owed = self.members.len();
    }

    /// Removes a member. The visited members stay before `place`, and the others stay from `place` on.
    pub(super) fn remove(&mut self, index: usize) -> Moved {
        self.parked -= usize::from(self.members[index].parked);
        let last = self.members.len() - 1;
        let mut hole = index;
        if index < self.place {
            self.place -= 1;
            self.members.swap(index, self.place);
            hole = self.place;
            // The last member moves to `place`, before the members still owed a visit. One visit more makes sure that
            // all of these are reached.
            self.owe_one_more();
        }
        self.members.swap_remove(hole);
        self.owed = self.owed.min(last);
        self.rotation.left = self.rotation.left.min(self.owed);
        self.rest();
        let at = |index: usize| self.members.get(index).map(|member| (member.slot, index as u32));
        [at(index), if hole == index { None } else { at(hole) }]
    }

    pub(super) fn invariants(&self) {
        self.log.invariants();
        let (start, end) = (self.log.start(), self.log.end());
        assert!(self.place <= self.members.len() && self.owed <= self.members.len(), "{} {}", self.place, self.owed);
        assert!(self.rotation.left <= self.owed, "a rotation has no more visits than are owed");
        assert!(self.swept <= end, "no member has what was not said");
        assert_eq!(self.parked, self.members.iter().filter(|member| member.parked).count(), "parked");
        for (index, member) in self.members.iter().enumerate() {
            assert!((start..=end).contains(&member.cursor), "a cursor is in the log");
            if index < self.place {
                let read = if member.parked { self.slowest } else { self.swept };
                assert!(member.cursor >= self.swept.min(read), "what a visited member needs is not trimmed");
            }
        }
        if self.owed == 0 {
            assert!(self.members.iter().all(|member| member.parked || member.cursor == end), "all was offered to all");
        }
    }

    pub(super) fn begin_rotation(&mut self, paced: Monotonic, began: Timestamp) {
        self.rotation = Rotation { left: self.owed, paced, began, accepted: self.accepted.take() };
    }

    pub(super) fn end_rotation(&mut self) -> Rotation {
        if self.owed == 0 {
            // There is no next rotation: this one has also delivered what came meanwhile to all members that are still
            // here.
            self.rotation.accepted = self.rotation.accepted.or(self.accepted);
            self.accepted = None;
        }
        self.rotation
    }

    /// When the next rotation may begin, if there is more to deliver after this one.
    pub(super) fn next_rotation(&self) -> Monotonic {
        self.rotation.paced.plus(ROTATION_INTERVAL)
    }

    pub(super) fn backlog(&self) -> u64 {
        if self.owed == 0 { 0 } else { self.log.end().0 - self.swept.0 }
    }

    /// Visits the next members of the rotation, as far as the slice goes.
    pub(super) fn serve(
        &mut self,
        key: AudienceKey,
        slice: &mut Slice,
        rules: &Rules,
        outlet: &mut impl Outlet,
        report: &mut PassReport,
        counters: &mut FanoutCounters,
    ) {
        debug_assert!(self.rotation.left > 0, "an audience is served as long as visits are owed");
        let reserved = if self.urgent { slice.reserved } else { 0 };
        while self.rotation.left > 0 && slice.visits > reserved && slice.bytes >= rules.write_bytes_max {
            if self.place >= self.members.len() {
                self.wrap();
            }
            slice.bytes -= self.visit(key, rules, outlet, report, counters);
            slice.visits -= 1;
            self.place += 1;
            self.owed -= 1;
            self.rotation.left -= 1;
        }
        self.rest();
    }

    /// Writes to the next member what it is owed, as far as one visit may. Returns how many bytes its socket took.
    pub(super) fn visit(
        &mut self,
        key: AudienceKey,
        rules: &Rules,
        outlet: &mut impl Outlet,
        report: &mut PassReport,
        counters: &mut FanoutCounters,
    ) -> usize {
        let (end, mut written) = (self.log.end(), 0);
        let member = &mut self.members[self.place];
        if member.cursor < end && !member.parked {
            let until = end.min(Position(member.cursor.0 + rules.write_bytes_max as u64));
            let offered = self.log.range(member.cursor, until);
            counters.pass_writes += 1;
            match outlet.write(member.slot, &[offered]) {
                Ok(bytes) => {
                    if bytes == offered.len() && until < end {
                        outlet.wait(member.slot);
                    }
                    let from = member.cursor;
                    member.cursor.0 += bytes as u64;
                    written = bytes;
                    self.tally.count(from, member.cursor, counters);
                }
                // The connection is dead: it is owed nothing more.
                Err(Gone) => member.cursor = end,
            }
            if member.cursor < end {
                member.parked = true;
                self.parked += 1;
                report.blocked.push((member.slot, key));
            }
        }
        if member.parked {
            self.slowest = self.slowest.min(member.cursor);
            if end.0 - member.cursor.0 > rules.lag_bytes_max {
                report.lagging.push((member.slot, key));
            }
        }
        written
    }

    /// Goes back to the first member. Every member except the parked ones now has all that the log held when this round
    /// of the table began, so the log can be trimmed.
    pub(super) fn wrap(&mut self) {
        let read = self.swept.min(self.slowest);
        self.log.trim(read);
        self.tally.trim(read);
        self.swept = self.log.end();
        self.slowest = Position(u64::MAX);
        self.place = 0;
    }

    /// If no visit is owed and no member is parked, every member has the whole log, so the log is emptied.
    pub(super) fn rest(&mut self) {
        if self.owed == 0 && self.parked == 0 {
            debug_assert!(self.members.iter().all(|member| member.cursor == self.log.end()));
            self.log.trim(self.log.end());
            self.tally.trim(self.log.end());
            self.swept = self.log.end();
            self.slowest = Position(u64::MAX);
        }
    }
}
