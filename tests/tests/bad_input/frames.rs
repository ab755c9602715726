//! Frames that break RFC 6455, frames that are cut off, and unusual frames that are valid.

use tests::harness::{Ending, Launch, RawSocket, Server, data_dir, masked_frame, unmasked_frame};

const TEXT: u8 = 0x81;
const PING: &[u8] = br#"{"cid":"1","ping":{}}"#;
const PONG: &[u8] = br#"{"cid":"1","pong":{}}"#;

/// A masked header that announces this length in eight bytes, with no payload after it.
fn announced(first: u8, length: u64) -> Vec<u8> {
    let mut frame = vec![first, 0x80 | 127];
    frame.extend(length.to_be_bytes());
    frame.extend([1, 2, 3, 4]);
    frame
}

fn check(server: &Server, token: &str, case: &str, bytes: &[u8], expected: Ending) {
    let mut socket = RawSocket::upgraded(server.address(), token);
    socket.write(bytes);
    let (texts, ending) = socket.read_ending();
    assert_eq!(ending, expected, "{case}");
    assert!(texts.is_empty(), "{case}: {texts:?}");
    server.assert_works(case);
}

#[test]
fn broken_frames_close_with_their_code() {
    let data = data_dir();
    let server = Launch::on(data.path()).flag("--session-ttl", 3600).start();
    let token = server.sign_in("alice").token;
    let mut wide = vec![TEXT, 0x80 | 126, 0, 5];
    wide.extend([0; 4 + 5]);
    let mut wider = announced(TEXT, 5);
    wider.extend([0; 5]);
    let halves = |first: usize, second: usize| {
        [masked_frame(0x01, &vec![b' '; first]), masked_frame(0x80, &vec![b' '; second])].concat()
    };
    let cases: Vec<(&str, Vec<u8>, u16)> = vec![
        ("not masked", unmasked_frame(TEXT, PING), 1002),
        ("not masked control frame", unmasked_frame(0x89, b""), 1002),
        ("first reserved bit", masked_frame(0xc1, PING), 1002),
        ("second reserved bit", masked_frame(0xa1, PING), 1002),
        ("third reserved bit", masked_frame(0x91, PING), 1002),
        ("reserved bit on a ping", masked_frame(0xc9, b""), 1002),
        ("opcode 3", masked_frame(0x83, PING), 1002),
        ("opcode 7", masked_frame(0x87, b""), 1002),
        ("opcode 11", masked_frame(0x8b, b""), 1002),
        ("opcode 15", masked_frame(0x8f, b""), 1002),
        ("fragmented ping", masked_frame(0x09, b"a"), 1002),
        ("fragmented close", masked_frame(0x08, &[3, 232]), 1002),
        ("ping of 126 bytes", masked_frame(0x89, &[0; 126]), 1002),
        ("nothing to continue", masked_frame(0x80, PING), 1002),
        ("new message within a message", [masked_frame(0x01, b"{"), masked_frame(TEXT, PING)].concat(), 1002),
        ("length in two bytes for nothing", wide, 1002),
        ("length in eight bytes for nothing", wider, 1002),
        ("close with half a code", masked_frame(0x88, &[3]), 1002),
        ("close with code 999", masked_frame(0x88, &999u16.to_be_bytes()), 1002),
        ("close with code 1005", masked_frame(0x88, &1005u16.to_be_bytes()), 1002),
        ("close with code 1006", masked_frame(0x88, &1006u16.to_be_bytes()), 1002),
        ("close with code 5000", masked_frame(0x88, &5000u16.to_be_bytes()), 1002),
        ("close whose reason is no text", masked_frame(0x88, &[3, 232, 0xff]), 1007),
        ("text that is no UTF-8", masked_frame(TEXT, b"{\"cid\":\"\xff\",\"ping\":{}}"), 1007),
        ("overlong UTF-8", masked_frame(TEXT, b"{\"cid\":\"\xc0\xaf\",\"ping\":{}}"), 1007),
        ("a surrogate in UTF-8", masked_frame(TEXT, b"{\"cid\":\"\xed\xa0\x80\",\"ping\":{}}"), 1007),
        ("UTF-8 cut at the end", masked_frame(TEXT, b"{\"cid\":\"\xe2\x82"), 1007),
        ("binary", masked_frame(0x82, PING), 1000),
        ("4,097 bytes", masked_frame(TEXT, &[b' '; 4097]), 1009),
        ("4,097 bytes, only announced", masked_frame(TEXT, &[b' '; 4097])[..8].to_vec(), 1009),
        ("70,000 bytes, only announced", announced(TEXT, 70_000), 1009),
        ("a terabyte, only announced", announced(TEXT, 1 << 40), 1009),
        ("4,097 bytes in two fragments", halves(4000, 97), 1009),
    ];
    for (case, bytes, code) in cases {
        check(&server, &token, case, &bytes, Ending::Code(code));
    }
}

