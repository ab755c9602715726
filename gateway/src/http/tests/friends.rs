//! Friends, invitations and blocks.

use engine::query::{Block, Undone};
use uuid::Uuid;

use super::*;

fn friend(world: &World, who: &Session, method: &str, query: &str) -> Heard {
    let (method, path) = method.split_once(' ').unwrap_or((method, ""));
    world.ask(&format!("{method} /v2/friend{path}?{query}"), As::User(&who.token), "")
}

/// Sends a request that must succeed.
fn done(world: &World, who: &Session, method: &str, query: &str) {
    let heard = friend(world, who, method, query);
    assert_eq!((heard.status, heard.text.as_str()), (200, "{}"), "{method} {query}");
}

fn list(world: &World, who: &Session, query: &str) -> Vec<(String, i64)> {
    let page = friend(world, who, "GET", query);
    assert_eq!(page.status, 200, "{query}: {}", page.text);
    let entry = |item: &Value| {
        (item["user"]["username"].as_str().unwrap().to_owned(), item["state"].as_i64().expect("always written"))
    };
    page.json()["friends"].as_array().into_iter().flatten().map(entry).collect()
}

fn owned(list: &[(&str, i64)]) -> Vec<(String, i64)> {
    list.iter().map(|(name, state)| ((*name).to_owned(), *state)).collect()
}

#[test]
fn asked_accepted_and_ended() {
    let world = World::new();
    let (alice, bob) = (world.sign_in("alice"), world.sign_in("bob"));
    let both = |own: &[(&str, i64)], others: &[(&str, i64)]| {
        assert_eq!((list(&world, &alice, ""), list(&world, &bob, "")), (owned(own), owned(others)));
    };
    done(&world, &alice, "POST", &format!("ids={}", bob.user));
    both(&[("bob", 1)], &[("alice", 2)]);
    assert_eq!(world.told_notices(), [(bob.user, -2)]);
    done(&world, &alice, "POST", "usernames=bob");
    assert_eq!(world.told_notices(), [], "asking again tells nobody");
    done(&world, &bob, "POST", "usernames=alice&usernames=alice&");
    both(&[("bob", 0)], &[("alice", 0)]);
    assert_eq!(world.told_notices(), [(alice.user, -3)]);
    done(&world, &alice, "DELETE", &format!("ids={}&usernames=bob", bob.user.to_string().to_uppercase()));
    both(&[], &[]);
    assert_eq!(world.told_notices(), [(bob.user, -9)]);
    done(&world, &alice, "DELETE", "usernames=bob");
    assert_eq!(world.told_notices(), []);
    let inbox = world.ask("GET /v2/notification?limit=100", As::User(&bob.token), "").json();
    let codes: Vec<_> = inbox["notifications"].as_array().unwrap().iter().map(|item| item["code"].clone()).collect();
    assert_eq!(codes, [json!(-2), json!(-9)], "what was told is kept as well");
}

#[test]
fn blocked_and_unblocked() {
    let world = World::new();
    let (alice, bob) = (world.sign_in("alice"), world.sign_in("bob"));
    let both = |own: &[(&str, i64)], others: &[(&str, i64)]| {
        assert_eq!((list(&world, &alice, ""), list(&world, &bob, "")), (owned(own), owned(others)));
    };
    done(&world, &bob, "POST", "usernames=alice");
    world.told();
    done(&world, &alice, "POST /block", "usernames=bob");
    both(&[("bob", 3)], &[]);
    done(&world, &bob, "POST", "usernames=alice");
    done(&world, &alice, "POST", "usernames=bob");
    both(&[("bob", 3)], &[]);
    done(&world, &bob, "POST /block", &format!("ids={}", alice.user));
    both(&[("bob", 3)], &[("alice", 3)]);
    done(&world, &alice, "DELETE", "usernames=bob");
    both(&[], &[("alice", 3)]);
    assert_eq!(world.told(), [], "blocks are nobody's business");
}

