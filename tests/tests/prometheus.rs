//! What operators watch the server with: a real Prometheus reads its numbers, with the configuration, the rules and the
//! names that the dashboard in `deploy/` has.

use std::collections::BTreeSet;
use std::fs;

use serde_json::Value;
use tests::harness::prometheus::{Prometheus, deployed, promtool};
use tests::harness::{Launch, Server, data_dir, make_certificate};

/// The samples' names on a page in the text format 0.0.4.
fn names(page: &str) -> BTreeSet<String> {
    let samples = page.lines().filter(|line| !line.starts_with('#'));
    samples.map(|line| line.split(['{', ' ']).next().expect("a line has a beginning").to_owned()).collect()
}

fn page(server: &Server) -> String {
    let answer = server.admin().request("GET", "/metrics", &[], "");
    assert_eq!(answer.header("content-type"), Some("text/plain; version=0.0.4; charset=utf-8"));
    answer.body
}

/// The names of metrics of the server's, or of its process, in a text.
fn mentioned(text: &str) -> BTreeSet<String> {
    let is_of_name = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let words = text.split(|c: char| !is_of_name(c));
    let is_metric = |word: &&str| word.starts_with("stentor_") || word.starts_with("process_");
    words.filter(is_metric).map(str::to_owned).collect()
}

#[test]
fn promtool_finds_no_fault_in_the_page() {
    let data = data_dir();
    let server = Launch::on(data.path()).admin("127.0.0.1:0").start();
    let found = promtool(&["check", "metrics"], &page(&server));
    let text = String::from_utf8_lossy(&found.stderr);
    assert!(found.status.success() && text.is_empty(), "{text}");
}

#[test]
fn the_rules_say_what_their_test_expects() {
    for (arguments, file) in [
        (["check", "rules"], "prometheus/stentor.rules.yml"),
        (["check", "config"], "prometheus/prometheus.yml"),
        (["check", "config"], "prometheus/compose.yml"),
        (["test", "rules"], "prometheus/stentor.test.yml"),
    ] {
        let path = deployed(file);
        let found = promtool(&[arguments[0], arguments[1], path.to_str().expect("a path is text")], "");
        let text = String::from_utf8_lossy(&found.stdout) + String::from_utf8_lossy(&found.stderr);
        assert!(found.status.success(), "{file}: {text}");
    }
}

#[test]
fn the_rules_and_the_dashboard_name_metrics_that_there_are() {
    let data = data_dir();
    // Some metrics are of TLS alone.
    let (certificate, key) = make_certificate(data.path(), "");
    let launch = Launch::on(&data.path().join("data")).admin("127.0.0.1:0").flag("--listen", "tls:127.0.0.1:0");
    let server = launch.flag("--tls-cert", certificate.display()).flag("--tls-key", key.display()).start();
    let there_are = names(&page(&server));
    for file in ["prometheus/stentor.rules.yml", "grafana/stentor.json"] {
        let text = fs::read_to_string(deployed(file)).expect("the file is in the tree");
        let named = mentioned(&text);
        assert!(named.len() > 10, "{file} names {named:?}");
        let unknown: Vec<_> = named.difference(&there_are).collect();
        assert!(unknown.is_empty(), "{file} names {unknown:?}, which the server does not have");
    }
}

#[test]
fn every_query_of_the_dashboard_has_an_answer() {
    let data = data_dir();
    let server = Launch::on(data.path()).admin("127.0.0.1:0").start();
    // A message, so that there is something to show.
    let alice = server.person("alice");
    let mut socket = alice.connect();
    let lobby = socket.join("lobby");
    socket.say(&lobby, r#"{"text":"hello"}"#);
    let prometheus = Prometheus::before(server.admin().address());
    let is_one = |data: &Value| data["result"][0]["value"][1] == "1";
    prometheus.wait_for("/api/v1/query?query=up%7Bjob%3D%22stentor%22%7D", is_one);
    // A rate needs two samples.
    let two = |data: &Value| data["result"][0]["value"][1].as_str().is_some_and(|count| count != "1");
    prometheus.wait_for("/api/v1/query?query=count_over_time(stentor_build_info%5B1h%5D)", two);
    let dashboard = fs::read_to_string(deployed("grafana/stentor.json")).expect("the file is in the tree");
    let dashboard: Value = serde_json::from_str(&dashboard).expect("the dashboard is JSON");
    let panels = dashboard["panels"].as_array().expect("it has panels");
    let targets = panels.iter().filter_map(|panel| panel["targets"].as_array()).flatten();
    let mut asked = 0;
    for target in targets {
        let query = target["expr"].as_str().expect("a target has a query");
        let query = query.replace("$__rate_interval", "1m").replace("$job", "stentor").replace("$instance", ".*");
        let path = format!("/api/v1/query?query={}", percent_encoded(&query));
        prometheus.wait_for(&path, |data| data["result"].as_array().is_some_and(|series| !series.is_empty()));
        asked += 1;
    }
    assert!(asked > 20, "{asked} queries");
    // All rules were evaluated, and a server that is well gives no alarm.
    let rules = prometheus.wait_for("/api/v1/rules", |data| {
        let rules = data["groups"][0]["rules"].as_array();
        rules.is_some_and(|rules| rules.iter().all(|rule| rule["health"] == "ok"))
    });
    let firing = |rule: &&Value| rule["state"] == "firing";
    let rules = rules["groups"][0]["rules"].as_array().expect("there are rules").clone();
    assert!(rules.len() > 15 && rules.iter().filter(firing).count() == 0, "{rules:#?}");
}

fn percent_encoded(text: &str) -> String {
    text.bytes()
        .map(|byte| if byte.is_ascii_alphanumeric() { (byte as char).to_string() } else { format!("%{byte:02X}") })
        .collect()
}
