//! `stentor config`, the help of the commands, and SIGHUP, as an operator uses them.

use std::collections::BTreeSet;
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use rustix::process::Signal;
use serde_json::{Value, json};
use tests::harness::{Launch, RawSocket, Server, Socket, data_dir, loadgen};

/// How long a server may take to write a line into its log.
const DEADLINE: Duration = Duration::from_secs(20);

/// Runs the program with these variables beside none of Stentor's own.
fn run(arguments: &[&str], variables: &[(&str, &str)]) -> Output {
    let mut command = Command::new(loadgen().with_file_name("stentor"));
    for (name, _) in std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("STENTOR_")) {
        command.env_remove(name);
    }
    let command = command.args(arguments).envs(variables.iter().copied()).stdin(Stdio::null());
    command.output().expect("the program starts")
}

/// What the program prints if it succeeds.
fn printed(arguments: &[&str], variables: &[(&str, &str)]) -> String {
    let output = run(arguments, variables);
    assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).expect("text")
}

/// The exit code, and what the program says on standard error.
fn refused(arguments: &[&str], variables: &[(&str, &str)]) -> (Option<i32>, String) {
    let output = run(arguments, variables);
    (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
}

/// A line's key and value, without the source behind them.
fn value<'a>(page: &'a str, key: &str) -> &'a str {
    let beginning = format!("{key} = ");
    let line = page.lines().find_map(|line| line.strip_prefix(&beginning));
    line.unwrap_or_else(|| panic!("no {key} in {page}")).split("  # ").next().expect("a first part").trim_end()
}

fn sha256(page: &str) -> &str {
    page.lines().find_map(|line| line.strip_prefix("# sha256 of the values: ")).expect("a hash")
}

#[test]
fn each_command_has_its_own_help() {
    let check = |arguments: &[&str], said: &[&str], unsaid: &[&str]| {
        let help = printed(arguments, &[]);
        said.iter().for_each(|word| assert!(help.contains(word), "{word} is not in {help}"));
        unsaid.iter().for_each(|word| assert!(!help.contains(word), "{word} is in {help}"));
    };
    check(
        &["export", "--help"],
        &["stentor export", "<FILE>", "--data", "--scylla "],
        &["--work-per-user", "--listen"],
    );
    check(&["export", "all.export", "--help"], &["<FILE>"], &["--work-per-user"]);
    check(&["import", "--help"], &["[FILE]", "--store", "empty store"], &["--listen"]);
    check(&["schema", "--help"], &["--apply", "--replication"], &["--listen", "--session-ttl"]);
    check(&["healthcheck", "--help"], &["--listen"], &["--data", "--scylla "]);
    check(&["serve", "--help"], &["--listen", "--work-per-user", "--session-ttl", "[default: localhost:7350]"], &[]);
    check(&["config", "--help"], &["check", "print", "default", "docs", "completion", "man"], &["--listen"]);
    check(&["config", "check", "--help"], &["--strict", "--listen"], &[]);
    let help = printed(&["--help"], &[]);
    let commands = help.split("Commands:\n").nth(1).and_then(|rest| rest.split("\n\n").next()).expect("the commands");
    let commands: Vec<&str> = commands.lines().filter_map(|line| line.strip_prefix("  ")?.split(' ').next()).collect();
    let names: Vec<&str> = commands.into_iter().filter(|name| !name.is_empty()).collect();
    assert!(names.len() >= 18, "{names:?}");
    for name in names.into_iter().filter(|name| !["serve", "config", "help"].contains(name)) {
        // Flags of a server that no command but these looks at.
        check(&[name, "--help"], &[&format!("stentor {name}")], &["--work-per-user", "--drain-time <", "--keep-alive"]);
    }
    check(
        &["--help"],
        &["export", "import", "schema", "healthcheck", "config", "[env: STENTOR_LISTEN=]"],
        &["--strict"],
    );
}

