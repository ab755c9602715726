//! A disk that hangs: its syncs do not return. Clients are answered in time, and what they were told is compared with what
//! is there when the disk has come back.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use rustix::process::Signal;
use serde_json::{Value, json};
use tests::harness::{DEADLINE, FaultySyncs, Launch, SERVER_KEY, Server, Socket, data_dir};

/// Messages that are sent at once while the disk hangs.
const BURST: usize = 200;

fn readiness(server: &Server) -> (u16, String) {
    let answer = server.http().request("GET", "/readyz", &[], "");
    (answer.status, answer.body)
}

/// Asks `/readyz` until it answers with this status, and returns the body.
fn await_readiness(server: &Server, expected: u16) -> String {
    let begun = Instant::now();
    loop {
        let (status, body) = readiness(server);
        if status == expected {
            return body;
        }
        assert!(begun.elapsed() < DEADLINE, "{status} {body}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Sends without waiting for the answers.
fn send_burst(socket: &mut Socket, channel: &str, first: usize) {
    for number in first..first + BURST {
        let send = json!({"channel_id": channel, "content": json!({ "number": number }).to_string()});
        socket.send_text(&json!({"cid": number.to_string(), "channel_message_send": send}).to_string());
    }
}

/// What the answers to a burst say: by the number of the message, whether it was done, refused or is unknown.
fn outcomes(socket: &mut Socket, count: usize) -> BTreeMap<usize, &'static str> {
    let mut found = BTreeMap::new();
    while found.len() < count {
        let answer = socket.receive();
        let Some(cid) = answer["cid"].as_str() else { continue };
        let outcome = match (&answer["error"], &answer["error"]["context"]) {
            (Value::Null, _) => "done",
            (_, Value::Null) => "refused",
            (_, context) => {
                assert_eq!(*context, json!({"outcome": "unknown"}));
                "unknown"
            }
        };
        found.insert(cid.parse().expect("a number"), outcome);
    }
    found
}

fn sign_up(server: &Server) -> (u16, u64) {
    let path = "/v2/account/authenticate/custom?create=true&username=carol";
    let answer = server.http().post(path, SERVER_KEY, &json!({"id": "custom-id-of-carol"}));
    (answer.status, answer.json()["code"].as_u64().unwrap_or_default())
}

#[test]
fn clients_of_a_stuck_disk_are_answered_in_time_and_told_the_truth() {
    let (data, syncs) = (data_dir(), FaultySyncs::build());
    let server = Launch::on(data.path()).flag("--session-ttl", 3600).confined(syncs.confine()).start();
    let ada = server.sign_in("ada");
    let mut socket = Socket::connect(server.address(), &ada.token);
    let channel = socket.join("lobby");
    socket.say(&channel, r#"{"number":"before"}"#);

    syncs.hold();
    send_burst(&mut socket, &channel, 0);
    let told = outcomes(&mut socket, BURST);
    let count = |said: &str| told.values().filter(|outcome| **outcome == said).count();
    assert_eq!(count("done"), 0, "nothing is acknowledged that is not on the disk");
    assert!(count("unknown") > 0, "{told:?}");
    let reason = await_readiness(&server, 503);
    assert!(reason.contains("the disk does not answer"), "{reason}");
    // From now on requests are refused soon, reads go on, and so does the talk that is not kept.
    send_burst(&mut socket, &channel, BURST);
    let refused = outcomes(&mut socket, BURST);
    assert!(refused.values().all(|outcome| *outcome == "refused"), "{refused:?}");
    assert_eq!(sign_up(&server), (503, 14));
    assert_eq!(server.http().history_after(&ada.token, &channel, None).0.len(), 1);
    assert_eq!(server.http().request("GET", "/healthz", &[], "").status, 200);
    let said = server.output();
    assert_eq!(said.matches("a commit is not over after 10s").count(), 1, "{said}");
    // Each kind of line is limited, whatever the number of requests.
    for line in ["it is unknown whether the store has done a request", "the store refused a request for now"] {
        let count = said.lines().filter(|said| said.contains(line) && said.contains("the disk")).count();
        assert!((1..=BURST / 10).contains(&count), "{count} times {line:?}:\n{said}");
    }

    syncs.let_go();
    await_readiness(&server, 200);
    assert_eq!(sign_up(&server).0, 200);
    socket.say(&channel, r#"{"number":"after"}"#);
    let history = server.http().history_after(&ada.token, &channel, None).0;
    for number in 0..2 * BURST {
        let content = json!({ "number": number }).to_string();
        let found = history.iter().filter(|message| message["content"] == content).count();
        match told.get(&number) {
            Some(&"unknown") => assert!(found <= 1, "{content} is there {found} times"),
            _ => assert_eq!(found, 0, "{content} was refused"),
        }
    }
    assert!(server.output().contains("the disk has answered"), "{}", server.output());
    server.assert_works("a stuck disk");
}

#[test]
fn a_stop_does_not_wait_for_a_stuck_disk() {
    let (data, syncs) = (data_dir(), FaultySyncs::build());
    let mut server = Launch::on(data.path()).confined(syncs.confine()).start();
    let mut socket = server.connect("ada");
    let channel = socket.join("lobby");
    syncs.hold();
    send_burst(&mut socket, &channel, 0);
    server.signal(Signal::TERM);
    let output = server.await_failure();
    assert!(output.contains("the disk does not answer"), "{output}");
    syncs.let_go();

    // Nothing is being written, and the last sync does not return.
    let mut server = Launch::on(data.path()).confined(syncs.confine()).start();
    server.assert_works("a stop that did not wait");
    syncs.hold();
    server.signal(Signal::TERM);
    let output = server.await_failure();
    assert!(output.contains("everything acknowledged is on it"), "{output}");
    syncs.let_go();
    Launch::on(data.path()).start().assert_works("another one");
}
