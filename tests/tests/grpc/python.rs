//! A client with the library of gRPC in C, on which many languages stand, and a port of gRPC that alone has TLS.

use std::net::SocketAddr;
use std::path::Path;
use std::process::{Command, Stdio};

use tests::harness::{Launch, data_dir, make_certificate, run_to_the_end};

use super::peer::{Peer, SETTINGS};

/// Runs the client. With a certificate, its channel has TLS.
fn run(grpc: SocketAddr, certificate: Option<&Path>) {
    let client = Path::new(env!("CARGO_MANIFEST_DIR")).join("python");
    let installed = client.join("target");
    assert!(
        installed.join("grpc").is_dir(),
        "grpcio is not installed: `./check` does it, with what tests/python/requirements.txt names"
    );
    let mut command = Command::new("python3");
    command.arg(client.join("client.py")).arg(grpc.to_string()).args(certificate);
    command.env("PYTHONPATH", installed).env("PYTHONDONTWRITEBYTECODE", "1").stdin(Stdio::null());
    let said = run_to_the_end(command);
    assert!(said.contains("the client in Python is content"), "{said}");
}

#[test]
fn another_library_of_grpc_is_content() {
    let data = data_dir();
    let server = Launch::on(data.path()).start();
    run(server.grpc_address(), None);
}

#[test]
fn grpc_alone_may_have_tls() {
    let data = data_dir();
    let (certificate, key) = make_certificate(data.path(), "");
    let launch = Launch::on(&data.path().join("data")).flag("--grpc", "tls:127.0.0.1:0");
    let server = launch.flag("--tls-cert", certificate.display()).flag("--tls-key", key.display()).start();
    run(server.grpc_address(), Some(&certificate));
    server.assert_works("calls over TLS: HTTP and sockets have none");
    let mut plain = Peer::connect(server.grpc_address());
    assert!(plain.rest().iter().all(|frame| frame.kind != SETTINGS), "this port speaks no HTTP/2 without TLS");
}
