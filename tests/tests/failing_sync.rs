//! A disk whose sync fails: what clients were told at that time is compared with what the next start finds.

use std::collections::{BTreeMap, BTreeSet};
use std::thread;

use serde_json::{Value, json};
use tests::harness::person::text;
use tests::harness::{Account, DEADLINE, FaultySyncs, Heard, Http, Launch, SERVER_KEY, Server, Socket, data_dir};

const PUBLISHERS: usize = 6;
/// Messages that each publisher sends at once.
const BURST: usize = 40;
/// Users who sign up while syncs begin to fail, each on a separate connection.
const NEWCOMERS: usize = 8;

/// What a client knows about a request.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
enum Outcome {
    Done,
    /// The server says that nothing was done.
    Refused,
    /// The server says that the outcome is unknown.
    Unknown,
    /// The connection ended before the answer came.
    Unanswered,
}

/// The requests of one publisher and their outcomes, by cid.
struct Said {
    outcomes: BTreeMap<String, Outcome>,
    acknowledged: BTreeMap<String, String>,
}

#[test]
fn what_a_failed_sync_leaves_unknown_is_said_to_be_unknown() {
    let (data, syncs) = (data_dir(), FaultySyncs::build());
    let launch = || Launch::on(data.path()).flag("--session-ttl", 3600);
    let mut server = launch().confined(syncs.confine()).start();
    let publishers: Vec<_> = (0..PUBLISHERS).map(|number| server.sign_in(&format!("publisher-{number}"))).collect();
    let before = say_before(&server, &publishers);

    let (address, http) = (server.address(), server.http());
    let (said, newcomers) = thread::scope(|scope| {
        let said: Vec<_> = publishers
            .iter()
            .enumerate()
            .map(|(number, account)| {
                let (mut socket, own) = (Socket::connect(address, &account.token), before[number].clone());
                let channel = socket.join("lobby");
                (socket, channel, own)
            })
            .collect();
        syncs.fail();
        let said: Vec<_> = said
            .into_iter()
            .enumerate()
            .map(|(number, (socket, channel, own))| scope.spawn(move || burst(socket, &channel, number, &own)))
            .collect();
        let newcomers: Vec<_> = (0..NEWCOMERS).map(|number| scope.spawn(move || sign_up(address, number))).collect();
        let said: Vec<Said> = said.into_iter().map(|said| said.join().expect("a client")).collect();
        let newcomers: Vec<Outcome> = newcomers.into_iter().map(|one| one.join().expect("a client")).collect();
        (said, newcomers)
    });
    drop(http);
    let output = server.await_failure();
    assert!(output.contains("Input/output error"), "{output}");

    let server = launch().start();
    let mut seen = BTreeSet::new();
    let history = server.http().history_after(&publishers[0].token, "2...lobby", None).0;
    for (number, said) in said.iter().enumerate() {
        check_sends(&history, number, said, &mut seen);
        check_changes(&history, &before[number], said, &mut seen);
    }
    for (number, outcome) in newcomers.iter().enumerate() {
        let found = server.http().post(&newcomer_path(number, false), SERVER_KEY, &newcomer_body(number)).status;
        match outcome {
            Outcome::Done => assert_eq!(found, 200, "newcomer {number}"),
            Outcome::Refused => assert_eq!(found, 404, "newcomer {number}"),
            Outcome::Unknown | Outcome::Unanswered => assert!(found == 200 || found == 404, "newcomer {number}"),
        }
    }
    assert!(seen.contains(&Outcome::Unknown), "nothing was unknown, so this has shown nothing: {seen:?}");
    server.assert_works("a failed sync");
}

/// Stores two messages for each publisher: one to change and one to remove.
fn say_before(server: &Server, publishers: &[Account]) -> Vec<[String; 2]> {
    publishers
        .iter()
        .map(|account| {
            let mut socket = Socket::connect(server.address(), &account.token);
            let channel = socket.join("lobby");
            ["to be changed", "to be removed"].map(|what| {
                let ack = socket.say(&channel, &json!({ "before": what }).to_string());
                text(&ack["channel_message_ack"]["message_id"])
            })
        })
        .collect()
}

