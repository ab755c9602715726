//! Receives the body of a request whose head has come, as far as the head entitles its sender.
//!
//! The head decides first: a sender without the key or token that the resource asks for is refused before a byte of its
//! body is kept. What still comes of the body is then read and thrown away, for a moment, so that the connection can go
//! on with its next request, and so that a client that reads only after it has sent all finds the answer. If the body
//! does not end in that time, the connection closes after the answer, because the beginning of the next request is not
//! known.

use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use engine::budget::Work;
use engine::id::UserId;
use engine::limits::REST_DURATION;
use engine::process_rates::ProcessRate;
use engine::session::shared_budgets::{Payer, Purse};
use glommio::timer::Timer;
use hyper::body::{Body, Bytes, Frame, SizeHint};
use hyper::header::{EXPECT, HOST, HeaderValue, ORIGIN};
use hyper::http::request::Parts;
use hyper::{HeaderMap, Method, Uri, Version};

use super::authorization::{basic, bearer};
use super::bodies::Uncollected;
use super::body::{RequestBody, encoding, too_large};
use super::body_terms::{BodyTerms, Sender};
use super::chunks::ChunkFraming;
use super::costs::{CHANGE, CHECK, CHUNK, REFUSAL, REQUEST};
use super::error::{Code, Refusal};
use super::resource_request::Received;
use super::route::Route;
use super::services::Services;
use crate::client_network::ClientNetwork;
use crate::target::is_host;
use crate::upgrade::Ending;

/// How many bytes of a body that no resource reads the server throws away before the connection closes.
const DISCARDED_BYTES_MAX: u64 = 1 << 20;

/// How long the server waits for a body that no resource reads. A body that its client has already sent comes within a round trip.
const DISCARD_DURATION_MAX: Duration = Duration::from_secs(1);

/// What a header takes beside its name and its value: its place in a table, as HTTP/2 counts it (RFC 9113, section 6.5.2).
const HEADER_BYTES: usize = 32;

/// Which bodies are read.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Reading {
    /// Those that the resource reads.
    AsResource,
    /// Every one, on these terms.
    OnTerms(BodyTerms),
    Nothing,
}

/// The body of a request, or its refusal, and how the connection ends. The request is charged to its network and its user.
/// `framing` tells what has come of the body beside its data.
pub async fn receive<B: Body<Data = Bytes> + Unpin>(
    services: &Services,
    from: ClientNetwork,
    head: &Parts,
    body: B,
    framing: impl Fn() -> ChunkFraming,
    reading: Reading,
) -> (Result<Received, Refusal>, Ending) {
    let mut payer = Payer { user: None, network: Some(from.key()) };
    let terms = judge(services, head, &body, from, reading, &mut payer).await;
    let has_body = !body.is_end_stream();
    let mut body = Metered { body, bytes: 0 };
    let (received, ending) = receive_body(services, from, head, &mut body, terms).await;
    let ChunkFraming { bytes, chunks } = framing();
    services.charge(payer, Work::bytes(body.bytes + bytes) + CHUNK.times(chunks));
    let received = received.and_then(|body| {
        if has_body && payer.user.is_some() {
            // The token may have expired or been logged out while the body came.
            bearer(services, &head.headers)?;
        }
        Ok(Received { body, user: payer.user })
    });
    (received, ending)
}

/// The memory that the head of a request holds, at most: the bytes that were read, in a buffer that has doubled to hold them.
pub fn held_bytes(target: &Uri, headers: &HeaderMap) -> usize {
    let authority = target.authority().map_or(0, |authority| authority.as_str().len());
    let target = authority + target.path_and_query().map_or(0, |target| target.as_str().len());
    let headers = headers.iter().map(|(name, value)| name.as_str().len() + value.len() + HEADER_BYTES);
    2 * (target + headers.sum::<usize>())
}

