//! Tests calls as clients see them, over a real store in memory and without sockets. What REST answers is the measure.

use std::future::{Future, poll_fn};
use std::io::Write;
use std::pin::pin;
use std::time::{Duration, Instant};

use flate2::Compression;
use flate2::write::GzEncoder;
use glommio::LocalExecutor;
use http_body_util::{BodyExt, Full};
use hyper::body::{Buf, Bytes};
use hyper::{HeaderMap, Request, Response};
use prost_reflect::{DynamicMessage, SerializeOptions};
use serde_json::{Value, json};

use super::answer_body::AnswerBody;
use super::calling::answer;
use super::message::{Framed, framed, read};
use super::methods::{self, CALL_FUNCTION, HEALTH_CHECK, METHODS, SERVICE};
use super::{schema, transcoding};
use crate::client_network::ClientNetwork;
use crate::http::route::Route;
use crate::http::tests::{As, Session, World, block_on, request};

/// The answer to a call.
struct Heard {
    status: u16,
    headers: HeaderMap,
    /// The answer's message as bytes, if it has one.
    message: Option<Vec<u8>>,
    trailers: HeaderMap,
}

impl Heard {
    fn code(&self) -> u8 {
        let status = self.headers.get("grpc-status").or(self.trailers.get("grpc-status")).expect("a call has a status");
        status.to_str().unwrap().parse().unwrap()
    }

    fn text(&self) -> String {
        let text = self.headers.get("grpc-message").map_or("", |text| text.to_str().unwrap());
        crate::percent::decode(text, crate::percent::UrlPart::Path).unwrap()
    }
}

/// Runs a test where times can be waited for.
fn run(test: impl FnOnce(&World)) {
    LocalExecutor::default().run(async { test(&World::new()) });
}

fn send(world: &World, request: Request<Bytes>) -> Heard {
    send_at(world, request, Instant::now())
}

/// The answer to a call whose head has come at this time.
fn send_at(world: &World, request: Request<Bytes>, arrived: Instant) -> Heard {
    let mut answer = pin!(answer(&world.services, ClientNetwork::UNKNOWN, request.map(Full::new), arrived));
    let (answer, counted): (Response<AnswerBody>, _) = block_on(poll_fn(|context| {
        let polled = answer.as_mut().poll(context);
        world.go_on(context);
        polled
    }));
    assert_eq!(counted.is_some(), world.services.answer_bytes() > 0, "an answer counts until it is sent");
    drop(counted);
    let (head, body) = answer.into_parts();
    let collected = block_on(body.collect()).unwrap();
    let trailers = collected.trailers().cloned().unwrap_or_default();
    let mut body = collected.aggregate();
    let body = body.copy_to_bytes(body.remaining());
    assert_eq!(world.services.answer_bytes(), 0, "what is sent does not count");
    let message = (!body.is_empty()).then(|| {
        let Framed { is_compressed, bytes } = read(&body).unwrap();
        assert!(!is_compressed);
        bytes.to_vec()
    });
    Heard { status: head.status.as_u16(), headers: head.headers, message, trailers }
}

fn call_of(path: &str, who: As<'_>, body: Vec<u8>) -> Request<Bytes> {
    let call =
        request(&format!("POST {path}"), who).header("content-type", "application/grpc").header("te", "trailers");
    call.body(body.into()).unwrap()
}

/// The message of this method that is written as JSON here.
fn message(name: &str, message: &Value) -> Vec<u8> {
    let (input, _) = schema::messages_of(methods::method(name).unwrap());
    transcoding::answer(input, message.to_string().as_bytes()).unwrap()
}