#[test]
fn a_length_beyond_63_bits_is_refused() {
    let data = data_dir();
    let server = Launch::on(data.path()).start();
    let token = server.sign_in("alice").token;
    let mut socket = RawSocket::upgraded(server.address(), &token);
    socket.write(&announced(TEXT, u64::MAX));
    // Both codes are right: the frame breaks the protocol and is too big.
    let (_, ending) = socket.read_ending();
    assert!(matches!(ending, Ending::Code(1002 | 1009)), "{ending:?}");
    server.assert_works("a length beyond 63 bits");
}

#[test]
fn frames_cut_short_end_quietly() {
    let data = data_dir();
    let server = Launch::on(data.path()).flag("--session-ttl", 3600).start();
    let token = server.sign_in("alice").token;
    let whole = masked_frame(TEXT, PING);
    let fragment = masked_frame(0x01, PING);
    for bytes in [&whole[..1], &whole[..2], &whole[..5], &whole[..6], &whole[..whole.len() - 1], &fragment[..]] {
        let case = format!("{} of {} bytes", bytes.len(), whole.len());
        let mut socket = RawSocket::upgraded(server.address(), &token);
        socket.write(bytes);
        socket.finish_writing();
        let (texts, _) = socket.read_ending();
        assert!(texts.is_empty(), "{case}: {texts:?}");
        server.assert_works(&case);
        // The same, with a connection that is dropped without a close frame.
        let mut socket = RawSocket::upgraded(server.address(), &token);
        socket.write(bytes);
        drop(socket);
        server.assert_works(&case);
    }
}

#[test]
fn unusual_but_right_frames_are_understood() {
    let data = data_dir();
    let server = Launch::on(data.path()).start();
    let token = server.sign_in("alice").token;
    let mut socket = RawSocket::upgraded(server.address(), &token);
    let expect = |socket: &mut RawSocket, case: &str, first: u8, payload: &[u8]| {
        let frame = socket.read_frame().unwrap_or_else(|| panic!("{case}: the connection ended"));
        assert_eq!((frame.first, frame.payload.as_slice()), (first, payload), "{case}");
    };

    let case = "a message in three fragments, one of them empty";
    socket.write(&masked_frame(0x01, &PING[..5]));
    socket.write(&masked_frame(0x00, b""));
    socket.write(&masked_frame(0x80, &PING[5..]));
    expect(&mut socket, case, TEXT, PONG);

    let case = "a ping between two fragments";
    socket.write(&masked_frame(0x01, &PING[..5]));
    socket.write(&masked_frame(0x89, b"still there?"));
    expect(&mut socket, case, 0x8a, b"still there?");
    socket.write(&masked_frame(0x80, &PING[5..]));
    expect(&mut socket, case, TEXT, PONG);

    let case = "a character split between two fragments";
    let text = "{\"cid\":\"ü\",\"ping\":{}}".as_bytes();
    socket.write(&masked_frame(0x01, &text[..9]));
    socket.write(&masked_frame(0x80, &text[9..]));
    expect(&mut socket, case, TEXT, "{\"cid\":\"ü\",\"pong\":{}}".as_bytes());

    let case = "a frame byte by byte";
    for byte in masked_frame(TEXT, PING) {
        socket.write(&[byte]);
    }
    expect(&mut socket, case, TEXT, PONG);

    let case = "many frames in one write";
    socket.write(&masked_frame(TEXT, PING).repeat(50));
    for _ in 0..50 {
        expect(&mut socket, case, TEXT, PONG);
    }

    let case = "4,096 bytes in fragments";
    let long = [b" ".repeat(4096 - PING.len()).as_slice(), PING].concat();
    socket.write(&masked_frame(0x01, &long[..1000]));
    socket.write(&masked_frame(0x00, &long[1000..2000]));
    socket.write(&masked_frame(0x80, &long[2000..]));
    expect(&mut socket, case, TEXT, PONG);

    let case = "an unasked pong";
    socket.write(&masked_frame(0x8a, b"unasked"));
    socket.write(&masked_frame(TEXT, PING));
    expect(&mut socket, case, TEXT, PONG);
}

#[test]
fn a_close_is_echoed_with_its_code() {
    let data = data_dir();
    let server = Launch::on(data.path()).flag("--session-ttl", 3600).start();
    let token = server.sign_in("alice").token;
    for code in [1000u16, 1001, 3000, 4999] {
        let close = masked_frame(0x88, &[&code.to_be_bytes()[..], b"bye"].concat());
        check(&server, &token, &format!("close {code}"), &close, Ending::Code(code));
    }
    check(&server, &token, "close without a code", &masked_frame(0x88, b""), Ending::Code(1005));
    let then_more = [masked_frame(0x88, &1000u16.to_be_bytes()), masked_frame(TEXT, PING)].concat();
    check(&server, &token, "frames after a close", &then_more, Ending::Code(1000));
}
