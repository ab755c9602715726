//! A user is blocked while joining the direct chat with the blocking user, and while sending messages in it.

use std::sync::atomic::{AtomicUsize, Ordering};

use serde_json::{Value, json};
use tests::harness::person::{Person, direct_channel, number, text};
use tests::harness::{Format, Socket};

use crate::{at_once, on_every_size};

const ROUNDS: usize = 6;
const BLOCKED: u64 = 3;

/// Joins, sends a message and leaves, again and again, until a join is refused. Returns what was acknowledged.
fn come_and_go(person: &Person, other: &Person, format: Format, came: &AtomicUsize) -> Vec<String> {
    let mut socket = person.connect_in(format);
    let mut acknowledged = Vec::new();
    loop {
        match socket.try_join(2, other.id()) {
            Err(answer) => {
                assert_eq!(answer["error"]["code"], 3, "{answer}");
                break;
            }
            Ok(channel) => {
                came.fetch_add(1, Ordering::Relaxed);
                let answer = socket.say(&channel, "{}");
                match answer.get("channel_message_ack") {
                    Some(ack) => acknowledged.push(text(&ack["message_id"])),
                    None => assert_eq!(answer["error"]["code"], 3, "{answer}"),
                }
                socket.request(json!({"channel_leave": {"channel_id": channel}}));
            }
        }
    }
    assert!(socket.try_join(2, other.id()).is_err(), "and is refused from then on");
    acknowledged
}

fn requests(person: &Person) -> usize {
    person.notifications().iter().filter(|notification| notification["code"] == -1).count()
}

#[test]
fn while_the_other_comes_and_talks() {
    on_every_size(|server| {
        for round in 0..ROUNDS {
            let [ada, bob] = server.people([&format!("ada-{round}"), &format!("bob-{round}")]);
            let came = AtomicUsize::new(0);
            let mut present = bob.connect();
            // In every second round he has joined too, and receives her messages until the block.
            let there = round % 2 == 1;
            if there {
                present.join_direct(&ada);
            }
            let mut acts: Vec<Box<dyn FnOnce() -> Vec<String> + Send>> = Vec::new();
            for format in Format::ALL {
                let (ada, bob, came) = (&ada, &bob, &came);
                acts.push(Box::new(move || come_and_go(ada, bob, format, came)));
            }
            acts.push(Box::new(|| {
                while came.load(Ordering::Relaxed) < 6 {
                    std::thread::yield_now();
                }
                bob.relates("block", &ada);
                Vec::new()
            }));
            let acknowledged: Vec<String> = at_once(acts).into_iter().flatten().collect();
            let channel = direct_channel(&ada, &bob);
            let history = ada.history(&channel);
            assert_eq!(history, bob.history(&channel), "round {round}: both read the same");
            let kept: Vec<String> = history.iter().map(|message| text(&message["message_id"])).collect();
            let sorted = |mut ids: Vec<String>| {
                ids.sort();
                ids
            };
            assert_eq!(sorted(kept.clone()), sorted(acknowledged), "round {round}: what was acknowledged, and no more");
            assert_eq!((ada.friends().len(), bob.friends().get(ada.id())), (0, Some(&BLOCKED)));
            present.catch_up();
            let heard: Vec<String> = present.take_messages().iter().map(|m| text(&m["message_id"])).collect();
            assert_eq!(heard, if there { kept } else { Vec::new() }, "round {round}");
            let asked = requests(&bob);
            assert!(asked <= came.load(Ordering::Relaxed));
            assert_eq!(asked == 0, there, "round {round}: he is asked to come unless he is there");

            // The chat is empty, and stays closed to her.
            let presence = bob.done("GET", &format!("/v2/channel/{channel}/presence"), Value::Null);
            assert_eq!(presence, json!({}), "round {round}");
            if there {
                let answer = present.say(&channel, "{}");
                assert_eq!(answer["error"]["code"], 3, "round {round}: he is out as well: {answer}");
            }
            assert!(ada.connect().try_join(2, bob.id()).is_err());
            // When he joined, she was invited.
            let hers = usize::from(there);
            assert_eq!((requests(&bob), requests(&ada)), (asked, hers), "round {round}: and asks nobody");
            assert_eq!(bob.history(&channel).len(), history.len());
        }
    });
}

