//! Which messages are due to a member that comes and goes, and the outcome of each.
//!
//! A *stay* lasts from the answer to a join until the answer to a leave or the end of the connection. A message is due
//! if it was intended after the stay began and accepted before the member asked to leave: the server had to deliver it.
//! A message near the beginning or the end of the stay may be received or not. Clocks of several machines are known
//! within a margin only; a message whose time lies within the margin of the beginning or the end is due only if it was
//! received. Every due message is counted as delivered, as skipped or owed with notice, or as missing; there is no
//! other outcome.

use std::collections::{HashMap, HashSet};
use std::ops::Range;

use crate::base::content::ScheduleSlot;
use crate::checks::acceptances::{Acceptance, Acceptances, MessageId};
use crate::checks::check::{Answers, Checker, Member, MemberTally};
use crate::plan::schedule::Schedule;
use crate::wire::Kind;

/// Each gap stands for some megabytes that were not read. A server that announces more gaps in one stay is faulty.
pub const GAPS_MAX: usize = 1_000;
/// Removals of messages that this thread has not received are kept until the end of the run. A room seldom has more of
/// them; a stay never keeps more.
pub const UNKNOWN_MAX: usize = 10_000;

/// How a stay ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum End {
    /// It lasted until the end of the run.
    Open,
    /// The member left and received the answer.
    Left { sent_ns: u64 },
    /// The client dropped the connection, with all frames under way.
    Dropped,
    /// The server closed the connection with notice, because the member read too slowly.
    Closed { heard_ns: u64 },
    /// The server drained, as the run expects, and closed the connection with notice.
    Drained { heard_ns: u64 },
    /// The connection ended without a reason.
    Lost { heard_ns: u64 },
}

pub struct Stay {
    /// When the member received the answer to its join.
    pub joined_ns: u64,
    pub end: End,
    pub member: Member,
    gaps: Vec<Gap>,
    /// The ids in removals that could not be matched to a message of the room when they came.
    unknown: Vec<MessageId>,
}

/// What a gap announces, and what the member received before and after it.
struct Gap {
    after: Option<MessageId>,
    before: Option<MessageId>,
    heard_ns: u64,
    last_heard: Option<u32>,
    next_heard: Option<u32>,
}

/// The outcome of each message, for all stays of a room.
pub struct MessageOutcomes {
    start_ns: u64,
    /// How far the clocks of two machines may differ, when one reports the message's time and the other the stay's.
    margin_ns: u64,
    accepted: Vec<Option<Acceptance>>,
    /// By the id of the removed message: the index of the removal.
    removals: HashMap<MessageId, u32>,
}

/// Why the member did not receive a due message.
enum Absence {
    /// It is not due after all: it was under way when the client dropped the connection.
    Undue,
    Skipped,
    Announced,
    Missing,
}

impl Stay {
    pub fn new(joined_ns: u64, schedule: &Schedule) -> Self {
        Self { joined_ns, end: End::Open, member: Member::new(schedule), gaps: Vec::new(), unknown: Vec::new() }
    }

    /// Records a gap that the server announced. Returns whether one more gap is allowed.
    pub fn gap(&mut self, after: Option<MessageId>, before: Option<MessageId>, heard_ns: u64) -> bool {
        if self.gaps.len() == GAPS_MAX {
            return false;
        }
        self.gaps.push(Gap { after, before, heard_ns, last_heard: self.member.last_heard(), next_heard: None });
        true
    }

    /// Records a message received; a gap needs the first message after it.
    pub fn heard(&mut self, index: u32) {
        for gap in self.gaps.iter_mut().rev().take_while(|gap| gap.next_heard.is_none()) {
            gap.next_heard = Some(index);
        }
    }

    /// Records a removal of a message that no member here has received. Returns whether there was room for it.
    pub fn unknown_removal(&mut self, id: MessageId) -> bool {
        let room = self.unknown.len() < UNKNOWN_MAX;
        if room {
            self.unknown.push(id);
        }
        room
    }

