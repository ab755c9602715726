//! The answer for a client that connects when all connections are in use. If the client asks whether the server is
//! alive, it gets that answer. Otherwise it is told to try again later.
//!
//! Pure: bytes in, an answer out. The sockets keep a few places for such clients (`sockets/accept.rs`). The answers are
//! written by hand, not by hyper. A shard at its limit sends them from its accept loop in one system call; hyper would need
//! a task of 18 KiB for each client that the shard has no room for.

use httparse::{Request, Status};
use serde_json::json;

use crate::heads::HEADERS_MAX;
use crate::health::ALIVE;
use crate::percent::{self, UrlPart};
use crate::target::Target;
use crate::upgrade::HEAD_BYTES_MAX;

/// When a refused client may try again, in seconds: by then some connections may have closed.
const RETRY_AFTER_SECONDS: u32 = 5;

/// What a client asks for when the server is full.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Asked {
    /// Whether the store takes requests.
    Health(Method),
    /// Whether the server exists: with this text as the answer.
    Life(Method, &'static str),
    /// Whether new clients should come.
    Readiness(Method),
    /// Anything else, which is refused now.
    Service(Method),
}

/// Whether the answer has a body.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Method {
    Head,
    Other,
}

/// What the client asks for; `None` until enough bytes have come.
pub fn asked(bytes: &[u8]) -> Option<Asked> {
    let head = &bytes[..bytes.len().min(HEAD_BYTES_MAX)];
    let mut headers = [httparse::EMPTY_HEADER; HEADERS_MAX];
    let mut request = Request::new(&mut headers);
    match request.parse(head) {
        Ok(Status::Partial) if head.len() < HEAD_BYTES_MAX => return None,
        Ok(Status::Complete(_)) => {}
        _ => return Some(Asked::Service(Method::Other)),
    }
    let method = if request.method == Some("HEAD") { Method::Head } else { Method::Other };
    if !matches!(request.method, Some("GET" | "HEAD")) {
        return Some(Asked::Service(method));
    }
    let path = percent::decode(Target::of(request.path.unwrap_or_default()).path, UrlPart::Path);
    Some(match path.as_deref() {
        Some("/healthcheck") => Asked::Health(method),
        Some("/" | "") => Asked::Life(method, ""),
        Some("/healthz") => Asked::Life(method, ALIVE),
        Some("/readyz") => Asked::Readiness(method),
        _ => Asked::Service(method),
    })
}

impl Asked {
    /// The answer. `unready` returns the reason if the store takes no requests now.
    pub fn answer(self, unready: impl FnOnce() -> Option<String>) -> Vec<u8> {
        match self {
            Self::Health(method) => match unready() {
                None => written("200 OK", JSON, "{}", method),
                Some(reason) => unavailable(&reason, method),
            },
            Self::Life(method, text) => written("200 OK", TEXT, text, method),
            Self::Readiness(method) => unavailable(&unready().unwrap_or_else(|| NO_ROOM.to_owned()), method),
            Self::Service(method) => unavailable(NO_ROOM, method),
        }
    }
}

const NO_ROOM: &str = "no more connections are taken now, try again";

const JSON: &str = "application/json";
const TEXT: &str = "text/plain; charset=utf-8";

/// The answer to a client whose request has not been read.
pub fn unasked() -> Vec<u8> {
    Asked::Service(Method::Other).answer(|| None)
}

fn unavailable(message: &str, method: Method) -> Vec<u8> {
    let status = format!("503 Service Unavailable\r\nRetry-After: {RETRY_AFTER_SECONDS}");
    written(&status, JSON, &json!({"code": 14, "message": message}).to_string(), method)
}

fn written(status: &str, kind: &str, body: &str, method: Method) -> Vec<u8> {
    let length = body.len();
    let body = if method == Method::Head { "" } else { body };
    format!(
        "HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nContent-Length: {length}\r\n\
         Cache-Control: no-store, no-cache, must-revalidate\r\nAccess-Control-Allow-Origin: *\r\n\
         X-Content-Type-Options: nosniff\r\nConnection: close\r\n\r\n{body}"
    )
    .into_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn health_is_told_and_everything_else_refused() {
        use Method::{Head, Other};
        for (request, expected) in [
            ("GET /healthcheck HTTP/1.1\r\nHost: a\r\n\r\n", Asked::Health(Other)),
            ("GET /healthcheck HTTP/1.0\r\n\r\n", Asked::Health(Other)),
            ("\r\nGET http://a/health%63heck?x HTTP/1.1\r\n\r\n", Asked::Health(Other)),
            ("HEAD /healthcheck HTTP/1.1\r\n\r\n", Asked::Health(Head)),
            ("GET / HTTP/1.0\r\n\r\n", Asked::Life(Other, "")),
            ("GET /healthz HTTP/1.1\r\nHost: a\r\n\r\n", Asked::Life(Other, ALIVE)),
            ("GET /readyz HTTP/1.1\r\nHost: a\r\n\r\n", Asked::Readiness(Other)),
            ("POST /healthcheck HTTP/1.1\r\n\r\n", Asked::Service(Other)),
            ("GET /ws?token=x HTTP/1.1\r\nUpgrade: websocket\r\n\r\n", Asked::Service(Other)),
            ("\u{16}\u{3}", Asked::Service(Other)),
        ] {
            assert_eq!(asked(request.as_bytes()), Some(expected), "{request}");
        }
        for request in ["", "G", "GET /healthcheck HTTP/1.1\r\nHost: a\r\n"] {
            assert_eq!(asked(request.as_bytes()), None, "{request}");
        }
        let endless = format!("GET /{}", "x".repeat(HEAD_BYTES_MAX));
        assert_eq!(asked(endless.as_bytes()), Some(Asked::Service(Other)));
    }

    #[test]
    fn answers_say_their_length_and_when_to_come_again() {
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
        let refused = text(unasked());
        let (head, body) = refused.split_once("\r\n\r\n").unwrap();
        assert!(head.starts_with("HTTP/1.1 503 ") && head.contains("\r\nRetry-After: 5\r\n"), "{head}");
        assert!(
            head.contains(&format!("Content-Length: {}\r\n", body.len())) && body.contains(r#""code":14"#),
            "{body}"
        );
        assert!(head.contains("\r\nX-Content-Type-Options: nosniff\r\n"), "{head}");
        let ready = |asked: Asked| text(asked.answer(|| None));
        assert!(ready(Asked::Health(Method::Other)).ends_with("\r\n\r\n{}"));
        assert!(ready(Asked::Health(Method::Head)).ends_with("\r\n\r\n"));
        let unready = |asked: Asked| text(asked.answer(|| Some("no \"room\"".to_owned())));
        let ill = unready(Asked::Health(Method::Other));
        assert!(ill.starts_with("HTTP/1.1 503 ") && ill.ends_with(r#"{"code":14,"message":"no \"room\""}"#), "{ill}");
        assert!(unready(Asked::Life(Method::Other, "")).starts_with("HTTP/1.1 200 "));
    }
}
