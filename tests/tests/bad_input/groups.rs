//! Groups: the requests to create, change, join and lead them that are refused.

use serde_json::{Value, json};
use tests::harness::person::{Person, act_path, text};
use tests::harness::{Launch, Server, data_dir};

use crate::refusals::{
    Case, UNKNOWN, WRONG_IDS, WRONG_STATES, around, assert_refused, check_table, wrong_cursors, wrong_limits,
};

/// One user of each role, and a group in which they have these roles.
struct Stage {
    ada: Person,
    adam: Person,
    meg: Person,
    ray: Person,
    bea: Person,
    out: Person,
    group: String,
    /// A group whose two seats are taken, by `ada` and `meg`.
    full: String,
}

impl Stage {
    fn set(server: &Server) -> Self {
        let [ada, adam, meg, ray, bea, out] = server.people(["ada", "adam", "meg", "ray", "bea", "out"]);
        let group = ada.create_group(json!({"name": "the group", "description": "of all kinds", "open": true}));
        for person in [&adam, &meg, &bea] {
            person.acts("join", &group, &[]);
        }
        ada.acts("promote", &group, &[&adam]);
        ada.acts("ban", &group, &[&bea]);
        ada.done("PUT", &format!("/v2/group/{group}"), json!({"open": false}));
        ray.acts("join", &group, &[]);
        let full = ada.create_group(json!({"name": "full", "open": true, "max_count": 2}));
        meg.acts("join", &full, &[]);
        Self { ada, adam, meg, ray, bea, out, group, full }
    }

    fn people(&self) -> [&Person; 6] {
        [&self.ada, &self.adam, &self.meg, &self.ray, &self.bea, &self.out]
    }

    fn check(&self, server: &Server, cases: Vec<Case>) {
        check_table(server, &self.people(), &[&self.group, &self.full], cases);
    }
}

/// Each refusal is compared with everything that is visible, and that is more than a user may ask for in a second.
fn launch() -> (tempfile::TempDir, Server) {
    let data = data_dir();
    let server = Launch::on(data.path()).without_budgets().flag("--session-ttl", 3600).start();
    (data, server)
}

#[test]
fn making_and_changing() {
    let (_data, server) = launch();
    let stage = Stage::set(&server);
    let (long_name, _) = around(255);
    let (long_url, _) = around(512);
    let (long_tag, _) = around(18);
    let of = format!("/v2/group/{}", stage.group);
    // Errors of a new group. Except for the last three, they are errors of a change too.
    let bodies = [
        ("name taken", json!({"name": "full"})),
        ("empty name", json!({"name": ""})),
        ("long name", json!({ "name": long_name })),
        ("long name of two bytes a letter", json!({"name": "ü".repeat(128)})),
        ("control character in the name", json!({"name": "a\u{7}b"})),
        ("NUL in the name", json!({"name": "a\u{0}b"})),
        ("name is a number", json!({"name": 5})),
        ("long description", json!({"name": "new", "description": long_name})),
        ("long avatar_url", json!({"name": "new", "avatar_url": long_url})),
        ("long lang_tag", json!({"name": "new", "lang_tag": long_tag})),
        ("open is text", json!({"name": "new", "open": "true"})),
        ("open is a number", json!({"name": "new", "open": 1})),
        ("no object", json!(["new"])),
        ("no fields", json!({})),
        ("max_count below 0", json!({"name": "new", "max_count": -1})),
        ("max_count is a fraction", json!({"name": "new", "max_count": 1.5})),
        ("max_count beyond 32 bits", json!({"name": "new", "max_count": 4_294_967_297_i64})),
    ];
    let mut cases = Vec::new();
    for (number, (what, body)) in bodies.into_iter().enumerate() {
        let (status, code) = if number == 0 { (409, 6) } else { (400, 3) };
        cases.push(Case::new(what, &stage.out, "POST", "/v2/group", status, code).with(body.clone()));
        if !what.starts_with("max_count") {
            cases.push(Case::new(what, &stage.adam, "PUT", &of, 400, 3).with(body));
        }
    }
    cases.push(Case::new("nothing at all", &stage.out, "POST", "/v2/group", 400, 3));
    cases.push(Case::new("nothing at all", &stage.ada, "PUT", &of, 400, 3));
    cases.push(Case::new("empty lang_tag", &stage.ada, "PUT", &of, 400, 3).with(json!({"lang_tag": ""})));
    let theft = json!({"name": "stolen", "description": "stolen"});
    for nobody in [&stage.meg, &stage.ray, &stage.bea, &stage.out] {
        cases.push(Case::new("changed by others", nobody, "PUT", &of, 404, 5).with(theft.clone()));
        cases.push(Case::new("deleted by others", nobody, "DELETE", &of, 400, 3));
    }
    cases.push(Case::new("deleted by an admin", &stage.adam, "DELETE", &of, 400, 3));
    let unknown = format!("/v2/group/{UNKNOWN}");
    cases.push(Case::new("no such group", &stage.ada, "PUT", &unknown, 404, 5).with(theft.clone()));
    cases.push(Case::new("no such group", &stage.ada, "DELETE", &unknown, 400, 3));
    for id in WRONG_IDS {
        cases.push(Case::new("no id", &stage.ada, "PUT", format!("/v2/group/{id}"), 400, 3).with(theft.clone()));
        cases.push(Case::new("no id", &stage.ada, "DELETE", format!("/v2/group/{id}"), 400, 3));
    }
    stage.check(&server, cases);
    let bearer = format!("Bearer {}", stage.ada.account().token);
    for (method, path) in [("POST", "/v2/group"), ("PUT", &of)] {
        for body in [&b"{\"name\":\"\xff\"}"[..], b"{\"name\":\"\\ud800\"}", b"{", b"{\"name\":\"x\",}"] {
            let answer = server.http().request(method, path, &[("Authorization", &bearer)], body);
            assert_refused(&server, &format!("{method}: {}", String::from_utf8_lossy(body)), &answer, 400, 3);
        }
    }
    assert!(stage.ada.groups_called("new").is_empty() && stage.ada.groups_called("x").is_empty());
}

