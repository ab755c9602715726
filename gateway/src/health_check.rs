//! `stentor healthcheck`: asks a server on this machine whether it is ready, for containers and supervisors that have no
//! program of their own to ask with.

use std::net::SocketAddr;

use crate::local_http::{self, reachable};

/// Asks the server that listens on this address. Returns what it says, or why it is not ready.
pub fn ask(listen: SocketAddr) -> Result<String, String> {
    let answer = local_http::ask(listen, "GET", "/readyz", None)?;
    match answer.status {
        200 => Ok(answer.body),
        status => Err(format!("{} is not ready ({status}): {}", reachable(listen), answer.body)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::local_http::tests::played;

    #[test]
    fn the_status_decides_and_the_body_says_why() {
        let (asked, request) = played("HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nready\n", ask);
        assert_eq!(asked, Ok("ready".into()));
        assert!(request.starts_with("GET /readyz HTTP/1.1\r\n"), "{request}");
        let (refused, _) = played("HTTP/1.1 503 Service Unavailable\r\n\r\nthe disk is full\n", ask);
        let refused = refused.unwrap_err();
        assert!(refused.ends_with("is not ready (503): the disk is full"), "{refused}");
    }
}
