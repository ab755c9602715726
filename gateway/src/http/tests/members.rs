//! Members of groups: which user may do what to whom, what the answers are, and which users are listed.

use engine::id::GroupId;
use engine::query::Undone;
use engine::social::group::GroupRefusal;
use storage::PageStart;
use uuid::Uuid;

use super::groups::group;
use super::*;

/// Sends one request about a group's members. `users` are the users concerned.
fn act(world: &World, who: &Session, id: &str, act: &str, users: &[&Session]) -> Heard {
    let query: Vec<String> = users.iter().map(|user| format!("user_ids={}&", user.user)).collect();
    world.ask(&format!("POST /v2/group/{id}/{act}?{}", query.concat()), As::User(&who.token), "")
}

/// Sends a request about a group's members that must succeed.
fn done(world: &World, who: &Session, id: &str, what: &str, users: &[&Session]) {
    let heard = act(world, who, id, what, users);
    assert_eq!((heard.status, heard.text.as_str()), (200, "{}"), "{what}");
}

fn members(world: &World, token: &str, target: &str) -> Vec<(String, i64)> {
    let page = world.ask(&format!("GET /v2/group/{target}"), As::User(token), "");
    assert_eq!(page.status, 200, "{target}: {}", page.text);
    let member = |item: &Value| {
        (item["user"]["username"].as_str().unwrap().to_owned(), item["state"].as_i64().expect("always written"))
    };
    page.json()["group_users"].as_array().into_iter().flatten().map(member).collect()
}

fn owned(list: &[(&str, i64)]) -> Vec<(String, i64)> {
    list.iter().map(|(name, state)| ((*name).to_owned(), *state)).collect()
}

fn codes_in_history(world: &World, id: &str) -> Vec<(String, i32)> {
    let channel = ChannelId::group(GroupId(parse_uuid(id).unwrap()));
    let messages = world.store.messages(&channel, PageStart::Oldest, 100).unwrap();
    messages.iter().map(|message| (message.username.to_string(), message.code as i32)).collect()
}

#[test]
fn people_come_and_go() {
    let world = World::new();
    let [alice, bob, carol, dave] = ["alice", "bob", "carol", "dave"].map(|name| world.sign_in(name));
    let id = group(&world, &alice, json!({ "name": "one", "open": true }));
    let shown = || members(&world, &dave.token, &format!("{id}/user"));
    world.pass(1);
    done(&world, &bob, &id, "join", &[]);
    done(&world, &bob, &id.to_uppercase(), "join", &[]);
    world.pass(1);
    done(&world, &alice, &id, "add", &[&carol, &bob, &carol]);
    assert_eq!(shown(), owned(&[("alice", 0), ("bob", 2), ("carol", 2)]));
    done(&world, &alice, &id, "promote", &[&carol]);
    assert_eq!(shown(), owned(&[("alice", 0), ("carol", 1), ("bob", 2)]));
    done(&world, &alice, &id, "demote", &[&carol]);
    done(&world, &alice, &id, "add", &[&bob]);
    done(&world, &alice, &id, "ban", &[&bob]);
    assert_eq!(shown(), owned(&[("alice", 0), ("carol", 2)]), "the banned are not listed unless they are asked for");
    assert_eq!(members(&world, &dave.token, &format!("{id}/user?state=4")), owned(&[("bob", 4)]));
    done(&world, &bob, &id, "join", &[]);
    done(&world, &alice, &id, "kick", &[&bob, &carol, &dave]);
    assert_eq!(members(&world, &dave.token, &format!("{id}/user?state=4")), []);
    done(&world, &dave, &id, "leave", &[]);
    act(&world, &alice, &id, "join", &[]);
    done(&world, &dave, &id, "join", &[]);
    act(&world, &alice, &id, "leave", &[]).expect_refusal(400, 3, "the last superadmin");
    done(&world, &dave, &id, "leave", &[]);
    let told =
        [("bob", 3), ("carol", 4), ("carol", 7), ("carol", 9), ("bob", 8), ("carol", 6), ("dave", 3), ("dave", 5)];
    assert_eq!(codes_in_history(&world, &id), told.map(|(name, code)| (name.to_owned(), code)));
    done(&world, &alice, &id, "leave", &[]);
    assert_eq!(shown(), [], "the group has gone with its last member");
    act(&world, &dave, &id, "join", &[]).expect_refusal(404, 5, "gone");
}

