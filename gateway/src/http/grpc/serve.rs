//! One HTTP/2 connection with its calls, from its first bytes to its last.
//!
//! It runs on the shard that has accepted it, as a connection of HTTP/1.1 does (`http/serve.rs`): what a call asks is
//! there, and no thread and no second runtime is needed. The calls of a connection are polled by its own task, so they
//! end when it does.
//!
//! What HTTP/2 lets a client do without asking for anything is bounded here: streams, windows and heads by the
//! library's limits, resets by it too, all frames by their number (`frames.rs`), reading by the shard's turns
//! (`stream.rs`), and answers that a client does not read by the time in which it has to read a part of them.

use std::cell::{Cell, RefCell};
use std::convert::Infallible;
use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::rc::{Rc, Weak};
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use engine::budget::Work;
use engine::limits::REST_DURATION;
use engine::session::shared_budgets::{Payer, Purse};
use futures_util::stream::{FuturesUnordered, StreamExt};
use hyper::body::Incoming;
use hyper::header::{AUTHORIZATION, CONTENT_TYPE, EXPECT, HeaderName, HeaderValue, ORIGIN};
use hyper::rt::Executor;
use hyper::server::conn::http2;
use hyper::service::service_fn;
use hyper::{HeaderMap, Request, Response, StatusCode, Uri};

use super::answer_body::AnswerBody;
use super::calling::{GRPC_ENCODING, answer};
use super::pace::{Doing, Pace};
use super::status::GRPC_TIMEOUT;
use super::stream::{FRAMES_TURN_MAX, GrpcStream, Meter};
use crate::client_network::ClientNetwork;
use crate::http::connections::Entered;
use crate::http::costs::CHUNK;
use crate::http::deadline::Alarm;
use crate::http::open_calls::OpenCalls;
use crate::http::receiving::held_bytes;
use crate::http::request_turns::Beginner;
use crate::http::secured_stream::SecuredStream;
use crate::http::services::Services;
use crate::http::unread_answers::{AnswerCut, Reader, UnreadAnswer};
use crate::log_limit;
use crate::peer::Peer;
use crate::upgrade::HEAD_BYTES_MAX;

/// Calls that a connection may have at a time. A client that has more waits with them.
const STREAMS_MAX: u32 = 64;
/// Bytes that a client may send before they are read, of a call and of all calls of a connection. Nearly all messages have
/// fewer; longer ones, which write storage objects, come in parts.
const WINDOW_BYTES: u32 = 64 << 10;
/// Bytes of an answer that the library takes before the client has read those before them.
const SEND_BUFFER_BYTES_MAX: usize = 64 << 10;
/// The time in which the calls of a connection are answered at once. The others wait until its task is polled again, as the
/// tasks of other connections do (`task_time.rs`).
const CALLS_TIME_MAX: Duration = Duration::from_millis(2);
/// Streams that a client has reset before the server has looked at them. The library cuts a client that has more. No client
/// has: the server looks at the streams of all frames that the library was given before it is given the next ones, and a
/// stream that was reset has had two frames.
const UNSEEN_RESETS_MAX: usize = 20;
const _: () = assert!(FRAMES_TURN_MAX / 2 < UNSEEN_RESETS_MAX);
/// Streams that the server has reset because the client has broken the rules. A client that has more is cut.
const FAULTY_STREAMS_MAX: usize = 100;

/// The headers of a call that mean anything to the server.
const NEEDED: [HeaderName; 6] = [AUTHORIZATION, CONTENT_TYPE, EXPECT, ORIGIN, GRPC_ENCODING, GRPC_TIMEOUT];

/// A call that is being answered.
type Call = Pin<Box<dyn Future<Output = ()>>>;

/// Answers the calls of one connection. `unread` are the bytes that were already read from it. `peer` is the
/// connection's other end.
///
/// Run it as a task of the shard that accepted the stream. It may be dropped at any time, which cuts the connection.
pub fn serve(
    stream: SecuredStream,
    unread: Vec<u8>,
    peer: Peer,
    services: Rc<Services>,
) -> Pin<Box<dyn Future<Output = ()>>> {
    Box::pin(async move {
        let Some(entered) = services.connections.enter() else { return };
        // Each answer is written whole, so waiting to fill a packet would only add delay.
        stream.set_nodelay();
        let connection = Rc::new(Connection {
            peer,
            calls: OpenCalls::new(STREAMS_MAX as usize),
            idle_since: Cell::new(Instant::now()),
            has_answered: Cell::default(),
            taken: Rc::default(),
            unread: RefCell::default(),
            services: services.clone(),
        });
        drive(stream, unread, &connection, &entered).await;
    })
}

