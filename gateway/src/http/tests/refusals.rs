//! Requests that are refused independently of any resource, and the headers of every answer.

use std::sync::Arc;

use engine::id::{ChannelId, Epoch, GroupId, MessageId, NotificationId, UserId};
use engine::message::Message;
use engine::persist::ChannelHead;
use engine::social::friend::{FriendState, Sides};
use engine::social::group::Role;
use engine::social::notification::Notification;
use storage::account::{Account, Credential, CredentialOwner, Expiry, Profile, Revocation, RevocationPlace};
use storage::friend::{Friend, FriendPlace};
use storage::group::{Group, GroupFilter, GroupPage, GroupPlace, RosterPlace};
use storage::object::{Object, ObjectCounts, ObjectId, ObjectListing, ObjectPlace};
use storage::{Failure, PageStart, Part, Store, Write, Written};
use uuid::Uuid;

use super::*;

const BEARER_PATHS: [&str; 30] = [
    "GET /v2/account",
    "PUT /v2/account",
    "DELETE /v2/account",
    "POST /v2/session/logout",
    "GET /v2/user",
    "GET /v2/channel",
    "GET /v2/channel/2...lobby",
    "PUT /v2/storage",
    "POST /v2/storage",
    "PUT /v2/storage/delete",
    "GET /v2/storage/x",
    "GET /v2/storage/x/y",
    "GET /v2/group",
    "POST /v2/group",
    "PUT /v2/group/x",
    "DELETE /v2/group/x",
    "POST /v2/group/x/join",
    "POST /v2/group/x/demote",
    "GET /v2/group/x/user",
    "GET /v2/user/x/group",
    "GET /v2/friend",
    "POST /v2/friend",
    "DELETE /v2/friend",
    "POST /v2/friend/block",
    "POST /v2/rpc/anything",
    "POST /v2/account/link/device",
    "POST /v2/account/unlink/email",
    "GET /v2/notification?limit=1",
    "DELETE /v2/notification",
    "GET /v2/leaderboard/x",
];

#[test]
fn ways_to_sign_in_that_are_not_here() {
    let world = World::new();
    let session = world.sign_in("alice");
    let bearer = format!("Bearer {}", session.token);
    let headers = ["", "Basic ZGVmYXVsdGtleTo=", "Basic bm9uc2Vuc2U6", "Bearer nonsense", &bearer, "nonsense"];
    let kinds = ["apple", "facebook", "facebookinstantgame", "gamecenter", "google", "steam", "", "Device", "device/x"];
    for kind in kinds {
        let path = format!("/v2/account/authenticate/{kind}");
        let query = "?create=true&username=alice&sync=true&";
        for header in headers.map(|header| if header.is_empty() { As::Nobody } else { As::Header(header) }) {
            for body in ["", "{}", r#"{"token":"of-another-service","vars":{"a":"b"}}"#, "nonsense"] {
                world.ask(&format!("POST {path}{query}"), header, body).expect_refusal(404, 5, &path);
            }
            world.ask(&format!("GET {path}"), header, "").expect_refusal(404, 5, &path);
        }
    }
    for kind in ["google", "facebookinstantgame", "steam"] {
        for act in ["link", "unlink"] {
            let path = format!("POST /v2/account/{act}/{kind}");
            world.ask(&path, As::User(&session.token), "{}").expect_refusal(404, 5, &path);
        }
    }
}