/// The answer of a call as JSON, or the code and the text of its refusal.
fn call(world: &World, name: &str, who: As<'_>, asked: &Value) -> Result<Value, (u8, String)> {
    let heard = send(world, call_of(&format!("{SERVICE}{name}"), who, framed(&message(name, asked))));
    assert_eq!((heard.status, &heard.headers["content-type"]), (200, &"application/grpc".parse().unwrap()));
    if heard.code() != 0 {
        assert!(heard.message.is_none() && heard.trailers.is_empty(), "{name}: a refusal has its status in its head");
        return Err((heard.code(), heard.text()));
    }
    let (_, output) = schema::messages_of(methods::method(name).unwrap());
    let answer = DynamicMessage::decode(output, heard.message.unwrap().as_slice()).unwrap();
    let options = SerializeOptions::new().use_proto_field_name(true).stringify_64_bit_integers(false);
    let mut json = Vec::new();
    answer.serialize_with_options(&mut serde_json::Serializer::new(&mut json), &options).unwrap();
    Ok(serde_json::from_slice(&json).unwrap())
}

/// The same of REST.
fn rest(world: &World, target: &str, who: As<'_>, body: &Value) -> Result<Value, (u8, String)> {
    let heard = world.ask(target, who, body.to_string());
    let body = heard.json();
    match body["code"].as_u64() {
        Some(code) if heard.status != 200 => Err((code as u8, body["message"].as_str().unwrap().to_owned())),
        _ => Ok(body),
    }
}

#[test]
fn calls_and_requests_have_the_same_answers() {
    run(|world| {
        let alice = call(
            world,
            "AuthenticateDevice",
            As::Client,
            &json!({"account": {"id": "device-of-alice", "vars": {"a": "b"}}, "create": true, "username": "alice"}),
        );
        let alice = alice.unwrap();
        assert_eq!(alice["created"], true);
        let alice = As::User(alice["token"].as_str().unwrap());
        let Session { user: bob, token, .. } = world.sign_in("bob");
        let (bob_id, bob) = (bob.to_string(), As::User(&token));
        let ok = |name: &str, who, asked: Value| {
            call(world, name, who, &asked).unwrap_or_else(|error| panic!("{name}: {error:?}"))
        };
        ok("UpdateAccount", alice, json!({"display_name": "Älice", "lang_tag": "de"}));
        ok("LinkEmail", alice, json!({"email": "alice@example.org", "password": "a secret"}));
        ok("AddFriends", alice, json!({"ids": [bob_id]}));
        let object =
            json!({"collection": "c/1", "key": "k", "value": "{\"a\":1}", "permission_read": 2, "permission_write": 0});
        let acks = ok(
            "WriteStorageObjects",
            bob,
            json!({"objects": [object, {"collection": "c/1", "key": "own", "value": "{}"}]}),
        );
        assert_eq!((&acks["acks"][0]["key"], &acks["acks"][1]["user_id"]), (&json!("k"), &json!(bob_id)));
        let object_ids = json!({"object_ids": [{"collection": "c/1", "key": "k", "user_id": bob_id}]});
        let read = ok("ReadStorageObjects", alice, object_ids.clone());
        assert_eq!(Ok(read.clone()), rest(world, "POST /v2/storage", alice, &object_ids));
        assert_eq!(read["objects"][0]["version"], "bb6cb5c68df4652941caf652a366f2d8");
        let group = ok("CreateGroup", alice, json!({"name": "readers", "open": true, "max_count": 7}));
        let group = group["id"].as_str().unwrap().to_owned();
        ok("UpdateGroup", alice, json!({"group_id": group, "description": "of books"}));
        ok("JoinGroup", bob, json!({"group_id": group}));
        for (name, who, asked, target) in [
            ("GetAccount", alice, json!({}), "/v2/account".to_owned()),
            ("GetUsers", bob, json!({"usernames": ["alice", "bob"]}), "/v2/user?usernames=alice&usernames=bob".into()),
            ("ListFriends", bob, json!({"limit": 10, "state": 2}), "/v2/friend?limit=10&state=2".into()),
            ("ListGroups", bob, json!({"name": "read%", "limit": 10}), "/v2/group?name=read%25&limit=10".into()),
            ("ListGroupUsers", bob, json!({"group_id": group}), format!("/v2/group/{group}/user")),
            ("ListUserGroups", bob, json!({"user_id": bob_id}), format!("/v2/user/{bob_id}/group")),
            ("ListNotifications", bob, json!({"limit": 100}), "/v2/notification?limit=100".into()),
            ("ListStorageObjects", alice, json!({"collection": "c/1", "limit": 9}), "/v2/storage/c%2F1?limit=9".into()),
            (
                "ListStorageObjects",
                bob,
                json!({"collection": "c/1", "user_id": bob_id, "limit": 9}),
                format!("/v2/storage/c%2F1/{bob_id}?limit=9"),
            ),
            (
                "ListChannelMessages",
                bob,
                json!({"channel_id": format!("3.{group}..")}),
                format!("/v2/channel/3.{group}.."),
            ),
        ] {
            let (called, asked) = (ok(name, who, asked), rest(world, &format!("GET {target}"), who, &Value::Null));
            assert_eq!(Ok(called), asked, "{name}");
        }
        ok("KickGroupUsers", alice, json!({"group_id": group, "user_ids": [bob_id]}));
        ok("DeleteFriends", alice, json!({"ids": [bob_id]}));
        ok("DeleteStorageObjects", bob, json!({"object_ids": [{"collection": "c/1", "key": "own"}]}));
        assert_eq!(ok("ListStorageObjects", bob, json!({"collection": ""})), json!({}));
        ok("DeleteGroup", alice, json!({"group_id": group}));
        assert_eq!(ok("ListGroups", bob, json!({"limit": 10})), json!({}));
    });
}

