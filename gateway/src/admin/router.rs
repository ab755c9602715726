//! The calls of the admin address, in one table. docs/admin.md explains them, and a test asks for it.
//!
//! In a cluster, calls about a process will take the parameter `node`, by default the process that is asked. No call has
//! a parameter of this name until then, so it is refused as unknown.

use std::str::FromStr;

use hyper::header::{ACCEPT, ALLOW, AUTHORIZATION, CONTENT_LENGTH, HeaderValue, TRANSFER_ENCODING};
use hyper::{Method, Request, StatusCode};
use serde::Serialize;

use super::answers::{LINE, Refusal, answer, json};
use super::hosts::{HostRefusal, Hosts};
use super::token::AdminToken;
use crate::drain::Terms;
use crate::heads;
use crate::health::{ALIVE, READY};
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
}

static CALLS: [Call; 9] = [
    Call::open("/", "lists the calls", Kind::Calls),
    Call::open("/metrics", "the numbers, as Prometheus reads them", Kind::Metrics),
    Call::open("/healthz", "200 while the process works", Kind::Alive),
    Call::open("/readyz", "200 when new clients may come, or 503 and why not", Kind::Ready),
    Call::guarded(Method::GET, "/v1/status", &[], "how the server is", Kind::Status),
    Call::guarded(Method::GET, "/v1/drain", &[], "how far the drain is", Kind::DrainStatus),
    Call::guarded(Method::POST, "/v1/drain", &["wait", "time"], "lets the server drain and stop", Kind::Drain),
    Call::guarded(Method::GET, "/v1/log", &[], "which log lines the server writes", Kind::LogLevel),
    Call::guarded(Method::PUT, "/v1/log", &["level"], "lets it write others", Kind::SetLogLevel),
];

impl Call {
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
    let mut of_path = CALLS.iter().filter(|call| call.path == path).peekable();
    if of_path.peek().is_none() {
        let message = format!("there is no call {path}");
        return Refusal::new(StatusCode::NOT_FOUND, "not_found", message, "GET / lists the calls").answer();
    }
    let Some(call) = of_path.clone().find(|call| call.method == *request.method()) else {
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
            let [wait, time] = values(call, query, |text| text.parse().map(|Span(time)| time))?;
            if !desk.begin_drain(Terms { wait, time }) {
                let next = "GET /v1/drain tells how far it is; SIGINT stops the server at once";
                return Err(Refusal::new(StatusCode::CONFLICT, "already_draining", "a drain has begun before", next));
            }
            desk.drain_status(StatusCode::ACCEPTED)
        }
        Kind::LogLevel => desk.log_level(),
        Kind::SetLogLevel => {
            refuse_body(request)?;
            let [levels] = values(call, request.uri().query().unwrap_or_default(), LogLevels::from_str)?;
            let Some(levels) = levels else {
                let next = "give ?level=LEVEL, such as ?level=info,gateway::sockets=debug";
                return Err(Refusal::new(StatusCode::BAD_REQUEST, "parameter_wrong", "level is not given", next));
            };
            desk.set_log_level(&levels);
            desk.log_level()
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

/// The values in a query, in the order of the call's parameters. `parse` reads one, or says what is wrong.
fn values<T, const N: usize>(
    call: &Call,
    query: &str,
    parse: impl Fn(&str) -> Result<T, String>,
) -> Result<[Option<T>; N], Refusal> {
    let known = call.parameters.join(", ");
    let refuse = |message: &str| {
        let next = format!("the parameters are {known}, each once");
        Refusal::new(StatusCode::BAD_REQUEST, "parameter_wrong", message, next)
    };
    let mut values = [const { None }; N];
    for (name, value) in percent::pairs(query) {
        let place = call.parameters.iter().position(|parameter| *parameter == name);
        let Some(given) = place.and_then(|place| values.get_mut(place)) else {
            return Err(refuse(&format!("there is no parameter {name:?}")));
        };
        let text =
            percent::decode(value, UrlPart::Query).ok_or_else(|| refuse("a value is not percent-encoded UTF-8"))?;
        let value = parse(&text).map_err(|error| refuse(&format!("{name}: {error}")))?;
        if given.replace(value).is_some() {
            return Err(refuse(&format!("{name} is given twice")));
        }
    }
    Ok(values)
}

#[cfg(test)]
mod tests;
