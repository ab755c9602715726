//! Checks the whole history of a room at the end of a run, read in both directions. It must hold exactly what was
//! accepted, in the room's order, with updates applied and removed messages gone.

use std::collections::{HashMap, HashSet};

use serde::Serialize;

use crate::base::content::{self, ContentFault, ScheduleSlot, Stored};
use crate::checks::acceptances::{Acceptance, MessageId};
use crate::checks::check::Sightings;
use crate::plan::actions::Actions;
use crate::plan::run_plan::RoomPlan;
use crate::wire::Kind;
use crate::wire::history_page::Item;

/// What was found in a room's history.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug, Serialize)]
pub struct HistoryFigures {
    /// How many messages had to be there.
    pub expected: u64,
    pub found: u64,
    pub missing: u64,
    pub duplicates: u64,
    pub out_of_order: u64,
    /// Contents that differ from what was written, or from the update.
    pub corrupt: u64,
    /// Contents with the same value in other bytes: not a fault of a history that keeps values.
    pub reworded: u64,
    pub removed_but_there: u64,
    /// Items of this run that were not accepted, although the server answered their publish.
    pub unknown: u64,
    /// Items that only one of the two directions has, or has at that position.
    pub directions_differ: u64,
    pub foreign: u64,
    /// Rooms whose history could not be read, so that nothing is known of it.
    pub unread: u64,
}

impl HistoryFigures {
    pub fn add(&mut self, other: &HistoryFigures) {
        self.expected += other.expected;
        self.found += other.found;
        self.missing += other.missing;
        self.duplicates += other.duplicates;
        self.out_of_order += other.out_of_order;
        self.corrupt += other.corrupt;
        self.reworded += other.reworded;
        self.removed_but_there += other.removed_but_there;
        self.unknown += other.unknown;
        self.directions_differ += other.directions_differ;
        self.foreign += other.foreign;
        self.unread += other.unread;
    }
}

/// What a room's history must be.
pub struct Expectation<'a> {
    run: u32,
    room: &'a RoomPlan,
    /// The messages accepted as new, by id.
    messages: HashMap<MessageId, Expected>,
    removed: HashSet<MessageId>,
    /// Numbers whose publishers got no answer: they may be in the history or not.
    unanswered: HashSet<(u32, u32)>,
    /// By message: its place in the room's order.
    places: HashMap<u32, usize>,
}

struct Expected {
    index: u32,
    /// The slot whose content the message has: its own, or that of its update.
    said: ScheduleSlot,
    /// Whether a removal of it got no answer: then the message may be there or not.
    perhaps_removed: bool,
}

impl<'a> Expectation<'a> {
    pub fn new(
        run: u32,
        room: &'a RoomPlan,
        acceptances: &[Acceptance],
        unanswered: &HashMap<u32, Vec<u32>>,
        views: &[&Sightings],
    ) -> Self {
        let pairs = |(publisher, numbers): (&u32, &Vec<u32>)| {
            let publisher = *publisher;
            numbers.iter().map(move |number| (publisher, *number)).collect::<Vec<_>>()
        };
        let unanswered: HashSet<(u32, u32)> = unanswered.iter().flat_map(pairs).collect();
        let (schedule, actions) = (&room.schedule, Actions::new(room.actions));
        let of_kind = |kind| acceptances.iter().filter(move |acceptance| acceptance.kind == kind);
        let new = |Acceptance { index, id, .. }: &Acceptance| {
            let said = schedule.slot(*index);
            let removal = actions.removal_of(said.number).map(|number| (said.publisher, number));
            let perhaps_removed = removal.is_some_and(|removal| unanswered.contains(&removal));
            (*id, Expected { index: *index, said, perhaps_removed })
        };
        let mut messages: HashMap<_, _> = of_kind(Kind::New).map(new).collect();
        for update in of_kind(Kind::Update) {
            // No message is updated twice.
            messages.entry(update.id).and_modify(|message| message.said = schedule.slot(update.index));
        }
        let removed: HashSet<_> = of_kind(Kind::Removal).map(|removal| removal.id).collect();
        let order = views.iter().map(|view| &view.order).max_by_key(|order| order.len());
        let places = order.map(|order| order.iter().enumerate().map(|(place, index)| (*index, place)).collect());
        Self { run, room, messages, removed, unanswered, places: places.unwrap_or_default() }
    }

    /// Compares with what was read: once oldest first, once newest first.
    pub fn judge(&self, forward: &[Item], backward: &[Item]) -> HistoryFigures {
        let mut figures = self.judge_items(forward);
        let mut turned: Vec<&Item> = backward.iter().collect();
        turned.reverse();
        let same = forward.iter().zip(&turned).filter(|(one, other)| one == *other).count();
        figures.directions_differ = (forward.len().max(turned.len()) - same) as u64;
        figures
    }