    /// Messages accepted from this time on are not due.
    fn until_ns(&self) -> u64 {
        match self.end {
            End::Open | End::Dropped => u64::MAX,
            End::Left { sent_ns } => sent_ns,
            End::Closed { heard_ns } | End::Drained { heard_ns } | End::Lost { heard_ns } => heard_ns,
        }
    }

    pub fn tally(&self, checker: &Checker, answers: &Answers, outcomes: &MessageOutcomes) -> MemberTally {
        let mut tally = MemberTally { out_of_order: checker.too_early(&self.member), ..MemberTally::default() };
        let schedule = checker.schedule();
        let removed = self.removals_heard(outcomes);
        let has_seen = |index: u32| self.member.has_seen(schedule.slot(index)) || removed.contains(&index);
        let (joined, until) = (outcomes.around(self.joined_ns), outcomes.around(self.until_ns()));
        // A message intended after the end of the stay cannot have been accepted before the end.
        let last = schedule.first_due_at(until.end.saturating_sub(outcomes.start_ns));
        for index in schedule.first_due_at(joined.start.saturating_sub(outcomes.start_ns))..last {
            let Some(accepted) = outcomes.accepted[index as usize].filter(|accepted| accepted.at_ns < until.end) else {
                continue;
            };
            let intended_ns = outcomes.start_ns + schedule.due_ns(index);
            let at_an_edge = joined.contains(&intended_ns) || until.contains(&accepted.at_ns);
            let counted = if has_seen(index) {
                &mut tally.delivered
            } else if at_an_edge {
                continue;
            } else {
                match self.absence(checker, outcomes, &accepted) {
                    Absence::Undue => continue,
                    Absence::Skipped => &mut tally.skipped,
                    Absence::Announced => &mut tally.announced,
                    Absence::Missing => &mut tally.missing,
                }
            };
            *counted += 1;
            tally.expected += 1;
        }
        let seen_of = |numbers: &HashMap<u32, Vec<u32>>| {
            let slots =
                numbers.iter().flat_map(|(publisher, numbers)| numbers.iter().map(|number| (*publisher, *number)));
            let indices = slots.filter_map(|(publisher, number)| schedule.index(ScheduleSlot { publisher, number }));
            indices.filter(|index| has_seen(*index)).count() as u64
        };
        tally.refused_but_delivered = seen_of(&answers.refused);
        tally.unanswered_but_delivered = seen_of(&answers.unanswered);
        let seen = self.member.count() + removed.len() as u64;
        let MemberTally { expected, delivered, skipped, announced, missing, .. } = tally;
        assert_eq!(expected, delivered + skipped + announced + missing, "each due message has one outcome");
        let accounted = delivered + tally.refused_but_delivered + tally.unanswered_but_delivered;
        assert!(accounted <= seen, "{accounted} of {seen} messages that were heard are accounted for");
        tally.beyond = seen - tally.delivered - tally.refused_but_delivered - tally.unanswered_but_delivered;
        tally
    }

    /// How many removals were received that no publisher of the run sent.
    pub fn foreign_removals(&self, outcomes: &MessageOutcomes) -> u64 {
        self.unknown.iter().filter(|id| !outcomes.removals.contains_key(id)).count() as u64
    }

    /// The removals of this run that could not be matched when they came.
    fn removals_heard(&self, outcomes: &MessageOutcomes) -> HashSet<u32> {
        self.unknown.iter().filter_map(|id| outcomes.removals.get(id)).copied().collect()
    }

    fn absence(&self, checker: &Checker, outcomes: &MessageOutcomes, message: &Acceptance) -> Absence {
        if self.gaps.iter().any(|gap| gap.covers(checker, outcomes, message)) {
            return Absence::Skipped;
        }
        match self.end {
            End::Dropped | End::Closed { .. } | End::Drained { .. }
                if self.came_before_the_last(checker, message.index) =>
            {
                Absence::Missing
            }
            End::Dropped => Absence::Undue,
            End::Closed { .. } | End::Drained { .. } => Absence::Announced,
            End::Open | End::Left { .. } | End::Lost { .. } => Absence::Missing,
        }
    }

