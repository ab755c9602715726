//! A client with the libraries of Nakama's Java client, as phones have it: the API in gRPC, and the socket over HTTP.

use std::net::SocketAddr;
use std::path::Path;
use std::process::{Command, Stdio};

use tests::harness::{Launch, ProxyKind, ProxyLaunch, data_dir, make_certificate, run_to_the_end};

/// Runs the client. With a certificate, everything is over TLS.
fn run(grpc: SocketAddr, http: SocketAddr, certificate: Option<&Path>) {
    let client = Path::new(env!("CARGO_MANIFEST_DIR")).join("java/target");
    assert!(
        client.join("dependency").is_dir(),
        "the client is not built: run `mvn compile dependency:copy-dependencies` in tests/java (`./check` does it for you)"
    );
    let classes = format!("{}:{}/*", client.join("classes").display(), client.join("dependency").display());
    let mut command = Command::new("java");
    command.args(["-Xmx256m", "-cp", &classes, "stentor.PhoneClient", "127.0.0.1"]);
    command.args([grpc.port(), http.port()].map(|port| port.to_string()));
    command.args(certificate).stdin(Stdio::null());
    let said = run_to_the_end(command);
    assert!(said.contains("the phone client is content"), "{said}");
}

#[test]
fn a_phone_signs_in_and_chats() {
    let data = data_dir();
    let server = Launch::on(data.path()).start();
    run(server.grpc_address(), server.address(), None);
}

#[test]
fn a_phone_signs_in_and_chats_over_tls() {
    let data = data_dir();
    let (certificate, key) = make_certificate(data.path(), "");
    let launch = Launch::on(&data.path().join("data")).listen_unsaid().flag("--listen", "tls:127.0.0.1:0");
    let launch = launch.flag("--tls-cert", certificate.display()).flag("--tls-key", key.display());
    let server = launch.start();
    run(server.grpc_address(), server.address(), Some(&certificate));
}

#[test]
fn a_phone_finds_everything_at_one_port_of_a_proxy() {
    let data = data_dir();
    let server = Launch::on(data.path()).flag("--trusted-proxies", "127.0.0.1").start();
    let proxy = ProxyLaunch::before(server.address(), ProxyKind::Nginx).grpc(server.grpc_address()).start();
    run(proxy.secure_address(), proxy.secure_address(), Some(&proxy.certificate()));
}
