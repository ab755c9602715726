//! A user is erased by an operator: no trace of them is left in what others can read.

use std::path::Path;

use serde_json::json;
use tests::harness::{Launch, Server, data_dir, run_program};

fn erase(server: &Server, data: &Path, user: &str) -> (bool, String) {
    let (data, admin) = (data.display().to_string(), server.admin().address().to_string());
    let output = run_program(&["erase", "--user", user, "--data", &data, "--admin", &admin]);
    let text = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    (output.status.success(), text)
}

#[test]
fn an_erased_user_leaves_nothing_that_others_can_read() {
    let data = data_dir();
    let server = Launch::on(data.path()).admin("127.0.0.1:0").flag("--session-ttl", 3600).without_budgets().start();
    let [gone, stays] = server.people(["gone-user", "stays"]);
    gone.relates("add", &stays);
    stays.relates("add", &gone);
    let group = stays.create_group(json!({"name": "all", "open": true}));
    gone.acts("join", &group, &[]);
    let (mut theirs, mut others) = (gone.connect(), stays.connect());
    let rooms: Vec<String> = (0..3).map(|number| theirs.join(&format!("room-{number}"))).collect();
    for room in &rooms {
        others.join(&room["2...".len()..]);
        theirs.say(room, r#"{"secret":"of-the-one"}"#);
        others.say(room, r#"{"kept":"of-the-other"}"#);
    }
    let direct = theirs.join_direct(&stays);
    theirs.say(&direct, r#"{"secret":"in-private"}"#);

    let (done, said) = erase(&server, data.path(), "nobody");
    assert!(!done && said.contains("no user with the id or the name"), "{said}");
    let (done, said) = erase(&server, data.path(), gone.name());
    assert!(done && said.contains("\"state\": \"done\"") && said.contains(gone.id()), "{said}");
    theirs.expect_closed();
    for channel in rooms.iter().chain([&direct]) {
        let history = serde_json::to_string(&stays.history(channel)).expect("JSON");
        assert!(!history.contains("secret") && !history.contains(gone.id()), "{channel}: {history}");
        assert_eq!(history.contains("of-the-other"), channel != &direct, "{channel}: {history}");
    }
    assert!(stays.friends().is_empty(), "{:?}", stays.friends());
    assert_eq!(stays.roster(&group).len(), 1);
    let token = &gone.account().token;
    assert_eq!(server.http().get("/v2/account", token).status, 401);
    let found = server.http().get(&format!("/v2/user?ids={}", gone.id()), &stays.account().token);
    assert!(found.status == 200 && !found.body.contains(gone.id()), "{}", found.body);
    let (done, said) = erase(&server, data.path(), gone.id());
    assert!(!done && said.contains("no user"), "{said}");
    server.assert_works("an erasure");
}

/// A user may take another's id as a name.
#[test]
fn no_user_is_erased_for_another() {
    let data = data_dir();
    let server = Launch::on(data.path()).admin("127.0.0.1:0").without_budgets().start();
    let victim = server.sign_in("victim");
    server.sign_in(&victim.user_id);

    let (done, said) = erase(&server, data.path(), &victim.user_id);
    assert!(!done && said.contains("could mean the user") && said.contains(&victim.user_id), "{said}");
    let (done, said) = erase(&server, data.path(), &format!("name:{}", victim.user_id));
    assert!(done && !said.contains(&format!("\"id\": \"{}\"", victim.user_id)), "{said}");
    assert_eq!(server.http().get("/v2/account", &victim.token).status, 200, "the victim's account stays");
    // The words before an id or a name can be part of a name, too.
    let other = server.sign_in("name:victim");
    let (done, said) = erase(&server, data.path(), "name:victim");
    assert!(!done && said.contains(&other.user_id) && said.contains(&victim.user_id), "{said}");
    let (done, said) = erase(&server, data.path(), &format!("id:{}", victim.user_id));
    assert!(done && said.contains(&victim.user_id), "{said}");
    assert_eq!(server.http().get("/v2/account", &victim.token).status, 401);
}
