//! Statuses of very many sessions of one user, long ones that come all at once, and requests to chat again and again.

use std::io::Read;
use std::net::TcpStream;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use serde_json::{Value, json};
use tests::harness::{Launch, RawSocket, Socket};

use crate::stage::{SetAtEnd, Stage, begin_session, envelope};

/// Sessions that show long statuses all at once, and how many each of them: 231 KB.
const NOISY: usize = 16;
const CHANGES: usize = 7;

/// The longest status.
fn long_status() -> Vec<u8> {
    envelope(&json!({"status_update": {"status": "x".repeat(2048)}}))
}

/// Opens sessions that show a status. All are asked for before the first is answered: one after the other, each would be
/// told to all before.
fn open_online(stage: &Stage, token: &str, sessions: usize) -> Vec<RawSocket> {
    let mut sockets: Vec<RawSocket> = (0..sessions).map(|_| begin_session(stage, token, true)).collect();
    for socket in &mut sockets {
        let head = socket.read_head();
        assert!(head.starts_with("HTTP/1.1 101 "), "{head}");
    }
    sockets
}

/// Reads what comes on all of these connections, until `over`.
fn drain(sockets: &[RawSocket], over: &AtomicBool) {
    let mut streams: Vec<TcpStream> = sockets.iter().map(|socket| socket.second_hand().into_stream()).collect();
    // Also the first hand does not wait from now on. It writes little.
    streams.iter().for_each(|stream| stream.set_nonblocking(true).expect("a socket of ours"));
    let mut buffer = vec![0; 64 << 10];
    while !over.load(Ordering::Relaxed) {
        for stream in &mut streams {
            while stream.read(&mut buffer).is_ok_and(|read| read > 0) {}
        }
    }
}

/// First all sessions read, and each shows a status. Then they read nothing while some show long ones: the server lets go of
/// sessions that are behind, and each that goes is told to the others.
#[test]
fn thousands_of_sessions_that_show_statuses_end_nothing_and_delay_no_other() {
    const SESSIONS: usize = 2400;
    const DEAF: usize = 600;
    /// Sessions that read nothing are let go after some twenty.
    const STORMS_MAX: usize = 100;
    const UPDATES: &str = "stentor_requests_total{kind=\"status_update\"}";
    const OPEN: &str = "stentor_connections{kind=\"session\"}";
    // By default a user has a thousand sessions, and the user's budget ends the storm after some hundred statuses.
    let stage = Stage::launch_with(|launch: Launch| launch.without_budgets().flag("--sessions-per-user", 0));
    let token = stage.server.sign_in("many").token;
    let writes = || stage.metric("stentor_socket_writes_total{kind=\"private\"}");
    stage.beside_a_room(|| {
        let mut sessions = open_online(&stage, &token, SESSIONS);
        let over = AtomicBool::new(false);
        thread::scope(|scope| {
            let reading: Vec<RawSocket> = sessions.iter().map(RawSocket::second_hand).collect();
            let over = &over;
            scope.spawn(move || drain(&reading, over));
            let _end = SetAtEnd(over);
            let before = writes();
            for (number, session) in sessions.iter_mut().enumerate() {
                session.write(&envelope(&json!({"status_update": {"status": number.to_string()}})));
            }
            stage.await_metric(UPDATES, SESSIONS as u64);
            let told = writes() - before;
            let each_to_each = (SESSIONS * SESSIONS) as u64;
            assert!(told < each_to_each / 10, "{told} writes, and {each_to_each} if each were told to each");
            stage.assert_bounded();
        });
        // The others go, and those who stay are told of it.
        sessions.truncate(DEAF);
        let let_go = || stage.metric("stentor_slow_readers_closed_total{kind=\"1013\"}") > 0;
        let over = AtomicBool::new(false);
        thread::scope(|scope| {
            // If they read nothing either, the server would soon read nothing of them.
            let noisy: Vec<RawSocket> = sessions[..NOISY].iter().map(RawSocket::second_hand).collect();
            let over = &over;
            scope.spawn(move || drain(&noisy, over));
            let _end = SetAtEnd(over);
            for storm in 1..=STORMS_MAX {
                sessions[..NOISY].iter_mut().for_each(|session| session.write(&long_status().repeat(CHANGES)));
                let updates = SESSIONS + storm * NOISY * CHANGES;
                stage.await_that("the storm is over", || let_go() || stage.metric(UPDATES) as usize >= updates);
                if let_go() {
                    break;
                }
            }
        });
        assert!(let_go(), "sessions that read nothing are let go");
        drop(sessions);
        stage.await_that("all of them are gone", || stage.metric(OPEN) <= 2);
    });
    stage.assert_turns_bounded();
    stage.server.assert_works("thousands of sessions that show statuses");
}

#[test]
fn followers_who_read_are_not_closed_for_long_statuses() {
    const FOLLOWERS: usize = 40;
    let stage = Stage::launch();
    let noisy = stage.server.sign_in("noisy");
    let mut followers: Vec<Socket> = (0..FOLLOWERS)
        .map(|number| {
            let mut follower = stage.server.connect(&format!("follower-{number}"));
            let answer = follower.request(json!({"status_follow": {"user_ids": [noisy.user_id]}}));
            assert!(answer["status"].is_object(), "{answer}");
            follower
        })
        .collect();
    stage.beside_a_room(|| {
        let mut sessions = open_online(&stage, &noisy.token, NOISY);
        let storm = long_status().repeat(CHANGES);
        sessions.iter_mut().for_each(|session| session.write(&storm));
        stage.await_metric("stentor_requests_total{kind=\"status_update\"}", (NOISY * CHANGES) as u64);
        for follower in &mut followers {
            let mut shown = 0;
            let shows = |push: &Value| push["status_presence_event"]["joins"].as_array().map_or(0, Vec::len);
            while shown < NOISY {
                shown += shows(&follower.push_where("a status", |push| shows(push) > 0));
            }
            follower.assert_open();
        }
    });
    let turn = stage.assert_bounded();
    assert!(turn.bytes > 1 << 20, "the storm was told in few turns: {turn:?}");
}

#[test]
fn a_user_who_asks_to_chat_again_and_again_is_told_once() {
    const VISITS: usize = 400;
    let stage = Stage::launch();
    let [attacker, victim] = stage.server.people(["attacker", "victim"]);
    let (mut asking, mut asked) = (attacker.connect(), victim.connect());
    stage.beside_a_room(|| {
        for _ in 0..VISITS {
            let channel = asking.join_direct(&victim);
            asking.request(json!({"channel_leave": {"channel_id": channel}}));
        }
    });
    asked.assert_open();
    let told = asked.pushes.iter().filter(|push| push["notifications"].is_object()).count();
    let stored = victim.listing("/v2/notification?limit=100", "notifications").len();
    // The visits take less than the ten seconds after which the victim would be asked again, or the machine is very busy.
    assert!(
        (1..=3).contains(&told) && told == stored,
        "{told} were pushed and {stored} are stored, for {VISITS} visits"
    );
    stage.assert_bounded();
}
