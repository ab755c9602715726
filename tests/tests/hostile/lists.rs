//! Small requests with long answers, and requests that make the store look at much.

use std::thread;
use std::time::Instant;

use serde_json::{Value, json};
use tests::harness::person::text;
use tests::harness::{Http, Person, Socket};

use crate::stage::Stage;

/// Texts of users in one answer (docs/protocol.md, section 10). In JSON each byte here becomes two.
const TEXTS_BYTES_MAX: usize = 512 << 10;

/// What a user takes in an answer beside the texts.
const USER_BYTES: usize = 400;

/// Signs in so many users with the longest profiles, on some threads.
fn people_with_long_profiles(stage: &Stage, count: usize) -> Vec<Person> {
    const THREADS: usize = 6;
    let of = |number: usize| {
        let person = stage.server.person(&format!("person-{number}"));
        let text = |bytes| "\t".repeat(bytes);
        let profile =
            json!({"display_name": text(255), "avatar_url": text(512), "location": text(255), "timezone": text(255)});
        person.done("PUT", "/v2/account", profile);
        person
    };
    thread::scope(|scope| {
        let threads: Vec<_> = (0..THREADS)
            .map(|thread| scope.spawn(move || (thread..count).step_by(THREADS).map(of).collect::<Vec<_>>()))
            .collect();
        threads.into_iter().flat_map(|thread| thread.join().expect("they sign in")).collect()
    })
}

#[test]
fn a_page_of_friends_with_long_profiles_is_cut() {
    const FRIENDS: usize = 450;
    let stage = Stage::launch();
    let attacker = stage.server.person("attacker");
    let people = people_with_long_profiles(&stage, FRIENDS);
    let ids: Vec<String> = people.iter().map(|person| format!("ids={}", person.id())).collect();
    attacker.done("POST", &format!("/v2/friend?{}", ids.join("&")), Value::Null);
    stage.beside_a_room(|| {
        for _ in 0..10 {
            let page = attacker.ask("GET", "/v2/friend?limit=1000", &Value::Null);
            assert_eq!(page.status, 200, "{}", page.body);
            let bytes = page.body.len();
            assert!(bytes < 2 * TEXTS_BYTES_MAX + FRIENDS * USER_BYTES, "{bytes} bytes on a page");
            assert!(page.json()["cursor"].is_string(), "the page is not the last");
        }
    });
    assert_eq!(attacker.listing("/v2/friend?limit=1000", "friends").len(), FRIENDS, "all of them are on some page");
    stage.assert_bounded();
}

#[test]
fn an_answer_to_a_follow_of_long_statuses_is_bounded() {
    /// Each shows 2,048 bytes: so many are within the 256 KiB of an answer, and so many more are not.
    const FITTING: usize = 100;
    const TOO_MANY: usize = 140;
    let stage = Stage::launch();
    let names: Vec<String> = (0..TOO_MANY).map(|number| format!("shown{number}")).collect();
    let shown: Vec<Socket> = names
        .iter()
        .map(|name| {
            let mut socket = stage.server.connect(name);
            socket.request(json!({"status_update": {"status": "x".repeat(2048)}}));
            socket
        })
        .collect();
    let mut attacker = stage.server.connect("attacker");
    stage.beside_a_room(|| {
        let refused = attacker.request(json!({"status_follow": {"usernames": names}}));
        assert_eq!(refused["error"]["code"], 3, "{refused}");
        assert!(refused.to_string().len() < 1000, "{refused}");
        let answer = attacker.request(json!({"status_follow": {"usernames": names[..FITTING]}}));
        let listed = answer["status"]["presences"].as_array().map_or(0, Vec::len);
        assert_eq!(listed, FITTING, "{answer}");
        assert!(answer.to_string().len() < 2 * (256 << 10), "{} bytes", answer.to_string().len());
    });
    drop(shown);
    stage.assert_bounded();
}