async fn receive_body<B: Body<Data = Bytes> + Unpin>(
    services: &Services,
    from: ClientNetwork,
    head: &Parts,
    body: &mut B,
    terms: Result<Option<BodyTerms>, Refusal>,
) -> (Result<RequestBody, Refusal>, Ending) {
    if body.is_end_stream() {
        return (terms.map(|_| RequestBody::default()), Ending::Keep);
    }
    let terms = match terms {
        Ok(Some(terms)) => terms,
        Ok(None) => return unread(head, body).await,
        Err(refusal) => return (Err(refusal), discard(head, body).await.unwrap_or(Ending::Close)),
    };
    match services.bodies.collect(from, held_bytes(&head.uri, &head.headers), terms.bytes_max, body).await {
        Ok(bytes) => (Ok(RequestBody::new(bytes, terms.bytes_max)), Ending::Keep),
        Err(Uncollected::Broken) => (Err(broken()), Ending::Close),
        Err(Uncollected::Displaced) => {
            let reason = "too many requests send their bodies at once, try again";
            (Err(Refusal::new(Code::TooManyBodies, reason)), Ending::Close)
        }
        Err(Uncollected::TooLarge) => {
            let ending = discard(head, body).await.unwrap_or(Ending::Close);
            (Err(too_large(terms.bytes_max)), ending)
        }
    }
}

/// Decides by the head whether the request is let in, whether its body is read and on which terms. Charges the request to
/// the network of the payer and to its user, who is found here.
async fn judge<B: Body>(
    services: &Services,
    head: &Parts,
    body: &B,
    from: ClientNetwork,
    reading: Reading,
    payer: &mut Payer,
) -> Result<Option<BodyTerms>, Refusal> {
    let route = Route::of(head.uri.path());
    let price = price_of(&route, &head.method);
    if price.is_some() && !services.allows_origins(head.headers.get_all(ORIGIN).iter().map(HeaderValue::as_bytes)) {
        services.charge(*payer, REFUSAL);
        return Err(Refusal::new(Code::ForeignOrigin, "pages of this origin may not ask this server"));
    }
    if let Some((purse, work)) = price {
        // Without a good token the resource refuses the request before it does any work.
        payer.user = bearer(services, &head.headers).ok().map(|claims| claims.user);
        let work = work + Work::bytes(head.uri.path_and_query().map_or(0, |target| target.as_str().len()));
        if let Err(refusal) = services.afford(*payer, purse, work) {
            rest_if_far_beyond(services, *payer, purse).await;
            return Err(refusal);
        }
    } else {
        services.charge(*payer, CHECK);
        rest_if_far_beyond(services, *payer, Purse::Requests).await;
    }
    addressed(head)?;
    let terms = body_terms(services, head, &route, body, reading, payer.user)?;
    if matches!(route, Route::Authenticate(_)) && head.method == Method::POST {
        // A client without the key uses up nothing of the rate.
        basic(services, &head.headers)?;
        services.let_in(ProcessRate::SignIns, from.key())?;
    }
    Ok(terms)
}

/// As the socket of a session is read later, the next request of this connection is.
async fn rest_if_far_beyond(services: &Services, payer: Payer, purse: Purse) {
    if services.is_far_beyond(payer, purse) {
        Timer::new(REST_DURATION).await;
    }
}

/// What is charged for a request before it is looked at, and to which purse. `None` for health checks, which are charged
/// and answered late, but never refused: a balancer would take a refusal for a server that is down.
fn price_of(route: &Route, method: &Method) -> Option<(Purse, Work)> {
    match route {
        Route::Health | Route::Alive | Route::Ready => None,
        // The answer is the same for all clients, or it is a refusal.
        _ if *method == Method::OPTIONS => Some((Purse::Requests, REFUSAL)),
        Route::Welcome | Route::Socket | Route::Unknown => Some((Purse::Requests, REFUSAL)),
        // The body names the user of a refresh, who pays for the rest.
        Route::Refresh => Some((Purse::Tokens, REQUEST)),
        Route::Logout => Some((Purse::Tokens, CHANGE)),
        // It is a read, whose body has the names.
        Route::Objects if *method == Method::POST => Some((Purse::Requests, REQUEST)),
        _ if *method == Method::GET || *method == Method::HEAD => Some((Purse::Requests, REQUEST)),
        _ => Some((Purse::Requests, CHANGE)),
    }
}

