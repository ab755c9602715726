//! Rooms: joining, leaving, presence, order, with one shard and with four.

use std::collections::BTreeSet;
use std::thread;

use serde_json::Value;
use tests::harness::{Closed, Format, Launch, Server, Socket, data_dir};

const SHARD_COUNTS: [u16; 2] = [1, 4];

/// Runs a test on a fresh server for each number of shards.
fn on_every_size(test: impl Fn(&Server)) {
    for shards in SHARD_COUNTS {
        println!("{shards} shards");
        let data = data_dir();
        test(&Launch::on(data.path()).shards(shards).start());
    }
}

/// Half of the members use JSON and half protobuf. The format makes no difference to what they receive.
#[test]
fn every_member_hears_one_order_and_history_keeps_it() {
    const TALKERS: usize = 6;
    const EACH: usize = 60;
    on_every_size(|server| {
        let mut listener = server.connect("listener");
        let channel = listener.join("order");
        let talkers: Vec<_> = (0..TALKERS)
            .map(|number| {
                let mut socket = server.connect_in(Format::ALL[number % 2], &format!("talker-{number}"));
                socket.join("order");
                socket
            })
            .collect();
        let heard: Vec<_> = thread::scope(|scope| {
            let threads: Vec<_> = talkers
                .into_iter()
                .enumerate()
                .map(|(number, mut socket)| {
                    let channel = &channel;
                    scope.spawn(move || {
                        for n in 0..EACH {
                            let ack = socket.say(channel, &format!(r#"{{"talker":{number},"n":{n}}}"#));
                            assert!(ack["channel_message_ack"]["message_id"].is_string(), "{ack}");
                        }
                        let mut heard = messages(&socket.pushes);
                        while heard.len() < TALKERS * EACH {
                            heard.extend(messages(&[socket.receive()]));
                        }
                        heard
                    })
                })
                .collect();
            threads.into_iter().map(|thread| thread.join().expect("no talker fails")).collect()
        });
        let (kept, _) = server.http().history_after(&server.sign_in("reader").token, &channel, None);
        assert_eq!(kept.len(), TALKERS * EACH);
        let ids: Vec<_> = kept.iter().map(|message| text(&message["message_id"])).collect();
        assert!(ids.is_sorted_by(|one, next| one < next), "message ids rise within a channel");
        let mut listened = messages(&listener.pushes);
        while listened.len() < TALKERS * EACH {
            listened.extend(messages(&[listener.receive()]));
        }
        assert_eq!(listened, kept, "what the listener hears is history");
        for (number, heard) in heard.iter().enumerate() {
            assert_eq!(*heard, kept, "what talker {number} hears is history");
        }
    });
}

#[test]
fn pipelined_requests_are_answered_in_their_order() {
    const EACH: usize = 100;
    on_every_size(|server| {
        let mut socket = server.connect("alice");
        let channel = socket.join("pipeline");
        let _ = socket.push_where("her own join", |push| push["channel_presence_event"].is_object());
        for n in 0..EACH {
            socket.send(&serde_json::json!({
                "cid": format!("m{n}"),
                "channel_message_send": {"channel_id": channel, "content": format!("{{\"n\":{n}}}")},
            }));
        }
        // Pushes and answers may be batched, but each kind comes in order, and a sender's own copy comes before its
        // acknowledgement.
        let (mut pushed, mut answered) = (Vec::new(), 0);
        while answered < EACH {
            let envelope = socket.receive();
            if let Some(message) = envelope.get("channel_message") {
                assert_eq!(message["content"], format!("{{\"n\":{}}}", pushed.len()), "{envelope}");
                pushed.push(text(&message["message_id"]));
            } else {
                assert_eq!(envelope["cid"], format!("m{answered}"), "{envelope}");
                let id = text(&envelope["channel_message_ack"]["message_id"]);
                assert_eq!(pushed.get(answered), Some(&id), "the own copy comes before the ack");
                answered += 1;
            }
        }
    });
}

#[test]
fn a_crowd_that_joins_at_once_sees_itself_whole() {
    const CROWD: usize = 40;
    on_every_size(|server| {
        let accounts: Vec<_> = (0..CROWD).map(|n| server.sign_in(&format!("member-{n}"))).collect();
        let everybody: BTreeSet<String> = accounts.iter().map(|account| account.user_id.clone()).collect();
        thread::scope(|scope| {
            let mut members = Vec::new();
            for (number, account) in accounts.iter().enumerate() {
                let everybody = &everybody;
                members.push(scope.spawn(move || {
                    let format = Format::ALL[number % 2];
                    let mut socket = Socket::connect_in(format, server.address(), &account.token);
                    let join = serde_json::json!({"channel_join": {"target": "crowd", "type": 1}});
                    let answer = socket.request(join);
                    let listed = users(&answer["channel"]["presences"]);
                    assert!(!listed.contains(&account.user_id), "not in one's own list on a first join");
                    let mut seen: BTreeSet<String> = listed.into_iter().collect();
                    let early = std::mem::take(&mut socket.pushes);
                    assert!(early.is_empty(), "nothing is heard of a channel before its `channel` answer: {early:?}");
                    while seen != *everybody {
                        let push = socket.receive();
                        let event = &push["channel_presence_event"];
                        assert!(event.is_object(), "{push}");
                        seen.extend(users(&event["joins"]));
                    }
                    // Kept open until all have seen all joins, so that no leave hides a join.
                    socket
                }));
            }
            let sockets: Vec<Socket> =
                members.into_iter().map(|member| member.join().expect("every member sees all")).collect();
            assert_eq!(sockets.len(), CROWD);
        });
    });
}

#[test]
fn a_closed_socket_leaves_all_its_channels() {
    on_every_size(|server| {
        let mut alice = server.connect("alice");
        let rooms: Vec<String> = (0..8).map(|n| format!("room-{n}")).collect();
        let mut bob = server.connect("bob");
        for room in &rooms {
            alice.join(room);
            bob.join(room);
        }
        assert!(matches!(bob.close(1000), Closed::Frame { code: 1000, .. }), "a close is echoed with its code");
        let mut left = BTreeSet::new();
        while left.len() < rooms.len() {
            let push = alice.push_where("bob's leaving", |push| push["channel_presence_event"]["leaves"].is_array());
            let event = &push["channel_presence_event"];
            assert!(event["joins"].is_null(), "one session is never in both lists: {push}");
            assert!(left.insert(text(&event["room_name"])), "one leave a channel: {push}");
        }
    });
}

#[test]
fn rooms_do_not_hear_each_other() {
    on_every_size(|server| {
        let (mut alice, mut bob) = (server.connect("alice"), server.connect("bob"));
        let (hers, his) = (alice.join("hers"), bob.join("his"));
        for n in 0..20 {
            assert!(alice.say(&hers, &format!("{{\"hers\":{n}}}"))["channel_message_ack"].is_object());
            assert!(bob.say(&his, &format!("{{\"his\":{n}}}"))["channel_message_ack"].is_object());
        }
        for (socket, own) in [(&alice, &hers), (&bob, &his)] {
            for push in &socket.pushes {
                let body = push.get("channel_message").unwrap_or(&push["channel_presence_event"]);
                assert_eq!(body["channel_id"], **own, "{push}");
            }
            assert_eq!(messages(&socket.pushes).len(), 20);
        }
    });
}

fn messages(pushes: &[Value]) -> Vec<Value> {
    pushes.iter().filter_map(|push| push.get("channel_message")).cloned().collect()
}

fn users(presences: &Value) -> Vec<String> {
    presences.as_array().into_iter().flatten().map(|presence| text(&presence["user_id"])).collect()
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_else(|| panic!("not a string: {value}")).to_string()
}
