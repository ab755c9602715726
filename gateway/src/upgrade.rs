//! The opening of a WebSocket (docs/protocol.md, sections 1.1 and 1.2), decided from the first bytes of a request.
//!
//! Pure: bytes and the time in, a verdict out. The caller keeps the bytes it has read until the verdict is no longer
//! `NeedMore`, which is after `HEAD_BYTES_MAX` bytes at the latest. The caller also watches the deadline. A request
//! that is not an opening goes to `http/` with all its bytes. `http/` gives the connection back when a later request is
//! an opening. The verdict does not depend on how the bytes were split, and later bytes never change it.

use std::sync::Arc;

use base64::Engine;
use base64::alphabet;
use base64::engine::general_purpose::{GeneralPurpose, GeneralPurposeConfig};
use base64::prelude::BASE64_STANDARD;
use engine::counters::OPENING_REFUSAL_KINDS;
use engine::fanout::frames::Format;
use engine::id::{Timestamp, UserId};
use engine::process_rates::ProcessRate;
use engine::session::admission::OnLag;
use engine::session::home::Visibility;
use httparse::{Header, Request, Status};
use sha1::{Digest, Sha1};

use crate::heads::{self, BodyLength, HEADERS_MAX, HTTP_1_1, lists, one, values};
use crate::percent::{self, UrlPart};
use crate::target::{Target, is_host};
use crate::token::{TOKEN_BYTES_MAX, TokenRefusal, Tokens};

/// Longest request head: the longest token, and as much for the rest as servers commonly allow. So it is also the most
/// that is kept of a connection before its request is known.
pub const HEAD_BYTES_MAX: usize = TOKEN_BYTES_MAX + 8192;

/// What RFC 6455 appends to the client's key before hashing.
const ACCEPT_SUFFIX: &[u8] = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11";

/// Decodes the base64 of a client's key. Bits after the sixteenth byte have no meaning and need not be zero: they are
/// not zero in the sample of RFC 6455, section 4.1.
const KEY_BASE64: GeneralPurpose =
    GeneralPurpose::new(&alphabet::STANDARD, GeneralPurposeConfig::new().with_decode_allow_trailing_bits(true));

/// What the first bytes of a request are.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Opening {
    /// Not decided yet: call again with these bytes and more.
    NeedMore,
    /// Write the answer. From byte `consumed` on, the connection carries frames of this session.
    WebSocket { answer: Vec<u8>, identity: Identity, consumed: usize },
    /// Write the refusal. The connection's next request starts at byte `next`; without `next`, close the connection.
    Refuse { refusal: UpgradeRefusal, next: Option<usize> },
    /// Not an opening: hand all bytes to `http/`.
    Http,
}

/// What happens to a connection after an answer.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Ending {
    Close,
    Keep,
}

/// The user of an opened session, and what the session asked for.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Identity {
    pub user: UserId,
    pub username: Arc<str>,
    pub format: Format,
    pub on_lag: OnLag,
    pub visibility: Visibility,
    /// When the token ends that opened the session, in seconds since the Unix epoch.
    pub expires: i64,
}

/// The user whose token opens a session.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Admitted {
    pub user: UserId,
    pub username: Arc<str>,
    /// When the token ends, in seconds since the Unix epoch.
    pub expires: i64,
}

impl Admitted {
    /// The user of a session token of this server, if it is good.
    pub fn by_session_token(tokens: &Tokens, token: &str, now: Timestamp) -> Result<Self, UpgradeRefusal> {
        let claims = tokens.check_session(token, now).map_err(UpgradeRefusal::Token)?;
        Ok(Self { user: claims.user, username: claims.username.into(), expires: claims.expires })
    }
}

