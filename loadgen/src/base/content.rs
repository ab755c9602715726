//! The content of a message of this program, and whether it arrived unchanged.
//!
//! A content names its run, its publisher, its number with that publisher and its intended time. It is padded to the
//! requested size, and ends with a checksum over every byte before it. A server relays content byte for byte, so any
//! difference is a fault. A history may keep values instead of bytes (stock Nakama's is a column of binary JSON):
//! there, the same value in other bytes is recorded, but is not a fault.

use std::borrow::Cow;
use std::fmt::Write;

use serde::Deserialize;

/// The text before the checksum. It occurs once: every other value is a number or padding.
const CHECKSUM_MEMBER: &str = ",\"c\":";
const PADDING_MEMBER: &str = ",\"x\":\"";
/// The ten digits of a u32 and the closing brace.
const CHECKSUM_BYTES: usize = 11;

/// The smallest content: every number at its longest, and no padding.
pub const CONTENT_BYTES_MIN: usize = 100;
/// A send of this content still fits the 4,096 bytes that a client's frame may have. A quarter of these is left for the
/// envelope (a channel id of at most 70 bytes) and for the backslashes before a dozen quotes.
pub const CONTENT_BYTES_MAX: usize = 3_072;

/// One message of one publisher: the publisher's number in its room and the message's number with that publisher, both
/// from 0.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ScheduleSlot {
    pub publisher: u32,
    pub number: u32,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Content {
    pub slot: ScheduleSlot,
    pub intended_ns: u64,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ContentFault {
    /// Not a content of any run, or its checksum is wrong.
    Corrupt,
    /// An unchanged content of another run in the same room.
    Foreign,
}

/// A content as a history returns it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Stored {
    pub content: Content,
    /// The value is what was written, but its bytes are not: blanks, or members in another order.
    pub reworded: bool,
}

/// The JSON members, read without a copy where possible.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Members<'a> {
    r: u32,
    p: u32,
    n: u32,
    t: u64,
    #[serde(rename = "x", borrow)]
    padding: Cow<'a, str>,
    c: u32,
}

/// Appends a content of `payload_bytes`: as near as the digits allow, and at most a few bytes shorter.
pub fn write(out: &mut String, run: u32, content: Content, payload_bytes: usize) {
    let begin = out.len();
    open(out, run, content);
    let without_padding = out.len() - begin + 1 + CHECKSUM_MEMBER.len() + CHECKSUM_BYTES;
    out.extend(std::iter::repeat_n('.', payload_bytes.saturating_sub(without_padding)));
    out.push('"');
    let checksum = crc32fast::hash(&out.as_bytes()[begin..]);
    let _ = write!(out, "{CHECKSUM_MEMBER}{checksum}}}");
    debug_assert_eq!(read(&out[begin..], run), Ok(content), "what is written can be read");
    debug_assert!(out.len() - begin <= payload_bytes.max(CONTENT_BYTES_MIN), "a content is not longer than asked for");
}

/// Appends everything before the padding.
fn open(out: &mut String, run: u32, content: Content) {
    let Content { slot: ScheduleSlot { publisher, number }, intended_ns } = content;
    // Writing to a String cannot fail.
    let _ = write!(out, "{{\"r\":{run},\"p\":{publisher},\"n\":{number},\"t\":{intended_ns}{PADDING_MEMBER}");
}

/// Reads a content of this run. The checksum must match every byte.
pub fn read(text: &str, run: u32) -> Result<Content, ContentFault> {
    let members: Members<'_> = serde_json::from_str(text).map_err(|_| ContentFault::Corrupt)?;
    if !is_signed(text, members.c) {
        return Err(ContentFault::Corrupt);
    }
    members.of(run)
}

/// Like `read`, but for a history that may keep values instead of bytes.
pub fn read_stored(text: &str, run: u32) -> Result<Stored, ContentFault> {
    let members: Members<'_> = serde_json::from_str(text).map_err(|_| ContentFault::Corrupt)?;
    let reworded = !is_signed(text, members.c);
    if reworded {
        let mut written = String::with_capacity(text.len());
        open(&mut written, members.r, members.content());
        written.push_str(&members.padding);
        written.push('"');
        if crc32fast::hash(written.as_bytes()) != members.c {
            return Err(ContentFault::Corrupt);
        }
    }
    Ok(Stored { content: members.of(run)?, reworded })
}

fn is_signed(text: &str, checksum: u32) -> bool {
    text.rfind(CHECKSUM_MEMBER).is_some_and(|signed| crc32fast::hash(&text.as_bytes()[..signed]) == checksum)
}

