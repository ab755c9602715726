//! Signing in, and reading with a session, over HTTP: one pooled keep-alive client for each thread, and Basic
//! authorisation with the server key.

use std::net::SocketAddr;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Bytes;
use hyper::header::{AUTHORIZATION, CONTENT_TYPE, HeaderValue, RETRY_AFTER};
use hyper::{Method, Request, StatusCode};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use serde::Deserialize;
use thiserror::Error;

use crate::plan::target::SignInKind;

/// A stock server hashes nothing for these two kinds of sign-in. If it needs half a minute, it is overloaded.
const TIMEOUT: Duration = Duration::from_secs(30);
/// An answer holds two tokens. A server that sends more than this is not the server that we expect.
const ANSWER_BYTES_MAX: usize = 64 * 1024;

/// A page has a hundred items of some 4 KiB, every byte of which may have to be escaped.
const PAGE_BYTES_MAX: usize = 8 * 1024 * 1024;

#[derive(Debug, Error)]
pub enum SignInError {
    #[error("the sign-in request failed: {}", with_causes(.0))]
    Exchange(#[from] hyper_util::client::legacy::Error),
    #[error("the sign-in request cannot be written: {0}")]
    Request(#[from] hyper::http::Error),
    #[error("the sign-in answer broke off: {0}")]
    Answer(Box<dyn std::error::Error + Send + Sync>),
    /// `retry_after` is what the server says in its `Retry-After`, if it does.
    #[error("the server refused with status {status}: {body}")]
    Refused { status: StatusCode, body: String, retry_after: Option<Duration> },
    #[error("the sign-in answer holds no token: {0}")]
    NoToken(#[from] serde_json::Error),
    #[error("the answer is no page of history: {0}")]
    NoPage(#[source] serde_json::Error),
    #[error("no answer to sign-in within {} s", TIMEOUT.as_secs())]
    TimedOut,
}

impl SignInError {
    /// Whether another attempt may succeed: not when the server refused for good.
    pub fn may_pass(&self) -> bool {
        match self {
            Self::Refused { status, .. } => status.is_server_error() || *status == StatusCode::TOO_MANY_REQUESTS,
            _ => true,
        }
    }

    /// How long to wait before the request is made again; `None` if the server did not refuse it as one of too many.
    pub fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Refused { status: StatusCode::TOO_MANY_REQUESTS, retry_after, .. } => *retry_after,
            _ => None,
        }
    }
}

/// The seconds in a `Retry-After`. Its other form, a date, is not read.
fn seconds_in(header: Option<&HeaderValue>) -> Option<Duration> {
    header?.to_str().ok()?.trim().parse().ok().map(Duration::from_secs)
}

/// The HTTP library's error says where it failed; only its causes say why.
fn with_causes(error: &(dyn std::error::Error + 'static)) -> String {
    let causes = std::iter::successors(Some(error), |error| error.source());
    causes.map(ToString::to_string).collect::<Vec<_>>().join(": ")
}

#[derive(Deserialize)]
struct Session {
    token: String,
}

/// The HTTP interface of one server, with the connections to it that are kept open.
pub struct FrontDoor {
    client: Client<HttpConnector, Full<Bytes>>,
    /// `http://` and the server's address.
    origin: String,
    uri: String,
    authorization: String,
}

impl FrontDoor {
    pub fn new(server: SocketAddr, kind: SignInKind, server_key: &str) -> Self {
        let mut connector = HttpConnector::new();
        connector.set_nodelay(true);
        let kind = match kind {
            SignInKind::Custom => "custom",
            SignInKind::Device => "device",
        };
        Self {
            client: Client::builder(TokioExecutor::new()).build(connector),
            origin: format!("http://{server}"),
            uri: format!("http://{server}/v2/account/authenticate/{kind}?create=true"),
            authorization: format!("Basic {}", STANDARD.encode(format!("{server_key}:"))),
        }
    }

    /// Returns a session token for the account with this id; the server creates the account if it does not exist.
    pub async fn sign_in(&self, id: &str) -> Result<String, SignInError> {
        tokio::time::timeout(TIMEOUT, self.exchange(id)).await.map_err(|_| SignInError::TimedOut)?
    }

    async fn exchange(&self, id: &str) -> Result<String, SignInError> {
        let body = serde_json::json!({ "id": id }).to_string();
        let request = Request::builder()
            .method(Method::POST)
            .uri(&self.uri)
            .header(AUTHORIZATION, &self.authorization)
            .header(CONTENT_TYPE, "application/json")
            .body(Full::from(body))?;
        let session: Session = serde_json::from_slice(&self.answer(request, ANSWER_BYTES_MAX).await?)?;
        Ok(session.token)
    }

    /// Reads a resource with a session token.
    pub async fn get(&self, path: &str, token: &str) -> Result<Bytes, SignInError> {
        let request = Request::builder()
            .uri(format!("{}{path}", self.origin))
            .header(AUTHORIZATION, format!("Bearer {token}"))
            .body(Full::default())?;
        let answering = self.answer(request, PAGE_BYTES_MAX);
        tokio::time::timeout(TIMEOUT, answering).await.map_err(|_| SignInError::TimedOut)?
    }

    async fn answer(&self, request: Request<Full<Bytes>>, bytes_max: usize) -> Result<Bytes, SignInError> {
        let answer = self.client.request(request).await?;
        let status = answer.status();
        let retry_after = seconds_in(answer.headers().get(RETRY_AFTER));
        let body = Limited::new(answer.into_body(), bytes_max).collect().await.map_err(SignInError::Answer)?;
        let body = body.to_bytes();
        if status != StatusCode::OK {
            return Err(SignInError::Refused {
                status,
                body: String::from_utf8_lossy(&body).into_owned(),
                retry_after,
            });
        }
        Ok(body)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_too_many_requests_are_made_again_after_the_time_that_the_server_names() {
        let check = |status, header: &'static str, expected: Option<u64>| {
            let retry_after = seconds_in(Some(&HeaderValue::from_static(header)));
            let refusal = SignInError::Refused { status, body: String::new(), retry_after };
            assert_eq!(refusal.retry_after(), expected.map(Duration::from_secs), "{status} {header}");
        };
        check(StatusCode::TOO_MANY_REQUESTS, "3", Some(3));
        check(StatusCode::TOO_MANY_REQUESTS, "0", Some(0));
        check(StatusCode::TOO_MANY_REQUESTS, "Wed, 21 Oct 2026 07:28:00 GMT", None);
        check(StatusCode::TOO_MANY_REQUESTS, "-3", None);
        check(StatusCode::SERVICE_UNAVAILABLE, "3", None);
        assert_eq!(seconds_in(None), None);
        assert_eq!(SignInError::TimedOut.retry_after(), None);
    }

    #[test]
    fn a_refusal_for_good_is_not_tried_again() {
        let refused = |status| SignInError::Refused { status, body: String::new(), retry_after: None };
        for (error, expected) in [
            (refused(StatusCode::UNAUTHORIZED), false),
            (refused(StatusCode::FORBIDDEN), false),
            (refused(StatusCode::TOO_MANY_REQUESTS), true),
            (refused(StatusCode::SERVICE_UNAVAILABLE), true),
            (SignInError::TimedOut, true),
        ] {
            assert_eq!(error.may_pass(), expected, "{error}");
        }
    }
}
