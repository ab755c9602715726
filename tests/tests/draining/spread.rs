//! How the closes are spread, and what is kept of a server that is killed meanwhile.

use std::time::{Duration, Instant};

use rustix::process::Signal;
use serde_json::Value;
use tests::harness::{Closed, Heard, Server, Socket, data_dir};

use crate::{await_stage, launch, metric};

/// How often a socket is looked at.
const LOOK: Duration = Duration::from_millis(2);

/// Sessions that say something again and again, and what of it was acknowledged.
struct Talkers {
    talkers: Vec<Talker>,
    channel: String,
    token: String,
    acknowledged: Vec<Value>,
}

struct Talker {
    socket: Socket,
    closed: Option<(Instant, Closed)>,
}

impl Talkers {
    fn connect(server: &Server, count: usize) -> Self {
        let account = server.sign_in("talker");
        let connect = |_| Talker { socket: Socket::connect(server.address(), &account.token), closed: None };
        let mut talkers: Vec<Talker> = (0..count).map(connect).collect();
        let channels: Vec<String> = talkers.iter_mut().map(|talker| talker.socket.join("lobby")).collect();
        Self { talkers, channel: channels[0].clone(), token: account.token, acknowledged: Vec::new() }
    }

    /// Each that is open says something, and reads what has come.
    fn go_on(&mut self) {
        let send = serde_json::json!({"channel_message_send": {"channel_id": self.channel, "content": "{}"}});
        for talker in self.talkers.iter_mut().filter(|talker| talker.closed.is_none()) {
            // What was sent to a session that is closing is not acknowledged.
            let _ = talker.socket.try_send_text(&send.to_string());
            loop {
                match talker.socket.hear(LOOK) {
                    Heard::Nothing => break,
                    Heard::Closed(closed) => {
                        talker.closed = Some((Instant::now(), closed));
                        break;
                    }
                    Heard::Text(text) => {
                        let envelope: Value = serde_json::from_str(&text).expect("JSON");
                        if let Some(ack) = envelope.get("channel_message_ack") {
                            self.acknowledged.push(ack["message_id"].clone());
                        }
                    }
                }
            }
        }
    }

    fn closed(&self) -> usize {
        self.talkers.iter().filter(|talker| talker.closed.is_some()).count()
    }

    /// Asserts that everything that was acknowledged is in the history.
    fn assert_kept(&self, server: &Server) {
        let (history, _) = server.http().history_after(&self.token, &self.channel, None);
        let kept: Vec<_> = history.iter().map(|message| &message["message_id"]).collect();
        assert!(!self.acknowledged.is_empty());
        let lost = self.acknowledged.iter().filter(|id| !kept.contains(id)).count();
        assert_eq!(lost, 0, "of {} acknowledged messages", self.acknowledged.len());
    }
}

#[test]
fn closes_are_spread_and_everything_acknowledged_is_kept() {
    const SESSIONS: usize = 24;
    const TIME: Duration = Duration::from_secs(8);
    for shards in [1, 2] {
        let data = data_dir();
        let launch = || launch(data.path()).shards(shards).without_budgets().flag("--drain-time", "8s");
        let mut server = launch().start();
        let mut talkers = Talkers::connect(&server, SESSIONS);
        talkers.go_on();
        server.signal(Signal::TERM);
        await_stage(&server, data.path(), "closing");
        let begun = Instant::now();
        while talkers.closed() < SESSIONS {
            talkers.go_on();
            assert!(begun.elapsed() < 4 * TIME, "{} of {SESSIONS} sessions are closed", talkers.closed());
        }
        let said = server.await_success();
        assert!(said.contains("draining: "), "progress is told: {said}");
        let mut slices = [0; 4];
        for (at, closed) in talkers.talkers.iter().filter_map(|talker| talker.closed.as_ref()) {
            assert!(matches!(closed, Closed::Frame { code: 1012, .. }), "{closed:?}");
            let slice = at.duration_since(begun).as_millis() * 4 / TIME.as_millis();
            slices[usize::try_from(slice).unwrap_or(3).min(3)] += 1;
        }
        assert!(slices.iter().all(|&closes| closes <= SESSIONS / 2), "closes in each quarter of the time: {slices:?}");
        talkers.assert_kept(&launch().start());
    }
}

#[test]
fn a_server_that_is_killed_while_it_drains_loses_nothing_acknowledged() {
    let data = data_dir();
    let launch = || launch(data.path()).shards(2).without_budgets().flag("--drain-time", "20s");
    let server = launch().start();
    let mut talkers = Talkers::connect(&server, 20);
    talkers.go_on();
    server.signal(Signal::TERM);
    let begun = Instant::now();
    while talkers.closed() < 3 {
        talkers.go_on();
        assert!(begun.elapsed() < tests::harness::DEADLINE, "no session is closed");
    }
    assert!(metric(&server.admin(), "stentor_drain_sessions_closed_total") >= 3);
    server.kill();
    talkers.assert_kept(&launch().start());
}
