//! `stentor healthcheck`: asks a server on this machine whether it is ready, for containers and supervisors that have no
//! program of their own to ask with.

use std::net::SocketAddr;

use crate::listen_address::Place;
use crate::local_http::{self, LocalAnswer, reachable};
use crate::options::Options;

/// Asks the server with these options: on its first address without TLS, or else on the address for operators. If that
/// address stands for several, such as those of a name, they are asked in turn until one answers. The one for operators
/// comes first if proxies introduce clients, because this program may count as a proxy. Returns what the server says, or
/// why it is not ready.
pub fn ask(options: &Options) -> Result<String, String> {
    if options.trusted_proxies.introduce_clients() {
        let advice = "with --proxy-protocol the server is asked on its admin address, and --admin is off";
        return options.admin.map_or_else(|| Err(advice.into()), |admin| ask_in_turn(&[admin]));
    }
    let plain = options.listen.iter().find_map(|address| match &address.place {
        Place::Tcp { host, port } if !address.secured => {
            host.addresses(*port).ok().filter(|addresses| !addresses.is_empty())
        }
        _ => None,
    });
    match plain.or(options.admin.map(|admin| vec![admin])) {
        Some(addresses) => ask_in_turn(&addresses),
        None => {
            Err("each --listen has TLS or is no address of a network, and --admin is off: there is nothing to ask"
                .into())
        }
    }
}

/// What the first of these addresses says that answers. A machine without IPv6, for one, answers on the others only.
fn ask_in_turn(addresses: &[SocketAddr]) -> Result<String, String> {
    let mut silent = Vec::new();
    for listen in addresses {
        match local_http::ask(*listen, "GET", "/readyz", None) {
            Ok(LocalAnswer { status: 200, body }) => return Ok(body),
            Ok(LocalAnswer { status, body }) => {
                return Err(format!("{} is not ready ({status}): {body}", reachable(*listen)));
            }
            Err(error) => silent.push(error),
        }
    }
    Err(silent.join("; "))
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;
    use crate::local_http::tests::played;

    #[test]
    fn the_status_decides_and_the_body_says_why() {
        let ask_at = |address| ask_in_turn(&[address]);
        let (asked, request) = played("HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nready\n", ask_at);
        assert_eq!(asked, Ok("ready".into()));
        assert!(request.starts_with("GET /readyz HTTP/1.1\r\n"), "{request}");
        let (refused, _) = played("HTTP/1.1 503 Service Unavailable\r\n\r\nthe disk is full\n", ask_at);
        let refused = refused.unwrap_err();
        assert!(refused.ends_with("is not ready (503): the disk is full"), "{refused}");
    }

    #[test]
    fn an_address_that_does_not_answer_is_not_the_last() {
        // A port that was free a moment ago.
        let silent = TcpListener::bind("127.0.0.1:0").and_then(|free| free.local_addr()).unwrap();
        let ready = "HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nready\n";
        let (asked, _) = played(ready, |address| ask_in_turn(&[silent, address]));
        assert_eq!(asked, Ok("ready".into()));
        let (refused, _) = played("HTTP/1.1 503 Nothing\r\n\r\nfull\n", |address| ask_in_turn(&[address, silent]));
        assert!(refused.unwrap_err().ends_with("is not ready (503): full"), "the first that answers decides");
        let none = ask_in_turn(&[silent, silent]).unwrap_err();
        assert_eq!(none.matches("does not answer").count(), 2, "{none}");
    }
}
