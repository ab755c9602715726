//! The calls of the admin address, in one table. docs/admin.md explains them, and a test asks for it.
//!
//! In a cluster, calls about a process will take the parameter `node`, by default the process that is asked. No call has
//! a parameter of this name until then, so it is refused as unknown.

use std::time::Duration;

use engine::limits::CHANNELS_PAGE_MAX;
use engine::query::ChannelOrder;
use hyper::header::{ACCEPT, ALLOW, AUTHORIZATION, CONTENT_LENGTH, HeaderValue, TRANSFER_ENCODING};
use hyper::{Method, Request, StatusCode};
use serde::Serialize;

use super::answers::{LINE, Refusal, answer, json};
use super::hosts::{HostRefusal, Hosts};
use super::people::{self, Place};
use super::token::AdminToken;
use crate::drain::Terms;
use crate::heads;
use crate::health::{ALIVE, READY};
use crate::http::AskedWhom;
use crate::http::answer::Answer;
use crate::log_levels::LogLevels;
use crate::log_limit;
use crate::metrics::{PageFormat, TOKEN_REFUSALS};
use crate::options::span::Span;
use crate::percent::{self, UrlPart};
use crate::threaded_http::client_of;

/// A call that operators may make.
struct Call {
    method: Method,
    path: &'static str,
    /// Whether it needs the token.
    token: bool,
    /// Its parameters, which stand in the query.
    parameters: &'static [&'static str],
    does: &'static str,
    kind: Kind,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Calls,
    Metrics,
    Alive,
    Ready,
    Status,
    DrainStatus,
    Drain,
    LogLevel,
    SetLogLevel,
    BackupStatus,
    Backup,
    ErasureStatus,
    Erase,
    Channels,
    User,
    Disconnect,
}

static CALLS: [Call; 16] = [
    Call::open("/", "lists the calls", Kind::Calls),
    Call::open("/metrics", "the numbers, as Prometheus reads them", Kind::Metrics),
    Call::open("/healthz", "200 while the process works", Kind::Alive),
    Call::open("/readyz", "200 when new clients may come, or 503 and why not", Kind::Ready),
    Call::guarded(Method::GET, "/v1/status", &[], "how the server is", Kind::Status),
    Call::guarded(Method::GET, "/v1/drain", &[], "how far the drain is", Kind::DrainStatus),
    Call::guarded(Method::POST, "/v1/drain", &["wait", "time"], "lets the server drain and stop", Kind::Drain),
    Call::guarded(Method::GET, "/v1/log", &[], "which log lines the server writes", Kind::LogLevel),
    Call::guarded(Method::PUT, "/v1/log", &["level"], "lets it write others", Kind::SetLogLevel),
    Call::guarded(Method::GET, "/v1/backup", &[], "how the newest backup is", Kind::BackupStatus),
    Call::guarded(
        Method::POST,
        "/v1/backup",
        &["directory", "keys"],
        "copies the embedded store into a new directory of the server's machine",
        Kind::Backup,
    ),
    Call::guarded(Method::GET, "/v1/erase", &[], "how the newest erasure of a user is", Kind::ErasureStatus),
    Call::guarded(Method::POST, "/v1/erase", &["user"], "erases a user with everything they wrote", Kind::Erase),
    Call::guarded(
        Method::GET,
        "/v1/channels",
        &["by", "limit", "cursor"],
        "the largest channels, or those with most messages a second",
        Kind::Channels,
    ),
    Call::guarded(Method::GET, "/v1/users/{user}", &[], "the sessions of a user, by id or name", Kind::User),
    Call::guarded(
        Method::POST,
        "/v1/disconnect",
        &["user", "session", "reason"],
        "closes the sessions of a user, or one session",
        Kind::Disconnect,
    ),
];

impl Call {
    /// Whether the call has this path. The last part of a path in braces stands for any text.
    fn is_at(&self, path: &str) -> bool {
        self.path == path || self.named(path).is_some()
    }

    /// The text, still encoded, for which the part in braces stands.
    fn named<'p>(&self, path: &'p str) -> Option<&'p str> {
        let (before, _) = self.path.split_once('{')?;
        path.strip_prefix(before).filter(|named| !named.is_empty() && !named.contains('/'))
    }

    const fn open(path: &'static str, does: &'static str, kind: Kind) -> Self {
        Self { method: Method::GET, path, token: false, parameters: &[], does, kind }
    }

    const fn guarded(
        method: Method,
        path: &'static str,
        parameters: &'static [&'static str],
        does: &'static str,
        kind: Kind,
    ) -> Self {
        Self { method, path, token: true, parameters, does, kind }
    }
}