#[test]
fn refusals_are_those_of_rest() {
    run(|world| {
        let Session { token, .. } = world.sign_in("alice");
        let alice = As::User(&token);
        let none = "00000000-0000-4000-8000-000000000000";
        for (name, who, asked, target, body) in [
            ("AuthenticateCustom", As::Nobody, json!({}), "POST /v2/account/authenticate/custom", json!({})),
            ("AuthenticateCustom", As::Header("Basic x"), json!({}), "POST /v2/account/authenticate/custom", json!({})),
            ("AuthenticateCustom", As::Client, json!({}), "POST /v2/account/authenticate/custom", json!({})),
            (
                "AuthenticateEmail",
                As::Client,
                json!({"account": {"email": "a@b.c", "password": "wrong one"}, "create": false}),
                "POST /v2/account/authenticate/email?create=false",
                json!({"email": "a@b.c", "password": "wrong one"}),
            ),
            (
                "SessionRefresh",
                As::Client,
                json!({"token": "x"}),
                "POST /v2/account/session/refresh",
                json!({"token": "x"}),
            ),
            ("GetAccount", As::Nobody, json!({}), "GET /v2/account", json!(null)),
            ("GetAccount", As::User("x"), json!({}), "GET /v2/account", json!(null)),
            ("UpdateAccount", alice, json!({}), "PUT /v2/account", json!({})),
            ("AddFriends", alice, json!({"ids": ["x"]}), "POST /v2/friend?ids=x", json!(null)),
            ("AddFriends", alice, json!({"usernames": ["nobody"]}), "POST /v2/friend?usernames=nobody", json!(null)),
            ("ListFriends", alice, json!({"limit": 0}), "GET /v2/friend?limit=0", json!(null)),
            ("JoinGroup", alice, json!({}), "POST /v2/group//join", json!(null)),
            ("JoinGroup", alice, json!({"group_id": none}), &format!("POST /v2/group/{none}/join"), json!(null)),
            (
                "UpdateGroup",
                alice,
                json!({"group_id": none, "open": true}),
                &format!("PUT /v2/group/{none}"),
                json!({"open": true}),
            ),
            (
                "ListChannelMessages",
                alice,
                json!({"channel_id": "2...a", "limit": 101}),
                "GET /v2/channel/2...a?limit=101",
                json!(null),
            ),
            (
                "WriteStorageObjects",
                alice,
                json!({"objects": [{"collection": "c", "key": "k", "value": "[]"}]}),
                "PUT /v2/storage",
                json!({"objects": [{"collection": "c", "key": "k", "value": "[]"}]}),
            ),
            (
                "DeleteStorageObjects",
                alice,
                json!({"object_ids": [{"collection": "c", "key": "k"}]}),
                "PUT /v2/storage/delete",
                json!({"object_ids": [{"collection": "c", "key": "k"}]}),
            ),
            (
                "ListStorageObjects",
                alice,
                json!({"collection": "c", "limit": 0}),
                "GET /v2/storage/c?limit=0",
                json!(null),
            ),
            (
                "ListNotifications",
                alice,
                json!({"cacheable_cursor": "ü"}),
                "GET /v2/notification?cacheable_cursor=%C3%BC",
                json!(null),
            ),
        ] {
            let refused = rest(world, target, who, &body);
            assert!(refused.is_err(), "{target}");
            assert_eq!(call(world, name, who, &asked), refused, "{name} {asked}");
        }
    });
}

