//! The forms of answers to operators: text for programs that read numbers and health, JSON for everything else. A refusal
//! says what is wrong, by a code and in words, and what to do next.

use http_body_util::Full;
use hyper::body::Bytes;
use hyper::header::{CACHE_CONTROL, CONTENT_TYPE, HeaderValue, WWW_AUTHENTICATE, X_CONTENT_TYPE_OPTIONS};
use hyper::{Response, StatusCode};
use serde::Serialize;

use crate::http::answer::Answer;

pub(super) const LINE: &str = "text/plain; charset=utf-8";
const JSON: &str = "application/json";

/// A call that is refused, as operators read it.
#[derive(Serialize)]
pub(super) struct Refusal {
    #[serde(skip)]
    status: StatusCode,
    code: &'static str,
    message: String,
    next: String,
}

impl Refusal {
    /// A refusal with a code for programs, what is wrong, and what to do next.
    pub fn new(status: StatusCode, code: &'static str, message: impl Into<String>, next: impl Into<String>) -> Self {
        Self { status, code, message: message.into(), next: next.into() }
    }

    /// The answer that tells it.
    pub fn answer(&self) -> Answer {
        let mut answer = json(self.status, self);
        if self.status == StatusCode::UNAUTHORIZED {
            answer.headers_mut().insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        answer
    }
}

/// An answer to an operator. Unlike the answers to users, it does not let pages of other origins read it.
pub(super) fn answer(status: StatusCode, kind: &'static str, body: impl Into<Bytes>) -> Answer {
    let mut answer = Response::new(Full::new(body.into()));
    *answer.status_mut() = status;
    answer.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    answer.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    answer.headers_mut().insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    answer
}

/// An answer in JSON, on several lines, because people read it too.
pub(super) fn json(status: StatusCode, value: &impl Serialize) -> Answer {
    match serde_json::to_string_pretty(value) {
        Ok(text) => answer(status, JSON, text + "\n"),
        Err(error) => {
            answer(StatusCode::INTERNAL_SERVER_ERROR, LINE, format!("the answer cannot be written: {error}\n"))
        }
    }
}
