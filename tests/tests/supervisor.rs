//! What systemd is told, over a socket as it has one.

use std::fs;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::sys::ptrace;
use nix::sys::wait::{WaitPidFlag, waitpid};
use nix::unistd::Pid;
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

/// A thread that stands still, as under a debugger, while its process goes on.
struct HeldThread(Pid);

impl HeldThread {
    /// Holds the first thread of the process whose name begins so.
    fn hold(process: u32, name: &str) -> Self {
        let tasks = fs::read_dir(format!("/proc/{process}/task")).expect("threads");
        let is_named = |task: &PathBuf| fs::read_to_string(task.join("comm")).is_ok_and(|comm| comm.starts_with(name));
        let named = tasks.map(|task| task.expect("a thread").path()).filter(is_named);
        let number = |task: PathBuf| task.file_name().and_then(|name| name.to_str()?.parse().ok()).expect("a number");
        let thread = Pid::from_raw(named.map(number).min().expect("a thread of that name"));
        ptrace::seize(thread, ptrace::Options::empty()).expect("a parent may hold its child");
        ptrace::interrupt(thread).expect("it is held");
        waitpid(thread, Some(WaitPidFlag::__WALL)).expect("it stands still");
        Self(thread)
    }

    fn release(self) {
        ptrace::detach(self.0, None).expect("it goes on");
    }
}

#[test]
fn a_shard_that_stands_still_keeps_the_server_from_giving_signs_of_life() {
    let (data, place) = (data_dir(), data_dir());
    let path = place.path().join("notify");
    let socket = listen(&path);
    let server = launch(data.path(), &path).shards(2).start();
    next_news(&socket);
    let held = HeldThread::hold(server.pid(), "shard-1");
    let patience = Duration::from_micros(WATCHDOG_USEC.into());
    socket.set_read_timeout(Some(patience)).expect("a socket");
    let mut bytes = [0; 64];
    // The signs of life of the shards' last turns.
    while socket.recv(&mut bytes).is_ok() {}
    assert!(server.output().contains("a shard does not turn"), "{}", server.output());
    held.release();
    socket.set_read_timeout(Some(DEADLINE)).expect("a socket");
    assert_eq!(next(&socket), ["WATCHDOG=1"]);
    server.assert_works("a shard that stood still");
}

#[test]
fn an_abstract_socket_is_told_too() {
    let data = data_dir();
    let name = format!("stentor-test-{}", std::process::id());
    let socket = UnixDatagram::bind_addr(&SocketAddr::from_abstract_name(&name).expect("a name")).expect("a socket");
    socket.set_read_timeout(Some(DEADLINE)).expect("a socket");
    let server = launch(data.path(), Path::new(&format!("@{name}"))).start();
    assert_eq!(next_news(&socket).0, ["READY=1", "STATUS=serving"]);
    server.stop();
    assert_eq!(next_news(&socket).0, ["STOPPING=1", "STATUS=stopping"]);
}

#[test]
fn a_socket_that_is_not_read_holds_nothing_up() {
    let (data, place) = (data_dir(), data_dir());
    let path = place.path().join("notify");
    let _unread = listen(&path);
    let filler = UnixDatagram::unbound().expect("a socket");
    filler.set_nonblocking(true).expect("a socket");
    while filler.send_to(b"x", &path).is_ok() {}
    let server = launch(data.path(), &path).start();
    server.assert_works("a supervisor that does not read");
    server.stop();
}

#[test]
fn a_socket_that_is_not_there_holds_nothing_up() {
    let data = data_dir();
    let server = launch(data.path(), Path::new("/nonexistent/notify")).start();
    server.assert_works("a start without its supervisor");
    assert!(server.output().contains("systemd cannot be told"), "{}", server.output());
}
