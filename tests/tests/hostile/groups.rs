//! Groups: changes that fill a group's queue, and strangers who use up what a user may have.

use std::thread;

use serde_json::{Value, json};
use tests::harness::{FaultySyncs, Launch, RawSocket, bearer};

use crate::stage::{ATTACKER, Stage};

/// Changes of a group by one user that wait (docs/protocol.md, section 10).
const CHANGES_MAX: usize = 64;

/// The disk holds the first change, so that all others wait for it.
#[test]
fn changes_of_one_member_fill_a_share_of_the_groups_queue() {
    const BEYOND: usize = 6;
    let syncs = FaultySyncs::build();
    let stage = Stage::launch_with(|launch: Launch| launch.confined(syncs.confine()));
    let [owner, attacker, other] = stage.server.people(["owner", "attacker", "other"]);
    let group = owner.create_group(json!({"name": "attacked", "open": true}));
    attacker.acts("join", &group, &[]);
    other.acts("join", &group, &[]);
    let mut member = owner.connect();
    let channel = member.join_group(&group);
    let leave = format!(
        "POST /v2/group/{group}/leave HTTP/1.1\r\nHost: localhost\r\nAuthorization: {}\r\nContent-Length: 0\r\n\r\n",
        bearer(&attacker.account().token)
    );
    syncs.hold();
    let mut leaving: Vec<RawSocket> = (0..CHANGES_MAX + BEYOND).map(|_| stage.connect(ATTACKER)).collect();
    leaving.iter_mut().for_each(|socket| socket.write(leave.as_bytes()));
    stage.await_metric("stentor_http_requests_total{kind=\"5xx\"}", BEYOND as u64);
    // Another member's change and a message find places, and wait like the others.
    member.send(&json!({"cid": "said", "channel_message_send": {"channel_id": channel, "content": "{}"}}));
    thread::scope(|scope| {
        let leaves = scope.spawn(|| other.act("leave", &group, &[]).status);
        stage.await_metric("stentor_requests_total{kind=\"send\"}", 1);
        syncs.let_go();
        assert_eq!(leaves.join().expect("it is answered"), 200);
    });
    let answer = member.push_or_answer("said");
    assert!(answer["channel_message_ack"].is_object(), "{answer}");
    let heads: Vec<String> = leaving.iter_mut().map(|socket| socket.read_answer().0).collect();
    let refused = heads.iter().filter(|head| head.starts_with("HTTP/1.1 503 ")).count();
    let done = heads.iter().filter(|head| head.starts_with("HTTP/1.1 200 ")).count();
    assert_eq!((refused, done), (BEYOND, CHANGES_MAX), "{heads:?}");
    stage.assert_bounded();
}

trait PushOrAnswer {
    fn push_or_answer(&mut self, cid: &str) -> Value;
}

impl PushOrAnswer for tests::harness::Socket {
    /// The answer to the request with this `cid`; pushes before it are dropped.
    fn push_or_answer(&mut self, cid: &str) -> Value {
        loop {
            let heard = self.receive();
            if heard["cid"] == cid {
                return heard;
            }
        }
    }
}

/// Groups that others can add a user to.
const ADDED_MAX: usize = 500;

#[test]
fn strangers_who_add_a_user_to_their_groups_leave_the_user_places() {
    const STRANGERS: usize = 4;
    const GROUPS: usize = 140;
    let stage = Stage::launch();
    let victim = stage.server.person("victim");
    let mut online = victim.connect();
    stage.beside_a_room(|| {
        thread::scope(|scope| {
            for number in 0..STRANGERS {
                let (stage, victim) = (&stage, &victim);
                scope.spawn(move || {
                    let stranger = stage.server.person(&format!("stranger-{number}"));
                    for place in 0..GROUPS {
                        let group = stranger.create_group(json!({"name": format!("{number} {place}")}));
                        let added = stranger.act("add", &group, &[victim]);
                        assert!(matches!(added.status, 200 | 400), "{}", added.body);
                        if added.status == 400 {
                            assert!(added.body.contains("in as many groups"), "{}", added.body);
                        }
                    }
                });
            }
        });
    });
    let groups = victim.listing(&format!("/v2/user/{}/group?limit=100", victim.id()), "user_groups").len();
    assert_eq!(groups, ADDED_MAX, "others can fill a half of the places");
    victim.create_group(json!({"name": "of my own"}));
    let notices = victim.listing("/v2/notification?limit=100", "notifications").len();
    // Four of each stranger in a minute, and the attack may take more than one on a busy machine.
    assert!(notices <= 4 * STRANGERS * 3, "{notices} notifications of {} additions", STRANGERS * GROUPS);
    online.assert_open();
    stage.assert_bounded();
}

#[test]
fn friend_requests_that_are_taken_back_and_repeated_notify_once() {
    const TIMES: usize = 60;
    let stage = Stage::launch();
    let [stranger, victim] = stage.server.people(["stranger", "victim"]);
    stage.beside_a_room(|| {
        for _ in 0..TIMES {
            stranger.relates("add", &victim);
            stranger.relates("delete", &victim);
        }
    });
    let notices = victim.listing("/v2/notification?limit=100", "notifications").len();
    assert!((1..=3).contains(&notices), "{notices} notifications of {TIMES} requests");
    stage.assert_bounded();
}
