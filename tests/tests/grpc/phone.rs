//! A client with the libraries of Nakama's Java client, as phones have it: the API in gRPC, and the socket over HTTP.

use std::path::Path;
use std::process::{Command, Stdio};

use tests::harness::{Launch, data_dir, make_certificate, run_to_the_end};

/// Runs the client against a server with these options. With a certificate, everything is over TLS.
fn run(launch: Launch, certificate: Option<&Path>) {
    let server = launch.start();
    let client = Path::new(env!("CARGO_MANIFEST_DIR")).join("java/target");
    assert!(
        client.join("dependency").is_dir(),
        "the client is not built: run `mvn compile dependency:copy-dependencies` in tests/java (`./check` does it for you)"
    );
    let classes = format!("{}:{}/*", client.join("classes").display(), client.join("dependency").display());
    let mut command = Command::new("java");
    command.args(["-Xmx256m", "-cp", &classes, "stentor.PhoneClient", "127.0.0.1"]);
    command.args([server.grpc_address().port(), server.address().port()].map(|port| port.to_string()));
    command.args(certificate).stdin(Stdio::null());
    let said = run_to_the_end(command);
    assert!(said.contains("the phone client is content"), "{said}");
}

#[test]
fn a_phone_signs_in_and_chats() {
    let data = data_dir();
    run(Launch::on(data.path()), None);
}

#[test]
fn a_phone_signs_in_and_chats_over_tls() {
    let data = data_dir();
    let (certificate, key) = make_certificate(data.path(), "");
    let launch = Launch::on(&data.path().join("data")).listen_unsaid().flag("--listen", "tls:127.0.0.1:0");
    let launch = launch.flag("--tls-cert", certificate.display()).flag("--tls-key", key.display());
    run(launch, Some(&certificate));
}
