//! The server behind proxies, with the files in `deploy/`: people sign in, open sockets and chat as they do
//! without a proxy, although a socket is opened on a connection that has carried other requests before.

mod openings;
mod paths;
mod stage;

use openings::ClientConnection;
use stage::Stage;
use tests::harness::ProxyKind;

/// Opens sockets on connections of their own, then on connections that have carried requests, and gives how many of each
/// the proxy sent over connections to the server that it had.
fn open_both_ways(stage: &Stage) -> [usize; 2] {
    stage.fill_pool();
    [ClientConnection::Fresh, ClientConnection::Kept].map(|connection| openings::open_and_chat(stage, connection))
}

#[test]
fn nginx_with_a_connection_a_request() {
    let stage = Stage::behind(ProxyKind::Nginx, &[("    '' '';", "    '' close;")]);
    assert_eq!(open_both_ways(&stage), [0; 2]);
    paths::check(&stage);
}
