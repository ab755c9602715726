//! `loadgen room` as a whole, against a small server that can be told to commit one fault: each kind of fault is found
//! and named.

// Everything here is a test or a helper of tests; an error ends the test.
#![allow(clippy::unwrap_used)]

mod connect;
mod curve;
mod event;
mod fake_nakama;
mod history;
mod machines;
mod reports;

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use fake_nakama::{FakeNakama, Fault};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

const USERS: u64 = 20;
const MESSAGES: u64 = 100;
/// Longer than anything here takes, even on a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);

fn loadgen(server: &FakeNakama, more: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_loadgen"));
    command.args(["room", "--addr", &server.addr.to_string(), "--users", &USERS.to_string(), "--publishers", "4"]);
    command.args(["--rate", "200", "--settle", "1"]).args(more);
    command
}

/// Runs `loadgen room` to the end. Returns the exit code, the JSON report and the printed text.
fn run(server: &FakeNakama, more: &[&str]) -> (Option<i32>, Value, String) {
    let name = format!("loadgen-{}-{}.json", std::process::id(), server.addr.port());
    let json = std::env::temp_dir().join(name);
    let mut command = loadgen(server, &["--secs", "0.5", "--json", json.to_str().unwrap()]);
    let output = command.args(more).output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap() + &String::from_utf8(output.stderr).unwrap();
    let report = std::fs::read(&json).map(|bytes| serde_json::from_slice(&bytes).unwrap()).unwrap_or_default();
    let _ = std::fs::remove_file(json);
    (output.status.code(), report, text)
}

/// Runs another scenario to its end. Returns the exit code, the JSON report and the printed text.
fn run_scenario(scenario: &str, server: &FakeNakama, flags: &[&str]) -> (Option<i32>, Value, String) {
    let name = format!("loadgen-{scenario}-{}-{}.json", std::process::id(), server.addr.port());
    let json = std::env::temp_dir().join(name);
    let mut command = Command::new(env!("CARGO_BIN_EXE_loadgen"));
    command.args([scenario, "--addr", &server.addr.to_string(), "--json", json.to_str().unwrap()]).args(flags);
    let output = command.output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap() + &String::from_utf8(output.stderr).unwrap();
    let report = std::fs::read(&json).map(|bytes| serde_json::from_slice(&bytes).unwrap()).unwrap_or_default();
    let _ = std::fs::remove_file(json);
    (output.status.code(), report, text)
}

/// Checks that a run with the fault exits as expected, and that its report differs from a faultless one only as listed.
fn check(fault: Fault, exit_code: i32, differences: &[(&str, u64)]) {
    let server = FakeNakama::start(fault);
    let (code, report, text) = run(&server, &[]);
    assert_eq!(code, Some(exit_code), "{fault:?}\n{text}");
    assert_eq!(report["passed"], exit_code == 0, "{fault:?}\n{text}");
    let faultless = [
        ("/messages/scheduled", MESSAGES),
        ("/messages/sent", MESSAGES),
        ("/messages/accepted", MESSAGES),
        ("/messages/refused", 0),
        ("/messages/unanswered", 0),
        ("/messages/stray_answers", 0),
        ("/deliveries/expected", MESSAGES * USERS),
        ("/deliveries/delivered", MESSAGES * USERS),
        ("/deliveries/missing", 0),
        ("/deliveries/duplicates", 0),
        ("/deliveries/out_of_order", 0),
        ("/deliveries/corrupt", 0),
        ("/deliveries/refused_but_delivered", 0),
        ("/deliveries/unanswered_but_delivered", 0),
        ("/deliveries/foreign", 0),
        ("/connections/disconnected", 0),
    ];
    for (figure, usually) in faultless {
        let expected = differences.iter().find(|(name, _)| *name == figure).map_or(usually, |(_, value)| *value);
        let found = report.pointer(figure).and_then(Value::as_u64);
        assert_eq!(found, Some(expected), "{fault:?}: {figure}\n{text}");
    }
}