/// What the calls do.
pub(super) trait Desk {
    /// The page of numbers.
    fn page(&mut self, format: PageFormat) -> Answer;

    /// Why new clients should go elsewhere.
    fn unready(&self) -> Option<String>;

    /// How the server is.
    fn status(&mut self) -> Answer;

    /// How far the drain is, in an answer with this status.
    fn drain_status(&self, status: StatusCode) -> Answer;

    /// Begins a drain. Returns `false` if one has begun before.
    fn begin_drain(&mut self, terms: Terms) -> bool;

    /// Which log lines are written.
    fn log_level(&self) -> Answer;

    /// Lets these log lines be written.
    fn set_log_level(&mut self, levels: &LogLevels);

    /// How the newest backup is, in an answer with this status.
    fn backup_status(&self, status: StatusCode) -> Answer;

    /// Begins a backup in this directory, with the signing keys or without.
    fn begin_backup(&mut self, directory: &str, with_keys: bool) -> Result<(), Refusal>;

    /// How the newest erasure is, in an answer with this status.
    fn erasure_status(&mut self, status: StatusCode) -> Answer;

    /// Begins to erase the user with this id or name.
    fn begin_erasure(&mut self, user: &str) -> Result<(), Refusal>;

    /// A page of channels behind this place, at most so many.
    fn channels(&self, by: ChannelOrder, below: Option<Place>, limit: usize) -> Answer;

    /// The sessions of the user with this id or name.
    fn user(&self, user: &str) -> Result<Answer, Refusal>;

    /// Closes sessions, with this reason for the clients.
    fn disconnect(&mut self, whom: AskedWhom, reason: Option<&str>) -> Result<Answer, Refusal>;

    /// Counts a call that is refused for its token, by its index in `TOKEN_REFUSALS`.
    fn count_refusal(&mut self, kind: usize);
}

/// Answers one request.
pub(super) fn respond<B>(request: &Request<B>, hosts: &Hosts, token: &AdminToken, desk: &mut impl Desk) -> Answer {
    let path = request.uri().path();
    // Programs that ask for health, such as a container's runtime, know the address alone.
    if !matches!(path, "/healthz" | "/readyz")
        && let Err(refusal) = hosts.check(request)
    {
        return misdirected(refusal).answer();
    }
    let mut of_path = CALLS.iter().filter(|call| call.is_at(path)).peekable();
    if of_path.peek().is_none() {
        let message = format!("there is no call {path}");
        return Refusal::new(StatusCode::NOT_FOUND, "not_found", message, "GET / lists the calls").answer();
    }
    // The library leaves out the body of an answer to HEAD.
    let method = if request.method() == Method::HEAD { &Method::GET } else { request.method() };
    let Some(call) = of_path.clone().find(|call| call.method == *method) else {
        return other_method(path, &of_path.map(|call| call.method.as_str()).collect::<Vec<_>>());
    };
    let admitted = if call.token { check_token(request, token, desk) } else { Ok(()) };
    let answer = admitted.and_then(|()| carry_out(call, request, desk));
    answer.unwrap_or_else(|refusal| refusal.answer())
}

fn accepted_format<B>(request: &Request<B>) -> PageFormat {
    let headers = request.headers().get_all(ACCEPT).into_iter();
    let accept: Vec<&str> = headers.filter_map(|value| value.to_str().ok()).collect();
    PageFormat::accepted(&accept.join(","))
}

