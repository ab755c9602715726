//! The calls, without a server: who may make them, and what they answer.

use std::io::Write;
use std::time::Duration;

use http_body_util::BodyExt;
use hyper::header::{CONTENT_TYPE, X_CONTENT_TYPE_OPTIONS};
use serde_json::Value;

use super::*;
use crate::options::Options;

const TOKEN: &str = "a-token-of-the-tests";

/// A desk that notes what it is asked.
#[derive(Default)]
struct Played {
    unready: Option<&'static str>,
    drains: Vec<Terms>,
    levels: Vec<String>,
    backups: Vec<(String, bool)>,
    erasures: Vec<String>,
    disconnected: Vec<String>,
    refused: [u64; TOKEN_REFUSALS.len()],
}

impl Desk for Played {
    fn page(&mut self, _: PageFormat) -> Answer {
        answer(StatusCode::OK, LINE, "the page")
    }

    fn unready(&self) -> Option<String> {
        self.unready.map(str::to_owned)
    }

    fn status(&mut self) -> Answer {
        json(StatusCode::OK, &"the status")
    }

    fn drain_status(&self, status: StatusCode) -> Answer {
        json(status, &"the drain")
    }

    fn begin_drain(&mut self, terms: Terms) -> bool {
        self.drains.push(terms);
        self.drains.len() == 1
    }

    fn log_level(&self) -> Answer {
        json(StatusCode::OK, &self.levels)
    }

    fn set_log_level(&mut self, levels: &LogLevels) {
        self.levels.push(levels.to_string());
    }

    fn backup_status(&self, status: StatusCode) -> Answer {
        json(status, &"the backup")
    }

    fn begin_backup(&mut self, directory: &str, with_keys: bool) -> Result<(), Refusal> {
        self.backups.push((directory.to_owned(), with_keys));
        Ok(())
    }

    fn erasure_status(&mut self, status: StatusCode) -> Answer {
        json(status, &"the erasure")
    }

    fn begin_erasure(&mut self, user: &str) -> Result<(), Refusal> {
        self.erasures.push(user.to_owned());
        Ok(())
    }

    fn channels(&self, by: ChannelOrder, below: Option<Place>, limit: usize) -> Answer {
        json(StatusCode::OK, &format!("{by:?} {limit} {:?}", below.map(|(rank, id)| (rank, id.to_string()))))
    }

    fn user(&self, user: &str) -> Result<Answer, Refusal> {
        Ok(json(StatusCode::OK, &user))
    }

    fn disconnect(&mut self, whom: AskedWhom, reason: Option<&str>) -> Result<Answer, Refusal> {
        self.disconnected.push(format!("{whom:?} {reason:?}"));
        Ok(json(StatusCode::OK, &"closed"))
    }

    fn count_refusal(&mut self, kind: usize) {
        self.refused[kind] += 1;
    }
}

/// The status and the body of the answer to this request.
fn ask(desk: &mut Played, method: &str, target: &str, headers: &[(&str, &str)]) -> (u16, String) {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(TOKEN.as_bytes()).unwrap();
    let arguments = ["stentor", "--admin-token-file", file.path().to_str().unwrap()].map(Into::into);
    let token = AdminToken::obtain(&Options::from_arguments(arguments).unwrap()).unwrap();
    let hosts = Hosts::of("127.0.0.1:7351".parse().unwrap(), &[]);
    let mut request = Request::builder().method(method).uri(target).header("Host", "localhost");
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let answer = respond(&request.body(()).unwrap(), &hosts, &token, desk);
    assert_eq!(answer.headers().get(X_CONTENT_TYPE_OPTIONS).unwrap(), "nosniff");
    let status = answer.status().as_u16();
    let is_json = answer.headers().get(CONTENT_TYPE).unwrap() == "application/json";
    let body = answer.into_body().collect();
    let body = whole(body);
    if status >= 400 && status != 503 {
        assert!(is_json, "{body}");
        let refusal: Value = serde_json::from_str(&body).unwrap();
        assert!(["code", "message", "next"].iter().all(|member| refusal[member].is_string()), "{body}");
    }
    (status, body)
}

/// The bytes of a body that is there as a whole.
fn whole<T>(collect: http_body_util::combinators::Collect<T>) -> String
where
    T: hyper::body::Body<Data = hyper::body::Bytes, Error = std::convert::Infallible> + Unpin,
{
    let mut collect = std::pin::pin!(collect);
    let context = &mut std::task::Context::from_waker(std::task::Waker::noop());
    match collect.as_mut().poll(context) {
        std::task::Poll::Ready(Ok(collected)) => String::from_utf8(collected.to_bytes().to_vec()).unwrap(),
        _ => panic!("the body is there"),
    }
}