#[test]
fn what_is_not_here_is_refused_by_its_name() {
    let world = World::new();
    let session = world.sign_in("alice");
    for (target, feature) in [
        ("POST /v2/account/link/apple", "account/link/apple"),
        ("POST /v2/account/unlink/facebookinstantgame", "account/unlink/facebookinstantgame"),
        ("POST /v2/friend/facebook", "friend/facebook"),
        ("POST /v2/friend/steam", "friend/steam"),
        ("GET /v2/friend/friends?limit=10", "friend/friends"),
        ("GET /v2/match", "match"),
        ("GET /v2/matchmaker/stats", "matchmaker"),
        ("GET /v2/party", "party"),
        ("GET /v2/leaderboard/x/owner/y", "leaderboard"),
        ("POST /v2/tournament/x/join", "tournament"),
        ("POST /v2/iap/purchase/apple", "iap"),
        ("POST /v2/rpc/anything", "rpc"),
    ] {
        let without = world.ask(target, As::Nobody, "");
        without.expect_refusal(401, 16, target);
        let text = without.json()["message"].as_str().unwrap().to_owned();
        assert_eq!(text, format!("session token missing; and this server does not have this feature: {feature}"));
        let with = world.ask(target, As::User(&session.token), "");
        with.expect_refusal(404, 5, target);
        let text = with.json()["message"].as_str().unwrap().to_owned();
        let words = match feature {
            "rpc" => "this server has no functions, so it does not have this rpc".to_owned(),
            _ => format!("this server does not have this feature of the protocol: {feature}"),
        };
        assert_eq!(text, words, "{target}");
    }
    for token in [As::Nobody, As::User(&session.token)] {
        for target in ["POST /v2/rpc/anything?http_key=defaulthttpkey", "GET /v2/rpc/anything?http_key=&unwrap=true"] {
            let heard = world.ask(target, token, "");
            heard.expect_refusal(401, 16, target);
            assert!(heard.text.contains("does not know this http_key"), "{target}: {}", heard.text);
        }
    }
}

#[test]
fn users_need_a_session_token() {
    let world = World::new();
    let session = world.sign_in("alice");
    let headers = [
        String::new(),
        "Bearer ".into(),
        "Bearer nonsense".into(),
        format!("Bearer {}", session.refresh_token),
        format!("Bearer{}", session.token),
        session.token.clone(),
        "Basic ZGVmYXVsdGtleTo=".into(),
    ];
    for target in BEARER_PATHS {
        world.ask(target, As::Nobody, "").expect_refusal(401, 16, target);
        for header in &headers {
            world.ask(target, As::Header(header), "").expect_refusal(401, 16, &format!("{target} {header}"));
        }
    }
    world.pass(60);
    for target in BEARER_PATHS {
        world.ask(target, As::User(&session.token), "").expect_refusal(401, 16, target);
    }
}

#[test]
fn client_programs_need_the_server_key() {
    let world = World::new();
    for target in [
        "POST /v2/account/authenticate/device",
        "POST /v2/account/authenticate/custom",
        "POST /v2/account/authenticate/email",
        "POST /v2/account/session/refresh",
    ] {
        world.ask(target, As::Nobody, "{}").expect_refusal(401, 16, target);
        let basic = |text: &str| format!("Basic {}", BASE64_STANDARD.encode(text));
        for header in [&basic("wrong:"), &basic("defaultkey"), &basic(":"), "Basic", "Basic !", "Bearer x", "ZGVm"] {
            world.ask(target, As::Header(header), "{}").expect_refusal(401, 16, &format!("{target} {header}"));
        }
        world.ask(target, As::Client, "{}").expect_refusal(400, 3, target);
    }
}

#[test]
fn paths_and_methods() {
    let world = World::new();
    let session = world.sign_in("alice");
    for target in ["GET /nothing", "GET /v2", "GET /v2/", "GET /v1/account", "POST /v2/nonsense", "GET /ws/", "GET //"]
    {
        world.ask(target, As::Nobody, "").expect_refusal(404, 5, target);
    }
    for target in [
        "GET /v2/storage/a/b/c",
        "POST /v2/rpc/anything",
        "POST /v2/account/link/steam",
        "POST /v2/account/unlink",
        "GET /v2/account/",
        "POST /v2/account/authenticate/steam",
        "GET /v2/channel/2...a/b",
        "POST /v2/group/x/steal",
        "GET /v2/group/x/user/y",
        "GET /v2/user/x/friend",
        "DELETE /v2/notification/x",
    ] {
        world.ask(target, As::User(&session.token), "").expect_refusal(404, 5, target);
    }
    for target in [
        "POST /",
        "POST /healthcheck",
        "POST /ws",
        "GET /v2/account/authenticate/device",
        "GET /v2/account/session/refresh",
        "DELETE /v2/session/logout",
        "POST /v2/account",
        "GET /v2/account/link/device",
        "DELETE /v2/group",
        "GET /v2/group/x",
        "GET /v2/group/x/join",
        "POST /v2/group/x/user",
        "POST /v2/user/x/group",
        "PUT /v2/friend",
        "DELETE /v2/friend/block",
        "POST /v2/notification",
        "PATCH /v2/user",
        "POST /v2/channel",
        "PUT /v2/channel/2...lobby",
    ] {
        world.ask(target, As::Nobody, "").expect_refusal(501, 12, target);
        world.ask(target, As::User(&session.token), "").expect_refusal(501, 12, target);
    }
}