#[test]
fn the_version_names_the_commit() {
    let said = printed(&["--version"], &[]);
    let commit = said.trim().split("(commit ").nth(1).and_then(|rest| rest.strip_suffix(')'));
    let commit = commit.unwrap_or_else(|| panic!("no commit in {said}"));
    let commit = commit.strip_suffix(" or later, for development").unwrap_or(commit);
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the workspace is above this crate");
    if root.join(".git").exists() {
        let mut git = Command::new("git");
        let known = git.args(["cat-file", "-e", commit]).current_dir(root).status().expect("git starts");
        assert!(known.success(), "{commit} is no commit of this repository");
    } else {
        assert!(commit == "unknown" || commit.bytes().all(|byte| byte.is_ascii_hexdigit()), "{commit}");
    }
}

#[test]
fn check_tells_all_errors_with_their_lines() {
    let directory = data_dir();
    let file = directory.path().join("stentor.toml");
    std::fs::write(&file, "listne = '127.0.0.1:0'\n\nshards = 'many'\nstore = 'paper'\n").expect("our own file");
    let path = file.to_str().expect("text");
    let variables = [("STENTOR_SESION_TTL", "1h"), ("STENTOR_KEEP_ALIVE", "soon"), ("STENTOR_TEST_THIS", "is none")];
    let (code, said) = refused(&["config", "check", "--config", path], &variables);
    assert_eq!(code, Some(2), "{said}");
    for expected in [
        &format!("{path}:1: there is no key listne; did you mean listen?"),
        &format!("{path}:3: shards is of the type string; write a whole number"),
        "there is no variable STENTOR_SESION_TTL; did you mean STENTOR_SESSION_TTL?",
        "STENTOR_KEEP_ALIVE is \"soon\"; write a time",
    ] {
        assert!(said.contains(expected), "{expected} is not in {said}");
    }
    assert!(!said.contains("STENTOR_TEST_THIS"), "{said}");
    std::fs::write(&file, "shards = 1\nstore = 'paper'\nshards = 2\n").expect("our own file");
    let (code, said) = refused(&["config", "check", "--config", path], &[]);
    assert!(code == Some(2) && said.contains(&format!("{path}:3: shards: duplicate key")), "{said}");
    std::fs::write(&file, "store = 'paper'\n").expect("our own file");
    let (code, said) = refused(&["config", "check", "--config", path], &[]);
    let expected = format!("{path}:1: store is \"paper\"; write one of embedded, memory");
    assert!(code == Some(2) && said.contains(&expected), "{said}");
    let (code, said) = refused(&["config", "check", "--session-key-file", "/nonexistent/key"], &[]);
    assert!(code == Some(2) && said.contains("/nonexistent/key"), "{said}");
    // What cannot be understood hides no wrong value, and one wrong value hides no other.
    std::fs::write(&file, "listne = 1\nshards = 'many'\nstore = 'paper'\n").expect("our own file");
    let (_, said) = refused(&["config", "check", "--config", path], &[]);
    assert!(["listne", "whole number", "paper"].iter().all(|part| said.contains(part)), "{said}");
    let key = "0123456789abcdef";
    let wrong = ["--session-key", key, "--refresh-key", key, "--server-key", "a:b", "--admin-host", "x:1", "--ktls"];
    let (code, said) = refused(&[&["config", "check"], &wrong[..]].concat(), &[]);
    let parts = ["are the same", "server_key must not", "admin_host has", "ktls is for listeners"];
    assert!(code == Some(2) && parts.iter().all(|part| said.contains(part)), "{said}");
    std::fs::write(&file, "\nsession_key_file = '/nonexistent/key'\nadmin_host = 'a b'\n").expect("our own file");
    let (_, said) = refused(&["config", "check", "--config", path], &[("STENTOR_TRUSTED_PROXIES", "300.1")]);
    for expected in [
        &format!("{path}:2: cannot read session_key_file /nonexistent/key"),
        &format!("{path}:3: admin_host has \"a b\""),
        "STENTOR_TRUSTED_PROXIES: trusted_proxies: \"300.1\" is no address",
    ] {
        assert!(said.contains(expected), "{expected} is not in {said}");
    }
    let nowhere = directory.path().join("nowhere");
    let (code, said) = refused(&["config", "check", "--read-only", "--data", nowhere.to_str().expect("text")], &[]);
    assert!(code == Some(2) && said.contains("there is no store in"), "{said}");
}

