//! One member of a room of stragglers. Checks what it receives against the gaps that it was told.
//!
//! `checker` reads the counters here too, but its count of what is missing knows no gaps: for it each gap would be a fault.

use serde::{Deserialize, Serialize};

use crate::checker::Checker;
use crate::failure::Failure;
use crate::frames::Frame;
use crate::received::Rare;
use crate::sockets::{self, Connection};

const GAP_PREFIX: &[u8] = br#"{"channel_gap":{"#;
const ID_NAME: &[u8] = br#""message_id":""#;
const ID_BYTES: usize = 36;

/// An id as text. The ids of one room compare in the order of their messages.
type Id = [u8; ID_BYTES];

/// How a member behaves once it is told to stop.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Behavior {
    /// The member reads nothing.
    Silent,
    /// The member reads nothing, and has asked the server to skip messages instead of closing it.
    Skipping,
    /// The member reads some hundred bytes a second.
    Slow,
    /// The member reads nothing, and never says anything.
    Vanished,
}

pub struct Member {
    pub connection: Connection,
    pub behavior: Behavior,
    pub ending: Option<Ending>,
    pub heard: Heard,
}

/// What a member has heard of the room, held against the gaps that it was told.
pub struct Heard {
    /// Whether the member asked for gaps.
    skipping: bool,
    /// The counter of the next message, unless a gap was told.
    next: u32,
    last: Option<Id>,
    /// A gap that no message has ended yet.
    gap: Option<Gap>,
    pub gaps: u64,
    pub missed: u64,
    pub wrong: u64,
}

/// How a connection ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Ending {
    Code(u16),
    Cut,
}

#[derive(Debug)]
struct Gap {
    before: Option<Id>,
}

impl Member {
    /// A member that is joining. The next message of its room has the counter `next`.
    pub fn new(connection: Connection, behavior: Behavior, next: u32) -> Member {
        Member { connection, behavior, ending: None, heard: Heard::new(behavior, next) }
    }

    /// Handles the bytes of a read. Returns what they brought besides messages.
    pub fn take_in(&mut self, bytes: &[u8], checker: &mut Checker) -> Result<Vec<Rare>, Failure> {
        let (heard, mut rare) = (&mut self.heard, Vec::new());
        self.connection.take_in(bytes, |frame| rare.extend(heard.hear(frame, checker)))?;
        Ok(rare)
    }

    /// Answers a ping, or says something, if the socket has room for it. If the connection is dead, a read will tell.
    pub fn pong(&self, payload: &[u8]) {
        if self.ending.is_none() {
            let _ = sockets::pong(&self.connection.socket, payload);
        }
    }
}

impl Heard {
    fn new(behavior: Behavior, next: u32) -> Heard {
        let skipping = behavior == Behavior::Skipping;
        Heard { skipping, next, last: None, gap: None, gaps: 0, missed: 0, wrong: 0 }
    }

    /// Whether the member knows of `sent` messages: it has seen the last of them, or a gap without an end covers it.
    pub fn has_all(&self, sent: u32) -> bool {
        self.next >= sent || self.gap.as_ref().is_some_and(|gap| gap.before.is_none())
    }

    fn hear(&mut self, frame: Frame<'_>, checker: &mut Checker) -> Option<Rare> {
        let payload = frame.payload;
        if payload.starts_with(GAP_PREFIX) {
            self.hear_gap(payload);
        } else if let Some(counter) = checker.counter(payload) {
            self.hear_message(counter, id_in(payload));
        } else {
            return Rare::of(frame);
        }
        None
    }

    fn hear_message(&mut self, counter: u32, id: Option<Id>) {
        let expected = match self.gap.take() {
            None => counter == self.next,
            // The gap ends at the message that it names, and it covers at least one missed message.
            Some(gap) => counter >= self.next && (gap.before.is_none() || gap.before == id),
        };
        self.wrong += u64::from(!expected || id.is_none() || id < self.last);
        if counter > self.next && expected {
            self.missed += u64::from(counter - self.next);
        }
        self.next = counter + 1;
        self.last = id;
    }

