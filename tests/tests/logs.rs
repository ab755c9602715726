//! The log as operators read it: what it says of an attack, what it never says, its levels, and that a log which cannot be
//! written ends no server.

use std::process::Stdio;
use std::time::Instant;

use rustix::process::Signal;
use serde_json::{Value, json};
use tests::harness::{DEADLINE, Http, Launch, SERVER_KEY, Server, Socket, data_dir};

fn await_said(server: &Server, expected: &str) {
    let begun = Instant::now();
    while !server.output().contains(expected) {
        assert!(begun.elapsed() < DEADLINE, "{expected} is not in {}", server.output());
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
}

/// Sign-ins, openings and requests that are refused.
fn attack(server: &Server) {
    let http = server.http();
    let email = |password: &str| json!({"email": "ann@example.org", "password": password});
    let sign_in = |body: &Value| http.post("/v2/account/authenticate/email", SERVER_KEY, body).status;
    assert_eq!(sign_in(&email("the-right-password")), 200);
    assert_eq!(sign_in(&email("a-guessed-password")), 401);
    assert_eq!(Socket::try_connect(server.address(), "/ws?token=a.forged.token", &[]).err(), Some(401));
    assert_eq!(http.get("/v2/account", "another.forged.token").status, 401);
    assert_eq!(http.post("/v2/account/authenticate/device", "Basic d3Jvbmcta2V5Og==", &json!({"id": "x"})).status, 401);
}

#[test]
fn an_attack_is_seen_and_no_secret_is_in_the_log() {
    const KEYS: [&str; 2] = ["the-session-key-of-this-test", "the-refresh-key-of-this-test"];
    for format in ["text", "json"] {
        let data = data_dir();
        let launch = Launch::on(data.path()).flag("--log-level", "trace").flag("--log-format", format);
        let launch = launch.flag("--session-key", KEYS[0]).flag("--refresh-key", KEYS[1]).admin("127.0.0.1:0");
        let server = launch.start();
        attack(&server);
        let ann = server.sign_in("ann");
        let mut socket = Socket::connect(server.address(), &ann.token);
        let room = socket.join("a-room-of-secrets");
        assert!(socket.say(&room, r#"{"said":"a-secret-content"}"#)["channel_message_ack"].is_object());
        let answer =
            server.admin().request("GET", "/v1/status", &[("Authorization", "Bearer a-wrong-admin-token")], "");
        assert_eq!(answer.status, 401);
        let admin_token = std::fs::read_to_string(data.path().join("admin.token")).expect("the token");
        let said = server.stop();
        for expected in [
            "a sign-in was refused",
            "wrong password",
            "the opening of a WebSocket was refused",
            "token_invalid",
            "a request without a good key or token was refused",
            "an admin call was refused",
            "127.0.0.1",
        ] {
            assert!(said.contains(expected), "{format}: {expected} is not in {said}");
        }
        let secrets = [
            KEYS[0],
            KEYS[1],
            &ann.token,
            &ann.refresh_token,
            admin_token.trim(),
            "a-secret-content",
            "the-right-password",
            "a-guessed-password",
            "ann@example.org",
            "custom-id-of-ann",
            "forged",
            "d3Jvbmcta2V5Og",
            "a-wrong-admin-token",
        ];
        for secret in secrets {
            assert!(!said.contains(secret), "{format}: {secret} is in {said}");
        }
        if format == "json" {
            let lines: Vec<Value> = said.lines().filter_map(|line| serde_json::from_str(line).ok()).collect();
            let refused = lines.iter().find(|line| line["message"] == "a sign-in was refused").expect("the line");
            assert_eq!((refused["level"].as_str(), refused["client"].as_str()), (Some("INFO"), Some("127.0.0.1")));
            assert!(refused["user"].is_string() && refused["timestamp"].is_string(), "{refused}");
            assert_eq!(refused["target"], "gateway::http::told");
        }
    }
}

/// The line with these words.
fn line_with<'a>(said: &'a str, words: &str) -> &'a str {
    said.lines().find(|line| line.contains(words)).unwrap_or_else(|| panic!("{words} is not in {said}"))
}

/// The client is behind a proxy, whose own address would say nothing.
#[test]
fn limits_that_sessions_reach_are_told_with_client_and_user() {
    let join = |number: usize| json!({"channel_join": {"target": format!("room-{number}"), "type": 1, "hidden": true}});
    for (limit, value) in [
        ("sends_per_second", 1),
        ("joins_per_second", 2),
        ("work_per_session", 1),
        ("work_per_user", 1),
        ("work_per_address", 1),
    ] {
        let data = data_dir();
        let launch = Launch::on(data.path()).flag("--trusted-proxies", "127.0.0.1").admin("127.0.0.1:0");
        let flag = |name: &str, value: u32| format!("--{}={value}", name.replace('_', "-"));
        let others =
            ["work_per_session", "work_per_user", "memberships_per_user"].into_iter().filter(|name| *name != limit);
        let flags: Vec<String> = others.map(|name| flag(name, 0)).chain([flag(limit, value)]).collect();
        let server = launch.flags(flags).start();
        let ann = server.sign_in("ann");
        let path = format!("/ws?lang=en&status=false&token={}", ann.token);
        let mut socket =
            Socket::try_connect(server.address(), &path, &[("X-Forwarded-For", "192.0.2.9")]).expect("a session");
        let room = socket.join("lobby");
        let begun = Instant::now();
        for number in 0.. {
            let asked =
                if limit == "sends_per_second" { socket.say(&room, "{}") } else { socket.request(join(number % 50)) };
            if asked["error"]["context"]["reason"] == limit {
                break;
            }
            assert!(begun.elapsed() < DEADLINE, "{limit} is not reached: {asked}");
        }
        await_said(&server, "a limit is reached: a request of a session was refused");
        let said = server.stop();
        let line = line_with(&said, "a limit is reached: a request of a session was refused");
        for expected in ["WARN", "client=192.0.2.9", &format!("user={}", ann.user_id), &format!("limit=\"{limit}\"")] {
            assert!(line.contains(expected), "{expected} is not in {line}");
        }
    }
}

#[test]
fn requests_that_are_refused_for_their_size_or_number_are_told() {
    const GUESSERS: usize = 200;
    let data = data_dir();
    let server = Launch::on(data.path()).flag("--work-per-user", 1).start();
    let http = server.http();
    let long = json!({"id": "x".repeat(20_000)});
    assert_eq!(http.post("/v2/account/authenticate/device", SERVER_KEY, &long).status, 400);
    let ann = server.sign_in("ann");
    let begun = Instant::now();
    while http.get("/v2/account", &ann.token).status != 429 {
        assert!(begun.elapsed() < DEADLINE, "the limit is not reached");
    }
    // More passwords than there are places in the queue.
    let refused = std::thread::scope(|scope| {
        let guess = |number: usize| {
            let body = json!({"email": format!("guessed-{number}@example.org"), "password": "a guessed password"});
            let address = server.address();
            scope.spawn(move || {
                Http::new(address).post("/v2/account/authenticate/email", SERVER_KEY, &body).status == 503
            })
        };
        let guesses: Vec<_> = (0..GUESSERS).map(guess).collect();
        guesses.into_iter().map(|guess| guess.join().expect("an answer")).filter(|full| *full).count()
    });
    assert!(refused > 0, "the queue was full");
    let said = server.stop();
    for (words, level, user) in [
        ("a request was too large", "INFO", ""),
        ("a limit is reached: a request was refused", "WARN", &*format!("user={}", ann.user_id)),
        ("what all clients share is full: a request was refused", "WARN", ""),
    ] {
        let line = line_with(&said, words);
        assert!(line.contains(level) && line.contains("client=127.0.0.1") && line.contains("reason="), "{line}");
        assert!(line.contains(user), "{user} is not in {line}");
    }
}

/// The sign-ins that are refused are many, and the lines are few.
#[test]
fn lines_of_an_attack_are_limited_and_counted() {
    let data = data_dir();
    let server = Launch::on(data.path()).admin("127.0.0.1:0").start();
    let http = server.http();
    for _ in 0..100 {
        assert_eq!(http.get("/v2/account", "a.forged.token").status, 401);
    }
    let page = server.admin().request("GET", "/metrics", &[], "").body;
    let left_out = page.lines().find_map(|line| line.strip_prefix("stentor_log_lines_left_out_total "));
    let left_out: u64 = left_out.and_then(|number| number.parse().ok()).unwrap_or_else(|| panic!("{page}"));
    let said = server.stop();
    let written = said.matches("a request without a good key or token was refused").count() as u64;
    assert!((5..=95).contains(&written) && written + left_out >= 100, "{written} and {left_out}");
}

#[test]
fn levels_change_by_call_and_by_sighup() {
    let data = data_dir();
    let file = data.path().join("stentor.toml");
    std::fs::write(&file, "log_level = 'info,gateway::http=off'\n").expect("our own file");
    let store = data.path().join("store");
    let server = Launch::on(&store).admin("127.0.0.1:0").flag("--config", file.display()).start();
    let token = std::fs::read_to_string(store.join("admin.token")).expect("the token");
    let call = |method: &str, target: &str| {
        let authorization = format!("Bearer {}", token.trim());
        server.admin().request(method, target, &[("Authorization", &authorization), ("Content-Length", "0")], "")
    };
    let refused = || assert_eq!(server.http().get("/v2/account", "a.forged.token").status, 401);
    const LINE: &str = "a request without a good key or token was refused";
    assert_eq!(call("GET", "/v1/log").json()["level"], "info,gateway::http=off");
    refused();
    let answer = call("PUT", "/v1/log?level=info");
    assert_eq!((answer.status, answer.json()["level"].as_str()), (200, Some("info")), "{}", answer.body);
    await_said(&server, "an admin call has set the levels of the log: info");
    assert!(!server.output().contains(LINE), "not before");
    refused();
    await_said(&server, LINE);
    assert_eq!(call("PUT", "/v1/log?level=loud").status, 400);

    std::fs::write(&file, "log_level = 'warn'\n").expect("our own file");
    server.signal(Signal::HUP);
    let begun = Instant::now();
    while call("GET", "/v1/log").json()["level"] != "warn" {
        assert!(begun.elapsed() < DEADLINE, "SIGHUP sets the levels");
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
    let before = server.output().matches(LINE).count();
    refused();
    let said = server.stop();
    assert_eq!(said.matches(LINE).count(), before, "{said}");
    Launch::on(&store).flag("--log-level", "loud").start_refused().assert_says(&["--log-level", "loud"]);
}

/// A server whose standard error cannot be written serves on.
#[test]
fn a_log_that_cannot_be_written_ends_no_server() {
    let full = || std::fs::OpenOptions::new().write(true).open("/dev/full").expect("/dev/full");
    // A pipe whose reader has gone.
    let gone = || std::io::pipe().expect("a pipe").1;
    // A pipe whose reader does not read: what is in it fills it up.
    let (unread, mut stuck) = std::io::pipe().expect("a pipe");
    let flags = rustix::fs::fcntl_getfl(&stuck).expect("flags");
    rustix::fs::fcntl_setfl(&stuck, flags | rustix::fs::OFlags::NONBLOCK).expect("a pipe that does not wait");
    while std::io::Write::write(&mut stuck, &[b'x'; 4096]).is_ok() {}
    rustix::fs::fcntl_setfl(&stuck, flags).expect("a pipe that waits");
    let errors: [Stdio; 3] = [full().into(), gone().into(), stuck.into()];
    for (number, error) in errors.into_iter().enumerate() {
        let data = data_dir();
        let launch = Launch::on(data.path()).flag("--session-ttl", "2h").admin("127.0.0.1:0");
        let server = launch.confined(move |command| _ = command.stderr(error)).start();
        for _ in 0..20 {
            attack(&server);
        }
        server.assert_works(&format!("log {number}"));
        let page = server.admin().request("GET", "/metrics", &[], "").body;
        assert!(page.contains("stentor_log_lines_left_out_total"), "{page}");
        server.stop();
    }
    drop(unread);
}

/// The program prints where it listens; nothing depends on that.
#[test]
fn a_standard_output_that_cannot_be_written_ends_no_server() {
    let data = data_dir();
    let address = std::net::TcpListener::bind("127.0.0.1:0").and_then(|port| port.local_addr()).expect("a port");
    let full = std::fs::OpenOptions::new().write(true).open("/dev/full").expect("/dev/full");
    let server = Launch::on(data.path()).confined(move |command| _ = command.stdout(full)).begin_at(address);
    let begun = std::time::Instant::now();
    while !server.output().contains("nobody can be told where") {
        assert!(begun.elapsed() < tests::harness::DEADLINE, "{}", server.output());
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
    server.assert_works("a full standard output");
    let said = server.stop();
    assert!(!said.contains("panicked"), "{said}");
}

#[test]
fn an_address_that_the_machine_does_not_have_is_told_as_that() {
    let data = data_dir();
    // TEST-NET-3, which no machine has.
    let refusal = Launch::on(data.path()).listen("203.0.113.1:7350".parse().expect("an address")).start_refused();
    refusal.assert_says(&["cannot listen on 203.0.113.1:7350", "no interface of this machine has this address"]);
    assert!(!refusal.output.contains("another server"), "{}", refusal.output);
}
