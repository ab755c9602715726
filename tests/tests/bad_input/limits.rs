//! The most of everything that a user can have, and one more. In memory, because it is a lot of data.

use serde_json::{Value, json};
use tests::harness::person::{Person, text};
use tests::harness::{Launch, SERVER_KEY, Server, Socket, data_dir};

use crate::refusals::assert_refused;

const GROUPS_MAX: usize = 1000;
const FRIENDS_MAX: usize = 10_000;
const NOTIFICATIONS_MAX: usize = 10_000;
const FOLLOWS_MAX: usize = 1024;

/// Users whose ids fit into the head of one request.
const IDS_AT_ONCE: usize = 100;

fn in_memory() -> (tempfile::TempDir, Server) {
    let data = data_dir();
    let launch = Launch::on(data.path()).flag("--store", "memory").flag("--session-ttl", 3600);
    let server = launch.without_budgets().start();
    (data, server)
}

/// Creates so many users and returns their ids.
fn many(server: &Server, count: usize) -> Vec<String> {
    let http = server.http();
    let user = |number: usize| {
        let body = json!({"id": format!("one-of-many-{number}")});
        let path = format!("/v2/account/authenticate/custom?username=many-{number}");
        let answer = http.post(&path, SERVER_KEY, &body);
        assert_eq!(answer.status, 200, "{}", answer.body);
    };
    (0..count).for_each(user);
    let reader = server.person("reader");
    let numbers: Vec<usize> = (0..count).collect();
    let ids = numbers.chunks(IDS_AT_ONCE).flat_map(|numbers| {
        let names: Vec<String> = numbers.iter().map(|number| format!("usernames=many-{number}")).collect();
        let found = reader.done("GET", &format!("/v2/user?{}", names.join("&")), Value::Null);
        found["users"].as_array().expect("users").iter().map(|user| text(&user["id"])).collect::<Vec<_>>()
    });
    let ids: Vec<String> = ids.collect();
    assert_eq!(ids.len(), count);
    ids
}

#[test]
fn groups_of_one_user() {
    let (_data, server) = in_memory();
    let [ada, bob] = server.people(["ada", "bob"]);
    let open = bob.create_group(json!({"name": "open", "open": true}));
    let closed = bob.create_group(json!({"name": "closed"}));
    let further = bob.create_group(json!({"name": "further", "open": true}));
    let mut made = Vec::new();
    for number in 0..GROUPS_MAX - 1 {
        made.push(ada.create_group(json!({"name": format!("group {number}")})));
    }
    ada.acts("join", &closed, &[]);
    let refused = |what: &str| {
        let one_more = ada.ask("POST", "/v2/group", &json!({"name": "one more"}));
        assert_refused(&server, what, &one_more, 400, 3);
        assert_refused(&server, what, &ada.act("join", &further, &[]), 400, 3);
        assert_refused(&server, what, &bob.act("add", &further, &[&ada]), 400, 3);
    };
    refused("a request counts");
    bob.acts("add", &closed, &[&ada]);
    refused("let in, which is no more than before");
    assert!(ada.groups_called("one more").is_empty());
    assert_eq!((ada.groups().len(), bob.roster(&further).len()), (GROUPS_MAX, 1));
    let pages = ada.listing(&format!("/v2/user/{}/group?limit=100", ada.id()), "user_groups");
    assert_eq!(pages.len(), GROUPS_MAX);

    bob.acts("ban", &closed, &[&ada]);
    ada.acts("join", &open, &[]);
    refused("bans do not count, but another has come");
    ada.acts("leave", &made[0], &[]);
    ada.create_group(json!({"name": "the last"}));
    refused("a group that is gone makes room for one");
}

#[test]
fn friends_and_follows_of_one_user() {
    let (_data, server) = in_memory();
    let [ada, bob, cleo] = server.people(["ada", "bob", "cleo"]);
    let ids = many(&server, FRIENDS_MAX - 1);
    let query = |name: &str, ids: &[String]| {
        let ids: Vec<String> = ids.iter().map(|id| format!("{name}={id}")).collect();
        ids.join("&")
    };
    // Others can ask a user who has fewer than half as many.
    bob.relates("add", &ada);
    for ids in ids.chunks(IDS_AT_ONCE) {
        ada.done("POST", &format!("/v2/friend?{}", query("ids", ids)), Value::Null);
    }
    assert_eq!(ada.friends().len(), FRIENDS_MAX);
    let names = |people: &[&Person]| people.iter().map(|person| person.id().to_string()).collect::<Vec<_>>();
    assert_refused(&server, "one more", &ada.relate("add", &cleo), 400, 3);
    assert_refused(&server, "one more who asks", &cleo.relate("add", &ada), 400, 3);
    assert_eq!((ada.friends().len(), cleo.friends().len()), (FRIENDS_MAX, 0));
    // If a call names several users, it succeeds for those within their limit.
    let dora = server.person("dora");
    let both = format!("/v2/friend?{}", query("ids", &names(&[&ada, &dora])));
    assert_refused(&server, "one of two", &cleo.ask("POST", &both, &Value::Null), 400, 3);
    assert_eq!(cleo.friends().keys().collect::<Vec<_>>(), [dora.id()]);

    ada.relates("block", &cleo);
    assert_eq!(ada.friends().len(), FRIENDS_MAX + 1, "blocks are not counted");
    ada.relates("add", &bob);
    assert_eq!(ada.friends().get(bob.id()), Some(&0), "to accept makes it no more");
    ada.done("DELETE", &format!("/v2/friend?ids={}", ids[0]), Value::Null);
    ada.relates("add", &dora);
    assert_refused(&server, "full again", &ada.relate("add", &server.person("eve")), 400, 3);

    let mut socket = ada.connect();
    let follow = |socket: &mut Socket, ids: &[String]| socket.request(json!({"status_follow": {"user_ids": ids}}));
    let (followed, rest) = ids.split_at(FOLLOWS_MAX);
    for ids in followed.chunks(64) {
        assert!(follow(&mut socket, ids)["status"].is_object());
    }
    let answer = follow(&mut socket, &rest[..1]);
    assert_eq!(answer["error"]["code"], 3, "{answer}");
    socket.request(json!({"status_unfollow": {"user_ids": [followed[0]]}}));
    assert!(follow(&mut socket, &rest[..1])["status"].is_object());
    socket.assert_open();
}

#[test]
fn notifications_of_one_user() {
    const MORE: usize = 5;
    let (_data, server) = in_memory();
    let [ada, bob, cleo] = server.people(["ada", "bob", "cleo"]);
    for _ in 0..(NOTIFICATIONS_MAX + MORE).div_ceil(2) {
        // She is told of his request and of the end of their friendship each time, because she has accepted.
        bob.relates("add", &ada);
        ada.relates("add", &bob);
        bob.relates("delete", &ada);
    }
    let first = text(&ada.notifications()[0]["id"]);
    let all = ada.notifications();
    assert_eq!(all.len(), NOTIFICATIONS_MAX, "the oldest have made room");
    bob.relates("add", &ada);
    assert_eq!(ada.notifications(), all, "he is no friend, and has had his share of today");
    cleo.relates("add", &ada);
    let now = ada.notifications();
    assert_eq!((now.len(), &now[0]["id"]), (NOTIFICATIONS_MAX, &all[1]["id"]));
    assert_eq!(now.last().map(|last| &last["code"]), Some(&json!(-2)));
    assert!(now.iter().all(|notification| notification["id"] != first));
}
