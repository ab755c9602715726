//! One HTTP/1.1 connection, from its first request to its last.
//!
//! Its state lives in one boxed future, some 18 KiB: whoever holds the task holds a pointer. It ends by itself: when
//! the client is done, when a deadline passes, when the server closes.

use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Instant;

use futures_io::AsyncWrite;
use glommio::net::TcpStream;
use glommio::timer::Timer;
use hyper::Request;
use hyper::body::Incoming;
use hyper::header::{CONNECTION, HeaderValue};
use hyper::server::conn::http1;
use hyper::service::service_fn;

use super::answer::Answer;
use super::body;
use super::router::respond;
use super::services::Services;
use super::stream::{Pace, PacedStream, Step};
use crate::upgrade::HEAD_BYTES_MAX;

/// Answers the requests of one connection. `prefix` is what has been read of it already; at least the first byte.
///
/// To be run as a task of the shard that accepted the stream. It may be dropped at any time, which cuts the connection.
pub fn serve(stream: TcpStream, prefix: Vec<u8>, services: Rc<Services>) -> Pin<Box<dyn Future<Output = ()>>> {
    Box::pin(async move {
        let Some(entered) = services.connections.enter() else {
            refuse(stream).await;
            return;
        };
        // Answers are written whole; waiting to fill a packet would only add delay. A dead socket shows on reading.
        let _ = stream.set_nodelay(true);
        let pace = Rc::new(Pace::new(Instant::now(), services.keep_alive));
        let answering = service_fn(|request| answer(&services, &pace, request));
        let connection = http1::Builder::new()
            .header_read_timeout(None)
            .max_header_size(HEAD_BYTES_MAX)
            .serve_connection(PacedStream::new(stream, prefix, pace.clone()), answering);
        let mut connection = pin!(connection);
        let mut watch = Watch { pace: &pace, timer: None };
        poll_fn(|context| {
            let closing = entered.shall_close(context);
            if closing {
                connection.as_mut().graceful_shutdown();
            }
            // What is wrong with a connection is its client's to know: hyper has answered what can be answered.
            if connection.as_mut().poll(context).is_ready() || (closing && pace.owes_nothing()) {
                return Poll::Ready(());
            }
            watch.poll_overdue(context)
        })
        .await;
    })
}

async fn answer(services: &Services, pace: &Pace, request: Request<Incoming>) -> Result<Answer, hyper::Error> {
    pace.enter(Step::Body, Instant::now());
    let (head, body) = request.into_parts();
    let body = body::collect(body).await?;
    pace.enter(Step::Answer, Instant::now());
    let mut answer = respond(services, Request::from_parts(head, body)).await;
    services.answered().count(answer.status());
    if !services.connections.may_keep() {
        answer.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
    }
    pace.enter(Step::Idle, Instant::now());
    Ok(answer)
}

/// Wakes the connection when its deadline passes. Most deadlines move before they pass, so the timer is set anew only
/// when it would fire too late; when it fires too early, it is set again.
struct Watch<'a> {
    pace: &'a Pace,
    timer: Option<(Instant, Timer)>,
}

impl Watch<'_> {
    fn poll_overdue(&mut self, context: &mut Context<'_>) -> Poll<()> {
        loop {
            let (now, deadline) = (Instant::now(), self.pace.deadline());
            if now >= deadline {
                return Poll::Ready(());
            }
            match &mut self.timer {
                Some((fires, timer)) if *fires <= deadline => {
                    if Pin::new(timer).poll(context).is_pending() {
                        return Poll::Pending;
                    }
                    self.timer = None;
                }
                timer => *timer = Some((deadline, Timer::new(deadline - now))),
            }
        }
    }
}

/// Tells one client too many, as far as its socket takes it at once.
async fn refuse(mut stream: TcpStream) {
    const BODY: &str = r#"{"code":14,"message":"no more connections are taken now, try again"}"#;
    let length = BODY.len();
    let answer = format!(
        "HTTP/1.1 503 Service Unavailable\r\nContent-Type: application/json\r\nContent-Length: {length}\r\n\
         Connection: close\r\n\r\n{BODY}"
    );
    poll_fn(|context| {
        let _ = Pin::new(&mut stream).poll_write(context, answer.as_bytes());
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
        // Most of the head's time is over.
        let begun_before = begun.checked_sub(Duration::from_millis(9_950)).unwrap();
        let pace = Pace::new(begun_before, Duration::from_secs(75));
        let deadline = pace.deadline();
        assert!(deadline < begun + Duration::from_millis(100));
        LocalExecutor::default().run(async move {
            let mut watch = Watch { pace: &pace, timer: None };
            poll_fn(|context| watch.poll_overdue(context)).await;
        });
        assert!(Instant::now() >= deadline);
    }
}
