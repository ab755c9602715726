//! Storage objects written, read, listed and deleted.

use storage::object::{OBJECT_VALUE_BYTES_MAX, OBJECTS_PART_BYTES_MAX};

use super::*;

fn ask(world: &World, who: &Session, target: &str, body: &Value) -> Heard {
    world.ask(target, As::User(&who.token), body.to_string())
}

fn write(world: &World, who: &Session, objects: Value) -> Heard {
    ask(world, who, "PUT /v2/storage", &json!({ "objects": objects }))
}

/// Writes objects with these keys, permissions to read and values.
fn put(world: &World, who: &Session, collection: &str, objects: &[(&str, u8, &str)]) {
    let object = |(key, read, value): &(&str, u8, &str)| json!({"collection": collection, "key": key, "value": value, "permission_read": read});
    let heard = write(world, who, objects.iter().map(object).collect());
    assert_eq!(heard.status, 200, "{}", heard.text);
}

fn list(world: &World, who: &Session, rest: &str) -> Heard {
    world.ask(&format!("GET /v2/storage/{rest}"), As::User(&who.token), "")
}

/// The keys on a page, and its cursor.
fn keys(heard: &Heard) -> (String, Option<String>) {
    assert_eq!(heard.status, 200, "{}", heard.text);
    let page = heard.json();
    let keys =
        page["objects"].as_array().into_iter().flatten().map(|object| object["key"].as_str().unwrap().to_owned());
    (keys.collect::<Vec<_>>().join(" "), page["cursor"].as_str().map(str::to_owned))
}

/// The keys of the objects that are read under these names.
fn read(world: &World, who: &Session, ids: &[(&str, &str, UserId)]) -> String {
    let id = |(collection, key, owner): &(&str, &str, UserId)| json!({"collection": collection, "key": key, "user_id": owner.to_string()});
    let ids: Vec<_> = ids.iter().map(id).collect();
    keys(&ask(world, who, "POST /v2/storage", &json!({ "object_ids": ids }))).0
}

/// The MD5 of `{"a":1}`.
const VERSION: &str = "bb6cb5c68df4652941caf652a366f2d8";

