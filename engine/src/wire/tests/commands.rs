//! Generates every command, and every valid way in which a client may write it as JSON.

use proptest::prelude::*;
use serde_json::{Value, json};

use crate::command::{Command, Join};

/// How a client may choose to write the same request.
#[derive(Clone, Debug)]
pub struct Style {
    camel: bool,
    cid_last: bool,
    members_reversed: bool,
    escaped: bool,
    indented: bool,
    defaults_written: bool,
}

pub fn style() -> impl Strategy<Value = Style> {
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

pub fn command() -> impl Strategy<Value = Command> {
    let text = || any::<String>();
    prop_oneof![
        (text(), any::<i32>(), any::<bool>(), any::<bool>()).prop_map(|(target, kind, persistence, hidden)| {
            Command::Join(Join { target, kind, persistence, hidden })
        }),
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

/// A client's text, built without the server's own writer.
pub fn written(cid: &str, command: &Command, style: &Style) -> String {
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
        // For `status`, null and empty text differ.
        "status" => value.is_null(),
        _ => [json!(""), json!(0), json!(false), json!([])].contains(value),
    }
}

/// Writes every character outside ASCII as UTF-16 escapes: a pair of surrogates above U+FFFF.
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
