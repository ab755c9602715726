//! Answers over HTTP that are never read, and requests that cost their sender nothing.

use serde_json::json;
use tests::harness::{Launch, RawSocket, Socket, bearer};

use crate::stage::{ATTACKER, BYSTANDER, Stage};

/// What the answers of a shard that wait for their readers may hold (docs/protocol.md, section 10).
const ANSWERS_KIB_MAX: usize = 64 << 10;

/// What one connection may hold beside its answer: hyper's buffers and the state of the connection.
const CONNECTION_KIB_MAX: usize = 40;

/// Fills a room with long messages. Returns the room's channel.
fn fill_a_room(stage: &Stage) -> String {
    let mut writer = stage.server.connect("writer");
    let channel = writer.join("long");
    let content = json!({ "t": "x".repeat(3800) }).to_string();
    for _ in 0..100 {
        let answer = writer.say(&channel, &content);
        assert!(answer["channel_message_ack"].is_object(), "{answer}");
    }
    channel
}

/// A request for a page of a hundred messages.
fn page_of(stage: &Stage, channel: &str, user: &str) -> String {
    let token = stage.server.sign_in(user).token;
    let path = format!("/v2/channel/{channel}?limit=100&forward=true");
    format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nAuthorization: {}\r\n\r\n", bearer(&token))
}

/// The attackers ask for far more than all answers may hold, and read nothing. A bystander at their address gets its
/// pages, because it is another user and reads them.
#[test]
fn answers_that_are_never_read_hold_a_bounded_memory_and_give_it_back() {
    const CONNECTIONS: usize = 800;
    const USERS: usize = 10;
    // A user's budget would let in two hundred of these pages, an address's some hundreds, and the bystander is at the
    // attackers' address.
    let stage = Stage::launch_with(|launch| launch.without_budgets().flag("--work-per-address", 0));
    let channel = fill_a_room(&stage);
    let requests: Vec<String> = (0..USERS).map(|user| page_of(&stage, &channel, &format!("attacker-{user}"))).collect();
    let (_, page) = stage.ask(BYSTANDER, requests[0].as_bytes());
    assert!(page.len() > 400_000, "{} bytes", page.len());
    let before = stage.server.resident_kib();
    let bystander = page_of(&stage, &channel, "bystander");
    let cut = "stentor_http_answers_cut_total{kind=\"full\"}";
    let attackers = stage.beside(ATTACKER, &bystander, || {
        let open = |number: usize| {
            let mut socket = stage.connect(ATTACKER);
            socket.write(requests[number % USERS].as_bytes());
            socket
        };
        let attackers: Vec<RawSocket> = (0..CONNECTIONS).map(open).collect();
        // All that is asked for is five times what there is room for.
        stage.await_metric(cut, CONNECTIONS as u64 / 2);
        attackers
    });
    let said = stage.server.output();
    let line = said.lines().find(|line| line.contains("unread HTTP answers fill their memory"));
    let line = line.unwrap_or_else(|| panic!("{said}"));
    assert!(line.contains(&format!("client={ATTACKER}")) && line.contains("user="), "{line}");
    let held = stage.metric("stentor_answer_bytes") as usize;
    assert!(held <= ANSWERS_KIB_MAX << 10, "{held} bytes are held");
    assert!(held >= (ANSWERS_KIB_MAX << 10) / 2, "{held} bytes: those that there is room for stay");
    let more = stage.server.resident_kib().saturating_sub(before);
    assert!(more < 2 * ANSWERS_KIB_MAX + CONNECTIONS * CONNECTION_KIB_MAX, "{more} KiB more");
    drop(attackers);
    stage.await_that("the memory is given back", || {
        stage.metric("stentor_answer_bytes") == 0
            && stage.server.resident_kib().saturating_sub(before) < ANSWERS_KIB_MAX / 2
    });
    stage.server.assert_works("answers that are never read");
}

/// A client that reads nothing of a long answer is given up after ten seconds, and the log names it.
#[test]
fn a_slow_reader_of_an_answer_is_named() {
    let stage = Stage::launch_with(|launch| launch.without_budgets().flag("--trusted-proxies", "127.0.0.0/8"));
    let request = page_of(&stage, &fill_a_room(&stage), "slow");
    let user = stage.server.sign_in("slow").user_id;
    let mut socket = stage.connect(ATTACKER);
    rustix::net::sockopt::set_socket_recv_buffer_size(socket.second_hand().into_stream(), 16 << 10).expect("SO_RCVBUF");
    socket.write(request.replacen("Host: ", "X-Forwarded-For: 192.0.2.8\r\nHost: ", 1).as_bytes());
    stage.await_metric("stentor_http_answers_cut_total{kind=\"slow\"}", 1);
    let said = stage.server.output();
    let line = said.lines().find(|line| line.contains("a client reads its HTTP answer too slowly"));
    let line = line.unwrap_or_else(|| panic!("{said}"));
    assert!(line.contains("client=192.0.2.8") && line.contains(&format!("user={user}")), "{line}");
}

/// Health checks cost their sender nothing, so they are answered a few in each turn of the shard.
#[test]
fn requests_that_come_all_at_once_are_answered_in_many_turns() {
    const CONNECTIONS: usize = 120;
    const REQUESTS: usize = 200;
    /// Requests that begin between two turns (`gateway/src/http/request_turns.rs`).
    const REQUESTS_TURN_MAX: usize = 64;
    const TURNS: &str = "stentor_turn_seconds_count";
    let stage = Stage::launch();
    let mut bystander = stage.server.connect("bystander");
    let before = stage.metric(TURNS);
    let requests = b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n".repeat(REQUESTS);
    let open = |_| {
        let mut socket = stage.connect(ATTACKER);
        socket.write(&requests);
        socket
    };
    let attackers: Vec<RawSocket> = (0..CONNECTIONS).map(open).collect();
    for _ in 0..10 {
        Socket::assert_open(&mut bystander);
    }
    for mut attacker in attackers {
        for _ in 0..REQUESTS {
            let (head, body) = attacker.read_answer();
            assert!(head.starts_with("HTTP/1.1 200 "), "{head}{body}");
        }
    }
    Socket::assert_open(&mut bystander);
    let turns = stage.metric(TURNS) - before;
    assert!(turns as usize >= CONNECTIONS * REQUESTS / REQUESTS_TURN_MAX, "{turns} turns for all of them");
}

/// With budgets of addresses a flood of health checks is charged: checks are answered late, and none is refused.
#[test]
fn a_flood_of_health_checks_is_charged_to_its_address() {
    let stage = Stage::launch_with(|launch: Launch| launch.flag("--work-per-address", 1));
    let account = |from| {
        let token = stage.server.sign_in("somebody").token;
        let head = format!("GET /v2/account HTTP/1.1\r\nHost: a\r\nAuthorization: {}\r\n\r\n", bearer(&token));
        stage.ask(from, head.as_bytes()).0
    };
    let mut socket = stage.connect(ATTACKER);
    // Two milliseconds of work come at once, and each check takes twenty microseconds.
    for _ in 0..150 {
        socket.write(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n");
        let (head, body) = socket.read_answer();
        assert!(head.starts_with("HTTP/1.1 200 "), "{head}{body}");
    }
    assert!(account(ATTACKER).starts_with("HTTP/1.1 429 "));
    assert!(account(BYSTANDER).starts_with("HTTP/1.1 200 "));
}
