//! A peer learns what it has to know within the turn that decides it, even if the thread never rests. Closing a
//! connection needs no turn of glommio's reactor; it would if a pending poll of glommio held the socket.
//!
//! This test has no executor, only turns, so nothing can depend on an executor.

mod support;

use std::net::TcpStream;

use engine::limits::Rules;

use support::shore::Shore;
use support::{connect, frame, opening, read_to_end, say};

/// Turns from the arrival of the bytes to the end of the connection. One turn reads them and writes the last answer,
/// the next one hangs up.
const TURNS_MAX: usize = 3;

fn shore() -> Shore {
    Shore::new(Rules::default(), 1000)
}

/// For a connection whose bytes get a last answer: checks that the client gets this answer and the end within few
/// turns.
fn assert_ended_at_once(shore: &mut Shore, mut stream: TcpStream, what: &str, last_words: &[u8]) {
    shore.turn_until_heard(&stream);
    (0..TURNS_MAX).for_each(|_| shore.turn());
    // From here on there are no more turns: what the server has not sent by now it never sends.
    let heard = read_to_end(&mut stream);
    let found = heard.windows(last_words.len()).any(|bytes| bytes == last_words);
    assert!(found, "{what}: {:?} not in {:?}", String::from_utf8_lossy(last_words), String::from_utf8_lossy(&heard));
}

#[test]
fn the_end_of_a_session_reaches_the_peer_at_once() {
    let mut shore = shore();
    let check = |shore: &mut Shore, what: &str, bytes: &[u8], last_words: &[u8]| {
        let mut stream = shore.session();
        say(&mut stream, bytes);
        assert_ended_at_once(shore, stream, what, last_words);
    };
    check(&mut shore, "a close frame is echoed", &frame(0x88, &1000u16.to_be_bytes()), &[0x88, 2, 0x03, 0xe8]);
    check(&mut shore, "a binary frame", &frame(0x82, b"x"), b"send text frames");
    check(&mut shore, "bad JSON", &frame(0x81, b"{"), &[0x88]);
    check(&mut shore, "an unmasked frame", &[0x81, 2, b'{', b'}'], &[0x03, 0xea]);
}

#[test]
fn the_refusal_of_an_opening_reaches_the_peer_at_once() {
    let mut shore = shore();
    let mut stream = connect(shore.address);
    // A connection that stays open goes to the HTTP server, which needs an executor.
    say(&mut stream, opening("forged").replace("Connection: Upgrade", "Connection: close, Upgrade").as_bytes());
    assert_ended_at_once(&mut shore, stream, "a forged token", b"HTTP/1.1 401 ");
}