#[test]
fn a_block_is_the_owners_to_carry_out() {
    let world = World::new();
    let [alice, bob, carol] = ["alice", "bob", "carol"].map(|name| world.sign_in(name));
    let asked = Rc::new(RefCell::new(Vec::new()));
    let (log, failing) = (asked.clone(), carol.user);
    world.own(move |channel, channel_query| {
        let ChannelQuery::Change(ChannelChange::Block(block)) = channel_query else { panic!("{channel_query:?}") };
        let Block { user, other } = block;
        log.borrow_mut().push((channel.clone(), user, other));
        QueryAnswer::Blocked(if other == failing { Err(Undone::NothingDone) } else { Ok(()) })
    });
    let query = format!("ids={}&ids={}&ids={}", bob.user, Uuid::from_u128(7), bob.user);
    done(&world, &alice, "POST /block", &query);
    let direct = ChannelId::direct(alice.user, bob.user);
    assert_eq!(asked.take(), [(direct, alice.user, bob.user)], "once each, and nobody unknown");
    friend(&world, &alice, "POST /block", "usernames=carol").expect_refusal(503, 14, "the owner could not");
}

#[test]
fn refusals() {
    let world = World::new();
    let (alice, bob) = (world.sign_in("alice"), world.sign_in("bob"));
    let (own, unknown, long) = (format!("ids={}", alice.user), format!("ids={}", Uuid::from_u128(7)), "x".repeat(200));
    for (query, changes, deletes) in [
        ("", 200, 200),
        (own.as_str(), 400, 400),
        ("usernames=alice", 400, 400),
        (&format!("ids={}&usernames=alice", bob.user), 400, 400),
        ("ids=nonsense", 400, 400),
        ("ids=", 400, 400),
        ("ids=00000000-0000-0000-0000-000000000000", 400, 400),
        ("usernames=", 400, 400),
        ("usernames=bob&usernames=", 400, 400),
        ("usernames=nobody", 400, 200),
        (&format!("usernames={long}"), 400, 200),
        (&unknown, 200, 200),
        (&format!("{unknown}&usernames=nobody"), 200, 200),
        ("usernames=%ff", 400, 400),
    ] {
        for (method, status) in [("POST", changes), ("POST /block", changes), ("DELETE", deletes)] {
            let heard = friend(&world, &alice, method, query);
            match status {
                200 => assert_eq!((heard.status, heard.text.as_str()), (200, "{}"), "{method} {query}"),
                _ => heard.expect_refusal(400, 3, &format!("{method} {query}")),
            }
        }
    }
    assert_eq!((list(&world, &alice, ""), list(&world, &bob, "")), (vec![], vec![]));
    for method in ["GET", "POST", "DELETE"] {
        world.ask(&format!("{method} /v2/friend"), As::Nobody, "").expect_refusal(401, 16, method);
    }
    world.ask("POST /v2/friend/block", As::Nobody, "").expect_refusal(401, 16, "block");
    world.ask("GET /v2/friend/block", As::User(&alice.token), "").expect_refusal(501, 12, "block");
    world.ask("PUT /v2/friend", As::User(&alice.token), "").expect_refusal(501, 12, "put");
    world.ask("POST /v2/friend/steam", As::User(&alice.token), "").expect_refusal(404, 5, "steam");
}

