//! Checks the newest page of a room's history when it is read while members publish.

use crate::base::content::{self, ContentFault, ScheduleSlot};
use crate::checks::acceptances::MessageId;
use crate::checks::check::{Checker, fingerprint};
use crate::plan::actions::{Action, Actions};
use crate::plan::run_plan::RoomPlan;
use crate::wire::Kind;
use crate::wire::history_page::Item;

/// What is known of the room.
#[derive(Clone, Copy)]
pub struct Room<'a> {
    pub run: u32,
    pub plan: &'a RoomPlan,
    pub actions: &'a Actions,
    pub checker: &'a Checker,
}

/// Checks a page, newest item first. The message `known`, which the crowd had received before the request, must be on
/// the page, unless newer messages fill the page or the message is removed at some point.
pub fn judge(items: &[Item], room: Room<'_>, limit: u32, known: Option<u32>) -> Result<(), String> {
    if items.len() > limit as usize {
        return Err(format!("{} items, {limit} were asked for", items.len()));
    }
    // The id of the item before, and the place of the last item whose place is known.
    let (mut newer_id, mut newer_place): (Option<MessageId>, Option<u32>) = (None, None);
    let (mut has_known, mut foreign) = (false, false);
    for item in items {
        let content = match content::read_stored(&item.content, room.run) {
            Ok(stored) => stored.content,
            Err(ContentFault::Foreign) => {
                foreign = true;
                continue;
            }
            Err(ContentFault::Corrupt) => return Err(format!("a corrupt content: {}", shown(&item.content))),
        };
        let index = room.index(content.slot, item)?;
        has_known |= Some(index) == known;
        let place = room.checker.place(index);
        let id = MessageId::read(&item.message_id);
        let falls = newer_place.zip(place).is_none_or(|(newer, place)| place < newer);
        if newer_id == Some(id) || !falls {
            return Err(format!("not newest first at {}", item.message_id));
        }
        (newer_id, newer_place) = (Some(id), place.or(newer_place));
    }
    let full = items.len() == limit as usize;
    match known.filter(|_| !has_known && !full && !foreign) {
        Some(index) if room.stays(index) => Err(format!("message {index} of the room had been heard and is not there")),
        _ => Ok(()),
    }
}

impl Room<'_> {
    /// The schedule's index of the message that an item holds, also when the item's content is that of an update.
    fn index(&self, named: ScheduleSlot, item: &Item) -> Result<u32, String> {
        let of = |slot: ScheduleSlot| self.plan.schedule.index(slot);
        let publisher = named.publisher.checked_sub(self.plan.users.start);
        let slot = publisher.map(|publisher| ScheduleSlot { publisher, ..named });
        let index =
            slot.and_then(of).ok_or_else(|| format!("a message that was not scheduled: {}", shown(&item.content)))?;
        let target = slot.and_then(|slot| match self.actions.of(slot.number) {
            Action::Update { target } => of(ScheduleSlot { number: target, ..slot }),
            Action::Say | Action::Remove { .. } => None,
        });
        // The crowd knows the message by this id, if at all: the id is the message's own, or that of the message it
        // updates.
        let expected = fingerprint(Kind::New, &item.message_id);
        let is = |index: u32| self.checker.fingerprint(index).filter(|known| *known == expected).map(|_| index);
        let known = |index: u32| self.checker.fingerprint(index).is_some();
        match (is(index), target.and_then(is)) {
            (Some(index), _) | (None, Some(index)) => Ok(index),
            // The crowd was not present when the message was sent, so it cannot tell whether the message was updated
            // since.
            (None, None) if target.is_some() || !known(index) => Ok(target.unwrap_or(index)),
            _ => Err(format!("a message under another id than the crowd heard: {}", item.message_id)),
        }
    }

    /// Whether a message that was received stays in the history for good. An update or a removal does not, nor does a
    /// message that is removed at some point.
    fn stays(&self, index: u32) -> bool {
        let ScheduleSlot { number, .. } = self.plan.schedule.slot(index);
        self.actions.of(number) == Action::Say && self.actions.removal_of(number).is_none()
    }
}

fn shown(text: &str) -> String {
    text.chars().take(200).collect()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::base::content::Content;
    use crate::checks::check::Member;
    use crate::plan::actions::ActionShares;
    use crate::plan::run_plan::OrderDemand;
    use crate::plan::schedule::Schedule;
    use crate::wire::Entrance;

    fn item(index: u32, id: &str) -> Item {
        let mut content = String::new();
        let slot = ScheduleSlot { publisher: 5, number: index };
        content::write(&mut content, 7, Content { slot, intended_ns: 1 }, 100);
        Item { message_id: id.to_owned(), code: 0, content }
    }

    /// A room in which one publisher has sent ten messages, of which the crowd received six.
    fn check(items: &[(u32, &str)], limit: u32, known: Option<u32>, expected: Result<(), &str>) {
        let schedule = Schedule::steady(10.0, 1, Duration::ZERO, Duration::from_secs(1)).expect("valid");
        let mut checker = Checker::new(schedule.clone(), OrderDemand::Room);
        let mut member = Member::new(&schedule);
        for index in 0..6 {
            checker.observe(&mut member, schedule.slot(index), fingerprint(Kind::New, &format!("id-{index}")));
        }
        let plan = RoomPlan {
            users: 5..9,
            entrance: Entrance { room: "r".to_owned(), hidden: false, persistence: true },
            schedule,
            payload_bytes: 100,
            actions: ActionShares::default(),
        };
        let actions = Actions::new(plan.actions);
        let room = Room { run: 7, plan: &plan, actions: &actions, checker: &checker };
        let items: Vec<Item> = items.iter().map(|(index, id)| item(*index, id)).collect();
        let found = judge(&items, room, limit, known);
        let matches = match (&found, expected) {
            (Ok(()), Ok(())) => true,
            (Err(found), Err(expected)) => found.contains(expected),
            _ => false,
        };
        assert!(matches, "{items:?}: {found:?}, not {expected:?}");
    }

    #[test]
    fn a_page_has_the_newest_in_order_and_what_was_heard() {
        let newest = [(6, "id-6"), (5, "id-5"), (4, "id-4")];
        check(&newest, 10, Some(5), Ok(()));
        check(&newest, 10, None, Ok(()));
        check(&[], 10, None, Ok(()));
        // On a full page, newer messages may have pushed the known message off.
        check(&newest, 3, Some(2), Ok(()));
        check(&newest, 10, Some(2), Err("had been heard"));
        check(&[], 10, Some(5), Err("had been heard"));
        check(&newest, 2, Some(5), Err("were asked for"));
        check(&[(4, "id-4"), (5, "id-5")], 10, None, Err("not newest first"));
        check(&[(5, "id-5"), (5, "id-5")], 10, None, Err("not newest first"));
        // An item that the crowd has not heard yet does not hide the disorder around it.
        check(&[(4, "id-4"), (7, "id-7"), (5, "id-5")], 10, None, Err("not newest first"));
        check(&[(5, "id-5"), (7, "id-7"), (5, "id-5")], 10, None, Err("not newest first"));
        check(&[(7, "id-7"), (5, "id-5"), (4, "id-4")], 10, Some(5), Ok(()));
        check(&[(7, "id-7"), (7, "id-7")], 10, None, Err("not newest first"));
        check(&[(5, "id-4")], 10, None, Err("another id"));
        check(&[(50, "id-50")], 10, None, Err("not scheduled"));
    }
}