#[test]
fn both_block_while_both_talk() {
    on_every_size(|server| {
        for round in 0..ROUNDS {
            let people = server.people([&format!("ada-{round}"), &format!("bob-{round}")]);
            let [ada, bob] = &people;
            let mut sockets: Vec<Socket> = people.iter().map(Person::connect).collect();
            let channel = sockets[0].join_direct(bob);
            sockets[1].join_direct(ada);
            let mut acts: Vec<Box<dyn FnOnce() -> usize + Send>> = Vec::new();
            for socket in &mut sockets {
                let channel = &channel;
                acts.push(Box::new(move || {
                    let mut said = 0;
                    while socket.say(channel, "{}")["channel_message_ack"].is_object() {
                        said += 1;
                    }
                    said
                }));
            }
            for (one, other) in [(ada, bob), (bob, ada)] {
                acts.push(Box::new(move || {
                    one.relates("block", other);
                    0
                }));
            }
            let said: usize = at_once(acts).into_iter().sum();
            assert_eq!(ada.history(&channel).len(), said, "round {round}");
            assert_eq!((ada.friends().get(bob.id()), bob.friends().get(ada.id())), (Some(&BLOCKED), Some(&BLOCKED)));
            for (socket, other) in sockets.iter_mut().zip([bob, ada]) {
                assert!(socket.try_join(2, other.id()).is_err());
            }
        }
    });
}

/// Adding, deleting and blocking from both sides at once leads only to valid pairs of states, and the notifications
/// agree with them.
#[test]
fn friends_and_blocks_from_both_sides() {
    on_every_size(|server| {
        for round in 0..ROUNDS {
            let [ada, bob] = server.people([&format!("ada-{round}"), &format!("bob-{round}")]);
            let blocks = round % 2 == 1;
            let mut acts: Vec<Box<dyn FnOnce() + Send>> = Vec::new();
            for (own, other, seed) in [(&ada, &bob, 1), (&bob, &ada, 2), (&ada, &bob, 3)] {
                acts.push(Box::new(move || {
                    for n in 0..20 {
                        let act = match (n * 7 + seed * 3) % 5 {
                            0 | 1 | 3 => "add",
                            4 if blocks => "block",
                            _ => "delete",
                        };
                        own.relates(act, other);
                    }
                }));
            }
            at_once(acts);
            let pair = (ada.friends().get(bob.id()).copied(), bob.friends().get(ada.id()).copied());
            let possible = [
                (None, None),
                (Some(0), Some(0)),
                (Some(1), Some(2)),
                (Some(2), Some(1)),
                (Some(3), None),
                (None, Some(3)),
                (Some(3), Some(3)),
            ];
            assert!(possible.contains(&pair), "round {round}: {pair:?}");
            for person in [&ada, &bob] {
                let friends = number(&person.done("GET", "/v2/account", Value::Null)["user"]["edge_count"]);
                assert_eq!(friends, u64::from(pair == (Some(0), Some(0))), "round {round}");
            }
            if !blocks {
                let told = [ada.notifications(), bob.notifications()].concat();
                let count = |code: i64| told.iter().filter(|notification| notification["code"] == code).count();
                let (asked, accepted, removed) = (count(-2), count(-3), count(-9));
                // What is repeated is told once a minute, from each side, unless the other has accepted in between.
                let most = 2 * (accepted + 1);
                assert!(asked <= most && removed <= most, "round {round}: {asked}, {accepted}, {removed}");
                assert!(accepted <= asked && asked > 0, "round {round}: {asked}, {accepted}");
            }
        }
    });
}
