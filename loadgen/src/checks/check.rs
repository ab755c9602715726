//! Checks whether every member of a room received every message, once, and all members in the same order.
//!
//! Pure: a message is named by its slot in the schedule, an id by its fingerprint. One `Checker` serves the members of
//! one thread; `reconcile` then compares what the threads saw. A member costs four bytes a publisher while no message
//! is missing. A gap costs a range until it is filled, so the schedule bounds the memory even when a server loses every
//! second message.

use std::collections::HashMap;
use std::hash::{DefaultHasher, Hasher};
use std::ops::Range;

use serde::{Deserialize, Serialize};

use crate::base::content::ScheduleSlot;
use crate::checks::acceptances::Acceptances;
use crate::checks::record::{Entry, Said};
use crate::plan::run_plan::OrderDemand;
use crate::plan::schedule::Schedule;
use crate::wire::Kind;

/// The result of checking one arrival.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum DeliveryResult {
    /// New, and in its place.
    InOrder,
    /// New, but it came after a message that other members received later, or that its publisher sent later.
    OutOfOrder,
    /// New, but with another id than the other members saw.
    OtherId,
    /// Seen before by this member.
    Duplicate,
    /// Not in the schedule at all.
    Unscheduled,
}

/// The result of checking one arrival, and whether this arrival was the first to give the message its place in the
/// order.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Observation {
    pub result: DeliveryResult,
    pub first: bool,
}

/// The server's answers to the publishers: a message that is not listed was accepted. The numbers are sorted, by
/// publisher.
#[derive(Clone, Default, Debug, Serialize, Deserialize)]
pub struct Answers {
    /// Refused with an error: no member may receive them.
    pub refused: HashMap<u32, Vec<u32>>,
    /// Never answered or never sent: a member may receive them or not.
    pub unanswered: HashMap<u32, Vec<u32>>,
    /// When each accepted message was accepted and under which id; kept only in runs whose members come and go.
    #[serde(default, skip_serializing_if = "Acceptances::is_empty")]
    pub acceptances: Acceptances,
}

/// The result of one member at the end of the run.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct MemberTally {
    /// How many messages were due to the member: the sum of the next four.
    pub expected: u64,
    pub delivered: u64,
    /// Announced as missed, to a slow reader that asked the server to skip messages for it (`on_lag=skip`).
    pub skipped: u64,
    /// Still owed to a slow reader when the server closed its connection with notice.
    pub announced: u64,
    pub missing: u64,
    /// Messages found out of order only at the end; `observe` reports the others at once.
    pub out_of_order: u64,
    /// Received by the member although the server refused them to their publisher.
    pub refused_but_delivered: u64,
    /// Received by the member although their publisher got no answer.
    pub unanswered_but_delivered: u64,
    /// Received although they were not due, near the beginning or the end of a stay.
    pub beyond: u64,
}

/// What one member has received since it joined.
pub struct Member {
    /// By publisher: the highest number received, plus one.
    next: Box<[u32]>,
    holes: Vec<Hole>,
    /// The member's latest message that has a place in the room's order.
    latest: Option<u32>,
    /// Whether the member's next message certainly follows `latest`. It does not before the member has received a
    /// message that has a place, nor after a gap.
    anchored: bool,
    last_heard: Option<u32>,
    /// Messages that had no place yet when they came, each with the message that came after it. They are judged at the
    /// end.
    undecided: Vec<(u32, Option<u32>)>,
}

/// Numbers of a publisher that the member has not received although it received a later one.
struct Hole {
    publisher: u32,
    numbers: Range<u32>,
}

impl Hole {
    fn is(&self, slot: ScheduleSlot) -> bool {
        self.publisher == slot.publisher && self.numbers.contains(&slot.number)
    }
}

impl Member {
    pub fn new(schedule: &Schedule) -> Self {
        Self {
            next: vec![0; schedule.publishers() as usize].into(),
            holes: Vec::new(),
            latest: None,
            anchored: false,
            last_heard: None,
            undecided: Vec::new(),
        }
    }

    /// The member's latest message.
    pub fn last_heard(&self) -> Option<u32> {
        self.last_heard
    }

