//! The process: its configuration, its output, its stop, and the cases in which it refuses to start.

use std::net::SocketAddr;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use rustix::process::Signal;
use serde_json::json;
use tests::harness::{Closed, Launch, Server, Socket, data_dir};

fn files_under(directory: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for entry in std::fs::read_dir(directory).expect("a directory") {
        let path = entry.expect("an entry").path();
        if path.is_dir() { files.extend(files_under(&path)) } else { files.push(path) }
    }
    files
}

fn port_of(server: &Server) -> u16 {
    server.address().port()
}

/// The number of shards in a server's output.
fn shards_of(said: &str) -> Option<u16> {
    let line = said.lines().find(|line| line.trim_start().starts_with("shards "))?;
    line.split(|c: char| !c.is_ascii_digit()).find_map(|number| number.parse().ok())
}

/// A port that was free a moment ago.
fn free_port() -> u16 {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
    listener.local_addr().expect("an address").port()
}

#[test]
fn says_where_it_listens_how_many_shards_and_which_store() {
    for (shards, store) in [(1, "embedded"), (3, "memory")] {
        let data = data_dir();
        let server = Launch::on(data.path()).shards(shards).flag("--store", store).start();
        server.assert_works("its greeting");
        let address = server.address().to_string();
        let said = server.stop().to_lowercase();
        assert!(said.contains(&address), "{said}");
        assert_eq!(shards_of(&said), Some(shards), "{said}");
        assert!(said.contains(store), "{said}");
    }
}

#[test]
fn a_second_server_on_the_same_directory_or_port_says_so() {
    let data = data_dir();
    let server = Launch::on(data.path()).start();
    let directory = data.path().display().to_string();
    Launch::on(data.path()).start_refused().assert_says(&[&directory, "another"]);
    let elsewhere = data_dir();
    let port = port_of(&server).to_string();
    Launch::on(elsewhere.path()).listen(server.address()).start_refused().assert_says(&[&port, "in use"]);
    server.assert_works("two refused rivals");
    drop(server);
    Launch::on(data.path()).start().assert_works("the first one's end");
}

#[test]
fn stops_in_order_when_asked() {
    for signal in [Signal::TERM, Signal::INT] {
        for shards in [1, 4] {
            stop_in_the_middle(signal, shards);
        }
    }
}

/// Publishes, stops the server meanwhile, and compares what was acknowledged with what is stored.
fn stop_in_the_middle(signal: Signal, shards: u16) {
    const SENT: usize = 300;
    let data = data_dir();
    let launch = || Launch::on(data.path()).shards(shards).flag("--session-ttl", 3600);
    let mut server = launch().start();
    let account = server.sign_in("alice");
    let mut idle = server.connect("bob");
    let mut socket = Socket::connect(server.address(), &account.token);
    let channel = socket.join("lobby");
    for n in 0..SENT {
        let send = json!({"channel_message_send": {"channel_id": channel, "content": format!("{{\"n\":{n}}}")}});
        socket.send(&send);
        if n == SENT / 2 {
            while !socket.pushes.iter().any(|push| push["channel_message_ack"].is_object()) {
                let envelope = socket.receive();
                socket.pushes.push(envelope);
            }
            server.signal(signal);
        }
        if n > SENT / 2 && socket.try_send_text(r#"{"ping":{}}"#).is_err() {
            break;
        }
    }
    for (who, socket) in [("the talker", &mut socket), ("the idle one", &mut idle)] {
        match socket.expect_closed() {
            Closed::Frame { code, .. } => assert!(matches!(code, 1000 | 1001 | 1012), "{who}: {code}"),
            Closed::Cut => panic!("{who} was cut off without a close frame"),
        }
    }
    server.await_success();
    let server = launch().start();
    let (history, _) = server.http().history_after(&account.token, &channel, None);
    let kept: Vec<_> = history.iter().map(|message| &message["message_id"]).collect();
    let acks: Vec<_> = socket.pushes.iter().filter_map(|push| push.get("channel_message_ack")).collect();
    assert!(!acks.is_empty(), "something was acknowledged before the end");
    for ack in acks {
        assert!(kept.contains(&&ack["message_id"]), "{ack} is lost");
    }
}

