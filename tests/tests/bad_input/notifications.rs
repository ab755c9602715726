//! Notifications: what is refused.

use serde_json::{Value, json};
use tests::harness::person::text;
use tests::harness::{Launch, data_dir};

use crate::refusals::{Case, UNKNOWN, WRONG_IDS, check_table, wrong_cursors, wrong_limits};

#[test]
fn listing_and_deleting() {
    let data = data_dir();
    let server = Launch::on(data.path()).without_budgets().flag("--session-ttl", 3600).start();
    let people = server.people(["ada", "bob", "cleo"]);
    let [ada, bob, cleo] = &people;
    for other in [bob, cleo] {
        other.relates("add", ada);
    }
    cleo.relates("add", bob);
    let good = text(&ada.done("GET", "/v2/notification", Value::Null)["cacheable_cursor"]);
    let id = text(&ada.notifications()[0]["id"]);
    let mut cases = Vec::new();
    for limit in wrong_limits(100) {
        cases.push(Case::new("limit", ada, "GET", format!("/v2/notification?limit={limit}"), 400, 3));
    }
    for (what, cursor) in wrong_cursors(&good) {
        let cursor = cursor.replace("cursor=", "cacheable_cursor=");
        cases.push(Case::new(what, ada, "GET", format!("/v2/notification?cacheable_cursor={cursor}"), 400, 3));
    }
    let path = format!("/v2/notification?cacheable_cursor={good}");
    cases.push(Case::new("somebody else's cursor", bob, "GET", &path, 400, 3));
    let friends = text(&ada.done("GET", "/v2/friend?limit=1", Value::Null)["cursor"]);
    let crossed = format!("/v2/notification?cacheable_cursor={friends}");
    cases.push(Case::new("a cursor of friends", ada, "GET", crossed, 400, 3));
    for wrong in WRONG_IDS.iter().copied().chain([""]) {
        cases.push(Case::new("no id", ada, "DELETE", format!("/v2/notification?ids={wrong}"), 400, 3));
        let among = format!("/v2/notification?ids={id}&ids={wrong}");
        cases.push(Case::new("no id among others", ada, "DELETE", among, 400, 3));
    }
    check_table(&server, &people.each_ref(), &[], cases);

    assert_eq!(ada.done("GET", &path, Value::Null)["notifications"][0]["sender_id"], cleo.id());
    for query in ["", &format!("?ids={UNKNOWN}"), "?unknown=x&"] {
        assert_eq!(ada.done("DELETE", &format!("/v2/notification{query}"), Value::Null), json!({}));
    }
    bob.done("DELETE", &format!("/v2/notification?ids={id}"), Value::Null);
    assert_eq!((ada.notifications().len(), bob.notifications().len()), (2, 1));
}