#[test]
fn a_list_is_written_exactly_so() {
    let world = World::new();
    let (alice, bob) = (world.sign_in("alice"), world.sign_in("bob"));
    assert_eq!(friend(&world, &bob, "GET", "").text, "{}");
    world.pass(2);
    done(&world, &bob, "POST /block", "usernames=alice");
    let expected = |more: &str| {
        format!(
            r#"{{"friends":[{{"user":{{"id":"{}","username":"alice","lang_tag":"en","metadata":"{{}}",{more}"create_time":"1970-01-12T13:46:40Z","update_time":"1970-01-12T13:46:40Z"}},"state":3,"update_time":"1970-01-12T13:46:42Z","metadata":"{{}}"}}]}}"#,
            alice.user
        )
    };
    assert_eq!(friend(&world, &bob, "GET", "limit=1000&").text, expected(""));
    world.show(alice.user);
    assert_eq!(friend(&world, &bob, "GET", "state=3").text, expected(r#""online":true,"#));
    assert_eq!(friend(&world, &bob, "GET", "state=0").text, "{}");
}

/// The text as a value in a query.
fn encoded(text: &str) -> String {
    crate::percent::encode(text)
}

fn notes(world: &World, who: &Session) -> Vec<(String, String)> {
    let page = friend(world, who, "GET", "").json();
    let text = |value: &Value| value.as_str().expect("always written").to_owned();
    let entry = |item: &Value| (text(&item["user"]["username"]), text(&item["metadata"]));
    page["friends"].as_array().into_iter().flatten().map(entry).collect()
}

#[test]
fn each_user_notes_something_of_the_other() {
    let world = World::new();
    let (alice, bob) = (world.sign_in("alice"), world.sign_in("bob"));
    let both = |own: &str, others: &str| {
        let of = |name: &str, note: &str| vec![(name.to_owned(), note.to_owned())];
        assert_eq!((notes(&world, &alice), notes(&world, &bob)), (of("bob", own), of("alice", others)));
    };
    let first = r#"{"met":"at Ümit's", "n": [1]}"#;
    done(&world, &alice, "POST", &format!("usernames=bob&metadata={}", encoded(first)));
    both(first, "{}");
    done(&world, &alice, "POST", &format!("usernames=bob&metadata={}", encoded(r#"{"again":true}"#)));
    both(first, "{}");
    done(&world, &bob, "POST", &format!("usernames=alice&metadata={}", encoded(r#"{"b":1}"#)));
    both(first, r#"{"b":1}"#);
    done(&world, &alice, "POST /block", "usernames=bob");
    assert_eq!(notes(&world, &alice), [("bob".to_owned(), first.to_owned())], "a block keeps it");
    done(&world, &alice, "DELETE", "usernames=bob");
    for nothing in ["", "{}", " {}\n"] {
        done(&world, &alice, "POST", &format!("usernames=bob&metadata={}", encoded(nothing)));
        both("{}", "{}");
        done(&world, &alice, "DELETE", "usernames=bob");
    }
}

#[test]
fn metadata_is_an_object_of_bounded_length() {
    let world = World::new();
    let (alice, bob) = (world.sign_in("alice"), world.sign_in("bob"));
    let long = |bytes: usize| format!(r#"{{"n":"{}"}}"#, "x".repeat(bytes - 8));
    let refuse = |query: String, says: &str| {
        let heard = friend(&world, &alice, "POST", &query);
        heard.expect_refusal(400, 3, &query);
        assert!(heard.text.contains(says), "{query}: {}", heard.text);
        assert_eq!(notes(&world, &alice), [], "{query}");
    };
    for text in ["[]", "1", "null", "\"x\"", "{", "{}x", "{a:1}", "nonsense"] {
        refuse(format!("usernames=bob&metadata={}", encoded(text)), "metadata must be a JSON object");
    }
    for text in ["{\"a\":\"\u{1}\"}", "{\u{0}}", "\u{b}{\"a\":1}"] {
        refuse(format!("usernames=bob&metadata={}", encoded(text)), "metadata has control characters");
    }
    refuse(format!("usernames=bob&metadata={}", encoded(&long(1025))), "metadata is longer than 1024 bytes");
    refuse("usernames=bob&metadata={}&metadata={}".into(), "more than once");
    let many: String = (1..258).map(|number| format!("&ids={}", Uuid::from_u128(number))).collect();
    refuse(format!("metadata={}{many}", encoded(&long(1024))), "name fewer users at once");
    done(&world, &alice, "POST", &format!("ids={}&metadata={}", bob.user, encoded(&long(1024))));
    assert_eq!(notes(&world, &alice), [("bob".to_owned(), long(1024))]);
}

#[test]
fn a_page_with_much_metadata_is_shorter() {
    let world = World::new();
    let alice = world.sign_in("alice");
    let note = encoded(&format!(r#"{{"n":"{}"}}"#, "x".repeat(1016)));
    for number in 0..600 {
        let other = world.sign_in(&format!("user-{number}"));
        done(&world, &alice, "POST", &format!("ids={}&metadata={note}", other.user));
    }
    let first = list(&world, &alice, "");
    assert!((400..512).contains(&first.len()), "{} friends with a kilobyte each", first.len());
    let cursor = friend(&world, &alice, "GET", "").json()["cursor"].as_str().expect("there are more").to_owned();
    let rest = list(&world, &alice, &format!("cursor={cursor}"));
    assert_eq!(first.len() + rest.len(), 600);
    assert!(rest.iter().all(|one| !first.contains(one)), "each once");
}

#[test]
fn a_page_of_long_profiles_is_shorter() {
    let world = World::new();
    let alice = world.sign_in("alice");
    let profile = json!({ "avatar_url": "x".repeat(512), "location": "\"".repeat(255), "timezone": "y".repeat(255) });
    for number in 0..600 {
        let other = world.sign_in(&format!("user-{number}"));
        world.ask("PUT /v2/account", As::User(&other.token), profile.to_string());
        done(&world, &alice, "POST", &format!("ids={}", other.user));
    }
    let first = friend(&world, &alice, "GET", "");
    assert!(first.text.len() < 1 << 20, "{} bytes", first.text.len());
    let cursor = first.json()["cursor"].as_str().expect("there are more").to_owned();
    let (first, rest) = (list(&world, &alice, ""), list(&world, &alice, &format!("cursor={cursor}")));
    let mut names: Vec<String> = first.into_iter().chain(rest).map(|(name, _)| name).collect();
    assert_eq!(names.len(), 600);
    names.sort_unstable();
    names.dedup();
    assert_eq!(names.len(), 600, "each once");
}

#[test]
fn users_whose_profiles_are_too_long_together_are_refused() {
    let world = World::new();
    let alice = world.sign_in("alice");
    let profile = json!({ "avatar_url": "x".repeat(512), "location": "z".repeat(255), "timezone": "y".repeat(255) });
    let others: Vec<String> = (0..600)
        .map(|number| {
            let other = world.sign_in(&format!("user-{number}"));
            world.ask("PUT /v2/account", As::User(&other.token), profile.to_string());
            other.user.to_string()
        })
        .collect();
    let reads = world.services.store_reads();
    let ask = |count: usize| {
        let target = format!("GET /v2/user?ids={}", others[..count].join("&ids="));
        world.ask(&target, As::User(&alice.token), "")
    };
    ask(600).expect_refusal(400, 3, "600 long profiles");
    assert_eq!(world.services.store_reads() - reads, 6, "a hundred at a time");
    let answer = ask(500);
    assert_eq!((answer.status, answer.json()["users"].as_array().map(Vec::len)), (200, Some(500)));
}

#[test]
fn pages_of_every_limit_show_everybody_once() {
    let world = World::new();
    let alice = world.sign_in("alice");
    let mut expected = [vec![], vec![], vec![], vec![]];
    for number in 10..22_usize {
        world.pass(1);
        let (name, other) = (format!("user-{number}"), world.sign_in(&format!("user-{number}")));
        let ask = |who: &Session, method: &str, other: &Session| {
            done(&world, who, method, &format!("ids={}", other.user));
        };
        let state = number % 4;
        match state {
            0 => {
                ask(&alice, "POST", &other);
                ask(&other, "POST", &alice);
            }
            1 => ask(&alice, "POST", &other),
            2 => ask(&other, "POST", &alice),
            _ => ask(&alice, "POST /block", &other),
        }
        expected[state].push((name, state as i64));
    }
    let read = |query: &str| {
        let (mut seen, mut pages, mut on) = (Vec::new(), 0, String::new());
        loop {
            seen.extend(list(&world, &alice, &format!("{query}&cursor={on}")));
            let page = friend(&world, &alice, "GET", &format!("{query}&cursor={on}")).json();
            pages += 1;
            match page["cursor"].as_str() {
                Some(cursor) => on = cursor.to_owned(),
                None => return (seen, pages),
            }
        }
    };
    for (query, pages) in [("limit=1", 12), ("limit=5", 3), ("limit=11", 2), ("limit=12", 1), ("", 1)] {
        assert_eq!(read(query), (expected.concat(), pages), "{query}");
    }
    for (state, expected) in expected.iter().enumerate() {
        assert_eq!(read(&format!("limit=2&state={state}")), (expected.clone(), 2), "{state}");
    }
    let account = world.ask("GET /v2/account", As::User(&alice.token), "").json();
    assert_eq!(account["user"]["edge_count"], 3, "friends are counted, and nobody else");

    let cursor = friend(&world, &alice, "GET", "limit=5").json()["cursor"].as_str().unwrap().to_owned();
    let bob = world.sign_in("bob");
    friend(&world, &bob, "GET", &format!("cursor={cursor}")).expect_refusal(400, 3, "of another user");
    for query in [
        format!("state=0&cursor={cursor}"),
        format!("cursor={cursor}A"),
        format!("cursor={cursor}&cursor={cursor}"),
        "cursor=nonsense".to_owned(),
        "limit=0".to_owned(),
        "limit=1001".to_owned(),
        "limit=".to_owned(),
        "state=4".to_owned(),
        "state=-1".to_owned(),
        "state=friend".to_owned(),
    ] {
        friend(&world, &alice, "GET", &query).expect_refusal(400, 3, &query);
    }
}
