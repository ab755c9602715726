//! `loadgen curve` as a whole: each size once quietly, and what a million would need.

use crate::fake_nakama::{FakeNakama, Fault};
use crate::run_scenario;

#[test]
fn every_size_has_its_point_and_the_last_is_projected() {
    let server = FakeNakama::start(Fault::None);
    let own = std::process::id().to_string();
    // A limit that nobody keeps ends the climb at once.
    let flags =
        ["--sizes", "2,5", "--secs", "0.5", "--limit", "0", "--quiet-rate", "20", "--settle", "1", "--pid", &own];
    let (code, report, text) = run_scenario("curve", &server, &flags);
    assert_eq!(code, Some(0), "{text}");
    for (at, users) in [(0, 2), (1, 5)] {
        let point = &report["points"][at];
        assert_eq!(point["users"], users, "{text}");
        assert_eq!(point["quiet"]["last_member"]["count"], 10, "{text}");
        assert_eq!(point["best"], serde_json::Value::Null, "{text}");
        assert!(point["beyond"]["why"].as_str().is_some_and(|why| why.contains("last member")), "{text}");
    }
    assert_eq!(report["projection"]["basis"]["users"], 5, "{text}");
    assert!(text.contains("A projection from the costs measured with 5, not a measurement."), "{text}");
}

#[test]
fn a_fault_in_a_quiet_room_fails_the_curve() {
    let server = FakeNakama::start(Fault::Drop);
    let flags = ["--sizes", "5", "--secs", "0.5", "--limit", "0", "--quiet-rate", "20", "--settle", "1"];
    let (code, report, text) = run_scenario("curve", &server, &flags);
    assert_eq!(code, Some(1), "{text}");
    assert_eq!(report["points"][0]["quiet"]["faults"][0], "1 missing", "{text}");
}