    fn hear_gap(&mut self, payload: &[u8]) {
        let envelope: serde_json::Value = serde_json::from_slice(payload).unwrap_or_default();
        let id = |name: &str| envelope["channel_gap"][name].as_str()?.as_bytes().try_into().ok();
        let (after, before): (Option<Id>, Option<Id>) = (id("after_message_id"), id("before_message_id"));
        // A gap begins after the last message that was seen. A gap that replaces another one begins no later than that.
        let right = match self.gap {
            None => self.last.is_none() || after == self.last,
            Some(_) => after <= self.last,
        };
        self.wrong += u64::from(!right || !self.skipping);
        self.gaps += 1;
        self.gap = Some(Gap { before });
    }
}

/// The id of a message. It is in the first JSON member with this name.
fn id_in(payload: &[u8]) -> Option<Id> {
    let at = payload.windows(ID_NAME.len()).position(|window| window == ID_NAME)? + ID_NAME.len();
    payload.get(at..at + ID_BYTES)?.try_into().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::checker::{content, padding};
    use crate::dialect::message_as_delivered;
    use crate::frames::{self, Remainder};

    const FIRST: &str = "f4f9926e-0877-7a3f-9db2-d506c0f311d1";

    fn id(number: u32) -> String {
        format!("f4f9926e-0877-7a3f-9db2-{number:012}")
    }

    fn message(number: u32) -> Vec<u8> {
        let text = message_as_delivered(&content(number, 7, &padding(100))).replace(FIRST, &id(number));
        let mut frame = Vec::new();
        frames::put_server_text(text.as_bytes(), &mut frame);
        frame
    }

    fn gap(after: Option<u32>, before: Option<u32>) -> Vec<u8> {
        let mut gap = serde_json::json!({"channel_id": "2...bench", "room_name": "bench"});
        after.into_iter().for_each(|number| gap["after_message_id"] = id(number).into());
        before.into_iter().for_each(|number| gap["before_message_id"] = id(number).into());
        // The name comes first, as in the server's frames.
        let mut frame = Vec::new();
        frames::put_server_text(serde_json::json!({ "channel_gap": gap }).to_string().as_bytes(), &mut frame);
        frame
    }

    fn heard(behavior: Behavior, frames: &[Vec<u8>]) -> Heard {
        let (mut heard, mut checker) = (Heard::new(behavior, 0), Checker::new(padding(100)));
        let shown = |frame: Frame<'_>| assert!(heard.hear(frame, &mut checker).is_none());
        Remainder::default().walk(&frames.concat(), shown).unwrap();
        heard
    }

    #[test]
    fn what_is_missed_is_what_gaps_name() {
        let check = |frames: &[Vec<u8>], gaps, missed, wrong| {
            let heard = heard(Behavior::Skipping, frames);
            assert_eq!((heard.gaps, heard.missed, heard.wrong), (gaps, missed, wrong));
        };
        check(&[message(0), message(1)], 0, 0, 0);
        check(&[message(0), gap(Some(0), Some(7)), message(7), message(8)], 1, 6, 0);
        check(&[message(0), gap(Some(0), None), message(9)], 1, 8, 0);
        check(&[message(0), gap(Some(0), Some(3)), gap(Some(0), Some(7)), message(7)], 2, 6, 0);
        // Without a gap, with a gap that begins or ends at the wrong message, and a message twice.
        check(&[message(0), message(2)], 0, 0, 1);
        check(&[message(0), message(1), gap(Some(0), Some(7)), message(7)], 1, 5, 1);
        check(&[message(0), gap(Some(0), Some(7)), message(8)], 1, 0, 1);
        check(&[message(0), message(0)], 0, 0, 1);
    }

    #[test]
    fn only_a_member_that_asked_for_it_is_moved_on() {
        let heard = heard(Behavior::Silent, &[message(0), gap(Some(0), Some(7)), message(7)]);
        assert_eq!((heard.gaps, heard.wrong), (1, 1));
    }

    #[test]
    fn a_member_has_all_when_it_saw_the_last_or_was_moved_to_the_end() {
        let check = |frames: &[Vec<u8>], sent, expected| {
            assert_eq!(heard(Behavior::Skipping, frames).has_all(sent), expected, "{sent} sent");
        };
        check(&[message(0), message(1)], 2, true);
        check(&[message(0), message(1)], 3, false);
        check(&[message(0), gap(Some(0), None)], 9, true);
        check(&[message(0), gap(Some(0), Some(5))], 9, false);
    }
}
