//! Keys that change while the server runs: those that sign its tokens, and those of a provider. And `stentor token`.

use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::time::Instant;

use rustix::process::Signal;
use serde_json::json;
use tests::harness::{DEADLINE, Launch, SERVER_KEY, Server, Socket, data_dir, loadgen};

use crate::provider::{AUDIENCE, ISSUER, Provider};
use crate::{sign_in, token_of};

fn await_said(server: &Server, expected: &str) {
    let begun = Instant::now();
    while !server.output().contains(expected) {
        assert!(begun.elapsed() < DEADLINE, "{expected} is not in {}", server.output());
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
}

/// Whether a session token opens a socket, and is good for HTTP. Both say the same.
fn is_good(server: &Server, token: &str) -> bool {
    let status = server.http().get("/v2/account", token).status;
    let opened = Socket::try_connect(server.address(), &format!("/ws?token={token}"), &[]).is_ok();
    assert_eq!(status == 200, opened, "{status}");
    opened
}

#[test]
fn signing_keys_rotate_under_a_live_session() {
    let data = data_dir();
    let (store, file) = (data.path().join("store"), data.path().join("stentor.toml"));
    let write = |text: &str| std::fs::write(&file, text).expect("our own file");
    write("session_ttl = '1h'\nrefresh_ttl = '2h'\n");
    let server = Launch::on(&store).shards(2).flag("--config", file.display()).start();
    let before = server.sign_in("ann");
    let mut socket = Socket::connect(server.address(), &before.token);
    let room = socket.join("lobby");
    let refreshed =
        |token: &str| server.http().post("/v2/account/session/refresh", SERVER_KEY, &json!({ "token": token })).status;

    // The operator sets the old keys aside; the server makes new ones.
    for key in ["session", "refresh"] {
        std::fs::rename(store.join(format!("{key}.key")), store.join(format!("{key}.old.key"))).expect("the key");
    }
    let previous = |until: &str| {
        let of = |key: &str| {
            let path = store.join(format!("{key}.old.key"));
            format!("previous_{key}_key_file = '{}'\nprevious_{key}_key_until = '{until}'\n", path.display())
        };
        write(&format!("session_ttl = '1h'\nrefresh_ttl = '2h'\n{}{}", of("session"), of("refresh")));
    };
    previous("2100-01-01T00:00:00Z");
    server.signal(Signal::HUP);
    await_said(&server, "session.key in the data directory (its content)");
    let after = server.sign_in("ann");
    assert!(is_good(&server, &before.token) && is_good(&server, &after.token));
    assert_eq!((refreshed(&before.refresh_token), refreshed(&after.refresh_token)), (200, 200));
    assert!(store.join("session.key").exists());

    // The end comes. New tokens are of the new key, and the session goes on.
    previous("2020-01-01T00:00:00Z");
    server.signal(Signal::HUP);
    await_said(&server, "previous_session_key_until has passed");
    await_said(&server, "these keys have new values: previous_session_key_until, previous_refresh_key_until");
    assert!(!is_good(&server, &before.token) && is_good(&server, &after.token));
    assert_eq!((refreshed(&before.refresh_token), refreshed(&after.refresh_token)), (401, 200));
    assert_eq!(socket.say(&room, r#"{"still":"here"}"#)["channel_message_ack"]["code"], 0);
    server.stop();
    // A restart knows the same keys.
    let server = Launch::on(&store).flag("--config", file.display()).start();
    assert!(!is_good(&server, &before.token) && is_good(&server, &after.token));
}

#[test]
fn a_provider_s_keys_rotate_under_live_sessions() {
    let data = data_dir();
    let directory = data.path().join("provider");
    let old = Provider::new(&directory, &[["one", "RS256"]]);
    let file = data.path().join("stentor.toml");
    let keys = old.set();
    let text = format!(
        "identity_issuer = '{ISSUER}'\nidentity_audience = ['{AUDIENCE}']\nidentity_keys = ['{}']\n",
        keys.display()
    );
    std::fs::write(&file, text).expect("our own file");
    let server = Launch::on(&data.path().join("store")).flag("--config", file.display()).start();
    let (of_old, http) = (old.token("ann", "ann"), server.http());
    let mut socket = Socket::connect(server.address(), &token_of(&sign_in(&http, &of_old)));

    let new = Provider::new(&directory, &[["two", "ES256"]]);
    assert_eq!(sign_in(&http, &new.token("ann", "ann")).status, 401, "not read yet");
    server.signal(Signal::HUP);
    await_said(&server, "these keys have new values: identity_keys (its content)");
    assert_eq!((sign_in(&http, &new.token("ann", "ann")).status, sign_in(&http, &of_old).status), (200, 401));
    socket.assert_open();

    // A set that is broken changes nothing, and the log says what is wrong.
    std::fs::write(&keys, r#"{"keys":[{"kty":"RSA","kid":"weak","n":"AQAB","e":"AQAB"}]}"#).expect("our own file");
    server.signal(Signal::HUP);
    await_said(&server, "the key \"weak\": an RSA key has 2048 to 4096 bits here");
    assert_eq!(sign_in(&http, &new.token("ann", "ann")).status, 200);
    server.stop();
}

/// Runs the program, with this on its standard input.
fn run(data: &Path, arguments: &[&str], input: &str) -> Output {
    let mut command = Command::new(loadgen().with_file_name("stentor"));
    for (name, _) in std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("STENTOR_")) {
        command.env_remove(name);
    }
    command.args(arguments).arg("--data").arg(data);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().expect("the program starts");
    std::io::Write::write_all(&mut child.stdin.take().expect("a pipe"), input.as_bytes()).expect("it reads");
    child.wait_with_output().expect("its end")
}

#[test]
fn an_operator_makes_and_checks_tokens() {
    let data = data_dir();
    let server = Launch::on(data.path()).flag("--session-ttl", "1h").start();
    let ann = server.sign_in("ann");
    let arguments =
        ["token", "new", "--user", &ann.user_id, "--username", "ann", "--var", "role=helper", "--lifetime", "30m"];
    let made = run(data.path(), &[&arguments[..], &["--refresh"]].concat(), "");
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    let printed = String::from_utf8(made.stdout).expect("text");
    let tokens: Vec<&str> = printed.lines().collect();
    assert_eq!(tokens.len(), 2, "{printed}");
    let account = server.http().get("/v2/account", tokens[0]).json();
    assert_eq!(account["user"]["id"], ann.user_id.as_str(), "{account}");
    Socket::connect(server.address(), tokens[0]).assert_open();
    let refresh = json!({ "token": tokens[1] });
    assert_eq!(server.http().post("/v2/account/session/refresh", SERVER_KEY, &refresh).status, 200);

    let check = |token: &str, input: &str| {
        let output = run(data.path(), &["token", "check", token], input);
        let said = String::from_utf8([output.stdout, output.stderr].concat()).expect("text");
        (output.status.code(), said)
    };
    for (code, said) in [check(tokens[0], ""), check("-", &format!("{}\n", tokens[0])), check(&ann.token, "")] {
        assert_eq!(code, Some(0), "{said}");
        assert!(said.contains("a session token") && said.contains(&ann.user_id), "{said}");
    }
    assert!(check(tokens[0], "").1.contains("role=helper"));
    let (code, said) = check(&format!("{}x", tokens[0]), "");
    assert!(code == Some(1) && said.contains("not valid: it is not signed with a key of this server"), "{said}");
    // Nothing is made where there is no server.
    let nowhere = data_dir();
    let output = run(&nowhere.path().join("none"), &arguments, "");
    assert!(output.status.code() == Some(1) && !nowhere.path().join("none").exists());
    assert!(String::from_utf8_lossy(&output.stderr).contains("session.key"));
}

#[test]
fn an_operator_checks_a_token_of_the_provider() {
    let data = data_dir();
    let provider = Provider::new(&data.path().join("provider"), &[["one", "EdDSA"]]);
    let keys = provider.set();
    let flags =
        ["--identity-issuer", ISSUER, "--identity-audience", AUDIENCE, "--identity-keys", keys.to_str().expect("text")];
    let check = |token: &str| {
        let output = run(&data.path().join("store"), &[&["token", "check", token], &flags[..]].concat(), "");
        (output.status.code(), String::from_utf8([output.stdout, output.stderr].concat()).expect("text"))
    };
    let (code, said) = check(&provider.token("ann-1", "ann"));
    assert_eq!(code, Some(0), "{said}");
    for part in ["a token of the identity provider", "ann-1", "https://id.example ann-1", "the key \"one\" for EdDSA"] {
        assert!(said.contains(part), "{part:?} is not in {said}");
    }
    let stranger = Provider::new(&data.path().join("stranger"), &[["one", "EdDSA"]]);
    let (code, said) = check(&stranger.token("ann-1", "ann"));
    assert!(code == Some(1) && said.contains("its signature is wrong"), "{said}");
}
