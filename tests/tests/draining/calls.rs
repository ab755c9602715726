//! Admin calls to the real server: the token, and the commands that are clients of them.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use serde_json::Value;
use tests::harness::{Closed, Server, data_dir, run_program};

use crate::{LONG, await_stage, launch, metric, token, until};

/// Runs a command against this server. Returns whether it succeeded, and what it printed.
fn command(server: &Server, data: &Path, arguments: &[&str]) -> (bool, String) {
    let (data, admin) = (data.display().to_string(), server.admin().address().to_string());
    let output = run_program(&[arguments, &["--data", &data, "--admin", &admin]].concat());
    let text = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    (output.status.success(), text)
}

#[test]
fn calls_without_the_token_are_refused_counted_and_told() {
    let data = data_dir();
    let server = launch(data.path()).start();
    let admin = server.admin();
    let listed = admin.request("GET", "/", &[], "");
    assert_eq!(listed.status, 200, "{}", listed.body);
    assert!(listed.body.contains("/v1/drain"), "{}", listed.body);
    let wrong = format!("Bearer {}0", token(data.path()));
    for (method, path) in [("GET", "/v1/status"), ("GET", "/v1/drain"), ("POST", "/v1/drain")] {
        for (headers, code) in [(vec![], "token_missing"), (vec![("Authorization", wrong.as_str())], "token_wrong")] {
            let refused = admin.request(method, path, &headers, "");
            assert_eq!(refused.status, 401, "{}", refused.body);
            assert_eq!(refused.json()["code"], code);
            assert_eq!(refused.header("www-authenticate"), Some("Bearer"));
        }
    }
    for kind in ["token_missing", "token_wrong"] {
        assert_eq!(metric(&admin, &format!("stentor_admin_calls_refused_total{{kind=\"{kind}\"}}")), 3);
    }
    assert_eq!(metric(&admin, "stentor_draining"), 0);
    server.assert_works("refused calls");
    let said = server.stop();
    assert!(said.contains("an admin call was refused") && said.contains("127.0.0.1"), "{said}");
    assert!(!said.contains(&wrong[7..wrong.len() - 1]), "the token is not told");
}

#[test]
fn the_token_is_made_once_for_the_server_s_user_alone() {
    let data = data_dir();
    let mode = |path: &Path| std::fs::metadata(path).expect("it is there").permissions().mode() & 0o777;
    launch(data.path()).start().stop();
    let (path, first) = (data.path().join("admin.token"), token(data.path()));
    assert_eq!(mode(&path), 0o600);
    launch(data.path()).start().stop();
    assert_eq!(token(data.path()), first);
    let other = data_dir();
    let named = other.path().join("named");
    launch(&other.path().join("data")).flag("--admin-token-file", named.display()).start().stop();
    assert_eq!(mode(&named), 0o600);
    assert!(!other.path().join("data/admin.token").exists());
    std::fs::write(&named, "short").expect("our own file");
    let refusal = launch(data.path()).flag("--admin-token-file", named.display()).start_refused();
    refusal.assert_says(&["named", "is no token"]);
    let memory = data_dir();
    let said = launch(memory.path()).flag("--store", "memory").start().stop();
    assert!(said.contains("--admin-token-file"), "{said}");
    assert!(!memory.path().join("admin.token").exists());
}

#[test]
fn an_operator_asks_how_the_server_is_and_drains_it() {
    let data = data_dir();
    let mut server = launch(data.path()).drain_wait(LONG).flag("--drain-time", LONG).shards(2).start();
    let mut socket = server.connect("alice");
    socket.join("lobby");
    let (done, said) = command(&server, data.path(), &["status"]);
    assert!(done, "{said}");
    let status: Value = serde_json::from_str(&said).expect("JSON");
    assert_eq!((&status["sessions"], &status["channels"]), (&1.into(), &1.into()), "{said}");
    assert_eq!((&status["shards"]["running"], &status["shards"]["up"]), (&2.into(), &2.into()), "{said}");
    assert_eq!((&status["ready"], &status["store"]["kind"]), (&true.into(), &"embedded".into()), "{said}");
    assert_eq!(status["drain"]["state"], "none", "{said}");

    let (done, said) = command(&server, data.path(), &["drain", "--wait", LONG]);
    assert!(done && said.contains("\"waiting\""), "{said}");
    // The shards say several times a second how many sessions they have.
    until("the session is counted", || {
        let (done, said) = command(&server, data.path(), &["drain", "--status"]);
        assert!(done && said.contains("admin call"), "{said}");
        said.contains("\"sessions_left\": 1").then_some(())
    });
    let (done, said) = command(&server, data.path(), &["drain"]);
    assert!(!done && said.contains("a drain has begun before (409)"), "{said}");
    // Container platforms send SIGTERM after the command that they run before a stop.
    server.signal(rustix::process::Signal::TERM);
    until("the signal is taken in", || server.output().contains("SIGTERM: the drain goes on").then_some(()));
    assert_eq!(await_stage(&server, data.path(), "waiting")["begun_by"], "admin call");
    server.signal(rustix::process::Signal::TERM);
    assert!(matches!(socket.expect_closed(), Closed::Frame { code: 1001, .. }));
    server.await_success();

    let mut server = launch(data.path()).drain_wait(LONG).start();
    let mut socket = server.connect("alice");
    let (done, said) = command(&server, data.path(), &["drain", "--wait", "0", "--time", "1s"]);
    assert!(done, "{said}");
    assert!(matches!(socket.expect_closed(), Closed::Frame { code: 1012, .. }));
    server.await_success();
}

#[test]
fn a_command_that_fails_says_what_to_do_next() {
    let data = data_dir();
    let server = launch(data.path()).start();
    let elsewhere = data_dir();
    let check = |arguments: &[&str], data: &Path, words: &[&str]| {
        let (done, said) = command(&server, data, arguments);
        assert!(!done && words.iter().all(|word| said.contains(word)), "{said}");
    };
    check(&["status"], elsewhere.path(), &["admin.token", "--admin-token-file"]);
    std::fs::write(elsewhere.path().join("admin.token"), "a-token-of-another-server").expect("our own file");
    check(&["drain"], elsewhere.path(), &["not the token of this server (401)", "send Authorization"]);
    check(&["drain", "--status", "--time", "1s"], data.path(), &["--status", "cannot be used with"]);
    check(&["drain", "--wait", "soon"], data.path(), &["soon", "90s"]);
    let admin = server.admin().address().to_string();
    server.kill();
    let data = data.path().display().to_string();
    let output = run_program(&["status", "--data", &data, "--admin", &admin]);
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success() && said.contains("does not answer") && said.contains("--admin"), "{said}");
}
