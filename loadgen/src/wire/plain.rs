//! Any WebSocket server: clients send text from a template, and look for our contents in everything they receive.
//!
//! A content is found in the form in which it was written, or inside JSON text, however often that was put into JSON
//! again. A frame may hold any number of contents. A server that parses a content and writes it again has changed it,
//! and the content is reported as corrupt. `{content_json}` passes the content as one JSON text, which such a server
//! relays unchanged.

use std::ops::Range;

use serde::{Deserialize, Serialize};

use super::{Heard, Kind, Request};

/// The name of a content's first member.
const FIRST_MEMBER: u8 = b'r';
/// The name of a content's last member.
const LAST_MEMBER: u8 = b'c';

/// Where clients of a plain server connect, and what they send. Each text may contain `{room}` and `{user}`.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Plain {
    pub url: String,
    /// Sent when the WebSocket is open.
    pub greeting: Option<String>,
    /// A user is in the room when a frame with this text has come; without this text, when the greeting has been sent.
    pub welcome: Option<String>,
    /// Contains `{content}`, or `{content_json}` for the same content as one JSON text.
    pub send: String,
}

/// Which user sends in which room.
#[derive(Clone, Copy, Debug)]
pub struct Speaker<'a> {
    pub user: u32,
    pub room: &'a str,
}

impl Plain {
    /// Whether the sent text contains the content.
    pub fn carries_contents(&self) -> bool {
        self.send.contains("{content}") || self.send.contains("{content_json}")
    }

    pub fn url(&self, speaker: Speaker<'_>) -> String {
        filled(&self.url, speaker, None)
    }

    pub fn greeting(&self, speaker: Speaker<'_>) -> Option<String> {
        self.greeting.as_ref().map(|greeting| filled(greeting, speaker, None))
    }

    pub fn send(&self, speaker: Speaker<'_>, content: &str) -> String {
        filled(&self.send, speaker, Some(content))
    }

