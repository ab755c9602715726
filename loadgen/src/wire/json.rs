//! Nakama's envelopes in JSON. Members that are not needed are skipped, but the whole text must still be well-formed
//! JSON.

use std::borrow::Cow;
use std::fmt;

use serde::de::{IgnoredAny, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::value::RawValue;

use super::{Entrance, Heard, Kind, Request, Scratch, Unreadable, retry_after};

/// A frame from the server.
#[derive(Deserialize)]
struct Envelope<'a> {
    #[serde(borrow, default)]
    cid: Option<&'a str>,
    #[serde(borrow, default)]
    channel_message: Option<MessagePush<'a>>,
    #[serde(borrow, default)]
    channel_message_ack: Option<MessageAck<'a>>,
    #[serde(borrow, default)]
    channel: Option<ChannelAnswer<'a>>,
    #[serde(default)]
    channel_presence_event: Option<PresenceEvent>,
    #[serde(borrow, default)]
    channel_gap: Option<GapMembers<'a>>,
    #[serde(borrow, default)]
    error: Option<Refusal<'a>>,
}

#[derive(Deserialize)]
struct MessagePush<'a> {
    message_id: &'a str,
    code: i32,
    /// Still in the form of the JSON string that arrived.
    #[serde(borrow)]
    content: &'a RawValue,
}

#[derive(Deserialize)]
struct MessageAck<'a> {
    message_id: &'a str,
}

#[derive(Deserialize)]
struct ChannelAnswer<'a> {
    /// Owned if needed: a room's name may contain escapes.
    #[serde(borrow)]
    id: Cow<'a, str>,
    #[serde(default)]
    presences: Count,
    presence_count: Option<u32>,
}

#[derive(Deserialize)]
struct PresenceEvent {
    #[serde(default)]
    joins: Count,
    #[serde(default)]
    leaves: Count,
    presence_count: Option<u32>,
}

#[derive(Deserialize)]
struct GapMembers<'a> {
    after_message_id: Option<&'a str>,
    before_message_id: Option<&'a str>,
}

/// A refused request. A code of 0 is left out on the wire.
#[derive(Deserialize)]
struct Refusal<'a> {
    #[serde(default)]
    code: i32,
    #[serde(borrow, default)]
    message: Cow<'a, str>,
    #[serde(borrow, default)]
    context: RefusalContext<'a>,
}

/// What a server adds to a refusal for programs. Other members are not needed.
#[derive(Deserialize, Default)]
struct RefusalContext<'a> {
    #[serde(borrow, default)]
    reason: Cow<'a, str>,
    #[serde(borrow, default)]
    retry_after_ms: Cow<'a, str>,
}

/// The number of elements in a list, whatever they are: a crowded room sends a list of thousands of members to each new
/// member.
#[derive(Clone, Copy, Default)]
struct Count(u64);

impl<'de> Deserialize<'de> for Count {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Counting;
        impl<'de> Visitor<'de> for Counting {
            type Value = Count;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a list")
            }
            fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Count, A::Error> {
                let mut count = 0;
                while list.next_element::<IgnoredAny>()?.is_some() {
                    count += 1;
                }
                Ok(Count(count))
            }
        }
        deserializer.deserialize_seq(Counting)
    }
}

/// Reads one envelope and passes its meaning to `hear`. An envelope has exactly one meaning.
pub fn read(text: &str, scratch: &mut Scratch, hear: impl FnOnce(Heard<'_>)) -> Result<(), Unreadable> {
    // A derived structure could also be read from a JSON list; an envelope must be an object.
    if !text.trim_start().starts_with('{') {
        return Err(Unreadable);
    }
    let envelope: Envelope<'_> = serde_json::from_str(text).map_err(|_| Unreadable)?;
    let request = envelope.cid.and_then(Request::of_cid);
    hear(if let Some(push) = &envelope.channel_message {
        let kind = Kind::of_code(push.code).ok_or(Unreadable)?;
        let content = unescape(push.content, &mut scratch.unescaped).ok_or(Unreadable)?;
        Heard::Message { id: push.message_id, kind, content }
    } else if let Some(event) = &envelope.channel_presence_event {
        Heard::Presences { joins: event.joins.0, leaves: event.leaves.0, present: event.presence_count }
    } else if let Some(ack) = &envelope.channel_message_ack {
        Heard::Accepted { request, id: ack.message_id }
    } else if let Some(Refusal { code, message, context }) = &envelope.error {
        let retry_after = retry_after(&context.reason, &context.retry_after_ms);
        Heard::Refused { request, code: *code, reason: message, retry_after }
    } else if let Some(ChannelAnswer { id, presences, presence_count }) = &envelope.channel {
        Heard::Joined { request, channel_id: Some(id), presences: presences.0, present: *presence_count }
    } else if let Some(gap) = &envelope.channel_gap {
        Heard::Gap { after: gap.after_message_id, before: gap.before_message_id }
    } else if envelope.cid.is_some() {
        Heard::Done { request }
    } else {
        Heard::Other
    });
    Ok(())
}

/// The string in this JSON value, or `None` when it is another kind of value.
///
/// Our contents need only the escape `\"`; most other escapes take the library's slower path.
fn unescape<'a>(raw: &RawValue, unescaped: &'a mut String) -> Option<&'a str> {
    let inner = raw.get().strip_prefix('"')?.strip_suffix('"')?;
    unescaped.clear();
    let mut rest = inner;
    while let Some(at) = rest.find('\\') {
        let escaped = rest.as_bytes().get(at + 1).copied();
        let (Some(b'"' | b'\\' | b'/'), Some(character)) = (escaped, rest.get(at + 1..at + 2)) else {
            *unescaped = serde_json::from_str(raw.get()).ok()?;
            return Some(unescaped);
        };
        unescaped.push_str(&rest[..at]);
        unescaped.push_str(character);
        rest = &rest[at + 2..];
    }
    unescaped.push_str(rest);
    debug_assert!(unescaped.len() <= inner.len(), "no escape is shorter than what it stands for");
    Some(unescaped)
}

