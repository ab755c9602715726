//! Which resource answers which request, and what the rest hears (docs/protocol.md, sections 1.1 and 1.9).

use hyper::body::Bytes;
use hyper::header::ACCEPT;
use hyper::{HeaderMap, Method, Request, StatusCode};
use storage::account::CredentialKind;

use super::answer::{self, Answer};
use super::authorization::bearer;
use super::error::{Code, Refusal};
use super::services::Services;
use super::{account, authenticate, history, presence, session, users};
use crate::percent::{self, Part};

/// What the binary itself serves to browsers.
const CHAT_PAGE: &str = include_str!("../page/index.html");

/// A connection that begins with `GET /ws` never gets here: this is a later request.
const NOT_A_SOCKET: &str = "open a new connection for a WebSocket: its opening must be the first request of one\n";

/// The first segments below `/v2/` of the protocol's REST features, ours and those we lack.
const FEATURES: [&str; 15] = [
    "account",
    "channel",
    "event",
    "friend",
    "group",
    "iap",
    "leaderboard",
    "match",
    "notification",
    "party",
    "rpc",
    "session",
    "storage",
    "tournament",
    "user",
];

/// Answers one request, whatever it is.
pub async fn respond(services: &Services, request: Request<Bytes>) -> Answer {
    if request.method() == Method::OPTIONS {
        return answer::preflight(request.headers());
    }
    match dispatch(services, &request).await {
        Ok(answer) => answer,
        Err(refusal) => answer::refused(&refusal),
    }
}

/// What a path names.
#[derive(Clone, PartialEq, Eq, Debug)]
enum Route {
    Welcome,
    Health,
    Socket,
    Authenticate(CredentialKind),
    Refresh,
    Logout,
    Account,
    Users,
    /// With the channel's id, when the path has it: decoded, or `None` inside when that cannot be done.
    History(Option<Option<String>>),
    /// With the channel's id, decoded, if that can be done.
    Presence(Option<String>),
    /// A feature of the protocol that is not here, or not in this form.
    Lacking,
    Unknown,
}

impl Route {
    fn of(path: &str) -> Self {
        match path {
            "/" | "" => Self::Welcome,
            "/healthcheck" => Self::Health,
            "/ws" => Self::Socket,
            "/v2/account/authenticate/device" => Self::Authenticate(CredentialKind::Device),
            "/v2/account/authenticate/custom" => Self::Authenticate(CredentialKind::Custom),
            "/v2/account/authenticate/email" => Self::Authenticate(CredentialKind::Email),
            "/v2/account/session/refresh" => Self::Refresh,
            "/v2/session/logout" => Self::Logout,
            "/v2/account" => Self::Account,
            "/v2/user" => Self::Users,
            "/v2/channel" => Self::History(None),
            path => Self::below_v2(path),
        }
    }

    fn below_v2(path: &str) -> Self {
        let Some(path) = path.strip_prefix("/v2/") else {
            return Self::Unknown;
        };
        if let Some(below) = path.strip_prefix("channel/") {
            match below.split_once('/') {
                None => return Self::History(Some(percent::decode(below, Part::Path))),
                Some((id, "presence")) => return Self::Presence(percent::decode(id, Part::Path)),
                Some(_) => {}
            }
        }
        let feature = path.split('/').next().unwrap_or_default();
        if FEATURES.contains(&feature) { Self::Lacking } else { Self::Unknown }
    }
}

async fn dispatch(services: &Services, request: &Request<Bytes>) -> Result<Answer, Refusal> {
    // An answer to HEAD is that to GET; the connection leaves its body out.
    let method = if request.method() == Method::HEAD { &Method::GET } else { request.method() };
    match (Route::of(request.uri().path()), method) {
        (Route::Welcome, &Method::GET) => Ok(welcome(request.headers())),
        (Route::Health, &Method::GET) => Ok(answer::done()),
        (Route::Socket, &Method::GET) => Ok(answer::text(StatusCode::BAD_REQUEST, NOT_A_SOCKET)),
        (Route::Authenticate(kind), &Method::POST) => authenticate::authenticate(services, request, kind).await,
        (Route::Refresh, &Method::POST) => session::refresh(services, request).await,
        (Route::Logout, &Method::POST) => session::logout(services, request).await,
        (Route::Account, &Method::GET) => account::show(services, request).await,
        (Route::Account, &Method::PUT) => account::change(services, request).await,
        (Route::Users, &Method::GET) => users::list(services, request).await,
        // An id that is not text is no channel's.
        (Route::History(id), &Method::GET) => history::list(services, request, id.map(Option::unwrap_or_default)).await,
        (Route::Presence(id), &Method::GET) => presence::list(services, request, &id.unwrap_or_default()).await,
        (Route::Lacking, _) => {
            bearer(services, request.headers())?;
            Err(Refusal::not_found("this server does not have this feature"))
        }
        (Route::Unknown, _) => Err(Refusal::not_found("there is nothing at this path")),
        _ => Err(Refusal::new(Code::Unimplemented, "this path does not know this method")),
    }
}

/// Programs that look whether we live get an empty answer, people with a browser get the chat page.
fn welcome(headers: &HeaderMap) -> Answer {
    let accepted = headers.get_all(ACCEPT).iter().filter_map(|value| value.to_str().ok());
    if accepted.into_iter().any(|accepted| accepted.to_ascii_lowercase().contains("text/html")) {
        return answer::page(CHAT_PAGE);
    }
    answer::text(StatusCode::OK, "")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn channel_ids_in_paths() {
        let id = |path: &str| match Route::of(path) {
            Route::History(id) => id,
            other => panic!("{path} is {other:?}"),
        };
        assert_eq!(id("/v2/channel"), None);
        assert_eq!(id("/v2/channel/"), Some(Some("".into())));
        assert_eq!(id("/v2/channel/2...a%2Fb+c%20d"), Some(Some("2...a/b+c d".into())));
        assert_eq!(id("/v2/channel/2...%ff"), Some(None));
        assert_eq!(Route::of("/v2/channel/2...a/b"), Route::Lacking);
        assert_eq!(Route::of("/v2/channel/2...a%2Fb/presence"), Route::Presence(Some("2...a/b".into())));
        assert_eq!(Route::of("/v2/channel/2...%ff/presence"), Route::Presence(None));
        assert_eq!(id("/v2/channel/presence"), Some(Some("presence".into())));
        assert_eq!(Route::of("/v2/channel/2...a/presence/b"), Route::Lacking);
    }
}