#[test]
fn answers_are_written_exactly_so() {
    let world = World::new();
    let alice = world.sign_in("alice");
    let heard = write(
        &world,
        &alice,
        json!([
            {"collection": "saves", "key": "k", "value": "{\"a\":1}"},
            {"collection": "b", "key": "é\n", "value": "{\"a\":1}", "permissionRead": 2, "permission_write": "0"},
        ]),
    );
    let user = alice.user;
    let ack = |collection: &str, key: &str| {
        format!(
            r#"{{"collection":"{collection}","key":"{key}","version":"{VERSION}","user_id":"{user}","create_time":"1970-01-12T13:46:40.575385013Z","update_time":"1970-01-12T13:46:40.575385013Z"}}"#
        )
    };
    assert_eq!(heard.text, format!(r#"{{"acks":[{},{}]}}"#, ack("saves", "k"), ack("b", r"é\n")));
    let object = |collection: &str, key: &str, permissions: &str| {
        let times = r#""create_time":"1970-01-12T13:46:40Z","update_time":"1970-01-12T13:46:40Z""#;
        format!(
            r#"{{"collection":"{collection}","key":"{key}","user_id":"{user}","value":"{{\"a\":1}}","version":"{VERSION}",{permissions},{times}}}"#
        )
    };
    let [saved, fixed] = [
        object("saves", "k", r#""permission_read":1,"permission_write":1"#),
        object("b", r"é\n", r#""permission_read":2"#),
    ];
    assert_eq!(list(&world, &alice, &format!("saves/{user}")).text, format!(r#"{{"objects":[{saved}]}}"#));
    let ids = json!({"objectIds": [
        {"collection": "b", "key": "é\n", "userId": user.to_string()},
        {"collection": "saves", "key": "k", "user_id": user.to_string().to_uppercase()},
        {"collection": "b", "key": "é\n", "user_id": user.to_string()},
        {"collection": "saves", "key": "k"},
        {"collection": "saves", "key": "none", "user_id": user.to_string()},
    ]});
    let heard = ask(&world, &alice, "POST /v2/storage", &ids);
    assert_eq!(heard.text, format!(r#"{{"objects":[{fixed},{saved}]}}"#), "in the order asked for, each once");
    for (target, body) in [
        ("PUT /v2/storage", "{}"),
        ("PUT /v2/storage", r#"{"objects":null}"#),
        ("POST /v2/storage", r#"{"object_ids":[]}"#),
        ("PUT /v2/storage/delete", ""),
        ("GET /v2/storage/none", ""),
        ("GET /v2/storage/", ""),
        ("GET /v2/storage/%00", ""),
    ] {
        let heard = world.ask(target, As::User(&alice.token), body);
        assert_eq!((heard.status, heard.text.as_str()), (200, "{}"), "{target} {body}");
    }
}

#[test]
fn a_version_is_a_condition() {
    let world = World::new();
    let alice = world.sign_in("alice");
    let put = |version: Value, value: &str| {
        let object = json!({"collection": "c", "key": "k", "value": value, "version": version});
        write(&world, &alice, json!([object]))
    };
    const STALE: &str = "Storage write rejected - version check failed.";
    for (version, value, done) in [
        (json!(VERSION), "{}", false),
        (json!("*"), "{\"a\":1}", true),
        (json!("*"), "{}", false),
        (json!("99914b932bd37a50b983c5e7c90ae93b"), "{}", false),
        (json!(VERSION), "{}", true),
        (json!("99914b932bd37a50b983c5e7c90ae93b"), "{\"a\":1}", true),
        (json!(""), "{}", true),
        (Value::Null, "{\"a\":1}", true),
    ] {
        let heard = put(version.clone(), value);
        if done {
            assert_eq!(heard.status, 200, "{version} {}", heard.text);
        } else {
            heard.expect_refusal(400, 3, STALE);
            assert_eq!(heard.json()["message"], STALE);
        }
    }
    let delete = |who: &Session, version: Option<&str>| {
        let id = json!({"collection": "c", "key": "k", "version": version});
        ask(&world, who, "PUT /v2/storage/delete", &json!({ "object_ids": [id] }))
    };
    const NOT_DELETED: &str = "Storage delete rejected - not found, version check failed, or permission denied.";
    for (who, version) in [(&alice, Some("99914b932bd37a50b983c5e7c90ae93b")), (&world.sign_in("bob"), None)] {
        let heard = delete(who, version);
        heard.expect_refusal(400, 3, NOT_DELETED);
        assert_eq!(heard.json()["message"], NOT_DELETED);
    }
    let heard = delete(&alice, Some(VERSION));
    assert_eq!((heard.status, heard.text.as_str()), (200, "{}"));
    delete(&alice, None).expect_refusal(400, 3, "it is gone");
}

#[test]
fn what_is_malformed_is_refused_in_the_words_of_the_protocol() {
    let world = World::new();
    let alice = world.sign_in("alice");
    const NAMES: &str = "Invalid collection or key value supplied. They must be set.";
    const VALUE: &str = "Value must be a JSON object.";
    let good = json!({"collection": "c", "key": "k", "value": "{}"});
    let with = |name: &str, value: Value| {
        let mut object = good.clone();
        object[name] = value;
        object
    };
    let long = "é".repeat(129);
    for (object, words) in [
        (with("collection", json!("")), NAMES),
        (with("key", Value::Null), NAMES),
        (with("value", json!("")), NAMES),
        (with("value", json!("[]")), VALUE),
        (with("value", json!("{")), VALUE),
        (with("value", json!("{} {}")), VALUE),
        (with("value", json!("{\"a\":\"\n\"}")), VALUE),
        (with("permission_read", json!(3)), "Invalid Read permission supplied. It must be either 0, 1 or 2."),
        (with("permission_read", json!(-1)), "Invalid Read permission supplied. It must be either 0, 1 or 2."),
        (with("permission_write", json!(2)), "Invalid Write permission supplied. It must be either 0 or 1."),
        (with("collection", json!(long)), "collection and key must be 1 to 128 characters without NUL"),
        (with("key", json!("a\u{0}")), "collection and key must be 1 to 128 characters without NUL"),
        (
            with("value", json!(format!("{{\"a\":\"{}\"}}", "x".repeat(OBJECT_VALUE_BYTES_MAX)))),
            "a value has at most 65536 bytes",
        ),
    ] {
        let heard = write(&world, &alice, json!([good, object]));
        heard.expect_refusal(400, 3, words);
        assert_eq!(heard.json()["message"], words);
    }
    assert_eq!(keys(&list(&world, &alice, &format!("c/{}", alice.user))).0, "", "none is written");
    let fixed = with("permission_write", json!(0));
    assert_eq!(write(&world, &alice, json!([fixed])).status, 200);
    let heard = write(&world, &alice, json!([good]));
    assert_eq!(heard.json()["message"], "Storage write rejected - permission denied.");
    let many = vec![good.clone(); 101];
    write(&world, &alice, json!(many)).expect_refusal(400, 3, "too many");
    let id = |user: &str| json!({"object_ids": [{"collection": "c", "key": "k", "user_id": user}]});
    for user in ["x", "00000000-0000-0000-0000-000000000000"] {
        let heard = ask(&world, &alice, "POST /v2/storage", &id(user));
        assert_eq!(heard.json()["message"], "Invalid user ID - make sure user ID is a valid UUID.", "{user}");
    }
    for target in ["POST /v2/storage", "PUT /v2/storage/delete"] {
        for id in [json!({"collection": "c"}), json!({"key": "k"}), json!({})] {
            let heard = ask(&world, &alice, target, &json!({ "object_ids": [id] }));
            assert_eq!(heard.json()["message"], NAMES, "{target}");
        }
        let heard =
            ask(&world, &alice, target, &json!({ "object_ids": vec![json!({"collection": "c", "key": "k"}); 101] }));
        heard.expect_refusal(400, 3, target);
    }
    let user = alice.user;
    for (rest, words) in [
        ("c?limit=0", "Invalid limit - limit must be between 1 and 100."),
        ("c?limit=101", "Invalid limit - limit must be between 1 and 100."),
        ("c/x", "Invalid user ID - make sure user ID is a valid UUID."),
        ("c/%ff", "Invalid user ID - make sure user ID is a valid UUID."),
        ("c/%zz", "Invalid user ID - make sure user ID is a valid UUID."),
        ("%ff", "Invalid collection - the path is not percent-encoded UTF-8."),
        (&format!("%zz/{user}"), "Invalid collection - the path is not percent-encoded UTF-8."),
        ("c?user_id=x", "Invalid user ID - make sure user ID is a valid UUID."),
        ("c?cursor=x", "Malformed cursor was used."),
        (&format!("c/{user}?cursor=AAAA"), "Malformed cursor was used."),
    ] {
        let heard = list(&world, &alice, rest);
        heard.expect_refusal(400, 3, rest);
        assert_eq!(heard.json()["message"], words);
    }
    for body in [r#"{"objects":{}}"#, r#"{"objects":[1]}"#, r#"{"objects":[{"value":{}}]}"#, "[]"] {
        world.ask("PUT /v2/storage", As::User(&alice.token), body).expect_refusal(400, 3, body);
    }
    for target in ["DELETE /v2/storage", "PUT /v2/storage/saves", "POST /v2/storage/delete", "PUT /v2/storage/delete/x"]
    {
        world.ask(target, As::User(&alice.token), "").expect_refusal(501, 12, target);
    }
}

#[test]
fn each_reader_sees_what_it_may() {
    let world = World::new();
    let (alice, bob) = (world.sign_in("alice"), world.sign_in("bob"));
    put(&world, &alice, "c", &[("own", 1, "{}"), ("b", 2, "{}"), ("hidden", 0, "{}"), ("a", 2, "{}")]);
    put(&world, &bob, "c", &[("a", 2, "{}"), ("other", 1, "{}")]);
    let all: Vec<_> = ["own", "b", "hidden", "a"]
        .into_iter()
        .map(|key| ("c", key, alice.user))
        .chain([("c", "other", bob.user)])
        .collect();
    assert_eq!(read(&world, &alice, &all), "own b a");
    assert_eq!(read(&world, &bob, &all), "b a other");
    let of = |who: &Session, rest: &str| keys(&list(&world, who, &format!("c{rest}limit=100"))).0;
    assert_eq!(of(&alice, &format!("/{}?", alice.user)), "own a b", "by permission, then by key");
    assert_eq!(of(&bob, &format!("?user_id={}&", alice.user)), "a b");
    assert_eq!([of(&alice, "?"), of(&bob, "?")], ["a a b"; 2]);
    assert_eq!(of(&bob, "?userId=00000000-0000-0000-0000-000000000000&"), "", "the server has no objects of its own");
    // A collection may be called as the path of a deletion is.
    put(&world, &alice, "delete", &[("k", 2, "{}")]);
    assert_eq!(keys(&list(&world, &bob, "delete")).0, "k");
}

#[test]
fn pages_lead_on_and_cursors_are_of_one_list() {
    let world = World::new();
    let (alice, bob) = (world.sign_in("alice"), world.sign_in("bob"));
    for (who, read) in [(&alice, 1), (&alice, 2), (&bob, 2)] {
        let names: Vec<_> = (0..5).map(|number| format!("{read}-{number}")).collect();
        put(&world, who, "c", &names.iter().map(|name| (name.as_str(), read, "{}")).collect::<Vec<_>>());
    }
    let own = format!("c/{}?", alice.user);
    for (who, path, expected) in [
        (&alice, own.as_str(), "1-0 1-1 1-2 1-3 1-4 2-0 2-1 2-2 2-3 2-4"),
        (&bob, own.as_str(), "2-0 2-1 2-2 2-3 2-4"),
        (&bob, "c?", "2-0 2-0 2-1 2-1 2-2 2-2 2-3 2-3 2-4 2-4"),
    ] {
        for limit in [1, 3, 100] {
            let (mut seen, mut cursor) = (Vec::new(), String::new());
            loop {
                let (page, next) = keys(&list(&world, who, &format!("{path}limit={limit}&cursor={cursor}")));
                seen.push(page);
                match next {
                    Some(next) => cursor = next,
                    None => break,
                }
            }
            assert_eq!(seen.join(" "), expected, "{path} {limit}");
        }
    }
    assert_eq!(keys(&list(&world, &alice, &own)).0, "1-0", "one, if nothing is said");
    let (_, cursor) = keys(&list(&world, &alice, &format!("{own}limit=2")));
    let cursor = cursor.unwrap();
    for (who, rest) in [(&bob, own.as_str()), (&alice, "c?"), (&alice, &format!("d/{}?", alice.user))] {
        list(&world, who, &format!("{rest}cursor={cursor}")).expect_refusal(400, 3, rest);
    }
}

#[test]
fn large_values_make_short_pages_and_no_long_answers() {
    let world = World::new();
    let alice = world.sign_in("alice");
    let value = format!("{{\"a\":\"{}\"}}", "\\\"".repeat(30_000));
    let names: Vec<_> = (0..20).map(|number| format!("{number:02}")).collect();
    for name in &names {
        put(&world, &alice, "c", &[(name, 2, &value)]);
    }
    for path in [format!("c/{}?", alice.user), "c?".to_owned()] {
        let (mut seen, mut cursor, mut pages) = (Vec::new(), String::new(), 0);
        loop {
            let heard = list(&world, &alice, &format!("{path}limit=100&cursor={cursor}"));
            // A quote and a backslash have two bytes each in the text of an answer.
            assert!(heard.text.len() < 2 * (OBJECTS_PART_BYTES_MAX + OBJECT_VALUE_BYTES_MAX) + 4096);
            let (page, next) = keys(&heard);
            seen.push(page);
            pages += 1;
            match next {
                Some(next) => cursor = next,
                None => break,
            }
        }
        assert_eq!(seen.join(" "), names.join(" "));
        assert!((3..=4).contains(&pages), "{pages} pages");
    }
    let ids: Vec<_> = names.iter().map(|name| ("c", name.as_str(), alice.user)).collect();
    assert_eq!(read(&world, &alice, &ids[..8]), names[..8].join(" "));
    let all = json!(
        ids.iter()
            .map(|(collection, key, user)| json!({"collection": collection, "key": key, "user_id": user.to_string()}))
            .collect::<Vec<_>>()
    );
    let heard = ask(&world, &alice, "POST /v2/storage", &json!({ "object_ids": all }));
    heard.expect_refusal(400, 3, "too much at once");
    // A body that is larger than the longest value with its names.
    let heard = world.ask("PUT /v2/storage", As::User(&alice.token), format!("{{\"x\":\"{}\"}}", "x".repeat(1 << 18)));
    heard.expect_refusal(400, 3, "a body of more than 256 KiB");
}

#[test]
fn what_a_user_may_keep_is_bounded() {
    let world = World::new();
    let alice = world.sign_in("alice");
    let object = |key: &str, value: &str| json!({"collection": "c", "key": key, "value": value});
    for first in (0..1000).step_by(100) {
        let objects: Vec<_> = (first..first + 100).map(|number| object(&number.to_string(), "{}")).collect();
        assert_eq!(write(&world, &alice, json!(objects)).status, 200);
    }
    let heard = write(&world, &alice, json!([object("more", "{}")]));
    heard.expect_refusal(400, 3, "one too many");
    assert_eq!(heard.json()["message"], "a user has at most 1000 objects: delete some first");
    let ids: Vec<_> = (0..100).map(|number| json!({"collection": "c", "key": number.to_string()})).collect();
    assert_eq!(ask(&world, &alice, "PUT /v2/storage/delete", &json!({ "object_ids": ids })).status, 200);
    let large = format!("{{\"a\":\"{}\"}}", "x".repeat(65_000));
    let written = (0..99)
        .take_while(|number| write(&world, &alice, json!([object(&format!("large-{number}"), &large)])).status == 200);
    assert_eq!(written.count(), 64);
    let heard = write(&world, &alice, json!([object("one more", &large)]));
    assert_eq!(heard.json()["message"], "a user's objects have at most 4194304 bytes: delete some first");
}

#[test]
fn a_deleted_account_leaves_no_objects() {
    let world = World::new();
    let (alice, bob) = (world.sign_in("alice"), world.sign_in("bob"));
    put(&world, &alice, "c", &[("k", 2, "{}")]);
    put(&world, &bob, "c", &[("k", 2, "{}")]);
    assert_eq!(world.ask("DELETE /v2/account", As::User(&alice.token), "").status, 200);
    assert_eq!(read(&world, &bob, &[("c", "k", alice.user), ("c", "k", bob.user)]), "k");
    assert_eq!(keys(&list(&world, &bob, "c?limit=100")).0, "k");
    assert_eq!(keys(&list(&world, &bob, &format!("c/{}", alice.user))).0, "");
}