    fn judge_items(&self, items: &[Item]) -> HistoryFigures {
        let mut figures = HistoryFigures::default();
        let (mut seen, mut furthest) = (HashSet::new(), None);
        for item in items {
            let Stored { content, reworded } = match content::read_stored(&item.content, self.run) {
                Ok(stored) => stored,
                Err(ContentFault::Foreign) => {
                    figures.foreign += 1;
                    continue;
                }
                Err(ContentFault::Corrupt) => {
                    figures.corrupt += 1;
                    continue;
                }
            };
            let id = MessageId::read(&item.message_id);
            if !seen.insert(id) {
                figures.duplicates += 1;
                continue;
            }
            let Some(expected) = self.messages.get(&id) else {
                figures.unknown += u64::from(!self.is_unanswered(content.slot));
                continue;
            };
            if self.removed.contains(&id) {
                figures.removed_but_there += 1;
                continue;
            }
            figures.found += 1;
            figures.reworded += u64::from(reworded);
            let said =
                ScheduleSlot { publisher: content.slot.publisher.wrapping_sub(self.room.users.start), ..content.slot };
            // An update whose publisher got no answer may have been applied.
            figures.corrupt += u64::from(said != expected.said && !self.is_unanswered(content.slot));
            let place = self.places.get(&expected.index).copied();
            figures.out_of_order += u64::from(place.is_some() && place < furthest);
            furthest = furthest.max(place);
        }
        let absent = self.messages.iter().filter(|(id, _)| !seen.contains(id));
        let missing = absent.filter(|(id, message)| !self.removed.contains(id) && !message.perhaps_removed);
        figures.missing = missing.count() as u64;
        figures.expected = figures.found + figures.missing;
        assert!(figures.found <= self.messages.len() as u64, "what is found was accepted");
        figures
    }

