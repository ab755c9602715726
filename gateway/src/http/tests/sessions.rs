//! Renews tokens and logs them out.

use storage::account::Revocation;
use uuid::Uuid;

use super::*;
use crate::http::forgetting;

fn refresh(world: &World, token: &str, vars: Value) -> Heard {
    let body = json!({ "token": token, "vars": vars }).to_string();
    world.ask("POST /v2/account/session/refresh", As::Client, body)
}

fn logout(world: &World, token: &str, body: Value) -> Heard {
    world.ask("POST /v2/session/logout", As::User(token), body.to_string())
}

/// Checks whether the server still accepts these tokens.
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
fn a_user_with_many_logouts_is_logged_out_everywhere() {
    /// As many as the table of logouts has room for.
    const LOGOUTS: usize = 64;
    let world = World::new();
    let (other, bob) = (world.sign_in("alice"), world.sign_in("bob"));
    let mut rows = 0;
    for round in 0..3 * LOGOUTS {
        let session = world.sign_in("alice");
        assert_eq!(logout(&world, &session.token, json!({ "token": session.token })).status, 200);
        check(&world, &session, false, "logged out");
        check(&world, &other, round < LOGOUTS, &format!("another session, after {} logouts", round + 1));
        rows = world.store.revocations().unwrap().len();
    }
    assert_eq!(rows, LOGOUTS + 1, "each further logout moves the user's cutoff");
    check(&world, &world.sign_in("alice"), true, "signed in again");
    check(&world, &bob, true, "another user");
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
fn the_store_forgets_logouts_when_all_their_tokens_have_expired() {
    let world = World::new();
    let forget = || block_on(forgetting::forget_expired(&world.services)).unwrap();
    let kept = || world.store.revocations().unwrap().len();
    // User, whether the user logs out everywhere, and the time of the logout in seconds after the start.
    let logouts = [("alice", true, 10), ("bob", false, 20), ("carol", true, 1800), ("dave", false, 1900)];
    let mut passed = 0;
    let mut pass_to = |second: i64| {
        world.pass(second - passed);
        passed = second;
    };
    let mut gone = Vec::new();
    for (name, everywhere, second) in logouts {
        pass_to(second);
        let session = world.sign_in(name);
        let body = if everywhere { json!({}) } else { json!({ "token": session.token }) };
        assert_eq!(logout(&world, &session.token, body).status, 200);
        gone.push(session);
        forget();
    }
    // Each logout is kept for the life of a refresh token, which is an hour, and for as long as its cutoff lies ahead.
    for (second, expected) in [(3600, 4), (3610, 4), (3632, 2), (5390, 2), (5600, 0)] {
        pass_to(second);
        forget();
        assert_eq!(kept(), expected, "after {second} s");
        gone.iter().for_each(|session| check(&world, session, false, "whether it was forgotten or not"));
    }
}

#[test]
fn more_logouts_than_one_write_may_forget() {
    let world = World::new();
    let now = world.now.get();
    let token = |number: u128, expires: i64| Revocation::Token {
        id: Uuid::from_u128(number * 7919),
        expires: Timestamp(now.0 + expires),
    };
    let expired = (0..2500).map(|number| token(number, -(number as i64)));
    let alive = (2500..2600).map(|number| token(number, 1));
    let writes: Vec<_> = expired.chain(alive.clone()).map(Write::Revoke).collect();
    world.keep(&writes);
    block_on(forgetting::forget_expired(&world.services)).unwrap();
    assert_eq!(world.store.revocations().unwrap(), alive.collect::<Vec<_>>());
}
