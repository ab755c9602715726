//! `stentor healthcheck`: asks a server on this machine whether it is ready, for containers and supervisors that have no
//! program of their own to ask with.

use std::net::SocketAddr;

use crate::listen_address::Place;
use crate::local_http::{self, reachable};
use crate::options::Options;

/// Asks the server with these options: on its first address without TLS, or else on the address for operators. That one
/// comes first if proxies introduce clients, because this program may count as a proxy. Returns what the server says, or
/// why it is not ready.
pub fn ask(options: &Options) -> Result<String, String> {
    if options.trusted_proxies.introduce_clients() {
        let advice = "with --proxy-protocol the server is asked on its admin address, and --admin is off";
        return options.admin.map_or_else(|| Err(advice.into()), ask_at);
    }
    let plain = options.listen.iter().find_map(|address| match &address.place {
        Place::Tcp { host, port } if !address.secured => host.addresses(*port).ok()?.into_iter().next(),
        _ => None,
    });
    match plain.or(options.admin) {
        Some(address) => ask_at(address),
        None => {
            Err("each --listen has TLS or is no address of a network, and --admin is off: there is nothing to ask"
                .into())
        }
    }
}

fn ask_at(listen: SocketAddr) -> Result<String, String> {
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
        let (asked, request) = played("HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nready\n", ask_at);
        assert_eq!(asked, Ok("ready".into()));
        assert!(request.starts_with("GET /readyz HTTP/1.1\r\n"), "{request}");
        let (refused, _) = played("HTTP/1.1 503 Service Unavailable\r\n\r\nthe disk is full\n", ask_at);
        let refused = refused.unwrap_err();
        assert!(refused.ends_with("is not ready (503): the disk is full"), "{refused}");
    }
}