#[test]
fn keys_are_made_once_kept_private_and_differ_between_installations() {
    let data = data_dir();
    let server = Launch::on(data.path()).flag("--session-ttl", 3600).start();
    let alice = server.sign_in("alice");
    let keys: Vec<_> = files_under(data.path())
        .into_iter()
        .filter(|path| path.file_name().is_some_and(|name| name.to_string_lossy().contains("key")))
        .collect();
    assert!(!keys.is_empty(), "key files in {:?}", files_under(data.path()));
    for key in &keys {
        let metadata = std::fs::metadata(key).expect("a key file");
        assert_eq!(metadata.permissions().mode() & 0o777, 0o600, "{}", key.display());
        assert!(metadata.size() > 0, "{}", key.display());
    }
    server.stop();
    let server = Launch::on(data.path()).start();
    assert_eq!(server.http().get("/v2/account", &alice.token).status, 200, "tokens outlive a restart");
    let refreshed = server.http().post(
        "/v2/account/session/refresh",
        "Basic ZGVmYXVsdGtleTo=",
        &json!({ "token": alice.refresh_token }),
    );
    assert_eq!(refreshed.status, 200, "{}", refreshed.body);
}

fn mode(path: &Path) -> u32 {
    std::fs::metadata(path).expect("it is there").permissions().mode() & 0o777
}

#[test]
fn what_the_server_makes_is_for_its_user_alone() {
    let above = data_dir();
    let data = above.path().join("data");
    let server = Launch::on(&data).start();
    server.connect("alice").join("lobby");
    server.stop();
    for file in files_under(&data) {
        assert_eq!(mode(&file), 0o600, "{}", file.display());
        for directory in file.ancestors().skip(1).take_while(|directory| *directory != above.path()) {
            assert_eq!(mode(directory), 0o700, "{}", directory.display());
        }
    }
}

#[test]
fn a_secret_that_others_can_read_is_told_at_the_start() {
    let data = data_dir();
    let (key, config) = (data.path().join("the.key"), data.path().join("stentor.toml"));
    std::fs::write(&key, "key-of-the-file-0123456789").expect("our own file");
    std::fs::write(&config, "refresh_key = \"key-in-the-text-0123456789\"\n").expect("our own file");
    let said = |mode: u32| {
        for file in [&key, &config] {
            std::fs::set_permissions(file, std::fs::Permissions::from_mode(mode)).expect("our own file");
        }
        let store = data.path().join("store");
        let launch = Launch::on(&store).flag("--session-key-file", key.display()).flag("--config", config.display());
        launch.start().stop()
    };
    let (warned, silent) = (said(0o644), said(0o600));
    for file in [&key, &config] {
        let advice = format!("chmod 600 {}", file.display());
        assert!(warned.contains(&advice), "{warned}");
        assert!(!silent.contains(&advice), "{silent}");
    }
}

#[test]
fn a_logout_outlives_a_restart() {
    let data = data_dir();
    let server = Launch::on(data.path()).flag("--session-ttl", 3600).start();
    let alice = server.sign_in("alice");
    let bearer = format!("Bearer {}", alice.token);
    let answer = server.http().post("/v2/session/logout", &bearer, &json!({ "token": alice.token }));
    assert_eq!(answer.status, 200, "{}", answer.body);
    server.kill();
    let server = Launch::on(data.path()).start();
    assert_eq!(server.http().get("/v2/account", &alice.token).status, 401);
}

#[test]
fn flag_over_environment_over_file() {
    let sources = |flag: Option<u16>, environment: Option<u16>, file: Option<u16>| {
        let data = data_dir();
        let config = data.path().join("stentor.toml");
        let mut text = String::from("session_ttl = 3600\n");
        if let Some(port) = file {
            text += &format!("listen = \"127.0.0.1:{port}\"\n");
        }
        std::fs::write(&config, text).expect("our own file");
        let store = data.path().join("store");
        let mut launch = Launch::on(&store).flag("--config", config.display()).listen_unsaid();
        if let Some(port) = environment {
            launch = launch.environment("STENTOR_LISTEN", &format!("127.0.0.1:{port}"));
        }
        if let Some(port) = flag {
            launch = launch.listen(SocketAddr::from(([127, 0, 0, 1], port)));
        }
        let server = launch.start();
        server.assert_works("its configuration");
        port_of(&server)
    };
    let (flag, environment, file) = (free_port(), free_port(), free_port());
    assert_eq!(sources(Some(flag), Some(environment), Some(file)), flag);
    assert_eq!(sources(None, Some(environment), Some(file)), environment);
    assert_eq!(sources(None, None, Some(file)), file);
}

#[test]
fn shards_default_to_the_cores_this_process_may_use() {
    let data = data_dir();
    let server = Launch::on(data.path()).shards_unsaid().start();
    let cores = std::thread::available_parallelism().expect("a number of cores").get();
    server.assert_works("the default shards");
    let said = server.stop();
    assert_eq!(shards_of(&said).map(usize::from), Some(cores), "{said}");
}

