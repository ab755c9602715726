//! Which resource answers which request, and the answers to all other requests (docs/protocol.md, sections 1.1 and
//! 1.9).

use hyper::body::Bytes;
use hyper::header::ACCEPT;
use hyper::{HeaderMap, Method, Request, StatusCode};
use storage::account::CredentialKind;

use super::answer::{self, Answer};
use super::authorization::bearer;
use super::error::{Code, Refusal};
use super::members::MemberAct;
use super::services::Services;
use super::{account, authenticate, friends, groups, history, links, members, notifications, presence, session, users};
use crate::page;
use crate::percent::{self, Part};

/// Only `HEAD /ws` gets this answer; `GET /ws` never reaches the router.
const NOT_A_SOCKET: &str = "this is for WebSocket clients: send Upgrade, and a token\n";

/// The first segments below `/v2/` of the protocol's REST features: those that this server has and those that it lacks.
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

/// Answers any request.
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
    /// Signing in with a kind of credential that the server does not have.
    LackingSignIn,
    Refresh,
    Logout,
    Account,
    Link(CredentialKind),
    Unlink(CredentialKind),
    Users,
    Groups,
    /// With the group's decoded id, or `None` if it cannot be decoded.
    Group(Option<String>),
    Members(Option<String>),
    MemberAct(Option<String>, MemberAct),
    /// With the user's decoded id, or `None` if it cannot be decoded.
    Memberships(Option<String>),
    Friends,
    Block,
    Notifications,
    /// With the channel's id, if the path has it: decoded, or an inner `None` if it cannot be decoded.
    History(Option<Option<String>>),
    /// With the channel's decoded id, or `None` if it cannot be decoded.
    Presence(Option<String>),
    /// A feature of the protocol that this server does not have, or not in this form.
    Lacking,
    Unknown,
}

impl Route {
    /// A path is split before it is decoded, so that a channel's id may contain a slash. A path that is not found is
    /// tried once more with its slashes decoded first, as Nakama decodes all paths.
    fn of(path: &str) -> Self {
        if path.is_empty() || path == "/" {
            return Self::Welcome;
        }
        let Some(path) = path.strip_prefix('/') else { return Self::Unknown };
        match Self::of_segments(path) {
            Self::Unknown | Self::Lacking if path.contains("%2F") || path.contains("%2f") => {
                Self::of_segments(&path.replace("%2F", "/").replace("%2f", "/"))
            }
            route => route,
        }
    }

    fn of_segments(path: &str) -> Self {
        let decoded: Vec<Option<String>> =
            path.split('/').map(|segment| percent::decode(segment, Part::Path)).collect();
        let names: Vec<&str> = decoded.iter().map(|segment| segment.as_deref().unwrap_or(NO_NAME)).collect();
        let id = |place: usize| decoded[place].clone();
        let route = match names.as_slice() {
            ["healthcheck"] => Some(Self::Health),
            ["ws"] => Some(Self::Socket),
            ["v2", "account", "session", "refresh"] => Some(Self::Refresh),
            ["v2", "session", "logout"] => Some(Self::Logout),
            ["v2", "account"] => Some(Self::Account),
            ["v2", "user"] => Some(Self::Users),
            ["v2", "group"] => Some(Self::Groups),
            ["v2", "friend"] => Some(Self::Friends),
            ["v2", "friend", "block"] => Some(Self::Block),
            ["v2", "notification"] => Some(Self::Notifications),
            ["v2", "channel"] => Some(Self::History(None)),
            ["v2", "channel", _] => Some(Self::History(Some(id(2)))),
            ["v2", "channel", _, "presence"] => Some(Self::Presence(id(2))),
            ["v2", "group", _] => Some(Self::Group(id(2))),
            ["v2", "group", _, "user"] => Some(Self::Members(id(2))),
            ["v2", "group", _, act] => MemberAct::named(act).map(|act| Self::MemberAct(id(2), act)),
            ["v2", "user", _, "group"] => Some(Self::Memberships(id(2))),
            ["v2", "account", "authenticate", kind] => {
                Some(credential_kind(kind).map_or(Self::LackingSignIn, Self::Authenticate))
            }
            ["v2", "account", "authenticate", ..] => Some(Self::LackingSignIn),
            ["v2", "account", "link", kind] => credential_kind(kind).map(Self::Link),
            ["v2", "account", "unlink", kind] => credential_kind(kind).map(Self::Unlink),
            _ => None,
        };
        let known = matches!(names.as_slice(), ["v2", feature, ..] if FEATURES.contains(feature));
        route.unwrap_or(if known { Self::Lacking } else { Self::Unknown })
    }
}

/// Stands for a segment that cannot be decoded. No name contains a slash.
const NO_NAME: &str = "/";

