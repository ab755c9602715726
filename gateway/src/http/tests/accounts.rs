//! Signing in and up, accounts, users.

use super::*;

const DEVICE: &str = "/v2/account/authenticate/device";
const CUSTOM: &str = "/v2/account/authenticate/custom";
const EMAIL: &str = "/v2/account/authenticate/email";

fn ask(world: &World, path: &str, body: &str) -> Heard {
    world.ask(&format!("POST {path}"), As::Client, body.to_owned())
}

#[test]
fn a_device_signs_up_then_in() {
    let world = World::new();
    let body = r#"{"id":"device-1234567","vars":{"lang":"de"}}"#;
    let first = ask(&world, DEVICE, body);
    assert!(first.text.starts_with(r#"{"created":true,"token":""#), "{}", first.text);
    let claims_first = claims(&Session::of(&first).token);
    assert_eq!(claims_first["vrs"], json!({"lang":"de"}));
    assert_eq!((claims_first["iat"].as_i64(), claims_first["exp"].as_i64()), (Some(START), Some(START + 60)));
    let name = claims_first["usn"].as_str().unwrap();
    assert!(name.len() == 10 && name.chars().all(|letter| letter.is_ascii_alphabetic()), "{name}");
    let second = ask(&world, &format!("{DEVICE}?username=other&create=false"), body);
    assert!(second.text.starts_with(r#"{"token":""#), "{}", second.text);
    let claims_second = claims(&Session::of(&second).token);
    assert_eq!((&claims_second["uid"], &claims_second["usn"]), (&claims_first["uid"], &claims_first["usn"]));
    assert_ne!(claims_second["tid"], claims_first["tid"]);
}

#[test]
fn ids_and_names_have_their_forms() {
    let world = World::new();
    let with_id = |id: &str| json!({ "id": id }).to_string();
    let check = |path: &str, body: &str, status: u16| {
        let heard = ask(&world, path, body);
        match status {
            200 => assert_eq!(heard.status, 200, "{path} {body}: {}", heard.text),
            400 => heard.expect_refusal(400, 3, &format!("{path} {body}")),
            other => panic!("{other} is not of this table"),
        }
    };
    for (path, id, status) in [
        (DEVICE, "123456789".to_owned(), 400),
        (DEVICE, "1234567890".to_owned(), 200),
        (DEVICE, "x".repeat(128), 200),
        (DEVICE, "x".repeat(129), 400),
        (DEVICE, "with a blank".to_owned(), 400),
        (DEVICE, "with\tcontrol".to_owned(), 400),
        (DEVICE, "with\u{7f}control".to_owned(), 400),
        (CUSTOM, "12345".to_owned(), 400),
        (CUSTOM, "123456".to_owned(), 200),
        (CUSTOM, "x".repeat(129), 400),
        (CUSTOM, "with a blank".to_owned(), 400),
    ] {
        check(path, &with_id(&id), status);
    }
    for (name, status) in [
        ("with%20blank", 200),
        (&*"x".repeat(128), 200),
        (&*"x".repeat(129), 400),
        ("a%00b", 400),
        ("a%0Ab", 400),
        ("a%7Fb", 400),
    ] {
        check(&format!("{CUSTOM}?username={name}"), &with_id(&format!("custom-{}", name.len())), status);
    }
    let vars = json!({ "id": "custom-id", "vars": { "k": "v".repeat(2048) } }).to_string();
    check(CUSTOM, &vars, 400);
    check(CUSTOM, r#"{"id":"custom-id","vars":{"k":1}}"#, 400);
    let pairs = |count: usize| (0..count).map(|n| (format!("k{n}"), json!("v"))).collect::<serde_json::Map<_, _>>();
    check(CUSTOM, &json!({ "id": "custom-id", "vars": pairs(64) }).to_string(), 200);
    check(CUSTOM, &json!({ "id": "custom-id", "vars": pairs(65) }).to_string(), 400);
}

#[test]
fn not_creating_and_taken_names() {
    let world = World::new();
    world.sign_in("alice");
    let unknown = r#"{"id":"some-other-device"}"#;
    ask(&world, &format!("{DEVICE}?create=false"), unknown).expect_refusal(404, 5, "unknown account");
    ask(&world, &format!("{DEVICE}?username=alice"), unknown).expect_refusal(409, 6, "taken");
    ask(&world, &format!("{DEVICE}?create=false"), unknown).expect_refusal(404, 5, "still unknown");
    ask(&world, &format!("{CUSTOM}?create=0"), r#"{"id":"some-id"}"#).expect_refusal(404, 5, "unknown");
}

#[test]
fn emails_and_passwords() {
    let world = World::new();
    let body = |email: &str, password: &str| json!({ "email": email, "password": password }).to_string();
    let alice = body("Alice@Example.com", "password-of-alice");
    assert_eq!(ask(&world, &format!("{EMAIL}?username=alice"), &alice).json()["created"], true);
    for (path, body, status, code) in [
        (EMAIL.to_owned(), body("alice@example.com", "password-of-alice"), 200, 0),
        (EMAIL.to_owned(), body("alice@example.com", "password-of-bob"), 401, 16),
        (format!("{EMAIL}?create=false"), body("bob@example.com", "password-of-bob"), 404, 5),
        (EMAIL.to_owned(), body("alice@example.com", "short"), 400, 3),
        (EMAIL.to_owned(), body("alice@example.com", ""), 400, 3),
        (EMAIL.to_owned(), body("alice at example.com", "password-of-alice"), 400, 3),
        (EMAIL.to_owned(), body("alice.example.com", "password-of-alice"), 400, 3),
        (EMAIL.to_owned(), body("a@b.c", "password-of-alice"), 400, 3),
        (EMAIL.to_owned(), body("", "password-of-alice"), 400, 3),
        (format!("{EMAIL}?username=alice"), body("", "password-of-alice"), 200, 0),
        (format!("{EMAIL}?username=alice"), body("", "password-of-bob"), 401, 16),
        (format!("{EMAIL}?username=nobody"), body("", "password-of-alice"), 404, 5),
        (format!("{EMAIL}?username=alice"), body("other@example.com", "password-of-other"), 409, 6),
    ] {
        let heard = ask(&world, &path, &body);
        match status {
            200 => assert!(heard.status == 200 && heard.json().get("created").is_none(), "{body}: {}", heard.text),
            _ => heard.expect_refusal(status, code, &format!("{path} {body}")),
        }
    }
    world.sign_in("bob");
    let without_email = ask(&world, &format!("{EMAIL}?username=bob"), &body("", "password-of-bob"));
    without_email.expect_refusal(401, 16, "bob has no password");
}

#[test]
fn an_account_as_its_owner_sees_it() {
    let world = World::new();
    let session = Session::of(&ask(&world, &format!("{CUSTOM}?username=alice"), r#"{"id":"custom-alice"}"#));
    let account = world.ask("GET /v2/account", As::User(&session.token), "");
    let expected = format!(
        r#"{{"user":{{"id":"{}","username":"alice","lang_tag":"en","metadata":"{{}}","create_time":"1970-01-12T13:46:40Z","update_time":"1970-01-12T13:46:40Z"}},"wallet":"{{}}","custom_id":"custom-alice"}}"#,
        session.user
    );
    assert_eq!(account.text, expected);
    let session = world.sign_in("bob");
    let account = world.ask("GET /v2/account?", As::User(&session.token), "").json();
    assert_eq!(account["devices"], json!([{ "id": "device-of-bob" }]));
    let body = json!({ "email": "Carol@Example.com", "password": "password-of-carol" }).to_string();
    let session = Session::of(&ask(&world, EMAIL, &body));
    let account = world.ask("GET /v2/account", As::User(&session.token), "").json();
    assert_eq!(account["email"], "carol@example.com");
}

#[test]
fn changes_to_an_account() {
    let world = World::new();
    world.sign_in("bob");
    let session = world.sign_in("alice");
    let change = |body: &str| world.ask("PUT /v2/account", As::User(&session.token), body.to_owned());
    let user = || world.ask("GET /v2/account", As::User(&session.token), "").json()["user"].clone();
    for (body, member, expected) in [
        (r#"{"display_name":"Al"}"#, "display_name", json!("Al")),
        (r#"{"displayName":"Ali","unknown":1}"#, "display_name", json!("Ali")),
        (r#"{"display_name":""}"#, "display_name", Value::Null),
        (r#"{"avatar_url":"http://a","location":null}"#, "avatar_url", json!("http://a")),
        (r#"{"langTag":"de"}"#, "lang_tag", json!("de")),
        (r#"{"location":"Köln"}"#, "location", json!("Köln")),
        (r#"{"timezone":"CET"}"#, "timezone", json!("CET")),
        (r#"{"username":"alice"}"#, "username", json!("alice")),
        (r#"{"username":"ali ce"}"#, "username", json!("ali ce")),
    ] {
        let heard = change(body);
        assert_eq!((heard.status, heard.text.as_str()), (200, "{}"), "{body}");
        assert_eq!(user()[member], expected, "{body}");
    }
    for body in [
        "".to_owned(),
        "{}".to_owned(),
        r#"{"location":null}"#.to_owned(),
        r#"{"username":""}"#.to_owned(),
        r#"{"username":"a\u0000"}"#.to_owned(),
        r#"{"username":"bob"}"#.to_owned(),
        r#"{"location":5}"#.to_owned(),
        json!({ "username": "x".repeat(129) }).to_string(),
        json!({ "avatar_url": "x".repeat(513) }).to_string(),
        json!({ "display_name": "x".repeat(256) }).to_string(),
        json!({ "display_name": "a\u{1b}[31m" }).to_string(),
        json!({ "avatar_url": "\u{0}" }).to_string(),
        json!({ "location": "\u{1}" }).to_string(),
    ] {
        change(&body).expect_refusal(400, 3, &body);
    }
    assert_eq!(user()["username"], "ali ce");
    let again = ask(&world, DEVICE, r#"{"id":"device-of-alice"}"#);
    assert_eq!(claims(&Session::of(&again).token)["usn"], "ali ce");
}

#[test]
fn users_by_id_and_name() {
    let world = World::new();
    let (alice, bob) = (world.sign_in("alice"), world.sign_in("bob"));
    let list = |query: &str| world.ask(&format!("GET /v2/user{query}"), As::User(&alice.token), "");
    let names = |query: &str| {
        let mut names: Vec<String> = list(query).json()["users"]
            .as_array()
            .map(|users| users.iter().map(|user| user["username"].as_str().unwrap().to_owned()).collect())
            .unwrap_or_default();
        names.sort();
        names
    };
    assert_eq!(list("").text, "{}");
    assert_eq!(list("?usernames=nobody&").text, "{}");
    assert_eq!(names(&format!("?ids={}&ids={}&", alice.user, bob.user)), ["alice", "bob"]);
    assert_eq!(names(&format!("?ids={}&usernames=bob&usernames=alice", alice.user)), ["alice", "bob"]);
    assert_eq!(names(&format!("?ids={}&usernames=nobody", alice.user.to_string().to_uppercase())), ["alice"]);
    assert_eq!(names(&format!("?usernames={}&usernames=bob&usernames=", "x".repeat(3000))), ["bob"]);
    for query in ["?ids=", "?ids=nonsense", &format!("?ids={}&ids=x", alice.user)] {
        list(query).expect_refusal(400, 3, query);
    }
}
