//! The operators' listener: `GET /metrics`, on its own address and its own thread.
//!
//! It serves one connection at a time and one request on each, and bounds the time of both sides. One or two programs
//! ask it every few seconds, and it must cost the shards nothing but their reports. It ends with the process.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::time::{Duration, Instant};

use runtime::Observer;
use storage::bridge::Client;

use crate::metrics::{Overview, StoreState};

/// How long a shard may take to answer before it counts as not up.
const PATIENCE: Duration = Duration::from_secs(1);

/// How long a client may take to send its request, and to read its answer.
const CLIENT_DURATION_MAX: Duration = Duration::from_secs(2);

/// Longest request head.
const HEAD_BYTES_MAX: usize = 8 * 1024;

/// Most header lines of a request.
const HEADERS_MAX: usize = 64;

/// The content type of the page: OpenMetrics, which Prometheus reads natively.
const PAGE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";
const LINE: &str = "text/plain; charset=utf-8";

/// How long to wait when no connection can be accepted, for example because descriptors have run out.
const RETRY: Duration = Duration::from_millis(100);

/// The operators' listener, bound but not serving yet.
pub struct Admin {
    listener: TcpListener,
}

/// An answer to a client.
struct Answer {
    status: &'static str,
    kind: &'static str,
    body: String,
}

impl Admin {
    pub fn bind(address: SocketAddr) -> Result<Self, String> {
        let listener = TcpListener::bind(address).map_err(|error| {
            format!(
                "cannot listen on {address} for operators: {error}; is another server there? Choose another address \
                 with --admin, or say --admin off"
            )
        })?;
        Ok(Self { listener })
    }

    pub fn address(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }

    /// Starts to serve requests, on a thread of its own.
    pub fn serve(self, observer: Observer, store: Client) -> io::Result<()> {
        let serving = move || {
            let mut overview = Overview::default();
            // Operators look when descriptors have run out, so one is kept back for them.
            let mut spare = None;
            loop {
                if spare.is_none() {
                    spare = self.listener.try_clone().ok();
                }
                let accepted = self.listener.accept().or_else(|error| match spare.take() {
                    Some(kept) => {
                        drop(kept);
                        self.listener.accept()
                    }
                    None => Err(error),
                });
                match accepted {
                    // Errors of one client's connection concern only that client.
                    Ok((stream, _)) => drop(attend(stream, &mut || page(&mut overview, &observer, &store))),
                    Err(_) => std::thread::sleep(RETRY),
                }
            }
        };
        std::thread::Builder::new().name("admin".to_owned()).spawn(serving).map(drop)
    }
}

fn page(overview: &mut Overview, observer: &Observer, store: &Client) -> Answer {
    overview.take_in(observer.ask(PATIENCE));
    overview.store = StoreState { ready: store.unready().is_none(), disk: store.disk_room() };
    match overview.text() {
        Ok(body) => Answer { status: "200 OK", kind: PAGE, body },
        Err(error) => said("500 Internal Server Error", &format!("the numbers cannot be written: {error}\n")),
    }
}

fn said(status: &'static str, line: &str) -> Answer {
    Answer { status, kind: LINE, body: line.to_owned() }
}

/// Serves one connection.
fn attend(mut stream: TcpStream, page: &mut dyn FnMut() -> Answer) -> io::Result<()> {
    let answer = match read_head(&mut stream)? {
        Some(head) => answer(&head, page),
        None => return Ok(()),
    };
    let Answer { status, kind, body } = answer;
    let head = format!(
        "HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nContent-Length: {}\r\nCache-Control: no-store\r\n\
         Connection: close\r\n\r\n",
        body.len()
    );
    stream.set_write_timeout(Some(CLIENT_DURATION_MAX))?;
    stream.write_all(&[head.as_bytes(), body.as_bytes()].concat())?;
    stream.shutdown(std::net::Shutdown::Write)
}

/// Reads up to the head's end or its bound. Returns `None` when the client has gone or took too long.
fn read_head(stream: &mut TcpStream) -> io::Result<Option<Vec<u8>>> {
    let deadline = Instant::now() + CLIENT_DURATION_MAX;
    let (mut head, mut buffer) = (Vec::new(), [0; 1024]);
    while !head.windows(4).any(|end| end == b"\r\n\r\n") && head.len() < HEAD_BYTES_MAX {
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Ok(None);
        }
        stream.set_read_timeout(Some(left))?;
        match stream.read(&mut buffer)? {
            0 => return Ok(None),
            read => head.extend_from_slice(&buffer[..read]),
        }
    }
    Ok(Some(head))
}

fn answer(head: &[u8], page: &mut dyn FnMut() -> Answer) -> Answer {
    let mut headers = [httparse::EMPTY_HEADER; HEADERS_MAX];
    let mut request = httparse::Request::new(&mut headers);
    if !matches!(request.parse(head), Ok(httparse::Status::Complete(_))) {
        return said("400 Bad Request", "this is no HTTP request, or its head is too long\n");
    }
    let path = request.path.unwrap_or_default().split('?').next().unwrap_or_default();
    match (request.method.unwrap_or_default(), path) {
        ("GET", "/metrics") => page(),
        (_, "/metrics") => said("405 Method Not Allowed", "only GET is answered here\n"),
        _ => said("404 Not Found", "the numbers are at /metrics\n"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_get_metrics_and_explains_the_rest() {
        let check = |head: &str, expected: &str| {
            let answer = answer(head.as_bytes(), &mut || said("200 OK", "the page"));
            assert_eq!(answer.status, expected, "{head:?}");
        };
        check("GET /metrics HTTP/1.1\r\n\r\n", "200 OK");
        check("GET /metrics?x=1 HTTP/1.0\r\nAccept: */*\r\n\r\n", "200 OK");
        check("POST /metrics HTTP/1.1\r\n\r\n", "405 Method Not Allowed");
        check("GET / HTTP/1.1\r\n\r\n", "404 Not Found");
        check("\u{1}\u{2}\r\n\r\n", "400 Bad Request");
        check(&format!("GET /metrics HTTP/1.1\r\nX: {}", "x".repeat(HEAD_BYTES_MAX)), "400 Bad Request");
    }
}
