//! Checks every delivery: each member must see each message once, in order.
//!
//! The content of a message carries a counter. In all deliveries of a run the counter has the same distance from the
//! start of the payload, because everything before `content` has a fixed length for one room and one sender. So one
//! message is parsed fully, and from then on nine digits are compared in place. The eight bytes before them are
//! compared too; where they differ, the payload is parsed fully again.

use serde::{Deserialize, Serialize};

use crate::failure::Failure;

const COUNTER_DIGITS: usize = 9;
const STAMP_DIGITS: usize = 20;
/// Bytes in front of the counter that are the same in every message.
const GUARD_BYTES: usize = 8;

/// The first bytes of every message, and of no other frame.
const MESSAGE_PREFIX: &[u8] = b"{\"channel_message\":{";
/// The bytes before the counter, before the time of sending, and before the padding. The content is a string within a
/// string.
const INTRODUCTIONS: [&[u8]; 3] = [b"\\\"n\\\":\\\"", b"\\\",\\\"t\\\":\\\"", b"\\\",\\\"p\\\":\\\""];

/// JSON escapes the quotes, and a server may refuse frames of more than 4,096 bytes.
const CONTENT_BYTES_MAX: usize = 3000;

/// Counts of the errors that must not happen.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Faults {
    /// Messages that a member did not get before it got a later one.
    pub missing: u64,
    /// Messages that a member got twice, or after a later one.
    pub repeated_or_late: u64,
    /// Messages of another sender, or with a content that the bench did not send.
    pub foreign: u64,
}

impl Faults {
    pub fn none(&self) -> bool {
        *self == Faults::default()
    }
}

/// The positions of the content's fields in a payload.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Layout {
    guard: [u8; GUARD_BYTES],
    counter_at: usize,
    stamp_at: usize,
    padding_at: usize,
}

pub struct Checker {
    layout: Option<Layout>,
    /// The counter that must come next, by member.
    next: Vec<u32>,
    /// The content without its two numbers, as text. A full parse compares it.
    padding: String,
    pub delivered: u64,
    pub wire_bytes: u64,
    pub faults: Faults,
}