    pub fn has_seen(&self, slot: ScheduleSlot) -> bool {
        self.has_passed(slot) && !self.holes.iter().any(|hole| hole.is(slot))
    }

    /// Whether the member received this message or a later one of the same publisher.
    pub fn has_passed(&self, slot: ScheduleSlot) -> bool {
        slot.number < self.next[slot.publisher as usize]
    }

    /// How many different messages the member received.
    pub fn count(&self) -> u64 {
        let passed: u64 = self.next.iter().map(|next| u64::from(*next)).sum();
        passed - self.holes.iter().map(|hole| hole.numbers.len() as u64).sum::<u64>()
    }

    /// Records an arrival in the publisher's own numbering.
    fn arrived(&mut self, slot: ScheduleSlot) -> Arrival {
        let next = &mut self.next[slot.publisher as usize];
        if slot.number >= *next {
            let skipped = *next..slot.number;
            *next = slot.number + 1;
            if !skipped.is_empty() {
                self.holes.push(Hole { publisher: slot.publisher, numbers: skipped });
            }
            return Arrival::Onward;
        }
        self.fill(slot)
    }

    fn fill(&mut self, slot: ScheduleSlot) -> Arrival {
        let Some(at) = self.holes.iter().position(|hole| hole.is(slot)) else { return Arrival::Again };
        let hole = self.holes.swap_remove(at);
        for numbers in [hole.numbers.start..slot.number, slot.number + 1..hole.numbers.end] {
            if !numbers.is_empty() {
                self.holes.push(Hole { publisher: slot.publisher, numbers });
            }
        }
        Arrival::Late
    }

    /// How many of the publisher's numbers the member received. `count` says how many numbers of a range are to be
    /// counted.
    fn seen(&self, publisher: u32, count: impl Fn(Range<u32>) -> u64) -> u64 {
        let passed = count(0..self.next[publisher as usize]);
        let holes = self.holes.iter().filter(|hole| hole.publisher == publisher);
        let missed: u64 = holes.map(|hole| count(hole.numbers.clone())).sum();
        assert!(missed <= passed, "{missed} of {passed} numbers are in holes");
        passed - missed
    }
}

#[derive(PartialEq, Eq)]
enum Arrival {
    Onward,
    Late,
    Again,
}

/// What the members of one thread received, taken together.
pub struct Checker {
    schedule: Schedule,
    demand: OrderDemand,
    /// The room's order, as far as the members of this thread show it.
    order: Vec<u32>,
    /// By message: its place in `order`, and the fingerprint of its id.
    seen: Vec<Option<Sighting>>,
    /// How many members are anchored.
    anchored: u32,
}

#[derive(Clone, Copy)]
struct Sighting {
    place: Option<u32>,
    fingerprint: u64,
}

impl Checker {
    pub fn new(schedule: Schedule, demand: OrderDemand) -> Self {
        let seen = vec![None; schedule.messages() as usize];
        Self { schedule, demand, order: Vec::new(), seen, anchored: 0 }
    }

    /// Checks one message that one member received.
    pub fn observe(&mut self, member: &mut Member, slot: ScheduleSlot, fingerprint: u64) -> Observation {
        let Some(index) = self.schedule.index(slot) else {
            return Observation { result: DeliveryResult::Unscheduled, first: false };
        };
        let known = self.has_its_place(index);
        let result = self.judge(member, slot, index, fingerprint);
        Observation { result, first: !known && self.has_its_place(index) }
    }

    fn judge(&mut self, member: &mut Member, slot: ScheduleSlot, index: u32, fingerprint: u64) -> DeliveryResult {
        let arrival = member.arrived(slot);
        if arrival == Arrival::Again {
            return DeliveryResult::Duplicate;
        }
        member.last_heard = Some(index);
        let sighting = self.seen[index as usize].get_or_insert(Sighting { place: None, fingerprint });
        let same_id = sighting.fingerprint == fingerprint;
        let in_order = arrival == Arrival::Onward && self.follows(member, index);
        match (same_id, in_order) {
            (false, _) => DeliveryResult::OtherId,
            (true, true) => DeliveryResult::InOrder,
            (true, false) => DeliveryResult::OutOfOrder,
        }
    }

