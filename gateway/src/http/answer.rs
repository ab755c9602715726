//! Responses: JSON as clients expect it, and the headers that all of them carry.

use std::ops::RangeInclusive;

use http_body_util::Full;
use hyper::body::Bytes;
use hyper::header::{
    ACCEPT_ENCODING, ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS, ACCESS_CONTROL_ALLOW_ORIGIN,
    ACCESS_CONTROL_MAX_AGE, ACCESS_CONTROL_REQUEST_HEADERS, CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE,
    HeaderValue, RETRY_AFTER, WWW_AUTHENTICATE, X_CONTENT_TYPE_OPTIONS,
};
use hyper::{HeaderMap, Response, StatusCode};
use serde::Serialize;

use super::error::{Code, Refusal};

/// How long a browser may cache the answer to a preflight: a day, though each browser has its own limit. The answer
/// never changes.
const PREFLIGHT_SECONDS: &str = "86400";

/// The longest time that a client is told to wait before it tries again. Clients give up on a request after 7 s.
const RETRY_AFTER_SECONDS_MAX: u64 = 5;

/// When a client may try again that is refused because the server has too much to do.
pub const UNAVAILABLE_RETRY_SECONDS: RangeInclusive<u64> = 1..=RETRY_AFTER_SECONDS_MAX;

/// Clients of one user that were refused for the user's budget are spread over so many seconds behind its end.
pub const BUDGET_SPREAD_SECONDS: u64 = 2;

/// A whole response, with its body in memory.
pub type Answer = Response<Full<Bytes>>;

/// A successful answer with this object. The object leaves out its default values.
pub fn json(object: &impl Serialize) -> Answer {
    json_bytes(written_as_json(object))
}

/// A successful answer with an object that `written_as_json` has written.
pub fn json_bytes(object: Bytes) -> Answer {
    written(StatusCode::OK, "application/json", object)
}

/// The bytes of the object as JSON, for a body.
pub fn written_as_json(object: &impl Serialize) -> Bytes {
    // Writing to memory cannot fail, and our types hold nothing that JSON cannot express.
    let mut bytes = serde_json::to_vec(object).expect("our own types can be written");
    // What is counted of an answer is what it holds.
    bytes.shrink_to_fit();
    bytes.into()
}

/// A successful answer without content. It has `{}` as its body, because clients take an empty body for a failure.
pub fn done() -> Answer {
    written(StatusCode::OK, "application/json", "{}")
}

/// A response with a line of plain text.
pub fn text(status: StatusCode, line: &'static str) -> Answer {
    written(status, "text/plain; charset=utf-8", line)
}

/// A response 200 with a page of HTML, and the policy that browsers apply to the page.
pub fn page(html: &'static str, policy: HeaderValue) -> Answer {
    let mut answer = written(StatusCode::OK, "text/html; charset=utf-8", html);
    answer.headers_mut().insert(CONTENT_SECURITY_POLICY, policy);
    answer
}

/// The response that tells a client of a refusal: the status of its code, and JSON with the code's number and the text.
pub fn refused(refusal: &Refusal) -> Answer {
    #[derive(Serialize)]
    struct Body<'a> {
        code: u8,
        message: &'a str,
    }
    let mut answer = json(&Body { code: refusal.code.number(), message: &refusal.message });
    *answer.status_mut() = refusal.code.status();
    let retry_after = match refusal.code {
        Code::OverBudget { wait_seconds, .. } => Some(wait_seconds..=wait_seconds + BUDGET_SPREAD_SECONDS),
        code if code.status() == StatusCode::SERVICE_UNAVAILABLE => Some(UNAVAILABLE_RETRY_SECONDS),
        _ => None,
    };
    if let Some(range) = retry_after {
        answer.headers_mut().insert(RETRY_AFTER, HeaderValue::from(retry_after_seconds(range)));
    }
    if refusal.code == Code::UnknownEncoding {
        answer.headers_mut().insert(ACCEPT_ENCODING, HeaderValue::from_static("gzip"));
    }
    if refusal.code == Code::Unauthenticated
        && let Ok(message) = HeaderValue::from_str(&refusal.message)
    {
        answer.headers_mut().insert(WWW_AUTHENTICATE, message);
    }
    answer
}

/// When a client that was refused for now may try again, drawn at random from this range. So clients that were refused
/// together do not come back together.
pub fn retry_after_seconds(range: RangeInclusive<u64>) -> u64 {
    let (least, most) = range.into_inner();
    least + uuid::Uuid::new_v4().as_u64_pair().1 % (most - least + 1)
}

/// Answers the preflight that a browser sends before a page of another origin may call the server. Everything is
/// allowed, because access depends on tokens that the page must have, never on anything that the browser adds by
/// itself.
pub fn preflight(asked: &HeaderMap) -> Answer {
    let mut answer = written(StatusCode::OK, "text/plain; charset=utf-8", "");
    let headers = asked.get(ACCESS_CONTROL_REQUEST_HEADERS).cloned();
    let usual = HeaderValue::from_static("Authorization, Content-Type, User-Agent");
    answer.headers_mut().insert(ACCESS_CONTROL_ALLOW_HEADERS, headers.unwrap_or(usual));
    answer.headers_mut().insert(ACCESS_CONTROL_MAX_AGE, HeaderValue::from_static(PREFLIGHT_SECONDS));
    answer.headers_mut().insert(ACCESS_CONTROL_ALLOW_METHODS, HeaderValue::from_static("GET, HEAD, POST, PUT, DELETE"));
    answer
}

fn written(status: StatusCode, kind: &'static str, body: impl Into<Bytes>) -> Answer {
    let mut answer = Response::new(Full::new(body.into()));
    *answer.status_mut() = status;
    let headers = answer.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store, no-cache, must-revalidate"));
    headers.insert(ACCESS_CONTROL_ALLOW_ORIGIN, HeaderValue::from_static("*"));
    // A browser takes no answer for a script or a page that its type does not name.
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    answer
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use engine::command::RateLimit;

    use super::*;

    /// The times that refusals of this code name. Drawn so often, none is missing but once in 10^38 runs.
    fn waits(code: Code) -> BTreeSet<u64> {
        let refusal = Refusal { code, message: "later".into(), about: None, cause: None };
        let wait =
            |_| refused(&refusal).headers()[RETRY_AFTER].to_str().expect("text").parse::<u64>().expect("seconds");
        (0..400).map(wait).collect()
    }

    #[test]
    fn clients_that_were_refused_together_come_back_at_different_times() {
        let spread = waits(Code::OverBudget { limit: RateLimit::WorkPerUser, wait_seconds: 7 });
        assert_eq!(spread, BTreeSet::from([7, 8, 9]), "behind the end of the debt, not before it");
        assert_eq!(waits(Code::Unavailable), BTreeSet::from([1, 2, 3, 4, 5]));
    }
}