fn carry_out<B>(call: &Call, request: &Request<B>, desk: &mut impl Desk) -> Result<Answer, Refusal> {
    Ok(match call.kind {
        Kind::Calls => listed(),
        Kind::Metrics => desk.page(accepted_format(request)),
        Kind::Alive => answer(StatusCode::OK, LINE, ALIVE),
        Kind::Ready => match desk.unready() {
            None => answer(StatusCode::OK, LINE, READY),
            Some(reason) => answer(StatusCode::SERVICE_UNAVAILABLE, LINE, format!("{reason}\n")),
        },
        Kind::Status => desk.status(),
        Kind::DrainStatus => desk.drain_status(StatusCode::OK),
        Kind::Drain => {
            refuse_body(request)?;
            let query = request.uri().query().unwrap_or_default();
            let [wait, time] = spans(call, query)?;
            if !desk.begin_drain(Terms { wait, time }) {
                let next = "GET /v1/drain tells how far it is; SIGINT stops the server at once";
                return Err(Refusal::new(StatusCode::CONFLICT, "already_draining", "a drain has begun before", next));
            }
            desk.drain_status(StatusCode::ACCEPTED)
        }
        Kind::LogLevel => desk.log_level(),
        Kind::SetLogLevel => {
            refuse_body(request)?;
            let [levels] = texts(call, request.uri().query().unwrap_or_default())?;
            let Some(levels) = levels else {
                let next = "give ?level=LEVEL, such as ?level=info,gateway::sockets=debug";
                return Err(Refusal::new(StatusCode::BAD_REQUEST, "parameter_wrong", "level is not given", next));
            };
            let levels = levels.parse().map_err(|error| parameter_wrong(call, format!("level: {error}")))?;
            desk.set_log_level(&levels);
            desk.log_level()
        }
        Kind::BackupStatus => desk.backup_status(StatusCode::OK),
        Kind::Backup => {
            refuse_body(request)?;
            let [directory, keys] = texts(call, request.uri().query().unwrap_or_default())?;
            let directory = directory.ok_or_else(|| parameter_wrong(call, "directory is missing"))?;
            let keys = match keys.as_deref() {
                None | Some("false") => false,
                Some("true") => true,
                Some(_) => return Err(parameter_wrong(call, "keys is true or false")),
            };
            desk.begin_backup(&directory, keys)?;
            desk.backup_status(StatusCode::ACCEPTED)
        }
        Kind::ErasureStatus => desk.erasure_status(StatusCode::OK),
        Kind::Erase => {
            refuse_body(request)?;
            let [user] = texts(call, request.uri().query().unwrap_or_default())?;
            let user = user.filter(|user| !user.is_empty()).ok_or_else(|| parameter_wrong(call, "user is missing"))?;
            desk.begin_erasure(&user)?;
            desk.erasure_status(StatusCode::ACCEPTED)
        }
        Kind::Channels => {
            let [by, limit, cursor] = texts(call, request.uri().query().unwrap_or_default())?;
            let by = by.as_deref().map_or(Some(ChannelOrder::Members), people::order_of);
            let by = by.ok_or_else(|| parameter_wrong(call, "by is members or rate"))?;
            let limit = limit.map_or(Ok(people::PAGE), |limit| limit.parse());
            let limit = limit.ok().filter(|limit| (1..=CHANNELS_PAGE_MAX).contains(limit));
            let limit = limit.ok_or_else(|| parameter_wrong(call, format!("limit is 1 to {CHANNELS_PAGE_MAX}")))?;
            let below = cursor.map(|cursor| people::place_of(&cursor).ok_or(cursor)).transpose();
            let below = below.map_err(|_| parameter_wrong(call, "cursor is none that a page has had"))?;
            desk.channels(by, below, limit)
        }
        Kind::User => {
            let [] = texts(call, request.uri().query().unwrap_or_default())?;
            let named = call.named(request.uri().path()).and_then(|named| percent::decode(named, UrlPart::Path));
            desk.user(&named.ok_or_else(|| parameter_wrong(call, "the user is not percent-encoded UTF-8"))?)?
        }
        Kind::Disconnect => {
            refuse_body(request)?;
            let [user, session, reason] = texts(call, request.uri().query().unwrap_or_default())?;
            let whom = match (user.filter(|user| !user.is_empty()), session) {
                (Some(user), None) => Some(AskedWhom::User(user)),
                (None, Some(session)) => people::session_of(&session),
                _ => None,
            };
            let whom = whom.ok_or_else(|| parameter_wrong(call, "give a user, or the id of a session"))?;
            if !reason.as_deref().is_none_or(people::fits_a_close_frame) {
                return Err(parameter_wrong(call, "reason is longer than a close frame holds: 123 bytes"));
            }
            desk.disconnect(whom, reason.as_deref())?
        }
    })
}

/// The list of calls.
fn listed() -> Answer {
    #[derive(Serialize)]
    struct Listed {
        version: &'static str,
        token: &'static str,
        calls: Vec<ListedCall>,
    }
    #[derive(Serialize)]
    struct ListedCall {
        method: &'static str,
        path: &'static str,
        token: bool,
        #[serde(skip_serializing_if = "<[_]>::is_empty")]
        parameters: &'static [&'static str],
        does: &'static str,
    }
    let calls = CALLS.iter().map(|call| ListedCall {
        method: call.method.as_str(),
        path: call.path,
        token: call.token,
        parameters: call.parameters,
        does: call.does,
    });
    let token = "calls with a token need the header Authorization: Bearer TOKEN, with the text of the server's --admin-token-file";
    json(StatusCode::OK, &Listed { version: env!("CARGO_PKG_VERSION"), token, calls: calls.collect() })
}