    /// Whether the demanded order already has a place for the message (for `Publisher`: whether any member received
    /// it).
    fn has_its_place(&self, index: u32) -> bool {
        match self.demand {
            OrderDemand::Room => self.place(index).is_some(),
            OrderDemand::Publisher => self.seen[index as usize].is_some(),
        }
    }

    /// Whether this message is the member's latest. If so, the messages after it in the room's order are in order for
    /// the member too.
    pub fn is_right_behind(&self, member: &Member, index: u32) -> bool {
        member.last_heard == Some(index)
            && match self.demand {
                OrderDemand::Room => member.anchored && member.latest == Some(index),
                OrderDemand::Publisher => true,
            }
    }

    /// Records these messages as received by a member that is right before the first of them (`is_right_behind`). Other
    /// members have received the same messages one after another in the room's order. Returns how many of them are in
    /// order for the member. The count stops at the first message that is not the next of its publisher; `observe` must
    /// check that message.
    pub fn follow(&self, member: &mut Member, messages: &[Entry]) -> usize {
        let mut count = 0;
        for Entry { said: Said { slot, .. }, .. } in messages {
            let next = &mut member.next[slot.publisher as usize];
            if *next != slot.number {
                break;
            }
            *next += 1;
            count += 1;
        }
        debug_assert!(
            count == 0 || self.place(messages[count - 1].said.index).is_some() || self.demand != OrderDemand::Room
        );
        if let Some(Entry { said: Said { index, .. }, .. }) = messages[..count].last() {
            member.last_heard = Some(*index);
            if self.demand == OrderDemand::Room {
                member.latest = Some(*index);
            }
        }
        count
    }

    /// The member receives nothing more, or its next message need not follow its latest one.
    pub fn let_go(&mut self, member: &mut Member) {
        assert!(self.anchored >= u32::from(member.anchored), "an anchored member is counted");
        self.anchored -= u32::from(member.anchored);
        member.anchored = false;
    }

    fn anchor(&mut self, member: &mut Member, index: u32) {
        self.anchored += u32::from(!member.anchored);
        member.anchored = true;
        member.latest = Some(index);
    }

    pub fn schedule(&self) -> &Schedule {
        &self.schedule
    }

    /// The fingerprint of the id with which the message was received first.
    pub fn fingerprint(&self, index: u32) -> Option<u64> {
        self.seen.get(index as usize).copied().flatten().map(|seen| seen.fingerprint)
    }

    /// The last message of the room's order, as far as the order is known.
    pub fn newest(&self) -> Option<u32> {
        self.order.last().copied()
    }

    /// Whether the message comes after the member's latest in the room's order.
    ///
    /// Only a member that knows the end of the order extends it, and only at the end. When another member brings a new
    /// message, either that member or the one that was ahead may have missed a message. The order of the two messages
    /// is then unknown, and a guess would report a lost message as disorder. Such a message stays undecided until a
    /// member that knows the end brings it. A member that has just joined does not know the end; while no member is
    /// anchored, any member's message extends the order.
    fn follows(&mut self, member: &mut Member, index: u32) -> bool {
        if self.demand == OrderDemand::Publisher {
            return true;
        }
        if let Some((before, next @ None)) = member.undecided.last_mut() {
            *next = Some(index);
            let before = *before;
            if !member.anchored && self.place(before) > member.latest.and_then(|latest| self.place(latest)) {
                self.anchor(member, before);
            }
        }
        if self.place(index).is_none() {
            let knows_the_end =
                if self.anchored == 0 { true } else { member.anchored && member.latest == self.order.last().copied() };
            if !knows_the_end {
                member.undecided.push((index, None));
                return true;
            }
            let place = self.order.len() as u32;
            debug_assert!(place < self.schedule.messages(), "each message has one place");
            self.order.push(index);
            self.seen[index as usize].iter_mut().for_each(|sighting| sighting.place = Some(place));
        }
        let follows = member.latest.and_then(|latest| self.place(latest)) < self.place(index);
        if follows {
            self.anchor(member, index);
        }
        follows
    }

    /// The message's place in the room's order, as far as the members of this thread show it.
    pub fn place(&self, index: u32) -> Option<u32> {
        self.seen[index as usize].and_then(|sighting| sighting.place)
    }