    /// Whether the message comes before some message that the member received.
    fn came_before_the_last(&self, checker: &Checker, index: u32) -> bool {
        let places = checker.place(index).zip(self.member.last_heard().and_then(|last| checker.place(last)));
        self.member.has_passed(checker.schedule().slot(index)) || places.is_some_and(|(place, last)| place < last)
    }
}

impl Gap {
    /// Whether the gap announces that this message will not come.
    fn covers(&self, checker: &Checker, outcomes: &MessageOutcomes, message: &Acceptance) -> bool {
        let Acceptance { index, id, kind, .. } = *message;
        if kind != Kind::New {
            // A gap does not name missed updates and removals: they lie between the messages received before and after
            // it.
            let place = |index: Option<u32>| index.and_then(|index| checker.place(index));
            let Some(place_of_it) = checker.place(index) else { return true };
            return place(self.last_heard).is_none_or(|last| last < place_of_it)
                && place(self.next_heard).is_none_or(|next| place_of_it < next);
        }
        let Some(after) = self.after else { return false };
        // A gap without an end moves the reader to the newest message: messages intended later come after the gap.
        let intended_ns = outcomes.start_ns + checker.schedule().due_ns(index);
        let ends = self.before.map_or(intended_ns < outcomes.around(self.heard_ns).end, |before| id < before);
        after < id && ends
    }
}

impl MessageOutcomes {
    pub fn new(start_ns: u64, margin_ns: u64, schedule: &Schedule, acceptances: &Acceptances) -> Self {
        let mut accepted = vec![None; schedule.messages() as usize];
        let mut removals = HashMap::new();
        for acceptance in &acceptances.0 {
            if let Some(outcome) = accepted.get_mut(acceptance.index as usize) {
                *outcome = Some(*acceptance);
            }
            if acceptance.kind == Kind::Removal {
                removals.insert(acceptance.id, acceptance.index);
            }
        }
        Self { start_ns, margin_ns, accepted, removals }
    }

