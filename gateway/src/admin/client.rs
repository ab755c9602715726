//! `stentor status`, `stentor drain`, `stentor user` and the like: calls to the admin address of a running server, with the token that the server
//! keeps in its file. A failure says what to do next.

use std::net::SocketAddr;
use std::time::Duration;

use serde_json::Value;

use super::token;
use crate::drain::Terms;
use crate::local_http;
use crate::options::{AdminCall, Options};
use crate::percent;

/// How often a server is asked whether it has done what takes long.
const POLL_INTERVAL: Duration = Duration::from_millis(200);

/// Makes the call. Returns the server's answer, which is JSON. What takes long, this waits for.
pub fn call(options: &Options, call: &AdminCall) -> Result<String, String> {
    let (address, token) = reached(options)?;
    let said = made(address, &token, call)?;
    match call {
        AdminCall::Backup { .. } => awaited(address, &token, &AdminCall::BackupStatus, said),
        AdminCall::Erase { .. } => awaited(address, &token, &AdminCall::ErasureStatus, said),
        _ => Ok(said),
    }
}

/// Asks until what was begun has ended. `said` is the first answer. Fails if it has failed.
fn awaited(address: SocketAddr, token: &str, ask: &AdminCall, mut said: String) -> Result<String, String> {
    loop {
        let status: Value = serde_json::from_str(&said).unwrap_or_default();
        match (status["state"].as_str(), status["error"].as_str()) {
            (Some("running"), _) => std::thread::sleep(POLL_INTERVAL),
            (Some("done"), _) => return Ok(said),
            (_, Some(error)) => return Err(error.to_owned()),
            _ => return Err("the server has been started again meanwhile; begin anew".to_owned()),
        }
        said = made(address, token, ask)?;
    }
}

/// The address of the calls, and the token.
fn reached(options: &Options) -> Result<(SocketAddr, String), String> {
    let Some(address) = options.admin else {
        return Err("--admin is off; name the address of the server's admin calls with --admin".to_owned());
    };
    let Some(path) = options.admin_token_path() else {
        let next = "name the file that the server was given with --admin-token-file";
        return Err(format!("a server with the memory store keeps no token of admin calls by itself; {next}"));
    };
    let token = token::read(&path)
        .map_err(|error| format!("{error}; run this where the server runs, as its user, with its --data"))?;
    Ok((address, token))
}

fn made(address: SocketAddr, token: &str, call: &AdminCall) -> Result<String, String> {
    let (method, target) = match call {
        AdminCall::Status => ("GET", "/v1/status".to_owned()),
        AdminCall::DrainStatus => ("GET", "/v1/drain".to_owned()),
        AdminCall::LogLevel => ("GET", "/v1/log".to_owned()),
        // Levels have no character that a query escapes.
        AdminCall::SetLogLevel(levels) => ("PUT", format!("/v1/log?level={levels}")),
        AdminCall::Drain(terms) => ("POST", format!("/v1/drain{}", query(*terms))),
        AdminCall::BackupStatus => ("GET", "/v1/backup".to_owned()),
        AdminCall::ErasureStatus => ("GET", "/v1/erase".to_owned()),
        AdminCall::Erase { user } => ("POST", format!("/v1/erase?user={}", percent::encode(user))),
        AdminCall::Channels { by, limit, cursor } => {
            let limit = limit.map(|limit| format!("&limit={limit}")).unwrap_or_default();
            let cursor = cursor.as_ref().map(|cursor| format!("&cursor={}", percent::encode(cursor)));
            ("GET", format!("/v1/channels?by={}{limit}{}", by.name(), cursor.unwrap_or_default()))
        }
        AdminCall::User { user } => ("GET", format!("/v1/users/{}", percent::encode(user))),
        AdminCall::Disconnect { user, session, reason } => {
            let user = user.as_ref().map(|user| format!("user={}", percent::encode(user)));
            let session = session.map(|session| format!("session={session}"));
            let reason = reason.as_ref().map(|reason| format!("reason={}", percent::encode(reason)));
            let parameters: Vec<String> = [user, session, reason].into_iter().flatten().collect();
            ("POST", format!("/v1/disconnect?{}", parameters.join("&")))
        }
        AdminCall::Backup { directory, keys } => {
            let directory = directory.to_str().ok_or_else(|| format!("{} is no UTF-8", directory.display()))?;
            ("POST", format!("/v1/backup?directory={}&keys={keys}", percent::encode(directory)))
        }
    };
    let answer = local_http::ask(address, method, &target, Some(token))
        .map_err(|error| format!("{error}; is the server running, with this address as its --admin?"))?;
    if (200..300).contains(&answer.status) {
        return Ok(answer.body + "\n");
    }
    let refusal: Value = serde_json::from_str(&answer.body).unwrap_or_default();
    match (refusal["message"].as_str(), refusal["next"].as_str()) {
        (Some(message), Some(next)) => Err(format!("{message} ({}); {next}", answer.status)),
        (Some(message), None) if answer.status == 503 => {
            Err(format!("{message} (503): calls are answered when it serves, and SIGTERM stops it"))
        }
        _ => Err(format!("{address} answers {}: is it the admin address of a server of this version?", answer.status)),
    }
}

