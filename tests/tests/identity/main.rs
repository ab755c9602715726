//! Who may sign in and how, as an operator and users see it: identity providers, keys that rotate, doors that are closed,
//! sessions that end with their tokens, and `stentor token`.

mod keys;
mod provider;
mod sessions;

use serde_json::{Value, json};
use tests::harness::{Answer, Http, Launch, SERVER_KEY, Socket, data_dir, run_node};

use crate::provider::{Provider, claims, now, trusting, with};

/// Signs in with this custom id, which may be a provider's token.
pub fn sign_in(http: &Http, id: &str) -> Answer {
    http.post("/v2/account/authenticate/custom", SERVER_KEY, &json!({ "id": id }))
}

/// The session token of a sign-in that must succeed.
pub fn token_of(answer: &Answer) -> String {
    assert_eq!(answer.status, 200, "{}", answer.body);
    answer.json()["token"].as_str().expect("a token").to_owned()
}

fn user_of(http: &Http, token: &str) -> Value {
    let answer = http.get("/v2/account", token);
    assert_eq!(answer.status, 200, "{}", answer.body);
    answer.json()
}

#[test]
fn users_of_a_provider_sign_in_by_exchange() {
    let data = data_dir();
    let keys = [["rsa", "RS256"], ["edwards", "EdDSA"], ["curve", "ES256"]];
    for (number, last) in keys.into_iter().enumerate() {
        let directory = data.path().join(number.to_string());
        let provider = Provider::new(&directory, &[keys[(number + 1) % 3], last]);
        // By the set, and by the key alone.
        for file in [provider.set(), provider.pem(last[0])] {
            let store = data_dir();
            let server = trusting(Launch::on(store.path()), &file).start();
            let http = server.http();
            let answer = sign_in(&http, &provider.token("ann-1", "ann"));
            assert_eq!(answer.json()["created"], true, "{last:?}");
            let account = user_of(&http, &token_of(&answer));
            assert_eq!(account["user"]["username"], "ann");
            assert_eq!(account["custom_id"], "https://id.example ann-1");
            let again = sign_in(&http, &provider.token("ann-1", "renamed"));
            assert_eq!(again.json()["created"], Value::Null);
            assert_eq!(user_of(&http, &token_of(&again))["user"], account["user"]);
            // The name is taken, and the other user signs in all the same.
            let other = user_of(&http, &token_of(&sign_in(&http, &provider.token("ann-2", "ann"))));
            let name = other["user"]["username"].as_str().expect("a name");
            assert!(name.starts_with("ann-") && other["user"]["id"] != account["user"]["id"], "{name}");
            Socket::connect(server.address(), &token_of(&again)).assert_open();
        }
    }
}

#[test]
fn tokens_of_a_provider_that_are_not_good_are_refused() {
    let data = data_dir();
    let provider = Provider::new(&data.path().join("provider"), &[["one", "ES256"]]);
    let server = trusting(Launch::on(&data.path().join("store")), &provider.set()).start();
    let http = server.http();
    let ann = || claims("ann", "ann");
    let mut without_end = ann();
    without_end.as_object_mut().expect("claims").remove("exp");
    let bad = [
        (with(ann(), "iss", json!("https://other.example")), "issuer"),
        (with(ann(), "aud", json!("other")), "audience"),
        (with(ann(), "exp", json!(now() - 60)), "expired"),
        (with(ann(), "nbf", json!(now() + 600)), "not valid yet"),
        (with(ann(), "sub", json!("")), "no subject"),
        (without_end, "no end"),
    ];
    let (claims_of, reasons): (Vec<Value>, Vec<&str>) = bad.into_iter().unzip();
    let check = |token: &str, reason: &str| {
        let answer = sign_in(&http, token);
        assert_eq!((answer.status, answer.json()["code"].as_i64()), (401, Some(16)), "{}", answer.body);
        assert!(answer.body.contains(reason), "{reason:?} is not in {}", answer.body);
    };
    for (token, reason) in provider.sign(&claims_of).iter().zip(reasons) {
        check(token, reason);
    }
    let stranger = Provider::new(&data.path().join("stranger"), &[["one", "ES256"]]);
    check(&stranger.token("ann", "ann"), "signature");
    let unknown = Provider::new(&data.path().join("unknown"), &[["two", "ES256"]]);
    check(&unknown.token("ann", "ann"), "key id");
    // No client can name the user of a provider, and a token opens no socket by itself.
    assert_eq!(sign_in(&http, "https://id.example ann").status, 400);
    let path = format!("/ws?token={}", provider.token("ann", "ann"));
    assert_eq!(Socket::try_connect(server.address(), &path, &[]).err(), Some(401));
    assert_eq!(http.get("/v2/account", &provider.token("ann", "ann")).status, 401);
    server.assert_works("tokens that are not good");
}

#[test]
fn the_official_client_signs_in_with_a_provider_s_token() {
    for shards in ["1", "4"] {
        run_node("identity.mjs", &[("STENTOR_TEST_SHARDS", shards)]);
    }
}

