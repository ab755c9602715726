//! Which resource answers which request, and the answers to all other requests (docs/protocol.md, sections 1.1 and
//! 1.9).

use engine::budget::Work;
use engine::id::UserId;
use hyper::body::Body;
use hyper::header::ACCEPT;
use hyper::{HeaderMap, Method, StatusCode};

use super::answer::{self, Answer};
use super::error::{Code, Refusal};
use super::query::Query;
use super::resource_request::ResourceRequest;
use super::route::{DELETION, Route};
use super::services::Services;
use super::{
    account, authenticate, friends, groups, history, links, members, notifications, objects, presence, session, told,
    users,
};
use crate::client_network::ClientNetwork;
use crate::health::{ALIVE, READY};
use crate::page;

/// Only `HEAD /ws` gets this answer; `GET /ws` never reaches the router.
const NOT_A_SOCKET: &str = "this is for WebSocket clients: send Upgrade, and a token\n";

/// Answers any request.
pub async fn respond(services: &Services, request: ResourceRequest) -> Answer {
    if request.method() == Method::OPTIONS {
        return answer::preflight(request.headers());
    }
    match dispatch(services, &request).await {
        Ok(answer) => {
            let bytes = answer.body().size_hint().lower();
            request.charge(services, Work::bytes(bytes as usize));
            answer
        }
        Err(refusal) => {
            let route = Route::of(request.uri().path());
            refuse(services, &route, request.from(), request.payer().user, &refusal)
        }
    }
}

/// The answer of a refused request for this route. It is counted, and the log is told of it if operators should know.
pub fn refuse(
    services: &Services,
    route: &Route,
    from: ClientNetwork,
    user: Option<UserId>,
    refusal: &Refusal,
) -> Answer {
    told::tell(route, from, user, refusal);
    if matches!(route, Route::Authenticate(_)) {
        services.answered().count_refused_sign_in(refusal);
    }
    services.refuse(refusal)
}

async fn dispatch(services: &Services, request: &ResourceRequest) -> Result<Answer, Refusal> {
    // HEAD gets the same answer as GET; hyper leaves out the body.
    let method = if request.method() == Method::HEAD { &Method::GET } else { request.method() };
    match (Route::of(request.uri().path()), method) {
        (Route::Welcome, &Method::GET) => Ok(welcome(request.headers())),
        (Route::Health, &Method::GET) => match services.own_store().unready() {
            None => Ok(answer::done()),
            Some(reason) => Err(Refusal::new(Code::Unavailable, reason)),
        },
        (Route::Alive, &Method::GET) => Ok(answer::text(StatusCode::OK, ALIVE)),
        (Route::Ready, &Method::GET) => match services.unready_for_clients() {
            None => Ok(answer::text(StatusCode::OK, READY)),
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
        (Route::Objects, &Method::PUT) => objects::write(services, request).await,
        (Route::Objects, &Method::POST) => objects::read(services, request).await,
        (Route::Collection(Some(name)), &Method::PUT) if name == DELETION => objects::delete(services, request).await,
        (Route::Collection(name), &Method::GET) => objects::list(services, request, name, None).await,
        (Route::CollectionOf(name, user), &Method::GET) => objects::list(services, request, name, Some(user)).await,
        (Route::History(id), &Method::GET) => history::list(services, request, id.map(Option::unwrap_or_default)).await,
        (Route::Presence(id), &Method::GET) => presence::list(services, request, &id.unwrap_or_default()).await,
        // A client has no session token before it signs in.
        (Route::LackingSignIn, _) => Err(Refusal::not_found("this server does not have this way to sign in")),
        (Route::Event, &Method::POST) => {
            // It is counted as every request is, and nothing is done with it.
            request.user(services)?;
            Ok(answer::done())
        }
        (Route::Functions, _) if Query::parse(request.uri().query())?.text("http_key")?.is_some() => Err(
            Refusal::unauthenticated("this server does not know this http_key: it has no functions for other servers"),
        ),
        (Route::Functions, _) => {
            authenticated(services, request, "rpc")?;
            Err(Refusal::not_found("this server has no functions, so it does not have this rpc"))
        }
        (Route::Lacking(feature), _) => {
            authenticated(services, request, feature)?;
            Err(Refusal::not_found(format!("this server does not have this feature of the protocol: {feature}")))
        }
        (Route::Unknown, _) => Err(Refusal::not_found("there is nothing at this path")),
        _ => Err(Refusal::new(Code::Unimplemented, "this path does not know this method")),
    }
}

/// Refuses a request for something that this server does not have, if it has no good token.
fn authenticated(services: &Services, request: &ResourceRequest, feature: &str) -> Result<(), Refusal> {
    match request.user(services) {
        Ok(_) => Ok(()),
        Err(refusal) => {
            let message = format!("{}; and this server does not have this feature: {feature}", refusal.message);
            Err(Refusal { message: message.into(), ..refusal })
        }
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
