//! What comes from outside of a session: refused requests that would fill the log, logouts without end, silent connections at
//! the operators' address, pages in browsers, and tokens and variables that ask for more than there is.

use std::io::Write;
use std::net::TcpStream;
use std::process::{Command, Stdio};

use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use serde_json::json;
use tests::harness::{Launch, SERVER_KEY, bearer};

use crate::stage::{ATTACKER, BYSTANDER, Stage, sign_in, sign_in_device};

fn get(path: &str, token: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nAuthorization: {}\r\nConnection: close\r\n\r\n", bearer(token))
}

#[test]
fn requests_that_are_refused_write_few_lines() {
    const REQUESTS: u64 = 1000;
    const LINE: &str = "a request without a good key or token was refused";
    let stage = Stage::launch();
    let forged = get("/v2/account", "a.forged.token");
    stage.beside(BYSTANDER, &sign_in_device("bystander"), || {
        for _ in 0..REQUESTS {
            let (head, body) = stage.ask(ATTACKER, forged.as_bytes());
            assert!(head.starts_with("HTTP/1.1 401 "), "{head}{body}");
        }
    });
    let left_out = stage.metric("stentor_log_lines_left_out_total");
    let written = stage.server.output().matches(LINE).count() as u64;
    assert!((1..=REQUESTS / 10).contains(&written), "{written} lines of {REQUESTS} requests");
    assert!(written + left_out >= REQUESTS, "{written} lines are written and {left_out} are counted");
}

/// The table of refused tokens has room for a million of them, which no test of seconds fills. A user's own entries end at 64.
#[test]
fn logouts_without_end_keep_no_other_user_from_logging_out() {
    const LOGOUTS: usize = 200;
    let stage = Stage::launch();
    let http = stage.server.http();
    let sign_in = |name: &str| {
        let body = json!({ "id": format!("device-of-{name}") });
        let answer = http.post("/v2/account/authenticate/device", SERVER_KEY, &body);
        assert_eq!(answer.status, 200, "{}", answer.body);
        answer.json()["token"].as_str().expect("a token").to_owned()
    };
    let log_out = |token: &str| http.post("/v2/session/logout", &bearer(token), &json!({})).status;
    let owner = sign_in("somebody-else");
    stage.beside(BYSTANDER, &sign_in_device("bystander"), || {
        let mut refused = 0;
        for _ in 0..LOGOUTS {
            // After 64 logouts of single tokens all tokens of the user are logged out, new ones of the same second too.
            match log_out(&sign_in("restless")) {
                200 => {}
                401 | 429 => refused += 1,
                status => panic!("a logout is {status}"),
            }
        }
        assert!(refused < LOGOUTS, "some were done");
    });
    assert_eq!(log_out(&owner), 200);
    assert_eq!(http.get("/v2/account", &owner).status, 401, "the token is logged out");
}

#[test]
fn silent_connections_at_the_operators_address_delay_no_reader_of_the_numbers() {
    const SILENT: usize = 100;
    let stage = Stage::launch();
    let address = stage.server.admin().address();
    stage.beside(BYSTANDER, &sign_in_device("bystander"), || {
        let mut silent = Vec::new();
        for _ in 0..SILENT / 4 {
            silent.extend((0..4).map(|_| TcpStream::connect(address).expect("it listens")));
            assert!(stage.metric("stentor_turn_seconds_count") > 0);
        }
    });
}

#[test]
fn a_page_in_a_browser_is_bound_by_its_headers_and_reads_no_numbers() {
    let stage = Stage::launch();
    stage.beside(BYSTANDER, &sign_in_device("bystander"), || {
        let page = stage.server.http().request("GET", "/", &[("Accept", "text/html")], "");
        let policy = page.header("content-security-policy").expect("a policy");
        assert!(policy.contains("frame-ancestors 'none'") && policy.contains("script-src 'sha256-"), "{policy}");
        for path in ["/", "/v2/account", "/healthcheck", "/nothing"] {
            let answer = stage.server.http().request("GET", path, &[], "");
            assert_eq!(answer.header("x-content-type-options"), Some("nosniff"), "{path}");
        }
        for (host, status) in
            [("localhost", 200), ("127.0.0.1:7351", 200), ("evil.example", 421), ("127.0.0.1.evil", 421)]
        {
            let answer = stage.server.admin().request("GET", "/metrics", &[("Host", host)], "");
            assert_eq!(answer.status, status, "{host}: {}", answer.body);
        }
    });
}

const SESSION_KEY: &str = "the-session-key-of-this-test";

/// A token with this header and these claims, which the server's own key has signed.
fn signed(header: &str, claims: &str) -> String {
    let [header, claims] = [header, claims].map(|part| BASE64_URL_SAFE_NO_PAD.encode(part));
    let mut signing = Command::new("openssl")
        .args(["dgst", "-sha256", "-hmac", SESSION_KEY, "-binary"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("openssl runs: `./check` installs it");
    let mut input = signing.stdin.take().expect("it is piped");
    input.write_all(format!("{header}.{claims}").as_bytes()).expect("openssl reads");
    drop(input);
    let signature = signing.wait_with_output().expect("openssl ends").stdout;
    assert_eq!(signature.len(), 32, "a signature of SHA-256");
    format!("{header}.{claims}.{}", BASE64_URL_SAFE_NO_PAD.encode(signature))
}

#[test]
fn a_well_signed_token_with_a_critical_header_is_refused() {
    let stage = Stage::launch_with(|launch: Launch| launch.flag("--session-key", SESSION_KEY));
    let token = stage.server.sign_in("somebody").token;
    let claims = token.split('.').nth(1).expect("a payload");
    let claims = String::from_utf8(BASE64_URL_SAFE_NO_PAD.decode(claims).expect("base64")).expect("text");
    let status = |header: &str| {
        let head = stage.ask(ATTACKER, get("/v2/account", &signed(header, &claims)).as_bytes()).0;
        head.split(' ').nth(1).map(str::to_owned)
    };
    stage.beside(BYSTANDER, &sign_in_device("bystander"), || {
        assert_eq!(
            status(r#"{"alg":"HS256","typ":"JWT"}"#).as_deref(),
            Some("200"),
            "the test signs as the server does"
        );
        for critical in [r#"["exp"]"#, r#"["b64"]"#, "[]", "null"] {
            let header = format!(r#"{{"alg":"HS256","crit":{critical}}}"#);
            assert_eq!(status(&header).as_deref(), Some("401"), "{header}");
        }
    });
}

#[test]
fn variables_are_strings_of_bounded_length() {
    let stage = Stage::launch();
    let long = "x".repeat(4000);
    stage.beside(BYSTANDER, &sign_in_device("bystander"), || {
        for (vars, status) in [
            (json!({"a": "b"}), "200"),
            (json!({ "a": long }), "400"),
            (json!({ long.as_str(): "b" }), "400"),
            (json!({"a": 1}), "400"),
            (json!({"a": ["b"]}), "400"),
            (json!({"a": {"b": "c"}}), "400"),
            (json!({"a": null}), "400"),
        ] {
            let body = json!({"id": "a-device-of-the-attacker", "vars": vars}).to_string();
            let request = sign_in("device", &format!("Content-Length: {}", body.len()), &body);
            let (head, said) = stage.ask(ATTACKER, request.as_bytes());
            assert_eq!(head.split(' ').nth(1), Some(status), "{body}: {head}{said}");
        }
    });
}
