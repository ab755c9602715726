//! Many users want the same group name.

use serde_json::{Value, json};
use tests::harness::person::text;

use crate::{at_once, crowd, on_every_size};

const ROUNDS: usize = 6;

#[test]
fn a_group_is_made_once_under_a_name() {
    on_every_size(|server| {
        let makers = crowd(server, "maker", 6);
        for round in 0..ROUNDS {
            let name = format!("wanted-{round}");
            let acts = makers.iter().map(|maker| {
                let body = json!({"name": name, "description": maker.name()});
                let act: Box<dyn FnOnce() -> (u16, Value) + Send> = Box::new(move || {
                    let answer = maker.ask("POST", "/v2/group", &body);
                    (answer.status, answer.json())
                });
                act
            });
            let answers = at_once(acts.collect());
            let made: Vec<&Value> = answers.iter().filter(|(status, _)| *status == 200).map(|(_, body)| body).collect();
            assert_eq!(made.len(), 1, "{answers:?}");
            assert!(answers.iter().all(|(status, body)| *status == 200 || (*status == 409 && body["code"] == 6)));
            let found = makers[0].groups_called(&name);
            assert_eq!(found, [made[0].clone()], "it is the one that was answered with");
            let id = text(&made[0]["id"]);
            for maker in &makers {
                let is_founder = made[0]["creator_id"] == maker.id();
                assert_eq!(maker.groups().contains_key(&id), is_founder);
                assert_eq!(maker.groups().len(), maker.memberships().len());
            }
        }
    });
}

#[test]
fn two_groups_are_renamed_to_one_name() {
    on_every_size(|server| {
        let makers = crowd(server, "maker", 4);
        for round in 0..ROUNDS {
            let groups: Vec<String> = makers
                .iter()
                .map(|maker| maker.create_group(json!({"name": format!("{}-{round}", maker.name())})))
                .collect();
            let wanted = format!("wanted-{round}");
            let acts = makers.iter().zip(&groups).map(|(maker, group)| {
                let body = json!({"name": wanted, "description": "renamed"});
                let act: Box<dyn FnOnce() -> u16 + Send> =
                    Box::new(move || maker.ask("PUT", &format!("/v2/group/{group}"), &body).status);
                act
            });
            let statuses = at_once(acts.collect());
            assert_eq!(statuses.iter().filter(|status| **status == 200).count(), 1, "{statuses:?}");
            assert!(statuses.iter().all(|status| [200, 400].contains(status)), "{statuses:?}");
            assert_eq!(makers[0].groups_called(&wanted).len(), 1);
            for ((maker, group), status) in makers.iter().zip(&groups).zip(&statuses) {
                let old = format!("{}-{round}", maker.name());
                let name = if *status == 200 { &wanted } else { &old };
                let found = maker.groups_called(name);
                assert_eq!((found.len(), &found[0]["id"]), (1, &json!(group)));
                assert_eq!(found[0]["description"], if *status == 200 { json!("renamed") } else { Value::Null });
                let free = maker.ask("POST", "/v2/group", &json!({ "name": old }));
                assert_eq!(free.status, if *status == 200 { 200 } else { 409 }, "{old}: {}", free.body);
            }
        }
    });
}
