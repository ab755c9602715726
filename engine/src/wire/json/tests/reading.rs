//! Tests of every rule of docs/protocol.md, section 1.7.

use super::*;
use crate::command::RejectionCode;

/// Checks that `text` is a request with this `cid`.
fn check(text: &str, cid: &str, command: Command) {
    assert_eq!(decode(text), Ok(Request { cid: cid.into(), command }), "{text}");
}

/// Checks that `text` ends the session with a reason that contains `reason`.
fn refused(text: &str, reason: &str) {
    match decode(text) {
        Err(Malformed::Syntax(text_of_reason)) => {
            assert!(text_of_reason.contains(reason), "{text}: {text_of_reason}");
        }
        other => panic!("{text}: {other:?}"),
    }
}

#[test]
fn reads_every_command_in_both_spellings() {
    check(
        r#"{"channel_join":{"target":"lobby","type":1,"persistence":true,"hidden":false},"cid":"2"}"#,
        "2",
        join("lobby", 1, true, false),
    );
    check(r#"{"cid":"2","channelJoin":{"target":"x","type":2,"persistence":false}}"#, "2", join("x", 2, false, false));
    check(r#"{"channel_leave":{"channel_id":"2...lobby"}}"#, "", Command::Leave { channel_id: "2...lobby".into() });
    check(r#"{"channelLeave":{"channelId":"2...lobby"}}"#, "", Command::Leave { channel_id: "2...lobby".into() });
    check(
        r#"{"channel_message_send":{"channel_id":"2...lobby","content":"{\"text\":\"hi\"}"},"cid":"3"}"#,
        "3",
        send("2...lobby", r#"{"text":"hi"}"#),
    );
    check(r#"{"channelMessageSend":{"content":"{}","channelId":"c"}}"#, "", send("c", "{}"));
    let update = Command::Update { channel_id: "c".into(), message_id: MESSAGE.into(), content: "{}".into() };
    check(
        &format!(r#"{{"channel_message_update":{{"channel_id":"c","message_id":"{MESSAGE}","content":"{{}}"}}}}"#),
        "",
        update.clone(),
    );
    check(
        &format!(r#"{{"channelMessageUpdate":{{"channelId":"c","messageId":"{MESSAGE}","content":"{{}}"}}}}"#),
        "",
        update,
    );
    let remove = Command::Remove { channel_id: "c".into(), message_id: MESSAGE.into() };
    check(
        &format!(r#"{{"channel_message_remove":{{"channel_id":"c","message_id":"{MESSAGE}"}}}}"#),
        "",
        remove.clone(),
    );
    check(&format!(r#"{{"channelMessageRemove":{{"channelId":"c","messageId":"{MESSAGE}"}}}}"#), "", remove);
    check(r#"{"cid":"1","ping":{}}"#, "1", Command::Ping);
    check(r#"{"pong":{}}"#, "", Command::Pong);
    check(r#"{"rpc":{"id":"f","payload":"{}"}}"#, "", Command::Rpc);
    check(" \t\r\n{ \"ping\" : { } , \"cid\" : \"1\" } \n", "1", Command::Ping);
}

#[test]
fn absent_and_null_are_the_default() {
    check(r#"{"channel_join":{}}"#, "", join("", 0, true, false));
    check(
        r#"{"cid":null,"channel_join":{"target":null,"type":null,"persistence":null,"hidden":null}}"#,
        "",
        join("", 0, true, false),
    );
    check(r#"{"channel_message_send":{"channel_id":null}}"#, "", send("", ""));
    check(r#"{"channel_join":null,"ping":{}}"#, "", Command::Ping);
    check(r#"{"ping":{},"match":null}"#, "", Command::Ping);
}

#[test]
fn integers_are_numbers_integral_floats_or_quoted() {
    for (text, expected) in [
        ("3", 3),
        ("1.0", 1),
        ("10e-1", 1),
        ("1E0", 1),
        ("-0", 0),
        ("\"1\"", 1),
        ("\"1.0\"", 1),
        ("\"-7\"", -7),
        ("2147483647", i32::MAX),
        ("-2147483648", i32::MIN),
        ("-2147483648.0", i32::MIN),
    ] {
        check(&format!(r#"{{"channel_join":{{"type":{text}}}}}"#), "", join("", expected, true, false));
    }
    for text in [
        "1.5",
        "2147483648",
        "-2147483649",
        "2147483648.0",
        "1e300",
        "99999999999999999999",
        "true",
        "[]",
        "{}",
        "\"\"",
        "\"ROOM\"",
        "\" 1\"",
        "\"1 \"",
        "\"1.5\"",
        "\"0x1\"",
        "\"\\\"1\\\"\"",
        "\"null\"",
        "\"01\"",
    ] {
        refused(&format!(r#"{{"channel_join":{{"type":{text}}}}}"#), "32-bit integer");
    }
    for text in ["01", "+1", ".5", "1.", "1e999", "NaN"] {
        refused(&format!(r#"{{"channel_join":{{"type":{text}}}}}"#), "");
    }
}

#[test]
fn unknown_members_at_any_depth() {
    refused(r#"{"ping":{},"unknown":1}"#, "unknown member \"unknown\"");
    refused(r#"{"ping":{"x":null}}"#, "unknown field");
    refused(r#"{"CID":"1","ping":{}}"#, "unknown member");
    refused(r#"{"ChannelJoin":{}}"#, "unknown member");
    refused(r#"{"channel_join":{"target":"x","node":""}}"#, "unknown field");
    refused(r#"{"channel_message_send":{"channel_id":"c","content":"{}","code":0}}"#, "unknown field");
    refused(r#"{"channel_message_send":{"channel_id":"c","Content":"{}"}}"#, "unknown field");
    refused(r#"{"channel_leave":{"id":"c"}}"#, "unknown field");
    refused(r#"{"channel_message_update":{"username":"c"}}"#, "unknown field");
    refused(r#"{"channel_message_remove":{"content":"c"}}"#, "unknown field");
}

#[test]
fn duplicates_in_any_spelling() {
    refused(r#"{"cid":"1","cid":"1","ping":{}}"#, "duplicate field");
    refused(r#"{"cid":null,"cid":"1","ping":{}}"#, "duplicate field");
    refused(r#"{"ping":{},"ping":{}}"#, "duplicate field");
    refused(r#"{"ping":null,"ping":{}}"#, "duplicate field");
    refused(r#"{"channel_join":{},"channelJoin":{}}"#, "duplicate field");
    refused(r#"{"channel_join":{"type":1,"type":1}}"#, "duplicate field");
    refused(r#"{"channel_join":{"hidden":null,"hidden":true}}"#, "duplicate field");
    refused(r#"{"channel_leave":{"channel_id":"a","channelId":"a"}}"#, "duplicate field");
    refused(r#"{"channel_message_remove":{"message_id":"a","messageId":"a"}}"#, "duplicate field");
}

#[test]
fn wrong_types() {
    for (text, reason) in [
        (r#"{"cid":1,"ping":{}}"#, "invalid type"),
        (r#"{"cid":true,"ping":{}}"#, "invalid type"),
        (r#"{"cid":{},"ping":{}}"#, "invalid type"),
        (r#"{"ping":[]}"#, "invalid type"),
        (r#"{"ping":true}"#, "invalid type"),
        (r#"{"ping":""}"#, "invalid type"),
        (r#"{"rpc":[]}"#, "invalid type"),
        (r#"{"match_create":1}"#, "invalid type"),
        (r#"{"match":"x"}"#, "invalid type"),
        (r#"{"channel_leave":["2...lobby"]}"#, "invalid type"),
        (r#"{"channel_join":["x",1,true,false]}"#, "invalid type"),
        (r#"{"channel_join":{"target":1}}"#, "invalid type"),
        (r#"{"channel_join":{"persistence":"true"}}"#, "invalid type"),
        (r#"{"channel_join":{"persistence":1}}"#, "invalid type"),
        (r#"{"channel_join":{"hidden":{"value":true}}}"#, "invalid type"),
        (r#"{"channel_message_send":{"channel_id":"c","content":{"a":1}}}"#, "invalid type"),
        ("[]", "invalid type"),
        (r#"["1",{}]"#, "invalid type"),
        ("null", "invalid type"),
        ("\"ping\"", "invalid type"),
        ("1", "invalid type"),
    ] {
        refused(text, reason);
    }
}

#[test]
fn more_than_one_payload() {
    refused(r#"{"ping":{},"pong":{}}"#, "more than one payload");
    refused(r#"{"channel_join":{},"cid":"1","match_create":{}}"#, "more than one payload");
    refused(r#"{"error":{},"ping":{}}"#, "more than one payload");
}

#[test]
fn bad_json() {
    for text in [
        "",
        " ",
        "{",
        "}",
        "{\"ping\":{}",
        "{\"ping\":{}}x",
        "{\"ping\":{}}{}",
        "{\"ping\":{},}",
        "{ping:{}}",
        "{'ping':{}}",
        "\u{feff}{\"ping\":{}}",
        "{\"ping\":{}}\0",
        "{\"cid\":\"\n\",\"ping\":{}}",
        r#"{"cid":"\x","ping":{}}"#,
        r#"{"rpc":{"a":[}}"#,
    ] {
        refused(text, "");
    }
}

#[test]
fn lone_surrogates() {
    check(r#"{"cid":"\ud83d\ude00","ping":{}}"#, "😀", Command::Ping);
    refused(r#"{"cid":"\ud83d","ping":{}}"#, "");
    refused(r#"{"cid":"\ude00","ping":{}}"#, "");
    refused(r#"{"channel_join":{"target":"\ud83d\u0041"}}"#, "");
    refused(r#"{"channel_message_send":{"content":"{\"a\":\"\ud800\"}"}}"#, "");
    // Within the content such an escape is itself escaped, so it is a part of the content and not checked.
    check(r#"{"channel_message_send":{"content":"{\"a\":\"\\ud800\"}"}}"#, "", send("", r#"{"a":"\ud800"}"#));
}

#[test]
fn deep_nesting_is_no_danger() {
    let deep = format!(r#"{{"rpc":{{"a":{}{}}}}}"#, "[".repeat(100_000), "]".repeat(100_000));
    check(&deep, "", Command::Rpc);
    refused(&"[".repeat(100_000), "");
    refused(&format!(r#"{{"cid":{}"#, "[".repeat(100_000)), "");
}

#[test]
fn features_we_lack_are_named() {
    for (text, name) in [
        (r#"{"match_create":{}}"#, "match_create"),
        (r#"{"matchmakerAdd":{"query":"*","x":[1,{"y":null}]}}"#, "matchmaker_add"),
        (r#"{"partyDataSend":{}}"#, "party_data_send"),
    ] {
        check(text, "", Command::Unsupported(name));
    }
}

#[test]
fn every_name_is_known_in_both_spellings_once() {
    let camel_of = |snake: &str| {
        let mut words = snake.split('_');
        let mut camel = words.next().unwrap().to_owned();
        for word in words {
            camel += &word[..1].to_uppercase();
            camel += &word[1..];
        }
        camel
    };
    for (place, row) in payloads::NAMES.iter().enumerate() {
        assert_eq!(row.camel, camel_of(row.snake));
        assert_eq!(payloads::find(row.snake), Some((place, row)));
        assert_eq!(payloads::find(row.camel), Some((place, row)));
    }
    assert_eq!(payloads::find("cid"), None);
}

#[test]
fn what_can_be_answered_before_closing() {
    let answer = |text: &str| {
        let malformed = decode(text).expect_err(text);
        malformed.last_answer().map(|(cid, rejection)| (cid.to_owned(), rejection.code))
    };
    assert_eq!(answer("{}"), Some((String::new(), RejectionCode::MissingPayload)));
    assert_eq!(answer(r#"{"cid":"7"}"#), Some(("7".into(), RejectionCode::MissingPayload)));
    assert_eq!(answer(r#"{"cid":"7","ping":null}"#), Some(("7".into(), RejectionCode::MissingPayload)));
    assert_eq!(answer(r#"{"channel":{},"cid":"8"}"#), Some(("8".into(), RejectionCode::UnrecognizedPayload)));
    assert_eq!(answer(r#"{"streamData":{"x":1}}"#), Some((String::new(), RejectionCode::UnrecognizedPayload)));
    assert_eq!(answer(r#"{"cid":"7","nonsense":{}}"#), None);
}

#[test]
fn content_is_an_object() {
    for content in ["{}", " \t\r\n{}", "{} ", r#"{"a":[1,-0.5e+3,true,null,"\ud800\u0000"]}"#, r#"{"a":1,"a":2}"#] {
        assert!(is_json_object(content), "{content:?}");
    }
    for content in [
        "",
        " ",
        "[]",
        "\"x\"",
        "1",
        "null",
        "{",
        "{}}",
        "{}x",
        "{a:1}",
        "{'a':1}",
        "{\"a\":01}",
        "{\"a\":1,}",
        "{\"a\":\"\n\"}",
        "\u{feff}{}",
        "\u{a0}{}",
        "\u{b}{}",
        "{\"a\":NaN}",
        "{\"a\":\"\\x\"}",
    ] {
        assert!(!is_json_object(content), "{content:?}");
    }
    let deep = 1_000_000;
    assert!(is_json_object(&format!("{}1{}", "{\"a\":".repeat(deep), "}".repeat(deep))));
    assert!(!is_json_object(&format!("{}1{}", "{\"a\":".repeat(deep), "}".repeat(deep - 1))));
}
