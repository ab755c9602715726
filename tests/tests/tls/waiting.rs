//! Handshakes that stop half-way, handshakes that come all at once, and certificates that change without a signal.

use std::fs;
use std::io::{ErrorKind, Read};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::Signal;
use tests::harness::{DEADLINE, Launch, make_certificate};

use crate::client::{Secured, config, secured};
use crate::{Stage, ask, stage, stage_with};

/// A handshake has ten seconds. The rest is for a busy test machine.
const HANDSHAKE_PATIENCE: Duration = Duration::from_secs(25);

/// Whether the server hangs up within the patience. What it says before is skipped.
fn is_hung_up_on(stream: &mut Secured) -> bool {
    let begun = Instant::now();
    while begun.elapsed() < HANDSHAKE_PATIENCE {
        match stream.sock.read(&mut [0; 4096]) {
            Ok(0) => return true,
            Ok(_) => {}
            Err(error) => return error.kind() == ErrorKind::ConnectionReset,
        }
    }
    false
}

#[test]
fn a_handshake_left_half_done_ends_in_its_time() {
    let stage = stage();
    let greeting_of = |stream: &mut Secured| {
        let mut greeting = Vec::new();
        stream.conn.write_tls(&mut greeting).expect("a greeting");
        greeting
    };
    let (mut half, mut silent, mut whole) = (stage.connect(), stage.connect(), stage.connect());
    let greeting = greeting_of(&mut half);
    half.sock.send_raw(&greeting[..greeting.len() / 2]);
    // This one is answered, and does not go on.
    let greeting = greeting_of(&mut whole);
    whole.sock.send_raw(&greeting);
    let begun = Instant::now();
    thread::scope(|scope| {
        for stream in [&mut half, &mut silent, &mut whole] {
            scope.spawn(move || assert!(is_hung_up_on(stream), "still open after {:?}", begun.elapsed()));
        }
    });
    assert_eq!(ask(&mut stage.connect(), "GET /healthcheck HTTP/1.1", "", "close"), "{}");
}

fn put_off(stage: &Stage) -> u64 {
    let page = stage.server.admin().get("/metrics", "").body;
    let line = page.lines().find_map(|line| line.strip_prefix("stentor_tls_steps_put_off_total "));
    line.and_then(|number| number.parse().ok()).unwrap_or_else(|| panic!("{page}"))
}

#[test]
fn handshakes_that_come_all_at_once_take_many_turns() {
    const CLIENTS: usize = 100;
    /// `HANDSHAKES_PER_TURN_MAX` of the gateway.
    const OF_A_TURN: usize = 16;
    let stage = stage_with(|launch: Launch| launch.admin("127.0.0.1:0"));
    assert_eq!(ask(&mut stage.connect(), "GET /healthcheck HTTP/1.1", "", "close"), "{}");
    assert_eq!(put_off(&stage), 0, "one client is not too many");
    // When the server goes on it finds all greetings at once.
    stage.server.signal(Signal::STOP);
    let greet = |_| {
        let mut stream = stage.connect();
        stream.conn.write_tls(&mut stream.sock).expect("a greeting");
        stream
    };
    let mut streams: Vec<Secured> = (0..CLIENTS).map(greet).collect();
    stage.server.signal(Signal::CONT);
    for stream in &mut streams {
        assert_eq!(ask(stream, "GET /healthcheck HTTP/1.1", "", "close"), "{}");
    }
    assert!(put_off(&stage) as usize >= CLIENTS - OF_A_TURN, "{} were put off", put_off(&stage));
}

#[test]
fn a_certificate_that_changes_is_taken_up_without_a_signal() {
    let stage = stage();
    let token = stage.sign_in("a-device-of-tls-9");
    let mut session = stage.session(&token);
    let channel = session.join("renewed");
    let (certificate, key) = make_certificate(stage.directory.path(), "next-");
    let next = config(&certificate);
    for (new, name) in [(&certificate, "cert.pem"), (&key, "key.pem")] {
        fs::copy(new, stage.directory.path().join(name)).expect("our own files");
    }
    let begun = Instant::now();
    let is_renewed = || {
        let mut stream = secured(stage.server.address(), next.clone(), &[]);
        let Secured { conn, sock } = &mut stream;
        while conn.is_handshaking() {
            if conn.complete_io(sock).is_err() {
                return false;
            }
        }
        true
    };
    while !is_renewed() {
        assert!(begun.elapsed() < DEADLINE, "the old one is still shown: {}", stage.server.output());
        thread::sleep(Duration::from_millis(100));
    }
    let said = session.ask(&crate::say(&channel, &serde_json::json!({ "after": "the change" })));
    assert!(said["channel_message_ack"].is_object(), "{said}");
}