fn bearer(token: &str) -> [(&'static str, String); 1] {
    [("Authorization", format!("Bearer {token}"))]
}

#[test]
fn numbers_and_health_need_no_token_and_the_rest_is_explained() {
    let desk = &mut Played::default();
    let mut check = |method: &str, target: &str, expected: u16| {
        let (status, _) = ask(desk, method, target, &[]);
        assert_eq!(status, expected, "{method} {target}");
    };
    check("GET", "/", 200);
    check("GET", "/metrics", 200);
    check("GET", "/metrics?x=1", 200);
    check("POST", "/metrics", 405);
    check("HEAD", "/metrics", 200);
    check("HEAD", "/readyz", 200);
    check("HEAD", "/v1/status", 401);
    check("GET", "/healthz", 200);
    check("POST", "/readyz", 405);
    check("GET", "/readyz", 200);
    check("GET", "/v1/nothing", 404);
    check("DELETE", "/v1/drain", 405);
    desk.unready = Some("no disk");
    assert_eq!(ask(desk, "GET", "/readyz", &[]), (503, "no disk\n".to_owned()));
    assert_eq!(ask(desk, "GET", "/healthz", &[]).0, 200);
}

#[test]
fn every_call_is_listed_and_documented() {
    let (_, body) = ask(&mut Played::default(), "GET", "/", &[]);
    let listed: Value = serde_json::from_str(&body).unwrap();
    let pages = include_str!("../../../../docs/admin.md");
    assert_eq!(listed["calls"].as_array().unwrap().len(), CALLS.len());
    for call in &CALLS {
        assert!(pages.contains(&format!("`{} {}`", call.method, call.path)), "{} {}", call.method, call.path);
        for parameter in call.parameters {
            assert!(pages.contains(&format!("`{parameter}`")), "{parameter}");
        }
    }
}

#[test]
fn calls_need_the_token_and_refusals_are_counted() {
    for (method, target) in [
        ("PUT", "/v1/log?level=info"),
        ("GET", "/v1/status"),
        ("GET", "/v1/drain"),
        ("POST", "/v1/drain"),
        ("GET", "/v1/backup"),
        ("POST", "/v1/backup?directory=/a"),
        ("GET", "/v1/erase"),
        ("POST", "/v1/erase?user=a"),
    ] {
        let desk = &mut Played::default();
        for (headers, expected) in [
            (vec![], 401),
            (vec![("Authorization", "Basic YTpi".to_owned())], 401),
            (bearer("another-token-of-tests").to_vec(), 401),
            (bearer(&TOKEN[1..]).to_vec(), 401),
        ] {
            let headers: Vec<_> = headers.iter().map(|(name, value)| (*name, value.as_str())).collect();
            let (status, body) = ask(desk, method, target, &headers);
            assert_eq!(status, expected, "{method} {target} {headers:?}");
            assert!(body.contains("--admin-token-file") && !body.contains(TOKEN), "{body}");
        }
        assert_eq!((desk.refused, desk.drains.len()), ([2, 2], 0));
        let right = format!("bearer {TOKEN}");
        let (status, _) = ask(desk, method, target, &[("Authorization", &right)]);
        assert!((200..300).contains(&status), "{method} {target}: {status}");
        assert_eq!(desk.refused, [2, 2]);
    }
}

#[test]
fn a_drain_takes_its_times_from_the_query_and_begins_once() {
    let right = format!("Bearer {TOKEN}");
    let right = ("Authorization", right.as_str());
    for (query, expected) in [
        ("", Terms::default()),
        ("?wait=0&time=1m%2030s", Terms { wait: Some(Duration::ZERO), time: Some(Duration::from_secs(90)) }),
        ("?time=250ms", Terms { wait: None, time: Some(Duration::from_millis(250)) }),
    ] {
        let desk = &mut Played::default();
        let target = format!("/v1/drain{query}");
        assert_eq!(ask(desk, "POST", &target, &[right]).0, 202, "{query}");
        assert_eq!(desk.drains, [expected], "{query}");
        let (status, body) = ask(desk, "POST", &target, &[right]);
        assert!(status == 409 && body.contains("already_draining"), "{body}");
    }
    let desk = &mut Played::default();
    for wrong in ["?wait=soon", "?wait=1s&wait=2s", "?node=2", "?time=25h", "?time=%zz", "?Wait=1s"] {
        let (status, body) = ask(desk, "POST", &format!("/v1/drain{wrong}"), &[right]);
        assert!(status == 400 && body.contains("wait, time"), "{wrong}: {body}");
    }
    assert_eq!(ask(desk, "POST", "/v1/drain", &[right, ("Content-Length", "0")]).0, 202);
    for body in [("Content-Length", "7"), ("Transfer-Encoding", "chunked")] {
        let (status, said) = ask(desk, "POST", "/v1/drain", &[right, body]);
        assert!(status == 400 && said.contains("query"), "{said}");
    }
    assert_eq!(desk.drains.len(), 1);
}

#[test]
fn the_log_s_levels_are_told_and_set() {
    let token = bearer(TOKEN);
    let right = (token[0].0, token[0].1.as_str());
    let desk = &mut Played::default();
    for wrong in ["", "?level=", "?level=loud", "?level=info&level=info", "?levels=info", "?level=gatway=info"] {
        let (status, body) = ask(desk, "PUT", &format!("/v1/log{wrong}"), &[right]);
        assert!(status == 400 && body.contains("parameter_wrong"), "{wrong}: {body}");
    }
    assert_eq!(ask(desk, "PUT", "/v1/log?level=warn,gateway::sockets=debug", &[right]).0, 200);
    assert_eq!(ask(desk, "PUT", "/v1/log?level=warn%2Cgateway%3Dtrace", &[right]).0, 200);
    assert_eq!(desk.levels, ["warn,gateway::sockets=debug", "warn,gateway=trace"]);
    assert!(ask(desk, "GET", "/v1/log", &[right]).1.contains("gateway=trace"));
}

#[test]
fn a_backup_names_its_directory_and_says_whether_it_has_the_keys() {
    let right = format!("Bearer {TOKEN}");
    let right = ("Authorization", right.as_str());
    let desk = &mut Played::default();
    for (query, expected) in [("directory=%2Fb%201", false), ("keys=true&directory=%2Fb%201", true)] {
        assert_eq!(ask(desk, "POST", &format!("/v1/backup?{query}"), &[right]).0, 202, "{query}");
        assert_eq!(desk.backups.pop(), Some(("/b 1".to_owned(), expected)), "{query}");
    }
    for wrong in
        ["", "keys=true", "directory=a&keys=yes", "directory=a&directory=b", "directory=%zz", "directory=a&x=1"]
    {
        let (status, body) = ask(desk, "POST", &format!("/v1/backup?{wrong}"), &[right]);
        assert!(status == 400 && body.contains("directory, keys"), "{wrong}: {body}");
    }
    assert_eq!((desk.backups.len(), ask(desk, "GET", "/v1/backup", &[right]).0), (0, 200));
    for (query, expected) in [("user=ann%20b", 202), ("user=", 400), ("", 400), ("user=a&user=b", 400), ("name=a", 400)]
    {
        assert_eq!(ask(desk, "POST", &format!("/v1/erase?{query}"), &[right]).0, expected, "{query}");
    }
    assert_eq!(desk.erasures, ["ann b"]);
}

#[test]
fn a_host_of_another_name_gets_nothing_but_health() {
    let desk = &mut Played::default();
    let hosts = Hosts::of("127.0.0.1:7351".parse().unwrap(), &[]);
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), TOKEN).unwrap();
    let arguments = ["stentor", "--admin-token-file", file.path().to_str().unwrap()].map(Into::into);
    let token = AdminToken::obtain(&Options::from_arguments(arguments).unwrap()).unwrap();
    for (target, expected) in [("/", 421), ("/metrics", 421), ("/v1/drain", 421), ("/readyz", 200)] {
        let request = Request::builder()
            .uri(target)
            .header("Host", "attacker.example")
            .header("Authorization", format!("Bearer {TOKEN}"));
        let answer = respond(&request.body(()).unwrap(), &hosts, &token, desk);
        assert_eq!(answer.status(), expected, "{target}");
    }
}