#[test]
fn a_provider_s_token_opens_a_socket_if_the_operator_lets_it() {
    let data = data_dir();
    let provider = Provider::new(&data.path().join("provider"), &[["one", "EdDSA"]]);
    let launch = trusting(Launch::on(&data.path().join("store")), &provider.set()).shards(2);
    let server = launch.flags(["--identity-direct".to_owned()]).flag("--account-creation", "provider").start();
    let token = provider.token("ann-1", "ann");
    let path = format!("/ws?token={token}");
    let user_id = |socket: &mut Socket| {
        let answer = socket.request(json!({"channel_join": {"target": "lobby", "type": 1}}));
        answer["channel"]["self"]["user_id"].as_str().unwrap_or_else(|| panic!("{answer}")).to_owned()
    };
    let mut socket = Socket::try_connect(server.address(), &path, &[]).expect("an open socket");
    let id = user_id(&mut socket);
    // By a header too, and the account is the same.
    let header = format!("Bearer {token}");
    let again = Socket::try_connect(server.address(), "/ws", &[("Authorization", &header)]);
    assert_eq!(user_id(&mut again.expect("an open socket")), id);
    assert_eq!(user_of(&server.http(), &token_of(&sign_in(&server.http(), &token)))["user"]["id"], id);
    let refused = |claims: Value| {
        let path = format!("/ws?token={}", provider.sign(&[claims]).remove(0));
        Socket::try_connect(server.address(), &path, &[]).err()
    };
    assert_eq!(refused(with(claims("ann-1", "ann"), "exp", json!(now() - 60))), Some(401));
    assert_eq!(refused(with(claims("ann-1", "ann"), "aud", json!("other"))), Some(401));
    // A session token still opens one, and HTTP wants a session token.
    Socket::connect(server.address(), &token_of(&sign_in(&server.http(), &token))).assert_open();
    assert_eq!(server.http().get("/v2/account", &token).status, 401);
    server.stop();
    let launch = trusting(Launch::on(&data.path().join("store")), &provider.set());
    let server = launch.flags(["--identity-direct".to_owned()]).flag("--account-creation", "closed").start();
    assert!(Socket::try_connect(server.address(), &path, &[]).is_ok(), "the account is there");
    let stranger = format!("/ws?token={}", provider.token("bob", "bob"));
    assert_eq!(Socket::try_connect(server.address(), &stranger, &[]).err(), Some(403));
}

#[test]
fn doors_that_the_operator_closes() {
    let data = data_dir();
    let provider = Provider::new(&data.path().join("provider"), &[["one", "ES256"]]);
    let store = data.path().join("store");
    let launch = || trusting(Launch::on(&store), &provider.set());
    let server = launch().start();
    let known = server.sign_in("known");
    let vouched = provider.token("ann-1", "ann");
    token_of(&sign_in(&server.http(), &vouched));
    server.stop();

    let device = |http: &Http, id: &str| http.post("/v2/account/authenticate/device", SERVER_KEY, &json!({ "id": id }));
    let closed = |answer: &Answer, reason: &str| {
        assert_eq!((answer.status, answer.json()["code"].as_i64()), (403, Some(7)), "{}", answer.body);
        assert!(answer.body.contains(reason), "{}", answer.body);
    };
    let server = launch().flag("--custom-sign-in", "provider").flag("--account-creation", "provider").start();
    let http = server.http();
    closed(&sign_in(&http, "custom-id-of-known"), "only as a token of the identity provider");
    closed(&device(&http, "a-device-id-of-nobody"), "this server makes none");
    token_of(&sign_in(&http, &vouched));
    token_of(&sign_in(&http, &provider.token("bob-1", "bob")));
    let link = |token: &str, id: &str| {
        let authorization = format!("Bearer {token}");
        http.post("/v2/account/link/custom", &authorization, &json!({ "id": id }))
    };
    let bob = token_of(&sign_in(&http, &provider.token("bob-1", "bob")));
    closed(&link(&bob, "another-custom-id"), "only as a token of the identity provider");
    assert_eq!(link(&bob, &provider.token("bob-2", "bob")).status, 200);
    assert_eq!(user_of(&http, &bob)["custom_id"], "https://id.example bob-2");
    // The session that was there before is renewed: only the door is closed.
    let refresh = json!({ "token": known.refresh_token });
    assert_eq!(http.post("/v2/account/session/refresh", SERVER_KEY, &refresh).status, 200);
    server.stop();

    let server = launch().flag("--custom-sign-in", "closed").flag("--account-creation", "closed").start();
    let http = server.http();
    closed(&sign_in(&http, "custom-id-of-known"), "closed on this server");
    closed(&sign_in(&http, &vouched), "closed on this server");
    closed(&device(&http, "a-device-id-of-nobody"), "this server makes none");
    let email = json!({"email": "ann@example.org", "password": "long enough"});
    closed(&http.post("/v2/account/authenticate/email", SERVER_KEY, &email), "this server makes none");
    let answer =
        http.post("/v2/account/authenticate/device?create=false", SERVER_KEY, &json!({"id": "a-device-id-of-nobody"}));
    assert_eq!(answer.status, 404, "{}", answer.body);
    server.stop();
}