#[test]
fn joins_of_a_large_room_are_charged_by_the_list_that_answers_them() {
    const MEMBERS: usize = 300;
    const REFUSALS: usize = 50;
    /// Microseconds of a join, and of its list.
    const COST: u64 = 50 + MEMBERS as u64 / 2;
    /// What a session's budget has at once, in microseconds, and for each millisecond.
    const BURST: u64 = 100_000;
    const RATE: u64 = 50;
    let stage = Stage::launch();
    let mut members: Vec<Socket> = (0..MEMBERS).map(|_| stage.server.connect("member")).collect();
    members.iter_mut().for_each(|member| drop(member.join("large")));
    // The room tells its members of so many joins once a second, and lists those who were told.
    let mut probe = stage.server.connect("probe");
    stage.await_that("all members are listed", || {
        let answer = probe.request(json!({"channel_join": {"target": "large", "type": 1}}));
        answer["channel"]["presences"].as_array().is_some_and(|list| list.len() >= MEMBERS)
    });
    let mut attacker = stage.server.connect("attacker");
    stage.beside_a_room(|| {
        let (begun, mut let_in, mut refused) = (Instant::now(), 0, 0);
        while refused < REFUSALS {
            let answer = attacker.request(json!({"channel_join": {"target": "large", "type": 1}}));
            if answer["error"].is_null() {
                assert!(answer["channel"]["presences"].as_array().is_some_and(|list| list.len() >= MEMBERS));
                let_in += 1;
            } else {
                assert_eq!(answer["error"]["context"]["reason"], "work_per_session", "{answer}");
                refused += 1;
            }
        }
        let elapsed_ms = u64::try_from(begun.elapsed().as_millis()).expect("it is not that long");
        let allowed = (BURST + RATE * elapsed_ms) / COST + 1;
        assert!((10..=allowed).contains(&let_in), "{let_in} joins were let in, and {allowed} may be");
    });
    members.iter_mut().for_each(Socket::assert_open);
    stage.assert_bounded();
}

/// Asks for all of these, some at a time, and returns the answers in order.
fn ask_all(socket: &mut Socket, requests: &[Value]) -> Vec<Value> {
    let mut answers = Vec::new();
    for some in requests.chunks(50) {
        for (number, request) in some.iter().enumerate() {
            let mut request = request.clone();
            request["cid"] = json!(format!("r{number}"));
            socket.send(&request);
        }
        let end = answers.len() + some.len();
        while answers.len() < end {
            let heard = socket.receive();
            if heard.get("cid").is_some() {
                assert!(heard["error"].is_null(), "{heard}");
                answers.push(heard);
            }
        }
    }
    answers
}

#[test]
fn pages_of_a_room_whose_messages_were_removed_cost_a_bounded_number_of_rows() {
    const MESSAGES: usize = 3000;
    /// Rows that a request looks at, and what the bystander and the beginning of a page need besides.
    const ROWS_MAX: u64 = 2048 + 200;
    const REQUESTS: usize = 40;
    let stage = Stage::launch();
    let writer = stage.server.person("writer");
    // Two sessions, as one may not ask for so much at once.
    let (mut writing, mut removing) = (writer.connect(), writer.connect());
    let channel = writing.join("removed");
    removing.join("removed");
    let send = json!({"channel_message_send": {"channel_id": channel, "content": "{}"}});
    let acks = ask_all(&mut writing, &vec![send; MESSAGES]);
    let remove = |ack: &Value| {
        let id = text(&ack["channel_message_ack"]["message_id"]);
        json!({"channel_message_remove": {"channel_id": channel, "message_id": id}})
    };
    ask_all(&mut removing, &acks.iter().map(remove).collect::<Vec<_>>());
    drop((writing, removing));
    let (http, token): (Http, _) = (stage.server.http(), stage.server.sign_in("attacker").token);
    let rows = || stage.metric("stentor_store_rows_read_total");
    stage.beside_a_room(|| {
        let begun = rows();
        for request in 0..REQUESTS {
            let before = rows();
            let page = http.history(&token, &channel, "limit=100&forward=true");
            assert_eq!(page.status, 200, "{}", page.body);
            assert!(page.json()["messages"].as_array().is_none_or(Vec::is_empty), "{}", page.body);
            let read = rows() - before;
            assert!(read <= ROWS_MAX, "request {request} has read {read} rows");
        }
        let read = rows() - begun;
        assert!(
            read < 2 * ROWS_MAX + REQUESTS as u64 * 50,
            "{read} rows for {REQUESTS} requests: each jumps over them"
        );
    });
    stage.assert_bounded();
}
