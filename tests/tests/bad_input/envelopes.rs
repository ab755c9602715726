//! Valid text frames with an invalid envelope.

use serde_json::{Value, json};
use tests::harness::{Closed, Launch, Server, Socket, data_dir};

/// A room name of this many bytes.
fn name_of(bytes: usize) -> String {
    "x".repeat(bytes)
}

/// Sends one request that must be refused with this code; the session must stay open.
fn check_refused(server: &Server, socket: &mut Socket, case: &str, request: Value, code: i64) {
    let answer = socket.request(request);
    let error = &answer["error"];
    assert!(error.is_object(), "{case}: {answer}");
    assert_eq!(error["code"].as_i64().unwrap_or(0), code, "{case}: {answer}");
    assert!(error["message"].as_str().is_some_and(|text| !text.is_empty()), "{case}: says why: {answer}");
    socket.assert_open();
    server.assert_works(case);
}

#[test]
fn joins_are_refused_and_the_session_stays_open() {
    let data = data_dir();
    let server = Launch::on(data.path()).start();
    let mut socket = server.connect("alice");
    let unknown = "65aea872-a336-4029-90c9-6f507b75281c";
    let cases = [
        ("no target", json!({"type": 1})),
        ("empty target", json!({"target": "", "type": 1})),
        ("empty target, default type", json!({"target": ""})),
        ("65 bytes", json!({"target": name_of(65), "type": 1})),
        ("33 characters of two bytes", json!({"target": "ü".repeat(33), "type": 1})),
        ("NUL", json!({"target": "a\u{0}b", "type": 1})),
        ("line feed", json!({"target": "a\nb", "type": 1})),
        ("unit separator", json!({"target": "\u{1f}", "type": 1})),
        ("delete", json!({"target": "a\u{7f}", "type": 1})),
        ("type 4", json!({"target": "lobby", "type": 4})),
        ("type 7", json!({"target": "lobby", "type": 7})),
        ("type -1", json!({"target": "lobby", "type": -1})),
        ("direct: not a UUID", json!({"target": "bob", "type": 2})),
        ("direct: the nil UUID", json!({"target": "00000000-0000-0000-0000-000000000000", "type": 2})),
        ("direct: nobody", json!({"target": unknown, "type": 2})),
        ("group: not a UUID", json!({"target": "group", "type": 3})),
        ("group: unknown", json!({"target": unknown, "type": 3})),
    ];
    for (case, join) in cases {
        check_refused(&server, &mut socket, case, json!({ "channel_join": join }), 3);
    }
}

#[test]
fn joins_at_the_edge_are_accepted() {
    let data = data_dir();
    let server = Launch::on(data.path()).start();
    let mut socket = server.connect("alice");
    let c1_control = "\u{80}\u{9f}";
    let cases = [
        ("64 bytes", json!({"target": name_of(64), "type": 1}), name_of(64)),
        ("32 characters of two bytes", json!({"target": "ü".repeat(32)}), "ü".repeat(32)),
        ("C1 control characters", json!({"target": c1_control, "type": 1}), c1_control.into()),
        ("type 0", json!({"target": "a", "type": 0}), "a".into()),
        ("type as an integral float", json!({"target": "b", "type": 1.0}), "b".into()),
        ("type as a quoted number", json!({"target": "c", "type": "1"}), "c".into()),
        ("null is absent", json!({"target": "d", "type": null, "persistence": null, "hidden": null}), "d".into()),
    ];
    for (case, join, room) in cases {
        let answer = socket.request(json!({ "channel_join": join }));
        assert_eq!(answer["channel"]["room_name"], room, "{case}: {answer}");
        assert_eq!(answer["channel"]["self"]["persistence"], true, "{case}: the default: {answer}");
    }
}

