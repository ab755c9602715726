//! When a rate counts as sustained, when a curve passes, and what it says.

use clap::Parser;
use rustix::process::{Resource, getrlimit};

use super::*;
use crate::checks::latency::Latency;
use crate::options::{Arguments, Command};

fn options() -> CurveOptions {
    let line = "loadgen curve --limit 100 --server-key hush --addr 127.0.0.1:1";
    let Ok(Arguments { command: Command::Curve(curve) }) = Arguments::try_parse_from(line.split(' ')) else {
        panic!("{line} is no curve")
    };
    CurveOptions::try_from(curve).expect("valid")
}

fn measured(rate: f64) -> Measured {
    let mut latency = Latency::default();
    latency.record_ns(5_000_000);
    Measured {
        rate,
        deliveries_per_second: rate * 10.0,
        part: 1.0,
        last_member: latency.percentiles(),
        refused: 0,
        messages: 50,
        generator_bound: None,
        faults: Vec::new(),
        costs: None,
        generator_bytes_per_user: 1_000.0,
    }
}

fn curve(points: Vec<Point>, failure: Option<&str>) -> Curve {
    let passed = failure.is_none() && points.iter().all(|point| point.quiet.is_faultless());
    let (failure, settings) = (failure.map(str::to_owned), options());
    Curve { scenario: "curve", passed, environment: Environment::here(), settings, points, failure, projection: None }
}

fn point(quiet: Measured) -> Point {
    Point { users: 10, quiet, best: Some(measured(400.0)), beyond: None }
}

#[test]
fn a_rate_is_sustained_only_if_all_was_accepted_and_came_in_time() {
    let slow = || {
        let mut latency = Latency::default();
        latency.record_ns(101_000_000);
        latency.percentiles()
    };
    for (found, sustained, said) in [
        (measured(10.0), true, "100 % came while it was measured"),
        (Measured { part: 0.95, ..measured(10.0) }, true, "95.0 %"),
        (Measured { part: 0.949, ..measured(10.0) }, false, "94.9 %"),
        (Measured { last_member: slow(), ..measured(10.0) }, false, "101 ms"),
        (Measured { refused: 1, ..measured(10.0) }, false, "1 of 50 messages were refused"),
        (Measured { faults: vec!["3 missing".to_owned()], ..measured(10.0) }, false, "3 missing"),
    ] {
        assert_eq!(found.is_sustained(&options()), sustained, "{said}");
        assert!(found.complaint().contains(said), "{said}: {}", found.complaint());
    }
}

#[test]
fn a_curve_passes_only_if_every_quiet_room_was_faultless() {
    let check = |curve: &Curve, passed: bool, said: &str| {
        assert_eq!(curve.passed(), passed, "{said}");
        let page = curve.page().expect("a page");
        assert!(curve.text().contains(said), "{said}: {}", curve.text());
        assert!(page.contains(if passed { "PASSED" } else { "FAILED" }), "{said}");
        let json = serde_json::to_value(curve).expect("JSON");
        assert_eq!(json["passed"], passed);
        assert!(!json["settings"].to_string().contains("null"), "{}", json["settings"]);
    };
    check(&curve(vec![point(measured(2.0))], None), true, PROMISE);
    let refused = point(Measured { refused: 1, ..measured(2.0) });
    check(&curve(vec![point(measured(2.0)), refused], None), false, "1 of 50 messages were refused");
    let faulty = point(Measured { faults: vec!["3 missing".to_owned()], ..measured(2.0) });
    check(&curve(vec![faulty], None), false, "10 members at 2.00 messages/s: 3 missing");
    check(&curve(vec![point(measured(2.0))], Some("it went away")), false, "FAILED: it went away.");
    check(&curve(Vec::new(), Some("nothing was measured")), false, "FAILED: nothing was measured.");
}

#[test]
fn a_time_of_the_generator_itself_is_marked() {
    let bound = Measured { generator_bound: Some("it was busy".to_owned()), ..measured(2.0) };
    let text = curve(vec![point(bound)], None).text();
    assert!(text.contains("5.00 ms *") && text.contains(BOUND_NOTE), "{text}");
    assert!(!curve(vec![point(measured(2.0))], None).text().contains(BOUND_NOTE));
}

#[test]
fn the_limit_that_counts_is_the_soft_one() {
    let soft_limit = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX);
    assert_eq!(open_files_limit(std::process::id()), Some(soft_limit));
    // The kernel gives no process an id beyond 31 bits.
    assert_eq!(open_files_limit(u32::MAX), None);
}