fn other_method(path: &str, methods: &[&str]) -> Answer {
    let allowed = methods.join(", ");
    let (message, next) = (format!("{path} answers {allowed} alone"), "GET / lists the calls");
    let mut answer = Refusal::new(StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed", message, next).answer();
    if let Ok(allowed) = HeaderValue::from_str(&allowed) {
        answer.headers_mut().insert(ALLOW, allowed);
    }
    answer
}

fn misdirected(refusal: HostRefusal) -> Refusal {
    match refusal {
        HostRefusal::Malformed => {
            let next = "send the name or the address by which you reach the server";
            Refusal::new(
                StatusCode::BAD_REQUEST,
                "host_malformed",
                "one Host header with the name of a host is needed",
                next,
            )
        }
        HostRefusal::Foreign(host) => {
            let message = format!("{host} is no name of this address");
            let next = "name the hosts that operators use with --admin-host";
            Refusal::new(StatusCode::MISDIRECTED_REQUEST, "host_unknown", message, next)
        }
    }
}

fn check_token<B>(request: &Request<B>, token: &AdminToken, desk: &mut impl Desk) -> Result<(), Refusal> {
    const NEXT: &str =
        "send Authorization: Bearer TOKEN, with the text of the server's admin.token or --admin-token-file";
    let header = request.headers().get(AUTHORIZATION).and_then(|header| header.to_str().ok());
    let given = header.and_then(|header| heads::credentials(header, "Bearer"));
    let (kind, message) = match given {
        Some(given) if token.is(given) => return Ok(()),
        Some(_) => (1, "this is not the token of this server"),
        None => (0, "this call needs a token"),
    };
    desk.count_refusal(kind);
    let client = client_of(request).map_or_else(|| "unknown".to_owned(), |address| address.to_string());
    let call = request.uri().path();
    log_limit::warn!(client, call, "an admin call was refused: {message}");
    Err(Refusal::new(StatusCode::UNAUTHORIZED, TOKEN_REFUSALS[kind], message, NEXT))
}

/// No call reads a body, so a body with parameters would be ignored in silence.
fn refuse_body<B>(request: &Request<B>) -> Result<(), Refusal> {
    let headers = request.headers();
    let is_empty = headers.get(CONTENT_LENGTH).is_none_or(|length| length.as_bytes() == b"0");
    if is_empty && !headers.contains_key(TRANSFER_ENCODING) {
        return Ok(());
    }
    let next = "give the parameters in the query, such as ?wait=10s&time=2m";
    Err(Refusal::new(StatusCode::BAD_REQUEST, "body_unexpected", "a body is not read", next))
}

fn parameter_wrong(call: &Call, message: impl Into<String>) -> Refusal {
    let next = format!("the parameters are {}, each once", call.parameters.join(", "));
    Refusal::new(StatusCode::BAD_REQUEST, "parameter_wrong", message, next)
}

/// The values in a query, in the order of the call's parameters.
fn texts<const N: usize>(call: &Call, query: &str) -> Result<[Option<String>; N], Refusal> {
    let mut texts = [const { None }; N];
    for (name, value) in percent::pairs(query) {
        let place = call.parameters.iter().position(|parameter| *parameter == name);
        let Some(text) = place.and_then(|place| texts.get_mut(place)) else {
            return Err(parameter_wrong(call, format!("there is no parameter {name:?}")));
        };
        let value = percent::decode(value, UrlPart::Query)
            .ok_or_else(|| parameter_wrong(call, "a value is not percent-encoded UTF-8"))?;
        if text.replace(value).is_some() {
            return Err(parameter_wrong(call, format!("{name} is given twice")));
        }
    }
    Ok(texts)
}

/// The times in a query, in the order of the call's parameters.
fn spans<const N: usize>(call: &Call, query: &str) -> Result<[Option<Duration>; N], Refusal> {
    let mut spans = [None; N];
    for ((span, text), name) in spans.iter_mut().zip(texts::<N>(call, query)?).zip(call.parameters) {
        let Some(text) = text else { continue };
        let Span(time) = text.parse().map_err(|error: String| parameter_wrong(call, format!("{name}: {error}")))?;
        *span = Some(time);
    }
    Ok(spans)
}

#[cfg(test)]
mod tests;