    /// How many undecided messages turned out to have come too early.
    pub fn too_early(&self, member: &Member) -> u64 {
        let places =
            |(index, next): &(u32, Option<u32>)| self.place(*index).zip(next.and_then(|next| self.place(next)));
        member.undecided.iter().filter_map(places).filter(|(place, next)| next < place).count() as u64
    }

    /// The result of a member that was present from the first message to the last.
    pub fn tally(&self, member: &Member, answers: &Answers) -> MemberTally {
        let mut tally = MemberTally { out_of_order: self.too_early(member), ..MemberTally::default() };
        for publisher in 0..self.schedule.publishers() {
            let refused = numbers_of(&answers.refused, publisher);
            let unanswered = numbers_of(&answers.unanswered, publisher);
            let accepted = |range: Range<u32>| {
                u64::from(range.end - range.start) - count(refused, range.clone()) - count(unanswered, range)
            };
            let delivered = member.seen(publisher, accepted);
            let expected = accepted(0..self.schedule.planned(publisher));
            assert!(delivered <= expected, "{delivered} are delivered of {expected} that were accepted");
            tally.expected += expected;
            tally.delivered += delivered;
            tally.missing += expected - delivered;
            tally.refused_but_delivered += member.seen(publisher, |range| count(refused, range));
            tally.unanswered_but_delivered += member.seen(publisher, |range| count(unanswered, range));
        }
        tally
    }

    /// What this thread saw, for the comparison with the other threads.
    pub fn sightings(&self, members: u32) -> Sightings {
        let identity = |(index, seen): (usize, &Option<Sighting>)| seen.map(|seen| (index as u32, seen.fingerprint));
        let ids = self.seen.iter().enumerate().filter_map(identity).collect();
        Sightings { members, order: self.order.clone(), ids }
    }
}

/// The fingerprint of a message id. Ids are only compared, so a hash is enough. The standard hasher has fixed keys, so
/// every process of the run computes the same hash. An update or a removal carries the id of its message; the kind is
/// hashed too, so that its fingerprint differs.
pub fn fingerprint(kind: Kind, message_id: &str) -> u64 {
    let mut hasher = DefaultHasher::new();
    hasher.write_u8(kind.code());
    hasher.write(message_id.as_bytes());
    hasher.finish()
}

fn numbers_of(numbers: &HashMap<u32, Vec<u32>>, publisher: u32) -> &[u32] {
    numbers.get(&publisher).map_or(&[], Vec::as_slice)
}

/// How many of the sorted numbers lie in the range.
fn count(sorted: &[u32], range: Range<u32>) -> u64 {
    debug_assert!(sorted.is_sorted() && range.start <= range.end, "sorted numbers and a range");
    let before = |end| sorted.partition_point(|number| *number < end) as u64;
    before(range.end) - before(range.start)
}

/// One thread's view of the room: the order its members agreed on, and the id of each message.
#[derive(Clone, Default, Debug, PartialEq, Eq)]
pub struct Sightings {
    pub members: u32,
    pub order: Vec<u32>,
    pub ids: Vec<(u32, u64)>,
}

/// Where the threads' views differ from each other.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub struct Disagreement {
    /// Deliveries out of order, compared with the reference view: the one with the most messages and, among equals, the
    /// most members.
    pub out_of_order: u64,
    /// Messages that have no place in the order of some view. This happens only where something is missing.
    pub unplaced: u64,
    /// Messages with different ids in different views; the acknowledgement counts as a view.
    pub other_ids: u64,
    /// Messages with an id that another message also has.
    pub shared_ids: u64,
}

impl Disagreement {
    /// Adds the disagreement of another room.
    pub fn add(&mut self, other: Disagreement) {
        self.out_of_order += other.out_of_order;
        self.unplaced += other.unplaced;
        self.other_ids += other.other_ids;
        self.shared_ids += other.shared_ids;
    }
}