#[test]
fn open_paths() {
    let world = World::new();
    let root = world.ask("GET /", As::Nobody, "");
    assert_eq!((root.status, root.text.as_str()), (200, ""));
    assert_eq!(world.ask("HEAD /", As::Nobody, "").status, 200);
    let health = world.ask("GET /healthcheck?", As::Nobody, "");
    assert_eq!((health.status, health.text.as_str()), (200, "{}"));
    let socket = world.ask("GET /ws", As::Nobody, "");
    assert_eq!((socket.status, socket.header("content-type")), (400, "text/plain; charset=utf-8"));
    let browser = request("GET /", As::Nobody).header("Accept", "text/html,application/xhtml+xml,*/*;q=0.8");
    let page = world.send(browser.body(Bytes::new()).unwrap());
    assert_eq!((page.status, page.header("content-type")), (200, "text/html; charset=utf-8"));
    assert!(page.text.starts_with("<!doctype html>") || page.text.starts_with("<!DOCTYPE html>"), "{}", page.text);
    let policy = page.header("content-security-policy");
    assert!(policy.starts_with("default-src 'none'; style-src 'sha256-"), "{policy}");
    assert!(!policy.contains("unsafe"), "{policy}");
    for part in ["script-src 'sha256-", "connect-src 'self'", "frame-ancestors 'none'", "base-uri 'none'"] {
        assert!(policy.contains(&format!("; {part}")), "{policy}");
    }
}

#[test]
fn any_origin_may_ask() {
    let world = World::new();
    for target in ["GET /healthcheck", "GET /", "GET /v2/account", "GET /nothing", "POST /"] {
        let heard = world.ask(target, As::Nobody, "");
        assert_eq!(heard.header("access-control-allow-origin"), "*", "{target}");
        assert_eq!(heard.header("cache-control"), "no-store, no-cache, must-revalidate", "{target}");
        assert_eq!(heard.header("x-content-type-options"), "nosniff", "{target}");
    }
    let preflight = |asked: Option<&str>| {
        let mut builder = request("OPTIONS /v2/account/authenticate/device?create=true&", As::Nobody)
            .header("Origin", "https://game.example")
            .header("Access-Control-Request-Method", "POST");
        if let Some(asked) = asked {
            builder = builder.header("Access-Control-Request-Headers", asked);
        }
        world.send(builder.body(Bytes::new()).unwrap())
    };
    let heard = preflight(None);
    assert_eq!((heard.status, heard.text.as_str()), (200, ""));
    assert_eq!(heard.header("access-control-allow-origin"), "*");
    assert_eq!(heard.header("access-control-allow-methods"), "GET, HEAD, POST, PUT, DELETE");
    assert_eq!(heard.header("access-control-allow-headers"), "Authorization, Content-Type, User-Agent");
    let asked = "authorization,content-type";
    assert_eq!(preflight(Some(asked)).header("access-control-allow-headers"), asked);
}

