//! Friends and blocks: what is refused.

use serde_json::{Value, json};
use tests::harness::person::{Person, text};
use tests::harness::{Launch, data_dir};

use crate::refusals::{Case, UNKNOWN, WRONG_IDS, WRONG_STATES, check_table, wrong_cursors, wrong_limits};

const CALLS: [(&str, &str); 3] = [("POST", "/v2/friend"), ("DELETE", "/v2/friend"), ("POST", "/v2/friend/block")];

/// Puts one user of each state on `ada`'s list.
fn acquaint(ada: &Person, friend: &Person, asked: &Person, asks: &Person, blocked: &Person) {
    for other in [friend, asked] {
        ada.relates("add", other);
    }
    friend.relates("add", ada);
    asks.relates("add", ada);
    ada.relates("block", blocked);
}

#[test]
fn people_who_cannot_be_meant() {
    let data = data_dir();
    let server = Launch::on(data.path()).without_budgets().flag("--session-ttl", 3600).start();
    let people = server.people(["ada", "friend", "asked", "asks", "blocked", "out"]);
    let [ada, friend, asked, asks, blocked, out] = &people;
    acquaint(ada, friend, asked, asks, blocked);
    let mut cases = Vec::new();
    for (method, path) in CALLS {
        let mut refuse = |what: &str, query: &str| {
            cases.push(Case::new(what, ada, method, format!("{path}?{query}"), 400, 3));
        };
        refuse("oneself", &format!("ids={}", ada.id()));
        refuse("oneself in capitals", &format!("ids={}", ada.id().to_uppercase()));
        refuse("oneself by name", "usernames=ada");
        refuse("oneself among others", &format!("ids={}&usernames=ada", out.id()));
        refuse("an empty name", "usernames=");
        refuse("an empty name among others", &format!("ids={}&usernames=out&usernames=", out.id()));
        refuse("an empty id", "ids=");
        refuse("a name that is not UTF-8", "usernames=%FF");
        for id in WRONG_IDS {
            refuse("no id", &format!("ids={id}"));
            refuse("no id among others", &format!("ids={}&ids={id}&usernames=out", out.id()));
        }
        if path == "/v2/friend" && method == "POST" {
            for (what, metadata) in [
                ("no JSON", "x"),
                ("no object", "%5B%5D"),
                ("half an object", "%7B"),
                ("two objects", "%7B%7D%7B%7D"),
                ("a control character", "%7B%22a%22:%22%01%22%7D"),
                ("no UTF-8", "%7B%22a%22:%22%FF%22%7D"),
            ] {
                refuse(&format!("metadata: {what}"), &format!("ids={}&metadata={metadata}", out.id()));
            }
            let long = format!("%7B%22a%22:%22{}%22%7D", "x".repeat(1017));
            refuse("metadata of 1025 bytes", &format!("ids={}&metadata={long}", out.id()));
            refuse("metadata twice", &format!("ids={}&metadata=%7B%7D&metadata=%7B%7D", out.id()));
        }
        if method == "POST" {
            refuse("a name of nobody", "usernames=nobody");
            refuse("a NUL in a name", "usernames=o%00ut");
            refuse("names of nobody", &format!("usernames=nobody&usernames={}", "n".repeat(129)));
        }
    }
    check_table(&server, &people.each_ref(), &[], cases);

    // A request without effect is not refused, and changes nothing.
    let before = people.each_ref().map(Person::friends);
    for (method, path) in CALLS {
        for query in ["", &format!("?ids={UNKNOWN}"), &format!("?ids={UNKNOWN}&usernames=nobody&unknown=1&")] {
            ada.done(method, &format!("{path}{query}"), json!({"ids": [out.id()]}));
        }
    }
    for other in [friend, asked, blocked] {
        ada.relates("add", other);
        if other.id() != blocked.id() {
            assert_eq!(other.friends().len(), 1);
        }
    }
    blocked.relates("add", ada);
    ada.relates("block", blocked);
    ada.relates("delete", out);
    ada.done("DELETE", "/v2/friend?usernames=nobody", Value::Null);
    assert_eq!(people.each_ref().map(Person::friends), before);
}

#[test]
fn listings() {
    let data = data_dir();
    let server = Launch::on(data.path()).without_budgets().flag("--session-ttl", 3600).start();
    let people = server.people(["ada", "friend", "asked", "asks", "blocked"]);
    let [ada, friend, asked, asks, blocked] = &people;
    acquaint(ada, friend, asked, asks, blocked);
    friend.relates("add", asks);
    friend.relates("add", asked);
    let good = text(&ada.done("GET", "/v2/friend?limit=1", Value::Null)["cursor"]);
    let mut cases = Vec::new();
    for limit in wrong_limits(1000) {
        cases.push(Case::new("limit", ada, "GET", format!("/v2/friend?limit={limit}"), 400, 3));
    }
    for state in WRONG_STATES.iter().copied().chain(["4"]) {
        cases.push(Case::new("state", ada, "GET", format!("/v2/friend?state={state}"), 400, 3));
    }
    for (what, cursor) in wrong_cursors(&good) {
        cases.push(Case::new(what, ada, "GET", format!("/v2/friend?limit=1&cursor={cursor}"), 400, 3));
    }
    let path = format!("/v2/friend?limit=1&cursor={good}");
    cases.push(Case::new("somebody else's cursor", friend, "GET", &path, 400, 3));
    cases.push(Case::new("a cursor with a state", ada, "GET", format!("{path}&state=1"), 400, 3));
    check_table(&server, &people.each_ref(), &[], cases);
    assert_eq!(ada.done("GET", &path, Value::Null)["friends"][0]["state"], 1, "the good one still works");
    assert_eq!(ada.done("GET", "/v2/friend?limit=1000&unknown=x&", Value::Null)["friends"][3]["state"], 3);
}
