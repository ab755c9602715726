//! A user who asks for far more than a person would, over sockets and over HTTP: refused after the user's budget, and
//! nobody else notices.

use std::time::Instant;

use serde_json::{Value, json};
use tests::harness::{Http, Launch, RawSocket, Socket, masked_frame};
use uuid::Uuid;

use crate::stage::{ATTACKER, BYSTANDER, Stage};

/// Milliseconds of work a second of one user: so little that few requests exceed it, and that the debt of a flood lasts.
const RATE: u64 = 1;

/// Milliseconds of work that come at once.
const BURST: u64 = 2 * RATE;

/// Refusals of each kind until the attacker stops.
const REFUSALS: usize = 200;

/// Messages on the page that the attacker reads.
const PAGE: usize = 50;

/// What a page costs at least, in microseconds: the request, and each message.
const PAGE_COST: u64 = 150 + 5 * PAGE as u64;

/// Asks again and again until so many requests were refused. Returns how many were let in.
fn until_refused(mut ask: impl FnMut() -> bool) -> u64 {
    let (mut admitted, mut refused) = (0, 0);
    while refused < REFUSALS {
        if ask() { admitted += 1 } else { refused += 1 }
    }
    admitted
}

/// Whether a session's request was let in. If not, the context says why and for how long.
fn let_in(answer: &Value) -> bool {
    let context = &answer["error"]["context"];
    if context.is_null() {
        return true;
    }
    assert_eq!((&answer["error"]["code"], &context["reason"]), (&json!(3), &json!("work_per_user")), "{answer}");
    let wait: u64 = context["retry_after_ms"].as_str().and_then(|wait| wait.parse().ok()).expect("milliseconds");
    assert!((1..=3000).contains(&wait), "{answer}");
    false
}

/// Requests of this cost that the budget lets in from `begun` until now: the burst, what has come back, and the last one.
fn allowed(begun: Instant, cost_micros: u64) -> u64 {
    let work = BURST * 1000 + RATE * u64::try_from(begun.elapsed().as_millis()).expect("it is not that long");
    work / cost_micros + 1
}

/// A user who floods, with two sessions.
struct Flooder {
    http: Http,
    token: String,
    first: Socket,
    second: Socket,
}

impl Flooder {
    fn new(stage: &Stage, name: &str) -> Self {
        Self {
            http: stage.server.http(),
            token: stage.server.sign_in(name).token,
            first: stage.server.connect(name),
            second: stage.server.connect(name),
        }
    }

    /// Asks for a page of history. Returns whether it was let in.
    fn read_page(&self, channel: &str) -> bool {
        let answer = self.http.history(&self.token, channel, &format!("limit={PAGE}"));
        if answer.status == 429 {
            let retry_after = answer.header("Retry-After").and_then(|after| after.parse::<u64>().ok());
            assert!(answer.json()["code"] == 8 && retry_after.is_some(), "{answer:?}");
        } else {
            assert_eq!(answer.status, 200, "{answer:?}");
        }
        answer.status == 200
    }

    fn follow(&mut self, users: &[String]) -> bool {
        let_in(&self.first.request(json!({"status_follow": {"user_ids": users}})))
    }

    fn show(&mut self, status: usize) -> bool {
        let_in(&self.second.request(json!({"status_update": {"status": status.to_string()}})))
    }

    /// Its sessions are still answered, whatever it has asked for.
    fn assert_pings_are_answered(&mut self) {
        self.first.assert_open();
        self.second.assert_open();
    }
}

#[test]
fn a_flood_of_one_user_is_refused_after_its_budget_and_its_pings_are_answered() {
    const FOLLOWED: u64 = 80;
    let stage = Stage::launch_with(|launch: Launch| launch.flag("--work-per-user", RATE));
    let (mut writer, mut reader) = (stage.server.connect("writer"), stage.server.connect("reader"));
    let hall = writer.join("hall");
    reader.join("hall");
    for number in 0..PAGE {
        say(&mut writer, &hall, number);
    }
    let users: Vec<String> = (0..FOLLOWED).map(|_| Uuid::new_v4().to_string()).collect();
    let rows = || stage.metric("stentor_store_rows_read_total");

    let mut pages = Flooder::new(&stage, "flooder-of-pages");
    let (begun, before) = (Instant::now(), rows());
    let admitted = until_refused(|| pages.read_page(&hall));
    assert!((1..=allowed(begun, PAGE_COST)).contains(&admitted), "{admitted} pages were read");
    // A page reads one row more than it shows.
    let read = rows() - before;
    assert!(read <= admitted * (PAGE as u64 + 8), "{read} rows were read for {admitted} pages");
    assert!(!pages.follow(&users), "sockets and HTTP share the budget");
    pages.assert_pings_are_answered();
    let opening = Socket::try_connect(stage.server.address(), &format!("/ws?token={}", pages.token), &[]);
    assert_eq!(opening.err(), Some(429), "a user beyond the budget opens no session");
    say(&mut writer, &hall, PAGE);

    let mut follows = Flooder::new(&stage, "flooder-of-follows");
    let begun = Instant::now();
    let admitted = until_refused(|| follows.follow(&users));
    assert!((1..=allowed(begun, 50 + 20 * FOLLOWED)).contains(&admitted), "{admitted} requests to follow were let in");
    assert!(!follows.read_page(&hall) && !follows.show(0), "the user's other session shares the budget");
    follows.assert_pings_are_answered();
    say(&mut writer, &hall, PAGE + 1);

    let mut statuses = Flooder::new(&stage, "flooder-of-statuses");
    let (begun, mut status) = (Instant::now(), 0);
    let admitted = until_refused(|| {
        status += 1;
        statuses.show(status)
    });
    // Both sessions of the user are told.
    assert!((1..=allowed(begun, 30 + 2 * 7)).contains(&admitted), "{admitted} statuses were let in");
    statuses.assert_pings_are_answered();
    say(&mut writer, &hall, PAGE + 2);

    let too_fast = stage.metric("stentor_requests_too_fast_total{kind=\"work_per_user\"}");
    assert_eq!(too_fast, 2 * REFUSALS as u64 + 2, "nobody but the flooders was refused");
    let over_budget = stage.metric("stentor_http_requests_refused_total{kind=\"over_budget\"}");
    assert_eq!(over_budget, REFUSALS as u64 + 1);
    reader.catch_up();
    let heard: Vec<Value> = reader.take_messages().iter().map(|message| message["content"].clone()).collect();
    let expected: Vec<Value> = (0..PAGE + 3).map(|number| json!(content(number))).collect();
    assert_eq!(heard, expected, "every message came to the bystander, in order");
}