#[test]
fn at_the_limits() {
    let (_data, server) = launch();
    let [ada] = server.people(["ada"]);
    let ((_, name), (_, url), (_, tag)) = (around(255), around(512), around(18));
    let fields = json!({"name": name, "description": name, "avatar_url": url, "lang_tag": tag, "max_count": i32::MAX});
    let group = ada.done("POST", "/v2/group", fields.clone());
    for (field, value) in fields.as_object().expect("an object") {
        assert_eq!(group[field], *value, "{field}");
    }
    let id = text(&group["id"]);
    let wide = json!({"name": "ü".repeat(127), "description": "🎉".repeat(63), "lang_tag": "ü".repeat(9)});
    ada.done("PUT", &format!("/v2/group/{}", id.to_uppercase()), wide.clone());
    let changed = &ada.memberships()[0]["group"];
    for (field, value) in wide.as_object().expect("an object") {
        assert_eq!(changed[field], *value, "{field}");
    }
    let by_default = ada.done("POST", "/v2/group", json!({"name": " ", "max_count": 0, "lang_tag": "", "unknown": {}}));
    assert_eq!((&by_default["max_count"], &by_default["lang_tag"]), (&json!(100), &json!("en")));
    let quoted = ada.done("POST", "/v2/group", json!({"name": "quoted", "maxCount": "1", "langTag": "x"}));
    assert_eq!((&quoted["max_count"], &quoted["lang_tag"]), (&json!(1), &json!("x")), "the other spelling");
}