#[test]
fn wrong_configuration_is_refused_by_name() {
    let with_file = |text: &str, words: &[&str]| {
        let data = data_dir();
        let config = data.path().join("stentor.toml");
        std::fs::write(&config, text).expect("our own file");
        let store = data.path().join("store");
        Launch::on(&store).flag("--config", config.display()).start_refused().assert_says(words);
    };
    with_file("listne = \"127.0.0.1:0\"\n", &["listne"]);
    with_file("shards = \"many\"\n", &["shards"]);
    with_file("store = \"paper\"\n", &["paper"]);
    with_file("this is no TOML", &["stentor.toml"]);
    let with_flag = |name: &str, value: &str, words: &[&str]| {
        let data = data_dir();
        Launch::on(data.path()).flag(name, value).start_refused().assert_says(words);
    };
    with_flag("--bogus", "1", &["--bogus"]);
    with_flag("--store", "paper", &["paper"]);
    with_flag("--session-ttl", "soon", &["soon"]);
    with_flag("--config", "/nowhere/stentor.toml", &["/nowhere/stentor.toml"]);
    let data = data_dir();
    Launch::on(data.path()).shards(0).start_refused().assert_says(&["shards"]);
}

#[test]
fn a_directory_that_is_not_its_own_is_refused() {
    let a_file = data_dir();
    let path = a_file.path().join("file");
    std::fs::write(&path, "something else").expect("our own file");
    Launch::on(&path).start_refused().assert_says(&["file"]);
}

#[test]
fn corrupt_data_is_refused_and_never_a_panic() {
    // Every file in the directory is damaged in turn, in several ways. A file that is created anew at each start may be
    // damaged without harm. A journal that was cut short looks like one whose last writes never finished. Only there
    // may the newest messages be missing.
    let whole = data_dir();
    let server = Launch::on(whole.path()).flag("--session-ttl", 3600).start();
    let account = server.sign_in("alice");
    let mut socket = Socket::connect(server.address(), &account.token);
    let channel = socket.join("lobby");
    for n in 0..20 {
        socket.say(&channel, &format!("{{\"n\":{n}}}"));
    }
    let (acknowledged, _) = server.http().history_after(&account.token, &channel, None);
    assert_eq!(acknowledged.len(), 20);
    server.stop();
    let files = files_under(whole.path());
    let (mut refused, mut started) = (0, 0);
    for file in &files {
        for (damage, harm) in [("cut short", cut_short as Damage), ("overwritten", overwritten), ("one bit", one_bit)] {
            let bytes = std::fs::read(file).expect("a file of the store");
            let Some(damaged) = harm(&bytes) else { continue };
            let copy = data_dir();
            copy_directory(whole.path(), copy.path());
            let relative = file.strip_prefix(whole.path()).expect("inside");
            std::fs::write(copy.path().join(relative), damaged).expect("our own file");
            let case = format!("{}, {damage}", relative.display());
            match started_or_refused(copy.path()) {
                Ok(server) => {
                    started += 1;
                    server.assert_works(&case);
                    let (history, _) = server.http().history_after(&server.sign_in("alice").token, &channel, None);
                    assert!(acknowledged.starts_with(&history), "{case}: what is there is right");
                    let may_miss = damage == "cut short" && case.contains(".jnl");
                    assert!(may_miss || history.len() == acknowledged.len(), "{case}: {} messages", history.len());
                }
                Err(output) => {
                    refused += 1;
                    assert!(!output.contains("panicked"), "{case}: {output}");
                    assert!(
                        output.contains(&copy.path().display().to_string()),
                        "{case}: names the directory: {output}"
                    );
                }
            }
        }
    }
    println!("{refused} refused, {started} started");
    assert!(refused > 0, "damage is noticed");
}

/// Damages the bytes of a file. Returns `None` if the file is too short.
type Damage = fn(&[u8]) -> Option<Vec<u8>>;

fn cut_short(bytes: &[u8]) -> Option<Vec<u8>> {
    (bytes.len() > 1).then(|| bytes[..bytes.len() / 2].to_vec())
}

fn overwritten(bytes: &[u8]) -> Option<Vec<u8>> {
    (!bytes.is_empty()).then(|| vec![0xa5; bytes.len()])
}

fn one_bit(bytes: &[u8]) -> Option<Vec<u8>> {
    let mut bytes = bytes.to_vec();
    let middle = bytes.len() / 2;
    *bytes.get_mut(middle)? ^= 0x10;
    Some(bytes)
}

fn copy_directory(from: &Path, to: &Path) {
    for file in files_under(from) {
        let target = to.join(file.strip_prefix(from).expect("inside"));
        std::fs::create_dir_all(target.parent().expect("a parent")).expect("a directory");
        std::fs::copy(&file, &target).expect("a copy");
    }
}

fn started_or_refused(data: &Path) -> Result<Server, String> {
    Launch::on(data).start_or_refused().map_err(|refusal| {
        assert!(refusal.status.code().is_some_and(|code| code != 0), "{:?}: {}", refusal.status, refusal.output);
        refusal.output
    })
}