#[test]
fn check_tells_warnings_and_strict_refuses_them() {
    let open = ["--listen", "0.0.0.0:0", "--admin", "198.51.100.1:0", "--session-ttl", "2d", "--shards", "256"];
    let arguments = [&["config", "check"], &open[..]].concat();
    let output = run(&arguments, &[]);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(0), "{said}");
    for expected in ["defaultkey", "198.51.100.1:0, a public address", "session_ttl is 2days", "shards is 256"] {
        assert!(said.contains(expected), "{expected} is not in {said}");
    }
    assert!(String::from_utf8_lossy(&output.stdout).contains("no errors"));
    let (code, said) = refused(&[&arguments[..], &["--strict"]].concat(), &[]);
    assert_eq!(code, Some(1), "{said}");
    assert!(printed(&["config", "check", "--shards", "1"], &[]).contains("no configuration file"));
}

#[test]
fn a_low_limit_on_descriptors_is_warned_of_with_the_command_that_raises_it() {
    let program = loadgen().with_file_name("stentor");
    let mut shell = Command::new("bash");
    let line = "ulimit -n 1000; env -u SYSTEMD_EXEC_PID \"$0\" config check --shards 1";
    let output = shell.args(["-c", line]).arg(program).output().expect("a shell");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(said.contains("open descriptors is 1000") && said.contains("nofile=1048576:1048576"), "{said}");
    let line = "ulimit -n 50; \"$0\" config check --shards 1";
    let output = Command::new("bash").args(["-c", line]).arg(loadgen().with_file_name("stentor")).output();
    let output = output.expect("a shell");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.code() == Some(2) && said.contains("a server of 1 shards needs"), "{said}");
}

#[test]
fn print_names_the_sources_and_can_be_used_as_a_file() {
    let directory = data_dir();
    let (file, again) = (directory.path().join("stentor.toml"), directory.path().join("again.toml"));
    let text = "\nlisten = '127.0.0.1:3'\nadmin_host = ['a', 'b']\nsession_ttl = 90\n[database]\nuser = 'ann'\npassword = 'open sesame'\n";
    std::fs::write(&file, text).expect("our own file");
    let path = file.to_str().expect("text");
    let variables = [("STENTOR_SHARDS", "2"), ("STENTOR_SESSION_KEY", "secret-of-the-variable")];
    let arguments = ["config", "print", "--config", path, "--data", "quoted \"twice\" # no comment"];
    let page = printed(&arguments, &variables);
    let check = |line: &str, source: &str| {
        let found = page.lines().find(|found| found.starts_with(line)).unwrap_or_else(|| panic!("{line}: {page}"));
        assert!(found.ends_with(&format!("  # {source}")), "{found}");
    };
    check("data = \"quoted \\\"twice\\\" # no comment\"", "flag --data");
    check("shards = 2 ", "environment STENTOR_SHARDS");
    check("listen = [\"127.0.0.1:3\"]", &format!("file {path}:2"));
    check("admin_host = [\"a\", \"b\"]", &format!("file {path}:3"));
    check("session_ttl = 90 ", &format!("file {path}:4"));
    check("refresh_ttl = \"1d\"", "default");
    check("proxy_protocol = false", "default");
    check("#trusted_proxies = [\"NET\"]", "not given");
    check("#session_key = \"[secret]\"", "environment STENTOR_SESSION_KEY");
    check("user = \"ann\"", &format!("file {path}:6"));
    check("#password = \"[secret]\"", &format!("file {path}:7"));
    assert!(!page.contains("sesame") && !page.contains("secret-of-the"), "{page}");
    // The file has the values, and what was a secret comes from elsewhere.
    std::fs::write(&again, &page).expect("our own file");
    let secrets = [("STENTOR_SESSION_KEY", "another-secret-0123456"), ("STENTOR_SCYLLA_PASSWORD", "another")];
    let same = printed(&["config", "print", "--config", again.to_str().expect("text")], &secrets);
    assert_eq!(sha256(&page), sha256(&same), "{page}\n{same}");
    let other = printed(&[&arguments[..], &["--sends-per-second", "7"]].concat(), &variables);
    assert_ne!(sha256(&page), sha256(&other));
}