#[test]
fn a_faultless_server_passes() {
    check(Fault::None, 0, &[]);
}

#[test]
fn a_token_that_expired_is_replaced() {
    check(Fault::ExpiredToken, 0, &[]);
}

#[test]
fn a_lost_message_is_missing() {
    check(Fault::Drop, 1, &[("/deliveries/missing", 1), ("/deliveries/delivered", MESSAGES * USERS - 1)]);
}

#[test]
fn a_message_twice_is_a_duplicate() {
    check(Fault::Duplicate, 1, &[("/deliveries/duplicates", 1)]);
}

#[test]
fn two_messages_swapped_are_out_of_order() {
    let server = FakeNakama::start(Fault::Swap);
    let (code, report, text) = run(&server, &[]);
    assert_eq!(code, Some(1), "{text}");
    // The member that was first determines the order. So one member may differ from the rest, or the rest from that
    // member.
    assert!(report.pointer("/deliveries/out_of_order").and_then(Value::as_u64) > Some(0), "{text}");
    assert_eq!(report.pointer("/deliveries/missing"), Some(&Value::from(0)), "{text}");
}

#[test]
fn a_changed_byte_is_corrupt_and_its_message_missing() {
    let differences =
        [("/deliveries/corrupt", 1), ("/deliveries/missing", 1), ("/deliveries/delivered", MESSAGES * USERS - 1)];
    check(Fault::Corrupt, 1, &differences);
    check(Fault::Garbage, 1, &differences);
}

#[test]
fn an_id_that_differs_is_corrupt_and_an_id_used_twice_a_duplicate() {
    check(Fault::SameId, 1, &[("/deliveries/duplicates", 1)]);
    let server = FakeNakama::start(Fault::OtherId);
    // A single thread sees the difference itself. How often it sees it depends on which member was first.
    let (code, report, text) = run(&server, &["--threads", "1"]);
    assert_eq!(code, Some(1), "{text}");
    assert!(report.pointer("/deliveries/corrupt").and_then(Value::as_u64) > Some(0), "{text}");
}

#[test]
fn a_refused_message_is_counted_and_not_expected() {
    let refused = [
        ("/messages/refused", 1),
        ("/messages/accepted", MESSAGES - 1),
        ("/deliveries/expected", (MESSAGES - 1) * USERS),
        ("/deliveries/delivered", (MESSAGES - 1) * USERS),
    ];
    check(Fault::Refuse, 0, &refused);
    let mut delivered = refused.to_vec();
    delivered.push(("/deliveries/refused_but_delivered", USERS));
    check(Fault::RefuseButDeliver, 1, &delivered);
}

#[test]
fn a_missing_answer_fails_the_run_and_so_does_one_too_many() {
    let unanswered = [
        ("/messages/unanswered", 1),
        ("/messages/accepted", MESSAGES - 1),
        ("/deliveries/expected", (MESSAGES - 1) * USERS),
        ("/deliveries/delivered", (MESSAGES - 1) * USERS),
        ("/deliveries/unanswered_but_delivered", USERS),
    ];
    check(Fault::NoAnswer, 1, &unanswered);
    check(Fault::TwoAnswers, 1, &[("/messages/stray_answers", 1)]);
}

#[test]
fn a_closed_connection_fails_the_run() {
    let server = FakeNakama::start(Fault::Close);
    let (code, report, text) = run(&server, &[]);
    assert_eq!(code, Some(1), "{text}");
    assert_eq!(report["connections"]["disconnected"], 1, "{text}");
    assert!(text.contains("disconnected"), "{text}");
}

#[test]
fn processes_give_the_same_totals_as_one_and_pings_are_answered() {
    let server = FakeNakama::start(Fault::None);
    let (code, report, text) = run(&server, &["--processes", "3", "--threads", "2", "--hidden", "--no-persist"]);
    assert_eq!(code, Some(0), "{text}");
    assert_eq!(report["connections"]["processes"], 3);
    assert_eq!(report["deliveries"]["delivered"], MESSAGES * USERS, "{text}");
    assert_eq!(report["latency"]["delivery"]["count"], MESSAGES * USERS);
    assert_eq!(report["latency"]["ack"]["count"], MESSAGES);
    assert_eq!(report["connections"]["presence_frames"], 0);
    assert_eq!(u64::from(server.pongs()), USERS);
}