#[test]
fn queries_and_bodies() {
    let world = World::new();
    let path = "POST /v2/account/authenticate/device";
    let good = r#"{"id":"device-1234567","vars":null,"unknown":{"a":[1]}}"#;
    for query in ["", "?", "?&", "?create=true&", "?create=T&unknown=%20&x=1&x=2", "?username=&"] {
        assert_eq!(world.ask(&format!("{path}{query}"), As::Client, good).status, 200, "{query}");
    }
    for query in ["?create=", "?create=yes", "?create=true&create=true", "?username=a&username=b", "?username=%ff"] {
        world.ask(&format!("{path}{query}"), As::Client, good).expect_refusal(400, 3, query);
    }
    for body in ["", "{}", "{", "[]", "null", r#"{"id":5}"#, r#"{"id":null}"#, r#"{"id":"a","id":"b"}"#] {
        world.ask(path, As::Client, body).expect_refusal(400, 3, body);
    }
    let large = format!("{{\"id\":\"device-1234567\",\"x\":\"{}\"}}", "x".repeat(262_144));
    world.ask(path, As::Client, large).expect_refusal(400, 3, "too large");
    let compressed = request(path, As::Client).header("Content-Encoding", "gzip").body(good.into()).unwrap();
    world.send(compressed).expect_refusal(400, 3, "not gzip");
}

/// A store in which every operation fails.
struct Broken(Failure);

impl Broken {
    fn fail<T>(&self) -> Result<T, Failure> {
        Err(self.0.clone())
    }
}

impl Store for Broken {
    fn next_epoch(&self) -> Result<Epoch, Failure> {
        self.fail()
    }
    fn commit(&self, _: &[Write]) -> Result<Vec<Result<Written, Failure>>, Failure> {
        self.fail()
    }
    fn head(&self, _: &ChannelId) -> Result<Option<ChannelHead>, Failure> {
        self.fail()
    }
    fn message(&self, _: &ChannelId, _: MessageId) -> Result<Option<Message>, Failure> {
        self.fail()
    }
    fn messages_part(&self, _: &ChannelId, _: PageStart, _: usize) -> Result<Part<Message, MessageId>, Failure> {
        self.fail()
    }
    fn credential(&self, _: &Credential) -> Result<Option<CredentialOwner>, Failure> {
        self.fail()
    }
    fn account(&self, _: UserId) -> Result<Option<Account>, Failure> {
        self.fail()
    }
    fn profile(&self, _: UserId) -> Result<Option<Profile>, Failure> {
        self.fail()
    }
    fn has_account(&self, _: UserId) -> Result<bool, Failure> {
        self.fail()
    }
    fn user_by_username(&self, _: &str) -> Result<Option<UserId>, Failure> {
        self.fail()
    }
    fn group(&self, _: GroupId) -> Result<Option<Group>, Failure> {
        self.fail()
    }
    fn group_page(&self, _: &GroupFilter, _: Option<&GroupPlace>, _: usize) -> Result<GroupPage, Failure> {
        self.fail()
    }
    fn group_role(&self, _: GroupId, _: UserId) -> Result<Option<Role>, Failure> {
        self.fail()
    }
    fn group_members_part(
        &self,
        _: GroupId,
        _: Option<Role>,
        _: Option<RosterPlace>,
        _: usize,
    ) -> Result<Part<(UserId, RosterPlace), RosterPlace>, Failure> {
        self.fail()
    }
    fn user_groups_part(
        &self,
        _: UserId,
        _: Option<Role>,
        _: Option<RosterPlace>,
        _: usize,
    ) -> Result<Part<(Group, RosterPlace), RosterPlace>, Failure> {
        self.fail()
    }
    fn objects(&self, _: &[ObjectId]) -> Result<Vec<Object>, Failure> {
        self.fail()
    }
    fn objects_part(
        &self,
        _: &ObjectListing,
        _: Option<&ObjectPlace>,
        _: usize,
    ) -> Result<Part<Object, ObjectPlace>, Failure> {
        self.fail()
    }
    fn object_counts(&self, _: UserId) -> Result<ObjectCounts, Failure> {
        self.fail()
    }
    fn sides(&self, _: UserId, _: UserId) -> Result<Sides, Failure> {
        self.fail()
    }
    fn friends_part(
        &self,
        _: UserId,
        _: Option<FriendState>,
        _: Option<FriendPlace>,
        _: usize,
    ) -> Result<Part<(Friend, FriendPlace), FriendPlace>, Failure> {
        self.fail()
    }
    fn edge_count(&self, _: UserId) -> Result<u32, Failure> {
        self.fail()
    }
    fn notifications_part(
        &self,
        _: UserId,
        _: Option<NotificationId>,
        _: usize,
    ) -> Result<Part<Notification, NotificationId>, Failure> {
        self.fail()
    }
    fn channels_written(&self, _: UserId, _: Option<&ChannelId>, _: usize) -> Result<Vec<ChannelId>, Failure> {
        self.fail()
    }
    fn account_deletions(&self, _: usize) -> Result<Vec<UserId>, Failure> {
        self.fail()
    }
    fn expired_revocations(
        &self,
        _: Expiry,
        _: Option<&RevocationPlace>,
        _: usize,
    ) -> Result<(Vec<Revocation>, Option<RevocationPlace>), Failure> {
        self.fail()
    }

