//! The few envelopes a load client writes, and the members it reads of those that arrive.
//!
//! Reading borrows from the frame and allocates nothing on the way of a message: thousands of clients share a core. What
//! is not asked for is skipped; whether it is well formed JSON is still checked, all of it.

use std::borrow::Cow;
use std::fmt;

use serde::de::{IgnoredAny, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::value::RawValue;

/// The `cid` of a join; sends are named by their decimal number.
pub const JOIN_CID: &str = "join";

/// A frame from the server, as far as a load client cares.
#[derive(Deserialize)]
pub struct Envelope<'a> {
    #[serde(borrow, default)]
    pub cid: Option<&'a str>,
    #[serde(borrow, default)]
    pub channel_message: Option<MessagePush<'a>>,
    #[serde(borrow, default)]
    pub channel_message_ack: Option<MessageAck<'a>>,
    #[serde(default)]
    pub channel: Option<ChannelAnswer>,
    #[serde(default)]
    pub channel_presence_event: Option<PresenceEvent>,
    #[serde(default)]
    pub error: Option<Refusal>,
}

#[derive(Deserialize)]
pub struct MessagePush<'a> {
    pub message_id: &'a str,
    pub code: i32,
    /// Still as the JSON string it arrived in: [`Unescaped`] reads it.
    #[serde(borrow)]
    pub content: &'a RawValue,
}

#[derive(Deserialize)]
pub struct MessageAck<'a> {
    pub message_id: &'a str,
}

#[derive(Deserialize)]
pub struct ChannelAnswer {
    pub id: String,
    #[serde(default)]
    pub presences: Count,
}

#[derive(Deserialize)]
pub struct PresenceEvent {
    #[serde(default)]
    pub joins: Count,
    #[serde(default)]
    pub leaves: Count,
}

/// A refused request; a code of 0 is left out on the wire.
#[derive(Deserialize)]
pub struct Refusal {
    #[serde(default)]
    pub code: i32,
    #[serde(default)]
    pub message: String,
}

/// How many elements a list had, whatever they were: a crowded room lists thousands of members to each who joins.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub struct Count(pub u64);

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

/// A frame that is no envelope.
#[derive(Debug)]
pub struct Unreadable;

impl<'a> Envelope<'a> {
    pub fn read(text: &'a str) -> Result<Self, Unreadable> {
        // A derived structure may also be read from a list; an envelope may not.
        if !text.trim_start().starts_with('{') {
            return Err(Unreadable);
        }
        serde_json::from_str(text).map_err(|_| Unreadable)
    }
}

/// A buffer that JSON strings are unescaped into, kept from message to message.
#[derive(Default)]
pub struct Unescaped(String);

impl Unescaped {
    /// The string that this JSON value is, or nothing when it is another kind of value.
    ///
    /// Content of ours needs `\"` alone; every other escape takes the library's slower way.
    pub fn read<'a>(&'a mut self, raw: &'a RawValue) -> Option<&'a str> {
        let inner = raw.get().strip_prefix('"')?.strip_suffix('"')?;
        self.0.clear();
        let mut rest = inner;
        while let Some(at) = rest.find('\\') {
            let escaped = rest.as_bytes().get(at + 1).copied();
            let (Some(b'"' | b'\\' | b'/'), Some(character)) = (escaped, rest.get(at + 1..at + 2)) else {
                self.0 = serde_json::from_str::<Cow<'_, str>>(raw.get()).ok()?.into_owned();
                return Some(&self.0);
            };
            self.0.push_str(&rest[..at]);
            self.0.push_str(character);
            rest = &rest[at + 2..];
        }
        self.0.push_str(rest);
        Some(&self.0)
    }
}

#[derive(Serialize)]
struct Join<'a> {
    cid: &'a str,
    channel_join: JoinMembers<'a>,
}

#[derive(Serialize)]
struct JoinMembers<'a> {
    target: &'a str,
    r#type: u8,
    persistence: bool,
    hidden: bool,
}

#[derive(Serialize)]
struct Send<'a> {
    cid: &'a str,
    channel_message_send: SendMembers<'a>,
}

#[derive(Serialize)]
struct SendMembers<'a> {
    channel_id: &'a str,
    content: &'a str,
}

