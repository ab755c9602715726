//! Groups made, changed, deleted and looked for.

use uuid::Uuid;

use super::*;

pub fn create(world: &World, token: &str, body: Value) -> Heard {
    world.ask("POST /v2/group", As::User(token), body.to_string())
}

/// A new group of this user's; its id.
pub fn group(world: &World, creator: &Session, body: Value) -> String {
    let heard = create(world, &creator.token, body);
    assert_eq!(heard.status, 200, "{}", heard.text);
    heard.json()["id"].as_str().unwrap().to_owned()
}

fn names(page: &Value) -> Vec<&str> {
    page["groups"].as_array().into_iter().flatten().map(|group| group["name"].as_str().unwrap()).collect()
}

#[test]
fn a_group_is_written_exactly_so() {
    let world = World::new();
    let alice = world.sign_in("alice");
    let heard = create(&world, &alice.token, json!({ "name": "closed one" }));
    let id = heard.json()["id"].as_str().unwrap().to_owned();
    assert!(parse_uuid(&id).is_some(), "{id}");
    let expected = |rest: &str| format!(r#"{{"id":"{id}","creator_id":"{}",{rest}}}"#, alice.user);
    let times = r#""create_time":"1970-01-12T13:46:40Z","update_time":"1970-01-12T13:46:40Z""#;
    let plain = expected(&format!(
        r#""name":"closed one","lang_tag":"en","metadata":"{{}}","open":false,"edge_count":1,"max_count":100,{times}"#
    ));
    assert_eq!(heard.text, plain);
    assert_eq!(
        world.ask("GET /v2/group?limit=100", As::User(&alice.token), "").text,
        format!(r#"{{"groups":[{plain}]}}"#)
    );

    let all = json!({
        "name": "open one", "description": "d", "langTag": "de", "avatarUrl": "http://a", "open": true,
        "maxCount": "7", "metadata": "{\"not\":\"settable\"}", "creator_id": "x",
    });
    let heard = create(&world, &alice.token, all);
    let id = heard.json()["id"].as_str().unwrap().to_owned();
    let expected = format!(
        r#"{{"id":"{id}","creator_id":"{}","name":"open one","description":"d","lang_tag":"de","metadata":"{{}}","avatar_url":"http://a","open":true,"edge_count":1,"max_count":7,{times}}}"#,
        alice.user
    );
    assert_eq!(heard.text, expected);
}

#[test]
fn what_a_group_may_be() {
    let world = World::new();
    let (alice, bob) = (world.sign_in("alice"), world.sign_in("bob"));
    group(&world, &bob, json!({ "name": "taken" }));
    let mut number = 0;
    let mut named = |more: Value| {
        number += 1;
        let mut body = json!({ "name": format!("name {number}") });
        body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        body
    };
    for (body, status, code) in [
        (json!({}), 400, 3),
        (json!({ "name": "" }), 400, 3),
        (json!({ "name": null }), 400, 3),
        (json!({ "name": 5 }), 400, 3),
        (json!({ "name": "x".repeat(255) }), 200, 0),
        (json!({ "name": "x".repeat(256) }), 400, 3),
        (json!({ "name": "a\u{0}b" }), 400, 3),
        (json!({ "name": "a\nb" }), 400, 3),
        (json!({ "name": "a\u{7f}b" }), 400, 3),
        (json!({ "name": "taken" }), 409, 6),
        (json!({ "name": "Taken" }), 200, 0),
        (named(json!({ "description": "x".repeat(255) })), 200, 0),
        (named(json!({ "description": "x".repeat(256) })), 400, 3),
        (named(json!({ "avatar_url": "x".repeat(512) })), 200, 0),
        (named(json!({ "avatar_url": "x".repeat(513) })), 400, 3),
        (named(json!({ "lang_tag": "x".repeat(18) })), 200, 0),
        (named(json!({ "lang_tag": "x".repeat(19) })), 400, 3),
        (named(json!({ "lang_tag": "" })), 200, 0),
        (named(json!({ "max_count": 0 })), 200, 0),
        (named(json!({ "max_count": 1.0 })), 200, 0),
        (named(json!({ "max_count": -1 })), 400, 3),
        (named(json!({ "max_count": 1.5 })), 400, 3),
        (named(json!({ "max_count": 2_147_483_648_u32 })), 400, 3),
        (named(json!({ "max_count": "many" })), 400, 3),
        (named(json!({ "open": "true" })), 400, 3),
        (named(json!({ "open": true, "unknown": {} })), 200, 0),
    ] {
        let heard = create(&world, &alice.token, body.clone());
        match status {
            200 => assert_eq!(heard.status, 200, "{body}: {}", heard.text),
            _ => heard.expect_refusal(status, code, &body.to_string()),
        }
    }
    create(&world, "nonsense", json!({ "name": "nobody's" })).expect_refusal(401, 16, "nobody");
}

#[test]
fn admins_change_it() {
    let world = World::new();
    let (alice, bob) = (world.sign_in("alice"), world.sign_in("bob"));
    let id = group(&world, &alice, json!({ "name": "one", "description": "d", "open": true }));
    group(&world, &alice, json!({ "name": "other" }));
    let change = |who: &Session, id: &str, body: Value| {
        world.ask(&format!("PUT /v2/group/{id}"), As::User(&who.token), body.to_string())
    };
    let shown = || world.ask("GET /v2/group?limit=100", As::User(&bob.token), "").json()["groups"].clone();
    world.pass(5);
    for (body, member, expected) in [
        (json!({ "name": "first" }), "name", json!("first")),
        (json!({ "name": "first" }), "name", json!("first")),
        (json!({ "description": "new", "maxCount": 5 }), "description", json!("new")),
        (json!({ "description": "two\nlines" }), "description", json!("two\nlines")),
        (json!({ "description": "" }), "description", Value::Null),
        (json!({ "avatarUrl": "http://a" }), "avatar_url", json!("http://a")),
        (json!({ "avatar_url": "" }), "avatar_url", Value::Null),
        (json!({ "langTag": "de" }), "lang_tag", json!("de")),
        (json!({ "open": false }), "open", json!(false)),
    ] {
        let heard = change(&alice, &id.to_uppercase(), body.clone());
        assert_eq!((heard.status, heard.text.as_str()), (200, "{}"), "{body}");
        assert_eq!(shown()[0][member], expected, "{body}");
    }
    assert_eq!(shown()[0]["max_count"], 100);
    assert_eq!(shown()[0]["update_time"], "1970-01-12T13:46:45Z");
    assert_eq!(shown()[0]["create_time"], "1970-01-12T13:46:40Z");
    let before = shown();
    let unknown = Uuid::from_u128(7).to_string();
    for (who, id, body, status, code) in [
        (&alice, id.as_str(), json!({}), 400, 3),
        (&alice, &id, json!({ "name": null, "max_count": 7 }), 400, 3),
        (&alice, &id, json!({ "name": "" }), 400, 3),
        (&alice, &id, json!({ "name": "a\u{0}" }), 400, 3),
        (&alice, &id, json!({ "lang_tag": "" }), 400, 3),
        (&alice, &id, json!({ "name": "other" }), 400, 3),
        (&alice, &id, json!({ "description": "x".repeat(256) }), 400, 3),
        (&alice, &id, json!({ "description": "a\u{8}" }), 400, 3),
        (&alice, "nonsense", json!({ "name": "x" }), 400, 3),
        (&alice, "", json!({ "name": "x" }), 400, 3),
        (&alice, "%ff", json!({ "name": "x" }), 400, 3),
        (&alice, &unknown, json!({ "name": "x" }), 404, 5),
        (&bob, &id, json!({ "name": "x" }), 404, 5),
        (&bob, &id, json!({ "name": "other" }), 404, 5),
        (&bob, &id, json!({}), 404, 5),
        (&bob, &id, json!({ "name": "x".repeat(300) }), 404, 5),
        (&alice, &unknown, json!({}), 404, 5),
    ] {
        change(who, id, body.clone()).expect_refusal(status, code, &format!("{id} {body}"));
    }
    assert_eq!(shown(), before);
}

#[test]
fn superadmins_delete_it() {
    let world = World::new();
    let (alice, bob) = (world.sign_in("alice"), world.sign_in("bob"));
    let id = group(&world, &alice, json!({ "name": "one" }));
    let delete = |who: &Session, id: &str| world.ask(&format!("DELETE /v2/group/{id}"), As::User(&who.token), "");
    for (who, id) in [(&bob, id.as_str()), (&alice, "nonsense"), (&alice, &Uuid::from_u128(7).to_string())] {
        delete(who, id).expect_refusal(400, 3, id);
    }
    let heard = delete(&alice, &id);
    assert_eq!((heard.status, heard.text.as_str()), (200, "{}"));
    delete(&alice, &id).expect_refusal(400, 3, "gone");
    assert_eq!(world.ask("GET /v2/group", As::User(&bob.token), "").text, "{}");
    group(&world, &bob, json!({ "name": "one" }));
}

#[test]
fn looked_for_by_filter() {
    let world = World::new();
    let (alice, bob) = (world.sign_in("alice"), world.sign_in("bob"));
    group(&world, &alice, json!({ "name": "Zebra", "open": true }));
    group(&world, &alice, json!({ "name": "apple pie", "lang_tag": "de" }));
    group(&world, &alice, json!({ "name": "Apple tart", "lang_tag": "de", "open": true }));
    let full = group(&world, &alice, json!({ "name": "banana", "open": true }));
    assert_eq!(world.ask(&format!("POST /v2/group/{full}/join"), As::User(&bob.token), "").status, 200);
    let get = |query: &str| world.ask(&format!("GET /v2/group?{query}"), As::User(&bob.token), "");
    for (query, expected) in [
        ("", &["apple pie"][..]),
        ("limit=100", &["apple pie", "Apple tart", "banana", "Zebra"]),
        ("limit=100&name=APPLE%25", &["apple pie", "Apple tart"]),
        ("limit=100&name=%25+%25apple%25", &["apple pie", "Apple tart"]),
        ("limit=100&name=apple", &[]),
        ("limit=100&name=a%25t", &["Apple tart"]),
        ("limit=100&name=%25", &["apple pie", "Apple tart", "banana", "Zebra"]),
        ("limit=100&name=&langTag=de", &["apple pie", "Apple tart"]),
        ("limit=100&lang_tag=de&open=true", &["Apple tart"]),
        ("limit=100&open=false", &["apple pie"]),
        ("limit=100&members=1&open=true", &["Apple tart", "Zebra"]),
        ("limit=100&members=0", &[]),
    ] {
        let page = get(query).json();
        assert_eq!(names(&page), expected, "{query}");
    }
    for query in [
        "limit=0",
        "limit=101",
        "limit=",
        "name=a&open=true",
        "name=a&lang_tag=de",
        "name=a&members=5",
        "name=a&name=b",
        "open=maybe",
        "open=",
        "members=-1",
        "members=few",
        "cursor=nonsense",
    ] {
        get(query).expect_refusal(400, 3, query);
    }
}

#[test]
fn a_name_that_begins_with_a_blank_beyond_ascii_is_found() {
    let world = World::new();
    let alice = world.sign_in("alice");
    for (name, written) in [("\u{a0}first", "%C2%A0first"), ("\u{85}second", "%C2%85second")] {
        group(&world, &alice, json!({ "name": name }));
        let found = world.ask(&format!("GET /v2/group?limit=100&name={written}"), As::User(&alice.token), "").json();
        assert_eq!(names(&found), [name]);
    }
}

#[test]
fn pages_of_every_limit_show_every_group_once() {
    let world = World::new();
    let alice = world.sign_in("alice");
    let all: Vec<String> = (100..125).map(|number| format!("group {number}")).collect();
    for (index, name) in all.iter().enumerate() {
        group(&world, &alice, json!({ "name": name, "open": index % 2 == 0 }));
    }
    let get = |query: &str| world.ask(&format!("GET /v2/group?{query}"), As::User(&alice.token), "");
    for (limit, filter, step, pages) in
        [(1, "", 1, 25), (4, "", 1, 7), (5, "", 1, 5), (25, "", 1, 1), (5, "open=true", 2, 3), (13, "open=true", 2, 1)]
    {
        let (mut seen, mut read, mut on) = (Vec::new(), 0, String::new());
        loop {
            let page = get(&format!("limit={limit}&{filter}&cursor={on}")).json();
            seen.extend(names(&page).into_iter().map(str::to_owned));
            read += 1;
            match page["cursor"].as_str() {
                Some(cursor) => on = cursor.to_owned(),
                None => break,
            }
        }
        let expected: Vec<_> = all.iter().step_by(step).cloned().collect();
        assert_eq!((seen, read), (expected, pages), "{limit} {filter}");
    }
    let cursor = get("limit=5").json()["cursor"].as_str().unwrap().to_owned();
    assert_eq!(get(&format!("limit=9&cursor={cursor}")).status, 200, "another limit is the same listing");
    for query in ["open=true", "open=false", "lang_tag=en", "members=9", "name=group%25"] {
        get(&format!("{query}&cursor={cursor}")).expect_refusal(400, 3, query);
    }
    get(&format!("cursor={cursor}A")).expect_refusal(400, 3, "made up");
}
