//! One HTTP/1.1 connection, from its first request to its last.
//!
//! The state of a connection lives in one boxed future of some 18 KiB, so that the owner of the task holds only a
//! pointer. The future ends by itself: when the client is done, when a deadline passes, or when the server stops.

use std::convert::Infallible;
use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Poll, ready};
use std::time::Instant;

use futures_io::AsyncWrite;
use hyper::Request;
use hyper::body::{Body, Incoming};
use hyper::header::{CONNECTION, HeaderValue};
use hyper::server::conn::http1;
use hyper::service::service_fn;

use super::answer::{self, Answer};
use super::connections::Entered;
use super::deadline::Alarm;
use super::error::{Code, Refusal};
use super::framing::{ESCAPED_HEAD_BYTES_MAX, Fault};
use super::receiving::{Reading, receive};
use super::request_turns::Beginner;
use super::resource_request::ResourceRequest;
use super::returns::Returned;
use super::route::Route;
use super::router::{self, respond};
use super::secured_stream::SecuredStream;
use super::services::Services;
use super::stream::{Left, Pace, PacedStream, Step};
use super::unread_answers::AnswerCut;
use crate::full;
use crate::peer::Peer;
use crate::upgrade::Ending;

/// Answers the requests of one connection, until one of them opens a WebSocket: then the connection goes to
/// `Services::returns`. `unread` are the bytes that were already read from it. `peer` is the connection's other end.
///
/// Run it as a task of the shard that accepted the stream. It may be dropped at any time, which cuts the connection.
pub fn serve(
    stream: SecuredStream,
    unread: Vec<u8>,
    peer: Peer,
    services: Rc<Services>,
) -> Pin<Box<dyn Future<Output = ()>>> {
    Box::pin(async move {
        let Some(entered) = services.connections.enter() else {
            refuse(stream).await;
            return;
        };
        // Each answer is written whole, so waiting to fill a packet would only add delay.
        stream.set_nodelay();
        let pace = Rc::new(Pace::new(Instant::now(), services.keep_alive));
        if unread.is_empty() {
            pace.enter(Step::Idle, Instant::now());
        }
        let beginner = Beginner::new(services.request_turns.clone(), peer.network().site());
        let stream = PacedStream::new(stream, unread, pace.clone(), beginner);
        match drive(stream, &services, &pace, &entered, &peer).await {
            Some(Left::Opening(stream, mut bytes)) if services.connections.are_open() => {
                // Out of descriptors: the client sees the connection end, and opens another one.
                if let Ok((descriptor, tls, content)) = stream.give_up() {
                    bytes.extend_from_slice(&content);
                    services.returns.put(Returned { descriptor, tls, peer, bytes, admitted: None });
                }
            }
            Some(Left::Nothing(stream)) => stream.close().await,
            Some(Left::Opening(..)) | None => {}
        }
    })
}

/// Lets hyper answer until it has nothing more to answer, or until the next request opens a WebSocket. Then returns the
/// socket with the bytes that were read of that request. Returns `None` when the client has taken too long.
async fn drive(
    stream: PacedStream,
    services: &Services,
    pace: &Rc<Pace>,
    entered: &Entered<'_>,
    peer: &Peer,
) -> Option<Left> {
    let answering = service_fn(|request| Box::pin(answer(services, pace, peer, request)));
    let mut connection = http1::Builder::new()
        .header_read_timeout(None)
        .half_close(true)
        .max_header_size(ESCAPED_HEAD_BYTES_MAX)
        .serve_connection(stream, answering);
    let mut alarm = Alarm::default();
    let finished = poll_fn(|context| {
        let closing = entered.shall_close(context);
        if closing {
            Pin::new(&mut connection).graceful_shutdown();
        }
        // Errors of one connection concern only its client; hyper has answered what can be answered.
        match connection.poll_without_shutdown(context) {
            Poll::Ready(Ok(())) if pace.is_unsent() => {
                if Pin::new(&mut connection).poll(context).is_ready() {
                    return Poll::Ready(Some(Finished::Ended));
                }
            }
            Poll::Ready(Ok(())) => return Poll::Ready(Some(Finished::InOrder)),
            Poll::Ready(Err(_)) => return Poll::Ready(Some(Finished::Ended)),
            Poll::Pending if closing && pace.owes_nothing() => return Poll::Ready(None),
            Poll::Pending => {}
        }
        if pace.poll_displaced(context).is_ready() {
            services.unread_answers.was_cut(AnswerCut::Full, pace.reader(peer));
            return Poll::Ready(None);
        }
        ready!(alarm.poll(pace.deadline(), context));
        if pace.is_read_too_slowly(Instant::now()) {
            services.unread_answers.was_cut(AnswerCut::Slow, pace.reader(peer));
        }
        Poll::Ready(None)
    })
    .await?;
    pace.let_go(Instant::now());
    let stream = connection.into_parts().io;
    Some(if finished == Finished::InOrder { stream.into_left() } else { Left::Nothing(stream) })
}

