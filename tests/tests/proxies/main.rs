//! The server behind nginx, HAProxy and Apache, with the files in `deploy/`. Users sign in, open sockets and chat like
//! without a proxy, although a socket is opened on a connection that has carried other requests before. Each client has
//! the share of its own address, if the server trusts the proxy.

mod addresses;
mod clients;
mod openings;
mod paths;
mod stage;

use openings::{ClientConnection, OPENINGS};
use stage::Stage;
use tests::harness::ProxyKind;

/// Opens sockets on new connections, and then on connections that have carried requests. Returns, for each, how many of
/// the openings the proxy sent over existing connections to the server.
fn open_both_ways(stage: &Stage) -> [usize; 2] {
    stage.fill_pool();
    [ClientConnection::Fresh, ClientConnection::Kept].map(|connection| openings::open_and_chat(stage, connection))
}

#[test]
fn nginx_opens_sockets_on_pooled_connections() {
    let stage = Stage::behind(ProxyKind::Nginx, &[]);
    assert_eq!(open_both_ways(&stage), [OPENINGS; 2]);
    paths::check(&stage);
}

#[test]
fn nginx_with_a_connection_a_request() {
    let stage = Stage::behind(ProxyKind::Nginx, &[("    '' '';", "    '' close;")]);
    assert_eq!(open_both_ways(&stage), [0; 2]);
}

#[test]
fn haproxy_by_default() {
    let stage = Stage::behind(ProxyKind::Haproxy, &[]);
    let [fresh, kept] = open_both_ways(&stage);
    assert_eq!(fresh, 0, "HAProxy sends the first request of a connection over one of its own");
    assert_eq!(kept, OPENINGS);
    paths::check(&stage);
}

#[test]
fn haproxy_that_always_reuses() {
    let stage = Stage::behind(ProxyKind::Haproxy, &[("http-reuse safe", "http-reuse always")]);
    assert_eq!(open_both_ways(&stage), [OPENINGS; 2]);
}

#[test]
fn apache_opens_sockets_on_pooled_connections() {
    let stage = Stage::behind(ProxyKind::Apache, &[]);
    assert_eq!(open_both_ways(&stage), [OPENINGS; 2]);
    paths::check(&stage);
}