/// A client's request: a name for the answer, and one of the payloads.
#[derive(Serialize)]
struct Asked<'a> {
    cid: &'a str,
    #[serde(flatten)]
    payload: Payload<'a>,
}

#[derive(Serialize)]
enum Payload<'a> {
    #[serde(rename = "channel_join")]
    Join { target: &'a str, r#type: u8, persistence: bool, hidden: bool },
    #[serde(rename = "channel_leave")]
    Leave { channel_id: &'a str },
    #[serde(rename = "channel_message_send")]
    Send { channel_id: &'a str, content: &'a str },
    #[serde(rename = "channel_message_update")]
    Update { channel_id: &'a str, message_id: &'a str, content: &'a str },
    #[serde(rename = "channel_message_remove")]
    Remove { channel_id: &'a str, message_id: &'a str },
}

pub fn join(entrance: &Entrance) -> String {
    let Entrance { room, hidden, persistence } = entrance;
    text(Request::Join, Payload::Join { target: room, r#type: 1, persistence: *persistence, hidden: *hidden })
}

pub fn leave(channel_id: &str) -> String {
    text(Request::Leave, Payload::Leave { channel_id })
}

pub fn send(number: u32, channel_id: &str, content: &str) -> String {
    text(Request::Publish(number), Payload::Send { channel_id, content })
}

pub fn update(number: u32, channel_id: &str, message_id: &str, content: &str) -> String {
    text(Request::Publish(number), Payload::Update { channel_id, message_id, content })
}

pub fn remove(number: u32, channel_id: &str, message_id: &str) -> String {
    text(Request::Publish(number), Payload::Remove { channel_id, message_id })
}

fn text(request: Request, payload: Payload<'_>) -> String {
    let asked = Asked { cid: &request.cid(), payload };
    serde_json::to_string(&asked).expect("strings, numbers and booleans always serialise")
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn check(frame: &str, expected: Heard<'_>) {
        let mut heard = 0;
        let read = read(frame, &mut Scratch::default(), |found| {
            assert_eq!(found, expected, "{frame}");
            heard += 1;
        });
        assert_eq!((read, heard), (Ok(()), 1), "{frame}");
    }

    #[test]
    fn reads_messages_of_every_kind() {
        for (code, kind) in [(0, Kind::New), (1, Kind::Update), (2, Kind::Removal), (5, Kind::Event)] {
            let frame = format!(
                r#"{{"channel_message":{{"channel_id":"2...lobby","message_id":"f4f9","code":{code},"sender_id":"65ae","username":"al\"ice","content":"{{\"text\":\"hi\"}}","create_time":"2026-11-22T09:04:39Z","persistent":true,"room_name":"lobby"}}}}"#
            );
            check(&frame, Heard::Message { id: "f4f9", kind, content: "{\"text\":\"hi\"}" });
        }
    }

    #[test]
    fn reads_answers() {
        check(
            r#"{"cid":"3","channel_message_ack":{"message_id":"f4","code":0}}"#,
            Heard::Accepted { request: Some(Request::Publish(3)), id: "f4" },
        );
        check(
            r#"{"cid":"other","error":{"message":"no \"way\""}}"#,
            Heard::Refused { request: None, code: 0, reason: "no \"way\"", retry_after: None },
        );
        check(
            r#"{"cid":"7","error":{"code":3,"message":"too fast","context":{"reason":"work_per_user","retry_after_ms":"35"}}}"#,
            Heard::Refused {
                request: Some(Request::Publish(7)),
                code: 3,
                reason: "too fast",
                retry_after: Some(Duration::from_millis(35)),
            },
        );
        check(
            r#"{"cid":"7","error":{"code":3,"message":"no","context":{"outcome":"unknown"}}}"#,
            Heard::Refused { request: Some(Request::Publish(7)), code: 3, reason: "no", retry_after: None },
        );
        check(
            r#"{"cid":"join","channel":{"id":"2...x","presences":[{},{"a":[1]}],"self":{}}}"#,
            Heard::Joined { request: Some(Request::Join), channel_id: Some("2...x"), presences: 2, present: None },
        );
        check(
            r#"{"cid":"join","channel":{"id":"2...\"","self":{},"presence_count":5000}}"#,
            Heard::Joined {
                request: Some(Request::Join),
                channel_id: Some("2...\""),
                presences: 0,
                present: Some(5000),
            },
        );
        check(r#"{"cid":"leave"}"#, Heard::Done { request: Some(Request::Leave) });
    }

    #[test]
    fn reads_events() {
        check(
            r#"{"channel_presence_event":{"channel_id":"2...x","joins":[{},{},{}],"leaves":[{}]}}"#,
            Heard::Presences { joins: 3, leaves: 1, present: None },
        );
        check(
            r#"{"channel_presence_event":{"joins":[{}],"presence_count":70}}"#,
            Heard::Presences { joins: 1, leaves: 0, present: Some(70) },
        );
        check(
            r#"{"channel_gap":{"channel_id":"2...x","after_message_id":"a","before_message_id":"b"}}"#,
            Heard::Gap { after: Some("a"), before: Some("b") },
        );
        check(r#"{"channel_gap":{"channel_id":"2...x"}}"#, Heard::Gap { after: None, before: None });
        check(r#"{"notifications":{}}"#, Heard::Other);
    }

    #[test]
    fn refuses_what_is_no_envelope() {
        for frame in [
            "",
            "{",
            "[]",
            "7",
            r#"{"cid":3}"#,
            r#"{"channel_message":{"code":0}}"#,
            r#"{"channel_message":{"message_id":"a","code":0,"content":7}}"#,
            r#"{"channel_message":{"message_id":"a","code":10,"content":"{}"}}"#,
            r#"{"cid":"1"}x"#,
        ] {
            let refused = read(frame, &mut Scratch::default(), |heard| panic!("{frame} is {heard:?}"));
            assert_eq!(refused, Err(Unreadable), "{frame}");
        }
    }

    #[test]
    fn unescapes_as_the_library_does() {
        let mut unescaped = String::new();
        for json in [r#""""#, r#""plain""#, r#""a\"b\\c\/d""#, r#""\\\"""#, r#""é\"ü""#, r#""\u0041\n\"\ud83d\ude00""#]
        {
            let raw = RawValue::from_string(json.to_owned()).expect("valid JSON");
            let expected: String = serde_json::from_str(json).expect("a JSON string");
            assert_eq!(unescape(&raw, &mut unescaped), Some(expected.as_str()), "{json}");
        }
        for json in ["7", "{}", "null", r#""\ud800""#] {
            let raw = RawValue::from_string(json.to_owned()).ok();
            assert!(raw.is_none_or(|raw| unescape(&raw, &mut unescaped).is_none()), "{json}");
        }
    }

    #[test]
    fn writes_what_a_client_says() {
        let entrance = Entrance { room: "lobby".into(), hidden: false, persistence: true };
        for (written, expected) in [
            (
                join(&entrance),
                r#"{"cid":"join","channel_join":{"target":"lobby","type":1,"persistence":true,"hidden":false}}"#,
            ),
            (leave("2...lobby"), r#"{"cid":"leave","channel_leave":{"channel_id":"2...lobby"}}"#),
            (
                send(7, "2...lobby", r#"{"a":1}"#),
                r#"{"cid":"7","channel_message_send":{"channel_id":"2...lobby","content":"{\"a\":1}"}}"#,
            ),
            (
                update(8, "2...lobby", "f4", "{}"),
                r#"{"cid":"8","channel_message_update":{"channel_id":"2...lobby","message_id":"f4","content":"{}"}}"#,
            ),
            (
                remove(9, "2...lobby", "f4"),
                r#"{"cid":"9","channel_message_remove":{"channel_id":"2...lobby","message_id":"f4"}}"#,
            ),
        ] {
            assert_eq!(written, expected);
        }
    }
}
