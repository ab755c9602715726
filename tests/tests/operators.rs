//! Operators look at channels and people of a running server, and close sessions, by calls and by commands.

use std::path::Path;

use serde_json::{Value, json};
use tests::harness::{Closed, Http, Launch, Server, Socket, data_dir, run_program};

const MEMBERS: usize = 6;

struct Office {
    admin: Http,
    token: String,
}

impl Office {
    fn of(server: &Server, data: &Path) -> Self {
        let token = std::fs::read_to_string(data.join("admin.token")).expect("the server has made it");
        Self { admin: server.admin(), token: format!("Bearer {}", token.trim()) }
    }

    fn ask(&self, target: &str) -> (u16, Value) {
        let answer = self.admin.request("GET", target, &[("Authorization", &self.token)], "");
        (answer.status, answer.json())
    }

    fn get(&self, target: &str) -> Value {
        let (status, body) = self.ask(target);
        assert_eq!(status, 200, "{target}: {body}");
        body
    }

    /// Asks until an answer is as wanted. What sessions do reaches the owners of channels a moment later.
    fn until(&self, target: &str, wanted: impl Fn(&Value) -> bool) -> Value {
        for _ in 0..2_000 {
            let body = self.get(target);
            if wanted(&body) {
                return body;
            }
            std::thread::sleep(std::time::Duration::from_millis(20));
        }
        panic!("{target} never became as wanted: {}", self.get(target));
    }
}

fn command(server: &Server, data: &Path, arguments: &[&str]) -> Result<Value, String> {
    let (data, admin) = (data.display().to_string(), server.admin().address().to_string());
    let output = run_program(&[arguments, &["--data", &data, "--admin", &admin]].concat());
    if output.status.success() {
        return Ok(serde_json::from_slice(&output.stdout).expect("JSON"));
    }
    Err(String::from_utf8_lossy(&output.stderr).into_owned())
}

#[test]
fn operators_see_and_close_sessions() {
    let data = data_dir();
    let server =
        Launch::on(data.path()).admin("127.0.0.1:0").shards(2).flag("--session-ttl", 3600).without_budgets().start();
    let office = Office::of(&server, data.path());
    let mut members: Vec<Socket> = (0..MEMBERS).map(|number| server.connect(&format!("member-{number}"))).collect();
    for (number, member) in members.iter_mut().enumerate() {
        member.join("hall");
        if number < 2 {
            member.join("lobby");
        }
    }
    let ada = server.sign_in("ada");
    let mut theirs: Vec<Socket> = (0..3).map(|_| Socket::connect(server.address(), &ada.token)).collect();
    theirs[0].join("hall");

    let page = office.until("/v1/channels?limit=1", |page| page["channels"][0]["members"] == MEMBERS + 1);
    assert_eq!((&page["by"], &page["channels"][0]["id"]), (&json!("members"), &json!("2...hall")));
    assert_eq!(page["unanswered"], json!([]));
    let cursor = page["cursor"].as_str().expect("another page follows");
    let next = office.get(&format!("/v1/channels?limit=1&cursor={cursor}"));
    assert_eq!((&next["channels"][0]["id"], &next["channels"][0]["members"]), (&json!("2...lobby"), &json!(2)));
    assert_eq!(next["cursor"], Value::Null);

    let seen = office.until("/v1/users/ada", |user| user["memberships"] == 1);
    assert_eq!((&seen["id"], &seen["sessions"]), (&json!(ada.user_id), &json!(3)));
    let listed = seen["listed"].as_array().expect("a list");
    assert_eq!(listed.len(), 3);
    for session in listed {
        assert_eq!(session["address"], "127.0.0.1");
        assert!(
            session["since"].as_str().is_some_and(|since| since.starts_with("20") && since.ends_with('Z')),
            "{session}"
        );
    }
    let member = listed.iter().find(|session| session["memberships"] == 1).expect("one has joined");
    assert_eq!(member["channels"], json!(["2...hall"]));
    assert_eq!(office.get(&format!("/v1/users/{}", ada.user_id))["sessions"], 3);
    assert_eq!(office.get(&format!("/v1/users/id:{}", ada.user_id))["sessions"], 3);
    assert_eq!(office.get("/v1/users/name:ada")["sessions"], 3);
    let (status, refused) = office.ask("/v1/users/nobody");
    assert_eq!((status, &refused["code"]), (404, &json!("user_unknown")));

    let id = member["id"].as_str().expect("an id");
    let closed =
        command(&server, data.path(), &["disconnect", "--session", id, "--reason", "be nice"]).expect("it is there");
    assert_eq!((&closed["sessions"], &closed["code"], &closed["unanswered"]), (&json!(1), &json!(1008), &json!([])));
    assert_eq!(theirs.remove(0).expect_closed(), Closed::Frame { code: 1008, reason: "be nice".into() });
    theirs[0].assert_open();

    let printed = command(&server, data.path(), &["user", "ada"]).expect("the command prints the answer");
    assert_eq!(printed["id"], ada.user_id.as_str());
    let printed = command(&server, data.path(), &["channels", "--limit", "1"]).expect("the command prints the answer");
    assert_eq!(printed["channels"][0]["id"], "2...hall");
    let printed = command(&server, data.path(), &["disconnect", "--user", "ada"]).expect("the command says how many");
    assert_eq!(printed["sessions"], 2);
    for socket in &mut theirs {
        let expected = Closed::Frame { code: 1008, reason: "closed by an operator".into() };
        assert_eq!(socket.expect_closed(), expected);
    }
    assert!(command(&server, data.path(), &["disconnect"]).is_err_and(|said| said.contains("--user")));
    office.until("/v1/users/ada", |user| user["sessions"] == 0);
    // The account stays, and may connect again.
    Socket::connect(server.address(), &ada.token).assert_open();
    members[0].assert_open();
    let page = server.admin().get("/metrics", "").body;
    assert!(page.contains("stentor_sessions_ended_total{kind=\"operator\"} 3\n"), "{page}");
    assert!(server.stop().contains("an admin call has closed sessions"));
}

#[test]
fn the_busiest_channels_come_first() {
    let data = data_dir();
    let server =
        Launch::on(data.path()).admin("127.0.0.1:0").shards(2).flag("--session-ttl", 3600).without_budgets().start();
    let office = Office::of(&server, data.path());
    let mut speaker = server.connect("speaker");
    let (busy, calm) = (speaker.join("busy"), speaker.join("calm"));
    // A window of ten seconds must be over, with both channels in it; so both go on until then.
    for round in 0..4_000 {
        for _ in 0..3 {
            speaker.say(&busy, "{}");
        }
        speaker.say(&calm, "{}");
        let page = office.get("/v1/channels?by=rate");
        let rate = |number: usize| page["channels"][number]["messages_per_second"].as_f64().unwrap_or_default();
        if rate(1) > 0.0 {
            assert_eq!((&page["channels"][0]["id"], &page["channels"][1]["id"]), (&json!(busy), &json!(calm)));
            assert!(rate(0) > rate(1), "{page}");
            return;
        }
        assert!(round < 3_999, "no window was over: {page}");
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
}
