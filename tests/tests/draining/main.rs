//! The real server, drained: by signals, by an operator's call, and behind a proxy.

mod calls;
mod observed;
mod rolling;
mod spread;
mod stages;

use std::time::{Duration, Instant};

use serde_json::Value;
use tests::harness::{DEADLINE, Http, Launch, Server};

/// A time that no test waits for.
const LONG: &str = "1h";

/// A server with an admin address.
fn launch(data: &std::path::Path) -> Launch {
    Launch::on(data).admin("127.0.0.1:0").flag("--session-ttl", 3600)
}

/// Asks again and again until there is something.
fn until<T>(what: &str, mut found: impl FnMut() -> Option<T>) -> T {
    let begun = Instant::now();
    loop {
        if let Some(found) = found() {
            return found;
        }
        assert!(begun.elapsed() < DEADLINE, "waited in vain until {what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// A number of the operators' page.
fn metric(admin: &Http, name: &str) -> u64 {
    let page = admin.request("GET", "/metrics", &[], "").body;
    let value = page.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    value.and_then(|value| value.parse().ok()).unwrap_or_else(|| panic!("{name} is not on\n{page}"))
}

/// The token of admin calls, as the server keeps it in this data directory.
fn token(data: &std::path::Path) -> String {
    std::fs::read_to_string(data.join("admin.token")).expect("the server has made it").trim().to_owned()
}

/// How far the drain is.
fn drain_status(server: &Server, data: &std::path::Path) -> Value {
    let bearer = format!("Bearer {}", token(data));
    let answer = server.admin().request("GET", "/v1/drain", &[("Authorization", &bearer)], "");
    assert_eq!(answer.status, 200, "{}", answer.body);
    answer.json()
}

/// Waits until the drain is in this stage.
fn await_stage(server: &Server, data: &std::path::Path, stage: &str) -> Value {
    until(stage, || Some(drain_status(server, data)).filter(|status| status["state"] == stage))
}
