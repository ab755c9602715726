//! More than one way to sign in to an account.

use super::*;

const KINDS: [&str; 3] = ["device", "custom", "email"];

/// The credentials in a request body, made from the owner's name.
fn proof(kind: &str, name: &str) -> Value {
    match kind {
        "email" => json!({ "email": format!("{name}@example.com"), "password": format!("password-of-{name}") }),
        kind => json!({ "id": format!("{kind}-of-{name}") }),
    }
}

fn ask(world: &World, who: &Session, path: &str, body: Value) -> Heard {
    world.ask(&format!("POST /v2/account/{path}"), As::User(&who.token), body.to_string())
}

/// The account that these credentials sign in to, if there is one.
fn opened(world: &World, kind: &str, body: &Value) -> Option<UserId> {
    let target = format!("POST /v2/account/authenticate/{kind}?create=false");
    let heard = world.ask(&target, As::Client, body.to_string());
    (heard.status == 200).then(|| Session::of(&heard).user)
}

#[test]
fn each_kind_is_linked_and_unlinked() {
    let world = World::new();
    let alice = world.sign_in("alice");
    for kind in KINDS {
        let body = proof(kind, "another");
        assert_eq!(opened(&world, kind, &body), None, "{kind}");
        for _ in 0..2 {
            let heard = ask(&world, &alice, &format!("link/{kind}"), body.clone());
            assert_eq!((heard.status, heard.text.as_str()), (200, "{}"), "{kind}");
            assert_eq!(opened(&world, kind, &body), Some(alice.user), "{kind}");
        }
    }
    let account = world.ask("GET /v2/account", As::User(&alice.token), "").json();
    assert_eq!(account["devices"], json!([{ "id": "device-of-alice" }, { "id": "device-of-another" }]));
    assert_eq!(account["custom_id"], "custom-of-another");
    assert_eq!(account["email"], "another@example.com");
    for kind in KINDS {
        let body = proof(kind, "another");
        let heard = ask(&world, &alice, &format!("unlink/{kind}"), body.clone());
        assert_eq!((heard.status, heard.text.as_str()), (200, "{}"), "{kind}");
        assert_eq!(opened(&world, kind, &body), None, "{kind}");
        ask(&world, &alice, &format!("unlink/{kind}"), body).expect_refusal(403, 7, kind);
    }
    let last = proof("device", "alice");
    ask(&world, &alice, "unlink/device", last.clone()).expect_refusal(403, 7, "the last way in");
    assert_eq!(opened(&world, "device", &last), Some(alice.user));
}

#[test]
fn custom_id_and_email_are_unlinked_without_being_named() {
    for kind in ["custom", "email"] {
        for body in [json!({}), json!({ "id": "", "email": "" }), json!({ "id": null, "email": null }), Value::Null] {
            let world = World::new();
            let alice = world.sign_in("alice");
            let path = format!("unlink/{kind}");
            let body = if body.is_null() { String::new() } else { body.to_string() };
            let unlink = || world.ask(&format!("POST /v2/account/{path}"), As::User(&alice.token), body.clone());
            assert_eq!(unlink().text, "{}", "{path} {body}: there is none");
            let proof = proof(kind, "another");
            assert_eq!(ask(&world, &alice, &format!("link/{kind}"), proof.clone()).status, 200);
            let heard = unlink();
            assert_eq!((heard.status, heard.text.as_str()), (200, "{}"), "{path} {body}");
            assert_eq!(opened(&world, kind, &proof), None, "{path} {body}");
            assert_eq!(ask(&world, &alice, &format!("link/{kind}"), proof.clone()).status, 200);
            let device = json!({ "id": "device-of-alice" });
            assert_eq!(ask(&world, &alice, "unlink/device", device).status, 200);
            unlink().expect_refusal(403, 7, "the last way in");
            assert_eq!(opened(&world, kind, &proof), Some(alice.user), "{path} {body}");
        }
    }
}

#[test]
fn a_second_of_its_kind() {
    let world = World::new();
    let alice = world.sign_in("alice");
    for kind in ["custom", "email"] {
        for name in ["first", "second"] {
            assert_eq!(ask(&world, &alice, &format!("link/{kind}"), proof(kind, name)).status, 200);
        }
        assert_eq!(opened(&world, kind, &proof(kind, "first")), None, "{kind}: the second has taken its place");
        assert_eq!(opened(&world, kind, &proof(kind, "second")), Some(alice.user), "{kind}");
    }
    let anew = json!({ "email": "SECOND@example.com", "password": "another password" });
    assert_eq!(ask(&world, &alice, "link/email", anew.clone()).status, 200);
    assert_eq!(opened(&world, "email", &anew), Some(alice.user), "with the password given last");
    assert_eq!(opened(&world, "email", &proof("email", "second")), None);
    let without_password = json!({ "email": "Second@Example.com" });
    assert_eq!(ask(&world, &alice, "unlink/email", without_password).status, 200);
    assert_eq!(opened(&world, "email", &anew), None);
}

#[test]
fn refusals() {
    let world = World::new();
    let (alice, bob) = (world.sign_in("alice"), world.sign_in("bob"));
    for kind in KINDS {
        if kind != "device" {
            assert_eq!(ask(&world, &bob, &format!("link/{kind}"), proof(kind, "bob")).status, 200);
        }
        ask(&world, &alice, &format!("link/{kind}"), proof(kind, "bob")).expect_refusal(409, 6, kind);
        ask(&world, &alice, &format!("unlink/{kind}"), proof(kind, "bob")).expect_refusal(403, 7, kind);
        assert_eq!(opened(&world, kind, &proof(kind, "bob")), Some(bob.user));
        for path in [format!("link/{kind}"), format!("unlink/{kind}")] {
            let nothing = [json!({}), json!({ "id": null }), json!({ "id": "" })];
            let unfit = [
                json!({ "id": "short", "email": "short" }),
                json!({ "id": "a blank in it", "email": "a b@c.example" }),
            ];
            let need_no_name = path == "unlink/custom" || path == "unlink/email";
            for body in nothing.into_iter().filter(|_| !need_no_name).chain(unfit) {
                ask(&world, &alice, &path, body.clone()).expect_refusal(400, 3, &format!("{path} {body}"));
            }
            world.ask(&format!("POST /v2/account/{path}"), As::Nobody, "{}").expect_refusal(401, 16, &path);
            world.ask(&format!("POST /v2/account/{path}"), As::Client, "{}").expect_refusal(401, 16, &path);
            world.ask(&format!("GET /v2/account/{path}"), As::User(&bob.token), "").expect_refusal(501, 12, &path);
        }
    }
    for body in [json!({ "email": "a@example.com" }), json!({ "email": "a@example.com", "password": "short" })] {
        ask(&world, &alice, "link/email", body.clone()).expect_refusal(400, 3, &body.to_string());
    }
    for path in ["link/facebook", "unlink/steam", "link", "link/device/x"] {
        ask(&world, &alice, path, json!({})).expect_refusal(404, 5, path);
    }
}
