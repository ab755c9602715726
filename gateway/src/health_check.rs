//! `stentor healthcheck`: asks a server on this machine whether it is ready, for containers and supervisors that have no
//! program of their own to ask with.

use std::io::{self, Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream};
use std::time::Duration;

use httparse::{Response, Status};

/// How long the server may take to accept the connection, and to answer.
const PATIENCE: Duration = Duration::from_secs(3);

/// Most bytes of an answer that are read. A reason is one line.
const ANSWER_BYTES_MAX: u64 = 64 * 1024;

/// More headers than the answer has.
const HEADERS_MAX: usize = 32;

/// Asks the server that listens on this address. Returns what it says, or why it is not ready.
pub fn ask(listen: SocketAddr) -> Result<String, String> {
    let address = reachable(listen);
    let answer = exchange(address).map_err(|error| format!("{address} does not answer: {error}"))?;
    let mut headers = [httparse::EMPTY_HEADER; HEADERS_MAX];
    let mut head = Response::new(&mut headers);
    let Ok(Status::Complete(length)) = head.parse(&answer) else {
        return Err(format!("{address} does not answer in HTTP"));
    };
    let body = String::from_utf8_lossy(&answer[length..]).trim().to_owned();
    match head.code {
        Some(200) => Ok(body),
        code => Err(format!("{address} is not ready ({}): {body}", code.unwrap_or_default())),
    }
}

fn exchange(address: SocketAddr) -> io::Result<Vec<u8>> {
    let mut stream = TcpStream::connect_timeout(&address, PATIENCE)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    stream.write_all(b"GET /readyz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")?;
    let mut answer = Vec::new();
    stream.take(ANSWER_BYTES_MAX).read_to_end(&mut answer)?;
    Ok(answer)
}

/// The address by which this machine reaches a server that listens on `listen`.
fn reachable(listen: SocketAddr) -> SocketAddr {
    let host = match listen.ip() {
        IpAddr::V4(Ipv4Addr::UNSPECIFIED) => IpAddr::V4(Ipv4Addr::LOCALHOST),
        IpAddr::V6(Ipv6Addr::UNSPECIFIED) => IpAddr::V6(Ipv6Addr::LOCALHOST),
        host => host,
    };
    SocketAddr::new(host, listen.port())
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;
    use std::thread;

    use super::*;

    /// What is made of this answer of a server.
    fn asked(answer: &'static str) -> Result<String, String> {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let server = thread::spawn(move || {
            let (mut client, _) = listener.accept().unwrap();
            let mut request = [0; 256];
            let _ = client.read(&mut request).unwrap();
            client.write_all(answer.as_bytes()).unwrap();
        });
        let result = ask(address);
        server.join().unwrap();
        result
    }

    #[test]
    fn the_status_decides_and_the_body_says_why() {
        assert_eq!(asked("HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nready\n"), Ok("ready".into()));
        let refused = asked("HTTP/1.1 503 Service Unavailable\r\n\r\nthe disk is full\n").unwrap_err();
        assert!(refused.ends_with("is not ready (503): the disk is full"), "{refused}");
        assert!(asked("SSH-2.0-OpenSSH\r\n").unwrap_err().ends_with("does not answer in HTTP"));
        assert!(asked("").unwrap_err().ends_with("does not answer in HTTP"));
    }

    #[test]
    fn a_server_on_all_addresses_is_asked_on_loopback() {
        for (listen, expected) in [("0.0.0.0:7", "127.0.0.1:7"), ("[::]:7", "[::1]:7"), ("10.0.0.1:7", "10.0.0.1:7")] {
            assert_eq!(reachable(listen.parse().unwrap()).to_string(), expected, "{listen}");
        }
    }
}
