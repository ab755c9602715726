//! The measuring client against servers that do what the test tells them, over real sockets.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};

use super::*;
use crate::checker::Faults;
use crate::dialect::BARE_WELCOME;
use crate::frames;

const CONTENT_BYTES: usize = 100;

/// A server that welcomes `members` members and a publisher, reads `messages` messages, and then sends each member
/// those that `deliveries` lists for it, in pieces of an odd size.
fn serve(listener: &TcpListener, messages: usize, deliveries: &[&[usize]]) -> io::Result<()> {
    let (mut members, mut publisher) = (Vec::new(), None);
    let mut welcome = Vec::new();
    frames::put_server_text(BARE_WELCOME, &mut welcome);
    while members.len() < deliveries.len() || publisher.is_none() {
        let (mut socket, _) = listener.accept()?;
        let mut role = [0];
        socket.read_exact(&mut role)?;
        socket.write_all(&welcome)?;
        if role[0] == BARE_PUBLISHER { publisher = Some(socket) } else { members.push(socket) }
    }
    let mut frame = Vec::new();
    frames::put_server_text(
        crate::dialect::message_as_delivered(&checker::placeholder_content(CONTENT_BYTES)).as_bytes(),
        &mut frame,
    );
    let mut published = vec![0; frame.len() * messages];
    publisher.iter_mut().try_for_each(|socket| socket.read_exact(&mut published))?;
    for (member, list) in members.iter_mut().zip(deliveries) {
        let owed: Vec<u8> =
            list.iter().flat_map(|&at| published.chunks(frame.len()).nth(at)).flatten().copied().collect();
        owed.chunks(777).try_for_each(|piece| member.write_all(piece))?;
    }
    // Members stay connected until the client has read everything and closes.
    members.iter_mut().try_for_each(|member| member.read(&mut [0]).map(|_| ()))
}

fn check(messages: usize, deliveries: &'static [&'static [usize]], expected: Faults) {
    let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let address = listener.local_addr().unwrap();
    let server = std::thread::spawn(move || serve(&listener, messages, deliveries));
    let shape = Shape { members: deliveries.len(), content_bytes: CONTENT_BYTES };
    let mut room = Room::new(address, Dialect::Bare, shape).unwrap();
    room.fill().unwrap();
    let mut schedule = Schedule::new(room.now_ns(), 1e6, messages as u64);
    let sent: usize = deliveries.iter().map(|list| list.len()).sum();
    while room.received.checker.delivered + room.received.checker.faults.repeated_or_late < sent as u64 {
        room.turn(Some(&mut schedule)).unwrap();
    }
    assert_eq!(room.received.checker.take_faults(), expected);
    assert_eq!(room.received.latency_us.len(), room.received.checker.delivered + expected.repeated_or_late);
    drop(room);
    server.join().unwrap().unwrap();
}

#[test]
fn what_a_server_does_wrong_is_seen_through_real_sockets() {
    let faults = |missing, repeated_or_late| Faults { missing, repeated_or_late, foreign: 0 };
    check(4, &[&[0, 1, 2, 3], &[0, 1, 2, 3]], faults(0, 0));
    check(4, &[&[0, 1, 2, 3], &[0, 2, 3]], faults(1, 0));
    check(4, &[&[0, 1, 1, 2, 3], &[0, 1, 2, 3]], faults(0, 1));
    check(4, &[&[0, 2, 1, 3], &[3]], faults(4, 1));
}

fn read_client_text(socket: &mut TcpStream) -> io::Result<String> {
    let mut header = [0; 2];
    socket.read_exact(&mut header)?;
    assert_eq!((header[0], header[1] & 0x80), (0x81, 0x80), "a text frame, masked");
    let mut length = [0, header[1] & 0x7f];
    if length[1] == 126 {
        socket.read_exact(&mut length)?;
    }
    let mut mask = [0; 4];
    socket.read_exact(&mut mask)?;
    let mut payload = vec![0; usize::from(u16::from_be_bytes(length))];
    socket.read_exact(&mut payload)?;
    payload.iter_mut().zip(mask.iter().cycle()).for_each(|(byte, mask)| *byte ^= mask);
    String::from_utf8(payload).map_err(io::Error::other)
}

/// The server's side of a Nakama session with one member: opening, join, ping, one message.
fn speak_nakama(listener: &TcpListener) -> io::Result<()> {
    let (mut socket, _) = listener.accept()?;
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        socket.read_exact(&mut byte)?;
        head.push(byte[0]);
    }
    assert!(head.starts_with(b"GET /ws?lang=en&status=false&token=secret HTTP/1.1\r\n"));
    socket.write_all(b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n")?;
    socket.write_all(b"Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n")?;
    let join = read_client_text(&mut socket)?;
    assert!(join.contains(r#""persistence":false,"hidden":true"#), "{join}");
    let mut answer = Vec::new();
    frames::put_server_text(br#"{"cid":"j","channel":{"id":"2...bench"}}"#, &mut answer);
    answer.extend_from_slice(&[0x89, 2, b'h', b'i']);
    socket.write_all(&answer)?;
    let mut pong = [0; 8];
    socket.read_exact(&mut pong)?;
    assert_eq!((pong[0], pong[1]), (0x8a, 0x82));
    let send: serde_json::Value = serde_json::from_str(&read_client_text(&mut socket)?)?;
    let content = send["channel_message_send"]["content"].as_str().unwrap_or_default();
    let mut answer = Vec::new();
    frames::put_server_text(crate::dialect::message_as_delivered(content).as_bytes(), &mut answer);
    frames::put_server_text(br#"{"cid":"m","channel_message_ack":{"channel_id":"2...bench"}}"#, &mut answer);
    socket.write_all(&answer)?;
    socket.read(&mut [0]).map(|_| ())
}

#[test]
fn a_nakama_session_is_opened_joined_and_published_to() {
    let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let address = listener.local_addr().unwrap();
    let server = std::thread::spawn(move || speak_nakama(&listener));
    let shape = Shape { members: 1, content_bytes: CONTENT_BYTES };
    let dialect = Dialect::Stentor {
        tokens: vec!["secret".into()],
        persistence: crate::dialect::Persistence::Passing,
        room: crate::dialect::ROOM.into(),
    };
    let mut room = Room::new(address, dialect, shape).unwrap();
    room.admit(1).unwrap();
    room.appoint_publisher().unwrap();
    let mut schedule = Schedule::new(room.now_ns(), 1.0, 1);
    while room.received.acks == 0 {
        room.turn(Some(&mut schedule)).unwrap();
    }
    assert_eq!((room.received.checker.delivered, room.received.checker.take_faults()), (1, Faults::default()));
    drop(room);
    server.join().unwrap().unwrap();
}

#[test]
fn a_server_that_closes_or_refuses_is_a_failure() {
    let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let address = listener.local_addr().unwrap();
    let server = std::thread::spawn(move || -> io::Result<()> {
        let (mut socket, _) = listener.accept()?;
        socket.write_all(&[0x88, 4, 0x03, 0xf3, b'n', b'o'])?;
        socket.read(&mut [0]).map(|_| ())
    });
    let shape = Shape { members: 1, content_bytes: CONTENT_BYTES };
    let mut room = Room::new(address, Dialect::Bare, shape).unwrap();
    let failure = room.admit(1).unwrap_err();
    assert_eq!(failure.to_string(), "the server closed connection 0: code 1011 no");
    drop(room);
    server.join().unwrap().unwrap();
}