#[test]
fn channels_and_people() {
    let (desk, token) = (&mut Played::default(), format!("Bearer {TOKEN}"));
    let mut said = |method: &str, target: &str| ask(desk, method, target, &[("Authorization", &token)]);
    for (target, expected) in [
        ("/v1/channels", "Members 100 None"),
        ("/v1/channels?by=rate&limit=7", "Rate 7 None"),
        ("/v1/channels?cursor=9%3A2...a%20b", "Members 100 Some((9, \\\"2...a b\\\"))"),
        ("/v1/users/ann%20b", "ann b"),
        ("/v1/users/ann%2Fb", "ann/b"),
    ] {
        assert_eq!(said("GET", target), (200, format!("\"{expected}\"\n")), "{target}");
    }
    for target in ["by=size", "limit=0", "limit=1001", "limit=x", "cursor=9", "cursor=x:2...a", "cursor=9:a", "node=1"]
    {
        let (status, body) = said("GET", &format!("/v1/channels?{target}"));
        assert!(status == 400 && body.contains("parameter_wrong"), "{target}: {body}");
    }
    assert_eq!(said("GET", "/v1/users/").0, 404);
    assert_eq!(said("GET", "/v1/users/a/b").0, 404);
    assert_eq!(said("GET", "/v1/users/ann?x=1").0, 400);
    assert_eq!(said("GET", "/v1/users/%ff").0, 400);
    let long = "x".repeat(124);
    for target in ["", "user=", "user=a&session=b", "session=b", "reason=x", &format!("user=a&reason={long}")] {
        assert_eq!(said("POST", &format!("/v1/disconnect?{target}")).0, 400, "{target}");
    }
    assert_eq!(said("POST", &format!("/v1/disconnect?user=ann&reason={}", &long[1..])).0, 200);
    assert_eq!(said("POST", "/v1/disconnect?session=018bcfe5-6800-7000-8000-000000000007").0, 200);
    assert_eq!(desk.disconnected.len(), 2);
    assert!(desk.disconnected[1].starts_with("Session(") && desk.disconnected[1].ends_with("None"));
}
