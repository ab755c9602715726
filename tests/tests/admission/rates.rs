//! The rates of the whole server: how much comes in, what the others are told, and what uses up nothing.

use std::time::Instant;

use serde_json::{Value, json};
use tests::harness::{Ending, Http, SERVER_KEY, Socket, run_node};

use crate::{Hall, allowed, header};

const PER_SECOND: u64 = 3;

/// How often each test asks: far more than the rate lets in while it runs.
const ASKED: usize = 60;

fn let_in_of(all: usize, refused: usize, begun: Instant) {
    let admitted = (all - refused) as u64;
    assert!(admitted >= PER_SECOND && admitted <= allowed(PER_SECOND, begun), "{admitted} were let in");
}

#[test]
fn openings_beyond_the_rate_are_told_when_to_come_back() {
    let hall = Hall::with(|launch| launch.flag("--openings-per-second", PER_SECOND));
    let token = hall.server.sign_in("ada").token;
    for _ in 0..ASKED {
        let (_, head) = hall.open("made-up", "");
        assert!(head.starts_with("HTTP/1.1 401 "), "a client without a good token uses up nothing: {head}");
    }
    let (begun, mut sessions, mut waits) = (Instant::now(), Vec::new(), Vec::new());
    for _ in 0..ASKED {
        let (socket, head) = hall.open(&token, "");
        if head.starts_with("HTTP/1.1 101 ") {
            sessions.push(socket);
            continue;
        }
        assert!(head.starts_with("HTTP/1.1 429 ") && header(&head, "connection") == Some("close"), "{head}");
        let wait: u64 = header(&head, "retry-after").and_then(|wait| wait.parse().ok()).expect("seconds");
        waits.push(wait);
    }
    let_in_of(ASKED, waits.len(), begun);
    assert_eq!(sessions.len(), ASKED - waits.len());
    // The last of so many refused clients waits until those before it are let in.
    let (least, most) = (waits.len() as u64 / PER_SECOND, waits.len() as u64 / PER_SECOND + 4);
    let latest = *waits.iter().max().expect("most are refused");
    assert!(waits[0] <= 4 && latest <= most, "{waits:?}");
    assert!(latest + begun.elapsed().as_secs() >= least, "they are spread over {least} s: {waits:?}");
    // A token that is not good is not looked at while the rate is used up.
    let refused = waits.len() as u64;
    assert_eq!(hall.metric("stentor_openings_refused_total{kind=\"openings_per_second\"}"), refused);
    assert_eq!(hall.metric("stentor_admission_refused_total{kind=\"openings_per_second\"}"), refused);
    assert_eq!(hall.metric("stentor_admission_rate{kind=\"openings_per_second\"}"), PER_SECOND);
    assert_eq!(hall.metric("stentor_admission_rate{kind=\"joins_per_second\"}"), 0);
    drop(sessions);
}