/// Compares the views of all threads with each other. `acknowledged` holds the ids from the publishers'
/// acknowledgements.
pub fn reconcile(views: &[&Sightings], acknowledged: &[(u32, u64)]) -> Disagreement {
    let Some(reference) = views.iter().max_by_key(|view| (view.order.len(), view.members)) else {
        return Disagreement::default();
    };
    let places: HashMap<u32, usize> = reference.order.iter().enumerate().map(|(at, index)| (*index, at)).collect();
    let out_of_order = views.iter().map(|view| descents(&view.order, &places) * u64::from(view.members)).sum();

    assert!(views.iter().all(|view| view.order.len() <= view.ids.len()), "what has a place was received");
    let unplaced = views.iter().map(|view| (view.ids.len() - view.order.len()) as u64).sum();
    let mut ids: HashMap<u32, u64> = HashMap::new();
    let mut other_ids = 0;
    for (index, id) in views.iter().flat_map(|view| &view.ids).chain(acknowledged) {
        other_ids += u64::from(*ids.entry(*index).or_insert(*id) != *id);
    }
    let distinct: std::collections::HashSet<u64> = ids.values().copied().collect();
    Disagreement { out_of_order, unplaced, other_ids, shared_ids: (ids.len() - distinct.len()) as u64 }
}