    /// The range of another machine's times that cannot be told from this one; empty where both use one clock.
    fn around(&self, time_ns: u64) -> Range<u64> {
        time_ns.saturating_sub(self.margin_ns)..time_ns.saturating_add(self.margin_ns)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::checks::check::{DeliveryResult, fingerprint};
    use crate::plan::run_plan::OrderDemand;

    const START_NS: u64 = 1_000_000;
    const MS: u64 = 1_000_000;

    /// Twelve messages, one in 100 ms: publisher 0 sends indices 0, 2, 4 ..., publisher 1 sends 1, 3, 5 ... Number 4 of
    /// publisher 1, index 9, removes its first, index 1.
    fn schedule() -> Schedule {
        Schedule::steady(10.0, 2, Duration::ZERO, Duration::from_millis(1200)).expect("a valid schedule")
    }

    fn at(ms: u64) -> u64 {
        START_NS + ms * MS
    }

    fn id(index: u32) -> MessageId {
        MessageId(u128::from(if index == 9 { 1 } else { index }))
    }

    /// Every message but index 6 is accepted, 50 ms after its intended time.
    fn outcomes(margin_ms: u64) -> MessageOutcomes {
        let acceptance = |index: u32| Acceptance {
            index,
            kind: if index == 9 { Kind::Removal } else { Kind::New },
            at_ns: at(u64::from(index) * 100 + 50),
            id: id(index),
        };
        let acceptances = (0..12).filter(|index| *index != 6).map(acceptance).collect();
        MessageOutcomes::new(START_NS, margin_ms * MS, &schedule(), &Acceptances(acceptances))
    }

    fn answers() -> Answers {
        Answers { refused: HashMap::from([(0, vec![3])]), ..Answers::default() }
    }

    enum Event {
        Hear(&'static [u32]),
        Gap(Option<u32>, Option<u32>),
        Unknown(u32),
    }
    use Event::{Gap as Skip, Hear, Unknown};

    /// One stay beside a member that receives everything, and the stay's tally as (expected, delivered, skipped,
    /// announced, missing, beyond).
    fn check(joined_ms: u64, end: End, events: &[Event], expected: (u64, u64, u64, u64, u64, u64)) {
        check_within(0, joined_ms, end, events, expected);
    }

    /// The same, with clocks that may differ by `margin_ms`.
    fn check_within(
        margin_ms: u64,
        joined_ms: u64,
        end: End,
        events: &[Event],
        expected: (u64, u64, u64, u64, u64, u64),
    ) {
        let mut checker = Checker::new(schedule(), OrderDemand::Room);
        let hear = |checker: &mut Checker, stay: &mut Stay, index: u32| {
            let found = checker
                .observe(&mut stay.member, schedule().slot(index), fingerprint(Kind::New, &index.to_string()))
                .result;
            assert_eq!(found, DeliveryResult::InOrder, "index {index}");
            stay.heard(index);
        };
        let mut always = Stay::new(0, &schedule());
        (0..12).filter(|index| *index != 6).for_each(|index| hear(&mut checker, &mut always, index));
        let mut stay = Stay::new(at(joined_ms), &schedule());
        for event in events {
            match event {
                Hear(indices) => indices.iter().for_each(|index| hear(&mut checker, &mut stay, *index)),
                Skip(after, before) => {
                    assert!(stay.gap(after.map(id), before.map(id), at(1_000)));
                    checker.let_go(&mut stay.member);
                }
                Unknown(index) => assert!(stay.unknown_removal(id(*index))),
            }
        }
        stay.end = end;
        let tally = stay.tally(&checker, &answers(), &outcomes(margin_ms));
        let found = (tally.expected, tally.delivered, tally.skipped, tally.announced, tally.missing, tally.beyond);
        assert_eq!(found, expected);
        assert_eq!(tally.expected, tally.delivered + tally.skipped + tally.announced + tally.missing);
        let faultless = always.tally(&checker, &answers(), &outcomes(margin_ms));
        assert_eq!((faultless.expected, faultless.delivered), (11, 11));
    }

    #[test]
    fn due_is_what_was_intended_after_the_join() {
        check(0, End::Open, &[Hear(&[0, 1, 2, 3, 4, 5, 7, 8, 9, 10, 11])], (11, 11, 0, 0, 0, 0));
        check(350, End::Open, &[Hear(&[4, 5, 7, 8, 9, 10, 11])], (7, 7, 0, 0, 0, 0));
        // A message still under way at the join may be received as well.
        check(350, End::Open, &[Hear(&[3, 4, 5, 7, 8, 9, 10, 11])], (7, 7, 0, 0, 0, 1));
        check(350, End::Open, &[Hear(&[4, 5, 7, 9, 10, 11])], (7, 6, 0, 0, 1, 0));
        check(350, End::Open, &[], (7, 0, 0, 0, 7, 0));
        check(5_000, End::Open, &[], (0, 0, 0, 0, 0, 0));
    }

    #[test]
    fn due_is_what_was_accepted_before_the_leave() {
        let left = End::Left { sent_ns: at(851) };
        check(350, left, &[Hear(&[4, 5, 7, 8])], (4, 4, 0, 0, 0, 0));
        check(350, left, &[Hear(&[4, 5, 7, 8, 9])], (4, 4, 0, 0, 0, 1));
        check(350, left, &[Hear(&[4, 5, 7])], (4, 3, 0, 0, 1, 0));
        check(350, End::Left { sent_ns: at(850) }, &[Hear(&[4, 5, 7])], (3, 3, 0, 0, 0, 0));
        check(350, End::Left { sent_ns: at(300) }, &[], (0, 0, 0, 0, 0, 0));
    }

    #[test]
    fn a_dropped_connection_is_due_what_came_before_the_last_it_heard() {
        check(350, End::Dropped, &[Hear(&[4, 5, 7])], (3, 3, 0, 0, 0, 0));
        check(350, End::Dropped, &[Hear(&[4, 7])], (3, 2, 0, 0, 1, 0));
        // Indices 4 and 8 are not by the publisher of the last message received: only the room's order shows that they
        // are missing.
        check(350, End::Dropped, &[Hear(&[5, 7, 9])], (5, 3, 0, 0, 2, 0));
        check(350, End::Dropped, &[], (0, 0, 0, 0, 0, 0));
    }

    #[test]
    fn a_reader_that_was_closed_with_notice_is_owed_the_rest_and_nothing_before() {
        let closed = End::Closed { heard_ns: at(1_060) };
        check(350, closed, &[Hear(&[4, 5, 7, 8, 9, 10])], (6, 6, 0, 0, 0, 0));
        check(350, closed, &[Hear(&[4, 5])], (6, 2, 0, 4, 0, 0));
        check(350, closed, &[Hear(&[5])], (6, 1, 0, 4, 1, 0));
        check(350, End::Lost { heard_ns: at(1_060) }, &[Hear(&[4, 5])], (6, 2, 0, 0, 4, 0));
    }

    #[test]
    fn what_a_gap_announces_is_skipped_and_nothing_else() {
        // The gap names 7 and 8. It does not name the removal between them, but the removal lies there.
        check(350, End::Open, &[Hear(&[4, 5]), Skip(Some(5), Some(10)), Hear(&[10, 11])], (7, 4, 3, 0, 0, 0));
        // Index 5 is missing without notice.
        check(350, End::Open, &[Hear(&[4]), Skip(Some(5), Some(10)), Hear(&[10, 11])], (7, 3, 3, 0, 1, 0));
        // So is index 8: the gap ends before it.
        check(350, End::Open, &[Hear(&[4, 5]), Skip(Some(5), Some(8)), Hear(&[9, 10, 11])], (7, 5, 1, 0, 1, 0));
        // A gap without a beginning announces no message as missed.
        check(350, End::Open, &[Hear(&[4, 5]), Skip(None, Some(10)), Hear(&[10, 11])], (7, 4, 1, 0, 2, 0));
        // A gap without an end reaches to the newest message at the time it is received, 1,000 ms.
        check(350, End::Open, &[Hear(&[4, 5]), Skip(Some(5), None)], (7, 2, 3, 0, 2, 0));
        // One gap directly after another.
        check(
            350,
            End::Open,
            &[Hear(&[4]), Skip(Some(4), Some(7)), Skip(Some(4), Some(10)), Hear(&[10, 11])],
            (7, 3, 4, 0, 0, 0),
        );
    }

    #[test]
    fn what_lies_at_an_edge_is_due_only_if_it_was_heard() {
        // Intended 10 ms after the join, or 10 ms before it.
        for (joined_ms, margin_ms, due) in [(390, 0, 7), (390, 10, 7), (390, 11, 6), (410, 0, 6), (410, 10, 6)] {
            check_within(margin_ms, joined_ms, End::Open, &[Hear(&[5, 7, 8, 9, 10, 11])], (due, 6, 0, 0, due - 6, 0));
        }
        check_within(11, 390, End::Open, &[Hear(&[4, 5, 7, 8, 9, 10, 11])], (7, 7, 0, 0, 0, 0));
        check_within(10, 410, End::Open, &[Hear(&[4, 5, 7, 8, 9, 10, 11])], (7, 7, 0, 0, 0, 0));
        check_within(9, 410, End::Open, &[Hear(&[4, 5, 7, 8, 9, 10, 11])], (6, 6, 0, 0, 0, 1));
        // A message further from the edge is still missing.
        check_within(11, 390, End::Open, &[Hear(&[7, 8, 9, 10, 11])], (6, 5, 0, 0, 1, 0));
        // Accepted 10 ms before the end, or 10 ms after it.
        for end in [860, 840].map(at) {
            for end in [End::Left { sent_ns: end }, End::Lost { heard_ns: end }, End::Closed { heard_ns: end }] {
                check_within(11, 350, end, &[Hear(&[4, 5, 7])], (3, 3, 0, 0, 0, 0));
                check_within(11, 350, end, &[Hear(&[4, 5, 7, 8])], (4, 4, 0, 0, 0, 0));
                check_within(11, 350, end, &[Hear(&[4, 5, 8])], (4, 3, 0, 0, 1, 0));
            }
        }
        check_within(9, 350, End::Left { sent_ns: at(860) }, &[Hear(&[4, 5, 7])], (4, 3, 0, 0, 1, 0));
        check_within(9, 350, End::Closed { heard_ns: at(860) }, &[Hear(&[4, 5, 7])], (4, 3, 0, 1, 0, 0));
        // The gap without an end is received at 1,000 ms: a message intended at that time is skipped or still to come.
        check_within(1, 350, End::Open, &[Hear(&[4, 5]), Skip(Some(5), None), Hear(&[11])], (7, 3, 4, 0, 0, 0));
    }

    #[test]
    fn a_removal_is_understood_when_all_is_known() {
        check(350, End::Open, &[Hear(&[4, 5, 7, 8, 10, 11]), Unknown(9)], (7, 7, 0, 0, 0, 0));
        check(350, End::Open, &[Hear(&[4, 5, 7, 8, 10, 11])], (7, 6, 0, 0, 1, 0));
    }

    proptest::proptest! {
        /// Whatever a stay hears, in any order, with gaps and removals that are not understood: each due message has one
        /// outcome, and what was heard beside them is beyond what was due.
        #[test]
        fn each_message_that_is_due_has_one_outcome(
            joined_ms in 0_u64..1_300,
            end in (0_u8..6, 0_u64..1_500),
            margin_ms in 0_u64..150,
            events in proptest::collection::vec((0_u8..6, 0_u32..12, 0_u32..12), 0..24),
        ) {
            let mut checker = Checker::new(schedule(), OrderDemand::Room);
            let mut always = Stay::new(0, &schedule());
            let hear = |checker: &mut Checker, stay: &mut Stay, index: u32| {
                let id = fingerprint(Kind::New, &index.to_string());
                checker.observe(&mut stay.member, schedule().slot(index), id);
                stay.heard(index);
            };
            (0..12).filter(|index| *index != 6).for_each(|index| hear(&mut checker, &mut always, index));
            let mut stay = Stay::new(at(joined_ms), &schedule());
            let mut heard = HashSet::new();
            for (kind, one, other) in events {
                match kind {
                    0 => {
                        stay.gap((one > 0).then(|| id(one)), (other > 0).then(|| id(other)), at(u64::from(one) * 100));
                        checker.let_go(&mut stay.member);
                    }
                    1 => {
                        stay.unknown_removal(id(one));
                        heard.extend((id(one) == id(9)).then_some(9));
                    }
                    _ => {
                        hear(&mut checker, &mut stay, one);
                        heard.insert(one);
                    }
                }
            }
            let (kind, end_ms) = end;
            stay.end = match kind {
                0 => End::Open,
                1 => End::Left { sent_ns: at(end_ms) },
                2 => End::Dropped,
                3 => End::Closed { heard_ns: at(end_ms) },
                4 => End::Drained { heard_ns: at(end_ms) },
                _ => End::Lost { heard_ns: at(end_ms) },
            };
            let tally = stay.tally(&checker, &answers(), &outcomes(margin_ms));
            assert_eq!(tally.expected, tally.delivered + tally.skipped + tally.announced + tally.missing);
            assert!(tally.expected <= 11, "index 6 was never accepted");
            assert!(tally.delivered <= heard.len() as u64, "{tally:?} of {heard:?}");
            assert_eq!(tally.refused_but_delivered, u64::from(heard.contains(&6)), "number 3 of publisher 0");
            let once = tally.delivered + tally.beyond + tally.refused_but_delivered;
            // A removal that was heard twice, once understood and once not, may be counted beyond what was due.
            assert!((heard.len() as u64..=heard.len() as u64 + 1).contains(&once), "{tally:?} of {heard:?}");
            if !matches!(stay.end, End::Closed { .. } | End::Drained { .. }) {
                assert_eq!(tally.announced, 0, "only a reader that was closed is owed something");
            }
        }
    }

    #[test]
    fn gaps_and_unknown_removals_have_bounds() {
        let mut stay = Stay::new(0, &schedule());
        assert!((0..GAPS_MAX).all(|_| stay.gap(None, None, 0)) && !stay.gap(None, None, 0));
        assert!((0..UNKNOWN_MAX).all(|_| stay.unknown_removal(id(0))) && !stay.unknown_removal(id(0)));
    }
}
