//! A drain as the people see it who run `loadgen` beside it: its report has every close, by code and in time.

use std::path::Path;
use std::process::{Child, Command, Stdio};

use rustix::process::Signal;
use serde_json::Value;
use tests::harness::{Server, data_dir, loadgen};

use crate::{launch, metric, until};

const USERS: u64 = 60;
/// The time over which the server closes its sessions, in seconds.
const TIME: &str = "12";

/// A run of `loadgen`. Dropping it ends it.
struct Run {
    child: Child,
    directory: tempfile::TempDir,
}

impl Run {
    fn start(scenario: &str, server: &Server, flags: &[&str]) -> Self {
        let directory = data_dir();
        let mut command = Command::new(loadgen());
        command.args([scenario, "--addr", &server.address().to_string(), "--users", &USERS.to_string()]);
        command.args(["--json", "report.json", "--html", "report.html", "--threads", "1"]).args(flags);
        command.current_dir(directory.path()).stdin(Stdio::null()).stderr(Stdio::null());
        // Some KiB: a pipe has room for all of it.
        let child = command.stdout(Stdio::piped()).spawn().expect("loadgen starts");
        Self { child, directory }
    }

    /// Waits for the end. Returns the exit code, what was printed, and the report.
    fn end(&mut self) -> (Option<i32>, String, Value) {
        let status = until("the run is over", || self.child.try_wait().expect("our own process"));
        let mut text = String::new();
        let mut printed = self.child.stdout.take().expect("it is piped");
        std::io::Read::read_to_string(&mut printed, &mut text).expect("it is text");
        let report = std::fs::read(self.directory.path().join("report.json"));
        let report = report.map(|bytes| serde_json::from_slice(&bytes).expect("JSON")).unwrap_or_default();
        (status.code(), text, report)
    }

    fn page(&self) -> String {
        std::fs::read_to_string(self.directory.path().join("report.html")).expect("it was asked for")
    }
}

impl Drop for Run {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn start(data: &Path, time: &str) -> Server {
    launch(data).shards(2).without_budgets().flag("--drain-time", time).start()
}

fn await_users(server: &Server) {
    let admin = server.admin();
    until("all users are there", || (metric(&admin, "stentor_connections{kind=\"session\"}") == USERS).then_some(()));
}

fn count(report: &Value, figure: &str) -> u64 {
    report.pointer(figure).and_then(Value::as_u64).unwrap_or_else(|| panic!("no {figure} in the report"))
}

/// Asserts that the data of the chart have every close, and that no tenth of the time has more than twice its share.
fn assert_spread(report: &Value, text: &str) {
    assert_eq!(count(report, "/closes/restart_1012"), USERS, "{text}");
    let seconds = report["series"]["seconds"].as_array().expect("seconds");
    let drawn: u64 = seconds.iter().map(|second| count(second, "/closes/1012")).sum();
    assert_eq!(drawn, USERS, "{text}");
    let tenths = report["series"]["drain"]["by_tenth"].as_array().expect("tenths");
    let tenths: Vec<u64> = tenths.iter().map(|closes| closes.as_u64().expect("a number")).collect();
    assert_eq!((tenths.len(), tenths.iter().sum()), (10, USERS), "{text}");
    assert!(tenths.iter().all(|&closes| closes <= USERS / 10 * 2), "closes in each tenth of the time: {tenths:?}");
    let shown = tenths.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ");
    assert!(text.contains(&shown), "{shown} in {text}");
}

#[test]
fn an_event_goes_on_after_a_drain_and_its_report_shows_how_the_closes_were_spread() {
    let data = data_dir();
    let mut server = start(data.path(), TIME);
    let talk = ["--publishers", "4", "--rate", "20", "--burst", "0", "--ramp", "1", "--secs", "30", "--settle", "1"];
    let calm = ["--churn", "2", "--reconnect", "0", "--slow", "0", "--history-reads", "1", "--expect-drain", TIME];
    let mut run = Run::start("event", &server, &[&talk[..], &calm[..]].concat());
    let admin = server.admin();
    // Members that come and go may be away.
    let sessions = || metric(&admin, "stentor_connections{kind=\"session\"}");
    until("nearly all members are there", || (sessions() > USERS * 9 / 10).then_some(()));
    server.signal(Signal::TERM);
    server.await_success();
    let server = launch(data.path()).listen(server.address()).shards(2).without_budgets().start();
    let (code, text, report) = run.end();
    assert_eq!(code, Some(0), "{text}");
    let [closed, back, away] = ["closed_by_the_drain", "came_back", "still_away"]
        .map(|figure| count(&report, &format!("/coming_and_going/{figure}")));
    assert_eq!((closed, away), (count(&report, "/closes/restart_1012"), 0), "{text}");
    assert!(closed > USERS / 2 && back > USERS / 2, "{text}");
    let tenths = report["series"]["drain"]["by_tenth"].as_array().expect("tenths");
    assert!(tenths.iter().all(|closes| closes.as_u64() <= Some(USERS / 10 * 2)), "{tenths:?}");
    for figure in ["/deliveries/missing", "/deliveries/out_of_order", "/whole_history/missing", "/messages/unanswered"]
    {
        assert_eq!(count(&report, figure), 0, "{figure}: {text}");
    }
    let page = run.page();
    for shown in ["Closes", "1012, restart", "even spread"] {
        assert!(page.contains(shown), "{shown}");
    }
    drop(server);
}

#[test]
fn idle_users_show_how_the_closes_were_spread() {
    let data = data_dir();
    let mut server = start(data.path(), TIME);
    let mut run = Run::start("connect", &server, &["--secs", "600", "--expect-drain", TIME]);
    await_users(&server);
    server.signal(Signal::TERM);
    server.await_success();
    let (code, text, report) = run.end();
    assert_eq!(code, Some(0), "{text}");
    assert_eq!(count(&report, "/connections/closed_by_the_drain"), USERS, "{text}");
    assert_spread(&report, &text);
    assert!(run.page().contains("even spread"));
}

#[test]
fn a_drain_that_was_not_expected_fails_a_run_and_is_named() {
    let data = data_dir();
    let mut server = start(data.path(), "0");
    let mut run = Run::start("connect", &server, &["--secs", "600"]);
    await_users(&server);
    server.signal(Signal::TERM);
    server.await_success();
    let (code, text, report) = run.end();
    assert_eq!(code, Some(1), "{text}");
    for said in ["60 users disconnected", "code 1012", "the server drained", "--expect-drain"] {
        assert!(text.contains(said), "{said} in {text}");
    }
    assert_eq!(count(&report, "/closes/restart_1012"), USERS, "{text}");
}