#[test]
fn messages_are_refused_and_the_session_stays_open() {
    let data = data_dir();
    let server = Launch::on(data.path()).start();
    let mut bob = server.connect("bob");
    let lobby = bob.join("lobby");
    let other = bob.join("other");
    let said = bob.say(&lobby, "{}");
    let bobs = said["channel_message_ack"]["message_id"].as_str().expect("an ack").to_string();
    let mut socket = server.connect("alice");
    socket.join("lobby");
    let said = socket.say(&lobby, "{}");
    let hers = said["channel_message_ack"]["message_id"].as_str().expect("an ack").to_string();
    let unknown = "65aea872-a336-4029-90c9-6f507b75281c";

    for id in ["", "lobby", "2", "2..", "2...", "2..x.lobby", "9...lobby", "3.x..", "4.x.y.", "2...\u{0}"] {
        let leave = json!({"channel_leave": {"channel_id": id}});
        if id != "2...\u{0}" {
            check_refused(&server, &mut socket, &format!("leave {id:?}"), leave, 3);
        }
        let send = json!({"channel_message_send": {"channel_id": id, "content": "{}"}});
        check_refused(&server, &mut socket, &format!("send to {id:?}"), send, 3);
        let update = json!({"channel_message_update": {"channel_id": id, "message_id": hers, "content": "{}"}});
        check_refused(&server, &mut socket, &format!("update in {id:?}"), update, 3);
        let remove = json!({"channel_message_remove": {"channel_id": id, "message_id": hers}});
        check_refused(&server, &mut socket, &format!("remove in {id:?}"), remove, 3);
    }
    for content in ["", " ", "[]", "[{}]", "1", "\"text\"", "null", "true", "{", "{}x", "{}{}", "{\"a\":}", "{'a':1}"] {
        let send = json!({"channel_message_send": {"channel_id": lobby, "content": content}});
        check_refused(&server, &mut socket, &format!("send {content:?}"), send, 3);
        let update = json!({"channel_message_update": {"channel_id": lobby, "message_id": hers, "content": content}});
        check_refused(&server, &mut socket, &format!("update to {content:?}"), update, 3);
    }
    for (case, id) in [("no id", ""), ("no UUID", "x"), ("unknown", unknown), ("somebody else's", bobs.as_str())] {
        let update = json!({"channel_message_update": {"channel_id": lobby, "message_id": id, "content": "{}"}});
        check_refused(&server, &mut socket, &format!("update: {case}"), update, 3);
        let remove = json!({"channel_message_remove": {"channel_id": lobby, "message_id": id}});
        check_refused(&server, &mut socket, &format!("remove: {case}"), remove, 3);
    }
    let not_joined = [
        json!({"channel_message_send": {"channel_id": other, "content": "{}"}}),
        json!({"channel_message_update": {"channel_id": other, "message_id": hers, "content": "{}"}}),
        json!({"channel_message_remove": {"channel_id": other, "message_id": hers}}),
    ];
    for request in not_joined {
        check_refused(&server, &mut socket, "not joined", request, 3);
    }
    socket.join("other");
    let through_another = [
        json!({"channel_message_update": {"channel_id": other, "message_id": hers, "content": "{}"}}),
        json!({"channel_message_remove": {"channel_id": other, "message_id": hers}}),
    ];
    for request in through_another {
        check_refused(&server, &mut socket, "a message of another channel", request, 3);
    }
    let (history, _) = server.http().history_after(&server.sign_in("alice").token, &lobby, None);
    assert_eq!(history.len(), 2, "nothing was sent or removed");
    assert!(history.iter().all(|message| message["content"] == "{}"), "nothing was changed");
}

#[test]
fn features_it_does_not_have_are_refused_by_name() {
    let data = data_dir();
    let server = Launch::on(data.path()).start();
    let mut socket = server.connect("alice");
    for feature in ["match_create", "match_join", "matchmaker_add", "party_create", "party_join"] {
        check_refused(&server, &mut socket, feature, json!({ feature: {} }), 1);
    }
    check_refused(&server, &mut socket, "rpc", json!({"rpc": {"id": "nothing"}}), 6);
}

/// Sends one text on a fresh session, which must end with 1000. Returns the envelopes that came before the close.
fn check_closed(server: &Server, case: &str, text: &str) -> Vec<Value> {
    let mut socket = server.connect("alice");
    socket.send_text(text);
    match socket.expect_closed() {
        Closed::Frame { code: 1000, reason } => assert!(!reason.is_empty(), "{case}: the reason is said"),
        other => panic!("{case}: {other:?}"),
    }
    server.assert_works(case);
    socket.pushes
}