    /// Passes every content of ours in the frame to `hear`.
    pub fn read(&self, frame: &[u8], unescaped: &mut String, mut hear: impl FnMut(Heard<'_>)) {
        let mut concerned = false;
        if self.welcome.as_ref().is_some_and(|welcome| contains(frame, welcome.as_bytes())) {
            concerned = true;
            hear(Heard::Joined { request: Some(Request::Join), channel_id: None, presences: 0, present: None });
        }
        let mut next = beginning(frame, 0);
        while let Some(begin) = next {
            next = beginning(frame, begin.quote.end);
            let until = next.as_ref().map_or(frame.len(), |next| next.at);
            debug_assert!(begin.at < begin.quote.start && begin.quote.end <= until, "contents do not overlap");
            let quote = &frame[begin.quote.clone()];
            let end = end(&frame[begin.at..until], quote).map_or(until, |length| begin.at + length);
            unescape(&frame[begin.at..end], quote, unescaped);
            concerned = true;
            // The message has no id of its own, so its content is its id.
            hear(Heard::Message { id: unescaped, kind: Kind::New, content: unescaped });
        }
        if !concerned {
            hear(Heard::Other);
        }
    }
}

/// The template with its placeholders filled. Placeholders inside a filled value are not replaced.
fn filled(template: &str, speaker: Speaker<'_>, content: Option<&str>) -> String {
    let mut text = String::with_capacity(template.len() + content.map_or(0, |content| 2 * content.len()));
    let mut rest = template;
    while let Some(at) = rest.find('{') {
        text.push_str(&rest[..at]);
        rest = &rest[at..];
        let value = |name: &str| match (name, content) {
            ("room", _) => Some(speaker.room.to_owned()),
            ("user", _) => Some(speaker.user.to_string()),
            ("content", Some(content)) => Some(content.to_owned()),
            ("content_json", Some(content)) => Some(serde_json::Value::from(content).to_string()),
            _ => None,
        };
        let place = rest.find('}').and_then(|end| Some((value(&rest[1..end])?, end + 1)));
        // A brace that begins no placeholder stays as it is: most templates are JSON.
        let (value, length) = place.unwrap_or_else(|| ("{".to_owned(), 1));
        text.push_str(&value);
        rest = &rest[length..];
    }
    text.push_str(rest);
    text
}

/// Whether a content of ours begins in the frame.
pub fn carries_content(frame: &[u8]) -> bool {
    beginning(frame, 0).is_some()
}

/// Where a content begins, and the quote around its members' names.
struct Beginning {
    at: usize,
    quote: Range<usize>,
}

/// The first content that begins at or after `from`: a brace, a quote, the first member's name, and the same quote.
fn beginning(frame: &[u8], from: usize) -> Option<Beginning> {
    let braces = (from..frame.len()).filter(|at| frame[*at] == b'{');
    let mut beginnings = braces.filter_map(|at| {
        let quote = at + 1..at + 1 + quote_length(&frame[at + 1..])?;
        let text = frame[quote.end..].strip_prefix(&[FIRST_MEMBER])?;
        text.strip_prefix(&frame[quote.clone()])?.strip_prefix(b":")?;
        Some(Beginning { at, quote })
    });
    beginnings.next()
}

/// The length of the quote here: `"` or its code, after as many backslashes as the layers of JSON around it have added.
fn quote_length(text: &[u8]) -> Option<usize> {
    let backslashes = text.iter().take_while(|byte| **byte == b'\\').count();
    let rest = &text[backslashes..];
    let mark: &[u8] = if rest.starts_with(b"\"") { b"\"" } else { b"u0022" };
    rest.starts_with(mark).then_some(backslashes + mark.len())
}

/// The end of the content at the beginning of this text: after the checksum and a brace.
fn end(text: &[u8], quote: &[u8]) -> Option<usize> {
    let member = [b",", quote, &[LAST_MEMBER], quote, b":"].concat();
    let checksum = position(text, &member)? + member.len();
    let digits = text[checksum..].iter().take_while(|byte| byte.is_ascii_digit()).count();
    text[checksum + digits..].starts_with(b"}").then_some(checksum + digits + 1)
}

/// The content as it was before it was put into JSON.
fn unescape(text: &[u8], quote: &[u8], unescaped: &mut String) {
    unescaped.clear();
    let mut rest = text;
    while let Some(at) = position(rest, quote) {
        unescaped.push_str(&String::from_utf8_lossy(&rest[..at]));
        unescaped.push('"');
        rest = &rest[at + quote.len()..];
    }
    unescaped.push_str(&String::from_utf8_lossy(rest));
}

fn position(text: &[u8], sought: &[u8]) -> Option<usize> {
    text.windows(sought.len()).position(|window| window == sought)
}

fn contains(text: &[u8], sought: &[u8]) -> bool {
    sought.is_empty() || position(text, sought).is_some()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::content::{self, Content, ScheduleSlot};

    const RUN: u32 = 7;
    const SPEAKER: Speaker<'_> = Speaker { user: 4, room: "lobby" };

    fn content(number: u32) -> String {
        let mut text = String::new();
        let slot = ScheduleSlot { publisher: 3, number };
        content::write(&mut text, RUN, Content { slot, intended_ns: 5_000 }, 130);
        text
    }

    fn plain(send: &str) -> Plain {
        Plain { url: String::new(), greeting: None, welcome: Some("\"welcome\"".to_owned()), send: send.to_owned() }
    }

    /// The numbers of the contents found, an X for a corrupt one, a W for a welcome and a - for anything else.
    fn found(frame: &[u8]) -> String {
        let mut found = String::new();
        plain("").read(frame, &mut String::new(), |heard| match heard {
            Heard::Message { id, kind, content } => {
                assert_eq!((id, kind), (content, Kind::New));
                let read = content::read(content, RUN);
                found.push_str(&read.map_or("X".to_owned(), |content| content.slot.number.to_string()));
            }
            Heard::Joined { .. } => found.push('W'),
            Heard::Other => found.push('-'),
            other => panic!("{other:?}"),
        });
        found
    }

    /// The text as the value of a JSON member.
    fn wrapped(text: &str) -> String {
        serde_json::json!({ "a": "{\"r\"", "data": text }).to_string()
    }

    #[test]
    fn finds_contents_wherever_they_are() {
        let [one, two] = [content(1), content(2)];
        for (frame, expected) in [
            (one.clone(), "1"),
            (format!("MSG lobby {one}\n{two}\n"), "12"),
            (format!("[{one},{two}]"), "12"),
            (format!(r#"{{"type":"said","data":{one}}}"#), "1"),
            (serde_json::json!([one, two]).to_string(), "12"),
            (serde_json::json!([wrapped(&one), two]).to_string(), "12"),
            (serde_json::json!({ "d": one }).to_string().replace("\\\"", "\\u0022"), "1"),
            (wrapped(&serde_json::json!([one]).to_string().replace("\\\"", "\\u0022")), "1"),
            (String::new(), "-"),
            ("{}".to_owned(), "-"),
            (r#"{"type":"welcome"}"#.to_owned(), "W"),
            (format!(r#"{{"type":"welcome","history":[{one}]}}"#), "W1"),
        ] {
            assert_eq!(found(frame.as_bytes()), expected, "{frame}");
        }
        assert_eq!(found(&[b"\x00\xff", one.as_bytes(), b"\xfe{"].concat()), "1");
    }

    #[test]
    fn a_changed_content_is_corrupt_and_hides_no_other() {
        let [one, two] = [content(1), content(2)];
        for (frame, expected) in [
            (one.replacen('.', ",", 1), "X"),
            (format!("[{},{two}]", one.replacen('.', ",", 1)), "X2"),
            (format!("[{},{two}]", one.replace(":3", ": 3")), "X2"),
            (format!("[{},{two}]", &one[..one.len() - 1]), "X2"),
            (format!("[{},{two}]", &one[..30]), "X2"),
            (one.replace("\"c\"", "\"d\""), "X"),
            (one.replace(':', ": "), "X"),
        ] {
            assert_eq!(found(frame.as_bytes()), expected, "{frame}");
        }
        let mut bytes = one.into_bytes();
        bytes[40] = 0xff;
        assert_eq!(found(&bytes), "X");
    }

    #[test]
    fn templates_are_filled_once() {
        for (template, expected) in [
            ("", ""),
            ("hello", "hello"),
            ("{content}", "{\"a\":\"{user}\"}"),
            ("{content_json}", r#""{\"a\":\"{user}\"}""#),
            (r#"{"room":"{room}","from":{user}}"#, r#"{"room":"lobby","from":4}"#),
            ("{unknown} {", "{unknown} {"),
            ("{{user}}", "{4}"),
            ("{user", "{user"),
        ] {
            assert_eq!(plain(template).send(SPEAKER, r#"{"a":"{user}"}"#), expected, "{template}");
        }
        let greeting = Plain { greeting: Some("{content} {user}".to_owned()), ..plain("") }.greeting(SPEAKER);
        assert_eq!(greeting.as_deref(), Some("{content} 4"));
        assert_eq!(Plain { url: "ws://x/{room}?u={user}".to_owned(), ..plain("") }.url(SPEAKER), "ws://x/lobby?u=4");
    }
}
