//! Which messages make a page of history, and which cursors lead on from it (docs/protocol.md, section 6).
//!
//! Pure: a listing says what to read from the store, which is one message more than the page holds. Then it makes the
//! page.

use engine::id::MessageId;
use engine::message::Message;
use storage::{PageStart, Part};

use super::cursor::{Cursor, Direction, PageStep};

/// What a client asks for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Listing {
    pub direction: Direction,
    pub limit: usize,
    /// A cursor of this direction.
    pub cursor: Option<Cursor>,
    /// Only messages between these two. The two themselves are not included.
    pub after: Option<MessageId>,
    pub before: Option<MessageId>,
}

/// The page that the client gets.
#[derive(Debug)]
pub struct Page {
    pub messages: Vec<Message>,
    pub next: Option<Cursor>,
    pub previous: Option<Cursor>,
    /// Leads to messages newer than the page's last message, whatever the page's order.
    pub cacheable: Option<Cursor>,
}

impl Listing {
    /// Where the store is to begin reading.
    pub fn place(&self) -> PageStart {
        use Direction::{NewestFirst, OldestFirst};
        match (self.direction, self.cursor.map(|cursor| (cursor.step, cursor.id))) {
            (OldestFirst, None) => self.after.map_or(PageStart::Oldest, PageStart::After),
            (NewestFirst, None) => self.before.map_or(PageStart::Newest, PageStart::Before),
            (OldestFirst, Some((PageStep::Next, id))) | (NewestFirst, Some((PageStep::Previous, id))) => {
                PageStart::After(self.after.map_or(id, |after| after.max(id)))
            }
            (NewestFirst, Some((PageStep::Next, id))) | (OldestFirst, Some((PageStep::Previous, id))) => {
                PageStart::Before(self.before.map_or(id, |before| before.min(id)))
            }
        }
    }

    fn holds(&self, id: MessageId) -> bool {
        self.after.is_none_or(|after| id > after) && self.before.is_none_or(|before| id < before)
    }

    /// How many messages the store is to read: one more than the page holds, to tell whether there are more.
    pub fn read_limit(&self) -> usize {
        self.limit + 1
    }

    /// Makes the page from the messages that the store has read. If the store has stopped, the cursor that leads on in
    /// the direction of reading does so from the place where it did, and the page may be empty.
    pub fn page(&self, read: Part<Message, MessageId>) -> Page {
        let Part { items: mut messages, stopped } = read;
        debug_assert!(messages.len() <= self.read_limit(), "{} messages were read", messages.len());
        let rises = matches!(self.place(), PageStart::Oldest | PageStart::After(_));
        debug_assert!(
            messages.windows(2).all(|pair| pair[0].id != pair[1].id && (pair[0].id < pair[1].id) == rises),
            "messages are read in the order of their ids"
        );
        let stopped = stopped.filter(|id| self.holds(*id));
        messages.retain(|message| self.holds(message.id));
        let more = messages.len() > self.limit;
        messages.truncate(self.limit);
        let back = self.cursor.is_some_and(|cursor| cursor.step == PageStep::Previous);
        if back {
            messages.reverse();
        }
        let Some((first, last)) = messages.first().map(|message| message.id).zip(messages.last().map(|last| last.id))
        else {
            return self.empty_page(stopped);
        };
        let cursor = |step, id| Cursor { direction: self.direction, step, id };
        let on = if more { Some(if back { first } else { last }) } else { stopped };
        // When the client goes back, the next page is the one that it came from.
        let next = if back { Some(last) } else { on };
        let previous = if back { on } else { self.cursor.map(|_| first) };
        Page {
            messages,
            next: next.map(|id| cursor(PageStep::Next, id)),
            previous: previous.map(|id| cursor(PageStep::Previous, id)),
            cacheable: Some(newer(last)),
        }
    }

    fn empty_page(&self, stopped: Option<MessageId>) -> Page {
        let cursor = |step, id| Cursor { direction: self.direction, step, id };
        let back = self.cursor.is_some_and(|cursor| cursor.step == PageStep::Previous);
        // Reading forward, the store has seen that there is nothing up to where it stopped.
        let seen = stopped.filter(|_| self.direction == Direction::OldestFirst && !back);
        Page {
            messages: Vec::new(),
            next: stopped.map(|id| cursor(PageStep::Next, id)),
            previous: stopped.filter(|_| back).map(|id| cursor(PageStep::Previous, id)),
            cacheable: seen.or(self.cursor.map(|cursor| cursor.id)).map(newer),
        }
    }
}

fn newer(than: MessageId) -> Cursor {
    Cursor { direction: Direction::OldestFirst, step: PageStep::Next, id: than }
}