#[test]
fn the_default_file_has_every_key_and_says_what_is_so_without_it() {
    let template = printed(&["config", "default"], &[]);
    let page = printed(&["config", "print"], &[]);
    let keys = |text: &str| -> BTreeSet<String> {
        let key = |line: &str| Some(line.trim_start_matches('#').split_once(" = ")?.0.to_owned());
        text.lines().filter_map(key).filter(|key| !key.contains(' ')).collect()
    };
    assert!(keys(&page).len() > 30 && keys(&template) == keys(&page), "{template}");
    let directory = data_dir();
    let file = directory.path().join("stentor.toml");
    let hash_with = |text: &str| {
        std::fs::write(&file, text).expect("our own file");
        sha256(&printed(&["config", "print", "--config", file.to_str().expect("text")], &[])).to_owned()
    };
    assert_eq!(hash_with(&template), sha256(&page), "all lines are comments");
    // Keys without a default have none to be set to.
    let with_default = |line: &str| {
        let key = line.strip_prefix('#').and_then(|line| line.split(" = ").next());
        key.filter(|key| page.lines().any(|line| line.starts_with(&format!("{key} = ")))).is_some()
    };
    let set: String = template
        .lines()
        .map(|line| if with_default(line) { format!("{}\n", &line[1..]) } else { format!("{line}\n") })
        .collect();
    assert_ne!(set, template);
    // A line that was uncommented and not filled in is told with its key.
    let unfilled = template.replace("#shards = ", "shards = ");
    std::fs::write(&file, &unfilled).expect("our own file");
    let (_, said) = refused(&["config", "check", "--config", file.to_str().expect("text")], &[]);
    assert!(unfilled != template && said.contains("shards is of the type string; write a whole number"), "{said}");
    assert_eq!(hash_with(&set), sha256(&page), "the defaults that it shows are those in force: {set}");
}

#[test]
fn the_printed_page_is_the_one_in_docs() {
    let page = printed(&["config", "docs"], &[]);
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the workspace is above this crate");
    let committed = std::fs::read_to_string(root.join("docs/configuration.md")).expect("the page");
    assert!(page == committed, "run `stentor config docs > docs/configuration.md`");
}

#[test]
fn completion_and_manual_are_made_of_the_flags() {
    let script = printed(&["config", "completion", "bash"], &[]);
    let mut bash = Command::new("bash");
    let file = tempfile::NamedTempFile::new().expect("a file");
    std::fs::write(file.path(), &script).expect("our own file");
    let read = "set -e; . \"$0\"; COMP_WORDS=(stentor config ch); COMP_CWORD=2; _stentor stentor ch config; echo ${COMPREPLY[*]}";
    let output = bash.args(["-c", read]).arg(file.path()).output().expect("bash starts");
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(said.contains("check"), "{said}{}", String::from_utf8_lossy(&output.stderr));
    for shell in ["fish", "zsh"] {
        assert!(printed(&["config", "completion", shell], &[]).contains("trusted-proxies"), "{shell}");
    }
    let (code, said) = refused(&["config", "completion", "csh"], &[]);
    assert!(code == Some(2) && said.contains("bash"), "{said}");
    let page = printed(&["config", "man"], &[]);
    assert!(page.contains(".TH stentor 1") && page.contains("trusted\\-proxies"), "{page}");
}

#[test]
fn what_is_declared_is_printed_whatever_the_configuration_says() {
    let wrong = [("STENTOR_NONSENSE", "1"), ("STENTOR_CONFIG", "/nonexistent/x")];
    for arguments in
        [&["config", "default"][..], &["config", "docs"], &["config", "man"], &["config", "completion", "zsh"]]
    {
        assert_eq!(printed(arguments, &wrong), printed(arguments, &[]), "{arguments:?}");
    }
}