fn body_terms<B: Body>(
    services: &Services,
    head: &Parts,
    route: &Route,
    body: &B,
    reading: Reading,
    user: Option<UserId>,
) -> Result<Option<BodyTerms>, Refusal> {
    if body.is_end_stream() {
        return Ok(None);
    }
    let terms = match reading {
        Reading::AsResource => BodyTerms::of(route, &head.method),
        Reading::OnTerms(terms) => Some(terms),
        Reading::Nothing => None,
    };
    let Some(terms) = terms else { return Ok(None) };
    match terms.sender {
        Sender::Program => basic(services, &head.headers)?,
        Sender::User if user.is_none() => drop(bearer(services, &head.headers)?),
        Sender::User => {}
    }
    encoding(&head.headers)?;
    Ok(Some(terms))
}

/// Checks the `Host` header (RFC 9112, section 3.2): HTTP/1.1 needs exactly one, balancers that check by HTTP/1.0 send
/// none, and HTTP/2 has another place for it. The name itself does not matter.
fn addressed(head: &Parts) -> Result<(), Refusal> {
    let mut hosts = head.headers.get_all(HOST).iter();
    match (hosts.next(), hosts.next()) {
        (_, Some(_)) => return Err(Refusal::invalid("there is more than one Host header")),
        (None, None) if head.version == Version::HTTP_11 => {
            return Err(Refusal::invalid("HTTP/1.1 needs a Host header"));
        }
        (Some(host), None) if !host.is_empty() && !is_host(host.as_bytes()) => {
            return Err(Refusal::invalid("the Host header is no name of a host"));
        }
        _ => {}
    }
    let is_authority = head.uri.scheme().is_none() && head.uri.authority().is_some();
    if is_authority && head.method != Method::CONNECT {
        return Err(Refusal::invalid("the target of the request is no path"));
    }
    Ok(())
}

/// For a resource that reads no body: an empty one, whatever comes.
async fn unread<B: Body<Data = Bytes> + Unpin>(head: &Parts, body: &mut B) -> (Result<RequestBody, Refusal>, Ending) {
    match discard(head, body).await {
        Ok(ending) => (Ok(RequestBody::default()), ending),
        Err(Broken) => (Err(broken()), Ending::Close),
    }
}

fn broken() -> Refusal {
    Refusal::invalid("the body cannot be read to its end")
}

/// Counts the bytes that come of a body, also of one that is thrown away.
struct Metered<B> {
    body: B,
    bytes: usize,
}

impl<B: Body<Data = Bytes> + Unpin> Body for Metered<B> {
    type Data = Bytes;
    type Error = B::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        let polled = Pin::new(&mut self.body).poll_frame(context);
        if let Poll::Ready(Some(Ok(frame))) = &polled {
            self.bytes += frame.data_ref().map_or(0, Bytes::len);
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// A body that ended too early, or whose chunks cannot be read.
struct Broken;

/// Reads a body and throws it away, within bounds.
async fn discard<B: Body<Data = Bytes> + Unpin>(head: &Parts, body: &mut B) -> Result<Ending, Broken> {
    // Reading would tell a client that waits to send its body. It waits for the answer instead.
    if head.headers.contains_key(EXPECT) || body.size_hint().lower() > DISCARDED_BYTES_MAX {
        return Ok(Ending::Close);
    }
    let (mut read, mut deadline) = (0, None);
    poll_fn(|context| {
        while read <= DISCARDED_BYTES_MAX {
            match Pin::new(&mut *body).poll_frame(context) {
                Poll::Ready(None) => return Poll::Ready(Ok(Ending::Keep)),
                Poll::Ready(Some(Err(_))) => return Poll::Ready(Err(Broken)),
                Poll::Ready(Some(Ok(frame))) => read += frame.data_ref().map_or(0, |bytes| bytes.len() as u64),
                Poll::Pending => {
                    let deadline = deadline.get_or_insert_with(|| Box::pin(Timer::new(DISCARD_DURATION_MAX)));
                    ready!(deadline.as_mut().poll(context));
                    return Poll::Ready(Ok(Ending::Close));
                }
            }
        }
        Poll::Ready(Ok(Ending::Close))
    })
    .await
}