/// How hyper has finished.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Finished {
    /// Everything is answered and sent.
    InOrder,
    /// The connection has ended.
    Ended,
}

async fn answer(
    services: &Services,
    pace: &Pace,
    peer: &Peer,
    request: Request<Incoming>,
) -> Result<Answer, Infallible> {
    pace.enter(Step::Body, Instant::now());
    let fault = pace.take_fault();
    let (head, body) = request.into_parts();
    let from = peer.client(&head.headers);
    let (received, ending) = receive(services, from, &head, body, || pace.chunk_framing(), Reading::AsResource).await;
    let user = received.as_ref().map_or(None, |received| received.user);
    pace.enter(Step::Answer, Instant::now());
    let mut answer = match (fault, received) {
        (Some(fault), _) => answer::refused(&unanswerable(fault)),
        (None, Err(refusal)) => router::refuse(services, &Route::of(head.uri.path()), from, None, &refusal),
        (None, Ok(received)) => {
            let (route, whole) = (Route::of(head.uri.path()).counted(), Instant::now());
            let answer = respond(services, ResourceRequest::new(head, received, from)).await;
            services.answered().count_latency(route, whole.elapsed());
            answer
        }
    };
    let bytes = answer.body().size_hint().lower() as usize;
    let mut in_hand = None;
    if bytes > 0 {
        in_hand = services.unread_answers.hold(from, user, bytes);
        if in_hand.is_none() {
            // Only a page is so long. The answer to a change is never the first to give way, so it is not replaced.
            let reason = "too many answers wait for their clients to read them, try again";
            answer = services.refuse(&Refusal::new(Code::TooManyAnswers, reason));
        }
    }
    services.answered().count(answer.status());
    if fault.is_some() || ending == Ending::Close || !services.may_keep() {
        answer.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
    }
    pace.answered(in_hand, Instant::now());
    Ok(answer)
}

/// The answer for a request whose head was not passed to hyper.
fn unanswerable(fault: Fault) -> Refusal {
    match fault {
        Fault::Malformed => Refusal::invalid("this is no HTTP request"),
        Fault::TooLarge => Refusal::new(Code::HeadTooLarge, "the head of the request is too large"),
        Fault::UnknownCoding => {
            Refusal::new(Code::Unimplemented, "the body's transfer coding is unknown, use chunked or none")
        }
        Fault::CodingAndLength => {
            Refusal::invalid("a request has a Content-Length or a Transfer-Encoding, and not both")
        }
    }
}

/// Tells one client that there are too many connections. Writes only what the socket takes at once.
async fn refuse(mut stream: SecuredStream) {
    let answer = full::unasked();
    poll_fn(|context| {
        let _ = Pin::new(&mut stream).poll_write(context, &answer);
        Pin::new(&mut stream).poll_close(context)
    })
    .await
    .unwrap_or_default();
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use glommio::LocalExecutor;

    use super::*;

    #[test]
    fn a_connection_is_given_up_at_its_deadline_and_not_before() {
        let begun = Instant::now();
        // Most of the time for the head is over.
        let begun_before = begun.checked_sub(Duration::from_millis(9_950)).unwrap();
        let pace = Pace::new(begun_before, Duration::from_secs(75));
        let deadline = pace.deadline();
        assert!(deadline < begun + Duration::from_millis(100));
        LocalExecutor::default().run(async move {
            let mut alarm = Alarm::default();
            poll_fn(|context| alarm.poll(pace.deadline(), context)).await;
        });
        assert!(Instant::now() >= deadline);
    }
}