/// The content of a message: a JSON object whose numbers are strings of a fixed length.
pub fn content(counter: u32, stamp_ns: u64, padding: &str) -> String {
    format!(r#"{{"n":"{counter:09}","t":"{stamp_ns:020}","p":"{padding}"}}"#)
}

/// Placeholders for counter and stamp. They occur nowhere else in a publication.
pub const COUNTER_PLACEHOLDER: &str = "#########";
pub const STAMP_PLACEHOLDER: &str = "@@@@@@@@@@@@@@@@@@@@";

/// A content of `content_bytes` bytes with both placeholders in it.
pub fn placeholder_content(content_bytes: usize) -> String {
    let padding = padding(content_bytes);
    format!(r#"{{"n":"{COUNTER_PLACEHOLDER}","t":"{STAMP_PLACEHOLDER}","p":"{padding}"}}"#)
}

/// Refuses contents that are too small for their numbers, or too large for a server.
pub fn check_content_bytes(content_bytes: usize) -> Result<(), Failure> {
    let least = placeholder_content(0).len();
    if (least..=CONTENT_BYTES_MAX).contains(&content_bytes) {
        return Ok(());
    }
    Err(Failure::Options(format!("--payload must be {least} to {CONTENT_BYTES_MAX}: it carries a counter and a time")))
}

/// The padding that makes a content `content_bytes` long.
pub fn padding(content_bytes: usize) -> String {
    "x".repeat(content_bytes.saturating_sub(content(0, 0, "").len()))
}

impl Checker {
    pub fn new(padding: String) -> Checker {
        let next = Vec::new();
        Checker { layout: None, next, padding, delivered: 0, wire_bytes: 0, faults: Faults::default() }
    }

    /// Adds a member that gets the messages from `counter` on.
    pub fn add_member(&mut self, counter: u32) {
        self.next.push(counter);
    }

    /// The counter of `payload` if it is a chat message, from any sender.
    #[inline]
    pub fn counter(&mut self, payload: &[u8]) -> Option<u32> {
        match &self.layout {
            Some(layout) if layout.fits(payload) => Some(layout.counter(payload)),
            _ => self.read_carefully(payload),
        }
    }

    /// Records that message `counter` was delivered to `member`.
    #[inline]
    pub fn deliver(&mut self, member: usize, counter: u32, wire_bytes: usize) {
        let Some(next) = self.next.get_mut(member) else {
            self.faults.foreign += 1;
            return;
        };
        if counter < *next {
            self.faults.repeated_or_late += 1;
            return;
        }
        self.faults.missing += u64::from(counter - *next);
        *next = counter + 1;
        self.delivered += 1;
        self.wire_bytes += wire_bytes as u64;
    }

    /// Resets the counts of deliveries. Faults stay until they are taken, and so does the next counter of each member.
    pub fn forget_counts(&mut self) {
        (self.delivered, self.wire_bytes) = (0, 0);
    }

    /// Returns the faults since the last call, and resets them.
    pub fn take_faults(&mut self) -> Faults {
        std::mem::take(&mut self.faults)
    }

    /// When the message was to be sent, by the publisher's clock.
    pub fn stamp_ns(&self, payload: &[u8]) -> Option<u64> {
        let at = self.layout?.stamp_at;
        std::str::from_utf8(payload.get(at..at + STAMP_DIGITS)?).ok()?.parse().ok()
    }

    /// Checks that the padding of a message arrived unchanged. This is too slow for every delivery, so a sample is
    /// checked.
    pub fn check_padding(&mut self, payload: &[u8]) {
        let found = self.layout.map(|layout| layout.padding_at);
        let whole = found.and_then(|at| payload.get(at..at + self.padding.len()));
        if whole != Some(self.padding.as_bytes()) {
            self.faults.foreign += 1;
        }
    }

    /// Parses the whole payload, compares all of its content, and records where the counter lies.
    #[cold]
    fn read_carefully(&mut self, payload: &[u8]) -> Option<u32> {
        if !payload.starts_with(MESSAGE_PREFIX) {
            return None;
        }
        match (self.counter_by_parsing(payload), Layout::find(payload)) {
            (Some(counter), Some(layout)) if layout.fits(payload) && layout.counter(payload) == counter => {
                self.layout = Some(layout);
                Some(counter)
            }
            _ => {
                self.faults.foreign += 1;
                None
            }
        }
    }

    fn counter_by_parsing(&self, payload: &[u8]) -> Option<u32> {
        let envelope: serde_json::Value = serde_json::from_slice(payload).ok()?;
        let text = envelope["channel_message"]["content"].as_str()?;
        let fields: serde_json::Value = serde_json::from_str(text).ok()?;
        let counter = fields["n"].as_str()?.parse().ok()?;
        let stamp_ns = fields["t"].as_str()?.parse().ok()?;
        (text == content(counter, stamp_ns, &self.padding)).then_some(counter)
    }
}

impl Layout {
    /// Finds the numbers of a message, at the first possible position.
    fn find(payload: &[u8]) -> Option<Layout> {
        let [counter, stamp, padding] = INTRODUCTIONS;
        let at = payload.windows(counter.len()).position(|window| window == counter)?;
        let counter_at = at + counter.len();
        let stamp_at = counter_at + COUNTER_DIGITS + stamp.len();
        let padding_at = stamp_at + STAMP_DIGITS + padding.len();
        let guard = *payload[..counter_at].last_chunk()?;
        Some(Layout { guard, counter_at, stamp_at, padding_at })
    }

    #[inline]
    fn fits(&self, payload: &[u8]) -> bool {
        payload.len() >= self.stamp_at + STAMP_DIGITS
            && payload[self.counter_at - GUARD_BYTES..self.counter_at] == self.guard
    }

    /// Reads nine digits, the first eight of them at once: in pairs, then fours, then eight, within one word.
    #[inline]
    fn counter(&self, payload: &[u8]) -> u32 {
        let digits = &payload[self.counter_at..self.counter_at + COUNTER_DIGITS];
        let mut word = [0; 8];
        word.copy_from_slice(&digits[..8]);
        let word = u64::from_le_bytes(word) & 0x0f0f_0f0f_0f0f_0f0f;
        let word = (word.wrapping_mul(10).wrapping_add(word >> 8)) & 0x00ff_00ff_00ff_00ff;
        let word = (word.wrapping_mul(100).wrapping_add(word >> 16)) & 0x0000_ffff_0000_ffff;
        let eight = (word.wrapping_mul(10_000).wrapping_add(word >> 32)) & 0xffff_ffff;
        eight as u32 * 10 + u32::from(digits[8] & 0x0f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dialect::message_as_delivered;

    const CONTENT_BYTES: usize = 100;

    fn delivered(counter: u32) -> Vec<u8> {
        message_as_delivered(&content(counter, 1_700_000_000_000_000_000, &padding(CONTENT_BYTES))).into_bytes()
    }

    fn checked(counters: &[u32]) -> (u64, Faults) {
        let mut checker = Checker::new(padding(CONTENT_BYTES));
        checker.add_member(0);
        for &counter in counters {
            let payload = delivered(counter);
            assert_eq!(checker.counter(&payload), Some(counter));
            checker.deliver(0, counter, payload.len());
        }
        (checker.delivered, checker.faults)
    }

    #[test]
    fn lost_repeated_and_overtaken_messages_are_counted() {
        let check = |counters: &[u32], missing, repeated_or_late| {
            let expected = Faults { missing, repeated_or_late, foreign: 0 };
            let delivered = counters.len() as u64 - repeated_or_late;
            assert_eq!(checked(counters), (delivered, expected), "{counters:?}");
        };
        check(&[0, 1, 2, 3], 0, 0);
        check(&[0, 2, 3], 1, 0);
        check(&[1], 1, 0);
        check(&[0, 5], 4, 0);
        check(&[0, 1, 1, 2], 0, 1);
        check(&[0, 2, 1, 3], 1, 1);
    }

    #[test]
    fn a_counter_of_any_size_is_read_in_place() {
        let mut checker = Checker::new(padding(CONTENT_BYTES));
        for counter in [0, 1, 9, 10, 12_345_678, 123_456_789, 999_999_999, 100_000_000, 87_654_321] {
            assert_eq!(checker.counter(&delivered(counter)), Some(counter));
        }
        assert_eq!(checker.faults, Faults::default());
    }

    #[test]
    fn a_layout_that_moves_is_learned_again() {
        let mut checker = Checker::new(padding(CONTENT_BYTES));
        assert_eq!(checker.counter(&delivered(7)), Some(7));
        let text = String::from_utf8(delivered(8)).unwrap();
        let longer_name = text.replace(r#""username":""#, r#""username":"longer-"#);
        assert_eq!(checker.counter(longer_name.as_bytes()), Some(8));
        let shorter_time = text.replace("385013Z", "Z");
        assert_eq!(checker.counter(shorter_time.as_bytes()), Some(8));
        assert_eq!(checker.stamp_ns(shorter_time.as_bytes()), Some(1_700_000_000_000_000_000));
        assert_eq!(checker.faults, Faults::default());
    }

    #[test]
    fn other_envelopes_are_not_messages_and_foreign_messages_are_faults() {
        let mut checker = Checker::new(padding(CONTENT_BYTES));
        let ack = br#"{"cid":"m","channel_message_ack":{"channel_id":"2...bench","message_id":"x"}}"#;
        assert_eq!(checker.counter(&delivered(0)), Some(0));
        assert_eq!(checker.counter(ack), None);
        assert_eq!(checker.faults.foreign, 0);
        assert_eq!(checker.counter(br#"{"channel_message":{"content":"{\"text\":\"hi\"}"}}"#), None);
        assert_eq!(checker.faults.foreign, 1);
    }

    #[test]
    fn a_delivery_to_an_unknown_member_is_a_fault() {
        let mut checker = Checker::new(padding(CONTENT_BYTES));
        checker.deliver(3, 0, 100);
        assert_eq!((checker.delivered, checker.take_faults().foreign), (0, 1));
        assert!(checker.faults.none());
    }

    #[test]
    fn a_changed_padding_is_a_fault() {
        let mut checker = Checker::new(padding(CONTENT_BYTES));
        let payload = delivered(3);
        assert_eq!(checker.counter(&payload), Some(3));
        checker.check_padding(&payload);
        assert_eq!(checker.faults, Faults::default());
        let changed = String::from_utf8(payload).unwrap().replace("xx\\\"}", "xy\\\"}");
        checker.check_padding(changed.as_bytes());
        assert_eq!(checker.faults.foreign, 1);
    }

    #[test]
    fn contents_have_the_length_asked_for() {
        for size in [60, 100, 1000] {
            assert_eq!(content(5, 6, &padding(size)).len(), size);
        }
    }
}
