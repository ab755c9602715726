//! One request on a connection of its own, for the few that are not measured: signing in, and reading metrics. It blocks,
//! so that its callers need no epoll set; `asker` is for measured requests and never blocks.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use crate::asker::request;

const ANSWER_TIME_MAX: Duration = Duration::from_secs(10);
const ANSWER_BYTES_MAX: u64 = 1 << 20;

/// Sends a request with this line, these further headers (each with its line end) and this body. Returns the body of
/// the answer. Any status but 200 is a failure.
pub fn ask(server: SocketAddr, line: &str, headers: &str, body: &str) -> io::Result<String> {
    let request = request(line, &format!("Connection: close\r\n{headers}"), body.as_bytes());
    let mut socket = TcpStream::connect(server)?;
    socket.set_read_timeout(Some(ANSWER_TIME_MAX))?;
    socket.write_all(&request)?;
    let mut answer = String::new();
    socket.take(ANSWER_BYTES_MAX).read_to_string(&mut answer)?;
    match answer.split_once("\r\n\r\n") {
        Some((head, body)) if head.starts_with("HTTP/1.1 200") => Ok(body.to_owned()),
        _ => Err(io::Error::other(format!("{line} was answered with: {answer}"))),
    }
}