/// Decides what the bytes read so far of a request are. When the head of an opening is whole, `let_in` may refuse it
/// before its token is checked. `admit` says whose token it is.
pub fn judge(
    bytes: &[u8],
    let_in: impl FnOnce(&[Header<'_>]) -> Result<(), UpgradeRefusal>,
    admit: impl FnOnce(&str) -> Result<Admitted, UpgradeRefusal>,
) -> Opening {
    // Bytes beyond the limit are ignored, so the verdict is the same when more bytes arrive at once.
    let head = &bytes[..bytes.len().min(HEAD_BYTES_MAX)];
    match asks_for_a_socket(head) {
        Some(true) => {}
        Some(false) => return Opening::Http,
        None if head.len() < HEAD_BYTES_MAX => return Opening::NeedMore,
        None => return Opening::Http,
    }
    let mut headers = [httparse::EMPTY_HEADER; HEADERS_MAX];
    let mut request = Request::new(&mut headers);
    match request.parse(head) {
        Ok(Status::Complete(consumed)) => match let_in(request.headers).and_then(|()| answer(&request, admit)) {
            Ok((answer, identity)) => Opening::WebSocket { answer, identity, consumed },
            Err(refusal) => Opening::Refuse { refusal, next: may_go_on(&request).then_some(consumed) },
        },
        Ok(Status::Partial) if head.len() < HEAD_BYTES_MAX => Opening::NeedMore,
        Ok(Status::Partial) | Err(httparse::Error::TooManyHeaders) => {
            Opening::Refuse { refusal: UpgradeRefusal::HeadTooLarge, next: None }
        }
        Err(_) => Opening::Refuse { refusal: UpgradeRefusal::Malformed, next: None },
    }
}

/// What `of` makes of the headers in these bytes, if the head is whole.
pub fn with_headers<T>(bytes: &[u8], of: impl FnOnce(&[Header<'_>]) -> T) -> Option<T> {
    let mut headers = [httparse::EMPTY_HEADER; HEADERS_MAX];
    let mut request = Request::new(&mut headers);
    request.parse(&bytes[..bytes.len().min(HEAD_BYTES_MAX)]).ok().filter(Status::is_complete)?;
    Some(of(request.headers))
}

/// The token of an opening whose head is in these bytes.
pub fn token_in(bytes: &[u8]) -> Option<String> {
    let mut headers = [httparse::EMPTY_HEADER; HEADERS_MAX];
    let mut request = Request::new(&mut headers);
    let head = &bytes[..bytes.len().min(HEAD_BYTES_MAX)];
    request.parse(head).ok().filter(Status::is_complete)?;
    token(Target::of(request.path.unwrap_or_default()).query, request.headers).ok()
}

/// The answer that accepts the opening with this head, if it comes from a page in a browser: only browsers send `Origin`.
pub fn answer_to_page(head: &[u8]) -> Option<Vec<u8>> {
    let mut headers = [httparse::EMPTY_HEADER; HEADERS_MAX];
    let mut request = Request::new(&mut headers);
    request.parse(&head[..head.len().min(HEAD_BYTES_MAX)]).ok().filter(Status::is_complete)?;
    values(request.headers, "origin").next()?;
    if heads::body(request.version, request.headers) != Ok(BodyLength::NONE) {
        return None;
    }
    handshake_key(&request).ok().map(acceptance)
}

/// Whether a head is to be parsed again, of which the first `parsed` bytes were parsed before and were not all of it.
///
/// A head ends with a line, and so does almost every mistake in it. So a head is parsed when it begins, at each end of a
/// line, and at the bound. It has few lines (`HEADERS_MAX`), whereas each of its bytes may come alone.
pub fn is_worth_parsing(head: &[u8], parsed: usize) -> bool {
    parsed == 0 || head.len() >= HEAD_BYTES_MAX || head[parsed.min(head.len())..].contains(&b'\n')
}

/// Whether the request line is `GET /ws` in any form, with or without a query; `None` while more bytes are needed.
fn asks_for_a_socket(bytes: &[u8]) -> Option<bool> {
    const METHOD: &[u8] = b"GET ";
    let line = &bytes[heads::empty_lines(bytes)..];
    let compared = line.len().min(METHOD.len());
    if line[..compared] != METHOD[..compared] {
        return Some(false);
    }
    let target = line.get(METHOD.len()..)?;
    let end = target.iter().position(|byte| matches!(byte, b' ' | b'\r' | b'\n'))?;
    Some(std::str::from_utf8(&target[..end]).is_ok_and(|target| Target::of(target).is_socket()))
}

/// Whether the client of a refused opening expects to send its next request on the same connection, and the start of
/// that request is certain.
fn may_go_on(request: &Request<'_, '_>) -> bool {
    request.version == HTTP_1_1
        && !lists(request.headers, "connection", "close")
        && heads::body(request.version, request.headers) == Ok(BodyLength::NONE)
}

/// Why an opening is refused.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum UpgradeRefusal {
    /// The bytes are not HTTP.
    Malformed,
    HeadTooLarge,
    /// The request has a body, which would be read as frames.
    Body,
    /// The query asks for something that the server does not have.
    Parameter(&'static str),
    /// No token and no handshake headers: probably a person with a browser.
    NoOpening,
    TokenMissing,
    Token(TokenRefusal),
    /// The request is not a handshake of RFC 6455.
    Handshake(&'static str),
    /// The user has as many sessions on this shard as one user may have.
    SessionsOfUser {
        retry_after_seconds: u64,
    },
    /// The user or the network has asked for more than its budget allows.
    OverBudget {
        retry_after_seconds: u64,
    },
    /// The server is about to stop.
    Draining {
        retry_after_seconds: u64,
    },
    /// A trusted proxy has not said whose connection this is.
    ProxyHeader,
    /// The identity provider speaks for the user, who may not sign in here.
    NotAdmitted,
    /// The user of a provider's token cannot be looked up now.
    Unavailable {
        retry_after_seconds: u64,
    },
    /// The request comes from a page whose origin the operator has not named.
    Origin,
    /// More clients connect at once than the operator wants.
    BeyondRate {
        retry_after_seconds: u64,
    },
}

impl UpgradeRefusal {
    /// The index of this refusal in `OPENING_REFUSAL_KINDS`.
    pub fn kind(self) -> usize {
        match self {
            Self::Malformed => 0,
            Self::HeadTooLarge => 1,
            Self::Body => 2,
            Self::Parameter(_) => 3,
            Self::NoOpening => 4,
            Self::TokenMissing => 5,
            Self::Token(TokenRefusal::Invalid) => 6,
            Self::Token(TokenRefusal::Expired) => 7,
            Self::Token(TokenRefusal::LoggedOut) => 8,
            Self::Handshake(_) => 9,
            Self::SessionsOfUser { .. } => 10,
            Self::ProxyHeader => 11,
            Self::OverBudget { .. } => 12,
            Self::Draining { .. } => 13,
            Self::NotAdmitted => 14,
            Self::Unavailable { .. } => 15,
            Self::Origin => 16,
            Self::BeyondRate { .. } => 17,
        }
    }

    /// When the client may try again, if it may.
    pub fn retry_after_seconds(self) -> Option<u64> {
        match self {
            Self::SessionsOfUser { retry_after_seconds }
            | Self::OverBudget { retry_after_seconds }
            | Self::Draining { retry_after_seconds }
            | Self::Unavailable { retry_after_seconds }
            | Self::BeyondRate { retry_after_seconds } => Some(retry_after_seconds),
            _ => None,
        }
    }

    /// The reason, in one short line.
    pub fn line(self) -> &'static str {
        match self {
            Self::Malformed => "malformed request",
            Self::HeadTooLarge => "request head too large",
            Self::Body => "the opening of a WebSocket has no body",
            Self::NoOpening => "this is for WebSocket clients: send Upgrade, and a token",
            Self::Parameter(line) | Self::Handshake(line) => line,
            Self::TokenMissing | Self::Token(_) => "missing or invalid token",
            Self::ProxyHeader => "a proxy's connection begins with a header of the PROXY protocol here",
            Self::Draining { .. } => "the server restarts: connect again",
            Self::Unavailable { .. } => "the user cannot be looked up now: connect again",
            Self::NotAdmitted => "this user has no account here, or may not sign in",
            Self::SessionsOfUser { .. } => "too many sessions of this user: close one first",
            Self::OverBudget { .. } => "too fast: this user or address asks for too much, try again later",
            Self::Origin => "pages of this origin may not connect here",
            Self::BeyondRate { .. } => ProcessRate::Openings.text(),
        }
    }

    fn status(self) -> &'static str {
        match self {
            Self::Malformed
            | Self::Body
            | Self::NoOpening
            | Self::Parameter(_)
            | Self::Handshake(_)
            | Self::ProxyHeader => Self::BAD_REQUEST,
            Self::HeadTooLarge => "431 Request Header Fields Too Large",
            Self::TokenMissing | Self::Token(_) => "401 Unauthorized",
            Self::Draining { .. } | Self::Unavailable { .. } => Self::UNAVAILABLE,
            Self::NotAdmitted | Self::Origin => "403 Forbidden",
            Self::SessionsOfUser { .. } | Self::OverBudget { .. } | Self::BeyondRate { .. } => Self::TOO_MANY,
        }
    }

    /// The response: a status and one short line with the reason.
    pub fn written(self, ending: Ending) -> Vec<u8> {
        let (status, line) = (self.status(), self.line());
        let retry = self.retry_after_seconds().map(|seconds| format!("Retry-After: {seconds}\r\n")).unwrap_or_default();
        let length = line.len() + 1;
        let connection = match ending {
            Ending::Close => "close",
            Ending::Keep => "keep-alive",
        };
        format!(
            "HTTP/1.1 {status}\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Length: {length}\r\n\
             Access-Control-Allow-Origin: *\r\nX-Content-Type-Options: nosniff\r\n{retry}Connection: {connection}\r\n\r\n{line}\n"
        )
        .into_bytes()
    }

    const TOO_MANY: &str = "429 Too Many Requests";
    const UNAVAILABLE: &str = "503 Service Unavailable";
    // The header tells clients of another version which one the server supports (RFC 6455, section 4.4).
    const BAD_REQUEST: &str = "400 Bad Request\r\nSec-WebSocket-Version: 13";
}

const _: () = assert!(OPENING_REFUSAL_KINDS.len() == 18);

/// The checks in their order: where the request ends, what it asks for, the token, and only then the handshake.
fn answer(
    request: &Request<'_, '_>,
    admit: impl FnOnce(&str) -> Result<Admitted, UpgradeRefusal>,
) -> Result<(Vec<u8>, Identity), UpgradeRefusal> {
    if heads::body(request.version, request.headers) != Ok(BodyLength::NONE) {
        return Err(UpgradeRefusal::Body);
    }
    let query = Target::of(request.path.unwrap_or_default()).query;
    let format = format(query)?;
    let on_lag = on_lag(query)?;
    if names_no_token(query, request.headers) && !asks_for_upgrade(request.headers) {
        return Err(UpgradeRefusal::NoOpening);
    }
    let Admitted { user, username, expires } = admit(&token(query, request.headers)?)?;
    let answer = acceptance(handshake_key(request)?);
    let visibility = visibility(query);
    Ok((answer, Identity { user, username, format, on_lag, visibility, expires }))
}

/// The answer that accepts an opening with this key.
fn acceptance(key: &[u8]) -> Vec<u8> {
    let accept = BASE64_STANDARD.encode(Sha1::new().chain_update(key).chain_update(ACCEPT_SUFFIX).finalize());
    format!(
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Accept: {accept}\r\n\r\n"
    )
    .into_bytes()
}

fn format(query: &str) -> Result<Format, UpgradeRefusal> {
    let format = match parameter(query, "format").as_deref() {
        None | Some("" | "json") => Format::Json,
        Some("protobuf") => Format::Protobuf,
        Some(_) => return Err(UpgradeRefusal::Parameter("unknown format, use json or protobuf")),
    };
    match parameter(query, "presence_count").as_deref() {
        None | Some("" | "true") => Ok(format),
        Some("false") => Ok(format.without_counts()),
        Some(_) => Err(UpgradeRefusal::Parameter("unknown presence_count, use true or false")),
    }
}

fn on_lag(query: &str) -> Result<OnLag, UpgradeRefusal> {
    match parameter(query, "on_lag").as_deref() {
        None | Some("" | "close") => Ok(OnLag::Close),
        Some("skip") => Ok(OnLag::Skip),
        Some(_) => Err(UpgradeRefusal::Parameter("unknown on_lag, use close or skip")),
    }
}

/// Every value that is not clearly yes means no, as clients expect.
fn visibility(query: &str) -> Visibility {
    match parameter(query, "status").as_deref() {
        Some("1" | "t" | "T" | "true" | "TRUE" | "True") => Visibility::Online,
        _ => Visibility::Unseen,
    }
}

/// If there is an `Authorization` header, only the header counts. The query's token is for browsers, which cannot set
/// headers here.
fn token(query: &str, headers: &[Header<'_>]) -> Result<String, UpgradeRefusal> {
    const MISSING: UpgradeRefusal = UpgradeRefusal::TokenMissing;
    match values(headers, "authorization").next() {
        Some(header) => {
            let header = std::str::from_utf8(header).map_err(|_| MISSING)?;
            Ok(heads::credentials(header, "Bearer").ok_or(MISSING)?.to_owned())
        }
        None => parameter(query, "token").ok_or(MISSING),
    }
}

fn names_no_token(query: &str, headers: &[Header<'_>]) -> bool {
    values(headers, "authorization").next().is_none() && parameter(query, "token").is_none()
}

fn asks_for_upgrade(headers: &[Header<'_>]) -> bool {
    lists(headers, "upgrade", "websocket")
}

/// The client's key, if the request is an opening handshake by RFC 6455, section 4.2.1.
fn handshake_key<'h>(request: &Request<'_, 'h>) -> Result<&'h [u8], UpgradeRefusal> {
    let headers: &[Header<'h>] = request.headers;
    let refuse = |line| Err(UpgradeRefusal::Handshake(line));
    if request.version != HTTP_1_1 {
        return refuse("a WebSocket needs HTTP/1.1");
    }
    if values(headers, "host").count() != 1 {
        return refuse("one Host header is needed");
    }
    if !values(headers, "host").all(|host| host.is_empty() || is_host(host)) {
        return refuse("the Host header is no name of a host");
    }
    if !Target::has_good_authority(request.path.unwrap_or_default()) {
        return refuse("the host in the target is no name of a host");
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
        Some(key) if KEY_BASE64.decode(key).is_ok_and(|nonce| nonce.len() == 16) => Ok(key),
        _ => refuse("header Sec-WebSocket-Key must be 16 bytes in base64"),
    }
}

/// The first value of a query parameter, if it decodes to text. Parameters beyond the bound are not looked at.
fn parameter(query: &str, name: &str) -> Option<String> {
    let (_, value) = percent::pairs(query).take(percent::PARAMETERS_MAX).find(|(key, _)| *key == name)?;
    percent::decode(value, UrlPart::Query)
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

    /// Judges by the bytes alone: no opening is refused before its token is checked.
    fn judge(bytes: &[u8], tokens: &Tokens, now: Timestamp) -> Opening {
        super::judge(bytes, |_| Ok(()), |token| Admitted::by_session_token(tokens, token, now))
    }

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
            Opening::WebSocket { .. } => "101",
            Opening::Refuse { refusal: UpgradeRefusal::HeadTooLarge, .. } => "431",
            Opening::Refuse { refusal: UpgradeRefusal::TokenMissing | UpgradeRefusal::Token(_), .. } => "401",
            Opening::Refuse { .. } => "400",
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
            visibility: Visibility::Unseen,
            expires: 160,
        };
        let opening = Opening::WebSocket { answer: expected.as_bytes().to_vec(), identity, consumed: request.len() };
        assert_eq!(judged(&request), opening);
        assert_eq!(judged(&format!("{request}\u{1}frames")), opening);
    }

    #[test]
    fn only_the_opening_of_a_page_is_accepted_to_be_closed() {
        let page = format!("{UPGRADE}Origin: https://a.example\r\n");
        let answer = |headers: &str| answer_to_page(head("/ws", headers).as_bytes());
        let accepted = answer(&page).expect("a page opens a WebSocket");
        let Opening::WebSocket { answer: usual, .. } = judged(&head(&format!("/ws?token={}", token()), UPGRADE)) else {
            panic!("the token is good");
        };
        assert_eq!(accepted, usual);
        assert_eq!(answer(UPGRADE), None, "no browser");
        assert_eq!(answer(&page.replace("Version: 13", "Version: 8")), None, "no handshake");
        assert_eq!(answer(&format!("{page}Content-Length: 1\r\n")), None, "a body");
        assert_eq!(answer_to_page(b"GET /ws HTTP/1.1\r\nOrigin: https://a.example\r\n"), None, "half a head");
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
        for request in ["GET / HTTP/1.1", "POST /ws HTTP/1.1", "GET /wsx ", "GET /ws/ ", "GET /w/\r", "\0", "GEX"] {
            assert_eq!(judged(request), Opening::Http, "{request:?}");
        }
        for request in
            ["", "G", "GET ", "GET /w", "GET /ws", "GET /ws?", "GET /ws HTTP/1.1\r\nHost: a\r\n", "\r\n\r\nGE"]
        {
            assert_eq!(judged(request), Opening::NeedMore, "{request:?}");
        }
        let endless = format!("GET /{}", "x".repeat(HEAD_BYTES_MAX));
        assert_eq!(judged(&endless), Opening::Http);
        assert_eq!(judged(&endless[..HEAD_BYTES_MAX]), Opening::Http);
        assert_eq!(judged(&endless[..HEAD_BYTES_MAX - 1]), Opening::NeedMore);
        assert_eq!(judged(&"\r\n".repeat(HEAD_BYTES_MAX)), Opening::Http);
    }

    #[test]
    fn the_target_may_be_written_in_any_form() {
        let token = token();
        for target in ["http://host:7350/ws", "ws://host/ws", "/%77s", "/w%73", "http://host/%77%73"] {
            check(&format!("{target}?token={token}"), UPGRADE, "101");
            check(target, UPGRADE, "401");
        }
        for lines in ["\r\n", "\n", "\r\n\r\n\r\n"] {
            let request = format!("{lines}{}", head(&format!("/ws?token={token}"), UPGRADE));
            let Opening::WebSocket { consumed, .. } = judged(&format!("{request}frames")) else { panic!("{lines:?}") };
            assert_eq!(consumed, request.len());
        }
    }

    #[test]
    fn an_opening_has_no_body() {
        let target = format!("/ws?token={}", token());
        for body in ["Content-Length: 5", "Transfer-Encoding: chunked", "Transfer-Encoding: gzip", "Content-Length: x"]
        {
            let refused = judged(&head(&target, &format!("{UPGRADE}{body}\r\n")));
            assert_eq!(refused, Opening::Refuse { refusal: UpgradeRefusal::Body, next: None }, "{body}");
        }
        check(&target, &format!("{UPGRADE}Content-Length: 0\r\n"), "101");
        check(&target, &format!("{UPGRADE}Expect: 100-continue\r\n"), "101");
    }

    #[test]
    fn a_refused_connection_goes_on_where_its_next_request_is_certain() {
        let next = |headers: &str, version: &str| match judged(&head("/ws", headers).replace("HTTP/1.1", version)) {
            Opening::Refuse { next, .. } => next.is_some(),
            other => panic!("{other:?}"),
        };
        assert!(next(UPGRADE, "HTTP/1.1"));
        assert!(next("Host: a\r\n", "HTTP/1.1"));
        assert!(!next(UPGRADE, "HTTP/1.0"));
        assert!(!next(&UPGRADE.replace("Connection: Upgrade", "Connection: close, Upgrade"), "HTTP/1.1"));
        assert!(!next(&format!("{UPGRADE}Content-Length: 1\r\n"), "HTTP/1.1"));
        let request = head("/ws", UPGRADE);
        let expected = Opening::Refuse { refusal: UpgradeRefusal::TokenMissing, next: Some(request.len()) };
        assert_eq!(judged(&format!("{request}GET / HTTP/1.1")), expected);
    }

    #[test]
    fn tokens_are_looked_for_in_their_order() {
        let good = token();
        let bearer = |token: &str| format!("{UPGRADE}Authorization: Bearer {token}\r\n");
        check(&format!("/ws?token={good}"), UPGRADE, "101");
        check(&format!("/ws?token={good}&"), UPGRADE, "101");
        check("/ws", &bearer(&good), "101");
        check("/ws", &bearer(&good).replace("Bearer", "bearer"), "101");
        check("/ws", &bearer(&good).replace("Bearer ", "BEARER  "), "101");
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
        check(&format!("/ws?token={good}&presence_count=no"), UPGRADE, "400");
        for (value, expected) in [
            ("", Format::Json),
            ("json", Format::Json),
            ("protobuf", Format::Protobuf),
            ("json&presence_count=true", Format::Json),
            ("json&presence_count=false", Format::JsonWithoutCounts),
            ("protobuf&presence_count=false", Format::ProtobufWithoutCounts),
        ] {
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
        // The sample of RFC 6455, section 4.1, has non-zero bits after its last byte.
        check(&target, &without("dGhlIHNhbXBsZSBub25jZQ==", "AQIDBAUGBwgJCgsMDQ4PEC=="), "101");
        check(&target, &without("dGhlIHNhbXBsZSBub25jZQ==", "dGhlIHNhbXBsZSBub25jZf=="), "101");
        check(&target, &without("dGhlIHNhbXBsZSBub25jZQ==", "dGhlIHNhbXBsZSBub25jZQ"), "400");
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
        let Opening::Refuse { refusal, .. } = judged(&head("/ws", UPGRADE)) else { panic!("there is no token") };
        let written = |ending| String::from_utf8(refusal.written(ending)).unwrap();
        assert!(written(Ending::Keep).contains("Connection: keep-alive\r\n"));
        let answer = written(Ending::Close);
        assert!(answer.contains("Connection: close\r\n"), "{answer}");
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        assert!(head.contains("Content-Type: text/plain"), "{head}");
        assert!(head.contains("\r\nX-Content-Type-Options: nosniff\r\n"), "{head}");
        assert!(head.contains(&format!("Content-Length: {}", body.len())), "{head}");
        assert!(body.ends_with('\n') && body.lines().count() == 1, "{body:?}");
    }

    /// Judges the bytes piece by piece, as they arrive on a connection.
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

    #[test]
    fn a_head_that_comes_byte_by_byte_is_parsed_once_a_line() {
        let padding = format!("X-Padding: {}\r\n", "x".repeat(HEAD_BYTES_MAX / 2));
        let whole = head(&format!("/ws?token={}", token()), &format!("{UPGRADE}{padding}"));
        let parsed: Vec<usize> =
            (1..=whole.len()).filter(|&end| is_worth_parsing(&whole.as_bytes()[..end], end - 1)).collect();
        assert_eq!(parsed.len(), whole.lines().count() + 1, "the first byte, and each line");
        assert_eq!(parsed.last(), Some(&whole.len()), "the last byte ends the head");
        let endless = [b'x'; HEAD_BYTES_MAX];
        assert!(!is_worth_parsing(&endless[1..], HEAD_BYTES_MAX - 2));
        assert!(is_worth_parsing(&endless, HEAD_BYTES_MAX - 1));
    }

    proptest! {
        /// A whole head is never left waiting, however it comes.
        #[test]
        fn a_whole_head_is_parsed(cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..8), line_end: bool) {
            let whole = head("/ws", UPGRADE);
            let whole = if line_end { whole } else { whole.replace('\r', "") };
            let mut ends: Vec<usize> = cuts.iter().map(|cut| cut.index(whole.len())).collect();
            ends.extend([0, whole.len()]);
            ends.sort_unstable();
            let mut parsed = ends.windows(2).filter(|ends| is_worth_parsing(&whole.as_bytes()[..ends[1]], ends[0]));
            prop_assert!(parsed.any(|ends| judge(&whole.as_bytes()[..ends[1]], &tokens(), at(101)) != Opening::NeedMore));
        }

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
