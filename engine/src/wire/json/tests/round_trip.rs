//! Tests that all valid requests, in either spelling and any order of members, are read as what the client meant, and
//! that everything else is refused without a panic.

use proptest::prelude::*;
use serde_json::{Map, Value};

use super::*;
use crate::wire::tests::commands::{command, style, written};

/// Envelopes that are nearly valid: names of the protocol with values of any kind.
fn near_miss() -> impl Strategy<Value = Value> {
    let name = prop_oneof![
        (0..payloads::NAMES.len()).prop_map(|row| payloads::NAMES[row].snake.to_owned()),
        (0..payloads::NAMES.len()).prop_map(|row| payloads::NAMES[row].camel.to_owned()),
        prop::sample::select(vec!["cid", "target", "type", "channel_id", "channelId", "content", "hidden"])
            .prop_map(str::to_owned),
    ];
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        any::<String>().prop_map(Value::from),
    ];
    leaf.prop_recursive(3, 12, 4, move |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..3).prop_map(Value::from),
            prop::collection::vec((name.clone(), inner), 0..4)
                .prop_map(|members| Value::Object(members.into_iter().collect::<Map<_, _>>())),
        ]
    })
}

proptest! {
    #[test]
    fn reads_what_was_meant(cid in any::<String>(), command in command(), style in style()) {
        let text = written(&cid, &command, &style);
        prop_assert_eq!(decode(&text), Ok(Request { cid, command }), "{}", text);
    }

    #[test]
    fn no_text_panics(text in any::<String>()) {
        let _ = decode(&text);
        let _ = is_json_object(&text);
    }

    #[test]
    fn no_near_miss_panics(value in near_miss()) {
        let text = value.to_string();
        // A value that is not an object is never an envelope.
        prop_assert!(value.is_object() || matches!(decode(&text), Err(Malformed::Syntax(_))));
        let _ = decode(&text);
        prop_assert_eq!(is_json_object(&text), value.is_object());
    }

    #[test]
    fn an_envelope_cut_off_is_refused(command in command(), style in style(), cut in any::<prop::sample::Index>()) {
        let text = written("1", &command, &style);
        let text = text.trim_end();
        let end = cut.index(text.len());
        if text.is_char_boundary(end) {
            prop_assert!(matches!(decode(&text[..end]), Err(Malformed::Syntax(_))));
        }
    }

    #[test]
    fn answers_are_json_and_keep_the_cid(cid in any::<String>(), message in any::<String>()) {
        let mut out = Vec::new();
        encode_reply(&cid, &Reply::Refused(Rejection::bad_input(message.clone())), &mut out);
        let value: Value = serde_json::from_slice(&out).unwrap();
        prop_assert_eq!(value["cid"].as_str().unwrap_or_default(), cid);
        prop_assert_eq!(value["error"]["message"].as_str().unwrap_or_default(), message);
    }

    #[test]
    fn content_arrives_as_it_was_sent(content in any::<String>(), username in any::<String>()) {
        let message = Message {
            channel: lobby(),
            id: MessageId(parse_uuid(MESSAGE).unwrap()),
            sequence: Sequence(1),
            code: MessageCode::Chat,
            sender: user(ALICE),
            username: username.as_str().into(),
            content: content.as_str().into(),
            create_time: Timestamp(1),
            update_time: Timestamp(1),
            persistent: true,
        };
        let mut out = Vec::new();
        encode_event(&Event::Message(message), &mut out);
        let value: Value = serde_json::from_slice(&out).unwrap();
        prop_assert_eq!(value["channel_message"]["content"].as_str(), Some(content.as_str()));
        prop_assert_eq!(value["channel_message"]["username"].as_str().unwrap_or_default(), username);
    }
}
