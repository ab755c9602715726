//! Direct and group chats and statuses over sockets: what is refused, in both formats. The session stays open after
//! each refusal.

use serde_json::{Value, json};
use tests::harness::person::{Person, direct_channel, group_channel, text};
use tests::harness::{Format, Launch, Server, Socket, data_dir};

use crate::refusals::{UNKNOWN, assert_refused};

const NIL: &str = "00000000-0000-0000-0000-000000000000";

/// Users in every relation to each other, and the messages they have sent.
struct Stage {
    ada: Person,
    bob: Person,
    group: String,
    /// Bob's message in the direct chat with Ada.
    direct_message: String,
    group_message: String,
}

impl Stage {
    /// In the group, `ada` is superadmin, `bob` is a member, `ray` has requested to join, and `bea` is banned. `bea`
    /// blocks `ray`.
    fn set(server: &Server) -> Self {
        let [ada, bob, ray, bea] = server.people(["ada", "bob", "ray", "bea"]);
        let group = ada.create_group(json!({"name": "the group", "open": true}));
        for person in [&bob, &bea] {
            person.acts("join", &group, &[]);
        }
        ada.acts("ban", &group, &[&bea]);
        ada.done("PUT", &format!("/v2/group/{group}"), json!({"open": false}));
        ray.acts("join", &group, &[]);
        bea.relates("block", &ray);
        let mut socket = bob.connect();
        let channels = [socket.join_direct(&ada), socket.join_group(&group)];
        let [direct_message, group_message] = channels
            .map(|channel| text(&socket.say(&channel, r#"{"from":"bob"}"#)["channel_message_ack"]["message_id"]));
        Self { ada, bob, group, direct_message, group_message }
    }
}

/// Sends one request that must be refused with code 3; the session must stay open.
fn check_refused(socket: &mut Socket, case: &str, request: &Value) {
    let answer = socket.request(request.clone());
    assert_eq!(answer["error"]["code"], 3, "{case}: {request}: {answer}");
    assert!(answer["error"]["message"].as_str().is_some_and(|text| !text.is_empty()), "{case}: {answer}");
    socket.assert_open();
}

fn on_every_format(test: impl Fn(&Server, Format)) {
    for format in Format::ALL {
        let data = data_dir();
        test(&Launch::on(data.path()).without_budgets().flag("--session-ttl", 3600).start(), format);
    }
}

#[test]
fn joins() {
    on_every_format(|server, format| {
        let Stage { ada, bob, group, .. } = Stage::set(server);
        let [ray, bea, out] = server.people(["ray", "bea", "out"]);
        let direct = |target: &str| json!({"channel_join": {"target": target, "type": 2}});
        let in_group = |target: &str| json!({"channel_join": {"target": target, "type": 3}});
        let watched = [&ada, &bob, &ray, &bea, &out];
        let before = watched.map(|person| person.notifications());
        let mut listener = ada.connect();
        let channel = listener.join_group(&group);
        listener.catch_up();
        listener.pushes.clear();

        for person in [&ray, &bea, &out] {
            let mut socket = person.connect_in(format);
            for target in ["", "bob", "1", NIL, UNKNOWN, "65aea872a336402990c96f507b75281c0"] {
                check_refused(&mut socket, "direct", &direct(target));
            }
            for target in ["", "the group", NIL, UNKNOWN, &group, &group.to_uppercase(), &format!("{group} ")] {
                check_refused(&mut socket, "group", &in_group(target));
            }
            assert!(socket.pushes.is_empty(), "{:?}", socket.pushes);
        }
        let mut socket = ray.connect_in(format);
        let error = |answer: Value| answer["error"].clone();
        let (blocked, nobody) = (socket.request(direct(bea.id())), socket.request(direct(UNKNOWN)));
        assert_eq!(error(blocked), error(nobody), "who blocks one is nobody to one");
        check_refused(&mut socket, "blocked, in capitals", &direct(&bea.id().to_uppercase()));

        listener.catch_up();
        assert!(listener.pushes.is_empty(), "nobody came: {:?}", listener.pushes);
        assert_eq!(watched.map(|person| person.notifications()), before, "and nobody was asked to come");
        let presences = ada.done("GET", &format!("/v2/channel/{channel}/presence"), Value::Null);
        assert_eq!(presences["presence_count"], 1, "{presences}");
    });
}

#[test]
fn messages() {
    on_every_format(|server, format| {
        let Stage { ada, bob, group, direct_message, group_message } = Stage::set(server);
        let (direct, in_group) = (direct_channel(&ada, &bob), group_channel(&group));
        let before = [&direct, &in_group].map(|channel| bob.history(channel));
        let joined = text(&before[1][0]["message_id"]);
        let mut socket = ada.connect_in(format);
        let send =
            |channel: &str, content: &str| json!({"channel_message_send": {"channel_id": channel, "content": content}});
        let update = |channel: &str, id: &str| json!({"channel_message_update": {"channel_id": channel, "message_id": id, "content": "{}"}});
        let remove =
            |channel: &str, id: &str| json!({"channel_message_remove": {"channel_id": channel, "message_id": id}});
        let everything = |channel: &str, id: &str| [send(channel, "{}"), update(channel, id), remove(channel, id)];
        let (one, other) = (bob.id(), ada.id());
        let malformed = [
            format!("3.{group}"),
            format!("3.{group}."),
            format!("3.{group}..x"),
            format!("3.{group}.{one}."),
            format!("3..{group}."),
            format!("3.{group}-.."),
            "3.the group..".to_string(),
            format!("4.{one}.{other}"),
            format!("4.{one}.{other}.x"),
            format!("4.{one}.bob."),
            format!("4..{one}.{other}."),
            format!("2.{one}.."),
            format!("2.{one}.{other}."),
            format!("1.{group}.."),
            format!("5.{group}.."),
            format!(" 3.{group}.."),
        ];
        for channel in &malformed {
            for request in everything(channel, &group_message) {
                check_refused(&mut socket, "malformed", &request);
            }
            let leave = json!({"channel_leave": {"channel_id": channel}});
            check_refused(&mut socket, "malformed", &leave);
        }
        let foreign = [
            direct.clone(),
            in_group.clone(),
            format!("4.{other}.{one}."),
            format!("3.{UNKNOWN}.."),
            format!("4.{UNKNOWN}.{one}."),
            format!("4.{NIL}.{NIL}."),
        ];
        for channel in &foreign {
            for request in everything(channel, &group_message) {
                check_refused(&mut socket, "not joined", &request);
            }
        }

        assert_eq!(socket.join_direct(&bob), direct);
        assert_eq!(socket.join_group(&group), in_group);
        for (channel, id) in [(&direct, &direct_message), (&in_group, &group_message), (&in_group, &joined)] {
            check_refused(&mut socket, "somebody else's", &update(channel, id));
            check_refused(&mut socket, "somebody else's", &remove(channel, id));
        }
        for id in [UNKNOWN, NIL, "", "nonsense"] {
            check_refused(&mut socket, "no such message", &update(&in_group, id));
            check_refused(&mut socket, "no such message", &remove(&in_group, id));
        }
        for content in ["", "[]", "1", "\"text\"", "null", "{", "{}x"] {
            check_refused(&mut socket, "no object", &send(&direct, content));
            check_refused(&mut socket, "no object", &send(&in_group, content));
        }
        let said = text(&socket.say(&direct, "{}")["channel_message_ack"]["message_id"]);
        check_refused(&mut socket, "through another channel", &update(&in_group, &said));
        check_refused(&mut socket, "through another channel", &remove(&in_group, &said));
        let after = [bob.history(&direct), bob.history(&in_group)];
        assert_eq!(after[1], before[1]);
        assert_eq!((after[0].len(), &after[0][0]), (2, &before[0][0]));
    });
}

#[test]
fn what_others_say_and_who_is_there() {
    on_every_format(|server, format| {
        let Stage { ada, bob, group, .. } = Stage::set(server);
        let [ray, bea, out] = server.people(["ray", "bea", "out"]);
        let (direct, in_group) = (direct_channel(&ada, &bob), group_channel(&group));
        let refused = |who: &Person, channel: &str| {
            for path in [
                format!("/v2/channel/{channel}?limit=10"),
                format!("/v2/channel?channel_id={channel}"),
                format!("/v2/channel/{channel}/presence"),
            ] {
                let answer = who.ask("GET", &path, &Value::Null);
                assert_refused(server, &format!("{}: {path}", who.name()), &answer, 400, 3);
            }
        };
        for who in [&ray, &bea, &out] {
            let mut socket = who.connect_in(format);
            for channel in [&direct, &in_group, &format!("3.{UNKNOWN}.."), &format!("3.{group}")] {
                refused(who, channel);
            }
            assert!(socket.try_join(3, &group).is_err());
        }
        assert_eq!((ada.history(&direct).len(), ada.history(&in_group).len()), (1, 4));
        // A user who is kicked cannot read the group's history any more.
        ada.acts("kick", &group, &[&bob]);
        refused(&bob, &in_group);
        assert_eq!(bob.history(&direct).len(), 1);
    });
}

#[test]
fn statuses() {
    on_every_format(|server, format| {
        let [ada, bob] = server.people(["ada", "bob"]);
        let mut follower = bob.connect();
        follower.request(json!({"status_follow": {"user_ids": [ada.id()]}}));
        let mut socket = ada.connect_in(format);
        for status in ["x".repeat(2049), "ü".repeat(1025)] {
            check_refused(&mut socket, "too long", &json!({"status_update": {"status": status}}));
        }
        for ids in [json!(["nonsense"]), json!([bob.id(), ""]), json!(["65aea872-a336-4029-90c9-6f507b75281"])] {
            check_refused(&mut socket, "follow", &json!({"status_follow": {"user_ids": ids}}));
            check_refused(&mut socket, "unfollow", &json!({"status_unfollow": {"user_ids": ids}}));
        }
        check_refused(&mut socket, "empty name", &json!({"status_follow": {"usernames": ["bob", ""]}}));
        let mut online = Socket::connect_online(Format::Json, bob.address(), &bob.account().token);
        online.request(json!({"status_update": {"status": "nobody follows"}}));
        socket.catch_up();
        assert!(socket.pushes.is_empty(), "nobody is followed by a refusal: {:?}", socket.pushes);
        follower.catch_up();
        let about_ada = |push: &Value| push.to_string().contains(ada.id());
        assert!(!follower.pushes.iter().any(about_ada), "{:?}", follower.pushes);
        let users = bob.done("GET", &format!("/v2/user?ids={}", ada.id()), Value::Null);
        assert!(users["users"][0]["online"].is_null(), "{users}");
    });
}
