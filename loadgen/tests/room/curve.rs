//! `loadgen curve` as a whole: each size once at the quiet rate, and what a million users would need.

use scraper::Html;
use serde_json::Value;

use crate::fake_nakama::{FakeNakama, Fault};
use crate::reports::{Directory, all, text};
use crate::run_scenario;

#[test]
fn every_size_has_its_point_and_the_last_is_projected() {
    let server = FakeNakama::start(Fault::None);
    let own = std::process::id().to_string();
    // No run keeps a limit of 0, so the climb ends at once.
    let directory = Directory::new("curve");
    let page = directory.file("curve.html");
    let flags =
        ["--sizes", "2,5", "--secs", "0.5", "--limit", "0", "--quiet-rate", "20", "--settle", "1", "--pid", &own];
    let flags = [&flags[..], &["--html", &page, "--server-key", "defaultkey"]].concat();
    let (code, report, said) = run_scenario("curve", &server, &flags);
    assert_eq!(code, Some(0), "{said}");
    check_page(&std::fs::read_to_string(page).unwrap());
    for (at, users) in [(0, 2), (1, 5)] {
        let point = &report["points"][at];
        assert_eq!(point["users"], users, "{said}");
        assert_eq!(point["quiet"]["last_member"]["count"], 10, "{said}");
        assert_eq!(point["best"], Value::Null, "{said}");
        assert!(point["beyond"]["why"].as_str().is_some_and(|why| why.contains("last member")), "{said}");
    }
    assert_eq!(report["projection"]["basis"]["users"], 5, "{said}");
    assert!(said.contains("A projection from the costs measured with 5, not a measurement."), "{said}");
}

/// Checks that the page is complete, with everything that the terminal shows, and without figures where nothing was
/// sustained.
fn check_page(source: &str) {
    let page = Html::parse_document(source);
    assert_eq!(page.errors, Vec::<String>::new(), "the page is whole");
    assert!(!source.contains("defaultkey"));
    assert!(text(all(&page, ".verdict.passed")[0]).starts_with("PASSED: in the quiet room"));
    let texts = |selector| all(&page, selector).into_iter().map(text).collect::<Vec<_>>();
    let charts = texts("figure h2");
    assert_eq!(charts[0], "Time to the last member");
    assert!(!charts.contains(&"Deliveries a second".to_owned()), "nothing was sustained");
    // The server's CPU time may have been too short to be counted, but its time to the last member was measured.
    for drawing in &all(&page, "figure svg")[..2] {
        assert_eq!(drawing.html().matches("<circle").count(), 4, "two lines of two sizes: {}", drawing.html());
    }
    let titles = ["Time to the last member", "Sustained", "CPU per delivery", "Memory of each"];
    assert_eq!(texts("section h2")[..5], [&titles[..], &["Projected: a room of 1,000,000"]].concat());
    assert_eq!(texts("table.latencies tbody th"), ["2", "5"].repeat(titles.len()));
    let notes = texts("p.note");
    assert!(notes.iter().any(|note| note.starts_with("5 members at ") && note.contains("last member")), "{notes:?}");
    assert!(notes.contains(&"A projection from the costs measured with 5, not a measurement.".to_owned()), "{notes:?}");
}

#[test]
fn a_fault_in_a_quiet_room_fails_the_curve() {
    let server = FakeNakama::start(Fault::Drop);
    let directory = Directory::new("curve-fault");
    let page = directory.file("curve.html");
    let flags =
        ["--sizes", "5", "--secs", "0.5", "--limit", "0", "--quiet-rate", "20", "--settle", "1", "--html", &page];
    let (code, report, said) = run_scenario("curve", &server, &flags);
    assert_eq!(code, Some(1), "{said}");
    let page = Html::parse_document(&std::fs::read_to_string(page).unwrap());
    let faults: Vec<String> = all(&page, ".verdict.failed li").into_iter().map(text).collect();
    assert_eq!(faults, ["the quiet room of 5: 1 missing"]);
    assert_eq!(report["points"][0]["quiet"]["faults"][0], "1 missing", "{said}");
}

#[test]
fn a_server_that_bounds_its_users_is_not_measured() {
    let server = FakeNakama::start(Fault::TooFast);
    let flags = ["--sizes", "2,5", "--secs", "0.5", "--limit", "0", "--quiet-rate", "20", "--settle", "1"];
    let (code, report, said) = run_scenario("curve", &server, &flags);
    assert_eq!((code, &report["passed"]), (Some(1), &Value::from(false)), "{said}");
    let failure = report["failure"].as_str().unwrap_or_default();
    assert!(failure.contains("one user may") && failure.contains("--publishers"), "{said}");
    assert!(said.contains(&format!("FAILED: {failure}.")), "{said}");
}
