//! `loadgen connect` as a whole: all users connect and stay, or the report says which did not.

use std::io::{BufRead, BufReader, Read};
use std::process::{Command, Stdio};

use serde_json::Value;

use crate::fake_nakama::{FakeNakama, Fault};
use crate::{USERS, run_scenario};

fn connect(server: &FakeNakama, more: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_loadgen"));
    command.args(["connect", "--addr", &server.addr.to_string(), "--users", &USERS.to_string()]).args(more);
    command
}

fn run(server: &FakeNakama, more: &[&str]) -> (Option<i32>, Value, String) {
    run_scenario("connect", server, &[&["--users", "20", "--secs", "0.2"], more].concat())
}

#[test]
fn all_users_get_in_and_stay() {
    for fault in [Fault::None, Fault::ExpiredToken] {
        let server = FakeNakama::start(fault);
        let (code, report, text) = run(&server, &["--processes", "2", "--threads", "2"]);
        assert_eq!(code, Some(0), "{text}");
        for (figure, expected) in [("connected", USERS), ("shut_out", 0), ("disconnected", 0), ("processes", 2)] {
            assert_eq!(report["connections"][figure], expected, "{figure}: {text}");
        }
        assert_eq!(report["latency"]["connect"]["count"], USERS, "{text}");
        assert_eq!(report["latency"].get("join"), None, "{text}");
        assert!(report["memory"]["generator_per_user_bytes"].as_f64() > Some(0.0), "{text}");
    }
}

#[test]
fn idle_members_hear_pings_and_answer_them() {
    let server = FakeNakama::start(Fault::None);
    // The fake server pings every user that joins.
    let (code, report, text) = run(&server, &["--join", "--hidden"]);
    assert_eq!(code, Some(0), "{text}");
    assert_eq!(report["connections"]["pings_answered"], USERS, "{text}");
    assert_eq!(report["latency"]["join"]["count"], USERS, "{text}");
    assert_eq!(u64::from(server.pongs()), USERS);
}

#[test]
fn users_that_are_shut_out_or_lost_are_counted() {
    let server = FakeNakama::start(Fault::None);
    let (code, report, text) = run(&server, &["--server-key", "wrong"]);
    assert_eq!(code, Some(1), "{text}");
    assert_eq!(report["connections"]["shut_out"], USERS, "{text}");
    assert!(text.contains("401") && text.contains("never got in"), "{text}");

    let mut command = connect(&server, &["--secs", "600"]);
    let mut coordinator = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut said = BufReader::new(coordinator.stderr.take().unwrap()).lines();
    let holding = said.find(|line| line.as_ref().unwrap().starts_with("holding"));
    assert!(holding.is_some());
    drop(server);
    said.for_each(drop);
    let mut text = String::new();
    coordinator.stdout.take().unwrap().read_to_string(&mut text).unwrap();
    assert_eq!(coordinator.wait().unwrap().code(), Some(1), "{text}");
    assert!(text.contains(&format!("{USERS} users disconnected")), "{text}");
}