#[test]
fn a_closed_group_is_asked_first() {
    let world = World::new();
    let [alice, bob, carol] = ["alice", "bob", "carol"].map(|name| world.sign_in(name));
    let id = group(&world, &alice, json!({ "name": "one" }));
    done(&world, &bob, &id, "join", &[]);
    world.pass(1);
    done(&world, &carol, &id, "join", &[]);
    assert_eq!(members(&world, &bob.token, &format!("{id}/user?state=3")), owned(&[("bob", 3), ("carol", 3)]));
    done(&world, &carol, &id, "leave", &[]);
    done(&world, &alice, &id, "add", &[&bob]);
    assert_eq!(members(&world, &bob.token, &format!("{id}/user")), owned(&[("alice", 0), ("bob", 2)]));
    assert_eq!(codes_in_history(&world, &id), [("bob".to_owned(), 4)]);
}

#[test]
fn refusals() {
    let world = World::new();
    let [alice, bob, carol] = ["alice", "bob", "carol"].map(|name| world.sign_in(name));
    let open = group(&world, &alice, json!({ "name": "open", "open": true, "max_count": 2 }));
    done(&world, &bob, &open, "join", &[]);
    let stranger = Session { user: UserId(Uuid::from_u128(7)), ..world.sign_in("carol") };
    let unknown = Uuid::from_u128(8).to_string();
    let nobody: &[&Session] = &[];
    for (who, id, what, users, status, code) in [
        (&carol, open.as_str(), "join", nobody, 400, 3),
        (&bob, &open, "join", nobody, 400, 3),
        (&carol, &unknown, "join", nobody, 404, 5),
        (&alice, &open, "leave", nobody, 400, 3),
        (&alice, &open, "add", &[&carol], 400, 3),
        (&alice, &open, "add", &[&stranger], 400, 3),
        (&alice, &open, "demote", nobody, 400, 3),
        (&bob, &open, "add", &[&carol], 404, 5),
        (&bob, &open, "kick", &[&alice], 404, 5),
        (&bob, &open, "ban", &[&alice], 404, 5),
        (&bob, &open, "promote", &[&bob], 404, 5),
        (&bob, &open, "demote", &[&alice], 404, 5),
        (&carol, &open, "kick", &[&bob], 404, 5),
        (&alice, &unknown, "kick", &[&bob], 404, 5),
        (&alice, "nonsense", "join", nobody, 400, 3),
        (&alice, "", "leave", nobody, 400, 3),
        (&alice, "%ff", "kick", nobody, 400, 3),
        (&alice, "nonsense", "kick", &[&bob], 400, 3),
    ] {
        act(&world, who, id, what, users).expect_refusal(status, code, &format!("{what} {id}"));
    }
    let nil = format!("user_ids={}", Uuid::nil());
    for query in ["user_ids=", "user_ids=nonsense", &nil, &format!("userIds={}&user_ids=x", bob.user)] {
        for what in ["add", "kick", "ban", "promote", "demote"] {
            let target = format!("POST /v2/group/{open}/{what}?{query}");
            world.ask(&target, As::User(&alice.token), "").expect_refusal(400, 3, &target);
        }
    }
    // If no user is named, there is nothing to do, and every caller gets the same answer; the body is ignored.
    for what in ["add", "kick", "ban", "promote"] {
        let target = format!("POST /v2/group/{open}/{what}?");
        let heard = world.ask(&target, As::User(&carol.token), format!(r#"{{"user_ids":["{}"]}}"#, bob.user));
        assert_eq!((heard.status, heard.text.as_str()), (200, "{}"), "{what}");
    }
    for what in ["join", "leave", "add", "kick", "ban", "promote", "demote"] {
        let target = format!("/v2/group/{open}/{what}?user_ids={}", bob.user);
        world.ask(&format!("POST {target}"), As::Nobody, "").expect_refusal(401, 16, what);
        world.ask(&format!("GET {target}"), As::User(&alice.token), "").expect_refusal(501, 12, what);
    }
    assert_eq!(members(&world, &bob.token, &format!("{open}/user")), owned(&[("alice", 0), ("bob", 2)]));
}

#[test]
fn every_refusal_of_an_owner_has_its_code() {
    let world = World::new();
    let alice = world.sign_in("alice");
    // The owner is asked only if the caller's own role does not decide.
    let id = group(&world, &alice, json!({ "name": "one" }));
    for (refusal, join, delete) in [
        (None, (503, 14), (503, 14)),
        (Some(GroupRefusal::NotFound), (404, 5), (400, 3)),
        (Some(GroupRefusal::NotSuperadmin), (400, 3), (400, 3)),
        (Some(GroupRefusal::Full), (400, 3), (400, 3)),
        (Some(GroupRefusal::LastSuperadmin), (400, 3), (400, 3)),
        (Some(GroupRefusal::UnknownUser), (400, 3), (400, 3)),
        (Some(GroupRefusal::TooManyGroups), (400, 3), (400, 3)),
    ] {
        let changed = refusal.map_or(Err(Undone::NothingDone), |refusal| Ok(Err(refusal)));
        world.own(move |_, _| QueryAnswer::GroupChanged(changed));
        let context = format!("{refusal:?}");
        act(&world, &alice, &id, "join", &[]).expect_refusal(join.0, join.1, &context);
        let heard = world.ask(&format!("DELETE /v2/group/{id}"), As::User(&alice.token), "");
        heard.expect_refusal(delete.0, delete.1, &context);
    }
}

#[test]
fn lists_are_written_exactly_so() {
    let world = World::new();
    let (alice, bob) = (world.sign_in("alice"), world.sign_in("bob"));
    let id = group(&world, &alice, json!({ "name": "one" }));
    let user = |more: &str| {
        format!(
            r#"{{"id":"{}","username":"alice","lang_tag":"en","metadata":"{{}}",{more}"create_time":"1970-01-12T13:46:40Z","update_time":"1970-01-12T13:46:40Z"}}"#,
            alice.user
        )
    };
    let get = |target: &str| world.ask(&format!("GET /v2/{target}"), As::User(&bob.token), "").text;
    let expected = |more: &str| format!(r#"{{"group_users":[{{"user":{},"state":0}}]}}"#, user(more));
    assert_eq!(get(&format!("group/{id}/user?limit=100&")), expected(""));
    world.show(alice.user);
    assert_eq!(get(&format!("group/{id}/user")), expected(r#""online":true,"#));
    for (who, other) in [(&alice, &bob), (&bob, &alice)] {
        world.ask(&format!("POST /v2/friend?ids={}", other.user), As::User(&who.token), "");
    }
    assert_eq!(get(&format!("group/{id}/user")), expected(r#""online":true,"edge_count":1,"#));
    let expected = format!(
        r#"{{"user_groups":[{{"group":{{"id":"{id}","creator_id":"{}","name":"one","lang_tag":"en","metadata":"{{}}","open":false,"edge_count":1,"max_count":100,"create_time":"1970-01-12T13:46:40Z","update_time":"1970-01-12T13:46:40Z"}},"state":0}}]}}"#,
        alice.user
    );
    assert_eq!(get(&format!("user/{}/group", alice.user)), expected);
    assert_eq!(get(&format!("user/{}/group", bob.user)), "{}");
    // Whom a group has banned its own list tells, and that of the user tells it to the user alone.
    done(&world, &alice, &id, "add", &[&bob]);
    done(&world, &alice, &id, "ban", &[&bob]);
    assert!(get(&format!("group/{id}/user?state=4")).contains("\"state\":4"));
    assert!(get(&format!("user/{}/group?state=4", bob.user)).contains("\"state\":4"));
    let of_other = world.ask(&format!("GET /v2/user/{}/group?state=4", bob.user), As::User(&alice.token), "");
    assert_eq!(of_other.text, "{}");
    assert_eq!(get(&format!("user/{}/group", Uuid::from_u128(7))), "{}");
    assert_eq!(get(&format!("group/{}/user", Uuid::from_u128(7))), "{}");
}

/// The items of all pages, and how many pages there were.
fn pages(get: impl Fn(&str) -> Value, items: &str, name: impl Fn(&Value) -> String) -> (Vec<String>, usize) {
    let (mut seen, mut read, mut on) = (Vec::new(), 0, String::new());
    loop {
        let page = get(&on);
        seen.extend(page[items].as_array().into_iter().flatten().map(&name));
        read += 1;
        match page["cursor"].as_str() {
            Some(cursor) => on = cursor.to_owned(),
            None => return (seen, read),
        }
    }
}

#[test]
fn pages_of_every_limit_show_everybody_once() {
    let world = World::new();
    let alice = world.sign_in("alice");
    let id = group(&world, &alice, json!({ "name": "one", "open": true }));
    let mut expected = vec!["alice".to_owned()];
    for number in 10..22 {
        let member = world.sign_in(&format!("member-{number}"));
        world.pass(1);
        done(&world, &member, &id, "join", &[]);
        expected.push(format!("member-{number}"));
    }
    let ask = |target: &str| world.ask(&format!("GET /v2/{target}"), As::User(&world.sign_in("asker").token), "");
    let get = |target: &str| ask(target).json();
    for (limit, read) in [(1, 13), (5, 3), (12, 2), (13, 1), (100, 1)] {
        let page = |cursor: &str| get(&format!("group/{id}/user?limit={limit}&cursor={cursor}"));
        let name = |item: &Value| item["user"]["username"].as_str().unwrap().to_owned();
        assert_eq!(pages(page, "group_users", name), (expected.clone(), read), "{limit}");
    }
    let of_state = |cursor: &str| get(&format!("group/{id}/user?state=2&limit=6&cursor={cursor}"));
    let name = |item: &Value| item["user"]["username"].as_str().unwrap().to_owned();
    assert_eq!(pages(of_state, "group_users", name), (expected[1..].to_vec(), 2));

    let mut names = vec!["one".to_owned()];
    for number in 10..15 {
        world.pass(1);
        group(&world, &alice, json!({ "name": format!("group {number}") }));
        names.push(format!("group {number}"));
    }
    for (limit, read) in [(1, 6), (5, 2), (6, 1), (100, 1)] {
        let page = |cursor: &str| get(&format!("user/{}/group?limit={limit}&cursor={cursor}", alice.user));
        let name = |item: &Value| item["group"]["name"].as_str().unwrap().to_owned();
        assert_eq!(pages(page, "user_groups", name), (names.clone(), read), "{limit}");
    }

    let cursor = |target: &str| get(target)["cursor"].as_str().unwrap().to_owned();
    let of_group = cursor(&format!("group/{id}/user?limit=1"));
    let of_user = cursor(&format!("user/{}/group?limit=1", alice.user));
    let other = Uuid::from_u128(7);
    for target in [
        format!("group/{id}/user?cursor=nonsense"),
        format!("group/{id}/user?cursor={of_group}A"),
        format!("group/{id}/user?cursor={of_group}&cursor={of_group}"),
        format!("group/{id}/user?state=2&cursor={of_group}"),
        format!("group/{id}/user?cursor={of_user}"),
        format!("group/{other}/user?cursor={of_group}"),
        format!("group/{id}/user?limit=0"),
        format!("group/{id}/user?limit=101"),
        format!("group/{id}/user?state=5"),
        format!("group/{id}/user?state=-1"),
        format!("group/{id}/user?state="),
        "group/nonsense/user".to_owned(),
        format!("user/{other}/group?cursor={of_user}"),
        format!("user/{}/group?state=0&cursor={of_user}", alice.user),
        format!("user/{}/group?limit=101", alice.user),
        format!("user/{}/group?state=5", alice.user),
        "user/nonsense/group".to_owned(),
        "user//group".to_owned(),
    ] {
        ask(&target).expect_refusal(400, 3, &target);
    }
    world.ask(&format!("GET /v2/group/{id}/user"), As::Nobody, "").expect_refusal(401, 16, "nobody");
    world.ask(&format!("GET /v2/user/{}/group", alice.user), As::Nobody, "").expect_refusal(401, 16, "nobody");
}

#[test]
fn history_and_presence_are_for_members() {
    let world = World::new();
    let [alice, bob, carol, dave] = ["alice", "bob", "carol", "dave"].map(|name| world.sign_in(name));
    let id = group(&world, &alice, json!({ "name": "one" }));
    done(&world, &alice, &id, "add", &[&bob]);
    done(&world, &carol, &id, "join", &[]);
    done(&world, &alice, &id, "ban", &[&carol]);
    let ask =
        |who: &Session, rest: &str| world.ask(&format!("GET /v2/channel/3.{id}..{rest}"), As::User(&who.token), "");
    for who in [&alice, &bob] {
        let page = ask(who, "?limit=100").json();
        let message = &page["messages"][0];
        assert_eq!((&message["code"], &message["group_id"]), (&json!(4), &json!(id)), "{page}");
        assert_eq!((&message["sender_id"], &message["username"]), (&json!(bob.user), &json!("bob")));
        assert_eq!(ask(who, "/presence").text, "{}");
        assert_eq!(ask(who, "?forward=false").status, 200);
    }
    for who in [&carol, &dave] {
        for rest in ["", "?limit=100&forward=false", "/presence"] {
            ask(who, rest).expect_refusal(400, 3, rest);
        }
    }
    done(&world, &alice, &id, "kick", &[&bob]);
    ask(&bob, "").expect_refusal(400, 3, "kicked");
}
