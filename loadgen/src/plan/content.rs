//! What a message of ours says, and whether it arrived as it was written.
//!
//! A content names its run, its publisher, its number with that publisher and its intended time, is padded to the wished
//! size, and ends with a checksum over every byte before it. A server relays content byte for byte, so any difference is
//! a fault.

use std::fmt::Write;

use serde::Deserialize;

use crate::plan::schedule::Slot;

/// What precedes the checksum. It occurs once: every other value is a number or padding.
const CHECKSUM_MEMBER: &str = ",\"c\":";
const PADDING_MEMBER: &str = ",\"x\":\"";
/// Ten digits of a u32 and the closing brace.
const CHECKSUM_BYTES: usize = 11;

/// The smallest content: every number as long as it gets, no padding.
pub const CONTENT_BYTES_MIN: usize = 100;
/// A send of this content still fits the 4,096 bytes that a client's frame may have: a quarter of it is left to the
/// envelope (a channel id of at most 70 bytes), and the backslashes before a dozen quotes.
pub const CONTENT_BYTES_MAX: usize = 3_072;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Content {
    pub slot: Slot,
    pub intended_ns: u64,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ContentFault {
    /// Not a content of any run, or one whose checksum is wrong.
    Corrupt,
    /// A whole content of another run, in the same room.
    Foreign,
}

/// The JSON members, read without a copy.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Members<'a> {
    r: u32,
    p: u32,
    n: u32,
    t: u64,
    #[serde(rename = "x")]
    _padding: &'a str,
    c: u32,
}

/// Appends a content of `payload_bytes` (as near as the digits allow, never more than a few bytes less).
pub fn write(out: &mut String, run: u32, content: Content, payload_bytes: usize) {
    let begin = out.len();
    let Slot { publisher, number } = content.slot;
    // Writing to a String cannot fail.
    let _ = write!(out, "{{\"r\":{run},\"p\":{publisher},\"n\":{number},\"t\":{}{PADDING_MEMBER}", content.intended_ns);
    let without_padding = out.len() - begin + 1 + CHECKSUM_MEMBER.len() + CHECKSUM_BYTES;
    out.extend(std::iter::repeat_n('.', payload_bytes.saturating_sub(without_padding)));
    out.push('"');
    let checksum = crc32fast::hash(&out.as_bytes()[begin..]);
    let _ = write!(out, "{CHECKSUM_MEMBER}{checksum}}}");
}

/// Reads a content of this run back; the checksum must be right over every byte.
pub fn read(text: &str, run: u32) -> Result<Content, ContentFault> {
    let members: Members<'_> = serde_json::from_str(text).map_err(|_| ContentFault::Corrupt)?;
    let signed = text.rfind(CHECKSUM_MEMBER).ok_or(ContentFault::Corrupt)?;
    if crc32fast::hash(&text.as_bytes()[..signed]) != members.c {
        return Err(ContentFault::Corrupt);
    }
    if members.r != run {
        return Err(ContentFault::Foreign);
    }
    Ok(Content { slot: Slot { publisher: members.p, number: members.n }, intended_ns: members.t })
}

#[cfg(test)]
mod tests {
    use super::*;

    const RUN: u32 = 0xdead_beef;
    const CONTENT: Content = Content { slot: Slot { publisher: 3, number: 1234 }, intended_ns: 987_654_321_012_345 };

    fn written(content: Content, payload_bytes: usize) -> String {
        let mut text = String::new();
        write(&mut text, RUN, content, payload_bytes);
        text
    }

    #[test]
    fn comes_back_as_written_at_every_size() {
        let longest = Slot { publisher: u32::MAX, number: u32::MAX };
        for content in [CONTENT, Content { slot: longest, intended_ns: u64::MAX }] {
            for payload_bytes in [0, CONTENT_BYTES_MIN, 101, 500, CONTENT_BYTES_MAX] {
                let text = written(content, payload_bytes);
                assert_eq!(read(&text, RUN), Ok(content));
                assert!(text.len() <= payload_bytes.max(CONTENT_BYTES_MIN), "{} at {payload_bytes}", text.len());
                assert!(text.len() + 10 >= payload_bytes, "{} at {payload_bytes}", text.len());
            }
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
    fn another_run_is_foreign_and_other_talk_is_corrupt() {
        assert_eq!(read(&written(CONTENT, 100), RUN + 1), Err(ContentFault::Foreign));
        for talk in ["", "{}", "{\"text\":\"hi\"}", "[]", "{\"r\":1}"] {
            assert_eq!(read(talk, RUN), Err(ContentFault::Corrupt), "{talk}");
        }
    }
}