impl Members<'_> {
    fn content(&self) -> Content {
        Content { slot: ScheduleSlot { publisher: self.p, number: self.n }, intended_ns: self.t }
    }

    fn of(&self, run: u32) -> Result<Content, ContentFault> {
        if self.r == run { Ok(self.content()) } else { Err(ContentFault::Foreign) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RUN: u32 = 0xdead_beef;
    const CONTENT: Content =
        Content { slot: ScheduleSlot { publisher: 3, number: 1234 }, intended_ns: 987_654_321_012_345 };

    fn written(content: Content, payload_bytes: usize) -> String {
        let mut text = String::new();
        write(&mut text, RUN, content, payload_bytes);
        text
    }

    #[test]
    fn comes_back_as_written_at_every_size() {
        let longest = ScheduleSlot { publisher: u32::MAX, number: u32::MAX };
        for content in [CONTENT, Content { slot: longest, intended_ns: u64::MAX }] {
            for payload_bytes in [0, CONTENT_BYTES_MIN, 101, 500, CONTENT_BYTES_MAX] {
                let text = written(content, payload_bytes);
                assert_eq!(read(&text, RUN), Ok(content));
                assert!(text.len() <= payload_bytes.max(CONTENT_BYTES_MIN), "{} at {payload_bytes}", text.len());
                assert!(text.len() + 10 >= payload_bytes, "{} at {payload_bytes}", text.len());
            }
        }
    }

    proptest::proptest! {
        #[test]
        fn any_content_comes_back_and_its_value_in_other_bytes_too(
            run: u32,
            publisher: u32,
            number: u32,
            intended_ns: u64,
            payload_bytes in 0_usize..=CONTENT_BYTES_MAX,
        ) {
            let content = Content { slot: ScheduleSlot { publisher, number }, intended_ns };
            let mut text = "before".to_owned();
            write(&mut text, run, content, payload_bytes);
            let text = text.strip_prefix("before").expect("a content is appended");
            assert_eq!(read(text, run), Ok(content));
            assert_eq!(read(text, run.wrapping_add(1)), Err(ContentFault::Foreign));
            assert_eq!(read_stored(text, run), Ok(Stored { content, reworded: false }));
            let other_bytes = text.replace(':', ": ");
            assert_eq!(read_stored(&other_bytes, run), Ok(Stored { content, reworded: true }));
            assert_eq!(read(&other_bytes, run), Err(ContentFault::Corrupt));
        }

        #[test]
        fn no_text_ends_the_program(text in ".{0,200}", run: u32) {
            // Nobody writes a content with its right checksum by chance.
            assert_eq!(read(&text, run), Err(ContentFault::Corrupt));
            assert_eq!(read_stored(&text, run), Err(ContentFault::Corrupt));
        }
    }

    #[test]
    fn every_changed_byte_is_noticed() {
        let text = written(CONTENT, 120);
        for at in 0..text.len() {
            let mut bytes = text.clone().into_bytes();
            bytes[at] ^= 1;
            let changed = String::from_utf8(bytes).expect("still ASCII");
            assert_eq!(read(&changed, RUN), Err(ContentFault::Corrupt), "byte {at}: {changed}");
        }
        for length in 0..text.len() {
            assert_eq!(read(&text[..length], RUN), Err(ContentFault::Corrupt), "cut to {length}");
        }
    }

    #[test]
    fn a_history_may_keep_the_value_in_other_bytes_and_no_other_value() {
        let text = written(CONTENT, 120);
        assert_eq!(read_stored(&text, RUN), Ok(Stored { content: CONTENT, reworded: false }));
        let members: serde_json::Map<String, serde_json::Value> = serde_json::from_str(&text).expect("an object");
        // As a column of binary JSON returns it: with blanks, and with the members in its own order.
        let reworded = |members: &serde_json::Map<String, serde_json::Value>| {
            let members: Vec<_> = members.iter().map(|(name, value)| format!("\"{name}\": {value}")).collect();
            format!("{{{}}}", members.join(", "))
        };
        assert_eq!(read(&reworded(&members), RUN), Err(ContentFault::Corrupt));
        assert_eq!(read_stored(&reworded(&members), RUN), Ok(Stored { content: CONTENT, reworded: true }));
        assert_eq!(read_stored(&reworded(&members), RUN + 1), Err(ContentFault::Foreign));
        for (name, value) in [("r", 1.into()), ("p", 4.into()), ("n", 9.into()), ("t", 1.into()), ("x", "..".into())] {
            let mut changed = members.clone();
            changed.insert(name.to_owned(), value);
            assert_eq!(read_stored(&reworded(&changed), RUN), Err(ContentFault::Corrupt), "{name}");
        }
        for at in 0..text.len() {
            let mut bytes = text.clone().into_bytes();
            bytes[at] ^= 1;
            let changed = String::from_utf8(bytes).expect("still ASCII");
            assert_eq!(read_stored(&changed, RUN), Err(ContentFault::Corrupt), "byte {at}: {changed}");
        }
    }

    #[test]
    fn another_run_is_foreign_and_other_talk_is_corrupt() {
        assert_eq!(read(&written(CONTENT, 100), RUN + 1), Err(ContentFault::Foreign));
        for talk in ["", "{}", "{\"text\":\"hi\"}", "[]", "{\"r\":1}"] {
            assert_eq!(read(talk, RUN), Err(ContentFault::Corrupt), "{talk}");
        }
    }
}
