//! Answers one call: finds the REST request that it stands for, lets the router answer it, and says in gRPC's words how
//! it has ended.

use std::future::poll_fn;
use std::rc::Rc;
use std::time::{Duration, Instant};

use engine::budget::Work;
use engine::id::UserId;
use engine::session::shared_budgets::Payer;
use http_body_util::BodyExt;
use hyper::body::{Body, Bytes};
use hyper::header::{CONTENT_ENCODING, CONTENT_TYPE, EXPECT, HOST, HeaderName, HeaderValue};
use hyper::http::request::Parts;
use hyper::{HeaderMap, Method as Verb, Request, Response, StatusCode, Uri, Version};
use prost_reflect::MessageDescriptor;

use super::answer_body::AnswerBody;
use super::message::{self, framed};
use super::methods::{self, CALL_FUNCTION, HEALTH_CHECK, LackingMethod, Method, SERVICE};
use super::status::{self, Status};
use super::{schema, transcoding};
use crate::client_network::ClientNetwork;
use crate::http::answer::Answer;
use crate::http::body::{RequestBody, inflated};
use crate::http::body_terms::{BodyTerms, Sender};
use crate::http::chunks::ChunkFraming;
use crate::http::deadline::within;
use crate::http::error::{Code, Refusal};
use crate::http::receiving::{Reading, receive};
use crate::http::request_turns::Beginner;
use crate::http::resource_request::{Received, ResourceRequest};
use crate::http::route::Route;
use crate::http::router::{refuse, respond};
use crate::http::services::Services;
use crate::http::unread_answers::UnreadAnswer;
use crate::log_limit;
use crate::upgrade::HEAD_BYTES_MAX;

/// The largest message of a method that has no body in REST. Its fields stand in the head there, so what REST takes is
/// taken here, too: a field is no longer in the message than in a target.
const QUERY_BYTES_MAX: usize = HEAD_BYTES_MAX;

/// Time for a call's message to arrive, as for a body of REST.
const MESSAGE_DURATION_MAX: Duration = Duration::from_secs(10);
/// No client waits longer for an answer, as in REST.
const ANSWER_DURATION_MAX: Duration = Duration::from_secs(30);

const CONTENT: HeaderValue = HeaderValue::from_static("application/grpc");
/// How a call's message is compressed.
pub const GRPC_ENCODING: HeaderName = HeaderName::from_static("grpc-encoding");
const ACCEPTED_ENCODINGS: (HeaderName, HeaderValue) =
    (HeaderName::from_static("grpc-accept-encoding"), HeaderValue::from_static("identity,gzip"));

/// The answer to a call whose head has come at `arrived`, or the refusal of a request that is none. Returns what counts the
/// answer's bytes, if it has any.
pub async fn answer<B: Body<Data = Bytes> + Unpin>(
    services: &Services,
    from: ClientNetwork,
    request: Request<B>,
    arrived: Instant,
) -> (Response<AnswerBody>, Option<Rc<UnreadAnswer>>) {
    let (head, body) = request.into_parts();
    if let Some(status) = not_grpc(&head) {
        let mut refused = Response::new(AnswerBody::default());
        *refused.status_mut() = status;
        return (refused, None);
    }
    let called = match status::timeout(&head.headers) {
        Ok(time) => {
            let deadline = time.and_then(|time| arrived.checked_add(time));
            call(services, from, &head, body, deadline).await
        }
        Err(refusal) => Err(status_of(refuse(services, &Route::Unknown, from, None, &refusal)).await),
    };
    let held = match called {
        Ok(done) => hold(services, from, done).await,
        Err(status) => Err(status),
    };
    let (body, counted, code) = match held {
        Ok((message, counted)) => (AnswerBody::new(message, counted.clone(), status::done()), Some(counted), Ok(())),
        Err(status) => (AnswerBody::default(), None, Err(status)),
    };
    services.answered().count_call(code.as_ref().err().map_or(0, |status| status.code));
    let mut answer = Response::new(body);
    answer.headers_mut().insert(CONTENT_TYPE, CONTENT);
    answer.headers_mut().extend([ACCEPTED_ENCODINGS]);
    if let Err(status) = code {
        answer.headers_mut().extend(status.headers());
    }
    (answer, counted)
}

/// The message of a call that was answered, framed, and the user whose token the call has.
struct Done {
    message: Vec<u8>,
    user: Option<UserId>,
}