    fn is_unanswered(&self, named: ScheduleSlot) -> bool {
        let publisher = named.publisher.wrapping_sub(self.room.users.start);
        self.unanswered.contains(&(publisher, named.number))
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::base::content::Content;
    use crate::plan::actions::ActionShares;
    use crate::plan::schedule::Schedule;
    use crate::wire::Entrance;

    const RUN: u32 = 7;
    /// The room's first user.
    const FIRST: u32 = 100;

    fn room() -> RoomPlan {
        RoomPlan {
            users: FIRST..FIRST + 5,
            entrance: Entrance { room: "r".to_owned(), hidden: false, persistence: true },
            schedule: Schedule::steady(8.0, 2, Duration::ZERO, Duration::from_secs(1)).expect("valid"),
            payload_bytes: 100,
            actions: ActionShares::default(),
        }
    }

    /// The item of message `index`, with the content of message `said`.
    fn item(index: u32, said: u32) -> Item {
        let slot = room().schedule.slot(said);
        let mut content = String::new();
        let content_of = Content { slot: ScheduleSlot { publisher: FIRST + slot.publisher, ..slot }, intended_ns: 1 };
        content::write(&mut content, RUN, content_of, 100);
        Item { message_id: format!("id-{index}"), code: 0, content }
    }

    fn items(indices: &[u32]) -> Vec<Item> {
        indices.iter().map(|index| item(*index, if *index == 1 { 6 } else { *index })).collect()
    }

    /// Of eight messages, 6 updates 1 and 7 removes 3. Message 5 was refused, and 4 was never answered. The order is
    /// 0, 2, 1, 3.
    fn judge(forward: &[Item], backward: &[Item]) -> HistoryFigures {
        let acceptance = |(index, kind, about): (u32, Kind, u32)| Acceptance {
            index,
            kind,
            at_ns: 0,
            id: MessageId::read(&format!("id-{about}")),
        };
        let acceptances = [
            (0, Kind::New, 0),
            (1, Kind::New, 1),
            (2, Kind::New, 2),
            (3, Kind::New, 3),
            (6, Kind::Update, 1),
            (7, Kind::Removal, 3),
        ];
        let view = Sightings { members: 1, order: vec![0, 2, 1, 3, 6, 7], ids: Vec::new() };
        let unanswered = HashMap::from([(0, vec![2])]);
        let room = room();
        Expectation::new(RUN, &room, &acceptances.map(acceptance), &unanswered, &[&view]).judge(forward, backward)
    }

    fn check(forward: &[Item], expected: HistoryFigures) {
        let backward: Vec<Item> = forward.iter().rev().cloned().collect();
        assert_eq!(judge(forward, &backward), expected);
    }

    const WHOLE: HistoryFigures = HistoryFigures {
        expected: 3,
        found: 3,
        missing: 0,
        duplicates: 0,
        out_of_order: 0,
        corrupt: 0,
        reworded: 0,
        removed_but_there: 0,
        unknown: 0,
        directions_differ: 0,
        foreign: 0,
        unread: 0,
    };

    #[test]
    fn the_history_is_what_was_accepted_with_updates_and_without_what_was_removed() {
        check(&items(&[0, 2, 1]), WHOLE);
        // The message that was never answered may be there or not.
        check(&items(&[0, 2, 4, 1]), WHOLE);
    }

    #[test]
    fn every_kind_of_fault_is_told_from_the_others() {
        check(&items(&[0, 1]), HistoryFigures { found: 2, missing: 1, ..WHOLE });
        check(&items(&[0, 2, 1, 2]), HistoryFigures { duplicates: 1, ..WHOLE });
        check(&items(&[0, 1, 2]), HistoryFigures { out_of_order: 1, ..WHOLE });
        check(&items(&[0, 2, 1, 3]), HistoryFigures { removed_but_there: 1, ..WHOLE });
        check(&items(&[0, 2, 1, 5]), HistoryFigures { unknown: 1, ..WHOLE });
        // The update was not applied.
        check(&[item(0, 0), item(2, 2), item(1, 1)], HistoryFigures { corrupt: 1, ..WHOLE });
        let mut broken = items(&[0, 2, 1]);
        broken[1].content.push('x');
        check(&broken, HistoryFigures { corrupt: 1, missing: 1, found: 2, ..WHOLE });
    }

    #[test]
    fn an_item_twice_is_a_duplicate_whether_its_publish_was_answered_or_not() {
        check(&items(&[0, 2, 4, 1, 4]), HistoryFigures { duplicates: 1, ..WHOLE });
        check(&items(&[0, 2, 1, 5, 5]), HistoryFigures { unknown: 1, duplicates: 1, ..WHOLE });
    }

    #[test]
    fn another_run_is_foreign_and_its_value_in_other_bytes_is_no_fault() {
        let mut other = item(9, 0);
        other.content.clear();
        let slot = ScheduleSlot { publisher: FIRST, number: 0 };
        content::write(&mut other.content, RUN + 1, Content { slot, intended_ns: 1 }, 100);
        let mut all = items(&[0, 2, 1]);
        all.push(other);
        check(&all, HistoryFigures { foreign: 1, ..WHOLE });
        let mut reworded = items(&[0, 2, 1]);
        reworded[0].content = reworded[0].content.replace(',', ", ");
        check(&reworded, HistoryFigures { reworded: 1, ..WHOLE });
    }

    /// A message whose removal got no answer may be there or not; the run has told that an answer is missing.
    #[test]
    fn a_removal_without_an_answer_may_have_been_carried_out() {
        let mut room = room();
        room.actions = ActionShares { updates: 0, removals: 50 };
        room.schedule = Schedule::steady(8.0, 1, Duration::ZERO, Duration::from_secs(1)).expect("valid");
        let actions = Actions::new(room.actions);
        let (target, removal) =
            (0..8).find_map(|number| Some((number, actions.removal_of(number)?))).expect("half of the numbers");
        let kept = (0..8).find(|number| actions.removal_of(*number).is_none() && *number != removal);
        let kept = kept.expect("the removals themselves");
        let accepted =
            |index: u32| Acceptance { index, kind: Kind::New, at_ns: 0, id: MessageId::read(&format!("id-{index}")) };
        let item = |index: u32| {
            let mut content = String::new();
            let slot = ScheduleSlot { publisher: FIRST, number: index };
            content::write(&mut content, RUN, Content { slot, intended_ns: 1 }, 100);
            Item { message_id: format!("id-{index}"), code: 0, content }
        };
        let judge = |unanswered: &[u32], there: &[u32]| {
            let unanswered = HashMap::from([(0, unanswered.to_vec())]);
            let expectation = Expectation::new(RUN, &room, &[accepted(target), accepted(kept)], &unanswered, &[]);
            let items: Vec<Item> = there.iter().copied().map(item).collect();
            let found = expectation.judge_items(&items);
            (found.expected, found.found, found.missing, found.removed_but_there)
        };
        assert_eq!(judge(&[], &[target, kept]), (2, 2, 0, 0));
        assert_eq!(judge(&[], &[kept]), (2, 1, 1, 0), "nothing removes it");
        assert_eq!(judge(&[removal], &[target, kept]), (2, 2, 0, 0));
        assert_eq!(judge(&[removal], &[kept]), (1, 1, 0, 0));
        assert_eq!(judge(&[removal], &[target]), (2, 1, 1, 0), "the other message is missing all the same");
    }

    #[test]
    fn both_directions_have_the_same() {
        let (forward, shorter) = (items(&[0, 2, 1]), items(&[1, 2]));
        assert_eq!(judge(&forward, &shorter).directions_differ, 3);
        assert_eq!(judge(&forward, &items(&[1, 0, 2])).directions_differ, 2);
    }
}