#[test]
fn malformed_envelopes_close_the_session() {
    let data = data_dir();
    let server = Launch::on(data.path()).start();
    let deep = format!(r#"{{"cid":"1","channel_join":{}"#, r#"{"target":"#.repeat(400));
    let deep_list = "[".repeat(4096);
    let cases = [
        ("empty", ""),
        ("blank", "  "),
        ("not JSON", "hello"),
        ("unfinished", r#"{"cid":"1","ping":{"#),
        ("more after the end", r#"{"cid":"1","ping":{}} x"#),
        ("two objects", r#"{"ping":{}}{"ping":{}}"#),
        ("trailing comma", r#"{"cid":"1","ping":{},}"#),
        ("single quotes", r#"{'ping':{}}"#),
        ("an array", "[]"),
        ("a string", r#""ping""#),
        ("a number", "1"),
        ("null", "null"),
        ("deep objects", &deep),
        ("deep arrays", &deep_list),
        ("raw control character", "{\"cid\":\"a\nb\",\"ping\":{}}"),
        ("bad escape", r#"{"cid":"\x","ping":{}}"#),
        ("lone surrogate", r#"{"cid":"\ud800","ping":{}}"#),
        ("lone low surrogate", r#"{"channel_join":{"target":"\udc00"}}"#),
        ("unknown member", r#"{"cid":"1","ping":{},"bogus":1}"#),
        ("unknown payload", r#"{"cid":"1","bogus":{}}"#),
        ("unknown member inside", r#"{"cid":"1","channel_join":{"target":"a","bogus":1}}"#),
        ("unknown member in a ping", r#"{"cid":"1","ping":{"bogus":1}}"#),
        ("two payloads", r#"{"cid":"1","ping":{},"pong":{}}"#),
        ("twice the same payload", r#"{"cid":"1","ping":{},"ping":{}}"#),
        ("the same payload in both cases", r#"{"channel_leave":{"channel_id":"2...a"},"channelLeave":{}}"#),
        ("doubled cid", r#"{"cid":"1","cid":"2","ping":{}}"#),
        ("doubled member inside", r#"{"channel_join":{"target":"a","target":"b"}}"#),
        ("doubled member in both cases", r#"{"channel_leave":{"channel_id":"2...a","channelId":"2...a"}}"#),
        ("cid is a number", r#"{"cid":1,"ping":{}}"#),
        ("cid is an object", r#"{"cid":{},"ping":{}}"#),
        ("payload is a string", r#"{"cid":"1","ping":"x"}"#),
        ("payload is an array", r#"{"cid":"1","channel_join":[]}"#),
        ("target is a number", r#"{"channel_join":{"target":5}}"#),
        ("type is a fraction", r#"{"channel_join":{"target":"a","type":1.5}}"#),
        ("type is a name", r#"{"channel_join":{"target":"a","type":"ROOM"}}"#),
        ("type beyond 32 bits", r#"{"channel_join":{"target":"a","type":4294967297}}"#),
        ("persistence is a string", r#"{"channel_join":{"target":"a","persistence":"true"}}"#),
        ("persistence is an object", r#"{"channel_join":{"target":"a","persistence":{"value":true}}}"#),
        ("hidden is a number", r#"{"channel_join":{"target":"a","hidden":1}}"#),
        ("content is an object", r#"{"channel_message_send":{"channel_id":"2...a","content":{"a":1}}}"#),
    ];
    for (case, text) in cases {
        check_closed(&server, case, text);
    }
}

#[test]
fn an_envelope_without_a_payload_is_told_so_before_the_close() {
    let data = data_dir();
    let server = Launch::on(data.path()).start();
    let check = |text: &str, code: i64, cid: Value| {
        let heard = check_closed(&server, text, text);
        assert_eq!(heard.len(), 1, "{text}: {heard:?}");
        assert_eq!(heard[0]["error"]["code"], code, "{text}: {heard:?}");
        assert_eq!(heard[0]["cid"], cid, "{text}: {heard:?}");
    };
    check("{}", 2, Value::Null);
    check(r#"{"cid":"7"}"#, 2, json!("7"));
    check(r#"{"cid":"7","ping":null}"#, 2, json!("7"));
    check(r#"{"cid":"7","channel":{}}"#, 1, json!("7"));
    check(r#"{"cid":"7","channel_message":{}}"#, 1, json!("7"));
    check(r#"{"cid":"7","channel_message_ack":{}}"#, 1, json!("7"));
    check(r#"{"cid":"7","channel_presence_event":{}}"#, 1, json!("7"));
    check(r#"{"cid":"7","error":{}}"#, 1, json!("7"));
    check(r#"{"cid":"7","notifications":{}}"#, 1, json!("7"));
    check(r#"{"status":{}}"#, 1, Value::Null);
}

#[test]
fn what_was_asked_before_the_bad_frame_is_answered_first() {
    let data = data_dir();
    let server = Launch::on(data.path()).start();
    let mut socket = server.connect("alice");
    let channel = socket.join("lobby");
    for n in 0..10 {
        socket.send(&json!({"cid": format!("m{n}"), "channel_message_send": {"channel_id": channel, "content": "{}"}}));
    }
    socket.send_text("nonsense");
    assert!(matches!(socket.expect_closed(), Closed::Frame { code: 1000, .. }));
    let acks = socket.pushes.iter().filter(|push| push["channel_message_ack"].is_object()).count();
    assert_eq!(acks, 10);
}

#[test]
fn a_message_of_4096_bytes_is_fine_and_one_more_closes_with_1009() {
    let data = data_dir();
    let server = Launch::on(data.path()).start();
    let ping_of = |bytes: usize| {
        let frame = format!(r#"{{"cid":"{}","ping":{{}}}}"#, "c".repeat(bytes - r#"{"cid":"","ping":{}}"#.len()));
        assert_eq!(frame.len(), bytes);
        frame
    };
    let mut socket = server.connect("alice");
    socket.send_text(&ping_of(4096));
    assert_eq!(socket.receive_text(), ping_of(4096).replace("ping", "pong"));
    socket.send_text(&ping_of(4097));
    assert_eq!(socket.expect_closed(), Closed::Frame { code: 1009, reason: String::new() });
    server.assert_works("4,097 bytes");
}
