//! What sessions ask: more of them than a user may have, joins and leaves without end, hanging up all at once, pings whose
//! answers are never read, and changes of groups by strangers.
//!
//! Where the budget of a session or a user would end the attack before it meets the bound that a test is about, these budgets
//! are off, and the test says so. Those of addresses are on.

use std::collections::BTreeSet;

use serde_json::json;
use tests::harness::{Launch, RawSocket, Socket, masked_frame};

use crate::stage::{Stage, open_session};

#[test]
fn a_user_with_too_many_sessions_is_told_so_and_loses_none() {
    let stage = Stage::launch_with(|launch: Launch| launch.flag("--sessions-per-user", 3));
    let token = stage.server.sign_in("many").token;
    let mut sessions: Vec<Socket> = (0..3).map(|_| stage.server.connect("many")).collect();
    let mut waits = BTreeSet::new();
    for _ in 0..50 {
        let (_, head) = open_session(&stage, &token);
        assert!(head.starts_with("HTTP/1.1 429 "), "{head}");
        let (_, wait) = head.split_once("\r\nRetry-After: ").unwrap_or_else(|| panic!("{head}"));
        waits.insert(wait.split("\r\n").next().map(str::to_owned));
    }
    assert!(waits.len() > 1, "clients that were refused together come back at other times: {waits:?}");
    assert_eq!(stage.metric("stentor_openings_refused_total{kind=\"sessions_of_user\"}"), 50);
    sessions.iter_mut().for_each(Socket::assert_open);
    stage.server.connect("another").assert_open();
    sessions.pop().expect("there are three").close(1000);
    // The server takes the end of the connection in before it takes a later one.
    let (_, head) = open_session(&stage, &token);
    assert!(head.starts_with("HTTP/1.1 101 "), "{head}");
}

/// Of each attacker: how often it joins and leaves.
const VISITS: usize = 300;

#[test]
fn sessions_that_come_and_go_cost_a_room_little_and_hide_no_message() {
    const READERS: usize = 40;
    const ATTACKERS: usize = 8;
    // A user's budget would let in some hundreds of these joins. The room must bear more.
    let stage = Stage::launch_with(Launch::without_budgets);
    let mut readers: Vec<Socket> = (0..READERS).map(|_| stage.server.connect("reader")).collect();
    let channel = readers.iter_mut().map(|reader| reader.join("hall")).last().expect("there are readers");
    let before = stage.metric("stentor_delivery_bytes_total");
    let mut attackers: Vec<Socket> = (0..ATTACKERS).map(|_| stage.server.connect("restless")).collect();
    for visit in 0..VISITS {
        for attacker in &mut attackers {
            attacker.send(&json!({"cid": "j", "channel_join": {"target": "hall", "type": 1}}));
            attacker.send(&json!({"cid": "l", "channel_leave": {"channel_id": channel}}));
        }
        for attacker in &mut attackers {
            while attacker.receive()["cid"] != "l" {}
        }
        if visit % 10 == 0 {
            readers[0].say(&channel, &format!("{{\"n\":{visit}}}"));
        }
    }
    attackers.iter_mut().for_each(Socket::assert_open);
    for reader in &mut readers {
        reader.assert_open();
        let messages: Vec<_> = reader.take_messages().iter().map(|message| message["content"].clone()).collect();
        let said: Vec<_> = (0..VISITS).step_by(10).map(|visit| json!(format!("{{\"n\":{visit}}}"))).collect();
        assert_eq!(messages, said, "every message came, in order");
    }
    let bytes = stage.metric("stentor_delivery_bytes_total") - before;
    // Each visit would be two events of some 200 bytes for every reader.
    let told_each = (ATTACKERS * VISITS * READERS * 2 * 200) as u64;
    assert!(bytes < told_each / 2, "{bytes} bytes were delivered, and all visits would be {told_each}");
}

