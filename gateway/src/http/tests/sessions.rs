//! Tokens renewed and logged out.

use super::*;

fn refresh(world: &World, token: &str, vars: Value) -> Heard {
    let body = json!({ "token": token, "vars": vars }).to_string();
    world.ask("POST /v2/account/session/refresh", As::Client, body)
}

fn logout(world: &World, token: &str, body: Value) -> Heard {
    world.ask("POST /v2/session/logout", As::User(token), body.to_string())
}

/// Whether the server still takes these tokens for somebody's.
fn check(world: &World, session: &Session, good: bool, context: &str) {
    let account = world.ask("GET /v2/account", As::User(&session.token), "");
    assert_eq!(account.status, if good { 200 } else { 401 }, "{context}: {}", account.text);
    let renewed = refresh(world, &session.refresh_token, Value::Null);
    assert_eq!(renewed.status, if good { 200 } else { 401 }, "{context}: {}", renewed.text);
}

#[test]
fn a_refresh_continues_a_session() {
    let world = World::new();
    let session = world.sign_in("alice");
    let first = claims(&session.token);
    world.ask("PUT /v2/account", As::User(&session.token), r#"{"username":"alicia"}"#);
    world.pass(100);
    let heard = refresh(&world, &session.refresh_token, json!({ "k": "v" }));
    assert!(heard.text.starts_with(r#"{"token":""#), "{}", heard.text);
    let renewed = Session::of(&heard);
    let second = claims(&renewed.token);
    assert_eq!((&second["tid"], &second["iat"], &second["uid"]), (&first["tid"], &first["iat"], &first["uid"]));
    assert_eq!((&second["usn"], &second["vrs"]), (&json!("alicia"), &json!({ "k": "v" })));
    assert_eq!(second["exp"], START + 160);
    let kept = Session::of(&refresh(&world, &renewed.refresh_token, json!({})));
    assert_eq!(claims(&kept.token)["vrs"], json!({ "k": "v" }), "no new vars leave the old ones");
    assert_eq!(claims(&kept.refresh_token)["exp"], START + 100 + 3600);
}

#[test]
fn what_cannot_be_refreshed() {
    let world = World::new();
    let session = world.sign_in("alice");
    let path = "POST /v2/account/session/refresh";
    for body in ["", "{}", r#"{"token":""}"#, r#"{"token":null}"#, r#"{"token":5}"#] {
        world.ask(path, As::Client, body).expect_refusal(400, 3, body);
    }
    for token in [&session.token, "nonsense"] {
        refresh(&world, token, Value::Null).expect_refusal(401, 16, token);
    }
    let large = json!({ "k": "v".repeat(2048) });
    refresh(&world, &session.refresh_token, large).expect_refusal(400, 3, "large vars");
    world.pass(3600);
    refresh(&world, &session.refresh_token, Value::Null).expect_refusal(401, 16, "expired");
}

#[test]
fn logging_out_by_token() {
    let world = World::new();
    let (session, other) = (world.sign_in("alice"), world.sign_in("alice"));
    let renewed = Session::of(&refresh(&world, &session.refresh_token, Value::Null));
    let body = json!({ "token": session.token, "refreshToken": session.refresh_token });
    let heard = logout(&world, &session.token, body);
    assert_eq!((heard.status, heard.text.as_str()), (200, "{}"));
    check(&world, &session, false, "logged out");
    check(&world, &renewed, false, "renewed from the one logged out");
    check(&world, &other, true, "another session of the same user");
    world.ask("PUT /v2/storage", As::User(&session.token), "{}").expect_refusal(401, 16, "after logout");
    let by_refresh_token = json!({ "refresh_token": other.refresh_token });
    assert_eq!(logout(&world, &other.token, by_refresh_token).status, 200);
    check(&world, &other, false, "logged out by its refresh token");
}

#[test]
fn logging_out_everywhere() {
    let world = World::new();
    let sessions = [world.sign_in("alice"), world.sign_in("alice")];
    let bob = world.sign_in("bob");
    assert_eq!(world.ask("POST /v2/session/logout", As::User(&sessions[0].token), "").text, "{}");
    for session in &sessions {
        check(&world, session, false, "issued before");
    }
    check(&world, &bob, true, "another user");
    let after = world.sign_in("alice");
    check(&world, &after, true, "issued after, in the same second");
}

#[test]
fn logging_out_everywhere_again_in_the_same_second() {
    let world = World::new();
    let mut gone = Vec::new();
    for round in 0..20 {
        let session = world.sign_in("alice");
        check(&world, &session, true, &format!("signed in in round {round}"));
        let renewed = Session::of(&refresh(&world, &session.refresh_token, Value::Null));
        assert_eq!(logout(&world, &session.token, json!({})).status, 200);
        gone.extend([session, renewed]);
        gone.iter().for_each(|session| check(&world, session, false, &format!("logged out by round {round}")));
    }
    let after = world.sign_in("alice");
    assert_eq!(claims(&after.token)["iat"], START, "not ahead of the clock");
    let restarted = World::on(world.store.clone());
    gone.iter().for_each(|session| check(&restarted, session, false, "after a restart"));
    check(&restarted, &after, true, "issued after all logouts, and kept over a restart");
    check(&restarted, &restarted.sign_in("alice"), true, "signed in after the restart");
}

#[test]
fn tokens_that_are_not_the_callers_to_log_out() {
    let world = World::new();
    let (alice, bob) = (world.sign_in("alice"), world.sign_in("bob"));
    for body in [
        json!({ "token": bob.token }),
        json!({ "refresh_token": bob.refresh_token }),
        json!({ "token": alice.refresh_token }),
        json!({ "token": "nonsense" }),
        json!({ "token": alice.token, "refresh_token": bob.refresh_token }),
    ] {
        logout(&world, &alice.token, body.clone()).expect_refusal(400, 3, &body.to_string());
    }
    check(&world, &alice, true, "nothing was logged out");
    check(&world, &bob, true, "nothing was logged out");
}

#[test]
fn a_logout_outlives_a_restart() {
    let world = World::new();
    let (alice, bob) = (world.sign_in("alice"), world.sign_in("bob"));
    logout(&world, &alice.token, json!({ "token": alice.token }));
    logout(&world, &bob.token, json!({}));
    let restarted = World::on(world.store.clone());
    check(&restarted, &alice, false, "logged out by token");
    check(&restarted, &bob, false, "logged out everywhere");
    check(&restarted, &restarted.sign_in("alice"), true, "signed in again");
}

#[test]
fn the_store_forgets_expired_logouts_at_most_once_an_hour() {
    let world = World::new();
    // Who logs out, how many seconds after the start, and how many logouts the store then keeps. Each is kept for the
    // life of a refresh token, which is an hour and a second.
    let cases = [
        ("alice", 10, 1),
        ("bob", 3599, 2),
        // A whole hour has passed, but nothing has expired; the next look is an hour away.
        ("carol", 3600, 3),
        ("dave", 7199, 4),
        ("erin", 7200, 3),
        ("frank", 7300, 4),
    ];
    let mut passed = 0;
    for (name, second, kept) in cases {
        world.pass(second - passed);
        passed = second;
        let session = world.sign_in(name);
        let heard = logout(&world, &session.token, json!({ "token": session.token }));
        assert_eq!((heard.status, heard.text.as_str()), (200, "{}"), "{name}");
        assert_eq!(world.store.revocations().unwrap().len(), kept, "after the logout of {name}");
        check(&world, &session, false, name);
    }
}