#[test]
fn warm_up_is_checked_but_not_measured_and_members_hear_of_each_other() {
    let server = FakeNakama::start(Fault::None);
    let own = std::process::id().to_string();
    let (code, report, text) =
        run(&server, &["--warmup", "0.25", "--sign-in", "device", "--pid", &own, "--server-key", "defaultkey"]);
    assert_eq!(code, Some(0), "{text}");
    assert_eq!(report["deliveries"]["delivered"], 150 * USERS, "{text}");
    assert_eq!(report["latency"]["delivery"]["count"], MESSAGES * USERS);
    assert_eq!(report["latency"]["generator_lateness"]["count"], MESSAGES);
    assert_eq!(report["connections"]["presence_incomplete_members"], 0);
    assert!(!report.to_string().contains("defaultkey"), "{report}");
    assert!(report["server"]["resident_joined_bytes"].as_u64() > Some(100_000), "{report}");
}

#[test]
fn costs_are_read_from_the_process_that_listens_and_from_its_metrics() {
    let server = FakeNakama::start(Fault::None);
    let (code, report, text) = run(&server, &["--metrics", &format!("http://{}/metrics", server.addr)]);
    assert_eq!(code, Some(0), "{text}");
    // The server is a thread of this process.
    assert!(report["server"]["resident_joined_bytes"].as_u64() > Some(100_000), "{report}");
    assert!(report["network"]["tcp_segments_with_data_both_ways"].as_u64() > Some(0), "{report}");
    assert_eq!(report["network"]["batch_factor"], 2.0, "{report}");
    assert_eq!(report["network"]["socket_writes_per_delivery"], 0.5, "{report}");
    let frame_bytes = report["network"]["weight_of_frames_heard_bytes"].as_u64();
    assert!(frame_bytes > Some(MESSAGES * USERS * 100), "{report}");
    assert!(report["generator_costs"]["resident_at_most_bytes"].as_u64() > Some(100_000), "{report}");
}

#[test]
fn a_bare_loop_does_the_same_and_the_figures_are_shares_of_its() {
    let server = FakeNakama::start(Fault::None);
    let (code, report, text) = run(&server, &["--baseline", "--metrics", &format!("http://{}/metrics", server.addr)]);
    assert_eq!(code, Some(0), "{text}");
    assert_eq!(report["baseline"]["the_bare_run_was"], "faultless", "{text}");
    assert!(report["share_of_the_baseline"]["deliveries_per_second"].as_f64() > Some(0.0), "{report}");
    // The cost of checking beside reading is reported as well. CPU time is counted by whole seconds, so for such a
    // short run it may be zero.
    for row in ["cpu_per_delivery_checked_us", "cpu_per_delivery_only_read_us", "checked_in_times_of_only_read"] {
        assert!(report["checking_beside_reading"][row].is_number(), "{row}: {report}");
    }
    // The baseline's messages are as long as the server's.
    let weight = report["share_of_the_baseline"]["weight_of_frames_per_delivery"].as_f64();
    assert!(weight > Some(0.9) && weight < Some(1.1), "{report}");
}

fn selftest(server: &FakeNakama) -> (Option<i32>, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_loadgen"));
    command.args(["selftest", "--addr", &server.addr.to_string(), "--users", "8", "--secs", "1", "--one-in", "100"]);
    let output = command.output().unwrap();
    (output.status.code(), String::from_utf8(output.stdout).unwrap())
}

