//! Leaders of a group who promote, demote, ban and kick each other.

use serde_json::json;
use tests::harness::Person;
use tests::harness::person::{ADMIN, SUPERADMIN, events, group_channel, text};

use crate::{at_once, consistent, crowd, on_every_size};

const ROUNDS: usize = 6;

#[test]
fn two_superadmins_against_each_other() {
    on_every_size(|server| {
        let [one, two, witness] = server.people(["one", "two", "witness"]);
        for act in ["demote", "kick", "ban"] {
            for round in 0..ROUNDS {
                let name = format!("{act} {round}");
                let group = one.create_group(json!({"name": name, "open": true}));
                for person in [&witness, &two] {
                    person.acts("join", &group, &[]);
                }
                for _ in 0..2 {
                    one.acts("promote", &group, &[&two]);
                }
                let statuses = at_once::<u16>(vec![
                    Box::new(|| one.act(act, &group, &[&two]).status),
                    Box::new(|| two.act(act, &group, &[&one]).status),
                ]);
                let roles = consistent(&one, &witness, &group, &[&one, &two, &witness]);
                let superadmins = roles.values().filter(|role| **role == SUPERADMIN).count();
                assert_eq!(superadmins, 1, "{name}: one remains: {roles:?}");
                // If the actor is no longer an admin, the answer is that there is nothing to do here. If the actor
                // still is an admin but may not act on that user, the answer is success.
                let second = if act == "demote" { 200 } else { 404 };
                assert!(statuses == [200, second] || statuses == [second, 200], "{name}: {statuses:?}");
                let told = events(&witness.history(&group_channel(&group)));
                assert_eq!(told.len(), 5, "{name}: {told:?}");
            }
        }
    });
}

#[test]
fn all_leaders_against_each_other() {
    on_every_size(|server| {
        let leaders = crowd(server, "leader", 6);
        let witness = server.person("witness");
        let group = leaders[0].create_group(json!({"name": "the crown", "open": true}));
        for person in leaders.iter().skip(1).chain([&witness]) {
            person.acts("join", &group, &[]);
        }
        let rest: Vec<&Person> = leaders.iter().skip(1).collect();
        for _ in 0..2 {
            leaders[0].acts("promote", &group, &rest);
        }
        let mut socket = witness.connect();
        let channel = socket.join_group(&group);
        let from = witness.history(&channel).len();
        let acts = leaders.iter().enumerate().map(|(own, leader)| {
            let (leaders, group) = (&leaders, &group);
            let act: Box<dyn FnOnce() + Send> = Box::new(move || {
                for n in 0..60 {
                    let number = (own * 7 + n * 5 + n / 7) * 31;
                    let other = &leaders[(own + 1 + number % (leaders.len() - 1)) % leaders.len()];
                    // More of the acts that raise members than of those that remove them, so that the test continues.
                    let act =
                        ["promote", "demote", "add", "promote", "kick", "promote", "join", "add", "ban"][number % 9];
                    let users: &[&Person] = if act == "join" { &[] } else { &[other] };
                    let answer = leader.act(act, group, users);
                    assert!([200, 404].contains(&answer.status), "{act}: {}", answer.body);
                }
            });
            act
        });
        at_once(acts.collect());
        let everybody: Vec<&Person> = leaders.iter().chain([&witness]).collect();
        let roles = consistent(&leaders[0], &witness, &group, &everybody);
        assert!(roles.values().any(|role| *role == SUPERADMIN), "somebody leads: {roles:?}");
        // The witness has received all of it, in the order of history.
        let kept = witness.history(&channel).split_off(from);
        socket.catch_up();
        let heard = socket.take_messages();
        let ids = |messages: &[serde_json::Value]| messages.iter().map(|m| text(&m["message_id"])).collect::<Vec<_>>();
        assert_eq!(ids(&heard), ids(&kept));
        println!("{} changes", kept.len());
        assert!(kept.len() > 12, "too little to mean anything: {}", kept.len());
    });
}

#[test]
fn the_last_superadmin_and_whoever_could_be_it() {
    on_every_size(|server| {
        let [one, two] = server.people(["one", "two"]);
        for round in 0..ROUNDS {
            // Both leave. The first one may. The second one is the last member, or is the last superadmin and has to
            // wait for the other.
            let group = one.create_group(json!({"name": format!("both leave {round}"), "open": true}));
            two.acts("join", &group, &[]);
            let statuses = at_once::<u16>(vec![
                Box::new(|| one.act("leave", &group, &[]).status),
                Box::new(|| two.act("leave", &group, &[]).status),
            ]);
            assert_eq!(statuses[1], 200, "a member may always go");
            match statuses[0] {
                200 => assert_eq!((one.roster(&group).len(), one.groups().contains_key(&group)), (0, false)),
                400 => {
                    consistent(&one, &one, &group, &[&one, &two]);
                    one.acts("leave", &group, &[]);
                }
                other => panic!("{other}"),
            }
            // One leaves while promoting the other to superadmin, just before or just after.
            let group = one.create_group(json!({"name": format!("handed over {round}"), "open": true}));
            two.acts("join", &group, &[]);
            one.acts("promote", &group, &[&two]);
            let [promoted, left] = at_once::<u16>(vec![
                Box::new(|| one.act("promote", &group, &[&two]).status),
                Box::new(|| one.act("leave", &group, &[]).status),
            ])[..] else {
                unreachable!("two acts")
            };
            let reader = if left == 200 { &two } else { &one };
            let roles = consistent(&one, reader, &group, &[&one, &two]);
            assert!([(200, 200), (200, 400), (404, 200)].contains(&(promoted, left)), "{promoted}, {left}");
            assert!(roles.values().any(|role| *role == SUPERADMIN), "somebody leads: {roles:?}");
            assert!(!roles.values().any(|role| *role == ADMIN), "{roles:?}");
        }
    });
}
