//! The operators' listener: `GET /metrics`, on its own address and its own thread.
//!
//! One or two programs ask it every few seconds, and it must cost the shards nothing but their reports.

pub mod hosts;

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::time::Duration;

use http_body_util::Full;
use hyper::body::Bytes;
use hyper::header::{ACCEPT, CACHE_CONTROL, CONTENT_TYPE, HeaderValue, X_CONTENT_TYPE_OPTIONS};
use hyper::{Method, Request, Response, StatusCode};
use runtime::Observer;
use storage::bridge::Client;

use self::hosts::{HostRefusal, Hosts};
use crate::health::{ALIVE, Health, READY};
use crate::http::answer::Answer;
use crate::listeners;
use crate::log_limit;
use crate::metrics::{Overview, PageFormat, ProcessState, StoreState};
use crate::threaded_http::ThreadedServer;

/// How long a shard may take to answer before it counts as not up.
const PATIENCE: Duration = Duration::from_secs(1);

/// How long a client may take to send its request, and to read its answer.
const CLIENT_DURATION_MAX: Duration = Duration::from_secs(2);

const LINE: &str = "text/plain; charset=utf-8";

/// The operators' listener, bound but not serving yet.
pub struct Admin {
    listener: TcpListener,
    hosts: Hosts,
}

impl Admin {
    /// Takes the address, and does not serve yet. `names` are those by which operators reach it, besides `localhost`.
    /// Fails with a line for the operator if the address cannot be taken.
    pub fn bind(address: SocketAddr, names: &[String]) -> Result<Self, String> {
        let listener = TcpListener::bind(address).map_err(|error| {
            let advice = listeners::advice(&error);
            format!(
                "cannot listen on {address} for operators: {error}; {advice}: choose another address with --admin, or say \
                 --admin off"
            )
        })?;
        Ok(Self { listener, hosts: Hosts::of(address, names) })
    }

    /// The bound address, with the port that the kernel chose if port 0 was asked for.
    pub fn address(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }

    /// Starts to serve requests.
    pub fn serve(self, observer: Observer, store: Client, health: Arc<Health>) -> io::Result<ThreadedServer> {
        self.listener.set_nonblocking(true)?;
        let (mut overview, hosts) = (Overview::default(), self.hosts);
        ThreadedServer::start("admin", vec![self.listener.into()], CLIENT_DURATION_MAX, move |request| {
            let page = &mut |format| page(&mut overview, &observer, &store, format);
            respond(request, &hosts, page, || health.unready(store.unready()))
        })
    }
}

/// `page` makes the page of numbers. `unready` says why new clients should go elsewhere.
fn respond<B>(
    request: &Request<B>,
    hosts: &Hosts,
    page: &mut dyn FnMut(PageFormat) -> Answer,
    unready: impl FnOnce() -> Option<String>,
) -> Answer {
    let path = request.uri().path();
    // Those who ask for health, such as a container's runtime, know the address alone.
    if !matches!(path, "/healthz" | "/readyz")
        && let Err(refusal) = hosts.check(request)
    {
        return misdirected(refusal);
    }
    match (request.method(), path) {
        (&Method::GET, "/metrics") => page(accepted_format(request)),
        (&Method::GET, "/healthz") => answer(StatusCode::OK, LINE, ALIVE),
        (&Method::GET, "/readyz") => match unready() {
            None => answer(StatusCode::OK, LINE, READY),
            Some(reason) => answer(StatusCode::SERVICE_UNAVAILABLE, LINE, format!("{reason}\n")),
        },
        (_, "/metrics" | "/healthz" | "/readyz") => {
            answer(StatusCode::METHOD_NOT_ALLOWED, LINE, "only GET is answered here\n")
        }
        _ => answer(StatusCode::NOT_FOUND, LINE, "the numbers are at /metrics, and health at /healthz and /readyz\n"),
    }
}

fn misdirected(refusal: HostRefusal) -> Answer {
    match refusal {
        HostRefusal::Malformed => {
            answer(StatusCode::BAD_REQUEST, LINE, "one Host header with the name of a host is needed\n")
        }
        HostRefusal::Foreign(host) => {
            let line =
                format!("{host} is no name of this address; name the hosts that operators use with --admin-host\n");
            answer(StatusCode::MISDIRECTED_REQUEST, LINE, line)
        }
    }
}

fn accepted_format<B>(request: &Request<B>) -> PageFormat {
    let headers = request.headers().get_all(ACCEPT).into_iter();
    let accept: Vec<&str> = headers.filter_map(|value| value.to_str().ok()).collect();
    PageFormat::accepted(&accept.join(","))
}

fn page(overview: &mut Overview, observer: &Observer, store: &Client, format: PageFormat) -> Answer {
    overview.take_in(observer.ask(PATIENCE));
    let ready = store.unready().is_none();
    overview.store = StoreState { ready, disk: store.disk_room(), rows_read: store.rows_read() };
    overview.log_lines_left_out = log_limit::left_out();
    overview.process = ProcessState::read();
    match overview.text(format) {
        Ok(body) => answer(StatusCode::OK, format.content_type(), body),
        Err(error) => {
            let line = format!("the numbers cannot be written: {error}\n");
            answer(StatusCode::INTERNAL_SERVER_ERROR, LINE, line)
        }
    }
}

/// An answer to an operator. Unlike the answers to users, it does not let pages of other origins read it.
fn answer(status: StatusCode, kind: &'static str, body: impl Into<Bytes>) -> Answer {
    let mut answer = Response::new(Full::new(body.into()));
    *answer.status_mut() = status;
    answer.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    answer.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    answer.headers_mut().insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    answer
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    #[test]
    fn answers_get_metrics_and_explains_the_rest() {
        let hosts = Hosts::of("127.0.0.1:7351".parse().unwrap(), &[]);
        let unready = Cell::new(None::<&str>);
        let check = |method: &str, path: &str, expected: u16| {
            let unready = unready.get();
            let request = Request::builder().method(method).uri(path).header("Host", "localhost").body(()).unwrap();
            let page = &mut |format: PageFormat| answer(StatusCode::OK, format.content_type(), "the page");
            let answer = respond(&request, &hosts, page, || unready.map(str::to_owned));
            assert_eq!(answer.status(), expected, "{method} {path}");
            assert_eq!(answer.headers().get(X_CONTENT_TYPE_OPTIONS).unwrap(), "nosniff");
        };
        check("GET", "/metrics", 200);
        check("GET", "/metrics?x=1", 200);
        check("POST", "/metrics", 405);
        check("HEAD", "/metrics", 405);
        check("GET", "/", 404);
        check("GET", "/healthz", 200);
        check("POST", "/readyz", 405);
        check("GET", "/readyz", 200);
        unready.set(Some("no disk"));
        check("GET", "/readyz", 503);
        check("GET", "/healthz", 200);
    }
}