#[test]
fn the_self_test_sees_every_kind_of_fault_found_and_named() {
    let (code, text) = selftest(&FakeNakama::start(Fault::None));
    assert_eq!(code, Some(0), "{text}");
    for kind in ["drop", "duplicate", "reorder", "corrupt", "delay"] {
        let row = text.lines().find(|line| line.contains(&format!("│ {kind}"))).unwrap_or_default();
        assert!(row.contains("found and named right"), "{kind}: {text}");
        // 8 members receive 200 messages each, and one delivery in 100 is faulty. A publisher's last message cannot be
        // reordered.
        assert!(row.contains("┆        16 ┆") || kind == "reorder", "{kind}: {text}");
        // The same for a fault at one member only.
        let row = text.lines().find(|line| line.contains(&format!("│ {kind}, one member"))).unwrap_or_default();
        assert!(row.contains("found and named right"), "{kind}: {text}");
    }
}

#[test]
fn the_self_test_fails_where_even_an_honest_run_has_faults() {
    let (code, text) = selftest(&FakeNakama::start(Fault::TwoAnswers));
    assert_eq!(code, Some(1), "{text}");
    assert!(text.contains("FAILED: an honest run was not without fault"), "{text}");
}

#[test]
fn the_self_test_says_when_there_is_no_server() {
    // Bound but not listening: connections are refused, and no other test takes the port.
    let nobody = rustix::net::socket(rustix::net::AddressFamily::INET, rustix::net::SocketType::STREAM, None).unwrap();
    let loopback = std::net::SocketAddr::from((std::net::Ipv4Addr::LOCALHOST, 0));
    rustix::net::bind(&nobody, &loopback).unwrap();
    let address = std::net::SocketAddr::try_from(rustix::net::getsockname(&nobody).unwrap()).unwrap();
    let output =
        Command::new(env!("CARGO_BIN_EXE_loadgen")).args(["selftest", "--addr", &address.to_string()]).output();
    let output = output.unwrap();
    let said = String::from_utf8(output.stdout).unwrap() + &String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains(&format!("nothing listens at {address}")) && !said.contains("proxy"), "{said}");
}

#[test]
fn the_self_test_says_first_that_the_key_is_refused() {
    let server = FakeNakama::start(Fault::None);
    let mut command = Command::new(env!("CARGO_BIN_EXE_loadgen"));
    command.args(["selftest", "--addr", &server.addr.to_string(), "--server-key", "wrong"]);
    let output = command.output().unwrap();
    let said = String::from_utf8(output.stdout).unwrap() + &String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains("401") && !said.contains("proxy"), "{said}");
}

#[test]
fn a_reader_that_leaves_early_changes_nothing() {
    let server = FakeNakama::start(Fault::None);
    let json = std::env::temp_dir().join(format!("loadgen-left-{}.json", std::process::id()));
    let mut command = loadgen(&server, &["--secs", "0.5", "--json", json.to_str().unwrap()]);
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
    // As `head` does when it has read enough.
    drop(child.stdout.take());
    assert_eq!(child.wait().unwrap().code(), Some(0));
    let report: Value = serde_json::from_slice(&std::fs::read(&json).unwrap()).unwrap();
    std::fs::remove_file(json).unwrap();
    assert_eq!(report["passed"], true, "{report}");
}

#[test]
fn what_cannot_start_says_why() {
    let server = FakeNakama::start(Fault::None);
    for (more, exit_code, said) in [
        (["--server-key", "wrong"], 1, "401"),
        (["--pid", "4294967295"], 1, "/proc/4294967295"),
        (["--payload", "9999"], 2, "--payload"),
        (["--metrics", &format!("http://{}/nowhere", server.addr)], 1, "404"),
    ] {
        let (code, _, text) = run(&server, &more);
        assert_eq!((code, text.contains(said)), (Some(exit_code), true), "{more:?}: {text}");
    }
}