#[test]
fn a_misspelt_variable_is_no_start() {
    let data = data_dir();
    let launch = Launch::on(data.path()).environment("STENTOR_SHARD", "2");
    launch.start_refused().assert_says(&["STENTOR_SHARD", "did you mean STENTOR_SHARDS?"]);
    let launch = Launch::on(data.path()).environment("STENTOR_PORT_7350_TCP", "tcp://10.0.0.1:7350");
    launch.start().assert_works("a variable of a Kubernetes service");
}

#[test]
fn a_start_logs_what_check_warns_of() {
    let data = data_dir();
    let said = Launch::on(data.path()).flag("--session-ttl", "2d").start().stop();
    assert!(said.contains("session_ttl is 2days, and refresh_ttl is 1day"), "{said}");
}

/// Waits until the server has said this.
fn await_said(server: &Server, expected: &str) {
    let begun = Instant::now();
    while !server.output().contains(expected) {
        assert!(begun.elapsed() < DEADLINE, "{expected} is not in {}", server.output());
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// The status of a sign-in with this server key, in base64 with a colon behind it.
fn sign_in_with(server: &Server, key: &str) -> u16 {
    let body = json!({"id": "a-device-of-the-test"});
    server.http().post("/v2/account/authenticate/device", &format!("Basic {key}"), &body).status
}

#[test]
fn sighup_applies_what_can_change_and_names_the_rest() {
    const OLD: &str = "b2xkOg==";
    const NEW: &str = "bmV3Og==";
    let data = data_dir();
    let file = data.path().join("stentor.toml");
    let write = |text: &str| std::fs::write(&file, text).expect("our own file");
    write("server_key = 'old'\nkeep_alive = '60s'\n");
    let store = data.path().join("store");
    let server = Launch::on(&store).admin("127.0.0.1:0").flag("--config", file.display()).start();
    let hash_in_force = || {
        let page = server.admin().request("GET", "/metrics", &[], "").body;
        let line = page.lines().find_map(|line| line.strip_prefix("stentor_config_info{sha256=\"")).map(str::to_owned);
        line.and_then(|line| line.strip_suffix("\"} 1").map(str::to_owned)).unwrap_or_else(|| panic!("{page}"))
    };
    let printed_now = || {
        let (store, file) = (store.to_str().expect("text"), file.to_str().expect("text"));
        let flags = [
            "--data",
            store,
            "--listen",
            "127.0.0.1:0",
            "--admin",
            "127.0.0.1:0",
            "--shards",
            "1",
            "--drain-wait",
            "0",
            "--config",
            file,
        ];
        printed(&[&["config", "print"], &flags[..]].concat(), &[])
    };
    assert_eq!(hash_in_force(), sha256(&printed_now()));
    assert_eq!(value(&printed_now(), "keep_alive"), "\"60s\"");
    assert_eq!((sign_in_with(&server, OLD), sign_in_with(&server, NEW)), (200, 401));
    let foreign = || server.admin().request("GET", "/metrics", &[("Host", "chat.example.org")], "").status;
    assert_eq!(foreign(), 421);

    write("server_key = 'new'\nadmin_host = ['chat.example.org']\nkeep_alive = '60s'\n");
    server.signal(Signal::HUP);
    await_said(&server, "these keys have new values: admin_host, server_key");
    assert_eq!((sign_in_with(&server, OLD), sign_in_with(&server, NEW)), (401, 200));
    assert_eq!(foreign(), 200);
    assert_eq!(hash_in_force(), sha256(&printed_now()));

    let before = hash_in_force();
    write("server_key = 'never'\nkeep_aliv = '60s'\n");
    server.signal(Signal::HUP);
    await_said(&server, "the configuration is wrong, and nothing changes: ");
    await_said(&server, ":2: there is no key keep_aliv; did you mean keep_alive?");
    assert_eq!((sign_in_with(&server, NEW), hash_in_force()), (200, before));

    write("server_key = 'new'\nadmin_host = ['chat.example.org']\nkeep_alive = '70s'\n");
    server.signal(Signal::HUP);
    await_said(&server, "these keys have changed and need a restart: keep_alive");
    assert_ne!(hash_in_force(), sha256(&printed_now()), "it still runs with the old value");
    server.stop();
}

/// Asks until the answer is this one.
fn until_answered<T: PartialEq + std::fmt::Debug>(what: &str, expected: &T, mut ask: impl FnMut() -> T) {
    let begun = Instant::now();
    loop {
        let answer = ask();
        if answer == *expected {
            return;
        }
        assert!(begun.elapsed() < DEADLINE, "{what}: {answer:?}");
    }
}

/// What an operator does in an attack: the limits change, and the sessions and clients that are there feel it at once.
#[test]
fn sighup_changes_limits_under_a_live_server() {
    let data = data_dir();
    let file = data.path().join("stentor.toml");
    let open = "work_per_session = 0\nwork_per_user = 0\n";
    let write = |more: &str| std::fs::write(&file, format!("{open}{more}")).expect("our own file");
    write("");
    let server = Launch::on(&data.path().join("store")).flag("--config", file.display()).start();
    let ann = server.sign_in("ann");
    let mut socket = Socket::connect(server.address(), &ann.token);
    let room = socket.join("lobby");
    let read = || server.http().get("/v2/account", &ann.token).status;
    let path = format!("/ws?lang=en&status=false&token={}", ann.token);
    let opening = || Socket::try_connect(server.address(), &path, &[]).map_or_else(|status| status, |_| 101);
    let reason = |answer: Value| answer["error"]["context"]["reason"].as_str().unwrap_or("none").to_owned();
    let set = |more: &str| {
        write(more);
        server.signal(Signal::HUP);
    };
    for _ in 0..100 {
        assert_eq!((read(), reason(socket.say(&room, "{}"))), (200, "none".to_owned()));
    }
    set("work_per_address = 1\n");
    until_answered("a flood of reads is refused", &429, read);
    set("");
    until_answered("reads are let in again", &200, read);

    set("sends_per_second = 1\n");
    until_answered("a flood of sends is refused", &"sends_per_second".to_owned(), || reason(socket.say(&room, "{}")));
    set("sessions_per_user = 1\n");
    until_answered("a second session is refused", &429, opening);
    set("memberships_per_user = 1\n");
    let join = json!({"channel_join": {"target": "another room", "type": 1}});
    let leave = |channel: &str| json!({"channel_leave": {"channel_id": channel}});
    until_answered("a second membership is refused", &true, || {
        let answer = socket.request(join.clone());
        let joined = answer["channel"]["id"].as_str().map(str::to_owned);
        joined.into_iter().for_each(|channel| drop(socket.request(leave(&channel))));
        answer["error"].is_object()
    });

    // The rates of the whole process come the same way.
    set("openings_per_second = 1\n");
    until_answered("a storm of openings is refused", &429, opening);
    set("joins_per_second = 1\n");
    until_answered("a storm of joins is refused", &"joins_per_second".to_owned(), || {
        let answer = socket.request(join.clone());
        let joined = answer["channel"]["id"].as_str().map(str::to_owned);
        joined.into_iter().for_each(|channel| drop(socket.request(leave(&channel))));
        reason(answer)
    });
    let said = server.output();
    assert!(!said.contains("need a restart"), "{said}");
}

#[test]
fn sighup_changes_the_proxies_that_are_trusted() {
    let data = data_dir();
    let file = data.path().join("stentor.toml");
    std::fs::write(&file, "").expect("our own file");
    let server = Launch::on(&data.path().join("store")).shards(2).flag("--config", file.display()).start();
    let status = |beginning: &str| {
        let mut client = RawSocket::connect(server.address());
        client.write(format!("{beginning}GET /healthcheck HTTP/1.1\r\nHost: a\r\n\r\n").as_bytes());
        client.read_answer().0[9..12].to_owned()
    };
    assert_eq!((status(""), status("PROXY UNKNOWN\r\n")), ("200".into(), "400".into()));
    std::fs::write(&file, "trusted_proxies = ['127.0.0.1']\nproxy_protocol = true\n").expect("our own file");
    server.signal(Signal::HUP);
    await_said(&server, "these keys have new values: trusted_proxies, proxy_protocol");
    for _ in 0..8 {
        assert_eq!((status(""), status("PROXY UNKNOWN\r\n")), ("400".into(), "200".into()), "on every shard");
    }
    server.stop();
}
