//! Further credentials of an account, and the account's fields: what is refused.

use serde_json::json;
use tests::harness::person::Person;
use tests::harness::{Launch, Server, data_dir};

use crate::refusals::{Case, around, assert_refused, check_table};

fn people(server: &Server) -> [Person; 2] {
    let people = server.people(["ada", "bob"]);
    people[1].done("POST", "/v2/account/link/device", json!({"id": "device-of-bob"}));
    people[1].done("POST", "/v2/account/link/email", json!({"email": "bob@example.org", "password": "long enough"}));
    people
}

#[test]
fn linking_and_unlinking() {
    let data = data_dir();
    let server = Launch::on(data.path()).flag("--session-ttl", 3600).start();
    let people = people(&server);
    let [ada, bob] = &people;
    let email = |address: &str, password: &str| json!({"email": address, "password": password});
    let id = |text: &str| json!({ "id": text });
    // Invalid credentials, for link and unlink.
    let bad = [
        ("device", "no id", json!({})),
        ("device", "9 bytes", id("123456789")),
        ("device", "129 bytes", id(&"d".repeat(129))),
        ("device", "a blank", id("device of mine")),
        ("device", "a NUL", id("device\u{0}of-mine")),
        ("device", "a number", json!({"id": 1_234_567_890})),
        ("custom", "5 bytes", id("12345")),
        ("custom", "129 bytes", id(&"c".repeat(129))),
        ("custom", "a line feed", id("custom\nid")),
        ("email", "no @", email("example.org", "long enough")),
        ("email", "a blank", email("a b@example.org", "long enough")),
        ("email", "too short", email("a@b.c", "long enough")),
        ("email", "too long", email(&format!("{}@example.org", "a".repeat(250)), "long enough")),
        ("email", "a NUL", email("a\u{0}b@example.org", "long enough")),
    ];
    let mut cases = Vec::new();
    for (kind, what, body) in bad {
        for act in ["link", "unlink"] {
            let path = format!("/v2/account/{act}/{kind}");
            cases.push(Case::new(what, ada, "POST", path, 400, 3).with(body.clone()));
        }
    }
    for (path, body) in [("link/custom", json!({})), ("link/email", json!({"password": "long enough"}))] {
        cases.push(Case::new("nothing named", ada, "POST", format!("/v2/account/{path}"), 400, 3).with(body));
    }
    let row = |what, act: &str, body, status, code| {
        Case::new(what, ada, "POST", format!("/v2/account/{act}"), status, code).with(body)
    };
    cases.extend([
        row("short password", "link/email", email("ada@example.org", "1234567"), 400, 3),
        row("no password", "link/email", json!({"email": "ada@example.org"}), 400, 3),
        row("another's device", "link/device", id("device-of-bob"), 409, 6),
        row("another's custom id", "link/custom", id("custom-id-of-bob"), 409, 6),
        row("another's email", "link/email", email("bob@example.org", "long enough"), 409, 6),
        row("another's email in capitals", "link/email", email("BOB@Example.org", "long enough"), 409, 6),
        row("another's device", "unlink/device", id("device-of-bob"), 403, 7),
        row("another's email", "unlink/email", email("bob@example.org", "long enough"), 403, 7),
        row("nobody's device", "unlink/device", id("device-of-nobody"), 403, 7),
        row("the last way in", "unlink/custom", id("custom-id-of-ada"), 403, 7),
        row("the last way in, not named", "unlink/custom", json!({}), 403, 7),
    ]);
    check_table(&server, &people.each_ref(), &[], cases);
    let bearer = format!("Bearer {}", ada.account().token);
    for body in [&b"{\"id\":\"\xff123456789\"}"[..], b"{", b"[]", b"\"device-of-ada\""] {
        let answer = server.http().request("POST", "/v2/account/link/device", &[("Authorization", &bearer)], body);
        assert_refused(&server, &String::from_utf8_lossy(body), &answer, 400, 3);
    }
    for (length, kind) in [(10, "device"), (128, "device"), (6, "custom"), (128, "custom")] {
        let body = id(&"x".repeat(length));
        ada.done("POST", &format!("/v2/account/link/{kind}"), body.clone());
        if kind == "device" {
            ada.done("POST", "/v2/account/unlink/device", body);
        }
    }
    assert_eq!(bob.done("GET", "/v2/account", json!(null))["email"], "bob@example.org");
}

#[test]
fn a_hundred_devices_and_one_more() {
    let data = data_dir();
    let server = Launch::on(data.path()).flag("--session-ttl", 3600).start();
    let [ada] = server.people(["ada"]);
    let link = |number: usize| {
        let body = json!({"id": format!("device-number-{number}")});
        ada.ask("POST", "/v2/account/link/device", &body)
    };
    for number in 0..100 {
        assert_eq!(link(number).status, 200, "device {number}");
    }
    assert_refused(&server, "one more", &link(100), 400, 3);
    assert_eq!(link(99).status, 200, "one's own again");
    let account = ada.done("GET", "/v2/account", json!(null));
    assert_eq!(account["devices"].as_array().map(Vec::len), Some(100));
}

#[test]
fn fields_of_an_account() {
    let data = data_dir();
    let server = Launch::on(data.path()).flag("--session-ttl", 3600).start();
    let people = people(&server);
    let [ada, _] = &people;
    let widths = [
        ("username", 128),
        ("display_name", 255),
        ("avatar_url", 512),
        ("lang_tag", 18),
        ("location", 255),
        ("timezone", 255),
    ];
    let mut cases = vec![
        Case::new("nothing at all", ada, "PUT", "/v2/account", 400, 3),
        Case::new("no object", ada, "PUT", "/v2/account", 400, 3).with(json!([])),
        Case::new("a taken name", ada, "PUT", "/v2/account", 400, 3).with(json!({"username": "bob", "location": "x"})),
        Case::new("an empty name", ada, "PUT", "/v2/account", 400, 3).with(json!({"username": "", "location": "x"})),
        Case::new("a NUL", ada, "PUT", "/v2/account", 400, 3).with(json!({"username": "a\u{0}", "location": "x"})),
    ];
    for (field, bytes) in widths {
        let (long, _) = around(bytes);
        for value in [json!(long), json!("ü".repeat(bytes / 2 + 1)), json!(5), json!({}), json!([])] {
            cases.push(Case::new(field, ada, "PUT", "/v2/account", 400, 3).with(json!({field: value, "timezone": 1})));
            cases.push(Case::new(field, ada, "PUT", "/v2/account", 400, 3).with(json!({ field: value })));
        }
    }
    check_table(&server, &people.each_ref(), &[], cases);
    for (field, bytes) in widths {
        let (_, fits) = around(bytes);
        ada.done("PUT", "/v2/account", json!({ field: fits }));
        assert_eq!(ada.done("GET", "/v2/account", json!(null))["user"][field], json!(fits), "{field}");
    }
}
