//! What systemd is told, over a socket as it has one.

use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::time::Duration;

use rustix::process::Signal;
use tests::harness::{DEADLINE, Launch, data_dir};

/// The time after which systemd would kill the server, in microseconds.
const WATCHDOG_USEC: u32 = 900_000;

fn listen(path: &Path) -> UnixDatagram {
    let socket = UnixDatagram::bind(path).expect("a socket");
    socket.set_read_timeout(Some(DEADLINE)).expect("a socket");
    socket
}

/// The next message, as lines.
fn next(socket: &UnixDatagram) -> Vec<String> {
    let mut bytes = [0; 4096];
    let length = socket.recv(&mut bytes).expect("a message in time");
    String::from_utf8(bytes[..length].to_vec()).expect("text").lines().map(str::to_owned).collect()
}

/// The next message that is no sign of life, and how many of those came before.
fn next_news(socket: &UnixDatagram) -> (Vec<String>, usize) {
    let mut signs = 0;
    loop {
        match next(socket) {
            lines if lines == ["WATCHDOG=1"] => signs += 1,
            lines => return (lines, signs),
        }
    }
}

fn launch(data: &Path, socket: &Path) -> Launch {
    Launch::on(data)
        .environment("NOTIFY_SOCKET", &socket.display().to_string())
        .environment("WATCHDOG_USEC", &WATCHDOG_USEC.to_string())
}

#[test]
fn systemd_is_told_of_the_start_of_life_and_of_the_stop() {
    let (data, place) = (data_dir(), data_dir());
    let path = place.path().join("notify");
    let socket = listen(&path);
    let server = launch(data.path(), &path).shards(2).start();
    assert_eq!(next_news(&socket).0, ["READY=1", "STATUS=serving"]);
    for _ in 0..5 {
        assert_eq!(next(&socket), ["WATCHDOG=1"], "while the shards turn");
    }
    server.stop();
    assert_eq!(next_news(&socket).0, ["STOPPING=1", "STATUS=stopping"]);
    // The process has ended. A sign of life may have been under way.
    socket.set_read_timeout(Some(Duration::from_millis(1))).expect("a socket");
    let mut bytes = [0; 64];
    while let Ok(length) = socket.recv(&mut bytes) {
        assert_eq!(&bytes[..length], b"WATCHDOG=1\n");
    }
}

#[test]
fn a_process_that_stands_still_gives_no_sign_of_life() {
    let (data, place) = (data_dir(), data_dir());
    let path = place.path().join("notify");
    let socket = listen(&path);
    let server = launch(data.path(), &path).start();
    next_news(&socket);
    server.signal(Signal::STOP);
    let patience = Duration::from_micros(WATCHDOG_USEC.into());
    socket.set_read_timeout(Some(patience)).expect("a socket");
    let mut bytes = [0; 64];
    // What was sent before it stood still.
    while socket.recv(&mut bytes).is_ok() {}
    server.signal(Signal::CONT);
    socket.set_read_timeout(Some(DEADLINE)).expect("a socket");
    assert_eq!(next(&socket), ["WATCHDOG=1"]);
    server.assert_works("a while without a sign of life");
}

#[test]
fn a_socket_that_is_not_there_holds_nothing_up() {
    let data = data_dir();
    let server = launch(data.path(), Path::new("/nonexistent/notify")).start();
    server.assert_works("a start without its supervisor");
    assert!(server.output().contains("systemd cannot be told"), "{}", server.output());
}