/// How a member enters the room.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Entrance {
    pub room: String,
    pub hidden: bool,
    pub persistence: bool,
}

pub fn join(entrance: &Entrance) -> String {
    let members =
        JoinMembers { target: &entrance.room, r#type: 1, persistence: entrance.persistence, hidden: entrance.hidden };
    text(&Join { cid: JOIN_CID, channel_join: members })
}

pub fn send(number: u32, channel_id: &str, content: &str) -> String {
    text(&Send { cid: &number.to_string(), channel_message_send: SendMembers { channel_id, content } })
}

fn text(envelope: &impl Serialize) -> String {
    serde_json::to_string(envelope).expect("strings, numbers and booleans always serialise")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_a_push_and_its_content() {
        let frame = r#"{"channel_message":{"channel_id":"2...lobby","message_id":"f4f9","code":0,"sender_id":"65ae","username":"al\"ice","content":"{\"text\":\"hi\"}","create_time":"2026-11-22T09:04:39Z","persistent":true,"room_name":"lobby"}}"#;
        let push = Envelope::read(frame).expect("well formed").channel_message.expect("a push");
        assert_eq!((push.message_id, push.code), ("f4f9", 0));
        assert_eq!(Unescaped::default().read(push.content), Some("{\"text\":\"hi\"}"));
    }

    #[test]
    fn reads_answers() {
        let ack = Envelope::read(r#"{"cid":"3","channel_message_ack":{"message_id":"f4","code":0}}"#).expect("an ack");
        assert_eq!((ack.cid, ack.channel_message_ack.map(|ack| ack.message_id)), (Some("3"), Some("f4")));
        let refusal = Envelope::read(r#"{"cid":"8","error":{"message":"no"}}"#).expect("a refusal").error;
        assert_eq!(refusal.map(|refusal| (refusal.code, refusal.message)), Some((0, "no".to_owned())));
        let channel = Envelope::read(r#"{"cid":"join","channel":{"id":"2...x","presences":[{},{"a":[1]}],"self":{}}}"#);
        let channel = channel.expect("an answer").channel.expect("a channel");
        assert_eq!((channel.id.as_str(), channel.presences), ("2...x", Count(2)));
        let event = Envelope::read(r#"{"channel_presence_event":{"channel_id":"2...x","joins":[{},{},{}]}}"#);
        let event = event.expect("an event").channel_presence_event.expect("presences");
        assert_eq!((event.joins, event.leaves), (Count(3), Count(0)));
    }

    #[test]
    fn refuses_what_is_no_envelope() {
        for frame in ["", "{", "[]", "7", r#"{"cid":3}"#, r#"{"channel_message":{"code":0}}"#, r#"{"cid":"1"}x"#] {
            assert!(Envelope::read(frame).is_err(), "{frame}");
        }
    }

    #[test]
    fn unescapes_as_the_library_does() {
        let mut unescaped = Unescaped::default();
        for json in [r#""""#, r#""plain""#, r#""a\"b\\c\/d""#, r#""\\\"""#, r#""é\"ü""#, r#""\u0041\n\"\ud83d\ude00""#]
        {
            let raw = RawValue::from_string(json.to_owned()).expect("valid JSON");
            let expected: String = serde_json::from_str(json).expect("a JSON string");
            assert_eq!(unescaped.read(&raw), Some(expected.as_str()), "{json}");
        }
        for json in ["7", "{}", "null", r#""\ud800""#] {
            let raw = RawValue::from_string(json.to_owned());
            assert_eq!(raw.ok().and_then(|raw| unescaped.read(&raw).map(str::to_owned)), None, "{json}");
        }
    }

    #[test]
    fn writes_what_a_client_sends() {
        let entrance = Entrance { room: "lobby".into(), hidden: false, persistence: true };
        assert_eq!(
            join(&entrance),
            r#"{"cid":"join","channel_join":{"target":"lobby","type":1,"persistence":true,"hidden":false}}"#
        );
        assert_eq!(
            send(7, "2...lobby", r#"{"a":1}"#),
            r#"{"cid":"7","channel_message_send":{"channel_id":"2...lobby","content":"{\"a\":1}"}}"#
        );
    }
}
