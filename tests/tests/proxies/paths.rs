//! What proxies often change on the way: encoded paths, long request lines, refusals.

use serde_json::json;
use tests::harness::{SERVER_KEY, Socket};

use crate::stage::Stage;

pub fn check(stage: &Stage) {
    encoded_paths_arrive_as_they_are(stage);
    long_tokens_open_sockets(stage);
    refusals_come_through(stage);
}

/// The path of a room's history contains the room's name, percent-encoded, with any characters.
fn encoded_paths_arrive_as_they_are(stage: &Stage) {
    let http = stage.proxy.http();
    let account = http.sign_in("explorer");
    let mut socket = Socket::connect(stage.proxy.address(), &account.token);
    for room in ["a/b", "a//b", "50 % + more", "who? me & you #1", "Zo\u{eb}, 鶏皮もも", "a%2Fb"] {
        let channel = socket.join(room);
        let said = socket.say(&channel, r#"{"text":"here"}"#);
        let encoded: String = channel.bytes().map(|byte| format!("%{byte:02X}")).collect();
        let answer = http.history(&account.token, &encoded, "limit=10");
        assert_eq!(answer.status, 200, "{room}: {}", answer.body);
        let page = answer.json();
        assert_eq!(page["messages"][0]["message_id"], said["channel_message_ack"]["message_id"], "{room}: {page}");
        assert_eq!(page["messages"][0]["room_name"], room);
    }
}

/// A token may carry many variables of its user, escaped, and it is in the request line of an opening.
fn long_tokens_open_sockets(stage: &Stage) {
    let http = stage.proxy.http();
    let body = json!({ "id": "custom-id-of-hoarder", "vars": { "long": "?".repeat(2_000) } });
    let answer = http.post("/v2/account/authenticate/custom?create=true&username=hoarder", SERVER_KEY, &body);
    assert_eq!(answer.status, 200, "{}", answer.body);
    let answer = answer.json();
    let token = answer["token"].as_str().expect("a token");
    assert!(token.len() > 16_000, "{} bytes", token.len());
    Socket::connect(stage.proxy.address(), token).assert_open();
}

/// A refused opening gives its reason, and does not disturb the requests after it.
fn refusals_come_through(stage: &Stage) {
    for _ in 0..3 {
        let refused = Socket::try_connect(stage.proxy.address(), "/ws?token=nonsense", &[]);
        assert_eq!(refused.err(), Some(401));
        assert_eq!(stage.proxy.http().request("GET", "/healthcheck", &[], "").status, 200);
        assert_eq!(stage.proxy.http().request("GET", "/nowhere", &[], "").status, 404);
    }
}