/// Starts a run with two workers and waits until it publishes. Returns the coordinator and the workers' process ids.
fn in_the_middle(server: &FakeNakama) -> (Child, BufReader<std::process::ChildStderr>, Vec<Pid>) {
    let mut command = loadgen(server, &["--secs", "600", "--processes", "2"]);
    let mut coordinator = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(coordinator.stderr.take().unwrap());
    let workers = (0..2).map(|_| {
        let mut line = String::new();
        lines.read_line(&mut line).unwrap();
        let pid = line.split_once("pid ").unwrap().1.split_once(',').unwrap().0;
        Pid::from_raw(pid.parse().unwrap()).unwrap()
    });
    let workers = workers.collect();
    server.published.recv_timeout(PATIENCE).unwrap();
    (coordinator, lines, workers)
}

#[test]
fn a_worker_that_dies_fails_the_run_by_name() {
    let server = FakeNakama::start(Fault::None);
    let (mut coordinator, mut lines, workers) = in_the_middle(&server);
    kill_process(workers[1], Signal::KILL).unwrap();
    assert_eq!(coordinator.wait().unwrap().code(), Some(1));
    let mut said = String::new();
    std::io::Read::read_to_string(&mut lines, &mut said).unwrap();
    assert!(said.contains(&format!("worker 1 (pid {}, users 10..20) died", workers[1].as_raw_nonzero())), "{said}");
    assert_gone(&workers);
}

#[test]
fn ctrl_c_ends_a_run_and_says_how_far_it_was() {
    let server = FakeNakama::start(Fault::None);
    let (mut coordinator, mut lines, workers) = in_the_middle(&server);
    kill_process(Pid::from_child(&coordinator), Signal::INT).unwrap();
    assert_eq!(coordinator.wait().unwrap().code(), Some(1));
    let mut said = String::new();
    std::io::Read::read_to_string(&mut lines, &mut said).unwrap();
    assert!(said.contains("stopped by Ctrl-C") && said.contains("There is no report"), "{said}");
    assert!(!said.contains("died"), "the workers are not hit: {said}");
    assert_gone(&workers);
}

#[test]
fn a_server_that_goes_away_ends_the_run_early() {
    let server = FakeNakama::start(Fault::None);
    let mut command = loadgen(&server, &["--secs", "600"]);
    let coordinator = command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
    server.published.recv_timeout(PATIENCE).unwrap();
    drop(server);
    let output = coordinator.wait_with_output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    assert_eq!(output.status.code(), Some(1), "{text}");
    assert!(text.contains(&format!("{USERS} users disconnected")), "{text}");
}

#[test]
fn a_watched_process_that_dies_does_not_end_the_run() {
    let server = FakeNakama::start(Fault::None);
    let mut watched = Command::new("sleep").arg("600").spawn().unwrap();
    let json = std::env::temp_dir().join(format!("loadgen-watched-{}.json", std::process::id()));
    let pid = watched.id().to_string();
    let mut command = loadgen(&server, &["--secs", "2", "--pid", &pid, "--json", json.to_str().unwrap()]);
    let coordinator = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    server.published.recv_timeout(PATIENCE).unwrap();
    watched.kill().unwrap();
    watched.wait().unwrap();
    let output = coordinator.wait_with_output().unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(0), "{said}");
    assert!(said.contains("left out of the costs") && said.contains(&pid), "{said}");
    let report: Value = serde_json::from_slice(&std::fs::read(&json).unwrap()).unwrap();
    std::fs::remove_file(json).unwrap();
    assert_eq!(report["passed"], true, "{report}");
}

#[test]
fn workers_end_with_their_coordinator() {
    let server = FakeNakama::start(Fault::None);
    let (mut coordinator, _lines, workers) = in_the_middle(&server);
    coordinator.kill().unwrap();
    coordinator.wait().unwrap();
    assert_gone(&workers);
}

fn assert_gone(workers: &[Pid]) {
    let deadline = Instant::now() + PATIENCE;
    for worker in workers {
        let stat = format!("/proc/{}/stat", worker.as_raw_nonzero());
        // A process that has ended may remain as a zombie until its new parent notices.
        while std::fs::read_to_string(&stat).is_ok_and(|stat| !stat.contains(") Z ")) {
            assert!(Instant::now() < deadline, "{worker:?} is still there");
            std::thread::yield_now();
        }
    }
}