#[test]
fn what_the_server_lacks_is_unimplemented_in_the_words_of_rest() {
    run(|world| {
        let Session { token, .. } = world.sign_in("alice");
        for lacking in methods::LACKING {
            let target = format!("{} {}", lacking.verb, lacking.path);
            let (code, words) = rest(world, &target, As::User(&token), &Value::Null).unwrap_err();
            assert_eq!(code, 5, "{target}");
            let named = match Route::of(lacking.path) {
                Route::Lacking(feature) => feature,
                Route::LackingSignIn => "way to sign in",
                _ => "rpc",
            };
            assert!(words.contains(named), "{target}: {words}");
            let heard =
                send(world, call_of(&format!("{SERVICE}{}", lacking.name), As::User(&token), framed(b"\x0a\x01x")));
            assert_eq!(
                (heard.code(), heard.text()),
                (if lacking.name == CALL_FUNCTION { 5 } else { 12 }, words),
                "{}",
                lacking.name
            );
        }
        let without = send(world, call_of(&format!("{SERVICE}RpcFunc"), As::Nobody, framed(b"")));
        assert_eq!(without.code(), 16);
        assert!(
            without.text().starts_with("session token missing") && without.text().contains("rpc"),
            "{}",
            without.text()
        );
        for path in ["/nakama.api.Nakama/Realtime", "/nakama.api.Nakama/", "/x.Y/Z", "/v2/account", "/readyz", "/"] {
            let heard = send(world, call_of(path, As::Nobody, framed(b"")));
            assert_eq!((heard.code(), heard.text()), (12, "there is no such method".to_owned()), "{path}");
        }
    });
}

#[test]
fn a_call_has_one_message() {
    run(|world| {
        let Session { token, .. } = world.sign_in("alice");
        let path = format!("{SERVICE}AddFriends");
        let sent = |body: &[u8], encoding: Option<&str>| {
            let mut call = call_of(&path, As::User(&token), body.to_vec());
            if let Some(encoding) = encoding {
                call.headers_mut().insert("grpc-encoding", encoding.parse().unwrap());
            }
            let heard = send(world, call);
            (heard.code(), heard.text())
        };
        let gzip = |bytes: &[u8]| {
            let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
            encoder.write_all(bytes).unwrap();
            let bytes = encoder.finish().unwrap();
            [&[1][..], &(bytes.len() as u32).to_be_bytes(), &bytes].concat()
        };
        assert_eq!(sent(&framed(b""), None), (0, String::new()));
        assert_eq!(sent(&gzip(b""), Some("gzip")), (0, String::new()));
        let wrong = message("AddFriends", &json!({"ids": ["x"]}));
        let refused = (3, "ids has what is no UUID".to_owned());
        assert_eq!(sent(&framed(&wrong), Some("gzip")), refused, "the flag says that it is not compressed");
        assert_eq!(sent(&gzip(&wrong), Some("gzip")), refused);
        for (body, encoding, code, words) in [
            (&b"\0"[..], None, 3, "ends before"),
            (&[&framed(b"")[..], b"x"].concat(), None, 3, "behind it"),
            (&framed(&[0x0a, 5, 0x61]), None, 3, "the message cannot be read"),
            (&gzip(&wrong), None, 3, "grpc-encoding does not say how"),
            (&gzip(&wrong), Some("identity"), 3, "grpc-encoding does not say how"),
            (&gzip(&wrong), Some("br"), 12, "the message's encoding is unknown"),
            (b"\x01\0\0\0\x02hi", Some("gzip"), 3, "not gzip"),
            // A bomb, and a message beyond the bound.
            (&gzip(&vec![0; 1 << 20]), Some("gzip"), 3, "larger than 25932 bytes"),
            (&framed(&vec![0; 1 << 15]), None, 3, "larger than 25932 bytes"),
        ] {
            let (heard, text) = sent(body, encoding);
            assert!(heard == code && text.contains(words), "{words}: {heard} {text}");
        }
    });
}