/// What a connection and its calls share.
struct Connection {
    services: Rc<Services>,
    peer: Peer,
    calls: OpenCalls,
    /// When the last call ended, or else when the connection began.
    idle_since: Cell<Instant>,
    has_answered: Cell<bool>,
    /// Bytes of answers that the socket has taken since the connection's task has last looked.
    taken: Rc<Cell<usize>>,
    /// What counts the answers that the client has not read. Each call has one at most.
    unread: RefCell<Vec<Weak<UnreadAnswer>>>,
}

impl Connection {
    /// Answers a request of this connection in its turn. Its head has come at `arrived`: the client's time for the call runs
    /// while it waits.
    async fn answer(&self, mut request: Request<Incoming>, arrived: Instant) -> Response<AnswerBody> {
        let places = (self.calls.enter(), self.services.open_calls.enter());
        let (Some(_call), Some(_open)) = places else {
            return unavailable();
        };
        let from = self.peer.client(request.headers());
        retain_needed(request.headers_mut());
        *request.uri_mut() = path_alone(request.uri());
        if !self.has_turn(from, held_bytes(request.uri(), request.headers())).await {
            return unavailable();
        }
        let (answer, counted) = answer(&self.services, from, request, arrived).await;
        self.unread.borrow_mut().extend(counted.as_ref().map(Rc::downgrade));
        self.idle_since.set(Instant::now());
        self.has_answered.set(true);
        answer.map(|body| body.measured(&self.taken))
    }

    /// Waits until a call may begin. Returns false if its head, of so many bytes, has given way to others meanwhile.
    async fn has_turn(&self, from: ClientNetwork, head_bytes: usize) -> bool {
        let beginner = Beginner::new(self.services.request_turns.clone(), self.peer.network().site());
        let (is_one_of_several, mut head) = (self.calls.len() > 1, None);
        poll_fn(|context| {
            if beginner.poll_begin(is_one_of_several, context).is_ready() {
                return Poll::Ready(true);
            }
            let head = head.get_or_insert_with(|| self.services.bodies.hold_head(from, head_bytes));
            head.poll_displaced(context).map(|()| false)
        })
        .await
    }

    /// Whether the client has answers that it has not read.
    fn has_unread(&self) -> bool {
        let mut unread = self.unread.borrow_mut();
        unread.retain(|answer| answer.strong_count() > 0);
        !unread.is_empty()
    }

    /// Who was to read an answer that has given way to others, if one has.
    fn displaced(&self, context: &Context<'_>) -> Option<Reader> {
        let unread = self.unread.borrow();
        let mut unread = unread.iter().filter_map(Weak::upgrade);
        unread.find(|answer| answer.poll_displaced(context).is_ready()).map(|answer| answer.reader())
    }

    /// Who is to read the oldest answer of this connection.
    fn reader(&self) -> Reader {
        let oldest = self.unread.borrow().iter().find_map(Weak::upgrade);
        oldest.map_or_else(|| Reader::unknown(self.peer.network()), |answer| answer.reader())
    }

    /// Charges the client's network for what was read. Returns whether the connection is to be read later.
    fn charge(&self, bytes: usize, frames: u64) -> bool {
        let payer = Payer { user: None, network: Some(self.peer.network().key()) };
        self.services.charge(payer, Work::bytes(bytes) + CHUNK.times(frames as usize));
        self.services.is_far_beyond(payer, Purse::Requests)
    }
}

/// The refusal of a call for which there is no room. In gRPC it is the status UNAVAILABLE.
fn unavailable() -> Response<AnswerBody> {
    let mut refused = Response::new(AnswerBody::default());
    *refused.status_mut() = StatusCode::SERVICE_UNAVAILABLE;
    refused
}

/// Takes the headers out that no call needs. The others are held until the call's message has come.
fn retain_needed(headers: &mut HeaderMap) {
    let mut kept = HeaderMap::new();
    for name in NEEDED {
        // A copy: the values share a buffer with the whole head, which would stay with the smallest of them.
        for value in headers.get_all(&name) {
            kept.extend(HeaderValue::from_bytes(value.as_bytes()).map(|value| (name.clone(), value)));
        }
    }
    *headers = kept;
}

/// A copy of the path, which alone says what is called. Empty if there is none.
fn path_alone(target: &Uri) -> Uri {
    Uri::try_from(target.path()).unwrap_or_default()
}

/// Takes the futures of a connection's calls from hyper. The connection's task has them from then on.
#[derive(Clone)]
struct Calls(Weak<RefCell<Vec<Call>>>);

impl<F: Future<Output = ()> + 'static> Executor<F> for Calls {
    fn execute(&self, call: F) {
        // A connection that has gone answers no call.
        if let Some(begun) = self.0.upgrade() {
            begun.borrow_mut().push(Box::pin(call));
        }
    }
}

