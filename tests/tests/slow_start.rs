//! A start that takes long: each client is told at once to try again, until the server can serve it.

use std::net::TcpStream;
use std::thread;
use std::time::{Duration, Instant};

use tests::harness::{DEADLINE, FaultySyncs, Launch, Server, Socket, data_dir};

/// Requests that are refused while the start waits.
const REFUSED: usize = 3;

#[test]
fn a_start_that_takes_long_says_so_to_clients() {
    let (data, syncs) = (data_dir(), FaultySyncs::build());
    let server = Launch::on(data.path()).start();
    let (address, ada) = (server.address(), server.sign_in("ada"));
    let mut socket = Socket::connect(address, &ada.token);
    let channel = socket.join("lobby");
    socket.say(&channel, r#"{"n":1}"#);
    server.kill();

    // The new life cannot be recorded before this sync.
    syncs.hold();
    let server = Launch::on(data.path()).confined(syncs.confine()).begin_at(address);
    await_port(&server);
    for path in ["/healthcheck", "/v2/account", "/ws?token=x"].into_iter().cycle().take(3 * REFUSED) {
        let answer = server.http().request("GET", path, &[], "");
        assert_eq!(answer.status, 503, "{path}: {answer:?}");
        assert!(answer.headers.contains_key("retry-after"), "{path}: {answer:?}");
        assert_eq!(answer.json()["code"], 14, "{path}: {answer:?}");
    }

    syncs.let_go();
    let begun = Instant::now();
    loop {
        let answer = server.http().request("GET", "/healthcheck", &[], "");
        if answer.status == 200 {
            break;
        }
        assert_eq!(answer.status, 503, "{answer:?}");
        assert!(begun.elapsed() < DEADLINE, "the start goes on: {answer:?}");
        thread::sleep(Duration::from_millis(10));
    }
    assert_eq!(server.http().history_after(&ada.token, &channel, None).0.len(), 1);
    server.assert_works("a slow start");
}

fn await_port(server: &Server) {
    let begun = Instant::now();
    while TcpStream::connect(server.address()).is_err() {
        assert!(begun.elapsed() < DEADLINE, "the port opens; the server said:\n{}", server.output());
        thread::sleep(Duration::from_millis(5));
    }
}