#[cfg(test)]
mod tests {
    use engine::id::{ChannelId, Sequence, Timestamp, UserId};
    use engine::message::MessageCode;
    use uuid::Uuid;

    use super::*;

    fn message(number: u128) -> Message {
        Message {
            channel: ChannelId::room("lobby").unwrap(),
            id: MessageId(Uuid::from_u128(number)),
            sequence: Sequence(number as u64),
            code: MessageCode::Chat,
            sender: UserId(Uuid::nil()),
            username: "alice".into(),
            content: "{}".into(),
            create_time: Timestamp(0),
            update_time: Timestamp(0),
            persistent: true,
        }
    }

    /// What a store with these messages reads.
    fn read(kept: &[u128], listing: &Listing) -> Vec<Message> {
        let number = |id: MessageId| id.0.as_u128();
        let chosen: Vec<u128> = match listing.place() {
            PageStart::Oldest => kept.to_vec(),
            PageStart::Newest => kept.iter().rev().copied().collect(),
            PageStart::After(id) => kept.iter().copied().filter(|kept| *kept > number(id)).collect(),
            PageStart::Before(id) => kept.iter().rev().copied().filter(|kept| *kept < number(id)).collect(),
        };
        chosen.into_iter().take(listing.read_limit()).map(message).collect()
    }

    fn list(kept: &[u128], direction: Direction, cursor: Option<Cursor>) -> Page {
        bounded(kept, direction, cursor, (None, None))
    }

    fn bounded(kept: &[u128], direction: Direction, cursor: Option<Cursor>, bounds: Bounds) -> Page {
        let id = |number| MessageId(Uuid::from_u128(number));
        let listing = Listing { direction, limit: 3, cursor, after: bounds.0.map(id), before: bounds.1.map(id) };
        listing.page(Part::whole(read(kept, &listing)))
    }

    /// The bounds: after and before.
    type Bounds = (Option<u128>, Option<u128>);

    #[test]
    fn bounds_hold_on_every_page_of_both_orders() {
        let between = |direction, cursor| bounded(&SEVEN, direction, cursor, (Some(1), Some(6)));
        let first = between(Direction::OldestFirst, None);
        check(&first, &[2, 3, 4], true, false);
        let second = between(Direction::OldestFirst, first.next);
        check(&second, &[5], false, true);
        check(&between(Direction::OldestFirst, second.previous), &[2, 3, 4], true, false);
        let newest = between(Direction::NewestFirst, None);
        check(&newest, &[5, 4, 3], true, false);
        let last = between(Direction::NewestFirst, newest.next);
        check(&last, &[2], false, true);
        check(&between(Direction::NewestFirst, last.previous), &[5, 4, 3], true, false);
    }

    #[test]
    fn bounds_of_one_side_and_of_nothing() {
        let oldest = |bounds| bounded(&SEVEN, Direction::OldestFirst, None, bounds);
        check(&oldest((Some(5), None)), &[6, 7], false, false);
        check(&oldest((None, Some(3))), &[1, 2], false, false);
        for nothing in [(Some(3), Some(4)), (Some(5), Some(2)), (Some(3), Some(3)), (Some(7), None), (None, Some(1))] {
            check(&oldest(nothing), &[], false, false);
        }
        check(&bounded(&SEVEN, Direction::NewestFirst, None, (Some(5), None)), &[7, 6], false, false);
        // A cursor outside the bounds gives no message outside the bounds.
        let outside = Some(newer(MessageId(Uuid::from_u128(1))));
        check(&bounded(&SEVEN, Direction::OldestFirst, outside, (Some(4), Some(6))), &[5], false, true);
    }

    /// The page's messages, and whether there are a next and a previous page.
    fn check(page: &Page, messages: &[u128], next: bool, previous: bool) {
        let numbers: Vec<u128> = page.messages.iter().map(|message| message.id.0.as_u128()).collect();
        assert_eq!((numbers.as_slice(), page.next.is_some(), page.previous.is_some()), (messages, next, previous));
    }

    const SEVEN: [u128; 7] = [1, 2, 3, 4, 5, 6, 7];

    #[test]
    fn oldest_first_there_and_back() {
        let list = |cursor| list(&SEVEN, Direction::OldestFirst, cursor);
        let first = list(None);
        check(&first, &[1, 2, 3], true, false);
        let second = list(first.next);
        check(&second, &[4, 5, 6], true, true);
        let third = list(second.next);
        check(&third, &[7], false, true);
        let back = list(third.previous);
        check(&back, &[4, 5, 6], true, true);
        let start = list(back.previous);
        check(&start, &[1, 2, 3], true, false);
        check(&list(start.next), &[4, 5, 6], true, true);
    }

