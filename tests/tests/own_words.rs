//! Which users may change a stored message, over real sockets: its sender, from any session, including sessions that
//! have joined without persistence; no other user. No user may change a message that the server wrote about users.
//! Later history shows what the members were told.

use serde_json::{Value, json};
use tests::harness::person::{Person, events, text};
use tests::harness::{Format, Launch, Server, Socket, data_dir};

const SHARD_COUNTS: [u16; 2] = [1, 4];

/// The kinds of channel: a room, a room that is a crowd, a direct channel, a group's channel.
const ROOM: &str = "room";
const CROWD: &str = "crowd";
const DIRECT: &str = "direct";
const GROUP: &str = "group";

/// Runs a test on a server for each number of shards.
fn on_every_size(test: impl Fn(Launch) -> Server) {
    for shards in SHARD_COUNTS {
        println!("{shards} shards");
        let data = data_dir();
        let launch =
            || Launch::on(data.path()).shards(shards).flag("--session-ttl", "1h").flag("--room-members-max", 10);
        test(launch()).kill();
    }
}

/// The join request for a channel of this kind.
fn action(kind: &str, other: &Person, group: &str) -> Value {
    match kind {
        DIRECT => json!({"target": other.id(), "type": 2}),
        GROUP => json!({"target": group, "type": 3}),
        room => json!({"target": room, "type": 1}),
    }
}

fn join(socket: &mut Socket, mut action: Value, persistence: bool) -> String {
    action["persistence"] = json!(persistence);
    text(&socket.request(json!({ "channel_join": action }))["channel"]["id"])
}

fn update(socket: &mut Socket, channel: &str, id: &str, content: &str) -> Value {
    let message = json!({"channel_id": channel, "message_id": id, "content": content});
    socket.request(json!({ "channel_message_update": message }))
}

fn remove(socket: &mut Socket, channel: &str, id: &str) -> Value {
    socket.request(json!({"channel_message_remove": {"channel_id": channel, "message_id": id}}))
}

fn hear(socket: &mut Socket, id: &str, code: u64) -> Value {
    let wanted = |push: &Value| push["channel_message"]["message_id"] == id && push["channel_message"]["code"] == code;
    socket.push_where("the change", wanted)["channel_message"].clone()
}

/// The newest page, which the channel's owner has in memory.
fn newest(person: &Person, channel: &str) -> Vec<Value> {
    let page = person.done("GET", &format!("/v2/channel/{channel}?limit=100&forward=false"), Value::Null);
    page["messages"].as_array().cloned().unwrap_or_default()
}

fn contents(page: &[Value], id: &str) -> Vec<String> {
    page.iter().filter(|message| message["message_id"] == id).map(|message| text(&message["content"])).collect()
}