/// Lets hyper answer until the connection ends, has been idle for long enough, or breaks a rule.
async fn drive(stream: SecuredStream, unread: Vec<u8>, connection: &Rc<Connection>, entered: &Entered<'_>) {
    let services = &connection.services;
    let meter = Rc::new(Meter::default());
    let beginner = Beginner::new(services.request_turns.clone(), connection.peer.network().site());
    let stream = GrpcStream::new(stream, unread, beginner, meter.clone());
    let begun: Rc<RefCell<Vec<Call>>> = Rc::default();
    let shared = connection.clone();
    let answering = service_fn(move |request| {
        let (shared, arrived) = (shared.clone(), Instant::now());
        Box::pin(async move { Ok::<_, Infallible>(shared.answer(request, arrived).await) })
    });
    let mut http = http2::Builder::new(Calls(Rc::downgrade(&begun)))
        .max_concurrent_streams(STREAMS_MAX)
        .initial_stream_window_size(WINDOW_BYTES)
        .initial_connection_window_size(WINDOW_BYTES)
        .max_send_buf_size(SEND_BUFFER_BYTES_MAX)
        .max_header_list_size(HEAD_BYTES_MAX as u32)
        .max_pending_accept_reset_streams(UNSEEN_RESETS_MAX)
        .max_local_error_reset_streams(FAULTY_STREAMS_MAX)
        .serve_connection(stream, answering);
    let mut calls = FuturesUnordered::new();
    let mut pace = Pace::new(Instant::now(), services.keep_alive);
    let (mut alarm, mut rest, mut charged_frames) = (Alarm::default(), Rest::default(), 0);
    poll_fn(|context| {
        loop {
            meter.is_resting.set(rest.goes_on(context));
            let is_stopping = entered.shall_close(context);
            let may_stay = services.may_keep() || !connection.has_answered.get();
            if (is_stopping || (calls.is_empty() && !may_stay)) && pace.says_goodbye(Instant::now()) {
                Pin::new(&mut http).graceful_shutdown();
            }
            let polled = Pin::new(&mut http).poll(context);
            calls.extend(begun.borrow_mut().drain(..));
            let mut has_ended_calls = false;
            let (begun, mut is_late) = (Instant::now(), false);
            while let Poll::Ready(Some(())) = calls.poll_next_unpin(context) {
                has_ended_calls = true;
                is_late = begun.elapsed() >= CALLS_TIME_MAX;
                if is_late {
                    context.waker().wake_by_ref();
                    break;
                }
            }
            if has_ended_calls && !is_late && polled.is_pending() {
                // What they have queued, such as a refusal, is written before anything is judged.
                continue;
            }
            let frames = meter.frames.get();
            let is_far_beyond = connection.charge(meter.read.take(), frames - charged_frames);
            charged_frames = frames;
            if polled.is_ready() {
                if meter.is_flooded.get() {
                    let client = connection.peer.network();
                    log_limit::info!(%client, "a client has sent too many frames of HTTP/2: its connection is closed");
                }
                return Poll::Ready(());
            }
            if let Some(reader) = connection.displaced(context) {
                services.unread_answers.was_cut(AnswerCut::Full, reader);
                return Poll::Ready(());
            }
            let has_unread = connection.has_unread();
            let (written, taken) = (meter.written.take(), connection.taken.take());
            // While there are answers, only their bytes count: a client that reads none could have its pings
            // acknowledged for ever.
            let read = if has_unread { taken } else { written };
            let owes = has_unread || meter.is_blocked.get();
            if is_far_beyond && rest.begins() {
                continue;
            }
            pace.has_written(read, owes, Instant::now());
            let idle_since = connection.idle_since.get();
            let doing = Doing { has_calls: !calls.is_empty(), has_begun: frames > 0, idle_since };
            let Some(deadline) = pace.deadline(doing) else { return Poll::Pending };
            ready!(alarm.poll(deadline, context));
            if pace.is_read_too_slowly(Instant::now()) {
                services.unread_answers.was_cut(AnswerCut::Slow, connection.reader());
                return Poll::Ready(());
            }
            if !doing.has_begun || !pace.says_goodbye(Instant::now()) {
                return Poll::Ready(());
            }
            Pin::new(&mut http).graceful_shutdown();
        }
    })
    .await;
}

/// The time in which a connection is not read, because too much was asked over it.
#[derive(Default)]
struct Rest {
    until: Option<Instant>,
    alarm: Alarm,
}

impl Rest {
    /// Begins a rest. Returns false if one goes on.
    fn begins(&mut self) -> bool {
        let begins = self.until.is_none();
        self.until.get_or_insert_with(|| Instant::now() + REST_DURATION);
        begins
    }

    /// Whether a rest goes on. Its end wakes the task.
    fn goes_on(&mut self, context: &mut Context<'_>) -> bool {
        let goes_on = self.until.is_some_and(|until| self.alarm.poll(until, context).is_pending());
        if !goes_on {
            self.until = None;
        }
        goes_on
    }
}
