//! Tables of HTTP requests that are refused. Each row has its status and code, and changes nothing that a user can see.

use serde_json::{Value, json};
use tests::harness::person::{Person, group_channel};
use tests::harness::{Answer, Server};

/// A row: what is wrong, which user sends the request, and what the answer is.
pub struct Case<'a> {
    pub what: String,
    pub who: &'a Person,
    pub method: &'static str,
    pub path: String,
    pub body: Value,
    pub status: u16,
    pub code: i64,
}

impl<'a> Case<'a> {
    /// A request without a body.
    pub fn new(
        what: &str,
        who: &'a Person,
        method: &'static str,
        path: impl Into<String>,
        status: u16,
        code: i64,
    ) -> Self {
        Self { what: what.into(), who, method, path: path.into(), body: Value::Null, status, code }
    }

    pub fn with(mut self, body: Value) -> Self {
        self.body = body;
        self
    }
}

/// Asserts the status and the code in the body, and that the server still works.
pub fn assert_refused(server: &Server, case: &str, answer: &Answer, status: u16, code: i64) {
    assert_says(case, answer, status, code);
    server.assert_works(case);
}

fn assert_says(case: &str, answer: &Answer, status: u16, code: i64) {
    assert_eq!(answer.status, status, "{case}: {}", answer.body);
    let body = answer.json();
    assert_eq!(body["code"], code, "{case}: {body}");
    assert!(body["message"].as_str().is_some_and(|text| !text.is_empty()), "{case}: {body}");
    let members: Vec<_> = body.as_object().expect("an object").keys().collect();
    assert_eq!(members, ["code", "message"], "{case}");
    assert!(answer.header("content-type").is_some_and(|kind| kind.starts_with("application/json")), "{case}");
    assert_eq!(answer.header("www-authenticate").is_some(), status == 401, "{case}");
}

/// Sends the requests of all rows. After each row, checks that nothing has changed for these people and groups.
pub fn check_table(server: &Server, people: &[&Person], groups: &[&str], cases: Vec<Case>) {
    let mut sockets: Vec<_> = people.iter().map(|person| person.connect()).collect();
    let before = seen(people, groups);
    for case in cases {
        let what = format!("{} ({} {} {} {})", case.what, case.who.name(), case.method, case.path, case.body);
        assert_says(&what, &case.who.ask(case.method, &case.path, &case.body), case.status, case.code);
        assert_eq!(seen(people, groups), before, "{what}: nothing has changed");
    }
    server.assert_works("a table of refusals");
    for socket in &mut sockets {
        socket.catch_up();
        assert!(socket.pushes.is_empty(), "nobody hears of what was refused: {:?}", socket.pushes);
    }
}

/// Everything that is visible of these people and groups.
fn seen(people: &[&Person], groups: &[&str]) -> Value {
    let person = |person: &&Person| {
        json!({
            "account": person.done("GET", "/v2/account", Value::Null),
            "groups": person.memberships(),
            "friends": person.friends(),
            "notifications": person.notifications(),
        })
    };
    let group = |group: &&str| {
        let channel = group_channel(group);
        let founder = people.iter().find(|person| person.groups().get(*group) == Some(&0));
        json!({"roster": people[0].roster(group), "history": founder.map(|person| person.history(&channel))})
    };
    json!({
        "people": people.iter().map(person).collect::<Vec<_>>(),
        "groups": groups.iter().map(group).collect::<Vec<_>>(),
    })
}

/// A text that is one byte longer than `bytes`, which is refused, and a text of exactly `bytes`, which is accepted.
pub fn around(bytes: usize) -> (String, String) {
    ("n".repeat(bytes + 1), "n".repeat(bytes))
}

/// Changes one character in the middle.
pub fn forge(cursor: &str) -> String {
    let middle = cursor.len() / 2;
    let changed = if &cursor[middle..=middle] == "A" { "B" } else { "A" };
    format!("{}{changed}{}", &cursor[..middle], &cursor[middle + 1..])
}

/// Cursors that the server never gave, or gave for another listing. `good` is a cursor of this listing.
pub fn wrong_cursors(good: &str) -> Vec<(&'static str, String)> {
    vec![
        ("a made-up cursor", "garbage".into()),
        ("a NUL as a cursor", "%00".into()),
        ("a cursor that is not ASCII", "%F0%9F%8E%89".into()),
        ("a cursor that is not UTF-8", "%FF".into()),
        ("a cursor of JSON", "e30".into()),
        ("a cursor with one letter changed", forge(good)),
        ("a cursor cut short", good[..good.len() - 4].into()),
        ("a cursor made longer", format!("{good}AAAA")),
        ("a cursor given twice", format!("{good}&cursor={good}")),
    ]
}

/// Limits that a listing with the maximum `most` refuses.
pub fn wrong_limits(most: u32) -> Vec<String> {
    let limits = ["0", "-1", "abc", "", "1.5", "99999999999", "1&limit=1", "%FF"];
    limits.iter().map(|limit| (*limit).to_string()).chain([(most + 1).to_string()]).collect()
}

/// Invalid states.
pub const WRONG_STATES: [&str; 6] = ["5", "-1", "abc", "", "1.5", "1&state=1"];

pub const UNKNOWN: &str = "65aea872-a336-4029-90c9-6f507b75281c";

/// Texts that are refused wherever an id is expected.
pub const WRONG_IDS: [&str; 7] = [
    "nonsense",
    "1",
    "65aea872-a336-4029-90c9-6f507b75281",
    "65aea872-a336-4029-90c9-6f507b75281g",
    "%00",
    "%FF",
    "a%20b",
];