/// How many messages of the order come after a message that the reference places later.
fn descents(order: &[u32], places: &HashMap<u32, usize>) -> u64 {
    let mut furthest = 0;
    let mut descents = 0;
    for place in order.iter().filter_map(|index| places.get(index)) {
        descents += u64::from(*place < furthest);
        furthest = furthest.max(*place);
    }
    descents
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::plan::draws::Draws;

    /// Twelve messages: publisher 0 sends indices 0, 2, 4 ..., publisher 1 sends 1, 3, 5 ...
    fn schedule() -> Schedule {
        Schedule::steady(12.0, 2, Duration::ZERO, Duration::from_secs(1)).expect("a valid schedule")
    }

    fn id(index: u32) -> u64 {
        u64::from(index) + 1000
    }

    #[derive(Default, PartialEq, Eq, Debug)]
    struct Faults {
        missing: u64,
        duplicates: u64,
        out_of_order: u64,
        other_id: u64,
    }

    /// Gives members these message indices, one member after the other, and returns the faults found.
    fn hear(demand: OrderDemand, heard: &[&[u32]], answers: &Answers) -> Faults {
        let turns = (0..heard.len()).flat_map(|member| std::iter::repeat_n(member, heard[member].len()));
        hear_in_turns(demand, heard, turns, answers).0
    }

    /// The same, but each turn names the member that receives its next message.
    fn hear_in_turns(
        demand: OrderDemand,
        heard: &[&[u32]],
        turns: impl Iterator<Item = usize>,
        answers: &Answers,
    ) -> (Faults, Sightings) {
        let mut checker = Checker::new(schedule(), demand);
        let mut faults = Faults::default();
        let mut members: Vec<_> = heard.iter().map(|heard| (Member::new(&schedule()), heard.iter())).collect();
        for turn in turns {
            let (member, heard) = &mut members[turn];
            let index = *heard.next().expect("no more turns than messages");
            match checker.observe(member, schedule().slot(index), id(index)).result {
                DeliveryResult::InOrder => {}
                DeliveryResult::OutOfOrder => faults.out_of_order += 1,
                DeliveryResult::OtherId => faults.other_id += 1,
                DeliveryResult::Duplicate => faults.duplicates += 1,
                DeliveryResult::Unscheduled => panic!("{index} is scheduled"),
            }
        }
        for (member, _) in &members {
            let tally = checker.tally(member, answers);
            faults.missing += tally.missing;
            faults.out_of_order += tally.out_of_order;
        }
        (faults, checker.sightings(members.len() as u32))
    }

    /// Turns in a random order; each member has as many turns as messages.
    fn turns(draws: &mut Draws, heard: &[&[u32]]) -> Vec<usize> {
        let mut turns: Vec<usize> =
            (0..heard.len()).flat_map(|member| std::iter::repeat_n(member, heard[member].len())).collect();
        (1..turns.len()).for_each(|at| turns.swap(at, draws.below(at as u64 + 1) as usize));
        turns
    }

    fn check(members: &[&[u32]], expected: Faults) {
        assert_eq!(hear(OrderDemand::Room, members, &Answers::default()), expected, "{members:?}");
    }

    const ALL: &[u32] = &[0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11];
    /// The two publishers' messages overtook each other; each publisher's own order is kept.
    const ALL_OTHERWISE: &[u32] = &[1, 0, 2, 4, 3, 5, 6, 7, 8, 10, 9, 11];

    #[test]
    fn a_faultless_room_has_no_fault() {
        check(&[ALL, ALL, ALL], Faults::default());
        check(&[ALL_OTHERWISE, ALL_OTHERWISE], Faults::default());
    }

    #[test]
    fn a_lost_message_is_missing_and_nothing_else() {
        for lost in ALL {
            let rest: Vec<u32> = ALL.iter().copied().filter(|index| index != lost).collect();
            check(&[ALL, &rest], Faults { missing: 1, ..Faults::default() });
            // The same when the member that misses the message was the first to receive all others.
            check(&[&rest, ALL], Faults { missing: 1, ..Faults::default() });
        }
        check(&[&ALL[..9], ALL], Faults { missing: 3, ..Faults::default() });
        check(&[&[], ALL], Faults { missing: 12, ..Faults::default() });
        check(&[&ALL[4..], &ALL[..4], ALL], Faults { missing: 12, ..Faults::default() });
    }

    #[test]
    fn a_message_twice_is_a_duplicate() {
        for twice in ALL {
            let mut at_once = ALL.to_vec();
            at_once.insert(*twice as usize, *twice);
            check(&[ALL, &at_once], Faults { duplicates: 1, ..Faults::default() });
            let mut at_the_end = ALL.to_vec();
            at_the_end.push(*twice);
            check(&[&at_the_end, ALL], Faults { duplicates: 1, ..Faults::default() });
        }
    }

    #[test]
    fn two_messages_swapped_are_out_of_order_once() {
        for at in 0..11 {
            let mut swapped = ALL.to_vec();
            swapped.swap(at, at + 1);
            check(&[ALL, &swapped, ALL], Faults { out_of_order: 1, ..Faults::default() });
        }
        let one_publisher = &[2, 1, 0, 3, 4, 5, 6, 7, 8, 9, 10, 11];
        let found = hear(OrderDemand::Publisher, &[one_publisher, ALL], &Answers::default());
        assert_eq!(found, Faults { out_of_order: 1, ..Faults::default() });
    }

    #[test]
    fn a_publisher_out_of_order_at_the_first_member_is_not_blamed_on_the_others() {
        let schedule = Schedule::steady(4.0, 1, Duration::ZERO, Duration::from_secs(1)).expect("a valid schedule");
        let mut checker = Checker::new(schedule.clone(), OrderDemand::Room);
        let mut out_of_order = Vec::new();
        for heard in [[1, 0, 2, 3], [0, 1, 2, 3], [0, 1, 2, 3]] {
            let mut member = Member::new(&schedule);
            let results = heard.map(|index| checker.observe(&mut member, schedule.slot(index), id(index)).result);
            out_of_order.push(results.iter().filter(|result| **result == DeliveryResult::OutOfOrder).count());
        }
        assert_eq!(out_of_order, [1, 0, 0]);
    }

    #[test]
    fn losses_are_never_taken_for_disorder_however_members_take_turns() {
        for seed in 1..3000 {
            let mut draws = Draws::new(seed, 0, 0);
            let keep_some =
                |draws: &mut Draws| ALL.iter().copied().filter(|_| draws.below(5) > 0).collect::<Vec<u32>>();
            let kept: Vec<Vec<u32>> = (0..6).map(|_| keep_some(&mut draws)).collect();
            let mut views = Vec::new();
            for members in kept.chunks(3) {
                let heard: Vec<&[u32]> = members.iter().map(Vec::as_slice).collect();
                let turns = turns(&mut draws, &heard).into_iter();
                let (faults, view) = hear_in_turns(OrderDemand::Room, &heard, turns, &Answers::default());
                let missing = heard.iter().map(|heard| (ALL.len() - heard.len()) as u64).sum();
                assert_eq!(faults, Faults { missing, ..Faults::default() }, "seed {seed}");
                views.push(view);
            }
            assert_eq!(reconcile(&views.iter().collect::<Vec<_>>(), &[]).out_of_order, 0, "seed {seed}");
        }
    }

    #[test]
    fn disorder_is_found_however_members_take_turns() {
        for seed in 1..3000 {
            let mut draws = Draws::new(seed, 0, 0);
            let mut moved = ALL.to_vec();
            let (from, to) = (draws.below(12), draws.below(12));
            let message = moved.remove(from as usize);
            moved.insert(to as usize, message);
            let heard: Vec<&[u32]> = vec![ALL, &moved, ALL];
            let turns = turns(&mut draws, &heard).into_iter();
            let (faults, view) = hear_in_turns(OrderDemand::Room, &heard, turns, &Answers::default());
            let found = faults.out_of_order + reconcile(&[&view], &[]).unplaced;
            assert_eq!(found > 0, from != to, "seed {seed}: {from} to {to}");
            assert_eq!((faults.missing, faults.duplicates), (0, 0), "seed {seed}");
        }
    }

    #[test]
    fn an_order_of_ones_own_matters_only_when_one_order_is_asked_for() {
        let members = &[ALL, ALL_OTHERWISE];
        assert_eq!(hear(OrderDemand::Room, members, &Answers::default()).out_of_order, 3);
        assert_eq!(hear(OrderDemand::Publisher, members, &Answers::default()), Faults::default());
    }

    #[test]
    fn another_id_is_noticed() {
        let mut checker = Checker::new(schedule(), OrderDemand::Room);
        let slot = schedule().slot(0);
        assert_eq!(checker.observe(&mut Member::new(&schedule()), slot, 1).result, DeliveryResult::InOrder);
        assert_eq!(checker.observe(&mut Member::new(&schedule()), slot, 2).result, DeliveryResult::OtherId);
    }

    #[test]
    fn what_is_not_scheduled_is_said_so() {
        let mut checker = Checker::new(schedule(), OrderDemand::Room);
        for slot in [ScheduleSlot { publisher: 2, number: 0 }, ScheduleSlot { publisher: 0, number: 6 }] {
            assert_eq!(checker.observe(&mut Member::new(&schedule()), slot, 1).result, DeliveryResult::Unscheduled);
        }
    }

    #[test]
    fn refused_and_unanswered_messages_are_not_expected() {
        let mut checker = Checker::new(schedule(), OrderDemand::Room);
        let mut member = Member::new(&schedule());
        for index in [0, 1, 3, 4, 7, 9] {
            checker.observe(&mut member, schedule().slot(index), id(index));
        }
        // By index: refused 2 and 4 and 11, unanswered 5 and 7; accepted but lost 6, 8 and 10.
        let answers = Answers {
            refused: HashMap::from([(0, vec![1, 2]), (1, vec![5])]),
            unanswered: HashMap::from([(1, vec![2, 3])]),
            ..Answers::default()
        };
        let expected = MemberTally {
            expected: 7,
            delivered: 4,
            missing: 3,
            refused_but_delivered: 1,
            unanswered_but_delivered: 1,
            ..MemberTally::default()
        };
        assert_eq!(checker.tally(&member, &answers), expected);
    }

    #[test]
    fn threads_are_compared_with_each_other() {
        let view = |order: &[u32], members| Sightings {
            members,
            order: order.to_vec(),
            ids: order.iter().map(|index| (*index, id(*index))).collect(),
        };
        let acknowledged: Vec<(u32, u64)> = ALL.iter().map(|index| (*index, id(*index))).collect();
        let check = |views: &[Sightings], acknowledged: &[(u32, u64)], expected| {
            assert_eq!(reconcile(&views.iter().collect::<Vec<_>>(), acknowledged), expected);
        };
        let none = Disagreement::default();
        check(&[], &acknowledged, none);
        check(&[view(ALL, 5), view(ALL, 7)], &acknowledged, none);
        check(&[view(&ALL[3..], 5), view(ALL, 7)], &acknowledged, none);
        check(&[view(ALL, 9), view(ALL_OTHERWISE, 2)], &acknowledged, Disagreement { out_of_order: 6, ..none });
        check(&[view(ALL, 9)], &[(3, id(3) + 50)], Disagreement { other_ids: 1, ..none });
        check(&[view(&ALL[..3], 9)], &[(3, id(2))], Disagreement { shared_ids: 1, ..none });
    }
}