    fn revocations(&self) -> Result<Vec<Revocation>, Failure> {
        self.fail()
    }
    fn close(&self) -> Result<(), Failure> {
        self.fail()
    }
}

#[test]
fn a_failing_store_is_said_and_blamed_on_nobody_else() {
    for (failure, status, code) in
        [(Failure::Passing("disk full".into()), 503, 14), (Failure::Corrupt("bad block".into()), 500, 13)]
    {
        let world = World::on(Arc::new(Broken(failure)));
        let pair = world.services.tokens.issue(UserId(Uuid::from_u128(7)), "a", Default::default(), world.now.get());
        let token = pair.session.as_str();
        let ask = |target: &str, who, body: &str| {
            let heard = world.ask(target, who, body.to_owned());
            heard.expect_refusal(status, code, target);
            assert!(!heard.text.contains("disk") && !heard.text.contains("block"), "{}", heard.text);
        };
        ask("POST /v2/account/authenticate/device", As::Client, r#"{"id":"device-1234567"}"#);
        let refresh = json!({ "token": pair.refresh }).to_string();
        ask("POST /v2/account/session/refresh", As::Client, &refresh);
        ask("GET /v2/account", As::User(token), "");
        ask("PUT /v2/account", As::User(token), r#"{"location":"x"}"#);
        ask("GET /v2/user?usernames=a", As::User(token), "");
        ask("GET /v2/channel/2...lobby", As::User(token), "");
        for target in [
            "GET /v2/channel/3.00000000-0000-0000-0000-000000000008..",
            "GET /v2/channel/3.00000000-0000-0000-0000-000000000008../presence",
            "PUT /v2/group/00000000-0000-0000-0000-000000000008",
            "POST /v2/group",
            "GET /v2/group",
            "GET /v2/group/00000000-0000-0000-0000-000000000008/user",
            "GET /v2/user/00000000-0000-0000-0000-000000000008/group",
            "GET /v2/friend",
            "POST /v2/friend?ids=00000000-0000-0000-0000-000000000008",
            "DELETE /v2/friend?usernames=b",
            "POST /v2/friend/block?ids=00000000-0000-0000-0000-000000000008",
            "GET /v2/notification",
            "DELETE /v2/notification?ids=00000000-0000-0000-0000-000000000008",
            "DELETE /v2/account",
        ] {
            ask(target, As::User(token), r#"{"name":"x"}"#);
        }
        let id = r#""collection":"c","key":"k","value":"{}","user_id":"00000000-0000-0000-0000-000000000008""#;
        ask("PUT /v2/storage", As::User(token), &format!(r#"{{"objects":[{{{id}}}]}}"#));
        for target in ["POST /v2/storage", "PUT /v2/storage/delete"] {
            ask(target, As::User(token), &format!(r#"{{"object_ids":[{{{id}}}]}}"#));
        }
        ask("GET /v2/storage/c", As::User(token), "");
        let link = r#"{"id":"device-1234567","email":"a@example.com","password":"password"}"#;
        for kind in ["device", "custom", "email"] {
            ask(&format!("POST /v2/account/link/{kind}"), As::User(token), link);
            ask(&format!("POST /v2/account/unlink/{kind}"), As::User(token), link);
        }
        ask("POST /v2/session/logout", As::User(token), "");
        assert_ne!(world.ask("GET /v2/channel", As::User(token), "").status, 401, "a logout that failed is none");
    }
}
