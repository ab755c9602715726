//! Many users want the same username, or sign in with the same credential.

use serde_json::{Value, json};
use tests::harness::person::text;
use tests::harness::{Http, SERVER_KEY, bearer};

use crate::{at_once, crowd, on_every_size};

const ROUNDS: usize = 6;
const RIVALS: usize = 6;

fn sign_in(http: &Http, query: &str, id: &str) -> (u16, Value) {
    let path = format!("/v2/account/authenticate/custom?{query}");
    let answer = http.post(&path, SERVER_KEY, &json!({ "id": id }));
    (answer.status, answer.json())
}

fn user_of(http: &Http, tokens: &Value) -> (String, String) {
    let answer = http.request("GET", "/v2/account", &[("Authorization", &bearer(&text(&tokens["token"])))], "");
    assert_eq!(answer.status, 200, "{}", answer.body);
    let user = answer.json()["user"].clone();
    (text(&user["id"]), text(&user["username"]))
}

#[test]
fn one_gets_a_username() {
    on_every_size(|server| {
        let http = server.http();
        for round in 0..ROUNDS {
            let name = format!("wanted-{round}");
            let acts = (0..RIVALS).map(|rival| {
                let (name, http) = (&name, &http);
                let act: Box<dyn FnOnce() -> (u16, Value) + Send> =
                    Box::new(move || sign_in(http, &format!("username={name}"), &format!("rival-{rival}-of-{round}")));
                act
            });
            let answers = at_once(acts.collect());
            let made: Vec<usize> = (0..RIVALS).filter(|rival| answers[*rival].0 == 200).collect();
            assert_eq!(made.len(), 1, "{answers:?}");
            assert!(answers.iter().all(|(status, body)| *status == 200 || (*status == 409 && body["code"] == 6)));
            assert_eq!(answers[made[0]].1["created"], true);
            let (id, username) = user_of(&http, &answers[made[0]].1);
            assert_eq!(username, name);
            for rival in (0..RIVALS).filter(|rival| *rival != made[0]) {
                let (status, body) = sign_in(&http, "create=false", &format!("rival-{rival}-of-{round}"));
                assert_eq!((status, &body["code"]), (404, &json!(5)), "nothing was made of the others");
            }
            let reader = server.person("reader");
            let found = reader.done("GET", &format!("/v2/user?usernames={name}"), Value::Null);
            assert_eq!((found["users"].as_array().map(Vec::len), &found["users"][0]["id"]), (Some(1), &json!(id)));
        }
    });
}

#[test]
fn a_credential_opens_one_account() {
    on_every_size(|server| {
        let http = server.http();
        for round in 0..ROUNDS {
            // In every second round each of them also asks for another name.
            let acts = (0..RIVALS).map(|rival| {
                let http = &http;
                let query = if round % 2 == 0 { String::new() } else { format!("username=name-{rival}-{round}") };
                let act: Box<dyn FnOnce() -> (u16, Value) + Send> =
                    Box::new(move || sign_in(http, &query, &format!("shared-credential-{round}")));
                act
            });
            let answers = at_once(acts.collect());
            assert!(answers.iter().all(|(status, _)| *status == 200), "{answers:?}");
            assert_eq!(answers.iter().filter(|(_, body)| body["created"] == true).count(), 1, "{answers:?}");
            let users: Vec<_> = answers.iter().map(|(_, tokens)| user_of(&http, tokens)).collect();
            assert!(users.iter().all(|user| *user == users[0]), "{users:?}");
        }
    });
}

#[test]
fn one_gets_a_changed_username_and_a_linked_device() {
    on_every_size(|server| {
        let rivals = crowd(server, "rival", RIVALS);
        let mut names: Vec<String> = rivals.iter().map(|rival| rival.name().to_string()).collect();
        for round in 0..ROUNDS {
            let (name, device) = (format!("wanted-{round}"), format!("wanted-device-{round}"));
            let acts = rivals.iter().map(|rival| {
                let (name, device) = (json!({"username": name, "location": name}), json!({ "id": device }));
                let act: Box<dyn FnOnce() -> [u16; 2] + Send> = Box::new(move || {
                    let renamed = rival.ask("PUT", "/v2/account", &name).status;
                    [renamed, rival.ask("POST", "/v2/account/link/device", &device).status]
                });
                act
            });
            let statuses = at_once(acts.collect());
            let winners = |place: usize| statuses.iter().filter(|statuses| statuses[place] == 200).count();
            assert_eq!((winners(0), winners(1)), (1, 1), "{statuses:?}");
            for ((rival, known), [renamed, linked]) in rivals.iter().zip(&mut names).zip(&statuses) {
                assert!([200, 400].contains(renamed) && [200, 409].contains(linked), "{statuses:?}");
                let account = rival.done("GET", "/v2/account", Value::Null);
                if *renamed == 200 {
                    known.clone_from(&name);
                }
                assert_eq!(account["user"]["username"], **known);
                let devices = account["devices"].as_array().into_iter().flatten();
                assert_eq!(devices.filter(|found| found["id"] == device).count(), usize::from(*linked == 200));
                let found = rival.done("GET", &format!("/v2/user?usernames={known}"), Value::Null);
                assert_eq!(found["users"][0]["id"], rival.id());
            }
        }
    });
}