#[test]
fn only_calls_are_answered_as_calls() {
    run(|world| {
        let path = format!("{SERVICE}Healthcheck");
        let status = |method: &str, content: Option<&str>| {
            let builder = Request::builder().method(method).uri(&path);
            let builder = content.into_iter().fold(builder, |builder, content| builder.header("content-type", content));
            send(world, builder.body(framed(b"").into()).unwrap()).status
        };
        for content in
            ["application/grpc", "application/grpc+proto", "application/grpc;x=y", "application/grpc+proto;x"]
        {
            assert_eq!(status("POST", Some(content)), 200, "{content}");
        }
        for content in [None, Some("application/json"), Some("application/grpc-web"), Some("application/grpc+json")] {
            assert_eq!(status("POST", content), 415, "{content:?}");
        }
        assert_eq!([status("GET", Some("application/grpc")), status("CONNECT", Some("application/grpc"))], [405, 405]);
    });
}

#[test]
fn a_call_may_have_a_deadline() {
    run(|world| {
        let Session { token, .. } = world.sign_in("alice");
        let code = |timeout: &str| {
            let mut call = call_of(&format!("{SERVICE}GetAccount"), As::User(&token), framed(b""));
            call.headers_mut().insert("grpc-timeout", timeout.parse().unwrap());
            send(world, call).code()
        };
        assert_eq!(code("1H"), 0);
        assert_eq!(code("99999999H"), 0);
        assert_eq!(code("soon"), 3);
        assert_eq!(code("0n"), 4);
    });
}

#[test]
fn the_time_of_a_call_runs_while_it_waits_for_its_turn() {
    run(|world| {
        let Session { token, .. } = world.sign_in("alice");
        let group = json!({"name": "readers"});
        let after_a_minute = |timeout: &str| {
            let body = framed(&message("CreateGroup", &group));
            let mut call = call_of(&format!("{SERVICE}CreateGroup"), As::User(&token), body);
            call.headers_mut().insert("grpc-timeout", timeout.parse().unwrap());
            send_at(world, call, Instant::now() - Duration::from_secs(60))
        };
        let late = after_a_minute("59S");
        assert_eq!(
            (late.code(), late.text()),
            (4, "the call's time was over before its turn: nothing was done".into())
        );
        let groups = rest(world, "GET /v2/group", As::User(&token), &Value::Null);
        assert_eq!(groups, Ok(json!({})), "nothing was done");
        assert_eq!(after_a_minute("1H").code(), 0);
    });
}

#[test]
fn balancers_ask_for_health() {
    run(|world| {
        let heard = send(world, call_of(HEALTH_CHECK, As::Nobody, framed(b"")));
        // The field 1 has the value 1: it serves.
        assert_eq!((heard.code(), heard.message), (0, Some(vec![0x08, 1])));
        // Nearly all places are taken.
        world.services.tell_connections(usize::MAX, 0);
        let heard = send(world, call_of(HEALTH_CHECK, As::Nobody, framed(b"\x0a\x01x")));
        assert_eq!((heard.code(), heard.message), (0, Some(vec![0x08, 2])));
    });
}

#[test]
fn the_answer_of_every_method_has_a_form() {
    // An answer that has nothing is the least that REST writes.
    for method in METHODS {
        let (_, output) = schema::messages_of(method);
        assert_eq!(transcoding::answer(output, b"{}").unwrap(), b"", "{}", method.name);
    }
}
