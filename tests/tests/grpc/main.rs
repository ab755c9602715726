//! The API in gRPC, spoken by clients that others wrote, and by peers that break its rules.

mod attacks;
mod listening;
mod peer;
mod phone;
mod python;
mod random;

use tests::harness::{make_certificate, run_node};

#[test]
fn every_method_answers_as_rest_does() {
    run_node("grpc.mjs", &[]);
}

#[test]
fn every_method_answers_as_rest_does_over_tls() {
    let directory = tests::harness::data_dir();
    make_certificate(directory.path(), "");
    run_node("grpc.mjs", &[("STENTOR_TEST_TLS", directory.path().to_str().expect("a path of text"))]);
}
