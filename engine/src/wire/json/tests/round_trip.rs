//! Whatever a client may write, in either spelling and any order of members, is read as what it meant; and whatever else
//! arrives is refused without a panic.

use proptest::prelude::*;
use serde_json::{Map, Value, json};

use super::*;

/// How a client may choose to write the same request.
#[derive(Clone, Debug)]
struct Style {
    camel: bool,
    cid_last: bool,
    members_reversed: bool,
    escaped: bool,
    indented: bool,
    defaults_written: bool,
}

fn style() -> impl Strategy<Value = Style> {
    any::<(bool, bool, bool, bool, bool, bool)>().prop_map(
        |(camel, cid_last, members_reversed, escaped, indented, defaults_written)| Style {
            camel,
            cid_last,
            members_reversed,
            escaped,
            indented,
            defaults_written,
        },
    )
}

fn command() -> impl Strategy<Value = Command> {
    let text = || any::<String>();
    prop_oneof![
        (text(), any::<i32>(), any::<bool>(), any::<bool>())
            .prop_map(|(target, kind, persistence, hidden)| { join(&target, kind, persistence, hidden) }),
        text().prop_map(|channel_id| Command::Leave { channel_id }),
        (text(), text()).prop_map(|(channel_id, content)| Command::Send { channel_id, content }),
        (text(), text(), text()).prop_map(|(channel_id, message_id, content)| Command::Update {
            channel_id,
            message_id,
            content
        }),
        (text(), text()).prop_map(|(channel_id, message_id)| Command::Remove { channel_id, message_id }),
        (proptest::collection::vec(text(), 0..3), proptest::collection::vec(text(), 0..3))
            .prop_map(|(user_ids, usernames)| Command::StatusFollow { user_ids, usernames }),
        proptest::collection::vec(text(), 0..3).prop_map(|user_ids| Command::StatusUnfollow { user_ids }),
        proptest::option::of(text()).prop_map(|status| Command::StatusUpdate { status }),
        Just(Command::Ping),
        Just(Command::Pong),
        Just(Command::Rpc),
        Just(Command::Unsupported("party_join_request_list")),
    ]
}

/// A member's two names and its value.
type Member = (&'static str, &'static str, Value);

/// The payload's names, and its members with their names and values, in the order of the protocol.
fn payload(command: &Command) -> ((&str, &str), Vec<Member>) {
    let channel = |id: &str| ("channel_id", "channelId", json!(id));
    let message = |id: &str| ("message_id", "messageId", json!(id));
    let content = |text: &str| ("content", "content", json!(text));
    match command {
        Command::Join(join) => (
            ("channel_join", "channelJoin"),
            vec![
                ("target", "target", json!(join.target)),
                ("type", "type", json!(join.kind)),
                ("persistence", "persistence", json!(join.persistence)),
                ("hidden", "hidden", json!(join.hidden)),
            ],
        ),
        Command::Leave { channel_id } => (("channel_leave", "channelLeave"), vec![channel(channel_id)]),
        Command::Send { channel_id, content: text } => {
            (("channel_message_send", "channelMessageSend"), vec![channel(channel_id), content(text)])
        }
        Command::Update { channel_id, message_id, content: text } => (
            ("channel_message_update", "channelMessageUpdate"),
            vec![channel(channel_id), message(message_id), content(text)],
        ),
        Command::Remove { channel_id, message_id } => {
            (("channel_message_remove", "channelMessageRemove"), vec![channel(channel_id), message(message_id)])
        }
        Command::StatusFollow { user_ids, usernames } => (
            ("status_follow", "statusFollow"),
            vec![("user_ids", "userIds", json!(user_ids)), ("usernames", "usernames", json!(usernames))],
        ),
        Command::StatusUnfollow { user_ids } => {
            (("status_unfollow", "statusUnfollow"), vec![("user_ids", "userIds", json!(user_ids))])
        }
        Command::StatusUpdate { status } => {
            (("status_update", "statusUpdate"), vec![("status", "status", json!(status))])
        }
        Command::Ping => (("ping", "ping"), vec![]),
        Command::Pong => (("pong", "pong"), vec![]),
        Command::Rpc => (("rpc", "rpc"), vec![]),
        Command::Unsupported(name) => ((name, "partyJoinRequestList"), vec![]),
    }
}

/// A client's text, put together without the server's own writer.
fn write(cid: &str, command: &Command, style: &Style) -> String {
    let text = |value: &Value| {
        let text = if style.indented { serde_json::to_string_pretty(value) } else { serde_json::to_string(value) };
        if style.escaped { escape(&text.unwrap()) } else { text.unwrap() }
    };
    let (names, members) = payload(command);
    let mut members: Vec<_> = members
        .into_iter()
        .filter(|(name, _, value)| style.defaults_written || !is_default(name, value))
        .map(|(snake, camel, value)| format!("\"{}\":{}", if style.camel { camel } else { snake }, text(&value)))
        .collect();
    if style.members_reversed {
        members.reverse();
    }
    let space = if style.indented { " \n\t" } else { "" };
    let name = if style.camel { names.1 } else { names.0 };
    let body = format!("\"{name}\":{space}{{{}}}", members.join(","));
    let cid = format!("\"cid\":{}{space}", text(&json!(cid)));
    if style.cid_last { format!("{{{body},{cid}}}") } else { format!("{space}{{{cid},{body}}}{space}") }
}

fn is_default(name: &str, value: &Value) -> bool {
    match name {
        "persistence" => *value == json!(true),
        // Nothing and empty text are two things here.
        "status" => value.is_null(),
        _ => [json!(""), json!(0), json!(false), json!([])].contains(value),
    }
}

/// Everything outside ASCII as UTF-16 escapes, which are pairs of surrogates for the higher planes.
fn escape(text: &str) -> String {
    let mut escaped = String::new();
    for character in text.chars() {
        if character.is_ascii() {
            escaped.push(character);
        } else {
            for unit in character.encode_utf16(&mut [0; 2]) {
                escaped += &format!("\\u{unit:04x}");
            }
        }
    }
    escaped
}

/// Envelopes that are nearly right: names of the protocol with values of any kind.
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
        let text = write(&cid, &command, &style);
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
        // What is not an object is never an envelope.
        prop_assert!(value.is_object() || matches!(decode(&text), Err(Malformed::Syntax(_))));
        let _ = decode(&text);
        prop_assert_eq!(is_json_object(&text), value.is_object());
    }

    #[test]
    fn an_envelope_cut_off_is_refused(command in command(), style in style(), cut in any::<prop::sample::Index>()) {
        let text = write("1", &command, &style);
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
