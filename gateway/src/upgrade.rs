//! The opening of a WebSocket (docs/protocol.md, sections 1.1 and 1.2), decided from the first bytes of a connection.
//!
//! Pure: bytes and the time in, a verdict out. The caller keeps what it has read until the verdict is no longer
//! `NeedMore`, which is after `HEAD_BYTES_MAX` bytes at the latest, and sees to the deadline. What is not an opening
//! goes to `http/` with all its bytes. The verdict does not depend on how the bytes were cut into pieces, and later
//! bytes never change it.

use std::sync::Arc;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use engine::admission::OnLag;
use engine::frames::Format;
use engine::home::Appearance;
use engine::id::{Timestamp, UserId};
use httparse::{Header, Request, Status};
use sha1::{Digest, Sha1};

use crate::percent::{self, Part};
use crate::token::{Claims, TOKEN_BYTES_MAX, Tokens};

/// Longest request head, and so the most that is ever kept of a connection that has not said what it wants: the longest
/// token, and as much for the rest as servers commonly take.
pub const HEAD_BYTES_MAX: usize = TOKEN_BYTES_MAX + 8192;

/// More headers than any client or proxy sends.
const HEADERS_MAX: usize = 64;

/// What RFC 6455 appends to the client's key before hashing.
const ACCEPT_SUFFIX: &[u8] = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11";

/// What the first bytes of a connection are.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Opening {
    /// Not decided yet: call again with these bytes and more.
    NeedMore,
    /// Write the answer; from byte `consumed` on, the connection carries frames of this session.
    WebSocket { answer: Vec<u8>, identity: Identity, consumed: usize },
    /// Write the answer, then close.
    Refuse { answer: Vec<u8> },
    /// Nothing of ours: hand all bytes to `http/`.
    Http,
}

/// Who has opened a session.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Identity {
    pub user: UserId,
    pub username: Arc<str>,
    pub format: Format,
    pub on_lag: OnLag,
    pub appearance: Appearance,
}

/// Judges the bytes read so far from a new connection.
pub fn judge(bytes: &[u8], tokens: &Tokens, now: Timestamp) -> Opening {
    match begins_like_an_opening(bytes) {
        Some(true) => {}
        Some(false) => return Opening::Http,
        None => return Opening::NeedMore,
    }
    // Looking no further than the limit keeps the verdict the same when more arrives at once.
    let head = &bytes[..bytes.len().min(HEAD_BYTES_MAX)];
    let mut headers = [httparse::EMPTY_HEADER; HEADERS_MAX];
    let mut request = Request::new(&mut headers);
    match request.parse(head) {
        Ok(Status::Complete(consumed)) => match answer(&request, tokens, now) {
            Ok((answer, identity)) => Opening::WebSocket { answer, identity, consumed },
            Err(refusal) => Opening::Refuse { answer: refusal.written() },
        },
        Ok(Status::Partial) if head.len() < HEAD_BYTES_MAX => Opening::NeedMore,
        Ok(Status::Partial) | Err(httparse::Error::TooManyHeaders) => {
            Opening::Refuse { answer: Refusal::HeadTooLarge.written() }
        }
        Err(_) => Opening::Refuse { answer: Refusal::BadRequest("malformed request").written() },
    }
}

/// Whether the request line is `GET /ws`, with or without a query; `None` while that is open.
fn begins_like_an_opening(bytes: &[u8]) -> Option<bool> {
    const BEGINNING: &[u8] = b"GET /ws";
    let compared = bytes.len().min(BEGINNING.len());
    if bytes[..compared] != BEGINNING[..compared] {
        return Some(false);
    }
    bytes.get(BEGINNING.len()).map(|byte| matches!(byte, b' ' | b'?'))
}

