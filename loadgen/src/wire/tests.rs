//! What a dialect writes is what it reads, and no bytes of a peer end the program.

use proptest::collection::vec;
use proptest::prelude::*;
use tokio_tungstenite::tungstenite::protocol::frame::coding::{Control, Data, OpCode};

use super::frames::{Frames, Whole};
use super::*;
use crate::base::content::{self, Content, ScheduleSlot};

#[test]
fn only_the_names_that_a_client_writes_are_its_requests() {
    for number in [0, 1, 10, 4_294_967_295] {
        let request = Request::Publish(number);
        assert_eq!(Request::of_cid(&request.cid()), Some(request));
    }
    for request in [Request::Join, Request::Leave] {
        assert_eq!(Request::of_cid(&request.cid()), Some(request));
    }
    for other in ["", "+7", "07", "00", "-1", " 7", "7 ", "4294967296", "Join", "x"] {
        assert_eq!(Request::of_cid(other), None, "{other:?}");
    }
}

#[test]
fn a_refusal_says_when_to_come_again_only_if_it_is_about_time() {
    for (limit, milliseconds, expected) in [
        ("sends_per_second", "350", Some(350)),
        ("work_per_session", "0", Some(0)),
        ("work_per_user", "3000", Some(3_000)),
        ("banned", "350", None),
        ("", "350", None),
        ("work_per_user", "", None),
        ("work_per_user", "-1", None),
        ("work_per_user", "soon", None),
    ] {
        assert_eq!(retry_after(limit, milliseconds), expected.map(Duration::from_millis), "{limit} {milliseconds}");
    }
}

#[test]
fn a_frame_weighs_its_payload_and_its_header() {
    for (payload, header) in [(0, 2), (125, 2), (126, 4), (65_535, 4), (65_536, 10)] {
        let frames = [Frame::Text("x".repeat(payload).into()), Frame::Binary(vec![b'x'; payload].into())];
        for frame in frames {
            assert_eq!(frame.wire_bytes(), (payload + header) as u64, "{payload} bytes");
            assert_eq!(frame.shown().len(), payload);
        }
    }
}

#[test]
fn every_kind_has_a_code_of_its_own_that_is_read_as_this_kind() {
    for kind in [Kind::New, Kind::Update, Kind::Removal, Kind::Event] {
        assert_eq!(Kind::of_code(kind.code().into()), Some(kind));
    }
    assert_eq!([-1, 10, i32::MAX, i32::MIN].map(Kind::of_code), [None; 4]);
}

#[test]
fn a_dialect_reads_only_frames_of_its_own_kind() {
    let [text, binary] = [Frame::Text("{}".into()), Frame::Binary(Bytes::new())];
    for (dialect, frame, readable) in [
        (Dialect::Json, &text, true),
        (Dialect::Json, &binary, false),
        (Dialect::Protobuf, &text, false),
        (Dialect::Protobuf, &binary, true),
    ] {
        let read = dialect.read(frame, &mut Scratch::default(), |heard| assert_eq!(heard, Heard::Other));
        assert_eq!(read.is_ok(), readable, "{dialect:?}, {frame:?}");
    }
}

fn frame(message: Message) -> Frame {
    match message {
        Message::Text(text) => Frame::Text(text),
        Message::Binary(bytes) => Frame::Binary(bytes),
        other => panic!("{other:?}"),
    }
}

/// What a server of this dialect sends, as the client's frame.
fn served(dialect: &Dialect, bytes: Vec<u8>) -> Frame {
    match dialect.speaks_text() {
        true => Frame::Text(Utf8Bytes::try_from(bytes).expect("text")),
        false => Frame::Binary(bytes.into()),
    }
}

/// The only meaning of a frame, in words that can be compared.
fn meaning(dialect: &Dialect, frame: &Frame) -> String {
    let mut meanings = Vec::new();
    let read = dialect.read(frame, &mut Scratch::default(), |heard| meanings.push(format!("{heard:?}")));
    assert_eq!((read, meanings.len()), (Ok(()), 1), "{meanings:?}");
    meanings.remove(0)
}

fn plain() -> Dialect {
    let send = "MSG {room} {content_json}".to_owned();
    Dialect::Plain(Plain { url: String::new(), greeting: None, welcome: Some("hello".to_owned()), send })
}

/// A value of JSON with this text somewhere inside, wrapped as often as the list says: as a member, in a list, or as a
/// text that is JSON again.
fn wrapped(text: &str, layers: &[u8]) -> String {
    let mut value = serde_json::Value::from(text);
    for layer in layers {
        value = match layer % 3 {
            0 => serde_json::json!({ "kind": "said", "data": value }),
            1 => serde_json::json!([1, value]),
            _ => serde_json::Value::from(value.to_string()),
        };
    }
    value.to_string()
}

