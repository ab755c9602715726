//! Binary frames with invalid content, and frames of the other format.

use serde_json::{Value, json};
use tests::harness::{Closed, Format, Launch, Server, Socket, data_dir, schema};

/// Runs `act` on a fresh session of this format, which must end with 1000. Returns the envelopes that came before the
/// close, and its reason.
fn check_closed(server: &Server, format: Format, case: &str, act: impl FnOnce(&mut Socket)) -> (Vec<Value>, String) {
    let mut socket = server.connect_in(format, "alice");
    act(&mut socket);
    let reason = match socket.expect_closed() {
        Closed::Frame { code: 1000, reason } => reason,
        other => panic!("{case}: {other:?}"),
    };
    assert!(!reason.is_empty(), "{case}: the reason is said");
    server.assert_works(case);
    (socket.pushes, reason)
}

#[test]
fn a_frame_of_the_other_kind_closes_the_session() {
    let data = data_dir();
    let server = Launch::on(data.path()).start();
    let ping = r#"{"cid":"1","ping":{}}"#;
    let (heard, reason) =
        check_closed(&server, Format::Json, "binary", |socket| socket.send_binary(schema::bytes_of(ping)));
    assert_eq!((heard.len(), reason.as_str()), (0, "binary frame on a JSON session: send text frames"));
    let (heard, reason) = check_closed(&server, Format::Protobuf, "text", |socket| socket.send_text_frame(ping));
    assert_eq!((heard.len(), reason.as_str()), (0, "text frame on a protobuf session: send binary frames"));
}

#[test]
fn malformed_bytes_close_the_session() {
    let data = data_dir();
    let server = Launch::on(data.path()).start();
    let deep = b"\x9b\x06".repeat(2000);
    let cases: [(&str, &[u8]); 8] = [
        ("JSON", br#"{"cid":"1","ping":{}}"#),
        ("a key and nothing else", b"\x0a"),
        ("cut off", b"\x0a\x0512"),
        ("a length beyond everything", b"\x0a\xff\xff\xff\xff\xff\xff\xff\xff\x7f"),
        ("a cid that is not UTF-8", b"\x0a\x01\xff\x82\x02\x00"),
        ("a cid that is a number", b"\x08\x01\x82\x02\x00"),
        ("a wire type that is none", b"\x0f"),
        ("deep groups", &deep),
    ];
    for (case, bytes) in cases {
        let (heard, reason) = check_closed(&server, Format::Protobuf, case, |socket| socket.send_binary(bytes.into()));
        assert!(heard.is_empty(), "{case}: {heard:?}");
        assert!(reason.starts_with("malformed envelope: "), "{case}: {reason}");
    }
}

#[test]
fn an_envelope_without_a_payload_is_told_so_before_the_close() {
    let data = data_dir();
    let server = Launch::on(data.path()).start();
    let check = |envelope: &str, code: i64, cid: Value| {
        let (heard, _) = check_closed(&server, Format::Protobuf, envelope, |socket| socket.send_text(envelope));
        assert_eq!(heard.len(), 1, "{envelope}: {heard:?}");
        assert_eq!((&heard[0]["error"]["code"], &heard[0]["cid"]), (&json!(code), &cid), "{envelope}: {heard:?}");
    };
    check("{}", 2, Value::Null);
    check(r#"{"cid":"7"}"#, 2, json!("7"));
    check(r#"{"cid":"7","channel":{}}"#, 1, json!("7"));
    check(r#"{"cid":"7","channel_message":{"content":"{}"}}"#, 1, json!("7"));
    check(r#"{"cid":"7","channel_gap":{}}"#, 1, json!("7"));
    check(r#"{"status_presence_event":{}}"#, 1, Value::Null);
}

#[test]
fn unknown_fields_are_ignored() {
    let data = data_dir();
    let server = Launch::on(data.path()).start();
    let mut socket = server.connect_in(Format::Protobuf, "alice");
    // Field 100, a number, before and inside the ping; and a second cid. The last cid counts.
    socket.send_binary(b"\xa0\x06\x01\x0a\x016\x0a\x017\x82\x02\x03\xa0\x06\x01".to_vec());
    assert_eq!(socket.receive_text(), r#"{"cid":"7","pong":{}}"#);
    // Of two payloads, the last counts.
    socket.send_binary(b"\x0a\x018\x8a\x02\x00\x82\x02\x00".to_vec());
    assert_eq!(socket.receive_text(), r#"{"cid":"8","pong":{}}"#);
}

#[test]
fn a_message_of_4096_bytes_is_fine_and_one_more_closes_with_1009() {
    let data = data_dir();
    let server = Launch::on(data.path()).start();
    let mut socket = server.connect_in(Format::Protobuf, "alice");
    // The key and the length of the cid take three bytes, the ping takes three.
    let cid_of = |bytes: usize| "c".repeat(bytes - 6);
    let ping = |bytes: usize| schema::bytes_of(&format!(r#"{{"cid":"{}","ping":{{}}}}"#, cid_of(bytes)));
    assert_eq!(ping(4096).len(), 4096);
    socket.send_binary(ping(4096));
    assert_eq!(socket.receive()["cid"], cid_of(4096));
    socket.send_binary(ping(4097));
    assert_eq!(socket.expect_closed(), Closed::Frame { code: 1009, reason: String::new() });
    server.assert_works("4,097 bytes");
}