/// Counts the bytes of an answer until its client has them. Refused if the answer is the first of all to give way.
async fn hold(services: &Services, from: ClientNetwork, done: Done) -> Result<(Vec<u8>, Rc<UnreadAnswer>), Status> {
    match services.unread_answers.hold(from, done.user, done.message.len()) {
        Some(counted) => Ok((done.message, Rc::new(counted))),
        None => {
            let reason = "too many answers wait for their clients to read them, try again";
            let refusal = Refusal::new(Code::TooManyAnswers, reason);
            Err(status_of(services.refuse(&refusal)).await)
        }
    }
}

/// The status of HTTP for a request that is no call.
fn not_grpc(head: &Parts) -> Option<StatusCode> {
    if head.method != Verb::POST {
        return Some(StatusCode::METHOD_NOT_ALLOWED);
    }
    let content = head.headers.get(CONTENT_TYPE).map_or(&b""[..], HeaderValue::as_bytes);
    match content.strip_prefix(CONTENT.as_bytes()) {
        Some([] | [b';', ..] | b"+proto" | [b'+', b'p', b'r', b'o', b't', b'o', b';', ..]) => None,
        _ => Some(StatusCode::UNSUPPORTED_MEDIA_TYPE),
    }
}

/// What a call asks for.
#[derive(Clone, Copy)]
enum Asked {
    Method(&'static Method),
    Lacking(&'static LackingMethod),
    Health,
    /// There is no such method.
    Nothing,
}

impl Asked {
    fn of(path: &str) -> Self {
        let name = path.strip_prefix(SERVICE).unwrap_or_default();
        match (methods::method(name), methods::lacking(name)) {
            _ if path == HEALTH_CHECK => Self::Health,
            (Some(method), _) => Self::Method(method),
            (None, Some(lacking)) => Self::Lacking(lacking),
            (None, None) => Self::Nothing,
        }
    }

    /// The verb and the path of the REST request, as far as they are known before the message is.
    fn resource(self) -> (Verb, String) {
        match self {
            Self::Method(method) => (method.verb.clone(), transcoding::path_of(method)),
            Self::Lacking(lacking) => (lacking.verb.clone(), lacking.path.to_owned()),
            Self::Health => (Verb::GET, "/readyz".to_owned()),
            Self::Nothing => (Verb::POST, "/grpc".to_owned()),
        }
    }

    /// The messages of a method whose message is read. All others take nothing that the server has to know.
    fn reads(self) -> Option<(&'static Method, MessageDescriptor)> {
        let Self::Method(method) = self else { return None };
        let (input, _) = schema::messages_of(method);
        let has_fields = input.fields().len() > 0;
        has_fields.then_some((method, input))
    }
}

/// Carries out a call before its deadline. Does nothing if the deadline has passed while the call waited for its turn.
async fn call<B: Body<Data = Bytes> + Unpin>(
    services: &Services,
    from: ClientNetwork,
    head: &Parts,
    body: B,
    deadline: Option<Instant>,
) -> Result<Done, Status> {
    let left =
        |most: Duration| deadline.map_or(most, |deadline| deadline.saturating_duration_since(Instant::now()).min(most));
    if left(MESSAGE_DURATION_MAX).is_zero() {
        return Err(Status::deadline_exceeded("the call's time was over before its turn: nothing was done"));
    }
    let asked = Asked::of(head.uri.path());
    let (verb, path) = asked.resource();
    let route = Route::of(&path);
    let mut rest = rest_head(head, verb, path.parse().unwrap_or_default());
    let reading = match asked.reads() {
        Some(_) => Reading::OnTerms(
            BodyTerms::of(&route, &rest.method)
                .unwrap_or(BodyTerms { sender: Sender::User, bytes_max: QUERY_BYTES_MAX }),
        ),
        None => Reading::Nothing,
    };
    let receiving = receive(services, from, &rest, body, ChunkFraming::default, reading);
    let received = within(left(MESSAGE_DURATION_MAX), receiving).await;
    let Some((received, _)) = received else {
        // Calls that began together run out of time together, and each is answered in its turn.
        let beginner = Beginner::new(services.request_turns.clone(), from.site());
        poll_fn(|context| beginner.poll_begin(true, context)).await;
        return Err(Status::deadline_exceeded("the call's message has not come in time: nothing was done"));
    };
    let received = match received.and_then(|received| taken(asked, &mut rest, &head.headers, received)) {
        Ok(received) => received,
        Err(refusal) => return Err(asked.status(refuse(services, &route, from, None, &refusal)).await),
    };
    let (user, whole) = (received.user, Instant::now());
    let request = ResourceRequest::new(rest, received, from);
    let Some(answer) = within(left(ANSWER_DURATION_MAX), respond(services, request)).await else {
        return Err(Status::deadline_exceeded("the call's time is over, and it may be done or not"));
    };
    services.answered().count_latency(route.counted(), whole.elapsed());
    let message = asked.answered(services, answer).await?;
    // The answer was charged as REST's. To make a message of it is as much work again.
    services.charge(Payer { user, network: Some(from.key()) }, Work::bytes(message.len()));
    Ok(Done { message, user })
}

/// The head of the REST request. Headers that are HTTP's and not the call's are left out.
fn rest_head(head: &Parts, verb: Verb, target: Uri) -> Parts {
    let (mut rest, ()) = Request::new(()).into_parts();
    (rest.method, rest.uri, rest.version, rest.headers) = (verb, target, Version::HTTP_2, head.headers.clone());
    for name in [CONTENT_ENCODING, EXPECT, HOST] {
        rest.headers.remove(name);
    }
    rest
}

/// Reads the message of a call whose method has one. The message fills the target and the body of the REST request.
fn taken(asked: Asked, rest: &mut Parts, headers: &HeaderMap, received: Received) -> Result<Received, Refusal> {
    let Some((method, input)) = asked.reads() else { return Ok(received) };
    let (body, bytes_max) = received.body.into_bytes();
    let framed = message::read(&body).map_err(|fault| Refusal::invalid(fault.to_string()))?;
    let request = if framed.is_compressed {
        transcoding::request(method, input, &decompressed(headers, framed.bytes, bytes_max)?)?
    } else {
        transcoding::request(method, input, framed.bytes)?
    };
    rest.uri = request.target;
    Ok(Received { body: RequestBody::new(request.body, bytes_max), user: received.user })
}

fn decompressed(headers: &HeaderMap, bytes: &[u8], bytes_max: usize) -> Result<Vec<u8>, Refusal> {
    match headers.get(GRPC_ENCODING).map(HeaderValue::as_bytes) {
        Some(b"gzip") => inflated(bytes, bytes_max),
        None | Some(b"identity") => Err(Refusal::invalid(message::MessageFault::NoEncoding.to_string())),
        Some(_) => Err(Refusal::new(Code::Unimplemented, "the message's encoding is unknown, use gzip or none")),
    }
}

impl Asked {
    /// The framed message that this answer of REST is.
    async fn answered(self, services: &Services, answer: Answer) -> Result<Vec<u8>, Status> {
        let (output, is_health) = match self {
            Self::Method(method) => (schema::messages_of(method).1, false),
            Self::Health => (schema::health_messages().1, true),
            Self::Lacking(_) | Self::Nothing => return Err(self.status(answer).await),
        };
        let status = answer.status();
        let json = match status {
            StatusCode::OK if is_health => Bytes::from_static(br#"{"status":"SERVING"}"#),
            StatusCode::SERVICE_UNAVAILABLE if is_health => Bytes::from_static(br#"{"status":"NOT_SERVING"}"#),
            StatusCode::OK => bytes_of(answer).await,
            _ => return Err(self.status(answer).await),
        };
        match transcoding::answer(output, &json) {
            Ok(message) => Ok(framed(&message)),
            Err(error) => {
                log_limit::error!(%error, "an answer has no form in gRPC");
                let refusal = Refusal::new(Code::Internal, "the answer has no form in gRPC");
                Err(status_of(services.refuse(&refusal)).await)
            }
        }
    }

    /// The status that this answer of REST is.
    async fn status(self, answer: Answer) -> Status {
        let status = status_of(answer).await;
        match self {
            Self::Method(_) | Self::Health => status,
            Self::Lacking(lacking) if lacking.name == CALL_FUNCTION => status,
            Self::Lacking(_) => status.of_lacking(),
            Self::Nothing if status.code == Code::NotFound.number() => Status::unimplemented("there is no such method"),
            Self::Nothing => status,
        }
    }
}

async fn status_of(answer: Answer) -> Status {
    let (status, headers) = (answer.status(), answer.headers().clone());
    Status::of_answer(status, &headers, &bytes_of(answer).await)
}

/// The body of an answer, which is in memory.
async fn bytes_of(answer: Answer) -> Bytes {
    let Ok(body) = answer.into_body().collect().await;
    body.to_bytes()
}
