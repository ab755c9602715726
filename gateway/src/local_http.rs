//! One request of HTTP to a server that an operator has named, with bounds on time and size, for the commands that ask a
//! running server.

use std::io::{self, Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream};
use std::time::Duration;

use httparse::{Response, Status};

/// How long the server may take to accept the connection, and to answer.
const PATIENCE: Duration = Duration::from_secs(3);

/// Most bytes of an answer that are read: more than a page of 1,000 channels has, or the sessions of a user.
const ANSWER_BYTES_MAX: u64 = 16 << 20;

/// More headers than the answer has.
const HEADERS_MAX: usize = 32;

/// An answer: its status and its body as text, without white space at the ends.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct LocalAnswer {
    pub status: u16,
    pub body: String,
}

/// Sends a request without a body to the server that listens on this address. `token` is for `Authorization`. Fails with a
/// line for the operator if there is no answer, or none in HTTP.
pub(crate) fn ask(listen: SocketAddr, method: &str, target: &str, token: Option<&str>) -> Result<LocalAnswer, String> {
    let address = reachable(listen);
    let authorization = token.map_or_else(String::new, |token| format!("Authorization: Bearer {token}\r\n"));
    let length = if method == "GET" { "" } else { "Content-Length: 0\r\n" };
    let request =
        format!("{method} {target} HTTP/1.1\r\nHost: {address}\r\n{authorization}{length}Connection: close\r\n\r\n");
    let answer =
        exchange(address, request.as_bytes()).map_err(|error| format!("{address} does not answer: {error}"))?;
    let mut headers = [httparse::EMPTY_HEADER; HEADERS_MAX];
    let mut head = Response::new(&mut headers);
    let Ok(Status::Complete(length)) = head.parse(&answer) else {
        return Err(format!("{address} does not answer in HTTP"));
    };
    let body = &answer[length..];
    let promised = head.headers.iter().find(|header| header.name.eq_ignore_ascii_case("content-length"));
    let promised = promised.and_then(|header| str::from_utf8(header.value).ok()?.trim().parse::<usize>().ok());
    if promised.is_some_and(|promised| body.len() < promised) || answer.len() as u64 >= ANSWER_BYTES_MAX {
        return Err(format!("the answer of {address} did not come whole: ask for less at a time"));
    }
    let body = String::from_utf8_lossy(body).trim().to_owned();
    Ok(LocalAnswer { status: head.code.unwrap_or_default(), body })
}

fn exchange(address: SocketAddr, request: &[u8]) -> io::Result<Vec<u8>> {
    let mut stream = TcpStream::connect_timeout(&address, PATIENCE)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    stream.write_all(request)?;
    let mut answer = Vec::new();
    stream.take(ANSWER_BYTES_MAX).read_to_end(&mut answer)?;
    Ok(answer)
}

/// The address by which this machine reaches a server that listens on `listen`.
pub(crate) fn reachable(listen: SocketAddr) -> SocketAddr {
    let host = match listen.ip() {
        IpAddr::V4(Ipv4Addr::UNSPECIFIED) => IpAddr::V4(Ipv4Addr::LOCALHOST),
        IpAddr::V6(Ipv6Addr::UNSPECIFIED) => IpAddr::V6(Ipv6Addr::LOCALHOST),
        host => host,
    };
    SocketAddr::new(host, listen.port())
}

#[cfg(test)]
pub(crate) mod tests {
    use std::net::TcpListener;
    use std::thread;

    use super::*;

    /// What `ask` returns when the server at its address gives this answer, and the request that the server has read.
    pub(crate) fn played<T>(answer: &'static str, ask: impl FnOnce(SocketAddr) -> T) -> (T, String) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let server = thread::spawn(move || {
            let (mut client, _) = listener.accept().unwrap();
            let mut request = [0; 1024];
            let read = client.read(&mut request).unwrap();
            client.write_all(answer.as_bytes()).unwrap();
            String::from_utf8_lossy(&request[..read]).into_owned()
        });
        let result = ask(address);
        (result, server.join().unwrap())
    }

    #[test]
    fn status_and_body_are_read_and_the_token_is_sent() {
        let (answer, request) = played("HTTP/1.1 202 Accepted\r\nContent-Length: 3\r\n\r\n{}\n", |address| {
            ask(address, "POST", "/v1/x?a=b", Some("the-token"))
        });
        assert_eq!(answer, Ok(LocalAnswer { status: 202, body: "{}".into() }));
        assert!(request.starts_with("POST /v1/x?a=b HTTP/1.1\r\nHost: 127.0.0.1:"), "{request}");
        assert!(request.contains("\r\nAuthorization: Bearer the-token\r\nContent-Length: 0\r\n"), "{request}");
        let (answer, request) = played("SSH-2.0-OpenSSH\r\n", |address| ask(address, "GET", "/", None));
        assert!(answer.unwrap_err().ends_with("does not answer in HTTP"));
        assert!(!request.contains("Authorization") && !request.contains("Content-Length"), "{request}");
        let (answer, _) =
            played("HTTP/1.1 200 OK\r\nContent-Length: 30\r\n\r\n[1, 2", |address| ask(address, "GET", "/", None));
        assert!(answer.unwrap_err().contains("did not come whole"));
        let (answer, _) = played("", |address| ask(address, "GET", "/", None));
        assert!(answer.unwrap_err().ends_with("does not answer in HTTP"));
    }

    #[test]
    fn a_server_on_all_addresses_is_asked_on_loopback() {
        for (listen, expected) in [("0.0.0.0:7", "127.0.0.1:7"), ("[::]:7", "[::1]:7"), ("10.0.0.1:7", "10.0.0.1:7")] {
            assert_eq!(reachable(listen.parse().unwrap()).to_string(), expected, "{listen}");
        }
    }
}
