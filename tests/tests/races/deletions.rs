//! Users join a group while it is deleted, or while its last member leaves.

use serde_json::{Value, json};
use tests::harness::person::{Person, group_channel, text};
use tests::harness::{Format, Server};

use crate::{at_once, consistent, crowd, on_every_size};

const ROUNDS: usize = 8;

/// Asserts that nothing of a group is left for any user, and that its name is free.
fn gone(founder: &Person, group: &str, name: &str, people: &[Person]) {
    assert!(founder.roster(group).is_empty(), "{name}: nobody is in it");
    let path = format!("/v2/channel/{}?limit=10", group_channel(group));
    for person in people.iter().chain([founder]) {
        assert!(!person.groups().contains_key(group), "{name}: it is on nobody's list");
        assert_eq!(person.ask("GET", &path, &Value::Null).status, 400, "{name}: its history is out of reach");
        assert_eq!(person.act("join", group, &[]).status, 404, "{name}");
    }
    assert!(founder.groups_called(name).is_empty());
    let again = founder.create_group(json!({ "name": name }));
    assert_eq!(founder.groups_called(name).len(), 1);
    assert_eq!(founder.ask("DELETE", &format!("/v2/group/{again}"), &Value::Null).status, 200);
}

#[test]
fn joining_while_it_is_deleted() {
    on_every_size(|server| {
        let founder = server.person("founder");
        let comers = crowd(server, "comer", 4);
        for round in 0..ROUNDS {
            let name = format!("short-lived {round}");
            let group = founder.create_group(json!({"name": name, "open": true}));
            let mut acts: Vec<Box<dyn FnOnce() -> u16 + Send>> = Vec::new();
            for comer in &comers {
                let group = &group;
                acts.push(Box::new(move || {
                    let status = comer.act("join", group, &[]).status;
                    let mut socket = comer.connect();
                    if let Ok(channel) = socket.try_join(3, group) {
                        assert_eq!(status, 200, "nobody comes into the chat who was not let into the group");
                        say_until_refused(&mut socket, &channel);
                    }
                    status
                }));
            }
            acts.push(Box::new(|| founder.ask("DELETE", &format!("/v2/group/{group}"), &Value::Null).status));
            let statuses = at_once(acts);
            let (deleted, joined) = statuses.split_last().expect("they all answered");
            assert_eq!(*deleted, 200);
            assert!(joined.iter().all(|status| [200, 404].contains(status)), "{statuses:?}");
            gone(&founder, &group, &name, &comers);
        }
    });
}

/// Sends messages until one is refused. After that, no message is accepted.
fn say_until_refused(socket: &mut tests::harness::Socket, channel: &str) {
    let said = |answer: &Value| answer["channel_message_ack"].is_object();
    while said(&socket.say(channel, "{}")) {}
    for _ in 0..3 {
        let answer = socket.say(channel, "{}");
        assert_eq!(answer["error"]["code"], 3, "{answer}");
    }
}

#[test]
fn joining_while_the_last_member_leaves() {
    on_every_size(|server| {
        let [founder, comer] = server.people(["founder", "comer"]);
        let mut outcomes = std::collections::BTreeSet::new();
        for round in 0..ROUNDS * 2 {
            let name = format!("deserted {round}");
            let group = founder.create_group(json!({"name": name, "open": true}));
            let statuses = at_once::<u16>(vec![
                Box::new(|| founder.act("leave", &group, &[]).status),
                Box::new(|| comer.act("join", &group, &[]).status),
            ]);
            match statuses[..] {
                // The founder was no longer alone, and was the last superadmin.
                [400, 200] => {
                    consistent(&founder, &comer, &group, &[&founder, &comer]);
                    assert_eq!(founder.ask("DELETE", &format!("/v2/group/{group}"), &Value::Null).status, 200);
                }
                [200, 404] => gone(&founder, &group, &name, std::slice::from_ref(&comer)),
                _ => panic!("{name}: {statuses:?}"),
            }
            outcomes.insert(statuses);
        }
        println!("{outcomes:?}");
    });
}

/// The accounts of all are deleted while all act on each other: no deleted user remains a member.
#[test]
fn members_whose_accounts_are_deleted() {
    on_every_size(|server| {
        for round in 0..3 {
            let founder = server.person(&format!("founder-{round}"));
            let going = crowd(server, &format!("going-{round}"), 4);
            let staying = crowd(server, &format!("staying-{round}"), 2);
            let group = founder.create_group(json!({"name": format!("emptied {round}"), "open": true}));
            let closed = founder.create_group(json!({"name": format!("closed {round}")}));
            for person in going.iter().chain(&staying) {
                person.acts("join", &group, &[]);
                person.acts("join", &closed, &[]);
                founder.relates("add", person);
            }
            let mut acts: Vec<Box<dyn FnOnce() + Send>> = Vec::new();
            for person in &going {
                acts.push(Box::new(|| {
                    assert_eq!(person.ask("DELETE", "/v2/account", &Value::Null).status, 200);
                }));
            }
            for (place, person) in staying.iter().enumerate() {
                let (founder, going, group, closed) = (&founder, &going, &group, &closed);
                acts.push(Box::new(move || {
                    for other in going {
                        // A deleted user does not exist: adding one is refused, and every other act has no effect.
                        let admin = if place == 0 { founder } else { person };
                        for act in ["promote", "kick", "add", "ban", "kick"] {
                            let answer = admin.act(act, group, &[other]);
                            assert!([200, 400, 404].contains(&answer.status), "{act}: {}", answer.body);
                        }
                        let answer = founder.act("add", closed, &[other]);
                        assert!([200, 400].contains(&answer.status), "{}", answer.body);
                        assert_eq!(person.relate("add", other).status, 200);
                        assert_eq!(person.relate(["block", "delete"][place], other).status, 200);
                    }
                }));
            }
            at_once(acts);
            let people: Vec<&Person> = staying.iter().chain([&founder]).collect();
            for group in [&group, &closed] {
                let listed = founder.roster(group);
                for person in &going {
                    assert!(!listed.iter().any(|(id, _)| id == person.id()), "{} is gone", person.name());
                }
                seats_agree(&founder, group, &listed);
            }
            for person in &people {
                for friend in person.friends().keys() {
                    assert!(!going.iter().any(|gone| gone.id() == friend), "{} is gone", friend);
                }
            }
            assert_deleted_users_cannot_speak(server, &founder, &group, &going);
        }
    });
}

fn seats_agree(founder: &Person, group: &str, listed: &[(String, u64)]) {
    let members = listed.iter().filter(|(_, role)| *role <= 2).count();
    let own = founder.memberships().into_iter().find(|item| item["group"]["id"] == group).expect("the founder stays");
    assert_eq!(own["group"]["edge_count"], members, "{own}");
}

/// Asserts that history has no messages of deleted users, including event messages about them.
fn assert_deleted_users_cannot_speak(server: &Server, founder: &Person, group: &str, gone: &[Person]) {
    for message in founder.history(&group_channel(group)) {
        assert!(!gone.iter().any(|person| message["sender_id"] == person.id()), "{message}");
    }
    for person in gone {
        let found = founder.done("GET", &format!("/v2/user?ids={}", person.id()), Value::Null);
        assert_eq!(found, json!({}));
        let again = server.person(person.name());
        assert_ne!(again.id(), person.id());
        assert!(again.groups().is_empty() && again.friends().is_empty() && again.notifications().is_empty());
        let mut socket = again.connect_in(Format::Protobuf);
        assert!(text(&socket.try_join(3, group).expect_err("not let in")["error"]["message"]).contains("group"));
    }
}