#[test]
fn ones_own_words_are_changed_and_removed_from_a_presence_that_keeps_nothing() {
    on_every_size(|launch| {
        let server = launch.start();
        let [ada, bob] = server.people(["ada", "bob"]);
        let group = ada.create_group(json!({"name": "the group", "open": true}));
        bob.acts("join", &group, &[]);
        let mut others: Vec<Socket> = (0..20).map(|number| server.connect(&format!("other-{number}"))).collect();
        others.iter_mut().for_each(|other| drop(other.join(CROWD)));
        for kind in [ROOM, CROWD, DIRECT, GROUP] {
            for (format, other_format) in [(Format::Json, Format::Protobuf), (Format::Protobuf, Format::Json)] {
                let mut listener = bob.connect_in(other_format);
                let channel = join(&mut listener, action(kind, &ada, &group), true);
                newest(&bob, &channel);
                let mut writer = ada.connect_in(format);
                assert_eq!(join(&mut writer, action(kind, &bob, &group), true), channel);
                let [kept, taken_back] = [r#"{"n":1}"#, r#"{"n":2}"#].map(|content| writer.say(&channel, content));
                let id = |ack: &Value| text(&ack["channel_message_ack"]["message_id"]);
                let created = kept["channel_message_ack"]["create_time"].clone();
                let (kept, taken_back) = (id(&kept), id(&taken_back));
                writer.request(json!({"channel_leave": {"channel_id": channel}}));
                join(&mut writer, action(kind, &bob, &group), false);

                let ack = update(&mut writer, &channel, &kept, r#"{"n":3}"#)["channel_message_ack"].clone();
                let told = hear(&mut listener, &kept, 1);
                for said in [&ack, &told] {
                    assert_eq!((&said["persistent"], &said["create_time"]), (&json!(true), &created), "{kind}: {said}");
                }
                assert_eq!(told["content"], r#"{"n":3}"#);
                assert!(text(&told["update_time"]) > text(&told["create_time"]), "{told}");
                let ack = remove(&mut writer, &channel, &taken_back)["channel_message_ack"].clone();
                let told = hear(&mut listener, &taken_back, 2);
                assert_eq!((&ack["persistent"], &told["persistent"]), (&json!(true), &json!(true)), "{kind}");
                for page in [newest(&bob, &channel), bob.history(&channel)] {
                    assert_eq!(contents(&page, &kept), [r#"{"n":3}"#], "{kind}");
                    assert!(contents(&page, &taken_back).is_empty(), "{kind}: {page:?}");
                }

                // Another user's message stays unchanged, and a message that was never stored is only delivered.
                let theirs = id(&listener.say(&channel, r#"{"from":"bob"}"#));
                for answer in [update(&mut writer, &channel, &theirs, "{}"), remove(&mut writer, &channel, &theirs)] {
                    assert_eq!(answer["error"]["code"], 3, "{kind}: {answer}");
                }
                assert_eq!(contents(&newest(&bob, &channel), &theirs), [r#"{"from":"bob"}"#]);
                let passing = id(&writer.say(&channel, r#"{"typing":true}"#));
                let ack = update(&mut writer, &channel, &passing, r#"{"typing":false}"#);
                assert_eq!(ack["channel_message_ack"]["persistent"], false, "{kind}: {ack}");
                assert_eq!(hear(&mut listener, &passing, 1)["persistent"], false);
                assert_eq!(remove(&mut writer, &channel, &passing)["channel_message_ack"]["persistent"], false);
                assert!(contents(&bob.history(&channel), &passing).is_empty());
            }
        }
        server
    });
}

/// Asserts that a message of the server cannot be changed, from sessions with persistence and from sessions without it.
fn assert_untouchable(person: &Person, channel: &str, group: &str, ids: &[String]) {
    for format in Format::ALL {
        for persistence in [true, false] {
            let mut socket = person.connect_in(format);
            join(&mut socket, json!({"target": group, "type": 3}), persistence);
            for id in ids {
                for answer in [update(&mut socket, channel, id, "{}"), remove(&mut socket, channel, id)] {
                    assert_eq!(answer["error"]["code"], 3, "{answer}");
                }
            }
            assert!(socket.take_messages().is_empty(), "nobody is told");
        }
    }
}

#[test]
fn what_the_server_said_about_a_member_is_not_the_members_to_change() {
    for shards in SHARD_COUNTS {
        let data = data_dir();
        let launch = || Launch::on(data.path()).shards(shards).flag("--session-ttl", "1h");
        let server = launch().start();
        let [ada, bob] = server.people(["ada", "bob"]);
        let group = ada.create_group(json!({"name": "the group", "open": true}));
        let mut watcher = ada.connect();
        let channel = watcher.join_group(&group);
        newest(&ada, &channel);
        // All codes: joined, left, kicked, banned, added, promoted, demoted.
        bob.acts("join", &group, &[]);
        bob.acts("leave", &group, &[]);
        bob.acts("join", &group, &[]);
        for act in ["kick", "add", "ban", "kick", "add", "promote", "demote"] {
            ada.acts(act, &group, &[&bob]);
        }
        let before = bob.history(&channel);
        let codes: Vec<u64> = events(&before).into_iter().map(|(code, _)| code).collect();
        assert_eq!(codes, [3, 5, 3, 6, 4, 8, 4, 7, 9]);
        let ids: Vec<String> = before.iter().map(|message| text(&message["message_id"])).collect();
        assert!(before.iter().all(|message| message["sender_id"] == bob.id()));
        assert_untouchable(&bob, &channel, &group, &ids);
        assert_untouchable(&ada, &channel, &group, &ids);
        assert_eq!(bob.history(&channel), before);
        let mut from_memory = newest(&ada, &channel);
        from_memory.reverse();
        assert_eq!(from_memory, before);
        drop(watcher);
        server.kill();

        let server = launch().start();
        let (ada, bob) = (ada.at(&server), bob.at(&server));
        assert_untouchable(&bob, &channel, &group, &ids);
        assert_eq!(ada.history(&channel), before, "also after a restart");
    }
}