    #[test]
    fn newest_first_there_and_back() {
        let list = |cursor| list(&SEVEN, Direction::NewestFirst, cursor);
        let first = list(None);
        check(&first, &[7, 6, 5], true, false);
        let second = list(first.next);
        check(&second, &[4, 3, 2], true, true);
        let third = list(second.next);
        check(&third, &[1], false, true);
        let back = list(third.previous);
        check(&back, &[4, 3, 2], true, true);
        check(&list(back.previous), &[7, 6, 5], true, false);
    }

    #[test]
    fn cacheable_continues_forward_from_both_orders() {
        let newest = list(&SEVEN, Direction::NewestFirst, None);
        check(&list(&SEVEN, Direction::OldestFirst, newest.cacheable), &[6, 7], false, true);
        let end = list(&SEVEN, Direction::OldestFirst, Some(newer(MessageId(Uuid::from_u128(6)))));
        let caught_up = list(&SEVEN, Direction::OldestFirst, end.cacheable);
        check(&caught_up, &[], false, false);
        assert_eq!(caught_up.cacheable, end.cacheable, "an empty page gives the same cursor back");
        let eight = [1, 2, 3, 4, 5, 6, 7, 8];
        check(&list(&eight, Direction::OldestFirst, caught_up.cacheable), &[8], false, true);
    }

    /// A page whose store has looked up to this message and found nothing.
    fn nothing_up_to(stopped: u128, direction: Direction, cursor: Option<Cursor>, bounds: Bounds) -> Page {
        let id = |number| MessageId(Uuid::from_u128(number));
        let listing = Listing { direction, limit: 3, cursor, after: bounds.0.map(id), before: bounds.1.map(id) };
        listing.page(Part { items: Vec::new(), stopped: Some(id(stopped)) })
    }

    #[test]
    fn a_page_that_stopped_leads_on() {
        use Direction::{NewestFirst, OldestFirst};
        let open = (None, None);
        let first = nothing_up_to(4, OldestFirst, None, open);
        check(&first, &[], true, false);
        check(&list(&SEVEN, OldestFirst, first.next), &[5, 6, 7], false, true);
        check(&list(&SEVEN, OldestFirst, first.cacheable), &[5, 6, 7], false, true);
        let newest = nothing_up_to(4, NewestFirst, None, open);
        check(&newest, &[], true, false);
        assert_eq!(newest.cacheable, None);
        check(&list(&SEVEN, NewestFirst, newest.next), &[3, 2, 1], false, true);
        let back = Some(Cursor { direction: OldestFirst, step: PageStep::Previous, id: MessageId(Uuid::from_u128(7)) });
        let gone_back = nothing_up_to(4, OldestFirst, back, open);
        check(&gone_back, &[], true, true);
        check(&list(&SEVEN, OldestFirst, gone_back.next), &[5, 6, 7], false, true);
        check(&list(&SEVEN, OldestFirst, gone_back.previous), &[1, 2, 3], true, false);
        assert_eq!(gone_back.cacheable, Some(newer(MessageId(Uuid::from_u128(7)))));
        check(&nothing_up_to(4, OldestFirst, None, (None, Some(4))), &[], false, false);
        check(&nothing_up_to(4, NewestFirst, None, (Some(5), None)), &[], false, false);
    }

    #[test]
    fn a_short_page_that_stopped_leads_on() {
        let two = |direction, cursor| {
            let listing = Listing { direction, limit: 3, cursor, after: None, before: None };
            let items = match direction {
                Direction::OldestFirst => vec![message(1), message(2)],
                Direction::NewestFirst => vec![message(7), message(6)],
            };
            listing.page(Part { items, stopped: Some(MessageId(Uuid::from_u128(4))) })
        };
        let oldest = two(Direction::OldestFirst, None);
        check(&oldest, &[1, 2], true, false);
        check(&list(&SEVEN, Direction::OldestFirst, oldest.next), &[5, 6, 7], false, true);
        check(&list(&SEVEN, Direction::OldestFirst, oldest.cacheable), &[3, 4, 5], true, true);
        let newest = two(Direction::NewestFirst, None);
        check(&newest, &[7, 6], true, false);
        check(&list(&SEVEN, Direction::NewestFirst, newest.next), &[3, 2, 1], false, true);
    }

    #[test]
    fn the_ends() {
        let empty = list(&[], Direction::OldestFirst, None);
        check(&empty, &[], false, false);
        assert_eq!(empty.cacheable, None);
        check(&list(&[1, 2, 3], Direction::OldestFirst, None), &[1, 2, 3], false, false);
        check(&list(&[1, 2, 3], Direction::NewestFirst, None), &[3, 2, 1], false, false);
        let gone = Some(newer(MessageId(Uuid::from_u128(2))));
        check(&list(&[1, 3], Direction::OldestFirst, gone), &[3], false, true);
    }
}