/// Sends the messages, one update and one removal, all at once. Then reads the outcome of each.
fn burst(mut socket: Socket, channel: &str, publisher: usize, own: &[String; 2]) -> Said {
    let content = |number: usize| json!({ "from": publisher, "number": number }).to_string();
    let mut waiting: BTreeSet<String> = BTreeSet::new();
    let mut ask = |socket: &mut Socket, cid: String, mut envelope: Value| {
        envelope["cid"] = json!(cid);
        waiting.insert(cid);
        // The server may already have ended.
        let _ = socket.try_send_text(&envelope.to_string());
    };
    let [changed, removed] = own;
    let update = json!({"channel_id": channel, "message_id": changed, "content": "{\"changed\":true}"});
    ask(&mut socket, "update".into(), json!({ "channel_message_update": update }));
    let remove = json!({"channel_id": channel, "message_id": removed});
    ask(&mut socket, "remove".into(), json!({ "channel_message_remove": remove }));
    for number in 0..BURST {
        let send = json!({"channel_id": channel, "content": content(number)});
        ask(&mut socket, number.to_string(), json!({ "channel_message_send": send }));
    }
    let mut said = Said { outcomes: BTreeMap::new(), acknowledged: BTreeMap::new() };
    while !waiting.is_empty() {
        match socket.hear(DEADLINE) {
            Heard::Text(envelope) => {
                let answer: Value = serde_json::from_str(&envelope).expect("JSON");
                let Some(cid) = answer["cid"].as_str().map(str::to_owned) else { continue };
                waiting.remove(&cid);
                if let Some(id) = answer["channel_message_ack"]["message_id"].as_str() {
                    said.acknowledged.insert(cid.clone(), id.to_owned());
                }
                said.outcomes.insert(cid, outcome(&answer));
            }
            Heard::Closed(_) => break,
            Heard::Nothing => panic!("no answer to {waiting:?}, and the connection stays"),
        }
    }
    said.outcomes.extend(waiting.into_iter().map(|cid| (cid, Outcome::Unanswered)));
    said
}

fn outcome(answer: &Value) -> Outcome {
    let error = &answer["error"];
    if error.is_null() {
        return Outcome::Done;
    }
    assert!(error["code"].is_null(), "the failure of a store has code 0: {answer}");
    match &error["context"] {
        Value::Null => Outcome::Refused,
        context => {
            assert_eq!(*context, json!({"outcome": "unknown"}));
            let message = text(&error["message"]);
            assert!(message.contains("unknown") && !message.contains("again"), "{message}");
            Outcome::Unknown
        }
    }
}

fn newcomer_path(number: usize, create: bool) -> String {
    format!("/v2/account/authenticate/custom?create={create}&username=newcomer-{number}")
}

fn newcomer_body(number: usize) -> Value {
    json!({ "id": format!("custom-id-of-newcomer-{number}") })
}

fn sign_up(address: std::net::SocketAddr, number: usize) -> Outcome {
    let body = newcomer_body(number).to_string();
    let headers = [("Authorization", SERVER_KEY)];
    match Http::new(address).try_request("POST", &newcomer_path(number, true), &headers, body) {
        Err(_) => Outcome::Unanswered,
        Ok(answer) if answer.status == 200 => Outcome::Done,
        Ok(answer) => match (answer.status, answer.json()["code"].as_u64()) {
            (500, Some(2)) => {
                let said = answer.body;
                assert!(said.contains("unknown") && !said.contains("again"), "{said}");
                Outcome::Unknown
            }
            (500 | 503, Some(13 | 14)) => Outcome::Refused,
            _ => panic!("{answer:?}"),
        },
    }
}

/// A send is in history once if it was acknowledged, never if it was refused, and at most once otherwise.
fn check_sends(history: &[Value], publisher: usize, said: &Said, seen: &mut BTreeSet<Outcome>) {
    for number in 0..BURST {
        let content = json!({ "from": publisher, "number": number });
        let found: Vec<_> = history
            .iter()
            .filter(|message| serde_json::from_str::<Value>(&text(&message["content"])).expect("JSON") == content)
            .map(|message| text(&message["message_id"]))
            .collect();
        let cid = number.to_string();
        let outcome = said.outcomes[&cid];
        seen.insert(outcome);
        match outcome {
            Outcome::Done => assert_eq!(found, [said.acknowledged[&cid].clone()], "{content}"),
            Outcome::Refused => assert!(found.is_empty(), "{content} was refused, and is in history"),
            Outcome::Unknown | Outcome::Unanswered => assert!(found.len() <= 1, "{content} is there twice"),
        }
    }
}

fn check_changes(history: &[Value], own: &[String; 2], said: &Said, seen: &mut BTreeSet<Outcome>) {
    let content =
        |id: &String| history.iter().find(|message| message["message_id"] == **id).map(|m| text(&m["content"]));
    let changed = content(&own[0]).expect("it was never removed").contains("changed\":true");
    let removed = content(&own[1]).is_none();
    for (cid, done) in [("update", changed), ("remove", removed)] {
        let outcome = said.outcomes[cid];
        seen.insert(outcome);
        match outcome {
            Outcome::Done => assert!(done, "{cid} was acknowledged"),
            Outcome::Refused => assert!(!done, "{cid} was refused, and is done"),
            Outcome::Unknown | Outcome::Unanswered => {}
        }
    }
}
