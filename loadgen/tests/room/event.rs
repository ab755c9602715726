//! `loadgen event` as a whole: members that come and go are accounted for to the last message, and a fault among them
//! is found.

use std::process::Command;

use serde_json::Value;

use crate::fake_nakama::{FakeNakama, Fault};
use crate::machines::Host;

/// Twenty users, half of whom leave and return each second. Publishers update and remove messages all the time.
fn run(fault: Fault, more: &[&str]) -> (Option<i32>, Value, String) {
    let server = FakeNakama::start(fault);
    let json = std::env::temp_dir().join(format!("loadgen-event-{}-{}.json", std::process::id(), server.addr.port()));
    let mut command = Command::new(env!("CARGO_BIN_EXE_loadgen"));
    command.args(["event", "--addr", &server.addr.to_string(), "--users", "20", "--publishers", "4", "--rate", "100"]);
    command.args(["--ramp", "0.5", "--secs", "1.5", "--burst", "0.1", "--burst-every", "0.5", "--burst-factor", "4"]);
    command.args(["--churn", "50", "--away", "0.2", "--reconnect", "50", "--slow", "0", "--updates", "10"]);
    command.args(["--removals", "10", "--history-reads", "20", "--settle", "1", "--json", json.to_str().unwrap()]);
    let output = command.args(more).output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap() + &String::from_utf8(output.stderr).unwrap();
    let report = std::fs::read(&json).map(|bytes| serde_json::from_slice(&bytes).unwrap()).unwrap_or_default();
    let _ = std::fs::remove_file(json);
    (output.status.code(), report, text)
}

fn count(report: &Value, figure: &str) -> u64 {
    report.pointer(figure).and_then(Value::as_u64).unwrap_or_else(|| panic!("{figure} is in {report}"))
}

/// Half a second and a second and a half at 100 a second, and three bursts of a tenth of a second at 400.
const MESSAGES: u64 = 170 + 3 * 40;

#[test]
fn an_event_is_accounted_for_to_the_last() {
    let (code, report, text) = run(Fault::None, &[]);
    assert_eq!(code, Some(0), "{text}");
    assert_eq!(count(&report, "/messages/accepted"), MESSAGES, "{text}");
    let [expected, delivered] = ["/deliveries/expected", "/deliveries/delivered"].map(|figure| count(&report, figure));
    assert_eq!(expected, delivered, "{text}");
    // The four publishers receive everything, and so do most of the others.
    assert!(expected > 4 * MESSAGES && expected < 20 * MESSAGES, "{text}");
    let gone = count(&report, "/coming_and_going/left") + count(&report, "/coming_and_going/connections_dropped");
    assert!(gone > 8, "{text}");
    let stays = count(&report, "/coming_and_going/stays");
    assert!(stays > 20 && stays <= 20 + gone, "{text}");
    let [kept, found] = ["/whole_history/expected", "/whole_history/found"].map(|figure| count(&report, figure));
    assert!(kept == found && kept < MESSAGES, "{text}");
    assert!(count(&report, "/history_reads/pages") > 10, "{text}");
    assert!(count(&report, "/latency/generator_lateness_of_reads/count") > 10, "{text}");
}

#[test]
fn processes_live_the_same_lives() {
    let (code, report, text) = run(Fault::None, &["--processes", "3", "--threads", "2"]);
    assert_eq!(code, Some(0), "{text}");
    assert_eq!(count(&report, "/messages/accepted"), MESSAGES, "{text}");
    assert_eq!(count(&report, "/deliveries/missing"), 0, "{text}");
    assert_eq!(count(&report, "/whole_history/missing"), 0, "{text}");
}

#[test]
fn machines_live_the_same_lives_and_say_how_well_their_clocks_are_known() {
    let margin = |report: &Value| report["coming_and_going"]["edges_of_stays_uncertain_by_ms"].as_f64();
    let (code, report, text) = run(Fault::None, &[]);
    assert_eq!((code, margin(&report)), (Some(0), Some(0.0)), "{text}");
    let hosts = [Host::start(""), Host::start("")];
    let (code, report, text) = run(Fault::None, &["--workers", &format!("{},{}", hosts[0].address, hosts[1].address)]);
    assert_eq!(code, Some(0), "{text}");
    assert_eq!(count(&report, "/messages/accepted"), MESSAGES, "{text}");
    assert_eq!(count(&report, "/deliveries/missing"), 0, "{text}");
    assert!(margin(&report) > Some(0.0), "{text}");
}

#[test]
fn a_fault_is_found_among_those_who_come_and_go() {
    for (fault, figure) in [
        (Fault::Drop, "/deliveries/missing"),
        (Fault::Duplicate, "/deliveries/duplicates"),
        (Fault::Close, "/connections/disconnected"),
        (Fault::Forget, "/whole_history/missing"),
        (Fault::KeepRemoved, "/whole_history/removed_but_there"),
    ] {
        let (code, report, text) = run(fault, &[]);
        assert_eq!(code, Some(1), "{fault:?}: {text}");
        assert!(count(&report, figure) > 0, "{fault:?}: {text}");
    }
}