fn say(writer: &mut Socket, channel: &str, number: usize) {
    let answer = writer.say(channel, &content(number));
    assert!(answer["channel_message_ack"].is_object(), "{answer}");
}

fn content(number: usize) -> String {
    format!("{{\"n\":{number}}}")
}

#[test]
fn a_flood_of_pings_is_read_later_and_every_ping_is_answered() {
    const PINGS: usize = 2000;
    // The user's budget is off, so that the session's budget is met first.
    let stage = Stage::launch_with(|launch: Launch| launch.flag("--work-per-session", 1).flag("--work-per-user", 0));
    let mut bystander = stage.server.connect("bystander");
    let mut flooder = stage.server.connect("flooder");
    for number in 0..PINGS {
        flooder.send(&json!({"cid": number.to_string(), "ping": {}}));
    }
    // Two milliseconds of work come at once, and one of debt: three hundred pings. The others are read later.
    stage.await_metric("stentor_sockets_resting", 1);
    for _ in 0..100 {
        bystander.assert_open();
    }
    for number in 0..PINGS / 4 {
        assert_eq!(flooder.receive(), json!({"cid": number.to_string(), "pong": {}}));
    }
}

#[test]
fn a_flood_of_frames_that_are_no_requests_is_read_later() {
    /// A pong, and a part of a message that never ends.
    const SILENT_FRAMES: [u8; 2] = [0x8a, 0x00];
    const FRAMES: usize = 20_000;
    for first in SILENT_FRAMES {
        // The user's budget is off, so that the session's budget is met first.
        let stage =
            Stage::launch_with(|launch: Launch| launch.flag("--work-per-session", 1).flag("--work-per-user", 0));
        let mut bystander = stage.server.connect("bystander");
        let mut flooder = RawSocket::upgraded(stage.server.address(), &stage.server.sign_in("flooder").token);
        flooder.write(&masked_frame(0x01, b""));
        // Three milliseconds of work are within the bounds, and each frame takes one microsecond.
        flooder.write(&masked_frame(first, b"").repeat(FRAMES));
        stage.await_metric("stentor_sockets_resting", 1);
        for _ in 0..100 {
            bystander.assert_open();
        }
    }
}

#[test]
fn a_flood_of_one_address_is_refused_and_other_addresses_are_not() {
    const UPGRADE: &str = "Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n\
                           Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";
    // The user's budget is off, so that the address's budget is met first.
    let stage = Stage::launch_with(|launch: Launch| launch.flag("--work-per-address", RATE).flag("--work-per-user", 0));
    let token = stage.server.sign_in("flooder").token;
    let head_of = |path: &str, headers: &str, from| {
        let mut socket = stage.connect(from);
        let head = format!("GET {path} HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer {token}\r\n{headers}\r\n");
        socket.write(head.as_bytes());
        socket.read_head()
    };
    let get = |path, from| head_of(path, "", from);
    let open = |from| head_of("/ws", UPGRADE, from);
    let is_ok = |head: &str| head.starts_with("HTTP/1.1 200 ");
    let is_refused =
        |head: &str| head.starts_with("HTTP/1.1 429 ") && head.to_lowercase().contains("\r\nretry-after: ");

    let begun = Instant::now();
    let admitted = until_refused(|| {
        let head = get("/v2/account", ATTACKER);
        assert!(is_ok(&head) || is_refused(&head), "{head}");
        is_ok(&head)
    });
    assert!((1..=allowed(begun, 150)).contains(&admitted), "{admitted} requests were let in");
    assert!(is_refused(&open(ATTACKER)), "an opening from the address of the flood");
    assert!(open(BYSTANDER).starts_with("HTTP/1.1 101 "), "an opening from another address");
    assert!(is_ok(&get("/v2/account", BYSTANDER)), "the same user at another address");
    assert!(is_ok(&get("/healthcheck", ATTACKER)), "health checks are never refused");
    assert!(stage.metric("stentor_openings_refused_total{kind=\"over_budget\"}") >= 1);

    // The sessions of two users at one address share its budget.
    let (mut one, mut other) = (stage.server.connect("one"), stage.server.connect("other"));
    let reason = loop {
        let answer = one.request(json!({"status_update": {"status": "here"}}));
        if let Some(reason) = answer["error"]["context"]["reason"].as_str() {
            break reason.to_owned();
        }
    };
    assert_eq!(reason, "work_per_address");
    let answer = other.request(json!({"status_update": {"status": "here"}}));
    assert_eq!(answer["error"]["context"]["reason"], json!("work_per_address"), "{answer}");
    other.assert_open();
}
