//! Many users want a group's last seats.

use std::collections::BTreeSet;

use serde_json::json;
use tests::harness::Person;
use tests::harness::person::{GROUP_ADD, GROUP_JOIN, MEMBER, events, group_channel};

use crate::{at_once, consistent, crowd, on_every_size};

const ROUNDS: usize = 8;

#[test]
fn one_seat_is_taken_once() {
    on_every_size(|server| {
        let founder = server.person("founder");
        let comers = crowd(server, "comer", 6);
        let everybody: Vec<&Person> = comers.iter().collect();
        for round in 0..ROUNDS {
            let fields = json!({"name": format!("round {round}"), "open": true, "max_count": 2});
            let group = founder.create_group(fields);
            // Three join by themselves, three are added.
            let acts = comers.iter().enumerate().map(|(place, comer)| {
                let (founder, group) = (&founder, &group);
                let act: Box<dyn FnOnce() -> u16 + Send> = if place.is_multiple_of(2) {
                    Box::new(move || comer.act("join", group, &[]).status)
                } else {
                    Box::new(move || founder.act("add", group, &[comer]).status)
                };
                act
            });
            let statuses = at_once(acts.collect());
            let winners: Vec<usize> = (0..comers.len()).filter(|place| statuses[*place] == 200).collect();
            assert_eq!(winners.len(), 1, "round {round}: {statuses:?}");
            assert!(statuses.iter().all(|status| [200, 400].contains(status)), "round {round}: {statuses:?}");
            let winner = &comers[winners[0]];
            let roles = consistent(&founder, &founder, &group, &everybody);
            assert_eq!(roles.get(winner.id()), Some(&MEMBER), "round {round}: whoever was told so is in");
            let code = if winners[0].is_multiple_of(2) { GROUP_JOIN } else { GROUP_ADD };
            assert_eq!(events(&founder.history(&group_channel(&group))), [(code, winner.id().to_string())]);
        }
    });
}

#[test]
fn seats_that_come_and_go_are_counted() {
    on_every_size(|server| {
        let founder = server.person("founder");
        let comers = crowd(server, "comer", 6);
        let everybody: Vec<&Person> = comers.iter().collect();
        let group = founder.create_group(json!({"name": "busy", "open": true, "max_count": 4}));
        let acts = comers.iter().map(|comer| {
            let group = &group;
            let act: Box<dyn FnOnce() -> Vec<bool> + Send> = Box::new(move || {
                let mut came = Vec::new();
                for _ in 0..12 {
                    let answer = comer.act("join", group, &[]);
                    assert!([200, 400].contains(&answer.status), "{}", answer.body);
                    came.push(answer.status == 200);
                    if answer.status == 200 {
                        comer.acts("leave", group, &[]);
                    }
                }
                came
            });
            act
        });
        let came: usize = at_once(acts.collect()).iter().flatten().filter(|came| **came).count();
        assert!(came > 0);
        let roles = consistent(&founder, &founder, &group, &everybody);
        assert_eq!(roles.keys().cloned().collect::<BTreeSet<_>>(), BTreeSet::from([founder.id().to_string()]));
        let told = events(&founder.history(&group_channel(&group)));
        assert_eq!(told.len(), 2 * came, "one message a coming and a going that was answered with success");
        // At no point in history were more seats taken than there are.
        let mut taken = 1;
        for (code, _) in told {
            taken = if code == GROUP_JOIN { taken + 1 } else { taken - 1 };
            assert!((1..=4).contains(&taken));
        }
    });
}
