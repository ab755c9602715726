//! Tests with envelopes as another implementation writes them, and with bytes that are no envelope. `wire/tests.rs`
//! shows that both formats mean the same.

use proptest::prelude::*;

use super::*;
use crate::command::{Command, Join, RejectionCode, Reply};
use crate::wire::request::{Malformed, Request};
use crate::wire::tests::commands;
use crate::wire::tests::schema;
use crate::wire::websocket::MESSAGE_BYTES_MAX;

fn bytes_of(hex: &str) -> Vec<u8> {
    (0..hex.len()).step_by(2).map(|at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap()).collect()
}

/// Checks that the bytes are a request with this `cid`.
fn check(bytes: &[u8], cid: &str, command: Command) {
    assert_eq!(decode(bytes), Ok(Request { cid: cid.into(), command }), "{bytes:02x?}");
}

/// Checks that the bytes end the session with this kind of reason, and that no error is sent before the close.
fn refused(bytes: &[u8]) {
    match decode(bytes) {
        Err(malformed @ Malformed::Syntax(_)) => {
            assert!(malformed.to_string().starts_with("malformed envelope: failed to decode Protobuf"), "{malformed}");
            assert_eq!(malformed.last_answer(), None);
        }
        other => panic!("{bytes:02x?}: {other:?}"),
    }
}

/// A length-delimited field with this number and these bytes.
fn field(number: u8, bytes: &[u8]) -> Vec<u8> {
    assert!(number < 16 && bytes.len() < 128, "one byte each");
    [&[number << 3 | 2, bytes.len() as u8], bytes].concat()
}