#[test]
fn acts_on_members() {
    let (_data, server) = launch();
    let stage = Stage::set(&server);
    let Stage { ada, adam, meg, ray, bea, out, group, full } = &stage;
    let path = |act: &str, group: &str, user: &str| format!("/v2/group/{group}/{act}?user_ids={user}");
    let mut cases = Vec::new();
    for act in ["add", "kick", "ban", "promote", "demote"] {
        for nobody in [meg, ray, bea, out] {
            let case = format!("{act} by those who lead nothing");
            cases.push(Case::new(&case, nobody, "POST", act_path(act, group, &[out]), 404, 5));
            cases.push(Case::new(&case, nobody, "POST", act_path(act, group, &[nobody]), 404, 5));
        }
        cases.push(Case::new("no such group", ada, "POST", act_path(act, UNKNOWN, &[out]), 404, 5));
        for id in WRONG_IDS {
            cases.push(Case::new("no group's id", ada, "POST", act_path(act, id, &[out]), 400, 3));
            cases.push(Case::new("no user's id", ada, "POST", path(act, group, id), 400, 3));
            let among = format!("{}&user_ids={id}", act_path(act, group, &[ray, meg]));
            cases.push(Case::new("no user's id among others", ada, "POST", among, 400, 3));
        }
        cases.push(Case::new("an empty id", ada, "POST", path(act, group, ""), 400, 3));
    }
    let ask = |what, who, act, group, users: &[&Person], status, code| {
        Case::new(what, who, "POST", act_path(act, group, users), status, code)
    };
    cases.extend([
        ask("demote nobody", ada, "demote", group, &[], 400, 3),
        Case::new("add somebody unknown", ada, "POST", path("add", group, UNKNOWN), 400, 3),
        Case::new(
            "add somebody unknown among others",
            ada,
            "POST",
            format!("{}&user_ids={UNKNOWN}", act_path("add", group, &[ray, out])),
            400,
            3,
        ),
        ask("join without a seat", out, "join", full, &[], 400, 3),
        ask("join without a seat, being in", meg, "join", full, &[], 400, 3),
        ask("add without a seat", ada, "add", full, &[out], 400, 3),
        ask("add without a seat, some being in", ada, "add", full, &[meg, out], 400, 3),
        ask("the last superadmin leaves", ada, "leave", group, &[], 400, 3),
        Case::new("join no such group", out, "POST", act_path("join", UNKNOWN, &[]), 404, 5),
    ]);
    for id in WRONG_IDS {
        for act in ["join", "leave"] {
            cases.push(Case::new("no group's id", out, "POST", act_path(act, id, &[]), 400, 3));
        }
    }
    stage.check(&server, cases);

    // A request without effect is not refused, and changes nothing.
    let before = ada.roster(group);
    for (who, act, users) in [
        (meg, "join", vec![]),
        (ray, "join", vec![]),
        (bea, "join", vec![]),
        (bea, "leave", vec![]),
        (out, "leave", vec![]),
        (adam, "kick", vec![ada, adam, out]),
        (adam, "ban", vec![ada, adam, out]),
        (adam, "promote", vec![ada, adam, ray, bea, out]),
        (adam, "demote", vec![ada, adam, meg, ray, bea, out]),
        (adam, "add", vec![ada, adam, meg, bea]),
        (ada, "add", vec![]),
        (ada, "kick", vec![]),
        (ada, "ban", vec![]),
        (ada, "promote", vec![]),
    ] {
        who.acts(act, group, &users);
        assert_eq!(ada.roster(group), before, "{} {act}", who.name());
    }
    out.done("POST", &format!("/v2/group/{UNKNOWN}/leave"), Value::Null);
    for person in stage.people() {
        assert_eq!(person.groups().len(), person.memberships().len());
    }
}

#[test]
fn listings() {
    let (_data, server) = launch();
    let stage = Stage::set(&server);
    let Stage { ada, out, group, .. } = &stage;
    let (of_group, of_user) = (format!("/v2/group/{group}/user"), format!("/v2/user/{}/group", ada.id()));
    let first = |path: &str| text(&out.done("GET", path, Value::Null)["cursor"]);
    let mut cases = Vec::new();
    for path in ["/v2/group", &of_group, &of_user] {
        for limit in wrong_limits(100) {
            cases.push(Case::new("limit", out, "GET", format!("{path}?limit={limit}"), 400, 3));
        }
        let good = first(&format!("{path}?limit=1"));
        for (what, cursor) in wrong_cursors(&good) {
            cases.push(Case::new(what, out, "GET", format!("{path}?limit=1&cursor={cursor}"), 400, 3));
        }
        for other in ["/v2/group", &of_group, &of_user, "/v2/friend", "/v2/channel/2...lobby"] {
            if other != path {
                let crossed = format!("{other}?limit=1&cursor={good}");
                cases.push(Case::new("a cursor of another listing", out, "GET", crossed, 400, 3));
            }
        }
    }
    for path in [&of_group, &of_user] {
        for state in WRONG_STATES {
            cases.push(Case::new("state", out, "GET", format!("{path}?state={state}"), 400, 3));
        }
        let good = first(&format!("{path}?limit=1"));
        let filtered = format!("{path}?limit=1&state=2&cursor={good}");
        cases.push(Case::new("a cursor with another state", out, "GET", filtered, 400, 3));
    }
    let good = first("/v2/group?limit=1");
    for query in [
        "name=a%25&open=true",
        "name=a%25&members=1",
        "name=a%25&lang_tag=en",
        "members=-1",
        "members=x",
        "members=",
        "members=99999999999",
        "members=1&members=1",
        "open=maybe",
        "open=",
        "open=true&open=true",
        "name=a&name=a",
        "name=%FF",
        &format!("open=true&limit=1&cursor={good}"),
        &format!("lang_tag=en&limit=1&cursor={good}"),
        &format!("name=t%25&limit=1&cursor={good}"),
    ] {
        cases.push(Case::new("filter", out, "GET", format!("/v2/group?{query}"), 400, 3));
    }
    for id in WRONG_IDS {
        cases.push(Case::new("no group's id", out, "GET", format!("/v2/group/{id}/user"), 400, 3));
        cases.push(Case::new("no user's id", out, "GET", format!("/v2/user/{id}/group"), 400, 3));
    }
    stage.check(&server, cases);
    for path in [format!("/v2/group/{UNKNOWN}/user"), format!("/v2/user/{UNKNOWN}/group?state=4&")] {
        assert_eq!(out.done("GET", &path, Value::Null), json!({}), "{path}");
    }
}