fn credential_kind(name: &str) -> Option<CredentialKind> {
    match name {
        "device" => Some(CredentialKind::Device),
        "custom" => Some(CredentialKind::Custom),
        "email" => Some(CredentialKind::Email),
        _ => None,
    }
}

async fn dispatch(services: &Services, request: &Request<Bytes>) -> Result<Answer, Refusal> {
    // HEAD gets the same answer as GET; hyper leaves out the body.
    let method = if request.method() == Method::HEAD { &Method::GET } else { request.method() };
    match (Route::of(request.uri().path()), method) {
        (Route::Welcome, &Method::GET) => Ok(welcome(request.headers())),
        (Route::Health, &Method::GET) => match services.store.unready() {
            None => Ok(answer::done()),
            Some(reason) => Err(Refusal::new(Code::Unavailable, reason)),
        },
        (Route::Socket, &Method::GET) => Ok(answer::text(StatusCode::BAD_REQUEST, NOT_A_SOCKET)),
        (Route::Authenticate(kind), &Method::POST) => authenticate::authenticate(services, request, kind).await,
        (Route::Refresh, &Method::POST) => session::refresh(services, request).await,
        (Route::Logout, &Method::POST) => session::logout(services, request).await,
        (Route::Account, &Method::GET) => account::show(services, request).await,
        (Route::Account, &Method::PUT) => account::change(services, request).await,
        (Route::Account, &Method::DELETE) => account::delete(services, request).await,
        (Route::Link(kind), &Method::POST) => links::link(services, request, kind).await,
        (Route::Unlink(kind), &Method::POST) => links::unlink(services, request, kind).await,
        (Route::Users, &Method::GET) => users::list(services, request).await,
        // No user has an id that is not text.
        (Route::Memberships(id), &Method::GET) => members::of_user(services, request, &id.unwrap_or_default()).await,
        (Route::Groups, &Method::GET) => groups::list(services, request).await,
        (Route::Groups, &Method::POST) => groups::create(services, request).await,
        (Route::Group(id), &Method::PUT) => groups::edit(services, request, &id.unwrap_or_default()).await,
        (Route::Group(id), &Method::DELETE) => groups::delete(services, request, &id.unwrap_or_default()).await,
        (Route::Members(id), &Method::GET) => members::of_group(services, request, &id.unwrap_or_default()).await,
        (Route::MemberAct(id, act), &Method::POST) => {
            members::act(services, request, &id.unwrap_or_default(), act).await
        }
        (Route::Friends, &Method::GET) => friends::list(services, request).await,
        (Route::Friends, &Method::POST) => friends::add(services, request).await,
        (Route::Friends, &Method::DELETE) => friends::delete(services, request).await,
        (Route::Block, &Method::POST) => friends::block(services, request).await,
        (Route::Notifications, &Method::GET) => notifications::list(services, request).await,
        (Route::Notifications, &Method::DELETE) => notifications::delete(services, request).await,
        (Route::History(id), &Method::GET) => history::list(services, request, id.map(Option::unwrap_or_default)).await,
        (Route::Presence(id), &Method::GET) => presence::list(services, request, &id.unwrap_or_default()).await,
        // A client has no session token before it signs in.
        (Route::LackingSignIn, _) => Err(Refusal::not_found("this server does not have this way to sign in")),
        (Route::Lacking, _) => {
            bearer(services, request.headers())?;
            Err(Refusal::not_found("this server does not have this feature"))
        }
        (Route::Unknown, _) => Err(Refusal::not_found("there is nothing at this path")),
        _ => Err(Refusal::new(Code::Unimplemented, "this path does not know this method")),
    }
}

/// Health checks get an empty answer, browsers get the chat page.
fn welcome(headers: &HeaderMap) -> Answer {
    let accepted = headers.get_all(ACCEPT).iter().filter_map(|value| value.to_str().ok());
    if accepted.into_iter().any(|accepted| accepted.to_ascii_lowercase().contains("text/html")) {
        return answer::page(page::HTML, page::policy());
    }
    answer::text(StatusCode::OK, "")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_decoded_once() {
        for (path, route) in [
            ("/%77s", Route::Socket),
            ("/health%63heck", Route::Health),
            ("/v2%2Faccount", Route::Account),
            ("/v2/account%2fauthenticate%2Fdevice", Route::Authenticate(CredentialKind::Device)),
            ("/v2/%61ccount/session/refresh", Route::Refresh),
            ("/v2/%2561ccount", Route::Unknown),
            ("/v2/account%2525", Route::Unknown),
            ("/v2/account/%zz", Route::Lacking),
            ("/%zz", Route::Unknown),
            ("/v2", Route::Unknown),
            ("/v2/", Route::Unknown),
            ("/v2/account/", Route::Lacking),
            ("//v2/account", Route::Unknown),
            ("*", Route::Unknown),
            ("", Route::Welcome),
        ] {
            assert_eq!(Route::of(path), route, "{path}");
        }
    }

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
