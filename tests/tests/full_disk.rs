//! A disk that is filled while the server runs, and a disk that is full when the server starts.
//!
//! The disk is a small file system in memory, which the test itself mounts. So the test must run as root.

use std::time::{Duration, Instant};

use serde_json::Value;
use tests::harness::{DEADLINE, Http, Launch, Server, SmallDisk, Socket};

const DISK_MIB: u32 = 320;
const RESERVE_MIB: u64 = 64;
const REFUSED: usize = 20;

fn launch(disk: &SmallDisk) -> Launch {
    Launch::on(&disk.path().join("data"))
        .flag("--disk-reserve", RESERVE_MIB)
        .flag("--session-ttl", 3600)
        .admin("127.0.0.1:0")
        .confined(disk.confine())
}

fn gauge(admin: &Http, name: &str) -> f64 {
    let page = admin.request("GET", "/metrics", &[], "").body;
    let line = page.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    line.unwrap_or_else(|| panic!("no {name} in {page}")).parse().expect("a number")
}

fn health(server: &Server) -> (u16, String) {
    let answer = server.http().request("GET", "/healthcheck", &[], "");
    (answer.status, answer.body)
}

/// Sends until the message is acknowledged. Until then a send may only be refused for lack of space.
fn say_when_there_is_room(socket: &mut Socket, channel: &str, content: &str) {
    let deadline = Instant::now() + DEADLINE;
    loop {
        let answer = socket.say(channel, content);
        if answer["error"].is_null() {
            return;
        }
        check_refused(&answer);
        assert!(Instant::now() < deadline, "there is room, and it still says {answer}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

fn check_refused(answer: &Value) {
    assert!(answer["error"]["message"].as_str().is_some_and(|text| text.contains("could not be stored")), "{answer}");
    assert!(answer["error"]["context"].is_null(), "nothing was written, so nothing is unknown: {answer}");
}

fn lines(server: &Server, words: &str) -> usize {
    server.output().lines().filter(|line| line.contains(words)).count()
}

#[test]
fn a_full_disk_refuses_writes_says_so_once_and_is_done_with_when_there_is_room() {
    let disk = SmallDisk::mount(DISK_MIB);
    let server = launch(&disk).start();
    let (admin, ada) = (server.admin(), server.sign_in("ada"));
    let mut socket = Socket::connect(server.address(), &ada.token);
    let channel = socket.join("lobby");
    say_when_there_is_room(&mut socket, &channel, r#"{"n":"before"}"#);
    let bearer = |token: &str| format!("Bearer {token}");
    let group =
        server.http().post("/v2/group", &bearer(&ada.token), &serde_json::json!({"name": "all", "open": true})).json();
    let join = format!("/v2/group/{}/join", group["id"].as_str().expect("a group"));
    let bob = server.sign_in("bob");
    assert_eq!(health(&server).0, 200);
    assert_eq!(gauge(&admin, "stentor_disk_reserve_bytes"), (RESERVE_MIB << 20) as f64);
    assert!(gauge(&admin, "stentor_disk_free_bytes") > (RESERVE_MIB << 20) as f64);
    let used = gauge(&admin, "stentor_store_bytes");
    assert!(used > 0.0 && used < f64::from(DISK_MIB << 20), "{used} bytes");

    for round in 1..=2 {
        disk.fill_to(RESERVE_MIB / 2);
        for _ in 0..REFUSED {
            check_refused(&socket.say(&channel, r#"{"n":"refused"}"#));
        }
        let (status, reason) = health(&server);
        assert!(status == 503 && reason.contains("must stay free"), "{status} {reason}");
        for http in [&server.http(), &admin] {
            let unready = http.request("GET", "/readyz", &[], "");
            assert!(unready.status == 503 && unready.body.contains("must stay free"), "{unready:?}");
            assert_eq!(http.request("GET", "/healthz", &[], "").status, 200, "it lives");
        }
        let sign_up = server.http().post(
            "/v2/account/authenticate/custom?create=true&username=carol",
            tests::harness::SERVER_KEY,
            &serde_json::json!({"id": "custom-id-of-carol"}),
        );
        assert!(sign_up.status == 503 && sign_up.body.contains("disk is full"), "{sign_up:?}");
        let joined = server.http().post(&join, &bearer(&bob.token), &serde_json::json!({}));
        assert!(joined.status == 503 && joined.body.contains("nothing was done"), "{joined:?}");
        assert_eq!(gauge(&admin, "stentor_store_ready"), 0.0);
        assert!(gauge(&admin, "stentor_disk_free_bytes") < (RESERVE_MIB << 20) as f64);
        assert_eq!(lines(&server, "Writes are refused"), round, "one line each time:\n{}", server.output());
        let history = server.http().history_after(&ada.token, &channel, None).0;
        assert_eq!(history.len(), round, "reads go on");

        disk.make_room();
        say_when_there_is_room(&mut socket, &channel, r#"{"n":"after"}"#);
        assert_eq!(health(&server).0, 200);
        for http in [&server.http(), &admin] {
            assert_eq!(http.request("GET", "/readyz", &[], "").status, 200, "ready again");
        }
        assert_eq!(gauge(&admin, "stentor_store_ready"), 1.0);
        assert_eq!(lines(&server, "Writes are taken again"), round, "one line each time:\n{}", server.output());
    }
    assert_eq!(lines(&server, "the store refused a request"), 0, "no line a request:\n{}", server.output());
    server.assert_works("a full disk");
}

#[test]
fn a_start_on_a_full_disk_says_so_and_ends() {
    let disk = SmallDisk::mount(DISK_MIB);
    let server = launch(&disk).start();
    let ada = server.sign_in("ada");
    let mut socket = Socket::connect(server.address(), &ada.token);
    let channel = socket.join("lobby");
    say_when_there_is_room(&mut socket, &channel, r#"{"n":1}"#);
    server.stop();

    disk.fill_to(RESERVE_MIB / 2);
    let refusal = launch(&disk).start_refused();
    refusal.assert_says(&["disk", "MiB free", "64 MiB must stay free", "make room"]);
    let said: Vec<_> = refusal.output.lines().filter(|line| line.contains("must stay free")).collect();
    assert_eq!(said.len(), 1, "one line:\n{}", refusal.output);

    let server = launch(&disk).environment("STENTOR_READ_ONLY", "true").start();
    assert_eq!(server.http().history_after(&ada.token, &channel, None).0.len(), 1, "what is there is served");
    assert_eq!(health(&server).0, 200);
    let mut reader = Socket::connect(server.address(), &server.sign_in("ada").token);
    reader.join("lobby");
    check_refused(&reader.say(&channel, r#"{"n":"refused"}"#));
    let sign_up = server.http().post(
        "/v2/account/authenticate/custom?create=true&username=carol",
        tests::harness::SERVER_KEY,
        &serde_json::json!({"id": "custom-id-of-carol"}),
    );
    assert!(sign_up.status == 503 && sign_up.body.contains("read-only"), "{sign_up:?}");
    server.stop();

    disk.make_room();
    let server = launch(&disk).start();
    assert_eq!(server.http().history_after(&ada.token, &channel, None).0.len(), 1);
    server.assert_works("a start that was refused");
}

#[test]
fn a_disk_that_takes_no_writes_is_served_read_only() {
    let disk = SmallDisk::mount(DISK_MIB);
    let server = launch(&disk).start();
    let ada = server.sign_in("ada");
    let mut socket = Socket::connect(server.address(), &ada.token);
    let channel = socket.join("lobby");
    say_when_there_is_room(&mut socket, &channel, r#"{"n":1}"#);
    server.stop();

    disk.refuse_writes();
    launch(&disk).start_refused().assert_says(&["read-only file system", "with --read-only the server serves"]);
    let server = launch(&disk).environment("STENTOR_READ_ONLY", "true").start();
    assert_eq!(server.http().history_after(&ada.token, &channel, None).0.len(), 1, "history is served");
    assert_eq!(health(&server).0, 200);
    let mut reader = Socket::connect(server.address(), &server.sign_in("ada").token);
    let joined = reader.join("lobby");
    let refused = reader.say(&joined, r#"{"n":"refused"}"#);
    check_refused(&refused);
    let text = refused["error"]["message"].as_str().unwrap_or_default();
    assert!(text.contains("read-only") && !text.contains("try again"), "{text}");
    let mut talker = Socket::connect(server.address(), &server.sign_in("ada").token);
    let talk = talker.join_as("lobby", serde_json::json!({"persistence": false}));
    let said = talker.say(&talk, r#"{"n":"not kept"}"#);
    assert!(said["error"].is_null(), "what is not kept goes on: {said}");
    server.stop();
}
