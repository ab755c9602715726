//! Third-party clients, which decide themselves on which connection they open a socket.

use tests::harness::{Launch, ProxyKind, data_dir, run_node, run_node_22};

use crate::stage::Stage;

#[test]
fn node_opens_sockets_on_its_own_pool() {
    let data = data_dir();
    let server = Launch::on(data.path()).start();
    run_node_22("pooled.mjs", &[("STENTOR_TEST_ORIGIN", &format!("http://{}", server.address()))]);
}

#[test]
fn node_behind_nginx() {
    let stage = Stage::behind(ProxyKind::Nginx, &[]);
    run_node_22("pooled.mjs", &[("STENTOR_TEST_ORIGIN", &format!("http://{}", stage.proxy.address()))]);
}

#[test]
fn node_behind_each_proxy_encrypted() {
    for kind in [ProxyKind::Nginx, ProxyKind::Haproxy, ProxyKind::Apache] {
        let stage = Stage::behind(kind, &[]);
        let (origin, certificate) = (secure_origin(&stage), stage.proxy.certificate());
        let certificate = certificate.to_str().expect("a path of ours");
        run_node_22("pooled.mjs", &[("STENTOR_TEST_ORIGIN", &origin), ("NODE_EXTRA_CA_CERTS", certificate)]);
    }
}

#[test]
fn sockets_over_http_2() {
    for reuse in ["http-reuse safe", "http-reuse always"] {
        let stage = Stage::behind(ProxyKind::Haproxy, &[("http-reuse safe", reuse)]);
        let (origin, certificate) = (secure_origin(&stage), stage.proxy.certificate());
        let certificate = certificate.to_str().expect("a path of ours");
        run_node("http2.mjs", &[("STENTOR_TEST_ORIGIN", &origin), ("NODE_EXTRA_CA_CERTS", certificate)]);
    }
}

#[test]
fn the_page_behind_each_proxy() {
    for (kind, protocol) in [(ProxyKind::Haproxy, "h2"), (ProxyKind::Nginx, "h2"), (ProxyKind::Apache, "http/1.1")] {
        let stage = Stage::behind(kind, &[]);
        let environment = [("STENTOR_TEST_ORIGIN", &*secure_origin(&stage)), ("STENTOR_TEST_PROTOCOL", protocol)];
        run_node("proxied_page.mjs", &environment);
    }
}

fn secure_origin(stage: &Stage) -> String {
    format!("https://{}", stage.proxy.secure_address())
}