/// Recorded from the adapter of the official JavaScript client, version 1.4.0.
#[test]
fn reads_what_the_official_adapter_sends() {
    let text = str::to_owned;
    let join = |target: &str, kind, persistence, hidden| {
        Command::Join(Join { target: target.into(), kind, persistence, hidden })
    };
    let (channel_id, message_id) = (text("c"), text("m"));
    let follow = Command::StatusFollow { user_ids: vec![text("u"), text("v")], usernames: vec![text("n")] };
    let status = |status| Command::StatusUpdate { status };
    for (hex, cid, command) in [
        ("0a0137820200", "7", Command::Ping),
        ("0a01321a110a056c6f62627910011a02080122020800", "2", join("lobby", 1, true, false)),
        ("0a01321a0d0a017810021a02080022020801", "2", join("x", 2, false, true)),
        ("0a0133220b0a09322e2e2e6c6f626279", "3", Command::Leave { channel_id: text("2...lobby") }),
        (
            "0a01343a1a0a09322e2e2e6c6f626279120d7b2274657874223a226869227d",
            "4",
            Command::Send { channel_id: text("2...lobby"), content: text(r#"{"text":"hi"}"#) },
        ),
        (
            "0a0135420a0a016312016d1a027b7d",
            "5",
            Command::Update { channel_id: channel_id.clone(), message_id: message_id.clone(), content: text("{}") },
        ),
        ("0a01364a060a016312016d", "6", Command::Remove { channel_id, message_id }),
        ("0a0138c201070a016612027b7d", "8", Command::Rpc),
        ("0a0139d201090a01750a017612016e", "9", follow),
        ("0a023130e201030a0175", "10", Command::StatusUnfollow { user_ids: vec![text("u")] }),
        ("0a023131ea01080a060a0461776179", "11", status(Some(text("away")))),
        ("0a023132ea01040a020a00", "12", status(Some(text("")))),
        ("0a023132ea0100", "12", status(None)),
        ("0a0231336a00", "13", Command::Unsupported("match_create")),
        ("0a0231348a03080a017010011a0178", "14", Command::Unsupported("party_data_send")),
        ("0a0231359a010f080210041a012a22060a0161120162", "15", Command::Unsupported("matchmaker_add")),
    ] {
        check(&bytes_of(hex), cid, command);
    }
}

#[test]
fn a_ping_is_answered_as_the_page_on_the_wire_says() {
    let mut pong = Vec::new();
    encode_reply("7", &Reply::Pong, &mut pong);
    assert_eq!(pong, bytes_of("0a01378a0200"));
}

#[test]
fn absent_fields_have_their_defaults() {
    check(&field(3, b""), "", Command::Join(Join { target: "".into(), kind: 0, persistence: true, hidden: false }));
    check(&field(7, b""), "", Command::Send { channel_id: "".into(), content: "".into() });
    // A wrapper that is present but empty holds its value's default.
    let empty_wrappers = [field(3, b""), field(4, b"")].concat();
    let join = Join { target: "".into(), kind: 0, persistence: false, hidden: false };
    check(&field(3, &empty_wrappers), "", Command::Join(join));
}

#[test]
fn unknown_fields_are_ignored_at_any_depth() {
    let leave = Command::Leave { channel_id: "c".into() };
    // Fields 99, 100 and 101, with each wire type except groups.
    let unknown = bytes_of("980601a50600000000aa06023f3f");
    check(&[unknown.clone(), field(4, &field(1, b"c"))].concat(), "", leave.clone());
    check(&field(4, &[unknown, field(15, b"?"), field(1, b"c")].concat()), "", leave);
    assert_eq!(decode(&[0x98, 0x06, 1]), Err(Malformed::MissingPayload { cid: "".into() }));
}

#[test]
fn of_what_comes_twice_the_last_counts() {
    check(&[field(1, b"1"), field(1, b"2"), bytes_of("820200")].concat(), "2", Command::Ping);
    check(&bytes_of("8202008a0200"), "", Command::Pong);
    // But if the same payload comes twice, its parts are merged.
    let halves = [field(7, &field(1, b"c")), field(7, &field(2, b"{}"))].concat();
    check(&halves, "", Command::Send { channel_id: "c".into(), content: "{}".into() });
    // A payload that only servers send is refused if it is the last one, and does not count if another payload follows.
    assert!(matches!(decode(&bytes_of("8202002a00")), Err(Malformed::ServerPayload { .. })));
    check(&bytes_of("2a00820200"), "", Command::Ping);
}

#[test]
fn what_can_be_answered_before_closing() {
    let answer = |bytes: &[u8]| {
        let malformed = decode(bytes).expect_err("malformed");
        malformed.last_answer().map(|(cid, rejection)| (cid.to_owned(), rejection.code))
    };
    assert_eq!(answer(b""), Some((String::new(), RejectionCode::MissingPayload)));
    assert_eq!(answer(&field(1, b"7")), Some(("7".into(), RejectionCode::MissingPayload)));
    let sent_by_servers = [field(1, b"8"), field(5, b"")].concat();
    assert_eq!(answer(&sent_by_servers), Some(("8".into(), RejectionCode::UnrecognizedPayload)));
}

#[test]
fn refuses_what_is_no_protobuf_of_this_protocol() {
    for bytes in [
        b"{\"cid\":\"1\",\"ping\":{}}".as_slice(),
        // Text that is not UTF-8, at two depths.
        &field(1, b"\xff"),
        &field(4, &field(1, b"\xc3\x28")),
        // Cut off in a key, a length and a text; and a length beyond all bounds.
        b"\x82",
        b"\x0a",
        b"\x0a\x05ab",
        b"\x0a\xff\xff\xff\xff\xff\xff\xff\xff\x7f",
        b"\x0a\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01",
        // Wire types that are another field's, and that do not exist.
        b"\x08\x01",
        b"\x1a\x02\x0a\xff",
        b"\x1a\x02\x12\x00",
        b"\x0e\x00",
        // Field number zero, and the end of a group that never began.
        b"\x02\x00",
        b"\x0c",
    ] {
        refused(bytes);
    }
}

#[test]
fn deep_nesting_is_refused_and_no_danger() {
    // Nested groups of an unknown field, with and without their ends.
    let (begin, end) = (b"\x9b\x06".repeat(MESSAGE_BYTES_MAX / 4), b"\x9c\x06".repeat(MESSAGE_BYTES_MAX / 4));
    refused(&begin);
    refused(&[begin, end].concat());
    let shallow = [b"\x9b\x06".repeat(20), b"\x9c\x06".repeat(20), bytes_of("820200")].concat();
    check(&shallow, "", Command::Ping);
}

#[test]
fn the_longest_lists_are_read() {
    let names = MESSAGE_BYTES_MAX / 2 - 4;
    let bytes = [bytes_of("d201"), vec![(2 * names) as u8 | 0x80, ((2 * names) >> 7) as u8], b"\x0a\0".repeat(names)];
    let command = Command::StatusFollow { user_ids: vec![String::new(); names], usernames: Vec::new() };
    check(&bytes.concat(), "", command);
}

proptest! {
    #[test]
    fn no_bytes_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let _ = decode(&bytes);
    }

    #[test]
    fn no_near_miss_panics(
        command in commands::command(),
        style in commands::style(),
        places in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4),
        cut: prop::sample::Index,
    ) {
        let mut bytes = schema::bytes_of(&commands::written("1", &command, &style));
        let _ = decode(&bytes[..cut.index(bytes.len())]);
        for (place, byte) in places {
            let place = place.index(bytes.len());
            bytes[place] = byte;
        }
        let _ = decode(&bytes);
    }
}
