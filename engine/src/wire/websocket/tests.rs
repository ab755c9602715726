//! Tests of the frame codec: every refusal with its close code, and that a client's messages arrive however the client
//! cuts them up.

use super::*;

mod client;
mod properties;
mod refusals;

use client::Frame;

/// The meanings of the frames in `bytes`, as text. All frames must be whole and valid.
fn meanings(mut bytes: Vec<u8>) -> Vec<String> {
    let mut assembly = Assembly::default();
    let mut rest = bytes.as_mut_slice();
    let mut meanings = Vec::new();
    while !rest.is_empty() {
        match decode(rest, &mut assembly, MESSAGE_BYTES_MAX) {
            Ok(Decoded::Frame { consumed, incoming }) => {
                meanings.push(format!("{incoming:?}"));
                rest = &mut rest[consumed..];
            }
            other => panic!("{meanings:?} then {other:?}"),
        }
    }
    meanings
}

#[test]
fn reads_each_kind_of_frame() {
    for (frame, expected) in [
        (Frame::text("hé"), r#"Text("hé")"#),
        (Frame::text(""), r#"Text("")"#),
        (Frame::of(BINARY, b"\xff\0"), "Binary([255, 0])"),
        (Frame::of(PING, b"p"), "Ping([112])"),
        (Frame::of(PING, &[7; 125]), &format!("Ping({:?})", [7; 125])),
        (Frame::of(PONG, b""), "Pong([])"),
        (Frame::of(CLOSE, b""), r#"Close { code: None, reason: "" }"#),
        (Frame::of(CLOSE, b"\x03\xe8"), r#"Close { code: Some(CloseCode(1000)), reason: "" }"#),
        (Frame::of(CLOSE, b"\x0f\xa0bye \xc3\xa9"), r#"Close { code: Some(CloseCode(4000)), reason: "bye é" }"#),
    ] {
        assert_eq!(meanings(frame.bytes()), [expected]);
    }
}

#[test]
fn gathers_fragments_around_control_frames() {
    let mut bytes = Frame::text("he").unfinished().bytes();
    bytes.extend(Frame::of(PING, b"1").bytes());
    bytes.extend(Frame::of(CONTINUATION, b"").unfinished().bytes());
    // A fragment may end in the middle of a character.
    bytes.extend(Frame::of(CONTINUATION, b"ll\xc3").unfinished().bytes());
    bytes.extend(Frame::of(PONG, b"").bytes());
    bytes.extend(Frame::of(CONTINUATION, b"\xa9").bytes());
    bytes.extend(Frame::text("next").bytes());
    let expected =
        ["Fragment", "Ping([49])", "Fragment", "Fragment", "Pong([])", r#"Text("hellé")"#, r#"Text("next")"#];
    assert_eq!(meanings(bytes), expected);
}

#[test]
fn a_whole_message_is_lent_and_an_idle_assembly_is_one_pointer() {
    let mut bytes = Frame::text("whole").bytes();
    let mut assembly = Assembly::default();
    let decoded = decode(&mut bytes, &mut assembly, MESSAGE_BYTES_MAX);
    assert!(matches!(
        decoded,
        Ok(Decoded::Frame { incoming: Incoming::Text(std::borrow::Cow::Borrowed("whole")), .. })
    ));
    assert_eq!(assembly.bytes(), 0);
    assert_eq!(size_of::<Assembly>(), size_of::<usize>());
}

#[test]
fn says_how_much_is_needed_and_leaves_the_beginning_untouched() {
    for (payload_bytes, header_bytes) in [(0, 6), (125, 6), (126, 8), (4096, 8)] {
        let whole = Frame::text(&"x".repeat(payload_bytes)).bytes();
        assert_eq!(whole.len(), header_bytes + payload_bytes);
        for cut in 0..whole.len() {
            let mut beginning = whole[..cut].to_vec();
            let decoded = decode(&mut beginning, &mut Assembly::default(), MESSAGE_BYTES_MAX);
            let Ok(Decoded::Incomplete { needed }) = decoded else { panic!("{cut} of {}: {decoded:?}", whole.len()) };
            assert!(cut < needed && needed <= whole.len());
            assert_eq!(beginning, whole[..cut]);
            assert!(cut <= UNFINISHED_BYTES_MAX);
        }
    }
}

#[test]
fn unmasks_as_one_byte_at_a_time_would() {
    for length in 0..100_usize {
        let payload: Vec<u8> = (0..length).map(|i| (i * 37) as u8).collect();
        let mask = [0x12, 0xff, 0, 0x80];
        let expected: Vec<u8> = payload.iter().zip(mask.iter().cycle()).map(|(byte, key)| byte ^ key).collect();
        let mut unmasked = payload;
        unmask(&mut unmasked, mask);
        assert_eq!(unmasked, expected);
    }
}

#[test]
fn writes_the_shortest_header() {
    for (payload_bytes, header) in [
        (0, vec![0x81, 0]),
        (125, vec![0x81, 125]),
        (126, vec![0x81, 126, 0, 126]),
        (65_535, vec![0x81, 126, 0xff, 0xff]),
        (65_536, vec![0x81, 127, 0, 0, 0, 0, 0, 1, 0, 0]),
    ] {
        let payload: Vec<u8> = (0..payload_bytes).map(|i| i as u8).collect();
        let mut out = b"before".to_vec();
        text_frame(&mut out, |out| out.extend_from_slice(&payload));
        let frame = out.strip_prefix(b"before").unwrap();
        assert_eq!(frame, [header.as_slice(), &payload].concat());
        assert_eq!(frame_length(frame), Some(frame.len()));
        assert_eq!(frame_length(&frame[..header.len() - 1]), None);
    }
}

#[test]
fn writes_control_frames() {
    let written = |write: &dyn Fn(&mut Vec<u8>)| {
        let mut out = Vec::new();
        write(&mut out);
        assert_eq!(frame_length(&out), Some(out.len()));
        out
    };
    assert_eq!(written(&|out| ping_frame(out, b"")), [0x89, 0]);
    assert_eq!(written(&|out| pong_frame(out, b"1")), [0x8a, 1, b'1']);
    assert_eq!(written(&|out| close_frame(out, None, "unsaid")), [0x88, 0]);
    assert_eq!(written(&|out| close_frame(out, Some(CloseCode::NORMAL), "bye")), *b"\x88\x05\x03\xe8bye");
    // There are 123 bytes for a reason. A character that crosses this limit is left out completely.
    let cut = written(&|out| close_frame(out, Some(CloseCode::NORMAL), &"é".repeat(100)));
    assert_eq!(cut[..4], [0x88, 124, 0x03, 0xe8]);
    assert_eq!(cut[4..], *"é".repeat(61).as_bytes());
}
