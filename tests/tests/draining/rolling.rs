//! Two servers behind HAProxy are drained and started again, one after the other, while people chat with the official
//! client. Both have keys of their own that are the same, so tokens hold at both. The second one is HAProxy's backup.

use std::collections::HashSet;
use std::path::Path;
use std::time::{Duration, Instant};

use rustix::process::Signal;
use serde_json::json;
use tests::harness::{DEADLINE, Http, Launch, ProxyKind, ProxyLaunch, SERVER_KEY, Server, data_dir, run_node};

use crate::{launch, metric, until};

const PEOPLE: u64 = 20;
/// The time over which a drain closes sessions.
const TIME: Duration = Duration::from_secs(8);

fn start(data: &Path, at: Option<&Server>) -> Server {
    let launch: Launch = launch(data)
        .without_budgets()
        .drain_wait("2s")
        .flag("--drain-time", "8s")
        .flag("--session-key", "key-of-both-servers-0123456789")
        .flag("--refresh-key", "another-key-of-both-0123456789");
    match at {
        Some(before) => launch.listen(before.address()).start(),
        None => launch.start(),
    }
}

fn sessions(admin: &Http) -> u64 {
    metric(admin, "stentor_connections{kind=\"session\"}")
}

/// Drains `from` until all have come to `to`. Returns the sessions that `to` opened in each quarter of the drain's time.
fn drained(from: &mut Server, to: &Server) -> [u64; 4] {
    let admin = to.admin();
    let opened = || metric(&admin, "stentor_sessions_opened_total");
    let before = opened();
    from.signal(Signal::TERM);
    // The first session that comes shows that the closes have begun.
    until("a session has moved", || (opened() > before).then_some(()));
    let begun = Instant::now();
    let (mut slices, mut seen) = ([0; 4], before);
    while seen < before + PEOPLE {
        let (now, slice) = (opened(), begun.elapsed().as_millis() * 4 / TIME.as_millis());
        slices[usize::try_from(slice).unwrap_or(3).min(3)] += now - seen;
        seen = now;
        assert!(begun.elapsed() < TIME + DEADLINE, "{} of {PEOPLE} sessions have moved", seen - before);
        std::thread::sleep(Duration::from_millis(20));
    }
    from.await_success();
    slices
}

fn message_ids(server: &Server) -> HashSet<String> {
    let account = server.sign_in("reader");
    let (history, _) = server.http().history_after(&account.token, "2...rolling", None);
    history.iter().map(|message| message["message_id"].as_str().expect("an id").to_owned()).collect()
}

#[test]
fn people_come_back_from_a_rolling_restart_behind_haproxy_and_miss_nothing() {
    let (first_data, second_data, notes) = (data_dir(), data_dir(), data_dir());
    let (mut first, mut second) = (start(first_data.path(), None), start(second_data.path(), None));
    let check = "check inter 100ms fall 1 rise 1";
    let both = format!("server other {} {check} backup\n    server stentor 127.0.0.1:7350 {check}", second.address());
    let proxy = ProxyLaunch::before(first.address(), ProxyKind::Haproxy)
        .changed("server stentor 127.0.0.1:7350 check", both.leak())
        .start();
    let note = |name: &str| notes.path().join(name).display().to_string();
    let (stop, acks, closes) = (note("stop"), note("acks"), note("closes"));
    let (address, people) = (proxy.address().to_string(), PEOPLE.to_string());
    let slices = std::thread::scope(|scope| {
        let script = scope.spawn(|| {
            run_node(
                "rolling.mjs",
                &[
                    ("STENTOR_TEST_PROXY", &address),
                    ("STENTOR_TEST_PEOPLE", &people),
                    ("STENTOR_TEST_STOP", &stop),
                    ("STENTOR_TEST_ACKS", &acks),
                    ("STENTOR_TEST_CLOSES", &closes),
                ],
            );
        });
        // The script ends when this is dropped, also if an assertion fails.
        let _over = Stop(&stop);
        until("all are with the first server", || {
            (script.is_finished() || sessions(&first.admin()) == PEOPLE).then_some(())
        });
        let to_second = drained(&mut first, &second);
        first = start(first_data.path(), Some(&first));
        until("HAProxy sees the first server again", || {
            // One request: the next one may go to the other server, which has another store.
            let path = "/v2/account/authenticate/custom?create=true&username=looker";
            proxy.http().post(path, SERVER_KEY, &json!({"id": "custom-id-of-looker"}));
            (metric(&first.admin(), "stentor_sign_ins_total") > 0).then_some(())
        });
        let to_first = drained(&mut second, &first);
        second = start(second_data.path(), Some(&second));
        [to_second, to_first]
    });
    for slices in slices {
        assert!(slices.iter().all(|&joins| joins <= PEOPLE / 2), "joins in each quarter of the time: {slices:?}");
    }
    let kept: HashSet<String> = [&first, &second].into_iter().flat_map(message_ids).collect();
    let lines = |path: &str| std::fs::read_to_string(path).expect("the script has written it");
    let acknowledged = lines(&acks);
    let lost: Vec<&str> = acknowledged.lines().filter(|id| !kept.contains(*id)).collect();
    assert!(lost.is_empty(), "{} of {} acknowledged messages are lost", lost.len(), acknowledged.lines().count());
    let codes = lines(&closes);
    let restarts = codes.lines().filter(|code| *code == "1012").count();
    assert!(restarts as u64 >= 2 * PEOPLE, "each session was told to come back, twice: {codes}");
}

/// Ends the script when it is dropped.
struct Stop<'a>(&'a str);

impl Drop for Stop<'_> {
    fn drop(&mut self) {
        std::fs::write(self.0, "").expect("our own directory");
    }
}