#[test]
fn pages_are_told_in_a_close_frame() {
    let hall = Hall::with(|launch| launch.flag("--openings-per-second", PER_SECOND));
    let token = hall.server.sign_in("ada").token;
    let (begun, mut sessions, mut told) = (Instant::now(), Vec::new(), 0);
    for _ in 0..ASKED {
        let (mut socket, head) = hall.open(&token, "Origin: https://chat.example\r\n");
        assert!(head.starts_with("HTTP/1.1 101 "), "{head}");
        socket.write(&tests::harness::masked_frame(0x81, br#"{"cid":"1","ping":{}}"#));
        let frame = socket.read_frame().expect("an answer or a close frame");
        if frame.first == 0x81 {
            sessions.push(socket);
            continue;
        }
        assert_eq!((frame.first, &frame.payload[..2]), (0x88, &1013_u16.to_be_bytes()[..]));
        let reason = String::from_utf8(frame.payload[2..].to_vec()).expect("a reason is text");
        let (wait, why) =
            reason.strip_prefix("retry_after_ms=").and_then(|rest| rest.split_once("; ")).expect("a hint");
        assert!(wait.parse::<u64>().is_ok_and(|wait| wait >= 1000) && why.contains("too many clients"), "{reason}");
        assert_eq!(socket.read_ending(), (Vec::new(), Ending::Cut), "the server has hung up");
        told += 1;
    }
    let_in_of(ASKED, told, begun);
    assert_eq!(hall.metric("stentor_pages_refused_total{kind=\"closed\"}"), told as u64);
    assert_eq!(hall.metric("stentor_openings_refused_total{kind=\"openings_per_second\"}"), told as u64);
    assert_eq!(hall.metric("stentor_sessions_opened_total"), sessions.len() as u64);
    assert_eq!(hall.metric("stentor_connections{kind=\"session\"}"), sessions.len() as u64);
}

#[test]
fn pages_beyond_what_a_shard_closes_are_refused_by_status() {
    const OPENINGS: usize = 1500;
    let hall = Hall::with(|launch| launch.flag("--openings-per-second", 1));
    let token = hall.server.sign_in("ada").token;
    let (begun, mut statuses, mut closed) = (Instant::now(), 0, 0);
    let (_session, _) = hall.open(&token, "");
    for _ in 0..OPENINGS {
        let (_, head) = hall.open(&token, "Origin: https://chat.example\r\n");
        if head.starts_with("HTTP/1.1 101 ") { closed += 1 } else { statuses += 1 }
    }
    // A few of those with 101 were let in.
    let closed_by_count = hall.metric("stentor_pages_refused_total{kind=\"closed\"}");
    assert!(closed_by_count <= closed && closed_by_count <= allowed(500, begun), "{closed_by_count}");
    assert_eq!(hall.metric("stentor_pages_refused_total{kind=\"status\"}"), statuses);
    let all = hall.metric("stentor_openings_refused_total{kind=\"openings_per_second\"}");
    assert_eq!(all, closed_by_count + statuses);
}

fn sign_in(http: &Http, authorization: &str, id: &str) -> (u16, Value, Option<u64>) {
    let answer = http.post("/v2/account/authenticate/custom", authorization, &json!({ "id": id }));
    let wait = answer.header("retry-after").and_then(|wait| wait.parse().ok());
    (answer.status, answer.json(), wait)
}

#[test]
fn sign_ins_beyond_the_rate_are_told_when_to_come_back() {
    let hall = Hall::with(|launch| launch.flag("--sign-ins-per-second", PER_SECOND));
    let http = hall.server.http();
    for number in 0..ASKED {
        let (status, ..) = sign_in(&http, "Basic b3RoZXI6", &format!("custom-{number}"));
        assert_eq!(status, 401, "a client without the server key uses up nothing");
    }
    let (begun, mut refused) = (Instant::now(), 0);
    for number in 0..ASKED {
        let (status, body, wait) = sign_in(&http, SERVER_KEY, &format!("custom-{number}"));
        if status != 200 {
            assert_eq!((status, &body["code"], wait.is_some()), (429, &json!(8), true), "{body}");
            refused += 1;
        }
    }
    let_in_of(ASKED, refused, begun);
    let count = refused as u64;
    assert_eq!(hall.metric("stentor_sign_ins_refused_total{kind=\"sign_ins_per_second\"}"), count);
    assert_eq!(hall.metric("stentor_http_requests_refused_total{kind=\"sign_ins_per_second\"}"), count);
    assert_eq!(hall.metric("stentor_admission_refused_total{kind=\"sign_ins_per_second\"}"), count);
    assert_eq!(hall.metric("stentor_sign_ins_refused_total{kind=\"server_key\"}"), ASKED as u64);
    assert_eq!(hall.metric("stentor_sign_ins_total"), ASKED as u64 - count);
}

#[test]
fn accounts_beyond_the_rate_are_not_made_and_users_still_sign_in() {
    let hall = Hall::with(|launch| launch.flag("--accounts-per-second", PER_SECOND));
    let http = hall.server.http();
    let (begun, mut refused) = (Instant::now(), 0);
    assert_eq!(sign_in(&http, SERVER_KEY, "custom-of-ada").0, 200);
    for number in 1..ASKED {
        let (status, body, wait) = sign_in(&http, SERVER_KEY, &format!("custom-{number}"));
        if status != 200 {
            assert_eq!((status, &body["code"], wait.is_some()), (429, &json!(8), true), "{body}");
            assert_eq!(sign_in(&http, SERVER_KEY, "custom-of-ada").0, 200, "she has an account");
            refused += 1;
        }
    }
    let_in_of(ASKED, refused, begun);
    assert_eq!(hall.metric("stentor_accounts_made_total"), (ASKED - refused) as u64);
    assert_eq!(hall.metric("stentor_sign_ins_refused_total{kind=\"accounts_per_second\"}"), refused as u64);
}

#[test]
fn joins_beyond_the_rate_are_told_when_to_come_back() {
    let hall = Hall::with(|launch| launch.flag("--joins-per-second", PER_SECOND));
    let mut sockets: Vec<Socket> = (0..4).map(|number| hall.server.connect(&format!("member-{number}"))).collect();
    let (begun, mut refused) = (Instant::now(), 0);
    for number in 0..ASKED {
        let join = json!({"channel_join": {"target": format!("room-{number}"), "type": 1}});
        let socket = &mut sockets[number % 4];
        let answer = socket.request(join);
        if answer["channel"].is_object() {
            continue;
        }
        let context = &answer["error"]["context"];
        assert_eq!((&answer["error"]["code"], &context["reason"]), (&json!(3), &json!("joins_per_second")), "{answer}");
        let wait: Option<u64> = context["retry_after_ms"].as_str().and_then(|wait| wait.parse().ok());
        assert!(wait.is_some_and(|wait| (1..=60_000).contains(&wait)), "{answer}");
        refused += 1;
        socket.assert_open();
    }
    let_in_of(ASKED, refused, begun);
    assert_eq!(hall.metric("stentor_requests_too_fast_total{kind=\"joins_per_second\"}"), refused as u64);
    assert_eq!(hall.metric("stentor_admission_refused_total{kind=\"joins_per_second\"}"), refused as u64);
    assert_eq!(hall.metric("stentor_members"), (ASKED - refused) as u64);
}

#[test]
fn the_shards_share_a_rate() {
    const SHARDS: u64 = 4;
    let hall = Hall::with(|launch| launch.shards(4).flag("--openings-per-second", 4));
    let token = hall.server.sign_in("ada").token;
    let begun = Instant::now();
    let heads: Vec<_> = (0..4 * ASKED).map(|_| hall.open(&token, "")).collect();
    let admitted = heads.iter().filter(|(_, head)| head.starts_with("HTTP/1.1 101 ")).count() as u64;
    // The system chooses the shard of a connection, so a shard's part may be unused.
    assert!(admitted >= 1 && admitted <= allowed(4, begun) + SHARDS, "{admitted} were let in");
}

#[test]
fn the_official_client_and_a_browser_learn_when_to_come_back() {
    run_node("admission.mjs", &[]);
}
