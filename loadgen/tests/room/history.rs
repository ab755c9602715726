//! `loadgen history` as a whole: what the history holds, and what every page of it holds.

use serde_json::Value;

use crate::fake_nakama::{FakeNakama, Fault};
use crate::machines::Host;
use crate::run_scenario;

const READS: u64 = 100;
const MESSAGES: u64 = 60;

fn run(server: &FakeNakama, more: &[&str]) -> (Option<i32>, Value, String) {
    let flags = ["--messages", "60", "--page", "7", "--rate", "200", "--secs", "0.5", "--readers", "4"];
    run_scenario("history", server, &[&flags, more].concat())
}

fn check(report: &Value, text: &str, expected: &[(&str, u64)]) {
    for (figure, expected) in expected {
        assert_eq!(report.pointer(figure).and_then(Value::as_u64), Some(*expected), "{figure}: {text}");
    }
}

#[test]
fn a_history_that_is_whole_passes_however_many_processes_read_it() {
    let server = FakeNakama::start(Fault::None);
    let host = Host::start("");
    for more in [&[][..], &["--processes", "2", "--absent"], &["--workers", &host.address]] {
        let server = if more.is_empty() { &server } else { &FakeNakama::start(Fault::None) };
        let (code, report, text) = run(server, more);
        assert_eq!(code, Some(0), "{text}");
        let expected = [
            ("/history/items", MESSAGES),
            ("/history/expected", MESSAGES),
            // Eight pages after a cursor in each direction, as many back from there, and the newest page.
            ("/history/pages_known", 4 * 8 + 1),
            ("/reads/asked", READS),
            ("/reads/answered", READS),
            ("/reads/wrong_pages", 0),
        ];
        check(&report, &text, &expected);
        let latencies = ["newest_page", "deep_oldest_first", "deep_newest_first", "deep_back"];
        let counts = latencies.map(|name| report["latency"][name]["count"].as_u64().unwrap());
        assert_eq!(counts.iter().sum::<u64>(), READS, "{text}");
        assert!(counts.iter().all(|count| *count > 0), "{counts:?}");
    }
}

#[test]
fn what_is_forgotten_and_what_changes_is_found() {
    let (code, report, text) = run(&FakeNakama::start(Fault::Forget), &[]);
    assert_eq!(code, Some(1), "{text}");
    check(&report, &text, &[("/history/missing", 1), ("/history/items", MESSAGES - 1), ("/reads/wrong_pages", 0)]);
    assert!(text.contains("1 missing in the history"), "{text}");

    let (code, report, text) = run(&FakeNakama::start(Fault::ShortPage), &[]);
    assert_eq!(code, Some(1), "{text}");
    check(&report, &text, &[("/history/missing", 0), ("/reads/wrong_pages", 1), ("/reads/answered", READS)]);
    assert!(text.contains("1 pages were not what they had been"), "{text}");
}

#[test]
fn a_room_that_is_named_is_read_as_it_is() {
    let server = FakeNakama::start(Fault::None);
    let (code, _, text) = run(&server, &["--room", "talk"]);
    assert_eq!(code, Some(0), "{text}");
    let (code, report, text) = run_scenario("history", &server, &["--room", "talk", "--secs", "0.3"]);
    assert_eq!(code, Some(0), "{text}");
    check(&report, &text, &[("/history/items", MESSAGES), ("/history/expected", 0), ("/history/of_others", MESSAGES)]);
    let empty = FakeNakama::start(Fault::None);
    let (code, _, text) = run_scenario("history", &empty, &["--room", "talk"]);
    assert_eq!((code, text.contains("is empty")), (Some(1), true), "{text}");
}

#[test]
fn a_server_that_bounds_what_a_user_asks_is_filled_and_read_at_its_pace() {
    let (code, report, text) = run(&FakeNakama::start(Fault::TooFast), &[]);
    assert_eq!(code, Some(0), "{text}");
    let faultless = ["missing", "duplicates", "out_of_order", "corrupt", "directions_differ"];
    let figures = faultless.map(|figure| format!("/history/{figure}"));
    let faultless: Vec<(&str, u64)> = figures.iter().map(|figure| (figure.as_str(), 0)).collect();
    check(&report, &text, &faultless);
    check(&report, &text, &[("/history/items", MESSAGES), ("/history/expected", MESSAGES), ("/reads/wrong_pages", 0)]);
}

#[test]
fn a_server_that_never_takes_a_message_is_given_up() {
    let (code, _, text) = run(&FakeNakama::start(Fault::AlwaysTooFast), &[]);
    assert_eq!(code, Some(1), "{text}");
    assert!(text.contains("message 0 was refused 10 times") && text.contains("too fast: come again"), "{text}");
}