#[test]
fn members_of_many_rooms_who_hang_up_together_are_all_gone_in_the_end() {
    const SESSIONS: usize = 20;
    const ROOMS: usize = 500;
    // The collector is one user, whose budget would let in four thousand joins, of ten thousand.
    let stage = Stage::launch_with(Launch::without_budgets);
    let mut bystander = stage.server.connect("bystander");
    bystander.join("room 0");
    let mut sessions: Vec<Socket> = (0..SESSIONS).map(|_| stage.server.connect("collector")).collect();
    for session in &mut sessions {
        for room in 0..ROOMS {
            session.join(&format!("room {room}"));
        }
    }
    assert!(stage.metric("stentor_members") > (SESSIONS * ROOMS) as u64);
    drop(sessions);
    let mut left = 0;
    while left < SESSIONS {
        let event = bystander.push_where("a leave", |push| push["channel_presence_event"]["leaves"].is_array());
        left += event["channel_presence_event"]["leaves"].as_array().map_or(0, Vec::len);
    }
    while stage.metric("stentor_members") > 1 {
        bystander.assert_open();
    }
    assert_eq!(stage.metric("stentor_channels"), 1);
}

#[test]
fn pings_whose_answers_are_never_read_hold_little_memory() {
    const CONNECTIONS: usize = 60;
    const PINGS: usize = 60_000;
    // With budgets the server would read the pingers later, and few pings would come to wait for their answers.
    let stage = Stage::launch_with(|launch: Launch| launch.without_budgets().flag("--work-per-address", 0));
    let token = stage.server.sign_in("pinger").token;
    let mut sockets: Vec<RawSocket> = (0..CONNECTIONS).map(|_| open_session(&stage, &token).0).collect();
    let before = stage.server.resident_kib();
    let pings = masked_frame(0x89, b"").repeat(PINGS);
    stage.beside_a_room(|| {
        for socket in &mut sockets {
            socket.write_within(std::time::Duration::from_secs(1));
            // The server stops to read when the kernel takes no more pongs. What it has read by then is what counts.
            socket.try_write(&pings);
        }
    });
    let more = stage.server.resident_kib().saturating_sub(before);
    assert!(more < CONNECTIONS * 256, "{more} KiB more for {CONNECTIONS} connections");
    stage.server.assert_works("pings");
}

/// One client reads nothing and answers no ping. The server does not read it, because its answers wait. Another one reads
/// slowly all the while.
#[test]
fn a_session_that_takes_no_byte_is_closed_although_its_socket_is_not_read() {
    const SESSIONS: &str = "stentor_connections{kind=\"session\"}";
    // The slow reader asks for more than its budget, and is to be read all the time.
    let stage = Stage::launch_with(Launch::without_budgets);
    let question = masked_frame(0x81, json!({"cid": "x".repeat(3000), "ping": {}}).to_string().as_bytes());
    let open = |name| RawSocket::upgraded(stage.server.address(), &stage.server.sign_in(name).token);
    let (mut deaf, mut slow) = (open("deaf"), open("slow"));
    deaf.write_within(std::time::Duration::from_secs(1));
    while deaf.try_write(&question) {}
    let mut asking = slow.second_hand();
    std::thread::scope(|scope| {
        scope.spawn(|| (0..20_000).take_while(|_| asking.try_write(&question)).count());
        assert_eq!(stage.metric(SESSIONS), 2);
        stage.await_that("the deaf client is let go", || {
            (0..4).for_each(|_| assert!(slow.read_frame().is_some(), "the slow reader stays"));
            stage.metric(SESSIONS) == 1
        });
        assert!(slow.read_frame().is_some(), "the slow reader stays");
        slow.shut();
    });
}

#[test]
fn strangers_who_leave_a_group_do_not_keep_its_members_waiting() {
    let stage = Stage::launch();
    let owner = stage.server.person("owner");
    let group = owner.create_group(json!({"name": "closed", "open": false}));
    let mut member = owner.connect();
    let channel = member.join_group(&group);
    let strangers: Vec<_> = (0..4).map(|number| stage.server.person(&format!("stranger-{number}"))).collect();
    let before = stage.metric("stentor_store_latency_seconds_count");
    for visit in 0..50 {
        for stranger in &strangers {
            assert_eq!(stranger.act("leave", &group, &[]).status, 200, "there is nothing to leave");
            assert_eq!(stranger.act("kick", &group, &[&owner]).status, 404);
        }
        let answer = member.say(&channel, &format!("{{\"n\":{visit}}}"));
        assert!(answer["channel_message_ack"].is_object(), "{answer}");
    }
    let asked = stage.metric("stentor_store_latency_seconds_count") - before;
    // The server may note the time of its newest tokens meanwhile.
    assert!((50..=51).contains(&asked), "{asked}: the group's channel asked the store for its member's messages alone");
}
