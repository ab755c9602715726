//! Reads a whole history by cursor in both directions, and reports whether it is what was sent. Every later read of a
//! page is compared with what was found here.

use std::collections::{HashMap, HashSet};

use serde::Serialize;
use thiserror::Error;

use crate::base::{content, interrupt};
use crate::checks::known_pages::{KnownPage, PageKind, digest};
use crate::clients::pages::{Direction, Reader};
use crate::clients::sign_in::SignInError;
use crate::wire::history_page::{Item, Page};

use super::fill::Said;

/// A longer history is not read: the pages, and what they must hold, are kept in memory.
pub const ITEMS_MAX: usize = 1_000_000;

#[derive(Debug, Error)]
pub enum WalkError {
    #[error("the history cannot be read: {0}")]
    Exchange(#[from] SignInError),
    #[error("the history has more than {ITEMS_MAX} items, or its cursors lead nowhere")]
    Endless,
    #[error("stopped by Ctrl-C while the history was read for the first time")]
    Stopped,
    #[error("the history of this room is empty: there is nothing to read")]
    Empty,
}

/// A whole history in both directions, page by page.
pub struct Walk {
    pub forward: Vec<Item>,
    pub backward: Vec<Item>,
    pub pages: Vec<KnownPage>,
}

impl Walk {
    pub async fn take(reader: &mut Reader<'_>, channel_id: &str, limit: u32) -> Result<Self, WalkError> {
        let mut pages = Vec::new();
        let forward = walk(reader, channel_id, limit, Direction::OldestFirst, &mut pages).await?;
        let backward = walk(reader, channel_id, limit, Direction::NewestFirst, &mut pages).await?;
        if backward.is_empty() {
            return Err(WalkError::Empty);
        }
        Ok(Self { forward, backward, pages })
    }
}

async fn walk(
    reader: &mut Reader<'_>,
    channel_id: &str,
    limit: u32,
    direction: Direction,
    known: &mut Vec<KnownPage>,
) -> Result<Vec<Item>, WalkError> {
    let (mut items, mut cursor) = (Vec::new(), String::new());
    let mut before: Option<(u32, u64)> = None;
    loop {
        let page = reader.page(channel_id, direction, limit, &cursor).await?;
        let Page { messages, next_cursor, prev_cursor } = page;
        let held = (messages.len() as u32, digest(&messages));
        let of = |kind, cursor, (items, digest)| {
            let forward = direction == Direction::OldestFirst;
            KnownPage { kind, forward, cursor, items, digest }
        };
        match (cursor.is_empty(), direction) {
            (true, Direction::OldestFirst) => {}
            (true, Direction::NewestFirst) => known.push(of(PageKind::Newest, String::new(), held)),
            (false, Direction::OldestFirst) => known.push(of(PageKind::OldestFirst, cursor.clone(), held)),
            (false, Direction::NewestFirst) => known.push(of(PageKind::NewestFirst, cursor.clone(), held)),
        }
        if let (Some(before), false) = (before, prev_cursor.is_empty()) {
            known.push(of(PageKind::Back, prev_cursor, before));
        }
        before = Some(held);
        let stuck = messages.is_empty() && next_cursor == cursor;
        items.extend(messages);
        if next_cursor.is_empty() {
            return Ok(items);
        }
        if interrupt::is_asked() {
            return Err(WalkError::Stopped);
        }
        if stuck || items.len() > ITEMS_MAX {
            return Err(WalkError::Endless);
        }
        cursor = next_cursor;
    }
}

/// How a history differs from what was sent.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug, Serialize)]
pub struct WalkFigures {
    pub items: u64,
    /// How many messages were sent here.
    pub expected: u64,
    pub missing: u64,
    pub duplicates: u64,
    pub out_of_order: u64,
    pub corrupt: u64,
    /// Contents with the same value in other bytes: not a fault of a history that keeps values.
    pub reworded: u64,
    /// Items that only one of the two directions has, or has at that position.
    pub directions_differ: u64,
    /// Items of other users, or of other runs.
    pub foreign: u64,
}

/// Compares a history with what one publisher sent and the server accepted, in this order. All other items are foreign.
pub fn judge(walk: &Walk, run: u32, said: &[Said]) -> WalkFigures {
    let places: HashMap<&str, (usize, u32)> =
        said.iter().enumerate().map(|(place, said)| (said.id.as_str(), (place, said.number))).collect();
    let mut figures =
        WalkFigures { items: walk.forward.len() as u64, expected: said.len() as u64, ..Default::default() };
    let (mut seen, mut furthest) = (HashSet::new(), None);
    for item in &walk.forward {
        if !seen.insert(item.message_id.as_str()) {
            figures.duplicates += 1;
            continue;
        }
        let Some((place, number)) = places.get(item.message_id.as_str()).copied() else {
            figures.foreign += 1;
            continue;
        };
        let stored = content::read_stored(&item.content, run).ok();
        let as_said = stored.filter(|stored| stored.content.slot.number == number);
        figures.corrupt += u64::from(as_said.is_none());
        figures.reworded += u64::from(as_said.is_some_and(|stored| stored.reworded));
        figures.out_of_order += u64::from(furthest.is_some_and(|furthest| place < furthest));
        furthest = furthest.max(Some(place));
    }
    figures.missing = said.iter().filter(|said| !seen.contains(said.id.as_str())).count() as u64;
    assert!(figures.missing <= figures.expected && figures.duplicates + figures.foreign <= figures.items);
    let same = walk.forward.iter().zip(walk.backward.iter().rev()).filter(|(one, other)| one == other).count();
    figures.directions_differ = (walk.forward.len().max(walk.backward.len()) - same) as u64;
    figures
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::content::{Content, ScheduleSlot};

    const RUN: u32 = 5;

    fn item(number: u32) -> Item {
        let mut content = String::new();
        content::write(&mut content, RUN, Content { slot: ScheduleSlot { publisher: 0, number }, intended_ns: 7 }, 100);
        Item { message_id: format!("id-{number}"), code: 0, content }
    }

    fn said(number: u32) -> Said {
        Said { id: format!("id-{number}"), number }
    }

    fn check(numbers: &[u32], expected: WalkFigures) {
        let forward: Vec<Item> = numbers.iter().copied().map(item).collect();
        let backward = forward.iter().rev().cloned().collect();
        let said: Vec<Said> = (0..4).map(said).collect();
        assert_eq!(judge(&Walk { forward, backward, pages: Vec::new() }, RUN, &said), expected, "{numbers:?}");
    }

    const WHOLE: WalkFigures = WalkFigures {
        items: 4,
        expected: 4,
        missing: 0,
        duplicates: 0,
        out_of_order: 0,
        corrupt: 0,
        reworded: 0,
        directions_differ: 0,
        foreign: 0,
    };

    #[test]
    fn a_history_is_what_was_said_and_every_difference_has_its_name() {
        check(&[0, 1, 2, 3], WHOLE);
        check(&[0, 2, 3], WalkFigures { items: 3, missing: 1, ..WHOLE });
        check(&[0, 1, 1, 2, 3], WalkFigures { items: 5, duplicates: 1, ..WHOLE });
        check(&[0, 2, 1, 3], WalkFigures { out_of_order: 1, ..WHOLE });
        check(&[9, 0, 1, 2, 3], WalkFigures { items: 5, foreign: 1, ..WHOLE });
    }

    #[test]
    fn the_order_is_that_of_the_acceptances_and_a_content_belongs_to_its_id() {
        let walk = |numbers: &[u32]| {
            let forward: Vec<Item> = numbers.iter().copied().map(item).collect();
            Walk { backward: forward.iter().rev().cloned().collect(), forward, pages: Vec::new() }
        };
        // Message 1 was refused at first, and accepted behind message 2.
        let accepted = [0, 2, 1].map(said);
        assert_eq!(judge(&walk(&[0, 2, 1]), RUN, &accepted), WalkFigures { items: 3, expected: 3, ..WHOLE });
        let figures = judge(&walk(&[0, 1, 2]), RUN, &accepted);
        assert_eq!(figures, WalkFigures { items: 3, expected: 3, out_of_order: 1, ..WHOLE });
        let mut swapped = walk(&[0, 2, 1]);
        swapped.forward[1].content = item(1).content;
        assert_eq!(judge(&swapped, RUN, &accepted).corrupt, 1, "the content of another message");
    }

    #[test]
    fn a_changed_content_is_corrupt_and_directions_are_compared() {
        let said: Vec<Said> = (0..3).map(said).collect();
        let mut forward: Vec<Item> = (0..3).map(item).collect();
        forward[1].content.push(' ');
        let mut backward: Vec<Item> = (0..3).rev().map(item).collect();
        let walk = Walk { forward: forward.clone(), backward: backward.clone(), pages: Vec::new() };
        let figures = judge(&walk, RUN, &said);
        assert_eq!(
            (figures.corrupt, figures.directions_differ),
            (0, 1),
            "a blank behind the checksum is no other content"
        );
        forward[1].content = forward[1].content.replace('.', ",");
        backward.pop();
        let figures = judge(&Walk { forward, backward, pages: Vec::new() }, RUN, &said);
        assert_eq!((figures.corrupt, figures.directions_differ), (1, 3));
    }
}
