//! `loadgen --target plain` against a chat server that uses another WebSocket library, `ws` from npm: what the server
//! relays is found and checked, and what it loses is missed.

// Everything here is a test or a helper of tests; an error ends the test.
#![allow(clippy::unwrap_used)]

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use serde_json::Value;

const USERS: u64 = 30;
const MESSAGES: u64 = 100;
const DELIVERIES: u64 = USERS * MESSAGES;

/// The server's process. It ends when its standard input ends, so it never outlives a test.
struct Server {
    child: Child,
    port: u16,
}

impl Server {
    /// Starts the server. It drops each `lose`th delivery; with 0 it drops none.
    fn start(lose: u32) -> Self {
        let clients = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/clients");
        let installed = clients.join("node_modules/ws").is_dir();
        assert!(installed, "`ws` is not installed: run `npm ci` in tests/clients (`./check` does it for you)");
        let mut child = Command::new("node")
            .arg("broadcast.mjs")
            .current_dir(&clients)
            .env("LOSE", lose.to_string())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap_or_else(|error| panic!("`node` does not start ({error}): install Node 20 or newer"));
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let port = line.trim().parse().unwrap_or_else(|_| panic!("the server says {line:?} instead of its port"));
        Self { child, port }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        drop(self.child.stdin.take());
        let _ = self.child.wait();
    }
}

/// Runs against the server. Returns the exit code, the JSON report and the printed text.
fn run(server: &Server, more: &[&str]) -> (Option<i32>, Value, String) {
    let json = std::env::temp_dir().join(format!("loadgen-plain-{}-{}.json", std::process::id(), server.port));
    let mut command = Command::new(env!("CARGO_BIN_EXE_loadgen"));
    command.args(["room", "--target", "plain", "--url", &format!("ws://127.0.0.1:{}/", server.port)]);
    command.args(["--greeting", r#"{"hello":"user {user}","room":"{room}"}"#, "--welcome", r#"{"welcome":"#]);
    command.args(["--users", &USERS.to_string(), "--publishers", "4", "--rate", "200", "--secs", "0.5"]);
    command.args(["--settle", "1", "--json", json.to_str().unwrap()]).args(more);
    let output = command.output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap() + &String::from_utf8(output.stderr).unwrap();
    let report = std::fs::read(&json).map(|bytes| serde_json::from_slice(&bytes).unwrap()).unwrap_or_default();
    let _ = std::fs::remove_file(json);
    (output.status.code(), report, text)
}

#[test]
fn what_a_server_from_npm_relays_is_found_and_checked() {
    let server = Server::start(0);
    for (send, processes) in [(r#"{"said":{content}}"#, "1"), (r#"{"said":{content_json}}"#, "2")] {
        let (code, report, text) = run(&server, &["--send", send, "--processes", processes, "--baseline"]);
        assert_eq!(code, Some(0), "{send}: {text}");
        assert_eq!(report["deliveries"]["delivered"], DELIVERIES, "{send}: {text}");
        assert_eq!(report["latency"]["delivery"]["count"], DELIVERIES, "{send}: {text}");
        assert_eq!(report["messages"]["accepted"], MESSAGES, "{send}: {text}");
        assert_eq!(report["baseline"]["the_bare_run_was"], "faultless", "{send}: {text}");
    }
}

#[test]
fn what_a_server_from_npm_loses_is_missed_to_the_last_one() {
    let server = Server::start(500);
    let (code, report, text) = run(&server, &["--send", r#"{"said":{content_json}}"#]);
    assert_eq!(code, Some(1), "{text}");
    assert_eq!(report["deliveries"]["missing"], DELIVERIES / 500, "{text}");
    assert_eq!(report["deliveries"]["delivered"], DELIVERIES - DELIVERIES / 500, "{text}");
    assert_eq!(report["deliveries"]["out_of_order"], 0, "{text}");
}

#[test]
fn what_a_server_says_in_other_words_is_no_content_of_ours() {
    let server = Server::start(0);
    // The server relays only the text in `said`.
    let (code, report, text) = run(&server, &["--send", r#"{"other":{content_json}}"#]);
    assert_eq!(code, Some(1), "{text}");
    assert_eq!(report["deliveries"]["missing"], DELIVERIES, "{text}");
}
