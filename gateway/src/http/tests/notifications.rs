//! Notifications listed and deleted.

use uuid::Uuid;

use super::*;

fn ask(world: &World, who: &Session, method: &str, query: &str) -> Heard {
    world.ask(&format!("{method} /v2/notification?{query}"), As::User(&who.token), "")
}

/// The names of the users who asked to be a friend, on one page, and the page's cursor.
fn names(page: &Heard) -> (Vec<String>, String) {
    assert_eq!(page.status, 200, "{}", page.text);
    let page = page.json();
    let name = |item: &Value| {
        let content: Value = serde_json::from_str(item["content"].as_str().unwrap()).unwrap();
        content["username"].as_str().unwrap().to_owned()
    };
    let names = page["notifications"].as_array().into_iter().flatten().map(name).collect();
    (names, page["cacheable_cursor"].as_str().expect("always there").to_owned())
}

/// Sends a friend request to `to` from each of so many new users.
fn notify(world: &World, to: &Session, numbers: std::ops::Range<u32>) -> Vec<String> {
    let each = numbers.map(|number| {
        let (name, from) = (format!("user-{number}"), world.sign_in(&format!("user-{number}")));
        let target = format!("POST /v2/friend?ids={}", to.user);
        assert_eq!(world.ask(&target, As::User(&from.token), "").status, 200);
        name
    });
    each.collect()
}

#[test]
fn a_list_is_written_exactly_so() {
    let world = World::new();
    let (alice, bob) = (world.sign_in("alice"), world.sign_in("bob"));
    let empty = ask(&world, &bob, "GET", "");
    assert_eq!(empty.text, format!(r#"{{"cacheable_cursor":"{}"}}"#, names(&empty).1));
    assert_eq!(world.ask("POST /v2/friend?usernames=bob", As::User(&alice.token), "").status, 200);
    let page = ask(&world, &bob, "GET", "");
    let id = page.json()["notifications"][0]["id"].as_str().unwrap().to_owned();
    let expected = format!(
        r#"{{"notifications":[{{"id":"{id}","subject":"alice wants to add you as a friend","content":"{{\"username\":\"alice\"}}","code":-2,"sender_id":"{}","create_time":"1970-01-12T13:46:40Z","persistent":true}}],"cacheable_cursor":"{}"}}"#,
        alice.user,
        names(&page).1
    );
    assert_eq!(page.text, expected);
}

#[test]
fn the_cursor_leads_on_for_ever() {
    let world = World::new();
    let (alice, bob) = (world.sign_in("alice"), world.sign_in("bob"));
    let (none, start) = names(&ask(&world, &alice, "GET", "limit=100&cacheable_cursor="));
    assert!(none.is_empty());
    let first = notify(&world, &alice, 1..6);
    assert_eq!(names(&ask(&world, &alice, "GET", "")).0, first[..1], "one, the oldest, is what is given unasked");
    assert_eq!(names(&ask(&world, &alice, "GET", &format!("limit=100&cacheable_cursor={start}"))).0, first);
    let (mut seen, mut on) = (Vec::new(), start);
    for expected in [2, 2, 1, 0, 0] {
        let (names, cursor) = names(&ask(&world, &alice, "GET", &format!("limit=2&cacheableCursor={on}")));
        assert_eq!(names.len(), expected);
        assert!(expected != 0 || cursor == on, "an empty page gives the same cursor back");
        seen.extend(names);
        on = cursor;
    }
    assert_eq!(seen, first);
    let second = notify(&world, &alice, 6..8);
    let caught_up = names(&ask(&world, &alice, "GET", &format!("limit=100&cacheable_cursor={on}")));
    assert_eq!(caught_up.0, second);
    for query in [
        format!("cacheable_cursor={on}A"),
        format!("cacheable_cursor={on}&cacheable_cursor={on}"),
        "cacheable_cursor=nonsense".to_owned(),
        "limit=0".to_owned(),
        "limit=101".to_owned(),
        "limit=ten".to_owned(),
    ] {
        ask(&world, &alice, "GET", &query).expect_refusal(400, 3, &query);
    }
    ask(&world, &bob, "GET", &format!("cacheable_cursor={on}")).expect_refusal(400, 3, "of another user");
    world.ask("GET /v2/notification", As::Nobody, "").expect_refusal(401, 16, "nobody");
    world.ask("POST /v2/notification", As::User(&bob.token), "").expect_refusal(501, 12, "post");
}

#[test]
fn deleted_by_their_owner() {
    let world = World::new();
    let (alice, bob) = (world.sign_in("alice"), world.sign_in("bob"));
    let all = notify(&world, &alice, 1..5);
    let page = ask(&world, &alice, "GET", "limit=100").json();
    let id = |index: usize| page["notifications"][index]["id"].as_str().unwrap().to_owned();
    let unknown = Uuid::from_u128(7);
    for (who, query, left) in [
        (&alice, String::new(), vec![0, 1, 2, 3]),
        (&alice, format!("ids={unknown}"), vec![0, 1, 2, 3]),
        (&bob, format!("ids={}", id(0)), vec![0, 1, 2, 3]),
        (&alice, format!("ids={}", id(1)), vec![0, 2, 3]),
        (&alice, format!("ids={}&ids={unknown}&ids={}&", id(1).to_uppercase(), id(3)), vec![0, 2]),
    ] {
        let heard = ask(&world, who, "DELETE", &query);
        assert_eq!((heard.status, heard.text.as_str()), (200, "{}"), "{query}");
        let expected: Vec<_> = left.into_iter().map(|index: usize| all[index].clone()).collect();
        assert_eq!(names(&ask(&world, &alice, "GET", "limit=100")).0, expected, "{query}");
    }
    for query in ["ids=", "ids=nonsense", &format!("ids={}&ids=x", id(0))] {
        ask(&world, &alice, "DELETE", query).expect_refusal(400, 3, query);
    }
    assert_eq!(names(&ask(&world, &alice, "GET", "limit=100")).0.len(), 2);
}
