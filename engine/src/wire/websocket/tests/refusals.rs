//! Tests of everything that a client must not send, and the code that the connection is closed with.

use super::*;

/// Checks that the last of `frames` is refused, and that those before it are not.
fn check(frames: &[Frame], violation: Violation, code: u16) {
    check_bytes(frames.iter().flat_map(Frame::bytes).collect(), frames.len(), violation, code);
}

/// Checks that the last of `frames` is refused after its header: the decoder does not wait for the payload.
fn check_by_header(frames: &[Frame], violation: Violation, code: u16) {
    check(frames, violation, code);
    let (last, before) = frames.split_last().unwrap();
    let header = last.header();
    // The decoder does not even wait for the mask.
    for end in [header.len() - 4, header.len()] {
        let bytes = before.iter().flat_map(Frame::bytes).chain(header[..end].iter().copied()).collect();
        check_bytes(bytes, frames.len(), violation, code);
    }
}

fn check_bytes(mut bytes: Vec<u8>, frames: usize, violation: Violation, code: u16) {
    let mut assembly = Assembly::default();
    let mut rest = bytes.as_mut_slice();
    for number in 1..=frames {
        match decode(rest, &mut assembly, MESSAGE_BYTES_MAX) {
            Ok(Decoded::Frame { consumed, .. }) if number < frames => rest = &mut rest[consumed..],
            Err(refused) if number == frames => {
                assert_eq!((refused, refused.close_code()), (violation, CloseCode(code)));
                assert!(refused.reason().len() <= CONTROL_BYTES_MAX - 2);
            }
            other => panic!("{violation:?}, frame {number}: {other:?}"),
        }
    }
}

#[test]
fn headers() {
    for bits in [0x40, 0x20, 0x10, 0x70] {
        check_by_header(&[Frame::text("x").with_bits(bits)], Violation::ReservedBits, 1002);
        check_by_header(&[Frame::of(PING, b"").with_bits(bits)], Violation::ReservedBits, 1002);
    }
    for opcode in [3, 4, 5, 6, 7, 11, 12, 13, 14, 15] {
        check_by_header(&[Frame::of(opcode, b"")], Violation::ReservedOpcode, 1002);
    }
    for opcode in [TEXT, BINARY, CLOSE, PING, PONG] {
        check(&[Frame::of(opcode, b"").masked_with(None)], Violation::NotMasked, 1002);
    }
}

#[test]
fn lengths_in_a_longer_form_than_needed() {
    for length in [0, 1, 125] {
        let frame = Frame::text(&"x".repeat(length));
        check_by_header(&[frame.clone().with_length_form(LENGTH_IS_U16)], Violation::LengthNotMinimal, 1002);
        check_by_header(&[frame.with_length_form(LENGTH_IS_U64)], Violation::LengthNotMinimal, 1002);
    }
    for length in [126, 4096, 65_535] {
        let frame = Frame::text(&"x".repeat(length)).with_length_form(LENGTH_IS_U64);
        check_by_header(&[frame], Violation::LengthNotMinimal, 1002);
    }
    check_bytes([&[0x81, 0xff], [0xff; 8].as_slice()].concat(), 1, Violation::LengthNotMinimal, 1002);
}

#[test]
fn control_frames() {
    for opcode in [CLOSE, PING, PONG] {
        check_by_header(&[Frame::of(opcode, b"").unfinished()], Violation::FragmentedControlFrame, 1002);
        check_by_header(&[Frame::of(opcode, &[b'x'; 126])], Violation::LongControlFrame, 1002);
        check_by_header(&[Frame::of(opcode, &[b'x'; 70_000])], Violation::LongControlFrame, 1002);
    }
}

#[test]
fn close_bodies() {
    check(&[Frame::of(CLOSE, b"\x03")], Violation::BadCloseCode, 1002);
    for code in [0_u16, 999, 1004, 1005, 1006, 1015, 1016, 1100, 2000, 2999, 5000, 65_535] {
        check(&[Frame::of(CLOSE, &code.to_be_bytes())], Violation::BadCloseCode, 1002);
    }
    check(&[Frame::of(CLOSE, b"\x03\xe8\xff")], Violation::InvalidUtf8, 1007);
    for code in [1000_u16, 1001, 1002, 1003, 1007, 1008, 1009, 1010, 1011, 1012, 1013, 1014, 3000, 4999] {
        assert_eq!(
            meanings(Frame::of(CLOSE, &code.to_be_bytes()).bytes()),
            [format!(r#"Close {{ code: Some(CloseCode({code})), reason: "" }}"#)]
        );
    }
}

#[test]
fn fragmentation() {
    let begun = || Frame::text("x").unfinished();
    let ended = || Frame::of(CONTINUATION, b"x");
    check_by_header(&[ended()], Violation::NothingToContinue, 1002);
    check_by_header(&[ended().unfinished()], Violation::NothingToContinue, 1002);
    check_by_header(&[begun(), ended(), ended()], Violation::NothingToContinue, 1002);
    check_by_header(&[begun(), Frame::text("x")], Violation::MessageNotFinished, 1002);
    check_by_header(&[begun(), Frame::of(PING, b""), Frame::of(BINARY, b"")], Violation::MessageNotFinished, 1002);
}

#[test]
fn text_that_is_not_utf_8() {
    for bytes in [b"\xff".as_slice(), b"\xc3", b"\xed\xa0\x80", b"\xc0\x80", b"\xf4\x90\x80\x80", b"0123456789\x80"] {
        check(&[Frame::of(TEXT, bytes)], Violation::InvalidUtf8, 1007);
        check(&[Frame::text("x").unfinished(), Frame::of(CONTINUATION, bytes)], Violation::InvalidUtf8, 1007);
    }
}

#[test]
fn messages_over_the_limit() {
    let text = |bytes: usize| "x".repeat(bytes);
    assert_eq!(meanings(Frame::text(&text(4096)).bytes()), [format!("Text({:?})", text(4096))]);
    check_by_header(&[Frame::text(&text(4097))], Violation::TooBig, 1009);
    check_by_header(&[Frame::text(&text(65_536))], Violation::TooBig, 1009);
    let begun = |bytes| Frame::text(&text(bytes)).unfinished();
    let more = |bytes| Frame::of(CONTINUATION, text(bytes).as_bytes());
    let fits = [begun(4000).bytes(), more(96).bytes()].concat();
    assert_eq!(meanings(fits), ["Fragment".into(), format!("Text({:?})", text(4096))]);
    check_by_header(&[begun(4000), more(97)], Violation::TooBig, 1009);
    check_by_header(&[begun(4096), more(0).unfinished(), more(1)], Violation::TooBig, 1009);
    assert_eq!(Violation::TooBig.reason(), "");
}