fn query(Terms { wait, time }: Terms) -> String {
    let parameter = |name: &str, time: Option<Duration>| Some(format!("{name}={}ms", time?.as_millis()));
    let parameters: Vec<String> = [parameter("wait", wait), parameter("time", time)].into_iter().flatten().collect();
    if parameters.is_empty() { String::new() } else { format!("?{}", parameters.join("&")) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::local_http::tests::played;
    use crate::options::ChannelOrder;

    #[test]
    fn each_command_is_one_call() {
        let second = Duration::from_secs(1);
        for (call, expected) in [
            (AdminCall::Status, "GET /v1/status HTTP"),
            (AdminCall::DrainStatus, "GET /v1/drain HTTP"),
            (AdminCall::LogLevel, "GET /v1/log HTTP"),
            (
                AdminCall::SetLogLevel("warn,gateway=debug".parse().unwrap()),
                "PUT /v1/log?level=warn,gateway=debug HTTP",
            ),
            (AdminCall::Drain(Terms::default()), "POST /v1/drain HTTP"),
            (AdminCall::Drain(Terms { wait: None, time: Some(second) }), "POST /v1/drain?time=1000ms HTTP"),
            (AdminCall::BackupStatus, "GET /v1/backup HTTP"),
            (AdminCall::ErasureStatus, "GET /v1/erase HTTP"),
            (AdminCall::Erase { user: "ann b".into() }, "POST /v1/erase?user=ann%20b HTTP"),
            (
                AdminCall::Channels { by: ChannelOrder::Rate, limit: Some(7), cursor: Some("9:2...a b".into()) },
                "GET /v1/channels?by=rate&limit=7&cursor=9%3A2...a%20b HTTP",
            ),
            (AdminCall::User { user: "ann/b".into() }, "GET /v1/users/ann%2Fb HTTP"),
            (
                AdminCall::Disconnect { user: Some("ann".into()), session: None, reason: Some("be nice".into()) },
                "POST /v1/disconnect?user=ann&reason=be%20nice HTTP",
            ),
            (
                AdminCall::Backup { directory: "/a b/ü&".into(), keys: true },
                "POST /v1/backup?directory=%2Fa%20b%2F%C3%BC%26&keys=true HTTP",
            ),
            (
                AdminCall::Drain(Terms { wait: Some(second), time: Some(second) }),
                "POST /v1/drain?wait=1000ms&time=1000ms HTTP",
            ),
        ] {
            let (answer, request) =
                played("HTTP/1.1 200 OK\r\n\r\n{\"a\": 1}", |address| made(address, "the-token", &call));
            assert_eq!(answer, Ok("{\"a\": 1}\n".to_owned()));
            assert!(request.starts_with(expected) && request.contains("Bearer the-token\r\n"), "{request}");
        }
    }

    #[test]
    fn a_refusal_says_what_to_do_next() {
        let check = |answer: &'static str, expected: &str| {
            let (refused, _) = played(answer, |address| made(address, "the-token", &AdminCall::Status));
            let refused = refused.unwrap_err();
            assert!(refused.contains(expected), "{refused}");
        };
        check("HTTP/1.1 401 Unauthorized\r\n\r\n{\"message\":\"no\",\"next\":\"do\"}", "no (401); do");
        check("HTTP/1.1 404 Not Found\r\n\r\nnothing here", "answers 404: is it the admin address");
        check(
            "HTTP/1.1 503 Service Unavailable\r\n\r\n{\"code\":14,\"message\":\"standby: another server has it\"}",
            "standby: another server has it (503): calls are answered when it serves",
        );
        check("SSH-2.0-OpenSSH\r\n", "is the server running");
    }
}