proptest! {
    #[test]
    fn a_server_reads_what_a_client_writes(number: u32, user: u32, room in ".{1,40}", text in ".{0,200}") {
        let entrance = Entrance { room: room.clone(), hidden: true, persistence: false };
        for dialect in [Dialect::Json, Dialect::Protobuf] {
            let join = frame(dialect.join(&entrance, user).expect("a join"));
            prop_assert_eq!(dialect.asked(&join), Asked::Join { cid: "join".to_owned(), room: room.clone() });
            let send = frame(dialect.send(user, number, &room, &text));
            let expected = Asked::Send { cid: number.to_string(), room: room.clone(), content: text.clone() };
            prop_assert_eq!(dialect.asked(&send), expected);
        }
    }

    #[test]
    fn a_client_reads_what_a_server_writes(number: u32, id in ".{1,40}", text in ".{0,200}", bytes in 0_usize..2_000) {
        for dialect in [Dialect::Json, Dialect::Protobuf] {
            let push = dialect.pushed(&id, &text, bytes);
            let expected = Heard::Message { id: &id, kind: Kind::New, content: &text };
            // An id with an escape is none of a server's: it is refused and not taken for another one.
            let escaped = dialect == Dialect::Json && serde_json::json!(id).to_string().contains('\\');
            let push = served(&dialect, push);
            if escaped {
                let read = dialect.read(&push, &mut Scratch::default(), |heard| panic!("{heard:?}"));
                prop_assert_eq!(read, Err(Unreadable));
            } else {
                prop_assert_eq!(meaning(&dialect, &push), format!("{expected:?}"));
                let accepted = served(&dialect, dialect.accepted(&number.to_string(), &id).expect("an answer"));
                let expected = Heard::Accepted { request: Some(Request::Publish(number)), id: &id };
                prop_assert_eq!(meaning(&dialect, &accepted), format!("{expected:?}"));
            }
        }
    }

    #[test]
    fn no_frame_ends_the_program(bytes in vec(any::<u8>(), 0..300), text in ".{0,300}") {
        for dialect in [Dialect::Json, Dialect::Protobuf, plain()] {
            for frame in [Frame::Binary(bytes.clone().into()), Frame::Text(text.clone().into())] {
                let mut meanings = 0;
                let read = dialect.read(&frame, &mut Scratch::default(), |_| meanings += 1);
                // A frame that cannot be read has no meaning, and any other has at least one.
                prop_assert_eq!(read.is_ok(), meanings > 0);
                dialect.asked(&frame);
            }
        }
    }

    #[test]
    fn a_content_is_found_however_it_is_wrapped(
        number: u32,
        publisher: u32,
        intended_ns: u64,
        payload in 0_usize..400,
        layers in vec(any::<u8>(), 0..4),
    ) {
        let content = Content { slot: ScheduleSlot { publisher, number }, intended_ns };
        let mut text = String::new();
        content::write(&mut text, 7, content, payload);
        let frame = Frame::Text(wrapped(&text, &layers).into());
        let mut found = Vec::new();
        let read = plain().read(&frame, &mut Scratch::default(), |heard| match heard {
            Heard::Message { id, content: text, .. } => {
                assert_eq!(id, text, "a content is its own id");
                found.push(content::read(text, 7));
            }
            other => panic!("{other:?}"),
        });
        prop_assert_eq!((read, found), (Ok(()), vec![Ok(content)]));
    }

    #[test]
    fn frames_come_back_whole_in_pieces_of_any_size(
        payloads in vec((0_u8..4, vec(any::<u8>(), 0..300)), 0..8),
        cuts in vec(1_usize..200, 1..40),
    ) {
        let opcode = |kind| match kind {
            0 => OpCode::Data(Data::Text),
            1 => OpCode::Data(Data::Binary),
            2 => OpCode::Control(Control::Ping),
            _ => OpCode::Control(Control::Pong),
        };
        let messages: Vec<Whole> =
            payloads.into_iter().map(|(kind, payload)| Whole { opcode: opcode(kind), payload }).collect();
        let bytes: Vec<u8> = messages.iter().flat_map(Whole::written).collect();
        let (mut frames, mut found, mut rest) = (Frames::of_server(), Vec::new(), bytes.as_slice());
        for cut in cuts.iter().cycle() {
            let (piece, more) = rest.split_at(rest.len().min(*cut));
            frames.take_in(piece);
            while let Some(message) = frames.next().expect("frames of a server") {
                found.push(message);
            }
            rest = more;
            if rest.is_empty() {
                break;
            }
        }
        prop_assert_eq!(found, messages);
    }
}

#[test]
fn an_update_and_a_removal_name_their_message() {
    for dialect in [Dialect::Json, Dialect::Protobuf] {
        let update = frame(dialect.update(8, "2...x", "f4", "{}").expect("an update"));
        let remove = frame(dialect.remove(9, "2...x", "f4").expect("a removal"));
        for request in [update, remove] {
            assert!(request.shown().contains("f4") && request.shown().contains("2...x"), "{request:?}");
            assert_eq!(dialect.asked(&request), Asked::Other, "the bare server knows neither");
        }
        assert!(dialect.has_answers() && dialect.confirms_joins() && dialect.has_sessions());
    }
    let plain = plain();
    assert!(plain.update(8, "r", "f4", "{}").is_none() && plain.remove(9, "r", "f4").is_none());
    assert!(!plain.has_answers() && plain.confirms_joins() && !plain.has_sessions());
    assert!(plain.leave("r").is_none(), "a user of a plain server only disconnects");
}

#[test]
fn a_dialect_travels_to_the_workers_unchanged() {
    for dialect in [Dialect::Json, Dialect::Protobuf, plain()] {
        let text = serde_json::to_string(&dialect).expect("text");
        assert_eq!(serde_json::from_str::<Dialect>(&text).expect("what was written"), dialect, "{text}");
    }
}
