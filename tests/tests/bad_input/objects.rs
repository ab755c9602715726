//! Storage objects: what is refused, and names and values that are odd and good.

use serde_json::{Value, json};
use tests::harness::person::text;
use tests::harness::{Launch, data_dir};

use crate::refusals::{Case, WRONG_IDS, check_table, wrong_cursors, wrong_limits};

#[test]
fn writing_reading_listing_and_deleting() {
    let data = data_dir();
    let server = Launch::on(data.path()).without_budgets().flag("--session-ttl", 3600).start();
    let people = server.people(["ada", "bob"]);
    let [ada, bob] = &people;
    let good = |key: &str| json!({"collection": "c", "key": key, "value": "{}", "permission_read": 2});
    ada.done("PUT", "/v2/storage", json!({"objects": [good("1"), good("2"), good("3")]}));
    let page = |who: &tests::harness::Person, rest: &str| who.done("GET", &format!("/v2/storage/c{rest}"), Value::Null);
    let own = format!("/{}", ada.id());
    let cursor = text(&page(ada, &format!("{own}?limit=2"))["cursor"]);

    let mut cases = Vec::new();
    for path in ["c", &format!("c{own}")] {
        for limit in wrong_limits(100) {
            cases.push(Case::new("limit", ada, "GET", format!("/v2/storage/{path}?limit={limit}"), 400, 3));
        }
    }
    for (what, wrong) in wrong_cursors(&cursor) {
        cases.push(Case::new(what, ada, "GET", format!("/v2/storage/c{own}?cursor={wrong}"), 400, 3));
    }
    for path in [format!("/v2/storage/c?cursor={cursor}"), format!("/v2/storage/d{own}?cursor={cursor}")] {
        cases.push(Case::new("the cursor of another list", ada, "GET", path, 400, 3));
    }
    cases.push(Case::new("another caller", bob, "GET", format!("/v2/storage/c{own}?cursor={cursor}"), 400, 3));
    for wrong in WRONG_IDS {
        cases.push(Case::new("no user", ada, "GET", format!("/v2/storage/c?user_id={wrong}"), 400, 3));
    }
    let odd = [
        json!({"objects": {}}),
        json!({"objects": [null]}),
        json!({"objects": [[]]}),
        json!({"objects": [good("new"), {}]}),
        json!({"objects": [good("new"), {"collection": "c", "key": "k", "value": {}}]}),
        json!({"objects": [good("new"), {"collection": "c", "key": "k", "value": "{}", "permission_read": 1.5}]}),
        json!({"objects": [good("new"), {"collection": "c", "key": "k", "value": "{}", "permission_write": "no"}]}),
        json!({"objects": [good("new"), {"collection": "c", "key": "k", "value": "\u{0}{}"}]}),
        json!({"objects": [good("new"), {"collection": "c", "key": "k", "value": "{}\u{7}"}]}),
        json!({"objects": [good("new"), {"collection": "c\u{0}", "key": "k", "value": "{}"}]}),
        json!({"objects": [good("new"), {"collection": "c", "key": "k".repeat(129), "value": "{}"}]}),
        json!({"objects": [good("new"), {"collection": "c", "key": "k", "value": format!("{{\"a\":{}", "[".repeat(60_000))}]}),
        json!({"objects": [good("new"), {"collection": "c", "key": "k", "value": format!("{{{}}}", " ".repeat(65_535))}]}),
        json!({"objects": [good("new"), {"collection": "c", "key": "1", "value": "{}", "version": "*"}]}),
        json!({"objects": (0..101).map(|number| good(&number.to_string())).collect::<Vec<_>>()}),
    ];
    for body in odd {
        cases.push(Case::new("a write", ada, "PUT", "/v2/storage", 400, 3).with(body));
    }
    for ids in [json!({}), json!([1]), json!([{}]), json!([{"collection": "c"}]), json!([{"key": "k"}]), json!([null])]
    {
        for (method, path) in [("POST", "/v2/storage"), ("PUT", "/v2/storage/delete")] {
            cases.push(Case::new("ids", ada, method, path, 400, 3).with(json!({ "object_ids": ids })));
        }
    }
    for wrong in WRONG_IDS {
        let ids = json!({"object_ids": [{"collection": "c", "key": "1", "user_id": wrong}]});
        cases.push(Case::new("no user", ada, "POST", "/v2/storage", 400, 3).with(ids));
    }
    let not_own = json!({"object_ids": [{"collection": "c", "key": "1"}]});
    cases.push(Case::new("of another user", bob, "PUT", "/v2/storage/delete", 400, 3).with(not_own));
    check_table(&server, &people.each_ref(), &[], cases);

    assert_eq!(page(bob, "?limit=100")["objects"].as_array().map(Vec::len), Some(3), "no write was done in part");
    assert_eq!(
        page(ada, &format!("{own}?limit=2&cursor={cursor}"))["objects"][0]["key"],
        "3",
        "the good one still works"
    );

    // Whatever a name and a value may have, it comes back.
    let deep = format!("{{\"a\":{}{}}}", "[".repeat(30_000), "]".repeat(30_000));
    for (key, value) in [
        ("\u{1}\t\n\u{7f}\u{2028}\u{feff}", "{\"\\u0000\\ud800\":\"\\u0001\"}"),
        ("../..", " {} \r\n\t"),
        ("%2e%00\"'<script>", "{\"a\":1e999,\"a\":2}"),
        ("🦀", deep.as_str()),
    ] {
        let object = json!({"collection": key, "key": key, "value": value, "permission_read": 2});
        ada.done("PUT", "/v2/storage", json!({ "objects": [object] }));
        let ids = json!({"object_ids": [{"collection": key, "key": key, "user_id": ada.id()}]});
        let read = bob.done("POST", "/v2/storage", ids);
        assert_eq!((&read["objects"][0]["key"], &read["objects"][0]["value"]), (&json!(key), &json!(value)), "{key:?}");
    }
}