/// An opening refused, with one short line of why.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Refusal {
    BadRequest(&'static str),
    Unauthenticated(&'static str),
    HeadTooLarge,
}

impl Refusal {
    fn written(self) -> Vec<u8> {
        let (status, line) = match self {
            // The version tells clients of another one what is spoken here (RFC 6455, section 4.4).
            Self::BadRequest(line) => ("400 Bad Request\r\nSec-WebSocket-Version: 13", line),
            Self::Unauthenticated(line) => ("401 Unauthorized", line),
            Self::HeadTooLarge => ("431 Request Header Fields Too Large", "request head too large"),
        };
        let length = line.len() + 1;
        format!(
            "HTTP/1.1 {status}\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Length: {length}\r\n\
             Access-Control-Allow-Origin: *\r\nConnection: close\r\n\r\n{line}\n"
        )
        .into_bytes()
    }
}

/// The checks in their order: what is asked for, token, and only then the handshake.
fn answer(request: &Request<'_, '_>, tokens: &Tokens, now: Timestamp) -> Result<(Vec<u8>, Identity), Refusal> {
    let query = request.path.and_then(|target| target.split_once('?')).map_or("", |(_, query)| query);
    let format = format(query)?;
    let on_lag = on_lag(query)?;
    if names_no_token(query, request.headers) && !asks_for_upgrade(request.headers) {
        return Err(Refusal::BadRequest("this is for WebSocket clients: send Upgrade, and a token"));
    }
    let claims = claims(query, request.headers, tokens, now)?;
    let key = handshake_key(request)?;
    let accept = BASE64_STANDARD.encode(Sha1::new().chain_update(key).chain_update(ACCEPT_SUFFIX).finalize());
    let answer = format!(
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Accept: {accept}\r\n\r\n"
    );
    let (user, username, appearance) = (claims.user, claims.username.into(), appearance(query));
    Ok((answer.into_bytes(), Identity { user, username, format, on_lag, appearance }))
}

fn format(query: &str) -> Result<Format, Refusal> {
    match parameter(query, "format").as_deref() {
        None | Some("" | "json") => Ok(Format::Json),
        Some("protobuf") => Ok(Format::Protobuf),
        Some(_) => Err(Refusal::BadRequest("unknown format, use json or protobuf")),
    }
}

fn on_lag(query: &str) -> Result<OnLag, Refusal> {
    match parameter(query, "on_lag").as_deref() {
        None | Some("" | "close") => Ok(OnLag::Close),
        Some("skip") => Ok(OnLag::Skip),
        Some(_) => Err(Refusal::BadRequest("unknown on_lag, use close or skip")),
    }
}

/// What is not clearly a yes is a no, as clients expect.
fn appearance(query: &str) -> Appearance {
    match parameter(query, "status").as_deref() {
        Some("1" | "t" | "T" | "true" | "TRUE" | "True") => Appearance::Online,
        _ => Appearance::Unseen,
    }
}

/// A header, if there is one, counts alone; the query's token is for browsers, which cannot set headers here.
fn claims(query: &str, headers: &[Header<'_>], tokens: &Tokens, now: Timestamp) -> Result<Claims, Refusal> {
    const MISSING: Refusal = Refusal::Unauthenticated("missing or invalid token");
    let token = match values(headers, "authorization").next() {
        Some(header) => {
            let header = std::str::from_utf8(header).map_err(|_| MISSING)?;
            header.strip_prefix("Bearer ").ok_or(MISSING)?.to_owned()
        }
        None => parameter(query, "token").ok_or(MISSING)?,
    };
    tokens.check_session(&token, now).map_err(|_| MISSING)
}

fn names_no_token(query: &str, headers: &[Header<'_>]) -> bool {
    values(headers, "authorization").next().is_none() && parameter(query, "token").is_none()
}

fn asks_for_upgrade(headers: &[Header<'_>]) -> bool {
    lists(headers, "upgrade", "websocket")
}

/// The client's key, if the request is an opening handshake by RFC 6455, section 4.2.1.
fn handshake_key<'h>(request: &Request<'_, 'h>) -> Result<&'h [u8], Refusal> {
    let headers: &[Header<'h>] = request.headers;
    let refuse = |line| Err(Refusal::BadRequest(line));
    if request.version != Some(1) {
        return refuse("a WebSocket needs HTTP/1.1");
    }
    if values(headers, "host").count() != 1 {
        return refuse("one Host header is needed");
    }
    if !asks_for_upgrade(headers) {
        return refuse("header Upgrade: websocket is missing");
    }
    if !lists(headers, "connection", "upgrade") {
        return refuse("header Connection: Upgrade is missing");
    }
    if one(headers, "sec-websocket-version") != Some(b"13") {
        return refuse("header Sec-WebSocket-Version must be 13");
    }
    match one(headers, "sec-websocket-key") {
        Some(key) if BASE64_STANDARD.decode(key).is_ok_and(|nonce| nonce.len() == 16) => Ok(key),
        _ => refuse("header Sec-WebSocket-Key must be 16 bytes in base64"),
    }
}

/// The first value of a query parameter, as far as it is text.
fn parameter(query: &str, name: &str) -> Option<String> {
    let (_, value) = percent::pairs(query).find(|(key, _)| *key == name)?;
    percent::decode(value, Part::Query)
}

fn values<'a, 'h>(headers: &'a [Header<'h>], name: &'a str) -> impl Iterator<Item = &'h [u8]> + 'a {
    headers.iter().filter(move |header| header.name.eq_ignore_ascii_case(name)).map(|header| header.value.trim_ascii())
}

/// The value of a header that may be there once only.
fn one<'h>(headers: &[Header<'h>], name: &str) -> Option<&'h [u8]> {
    let mut all = values(headers, name);
    let value = all.next()?;
    all.next().is_none().then_some(value)
}

/// Whether one of the comma-separated words of these headers is `word`.
fn lists(headers: &[Header<'_>], name: &str, word: &str) -> bool {
    values(headers, name)
        .flat_map(|value| value.split(|&byte| byte == b','))
        .any(|part| part.trim_ascii().eq_ignore_ascii_case(word.as_bytes()))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use uuid::Uuid;

    use super::*;
    use crate::token::tests::{at, tokens};
    use crate::token::{VARS_BYTES_MAX, Vars};

    const UPGRADE: &str = "Host: localhost:7350\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
                           Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";

    fn user() -> UserId {
        UserId(Uuid::from_u128(7))
    }

    fn token() -> String {
        tokens().issue(user(), "alice", Vars::new(), at(100)).session
    }

    fn judged(request: &str) -> Opening {
        judge(request.as_bytes(), &tokens(), at(101))
    }

    fn head(target: &str, headers: &str) -> String {
        format!("GET {target} HTTP/1.1\r\n{headers}\r\n")
    }

    fn status(opening: &Opening) -> &str {
        match opening {
            Opening::NeedMore => "more",
            Opening::Http => "http",
            Opening::WebSocket { answer, .. } | Opening::Refuse { answer } => {
                std::str::from_utf8(&answer[9..12]).unwrap()
            }
        }
    }

    fn check(target: &str, headers: &str, expected: &str) {
        let opening = judged(&head(target, headers));
        assert_eq!(status(&opening), expected, "{target} {headers} {opening:?}");
    }

    #[test]
    fn answers_as_the_standard_has_it() {
        let request = head(&format!("/ws?lang=en&status=false&token={}", token()), UPGRADE);
        let expected = "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
                        Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n";
        let identity = Identity {
            user: user(),
            username: "alice".into(),
            format: Format::Json,
            on_lag: OnLag::Close,
            appearance: Appearance::Unseen,
        };
        let opening = Opening::WebSocket { answer: expected.as_bytes().to_vec(), identity, consumed: request.len() };
        assert_eq!(judged(&request), opening);
        assert_eq!(judged(&format!("{request}\u{1}frames")), opening);
    }

    #[test]
    fn says_what_becomes_of_it_when_it_lags() {
        for (value, expected) in [
            ("", Some(OnLag::Close)),
            ("&on_lag=", Some(OnLag::Close)),
            ("&on_lag=close", Some(OnLag::Close)),
            ("&on_lag=skip", Some(OnLag::Skip)),
            ("&on_lag=Skip", None),
            ("&on_lag=wait", None),
        ] {
            let on_lag = match judged(&head(&format!("/ws?token={}{value}", token()), UPGRADE)) {
                Opening::WebSocket { identity, .. } => Some(identity.on_lag),
                refused => {
                    assert_eq!(status(&refused), "400", "{value}");
                    None
                }
            };
            assert_eq!(on_lag, expected, "{value}");
        }
    }

    #[test]
    fn other_requests_are_for_http() {
        for request in ["GET / HTTP/1.1", "POST /ws HTTP/1.1", "GET /wsx", "GET /ws/", "GET /w/", "\r\n", "\0", "GEX"] {
            assert_eq!(judged(request), Opening::Http, "{request:?}");
        }
        for request in ["", "G", "GET /w", "GET /ws", "GET /ws?", "GET /ws HTTP/1.1\r\nHost: a\r\n"] {
            assert_eq!(judged(request), Opening::NeedMore, "{request:?}");
        }
    }

    #[test]
    fn tokens_are_looked_for_in_their_order() {
        let good = token();
        let bearer = |token: &str| format!("{UPGRADE}Authorization: Bearer {token}\r\n");
        check(&format!("/ws?token={good}"), UPGRADE, "101");
        check(&format!("/ws?token={good}&"), UPGRADE, "101");
        check("/ws", &bearer(&good), "101");
        check("/ws?token=bad", &bearer(&good), "101");
        check(&format!("/ws?token={good}"), &bearer("bad"), "401");
        check(&format!("/ws?token={good}"), &format!("{UPGRADE}Authorization: Basic ZGVmYXVsdGtleTo=\r\n"), "401");
        check(&format!("/ws?token={good}"), &format!("{UPGRADE}Authorization:\r\n"), "401");
        check("/ws", UPGRADE, "401");
        check("/ws?token=", UPGRADE, "401");
        check("/ws?token=%ff", UPGRADE, "401");
        check(&format!("/ws?token={good}x"), UPGRADE, "401");
        let refresh = tokens().issue(user(), "alice", Vars::new(), at(100)).refresh;
        check(&format!("/ws?token={refresh}"), UPGRADE, "401");
        let expired = tokens().issue(user(), "alice", Vars::new(), at(41)).session;
        check(&format!("/ws?token={expired}"), UPGRADE, "401");
    }

    #[test]
    fn format_comes_first() {
        let good = token();
        check(&format!("/ws?token={good}&format=JSON"), UPGRADE, "400");
        check(&format!("/ws?token={good}&format=Protobuf"), UPGRADE, "400");
        check("/ws?token=bad&format=xml", UPGRADE, "400");
        check("/ws?token=bad&format=protobuf", UPGRADE, "401");
        for (value, expected) in [("", Format::Json), ("json", Format::Json), ("protobuf", Format::Protobuf)] {
            match judged(&head(&format!("/ws?token={good}&format={value}"), UPGRADE)) {
                Opening::WebSocket { identity, .. } => assert_eq!(identity.format, expected, "{value:?}"),
                refused => panic!("{value:?}: {refused:?}"),
            }
        }
    }

    #[test]
    fn the_handshake_comes_last() {
        let target = format!("/ws?token={}", token());
        check("/ws", "Host: a\r\n", "400");
        check("/ws?token=bad", "Host: a\r\n", "401");
        check(&target, "Host: a\r\n", "400");
        let without = |part: &str, with: &str| UPGRADE.replace(part, with);
        check(&target, &without("Host: localhost:7350\r\n", ""), "400");
        check(&target, &without("Upgrade: websocket", "Upgrade: h2c"), "400");
        check(&target, &without("Upgrade: websocket", "uPgrade: h2c, WebSocket"), "101");
        check(&target, &without("Connection: Upgrade\r\n", ""), "400");
        check(&target, &without("Connection: Upgrade", "Connection: keep-alive"), "400");
        check(&target, &without("Connection: Upgrade", "connection: keep-alive , upgrade"), "101");
        check(&target, &without("Version: 13", "Version: 8"), "400");
        check(&target, &without("Version: 13", "Version: 13\r\nSec-WebSocket-Version: 13"), "400");
        check(&target, &without("dGhlIHNhbXBsZSBub25jZQ==", "dGhlIHNhbXBsZQ=="), "400");
        check(&target, &without("dGhlIHNhbXBsZSBub25jZQ==", "nonsense"), "400");
        check(&target, &without("Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n", ""), "400");
        let old = head(&target, UPGRADE).replace("HTTP/1.1", "HTTP/1.0");
        assert_eq!(status(&judged(&old)), "400");
        let offers = "Sec-WebSocket-Extensions: permessage-deflate\r\nSec-WebSocket-Protocol: chat\r\n";
        let Opening::WebSocket { answer, .. } = judged(&head(&target, &format!("{UPGRADE}{offers}"))) else {
            panic!("offers are no reason to refuse");
        };
        let answer = String::from_utf8(answer).unwrap();
        assert!(!answer.contains("Extensions") && !answer.contains("Protocol:"), "{answer}");
    }

    #[test]
    fn the_head_is_bounded() {
        let target = format!("/ws?token={}", token());
        let padded = |bytes: usize| {
            let empty = head(&target, &format!("{UPGRADE}X-Padding: \r\n"));
            head(&target, &format!("{UPGRADE}X-Padding: {}\r\n", "x".repeat(bytes - empty.len())))
        };
        assert_eq!(status(&judged(&padded(HEAD_BYTES_MAX))), "101");
        assert_eq!(status(&judged(&padded(HEAD_BYTES_MAX + 1))), "431");
        assert_eq!(judged(&padded(HEAD_BYTES_MAX + 1)[..HEAD_BYTES_MAX - 1]), Opening::NeedMore);
        check(&target, &"A: b\r\n".repeat(HEADERS_MAX + 1), "431");
        check(&target, "no colon\r\n", "400");
        assert_eq!(status(&judged("GET /ws HTTP/3.1\r\n\r\n")), "400");
    }

    #[test]
    fn every_token_opens_a_socket() {
        let vars = [("k".to_owned(), "?".repeat(VARS_BYTES_MAX - r#"{"k":""}"#.len()))].into();
        let longest = tokens().issue(user(), &"?".repeat(128), vars, at(100)).session;
        let cookie = format!("Cookie: {}\r\n", "x".repeat(7500));
        check(&format!("/ws?lang=en&status=false&token={longest}"), &format!("{UPGRADE}{cookie}"), "101");
        check("/ws", &format!("{UPGRADE}{cookie}Authorization: Bearer {longest}\r\n"), "101");
    }

    #[test]
    fn a_refusal_is_one_line_of_text() {
        let Opening::Refuse { answer } = judged(&head("/ws", UPGRADE)) else { panic!("there is no token") };
        let answer = String::from_utf8(answer).unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        assert!(head.contains("Content-Type: text/plain"), "{head}");
        assert!(head.contains(&format!("Content-Length: {}", body.len())), "{head}");
        assert!(body.ends_with('\n') && body.lines().count() == 1, "{body:?}");
    }

    /// Feeds the bytes piece by piece, as a connection does.
    fn fed(bytes: &[u8], cuts: &[prop::sample::Index]) -> Opening {
        let tokens = tokens();
        let mut ends: Vec<usize> = cuts.iter().map(|cut| cut.index(bytes.len() + 1)).collect();
        ends.sort_unstable();
        let early = ends.into_iter().map(|end| judge(&bytes[..end], &tokens, at(101)));
        early
            .chain([judge(bytes, &tokens, at(101))])
            .find(|verdict| *verdict != Opening::NeedMore)
            .unwrap_or(Opening::NeedMore)
    }

    proptest! {
        #[test]
        fn no_bytes_panic(bytes in prop::collection::vec(any::<u8>(), 0..300), opening in any::<bool>()) {
            let bytes = if opening { [b"GET /ws?".to_vec(), bytes].concat() } else { bytes };
            judge(&bytes, &tokens(), at(101));
        }

        #[test]
        fn pieces_do_not_matter(
            cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..8),
            place: prop::sample::Index,
            byte: u8,
            padding in prop_oneof![Just(0), HEAD_BYTES_MAX - 1000..HEAD_BYTES_MAX + 1000],
        ) {
            let padding = format!("X-Padding: {}\r\n", "x".repeat(padding));
            let mut bytes = head(&format!("/ws?token={}", token()), &format!("{UPGRADE}{padding}")).into_bytes();
            bytes.extend_from_slice(b"\x81\x85frames");
            prop_assert_eq!(fed(&bytes, &cuts), judge(&bytes, &tokens(), at(101)));
            let place = place.index(bytes.len());
            bytes[place] = byte;
            prop_assert_eq!(fed(&bytes, &cuts), judge(&bytes, &tokens(), at(101)));
        }
    }
}
