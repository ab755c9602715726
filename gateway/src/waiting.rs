//! Answers clients before the store does. At that time there are no shards, but the port is open: each client is told
//! to try again.

use std::io;
use std::os::fd::OwnedFd;
use std::time::Duration;

use hyper::header::{HeaderValue, RETRY_AFTER};

use crate::blocking_http::BlockingServer;
use crate::http::answer::{self, Answer};
use crate::http::error::{Code, Refusal};

/// How long a client may take to send its request, and to read its answer.
const CLIENT_DURATION_MAX: Duration = Duration::from_millis(250);

/// Refuses every request on these listeners, which the caller still owns, until the server is closed.
pub fn refuse_all(listeners: &[OwnedFd]) -> io::Result<BlockingServer> {
    let listeners = listeners.iter().map(OwnedFd::try_clone).collect::<io::Result<_>>()?;
    BlockingServer::start("waiting", listeners, CLIENT_DURATION_MAX, |_| refusal())
}

fn refusal() -> Answer {
    let mut answer = answer::refused(&Refusal::new(Code::Unavailable, "the store does not answer yet"));
    answer.headers_mut().insert(RETRY_AFTER, HeaderValue::from_static("1"));
    answer
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::net::TcpStream;

    use super::*;
    use crate::listeners::listeners;

    #[test]
    fn whoever_comes_too_early_is_told_so() {
        let (listening, address) = listeners("127.0.0.1:0".parse().unwrap(), 2).unwrap();
        let server = refuse_all(&listening).unwrap();
        for _ in 0..4 {
            let mut client = TcpStream::connect(address).unwrap();
            client.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
            client.write_all(b"GET /healthcheck HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
            let mut answer = String::new();
            client.read_to_string(&mut answer).unwrap();
            assert!(answer.starts_with("HTTP/1.1 503 "), "{answer}");
            assert!(answer.contains("retry-after: 1\r\n"), "{answer}");
            let body = answer.split("\r\n\r\n").nth(1).unwrap();
            assert!(answer.contains(&format!("content-length: {}\r\n", body.len())), "{answer}");
            assert!(body.contains("\"code\":14"), "{body}");
        }
        server.close();
        assert_eq!(listening.len(), 2);
    }
}
